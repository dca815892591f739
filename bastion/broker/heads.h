/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_HEADS_H
#define SP_BROKER_HEADS_H

#include "bastion/broker/store.h"

/*
 * Version heads: of every sealed row the newest version and its seal, as the
 * audit chain says them. Each change of a sealed row stands in the event of its
 * transaction (column `rows` of the audit, part of the event's hash); here is
 * the index over them, in memory and in a file of our own that no database
 * administrator reaches (D/broker/heads). The file also keeps how far each
 * node's chain was read and its hash there: a database that was rolled back as
 * a whole, its audit with it, has another one. A file that is missing or does
 * not check out is made anew from the chain.
 */
enum sp_head_verdict {
	SP_HEAD_GOOD,
	SP_HEAD_OLD,		/* the chain has a newer version */
	SP_HEAD_OTHER,		/* this version was sealed with other content */
	SP_HEAD_GONE,		/* it was deleted */
	SP_HEAD_AHEAD,		/* the chain does not know it (yet) */
	SP_HEAD_MISSING,	/* the chain has it, the table has not */
};
const char *sp_head_words(enum sp_head_verdict v);

struct sp_head {
	uint8_t id[16], owner[8], seal[16];	/* beginnings of both */
	uint64_t ver;
	uint8_t t;		/* enum sp_table */
	bool is_gone;
	uint32_t next_owned;	/* index + 1 of the next of that owner */
};
struct sp_heads;

/* fd: the file, opened for reading and writing, or -1; it is taken. */
struct sp_heads *sp_heads_new(int fd);
void sp_heads_free(struct sp_heads *h);

/* A newer version replaces an older one; what is not newer changes nothing.
 * owner may be NULL. is_gone: a tombstone. */
void sp_heads_put(struct sp_heads *h, enum sp_table t, const uint8_t id[static 16],
    uint64_t ver, const uint8_t *seal, const uint8_t *owner, bool is_gone);
enum sp_head_verdict sp_heads_judge(const struct sp_heads *h, enum sp_table t,
    const uint8_t id[static 16], uint64_t ver, const uint8_t seal[static 32]);
const struct sp_head *sp_heads_find(const struct sp_heads *h, enum sp_table t,
    const uint8_t id[static 16]);
/* Rows that are not tombstones: of the table, or of one owner in it. Calls cb
 * for each, if there is one. */
size_t sp_heads_each(const struct sp_heads *h, enum sp_table t,
    const uint8_t *owner, void (*cb)(void *arg, const struct sp_head *x),
    void *arg);
/* The policy that was entered last; NULL: none. */
const struct sp_head *sp_heads_policy(const struct sp_heads *h);

/* How far a node's chain was read. */
#define SP_HEADS_NODES 32
struct sp_heads_node {
	char name[65];
	bool is_lost;		/* does not go on where it was */
	uint64_t seq;
	uint8_t hash[32];
};
/* NULL: there are too many nodes. */
struct sp_heads_node *sp_heads_node(struct sp_heads *h, const char *name);
/* Says to the file that all before this is in it. */
void sp_heads_save(struct sp_heads *h);
/* The chain says from when on it carries versions; rows of before were entered
 * into it then. */
bool sp_heads_has_begun(const struct sp_heads *h);
void sp_heads_begin(struct sp_heads *h);
bool sp_heads_was_cold(const struct sp_heads *h); /* there was no good file */

#endif
