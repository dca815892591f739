/* SPDX-License-Identifier: Apache-2.0 */
/* Showing a credential to a person. Two have to agree, and neither alone can do
 * it: the broker brings the sealed secret and says that the request is approved
 * (with signatures, where the secret has a rule), and the administrator on the
 * host asks for it over the vault's own socket. The clear text leaves on that
 * socket and nowhere else. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "vault/show.h"
#include "vault/vaultd.h"
#include "vault/poison.h"

#define REVEALS_MAX 8
#define LIFE_US 60000000
#define LEAST 2			/* people, besides who asked */

struct sp_reveal {
	bool is_there;
	uint8_t request[16];
	struct sp_secret_row row;
	size_t n;
	uint8_t sealed[8192];
	char account[65], target_name[65];
	int64_t due_us;
};

void
sp_reveals_drop(struct sp_vaultd *v, int64_t boot_us)
{
	for (size_t i = 0; v->reveals != NULL && i < REVEALS_MAX; i++)
		if (v->reveals[i].is_there && v->reveals[i].due_us <= boot_us)
			v->reveals[i] = (struct sp_reveal){.is_there = false};
}

int64_t
sp_reveals_due_us(const struct sp_vaultd *v)
{
	int64_t due = INT64_MAX;

	for (size_t i = 0; v->reveals != NULL && i < REVEALS_MAX; i++)
		if (v->reveals[i].is_there && v->reveals[i].due_us < due)
			due = v->reveals[i].due_us;
	return due;
}

static struct sp_reveal *
place(struct sp_vaultd *v)
{
	if (v->reveals == NULL)
		v->reveals = calloc(REVEALS_MAX, sizeof(*v->reveals));
	for (size_t i = 0; v->reveals != NULL && i < REVEALS_MAX; i++)
		if (!v->reveals[i].is_there)
			return &v->reveals[i];
	return NULL;
}

static enum sp_err
check(struct sp_vaultd *v, const struct sp_msg_v_reveal *m,
    const struct sp_secret_row *row, char text[static 256])
{
	struct sp_release_wish w = {.kind = SP_CHALLENGE_REVEAL,
	    .secret = m->secret_id, .target = m->target, .request = m->request,
	    .account = m->account, .target_name = m->target_name,
	    .rule = m->rule, .challenge = m->challenge,
	    .approvals = m->approvals, .least = LEAST};
	SP_SECRET_AUTO s = {0};
	char by[256];
	enum sp_err e;

	snprintf(text, 256, "the stored secret does not open: its row was changed, "
	    "or belongs elsewhere");
	if (m->kind == SP_CRED_TOTP_SEED || m->kind == SP_CRED_SSH_CERT ||
	    !sp_name_is_valid(m->account) || !sp_name_is_valid(m->target_name) ||
	    !sp_span_eq(sp_span_of(m->secret_owner, 16),
	    sp_span_of(m->target, 16)))
		return SP_ERR_INVAL;
	e = sp_secret_unseal(&v->root, row, m->sealed, &s);
	if (e == SP_OK && m->rule.n > 0)
		e = sp_release_check(&v->root, &w, sp_now_us(), by, text);
	return e;
}

static enum sp_err
keep(struct sp_vaultd *v, const struct sp_msg_v_reveal *m,
    const struct sp_secret_row *row)
{
	struct sp_reveal *k = place(v);

	if (k == NULL)
		return SP_ERR_FULL;
	*k = (struct sp_reveal){.is_there = true, .row = *row, .n = m->sealed.n,
	    .due_us = sp_boot_us() + LIFE_US};
	memcpy(k->request, m->request, 16);
	memcpy(k->sealed, m->sealed.p, m->sealed.n);
	SP_TRY(sp_span_cstr(m->account, k->account, sizeof(k->account)));
	return sp_span_cstr(m->target_name, k->target_name,
	    sizeof(k->target_name));
}

enum sp_err
sp_on_reveal_ready(struct sp_vaultd *v, struct sp_packet *p)
{
	struct sp_msg_v_reveal m;
	struct sp_msg_v_done r = {.err = SP_ERR_SEALED};
	struct sp_secret_row row;
	char text[256] = "the vault is sealed";

	SP_TRY(sp_dec_v_reveal(p->body, &m));
	row = (struct sp_secret_row){.kind = m.kind, .version = m.secret_version};
	memcpy(row.id, m.secret_id, 16);
	memcpy(row.owner, m.secret_owner, 16);
	sp_rule_digest(m.rule, row.rule);
	if (v->root.is_open)
		r.err = (uint8_t)check(v, &m, &row, text);
	if (r.err == SP_OK)
		r.err = (uint8_t)keep(v, &m, &row);
	if (r.err != SP_OK)
		sp_vaultd_event(v, "reveal_refused", NULL, text);
	r.text = sp_span_str(r.err == SP_OK ? "" : text);
	return sp_send_v_done(&v->brk, p->corr, &r, NULL);
}

static struct sp_reveal *
find(struct sp_vaultd *v, const uint8_t request[static 16])
{
	sp_reveals_drop(v, sp_boot_us());
	for (size_t i = 0; v->reveals != NULL && i < REVEALS_MAX; i++)
		if (v->reveals[i].is_there &&
		    sodium_memcmp(v->reveals[i].request, request, 16) == 0)
			return &v->reveals[i];
	return NULL;
}

enum sp_err
sp_on_reveal(struct sp_vaultd *v, struct sp_control *c, struct sp_packet *p)
{
	SP_SECRET_AUTO s = {0}, shown = {0};
	struct sp_msg_vc_reveal m;
	struct sp_msg_vc_reveal_r r = {.err = SP_ERR_NOTFOUND};
	char what[136] = "", detail[220];
	struct sp_reveal *k;

	SP_TRY(sp_dec_vc_reveal(p->body, &m));
	k = find(v, m.request);
	if (k != NULL) {
		snprintf(what, sizeof(what), "%s@%s", k->account, k->target_name);
		r.kind = k->row.kind;
		r.err = (uint8_t)sp_secret_unseal(&v->root, &k->row,
		    sp_span_of(k->sealed, k->n), &s);
		if (r.err == SP_OK)
			r.err = (uint8_t)sp_secret_show(k->row.kind, &s, &shown);
		*k = (struct sp_reveal){.is_there = false};
	}
	snprintf(detail, sizeof(detail), "uid=%ju %s: %s", (uintmax_t)c->uid, what,
	    sp_err_text(r.err));
	sp_vaultd_event(v, r.err == SP_OK ? "credential_shown" :
	    "credential_not_shown", NULL, detail);
	r.what = sp_span_str(what);
	r.text = sp_span_str(r.err == SP_OK ? "" : r.err == SP_ERR_NOTFOUND ?
	    "nothing waits to be shown for that request" : sp_err_text(r.err));
	if (r.err == SP_OK)
		r.clear = sp_span_of(shown.p, shown.n);
	return sp_send_vc_reveal_r(&c->link, p->corr, &r, NULL);
}
