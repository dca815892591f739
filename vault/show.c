/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/show.h"

#include <sodium.h>
#include <string.h>

#include "common/ipc_messages.h"
#include "common/mask.h"
#include "common/text.h"
#include "vault/sshkey.h"
#include "vault/poison.h"

#define LINE 70

/* The private section of PROTOCOL.key, and what stands around it. The buffers
 * wipe themselves. */
static enum sp_err
ed25519_file(const struct sp_secret *seed, struct sp_buf *out)
{
	SP_BUF_AUTO blob = {.max = 128}, priv = {.max = 512};
	SP_SECRET_AUTO sk = {0};
	uint8_t pk[32];
	uint32_t check = randombytes_random();

	SP_TRY(sp_secret_new(&sk, 64));
	if (crypto_sign_seed_keypair(pk, sk.p, seed->p) != 0)
		return SP_ERR_CRYPTO;
	SP_TRY(sp_ssh_ed25519_blob(&blob, pk));
	SP_TRY(sp_buf_put_ssh_u32(&priv, check));
	SP_TRY(sp_buf_put_ssh_u32(&priv, check));
	SP_TRY(sp_buf_put(&priv, sp_buf_span(&blob).p, blob.len));
	SP_TRY(sp_buf_put_ssh_string(&priv, sp_span_of(sk.p, 64)));
	SP_TRY(sp_buf_put_ssh_string(&priv, sp_span_str("")));
	for (uint8_t i = 1; priv.len % 8 != 0; i++)
		SP_TRY(sp_buf_put_u8(&priv, i));
	SP_TRY(sp_buf_put(out, "openssh-key-v1", 15));	/* with its NUL */
	SP_TRY(sp_buf_put_ssh_string(out, sp_span_str("none")));
	SP_TRY(sp_buf_put_ssh_string(out, sp_span_str("none")));
	SP_TRY(sp_buf_put_ssh_string(out, sp_span_str("")));
	SP_TRY(sp_buf_put_ssh_u32(out, 1));
	SP_TRY(sp_buf_put_ssh_string(out, sp_buf_span(&blob)));
	return sp_buf_put_ssh_string(out, sp_buf_span(&priv));
}

static enum sp_err
armour(const char *what, struct sp_span bytes, struct sp_secret *out)
{
	SP_BUF_AUTO b64 = {.max = SP_SECRET_MAX}, text = {.max = SP_SECRET_MAX};
	struct sp_span s;

	SP_TRY(sp_base64(&b64, bytes));
	SP_TRY(sp_buf_printf(&text, "-----BEGIN %s-----\n", what));
	for (s = sp_buf_span(&b64); s.n > 0;) {
		size_t n = s.n < LINE ? s.n : LINE;

		SP_TRY(sp_buf_put(&text, s.p, n));
		SP_TRY(sp_buf_put(&text, "\n", 1));
		s = sp_span_of(s.p + n, s.n - n);
	}
	SP_TRY(sp_buf_printf(&text, "-----END %s-----\n", what));
	SP_TRY(sp_secret_new(out, text.len));
	memcpy(out->p, sp_buf_span(&text).p, text.len);
	return SP_OK;
}

static enum sp_err
show_key(const struct sp_secret *kept, struct sp_secret *out)
{
	SP_BUF_AUTO blob = {.max = 2048}, file = {.max = 1024};
	struct sp_span s, type;

	if (kept->n == 32) {
		SP_TRY(ed25519_file(kept, &file));
		return armour("OPENSSH PRIVATE KEY", sp_buf_span(&file), out);
	}
	SP_TRY(sp_sshkey_blob(kept, &blob));
	s = sp_buf_span(&blob);
	SP_TRY(sp_get_ssh_string(&s, 64, &type));
	return armour(sp_span_is(type, "ssh-rsa") ? "RSA PRIVATE KEY" :
	    "EC PRIVATE KEY", sp_span_of(kept->p, kept->n), out);
}

enum sp_err
sp_secret_show(uint8_t kind, const struct sp_secret *kept,
    struct sp_secret *out)
{
	if (kind == SP_CRED_SSH_KEY)
		return show_key(kept, out);
	if (kind != SP_CRED_SSH_PASSWORD)
		return SP_ERR_UNSUPPORTED;
	SP_TRY(sp_secret_new(out, kept->n));
	memcpy(out->p, kept->p, kept->n);
	return SP_OK;
}

/* A password is one; of a file each line that says something. */
static enum sp_err
mask_lines(struct sp_buf *masks, struct sp_span s)
{
	while (s.n > 0) {
		const uint8_t *nl = memchr(s.p, '\n', s.n);
		size_t n = nl != NULL ? (size_t)(nl - s.p) : s.n, used = n;
		struct sp_span line;

		used = used > 0 && s.p[used - 1] == '\r' ? used - 1 : used;
		line = sp_span_of(s.p, used < SP_MASK_MOST ? used : SP_MASK_MOST);
		if (line.n >= SP_MASK_LEAST && line.p[0] != '-')
			SP_TRY(sp_mask_add(masks, line));
		else if (line.n >= SP_MASK_LEAST && (line.n < 5 ||
		    line.p[1] != '-' || line.p[2] != '-' || line.p[3] != '-' ||
		    line.p[4] != '-'))
			SP_TRY(sp_mask_add(masks, line));
		n += nl != NULL;
		s = sp_span_of(s.p + n, s.n - n);
	}
	return SP_OK;
}

enum sp_err
sp_secret_mask(const struct sp_root *root, const struct sp_secret_row *row,
    struct sp_span sealed, struct sp_buf *masks)
{
	SP_SECRET_AUTO clear = {0}, shown = {0};
	uint8_t key[SP_MASK_KEY];
	enum sp_err e;

	SP_TRY(sp_secret_unseal(root, row, sealed, &clear));
	e = sp_secret_show(row->kind, &clear, &shown);
	if (e == SP_ERR_UNSUPPORTED)
		return SP_OK;
	if (e == SP_OK && masks->len == 0) {
		randombytes_buf(key, sizeof(key));
		e = sp_buf_put(masks, key, sizeof(key));
	}
	if (e == SP_OK)
		e = mask_lines(masks, sp_span_of(shown.p, shown.n));
	return e == SP_ERR_TOOBIG ? SP_ERR_FULL : e;
}
