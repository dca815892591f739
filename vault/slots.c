/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/slots.h"

#include <sodium.h>
#include <string.h>

#include "common/text.h"
#include "vault/slots_int.h"
#include "vault/poison.h"

#define KEY_LABEL "sallyport key slot v1"
#define MEM_MOST (1ULL << 30)
#define OPS_MOST 16
#define DEMO_PREFIX "sallyport key for DEMONSTRATION ONLY, it unseals without a person: "

const struct sp_kdf_cost sp_kdf_moderate = {
    .ops = crypto_pwhash_argon2id_OPSLIMIT_MODERATE,
    .mem_bytes = crypto_pwhash_argon2id_MEMLIMIT_MODERATE};
const struct sp_kdf_cost sp_kdf_least = {.ops = 1, .mem_bytes = 1U << 20};

bool
sp_slot_is_sane(const struct sp_slot *s)
{
	if (s->extra_n > SP_SLOT_EXTRA_MAX)
		return false;
	if (s->type == SP_SLOT_SHARES && !sp_slot_shares_are_sane(s))
		return false;
	if (s->type != SP_SLOT_SHARES && s->type != SP_SLOT_PKCS11 &&
	    s->extra_n != 0)
		return false;
	if (s->type >= SP_SLOT_DEMO && s->type <= SP_SLOT_LAST_)
		return s->ops == 0 && s->mem_bytes == 0;
	return s->type == SP_SLOT_PASSPHRASE && s->ops >= sp_kdf_least.ops &&
	    s->ops <= OPS_MOST && s->mem_bytes >= sp_kdf_least.mem_bytes &&
	    s->mem_bytes <= MEM_MOST;
}

static enum sp_err
slot_aad(const struct sp_slot *s, struct sp_buf *b)
{
	/* Without extra it is what format 1 wrapped with: those slots open. */
	SP_TRY(sp_buf_put_bytes(b, sp_span_str(s->extra_n == 0 ?
	    "sallyport slot v1" : "sallyport slot v2")));
	SP_TRY(sp_buf_put_u8(b, s->type));
	SP_TRY(sp_buf_put_u64(b, s->ops));
	SP_TRY(sp_buf_put_u64(b, s->mem_bytes));
	SP_TRY(sp_buf_put(b, s->salt, SP_SLOT_SALT));
	return s->extra_n == 0 ? SP_OK :
	    sp_buf_put_bytes(b, sp_span_of(s->extra, s->extra_n));
}

static enum sp_err
stretch(const struct sp_slot *s, struct sp_span passphrase,
    struct sp_secret *key)
{
	if (passphrase.n == 0 || passphrase.n > SP_PASSPHRASE_MAX)
		return SP_ERR_CRYPTO;	/* as any other that is wrong */
	SP_TRY(sp_secret_new(key, SP_KEY_BYTES));
	if (crypto_pwhash_argon2id(key->p, SP_KEY_BYTES,
	    (const char *)passphrase.p, passphrase.n, s->salt, s->ops,
	    (size_t)s->mem_bytes, crypto_pwhash_argon2id_ALG_ARGON2ID13) != 0)
		return SP_ERR_NOMEM;
	return SP_OK;
}

enum sp_err
sp_slot_wrap_root(struct sp_slot *s, const struct sp_secret *key,
    const struct sp_secret *root)
{
	SP_BUF_AUTO aad = {.max = SP_SLOT_EXTRA_MAX + 128};

	SP_ASSERT(root->n == SP_KEY_BYTES);
	SP_TRY(slot_aad(s, &aad));
	return sp_key_wrap(key->p, sp_buf_span(&aad), root->p, s->wrapped);
}

enum sp_err
sp_slot_make_passphrase(struct sp_slot *s, struct sp_span passphrase,
    const struct sp_kdf_cost *cost, const struct sp_secret *root)
{
	SP_SECRET_AUTO key = {0};
	struct sp_slot t = {.type = SP_SLOT_PASSPHRASE, .ops = cost->ops,
	    .mem_bytes = cost->mem_bytes};

	if (passphrase.n < SP_PASSPHRASE_MIN || passphrase.n > SP_PASSPHRASE_MAX ||
	    !sp_slot_is_sane(&t))
		return SP_ERR_INVAL;
	randombytes_buf(t.salt, sizeof(t.salt));
	SP_TRY(stretch(&t, passphrase, &key));
	SP_TRY(sp_slot_wrap_root(&t, &key, root));
	*s = t;
	return SP_OK;
}

static enum sp_err
demo_slot_key(const struct sp_slot *s, const struct sp_secret *key,
    struct sp_secret *out)
{
	SP_ASSERT(key->n == SP_KEY_BYTES);
	return sp_key_derive(key->p, "sallyport demo slot v1",
	    sp_span_of(s->salt, SP_SLOT_SALT), out);
}

