/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/login_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/verb.h"

#define EXIT_REFUSED 1
#define EXIT_USAGE 2
#define EXIT_LATER 75

static void
chan_hold(struct chan *h)
{
	h->refs++;
	ctx_hold(h->x);
}

static void
chan_release(struct chan *h)
{
	struct ctx *x = h->x;

	SP_ASSERT(h->refs > 0);
	if (--h->refs == 0) {
		sp_buf_fini(&h->open);
		free(h);
	}
	ctx_release(x);
}

/* The one setter of a channel's state. */
void
chan_set_state(struct chan *h, enum chan_state s)
{
	struct chan **at = &h->x->chans;

	SP_ASSERT(h->state != CHAN_ENDED);
	if (h->state == CHAN_DIALOGUE || s == CHAN_ENDED)
		chan_dialogue_drop(h);
	h->state = s;
	if (s != CHAN_ENDED)
		return;
	while (*at != h)
		at = &(*at)->next;
	*at = h->next;
	h->x->c->n_chans--;
}

void
chan_end(struct chan *h)
{
	if (h->state == CHAN_ENDED)
		return;
	chan_set_state(h, CHAN_ENDED);
	chan_release(h);
}

static void
send_refused(struct conn *c, uint32_t ctx, uint32_t chan, uint8_t code,
    const char *text)
{
	struct sp_msg_chan_refused m = {.ctx = ctx, .chan = chan,
	    .exit_code = code, .text = sp_span_str(text)};

	if (m.text.n > 2048)
		m.text = sp_span_str("Refused.");
	if (c->state != CONN_ENDED)
		sp_peer_sent(c->peer,
		    sp_send_chan_refused(&c->peer->link, 0, &m, NULL));
}

static void
send_stream(struct conn *c, uint32_t ctx, uint32_t chan, bool shared, int fd)
{
	struct sp_msg_chan_stream m = {.ctx = ctx, .chan = chan, .shared = shared};

	if (c->state == CONN_ENDED)
		sp_close_fds(&fd, 1);
	else
		sp_peer_sent(c->peer,
		    sp_send_chan_stream(&c->peer->link, 0, &m, &fd));
}

void
chan_refuse(struct chan *h, uint8_t exit_code, const char *text)
{
	send_refused(h->x->c, h->x->id, h->no, exit_code, text);
	chan_end(h);
}

/* -------------------------------------------------------------- the session */

static void
on_ready(void *arg, struct sp_session *s, int stream)
{
	struct ctx *x = arg;
	struct chan *first = NULL, *prompted;

	SP_ASSERT(x->session == s);
	x->session_is_ready = true;
	for (struct chan *h = x->chans; h != NULL; h = h->next)
		if (h->state == CHAN_SESSION)
			first = h;	/* the oldest is the last */
	if ((prompted = chan_with_prompt(x)) != NULL) {
		sp_conduit_handover(prompted->conduit, prompted->no);
		prompted->conduit = NULL;
		first = prompted;
	}
	if (first == NULL) {
		/* Nobody is left who wanted it. */
		sp_close_fds(&stream, 1);
		x->session = NULL;
		sp_session_forget(s);
		return;
	}
	send_stream(x->c, x->id, first->no, true, stream);
	/* The others of this login go with it (chan_stream in ipc_messages.h). */
	for (struct chan *h = x->chans, *next; h != NULL; h = next) {
		next = h->next;
		if (h->state == CHAN_SESSION)
			chan_end(h);
	}
}

/* The stream's END tells it better; a recorder that stands still or is dead
 * sends none. */
static void
say_why(struct ctx *x, const char *text)
{
	struct sp_msg_chan_refused m = {.ctx = x->id, .exit_code = 255,
	    .text = sp_span_str(text)};

	if (x->c->state != CONN_ENDED && m.text.n <= 500)
		sp_peer_sent(x->c->peer,
		    sp_send_chan_refused(&x->c->peer->link, 0, &m, NULL));
}

/* One that was asked something has its own stream to end on. */
static void
chan_fail(struct chan *h, uint8_t exit_code, const char *text)
{
	struct sp_conduit *k = h->conduit;

	if (k == NULL) {
		chan_refuse(h, exit_code, text);
		return;
	}
	chan_put(h, text);
	h->conduit = NULL;
	sp_conduit_finish(k, h->no, exit_code);
	chan_end(h);
}

