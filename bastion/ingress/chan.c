/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/ingress/front.h"

#define ENV_MAX 3072
#define ENV_PAIRS_MAX 32
#define COMMAND_MAX 32768
#define SIZE_MAX_CELLS 65535

/* ------------------------------------------------- what libssh calls: flags
 * only. Nothing is consumed and nothing is answered from inside libssh. */

static int
on_data(ssh_session s, ssh_channel c, void *at, uint32_t n, int is_stderr,
    void *arg)
{
	struct sp_chan *ch = arg;

	(void)s;
	(void)c;
	/* A client has no business on stderr: read as nothing, never sent on. */
	if (is_stderr != 0)
		return (int)n;
	sp_area_saw(&ch->held, at, n);
	ch->has_data = true;
	return 0;
}

static void
on_eof(ssh_session s, ssh_channel c, void *arg)
{
	(void)s;
	(void)c;
	((struct sp_chan *)arg)->eof_seen = true;
}

static void
on_close(ssh_session s, ssh_channel c, void *arg)
{
	struct sp_chan *ch = arg;

	(void)s;
	(void)c;
	ch->eof_seen = ch->client_closed = true;
}

static void
on_signal(ssh_session s, ssh_channel c, const char *name, void *arg)
{
	struct sp_chan *ch = arg;
	SP_BUF_AUTO b = {.max = 64};
	struct sp_span n = sp_span_str(name);

	(void)s;
	(void)c;
	if (ch->leg == NULL || ch->state != SP_CHAN_LIVE || n.n == 0 ||
	    n.n > 32 || !sp_utf8_is_valid(n) || sp_buf_put_bytes(&b, n) != SP_OK)
		return;
	if (sp_stream_put(&ch->leg->s, SP_FRAME_SIGNAL, 0, ch->id,
	    sp_buf_span(&b)) != SP_OK)
		ch->leg->over = true;
}

/* ---------------------------------------------------------------- channels */

struct sp_chan *
sp_chan_new(struct sp_ctx *x)
{
	struct sp_chan *ch;

	if (x->n_chans >= SP_CHANS_MAX || (ch = calloc(1, sizeof(*ch))) == NULL)
		return NULL;
	ch->ctx = x;
	ch->next_fd = -1;
	ch->gen = 1;
	sp_buf_init(&ch->env, ENV_MAX);
	sp_buf_init(&ch->command, COMMAND_MAX);
	sp_buf_init(&ch->modes, SP_MODES_MAX);
	sp_buf_init(&ch->q, 2 * SP_STREAM_WINDOW + SP_STREAM_SLACK + (256u << 10));
	ch->next = x->chans;
	x->chans = ch;
	x->n_chans++;
	return ch;
}

void
sp_chan_watch(struct sp_chan *ch)
{
	ch->cb = (struct ssh_channel_callbacks_struct){.userdata = ch,
	    .channel_data_function = on_data, .channel_eof_function = on_eof,
	    .channel_close_function = on_close,
	    .channel_signal_function = on_signal};
	ssh_callbacks_init(&ch->cb);
	ssh_set_channel_callbacks(ch->ch, &ch->cb);
}

void
sp_chan_accept(struct sp_chan *ch, ssh_message m)
{
	ch->ch = ssh_message_channel_request_open_reply_accept(m);
	if (ch->ch != NULL)
		sp_chan_watch(ch);
}

void
sp_chan_free(struct sp_chan *ch)
{
	struct sp_ctx *x = ch->ctx;

	if (ch->is_jump)
		sp_jump_end(ch);
	else if (ch->is_forward)
		sp_forward_end(ch);
	else
		x->n_sessions--;
	sp_leg_leave(ch);
	sp_close_fds(&ch->next_fd, 1);
	free(ch->next_text);
	SSH_MESSAGE_FREE(ch->req);
	SSH_MESSAGE_FREE(ch->open_msg);
	if (ch->ch != NULL) {
		ssh_remove_channel_callbacks(ch->ch, &ch->cb);
		/* Who has closed first is owed a close, though libssh says "not
		 * open". Not finished by the first call when it has bytes left. */
		if (x->state != SP_CTX_DEAD && (ch->client_closed ||
		    ssh_channel_is_open(ch->ch) != 0) &&
		    !ch->is_calling && ssh_channel_close(ch->ch) == SSH_AGAIN)
			ssh_channel_close(ch->ch);
		ssh_channel_free(ch->ch);
	}
	for (struct sp_chan **p = &x->chans; *p != NULL; p = &(*p)->next)
		if (*p == ch) {
			*p = ch->next;
			break;
		}
	x->n_chans--;
	sp_buf_fini(&ch->env);
	sp_buf_fini(&ch->command);
	sp_buf_fini(&ch->modes);
	sp_buf_fini(&ch->q);
	free(ch);
}

