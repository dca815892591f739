/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/login_int.h"

#include <security/pam_appl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TITLE "Sallyport"
#define CODES_MAX 3	/* in one conversation */
#define FRESH_US 50000	/* an account that was looked at is not looked at again */

enum auth_state { AUTH_SPAWNING, AUTH_RUNNING, AUTH_LOADING };

/* One PAM conversation. The factor counts only if the vault matched the code,
 * its step was spent here, the account was found good here, and PAM agrees. */
struct auth {
	struct conn *c;
	uint64_t id;
	enum auth_state state;
	struct sp_peer *peer;
	bool asked;		/* a question is on the user's screen */
	bool factor_ok, acct_ok;
	bool is_checking;
	unsigned n_codes, n_prompts;
	uint64_t check_corr, prompt_corr;
	struct sp_actor fresh;	/* as the account was found */
	int64_t fresh_us;
	struct totp_op *totp;
};

static void
auth_free(struct auth *a)
{
	login_totp_forget(a->totp);
	if (a->peer != NULL)
		sp_peer_drop(a->peer);
	free(a);
}

void
login_auth_drop(struct conn *c)
{
	struct auth *a = c->auth;

	c->auth = NULL;
	if (a == NULL)
		return;
	c->is_stale = a->asked;
	auth_free(a);
}

static void
mfa_failed(struct conn *c, const char *why)
{
	struct json_object *d = conn_detail(c);

	sp_detail_str(d, "why", why);
	conn_audit(c, "login_mfa_refused", d);
	snprintf(c->why, sizeof(c->why), "second factor: %s", why);
	login_auth_drop(c);
	if (++c->n_tries >= c->b->cfg.max_tries) {
		conn_end(c);
		return;
	}
	conn_dialog(c, 0, SP_DIALOG_FAIL, TITLE, "");
}

/* The auth process said something that cannot be: end it, and the login. */
static void
auth_broke(struct auth *a, const char *what)
{
	struct conn *c = a->c;
	struct json_object *d = conn_detail(c);

	sp_detail_str(d, "peer", "auth");
	sp_detail_str(d, "what", what);
	conn_audit(c, "peer_broke_protocol", d);
	mfa_failed(c, "the authentication process broke the protocol");
}

/* --------------------------------------------------------- what it asks us */

static void
verdict(struct auth *a, uint8_t v, const char *text)
{
	struct sp_msg_pam_verdict m = {.verdict = v, .text = sp_span_str(text)};

	if (a->peer != NULL)
		sp_peer_sent(a->peer, sp_send_pam_verdict(&a->peer->link,
		    a->check_corr, &m, NULL));
}

static void
totp_done(void *arg, uint8_t v, const char *why)
{
	struct auth *a = arg;
	struct conn *c = a->c;

	a->totp = NULL;
	a->is_checking = false;
	a->factor_ok = v == SP_PAM_OK;
	if (v != SP_PAM_OK) {
		struct json_object *d = conn_detail(c);

		sp_detail_str(d, "why", why);
		conn_audit(c, "login_code_refused", d);
	}
	verdict(a, v, "");
}

static void
on_check_totp(struct auth *a, const struct sp_msg_pam_check_totp *m)
{
	if (a->is_checking || !sp_span_is(m->user, a->c->who.name)) {
		auth_broke(a, "a check that nobody asked for");
		return;
	}
	a->factor_ok = false;
	if (++a->n_codes > CODES_MAX) {
		verdict(a, SP_PAM_MAXTRIES, "");
		return;
	}
	a->is_checking = true;
	a->totp = login_totp(a->c->b, a->c->who.person, m->code, totp_done, a);
	if (a->totp == NULL) {
		a->is_checking = false;
		verdict(a, SP_PAM_UNAVAILABLE, "");
	}
}

struct acct_op {
	struct conn *c;
	uint64_t auth;
};

static void
acct_done(void *arg, enum sp_err e, const struct sp_actor *fresh)
{
	struct acct_op *o = arg;
	struct conn *c = o->c;
	struct auth *a = c->auth;

	if (a != NULL && a->id == o->auth) {
		a->fresh = *fresh;
		a->fresh_us = sp_boot_us();
		a->is_checking = false;
		a->acct_ok = e == SP_OK;
		verdict(a, e == SP_OK ? SP_PAM_OK : e == SP_ERR_NOTFOUND ?
		    SP_PAM_EXPIRED : SP_PAM_UNAVAILABLE, "");
	}
	conn_idle(c);
	free(o);
}

