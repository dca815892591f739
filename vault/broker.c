/* SPDX-License-Identifier: Apache-2.0 */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/signed.h"
#include "vault/krl.h"
#include "vault/rotate.h"
#include "vault/rows.h"
#include "vault/vaultd.h"
#include "vault/poison.h"

/* One row a request: each handler decodes, answers, and gives an error only
 * when the broker broke the protocol or is gone. */
typedef enum sp_err (*handler)(struct sp_vaultd *v, struct sp_packet *p);

static enum sp_err
on_status(struct sp_vaultd *v, struct sp_packet *p)
{
	struct sp_msg_v_status m;
	struct sp_msg_v_status_r r = {.sealed = !v->root.is_open,
	    .demo = v->is_demo};
	SP_BUF_AUTO ca = {.max = 256};

	SP_TRY(sp_dec_v_status(p->body, &m));
	/* Sealed, the public keys are only what a file says: not given. */
	if (v->root.is_open) {
		memcpy(r.audit_key, v->root.audit_pk, 32);
		memcpy(r.recording_key, v->root.rec_pk, 32);
		SP_TRY(sp_ssh_ed25519_line(&ca, v->root.ca_pk, "sallyport-ca"));
		r.ca_key = sp_buf_span(&ca);
	}
	return sp_send_v_status_r(&v->brk, p->corr, &r, NULL);
}

static enum sp_err
on_row_seal(struct sp_vaultd *v, struct sp_packet *p)
{
	struct sp_msg_v_row_seal m;
	struct sp_msg_v_row_seal_r r = {.ok = 0};

	SP_TRY(sp_dec_v_row_seal(p->body, &m));
	r.ok = sp_row_mac(&v->root, m.table, m.id, m.version, m.canon, r.mac) ==
	    SP_OK;
	return sp_send_v_row_seal_r(&v->brk, p->corr, &r, NULL);
}

static enum sp_err
on_row_check(struct sp_vaultd *v, struct sp_packet *p)
{
	struct sp_msg_v_row_check m;
	struct sp_msg_v_row_check_r r = {.ok = 0};

	SP_TRY(sp_dec_v_row_check(p->body, &m));
	r.ok = sp_row_is_sealed(&v->root, m.table, m.id, m.version, m.canon,
	    m.mac);
	return sp_send_v_row_check_r(&v->brk, p->corr, &r, NULL);
}

static enum sp_err
on_totp_check(struct sp_vaultd *v, struct sp_packet *p)
{
	struct sp_secret_row row = {.kind = SP_CRED_TOTP_SEED};
	struct sp_msg_v_totp_check m;
	struct sp_msg_v_totp_check_r r = {.ok = 0};
	SP_SECRET_AUTO seed = {0};
	enum sp_err e;

	SP_TRY(sp_dec_v_totp_check(p->body, &m));
	memcpy(row.id, m.id, 16);
	memcpy(row.owner, m.owner, 16);
	row.version = m.version;
	e = sp_secret_unseal(&v->root, &row, m.sealed, &seed);
	if (e == SP_ERR_CRYPTO)
		sp_vaultd_event(v, "secret_row_broken", NULL,
		    "a TOTP seed does not open: its row was changed, or belongs "
		    "elsewhere");
	/* Each version of the row is a seed of its own, with its own codes. */
	for (size_t i = 0; i < 8; i++)
		m.id[8 + i] ^= (uint8_t)(m.version >> (8 * i));
	if (e == SP_OK)
		e = sp_totp_check(v->spent, m.id, &seed, m.code, sp_now_us(),
		    &r.step);
	if (e == SP_ERR_EXISTS)
		sp_vaultd_event(v, "totp_code_again", NULL,
		    "a one-time code was offered a second time");
	sp_packet_wipe(&v->brk, p);
	r.ok = e == SP_OK ? 1 : e == SP_ERR_EXISTS ? 2 : 0;
	if (r.ok != 1)
		r.step = 0;
	return sp_send_v_totp_check_r(&v->brk, p->corr, &r, NULL);
}

