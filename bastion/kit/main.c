/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sallyport-kit: opens a break-glass kit (common/kit.h) where there is no
 * bastion: one file, the shares, this program and libsodium. Before anything is
 * shown, the receipt that says who opened it and why is on disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <termios.h>
#include <unistd.h>

#include "common/kit.h"
#include "common/shares.h"

#define REFUSED 1
#define USAGE 2
#define LINE_MAX_ 1024

/* What must not be swapped out or dumped: one locked page range. */
struct secrets {
	uint8_t key[SP_SHARE_SECRET_MAX], seed[32], sk[64];
	struct sp_share share[SP_SHARES_MAX];
	uint8_t clear[SP_KIT_SEALED_MAX];
	char line[LINE_MAX_];
};

static int SP_PRINTF(2, 3)
fail(int code, const char *fmt, ...)
{
	char t[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(t, sizeof(t), fmt, ap);
	va_end(ap);
	fprintf(stderr, "sallyport-kit: %s\n", t);
	return code;
}

static enum sp_err
read_file(const char *path, struct sp_buf *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	ssize_t n = 1;
	uint8_t *at;

	if (fd < 0)
		return errno == ENOENT ? SP_ERR_NOTFOUND : SP_ERR_IO;
	while (n > 0) {
		if (sp_buf_reserve(out, 4096, &at) != SP_OK)
			break;
		n = read(fd, at, 4096);
		if (n > 0)
			sp_buf_commit(out, (size_t)n);
	}
	close(fd);
	return n == 0 ? SP_OK : SP_ERR_TOOBIG;
}

/* A line, from the terminal without echo where it is a share. */
static bool
ask(const char *prompt, bool hidden, char *dst, size_t cap)
{
	struct termios old, t;
	bool tty = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &old) == 0;
	size_t n = 0;
	char ch;

	if (tty && hidden) {
		t = old;
		t.c_lflag &= ~(tcflag_t)ECHO;
		(void)!tcsetattr(STDIN_FILENO, TCSAFLUSH, &t);
	}
	fputs(prompt, stderr);
	while (n + 1 < cap && read(STDIN_FILENO, &ch, 1) == 1 && ch != '\n')
		dst[n++] = ch;
	dst[n] = '\0';
	if (tty && hidden) {
		(void)!tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
		fputc('\n', stderr);
	}
	return n > 0;
}

/* ------------------------------------------------------------------ shares */

static const char *
share_fault(enum sp_err e)
{
	if (e == SP_ERR_SYNTAX)
		return "that is no share (it begins with SPS1-)";
	if (e == SP_ERR_CRYPTO)
		return "something was mistyped: its check does not fit";
	if (e == SP_ERR_PROTO)
		return "that share is of another set";
	if (e == SP_ERR_EXISTS)
		return "that share was given already";
	return sp_err_text(e);
}

static int
take_shares(struct secrets *s, const struct sp_kit *k)
{
	size_t n = 0, bad = 0, len = 0;
	enum sp_err e;
	char prompt[80];

	while (n < k->k) {
		snprintf(prompt, sizeof(prompt), "Share %zu of the %u that open it: ",
		    n + 1, k->k);
		if (!ask(prompt, true, s->line, sizeof(s->line)))
			return fail(REFUSED, "not enough shares");
		e = sp_share_parse(sp_span_str(s->line), &s->share[n]);
		sodium_memzero(s->line, sizeof(s->line));
		if (e == SP_OK && (s->share[n].k != k->k || s->share[n].n != k->n))
			e = SP_ERR_PROTO;
		if (e == SP_OK)
			e = sp_shares_check(s->share, n + 1, &bad);
		if (e == SP_OK || e == SP_ERR_AGAIN)
			n++;
		else if (!isatty(STDIN_FILENO))
			return fail(REFUSED, "%s", share_fault(e));
		else
			fprintf(stderr, "%s; again.\n", share_fault(e));
	}
	e = sp_shares_join(s->share, n, s->key, &len, &bad);
	if (e != SP_OK || len != 32)
		return fail(REFUSED, "the shares do not join: %s", share_fault(e));
	return 0;
}

