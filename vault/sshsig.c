/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/sshsig.h"

#include <sodium.h>

#include "vault/hostsig.h"
#include "vault/poison.h"

#define MAGIC "SSHSIG"
#define NS_MAX 64
#define PART_MAX 4096

/* A security key's type, and the plain type whose arithmetic it uses. */
static const struct sk_type {
	const char *type, *plain;
	bool is_ecdsa;
} sk_types[] = {
    {"sk-ssh-ed25519@openssh.com", "ssh-ed25519", false},
    {"sk-ecdsa-sha2-nistp256@openssh.com", "ecdsa-sha2-nistp256", true},
};

static const struct sk_type *
sk_type_of(struct sp_span type)
{
	for (size_t i = 0; i < sizeof(sk_types) / sizeof(sk_types[0]); i++)
		if (sp_span_is(type, sk_types[i].type))
			return &sk_types[i];
	return NULL;
}

static const struct sk_type *
sk_of(struct sp_span key)
{
	struct sp_span type;

	return sp_get_ssh_string(&key, 64, &type) == SP_OK ? sk_type_of(type) :
	    NULL;
}

bool
sp_sshsig_key_is_sk(struct sp_span key)
{
	return sk_of(key) != NULL;
}

/* The plain key of the same numbers, and the application (what the key was made
 * for: "ssh:" unless its owner said otherwise). */
static enum sp_err
plain_key(struct sp_span key, const struct sk_type *t, struct sp_buf *plain,
    struct sp_span *application)
{
	struct sp_span part;

	SP_TRY(sp_get_ssh_string(&key, 64, &part));
	SP_TRY(sp_buf_put_ssh_string(plain, sp_span_str(t->plain)));
	if (t->is_ecdsa) {
		SP_TRY(sp_get_ssh_string(&key, 32, &part));
		SP_TRY(sp_buf_put_ssh_string(plain, part));
	}
	SP_TRY(sp_get_ssh_string(&key, 256, &part));
	SP_TRY(sp_buf_put_ssh_string(plain, part));
	SP_TRY(sp_get_ssh_string(&key, 512, application));
	return key.n == 0 ? SP_OK : SP_ERR_PROTO;
}

enum sp_err
sp_sshsig_key_check(struct sp_span key)
{
	SP_BUF_AUTO plain = {.max = SP_SSHSIG_KEY_MAX}, list = {.max = PART_MAX};
	const struct sk_type *t = sk_of(key);
	struct sp_span application;

	if (key.n == 0 || key.n > SP_SSHSIG_KEY_MAX)
		return SP_ERR_TOOBIG;
	if (t != NULL) {
		SP_TRY(plain_key(key, t, &plain, &application));
		key = sp_buf_span(&plain);
	}
	SP_TRY(sp_buf_put_ssh_string(&list, key));
	return sp_host_keys_check(sp_buf_span(&list), false);
}

/* ------------------------------------------------------- what was signed */

static enum sp_err
put_hash(struct sp_buf *b, struct sp_span algo, struct sp_span message)
{
	uint8_t h[crypto_hash_sha512_BYTES];

	if (sp_span_is(algo, "sha512")) {
		crypto_hash_sha512(h, message.p, message.n);
		return sp_buf_put_ssh_string(b, sp_span_of(h, sizeof(h)));
	}
	if (!sp_span_is(algo, "sha256"))
		return SP_ERR_UNSUPPORTED;
	crypto_hash_sha256(h, message.p, message.n);
	return sp_buf_put_ssh_string(b,
	    sp_span_of(h, crypto_hash_sha256_BYTES));
}

static enum sp_err
get_magic(struct sp_span *s)
{
	const uint8_t *p;

	SP_TRY(sp_get(s, sizeof(MAGIC) - 1, &p));
	return sp_span_is(sp_span_of(p, sizeof(MAGIC) - 1), MAGIC) ? SP_OK :
	    SP_ERR_PROTO;
}

