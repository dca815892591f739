/* SPDX-License-Identifier: Apache-2.0 */
/* covers: policy/ where plain-text cases cannot reach: caps, lists, NULLs */
#include <criterion/criterion.h>
#include <string.h>

#include "common/ipc_messages.h"
#include "common/text.h"
#include "policy/policy.h"

static struct sp_policy_diag d;

static struct sp_policy *
parse(const char *text)
{
	struct sp_policy *p = NULL;

	cr_assert(sp_policy_parse(sp_span_str(text), &p, &d) == SP_OK, "%u:%u %s",
	    d.line, d.column, d.text);
	return p;
}

static enum sp_err
parse_buf(const struct sp_buf *b, struct sp_policy **p)
{
	*p = NULL;
	return sp_policy_parse(sp_buf_span(b), p, &d);
}

#define PUT(...) cr_assert(sp_buf_printf(&b, __VA_ARGS__) == SP_OK)

Test(policy, without_a_policy_or_facts_all_is_denied)
{
	struct sp_facts f = {.user = "alice"};
	SP_BUF_AUTO out = {.max = 1024};
	struct sp_policy *p = parse("permit \"a\" who anyone on any as any");
	struct sp_verdict v;

	memset(&v, 0xff, sizeof(v));
	sp_policy_decide(NULL, &f, &v);
	cr_assert(!v.allow && v.rights == 0 && v.rule[0] == '\0');
	cr_assert_str_eq(v.reasons, "no policy is loaded");
	memset(&v, 0xff, sizeof(v));
	sp_policy_decide(p, NULL, &v);
	cr_assert(!v.allow && v.rights == 0);
	cr_assert(sp_policy_explain(NULL, &f, &out) == SP_OK && out.len > 0);
	cr_assert(sp_policy_n_rules(p) == 1 && sp_policy_n_rules(NULL) == 0);
	sp_policy_free(p);
	sp_policy_free(NULL);
}

Test(policy, mentioned_groups_and_tags_are_listed_once)
{
	struct sp_policy *p = parse(
	    "permit \"a\" who group g1, g2, user g9 on tag t1, t2, target t9 as any "
	    "require approval 1 of g3\n"
	    "permit \"b\" who group g2 on tag t2 as any require approval 2 of g1\n"
	    "forbid \"c\" who group g4 on tag t3\n");
	static const char *const groups[] = {"g1", "g2", "g3", "g4"};
	static const char *const tags[] = {"t1", "t2", "t3"};

	for (size_t i = 0; i < 4; i++)
		cr_assert_str_eq(sp_policy_group(p, i), groups[i]);
	cr_assert(sp_policy_group(p, 4) == NULL);
	for (size_t i = 0; i < 3; i++)
		cr_assert_str_eq(sp_policy_tag(p, i), tags[i]);
	cr_assert(sp_policy_tag(p, 3) == NULL);
	cr_assert(sp_policy_tag(p, SIZE_MAX) == NULL);
	cr_assert(sp_policy_group(NULL, 0) == NULL && sp_policy_tag(NULL, 0) == NULL);
	sp_policy_free(p);
}

Test(policy, many_groups)
{
	SP_BUF_AUTO b = {.max = SP_POLICY_TEXT_MAX};
	struct sp_policy *p;

	PUT("permit \"a\" on any as any who group g0");
	for (int i = 1; i < 3000; i++)
		PUT(", g%d", i);
	cr_assert(parse_buf(&b, &p) == SP_OK);
	cr_assert_str_eq(sp_policy_group(p, 2999), "g2999");
	cr_assert(sp_policy_group(p, 3000) == NULL);
	sp_policy_free(p);
}

Test(policy, the_text_is_capped)
{
	SP_BUF_AUTO b = {.max = 2 * SP_POLICY_TEXT_MAX};
	struct sp_policy *p;

	while (b.len < SP_POLICY_TEXT_MAX)
		PUT("#");
	cr_assert(parse_buf(&b, &p) == SP_OK);
	sp_policy_free(p);
	PUT("#");
	cr_assert(parse_buf(&b, &p) == SP_ERR_SYNTAX && p == NULL);
	cr_assert(strstr(d.text, "65537 bytes; at most 65536") != NULL);
	cr_assert(d.line == 1 && d.column == 1);
}

