/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bastion/egress-sql/sqleg.h"

#define VAULT_WAIT_MS 10000
#define CERT_MAX 16384

static SSL_CTX *ctx;

/* No authority is asked: the certificate itself is pinned. */
enum sp_err
sp_tls_init(void)
{
	if ((ctx = SSL_CTX_new(TLS_client_method())) == NULL ||
	    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1)
		return SP_ERR_CRYPTO;
	SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
	    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_AUTO_RETRY);
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
	    SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	return SP_OK;
}

/* RFC 5929, 4.1: the hash of the certificate's own signature, SHA-256 in place
 * of MD5 and SHA-1. 0: it is signed with none (Ed25519). */
static unsigned
hash_of(X509 *cert)
{
	int md = NID_undef;

	if (X509_get_signature_info(cert, &md, NULL, NULL, NULL) != 1)
		return 0;
	switch (md) {
	case NID_md5:
	case NID_sha1:
	case NID_sha256:
		return 256;
	case NID_sha384:
		return 384;
	case NID_sha512:
		return 512;
	default:
		return 0;
	}
}

static bool
is_pinned(struct sp_span pins, const uint8_t seen[static 32])
{
	struct sp_span one;

	while (pins.n > 0 && sp_get_ssh_string(&pins, 32, &one) == SP_OK)
		if (one.n == 32 && memcmp(one.p, seen, 32) == 0)
			return true;
	return false;
}

static enum sp_err
look_at(struct sp_sqleg *g, uint8_t *der, size_t cap, size_t *n)
{
	X509 *cert = SSL_get1_peer_certificate(g->ssl);
	uint8_t seen[32], *at = der;
	int len = cert == NULL ? -1 : i2d_X509(cert, NULL);

	if (len <= 0 || (size_t)len > cap || i2d_X509(cert, &at) != len) {
		X509_free(cert);
		return SP_ERR_CRYPTO;
	}
	*n = (size_t)len;
	g->hash_bits = hash_of(cert);
	X509_free(cert);
	if (EVP_Digest(der, *n, seen, NULL, EVP_sha256(), NULL) != 1)
		return SP_ERR_CRYPTO;
	return is_pinned(sp_buf_span(&g->pins), seen) ? SP_OK : SP_ERR_DENIED;
}

enum sp_err
sp_tls_show_vault(struct sp_sqleg *g)
{
	static uint8_t der[CERT_MAX];
	struct sp_msg_sql_begin m;
	struct sp_msg_sql_begin_r r;
	struct sp_packet p;
	size_t n = 0;

	SP_TRY(look_at(g, der, sizeof(der), &n));
	m.cert = sp_span_of(der, n);
	SP_TRY(sp_send_sql_begin(&g->vault, 0, &m, NULL));
	SP_TRY(sp_link_wait(&g->vault, &p, VAULT_WAIT_MS));
	sp_packet_close_fds(&p);
	if (p.type != SP_MSG_sql_begin_r)
		return SP_ERR_PROTO;
	SP_TRY(sp_dec_sql_begin_r(p.body, &r));
	return r.ok == 1 ? SP_OK : SP_ERR_EOF;
}

enum sp_err
sp_vault_prove(struct sp_sqleg *g, const struct sp_msg_sql_prove *q,
    struct sp_buf *answer, struct sp_buf *expect)
{
	struct sp_msg_sql_prove_r r;
	struct sp_packet p;

	SP_TRY(sp_send_sql_prove(&g->vault, 0, q, NULL));
	SP_TRY(sp_link_wait(&g->vault, &p, VAULT_WAIT_MS));
	sp_packet_close_fds(&p);
	if (p.type != SP_MSG_sql_prove_r)
		return SP_ERR_PROTO;
	SP_TRY(sp_dec_sql_prove_r(p.body, &r));
	if (r.ok != 1)
		return SP_ERR_DENIED;
	SP_TRY(sp_buf_put(answer, r.answer.p, r.answer.n));
	return sp_buf_put(expect, r.expect.p, r.expect.n);
}

/* ------------------------------------------------------------------- bytes */

