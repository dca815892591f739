/* SPDX-License-Identifier: Apache-2.0 */
/* Break-glass kits: what was sealed, what is stale, what was opened and has to be
 * looked at. The kits themselves and their shares are never here. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/flow.h"
#include "bastion/broker/owed.h"
#include "bastion/broker/verb_int.h"
#include "common/kit.h"

/* An entry's line in the row: "account@target SECRET-UUID VERSION". */
struct entry {
	char where[80], secret[SP_UUID_TEXT], version[24];
};

static bool
next_entry(const char **at, struct entry *e)
{
	int n = 0;

	if (sscanf(*at, "%79[^ \n] %36s %23[0-9]%n", e->where, e->secret,
	    e->version, &n) != 3 || n == 0 || ((*at)[n] != '\n' && (*at)[n] != '\0'))
		return false;
	*at += n + ((*at)[n] == '\n');
	return true;
}

/* ------------------------------------------------------------------ storing */

struct storing {
	char id_text[SP_UUID_TEXT];
	uint8_t id[16];
};

static void
stored(struct sp_call *c)
{
	struct storing *o = c->state;

	sp_call_did(c, o->id_text, "sealed", "Break-glass kit %s is sealed.",
	    o->id_text);
}

static bool
entries_are_fine(const char *s)
{
	struct entry e;
	size_t n = 0;

	for (; *s != '\0'; n++)
		if (!next_entry(&s, &e))
			return false;
	return n > 0 && n <= SP_KIT_ENTRIES_MAX;
}

void
sp_verb_glass_store(struct sp_call *c)
{
	struct storing *o = calloc(1, sizeof(*o));
	const char *key = sp_call_opt(c, "receipt-key"), *k = sp_call_opt(c, "k");
	const char *n = sp_call_opt(c, "n"), *until = sp_call_opt(c, "expires");
	const char *entries = sp_call_opt(c, "entries");
	struct sp_change *ch;
	char hex[70], now[SP_NUM_TEXT], *detail;
	uint8_t raw[32];
	struct sp_vals v;

	SP_ASSERT(o != NULL);
	c->state = o;
	c->free_state = free;
	if (key == NULL || k == NULL || n == NULL || until == NULL ||
	    entries == NULL || !entries_are_fine(entries) ||
	    sp_unhex(raw, 32, sp_span_str(key)) != SP_OK ||
	    sp_uuid_parse(o->id, sp_span_str(c->pos[0])) != SP_OK) {
		sp_call_fail(c, SP_EXIT_USAGE, "this is for the host: sallyport "
		    "break-glass kit");
		return;
	}
	sp_uuid_text(o->id_text, o->id);
	snprintf(hex, sizeof(hex), "\\x%s", key);
	sp_vals_init(&v, SP_T_KITS);
	sp_vals_set(&v, "k", k);
	sp_vals_set(&v, "n", n);
	sp_vals_set(&v, "note", sp_call_opt(c, "note") == NULL ? "" :
	    sp_call_opt(c, "note"));
	sp_vals_set(&v, "made_by", c->who.name);
	sp_vals_set(&v, "made_us", sp_i64_text(now, sp_now_us()));
	sp_vals_set(&v, "expires_us", until);
	sp_vals_set(&v, "receipt_key", hex);
	sp_vals_set(&v, "entries", entries);
	ch = sp_change_new(c->b->store);
	sp_change_insert(ch, SP_T_KITS, o->id, v.v);
	detail = sp_call_detail("kit", o->id_text, "k", k, "n", n, "credentials",
	    entries, NULL);
	sp_change_audit(ch, "break_glass_kit", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "break-glass kit", stored);
}

/* ------------------------------------------------------------------ listing */

