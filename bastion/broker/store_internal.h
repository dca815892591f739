/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_STORE_INTERNAL_H
#define SP_BROKER_STORE_INTERNAL_H

/* Shared by the files of the store only: store.c registry.c rows.c
 * change.c commit.c event.c audit.c audit_sign.c audit_verify.c follow.c. */
#include <sys/queue.h>

#include "bastion/broker/db.h"
#include "bastion/broker/heads.h"
#include "bastion/broker/store.h"
#include "bastion/broker/vault.h"

/* ------------------------------------------------------------------- rows */
enum sp_col_kind { SP_K_TEXT, SP_K_UUID, SP_K_BOOL, SP_K_INT, SP_K_BYTES };
struct sp_col {
	enum sp_col_kind kind;
	bool may_change;	/* the broker's role may update it */
	bool is_later;		/* not in seals where it is NULL */
};
extern const struct sp_col *const sp_table_cols[SP_T_COUNT_];
#define SP_CANON_MAX 61440

struct sp_rows {
	unsigned refs;
	PGresult *res;
	size_t *map;		/* row -> row of res */
	size_t n, n_broken;
	struct sp_broken *broken;	/* n_kept of them */
	size_t n_kept;
};
struct sp_rows *sp_rows_new(PGresult *res); /* takes it; all rows */
/* The column that says whose a row is, in tables where one that is missing
 * would be to somebody's gain; -1: none. */
int sp_table_owner(enum sp_table t);
/* values in the registry's order */
SP_MUST enum sp_err sp_canon(struct sp_buf *b, enum sp_table t,
    const char *const *values);
/* Is it written the way PostgreSQL prints that kind? What is not would never
 * verify again. */
bool sp_is_canonical(enum sp_col_kind kind, const char *value);
/* Text forms of bytes: "\x" and hex; out needs 2 * n + 3. */
void sp_bytea_text(char *out, const uint8_t *p, size_t n);
SP_MUST enum sp_err sp_bytea_parse(const char *text, uint8_t *out, size_t n);


/* Questions asked ahead (store.h). True: it is one of them, its answer comes to
 * cb, from the loop. The result is cb's. */
typedef void (*sp_ahead_cb)(void *arg, enum sp_err e, PGresult *res);
bool sp_ahead_take(struct sp_store *s, const char *sql,
    const char *const *params, size_t n, sp_ahead_cb cb, void *arg);
/* What was read before this counts no more: something is being changed. */
void sp_ahead_forget(struct sp_store *s);
void sp_ahead_fini(struct sp_store *s);
LIST_HEAD(sp_aheads, sp_ahead);

#define SP_MEMO_ROWS 4096
struct sp_memo {
	uint8_t seen[SP_MEMO_ROWS][32];
	int64_t proved_us;	/* boot clock: the vault verified a row */
};
/* Whether the vault has just verified this very row; key is what to add. */
bool sp_memo_has(struct sp_store *s, struct sp_span question,
    uint8_t key[static 32]);
void sp_memo_add(struct sp_store *s, const uint8_t key[static 32]);

/* ------------------------------------------------------------------ audit */
struct sp_event {
	char *event, *actor, *detail;	/* detail may be NULL */
	char *rows;	/* versions of the sealed rows it is about, or NULL */
	bool has_session;
	uint8_t session[16];
	int64_t at_us;
};
void sp_event_init(struct sp_event *ev, const char *event, const char *actor,
    const uint8_t *session, const char *detail);
void sp_event_fini(struct sp_event *ev);
/* hash = SHA-256(prev, canonical event); see audit.c. */
void sp_event_hash(uint8_t hash[static 32], const uint8_t prev[static 32],
    const char *node, uint64_t seq, const struct sp_event *ev);

#define SP_EVENTS_MAX 8		/* of one change */
/* What takes its place in the chain: an event, or a change with its events. */
struct sp_link_item {
	TAILQ_ENTRY(sp_link_item) link;
	struct sp_event ev[SP_EVENTS_MAX];
	size_t n_ev;
	struct sp_change *c;	/* NULL: an event alone */
	sp_done_cb cb;		/* of an event alone */
	void *arg;
	unsigned tries;
	bool is_reserved;	/* it is in the reserve as well */
	bool was_doubted;	/* see is_doubtful */
};
TAILQ_HEAD(sp_link_items, sp_link_item);

enum sp_chain_state {
	SP_CHAIN_UNKNOWN,	/* the head must be read first */
	SP_CHAIN_READING,
	SP_CHAIN_IDLE,
	SP_CHAIN_BUSY,		/* a group is being committed */
};
struct sp_chain {
	enum sp_chain_state state;
	bool was_read;		/* once at least */
	bool is_refused;	/* the database takes no event now */
	uint64_t seq, next_seq, signed_seq;
	uint8_t hash[32], next_hash[32];
	struct sp_link_items queue, group;
	size_t n_queue, n_alone; /* items to be committed one by one */
	struct event *ev_retry, *ev_sign, *ev_soon;
};
void sp_chain_turn(struct sp_store *s);
/* An event alone, to be put into the chain's queue. */
struct sp_link_item *sp_audit_item(struct sp_store *s, const char *event,
    const char *actor, const uint8_t *session, const char *detail);
void sp_audit_put(struct sp_store *s, struct sp_link_item *it);
void sp_chain_fini(struct sp_store *s);
void sp_chain_up(struct sp_store *s);
void sp_chain_down(struct sp_store *s);
/* The change's events and statements, in one transaction, in their turn. Ends
 * with sp_change_done. */
