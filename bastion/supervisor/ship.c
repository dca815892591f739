/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recordings to the store, and their end. The broker says which is due; the file is
 * opened (by sallyport-files) and given to sallyport-ship, which says what became of
 * it; and only then a copy here goes: after a comparison with the store (DROP), or,
 * where it is the end (ERASE), after the notary has said that the leaf of it is under
 * a signed head of the transparency log. So neither the broker nor sallyport-ship nor
 * the notary alone can make a recording disappear.
 */
#include "bastion/supervisor/sup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/storeurl.h"

#define WAIT_US (30 * SP_SECOND_US)	/* for the notary's word, for sallyport-ship */

bool
sp_role_is_wanted(const struct sp_instance *in, enum sp_rx rx)
{
	return rx != SP_RX_SHIP || in->cfg.ship_store[0] != '\0';
}

enum sp_err
sp_ship_start(struct sp_sup *s, struct sp_proc *p)
{
	struct sp_msg_start_ship m = {.config =
	    sp_span_of(s->in.conf_text, s->in.conf_len)};
	int fd = open(s->in.cfg.ship_ca, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0) {
		sp_say(&s->in, "cannot read %s (ship_ca): %s", s->in.cfg.ship_ca,
		    strerror(errno));
		return SP_ERR_IO;
	}
	return sp_send_start_ship(&p->link, 0, &m, &fd);
}

/* It is run anew with what is configured now, or ends. */
void
sp_ship_reread(struct sp_sup *s)
{
	struct sp_slot *slot = &s->slots[SP_RX_SHIP];

	if (slot->cur != NULL)
		sp_proc_retire(s, slot->cur);
	slot->backoff_ms = 0;	/* nothing failed: at once */
	slot->restart_us = sp_role_is_wanted(&s->in, SP_RX_SHIP) ?
	    sp_boot_us() : 0;
}

/* ------------------------------------------------------------------- the answer */

static void
answer(struct sp_sup *s)
{
	struct sp_proc *b = sp_proc_ready(s, SP_RX_BROKER);
	const struct sp_msg_ship_done *d = &s->ship.done;
	struct sp_msg_ship_result r = {.id = s->ship.job.id, .err = d->err,
	    .how = d->how, .size = d->size, .sent = d->sent,
	    .text = sp_span_str(s->ship.text)};

	memcpy(r.sha256, d->sha256, 32);
	s->ship.step = SP_SHIP_NONE;
	s->ship.by = NULL;
	if (b != NULL)
		sp_proc_sent(s, b, sp_send_ship_result(&b->link, s->ship.corr, &r,
		    NULL));
}

static void
refuse(struct sp_sup *s, enum sp_err e, const char *text)
{
	s->ship.done = (struct sp_msg_ship_done){.err = (uint8_t)e};
	snprintf(s->ship.text, sizeof(s->ship.text), "%s", text);
	answer(s);
}

/* ---------------------------------------------------------------------- the file */

static void
file_followed(struct sp_sup *s, struct sp_file_job *j, int err_no, int *fds,
    size_t n)
{
	(void)fds;
	(void)n;
	if (s->ship.step != SP_SHIP_AFTER || j->ref != s->ship.serial)
		return;		/* nobody waits for it any more */
	if (err_no != 0 && s->ship.done.err == SP_OK) {
		s->ship.done.err = SP_ERR_IO;
		snprintf(s->ship.text, sizeof(s->ship.text), "the file on this disk "
		    "did not follow: %s", strerror(err_no));
	}
	answer(s);
}

/* The file is to follow what the store has done; then the broker hears of it. */
static void
follow(struct sp_sup *s, uint8_t op)
{
	struct sp_file_job *j = sp_files_job(s, op, sp_span_of(
	    s->ship.job.session, 16));

	if (j == NULL) {
		refuse(s, SP_ERR_AGAIN, "too much is asked of the recordings");
		return;
	}
	j->done = file_followed;
	j->ref = s->ship.serial;
	s->ship.step = SP_SHIP_AFTER;
	s->ship.due_us = sp_boot_us() + WAIT_US;
	sp_files_ask(s, j, true);
}

