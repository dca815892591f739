/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the policy cases of this folder: NAME.rules with NAME.cases (what the
 * words mean stands in bank.cases) and errors.txt. A rule that decides no case
 * is a failure too, unless the cases say so: !rule "name" ...
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/text.h"
#include "policy/compile.h"
#include "policy/rules.h"

#define LIST_MAX 8
#define RULES_MAX 64

struct facts {
	char text[7][160];	/* user groups target tags account source at */
	char mfa[16];
};
static const char *const keys[] = {"user", "groups", "target", "tags",
    "account", "source", "at", "mfa"};

static const char *file;
static unsigned line, cases, failures;

static void SP_PRINTF(1, 2)
fail(const char *fmt, ...)
{
	va_list ap;

	failures++;
	printf("%s:%u: ", file, line);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
}

static struct sp_span
read_all(int dir, const char *name, char *room, size_t cap)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, room, cap - 1);

	if (fd >= 0)
		close(fd);
	if (n < 0) {
		perror(name);
		exit(1);
	}
	room[n] = '\0';
	return sp_span_of(room, (size_t)n);
}

/* The next word; a text in quotes ends at the last quote of the line if `rest`. */
static char *
word(char **at, bool rest)
{
	char *s = *at + strspn(*at, " \t"), *e;

	if (*s == '\0')
		return NULL;
	if (*s == '"') {
		e = rest ? strrchr(s + 1, '"') : strchr(s + 1, '"');
		s++;
	} else {
		e = s + strcspn(s, " \t");
	}
	if (e == NULL)
		return NULL;
	*at = *e == '\0' ? e : e + 1;
	*e = '\0';
	return s;
}

static void
set_fact(struct facts *f, char *w)
{
	char *eq = strchr(w, '=');

	for (size_t i = 0; eq != NULL && i < 8; i++) {
		if (strlen(keys[i]) != (size_t)(eq - w) ||
		    strncmp(w, keys[i], (size_t)(eq - w)) != 0)
			continue;
		snprintf(i < 7 ? f->text[i] : f->mfa, i < 7 ? 160 : 16, "%s", eq + 1);
		return;
	}
	fail("\"%s\" is no fact", w);
}

static const char *
known(const char *s)
{
	return strcmp(s, "?") == 0 ? NULL : s;
}

/* "a,b" to names; "-" to none; "?" to a count without a list. */
static const char *const *
list(char *s, const char **v, size_t *n)
{
	*n = 0;
	if (strcmp(s, "?") == 0) {
		*n = 1;
		return NULL;
	}
	for (char *p = s; strcmp(s, "-") != 0 && p != NULL && *n < LIST_MAX;) {
		char *comma = strchr(p, ',');

		v[(*n)++] = p;
		if (comma != NULL)
			*comma++ = '\0';
		p = comma;
	}
	return v;
}

static int
level(const char *s)
{
	for (int i = SP_MFA_NONE; i <= SP_MFA_SK_UV; i++)
		if (strcmp(s, sp_mfa_text(i)) == 0)
			return i;
	return -1;
}

static void
when(const char *s, struct sp_facts *f)
{
	static const char days[] = "sunmontuewedthufrisat";
	const char *day;

	f->weekday = f->minute_of_day = -1;
	if (strcmp(s, "?") == 0)
		return;
	for (day = days; *day != '\0' && strncmp(day, s, 3) != 0; day += 3)
		;
	if (*day == '\0' || strlen(s) != 9 || s[3] != '/') {
		fail("\"%s\" is no time", s);
		return;
	}
	f->weekday = (int)(day - days) / 3;
	f->minute_of_day = ((s[4] - '0') * 10 + s[5] - '0') * 60 +
	    (s[7] - '0') * 10 + s[8] - '0';
}

struct expect {
	struct sp_verdict v;
	const char *says;	/* in the reasons */
	const char *rules;	/* in the text of the rules */
};

static const struct {
	const char *name;
	uint32_t bit;
} rights_of[] = {{"shell", SP_RIGHT_SHELL}, {"exec", SP_RIGHT_EXEC},
    {"upload", SP_RIGHT_UPLOAD}, {"download", SP_RIGHT_DOWNLOAD},
    {"subsystem", SP_RIGHT_SUBSYSTEM}, {"forward", SP_RIGHT_FORWARD},
    {"listen", SP_RIGHT_LISTEN}};

