/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bastion/egress/egress.h"
#include "bastion/egress/tap.h"

/*
 * The login with the lease's one identity, signed at once (RFC 4252, 7).
 * libssh's agent asks the target first whether it would take the key. With one
 * key that gains nothing and costs a round trip in which OpenSSH's sshd, to tell
 * nothing by its timing, takes at least 5 to 9 ms. libssh has no call for it: the
 * request stands in for a password's (common/glass.h). Not so for RSA, where libssh
 * asks as it always did.
 */
#define REQUEST_IDENTITIES 11
#define IDENTITIES_ANSWER 12
#define SIGN_REQUEST 13
#define SIGN_RESPONSE 14
#define USERAUTH_REQUEST 50
#define MESSAGE_MAX 8192

static enum sp_err
wait_for(int fd, short events, int64_t deadline)
{
	struct pollfd pf = {.fd = fd, .events = events};
	int64_t left = (deadline - sp_boot_us()) / 1000;

	if (left <= 0)
		return SP_ERR_TIMEOUT;
	return poll(&pf, 1, left > 1000 ? 1000 : (int)left) < 0 &&
	    errno != EINTR ? SP_ERR_IO : SP_OK;
}

static enum sp_err
send_all(int fd, struct sp_span s, int64_t deadline)
{
	while (s.n > 0) {
		ssize_t n = send(fd, s.p, s.n, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return SP_ERR_IO;
		if (n < 0)
			SP_TRY(wait_for(fd, POLLOUT, deadline));
		else
			s = sp_span_of(s.p + n, s.n - (size_t)n);
	}
	return SP_OK;
}

static enum sp_err
recv_all(int fd, uint8_t *p, size_t len, int64_t deadline)
{
	while (len > 0) {
		ssize_t n = recv(fd, p, len, MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return SP_ERR_IO;
		if (n < 0) {
			SP_TRY(wait_for(fd, POLLIN, deadline));
		} else {
			p += n;
			len -= (size_t)n;
		}
	}
	return SP_OK;
}

/* One question, and the body of its answer, which must be of this type. */
static enum sp_err
ask(int fd, struct sp_span question, uint8_t type, struct sp_buf *answer,
    int64_t deadline)
{
	SP_BUF_AUTO out = {.max = MESSAGE_MAX};
	struct sp_span head;
	uint8_t size[4], *at;
	uint32_t n;

	SP_TRY(sp_buf_put_ssh_string(&out, question));
	SP_TRY(send_all(fd, sp_buf_span(&out), deadline));
	SP_TRY(recv_all(fd, size, sizeof(size), deadline));
	head = sp_span_of(size, sizeof(size));
	SP_TRY(sp_get_ssh_u32(&head, &n));
	if (n == 0)
		return SP_ERR_PROTO;
	sp_buf_reset(answer);
	SP_TRY(sp_buf_reserve(answer, n, &at));
	SP_TRY(recv_all(fd, at, n, deadline));
	sp_buf_commit(answer, n);
	if (*at != type)
		return SP_ERR_DENIED;
	sp_buf_consume(answer, 1);
	return SP_OK;
}

/* The lease's only identity, and the algorithm that it is signed by: what its
 * blob begins with, which is so for Ed25519, its certificates and ECDSA. */
static enum sp_err
get_identity(int fd, struct sp_buf *blob, struct sp_span *algo, int64_t deadline)
{
	static const uint8_t question[] = {REQUEST_IDENTITIES};
	SP_BUF_AUTO answer = {.max = MESSAGE_MAX};
	struct sp_span s, b;
	uint32_t n;

	SP_TRY(ask(fd, sp_span_of(question, 1), IDENTITIES_ANSWER, &answer,
	    deadline));
	s = sp_buf_span(&answer);
	SP_TRY(sp_get_ssh_u32(&s, &n));
	SP_TRY(sp_get_ssh_string(&s, MESSAGE_MAX, &b));
	if (n != 1)
		return SP_ERR_PROTO;
	SP_TRY(sp_buf_put(blob, b.p, b.n));
	s = sp_buf_span(blob);
	SP_TRY(sp_get_ssh_string(&s, 64, algo));
	return sp_span_is(*algo, "ssh-rsa") ? SP_ERR_UNSUPPORTED : SP_OK;
}

static enum sp_err
put_request(struct sp_buf *b, const char *user, struct sp_span algo,
    struct sp_span blob)
{
	SP_TRY(sp_buf_put_u8(b, USERAUTH_REQUEST));
	SP_TRY(sp_buf_put_ssh_string(b, sp_span_str(user)));
	SP_TRY(sp_buf_put_ssh_string(b, sp_span_str("ssh-connection")));
	SP_TRY(sp_buf_put_ssh_string(b, sp_span_str("publickey")));
	SP_TRY(sp_buf_put_u8(b, 1));
	SP_TRY(sp_buf_put_ssh_string(b, algo));
	return sp_buf_put_ssh_string(b, blob);
}

static enum sp_err
sign(int fd, struct sp_span blob, struct sp_span request, struct sp_buf *answer,
    struct sp_span *signature, int64_t deadline)
{
	SP_BUF_AUTO data = {.max = MESSAGE_MAX}, question = {.max = MESSAGE_MAX};
	struct sp_span id, s;

	SP_TRY(sp_tap_session_id(&id));
	SP_TRY(sp_buf_put_ssh_string(&data, id));
	SP_TRY(sp_buf_put(&data, request.p, request.n));
	SP_TRY(sp_buf_put_u8(&question, SIGN_REQUEST));
	SP_TRY(sp_buf_put_ssh_string(&question, blob));
	SP_TRY(sp_buf_put_ssh_string(&question, sp_buf_span(&data)));
	SP_TRY(sp_buf_put_ssh_u32(&question, 0));
	SP_TRY(ask(fd, sp_buf_span(&question), SIGN_RESPONSE, answer, deadline));
	s = sp_buf_span(answer);
	return sp_get_ssh_string(&s, MESSAGE_MAX, signature);
}

static enum sp_err
signed_request(struct sp_egress *g, const char *user, struct sp_buf *request,
    int64_t deadline)
{
	SP_BUF_AUTO blob = {.max = MESSAGE_MAX}, answer = {.max = MESSAGE_MAX};
	struct sp_span algo, signature;

	SP_TRY(get_identity(g->agent, &blob, &algo, deadline));
	SP_TRY(put_request(request, user, algo, sp_buf_span(&blob)));
	SP_TRY(sign(g->agent, sp_buf_span(&blob), sp_buf_span(request), &answer,
	    &signature, deadline));
	return sp_buf_put_ssh_string(request, signature);
}

/* RSA: which of its two algorithms the target takes, libssh knows (RFC 8308). */
static int
by_libssh(struct sp_egress *g, int64_t deadline)
{
	int rc;

	/* libssh owns the descriptor from here. */
	if (ssh_set_agent_socket(g->ssh, g->agent) != SSH_OK)
		return SSH_AUTH_ERROR;
	g->agent = -1;
	while ((rc = ssh_userauth_agent(g->ssh, NULL)) == SSH_AUTH_AGAIN)
		if (sp_egress_wait(g, deadline) != SP_OK)
			return SSH_AUTH_ERROR;
	return rc;
}

int
sp_egress_by_agent(struct sp_egress *g, int64_t deadline)
{
	SP_BUF_AUTO request = {.max = MESSAGE_MAX};
	int rc = SSH_AUTH_ERROR;
	enum sp_err err;
	char *user = NULL;

	if (ssh_options_get(g->ssh, SSH_OPTIONS_USER, &user) != SSH_OK)
		return rc;
	err = signed_request(g, user, &request, deadline);
	if (err != SP_OK) {
		ssh_string_free_char(user);
		if (err == SP_ERR_UNSUPPORTED)
			return by_libssh(g, deadline);
		g->why = "the vault did not sign the login";
		return rc;
	}
	close(g->agent);	/* one identity, one signature: both were had */
	g->agent = -1;
	while ((rc = sp_glass_userauth(g->ssh, user, sp_buf_span(&request))) ==
	    SSH_AUTH_AGAIN)
		if (sp_egress_wait(g, deadline) != SP_OK) {
			rc = SSH_AUTH_ERROR;
			break;
		}
	ssh_string_free_char(user);
	return rc;
}
