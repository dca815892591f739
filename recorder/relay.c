/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/relay.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "common/log.h"

#define HANDSHAKE_MS 30000
#define GONE (POLLRDHUP | POLLHUP | POLLERR)
#define SYNC_WITHIN_US 100000
#define BULK_BATCH (128u << 10)
#define GROUP_BYTES (1u << 20)	/* recorded for one sync */
#define BULK_SNDBUF (1 << 20)
/* When the target's side ends the broker mostly knows why, a moment later. */
#define REASON_WAIT_US 300000
#define ANCHOR_US INT64_C(60000000)

enum sp_err
sp_relay_init(struct sp_relay *r, int link_fd, int user_fd, int target_fd)
{
	enum sp_err a, b, c;

	*r = (struct sp_relay){0};
	sp_gate_init(&r->gate);
	a = sp_link_init(&r->link, link_fd, SP_ROLE_REC, SP_ROLE_BRK, SP_ST_NEW);
	b = sp_stream_init(&r->user, user_fd, true);
	c = sp_stream_init(&r->target, target_fd, false);
	return a != SP_OK ? a : b != SP_OK ? b : c;
}

void
sp_relay_fini(struct sp_relay *r)
{
	while (r->flows != NULL)
		sp_flow_free(&r->flows, r->flows);
	sp_aside_fini(r);
	sp_rec_writer_free(r->w);
	r->w = NULL;
	sp_gate_fini(&r->gate);
	sp_stream_fini(&r->user);
	sp_stream_fini(&r->target);
	sp_link_fini(&r->link);
}

/* A text that was cut to fit must not end inside a character: its reader takes
 * UTF-8 only. */
static void
trim(char *s)
{
	size_t n = strlen(s);

	while (n > 0 && !sp_utf8_is_valid(sp_span_of(s, n)))
		s[--n] = '\0';
}

void
sp_relay_end(struct sp_relay *r, uint8_t code, const char *fmt, ...)
{
	va_list ap;

	if (r->is_ending)
		return;
	r->is_ending = true;
	r->code = code;
	va_start(ap, fmt);
	vsnprintf(r->reason, sizeof(r->reason), fmt, ap);
	va_end(ap);
	trim(r->reason);
}

void
sp_relay_event(struct sp_relay *r, const char *what, uint32_t chan,
    const char *detail)
{
	struct sp_msg_rec_event m = {.what = sp_span_str(what), .chan = chan,
	    .detail = sp_span_str(detail)};

	if (sp_send_rec_event(&r->link, 0, &m, NULL) != SP_OK)
		sp_relay_end(r, SP_END_BROKER, "the broker went away");
}

/* --------------------------------------------------------- the broker */

static enum sp_err
on_note(struct sp_relay *r, struct sp_span body)
{
	struct sp_msg_rec_note m;
	char text[1001];
	size_t n;

	SP_TRY(sp_dec_rec_note(body, &m));
	n = m.text.n < sizeof(text) ? m.text.n : sizeof(text) - 1;
	if (n > 0)
		memcpy(text, m.text.p, n);
	text[n] = '\0';
	trim(text);
	SP_TRY(sp_rec_writer_put(r->w, SP_LANE_META, SP_RECORD_NOTICE, m.show,
	    m.text));
	return m.show == 0 ? SP_OK :
	    sp_stream_put_text(&r->user, SP_FRAME_NOTICE, 0, text);
}

static enum sp_err
on_end(struct sp_relay *r, struct sp_span body)
{
	struct sp_msg_rec_end m;
	char text[SP_REC_REASON_MAX];

	SP_TRY(sp_dec_rec_end(body, &m));
	snprintf(text, sizeof(text), "%.*s", (int)m.text.n,
	    m.text.n == 0 ? "" : (const char *)m.text.p);
	sp_relay_end(r, m.code, "%s", text);
	return SP_OK;
}

static enum sp_err
on_steer(struct sp_relay *r, struct sp_span body)
{
	struct sp_msg_rec_steer m;

	SP_TRY(sp_dec_rec_steer(body, &m));
	return sp_gate_steer(r, &m);
}

static enum sp_err
on_ping(struct sp_relay *r, struct sp_span body)
{
	struct sp_msg_rec_ping m;
	struct sp_msg_rec_pong to;

	SP_TRY(sp_dec_rec_ping(body, &m));
	to.number = m.number;
	return sp_send_rec_pong(&r->link, 0, &to, NULL);
}

