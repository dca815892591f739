/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/ingress/front.h"
#include "common/nogss.h"

#define STALL_US 10000000	/* a client that got no answer waits for ever */
#define BLOB_MAX 4096

void
sp_auth_init(struct sp_ctx *x)
{
	x->auth = (struct sp_auth){.deadline_us = sp_boot_us() +
	    (int64_t)x->conn->cfg->login_grace_s * 1000000};
	x->auth.lines_tail = &x->auth.lines;
	ssh_set_auth_methods(x->ssh, x->id == 0 ? SSH_AUTH_METHOD_PUBLICKEY :
	    SSH_AUTH_METHOD_PUBLICKEY | SSH_AUTH_METHOD_INTERACTIVE);
}

void
sp_auth_fini(struct sp_ctx *x)
{
	sp_dialog_clear(x);
	SSH_MESSAGE_FREE(x->auth.msg);
	SSH_MESSAGE_FREE(x->auth.held);
	SSH_MESSAGE_FREE(x->auth.blank);
}

/* The message that waited is answered; what came meanwhile is looked at. */
static void
settle(struct sp_ctx *x)
{
	ssh_message held = x->auth.held;

	x->auth.wait = SP_WAIT_NOTHING;
	if (x->auth.blank == NULL)
		x->auth.blank = x->auth.msg;
	else
		ssh_message_free(x->auth.msg);
	x->auth.msg = x->auth.held = NULL;
	x->auth.stall_bytes = x->wire.bytes_in;
	x->auth.stall_us = 0;
	if (held != NULL && !sp_auth_message(x, held))
		ssh_message_free(held);
}

static void
count(struct sp_ctx *x)
{
	if (++x->auth.tries >= x->conn->cfg->max_tries) {
		sp_conn_refused(x->conn, "too many attempts",
		    sp_span_str(x->auth.name));
		sp_ctx_disconnect(x, "Too many authentication failures");
	}
}

void
sp_auth_success(struct sp_ctx *x)
{
	ssh_message_auth_reply_success(x->auth.msg, 0);
	x->state = SP_CTX_IN;
	/* USER+ACCOUNT+TARGET: what is forwarded goes through that target. */
	x->has_target = x->id != 0 || strchr(x->auth.name, '+') != NULL;
	settle(x);
}

void
sp_auth_fail(struct sp_ctx *x, bool counts)
{
	ssh_message_reply_default(x->auth.msg);
	settle(x);
	if (counts)
		count(x);
}

/* Refuses a message that is not kept. */
static bool
refuse(struct sp_ctx *x, ssh_message m, const char *why, struct sp_span detail)
{
	ssh_message_reply_default(m);
	x->auth.stall_bytes = x->wire.bytes_in;
	if (why != NULL)
		sp_conn_refused(x->conn, why, detail);
	count(x);
	if (x->auth.blank != NULL)
		return false;
	x->auth.blank = m;
	return true;
}

/* libssh has read a request and said nothing: a signature that does not fit,
 * a kind of key that it does not know, a mechanism that it could not start. */
void
sp_auth_unanswered(struct sp_ctx *x)
{
	x->auth.pulled = x->auth.heard;
	(void)sp_touch_was_given();
	x->auth.stall_bytes = x->wire.bytes_in;
	if (sp_gss_was_asked()) {	/* libssh has answered already */
		sp_conn_refused(x->conn, "GSSAPI", sp_span_str(x->auth.name));
		count(x);
		return;
	}
	sp_conn_refused(x->conn, "bad or unsupported signature",
	    sp_span_str(x->auth.name));
	if (x->auth.blank == NULL || x->auth.msg != NULL) {
		sp_ctx_disconnect(x, "authentication method not supported");
		return;
	}
	ssh_message_reply_default(x->auth.blank);
	count(x);
}

static enum sp_err
key_of(ssh_message m, struct sp_buf *blob, char algo[static 65])
{
	char *b64 = NULL;
	struct sp_span s, name;
	enum sp_err e;

	if (ssh_pki_export_pubkey_base64(ssh_message_auth_pubkey(m), &b64) != SSH_OK)
		return SP_ERR_CRYPTO;
	e = sp_unbase64(blob, sp_span_str(b64));
	ssh_string_free_char(b64);
	SP_TRY(e);
	s = sp_buf_span(blob);
	SP_TRY(sp_get_ssh_string(&s, 64, &name));
	return sp_span_cstr(name, algo, 65);
}

static bool
ask_key(struct sp_ctx *x, ssh_message m, struct sp_span login, bool is_signed)
{
	SP_BUF_AUTO blob = {.max = BLOB_MAX};
	char algo[65];
	struct sp_msg_auth_key k = {.login = login, .is_signed = is_signed};
	struct sp_msg_target_login t = {.id = x->id, .login = login,
	    .method = SP_LOGIN_KEY, .is_signed = is_signed};

	if (key_of(m, &blob, algo) != SP_OK)
		return refuse(x, m, "key of a kind not known", login);
	x->auth.msg = m;
	x->auth.wait = is_signed ? SP_WAIT_SIGNED : SP_WAIT_PROBE;
	x->auth.corr = ++x->conn->next_corr;
	k.algo = t.algo = sp_span_str(algo);
	k.blob = t.blob = sp_buf_span(&blob);
	sp_conn_sent(x->conn, x->id == 0 ?
	    sp_send_auth_key(&x->conn->brk, x->auth.corr, &k, NULL) :
	    sp_send_target_login(&x->conn->brk, x->auth.corr, &t, NULL));
	return true;
}

