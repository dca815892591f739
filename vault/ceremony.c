/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/ceremony.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "vault/vaultd.h"
#include "vault/poison.h"

_Static_assert(SP_SHARES_MAX * sizeof(struct sp_share) <= SP_SECRET_MAX,
    "the shares of a ceremony are one secret");

static struct sp_share *
shares_of(struct sp_ceremony *y)
{
	return (struct sp_share *)(void *)y->shares.p;
}

static struct sp_control *
owner_of(struct sp_vaultd *v)
{
	for (size_t i = 0; i < v->n_ctl; i++)
		if (v->ctl[i].serial == v->ceremony.owner)
			return &v->ctl[i];
	return NULL;
}

static enum sp_err
tell(struct sp_vaultd *v, struct sp_control *c, uint64_t corr, enum sp_err e,
    const char *text)
{
	const struct sp_ceremony *y = &v->ceremony;
	struct sp_msg_vc_ceremony_r r = {.err = (uint8_t)e,
	    .is_over = y->what == 0, .slot = y->slot, .given = (uint8_t)y->n,
	    .need = y->need, .text = sp_span_str(text)};

	return sp_send_vc_ceremony_r(&c->link, corr, &r, NULL);
}

/* Wipes what was given, keeps what is told: how many there were. */
static void
clear(struct sp_vaultd *v)
{
	sp_secret_free(&v->ceremony.shares);
	v->ceremony.what = 0;
}

/* To the operator, who waits for it. A link that is full or gone is found by
 * its own turn. */
static void
push(struct sp_vaultd *v, const struct sp_control *but, enum sp_err e,
    const char *text)
{
	struct sp_control *o = owner_of(v);

	if (o != NULL && o != but && tell(v, o, 0, e, text) != SP_OK)
		o->due_us = 0;
}

static void
over(struct sp_vaultd *v, const struct sp_control *but, enum sp_err e,
    const char *text)
{
	struct sp_control *o = owner_of(v);

	clear(v);
	if (o != NULL)
		o->due_us = sp_boot_us() + SP_CONTROL_IDLE_US;
	push(v, but, e, text);
}

void
sp_ceremony_end(struct sp_vaultd *v, enum sp_err e, const char *why)
{
	if (v->ceremony.what == 0)
		return;
	sp_vaultd_event(v, "share_ceremony_ended", NULL, why);
	over(v, NULL, e, why);
}

void
sp_ceremony_left(struct sp_vaultd *v, uint64_t serial)
{
	if (v->ceremony.what == 0 || v->ceremony.owner != serial)
		return;
	sp_vaultd_event(v, "share_ceremony_ended", NULL,
	    "its operator is gone: all shares are forgotten");
	clear(v);
}

void
sp_ceremony_tick(struct sp_vaultd *v, int64_t boot_us)
{
	if (v->ceremony.what != 0 && boot_us >= v->ceremony.due_us)
		sp_ceremony_end(v, SP_ERR_TIMEOUT, "the time of the ceremony is "
		    "over: all shares are forgotten");
}

/* ------------------------------------------------------------------- begin */

static const char *
may_begin(struct sp_vaultd *v, const struct sp_msg_vc_ceremony *m)
{
	struct sp_slot *t;

	if (v->ceremony.what != 0)
		return "a ceremony is under way: only who began it ends it, or "
		    "its time does";
	if (v->state_fault != NULL)
		return v->state_fault;
	if (m->what == SP_CEREMONY_PROVE) {
		t = sp_state_slot(&v->state, m->slot);
		if (!v->root.is_open)
			return "the vault is sealed: sallyport vault unseal";
		return t == NULL || t->type != SP_SLOT_SHARES ?
		    "that is no slot of shares" : NULL;
	}
	if (v->root.is_open)
		return "the vault is open already";
	for (size_t i = 0; i < v->state.n_slots; i++)
		if (v->state.slots[i].type == SP_SLOT_SHARES &&
		    !v->state.slots[i].is_pending)
			return NULL;
	return "no slot of shares can open this vault";
}

