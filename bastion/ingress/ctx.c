/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bastion/ingress/front.h"

#define STUCK (64 << 10)
/* A login takes some 20 KiB, one with a dozen keys and certificates 100. */
#define BEFORE_LOGIN_MAX (256 << 10)

/* Whose packets libssh is working on, for its log: what it refuses without
 * asking anybody is told there only. */
static struct sp_ctx *in_libssh;

static void
heard(int level, const char *function, const char *text, void *arg)
{
	static const char request[] = "ssh_packet_userauth_request: Auth request for ";
	static const char agent[] = "channel_rcv_request: Received an auth-agent-req request";

	(void)level;
	(void)function;
	(void)arg;
	if (in_libssh == NULL)
		return;
	if (strncmp(text, request, sizeof(request) - 1) == 0)
		in_libssh->auth.heard++;
	else if (strcmp(text, agent) == 0)
		in_libssh->agent_asked = true;
}

struct sp_ctx *
sp_ctx_in_libssh(void)
{
	return in_libssh;
}

enum sp_err
sp_ctx_init(struct sp_ctx *x, struct sp_conn *c, uint32_t id, int fd,
    struct sp_chan *via)
{
	int rc;

	*x = (struct sp_ctx){.conn = c, .id = id, .via = via, .wire = {.fd = -1}};
	x->ssh = ssh_new();
	if (x->ssh == NULL || fd < 0 ||
	    sp_wire_init(&x->wire, fd, via != NULL) != SP_OK) {
		if (fd >= 0)
			close(fd);
		return SP_ERR_NOMEM;
	}
	ssh_set_log_callback(heard);
	rc = ssh_bind_accept_fd(c->bind, x->ssh, fd);
	if (rc != SSH_OK || sp_front_options(x->ssh) != SP_OK)
		return SP_ERR_NOMEM;
	ssh_set_blocking(x->ssh, 0);
	x->alive = (struct sp_alive){.every_us = (int64_t)c->cfg->alive_s * 1000000,
	    .tries = (unsigned)c->cfg->alive_tries};
	sp_glass_rekey(x->ssh, (uint64_t)c->cfg->rekey_mb << 20,
	    (uint32_t)c->cfg->rekey_s);
	sp_auth_init(x);
	if (ssh_handle_key_exchange(x->ssh) == SSH_ERROR)
		return SP_ERR_PROTO;
	return SP_OK;
}

void
sp_ctx_died(struct sp_ctx *x)
{
	x->state = SP_CTX_DEAD;
	sp_wire_detach(&x->wire);
}

void
sp_ctx_fini(struct sp_ctx *x)
{
	ssh_message m;

	x->wire.may_read = x->wire.may_write = false;
	/* Messages name channels: they go first. */
	if (x->ssh != NULL && x->state != SP_CTX_DEAD)
		while ((m = ssh_message_get(x->ssh)) != NULL)
			ssh_message_free(m);
	sp_auth_fini(x);
	while (x->chans != NULL)
		sp_chan_free(x->chans);
	sp_forward_fini(x);
	if (x->shared != NULL)
		sp_leg_release(x->shared);
	x->shared = NULL;
	sp_glass_forget(x->ssh);
	if (x->ssh != NULL)
		ssh_free(x->ssh);
	x->ssh = NULL;
	sp_wire_fini(&x->wire);
	x->state = SP_CTX_DEAD;
}

bool
sp_ctx_is_blocked(const struct sp_ctx *x)
{
	return !x->wire.is_writable || x->tx_turn >= SP_SSH_TX_TURN;
}

/*
 * libssh's buffer of a channel that nobody empties grows to its window, and
 * each packet moves all of it (measured: 83 % of the process). So the socket is
 * left alone while all that could be read would only wait. Not when the other
 * way waits for a window, nor when another channel could go on.
 */
static bool
is_stuck(const struct sp_chan *ch)
{
	bool stuck = true;

	if (ch->inner != NULL)
		stuck = sp_wire_room(&ch->inner->wire) == 0 &&
		    !sp_ctx_may_read(ch->inner);
	else if (ch->leg != NULL)
		stuck = ch->tx_credit == 0 ||
		    sp_stream_pending(&ch->leg->s) >= SP_LEG_TX_LOW;
	return stuck && ch->has_data && ssh_channel_poll(ch->ch, 0) >= STUCK;
}

