/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bastion/broker/verb.h"

#define CLIENTS_MAX 64
#define PATIENCE_S 5		/* until the verb must have been said */

struct client {
	struct client *next;
	struct sp_control *c;
	struct sp_peer *peer;	/* NULL: it went away while the verb begins */
	struct event *timer;
	bool asked;
	uint32_t uid;
};
struct sp_control {
	struct sp_broker *b;
	struct event *ev;
	int fd;
	struct client *clients;
	size_t n;
};

static void
client_free(struct client *k)
{
	for (struct client **p = &k->c->clients; *p != NULL; p = &(*p)->next)
		if (*p == k) {
			*p = k->next;
			break;
		}
	k->c->n--;
	event_free(k->timer);
	free(k);
}

static void
on_end(struct sp_peer *p, const char *fault, void *arg)
{
	struct client *k = arg;

	(void)p;
	if (fault[0] != '\0')
		sp_log(SP_WARN, "control_protocol", NULL, "uid=%u fault=\"%s\"",
		    k->uid, sp_vis_str(fault));
	k->peer = NULL;
	if (!k->asked)
		client_free(k);
}

static void
on_late(evutil_socket_t fd, short what, void *arg)
{
	struct client *k = arg;

	(void)fd;
	(void)what;
	if (k->asked)
		return;
	sp_peer_drop(k->peer);
	client_free(k);
}

/* The verb's answer: a stream, or a refusal. */
static void
on_stream(void *arg, int fd, uint8_t exit_code, const char *text)
{
	struct client *k = arg;
	struct sp_span t = sp_span_str(text == NULL ? "" : text);

	if (k->peer == NULL) {
		if (fd >= 0)
			close(fd);
		client_free(k);
		return;
	}
	k->asked = false;	/* the link ends when the CLI leaves */
	event_del(k->timer);
	if (fd >= 0) {
		sp_peer_sent(k->peer, sp_send_ctl_stream(&k->peer->link, 0,
		    &(struct sp_msg_ctl_stream){}, &fd));
	} else {
		while (t.n > 512 || !sp_utf8_is_valid(t))
			t.n--;
		sp_peer_sent(k->peer, sp_send_ctl_refused(&k->peer->link, 0,
		    &(struct sp_msg_ctl_refused){.exit_code = exit_code,
		    .text = t}, NULL));
	}
}

static void
host_actor(const struct client *k, struct sp_actor *a)
{
	*a = (struct sp_actor){.is_host = true, .host_uid = k->uid};
	if (k->uid == 0)
		snprintf(a->name, sizeof(a->name), "root@host");
	else
		snprintf(a->name, sizeof(a->name), "uid-%u@host", k->uid);
	snprintf(a->addr, sizeof(a->addr), "local");
}

static void
on_packet(struct sp_peer *p, struct sp_packet *packet, void *arg)
{
	struct client *k = arg;
	struct sp_msg_ctl_verb m;
	struct sp_open open;
	struct sp_actor who;
	char *block = NULL, *argv[SP_VERB_ARGS_MAX];
	size_t argc = 0;

	sp_packet_close_fds(packet);
	if (packet->type != SP_MSG_ctl_verb ||
	    sp_dec_ctl_verb(packet->body, &m) != SP_OK ||
	    sp_open_decode(m.open, &open) != SP_OK ||
	    sp_control_argv(m.argv, &block, argv, &argc) != SP_OK) {
		sp_log(SP_WARN, "control_protocol", NULL,
		    "uid=%u fault=\"broken ctl_verb\"", k->uid);
		sp_peer_drop(p);
		client_free(k);
		return;
	}
	p->link.state = SP_ST_ENDING;	/* one verb a connection */
	k->asked = true;
	host_actor(k, &who);
	sp_verb_run(k->c->b, &who, argc, argv, &open, 1, on_stream, k);
	free(block);
}

static bool
is_admitted(int fd, uint32_t *uid)
{
	struct ucred cred;
	socklen_t n = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0)
		return false;
	*uid = cred.uid;
	return cred.uid == 0 || cred.uid == geteuid();
}

static void
on_accept(evutil_socket_t listen_fd, short what, void *arg)
{
	struct sp_control *c = arg;
	struct timeval tv = {.tv_sec = PATIENCE_S};
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct client *k;
	uint32_t uid = UINT32_MAX;

	(void)what;
	if (fd < 0)
		return;
	if (!is_admitted(fd, &uid) || c->n >= CLIENTS_MAX) {
		sp_log(SP_WARN, "control_refused", NULL, "uid=%u", uid);
		close(fd);
		return;
	}
	k = calloc(1, sizeof(*k));
	SP_ASSERT(k != NULL);
	k->c = c;
	k->uid = uid;
	k->timer = evtimer_new(c->b->ev, on_late, k);
	SP_ASSERT(k->timer != NULL);
	k->next = c->clients;
	c->clients = k;
	c->n++;
	k->peer = sp_peer_new(c->b, fd, SP_ROLE_CLI, SP_ST_NEW, on_packet,
	    on_end, k);
	if (k->peer == NULL || evtimer_add(k->timer, &tv) != 0) {
		if (k->peer != NULL)
			sp_peer_drop(k->peer);
		client_free(k);
	}
}

struct sp_control *
sp_control_new(struct sp_broker *b, int listen_fd)
{
	struct sp_control *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->b = b;
	c->fd = listen_fd;
	c->ev = event_new(b->ev, listen_fd, EV_READ | EV_PERSIST, on_accept, c);
	if (c->ev == NULL || evutil_make_socket_nonblocking(listen_fd) < 0 ||
	    event_add(c->ev, NULL) != 0) {
		if (c->ev != NULL)
			event_free(c->ev);
		free(c);
		return NULL;
	}
	return c;
}

void
sp_control_free(struct sp_control *c)
{
	if (c == NULL)
		return;
	while (c->clients != NULL) {
		struct client *k = c->clients;

		if (k->peer != NULL)
			sp_peer_drop(k->peer);
		client_free(k);
	}
	event_free(c->ev);
	close(c->fd);
	free(c);
}
