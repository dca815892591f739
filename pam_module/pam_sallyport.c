/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pam_sallyport.so: asks for a one-time code and lets the broker judge it. It
 * holds no key, no database and no state, and knows no arguments: there is no
 * option that opens. Every result starts at an error; PAM_IGNORE is never
 * returned (an ignored failure is an open door: CVE-2025-23013 of pam_u2f).
 */
#include "common/pam_host.h"

#include <security/pam_modules.h>
#include <security/pam_ext.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "common/log.h"

#define TRIES 3
#define VERDICT_MS 2000		/* a dead vault, broker or database denies */
#define CODE_DIGITS 6

extern const struct sp_pam_host *sp_pam_host(void) __attribute__((weak));

struct ask {
	pam_handle_t *pamh;
	const struct sp_pam_host *host;
	struct sp_span user;
	bool is_silent;
};

/* What every entry needs; PAM_SUCCESS only means that it may go on. */
static int
begin(struct ask *a, pam_handle_t *pamh, int flags, int argc,
    const char **argv)
{
	uint8_t table[32];
	const void *user = NULL;

	*a = (struct ask){.pamh = pamh, .is_silent =
	    ((unsigned)flags & PAM_SILENT) != 0};
	if (argc != 0) {
		pam_syslog(pamh, LOG_ERR, "unknown argument %s: refused",
		    sp_vis_str(argv[0]));
		return PAM_SYSTEM_ERR;
	}
	if (sp_pam_host == NULL || (a->host = sp_pam_host()) == NULL) {
		pam_syslog(pamh, LOG_ERR, "this program has no link with the broker");
		return PAM_AUTHINFO_UNAVAIL;
	}
	sp_ipc_table_hash(table);
	if (a->host->link_bytes != sizeof(struct sp_link) ||
	    memcmp(table, a->host->table, sizeof(table)) != 0 ||
	    a->host->link == NULL)
		return PAM_SYSTEM_ERR;	/* another build */
	if (pam_get_item(pamh, PAM_USER, &user) != PAM_SUCCESS || user == NULL)
		return PAM_USER_UNKNOWN;
	a->user = sp_span_str(user);
	if (a->user.n == 0 || a->user.n > 64 || !sp_utf8_is_valid(a->user))
		return PAM_USER_UNKNOWN;
	return PAM_SUCCESS;
}

static void
show(const struct ask *a, struct sp_span text)
{
	char safe[256];

	if (a->is_silent || text.n == 0)
		return;
	sp_vis(safe, sizeof(safe), text);
	/* Whether it could be shown changes nothing of the verdict. */
	if (pam_prompt(a->pamh, PAM_ERROR_MSG, NULL, "%s", safe) != PAM_SUCCESS)
		return;
}

/* Who sends an answer to something else, or a late one, is not believed. */
static enum sp_err
wait_verdict(const struct ask *a, uint64_t corr, struct sp_msg_pam_verdict *v)
{
	struct sp_packet p;

	SP_TRY(sp_link_wait(a->host->link, &p, VERDICT_MS));
	if (p.type != SP_MSG_pam_verdict || p.corr != corr) {
		sp_packet_close_fds(&p);
		return SP_ERR_PROTO;
	}
	return sp_dec_pam_verdict(p.body, v);
}

static uint64_t
next_corr(void)
{
	static uint64_t n;

	return ++n;
}

static bool
is_code(const char *s)
{
	size_t n = strnlen(s, CODE_DIGITS + 1);

	if (n != CODE_DIGITS)
		return false;
	for (size_t i = 0; i < n; i++)
		if (s[i] < '0' || s[i] > '9')
			return false;
	return true;
}

