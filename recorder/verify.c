/* SPDX-License-Identifier: Apache-2.0 */
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/text.h"
#include "recorder/behind.h"
#include "recorder/find.h"
#include "recorder/read.h"

#define LOOKS 4	/* at a file that changes under one's eyes */

struct judge {
	struct sp_rec_file *f;
	const uint8_t *audit_key, *known;
	struct sp_rec_report *r;
	bool is_known_seen, is_ended;
	struct sp_rec_crypto crypto;
	struct sp_rec_behind behind;
	uint64_t unsigned_hashes;	/* chunks, since our last signature */
};

const char *
sp_rec_verdict_name(enum sp_rec_verdict v)
{
	switch (v) {
	case SP_REC_INTACT:
		return "intact";
	case SP_REC_CUT:
		return "cut";
	case SP_REC_FORGED:
		return "forged";
	case SP_REC_MISSING:
		return "missing";
	case SP_REC_RECOVERED:
		return "recovered";
	case SP_REC_OPEN:
		return "open";
	case SP_REC_UNKNOWN:
	default:
		return "unknown";
	}
}

static enum sp_rec_verdict SP_PRINTF(3, 4)
say(struct sp_rec_report *r, enum sp_rec_verdict v, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->text, sizeof(r->text), fmt, ap);
	va_end(ap);
	r->verdict = v;
	return v;
}

/* The body without its signature, if the recording's own key signed it. */
static bool
own_signature_fits(const struct judge *j, const struct sp_rec_chunk *c,
    struct sp_span *body)
{
	SP_BUF_AUTO text = {.max = 2048};

	if (c->body.n < SP_REC_SIG || c->body.n > 1024)
		return false;
	*body = sp_span_of(c->body.p, c->body.n - SP_REC_SIG);
	return sp_rec_signed_chunk(&text, c->prev, c->head, *body) == SP_OK &&
	    crypto_sign_verify_detached(c->body.p + body->n,
	    text.p + text.off, text.len,
	    sp_rec_file_header(j->f)->rec_key) == 0;
}

static bool
judge_open(struct judge *j, const struct sp_rec_chunk *c)
{
	const struct sp_rec_header *h = sp_rec_file_header(j->f);
	SP_BUF_AUTO text = {.max = SP_SIGNED_MAX};
	struct sp_span body;

	if (c->body.n != 32 + 64 + SP_REC_SIG) {
		say(j->r, SP_REC_FORGED, "an OPEN record of a wrong size");
		return false;
	}
	if (memcmp(c->body.p, j->audit_key, 32) != 0) {
		say(j->r, SP_REC_UNKNOWN,
		    "it was opened under another vault's key");
		return false;
	}
	if (!own_signature_fits(j, c, &body) ||
	    sp_signed_recording(&text, h->session, h->rec_key,
	    sp_rec_file_header_hash(j->f), h->t0_wall_us) != SP_OK ||
	    crypto_sign_verify_detached(c->body.p + 32, text.p + text.off,
	    text.len, j->audit_key) != 0) {
		say(j->r, SP_REC_FORGED,
		    "the vault did not sign this header and key");
		return false;
	}
	j->r->opened_us = h->t0_wall_us;
	return true;
}

/* Time and totals; what is over is left in body. */
static bool
take_totals(struct judge *j, struct sp_span *body)
{
	uint64_t wall = 0, in = 0, out = 0;

	if (sp_get_u64(body, &wall) != SP_OK || sp_get_u64(body, &in) != SP_OK ||
	    sp_get_u64(body, &out) != SP_OK || in < j->r->bytes_in ||
	    out < j->r->bytes_out)
		return false;
	j->r->bytes_in = in;
	j->r->bytes_out = out;
	return true;
}

