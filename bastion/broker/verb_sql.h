/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_VERB_SQL_H
#define SP_BROKER_VERB_SQL_H

#include "bastion/broker/verb.h"

#define SP_SQL_PIN "tls-sha256"		/* in the place of a host key's algorithm */
#define SP_SQL_PIN_TEXT 72
struct sp_call;
struct sp_rows;
struct sp_sql_target {
	const char *protocol;	/* NULL: ssh, or not given */
	bool is_given;		/* sql replaces what there was */
	char sql[1024];
};

/* Each: what is wrong with the arguments, or NULL. */
const char *sp_sql_add_pin(const char *text, char *keys, size_t cap);
const char *sp_sql_target_args(struct sp_call *c, struct sp_sql_target *t);
const char *sp_sql_account_args(struct sp_call *c, uint8_t kind, char *sql,
    size_t cap);
/* May an account of this target be of this kind? false: the call has failed. */
bool sp_sql_kind_goes(struct sp_call *c, const struct sp_rows *target,
    uint8_t kind);
/* `target setup` of a database: says all of it and ends the call. */
void sp_sql_setup(struct sp_call *c, const struct sp_rows *target,
    const struct sp_rows *accounts);
/* A pin's line for people: "sha256:HEX"; NULL: it is none. */
const char *sp_sql_pin_text(struct sp_span line, char dst[static SP_SQL_PIN_TEXT]);

#endif
