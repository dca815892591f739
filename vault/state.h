/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_STATE_H
#define SP_VAULT_STATE_H

#include "vault/slots.h"

/*
 * The file `state` of the vault's directory. Integers little-endian:
 *
 *   "SPVAULT\0" u32 format = 3
 *   u8 slots: each u8 id, u8 type, u8 pending, i64 made at, label as u32
 *             length and bytes, u64 ops, u64 mem, salt[16], wrapped[72],
 *             extra as u32 length and bytes
 *   u8 KEKs:  each u8 purpose, u32 epoch, wrapped[72]
 *   audit_pk[32] rec_pk[32] ca_pk[32]         in clear, covered by mac
 *   audit_sk[72] rec_sk[72] ca_sk[72]         wrapped
 *   u8 has_host: 1: host_pk[32] host_sk[72]   the front's host key; wrapped
 *   mac[32]   BLAKE2b-256 keyed from the root key over all before it
 *   sum[32]   BLAKE2b-256 over all before it: tells a damaged file from a
 *             wrong passphrase; proves nothing
 * Format 2 has no host key, and format 1 other slots (u8 type, u64 ops, u64 mem,
 * salt[16], wrapped[72]). Both are read, and written as format 3 at the next
 * change: the mac covers what stands there.
 *
 * The whole file is replaced at each change: a new one under another name,
 * fsync, rename, fsync of the directory. Whenever the machine stops, what is
 * there is the old state or the new one.
 *
 * Nothing may follow. Slot ids are 1 and up, none twice. Each KEK purpose has at least one epoch, none twice; the
 * highest epoch of a purpose is the current one.
 */
enum sp_kek_purpose {
	SP_KEK_SECRETS = 1,	/* wraps the data keys of secret rows */
	SP_KEK_ROWS = 2,	/* MACs of rows */
	SP_KEK_RECORDINGS = 3,	/* wraps the recordings' X25519 key */
	SP_KEK_SIGNING = 4,	/* wraps the audit and CA keys */
	SP_KEK_LAST_ = SP_KEK_SIGNING
};
#define SP_KEKS_MAX 32
#define SP_STATE_FILE "state"
#define SP_STATE_MAX 32768
#define SP_STATE_FORMAT 3

struct sp_kek_row {
	uint8_t purpose;
	uint32_t epoch;
	uint8_t wrapped[SP_WRAPPED_KEY];
};

struct sp_state {
	uint32_t format;	/* 1 to SP_STATE_FORMAT */
	size_t n_slots, n_keks;
	struct sp_slot slots[SP_SLOTS_MAX];
	struct sp_kek_row keks[SP_KEKS_MAX];
	uint8_t audit_pk[32], rec_pk[32], ca_pk[32];
	uint8_t audit_sk[SP_WRAPPED_KEY], rec_sk[SP_WRAPPED_KEY];
	uint8_t ca_sk[SP_WRAPPED_KEY];
	bool has_host;
	uint8_t host_pk[32], host_sk[SP_WRAPPED_KEY];
	uint8_t mac[32];
};

/* What the mac covers. */
SP_MUST enum sp_err sp_state_body(const struct sp_state *s, struct sp_buf *b);
/* The whole file. */
SP_MUST enum sp_err sp_state_encode(const struct sp_state *s, struct sp_buf *b);
/* SP_ERR_CRYPTO: damaged (sum); SP_ERR_UNSUPPORTED: of another format;
 * SP_ERR_PROTO, SP_ERR_TOOBIG: not a state file. */
SP_MUST enum sp_err sp_state_decode(struct sp_span file, struct sp_state *s);

/* NULL: none of that number. */
struct sp_slot *sp_state_slot(struct sp_state *s, uint8_t id);
/* Copies *t behind the others under a number of its own. SP_ERR_FULL. */
SP_MUST enum sp_err sp_state_add_slot(struct sp_state *s,
    const struct sp_slot *t);
void sp_state_remove_slot(struct sp_state *s, uint8_t id);

/* SP_ERR_NOTFOUND: there is none. Refuses what is not a regular file. */
SP_MUST enum sp_err sp_state_load(int dirfd, struct sp_state *s);
/* A whole file of at most cap bytes below dirfd, never through a symbolic
 * link. with_secrets: also refuses a file that others may read. */
SP_MUST enum sp_err sp_file_read(int dirfd, const char *name,
    bool with_secrets, struct sp_buf *out);
/* Temporary name, fsync, then a name that did not exist before (SP_ERR_EXISTS)
 * or, with replace, over the old one; fsync of the directory. 0600; owned by
 * the directory's owner. */
SP_MUST enum sp_err sp_file_write(int dirfd, const char *name,
    struct sp_span bytes, bool replace);

#endif
