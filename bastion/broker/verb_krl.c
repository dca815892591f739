/* SPDX-License-Identifier: Apache-2.0 */
/* krl: certificates that are good no more, for the targets' sshds. A certificate
 * is good for a minute at most and its key never leaves the vault; the list is
 * there for the minute, and for targets whose clock is wrong. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/flow.h"
#include "bastion/broker/krlpush.h"
#include "bastion/broker/vault.h"
#include "bastion/broker/verb_key.h"
#include "bastion/broker/verb_krl.h"

#define CERT_US (90LL * 1000000)	/* life and skew (vault/sshcert.h) */
#define KEEP_US (24LL * 3600 * 1000000)	/* what was revoked by hand */
#define SERIALS_MAX 4096
#define KEY_IDS_MAX 256

/* ------------------------------------------------------------------ making it */

void
sp_krl_init(struct sp_krl *k)
{
	*k = (struct sp_krl){.bytes = {.max = 65536}};
}

void
sp_krl_fini(struct sp_krl *k)
{
	sp_buf_fini(&k->bytes);
}

void
sp_krl_needs(struct sp_need needs[static 2], char at[static 2][24])
{
	int64_t now = sp_now_us();

	snprintf(at[0], 24, "%lld", (long long)now);
	snprintf(at[1], 24, "%lld", (long long)(now - CERT_US));
	needs[0] = (struct sp_need){.t = SP_T_REVOKED, .where = "WHERE until_us IS "
	    "NULL OR until_us > $1::bigint ORDER BY made_us DESC", .p = {at[0]},
	    .n = 1};
	needs[1] = (struct sp_need){.sql = "SELECT serial FROM leases WHERE "
	    "ended_us IS NOT NULL AND serial IS NOT NULL AND serial > 0 AND "
	    "granted_us > $1::bigint ORDER BY granted_us DESC LIMIT 4096",
	    .p = {at[1]}, .n = 1};
}

struct lists {
	struct sp_buf serials, ids, cas;
	size_t n_serials, n_ids;
};

static enum sp_err
add_serial(struct lists *l, const char *text)
{
	uint64_t n;

	SP_TRY(sp_u64_parse(sp_span_str(text), INT64_MAX, &n));
	if (n == 0)
		return SP_ERR_INVAL;
	return l->n_serials++ < SERIALS_MAX ? sp_buf_put_u64(&l->serials, n) :
	    SP_ERR_FULL;
}

static enum sp_err
add_revoked(struct lists *l, const char *what, const char *value)
{
	struct sp_pubkey k;
	const char *why;
	uint8_t id[16];

	if (strcmp(what, "serial") == 0)
		return add_serial(l, value);
	if (strcmp(what, "ca") == 0) {
		SP_TRY(sp_pubkey_parse(sp_span_str(value), &k, &why));
		return sp_buf_put_ssh_string(&l->cas, sp_span_of(k.blob, k.n));
	}
	SP_TRY(sp_uuid_parse(id, sp_span_str(value)));
	return l->n_ids++ < KEY_IDS_MAX ? sp_buf_put(&l->ids, id, 16) :
	    SP_ERR_FULL;
}

/* What was revoked by hand goes in first: all of it, or there is no list. */
static enum sp_err
gather(struct lists *l, const struct sp_rows *revoked,
    const struct sp_rows *ended)
{
	enum sp_err e = SP_OK;

	for (size_t i = 0; i < sp_rows_n(revoked); i++)
		SP_TRY(add_revoked(l, sp_rows_get(revoked, i, "what"),
		    sp_rows_get(revoked, i, "value")));
	for (size_t i = 0; e == SP_OK && i < sp_rows_n(ended); i++)
		e = add_serial(l, sp_rows_get(ended, i, "serial"));
	return e == SP_ERR_FULL ? SP_OK : e;
}

static void
got_krl(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct sp_msg_v_krl_r r = {.err = SP_ERR_PROTO};
	struct sp_krl *k = arg;

	if (e == SP_OK)
		e = sp_dec_v_krl_r(reply->body, &r);
	if (e == SP_OK)
		e = (enum sp_err)r.err;
	if (e == SP_OK)
		e = sp_buf_put(&k->bytes, r.krl.p, r.krl.n);
	if (e == SP_OK)
		k->then(k->call);
	else if (e == SP_ERR_SEALED)
		sp_call_fail(k->call, SP_EXIT_LATER, "the vault is sealed: on the "
		    "host, sallyport vault unseal");
	else
		sp_call_fail_err(k->call, e, "the list of revoked certificates");
}

