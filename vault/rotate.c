/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/rotate.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "vault/aead.h"
#include "vault/kinds.h"
#include "vault/passgen.h"
#include "vault/poison.h"

void
sp_rotation_free(struct sp_rotation *r)
{
	if (r == NULL)
		return;
	sp_buf_fini(&r->old_sealed);
	sp_buf_fini(&r->new_sealed);
	free(r);
}

/* ------------------------------------------------------------ a new secret */

static enum sp_err
make(const struct sp_msg_v_rotate_make *m, struct sp_secret *s)
{
	struct sp_pass_rule rule;
	char why[128];

	if (!sp_kind_is(m->kind, SP_KIND_ROTATES))
		return SP_ERR_INVAL;
	if (m->kind != SP_CRED_SSH_PASSWORD)
		return sp_secret_make(m->kind, s);
	/* Parsed here again: what the broker says may be anything. */
	SP_TRY(sp_pass_rule_parse(m->rule, &rule, why));
	return sp_pass_make(&rule, s);
}

enum sp_err
sp_rotate_tag(const struct sp_root *root, const struct sp_secret_row *row,
    const struct sp_secret *s, uint8_t tag[static 32])
{
	static const char label[] = "sallyport secret tag v1";
	crypto_generichash_state st;
	SP_SECRET_AUTO key = {0};
	uint8_t ver[8];
	int bad;

	if (!root->is_open)
		return SP_ERR_SEALED;
	for (size_t i = 0; i < 8; i++)
		ver[i] = (uint8_t)(row->version >> (8 * i));
	/* Not of a KEK: epochs go, tags in rows and recordings stay. */
	SP_TRY(sp_key_derive(root->audit.p, label, (struct sp_span){0}, &key));
	bad = crypto_generichash_init(&st, key.p, key.n, 32);
	bad |= crypto_generichash_update(&st, (const uint8_t *)label, sizeof(label));
	bad |= crypto_generichash_update(&st, row->id, 16);
	bad |= crypto_generichash_update(&st, ver, 8);
	bad |= crypto_generichash_update(&st, s->p, s->n);
	bad |= crypto_generichash_final(&st, tag, 32);
	sodium_memzero(&st, sizeof(st));
	return bad == 0 ? SP_OK : SP_ERR_CRYPTO;
}

enum sp_err
sp_rotate_make(const struct sp_root *root, const struct sp_msg_v_rotate_make *m,
    struct sp_buf *sealed, uint8_t tag[static 32], struct sp_buf *public_key)
{
	struct sp_secret_row row = {.kind = m->kind, .version = m->version};
	SP_SECRET_AUTO s = {0};

	if (!root->is_open)
		return SP_ERR_SEALED;
	memcpy(row.id, m->id, 16);
	memcpy(row.owner, m->owner, 16);
	if (sp_uuid_is_nil(row.id) || sp_uuid_is_nil(row.owner) ||
	    row.version == 0)
		return SP_ERR_INVAL;
	SP_TRY(make(m, &s));
	SP_TRY(sp_secret_seal(root, &row, sp_span_of(s.p, s.n), sealed));
	SP_TRY(sp_secret_shown(m->kind, &s, public_key));
	return sp_rotate_tag(root, &row, &s, tag);
}

/* --------------------------------------------------------------- the lease */

static enum sp_err
no(char text[static 256], enum sp_err e, const char *why)
{
	snprintf(text, 256, "%s", why);
	return e;
}

/* It must open now, before anybody has connected for it. */
static enum sp_err
check(struct sp_leases *t, const struct sp_secret_row *row,
    struct sp_span sealed, const uint8_t session[static 16],
    char text[static 256])
{
	SP_SECRET_AUTO s = {0};
	enum sp_err e = SP_ERR_INVAL;

	if (!sp_kind_is(row->kind, SP_KIND_ROTATES))
		return no(text, e, "a secret of this kind is not rotated");
	e = sp_secret_unseal(t->root, row, sealed, &s);
	if (e == SP_ERR_CRYPTO)
		t->ops.event(t->ops.arg, "secret_row_broken", session,
		    "a version of a secret is not its row's");
	return e == SP_OK ? e : no(text, e, "a version of the secret does not "
	    "open: its row was changed, or belongs elsewhere");
}

static struct sp_rotation *
rotation_of(const struct sp_msg_v_rotate_lease *m)
{
	struct sp_rotation *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	sp_buf_init(&r->old_sealed, 8192);
	sp_buf_init(&r->new_sealed, 8192);
	r->new = (struct sp_secret_row){.kind = m->kind,
	    .version = m->new_version};
	r->old = (struct sp_secret_row){.kind = m->old_kind,
	    .version = m->old_version};
	memcpy(r->new.id, m->new_id, 16);
	memcpy(r->new.owner, m->owner, 16);
	memcpy(r->old.id, m->old_id, 16);
	memcpy(r->old.owner, m->owner, 16);
	if (sp_span_cstr(m->account, r->account, sizeof(r->account)) != SP_OK ||
	    sp_buf_put(&r->new_sealed, m->new_sealed.p, m->new_sealed.n) != SP_OK ||
	    sp_buf_put(&r->old_sealed, m->old_sealed.p, m->old_sealed.n) != SP_OK) {
		sp_rotation_free(r);
		return NULL;
	}
	return r;
}

