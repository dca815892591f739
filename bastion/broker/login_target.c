/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/login_int.h"

#include "bastion/broker/sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ctx *
ctx_find(struct conn *c, uint32_t id)
{
	if (id == 0)
		return c->name.has_target ? &c->outer : NULL;
	for (struct ctx *x = c->ctxs; x != NULL; x = x->next)
		if (x->id == id)
			return x;
	return NULL;
}

void
ctx_hold(struct ctx *x)
{
	x->refs++;
	conn_hold(x->c);
}

static void
unref(struct ctx *x)
{
	SP_ASSERT(x->refs > 0);
	if (--x->refs == 0 && x != &x->c->outer)
		free(x);
}

void
ctx_release(struct ctx *x)
{
	struct conn *c = x->c;

	unref(x);
	conn_release(c);
}

/* The one place where a login at a target changes its state. */
static void
ctx_set_state(struct ctx *x, enum ctx_state s)
{
	SP_ASSERT(x->state != CTX_ENDED);
	if (x->state == CTX_ASKING && s != CTX_ASKING) {
		x->is_stale = x->asked;
		x->asked = false;
		if (x->elev != NULL)
			sp_elevation_cancel(x->elev);
		x->elev = NULL;
	}
	x->state = s;
}

void
ctx_end(struct ctx *x)
{
	struct ctx **at = &x->c->ctxs;

	if (x->state == CTX_ENDED)
		return;
	ctx_set_state(x, CTX_ENDED);
	while (x->chans != NULL)
		chan_end(x->chans);
	if (x->session != NULL)
		sp_session_forget(x->session);
	x->session = NULL;
	if (x != &x->c->outer) {
		while (*at != x)
			at = &(*at)->next;
		*at = x->next;
	}
	unref(x);
}

/* ------------------------------------------------------- a channel to it */

static void
open_result(struct ctx *x, uint8_t ok, const char *text)
{
	struct conn *c = x->c;
	struct sp_msg_target_open_result m = {.id = x->id, .ok = ok,
	    .protocol = x->protocol, .text = sp_span_str(text)};

	if (c->state != CONN_ENDED)
		sp_peer_sent(c->peer,
		    sp_send_target_open_result(&c->peer->link, 0, &m, NULL));
}

void
ctx_refuse_open(struct ctx *x, const char *text)
{
	struct json_object *d = conn_detail(x->c);

	sp_detail_str(d, "target", x->target);
	sp_detail_str(d, "why", text);
	conn_audit(x->c, "target_refused", d);
	open_result(x, 0, text);
	ctx_end(x);
}

/* Nobody logs in to a database twice: its channel is judged when it is asked
 * for. */
void
ctx_open_sql(struct ctx *x)
{
	ctx_set_state(x, CTX_ACCEPTED);
	open_result(x, 2, "");
}

static void
got_target(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct ctx *x = arg;
	char text[256];
	uint8_t protocol;

	x->c->n_busy--;
	if (x->state == CTX_OPENING && e != SP_OK) {
		snprintf(text, sizeof(text), "%s; try again in a moment",
		    sp_flow_why(e));
		ctx_refuse_open(x, text);
	} else if (x->state == CTX_OPENING && (sp_rows_n(r) != 1 ||
	    !sp_rows_bool(r, 0, "enabled"))) {
		snprintf(text, sizeof(text), "there is no target \"%s\"; the verb "
		    "`targets` lists those that you may reach", x->target);
		ctx_refuse_open(x, text);
	} else if (x->state == CTX_OPENING && (protocol = sp_sql_protocol(
	    sp_rows_get(r, 0, "protocol"))) != SP_PROTO_SSH) {
		login_sql_target(x, protocol, sp_rows_get(r, 0, "id"));
	} else if (x->state == CTX_OPENING && x->account[0] != '\0') {
		snprintf(text, sizeof(text), "%s is no database: ssh -J reaches it",
		    x->target);
		ctx_refuse_open(x, text);
	} else if (x->state == CTX_OPENING) {
		ctx_set_state(x, CTX_READY);
		open_result(x, 1, "");
	}
	ctx_release(x);
}

