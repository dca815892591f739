/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/store_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SQL_MAX 16384
#define PARAMS_MAX 40

static char *
copy(const char *s)
{
	char *t = s == NULL ? NULL : strdup(s);

	SP_ASSERT(s == NULL || t != NULL);
	return t;
}

struct sp_change *
sp_change_new(struct sp_store *s)
{
	struct sp_change *c = calloc(1, sizeof(*c));

	SP_ASSERT(c != NULL);
	c->s = s;
	return c;
}

static void
free_op(struct sp_op *o)
{
	for (size_t i = 0; i < o->n; i++)
		free(o->values[i]);
	free(o->values);
	free(o->sql);
}

void
sp_change_free(struct sp_change *c)
{
	for (size_t i = 0; i < c->n_ops; i++)
		free_op(&c->ops[i]);
	free(c->ops);
	if (c->item != NULL)
		for (size_t i = 0; i < c->item->n_ev; i++)
			sp_event_fini(&c->item->ev[i]);
	free(c->item);
	if (c->ev_give_up != NULL)
		event_free(c->ev_give_up);
	if (c->is_waiting)
		LIST_REMOVE(c, link);
	free(c);
}

void
sp_change_drop(struct sp_change *c)
{
	sp_change_free(c);
}

void
sp_change_done(struct sp_change *c, enum sp_err e)
{
	if (!c->is_told) {
		c->is_told = true;
		c->cb(c->arg, e);
	}
	sp_change_free(c);
}

/* ------------------------------------------------------- what it consists of */

static struct sp_op *
add(struct sp_change *c, const char *const *values, size_t n)
{
	struct sp_op *o;

	if (c->n_ops == c->cap_ops) {
		size_t cap = c->cap_ops == 0 ? 4 : 2 * c->cap_ops;

		o = reallocarray(c->ops, cap, sizeof(*o));
		SP_ASSERT(o != NULL);
		c->ops = o;
		c->cap_ops = cap;
	}
	o = &c->ops[c->n_ops++];
	*o = (struct sp_op){.n = n, .c = c};
	o->values = calloc(n + 1, sizeof(*o->values));
	SP_ASSERT(o->values != NULL);
	for (size_t i = 0; i < n; i++)
		o->values[i] = copy(values[i]);
	return o;
}

static void
check_values(struct sp_change *c, enum sp_table t, const char *const *values)
{
	for (size_t i = 0; i < sp_tables[t].n_cols; i++) {
		if (values[i] == NULL ||
		    sp_is_canonical(sp_table_cols[t][i].kind, values[i]))
			continue;
		sp_log(SP_ERROR, "value_not_canonical", NULL,
		    "table=%s column=%s value=\"%s\"", sp_tables[t].name,
		    sp_tables[t].cols[i], sp_vis_str(values[i]));
		c->bad = SP_ERR_INVAL;
	}
}

static struct sp_op *
add_row(struct sp_change *c, enum sp_table t, const uint8_t id[static 16],
    uint64_t ver, const char *const *values)
{
	struct sp_op *o;

	SP_ASSERT(t < SP_T_COUNT_);
	if (values != NULL)
		check_values(c, t, values);
	o = add(c, values, values == NULL ? 0 : sp_tables[t].n_cols);
	o->t = t;
	o->ver = o->was = ver;
	memcpy(o->id, id, 16);
	return o;
}

void
sp_change_insert(struct sp_change *c, enum sp_table t,
    const uint8_t id[static 16], const char *const *values)
{
	add_row(c, t, id, 0, values)->kind = SP_OP_INSERT;
}

void
sp_change_update(struct sp_change *c, enum sp_table t,
    const uint8_t id[static 16], uint64_t ver, const char *const *values)
{
	add_row(c, t, id, ver, values)->kind = SP_OP_UPDATE;
}

void
sp_change_delete(struct sp_change *c, enum sp_table t,
    const uint8_t id[static 16], uint64_t ver)
{
	add_row(c, t, id, ver, NULL)->kind = SP_OP_DELETE;
}

/* Above every version that there was. */
static struct sp_op *
above(struct sp_op *o, uint64_t was)
{
	const struct sp_head *x = sp_heads_find(o->c->s->heads, o->t, o->id);

	o->was = was;
	o->ver = x != NULL && x->ver > was ? x->ver : was;
	return o;
}

void
sp_change_reseal(struct sp_change *c, enum sp_table t,
    const uint8_t id[static 16], uint64_t was, const char *const *values)
{
	above(add_row(c, t, id, was, values), was)->kind = SP_OP_UPDATE;
}

void
sp_change_forget(struct sp_change *c, enum sp_table t,
    const uint8_t id[static 16], uint64_t was)
{
	above(add_row(c, t, id, was, NULL), was)->kind = was == 0 ? SP_OP_GONE :
	    SP_OP_DELETE;
}

void
sp_change_sql(struct sp_change *c, const char *sql, const char *const *params,
    size_t n, uint64_t must_affect)
{
	struct sp_op *o;

	SP_ASSERT(n <= PARAMS_MAX);
	o = add(c, params, n);

	o->kind = SP_OP_SQL;
	o->must = must_affect;
	o->sql = copy(sql);
}