/* SP_ERR_AGAIN when the broker has said all that it said. */
static enum sp_err
hear_broker(struct sp_relay *r)
{
	struct sp_packet p;
	enum sp_err e;

	SP_TRY(sp_link_recv(&r->link, &p));
	if (p.type == SP_MSG_rec_scribe && p.n_fds == 1) {
		sp_aside_begin(r, p.fds[0]);
		return SP_OK;
	}
	sp_packet_close_fds(&p);
	e = p.type == SP_MSG_rec_note ? on_note(r, p.body) :
	    p.type == SP_MSG_rec_steer ? on_steer(r, p.body) :
	    p.type == SP_MSG_rec_end ? on_end(r, p.body) :
	    p.type == SP_MSG_rec_ping ? on_ping(r, p.body) : SP_ERR_PROTO;
	return e == SP_ERR_AGAIN ? SP_ERR_PROTO : e;
}

static void
broker(struct sp_relay *r)
{
	enum sp_err e = sp_link_flush(&r->link);

	if (e == SP_OK || e == SP_ERR_AGAIN)
		while (!r->is_ending && (e = hear_broker(r)) == SP_OK)
			;
	if (r->is_ending || e == SP_ERR_AGAIN || e == SP_OK)
		return;
	if (e == SP_ERR_PROTO)
		sp_log(SP_ERROR, "broker_fault", r->session, "fault=\"%s\"",
		    r->link.fault);
	sp_relay_end(r, SP_END_BROKER, "the broker went away");
}

/* ---------------------------------------------------------- handshake */

static struct sp_rules rules;

/* Who opens it: of the configuration that root wrote, and the vault itself. */
static enum sp_err
seal_to(const struct sp_relay *r, struct sp_rec_params *p,
    uint8_t keys[static SP_SEALTO_MAX * 32])
{
	const struct sp_sealto *t = r->sealto;

	SP_ASSERT(SP_SEALTO_MAX <= SP_REC_RECIPIENTS_MAX);
	for (size_t i = 0; i < t->n; i++)
		memcpy(keys + 32 * i, i == 0 && t->has_vault ?
		    r->recording_key : t->one[i].key, 32);
	p->recipients = sp_span_of(keys, 32u * t->n);
	for (size_t l = 0; l < SP_REC_LANES; l++)
		p->openers[l] = (struct sp_rec_openers){t->lane[l].threshold,
		    t->lane[l].who};
	return t->n > 0 ? SP_OK : SP_ERR_INVAL;
}

static enum sp_err
open_writer(struct sp_relay *r, struct sp_span body, int file_fd,
    struct sp_buf *meta)
{
	struct sp_rec_params p = {.fd = file_fd};
	uint8_t keys[SP_SEALTO_MAX * 32];
	struct sp_msg_rec_open m;
	struct sp_msg_rec_opened o;

	SP_TRY(sp_dec_rec_open(body, &m));
	if (m.durability < SP_DURABLE_PROCESS || m.durability > SP_DURABLE_FULL ||
	    memcmp(r->session, m.session, 16) != 0)
		return SP_ERR_PROTO;
	r->durability = m.durability;
	SP_TRY(sp_rules_decode(m.rules, &rules));
	r->rules = &rules;
	r->idle.limit_s = rules.idle_s;
	sp_channels_init(&r->channels, r->rules);
	/* A captured broker could name a vault of its own, and read along later. */
	if (!r->is_pinned || memcmp(r->audit_key, m.audit_key, 32) != 0) {
		sp_log(SP_ERROR, "false_vault", r->session, "known=%d",
		    r->is_pinned);
		return SP_ERR_DENIED;
	}
	SP_TRY(sp_buf_put(meta, m.meta.p, m.meta.n));
	memcpy(p.session, m.session, 16);
	SP_TRY(seal_to(r, &p, keys));
	p.reserve_bytes = m.reserve_bytes;
	SP_TRY(sp_rec_writer_new(&p, &r->w));
	memcpy(o.session, m.session, 16);
	memcpy(o.rec_key, sp_rec_writer_header(r->w)->rec_key, 32);
	memcpy(o.header_hash, sp_rec_writer_header_hash(r->w), 32);
	o.opened_us = sp_rec_writer_header(r->w)->t0_wall_us;
	return sp_send_rec_opened(&r->link, 0, &o, NULL);
}

/* What of it goes into the transparency log: its OPEN, or the last chunk that it
 * signed. The broker hands it on, and cannot make one. */
