/* SPDX-License-Identifier: Apache-2.0 */
/* Break-glass kits: what the administrator asks for, one credential after the
 * other, sealed to shares (common/kit.h). One at a time; what is begun and not
 * ended within a minute is dropped. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/kit.h"
#include "common/shares.h"
#include "vault/show.h"
#include "vault/vaultd.h"
#include "vault/poison.h"

#define LIFE_US 60000000

struct sp_kit_making {
	bool is_there;
	int64_t due_us;
	struct sp_kit kit;
	struct sp_secret key, seed;
	struct sp_buf entries;	/* as they will stand in the file */
};

void
sp_kit_drop(struct sp_vaultd *v, int64_t boot_us)
{
	struct sp_kit_making *m = v->kit;

	if (m == NULL || m->due_us > boot_us)
		return;
	sp_secret_free(&m->key);
	sp_secret_free(&m->seed);
	sp_buf_fini(&m->entries);
	free(m);
	v->kit = NULL;
}

static enum sp_err
done(struct sp_control *c, uint64_t corr, enum sp_err e, const char *text)
{
	struct sp_msg_vc_done r = {.err = (uint8_t)e, .text = sp_span_str(text)};

	return sp_send_vc_done(&c->link, corr, &r, NULL);
}

static enum sp_err
begin(struct sp_vaultd *v, const struct sp_msg_vc_kit_begin *m)
{
	struct sp_kit_making *k;
	SP_SECRET_AUTO sk = {0};

	if (!v->root.is_open)
		return SP_ERR_SEALED;
	if (m->k < SP_SHARES_MIN || m->k > m->n || m->n > SP_SHARES_MAX ||
	    m->expires_us <= sp_now_us() || sp_uuid_is_nil(m->kit))
		return SP_ERR_INVAL;
	sp_kit_drop(v, INT64_MAX);
	if ((k = v->kit = calloc(1, sizeof(*k))) == NULL)
		return SP_ERR_NOMEM;
	k->due_us = sp_boot_us() + LIFE_US;
	sp_buf_init(&k->entries, SP_KIT_FILE_MAX);
	k->kit.k = m->k;
	k->kit.n = m->n;
	k->kit.made_us = sp_now_us();
	k->kit.expires_us = m->expires_us;
	memcpy(k->kit.kit, m->kit, 16);
	SP_TRY(sp_span_cstr(m->note, k->kit.note, sizeof(k->kit.note)));
	SP_TRY(sp_secret_random(&k->key, SP_KEY_BYTES));
	SP_TRY(sp_secret_random(&k->seed, 32));
	SP_TRY(sp_secret_new(&sk, 64));
	return crypto_sign_seed_keypair(k->kit.receipt_key, sk.p, k->seed.p) == 0 ?
	    SP_OK : SP_ERR_CRYPTO;
}

enum sp_err
sp_on_kit_begin(struct sp_vaultd *v, struct sp_control *c, struct sp_packet *p)
{
	struct sp_msg_vc_kit_begin m;
	enum sp_err e;

	SP_TRY(sp_dec_vc_kit_begin(p->body, &m));
	e = begin(v, &m);
	if (e != SP_OK)
		sp_kit_drop(v, INT64_MAX);
	return done(c, p->corr, e, e == SP_OK ? "" : e == SP_ERR_INVAL ?
	    "a kit has 2 to 32 shares, of which as many or fewer open it, and an "
	    "end in the future" : sp_err_text(e));
}

static enum sp_err
fill(struct sp_kit_entry *e, const struct sp_msg_vc_kit_add *m)
{
	*e = (struct sp_kit_entry){.kind = m->kind, .version = m->version,
	    .port = m->port, .host_keys = m->host_keys};
	memcpy(e->secret, m->id, 16);
	SP_TRY(sp_span_cstr(m->account, e->account, sizeof(e->account)));
	SP_TRY(sp_span_cstr(m->target_name, e->target, sizeof(e->target)));
	SP_TRY(sp_span_cstr(m->addr, e->addr, sizeof(e->addr)));
	return sp_name_is_valid(m->account) && sp_name_is_valid(m->target_name) ?
	    SP_OK : SP_ERR_INVAL;
}

