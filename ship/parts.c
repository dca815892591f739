/* SPDX-License-Identifier: Apache-2.0 */
/* An upload in parts. What parts there are already is asked of the store, and each
 * counts by its digest alone: so it does not matter who sent it, or when. */
#include <curl/curl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "ship/shipd.h"

#define ID_MAX 512
#define PAGES_MAX 64
#define LIST_MAX (3u << 20)

struct upload {
	struct sp_ship *s;
	struct sp_job *j;
	char id[ID_MAX * 3];		/* as it stands in a query */
	bool is_old;			/* begun before this try */
	char (*etag)[SP_S3_DIGEST_TEXT];	/* "": not there yet */
};

void
sp_parts_digest(const struct sp_digest *d, char out[static SP_S3_DIGEST_TEXT])
{
	uint8_t all[32];
	char text[SP_S3_DIGEST_TEXT];

	sp_sha256(sp_span_of(d->parts, 32 * d->n_parts), all);
	sp_sha256_text(all, text);
	snprintf(out, SP_S3_DIGEST_TEXT, "%.50s-%zu", text, d->n_parts);
}

static uint64_t
bytes_of(const struct sp_digest *d, size_t i)
{
	uint64_t left = d->size - (uint64_t)i * d->part;

	return left < d->part ? left : d->part;
}

static enum sp_err
ask(struct upload *u, struct sp_s3_ask *a, struct sp_s3_told *t)
{
	enum sp_err e = sp_s3_do(&u->s->s3, a, t);

	if (e != SP_OK)
		snprintf(u->j->text, sizeof(u->j->text), "%s", t->text);
	return e;
}

static bool
take_id(struct upload *u, const char *id)
{
	char *q = curl_easy_escape(u->s->s3.curl, id, 0);
	bool ok = q != NULL && q[0] != '\0' && strlen(q) < sizeof(u->id);

	if (ok)
		snprintf(u->id, sizeof(u->id), "%s", q);
	curl_free(q);
	return ok;
}

/* An upload of this key that was begun and not ended. A store that cannot list
 * them is no fault: then it begins anew. */
static void
find_old(struct upload *u)
{
	char query[600], id[ID_MAX], key[sizeof(u->j->key)];
	struct sp_s3_ask a = {.method = "GET", .fd = -1, .query = query};
	struct sp_s3_told t;
	struct sp_span rest, one;
	char *q = curl_easy_escape(u->s->s3.curl, u->j->key, 0);

	if (q == NULL)
		return;
	snprintf(query, sizeof(query), "prefix=%s&uploads=", q);
	curl_free(q);
	if (sp_s3_do(&u->s->s3, &a, &t) != SP_OK)
		return;
	rest = sp_buf_span(&u->s->s3.answer);
	while (sp_xml_next(&rest, "Upload", &one))
		if (sp_xml_text(one, "Key", key, sizeof(key)) &&
		    strcmp(key, u->j->key) == 0 &&
		    sp_xml_text(one, "UploadId", id, sizeof(id)) &&
		    take_id(u, id))
			u->is_old = true;
}

/* Is that part what we have? By the digest that the store gives of it. */
static void
take_part(struct upload *u, struct sp_span one)
{
	const struct sp_digest *d = &u->j->d;
	char number[16], size[24], sum[SP_S3_DIGEST_TEXT], etag[SP_S3_DIGEST_TEXT];
	char ours[SP_S3_DIGEST_TEXT], md5[35];
	uint64_t n, bytes;

	if (!sp_xml_text(one, "PartNumber", number, sizeof(number)) ||
	    !sp_xml_text(one, "Size", size, sizeof(size)) ||
	    !sp_xml_text(one, "ETag", etag, sizeof(etag)) ||
	    sp_u64_parse(sp_span_str(number), d->n_parts, &n) != SP_OK || n == 0 ||
	    sp_u64_parse(sp_span_str(size), UINT64_MAX, &bytes) != SP_OK ||
	    bytes != bytes_of(d, n - 1))
		return;
	sp_sha256_text(d->parts[n - 1], ours);
	md5[0] = '"';
	sp_hex(md5 + 1, d->md5[n - 1], 16);
	md5[33] = '"';
	md5[34] = '\0';
	if (sp_xml_text(one, "ChecksumSHA256", sum, sizeof(sum)) ?
	    strcmp(sum, ours) == 0 : strcmp(etag, md5) == 0 ||
	    (strncmp(etag, md5 + 1, 32) == 0 && etag[32] == '\0'))
		snprintf(u->etag[n - 1], SP_S3_DIGEST_TEXT, "%s", etag);
}

static enum sp_err
list_parts(struct upload *u)
{
	char query[ID_MAX * 3 + 64], next[16] = "0", more[8] = "";
	struct sp_s3_ask a = {.method = "GET", .key = u->j->key, .fd = -1,
	    .query = query};
	struct sp_s3_told t;

	for (unsigned page = 0; page < PAGES_MAX; page++) {
		struct sp_span rest, one;

		snprintf(query, sizeof(query), "part-number-marker=%s&uploadId=%s",
		    next, u->id);
		SP_TRY(ask(u, &a, &t));
		rest = sp_buf_span(&u->s->s3.answer);
		(void)sp_xml_text(rest, "IsTruncated", more, sizeof(more));
		if (!sp_xml_text(rest, "NextPartNumberMarker", next, sizeof(next)) ||
		    strspn(next, "0123456789") != strlen(next))
			more[0] = '\0';
		while (sp_xml_next(&rest, "Part", &one))
			take_part(u, one);
		if (strcmp(more, "true") != 0)
			return SP_OK;
	}
	return SP_OK;
}

