/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/session_int.h"

#include <stdlib.h>
#include <string.h>

/*
 * Recordings that no row names: their recorder had said its first word, and
 * whoever was to write the row, or was to be told, died before that. Nothing was
 * dialled then, yet what is evidence is never left lying: it gets a row that says
 * so, and is recovered with the rest.
 */
#define ORPHANS_MAX 1400

static uint8_t found[ORPHANS_MAX][16];
static size_t n_found;
static bool has_begun, is_soon;

struct adoption {
	struct sp_broker *b;
	size_t left;
};
struct orphan {
	struct adoption *all;
	char id[SP_UUID_TEXT];
	uint8_t session[16];
};

static void
on_time(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	is_soon = false;
	sp_session_adopt(arg);
}

static void
soon(struct sp_broker *b)
{
	struct timeval tv = {.tv_usec = 200000};

	if (!is_soon && !b->stopping)
		is_soon = event_base_once(b->ev, -1, EV_TIMEOUT, on_time, b,
		    &tv) == 0;
}

void
sp_session_on_open_file(struct sp_broker *b, const struct sp_msg_open_file *m)
{
	struct sp_session *s = sp_session_find(b, m->session);

	if (s != NULL)
		sess_hold(s);
	if (s != NULL && s->state <= SESS_REC_READY)
		sess_rec_lost(s);	/* whatever its link has to say yet */
	if ((s == NULL || s->state == SESS_OVER || s->state == SESS_LEAVE) &&
	    n_found < ORPHANS_MAX)
		memcpy(found[n_found++], m->session, 16);
	if (s != NULL)
		sess_release(s);
	if (has_begun)
		soon(b);
}

static void
one_less(struct orphan *o)
{
	struct adoption *a = o->all;

	free(o);
	if (--a->left > 0)
		return;
	sp_session_recover_all(a->b);
	free(a);
}

/* What the database refuses is looked at by the next broker: the file stays as it
 * is. */
static void
adopted(void *arg, enum sp_err e)
{
	struct orphan *o = arg;

	if (e != SP_OK)
		sp_log(SP_ERROR, "orphan_not_adopted", o->session, "why=\"%s\"",
		    sp_err_text(e));
	if (e != SP_OK && e != SP_ERR_DENIED && e != SP_ERR_STATE &&
	    n_found < ORPHANS_MAX) {
		memcpy(found[n_found++], o->session, 16);
		soon(o->all->b);
	}
	one_less(o);
}

static void
adopt(struct orphan *o)
{
	struct sp_broker *b = o->all->b;
	struct sp_change *c = sp_change_new(b->store);
	char now[SP_NUM_TEXT];
	const char *p[] = {o->id, b->node, sp_i64_text(now, sp_now_us())};

	sp_change_sql(c, "INSERT INTO sessions (id, person_id, person_name, "
	    "account_name, target_name, node, peer_addr, rule, policy_hash, "
	    "started_us, state, kind) VALUES ($1::uuid, "
	    "'00000000-0000-0000-0000-000000000000', '-', '-', '-', $2, '-', '', "
	    "'', $3::bigint, 'running', 'orphan')", p, 3, 1);
	sp_flow_change_audit(c, "recording_without_session", b->node, o->session,
	    NULL);
	sp_change_commit(c, adopted, o);
}

static void
looked(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct orphan *o = arg;

	if (e == SP_OK && sp_rows_n(r) == 0)
		adopt(o);
	else
		adopted(o, e);
}

void
sp_session_adopt(struct sp_broker *b)
{
	struct adoption *a;
	size_t n = n_found;

	has_begun = true;
	/* The seal of a recovered recording needs the vault. */
	if (!sp_store_is_up(b->store) || !sp_vault_is_open(b->vault)) {
		soon(b);
		return;
	}
	if (n == 0 || (a = calloc(1, sizeof(*a))) == NULL) {
		sp_session_recover_all(b);
		return;
	}
	*a = (struct adoption){.b = b, .left = n};
	n_found = 0;
	for (size_t i = 0; i < n; i++) {
		struct orphan *o = calloc(1, sizeof(*o));
		const char *p[1];

		SP_ASSERT(o != NULL);
		o->all = a;
		memcpy(o->session, found[i], 16);
		sp_uuid_text(o->id, o->session);
		p[0] = o->id;
		sp_store_query(b->store, "SELECT 1 FROM sessions WHERE id = "
		    "$1::uuid", p, 1, looked, o);
	}
}
