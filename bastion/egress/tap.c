/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/egress/tap.h"

#include <dlfcn.h>
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <string.h>

#define TAP_MAX 65536
#define BANNER_MAX 8192
#define MSG_NEWKEYS 21
#define MSG_KEX_REPLY_ECDH 31
#define MSG_KEX_REPLY_GEX 33

static struct {
	int fd;
	bool closed;		/* NEWKEYS seen, or more than we keep */
	struct sp_buf bytes;
	uint8_t id[64];
	size_t id_len;
	int (*kdf_derive)(EVP_KDF_CTX *, unsigned char *, size_t,
	    const OSSL_PARAM *);
} tap = {.fd = -1, .bytes = {.max = TAP_MAX}};

enum sp_err
sp_tap_init(void)
{
	void *f = dlsym(RTLD_NEXT, "EVP_KDF_derive");

	if (f == NULL)
		return SP_ERR_UNSUPPORTED;
	memcpy(&tap.kdf_derive, &f, sizeof(f));
	return SP_OK;
}

void
sp_tap_begin(int fd)
{
	sp_tap_end();
	tap.fd = fd;
	tap.closed = false;
}

void
sp_tap_end(void)
{
	tap.fd = -1;
	tap.closed = true;
	sp_buf_fini(&tap.bytes);
	explicit_bzero(tap.id, sizeof(tap.id));
	tap.id_len = 0;
}

/* The identification line, after at most BANNER_MAX bytes of other lines. */
static enum sp_err
skip_banner(struct sp_span *s)
{
	size_t seen = 0;

	while (s->n > 0) {
		const uint8_t *nl = memchr(s->p, '\n', s->n);
		bool is_id = s->n >= 4 && memcmp(s->p, "SSH-", 4) == 0;
		size_t n;

		if (nl == NULL)
			return SP_ERR_AGAIN;
		n = (size_t)(nl - s->p) + 1;
		s->p += n;
		s->n -= n;
		if (is_id)
			return SP_OK;
		if ((seen += n) > BANNER_MAX)
			return SP_ERR_PROTO;
	}
	return SP_ERR_AGAIN;
}

/* One packet of the binary protocol before encryption (RFC 4253, 6). */
static enum sp_err
next_packet(struct sp_span *s, struct sp_span *payload)
{
	struct sp_span t = *s;
	uint32_t len;
	uint8_t pad;

	if (sp_get_ssh_u32(&t, &len) != SP_OK)
		return SP_ERR_AGAIN;
	if (len < 2 || len > TAP_MAX)
		return SP_ERR_PROTO;
	if (t.n < len)
		return SP_ERR_AGAIN;
	SP_TRY(sp_get_u8(&t, &pad));
	if ((uint32_t)pad + 2 > len)
		return SP_ERR_PROTO;
	*payload = sp_span_of(t.p, len - 1 - pad);
	s->p += 4 + len;
	s->n -= 4 + len;
	return SP_OK;
}

static enum sp_err
reply_fields(struct sp_span p, struct sp_span *host_key, struct sp_span *sig)
{
	struct sp_span q;
	uint8_t type;

	SP_TRY(sp_get_u8(&p, &type));
	SP_TRY(sp_get_ssh_string(&p, 4096, host_key));
	SP_TRY(sp_get_ssh_string(&p, 8192, &q));
	SP_TRY(sp_get_ssh_string(&p, 2048, sig));
	return p.n == 0 ? SP_OK : SP_ERR_PROTO;
}

enum sp_err
sp_tap_parse(struct sp_span s, struct sp_span *host_key, struct sp_span *sig)
{
	bool found = false;

	SP_TRY(skip_banner(&s));
	for (;;) {
		struct sp_span p, k, g;

		SP_TRY(next_packet(&s, &p));
		if (p.p[0] == MSG_NEWKEYS)
			return found ? SP_OK : SP_ERR_PROTO;
		if (p.p[0] != MSG_KEX_REPLY_ECDH && p.p[0] != MSG_KEX_REPLY_GEX)
			continue;
		/* The group of a group exchange is 31 too, and shorter. */
		if (reply_fields(p, &k, &g) != SP_OK)
			continue;
		if (found)
			return SP_ERR_PROTO;
		*host_key = k;
		*sig = g;
		found = true;
	}
}

static void
watch(const void *p, size_t n)
{
	struct sp_span k, g;
	enum sp_err e;

	if (sp_buf_put(&tap.bytes, p, n) != SP_OK) {
		tap.closed = true;
		return;
	}
	e = sp_tap_parse(sp_buf_span(&tap.bytes), &k, &g);
	if (e != SP_ERR_AGAIN)
		tap.closed = true;
}

enum sp_err
sp_tap_host_proof(struct sp_span *host_key, struct sp_span *signature)
{
	enum sp_err e = sp_tap_parse(sp_buf_span(&tap.bytes), host_key,
	    signature);

	return e == SP_ERR_AGAIN ? SP_ERR_PROTO : e;
}

enum sp_err
sp_tap_session_id(struct sp_span *id)
{
	if (tap.id_len == 0)
		return SP_ERR_STATE;
	*id = sp_span_of(tap.id, tap.id_len);
	return SP_OK;
}

void
sp_tap_saw(int fd, const void *p, size_t n)
{
	if (fd == tap.fd && !tap.closed)
		watch(p, n);
}

/* In front of libcrypto's: the session id is one of its parameters. The first
 * derivation is the first key exchange's; a rekey does not change the id. */
int
EVP_KDF_derive(EVP_KDF_CTX *ctx, unsigned char *key, size_t keylen,
    const OSSL_PARAM params[])
{
	const OSSL_PARAM *p = params == NULL ? NULL :
	    OSSL_PARAM_locate_const(params, OSSL_KDF_PARAM_SSHKDF_SESSION_ID);

	if (p != NULL && tap.id_len == 0 && p->data_size <= sizeof(tap.id)) {
		memcpy(tap.id, p->data, p->data_size);
		tap.id_len = p->data_size;
	}
	return tap.kdf_derive == NULL ? 0 :
	    tap.kdf_derive(ctx, key, keylen, params);
}