enum sp_err
sp_slot_make_demo(struct sp_slot *s, const struct sp_secret *key,
    const struct sp_secret *root)
{
	SP_SECRET_AUTO k = {0};
	struct sp_slot t = {.type = SP_SLOT_DEMO};

	randombytes_buf(t.salt, sizeof(t.salt));
	SP_TRY(demo_slot_key(&t, key, &k));
	SP_TRY(sp_slot_wrap_root(&t, &k, root));
	*s = t;
	return SP_OK;
}

enum sp_err
sp_slot_unwrap_root(const struct sp_slot *s, const struct sp_secret *key,
    struct sp_secret *root)
{
	SP_BUF_AUTO aad = {.max = SP_SLOT_EXTRA_MAX + 128};

	SP_TRY(slot_aad(s, &aad));
	return sp_aead_open(key->p, sp_buf_span(&aad),
	    sp_span_of(s->wrapped, SP_WRAPPED_KEY), root);
}

/* Not Argon2id: the bytes are random, 32 of them at least. */
static enum sp_err
key_of(const struct sp_slot *s, struct sp_span bytes, struct sp_secret *out)
{
	SP_SECRET_AUTO digest = {0};

	SP_TRY(sp_secret_new(&digest, SP_KEY_BYTES));
	if (crypto_generichash(digest.p, SP_KEY_BYTES, bytes.p, bytes.n, s->salt,
	    SP_SLOT_SALT) != 0)
		return SP_ERR_CRYPTO;
	return sp_key_derive(digest.p, KEY_LABEL, sp_span_of(&s->type, 1), out);
}

enum sp_err
sp_slot_make_key(struct sp_slot *s, struct sp_span bytes,
    const struct sp_secret *root)
{
	SP_SECRET_AUTO key = {0};

	if (bytes.n < SP_CREDENTIAL_MIN || bytes.n > SP_PASSPHRASE_MAX ||
	    !sp_slot_is_sane(s))
		return SP_ERR_INVAL;
	randombytes_buf(s->salt, sizeof(s->salt));
	SP_TRY(key_of(s, bytes, &key));
	return sp_slot_wrap_root(s, &key, root);
}

enum sp_err
sp_slot_open_key(const struct sp_slot *s, struct sp_span bytes,
    struct sp_secret *root)
{
	SP_SECRET_AUTO key = {0};

	if (s->is_pending)
		return SP_ERR_DENIED;
	SP_TRY(key_of(s, bytes, &key));
	return sp_slot_unwrap_root(s, &key, root);
}

enum sp_err
sp_slots_open(const struct sp_slot *slots, size_t n, struct sp_span passphrase,
    struct sp_secret *root)
{
	SP_SECRET_AUTO demo = {0};
	bool is_demo = sp_demo_parse(passphrase, &demo) == SP_OK;
	enum sp_err failed = SP_ERR_DENIED;

	for (size_t i = 0; i < n; i++) {
		SP_SECRET_AUTO key = {0};
		enum sp_err e;

		if (slots[i].is_pending || slots[i].type !=
		    (is_demo ? SP_SLOT_DEMO : SP_SLOT_PASSPHRASE))
			continue;
		e = is_demo ? demo_slot_key(&slots[i], &demo, &key) :
		    stretch(&slots[i], passphrase, &key);
		if (e == SP_OK)
			e = sp_slot_unwrap_root(&slots[i], &key, root);
		if (e == SP_OK)
			return SP_OK;
		if (e != SP_ERR_CRYPTO)
			failed = e;	/* not the passphrase's fault: say so */
	}
	return failed;
}

enum sp_err
sp_demo_text(struct sp_buf *out, const struct sp_secret *key)
{
	char hex[2 * SP_KEY_BYTES + 1];
	enum sp_err e;

	SP_ASSERT(key->n == SP_KEY_BYTES);
	sp_hex(hex, key->p, key->n);
	e = sp_buf_printf(out, "%s%s\n", DEMO_PREFIX, hex);
	sodium_memzero(hex, sizeof(hex));
	return e;
}

enum sp_err
sp_demo_parse(struct sp_span text, struct sp_secret *key)
{
	SP_SECRET_AUTO k = {0};
	size_t lead = strlen(DEMO_PREFIX);

	if (text.n > 0 && text.p[text.n - 1] == '\n')
		text.n--;
	if (text.n != lead + 2 * SP_KEY_BYTES ||
	    !sp_span_is(sp_span_of(text.p, lead), DEMO_PREFIX))
		return SP_ERR_SYNTAX;
	SP_TRY(sp_secret_new(&k, SP_KEY_BYTES));
	SP_TRY(sp_unhex(k.p, SP_KEY_BYTES,
	    sp_span_of(text.p + lead, 2 * SP_KEY_BYTES)));
	sp_secret_move(key, &k);
	return SP_OK;
}