static const struct sp_col kit_cols[] = {
	{"id", "KIT", SP_COL_TEXT}, {"state", "STATE", SP_COL_STATE},
	{"credentials", "HOLDS", SP_COL_WORDS}, {"stale", "STALE", SP_COL_WORDS},
	{"k", NULL, SP_COL_NUMBER}, {"n", NULL, SP_COL_NUMBER},
	{"shares", "SHARES", SP_COL_TEXT}, {"made", "MADE", SP_COL_TIME},
	{"made_by", NULL, SP_COL_TEXT}, {"expires", "UNTIL", SP_COL_TIME},
	{"opened_by", "OPENED BY", SP_COL_TEXT}, {"opened", NULL, SP_COL_TEXT},
	{"why", "WHY", SP_COL_TEXT}, {"imported_by", NULL, SP_COL_TEXT},
	{"imported", NULL, SP_COL_TIME}, {"review_owed", "REVIEW OWED", SP_COL_BOOL},
	{"reviewed_by", "REVIEWED BY", SP_COL_TEXT},
	{"reviewed", NULL, SP_COL_TIME}, {"review", NULL, SP_COL_TEXT},
	{"note", "NOTE", SP_COL_TEXT},
};
#define KIT_COLS (sizeof(kit_cols) / sizeof(kit_cols[0]))

/* A credential that is another version by now, or gone: the kit opens, and what
 * is in it does not. rows: 1 accounts, 2 secrets */
static bool
is_stale(const struct sp_call *c, const struct entry *e)
{
	size_t s = sp_rows_find(c->rows[2], "id", e->secret);
	char version[24];

	if (s == SIZE_MAX ||
	    sp_rows_find(c->rows[1], "secret_id", e->secret) == SIZE_MAX)
		return true;
	snprintf(version, sizeof(version), "%llu",
	    (unsigned long long)sp_rows_secret_ver(c->rows[2], s));
	return strcmp(version, e->version) != 0;
}

static const char *
state_of(const struct sp_call *c, size_t i, bool stale)
{
	if (sp_rows_get(c->rows[0], i, "opened_at") != NULL)
		return sp_rows_get(c->rows[0], i, "reviewed_us") != NULL ?
		    "reviewed" : "opened";
	if (sp_rows_i64(c->rows[0], i, "expires_us") <= c->style.now_us)
		return "expired";
	return stale ? "stale" : "sealed";
}

static void
add_kit(struct sp_call *c, struct sp_list *l, size_t i)
{
	const struct sp_rows *r = c->rows[0];
	const char *at = sp_rows_get(r, i, "entries");
	char holds[SP_KIT_ENTRIES_MAX * 110] = "", stale[SP_KIT_ENTRIES_MAX * 90] = "";
	char shares[32];
	size_t h = 0, s = 0;
	struct entry e;

	while (*at != '\0' && next_entry(&at, &e)) {
		if (h + 110 < sizeof(holds))
			h += (size_t)snprintf(holds + h, sizeof(holds) - h,
			    "%s%.80s:%.20s", h > 0 ? " " : "", e.where, e.version);
		if (is_stale(c, &e) && s + 90 < sizeof(stale))
			s += (size_t)snprintf(stale + s, sizeof(stale) - s,
			    "%s%.80s", s > 0 ? " " : "", e.where);
	}
	snprintf(shares, sizeof(shares), "%s of %s", sp_rows_get(r, i, "k"),
	    sp_rows_get(r, i, "n"));
	sp_list_add(l, (const char *[]){sp_rows_get(r, i, "id"),
	    state_of(c, i, s > 0), holds, stale, sp_rows_get(r, i, "k"),
	    sp_rows_get(r, i, "n"), shares, sp_rows_get(r, i, "made_us"),
	    sp_rows_get(r, i, "made_by"), sp_rows_get(r, i, "expires_us"),
	    sp_rows_get(r, i, "opened_by"), sp_rows_get(r, i, "opened_at"),
	    sp_rows_get(r, i, "opened_why"), sp_rows_get(r, i, "imported_by"),
	    sp_rows_get(r, i, "imported_us"),
	    sp_rows_get(r, i, "opened_at") != NULL &&
	    sp_rows_get(r, i, "reviewed_us") == NULL ? "t" : "f",
	    sp_rows_get(r, i, "reviewed_by"), sp_rows_get(r, i, "reviewed_us"),
	    sp_rows_get(r, i, "review"), sp_rows_get(r, i, "note")});
}

static void
kits_print(struct sp_call *c)
{
	struct sp_list *l = sp_list_new(kit_cols, KIT_COLS);

	for (size_t i = 0; i < sp_rows_n(c->rows[0]); i++)
		add_kit(c, l, i);
	sp_call_list(c, l, "No break-glass kit. On the host: sallyport break-glass "
	    "kit --k 3 --n 5 --account ACCOUNT@TARGET --out FILE");
	sp_list_free(l);
	sp_call_end(c, SP_EXIT_OK);
}

