/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sallyport-auth CONFDIR: one PAM conversation. Executed by the supervisor for
 * each login; unlike the other roles it says no hello: descriptor 3 is its
 * link with the broker, 4 the directory of the service file, and CONFDIR names
 * that descriptor. It denies whatever it does not understand.
 *
 * Confinement: libpam reads the service file and loads the modules in
 * pam_start_confdir(3), which therefore comes before the filter. Afterwards no
 * file can be opened (Landlock) and no program executed, no process made, no
 * connection opened (seccomp). What stays is for libaudit, which reports each
 * result to the kernel. A module that needs files or helpers after it has
 * been loaded ends this process: that denies.
 */
#include <security/pam_appl.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bastion/auth/service.h"
#include "common/log.h"
#include "common/pam_host.h"
#include "common/sandbox.h"

#define LINK_FD 3
#define CONF_FD 4
#define START_MS 5000
#define ANSWER_MS 600000	/* the longest login_grace_s */
#define MESSAGES_MAX 32		/* of a whole conversation */
#define TEXT_MAX 512
#define SERVICE_MAX 16384

struct talk {
	struct sp_link link;
	struct sp_pam_host host;
	unsigned n_messages;
	bool is_broken;
};
static struct talk talk;

const struct sp_pam_host *
sp_pam_host(void)
{
	return talk.host.link == NULL ? NULL : &talk.host;
}

/* Control characters never reach the user's terminal from a module. */
static void
clean(char out[static TEXT_MAX + 1], const char *text)
{
	size_t n = 0;
	bool is_utf8 = sp_utf8_is_valid(sp_span_str(text));

	for (const char *s = text; *s != '\0' && n < TEXT_MAX; s++) {
		unsigned char c = (unsigned char)*s;

		if (c < 0x20 || c == 0x7f)
			continue;
		out[n++] = c >= 0x80 && !is_utf8 ? '?' : *s;
	}
	out[n] = '\0';
	while (n > 0 && !sp_utf8_is_valid(sp_span_of(out, n)))
		out[--n] = '\0';	/* cut inside a character */
}

static char *
answer(struct talk *t)
{
	struct sp_msg_pam_answer a;
	struct sp_packet p;
	char *s;

	if (sp_link_wait(&t->link, &p, ANSWER_MS) != SP_OK)
		return NULL;
	if (p.type != SP_MSG_pam_answer || sp_dec_pam_answer(p.body, &a) != SP_OK) {
		sp_packet_close_fds(&p);
		return NULL;
	}
	s = a.ok == 1 ? sp_span_dup(a.text) : NULL;
	explicit_bzero(t->link.rx, (size_t)(p.body.p - t->link.rx) + p.body.n);
	return s;
}

static int
one_message(struct talk *t, const struct pam_message *m,
    struct pam_response *r)
{
	char text[TEXT_MAX + 1];
	struct sp_msg_pam_prompt q = {0};
	bool wants = m->msg_style == PAM_PROMPT_ECHO_OFF ||
	    m->msg_style == PAM_PROMPT_ECHO_ON;

	if (!wants && m->msg_style != PAM_TEXT_INFO &&
	    m->msg_style != PAM_ERROR_MSG)
		return PAM_CONV_ERR;
	if (t->n_messages++ >= MESSAGES_MAX || m->msg == NULL)
		return PAM_CONV_ERR;
	clean(text, m->msg);
	q.style = (uint8_t)m->msg_style;
	q.text = sp_span_str(text);
	if (sp_send_pam_prompt(&t->link, t->n_messages, &q, NULL) != SP_OK)
		return PAM_CONV_ERR;
	if (!wants)
		return PAM_SUCCESS;
	r->resp = answer(t);
	return r->resp == NULL ? PAM_CONV_ERR : PAM_SUCCESS;
}

static int
converse(int n, const struct pam_message **m, struct pam_response **out,
    void *arg)
{
	struct talk *t = arg;
	struct pam_response *r;
	int rc = PAM_SUCCESS;

	if (n <= 0 || n > MESSAGES_MAX || t->is_broken)
		return PAM_CONV_ERR;
	if ((r = calloc((size_t)n, sizeof(*r))) == NULL)
		return PAM_BUF_ERR;
	for (int i = 0; i < n && rc == PAM_SUCCESS; i++)
		rc = one_message(t, m[i], &r[i]);
	if (rc == PAM_SUCCESS) {
		*out = r;
		return PAM_SUCCESS;
	}
	for (int i = 0; i < n; i++)
		if (r[i].resp != NULL) {
			explicit_bzero(r[i].resp, strlen(r[i].resp));
			free(r[i].resp);
		}
	free(r);
	t->is_broken = true;
	return PAM_CONV_ERR;
}

