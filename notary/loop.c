/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "notary/notaryd.h"

#define TICK_MS 1000

void
sp_notary_say(struct sp_notary *n)
{
	struct sp_msg_n_status m = {.state = (uint8_t)n->state,
	    .signed_size = n->head.size, .origin = sp_span_str(n->origin),
	    .text = sp_span_str(n->why)};

	if (n->store != NULL)
		m.size = sp_nstore_size(n->store);
	if (n->brk.fd >= 0 && sp_send_n_status(&n->brk, 0, &m, NULL) != SP_OK)
		sp_link_fini(&n->brk);
}

void
sp_notary_event(struct sp_notary *n, const char *what, const char *detail)
{
	struct sp_msg_security_event m = {.what = sp_span_str(what)};
	char text[512];

	m.detail = sp_span_str(sp_vis(text, sizeof(text), sp_span_str(detail)));
	sp_log(SP_WARN, what, NULL, "detail=\"%s\"", text);
	if (n->brk.fd >= 0 &&
	    sp_send_security_event(&n->brk, 0, &m, NULL) != SP_OK)
		sp_link_fini(&n->brk);
}

void
sp_notary_refuse(struct sp_notary *n, enum sp_log_state st, const char *why)
{
	n->state = st;
	snprintf(n->why, sizeof(n->why), "%s", why);
	sp_notary_event(n, st == SP_LOG_ALTERED ? "log_altered" : "log_broken",
	    why);
	sp_notary_say(n);
}

/* What an old broker said before it died was said: leaves of sessions that no
 * other broker speaks of again. */
static void
hear_out(struct sp_notary *n, struct sp_link *l)
{
	struct sp_packet p;

	for (unsigned i = 0; i < SP_NOTARY_WAITING_MAX && l->fd >= 0 &&
	    sp_link_recv(l, &p) == SP_OK; i++) {
		enum sp_err e = sp_notary_take(n, &p);

		sp_packet_close_fds(&p);
		if (e != SP_OK)
			break;
	}
}

/* A link that came anew says what there is to say. */
static void
meet(struct sp_notary *n, uint16_t role, int fd)
{
	struct sp_link *l = role == SP_ROLE_BRK ? &n->brk : &n->vlt;

	if (l->fd >= 0 && role == SP_ROLE_BRK)
		hear_out(n, l);
	if (l->fd >= 0)
		sp_link_fini(l);
	if (sp_link_init(l, fd, SP_ROLE_NTY, role, SP_ST_READY) != SP_OK) {
		l->fd = -1;
		return;
	}
	if (role == SP_ROLE_VLT) {
		/* Another vault: what did that one sign? */
		n->is_asking = n->is_signing = n->has_head = false;
		n->ask_us = 0;
		if (n->state == SP_LOG_GOOD)
			n->state = SP_LOG_WAITS;
		return;
	}
	n->n_waiting = 0;	/* the old broker's; they are in all the same */
	if (n->state == SP_LOG_ALTERED || n->state == SP_LOG_BROKEN)
		sp_notary_event(n, n->state == SP_LOG_ALTERED ? "log_altered" :
		    "log_broken", n->why);
	sp_notary_say(n);
}

static enum sp_err
from_supervisor(struct sp_notary *n, struct sp_packet *p)
{
	struct sp_msg_peer_link peer;
	struct sp_msg_n_run_r run;
	struct sp_msg_n_run_failed failed;
	char text[256];

	switch (p->type) {
	case SP_MSG_peer_link:
		SP_TRY(sp_dec_peer_link(p->body, &peer));
		if (peer.role != SP_ROLE_BRK && peer.role != SP_ROLE_VLT)
			return SP_ERR_PROTO;
		meet(n, peer.role, p->fds[0]);
		p->n_fds = 0;
		return SP_OK;
	case SP_MSG_n_run_r:
		SP_TRY(sp_dec_n_run_r(p->body, &run));
		sp_run_begin(n, run.id, p->fds[0], p->fds[1]);
		p->n_fds = 0;
		return SP_OK;
	case SP_MSG_n_run_failed:
		SP_TRY(sp_dec_n_run_failed(p->body, &failed));
		for (size_t i = 0; i < SP_NOTARY_RUNS_MAX; i++)
			if (failed.id != 0 && n->run[i].id == failed.id) {
				sp_vis(text, sizeof(text), failed.text);
				sp_run_end(n, &n->run[i], text);
			}
		return SP_OK;
	case SP_MSG_n_erase:
		return sp_notary_ends(n, p);
	case SP_MSG_stop:
		n->stop = true;
		return SP_OK;
	default:
		return SP_ERR_PROTO;
	}
}

