/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/supervisor/sup.h"

#include <errno.h>

/*
 * A child of sallyport-auth lives for one PAM conversation. One that outlives
 * any login is killed.
 */
#define LIFE_US (660 * SP_SECOND_US)

void
sp_auth_spawn(struct sp_sup *s, uint64_t corr, uint64_t login)
{
	struct sp_failure f = {.corr = corr, .id = login, .err_no = EAGAIN,
	    .text = "too many logins at once"};
	struct sp_kid *k = s->n_auths >= SP_AUTHS_MAX ? NULL :
	    sp_kid_new(s, SP_KID_AUTH, NULL);
	enum sp_err e;

	if (k == NULL) {
		sp_reply_failure(s, &f);
		return;
	}
	k->ref = login;
	k->corr = corr;
	s->auths[s->n_auths++] = (struct sp_auth){.kid = k->id,
	    .deadline_us = sp_boot_us() + LIFE_US};
	if ((e = sp_kid_spawn(s, k, -1, -1)) != SP_OK) {
		f.text = sp_err_text(e);
		sp_reply_failure(s, &f);
	}
}

void
sp_auth_gone(struct sp_sup *s, const struct sp_kid *k)
{
	for (size_t i = 0; k->kind == SP_KID_AUTH && i < s->n_auths; i++)
		if (s->auths[i].kid == k->id) {
			s->auths[i] = s->auths[--s->n_auths];
			return;
		}
}

void
sp_auth_tick(struct sp_sup *s, int64_t now, int64_t *next)
{
	for (size_t i = s->n_auths; i-- > 0;) {
		struct sp_kid *k = sp_kid_find(s, s->auths[i].kid);

		if (s->auths[i].deadline_us > now || k == NULL) {
			sp_sooner(next, s->auths[i].deadline_us);
			continue;
		}
		s->auths[i].deadline_us = now + 60 * SP_SECOND_US;
		sp_sooner(next, s->auths[i].deadline_us);
		sp_kid_kill(s, k);	/* may end it here: the last takes its place */
	}
}
