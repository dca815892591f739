/* SPDX-License-Identifier: Apache-2.0 */
/* pam_sallyport.so as built, loaded by the real libpam; a thread plays the
 * broker at the other end of the link. */
#include <criterion/criterion.h>
#include <security/pam_appl.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/pam_host.h"
#include "tests/support/tmp.h"

#define UNAVAIL PAM_AUTHINFO_UNAVAIL
enum { ANSWER, SILENT, DEAD, OTHER_CORR, OTHER_MESSAGE };
/* What the user types: a code, or one of these. */
static char conv_null[] = "(null)", conv_err[] = "(error)";

static struct {
	struct sp_link ours, brokers;
	struct sp_pam_host host;
	bool has_host;
	int mode;
	uint8_t totp, acct;
	const char *good_code;		/* OK for this, `totp` for others */
	unsigned n_totp, n_acct;
	char **typed;
	unsigned n_prompts;
	char dir[64];
} t;

const struct sp_pam_host *
sp_pam_host(void)
{
	return t.has_host ? &t.host : NULL;
}

static int
conv(int n, const struct pam_message **m, struct pam_response **out, void *arg)
{
	struct pam_response *r = calloc((size_t)n, sizeof(*r));

	(void)arg;
	for (int i = 0; i < n; i++) {
		const char *s;

		if (m[i]->msg_style != PAM_PROMPT_ECHO_OFF)
			continue;
		s = t.typed[t.n_prompts++];
		if (s == conv_err) {
			free(r);
			return PAM_CONV_ERR;
		}
		r[i].resp = s == conv_null ? NULL : strdup(s);
	}
	*out = r;
	return PAM_SUCCESS;
}

static uint8_t
judge(struct sp_packet *p)
{
	struct sp_msg_pam_check_totp c;

	if (p->type == SP_MSG_pam_check_acct) {
		t.n_acct++;
		return t.acct;
	}
	t.n_totp++;
	if (sp_dec_pam_check_totp(p->body, &c) != SP_OK)
		abort();
	if (t.good_code != NULL && sp_span_is(c.code, t.good_code))
		return SP_PAM_OK;
	return t.totp;
}

static void *
broker(void *arg)
{
	struct sp_packet p;
	struct sp_msg_pam_verdict v = {.text = sp_span_str("")};

	while (sp_link_wait(&t.brokers, &p, 60000) == SP_OK) {
		uint64_t corr = p.corr + (t.mode == OTHER_CORR);
		enum sp_err e;

		v.verdict = judge(&p);
		if (t.mode == SILENT)
			continue;
		if (t.mode == DEAD) {
			shutdown(t.brokers.fd, SHUT_RDWR);
			break;
		}
		if (t.mode == OTHER_MESSAGE)
			e = sp_link_send(&t.brokers, SP_MSG_pam_answer, corr,
			    sp_span_of("\1\0\0\0\0", 5), NULL, 0);
		else
			e = sp_send_pam_verdict(&t.brokers, corr, &v, NULL);
		if (e != SP_OK)
			break;
	}
	return arg;
}

static void
setup(const char *args)
{
	const char *top = getenv("top_builddir");
	char path[128], text[4096], so[512];
	int fds[2], fd;

	memset(&t, 0, sizeof(t));
	snprintf(so, sizeof(so), "%s/.libs/pam_sallyport.so",
	    top == NULL ? "." : top);
	tmp_name(t.dir, sizeof(t.dir), "sp-pam");
	cr_assert_not_null(mkdtemp(t.dir));
	snprintf(path, sizeof(path), "%s/test", t.dir);
	snprintf(text, sizeof(text), "auth required %s %s\naccount required %s"
	    " %s\nsession required %s\npassword required %s\n", so, args, so,
	    args, so, so);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	cr_assert_eq(sp_link_pair(fds), SP_OK);
	cr_assert_eq(sp_link_init(&t.ours, fds[0], SP_ROLE_AUT, SP_ROLE_BRK,
	    SP_ST_READY), SP_OK);
	cr_assert_eq(sp_link_init(&t.brokers, fds[1], SP_ROLE_BRK, SP_ROLE_AUT,
	    SP_ST_READY), SP_OK);
	sp_ipc_table_hash(t.host.table);
	t.host.link_bytes = sizeof(struct sp_link);
	t.host.link = &t.ours;
	t.has_host = true;
}

