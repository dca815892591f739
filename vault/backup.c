/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/backup.h"

#include <string.h>

#include "vault/aead.h"
#include "vault/poison.h"

#define LABEL "sallyport backup v1"

/* Of the root key itself: it outlives every epoch of the KEKs. */
static enum sp_err
wrapping_key(const struct sp_root *r, struct sp_secret *out)
{
	if (!r->is_open)
		return SP_ERR_SEALED;
	return sp_key_derive(r->root.p, LABEL, sp_span_str(""), out);
}

static enum sp_err
make(const struct sp_root *r, struct sp_secret *key, struct sp_buf *wrapped)
{
	SP_SECRET_AUTO wrap = {0};

	SP_TRY(wrapping_key(r, &wrap));
	SP_TRY(sp_secret_random(key, SP_KEY_BYTES));
	return sp_aead_seal(wrap.p, sp_span_str(LABEL), sp_span_of(key->p, key->n),
	    wrapped);
}

static enum sp_err
open_key(const struct sp_root *r, struct sp_span wrapped, struct sp_secret *key)
{
	SP_SECRET_AUTO wrap = {0};

	SP_TRY(wrapping_key(r, &wrap));
	SP_TRY(sp_aead_open(wrap.p, sp_span_str(LABEL), wrapped, key));
	return key->n == SP_KEY_BYTES ? SP_OK : SP_ERR_CRYPTO;
}

enum sp_err
sp_on_backup_key(struct sp_vaultd *v, struct sp_control *c, struct sp_packet *p)
{
	SP_BUF_AUTO wrapped = {.max = 128};
	SP_SECRET_AUTO key = {0};
	struct sp_msg_vc_backup_key m;
	struct sp_msg_vc_backup_key_r r = {.err = SP_ERR_SEALED};
	enum sp_err e;

	SP_TRY(sp_dec_vc_backup_key(p->body, &m));
	e = m.wrapped.n == 0 ? make(&v->root, &key, &wrapped) :
	    open_key(&v->root, m.wrapped, &key);
	sp_control_note(v, c, m.wrapped.n == 0 ? "backup_key_made" :
	    "backup_key_opened", sp_err_text(e));
	r.err = (uint8_t)e;
	if (e == SP_OK) {
		r.wrapped = sp_buf_span(&wrapped);
		r.key = sp_span_of(key.p, key.n);
	}
	return sp_send_vc_backup_key_r(&c->link, p->corr, &r, NULL);
}