enum sp_err
sp_krl_request(struct sp_buf *body, const struct sp_rows *revoked,
    const struct sp_rows *ended, uint64_t *version)
{
	struct lists l = {.serials = {.max = 8 * SERIALS_MAX},
	    .ids = {.max = 16 * KEY_IDS_MAX}, .cas = {.max = 8192}};
	struct sp_msg_v_krl m = {.version = (uint64_t)sp_now_us()};
	enum sp_err e = gather(&l, revoked, ended);

	*version = m.version;
	m.serials = sp_buf_span(&l.serials);
	m.key_ids = sp_buf_span(&l.ids);
	m.cas = sp_buf_span(&l.cas);
	if (e == SP_OK)
		e = sp_enc_v_krl(body, &m);
	sp_buf_fini(&l.serials);
	sp_buf_fini(&l.ids);
	sp_buf_fini(&l.cas);
	return e;
}

void
sp_krl_make(struct sp_krl *k, struct sp_call *c, const struct sp_rows *revoked,
    const struct sp_rows *ended, void (*then)(struct sp_call *c))
{
	SP_BUF_AUTO body = {.max = 65536};
	enum sp_err e = sp_krl_request(&body, revoked, ended, &k->version);

	k->call = c;
	k->then = then;
	if (e != SP_OK)
		sp_call_fail(c, SP_EXIT_REFUSED, "no list of revoked certificates "
		    "can be made of what was revoked: %s (krl list)", sp_err_text(e));
	else if (sp_rows_n_broken(revoked) > 0)
		sp_call_fail(c, SP_EXIT_REFUSED, "a row of what was revoked was "
		    "changed in the database: sallyport doctor names it");
	else
		sp_vault_call(c->b->vault, SP_MSG_v_krl, sp_buf_span(&body),
		    SP_MSG_v_krl_r, got_krl, k);
}

/* ----------------------------------------------------------------------- krl */

static void
krl_free(void *arg)
{
	sp_krl_fini(arg);
	free(arg);
}

static void
krl_print(struct sp_call *c)
{
	struct sp_krl *k = c->state;
	SP_BUF_AUTO b64 = {.max = 131072};
	char version[24];

	if (!c->style.json) {
		sp_call_out(c, sp_buf_span(&k->bytes));
		sp_call_end(c, SP_EXIT_OK);
		return;
	}
	if (sp_base64(&b64, sp_buf_span(&k->bytes)) == SP_OK &&
	    sp_buf_put_u8(&b64, 0) == SP_OK) {
		json_object *o = json_object_new_object();

		snprintf(version, sizeof(version), "%llu",
		    (unsigned long long)k->version);
		json_object_object_add(o, "id", sp_json_text(version));
		json_object_object_add(o, "by_hand", json_object_new_int64(
		    (int64_t)sp_rows_n(c->rows[0])));
		json_object_object_add(o, "ended", json_object_new_int64(
		    (int64_t)sp_rows_n(c->rows[1])));
		json_object_object_add(o, "krl", sp_json_text(
		    (const char *)sp_buf_span(&b64).p));
		sp_call_json(c, o);
	}
	sp_call_end(c, SP_EXIT_OK);
}

static void
krl_loaded(struct sp_call *c)
{
	sp_krl_make(c->state, c, c->rows[0], c->rows[1], krl_print);
}

void
sp_verb_krl(struct sp_call *c)
{
	struct sp_krl *k = calloc(1, sizeof(*k));
	struct sp_need needs[2];
	char at[2][24];

	SP_ASSERT(k != NULL);
	sp_krl_init(k);
	c->state = k;
	c->free_state = krl_free;
	if (c->pty && !c->style.json) {
		sp_call_fail(c, SP_EXIT_USAGE, "it is no text: ssh BASTION krl > "
		    "FILE, then ssh-keygen -Q -l -f FILE; or krl --json");
		return;
	}
	sp_krl_needs(needs, at);
	sp_call_load(c, 0, needs, 2, krl_loaded);
}

/* ------------------------------------------------------------------ krl list */

static void
list_print(struct sp_call *c)
{
	static const struct sp_col cols[] = {
		{"id", "ID", SP_COL_TEXT}, {"what", "WHAT", SP_COL_TEXT},
		{"value", "VALUE", SP_COL_TEXT}, {"reason", "REASON", SP_COL_TEXT},
		{"by", "BY", SP_COL_TEXT}, {"since", "SINCE", SP_COL_TIME},
		{"until", "UNTIL", SP_COL_TIME},
	};
	static const char *const of[] = {"id", "what", "value", "reason",
	    "made_by", "made_us", "until_us"};
	struct sp_list *l = sp_list_new(cols, 7);

	for (size_t i = 0; i < sp_rows_n(c->rows[0]); i++) {
		const char *v[7];

		for (size_t k = 0; k < 7; k++)
			v[k] = sp_rows_get(c->rows[0], i, of[k]);
		sp_list_add(l, v);
	}
	sp_call_end_list(c, l, "Nothing was revoked by hand. Certificates of "
	    "sessions that have ended are on the list by themselves.");
}