static void
take_hold(struct sp_vaultd *v, struct sp_control *c,
    const struct sp_msg_vc_ceremony *m)
{
	struct sp_ceremony *y = &v->ceremony;
	uint8_t k = 0, n = 0;

	y->what = m->what;
	y->n = 0;
	y->slot = m->what == SP_CEREMONY_PROVE ? m->slot : 0;
	if (y->slot != 0)
		sp_slot_shares_kn(sp_state_slot(&v->state, y->slot), &k, &n);
	y->need = n;	/* a proof is that of every share */
	y->owner = c->serial;
	y->uid = c->uid;
	y->due_us = sp_boot_us() + SP_CEREMONY_US;
	c->due_us = y->due_us;
}

static enum sp_err
on_begin(struct sp_vaultd *v, struct sp_control *c, struct sp_packet *p)
{
	struct sp_msg_vc_ceremony m;
	const char *why;

	SP_TRY(sp_dec_vc_ceremony(p->body, &m));
	if (c->is_guest || (m.what != SP_CEREMONY_UNSEAL &&
	    m.what != SP_CEREMONY_PROVE))
		return SP_ERR_PROTO;
	why = may_begin(v, &m);
	if (why == NULL && sp_secret_new(&v->ceremony.shares, SP_SHARES_MAX *
	    sizeof(struct sp_share)) != SP_OK)
		why = "no room for shares now";
	if (why != NULL)
		return tell(v, c, p->corr, SP_ERR_STATE, why);
	take_hold(v, c, &m);
	sp_control_note(v, c, "share_ceremony_begun", m.what ==
	    SP_CEREMONY_UNSEAL ? "to unseal" : "to prove a new slot");
	return tell(v, c, p->corr, SP_OK, "");
}

/* ------------------------------------------------------------------- shares */

/* The slot that this share is of; the first one of an unseal chooses it. */
static struct sp_slot *
slot_for(struct sp_vaultd *v, const struct sp_share *share, enum sp_err *e)
{
	struct sp_slot *t = sp_state_slot(&v->state, v->ceremony.slot);

	if (t != NULL) {
		*e = sp_slot_share_is_of(t, share);
		return t;
	}
	*e = SP_ERR_PROTO;
	for (size_t i = 0; i < v->state.n_slots; i++) {
		t = &v->state.slots[i];
		if (t->type != SP_SLOT_SHARES || t->is_pending)
			continue;
		*e = sp_slot_share_is_of(t, share);
		if (*e != SP_ERR_PROTO)
			return t;
	}
	return NULL;
}

static enum sp_err
keep(struct sp_vaultd *v, const struct sp_share *share)
{
	struct sp_ceremony *y = &v->ceremony;
	struct sp_share *all = shares_of(y);
	struct sp_slot *t;
	uint8_t k, n;
	size_t bad;
	enum sp_err e;

	t = slot_for(v, share, &e);
	if (e != SP_OK)
		return e;
	SP_ASSERT(t != NULL && y->n < SP_SHARES_MAX);
	all[y->n] = *share;
	e = sp_shares_check(all, y->n + 1, &bad);
	if (e != SP_OK && e != SP_ERR_AGAIN) {
		sp_share_wipe(&all[y->n], 1);
		return e;
	}
	y->n++;
	y->slot = t->id;
	sp_slot_shares_kn(t, &k, &n);
	y->need = y->what == SP_CEREMONY_UNSEAL ? k : n;
	return SP_OK;
}

static const char *
refusal(enum sp_err e, char text[static 160], uint8_t index)
{
	switch ((int)e) {
	case SP_ERR_SYNTAX:
		return "that is no share: it begins with SPS1";
	case SP_ERR_UNSUPPORTED:
		return "that share is of another version of sallyport";
	case SP_ERR_PROTO:
		return "that share is of another set";
	case SP_ERR_EXISTS:
		snprintf(text, 160, "share %u was given already", index);
		return text;
	case SP_ERR_CRYPTO:
		if (index == 0)
			return "that share was typed wrong: its check does not "
			    "fit";
		snprintf(text, 160, "share %u is not the one that was given out",
		    index);
		return text;
	default:
		return sp_err_text(e);
	}
}

