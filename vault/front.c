/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/front.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "vault/sshkey.h"
#include "vault/vaultd.h"
#include "vault/poison.h"

#define FRONTS_MAX 100000	/* the supervisor's bound is lower */
#define A_TURN 64
#define KEXINIT 20
#define KEXINIT_LEAST 62	/* type, cookie, ten empty lists, follows, reserved */
#define LINE_MAX_BYTES 255
/* A key exchange costs its ingress twenty times what it costs us; a captured one
 * asks without any. Beyond BURST a link gets one signature each EACH_US. */
#define BURST 64
#define EACH_US 10000
#define SAY_US 10000000	/* one line about refusals */

struct front {
	LIST_ENTRY(front) next;
	TAILQ_ENTRY(front) later;
	int fd;
	bool is_waiting;		/* in `waiting`, out of the epoll set */
	uint64_t conn;
	int64_t paid_us;		/* what was signed is paid for by then */
	int64_t due_us;
};

struct sp_fronts {
	int ep, key_fd;
	size_t n;
	LIST_HEAD(, front) all;
	TAILQ_HEAD(, front) waiting;	/* all for as long: the first is due first */
	int64_t said_us;
	uint64_t n_refused;
	struct sp_link link;	/* of whoever is served now: see with_link() */
	bool is_kept;		/* to be told: the file is not needed any more */
	struct sp_buf blob;
};

struct sp_fronts *
sp_fronts_new(void)
{
	struct sp_fronts *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return NULL;
	LIST_INIT(&f->all);
	TAILQ_INIT(&f->waiting);
	f->key_fd = f->link.fd = -1;
	f->link.tx_tail = &f->link.tx_head;
	sp_buf_init(&f->blob, 128);
	f->ep = epoll_create1(EPOLL_CLOEXEC);
	if (f->ep >= 0)
		return f;
	free(f);
	return NULL;
}

/* The supervisor has the same end: closing ours neither ends the link nor takes
 * it out of the epoll set. */
static void
drop(struct sp_fronts *f, struct front *k)
{
	struct epoll_event ev = {.events = 0};

	LIST_REMOVE(k, next);
	if (k->is_waiting)
		TAILQ_REMOVE(&f->waiting, k, later);
	f->n--;
	epoll_ctl(f->ep, EPOLL_CTL_DEL, k->fd, &ev);
	shutdown(k->fd, SHUT_RDWR);
	close(k->fd);
	free(k);
}

void
sp_fronts_free(struct sp_fronts *f)
{
	struct front *k;

	if (f == NULL)
		return;
	while ((k = LIST_FIRST(&f->all)) != NULL) {
		LIST_REMOVE(k, next);
		close(k->fd);	/* the next vault gets the same link */
		free(k);
	}
	sp_fronts_wipe(f);
	sp_link_fini(&f->link);
	sp_buf_fini(&f->blob);
	close(f->ep);
	if (f->key_fd >= 0)
		close(f->key_fd);
	free(f);
}

int
sp_fronts_fd(const struct sp_fronts *f)
{
	return f->ep;
}

size_t
sp_fronts_n(const struct sp_fronts *f)
{
	return f->n;
}

void
sp_fronts_wipe(struct sp_fronts *f)
{
	sp_buf_reset(&f->blob);
}

void
sp_fronts_key_file(struct sp_fronts *f, int fd)
{
	if (f->key_fd >= 0)
		close(f->key_fd);
	f->key_fd = fd;
}

enum sp_err
sp_fronts_add(struct sp_fronts *f, uint64_t conn, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN};
	struct front *k = f->n >= FRONTS_MAX ? NULL : calloc(1, sizeof(*k));

	if (k == NULL) {
		close(fd);
		return SP_ERR_FULL;
	}
	ev.data.ptr = k;
	if (epoll_ctl(f->ep, EPOLL_CTL_ADD, fd, &ev) != 0) {
		free(k);
		close(fd);
		return SP_ERR_IO;
	}
	k->fd = fd;
	k->conn = conn;
	LIST_INSERT_HEAD(&f->all, k, next);
	f->n++;
	return SP_OK;
}

/* --------------------------------------------------------------- the host key */

static enum sp_err
read_file(int fd, struct sp_secret *text, size_t *n)
{
	ssize_t got;

	SP_TRY(sp_secret_new(text, SP_HOST_KEY_FILE_MAX));
	*n = 0;
	if (fd < 0 || lseek(fd, 0, SEEK_SET) != 0)
		return SP_ERR_NOTFOUND;
	while (*n < text->n && (got = read(fd, text->p + *n, text->n - *n)) > 0)
		*n += (size_t)got;
	return *n > 0 && *n < text->n ? SP_OK : SP_ERR_IO;
}

