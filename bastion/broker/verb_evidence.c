/* SPDX-License-Identifier: Apache-2.0 */
/* What an evidence bundle has of the database (`sallyport evidence`): the rows that
 * a session stands on, and its audit events in the form that their hashes cover.
 * Asked for twice: `evidence rows`, and `evidence seal` with the digest of what
 * was made of them, which becomes a leaf of the transparency log. */
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/flow.h"
#include "bastion/broker/ledger.h"
#include "bastion/broker/verb_int.h"
#include "bastion/broker/verb_session.h"

/* $1: the session. */
#define FACTS_SELECT                                                          \
	"SELECT json_build_object('session', row_to_json(s), 'grant', "       \
	"row_to_json(g), 'request', row_to_json(r), 'decisions', (SELECT "    \
	"coalesce(json_agg(json_build_object('approver', p.name, 'decision', " \
	"row_to_json(d)) ORDER BY d.at_us), '[]'::json) FROM decisions d "    \
	"JOIN people p ON p.id = d.approver_id WHERE d.request_id = r.id), "  \
	"'leases', (SELECT coalesce(json_agg(row_to_json(l)), '[]'::json) "   \
	"FROM leases l WHERE l.session_id = s.id))::text AS facts "           \
	"FROM sessions s LEFT JOIN grants g ON g.id = s.grant_id "            \
	"LEFT JOIN requests r ON r.id = g.request_id WHERE s.id = $1::uuid"
#define EVENTS_SELECT                                                         \
	"SELECT a.node, a.seq, a.at_us, a.event, a.actor, a.session_id, "     \
	"a.detail, a.prev, a.hash, a.rows FROM audit a WHERE a.session_id = " \
	"$1::uuid OR (a.event IN ('request_filed', 'request_approval_given', " \
	"'request_approved', 'request_denied', 'grant_revoked') AND a.at_us "  \
	">= (SELECT r.created_us FROM sessions s JOIN grants g ON g.id = "     \
	"s.grant_id JOIN requests r ON r.id = g.request_id WHERE s.id = "      \
	"$1::uuid) AND a.detail ~ ('\"number\": ?' || (SELECT r.num FROM "     \
	"sessions s JOIN grants g ON g.id = s.grant_id JOIN requests r ON "    \
	"r.id = g.request_id WHERE s.id = $1::uuid) || '[^0-9]')) "            \
	"ORDER BY a.node, a.seq LIMIT 5000"

/* ------------------------------------------------------------------- rows */

static void
put_event(struct sp_call *c, const struct sp_rows *r, size_t i)
{
	SP_BUF_AUTO canon = {.max = 1u << 20};
	SP_BUF_AUTO line = {.max = 2u << 20};
	const char *node = sp_rows_get(r, i, "node"), *prev = sp_rows_get(r, i,
	    "prev");
	uint64_t seq = (uint64_t)sp_rows_i64(r, i, "seq");

	if (prev == NULL || strlen(prev) != 66 ||
	    sp_event_row_canon(&canon, r, i) != SP_OK ||
	    sp_buf_printf(&line, "event %s %llu %s ", sp_vis_str(node),
	    (unsigned long long)seq, prev + 2) != SP_OK ||
	    sp_base64(&line, sp_buf_span(&canon)) != SP_OK ||
	    sp_buf_put_u8(&line, '\n') != SP_OK)
		return;
	sp_call_out(c, sp_buf_span(&line));
}

static void
print(struct sp_call *c)
{
	const char *facts = sp_rows_n(c->rows[1]) == 1 ? sp_rows_get(c->rows[1], 0,
	    "facts") : NULL;

	sp_call_out(c, sp_span_str("session "));
	sp_call_out(c, sp_span_str(sp_rows_get(c->rows[0], 0, "id")));
	sp_call_out(c, sp_span_str("\nfacts "));
	sp_call_out(c, sp_span_str(facts == NULL ? "{}" : facts));
	sp_call_out(c, sp_span_str("\n"));
	for (size_t i = 0; i < sp_rows_n(c->rows[2]); i++)
		put_event(c, c->rows[2], i);
	sp_call_end(c, SP_EXIT_OK);
}

static void
written(void *arg, enum sp_err e)
{
	struct sp_call *c = arg;
	const char *id = sp_rows_get(c->rows[0], 0, "id");

	if (c->gone)
		sp_call_end(c, SP_EXIT_OK);
	else if (e != SP_OK)
		sp_call_fail_err(c, e, "Nothing is given out that is not written "
		    "down first, and that");
	else
		sp_call_load(c, 1, (struct sp_need[]){{.sql = FACTS_SELECT,
		    .p = {id}, .n = 1}, {.sql = EVENTS_SELECT, .p = {id},
		    .n = 1}}, 2, print);
}

static void
left(struct sp_call *c)
{
	(void)c;	/* the answer that is waited for ends the call */
}

static void
rows(struct sp_call *c)
{
	struct sp_change *change;
	struct json_object *d;
	uint8_t id[16];

	if (!sp_session_found(c, sp_actor_may_watch(&c->who)))
		return;
	(void)sp_rows_uuid(c->rows[0], 0, "id", id);
	d = sp_detail();
	sp_detail_str(d, "addr", c->who.addr);
	sp_detail_str(d, "format", "bundle");
	change = sp_change_new(c->b->store);
	sp_flow_change_audit(change, "export", c->who.name, id, d);
	c->on_gone = left;
	sp_change_commit(change, written, c);
}

void
sp_verb_evidence_rows(struct sp_call *c)
{
	sp_session_resolve(c, c->pos[0], rows);
}

/* ------------------------------------------------------------------- seal */

static void
sealed(void *arg, enum sp_err e)
{
	struct sp_call *c = arg;

	if (!c->gone && e != SP_OK)
		sp_call_fail(c, SP_EXIT_LATER, "the transparency log does not take "
		    "it: sallyport doctor says why");
	else
		sp_call_end(c, SP_EXIT_OK);
}

static void
seal(struct sp_call *c)
{
	uint8_t id[16], digest[32];

	if (!sp_session_found(c, sp_actor_may_watch(&c->who)))
		return;
	(void)sp_rows_uuid(c->rows[0], 0, "id", id);
	if (sp_unhex(digest, 32, sp_span_str(c->pos[1])) != SP_OK ||
	    c->b->ledger == NULL) {
		sp_call_fail(c, SP_EXIT_USAGE, "evidence seal SESSION SHA256");
		return;
	}
	c->on_gone = left;
	sp_ledger_act(c->b->ledger, SP_ACT_EXPORT, c->who.name, id, digest,
	    "bundle", sealed, c);
}

void
sp_verb_evidence_seal(struct sp_call *c)
{
	sp_session_resolve(c, c->pos[0], seal);
}
