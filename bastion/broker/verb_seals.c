/* SPDX-License-Identifier: Apache-2.0 */
/* Sealed rows: how many are as the bastion left them, which are not, and what a
 * person decides about those. Nothing here is mended without being told to. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/flow.h"
#include "bastion/broker/heads.h"
#include "bastion/broker/verb_int.h"

#define BROKEN_MAX 200
#define WHAT_MAX 200

/* What a person knows the row by; $1 is its id. Its columns are not to be
 * believed: they are shown, nothing more. */
static const char *const labels[SP_T_COUNT_] = {
    [SP_T_PEOPLE] = "SELECT name FROM people WHERE id = $1::uuid",
    [SP_T_PERSON_KEYS] = "SELECT coalesce(p.name, '?') || ': ' || k.algo || ' ' || "
    "k.comment FROM person_keys k LEFT JOIN people p ON p.id = k.person_id "
    "WHERE k.id = $1::uuid",
    [SP_T_MEMBERSHIPS] = "SELECT coalesce(p.name, '?') || ' in ' || m.group_name "
    "FROM memberships m LEFT JOIN people p ON p.id = m.person_id "
    "WHERE m.id = $1::uuid",
    [SP_T_TOTP] = "SELECT 'second factor of ' || coalesce(p.name, '?') FROM totp t "
    "LEFT JOIN people p ON p.id = t.person_id WHERE t.id = $1::uuid",
    [SP_T_TARGETS] = "SELECT name || ' ' || addr FROM targets WHERE id = $1::uuid",
    [SP_T_ACCOUNTS] = "SELECT a.name || '@' || coalesce(t.name, '?') FROM accounts "
    "a LEFT JOIN targets t ON t.id = a.target_id WHERE a.id = $1::uuid",
    [SP_T_SECRETS] = "SELECT 'secret of ' || coalesce(string_agg(a.name || '@' || "
    "t.name, ', '), 'nobody') FROM accounts a JOIN targets t ON t.id = "
    "a.target_id WHERE a.secret_id = $1::uuid",
    [SP_T_POLICIES] = "SELECT 'policy ' || seq || ' loaded by ' || loaded_by FROM "
    "policies WHERE id = $1::uuid",
    [SP_T_REQUESTS] = "SELECT 'request ' || r.num || ' of ' || coalesce(p.name, "
    "'?') FROM requests r LEFT JOIN people p ON p.id = r.person_id "
    "WHERE r.id = $1::uuid",
    [SP_T_DECISIONS] = "SELECT d.verdict || ' of request ' || r.num || ' by ' || "
    "coalesce(p.name, '?') FROM decisions d JOIN requests r ON r.id = "
    "d.request_id LEFT JOIN people p ON p.id = d.approver_id "
    "WHERE d.id = $1::uuid",
    [SP_T_GRANTS] = "SELECT 'grant of request ' || coalesce(r.num::text, '?') || "
    "' for ' || coalesce(p.name, '?') FROM grants g LEFT JOIN requests r ON "
    "r.id = g.request_id LEFT JOIN people p ON p.id = g.person_id "
    "WHERE g.id = $1::uuid",
};
/* One that is gone: by what was done to it last. */
static const char last_change[] = "SELECT event || ' by ' || actor || ' ' || "
    "coalesce(detail, '') FROM audit WHERE rows LIKE '%' || $1 || '%' "
    "ORDER BY at_us DESC LIMIT 1";

struct broken {
	struct sp_broken b;
	enum sp_table t;
	char what[WHAT_MAX];
};
struct seals {
	struct sp_call *c;
	struct sp_list *list;
	int t;
	size_t n_bad;
	/* seals broken, accept, drop */
	struct broken *bad;
	size_t n, at;
	void (*then)(struct seals *s);
	const char *verb;
};

static void load_next(struct seals *s);

static void
seals_free(void *state)
{
	struct seals *s = state;

	if (s->list != NULL)
		sp_list_free(s->list);
	free(s->bad);
	free(s);
}

static struct seals *
begin(struct sp_call *c, void (*then)(struct seals *s))
{
	struct seals *s = calloc(1, sizeof(*s));

	SP_ASSERT(s != NULL);
	s->c = c;
	s->then = then;
	s->bad = calloc(BROKEN_MAX, sizeof(*s->bad));
	SP_ASSERT(s->bad != NULL);
	c->state = s;
	c->free_state = seals_free;
	return s;
}

