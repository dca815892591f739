/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/broker.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Packets taken from one peer before the others have their turn. */
#define PACKETS_A_TURN 64

/*
 * What nobody else needs to know of a peer. `late` is the way out of every
 * callback: ends are told and memory is freed from the loop, never from inside
 * a function that somebody called.
 */
struct peer {
	struct sp_peer p;
	struct event *late;
	bool ending;		/* on_end is owed */
	char fault[160];
};

static struct peer *
inside(struct sp_peer *p)
{
	return (struct peer *)p;	/* p is its first member */
}

static void
free_peer(struct peer *in)
{
	if (in->p.ev_read != NULL)
		event_free(in->p.ev_read);
	if (in->p.ev_write != NULL)
		event_free(in->p.ev_write);
	if (in->late != NULL)
		event_free(in->late);
	sp_link_fini(&in->p.link);
	free(in);
}

static void
on_late(evutil_socket_t fd, short what, void *arg)
{
	struct peer *in = arg;

	(void)fd;
	(void)what;
	/* Last words (a notice before a disconnect) get one more try. */
	if (in->p.link.fd >= 0 && sp_link_flush(&in->p.link) != SP_OK)
		sp_log(SP_DEBUG, "peer_tail_lost", NULL, "role=%s",
		    sp_role_name(in->p.link.peer));
	if (in->ending && !in->p.dead) {
		in->p.dead = true;
		in->p.on_end(&in->p, in->fault, in->p.arg);
	}
	free_peer(in);
}

static void
stop_events(struct peer *in)
{
	event_del(in->p.ev_read);
	event_del(in->p.ev_write);
	event_active(in->late, EV_TIMEOUT, 0);
}

static void
end_peer(struct peer *in, enum sp_err e)
{
	const char *why = "";

	if (in->p.dead || in->ending)
		return;
	if (e == SP_ERR_PROTO)
		why = in->p.link.fault;
	else if (e == SP_ERR_FULL)
		why = "it does not read what it is sent";
	else if (e != SP_ERR_EOF)
		why = sp_err_text(e);
	memcpy(in->fault, why, strnlen(why, sizeof(in->fault) - 1));
	in->ending = true;
	stop_events(in);
}

static void
on_read(evutil_socket_t fd, short what, void *arg)
{
	struct peer *in = arg;

	(void)fd;
	(void)what;
	for (unsigned i = 0; i < PACKETS_A_TURN; i++) {
		struct sp_packet k;
		enum sp_err e = sp_link_recv(&in->p.link, &k);

		if (e == SP_ERR_AGAIN)
			return;
		if (e != SP_OK) {
			end_peer(in, e);
			return;
		}
		in->p.b->packets++;
		in->p.on_packet(&in->p, &k, in->p.arg);
		if (in->p.dead || in->ending)
			return;
	}
}

static void
on_write(evutil_socket_t fd, short what, void *arg)
{
	struct peer *in = arg;
	enum sp_err e = sp_link_flush(&in->p.link);

	(void)fd;
	(void)what;
	if (e == SP_OK)
		event_del(in->p.ev_write);
	else if (e != SP_ERR_AGAIN)
		end_peer(in, e);
}

struct sp_peer *
sp_peer_new(struct sp_broker *b, int fd, uint32_t role, uint32_t state,
    void (*on_packet)(struct sp_peer *, struct sp_packet *, void *),
    void (*on_end)(struct sp_peer *, const char *, void *), void *arg)
{
	struct peer *in = calloc(1, sizeof(*in));

	if (in == NULL || fd < 0) {
		if (fd >= 0)
			close(fd);
		free(in);
		return NULL;
	}
	in->p.on_packet = on_packet;
	in->p.on_end = on_end;
	in->p.arg = arg;
	in->p.b = b;
	if (sp_link_init(&in->p.link, fd, SP_ROLE_BRK, role, state) != SP_OK) {
		free_peer(in);
		return NULL;
	}
	in->p.ev_read = event_new(b->ev, fd, EV_READ | EV_PERSIST, on_read, in);
	in->p.ev_write = event_new(b->ev, fd, EV_WRITE | EV_PERSIST, on_write, in);
	in->late = event_new(b->ev, -1, 0, on_late, in);
	if (in->p.ev_read == NULL || in->p.ev_write == NULL || in->late == NULL ||
	    event_add(in->p.ev_read, NULL) != 0) {
		free_peer(in);
		return NULL;
	}
	return &in->p;
}

void
sp_peer_drain(struct sp_peer *p)
{
	struct peer *in = inside(p);

	for (unsigned i = 0; i < 16 && !p->dead && !in->ending; i++)
		on_read(p->link.fd, EV_READ, in);
}

void
sp_peer_drop(struct sp_peer *p)
{
	struct peer *in;

	if (p == NULL || p->dead)
		return;
	in = inside(p);
	p->dead = true;
	if (!in->ending)
		stop_events(in);
}

void
sp_peer_sent(struct sp_peer *p, enum sp_err e)
{
	struct peer *in = inside(p);

	if (p->dead || in->ending)
		return;
	if (e != SP_OK)
		end_peer(in, e);
	else if (sp_link_wants_write(&p->link))
		event_add(p->ev_write, NULL);
}