static enum sp_err
begin(struct upload *u)
{
	char room[3][96], id[ID_MAX];
	const char *h[5] = {"x-amz-checksum-algorithm: SHA256"};
	uint8_t none[32];
	struct sp_s3_ask a = {.method = "POST", .key = u->j->key, .fd = -1,
	    .query = "uploads=", .headers = h, .sha256 = none};
	struct sp_s3_told t;

	sp_sha256((struct sp_span){0}, none);
	sp_job_lock_headers(u->s, room, h + 1);
	SP_TRY(ask(u, &a, &t));
	if (!sp_xml_text(sp_buf_span(&u->s->s3.answer), "UploadId", id,
	    sizeof(id)) || !take_id(u, id)) {
		snprintf(u->j->text, sizeof(u->j->text), "the store gave no upload");
		return SP_ERR_PROTO;
	}
	return SP_OK;
}

/* Best effort: what is left of it costs room at the store, nothing else. */
static void
abandon(struct upload *u)
{
	char query[ID_MAX * 3 + 16];
	struct sp_s3_ask a = {.method = "DELETE", .key = u->j->key, .fd = -1,
	    .query = query};
	struct sp_s3_told t;

	snprintf(query, sizeof(query), "uploadId=%s", u->id);
	if (sp_s3_do(&u->s->s3, &a, &t) != SP_OK)
		sp_log(SP_WARN, "upload_left", NULL, "why=\"%s\"", t.text);
}

static enum sp_err
send_part(struct upload *u, size_t i)
{
	const struct sp_digest *d = &u->j->d;
	char query[ID_MAX * 3 + 64], sum[SP_S3_DIGEST_TEXT], header[120];
	const char *h[2] = {header};
	struct sp_s3_ask a = {.method = "PUT", .key = u->j->key, .query = query,
	    .headers = h, .fd = u->j->fd, .offset = (uint64_t)i * d->part,
	    .bytes = bytes_of(d, i), .sha256 = d->parts[i]};
	struct sp_s3_told t;

	sp_sha256_text(d->parts[i], sum);
	snprintf(header, sizeof(header), "x-amz-checksum-sha256: %s", sum);
	snprintf(query, sizeof(query), "partNumber=%zu&uploadId=%s", i + 1, u->id);
	SP_TRY(ask(u, &a, &t));
	if (t.etag[0] == '\0' || strpbrk(t.etag, "<>&") != NULL) {
		snprintf(u->j->text, sizeof(u->j->text), "a part without an ETag");
		return SP_ERR_PROTO;
	}
	snprintf(u->etag[i], SP_S3_DIGEST_TEXT, "%s", t.etag);
	return SP_OK;
}

static enum sp_err
complete(struct upload *u)
{
	SP_BUF_AUTO xml = {.max = LIST_MAX};
	char query[ID_MAX * 3 + 16], sum[SP_S3_DIGEST_TEXT];
	uint8_t digest[32];
	struct sp_s3_ask a = {.method = "POST", .key = u->j->key, .fd = -1,
	    .query = query, .sha256 = digest};
	struct sp_s3_told t;

	SP_TRY(sp_buf_printf(&xml, "<CompleteMultipartUpload "
	    "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"));
	for (size_t i = 0; i < u->j->d.n_parts; i++) {
		sp_sha256_text(u->j->d.parts[i], sum);
		SP_TRY(sp_buf_printf(&xml, "<Part><ChecksumSHA256>%s"
		    "</ChecksumSHA256><ETag>%s</ETag><PartNumber>%zu</PartNumber>"
		    "</Part>", sum, u->etag[i], i + 1));
	}
	SP_TRY(sp_buf_printf(&xml, "</CompleteMultipartUpload>"));
	a.body = sp_buf_span(&xml);
	a.bytes = a.body.n;
	sp_sha256(a.body, digest);
	snprintf(query, sizeof(query), "uploadId=%s", u->id);
	SP_TRY(ask(u, &a, &t));
	/* The status came before the work was done: the body counts. */
	if (sp_xml_text(sp_buf_span(&u->s->s3.answer), "Code", t.code,
	    sizeof(t.code))) {
		snprintf(u->j->text, sizeof(u->j->text), "the parts were not joined: "
		    "%.60s", sp_vis_str(t.code));
		return SP_ERR_AGAIN;
	}
	return SP_OK;
}

static enum sp_err
run(struct upload *u)
{
	size_t there = 0;
	enum sp_err e;

	find_old(u);
	if (u->is_old && list_parts(u) != SP_OK)
		u->is_old = false;
	if (!u->is_old)
		SP_TRY(begin(u));
	for (size_t i = 0; i < u->j->d.n_parts; i++)
		there += u->etag[i][0] != '\0';
	sp_log(SP_INFO, "upload", NULL, "parts=%zu there=%zu", u->j->d.n_parts,
	    there);
	e = SP_OK;
	for (size_t i = 0; e == SP_OK && i < u->j->d.n_parts; i++)
		if (u->etag[i][0] == '\0')
			e = send_part(u, i);
	if (e == SP_OK)
		e = complete(u);
	/* Not to be gone on with: the next try begins anew. */
	if (e == SP_ERR_INVAL || e == SP_ERR_NOTFOUND || e == SP_ERR_PROTO)
		abandon(u);
	return e;
}

enum sp_err
sp_parts_send(struct sp_ship *s, struct sp_job *j)
{
	struct upload u = {.s = s, .j = j};
	enum sp_err e;

	u.etag = calloc(j->d.n_parts, sizeof(*u.etag));
	if (u.etag == NULL)
		return SP_ERR_NOMEM;
	e = run(&u);
	free(u.etag);
	return e;
}