static bool
service_is_safe(const char *name)
{
	static char text[SERVICE_MAX];
	const char *why = "it cannot be read";
	unsigned line = 0;
	size_t got = 0;
	ssize_t n = 1;
	int fd = openat(CONF_FD, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	while (fd >= 0 && got < sizeof(text) &&
	    (n = read(fd, text + got, sizeof(text) - got)) > 0)
		got += (size_t)n;
	if (fd >= 0)
		close(fd);
	if (fd >= 0 && n == 0 &&
	    sp_service_check(sp_span_of(text, got), &line, &why) == SP_OK)
		return true;
	sp_log(SP_ERROR, "pam_service_refused", NULL,
	    "service=%s line=%u why=\"%s\"", sp_vis_str(name), line, why);
	return false;
}

static bool
user_is(pam_handle_t *pamh, const char *user)
{
	const void *now = NULL;

	return pam_get_item(pamh, PAM_USER, &now) == PAM_SUCCESS &&
	    now != NULL && strcmp(now, user) == 0;
}

static enum sp_err
confine(void)
{
	struct rlimit files = {32, 32}, procs = {0, 0}, cpu = {30, 30};
	char level[128] = "";

	/* The lowest that is left: no fork even where the filter is off. */
	if (setrlimit(RLIMIT_NOFILE, &files) != 0 ||
	    setrlimit(RLIMIT_NPROC, &procs) != 0 ||
	    setrlimit(RLIMIT_CPU, &cpu) != 0)
		return SP_ERR_IO;
#ifndef SP_SANITIZED
	sp_landlock_restrict(NULL, 0, level, sizeof(level));
#endif
	return sp_sandbox_enter(sp_auth_syscalls, sp_auth_n_syscalls, level,
	    sizeof(level));
}

struct result {
	int auth, acct;
};

static struct result
authenticate(struct talk *t, pam_handle_t *pamh, const char *user)
{
	struct result r = {PAM_SYSTEM_ERR, PAM_SYSTEM_ERR};

	r.auth = pam_authenticate(pamh, PAM_DISALLOW_NULL_AUTHTOK);
	if (r.auth == PAM_SUCCESS && (t->is_broken || !user_is(pamh, user)))
		r.auth = PAM_SYSTEM_ERR;
	/* Nothing of the account is said to who did not authenticate; who did
	 * is never let in without this. */
	if (r.auth != PAM_SUCCESS)
		return (struct result){r.auth, PAM_PERM_DENIED};
	r.acct = pam_acct_mgmt(pamh, PAM_DISALLOW_NULL_AUTHTOK);
	if (r.acct == PAM_SUCCESS && (t->is_broken || !user_is(pamh, user)))
		r.acct = PAM_SYSTEM_ERR;
	return r;
}

static struct result
run(struct talk *t, const char *dir, const struct sp_msg_pam_start *m)
{
	struct result r = {PAM_SYSTEM_ERR, PAM_SYSTEM_ERR};
	struct pam_conv conv = {.conv = converse, .appdata_ptr = t};
	char user[65], rhost[65], service[33];
	pam_handle_t *pamh = NULL;
	int rc;

	if (!sp_name_is_valid(m->user) || !sp_name_is_valid(m->service) ||
	    sp_span_cstr(m->user, user, sizeof(user)) != SP_OK ||
	    sp_span_cstr(m->rhost, rhost, sizeof(rhost)) != SP_OK ||
	    sp_span_cstr(m->service, service, sizeof(service)) != SP_OK ||
	    !service_is_safe(service))
		return r;
	rc = pam_start_confdir(service, user, &conv, dir, &pamh);
	if (rc != PAM_SUCCESS || pamh == NULL) {
		sp_log(SP_ERROR, "pam_start_failed", NULL, "code=%d", rc);
		return r;
	}
	close(CONF_FD);
	/* PAM_RHOST stays unset: libaudit would resolve it, by name service
	 * sockets and files, with every result. The broker knows it. */
	if (confine() == SP_OK)
		r = authenticate(t, pamh, user);
	rc = r.auth != PAM_SUCCESS ? r.auth : r.acct;
	if (pam_end(pamh, rc) != PAM_SUCCESS)
		sp_log(SP_WARN, "pam_end_failed", NULL, "");
	sp_log(SP_INFO, "pam_result", NULL, "user=%s rhost=%s auth=%d acct=%d",
	    sp_vis_str(user), sp_vis_str(rhost), r.auth, r.acct);
	return r;
}

int
main(int argc, char **argv)
{
	struct sp_msg_pam_result out;
	struct sp_msg_pam_start m;
	struct sp_packet p;
	struct result r;

	sp_harden(NULL);
	sp_log_init("sallyport-auth", false);
	if (argc != 2) {
		sp_log(SP_ERROR, "usage", NULL, "why=\"executed by sallyportd\"");
		return 2;
	}
	if (sp_link_init(&talk.link, LINK_FD, SP_ROLE_AUT, SP_ROLE_BRK,
	    SP_ST_NEW) != SP_OK ||
	    sp_link_wait(&talk.link, &p, START_MS) != SP_OK ||
	    p.type != SP_MSG_pam_start || sp_dec_pam_start(p.body, &m) != SP_OK) {
		sp_log(SP_ERROR, "no_pam_start", NULL, "fault=\"%s\"",
		    talk.link.fault);
		return 1;
	}
	talk.link.state = SP_ST_READY;
	sp_ipc_table_hash(talk.host.table);
	talk.host.link_bytes = sizeof(struct sp_link);
	talk.host.link = &talk.link;
	r = run(&talk, argv[1], &m);
	out = (struct sp_msg_pam_result){.auth = (uint32_t)r.auth,
	    .acct = (uint32_t)r.acct};
	if (sp_send_pam_result(&talk.link, 0, &out, NULL) != SP_OK)
		return 1;
	sp_link_fini(&talk.link);
	return r.auth == PAM_SUCCESS && r.acct == PAM_SUCCESS ? 0 : 1;
}
