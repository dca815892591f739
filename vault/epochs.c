/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rotation of the KEKs. A new epoch of each is made and written down first; from
 * then on everything new is sealed with it, and everything old opens still.
 * The broker then hands in each row, which comes back sealed with the new
 * epoch if, and only if, its seal holds. At last older epochs are dropped. A
 * crash anywhere leaves more epochs than needed, never fewer.
 */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "vault/rows.h"
#include "vault/release.h"
#include "vault/root_int.h"
#include "vault/secrets.h"
#include "vault/vaultd.h"
#include "vault/poison.h"

static const struct sp_kek_row *
newest(const struct sp_state *s, uint8_t purpose)
{
	const struct sp_kek_row *best = NULL;

	for (size_t i = 0; i < s->n_keks; i++)
		if (s->keks[i].purpose == purpose &&
		    (best == NULL || s->keks[i].epoch > best->epoch))
			best = &s->keks[i];
	return best;
}

static uint32_t
epoch_of(const struct sp_state *s, uint8_t purpose)
{
	const struct sp_kek_row *k = newest(s, purpose);

	return k == NULL ? 0 : k->epoch;
}

size_t
sp_root_n_old(const struct sp_state *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n_keks; i++)
		n += newest(s, s->keks[i].purpose) != &s->keks[i];
	return n;
}

static void
drop(struct sp_state *s, bool own_alone)
{
	size_t keep = 0;
	struct sp_kek_row rows[SP_KEKS_MAX];

	for (size_t i = 0; i < s->n_keks; i++) {
		uint8_t p = s->keks[i].purpose;
		bool is_own = p == SP_KEK_SIGNING || p == SP_KEK_RECORDINGS;

		if (newest(s, p) == &s->keks[i] || (own_alone && !is_own))
			rows[keep++] = s->keks[i];
	}
	memset(s->keks, 0, sizeof(s->keks));
	memcpy(s->keks, rows, keep * sizeof(rows[0]));
	s->n_keks = keep;
}

bool
sp_root_drop_epochs(struct sp_state *next)
{
	bool had = sp_root_n_old(next) > 0;

	drop(next, false);
	return had;
}

enum sp_err
sp_root_add_epochs(const struct sp_root *r, struct sp_state *next)
{
	struct sp_secret kek[SP_KEK_LAST_ + 1] = {{0}};
	enum sp_err e = SP_OK;

	if (next->n_keks + SP_KEK_LAST_ > SP_KEKS_MAX)
		return SP_ERR_FULL;
	for (uint8_t p = 1; e == SP_OK && p <= SP_KEK_LAST_; p++)
		e = epoch_of(next, p) == UINT32_MAX ? SP_ERR_FULL :
		    sp_root_new_kek(&r->root, next, p, epoch_of(next, p) + 1,
		    &kek[p]);
	if (e == SP_OK)
		e = sp_root_wrap_own(r, &kek[SP_KEK_SIGNING],
		    &kek[SP_KEK_RECORDINGS], next);
	for (uint8_t p = 1; p <= SP_KEK_LAST_; p++)
		sp_secret_free(&kek[p]);
	if (e == SP_OK)
		drop(next, true);
	return e;
}

/* -------------------------------------------------------- secrets and rows */

enum sp_err
sp_secret_renew(const struct sp_root *r, const struct sp_secret_row *row,
    struct sp_span sealed, uint64_t new_version, bool force, uint8_t *state,
    struct sp_buf *out)
{
	const struct sp_kek *kek = sp_root_kek(r, SP_KEK_SECRETS, 0);
	struct sp_secret_row next = *row;
	struct sp_span s = sealed;
	SP_SECRET_AUTO clear = {0};
	const uint8_t *skip;
	uint32_t epoch = 0;

	*state = SP_RENEWED_NOT;
	if (kek == NULL)
		return SP_ERR_SEALED;
	if (new_version != row->version && new_version != row->version + 1)
		return SP_ERR_INVAL;
	if (sp_secret_unseal(r, row, sealed, &clear) != SP_OK ||
	    sp_get(&s, 5, &skip) != SP_OK || sp_get_u32(&s, &epoch) != SP_OK)
		return SP_OK;
	if (epoch == kek->epoch && !force) {
		*state = SP_RENEWED_IS;
		return SP_OK;
	}
	next.version = new_version;
	SP_TRY(sp_secret_seal(r, &next, sp_span_of(clear.p, clear.n), out));
	*state = SP_RENEWED_NOW;
	return SP_OK;
}

uint8_t
sp_row_epoch(const struct sp_root *r, struct sp_span table,
    const uint8_t id[static 16], uint64_t version, struct sp_span canon,
    const uint8_t mac[static 32])
{
	uint8_t newest_mac[32], state = SP_RENEWED_NOT;

	if (sp_row_mac(r, table, id, version, canon, newest_mac) != SP_OK)
		return SP_RENEWED_NOT;
	if (sodium_memcmp(newest_mac, mac, 32) == 0)
		state = SP_RENEWED_IS;
	else if (sp_row_is_sealed(r, table, id, version, canon, mac))
		state = SP_RENEWED_NOW;
	sodium_memzero(newest_mac, sizeof(newest_mac));
	return state;
}

