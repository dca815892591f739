/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/approval_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POLL_S 5

/* The handle is a number, so that one told already can be let go of late. */
struct waiter {
	struct waiter *next;
	uintptr_t handle;
	uint64_t num;
	sp_wait_cb cb;	/* NULL: told, or nobody waits any more: to be freed */
	void *arg;
};

static void
poll_soon(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	sp_approvals_poll(arg);
}

void *
sp_request_wait(struct sp_broker *b, uint64_t number, sp_wait_cb cb, void *arg)
{
	struct waiter *w = calloc(1, sizeof(*w));
	struct timeval now = {0};
	void *handle;

	if (w == NULL)
		return NULL;
	*w = (struct waiter){.next = b->approvals->waiters,
	    .handle = ++b->approvals->last_handle, .num = number, .cb = cb,
	    .arg = arg};
	b->approvals->waiters = w;
	memcpy(&handle, &w->handle, sizeof(handle));
	/* It may have been decided before we began to wait. */
	event_base_once(b->ev, -1, EV_TIMEOUT, poll_soon, b, &now);
	return handle;
}

void
sp_request_unwait(struct sp_broker *b, void *handle)
{
	uintptr_t want;

	memcpy(&want, &handle, sizeof(want));
	for (struct waiter *w = b->approvals->waiters; w != NULL; w = w->next)
		if (w->handle == want)
			w->cb = NULL;
}

static void
sweep(struct sp_approvals *a)
{
	struct waiter **at = &a->waiters, *w;

	while ((w = *at) != NULL) {
		if (w->cb == NULL) {
			*at = w->next;
			free(w);
		} else {
			at = &w->next;
		}
	}
}

static void
tell(struct sp_broker *b, uint64_t num, const char *state, const char *by,
    const char *comment)
{
	/* A callback may wait or unwait; nothing is freed before the sweep. */
	for (struct waiter *w = b->approvals->waiters; w != NULL; w = w->next) {
		sp_wait_cb cb = w->num == num ? w->cb : NULL;

		w->cb = w->num == num ? NULL : w->cb;
		if (cb != NULL)
			cb(w->arg, num, state, by, comment);
	}
}

struct told {
	struct sp_broker *b;
	uint64_t num;
	char state[16], comment[512];
};

static void
got_by(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct told *t = arg;

	tell(t->b, t->num, t->state, e == SP_OK && sp_rows_n(r) == 1 ?
	    sp_rows_get(r, 0, "name") : "", t->comment);
	free(t);
}

static void
got_verdicts(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct told *t = arg;
	const char *want = strcmp(t->state, "denied") == 0 ? "deny" : "approve";
	size_t i = e == SP_OK ? sp_rows_n(r) : 0;
	const char *p[1], *c;

	while (i > 0 && !sp_span_is(sp_span_str(sp_rows_get(r, i - 1, "verdict")),
	    want))
		i--;
	if (i == 0) {
		got_by(t, SP_ERR_NOTFOUND, NULL);
		return;
	}
	c = sp_rows_get(r, i - 1, "comment");
	sp_vis(t->comment, sizeof(t->comment), sp_span_str(c));
	p[0] = sp_rows_get(r, i - 1, "approver_id");
	sp_store_load(t->b->store, SP_T_PEOPLE, "WHERE id = $1", p, 1, got_by, t);
}

static void
changed(struct sp_broker *b, const struct sp_request *q, const char *state)
{
	struct told *t = calloc(1, sizeof(*t));
	char id[SP_UUID_TEXT];
	const char *p[1] = {id};

	if (t == NULL)
		return;	/* the next poll tells it */
	t->b = b;
	t->num = q->num;
	snprintf(t->state, sizeof(t->state), "%s", state);
	if (strcmp(state, "approved") != 0 && strcmp(state, "denied") != 0) {
		got_by(t, SP_ERR_NOTFOUND, NULL);
		return;
	}
	sp_uuid_text(id, q->id);
	sp_store_load(b->store, SP_T_DECISIONS,
	    "WHERE request_id = $1 ORDER BY at_us", p, 1, got_verdicts, t);
}

static void
got_states(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct sp_broker *b = arg;
	struct sp_approvals *a = b->approvals;
	struct sp_request q;

	a->polling = false;
	for (size_t i = 0; e == SP_OK && i < sp_rows_n(r); i++) {
		if (!sp_request_from(&q, r, i))
			continue;
		if (strcmp(q.state, "pending") != 0)
			changed(b, &q, q.state);
		else if (q.expires_us <= sp_now_us())
			changed(b, &q, "expired");
	}
	if (a->poll_again)
		sp_approvals_poll(b);
}

static char *
numbers(const struct sp_approvals *a)
{
	size_t n = 0, at = 1;
	char *t;

	for (const struct waiter *w = a->waiters; w != NULL; w = w->next)
		n += w->cb != NULL;
	if (n == 0 || (t = malloc(n * SP_NUM_TEXT + 3)) == NULL)
		return NULL;
	t[0] = '{';
	for (const struct waiter *w = a->waiters; w != NULL; w = w->next)
		if (w->cb != NULL)
			at += (size_t)snprintf(t + at, SP_NUM_TEXT, "%llu,",
			    (unsigned long long)w->num);
	t[at - 1] = '}';
	t[at] = '\0';
	return t;
}

void
sp_approvals_poll(struct sp_broker *b)
{
	struct sp_approvals *a = b->approvals;
	char *list;

	if (a->polling) {
		a->poll_again = true;
		return;
	}
	a->poll_again = false;
	sweep(a);
	list = numbers(a);
	if (list == NULL)
		return;
	a->polling = true;
	sp_store_load(b->store, SP_T_REQUESTS, "WHERE num = ANY($1::bigint[])",
	    (const char *const[]){list}, 1, got_states, b);
	free(list);
}

struct sp_approvals *
sp_approvals_new(struct sp_broker *b)
{
	struct sp_approvals *a = calloc(1, sizeof(*a));
	struct timeval every = {.tv_sec = POLL_S};

	if (a == NULL)
		return NULL;
	a->tick = event_new(b->ev, -1, EV_PERSIST, poll_soon, b);
	if (a->tick == NULL || event_add(a->tick, &every) != 0) {
		free(a);
		return NULL;
	}
	return a;
}