enum sp_err
sp_relay_tell_point(struct sp_relay *r, bool is_open)
{
	const struct sp_rec_last *l = sp_rec_writer_last(r->w);
	struct sp_msg_rec_point m = {
	    .opened_us = sp_rec_writer_header(r->w)->t0_wall_us};

	r->pointed = sp_rec_writer_checkpoints(r->w);
	memcpy(m.session, r->session, 16);
	memcpy(m.rec_key, sp_rec_writer_header(r->w)->rec_key, 32);
	memcpy(m.header_hash, sp_rec_writer_header_hash(r->w), 32);
	memcpy(m.certificate, r->certificate, 64);
	if (!is_open) {
		memcpy(m.prev, l->prev, 32);
		m.head = sp_span_of(l->head, sizeof(l->head));
		m.body = sp_span_of(l->body, l->n);
	}
	return sp_send_rec_point(&r->link, 0, &m, NULL);
}

static enum sp_err
handshake(struct sp_relay *r, int file_fd)
{
	SP_BUF_AUTO meta = {.max = 8192};
	struct sp_msg_rec_ready ready;
	struct sp_msg_rec_cert cert;
	struct sp_rec_totals t;
	struct sp_packet p;

	SP_TRY(sp_link_wait(&r->link, &p, HANDSHAKE_MS));
	if (p.type == SP_MSG_rec_end)
		return on_end(r, p.body);
	SP_TRY(open_writer(r, p.body, file_fd, &meta));
	r->link.state = SP_ST_READY;
	SP_TRY(sp_link_wait(&r->link, &p, HANDSHAKE_MS));
	if (p.type == SP_MSG_rec_end)
		return on_end(r, p.body);
	if (p.type != SP_MSG_rec_cert)
		return SP_ERR_PROTO;
	SP_TRY(sp_dec_rec_cert(p.body, &cert));
	SP_TRY(sp_rec_writer_certify(r->w, r->audit_key, cert.signature,
	    sp_buf_span(&meta)));
	r->is_certified = true;
	memcpy(r->certificate, cert.signature, 64);
	SP_TRY(sp_relay_tell_point(r, true));
	sp_rec_writer_totals(r->w, &t);
	memcpy(ready.session, r->session, 16);
	memcpy(ready.head, t.head, 32);
	SP_TRY(sp_send_rec_ready(&r->link, 0, &ready, NULL));
	r->link.state = SP_ST_LIVE;
	return SP_OK;
}

/* -------------------------------------------------------------- relay */

void
sp_relay_unqueue(struct sp_stream *s, size_t mark)
{
	struct sp_buf *b = &s->tx;

	if (b->len <= mark)
		return;
	explicit_bzero(b->p + b->off + mark, b->len - mark);
	b->len = mark;
}

static void
push(struct sp_relay *r, struct sp_stream *s)
{
	enum sp_err e = sp_stream_flush(s);

	if (e == SP_OK || e == SP_ERR_AGAIN)
		return;
	/* It takes nothing more; what it said before is read and judged. */
	sp_relay_unqueue(s, 0);
	if (shutdown(s->fd, SHUT_WR) != 0 && errno != ENOTCONN)
		sp_log(SP_DEBUG, "shutdown", r->session, "errno=%d", errno);
	if (s == &r->target && r->target_gone_us == 0)
		r->target_gone_us = sp_boot_us();
}

static const char *
why_not(enum sp_err e)
{
	return e == SP_ERR_FULL ? "the disk for recordings is full; an "
	    "administrator must free space on it" : sp_err_text(e);
}

static void
disk_failed(struct sp_relay *r, enum sp_err e)
{
	/* Over whatever else wanted to end it: what came with it was not
	 * forwarded, and the record must say so. */
	r->is_ending = false;
	sp_relay_end(r, SP_END_DISK, "the recording cannot be written: %s",
	    why_not(e));
	sp_log(SP_ERROR, "recording_failed", r->session, "error=\"%s\"",
	    sp_err_text(e));
}

static void
go_bulk(struct sp_relay *r)
{
	int n = BULK_SNDBUF;

	/* A smaller buffer costs speed, nothing else. */
	(void)setsockopt(r->user.fd, SOL_SOCKET, SO_SNDBUF, &n, sizeof(n));
	(void)setsockopt(r->target.fd, SOL_SOCKET, SO_SNDBUF, &n, sizeof(n));
	r->is_bulk = true;
}

/* Commits what was taken and, while bulk comes that must be on the disk before
 * it is forwarded, takes more for the same sync: one of 256 KiB costs nearly as
 * much as one of 1 MiB. *user_mark is moved past what the user's side got. */
