/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/text.h"
#include "ship/shipd.h"

#define VERSIONS_MAX 1000u
#define VERSION_MAX 1025	/* S3: an id has up to 1,024 bytes */

static enum sp_err
ask(struct sp_ship *s, struct sp_job *j, const struct sp_s3_ask *a,
    struct sp_s3_told *t)
{
	enum sp_err e = sp_s3_do(&s->s3, a, t);

	if (e != SP_OK)
		snprintf(j->text, sizeof(j->text), "%s", t->text);
	return e;
}

size_t
sp_job_lock_headers(const struct sp_ship *s, char room[static 3][96],
    const char **out)
{
	time_t until = time(NULL) + (time_t)s->lock.days * 86400;
	char day[32] = "";
	struct tm tm;
	size_t n = 0;

	if (s->lock.mode[0] != '\0' && gmtime_r(&until, &tm) != NULL &&
	    strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%SZ", &tm) > 0) {
		snprintf(room[n], 96, "x-amz-object-lock-mode: %s", s->lock.mode);
		out[n] = room[n];
		n++;
		snprintf(room[n], 96, "x-amz-object-lock-retain-until-date: %s", day);
		out[n] = room[n];
		n++;
	}
	if (s->lock.hold) {
		snprintf(room[n], 96, "x-amz-object-lock-legal-hold: ON");
		out[n] = room[n];
		n++;
	}
	out[n] = NULL;
	return n;
}

/* ------------------------------------------------------------------- comparing */

struct reading {
	struct sp_hash *h;
	uint64_t n, most;
	int to;			/* -1: only hashed */
};