static void
on_end(void *arg, struct sp_session *s, uint8_t code, const char *text)
{
	struct ctx *x = arg;
	bool was_ready = x->session_is_ready;
	char say[1200];

	SP_ASSERT(x->session == s);
	x->session = NULL;
	x->session_is_ready = false;
	if (was_ready) {
		say_why(x, text);
		return;
	}
	snprintf(say, sizeof(say), "Sallyport: %s\n", text[0] == '\0' ?
	    "the session could not begin." : text);
	for (struct chan *h = x->chans, *next; h != NULL; h = next) {
		next = h->next;
		if (h->state == CHAN_SESSION)
			chan_fail(h, x->is_later || sp_session_is_held(s) ? EXIT_LATER :
			    code == SP_END_POLICY || code == SP_END_REVOKED ?
			    EXIT_REFUSED : 255, say);
	}
	x->is_later = false;
}

static void
on_note(void *arg, struct sp_session *s, const char *text)
{
	struct ctx *x = arg;

	SP_ASSERT(x->session == s);
	conn_note(x->c, text);
}

void
chan_go(struct chan *h)
{
	static const struct sp_session_ops ops = {.on_ready = on_ready,
	    .on_note = on_note, .on_end = on_end, .on_prompt = login_on_prompt};
	struct ctx *x = h->x;

	chan_set_state(h, CHAN_SESSION);
	if (x->session != NULL && !x->session_is_ready)
		return;		/* it goes with the one that begins */
	/* The ingress asks again only when its stream has ended. */
	if (x->session != NULL)
		sp_session_forget(x->session);
	x->session_is_ready = false;
	x->session = sp_session_begin(x->c->b, &x->c->who, &h->ask, &h->j, &ops, x);
	if (x->session == NULL)
		chan_refuse(h, EXIT_LATER, x->c->b->stopping ?
		    "Sallyport: the bastion is being stopped.\n" :
		    "Sallyport: out of memory; try again in a moment.\n");
}

/* -------------------------------------------------------- an approval is owed */

static void
names_for_refusal(void *arg, enum sp_err e, const char *const *names, size_t n)
{
	struct chan *h = arg;
	SP_BUF_AUTO text = {.max = 2000};
	char one[80];
	enum sp_err p;

	if (h->state != CHAN_FILING) {
		chan_release(h);
		return;
	}
	p = sp_buf_printf(&text, "%s\nIt needs %u approval%s of %s",
	    h->edit.line, h->j.verdict.approvals,
	    h->j.verdict.approvals == 1 ? "" : "s", h->j.verdict.approvers);
	for (size_t i = 0; p == SP_OK && e == SP_OK && i < n && i < 16; i++)
		p = sp_buf_printf(&text, "%s%s", i == 0 ? ": " : ", ",
		    sp_vis(one, sizeof(one), sp_span_str(names[i])));
	if (p == SP_OK)
		p = sp_buf_printf(&text, ".\nRun the same command again once it is "
		    "approved; `ssh bastion requests` shows how it stands.\n");
	if (p == SP_OK)
		p = sp_buf_put_u8(&text, 0);
	chan_refuse(h, EXIT_LATER, p == SP_OK ?
	    (const char *)sp_buf_span(&text).p : "Waiting for approval.\n");
	chan_release(h);
}

static void
filed(void *arg, enum sp_err e, uint64_t number, const char *text)
{
	struct chan *h = arg;

	(void)number;
	if (h->state != CHAN_FILING) {
		chan_release(h);
		return;
	}
	if (e != SP_OK) {
		char say[1024];

		snprintf(say, sizeof(say), "Sallyport: %.900s\n", text);
		chan_refuse(h, e == SP_ERR_INVAL || e == SP_ERR_DENIED ?
		    EXIT_REFUSED : EXIT_LATER, say);
		chan_release(h);
		return;
	}
	/* Nothing is typed on a channel without a terminal: the line is free. */
	snprintf(h->edit.line, sizeof(h->edit.line), "%.500s", text);
	sp_request_approvers(h->x->c->b, h->x->c->who.person,
	    h->j.verdict.approvers, names_for_refusal, h);
}

