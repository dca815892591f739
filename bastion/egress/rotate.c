/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bastion/egress/rotate.h"
#include "bastion/egress/tap.h"

/*
 * Instead of the relay: one of our own programs at the target, which sets a
 * secret there. Its name comes from the user's side, by way of the recorder; its
 * command is rotate_prog.c's, the secrets are the vault's, and each goes only
 * where the recorded SECRET frame says that it goes. As in the relay nothing is
 * written from a libssh callback.
 */
#define VAULT_WAIT_MS 2000
#define START_MS 20000		/* for each of the target's answers */
#define PIECE 8192
#define OUT_MAX (1u << 20)	/* of one program, more is not its business */

static struct rotation rot;

/* ---------------------------------------------------------- from the vault */

static enum sp_err
one_secret(struct sp_span *from, uint8_t *to, size_t *n)
{
	struct sp_span s;

	SP_TRY(sp_get_bytes(from, ROT_SECRET_MAX, &s));
	if (s.n > 0)
		memcpy(to, s.p, s.n);
	*n = s.n;
	return SP_OK;
}

static enum sp_err
take_fd(int fd, size_t len)
{
	uint8_t all[2 * ROT_SECRET_MAX + 8];
	struct sp_span s;
	enum sp_err e = SP_ERR_IO;

	if (len <= sizeof(all) && pread(fd, all, len, 0) == (ssize_t)len) {
		s = sp_span_of(all, len);
		e = one_secret(&s, rot.old, &rot.n_old);
		if (e == SP_OK)
			e = one_secret(&s, rot.new, &rot.n_new);
		if (e == SP_OK && (s.n != 0 || rot.n_new == 0))
			e = SP_ERR_PROTO;
	}
	explicit_bzero(all, sizeof(all));
	return e;
}

enum sp_err
sp_rotate_receive(struct sp_egress *g)
{
	struct sp_msg_take_rotation q;
	struct sp_msg_rotation m;
	struct sp_packet p;
	enum sp_err e;

	SP_TRY(sp_tap_session_id(&q.session_id));
	SP_TRY(sp_send_take_rotation(&g->vault, 0, &q, NULL));
	SP_TRY(sp_link_wait(&g->vault, &p, VAULT_WAIT_MS));
	if (p.type != SP_MSG_rotation || sp_dec_rotation(p.body, &m) != SP_OK) {
		sp_packet_close_fds(&p);
		return SP_ERR_DENIED;
	}
	e = sp_span_cstr(m.account, rot.account, sizeof(rot.account));
	if (e == SP_OK)
		e = take_fd(p.fds[0], m.len);
	rot.kind = m.kind;
	memcpy(rot.old_tag, m.old_tag, 32);
	memcpy(rot.new_tag, m.new_tag, 32);
	close(p.fds[0]);
	return e;
}

/* ------------------------------------------------------------- the channel */

static enum sp_err
frame(struct sp_egress *g, uint8_t type, struct sp_span payload)
{
	return sp_stream_put(&g->rec, type, 0, rot.chan, payload);
}

static enum sp_err
wants(struct sp_egress *g, uint8_t which)
{
	rot.wanted = which;
	return frame(g, SP_FRAME_WANTS, sp_span_of(&which, 1));
}

static enum sp_err
close_up(struct sp_egress *g)
{
	if (rot.is_closed)
		return SP_OK;
	rot.is_closed = true;
	return frame(g, SP_FRAME_CLOSE, (struct sp_span){0});
}

static enum sp_err
refuse(struct sp_egress *g, const char *what)
{
	char text[200];

	snprintf(text, sizeof(text), "the target refused the %s", what);
	SP_TRY(sp_stream_put_text(&g->rec, SP_FRAME_OPEN_FAIL, rot.chan, text));
	return close_up(g);
}

/* Waits for the target and asks again, until it has answered. */
#define ASK(rc, call)                                                         \
	do {                                                                  \
		int64_t end_ = sp_boot_us() + (int64_t)START_MS * 1000;       \
                                                                              \
		while (((rc) = (call)) == SSH_AGAIN)                          \
			SP_TRY(sp_egress_wait(g, end_));                      \
	} while (0)

static enum sp_err
start(struct sp_egress *g)
{
	static const uint32_t size[4] = {132, 24, 0, 0};
	/* ECHO off (RFC 4254, 8: opcode 53), before there is anything to echo. */
	static const uint8_t quiet[] = {53, 0, 0, 0, 0, 0};
	bool again = false;
	int rc;

	if ((rot.ch = ssh_channel_new(g->ssh)) == NULL)
		return SP_ERR_NOMEM;
	ASK(rc, ssh_channel_open_session(rot.ch));
	if (rc != SSH_OK)
		return refuse(g, "channel");
	if (rot.prog->has_pty) {
		int64_t end = sp_boot_us() + (int64_t)START_MS * 1000;

		while ((rc = sp_glass_pty(rot.ch, "dumb", size, sp_span_of(quiet,
		    sizeof(quiet)), again)) == SSH_AGAIN) {
			again = true;
			SP_TRY(sp_egress_wait(g, end));
		}
		if (rc != SSH_OK)
			return refuse(g, "terminal");
	}
	ASK(rc, ssh_channel_request_exec(rot.ch, rot.prog->command));
	if (rc != SSH_OK)
		return refuse(g, "request");
	rot.is_live = true;
	SP_TRY(frame(g, SP_FRAME_OPEN_OK, (struct sp_span){0}));
	return rot.prog->prompts ? SP_OK : wants(g, SP_WHICH_NEW);
}