static pam_handle_t *
pam_up(const char *user)
{
	static const struct pam_conv c = {.conv = conv};
	pam_handle_t *h = NULL;

	cr_assert_eq(pam_start_confdir("test", user, &c, t.dir, &h), PAM_SUCCESS);
	return h;
}

static void
down(pam_handle_t *h)
{
	char path[128];

	cr_expect_eq(pam_end(h, PAM_SUCCESS), PAM_SUCCESS);
	sp_link_fini(&t.ours);
	sp_link_fini(&t.brokers);
	snprintf(path, sizeof(path), "%s/test", t.dir);
	unlink(path);
	rmdir(t.dir);
}

/* Runs pam_authenticate with what is typed; how long it took in ms. */
static int
authenticate(char **typed, int64_t *took_ms)
{
	pam_handle_t *h = pam_up("alice");
	pthread_t th;
	int64_t start = sp_boot_us();
	int rc;

	t.typed = typed;
	cr_assert_eq(pthread_create(&th, NULL, broker, NULL), 0);
	rc = pam_authenticate(h, 0);
	if (took_ms != NULL)
		*took_ms = (sp_boot_us() - start) / 1000;
	shutdown(t.ours.fd, SHUT_RDWR);
	pthread_join(th, NULL);
	down(h);
	return rc;
}

static char good[] = "123456", bad[] = "654321", empty[] = "", five[] = "12345",
    seven[] = "1234567", letters[] = "12a456", spaced[] = " 12345";

Test(pam_module, right_code_opens)
{
	setup("");
	t.good_code = good;
	cr_expect_eq(authenticate((char *[]){good}, NULL), PAM_SUCCESS);
	cr_expect_eq(t.n_totp, 1);
}

Test(pam_module, second_try_opens)
{
	setup("");
	t.good_code = good;
	cr_expect_eq(authenticate((char *[]){bad, good}, NULL), PAM_SUCCESS);
}

Test(pam_module, three_wrong_codes_end_it)
{
	setup("");
	t.good_code = good;
	cr_expect_eq(authenticate((char *[]){bad, bad, bad, good}, NULL),
	    PAM_MAXTRIES);
	cr_expect_eq(t.n_prompts, 3);
}

Test(pam_module, only_six_digits_reach_the_broker)
{
	static char *const odd[] = {empty, five, seven, letters, spaced};

	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		setup("");
		t.totp = SP_PAM_OK;	/* it would let anything in */
		cr_expect_eq(authenticate((char *[]){odd[i], odd[i], odd[i]},
		    NULL), PAM_MAXTRIES);
		cr_expect_eq(t.n_totp, 0);
	}
}

Test(pam_module, broken_conversation_denies)
{
	setup("");
	t.totp = SP_PAM_OK;
	cr_expect_eq(authenticate((char *[]){conv_null}, NULL), PAM_CONV_ERR);
	setup("");
	t.totp = SP_PAM_OK;
	cr_expect_eq(authenticate((char *[]){conv_err}, NULL), PAM_CONV_ERR);
	cr_expect_eq(t.n_totp, 0);
}

Test(pam_module, every_other_verdict_denies)
{
	for (unsigned v = 0; v < 256; v++) {
		int rc;

		if (v == SP_PAM_OK)
			continue;
		setup("");
		t.totp = (uint8_t)v;
		rc = authenticate((char *[]){bad, bad, bad}, NULL);
		cr_expect(rc == (v == SP_PAM_UNAVAILABLE ? UNAVAIL :
		    v == SP_PAM_DENY || v == SP_PAM_EXPIRED ||
		    v == SP_PAM_MAXTRIES ? PAM_MAXTRIES : PAM_SYSTEM_ERR),
		    "verdict %u gave %d", v, rc);
	}
}