void sp_chain_push(struct sp_store *s, struct sp_change *c);
/* The caller has given the change up: it is not sent (again). */
void sp_chain_abandon(struct sp_store *s, struct sp_change *c);

/* ----------------------------------------------------------------- change */
struct sp_op;
struct sp_change {
	struct sp_store *s;
	struct sp_op *ops;
	size_t n_ops, cap_ops, n_sealing;
	struct sp_link_item *item;	/* its events; NULL without */
	enum sp_err bad;		/* wrong before it was sent */
	sp_done_cb cb;
	void *arg;
	bool is_told;			/* the callback was called */
	unsigned tries;
	enum sp_err first;		/* why it was tried again */
	struct event *ev_give_up;
	LIST_ENTRY(sp_change) link;	/* store's list of those without events
					 * that wait for a new connection */
	bool is_waiting;
};
LIST_HEAD(sp_changes, sp_change);
void sp_change_statements(const struct sp_change *c, struct sp_db_job *j);
/* Tells the caller unless that was done, and frees. */
void sp_change_done(struct sp_change *c, enum sp_err e);
void sp_change_free(struct sp_change *c);
/* Seals are there: sends it. */
void sp_commit_begin(struct sp_change *c);
void sp_commit_up(struct sp_store *s);

struct sp_op {
	enum { SP_OP_INSERT, SP_OP_UPDATE, SP_OP_DELETE, SP_OP_GONE,
	    SP_OP_SQL } kind;
	enum sp_table t;
	uint8_t id[16];
	uint64_t ver;			/* that it is at now; 0 for an insert */
	uint64_t was;			/* the same, as the table has it */
	char **values;			/* of the row, or parameters */
	size_t n;
	char *sql;
	uint64_t must;
	uint8_t seal[32];
	struct sp_change *c;
};

/* ---------------------------------------------------------------- reserve */
struct sp_reserve;
void sp_reserve_init(struct sp_store *s);
void sp_reserve_fini(struct sp_store *s);
/* The database does not take this event now. */
void sp_reserve_keep(struct sp_store *s, struct sp_link_item *it);
void sp_reserve_done(struct sp_store *s, struct sp_link_item *it);
size_t sp_reserve_waiting(const struct sp_store *s);

/* ------------------------------------------------------------------ heads */
struct sp_heads_walk;
void sp_heads_init(struct sp_store *s);
void sp_heads_fini(struct sp_store *s);
void sp_heads_up(struct sp_store *s);	/* a new connection */
/* Reads on in all chains, then calls cb from the loop. */
void sp_heads_catch_up(struct sp_store *s, sp_done_cb cb, void *arg);
/* Our chain went from `before` to seq. */
void sp_heads_committed(struct sp_store *s, uint64_t before, uint64_t seq,
    const uint8_t hash[static 32]);
/* What the change does to sealed rows, as JSON; NULL: nothing. Malloced. */
char *sp_heads_text(const struct sp_change *c);
bool sp_heads_enter(struct sp_heads *h, const char *rows);
void sp_rows_unpark(struct sp_store *s);	/* loads that waited for the heads */
void sp_rows_park_fail(struct sp_store *s, enum sp_err e);

/* ------------------------------------------------------------------ store */
#define SP_ALARMS 256
struct sp_alarm {
	enum sp_table t;
	enum sp_head_verdict verdict;
	char id[SP_UUID_TEXT];
	int64_t at_us;
};
struct sp_follower {
	LIST_ENTRY(sp_follower) link;
	sp_rows_cb cb;
	void *arg;
	bool dead;
};
LIST_HEAD(sp_followers, sp_follower);
#define SP_NODES_MAX 64
struct sp_seen {
	char node[65];
	uint64_t seq, told;	/* read up to, told of by NOTIFY */
};

LIST_HEAD(sp_loads, sp_load);

struct sp_store {
	struct sp_memo memo;
	struct sp_aheads aheads;
	uint64_t n_changes;		/* seen or made; see ahead.c */
	struct sp_broker *b;
	struct sp_heads *heads;
	struct sp_reserve *reserve;
	struct sp_heads_walk *heads_walk;
	bool heads_ready;
	struct sp_loads parked;
	struct sp_db *db, *listen;
	struct sp_chain chain;
	struct sp_changes waiting;
	void (*on_change)(void *arg);
	void *on_change_arg;
	struct event *ev_change, *ev_tick;
	struct sp_alarm alarms[SP_ALARMS];
	size_t next_alarm;
	struct sp_followers followers;
	struct sp_seen seen[SP_NODES_MAX];
	size_t n_seen;
	bool is_fetching, in_followers;
	bool is_following;	/* the server knows that somebody follows */
};
void sp_store_free(struct sp_store *s);	/* tests only: no callbacks */
/* Calls cb from the loop. */
void sp_later(struct sp_store *s, sp_done_cb cb, void *arg, enum sp_err e);
/* v SP_HEAD_GOOD: the seal itself is broken. */
void sp_row_alarm(struct sp_store *s, enum sp_table t, const char *id,
    const char *ver, enum sp_head_verdict v);
void sp_follow_told(struct sp_store *s, const char *payload);
void sp_follow_listening(struct sp_store *s);
void sp_follow_up(struct sp_store *s);
void sp_follow_fini(struct sp_store *s);

#endif
