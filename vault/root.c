/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/root.h"

#include <sodium.h>
#include <string.h>

#include "common/text.h"
#include "vault/root_int.h"
#include "vault/poison.h"

#define WRAP_LABEL "sallyport kek wrap v1"
#define MAC_LABEL "sallyport state mac v1"
#define HOST_LABEL "host ed25519"

static enum sp_err
kek_aad(const struct sp_kek_row *k, struct sp_buf *b)
{
	SP_TRY(sp_buf_put_bytes(b, sp_span_str("sallyport kek v1")));
	SP_TRY(sp_buf_put_u8(b, k->purpose));
	return sp_buf_put_u32(b, k->epoch);
}

static enum sp_err
make_kek(struct sp_state *s, const struct sp_secret *wrap, uint8_t purpose,
    uint32_t epoch, struct sp_secret *key)
{
	struct sp_kek_row *k = &s->keks[s->n_keks];
	SP_BUF_AUTO aad = {.max = 64};

	*k = (struct sp_kek_row){.purpose = purpose, .epoch = epoch};
	SP_TRY(sp_secret_random(key, SP_KEY_BYTES));
	SP_TRY(kek_aad(k, &aad));
	SP_TRY(sp_key_wrap(wrap->p, sp_buf_span(&aad), key->p, k->wrapped));
	s->n_keks++;
	return SP_OK;
}

enum sp_err
sp_root_new_kek(const struct sp_secret *root, struct sp_state *s,
    uint8_t purpose, uint32_t epoch, struct sp_secret *key)
{
	SP_SECRET_AUTO wrap = {0};

	SP_TRY(sp_key_derive(root->p, WRAP_LABEL, sp_span_str(""), &wrap));
	return make_kek(s, &wrap, purpose, epoch, key);
}

/* libsodium's Ed25519 secret key begins with its seed. */
enum sp_err
sp_root_wrap_own(const struct sp_root *r, const struct sp_secret *signing,
    const struct sp_secret *recordings, struct sp_state *s)
{
	SP_TRY(sp_key_wrap(signing->p, sp_span_str("audit ed25519"), r->audit.p,
	    s->audit_sk));
	SP_TRY(sp_key_wrap(signing->p, sp_span_str("ca ed25519"), r->ca.p,
	    s->ca_sk));
	if (s->has_host)
		SP_TRY(sp_key_wrap(signing->p, sp_span_str(HOST_LABEL),
		    r->host.p, s->host_sk));
	return sp_key_wrap(recordings->p, sp_span_str("recordings x25519"),
	    r->rec.p, s->rec_sk);
}

static enum sp_err
make_signer(const struct sp_secret *kek, const char *label, uint8_t pk[static 32],
    uint8_t wrapped[static SP_WRAPPED_KEY])
{
	SP_SECRET_AUTO seed = {0}, sk = {0};

	SP_TRY(sp_secret_random(&seed, 32));
	SP_TRY(sp_secret_new(&sk, 64));
	if (crypto_sign_seed_keypair(pk, sk.p, seed.p) != 0)
		return SP_ERR_CRYPTO;
	return sp_key_wrap(kek->p, sp_span_str(label), seed.p, wrapped);
}

static enum sp_err
make_rec(const struct sp_secret *kek, struct sp_state *s)
{
	SP_SECRET_AUTO sk = {0};

	SP_TRY(sp_secret_random(&sk, 32));
	if (crypto_scalarmult_base(s->rec_pk, sk.p) != 0)
		return SP_ERR_CRYPTO;
	return sp_key_wrap(kek->p, sp_span_str("recordings x25519"), sk.p,
	    s->rec_sk);
}

enum sp_err
sp_root_make(struct sp_state *out, struct sp_secret *root)
{
	SP_SECRET_AUTO wrap = {0}, kek = {0}, k = {0};
	struct sp_state s = {.format = SP_STATE_FORMAT};

	SP_TRY(sp_secret_random(&k, SP_KEY_BYTES));
	SP_TRY(sp_key_derive(k.p, WRAP_LABEL, sp_span_str(""), &wrap));
	SP_TRY(make_kek(&s, &wrap, SP_KEK_SECRETS, 1, &kek));
	SP_TRY(make_kek(&s, &wrap, SP_KEK_ROWS, 1, &kek));
	SP_TRY(make_kek(&s, &wrap, SP_KEK_RECORDINGS, 1, &kek));
	SP_TRY(make_rec(&kek, &s));
	SP_TRY(make_kek(&s, &wrap, SP_KEK_SIGNING, 1, &kek));
	SP_TRY(make_signer(&kek, "audit ed25519", s.audit_pk, s.audit_sk));
	SP_TRY(make_signer(&kek, "ca ed25519", s.ca_pk, s.ca_sk));
	SP_TRY(make_signer(&kek, HOST_LABEL, s.host_pk, s.host_sk));
	s.has_host = true;
	*out = s;
	sp_secret_move(root, &k);
	return SP_OK;
}

