/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "bastion/ingress/front.h"

/*
 * What passes in front of libssh (common/glass.h): a terminal's modes, how long
 * a break is, the name of a request or channel that it does not know, and the
 * order of global requests. Only what the client could say anyway: it harms
 * itself alone with it.
 */
#define MSG_GLOBAL_REQUEST 80
#define MSG_CHANNEL_OPEN 90
#define MSG_CHANNEL_REQUEST 98

static void
on_global(struct sp_ctx *x, uint8_t *p, size_t n)
{
	struct sp_span s = sp_span_of(p + 1, n - 1), name, host;
	struct sp_global *g = &x->globals[x->n_globals];
	uint32_t port;
	uint8_t wants;
	uint8_t *flag;
	bool is_listen;

	if (sp_get_ssh_string(&s, 64, &name) != SP_OK ||
	    sp_get_u8(&s, &wants) != SP_OK || wants == 0)
		return;
	flag = p + 1 + 4 + name.n;
	is_listen = sp_span_is(name, "tcpip-forward") ||
	    sp_span_is(name, "cancel-tcpip-forward");
	if (sp_span_is(name, "streamlocal-forward@openssh.com"))
		x->streamlocal_asked = true;
	if (x->state != SP_CTX_IN || x->n_globals >= SP_GLOBALS_MAX)
		return;
	/* What is broken in it libssh refuses by itself, at once. */
	if (is_listen && (sp_get_ssh_string(&s, 4096, &host) != SP_OK ||
	    sp_get_ssh_u32(&s, &port) != SP_OK))
		is_listen = false;
	if (!is_listen && x->n_globals == 0)
		return;
	*g = (struct sp_global){.number = ++x->next_global,
	    .is_listen = is_listen, .is_answered = !is_listen};
	x->n_globals++;
	if (!is_listen)
		*flag = 0;
}

static void
on_pty(struct sp_ctx *x, struct sp_span s)
{
	struct sp_heard_pty *y = &x->ptys[x->n_ptys];
	struct sp_span term, modes;

	if (x->n_ptys >= SP_HEARD_MAX ||
	    sp_get_ssh_string(&s, 64, &term) != SP_OK ||
	    sp_span_cstr(term, y->term, sizeof(y->term)) != SP_OK)
		return;
	for (int i = 0; i < 4; i++)
		if (sp_get_ssh_u32(&s, &y->size[i]) != SP_OK)
			return;
	if (sp_get_ssh_string(&s, SP_MODES_MAX, &modes) != SP_OK || modes.n == 0)
		return;
	memcpy(y->modes, modes.p, modes.n);
	y->n_modes = (uint32_t)modes.n;
	x->n_ptys++;
}

/* Those for which libssh makes a message of an unknown kind. */
static bool
is_unknown(struct sp_span name)
{
	static const char *const known[] = {"exit-status", "signal", "exit-signal",
	    "keepalive@openssh.com", "auth-agent-req@openssh.com", "pty-req",
	    "window-change", "subsystem", "shell", "exec", "env", "x11-req"};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (sp_span_is(name, known[i]))
			return false;
	return true;
}

static void
on_request(struct sp_ctx *x, struct sp_span s)
{
	struct sp_span name;
	uint32_t chan, ms = 0;
	uint8_t wants;
	bool is_break;

	if (sp_get_ssh_u32(&s, &chan) != SP_OK ||
	    sp_get_ssh_string(&s, 256, &name) != SP_OK ||
	    sp_get_u8(&s, &wants) != SP_OK)
		return;
	if (sp_span_is(name, "pty-req")) {
		on_pty(x, s);
		return;
	}
	if (!is_unknown(name) || x->n_others >= SP_HEARD_MAX)
		return;
	is_break = sp_span_is(name, "break") && sp_get_ssh_u32(&s, &ms) == SP_OK;
	x->others[x->n_others++] = (struct sp_heard_other){.is_break = is_break,
	    .ms = ms};
}

static void
on_open(struct sp_ctx *x, struct sp_span s)
{
	static const char *const known[] = {"session", "direct-tcpip",
	    "forwarded-tcpip", "x11", "auth-agent@openssh.com"};
	struct sp_span name;

	if (sp_get_ssh_string(&s, 256, &name) != SP_OK)
		return;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (sp_span_is(name, known[i]))
			return;
	sp_vis(x->strange, sizeof(x->strange), name);
}

void
sp_heard(void *arg, uint8_t *p, size_t n)
{
	struct sp_ctx *x = sp_ctx_in_libssh();

	(void)arg;
	if (x == NULL)
		return;
	if (p[0] == MSG_GLOBAL_REQUEST)
		on_global(x, p, n);
	else if (p[0] == MSG_CHANNEL_REQUEST)
		on_request(x, sp_span_of(p + 1, n - 1));
	else if (p[0] == MSG_CHANNEL_OPEN)
		on_open(x, sp_span_of(p + 1, n - 1));
}

void
sp_heard_modes(struct sp_ctx *x, struct sp_chan *ch)
{
	const uint32_t size[4] = {ch->cols, ch->rows, ch->xpixels, ch->ypixels};

	while (x->n_ptys > 0) {
		struct sp_heard_pty y = x->ptys[0];

		memmove(&x->ptys[0], &x->ptys[1],
		    --x->n_ptys * sizeof(x->ptys[0]));
		if (strcmp(y.term, ch->term) != 0 ||
		    memcmp(y.size, size, sizeof(size)) != 0)
			continue;	/* of a request that libssh dropped */
		sp_buf_reset(&ch->modes);
		(void)!sp_buf_put(&ch->modes, y.modes, y.n_modes);
		return;
	}
}

bool
sp_heard_break(struct sp_ctx *x, uint32_t *ms)
{
	struct sp_heard_other o;

	if (x->n_others == 0)
		return false;
	o = x->others[0];
	memmove(&x->others[0], &x->others[1],
	    --x->n_others * sizeof(x->others[0]));
	*ms = o.ms;
	return o.is_break;
}
