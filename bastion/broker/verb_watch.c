/* SPDX-License-Identifier: Apache-2.0 */
/* `watch`: who may, and the keys that do something to the session. */
#include <stdio.h>
#include <string.h>

#include "bastion/broker/verb_session.h"
#include "bastion/broker/watch.h"

/* A key that comes as fast as that was not meant for what is there now: it was
 * pasted, or pressed for what was there before. */
#define JUST_US 300000

static void
do_deed(struct sp_watch *w, const char *verb, uint64_t number, const char *text)
{
	const struct sp_deed *d = sp_deed_named(verb);
	struct sp_session *s = sp_watch_session(w);

	if (s == NULL)
		return;
	sp_session_deed(s, w->name, d, number, text);
	sp_watch_say(w, "%s", d->did);
}

static void
decide(struct sp_watch *w, const char *verb)
{
	const struct sp_held *h = sp_watch_held(w);

	if (h == NULL)
		sp_watch_say(w, "nothing waits for you");
	else if (h->number != w->held || sp_boot_us() - w->held_us < JUST_US)
		sp_watch_say(w, "look first: that came only now");
	else
		do_deed(w, verb, h->number, NULL);
}

static void
ask(struct sp_watch *w, enum sp_watch_ask what)
{
	w->ask = what;
	w->asked_us = sp_boot_us();
	w->n_note = 0;
	sp_watch_tell(w);
}

static void
kill_it(struct sp_watch *w)
{
	struct sp_session *s = sp_watch_session(w);
	char text[128], *detail;

	if (s == NULL)
		return;
	snprintf(text, sizeof(text), "killed by %s", w->name);
	detail = sp_call_detail("person", sp_session_person(s), "where",
	    sp_session_where(s), "from", "watch", NULL);
	sp_audit(w->b->store, "session_kill", w->name, w->session, detail, NULL,
	    NULL);
	free(detail);
	sp_session_end(s, SP_END_KILLED, text);
}

static void
answer_kill(struct sp_watch *w, uint8_t c)
{
	if (sp_boot_us() - w->asked_us < JUST_US)
		return;
	w->ask = SP_WATCH_NOTHING;
	if (c == 'y' || c == 'Y')
		kill_it(w);
	else
		sp_watch_say(w, "it goes on");
	sp_watch_tell(w);
}

static void
rub_out(struct sp_watch *w)
{
	while (w->n_note > 0 && (w->note[w->n_note - 1] & 0xc0) == 0x80)
		w->n_note--;
	if (w->n_note > 0)
		w->n_note--;
}

static void
send_note(struct sp_watch *w)
{
	w->note[w->n_note] = '\0';
	w->ask = SP_WATCH_NOTHING;
	if (w->n_note == 0 || !sp_utf8_is_valid(sp_span_str(w->note)))
		sp_watch_say(w, "no note was sent");
	else
		do_deed(w, "note", 0, w->note);
}

static void
answer_note(struct sp_watch *w, uint8_t c)
{
	if (c == '\r' || c == '\n') {
		send_note(w);
	} else if (c == 3 || c == 4) {
		w->ask = SP_WATCH_NOTHING;
		sp_watch_say(w, "no note was sent");
	} else if (c == 0x7f || c == 8) {
		rub_out(w);
	} else if (c == 0x15) {
		w->n_note = 0;
	} else if (c >= 0x20 && w->n_note < SP_WATCH_NOTE_MAX) {
		w->note[w->n_note++] = (char)c;
	}
}

/* true: it was ours. */
static bool
key(struct sp_watch *w, uint8_t c)
{
	if (w->ask == SP_WATCH_KILL)
		answer_kill(w, c);
	else if (w->ask == SP_WATCH_NOTE)
		answer_note(w, c);
	else if (c == 'f')
		do_deed(w, "freeze", 0, NULL);
	else if (c == 'r')
		do_deed(w, "resume", 0, NULL);
	else if (c == 'k')
		ask(w, SP_WATCH_KILL);
	else if (c == 'n')
		ask(w, SP_WATCH_NOTE);
	else if (c == '\r' || c == '\n')
		decide(w, "release");
	else if (c == 'x')
		decide(w, "refuse");
	else
		return false;
	return true;
}

/* Arrows and the like are the player's; Escape leaves a question. */
static bool
sequence(struct sp_watch *w, uint8_t c)
{
	if (w->esc == 0 && c != 0x1b)
		return false;
	if (w->esc == 0 && w->ask != SP_WATCH_NOTHING) {
		w->ask = SP_WATCH_NOTHING;
		sp_watch_say(w, "nothing was done");
	}
	w->esc = w->esc == 0 ? 1 : (w->esc == 1 ? c == '[' || c == 'O' :
	    c >= 0x20 && c < 0x40) ? 2 : 0;
	return true;
}

void
sp_watch_keys(struct sp_call *call, struct sp_span bytes)
{
	struct sp_watch *w = call->state;
	uint8_t pass[256];
	size_t n = 0;

	for (size_t i = 0; i < bytes.n; i++) {
		if (n == sizeof(pass))
			break;	/* nobody types so much */
		if (sequence(w, bytes.p[i]) || !key(w, bytes.p[i]))
			pass[n++] = bytes.p[i];
	}
	if (w->esc == 1) {
		w->esc = 0;	/* Escape itself: a sequence comes in one piece */
		n -= n > 0 && pass[n - 1] == 0x1b;
	}
	sp_watch_tell(w);
	sp_watch_pass(w, sp_span_of(pass, n));
}

/* ------------------------------------------------------------------ the verb */

static void
begin(struct sp_call *c)
{
	struct sp_session *s;

	if (c->gone) {
		sp_call_end(c, SP_EXIT_REFUSED);
		return;
	}
	if (!sp_session_found(c, sp_actor_may_watch(&c->who)))
		return;
	if (sp_session_is_mine(c, 0)) {
		sp_call_fail(c, SP_EXIT_REFUSED, "session %.8s is your own: only "
		    "somebody else may watch it",
		    sp_rows_get(c->rows[0], 0, "id"));
		return;
	}
	if (sp_rows_get(c->rows[0], 0, "ended_us") != NULL) {
		sp_call_fail(c, SP_EXIT_REFUSED, "session %.8s is over: replay "
		    "shows it", sp_rows_get(c->rows[0], 0, "id"));
		return;
	}
	if ((s = sp_session_running(c)) != NULL)
		sp_watch_begin(c, s);
}

void
sp_verb_watch(struct sp_call *c)
{
	if (!c->who.is_host && c->who.mfa < SP_MFA_TOTP)
		sp_call_fail(c, SP_EXIT_REFUSED, "that needs a second factor: "
		    "connect again and give it");
	else
		sp_session_resolve(c, c->pos[0], begin);
}