/* ----------------------------------------------------------------- opening */

static bool
unseal(const uint8_t key[static 32], struct sp_span aad, struct sp_span box,
    uint8_t *clear, size_t cap, size_t *n)
{
	unsigned long long len = 0;

	if (box.n < SP_KIT_NONCE + SP_KIT_TAG ||
	    box.n - SP_KIT_NONCE - SP_KIT_TAG > cap ||
	    crypto_aead_xchacha20poly1305_ietf_decrypt(clear, &len, NULL,
	    box.p + SP_KIT_NONCE, box.n - SP_KIT_NONCE, aad.p, aad.n, box.p,
	    key) != 0)
		return false;
	*n = (size_t)len;
	return true;
}

static int
open_receipt_key(struct secrets *s, const struct sp_kit *k)
{
	uint8_t pk[32];
	size_t n = 0;

	if (!unseal(s->key, k->before_receipt, k->receipt, s->seed,
	    sizeof(s->seed), &n) || n != 32 ||
	    crypto_sign_seed_keypair(pk, s->sk, s->seed) != 0 ||
	    sodium_memcmp(pk, k->receipt_key, 32) != 0)
		return fail(REFUSED, "these shares do not open this kit, or the file "
		    "was changed");
	return 0;
}

static bool
write_all(int fd, struct sp_span s)
{
	while (s.n > 0) {
		ssize_t n = write(fd, s.p, s.n);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		s = sp_span_of(s.p + n, s.n - (size_t)n);
	}
	return true;
}

static int
leave_receipt(struct secrets *s, const struct sp_kit *k, const char *path,
    const char *by, const char *why)
{
	SP_BUF_AUTO body = {.max = SP_RECEIPT_MAX}, what = {.max = SP_RECEIPT_MAX};
	SP_BUF_AUTO text = {.max = SP_RECEIPT_MAX + 1024};
	uint8_t sig[64];
	char now[SP_TIME_TEXT];
	int fd;
	bool ok;

	sp_time_text(now, sp_now_us(), true);
	if (sp_receipt_body(&body, k, now, by, why) != SP_OK ||
	    sp_receipt_signed(&what, sp_buf_span(&body)) != SP_OK ||
	    crypto_sign_detached(sig, NULL, sp_buf_span(&what).p, what.len,
	    s->sk) != 0 ||
	    sp_receipt_text(&text, sp_buf_span(&body), sig) != SP_OK)
		return fail(REFUSED, "the receipt cannot be made");
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return fail(REFUSED, "%s: %s", path, strerror(errno));
	ok = write_all(fd, sp_buf_span(&text)) && fsync(fd) == 0;
	ok = close(fd) == 0 && ok;
	return ok ? 0 : fail(REFUSED, "%s could not be written: nothing is shown "
	    "without a receipt", path);
}

static int
show(struct secrets *s, const struct sp_kit *k)
{
	for (size_t i = 0; i < k->count; i++) {
		const struct sp_kit_entry *e = &k->entry[i];
		SP_BUF_AUTO aad = {.max = 8192};
		size_t n = 0;

		if (sp_kit_aad(&aad, k->kit, i, e->clear_part) != SP_OK ||
		    !unseal(s->key, sp_buf_span(&aad), e->sealed, s->clear,
		    sizeof(s->clear), &n))
			return fail(REFUSED, "%s@%s does not open: the file was "
			    "changed", e->account, e->target);
		printf("== %s@%s  (%s port %u, version %llu)\n", e->account,
		    e->target, sp_vis_str(e->addr), e->port,
		    (unsigned long long)e->version);
		if (fflush(stdout) != 0 ||
		    !write_all(STDOUT_FILENO, sp_span_of(s->clear, n)))
			return fail(REFUSED, "it cannot be shown");
		sodium_memzero(s->clear, sizeof(s->clear));
		printf("\n");
	}
	return fflush(stdout) == 0 ? 0 : REFUSED;
}

/* ------------------------------------------------------------------ verbs */

