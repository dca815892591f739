/* SPDX-License-Identifier: Apache-2.0 */
#include <curl/curl.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/parent.h"
#include "ship/shipd.h"

#define CA_MAX (4u << 20)

/* libcurl 7.88 calls connect(2) also on a socket of which it was told that it is
 * connected (mended in 8.0). We stand in front of libc's: nothing in this process
 * connects anything, and the filter would end it. */
int
connect(int fd, __CONST_SOCKADDR_ARG a, socklen_t n)
{
	int err = 0;
	socklen_t k = sizeof(err);

	(void)a;
	(void)n;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &k) == 0 && err == 0)
		return 0;
	errno = err != 0 ? err : EPERM;
	return -1;
}

static enum sp_err
read_ca(struct sp_ship *s, int fd)
{
	uint8_t *at;
	ssize_t k;

	sp_buf_init(&s->ca, CA_MAX);
	do {
		SP_TRY(sp_buf_reserve(&s->ca, 65536, &at));
		k = read(fd, at, 65536);
		if (k > 0)
			sp_buf_commit(&s->ca, (size_t)k);
	} while (k > 0);
	return k < 0 ? SP_ERR_IO : SP_OK;
}

static enum sp_err
take_start(struct sp_ship *s, struct sp_packet *p)
{
	struct sp_config_diag diag;
	struct sp_msg_start_ship m;
	enum sp_err e = SP_ERR_PROTO;

	if (p->type == SP_MSG_start_ship)
		e = sp_dec_start_ship(p->body, &m);
	if (e == SP_OK)
		e = sp_config_parse(&s->cfg, m.config, &diag);
	if (e == SP_OK)
		e = read_ca(s, p->fds[0]);
	if (e == SP_OK)
		e = sp_storelock_parse(s->cfg.ship_lock, &s->lock);
	sp_packet_close_fds(p);
	SP_TRY(e);
	sp_log_init("ship", s->cfg.debug != 0);
	s->ops = (struct sp_s3_ops){.dial = sp_ship_dial,
	    .goes_on = sp_ship_goes_on, .arg = s};
	return sp_s3_open(&s->s3, &s->cfg, sp_buf_span(&s->ca), &s->ops);
}

/* What libcurl and OpenSSL open files for, while files can be opened. */
static enum sp_err
warm_up(void)
{
	uint8_t md[32];
	unsigned n;
	CURL *c;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
	    EVP_Digest("", 0, md, &n, EVP_sha256(), NULL) != 1 ||
	    EVP_Digest("", 0, md, &n, EVP_md5(), NULL) != 1 ||
	    (c = curl_easy_init()) == NULL)
		return SP_ERR_NOMEM;
	curl_easy_cleanup(c);
	return SP_OK;
}

static enum sp_err
confine(char *level, size_t cap)
{
	char seccomp[64];

	level[0] = '\0';
#ifndef SP_SANITIZED
	sp_landlock_restrict(NULL, 0, level, cap);
#endif
	SP_TRY(sp_sandbox_enter(sp_ship_syscalls, sp_ship_n_syscalls, seccomp,
	    sizeof(seccomp)));
	snprintf(level + strlen(level), cap - strlen(level), "%s%s",
	    level[0] == '\0' ? "" : " ", seccomp);
	return SP_OK;
}

int
main(int argc, char **argv)
{
	static struct sp_ship s = {.dialed = -1, .job = {.fd = -1}};
	char level[128];
	struct sp_packet p;
	enum sp_err e;

	(void)argv;
	sp_harden(NULL);
	sp_log_init("ship", false);
	s.sup.fd = s.vlt.fd = -1;
	if (argc != 1) {
		fputs("sallyport-ship is started by sallyportd\n", stderr);
		return 2;
	}
	if ((e = warm_up()) == SP_OK &&
	    (e = sp_role_hello(&s.sup, SP_ROLE_SHP, &p)) == SP_OK &&
	    (e = take_start(&s, &p)) == SP_OK &&
	    (e = confine(level, sizeof(level))) == SP_OK)
		e = sp_role_started(&s.sup, level);
	if (e == SP_OK)
		e = sp_ship_loop(&s);
	if (e != SP_ERR_EOF)
		sp_log(SP_ERROR, "ship_ends", NULL, "error=\"%s\" fault=\"%s\"",
		    sp_err_text(e), s.sup.fault);
	return e == SP_ERR_EOF ? 0 : 1;
}
