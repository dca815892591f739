/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/store_internal.h"

#include <stdlib.h>
#include <string.h>

#include "common/text.h"

/*
 * A judgement asks six questions one after the other, and each waits for the
 * server and two wake-ups. Where they can be foreseen they go together. The
 * answers are as true as those to questions asked at that moment: a change of
 * ours, or one that another node tells of, makes them worthless.
 */
#define GOOD_US 50000
#define ITEMS_MAX 8

struct item {
	uint8_t *key;		/* text and parameters; NULL: taken */
	size_t key_n;
	PGresult *res;
	sp_ahead_cb cb;		/* who waits for it */
	void *arg;
};
struct sp_ahead {
	LIST_ENTRY(sp_ahead) link;
	struct sp_store *s;
	struct sp_db_job *job;	/* not sent yet */
	bool is_answered, is_busy;
	int64_t at_us;
	uint64_t n_changes;
	struct item items[ITEMS_MAX];
	size_t n;
};
struct delivery {
	sp_ahead_cb cb;
	void *arg;
	PGresult *res;
};

static enum sp_err
put_key(struct sp_buf *b, const char *sql, const char *const *params, size_t n)
{
	SP_TRY(sp_buf_put(b, sql, strlen(sql) + 1));
	for (size_t i = 0; i < n; i++) {
		SP_TRY(sp_buf_put_u8(b, params[i] != NULL));
		if (params[i] != NULL)
			SP_TRY(sp_buf_put(b, params[i], strlen(params[i]) + 1));
	}
	return SP_OK;
}

static void
forget_item(struct item *it)
{
	free(it->key);
	if (it->res != NULL)
		PQclear(it->res);
	*it = (struct item){0};
}

static void
free_ahead(struct sp_ahead *a)
{
	for (size_t i = 0; i < a->n; i++)
		forget_item(&a->items[i]);
	sp_db_job_free(a->job);
	free(a);
}

static bool
is_good(const struct sp_ahead *a)
{
	return a->n_changes == a->s->n_changes &&
	    sp_boot_us() - a->at_us < GOOD_US;
}

static void
sweep(struct sp_store *s)
{
	struct sp_ahead *next;

	for (struct sp_ahead *a = LIST_FIRST(&s->aheads); a != NULL; a = next) {
		next = LIST_NEXT(a, link);
		if (!a->is_answered || a->is_busy || is_good(a))
			continue;
		LIST_REMOVE(a, link);
		free_ahead(a);
	}
}

struct sp_ahead *
sp_ahead_new(struct sp_store *s)
{
	struct sp_ahead *a = calloc(1, sizeof(*a));

	SP_ASSERT(a != NULL);
	sweep(s);
	a->s = s;
	return a;
}

static void
on_answers(void *arg, struct sp_db_result *r)
{
	struct sp_ahead *a = arg;

	a->is_answered = a->is_busy = true;
	for (size_t i = 0; r->e == SP_OK && i < a->n; i++) {
		a->items[i].res = r->res[i];
		r->res[i] = NULL;
	}
	for (size_t i = 0; i < a->n; i++) {
		struct item its = a->items[i];

		if (its.cb == NULL)
			continue;
		a->items[i].res = NULL;
		forget_item(&a->items[i]);
		its.cb(its.arg, r->e, its.res);
	}
	a->is_busy = false;
	if (r->e != SP_OK)
		a->at_us = 0;
	sweep(a->s);
}

void
sp_ahead_add(struct sp_ahead *a, enum sp_table t, const char *where,
    const char *const *params, size_t n)
{
	SP_BUF_AUTO sql = {.max = 16384};
	SP_BUF_AUTO key = {.max = 32768};
	struct item *it = &a->items[a->n];
	const char *text;

	SP_ASSERT(a->n < ITEMS_MAX);
	SP_ASSERT(sp_select_text(&sql, t, where) == SP_OK);
	text = (const char *)sql.p + sql.off;
	if (put_key(&key, text, params, n) != SP_OK ||
	    (it->key = malloc(key.len)) == NULL)
		return;
	memcpy(it->key, key.p + key.off, key.len);
	it->key_n = key.len;
	a->n++;
	if (a->job == NULL)
		a->job = sp_db_job_new(on_answers, a);
	sp_db_job_add(a->job, text, params, n);
}

void
sp_ahead_go(struct sp_ahead *a)
{
	struct sp_db_job *j = a->job;

	if (j == NULL || !sp_db_is_up(a->s->db)) {
		free_ahead(a);
		return;
	}
	a->job = NULL;
	a->at_us = sp_boot_us();
	a->n_changes = a->s->n_changes;
	LIST_INSERT_HEAD(&a->s->aheads, a, link);
	sp_db_submit(a->s->db, j);
}

static void
deliver(void *arg, enum sp_err e)
{
	struct delivery *d = arg;

	d->cb(d->arg, e, d->res);
	free(d);
}

static bool
hand_over(struct sp_ahead *a, struct item *it, sp_ahead_cb cb, void *arg)
{
	struct delivery *d;

	if (!a->is_answered) {
		it->cb = cb;
		it->arg = arg;
		return true;
	}
	if (it->res == NULL || (d = malloc(sizeof(*d))) == NULL)
		return false;
	*d = (struct delivery){cb, arg, it->res};
	it->res = NULL;
	forget_item(it);
	sp_later(a->s, deliver, d, SP_OK);
	return true;
}

bool
sp_ahead_take(struct sp_store *s, const char *sql, const char *const *params,
    size_t n, sp_ahead_cb cb, void *arg)
{
	SP_BUF_AUTO key = {.max = 32768};
	struct sp_ahead *a;

	if (LIST_EMPTY(&s->aheads) || put_key(&key, sql, params, n) != SP_OK)
		return false;
	LIST_FOREACH(a, &s->aheads, link)
		for (size_t i = 0; is_good(a) && i < a->n; i++) {
			struct item *it = &a->items[i];

			if (it->key != NULL && it->cb == NULL &&
			    it->key_n == key.len &&
			    memcmp(it->key, key.p + key.off, key.len) == 0)
				return hand_over(a, it, cb, arg);
		}
	return false;
}

void
sp_ahead_forget(struct sp_store *s)
{
	s->n_changes++;
}

void
sp_ahead_fini(struct sp_store *s)
{
	struct sp_ahead *a;

	while ((a = LIST_FIRST(&s->aheads)) != NULL) {
		LIST_REMOVE(a, link);
		free_ahead(a);
	}
}
