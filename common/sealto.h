/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_SEALTO_H
#define SP_COMMON_SEALTO_H

#include <stdbool.h>

#include "common/config.h"
#include "common/signed.h"

/*
 * Who can open a recording, as sallyport.conf says (recordings_sealed_to and
 * what stands beside it; sallyport.conf(5), doc/recording-format.md "Who can
 * open"). sallyportd refuses a configuration that this refuses, and hands the
 * file's text to the recorder itself: the broker has no part in it.
 */
#define SP_SEALTO_MAX 32	/* recipients, the vault among them */
#define SP_SEALTO_NAME 32
#define SP_SEALTO_LANES 5

struct sp_sealto {
	bool has_vault;		/* it is recipient 0; its key is not known here */
	uint8_t n;
	struct sp_sealto_one {
		char name[SP_SEALTO_NAME + 1];
		uint8_t key[32];
	} one[SP_SEALTO_MAX];
	struct sp_sealto_lane {
		uint8_t threshold;
		uint32_t who;	/* bit i: recipient i */
	} lane[SP_SEALTO_LANES];	/* [lane - 1] */
};

/* SP_ERR_SYNTAX: bad says what is wrong, for people. */
SP_MUST enum sp_err sp_sealto_parse(const struct sp_config *c,
    struct sp_sealto *out, char *bad, size_t cap);

/* The public half of an identity (an X25519 key) as text: "spk1", 64 hexadecimal
 * digits, and 8 of their CRC-32C: one typed wrong would seal to nobody. */
#define SP_IDENTITY_TEXT (4 + 64 + 8 + 1)
void sp_identity_text(char out[static SP_IDENTITY_TEXT],
    const uint8_t key[static 32]);
/* SP_ERR_SYNTAX, SP_ERR_CRYPTO (the sum does not fit). */
SP_MUST enum sp_err sp_identity_parse(struct sp_span text,
    uint8_t key[static 32]);

#endif
