/* SPDX-License-Identifier: Apache-2.0 */
/* ssh -L PORT:[ACCOUNT+]TARGET:5432 alice@bastion, where TARGET is a database. */
#include "bastion/broker/login_int.h"

#include <stdio.h>
#include <string.h>

#include "bastion/broker/sql.h"

bool
login_sql_split(struct ctx *x, struct sp_span host)
{
	const uint8_t *plus = host.n == 0 ? NULL : memchr(host.p, '+', host.n);
	struct sp_span account = {0};

	if (plus != NULL) {
		account = sp_span_of(host.p, (size_t)(plus - host.p));
		host = sp_span_of(plus + 1, host.n - account.n - 1);
		if (!sp_name_is_valid(account) || sp_span_cstr(account, x->account,
		    sizeof(x->account)) != SP_OK)
			return false;
	}
	return sp_name_is_valid(host) &&
	    sp_span_cstr(host, x->target, sizeof(x->target)) == SP_OK;
}

static void
got_accounts(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct ctx *x = arg;
	char text[300];
	size_t n = 0;

	x->c->n_busy--;
	for (size_t i = 0; e == SP_OK && i < sp_rows_n(r); i++) {
		const char *name = sp_rows_get(r, i, "name");

		if (name == NULL || sp_sql_is_maker(r, name) ||
		    !sp_name_is_valid(sp_span_str(name)))
			continue;
		if (n++ == 0)
			snprintf(x->account, sizeof(x->account), "%s", name);
	}
	if (x->state != CTX_OPENING) {
		ctx_release(x);
		return;
	}
	if (e != SP_OK)
		snprintf(text, sizeof(text), "%s; try again in a moment",
		    sp_flow_why(e));
	else
		snprintf(text, sizeof(text), "say which account of %s: ssh -L "
		    "PORT:ACCOUNT+%s:%s ...; the verb `targets` lists those that you "
		    "may reach", x->target, x->target, "PORT");
	if (n == 1)
		ctx_open_sql(x);
	else
		ctx_refuse_open(x, text);
	ctx_release(x);
}

void
login_sql_target(struct ctx *x, uint8_t protocol, const char *target)
{
	const char *p[1] = {target};

	x->protocol = protocol;
	if (x->account[0] != '\0') {
		ctx_open_sql(x);
		return;
	}
	x->c->n_busy++;
	ctx_hold(x);
	sp_store_load(x->c->b->store, SP_T_ACCOUNTS, "WHERE target_id = $1 "
	    "ORDER BY name", p, 1, got_accounts, x);
}