Test(policy, nesting_is_capped_and_chains_are_not)
{
	static const struct {
		const char *open, *close;
		int n;
		enum sp_err e;
	} t[] = {{"(", ")", 64, SP_OK}, {"(", ")", 65, SP_ERR_SYNTAX},
	    {"not ", "", 64, SP_OK}, {"not ", "", 65, SP_ERR_SYNTAX},
	    {"(", ")", 20000, SP_ERR_SYNTAX}, {"not ", "", 12000, SP_ERR_SYNTAX},
	    {"mfa >= sk and ", "", 4000, SP_OK},
	    {"mfa >= sk or ", "", 4000, SP_OK}};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		SP_BUF_AUTO b = {.max = SP_POLICY_TEXT_MAX};
		struct sp_facts f = {.mfa = SP_MFA_TOTP};
		struct sp_policy *p;
		struct sp_verdict v;

		PUT("permit \"a\" who anyone on any as any when ");
		for (int k = 0; k < t[i].n; k++)
			PUT("%s", t[i].open);
		PUT("mfa >= totp");
		for (int k = 0; k < t[i].n; k++)
			PUT("%s", t[i].close);
		cr_assert(parse_buf(&b, &p) == t[i].e, "%zu: %s", i, d.text);
		if (p == NULL) {
			cr_assert(strstr(d.text, "nested deeper than 64") != NULL);
			continue;
		}
		sp_policy_decide(p, &f, &v);
		cr_assert(v.allow == (i != 6));
		sp_policy_free(p);
	}
}

Test(policy, definitions_are_capped)
{
	SP_BUF_AUTO b = {.max = SP_POLICY_TEXT_MAX};
	struct sp_policy *p;

	for (int i = 0; i < 3800; i++)
		PUT("network %x ::\n", i);
	for (int i = 0; i < 296; i++)
		PUT("network x%x ::\n", i);
	cr_assert(parse_buf(&b, &p) == SP_OK, "%s", d.text);
	sp_policy_free(p);
	PUT("network last ::");
	cr_assert(parse_buf(&b, &p) == SP_ERR_SYNTAX && p == NULL);
	cr_assert(strstr(d.text, "more than 4096") != NULL, "%s", d.text);
}

Test(policy, reasons_and_explanations_are_cut_cleanly)
{
	const char *groups[40];
	struct sp_facts f = {.user = "核核核核", .groups = groups, .n_groups = 40,
	    .target = "t", .account = "a", .mfa = -1, .weekday = -1,
	    .minute_of_day = -1};
	SP_BUF_AUTO b = {.max = SP_POLICY_TEXT_MAX};
	SP_BUF_AUTO out = {.max = 1U << 20};
	SP_BUF_AUTO tiny = {.max = 100};
	struct sp_policy *p;
	struct sp_verdict v;

	for (size_t i = 0; i < 40; i++)
		groups[i] = "\x1b[2J核核核核核核核核核核核核核核核核核核核核核";
	for (int i = 0; i < 100; i++)
		PUT("permit \"規則 %d\" who user u1, u2, u3, u4, u5, u6, u7, u8 "
		    "on any as any\n", i);
	cr_assert(parse_buf(&b, &p) == SP_OK);
	sp_policy_decide(p, &f, &v);
	cr_assert(!v.allow && strlen(v.reasons) < sizeof(v.reasons));
	cr_assert(strcmp(v.reasons + strlen(v.reasons) - 4, " ...") == 0);
	cr_assert(sp_utf8_is_valid(sp_span_str(v.reasons)));
	cr_assert(strchr(v.reasons, '\x1b') == NULL);
	cr_assert(sp_policy_explain(p, &f, &out) == SP_OK);
	cr_assert(sp_utf8_is_valid(sp_buf_span(&out)));
	cr_assert(memchr(sp_buf_span(&out).p, '\x1b', out.len) == NULL);
	cr_assert(sp_policy_explain(p, &f, &tiny) == SP_ERR_TOOBIG);
	sp_policy_free(p);
}

