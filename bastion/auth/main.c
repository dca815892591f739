/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sallyport-auth: the parent of all PAM conversations; a child has one. The
 * parent loads libpam and the modules that the service names once, and holds
 * the directory of the service file. It denies whatever it does not understand.
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
#include "common/config.h"
#include "common/log.h"
#include "common/pam_host.h"
#include "common/parent.h"
#include "common/sandbox.h"

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

/* What a child needs of its parent. */
struct home {
	struct sp_config cfg;
	int conf;			/* the directory of the service file */
	char dir[32];			/* and its name */
};

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
service_is_safe(int conf, const char *name)
{
	static char text[SERVICE_MAX];
	const char *why = "it cannot be read";
	unsigned line = 0;
	size_t got = 0;
	ssize_t n = 1;
	int fd = openat(conf, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

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
run(struct talk *t, const struct home *h, const struct sp_msg_pam_start *m)
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
	    !service_is_safe(h->conf, service))
		return r;
	rc = pam_start_confdir(service, user, &conv, h->dir, &pamh);
	if (rc != PAM_SUCCESS || pamh == NULL) {
		sp_log(SP_ERROR, "pam_start_failed", NULL, "code=%d", rc);
		return r;
	}
	close(h->conf);
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

static int
child(void *ctx, struct sp_packet *spawn)
{
	const struct home *h = ctx;
	struct sp_msg_pam_result out;
	struct sp_msg_pam_start m;
	struct sp_packet p;
	struct result r;

	if (spawn->type != SP_MSG_spawn_auth || spawn->n_fds != 1) {
		sp_packet_close_fds(spawn);
		return 1;
	}
	if (sp_link_init(&talk.link, spawn->fds[0], SP_ROLE_AUT, SP_ROLE_BRK,
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
	r = run(&talk, h, &m);
	out = (struct sp_msg_pam_result){.auth = (uint32_t)r.auth,
	    .acct = (uint32_t)r.acct};
	if (sp_send_pam_result(&talk.link, 0, &out, NULL) != SP_OK)
		return 1;
	sp_link_fini(&talk.link);
	return r.auth == PAM_SUCCESS && r.acct == PAM_SUCCESS ? 0 : 1;
}

/* ---------------------------------------------------------------- parent */

static int
nobody_answers(int n, const struct pam_message **m, struct pam_response **out,
    void *arg)
{
	(void)n, (void)m, (void)out, (void)arg;
	return PAM_CONV_ERR;
}

/* The handle stays: the modules stay loaded for the children, who read the
 * service file anew. One that is refused now may be mended before a login. */
static void
warm_up(struct home *h)
{
	static const struct pam_conv conv = {.conv = nobody_answers};
	static pam_handle_t *kept;
	char when[SP_TIME_TEXT];
	uint8_t table[32];

	/* The first use of calendar time reads the time zone from a file. */
	sp_time_text(when, sp_now_us(), true);
	sp_ipc_table_hash(table);
	if (service_is_safe(h->conf, h->cfg.pam_service) &&
	    pam_start_confdir(h->cfg.pam_service, "nobody", &conv, h->dir,
	    &kept) != PAM_SUCCESS)
		sp_log(SP_WARN, "pam_not_warm", NULL, "service=%s",
		    sp_vis_str(h->cfg.pam_service));
}

static enum sp_err
start(void *ctx, struct sp_packet *p)
{
	struct home *h = ctx;
	struct sp_msg_start_auth m;
	struct sp_config_diag diag;

	if (p->type != SP_MSG_start_auth || p->n_fds != 1) {
		sp_packet_close_fds(p);
		return SP_ERR_PROTO;
	}
	h->conf = p->fds[0];
	snprintf(h->dir, sizeof(h->dir), "/proc/self/fd/%d", h->conf);
	SP_TRY(sp_dec_start_auth(p->body, &m));
	SP_TRY(sp_config_parse(&h->cfg, m.config, &diag));
	SP_TRY(sp_sandbox_prepare(sp_auth_syscalls, sp_auth_n_syscalls));
	warm_up(h);
	return SP_OK;
}

int
main(void)
{
	static const struct sp_parent ops = {.role = SP_ROLE_AUT,
	    .start = start, .child = child};
	static struct home home;

	sp_harden(NULL);
	sp_log_init("sallyport-auth", false);
	return sp_parent_main(&ops, &home);
}
