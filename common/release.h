/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_RELEASE_H
#define SP_COMMON_RELEASE_H

#include <stdbool.h>

#include "common/buf.h"
#include "common/text.h"

/*
 * Release rules: a secret's own rule says whose signatures the vault wants to
 * see before it gives the secret to a session or shows it. It is made by an
 * administrator on the host, over the vault's own socket, and its digest is
 * additional data of the secret's seal: neither the broker nor the database can
 * change it, leave it out or put an older one in its place (vault/release.h).
 *
 * Rule and challenge are bytes here, little-endian, in one form each: what does
 * not decode to itself is refused. Nothing in this file decides anything.
 */
#define SP_APPROVE_NAMESPACE "approve@sallyport"
#define SP_RULE_MAX 8192
#define SP_RULE_KEYS_MAX 32
#define SP_RULE_KEY_MAX 2048
#define SP_RULE_SECONDS_MAX (24 * 3600)

struct sp_rule_key {
	uint8_t person[16];
	char name[SP_NAME_MAX + 1];
	struct sp_span key;	/* SSH public key blob, borrowed */
};
/* u8 format = 1, u64 version, secret[16], u8 need, u8 touch, i64 max_seconds,
 * i64 made_us, str group, u8 n keys: each person[16], str name, bytes key. */
struct sp_rule {
	uint64_t version;	/* counts the rules of this secret, from 1 */
	uint8_t secret[16];
	uint8_t need;		/* different people who sign */
	bool touch;		/* by security keys that were touched */
	int64_t max_seconds;	/* the longest window */
	int64_t made_us;
	char group[SP_NAME_MAX + 1]; /* that decides on such requests */
	size_t n;
	struct sp_rule_key key[SP_RULE_KEYS_MAX];
};
/* SP_ERR_INVAL: a rule that nobody could fulfil (fewer people than it needs),
 * the same key twice, a name that is no name, a number out of bounds. */
SP_MUST enum sp_err sp_rule_check(const struct sp_rule *r);
SP_MUST enum sp_err sp_rule_encode(struct sp_buf *b, const struct sp_rule *r);
/* Checks as well. Spans in it are borrowed from `bytes`. */
SP_MUST enum sp_err sp_rule_decode(struct sp_span bytes, struct sp_rule *r);
/* "2 of bob, dana, erin", "with a touched security key, " and so on. */
SP_MUST enum sp_err sp_rule_show(struct sp_buf *out, const struct sp_rule *r);

enum sp_challenge_kind {
	SP_CHALLENGE_SESSION = 1, SP_CHALLENGE_REVEAL = 2,
	SP_CHALLENGE_KEYS = 3,	/* what was typed in session `target`, as account@target */
};
#define SP_CHALLENGE_MAX 4096
#define SP_CHALLENGE_TEXT_MAX 8192
#define SP_CHALLENGE_OWN_MAX 8
/* u8 format = 1, u8 kind, request[16], u64 number, str person, str account,
 * str target, target id[16], secret[16], u64 rule version, rule digest[32],
 * str reason, i64 seconds, i64 made_us, i64 until_us, nonce[16], u8 n own keys:
 * each SHA-256[32]; then mac[32] of the vault over all before it. */
struct sp_challenge {
	uint8_t kind;
	uint8_t request[16];
	uint64_t number;
	char person[SP_NAME_MAX + 1], account[SP_NAME_MAX + 1];
	char target_name[SP_NAME_MAX + 1];
	uint8_t target[16], secret[16];
	uint64_t rule_version;
	uint8_t rule_digest[32];
	char reason[1025];
	int64_t seconds, made_us, until_us;
	uint8_t nonce[16];
	size_t n_own;		/* SHA-256 of the requester's own keys */
	uint8_t own[SP_CHALLENGE_OWN_MAX][32];
	uint8_t mac[32];
};
/* Everything before the mac. */
SP_MUST enum sp_err sp_challenge_body(struct sp_buf *b,
    const struct sp_challenge *c);
SP_MUST enum sp_err sp_challenge_decode(struct sp_span bytes,
    struct sp_challenge *c);
/* The text that is signed, for people. The same bytes for the same challenge
 * and rule on every machine; ends with a line end. */
SP_MUST enum sp_err sp_challenge_text(struct sp_buf *out,
    const struct sp_challenge *c, const struct sp_rule *r);

/* Takes the armour off what ssh-keygen -Y sign wrote: "-----BEGIN SSH
 * SIGNATURE-----", base64 in lines, "-----END SSH SIGNATURE-----"; blanks and
 * line ends around it, CR before LF. SP_ERR_SYNTAX: it is none. */
SP_MUST enum sp_err sp_sshsig_dearmor(struct sp_span text, struct sp_buf *out);

#endif
