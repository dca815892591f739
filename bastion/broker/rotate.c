/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/rotate_int.h"
#include "common/kinds.h"

/*
 * Which rotations are due is a question to the database, by an index, once a
 * second. Each runs by itself, with deadlines of its own: a target that hangs
 * holds one place of AT_ONCE, and not for long.
 */
#define AT_ONCE 8
#define TICK_S 1
#define HELD                                                                  \
	"EXISTS (SELECT FROM sessions s WHERE s.ended_us IS NULL AND "        \
	"s.account_name = a.name AND s.target_name = t.name AND s.kind IS NULL)"
/* Nobody has signed for it (release.h): it is owed, and listed, until the rule is
 * taken off. */
#define RULED                                                                 \
	"EXISTS (SELECT FROM secrets x WHERE x.id = a.secret_id AND "         \
	"x.rule IS NOT NULL)"

bool
sp_rotation_is_running(const struct sp_broker *b,
    const uint8_t account[static 16])
{
	if (b->rotations == NULL)
		return false;
	for (struct sp_rotation_run *r = b->rotations->list; r != NULL; r = r->next)
		if (memcmp(r->account, account, 16) == 0)
			return true;
	return false;
}

/* ------------------------------------------------------------------- the words */

static enum sp_err
interval(struct sp_span word, int64_t *seconds)
{
	static const struct {
		char unit;
		int64_t seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
	uint64_t n;

	if (word.n < 2 || sp_u64_parse(sp_span_of(word.p, word.n - 1), 100000,
	    &n) != SP_OK || n == 0)
		return SP_ERR_SYNTAX;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (units[i].unit == (char)word.p[word.n - 1])
			*seconds = (int64_t)n * units[i].seconds;
	return *seconds >= 5 && *seconds <= 10LL * 366 * 86400 ? SP_OK :
	    SP_ERR_SYNTAX;
}

enum sp_err
sp_rotation_when(const char *text, bool *after_use, int64_t *seconds)
{
	*after_use = false;
	*seconds = 0;
	if (text == NULL || text[0] == '\0')
		return SP_OK;
	for (;;) {
		size_t n = strcspn(text, " ");
		struct sp_span word = sp_span_of(text, n);

		if (sp_span_is(word, "after-use") && !*after_use)
			*after_use = true;
		else if (*seconds != 0 || interval(word, seconds) != SP_OK)
			return SP_ERR_SYNTAX;
		if (text[n] == '\0')
			return SP_OK;
		text += n + 1;
	}
}

/* ---------------------------------------------------------------- what is due */

static bool
is_put_off(const struct sp_broker *b, const uint8_t account[static 16])
{
	int64_t now = sp_boot_us();

	for (size_t i = 0; i < ROT_PUT_OFF; i++)
		if (b->rotations->off[i].until_us > now &&
		    memcmp(b->rotations->off[i].account, account, 16) == 0)
			return true;
	return false;
}

static void
got_due(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct sp_broker *b = arg;
	uint8_t id[16];

	b->rotations->is_asking = false;
	for (size_t i = 0; e == SP_OK && i < sp_rows_n(rows); i++) {
		const char *why = sp_rows_get(rows, i, "why");

		if (b->rotations->n >= AT_ONCE)
			break;
		if (sp_rows_uuid(rows, i, "id", id) && !is_put_off(b, id))
			(void)sp_rotation_begin(b, id, false, why == NULL ? "" : why,
			    NULL, NULL);
	}
}

void
sp_rotation_poke(struct sp_broker *b)
{
	const char *p[1] = {b->node};

	if (b->rotations == NULL || b->stopping || b->rotations->is_asking ||
	    b->cfg.rotations_held != 0 ||
	    b->rotations->n >= AT_ONCE || !sp_store_is_up(b->store) ||
	    !sp_vault_is_open(b->vault) || !b->sessions->is_recovered)
		return;
	b->rotations->is_asking = true;
	/* A row that says running is ours of before a crash, or one that another
	 * node has not come back to. */
	sp_store_query(b->store, "SELECT r.id, r.why FROM rotations r "
	    "JOIN accounts a ON a.id = r.id JOIN targets t ON t.id = a.target_id "
	    "WHERE r.due_us <= (SELECT now_us()) AND t.enabled AND (r.state <> "
	    "'running' OR r.node = $1 OR r.claimed_us < now_us() - 900000000) "
	    "AND NOT " HELD " AND NOT " RULED " ORDER BY r.due_us LIMIT 300", p, 1, got_due, b);
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	sp_rotation_poke(arg);
}

struct sp_rotations *
sp_rotations_new(struct sp_broker *b)
{
	struct sp_rotations *a = calloc(1, sizeof(*a));
	struct timeval tv = {.tv_sec = TICK_S};

	if (a == NULL)
		return NULL;
	a->tick = event_new(b->ev, -1, EV_PERSIST, on_tick, b);
	if (a->tick == NULL || event_add(a->tick, &tv) != 0) {
		free(a);
		return NULL;
	}
	return a;
}

/* --------------------------------------------------------------------- owing it */

struct owe {
	struct sp_broker *b;
	uint8_t account[16];
	char why[128];
	unsigned tries;
	void (*cb)(void *arg, enum sp_err e);
	void *arg;
};

static void owe_load(struct owe *o);

static void
owe_over(struct owe *o, enum sp_err e)
{
	char id[SP_UUID_TEXT];

	sp_uuid_text(id, o->account);
	if (e != SP_OK)
		sp_log(SP_ERROR, "rotation_not_owed", NULL, "account=%s why=\"%s\"",
		    id, sp_err_text(e));
	if (o->cb != NULL)
		o->cb(o->arg, e);
	if (e == SP_OK)
		sp_rotation_poke(o->b);
	free(o);
}

static void
owe_written(void *arg, enum sp_err e)
{
	struct owe *o = arg;

	/* Somebody moved the row on: a rotation that ended, mostly. */
	if ((e == SP_ERR_STATE || e == SP_ERR_EXISTS) && ++o->tries < 5)
		owe_load(o);
	else
		owe_over(o, e);
}

static void
owe_got(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct owe *o = arg;
	struct sp_change *c;
	struct json_object *d;
	struct sp_vals v;
	char now[SP_NUM_TEXT];
	int64_t due = 0;

	if (e == SP_OK && sp_rows_n_broken(r) > 0)
		e = SP_ERR_INVAL;
	if (e == SP_OK && sp_rows_n(r) == 1)
		due = sp_rows_i64(r, 0, "due_us");
	if (e != SP_OK || (due != 0 && due <= sp_now_us())) {
		owe_over(o, e);
		return;
	}
	sp_i64_text(now, sp_now_us());
	c = sp_change_new(o->b->store);
	if (sp_rows_n(r) == 1) {
		sp_vals_from(&v, SP_T_ROTATIONS, r, 0);
		sp_vals_set(&v, "due_us", now);
		sp_vals_set(&v, "why", o->why);
		sp_change_update(c, SP_T_ROTATIONS, o->account, sp_rows_ver(r, 0),
		    v.v);
	} else {
		sp_change_insert(c, SP_T_ROTATIONS, o->account,
		    (const char *[SP_COLS_MAX]){"idle", o->why, now, NULL, "0"});
	}
	d = sp_detail();
	sp_detail_uuid(d, "account_id", o->account);
	sp_detail_str(d, "why", o->why);
	sp_flow_change_audit(c, "rotation_owed", "rotation", NULL, d);
	sp_change_commit(c, owe_written, o);
}

static void
owe_load(struct owe *o)
{
	char id[SP_UUID_TEXT];
	const char *p[1] = {id};

	sp_uuid_text(id, o->account);
	sp_store_load(o->b->store, SP_T_ROTATIONS, "WHERE id = $1::uuid", p, 1,
	    owe_got, o);
}

void
sp_rotation_owe(struct sp_broker *b, const uint8_t account[static 16],
    const char *why, void (*cb)(void *arg, enum sp_err e), void *arg)
{
	struct owe *o = calloc(1, sizeof(*o));

	SP_ASSERT(o != NULL);
	o->b = b;
	memcpy(o->account, account, 16);
	snprintf(o->why, sizeof(o->why), "%s", why);
	o->cb = cb;
	o->arg = arg;
	owe_load(o);
}