static enum sp_err
commit_group(struct sp_relay *r, bool *sync, size_t *user_mark)
{
	bool full = r->durability == SP_DURABLE_FULL;
	size_t n, grouped = 0;

	*sync = full;
	for (;;) {
		n = sp_rec_writer_waiting(r->w);
		if (!r->is_bulk && n >= BULK_BATCH)
			go_bulk(r);
		*sync |= r->durability == SP_DURABLE_INPUT && r->user_input;
		if (r->is_unsafe)
			return SP_ERR_CRYPTO;
		SP_TRY(sp_rec_writer_commit(r->w));
		if (!full)
			push(r, &r->user);
		grouped += n;
		if (!*sync || r->is_ending || n < BULK_BATCH ||
		    grouped >= GROUP_BYTES)
			return SP_OK;
		if (!full)
			*user_mark = sp_stream_pending(&r->user);
		r->user_ready = true;
		sp_relay_take(r);
	}
}

/* The promise of the product stands in these lines: commit, then forward. */
static void
commit_and_forward(struct sp_relay *r, size_t user_mark, size_t target_mark)
{
	bool full = r->durability == SP_DURABLE_FULL, is_committed, sync;
	enum sp_err e = commit_group(r, &sync, &user_mark);

	is_committed = e == SP_OK;
	if (is_committed && sync)
		e = sp_rec_writer_sync(r->w);
	if (e != SP_OK) {
		if (full || !is_committed)
			sp_relay_unqueue(&r->user, user_mark);
		sp_relay_unqueue(&r->target, target_mark);
		disk_failed(r, e);
		return;
	}
	if (full)
		push(r, &r->user);
	push(r, &r->target);
}

static void
look_idle(struct sp_relay *r)
{
	int64_t now = sp_boot_us();
	char text[200], t[SP_TIME_TEXT];
	enum sp_idle_verdict v;
	enum sp_err e;

	if (r->user_input || sp_gate_keeps(r))
		sp_idle_touch(&r->idle, now);
	v = sp_idle_look(&r->idle, now);
	sp_duration_text(t, r->idle.limit_s * INT64_C(1000000));
	if (v == SP_IDLE_OVER)
		sp_relay_end(r, SP_END_IDLE, "Nothing came from you for %s: the "
		    "policy's idle limit ended the session.", t);
	if (v != SP_IDLE_WARN)
		return;
	snprintf(text, sizeof(text), "Sallyport: nothing came from you for a "
	    "while: the session ends in %u seconds (idle limit %s).",
	    sp_idle_notice_s(&r->idle), t);
	e = sp_rec_writer_put(r->w, SP_LANE_META, SP_RECORD_NOTICE, 1,
	    sp_span_str(text));
	if (e != SP_OK)
		disk_failed(r, e);
	else if (sp_stream_put_text(&r->user, SP_FRAME_NOTICE, 0, text) != SP_OK)
		sp_log(SP_DEBUG, "no_idle_notice", r->session, "side=user");
}

static void
one_batch(struct sp_relay *r)
{
	size_t user_mark = sp_stream_pending(&r->user);
	size_t target_mark = sp_stream_pending(&r->target);
	bool is_still;

	if (r->link_ready)
		broker(r);
	if (r->aside_ready)
		sp_aside_hear(r);
	is_still = !r->is_ending && sp_relay_stands_still(r, sp_boot_us());
	if (is_still) {
		push(r, &r->user);
		push(r, &r->target);
		return;
	}
	if (!r->is_ending)
		sp_relay_take(r);
	if (!r->is_ending && r->idle.limit_s != 0)
		look_idle(r);
	commit_and_forward(r, user_mark, target_mark);
	if (!r->is_ending)
		sp_aside_safe(r);
}

/* The head of the recording, told to whoever keeps it elsewhere. */
static void
anchor(struct sp_relay *r, int64_t now)
{
	uint64_t n = sp_rec_writer_checkpoints(r->w);
	struct sp_rec_totals t;
	char hex[65], detail[160];

	if (n != r->pointed && !r->is_ending && sp_relay_tell_point(r, false) != SP_OK)
		sp_relay_end(r, SP_END_BROKER, "the broker does not listen");
	if (n == r->anchored || now - r->anchor_us < ANCHOR_US)
		return;
	r->anchored = n;
	r->anchor_us = now;
	sp_rec_writer_totals(r->w, &t);
	sp_hex(hex, t.head, 32);
	snprintf(detail, sizeof(detail), "chunks=%llu head=%s",
	    (unsigned long long)t.chunks, hex);
	sp_relay_event(r, "checkpoint", 0, detail);
}

