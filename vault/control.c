/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "vault/backup.h"
#include "vault/kinds.h"
#include "vault/storekey.h"
#include "vault/vaultd.h"
#include "vault/poison.h"

/* What an administrator did to the vault is an audit event as well. */
void
sp_control_note(struct sp_vaultd *v, const struct sp_control *c,
    const char *what, const char *how)
{
	char detail[256];

	snprintf(detail, sizeof(detail), "uid=%ju: %s", (uintmax_t)c->uid, how);
	sp_vaultd_event(v, what, NULL, detail);
}

static void
note(struct sp_vaultd *v, const struct sp_control *c, const char *what,
    enum sp_err e)
{
	sp_control_note(v, c, what, sp_err_text(e));
}

enum sp_err
sp_control_done(struct sp_control *c, uint64_t corr, enum sp_err e,
    const char *text)
{
	struct sp_msg_vc_done r = {.err = (uint8_t)e, .text = sp_span_str(text)};

	return sp_send_vc_done(&c->link, corr, &r, NULL);
}

static enum sp_err
on_status(struct sp_vaultd *v, struct sp_control *c, struct sp_packet *p)
{
	struct sp_msg_vc_status m;
	struct sp_msg_vc_status_r r = {.sealed = !v->root.is_open,
	    .demo = v->is_demo, .slots = v->state_fault != NULL ? 0 :
	    (uint32_t)v->state.n_slots};
	SP_BUF_AUTO ca = {.max = 256};

	SP_TRY(sp_dec_vc_status(p->body, &m));
	if (v->root.is_open) {
		memcpy(r.audit_key, v->root.audit_pk, 32);
		memcpy(r.recording_key, v->root.rec_pk, 32);
		SP_TRY(sp_ssh_ed25519_line(&ca, v->root.ca_pk, "sallyport-ca"));
		r.ca_key = sp_buf_span(&ca);
	}
	return sp_send_vc_status_r(&c->link, p->corr, &r, NULL);
}

static const char *
unseal_text(const struct sp_vaultd *v, enum sp_err e)
{
	if (v->state_fault != NULL)
		return v->state_fault;
	if (e == SP_ERR_STATE)
		return "the vault is open already";
	if (e == SP_ERR_DENIED)
		return "wrong passphrase: it opens no slot";
	if (e == SP_ERR_UNSUPPORTED)
		return "that kind of slot is not opened this way";
	if (e == SP_ERR_CRYPTO)
		return "the passphrase is right, but the vault's state file was "
		    "changed by someone without the key: restore it";
	if (e == SP_ERR_NOMEM)
		return "not enough memory for Argon2id (256 MiB are needed)";
	return e == SP_OK ? "unsealed" : sp_err_text(e);
}

static enum sp_err
on_unseal(struct sp_vaultd *v, struct sp_control *c, struct sp_packet *p)
{
	struct sp_msg_vc_unseal m;
	enum sp_err e;

	SP_TRY(sp_dec_vc_unseal(p->body, &m));
	e = m.type == SP_SLOT_CREDENTIAL || m.type == SP_SLOT_PKCS11 ?
	    sp_vaultd_unseal_key(v, m.type, m.passphrase) :
	    m.type <= SP_SLOT_PASSPHRASE ? sp_vaultd_unseal(v, m.passphrase) :
	    SP_ERR_UNSUPPORTED;
	sp_packet_wipe(&c->link, p);
	note(v, c, e == SP_OK ? "vault_unsealed" : "vault_unseal_failed", e);
	return sp_control_done(c, p->corr, e, unseal_text(v, e));
}

static enum sp_err
on_seal(struct sp_vaultd *v, struct sp_control *c, struct sp_packet *p)
{
	struct sp_msg_vc_seal m;

	SP_TRY(sp_dec_vc_seal(p->body, &m));
	sp_vaultd_seal(v);
	note(v, c, "vault_sealed", SP_OK);
	return sp_control_done(c, p->corr, SP_OK, "sealed: no new session until it is "
	    "unsealed; running ones go on");
}

static enum sp_err
take_secret(const struct sp_msg_vc_secret_new *m, struct sp_secret *s)
{
	return m->generate == 0 ? sp_secret_import(m->kind, m->clear,
	    m->passphrase, s) : sp_secret_make(m->kind, s);
}

