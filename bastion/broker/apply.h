/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_APPLY_H
#define SP_BROKER_APPLY_H

#include <json-c/json.h>

#include "bastion/broker/store.h"
#include "bastion/broker/verb_int.h"
#include "bastion/broker/where.h"
#include "common/kinds.h"

/*
 * `inventory`: what should be there, as JSON that the CLI made of the file,
 * against what is there. Every field is checked here again, whoever sent it.
 * The rows of the call:
 */
enum { AP_PEOPLE, AP_MEMBERSHIPS, AP_KEYS, AP_TARGETS, AP_ACCOUNTS, AP_SECRETS,
	AP_POLICIES, AP_ROTATIONS, AP_ROWS };

#define AP_OPS_MAX 400		/* rows of one transaction */
#define AP_AUDIT_BYTES 150000	/* of its events */
#define AP_NAMES_MAX 20000
#define AP_ERRORS_MAX 50

struct sp_apply {
	struct sp_call *c;
	json_object *in;
	json_object *users, *targets;	/* of in; NULL: not named */
	bool prune;
	struct sp_change *ch;
	size_t n_ops, n_now;		/* rows; changes that go into ch */
	size_t bytes;			/* of the events of these */
	bool is_full;			/* what follows is for the next time */
	json_object *changes, *errors, *secrets, *notes;
	json_object *lines;		/* of the change that is being made */
	json_object *person_at, *target_at, *account_at; /* name: row */
	json_object *key_at;		/* blob: row */
	json_object *groups_of, *keys_of;	/* person's id: rows */
	json_object *fresh;		/* "t" or "a@t": id that it will have */
	json_object *done;		/* targets that were walked already */
	json_object *off;		/* ids of people who are shut out */
	uint8_t protocol;		/* of the target that is walked */
};

/* Each says what is wrong in a->errors: a path into the input, and words. */
void ap_error(struct sp_apply *a, const char *path, const char *fmt, ...)
    SP_PRINTF(3, 4);
/* A line of the change: mark is + - or ~. */
void ap_line(struct sp_apply *a, char mark, const char *fmt, ...) SP_PRINTF(3, 4);
/* Ends a change: it is in the plan when it has lines. true: its rows go into
 * a->ch now. Call it before they are put there. */
bool ap_change(struct sp_apply *a, const char *object, const char *name,
    const char *action);
void ap_note(struct sp_apply *a, const char *fmt, ...) SP_PRINTF(2, 3);

/* A text of at most max bytes; NULL with an error when it is none. */
const char *ap_text(struct sp_apply *a, json_object *v, size_t max,
    const char *path);
/* "t", "f"; NULL: not named, or an error. */
const char *ap_bool(struct sp_apply *a, json_object *o, const char *key,
    const char *path);
/* NULL without one; an error when it is no array, or a longer one. */
json_object *ap_list(struct sp_apply *a, json_object *o, const char *key,
    size_t max, const char *path);
bool ap_has(json_object *list, const char *text);
/* The row with that name, SIZE_MAX: none. */
size_t ap_at(json_object *index, const char *name);

void ap_people(struct sp_apply *a);
void ap_targets(struct sp_apply *a);
/* apply_accounts.c: those of a target, whose row is SIZE_MAX for a new one. */
void ap_accounts(struct sp_apply *a, const char *target, const char *id,
    json_object *accounts);
/* apply_rotation.c: how an account is rotated, and what its release rule should
 * be. was: its row in AP_ACCOUNTS, SIZE_MAX for a new one. */
struct sp_vals;
struct ap_rotation {
	bool has_rotate, has_rule;
	const char *rotate, *rule;	/* NULL: never, none */
};
void ap_rotation(struct sp_apply *a, json_object *o, const struct sp_kind *k,
    size_t was, const char *where, const char *path, struct ap_rotation *r);
void ap_rotation_put(struct sp_apply *a, const struct ap_rotation *r,
    const char *account, struct sp_vals *v);
void ap_rotation_export(struct sp_call *c, json_object *o,
    const struct sp_kind *k, size_t i);
/* The account that sets another's password there, after all accounts. changed: the
 * target's row is written in this transaction already. */
void ap_reconcile(struct sp_apply *a, json_object *o, const char *target,
    size_t row, bool changed, const char *path);
/* apply_sql.c, of databases. Each puts the settings that the row will have into
 * dst, which is empty; true: the input named some of them. was: "" for none. */
#define AP_SQL_TEXT 1024
bool ap_sql_target(struct sp_apply *a, json_object *o, const char *was,
    char dst[static AP_SQL_TEXT], const char *path);
bool ap_sql_account(struct sp_apply *a, json_object *o, const char *was,
    char dst[static AP_SQL_TEXT], const char *path);
/* The target's protocol, NULL: SSH. was: of the row. */
const char *ap_sql_protocol(struct sp_apply *a, json_object *o, const char *was,
    bool is_new, const char *path);
void ap_sql_export_target(json_object *o, const struct sp_rows *r, size_t i);
void ap_sql_export_account(json_object *o, const char *sql);
void ap_policy(struct sp_apply *a);
/* The inventory as it is, in the form that is applied. */
json_object *ap_export(struct sp_call *c);

#endif