/* Account management: the person is enabled. Whether a grant is there is the
 * policy's question, asked for each target when it is opened: here it may
 * still be asked for. */
static void
on_check_acct(struct auth *a, const struct sp_msg_pam_check_acct *m)
{
	struct acct_op *o;

	if (a->is_checking || !sp_span_is(m->user, a->c->who.name)) {
		auth_broke(a, "a check that nobody asked for");
		return;
	}
	o = calloc(1, sizeof(*o));
	if (o == NULL || !conn_busy(a->c)) {
		free(o);
		return;
	}
	o->c = a->c;
	o->auth = a->id;
	a->acct_ok = false;
	a->is_checking = true;
	sp_actor_load(a->c->b, &a->c->who, acct_done, o);
}

static void
on_prompt(struct auth *a, const struct sp_msg_pam_prompt *m)
{
	char text[1100];

	if (a->asked || ++a->n_prompts > 32) {
		auth_broke(a, "a question before the last was answered");
		return;
	}
	sp_vis(text, sizeof(text), m->text);
	switch (m->style) {
	case PAM_PROMPT_ECHO_OFF:
	case PAM_PROMPT_ECHO_ON:
		a->asked = true;
		conn_dialog(a->c, 0, m->style == PAM_PROMPT_ECHO_ON ?
		    SP_DIALOG_ASK : SP_DIALOG_ASK_HIDDEN, TITLE, text);
		break;
	case PAM_TEXT_INFO:
	case PAM_ERROR_MSG:
		conn_dialog(a->c, 0, SP_DIALOG_INFO, TITLE, text);
		break;
	default:
		auth_broke(a, "an unknown kind of question");
	}
}

bool
login_auth_answer(struct conn *c, struct sp_span text)
{
	struct auth *a = c->auth;
	struct sp_msg_pam_answer m = {.ok = 1, .text = text};

	if (a == NULL || !a->asked || a->peer == NULL)
		return false;
	a->asked = false;
	if (text.n > 512) {
		m.ok = 0;
		m.text.n = 0;
	}
	sp_peer_sent(a->peer,
	    sp_send_pam_answer(&a->peer->link, a->prompt_corr, &m, NULL));
	return true;
}

/* ------------------------------------------------------------- its result */

static void
logged_in(void *arg, enum sp_err e, const struct sp_actor *fresh)
{
	struct conn *c = arg;
	struct json_object *d;

	if (c->state != CONN_KEYED || c->auth == NULL) {
		conn_idle(c);
		return;
	}
	if (e != SP_OK) {
		mfa_failed(c, e == SP_ERR_NOTFOUND ? "disabled" : sp_flow_why(e));
		conn_idle(c);
		return;
	}
	c->who = *fresh;
	c->who.mfa = SP_MFA_TOTP;
	login_auth_drop(c);
	conn_set_state(c, CONN_AUTHED);
	d = conn_detail(c);
	sp_detail_str(d, "factors", "key, totp");
	sp_detail_uuid(d, "key", c->key);
	conn_audit(c, "login_ok", d);
	login_outer_begin(c);
	conn_idle(c);
}

static void
on_result(struct auth *a, const struct sp_msg_pam_result *m)
{
	struct conn *c = a->c;
	struct sp_actor fresh;	/* the conversation ends in between */
	bool said_ok = m->auth == PAM_SUCCESS && m->acct == PAM_SUCCESS;

	if (said_ok && !(a->factor_ok && a->acct_ok)) {
		/* A service that does not ask our module, or a captured process. */
		auth_broke(a, "success without a factor that was checked here");
		return;
	}
	if (!said_ok) {
		mfa_failed(c, a->factor_ok ? "the account is not valid" :
		    a->n_codes == 0 ? "no code was given" : "wrong code");
		return;
	}
	if (!conn_busy(c))
		return;
	a->state = AUTH_LOADING;
	/* The account's check was the last that PAM does, a moment ago. */
	if (sp_boot_us() - a->fresh_us < FRESH_US) {
		fresh = a->fresh;
		logged_in(c, SP_OK, &fresh);
	} else {
		sp_actor_load(c->b, &c->who, logged_in, c);
	}
}

