/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/rotate_int.h"
#include "common/kinds.h"

/*
 * What a rotation reads and writes. Each of its steps is one transaction, with
 * its audit event, before the next thing is done: first the candidate, then the
 * target, then which version is in use.
 */
#define CLAIM_US (15LL * 60 * 1000000)	/* after that another node may */
#define BACK_OFF_MAX 64			/* times rotation_retry_s */

void
rot_secret_fini(struct rot_secret *s)
{
	sp_buf_fini(&s->sealed);
	*s = (struct rot_secret){.is_there = false};
}

/* --------------------------------------------------------------------- loading */

static enum sp_err
take_secret(struct rot_secret *s, struct sp_rows *r, size_t row)
{
	rot_secret_fini(s);
	sp_buf_init(&s->sealed, 8192);
	if (!sp_rows_uuid(r, row, "id", s->id))
		return SP_ERR_INVAL;
	s->kind = (uint8_t)sp_rows_i64(r, row, "kind");
	s->ver = sp_rows_ver(r, row);
	s->version = sp_rows_secret_ver(r, row);
	s->rows = r;
	s->row = row;
	s->is_there = true;
	return sp_rows_bytes(r, row, "sealed", &s->sealed);
}

static enum sp_err
sort_secrets(struct sp_rotation_run *r)
{
	uint8_t id[16], owner[16];

	for (size_t i = 0; i < sp_rows_n(r->secrets); i++) {
		const char *state = sp_rows_get(r->secrets, i, "state");
		uint64_t version = sp_rows_secret_ver(r->secrets, i);

		(void)sp_rows_uuid(r->secrets, i, "id", id);
		if (!sp_rows_uuid(r->secrets, i, "owner_id", owner) ||
		    memcmp(owner, r->ask.target, 16) != 0)
			return SP_ERR_INVAL;
		if (memcmp(id, r->helper.secret, 16) == 0 && r->has_helper)
			SP_TRY(take_secret(&r->helper_secret, r->secrets, i));
		if (memcmp(id, r->ask.secret, 16) != 0 && (state == NULL ||
		    !sp_rows_uuid(r->secrets, i, "account_id", owner) ||
		    memcmp(owner, r->account, 16) != 0))
			continue;
		if (version > r->last_version)
			r->last_version = version;
		if (memcmp(id, r->ask.secret, 16) == 0)
			SP_TRY(take_secret(&r->old, r->secrets, i));
		else if (state != NULL && strcmp(state, "pending") == 0)
			SP_TRY(take_secret(&r->new, r->secrets, i));
	}
	return r->old.is_there ? SP_OK : SP_ERR_NOTFOUND;
}

static void
got_secrets(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct sp_rotation_run *r = arg;

	if (e == SP_OK && sp_rows_n_broken(rows) > 0)
		e = SP_ERR_INVAL;
	if (e == SP_OK) {
		r->secrets = sp_rows_ref(rows);
		e = sort_secrets(r);
	}
	if (e == SP_OK)
		rot_loaded(r);
	else
		rot_stop(r, e, e == SP_ERR_INVAL || e == SP_ERR_NOTFOUND ? "the rows "
		    "of its secret are missing, or were changed: sallyport doctor" :
		    sp_flow_why(e));
	rot_release(r);
}

static void
load_secrets(struct sp_rotation_run *r)
{
	char account[SP_UUID_TEXT], now[SP_UUID_TEXT], helper[SP_UUID_TEXT];
	const char *p[3] = {account, now, helper};

	sp_uuid_text(account, r->account);
	sp_uuid_text(now, r->ask.secret);
	sp_uuid_text(helper, r->helper.secret);
	rot_hold(r);
	sp_store_load(r->b->store, SP_T_SECRETS, "WHERE account_id = $1::uuid OR "
	    "id = $2::uuid OR id = $3::uuid ORDER BY version NULLS FIRST", p, 3,
	    got_secrets, r);
}

static void
got_helper(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct sp_rotation_run *r = arg;

	if (e == SP_OK && sp_rows_n(rows) == 1) {
		r->helper = r->ask;
		memset(r->helper.secret, 0, 16);
		/* An account is not its own helper. */
		r->has_helper = sp_ask_account(&r->helper, rows, 0) == SP_OK &&
		    memcmp(r->helper.account, r->account, 16) != 0;
	}
	if (e != SP_OK)
		rot_stop(r, e, sp_flow_why(e));
	else
		load_secrets(r);
	rot_release(r);
}

