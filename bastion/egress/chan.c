/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/egress/ahead.h"
#include "bastion/egress/egress.h"
#include "common/area.h"

#define WRITE_MAX (128u << 10)	/* in one call: libssh copies all of it */
#define TX_TURN (256u << 10)	/* between two flushes */
#define STUCK (64 << 10)
#define REC_PENDING_MAX (256u << 10)	/* waiting towards the recorder */
#define EXIT_TEXT_MAX 256

enum state {
	ST_OPENING,		/* channel open sent */
	ST_PTY,
	ST_ENV,
	ST_REQUEST,		/* shell, exec or subsystem */
	ST_LIVE,
	ST_FAILED,		/* OPEN_FAIL was sent */
	ST_CALLED,		/* the target opens it: the user's turn */
};

struct sp_chan {
	struct sp_egress *g;
	uint32_t id;
	enum state state;
	ssh_channel ch;
	struct ssh_channel_callbacks_struct cb;
	/* what was asked for; owned copies */
	struct sp_open open;
	struct sp_buf open_bytes;
	struct sp_span env_left;
	bool pty_asked;
	ssh_message call;	/* ST_CALLED: the target's request */
	/* user to target */
	struct sp_buf in;
	uint32_t in_credit;	/* granted to the user side, not yet used */
	uint32_t in_done;	/* written, not yet granted again */
	bool in_eof, in_eof_sent, user_closed;
	/* target to user */
	struct sp_area held;	/* libssh's, of its stdout */
	uint32_t out_credit;
	bool out_eof, out_eof_sent, target_closed, close_sent, target_gone;
	bool exit_known, exit_sent, exit_by_signal;
	uint32_t exit_status;
	char exit_signal[34], exit_text[EXIT_TEXT_MAX];
	uint8_t exit_core;
};

/* Only says that something is there. Writing to the other leg from here would
 * reorder data when a rekey runs (measured); nothing is consumed. */
static int
on_data(ssh_session s, ssh_channel ch, void *data, uint32_t len, int is_stderr,
    void *arg)
{
	struct sp_chan *c = arg;

	(void)s, (void)ch;
	if (is_stderr == 0)
		sp_area_saw(&c->held, data, len);
	c->g->progress = true;
	return 0;
}

static void
on_eof(ssh_session s, ssh_channel ch, void *arg)
{
	struct sp_chan *c = arg;

	(void)s, (void)ch;
	c->out_eof = true;
	c->g->progress = true;
}

static void
on_close(ssh_session s, ssh_channel ch, void *arg)
{
	struct sp_chan *c = arg;

	(void)s, (void)ch;
	c->target_closed = true;
	c->g->progress = true;
}

static void
on_exit_status(ssh_session s, ssh_channel ch, int status, void *arg)
{
	struct sp_chan *c = arg;

	(void)s, (void)ch;
	c->exit_known = true;
	c->exit_status = (uint32_t)status;
	c->g->progress = true;
}

static void
on_exit_signal(ssh_session s, ssh_channel ch, const char *signal, int core,
    const char *msg, const char *lang, void *arg)
{
	struct sp_chan *c = arg;

	(void)s, (void)ch, (void)lang;
	c->exit_known = c->exit_by_signal = true;
	snprintf(c->exit_signal, sizeof(c->exit_signal), "%s",
	    signal == NULL ? "" : signal);
	snprintf(c->exit_text, sizeof(c->exit_text), "%s", msg == NULL ? "" : msg);
	c->exit_core = core != 0;
	c->g->progress = true;
}

static bool
set_callbacks(struct sp_chan *c)
{
	c->cb.userdata = c;
	c->cb.channel_data_function = on_data;
	c->cb.channel_eof_function = on_eof;
	c->cb.channel_close_function = on_close;
	c->cb.channel_exit_status_function = on_exit_status;
	c->cb.channel_exit_signal_function = on_exit_signal;
	ssh_callbacks_init(&c->cb);
	return ssh_set_channel_callbacks(c->ch, &c->cb) == SSH_OK;
}

