/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/login_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Questions of a target while its session begins: on the terminal of a channel
 * that waits for it, on a stream of its own until the session takes the channel
 * over. Each line of the target's carries its name in front, so that it cannot
 * speak as the bastion or as somebody else.
 */
#define LINES_MAX 8		/* of one text of the target */

/* The oldest channel with a terminal. */
static struct chan *
with_terminal(struct ctx *x)
{
	struct chan *found = NULL;

	for (struct chan *h = x->chans; h != NULL; h = h->next)
		if (h->state == CHAN_SESSION && h->has_pty)
			found = h;
	return found;
}

struct chan *
chan_with_prompt(struct ctx *x)
{
	for (struct chan *h = x->chans; h != NULL; h = h->next)
		if (h->state == CHAN_SESSION && h->conduit != NULL)
			return h;
	return NULL;
}

static void
answer(struct chan *h, bool ok)
{
	struct sp_session *s = h->x->session;

	h->asked = false;
	if (s != NULL)
		sp_session_answer(s, ok, ok ? h->edit.line : "");
	explicit_bzero(h->edit.line, sizeof(h->edit.line));
}

static void
on_open(void *arg, uint32_t chan, const struct sp_open *o)
{
	(void)arg;
	(void)chan;
	(void)o;
}

static void
on_input(void *arg, uint32_t chan, struct sp_span bytes)
{
	struct chan *h = arg;
	SP_BUF_AUTO echo = {.max = 65536};
	enum sp_edit_end end = SP_EDIT_MORE;

	if (chan != h->no)
		return;
	for (size_t i = 0; i < bytes.n && end == SP_EDIT_MORE; i++) {
		if (!h->asked) {
			if (bytes.p[i] == 0x03)
				end = SP_EDIT_CANCEL;
			continue;
		}
		end = sp_edit_byte(&h->edit, bytes.p[i], &echo);
	}
	if (h->asked && h->is_hidden)
		chan_put(h, end == SP_EDIT_LINE ? "\n" : "");
	else if (sp_buf_span(&echo).n > 0)
		sp_conduit_write(h->conduit, h->no, 1, sp_buf_span(&echo));
	if (end == SP_EDIT_CANCEL) {
		chan_put(h, "\n");
		if (h->x->session != NULL)
			sp_session_end(h->x->session, SP_END_NORMAL, "Cancelled.");
	} else if (end == SP_EDIT_LINE) {
		answer(h, true);
	}
}

static void
on_eof(void *arg, uint32_t chan)
{
	struct chan *h = arg;

	if (chan == h->no)
		answer(h, false);
}

static void
on_window(void *arg, uint32_t chan, uint32_t cols, uint32_t rows)
{
	(void)arg;
	(void)chan;
	(void)cols;
	(void)rows;
}

static void
on_end(void *arg)
{
	struct chan *h = arg;

	h->conduit = NULL;	/* the caller frees it */
	if (h->asked)
		answer(h, false);
	chan_end(h);
}

static bool
open_stream(struct chan *h)
{
	static const struct sp_conduit_ops ops = {.on_open = on_open,
	    .on_input = on_input, .on_eof = on_eof, .on_window = on_window,
	    .on_end = on_end};
	struct conn *c = h->x->c;
	struct sp_msg_chan_stream m = {.ctx = h->x->id, .chan = h->no};
	int fds[2];

	if (h->conduit != NULL)
		return true;
	if (c->state == CONN_ENDED || sp_stream_pair(fds) != SP_OK)
		return false;
	if ((h->conduit = sp_conduit_new(c->b, fds[0], &ops, h)) == NULL) {
		sp_close_fds(&fds[1], 1);
		return false;
	}
	sp_peer_sent(c->peer, sp_send_chan_stream(&c->peer->link, 0, &m, &fds[1]));
	return true;
}

static void
put_lines(struct chan *h, const char *name, const char *text)
{
	char line[1100], vis[1024];

	for (int i = 0; i < LINES_MAX && text != NULL && *text != '\0'; i++) {
		size_t n = strcspn(text, "\r\n");

		if (n > 0) {
			snprintf(line, sizeof(line), "[%s] %s\n", name,
			    sp_vis(vis, sizeof(vis), sp_span_of(text, n)));
			chan_put(h, line);
		}
		text += n;
		text += strspn(text, "\r\n");
	}
}

/* The question itself: what comes before it are lines to read (sshd puts what
 * PAM tells in front of what PAM asks). */
static const char *
last_line(const char *text)
{
	const char *at = text;

	for (size_t n; *text != '\0'; text += n + strspn(text + n, "\r\n")) {
		n = strcspn(text, "\r\n");
		at = text;
	}
	return at;
}

static void
put_prompt(struct chan *h, const struct sp_prompt *p)
{
	const char *last = last_line(p->prompt);
	char line[700], vis[520], before[513];

	if (!h->is_prompted) {
		h->is_prompted = true;
		chan_put(h, "The target asks this itself; it goes to the target and "
		    "into the recording, hidden answers excepted.\n");
	}
	snprintf(before, sizeof(before), "%.*s", (int)(last - p->prompt), p->prompt);
	put_lines(h, p->target, before);
	snprintf(line, sizeof(line), "[%s] %s ", p->target, sp_vis(vis, sizeof(vis),
	    sp_span_of(last, strcspn(last, "\r\n"))));
	sp_edit_reset(&h->edit);
	h->asked = true;
	h->is_hidden = !p->echo;
	chan_put(h, line);
}

/* Whoever has no terminal cannot be asked. */
static void
no_terminal(struct ctx *x, struct sp_session *s, const struct sp_prompt *p)
{
	const char *last = last_line(p->prompt);
	char text[500], vis[200];

	snprintf(text, sizeof(text), "%s asks \"%s\", and there is no terminal to "
	    "ask you on: connect with one (ssh -t), then answer.", p->target,
	    sp_vis(vis, sizeof(vis), sp_span_of(last, strcspn(last, "\r\n"))));
	x->is_later = true;
	sp_session_end(s, SP_END_TARGET, text);
}

void
login_on_prompt(void *arg, struct sp_session *s, const struct sp_prompt *p)
{
	struct ctx *x = arg;
	struct chan *h = chan_with_prompt(x);

	if (h == NULL)
		h = with_terminal(x);
	if (h != NULL && open_stream(h)) {
		put_lines(h, p->target == NULL ? "Sallyport" : p->target, p->title);
		if (p->asks)
			put_prompt(h, p);
		else if (p->target != NULL)
			put_lines(h, p->target, p->prompt);
	} else if (p->asks) {
		no_terminal(x, s, p);
	}
}