static enum sp_err
on_secret_new(struct sp_vaultd *v, struct sp_control *c, struct sp_packet *p)
{
	SP_BUF_AUTO sealed = {.max = 8192}, blob = {.max = 2048};
	SP_SECRET_AUTO s = {0};
	struct sp_msg_vc_secret_new m;
	struct sp_msg_vc_secret_new_r r = {.err = SP_ERR_SEALED};
	struct sp_secret_row row;
	enum sp_err e;

	SP_TRY(sp_dec_vc_secret_new(p->body, &m));
	row = (struct sp_secret_row){.kind = m.kind, .version = m.version};
	memcpy(row.id, m.id, 16);
	memcpy(row.owner, m.owner, 16);
	e = v->root.is_open ? take_secret(&m, &s) : SP_ERR_SEALED;
	if (e == SP_OK)
		e = sp_secret_shown(m.kind, &s, &blob);
	if (e == SP_OK)
		e = sp_secret_seal(&v->root, &row, sp_span_of(s.p, s.n), &sealed);
	sp_packet_wipe(&c->link, p);
	note(v, c, "secret_sealed", e);
	r.err = (uint8_t)e;
	if (e == SP_OK) {
		r.sealed = sp_buf_span(&sealed);
		r.public_key = sp_buf_span(&blob);
	}
	return sp_send_vc_secret_new_r(&c->link, p->corr, &r, NULL);
}

static enum sp_err
on_totp_new(struct sp_vaultd *v, struct sp_control *c, struct sp_packet *p)
{
	SP_BUF_AUTO sealed = {.max = 1024};
	SP_SECRET_AUTO seed = {0};
	struct sp_msg_vc_totp_new m;
	struct sp_msg_vc_totp_new_r r = {.err = SP_ERR_SEALED};
	struct sp_secret_row row = {.kind = SP_CRED_TOTP_SEED};
	enum sp_err e = SP_ERR_SEALED;

	SP_TRY(sp_dec_vc_totp_new(p->body, &m));
	memcpy(row.id, m.id, 16);
	memcpy(row.owner, m.owner, 16);
	row.version = m.version;
	if (v->root.is_open)
		e = sp_secret_random(&seed, SP_TOTP_SEED_BYTES);
	if (e == SP_OK)
		e = sp_secret_seal(&v->root, &row, sp_span_of(seed.p, seed.n),
		    &sealed);
	note(v, c, "totp_seed_made", e);
	r.err = (uint8_t)e;
	if (e == SP_OK) {
		r.sealed = sp_buf_span(&sealed);
		r.seed = sp_span_of(seed.p, seed.n);
	}
	return sp_send_vc_totp_new_r(&c->link, p->corr, &r, NULL);
}

static enum sp_err
dispatch(struct sp_vaultd *v, struct sp_control *c, struct sp_packet *p)
{
	if (p->type == SP_MSG_vc_share || p->type == SP_MSG_vc_ceremony)
		return sp_ceremony_serve(v, c, p);
	if (c->is_guest)
		return SP_ERR_PROTO;
	switch (p->type) {
	case SP_MSG_vc_status:
		return on_status(v, c, p);
	case SP_MSG_vc_unseal:
		return on_unseal(v, c, p);
	case SP_MSG_vc_seal:
		return on_seal(v, c, p);
	case SP_MSG_vc_secret_new:
		return on_secret_new(v, c, p);
	case SP_MSG_vc_totp_new:
		return on_totp_new(v, c, p);
	case SP_MSG_vc_rule_set:
		return sp_on_rule_set(v, c, p);
	case SP_MSG_vc_store_key:
		return sp_on_store_key(v, c, p);
	case SP_MSG_vc_backup_key:
		return sp_on_backup_key(v, c, p);
	case SP_MSG_vc_reveal:
		return sp_on_reveal(v, c, p);
	case SP_MSG_vc_rotate:
		return sp_control_rotate(v, c, p);
	case SP_MSG_vc_kit_begin:
		return sp_on_kit_begin(v, c, p);
	case SP_MSG_vc_kit_add:
		return sp_on_kit_add(v, c, p);
	case SP_MSG_vc_kit_end:
		return sp_on_kit_end(v, c, p);
	default:
		return sp_control_slots(v, c, p);
	}
}

/* What is remembered of this one: afresh after a minute, in the place of the
 * oldest where there is no other. */
static struct sp_stranger *
stranger(struct sp_vaultd *v, uid_t uid)
{
	struct sp_stranger *oldest = &v->strangers[0];
	int64_t now = sp_boot_us();

	for (size_t i = 0; i < SP_STRANGERS_MAX; i++) {
		struct sp_stranger *u = &v->strangers[i];

		if (u->since_us != 0 && now - u->since_us >= SP_CONTROL_IDLE_US)
			u->since_us = 0;
		if (u->since_us != 0 && u->uid == uid)
			return u;
		if (u->since_us < oldest->since_us)
			oldest = u;
	}
	*oldest = (struct sp_stranger){.uid = uid, .since_us = now};
	return oldest;
}

