/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bastion/cli/cli.h"
#include "common/stream.h"

enum sp_err
sp_cli_connect(const struct sp_cli *c, const char *name, uint32_t peer,
    uint32_t state, struct sp_link *l)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	char run[4096];
	int dir, fd, err;

	sp_cli_path(c, run, "run");
	dir = open(run, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return errno == ENOENT ? SP_ERR_NOTFOUND : SP_ERR_DENIED;
	/* A long path is no obstacle this way. */
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/%s", dir, name);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	err = fd < 0 ? errno :
	    connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0 ? errno : 0;
	close(dir);
	if (err != 0) {
		if (fd >= 0)
			close(fd);
		return err == ENOENT || err == ECONNREFUSED ? SP_ERR_NOTFOUND :
		    err == EACCES || err == EPERM ? SP_ERR_DENIED : SP_ERR_IO;
	}
	return sp_link_init(l, fd, SP_ROLE_CLI, peer, state);
}

static enum sp_err
encode_argv(struct sp_buf *b, int argc, char *const *argv)
{
	for (int i = 0; i < argc; i++)
		SP_TRY(sp_buf_put_bytes(b, sp_span_str(argv[i])));
	return SP_OK;
}

enum sp_err
sp_cli_our_open(struct sp_open *o, bool capture, struct sp_buf *env)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
	struct winsize ws = {0};

	*o = (struct sp_open){.kind = SP_OPEN_SHELL};
	if (!capture && isatty(STDOUT_FILENO)) {
		o->has_pty = 1;
		if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0) {
			o->cols = ws.ws_col;
			o->rows = ws.ws_row;
		}
		o->term = sp_span_str(term != NULL && strlen(term) < 64 ? term :
		    "dumb");
	}
	if (no_color != NULL && no_color[0] != '\0') {
		SP_TRY(sp_buf_put_bytes(env, sp_span_str("NO_COLOR")));
		SP_TRY(sp_buf_put_bytes(env, sp_span_str("1")));
		o->env = sp_buf_span(env);
	}
	return SP_OK;
}

static enum sp_err
say_verb(struct sp_link *l, int argc, char *const *argv,
    const struct sp_open *open)
{
	SP_BUF_AUTO words = {.max = 49152}, payload = {.max = 4096};

	SP_TRY(encode_argv(&words, argc, argv));
	SP_TRY(sp_open_encode(&payload, open));
	return sp_send_ctl_verb(l, 0, &(struct sp_msg_ctl_verb){
	    .argv = sp_buf_span(&words), .open = sp_buf_span(&payload)}, NULL);
}

static int
refused(const struct sp_packet *p)
{
	struct sp_msg_ctl_refused m;
	char text[600];

	if (p->type != SP_MSG_ctl_refused ||
	    sp_dec_ctl_refused(p->body, &m) != SP_OK ||
	    sp_span_cstr(m.text, text, sizeof(text)) != SP_OK)
		return sp_cli_fail(SP_EXIT_REFUSED,
		    "the broker answered something else");
	fputs(text, stderr);
	return m.exit_code == 0 ? SP_EXIT_REFUSED : m.exit_code;
}

static int
no_link(const struct sp_cli *c, enum sp_err e)
{
	if (e == SP_ERR_DENIED)
		return sp_cli_fail(SP_EXIT_REFUSED, "you may not control %s: that "
		    "is for root or its owner", c->dir);
	return sp_cli_fail(SP_EXIT_LATER, "%s does not run: sallyport -D %s start",
	    c->dir, c->dir);
}

int
sp_cli_verb(const struct sp_cli *c, int argc, char *const *argv, int in,
    struct sp_buf *capture)
{
	SP_BUF_AUTO env = {.max = 256};
	struct sp_link l;
	struct sp_packet p;
	struct sp_open open;
	enum sp_err e;
	int fd = -1, rc;
	bool raw = in >= 0 && isatty(in) && strcmp(argv[0], "replay") == 0;

	e = sp_cli_connect(c, "control.sock", SP_ROLE_BRK, SP_ST_READY, &l);
	if (e != SP_OK)
		return no_link(c, e);
	if ((e = sp_cli_our_open(&open, capture != NULL, &env)) != SP_OK ||
	    (e = say_verb(&l, argc, argv, &open)) != SP_OK ||
	    (e = sp_link_wait(&l, &p, 60000)) != SP_OK) {
		sp_link_fini(&l);
		if (e == SP_ERR_TOOBIG)
			return sp_cli_fail(SP_EXIT_USAGE, "that is too long");
		return e == SP_ERR_EOF ? no_link(c, SP_ERR_DENIED) :
		    sp_cli_fail(SP_EXIT_LATER, "the broker does not answer: %s",
		    sp_err_text(e));
	}
	if (p.type == SP_MSG_ctl_stream) {
		fd = p.fds[0];
		rc = sp_cli_relay(fd, &open, in, capture, raw);
	} else {
		sp_packet_close_fds(&p);
		rc = refused(&p);
	}
	sp_link_fini(&l);
	return rc;
}
