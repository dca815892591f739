/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "common/rules.h"
#include "common/text.h"

#define UP SP_RIGHT_UPLOAD
#define DOWN SP_RIGHT_DOWNLOAD

static struct sp_span
span(const char *s)
{
	return sp_span_str(s);
}

static void
add_path(struct sp_rules *r, bool forbid, uint32_t ops, const char *pattern)
{
	struct sp_rule_path *p = &r->path[r->n_path++];

	p->forbid = forbid;
	p->ops = ops;
	snprintf(p->pattern, sizeof(p->pattern), "%s", pattern);
}

static void
add_forward(struct sp_rules *r, const char *host, uint16_t low, uint16_t high)
{
	struct sp_rule_forward *f = &r->forward[r->n_forward++];

	snprintf(f->host, sizeof(f->host), "%s", host);
	f->low = low;
	f->high = high;
}

static bool
may(const struct sp_rules *r, uint32_t op, const char *path)
{
	char why[400] = "";
	bool ok = sp_rules_path(r, op, span(path), why, sizeof(why));

	cr_assert(ok || why[0] != '\0');
	return ok;
}

static void
full(struct sp_rules *r)
{
	*r = (struct sp_rules){.rights = SP_RIGHT_ALL, .file_body = SP_BODY_DIGEST,
	    .idle_s = 900, .file_max = 10u << 20, .session_max = 1u << 30};
	for (int i = 0; i < SP_RULES_FORWARDS; i++)
		add_forward(r, "db-01", (uint16_t)i, 65535);
	memcpy(r->listen, r->forward, sizeof(r->listen));
	r->n_listen = r->n_forward;
	for (int i = 0; i < SP_RULES_PATHS; i++)
		add_path(r, i % 2 == 1, UP | DOWN, "/srv/**");
	for (r->n_env = 0; r->n_env < SP_RULES_ENV; r->n_env++)
		snprintf(r->env[r->n_env], sizeof(r->env[0]), "LC_%u*", r->n_env);
}

Test(rules, what_is_encoded_comes_back)
{
	SP_BUF_AUTO b = {.max = SP_RULES_ENCODED_MAX};
	static struct sp_rules r, back;

	full(&r);
	cr_assert_eq(sp_rules_encode(&b, &r), SP_OK);
	cr_assert_eq(sp_rules_decode(sp_buf_span(&b), &back), SP_OK);
	cr_assert_eq(memcmp(&r, &back, sizeof(r)), 0);
	for (size_t n = 0; n < b.len; n++)
		cr_assert_eq(sp_rules_decode(sp_span_of(b.p, n), &back),
		    SP_ERR_PROTO);
	cr_assert_eq(back.rights, 0);
	cr_assert_eq(sp_buf_put_u8(&b, 0), SP_OK);
	cr_assert_eq(sp_rules_decode(sp_buf_span(&b), &back), SP_ERR_PROTO,
	    "trailing bytes");
}

Test(rules, the_largest_fits_its_bound)
{
	SP_BUF_AUTO b = {.max = SP_RULES_ENCODED_MAX};
	static struct sp_rules r;

	full(&r);
	for (int i = 0; i < SP_RULES_FORWARDS; i++)
		memset(r.forward[i].host, 'h', SP_RULES_HOST_MAX);
	memcpy(r.listen, r.forward, sizeof(r.listen));
	for (int i = 0; i < SP_RULES_PATHS; i++)
		memset(r.path[i].pattern, '/', SP_RULES_PATTERN_MAX);
	for (int i = 0; i < SP_RULES_ENV; i++)
		memset(r.env[i], 'E', sizeof(r.env[i]) - 1);
	cr_assert_eq(sp_rules_encode(&b, &r), SP_OK);
}

static void
refused(const struct sp_rules *r, const char *what)
{
	SP_BUF_AUTO b = {.max = SP_RULES_ENCODED_MAX};

	cr_assert_eq(sp_rules_encode(&b, r), SP_ERR_INVAL, "%s", what);
}