/* ------------------------------------------------------------- what is wrong */

static void ask_label(struct seals *s);

static void
got_label(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct seals *s = arg;
	const char *text = e == SP_OK && sp_rows_n(r) > 0 ?
	    sp_rows_get(r, 0, "what") : NULL;

	sp_vis(s->bad[s->at].what, WHAT_MAX, sp_span_str(text == NULL ? "?" : text));
	s->at++;
	ask_label(s);
}

static void
ask_label(struct seals *s)
{
	char sql[1024];
	const struct broken *b = &s->bad[s->at];
	const char *id = b->b.id;
	const char *q = s->at >= s->n ? NULL : b->b.verdict == SP_HEAD_MISSING ?
	    last_change : labels[b->t];

	if (s->at >= s->n) {
		s->then(s);
		return;
	}
	if (q == NULL) {
		snprintf(s->bad[s->at].what, WHAT_MAX, "%s", id);
		s->at++;
		ask_label(s);
		return;
	}
	snprintf(sql, sizeof(sql), "SELECT (%s) AS what", q);
	sp_store_query(s->c->b->store, sql, &id, 1, got_label, s);
}

static void
got_table(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct seals *s = arg;
	struct sp_call *c = s->c;
	char n[24], broken[24];
	struct sp_broken b;

	if (e != SP_OK) {
		sp_call_fail_err(c, e, "seals");
		return;
	}
	s->n_bad += sp_rows_n_broken(rows);
	for (size_t i = 0; sp_rows_broken(rows, i, &b) && s->n < BROKEN_MAX; i++) {
		s->bad[s->n].t = (enum sp_table)s->t;
		s->bad[s->n++].b = b;
	}
	snprintf(n, sizeof(n), "%zu", sp_rows_n(rows));
	snprintf(broken, sizeof(broken), "%zu", sp_rows_n_broken(rows));
	if (s->list != NULL)
		sp_list_add(s->list, (const char *[]){sp_tables[s->t].name, n,
		    broken});
	s->t++;
	load_next(s);
}

static void
load_next(struct seals *s)
{
	if (s->t == SP_T_COUNT_)
		ask_label(s);
	else
		sp_store_load(s->c->b->store, (enum sp_table)s->t, "", NULL, 0,
		    got_table, s);
}

/* --------------------------------------------------------------------- seals */

static void
seals_print(struct seals *s)
{
	struct sp_call *c = s->c;

	sp_call_list(c, s->list, "");
	sp_call_end(c, s->n_bad == 0 ? SP_EXIT_OK : SP_EXIT_REFUSED);
}

void
sp_verb_seals(struct sp_call *c)
{
	static const struct sp_col cols[] = {
		{"id", "TABLE", SP_COL_TEXT}, {"rows", "ROWS", SP_COL_NUMBER},
		{"broken", "BROKEN", SP_COL_NUMBER}};
	struct seals *s = begin(c, seals_print);

	s->list = sp_list_new(cols, 3);
	load_next(s);
}

static const char *
why(const struct broken *b)
{
	return b->b.verdict == SP_HEAD_GOOD ? "the vault did not seal this" :
	    sp_head_words(b->b.verdict);
}

static void
broken_print(struct seals *s)
{
	static const struct sp_col cols[] = {
		{"table", "TABLE", SP_COL_TEXT}, {"id", "ROW", SP_COL_TEXT},
		{"version", "VERSION", SP_COL_NUMBER}, {"what", "WHAT", SP_COL_TEXT},
		{"why", "BECAUSE", SP_COL_TEXT}};
	struct sp_call *c = s->c;

	s->list = sp_list_new(cols, 5);
	for (size_t i = 0; i < s->n; i++)
		sp_list_add(s->list, (const char *[]){sp_tables[s->bad[i].t].name,
		    s->bad[i].b.id, s->bad[i].b.ver, s->bad[i].what,
		    why(&s->bad[i])});
	sp_call_list(c, s->list, "Every sealed row is as the bastion left it.");
	if (!c->style.json && s->n_bad > s->n)
		sp_call_say(c, "\nand %zu more\n", s->n_bad - s->n);
	sp_call_end(c, SP_EXIT_OK);
}