static bool
is_security_key(ssh_message m)
{
	enum ssh_keytypes_e t = ssh_key_type(ssh_message_auth_pubkey(m));

	return t == SSH_KEYTYPE_SK_ED25519 || t == SSH_KEYTYPE_SK_ECDSA ||
	    t == SSH_KEYTYPE_SK_ED25519_CERT01 || t == SSH_KEYTYPE_SK_ECDSA_CERT01;
}

static bool
take_key(struct sp_ctx *x, ssh_message m, struct sp_span login)
{
	bool touched = sp_touch_was_given();

	if (x->id == 0 && x->state != SP_CTX_AUTH)
		return refuse(x, m, NULL, login); /* one key is enough */
	switch (ssh_message_auth_publickey_state(m)) {
	case SSH_PUBLICKEY_STATE_NONE:
		return ask_key(x, m, login, false);
	case SSH_PUBLICKEY_STATE_VALID:
		if (is_security_key(m) && !touched)
			return refuse(x, m, "security key was not touched",
			    login);
		return ask_key(x, m, login, true);
	case SSH_PUBLICKEY_STATE_ERROR:
	case SSH_PUBLICKEY_STATE_WRONG:
	default:
		return refuse(x, m, "bad signature", login);
	}
}

static bool
ask_login(struct sp_ctx *x, ssh_message m, struct sp_span login, uint8_t method)
{
	struct sp_msg_target_login t = {.id = x->id, .login = login,
	    .method = method};

	x->auth.msg = m;
	x->auth.wait = method == SP_LOGIN_NONE ? SP_WAIT_NONE : SP_WAIT_DIALOG;
	x->auth.corr = ++x->conn->next_corr;
	sp_conn_sent(x->conn,
	    sp_send_target_login(&x->conn->brk, x->auth.corr, &t, NULL));
	return true;
}

static bool
take_kbdint(struct sp_ctx *x, ssh_message m, struct sp_span login)
{
	struct sp_msg_mfa_begin b = {.login = login};

	if (x->id != 0)
		return ask_login(x, m, login, SP_LOGIN_KBDINT);
	if (x->state != SP_CTX_KEYED)
		return refuse(x, m, "second factor without a first", login);
	x->auth.msg = m;
	x->auth.wait = SP_WAIT_DIALOG;
	sp_conn_sent(x->conn, sp_send_mfa_begin(&x->conn->brk, 0, &b, NULL));
	return true;
}

static bool
take_none(struct sp_ctx *x, ssh_message m, struct sp_span login)
{
	if (x->auth.nones++ > 0)
		return refuse(x, m, NULL, login);
	if (x->id != 0)
		return ask_login(x, m, login, SP_LOGIN_NONE);
	ssh_message_reply_default(m);
	x->auth.stall_bytes = x->wire.bytes_in;
	if (x->auth.blank != NULL)
		return false;
	x->auth.blank = m;
	return true;
}

static bool
name_changed(struct sp_ctx *x, struct sp_span login)
{
	if (x->id != 0 && !x->auth.named) {
		x->auth.named = true;
		return sp_span_cstr(login, x->auth.name, 256) != SP_OK;
	}
	return x->auth.named && !sp_span_is(login, x->auth.name);
}

static bool
take_request(struct sp_ctx *x, ssh_message m)
{
	struct sp_span login = sp_span_str(ssh_message_auth_user(m));

	if (login.n == 0 || login.n > 255 || !sp_utf8_is_valid(login))
		return refuse(x, m, "login name", login);
	if (name_changed(x, login))
		return refuse(x, m, "login name changed", login);
	switch (ssh_message_subtype(m)) {
	case SSH_AUTH_METHOD_NONE:
		return take_none(x, m, login);
	case SSH_AUTH_METHOD_PUBLICKEY:
		return take_key(x, m, login);
	case SSH_AUTH_METHOD_INTERACTIVE:
		return take_kbdint(x, m, login);
	case SSH_AUTH_METHOD_PASSWORD:
		return refuse(x, m, "password login", login);
	default:
		return refuse(x, m, "authentication method", login);
	}
}

static void
show_banner(struct sp_ctx *x)
{
	char text[520];
	ssh_string s;

	if (x->id != 0 || x->conn->cfg->banner[0] == '\0' || x->auth.greeted)
		return;
	x->auth.greeted = true;
	snprintf(text, sizeof(text), "%s\n", x->conn->cfg->banner);
	if ((s = ssh_string_from_char(text)) == NULL)
		return;
	ssh_send_issue_banner(x->ssh, s);
	ssh_string_free(s);
}

