/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_KEYS_H
#define SP_BROKER_KEYS_H

#include "bastion/broker/broker.h"
#include "common/keysrule.h"

/*
 * Asking to see what was typed in a session, where keys_approvals of
 * sallyport.conf wants others to sign for it (doc/watching.md). What is kept here
 * is for people; the vault counts the signatures itself, against a rule that it
 * has from sallyportd. It lives as long as the broker: who loses it asks again.
 */
#define SP_KEYS_ASKS_MAX 64
#define SP_KEYS_SIGNATURES_MAX 24576

struct sp_keys_ask {
	struct sp_keys_ask *next;
	uint64_t number;
	uint8_t id[16], session[16], person[16];
	char name[64], account[64], target[64];
	char reason[1025];
	struct sp_buf rule, challenge;	/* challenge empty: it is being made */
	struct sp_buf approvals;	/* each as bytes */
	size_t n;
	char by[8][33];			/* who signed */
	int64_t until_us;		/* wall clock */
};

/* Does the configuration ask others before what was typed is opened? */
bool sp_keys_needs(const struct sp_broker *b);
/* Who opens what is recorded here, for people. */
void sp_recordings_text(const struct sp_broker *b, char *dst, size_t cap);
/* Nobody on this bastion can look at a screen that it records. */
bool sp_recordings_are_strict(const struct sp_broker *b);
/* NULL: too many wait, or the configuration is broken (bad). */
struct sp_keys_ask *sp_keys_new(struct sp_broker *b, const struct sp_actor *who,
    const uint8_t session[static 16], char *bad, size_t cap);
void sp_keys_drop(struct sp_keys_ask *k);
struct sp_keys_ask *sp_keys_find(uint64_t number); /* NULL: not (any more) */
/* The same, also while its text is being made. */
struct sp_keys_ask *sp_keys_numbered(uint64_t number);
const struct sp_keys_ask *sp_keys_first(void);
/* The one that this person may use for this session now; NULL: none is signed
 * by enough people. */
const struct sp_keys_ask *sp_keys_approved(const struct sp_broker *b,
    const struct sp_actor *who, const uint8_t session[static 16]);

#endif
