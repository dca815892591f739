/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/recover.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "recorder/behind.h"
#include "recorder/disk.h"
#include "recorder/read.h"

#define SEAL_MS 30000

struct found {
	bool has_header, is_opened, is_closed;
	uint64_t good, size, cut, next_seq, at_us;
	uint64_t body, tail;	/* where a tail belongs, and stands; 0: none */
	uint64_t gap;		/* over which it was moved */
	uint32_t segment;
	uint8_t head[32];
	struct sp_msg_rec_point point;	/* of the recording, and its last chunk */
	uint8_t last_head[SP_REC_CHUNK_HEADER], last[640];
	struct sp_rec_crypto crypto;
	struct sp_rec_behind behind;
};

/* Hashes of large chunks that the crash did not leave the time for. */
static enum sp_err
note(struct found *o, const struct sp_rec_chunk *c)
{
	if (c->h.type == SP_REC_DATA_CHUNK && (c->h.flags & SP_REC_F_BEHIND) != 0)
		return sp_rec_behind_saw(&o->behind, &o->crypto, c->h.seq,
		    c->body);
	/* One that does not match is for the verifier to find. */
	if (c->h.type == SP_REC_HASHES_CHUNK)
		(void)!sp_rec_behind_match(&o->behind, c->body);
	return SP_OK;
}

/* What the transparency log wants of it. */
static void
keep_open(struct found *o, const struct sp_rec_file *f,
    const struct sp_rec_chunk *c)
{
	const struct sp_rec_header *h = sp_rec_file_header(f);

	if (c->body.n != 32 + 2 * SP_REC_SIG)
		return;
	o->is_opened = true;
	memcpy(o->point.session, h->session, 16);
	memcpy(o->point.rec_key, h->rec_key, 32);
	memcpy(o->point.header_hash, sp_rec_file_header_hash(f), 32);
	o->point.opened_us = h->t0_wall_us;
	memcpy(o->point.certificate, c->body.p + 32, 64);
}

static void
keep_last(struct found *o, const uint8_t prev[static 32],
    const uint8_t head[static SP_REC_CHUNK_HEADER], struct sp_span body)
{
	if (body.n > sizeof(o->last))
		return;
	memcpy(o->point.prev, prev, 32);
	memcpy(o->last_head, head, sizeof(o->last_head));
	memcpy(o->last, body.p, body.n);
	o->point.body = sp_span_of(o->last, body.n);
}

static enum sp_err
tell_point(struct sp_link *l, const struct found *o, bool is_open)
{
	struct sp_msg_rec_point m = o->point;

	if (!o->is_opened)
		return SP_OK;
	m.head = sp_span_of(o->last_head, is_open ? 0 : sizeof(o->last_head));
	if (is_open)
		m.body = (struct sp_span){0};
	return sp_send_rec_point(l, 0, &m, NULL);
}

static enum sp_err
walk(struct sp_rec_file *f, struct found *o)
{
	struct sp_rec_chunk c;
	enum sp_rec_step st;

	o->has_header = true;
	o->good = sp_rec_file_header_bytes(f);
	memcpy(o->head, sp_rec_file_header_hash(f), 32);
	while (!o->is_closed &&
	    (st = sp_rec_file_next(f, &c)) == SP_REC_STEP_CHUNK) {
		if (c.off != o->good) {
			o->body = o->good;
			o->tail = c.off;
		}
		/* No writer of ours says so much in a tail. */
		if (o->tail != 0 && c.off + c.size - o->tail > SP_REC_GAP)
			break;
		o->good = c.off + c.size;
		o->next_seq = c.h.seq + 1;
		o->at_us = c.h.at_us;
		o->segment = c.h.segment;
		if (c.h.type == SP_REC_OPEN_CHUNK)
			keep_open(o, f, &c);
		o->is_closed = c.h.type == SP_REC_CLOSE_CHUNK ||
		    c.h.type == SP_REC_RECOVERED_CHUNK;
		memcpy(o->head, c.chain, 32);
		if (o->is_closed)
			keep_last(o, c.prev, c.head, c.body);
		SP_TRY(note(o, &c));
	}
	return !o->is_closed && st == SP_REC_STEP_IO ? SP_ERR_IO : SP_OK;
}

static enum sp_err
look(int fd, const uint8_t session[static 16], struct found *o)
{
	struct sp_rec_file *f = NULL;
	off_t size = lseek(fd, 0, SEEK_END);
	enum sp_err e;

	if (size < 0)
		return SP_ERR_IO;
	o->size = (uint64_t)size;
	e = sp_rec_file_open(fd, &f);
	if (e == SP_ERR_EOF || e == SP_ERR_PROTO)
		return SP_OK;	/* it died before the first word was written */
	SP_TRY(e);
	if (memcmp(sp_rec_file_header(f)->session, session, 16) != 0)
		e = SP_ERR_DENIED;
	else
		e = walk(f, o);
	sp_rec_file_close(f);
	return e;
}

static enum sp_err
read_tail(int fd, const struct found *o, struct sp_buf *b)
{
	size_t n = (size_t)(o->good - o->tail);
	uint8_t *at;

	SP_TRY(sp_buf_reserve(b, n, &at));
	while (b->len < n) {
		ssize_t got = pread(fd, at + b->len, n - b->len,
		    (off_t)(o->tail + b->len));

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return SP_ERR_IO;
		sp_buf_commit(b, (size_t)got);
	}
	return SP_OK;
}

/* Nobody has the key to pack a tail: its chunks are moved to where the body ends,
 * as they are. Until they all stand there, the tail is read from its old place. */