static struct sp_chan *
new_chan(struct sp_egress *g, uint32_t id)
{
	struct sp_chan *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->g = g;
	c->id = id;
	c->in_credit = SP_STREAM_WINDOW + SP_STREAM_SLACK;
	c->out_credit = SP_STREAM_WINDOW;
	sp_buf_init(&c->in, SP_STREAM_WINDOW + SP_STREAM_SLACK);
	sp_buf_init(&c->open_bytes, 40960);
	return c;
}

struct sp_chan *
sp_chan_new(struct sp_egress *g, uint32_t id, const struct sp_open *o)
{
	struct sp_chan *c = new_chan(g, id);

	if (c == NULL)
		return NULL;
	if (sp_open_encode(&c->open_bytes, o) != SP_OK ||
	    sp_open_decode(sp_buf_span(&c->open_bytes), &c->open) != SP_OK ||
	    (c->ch = ssh_channel_new(g->ssh)) == NULL || !set_callbacks(c)) {
		sp_chan_free(c);
		return NULL;
	}
	c->env_left = c->open.env;
	return c;
}

struct sp_chan *
sp_chan_called(struct sp_egress *g, uint32_t id, ssh_message m)
{
	struct sp_chan *c = new_chan(g, id);

	if (c == NULL)
		return NULL;
	c->state = ST_CALLED;
	c->call = m;
	return c;
}

static void
turn_away(struct sp_chan *c, struct sp_span why)
{
	if (c->call != NULL && !c->target_gone)
		sp_glass_open_failure(c->g->ssh, c->call, 1, why);
	SSH_MESSAGE_FREE(c->call);
}

void
sp_chan_free(struct sp_chan *c)
{
	if (c == NULL)
		return;
	if (c->ch != NULL) {
		/* libssh keeps a freed channel until the target closes it, and
		 * would go on calling us about it. */
		(void)ssh_remove_channel_callbacks(c->ch, &c->cb);
		ssh_channel_free(c->ch);
	}
	turn_away(c, sp_span_str(""));
	sp_buf_fini(&c->in);
	sp_buf_fini(&c->open_bytes);
	free(c);
}

uint32_t
sp_chan_id(const struct sp_chan *c)
{
	return c->id;
}

bool
sp_chan_waits_for_window(const struct sp_chan *c)
{
	return c->state != ST_LIVE ||
	    (c->in.len > 0 && ssh_channel_window_size(c->ch) == 0);
}

void
sp_chan_trim(struct sp_chan *c)
{
	if (c->in.len == 0)
		sp_buf_fini(&c->in);
	sp_area_drop(&c->held);
}

bool
sp_chan_is_stuck(const struct sp_chan *c)
{
	return c->state == ST_LIVE && c->out_credit == 0 && !c->user_closed &&
	    ssh_channel_poll(c->ch, 0) + ssh_channel_poll(c->ch, 1) >= STUCK;
}

void
sp_chan_target_gone(struct sp_chan *c)
{
	c->target_gone = c->target_closed = c->out_eof = true;
}

/* ------------------------------------------------- frames from the user */

static enum sp_err
take_credit(struct sp_chan *c, struct sp_span p)
{
	uint32_t n;

	SP_TRY(sp_get_u32(&p, &n));
	if (n > SP_STREAM_WINDOW || c->out_credit > SP_STREAM_WINDOW - n)
		return SP_ERR_PROTO;
	c->out_credit += n;
	return SP_OK;
}

static enum sp_err
take_window(struct sp_chan *c, struct sp_span p)
{
	uint32_t size[4];

	for (int i = 0; i < 4; i++)
		SP_TRY(sp_get_u32(&p, &size[i]));
	size[2] %= 100000;
	size[3] %= 100000;
	if (c->state == ST_LIVE && c->open.has_pty && size[0] <= 10000 &&
	    size[1] <= 10000)
		(void)sp_glass_resize(c->ch, size);
	return SP_OK;
}

