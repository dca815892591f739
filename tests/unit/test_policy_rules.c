/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of two decisions cut by one another, their text, and wishes. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "common/text.h"
#include "policy/policy.h"
#include "policy/rules.h"

#define TRIES 20000

static const char *const places[] = {"db-01:5432", "DB-01:5000-6000", "*:443",
    "*:*", "10.0.0.0/8:22", "10.1.0.0/16:1-1000", "10.1.2.3:22", "[::1]:80",
    "[::/0]:*", "[0:0::1]:1-99", "localhost:8080", "0.0.0.0/0:*"};
static const char *const hosts[] = {"db-01", "localhost", "10.1.2.3",
    "10.2.0.1", "192.0.2.1", "::1", "fd00::2", "other"};
static const char *const patterns[] = {"/srv/**", "/srv/a/*", "**", "/etc/*",
    "/srv/a/b"};
static const char *const paths[] = {"/srv/a/b", "/srv/x", "/etc/passwd", "/",
    "broken", "/srv/a/b/c"};
static const char *const variables[] = {"LANG", "LC_*", "LC_ALL", "*", "L*"};
static const char *const env[] = {"LANG", "LC_ALL", "LC_X", "LX", "PATH"};
#define N(a) (sizeof(a) / sizeof((a)[0]))

static uint64_t state = 88172645463325252ULL;

static size_t
pick(size_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (size_t)((state >> 11) % below);
}

static void
make(struct sp_rules *r)
{
	memset(r, 0, sizeof(*r));
	r->rights = (uint32_t)pick(SP_RIGHT_ALL + 1);
	r->file_body = (uint8_t)pick(2);
	r->exec_body = (uint8_t)pick(2);
	r->hold = (uint8_t)pick(4);
	r->idle_s = (uint32_t)(pick(2) * pick(9000));
	r->file_max = pick(2) * pick(1 << 20);
	r->session_max = pick(2) * (pick(9) << 30);
	r->n_forward = (uint16_t)pick(4);
	r->n_listen = (uint16_t)pick(3);
	for (size_t i = 0; i < 4; i++) {
		cr_assert(sp_place_parse(places[pick(N(places))], &r->forward[i]));
		cr_assert(sp_place_parse(places[pick(N(places))], &r->listen[i]));
	}
	r->n_path = (uint16_t)(pick(2) * pick(4));
	for (size_t i = 0; i < r->n_path; i++) {
		r->path[i].forbid = pick(2) == 1;
		r->path[i].ops = (uint32_t)(1 + pick(3)) * SP_RIGHT_UPLOAD;
		snprintf(r->path[i].pattern, sizeof(r->path[i].pattern), "%s",
		    patterns[pick(N(patterns))]);
	}
	r->n_env = (uint16_t)pick(4);
	for (size_t i = 0; i < r->n_env; i++)
		snprintf(r->env[i], sizeof(r->env[i]), "%s",
		    variables[pick(N(variables))]);
}

static bool
reach(const struct sp_rules *r, bool listen, const char *host, uint32_t port)
{
	uint32_t bit = listen ? SP_RIGHT_LISTEN : SP_RIGHT_FORWARD;

	return (r->rights & bit) != 0 && sp_rules_reach(listen ? r->listen :
	    r->forward, listen ? r->n_listen : r->n_forward, sp_span_str(host), port);
}

static bool
may(const struct sp_rules *r, uint32_t op, const char *path)
{
	char why[400];

	return sp_rules_path(r, op, sp_span_str(path), why, sizeof(why));
}

static void
check_places(const struct sp_rules *m, const struct sp_rules *a,
    const struct sp_rules *b)
{
	static const uint32_t ports[] = {0, 22, 80, 443, 999, 5432, 8080, 65535};

	for (size_t h = 0; h < N(hosts); h++)
		for (size_t p = 0; p < N(ports); p++)
			for (int l = 0; l < 2; l++)
				cr_assert_eq(reach(m, l == 1, hosts[h], ports[p]),
				    reach(a, l == 1, hosts[h], ports[p]) &&
				    reach(b, l == 1, hosts[h], ports[p]), "%s:%u",
				    hosts[h], ports[p]);
}