static void
load_helper(struct sp_rotation_run *r)
{
	const char *id = sp_rows_get(r->targets, 0, "reconcile");
	char target[SP_UUID_TEXT];
	const char *p[2] = {id, target};

	sp_uuid_text(target, r->ask.target);
	if (id == NULL) {
		load_secrets(r);
		return;
	}
	rot_hold(r);
	sp_store_load(r->b->store, SP_T_ACCOUNTS, "WHERE id = $1::uuid AND "
	    "target_id = $2::uuid", p, 2, got_helper, r);
}

static void
got_way(void *arg, enum sp_err e, const struct sp_way *way, const char *text)
{
	struct sp_rotation_run *r = arg;

	if (e == SP_OK)
		memcpy(r->ask.way, way->digest, sizeof(r->ask.way));
	if (e != SP_OK)
		rot_stop(r, e, text);
	else
		load_helper(r);
	rot_release(r);
}

static void
got_target(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct sp_rotation_run *r = arg;

	if (e == SP_OK && (sp_rows_n(rows) != 1 ||
	    sp_ask_target(&r->ask, rows, 0) != SP_OK))
		e = SP_ERR_NOTFOUND;
	if (e == SP_OK)
		r->targets = sp_rows_ref(rows);
	if (e == SP_OK && !sp_rows_bool(rows, 0, "enabled")) {
		rot_stop(r, SP_ERR_STATE, "its target is disabled");
	} else if (e != SP_OK) {
		rot_stop(r, e, e == SP_ERR_NOTFOUND ? "its target is gone, or its row "
		    "was changed" : sp_flow_why(e));
	} else if (!sp_uuid_is_nil(r->ask.via)) {
		rot_hold(r);
		sp_way_load(r->b, &r->ask, got_way, r);
	} else {
		load_helper(r);
	}
	rot_release(r);
}

static void
got_account(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct sp_rotation_run *r = arg;
	const char *p[1];

	if (e == SP_OK && (sp_rows_n(rows) != 1 ||
	    sp_ask_account(&r->ask, rows, 0) != SP_OK))
		e = SP_ERR_NOTFOUND;
	if (e == SP_OK)
		r->accounts = sp_rows_ref(rows);
	if (e != SP_OK) {
		rot_stop(r, e, e == SP_ERR_NOTFOUND ? "there is no such account, or "
		    "its row was changed" : sp_flow_why(e));
	} else if (!sp_kind_is(r->ask.cred_kind, SP_KIND_ROTATES) ||
	    sp_uuid_is_nil(r->ask.secret)) {
		rot_stop(r, SP_ERR_INVAL, "the account has nothing that is kept, so "
		    "there is nothing to rotate");
	} else {
		p[0] = sp_rows_get(rows, 0, "target_id");
		rot_hold(r);
		sp_store_load(r->b->store, SP_T_TARGETS, "WHERE id = $1::uuid", p, 1,
		    got_target, r);
	}
	rot_release(r);
}

static void
got_rotation(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct sp_rotation_run *r = arg;
	char id[SP_UUID_TEXT];
	const char *p[1] = {id}, *state, *node;

	if (e == SP_OK && sp_rows_n_broken(rows) > 0)
		e = SP_ERR_INVAL;
	if (e == SP_OK && sp_rows_n(rows) == 1) {
		r->rotations = sp_rows_ref(rows);
		r->rotation_ver = sp_rows_ver(rows, 0);
		r->failures = sp_rows_i64(rows, 0, "failures");
		state = sp_rows_get(rows, 0, "state");
		node = sp_rows_get(rows, 0, "node");
		r->was_out_of_sync = strcmp(state, "out_of_sync") == 0;
		if (strcmp(state, "running") == 0 && node != NULL &&
		    strcmp(node, r->b->node) != 0 &&
		    sp_rows_i64(rows, 0, "claimed_us") > sp_now_us() - CLAIM_US)
			e = SP_ERR_EXISTS;
	}
	sp_uuid_text(id, r->account);
	if (e != SP_OK) {
		rot_stop(r, e == SP_ERR_EXISTS ? SP_ERR_STATE : e,
		    e == SP_ERR_EXISTS ? "another bastion rotates it just now" :
		    e == SP_ERR_INVAL ? "its row of rotations was changed: sallyport "
		    "doctor" : sp_flow_why(e));
	} else {
		rot_hold(r);
		sp_store_load(r->b->store, SP_T_ACCOUNTS, "WHERE id = $1::uuid", p, 1,
		    got_account, r);
	}
	rot_release(r);
}

