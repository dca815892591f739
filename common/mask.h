/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_MASK_H
#define SP_COMMON_MASK_H

#include "common/buf.h"

/*
 * What a view of a recording must not show, without saying what it is: for each
 * secret its length, 16 bits of a rolling hash and a keyed digest. The vault makes
 * them with a key of that view alone; the player looks at every place of a text.
 * Who has them can try guesses, as many as a machine can hash: nobody guesses a
 * long random secret, a short or common one is not protected by this.
 *
 *   key[32], then for each: u16 length, u16 rolling hash, digest[32]
 *
 * digest = BLAKE2b-256 keyed with the key over "sallyport mask v1" 0, the bytes.
 * The rolling hash is the value of the bytes, each plus one, as the digits of a
 * number to the base that BLAKE2b-256, keyed with the key, gives of "sallyport
 * mask base v1" 0 (its first 8 bytes), modulo 2^61 - 1; its low 16 bits.
 */
#define SP_MASK_KEY 32
#define SP_MASK_ENTRY 36
#define SP_MASKS_MAX 256
#define SP_MASK_BYTES (SP_MASK_KEY + SP_MASKS_MAX * SP_MASK_ENTRY)
#define SP_MASK_LEAST 4		/* bytes; shorter ones would mask half of a screen */
#define SP_MASK_MOST 512

/* One more behind what is there (the key at least). SP_ERR_INVAL: its length. */
SP_MUST enum sp_err sp_mask_add(struct sp_buf *masks, struct sp_span secret);

struct sp_masks {
	uint8_t key[SP_MASK_KEY];
	uint64_t base;
	size_t n;
	struct sp_mask {
		uint16_t length, rolling;
		uint8_t digest[32];
	} mask[SP_MASKS_MAX];	/* by rising length */
	size_t longest;
};
SP_MUST enum sp_err sp_masks_parse(struct sp_span s, struct sp_masks *m);
/* Where one stands in the text: told for each, they may overlap. */
void sp_masks_find(const struct sp_masks *m, struct sp_span text,
    void (*found)(void *ctx, size_t at, size_t n), void *ctx);
/* Puts `*` over each of them. */
void sp_masks_cover(const struct sp_masks *m, uint8_t *text, size_t n);

#endif