/* The seed that stands in the file; SP_ERR_NOTFOUND: nothing does. */
static enum sp_err
import_seed(struct sp_fronts *f, struct sp_secret *seed)
{
	SP_SECRET_AUTO text = {0};
	size_t n = 0;
	enum sp_err e = read_file(f->key_fd, &text, &n);

	if (n > 0 && text.p[0] == 0)	/* its removal was cut short */
		f->is_kept = true;
	if (n == 0 || text.p[0] == 0)
		return SP_ERR_NOTFOUND;
	SP_TRY(e);
	SP_TRY(sp_sshkey_import(sp_span_of(text.p, n), sp_span_str(""), seed));
	/* only Ed25519 is kept so short (sshkey.h) */
	return seed->n == 32 ? SP_OK : SP_ERR_UNSUPPORTED;
}

/* Into the state, and on disk there, before anybody hears of it. */
static enum sp_err
keep(struct sp_vaultd *v, const struct sp_secret *seed, bool *is_new)
{
	v->draft = v->state;
	SP_TRY(sp_root_put_host(&v->root, seed, &v->draft));
	*is_new = !v->state.has_host ||
	    sodium_memcmp(v->draft.host_pk, v->state.host_pk, 32) != 0;
	if (!*is_new)
		return SP_OK;
	SP_TRY(sp_vaultd_save(v));
	return sp_root_take_host(&v->root, &v->state);
}

void
sp_fronts_open(struct sp_vaultd *v)
{
	struct sp_fronts *f = v->fronts;
	SP_SECRET_AUTO seed = {0};
	bool is_new = false;
	enum sp_err e = import_seed(f, &seed);

	sp_buf_reset(&f->blob);
	if (e == SP_ERR_NOTFOUND) {
		if (v->root.host.p == NULL)
			sp_vaultd_event(v, "no_host_key", NULL, "neither the vault nor "
			    "keys/ssh_host_ed25519_key has the bastion's host key: "
			    "nobody can log in");
		return;
	}
	if (e == SP_OK)
		e = keep(v, &seed, &is_new);
	if (e != SP_OK) {
		sp_vaultd_event(v, "host_key_not_kept", NULL, e == SP_ERR_FULL ||
		    e == SP_ERR_IO ? "the state file could not be written: "
		    "keys/ssh_host_ed25519_key stays as it is" :
		    "keys/ssh_host_ed25519_key is no Ed25519 key without a "
		    "passphrase");
		return;
	}
	if (is_new)
		sp_vaultd_event(v, "host_key_kept", NULL, "the vault has the "
		    "bastion's host key of keys/ssh_host_ed25519_key in its state");
	sp_fronts_key_file(f, -1);
	f->is_kept = true;
}

/* Whoever has the file removes it. */
void
sp_fronts_tell(struct sp_vaultd *v)
{
	struct sp_msg_host_key_kept m;

	if (!v->fronts->is_kept || v->sup.fd < 0 || v->root.host.p == NULL)
		return;
	memcpy(m.host_key, v->root.host_pk, 32);
	v->fronts->is_kept = sp_send_host_key_kept(&v->sup, 0, &m, NULL) != SP_OK;
}

/* ------------------------------------------------------------- what is signed */

static bool
is_version(struct sp_span s)
{
	if (s.n < 9 || s.n > LINE_MAX_BYTES ||
	    !sp_span_eq(sp_span_of(s.p, 4), sp_span_str("SSH-")))
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < 0x20 || s.p[i] > 0x7e)
			return false;
	return true;
}

static bool
is_kexinit(struct sp_span s)
{
	return s.n >= KEXINIT_LEAST && s.p[0] == KEXINIT;
}

enum sp_err
sp_exchange_check(struct sp_span s, struct sp_span blob)
{
	struct sp_span v[2], init[2], key, last[3];

	for (int i = 0; i < 2; i++)
		SP_TRY(sp_get_ssh_string(&s, LINE_MAX_BYTES, &v[i]));
	for (int i = 0; i < 2; i++)
		SP_TRY(sp_get_ssh_string(&s, 40000, &init[i]));
	SP_TRY(sp_get_ssh_string(&s, 4096, &key));
	/* Both sides' public values and the shared secret. */
	for (int i = 0; i < 3; i++) {
		SP_TRY(sp_get_ssh_string(&s, 2048, &last[i]));
		if (last[i].n == 0)
			return SP_ERR_PROTO;
	}
	return s.n == 0 && is_version(v[0]) && is_version(v[1]) &&
	    is_kexinit(init[0]) && is_kexinit(init[1]) && blob.n > 0 &&
	    sp_span_eq(key, blob) ? SP_OK : SP_ERR_PROTO;
}

