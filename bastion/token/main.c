/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sallyport-token: a PKCS#11 module and nothing else. The module is code of
 * somebody else: it is loaded here, in a process of its own and of its own
 * user, which sees the PIN and one slot key, and neither in the vault nor in
 * the CLI, which starts it with pipes for a conversation in lines:
 *
 *   sallyport-token MODULE TOKEN KEY
 *   < PIN
 *   < wrap HEX | unwrap HEX
 *   > ok HEX | error CODE TEXT        (enum sp_err)
 *
 * and so on until the end of its input: the session and the handles of the key
 * are kept between the lines.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bastion/token/p11.h"
#include "common/log.h"
#include "common/sandbox.h"
#include "common/text.h"

#define LINE_MAX_ (2 * SP_P11_BLOB_MAX + 16)

static int
answer_error(enum sp_err e, const char *why)
{
	char text[3 * SP_P11_WHY];

	sp_vis(text, sizeof(text), sp_span_str(why));
	printf("error %d %s\n", (int)e, text[0] == '\0' ? sp_err_text(e) : text);
	return fflush(stdout) == 0 ? 1 : 2;
}

/* One byte at a time: nothing stays in a buffer of stdio. */
static enum sp_err
read_line(struct sp_buf *out)
{
	sp_buf_reset(out);
	for (;;) {
		uint8_t ch;
		ssize_t n = read(STDIN_FILENO, &ch, 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return SP_ERR_EOF;
		if (ch == '\n')
			return SP_OK;
		SP_TRY(sp_buf_put(out, &ch, 1));
	}
}

static enum sp_err
bytes_of(struct sp_span hex, uint8_t *dst, size_t cap, size_t *n)
{
	if (hex.n == 0 || hex.n % 2 != 0 || hex.n / 2 > cap)
		return SP_ERR_SYNTAX;
	*n = hex.n / 2;
	return sp_unhex(dst, *n, hex);
}

static int
answer(struct sp_span bytes)
{
	char hex[2 * SP_P11_BLOB_MAX + 1];

	sp_hex(hex, bytes.p, bytes.n);
	printf("ok %s\n", hex);
	explicit_bzero(hex, sizeof(hex));
	return fflush(stdout) == 0 ? 0 : 2;
}

static int
serve(struct sp_p11 *p, struct sp_span line)
{
	SP_BUF_AUTO blob = {.max = SP_P11_BLOB_MAX};
	uint8_t in[SP_P11_BLOB_MAX], clear[SP_P11_CLEAR_MAX];
	char why[SP_P11_WHY] = "";
	size_t n = 0;
	enum sp_err e = SP_ERR_SYNTAX;
	int rc;

	if (line.n > 5 && sp_span_is(sp_span_of(line.p, 5), "wrap ")) {
		e = bytes_of(sp_span_of(line.p + 5, line.n - 5), in, sizeof(in), &n);
		if (e == SP_OK)
			e = sp_p11_wrap(p, sp_span_of(in, n), &blob, why);
		rc = e == SP_OK ? answer(sp_buf_span(&blob)) : answer_error(e, why);
	} else if (line.n > 7 && sp_span_is(sp_span_of(line.p, 7), "unwrap ")) {
		e = bytes_of(sp_span_of(line.p + 7, line.n - 7), in, sizeof(in), &n);
		if (e == SP_OK)
			e = sp_p11_unwrap(p, sp_span_of(in, n), clear, &n, why);
		rc = e == SP_OK ? answer(sp_span_of(clear, n)) :
		    answer_error(e, why);
	} else {
		rc = answer_error(e, "");
	}
	explicit_bzero(in, sizeof(in));
	explicit_bzero(clear, sizeof(clear));
	return rc;
}

int
main(int argc, char **argv)
{
	/* What p11-kit and SoftHSM find their files by. */
	static const char *const keep[] = {"SOFTHSM2_CONF", "HOME", NULL};
	SP_BUF_AUTO line = {.max = LINE_MAX_};
	char why[SP_P11_WHY] = "", io[BUFSIZ];
	struct sp_p11 *p = NULL;
	enum sp_err e;
	int rc = 0;

	sp_harden(keep);
	(void)mlockall(MCL_CURRENT);
	sp_log_init("token", false);
	if (argc != 4) {
		fprintf(stderr, "usage: sallyport-token MODULE TOKEN KEY\n"
		    "(it is started by sallyport)\n");
		return 2;
	}
	(void)setvbuf(stdout, io, _IOFBF, sizeof(io));
	e = read_line(&line);
	if (e == SP_OK)
		e = sp_p11_open(&p, argv[1], argv[2], argv[3], sp_buf_span(&line),
		    why);
	if (e != SP_OK)
		return answer_error(e, why);
	while (rc != 2 && read_line(&line) == SP_OK)
		rc = serve(p, sp_buf_span(&line));
	sp_p11_close(p);
	explicit_bzero(io, sizeof(io));
	return rc;
}