Test(pam_module, silent_broker_denies_in_two_seconds)
{
	int64_t ms = 0;

	setup("");
	t.mode = SILENT;
	t.totp = SP_PAM_OK;
	cr_expect_eq(authenticate((char *[]){good}, &ms), UNAVAIL);
	cr_expect(ms >= 1900 && ms < 3000, "%lld ms", (long long)ms);
}

Test(pam_module, dead_or_confused_broker_denies)
{
	static const int modes[] = {DEAD, OTHER_CORR, OTHER_MESSAGE};

	for (size_t i = 0; i < 3; i++) {
		setup("");
		t.mode = modes[i];
		t.totp = SP_PAM_OK;
		cr_expect_eq(authenticate((char *[]){good}, NULL), UNAVAIL);
	}
}

Test(pam_module, unknown_argument_denies)
{
	static const char *const args[] = {"alwaysok", "nullok", "debug", "x=1"};

	for (size_t i = 0; i < 4; i++) {
		setup(args[i]);
		t.totp = SP_PAM_OK;
		cr_expect_eq(authenticate((char *[]){good}, NULL),
		    PAM_SYSTEM_ERR);
		cr_expect_eq(t.n_prompts, 0);
	}
}

Test(pam_module, other_programs_and_builds_deny)
{
	setup("");
	t.has_host = false;
	cr_expect_eq(authenticate((char *[]){good}, NULL), UNAVAIL);
	setup("");
	t.totp = SP_PAM_OK;
	t.host.table[0] ^= 1;
	cr_expect_eq(authenticate((char *[]){good}, NULL), PAM_SYSTEM_ERR);
}

static int
check_acct(uint8_t verdict, int mode)
{
	pam_handle_t *h;
	pthread_t th;
	int rc;

	setup("");
	t.acct = verdict;
	t.mode = mode;
	h = pam_up("alice");
	cr_assert_eq(pthread_create(&th, NULL, broker, NULL), 0);
	rc = pam_acct_mgmt(h, 0);
	shutdown(t.ours.fd, SHUT_RDWR);
	pthread_join(th, NULL);
	down(h);
	return rc;
}

Test(pam_module, account)
{
	cr_expect_eq(check_acct(SP_PAM_OK, ANSWER), PAM_SUCCESS);
	cr_expect_eq(check_acct(SP_PAM_DENY, ANSWER), PAM_PERM_DENIED);
	cr_expect_eq(check_acct(SP_PAM_EXPIRED, ANSWER), PAM_ACCT_EXPIRED);
	cr_expect_eq(check_acct(SP_PAM_UNAVAILABLE, ANSWER), UNAVAIL);
	cr_expect_eq(check_acct(200, ANSWER), PAM_SYSTEM_ERR);
	cr_expect_eq(check_acct(SP_PAM_OK, DEAD), UNAVAIL);
	cr_expect_eq(check_acct(SP_PAM_OK, SILENT), UNAVAIL);
	cr_expect_eq(check_acct(SP_PAM_OK, OTHER_CORR), UNAVAIL);
}

Test(pam_module, the_rest_opens_nothing)
{
	pam_handle_t *h;

	setup("");
	h = pam_up("alice");
	cr_expect_eq(pam_open_session(h, 0), PAM_SESSION_ERR);
	/* libpam answers for a session that it never saw opened. */
	cr_expect_neq(pam_close_session(h, 0), PAM_IGNORE);
	cr_expect_eq(pam_chauthtok(h, 0), PAM_AUTHTOK_ERR);
	cr_expect_eq(t.n_totp + t.n_acct, 0);
	down(h);
}
