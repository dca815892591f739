/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/verb_key.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/text.h"

#define RSA_BITS 2048
#define RSA_BITS_OLD 1024	/* host keys of targets marked as old */

enum shape { ED25519, ECDSA, RSA };

static const struct algo {
	const char *name, *curve;
	enum shape shape;
	size_t point;		/* bytes of the public point */
	bool sk;		/* an application string follows */
} algos[] = {
	{"ssh-ed25519", NULL, ED25519, 32, false},
	{"ecdsa-sha2-nistp256", "nistp256", ECDSA, 65, false},
	{"ecdsa-sha2-nistp384", "nistp384", ECDSA, 97, false},
	{"ecdsa-sha2-nistp521", "nistp521", ECDSA, 133, false},
	{"ssh-rsa", NULL, RSA, 0, false},
	{"sk-ssh-ed25519@openssh.com", NULL, ED25519, 32, true},
	{"sk-ecdsa-sha2-nistp256@openssh.com", "nistp256", ECDSA, 65, true},
};

static const struct algo *
find_algo(struct sp_span name)
{
	for (size_t i = 0; i < sizeof(algos) / sizeof(algos[0]); i++)
		if (sp_span_is(name, algos[i].name))
			return &algos[i];
	return NULL;
}

static size_t
mpint_bits(struct sp_span m)
{
	size_t bits;

	if (m.n == 0 || (m.p[0] & 0x80) != 0)
		return 0;
	while (m.n > 0 && m.p[0] == 0)
		m.p++, m.n--;
	if (m.n == 0)
		return 0;
	bits = m.n * 8;
	for (uint8_t top = m.p[0]; (top & 0x80) == 0; top = (uint8_t)(top << 1))
		bits--;
	return bits;
}

static enum sp_err
check_rsa(struct sp_span s, size_t bits, const char **why)
{
	struct sp_span e = {0}, n = {0};

	if (sp_get_ssh_string(&s, 8, &e) != SP_OK ||
	    sp_get_ssh_string(&s, 2050, &n) != SP_OK || s.n != 0 ||
	    mpint_bits(e) < 2 || (e.p[e.n - 1] & 1) == 0) {
		*why = "the RSA key is broken";
		return SP_ERR_SYNTAX;
	}
	if (mpint_bits(n) < bits) {
		*why = "the RSA key is shorter than 2048 bits; ssh-ed25519 is better "
		    "(the host key of old gear: --legacy on, 1024 bits)";
		return SP_ERR_SYNTAX;
	}
	return SP_OK;
}

/* What follows the algorithm's name in the blob. */
static enum sp_err
check_shape(const struct algo *a, struct sp_span s, size_t rsa_bits,
    const char **why)
{
	struct sp_span curve = {0}, point = {0}, app = {0};

	*why = "the key's bytes do not fit its algorithm";
	if (a->shape == RSA)
		return check_rsa(s, rsa_bits, why);
	if (a->shape == ECDSA && (sp_get_ssh_string(&s, 32, &curve) != SP_OK ||
	    !sp_span_is(curve, a->curve)))
		return SP_ERR_SYNTAX;
	if (sp_get_ssh_string(&s, 256, &point) != SP_OK || point.n != a->point)
		return SP_ERR_SYNTAX;
	if (a->shape == ECDSA && point.p[0] != 4)
		return SP_ERR_SYNTAX;
	if (a->sk && (sp_get_ssh_string(&s, 256, &app) != SP_OK || app.n == 0))
		return SP_ERR_SYNTAX;
	return s.n == 0 ? SP_OK : SP_ERR_SYNTAX;
}