Test(rules, encode_refuses_what_decode_would)
{
	static struct sp_rules r;

	r = (struct sp_rules){.rights = SP_RIGHT_ROTATE << 1};
	refused(&r, "a bit");
	r = (struct sp_rules){.file_body = 2};
	refused(&r, "a kind of body");
	r = (struct sp_rules){.exec_body = 2};
	refused(&r, "a kind of body");
	r = (struct sp_rules){.n_env = 17};
	refused(&r, "too many");
	r = (struct sp_rules){.n_forward = 1};
	refused(&r, "no host");
	r.n_forward = 0;
	add_forward(&r, "a", 2, 1);
	refused(&r, "ports the wrong way round");
	r.n_forward = 0;
	add_forward(&r, "a b", 1, 2);
	refused(&r, "a blank in a host");
	r = (struct sp_rules){0};
	add_path(&r, false, 0, "/x");
	refused(&r, "no operation");
	r.path[0].ops = SP_RIGHT_SHELL;
	refused(&r, "not an operation on a path");
	r.path[0].ops = UP;
	snprintf(r.path[0].pattern, sizeof(r.path[0].pattern), "srv/x");
	refused(&r, "could match nothing");
	snprintf(r.path[0].pattern, sizeof(r.path[0].pattern), "/s\x1b");
	refused(&r, "a control character");
	r = (struct sp_rules){.n_env = 1};
	refused(&r, "no name");
	snprintf(r.env[0], sizeof(r.env[0]), "L*C");
	refused(&r, "a star in the middle");
	snprintf(r.env[0], sizeof(r.env[0]), "1A");
	refused(&r, "a digit in front");
}

Test(rules, decode_refuses_unknown_bits_and_long_lists)
{
	SP_BUF_AUTO b = {.max = SP_RULES_ENCODED_MAX};
	struct sp_rules *r = calloc(1, sizeof(*r));

	cr_assert_eq(sp_rules_encode(&b, r), SP_OK);
	cr_assert_eq(b.len, 34);
	/* All bits of the first byte are rights by now. */
	for (size_t at = 1; at < 6; at++) {
		uint8_t was = b.p[at];

		b.p[at] = 0x80;
		cr_assert_eq(sp_rules_decode(sp_buf_span(&b), r), SP_ERR_PROTO);
		b.p[at] = was;
	}
	for (size_t at = 26; at < 34; at++) {
		b.p[at] = 0xff;
		cr_assert_eq(sp_rules_decode(sp_buf_span(&b), r), SP_ERR_PROTO);
		b.p[at] = 0;
	}
	cr_assert_eq(sp_rules_decode(sp_buf_span(&b), r), SP_OK);
	free(r);
}

Test(rules, nothing_is_permitted_by_zeros)
{
	static const struct sp_rules none;
	char why[80];

	cr_assert(!sp_rules_path(&none, UP, span("/x"), why, sizeof(why)));
	cr_assert_str_eq(why, "upload is not permitted in this session");
	cr_assert(!sp_rules_path(&none, DOWN, span("/x"), why, sizeof(why)));
	cr_assert(!sp_rules_reach(none.forward, none.n_forward, span("a"), 1));
	cr_assert(!sp_rules_env(&none, span("LANG")));
}

Test(rules, without_patterns_the_right_alone_decides)
{
	static const struct sp_rules r = {.rights = UP};

	cr_assert(may(&r, UP, "/any/where"));
	cr_assert(may(&r, UP, "/"));
	cr_assert(!may(&r, DOWN, "/any/where"));
	cr_assert(may(&r, UP, "not/clean"), "there is no pattern to compare");
	cr_assert(!may(&r, UP | DOWN, "/x"), "one operation at a time");
	cr_assert(!may(&r, SP_RIGHT_SHELL, "/x"));
}

