/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/storekey.h"

#include <sodium.h>
#include <string.h>

#include "common/log.h"
#include "vault/aead.h"
#include "vault/poison.h"

#define FILE_NAME "storekey"
#define LABEL "sallyport store key v1"
#define PLAIN_MAX 600u

static enum sp_err
wrapping_key(const struct sp_root *r, struct sp_secret *out)
{
	if (!r->is_open)
		return SP_ERR_SEALED;
	return sp_key_derive(r->root.p, LABEL, sp_span_str(""), out);
}

static enum sp_err
keep(struct sp_vaultd *v, const struct sp_msg_vc_store_key *m)
{
	SP_BUF_AUTO plain = {.max = PLAIN_MAX};
	SP_BUF_AUTO sealed = {.max = PLAIN_MAX + SP_AEAD_OVERHEAD};
	SP_SECRET_AUTO wrap = {0};

	SP_TRY(wrapping_key(&v->root, &wrap));
	SP_TRY(sp_buf_put_bytes(&plain, m->access));
	SP_TRY(sp_buf_put_bytes(&plain, m->secret));
	SP_TRY(sp_aead_seal(wrap.p, sp_span_str(LABEL), sp_buf_span(&plain),
	    &sealed));
	return v->dir_fd < 0 ? SP_ERR_IO : sp_file_write(v->dir_fd, FILE_NAME,
	    sp_buf_span(&sealed), true);
}

enum sp_err
sp_on_store_key(struct sp_vaultd *v, struct sp_control *c, struct sp_packet *p)
{
	struct sp_msg_vc_store_key m;
	enum sp_err e;
	bool is_none;

	SP_TRY(sp_dec_vc_store_key(p->body, &m));
	is_none = m.access.n == 0;
	e = is_none != (m.secret.n == 0) ? SP_ERR_INVAL : keep(v, &m);
	sp_packet_wipe(&c->link, p);
	sp_control_note(v, c, is_none ? "store_key_forgotten" : "store_key_set",
	    sp_err_text(e));
	return sp_control_done(c, p->corr, e, e != SP_OK ? sp_err_text(e) : is_none ?
	    "the key of the store is forgotten" : "sealed: sallyport-ship is told it "
	    "while it works");
}

/* ------------------------------------------------------ the link of sallyport-ship */

static enum sp_err
on_ask(struct sp_vaultd *v, struct sp_packet *p)
{
	SP_BUF_AUTO sealed = {.max = PLAIN_MAX + SP_AEAD_OVERHEAD};
	SP_SECRET_AUTO wrap = {0}, plain = {0};
	struct sp_msg_v_store_key m;
	struct sp_msg_v_store_key_r r = {.err = SP_OK};
	struct sp_span s;
	enum sp_err e;

	SP_TRY(sp_dec_v_store_key(p->body, &m));
	e = wrapping_key(&v->root, &wrap);
	if (e == SP_OK)
		e = v->dir_fd < 0 ? SP_ERR_IO : sp_file_read(v->dir_fd, FILE_NAME,
		    true, &sealed);
	if (e == SP_OK)
		e = sp_aead_open(wrap.p, sp_span_str(LABEL), sp_buf_span(&sealed),
		    &plain);
	if (e == SP_OK) {
		s = sp_span_of(plain.p, plain.n);
		e = sp_get_str(&s, 256, &r.access);
		if (e == SP_OK)
			e = sp_get_bytes(&s, 256, &r.secret);
		if (e == SP_OK && r.access.n == 0)
			e = SP_ERR_NOTFOUND;
	}
	if (e != SP_OK)
		r = (struct sp_msg_v_store_key_r){.access = sp_span_str("")};
	r.err = (uint8_t)e;
	return sp_send_v_store_key_r(&v->shp, p->corr, &r, NULL);
}

enum sp_err
sp_ship_serve(struct sp_vaultd *v)
{
	enum sp_err e = sp_link_flush(&v->shp);

	if (e == SP_ERR_AGAIN)
		e = SP_OK;
	for (unsigned i = 0; e == SP_OK && i < 8; i++) {
		struct sp_packet p;

		if ((e = sp_link_recv(&v->shp, &p)) != SP_OK)
			break;
		e = p.type == SP_MSG_v_store_key ? on_ask(v, &p) : SP_ERR_PROTO;
		sp_packet_close_fds(&p);
	}
	return e == SP_ERR_AGAIN ? SP_OK : e;
}

void
sp_ship_drop(struct sp_vaultd *v)
{
	if (v->shp.fd < 0)
		return;
	sp_log(SP_INFO, "ship_gone", NULL, "fault=\"%s\"", v->shp.fault);
	sp_link_fini(&v->shp);
}

void
sp_ship_attach(struct sp_vaultd *v, int fd)
{
	sp_ship_drop(v);
	if (sp_link_init(&v->shp, fd, SP_ROLE_VLT, SP_ROLE_SHP, SP_ST_READY) !=
	    SP_OK)
		sp_log(SP_ERROR, "ship_gone", NULL, "fault=\"no link\"");
}