static enum sp_err
on_lease(struct sp_vaultd *v, struct sp_packet *p)
{
	struct sp_msg_v_lease m;
	struct sp_msg_v_lease_r r;
	char text[256];

	SP_TRY(sp_dec_v_lease(p->body, &m));
	r.err = (uint8_t)sp_lease_grant(v->leases, &m, sp_now_us(), text);
	r.text = sp_span_str(text);
	sp_log(SP_INFO, "lease", m.session, "kind=%u result=\"%s\"", m.kind,
	    sp_err_text(r.err));
	return sp_send_v_lease_r(&v->brk, p->corr, &r, NULL);
}

static enum sp_err
on_sql_verifier(struct sp_vaultd *v, struct sp_packet *p)
{
	struct sp_msg_v_sql_verifier m;
	struct sp_msg_v_sql_verifier_r r = {.ok = 0};
	SP_BUF_AUTO text = {.max = 256};

	SP_TRY(sp_dec_v_sql_verifier(p->body, &m));
	r.ok = sp_lease_verifier(v->leases, m.session, &text) == SP_OK;
	if (r.ok)
		r.verifier = sp_buf_span(&text);
	return sp_send_v_sql_verifier_r(&v->brk, p->corr, &r, NULL);
}

static enum sp_err
done(struct sp_vaultd *v, uint64_t corr, enum sp_err e)
{
	struct sp_msg_v_done r = {.err = (uint8_t)e,
	    .text = sp_span_str(e == SP_OK ? "" : sp_err_text(e))};

	return sp_send_v_done(&v->brk, corr, &r, NULL);
}

static enum sp_err
on_rotate_make(struct sp_vaultd *v, struct sp_packet *p)
{
	SP_BUF_AUTO sealed = {.max = 8192}, public_key = {.max = 2048};
	struct sp_msg_v_rotate_make m;
	struct sp_msg_v_rotate_made r = {.err = SP_ERR_SEALED};

	SP_TRY(sp_dec_v_rotate_make(p->body, &m));
	r.err = (uint8_t)sp_rotate_make(&v->root, &m, &sealed, r.tag, &public_key);
	sp_log(SP_INFO, "rotate_make", NULL, "kind=%u result=\"%s\"", m.kind,
	    sp_err_text(r.err));
	if (r.err == SP_OK) {
		r.sealed = sp_buf_span(&sealed);
		r.public_key = sp_buf_span(&public_key);
	}
	return sp_send_v_rotate_made(&v->brk, p->corr, &r, NULL);
}

static enum sp_err
on_rotate_lease(struct sp_vaultd *v, struct sp_packet *p)
{
	struct sp_msg_v_rotate_lease m;
	struct sp_msg_v_done r;
	char text[256];

	SP_TRY(sp_dec_v_rotate_lease(p->body, &m));
	r.err = (uint8_t)sp_rotate_lease(v->leases, &m, text);
	r.text = sp_span_str(text);
	return sp_send_v_done(&v->brk, p->corr, &r, NULL);
}

static enum sp_err
on_lease_end(struct sp_vaultd *v, struct sp_packet *p)
{
	struct sp_msg_v_lease_end m;

	SP_TRY(sp_dec_v_lease_end(p->body, &m));
	return done(v, p->corr, sp_lease_end(v->leases, m.session));
}

/* Never a signing oracle: the bytes are built here, from the fields. */
static enum sp_err
sign(struct sp_vaultd *v, uint64_t corr, enum sp_err built, struct sp_buf *b)
{
	struct sp_msg_v_sign_r r = {.ok = 0};

	if (built == SP_OK)
		r.ok = sp_root_sign(&v->root, sp_buf_span(b), r.signature) == SP_OK;
	return sp_send_v_sign_r(&v->brk, corr, &r, NULL);
}

static enum sp_err
on_sign_recording(struct sp_vaultd *v, struct sp_packet *p)
{
	SP_BUF_AUTO b = {.max = SP_SIGNED_MAX};
	struct sp_msg_v_sign_recording m;

	SP_TRY(sp_dec_v_sign_recording(p->body, &m));
	return sign(v, p->corr, sp_signed_recording(&b, m.session, m.rec_key,
	    m.header_hash, m.opened_us), &b);
}

