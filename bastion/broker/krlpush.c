/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/krlpush.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/approval_way.h"
#include "bastion/broker/flow.h"
#include "bastion/broker/krlpush_run.h"
#include "bastion/broker/session.h"
#include "bastion/broker/session_int.h"
#include "bastion/broker/vault.h"

#define AT_ONCE 4
#define AGAIN_US (5LL * SP_KRLPUSH_SECOND)
#define AGAIN_MAX 6	/* doublings */

struct push {
	struct push *next;
	char account[SP_KRLPUSH_NAME], target[SP_KRLPUSH_NAME];
	char path[SP_KRLPUSH_PATH], text[300];
	bool is_wrong, is_running, is_stale, is_named;
	int64_t last_us, tried_us, due_us;	/* due: boot clock */
	unsigned failures;
};

struct sp_krlpushes {
	struct push *all;
	size_t n_running;
	struct event *tick;
};

/* ------------------------------------------------------------- the configuration */

static bool
is_made_of(const char *s, size_t n, const char *more)
{
	for (size_t i = 0; i < n; i++)
		if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9') ||
		    strchr(more, s[i]) != NULL))
			return false;
	return n > 0;
}

/* ACCOUNT@TARGET:/PATH. The path goes into a command as it is: it is made of
 * letters that no shell takes for anything else. */
static bool
take_word(struct push *p, const char *w, size_t n)
{
	const char *at = memchr(w, '@', n), *end = w + n;
	const char *colon = at == NULL ? NULL : memchr(at, ':', (size_t)(end - at));

	if (colon == NULL || (size_t)(at - w) >= SP_KRLPUSH_NAME ||
	    (size_t)(colon - at) > SP_KRLPUSH_NAME ||
	    (size_t)(end - colon) > SP_KRLPUSH_PATH - 1)
		return false;
	memcpy(p->account, w, (size_t)(at - w));
	memcpy(p->target, at + 1, (size_t)(colon - at) - 1);
	memcpy(p->path, colon + 1, (size_t)(end - colon) - 1);
	return is_made_of(p->account, strlen(p->account), "._-$ABCDEFGHIJKLMNOPQRSTUVWXYZ")
	    && is_made_of(p->target, strlen(p->target), "._-") &&
	    p->path[0] == '/' && is_made_of(p->path, strlen(p->path),
	    "/._-ABCDEFGHIJKLMNOPQRSTUVWXYZ");
}

static struct push *
find(struct sp_krlpushes *a, const struct push *like)
{
	for (struct push *p = a->all; p != NULL; p = p->next)
		if (strcmp(p->account, like->account) == 0 &&
		    strcmp(p->target, like->target) == 0 &&
		    strcmp(p->path, like->path) == 0)
			return p;
	return NULL;
}

static void
add_word(struct sp_krlpushes *a, const char *w, size_t n)
{
	struct push *p = calloc(1, sizeof(*p)), *old;

	SP_ASSERT(p != NULL);
	if (!take_word(p, w, n)) {
		char safe[4 * 120];

		p->is_wrong = true;
		p->account[0] = p->target[0] = p->path[0] = '\0';
		sp_vis(safe, sizeof(safe), sp_span_of(w, n < 100 ? n : 100));
		snprintf(p->text, sizeof(p->text), "krl_push: %.200s is no "
		    "ACCOUNT@TARGET:/PATH", safe);
		sp_log(SP_ERROR, "krl_push", NULL, "text=\"%s\"", p->text);
	}
	if (!p->is_wrong && (old = find(a, p)) != NULL) {
		old->is_named = true;
		free(p);
		return;
	}
	p->is_named = true;
	p->next = a->all;
	a->all = p;
}

/* One that runs goes when it has ended. */
static void
sweep(struct sp_krlpushes *a)
{
	struct push **at = &a->all, *p;

	while ((p = *at) != NULL) {
		if (p->is_named || p->is_running) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		free(p);
	}
}

void
sp_krlpushes_reread(struct sp_broker *b)
{
	struct sp_krlpushes *a = b->krlpushes;
	const char *s = b->cfg.krl_push;

	if (a == NULL)
		return;
	for (struct push *p = a->all; p != NULL; p = p->next)
		p->is_named = false;
	sweep(a);
	for (size_t n; *(s += strspn(s, " \t")) != '\0'; s += n) {
		n = strcspn(s, " \t");
		add_word(a, s, n);
	}
	sweep(a);
}

/* ------------------------------------------------------------------- what is due */

struct going {
	struct sp_broker *b;
	struct push *p;
	bool is_stale_again;
};