/* All are there. */
static enum sp_err
conclude(struct sp_vaultd *v)
{
	struct sp_ceremony *y = &v->ceremony;
	struct sp_slot *t = sp_state_slot(&v->state, y->slot);
	SP_SECRET_AUTO root = {0};

	SP_ASSERT(t != NULL);
	SP_TRY(sp_slot_open_shares(t, shares_of(y), y->n, &root));
	if (y->what == SP_CEREMONY_UNSEAL)
		return sp_vaultd_open_with(v, &root);
	if (root.n != v->root.root.n ||
	    sodium_memcmp(root.p, v->root.root.p, root.n) != 0)
		return SP_ERR_CRYPTO;
	v->draft = v->state;
	sp_state_slot(&v->draft, y->slot)->is_pending = false;
	return sp_vaultd_save(v);
}

static enum sp_err
finish(struct sp_vaultd *v, struct sp_control *c, uint64_t corr)
{
	bool unseals = v->ceremony.what == SP_CEREMONY_UNSEAL;
	uint8_t slot = v->ceremony.slot;
	enum sp_err e = conclude(v);
	char text[160];

	if (e == SP_OK)
		snprintf(text, sizeof(text), unseals ? "unsealed by slot %u" :
		    "slot %u is proven and can unseal from now on", slot);
	else
		snprintf(text, sizeof(text), "all shares of slot %u are there, yet "
		    "%s", slot, e == SP_ERR_CRYPTO ? "the vault's state file was "
		    "changed by someone without the key" : sp_err_text(e));
	sp_control_note(v, c, e != SP_OK ? "share_ceremony_failed" : unseals ?
	    "vault_unsealed" : "vault_slot_proven", text);
	over(v, c, e, text);
	return tell(v, c, corr, e, text);
}

static enum sp_err
refuse(struct sp_vaultd *v, struct sp_control *c, uint64_t corr, enum sp_err e,
    uint8_t index)
{
	char text[160];
	const char *why = refusal(e, text, index);

	sp_control_note(v, c, "share_refused", why);
	SP_TRY(tell(v, c, corr, e, why));
	return sp_control_bad_share(v, c) ? SP_OK : SP_ERR_DENIED;
}

static enum sp_err
on_share(struct sp_vaultd *v, struct sp_control *c, struct sp_packet *p)
{
	struct sp_msg_vc_share m;
	struct sp_share share = {0};
	uint8_t index = 0;
	char text[160];
	enum sp_err e;

	SP_TRY(sp_dec_vc_share(p->body, &m));
	if (v->ceremony.what == 0) {
		sp_packet_wipe(&c->link, p);
		return tell(v, c, p->corr, SP_ERR_STATE,
		    "no ceremony is under way: an operator begins it");
	}
	e = sp_share_parse(m.share, &share);
	sp_packet_wipe(&c->link, p);
	if (e == SP_OK) {
		index = share.index;
		e = keep(v, &share);
	}
	sp_share_wipe(&share, 1);
	if (e != SP_OK)
		return refuse(v, c, p->corr, e, index);
	snprintf(text, sizeof(text), "share %u of slot %u: %zu of %u given", index,
	    v->ceremony.slot, v->ceremony.n, v->ceremony.need);
	sp_control_note(v, c, "share_given", text);
	if (v->ceremony.n >= v->ceremony.need)
		return finish(v, c, p->corr);
	push(v, c, SP_OK, text);
	return tell(v, c, p->corr, SP_OK, text);
}

enum sp_err
sp_ceremony_serve(struct sp_vaultd *v, struct sp_control *c, struct sp_packet *p)
{
	return p->type == SP_MSG_vc_ceremony ? on_begin(v, c, p) :
	    on_share(v, c, p);
}
