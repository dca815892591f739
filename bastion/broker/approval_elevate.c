/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/approval_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASK_TRIES 3

enum elev_state { ELEV_LOOKING, ELEV_ASKING, ELEV_FILING, ELEV_WAITING, ELEV_OVER };

struct sp_elevation {
	struct sp_broker *b;
	enum elev_state state;
	unsigned refs;		/* the owner's, and one for each call under way */
	bool cancelled;
	struct sp_actor who;
	struct sp_ask ask;
	struct sp_judgement j;
	struct sp_elevation_ops ops;
	void *arg;
	unsigned tries;
	uint64_t num;
	void *wait;
	int64_t until_boot_us;
	struct event *tick;
};

static void
release(struct sp_elevation *v)
{
	if (--v->refs > 0)
		return;
	if (v->tick != NULL)
		event_free(v->tick);
	free(v);
}

/* The one setter: what must not outlive a state ends here. */
static void
set_state(struct sp_elevation *v, enum elev_state s)
{
	if (v->state == ELEV_WAITING && s != ELEV_WAITING) {
		sp_request_unwait(v->b, v->wait);
		v->wait = NULL;
		event_del(v->tick);
	}
	v->state = s;
}

/* The end as the owner sees it: it may free its own things from here. */
static void
over(struct sp_elevation *v, enum sp_err e, const char *text)
{
	if (v->state == ELEV_OVER)
		return;
	set_state(v, ELEV_OVER);
	if (v->cancelled)
		return;
	v->cancelled = true;	/* the owner lets go with this call */
	v->ops.over(v->arg, e, text);
	release(v);
}

static void
say(struct sp_elevation *v, const char *text)
{
	if (!v->cancelled)
		v->ops.say(v->arg, text);
}

static void
tick_in(struct sp_elevation *v)
{
	int64_t left = v->until_boot_us - sp_boot_us();
	int64_t step = left > 60000000 ? left % 60000000 : left;
	struct timeval tv;

	if (step <= 0)
		step = left > 0 ? 60000000 : 1;
	if (step < 1000)
		step = 1000;
	tv.tv_sec = (time_t)(step / 1000000);
	tv.tv_usec = (suseconds_t)(step % 1000000);
	event_add(v->tick, &tv);
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct sp_elevation *v = arg;
	char text[256], t[SP_TIME_TEXT];
	int64_t left = v->until_boot_us - sp_boot_us();

	(void)fd;
	(void)what;
	if (left > 500000) {
		sp_duration_text(t, (left + 500000) / 1000000 * 1000000);
		snprintf(text, sizeof(text), "Still waiting for request %llu: %s left.",
		    (unsigned long long)v->num, t);
		tick_in(v);
		say(v, text);
		return;
	}
	snprintf(text, sizeof(text), "Nobody has decided yet. Request %llu stays "
	    "open: connect again later, and it goes on from here.",
	    (unsigned long long)v->num);
	over(v, SP_ERR_TIMEOUT, text);
}

static void
told(void *arg, uint64_t number, const char *state, const char *by,
    const char *comment)
{
	struct sp_elevation *v = arg;
	char text[1024], who[80];

	if (v->state != ELEV_WAITING)
		return;
	snprintf(who, sizeof(who), "%s%s", by[0] == '\0' ? "" : " by ",
	    by[0] == '\0' ? "" : sp_vis_str(by));
	if (strcmp(state, "approved") == 0) {
		snprintf(text, sizeof(text), "Approved%s. Going on.", who);
		say(v, text);
		over(v, SP_OK, "");
		return;
	}
	snprintf(text, sizeof(text), "Request %llu was %s%s%s%s.",
	    (unsigned long long)number, strcmp(state, "expired") == 0 ?
	    "not decided in time and has expired" : state, who,
	    comment[0] == '\0' ? "" : ": ", comment);
	over(v, SP_ERR_DENIED, text);
}

static void
named(void *arg, enum sp_err e, const char *const *names, size_t n)
{
	struct sp_elevation *v = arg;
	char t[SP_TIME_TEXT], one[80];
	const struct sp_verdict *d = &v->j.verdict;
	SP_BUF_AUTO text = {.max = 8192};
	enum sp_err p;

	p = sp_buf_printf(&text, "It needs %u approval%s of %s", d->approvals,
	    d->approvals == 1 ? "" : "s", d->approvers);
	for (size_t i = 0; p == SP_OK && i < n; i++)
		p = sp_buf_printf(&text, "%s%s", i == 0 ? ": " : ", ",
		    sp_vis(one, sizeof(one), sp_span_str(names[i])));
	if (p == SP_OK && e == SP_OK && n < d->approvals)
		p = sp_buf_printf(&text, "%s", n == 0 ?
		    ", but nobody is there who could: tell an administrator" :
		    ", which are too few: tell an administrator");
	sp_duration_text(t, v->until_boot_us - sp_boot_us() + 500000);
	if (p == SP_OK)
		p = sp_buf_printf(&text, ".\nWaiting up to %s; the approver types: "
		    "ssh bastion approve %llu", t, (unsigned long long)v->num);
	if (p == SP_OK && v->state == ELEV_WAITING)
		p = sp_buf_put_u8(&text, 0);
	if (p == SP_OK && v->state == ELEV_WAITING)
		say(v, (const char *)sp_buf_span(&text).p);
	release(v);
}

