/* SPDX-License-Identifier: Apache-2.0 */
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/verb_int.h"

#define OUT_MAX (6u << 20)

/* --------------------------------------------------------------- arguments */

const char *
sp_call_opt_n(const struct sp_call *c, const char *opt, size_t i)
{
	for (size_t k = 0; k < c->n_opt; k++)
		if (strcmp(c->opt[k].name, opt) == 0 && i-- == 0)
			return c->opt[k].value;
	return NULL;
}

const char *
sp_call_opt(const struct sp_call *c, const char *opt)
{
	return sp_call_opt_n(c, opt, 0);
}

bool
sp_call_has(const struct sp_call *c, const char *opt)
{
	return sp_call_opt(c, opt) != NULL;
}

bool
sp_call_limit(struct sp_call *c, char t[static 24])
{
	const char *s = sp_call_opt(c, "limit");
	uint64_t n = 500;

	if (s != NULL && (sp_u64_parse(sp_span_str(s), 10000, &n) != SP_OK ||
	    n == 0)) {
		sp_call_fail(c, SP_EXIT_USAGE, "--limit wants 1 to 10000");
		return false;
	}
	snprintf(t, 24, "%llu", (unsigned long long)n);
	return true;
}

void
sp_call_more(struct sp_call *c, const struct sp_rows *page, const char *verb,
    const char *last)
{
	const char *s = sp_call_opt(c, "limit");
	uint64_t n = 500;

	if (s != NULL && sp_u64_parse(sp_span_str(s), 10000, &n) != SP_OK)
		return;
	if (!c->style.json && last[0] != '\0' &&
	    sp_rows_n(page) + sp_rows_n_broken(page) >= n)
		sp_call_say(c, "\nThere may be more: %s --after %s\n", verb,
		    sp_vis_str(last));
}

bool
sp_split_ask(const char *s, char account[static SP_NAME_MAX + 1],
    char target[static SP_NAME_MAX + 1])
{
	const char *at = strchr(s, '@');
	struct sp_span a, t;

	if (at == NULL)
		return false;
	a = sp_span_of(s, (size_t)(at - s));
	t = sp_span_str(at + 1);
	return sp_name_is_valid(a) && sp_name_is_valid(t) &&
	    sp_span_cstr(a, account, SP_NAME_MAX + 1) == SP_OK &&
	    sp_span_cstr(t, target, SP_NAME_MAX + 1) == SP_OK;
}

bool
sp_actor_may_admin(const struct sp_actor *a)
{
	return a->is_host || sp_actor_in(a, SP_GROUP_ADMINS);
}

bool
sp_actor_may_audit(const struct sp_actor *a)
{
	return a->is_host || sp_actor_in(a, SP_GROUP_AUDITORS);
}

bool
sp_actor_may_watch(const struct sp_actor *a)
{
	return a->is_host || sp_actor_in(a, SP_GROUP_AUDITORS);
}

/* ------------------------------------------------------------------ output */

/* A terminal over SSH is in raw mode: a line ends with CR LF there. */
static void
write_lane(struct sp_call *c, uint8_t lane, struct sp_span s)
{
	SP_BUF_AUTO b = {.max = 2 * OUT_MAX};

	if (c->conduit == NULL || s.n == 0)
		return;
	if (!c->pty) {
		sp_conduit_write(c->conduit, c->chan, lane, s);
		return;
	}
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '\n' && sp_buf_put(&b, "\r", 1) != SP_OK)
			return;
		if (sp_buf_put(&b, &s.p[i], 1) != SP_OK)
			return;
	}
	sp_conduit_write(c->conduit, c->chan, lane, sp_buf_span(&b));
}

void
sp_call_out(struct sp_call *c, struct sp_span s)
{
	write_lane(c, 1, s);
}

void
sp_call_err(struct sp_call *c, struct sp_span s)
{
	write_lane(c, 2, s);
}

void
sp_call_say(struct sp_call *c, const char *fmt, ...)
{
	char t[8192];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(t, sizeof(t), fmt, ap);
	va_end(ap);
	sp_call_out(c, sp_span_str(t));
}

