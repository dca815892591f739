/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "bastion/ingress/front.h"

/*
 * What the broker says. Ids that do not exist (any more) are dropped: the
 * client may have gone while the answer was on its way.
 */
static enum sp_err
on_chan_stream(struct sp_conn *c, struct sp_packet *p)
{
	struct sp_msg_chan_stream m;
	struct sp_ctx *x;
	struct sp_chan *ch;

	SP_TRY(sp_dec_chan_stream(p->body, &m));
	x = sp_conn_ctx(c, m.ctx);
	ch = x == NULL ? sp_sql_find(c, m.ctx, m.chan) :
	    x->state != SP_CTX_IN ? NULL : sp_chan_find(x, m.chan);
	if (ch != NULL && ch->state == SP_CHAN_ASKED && ch->leg == NULL) {
		/* A database's client has its stream for itself. */
		sp_chan_stream(ch, p->fds[0], m.shared != 0 && ch->sql == 0);
		p->fds[0] = -1;
	} else if (ch != NULL && ch->leg != NULL && !ch->leg->shared &&
	    ch->next_fd < 0) {
		/* HANDOVER comes on another socket, and perhaps later. */
		ch->next_fd = p->fds[0];
		ch->next_shared = m.shared != 0;
		p->fds[0] = -1;
	}
	return SP_OK;
}

static enum sp_err
on_chan_refused(struct sp_conn *c, struct sp_packet *p)
{
	struct sp_msg_chan_refused m;
	struct sp_ctx *x;
	struct sp_chan *ch;

	SP_TRY(sp_dec_chan_refused(p->body, &m));
	x = sp_conn_ctx(c, m.ctx);
	if (m.chan == 0 && x != NULL) {
		if (sp_span_cstr(m.text, x->why, sizeof(x->why)) != SP_OK)
			x->why[0] = '\0';
		if (x->shared != NULL)
			x->cut_us = sp_boot_us() + SP_CUT_US;
	}
	if (m.chan == 0 && x == NULL)
		sp_sql_why(c, m.ctx, m.text);
	ch = x == NULL ? sp_sql_find(c, m.ctx, m.chan) :
	    x->state != SP_CTX_IN ? NULL : sp_chan_find(x, m.chan);
	if (ch != NULL && ch->state == SP_CHAN_ASKED && ch->leg == NULL) {
		sp_chan_refused(ch, m.exit_code, m.text);
	} else if (ch != NULL && ch->leg != NULL && !ch->leg->shared &&
	    ch->next_fd < 0 && ch->next_text == NULL) {
		ch->next_code = m.exit_code;
		ch->next_text = sp_span_dup(m.text);
	}
	return SP_OK;
}

static void
notice(struct sp_ctx *x, struct sp_span text)
{
	for (struct sp_chan *ch = x->chans; ch != NULL; ch = ch->next)
		if (ch->has_pty && ch->open_kind != 0)
			sp_queue_text(ch, text, true);
}

static enum sp_err
on_notice(struct sp_conn *c, struct sp_packet *p)
{
	struct sp_msg_conn_notice m;
	char text[1025];

	SP_TRY(sp_dec_conn_notice(p->body, &m));
	if (m.end != 0) {
		SP_TRY(sp_span_cstr(m.text, text, sizeof(text)));
		sp_conn_end(c, text);
		/* No terminal yet: the disconnect itself carries the words. */
		if (c->outer.state == SP_CTX_IN ||
		    m.text.n >= sizeof(c->last_words))
			return SP_OK;
		memcpy(c->last_words, text, m.text.n + 1);
		sp_ctx_disconnect(&c->outer, c->last_words);
		return SP_OK;
	}
	notice(&c->outer, m.text);
	for (size_t i = 0; i < SP_INNER_MAX; i++)
		if (c->inner[i] != NULL)
			notice(c->inner[i], m.text);
	return SP_OK;
}

static enum sp_err
on_dialog(struct sp_conn *c, struct sp_packet *p)
{
	struct sp_msg_dialog m;
	struct sp_ctx *x;

	SP_TRY(sp_dec_dialog(p->body, &m));
	if ((x = sp_conn_ctx(c, m.dialog)) != NULL && x->state != SP_CTX_DEAD)
		sp_dialog_line(x, &m);
	return SP_OK;
}

static enum sp_err
on_key_result(struct sp_conn *c, struct sp_packet *p)
{
	struct sp_msg_auth_key_result m;

	SP_TRY(sp_dec_auth_key_result(p->body, &m));
	sp_auth_key_result(&c->outer, p->corr, m.ok == 1);
	return SP_OK;
}

static enum sp_err
on_login_result(struct sp_conn *c, struct sp_packet *p)
{
	struct sp_msg_target_login_result m;
	struct sp_ctx *x;

	SP_TRY(sp_dec_target_login_result(p->body, &m));
	x = m.id == 0 ? NULL : sp_conn_ctx(c, m.id);
	if (x != NULL)
		sp_auth_login_result(x, p->corr, m.verdict);
	return SP_OK;
}

static enum sp_err
on_open_result(struct sp_conn *c, struct sp_packet *p)
{
	struct sp_msg_target_open_result m;

	SP_TRY(sp_dec_target_open_result(p->body, &m));
	sp_jump_result(c, &m);
	return SP_OK;
}

static const struct {
	uint16_t type;
	enum sp_err (*on)(struct sp_conn *c, struct sp_packet *p);
} rows[] = {
    {SP_MSG_auth_key_result, on_key_result},
    {SP_MSG_dialog, on_dialog},
    {SP_MSG_target_open_result, on_open_result},
    {SP_MSG_target_login_result, on_login_result},
    {SP_MSG_chan_stream, on_chan_stream},
    {SP_MSG_chan_refused, on_chan_refused},
    {SP_MSG_conn_notice, on_notice},
};

void
sp_conn_packet(struct sp_conn *c, struct sp_packet *p)
{
	enum sp_err e = SP_ERR_PROTO;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].type == p->type)
			e = rows[i].on(c, p);
	sp_packet_close_fds(p);
	if (e != SP_OK) {
		sp_log(SP_ERROR, "broker_fault", NULL, "message=%s error=\"%s\"",
		    sp_ipc_name(p->type), sp_err_text(e));
		c->brk_gone = true;
	}
}