static void
reason_of(const struct chan *h, char *dst, size_t cap)
{
	struct sp_span name, value, env;
	char vis[700];
	struct sp_open o;

	snprintf(dst, cap, "not asked");
	if (sp_open_decode(sp_buf_span(&h->open), &o) != SP_OK)
		return;
	env = o.env;
	while (sp_open_env_next(&env, &name, &value) == SP_OK)
		if (sp_span_is(name, "SALLYPORT_REASON") &&
		    sp_text_trim(dst, cap, value) == SP_OK)
			return;
	snprintf(dst, cap, "not asked: %s%s", o.kind == SP_OPEN_SUBSYSTEM ?
	    "subsystem " : "", o.kind == SP_OPEN_SHELL ? "a shell" :
	    o.kind == SP_OPEN_SQL ? "a database connection" :
	    sp_vis(vis, sizeof(vis), o.command));
}

static void
file_instead(struct chan *h)
{
	char reason[900];
	struct sp_wish wish = {.reason = reason};

	chan_set_state(h, CHAN_FILING);
	reason_of(h, reason, sizeof(reason));
	chan_hold(h);
	sp_request_file(h->x->c->b, &h->x->c->who, &h->ask, &h->j, &wish,
	    filed, h);
}

/* ----------------------------------------------------------------- a verdict */

static void
refuse_judged(struct chan *h, enum sp_err e)
{
	struct conn *c = h->x->c;
	struct json_object *d = conn_detail(c);
	bool is_final = e == SP_ERR_DENIED || e == SP_ERR_NOTFOUND;
	char say[1500];

	sp_detail_str(d, "target", h->x->target);
	sp_detail_str(d, "account", h->x->account);
	sp_detail_str(d, "rule", h->j.verdict.rule);
	sp_detail_str(d, "policy", c->b->policy_hash);
	sp_detail_str(d, "why", h->j.reasons);
	conn_audit(c, "session_refused", d);
	snprintf(say, sizeof(say), is_final ?
	    "Sallyport: %s@%s is refused: %s.\n`ssh bastion targets` lists what "
	    "you may reach.\n" :
	    "Sallyport: %s@%s cannot be opened now: %s.\nNothing was opened; try "
	    "again in a moment.\n", h->x->account, h->x->target, h->j.reasons);
	chan_refuse(h, is_final ? EXIT_REFUSED : EXIT_LATER, say);
}

/* The conversation of its login has just said why. */
static void
refuse_as_told(struct chan *h)
{
	uint8_t code = h->x->exit_code;
	char say[200];

	h->x->exit_code = 0;
	snprintf(say, sizeof(say), "Sallyport: %s@%s was not opened.\n",
	    h->x->account, h->x->target);
	chan_refuse(h, code, say);
}

static void
judged(void *arg, enum sp_err e, const struct sp_ask *ask,
    const struct sp_judgement *j)
{
	struct chan *h = arg;

	if (h->state == CHAN_JUDGING) {
		h->ask = *ask;
		h->j = *j;
		if (e != SP_OK || !j->verdict.allow)
			refuse_judged(h, e == SP_OK ? SP_ERR_DENIED : e);
		else if (j->verdict.approvals == 0 || j->has_grant)
			chan_go(h);
		else if (h->x->exit_code != 0)
			refuse_as_told(h);
		else if (h->has_pty)
			chan_dialogue(h);
		else
			file_instead(h);
	}
	chan_release(h);
}

/* -------------------------------------------------------------------- verbs */

struct verb_op {
	struct conn *c;
	uint32_t chan;
};

static void
verb_stream(void *arg, int fd, uint8_t exit_code, const char *text)
{
	struct verb_op *o = arg;

	if (fd >= 0)
		send_stream(o->c, 0, o->chan, false, fd);
	else
		send_refused(o->c, 0, o->chan, exit_code, text);
	conn_idle(o->c);
	free(o);
}

