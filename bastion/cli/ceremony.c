/* SPDX-License-Identifier: Apache-2.0 */
/* Shares are given to the vault: by the operator who leads the ceremony and
 * whoever sits down at this terminal, or by a custodian from a login of their
 * own. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "bastion/cli/cli.h"
#include "common/shares.h"

#define ANSWER_MS 60000

/* The terminal as it was, also after Ctrl-C. */
static struct termios tty_was;
static volatile sig_atomic_t tty_is_quiet;

static void
tty_back(void)
{
	if (tty_is_quiet)
		(void)!tcsetattr(STDIN_FILENO, TCSAFLUSH, &tty_was);
	tty_is_quiet = 0;
}

static void
on_signal(int sig)
{
	tty_back();
	_exit(128 + sig);
}

static void
tty_quiet(void)
{
	struct sigaction sa = {.sa_handler = on_signal};
	struct termios t;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &tty_was) != 0)
		return;
	tty_is_quiet = 1;
	(void)sigaction(SIGINT, &sa, NULL);
	(void)sigaction(SIGTERM, &sa, NULL);
	t = tty_was;
	t.c_lflag &= ~(tcflag_t)ECHO;
	(void)!tcsetattr(STDIN_FILENO, TCSAFLUSH, &t);
}

struct ceremony {
	const struct sp_cli *c;
	struct sp_link l;
	uint8_t slot;		/* to be proven; 0: to unseal */
	bool is_over, was_refused;
	int rc;
};

/* An answer, or word of a share that came another way. */
static void
heed(struct ceremony *y, const struct sp_packet *p)
{
	struct sp_msg_vc_ceremony_r m;

	if (p->type != SP_MSG_vc_ceremony_r ||
	    sp_dec_vc_ceremony_r(p->body, &m) != SP_OK) {
		y->is_over = true;
		y->rc = sp_cli_fail(SP_EXIT_LATER, "the vault said something else");
		return;
	}
	if (m.is_over) {
		y->is_over = true;
		y->rc = m.err == SP_OK ? SP_EXIT_OK :
		    m.err == SP_ERR_TIMEOUT ? SP_EXIT_LATER : SP_EXIT_REFUSED;
	}
	y->was_refused = m.err != SP_OK;
	if (m.text.n == 0)
		return;
	if (m.err != SP_OK)
		(void)sp_cli_fail(0, "%s", sp_vis_tmp(m.text));
	else if (y->c->json && m.is_over)
		printf("{\"id\": \"vault\", \"state\": \"%s\", \"slot\": %u}\n",
		    y->slot == 0 ? "open" : "usable", m.slot);
	else if (!y->c->json)
		printf("%s\n", sp_vis_tmp(m.text));
	(void)fflush(stdout);
}

static void
await(struct ceremony *y)
{
	struct sp_packet p;
	enum sp_err e = sp_link_wait(&y->l, &p, ANSWER_MS);

	if (e == SP_OK) {
		heed(y, &p);
		sp_packet_close_fds(&p);
		return;
	}
	y->is_over = true;
	y->rc = sp_cli_fail(SP_EXIT_LATER, e == SP_ERR_EOF ?
	    "the vault hung up: too many wrong shares, or it ended" :
	    "the vault does not answer");
}

/* SP_ERR_EOF: nothing more comes. */
static enum sp_err
read_line(struct sp_buf *out)
{
	for (;;) {
		uint8_t ch;
		ssize_t n = read(STDIN_FILENO, &ch, 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return out->len == 0 ? SP_ERR_EOF : SP_OK;
		if (ch == '\n')
			return SP_OK;
		SP_TRY(sp_buf_put(out, &ch, 1));
	}
}

static void
give(struct ceremony *y)
{
	SP_BUF_AUTO line = {.max = 256};
	enum sp_err e = read_line(&line);

	if (tty_is_quiet)
		fputc('\n', stderr);
	if (e == SP_ERR_EOF) {
		y->is_over = true;
		y->rc = sp_cli_fail(SP_EXIT_LATER, "no more shares: the ceremony "
		    "ends");
	} else if (e != SP_OK) {
		y->is_over = true;
		y->rc = sp_cli_fail(SP_EXIT_USAGE, "a share is one line");
	} else if (line.len > 0) {
		if (sp_send_vc_share(&y->l, 1, &(struct sp_msg_vc_share){
		    .share = sp_buf_span(&line)}, NULL) == SP_OK)
			await(y);
		else
			y->is_over = true;
	}
}

static void
collect(struct ceremony *y)
{
	struct pollfd pf[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
	    {.fd = y->l.fd, .events = POLLIN}};

	tty_quiet();
	while (!y->is_over) {
		if (tty_is_quiet)
			fputs("Share (it is not shown): ", stderr);
		if (poll(pf, 2, -1) < 0 && errno != EINTR)
			break;
		if (pf[1].revents != 0) {
			if (tty_is_quiet)
				fputc('\n', stderr);
			await(y);
		} else if (pf[0].revents != 0) {
			give(y);
		}
	}
	tty_back();
}

int
sp_cli_ceremony(struct sp_cli *c, uint8_t slot)
{
	struct ceremony y = {.c = c, .slot = slot, .rc = SP_EXIT_LATER};
	struct sp_msg_vc_ceremony m = {.what = slot == 0 ? 1 : 2, .slot = slot};
	int rc = sp_cli_vault_reach(c, &y.l);

	if (rc != SP_EXIT_OK)
		return rc;
	if (sp_send_vc_ceremony(&y.l, 1, &m, NULL) != SP_OK)
		rc = sp_cli_fail(SP_EXIT_LATER, "the vault went away");
	else {
		await(&y);
		if (!y.was_refused)
			collect(&y);
		rc = y.rc;
	}
	sp_link_fini(&y.l);
	if (rc == SP_EXIT_OK && slot == 0)
		sp_cli_unsealed(c);
	return rc;
}

int
sp_cmd_share(struct sp_cli *c, int argc, char **argv)
{
	SP_BUF_AUTO line = {.max = 256};
	struct ceremony y = {.c = c, .rc = SP_EXIT_OK};
	struct sp_msg_vc_ceremony_r m;
	struct sp_packet p;
	int rc;

	(void)argv;
	if (argc != 2)
		return sp_cli_fail(SP_EXIT_USAGE, "usage: sallyport vault share");
	if ((rc = sp_cli_vault_reach(c, &y.l)) != SP_EXIT_OK)
		return rc;
	if (sp_cli_secret_line("Your share (it is not shown): ", &line) != SP_OK)
		rc = sp_cli_fail(SP_EXIT_USAGE, "a share is one line");
	else if (sp_send_vc_share(&y.l, 1, &(struct sp_msg_vc_share){
	    .share = sp_buf_span(&line)}, NULL) != SP_OK ||
	    sp_link_wait(&y.l, &p, ANSWER_MS) != SP_OK)
		rc = sp_cli_fail(SP_EXIT_LATER, "no ceremony is under way: an "
		    "operator begins it");
	else if (sp_dec_vc_ceremony_r(p.body, &m) != SP_OK || m.err != SP_OK)
		rc = sp_cli_fail(SP_EXIT_REFUSED, "%s", sp_vis_tmp(m.text));
	else if (c->json)
		printf("{\"id\": \"share\", \"slot\": %u, \"given\": %u, \"need\": "
		    "%u}\n", m.slot, m.given, m.need);
	else
		printf("%s\n", sp_vis_tmp(m.text));
	sp_link_fini(&y.l);
	return rc;
}
