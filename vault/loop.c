/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "vault/storekey.h"
#include "vault/vaultd.h"
#include "vault/poison.h"

#define STACK_BYTES 65536	/* more than any call of ours goes down */
#define PF_MAX (6 + SP_CONTROLS_MAX + SP_PLAYS_MAX + 2 * SP_LEASES_MAX)

void
sp_packet_wipe(struct sp_link *l, const struct sp_packet *p)
{
	size_t at;

	if (l->rx == NULL || p->body.p == NULL)
		return;
	at = (size_t)(p->body.p - l->rx);
	sodium_memzero(l->rx + at, p->body.n);
}

void
sp_vaultd_event(struct sp_vaultd *v, const char *what, const uint8_t *session,
    const char *detail)
{
	struct sp_event k = {0};
	struct sp_msg_security_event m;

	snprintf(k.what, sizeof(k.what), "%s", what);
	sp_vis(k.detail, sizeof(k.detail), sp_span_str(detail));
	if (session != NULL)
		memcpy(k.session, session, 16);
	sp_log(SP_WARN, k.what, session, "detail=\"%s\"", k.detail);
	m = (struct sp_msg_security_event){.what = sp_span_str(k.what),
	    .detail = sp_span_str(k.detail)};
	memcpy(m.session, k.session, 16);
	if (v->brk.fd >= 0 &&
	    sp_send_security_event(&v->brk, 0, &m, NULL) == SP_OK)
		return;
	if (v->n_events < SP_EVENTS_MAX)
		v->events[v->n_events++] = k;
}

static void
lease_event(void *arg, const char *what, const uint8_t session[static 16],
    const char *detail)
{
	sp_vaultd_event(arg, what, session, detail);
}

static void
lease_used(void *arg, const uint8_t session[static 16], uint8_t kind)
{
	struct sp_vaultd *v = arg;
	struct sp_msg_v_lease_used m = {.kind = kind};

	memcpy(m.session, session, 16);
	sp_log(SP_INFO, "lease_used", session, "kind=%u", kind);
	if (v->brk.fd >= 0 && sp_send_v_lease_used(&v->brk, 0, &m, NULL) != SP_OK)
		sp_log(SP_WARN, "broker_behind", session, "%s", "");
}

enum sp_err
sp_vaultd_init(struct sp_vaultd *v)
{
	struct sp_lease_ops ops = {.arg = v, .event = lease_event,
	    .used = lease_used};

	*v = (struct sp_vaultd){.listen_fd = -1, .dir_fd = -1, .owner = geteuid(),
	    .state_fault = "the vault has no state file: sallyport init"};
	v->sup.fd = v->brk.fd = v->nty.fd = v->shp.fd = v->loghead.fd = -1;
	v->sup.tx_tail = &v->sup.tx_head;
	v->brk.tx_tail = &v->brk.tx_head;
	v->nty.tx_tail = &v->nty.tx_head;
	v->shp.tx_tail = &v->shp.tx_head;
	SP_TRY(sp_secret_init());
	v->leases = sp_leases_new(&v->root, &ops);
	v->plays = sp_plays_new(&v->root, &ops);
	v->spent = sp_totp_spent_new();
	v->fronts = sp_fronts_new();
	v->releases = sp_releases_new();
	v->root.releases = v->releases;
	if (v->fronts == NULL || v->leases == NULL || v->plays == NULL || v->spent == NULL ||
	    v->releases == NULL) {
		sp_vaultd_fini(v);
		return SP_ERR_NOMEM;
	}
	return SP_OK;
}

void
sp_vaultd_fini(struct sp_vaultd *v)
{
	sp_root_close(&v->root);
	sp_secret_free(&v->ceremony.shares);
	sp_fronts_free(v->fronts);
	v->fronts = NULL;
	sp_leases_free(v->leases);
	sp_plays_free(v->plays);
	sp_totp_spent_free(v->spent);
	sp_releases_free(v->releases);
	free(v->reveals);
	sp_kit_drop(v, INT64_MAX);
	v->releases = v->root.releases = NULL;
	v->reveals = NULL;
	v->leases = NULL;
	v->plays = NULL;
	v->spent = NULL;
	sp_link_fini(&v->brk);
	sp_link_fini(&v->nty);
	sp_link_fini(&v->shp);
	sp_loghead_fini(&v->loghead);
	sp_link_fini(&v->sup);
	for (size_t i = 0; i < v->n_ctl; i++)
		sp_link_fini(&v->ctl[i].link);
	v->n_ctl = 0;
	if (v->listen_fd >= 0)
		close(v->listen_fd);
	if (v->dir_fd >= 0)
		close(v->dir_fd);
	v->listen_fd = v->dir_fd = -1;
}