static enum sp_err
put_sha256(struct sp_buf *b, struct sp_span s)
{
	uint8_t h[crypto_hash_sha256_BYTES];

	crypto_hash_sha256(h, s.p, s.n);
	return sp_buf_put(b, h, sizeof(h));
}

/* ------------------------------------------------------- security keys */

/* string type, string signature, byte flags, u32 counter: over
 * SHA-256(application) flags counter SHA-256(data). */
static enum sp_err
verify_sk(const struct sk_type *t, struct sp_span signature,
    struct sp_span data, struct sp_sshsig *out)
{
	SP_BUF_AUTO key = {.max = SP_SSHSIG_KEY_MAX}, plain = {.max = PART_MAX};
	SP_BUF_AUTO over = {.max = 128};
	struct sp_span type, raw, application;

	SP_TRY(sp_get_ssh_string(&signature, 64, &type));
	SP_TRY(sp_get_ssh_string(&signature, 512, &raw));
	SP_TRY(sp_get_u8(&signature, &out->flags));
	SP_TRY(sp_get_ssh_u32(&signature, &out->counter));
	if (signature.n != 0)
		return SP_ERR_PROTO;
	if (!sp_span_is(type, t->type))
		return SP_ERR_UNSUPPORTED;
	SP_TRY(plain_key(out->key, t, &key, &application));
	SP_TRY(put_sha256(&over, application));
	SP_TRY(sp_buf_put_u8(&over, out->flags));
	SP_TRY(sp_buf_put_ssh_u32(&over, out->counter));
	SP_TRY(put_sha256(&over, data));
	SP_TRY(sp_buf_put_ssh_string(&plain, sp_span_str(t->plain)));
	SP_TRY(sp_buf_put_ssh_string(&plain, raw));
	out->is_sk = true;
	return sp_host_sig_verify(sp_buf_span(&key), sp_buf_span(&plain),
	    sp_buf_span(&over), false);
}

enum sp_err
sp_sshsig_verify(struct sp_span sig, const char *ns, struct sp_span message,
    struct sp_sshsig *out)
{
	SP_BUF_AUTO data = {.max = 1024};
	struct sp_span key, name, reserved, algo, signature;
	struct sp_sshsig seen = {.is_sk = false};
	const struct sk_type *t;
	uint32_t version;

	if (sig.n > SP_SSHSIG_MAX)
		return SP_ERR_TOOBIG;
	SP_TRY(get_magic(&sig));
	SP_TRY(sp_get_ssh_u32(&sig, &version));
	SP_TRY(sp_get_ssh_string(&sig, SP_SSHSIG_KEY_MAX, &key));
	SP_TRY(sp_get_ssh_string(&sig, NS_MAX, &name));
	SP_TRY(sp_get_ssh_string(&sig, 64, &reserved));
	SP_TRY(sp_get_ssh_string(&sig, 16, &algo));
	SP_TRY(sp_get_ssh_string(&sig, PART_MAX, &signature));
	if (sig.n != 0)
		return SP_ERR_PROTO;
	if (version != 1)
		return SP_ERR_UNSUPPORTED;
	if (!sp_span_is(name, ns))
		return SP_ERR_DENIED;
	SP_TRY(sp_buf_put(&data, MAGIC, sizeof(MAGIC) - 1));
	SP_TRY(sp_buf_put_ssh_string(&data, name));
	SP_TRY(sp_buf_put_ssh_string(&data, reserved));
	SP_TRY(sp_buf_put_ssh_string(&data, algo));
	SP_TRY(put_hash(&data, algo, message));
	seen.key = key;
	t = sk_of(key);
	SP_TRY(t != NULL ? verify_sk(t, signature, sp_buf_span(&data), &seen) :
	    sp_host_sig_verify(key, signature, sp_buf_span(&data), false));
	*out = seen;
	return SP_OK;
}
