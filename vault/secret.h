/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_SECRET_H
#define SP_VAULT_SECRET_H

#include <stdbool.h>

#include "common/buf.h"

/*
 * Secret bytes. They live in one arena of libsodium's guarded memory: locked,
 * kept out of dumps, between guard pages, allocated once at start so that no
 * later system call is needed. There is no printer and no copy: a secret is
 * made in place, moved, and wiped when freed. Sizes are rounded up to 64
 * bytes; a secret has at most SP_SECRET_MAX bytes.
 */
#define SP_SECRET_ARENA (1u << 20)
#define SP_SECRET_MAX 8192
#define SP_KEY_BYTES 32

struct sp_secret {
	uint8_t *p;	/* NULL when there is none */
	size_t n;
};

/* Initialises libsodium and the arena; a second call does nothing. */
SP_MUST enum sp_err sp_secret_init(void);
/* Did the kernel lock the arena (RLIMIT_MEMLOCK)? */
bool sp_secret_is_locked(void);
/* n zeroed bytes; what *s held is freed. SP_ERR_FULL when the arena is used up. */
SP_MUST enum sp_err sp_secret_new(struct sp_secret *s, size_t n);
SP_MUST enum sp_err sp_secret_random(struct sp_secret *s, size_t n);
/* Wipes; *s is empty afterwards. Nothing to do for an empty one. */
void sp_secret_free(struct sp_secret *s);
/* Frees *dst, gives it what src held, empties src. */
void sp_secret_move(struct sp_secret *dst, struct sp_secret *src);
/* Shortens: the bytes after n are wiped. */
void sp_secret_cut(struct sp_secret *s, size_t n);
#define SP_SECRET_AUTO __attribute__((cleanup(sp_secret_free))) struct sp_secret

/* For the test of sealing: bytes in use, and the whole arena to be scanned. */
size_t sp_secret_in_use(void);
struct sp_span sp_secret_arena(void);

#endif
