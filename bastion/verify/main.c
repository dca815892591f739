/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <openssl/crypto.h>
#include <sodium.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "bastion/verify/bundle.h"
#include "bastion/verify/verify.h"
#include "common/ipc.h"
#include "common/sandbox.h"
#include "recorder/format.h"

int
fail(const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "sallyport-verify: %s\n", sp_vis_str(text));
	return 2;
}

static void
drop_args(int *argc, char **argv, int at, int n)
{
	for (int i = at; i + n <= *argc; i++)
		argv[i] = i + n < *argc ? argv[i + n] : NULL;
	*argc -= n;
}

const char *
option(int *argc, char **argv, const char *name)
{
	for (int i = 1; i + 1 < *argc; i++)
		if (strcmp(argv[i], name) == 0) {
			const char *v = argv[i + 1];

			drop_args(argc, argv, i, 2);
			return v;
		}
	return NULL;
}

bool
flag(int *argc, char **argv, const char *name)
{
	for (int i = 1; i < *argc; i++)
		if (strcmp(argv[i], name) == 0) {
			drop_args(argc, argv, i, 1);
			return true;
		}
	return false;
}

void
json_text(FILE *f, const char *name, const char *value)
{
	const unsigned char *p = (const unsigned char *)value;

	fprintf(f, ",\"%s\":\"", name);
	for (; *p != '\0'; p++) {
		if (*p == '"' || *p == '\\')
			fprintf(f, "\\%c", *p);
		else if (*p < 0x20 || *p == 0x7f)
			fprintf(f, "\\u%04x", *p);
		else
			fputc(*p, f);
	}
	fputc('"', f);
}

static enum sp_err
from_text(const char *text, size_t n, uint8_t key[static 32])
{
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r' ||
	    text[n - 1] == ' '))
		n--;
	return sp_unhex(key, 32, sp_span_of(text, n));
}

enum sp_err
key_read(const char *arg, uint8_t key[static 32])
{
	char text[256];
	ssize_t n;
	int fd;

	if (from_text(arg, strlen(arg), key) == SP_OK)
		return SP_OK;
	if ((fd = open(arg, O_RDONLY | O_CLOEXEC)) < 0)
		return SP_ERR_NOTFOUND;
	n = read(fd, text, sizeof(text));
	close(fd);
	if (n == 32) {
		memcpy(key, text, 32);
		return SP_OK;
	}
	return n <= 0 ? SP_ERR_SYNTAX : from_text(text, (size_t)n, key);
}

/* From here on: the files and directories that the command line names may be
 * read, and nothing else be done. The libraries read what they want before. */
static bool
confine(int argc, char **argv)
{
	char level[64] = "", when[SP_TIME_TEXT];
	int fds[16];
	size_t n = 0;

	sp_time_text(when, sp_now_us(), true);
	if (OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CRYPTO_STRINGS |
	    OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1 || sp_rec_warm_up() != SP_OK)
		return false;
	for (int i = 1; i < argc && n < sizeof(fds) / sizeof(fds[0]); i++)
		if ((fds[n] = open(argv[i], O_PATH | O_CLOEXEC)) >= 0)
			n++;
	/* A kernel without Landlock still has the filter of system calls. */
	sp_landlock_read_only(fds, n, level, sizeof(level));
	sp_close_fds(fds, n);
	return strstr(level, "failed") == NULL && sp_sandbox_enter(
	    sp_verify_syscalls, sp_verify_n_syscalls, level, sizeof(level)) ==
	    SP_OK;
}

static const char usage[] =
    "usage: sallyport-verify file FILE --key HEX|FILE [--log DIR\n"
    "                        [--expect CHECKPOINT]] [--json]\n"
    "       sallyport-verify all --key HEX|FILE --log DIR --recordings DIR\n"
    "                        [--rows FILE|- [--rows-at SIZE]]\n"
    "                        [--expect CHECKPOINT] [--json]\n"
    "       sallyport-verify log checkpoint|consistency SIZE [SIZE]|prove SESSION|\n"
    "                        stamps --tsa FILE --key HEX|FILE --log DIR [--json]\n"
    "       sallyport-verify bundle FILE [--key HEX|FILE] [--witness VKEY]...\n"
    "                        [--json]\n";

int
main(int argc, char **argv)
{
	sp_harden(NULL);
	if (sodium_init() < 0)
		return fail("no cryptography");
	if (argc >= 2 && strcmp(argv[1], "bundle") == 0)
		bundle_prepare();
	/* `collect` makes an archive of what this bastion has, and judges nothing. */
	if ((argc < 2 || strcmp(argv[1], "collect") != 0) && !confine(argc, argv))
		return fail("it cannot be confined here, and what it reads may be "
		    "hostile");
	if (argc >= 2 && strcmp(argv[1], "file") == 0)
		return verify_file(argc - 1, argv + 1);
	if (argc >= 2 && strcmp(argv[1], "all") == 0)
		return verify_all(argc - 1, argv + 1);
	if (argc >= 2 && strcmp(argv[1], "log") == 0)
		return log_verbs(argc - 1, argv + 1);
	if (argc >= 2 && strcmp(argv[1], "bundle") == 0)
		return bundle_verify(argc - 1, argv + 1);
	if (argc >= 2 && strcmp(argv[1], "collect") == 0)
		return bundle_collect(argc - 1, argv + 1);
	if (argc >= 2 && (strcmp(argv[1], "--help") == 0 ||
	    strcmp(argv[1], "-h") == 0))
		return fputs(usage, stdout) < 0 || fflush(stdout) != 0 ? 2 : 0;
	fputs(usage, stderr);
	return 2;
}