void
login_on_target_open(struct conn *c, const struct sp_msg_target_open *m)
{
	const char *p[1];
	struct ctx *x;
	size_t n = 0;

	for (x = c->ctxs; x != NULL; x = x->next)
		n++;
	if (m->id == 0 || ctx_find(c, m->id) != NULL || n >= CONN_CTX_MAX) {
		conn_broke(c, n >= CONN_CTX_MAX ? "too many targets at once" :
		    "a target's number that is taken");
		return;
	}
	if (c->n_busy >= CONN_BUSY_MAX || (x = calloc(1, sizeof(*x))) == NULL) {
		conn_broke(c, "too many questions at once");
		return;
	}
	*x = (struct ctx){.next = c->ctxs, .c = c, .id = m->id, .refs = 1,
	    .state = CTX_OPENING};
	c->ctxs = x;
	if (!login_sql_split(x, m->host)) {
		sp_vis(x->target, sizeof(x->target), m->host);
		ctx_refuse_open(x, "only the names of targets are known here, no "
		    "addresses; the verb `targets` lists those that you may reach");
		return;
	}
	p[0] = x->target;
	c->n_busy++;
	ctx_hold(x);
	sp_store_load(c->b->store, SP_T_TARGETS, "WHERE name = $1", p, 1,
	    got_target, x);
}

void
login_on_target_close(struct conn *c, const struct sp_msg_target_close *m)
{
	struct ctx *x = m->id == 0 ? NULL : ctx_find(c, m->id);

	if (x != NULL)	/* it may be gone: refused a moment ago */
		ctx_end(x);
}

/* ------------------------------------------------------- the conversation */

/* OpenSSH shows the title above each request: once is enough. */
static void
elev_dialog(struct ctx *x, uint8_t kind, const char *text)
{
	conn_dialog(x->c, x->id, kind, x->has_title || x->id == 0 ? "" :
	    "Sallyport", text);
	x->has_title = true;
}

static void
elev_say(void *arg, const char *text)
{
	elev_dialog(arg, SP_DIALOG_INFO, text);
}

static void
elev_ask(void *arg, const char *prompt)
{
	struct ctx *x = arg;

	x->asked = true;
	x->is_stale = false;
	elev_dialog(x, SP_DIALOG_ASK, prompt);
}

/*
 * The end of a conversation. What was refused in it is told once more by the
 * channel, with an exit status: a login that failed would only make the client
 * ask the same questions again. An accepted login opens nothing by itself.
 */
static void
conversation_over(struct ctx *x, const char *text)
{
	if (text[0] != '\0')
		elev_say(x, text);
	ctx_set_state(x, CTX_ACCEPTED);
	conn_dialog(x->c, x->id, SP_DIALOG_OK, "", "");
}

static void
elev_over(void *arg, enum sp_err e, const char *text)
{
	struct ctx *x = arg;

	x->elev = NULL;		/* frees itself */
	x->exit_code = e == SP_OK ? 0 : e == SP_ERR_DENIED ? 1 : 75;
	conversation_over(x, text);
}

static void
conversation_begin(struct ctx *x, const struct sp_ask *ask,
    const struct sp_judgement *j)
{
	static const struct sp_elevation_ops ops = {
	    .say = elev_say, .ask = elev_ask, .over = elev_over};

	ctx_set_state(x, CTX_ASKING);
	x->elev = sp_elevation_begin(x->c->b, &x->c->who, ask, j, &ops, x);
	if (x->elev == NULL)
		conversation_over(x, "Out of memory.");
}

static bool
is_owed(enum sp_err e, const struct sp_judgement *j)
{
	return e == SP_OK && j->verdict.allow && j->verdict.approvals > 0 &&
	    !j->has_grant;
}

/* --------------------------------------------------------- an inner login */

static void
login_result(struct ctx *x, uint8_t verdict)
{
	struct conn *c = x->c;
	struct sp_msg_target_login_result m = {.id = x->id, .verdict = verdict};

	if (c->state != CONN_ENDED)
		sp_peer_sent(c->peer,
		    sp_send_target_login_result(&c->peer->link, x->corr, &m,
		    NULL));
}

/*
 * A refusal by the policy is told on the channel, where a text and an exit
 * status reach the user: the inner login by itself opens nothing, each channel
 * is judged again. Only an approval that is owed keeps the login open.
 */
static void
login_judged(void *arg, enum sp_err e, const struct sp_ask *ask,
    const struct sp_judgement *j)
{
	struct ctx *x = arg;

	x->c->n_busy--;
	if (x->state != CTX_JUDGING) {
		ctx_release(x);
		return;
	}
	if (!is_owed(e, j)) {
		ctx_set_state(x, CTX_ACCEPTED);
		login_result(x, SP_LOGIN_ACCEPT);
	} else if (x->method == SP_LOGIN_NONE) {
		ctx_set_state(x, CTX_KBDINT);
		login_result(x, SP_LOGIN_NEXT);
	} else {
		login_result(x, SP_LOGIN_NEXT);
		conversation_begin(x, ask, j);
	}
	ctx_release(x);
}

static void
login_judge(struct ctx *x)
{
	ctx_set_state(x, CTX_JUDGING);
	x->c->n_busy++;
	ctx_hold(x);
	sp_judge(x->c->b, &x->c->who, x->account, x->target, login_judged, x);
}

