/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_RELEASE_H
#define SP_VAULT_RELEASE_H

#include "common/ipc.h"
#include "common/release.h"
#include "vault/root.h"

/*
 * Release rules (common/release.h), as the vault keeps them:
 *
 *   - The digest of a secret's rule is additional data of its seal: with
 *     another rule, or none, the secret does not open.
 *   - Which rule is the last of a secret stands in the file `releases` of the
 *     vault's own directory, a record a change, each signed by the audit key:
 *     secret[16] digest[32] count signature[64]. A secret and rule of yesterday,
 *     which were good then, do not open any more. digest 0: no rule any more.
 *   - Approvals are SSHSIGs (sshsig.h) over a text that only the vault makes
 *     (sp_challenge_make): it has a nonce and is known again by its mac.
 *
 * What it remembers of challenges that were used (from when their window
 * counts) lives as long as the process; the end that the text names holds
 * beyond that.
 */
#define SP_RELEASES_FILE "releases"
#define SP_RELEASES_MAX 4096

struct sp_releases;
struct sp_releases *sp_releases_new(void);
void sp_releases_free(struct sp_releases *t);
/* Reads the file and keeps it open for writing; before the sandbox. */
void sp_releases_load(struct sp_releases *t, int dirfd);
/* After an unseal: checks the records. On an error every account's secret stays
 * closed, and no rule can be set: which rules there were is not known. */
SP_MUST enum sp_err sp_releases_open(struct sp_releases *t,
    const struct sp_root *r);

/* 32 bytes of BLAKE2b; all zero for no rule. */
void sp_rule_digest(struct sp_span rule, uint8_t digest[static 32]);
/* Is that the last rule of this secret? true where nothing is known of it. */
bool sp_releases_is_last(const struct sp_releases *t,
    const uint8_t secret[static 16], const uint8_t digest[static 32]);
/* The last rule of this secret; false: nothing is known of it. */
bool sp_releases_last(const struct sp_releases *t,
    const uint8_t secret[static 16], uint8_t digest[static 32]);
/* Writes the new last rule down, durably. SP_ERR_IO, SP_ERR_FULL. */
SP_MUST enum sp_err sp_releases_set(struct sp_releases *t,
    const struct sp_root *r, const uint8_t secret[static 16],
    const uint8_t digest[static 32]);

/* The text to sign for a request, as bytes. text says why not. */
SP_MUST enum sp_err sp_challenge_make(const struct sp_root *r,
    const struct sp_msg_v_challenge *m, int64_t now_us, struct sp_buf *out,
    char text[static 256]);
/* One approval: whose it is. */
struct sp_approval {
	uint8_t person[16];
	char name[SP_NAME_MAX + 1], key[64];	/* SHA256:... */
};
SP_MUST enum sp_err sp_approval_check(const struct sp_root *r,
    struct sp_span rule, struct sp_span challenge, struct sp_span signature,
    struct sp_approval *out, char text[static 256]);

/* What is to be released, as the vault knows it by the message. */
struct sp_release_wish {
	uint8_t kind;		/* enum sp_challenge_kind */
	const uint8_t *secret, *target;	/* 16 bytes */
	const uint8_t *request;	/* or NULL: whatever was signed */
	struct sp_span account, target_name;
	struct sp_span rule, challenge, approvals;
	int64_t not_after;	/* 0: now */
	unsigned least;		/* people, whatever the rule says */
};
/* SP_OK: the rule is fulfilled for exactly that, now. by: who signed. */
SP_MUST enum sp_err sp_release_check(const struct sp_root *r,
    const struct sp_release_wish *w, int64_t now_us, char by[static 256],
    char text[static 256]);

#endif
