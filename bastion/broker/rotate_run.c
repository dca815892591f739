/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/rotate_int.h"

/*
 * One rotation:
 *
 *   LOAD -> CLAIM -> (a candidate is left: PROBE_NEW) -> MAKE -> SET -> PROBE_NEW
 *     -> FLIP
 *
 * After SET whatever it said counts for nothing: only a fresh login with the
 * candidate does. Where that is refused the old one is tried: it works, and the
 * candidate was none (never tried again); it does not either, and the account is
 * out of sync: an alarm, and the target's reconcile account sets a new one.
 * What could not be found out is found out later: a candidate is given up only
 * when the old secret has proved that it still holds.
 */
#define FLIP_TRIES 5

void
rot_hold(struct sp_rotation_run *r)
{
	r->refs++;
}

static void
unlist(struct sp_rotation_run *r)
{
	struct sp_rotation_run **at = &r->b->rotations->list;

	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	r->b->rotations->n--;
}

void
rot_release(struct sp_rotation_run *r)
{
	if (--r->refs > 0)
		return;
	unlist(r);
	rot_secret_fini(&r->old);
	rot_secret_fini(&r->new);
	rot_secret_fini(&r->bad);
	rot_secret_fini(&r->helper_secret);
	sp_rows_free(r->accounts);
	sp_rows_free(r->targets);
	sp_rows_free(r->secrets);
	sp_rows_free(r->rotations);
	sp_rows_free(r->helpers);
	event_free(r->timer);
	free(r);
}

void
rot_step(struct sp_rotation_run *r, const char *step, const char *text)
{
	sp_log(SP_INFO, "rotation_step", NULL, "account=%s target=%s step=%s "
	    "text=\"%s\"", r->ask.account_name, r->ask.target_name, step, text);
	if (r->is_owned && r->ops.step != NULL)
		r->ops.step(r->arg, step, text);
}

static void
put_off(struct sp_rotation_run *r)
{
	struct sp_rotations *a = r->b->rotations;
	struct rot_put_off *o = &a->off[a->next_off++ % ROT_PUT_OFF];
	uint64_t s = r->b->cfg.rotation_retry_s;

	memcpy(o->account, r->account, 16);
	o->until_us = sp_boot_us() + (int64_t)(s < 10 ? s : 10) * 1000000;
}

/* The end, whatever it was. The reference that begin gave goes with it. */
void
rot_stop(struct sp_rotation_run *r, enum sp_err e, const char *text)
{
	bool owned = r->is_owned;

	if (r->state == ROT_OVER)
		return;
	r->state = ROT_OVER;
	r->is_owned = false;
	if (e != SP_OK)
		put_off(r);
	if (e != SP_OK)
		sp_log(SP_WARN, "rotation_stopped", NULL, "account=%s target=%s "
		    "why=\"%s\"", r->ask.account_name, r->ask.target_name, text);
	if (owned && r->ops.over != NULL)
		r->ops.over(r->arg, e, text);
	rot_release(r);
}

/* --------------------------------------------------------------------- failing */

static void
fail(struct sp_rotation_run *r, bool out_of_sync, const char *what,
    const char *text)
{
	char said[300];

	snprintf(said, sizeof(said), "%s", text);	/* it may be r->fail */
	snprintf(r->fail, sizeof(r->fail), "%s%s%s", what,
	    said[0] == '\0' ? "" : ": ", said);
	r->state = ROT_GIVE_UP;
	rot_step(r, out_of_sync ? "out-of-sync" : "failed", r->fail);
	rot_write_failure(r, out_of_sync);
}

void
rot_give_up(struct sp_rotation_run *r, const char *text)
{
	fail(r, false, text, "");
}

/* --------------------------------------------------------------------- the steps */

static void probe_new(struct sp_rotation_run *r);

static bool
is_key(const struct sp_rotation_run *r)
{
	return r->ask.cred_kind == SP_CRED_SSH_KEY;
}