static enum sp_err
state_mac(const struct sp_secret *root, const struct sp_state *s,
    uint8_t mac[static 32])
{
	SP_BUF_AUTO b = {.max = SP_STATE_MAX};
	SP_SECRET_AUTO key = {0};

	SP_TRY(sp_key_derive(root->p, MAC_LABEL, sp_span_str(""), &key));
	SP_TRY(sp_state_body(s, &b));
	return crypto_generichash(mac, 32, sp_buf_span(&b).p, b.len, key.p,
	    key.n) == 0 ? SP_OK : SP_ERR_CRYPTO;
}

enum sp_err
sp_root_sign_state(const struct sp_secret *root, struct sp_state *s)
{
	for (size_t i = 0; i < s->n_slots; i++)
		if (s->slots[i].id == 0)
			s->slots[i].id = (uint8_t)(i + 1);
	return state_mac(root, s, s->mac);
}

static enum sp_err
open_keks(struct sp_root *r, const struct sp_state *s,
    const struct sp_secret *root)
{
	SP_SECRET_AUTO wrap = {0};

	SP_TRY(sp_key_derive(root->p, WRAP_LABEL, sp_span_str(""), &wrap));
	for (size_t i = 0; i < s->n_keks; i++) {
		SP_BUF_AUTO aad = {.max = 64};

		SP_TRY(kek_aad(&s->keks[i], &aad));
		SP_TRY(sp_aead_open(wrap.p, sp_buf_span(&aad),
		    sp_span_of(s->keks[i].wrapped, SP_WRAPPED_KEY),
		    &r->keks[i].key));
		r->keks[i].purpose = s->keks[i].purpose;
		r->keks[i].epoch = s->keks[i].epoch;
		r->n_keks = i + 1;
	}
	return SP_OK;
}

/* The current epoch wrapped them; older ones are tried for a state that was
 * written before a rotation. */
static enum sp_err
open_below(const struct sp_root *r, uint8_t purpose, const char *label,
    const uint8_t *wrapped, struct sp_secret *out)
{
	for (size_t i = 0; i < r->n_keks; i++)
		if (r->keks[i].purpose == purpose &&
		    sp_aead_open(r->keks[i].key.p, sp_span_str(label),
		    sp_span_of(wrapped, SP_WRAPPED_KEY), out) == SP_OK)
			return SP_OK;
	return SP_ERR_CRYPTO;
}

static enum sp_err
open_signer(const struct sp_root *r, const char *label, const uint8_t *wrapped,
    const uint8_t want_pk[static 32], struct sp_secret *out)
{
	SP_SECRET_AUTO seed = {0}, sk = {0};
	uint8_t pk[32];

	SP_TRY(open_below(r, SP_KEK_SIGNING, label, wrapped, &seed));
	SP_TRY(sp_secret_new(&sk, 64));
	if (crypto_sign_seed_keypair(pk, sk.p, seed.p) != 0 ||
	    sodium_memcmp(pk, want_pk, 32) != 0)
		return SP_ERR_CRYPTO;
	sp_secret_move(out, &sk);
	return SP_OK;
}

enum sp_err
sp_root_take_host(struct sp_root *r, const struct sp_state *s)
{
	SP_SECRET_AUTO sk = {0};

	SP_TRY(open_signer(r, HOST_LABEL, s->host_sk, s->host_pk, &sk));
	sp_secret_move(&r->host, &sk);
	memcpy(r->host_pk, s->host_pk, 32);
	return SP_OK;
}

enum sp_err
sp_root_put_host(const struct sp_root *r, const struct sp_secret *seed,
    struct sp_state *next)
{
	const struct sp_kek *kek = sp_root_kek(r, SP_KEK_SIGNING, 0);
	SP_SECRET_AUTO sk = {0};

	if (kek == NULL)
		return SP_ERR_SEALED;
	if (seed->n != 32)
		return SP_ERR_UNSUPPORTED;
	SP_TRY(sp_secret_new(&sk, 64));
	if (crypto_sign_seed_keypair(next->host_pk, sk.p, seed->p) != 0)
		return SP_ERR_CRYPTO;
	SP_TRY(sp_key_wrap(kek->key.p, sp_span_str(HOST_LABEL), seed->p,
	    next->host_sk));
	next->has_host = true;
	return SP_OK;
}

