/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/aside.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "common/log.h"
#include "recorder/relay.h"
#include "recorder/view.h"

#define MESSAGE_MAX 61440
#define PART 60000
#define QUEUE_MAX (256u << 10)	/* in the link's own queue */
#define AGAIN_US INT64_C(1000000) /* between two orderly starts */
#define ALLOW_FIRST (2 << 20)
#define ALLOW_MOST (16 << 20)
#define ALLOW_TIMES 8		/* bytes said for each byte that was read */
#define BACKOFF_MAX 6

static bool
has_link(const struct sp_aside *a)
{
	return a->link.is_open;
}

static bool
any_term(const struct sp_aside *a)
{
	for (size_t i = 0; i < SP_ASIDE_TERMS; i++)
		if (a->t[i].chan != 0)
			return true;
	return false;
}

void
sp_aside_forget(struct sp_aside_term *t)
{
	sp_buf_fini(&t->state);
	sp_buf_fini(&t->part);
	*t = (struct sp_aside_term){0};
}

/* ----------------------------------------------------------- its life */

static void
hang_up(struct sp_aside *a)
{
	sp_link_fini(&a->link);
	a->link = (struct sp_link){.fd = -1};
	a->is_stopping = false;
	a->asked_us = 0;
}

static void
failed(struct sp_relay *r, const char *why)
{
	struct sp_aside *a = &r->aside;
	int64_t now = sp_boot_us();
	unsigned n = a->failures < BACKOFF_MAX ? a->failures : BACKOFF_MAX;

	sp_log(SP_WARN, "scribe_failed", r->session, "why=\"%s\" failures=%u", why,
	    a->failures + 1);
	hang_up(a);
	a->failures++;
	if (a->failures >= SP_ASIDE_FAILURES) {
		sp_buf_fini(&a->copies);
		a->safe = a->skipped = 0;
	}
	a->not_before_us = now + (AGAIN_US << n);
	for (size_t i = 0; i < SP_ASIDE_TERMS; i++) {
		struct sp_aside_term *t = &a->t[i];

		sp_buf_fini(&t->part);
		if (t->chan == 0 || (t->is_new && a->failures <
		    SP_ASIDE_FAILURES))
			continue;
		sp_aside_gap(r, t->chan, t->sure_us, why);
		if (t->closed_us != 0) {
			sp_aside_forget(t);
			continue;
		}
		t->is_unsure = true;
		t->sure_us = sp_aside_now(r);
	}
}

/* It did as it was told, and went. */
static void
left(struct sp_relay *r)
{
	struct sp_aside *a = &r->aside;

	hang_up(a);
	a->not_before_us = sp_boot_us() + AGAIN_US;
	a->is_done = a->is_last;
}

static enum sp_err
send_state(struct sp_aside *a, struct sp_aside_term *t)
{
	struct sp_msg_scribe_screen m = {.chan = t->chan, .cols = t->cols,
	    .rows = t->rows, .unsure = t->is_unsure, .state = t->state_bytes};
	SP_BUF_AUTO b = {.max = SP_VIEW_STATE_MAX};
	struct sp_msg_scribe_load l = {.chan = t->chan};
	uint8_t *at = NULL;

	if (t->state_bytes == 0)
		return sp_send_scribe_screen(&a->link, 0, &m, NULL);
	SP_TRY(sp_buf_reserve(&b, t->state_bytes, &at));
	if (ZSTD_decompress(at, t->state_bytes, t->state.p + t->state.off,
	    t->state.len) != t->state_bytes)
		return SP_ERR_PROTO;
	SP_TRY(sp_send_scribe_screen(&a->link, 0, &m, NULL));
	for (size_t i = 0; i < t->state_bytes; i += l.part.n) {
		size_t n = t->state_bytes - i;

		l.part = sp_span_of(at + i, n > PART ? PART : n);
		SP_TRY(sp_send_scribe_load(&a->link, 0, &l, NULL));
	}
	return SP_OK;
}