struct key_login {
	struct ctx *x;
	bool is_signed;
};

static void
key_found(void *arg, enum sp_err e, const uint8_t person[static 16],
    const uint8_t key[static 16])
{
	struct key_login *k = arg;
	struct ctx *x = k->x;
	bool ok = e == SP_OK && memcmp(person, x->c->who.person, 16) == 0;

	(void)key;
	x->c->n_busy--;
	if (x->state == CTX_JUDGING) {
		ctx_set_state(x, ok && k->is_signed ? CTX_ACCEPTED : CTX_KBDINT);
		login_result(x, ok ? SP_LOGIN_ACCEPT : SP_LOGIN_DENY);
	}
	ctx_release(x);
	free(k);
}

static void
login_by_key(struct ctx *x, const struct sp_msg_target_login *m)
{
	struct key_login *k = calloc(1, sizeof(*k));

	if (k == NULL) {
		login_result(x, SP_LOGIN_DENY);
		return;
	}
	k->x = x;
	k->is_signed = m->is_signed != 0;
	ctx_set_state(x, CTX_JUDGING);
	x->c->n_busy++;
	ctx_hold(x);
	login_find_key(x->c->b, x->c->who.name, m->blob, key_found, k);
}

void
login_on_target_login(struct conn *c, const struct sp_msg_target_login *m,
    uint64_t corr)
{
	struct ctx *x = m->id == 0 ? NULL : ctx_find(c, m->id);
	char account[SP_NAME_MAX + 1];

	/* A client may turn to another method in the middle of a conversation. */
	if (x != NULL && x->state == CTX_ASKING)
		ctx_set_state(x, CTX_KBDINT);
	if (x == NULL || (x->state != CTX_READY && x->state != CTX_KBDINT)) {
		conn_broke(c, "an inner login out of turn");
		return;
	}
	x->corr = corr;
	if (!sp_name_is_valid(m->login) ||
	    sp_span_cstr(m->login, account, sizeof(account)) != SP_OK ||
	    (x->account[0] != '\0' && strcmp(x->account, account) != 0)) {
		login_result(x, SP_LOGIN_DENY);
		return;
	}
	if (c->n_busy >= CONN_BUSY_MAX || ++c->n_keys > 8 * CONN_ASKED_MAX) {
		conn_broke(c, "too many questions");
		return;
	}
	memcpy(x->account, account, sizeof(account));
	x->method = m->method;
	if (m->method == SP_LOGIN_NONE || m->method == SP_LOGIN_KBDINT)
		login_judge(x);
	else if (m->method == SP_LOGIN_KEY)
		login_by_key(x, m);
	else
		conn_broke(c, "an unknown login method");
}

/* ---------------------------------------------------------- the outer login */

static void
outer_judged(void *arg, enum sp_err e, const struct sp_ask *ask,
    const struct sp_judgement *j)
{
	struct ctx *x = arg;

	x->c->n_busy--;
	if (x->state == CTX_JUDGING && is_owed(e, j))
		conversation_begin(x, ask, j);
	else if (x->state == CTX_JUDGING)
		conversation_over(x, "");
	ctx_release(x);
}

void
login_outer_begin(struct conn *c)
{
	struct ctx *x = &c->outer;

	if (!c->name.has_target) {
		conn_dialog(c, 0, SP_DIALOG_OK, "", "");
		return;
	}
	snprintf(x->account, sizeof(x->account), "%s", c->name.account);
	snprintf(x->target, sizeof(x->target), "%s", c->name.target);
	ctx_set_state(x, CTX_JUDGING);
	c->n_busy++;
	ctx_hold(x);
	sp_judge(c->b, &c->who, x->account, x->target, outer_judged, x);
}

void
login_on_dialog_answer(struct conn *c, const struct sp_msg_dialog_answer *m)
{
	struct ctx *x;
	char text[1025];

	if (m->dialog == 0 && c->state == CONN_KEYED) {
		if (!login_auth_answer(c, m->text) && !c->is_stale)
			conn_broke(c, "an answer that nobody asked for");
		c->is_stale = false;
		return;
	}
	x = c->state == CONN_AUTHED ? ctx_find(c, m->dialog) : NULL;
	if (x == NULL && m->dialog != 0)
		return;		/* closed a moment ago */
	if (x != NULL && !x->asked && x->is_stale) {
		x->is_stale = false;
		return;
	}
	if (x == NULL || x->state != CTX_ASKING || !x->asked || x->elev == NULL) {
		conn_broke(c, "an answer that nobody asked for");
		return;
	}
	x->asked = false;
	if (sp_span_cstr(m->text, text, sizeof(text)) != SP_OK)
		text[0] = '\0';
	sp_elevation_answer(x->elev, text);
}