void
sp_verb_krl_list(struct sp_call *c)
{
	struct sp_need needs[2];
	char at[2][24];

	sp_krl_needs(needs, at);
	sp_call_load(c, 0, needs, 1, list_print);
}

/* ---------------------------------------------------------------- krl revoke */

struct wish {
	uint8_t id[16];
	char what[16], value[4608];
};

static void
revoked(struct sp_call *c)
{
	struct wish *w = c->state;
	char id[SP_UUID_TEXT];

	sp_uuid_text(id, w->id);
	sp_krlpushes_due(c->b, NULL);
	sp_call_did(c, id, "revoked", "The %s %s is on the list. Targets refuse it "
	    "once they have the list: krl", w->what, w->value);
}

static void
revoke_write(struct sp_call *c)
{
	struct sp_change *ch = sp_change_new(c->b->store);
	const char *reason = sp_call_opt(c, "reason");
	struct wish *w = c->state;
	char now[SP_NUM_TEXT], until[SP_NUM_TEXT];
	uint8_t old[16];
	char *detail;

	if (reason == NULL)
		reason = "";
	sp_i64_text(now, sp_now_us());
	sp_i64_text(until, sp_now_us() + KEEP_US);
	for (size_t i = 0; i < sp_rows_n(c->rows[0]); i++)
		if (sp_rows_uuid(c->rows[0], i, "id", old))
			sp_change_delete(ch, SP_T_REVOKED, old,
			    sp_rows_ver(c->rows[0], i));
	sp_uuid_make(w->id);
	sp_change_insert(ch, SP_T_REVOKED, w->id, (const char *[]){w->what,
	    w->value, reason, c->who.name, now,
	    strcmp(w->what, "ca") == 0 ? NULL : until});
	detail = sp_call_detail("what", w->what, "value", w->value, "reason",
	    reason, NULL);
	sp_change_audit(ch, "cert_revoke", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "krl revoke", revoked);
}

/* Those that are over are taken off on the way. */
static void
revoke_load(struct sp_call *c)
{
	char now[SP_NUM_TEXT];

	sp_call_load(c, 0, (struct sp_need[]){{.t = SP_T_REVOKED, .where =
	    "WHERE until_us < $1::bigint LIMIT 64",
	    .p = {sp_i64_text(now, sp_now_us())}, .n = 1}}, 1, revoke_write);
}

static void
session_found(struct sp_call *c)
{
	struct wish *w = c->state;

	if (sp_rows_n(c->rows[1]) != 1) {
		sp_call_fail(c, SP_EXIT_REFUSED, "%s session begins with %s: "
		    "sessions --all shows them", sp_rows_n(c->rows[1]) == 0 ?
		    "no" : "more than one", w->value);
		return;
	}
	snprintf(w->value, sizeof(w->value), "%s",
	    sp_rows_get(c->rows[1], 0, "id"));
	revoke_load(c);
}

static const char *
take_wish(struct sp_call *c, struct wish *w)
{
	const char *serial = sp_call_opt(c, "serial"), *ca = sp_call_opt(c, "ca");
	const char *session = sp_call_opt(c, "session"), *why;
	SP_BUF_AUTO b64 = {.max = 8192};
	struct sp_pubkey k;
	uint64_t n;

	if ((serial != NULL) + (session != NULL) + (ca != NULL) != 1)
		return "say one of --serial, --session and --ca";
	snprintf(w->what, sizeof(w->what), "%s", serial != NULL ? "serial" :
	    session != NULL ? "session" : "ca");
	if (serial != NULL) {
		if (sp_u64_parse(sp_span_str(serial), INT64_MAX, &n) != SP_OK ||
		    n == 0)
			return "--serial wants a number from 1";
		snprintf(w->value, sizeof(w->value), "%llu", (unsigned long long)n);
		return NULL;
	}
	if (session != NULL) {
		if (strlen(session) < 4 || strlen(session) > 36 ||
		    strspn(session, "0123456789abcdef-") != strlen(session))
			return "--session wants a session, or four or more of its "
			    "first characters";
		snprintf(w->value, sizeof(w->value), "%s", session);
		return NULL;
	}
	if (sp_pubkey_parse(sp_span_str(ca), &k, &why) != SP_OK)
		return why;
	if (strncmp(k.algo, "sk-", 3) == 0)
		return "--ca: a security key makes no certificates here";
	if (sp_base64(&b64, sp_span_of(k.blob, k.n)) != SP_OK)
		return "--ca: the key is too long";
	snprintf(w->value, sizeof(w->value), "%s %.*s", k.algo, (int)b64.len,
	    (const char *)sp_buf_span(&b64).p);
	return NULL;
}

