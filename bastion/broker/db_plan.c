/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/db_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Parsing and planning is most of what a short statement costs the server: each
 * text is prepared when it is first sent over a connection. Until the server
 * has said that it is, others of the same text go unprepared: they must not
 * fail with the transaction that it came with.
 */

static uint32_t
hash(const char *s)
{
	uint32_t h = 2166136261;

	for (; *s != '\0'; s++)
		h = (h ^ (uint8_t)*s) * 16777619;
	return h;
}

/* The text's plan, or an empty place for it; NULL when there is no room. */
static struct sp_db_plan *
find(struct sp_db *d, const char *sql)
{
	uint32_t at = hash(sql);

	for (size_t i = 0; i < SP_DB_PLANS; i++) {
		struct sp_db_plan *p = &d->plans[(at + i) % SP_DB_PLANS];

		if (p->sql == NULL || strcmp(p->sql, sql) == 0)
			return p;
	}
	return NULL;
}

static void
name_of(char name[static SP_DB_PLAN_NAME], const struct sp_db_plan *p)
{
	snprintf(name, SP_DB_PLAN_NAME, "p%u", p->serial);
}

/* A new name for each try: an older one may or may not be there. */
static bool
ask(struct sp_db *d, struct sp_db_stmt *st, struct sp_db_plan *p)
{
	char name[SP_DB_PLAN_NAME];

	if (p->sql == NULL && (p->sql = strdup(st->sql)) == NULL)
		return false;
	p->serial = ++d->n_plans;
	p->state = SP_DB_PLAN_ASKED;
	st->asked = p;
	name_of(name, p);
	return PQsendPrepare(d->conn, name, st->sql, (int)st->n, NULL) == 1 &&
	    PQsendQueryPrepared(d->conn, name, (int)st->n,
	    (const char *const *)st->params, NULL, NULL, 0) == 1;
}

bool
sp_db_plan_send(struct sp_db *d, struct sp_db_stmt *st)
{
	struct sp_db_plan *p = d->state == SP_DB_UP ? find(d, st->sql) : NULL;
	char name[SP_DB_PLAN_NAME];

	st->asked = NULL;
	if (p != NULL && p->state == SP_DB_PLAN_READY) {
		name_of(name, p);
		return PQsendQueryPrepared(d->conn, name, (int)st->n,
		    (const char *const *)st->params, NULL, NULL, 0) == 1;
	}
	if (p != NULL && p->state == SP_DB_PLAN_NONE)
		return ask(d, st, p);
	return PQsendQueryParams(d->conn, st->sql, (int)st->n, NULL,
	    (const char *const *)st->params, NULL, NULL, 0) == 1;
}

bool
sp_db_plan_take(struct sp_db_stmt *st, bool is_good)
{
	if (st->asked == NULL)
		return false;
	st->asked->state = is_good ? SP_DB_PLAN_READY : SP_DB_PLAN_NONE;
	st->asked = NULL;
	return true;
}

void
sp_db_plans_forget(struct sp_db *d)
{
	for (size_t i = 0; i < SP_DB_PLANS; i++)
		d->plans[i].state = SP_DB_PLAN_NONE;
}

void
sp_db_plans_fini(struct sp_db *d)
{
	for (size_t i = 0; i < SP_DB_PLANS; i++)
		free(d->plans[i].sql);
}