Test(policy, explain_has_one_line_a_rule)
{
	const char *groups[] = {"dba"};
	struct sp_facts f = {.user = "alice", .groups = groups, .n_groups = 1,
	    .target = "core-01", .account = "admin", .source = "192.0.2.1",
	    .minute_of_day = 600, .weekday = 1, .mfa = SP_MFA_TOTP};
	struct sp_policy *p = parse("network office 10.0.0.0/8\n"
	    "hours worktime mon-fri 08:00-19:00\n"
	    "permit \"in\" who group dba on any as admin when source in office\n"
	    "permit \"free\" who anyone on any as admin require approval 2 of q, "
	    "mfa sk for 90m allow exec\n"
	    "forbid \"late\" who group dba when not time in worktime\n"
	    "forbid \"day\" when time in worktime and mfa >= totp\n"
	    "forbid \"all\" who anyone\n");
	SP_BUF_AUTO out = {.max = 4096};

	cr_assert(sp_policy_explain(p, &f, &out) == SP_OK);
	cr_assert(sp_span_is(sp_buf_span(&out),
	    "permit \"in\" does not apply: source is 192.0.2.1; would have to be in "
	    "network office (10.0.0.0/8)\n"
	    "permit \"free\" applies; allows exec; requires approval 2 of q; "
	    "requires mfa sk; for at most 1h 30m\n"
	    "forbid \"late\" does not apply: time is Mon 10:00; would have to be "
	    "known and outside hours worktime (mon-fri 08:00-19:00)\n"
	    "forbid \"day\" applies: time is Mon 10:00; would have to be known and "
	    "outside hours worktime (mon-fri 08:00-19:00)\n"
	    "forbid \"all\" applies: it applies to everything\n"), "%.*s",
	    (int)out.len, (const char *)sp_buf_span(&out).p);
	sp_policy_free(p);
	sp_buf_reset(&out);
	p = parse("# nothing\n");
	cr_assert(sp_policy_explain(p, &f, &out) == SP_OK);
	cr_assert(sp_span_is(sp_buf_span(&out),
	    "the policy has no rules: all is denied\n"));
	sp_policy_free(p);
}

Test(policy, facts_out_of_range_are_unknown)
{
	struct sp_policy *p = parse("hours always sun-sat 00:00-24:00\n"
	    "permit \"t\" who anyone on any as any when time in always\n"
	    "permit \"m\" who anyone on any as any when not mfa >= sk+uv\n");
	static const int minutes[] = {-1, 1440, 100000}, days[] = {-1, 7, 99},
	    levels[] = {-1, 4, 99};
	struct sp_verdict v;

	for (size_t i = 0; i < 3; i++) {
		struct sp_facts f = {.minute_of_day = minutes[i], .weekday = 0,
		    .mfa = levels[i]};

		sp_policy_decide(p, &f, &v);
		cr_assert(!v.allow);
		f.minute_of_day = 0;
		sp_policy_decide(p, &f, &v);
		cr_assert(v.allow && strcmp(v.rule, "t") == 0);
		f.weekday = days[i];
		sp_policy_decide(p, &f, &v);
		cr_assert(!v.allow);
		f.mfa = SP_MFA_SK;
		sp_policy_decide(p, &f, &v);
		cr_assert(v.allow && strcmp(v.rule, "m") == 0);
	}
	sp_policy_free(p);
}

/* A list that was cut must say so, or a forbid would miss what was cut off. */
Test(policy, a_null_in_a_list_may_be_any_name)
{
	struct sp_policy *p = parse("permit \"p\" who group dba on tag core as any\n"
	    "forbid \"f\" who group vendor\n"
	    "forbid \"g\" on tag sealed\n");
	const char *groups[] = {"dba", "ops"}, *tags[] = {"core", "lab"};
	struct sp_facts f = {.user = "a", .groups = groups, .n_groups = 2,
	    .target = "t", .account = "r", .tags = tags, .n_tags = 2};
	struct sp_verdict v;

	sp_policy_decide(p, &f, &v);
	cr_assert(v.allow);
	groups[1] = NULL;
	sp_policy_decide(p, &f, &v);
	cr_assert(!v.allow && strcmp(v.rule, "f") == 0);
	groups[1] = "ops";
	tags[1] = NULL;
	sp_policy_decide(p, &f, &v);
	cr_assert(!v.allow && strcmp(v.rule, "g") == 0);
	groups[0] = NULL;
	tags[1] = "lab";
	sp_policy_decide(p, &f, &v);
	cr_assert(!v.allow);
	sp_policy_free(p);
}

Test(policy, an_error_frees_all_and_writes_no_policy)
{
	struct sp_policy *p = (struct sp_policy *)&d;

	cr_assert(sp_policy_parse(sp_span_str("network a ::1 network"), &p, &d) ==
	    SP_ERR_SYNTAX);
	cr_assert(p == (struct sp_policy *)&d);
	cr_assert(sp_policy_parse(sp_span_of("# \0", 3), &p, &d) == SP_ERR_SYNTAX);
	cr_assert(d.column == 3);
	cr_assert(sp_policy_parse(sp_span_of("\xff", 1), &p, &d) == SP_ERR_SYNTAX);
	cr_assert(strstr(d.text, "0xff is not UTF-8") != NULL);
}