static enum sp_err
take_signal(struct sp_chan *c, struct sp_span p)
{
	struct sp_span name;
	char text[34];

	SP_TRY(sp_get_str(&p, 32, &name));
	SP_TRY(sp_span_cstr(name, text, sizeof(text)));
	if (c->state == ST_LIVE)
		(void)ssh_channel_request_send_signal(c->ch, text);
	return SP_OK;
}

/* The user's answer to what the target opened. */
static enum sp_err
take_answer(struct sp_chan *c, const struct sp_frame *f)
{
	struct sp_span p = f->payload, why = {0};

	if (c->state != ST_CALLED)
		return SP_ERR_PROTO;
	c->g->progress = true;
	if (f->type == SP_FRAME_OPEN_OK && c->call != NULL) {
		c->ch = ssh_message_channel_request_open_reply_accept(c->call);
		SSH_MESSAGE_FREE(c->call);
	} else {
		SP_TRY(sp_get_str(&p, 1020, &why));
		turn_away(c, why);
	}
	if (c->ch != NULL && set_callbacks(c)) {
		c->state = ST_LIVE;
		return SP_OK;
	}
	c->state = ST_FAILED;
	c->close_sent = true;
	return sp_stream_put(&c->g->rec, SP_FRAME_CLOSE, 0, c->id,
	    (struct sp_span){0});
}

/* ------------------------------------------------------------- starting */

/* libssh before 0.11 says neither modes nor pixels. */
static int
ask_pty_of(struct sp_chan *c, const char *term)
{
	uint32_t size[4] = {c->open.cols % 10000, c->open.rows % 10000,
	    c->open.xpixels % 100000, c->open.ypixels % 100000};

	return sp_glass_pty(c->ch, term, size, c->open.modes, c->pty_asked);
}

static int
ask_pty(struct sp_chan *c)
{
	char term[65];
	int rc;

	if (sp_span_cstr(c->open.term, term, sizeof(term)) != SP_OK)
		return SSH_ERROR;
	rc = ask_pty_of(c, term[0] == '\0' ? "vt100" : term);
	c->pty_asked = true;
	return rc;
}

/* A name that the target does not accept is its business, not an error. */
static int
ask_env(struct sp_chan *c)
{
	struct sp_span rest = c->env_left, name, value;
	char *n, *v;
	int rc;

	if (sp_open_env_next(&rest, &name, &value) != SP_OK)
		return SSH_OK;
	n = sp_span_dup(name);
	v = sp_span_dup(value);
	rc = n == NULL || v == NULL ? SSH_ERROR :
	    ssh_channel_request_env(c->ch, n, v);
	free(n);
	free(v);
	if (rc == SSH_AGAIN)
		return SSH_AGAIN;
	c->env_left = rest;
	return rest.n > 0 ? ask_env(c) : SSH_OK;
}

static int
ask_start(struct sp_chan *c)
{
	char *cmd;
	int rc;

	if (c->open.kind == SP_OPEN_SHELL)
		return ssh_channel_request_shell(c->ch);
	if ((cmd = sp_span_dup(c->open.command)) == NULL)
		return SSH_ERROR;
	rc = c->open.kind == SP_OPEN_EXEC ?
	    ssh_channel_request_exec(c->ch, cmd) :
	    ssh_channel_request_subsystem(c->ch, cmd);
	free(cmd);
	return rc;
}

/* libssh's text: "Channel opening failure: channel 43 error (2) why". */
static struct sp_span
reason(struct sp_chan *c)
{
	const char *text = ssh_get_error(c->g->ssh);
	const char *at = text == NULL ? NULL : strstr(text, "error (");

	at = at == NULL ? NULL : strstr(at, ") ");
	return sp_span_str(at == NULL ? "" : at + 2);
}

