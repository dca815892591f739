/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/store_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * A change on its way: sealed by the vault, sent, answered. An answer that was
 * lost leaves one question, did it happen? For a change with an audit event the
 * chain knows (audit.c). For others the rows do: their ids are ours, their
 * seals too. It is asked on the next connection, and what did not happen is
 * sent once more.
 */

/* ----------------------------------------------------------------- sealing */

static void
sealed(struct sp_change *c)
{
	if (c->n_sealing > 0)
		return;
	if (c->bad != SP_OK)
		sp_change_done(c, c->bad);
	else
		sp_commit_begin(c);
}

static void
on_sealed(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct sp_op *o = arg;
	struct sp_change *c = o->c;
	struct sp_msg_v_row_seal_r m;

	if (e == SP_OK && (sp_dec_v_row_seal_r(reply->body, &m) != SP_OK ||
	    m.ok != 1))
		e = SP_ERR_SEALED;
	if (e == SP_OK)
		memcpy(o->seal, m.mac, 32);
	else
		c->bad = e;
	c->n_sealing--;
	sealed(c);
}

static enum sp_err
ask_seal(struct sp_op *o)
{
	SP_BUF_AUTO canon = {.max = SP_CANON_MAX + 4096};
	SP_BUF_AUTO body = {.max = SP_IPC_BODY_MAX};
	struct sp_msg_v_row_seal m = {
	    .table = sp_span_str(sp_tables[o->t].name), .version = o->ver + 1};

	memcpy(m.id, o->id, 16);
	SP_TRY(sp_canon(&canon, o->t, (const char *const *)o->values));
	m.canon = sp_buf_span(&canon);
	SP_TRY(sp_enc_v_row_seal(&body, &m));
	o->c->n_sealing++;
	sp_vault_call(o->c->s->b->vault, SP_MSG_v_row_seal, sp_buf_span(&body),
	    SP_MSG_v_row_seal_r, on_sealed, o);
	return SP_OK;
}

static void
on_checked_bad(void *arg, enum sp_err e)
{
	struct sp_change *c = arg;

	sp_change_done(c, e);
}

static void
on_nothing_to_seal(void *arg, enum sp_err e)
{
	(void)e;
	sealed(arg);
}

void
sp_change_commit(struct sp_change *c, sp_done_cb cb, void *arg)
{
	bool any = false;

	c->cb = cb;
	c->arg = arg;
	if (c->bad == SP_OK && !sp_db_is_up(c->s->db))
		c->bad = SP_ERR_DB;
	if (c->bad != SP_OK) {
		sp_later(c->s, on_checked_bad, c, c->bad);
		return;
	}
	for (size_t i = 0; i < c->n_ops; i++) {
		struct sp_op *o = &c->ops[i];
		enum sp_err e;

		if (o->kind != SP_OP_INSERT && o->kind != SP_OP_UPDATE)
			continue;
		e = ask_seal(o);
		any = any || e == SP_OK;
		if (e != SP_OK)
			c->bad = e;
	}
	if (!any)	/* answers of the vault never come from inside */
		sp_later(c->s, on_nothing_to_seal, c, SP_OK);
}

/* ---------------------------------------------------------------- evidence */

/* A question that has a row exactly when the change has happened; false when
 * the change leaves nothing to ask for. */
static bool
evidence(const struct sp_change *c, struct sp_db_job *j)
{
	char id[SP_UUID_TEXT], ver[24], seal[67], sql[256];
	const char *params[] = {id, ver, seal};
	const struct sp_op *o = NULL, *gone = NULL;

	for (size_t i = 0; i < c->n_ops && o == NULL; i++) {
		if (c->ops[i].kind == SP_OP_INSERT ||
		    c->ops[i].kind == SP_OP_UPDATE)
			o = &c->ops[i];
		else if (c->ops[i].kind == SP_OP_DELETE)
			gone = &c->ops[i];
	}
	if (o == NULL && gone == NULL)
		return false;
	sp_uuid_text(id, o != NULL ? o->id : gone->id);
	if (o == NULL) {
		snprintf(sql, sizeof(sql), "SELECT 1 WHERE NOT EXISTS"
		    " (SELECT FROM %s WHERE id = $1)", sp_tables[gone->t].name);
		sp_db_job_add(j, sql, params, 1);
		return true;
	}
	/* An id that we made and inserted is ours even if somebody has already
	 * moved the row on. */
	snprintf(ver, sizeof(ver), "%" PRIu64, o->ver + 1);
	sp_bytea_text(seal, o->seal, 32);
	snprintf(sql, sizeof(sql), "SELECT 1 FROM %s WHERE id = $1 AND"
	    " ((ver = $2 AND seal = $3)%s)", sp_tables[o->t].name,
	    o->kind == SP_OP_INSERT ? " OR ver > 1" : "");
	sp_db_job_add(j, sql, params, 3);
	return true;
}

