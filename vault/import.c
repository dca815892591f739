/* SPDX-License-Identifier: Apache-2.0 */
#include <sodium.h>
#include <string.h>

#include "common/ipc_messages.h"
#include "vault/secrets.h"
#include "vault/poison.h"

/* OpenSSH's private key file (PROTOCOL.key), unencrypted, one Ed25519 key. */
#define BEGIN "-----BEGIN OPENSSH PRIVATE KEY-----"
#define END "-----END OPENSSH PRIVATE KEY-----"

static enum sp_err
keep(struct sp_span s, struct sp_secret *out)
{
	SP_TRY(sp_secret_new(out, s.n));
	memcpy(out->p, s.p, s.n);
	return SP_OK;
}

/* The base64 between the two lines, decoded within the arena. */
static enum sp_err
unarmor(struct sp_span text, struct sp_secret *out)
{
	SP_SECRET_AUTO s = {0};
	const char *end;
	size_t n = 0;

	while (text.n > 0 && (text.p[text.n - 1] == '\n' ||
	    text.p[text.n - 1] == '\r'))
		text.n--;
	if (text.n < strlen(BEGIN) + strlen(END) + 8 ||
	    !sp_span_is(sp_span_of(text.p, strlen(BEGIN)), BEGIN) ||
	    !sp_span_is(sp_span_of(text.p + text.n - strlen(END), strlen(END)),
	    END))
		return SP_ERR_UNSUPPORTED;
	text = sp_span_of(text.p + strlen(BEGIN),
	    text.n - strlen(BEGIN) - strlen(END));
	SP_TRY(sp_secret_new(&s, text.n));
	if (sodium_base642bin(s.p, s.n, (const char *)text.p, text.n, "\r\n", &n,
	    &end, sodium_base64_VARIANT_ORIGINAL) != 0 || n == 0 ||
	    end != (const char *)text.p + text.n)
		return SP_ERR_SYNTAX;
	sp_secret_cut(&s, n);
	sp_secret_move(out, &s);
	return SP_OK;
}

static bool
next_is(struct sp_span *s, const char *want)
{
	struct sp_span got;

	return sp_get_ssh_string(s, 8192, &got) == SP_OK && sp_span_is(got, want);
}

static enum sp_err
private_part(struct sp_span s, struct sp_secret *seed)
{
	uint32_t a, b;
	struct sp_span pk, sk, comment;

	SP_TRY(sp_get_ssh_u32(&s, &a));
	SP_TRY(sp_get_ssh_u32(&s, &b));
	if (a != b)
		return SP_ERR_SYNTAX;
	if (!next_is(&s, "ssh-ed25519"))
		return SP_ERR_UNSUPPORTED;
	SP_TRY(sp_get_ssh_string(&s, 32, &pk));
	SP_TRY(sp_get_ssh_string(&s, 64, &sk));
	SP_TRY(sp_get_ssh_string(&s, 1024, &comment));
	if (pk.n != 32 || sk.n != 64 || sodium_memcmp(sk.p + 32, pk.p, 32) != 0)
		return SP_ERR_SYNTAX;
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] != i + 1)
			return SP_ERR_SYNTAX;
	return keep(sp_span_of(sk.p, 32), seed);
}

static enum sp_err
openssh_seed(struct sp_span text, struct sp_secret *seed)
{
	static const char magic[] = "openssh-key-v1";
	SP_SECRET_AUTO raw = {0};
	struct sp_span s, pub, priv;
	const uint8_t *m;
	uint32_t n;

	SP_TRY(unarmor(text, &raw));
	s = sp_span_of(raw.p, raw.n);
	SP_TRY(sp_get(&s, sizeof(magic), &m));
	if (!sp_span_eq(sp_span_of(m, sizeof(magic)),
	    sp_span_of(magic, sizeof(magic))))
		return SP_ERR_SYNTAX;
	if (!next_is(&s, "none") || !next_is(&s, "none") || !next_is(&s, ""))
		return SP_ERR_UNSUPPORTED;	/* encrypted */
	SP_TRY(sp_get_ssh_u32(&s, &n));
	if (n != 1)
		return SP_ERR_UNSUPPORTED;
	SP_TRY(sp_get_ssh_string(&s, 4096, &pub));
	SP_TRY(sp_get_ssh_string(&s, 4096, &priv));
	if (s.n != 0)
		return SP_ERR_SYNTAX;
	return private_part(priv, seed);
}

enum sp_err
sp_secret_import(uint8_t kind, struct sp_span given, struct sp_secret *out)
{
	if (given.n == 0 || given.n > SP_SECRET_CLEAR_MAX)
		return SP_ERR_TOOBIG;
	switch (kind) {
	case SP_CRED_SSH_PASSWORD:
		for (size_t i = 0; i < given.n; i++)
			if (given.p[i] == 0 || given.p[i] == '\n' ||
			    given.p[i] == '\r')
				return SP_ERR_SYNTAX;
		return keep(given, out);
	case SP_CRED_TOTP_SEED:
		if (given.n < 16 || given.n > 64)
			return SP_ERR_INVAL;
		return keep(given, out);
	case SP_CRED_SSH_KEY:
		return openssh_seed(given, out);
	default:
		return SP_ERR_INVAL;
	}
}