static enum sp_err
open_all(struct sp_root *r, const struct sp_state *s,
    const struct sp_secret *root)
{
	uint8_t mac[32], pk[32];

	SP_TRY(state_mac(root, s, mac));
	if (sodium_memcmp(mac, s->mac, sizeof(mac)) != 0)
		return SP_ERR_CRYPTO;
	SP_TRY(open_keks(r, s, root));
	SP_TRY(open_signer(r, "audit ed25519", s->audit_sk, s->audit_pk,
	    &r->audit));
	SP_TRY(open_signer(r, "ca ed25519", s->ca_sk, s->ca_pk, &r->ca));
	if (s->has_host)
		SP_TRY(sp_root_take_host(r, s));
	SP_TRY(open_below(r, SP_KEK_RECORDINGS, "recordings x25519", s->rec_sk,
	    &r->rec));
	if (crypto_scalarmult_base(pk, r->rec.p) != 0 ||
	    sodium_memcmp(pk, s->rec_pk, 32) != 0)
		return SP_ERR_CRYPTO;
	memcpy(r->audit_pk, s->audit_pk, 32);
	memcpy(r->ca_pk, s->ca_pk, 32);
	memcpy(r->rec_pk, s->rec_pk, 32);
	return SP_OK;
}

enum sp_err
sp_root_open_with(struct sp_root *r, const struct sp_state *s,
    struct sp_secret *root)
{
	SP_SECRET_AUTO k = {0};
	enum sp_err e;

	sp_secret_move(&k, root);
	if (r->is_open)
		return SP_ERR_STATE;
	e = k.n == SP_KEY_BYTES ? open_all(r, s, &k) : SP_ERR_CRYPTO;
	if (e != SP_OK) {
		sp_root_close(r);
		return e;
	}
	sp_secret_move(&r->root, &k);
	r->is_open = true;
	return SP_OK;
}

enum sp_err
sp_root_open(struct sp_root *r, const struct sp_state *s,
    struct sp_span passphrase)
{
	SP_SECRET_AUTO root = {0};

	if (r->is_open)
		return SP_ERR_STATE;
	SP_TRY(sp_slots_open(s->slots, s->n_slots, passphrase, &root));
	return sp_root_open_with(r, s, &root);
}

void
sp_root_close(struct sp_root *r)
{
	for (size_t i = 0; i < SP_KEKS_MAX; i++)
		sp_secret_free(&r->keks[i].key);
	sp_secret_free(&r->audit);
	sp_secret_free(&r->ca);
	sp_secret_free(&r->host);
	sp_secret_free(&r->rec);
	sp_secret_free(&r->root);
	*r = (struct sp_root){.releases = r->releases};
}

const struct sp_kek *
sp_root_kek(const struct sp_root *r, uint8_t purpose, uint32_t epoch)
{
	const struct sp_kek *best = NULL;

	for (size_t i = 0; r->is_open && i < r->n_keks; i++) {
		const struct sp_kek *k = &r->keks[i];

		if (k->purpose != purpose)
			continue;
		if (epoch != 0 ? k->epoch == epoch :
		    best == NULL || k->epoch > best->epoch)
			best = k;
	}
	return best;
}

enum sp_err
sp_root_sign(const struct sp_root *r, struct sp_span what,
    uint8_t sig[static 64])
{
	if (!r->is_open)
		return SP_ERR_SEALED;
	return crypto_sign_detached(sig, NULL, what.p, what.n, r->audit.p) == 0 ?
	    SP_OK : SP_ERR_CRYPTO;
}

enum sp_err
sp_ssh_ed25519_blob(struct sp_buf *out, const uint8_t pk[static 32])
{
	SP_TRY(sp_buf_put_ssh_string(out, sp_span_str("ssh-ed25519")));
	return sp_buf_put_ssh_string(out, sp_span_of(pk, 32));
}

enum sp_err
sp_ssh_ed25519_line(struct sp_buf *out, const uint8_t pk[static 32],
    const char *comment)
{
	SP_BUF_AUTO blob = {.max = 128}, b64 = {.max = 256};

	SP_TRY(sp_ssh_ed25519_blob(&blob, pk));
	SP_TRY(sp_base64(&b64, sp_buf_span(&blob)));
	return sp_buf_printf(out, "ssh-ed25519 %.*s %s", (int)b64.len,
	    (const char *)sp_buf_span(&b64).p, comment);
}
