/* SPDX-License-Identifier: Apache-2.0 */
/* `sessions show`: the rows that belong to a session; the player puts them and
 * what the recording says into one order. */
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/session.h"
#include "bastion/broker/verb_int.h"
#include "bastion/broker/verb_session.h"

/* $1: the session, $2: its grant or ''. */
#define TIMELINE_SELECT                                                       \
	"SELECT at_us, what, who, text FROM ("                                \
	"SELECT r.created_us AS at_us, 'request' AS what, p.name::text AS who, " \
	"'request ' || r.num || ': ' || r.reason AS text "                    \
	"FROM grants g JOIN requests r ON r.id = g.request_id "               \
	"JOIN people p ON p.id = r.person_id WHERE g.id::text = $2 "          \
	"UNION ALL SELECT d.at_us, 'approval', p.name::text, "                \
	"CASE d.verdict WHEN 'approve' THEN 'approved' ELSE 'denied' END || " \
	"' request ' || r.num || "                                            \
	"CASE d.comment WHEN '' THEN '' ELSE ': ' || d.comment END "          \
	"FROM grants g JOIN requests r ON r.id = g.request_id "               \
	"JOIN decisions d ON d.request_id = r.id "                            \
	"JOIN people p ON p.id = d.approver_id WHERE g.id::text = $2 "        \
	"UNION ALL SELECT * FROM (SELECT a.at_us, 'factors', a.actor, a.detail " \
	"FROM audit a JOIN sessions s ON s.id = $1::uuid "                    \
	"WHERE a.event = 'login_ok' AND a.actor = s.person_name "             \
	"AND a.at_us <= s.started_us ORDER BY a.at_us DESC LIMIT 1) l "       \
	"UNION ALL SELECT l.granted_us, 'lease', '', l.account || '@' || "    \
	"l.target || CASE WHEN l.serial IS NULL THEN '' ELSE "                \
	"', certificate ' || l.serial END FROM leases l "                     \
	"WHERE l.session_id = $1::uuid "                                      \
	"UNION ALL SELECT l.ended_us, 'lease_end', '', l.account || '@' || "  \
	"l.target FROM leases l WHERE l.session_id = $1::uuid "               \
	"AND l.ended_us IS NOT NULL "                                         \
	"UNION ALL SELECT a.at_us, a.event, a.actor, a.detail FROM audit a "  \
	"WHERE a.session_id = $1::uuid) t ORDER BY at_us LIMIT 2000"

static void
played(void *arg, enum sp_err e, int stream, const char *text)
{
	sp_call_played(arg, e, stream, text);
}

static void
put_row(struct sp_buf *b, const struct sp_rows *r, size_t i, bool *more)
{
	static const char *const cols[] = {"what", "who", "text"};
	SP_BUF_AUTO one = {.max = 8192};
	enum sp_err e = sp_buf_put_u64(&one, (uint64_t)sp_rows_i64(r, i, "at_us"));

	for (size_t k = 0; k < 3 && e == SP_OK; k++) {
		struct sp_span s = sp_span_str(sp_rows_get(r, i, cols[k]));

		if (s.n > 2000)
			s.n = 2000;
		while (s.n > 0 && !sp_utf8_is_valid(s))
			s.n--;
		e = sp_buf_put_bytes(&one, s);
	}
	if (e != SP_OK || sp_buf_put(b, sp_buf_span(&one).p, one.len) != SP_OK)
		*more = true;
}

static void
with_rows(struct sp_call *c)
{
	SP_BUF_AUTO b = {.max = SP_PLAY_ROWS_MAX};
	struct sp_msg_play_start *m = c->state;
	uint8_t id[16];
	bool more = false;

	for (size_t i = 0; i < sp_rows_n(c->rows[1]) && !more; i++)
		put_row(&b, c->rows[1], i, &more);
	(void)sp_rows_uuid(c->rows[0], 0, "id", id);
	sp_session_play_rows(c->b, &c->who, id, m, sp_buf_span(&b), more, played,
	    c);
}

static void
found(struct sp_call *c)
{
	const char *grant;

	if (!sp_session_found(c, sp_actor_may_watch(&c->who)))
		return;
	grant = sp_rows_get(c->rows[0], 0, "grant_id");
	sp_call_load(c, 1, (struct sp_need[]){{.sql = TIMELINE_SELECT,
	    .p = {sp_rows_get(c->rows[0], 0, "id"), grant == NULL ? "" : grant},
	    .n = 2}}, 1, with_rows);
}

void
sp_verb_sessions_show(struct sp_call *c)
{
	(void)sp_call_how(c, SP_PLAY_TIMELINE);
	sp_session_resolve(c, c->pos[0], found);
}
