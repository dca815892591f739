/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must hold for every policy and all facts, tried on random ones:
 * the engine agrees with the slow reference; a forbid more never adds access;
 * the order of rules never changes allow or deny; facts that become unknown
 * never open.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/policy/model.h"

#define POLICIES 800
#define FACTS 200	/* 160,000 differential cases */

static const char *const names[2][4] = {{"a0", "a1", "a2", "a3"},
    {"b0", "b1", "b2", "b3"}};

/* The facts as the engine wants them; points into static storage. */
static struct sp_facts
facts_of(const struct m_facts *m)
{
	static const char *groups[LIST_MAX], *tags[LIST_MAX];
	static char source[64];
	struct sp_facts f = {.user = m->user < 0 ? NULL : names[0][m->user],
	    .target = m->target < 0 ? NULL : names[0][m->target],
	    .account = m->account < 0 ? NULL : names[0][m->account],
	    .minute_of_day = m->minute, .weekday = m->weekday, .mfa = m->mfa};
	char t[40];

	for (int i = 0; i < LIST_MAX; i++) {
		groups[i] = names[1][m->groups[i]];
		tags[i] = names[1][m->tags[i]];
	}
	f.groups = m->n_groups < 0 ? NULL : groups;
	f.n_groups = m->n_groups < 0 ? 1 : (size_t)m->n_groups;
	f.tags = m->n_tags < 0 ? NULL : tags;
	f.n_tags = m->n_tags < 0 ? 1 : (size_t)m->n_tags;
	if (m->family != 0) {
		SP_ASSERT(inet_ntop(m->family == 6 ? AF_INET6 : AF_INET, m->addr, t,
		    sizeof(t)) != NULL);
		snprintf(source, sizeof(source), "%s%s",
		    m->family == 46 ? "::ffff:" : "", t);
		f.source = source;
	}
	return f;
}

static struct sp_policy *
compile(const struct m_policy *m, struct sp_buf *text)
{
	struct sp_policy *p = NULL;
	struct sp_policy_diag d;

	sp_buf_reset(text);
	m_print(m, text);
	if (sp_policy_parse(sp_buf_span(text), &p, &d) != SP_OK) {
		printf("%.*s\n%u:%u: %s\n", (int)text->len, text->p + text->off,
		    d.line, d.column, d.text);
		exit(1);
	}
	return p;
}

static bool
same(const struct sp_verdict *a, const struct sp_verdict *b)
{
	return a->allow == b->allow && strcmp(a->rule, b->rule) == 0 &&
	    a->approvals == b->approvals && a->mfa == b->mfa &&
	    strcmp(a->approvers, b->approvers) == 0 &&
	    a->longest_us == b->longest_us && a->rights == b->rights &&
	    sp_span_eq(sp_span_of(a->rules, a->n_rules),
	    sp_span_of(b->rules, b->n_rules));
}

static void
wrong(const char *what, const struct sp_buf *text, const struct sp_facts *f,
    const struct sp_verdict *a, const struct sp_verdict *b)
{
	printf("%s\n%.*s\nuser=%s target=%s account=%s source=%s minute=%d "
	    "weekday=%d mfa=%d\n%d \"%s\" %s\n%d \"%s\" %s\n", what,
	    (int)text->len, text->p + text->off, f->user == NULL ? "?" : f->user,
	    f->target == NULL ? "?" : f->target,
	    f->account == NULL ? "?" : f->account,
	    f->source == NULL ? "?" : f->source, f->minute_of_day, f->weekday,
	    f->mfa, a->allow, a->rule, a->reasons, b->allow, b->rule, b->reasons);
	exit(1);
}

static void
blank(struct sp_facts *f, int which)
{
	switch (which) {
	case 0: f->user = NULL; break;
	case 1: f->groups = NULL; f->n_groups = 1; break;
	case 2: f->target = NULL; break;
	case 3: f->tags = NULL; f->n_tags = 1; break;
	case 4: f->account = NULL; break;
	case 5: f->source = NULL; break;
	case 6: f->minute_of_day = -1; break;
	case 7: f->weekday = -1; break;
	default: f->mfa = -1; break;
	}
}

static void
check_unknown(const struct sp_policy *p, const struct sp_buf *text,
    const struct sp_facts *f, const struct sp_verdict *v)
{
	struct sp_facts less = *f;
	struct sp_verdict w;

	for (int i = 0; i < 2; i++) {
		blank(&less, (int)m_random(9));
		sp_policy_decide(p, &less, &w);
		if (w.allow && !v->allow)
			wrong("an unknown fact opened", text, f, v, &w);
	}
}

static void
shuffle(struct m_policy *m)
{
	for (int i = m->n_rules - 1; i > 0; i--) {
		int k = (int)m_random((uint64_t)i + 1);
		struct m_rule t = m->rule[i];

		m->rule[i] = m->rule[k];
		m->rule[k] = t;
	}
}

static unsigned long allowed, denied, forbidden;

static void
check_policy(struct m_policy *m)
{
	SP_BUF_AUTO text = {.max = SP_POLICY_TEXT_MAX};
	SP_BUF_AUTO other = {.max = SP_POLICY_TEXT_MAX};
	struct sp_policy *p = compile(m, &text), *mixed, *more;
	static struct m_policy n;
	struct m_facts mf;

	n = *m;
	shuffle(&n);
	mixed = compile(&n, &other);
	m_make_rule(&m->rule[m->n_rules], RULES_MAX, true);
	m->n_rules++;
	more = compile(m, &other);
	n = *m;
	n.n_rules--;
	for (int i = 0; i < FACTS; i++) {
		static struct sp_verdict v, w;
		struct sp_facts f;

		m_make_facts(&mf);
		f = facts_of(&mf);
		sp_policy_decide(p, &f, &v);
		m_decide(&n, &mf, &w);
		if (!same(&v, &w))
			wrong("the reference says otherwise", &text, &f, &v, &w);
		allowed += v.allow;
		denied += !v.allow && v.rule[0] == '\0';
		forbidden += v.rule[0] != '\0' && !v.allow;
		sp_policy_decide(mixed, &f, &w);
		if (v.allow != w.allow)
			wrong("the order of rules matters", &text, &f, &v, &w);
		sp_policy_decide(more, &f, &w);
		if (w.allow && !v.allow)
			wrong("a forbid added access", &other, &f, &v, &w);
		check_unknown(p, &text, &f, &v);
	}
	sp_policy_free(p);
	sp_policy_free(mixed);
	sp_policy_free(more);
}

int
main(int argc, char **argv)
{
	static struct m_policy m;
	unsigned long policies = argc > 1 ? strtoul(argv[1], NULL, 10) : POLICIES;

	for (unsigned long i = 1; i <= policies; i++) {
		m_seed(i);
		m_make_policy(&m);
		check_policy(&m);
		m_free_policy(&m);
	}
	printf("%lu decisions: %lu allowed, %lu forbidden, %lu by default\n",
	    policies * FACTS, allowed, forbidden, denied);
	/* A test that only ever denies would prove little. */
	return allowed * 20 > policies * FACTS && forbidden > 0 && denied > 0 ? 0 : 1;
}