static enum sp_err
add(struct sp_vaultd *v, const struct sp_msg_vc_kit_add *m)
{
	SP_BUF_AUTO part = {.max = 8192}, aad = {.max = 8192};
	SP_BUF_AUTO sealed = {.max = SP_KIT_SEALED_MAX};
	struct sp_secret_row row = {.kind = m->kind, .version = m->version};
	SP_SECRET_AUTO kept = {0}, shown = {0};
	struct sp_kit_making *k = v->kit;
	struct sp_kit_entry e;

	if (!v->root.is_open)
		return SP_ERR_SEALED;
	if (k == NULL)
		return SP_ERR_STATE;
	if (k->kit.count == SP_KIT_ENTRIES_MAX)
		return SP_ERR_FULL;
	SP_TRY(fill(&e, m));
	memcpy(row.id, m->id, 16);
	memcpy(row.owner, m->owner, 16);
	sp_rule_digest(m->rule, row.rule);
	SP_TRY(sp_secret_unseal(&v->root, &row, m->sealed, &kept));
	SP_TRY(sp_secret_show(m->kind, &kept, &shown));
	SP_TRY(sp_kit_put_entry(&part, &e));
	SP_TRY(sp_kit_aad(&aad, k->kit.kit, k->kit.count, sp_buf_span(&part)));
	SP_TRY(sp_aead_seal(k->key.p, sp_buf_span(&aad),
	    sp_span_of(shown.p, shown.n), &sealed));
	SP_TRY(sp_buf_put(&k->entries, sp_buf_span(&part).p, part.len));
	SP_TRY(sp_buf_put_bytes(&k->entries, sp_buf_span(&sealed)));
	k->kit.count++;
	k->due_us = sp_boot_us() + LIFE_US;
	return SP_OK;
}

enum sp_err
sp_on_kit_add(struct sp_vaultd *v, struct sp_control *c, struct sp_packet *p)
{
	struct sp_msg_vc_kit_add m;
	enum sp_err e;

	SP_TRY(sp_dec_vc_kit_add(p->body, &m));
	e = add(v, &m);
	if (e != SP_OK)
		sp_kit_drop(v, INT64_MAX);	/* no half of a kit */
	return done(c, p->corr, e, e == SP_OK ? "" : e == SP_ERR_CRYPTO ?
	    "the stored secret does not open: its row was changed, or belongs "
	    "elsewhere" : e == SP_ERR_UNSUPPORTED ? "a credential of that kind has "
	    "no form that a kit could hold" : e == SP_ERR_FULL ||
	    e == SP_ERR_TOOBIG ? "the kit is full" : sp_err_text(e));
}

static enum sp_err
file_of(struct sp_kit_making *k, struct sp_buf *file)
{
	SP_BUF_AUTO box = {.max = 128};

	if (k->kit.count == 0)
		return SP_ERR_INVAL;
	SP_TRY(sp_kit_put_head(file, &k->kit));
	SP_TRY(sp_buf_put(file, sp_buf_span(&k->entries).p, k->entries.len));
	SP_TRY(sp_aead_seal(k->key.p, sp_buf_span(file),
	    sp_span_of(k->seed.p, k->seed.n), &box));
	return sp_buf_put_bytes(file, sp_buf_span(&box));
}

static enum sp_err
shares_of(const struct sp_kit_making *k, struct sp_buf *out)
{
	struct sp_share s[SP_SHARES_MAX];
	enum sp_err e;

	e = sp_shares_split(sp_span_of(k->key.p, k->key.n), k->kit.k, k->kit.n, s);
	for (size_t i = 0; e == SP_OK && i < k->kit.n; i++)
		if ((e = sp_share_text(&s[i], true, out)) == SP_OK)
			e = sp_buf_put(out, "\n", 1);
	sp_share_wipe(s, SP_SHARES_MAX);
	return e;
}

enum sp_err
sp_on_kit_end(struct sp_vaultd *v, struct sp_control *c, struct sp_packet *p)
{
	SP_BUF_AUTO file = {.max = SP_KIT_FILE_MAX}, shares = {.max = 8192};
	struct sp_msg_vc_kit_end m;
	struct sp_msg_vc_kit_r r = {.err = SP_ERR_STATE};
	struct sp_kit_making *k = v->kit;
	char detail[160], id[SP_UUID_TEXT];

	SP_TRY(sp_dec_vc_kit_end(p->body, &m));
	if (k != NULL && sodium_memcmp(k->kit.kit, m.kit, 16) == 0) {
		r.err = (uint8_t)file_of(k, &file);
		if (r.err == SP_OK)
			r.err = (uint8_t)shares_of(k, &shares);
		memcpy(r.receipt_key, k->kit.receipt_key, 32);
	}
	sp_uuid_text(id, m.kit);
	snprintf(detail, sizeof(detail), "uid=%ju kit=%s credentials=%zu: %s",
	    (uintmax_t)c->uid, id, k == NULL ? 0 : k->kit.count,
	    sp_err_text(r.err));
	sp_vaultd_event(v, "break_glass_kit_sealed", NULL, detail);
	sp_kit_drop(v, INT64_MAX);
	r.text = sp_span_str(r.err == SP_OK ? "" : sp_err_text(r.err));
	if (r.err == SP_OK) {
		r.file = sp_buf_span(&file);
		r.shares = sp_buf_span(&shares);
	}
	return sp_send_vc_kit_r(&c->link, p->corr, &r, NULL);
}
