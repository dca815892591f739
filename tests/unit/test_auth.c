/* SPDX-License-Identifier: Apache-2.0 */
/* sallyport-auth as built, with the real libpam and module; the test is the
 * supervisor and the broker. And the check of the service file. */
#include <criterion/criterion.h>
#include <security/pam_appl.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bastion/auth/service.h"
#include "common/ipc.h"
#include "tests/support/tmp.h"

#define LONG_MS 60000

static struct {
	struct sp_link link, sup;
	pid_t pid;
	char dir[64];
} t;

static struct sp_packet
from_parent(uint16_t type)
{
	struct sp_packet p;
	enum sp_err e = sp_link_wait(&t.sup, &p, LONG_MS);

	cr_assert_eq(e, SP_OK, "%s expected: %s %s", sp_ipc_name(type),
	    sp_err_text(e), t.sup.fault);
	cr_assert_eq(p.type, type, "%s expected, got %s", sp_ipc_name(type),
	    sp_ipc_name(p.type));
	return p;
}

/* Starts the parent and asks it for one child, which t.link then reaches. */
static void
spawn(int sup, int dir)
{
	struct sp_msg_start_auth start = {.config = sp_span_str("")};
	struct sp_msg_spawn_auth m = {.id = 7};
	int fds[2];

	cr_assert_eq(sp_link_init(&t.sup, sup, SP_ROLE_SUP, SP_ROLE_AUT,
	    SP_ST_NEW), SP_OK);
	from_parent(SP_MSG_hello);
	cr_assert_eq(sp_send_start_auth(&t.sup, 0, &start, &dir), SP_OK);
	from_parent(SP_MSG_started);
	t.sup.state = SP_ST_READY;
	cr_assert_eq(sp_link_pair(fds), SP_OK);
	cr_assert_eq(sp_send_spawn_auth(&t.sup, 0, &m, &fds[1]), SP_OK);
	from_parent(SP_MSG_spawned);
	cr_assert_eq(sp_link_init(&t.link, fds[0], SP_ROLE_BRK, SP_ROLE_AUT,
	    SP_ST_READY), SP_OK);
}