/* What stood in its place, and was signed there: others may know of it. */
static bool
take_packed(struct judge *j, struct sp_span body)
{
	uint8_t version = sp_rec_file_header(j->f)->version;
	size_t n = version < 5 ? SP_REC_HEAD_OLD : SP_REC_HEAD;
	uint64_t from = 0;

	if (version < 4 || sp_get_u64(&body, &from) != SP_OK || body.n % n != 0 ||
	    body.n > SP_REC_HEAD_OLD * SP_REC_HEADS_MAX)
		return false;
	for (; body.n > 0; body = sp_span_of(body.p + n, body.n - n))
		if (j->known != NULL && memcmp(j->known, body.p, n) == 0)
			j->is_known_seen = true;
	return true;
}

static bool
judge_checkpoint(struct judge *j, const struct sp_rec_chunk *c)
{
	struct sp_span body;

	if (own_signature_fits(j, c, &body) && take_totals(j, &body) &&
	    (body.n == 0 || take_packed(j, body)))
		return true;
	say(j->r, SP_REC_FORGED, "the checkpoint %llu has a false signature",
	    (unsigned long long)c->h.seq);
	return false;
}

static bool
all_are_hashed(struct judge *j)
{
	if (j->behind.n == 0)
		return true;
	say(j->r, SP_REC_FORGED, "the hashes of %zu chunks are missing",
	    j->behind.n);
	return false;
}

static bool
judge_close(struct judge *j, const struct sp_rec_chunk *c)
{
	struct sp_span body, reason;

	if (!own_signature_fits(j, c, &body) || !take_totals(j, &body) ||
	    sp_get_u8(&body, &j->r->code) != SP_OK ||
	    sp_get_bytes(&body, SP_REC_REASON_MAX, &reason) != SP_OK ||
	    body.n != 0) {
		say(j->r, SP_REC_FORGED, "its CLOSE has a false signature");
		return false;
	}
	if (reason.n > 0)
		memcpy(j->r->reason, reason.p, reason.n);
	j->r->reason[reason.n] = '\0';
	j->r->is_closed = j->is_ended = true;
	return all_are_hashed(j);
}

static bool
judge_recovered(struct judge *j, const struct sp_rec_chunk *c)
{
	SP_BUF_AUTO text = {.max = SP_SIGNED_MAX};
	struct sp_span body = c->body;
	const uint8_t *sig;
	uint64_t at = 0;

	if (sp_get_u64(&body, &at) != SP_OK ||
	    sp_get(&body, SP_REC_SIG, &sig) != SP_OK || body.n != 0 ||
	    c->h.at_us != (uint64_t)(j->r->last_us - j->r->opened_us) ||
	    sp_signed_close(&text, true, sp_rec_file_header(j->f)->session,
	    c->prev, c->h.seq, (int64_t)at) != SP_OK ||
	    crypto_sign_verify_detached(sig, text.p + text.off, text.len,
	    j->audit_key) != 0) {
		say(j->r, SP_REC_FORGED,
		    "the vault did not sign its RECOVERED record");
		return false;
	}
	j->r->is_recovered = j->is_ended = true;
	j->r->late = j->unsigned_hashes;
	return all_are_hashed(j);
}

static bool
judge_data(struct judge *j, const struct sp_rec_chunk *c)
{
	unsigned known = sp_rec_known_flags(sp_rec_file_header(j->f)->version);
	bool is_ours = (c->h.flags & ~known) == 0 && c->h.len >= SP_REC_TAG &&
	    ((c->h.flags & SP_REC_F_WITH_OUT) == 0 || (c->h.lane ==
	    SP_LANE_VIEW && (c->h.flags & SP_REC_F_ZSTD) != 0));

	if (is_ours && ((c->h.flags & SP_REC_F_BEHIND) == 0 ||
	    sp_rec_behind_saw(&j->behind, &j->crypto, c->h.seq, c->body) ==
	    SP_OK))
		return true;
	say(j->r, SP_REC_FORGED, "chunk %llu is none that we write",
	    (unsigned long long)c->h.seq);
	return false;
}

/* Signed by what follows it: a checkpoint, CLOSE, or the vault's RECOVERED. */
static bool
judge_hashes(struct judge *j, const struct sp_rec_chunk *c)
{
	size_t before = j->behind.n;

	if (sp_rec_behind_match(&j->behind, c->body) != SP_OK) {
		say(j->r, SP_REC_FORGED, "the bytes of a chunk are not those "
		    "that were hashed (at chunk %llu)",
		    (unsigned long long)c->h.seq);
		return false;
	}
	j->unsigned_hashes += before - j->behind.n;
	return true;
}

