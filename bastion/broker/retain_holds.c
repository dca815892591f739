/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/flow.h"
#include "bastion/broker/ledger.h"
#include "bastion/broker/retain.h"

/*
 * The database has holds, and the log has them: a hold counts there even when somebody
 * has taken away the row. Who made one waits for its leaf; what that did not reach (a
 * broker that ended in between, a hold that was made at another bastion than the
 * recording's) is put in here.
 */
#define LATE_US (30 * 1000000LL)

struct held {
	struct sp_broker *b;
	char id[SP_UUID_TEXT];
	bool is_released;
};

static void
nothing(void *arg, enum sp_err e)
{
	(void)arg;
	(void)e;		/* it is put in once more */
}

void
sp_hold_logged(struct sp_broker *b, const char *session, bool is_released)
{
	struct sp_change *c = sp_change_new(b->store);
	const char *p[] = {session, b->node, is_released ? "2" : "1"};

	sp_change_sql(c, "UPDATE holds h SET logged = $3::int FROM sessions s WHERE "
	    "h.session_id = $1::uuid AND s.id = h.session_id AND s.node = $2 AND "
	    "h.logged < $3::int AND (h.released_us IS NOT NULL) = ($3 = '2')", p, 3,
	    0);
	sp_change_commit(c, nothing, NULL);
}

static void
is_in(void *arg, enum sp_err e)
{
	struct held *h = arg;

	if (e == SP_OK)
		sp_hold_logged(h->b, h->id, h->is_released);
	free(h);
}

static void
got(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct sp_broker *b = arg;

	for (size_t i = 0; e == SP_OK && i < sp_rows_n(rows); i++) {
		struct held *h = calloc(1, sizeof(*h));
		const char *by = sp_rows_get(rows, i, "released_by");
		uint8_t id[16];

		if (h == NULL || !sp_rows_uuid(rows, i, "session_id", id)) {
			free(h);
			return;
		}
		h->b = b;
		h->is_released = by != NULL;
		sp_uuid_text(h->id, id);
		/* Of one that is over already, both are wanted in their order. */
		if (by != NULL && sp_rows_i64(rows, i, "logged") == 0)
			sp_ledger_act(b->ledger, SP_ACT_HOLD, sp_rows_get(rows, i,
			    "by_name"), id, NULL, sp_rows_get(rows, i, "reason"),
			    NULL, NULL);
		sp_ledger_act(b->ledger, by == NULL ? SP_ACT_HOLD : SP_ACT_RELEASE,
		    by == NULL ? sp_rows_get(rows, i, "by_name") : by, id, NULL,
		    sp_rows_get(rows, i, "reason"), is_in, h);
	}
}

void
sp_holds_settle(struct sp_broker *b)
{
	char late[SP_NUM_TEXT];
	const char *p[] = {b->node, sp_i64_text(late, sp_now_us() - LATE_US)};
	const struct sp_ledger_status *st = sp_ledger_status(b->ledger);

	if (!st->is_there || st->state != SP_LOG_GOOD)
		return;
	sp_store_query(b->store, "SELECT h.session_id, h.by_name, h.reason, "
	    "h.released_by, h.logged FROM holds h JOIN sessions s ON s.id = "
	    "h.session_id WHERE h.logged < 2 AND s.node = $1 AND (h.logged = 0 OR "
	    "h.released_us IS NOT NULL) AND coalesce(h.released_us, h.made_us) < "
	    "$2::bigint ORDER BY h.made_us LIMIT 50", p, 2, got, b);
}
