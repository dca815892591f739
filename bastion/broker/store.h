/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_STORE_H
#define SP_BROKER_STORE_H

#include "bastion/broker/broker.h"

/*
 * The store: PostgreSQL seen as something that may lie. Every row of a sealed
 * table carries `ver` and `seal`, the vault's MAC over table, id, version and
 * the canonical bytes of its columns (each column in the registry's order as
 * u32 length and text; 0xffffffff for NULL). A row whose seal does not verify
 * is treated as absent: it is dropped here, logged, and an audit event
 * `row_seal_broken` is written (once a minute for the same row).
 *
 * Columns are text as PostgreSQL prints them under our pinned settings: uuid
 * lower-case, boolean t/f, bigint decimal, bytea \x hex. Times are bigint
 * microseconds, names end in _us.
 */
enum sp_table {
	SP_T_PEOPLE, SP_T_PERSON_KEYS, SP_T_MEMBERSHIPS, SP_T_TOTP,
	SP_T_TARGETS, SP_T_ACCOUNTS, SP_T_SECRETS, SP_T_POLICIES,
	SP_T_REQUESTS, SP_T_DECISIONS, SP_T_GRANTS, SP_T_ROTATIONS,
	SP_T_REVOKED,
	SP_T_KITS,
	SP_T_COUNT_
};
/* The registry: name and columns in canonical order (id, ver, seal are not in
 * the list: every sealed table has them). */
struct sp_table_def {
	const char *name;
	const char *const *cols;
	size_t n_cols;
};
extern const struct sp_table_def sp_tables[SP_T_COUNT_];

/* Rows that verified. Free with sp_rows_free. Values are NUL-terminated text,
 * NULL for NULL. */
struct sp_rows;
size_t sp_rows_n(const struct sp_rows *r);
const char *sp_rows_get(const struct sp_rows *r, size_t row, const char *col);
int64_t sp_rows_i64(const struct sp_rows *r, size_t row, const char *col); /* 0 for NULL */
bool sp_rows_uuid(const struct sp_rows *r, size_t row, const char *col,
    uint8_t u[static 16]);	/* false for NULL or not a uuid; u is zeroed */
uint64_t sp_rows_ver(const struct sp_rows *r, size_t row);
/* Of a row of `secrets`: the version that its seal has in its additional data. */
uint64_t sp_rows_secret_ver(const struct sp_rows *r, size_t row);
size_t sp_rows_n_broken(const struct sp_rows *r); /* dropped for their seal */
/* The i-th of them (the first thousand are kept); false past the end. */
struct sp_broken {
	char id[37], ver[24];
	unsigned verdict;	/* enum sp_head_verdict; SP_HEAD_GOOD: the seal */
};
bool sp_rows_broken(const struct sp_rows *r, size_t i, struct sp_broken *b);
/* bytea column to bytes; SP_ERR_NOTFOUND for NULL */
SP_MUST enum sp_err sp_rows_bytes(const struct sp_rows *r, size_t row,
    const char *col, struct sp_buf *out);
void sp_rows_free(struct sp_rows *r);
struct sp_rows *sp_rows_ref(struct sp_rows *r); /* keep after the callback */

typedef void (*sp_rows_cb)(void *arg, enum sp_err e, struct sp_rows *rows);
typedef void (*sp_done_cb)(void *arg, enum sp_err e);

/* Opens with libpq; connects in the background, again after a loss (host list
 * rotated by us, 2 s a host). SP_ERR_DB at once while there is no connection. */
struct sp_store *sp_store_new(struct sp_broker *b, const char *conninfo);
bool sp_store_is_up(const struct sp_store *s);

/* SELECT of a sealed table: `where` is our own SQL text after the table's
 * name, e.g. "WHERE name = $1 ORDER BY name"; parameters are text. The
 * callback is called once, from the loop; SP_ERR_DB, SP_ERR_TIMEOUT,
 * SP_ERR_SEALED give rows NULL. Rows are freed after the callback. */
void sp_store_load(struct sp_store *s, enum sp_table t, const char *where,
    const char *const *params, size_t n, sp_rows_cb cb, void *arg);
/* Loads that are about to follow one another: they go to the server in one
 * message, and sp_store_load of the very same text and parameters takes the
 * answer. That is what stood there when `go` was called: an answer older than
 * 50 ms, or than any change that we made or heard of, is not used. A guess that
 * was wrong costs its question, nothing else. */
struct sp_ahead *sp_ahead_new(struct sp_store *s);
void sp_ahead_add(struct sp_ahead *a, enum sp_table t, const char *where,
    const char *const *params, size_t n);
void sp_ahead_go(struct sp_ahead *a);	/* takes it */
/* The text of such a SELECT, with its NUL. */
SP_MUST enum sp_err sp_select_text(struct sp_buf *b, enum sp_table t,
    const char *where);