void
rot_load(struct sp_rotation_run *r)
{
	char id[SP_UUID_TEXT];
	const char *p[1] = {id};

	sp_uuid_text(id, r->account);
	rot_hold(r);
	sp_store_load(r->b->store, SP_T_ROTATIONS, "WHERE id = $1::uuid", p, 1,
	    got_rotation, r);
}

/* --------------------------------------------------------------------- writing */

static struct json_object *
detail_of(const struct sp_rotation_run *r)
{
	struct json_object *d = sp_detail();

	sp_detail_str(d, "account", r->ask.account_name);
	sp_detail_str(d, "target", r->ask.target_name);
	sp_detail_str(d, "why", r->why);
	return d;
}

struct rotation_row {
	const char *state, *why;
	int64_t due_us, last_us, failures;
	bool is_mine;
};

/* The row as it shall be, and its next version. */
static void
put_row(struct sp_rotation_run *r, struct sp_change *c,
    const struct rotation_row *w)
{
	char due[SP_NUM_TEXT], last[SP_NUM_TEXT], fail[SP_NUM_TEXT];
	char claim[SP_NUM_TEXT];
	const char *v[SP_COLS_MAX] = {w->state, w->why,
	    w->due_us == 0 ? NULL : sp_i64_text(due, w->due_us),
	    w->last_us == 0 ? NULL : sp_i64_text(last, w->last_us),
	    sp_i64_text(fail, w->failures), w->is_mine ? r->b->node : NULL,
	    w->is_mine ? sp_i64_text(claim, sp_now_us()) : NULL};

	if (r->rotation_ver == 0)
		sp_change_insert(c, SP_T_ROTATIONS, r->account, v);
	else
		sp_change_update(c, SP_T_ROTATIONS, r->account, r->rotation_ver, v);
}

static int64_t
last_us(const struct sp_rotation_run *r)
{
	return r->rotations == NULL ? 0 : sp_rows_i64(r->rotations, 0, "last_us");
}

/* What is due stays due while it runs: a node that dies leaves it so. */
static int64_t
due_us(const struct sp_rotation_run *r)
{
	int64_t due = r->rotations == NULL ? 0 :
	    sp_rows_i64(r->rotations, 0, "due_us");
	int64_t now = sp_now_us();

	return due == 0 || due > now ? now : due;
}

static void
on_claimed(void *arg, enum sp_err e)
{
	struct sp_rotation_run *r = arg;

	if (e == SP_OK) {
		r->rotation_ver++;
		rot_claimed(r);
	} else {
		rot_stop(r, e, e == SP_ERR_STATE || e == SP_ERR_EXISTS ? "another "
		    "bastion rotates it just now" : sp_flow_why(e));
	}
	rot_release(r);
}

void
rot_claim(struct sp_rotation_run *r)
{
	struct rotation_row w = {.state = "running", .why = r->why,
	    .due_us = due_us(r), .last_us = last_us(r), .failures = r->failures,
	    .is_mine = true};
	struct sp_change *c = sp_change_new(r->b->store);

	put_row(r, c, &w);
	sp_flow_change_audit(c, "rotation_begin", "rotation", NULL, detail_of(r));
	rot_hold(r);
	sp_change_commit(c, on_claimed, r);
}

/* ------------------------------------------------------------- the candidate */

static void
update_state(struct sp_change *c, const struct rot_secret *s, const char *state,
    const uint8_t account[static 16])
{
	char id[SP_UUID_TEXT], version[SP_NUM_TEXT];
	struct sp_vals v;

	/* A row of before becomes a version, with the number in its seal. */
	sp_vals_from(&v, SP_T_SECRETS, s->rows, s->row);
	sp_uuid_text(id, account);
	sp_vals_set(&v, "account_id", id);
	sp_vals_set(&v, "version", sp_i64_text(version, (int64_t)s->version));
	sp_vals_set(&v, "state", state);
	sp_change_update(c, SP_T_SECRETS, s->id, s->ver, v.v);
}

static void
on_made(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct sp_rotation_run *r = arg;

	if (e == SP_OK && (sp_rows_n(rows) != 1 ||
	    take_secret(&r->new, rows, 0) != SP_OK))
		e = SP_ERR_STATE;
	if (e == SP_OK) {
		/* r->bad may have been of these. */
		rot_secret_fini(&r->bad);
		sp_rows_free(r->helpers);
		r->helpers = sp_rows_ref(rows);
		rot_made(r);
	} else {
		rot_stop(r, e, sp_flow_why(e));
	}
	rot_release(r);
}

