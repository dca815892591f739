/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_SQLRUN_H
#define SP_BROKER_SQLRUN_H

#include "bastion/broker/session.h"

/*
 * Statements that the bastion itself runs at a database: in a session of its
 * own, through a recorder and an egress like any other, so that they stand in a
 * recording. The broker is the client on the user's side of it, without a
 * password: it speaks the few messages that this takes, and trusts no answer
 * further than its SQLSTATE.
 */
#define SP_SQLRUN_MAX 8			/* statements */
#define SP_SQLRUN_TEXT 2048		/* bytes of one */

struct sp_sqlrun {
	char database[64];
	char text[SP_SQLRUN_MAX][SP_SQLRUN_TEXT];
	/* This SQLSTATE of the statement means: nothing is left to do. "": none. */
	char done_by[SP_SQLRUN_MAX][6];
	size_t n;
	/* Instead of all that: what this connection of the server does is
	 * cancelled (its BackendKeyData), or killed (MariaDB's number of it); 0:
	 * nothing. */
	uint32_t cancel_pid, cancel_key;
};
/* "..." with every " doubled; '...' with every ' doubled (and no backslash:
 * standard_conforming_strings). SP_ERR_INVAL: a NUL, or nothing. */
SP_MUST enum sp_err sp_sql_put_name(struct sp_buf *b, const char *name);
SP_MUST enum sp_err sp_sql_put_text(struct sp_buf *b, const char *text);

/* ask: the account to log in as, of kind SP_CRED_PG_SCRAM; to kill,
 * SP_CRED_MARIADB. what: for the
 * recording and the audit. cb is called once; text: why not, in words. */
typedef void (*sp_sqlrun_cb)(void *arg, enum sp_err e, const char *text);
void sp_sqlrun_begin(struct sp_broker *b, const struct sp_ask *ask,
    const char *what, const struct sp_sqlrun *run, sp_sqlrun_cb cb, void *arg);

#endif