static void
new_one(struct sp_rotation_run *r)
{
	r->state = ROT_MAKE;
	r->has_set = false;
	if (r->new.is_there) {
		rot_secret_fini(&r->bad);
		r->bad = r->new;
		r->new = (struct rot_secret){.is_there = false};
	}
	rot_step(r, "pending", "a new one is made");
	rot_make(r);
}

/* Neither works. */
static void
no_way_in(struct sp_rotation_run *r, const char *text)
{
	if (!r->has_helper || r->by_helper) {
		fail(r, true, "neither the stored secret nor the candidate is "
		    "accepted", text);
		return;
	}
	r->by_helper = true;
	rot_step(r, "reconcile", "the target's reconcile account sets a new one");
	new_one(r);
}

static void
on_old(void *arg, enum rot_result result, const char *text)
{
	struct sp_rotation_run *r = arg;

	if (result == ROT_REFUSED) {
		r->old_is_refused = true;
		no_way_in(r, text);
	} else if (result != ROT_OK) {
		fail(r, false, "it could not be seen which secret holds", text);
	} else if (r->has_set) {
		/* It still holds: so the candidate was never set. */
		r->new_is_bad = true;
		fail(r, false, "the target did not take the candidate", r->fail);
	} else {
		r->new_is_bad = true;
		new_one(r);
	}
	rot_release(r);
}

static void
probe_old(struct sp_rotation_run *r)
{
	struct rot_login what = {.with = &r->old};

	r->state = ROT_PROBE_OLD;
	rot_step(r, "probe-current", "a login with the stored one");
	memcpy(what.account, r->account, 16);
	rot_hold(r);
	rot_login_begin(r->b, &r->ask, &what, on_old, r);
}

static void
flip(struct sp_rotation_run *r)
{
	r->state = ROT_FLIP;
	rot_step(r, "flip", "the new one is the stored one");
	rot_write_flip(r);
}

static void
on_new(void *arg, enum rot_result result, const char *text)
{
	struct sp_rotation_run *r = arg;

	if (result == ROT_OK) {
		flip(r);
	} else if (result == ROT_FAILED) {
		/* It logs in: that is what counts. The old key's line is left. */
		rot_step(r, "cleaning", text);
		flip(r);
	} else if (result == ROT_REFUSED) {
		r->new_is_refused = true;
		if (r->fail[0] == '\0')
			snprintf(r->fail, sizeof(r->fail), "it said that it did, but a "
			    "login with it was refused");
		probe_old(r);
	} else {
		fail(r, false, "it could not be seen whether the candidate holds",
		    text);
	}
	rot_release(r);
}

/* Of a key the same login takes the old one's line away. */
static void
probe_new(struct sp_rotation_run *r)
{
	struct rot_login what = {.with = &r->new, .whose = r->ask.account_name,
	    .old = &r->old, .new = &r->new,
	    .program = is_key(r) ? "key-remove" : NULL};

	r->state = ROT_PROBE_NEW;
	rot_step(r, "verify", "a fresh login with the new one");
	memcpy(what.account, r->account, 16);
	rot_hold(r);
	rot_login_begin(r->b, &r->ask, &what, on_new, r);
}

static void
on_set(void *arg, enum rot_result result, const char *text)
{
	struct sp_rotation_run *r = arg;

	if (result != ROT_OK) {
		snprintf(r->fail, sizeof(r->fail), "%.390s", text);
		rot_step(r, "set-failed", text);
	}
	/* What it said is a word; what holds is seen by logging in. */
	probe_new(r);
	rot_release(r);
}

