/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host key is not here. libssh has a stand-in with the real public half;
 * where it would sign, the vault does. Both places are between libssh and
 * libcrypto (as common/glass.c): EVP_DigestUpdate, which is given the whole key
 * exchange at once to hash, and EVP_DigestSign. The vault hashes the exchange
 * itself: it is given what was exchanged, not what to sign.
 */
#include <dlfcn.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bastion/ingress/front.h"

/* The vault may be starting again, or be busy with a passphrase: the link holds
 * what is asked meanwhile. One that died with our question is asked once more. */
#define WAIT_MS 2000
#define TRIES 5
#define EXCHANGE_MAX 49152
#define EXCHANGE_LEAST 200
#define SIGNATURE_BYTES 64
#define STAND_IN_MAX 1024
#define MSG_DISCONNECT 1
#define NOT_AVAILABLE 7

static struct {
	int (*update)(EVP_MD_CTX *, const void *, size_t);
	int (*sign)(EVP_MD_CTX *, unsigned char *, size_t *,
	    const unsigned char *, size_t);
	struct sp_link *vault;	/* NULL: in the parent, which warms itself up */
	uint64_t conn, n_asked;
	uint8_t *exchange;
	size_t n;
	unsigned n_seen;
} hs;

static void
forget(void)
{
	if (hs.exchange != NULL) {
		explicit_bzero(hs.exchange, hs.n);
		free(hs.exchange);
	}
	hs.exchange = NULL;
	hs.n = 0;
}

int
EVP_DigestUpdate(EVP_MD_CTX *ctx, const void *p, size_t n)
{
	if (hs.update == NULL)
		return 0;
	if (n >= EXCHANGE_LEAST && n <= EXCHANGE_MAX &&
	    memcmp((const uint8_t *)p + 4, "SSH-", 4) == 0) {
		forget();
		hs.n_seen++;
		if (hs.vault != NULL && (hs.exchange = malloc(n)) != NULL)
			memcpy(hs.exchange, p, hs.n = n);
	}
	return hs.update(ctx, p, n);
}

/* The answer to this question, not to one that was given up. */
static enum sp_err
wait_for_it(struct sp_packet *p)
{
	int64_t end = sp_boot_us() + (int64_t)WAIT_MS * 1000, now;

	while ((now = sp_boot_us()) < end) {
		SP_TRY(sp_link_wait(hs.vault, p, (int)((end - now + 999) / 1000)));
		sp_packet_close_fds(p);
		if (p->corr == hs.n_asked)
			return p->type == SP_MSG_host_sign_r ? SP_OK : SP_ERR_PROTO;
	}
	return SP_ERR_TIMEOUT;
}

static const char *
ask(size_t n_hash, uint8_t out[static SIGNATURE_BYTES])
{
	struct sp_msg_host_sign m = {.sha512 = n_hash == 64,
	    .exchange = sp_span_of(hs.exchange, hs.n)};
	static char text[257];
	struct sp_msg_host_sign_r r;
	struct sp_packet p;
	enum sp_err e = SP_ERR_TIMEOUT;

	if (hs.exchange == NULL || (n_hash != 32 && n_hash != 64))
		return "it is no hash of a key exchange";
	hs.n_asked++;
	for (int i = 0; i < TRIES && e == SP_ERR_TIMEOUT; i++) {
		e = sp_send_host_sign(hs.vault, hs.n_asked, &m, NULL);
		if (e == SP_OK)
			e = wait_for_it(&p);
	}
	if (e != SP_OK)
		return e == SP_ERR_TIMEOUT ? "the vault does not answer" :
		    "the vault is away";
	if (sp_dec_host_sign_r(p.body, &r) != SP_OK)
		return "the vault's answer is none";
	if (r.ok != 1) {
		sp_vis(text, sizeof(text), r.text);
		return text;
	}
	memcpy(out, r.signature, SIGNATURE_BYTES);
	return NULL;
}

/* libssh closes the socket of a first exchange that it cannot sign, without a
 * word; nothing is encrypted yet (RFC 4253, 6 and 11.1). */
static enum sp_err
say_plain(struct sp_ctx *x, const char *why)
{
	static const uint8_t pad[16];
	SP_BUF_AUTO b = {.max = 1024}, payload = {.max = 1024};
	size_t n_pad;

	SP_TRY(sp_buf_put_u8(&payload, MSG_DISCONNECT));
	SP_TRY(sp_buf_put_ssh_u32(&payload, NOT_AVAILABLE));
	SP_TRY(sp_buf_put_ssh_string(&payload, sp_span_str(why)));
	SP_TRY(sp_buf_put_ssh_string(&payload, sp_span_str("")));
	n_pad = 12 - (4 + 1 + payload.len + 4) % 8;
	SP_TRY(sp_buf_put_ssh_u32(&b, (uint32_t)(1 + payload.len + n_pad)));
	SP_TRY(sp_buf_put_u8(&b, (uint8_t)n_pad));
	SP_TRY(sp_buf_put(&b, sp_buf_span(&payload).p, payload.len));
	SP_TRY(sp_buf_put(&b, pad, n_pad));
	return send(x->wire.fd, sp_buf_span(&b).p, b.len, 0) == (ssize_t)b.len ?
	    SP_OK : SP_ERR_IO;
}