static enum sp_err
introduce(struct sp_relay *r)
{
	struct sp_aside *a = &r->aside;
	struct sp_msg_scribe_begin m;

	memcpy(m.session, r->session, sizeof(m.session));
	SP_TRY(sp_send_scribe_begin(&a->link, 0, &m, NULL));
	for (size_t i = 0; i < SP_ASIDE_TERMS; i++) {
		struct sp_aside_term *t = &a->t[i];

		if (t->chan == 0 || t->is_new)
			continue;
		SP_TRY(send_state(a, t));
		if (t->is_unsure)
			sp_aside_gap(r, t->chan, t->sure_us, "nobody read along");
		t->sure_us = sp_aside_now(r);
	}
	return SP_OK;
}

void
sp_aside_begin(struct sp_relay *r, int fd)
{
	struct sp_aside *a = &r->aside;
	enum sp_err e;

	if (has_link(a) || a->asked_us == 0) {
		close(fd);	/* nobody asked; or the one before came late */
		return;
	}
	e = sp_link_init(&a->link, fd, SP_ROLE_REC, SP_ROLE_SCR, SP_ST_READY);
	a->asked_us = 0;
	a->moved_us = sp_boot_us();
	a->allowed = ALLOW_FIRST;
	if (e == SP_OK)
		e = introduce(r);
	if (e != SP_OK)
		failed(r, "it could not be given its beginning");
	else
		sp_aside_safe(r);
}

static void
ask(struct sp_relay *r)
{
	struct sp_aside *a = &r->aside;
	struct sp_msg_rec_scribe_want m;

	memcpy(m.session, r->session, sizeof(m.session));
	if (sp_send_rec_scribe_want(&r->link, 0, &m, NULL) != SP_OK)
		return;		/* the broker's end is seen elsewhere */
	a->asked_us = sp_boot_us();
}

static bool
may_ask(const struct sp_aside *a, int64_t now)
{
	return !has_link(a) && a->asked_us == 0 && any_term(a) &&
	    a->failures < SP_ASIDE_FAILURES && now >= a->not_before_us &&
	    a->safe > 0;
}

/* An idle session has none: it begins with something worth reading. */
static bool
is_worth_it(const struct sp_aside *a)
{
	return a->has_enter || a->output >= SP_ASIDE_FROM || a->skipped > 0;
}

/* ------------------------------------------------------------- sending */

/* As many records as one message takes; with them terminals begin and end. A
 * large one goes in pieces that have the same time. */
static struct sp_span
one_message(struct sp_aside *a, struct sp_span s, uint64_t *until)
{
	struct sp_span at = s;
	struct sp_rec_record d;
	bool is_next;		/* d is a record that is not in the message */
	size_t n = 0;

	*until = 0;
	while ((is_next = sp_rec_record_get(&at, &d) == SP_OK) &&
	    s.n - at.n <= MESSAGE_MAX) {
		struct sp_aside_term *t = sp_aside_term(a, d.chan);

		n = s.n - at.n;
		a->sent_us = *until = d.at_us;
		if (t != NULL && d.kind == SP_RECORD_OPEN)
			t->is_new = false;
		if (t != NULL && d.kind == SP_RECORD_CLOSE)
			t->closed_us = d.at_us;
	}
	if ((is_next && d.at_us == *until) ||
	    (a->skipped > 0 && a->skip_from_us == *until))
		*until = 0;	/* the rest of it follows, or was left out */
	return sp_span_of(s.p, n);
}

static enum sp_err
send_one(struct sp_aside *a)
{
	struct sp_span all = sp_buf_span(&a->copies);
	struct sp_msg_scribe_copy m = {0};

	m.records = one_message(a, sp_span_of(all.p, a->safe), &m.until);
	if (m.records.n == 0)
		return SP_ERR_PROTO;
	SP_TRY(sp_send_scribe_copy(&a->link, 0, &m, NULL));
	sp_buf_consume(&a->copies, m.records.n);
	a->safe -= m.records.n;
	a->allowed += (int64_t)m.records.n * ALLOW_TIMES;
	if (a->allowed > ALLOW_MOST)
		a->allowed = ALLOW_MOST;
	return SP_OK;
}

static enum sp_err
send_skipped(struct sp_relay *r)
{
	struct sp_aside *a = &r->aside;
	struct sp_msg_scribe_copy m = {.until = a->sent_us,
	    .skipped = a->skipped};

	SP_TRY(sp_send_scribe_copy(&a->link, 0, &m, NULL));
	for (size_t i = 0; i < SP_ASIDE_TERMS; i++)
		if (a->t[i].chan != 0) {
			sp_aside_gap(r, a->t[i].chan, a->skip_from_us,
			    "more came than could be read along");
			a->t[i].is_unsure = true;
		}
	a->skipped = 0;
	return SP_OK;
}