/* Types beyond it are a later version's, and passed over. */
static uint8_t
last_type(const struct judge *j)
{
	return sp_rec_file_header(j->f)->version < 2 ? SP_REC_RECOVERED_CHUNK :
	    SP_REC_HASHES_CHUNK;
}

static bool
judge_type(struct judge *j, const struct sp_rec_chunk *c)
{
	bool is_clear = c->h.type != SP_REC_DATA_CHUNK &&
	    c->h.type >= SP_REC_OPEN_CHUNK && c->h.type <= last_type(j);
	bool is_first = j->r->chunks == 0;

	if (j->is_ended) {
		say(j->r, SP_REC_FORGED, "something follows its end");
		return false;
	}
	/* Numbers may be left out: what comes first is told by its place. */
	if (is_first != (c->h.type == SP_REC_OPEN_CHUNK) ||
	    is_first != (c->h.seq == 0) || (is_clear && (c->h.lane != 0 ||
	    c->h.flags != 0))) {
		say(j->r, SP_REC_FORGED, "chunk %llu is out of place",
		    (unsigned long long)c->h.seq);
		return false;
	}
	switch (c->h.type <= last_type(j) ? c->h.type : 0) {
	case SP_REC_HASHES_CHUNK:
		return judge_hashes(j, c);
	case SP_REC_OPEN_CHUNK:
		return judge_open(j, c);
	case SP_REC_DATA_CHUNK:
		return judge_data(j, c);
	case SP_REC_CHECKPOINT_CHUNK:
		return judge_checkpoint(j, c);
	case SP_REC_CLOSE_CHUNK:
		return judge_close(j, c);
	case SP_REC_RECOVERED_CHUNK:
		return judge_recovered(j, c);
	default:
		return true;	/* a later version's: the chain covers it */
	}
}

static bool
judge_chunk(struct judge *j, const struct sp_rec_chunk *c)
{
	struct sp_rec_report *r = j->r;

	if (!judge_type(j, c))
		return false;
	r->chunks++;
	r->good_bytes = c->off + c->size;
	r->last_us = sp_rec_file_header(j->f)->t0_wall_us + (int64_t)c->h.at_us;
	memcpy(r->head, c->chain, 32);
	if (c->h.type != SP_REC_DATA_CHUNK &&
	    c->h.type <= SP_REC_RECOVERED_CHUNK) {
		r->signed_chunks = r->chunks;
		j->unsigned_hashes = 0;
	}
	r->unhashed = j->behind.n;
	if (j->known != NULL && memcmp(j->known, c->chain, 32) == 0)
		j->is_known_seen = true;
	return true;
}

static enum sp_rec_verdict
judge_end(struct judge *j)
{
	struct sp_rec_report *r = j->r;
	bool is_short = j->known != NULL && !j->is_known_seen;

	if (r->chunks == 0)
		return say(r, SP_REC_CUT, "it has no OPEN record: nothing was "
		    "recorded, or everything was cut off");
	if (r->is_closed && is_short)
		return say(r, SP_REC_FORGED,
		    "it is not the recording that the audit log knows");
	if (is_short)
		return say(r, SP_REC_CUT,
		    "the audit log knows of a part that is missing at its end");
	if (r->is_closed)
		return say(r, SP_REC_INTACT,
		    "whole, from its OPEN to its CLOSE");
	if (r->is_recovered && r->late > 0)
		return say(r, SP_REC_RECOVERED, "whole up to a crash; recovered "
		    "and sealed by the vault (%llu chunks were hashed only "
		    "then: a replay checks them with its keys)",
		    (unsigned long long)r->late);
	if (r->is_recovered)
		return say(r, SP_REC_RECOVERED, "whole up to a crash; recovered "
		    "and sealed by the vault");
	if (r->unhashed > 0)
		return say(r, SP_REC_OPEN, "no end yet: the session is running, "
		    "or the end was cut off (%llu chunks after the last "
		    "signature, %llu not yet hashed)",
		    (unsigned long long)(r->chunks - r->signed_chunks),
		    (unsigned long long)r->unhashed);
	return say(r, SP_REC_OPEN, "no end yet: the session is running, or the "
	    "end was cut off (%llu chunks after the last signature)",
	    (unsigned long long)(r->chunks - r->signed_chunks));
}