static void
timers(struct sp_relay *r)
{
	int64_t now = sp_boot_us();
	enum sp_err e = sp_rec_writer_tick(r->w, now, &r->tick_us);

	if (r->durability == SP_DURABLE_PROCESS ||
	    !sp_rec_writer_is_dirty(r->w)) {
		r->sync_by_us = 0;
	} else if (r->sync_by_us == 0) {
		r->sync_by_us = now + SYNC_WITHIN_US;
	} else if (e == SP_OK && now >= r->sync_by_us) {
		e = sp_rec_writer_sync(r->w);
		r->sync_by_us = 0;
	}
	if (e != SP_OK)
		disk_failed(r, e);
	if (r->is_ending)
		return;
	sp_relay_forget(r);
	anchor(r, now);
	r->files_us = sp_files_tick(r, now);
	r->aside_us = sp_aside_tick(r, now);
	if (r->target_gone_us != 0 && now - r->target_gone_us >= REASON_WAIT_US)
		sp_relay_end(r, sp_channels_n_open(&r->channels) == 0 ?
		    SP_END_NORMAL : SP_END_LEG_DIED,
		    "the target's side ended the connection");
}

static int
wait_ms(const struct sp_relay *r)
{
	int64_t now = sp_boot_us(), next = r->tick_us;

	if (r->full_us != 0)
		return 200;
	if (r->more)
		return 0;
	if (r->files_us < next)
		next = r->files_us;
	if (r->aside_us < next)
		next = r->aside_us;
	if (sp_idle_next(&r->idle) < next)
		next = sp_idle_next(&r->idle);
	if (r->sync_by_us != 0 && r->sync_by_us < next)
		next = r->sync_by_us;
	if (r->target_gone_us != 0 &&
	    r->target_gone_us + REASON_WAIT_US < next)
		next = r->target_gone_us + REASON_WAIT_US;
	if (next - now > 60 * INT64_C(1000000))
		return 60000;
	return next <= now ? 0 : (int)((next - now + 999) / 1000);
}

static struct pollfd
interest(const struct sp_relay *r, const struct sp_stream *s)
{
	bool is_user = s == &r->user;
	const struct sp_stream *other = is_user ? &r->target : &r->user;
	struct pollfd p = {.fd = s->fd};

	if (r->gate.is_frozen)
		p.events |= is_user ? POLLRDHUP : 0;
	else if (r->full_us == 0 && !s->eof &&
	    sp_stream_pending(other) <= SP_RELAY_HIGH &&
	    !(is_user && sp_gate_is_shut(r) && s->rx.len >= SP_RELAY_BATCH / 2))
		p.events |= POLLIN;
	if (sp_stream_pending(s) > 0)
		p.events |= POLLOUT;
	/* A hang-up is reported even to who did not ask. */
	if (p.events == 0)
		p.fd = -1;
	return p;
}

static void
relay(struct sp_relay *r)
{
	sp_idle_touch(&r->idle, sp_boot_us());
	while (!r->is_ending) {
		struct pollfd pf[4] = {interest(r, &r->user),
		    interest(r, &r->target),
		    {.fd = r->link.fd, .events = POLLIN},
		    r->full_us != 0 ? (struct pollfd){.fd = -1} :
		    sp_aside_poll(r)};

		if (sp_link_wants_write(&r->link))
			pf[2].events |= POLLOUT;
		if (poll(pf, 4, wait_ms(r)) < 0 && errno != EINTR) {
			sp_relay_end(r, SP_END_SHUTDOWN, "poll: errno %d", errno);
			return;
		}
		r->user_ready |= (pf[0].revents & ~POLLOUT) != 0;
		r->target_ready |= (pf[1].revents & ~POLLOUT) != 0;
		r->link_ready = pf[2].revents != 0;
		r->aside_ready = (pf[3].revents & ~POLLOUT) != 0;
		if (r->gate.is_frozen && (pf[0].revents & GONE) != 0)
			sp_relay_user_went(r);
		one_batch(r);
		if (!r->is_ending && r->full_us == 0)
			timers(r);
	}
}

int
sp_relay_run(struct sp_relay *r, int file_fd)
{
	enum sp_err e = handshake(r, file_fd);

	if (e != SP_OK) {
		sp_log(SP_ERROR, "no_recording", r->session,
		    "error=\"%s\" fault=\"%s\"", sp_err_text(e), r->link.fault);
		sp_relay_end(r, e == SP_ERR_FULL || e == SP_ERR_IO ? SP_END_DISK :
		    SP_END_PROTOCOL, "no recording can begin: %s", why_not(e));
	}
	if (!r->is_ending)
		relay(r);
	return sp_relay_finish(r);
}
