/* SPDX-License-Identifier: Apache-2.0 */
/* A slot whose key a PKCS#11 token wraps: sallyport-token speaks with the
 * module, as a user of its own; what it unwraps goes from here to the vault. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "bastion/cli/cli.h"

#define KEY_BYTES 32
#define EXTRA_MAX 640		/* vault/slots.h */
#define EXTRA_FORMAT 1

/* "ok HEX" or "error CODE TEXT". */
static int
take_answer(struct sp_span line, struct sp_buf *out)
{
	uint8_t *at;

	while (line.n > 0 && line.p[line.n - 1] == '\n')
		line.n--;
	if (line.n > 3 && sp_span_is(sp_span_of(line.p, 3), "ok ")) {
		struct sp_span hex = sp_span_of(line.p + 3, line.n - 3);

		if (sp_buf_reserve(out, hex.n / 2, &at) == SP_OK &&
		    sp_unhex(at, hex.n / 2, hex) == SP_OK) {
			sp_buf_commit(out, hex.n / 2);
			return SP_EXIT_OK;
		}
	}
	if (line.n > 6 && sp_span_is(sp_span_of(line.p, 6), "error ")) {
		const uint8_t *text = memchr(line.p + 6, ' ', line.n - 6);

		if (text != NULL)
			return sp_cli_fail(SP_EXIT_REFUSED, "the token: %s",
			    sp_vis_tmp(sp_span_of(text + 1, line.n -
			    (size_t)(text + 1 - line.p))));
	}
	return sp_cli_fail(SP_EXIT_LATER, "sallyport-token says nothing");
}

/* Its input: the PIN and one line, in a pipe that holds them. */
static int
input_of(struct sp_span pin, const char *op, struct sp_span bytes)
{
	char hex[2 * EXTRA_MAX + 1];
	SP_BUF_AUTO b = {.max = 4096};
	int p[2] = {-1, -1};
	bool ok;

	if (bytes.n > EXTRA_MAX || pipe2(p, O_CLOEXEC) != 0)
		return -1;
	sp_hex(hex, bytes.p, bytes.n);
	ok = sp_buf_put(&b, pin.p, pin.n) == SP_OK &&
	    sp_buf_printf(&b, "\n%s %s\n", op, hex) == SP_OK &&
	    write(p[1], sp_buf_span(&b).p, b.len) == (ssize_t)b.len;
	explicit_bzero(hex, sizeof(hex));
	close(p[1]);
	if (!ok) {
		close(p[0]);
		return -1;
	}
	return p[0];
}

static int
token_user(struct sp_who *w)
{
	if (sp_cli_user(SP_U_TOKEN, w) == SP_OK ||
	    (sp_cli_make_users() == SP_OK && sp_cli_user(SP_U_TOKEN, w) == SP_OK))
		return SP_EXIT_OK;
	return sp_cli_fail(SP_EXIT_REFUSED, "the system user %s is missing",
	    sp_cli_user_name(SP_U_TOKEN));
}

static int
ask_token(const struct sp_cli *c, const char *op, const char *token,
    const char *key, struct sp_span pin, struct sp_span bytes,
    struct sp_buf *out)
{
	SP_BUF_AUTO said = {.max = 4096};
	static struct sp_config cfg;
	char exe[4096];
	const char *argv[] = {exe, cfg.pkcs11_module, token, key, NULL};
	struct sp_who who;
	struct sp_run r = {.argv = argv, .as = &who, .out = &said};
	int rc;

	if (sp_cli_config(c, &cfg) != SP_OK)
		return SP_EXIT_REFUSED;
	if (cfg.pkcs11_module[0] != '/')
		return sp_cli_fail(SP_EXIT_REFUSED, "pkcs11_module is not set in "
		    "%s/sallyport.conf: the absolute path of a module", c->dir);
	if (!sp_cli_find("sallyport-token", exe))
		return SP_EXIT_REFUSED;
	if ((rc = token_user(&who)) != SP_EXIT_OK)
		return rc;
	if ((r.in = input_of(pin, op, bytes)) < 0)
		return sp_cli_fail(SP_EXIT_LATER, "no pipe: %s", strerror(errno));
	(void)sp_cli_run(&r);
	close(r.in);
	return take_answer(sp_buf_span(&said), out);
}