static void
set(struct sp_rotation_run *r)
{
	struct rot_login what = {.with = &r->old, .whose = r->ask.account_name,
	    .old = &r->old, .new = &r->new,
	    .program = is_key(r) ? "key-add" : "passwd"};
	const struct sp_ask *by = &r->ask;

	r->state = ROT_SET;
	r->has_set = true;
	r->fail[0] = '\0';
	memcpy(what.account, r->account, 16);
	if (r->by_helper) {
		by = &r->helper;
		what.with = r->helper_secret.is_there ? &r->helper_secret : NULL;
		/* Of the old key the public half, to put the new one beside it. */
		what.old = is_key(r) ? &r->old : NULL;
		what.program = is_key(r) ? "key-add-for" : "chpasswd";
	}
	rot_step(r, "set", r->by_helper ? "by the reconcile account" :
	    "by the account itself");
	rot_hold(r);
	rot_login_begin(r->b, by, &what, on_set, r);
}

/* ------------------------------------------------------------ what the rows say */

static void
got_holder(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct sp_rotation_run *r = arg;

	if (e != SP_OK)
		rot_stop(r, e, sp_flow_why(e));
	else if (sp_rows_n(rows) > 0 && !r->force)
		rot_stop(r, SP_ERR_STATE, "a session holds the account; it is "
		    "rotated when that has ended (--force: now)");
	else
		rot_claim(r);
	rot_release(r);
}

void
rot_loaded(struct sp_rotation_run *r)
{
	const char *p[2] = {r->ask.account_name, r->ask.target_name};

	r->state = ROT_CLAIM;
	/* What the account itself was refused twice, its helper does. */
	r->by_helper = r->has_helper && r->failures >= 2;
	rot_hold(r);
	sp_store_query(r->b->store, "SELECT id FROM sessions WHERE ended_us IS NULL "
	    "AND account_name = $1 AND target_name = $2 AND kind IS NULL LIMIT 1",
	    p, 2, got_holder, r);
}

void
rot_claimed(struct sp_rotation_run *r)
{
	if (r->new.is_there)
		probe_new(r);	/* one is left of a run that did not end */
	else if (r->was_out_of_sync)
		probe_old(r);
	else
		new_one(r);
}

void
rot_made(struct sp_rotation_run *r)
{
	rot_step(r, "made", "it is stored, sealed");
	set(r);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct sp_rotation_run *r = arg;

	(void)fd;
	(void)what;
	rot_write_flip(r);
	rot_release(r);
}

void
rot_flipped(struct sp_rotation_run *r, enum sp_err e)
{
	struct timeval tv = {.tv_sec = 1};

	if (e == SP_OK) {
		rot_step(r, "done", "");
		sp_broker_changed(r->b);
		rot_stop(r, SP_OK, "");
	} else if ((e == SP_ERR_DB || e == SP_ERR_TIMEOUT || e == SP_ERR_SEALED) &&
	    ++r->tries < FLIP_TRIES && !r->b->stopping) {
		rot_hold(r);
		event_add(r->timer, &tv);
	} else {
		/* The candidate stays what it is; the next run sees that it holds. */
		rot_stop(r, e, sp_flow_why(e));
	}
}

struct sp_rotation_run *
sp_rotation_begin(struct sp_broker *b, const uint8_t account[static 16],
    bool force, const char *why, const struct sp_rotation_ops *ops, void *arg)
{
	struct sp_rotation_run *r;

	if (sp_rotation_is_running(b, account) || b->stopping)
		return NULL;
	r = calloc(1, sizeof(*r));
	SP_ASSERT(r != NULL);
	r->b = b;
	r->refs = 1;
	r->force = force;
	memcpy(r->account, account, 16);
	snprintf(r->why, sizeof(r->why), "%s", why);
	if (ops != NULL)
		r->ops = *ops;
	r->arg = arg;
	r->is_owned = ops != NULL;
	r->timer = event_new(b->ev, -1, 0, on_timer, r);
	SP_ASSERT(r->timer != NULL);
	r->next = b->rotations->list;
	b->rotations->list = r;
	b->rotations->n++;
	rot_load(r);
	return r;
}

void
sp_rotation_forget(struct sp_rotation_run *r)
{
	r->is_owned = false;
}