/* All of it, whatever the window; nothing else goes to the target. */
static enum sp_err
type(struct sp_egress *g, struct sp_span s)
{
	int64_t end = sp_boot_us() + (int64_t)START_MS * 1000;

	while (s.n > 0) {
		int n = ssh_channel_write(rot.ch, s.p, (uint32_t)s.n);

		if (n < 0)
			return SP_ERR_IO;
		s = sp_span_of(s.p + n, s.n - (size_t)n);
		if (s.n == 0)
			break;
		SP_TRY(sp_egress_wait(g, end));
		if (ssh_event_dopoll(g->event, 0) == SSH_ERROR)
			return SP_ERR_IO;
	}
	return SP_OK;
}

/* What stands for it goes to the recording first, then it is typed. */
static enum sp_err
give(struct sp_egress *g, uint8_t which)
{
	bool is_new = which == SP_WHICH_NEW;
	SP_BUF_AUTO line = {.max = 4 * ROT_SECRET_MAX + 4096}, said = {.max = 64};
	enum sp_err e;

	if (!rot.is_live || rot.wanted != which)
		return SP_ERR_PROTO;
	rot.wanted = 0;
	SP_TRY(sp_buf_put_u8(&said, which));
	SP_TRY(sp_buf_put_u32(&said, (uint32_t)(is_new ? rot.n_new : rot.n_old)));
	SP_TRY(sp_buf_put(&said, is_new ? rot.new_tag : rot.old_tag, 32));
	SP_TRY(frame(g, SP_FRAME_SECRET, sp_buf_span(&said)));
	e = rot_input(&rot, which, &line);
	if (e == SP_OK)
		e = type(g, sp_buf_span(&line));
	if (e == SP_OK && !rot.prog->prompts)
		(void)ssh_channel_send_eof(rot.ch);
	g->progress = true;
	return e;	/* the buffer is wiped as it is freed */
}

/* ------------------------------------------------------- frames of the user */

static enum sp_err
open_program(struct sp_egress *g, const struct sp_frame *f)
{
	struct sp_open o;

	SP_TRY(sp_open_decode(f->payload, &o));
	if (o.kind != SP_OPEN_ROTATE || rot.chan != 0 || f->chan == 0)
		return SP_ERR_PROTO;
	rot.chan = f->chan;
	rot.credit = SP_STREAM_WINDOW;
	rot.prog = rot_program(o.command);
	if (rot.prog == NULL || rot.prog->kind != rot.kind ||
	    (rot.prog->needs_old && rot.n_old == 0))
		return refuse(g, "program: it is none of ours");
	return start(g);
}

static enum sp_err
take_frame(struct sp_egress *g, const struct sp_frame *f)
{
	struct sp_span p = f->payload;
	uint32_t n = 0;

	if (f->type == SP_FRAME_END) {
		g->over = true;
		return SP_OK;
	}
	if (f->type == SP_FRAME_OPEN)
		return open_program(g, f);
	if (rot.chan == 0 || f->chan != rot.chan || rot.user_closed)
		return SP_ERR_PROTO;
	switch (f->type) {
	case SP_FRAME_CREDIT:
		SP_TRY(sp_get_u32(&p, &n));
		if (n > SP_STREAM_WINDOW || rot.credit > SP_STREAM_WINDOW - n)
			return SP_ERR_PROTO;
		rot.credit += n;
		return SP_OK;
	case SP_FRAME_SECRET:
		return p.n == 1 ? give(g, p.p[0]) : SP_ERR_PROTO;
	case SP_FRAME_CLOSE:
		rot.user_closed = true;
		if (rot.ch != NULL)
			(void)ssh_channel_close(rot.ch);
		return close_up(g);
	default:
		return SP_ERR_PROTO;
	}
}

static enum sp_err
take_frames(struct sp_egress *g)
{
	enum sp_err e = sp_stream_fill(&g->rec);
	struct sp_frame f;

	if (e == SP_ERR_EOF)
		g->over = true;
	else if (e != SP_OK && e != SP_ERR_AGAIN)
		return e;
	while (!g->over && (e = sp_stream_next(&g->rec, &f)) == SP_OK) {
		g->progress = true;
		SP_TRY(take_frame(g, &f));
	}
	return e == SP_ERR_AGAIN || g->over ? SP_OK : e;
}

/* ------------------------------------------------------- what the target says */