void
sp_verb_seals_broken(struct sp_call *c)
{
	load_next(begin(c, broken_print));
}

/* ------------------------------------------------------------ accept and drop */

static void
decided(struct sp_call *c)
{
	struct seals *s = c->state;
	bool kept = strcmp(s->verb, "row_accepted") == 0;

	sp_broker_changed(c->b);
	sp_call_did(c, s->bad[s->at].b.id, kept ? "accepted" : "dropped", kept ?
	    "%s: taken as it stands, under a fresh seal." :
	    "%s: it is no row any more.", s->bad[s->at].what);
}

static struct sp_change *
change_for(struct seals *s, const struct broken *b)
{
	struct sp_change *ch = sp_change_new(s->c->b->store);
	char *detail = sp_call_detail("table", sp_tables[b->t].name, "id", b->b.id,
	    "version", b->b.ver, "what", b->what, "was", why(b), NULL);

	sp_change_audit(ch, s->verb, s->c->who.name, NULL, detail);
	free(detail);
	return ch;
}

static void
got_row(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct seals *s = arg;
	const struct broken *b = &s->bad[s->at];
	const char *values[SP_COLS_MAX] = {NULL};
	struct sp_change *ch;
	uint8_t id[16];

	if (e != SP_OK || sp_rows_n(r) != 1 ||
	    sp_uuid_parse(id, sp_span_str(b->b.id)) != SP_OK) {
		sp_call_fail(s->c, SP_EXIT_REFUSED, "the row cannot be read");
		return;
	}
	for (size_t i = 0; i < sp_tables[b->t].n_cols; i++)
		values[i] = sp_rows_get(r, 0, sp_tables[b->t].cols[i]);
	ch = change_for(s, b);
	sp_change_reseal(ch, b->t, id, sp_rows_ver(r, 0), values);
	sp_call_commit(s->c, ch, "seals accept", decided);
}

static void
take(struct seals *s, const struct broken *b)
{
	SP_BUF_AUTO sql = {.max = 8192};
	const char *id = b->b.id;

	if (b->b.verdict == SP_HEAD_MISSING) {
		sp_call_fail(s->c, SP_EXIT_REFUSED, "there is no such row to accept: "
		    "seals drop says that it may stay away");
		return;
	}
	SP_ASSERT(sp_select_text(&sql, b->t, "WHERE id = $1::uuid") == SP_OK);
	sp_store_query(s->c->b->store, (const char *)sp_buf_span(&sql).p, &id, 1,
	    got_row, s);
}

static void
let_go(struct seals *s, const struct broken *b)
{
	struct sp_change *ch = change_for(s, b);
	uint64_t ver = 0;
	uint8_t id[16];

	SP_ASSERT(sp_uuid_parse(id, sp_span_str(b->b.id)) == SP_OK);
	if (sp_u64_parse(sp_span_str(b->b.ver), INT64_MAX, &ver) != SP_OK)
		ver = 0;
	sp_change_forget(ch, b->t, id, b->b.verdict == SP_HEAD_MISSING ? 0 : ver);
	sp_call_commit(s->c, ch, "seals drop", decided);
}

static void
decide(struct seals *s)
{
	struct sp_call *c = s->c;

	for (s->at = 0; s->at < s->n; s->at++)
		if (strcmp(s->bad[s->at].b.id, c->pos[1]) == 0 &&
		    strcmp(sp_tables[s->bad[s->at].t].name, c->pos[0]) == 0)
			break;
	if (s->at == s->n)
		sp_call_fail(c, SP_EXIT_REFUSED, "no broken row has that table and "
		    "id: seals broken lists them");
	else if (strcmp(s->verb, "row_accepted") == 0)
		take(s, &s->bad[s->at]);
	else
		let_go(s, &s->bad[s->at]);
}

void
sp_verb_seals_accept(struct sp_call *c)
{
	struct seals *s = begin(c, decide);

	s->verb = "row_accepted";
	load_next(s);
}

void
sp_verb_seals_drop(struct sp_call *c)
{
	struct seals *s = begin(c, decide);

	s->verb = "row_dropped";
	load_next(s);
}