/* One chunk; true when there is a verdict. */
static bool
walk(struct judge *j)
{
	struct sp_rec_report *r = j->r;
	struct sp_rec_chunk c;

	switch (sp_rec_file_next(j->f, &c)) {
	case SP_REC_STEP_CHUNK:
		return !judge_chunk(j, &c);
	case SP_REC_STEP_END:
		judge_end(j);
		return true;
	case SP_REC_STEP_PARTIAL:
		if (j->is_ended)
			say(r, SP_REC_FORGED, "something follows its end");
		else
			say(r, SP_REC_CUT, "the last chunk is cut");
		return true;
	case SP_REC_STEP_BROKEN:
		say(r, SP_REC_FORGED, "%s at chunk %llu",
		    sp_rec_file_why(j->f), (unsigned long long)r->chunks);
		return true;
	case SP_REC_STEP_IO:
	default:
		say(r, SP_REC_UNKNOWN, "it cannot be read");
		return true;
	}
}

static void
take_header(struct sp_rec_report *r, const struct sp_rec_file *f)
{
	const struct sp_rec_header *h = sp_rec_file_header(f);

	r->has_header = true;
	memcpy(r->session, h->session, 16);
	r->opened_us = r->last_us = h->t0_wall_us;
	r->good_bytes = sp_rec_file_header_bytes(f);
	memcpy(r->head, sp_rec_file_header_hash(f), 32);
	r->n_recipients = h->n_recipients;
	memcpy(r->recipient, h->recipient, sizeof(r->recipient));
	for (size_t l = 0; l < SP_REC_LANES; l++) {
		r->lane[l].threshold = h->lane[l].threshold;
		for (size_t i = 0; i < h->lane[l].n; i++)
			r->lane[l].who |= UINT32_C(1) << h->lane[l].who[i];
	}
}

/* Up to the first chunk; false: there is a verdict already. */
static bool
judge_begin(struct judge *j, int fd)
{
	struct sp_rec_report *r = j->r;
	off_t size;
	enum sp_err e;

	*r = (struct sp_rec_report){.verdict = SP_REC_UNKNOWN};
	if (sodium_init() < 0 || (size = lseek(fd, 0, SEEK_END)) < 0) {
		say(r, SP_REC_UNKNOWN, "it cannot be read");
		return false;
	}
	r->file_bytes = (uint64_t)size;
	e = sp_rec_crypto_init(&j->crypto);
	if (e == SP_OK)
		e = sp_rec_file_open(fd, &j->f);
	if (e == SP_ERR_EOF)
		say(r, SP_REC_CUT, "its header is cut");
	else if (e == SP_ERR_PROTO)
		say(r, SP_REC_UNKNOWN, "it is not a recording of ours");
	else if (e != SP_OK)
		say(r, SP_REC_UNKNOWN, "it cannot be read");
	else
		take_header(r, j->f);
	return e == SP_OK;
}

static void
judge_fini(struct judge *j)
{
	sp_rec_behind_fini(&j->behind);
	sp_rec_crypto_fini(&j->crypto);
	sp_rec_file_close(j->f);
	j->f = NULL;
}

static bool
is_as_it_was(int fd, off_t before)
{
	return lseek(fd, 0, SEEK_END) == before;
}

/* ------------------------------------------------------------ bit by bit */

struct sp_rec_judge {
	struct judge j;
	int fd;
	off_t size;		/* when this look began */
	int looks;
	bool is_over;
};

