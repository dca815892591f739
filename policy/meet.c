/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/text.h"
#include "policy/rules.h"

static uint64_t
smaller_limit(uint64_t a, uint64_t b)
{
	return a == 0 ? b : b == 0 || a < b ? a : b;
}

/* ------------------------------------------------------------------ places */

static uint64_t
bits_of(const char *network)
{
	const char *slash = strchr(network, '/');
	uint64_t bits;

	return slash == NULL || sp_u64_parse(sp_span_str(slash + 1), 128, &bits) !=
	    SP_OK ? UINT64_MAX : bits;
}

/* Is every host that b means one that a means? */
static bool
host_covers(const char *a, const char *b)
{
	struct sp_rule_forward rule = {.high = UINT16_MAX};
	size_t n = strcspn(b, "/");

	if (strcmp(a, "*") == 0 || strcasecmp(a, b) == 0)
		return true;
	if (strcmp(b, "*") == 0 || bits_of(a) > bits_of(b))
		return false;
	memcpy(rule.host, a, strlen(a) + 1);
	return sp_rules_reach(&rule, 1, sp_span_of(b, n), 1) &&
	    (b[n] == '\0' || strchr(a, '/') != NULL);
}

static bool
place_covers(const struct sp_rule_forward *a, const struct sp_rule_forward *b)
{
	return a->low <= b->low && a->high >= b->high &&
	    host_covers(a->host, b->host);
}

static bool
place_meet(struct sp_rule_forward *out, const struct sp_rule_forward *a,
    const struct sp_rule_forward *b)
{
	if (host_covers(b->host, a->host))
		*out = *a;
	else if (host_covers(a->host, b->host))
		*out = *b;
	else
		return false;
	out->low = a->low > b->low ? a->low : b->low;
	out->high = a->high < b->high ? a->high : b->high;
	return out->low <= out->high;
}

/* What does not fit is left out: that only narrows. */
static uint16_t
places_meet(struct sp_rule_forward *out, const struct sp_rule_forward *a,
    uint16_t n_a, const struct sp_rule_forward *b, uint16_t n_b)
{
	uint16_t n = 0;

	for (size_t i = 0; i < n_a && n < SP_RULES_FORWARDS; i++) {
		bool whole = false;

		for (size_t k = 0; k < n_b && !whole; k++)
			whole = place_covers(&b[k], &a[i]);
		if (whole) {
			out[n++] = a[i];
			continue;
		}
		for (size_t k = 0; k < n_b && n < SP_RULES_FORWARDS; k++)
			n = (uint16_t)(n + place_meet(&out[n], &a[i], &b[k]));
	}
	return n;
}

/* ------------------------------------------------------------------- paths */

static bool
has_permit(const struct sp_rules *r, uint32_t op)
{
	for (size_t i = 0; i < r->n_path; i++)
		if (!r->path[i].forbid && (r->path[i].ops & op) != 0)
			return true;
	return false;
}

/* Which of ops does r have this very pattern for? */
static uint32_t
same_pattern(const struct sp_rules *r, const struct sp_rule_path *p)
{
	uint32_t ops = 0;

	for (size_t i = 0; i < r->n_path; i++)
		if (r->path[i].forbid == p->forbid &&
		    strcmp(r->path[i].pattern, p->pattern) == 0)
			ops |= r->path[i].ops & p->ops;
	return ops;
}

/* Which of the operations of a permit of r stand, beside other? */
static uint32_t
permit_ops(const struct sp_rule_path *p, const struct sp_rules *other)
{
	uint32_t ops = same_pattern(other, p);

	for (uint32_t op = SP_RIGHT_UPLOAD; op <= SP_RIGHT_DOWNLOAD; op <<= 1)
		if ((p->ops & op) != 0 && !has_permit(other, op))
			ops |= op;
	return ops;
}

static void
put_path(struct sp_rules *out, const struct sp_rule_path *p, uint32_t ops)
{
	if (ops == 0)
		return;
	if (out->n_path == SP_RULES_PATHS) {
		/* No room for a pattern that narrows: the operation goes. */
		out->rights &= ~ops;
		return;
	}
	out->path[out->n_path] = *p;
	out->path[out->n_path++].ops = ops;
}

/* Patterns for what is not permitted anyway say nothing. */
static void
forget_paths(struct sp_rules *r)
{
	uint16_t n = 0;

	for (size_t i = 0; i < r->n_path; i++)
		if ((r->path[i].ops & r->rights) != 0) {
			r->path[n] = r->path[i];
			r->path[n++].ops &= r->rights;
		}
	r->n_path = n;
}

