/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_KINDS_H
#define SP_VAULT_KINDS_H

#include "common/kinds.h"
#include "vault/lease_int.h"

/*
 * What the vault does with a kind of credential: one struct in each
 * vault/kind_<token>.c, for the row of that token in SP_KINDS. A NULL is "this
 * kind has no such thing" and is answered by a refusal. Which of them a row must
 * have follows from its flags and from what it gives (tests/unit/test_kinds.c).
 */
struct sp_kind_ops {
	/* What a person hands in, checked and brought to the form that is kept.
	 * SP_ERR_DENIED: a passphrase is missing or wrong. */
	enum sp_err (*import)(struct sp_span given, struct sp_span pass,
	    struct sp_secret *kept);
	size_t given_max;	/* bytes */
	/* A new one, in the form that is kept (SP_KIND_MADE). */
	enum sp_err (*make)(struct sp_secret *kept);
	/* Is that which a row held one of these? Asked at the grant, before
	 * anybody has connected for it. NULL: whatever opens is. */
	enum sp_err (*check)(const struct sp_secret *kept);
	/* What the target must know of it: a public key's blob. */
	enum sp_err (*shown)(const struct sp_secret *kept, struct sp_buf *out);
	/* SP_GIVES_AGENT: fills l->key and l->blob; then signs with l->key. */
	enum sp_err (*identity)(struct sp_lease *l);
	enum sp_err (*sign)(struct sp_lease *l, struct sp_span data,
	    struct sp_buf *signature);
	/* SP_GIVES_PROOF: a message of this kind's own, from the egress. It
	 * checks l->state and the time by itself (sp_lease_not_now). */
	enum sp_err (*message)(struct sp_lease *l, struct sp_packet *p);
};

#define SP_KIND_DECLARE(token, number, name, gives, flags, words)             \
	extern const struct sp_kind_ops sp_kind_ops_##token;
SP_KINDS(SP_KIND_DECLARE)
#undef SP_KIND_DECLARE

/* NULL: there is no such kind. */
const struct sp_kind_ops *sp_kind_ops(uint8_t number);

/* import and make by number. SP_ERR_INVAL: not of this kind. */
SP_MUST enum sp_err sp_secret_import(uint8_t kind, struct sp_span given,
    struct sp_span pass, struct sp_secret *out);
SP_MUST enum sp_err sp_secret_make(uint8_t kind, struct sp_secret *out);
/* The public part; nothing where a kind has none. */
SP_MUST enum sp_err sp_secret_shown(uint8_t kind, const struct sp_secret *kept,
    struct sp_buf *out);

#endif
