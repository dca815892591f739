/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/sshcert.h"

#include <arpa/inet.h>
#include <sodium.h>
#include <string.h>

#include "common/ipc_messages.h"
#include "common/text.h"
#include "vault/poison.h"

#define CERT_USER 1

bool
sp_addr_is_numeric(const char *s)
{
	struct in6_addr a;

	return inet_pton(AF_INET, s, &a) == 1 || inet_pton(AF_INET6, s, &a) == 1;
}

static enum sp_err
put_principals(struct sp_buf *b, const struct sp_cert_wish *w)
{
	SP_BUF_AUTO one = {.max = 256}, list = {.max = 256};

	if (!sp_name_is_valid(sp_span_str(w->account)) ||
	    !sp_name_is_valid(sp_span_str(w->target_name)))
		return SP_ERR_INVAL;
	SP_TRY(sp_buf_printf(&one, "%s@%s", w->account, w->target_name));
	SP_TRY(sp_buf_put_ssh_string(&list, sp_buf_span(&one)));
	return sp_buf_put_ssh_string(b, sp_buf_span(&list));
}

static enum sp_err
put_options(struct sp_buf *b, const struct sp_cert_wish *w)
{
	SP_BUF_AUTO list = {.max = 256}, data = {.max = 128};

	if (w->source[0] != '\0') {
		if (!sp_addr_is_numeric(w->source))
			return SP_ERR_INVAL;
		SP_TRY(sp_buf_put_ssh_string(&list, sp_span_str("source-address")));
		SP_TRY(sp_buf_put_ssh_string(&data, sp_span_str(w->source)));
		SP_TRY(sp_buf_put_ssh_string(&list, sp_buf_span(&data)));
	}
	return sp_buf_put_ssh_string(b, sp_buf_span(&list));
}

static enum sp_err
put_extensions(struct sp_buf *b, const struct sp_cert_wish *w)
{
	SP_BUF_AUTO list = {.max = 128};

	/* In lexical order. Never agent or X11: they lend the user's own. */
	if ((w->rights & (SP_RIGHT_FORWARD | SP_RIGHT_LISTEN)) != 0) {
		SP_TRY(sp_buf_put_ssh_string(&list,
		    sp_span_str("permit-port-forwarding")));
		SP_TRY(sp_buf_put_ssh_string(&list, sp_span_str("")));
	}
	if ((w->rights & (SP_RIGHT_SHELL | SP_RIGHT_EXEC)) != 0) {
		SP_TRY(sp_buf_put_ssh_string(&list, sp_span_str("permit-pty")));
		SP_TRY(sp_buf_put_ssh_string(&list, sp_span_str("")));
	}
	return sp_buf_put_ssh_string(b, sp_buf_span(&list));
}

static enum sp_err
put_times(struct sp_buf *b, const struct sp_cert_wish *w)
{
	int64_t now = w->now_us / 1000000, until = w->not_after_us / 1000000;

	if (until > now + SP_CERT_LIFE_S)
		until = now + SP_CERT_LIFE_S;
	if (now <= SP_CERT_SKEW_S || until <= now)
		return SP_ERR_DENIED;
	SP_TRY(sp_buf_put_ssh_u64(b, (uint64_t)(now - SP_CERT_SKEW_S)));
	return sp_buf_put_ssh_u64(b, (uint64_t)until);
}

static enum sp_err
put_body(struct sp_buf *b, const struct sp_root *r,
    const struct sp_cert_wish *w)
{
	SP_BUF_AUTO ca = {.max = 128};
	uint8_t nonce[32];
	char id[SP_UUID_TEXT];

	randombytes_buf(nonce, sizeof(nonce));
	sp_uuid_text(id, w->session);
	SP_TRY(sp_buf_put_ssh_string(b, sp_span_str(SP_CERT_TYPE)));
	SP_TRY(sp_buf_put_ssh_string(b, sp_span_of(nonce, sizeof(nonce))));
	SP_TRY(sp_buf_put_ssh_string(b, sp_span_of(w->pk, 32)));
	SP_TRY(sp_buf_put_ssh_u64(b, w->serial));
	SP_TRY(sp_buf_put_ssh_u32(b, CERT_USER));
	SP_TRY(sp_buf_put_ssh_string(b, sp_span_str(id)));
	SP_TRY(put_principals(b, w));
	SP_TRY(put_times(b, w));
	SP_TRY(put_options(b, w));
	SP_TRY(put_extensions(b, w));
	SP_TRY(sp_buf_put_ssh_string(b, sp_span_str("")));	/* reserved */
	SP_TRY(sp_ssh_ed25519_blob(&ca, r->ca_pk));
	return sp_buf_put_ssh_string(b, sp_buf_span(&ca));
}

enum sp_err
sp_cert_mint(const struct sp_root *r, const struct sp_cert_wish *w,
    struct sp_buf *out)
{
	SP_BUF_AUTO b = {.max = SP_CERT_MAX}, sig = {.max = 128};
	uint8_t s[64];

	if (!r->is_open)
		return SP_ERR_SEALED;
	if (w->serial == 0)	/* a revocation list cannot name it */
		return SP_ERR_INVAL;
	SP_TRY(put_body(&b, r, w));
	if (crypto_sign_detached(s, NULL, sp_buf_span(&b).p, b.len, r->ca.p) != 0)
		return SP_ERR_CRYPTO;
	SP_TRY(sp_buf_put_ssh_string(&sig, sp_span_str("ssh-ed25519")));
	SP_TRY(sp_buf_put_ssh_string(&sig, sp_span_of(s, sizeof(s))));
	SP_TRY(sp_buf_put_ssh_string(&b, sp_buf_span(&sig)));
	return sp_buf_put(out, sp_buf_span(&b).p, b.len);
}