/* ----------------------------------------------------- sealed and unsealed */

static const char *
load_fault(enum sp_err e)
{
	if (e == SP_OK)
		return NULL;
	if (e == SP_ERR_NOTFOUND)
		return "the vault has no state file: sallyport init";
	if (e == SP_ERR_CRYPTO)
		return "the vault's state file is damaged: restore it from a "
		    "backup";
	if (e == SP_ERR_UNSUPPORTED)
		return "the vault's state file is of another version of "
		    "sallyport";
	if (e == SP_ERR_IO || e == SP_ERR_DENIED)
		return "the vault's state file cannot be read: check its owner";
	return "what stands in the vault's state file is none: restore it from "
	    "a backup";
}

void
sp_vaultd_load(struct sp_vaultd *v, int dirfd)
{
	SP_BUF_AUTO demo = {.max = SP_DEMO_TEXT_MAX + 512};
	struct stat st;
	enum sp_err e;

	if (fstatat(dirfd, "..", &st, 0) == 0)
		v->owner = st.st_uid;
	sp_releases_load(v->releases, dirfd);
	v->dir_fd = fcntl(dirfd, F_DUPFD_CLOEXEC, 3);
	v->state_fault = load_fault(sp_state_load(dirfd, &v->state));
	if (v->state_fault != NULL) {
		sp_log(SP_ERROR, "vault_state", NULL, "fault=\"%s\"",
		    v->state_fault);
		return;
	}
	e = sp_file_read(dirfd, SP_DEMO_FILE, true, &demo);
	if (e == SP_ERR_NOTFOUND)
		return;
	v->is_demo = true;
	if (e == SP_OK)
		e = sp_vaultd_unseal(v, sp_buf_span(&demo));
	sp_log(e == SP_OK ? SP_WARN : SP_ERROR, "demonstration_key", NULL,
	    "result=\"%s\"", sp_err_text(e));
}

enum sp_err
sp_vaultd_unseal(struct sp_vaultd *v, struct sp_span passphrase)
{
	SP_SECRET_AUTO root = {0};

	if (v->root.is_open)
		return SP_ERR_STATE;
	if (v->state_fault != NULL)
		return SP_ERR_NOTFOUND;
	SP_TRY(sp_slots_open(v->state.slots, v->state.n_slots, passphrase, &root));
	return sp_vaultd_open_with(v, &root);
}

enum sp_err
sp_vaultd_open_with(struct sp_vaultd *v, struct sp_secret *root)
{
	SP_TRY(sp_root_open_with(&v->root, &v->state, root));
	if (sp_releases_open(v->releases, &v->root) != SP_OK)
		sp_vaultd_event(v, "release_table_broken", NULL, "the file releases "
		    "of the vault's directory is not what the vault wrote: no "
		    "account's credential opens until it is restored");
	sp_fronts_open(v);
	return SP_OK;
}

enum sp_err
sp_vaultd_unseal_key(struct sp_vaultd *v, uint8_t type, struct sp_span bytes)
{
	if (v->root.is_open)
		return SP_ERR_STATE;
	if (v->state_fault != NULL)
		return SP_ERR_NOTFOUND;
	for (size_t i = 0; i < v->state.n_slots; i++) {
		const struct sp_slot *t = &v->state.slots[i];
		SP_SECRET_AUTO root = {0};

		if (t->type == type && sp_slot_open_key(t, bytes, &root) == SP_OK)
			return sp_vaultd_open_with(v, &root);
	}
	return SP_ERR_DENIED;
}

void
sp_vaultd_seal(struct sp_vaultd *v)
{
	sp_ceremony_end(v, SP_ERR_SEALED, "the vault was sealed");
	sp_root_close(&v->root);
	sp_fronts_wipe(v->fronts);
	sp_leases_end_unused(v->leases, "the vault was sealed");
	sp_plays_end_all(v->plays);
	sp_reveals_drop(v, INT64_MAX);
	sp_kit_drop(v, INT64_MAX);
	/* What ciphers and hashes spilled below this frame goes as well. */
	sodium_stackzero(STACK_BYTES);
}

/* ---------------------------------------------------------- the supervisor */

/* systemd's credential opens a vault that starts; that there is none that fits
 * is no fault of the start. */
