/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_FLOW_H
#define SP_BROKER_FLOW_H

#include <json-c/json.h>

#include "bastion/broker/broker.h"
#include "bastion/broker/store.h"

/* Small things that logins, approvals and sessions share. */

/* The detail of an audit event. Text that is not UTF-8 is encoded visibly;
 * NULL or "" is left out. */
struct json_object *sp_detail(void);
void sp_detail_str(struct json_object *d, const char *key, const char *v);
void sp_detail_span(struct json_object *d, const char *key, struct sp_span v);
void sp_detail_i64(struct json_object *d, const char *key, int64_t v);
/* Encoded rules, as text. */
void sp_detail_rules(struct json_object *d, const char *key,
    struct sp_span rules);
void sp_detail_hex(struct json_object *d, const char *key, const uint8_t *p,
    size_t n);
void sp_detail_uuid(struct json_object *d, const char *key,
    const uint8_t u[static 16]);
/* Both take d (NULL: no detail). */
void sp_flow_audit(struct sp_broker *b, const char *event, const char *actor,
    const uint8_t *session, struct json_object *d);
void sp_flow_change_audit(struct sp_change *c, const char *event,
    const char *actor, const uint8_t *session, struct json_object *d);

/* All columns of a row by name: unset ones are NULL. */
#define SP_VALS_MAX 24
struct sp_vals {
	enum sp_table t;
	const char *v[SP_VALS_MAX];
};
void sp_vals_init(struct sp_vals *v, enum sp_table t);
void sp_vals_set(struct sp_vals *v, const char *col, const char *text);
/* Every column as it stands in that row: the start of an update. */
void sp_vals_from(struct sp_vals *v, enum sp_table t, const struct sp_rows *r,
    size_t row);

#define SP_NUM_TEXT 24
const char *sp_i64_text(char t[static SP_NUM_TEXT], int64_t v);
/* "t" and true are the same to us whatever column a table chose. */
bool sp_rows_bool(const struct sp_rows *r, size_t row, const char *col);
/* bytes as "\x..." for a bytea parameter; free() it, NULL: no memory */
char *sp_bytea_param(struct sp_span s);
/* "{a,b}" of uuids for = ANY($1::uuid[]); free() it, NULL: no memory */
char *sp_uuid_array(const uint8_t (*ids)[16], size_t n);

/* "Fri 17:05:09 CEST", with the date when it is not today. */
#define SP_LOCAL_TEXT 64
void sp_local_text(char t[static SP_LOCAL_TEXT], int64_t us);
/* A copy without blanks at both ends; SP_ERR_INVAL for an empty or overlong
 * one, broken UTF-8 or control characters. */
SP_MUST enum sp_err sp_text_trim(char *dst, size_t cap, struct sp_span s);
/* What an error of the store or the vault means to a person. */
const char *sp_flow_why(enum sp_err e);

#endif