static enum sp_err
refuse(struct sp_chan *c, const char *what)
{
	char text[900], why[300], host[300];

	sp_vis(why, sizeof(why), c->state == ST_OPENING ? reason(c) :
	    sp_span_str(""));
	if (c->open.kind == SP_OPEN_FORWARD)
		snprintf(text, sizeof(text), "the target did not connect to %s port "
		    "%u: %s", sp_vis(host, sizeof(host), c->open.host),
		    c->open.port, why[0] == '\0' ? "no reason given" : why);
	else
		snprintf(text, sizeof(text), "the target refused the %s%s%s", what,
		    why[0] == '\0' ? "" : ": ", why);
	c->state = ST_FAILED;
	c->close_sent = true;
	SP_TRY(sp_stream_put_text(&c->g->rec, SP_FRAME_OPEN_FAIL, c->id, text));
	return sp_stream_put(&c->g->rec, SP_FRAME_CLOSE, 0, c->id,
	    (struct sp_span){0});
}

static int
ask_open(struct sp_chan *c)
{
	char host[256], origin[256];
	int rc;

	if (c->open.kind == SP_OPEN_SQL)
		return SSH_ERROR;	/* a database's client at an SSH target */
	if (c->open.kind != SP_OPEN_FORWARD)
		return ssh_channel_open_session(c->ch);
	if (sp_span_cstr(c->open.host, host, sizeof(host)) != SP_OK ||
	    sp_span_cstr(c->open.origin, origin, sizeof(origin)) != SP_OK)
		return SSH_ERROR;
	rc = ssh_channel_open_forward(c->ch, host, (int)c->open.port, origin,
	    (int)c->open.origin_port);
	if (rc == SSH_OK)
		c->state = ST_REQUEST;	/* the last that is left */
	return rc;
}

static enum sp_err
start(struct sp_chan *c)
{
	static const char *const what[] = {"channel", "terminal", "environment",
	    "request"};
	int rc = SSH_OK;

	while (c->state < ST_LIVE && rc == SSH_OK) {
		enum state now = c->state;

		switch (now) {
		case ST_OPENING:
			rc = ask_open(c);
			break;
		case ST_PTY:
			rc = c->open.has_pty ? ask_pty(c) : SSH_OK;
			break;
		case ST_ENV:
			rc = ask_env(c);
			break;
		case ST_REQUEST:
			rc = ask_start(c);
			break;
		case ST_LIVE:
		case ST_FAILED:
		case ST_CALLED:
			break;
		}
		if (rc == SSH_OK) {
			c->state = (enum state)(c->state + 1);
			c->g->progress = true;
		} else if (rc == SSH_ERROR) {
			return refuse(c, what[now]);
		}
	}
	if (c->state != ST_LIVE)
		return SP_ERR_AGAIN;
	return sp_stream_put(&c->g->rec, SP_FRAME_OPEN_OK, 0, c->id,
	    (struct sp_span){0});
}

/* --------------------------------------------------------------- moving */

static enum sp_err
grant(struct sp_chan *c)
{
	uint32_t n = c->in_done;

	if (n < SP_STREAM_WINDOW / 4 && !(n > 0 && c->in.len == 0 && n >= 4096))
		return SP_OK;
	c->in_done = 0;
	c->in_credit += n;
	return sp_stream_put_u32(&c->g->rec, SP_FRAME_CREDIT, c->id, n);
}

/* As much as the target's window and libssh's buffer take now. */
static enum sp_err
write_now(struct sp_chan *c, struct sp_span s, size_t *wrote)
{
	*wrote = 0;
	while (s.n > 0 && !c->target_closed && c->g->tx_turn < TX_TURN &&
	    sp_ahead_is_writable()) {
		uint32_t room = ssh_channel_window_size(c->ch);
		int n;

		if (room > WRITE_MAX)
			room = WRITE_MAX;
		if (room > s.n)
			room = (uint32_t)s.n;
		if (room == 0)
			break;
		n = ssh_channel_write(c->ch, s.p, room);
		if (n == SSH_ERROR)
			return SP_ERR_IO;
		if (n <= 0)
			break;	/* a key exchange is on */
		s = sp_span_of(s.p + n, s.n - (size_t)n);
		*wrote += (size_t)n;
		c->in_done += (uint32_t)n;
		c->g->tx_turn += (uint32_t)n;
		c->g->progress = true;
	}
	return SP_OK;
}