static enum sp_err
said(struct sp_egress *g, uint8_t lane, struct sp_span s)
{
	if (s.n > rot.credit || (rot.n_out += s.n) > OUT_MAX)
		return SP_ERR_TOOBIG;
	rot.credit -= (uint32_t)s.n;
	return s.n == 0 ? SP_OK : sp_stream_put(&g->rec, SP_FRAME_DATA, lane,
	    rot.chan, s);
}

static enum sp_err
read_lane(struct sp_egress *g, uint8_t lane, bool at_end)
{
	struct sp_buf *held = &rot.held[lane - 1];
	uint8_t in[PIECE];
	int n;

	while ((n = ssh_channel_read_nonblocking(rot.ch, in, sizeof(in),
	    lane == 2)) > 0) {
		g->progress = true;
		SP_TRY(sp_buf_put(held, in, (size_t)n));
		rot_mask(&rot, held, false);
		n = (int)(held->len - rot_held(&rot, sp_buf_span(held)));
		if (lane == 1)
			rot_line(&rot, sp_span_of(sp_buf_span(held).p, (size_t)n));
		SP_TRY(said(g, lane, sp_span_of(sp_buf_span(held).p, (size_t)n)));
		sp_buf_consume(held, (size_t)n);
	}
	if (!at_end)
		return SP_OK;
	rot_mask(&rot, held, true);
	SP_TRY(said(g, lane, sp_buf_span(held)));
	sp_buf_reset(held);
	return SP_OK;
}

static bool
is_gone(struct sp_egress *g)
{
	return ssh_is_connected(g->ssh) == 0 ||
	    (ssh_get_status(g->ssh) & (SSH_CLOSED | SSH_CLOSED_ERROR)) != 0;
}

static enum sp_err
ended(struct sp_egress *g)
{
	int status = ssh_channel_get_exit_status(rot.ch);

	SP_TRY(read_lane(g, 1, true));
	SP_TRY(read_lane(g, 2, true));
	if (status >= 0)
		SP_TRY(sp_stream_put_u32(&g->rec, SP_FRAME_EXIT_STATUS, rot.chan,
		    (uint32_t)status));
	SP_TRY(frame(g, SP_FRAME_EOF, (struct sp_span){0}));
	(void)ssh_channel_close(rot.ch);
	return close_up(g);
}

static enum sp_err
hear_target(struct sp_egress *g)
{
	uint8_t which;

	if (!rot.is_live || rot.is_closed)
		return SP_OK;
	SP_TRY(read_lane(g, 1, false));
	SP_TRY(read_lane(g, 2, false));
	if (is_gone(g) || ssh_channel_is_closed(rot.ch) != 0)
		return ended(g);
	if (rot.wanted == 0 && rot.prog->prompts &&
	    (which = rot_prompt(&rot, sp_buf_span(&rot.held[0]))) != 0) {
		if (which == ROT_AGAIN)
			return ended(g);	/* it was refused; say no more */
		return wants(g, which);
	}
	return SP_OK;
}

/* ------------------------------------------------------------------ the loop */

static enum sp_err
sleep_until_ready(struct sp_egress *g)
{
	struct pollfd pf[3] = {{.fd = g->rec.fd, .events = POLLIN},
	    {.fd = g->tcp, .events = POLLIN}, {.fd = g->broker.fd,
	    .events = POLLIN}};

	if (sp_stream_pending(&g->rec) > 0)
		pf[0].events |= POLLOUT;
	if ((ssh_get_poll_flags(g->ssh) & SSH_WRITE_PENDING) != 0)
		pf[1].events |= POLLOUT;
	if (is_gone(g))
		pf[1].fd = -1;
	if (poll(pf, 3, -1) < 0 && errno != EINTR)
		return SP_ERR_IO;
	if (pf[2].revents != 0)
		return SP_ERR_EOF;	/* the broker has nothing to say but its end */
	if (pf[1].revents != 0 && ssh_event_dopoll(g->event, 0) == SSH_ERROR &&
	    !is_gone(g))
		return SP_ERR_IO;
	return SP_OK;
}

static enum sp_err
turn(struct sp_egress *g)
{
	enum sp_err e;

	g->progress = false;
	SP_TRY(take_frames(g));
	SP_TRY(hear_target(g));
	e = sp_stream_flush(&g->rec);
	if (e == SP_ERR_EOF)
		g->over = true;
	else if (e != SP_OK && e != SP_ERR_AGAIN)
		return e;
	return g->progress || g->over ? SP_OK : sleep_until_ready(g);
}

int
sp_rotate_relay(struct sp_egress *g)
{
	enum sp_err e = SP_OK;

	sp_buf_init(&rot.held[0], 2 * OUT_MAX);
	sp_buf_init(&rot.held[1], 2 * OUT_MAX);
	if ((g->event = ssh_event_new()) == NULL ||
	    ssh_event_add_session(g->event, g->ssh) != SSH_OK)
		return 1;
	while (e == SP_OK && !g->over)
		e = turn(g);
	explicit_bzero(&rot, sizeof(rot));
	if (!is_gone(g))
		ssh_disconnect(g->ssh);
	return e == SP_OK || e == SP_ERR_EOF ? 0 : e == SP_ERR_PROTO ? 3 : 2;
}
