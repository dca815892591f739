/* SPDX-License-Identifier: Apache-2.0 */
/* Of an inventory: rotation of passwords and keys, and release rules. */
#include "bastion/broker/apply.h"

#include <stdio.h>
#include <string.h>

#include "bastion/broker/flow.h"
#include "bastion/broker/owed.h"
#include "bastion/broker/rotate.h"
#include "common/passrule.h"
#include "common/release.h"

#define NEVER "never"

static const char *
col(const struct sp_apply *a, size_t row, const char *name)
{
	return row == SIZE_MAX ? NULL :
	    sp_rows_get(a->c->rows[AP_ACCOUNTS], row, name);
}

static void
was_now(struct sp_apply *a, const char *what, const char *was, const char *now)
{
	if (was == NULL ? now == NULL : now != NULL && strcmp(was, now) == 0)
		return;
	if (was != NULL)
		ap_line(a, '-', "%s %s", what, sp_vis_str(was));
	if (now != NULL)
		ap_line(a, '+', "%s %s", what, sp_vis_str(now));
}

/* true: it is named; *out is its text, NULL for none. */
static bool
named(struct sp_apply *a, json_object *o, const char *key, size_t max,
    const char *path, const char **out)
{
	json_object *v = NULL;

	*out = NULL;
	if (!json_object_object_get_ex(o, key, &v))
		return false;
	if (v != NULL)
		*out = ap_text(a, v, max, path);
	return true;
}

/* ----------------------------------------------------------------- release rules */

/* "2 of approvers": who decides, and how many sign. "" for none. */
static void
release_text(const struct sp_call *c, size_t account, char dst[static 64])
{
	const char *id = account == SIZE_MAX ? NULL :
	    sp_rows_get(c->rows[AP_ACCOUNTS], account, "secret_id");
	size_t i = id == NULL ? SIZE_MAX :
	    sp_rows_find(c->rows[AP_SECRETS], "id", id);
	SP_BUF_AUTO bytes = {.max = SP_RULE_MAX};
	static struct sp_rule r;

	dst[0] = '\0';
	if (i == SIZE_MAX || sp_rows_get(c->rows[AP_SECRETS], i, "rule") == NULL)
		return;
	snprintf(dst, 64, "?");
	if (sp_rows_bytes(c->rows[AP_SECRETS], i, "rule", &bytes) == SP_OK &&
	    sp_rule_decode(sp_buf_span(&bytes), &r) == SP_OK)
		snprintf(dst, 64, "%u of %.32s%s", r.need, r.group, r.touch ?
		    " with touch" : "");
}

/* Whose keys count is what an administrator saw and agreed to on the host, and the
 * vault seals it into the secret: no file can. It is compared, and said. */
static void
release_of(struct sp_apply *a, json_object *o, size_t row, const char *where,
    const char *path)
{
	const char *want;
	char is[64];

	if (!named(a, o, "release", 63, path, &want))
		return;
	release_text(a->c, row, is);
	if (strcmp(want == NULL ? "" : want, is) != 0)
		ap_note(a, "%s should have %s%s, which is made on the host: "
		    "sallyport secret rule %s", where, want == NULL ?
		    "no release rule" : "the release rule ",
		    want == NULL ? "" : sp_vis_str(want), where);
}

/* ---------------------------------------------------------------------- rotation */

void
ap_rotation(struct sp_apply *a, json_object *o, const struct sp_kind *k,
    size_t row, const char *where, const char *path, struct ap_rotation *r)
{
	struct sp_pass_rule rule;
	bool after_use;
	int64_t seconds;
	char why[128];

	*r = (struct ap_rotation){0};
	r->has_rotate = named(a, o, "rotate", 64, path, &r->rotate);
	r->has_rule = named(a, o, "password_rule", 256, path, &r->rule);
	release_of(a, o, row, where, path);
	if (r->rotate != NULL && strcmp(r->rotate, NEVER) == 0)
		r->rotate = NULL;
	if (k == NULL || (!r->has_rotate && !r->has_rule))
		return;
	if ((k->flags & SP_KIND_ROTATES) == 0 &&
	    (r->rotate != NULL || r->rule != NULL)) {
		ap_error(a, path, "a %s is made for each session, or set at its "
		    "target: it has no rotate and no password_rule", k->name);
		return;
	}
	if (sp_rotation_when(r->rotate, &after_use, &seconds) != SP_OK)
		ap_error(a, path, "rotate is after-use, a length of time (30m, 12h, "
		    "30d, 4w), both with a space between, or never");
	if (r->rule != NULL && sp_pass_rule_parse(sp_span_str(r->rule), &rule, why) !=
	    SP_OK)
		ap_error(a, path, "password_rule: %s", why);
	if (r->has_rotate)
		was_now(a, "rotate", col(a, row, "rotate"), r->rotate);
	if (r->has_rule)
		was_now(a, "password rule", col(a, row, "password_rule"), r->rule);
}

