/* SPDX-License-Identifier: Apache-2.0 */
/* What a view must not show: the secrets that the session was leased, and those
 * that were shown to its person. The vault is told one after the other, by their
 * rows; what it makes of them goes to the player alone (common/mask.h). */
#include "bastion/broker/session_masks.h"

#include <stdlib.h>
#include <string.h>

#include "bastion/broker/vault.h"
#include "common/mask.h"
#include "common/release.h"

/* Versions that a lease names; all there are of what a person has seen, for she
 * may have typed it anywhere. More than the vault takes: it says so. */
#define MASKED                                                                \
	"WHERE id IN (SELECT x.id FROM secrets x JOIN leases l ON "           \
	"l.account_id = x.account_id WHERE l.session_id = $1::uuid AND "      \
	"(l.secret_ver IS NULL OR l.secret_ver = coalesce(x.version, x.ver))) " \
	"OR id IN (SELECT a.secret_id FROM accounts a JOIN leases l ON "      \
	"l.account_id = a.id WHERE l.session_id = $1::uuid) "                 \
	"OR account_id IN (SELECT r.account_id FROM requests r JOIN sessions s ON " \
	"s.person_id = r.person_id WHERE s.id = $1::uuid AND r.purpose = "    \
	"'reveal' AND r.shown_us IS NOT NULL) "                               \
	"OR id IN (SELECT a.secret_id FROM accounts a JOIN requests r ON "    \
	"r.account_id = a.id JOIN sessions s ON s.person_id = r.person_id "   \
	"WHERE s.id = $1::uuid AND r.purpose = 'reveal' AND r.shown_us IS "   \
	"NOT NULL) ORDER BY id LIMIT 200"

struct masks {
	struct sp_broker *b;
	uint64_t play;
	uint8_t session[16];
	bool is_search;
	struct sp_rows *rows;
	size_t at;
	sp_done_cb cb;
	void *arg;
};

static void
over(struct masks *m, enum sp_err e)
{
	m->cb(m->arg, e);
	if (m->rows != NULL)
		sp_rows_free(m->rows);
	free(m);
}

static void next(struct masks *m);

static void
told(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct sp_msg_v_done d = {.err = SP_ERR_CRYPTO};
	struct masks *m = arg;

	if (e == SP_OK)
		e = sp_dec_v_done(reply->body, &d);
	/* A row that does not open has nothing that could be leased or shown. */
	if (e == SP_OK && d.err != SP_ERR_CRYPTO)
		e = (enum sp_err)d.err;
	if (e != SP_OK) {
		over(m, e);
		return;
	}
	m->at++;
	next(m);
}

static enum sp_err
encode_search(const struct masks *m, const struct sp_msg_v_play_mask *q,
    struct sp_buf *body)
{
	struct sp_msg_v_search_mask s = {.play = q->play, .kind = q->kind,
	    .secret_version = q->secret_version, .sealed = q->sealed,
	    .rule = q->rule};

	memcpy(s.session, m->session, 16);
	memcpy(s.secret_id, q->secret_id, 16);
	memcpy(s.secret_owner, q->secret_owner, 16);
	return sp_enc_v_search_mask(body, &s);
}

static void
next(struct masks *m)
{
	SP_BUF_AUTO body = {.max = SP_IPC_BODY_MAX}, sealed = {.max = 8192};
	SP_BUF_AUTO rule = {.max = SP_RULE_MAX};
	struct sp_msg_v_play_mask q = {.play = m->play};
	enum sp_err e;

	if (m->at >= sp_rows_n(m->rows)) {
		over(m, SP_OK);
		return;
	}
	q.kind = (uint8_t)sp_rows_i64(m->rows, m->at, "kind");
	q.secret_version = sp_rows_secret_ver(m->rows, m->at);
	e = sp_rows_bytes(m->rows, m->at, "sealed", &sealed);
	if (e == SP_OK && (e = sp_rows_bytes(m->rows, m->at, "rule", &rule)) ==
	    SP_ERR_NOTFOUND)
		e = SP_OK;
	if (e == SP_OK && (!sp_rows_uuid(m->rows, m->at, "id", q.secret_id) ||
	    !sp_rows_uuid(m->rows, m->at, "owner_id", q.secret_owner)))
		e = SP_ERR_DB;
	q.sealed = sp_buf_span(&sealed);
	q.rule = sp_buf_span(&rule);
	if (e == SP_OK)
		e = m->is_search ? encode_search(m, &q, &body) :
		    sp_enc_v_play_mask(&body, &q);
	if (e != SP_OK)
		over(m, e);
	else
		sp_vault_call(m->b->vault, m->is_search ? SP_MSG_v_search_mask :
		    SP_MSG_v_play_mask, sp_buf_span(&body), SP_MSG_v_done, told, m);
}

static void
loaded(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct masks *m = arg;

	if (e != SP_OK) {
		over(m, e);
		return;
	}
	m->rows = sp_rows_ref(r);
	next(m);
}

void
sp_session_masks(struct sp_broker *b, uint64_t play, bool is_search,
    const uint8_t session[static 16], sp_done_cb cb, void *arg)
{
	struct masks *m = calloc(1, sizeof(*m));
	char id[SP_UUID_TEXT];
	const char *p[1] = {id};

	if (m == NULL) {
		cb(arg, SP_ERR_NOMEM);
		return;
	}
	*m = (struct masks){.b = b, .play = play, .is_search = is_search,
	    .cb = cb, .arg = arg};
	memcpy(m->session, session, 16);
	sp_uuid_text(id, session);
	sp_store_load(b->store, SP_T_SECRETS, MASKED, p, 1, loaded, m);
}
