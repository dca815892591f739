/* SPDX-License-Identifier: Apache-2.0 */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "vault/vaultd.h"
#include "vault/poison.h"

enum sp_err
sp_vaultd_save(struct sp_vaultd *v)
{
	struct sp_state *next = &v->draft;
	SP_BUF_AUTO file = {.max = SP_STATE_MAX};

	if (!v->root.is_open)
		return SP_ERR_SEALED;
	if (v->dir_fd < 0)
		return SP_ERR_IO;
	next->format = SP_STATE_FORMAT;
	SP_TRY(sp_root_sign_state(&v->root.root, next));
	SP_TRY(sp_state_encode(next, &file));
	SP_TRY(sp_file_write(v->dir_fd, SP_STATE_FILE, sp_buf_span(&file), true));
	v->state = *next;
	return SP_OK;
}

/* -------------------------------------------------------------------- list */

static enum sp_err
put_row(const struct sp_slot *t, struct sp_buf *b)
{
	uint8_t k, n;

	sp_slot_shares_kn(t, &k, &n);
	SP_TRY(sp_buf_put_u8(b, t->id));
	SP_TRY(sp_buf_put_u8(b, t->type));
	SP_TRY(sp_buf_put_u8(b, !t->is_pending));
	SP_TRY(sp_buf_put_u64(b, (uint64_t)t->made_us));
	SP_TRY(sp_buf_put_u8(b, k));
	SP_TRY(sp_buf_put_u8(b, n));
	SP_TRY(sp_buf_put_bytes(b, sp_span_str(t->label)));
	return sp_buf_put_bytes(b, sp_span_of(t->extra,
	    t->type == SP_SLOT_PKCS11 ? t->extra_n : 0));
}

static enum sp_err
on_slots(struct sp_vaultd *v, struct sp_control *c, struct sp_packet *p)
{
	SP_BUF_AUTO rows = {.max = 16384};
	struct sp_msg_vc_slots_r r = {0};
	struct sp_msg_vc_slots m;

	SP_TRY(sp_dec_vc_slots(p->body, &m));
	if (v->state_fault != NULL)
		r.err = SP_ERR_NOTFOUND;
	for (size_t i = 0; r.err == SP_OK && i < v->state.n_slots; i++)
		SP_TRY(put_row(&v->state.slots[i], &rows));
	r.rows = sp_buf_span(&rows);
	return sp_send_vc_slots_r(&c->link, p->corr, &r, NULL);
}

/* --------------------------------------------------------------------- add */

static const char *
why_not(const struct sp_vaultd *v, const struct sp_msg_vc_slot_add *m)
{
	if (!v->root.is_open)
		return "the vault is sealed: sallyport vault unseal";
	if (v->state.n_slots == SP_SLOTS_MAX)
		return "there are 16 slots already: remove one first";
	if (m->label.n > 0 && !sp_name_is_valid(m->label))
		return "a label is 1 to 32 of a-z 0-9 . _ -";
	if (m->type == SP_SLOT_PASSPHRASE && m->secret.n < SP_PASSPHRASE_MIN)
		return "the passphrase is too short: 8 bytes at least";
	if (m->type == SP_SLOT_CREDENTIAL && m->secret.n < SP_CREDENTIAL_MIN)
		return "a credential has 32 random bytes at least";
	if (m->type == SP_SLOT_PKCS11 && (m->secret.n < SP_CREDENTIAL_MIN ||
	    m->extra.n == 0))
		return "a token wraps 32 random bytes at least";
	if (m->type == SP_SLOT_SHARES && (m->k < SP_SHARES_MIN || m->k > m->n ||
	    m->n > SP_SHARES_MAX))
		return "shares: 2 <= k <= n <= 32";
	return NULL;
}

static enum sp_err
texts_of(const struct sp_share *s, uint8_t n, struct sp_buf *out)
{
	for (uint8_t i = 0; i < n; i++) {
		SP_TRY(sp_share_text(&s[i], true, out));
		SP_TRY(sp_buf_put(out, "\n", 1));
	}
	return SP_OK;
}

static enum sp_err
make_slot(const struct sp_vaultd *v, const struct sp_msg_vc_slot_add *m,
    struct sp_slot *t, struct sp_buf *texts)
{
	const struct sp_secret *root = &v->root.root;
	SP_SECRET_AUTO room = {0};
	struct sp_share *s;

	switch (m->type) {
	case SP_SLOT_PASSPHRASE:
		return sp_slot_make_passphrase(t, m->secret, &sp_kdf_moderate,
		    root);
	case SP_SLOT_CREDENTIAL:
		*t = (struct sp_slot){.type = SP_SLOT_CREDENTIAL};
		return sp_slot_make_key(t, m->secret, root);
	case SP_SLOT_PKCS11:
		*t = (struct sp_slot){.type = SP_SLOT_PKCS11,
		    .extra_n = (uint16_t)m->extra.n};
		SP_ASSERT(m->extra.n <= sizeof(t->extra));
		memcpy(t->extra, m->extra.p, m->extra.n);
		return sp_slot_make_key(t, m->secret, root);
	case SP_SLOT_SHARES:
		SP_TRY(sp_secret_new(&room, SP_SHARES_MAX * sizeof(*s)));
		s = (struct sp_share *)(void *)room.p;
		SP_TRY(sp_slot_make_shares(t, m->k, m->n, root, s));
		return texts_of(s, m->n, texts);
	default:
		return SP_ERR_UNSUPPORTED;
	}
}