static bool
same(const struct sp_rules *a, const struct sp_rules *b)
{
	SP_BUF_AUTO x = {.max = SP_RULES_ENCODED_MAX};
	SP_BUF_AUTO y = {.max = SP_RULES_ENCODED_MAX};

	cr_assert_eq(sp_rules_encode(&x, a), SP_OK);
	cr_assert_eq(sp_rules_encode(&y, b), SP_OK);
	return sp_span_eq(sp_buf_span(&x), sp_buf_span(&y));
}

/* What the policy can say: a right to forward has places. */
static void
settle(struct sp_rules *r)
{
	if (r->n_forward == 0)
		r->rights &= ~(uint32_t)SP_RIGHT_FORWARD;
	if (r->n_listen == 0)
		r->rights &= ~(uint32_t)SP_RIGHT_LISTEN;
}

static bool
within(const struct sp_rules *a, const struct sp_rules *b)
{
	SP_BUF_AUTO x = {.max = SP_RULES_ENCODED_MAX};
	SP_BUF_AUTO y = {.max = SP_RULES_ENCODED_MAX};

	cr_assert_eq(sp_rules_encode(&x, a), SP_OK);
	cr_assert_eq(sp_rules_encode(&y, b), SP_OK);
	return sp_rules_is_within(sp_buf_span(&x), sp_buf_span(&y));
}

Test(policy_rules, a_meeting_permits_what_both_permit, .timeout = 120)
{
	static struct sp_rules a, b, m, again;

	for (int t = 0; t < TRIES; t++) {
		make(&a);
		make(&b);
		sp_rules_meet(&m, &a, &b);
		cr_assert_eq(m.rights & ~(a.rights & b.rights), 0);
		cr_assert_eq((a.rights & b.rights & ~m.rights) &
		    (SP_RIGHT_SHELL | SP_RIGHT_EXEC | SP_RIGHT_SUBSYSTEM), 0);
		check_places(&m, &a, &b);
		for (size_t p = 0; p < N(paths); p++)
			for (uint32_t op = SP_RIGHT_UPLOAD; op <= SP_RIGHT_DOWNLOAD;
			    op <<= 1)
				cr_assert(!may(&m, op, paths[p]) ||
				    (may(&a, op, paths[p]) && may(&b, op, paths[p])),
				    "%s %u", paths[p], op);
		for (size_t i = 0; i < N(env); i++)
			cr_assert_eq(sp_rules_env(&m, sp_span_str(env[i])),
			    sp_rules_env(&a, sp_span_str(env[i])) &&
			    sp_rules_env(&b, sp_span_str(env[i])), "%s", env[i]);
		cr_assert(m.file_body == SP_BODY_FULL ||
		    (a.file_body == SP_BODY_DIGEST && b.file_body == SP_BODY_DIGEST));
		cr_assert(a.idle_s == 0 || (m.idle_s != 0 && m.idle_s <= a.idle_s));
		cr_assert_eq(m.hold, a.hold | b.hold);
		cr_assert(b.file_max == 0 ||
		    (m.file_max != 0 && m.file_max <= b.file_max));
		/* What was cut once is not cut again by the same. */
		sp_rules_meet(&again, &m, &b);
		cr_assert(same(&again, &m));
		sp_rules_meet(&again, &m, &a);
		cr_assert(same(&again, &m));
	}
}

Test(policy_rules, a_set_that_permits_more_changes_nothing)
{
	static struct sp_rules a, more, m;
	char why[200];
	SP_BUF_AUTO all = {.max = 4096};

	cr_assert(sp_rules_wish("shell,exec,upload,download,subsystem,forward,listen,sql",
	    &all, why, sizeof(why)), "%s", why);
	for (int t = 0; t < TRIES; t++) {
		cr_assert_eq(sp_rules_decode(sp_buf_span(&all), &more), SP_OK);
		make(&a);
		settle(&a);
		cr_assert(within(&a, &more));
		cr_assert(within(&a, &a));
		make(&more);
		sp_rules_meet(&m, &a, &more);
		cr_assert(within(&m, &more) && within(&m, &a));
		/* Each of these narrows what a may. */
		if (a.n_env > 0) {
			m = a;
			m.n_env = 0;
			cr_assert(!within(&a, &m) && within(&m, &a));
		}
		if (a.rights != 0) {
			m = a;
			m.rights &= m.rights - 1;
			cr_assert(!within(&a, &m) && within(&m, &a));
		}
		m = a;
		m.idle_s = a.idle_s == 0 ? 9 : a.idle_s - 1;
		cr_assert(a.idle_s == 1 || !within(&a, &m));
		m = a;
		m.file_body = SP_BODY_FULL;
		cr_assert_eq(within(&a, &m), a.file_body == SP_BODY_FULL);
		m = a;
		m.hold = SP_HOLD_ALL;
		cr_assert_eq(within(&a, &m), a.hold == SP_HOLD_ALL);
	}
}