static enum sp_err
take_piece(void *arg, struct sp_span piece)
{
	struct reading *r = arg;

	r->n += piece.n;
	if (r->n > r->most)
		return SP_ERR_TOOBIG;
	sp_hash_add(r->h, piece);
	while (r->to >= 0 && piece.n > 0) {
		ssize_t k = write(r->to, piece.p, piece.n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return SP_ERR_IO;
		piece = sp_span_of(piece.p + k, piece.n - (size_t)k);
	}
	return SP_OK;
}

static enum sp_err
read_back(struct sp_ship *s, struct sp_job *j, uint64_t most, int to,
    uint64_t *size, uint8_t sha256[static 32])
{
	struct reading r = {.h = sp_hash_new(), .most = most, .to = to};
	struct sp_s3_ask a = {.method = "GET", .key = j->key, .fd = -1,
	    .sink = take_piece, .sink_arg = &r};
	struct sp_s3_told t;
	enum sp_err e = ask(s, j, &a, &t);

	sp_hash_end(r.h, sha256);
	*size = r.n;
	return e;
}

/* Has the store these very bytes? By the SHA-256 that it has computed of them,
 * else (or where that differs) by reading them back. SP_ERR_NOTFOUND: it has
 * none; SP_ERR_CRYPTO: others. */
static enum sp_err
compare(struct sp_ship *s, struct sp_job *j)
{
	const char *h[] = {"x-amz-checksum-mode: ENABLED", NULL};
	struct sp_s3_ask a = {.method = "HEAD", .key = j->key, .fd = -1,
	    .headers = h};
	char whole[SP_S3_DIGEST_TEXT], parts[SP_S3_DIGEST_TEXT];
	struct sp_s3_told t;
	uint8_t sha256[32];
	uint64_t size;

	SP_TRY(ask(s, j, &a, &t));
	sp_sha256_text(j->d.sha256, whole);
	sp_parts_digest(&j->d, parts);
	if (t.length >= 0 && (uint64_t)t.length == j->d.size &&
	    strcmp(s->cfg.ship_compare, "digest") == 0 &&
	    (strcmp(t.checksum, whole) == 0 || strcmp(t.checksum, parts) == 0)) {
		j->how = SP_SHIP_BY_DIGEST;
		return SP_OK;
	}
	if (t.length < 0 || (uint64_t)t.length == j->d.size) {
		SP_TRY(read_back(s, j, j->d.size, -1, &size, sha256));
		if (size == j->d.size && memcmp(sha256, j->d.sha256, 32) == 0) {
			j->how = SP_SHIP_BY_READING;
			return SP_OK;
		}
	}
	j->is_other = true;
	snprintf(j->text, sizeof(j->text), "the store has other bytes than the "
	    "recording has");
	return SP_ERR_CRYPTO;
}

/* --------------------------------------------------------------------- the jobs */

static enum sp_err
send_whole(struct sp_ship *s, struct sp_job *j)
{
	char room[3][96], sum[SP_S3_DIGEST_TEXT], header[120];
	const char *h[6] = {header};
	struct sp_s3_ask a = {.method = "PUT", .key = j->key, .headers = h,
	    .fd = j->fd, .bytes = j->d.size, .sha256 = j->d.sha256};
	struct sp_s3_told t;

	sp_sha256_text(j->d.sha256, sum);
	snprintf(header, sizeof(header), "x-amz-checksum-sha256: %s", sum);
	sp_job_lock_headers(s, room, h + 1);
	return ask(s, j, &a, &t);
}

/* It may be there already: a try whose answer was lost, a restart. Bytes that are
 * others make way: the recording is what is on this disk. */
static enum sp_err
send_it(struct sp_ship *s, struct sp_job *j)
{
	enum sp_err e = compare(s, j);

	if (e != SP_ERR_NOTFOUND && (e != SP_ERR_CRYPTO || !j->is_other))
		return e;
	SP_TRY(j->d.n_parts > 1 ? sp_parts_send(s, j) : send_whole(s, j));
	return compare(s, j);
}

static enum sp_err
fetch(struct sp_ship *s, struct sp_job *j)
{
	static const uint8_t none[32];
	uint64_t size = 0, most = j->size > 0 ? j->size : UINT64_MAX;

	SP_TRY(read_back(s, j, most, j->fd, &size, j->d.sha256));
	j->d.size = size;
	if ((j->size > 0 && size != j->size) || (memcmp(j->sha256, none, 32) != 0 &&
	    memcmp(j->sha256, j->d.sha256, 32) != 0)) {
		snprintf(j->text, sizeof(j->text), "the store has other bytes than "
		    "those that were sent");
		return SP_ERR_CRYPTO;
	}
	j->how = SP_SHIP_BY_READING;
	return fsync(j->fd) == 0 ? SP_OK : SP_ERR_IO;
}

static enum sp_err
erase_one(struct sp_ship *s, struct sp_job *j, const char *version)
{
	char query[16 + 3 * VERSION_MAX];
	char *q = curl_easy_escape(s->s3.curl, version, 0);
	struct sp_s3_ask a = {.method = "DELETE", .key = j->key, .fd = -1};
	struct sp_s3_told t;
	enum sp_err e;

	if (q == NULL)
		return SP_ERR_NOMEM;
	if (version[0] != '\0' && strcmp(version, "null") != 0) {
		snprintf(query, sizeof(query), "versionId=%s", q);
		a.query = query;
	}
	curl_free(q);
	e = ask(s, j, &a, &t);
	return e == SP_ERR_NOTFOUND ? SP_OK : e;
}

/* One page of what there is of it: object versions and the marks of deletion that
 * stand above them. n: how many were removed. */
static enum sp_err
erase_versions(struct sp_ship *s, struct sp_job *j, unsigned *n)
{
	static const char *const tags[] = {"Version", "DeleteMarker"};
	char query[600], key[sizeof(j->key)], version[VERSION_MAX];
	struct sp_s3_ask a = {.method = "GET", .fd = -1, .query = query};
	struct sp_s3_told t;
	SP_BUF_AUTO all = {.max = SP_S3_ANSWER_MAX};
	struct sp_span rest, one;
	char *q = curl_easy_escape(s->s3.curl, j->key, 0);

	*n = 0;
	if (q == NULL)
		return SP_ERR_NOMEM;
	snprintf(query, sizeof(query), "prefix=%s&versions=", q);
	curl_free(q);
	SP_TRY(ask(s, j, &a, &t));
	rest = sp_buf_span(&s->s3.answer);
	SP_TRY(sp_buf_put(&all, rest.p, rest.n));
	for (size_t i = 0; i < 2; i++)
		for (rest = sp_buf_span(&all); sp_xml_next(&rest, tags[i], &one);) {
			if (!sp_xml_text(one, "Key", key, sizeof(key)) ||
			    strcmp(key, j->key) != 0)
				continue;
			if (!sp_xml_text(one, "VersionId", version,
			    sizeof(version))) {
				snprintf(j->text, sizeof(j->text), "the store has a "
				    "version of it without an id that can be read");
				return SP_ERR_PROTO;
			}
			SP_TRY(erase_one(s, j, version));
			(*n)++;
		}
	return SP_OK;
}

/* Gone is what neither stands under the key nor under an older version. */
static enum sp_err
erase(struct sp_ship *s, struct sp_job *j)
{
	struct sp_s3_ask a = {.method = "HEAD", .key = j->key, .fd = -1};
	struct sp_s3_told t;
	unsigned n = 1, all = 0;
	enum sp_err e = SP_OK;

	while (e == SP_OK && n > 0 && all < VERSIONS_MAX) {
		e = erase_versions(s, j, &n);
		all += n;
	}
	/* A store that knows no versions says that it does not. */
	if (e == SP_ERR_INVAL || e == SP_ERR_NOTFOUND ||
	    (e == SP_ERR_AGAIN && strstr(j->text, "501") != NULL))
		e = erase_one(s, j, "");
	if (e == SP_ERR_DENIED)
		snprintf(j->text, sizeof(j->text), "the store does not let it be "
		    "deleted: its object lock or its policy keeps it");
	SP_TRY(e);
	if (n > 0 && all >= VERSIONS_MAX) {
		snprintf(j->text, sizeof(j->text), "the store had %u versions of it, "
		    "and has more", all);
		return SP_ERR_AGAIN;
	}
	e = ask(s, j, &a, &t);
	if (e == SP_OK)
		snprintf(j->text, sizeof(j->text), "it still stands in the store");
	j->how = SP_SHIP_BY_ABSENCE;
	return e == SP_ERR_NOTFOUND ? SP_OK : e == SP_OK ? SP_ERR_EXISTS : e;
}

enum sp_err
sp_job_run(struct sp_ship *s, struct sp_job *j)
{
	enum sp_err e = SP_OK;

	if (j->what == SP_SHIP_SEND || j->what == SP_SHIP_DROP)
		e = sp_digest_file(j->fd, s->cfg.ship_part_mb << 20, &j->d,
		    sp_ship_goes_on, s);
	if (e == SP_ERR_IO)
		snprintf(j->text, sizeof(j->text), "the recording cannot be read");
	SP_TRY(e);
	switch (j->what) {
	case SP_SHIP_SEND:
		return send_it(s, j);
	case SP_SHIP_DROP:
		e = compare(s, j);
		if (e == SP_ERR_NOTFOUND)
			snprintf(j->text, sizeof(j->text), "the store does not have "
			    "it any more");
		return e;
	case SP_SHIP_FETCH:
		return fetch(s, j);
	case SP_SHIP_ERASE:
		return erase(s, j);
	}
	return SP_ERR_PROTO;
}

void
sp_job_fini(struct sp_job *j)
{
	sp_close_fds(&j->fd, 1);
	sp_digest_fini(&j->d);
	*j = (struct sp_job){.fd = -1};
}