static enum sp_err
move_tail(int fd, struct found *o)
{
	SP_BUF_AUTO b = {.max = SP_REC_GAP};
	struct sp_rec_disk d;
	struct sp_span s;

	if (o->tail == 0)
		return SP_OK;
	SP_TRY(read_tail(fd, o, &b));
	s = sp_buf_span(&b);
	sp_rec_disk_init(&d, fd, 0);
	d.off = o->body;
	SP_TRY(sp_rec_disk_append_packed(&d, s));
	SP_TRY(sp_rec_disk_sync(&d));
	o->gap = o->tail - o->body;
	o->good -= o->gap;
	o->tail = 0;
	return SP_OK;
}

static enum sp_err
cut(int fd, struct found *o)
{
	int r;

	if (!o->has_header || o->size == o->good)
		return SP_OK;
	o->cut = o->size - o->gap - o->good;
	do
		r = ftruncate(fd, (off_t)o->good);
	while (r != 0 && errno == EINTR);
	return r == 0 && fsync(fd) == 0 ? SP_OK : SP_ERR_IO;
}

static enum sp_err
append(int fd, struct found *o, uint8_t type, struct sp_span body)
{
	struct sp_rec_chunk_header h = {.type = type, .len = (uint32_t)body.n,
	    .segment = o->segment, .seq = o->next_seq, .at_us = o->at_us};
	SP_BUF_AUTO out = {.max = SP_REC_OVERHEAD + SP_REC_HASHES_MAX * 40};
	uint8_t head[SP_REC_CHUNK_HEADER], chain[32];
	struct sp_rec_disk d;

	sp_rec_chunk_header_encode(head, &h);
	SP_TRY(sp_rec_chain(&o->crypto, o->head, head, body, chain));
	keep_last(o, o->head, head, body);
	SP_TRY(sp_buf_put(&out, head, sizeof(head)));
	SP_TRY(sp_buf_put(&out, chain, sizeof(chain)));
	SP_TRY(sp_buf_put(&out, body.p, body.n));
	sp_rec_disk_init(&d, fd, 0);
	d.off = o->good;
	SP_TRY(sp_rec_disk_append(&d, sp_buf_span(&out)));
	SP_TRY(sp_rec_disk_finish(&d));
	o->good = o->size = d.off;
	o->next_seq++;
	memcpy(o->head, chain, 32);
	return SP_OK;
}

static enum sp_err
append_hashes(int fd, struct found *o)
{
	while (!o->is_closed && o->behind.n > 0) {
		SP_BUF_AUTO body = {.max = SP_REC_HASHES_MAX * 40};
		size_t n;

		SP_TRY(sp_rec_behind_body(&o->behind, &body, &n));
		SP_TRY(append(fd, o, SP_REC_HASHES_CHUNK, sp_buf_span(&body)));
		sp_rec_behind_drop(&o->behind, n);
	}
	return SP_OK;
}

static enum sp_err
append_recovered(int fd, struct found *o, const struct sp_msg_rec_seal *m)
{
	SP_BUF_AUTO body = {.max = 256};

	SP_TRY(sp_buf_put_u64(&body, (uint64_t)m->at_us));
	SP_TRY(sp_buf_put(&body, m->signature, SP_REC_SIG));
	return append(fd, o, SP_REC_RECOVERED_CHUNK, sp_buf_span(&body));
}

static enum sp_err
report(struct sp_link *l, const uint8_t session[static 16],
    const struct found *o)
{
	struct sp_msg_rec_recovered m = {.closed = o->is_closed,
	    .chunks = o->next_seq,
	    .cut_bytes = o->cut,
	    .file_bytes = o->has_header ? o->good : o->size};

	memcpy(m.session, session, 16);
	memcpy(m.head, o->head, 32);
	return sp_send_rec_recovered(l, 0, &m, NULL);
}

static enum sp_err
recover(int fd, struct sp_link *l, const uint8_t session[static 16],
    struct found *o)
{
	struct sp_msg_rec_seal m;
	struct sp_packet p;

	SP_TRY(sp_rec_crypto_init(&o->crypto));
	SP_TRY(look(fd, session, o));
	SP_TRY(move_tail(fd, o));
	SP_TRY(cut(fd, o));
	SP_TRY(append_hashes(fd, o));
	SP_TRY(tell_point(l, o, true));
	if (o->is_closed)
		SP_TRY(tell_point(l, o, false));
	SP_TRY(report(l, session, o));
	l->state = SP_ST_READY;
	if (o->is_closed)
		return SP_OK;
	SP_TRY(sp_link_wait(l, &p, SEAL_MS));
	if (p.type != SP_MSG_rec_seal)
		return SP_ERR_PROTO;
	SP_TRY(sp_dec_rec_seal(p.body, &m));
	/* Without an OPEN there is nothing that a seal could be about. */
	if (!o->is_opened)
		return SP_OK;
	SP_TRY(append_recovered(fd, o, &m));
	return tell_point(l, o, false);
}

int
sp_recover_run(int file_fd, int link_fd, const uint8_t session[static 16])
{
	struct found o = {0};
	struct sp_link l;
	enum sp_err e = sp_link_init(&l, link_fd, SP_ROLE_REC, SP_ROLE_BRK,
	    SP_ST_NEW);

	if (e == SP_OK)
		e = recover(file_fd, &l, session, &o);
	sp_log(e == SP_OK ? SP_INFO : SP_ERROR, "recovered", session,
	    "result=\"%s\" closed=%d chunks=%llu cut_bytes=%llu", sp_err_text(e),
	    o.is_closed, (unsigned long long)o.next_seq,
	    (unsigned long long)o.cut);
	sp_rec_behind_fini(&o.behind);
	sp_rec_crypto_fini(&o.crypto);
	sp_link_fini(&l);
	return e == SP_OK ? 0 : 1;
}