static void
parse_rights(char *s, uint32_t *rights)
{
	const char *v[LIST_MAX];
	size_t n;

	list(s, v, &n);
	*rights = 0;
	for (size_t i = 0; i < n; i++) {
		uint32_t bit = 0;

		for (size_t k = 0; k < sizeof(rights_of) / sizeof(rights_of[0]); k++)
			if (strcmp(v[i], rights_of[k].name) == 0)
				bit = rights_of[k].bit;
		if (bit == 0)
			fail("\"%s\" is no right", v[i]);
		*rights |= bit;
	}
}

static void
parse_expect(char *s, struct expect *x)
{
	char *w = word(&s, false);

	*x = (struct expect){0};
	x->v.allow = w != NULL && strcmp(w, "allow") == 0;
	if (!x->v.allow && (w == NULL || strcmp(w, "deny") != 0))
		fail("a verdict is allow or deny");
	x->v.rights = x->v.allow ? SP_RIGHTS_USUAL : 0;
	s += strspn(s, " ");
	if (*s == '"' && (w = word(&s, false)) != NULL)
		snprintf(x->v.rule, sizeof(x->v.rule), "%s", w);
	while ((w = word(&s, false)) != NULL) {
		if (strcmp(w, "rules") == 0) {
			x->rules = word(&s, true);
			return;
		}
		if (strcmp(w, "says") == 0) {
			x->says = word(&s, true);
			return;
		}
		if (sscanf(w, "approval=%u:%63s", &x->v.approvals,
		    x->v.approvers) == 2)
			continue;
		if (strncmp(w, "mfa=", 4) == 0)
			x->v.mfa = (enum sp_mfa)level(w + 4);
		else if (strncmp(w, "rights=", 7) == 0)
			parse_rights(w + 7, &x->v.rights);
		else if (strncmp(w, "for=", 4) != 0 ||
		    sp_duration_parse(sp_span_str(w + 4), &x->v.longest_us) != SP_OK)
			fail("\"%s\" means nothing in a verdict", w);
	}
}

static void
show(const char *label, const struct sp_verdict *v)
{
	char t[SP_TIME_TEXT];

	sp_duration_text(t, v->longest_us);
	printf("  %s %s \"%s\" approval=%u:%s mfa=%s for=%s rights=%x\n", label,
	    v->allow ? "allow" : "deny", v->rule, v->approvals, v->approvers,
	    sp_mfa_text((int)v->mfa), t, v->rights);
}

static void
compare(const struct expect *x, const struct sp_verdict *v)
{
	cases++;
	if (x->v.allow != v->allow || strcmp(x->v.rule, v->rule) != 0 ||
	    x->v.approvals != v->approvals || x->v.mfa != v->mfa ||
	    strcmp(x->v.approvers, v->approvers) != 0 ||
	    x->v.longest_us != v->longest_us || x->v.rights != v->rights) {
		fail("another verdict");
		show("expected", &x->v);
		show("got     ", v);
		printf("  %s\n", v->reasons);
	} else if (x->says != NULL && strstr(v->reasons, x->says) == NULL) {
		fail("the reasons do not say: %s\n  %s", x->says, v->reasons);
	} else if (x->rules != NULL) {
		char text[4096];

		sp_rules_show(text, sizeof(text), sp_span_of(v->rules, v->n_rules));
		if (strcmp(text, x->rules) != 0)
			fail("other rules\n  expected %s\n  got      %s", x->rules,
			    text);
	}
}

static void
decide(const struct sp_policy *p, struct facts f, struct sp_verdict *v)
{
	const char *groups[LIST_MAX], *tags[LIST_MAX];
	struct sp_facts s = {.user = known(f.text[0]), .target = known(f.text[2]),
	    .account = known(f.text[4]), .source = known(f.text[5]),
	    .mfa = level(f.mfa)};

	s.groups = list(f.text[1], groups, &s.n_groups);
	s.tags = list(f.text[3], tags, &s.n_tags);
	when(f.text[6], &s);
	sp_policy_decide(p, &s, v);
}

struct run {
	const struct sp_policy *p;
	struct facts given;
	char seen[RULES_MAX][64];
	size_t n_seen;
};

static void
saw(struct run *r, const char *rule)
{
	if (r->n_seen < RULES_MAX)
		snprintf(r->seen[r->n_seen++], 64, "%s", rule);
}

