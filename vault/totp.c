/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/totp.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "vault/poison.h"

struct spent {
	uint8_t id[16];
	uint64_t step;
};

struct sp_totp_spent {
	size_t n;
	struct spent row[SP_TOTP_SPENT_MAX];
};

struct sp_totp_spent *
sp_totp_spent_new(void)
{
	return calloc(1, sizeof(struct sp_totp_spent));
}

void
sp_totp_spent_free(struct sp_totp_spent *t)
{
	free(t);
}

enum sp_err
sp_totp_code(const struct sp_secret *seed, uint64_t step, char code[static 7])
{
	uint8_t mac[EVP_MAX_MD_SIZE], msg[8];
	unsigned n = 0;
	size_t at;
	uint32_t v;

	for (size_t i = 0; i < 8; i++)
		msg[i] = (uint8_t)(step >> (56 - 8 * i));
	if (HMAC(EVP_sha1(), seed->p, (int)seed->n, msg, sizeof(msg), mac, &n) ==
	    NULL || n != 20)
		return SP_ERR_CRYPTO;
	at = mac[19] & 15;
	v = ((uint32_t)mac[at] & 0x7f) << 24 | (uint32_t)mac[at + 1] << 16 |
	    (uint32_t)mac[at + 2] << 8 | mac[at + 3];
	v %= 1000000;
	for (size_t i = 6; i-- > 0; v /= 10)
		code[i] = (char)('0' + v % 10);
	code[6] = '\0';
	sodium_memzero(mac, sizeof(mac));
	return SP_OK;
}

static bool
is_six_digits(struct sp_span s)
{
	if (s.n != 6)
		return false;
	for (size_t i = 0; i < 6; i++)
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
	return true;
}

/* Steps before `oldest` match no more: their rows make room. */
static enum sp_err
spend(struct sp_totp_spent *t, const uint8_t id[static 16], uint64_t step,
    uint64_t oldest)
{
	struct spent *mine = NULL;
	size_t keep = 0;

	for (size_t i = 0; i < t->n; i++)
		if (sp_span_eq(sp_span_of(t->row[i].id, 16), sp_span_of(id, 16)))
			mine = &t->row[i];
	if (mine != NULL) {
		if (step <= mine->step)
			return SP_ERR_EXISTS;
		mine->step = step;
		return SP_OK;
	}
	if (t->n == SP_TOTP_SPENT_MAX) {
		for (size_t i = 0; i < t->n; i++)
			if (t->row[i].step >= oldest)
				t->row[keep++] = t->row[i];
		t->n = keep;
	}
	if (t->n == SP_TOTP_SPENT_MAX)
		return SP_ERR_FULL;
	memcpy(t->row[t->n].id, id, 16);
	t->row[t->n++].step = step;
	return SP_OK;
}

enum sp_err
sp_totp_check(struct sp_totp_spent *t, const uint8_t row_id[static 16],
    const struct sp_secret *seed, struct sp_span code, int64_t now_us,
    uint64_t *step)
{
	uint64_t now, matched = 0;
	bool hit = false;

	if (now_us < 2LL * SP_TOTP_STEP_S * 1000000 || !is_six_digits(code))
		return SP_ERR_DENIED;
	now = (uint64_t)now_us / 1000000 / SP_TOTP_STEP_S;
	for (uint64_t s = now - 1; s <= now + 1; s++) {
		char want[7];

		SP_TRY(sp_totp_code(seed, s, want));
		if (sodium_memcmp(want, code.p, 6) == 0) {
			hit = true;
			matched = s;
		}
		sodium_memzero(want, sizeof(want));
	}
	if (!hit)
		return SP_ERR_DENIED;
	SP_TRY(spend(t, row_id, matched, now - 1));
	*step = matched;
	return SP_OK;
}