static const char *
sign(struct sp_vaultd *v, const struct sp_msg_host_sign *m, uint8_t out[static 64])
{
	struct sp_fronts *f = v->fronts;
	uint8_t hash[64];
	size_t n = m->sha512 != 0 ? 64 : 32;
	const struct sp_root *r = &v->root;

	if (!r->is_open)
		return "the vault is sealed";
	if (r->host.p == NULL)
		return "the vault has no host key of this bastion";
	if (f->blob.len == 0 && sp_ssh_ed25519_blob(&f->blob, r->host_pk) != SP_OK)
		return "no memory";
	if (m->sha512 > 1 ||
	    sp_exchange_check(m->exchange, sp_buf_span(&f->blob)) != SP_OK)
		return "that is no key exchange of this bastion";
	if (m->sha512 != 0)
		crypto_hash_sha512(hash, m->exchange.p, m->exchange.n);
	else
		crypto_hash_sha256(hash, m->exchange.p, m->exchange.n);
	return crypto_sign_detached(out, NULL, hash, n, r->host.p) == 0 ? NULL :
	    "signing failed";
}

/* -------------------------------------------------------------------- serving */

static void
say_refused(struct sp_fronts *f, const struct front *k, const char *why)
{
	int64_t now = sp_boot_us();

	f->n_refused++;
	if (f->said_us != 0 && now - f->said_us < SAY_US)
		return;
	f->said_us = now;
	sp_log(SP_WARN, "host_sign_refused", NULL, "conn=%llu count=%llu why=\"%s\"",
	    (unsigned long long)k->conn, (unsigned long long)f->n_refused, why);
	f->n_refused = 0;
}

/* false: not now, it is asked again when it is due */
static bool
may_ask(struct sp_fronts *f, struct front *k, int64_t now)
{
	struct epoll_event ev = {.events = 0};

	if (k->paid_us < now)
		k->paid_us = now;
	if (k->paid_us - now < (int64_t)BURST * EACH_US) {
		k->paid_us += EACH_US;
		return true;
	}
	ev.data.ptr = k;
	epoll_ctl(f->ep, EPOLL_CTL_MOD, k->fd, &ev);
	k->is_waiting = true;
	k->due_us = now + EACH_US;
	TAILQ_INSERT_TAIL(&f->waiting, k, later);
	return false;
}

static void
wake(struct sp_fronts *f, int64_t now)
{
	struct epoll_event ev = {.events = EPOLLIN};
	struct front *k;

	while ((k = TAILQ_FIRST(&f->waiting)) != NULL && k->due_us <= now) {
		TAILQ_REMOVE(&f->waiting, k, later);
		k->is_waiting = false;
		ev.data.ptr = k;
		epoll_ctl(f->ep, EPOLL_CTL_MOD, k->fd, &ev);
	}
}

int64_t
sp_fronts_due_us(const struct sp_fronts *f)
{
	const struct front *k = TAILQ_FIRST(&f->waiting);

	return k == NULL ? INT64_MAX : k->due_us;
}

static enum sp_err
answer(struct sp_vaultd *v, struct front *k, struct sp_packet *p)
{
	struct sp_msg_host_sign m;
	struct sp_msg_host_sign_r r = {.ok = 0};
	const char *why;

	if (p->type != SP_MSG_host_sign)
		return SP_ERR_PROTO;
	SP_TRY(sp_dec_host_sign(p->body, &m));
	why = sign(v, &m, r.signature);
	sp_packet_wipe(&v->fronts->link, p);
	r.ok = why == NULL;
	r.text = sp_span_str(why == NULL ? "" : why);
	if (why != NULL)
		say_refused(v->fronts, k, why);
	return sp_send_host_sign_r(&v->fronts->link, p->corr, &r, NULL);
}

/* One link's buffers serve all: of thousands of fronts one speaks at a time, and
 * an answer that does not go out at once belongs to one that does not listen. */
static bool
with_link(struct sp_vaultd *v, struct front *k)
{
	struct sp_link *l = &v->fronts->link;
	struct sp_packet p;
	enum sp_err e = SP_OK;

	if (!l->is_open)
		e = sp_link_init(l, k->fd, SP_ROLE_VLT, SP_ROLE_ING, SP_ST_READY);
	l->fd = k->fd;
	if (e == SP_OK && (e = sp_link_recv(l, &p)) == SP_OK) {
		e = answer(v, k, &p);
		sp_packet_close_fds(&p);
	}
	if (e == SP_ERR_PROTO)
		sp_vaultd_event(v, "ingress_protocol", NULL, l->fault);
	l->fd = -1;
	if (sp_link_wants_write(l)) {
		sp_link_fini(l);
		return false;
	}
	return e == SP_OK || e == SP_ERR_AGAIN;
}

void
sp_fronts_serve(struct sp_vaultd *v)
{
	struct epoll_event ev[A_TURN];
	int64_t now = sp_boot_us();
	int n;

	wake(v->fronts, now);
	n = epoll_wait(v->fronts->ep, ev, A_TURN, 0);
	for (int i = 0; i < n; i++) {
		struct front *k = ev[i].data.ptr;

		if ((ev[i].events & (EPOLLHUP | EPOLLERR)) != 0)
			drop(v->fronts, k);	/* nobody is there */
		else if (may_ask(v->fronts, k, now) && !with_link(v, k))
			drop(v->fronts, k);
	}
}
