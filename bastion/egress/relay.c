/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "bastion/egress/ahead.h"
#include "bastion/egress/egress.h"
#include "common/area.h"

/*
 * Pull style: nothing is written from a libssh callback. A pass moves what can
 * be moved until nothing moves any more, and only then sleeps: libssh's own
 * calls run its packet machine, so data can appear behind any of them.
 */
#define PAUSE_BYTES (256u << 10) /* waiting towards the recorder: stop reading */
#define FLUSH_MS 1000
#define QUIET_US INT64_C(2000000)	/* then large buffers are given back */

static struct sp_chan *
find(struct sp_egress *g, uint32_t id, size_t *slot)
{
	for (size_t i = 0; i < SP_EGRESS_CHANS; i++)
		if (g->chans[i] != NULL && sp_chan_id(g->chans[i]) == id) {
			*slot = i;
			return g->chans[i];
		}
	return NULL;
}

static enum sp_err
open_channel(struct sp_egress *g, const struct sp_frame *f)
{
	struct sp_open o;
	size_t slot;

	if (f->chan == 0 || find(g, f->chan, &slot) != NULL)
		return SP_ERR_PROTO;
	SP_TRY(sp_open_decode(f->payload, &o));
	if (o.kind == SP_OPEN_ROTATE)
		return SP_ERR_PROTO;	/* rotate.c's alone */
	for (slot = 0; slot < SP_EGRESS_CHANS; slot++)
		if (g->chans[slot] == NULL)
			break;
	if (slot == SP_EGRESS_CHANS) {
		SP_TRY(sp_stream_put_text(&g->rec, SP_FRAME_OPEN_FAIL, f->chan,
		    "there are too many channels"));
		return sp_stream_put(&g->rec, SP_FRAME_CLOSE, 0, f->chan,
		    (struct sp_span){0});
	}
	g->chans[slot] = sp_chan_new(g, f->chan, &o);
	return g->chans[slot] == NULL ? SP_ERR_NOMEM : SP_OK;
}

static enum sp_err
take_frame(struct sp_egress *g, const struct sp_frame *f)
{
	struct sp_chan *c;
	size_t slot;

	if (f->type == SP_FRAME_END) {
		g->over = true;
		return SP_OK;
	}
	if ((f->type == SP_FRAME_OPEN || f->type == SP_FRAME_LISTEN) &&
	    f->chan > g->last)
		g->last = f->chan;
	if (f->type == SP_FRAME_OPEN)
		return open_channel(g, f);
	if (f->type == SP_FRAME_LISTEN || f->type == SP_FRAME_UNLISTEN)
		return sp_listen_frame(g, f);
	/* It may be over here while this was on its way. */
	if ((c = find(g, f->chan, &slot)) == NULL)
		return f->chan <= ((f->chan & SP_STREAM_REVERSE) == 0 ? g->last :
		    SP_STREAM_REVERSE + g->listens.last) ? SP_OK : SP_ERR_PROTO;
	return sp_chan_frame(c, f);
}

static enum sp_err
take_frames(struct sp_egress *g)
{
	enum sp_err e = sp_stream_fill(&g->rec);
	struct sp_frame f;

	if (e == SP_ERR_EOF)
		g->over = true;
	else if (e == SP_ERR_AGAIN)
		g->rec_ready = false;
	else if (e != SP_OK)
		return e;
	while ((e = sp_stream_next(&g->rec, &f)) == SP_OK) {
		g->progress = true;
		if ((e = take_frame(g, &f)) != SP_OK)
			return e;
	}
	return e == SP_ERR_AGAIN ? SP_OK : e;
}

static enum sp_err
step_channels(struct sp_egress *g)
{
	for (size_t i = 0; i < SP_EGRESS_CHANS; i++) {
		enum sp_err e;

		if (g->chans[i] == NULL)
			continue;
		e = sp_chan_step(g->chans[i]);
		if (e == SP_ERR_EOF) {
			sp_chan_free(g->chans[i]);
			g->chans[i] = NULL;
			g->progress = true;
		} else if (e != SP_OK) {
			return e;
		}
	}
	return SP_OK;
}

/* libssh's buffer of a channel that nobody empties grows to its window, and
 * each packet moves all of it: so nothing is read while the way out is blocked,
 * unless the other way waits for a window that only reading brings. */