void
sp_call_list(struct sp_call *c, const struct sp_list *l, const char *none)
{
	SP_BUF_AUTO b = {.max = OUT_MAX};

	if (sp_list_print(l, &c->style, none, &b) == SP_OK)
		sp_call_out(c, sp_buf_span(&b));
	else
		sp_call_err(c, sp_span_str("too much to show: narrow it down\n"));
}

void
sp_call_json(struct sp_call *c, json_object *o)
{
	SP_BUF_AUTO b = {.max = OUT_MAX};

	if (sp_json_print(o, false, &b) == SP_OK)
		sp_call_out(c, sp_buf_span(&b));
	json_object_put(o);
}

/* ------------------------------------------------------------------ ending */

static void
call_free(struct sp_call *c)
{
	for (size_t i = 0; i < SP_CALL_ROWS; i++)
		if (c->rows[i] != NULL)
			sp_rows_free(c->rows[i]);
	if (c->free_state != NULL)
		c->free_state(c->state);
	sp_buf_fini(&c->input);
	free(c->block);
	free(c);
}

void
sp_call_end(struct sp_call *c, uint8_t exit_code)
{
	if (c->conduit != NULL)
		sp_conduit_finish(c->conduit, c->chan, exit_code);
	else if (c->stream != NULL)
		c->stream(c->stream_arg, -1, exit_code, "");
	c->conduit = NULL;
	c->stream = NULL;
	call_free(c);
}

void
sp_call_handover(struct sp_call *c)
{
	SP_ASSERT(c->conduit != NULL);
	sp_conduit_handover(c->conduit, c->chan);
	c->conduit = NULL;
	call_free(c);
}