static enum sp_err
on_sign_close(struct sp_vaultd *v, struct sp_packet *p)
{
	SP_BUF_AUTO b = {.max = SP_SIGNED_MAX};
	struct sp_msg_v_sign_close m;

	SP_TRY(sp_dec_v_sign_close(p->body, &m));
	if (m.recovered > 1)
		return SP_ERR_PROTO;
	return sign(v, p->corr, sp_signed_close(&b, m.recovered == 1, m.session,
	    m.head, m.chunks, m.at_us), &b);
}

static enum sp_err
on_sign_audit(struct sp_vaultd *v, struct sp_packet *p)
{
	SP_BUF_AUTO b = {.max = SP_SIGNED_MAX};
	struct sp_msg_v_sign_audit m;

	SP_TRY(sp_dec_v_sign_audit(p->body, &m));
	return sign(v, p->corr, sp_signed_audit(&b, m.seq, m.head, m.at_us), &b);
}

static enum sp_err
on_play_grant(struct sp_vaultd *v, struct sp_packet *p)
{
	struct sp_msg_v_play_grant m;

	SP_TRY(sp_dec_v_play_grant(p->body, &m));
	return done(v, p->corr, sp_play_grant(v->plays, m.play, m.session,
	    m.lanes));
}

static enum sp_err
on_play_release(struct sp_vaultd *v, struct sp_packet *p)
{
	struct sp_msg_v_play_release m;
	struct sp_msg_v_done r;
	char by[256], text[256];

	SP_TRY(sp_dec_v_play_release(p->body, &m));
	r.err = (uint8_t)sp_play_release(v->plays, &m, sp_now_us(), by, text);
	r.text = sp_span_str(text);
	sp_vaultd_event(v, r.err == SP_OK ? "keys_released" :
	    "keys_release_refused", m.session, r.err == SP_OK ? by : text);
	return sp_send_v_done(&v->brk, p->corr, &r, NULL);
}

static enum sp_err
on_play_mask(struct sp_vaultd *v, struct sp_packet *p)
{
	struct sp_msg_v_play_mask m;
	struct sp_secret_row row;

	SP_TRY(sp_dec_v_play_mask(p->body, &m));
	row = (struct sp_secret_row){.kind = m.kind, .version = m.secret_version};
	memcpy(row.id, m.secret_id, 16);
	memcpy(row.owner, m.secret_owner, 16);
	sp_rule_digest(m.rule, row.rule);
	return done(v, p->corr, sp_play_mask(v->plays, m.play, &row, m.sealed));
}

static enum sp_err
on_search_mask(struct sp_vaultd *v, struct sp_packet *p)
{
	struct sp_msg_v_search_mask m;
	struct sp_secret_row row;

	SP_TRY(sp_dec_v_search_mask(p->body, &m));
	row = (struct sp_secret_row){.kind = m.kind, .version = m.secret_version};
	memcpy(row.id, m.secret_id, 16);
	memcpy(row.owner, m.secret_owner, 16);
	sp_rule_digest(m.rule, row.rule);
	return done(v, p->corr, sp_search_mask(v->plays, m.play, m.session, &row,
	    m.sealed));
}

static enum sp_err
on_search_grant(struct sp_vaultd *v, struct sp_packet *p)
{
	struct sp_msg_v_search_grant m;

	SP_TRY(sp_dec_v_search_grant(p->body, &m));
	return done(v, p->corr, sp_search_grant(v->plays, m.play, m.lanes,
	    m.sessions));
}

static enum sp_err
on_krl(struct sp_vaultd *v, struct sp_packet *p)
{
	SP_BUF_AUTO krl = {.max = SP_KRL_MAX};
	struct sp_msg_v_krl m;
	struct sp_msg_v_krl_r r = {.err = SP_ERR_SEALED};

	SP_TRY(sp_dec_v_krl(p->body, &m));
	r.err = (uint8_t)sp_krl_make(&v->root, &m, sp_now_us(), &krl);
	if (r.err == SP_OK)
		r.krl = sp_buf_span(&krl);
	return sp_send_v_krl_r(&v->brk, p->corr, &r, NULL);
}