struct sp_chan *
sp_chan_find(struct sp_ctx *x, uint32_t id)
{
	for (struct sp_chan *ch = x->chans; ch != NULL; ch = ch->next)
		if (!ch->is_jump && ch->id == id)
			return ch;
	return NULL;
}

static const char *
type_name(int type)
{
	switch (type) {
	case SSH_CHANNEL_FORWARDED_TCPIP:
		return "forwarded-tcpip";
	case SSH_CHANNEL_X11:
		return "x11";
	case SSH_CHANNEL_AUTH_AGENT:
		return "auth-agent";
	case SSH_CHANNEL_DIRECT_TCPIP:
		return "direct-tcpip";
	default:
		return "unknown-channel";
	}
}

/* Agents, X11 and sockets of the file system never pass. */
static void
refuse_open(struct sp_ctx *x, ssh_message m, int type)
{
	const char *what = type_name(type);
	char why[200];

	if (type == SSH_CHANNEL_UNKNOWN && x->strange[0] != '\0')
		what = x->strange;
	sp_conn_policy_refusal(x->conn, what,
	    ssh_message_channel_request_open_destination(m));
	snprintf(why, sizeof(why), strstr(what, "streamlocal") != NULL ?
	    "sockets of the file system are not forwarded (%s)" :
	    "the bastion does not open channels of type %s", what);
	sp_glass_open_failure(x->ssh, m, 1, sp_span_str(why));
	x->strange[0] = '\0';
}

bool
sp_chan_open_message(struct sp_ctx *x, ssh_message m)
{
	int type = ssh_message_subtype(m);
	struct sp_chan *ch;

	if (x->state == SP_CTX_IN && type == SSH_CHANNEL_DIRECT_TCPIP &&
	    !x->has_target)
		return sp_jump_open(x, m);
	if (x->state == SP_CTX_IN && type == SSH_CHANNEL_DIRECT_TCPIP)
		return sp_forward_open(x, m);
	if (x->state != SP_CTX_IN || type != SSH_CHANNEL_SESSION) {
		refuse_open(x, m, type);
		return false;
	}
	if (x->n_sessions >= SP_SESSIONS_MAX || x->conn->end_us != 0 ||
	    (ch = sp_chan_new(x)) == NULL) {
		ssh_message_reply_default(m);
		return false;
	}
	x->n_sessions++;
	ch->id = ++x->next_chan;
	sp_chan_accept(ch, m);
	if (ch->ch == NULL)
		sp_chan_free(ch);
	return false;
}

void
sp_chan_reply(struct sp_chan *ch, bool ok)
{
	if (ch->req == NULL)
		return;
	if (ok)
		ssh_message_channel_request_reply_success(ch->req);
	else
		ssh_message_reply_default(ch->req);
	SSH_MESSAGE_FREE(ch->req);
}

/* ---------------------------------------------------------------- requests */

static uint32_t
cells(int v)
{
	return v < 0 || v > SIZE_MAX_CELLS ? 0 : (uint32_t)v;
}

static void
take_size(struct sp_chan *ch, ssh_message m)
{
	ch->cols = cells(ssh_message_channel_request_pty_width(m));
	ch->rows = cells(ssh_message_channel_request_pty_height(m));
	ch->xpixels = cells(ssh_message_channel_request_pty_pxwidth(m));
	ch->ypixels = cells(ssh_message_channel_request_pty_pxheight(m));
}

static bool
on_pty(struct sp_chan *ch, ssh_message m)
{
	struct sp_span t = sp_span_str(ssh_message_channel_request_pty_term(m));

	if (ch->state != SP_CHAN_NEW || ch->has_pty)
		return false;
	for (size_t i = 0; i < t.n; i++)
		if (t.p[i] <= 0x20 || t.p[i] >= 0x7f)
			return false;
	if (sp_span_cstr(t, ch->term, sizeof(ch->term)) != SP_OK)
		return false;
	take_size(ch, m);
	sp_heard_modes(ch->ctx, ch);
	ch->has_pty = true;
	return true;
}

