/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/store_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sign {
	struct sp_store *s;
	struct sp_msg_v_sign_audit m;
	sp_done_cb cb;
	void *arg;
};

static void
end(struct sign *g, enum sp_err e)
{
	if (e == SP_OK && g->m.seq > g->s->chain.signed_seq)
		g->s->chain.signed_seq = g->m.seq;
	if (g->cb != NULL)
		g->cb(g->arg, e);
	free(g);
}

static void
on_kept(void *arg, struct sp_db_result *r)
{
	end(arg, r->e);
}

static void
on_signed(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct sign *g = arg;
	struct sp_msg_v_sign_r m;
	struct sp_db_job *j;
	char seq[24], at[24], head[67], sig[131];
	const char *params[] = {g->s->b->node, seq, head, at, sig};

	if (e == SP_OK && (sp_dec_v_sign_r(reply->body, &m) != SP_OK || m.ok != 1))
		e = SP_ERR_SEALED;
	if (e != SP_OK) {
		end(g, e);
		return;
	}
	snprintf(seq, sizeof(seq), "%" PRIu64, g->m.seq);
	snprintf(at, sizeof(at), "%" PRId64, g->m.at_us);
	sp_bytea_text(head, g->m.head, 32);
	sp_bytea_text(sig, m.signature, 64);
	j = sp_db_job_new(on_kept, g);
	sp_db_job_add(j, "INSERT INTO audit_heads (node, seq, head, at_us, signature)"
	    " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (node, seq) DO NOTHING",
	    params, 5);
	sp_db_submit(g->s->db, j);
}

void
sp_audit_sign(struct sp_store *s, sp_done_cb cb, void *arg)
{
	const struct sp_chain *ch = &s->chain;
	SP_BUF_AUTO body = {.max = 256};
	struct sign *g;

	if (!ch->was_read || ch->seq <= ch->signed_seq) {
		if (cb != NULL)
			sp_later(s, cb, arg, ch->was_read ? SP_OK : SP_ERR_DB);
		return;
	}
	g = calloc(1, sizeof(*g));
	SP_ASSERT(g != NULL);
	*g = (struct sign){.s = s, .cb = cb, .arg = arg,
	    .m = {.seq = ch->seq, .at_us = sp_now_us()}};
	memcpy(g->m.head, ch->hash, 32);
	SP_ASSERT(sp_enc_v_sign_audit(&body, &g->m) == SP_OK);
	sp_vault_call(s->b->vault, SP_MSG_v_sign_audit, sp_buf_span(&body),
	    SP_MSG_v_sign_r, on_signed, g);
}
