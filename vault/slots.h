/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_SLOTS_H
#define SP_VAULT_SLOTS_H

#include "common/shares.h"
#include "common/text.h"
#include "vault/aead.h"

/*
 * Seal slots: each wraps the same root key, as LUKS does it. Any one opens.
 *
 *   passphrase  slot key = Argon2id(passphrase, salt, ops, mem)
 *   demo        slot key = BLAKE2b of the 32 bytes in the file
 *               DEMONSTRATION-ONLY.key and the salt; ops = mem = 0
 *   shares      slot key = BLAKE2b of 32 random bytes, split k of n, and the
 *               salt; extra: set[16] u8 k, u8 n, n tags[16] (slot_shares.c)
 *   credential  slot key = BLAKE2b of the bytes that systemd hands over and
 *               the salt; 32 bytes at least, so that nobody guesses them
 *   pkcs11      slot key = 32 random bytes that only the token can decrypt;
 *               extra says how, to the CLI and not to the vault
 *
 * Type, salt, cost and extra are additional data of the wrap: who can write
 * the file cannot lower the cost of a slot that opens. That a slot is usable
 * is covered by the mac of the whole state, which is checked before any key
 * that hangs below the root is used.
 */
enum sp_slot_type {
	SP_SLOT_PASSPHRASE = 1,
	SP_SLOT_DEMO = 2,
	SP_SLOT_SHARES = 3,
	SP_SLOT_CREDENTIAL = 4,
	SP_SLOT_PKCS11 = 5,
	SP_SLOT_LAST_ = SP_SLOT_PKCS11
};
#define SP_SLOT_SALT 16
#define SP_SLOTS_MAX 16
#define SP_SLOT_EXTRA_MAX 640
#define SP_SLOT_TAG 16
#define SP_PASSPHRASE_MIN 8
#define SP_PASSPHRASE_MAX 1024
#define SP_CREDENTIAL_MIN 32

struct sp_slot {
	uint8_t id;		/* its number for people; 0: not given yet */
	uint8_t type;
	bool is_pending;	/* new shares that nobody gave back yet */
	int64_t made_us;
	char label[SP_NAME_MAX + 1];
	uint64_t ops, mem_bytes;
	uint8_t salt[SP_SLOT_SALT];
	uint8_t wrapped[SP_WRAPPED_KEY];
	uint16_t extra_n;
	uint8_t extra[SP_SLOT_EXTRA_MAX];
};

struct sp_kdf_cost {
	uint64_t ops, mem_bytes;
};
extern const struct sp_kdf_cost sp_kdf_moderate; /* Argon2id MODERATE */
extern const struct sp_kdf_cost sp_kdf_least;	/* the least that is read */

/* Is this a slot whose fields are within bounds? */
bool sp_slot_is_sane(const struct sp_slot *s);
SP_MUST enum sp_err sp_slot_make_passphrase(struct sp_slot *s,
    struct sp_span passphrase, const struct sp_kdf_cost *cost,
    const struct sp_secret *root);
/* key: the 32 bytes of the demo key file. */
SP_MUST enum sp_err sp_slot_make_demo(struct sp_slot *s,
    const struct sp_secret *key, const struct sp_secret *root);
/* Splits a new slot key: out has room for n shares. The slot is pending. */
SP_MUST enum sp_err sp_slot_make_shares(struct sp_slot *s, uint8_t k, uint8_t n,
    const struct sp_secret *root, struct sp_share *out);
/* k and n of a shares slot. */
void sp_slot_shares_kn(const struct sp_slot *s, uint8_t *k, uint8_t *n);
/* Is this share one of that slot? SP_ERR_PROTO: of another set; SP_ERR_CRYPTO:
 * of this set, but not as it was given out: typed wrong with a right check, or
 * a lie. Says so before k of them are there. */
SP_MUST enum sp_err sp_slot_share_is_of(const struct sp_slot *s,
    const struct sp_share *share);
SP_MUST enum sp_err sp_slot_open_shares(const struct sp_slot *s,
    const struct sp_share *shares, size_t n, struct sp_secret *root);
/* A slot whose key is derived from bytes that nobody can guess: credential, and
 * pkcs11 once its token has decrypted them. type and, of pkcs11, extra are
 * set by the caller. */
SP_MUST enum sp_err sp_slot_make_key(struct sp_slot *s, struct sp_span bytes,
    const struct sp_secret *root);
SP_MUST enum sp_err sp_slot_open_key(const struct sp_slot *s,
    struct sp_span bytes, struct sp_secret *root);
/* Tries the passphrase on every usable passphrase slot, or, if it is the text of a
 * demo key file, on every demo slot. SP_ERR_DENIED: none opened. */
SP_MUST enum sp_err sp_slots_open(const struct sp_slot *slots, size_t n,
    struct sp_span passphrase, struct sp_secret *root);

/* The text of DEMONSTRATION-ONLY.key, one line that says what it is. */
#define SP_DEMO_FILE "DEMONSTRATION-ONLY.key"
#define SP_DEMO_TEXT_MAX 256
SP_MUST enum sp_err sp_demo_text(struct sp_buf *out,
    const struct sp_secret *key);
SP_MUST enum sp_err sp_demo_parse(struct sp_span text, struct sp_secret *key);

#endif