/* Words of the setting: NAME, or NAME* for all that begin so. */
static bool
env_may_pass(const char *list, struct sp_span name)
{
	while (*list != '\0') {
		size_t n;

		list += strspn(list, " \t");
		n = strcspn(list, " \t");
		if (n > 1 && list[n - 1] == '*' ? name.n >= n - 1 &&
		    memcmp(name.p, list, n - 1) == 0 :
		    n > 0 && name.n == n && memcmp(name.p, list, n) == 0)
			return true;
		list += n;
	}
	return false;
}

static bool
on_env(struct sp_chan *ch, ssh_message m)
{
	struct sp_span name = sp_span_str(ssh_message_channel_request_env_name(m));
	struct sp_span v = sp_span_str(ssh_message_channel_request_env_value(m));
	bool ours = sp_span_is(name, "SALLYPORT_REASON");

	if (ch->state != SP_CHAN_NEW || name.n == 0 || ch->n_env >= ENV_PAIRS_MAX ||
	    (!ours && !env_may_pass(ch->ctx->conn->cfg->environment, name)) ||
	    ch->env.len + name.n + v.n + 8 > ENV_MAX)
		return false;
	if (sp_buf_put_bytes(&ch->env, name) != SP_OK ||
	    sp_buf_put_bytes(&ch->env, v) != SP_OK)
		return false;
	ch->n_env++;
	return true;
}

static bool
on_window(struct sp_chan *ch, ssh_message m)
{
	SP_BUF_AUTO b = {.max = 64};

	if (!ch->has_pty)
		return false;
	take_size(ch, m);
	if (ch->leg == NULL ||
	    (ch->state != SP_CHAN_OPENING && ch->state != SP_CHAN_LIVE))
		return true;	/* OPEN will carry it */
	if (sp_buf_put_u32(&b, ch->cols) != SP_OK ||
	    sp_buf_put_u32(&b, ch->rows) != SP_OK ||
	    sp_buf_put_u32(&b, ch->xpixels) != SP_OK ||
	    sp_buf_put_u32(&b, ch->ypixels) != SP_OK ||
	    sp_stream_put(&ch->leg->s, SP_FRAME_WINDOW, 0, ch->id,
	    sp_buf_span(&b)) != SP_OK)
		return false;
	return true;
}

static bool
on_unknown(struct sp_chan *ch)
{
	uint32_t ms = 0;

	return sp_heard_break(ch->ctx, &ms) && ch->leg != NULL &&
	    ch->state == SP_CHAN_LIVE && !ch->is_forward &&
	    sp_stream_put_u32(&ch->leg->s, SP_FRAME_BREAK, ch->id, ms) == SP_OK;
}

enum sp_err
sp_chan_open_payload(const struct sp_chan *ch, struct sp_buf *b)
{
	struct sp_open o = {.kind = ch->open_kind, .has_pty = ch->has_pty};

	if (ch->is_forward) {
		o.host = sp_span_str(ch->host);
		o.port = ch->port;
		o.origin = sp_span_str(ch->origin);
		o.origin_port = ch->origin_port;
		return sp_open_encode(b, &o);
	}
	o.cols = ch->cols;
	o.rows = ch->rows;
	o.xpixels = ch->xpixels;
	o.ypixels = ch->ypixels;
	o.term = sp_span_str(ch->term);
	o.command = sp_buf_span(&ch->command);
	o.env = sp_buf_span(&ch->env);
	o.modes = sp_buf_span(&ch->modes);
	return sp_open_encode(b, &o);
}

/* The broker is asked for one channel of a ctx at a time: its answer may be a
 * stream that all later ones share. */
void
sp_chan_ask_next(struct sp_ctx *x)
{
	struct sp_chan *next = NULL;

	for (struct sp_chan *ch = x->chans; ch != NULL; ch = ch->next) {
		if (ch->state == SP_CHAN_ASKED && ch->leg == NULL &&
		    ch->open_kind != SP_OPEN_SQL)
			return;
		if (ch->state == SP_CHAN_WAIT && (next == NULL || ch->id < next->id))
			next = ch;
	}
	if (next == NULL)
		return;
	if (x->shared != NULL && !x->shared->over) {
		sp_leg_join(x->shared, next);
		sp_chan_ask_next(x);
		return;
	}
	SP_BUF_AUTO b = {.max = 36864};
	struct sp_msg_chan_open m = {.ctx = x->id, .chan = next->id};

	next->state = SP_CHAN_ASKED;
	if (sp_chan_open_payload(next, &b) != SP_OK) {
		sp_chan_reply(next, false);
		next->state = SP_CHAN_NEW;
		if (next->is_forward)
			sp_forward_refuse(next, 1, sp_span_str("no such address"));
		return;
	}
	m.open = sp_buf_span(&b);
	sp_conn_sent(x->conn, sp_send_chan_open(&x->conn->brk, 0, &m, NULL));
}

