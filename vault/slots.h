/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_SLOTS_H
#define SP_VAULT_SLOTS_H

#include "vault/aead.h"

/*
 * Seal slots: each wraps the same root key, as LUKS does it. Any one opens.
 *
 *   passphrase  slot key = Argon2id(passphrase, salt, ops, mem)
 *   demo        slot key = BLAKE2b of the 32 bytes in the file
 *               DEMONSTRATION-ONLY.key and the salt; ops = mem = 0
 *
 * Type, salt and cost are additional data of the wrap: who can write the file
 * cannot lower the cost of a slot that opens.
 */
enum sp_slot_type { SP_SLOT_PASSPHRASE = 1, SP_SLOT_DEMO = 2 };
#define SP_SLOT_SALT 16
#define SP_SLOTS_MAX 16
#define SP_PASSPHRASE_MIN 8
#define SP_PASSPHRASE_MAX 1024

struct sp_slot {
	uint8_t type;
	uint64_t ops, mem_bytes;
	uint8_t salt[SP_SLOT_SALT];
	uint8_t wrapped[SP_WRAPPED_KEY];
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
/* Tries the passphrase on every passphrase slot, or, if it is the text of a
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