static void
ended(void *arg, bool is_done, const char *text)
{
	struct going *g = arg;
	struct push *p = g->p;
	unsigned k = p->failures < AGAIN_MAX ? p->failures : AGAIN_MAX;
	int64_t every = (int64_t)g->b->cfg.krl_push_s * SP_KRLPUSH_SECOND;
	int64_t again = AGAIN_US << k;
	bool had_failed = p->failures > 0;

	g->b->krlpushes->n_running--;
	p->is_running = false;
	p->tried_us = sp_now_us();
	snprintf(p->text, sizeof(p->text), "%.290s", text);
	p->failures = is_done ? 0 : p->failures + 1;
	if (is_done)
		p->last_us = p->tried_us;
	/* What was revoked while it ran was not in it. */
	if (p->due_us != 0)
		p->is_stale = true;
	else if (is_done)
		p->is_stale = false;
	if (p->due_us == 0)
		p->due_us = sp_boot_us() + (is_done || again > every ? every : again);
	if (!is_done)
		sp_log(SP_WARN, "krl_push_failed", NULL, "target=%s account=%s "
		    "tries=%u why=\"%s\"", p->target, p->account, p->failures,
		    p->text);
	else if (had_failed)
		sp_log(SP_INFO, "krl_pushed", NULL, "target=%s account=%s", p->target,
		    p->account);
	sweep(g->b->krlpushes);
	free(g);
}

static void
begin(struct sp_broker *b, struct push *p)
{
	struct going *g = calloc(1, sizeof(*g));

	SP_ASSERT(g != NULL);
	g->b = b;
	g->p = p;
	p->is_running = true;
	p->due_us = 0;
	b->krlpushes->n_running++;
	sp_krlpush_run(b, p->account, p->target, p->path, ended, g);
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct sp_broker *b = arg;
	int64_t now = sp_boot_us();

	(void)fd;
	(void)what;
	if (b->stopping || b->krlpushes->all == NULL || !sp_store_is_up(b->store) ||
	    !sp_vault_is_open(b->vault) || !b->sessions->is_recovered)
		return;
	for (struct push *p = b->krlpushes->all; p != NULL; p = p->next)
		if (!p->is_wrong && !p->is_running && p->due_us <= now &&
		    b->krlpushes->n_running < AT_ONCE)
			begin(b, p);
}

struct sp_krlpushes *
sp_krlpushes_new(struct sp_broker *b)
{
	struct sp_krlpushes *a = calloc(1, sizeof(*a));
	struct timeval tv = {.tv_sec = 1};

	if (a == NULL)
		return NULL;
	a->tick = event_new(b->ev, -1, EV_PERSIST, on_tick, b);
	if (a->tick == NULL || event_add(a->tick, &tv) != 0) {
		free(a);
		return NULL;
	}
	b->krlpushes = a;
	sp_krlpushes_reread(b);
	return a;
}

size_t
sp_krlpushes_due(struct sp_broker *b, const char *which)
{
	char name[2 * SP_KRLPUSH_NAME + 2];
	size_t n = 0;

	if (b->krlpushes == NULL)
		return 0;
	for (struct push *p = b->krlpushes->all; p != NULL; p = p->next) {
		snprintf(name, sizeof(name), "%s@%s", p->account, p->target);
		if (p->is_wrong || (which != NULL && strcmp(which, name) != 0))
			continue;
		p->is_stale = true;
		p->due_us = 1;
		n++;
	}
	return n;
}

/* ------------------------------------------------------------------- being seen */

size_t
sp_krlpushes_n(const struct sp_broker *b)
{
	size_t n = 0;

	if (b->krlpushes == NULL)
		return 0;
	for (const struct push *p = b->krlpushes->all; p != NULL; p = p->next)
		n++;
	return n;
}

void
sp_krlpushes_view(const struct sp_broker *b, size_t i, struct sp_krlpush_view *v)
{
	const struct push *p = b->krlpushes->all;
	int64_t late;

	while (i-- > 0)
		p = p->next;
	late = 3LL * (int64_t)b->cfg.krl_push_s * SP_KRLPUSH_SECOND;
	*v = (struct sp_krlpush_view){.account = p->account, .target = p->target,
	    .path = p->path, .text = p->text, .is_running = p->is_running,
	    .last_us = p->last_us, .tried_us = p->tried_us,
	    .failures = p->failures};
	v->state = p->is_wrong ? SP_KRLPUSH_WRONG : p->failures > 0 ?
	    SP_KRLPUSH_FAILED : p->last_us == 0 ? SP_KRLPUSH_NEVER :
	    p->is_stale || sp_now_us() - p->last_us > late ? SP_KRLPUSH_BEHIND :
	    SP_KRLPUSH_CURRENT;
}