static void
send_copies(struct sp_relay *r)
{
	struct sp_aside *a = &r->aside;
	size_t waited = a->link.tx_bytes;
	enum sp_err e = sp_link_flush(&a->link);

	if (a->link.tx_bytes < waited || waited == 0)
		a->moved_us = sp_boot_us();
	if (e == SP_ERR_AGAIN)
		e = SP_OK;
	while (e == SP_OK && a->safe > 0 && a->link.tx_bytes < QUEUE_MAX)
		e = send_one(a);
	if (e == SP_OK && a->copies.len == 0 && a->skipped > 0)
		e = send_skipped(r);
	if (e != SP_OK) {
		failed(r, "it does not listen");
		return;
	}
	if (a->copies.len > 0)
		return;
	a->output = 0;
	a->has_enter = false;
	sp_buf_fini(&a->copies);
}

void
sp_aside_safe(struct sp_relay *r)
{
	struct sp_aside *a = &r->aside;

	if (a->copies.len == 0 && a->skipped == 0)
		return;
	a->safe = a->copies.len;
	if (has_link(a) && !a->is_stopping)
		send_copies(r);
	else if (may_ask(a, sp_boot_us()) && is_worth_it(a))
		ask(r);
}

/* ------------------------------------------------------------- hearing */

struct pollfd
sp_aside_poll(const struct sp_relay *r)
{
	const struct sp_aside *a = &r->aside;
	struct pollfd p = {.fd = -1, .events = POLLIN};

	if (!has_link(a))
		return p;
	p.fd = a->link.fd;
	if (sp_link_wants_write(&a->link))
		p.events |= POLLOUT;
	return p;
}

void
sp_aside_hear(struct sp_relay *r)
{
	struct sp_aside *a = &r->aside;
	const char *fault = "";
	struct sp_packet p;
	enum sp_err e = SP_OK;

	for (int i = 0; i < 16 && e == SP_OK && has_link(a); i++) {
		/* Room for one message more, and for the relay's own. */
		if (sp_rec_writer_waiting(r->w) > SP_RELAY_BATCH)
			return;
		e = sp_link_recv(&a->link, &p);
		if (e != SP_OK)
			break;
		sp_packet_close_fds(&p);
		e = sp_aside_take(r, &p, &fault);
		if (e != SP_OK) {
			failed(r, fault);
			return;
		}
	}
	if (e == SP_ERR_AGAIN || e == SP_OK)
		return;
	if (e == SP_ERR_EOF && a->is_stopping)
		left(r);
	else
		failed(r, e == SP_ERR_EOF ? "it ended" : "it broke the protocol");
}

/* ------------------------------------------------------------ the clock */

static void
stop(struct sp_relay *r, bool is_last)
{
	struct sp_aside *a = &r->aside;
	struct sp_msg_scribe_stop m = {.last = is_last};

	a->is_stopping = true;
	a->is_last |= is_last;
	a->moved_us = sp_boot_us();
	if (sp_send_scribe_stop(&a->link, 0, &m, NULL) != SP_OK)
		failed(r, "it does not listen");
}

static bool
is_stuck(const struct sp_aside *a, int64_t now)
{
	return (sp_link_wants_write(&a->link) || a->is_stopping) &&
	    now - a->moved_us >= SP_ASIDE_STUCK_US;
}

static int64_t
patience(const struct sp_aside *a)
{
	return a->is_mid_line ? SP_ASIDE_MID_US : SP_ASIDE_QUIET_US;
}

static void
live(struct sp_relay *r, int64_t now)
{
	struct sp_aside *a = &r->aside;

	if (!a->is_stopping)
		send_copies(r);
	if (!has_link(a))
		return;
	if (is_stuck(a, now))
		failed(r, "it stood still");
	else if (!a->is_stopping && a->copies.len == 0 &&
	    !sp_link_wants_write(&a->link) &&
	    now - a->last_us >= patience(a))
		stop(r, false);
}