/* What is due is planned anew only when the word changes. */
void
ap_rotation_put(struct sp_apply *a, const struct ap_rotation *r,
    const char *account, struct sp_vals *v)
{
	const struct sp_rows *rot = a->c->rows[AP_ROTATIONS];
	size_t row = sp_rows_find(a->c->rows[AP_ACCOUNTS], "id", account);
	const char *was = col(a, row, "rotate");
	bool after_use = false;
	int64_t seconds = 0;

	if (r->has_rule)
		sp_vals_set(v, "password_rule", r->rule);
	if (!r->has_rotate || (was == NULL ? r->rotate == NULL :
	    r->rotate != NULL && strcmp(was, r->rotate) == 0))
		return;
	sp_vals_set(v, "rotate", r->rotate);
	if (sp_rotation_when(r->rotate, &after_use, &seconds) == SP_OK)
		sp_plan_rotation(a->ch, account, rot,
		    sp_rows_find(rot, "id", account), seconds, after_use);
}

void
ap_rotation_export(struct sp_call *c, json_object *o, const struct sp_kind *k,
    size_t i)
{
	const struct sp_rows *r = c->rows[AP_ACCOUNTS];
	const char *rotate = sp_rows_get(r, i, "rotate");
	char release[64];

	if ((k->flags & SP_KIND_ROTATES) != 0) {
		json_object_object_add(o, "rotate", sp_json_text(rotate == NULL ?
		    NEVER : rotate));
		json_object_object_add(o, "password_rule",
		    sp_json_text(sp_rows_get(r, i, "password_rule")));
	}
	release_text(c, i, release);
	if (release[0] != '\0')
		json_object_object_add(o, "release", sp_json_text(release));
}

/* --------------------------------------------------------------------- reconcile */

/* A row is written once in a transaction, and names accounts that are there: what
 * comes too early is for the next one. */
void
ap_reconcile(struct sp_apply *a, json_object *o, const char *target, size_t row,
    bool changed, const char *path)
{
	const struct sp_rows *r = a->c->rows[AP_TARGETS];
	const char *was = row == SIZE_MAX ? NULL : sp_rows_get(r, row, "reconcile");
	const char *want, *id = NULL;
	char where[2 * SP_NAME_MAX + 8];
	struct sp_vals v;
	uint8_t raw[16];
	size_t i;

	if (!named(a, o, "reconcile", SP_NAME_MAX, path, &want))
		return;
	snprintf(where, sizeof(where), "%.32s@%.32s", want == NULL ? "" : want,
	    target);
	i = want == NULL ? SIZE_MAX : ap_at(a->account_at, where);
	if (i != SIZE_MAX)
		id = sp_rows_get(a->c->rows[AP_ACCOUNTS], i, "id");
	else if (want != NULL && !json_object_object_get_ex(a->fresh, where, NULL)) {
		ap_error(a, path, "there is no account %s to reconcile with",
		    sp_vis_str(where));
		return;
	}
	if (want == NULL ? was == NULL : was != NULL && id != NULL &&
	    strcmp(was, id) == 0)
		return;
	if (want == NULL)
		ap_line(a, '~', "no account to reconcile with");
	else
		ap_line(a, '~', "reconciled by %s", sp_vis_str(where));
	a->is_full = a->is_full || changed || (want != NULL && id == NULL);
	if (!ap_change(a, "target", target, "change") || row == SIZE_MAX ||
	    !sp_rows_uuid(r, row, "id", raw))
		return;
	sp_vals_from(&v, SP_T_TARGETS, r, row);
	sp_vals_set(&v, "reconcile", id);
	sp_change_update(a->ch, SP_T_TARGETS, raw, sp_rows_ver(r, row), v.v);
}