/* All that waits on a link, but a bounded piece of it. */
static enum sp_err
serve(struct sp_notary *n, struct sp_link *l,
    enum sp_err (*fn)(struct sp_notary *, struct sp_packet *))
{
	enum sp_err e = sp_link_flush(l);

	if (e == SP_ERR_AGAIN)
		e = SP_OK;
	for (unsigned i = 0; e == SP_OK && i < 64 && l->fd >= 0; i++) {
		struct sp_packet p;

		if ((e = sp_link_recv(l, &p)) != SP_OK)
			break;
		e = fn(n, &p);
		sp_packet_close_fds(&p);
	}
	return e == SP_ERR_AGAIN ? SP_OK : e;
}

static void
drop(struct sp_link *l, const char *who, enum sp_err e)
{
	if (e == SP_OK || l->fd < 0)
		return;
	sp_log(e == SP_ERR_EOF ? SP_INFO : SP_ERROR, "peer_lost", NULL,
	    "peer=%s error=\"%s\" fault=\"%s\"", who, sp_err_text(e), l->fault);
	sp_link_fini(l);
	l->fd = -1;
}

static int
wait_ms(const struct sp_notary *n, int64_t now)
{
	int64_t due = INT64_MAX, ms;

	if (n->n_waiting > 0)
		due = n->is_urgent ? now : n->oldest_us + SP_NOTARY_HOLD_US;
	if (n->has_head && !n->is_signing && n->store != NULL &&
	    sp_nstore_size(n->store) > n->head.size && n->sign_us < due)
		due = n->sign_us;
	if (due == INT64_MAX)
		return TICK_MS;
	ms = (due - now + 999) / 1000;
	return ms < 0 ? 0 : ms > TICK_MS ? TICK_MS : (int)ms;
}

static struct pollfd
watch(const struct sp_link *l)
{
	struct pollfd p = {.fd = l->fd, .events = POLLIN};

	if (l->fd >= 0 && sp_link_wants_write(l))
		p.events |= POLLOUT;
	return p;
}

static enum sp_err
work(struct sp_notary *n, const struct pollfd *pf)
{
	int64_t now;

	if (pf[0].revents != 0)
		SP_TRY(serve(n, &n->sup, from_supervisor));
	if (n->vlt.fd >= 0 && (pf[1].revents != 0 || pf[1].fd != n->vlt.fd))
		drop(&n->vlt, "vault", serve(n, &n->vlt, sp_notary_vault));
	if (n->brk.fd >= 0 && (pf[2].revents != 0 || pf[2].fd != n->brk.fd))
		drop(&n->brk, "broker", serve(n, &n->brk, sp_notary_take));
	if (n->is_dead)
		return SP_ERR_IO;
	SP_TRY(sp_notary_end_signed(n));
	now = sp_boot_us();
	if (n->n_waiting > 0 && (n->is_urgent || n->stop ||
	    now - n->oldest_us >= SP_NOTARY_HOLD_US))
		SP_TRY(sp_notary_commit(n));
	for (size_t i = 0; i < SP_NOTARY_RUNS_MAX; i++)
		if (n->run[i].id != 0)
			sp_run_serve(n, &n->run[i], now);
	if (n->store == NULL)
		return SP_OK;
	sp_notary_ask(n, now);
	if (n->has_head && n->head.size > 0 && sp_nstore_note(n->store).n > 0 &&
	    !n->is_signing)
		sp_notary_publish(n, sp_nstore_note(n->store));
	return SP_OK;
}

enum sp_err
sp_notary_loop(struct sp_notary *n)
{
	struct pollfd pf[3 + 2 * SP_NOTARY_RUNS_MAX];
	nfds_t k;

	while (!n->stop) {
		pf[0] = watch(&n->sup);
		pf[1] = watch(&n->vlt);
		pf[2] = watch(&n->brk);
		k = 3;
		for (size_t i = 0; i < SP_NOTARY_RUNS_MAX; i++) {
			pf[k++] = (struct pollfd){.fd = n->run[i].id == 0 ? -1 :
			    n->run[i].out, .events = POLLIN};
			pf[k++] = (struct pollfd){.fd = n->run[i].id == 0 ? -1 :
			    n->run[i].in, .events = POLLOUT};
		}
		if (poll(pf, k, wait_ms(n, sp_boot_us())) < 0 && errno != EINTR)
			return SP_ERR_IO;
		SP_TRY(work(n, pf));
	}
	return SP_ERR_EOF;
}