static void
one_line(struct run *r, char *s)
{
	struct facts f = r->given;
	static struct sp_verdict v;
	static struct expect x;
	char *arrow = strstr(s, "->"), *w;

	if (arrow != NULL)
		*arrow = '\0';
	w = word(&s, false);
	if (w == NULL || w[0] == '#')
		return;
	if (strcmp(w, "!rule") == 0) {
		saw(r, word(&s, false));
	} else if (strcmp(w, "given") == 0) {
		while ((w = word(&s, false)) != NULL)
			set_fact(&r->given, w);
	} else if (strcmp(w, "case") == 0 && arrow != NULL) {
		while ((w = word(&s, false)) != NULL)
			set_fact(&f, w);
		parse_expect(arrow + 2, &x);
		decide(r->p, f, &v);
		compare(&x, &v);
		if (r->n_seen == 0 || strcmp(r->seen[r->n_seen - 1], v.rule) != 0)
			saw(r, v.rule);
	} else {
		fail("\"%s\" means nothing", w);
	}
}

static void
check_covered(const struct run *r)
{
	for (const struct sp_rule *k = r->p->rules; k != NULL; k = k->next) {
		bool found = false;

		for (size_t i = 0; i < r->n_seen; i++)
			found = found || strcmp(r->seen[i], k->name) == 0;
		if (!found)
			fail("no case is decided by rule \"%s\"", k->name);
	}
}

static void
run_file(int dir, const char *name)
{
	static char rules[SP_POLICY_TEXT_MAX], text[1 << 17];
	struct sp_policy *p = NULL;
	struct sp_policy_diag d;
	static struct run r;
	char other[300];

	file = name;
	line = 0;
	snprintf(other, sizeof(other), "%.*s.rules", (int)(strlen(name) - 6), name);
	if (sp_policy_parse(read_all(dir, other, rules, sizeof(rules)), &p, &d) !=
	    SP_OK) {
		fail("%s:%u:%u: %s", other, d.line, d.column, d.text);
		return;
	}
	r = (struct run){.p = p};
	(void)read_all(dir, name, text, sizeof(text));
	for (char *s = text, *next; s != NULL; s = next) {
		line++;
		if ((next = strchr(s, '\n')) != NULL)
			*next++ = '\0';
		one_line(&r, s);
	}
	check_covered(&r);
	sp_policy_free(p);
}

static void
one_error(const char *head, struct sp_span text)
{
	struct sp_policy *p = NULL;
	struct sp_policy_diag d;
	unsigned at_line, at_column;
	int used = 0;

	cases++;
	if (sscanf(head, "== %u:%u %n", &at_line, &at_column, &used) != 2) {
		fail("not line:column");
		return;
	}
	if (sp_policy_parse(text, &p, &d) == SP_OK) {
		fail("this was accepted");
		sp_policy_free(p);
	} else if (d.line != at_line || d.column != at_column ||
	    strstr(d.text, head + used) == NULL) {
		fail("expected %s\n  got %u:%u %s", head, d.line, d.column, d.text);
	}
}

static void
run_errors(int dir)
{
	static char text[1 << 17];
	char *s = text, *head = NULL, *body = text;

	file = "errors.txt";
	line = 0;
	(void)read_all(dir, file, text, sizeof(text));
	while (s != NULL) {
		char *next = strchr(s, '\n');

		if (strncmp(s, "== ", 3) == 0 || next == NULL) {
			if (head != NULL)
				one_error(head, sp_span_of(body, (size_t)(s - body)));
			head = s;
			body = next == NULL ? NULL : next + 1;
			if (next != NULL)
				*next = '\0';
		}
		line++;
		s = next == NULL ? NULL : next + 1;
	}
}

int
main(void)
{
	const char *top = getenv("top_srcdir");
	static char path[4096];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "%s/tests/policy", top == NULL ? "." : top);
	if ((d = opendir(path)) == NULL) {
		perror(path);
		return 1;
	}
	while ((e = readdir(d)) != NULL) {
		size_t n = strlen(e->d_name);

		if (n > 6 && strcmp(e->d_name + n - 6, ".cases") == 0)
			run_file(dirfd(d), e->d_name);
	}
	run_errors(dirfd(d));
	closedir(d);
	printf("%u policy cases, %u wrong\n", cases, failures);
	return failures == 0 && cases > 0 ? 0 : 1;
}
