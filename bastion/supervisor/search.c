/* SPDX-License-Identifier: Apache-2.0 */
/* A search: a player without a file. It gets files in batches through the broker,
 * which passes them on (recording.c). */
#include "bastion/supervisor/sup.h"

#include <errno.h>

enum sp_err
sp_on_search_spawn(struct sp_sup *s, struct sp_packet *p)
{
	struct sp_msg_search_spawn m;
	struct sp_failure f = {.corr = p->corr, .err_no = EAGAIN};
	struct sp_kid *k;
	enum sp_err e;

	SP_TRY(sp_dec_search_spawn(p->body, &m));
	f.id = m.play;
	if ((k = sp_kid_new(s, SP_KID_SEARCH, NULL)) == NULL) {
		f.text = "too many viewers";
		sp_reply_failure(s, &f);
		return SP_OK;
	}
	k->corr = p->corr;
	k->ref = m.play;
	if ((e = sp_kid_spawn(s, k, -1, -1)) != SP_OK) {
		f.text = e == SP_ERR_EOF ? "the vault is away" : sp_err_text(e);
		sp_reply_failure(s, &f);
	}
	return SP_OK;
}
