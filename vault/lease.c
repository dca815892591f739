/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/lease.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "vault/hostsig.h"
#include "vault/kinds.h"
#include "vault/lease_int.h"
#include "vault/release.h"
#include "vault/rotate.h"
#include "vault/sshcert.h"
#include "vault/poison.h"

static const char *const state_name[] = {"new", "wait_link", "wait_lease",
    "ready", "proved", "used", "ended"};

/* from -> set of to */
static const unsigned next_states[] = {
    [SP_LEASE_NEW] = 1U << SP_LEASE_WAIT_LINK | 1U << SP_LEASE_WAIT_LEASE |
	1U << SP_LEASE_ENDED,
    [SP_LEASE_WAIT_LINK] = 1U << SP_LEASE_READY | 1U << SP_LEASE_ENDED,
    [SP_LEASE_WAIT_LEASE] = 1U << SP_LEASE_READY | 1U << SP_LEASE_ENDED,
    [SP_LEASE_READY] = 1U << SP_LEASE_PROVED | 1U << SP_LEASE_ENDED,
    [SP_LEASE_PROVED] = 1U << SP_LEASE_USED | 1U << SP_LEASE_ENDED,
    [SP_LEASE_USED] = 1U << SP_LEASE_ENDED,
    [SP_LEASE_ENDED] = 0,
};

static void
wipe(struct sp_lease *l)
{
	sp_secret_free(&l->key);
	sp_buf_fini(&l->blob);
	sp_buf_fini(&l->sealed);
}

void
sp_lease_set_state(struct sp_lease *l, enum sp_lease_state to)
{
	SP_ASSERT((next_states[l->state] & (1U << to)) != 0);
	sp_log(SP_DEBUG, "lease_state", l->session, "from=%s to=%s",
	    state_name[l->state], state_name[to]);
	l->state = to;
	switch (to) {
	case SP_LEASE_PROVED:
		l->link.state = SP_ST_LIVE;
		break;
	case SP_LEASE_USED:
	case SP_LEASE_ENDED:
		wipe(l);
		if (to == SP_LEASE_ENDED) {
			sp_rotation_free(l->rotation);
			l->rotation = NULL;
		}
		break;
	case SP_LEASE_NEW:
	case SP_LEASE_WAIT_LINK:
	case SP_LEASE_WAIT_LEASE:
	case SP_LEASE_READY:
		break;
	}
}

bool
sp_lease_is_over_time(const struct sp_lease *l)
{
	/* Two clocks: setting the wall clock back gives nobody time. */
	return sp_now_us() >= l->not_after_us || sp_boot_us() >= l->due_boot_us;
}

void
sp_lease_abort(struct sp_lease *l, const char *what, const char *detail)
{
	l->table->ops.event(l->table->ops.arg, what, l->session, detail);
	if (l->state != SP_LEASE_ENDED)
		sp_lease_set_state(l, SP_LEASE_ENDED);
}

enum sp_err
sp_lease_refuse(struct sp_lease *l, const char *what, const char *detail)
{
	sp_lease_abort(l, what, detail);
	return SP_ERR_DENIED;
}

/* ------------------------------------------------------------------ table */

struct sp_leases *
sp_leases_new(struct sp_root *root, const struct sp_lease_ops *ops)
{
	struct sp_leases *t = calloc(1, sizeof(*t));

	if (t != NULL) {
		t->root = root;
		t->ops = *ops;
	}
	return t;
}

static void
close_fds(struct sp_lease *l)
{
	sp_link_fini(&l->link);
	if (l->agent_fd >= 0)
		close(l->agent_fd);
	l->agent_fd = -1;
}

static void
lease_free(struct sp_lease *l)
{
	close_fds(l);
	wipe(l);
	sp_agent_fini(&l->agent);
	sp_buf_fini(&l->pins);
	sp_buf_fini(&l->host_key);
	sp_buf_fini(&l->host_sig);
	sp_rotation_free(l->rotation);
	sp_buf_fini(&l->cert);
	free(l);
}