Test(rules, patterns)
{
	static const struct {
		const char *pattern, *path;
		bool match;
	} t[] = {
	    {"/srv/*", "/srv/a", true}, {"/srv/*", "/srv/a/b", false},
	    {"/srv/*", "/srv", false}, {"/srv/**", "/srv/a/b", true},
	    {"/srv/**", "/srv", false}, {"/srv**", "/srv", true},
	    {"/srv**", "/srvx/y", true}, {"**", "/", true}, {"**", "/a/b", true},
	    {"*", "/a", false}, {"/*", "/", true}, {"/*/x", "/a/x", true},
	    {"/*/x", "/a/b/x", false}, {"/**/x", "/a/b/x", true},
	    {"/**/x", "/x", false}, {"/**x", "/x", true},
	    {"**.sql", "/a/b/c.sql", true}, {"**.sql", "/a/b/c.sqlx", false},
	    {"/a?c", "/abc", true}, {"/a?c", "/a/c", false},
	    {"/a?c", "/a核c", true}, {"/a??c", "/a核c", false},
	    {"/a??c", "/a核心c", true}, {"/核*", "/核心", true},
	    {"/a*b*c", "/axxbyyc", true}, {"/a*b*c", "/axx/byyc", false},
	    {"/a**b*c", "/axx/byyc", true}, {"/a***c", "/a/c", true},
	    {"/a[b]", "/ab", false}, {"/a[b]", "/a[b]", true},
	    {"/a\\*", "/a\\x", true}, {"/A", "/a", false}, {"/a", "/a", true},
	    {"/?", "/\xff", true}, {"/a", "/ab", false}, {"/ab", "/a", false},
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		static struct sp_rules r;

		r = (struct sp_rules){.rights = UP | DOWN};
		add_path(&r, false, UP, t[i].pattern);
		cr_assert_eq(may(&r, UP, t[i].path), t[i].match, "%s on %s",
		    t[i].pattern, t[i].path);
		cr_assert(may(&r, DOWN, t[i].path), "another operation's permit");
		r.path[0].forbid = true;
		cr_assert_eq(may(&r, UP, t[i].path), !t[i].match, "forbid %s on %s",
		    t[i].pattern, t[i].path);
	}
}

Test(rules, a_forbid_wins_whatever_the_order)
{
	static struct sp_rules r = {.rights = UP | DOWN};

	add_path(&r, false, UP | DOWN, "/srv/**");
	add_path(&r, true, UP, "/srv/keep/**");
	add_path(&r, false, UP, "/srv/keep/me");
	cr_assert(may(&r, UP, "/srv/a"));
	cr_assert(!may(&r, UP, "/srv/keep/me"));
	cr_assert(may(&r, DOWN, "/srv/keep/me"));
	cr_assert(!may(&r, UP, "/etc/passwd"));
}

Test(rules, a_path_that_is_not_clean_matches_every_forbid_and_no_permit)
{
	static const char *const paths[] = {"", "a", "./a", "//", "/srv//a",
	    "/srv/./a", "/srv/../a", "/srv/..", "/srv/.", "/srv/a/"};
	static struct sp_rules permit = {.rights = UP};
	static struct sp_rules forbid = {.rights = UP};

	add_path(&permit, false, UP, "**");
	add_path(&forbid, true, UP, "/nowhere");
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		cr_assert(!may(&permit, UP, paths[i]), "%s", paths[i]);
		cr_assert(!may(&forbid, UP, paths[i]), "%s", paths[i]);
	}
	cr_assert(may(&permit, UP, "/srv/.../a.") && may(&forbid, UP, "/..a"));
	cr_assert(!sp_rules_path(&permit, UP, sp_span_of("/a\0b", 4),
	    (char[8]){0}, 8), "a NUL");
}