void
sp_verb_glass_list(struct sp_call *c)
{
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_KITS, .where = "ORDER BY made_us DESC LIMIT 500"},
	    {.t = SP_T_ACCOUNTS, .where = "WHERE secret_id IS NOT NULL"},
	    {.t = SP_T_SECRETS, .where = "WHERE id IN (SELECT secret_id FROM "
	    "accounts)"}}, 3, kits_print);
}

/* ---------------------------------------------------------------- receipts */

struct importing {
	struct sp_receipt r;
	char id[SP_UUID_TEXT];
	size_t n_owed;
};

static void
imported(struct sp_call *c)
{
	struct importing *o = c->state;

	sp_broker_changed(c->b);
	sp_call_did(c, o->id, "opened", "Kit %s was opened by %s. %zu credential%s "
	    "will be rotated; another person has to review it: break-glass review "
	    "%s --comment TEXT", o->id, o->r.by, o->n_owed,
	    o->n_owed == 1 ? "" : "s", o->id);
}

static bool
is_signed(const struct sp_call *c, const struct sp_receipt *r)
{
	SP_BUF_AUTO key = {.max = 32}, what = {.max = SP_RECEIPT_MAX + 64};

	return sp_rows_bytes(c->rows[0], 0, "receipt_key", &key) == SP_OK &&
	    key.len == 32 && sp_receipt_signed(&what, r->body) == SP_OK &&
	    crypto_sign_verify_detached(r->signature, sp_buf_span(&what).p,
	    what.len, sp_buf_span(&key).p) == 0;
}

/* What the kit held, by its row: a receipt cannot leave something out. Where the
 * account has another secret by now nothing is owed. */
static void
owe_all(struct sp_call *c, struct sp_change *ch, struct importing *o)
{
	const char *at = sp_rows_get(c->rows[0], 0, "entries");
	char why[200];
	struct entry e;

	snprintf(why, sizeof(why), "break-glass kit %.8s was opened by %.128s",
	    o->id, o->r.by);
	while (*at != '\0' && next_entry(&at, &e)) {
		size_t a = sp_rows_find(c->rows[1], "secret_id", e.secret);
		const char *account;

		if (a == SIZE_MAX)
			continue;
		account = sp_rows_get(c->rows[1], a, "id");
		sp_owe_rotation_at(ch, account, c->rows[2],
		    sp_rows_find(c->rows[2], "id", account), why);
		o->n_owed++;
	}
}

static void
import(struct sp_call *c)
{
	struct importing *o = c->state;
	struct sp_change *ch;
	char now[SP_NUM_TEXT], *detail;
	struct sp_vals v;
	uint8_t id[16];

	if (sp_rows_n(c->rows[0]) != 1 ||
	    !sp_rows_uuid(c->rows[0], 0, "id", id)) {
		sp_call_fail(c, SP_EXIT_REFUSED, "there is no kit %s here", o->id);
		return;
	}
	if (!is_signed(c, &o->r)) {
		detail = sp_call_detail("kit", o->id, "by", o->r.by, NULL);
		sp_audit(c->b->store, "break_glass_receipt_forged", c->who.name,
		    NULL, detail, NULL, NULL);
		free(detail);
		sp_call_fail(c, SP_EXIT_REFUSED, "that receipt was not signed by "
		    "kit %s, or was changed", o->id);
		return;
	}
	if (sp_rows_get(c->rows[0], 0, "opened_at") != NULL) {
		sp_call_fail(c, SP_EXIT_REFUSED, "a receipt of kit %s was imported "
		    "already; break-glass list shows it", o->id);
		return;
	}
	sp_vals_from(&v, SP_T_KITS, c->rows[0], 0);
	sp_vals_set(&v, "opened_at", o->r.opened);
	sp_vals_set(&v, "opened_by", o->r.by);
	sp_vals_set(&v, "opened_why", o->r.why);
	sp_vals_set(&v, "imported_by", c->who.name);
	sp_vals_set(&v, "imported_us", sp_i64_text(now, sp_now_us()));
	ch = sp_change_new(c->b->store);
	sp_change_update(ch, SP_T_KITS, id, sp_rows_ver(c->rows[0], 0), v.v);
	owe_all(c, ch, o);
	detail = sp_call_detail("kit", o->id, "opened", o->r.opened, "by", o->r.by,
	    "why", o->r.why, "credentials", sp_rows_get(c->rows[0], 0, "entries"),
	    NULL);
	sp_change_audit(ch, "break_glass_opened", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "break-glass import", imported);
}