void
sp_leases_free(struct sp_leases *t)
{
	if (t == NULL)
		return;
	for (size_t i = 0; i < t->n; i++)
		lease_free(t->row[i]);
	free(t);
}

size_t
sp_leases_n(const struct sp_leases *t)
{
	size_t n = 0;

	for (size_t i = 0; i < t->n; i++)
		n += t->row[i]->state != SP_LEASE_ENDED;
	return n;
}

static struct sp_lease *
find(const struct sp_leases *t, const uint8_t session[static 16])
{
	for (size_t i = 0; i < t->n; i++)
		if (t->row[i]->state != SP_LEASE_ENDED && sp_span_eq(
		    sp_span_of(t->row[i]->session, 16), sp_span_of(session, 16)))
			return t->row[i];
	return NULL;
}

static struct sp_lease *
add(struct sp_leases *t, const uint8_t session[static 16])
{
	struct sp_lease *l;

	if (t->n == SP_LEASES_MAX || sp_uuid_is_nil(session) ||
	    (l = calloc(1, sizeof(*l))) == NULL)
		return NULL;
	l->table = t;
	memcpy(l->session, session, 16);
	l->link.fd = l->agent_fd = -1;
	l->link.tx_tail = &l->link.tx_head;
	l->not_after_us = l->due_boot_us = INT64_MAX;
	sp_agent_init(&l->agent);
	sp_buf_init(&l->pins, 8192);
	sp_buf_init(&l->sealed, 8192);
	sp_buf_init(&l->host_key, SP_HOST_KEY_MAX);
	sp_buf_init(&l->host_sig, 2048);
	sp_buf_init(&l->blob, SP_CERT_MAX);
	t->row[t->n++] = l;
	return l;
}

/* --------------------------------------------------------------- granting */

static enum sp_err
no(char text[static 256], enum sp_err e, const char *why)
{
	snprintf(text, 256, "%s", why);
	return e;
}

static struct sp_secret_row
row_of(const struct sp_msg_v_lease *m)
{
	struct sp_secret_row r = {.kind = m->kind, .version = m->secret_version};

	memcpy(r.id, m->secret_id, 16);
	memcpy(r.owner, m->secret_owner, 16);
	sp_rule_digest(m->rule, r.rule);
	return r;
}

/* The secret's own rule, if it has one: who has signed for this? */
static enum sp_err
check_release(struct sp_leases *t, const struct sp_msg_v_lease *m,
    int64_t now_us, char text[static 256])
{
	struct sp_release_wish w = {.kind = SP_CHALLENGE_SESSION,
	    .secret = m->secret_id, .target = m->target, .account = m->account,
	    .target_name = m->target_name, .rule = m->rule,
	    .challenge = m->challenge, .approvals = m->approvals,
	    .not_after = m->not_after};
	char by[256];
	enum sp_err e;

	if (m->rule.n == 0)
		return SP_OK;
	e = sp_release_check(t->root, &w, now_us, by, text);
	if (e != SP_OK)
		t->ops.event(t->ops.arg, "release_refused", m->session, text);
	else
		sp_log(SP_INFO, "released", m->session, "signed_by=\"%s\"", by);
	return e;
}

/* A stored secret must open now, so that a swapped row is refused before
 * anybody has connected for it. */