#define TAKE(name, call)                                                      \
	case SP_MSG_##name: {                                                 \
		struct sp_msg_##name m;                                       \
                                                                              \
		if (sp_dec_##name(k->body, &m) != SP_OK)                      \
			auth_broke(a, "a broken " #name " message");          \
		else                                                          \
			call;                                                 \
		break;                                                        \
	}

static void
on_packet(struct sp_peer *p, struct sp_packet *k, void *arg)
{
	struct auth *a = arg;
	struct conn *c = a->c;

	(void)p;
	sp_packet_close_fds(k);
	conn_hold(c);
	if (a->state == AUTH_LOADING) {
		auth_broke(a, "a message after its result");
		conn_release(c);
		return;
	}
	if (k->type == SP_MSG_pam_prompt)
		a->prompt_corr = k->corr;
	else
		a->check_corr = k->corr;
	switch (k->type) {
	TAKE(pam_prompt, on_prompt(a, &m))
	TAKE(pam_check_totp, on_check_totp(a, &m))
	TAKE(pam_check_acct, on_check_acct(a, &m))
	TAKE(pam_result, on_result(a, &m))
	default:
		auth_broke(a, "a message that an auth process does not send");
	}
	conn_release(c);
}

static void
on_end(struct sp_peer *p, const char *fault, void *arg)
{
	struct auth *a = arg;

	(void)p;
	a->peer = NULL;
	if (fault != NULL && fault[0] != '\0')
		auth_broke(a, fault);
	else if (a->state != AUTH_LOADING)
		mfa_failed(a->c, "the authentication process went away");
}

/* ----------------------------------------------------------------- begin */

void
login_on_mfa_begin(struct conn *c, const struct sp_msg_mfa_begin *m)
{
	struct sp_msg_auth_spawn s;
	struct auth *a;

	if (!sp_span_is(m->login, c->login)) {
		conn_broke(c, "a second login name after a key was accepted");
		return;
	}
	/* A client may begin again (RFC 4256, 3.1): that is one more try. */
	if (c->auth != NULL) {
		login_auth_drop(c);
		if (++c->n_tries >= c->b->cfg.max_tries) {
			conn_broke(c, "too many conversations");
			return;
		}
	}
	a = calloc(1, sizeof(*a));
	if (a == NULL) {
		conn_dialog(c, 0, SP_DIALOG_FAIL, TITLE, "");
		return;
	}
	a->c = c;
	a->id = sp_flow_next_id(c->b);
	a->state = AUTH_SPAWNING;
	c->auth = a;
	s.login = a->id;
	sp_peer_sent(c->b->sup,
	    sp_send_auth_spawn(&c->b->sup->link, a->id, &s, NULL));
}

static struct auth *
auth_find(struct sp_broker *b, uint64_t id)
{
	for (struct conn *c = b->logins->conns; c != NULL; c = c->next)
		if (c->auth != NULL && c->auth->id == id &&
		    c->auth->state == AUTH_SPAWNING)
			return c->auth;
	return NULL;
}

void
sp_login_auth_spawned(struct sp_broker *b, uint64_t login, int fd)
{
	struct auth *a = auth_find(b, login);
	struct sp_msg_pam_start m = {.service = sp_span_str(b->cfg.pam_service)};

	if (a == NULL) {
		sp_close_fds(&fd, 1);	/* the connection has ended meanwhile */
		return;
	}
	a->state = AUTH_RUNNING;
	a->peer = sp_peer_new(b, fd, SP_ROLE_AUT, SP_ST_READY, on_packet, on_end, a);
	if (a->peer == NULL) {
		mfa_failed(a->c, "out of memory");
		return;
	}
	m.user = sp_span_str(a->c->who.name);
	m.rhost = sp_span_str(a->c->addr);
	sp_peer_sent(a->peer, sp_send_pam_start(&a->peer->link, 0, &m, NULL));
}

void
sp_login_spawn_failed(struct sp_broker *b, uint64_t id, const char *text)
{
	struct auth *a = auth_find(b, id);

	if (a == NULL)
		return;
	sp_log(SP_ERROR, "auth_spawn_failed", NULL, "why=\"%s\"", sp_vis_str(text));
	mfa_failed(a->c, "the authentication process could not be started");
}
