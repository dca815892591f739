/* SPDX-License-Identifier: Apache-2.0 */
/* What comes before SSH: a header of the PROXY protocol, where a proxy must send
 * one, and the version line, which libssh would look for in anything. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "bastion/ingress/front.h"
#include "bastion/ingress/proxy.h"

#define HEADER_US 5000000
#define VERSION_MAX 255		/* RFC 4253, 4.2 */

/* Reads the header and not a byte more: what follows is libssh's. */
static const char *
read_header(int tcp, struct sp_proxy_header *h)
{
	int64_t end = sp_boot_us() + HEADER_US, now;
	uint8_t at[SP_PROXY_MAX];
	size_t n = 0, more = 0;
	enum sp_err e;

	while ((e = sp_proxy_wants(sp_span_of(at, n), &more)) == SP_OK && more > 0) {
		struct pollfd pf = {.fd = tcp, .events = POLLIN};
		struct timespec ts;
		ssize_t k;

		if ((now = sp_boot_us()) >= end)
			return "no PROXY header in time";
		ts = (struct timespec){.tv_sec = (end - now) / 1000000,
		    .tv_nsec = (long)((end - now) % 1000000) * 1000};
		if (ppoll(&pf, 1, &ts, NULL) <= 0)
			continue;
		k = recvfrom(tcp, at + n, more, MSG_DONTWAIT, NULL, NULL);
		if (k == 0 || (k < 0 && errno != EAGAIN && errno != EINTR))
			return "the connection ended within the PROXY header";
		if (k > 0)
			n += (size_t)k;
	}
	if (e == SP_ERR_TOOBIG)
		return "PROXY header too long";
	if (e == SP_OK)
		e = sp_proxy_parse(sp_span_of(at, n), h);
	if (e == SP_ERR_UNSUPPORTED)
		return "PROXY header without an address of TCP";
	return e == SP_OK ? NULL : "no PROXY header, or a broken one";
}

bool
sp_hello_proxied(struct sp_conn *c)
{
	static const char version[] = "SSH-2.0-Sallyport\r\n";
	struct sp_proxy_header h = {0};
	struct sp_msg_conn_peer m;
	const char *why = read_header(c->tcp, &h);

	if (why != NULL) {
		sp_conn_refused(c, why, sp_span_str(c->peer));
		return false;
	}
	/* A health check: it sees a server, and cannot log in with the address
	 * of the proxy. */
	if (h.is_own) {
		(void)!sendto(c->tcp, version, sizeof(version) - 1,
		    MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
		return false;
	}
	memcpy(c->peer, h.addr, sizeof(c->peer));
	m = (struct sp_msg_conn_peer){.peer_addr = sp_span_str(c->peer),
	    .peer_port = h.port};
	sp_conn_sent(c, sp_send_conn_peer(&c->brk, 0, &m, NULL));
	return !c->brk_gone;
}

/* A listener that a proxy speaks to which nobody listed: worth a word. */
static bool
refuse(struct sp_ctx *x, struct sp_span in)
{
	struct sp_span begin = sp_span_of(in.p, in.n < SP_PROXY_SHORTEST ? in.n :
	    SP_PROXY_SHORTEST);
	size_t more;

	if (sp_proxy_wants(begin, &more) == SP_OK) {
		if (begin.n < SP_PROXY_SHORTEST && !x->wire.eof)
			return false;	/* the rest will tell */
		sp_conn_refused(x->conn, "PROXY header of a peer that is not in"
		    " proxy_peers", sp_span_str(""));
	}
	sp_ctx_disconnect(x, "this is SSH");
	return true;
}

bool
sp_hello_step(struct sp_ctx *x)
{
	struct sp_span in = sp_span_of(x->wire.rx + x->wire.rx_off,
	    x->wire.rx_len);
	size_t n = in.n < 4 ? in.n : 4;
	bool gone = false;

	if (x->is_greeted || x->via != NULL)
		return true;
	if (n > 0 && memcmp(in.p, "SSH-", n) != 0) {
		gone = refuse(x, in);
	} else if (n == 4 && memchr(in.p, '\n', in.n < VERSION_MAX ? in.n :
	    VERSION_MAX) != NULL) {
		x->is_greeted = true;
		return true;
	} else if (in.n >= VERSION_MAX) {
		sp_ctx_disconnect(x, "version line too long");
		gone = true;
	}
	if (gone)
		x->wire.rx_len = 0;	/* none of it is for libssh */
	return x->wire.eof || x->wire.failed != 0;
}