static enum sp_err
check_secret(struct sp_leases *t, const struct sp_msg_v_lease *m,
    int64_t now_us, char text[static 256])
{
	struct sp_secret_row r = row_of(m);
	SP_SECRET_AUTO s = {0};
	enum sp_err e;

	if (!sp_kind_is(m->kind, SP_KIND_ACCOUNT))
		return no(text, SP_ERR_INVAL, "no such kind of credential");
	if (!sp_kind_is(m->kind, SP_KIND_STORED))
		return m->sealed.n == 0 ? SP_OK : no(text, SP_ERR_INVAL,
		    "this kind of credential needs no stored secret");
	if (!sp_span_eq(sp_span_of(m->secret_owner, 16),
	    sp_span_of(m->target, 16))) {
		t->ops.event(t->ops.arg, "secret_of_other_target", m->session, "");
		return no(text, SP_ERR_DENIED, "the stored secret belongs to "
		    "another target");
	}
	e = sp_secret_unseal(t->root, &r, m->sealed, &s);
	if (e == SP_OK && sp_kind_ops(m->kind)->check != NULL)
		e = sp_kind_ops(m->kind)->check(&s);
	if (e == SP_ERR_CRYPTO) {
		t->ops.event(t->ops.arg, "secret_row_broken", m->session,
		    "the sealed secret is not this row's");
		return no(text, e, "the stored secret does not open: its row was "
		    "changed, or belongs elsewhere");
	}
	return e == SP_OK ? check_release(t, m, now_us, text) :
	    no(text, e, sp_err_text(e));
}

static enum sp_err
check_grant(struct sp_leases *t, const struct sp_msg_v_lease *m, int64_t now_us,
    char text[static 256])
{
	char source[65];

	if (!t->root->is_open)
		return no(text, SP_ERR_SEALED, "the vault is sealed: sallyport "
		    "vault unseal");
	if (sp_uuid_is_nil(m->session))
		return no(text, SP_ERR_INVAL, "the session has no id");
	if (!sp_name_is_valid(m->account) || !sp_name_is_valid(m->target_name))
		return no(text, SP_ERR_INVAL, "the account's or target's name is "
		    "not a valid name");
	if (m->not_after <= now_us)
		return no(text, SP_ERR_DENIED, "the grant has expired");
	if (sp_lease_is_sql(m->kind) ? sp_lease_check_certs(m->host_keys) != SP_OK :
	    sp_host_keys_check(m->host_keys, m->legacy != 0) != SP_OK)
		return no(text, SP_ERR_INVAL, "the target has no usable pinned "
		    "host key");
	if ((m->rights & ~SP_RIGHT_ALL) != 0)
		return no(text, SP_ERR_INVAL, "there are rights that no session "
		    "has");
	if (sp_span_cstr(m->source, source, sizeof(source)) != SP_OK ||
	    (source[0] != '\0' && !sp_addr_is_numeric(source)))
		return no(text, SP_ERR_INVAL, "the source is not a numeric "
		    "address");
	return check_secret(t, m, now_us, text);
}

static enum sp_err
fill(struct sp_lease *l, const struct sp_msg_v_lease *m, int64_t now_us)
{
	int64_t boot = sp_boot_us(), left = m->not_after - now_us;

	l->kind = m->kind;
	memcpy(l->target, m->target, 16);
	l->row = row_of(m);
	l->serial = m->serial;
	l->rights = m->rights;
	l->legacy = m->legacy != 0;
	l->not_after_us = m->not_after;
	l->due_boot_us = left > INT64_MAX - boot ? INT64_MAX : boot + left;
	SP_TRY(sp_span_cstr(m->account, l->account, sizeof(l->account)));
	SP_TRY(sp_span_cstr(m->target_name, l->target_name,
	    sizeof(l->target_name)));
	SP_TRY(sp_span_cstr(m->source, l->source, sizeof(l->source)));
	SP_TRY(sp_buf_put(&l->pins, m->host_keys.p, m->host_keys.n));
	if (l->kind == SP_CRED_PG_ROLE)
		SP_TRY(sp_scram_generate(&l->key));
	return sp_buf_put(&l->sealed, m->sealed.p, m->sealed.n);
}

enum sp_err
sp_lease_grant(struct sp_leases *t, const struct sp_msg_v_lease *m,
    int64_t now_us, char text[static 256])
{
	struct sp_lease *l;
	enum sp_err e;

	text[0] = '\0';
	SP_TRY(check_grant(t, m, now_us, text));
	l = find(t, m->session);
	if (l != NULL && l->state != SP_LEASE_WAIT_LEASE) {
		t->ops.event(t->ops.arg, "second_lease", m->session, "");
		return no(text, SP_ERR_EXISTS, "the session has a lease already");
	}
	if (l == NULL && (l = add(t, m->session)) == NULL)
		return no(text, SP_ERR_FULL, "no room for another lease");
	if ((e = fill(l, m, now_us)) != SP_OK) {
		sp_lease_set_state(l, SP_LEASE_ENDED);
		return no(text, e, sp_err_text(e));
	}
	sp_lease_set_state(l, l->state == SP_LEASE_WAIT_LEASE ? SP_LEASE_READY :
	    SP_LEASE_WAIT_LINK);
	return SP_OK;
}