/* As long as that it may say nothing. */
static int64_t
silence_us(const struct sp_sup *s)
{
	return (4 * (int64_t)s->in.cfg.ship_stall_s + 30) * SP_SECOND_US;
}

static void go_on(struct sp_sup *s);

static void
hand_on(struct sp_sup *s, struct sp_proc *p, int fd)
{
	const struct sp_msg_ship_job *m = &s->ship.job;
	struct sp_msg_ship_file f = {.id = m->id, .what = m->what,
	    .started_us = m->started_us, .size = m->size};

	memcpy(f.session, m->session, 16);
	memcpy(f.sha256, m->sha256, 32);
	s->ship.by = p;
	s->ship.step = SP_SHIP_OUT;
	s->ship.due_us = sp_boot_us() + silence_us(s);
	sp_proc_sent(s, p, sp_send_ship_file(&p->link, 0, &f, &fd));
}

static void
file_is_there(struct sp_sup *s, struct sp_file_job *j, int err_no, int *fds,
    size_t n)
{
	struct sp_proc *p = sp_proc_ready(s, SP_RX_SHIP);

	if (s->ship.step != SP_SHIP_FILE || j->ref != s->ship.serial)
		return;
	if (err_no != 0 || n != 1) {
		refuse(s, err_no == ENOENT ? SP_ERR_NOTFOUND : SP_ERR_IO, err_no ==
		    ENOENT ? "there is no such recording on this disk" :
		    err_no == ETIMEDOUT ? "the disk of the recordings does not "
		    "answer" : strerror(err_no));
	} else if (p == NULL) {
		go_on(s);	/* it ended meanwhile: the next one gets it */
	} else {
		hand_on(s, p, fds[0]);
		fds[0] = -1;
	}
}

static void
open_file(struct sp_sup *s)
{
	struct sp_file_job *j = sp_files_job(s, s->ship.job.what == SP_SHIP_FETCH ?
	    SP_FILE_FETCH : SP_FILE_FINISHED, sp_span_of(s->ship.job.session, 16));

	if (j == NULL) {
		refuse(s, SP_ERR_AGAIN, "too much is asked of the recordings");
		return;
	}
	j->done = file_is_there;
	j->ref = s->ship.serial;
	s->ship.step = SP_SHIP_FILE;
	s->ship.due_us = sp_boot_us() + WAIT_US;
	sp_files_ask(s, j, true);
}

/* ----------------------------------------------------------------- what is asked */

static void
go_on(struct sp_sup *s)
{
	struct sp_proc *p = sp_proc_ready(s, SP_RX_SHIP);
	bool is_end = s->ship.job.what == SP_SHIP_ERASE;
	int fd;

	if (s->in.cfg.ship_store[0] == '\0' && is_end) {
		s->ship.done = (struct sp_msg_ship_done){.err = SP_OK,
		    .how = SP_SHIP_BY_ABSENCE};
		s->ship.text[0] = '\0';
		follow(s, SP_FILE_DESTROY);	/* this disk's alone */
	} else if (s->in.cfg.ship_store[0] == '\0') {
		refuse(s, SP_ERR_STATE, "no store is configured");
	} else if (p == NULL) {		/* it is on its way */
		s->ship.step = SP_SHIP_ROLE;
		s->ship.due_us = sp_boot_us() + WAIT_US;
	} else if (!is_end) {
		open_file(s);
	} else if ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0) {
		refuse(s, SP_ERR_IO, strerror(errno));
	} else {
		hand_on(s, p, fd);
	}
}