static const struct {
	uint16_t type;
	handler fn;
} handlers[] = {
    {SP_MSG_v_status, on_status},
    {SP_MSG_v_row_seal, on_row_seal},
    {SP_MSG_v_row_check, on_row_check},
    {SP_MSG_v_rewrap, sp_broker_rewrap},
    {SP_MSG_v_row_renew, sp_broker_row_renew},
    {SP_MSG_v_totp_check, on_totp_check},
    {SP_MSG_v_lease, on_lease},
    {SP_MSG_v_lease_end, on_lease_end},
    {SP_MSG_v_rotate_make, on_rotate_make},
    {SP_MSG_v_rotate_lease, on_rotate_lease},
    {SP_MSG_v_sql_verifier, on_sql_verifier},
    {SP_MSG_v_sign_recording, on_sign_recording},
    {SP_MSG_v_sign_close, on_sign_close},
    {SP_MSG_v_sign_audit, on_sign_audit},
    {SP_MSG_v_play_grant, on_play_grant},
    {SP_MSG_v_play_release, on_play_release},
    {SP_MSG_v_play_mask, on_play_mask},
    {SP_MSG_v_search_mask, on_search_mask},
    {SP_MSG_v_search_grant, on_search_grant},
    {SP_MSG_v_challenge, sp_on_challenge},
    {SP_MSG_v_approval, sp_on_approval},
    {SP_MSG_v_reveal, sp_on_reveal_ready},
    {SP_MSG_v_krl, on_krl},
};

static enum sp_err
dispatch(struct sp_vaultd *v, struct sp_packet *p)
{
	for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++)
		if (handlers[i].type == p->type)
			return handlers[i].fn(v, p);
	return SP_ERR_PROTO;
}

enum sp_err
sp_broker_serve(struct sp_vaultd *v)
{
	enum sp_err e = sp_link_flush(&v->brk);

	if (e == SP_ERR_AGAIN)
		e = SP_OK;
	/* So many in one turn, and the others have theirs. */
	for (unsigned i = 0; e == SP_OK && i < 64; i++) {
		struct sp_packet p;

		if ((e = sp_link_recv(&v->brk, &p)) != SP_OK)
			break;
		e = dispatch(v, &p);
		sp_packet_close_fds(&p);
		if (e == SP_ERR_PROTO || e == SP_ERR_TOOBIG)
			snprintf(v->brk.fault, sizeof(v->brk.fault),
			    "a broken %s message", sp_ipc_name(p.type));
	}
	return e == SP_ERR_AGAIN ? SP_OK : e;
}

void
sp_broker_drop(struct sp_vaultd *v)
{
	if (v->brk.fd < 0)
		return;
	sp_log(SP_WARN, "broker_gone", NULL, "fault=\"%s\"", v->brk.fault);
	sp_link_fini(&v->brk);
	/* Nobody is left who could end what it granted. */
	sp_leases_end_unused(v->leases, "the broker is gone");
	sp_plays_end_all(v->plays);
	sp_reveals_drop(v, INT64_MAX);
}

void
sp_broker_attach(struct sp_vaultd *v, int fd)
{
	sp_broker_drop(v);
	if (sp_link_init(&v->brk, fd, SP_ROLE_VLT, SP_ROLE_BRK, SP_ST_READY) !=
	    SP_OK)
		return;
	while (v->n_events > 0) {
		struct sp_event *k = &v->events[0];
		struct sp_msg_security_event m = {.what = sp_span_str(k->what),
		    .detail = sp_span_str(k->detail)};

		memcpy(m.session, k->session, 16);
		if (sp_send_security_event(&v->brk, 0, &m, NULL) != SP_OK)
			return;
		memmove(&v->events[0], &v->events[1],
		    --v->n_events * sizeof(v->events[0]));
	}
}