static bool
may_read_target(const struct sp_egress *g)
{
	bool full = sp_stream_pending(&g->rec) >= PAUSE_BYTES;

	for (size_t i = 0; i < SP_EGRESS_CHANS && !full; i++)
		full = g->chans[i] != NULL && sp_chan_is_stuck(g->chans[i]);
	for (size_t i = 0; i < SP_EGRESS_CHANS && full; i++)
		full = g->chans[i] == NULL ||
		    !sp_chan_waits_for_window(g->chans[i]);
	return !full;
}

static bool
target_is_gone(struct sp_egress *g)
{
	return ssh_is_connected(g->ssh) == 0 ||
	    (ssh_get_status(g->ssh) & (SSH_CLOSED | SSH_CLOSED_ERROR)) != 0;
}

/* Gives libssh what was read ahead, a piece a time. */
static enum sp_err
read_target(struct sp_egress *g)
{
	enum sp_err e = SP_OK;

	if (g->tcp_ready) {
		sp_ahead_fill();
		/* Less than fits: there was no more. */
		g->tcp_ready = sp_ahead_is_full();
	}
	sp_ahead_may_read(true);
	while (e == SP_OK && sp_ahead_has_input() && !target_is_gone(g)) {
		size_t before = sp_ahead_waiting();

		if (ssh_event_dopoll(g->event, 0) == SSH_ERROR &&
		    !target_is_gone(g))
			e = SP_ERR_IO;
		if (sp_ahead_waiting() == before)
			break;
		g->progress = true;
	}
	sp_ahead_may_read(false);
	return e;
}

/* Sends what libssh has gathered in this pass. */
static void
write_target(struct sp_egress *g)
{
	uint64_t before = sp_ahead_sent();

	g->tx_turn = 0;
	if (!sp_ahead_is_writable() || target_is_gone(g) ||
	    (ssh_get_status(g->ssh) & SSH_WRITE_PENDING) == 0)
		return;
	sp_ahead_may_write(true);
	(void)ssh_blocking_flush(g->ssh, 0);	/* an end is seen by who asks */
	sp_ahead_may_write(false);
	g->progress |= sp_ahead_sent() != before;
}

/* One pass over everything; g->progress says whether something moved. */
static enum sp_err
pass(struct sp_egress *g)
{
	enum sp_err e;

	g->progress = false;
	if (g->rec_ready && !g->over)
		SP_TRY(take_frames(g));
	if (!target_is_gone(g) && may_read_target(g))
		SP_TRY(read_target(g));
	SP_TRY(sp_listen_step(g));
	SP_TRY(step_channels(g));
	write_target(g);
	e = sp_stream_flush(&g->rec);
	if (e == SP_ERR_EOF)
		g->over = true;
	else if (e != SP_OK && e != SP_ERR_AGAIN)
		return e;
	return SP_OK;
}

static void
hear_broker(struct sp_egress *g)
{
	struct sp_packet p;
	/* The broker has nothing to say to us now: its end, or an attack;
	 * either way the recorder decides what follows. */
	enum sp_err e = sp_link_recv(&g->broker, &p);

	if (e == SP_OK)
		sp_packet_close_fds(&p);
	if (e != SP_ERR_AGAIN)
		sp_link_fini(&g->broker);
}

/* Nobody says anything: an idle session should cost little memory. */
static void
rest(struct sp_egress *g, bool heard)
{
	int64_t now = sp_boot_us();

	if (heard)
		g->quiet_us = now + QUIET_US;
	if (heard || g->quiet_us == 0 || now < g->quiet_us)
		return;
	g->quiet_us = 0;
	sp_stream_trim(&g->rec);
	for (size_t i = 0; i < SP_STREAM_CHANNELS_MAX; i++)
		if (g->chans[i] != NULL)
			sp_chan_trim(g->chans[i]);
	if ((ssh_get_status(g->ssh) & SSH_WRITE_PENDING) == 0)
		sp_ahead_trim();
	malloc_trim(0);
	sp_stack_drop();
}