static void
look(struct sp_rec_judge *k)
{
	struct judge j = {.audit_key = k->j.audit_key, .known = k->j.known,
	    .r = k->j.r};

	k->j = j;
	k->size = lseek(k->fd, 0, SEEK_END);
	k->looks++;
	k->is_over = !judge_begin(&k->j, k->fd);
}

enum sp_err
sp_rec_judge_new(int fd, const uint8_t audit_key[static 32],
    const uint8_t *known_head, struct sp_rec_report *r,
    struct sp_rec_judge **out)
{
	struct sp_rec_judge *k = calloc(1, sizeof(*k));

	if (k == NULL)
		return SP_ERR_NOMEM;
	k->fd = fd;
	k->j.audit_key = audit_key;
	k->j.known = known_head;
	k->j.r = r;
	look(k);
	*out = k;
	return SP_OK;
}

void
sp_rec_judge_free(struct sp_rec_judge *k)
{
	if (k == NULL)
		return;
	judge_fini(&k->j);
	free(k);
}

/* A running one is packed now and then: who reads at that moment looks again. */
static bool
looks_again(struct sp_rec_judge *k)
{
	enum sp_rec_verdict v = k->j.r->verdict;

	if (k->looks >= LOOKS || (v != SP_REC_CUT && v != SP_REC_FORGED) ||
	    is_as_it_was(k->fd, k->size))
		return false;
	judge_fini(&k->j);
	look(k);
	return true;
}

bool
sp_rec_judge_work(struct sp_rec_judge *k, uint64_t bytes)
{
	uint64_t until = k->j.r->good_bytes + bytes;

	for (;;) {
		while (!k->is_over && k->j.r->good_bytes < until)
			k->is_over = walk(&k->j);
		if (!k->is_over || !looks_again(k))
			return k->is_over;
		until = bytes;
	}
}

enum sp_rec_verdict
sp_rec_verify(int fd, const uint8_t audit_key[static 32],
    const uint8_t *known_head, struct sp_rec_report *r)
{
	struct sp_rec_judge *k = NULL;

	if (sp_rec_judge_new(fd, audit_key, known_head, r, &k) != SP_OK) {
		*r = (struct sp_rec_report){.verdict = SP_REC_UNKNOWN};
		return say(r, SP_REC_UNKNOWN, "it cannot be read");
	}
	while (!sp_rec_judge_work(k, UINT64_MAX / 2))
		;
	sp_rec_judge_free(k);
	return r->verdict;
}

/* ------------------------------------------------------ its two ends alone */

/* The chunk at that place, judged as if all before it were. */
static bool
judge_at(struct judge *j, const struct sp_rec_place *p)
{
	struct sp_rec_chunk c;

	if (p != NULL)
		sp_rec_file_seek(j->f, p);
	if (sp_rec_file_next(j->f, &c) != SP_REC_STEP_CHUNK)
		return false;
	j->r->last_us = sp_rec_file_header(j->f)->t0_wall_us +
	    (int64_t)c.h.at_us;
	switch (c.h.type) {
	case SP_REC_OPEN_CHUNK:
		return judge_open(j, &c);
	case SP_REC_CLOSE_CHUNK:
		return judge_close(j, &c);
	case SP_REC_RECOVERED_CHUNK:
		return judge_recovered(j, &c);
	default:
		return false;
	}
}

bool
sp_rec_peek(int fd, const uint8_t audit_key[static 32],
    struct sp_rec_report *r)
{
	struct judge j = {.audit_key = audit_key, .r = r};
	struct sp_rec_finder *x = calloc(1, sizeof(*x));
	struct sp_rec_chunk_header h;
	struct sp_rec_place last;
	bool good;

	good = x != NULL && judge_begin(&j, fd) && judge_at(&j, NULL) &&
	    sp_rec_find_open(x, fd, j.f) == SP_OK &&
	    sp_rec_find_last(x, &last, &h) == SP_OK && h.seq > 0 &&
	    judge_at(&j, &last);
	if (good)
		say(r, SP_REC_OPEN, "its two ends are; what is between has not "
		    "been looked at");
	judge_fini(&j);
	free(x);
	return good;
}