void
sp_call_fail(struct sp_call *c, uint8_t exit_code, const char *fmt, ...)
{
	char t[2000], line[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(t, sizeof(t), fmt, ap);
	va_end(ap);
	snprintf(line, sizeof(line), "sallyport: %s\n", t);
	if (c->conduit != NULL) {
		sp_call_err(c, sp_span_str(line));
	} else if (c->stream != NULL) {
		c->stream(c->stream_arg, -1, exit_code, line);
		c->stream = NULL;
	}
	sp_call_end(c, exit_code);
}

void
sp_call_fail_err(struct sp_call *c, enum sp_err e, const char *what)
{
	const char *why = sp_err_text(e), *next = "";
	uint8_t code = SP_EXIT_REFUSED;

	switch ((int)e) {
	case SP_ERR_DB:
	case SP_ERR_TIMEOUT:
		why = "the database does not answer";
		next = "; try again, and if it stays: sallyport doctor";
		code = SP_EXIT_LATER;
		break;
	case SP_ERR_SEALED:
	case SP_ERR_EOF:
		why = "the vault is sealed or away";
		next = "; on the host: sallyport vault unseal";
		code = SP_EXIT_LATER;
		break;
	case SP_ERR_STATE:
		why = "somebody else changed it just now";
		next = "; look again and repeat";
		code = SP_EXIT_LATER;
		break;
	case SP_ERR_EXISTS:
		why = "it exists already";
		break;
	case SP_ERR_DENIED:
		why = "the database refused it";
		next = "; what is named in evidence stays. target "
		    "disable and users disable shut it at once";
		break;
	default:
		break;
	}
	sp_call_fail(c, code, "%s: %s%s", what, why, next);
}

void
sp_call_did(struct sp_call *c, const char *id, const char *state,
    const char *fmt, ...)
{
	char t[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(t, sizeof(t), fmt, ap);
	va_end(ap);
	for (size_t n = strlen(t); n > 0 && t[n - 1] == '\n'; n--)
		t[n - 1] = '\0';
	if (c->style.json) {
		json_object *o = json_object_new_object();
		uint64_t n;

		json_object_object_add(o, "id", sp_u64_parse(sp_span_str(id),
		    INT64_MAX, &n) == SP_OK ? json_object_new_int64((int64_t)n) :
		    sp_json_text(id));
		json_object_object_add(o, "state", sp_json_text(state));
		json_object_object_add(o, "text", sp_json_text(t));
		sp_call_json(c, o);
	} else {
		sp_call_say(c, "%s\n", t);
	}
	sp_call_end(c, SP_EXIT_OK);
}

void
sp_call_end_list(struct sp_call *c, struct sp_list *l, const char *none)
{
	sp_call_list(c, l, none);
	sp_list_free(l);
	sp_call_end(c, SP_EXIT_OK);
}

/* ----------------------------------------------------------------- loading */

struct load {
	struct sp_call *c;
	size_t at;
};

static void
loaded(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct load *l = arg;
	struct sp_call *c = l->c;
	size_t at = l->at;

	free(l);
	if (e != SP_OK)
		c->load_err = e;
	else
		c->rows[at] = sp_rows_ref(rows);
	if (--c->loading > 0)
		return;
	if (c->load_err != SP_OK)
		sp_call_fail_err(c, c->load_err, "cannot read");
	else
		c->then(c);
}

void
sp_call_load(struct sp_call *c, size_t at, const struct sp_need *needs,
    size_t n, void (*then)(struct sp_call *c))
{
	struct sp_store *s = c->b->store;

	SP_ASSERT(at + n <= SP_CALL_ROWS && n > 0);
	for (size_t i = at; i < SP_CALL_ROWS; i++) {
		if (c->rows[i] != NULL)
			sp_rows_free(c->rows[i]);
		c->rows[i] = NULL;
	}
	c->loading = n;
	c->load_err = SP_OK;
	c->then = then;
	for (size_t i = 0; i < n; i++) {
		struct load *l = calloc(1, sizeof(*l));

		SP_ASSERT(l != NULL);
		*l = (struct load){.c = c, .at = at + i};
		if (needs[i].sql != NULL)
			sp_store_query(s, needs[i].sql, needs[i].p, needs[i].n,
			    loaded, l);
		else
			sp_store_load(s, needs[i].t, needs[i].where, needs[i].p,
			    needs[i].n, loaded, l);
	}
}

size_t
sp_rows_find(const struct sp_rows *r, const char *col, const char *value)
{
	for (size_t i = 0; r != NULL && value != NULL && i < sp_rows_n(r); i++) {
		const char *v = sp_rows_get(r, i, col);

		if (v != NULL && strcmp(v, value) == 0)
			return i;
	}
	return SIZE_MAX;
}

const char *
sp_rows_name(const struct sp_rows *r, const char *id, const char *col)
{
	size_t i = sp_rows_find(r, "id", id);
	const char *v = i == SIZE_MAX ? NULL : sp_rows_get(r, i, col);

	return v != NULL ? v : "?";
}

struct commit {
	struct sp_call *c;
	char what[160];
	void (*then)(struct sp_call *c);
};

static void
committed(void *arg, enum sp_err e)
{
	struct commit *k = arg;

	if (e != SP_OK)
		sp_call_fail_err(k->c, e, k->what);
	else
		k->then(k->c);
	free(k);
}

void
sp_call_commit(struct sp_call *c, struct sp_change *ch, const char *what,
    void (*then)(struct sp_call *c))
{
	struct commit *k = calloc(1, sizeof(*k));

	SP_ASSERT(k != NULL);
	k->c = c;
	k->then = then;
	snprintf(k->what, sizeof(k->what), "%s", what);
	sp_change_commit(ch, committed, k);
}

char *
sp_call_detail(const char *name, ...)
{
	json_object *o = json_object_new_object();
	char *text;
	va_list ap;

	va_start(ap, name);
	for (; name != NULL; name = va_arg(ap, const char *))
		json_object_object_add(o, name,
		    sp_json_text(va_arg(ap, const char *)));
	va_end(ap);
	text = strdup(json_object_to_json_string_ext(o,
	    JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	SP_ASSERT(text != NULL);
	json_object_put(o);
	return text;
}

void
sp_sha256_text(char t[static 65], struct sp_span s)
{
	uint8_t h[crypto_hash_sha256_BYTES];

	crypto_hash_sha256(h, s.p, s.n);
	sp_hex(t, h, sizeof(h));
}
