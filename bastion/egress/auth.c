/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bastion/egress/egress.h"
#include "bastion/egress/tap.h"
#include "common/kinds.h"

/*
 * The login at the target with what the lease gives, and nothing twice. A
 * question that the lease does not answer goes to the user by way of the broker;
 * their number and length are bounded here as well.
 */
#define VAULT_WAIT_MS 2000
#define ANSWER_WAIT_MS 65000	/* the broker waits less */
#define PASSWORD_MAX 1024
#define STEPS_MAX 4		/* methods tried after one another */
#define ROUNDS_MAX 10		/* of one conversation */
#define PROMPTS_MAX 8		/* of one round */

struct auth {
	struct sp_egress *g;
	uint32_t ms;		/* for each of the target's own steps */
	int64_t deadline;
	char password[PASSWORD_MAX];
	bool has_password;	/* not sent yet */
	bool spoke;		/* the conversation went on as far as a question */
};

static void
clock_anew(struct auth *a)
{
	a->deadline = sp_boot_us() + (int64_t)a->ms * 1000;
}

/* ---------------------------------------------------------- from the vault */

static enum sp_err
ask_password(struct sp_egress *g, int *fd, size_t *len)
{
	struct sp_msg_take_password m;
	struct sp_msg_password r;
	struct sp_packet p;

	SP_TRY(sp_tap_session_id(&m.session_id));
	SP_TRY(sp_send_take_password(&g->vault, 0, &m, NULL));
	SP_TRY(sp_link_wait(&g->vault, &p, VAULT_WAIT_MS));
	if (p.type != SP_MSG_password || sp_dec_password(p.body, &r) != SP_OK ||
	    r.len == 0 || r.len >= PASSWORD_MAX) {
		sp_packet_close_fds(&p);
		return SP_ERR_DENIED;
	}
	*fd = p.fds[0];
	*len = r.len;
	return SP_OK;
}

static enum sp_err
take_password(struct auth *a)
{
	size_t len = 0;
	ssize_t got;
	int fd = -1;

	SP_TRY(ask_password(a->g, &fd, &len));
	got = pread(fd, a->password, len, 0);
	close(fd);
	if (got != (ssize_t)len)
		return SP_ERR_IO;
	a->password[len] = '\0';
	a->has_password = true;
	return SP_OK;
}

/* ------------------------------------------------------------ from the user */

/* As the target said it where that is text, and cut. */
static struct sp_span
words(char *dst, size_t cap, const char *text)
{
	size_t n = text == NULL ? 0 : strlen(text);

	if (n < cap && sp_utf8_is_valid(sp_span_of(text, n))) {
		memcpy(dst, n == 0 ? "" : text, n);
		dst[n] = '\0';
	} else {
		sp_vis(dst, cap, sp_span_of(text, n));
	}
	return sp_span_str(dst);
}

static enum sp_err
send_prompt(struct auth *a, const char *prompt, bool asks, bool echo)
{
	struct sp_msg_egr_prompt m = {.asks = asks, .echo = echo};
	const char *name = ssh_userauth_kbdint_getname(a->g->ssh);
	const char *more = ssh_userauth_kbdint_getinstruction(a->g->ssh);
	char title[1024], both[1600], text[512];

	/* Once in a round is enough. */
	snprintf(both, sizeof(both), "%.500s%s%.1000s", name == NULL ? "" : name,
	    name == NULL || name[0] == '\0' ? "" : "\n", more == NULL ? "" : more);
	memcpy(m.session, a->g->session, 16);
	m.title = words(title, sizeof(title), a->g->is_titled ? "" : both);
	m.prompt = words(text, sizeof(text), prompt);
	a->g->is_titled = true;
	return sp_send_egr_prompt(&a->g->broker, 0, &m, NULL);
}

static enum sp_err
ask_user(struct auth *a, unsigned i, bool echo)
{
	const char *prompt = ssh_userauth_kbdint_getprompt(a->g->ssh, i, NULL);
	struct sp_msg_egr_answer r;
	struct sp_packet p;
	char text[513];
	enum sp_err e;

	SP_TRY(send_prompt(a, prompt, true, echo));
	SP_TRY(sp_link_wait(&a->g->broker, &p, ANSWER_WAIT_MS));
	if (p.type != SP_MSG_egr_answer ||
	    sp_dec_egr_answer(p.body, &r) != SP_OK ||
	    memcmp(r.session, a->g->session, 16) != 0)
		return SP_ERR_PROTO;
	clock_anew(a);
	if (r.ok != 1 || sp_span_cstr(r.text, text, sizeof(text)) != SP_OK) {
		a->g->why = "the target asked something that nobody answered";
		return SP_ERR_DENIED;
	}
	e = ssh_userauth_kbdint_setanswer(a->g->ssh, i, text) < 0 ? SP_ERR_NOMEM :
	    SP_OK;
	explicit_bzero(text, sizeof(text));
	return e;
}

/* ------------------------------------------------------ keyboard-interactive */

/* One hidden prompt is the password's, unless it says that it is a code's. */
static bool
wants_password(const char *prompt)
{
	static const char *const other[] = {"code", "token", "otp", "one-time",
	    "challenge", "response", "new password", "again", "retype"};
	char low[256];
	size_t n = 0;

	for (; prompt != NULL && prompt[n] != '\0' && n + 1 < sizeof(low); n++)
		low[n] = (char)tolower((unsigned char)prompt[n]);
	low[n] = '\0';
	for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++)
		if (strstr(low, other[i]) != NULL)
			return false;
	return true;
}