static int
wait_ms(const struct sp_egress *g)
{
	int64_t next = g->alive.every_us == 0 ? INT64_MAX : g->alive.next_us;
	int64_t left;

	if (g->quiet_us != 0 && g->quiet_us < next)
		next = g->quiet_us;
	if (next == INT64_MAX)
		return -1;
	left = next - sp_boot_us();
	return left <= 0 ? 0 : left > 600000000 ? 600000 :
	    (int)(left / 1000) + 1;
}

static enum sp_err
wait_any(struct sp_egress *g)
{
	struct pollfd pf[3] = {{.fd = g->rec.fd, .events = POLLIN},
	    {.fd = g->tcp, .events = 0}, {.fd = g->broker.fd, .events = POLLIN}};
	int n;

	if (sp_stream_pending(&g->rec) > 0)
		pf[0].events |= POLLOUT;
	if (may_read_target(g))
		pf[1].events |= POLLIN;
	if (!sp_ahead_is_writable())
		pf[1].events |= POLLOUT;
	sp_egress_ack_at_once(g);
	if (pf[1].events == 0)
		pf[1].fd = -1;	/* a hang-up must not spin while we pause */
	n = poll(pf, 3, wait_ms(g));
	if (n < 0 && errno != EINTR)
		return SP_ERR_IO;
	rest(g, n > 0);
	g->rec_ready |= (pf[0].revents & ~POLLOUT) != 0;
	g->tcp_ready |= (pf[1].revents & ~POLLOUT) != 0;
	if ((pf[1].revents & (POLLOUT | POLLERR | POLLHUP)) != 0)
		sp_ahead_set_writable();
	if (pf[2].revents != 0)
		hear_broker(g);
	return SP_OK;
}

/* The target went away: what it sent before is still owed to the user. */
static int
finish(struct sp_egress *g)
{
	int64_t end = sp_boot_us() + FLUSH_MS * 1000;

	for (size_t i = 0; i < SP_EGRESS_CHANS; i++)
		if (g->chans[i] != NULL)
			sp_chan_target_gone(g->chans[i]);
	while (!g->over && sp_boot_us() < end) {
		struct pollfd pf = {.fd = g->rec.fd, .events = POLLIN};
		bool open = false;

		g->rec_ready = true;
		if (pass(g) != SP_OK)
			break;
		for (size_t i = 0; i < SP_EGRESS_CHANS; i++)
			open |= g->chans[i] != NULL;
		if (!open && sp_stream_pending(&g->rec) == 0)
			break;
		if (g->progress)
			continue;
		if (sp_stream_pending(&g->rec) > 0)
			pf.events |= POLLOUT;
		if (poll(&pf, 1, 100) < 0 && errno != EINTR)
			break;
	}
	return 0;
}

static void
begin(struct sp_egress *g)
{
	sp_listen_init(g);
	g->alive.every_us = (int64_t)g->cfg->alive_s * 1000000;
	g->alive.tries = (unsigned)g->cfg->alive_tries;
}

int
sp_egress_relay(struct sp_egress *g)
{
	const int room = 1 << 20;	/* a limit: an idle one holds nothing */
	enum sp_err e = SP_OK;

	if ((g->event = ssh_event_new()) == NULL ||
	    ssh_event_add_session(g->event, g->ssh) != SSH_OK)
		return 1;
	(void)!setsockopt(g->rec.fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	sp_ahead_begin(g->tcp);
	g->rec_ready = g->tcp_ready = true;
	begin(g);
	while (!g->over && !target_is_gone(g)) {
		if ((e = sp_listen_alive(g, may_read_target(g))) != SP_OK) {
			sp_log(SP_INFO, "target_silent", g->session, "");
			break;
		}
		if ((e = pass(g)) != SP_OK)
			break;
		if (!g->progress && (e = wait_any(g)) != SP_OK)
			break;
	}
	if (e == SP_ERR_PROTO) {
		sp_log(SP_ERROR, "stream_fault", g->session, "fault=\"%s\"",
		    g->rec.fault);
		return 3;
	}
	if (!g->over)
		(void)finish(g);
	if (!target_is_gone(g)) {
		/* libssh sends at once only what it knows to be writable. */
		sp_ahead_may_write(true);
		(void)ssh_event_dopoll(g->event, 0);
		ssh_disconnect(g->ssh);
	}
	sp_ahead_end();
	return e == SP_OK ? 0 : 1;
}