static void
paths_meet(struct sp_rules *out, const struct sp_rules *a,
    const struct sp_rules *b)
{
	for (size_t i = 0; i < a->n_path; i++)
		put_path(out, &a->path[i], a->path[i].forbid ? a->path[i].ops :
		    permit_ops(&a->path[i], b));
	for (size_t i = 0; i < b->n_path; i++) {
		const struct sp_rule_path *p = &b->path[i];
		uint32_t there = same_pattern(a, p);

		put_path(out, p, (p->forbid ? p->ops : permit_ops(p, a)) & ~there);
	}
	/* Permits on both sides and none in common: nothing may pass. */
	for (uint32_t op = SP_RIGHT_UPLOAD; op <= SP_RIGHT_DOWNLOAD; op <<= 1)
		if ((has_permit(a, op) || has_permit(b, op)) && !has_permit(out, op))
			out->rights &= ~op;
	forget_paths(out);
}

/* ------------------------------------------------------------------- names */

static bool
env_covers(const char *a, const char *b)
{
	size_t n = strlen(a);

	if (n > 0 && a[n - 1] == '*')
		return strncmp(a, b, n - 1) == 0;
	return strcmp(a, b) == 0;
}

static void
env_put(struct sp_rules *out, const char *name)
{
	if (out->n_env < SP_RULES_ENV)
		memcpy(out->env[out->n_env++], name, strlen(name) + 1);
}

static void
env_meet(struct sp_rules *out, const struct sp_rules *a,
    const struct sp_rules *b)
{
	for (size_t i = 0; i < a->n_env; i++) {
		bool whole = false;

		for (size_t k = 0; k < b->n_env && !whole; k++)
			whole = env_covers(b->env[k], a->env[i]);
		if (whole) {
			env_put(out, a->env[i]);
			continue;
		}
		for (size_t k = 0; k < b->n_env; k++)
			if (env_covers(a->env[i], b->env[k]))
				env_put(out, b->env[k]);
	}
}

void
sp_rules_meet(struct sp_rules *out, const struct sp_rules *a,
    const struct sp_rules *b)
{
	memset(out, 0, offsetof(struct sp_rules, forward));
	out->rights = a->rights & b->rights;
	out->file_body = a->file_body == SP_BODY_FULL ? SP_BODY_FULL : b->file_body;
	out->exec_body = a->exec_body == SP_BODY_FULL ? SP_BODY_FULL : b->exec_body;
	out->hold = a->hold | b->hold;
	out->idle_s = (uint32_t)smaller_limit(a->idle_s, b->idle_s);
	out->file_max = smaller_limit(a->file_max, b->file_max);
	out->session_max = smaller_limit(a->session_max, b->session_max);
	out->n_forward = places_meet(out->forward, a->forward, a->n_forward,
	    b->forward, b->n_forward);
	out->n_listen = places_meet(out->listen, a->listen, a->n_listen, b->listen,
	    b->n_listen);
	if (out->n_forward == 0)
		out->rights &= ~(uint32_t)SP_RIGHT_FORWARD;
	if (out->n_listen == 0)
		out->rights &= ~(uint32_t)SP_RIGHT_LISTEN;
	paths_meet(out, a, b);
	env_meet(out, a, b);
}

bool
sp_rules_is_within(struct sp_span a, struct sp_span b)
{
	static uint8_t both[SP_RULES_ENCODED_MAX], own[SP_RULES_ENCODED_MAX];
	size_t n_both, n_own;

	return sp_rules_meet_encoded(a, b, both, sizeof(both), &n_both) == SP_OK &&
	    sp_rules_meet_encoded(a, a, own, sizeof(own), &n_own) == SP_OK &&
	    sp_span_eq(sp_span_of(both, n_both), sp_span_of(own, n_own));
}

enum sp_err
sp_rules_meet_encoded(struct sp_span a, struct sp_span b, uint8_t *out,
    size_t cap, size_t *n)
{
	struct sp_rules *r = calloc(3, sizeof(*r));
	SP_BUF_AUTO t = {.max = cap};
	enum sp_err e = r == NULL ? SP_ERR_NOMEM : sp_rules_decode(a, &r[0]);

	if (e == SP_OK)
		e = sp_rules_decode(b, &r[1]);
	if (e == SP_OK) {
		sp_rules_meet(&r[2], &r[0], &r[1]);
		e = sp_rules_encode(&t, &r[2]);
	}
	free(r);
	if (e != SP_OK)
		return e;
	memcpy(out, t.p + t.off, t.len);
	*n = t.len;
	return SP_OK;
}