static void
begin(const char *service_text)
{
	const char *top = getenv("top_builddir");
	char text[2048], path[128], exe[512], so[512], *at;
	int fds[2], fd, dir;

	memset(&t, 0, sizeof(t));
	snprintf(so, sizeof(so), "%s/.libs/pam_sallyport.so", top == NULL ? "." : top);
	snprintf(exe, sizeof(exe), "%s/sallyport-auth", top == NULL ? "." : top);
	tmp_name(t.dir, sizeof(t.dir), "sp-auth");
	cr_assert_not_null(mkdtemp(t.dir));
	snprintf(path, sizeof(path), "%s/sallyport", t.dir);
	snprintf(text, sizeof(text), "%s", service_text);
	if ((at = strstr(text, "%")) != NULL)
		snprintf(text, sizeof(text), "auth required %s\n"
		    "account required %s\n", so, so);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	dir = open(t.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_eq(sp_link_pair(fds), SP_OK);
	t.pid = fork();
	if (t.pid == 0) {
		int a = fcntl(fds[1], F_DUPFD, 20);

		dup2(a, 3);
		close_range(4, ~0U, 0);
		execl(exe, exe, (char *)NULL);
		_exit(99);
	}
	close(fds[1]);
	spawn(fds[0], dir);
}

static int
end(void)
{
	struct sp_msg_stop stop = {.graceful = 1};
	struct sp_msg_exited m;
	struct sp_packet p;
	char path[128];
	int status = -1;

	sp_link_fini(&t.link);
	p = from_parent(SP_MSG_exited);
	cr_assert_eq(sp_dec_exited(p.body, &m), SP_OK);
	cr_assert_eq(sp_send_stop(&t.sup, 0, &stop, NULL), SP_OK);
	cr_assert_eq(waitpid(t.pid, &status, 0), t.pid);
	cr_expect_eq(status, 0, "the parent");
	sp_link_fini(&t.sup);
	status = (int)m.status;
	snprintf(path, sizeof(path), "%s/sallyport", t.dir);
	unlink(path);
	rmdir(t.dir);
	return status;
}

static void
say_start(const char *user)
{
	struct sp_msg_pam_start m = {.user = sp_span_str(user),
	    .rhost = sp_span_str("203.0.113.7"),
	    .service = sp_span_str("sallyport")};

	cr_assert_eq(sp_send_pam_start(&t.link, 0, &m, NULL), SP_OK);
}

static struct sp_packet
expect(uint16_t type)
{
	struct sp_packet p;
	enum sp_err e = sp_link_wait(&t.link, &p, LONG_MS);

	cr_assert_eq(e, SP_OK, "%s expected: %s %s", sp_ipc_name(type),
	    sp_err_text(e), t.link.fault);
	cr_assert_eq(p.type, type, "%s expected, got %s", sp_ipc_name(type),
	    sp_ipc_name(p.type));
	return p;
}

static void
answer(const char *text)
{
	struct sp_msg_pam_answer m = {.ok = text != NULL,
	    .text = sp_span_str(text)};

	cr_assert_eq(sp_send_pam_answer(&t.link, 0, &m, NULL), SP_OK);
}

static void
verdict(uint64_t corr, uint8_t v, const char *text)
{
	struct sp_msg_pam_verdict m = {.verdict = v, .text = sp_span_str(text)};

	cr_assert_eq(sp_send_pam_verdict(&t.link, corr, &m, NULL), SP_OK);
}

static void
expect_result(uint32_t auth, uint32_t acct)
{
	struct sp_packet p = expect(SP_MSG_pam_result);
	struct sp_msg_pam_result r;

	cr_assert_eq(sp_dec_pam_result(p.body, &r), SP_OK);
	cr_expect_eq(r.auth, auth, "auth %u", r.auth);
	cr_expect_eq(r.acct, acct, "acct %u", r.acct);
}

static void
expect_prompt(uint8_t style, const char *text)
{
	struct sp_packet p = expect(SP_MSG_pam_prompt);
	struct sp_msg_pam_prompt m;

	cr_assert_eq(sp_dec_pam_prompt(p.body, &m), SP_OK);
	cr_expect_eq(m.style, style);
	cr_expect(sp_span_is(m.text, text), "%.*s", (int)m.text.n,
	    (const char *)m.text.p);
}

Test(auth, whole_conversation_succeeds)
{
	struct sp_msg_pam_check_totp c;
	struct sp_packet p;

	begin("%");
	say_start("alice");
	expect_prompt(PAM_PROMPT_ECHO_OFF, "One-time code: ");
	answer("111111");
	p = expect(SP_MSG_pam_check_totp);
	verdict(p.corr, SP_PAM_DENY, "That \033[31mcode is not right.");
	expect_prompt(PAM_ERROR_MSG, "That \\x1b[31mcode is not right.");
	expect_prompt(PAM_PROMPT_ECHO_OFF, "One-time code: ");
	answer("123456");
	p = expect(SP_MSG_pam_check_totp);
	cr_assert_eq(sp_dec_pam_check_totp(p.body, &c), SP_OK);
	cr_expect(sp_span_is(c.user, "alice"));
	cr_expect(sp_span_is(c.code, "123456"));
	verdict(p.corr, SP_PAM_OK, "");
	p = expect(SP_MSG_pam_check_acct);
	verdict(p.corr, SP_PAM_OK, "");
	expect_result(PAM_SUCCESS, PAM_SUCCESS);
	cr_expect_eq(end(), 0);
}

Test(auth, locked_account_is_refused_after_the_right_code)
{
	struct sp_packet p;

	begin("%");
	say_start("alice");
	expect_prompt(PAM_PROMPT_ECHO_OFF, "One-time code: ");
	answer("123456");
	p = expect(SP_MSG_pam_check_totp);
	verdict(p.corr, SP_PAM_OK, "");
	p = expect(SP_MSG_pam_check_acct);
	verdict(p.corr, SP_PAM_EXPIRED, "");
	expect_result(PAM_SUCCESS, PAM_ACCT_EXPIRED);
	cr_expect_eq(WEXITSTATUS(end()), 1);
}

Test(auth, no_answer_denies)
{
	begin("%");
	say_start("alice");
	expect_prompt(PAM_PROMPT_ECHO_OFF, "One-time code: ");
	answer(NULL);
	expect_result(PAM_CONV_ERR, PAM_PERM_DENIED);
	end();
}

Test(auth, vanished_broker_ends_it)
{
	int status;

	begin("%");
	say_start("alice");
	expect_prompt(PAM_PROMPT_ECHO_OFF, "One-time code: ");
	status = end();
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 1);
}