static void
ask_notary(struct sp_sup *s)
{
	struct sp_proc *n = sp_proc_ready(s, SP_RX_NOTARY);
	struct sp_msg_n_erase m;

	if (n == NULL) {
		refuse(s, SP_ERR_STATE, "sallyport-notary does not run");
		return;
	}
	memcpy(m.session, s->ship.job.session, 16);
	s->ship.step = SP_SHIP_LEAF;
	s->ship.due_us = sp_boot_us() + WAIT_US;
	sp_proc_sent(s, n, sp_send_n_erase(&n->link, s->ship.serial, &m, NULL));
}

enum sp_err
sp_ship_deleting(struct sp_sup *s, struct sp_proc *p, const struct sp_packet *k)
{
	struct sp_msg_n_deleting m;

	if (p->rx != SP_RX_NOTARY)
		return SP_ERR_PROTO;
	SP_TRY(sp_dec_n_deleting(k->body, &m));
	if (s->ship.step != SP_SHIP_LEAF || k->corr != s->ship.serial ||
	    memcmp(m.session, s->ship.job.session, 16) != 0)
		return SP_OK;	/* nobody waits for it any more */
	if (m.err == SP_OK)
		go_on(s);
	else if (m.err == SP_ERR_DENIED)
		refuse(s, SP_ERR_DENIED, "the transparency log says that it is held");
	else if (m.err == SP_ERR_NOTFOUND)
		refuse(s, SP_ERR_NOTFOUND, "the transparency log does not have its "
		    "end");
	else
		refuse(s, SP_ERR_STATE, "the transparency log cannot be asked");
	return SP_OK;
}

enum sp_err
sp_ship_ask(struct sp_sup *s, struct sp_packet *k)
{
	struct sp_proc *p = sp_proc_ready(s, SP_RX_SHIP);
	struct sp_msg_ship_job m;

	SP_TRY(sp_dec_ship_job(k->body, &m));
	if (m.what < SP_SHIP_SEND || m.what > SP_SHIP_ERASE)
		return SP_ERR_PROTO;
	/* A broker that died left one behind: it ends with its connection. */
	if (s->ship.step == SP_SHIP_OUT && p != NULL && p == s->ship.by)
		sp_proc_kill(s, p, "another broker, another job");
	s->ship = (struct sp_shipping){.job = m, .corr = k->corr,
	    .serial = s->ship.serial + 1};
	if (m.what == SP_SHIP_ERASE)
		ask_notary(s);
	else
		go_on(s);
	return SP_OK;
}

static void
too_late(struct sp_sup *s, int64_t now)
{
	struct sp_proc *p = sp_proc_ready(s, SP_RX_SHIP);

	if (s->ship.step != SP_SHIP_OUT) {
		refuse(s, SP_ERR_STATE, s->ship.step == SP_SHIP_LEAF ?
		    "sallyport-notary does not answer" : s->ship.step ==
		    SP_SHIP_ROLE ? "sallyport-ship does not run" :
		    "the disk of the recordings does not answer");
	} else if (p != NULL && p == s->ship.by) {
		s->ship.due_us = now + WAIT_US;
		sp_proc_kill(s, p, "it says nothing of its job");
	} else {
		refuse(s, SP_ERR_EOF, "sallyport-ship ended");
	}
}

void
sp_ship_tick(struct sp_sup *s, int64_t now, int64_t *next)
{
	if (s->ship.step == SP_SHIP_ROLE && sp_proc_ready(s, SP_RX_SHIP) != NULL)
		go_on(s);
	else if (s->ship.step != SP_SHIP_NONE && s->ship.due_us <= now)
		too_late(s, now);
	if (s->ship.step != SP_SHIP_NONE)
		sp_sooner(next, s->ship.due_us);
}

/* ------------------------------------------------------------------ what it says */