static void
take_credential(struct sp_vaultd *v, int fd)
{
	SP_SECRET_AUTO s = {0};
	enum sp_err e = sp_secret_new(&s, SP_PASSPHRASE_MAX);
	size_t n = 0;
	ssize_t k = 1;

	if (v->root.is_open)	/* a demonstration */
		return;
	while (e == SP_OK && k > 0 && n < s.n) {
		k = read(fd, s.p + n, s.n - n);
		n += k > 0 ? (size_t)k : 0;
	}
	if (e == SP_OK && (k < 0 || n < SP_CREDENTIAL_MIN))
		e = SP_ERR_INVAL;
	if (e == SP_OK)
		e = sp_vaultd_unseal_key(v, SP_SLOT_CREDENTIAL,
		    sp_span_of(s.p, n));
	sp_vaultd_event(v, e == SP_OK ? "vault_unsealed" : "vault_unseal_failed",
	    NULL, e == SP_OK ? "by the credential of systemd" :
	    e == SP_ERR_DENIED ? "the credential of systemd opens no slot" :
	    sp_err_text(e));
}

static void
attach(struct sp_vaultd *v, uint16_t role, int fd)
{
	if (role == SP_ROLE_NTY)
		sp_notary_attach(v, fd);
	else if (role == SP_ROLE_SHP)
		sp_ship_attach(v, fd);
	else
		sp_broker_attach(v, fd);
}

static enum sp_err
from_supervisor(struct sp_vaultd *v, struct sp_packet *p)
{
	struct sp_msg_egress_link eg;
	struct sp_msg_player_link pl;
	struct sp_msg_ingress_link in;
	struct sp_msg_peer_link pe;
	enum sp_err e;

	switch (p->type) {
	case SP_MSG_peer_link:
		SP_TRY(sp_dec_peer_link(p->body, &pe));
		if (pe.role != SP_ROLE_BRK && pe.role != SP_ROLE_NTY &&
		    pe.role != SP_ROLE_SHP)
			return SP_ERR_PROTO;
		attach(v, pe.role, p->fds[0]);
		p->n_fds = 0;
		return SP_OK;
	case SP_MSG_egress_link:
		SP_TRY(sp_dec_egress_link(p->body, &eg));
		e = sp_lease_link(v->leases, eg.session, p->fds[0], p->fds[1]);
		p->n_fds = 0;
		if (e != SP_OK)
			sp_log(SP_WARN, "egress_link", eg.session, "error=\"%s\"",
			    sp_err_text(e));
		return SP_OK;
	case SP_MSG_player_link:
		SP_TRY(sp_dec_player_link(p->body, &pl));
		e = sp_play_link(v->plays, pl.play, p->fds[0]);
		p->n_fds = 0;
		if (e != SP_OK)
			sp_log(SP_WARN, "player_link", NULL, "error=\"%s\"",
			    sp_err_text(e));
		return SP_OK;
	case SP_MSG_vault_credential:
		take_credential(v, p->fds[0]);
		return SP_OK;
	case SP_MSG_ingress_link:
		SP_TRY(sp_dec_ingress_link(p->body, &in));
		e = sp_fronts_add(v->fronts, in.conn, p->fds[0]);
		p->n_fds = 0;
		if (e != SP_OK)
			sp_log(SP_WARN, "ingress_link", NULL, "error=\"%s\"",
			    sp_err_text(e));
		return SP_OK;
	case SP_MSG_stop:
		v->stop = true;
		return SP_OK;
	default:
		return SP_ERR_PROTO;
	}
}

static enum sp_err
serve_supervisor(struct sp_vaultd *v)
{
	enum sp_err e = sp_link_flush(&v->sup);

	if (e == SP_ERR_AGAIN)
		e = SP_OK;
	while (e == SP_OK && !v->stop) {
		struct sp_packet p;

		if ((e = sp_link_recv(&v->sup, &p)) != SP_OK)
			break;
		e = from_supervisor(v, &p);
		sp_packet_close_fds(&p);
	}
	if (v->stop)
		return SP_ERR_EOF;
	return e == SP_ERR_AGAIN ? SP_OK : e;
}

/* ----------------------------------------------------------------- the loop */

static void
poll_link(struct pollfd *pf, const struct sp_link *l)
{
	*pf = (struct pollfd){.fd = l->fd, .events = POLLIN};
	if (l->fd >= 0 && sp_link_wants_write(l))
		pf->events |= POLLOUT;
}