static enum sp_err
attach(struct sp_lease *l, int link_fd, int agent_fd)
{
	enum sp_err e;
	int fl;

	e = sp_link_init(&l->link, link_fd, SP_ROLE_VLT, SP_ROLE_EGR, SP_ST_READY);
	if (e != SP_OK) {
		close(agent_fd);
		return e;
	}
	l->agent_fd = agent_fd;
	fl = fcntl(agent_fd, F_GETFL);
	if (fl < 0 || fcntl(agent_fd, F_SETFL, fl | O_NONBLOCK) != 0 ||
	    fcntl(agent_fd, F_SETFD, FD_CLOEXEC) != 0)
		return SP_ERR_IO;
	return SP_OK;
}

enum sp_err
sp_lease_link(struct sp_leases *t, const uint8_t session[static 16],
    int link_fd, int agent_fd)
{
	struct sp_lease *l = find(t, session);
	enum sp_err e = SP_ERR_FULL;

	if (l != NULL && l->state != SP_LEASE_WAIT_LINK) {
		t->ops.event(t->ops.arg, "second_egress", session, "");
		e = SP_ERR_EXISTS;
	} else if (l != NULL || (l = add(t, session)) != NULL) {
		e = attach(l, link_fd, agent_fd);
		if (e != SP_OK) {
			sp_lease_set_state(l, SP_LEASE_ENDED);
			return e;
		}
		if (l->state == SP_LEASE_WAIT_LINK) {
			sp_lease_set_state(l, SP_LEASE_READY);
			return SP_OK;
		}
		l->due_boot_us = sp_boot_us() + SP_LEASE_WAIT_US;
		sp_lease_set_state(l, SP_LEASE_WAIT_LEASE);
		return SP_OK;
	}
	close(link_fd);
	close(agent_fd);
	return e;
}

enum sp_err
sp_lease_end(struct sp_leases *t, const uint8_t session[static 16])
{
	struct sp_lease *l = find(t, session);

	if (l == NULL)
		return SP_ERR_NOTFOUND;
	sp_lease_set_state(l, SP_LEASE_ENDED);
	return SP_OK;
}

void
sp_leases_end_unused(struct sp_leases *t, const char *why)
{
	for (size_t i = 0; i < t->n; i++) {
		struct sp_lease *l = t->row[i];

		if (l->state == SP_LEASE_USED || l->state == SP_LEASE_ENDED)
			continue;
		sp_log(SP_INFO, "lease_ended", l->session, "why=\"%s\"", why);
		sp_lease_set_state(l, SP_LEASE_ENDED);
	}
}

/* -------------------------------------------------------------- poll loop */

size_t
sp_leases_poll(struct sp_leases *t, struct pollfd *pf, size_t cap)
{
	size_t n = 0;

	for (size_t i = 0; i < t->n && n + 2 <= cap; i++, n += 2) {
		struct sp_lease *l = t->row[i];
		bool waits = l->agent.tx.len > 0;

		pf[n] = (struct pollfd){.fd = l->link.fd, .events = POLLIN};
		if (sp_link_wants_write(&l->link))
			pf[n].events |= POLLOUT;
		pf[n + 1] = (struct pollfd){.fd = l->agent_fd,
		    .events = waits ? POLLOUT : POLLIN};
	}
	return n;
}

