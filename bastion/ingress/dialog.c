/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "bastion/ingress/front.h"

#define ANSWER_MAX 1024

/*
 * A conversation of keyboard-interactive: what the broker says becomes
 * requests, one at a time, since the client answers each before the next.
 */
void
sp_dialog_clear(struct sp_ctx *x)
{
	struct sp_line *l;

	while ((l = x->auth.lines) != NULL) {
		x->auth.lines = l->next;
		free(l->title);
		free(l->text);
		free(l);
	}
	x->auth.lines_tail = &x->auth.lines;
	x->auth.n_lines = 0;
	x->auth.clients_turn = x->auth.asked = false;
}

static char *
safe_dup(struct sp_span s)
{
	SP_BUF_AUTO b = {.max = 32768};

	sp_text_safe(&b, s, false);
	return sp_span_dup(sp_buf_span(&b));
}

/* OpenSSH's client logs an instruction, and its log shows every byte beyond
 * ASCII in octal; a banner it prints as the locale can. */
static bool
say_as_banner(struct sp_ctx *x, const char *title, const char *text)
{
	SP_BUF_AUTO b = {.max = 65536};
	ssh_string s;
	size_t i = 0;

	while (text[i] != '\0' && ((uint8_t)text[i] & 0x80) == 0)
		i++;
	if (text[i] == '\0' || sp_buf_printf(&b, "%s%s%s\n", title,
	    title[0] != '\0' ? "\n" : "", text) != SP_OK ||
	    sp_buf_put_u8(&b, 0) != SP_OK ||
	    (s = ssh_string_from_char((const char *)sp_buf_span(&b).p)) == NULL)
		return false;
	ssh_send_issue_banner(x->ssh, s);
	ssh_string_free(s);
	return true;
}

static void
ask(struct sp_ctx *x, struct sp_line *l)
{
	char *nl = strrchr(l->text, '\n'), echo = l->kind == SP_DIALOG_ASK;
	const char *instruction = "", *prompt = l->text;

	if (nl != NULL) {
		*nl = '\0';
		instruction = l->text;
		prompt = nl + 1;
	}
	if (say_as_banner(x, l->title, instruction))
		l->title[0] = l->text[0] = '\0';
	ssh_message_auth_interactive_request(x->auth.msg, l->title,
	    instruction, 1, &prompt, &echo);
	x->auth.asked = true;
}

static void
pump(struct sp_ctx *x)
{
	while (x->auth.lines != NULL && !x->auth.clients_turn &&
	    x->auth.wait == SP_WAIT_DIALOG) {
		struct sp_line *l = x->auth.lines;
		uint8_t kind = l->kind;
		int64_t grace = (int64_t)x->conn->cfg->login_grace_s * 1000000;

		if (kind == SP_DIALOG_OK || kind == SP_DIALOG_FAIL) {
			sp_dialog_clear(x);
			if (kind == SP_DIALOG_OK)
				sp_auth_success(x);
			else if (x->id != 0)
				/* Denied, or waited in vain: another try would
				 * only file the same request again. */
				sp_ctx_disconnect(x, "refused");
			else
				sp_auth_fail(x, true);
			return;
		}
		x->auth.clients_turn = true;
		x->auth.deadline_us = sp_boot_us() + grace;
		if (kind == SP_DIALOG_INFO &&
		    say_as_banner(x, l->title, l->text))
			l->title[0] = l->text[0] = '\0';
		if (kind == SP_DIALOG_INFO)
			ssh_message_auth_interactive_request(x->auth.msg,
			    l->title, l->text, 0, NULL, NULL);
		else
			ask(x, l);
		if ((x->auth.lines = l->next) == NULL)
			x->auth.lines_tail = &x->auth.lines;
		x->auth.n_lines--;
		free(l->title);
		free(l->text);
		free(l);
	}
}

void
sp_dialog_line(struct sp_ctx *x, const struct sp_msg_dialog *m)
{
	struct sp_line *l;

	if (x->auth.wait != SP_WAIT_DIALOG || x->auth.msg == NULL ||
	    m->kind < SP_DIALOG_INFO || m->kind > SP_DIALOG_FAIL)
		return;
	if (x->auth.n_lines >= SP_DIALOG_MAX ||
	    (l = calloc(1, sizeof(*l))) == NULL) {
		sp_ctx_disconnect(x, "conversation too long");
		return;
	}
	l->kind = m->kind;
	l->title = safe_dup(m->title);
	l->text = safe_dup(m->text);
	*x->auth.lines_tail = l;
	x->auth.lines_tail = &l->next;
	x->auth.n_lines++;
	if (l->title == NULL || l->text == NULL) {
		sp_ctx_disconnect(x, "out of memory");
		return;
	}
	pump(x);
}

void
sp_dialog_answer(struct sp_ctx *x)
{
	struct sp_msg_dialog_answer a = {.dialog = x->id};
	int n = ssh_userauth_kbdint_getnanswers(x->ssh);

	if (x->auth.wait != SP_WAIT_DIALOG || !x->auth.clients_turn ||
	    n != (x->auth.asked ? 1 : 0)) {
		sp_ctx_disconnect(x, "answer to no question");
		return;
	}
	x->auth.clients_turn = false;
	if (x->auth.asked) {
		x->auth.asked = false;
		a.text = sp_span_str(ssh_userauth_kbdint_getanswer(x->ssh, 0));
		/* No one-time password looks so: it will be found wrong. */
		if (a.text.n > ANSWER_MAX || !sp_utf8_is_valid(a.text))
			a.text = sp_span_str("");
		sp_conn_sent(x->conn, sp_send_dialog_answer(&x->conn->brk, 0, &a,
		    NULL));
	}
	pump(x);
}