static int
check_code(const struct ask *a, const char *code)
{
	struct sp_msg_pam_check_totp m = {.user = a->user,
	    .code = sp_span_str(code)};
	struct sp_msg_pam_verdict v = {.verdict = SP_PAM_DENY};
	uint64_t corr = next_corr();

	if (!is_code(code)) {
		show(a, sp_span_str("A code has six digits."));
		return PAM_AUTH_ERR;
	}
	if (sp_send_pam_check_totp(a->host->link, corr, &m, NULL) != SP_OK ||
	    wait_verdict(a, corr, &v) != SP_OK)
		return PAM_AUTHINFO_UNAVAIL;
	show(a, v.text);
	switch (v.verdict) {
	case SP_PAM_OK:
		return PAM_SUCCESS;
	case SP_PAM_DENY:
	case SP_PAM_EXPIRED:
		return PAM_AUTH_ERR;
	case SP_PAM_MAXTRIES:
		return PAM_MAXTRIES;
	case SP_PAM_UNAVAILABLE:
		return PAM_AUTHINFO_UNAVAIL;
	default:
		return PAM_SYSTEM_ERR;
	}
}

static int
one_try(const struct ask *a)
{
	char *code = NULL;
	int rc = pam_prompt(a->pamh, PAM_PROMPT_ECHO_OFF, &code,
	    "One-time code: ");

	if (rc == PAM_SUCCESS && code == NULL)
		rc = PAM_CONV_ERR;
	if (rc == PAM_SUCCESS)
		rc = check_code(a, code);
	else
		rc = PAM_CONV_ERR;
	if (code != NULL) {
		explicit_bzero(code, strlen(code));
		free(code);
	}
	return rc;
}

int
pam_sm_authenticate(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	struct ask a;
	int rc = PAM_SYSTEM_ERR;

	if ((rc = begin(&a, pamh, flags, argc, argv)) != PAM_SUCCESS)
		return rc;
	rc = PAM_AUTH_ERR;
	for (int i = 0; i < TRIES && rc == PAM_AUTH_ERR; i++)
		rc = one_try(&a);
	return rc == PAM_AUTH_ERR ? PAM_MAXTRIES : rc;
}

int
pam_sm_acct_mgmt(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	struct sp_msg_pam_check_acct m;
	struct sp_msg_pam_verdict v = {.verdict = SP_PAM_DENY};
	struct ask a;
	uint64_t corr = next_corr();
	int rc = PAM_SYSTEM_ERR;

	if ((rc = begin(&a, pamh, flags, argc, argv)) != PAM_SUCCESS)
		return rc;
	m.user = a.user;
	if (sp_send_pam_check_acct(a.host->link, corr, &m, NULL) != SP_OK ||
	    wait_verdict(&a, corr, &v) != SP_OK)
		return PAM_AUTHINFO_UNAVAIL;
	show(&a, v.text);
	switch (v.verdict) {
	case SP_PAM_OK:
		return PAM_SUCCESS;
	case SP_PAM_DENY:
	case SP_PAM_MAXTRIES:
		return PAM_PERM_DENIED;
	case SP_PAM_EXPIRED:
		return PAM_ACCT_EXPIRED;
	case SP_PAM_UNAVAILABLE:
		return PAM_AUTHINFO_UNAVAIL;
	default:
		return PAM_SYSTEM_ERR;
	}
}

/* There are no credentials to set; success here opens nothing. */
int
pam_sm_setcred(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)pamh;
	(void)flags;
	(void)argv;
	return argc == 0 ? PAM_SUCCESS : PAM_SYSTEM_ERR;
}

/* Sessions are the broker's and the recorder's; a program that expects this
 * module to watch one would run it unseen. */
int
pam_sm_open_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)pamh;
	(void)flags;
	(void)argc;
	(void)argv;
	return PAM_SESSION_ERR;
}

int
pam_sm_close_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)pamh;
	(void)flags;
	(void)argc;
	(void)argv;
	return PAM_SUCCESS;
}

/* Codes are enrolled on the bastion's host: sallyport users totp NAME. */
int
pam_sm_chauthtok(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)pamh;
	(void)flags;
	(void)argc;
	(void)argv;
	return PAM_AUTHTOK_ERR;
}