bool
sp_auth_message(struct sp_ctx *x, ssh_message m)
{
	bool is_answer = ssh_message_subtype(m) == SSH_AUTH_METHOD_INTERACTIVE &&
	    ssh_message_auth_kbdint_is_response(m) != 0;

	if (x->state == SP_CTX_KEX)
		x->state = SP_CTX_AUTH;
	show_banner(x);
	if (!is_answer && m != x->auth.held)
		x->auth.pulled++;
	x->auth.stall_us = 0;
	x->auth.stall_bytes = x->wire.bytes_in;
	if (x->state == SP_CTX_IN) {
		ssh_message_reply_default(m);
		return false;
	}
	if (is_answer) {
		sp_dialog_answer(x);
		return false;
	}
	if (x->auth.wait == SP_WAIT_DIALOG) {
		sp_ctx_disconnect(x, "conversation broken off");
		return false;
	}
	if (x->auth.msg != NULL) {
		x->auth.held = m;	/* sp_ctx_step takes no more until then */
		return true;
	}
	return take_request(x, m);
}

/* --------------------------------------------------- the broker's answers */

static void
key_is_accepted(struct sp_ctx *x)
{
	struct sp_span login = sp_span_str(ssh_message_auth_user(x->auth.msg));

	if (sp_span_cstr(login, x->auth.name, sizeof(x->auth.name)) != SP_OK) {
		sp_auth_fail(x, true);
		return;
	}
	x->auth.named = true;
	x->state = SP_CTX_KEYED;
	ssh_set_auth_methods(x->ssh, SSH_AUTH_METHOD_INTERACTIVE);
	ssh_message_auth_reply_success(x->auth.msg, 1);
	settle(x);
}

void
sp_auth_key_result(struct sp_ctx *x, uint64_t corr, bool ok)
{
	if (x->state != SP_CTX_AUTH || x->auth.msg == NULL ||
	    corr != x->auth.corr)
		return;
	if (!ok) {
		sp_auth_fail(x, true);
	} else if (x->auth.wait == SP_WAIT_PROBE) {
		ssh_message_auth_reply_pk_ok_simple(x->auth.msg);
		settle(x);
	} else if (x->auth.wait == SP_WAIT_SIGNED) {
		key_is_accepted(x);
	}
}

void
sp_auth_login_result(struct sp_ctx *x, uint64_t corr, uint8_t verdict)
{
	if (x->state != SP_CTX_AUTH || x->auth.msg == NULL ||
	    corr != x->auth.corr)
		return;
	switch (x->auth.wait) {
	case SP_WAIT_NONE:
	case SP_WAIT_SIGNED:
		if (verdict == SP_LOGIN_ACCEPT)
			sp_auth_success(x);
		else
			sp_auth_fail(x, verdict != SP_LOGIN_NEXT);
		break;
	case SP_WAIT_PROBE:
		if (verdict != SP_LOGIN_ACCEPT && verdict != SP_LOGIN_NEXT) {
			sp_auth_fail(x, true);
			break;
		}
		ssh_message_auth_reply_pk_ok_simple(x->auth.msg);
		settle(x);
		break;
	case SP_WAIT_DIALOG:
		if (verdict == SP_LOGIN_ACCEPT)
			sp_auth_success(x);
		else if (verdict != SP_LOGIN_NEXT)
			sp_auth_fail(x, true);
		break;
	case SP_WAIT_NOTHING:
	default:
		break;
	}
}

/* ----------------------------------------------------------------- clocks */

/* While the broker owes the next line of a conversation (somebody has to
 * approve), the time is the broker's; else the client has login_grace_s. */
int64_t
sp_auth_deadline(const struct sp_ctx *x)
{
	int64_t d = x->auth.deadline_us;

	if (x->state >= SP_CTX_IN ||
	    (x->auth.wait == SP_WAIT_DIALOG && !x->auth.clients_turn))
		return 0;
	if (x->auth.stall_us != 0 && x->auth.stall_us < d)
		d = x->auth.stall_us;
	return d;
}

void
sp_auth_tick(struct sp_ctx *x, int64_t now)
{
	int64_t d;

	/* Bytes came, no request was seen, nobody owes an answer. */
	if (x->state < SP_CTX_IN && x->auth.msg == NULL &&
	    x->auth.stall_us == 0 && x->auth.blank != NULL &&
	    x->wire.bytes_in > x->auth.stall_bytes)
		x->auth.stall_us = now + STALL_US;
	d = sp_auth_deadline(x);
	if (d == 0 || now < d)
		return;
	if (d == x->auth.stall_us)
		sp_conn_refused(x->conn, "bad or unsupported signature",
		    sp_span_str(x->auth.name));
	else
		sp_conn_refused(x->conn, "login took too long",
		    sp_span_str(x->auth.name));
	sp_ctx_disconnect(x, "login timed out");
}
