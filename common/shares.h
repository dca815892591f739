/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_SHARES_H
#define SP_COMMON_SHARES_H

#include "common/buf.h"

/*
 * k-of-n shares of a secret (Shamir 1979) over GF(2^8), x^8+x^4+x^3+x+1: a
 * polynomial of degree k-1 for each byte, its value at 0 is the secret's byte,
 * its value at `index` the share's. Fewer than k shares say nothing at all.
 *
 * Constant time: no table is read and no branch taken by a secret byte; only
 * lengths, k, n and the indices, which stand on every share in clear, steer
 * what is done (CVE-2023-25000 is what tables and branches cost others).
 *
 * One text form, for paper, terminal and QR code:
 *
 *   SPS1-XXXXX-XXXXX-...   base32 (RFC 4648) in groups of five, of
 *   set[16] u8 k, u8 n, u8 index, u8 len, y[len], check[4]
 *
 * set is drawn at random for each split, check is CRC-32C (RFC 3720, B.4) of
 * all before it: it finds what was typed wrong. It is no proof against a
 * custodian who lies; whoever joins verifies the result (the vault by the
 * slot's tags and its AEAD).
 */
#define SP_SHARE_SET 16
#define SP_SHARE_SECRET_MAX 64
#define SP_SHARES_MIN 2		/* the least k: one share is no share */
#define SP_SHARES_MAX 32	/* the largest n */
#define SP_SHARE_TEXT_MAX 192	/* characters, with the NUL */

struct sp_share {		/* wipe it with sp_share_wipe */
	uint8_t set[SP_SHARE_SET];
	uint8_t k, n, index;	/* 2 <= k <= n, 1 <= index <= n */
	uint8_t len;		/* bytes of the secret and of y */
	uint8_t y[SP_SHARE_SECRET_MAX];
};

/* Fills out[0 .. n) with the shares of a secret of 1 to SP_SHARE_SECRET_MAX
 * bytes. SP_ERR_INVAL: k, n or the length are out of bounds; SP_ERR_IO: the
 * kernel gave no random bytes, out is wiped. */
SP_MUST enum sp_err sp_shares_split(struct sp_span secret, uint8_t k, uint8_t n,
    struct sp_share *out);

/*
 * Do these belong together? *bad is the first that does not (from 0), where the
 * error is about one:
 *   SP_ERR_INVAL   its own fields are out of bounds
 *   SP_ERR_PROTO   of another set, or of other k, n or length, than share 0
 *   SP_ERR_EXISTS  its index was given before
 *   SP_ERR_AGAIN   nothing is wrong, yet there are fewer than k (*bad = count)
 */
SP_MUST enum sp_err sp_shares_check(const struct sp_share *s, size_t count,
    size_t *bad);
/* Joins the first k and writes len bytes to secret. What sp_shares_check says,
 * and SP_ERR_CRYPTO: share *bad, beyond the first k, does not lie on the
 * polynomial of those, so one of these k + 1 is false. Nothing is written on
 * an error. */
SP_MUST enum sp_err sp_shares_join(const struct sp_share *s, size_t count,
    uint8_t secret[static SP_SHARE_SECRET_MAX], size_t *len, size_t *bad);

/* The text form. grouped: with '-' between the groups, for people; without for
 * QR codes, where each character costs (alphanumeric mode of ISO 18004). */
SP_MUST enum sp_err sp_share_text(const struct sp_share *s, bool grouped,
    struct sp_buf *out);
/* Reads both forms; spaces, tabs and '-' between characters and lower case are
 * taken. SP_ERR_SYNTAX: not a share's text; SP_ERR_UNSUPPORTED: of another
 * version; SP_ERR_CRYPTO: the check does not fit, something was typed wrong;
 * SP_ERR_INVAL: the check fits, yet the fields are out of bounds. */
SP_MUST enum sp_err sp_share_parse(struct sp_span text, struct sp_share *s);

/* CRC-32C (RFC 3720, B.4), constant time. */
uint32_t sp_crc32c(const uint8_t *p, size_t n);

void sp_share_wipe(struct sp_share *s, size_t count);

/* GF(2^8), for the tests: constant time. The inverse of 0 is 0. */
uint8_t sp_gf_mul(uint8_t a, uint8_t b);
uint8_t sp_gf_inv(uint8_t a);

#endif