static short
wanted(int why)
{
	return why == SSL_ERROR_WANT_READ ? POLLIN :
	    why == SSL_ERROR_WANT_WRITE ? POLLOUT : 0;
}

enum sp_err
sp_tls_begin(struct sp_sqleg *g, int64_t deadline)
{
	short events;
	int rc;

	/* Nothing of before the handshake may count as said within. */
	if (g->far.len != 0)
		return SP_ERR_PROTO;
	ERR_clear_error();
	if ((g->ssl = SSL_new(ctx)) == NULL || SSL_set_fd(g->ssl, g->tcp) != 1)
		return SP_ERR_NOMEM;
	while ((rc = SSL_connect(g->ssl)) != 1) {
		if ((events = wanted(SSL_get_error(g->ssl, rc))) == 0)
			return SP_ERR_CRYPTO;
		SP_TRY(sp_sql_wait(g, events, deadline));
	}
	return SP_OK;
}

static ssize_t
get(struct sp_sqleg *g, uint8_t *at, size_t n)
{
	ssize_t k;
	int rc;

	if (g->ssl == NULL) {
		do
			k = read(g->tcp, at, n);
		while (k < 0 && errno == EINTR);
		return k > 0 ? k : k < 0 && errno == EAGAIN ? 0 : -1;
	}
	ERR_clear_error();
	rc = SSL_read(g->ssl, at, (int)n);
	if (rc > 0)
		return rc;
	return wanted(SSL_get_error(g->ssl, rc)) != 0 ? 0 : -1;
}

enum sp_err
sp_far_fill(struct sp_sqleg *g)
{
	while (!g->far_over && g->far.len + 16384 <= SP_SQL_FAR_MAX) {
		uint8_t *at;
		ssize_t n;

		SP_TRY(sp_buf_reserve(&g->far, 16384, &at));
		n = get(g, at, 16384);
		if (n < 0)
			g->far_over = true;
		if (n <= 0)
			break;
		sp_buf_commit(&g->far, (size_t)n);
		/* Before TLS every byte more than asked for would be lost to it. */
		if (g->ssl == NULL)
			break;
	}
	return SP_OK;
}

enum sp_err
sp_far_need(struct sp_sqleg *g, size_t n, int64_t deadline)
{
	for (;;) {
		SP_TRY(sp_far_fill(g));
		if (g->far.len >= n)
			return SP_OK;
		if (g->far_over || n > SP_SQL_FAR_MAX - 16384)
			return SP_ERR_EOF;
		SP_TRY(sp_sql_wait(g, POLLIN, deadline));
	}
}

enum sp_err
sp_far_write_some(struct sp_sqleg *g, struct sp_span s, size_t *n)
{
	ssize_t k;
	int rc;

	*n = 0;
	if (s.n == 0)
		return SP_OK;
	if (g->ssl == NULL) {
		k = send(g->tcp, s.p, s.n, MSG_NOSIGNAL);
		if (k < 0 && errno != EAGAIN && errno != EINTR)
			return SP_ERR_EOF;
		*n = k < 0 ? 0 : (size_t)k;
		return SP_OK;
	}
	ERR_clear_error();
	rc = SSL_write(g->ssl, s.p, s.n > 65536 ? 65536 : (int)s.n);
	if (rc <= 0 && wanted(SSL_get_error(g->ssl, rc)) == 0)
		return SP_ERR_EOF;
	*n = rc <= 0 ? 0 : (size_t)rc;
	return SP_OK;
}

enum sp_err
sp_far_write(struct sp_sqleg *g, struct sp_span s, int64_t deadline)
{
	while (s.n > 0) {
		size_t n;

		SP_TRY(sp_far_write_some(g, s, &n));
		s = sp_span_of(s.p + n, s.n - n);
		if (n == 0)
			SP_TRY(sp_sql_wait(g, POLLOUT, deadline));
	}
	return SP_OK;
}

void
sp_far_close(struct sp_sqleg *g)
{
	if (g->ssl != NULL && !g->far_over)
		(void)SSL_shutdown(g->ssl);
	if (g->tcp >= 0)
		(void)shutdown(g->tcp, SHUT_RDWR);
}