static void
describe(const struct sp_kit *k)
{
	char id[SP_UUID_TEXT], made[SP_TIME_TEXT], end[SP_TIME_TEXT];

	sp_uuid_text(id, k->kit);
	sp_time_text(made, k->made_us, false);
	sp_time_text(end, k->expires_us, false);
	fprintf(stderr, "Break-glass kit %s\nmade %s, meant until %s%s\n"
	    "opens with %u of %u shares\n", id, made, end,
	    k->expires_us <= sp_now_us() ? " (it is past that: the credentials "
	    "may not be good any more)" : "", k->k, k->n);
	if (k->note[0] != '\0')
		fprintf(stderr, "note: %s\n", sp_vis_str(k->note));
	for (size_t i = 0; i < k->count; i++)
		fprintf(stderr, "  %s@%s version %llu\n", k->entry[i].account,
		    k->entry[i].target, (unsigned long long)k->entry[i].version);
}

static int
run(struct secrets *s, const struct sp_kit *k, const char *receipt)
{
	char by[129], why[513], path[4096], id[SP_UUID_TEXT];
	int rc;

	sp_uuid_text(id, k->kit);
	snprintf(path, sizeof(path), "%s", receipt);
	if (receipt[0] == '\0')
		snprintf(path, sizeof(path), "receipt-%.8s.txt", id);
	fputs("\nOpening it leaves a receipt that the bastion will ask for: it "
	    "names you, and every\ncredential in it is rotated.\n", stderr);
	if (!ask("Your name: ", false, by, sizeof(by)) ||
	    !ask("Why: ", false, why, sizeof(why)))
		return fail(USAGE, "who opens it and why must be said");
	if ((rc = take_shares(s, k)) != 0 || (rc = open_receipt_key(s, k)) != 0 ||
	    (rc = leave_receipt(s, k, path, by, why)) != 0)
		return rc;
	fprintf(stderr, "The receipt is in %s. Bring it to the bastion: sallyport "
	    "break-glass import %s\n\n", path, path);
	return show(s, k);
}

static int
usage(FILE *f)
{
	fputs("usage: sallyport-kit show FILE\n"
	    "       sallyport-kit open FILE [--receipt FILE]\n\n"
	    "show says what a break-glass kit holds, without opening it. open asks "
	    "who you are, why,\nand for the shares; it writes a receipt and prints "
	    "the credentials.\n", f);
	return USAGE;
}

static int
opened(const struct sp_kit *k, const char *receipt)
{
	struct secrets *s;
	int rc;

	if ((s = sodium_malloc(sizeof(*s) + (64 - sizeof(*s) % 64))) == NULL)
		return fail(REFUSED, "no memory");
	sodium_memzero(s, sizeof(*s));
	rc = run(s, k, receipt);
	sodium_free(s);
	return rc;
}

int
main(int argc, char **argv)
{
	static struct sp_kit k;
	SP_BUF_AUTO file = {.max = SP_KIT_FILE_MAX + 4096};
	const struct rlimit none = {0, 0};
	const char *receipt = "";
	enum sp_err e;

	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	(void)setrlimit(RLIMIT_CORE, &none);
	if (argc >= 2 && (strcmp(argv[1], "--help") == 0 ||
	    strcmp(argv[1], "-h") == 0)) {
		(void)usage(stdout);
		return 0;
	}
	if (argc == 5 && strcmp(argv[3], "--receipt") == 0)
		receipt = argv[4];
	else if (argc != 3)
		return usage(stderr);
	if (sodium_init() < 0)
		return fail(REFUSED, "libsodium does not start");
	if ((e = read_file(argv[2], &file)) != SP_OK)
		return fail(USAGE, "%s: %s", argv[2], sp_err_text(e));
	if (sp_kit_decode(sp_buf_span(&file), &k) != SP_OK)
		return fail(REFUSED, "%s is no break-glass kit", argv[2]);
	describe(&k);
	if (strcmp(argv[1], "show") == 0 && argc == 3)
		return 0;
	return strcmp(argv[1], "open") == 0 ? opened(&k, receipt) :
	    usage(stderr);
}