void
sp_verb_glass_import(struct sp_call *c)
{
	struct importing *o = calloc(1, sizeof(*o));

	SP_ASSERT(o != NULL);
	c->state = o;
	c->free_state = free;
	if (sp_receipt_parse(sp_buf_span(&c->input), &o->r) != SP_OK) {
		sp_call_fail(c, SP_EXIT_USAGE, "that is no receipt: it begins with "
		    SP_RECEIPT_BEGIN);
		return;
	}
	sp_uuid_text(o->id, o->r.kit);
	sp_call_load(c, 0, (struct sp_need[]){
	    {.t = SP_T_KITS, .where = "WHERE id = $1", .p = {o->id}, .n = 1},
	    {.t = SP_T_ACCOUNTS, .where = "WHERE secret_id IS NOT NULL"},
	    {.t = SP_T_ROTATIONS, .where = "ORDER BY id"}}, 3, import);
}

/* ------------------------------------------------------------------ review */

static void
reviewed(struct sp_call *c)
{
	sp_call_did(c, sp_rows_get(c->rows[0], 0, "id"), "reviewed",
	    "The opening of kit %s is reviewed.",
	    sp_rows_get(c->rows[0], 0, "id"));
}

static void
review(struct sp_call *c)
{
	const char *by, *text = sp_call_opt(c, "comment");
	struct sp_change *ch;
	char now[SP_NUM_TEXT], *detail;
	struct sp_vals v;
	uint8_t id[16];

	if (sp_rows_n(c->rows[0]) != 1 || !sp_rows_uuid(c->rows[0], 0, "id", id) ||
	    sp_rows_get(c->rows[0], 0, "opened_at") == NULL) {
		sp_call_fail(c, SP_EXIT_REFUSED, "there is no opened kit %s; "
		    "break-glass list shows them", sp_vis_str(c->pos[0]));
		return;
	}
	by = sp_rows_get(c->rows[0], 0, "imported_by");
	if (sp_rows_get(c->rows[0], 0, "reviewed_us") != NULL) {
		sp_call_fail(c, SP_EXIT_REFUSED, "it was reviewed already");
		return;
	}
	if (c->who.is_host || strcmp(by, c->who.name) == 0 ||
	    strcmp(sp_rows_get(c->rows[0], 0, "opened_by"), c->who.name) == 0) {
		sp_call_fail(c, SP_EXIT_REFUSED, "another person reviews it: neither "
		    "who opened the kit nor who imported its receipt, and not from "
		    "the host, where nobody has a name");
		return;
	}
	sp_vals_from(&v, SP_T_KITS, c->rows[0], 0);
	sp_vals_set(&v, "reviewed_by", c->who.name);
	sp_vals_set(&v, "reviewed_us", sp_i64_text(now, sp_now_us()));
	sp_vals_set(&v, "review", text);
	ch = sp_change_new(c->b->store);
	sp_change_update(ch, SP_T_KITS, id, sp_rows_ver(c->rows[0], 0), v.v);
	detail = sp_call_detail("kit", sp_rows_get(c->rows[0], 0, "id"), "comment",
	    text, NULL);
	sp_change_audit(ch, "break_glass_reviewed", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "break-glass review", reviewed);
}

void
sp_verb_glass_review(struct sp_call *c)
{
	const char *text = sp_call_opt(c, "comment");
	uint8_t id[16];

	if (text == NULL || text[strspn(text, " ")] == '\0' ||
	    strlen(text) > 1000) {
		sp_call_fail(c, SP_EXIT_USAGE, "say what you found: --comment TEXT, "
		    "at most 1000 bytes");
		return;
	}
	if (sp_uuid_parse(id, sp_span_str(c->pos[0])) != SP_OK) {
		sp_call_fail(c, SP_EXIT_USAGE, "a kit is named by its id; "
		    "break-glass list shows them");
		return;
	}
	sp_call_load(c, 0, (struct sp_need[]){{.t = SP_T_KITS,
	    .where = "WHERE id = $1", .p = {c->pos[0]}, .n = 1}}, 1, review);
}
