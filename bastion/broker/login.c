/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/login_int.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOODBYE_S 1

struct sp_logins *
sp_logins_new(struct sp_broker *b)
{
	(void)b;
	return calloc(1, sizeof(struct sp_logins));
}

size_t
sp_login_count(const struct sp_broker *b)
{
	return b->logins->n;
}

void
conn_hold(struct conn *c)
{
	c->refs++;
}

void
conn_release(struct conn *c)
{
	SP_ASSERT(c->refs > 0);
	if (--c->refs > 0)
		return;
	SP_ASSERT(c->state == CONN_ENDED);
	event_free(c->grace);
	free(c);
}

bool
conn_busy(struct conn *c)
{
	if (c->n_busy >= CONN_BUSY_MAX) {
		conn_broke(c, "too many questions at once");
		return false;
	}
	c->n_busy++;
	conn_hold(c);
	return true;
}

void
conn_idle(struct conn *c)
{
	c->n_busy--;
	conn_release(c);
}

struct json_object *
conn_detail(const struct conn *c)
{
	struct json_object *d = sp_detail();

	sp_detail_str(d, "addr", c->addr);
	sp_detail_i64(d, "port", c->port);
	if (c->via[0] != '\0')
		sp_detail_str(d, "proxy", c->via);
	sp_detail_i64(d, "connection", (int64_t)c->id);
	sp_detail_str(d, "login", c->login);
	return d;
}

/* Before both factors are given a name is only a claim. */
void
conn_audit(struct conn *c, const char *event, struct json_object *d)
{
	sp_flow_audit(c->b, event, c->state == CONN_AUTHED ? c->who.name : "-",
	    NULL, d);
}

static void
on_grace(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;

	(void)fd;
	(void)what;
	if (c->state != CONN_AUTHED)
		snprintf(c->why, sizeof(c->why), "the login took too long");
	conn_end(c);
}

/* The only place where a connection's state moves; what ends with a state or
 * begins with it stands here. */
void
conn_set_state(struct conn *c, enum conn_state s)
{
	static const uint32_t link[] = {
	    [CONN_READY] = SP_ST_READY, [CONN_KEYED] = SP_ST_KEYED,
	    [CONN_AUTHED] = SP_ST_AUTHED, [CONN_ENDED] = SP_ST_ENDING};

	SP_ASSERT(s > c->state);
	c->state = s;
	if (c->peer != NULL)
		c->peer->link.state = link[s];
	if (s == CONN_KEYED) {
		struct sp_msg_conn_keyed m = {.conn = c->id};

		sp_peer_sent(c->b->sup,
		    sp_send_conn_keyed(&c->b->sup->link, 0, &m, NULL));
	}
	if (s == CONN_AUTHED) {
		struct sp_msg_conn_authed m = {.conn = c->id};

		event_del(c->grace);
		sp_peer_sent(c->b->sup,
		    sp_send_conn_authed(&c->b->sup->link, 0, &m, NULL));
	}
}

static void
kill_conn(struct conn *c)
{
	struct sp_msg_conn_kill m = {.conn = c->id};

	sp_peer_sent(c->b->sup, sp_send_conn_kill(&c->b->sup->link, 0, &m, NULL));
}

static void
audit_end(struct conn *c, enum conn_state was)
{
	struct json_object *d;

	if (was == CONN_AUTHED) {
		sp_flow_audit(c->b, "logout", c->who.name, NULL, conn_detail(c));
		return;
	}
	if (c->login[0] == '\0' && c->why[0] == '\0')
		return;		/* a port scan, a health check */
	d = conn_detail(c);
	sp_detail_str(d, "why", c->why[0] == '\0' ?
	    "left before it was logged in" : c->why);
	sp_detail_i64(d, "keys_offered", c->n_keys);
	sp_flow_audit(c->b, "login_refused", "-", NULL, d);
}

void
conn_end(struct conn *c)
{
	struct conn **at = &c->b->logins->conns;
	enum conn_state was = c->state;

	if (was == CONN_ENDED)
		return;
	kill_conn(c);
	conn_set_state(c, CONN_ENDED);
	event_del(c->grace);
	audit_end(c, was);
	login_slow_drop(c);
	login_auth_drop(c);
	while (c->ctxs != NULL)
		ctx_end(c->ctxs);
	ctx_end(&c->outer);
	login_gos_end(c);
	if (c->peer != NULL)
		sp_peer_drop(c->peer);
	c->peer = NULL;
	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	c->b->logins->n--;
	conn_release(c);
}

