/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/login_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An owed approval, on the terminal of the channel that asked: the broker is
 * the target side of a stream until the session takes the channel over. */

void
chan_put(struct chan *h, const char *text)
{
	SP_BUF_AUTO out = {.max = 32768};
	enum sp_err e = SP_OK;

	if (h->conduit == NULL)
		return;
	for (; *text != '\0' && e == SP_OK; text++) {
		if (*text == '\n')
			e = sp_buf_put(&out, "\r\n", 2);
		else
			e = sp_buf_put_u8(&out, (uint8_t)*text);
	}
	sp_conduit_write(h->conduit, h->no, 1, sp_buf_span(&out));
}

static void
say(void *arg, const char *text)
{
	struct chan *h = arg;

	chan_put(h, text);
	chan_put(h, "\n");
}

static void
ask(void *arg, const char *prompt)
{
	struct chan *h = arg;

	sp_edit_reset(&h->edit);
	h->asked = true;
	chan_put(h, prompt);
}

static void
finish(struct chan *h, uint32_t code)
{
	struct sp_conduit *k = h->conduit;

	h->conduit = NULL;
	if (k != NULL)
		sp_conduit_finish(k, h->no, code);
	chan_end(h);
}

static void
over(void *arg, enum sp_err e, const char *text)
{
	struct chan *h = arg;
	struct sp_conduit *k = h->conduit;

	h->elev = NULL;		/* frees itself */
	if (text[0] != '\0')
		say(h, text);
	if (e == SP_OK && k != NULL) {
		h->conduit = NULL;
		sp_conduit_handover(k, h->no);
		chan_go(h);
	} else {
		finish(h, e == SP_ERR_DENIED ? 1 : 75);
	}
}

static void
on_open(void *arg, uint32_t chan, const struct sp_open *o)
{
	static const struct sp_elevation_ops ops = {.say = say, .ask = ask,
	    .over = over};
	struct chan *h = arg;

	(void)o;
	if (chan != h->no || h->is_open) {
		conn_broke(h->x->c, "another channel on a dialogue's stream");
		return;
	}
	h->is_open = true;
	h->elev = sp_elevation_begin(h->x->c->b, &h->x->c->who, &h->ask, &h->j,
	    &ops, h);
	if (h->elev == NULL) {
		say(h, "Out of memory.");
		finish(h, 75);
	}
}

static void
cancelled(struct chan *h)
{
	chan_put(h, "\nCancelled.\n");
	finish(h, 1);
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
		if (!h->asked) {	/* waiting: only ^C and ^D are heard */
			if (bytes.p[i] == 0x03 || bytes.p[i] == 0x04)
				end = SP_EDIT_CANCEL;
			continue;
		}
		end = sp_edit_byte(&h->edit, bytes.p[i], &echo);
	}
	if (sp_buf_span(&echo).n > 0)
		sp_conduit_write(h->conduit, h->no, 1, sp_buf_span(&echo));
	if (end == SP_EDIT_CANCEL) {
		cancelled(h);
	} else if (end == SP_EDIT_LINE) {
		h->asked = false;
		if (h->elev != NULL)
			sp_elevation_answer(h->elev, h->edit.line);
	}
}

static void
on_eof(void *arg, uint32_t chan)
{
	struct chan *h = arg;

	if (chan == h->no)
		cancelled(h);
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
	chan_end(h);
}

void
chan_dialogue_drop(struct chan *h)
{
	if (h->elev != NULL)
		sp_elevation_cancel(h->elev);
	if (h->conduit != NULL)
		sp_conduit_drop(h->conduit);
	h->elev = NULL;
	h->conduit = NULL;
}

void
chan_dialogue(struct chan *h)
{
	static const struct sp_conduit_ops ops = {.on_open = on_open,
	    .on_input = on_input, .on_eof = on_eof, .on_window = on_window,
	    .on_end = on_end};
	struct conn *c = h->x->c;
	struct sp_msg_chan_stream m = {.ctx = h->x->id, .chan = h->no};
	int fds[2];

	if (sp_stream_pair(fds) != SP_OK) {
		chan_refuse(h, 75, "Sallyport: too many files are open; try again.\n");
		return;
	}
	h->conduit = sp_conduit_new(c->b, fds[0], &ops, h);
	if (h->conduit == NULL) {
		sp_close_fds(&fds[1], 1);
		chan_refuse(h, 75, "Sallyport: out of memory.\n");
		return;
	}
	chan_set_state(h, CHAN_DIALOGUE);
	sp_peer_sent(c->peer, sp_send_chan_stream(&c->peer->link, 0, &m, &fds[1]));
}