static enum sp_err
add(struct sp_vaultd *v, const struct sp_msg_vc_slot_add *m, uint8_t *id,
    struct sp_buf *texts)
{
	struct sp_state *next = &v->draft;
	struct sp_slot t = {0};

	SP_TRY(make_slot(v, m, &t, texts));
	t.made_us = sp_now_us();
	SP_TRY(sp_span_cstr(m->label, t.label, sizeof(t.label)));
	*next = v->state;
	SP_TRY(sp_state_add_slot(next, &t));
	*id = next->slots[next->n_slots - 1].id;
	return sp_vaultd_save(v);
}

static const char *
add_text(enum sp_err e, const struct sp_msg_vc_slot_add *m)
{
	if (e == SP_ERR_NOMEM)
		return "not enough memory for Argon2id (256 MiB are needed)";
	if (e == SP_ERR_IO || e == SP_ERR_FULL)
		return "the state file could not be written: nothing has changed";
	if (e != SP_OK)
		return sp_err_text(e);
	return m->type == SP_SLOT_SHARES ? "added; it opens nothing until all "
	    "shares were given back once: sallyport vault slots verify" :
	    "added";
}

static enum sp_err
on_add(struct sp_vaultd *v, struct sp_control *c, struct sp_packet *p)
{
	SP_BUF_AUTO texts = {.max = 8192};
	struct sp_msg_vc_slot_add_r r = {.err = SP_ERR_STATE};
	struct sp_msg_vc_slot_add m;
	char note[96];
	const char *why;
	enum sp_err e;

	SP_TRY(sp_dec_vc_slot_add(p->body, &m));
	why = why_not(v, &m);
	if (why == NULL) {
		e = add(v, &m, &r.slot, &texts);
		r.err = (uint8_t)e;
		why = add_text(e, &m);
	}
	snprintf(note, sizeof(note), "slot=%u type=%u: %s", r.slot, m.type,
	    sp_err_text(r.err));
	sp_packet_wipe(&c->link, p);
	sp_control_note(v, c, r.err == SP_OK ? "vault_slot_added" :
	    "vault_slot_not_added", note);
	r.text = sp_span_str(why);
	if (r.err == SP_OK)
		r.shares = sp_buf_span(&texts);
	else
		r.slot = 0;
	return sp_send_vc_slot_add_r(&c->link, p->corr, &r, NULL);
}

/* ------------------------------------------------------------------ remove */

/* A demonstration's key lies beside the vault: outside of one it is no way in
 * that an owner may rely on. */
static bool
opens(const struct sp_vaultd *v, const struct sp_slot *t)
{
	return !t->is_pending && (t->type != SP_SLOT_DEMO || v->is_demo);
}

static const char *
why_keep(struct sp_vaultd *v, uint8_t id)
{
	if (!v->root.is_open)
		return "the vault is sealed: sallyport vault unseal";
	if (sp_state_slot(&v->state, id) == NULL)
		return "there is no slot of that number";
	for (size_t i = 0; i < v->state.n_slots; i++)
		if (v->state.slots[i].id != id && opens(v, &v->state.slots[i]))
			return NULL;
	return "no other slot could unseal the vault: add one first";
}

static enum sp_err
on_remove(struct sp_vaultd *v, struct sp_control *c, struct sp_packet *p)
{
	struct sp_msg_vc_slot_remove m;
	enum sp_err e = SP_ERR_DENIED;
	const char *why;
	char note[160];

	SP_TRY(sp_dec_vc_slot_remove(p->body, &m));
	why = why_keep(v, m.slot);
	if (why == NULL) {
		v->draft = v->state;
		sp_state_remove_slot(&v->draft, m.slot);
		e = sp_vaultd_save(v);
		why = e == SP_OK ? "removed" :
		    "the state file could not be written: nothing has changed";
	}
	if (e == SP_OK && v->ceremony.what != 0 && v->ceremony.slot == m.slot)
		sp_ceremony_end(v, SP_ERR_STATE, "its slot was removed");
	snprintf(note, sizeof(note), "slot=%u: %s", m.slot, why);
	sp_control_note(v, c, e == SP_OK ? "vault_slot_removed" :
	    "vault_slot_not_removed", note);
	return sp_control_done(c, p->corr, e, why);
}

enum sp_err
sp_control_slots(struct sp_vaultd *v, struct sp_control *c, struct sp_packet *p)
{
	switch (p->type) {
	case SP_MSG_vc_slots:
		return on_slots(v, c, p);
	case SP_MSG_vc_slot_add:
		return on_add(v, c, p);
	case SP_MSG_vc_slot_remove:
		return on_remove(v, c, p);
	default:
		return SP_ERR_PROTO;
	}
}
