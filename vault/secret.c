/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/secret.h"

#include <sodium.h>
#include <string.h>

#include "vault/poison.h"

#define GRAIN 64
#define GRAINS (SP_SECRET_ARENA / GRAIN)

static struct {
	uint8_t *p;
	bool locked;
	size_t next, in_use;	/* in grains */
	uint8_t used[GRAINS];
} arena;

enum sp_err
sp_secret_init(void)
{
	if (arena.p != NULL)
		return SP_OK;
	if (sodium_init() < 0)
		return SP_ERR_CRYPTO;
	if ((arena.p = sodium_malloc(SP_SECRET_ARENA)) == NULL)
		return SP_ERR_NOMEM;
	/* sodium_malloc() locks what it can and is silent when it cannot:
	 * asked again, the kernel says which it was. */
	arena.locked = sodium_mlock(arena.p, SP_SECRET_ARENA) == 0;
	sodium_memzero(arena.p, SP_SECRET_ARENA);
	return SP_OK;
}

bool
sp_secret_is_locked(void)
{
	return arena.locked;
}

static size_t
grains_of(size_t n)
{
	return (n + GRAIN - 1) / GRAIN;
}

/* The first run of `want` free grains in [from, to), or GRAINS. */
static size_t
find_run(size_t from, size_t to, size_t want)
{
	size_t run = 0;

	for (size_t i = from; i < to; i++) {
		run = arena.used[i] ? 0 : run + 1;
		if (run == want)
			return i + 1 - want;
	}
	return GRAINS;
}

enum sp_err
sp_secret_new(struct sp_secret *s, size_t n)
{
	size_t want = grains_of(n), at;

	SP_ASSERT(arena.p != NULL);
	sp_secret_free(s);
	if (n == 0 || n > SP_SECRET_MAX)
		return SP_ERR_TOOBIG;
	if ((at = find_run(arena.next, GRAINS, want)) == GRAINS &&
	    (at = find_run(0, GRAINS, want)) == GRAINS)
		return SP_ERR_FULL;
	memset(arena.used + at, 1, want);
	arena.next = at + want;
	arena.in_use += want;
	*s = (struct sp_secret){.p = arena.p + at * GRAIN, .n = n};
	sodium_memzero(s->p, want * GRAIN);
	return SP_OK;
}

enum sp_err
sp_secret_random(struct sp_secret *s, size_t n)
{
	SP_TRY(sp_secret_new(s, n));
	randombytes_buf(s->p, n);
	return SP_OK;
}

/* Gives back the grains of s beyond the first `keep` bytes. */
static void
release(struct sp_secret *s, size_t keep)
{
	size_t at, have = grains_of(s->n), stay = grains_of(keep);

	SP_ASSERT(s->p >= arena.p && s->p + s->n <= arena.p + SP_SECRET_ARENA);
	at = (size_t)(s->p - arena.p);
	SP_ASSERT(at % GRAIN == 0 && keep <= s->n);
	sodium_memzero(s->p + keep, have * GRAIN - keep);
	memset(arena.used + at / GRAIN + stay, 0, have - stay);
	arena.in_use -= have - stay;
}

void
sp_secret_free(struct sp_secret *s)
{
	if (s->p != NULL)
		release(s, 0);
	*s = (struct sp_secret){0};
}

void
sp_secret_cut(struct sp_secret *s, size_t n)
{
	SP_ASSERT(s->p != NULL && n > 0 && n <= s->n);
	release(s, n);
	s->n = n;
}

void
sp_secret_move(struct sp_secret *dst, struct sp_secret *src)
{
	sp_secret_free(dst);
	*dst = *src;
	*src = (struct sp_secret){0};
}

size_t
sp_secret_in_use(void)
{
	return arena.in_use * GRAIN;
}

struct sp_span
sp_secret_arena(void)
{
	return sp_span_of(arena.p, SP_SECRET_ARENA);
}