void
sp_verb_krl_revoke(struct sp_call *c)
{
	struct wish *w = calloc(1, sizeof(*w));
	const char *why;

	SP_ASSERT(w != NULL);
	c->state = w;
	c->free_state = free;
	if ((why = take_wish(c, w)) != NULL)
		sp_call_fail(c, SP_EXIT_USAGE, "%s", why);
	else if (strcmp(w->what, "session") == 0)
		sp_call_load(c, 1, (struct sp_need[]){{.sql = "SELECT id FROM "
		    "sessions WHERE id::text LIKE $1 || '%' LIMIT 2",
		    .p = {w->value}, .n = 1}}, 1, session_found);
	else
		revoke_load(c);
}

/* ---------------------------------------------------------------- krl remove */

static void
removed(struct sp_call *c)
{
	sp_krlpushes_due(c->b, NULL);
	sp_call_did(c, sp_rows_get(c->rows[0], 0, "id"), "removed",
	    "The %s %s is not revoked any more.", sp_rows_get(c->rows[0], 0, "what"),
	    sp_rows_get(c->rows[0], 0, "value"));
}

static void
remove_write(struct sp_call *c)
{
	const struct sp_rows *r = c->rows[0];
	struct sp_change *ch;
	uint8_t id[16];
	char *detail;

	if (sp_rows_n(r) != 1 || !sp_rows_uuid(r, 0, "id", id)) {
		sp_call_fail(c, SP_EXIT_REFUSED, "there is none with that id: krl "
		    "list shows them");
		return;
	}
	ch = sp_change_new(c->b->store);
	sp_change_delete(ch, SP_T_REVOKED, id, sp_rows_ver(r, 0));
	detail = sp_call_detail("what", sp_rows_get(r, 0, "what"), "value",
	    sp_rows_get(r, 0, "value"), NULL);
	sp_change_audit(ch, "cert_unrevoke", c->who.name, NULL, detail);
	free(detail);
	sp_call_commit(c, ch, "krl remove", removed);
}

void
sp_verb_krl_remove(struct sp_call *c)
{
	uint8_t id[16];

	if (sp_uuid_parse(id, sp_span_str(c->pos[0])) != SP_OK) {
		sp_call_fail(c, SP_EXIT_USAGE, "say the id that krl list shows");
		return;
	}
	sp_call_load(c, 0, (struct sp_need[]){{.t = SP_T_REVOKED,
	    .where = "WHERE id = $1::uuid", .p = {c->pos[0]}, .n = 1}}, 1,
	    remove_write);
}

/* ---------------------------------------------------------- krl status, push */

static const char *
state_word(const struct sp_krlpush_view *v)
{
	switch (v->state) {
	case SP_KRLPUSH_CURRENT:
		return "current";
	case SP_KRLPUSH_BEHIND:
		return "behind";
	case SP_KRLPUSH_FAILED:
		return "failed";
	case SP_KRLPUSH_WRONG:
		return "wrong";
	case SP_KRLPUSH_NEVER:
		break;
	}
	return v->is_running ? "running" : "never";
}

void
sp_verb_krl_status(struct sp_call *c)
{
	static const struct sp_col cols[] = {
		{"target", "TARGET", SP_COL_TEXT}, {"account", "ACCOUNT", SP_COL_TEXT},
		{"path", "PATH", SP_COL_TEXT}, {"state", "STATE", SP_COL_TEXT},
		{"pushed", "PUSHED", SP_COL_TIME}, {"tried", "TRIED", SP_COL_TIME},
		{"failures", "FAILURES", SP_COL_NUMBER}, {"text", "WHY", SP_COL_TEXT},
	};
	struct sp_list *l = sp_list_new(cols, 8);
	size_t n = sp_krlpushes_n(c->b);

	for (size_t i = 0; i < n; i++) {
		char last[SP_NUM_TEXT], tried[SP_NUM_TEXT], failures[SP_NUM_TEXT];
		struct sp_krlpush_view v;

		sp_krlpushes_view(c->b, i, &v);
		sp_list_add(l, (const char *[]){v.target, v.account, v.path,
		    state_word(&v),
		    v.last_us == 0 ? NULL : sp_i64_text(last, v.last_us),
		    v.tried_us == 0 ? NULL : sp_i64_text(tried, v.tried_us),
		    sp_i64_text(failures, v.failures), v.text});
	}
	sp_call_end_list(c, l, "No target is brought the list: krl_push in "
	    "sallyport.conf names them.");
}

void
sp_verb_krl_push(struct sp_call *c)
{
	const char *which = c->n_pos > 0 ? c->pos[0] : NULL;
	size_t n = sp_krlpushes_due(c->b, which);

	if (n == 0)
		sp_call_fail(c, SP_EXIT_REFUSED, "krl_push of sallyport.conf names %s",
		    which == NULL ? "no target" : "no such account and target");
	else
		sp_call_did(c, which == NULL ? "" : which, "due", "%zu targets are "
		    "brought the list now: krl status", n);
}
