/* SPDX-License-Identifier: Apache-2.0 */
/* The transparency log: how it is, and the rows that a verifier compares with it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/ledger.h"
#include "bastion/broker/verb_int.h"

#define PAGE 2000

struct pages {
	bool events;		/* sessions first */
	char session[SP_UUID_TEXT], node[129], seq[24];
};

static const char *
state_name(uint8_t st)
{
	switch (st) {
	case SP_LOG_GOOD:
		return "good";
	case SP_LOG_WAITS:
		return "waits for the vault";
	case SP_LOG_ALTERED:
		return "altered";
	case SP_LOG_BROKEN:
		return "broken";
	default:
		return "unknown";
	}
}

void
sp_verb_log_status(struct sp_call *c)
{
	const struct sp_ledger_status *s = sp_ledger_status(c->b->ledger);
	const char *name = s->is_there ? state_name(s->state) : "away";
	bool good = s->is_there && s->state == SP_LOG_GOOD;

	if (c->style.json) {
		json_object *o = json_object_new_object();

		json_object_object_add(o, "id", json_object_new_string(s->origin));
		json_object_object_add(o, "state", json_object_new_string(name));
		json_object_object_add(o, "good", json_object_new_boolean(good));
		json_object_object_add(o, "size",
		    json_object_new_int64((int64_t)s->size));
		json_object_object_add(o, "signed",
		    json_object_new_int64((int64_t)s->signed_size));
		json_object_object_add(o, "waiting",
		    json_object_new_int64((int64_t)s->waiting));
		json_object_object_add(o, "text", json_object_new_string(s->text));
		sp_call_json(c, o);
	} else {
		sp_call_say(c, "%s: %s%s%s\n%llu leaves, %llu of them under a signed "
		    "head, %llu on their way\n", s->origin[0] == '\0' ?
		    "transparency log" : s->origin, name, s->text[0] == '\0' ? "" :
		    ": ", s->text, (unsigned long long)s->size,
		    (unsigned long long)s->signed_size,
		    (unsigned long long)s->waiting);
	}
	sp_call_end(c, good ? SP_EXIT_OK : SP_EXIT_REFUSED);
}

/* --------------------------------------------------------------------- rows */

static void next_page(struct sp_call *c);

static void
print_row(struct sp_call *c, struct pages *g, const struct sp_rows *r, size_t i)
{
	const char *hash;

	if (!g->events) {
		snprintf(g->session, sizeof(g->session), "%s",
		    sp_rows_get(r, i, "id"));
		sp_call_say(c, "session %s\n", sp_vis_str(g->session));
		return;
	}
	hash = sp_rows_get(r, i, "hash");
	snprintf(g->node, sizeof(g->node), "%s", sp_rows_get(r, i, "node"));
	snprintf(g->seq, sizeof(g->seq), "%s", sp_rows_get(r, i, "seq"));
	sp_call_say(c, "event %s %s %s\n", sp_vis_str(g->node), g->seq,
	    hash == NULL || strlen(hash) != 66 ? "-" : hash + 2);
}

static void
got_page(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct sp_call *c = arg;
	struct pages *g = c->state;
	size_t n = e == SP_OK ? sp_rows_n(r) : 0;

	if (c->gone) {
		sp_call_end(c, SP_EXIT_OK);
		return;
	}
	if (e != SP_OK) {
		sp_call_fail_err(c, e, "The rows");
		return;
	}
	for (size_t i = 0; i < n; i++)
		print_row(c, g, r, i);
	if (n == PAGE) {
		next_page(c);
	} else if (!g->events) {
		g->events = true;
		next_page(c);
	} else {
		sp_call_end(c, SP_EXIT_OK);
	}
}

static void
next_page(struct sp_call *c)
{
	struct pages *g = c->state;
	const char *p[] = {g->node, g->seq}, *id[] = {g->session};

	if (g->events)
		sp_store_query(c->b->store, "SELECT node, seq, hash FROM audit "
		    "WHERE (node, seq) > ($1, $2::bigint) ORDER BY node, seq "
		    "LIMIT 2000", p, 2, got_page, c);
	else
		sp_store_query(c->b->store, "SELECT id FROM sessions WHERE id > "
		    "$1::uuid ORDER BY id LIMIT 2000", id, 1, got_page, c);
}

static void
left(struct sp_call *c)
{
	(void)c;	/* the answer of the database ends the call */
}

void
sp_verb_log_rows(struct sp_call *c)
{
	struct pages *g = calloc(1, sizeof(*g));

	SP_ASSERT(g != NULL);
	snprintf(g->session, sizeof(g->session),
	    "00000000-0000-0000-0000-000000000000");
	snprintf(g->seq, sizeof(g->seq), "0");
	c->state = g;
	c->free_state = free;
	c->on_gone = left;
	next_page(c);
}
