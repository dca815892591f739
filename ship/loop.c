/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/text.h"
#include "ship/shipd.h"

#define DIAL_MS 15000
#define KEY_MS 15000
#define ALIVE_US 2000000

/* What a job waits for, until it is there. */
typedef bool (*until_fn)(const struct sp_ship *s);

static void
forget_key(struct sp_ship *s)
{
	explicit_bzero(s->access, sizeof(s->access));
	explicit_bzero(s->secret, sizeof(s->secret));
	s->has_key = false;
}

static enum sp_err
take_file(struct sp_ship *s, struct sp_packet *p)
{
	struct sp_msg_ship_file m;

	SP_TRY(sp_dec_ship_file(p->body, &m));
	if (s->has_job || m.what < SP_SHIP_SEND || m.what > SP_SHIP_ERASE)
		return SP_ERR_PROTO;
	s->job = (struct sp_job){.id = m.id, .what = (enum sp_ship_what)m.what,
	    .fd = p->fds[0], .size = m.size};
	p->n_fds = 0;
	memcpy(s->job.sha256, m.sha256, 32);
	sp_storeurl_key(&s->s3.url, m.session, m.started_us, s->job.key,
	    sizeof(s->job.key));
	s->has_job = true;
	return SP_OK;
}

static enum sp_err
from_supervisor(struct sp_ship *s, struct sp_packet *p)
{
	struct sp_msg_peer_link peer;
	struct sp_msg_ship_dial_failed failed;

	switch (p->type) {
	case SP_MSG_peer_link:
		SP_TRY(sp_dec_peer_link(p->body, &peer));
		if (peer.role != SP_ROLE_VLT)
			return SP_ERR_PROTO;
		if (s->vlt.fd >= 0)
			sp_link_fini(&s->vlt);
		p->n_fds = 0;
		return sp_link_init(&s->vlt, p->fds[0], SP_ROLE_SHP, SP_ROLE_VLT,
		    SP_ST_READY);
	case SP_MSG_ship_file:
		return take_file(s, p);
	case SP_MSG_ship_dialed:
		if (s->has_dial)
			return SP_ERR_PROTO;
		s->dialed = p->fds[0];
		s->has_dial = true;
		p->n_fds = 0;
		return SP_OK;
	case SP_MSG_ship_dial_failed:
		SP_TRY(sp_dec_ship_dial_failed(p->body, &failed));
		s->has_dial = true;
		return SP_OK;
	case SP_MSG_stop:
		s->stop = true;
		return SP_OK;
	default:
		return SP_ERR_PROTO;
	}
}

static enum sp_err
from_vault(struct sp_ship *s, struct sp_packet *p)
{
	struct sp_msg_v_store_key_r m;

	if (p->type != SP_MSG_v_store_key_r)
		return SP_ERR_PROTO;
	SP_TRY(sp_dec_v_store_key_r(p->body, &m));
	forget_key(s);
	s->key_err = m.err < SP_ERR_COUNT_ ? (enum sp_err)m.err : SP_ERR_PROTO;
	if (s->key_err == SP_OK)
		s->key_err = sp_span_cstr(m.access, s->access, sizeof(s->access));
	if (s->key_err == SP_OK)
		s->key_err = sp_span_cstr(m.secret, s->secret, sizeof(s->secret));
	s->has_key = true;
	/* It stood in the room that messages arrive in. */
	explicit_bzero(s->vlt.rx + (p->body.p - s->vlt.rx), p->body.n);
	return SP_OK;
}

static enum sp_err
serve(struct sp_ship *s, struct sp_link *l,
    enum sp_err (*fn)(struct sp_ship *, struct sp_packet *))
{
	enum sp_err e = sp_link_flush(l);

	if (e == SP_ERR_AGAIN)
		e = SP_OK;
	while (e == SP_OK && l->fd >= 0) {
		struct sp_packet p;

		if ((e = sp_link_recv(l, &p)) != SP_OK)
			break;
		e = fn(s, &p);
		sp_packet_close_fds(&p);
	}
	return e == SP_ERR_AGAIN ? SP_OK : e;
}

static enum sp_err
serve_all(struct sp_ship *s)
{
	enum sp_err e;

	SP_TRY(serve(s, &s->sup, from_supervisor));
	if (s->vlt.fd < 0)
		return SP_OK;
	e = serve(s, &s->vlt, from_vault);
	if (e != SP_OK) {
		sp_log(e == SP_ERR_EOF ? SP_INFO : SP_ERROR, "peer_lost", NULL,
		    "peer=vault error=\"%s\" fault=\"%s\"", sp_err_text(e),
		    s->vlt.fault);
		sp_link_fini(&s->vlt);
		s->vlt.fd = -1;
	}
	return SP_OK;
}