static enum sp_err
answer_round(struct auth *a)
{
	ssh_session ssh = a->g->ssh;
	int n = ssh_userauth_kbdint_getnprompts(ssh);
	char echo = 1;

	a->g->is_titled = false;
	if (n < 0 || n > PROMPTS_MAX)
		return SP_ERR_TOOBIG;
	if (n == 0) {
		const char *name = ssh_userauth_kbdint_getname(ssh);
		const char *text = ssh_userauth_kbdint_getinstruction(ssh);

		return (name == NULL || name[0] == '\0') &&
		    (text == NULL || text[0] == '\0') ? SP_OK :
		    send_prompt(a, "", false, false);
	}
	a->spoke = true;
	if (n == 1 && a->has_password && wants_password(
	    ssh_userauth_kbdint_getprompt(ssh, 0, &echo)) && echo == 0) {
		int rc = ssh_userauth_kbdint_setanswer(ssh, 0, a->password);

		a->has_password = false;	/* never a second time */
		explicit_bzero(a->password, sizeof(a->password));
		return rc < 0 ? SP_ERR_NOMEM : SP_OK;
	}
	for (unsigned i = 0; i < (unsigned)n; i++) {
		echo = 1;
		(void)ssh_userauth_kbdint_getprompt(ssh, i, &echo);
		SP_TRY(ask_user(a, i, echo != 0));
	}
	return SP_OK;
}

static int
by_keyboard(struct auth *a)
{
	unsigned rounds = 0;
	int rc;

	for (;;) {
		rc = ssh_userauth_kbdint(a->g->ssh, NULL, NULL);
		if (rc == SSH_AUTH_AGAIN) {
			if (sp_egress_wait(a->g, a->deadline) != SP_OK)
				return SSH_AUTH_ERROR;
			continue;
		}
		if (rc != SSH_AUTH_INFO)
			return rc;
		if (++rounds > ROUNDS_MAX) {
			a->g->why = "the target asks without end";
			return SSH_AUTH_ERROR;
		}
		if (answer_round(a) != SP_OK)
			return SSH_AUTH_ERROR;
		clock_anew(a);
	}
}

/* -------------------------------------------------------------- other methods */

static int
by_password(struct auth *a)
{
	int rc;

	while ((rc = ssh_userauth_password(a->g->ssh, NULL, a->password)) ==
	    SSH_AUTH_AGAIN)
		if (sp_egress_wait(a->g, a->deadline) != SP_OK)
			return SSH_AUTH_ERROR;
	a->has_password = false;
	explicit_bzero(a->password, sizeof(a->password));
	return rc;
}

/* What the target still wants, one method after the other. */
static int
go_on(struct auth *a)
{
	int rc = SSH_AUTH_DENIED;

	for (int i = 0; i < STEPS_MAX; i++) {
		unsigned can = (unsigned)ssh_userauth_list(a->g->ssh, NULL);

		if ((can & SSH_AUTH_METHOD_INTERACTIVE) != 0 &&
		    (i == 0 || rc == SSH_AUTH_PARTIAL))
			rc = by_keyboard(a);
		else if ((can & SSH_AUTH_METHOD_PASSWORD) != 0 && a->has_password &&
		    !a->spoke)
			rc = by_password(a);
		else
			break;
		if (rc != SSH_AUTH_PARTIAL && rc != SSH_AUTH_DENIED)
			break;
		clock_anew(a);
	}
	return rc;
}

static int
with_password(struct auth *a)
{
	int rc;

	/* The server says which methods it takes in answer to "none". */
	while ((rc = ssh_userauth_none(a->g->ssh, NULL)) == SSH_AUTH_AGAIN)
		if (sp_egress_wait(a->g, a->deadline) != SP_OK)
			return SSH_AUTH_ERROR;
	if (rc == SSH_AUTH_SUCCESS) {
		a->g->why = "the target lets anybody in without a credential";
		return SSH_AUTH_ERROR;
	}
	if (rc == SSH_AUTH_ERROR || take_password(a) != SP_OK)
		return SSH_AUTH_ERROR;
	return go_on(a);
}

enum sp_err
sp_egress_authenticate(struct sp_egress *g, uint8_t method, uint32_t ms)
{
	struct auth a = {.g = g, .ms = ms};
	const struct sp_kind *kind = sp_kind_find(method);
	int rc = SSH_AUTH_ERROR;

	clock_anew(&a);
	if (kind != NULL && kind->gives == SP_GIVES_PASSWORD)
		rc = with_password(&a);
	else if (kind != NULL && kind->gives == SP_GIVES_AGENT)
		rc = sp_egress_by_agent(g, a.deadline);
	if (rc == SSH_AUTH_PARTIAL && kind->gives == SP_GIVES_AGENT)
		rc = go_on(&a);
	explicit_bzero(a.password, sizeof(a.password));
	if (rc == SSH_AUTH_DENIED || rc == SSH_AUTH_PARTIAL)
		return SP_ERR_DENIED;
	return rc == SSH_AUTH_SUCCESS ? SP_OK : SP_ERR_STATE;
}
