/* SPDX-License-Identifier: Apache-2.0 */
/* An account's own SSH key (sshkey.h). */
#include "vault/kinds.h"
#include "vault/sshkey.h"
#include "vault/userauth.h"
#include "vault/poison.h"

static enum sp_err
make(struct sp_secret *kept)
{
	return sp_secret_random(kept, 32);	/* the seed of an Ed25519 key */
}

static enum sp_err
identity(struct sp_lease *l)
{
	SP_SECRET_AUTO kept = {0};

	SP_TRY(sp_secret_unseal(l->table->root, &l->row, sp_buf_span(&l->sealed),
	    &kept));
	SP_TRY(sp_sshkey_open(&kept, &l->blob));
	sp_secret_move(&l->key, &kept);
	return SP_OK;
}

static enum sp_err
sign(struct sp_lease *l, struct sp_span data, struct sp_buf *signature)
{
	struct sp_userauth u;

	SP_TRY(sp_userauth_parse(data, &u));
	return sp_sshkey_sign(&l->key, u.algo, data, signature);
}

const struct sp_kind_ops sp_kind_ops_key = {.import = sp_sshkey_import,
    .given_max = SP_KEY_FILE_MAX, .make = make, .check = sp_sshkey_check,
    .shown = sp_sshkey_blob, .identity = identity, .sign = sign};