int64_t
sp_aside_tick(struct sp_relay *r, int64_t now)
{
	struct sp_aside *a = &r->aside;

	if (a->asked_us != 0 && now - a->asked_us >= SP_ASIDE_ASKED_US)
		failed(r, "none could be started");
	if (has_link(a))
		live(r, now);
	else if (may_ask(a, now) && is_worth_it(a))
		ask(r);
	if (has_link(a))
		return (a->is_stopping || sp_link_wants_write(&a->link) ?
		    a->moved_us + SP_ASIDE_STUCK_US :
		    a->last_us + patience(a)) + 1000;
	if (a->asked_us != 0)
		return a->asked_us + SP_ASIDE_ASKED_US;
	return a->safe > 0 && is_worth_it(a) && any_term(a) &&
	    a->failures < SP_ASIDE_FAILURES ? a->not_before_us : INT64_MAX;
}

/* -------------------------------------------------------------- the end */

/* Something of a terminal stands on no record yet: what it was given, or what
 * the last one knew. */
bool
sp_aside_owes(const struct sp_relay *r)
{
	const struct sp_aside *a = &r->aside;
	bool is_any = has_link(a) || a->safe > 0;

	for (size_t i = 0; i < SP_ASIDE_TERMS; i++)
		is_any |= a->t[i].state_bytes > 0;
	return is_any && any_term(a) && !a->is_done &&
	    a->failures < SP_ASIDE_FAILURES;
}

/* The broker has one thing that is of use here; or it is in a hurry. */
static void
hear_broker(struct sp_relay *r, int64_t *until)
{
	int64_t soon = sp_boot_us() + SP_ASIDE_HURRY_US;
	struct sp_packet p;

	while (sp_link_recv(&r->link, &p) == SP_OK) {
		if (p.type == SP_MSG_rec_scribe && p.n_fds == 1)
			sp_aside_begin(r, p.fds[0]);
		else
			sp_packet_close_fds(&p);
		if (p.type == SP_MSG_rec_end && soon < *until)
			*until = soon;
	}
}

static void
last_turn(struct sp_relay *r, int64_t *until)
{
	struct sp_aside *a = &r->aside;
	struct pollfd pf[2] = {sp_aside_poll(r),
	    {.fd = r->link.fd, .events = POLLIN}};
	int64_t left_us = *until - sp_boot_us();

	if (sp_link_wants_write(&r->link))
		pf[1].events |= POLLOUT;
	if (poll(pf, 2, left_us < 0 ? 0 : (int)(left_us / 1000) + 1) < 0)
		return;
	if (sp_link_flush(&r->link) != SP_ERR_IO)
		hear_broker(r, until);
	if (!has_link(a))
		return;
	if (sp_link_flush(&a->link) == SP_OK && !a->is_stopping)
		send_copies(r);
	if (has_link(a) && !a->is_stopping && a->copies.len == 0)
		stop(r, true);
	if (has_link(a) && (pf[0].revents & ~POLLOUT) != 0)
		sp_aside_hear(r);
}

void
sp_aside_finish(struct sp_relay *r)
{
	struct sp_aside *a = &r->aside;
	int64_t now = sp_boot_us(), until = now + SP_ASIDE_LAST_US;

	if (r->code != SP_END_NORMAL && r->code != SP_END_LEG_DIED &&
	    r->code != SP_END_TARGET)
		until = now + SP_ASIDE_HURRY_US;
	while (sp_aside_owes(r) && sp_boot_us() < until) {
		if (!has_link(a) && a->asked_us == 0)
			ask(r);
		if (!has_link(a) && a->asked_us == 0)
			break;
		last_turn(r, &until);
		if (sp_rec_writer_waiting(r->w) > SP_RELAY_BATCH &&
		    sp_rec_writer_commit(r->w) != SP_OK)
			break;
	}
	for (size_t i = 0; i < SP_ASIDE_TERMS && !a->is_done; i++)
		if (a->t[i].chan != 0 && sp_aside_owes(r))
			sp_aside_gap(r, a->t[i].chan, a->t[i].sure_us,
			    "the end was not read along");
}

void
sp_aside_fini(struct sp_relay *r)
{
	struct sp_aside *a = &r->aside;

	if (has_link(a))
		hang_up(a);
	for (size_t i = 0; i < SP_ASIDE_TERMS; i++)
		sp_aside_forget(&a->t[i]);
	sp_buf_fini(&a->copies);
}