void
conn_broke(struct conn *c, const char *what)
{
	struct json_object *d;

	if (c->state == CONN_ENDED)
		return;
	d = conn_detail(c);
	sp_detail_str(d, "peer", "ingress");
	sp_detail_str(d, "what", what);
	sp_log(SP_WARN, "peer_broke_protocol", NULL, "peer=ingress conn=%llu what=\"%s\"",
	    (unsigned long long)c->id, sp_vis_str(what));
	conn_audit(c, "peer_broke_protocol", d);
	snprintf(c->why, sizeof(c->why), "%s", what);
	conn_end(c);
}

void
conn_end_with(struct conn *c, const char *text)
{
	struct sp_msg_conn_notice m = {.end = 1, .text = sp_span_str(text)};
	struct timeval tv = {.tv_sec = GOODBYE_S};

	if (c->state == CONN_ENDED)
		return;
	snprintf(c->why, sizeof(c->why), "%s", text);
	if (m.text.n > 1000)
		m.text.n = 0;
	sp_peer_sent(c->peer, sp_send_conn_notice(&c->peer->link, 0, &m, NULL));
	event_add(c->grace, &tv);
}

void
conn_note(struct conn *c, const char *text)
{
	struct sp_msg_conn_notice m = {.end = 0, .text = sp_span_str(text)};

	if (c->state != CONN_ENDED && m.text.n <= 1000)
		sp_peer_sent(c->peer,
		    sp_send_conn_notice(&c->peer->link, 0, &m, NULL));
}

void
conn_dialog(struct conn *c, uint32_t dialog, uint8_t kind, const char *title,
    const char *text)
{
	struct sp_msg_dialog m = {.dialog = dialog, .kind = kind,
	    .title = sp_span_str(title), .text = sp_span_str(text)};

	if (c->state == CONN_ENDED)
		return;
	if (m.text.n > 4096)
		m.text = sp_span_str("(too long to show)");
	sp_peer_sent(c->peer, sp_send_dialog(&c->peer->link, 0, &m, NULL));
}

/* ------------------------------------------------------- what it reports */

static void
on_auth_refused(struct conn *c, const struct sp_msg_auth_refused *m)
{
	sp_vis(c->why, sizeof(c->why), m->why);
	if (c->login[0] == '\0')
		sp_vis(c->login, sizeof(c->login), m->detail);
}

/* The ingress has read it before anything of the client's; what it says later
 * is a captured one's. */
static void
on_conn_peer(struct conn *c, const struct sp_msg_conn_peer *m)
{
	struct sp_msg_conn_source s = {.conn = c->id, .peer_addr = m->peer_addr};

	char text[64];
	uint8_t at[16];

	if (!c->is_proxied || c->via[0] != '\0' ||
	    sp_span_cstr(m->peer_addr, text, sizeof(text)) != SP_OK ||
	    (inet_pton(AF_INET, text, at) != 1 &&
	    inet_pton(AF_INET6, text, at) != 1)) {
		conn_broke(c, "an address that it has not to name");
		return;
	}
	memcpy(c->via, c->addr, sizeof(c->via));
	sp_vis(c->addr, sizeof(c->addr), m->peer_addr);
	c->port = m->peer_port;
	sp_peer_sent(c->b->sup,
	    sp_send_conn_source(&c->b->sup->link, 0, &s, NULL));
}

static void
on_policy_refusal(struct conn *c, const struct sp_msg_policy_refusal *m)
{
	struct json_object *d = conn_detail(c);

	if (++c->n_reports > 1000) {	/* a captured one could fill the audit */
		json_object_put(d);
		conn_broke(c, "too many refusals");
		return;
	}
	sp_detail_span(d, "what", m->what);
	sp_detail_span(d, "detail", m->detail);
	conn_audit(c, "channel_refused", d);
}