enum sp_err
sp_broker_rewrap(struct sp_vaultd *v, struct sp_packet *p)
{
	SP_BUF_AUTO out = {.max = 8192};
	struct sp_msg_v_rewrap_r r = {0};
	struct sp_secret_row row;
	struct sp_msg_v_rewrap m;

	SP_TRY(sp_dec_v_rewrap(p->body, &m));
	row = (struct sp_secret_row){.kind = m.kind, .version = m.version};
	memcpy(row.id, m.id, 16);
	memcpy(row.owner, m.owner, 16);
	(void)sp_releases_last(v->root.releases, row.id, row.rule);
	if (sp_secret_renew(&v->root, &row, m.sealed, m.new_version, m.force == 1,
	    &r.state, &out) != SP_OK)
		r.state = SP_RENEWED_NOT;
	if (r.state == SP_RENEWED_NOW)
		r.sealed = sp_buf_span(&out);
	return sp_send_v_rewrap_r(&v->brk, p->corr, &r, NULL);
}

enum sp_err
sp_broker_row_renew(struct sp_vaultd *v, struct sp_packet *p)
{
	struct sp_msg_v_row_renew_r r = {0};
	struct sp_msg_v_row_renew m;

	SP_TRY(sp_dec_v_row_renew(p->body, &m));
	r.state = sp_row_epoch(&v->root, m.table, m.id, m.version, m.canon, m.mac);
	return sp_send_v_row_renew_r(&v->brk, p->corr, &r, NULL);
}

/* ------------------------------------------------------- the administrator */

/* The draft opens whole, with the keys that are in it, before it is written:
 * a state that does not is never on disk. */
static enum sp_err
change_keys(struct sp_vaultd *v)
{
	struct sp_root fresh = {.releases = v->root.releases};
	SP_SECRET_AUTO root = {0};
	enum sp_err e;

	v->draft.format = SP_STATE_FORMAT;
	SP_TRY(sp_root_sign_state(&v->root.root, &v->draft));
	SP_TRY(sp_secret_new(&root, v->root.root.n));
	memcpy(root.p, v->root.root.p, root.n);
	SP_TRY(sp_root_open_with(&fresh, &v->draft, &root));
	e = sp_vaultd_save(v);
	if (e != SP_OK) {
		sp_root_close(&fresh);
		return e;
	}
	sp_root_close(&v->root);
	v->root = fresh;
	return SP_OK;
}

static enum sp_err
begin(struct sp_vaultd *v, struct sp_msg_vc_rotate_r *r)
{
	if (sp_root_n_old(&v->state) > 0) {
		r->is_resumed = 1;
		return SP_OK;
	}
	v->draft = v->state;
	SP_TRY(sp_root_add_epochs(&v->root, &v->draft));
	return change_keys(v);
}

static enum sp_err
finish(struct sp_vaultd *v)
{
	v->draft = v->state;
	return sp_root_drop_epochs(&v->draft) ? change_keys(v) : SP_OK;
}

enum sp_err
sp_control_rotate(struct sp_vaultd *v, struct sp_control *c, struct sp_packet *p)
{
	struct sp_msg_vc_rotate_r r = {.err = SP_ERR_SEALED};
	struct sp_msg_vc_rotate m;
	const char *what;
	char note[96];
	enum sp_err e = SP_ERR_SEALED;

	SP_TRY(sp_dec_vc_rotate(p->body, &m));
	if (m.step < 1 || m.step > 3)
		return SP_ERR_PROTO;
	if (v->root.is_open)
		e = m.step == 1 ? begin(v, &r) : m.step == 3 ? finish(v) : SP_OK;
	r.err = (uint8_t)e;
	r.text = sp_span_str(e == SP_OK ? "" : e == SP_ERR_SEALED ?
	    "the vault is sealed: sallyport vault unseal" : e == SP_ERR_IO ||
	    e == SP_ERR_FULL ? "the state file could not be written: nothing has "
	    "changed" : sp_err_text(e));
	if (v->state_fault == NULL) {
		r.epoch = epoch_of(&v->state, SP_KEK_ROWS);
		r.old = (uint32_t)sp_root_n_old(&v->state);
	}
	snprintf(note, sizeof(note), "epoch=%u old=%u: %s", r.epoch, r.old,
	    sp_err_text(e));
	what = m.step == 3 ? "vault_old_keys_dropped" : "vault_keys_rotated";
	if (m.step != 2 && r.is_resumed == 0)
		sp_control_note(v, c, what, note);
	return sp_send_vc_rotate_r(&c->link, p->corr, &r, NULL);
}