static enum sp_err
to_target(struct sp_chan *c)
{
	size_t n;

	SP_TRY(write_now(c, sp_buf_span(&c->in), &n));
	sp_buf_consume(&c->in, n);
	if (c->target_closed && c->in.len > 0)
		sp_buf_reset(&c->in);
	if (c->in_eof && c->in.len == 0 && !c->in_eof_sent && !c->target_closed) {
		c->in_eof_sent = true;
		(void)ssh_channel_send_eof(c->ch);
		c->g->progress = true;
	}
	return c->in_eof ? SP_OK : grant(c);
}

/* The lane is 1 for stdout, 2 for stderr; *dry: there was no more. */
static enum sp_err
from_lane(struct sp_chan *c, uint8_t lane, bool *dry)
{
	struct sp_stream *to = &c->g->rec;

	*dry = false;
	while (c->out_credit > 0 && sp_stream_pending(to) < REC_PENDING_MAX) {
		int have = ssh_channel_poll(c->ch, lane == 2), n;
		uint32_t want = c->out_credit < SP_FRAME_PAYLOAD_MAX ?
		    c->out_credit : SP_FRAME_PAYLOAD_MAX;
		uint8_t *at;

		if (have == 0 && lane == 1)
			sp_area_emptied(&c->held);
		if (have <= 0) {
			*dry = true;
			return SP_OK;
		}
		if ((uint32_t)have < want)
			want = (uint32_t)have;
		SP_TRY(sp_stream_data_begin(to, want, &at));
		n = ssh_channel_read_nonblocking(c->ch, at, want, lane == 2);
		if (n <= 0) {
			*dry = true;
			return SP_OK;
		}
		sp_stream_data_end(to, lane, c->id, (size_t)n);
		c->out_credit -= (uint32_t)n;
		c->g->progress = true;
	}
	return SP_OK;
}

static enum sp_err
tell_exit(struct sp_chan *c)
{
	SP_BUF_AUTO b = {.max = 600};

	c->exit_sent = true;
	if (!c->exit_by_signal)
		return sp_stream_put_u32(&c->g->rec, SP_FRAME_EXIT_STATUS, c->id,
		    c->exit_status);
	SP_TRY(sp_buf_put_bytes(&b, sp_span_str(c->exit_signal)));
	SP_TRY(sp_buf_put_u8(&b, c->exit_core));
	SP_TRY(sp_buf_put_bytes(&b, sp_span_str(c->exit_text)));
	return sp_stream_put(&c->g->rec, SP_FRAME_EXIT_SIGNAL, 0, c->id,
	    sp_buf_span(&b));
}