bool
sp_ctx_may_read(const struct sp_ctx *x)
{
	bool stuck = false;

	if (x->state == SP_CTX_DEAD || x->auth.held != NULL)
		return false;
	for (const struct sp_chan *ch = x->chans; ch != NULL; ch = ch->next) {
		if (!sp_queue_is_empty(ch))
			return true;
		if (ch->state == SP_CHAN_DONE)
			continue;
		if (!is_stuck(ch))
			return true;
		stuck = true;
	}
	return !stuck;
}

static bool
is_dead(struct sp_ctx *x)
{
	return !ssh_is_connected(x->ssh) ||
	    (ssh_get_status(x->ssh) & (SSH_CLOSED | SSH_CLOSED_ERROR)) != 0;
}

static bool
take(struct sp_ctx *x, ssh_message m)
{
	switch (ssh_message_type(m)) {
	case SSH_REQUEST_SERVICE:
		if (ssh_message_service_service(m) == NULL ||
		    strcmp(ssh_message_service_service(m), "ssh-userauth") != 0) {
			sp_ctx_disconnect(x, "service not available");
			return false;
		}
		ssh_message_service_reply_success(m);
		return false;
	case SSH_REQUEST_AUTH:
		return sp_auth_message(x, m);
	case SSH_REQUEST_CHANNEL_OPEN:
		return sp_chan_open_message(x, m);
	case SSH_REQUEST_CHANNEL:
		return sp_chan_request(x, m);
	case SSH_REQUEST_GLOBAL:
		return sp_forward_global(x, m);
	default:
		ssh_message_reply_default(m);
		return false;
	}
}

static ssh_message
next_message(struct sp_ctx *x)
{
	ssh_message m;
	/* Login requests that libssh answers with silence are heard in its log:
	 * it is that talkative until then. */
	ssh_set_log_level(x->state < SP_CTX_IN ? SSH_LOG_PACKET :
	    SSH_LOG_PROTOCOL);
	in_libssh = x;
	x->wire.may_read = true;
	m = ssh_message_get(x->ssh);
	x->wire.may_read = false;
	in_libssh = NULL;
	return m;
}

static void
after_step(struct sp_ctx *x)
{
	if (x->agent_asked) {
		x->agent_asked = false;
		sp_conn_policy_refusal(x->conn, "agent-forwarding", "");
	}
	if (x->streamlocal_asked) {
		x->streamlocal_asked = false;
		sp_conn_policy_refusal(x->conn, "streamlocal-forward", "");
	}
	if (x->state == SP_CTX_KEX && x->auth.heard > 0)
		x->state = SP_CTX_AUTH;
	if (x->state != SP_CTX_DEAD && x->auth.heard > x->auth.pulled)
		sp_auth_unanswered(x);
}

bool
sp_ctx_step(struct sp_ctx *x)
{
	bool moved = false;

	if (x->state < SP_CTX_IN && x->wire.bytes_in > BEFORE_LOGIN_MAX) {
		sp_conn_refused(x->conn, "too many bytes before the login",
		    sp_span_str(""));
		sp_ctx_died(x);
		return true;
	}
	while (x->state != SP_CTX_DEAD && x->auth.held == NULL) {
		ssh_message m = next_message(x);

		if (m != NULL) {
			moved = true;
			if (!take(x, m))
				ssh_message_free(m);
			continue;
		}
		if (is_dead(x)) {
			sp_log(SP_DEBUG, "ssh_end", NULL, "ctx=%u text=\"%s\"",
			    x->id, sp_vis_str(ssh_get_error(x->ssh)));
			sp_ctx_died(x);
			return true;
		}
		after_step(x);
		if (!sp_wire_has_input(&x->wire))
			break;
		moved = true;
	}
	return moved;
}

bool
sp_ctx_flush(struct sp_ctx *x)
{
	uint64_t before = x->wire.bytes_out;

	if (x->state == SP_CTX_DEAD)
		return false;
	x->tx_turn = 0;
	if (!x->wire.is_writable ||
	    (ssh_get_status(x->ssh) & SSH_WRITE_PENDING) == 0)
		return false;
	x->wire.may_write = true;
	if (ssh_blocking_flush(x->ssh, 0) == SSH_ERROR || is_dead(x))
		sp_ctx_died(x);
	x->wire.may_write = false;
	return x->wire.bytes_out != before;
}

void
sp_ctx_disconnect(struct sp_ctx *x, const char *why)
{
	if (x->bye == NULL)
		x->bye = why;
}