enum sp_err
sp_rotate_lease(struct sp_leases *t, const struct sp_msg_v_rotate_lease *m,
    char text[static 256])
{
	struct sp_rotation *r;
	struct sp_lease *l = NULL;
	enum sp_err e = SP_OK;

	text[0] = '\0';
	for (size_t i = 0; i < t->n; i++)
		if (t->row[i]->kind != 0 && sp_span_eq(sp_span_of(
		    t->row[i]->session, 16), sp_span_of(m->session, 16)) &&
		    t->row[i]->state != SP_LEASE_ENDED)
			l = t->row[i];
	if (l == NULL || l->rotation != NULL || l->state == SP_LEASE_USED)
		return no(text, SP_ERR_STATE, "there is no lease for it");
	/* What is of another target is not set at this one. */
	if (!sp_name_is_valid(m->account) || !sp_span_eq(sp_span_of(m->owner, 16),
	    sp_span_of(l->target, 16)))
		return no(text, SP_ERR_DENIED, "the secret belongs to another "
		    "target");
	if ((r = rotation_of(m)) == NULL)
		return no(text, SP_ERR_NOMEM, "out of memory");
	e = check(t, &r->new, m->new_sealed, m->session, text);
	if (e == SP_OK && m->old_sealed.n > 0)
		e = check(t, &r->old, m->old_sealed, m->session, text);
	if (e != SP_OK) {
		sp_rotation_free(r);
		return e;
	}
	l->rotation = r;
	return SP_OK;
}

/* -------------------------------------------------------------- the egress */

/* Of a key its public half: the private one stays here. */
static enum sp_err
shown(const struct sp_secret_row *row, struct sp_secret *s)
{
	SP_BUF_AUTO blob = {.max = 2048};

	if (row->kind == SP_CRED_SSH_PASSWORD)
		return SP_OK;
	SP_TRY(sp_secret_shown(row->kind, s, &blob));
	SP_TRY(sp_secret_new(s, blob.len));
	memcpy(s->p, sp_buf_span(&blob).p, blob.len);
	return SP_OK;
}

static enum sp_err
one(const struct sp_lease *l, const struct sp_secret_row *row,
    struct sp_span sealed, uint8_t tag[static 32], struct sp_secret *out)
{
	const struct sp_root *root = l->table->root;

	SP_TRY(sp_secret_unseal(root, row, sealed, out));
	SP_TRY(sp_rotate_tag(root, row, out, tag));
	return shown(row, out);
}

static void
put(struct sp_secret *to, size_t *at, const struct sp_secret *s)
{
	for (size_t i = 0; i < 4; i++)
		to->p[(*at)++] = (uint8_t)(s->n >> (8 * i));
	if (s->n > 0)
		memcpy(to->p + *at, s->p, s->n);
	*at += s->n;
}

static enum sp_err
give(struct sp_lease *l, uint64_t corr)
{
	struct sp_rotation *r = l->rotation;
	SP_SECRET_AUTO old = {0}, new = {0}, both = {0};
	struct sp_msg_rotation m = {.account = sp_span_str(r->account),
	    .kind = r->new.kind};
	size_t at = 0;
	int fd = -1;

	if (r->old_sealed.len > 0)
		SP_TRY(one(l, &r->old, sp_buf_span(&r->old_sealed), m.old_tag,
		    &old));
	SP_TRY(one(l, &r->new, sp_buf_span(&r->new_sealed), m.new_tag, &new));
	SP_TRY(sp_secret_new(&both, 8 + old.n + new.n));
	put(&both, &at, &old);
	put(&both, &at, &new);
	m.len = (uint32_t)both.n;
	SP_TRY(sp_lease_memfd(&both, &fd));
	return sp_send_rotation(&l->link, corr, &m, &fd);
}

enum sp_err
sp_rotate_take(struct sp_lease *l, struct sp_packet *p)
{
	struct sp_msg_take_rotation m;
	const char *why = NULL;
	enum sp_err e;

	SP_TRY(sp_dec_take_rotation(p->body, &m));
	if (l->state != SP_LEASE_USED)
		why = "rotation_before_login";
	else if (l->rotation == NULL)
		why = "rotation_not_granted";
	else if (sp_lease_is_over_time(l))
		why = "lease_expired";
	else if (!l->table->root->is_open)
		why = "vault_sealed";
	else if (!sp_lease_is_proved_for(l, m.session_id))
		why = "rotation_for_other_session";
	if (why != NULL)
		return sp_lease_refuse(l, why, "the secrets of a rotation were "
		    "asked for");
	e = give(l, p->corr);
	sp_rotation_free(l->rotation);
	l->rotation = NULL;
	return e == SP_OK ? e : sp_lease_refuse(l, "credential_failed",
	    sp_err_text(e));
}