/* Read again as it stands there: what could not be unsealed later must not be
 * set at the target now. */
static void
wrote_new(void *arg, enum sp_err e)
{
	struct sp_rotation_run *r = arg;
	char id[SP_UUID_TEXT];
	const char *p[1] = {id};

	sp_uuid_text(id, r->new.id);
	if (e != SP_OK) {
		rot_stop(r, e, sp_flow_why(e));
	} else {
		rot_hold(r);
		sp_store_load(r->b->store, SP_T_SECRETS, "WHERE id = $1::uuid AND "
		    "state = 'pending'", p, 1, on_made, r);
	}
	rot_release(r);
}

static void
insert_new(struct sp_rotation_run *r, const struct sp_msg_v_rotate_made *m,
    struct sp_change *c)
{
	char owner[SP_UUID_TEXT], account[SP_UUID_TEXT], kind[SP_NUM_TEXT];
	char version[SP_NUM_TEXT], now[SP_NUM_TEXT], tag[67];
	char *sealed = sp_bytea_param(m->sealed);
	const char *v[SP_COLS_MAX] = {owner, sp_i64_text(kind, r->ask.cred_kind),
	    sealed, account, sp_i64_text(version, (int64_t)r->new.version),
	    "pending", sp_i64_text(now, sp_now_us()), tag};

	SP_ASSERT(sealed != NULL);
	sp_uuid_text(owner, r->ask.target);
	sp_uuid_text(account, r->account);
	snprintf(tag, sizeof(tag), "\\x");
	sp_hex(tag + 2, m->tag, 32);
	sp_change_insert(c, SP_T_SECRETS, r->new.id, v);
	free(sealed);
}

static void
got_made(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct sp_rotation_run *r = arg;
	struct sp_msg_v_rotate_made m = {.err = SP_ERR_SEALED};
	struct json_object *d;
	struct sp_change *c;

	if (e == SP_OK)
		e = sp_dec_v_rotate_made(reply->body, &m);
	if (e == SP_OK)
		e = m.err;
	if (e == SP_ERR_INVAL || e == SP_ERR_SYNTAX)
		rot_give_up(r, "its password rule cannot be followed: account set "
		    "--password-rule");
	else if (e != SP_OK)
		rot_stop(r, e, sp_flow_why(e));
	if (e != SP_OK) {
		rot_release(r);
		return;
	}
	c = sp_change_new(r->b->store);
	if (r->bad.is_there)
		update_state(c, &r->bad, "failed", r->account);
	insert_new(r, &m, c);
	d = detail_of(r);
	sp_detail_i64(d, "version", (int64_t)r->new.version);
	sp_detail_hex(d, "public_key", m.public_key.p, m.public_key.n);
	sp_flow_change_audit(c, "rotation_candidate", "rotation", NULL, d);
	rot_hold(r);
	sp_change_commit(c, wrote_new, r);
	rot_release(r);
}

void
rot_make(struct sp_rotation_run *r)
{
	SP_BUF_AUTO body = {.max = 1024};
	const char *rule = sp_rows_get(r->accounts, 0, "password_rule");
	struct sp_msg_v_rotate_make m = {.kind = r->ask.cred_kind,
	    .rule = sp_span_str(rule == NULL ? "" : rule)};

	r->new_is_bad = r->new_is_refused = false;
	sp_uuid_make(r->new.id);
	r->new.version = ++r->last_version;
	m.version = r->new.version;
	memcpy(m.id, r->new.id, 16);
	memcpy(m.owner, r->ask.target, 16);
	if (sp_enc_v_rotate_make(&body, &m) != SP_OK) {
		rot_stop(r, SP_ERR_NOMEM, "out of memory");
		return;
	}
	rot_hold(r);
	sp_vault_call(r->b->vault, SP_MSG_v_rotate_make, sp_buf_span(&body),
	    SP_MSG_v_rotate_made, got_made, r);
}

/* ------------------------------------------------------------------- the ends */

/* An hour that all rotations share would be an hour of load. */
static int64_t
jitter(int64_t us)
{
	uint8_t r[16];
	int64_t n;

	sp_uuid_make(r);
	memcpy(&n, r, sizeof(n));
	n &= INT64_MAX;
	return us / 20 == 0 ? us : us - us / 20 + n % (us / 10);
}

