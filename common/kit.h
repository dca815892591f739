/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_KIT_H
#define SP_COMMON_KIT_H

#include "common/release.h"

/*
 * A break-glass kit: chosen credentials in one file that opens with k of n
 * shares (common/shares.h), with neither bastion nor database. The vault writes
 * it, `sallyport-kit` opens it. Integers little-endian, str and bytes with a u32
 * length:
 *
 *   "SPKT" u8 format = 1, kit[16], u8 k, u8 n, i64 made_us, i64 expires_us,
 *   str note, receipt_key[32], u8 count
 *   for each: u8 kind, secret[16], u64 version, str account, str target,
 *             str addr, u16 port, str host_keys, bytes sealed
 *   bytes receipt
 *
 * `sealed` is XChaCha20-Poly1305 (nonce[24] ciphertext tag[16]) of the credential
 * as people use it; additional data "sallyport kit v1" NUL kit[16] u8 place and
 * the entry's bytes before it. `receipt` seals the seed of receipt_key (Ed25519)
 * with everything before it as additional data: who opens it knows that nothing
 * of the file was changed. The key is what the shares join to.
 *
 * Who opens a kit leaves a receipt, signed by that key: the proof that it was
 * opened, and by whom by their own word.
 */
#define SP_KIT_FILE_MAX 49152
#define SP_KIT_ENTRIES_MAX 32
#define SP_KIT_SEALED_MAX 8192
#define SP_KIT_NONCE 24
#define SP_KIT_TAG 16

struct sp_kit_entry {
	uint8_t kind, secret[16];
	uint64_t version;
	char account[SP_NAME_MAX + 1], target[SP_NAME_MAX + 1], addr[65];
	uint16_t port;
	struct sp_span host_keys, sealed;	/* borrowed */
	struct sp_span clear_part;	/* of the file, before `sealed` */
};
struct sp_kit {
	uint8_t kit[16], k, n;
	int64_t made_us, expires_us;
	char note[257];
	uint8_t receipt_key[32];
	size_t count;
	struct sp_kit_entry entry[SP_KIT_ENTRIES_MAX];
	struct sp_span before_receipt, receipt;
};

SP_MUST enum sp_err sp_kit_put_head(struct sp_buf *b, const struct sp_kit *k);
/* An entry's bytes before `sealed`. */
SP_MUST enum sp_err sp_kit_put_entry(struct sp_buf *b,
    const struct sp_kit_entry *e);
/* The additional data of an entry's seal. */
SP_MUST enum sp_err sp_kit_aad(struct sp_buf *b, const uint8_t kit[static 16],
    size_t place, struct sp_span clear_part);
/* SP_ERR_PROTO: no kit, or bytes follow; SP_ERR_UNSUPPORTED: another format. */
SP_MUST enum sp_err sp_kit_decode(struct sp_span file, struct sp_kit *k);

/* --------------------------------------------------------------- receipts */
#define SP_RECEIPT_MAX 16384
#define SP_RECEIPT_BEGIN "-----BEGIN SALLYPORT BREAK-GLASS RECEIPT-----"
#define SP_RECEIPT_END "-----END SALLYPORT BREAK-GLASS RECEIPT-----"
struct sp_receipt {
	uint8_t kit[16];
	char opened[SP_TIME_TEXT], by[129], why[513];
	uint8_t signature[64];
	struct sp_span body;	/* borrowed: the lines that are signed */
};
/* The lines that are signed, for a kit that was opened now. by and why are
 * encoded (sp_vis). */
SP_MUST enum sp_err sp_receipt_body(struct sp_buf *b, const struct sp_kit *k,
    const char *opened, const char *by, const char *why);
/* What the signature is over: a label, NUL, the body. */
SP_MUST enum sp_err sp_receipt_signed(struct sp_buf *b, struct sp_span body);
SP_MUST enum sp_err sp_receipt_text(struct sp_buf *b, struct sp_span body,
    const uint8_t signature[static 64]);
/* SP_ERR_SYNTAX. The signature is not looked at. */
SP_MUST enum sp_err sp_receipt_parse(struct sp_span text, struct sp_receipt *r);

#endif