int
EVP_DigestSign(EVP_MD_CTX *ctx, unsigned char *sig, size_t *n_sig,
    const unsigned char *data, size_t n)
{
	struct sp_ctx *x = sp_ctx_in_libssh();
	const char *why;

	if (hs.vault == NULL)
		return hs.sign == NULL ? 0 : hs.sign(ctx, sig, n_sig, data, n);
	if (sig == NULL || *n_sig < SIGNATURE_BYTES)
		return 0;
	why = ask(n, sig);
	forget();
	if (why == NULL) {
		*n_sig = SIGNATURE_BYTES;
		return 1;
	}
	if (x != NULL && x->state == SP_CTX_KEX)
		(void)!say_plain(x, why);
	sp_log(SP_ERROR, "no_host_signature", NULL, "conn=%llu why=\"%s\"",
	    (unsigned long long)hs.conn, why);
	return 0;
}

enum sp_err
sp_hostsign_init(void)
{
	void *f = dlsym(RTLD_NEXT, "EVP_DigestUpdate");
	void *g = dlsym(RTLD_NEXT, "EVP_DigestSign");

	memcpy(&hs.update, &f, sizeof(f));
	memcpy(&hs.sign, &g, sizeof(g));
	return f != NULL && g != NULL ? SP_OK : SP_ERR_UNSUPPORTED;
}

bool
sp_hostsign_is_seen(void)
{
	return hs.n_seen > 0;
}

void
sp_hostsign_use(struct sp_link *vault, uint64_t conn)
{
	hs.vault = vault;
	hs.conn = conn;
}

/* ------------------------------------------------------------- the stand-in */

/* OpenSSH's form (PROTOCOL.key), its private half zeros. */
static enum sp_err
put_key(struct sp_buf *b, struct sp_span blob)
{
	static const uint8_t magic[] = "openssh-key-v1", zeros[32];
	SP_BUF_AUTO own = {.max = STAND_IN_MAX}, sk = {.max = 64};
	struct sp_span rest = blob, type, pk;

	SP_TRY(sp_get_ssh_string(&rest, 64, &type));
	SP_TRY(sp_get_ssh_string(&rest, 32, &pk));
	if (!sp_span_is(type, "ssh-ed25519") || pk.n != 32 || rest.n != 0)
		return SP_ERR_UNSUPPORTED;
	SP_TRY(sp_buf_put(&sk, zeros, sizeof(zeros)));
	SP_TRY(sp_buf_put(&sk, pk.p, pk.n));
	SP_TRY(sp_buf_put_ssh_u32(&own, 7));
	SP_TRY(sp_buf_put_ssh_u32(&own, 7));
	SP_TRY(sp_buf_put_ssh_string(&own, type));
	SP_TRY(sp_buf_put_ssh_string(&own, pk));
	SP_TRY(sp_buf_put_ssh_string(&own, sp_buf_span(&sk)));
	SP_TRY(sp_buf_put_ssh_string(&own, sp_span_str("")));
	for (uint8_t i = 1; own.len % 8 != 0; i++)
		SP_TRY(sp_buf_put_u8(&own, i));
	SP_TRY(sp_buf_put(b, magic, sizeof(magic)));
	SP_TRY(sp_buf_put_ssh_string(b, sp_span_str("none")));
	SP_TRY(sp_buf_put_ssh_string(b, sp_span_str("none")));
	SP_TRY(sp_buf_put_ssh_string(b, sp_span_str("")));
	SP_TRY(sp_buf_put_ssh_u32(b, 1));
	SP_TRY(sp_buf_put_ssh_string(b, blob));
	return sp_buf_put_ssh_string(b, sp_buf_span(&own));
}

enum sp_err
sp_hostsign_stand_in(struct sp_span line, ssh_key *key)
{
	SP_BUF_AUTO blob = {.max = 256}, raw = {.max = STAND_IN_MAX};
	SP_BUF_AUTO pem = {.max = 2 * STAND_IN_MAX};
	const uint8_t *b64 = line.n == 0 ? NULL : memchr(line.p, ' ', line.n);
	size_t n = 0;

	if (b64 == NULL)
		return SP_ERR_SYNTAX;
	b64++;
	while (b64 + n < line.p + line.n && b64[n] > ' ')
		n++;
	SP_TRY(sp_unbase64(&blob, sp_span_of(b64, n)));
	SP_TRY(put_key(&raw, sp_buf_span(&blob)));
	SP_TRY(sp_buf_printf(&pem, "-----BEGIN OPENSSH PRIVATE KEY-----\n"));
	SP_TRY(sp_base64(&pem, sp_buf_span(&raw)));
	SP_TRY(sp_buf_printf(&pem, "\n-----END OPENSSH PRIVATE KEY-----\n"));
	SP_TRY(sp_buf_put_u8(&pem, 0));
	return ssh_pki_import_privkey_base64((const char *)sp_buf_span(&pem).p,
	    NULL, NULL, NULL, key) == SSH_OK ? SP_OK : SP_ERR_CRYPTO;
}