/* The text is the policy's own language: it parses to the same rules. */
Test(policy_rules, the_text_means_what_it_was_made_from)
{
	static struct sp_rules r, back;

	for (int t = 0; t < 3000; t++) {
		SP_BUF_AUTO text = {.max = 65536};
		SP_BUF_AUTO all = {.max = 65536};
		struct sp_policy *p = NULL;
		struct sp_policy_diag d;

		make(&r);
		settle(&r);
		if (r.rights == 0)
			continue;
		if ((r.rights & SP_RIGHT_FORWARD) == 0)
			r.n_forward = 0;
		if ((r.rights & SP_RIGHT_LISTEN) == 0)
			r.n_listen = 0;
		cr_assert_eq(sp_rules_text(&text, &r), SP_OK);
		for (size_t i = 0; i < text.len; i++)
			if (text.p[text.off + i] == ';')
				text.p[text.off + i] = ' ';
		cr_assert_eq(sp_buf_printf(&all, "permit \"x\" who anyone on any as "
		    "any allow %.*s", (int)text.len, text.p + text.off), SP_OK);
		cr_assert_eq(sp_policy_parse(sp_buf_span(&all), &p, &d), SP_OK,
		    "%s: %.*s", d.text, (int)all.len, all.p + all.off);
		cr_assert_eq(sp_rules_decode(sp_policy_rules(p, "x"), &back), SP_OK);
		cr_assert(same(&r, &back), "%.*s", (int)all.len, all.p + all.off);
		cr_assert_eq(sp_policy_rules(p, "y").n, 0);
		sp_policy_free(p);
	}
}

Test(policy_rules, wishes)
{
	static struct sp_rules r;
	static const char *const wrong[] = {"", "shell,", "agent", "shell upload",
	    "Shell", "shell=1", "forward=db", "forward=", "env", "\x1b[2J"};
	char why[200];

	for (size_t i = 0; i < N(wrong); i++) {
		SP_BUF_AUTO b = {.max = 4096};

		cr_assert(!sp_rules_wish(wrong[i], &b, why, sizeof(why)), "%s",
		    wrong[i]);
		cr_assert_null(strchr(why, 0x1b));
	}
	SP_BUF_AUTO b = {.max = 4096};
	cr_assert(sp_rules_wish(" shell , forward=db-01:5432,forward=[::1]:80", &b,
	    why, sizeof(why)));
	cr_assert_eq(sp_rules_decode(sp_buf_span(&b), &r), SP_OK);
	cr_assert_eq(r.rights, SP_RIGHT_SHELL | SP_RIGHT_FORWARD);
	cr_assert_eq(r.n_forward, 2);
}

Test(policy_rules, encoded_ones_and_their_bounds)
{
	static struct sp_rules r;
	SP_BUF_AUTO a = {.max = SP_RULES_ENCODED_MAX};
	uint8_t out[4096];
	size_t n = 0;
	char text[64];

	make(&r);
	cr_assert_eq(sp_rules_encode(&a, &r), SP_OK);
	cr_assert_eq(sp_rules_meet_encoded(sp_buf_span(&a), sp_span_str("x"), out,
	    sizeof(out), &n), SP_ERR_PROTO);
	cr_assert_eq(sp_rules_meet_encoded(sp_buf_span(&a), sp_buf_span(&a), out,
	    10, &n), SP_ERR_TOOBIG);
	cr_assert_eq(n, 0);
	cr_assert_eq(sp_rules_meet_encoded(sp_buf_span(&a), sp_buf_span(&a), out,
	    sizeof(out), &n), SP_OK);
	cr_assert_gt(n, 33);
	cr_assert_str_eq(sp_rules_show(text, sizeof(text), sp_span_str("no")), "");
}