static void
run_verb(struct conn *c, uint32_t chan, size_t argc, char *const *argv,
    const struct sp_open *open)
{
	struct verb_op *o;

	if (c->n_busy >= CONN_BUSY_MAX || sp_conduits_of(c->id) >= CONN_CHAN_MAX ||
	    (o = calloc(1, sizeof(*o))) == NULL) {
		send_refused(c, 0, chan, EXIT_LATER,
		    "Sallyport: too much at once; try again.\n");
		return;
	}
	o->c = c;
	o->chan = chan;
	c->n_busy++;
	conn_hold(c);
	sp_verb_run(c->b, &c->who, argc, argv, open, chan, verb_stream, o);
}

static void
exec_verb(struct conn *c, uint32_t chan, const struct sp_open *o)
{
	char *argv[SP_VERB_ARGS_MAX], *block = NULL, say[256], word[80];
	size_t argc = 0;
	enum sp_err e = sp_verb_split(o->command, &block, argv, &argc);

	if (e == SP_OK && argc > 0 && sp_verb_is(argv[0])) {
		run_verb(c, chan, argc, argv, o);
	} else {
		if (e == SP_OK && argc > 0)
			snprintf(say, sizeof(say), "Sallyport: \"%s\" is no verb; "
			    "`ssh bastion help` lists them. To work on a target: "
			    "ssh -J bastion ACCOUNT@TARGET\n",
			    sp_vis(word, sizeof(word), sp_span_str(argv[0])));
		else
			snprintf(say, sizeof(say), "Sallyport: %s; `ssh bastion help` "
			    "lists the verbs.\n", e == SP_ERR_SYNTAX ?
			    "a quote is not closed" : "that is not a verb");
		send_refused(c, 0, chan, EXIT_USAGE, say);
	}
	free(block);
}

static void
shell_verb(struct conn *c, uint32_t chan, const struct sp_open *o)
{
	char menu[] = "menu", help[] = "help";
	char *argv[1] = {sp_verb_is("menu") ? menu : help};

	run_verb(c, chan, 1, argv, o);
}

/* --------------------------------------------------------------------- open */

static bool
is_taken(const struct ctx *x, uint32_t chan)
{
	for (const struct chan *h = x->chans; h != NULL; h = h->next)
		if (h->no == chan)
			return true;
	return false;
}

static void
chan_begin(struct ctx *x, uint32_t no, struct sp_span payload, bool has_pty)
{
	struct chan *h;

	if (is_taken(x, no) || x->c->n_chans >= CONN_CHAN_MAX) {
		conn_broke(x->c, "a channel's number that is taken");
		return;
	}
	h = calloc(1, sizeof(*h));
	if (h == NULL) {
		send_refused(x->c, x->id, no, 255, "Sallyport: out of memory.\n");
		return;
	}
	*h = (struct chan){.next = x->chans, .x = x, .no = no,
	    .state = CHAN_JUDGING, .has_pty = has_pty};
	sp_buf_init(&h->open, 65536);
	chan_hold(h);
	x->chans = h;
	x->c->n_chans++;
	if (sp_buf_put(&h->open, payload.p, payload.n) != SP_OK) {
		chan_refuse(h, 255, "Sallyport: out of memory.\n");
		return;
	}
	chan_hold(h);
	sp_judge(x->c->b, &x->c->who, x->account, x->target, judged, h);
}

void
login_on_chan_open(struct conn *c, const struct sp_msg_chan_open *m)
{
	struct sp_open o;
	struct ctx *x;

	if (m->chan == 0 || sp_open_decode(m->open, &o) != SP_OK) {
		conn_broke(c, "a channel that is not well formed");
		return;
	}
	x = ctx_find(c, m->ctx);
	if (x != NULL && x->state == CTX_ACCEPTED) {
		chan_begin(x, m->chan, m->open, o.has_pty != 0);
	} else if (m->ctx != 0 || x != NULL) {
		conn_broke(c, "a channel before its login");
	} else if (o.kind == SP_OPEN_EXEC) {
		exec_verb(c, m->chan, &o);
	} else if (o.kind == SP_OPEN_SHELL) {
		shell_verb(c, m->chan, &o);
	} else {
		send_refused(c, 0, m->chan, EXIT_REFUSED, "Sallyport: the bastion "
		    "itself has no files and no subsystems; name a target: "
		    "USER+ACCOUNT+TARGET@bastion, or ssh -J.\n");
	}
}