static void
filed(void *arg, enum sp_err e, uint64_t number, const char *text)
{
	struct sp_elevation *v = arg;

	if (v->state == ELEV_FILING && e != SP_OK) {
		over(v, e == SP_ERR_INVAL ? SP_ERR_DENIED : e, text);
	} else if (v->state == ELEV_FILING) {
		v->num = number;
		set_state(v, ELEV_WAITING);
		v->until_boot_us = sp_boot_us() +
		    (int64_t)v->b->cfg.approval_wait_s * 1000000;
		tick_in(v);
		v->wait = sp_request_wait(v->b, number, told, v);
		say(v, text);
		v->refs++;
		sp_request_approvers(v->b, v->who.person, v->j.verdict.approvers,
		    named, v);
	}
	release(v);
}

static void
file(struct sp_elevation *v, const char *reason)
{
	struct sp_wish wish = {.reason = reason};

	set_state(v, ELEV_FILING);
	v->refs++;
	sp_request_file(v->b, &v->who, &v->ask, &v->j, &wish, filed, v);
}

static void
ask_reason(struct sp_elevation *v)
{
	set_state(v, ELEV_ASKING);
	if (!v->cancelled)
		v->ops.ask(v->arg, "Reason: ");
}

static void
looked(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct sp_elevation *v = arg;
	bool is_open = false;
	struct sp_request q;

	if (v->state != ELEV_LOOKING) {
		release(v);
		return;
	}
	for (size_t i = 0; e == SP_OK && i < sp_rows_n(r); i++)
		is_open = is_open || (sp_request_from(&q, r, i) &&
		    strcmp(q.group, v->j.verdict.approvers) == 0 &&
		    q.approvals >= (int64_t)v->j.verdict.approvals);
	if (e != SP_OK) {
		char text[200];

		snprintf(text, sizeof(text), "A request cannot be filed now: %s. Try "
		    "again in a moment.", sp_flow_why(e));
		over(v, e, text);
	} else if (is_open) {
		file(v, q.reason);	/* finds the open one */
	} else {
		char text[512];

		snprintf(text, sizeof(text), "You have no grant for %s@%s yet: rule "
		    "\"%s\" asks for an approval. Say why you need it.",
		    v->ask.account_name, v->ask.target_name, v->j.verdict.rule);
		say(v, text);
		ask_reason(v);
	}
	release(v);
}

struct sp_elevation *
sp_elevation_begin(struct sp_broker *b, const struct sp_actor *who,
    const struct sp_ask *ask, const struct sp_judgement *j,
    const struct sp_elevation_ops *ops, void *arg)
{
	struct sp_elevation *v = calloc(1, sizeof(*v));
	char person[SP_UUID_TEXT], account[SP_UUID_TEXT], now[SP_NUM_TEXT];
	const char *p[3] = {person, account, sp_i64_text(now, sp_now_us())};

	if (v == NULL)
		return NULL;
	v->b = b;
	v->state = ELEV_LOOKING;
	v->refs = 2;
	v->who = *who;
	v->ask = *ask;
	v->j = *j;
	v->ops = *ops;
	v->arg = arg;
	v->tick = event_new(b->ev, -1, 0, on_tick, v);
	if (v->tick == NULL) {
		free(v);
		return NULL;
	}
	sp_uuid_text(person, who->person);
	sp_uuid_text(account, ask->account);
	sp_store_load(b->store, SP_T_REQUESTS,
	    "WHERE person_id = $1 AND account_id = $2 AND state = 'pending' "
	    "AND expires_us > $3::bigint ORDER BY num LIMIT 4", p, 3, looked, v);
	return v;
}

void
sp_elevation_answer(struct sp_elevation *v, const char *text)
{
	char reason[1024];

	if (v->state != ELEV_ASKING)
		return;
	if (sp_text_trim(reason, 1001, sp_span_str(text)) == SP_OK) {
		file(v, reason);
		return;
	}
	if (++v->tries >= ASK_TRIES) {
		over(v, SP_ERR_DENIED, "No reason was given, so nothing was asked for.");
		return;
	}
	say(v, "A reason is needed, in plain text.");
	ask_reason(v);
}

void
sp_elevation_cancel(struct sp_elevation *v)
{
	if (v->cancelled)
		return;
	v->cancelled = true;
	set_state(v, ELEV_OVER);
	release(v);
}