static enum sp_err
turn(struct sp_ship *s, int timeout_ms)
{
	struct pollfd pf[2] = {
	    {.fd = s->sup.fd, .events = POLLIN},
	    {.fd = s->vlt.fd, .events = POLLIN}};

	if (sp_link_wants_write(&s->sup))
		pf[0].events |= POLLOUT;
	if (s->vlt.fd >= 0 && sp_link_wants_write(&s->vlt))
		pf[1].events |= POLLOUT;
	if (poll(pf, 2, timeout_ms) < 0 && errno != EINTR)
		return SP_ERR_IO;
	return serve_all(s);
}

static bool
wait_for(struct sp_ship *s, until_fn is_there, int ms)
{
	int64_t due = sp_boot_us() + (int64_t)ms * 1000, left;

	while (!is_there(s) && !s->stop && (left = due - sp_boot_us()) > 0)
		if (turn(s, (int)(left / 1000) + 1) != SP_OK) {
			s->stop = true;
			return false;
		}
	return is_there(s) && !s->stop;
}

bool
sp_ship_goes_on(void *arg)
{
	struct sp_ship *s = arg;
	struct sp_msg_ship_alive m = {.id = s->job.id, .sent = s->s3.sent};
	int64_t now = sp_boot_us();

	if (!s->stop && s->alive_us <= now) {
		s->alive_us = now + ALIVE_US;
		s->stop = sp_send_ship_alive(&s->sup, 0, &m, NULL) != SP_OK;
	}
	if (!s->stop && turn(s, 0) != SP_OK)
		s->stop = true;
	return !s->stop;
}

static bool
is_dialed(const struct sp_ship *s)
{
	return s->has_dial;
}

int
sp_ship_dial(void *arg, unsigned index)
{
	struct sp_ship *s = arg;
	struct sp_msg_ship_dial m = {.index = (uint8_t)index};
	int fd;

	s->has_dial = false;
	s->dialed = -1;
	if (sp_send_ship_dial(&s->sup, 0, &m, NULL) != SP_OK) {
		s->stop = true;
		return -1;
	}
	(void)wait_for(s, is_dialed, DIAL_MS);
	fd = s->dialed;
	s->dialed = -1;
	return fd;
}

static bool
is_keyed(const struct sp_ship *s)
{
	return s->has_key;
}

static enum sp_err
ask_key(struct sp_ship *s, struct sp_job *j)
{
	struct sp_msg_v_store_key m;
	enum sp_err e = SP_ERR_SEALED;

	forget_key(s);
	if (s->vlt.fd >= 0 && sp_send_v_store_key(&s->vlt, 0, &m, NULL) == SP_OK &&
	    wait_for(s, is_keyed, KEY_MS))
		e = s->key_err;
	if (e != SP_OK)
		snprintf(j->text, sizeof(j->text), "%s", e == SP_ERR_NOTFOUND ?
		    "the vault has no key of the store: sallyport vault store-key" :
		    e == SP_ERR_SEALED ? "the vault is sealed" : sp_err_text(e));
	return e;
}

static enum sp_err
run_job(struct sp_ship *s, struct sp_job *j)
{
	enum sp_err e;

	s->s3.sent = 0;
	SP_TRY(ask_key(s, j));
	e = sp_s3_begin(&s->s3, s->access, s->secret);
	forget_key(s);
	if (e == SP_OK)
		e = sp_job_run(s, j);
	sp_s3_end(&s->s3);
	return e;
}

static enum sp_err
do_job(struct sp_ship *s)
{
	struct sp_job *j = &s->job;
	struct sp_msg_ship_done m = {.id = j->id};
	enum sp_err e = run_job(s, j);

	if (e == SP_OK)
		j->text[0] = '\0';	/* of a question that was answered with no */
	if (e != SP_OK && j->text[0] == '\0')
		snprintf(j->text, sizeof(j->text), "%s", sp_err_text(e));
	m.err = (uint8_t)e;
	m.how = e == SP_OK ? (uint8_t)j->how : SP_SHIP_BY_NOTHING;
	m.size = j->d.size;
	memcpy(m.sha256, j->d.sha256, 32);
	m.sent = s->s3.sent;
	m.text = sp_span_str(e == SP_OK ? "" : j->text);
	sp_log(e == SP_OK ? SP_INFO : SP_WARN, "ship_job", NULL, "what=%u key=%s "
	    "size=%llu sent=%llu error=\"%s\" text=\"%s\"", (unsigned)j->what,
	    j->key, (unsigned long long)m.size, (unsigned long long)m.sent,
	    sp_err_text(e), sp_vis_str(j->text));
	if (!s->stop)
		e = sp_send_ship_done(&s->sup, 0, &m, NULL);
	else
		e = SP_OK;
	sp_job_fini(j);
	s->has_job = false;
	return e;
}

enum sp_err
sp_ship_loop(struct sp_ship *s)
{
	while (!s->stop) {
		if (s->has_job)
			SP_TRY(do_job(s));
		else
			SP_TRY(turn(s, -1));
	}
	return SP_ERR_EOF;
}