/* Any statement of ours on unsealed tables (sessions, audit, totp_spent,
 * sequences); rows have the statement's own columns. n_affected by
 * sp_rows_affected. */
void sp_store_query(struct sp_store *s, const char *sql,
    const char *const *params, size_t n, sp_rows_cb cb, void *arg);
uint64_t sp_rows_affected(const struct sp_rows *r);
/* A row of the audit (all of its columns): the bytes that its hash covers behind
 * the hash before it. SP_ERR_INVAL: it lacks something. */
SP_MUST enum sp_err sp_event_row_canon(struct sp_buf *b,
    const struct sp_rows *r, size_t i);

/* ---------------------------------------------------------------- writing
 * A change is one transaction: rows inserted or updated with fresh seals, plain
 * statements, and its audit event, or nothing of it. Everything handed in is
 * copied. Ids are made by us, so that a change whose reply was lost can be sent
 * again: an insert that finds its own id with the same seal counts as done. */
struct sp_change;
struct sp_change *sp_change_new(struct sp_store *s);
/* cols/values: every column of the table, in the registry's order. Columns that
 * came later are the last ones: say (const char *[SP_COLS_MAX]){...}, and those
 * that you do not name are NULL. */
#define SP_COLS_MAX 24
void sp_change_insert(struct sp_change *c, enum sp_table t,
    const uint8_t id[static 16], const char *const *values);
/* Only if the row is still at `ver`; else the change fails with SP_ERR_STATE. */
void sp_change_update(struct sp_change *c, enum sp_table t,
    const uint8_t id[static 16], uint64_t ver, const char *const *values);
/* Deletes a sealed row at that version. */
void sp_change_delete(struct sp_change *c, enum sp_table t,
    const uint8_t id[static 16], uint64_t ver);
/* For a person who decides about a row that does not verify: the row as it
 * stands at version `was` gets a seal above every version that there was; or it
 * is deleted (was 0: it is not there) and stays so. */
void sp_change_reseal(struct sp_change *c, enum sp_table t,
    const uint8_t id[static 16], uint64_t was, const char *const *values);
void sp_change_forget(struct sp_change *c, enum sp_table t,
    const uint8_t id[static 16], uint64_t was);
/* A plain statement; must_affect: SP_ERR_STATE unless that many rows (0: any). */
void sp_change_sql(struct sp_change *c, const char *sql,
    const char *const *params, size_t n, uint64_t must_affect);
/* The audit event of the change; detail is a JSON object text, or NULL. */
void sp_change_audit(struct sp_change *c, const char *event, const char *actor,
    const uint8_t *session, const char *detail_json);
/* SP_ERR_EXISTS for a unique violation, SP_ERR_DENIED for a check, foreign key
 * or trigger that refuses, SP_ERR_STATE, SP_ERR_DB, SP_ERR_TIMEOUT,
 * SP_ERR_SEALED. Frees the change. */
void sp_change_commit(struct sp_change *c, sp_done_cb cb, void *arg);
/* It was not meant: frees it instead. */
void sp_change_drop(struct sp_change *c);

/* ------------------------------------------------------------------ audit
 * One insert-only table, a chain for each node: hash = SHA-256 over the
 * previous hash and the canonical event. sp_audit queues the event (in order)
 * and retries while the database is away, up to 10,000; each is logged at once
 * as well. cb may be NULL. */
void sp_audit(struct sp_store *s, const char *event, const char *actor,
    const uint8_t *session, const char *detail_json, sp_done_cb cb, void *arg);
/* What waits goes now, before whatever is asked next: events that nobody waits
 * for are held for some milliseconds. */
void sp_audit_flush(struct sp_store *s);
/* The same as the next, within a second: one signature for many ends. */
void sp_audit_sign_soon(struct sp_store *s);
/* Has the vault sign the head now (also done every audit_sign_s). */
void sp_audit_sign(struct sp_store *s, sp_done_cb cb, void *arg);
/* Walks the chain of all nodes and checks hashes and signatures; says what is
 * wrong in words. progress is called now and then. */
void sp_audit_verify(struct sp_store *s,
    void (*progress)(void *arg, uint64_t done, uint64_t all),
    void (*result)(void *arg, enum sp_err e, const char *text), void *arg);
/* Calls cb for each new event of this and other nodes (LISTEN/NOTIFY); returns
 * a handle for sp_audit_unfollow. Columns as in the audit table. */
void *sp_audit_follow(struct sp_store *s, sp_rows_cb cb, void *arg);
void sp_audit_unfollow(struct sp_store *s, void *handle);
/* Called when another node, or psql, changed security-relevant rows (NOTIFY
 * sallyport_change), and every 30 s: what runs is judged again. */
void sp_store_on_change(struct sp_store *s, void (*cb)(void *arg), void *arg);

#endif