static int64_t
next_due(const struct sp_rotation_run *r)
{
	bool after_use;
	int64_t seconds = 0;

	if (sp_rotation_when(sp_rows_get(r->accounts, 0, "rotate"), &after_use,
	    &seconds) != SP_OK || seconds == 0)
		return 0;
	return sp_now_us() + jitter(seconds * 1000000);
}

static void
forget_oldest(struct sp_rotation_run *r, struct sp_change *c)
{
	int64_t keep = (int64_t)r->b->cfg.rotation_keep;
	uint8_t id[16];

	for (size_t i = 0; i < sp_rows_n(r->secrets); i++) {
		const char *state = sp_rows_get(r->secrets, i, "state");

		if (state == NULL || (strcmp(state, "previous") != 0 &&
		    strcmp(state, "failed") != 0) ||
		    sp_rows_i64(r->secrets, i, "version") + keep >=
		    (int64_t)r->new.version ||
		    !sp_rows_uuid(r->secrets, i, "id", id) ||
		    memcmp(id, r->helper.secret, 16) == 0)
			continue;
		sp_change_delete(c, SP_T_SECRETS, id, sp_rows_ver(r->secrets, i));
	}
}

static void
on_flipped(void *arg, enum sp_err e)
{
	struct sp_rotation_run *r = arg;

	rot_flipped(r, e);
	rot_release(r);
}

void
rot_write_flip(struct sp_rotation_run *r)
{
	struct rotation_row w = {.state = "idle", .why = r->why,
	    .due_us = next_due(r), .last_us = sp_now_us()};
	struct sp_change *c = sp_change_new(r->b->store);
	struct json_object *d = detail_of(r);
	char id[SP_UUID_TEXT];
	struct sp_vals v;

	sp_uuid_text(id, r->new.id);
	sp_vals_from(&v, SP_T_ACCOUNTS, r->accounts, 0);
	sp_vals_set(&v, "secret_id", id);
	update_state(c, &r->old, "previous", r->account);
	update_state(c, &r->new, "current", r->account);
	sp_change_update(c, SP_T_ACCOUNTS, r->account, sp_rows_ver(r->accounts, 0),
	    v.v);
	put_row(r, c, &w);
	forget_oldest(r, c);
	sp_detail_i64(d, "version", (int64_t)r->new.version);
	sp_detail_str(d, "by", r->by_helper ? r->helper.account_name :
	    r->ask.account_name);
	sp_flow_change_audit(c, r->was_out_of_sync || r->old_is_refused ?
	    "rotation_reconciled" : "rotation_done", "rotation", NULL, d);
	rot_hold(r);
	sp_change_commit(c, on_flipped, r);
}

static void
wrote_failure(void *arg, enum sp_err e)
{
	struct sp_rotation_run *r = arg;

	if (e != SP_OK)
		sp_log(SP_ERROR, "rotation_failure_lost", NULL, "why=\"%s\"",
		    sp_err_text(e));
	r->state = ROT_GIVE_UP;
	rot_stop(r, SP_ERR_DENIED, r->fail);
	rot_release(r);
}

void
rot_write_failure(struct sp_rotation_run *r, bool out_of_sync)
{
	int64_t base = (int64_t)r->b->cfg.rotation_retry_s * 1000000;
	int64_t times = r->failures >= 6 ? BACK_OFF_MAX : INT64_C(1) << r->failures;
	struct rotation_row w = {.state = out_of_sync ? "out_of_sync" : "failed",
	    .why = r->fail, .last_us = last_us(r), .failures = r->failures + 1,
	    .due_us = sp_now_us() + jitter(base * times)};
	struct sp_change *c = sp_change_new(r->b->store);
	struct json_object *d = detail_of(r);

	if (r->new_is_bad && r->new.is_there)
		update_state(c, &r->new, "failed", r->account);
	put_row(r, c, &w);
	sp_detail_str(d, "failed", r->fail);
	sp_detail_i64(d, "failures", w.failures);
	sp_detail_i64(d, "next_us", w.due_us);
	if (r->new.version != 0)
		sp_detail_i64(d, "version", (int64_t)r->new.version);
	sp_flow_change_audit(c, out_of_sync ? "rotation_out_of_sync" :
	    "rotation_failed", "rotation", NULL, d);
	rot_hold(r);
	sp_change_commit(c, wrote_failure, r);
}