/* Numeric, as the configuration has it; no name is looked up. */
static int
dial(const struct sp_storeurl *u, unsigned index)
{
	union sp_address a = {.ss = {0}};
	socklen_t len = sizeof(a.in);
	int fd;

	if (inet_pton(AF_INET, u->address[index], &a.in.sin_addr) == 1) {
		a.in.sin_family = AF_INET;
		a.in.sin_port = htons(u->port);
	} else if (inet_pton(AF_INET6, u->address[index], &a.in6.sin6_addr) == 1) {
		a.in6.sin6_family = AF_INET6;
		a.in6.sin6_port = htons(u->port);
		len = sizeof(a.in6);
	} else {
		errno = EINVAL;
		return -1;
	}
	fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, &a.sa, len) != 0 && errno != EINPROGRESS) {
		close(fd);
		return -1;
	}
	return fd;
}

static enum sp_err
on_dial(struct sp_sup *s, struct sp_proc *p, const struct sp_packet *k)
{
	struct sp_msg_ship_dial_failed f = {.text = sp_span_str("")};
	struct sp_msg_ship_dialed r = {0};
	struct sp_msg_ship_dial m;
	struct sp_storeurl u;
	char bad[200];
	int fd;

	SP_TRY(sp_dec_ship_dial(k->body, &m));
	SP_TRY(sp_storeurl_parse(&s->in.cfg, &u, bad, sizeof(bad)));
	if (m.index >= u.n_address)
		return SP_ERR_PROTO;
	r.index = m.index;
	if ((fd = dial(&u, m.index)) >= 0)
		return sp_send_ship_dialed(&p->link, 0, &r, &fd);
	f.text = sp_span_str(strerror(errno));
	return sp_send_ship_dial_failed(&p->link, 0, &f, NULL);
}

static enum sp_err
on_done(struct sp_sup *s, struct sp_proc *p, const struct sp_packet *k)
{
	uint8_t what = s->ship.job.what;
	struct sp_msg_ship_done d;

	SP_TRY(sp_dec_ship_done(k->body, &d));
	if (s->ship.step != SP_SHIP_OUT || s->ship.by != p ||
	    d.id != s->ship.job.id)
		return SP_OK;	/* nobody waits for it any more */
	s->ship.done = d;
	sp_vis(s->ship.text, sizeof(s->ship.text), d.text);
	if (what == SP_SHIP_FETCH)
		follow(s, d.err == SP_OK ? SP_FILE_FETCHED : SP_FILE_UNFETCH);
	else if (d.err == SP_OK && what == SP_SHIP_DROP)
		follow(s, SP_FILE_FORGET);
	else if (d.err == SP_OK && what == SP_SHIP_ERASE)
		follow(s, SP_FILE_DESTROY);
	else
		answer(s);
	return SP_OK;
}

enum sp_err
sp_ship_packet(struct sp_sup *s, struct sp_proc *p, const struct sp_packet *k)
{
	struct sp_msg_ship_alive m;

	if (p->rx != SP_RX_SHIP)
		return SP_ERR_PROTO;
	if (k->type != SP_MSG_ship_alive)
		return k->type == SP_MSG_ship_dial ? on_dial(s, p, k) :
		    on_done(s, p, k);
	SP_TRY(sp_dec_ship_alive(k->body, &m));
	if (s->ship.step == SP_SHIP_OUT && s->ship.by == p &&
	    m.id == s->ship.job.id)
		s->ship.due_us = sp_boot_us() + silence_us(s);
	return SP_OK;
}

/* What it did is known to the store: the next one goes on from there, once. */
void
sp_ship_gone(struct sp_sup *s, const struct sp_proc *p)
{
	if (s->ship.step != SP_SHIP_OUT || s->ship.by != p)
		return;
	s->ship.by = NULL;
	if (s->ship.was_given && s->ship.job.what == SP_SHIP_FETCH) {
		s->ship.done = (struct sp_msg_ship_done){.err = SP_ERR_EOF};
		snprintf(s->ship.text, sizeof(s->ship.text), "sallyport-ship ended");
		follow(s, SP_FILE_UNFETCH);
	} else if (s->ship.was_given) {
		refuse(s, SP_ERR_EOF, "sallyport-ship ended");
	} else {
		s->ship.was_given = true;
		go_on(s);
	}
}
