/* SPDX-License-Identifier: Apache-2.0 */
/* An SSH certificate: the key is made when the identity is asked for, lives a
 * minute at most, and is wiped with its first signature. */
#include <sodium.h>
#include <string.h>

#include "vault/kinds.h"
#include "vault/sshcert.h"
#include "vault/poison.h"

static enum sp_err
identity(struct sp_lease *l)
{
	SP_SECRET_AUTO seed = {0}, sk = {0};
	struct sp_cert_wish w = {.account = l->account,
	    .target_name = l->target_name, .source = l->source,
	    .serial = l->serial, .rights = l->rights, .now_us = sp_now_us(),
	    .not_after_us = l->not_after_us};
	uint8_t pk[32];

	SP_TRY(sp_secret_random(&seed, 32));
	SP_TRY(sp_secret_new(&sk, 64));
	if (crypto_sign_seed_keypair(pk, sk.p, seed.p) != 0)
		return SP_ERR_CRYPTO;
	memcpy(w.session, l->session, 16);
	w.pk = pk;
	SP_TRY(sp_cert_mint(l->table->root, &w, &l->blob));
	sp_secret_move(&l->key, &sk);
	return SP_OK;
}

static enum sp_err
sign(struct sp_lease *l, struct sp_span data, struct sp_buf *signature)
{
	uint8_t sig[64];

	if (crypto_sign_detached(sig, NULL, data.p, data.n, l->key.p) != 0)
		return SP_ERR_CRYPTO;
	SP_TRY(sp_buf_put_ssh_string(signature, sp_span_str("ssh-ed25519")));
	return sp_buf_put_ssh_string(signature, sp_span_of(sig, sizeof(sig)));
}

const struct sp_kind_ops sp_kind_ops_cert = {.identity = identity, .sign = sign};