#define TAKE(name, call)                                                      \
	case SP_MSG_##name: {                                                 \
		struct sp_msg_##name m;                                       \
                                                                              \
		if (sp_dec_##name(k->body, &m) != SP_OK)                      \
			conn_broke(c, "a broken " #name " message");          \
		else                                                          \
			call;                                                 \
		break;                                                        \
	}

static void
on_packet(struct sp_peer *p, struct sp_packet *k, void *arg)
{
	struct conn *c = arg;

	(void)p;
	sp_packet_close_fds(k);
	conn_hold(c);
	switch (k->type) {
	TAKE(auth_key, login_on_auth_key(c, &m, k->corr))
	TAKE(mfa_begin, login_on_mfa_begin(c, &m))
	TAKE(dialog_answer, login_on_dialog_answer(c, &m))
	TAKE(auth_refused, on_auth_refused(c, &m))
	TAKE(conn_peer, on_conn_peer(c, &m))
	TAKE(target_open, login_on_target_open(c, &m))
	TAKE(target_login, login_on_target_login(c, &m, k->corr))
	TAKE(target_close, login_on_target_close(c, &m))
	TAKE(chan_open, login_on_chan_open(c, &m))
	TAKE(policy_refusal, on_policy_refusal(c, &m))
	default:
		conn_broke(c, "a message that an ingress does not send");
	}
	conn_release(c);
}

static void
on_end(struct sp_peer *p, const char *fault, void *arg)
{
	struct conn *c = arg;

	(void)p;
	c->peer = NULL;		/* freed by whoever called us */
	if (fault != NULL && fault[0] != '\0')
		conn_broke(c, fault);
	else
		conn_end(c);
}

/* ----------------------------------------------------- what the supervisor says */

static struct conn *
conn_find(struct sp_broker *b, uint64_t id)
{
	for (struct conn *c = b->logins->conns; c != NULL; c = c->next)
		if (c->id == id)
			return c;
	return NULL;
}

void
sp_login_conn_new(struct sp_broker *b, const struct sp_msg_conn_new *m, int fd)
{
	struct conn *c = calloc(1, sizeof(*c));
	struct timeval tv = {.tv_sec = (time_t)b->cfg.login_grace_s};

	if (c == NULL || conn_find(b, m->conn) != NULL || b->stopping ||
	    (c->grace = event_new(b->ev, -1, 0, on_grace, c)) == NULL ||
	    event_add(c->grace, &tv) != 0) {
		sp_close_fds(&fd, 1);
		if (c != NULL && c->grace != NULL)
			event_free(c->grace);
		free(c);
		return;
	}
	c->b = b;
	c->id = c->who.conn = m->conn;
	c->refs = 1;
	c->state = CONN_READY;
	c->port = m->peer_port;
	c->is_proxied = m->proxied != 0;
	sp_vis(c->addr, sizeof(c->addr), m->peer_addr);
	c->outer.c = c;
	c->outer.refs = 1;
	c->outer.state = CTX_READY;
	c->peer = sp_peer_new(b, fd, SP_ROLE_ING, SP_ST_READY, on_packet, on_end, c);
	c->next = b->logins->conns;
	b->logins->conns = c;
	b->logins->n++;
	if (c->peer == NULL)
		conn_end(c);
}

void
sp_login_conn_end(struct sp_broker *b, const struct sp_msg_conn_end *m)
{
	struct conn *c = conn_find(b, m->conn);
	struct json_object *d;

	/* A signal that ended it: a crash, or the filter of system calls. Its link
	 * may have ended before. */
	if ((m->status & 0x7f) != 0 && (m->status & 0x7f) != 9) {
		d = c != NULL ? conn_detail(c) : sp_detail();
		sp_detail_i64(d, "connection", (int64_t)m->conn);
		sp_detail_i64(d, "signal", m->status & 0x7f);
		sp_flow_audit(b, "ingress_died", "-", NULL, d);
	}
	if (c == NULL)
		return;
	/* Its last words came on another socket than the news of its end. */
	conn_hold(c);
	if (c->peer != NULL)
		sp_peer_drain(c->peer);
	conn_end(c);
	conn_release(c);
}

void
sp_login_drop_person(struct sp_broker *b, const uint8_t person[static 16],
    const char *text)
{
	for (struct conn *c = b->logins->conns, *next; c != NULL; c = next) {
		next = c->next;
		if (memcmp(c->who.person, person, 16) == 0)
			conn_end_with(c, text);
	}
}
