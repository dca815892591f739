/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_KINDS_H
#define SP_COMMON_KINDS_H

#include <stdbool.h>

#include "common/ipc_messages.h"

/*
 * The kinds of credentials, in one place. A row here says what everybody needs
 * to know of a kind; vault/kind_<token>.c holds what only the vault does with it
 * (struct sp_kind_ops). The next kind is one row, one number in enum
 * sp_cred_kind, and that file.
 */
enum sp_kind_gives {		/* what a lease of it gives to the egress */
	SP_GIVES_NOTHING = 0,	/* it is never leased: the vault checks it */
	SP_GIVES_AGENT = 1,	/* one identity, one signature (PROTOCOL.agent) */
	SP_GIVES_PASSWORD = 2,	/* a sealed memfd */
	SP_GIVES_PROOF = 3,	/* an answer to the target's own challenge */
};
#define SP_KIND_ACCOUNT 0x01u	/* an account may log in with it */
#define SP_KIND_STORED 0x02u	/* a sealed row; else made for each session */
#define SP_KIND_MADE 0x04u	/* the vault may make a new one (--generate) */
#define SP_KIND_ROTATES 0x08u	/* may be replaced at the target */
#define SP_KIND_FILE 0x10u	/* handed in as a file of several lines */

/* token, number, name (of --kind and in JSON), gives, flags, in words */
#define SP_KINDS(K)                                                           \
	K(cert, SP_CRED_SSH_CERT, "cert", SP_GIVES_AGENT, SP_KIND_ACCOUNT,    \
	    "an SSH certificate, made by the vault for each session")         \
	K(key, SP_CRED_SSH_KEY, "key", SP_GIVES_AGENT, SP_KIND_ACCOUNT |      \
	    SP_KIND_STORED | SP_KIND_MADE | SP_KIND_ROTATES | SP_KIND_FILE,   \
	    "an SSH private key")                                             \
	K(password, SP_CRED_SSH_PASSWORD, "password", SP_GIVES_PASSWORD,      \
	    SP_KIND_ACCOUNT | SP_KIND_STORED | SP_KIND_ROTATES,               \
	    "a password")                                                     \
	K(postgresql, SP_CRED_PG_SCRAM, "postgresql", SP_GIVES_PROOF,         \
	    SP_KIND_ACCOUNT | SP_KIND_STORED | SP_KIND_MADE,                  \
	    "a PostgreSQL password, kept as its SCRAM keys alone")            \
	K(pg_role, SP_CRED_PG_ROLE, "pg-role", SP_GIVES_PROOF,                \
	    SP_KIND_ACCOUNT, "a PostgreSQL role, made for each session")      \
	K(mariadb, SP_CRED_MARIADB, "mariadb", SP_GIVES_PROOF,                \
	    SP_KIND_ACCOUNT | SP_KIND_STORED | SP_KIND_MADE,                  \
	    "a MariaDB password, kept as its key alone")                      \
	K(totp, SP_CRED_TOTP_SEED, "totp", SP_GIVES_NOTHING, SP_KIND_STORED,  \
	    "a person's seed of one-time codes")

struct sp_kind {
	uint8_t number;		/* enum sp_cred_kind */
	const char *name, *words;
	enum sp_kind_gives gives;
	unsigned flags;
};

/* NULL: there is no such kind. */
const struct sp_kind *sp_kind_find(int64_t number);
const struct sp_kind *sp_kind_named(const char *name);
/* A kind of this number that has all of these flags? */
bool sp_kind_is(int64_t number, unsigned flags);
/* "?" for one that there is not. */
const char *sp_kind_name(int64_t number);
/* Those with all of these flags, in the table's order; NULL after the last. */
const struct sp_kind *sp_kind_nth(unsigned flags, size_t i);

#endif