static bool
on_start(struct sp_chan *ch, ssh_message m, uint8_t kind, const char *text)
{
	struct sp_span cmd = sp_span_str(text);

	if (ch->state != SP_CHAN_NEW || cmd.n > COMMAND_MAX ||
	    (kind == SP_OPEN_SUBSYSTEM && cmd.n == 0) ||
	    sp_buf_put(&ch->command, cmd.p, cmd.n) != SP_OK) {
		ssh_message_reply_default(m);
		return false;
	}
	ch->open_kind = kind;
	ch->req = m;
	ch->state = SP_CHAN_WAIT;
	sp_chan_ask_next(ch->ctx);
	return true;
}

bool
sp_chan_request(struct sp_ctx *x, ssh_message m)
{
	ssh_channel c = ssh_message_channel_request_channel(m);
	struct sp_chan *ch = x->chans;
	bool ok = false;

	while (ch != NULL && (ch->ch != c || ch->is_jump))
		ch = ch->next;
	if (ch == NULL || ch->is_forward) {
		uint32_t ms;

		/* a channel that is gone: its memory too; or one without any */
		if (ssh_message_subtype(m) == SSH_CHANNEL_REQUEST_UNKNOWN)
			(void)sp_heard_break(x, &ms);
		if (ch != NULL)
			ssh_message_reply_default(m);
		return false;
	}
	switch (ssh_message_subtype(m)) {
	case SSH_CHANNEL_REQUEST_PTY:
		ok = on_pty(ch, m);
		break;
	case SSH_CHANNEL_REQUEST_ENV:
		ok = on_env(ch, m);
		break;
	case SSH_CHANNEL_REQUEST_WINDOW_CHANGE:
		ok = on_window(ch, m);
		break;
	case SSH_CHANNEL_REQUEST_SHELL:
		return on_start(ch, m, SP_OPEN_SHELL, "");
	case SSH_CHANNEL_REQUEST_EXEC:
		return on_start(ch, m, SP_OPEN_EXEC,
		    ssh_message_channel_request_command(m));
	case SSH_CHANNEL_REQUEST_SUBSYSTEM:
		return on_start(ch, m, SP_OPEN_SUBSYSTEM,
		    ssh_message_channel_request_subsystem(m));
	case SSH_CHANNEL_REQUEST_X11:
		sp_conn_policy_refusal(x->conn, "x11-forwarding", "");
		break;
	case SSH_CHANNEL_REQUEST_UNKNOWN:
	default:
		ok = on_unknown(ch);
		break;
	}
	if (ok)
		ssh_message_channel_request_reply_success(m);
	else
		ssh_message_reply_default(m);
	return false;
}

/* --------------------------------------------------- the broker's answers */

void
sp_chan_stream(struct sp_chan *ch, int fd, bool shared)
{
	struct sp_ctx *x = ch->ctx;
	struct sp_leg *l = sp_leg_new(x, fd, shared);

	if (l == NULL) {
		sp_queue_cut(ch, sp_span_str("out of memory"), 255);
		ch->state = SP_CHAN_DRAIN;
		return;
	}
	if (shared) {
		if (x->shared != NULL)
			sp_leg_release(x->shared);
		x->shared = l;
		x->why[0] = '\0';
	}
	sp_leg_join(l, ch);
	sp_chan_ask_next(x);
}

void
sp_chan_refused(struct sp_chan *ch, uint8_t code, struct sp_span text)
{
	if (ch->is_forward) {
		sp_forward_refuse(ch, 1, text);
		sp_chan_ask_next(ch->ctx);
		return;
	}
	sp_chan_reply(ch, true);
	sp_queue_text(ch, text, false);
	sp_queue_status(ch, code);
	sp_queue_close(ch);
	ch->state = SP_CHAN_DRAIN;
	sp_chan_ask_next(ch->ctx);
}
