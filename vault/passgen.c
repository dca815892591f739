/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/passgen.h"

#include <sodium.h>

#include "vault/poison.h"

#define TRIES 10000
#define POOL 256

struct pool {
	struct sp_secret bytes;
	size_t at;
};

static uint8_t
next_random(void *arg)
{
	struct pool *p = arg;

	if (p->at == p->bytes.n) {
		randombytes_buf(p->bytes.p, p->bytes.n);
		p->at = 0;
	}
	return p->bytes.p[p->at++];
}

uint8_t
sp_pass_pick(unsigned n, uint8_t (*next)(void *arg), void *arg)
{
	unsigned limit, b;

	SP_ASSERT(n > 0 && n <= 256);
	limit = 256 - 256 % n;
	do
		b = next(arg);
	while (b >= limit);
	return (uint8_t)(b % n);
}

/* Each class often enough? */
static bool
draw(const struct sp_pass_rule *r, struct pool *p, struct sp_secret *s)
{
	unsigned have[SP_PASS_CLASSES] = {0};
	bool ok = true;

	for (size_t i = 0; i < r->length; i++) {
		uint8_t k = sp_pass_pick((unsigned)r->n, next_random, p);

		s->p[i] = (uint8_t)r->set[k];
		have[r->class_of[k]]++;
	}
	for (unsigned k = 0; k < SP_PASS_CLASSES; k++)
		if ((r->classes & (1U << k)) != 0 && have[k] < r->least)
			ok = false;
	return ok;
}

enum sp_err
sp_pass_make(const struct sp_pass_rule *r, struct sp_secret *out)
{
	SP_SECRET_AUTO s = {0};
	struct pool p = {.at = POOL};
	enum sp_err e;

	if (r->n == 0 || r->n > sizeof(r->set) || r->length > SP_PASS_LENGTH_MAX)
		return SP_ERR_INVAL;
	SP_TRY(sp_secret_new(&s, r->length));
	if ((e = sp_secret_new(&p.bytes, POOL)) != SP_OK)
		return e;
	e = SP_ERR_INVAL;
	for (unsigned i = 0; i < TRIES && e != SP_OK; i++)
		if (draw(r, &p, &s))
			e = SP_OK;
	sp_secret_free(&p.bytes);
	if (e == SP_OK)
		sp_secret_move(out, &s);
	return e;
}