static enum sp_err
to_user(struct sp_chan *c)
{
	/* Every look into libssh may take further packets: an end that was seen
	 * before the last look stands behind all data, a later one may not. */
	bool has_exit = c->exit_known, eof = c->out_eof, closed = c->target_closed;
	bool dry_out, dry_err;

	if (c->user_closed) {	/* nobody listens: drain, so that nothing hangs */
		c->out_credit = SP_STREAM_WINDOW;
		dry_out = dry_err = true;
	} else {
		SP_TRY(from_lane(c, 1, &dry_out));
		SP_TRY(from_lane(c, 2, &dry_err));
	}
	if (!dry_out || !dry_err ||
	    (ssh_channel_poll(c->ch, 0) > 0 && !c->user_closed) ||
	    (ssh_channel_poll(c->ch, 1) > 0 && !c->user_closed))
		return SP_OK;
	if (eof != c->out_eof || closed != c->target_closed ||
	    has_exit != c->exit_known)
		c->g->progress = true;	/* once more, now with that in mind */
	if (has_exit && !c->exit_sent)
		SP_TRY(tell_exit(c));
	if ((eof || closed) && !c->out_eof_sent) {
		c->out_eof_sent = true;
		SP_TRY(sp_stream_put(&c->g->rec, SP_FRAME_EOF, 0, c->id,
		    (struct sp_span){0}));
	}
	if ((closed || c->user_closed) && !c->close_sent) {
		c->close_sent = true;
		SP_TRY(sp_stream_put(&c->g->rec, SP_FRAME_CLOSE, 0, c->id,
		    (struct sp_span){0}));
	}
	return SP_OK;
}

/* Most of the time nothing waits: one copy less. */
static enum sp_err
take_data(struct sp_chan *c, struct sp_span p)
{
	size_t n = 0;

	if (p.n > c->in_credit || c->in_eof)
		return SP_ERR_PROTO;
	c->in_credit -= (uint32_t)p.n;
	if (c->state == ST_LIVE && c->in.len == 0)
		SP_TRY(write_now(c, p, &n));
	return sp_buf_put(&c->in, p.p + n, p.n - n);
}

enum sp_err
sp_chan_frame(struct sp_chan *c, const struct sp_frame *f)
{
	struct sp_span p = f->payload;
	uint32_t ms;

	if (c->user_closed)
		return SP_ERR_PROTO;
	switch (f->type) {
	case SP_FRAME_DATA:
		return take_data(c, p);
	case SP_FRAME_CREDIT:
		return take_credit(c, p);
	case SP_FRAME_EOF:
		c->in_eof = true;
		return SP_OK;
	case SP_FRAME_WINDOW:
		return take_window(c, p);
	case SP_FRAME_SIGNAL:
		return take_signal(c, p);
	case SP_FRAME_BREAK:
		SP_TRY(sp_get_u32(&p, &ms));
		if (c->state == ST_LIVE)
			(void)ssh_channel_request_send_break(c->ch, ms);
		return SP_OK;
	case SP_FRAME_CLOSE:
		c->user_closed = c->in_eof = true;
		return SP_OK;
	case SP_FRAME_OPEN_OK:
	case SP_FRAME_OPEN_FAIL:
		return take_answer(c, f);
	default:
		return SP_ERR_PROTO;
	}
}

enum sp_err
sp_chan_step(struct sp_chan *c)
{
	enum sp_err e;

	if (c->state < ST_LIVE && c->target_gone)
		SP_TRY(refuse(c, "connection"));
	if (c->state < ST_LIVE) {
		if (c->user_closed) {
			c->state = ST_FAILED;
			c->close_sent = true;
			SP_TRY(sp_stream_put(&c->g->rec, SP_FRAME_CLOSE, 0,
			    c->id, (struct sp_span){0}));
		} else {
			e = start(c);
			if (e != SP_OK)
				return e == SP_ERR_AGAIN ? SP_OK : e;
		}
	}
	if (c->state == ST_CALLED && c->target_gone) {
		c->state = ST_FAILED;
		c->close_sent = true;
		SP_TRY(sp_stream_put(&c->g->rec, SP_FRAME_CLOSE, 0, c->id,
		    (struct sp_span){0}));
	}
	if (c->state == ST_FAILED || c->state == ST_CALLED)
		return c->user_closed && c->state == ST_FAILED ? SP_ERR_EOF : SP_OK;
	SP_TRY(to_target(c));
	if (c->user_closed && !c->target_closed && c->in.len == 0)
		(void)ssh_channel_close(c->ch);
	SP_TRY(to_user(c));
	return c->user_closed && c->close_sent && c->in.len == 0 ? SP_ERR_EOF :
	    SP_OK;
}