void
sp_change_audit(struct sp_change *c, const char *event, const char *actor,
    const uint8_t *session, const char *detail_json)
{
	if (c->item == NULL) {
		c->item = calloc(1, sizeof(*c->item));
		SP_ASSERT(c->item != NULL);
		c->item->c = c;
	}
	SP_ASSERT(c->item->n_ev < SP_EVENTS_MAX);
	sp_event_init(&c->item->ev[c->item->n_ev++], event, actor, session,
	    detail_json);
}

/* -------------------------------------------------------------- statements */

struct stmt {
	struct sp_buf sql;
	const char *params[PARAMS_MAX];
	size_t n;
	char id[SP_UUID_TEXT], old[24], new[24], seal[67];
};

static void
say(struct stmt *st, const char *text)
{
	SP_ASSERT(sp_buf_put(&st->sql, text, strlen(text)) == SP_OK);
}

/* Appends $n for a value. */
static void
param(struct stmt *st, const char *value)
{
	SP_ASSERT(st->n < PARAMS_MAX);
	st->params[st->n++] = value;
	SP_ASSERT(sp_buf_printf(&st->sql, "$%zu", st->n) == SP_OK);
}

static void
insert_text(struct stmt *st, const struct sp_op *o)
{
	const struct sp_table_def *d = &sp_tables[o->t];

	say(st, "INSERT INTO ");
	say(st, d->name);
	say(st, " (id, ver, seal");
	for (size_t i = 0; i < d->n_cols; i++) {
		say(st, ", ");
		say(st, d->cols[i]);
	}
	say(st, ") VALUES (");
	param(st, st->id);
	say(st, ", 1, ");
	param(st, st->seal);
	for (size_t i = 0; i < d->n_cols; i++) {
		say(st, ", ");
		param(st, o->values[i]);
	}
	say(st, ")");
}

static void
where_version(struct stmt *st)
{
	say(st, " WHERE id = ");
	param(st, st->id);
	say(st, " AND ver = ");
	param(st, st->old);
}

/* Columns that never change are compared, not set: a seal over a value that is
 * not in the row would break the row. */
static void
update_text(struct stmt *st, const struct sp_op *o)
{
	const struct sp_table_def *d = &sp_tables[o->t];

	say(st, "WITH sp_u AS (UPDATE ");
	say(st, d->name);
	say(st, " SET ver = ");
	param(st, st->new);
	say(st, ", seal = ");
	param(st, st->seal);
	for (size_t i = 0; i < d->n_cols; i++) {
		if (!sp_table_cols[o->t][i].may_change)
			continue;
		say(st, ", ");
		say(st, d->cols[i]);
		say(st, " = ");
		param(st, o->values[i]);
	}
	where_version(st);
	for (size_t i = 0; i < d->n_cols; i++) {
		if (sp_table_cols[o->t][i].may_change)
			continue;
		say(st, " AND ");
		say(st, d->cols[i]);
		say(st, " IS NOT DISTINCT FROM ");
		param(st, o->values[i]);
	}
	say(st, " RETURNING 1) SELECT must_affect(count(*), 1) FROM sp_u");
}

static void
delete_text(struct stmt *st, const struct sp_op *o)
{
	say(st, "WITH sp_u AS (DELETE FROM ");
	say(st, sp_tables[o->t].name);
	where_version(st);
	say(st, " RETURNING 1) SELECT must_affect(count(*), 1) FROM sp_u");
}

static void
plain_text(struct stmt *st, const struct sp_op *o)
{
	for (size_t i = 0; i < o->n && i < PARAMS_MAX; i++)
		st->params[st->n++] = o->values[i];
	if (o->must == 0) {
		say(st, o->sql);
		return;
	}
	say(st, "WITH sp_u AS (");
	say(st, o->sql);
	if (strcasestr(o->sql, "returning ") == NULL)
		say(st, " RETURNING 1");
	SP_ASSERT(sp_buf_printf(&st->sql, ") SELECT must_affect(count(*), %" PRIu64
	    ") FROM sp_u", o->must) == SP_OK);
}

static void
add_statement(const struct sp_op *o, struct sp_db_job *j)
{
	struct stmt st = {.sql = {.max = SQL_MAX}};

	sp_uuid_text(st.id, o->id);
	snprintf(st.old, sizeof(st.old), "%" PRIu64, o->was);
	snprintf(st.new, sizeof(st.new), "%" PRIu64, o->ver + 1);
	sp_bytea_text(st.seal, o->seal, 32);
	switch (o->kind) {
	case SP_OP_INSERT:
		insert_text(&st, o);
		break;
	case SP_OP_UPDATE:
		update_text(&st, o);
		break;
	case SP_OP_DELETE:
		delete_text(&st, o);
		break;
	case SP_OP_GONE:
		say(&st, "SELECT 1");
		break;
	case SP_OP_SQL:
		plain_text(&st, o);
		break;
	}
	SP_ASSERT(sp_buf_put_u8(&st.sql, 0) == SP_OK);
	sp_db_job_add(j, (const char *)st.sql.p + st.sql.off, st.params, st.n);
	sp_buf_fini(&st.sql);
}

void
sp_change_statements(const struct sp_change *c, struct sp_db_job *j)
{
	for (size_t i = 0; i < c->n_ops; i++) {
		add_statement(&c->ops[i], j);
		if (c->ops[i].kind != SP_OP_SQL)
			sp_ahead_forget(c->s);
	}
}