static void send_change(struct sp_change *c);

static void
on_evidence(void *arg, struct sp_db_result *r)
{
	struct sp_change *c = arg;

	if (r->e == SP_OK && PQntuples(r->res[0]) > 0)
		sp_change_done(c, SP_OK);
	else if (r->e != SP_OK || c->tries > 1 || c->is_told)
		sp_change_done(c, c->first);
	else
		send_change(c);
}

/* ----------------------------------------------------------------- sending */

static void
look_again(struct sp_change *c)
{
	struct sp_db_job *j = sp_db_job_new(on_evidence, c);

	if (evidence(c, j)) {
		sp_db_submit(c->s->db, j);
		return;
	}
	sp_db_job_free(j);
	sp_change_done(c, c->first);
}

static void
on_sent(void *arg, struct sp_db_result *r)
{
	struct sp_change *c = arg;

	if (r->is_unknown && c->tries == 1 && !c->is_told) {
		c->first = r->e;
		c->is_waiting = true;
		LIST_INSERT_HEAD(&c->s->waiting, c, link);
		/* The connection may be back already. */
		if (sp_db_is_up(c->s->db))
			sp_commit_up(c->s);
		return;
	}
	if (r->e == SP_ERR_EXISTS && c->tries > 1) {
		/* It may be the first try that came through meanwhile. */
		c->first = r->e;
		look_again(c);
		return;
	}
	if (r->e == SP_ERR_DENIED || r->e == SP_ERR_EXISTS)
		sp_log(SP_INFO, "change_refused", NULL, "sqlstate=%s text=\"%s\"",
		    r->sqlstate, sp_vis_str(r->text));
	sp_change_done(c, r->e);
}

static void
send_change(struct sp_change *c)
{
	struct sp_db_job *j = sp_db_job_new(on_sent, c);

	c->tries++;
	sp_change_statements(c, j);
	sp_db_submit(c->s->db, j);
}

/* The caller is told; what is on its way still ends by itself. */
static void
on_give_up(evutil_socket_t fd, short what, void *arg)
{
	struct sp_change *c = arg;

	(void)fd;
	(void)what;
	c->is_told = true;
	c->cb(c->arg, SP_ERR_TIMEOUT);
	if (c->item != NULL)
		sp_chain_abandon(c->s, c);
	else if (c->is_waiting)
		sp_change_free(c);
}

void
sp_commit_begin(struct sp_change *c)
{
	uint64_t ms = 2 * c->s->b->cfg.db_timeout_ms;
	char *rows = sp_heads_text(c);

	/* The versions stand in the first event of the change. */
	if (rows != NULL && c->item == NULL)
		sp_change_audit(c, "rows_changed", c->s->b->node, NULL, NULL);
	if (rows != NULL) {
		free(c->item->ev[0].rows);
		c->item->ev[0].rows = rows;
	}

	c->ev_give_up = evtimer_new(c->s->b->ev, on_give_up, c);
	SP_ASSERT(c->ev_give_up != NULL);
	event_add(c->ev_give_up, &(struct timeval){.tv_sec = (time_t)(ms / 1000),
	    .tv_usec = (suseconds_t)(ms % 1000) * 1000});
	if (c->item != NULL)
		sp_chain_push(c->s, c);
	else
		send_change(c);
}

void
sp_commit_up(struct sp_store *s)
{
	struct sp_change *c;

	while ((c = LIST_FIRST(&s->waiting)) != NULL) {
		LIST_REMOVE(c, link);
		c->is_waiting = false;
		look_again(c);
	}
}