/* ------------------------------------------------------------- add, unseal */

static enum sp_err
extra_of(const char *token, const char *key, struct sp_span blob,
    struct sp_buf *extra)
{
	SP_TRY(sp_buf_put_u8(extra, EXTRA_FORMAT));
	SP_TRY(sp_buf_put_bytes(extra, sp_span_str(token)));
	SP_TRY(sp_buf_put_bytes(extra, sp_span_str(key)));
	return sp_buf_put_bytes(extra, blob);
}

int
sp_cli_token_add(const struct sp_cli *c, const char *token, const char *key,
    struct sp_buf *secret, struct sp_buf *extra)
{
	SP_BUF_AUTO pin = {.max = 256}, blob = {.max = EXTRA_MAX};
	uint8_t *at;
	int rc;

	if (strlen(token) > 32 || strlen(key) > 64)
		return sp_cli_fail(SP_EXIT_USAGE, "a token's label has at most 32 "
		    "bytes, a key's 64");
	if (sp_cli_secret_line("PIN of the token: ", &pin) != SP_OK)
		return sp_cli_fail(SP_EXIT_USAGE, "a PIN has at most 256 bytes");
	if (sp_buf_reserve(secret, KEY_BYTES, &at) != SP_OK ||
	    getrandom(at, KEY_BYTES, 0) != KEY_BYTES)
		return sp_cli_fail(SP_EXIT_LATER, "no random bytes");
	sp_buf_commit(secret, KEY_BYTES);
	rc = ask_token(c, "wrap", token, key, sp_buf_span(&pin),
	    sp_buf_span(secret), &blob);
	if (rc == SP_EXIT_OK &&
	    extra_of(token, key, sp_buf_span(&blob), extra) != SP_OK)
		rc = sp_cli_fail(SP_EXIT_REFUSED, "the token's key is too large: at "
		    "most RSA of 4096 bits");
	return rc;
}

/* The slot key of one slot, by its extra bytes; false: another slot's turn. */
static bool
open_slot(const struct sp_cli *c, struct sp_span extra, struct sp_span pin,
    struct sp_buf *out, int *rc)
{
	char token[33], key[65];
	struct sp_span t, k, blob;
	uint8_t format;

	if (sp_get_u8(&extra, &format) != SP_OK || format != EXTRA_FORMAT ||
	    sp_get_str(&extra, 32, &t) != SP_OK ||
	    sp_get_str(&extra, 64, &k) != SP_OK ||
	    sp_get_bytes(&extra, EXTRA_MAX, &blob) != SP_OK ||
	    sp_span_cstr(t, token, sizeof(token)) != SP_OK ||
	    sp_span_cstr(k, key, sizeof(key)) != SP_OK) {
		*rc = sp_cli_fail(SP_EXIT_REFUSED, "the slot's bytes are not those "
		    "of a token");
		return false;
	}
	*rc = ask_token(c, "unwrap", token, key, pin, blob, out);
	return *rc == SP_EXIT_OK;
}

int
sp_cli_token_open(const struct sp_cli *c, struct sp_buf *secret)
{
	SP_BUF_AUTO pin = {.max = 256}, rows = {.max = 16384};
	struct sp_span left, extra;
	uint8_t type;
	int rc = sp_cli_slot_rows(c, &rows), seen = 0;

	if (rc != SP_EXIT_OK)
		return rc;
	if (sp_cli_secret_line("PIN of the token: ", &pin) != SP_OK)
		return sp_cli_fail(SP_EXIT_USAGE, "a PIN has at most 256 bytes");
	left = sp_buf_span(&rows);
	while (left.n > 0 && sp_cli_slot_next(&left, &type, &extra)) {
		if (type != SP_CLI_SLOT_PKCS11)
			continue;
		seen++;
		if (open_slot(c, extra, sp_buf_span(&pin), secret, &rc))
			return SP_EXIT_OK;
	}
	return seen > 0 ? rc : sp_cli_fail(SP_EXIT_REFUSED,
	    "the vault has no slot of a token");
}