/* Both come from people: a pattern of stars over a long path is one pass. */
Test(rules, a_hard_pattern_takes_no_time, .timeout = 60)
{
	static struct sp_rules r = {.rights = UP};
	static char path[4097];

	memset(path, 'a', sizeof(path) - 1);
	path[0] = '/';
	add_path(&r, false, UP, "/");
	for (size_t i = 1; i + 2 < SP_RULES_PATTERN_MAX; i += 2)
		memcpy(r.path[0].pattern + i, "*a", 3);
	memcpy(r.path[0].pattern + 250, "**b", 4);
	for (int i = 0; i < 20; i++)
		cr_assert(!may(&r, UP, path));
}

Test(rules, hosts_and_ports)
{
	static struct sp_rules r;
	struct sp_rule_forward *f = r.forward;
	char longest[300];

	add_forward(&r, "db-01", 5432, 5439);
	add_forward(&r, "10.1.0.0/16", 22, 22);
	add_forward(&r, "fd00::/8", 0, 65535);
	add_forward(&r, "::1", 80, 80);
	add_forward(&r, "0.0.0.0/0", 8, 8);
	cr_assert(sp_rules_reach(f, 5, span("DB-01"), 5432));
	cr_assert(sp_rules_reach(f, 5, span("db-01"), 5439));
	cr_assert(!sp_rules_reach(f, 5, span("db-01"), 5440));
	cr_assert(!sp_rules_reach(f, 5, span("db-011"), 5432));
	cr_assert(!sp_rules_reach(f, 5, span("db-01."), 5432));
	cr_assert(!sp_rules_reach(f, 5, span(""), 5432));
	cr_assert(sp_rules_reach(f, 5, span("10.1.255.1"), 22));
	cr_assert(!sp_rules_reach(f, 5, span("10.2.0.1"), 22));
	cr_assert(!sp_rules_reach(f, 5, span("10.1.0.1"), 23));
	cr_assert(!sp_rules_reach(f, 5, span("10.1.1"), 22), "a short form");
	cr_assert(!sp_rules_reach(f, 5, span("10.1.0.1.example"), 22));
	cr_assert(sp_rules_reach(f, 5, span("fd12::3"), 0));
	cr_assert(sp_rules_reach(f, 5, span("0:0::0:1"), 80), "the same address");
	cr_assert(sp_rules_reach(f, 5, span("192.0.2.1"), 8));
	cr_assert(!sp_rules_reach(f, 5, span("name"), 8), "a name is no address");
	cr_assert(!sp_rules_reach(f, 5, sp_span_of("db-01\0x", 7), 5432));
	cr_assert(!sp_rules_reach(f, 5, span("fd12::3"), 65536));
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	add_forward(&r, "*", 443, 443);
	cr_assert(sp_rules_reach(f, 6, span("anything"), 443));
	cr_assert(!sp_rules_reach(f, 6, span(longest), 443));
	cr_assert(!sp_rules_reach(f, 5, span("anything"), 443));
	add_forward(&r, "10.0.0.0/33", 1, 1);
	add_forward(&r, "name/8", 1, 1);
	add_forward(&r, "10.0.0.0/", 1, 1);
	cr_assert(!sp_rules_reach(f, 9, span("10.0.0.0"), 1), "no networks");
}

Test(rules, environment)
{
	static struct sp_rules r = {.n_env = 2};

	snprintf(r.env[0], sizeof(r.env[0]), "LANG");
	snprintf(r.env[1], sizeof(r.env[1]), "LC_*");
	cr_assert(sp_rules_env(&r, span("LANG")));
	cr_assert(sp_rules_env(&r, span("LC_ALL")) && sp_rules_env(&r, span("LC_")));
	cr_assert(!sp_rules_env(&r, span("LC")) && !sp_rules_env(&r, span("LANGX")));
	cr_assert(!sp_rules_env(&r, span("LD_PRELOAD")) && !sp_rules_env(&r, span("")));
	snprintf(r.env[1], sizeof(r.env[1]), "*");
	cr_assert(sp_rules_env(&r, span("LD_PRELOAD")) && !sp_rules_env(&r, span("")));
}