static void
serve_link(struct sp_lease *l)
{
	struct sp_packet p;
	enum sp_err e = sp_link_flush(&l->link);

	if (e == SP_ERR_AGAIN)
		e = SP_OK;
	while (e == SP_OK && l->state != SP_LEASE_ENDED &&
	    (e = sp_link_recv(&l->link, &p)) == SP_OK)
		e = sp_lease_message(l, &p);
	if (e == SP_OK || e == SP_ERR_AGAIN || l->state == SP_LEASE_ENDED)
		return;
	if (e == SP_ERR_PROTO)
		sp_lease_abort(l, "egress_protocol", l->link.fault);
	else
		sp_lease_set_state(l, SP_LEASE_ENDED);	/* it is gone */
}

static void
agent_flush(struct sp_lease *l)
{
	while (l->agent.tx.len > 0) {
		struct sp_span s = sp_buf_span(&l->agent.tx);
		ssize_t n = send(l->agent_fd, s.p, s.n, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		sp_buf_consume(&l->agent.tx, (size_t)n);
	}
}

static void
serve_agent(struct sp_lease *l)
{
	uint8_t in[4096];
	enum sp_err e = SP_OK;
	ssize_t n;

	agent_flush(l);
	if (l->agent.tx.len > 0)
		return;
	do
		n = read(l->agent_fd, in, sizeof(in));
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n > 0)
		e = sp_lease_agent_bytes(l, sp_span_of(in, (size_t)n));
	agent_flush(l);
	if (e == SP_OK && n > 0)
		return;
	/* Whoever hangs up, or is not understood, is done with signing. */
	close(l->agent_fd);
	l->agent_fd = -1;
}

void
sp_leases_serve(struct sp_leases *t, const struct pollfd *pf, size_t n)
{
	for (size_t i = 0; 2 * i + 1 < n && i < t->n; i++) {
		struct sp_lease *l = t->row[i];

		if (pf[2 * i].revents != 0 && l->link.fd >= 0 &&
		    l->link.fd == pf[2 * i].fd && l->state != SP_LEASE_ENDED)
			serve_link(l);
		if (pf[2 * i + 1].revents != 0 && l->agent_fd >= 0 &&
		    l->agent_fd == pf[2 * i + 1].fd &&
		    l->state != SP_LEASE_ENDED)
			serve_agent(l);
	}
}

static bool
has_half(const struct sp_lease *l)
{
	return l->agent_fd >= 0 && l->half_boot_us != 0;
}

/* Whoever begins a request ends it within a second, or is closed. A lease that has
 * given its signature already stays what it is. */
static void
end_half(struct sp_lease *l)
{
	close(l->agent_fd);
	l->agent_fd = -1;
	if (l->state != SP_LEASE_USED)
		sp_lease_abort(l, "agent_protocol", "half a request");
}

void
sp_leases_tick(struct sp_leases *t, int64_t now_us, int64_t boot_us)
{
	size_t keep = 0;

	for (size_t i = 0; i < t->n; i++) {
		struct sp_lease *l = t->row[i];

		if (l->state != SP_LEASE_ENDED && l->state != SP_LEASE_USED &&
		    (boot_us >= l->due_boot_us || now_us >= l->not_after_us))
			sp_lease_abort(l, l->state == SP_LEASE_WAIT_LEASE ?
			    "egress_without_lease" : "lease_expired",
			    "its time is over");
		else if (l->state != SP_LEASE_ENDED && has_half(l) &&
		    boot_us >= l->half_boot_us)
			end_half(l);
		if (l->state == SP_LEASE_ENDED)
			lease_free(l);
		else
			t->row[keep++] = l;
	}
	t->n = keep;
}

int64_t
sp_leases_due_us(const struct sp_leases *t)
{
	int64_t due = INT64_MAX;

	for (size_t i = 0; i < t->n; i++) {
		const struct sp_lease *l = t->row[i];

		if (l->state == SP_LEASE_ENDED)
			return 0;
		if (l->state != SP_LEASE_USED && l->due_boot_us < due)
			due = l->due_boot_us;
		if (has_half(l) && l->half_boot_us < due)
			due = l->half_boot_us;
	}
	return due;
}