bool
sp_control_bad_share(struct sp_vaultd *v, struct sp_control *c)
{
	bool more = ++c->n_bad < SP_BAD_SHARES_MAX;

	if (c->is_guest)
		more &= ++stranger(v, c->uid)->n_bad < SP_BAD_SHARES_MAX;
	return more;
}

/* While it holds a ceremony a link lives as long as that. */
static int64_t
due_of(const struct sp_vaultd *v, const struct sp_control *c)
{
	if (v->ceremony.what != 0 && v->ceremony.owner == c->serial)
		return v->ceremony.due_us + SP_CONTROL_IDLE_US;
	return sp_boot_us() + SP_CONTROL_IDLE_US;
}

bool
sp_control_serve(struct sp_vaultd *v, struct sp_control *c)
{
	struct sp_packet p;
	enum sp_err e = sp_link_flush(&c->link);

	if (e == SP_ERR_AGAIN)
		e = SP_OK;
	if (e == SP_OK && (e = sp_link_recv(&c->link, &p)) == SP_OK) {
		e = dispatch(v, c, &p);
		c->due_us = due_of(v, c);
		sp_packet_wipe(&c->link, &p);
		sp_packet_close_fds(&p);
	}
	if (e == SP_ERR_PROTO || e == SP_ERR_TOOBIG) {
		sp_vaultd_event(v, "control_protocol", NULL, c->link.fault);
		(void)sp_control_bad_share(v, c);
	}
	return e == SP_OK || e == SP_ERR_AGAIN;
}

static bool
is_master(const struct sp_vaultd *v, uid_t uid)
{
	return uid == 0 || uid == v->owner;
}

void
sp_control_add(struct sp_vaultd *v, int fd, uid_t uid)
{
	struct sp_control *c = &v->ctl[v->n_ctl];

	if (v->n_ctl == SP_CONTROLS_MAX ||
	    sp_link_init(&c->link, fd, SP_ROLE_VLT, SP_ROLE_CLI, SP_ST_READY) !=
	    SP_OK) {
		if (v->n_ctl == SP_CONTROLS_MAX)
			close(fd);
		return;
	}
	c->uid = uid;
	c->is_guest = !is_master(v, uid);
	c->n_bad = 0;
	c->serial = ++v->next_serial;
	c->due_us = sp_boot_us() + SP_CONTROL_IDLE_US;
	v->n_ctl++;
}

static size_t
guests_of(const struct sp_vaultd *v, uid_t uid)
{
	size_t n = 0;

	for (size_t i = 0; i < v->n_ctl; i++)
		n += v->ctl[i].is_guest && v->ctl[i].uid == uid &&
		    v->ctl[i].due_us > 0;
	return n;
}

/* Who holds more than one of the places of strangers gives one of them back to
 * somebody who has none. */
static bool
make_room(struct sp_vaultd *v)
{
	for (size_t i = 0; i < v->n_ctl; i++)
		if (v->ctl[i].is_guest && v->ctl[i].due_us > 0 &&
		    guests_of(v, v->ctl[i].uid) > 1) {
			v->ctl[i].due_us = 0;
			return true;
		}
	return false;
}

/* Strangers may give a share while one is asked for, a few at a time, and nobody
 * all the others' places: a custodian is one of them. */
static bool
may_connect(struct sp_vaultd *v, uid_t uid)
{
	size_t guests = 0, own = guests_of(v, uid);

	if (is_master(v, uid))
		return true;
	if (v->ceremony.what == 0 || own >= SP_GUESTS_OF_UID ||
	    stranger(v, uid)->n_bad >= SP_BAD_SHARES_MAX)
		return false;
	for (size_t i = 0; i < v->n_ctl; i++)
		guests += v->ctl[i].is_guest && v->ctl[i].due_us > 0;
	return guests < SP_GUESTS_MAX || (own == 0 && make_room(v));
}

/* Once a minute for each: a loop of connects must not fill the audit log. */
static void
refused(struct sp_vaultd *v, uid_t uid)
{
	struct sp_stranger *u = stranger(v, uid);
	char detail[64];

	if (u->is_told)
		return;
	u->is_told = true;
	snprintf(detail, sizeof(detail), "uid=%ju", (uintmax_t)uid);
	sp_vaultd_event(v, "control_peer_refused", NULL, detail);
}

void
sp_control_accept(struct sp_vaultd *v)
{
	struct ucred who = {.uid = (uid_t)-1};
	socklen_t n = sizeof(who);
	int fd;

	fd = accept4(v->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) != 0 ||
	    n != sizeof(who) || !may_connect(v, who.uid)) {
		refused(v, who.uid);
		close(fd);
		return;
	}
	sp_control_add(v, fd, who.uid);
}