static enum sp_err
of_blob(struct sp_span blob, size_t rsa_bits, struct sp_pubkey *k,
    const char **why)
{
	struct sp_span s = blob, name = {0};
	const struct algo *a;

	*why = "the key is broken";
	if (blob.n > sizeof(k->blob) ||
	    sp_get_ssh_string(&s, SP_PUBKEY_ALGO_MAX - 1, &name) != SP_OK)
		return SP_ERR_SYNTAX;
	a = find_algo(name);
	if (a == NULL) {
		*why = "this algorithm is not accepted; use ssh-ed25519, "
		    "ecdsa-sha2-nistp256/384/521, ssh-rsa or sk-*";
		return SP_ERR_SYNTAX;
	}
	SP_TRY(check_shape(a, s, rsa_bits, why));
	snprintf(k->algo, sizeof(k->algo), "%s", a->name);
	k->comment[0] = '\0';
	memcpy(k->blob, blob.p, blob.n);
	k->n = blob.n;
	return SP_OK;
}

enum sp_err
sp_pubkey_of_blob(struct sp_span blob, struct sp_pubkey *k, const char **why)
{
	return of_blob(blob, RSA_BITS, k, why);
}

enum sp_err
sp_host_key_of_blob(struct sp_span blob, bool legacy, struct sp_pubkey *k,
    const char **why)
{
	return of_blob(blob, legacy ? RSA_BITS_OLD : RSA_BITS, k, why);
}

static struct sp_span
word(struct sp_span *s)
{
	struct sp_span w = *s;

	while (w.n > 0 && (w.p[0] == ' ' || w.p[0] == '\t'))
		w.p++, w.n--;
	*s = w;
	while (s->n > 0 && s->p[0] != ' ' && s->p[0] != '\t')
		s->p++, s->n--;
	w.n -= s->n;
	return w;
}

static struct sp_span
trimmed(struct sp_span s)
{
	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
		s.p++, s.n--;
	while (s.n > 0 && memchr(" \t\r\n", s.p[s.n - 1], 4) != NULL)
		s.n--;
	return s;
}

static enum sp_err
parse(struct sp_span line, size_t rsa_bits, struct sp_pubkey *k,
    const char **why)
{
	SP_BUF_AUTO blob = {.max = SP_PUBKEY_BLOB_MAX};
	struct sp_span algo, data;

	line = trimmed(line);
	algo = word(&line);
	data = word(&line);
	line = trimmed(line);
	*why = "a key is written as: ALGORITHM BASE64 [COMMENT]";
	if (data.n == 0 || sp_unbase64(&blob, data) != SP_OK)
		return SP_ERR_SYNTAX;
	SP_TRY(of_blob(sp_buf_span(&blob), rsa_bits, k, why));
	if (!sp_span_is(algo, k->algo)) {
		*why = "the key's name is not that of its bytes";
		return SP_ERR_SYNTAX;
	}
	*why = "the comment is longer than 128 bytes or not one line of UTF-8";
	if (!sp_utf8_is_valid(line) || (line.n > 0 &&
	    memchr(line.p, '\n', line.n) != NULL) ||
	    sp_span_cstr(line, k->comment, sizeof(k->comment)) != SP_OK)
		return SP_ERR_SYNTAX;
	return SP_OK;
}

enum sp_err
sp_pubkey_parse(struct sp_span line, struct sp_pubkey *k, const char **why)
{
	return parse(line, RSA_BITS, k, why);
}

enum sp_err
sp_host_key_parse(struct sp_span line, bool legacy, struct sp_pubkey *k,
    const char **why)
{
	return parse(line, legacy ? RSA_BITS_OLD : RSA_BITS, k, why);
}

void
sp_fingerprint(char t[static SP_FINGERPRINT_TEXT], struct sp_span blob)
{
	uint8_t h[crypto_hash_sha256_BYTES];
	char b64[48];

	crypto_hash_sha256(h, blob.p, blob.n);
	(void)sodium_bin2base64(b64, sizeof(b64), h, sizeof(h),
	    sodium_base64_VARIANT_ORIGINAL_NO_PADDING);
	snprintf(t, SP_FINGERPRINT_TEXT, "SHA256:%s", b64);
}