static int
wait_ms(const struct sp_vaultd *v, int most_ms)
{
	int64_t due = sp_leases_due_us(v->leases), ms;

	if (sp_fronts_due_us(v->fronts) < due)
		due = sp_fronts_due_us(v->fronts);
	if (sp_plays_due_us(v->plays) < due)
		due = sp_plays_due_us(v->plays);
	if (sp_reveals_due_us(v) < due)
		due = sp_reveals_due_us(v);
	if (v->ceremony.what != 0 && v->ceremony.due_us < due)
		due = v->ceremony.due_us;
	for (size_t i = 0; i < v->n_ctl; i++)
		if (v->ctl[i].due_us < due)
			due = v->ctl[i].due_us;
	if (due == INT64_MAX)
		return most_ms;
	ms = (due - sp_boot_us() + 999) / 1000;
	ms = ms < 0 ? 0 : ms > 1000 ? 1000 : ms;
	return most_ms >= 0 && most_ms < ms ? most_ms : (int)ms;
}

static void
serve_controls(struct sp_vaultd *v, const struct pollfd *pf, size_t n)
{
	size_t keep = 0;
	int64_t now = sp_boot_us();

	for (size_t i = 0; i < v->n_ctl; i++) {
		struct sp_control *c = &v->ctl[i];

		if (now >= c->due_us || (i < n && pf[i].revents != 0 &&
		    !sp_control_serve(v, c))) {
			sp_ceremony_left(v, c->serial);
			sp_link_fini(&c->link);
			continue;
		}
		if (keep != i) {
			v->ctl[keep] = *c;
			/* an empty queue's tail points into the struct itself */
			if (v->ctl[keep].link.tx_head == NULL)
				v->ctl[keep].link.tx_tail =
				    &v->ctl[keep].link.tx_head;
		}
		keep++;
	}
	v->n_ctl = keep;
}

/* For the recorders, past the broker: nobody else names who opens a recording. */
static void
tell_keys(struct sp_vaultd *v)
{
	struct sp_msg_vault_keys m;

	if (v->has_told_keys || !v->root.is_open || v->sup.fd < 0)
		return;
	memcpy(m.audit_key, v->root.audit_pk, 32);
	memcpy(m.recording_key, v->root.rec_pk, 32);
	v->has_told_keys = sp_send_vault_keys(&v->sup, 0, &m, NULL) == SP_OK;
}

enum sp_err
sp_vaultd_turn(struct sp_vaultd *v, int timeout_ms)
{
	static struct pollfd pf[PF_MAX];
	struct pollfd *const ctl = pf + 6;
	size_t n_ctl = v->n_ctl, n_play, n_lease;
	struct pollfd *const play = ctl + n_ctl;
	struct pollfd *lease;

	tell_keys(v);
	sp_fronts_tell(v);
	poll_link(&pf[0], &v->sup);
	poll_link(&pf[1], &v->brk);
	pf[2] = (struct pollfd){.fd = v->listen_fd, .events = POLLIN};
	pf[3] = (struct pollfd){.fd = sp_fronts_fd(v->fronts), .events = POLLIN};
	poll_link(&pf[4], &v->nty);
	poll_link(&pf[5], &v->shp);
	for (size_t i = 0; i < n_ctl; i++)
		poll_link(&ctl[i], &v->ctl[i].link);
	n_play = sp_plays_poll(v->plays, play, SP_PLAYS_MAX);
	lease = play + n_play;
	n_lease = sp_leases_poll(v->leases, lease, 2 * SP_LEASES_MAX);
	if (poll(pf, 6 + n_ctl + n_play + n_lease, wait_ms(v, timeout_ms)) < 0)
		return errno == EINTR ? SP_OK : SP_ERR_IO;
	if (pf[0].revents != 0)
		SP_TRY(serve_supervisor(v));
	/* The broker before the legs: a lease is known when its egress asks. */
	if (pf[1].revents != 0 && v->brk.fd == pf[1].fd &&
	    sp_broker_serve(v) != SP_OK)
		sp_broker_drop(v);
	if (pf[3].revents != 0 || sp_fronts_due_us(v->fronts) <= sp_boot_us())
		sp_fronts_serve(v);
	if (pf[4].revents != 0 && v->nty.fd == pf[4].fd &&
	    sp_notary_serve(v) != SP_OK)
		sp_notary_drop(v);
	if (pf[5].revents != 0 && v->shp.fd == pf[5].fd &&
	    sp_ship_serve(v) != SP_OK)
		sp_ship_drop(v);
	sp_plays_serve(v->plays, play, n_play);
	sp_leases_serve(v->leases, lease, n_lease);
	serve_controls(v, ctl, n_ctl);
	if (pf[2].revents != 0)
		sp_control_accept(v);
	sp_leases_tick(v->leases, sp_now_us(), sp_boot_us());
	sp_plays_tick(v->plays, sp_boot_us());
	sp_reveals_drop(v, sp_boot_us());
	sp_ceremony_tick(v, sp_boot_us());
	sp_kit_drop(v, sp_boot_us());
	return SP_OK;
}