Test(auth, anything_but_pam_start_ends_it)
{
	struct sp_packet p;

	begin("%");
	answer("123456");
	cr_expect_eq(sp_link_wait(&t.link, &p, LONG_MS), SP_ERR_EOF);
	cr_expect_eq(WEXITSTATUS(end()), 1);
}

/* libpam logs that by syslog(3), inside the filter: no crash, a denial. */
Test(auth, missing_module_denies)
{
	begin("auth required /nowhere/pam_sallyport.so\n"
	    "account required /nowhere/pam_sallyport.so\n");
	say_start("alice");
	expect_result(PAM_MODULE_UNKNOWN, PAM_PERM_DENIED);
	cr_expect_eq(WEXITSTATUS(end()), 1);
}

Test(auth, unsafe_service_or_name_denies)
{
	static const char *const texts[] = {
	    "auth sufficient pam_permit.so\naccount required pam_permit.so\n",
	    "auth required pam_permit.so\naccount required pam_permit.so\n", ""};

	for (size_t i = 0; i < 3; i++) {
		begin(texts[i]);
		say_start("alice");
		expect_result(PAM_SYSTEM_ERR, PAM_SYSTEM_ERR);
		end();
	}
	begin("%");
	say_start("../alice");
	expect_result(PAM_SYSTEM_ERR, PAM_SYSTEM_ERR);
	end();
}

static const struct {
	const char *text;
	unsigned line;	/* 0: the whole file; ~0: accepted */
} services[] = {
    {"auth required pam_sallyport.so\naccount required /x/pam_sallyport.so\n", ~0U},
    {"# c\n\nauth\trequisite pam_sallyport.so # c\naccount required pam_sallyport.so", ~0U},
    {"auth required pam_deny.so\nauth required pam_sallyport.so\n"
     "account required pam_sallyport.so\nsession required pam_deny.so\n", ~0U},
    {"-auth required pam_sallyport.so\naccount required pam_sallyport.so\n", 1},
    {"auth required pam_sallyport.so\n-account required pam_sallyport.so\n", 2},
    {"auth sufficient pam_permit.so\n", 1},
    {"auth optional pam_sallyport.so\n", 1},
    {"auth [success=1 default=ignore] pam_sallyport.so\n", 1},
    {"auth include common-auth\n", 1},
    {"auth substack common-auth\n", 1},
    {"@include common-auth\n", 1},
    {"auth required\n", 1},
    {"auth required pam_sallyport.so nullok\n", 1},
    {"auth required pam_sallyport.so \\\n sufficient\n", 1},
    {"# comment \\\nauth required pam_sallyport.so\n", 1},
    {"AUTH required pam_sallyport.so\n", 1},
    {"sallyport auth required pam_sallyport.so\n", 1},
    {"auth required pam_sallyport.so\n", 0},
    {"account required pam_sallyport.so\n", 0},
    {"auth required notpam_sallyport.so\naccount required pam_sallyport.so\n", 0},
    {"auth required pam_sallyport.so/pam_permit.so\naccount required pam_sallyport.so\n", 0},
};

Test(auth, long_line_is_refused)
{
	char text[2048] = "auth required pam_deny.so ";
	unsigned line = 0;
	const char *why = "";

	memset(text + strlen(text), 'a', 1000);
	snprintf(text + 1026, sizeof(text) - 1026, " auth sufficient pam_permit.so"
	    "\nauth required pam_sallyport.so\naccount required pam_sallyport.so\n");
	cr_expect_eq(sp_service_check(sp_span_str(text), &line, &why),
	    SP_ERR_SYNTAX);
	cr_expect_eq(line, 1);
}

Test(auth, service_file)
{
	for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
		unsigned line = 99;
		const char *why = "";
		enum sp_err e = sp_service_check(sp_span_str(services[i].text),
		    &line, &why);

		if (services[i].line == ~0U)
			cr_expect_eq(e, SP_OK, "%zu: %s", i, why);
		else
			cr_expect(e == SP_ERR_SYNTAX && line == services[i].line,
			    "%zu: line %u: %s", i, line, why);
	}
}
