/* SPDX-License-Identifier: Apache-2.0 */
/* What the channels of a permit may do: allow, limit, path, record, env, hold. */
#include <stdio.h>
#include <string.h>

#include "common/text.h"
#include "policy/compile.h"
#include "policy/rules.h"

#define IDLE_MAX_US (8LL * 3600 * 1000000)

enum { SUBJECT_FILES = 1, SUBJECT_EXEC = 2, LIMIT_FILE = 4, LIMIT_SESSION = 8,
	LIMIT_IDLE = 16 };

void
sp_pol_rights_begin(struct sp_policy_ctx *c)
{
	memset(&c->rules, 0, offsetof(struct sp_rules, forward));
	c->rules.rights = SP_RIGHTS_USUAL;
	c->rules.file_body = SP_BODY_DIGEST;
	c->rules.n_env = 1;
	memcpy(c->rules.env[0], "*", 2);
	c->recorded = 0;
}

void
sp_pol_rights_clause(struct sp_policy_ctx *c, enum sp_clause which)
{
	if (which == SP_CLAUSE_ALLOW)
		c->rules.rights = 0;
	if (which == SP_CLAUSE_ENV)
		c->rules.n_env = 0;
	c->path_ops = 0;
}

bool
sp_pol_rights_end(struct sp_policy_ctx *c)
{
	SP_BUF_AUTO b = {.max = SP_POLICY_RULES_MAX};
	struct sp_rule *r = c->rule;
	enum sp_err e = sp_rules_encode(&b, &c->rules);

	if (e == SP_ERR_TOOBIG)
		return sp_pol_fail(c, r->at, "the lists of permit \"%s\" take more "
		    "than %d bytes; split the rule or shorten its names", r->name,
		    SP_POLICY_RULES_MAX);
	if (e != SP_OK)
		return sp_pol_fail(c, r->at, "permit \"%s\": %s", r->name,
		    sp_err_text(e));
	r->rights = c->rules.rights;
	r->rules.p = (const uint8_t *)sp_pol_copy(c, (const char *)b.p + b.off,
	    b.len);
	r->rules.n = b.len;
	return r->rules.p != NULL;
}

static bool
add_right(struct sp_policy_ctx *c, const struct sp_word *w, uint32_t bit)
{
	if ((c->rules.rights & bit) != 0)
		return sp_pol_fail(c, w->at, "\"%s\" is allowed twice", w->s);
	c->rules.rights |= bit;
	return true;
}

bool
sp_pol_right(struct sp_policy_ctx *c, const struct sp_word *w)
{
	uint32_t bit = sp_right_of(w->s);

	if (bit == SP_RIGHT_FORWARD)
		return sp_pol_fail(c, w->at, "forward says where to, like: forward "
		    "to \"db-01:5432\"; any host and port is \"*:*\"");
	if (bit == SP_RIGHT_LISTEN)
		return sp_pol_fail(c, w->at, "listen says where, like: listen at "
		    "\"localhost:8080\"; any port is \"localhost:*\"");
	if (strcmp(w->s, "agent") == 0 || strcmp(w->s, "x11") == 0)
		return sp_pol_fail(c, w->at, "\"%s\" is never allowed: it would lend "
		    "the target the user's own keys or screen", w->s);
	if (bit == 0)
		return sp_pol_fail(c, w->at, "\"%s\" cannot be allowed; there are "
		    "shell, exec, upload, download (both: scp and sftp), "
		    "subsystem, sql, forward to and listen at", w->s);
	return add_right(c, w, bit);
}

static bool
add_place(struct sp_policy_ctx *c, bool listens, const struct sp_word *place)
{
	struct sp_rule_forward *list = listens ? c->rules.listen :
	    c->rules.forward;
	uint16_t *n = listens ? &c->rules.n_listen : &c->rules.n_forward;

	if (*n == SP_RULES_FORWARDS)
		return sp_pol_fail(c, place->at, "more than %d places in one list",
		    SP_RULES_FORWARDS);
	if (!sp_place_parse(place->s, &list[*n]))
		return sp_pol_fail(c, place->at, "\"%s\" is no host with a port; "
		    "write it like db-01:5432, 10.0.0.0/8:22-23, [::1]:80 or *:443 "
		    "(* alone is any)", place->s);
	++*n;
	return true;
}

bool
sp_pol_right_at(struct sp_policy_ctx *c, const struct sp_word *w,
    const char *how, const struct sp_word *place)
{
	uint32_t bit = sp_right_of(w->s);
	bool listens = bit == SP_RIGHT_LISTEN;

	if ((bit != SP_RIGHT_FORWARD || strcmp(how, "to") != 0) &&
	    (bit != SP_RIGHT_LISTEN || strcmp(how, "at") != 0))
		return sp_pol_fail(c, w->at, "\"%s %s\" has no meaning; there are "
		    "forward to \"HOST:PORT\" and listen at \"ADDRESS:PORT\"", w->s,
		    how);
	c->path_ops = bit;
	return add_right(c, w, bit) && add_place(c, listens, place);
}

bool
sp_pol_right_more(struct sp_policy_ctx *c, const struct sp_word *place)
{
	if (c->path_ops == 0)
		return sp_pol_fail(c, place->at, "\"%s\" stands behind no forward to "
		    "and no listen at", place->s);
	return add_place(c, c->path_ops == SP_RIGHT_LISTEN, place);
}

/* Each subject of limit and record at most once in a rule. */
static bool
once(struct sp_policy_ctx *c, unsigned subject, const char *clause,
    const struct sp_word *w)
{
	if ((c->recorded & subject) != 0)
		return sp_pol_fail(c, w->at, "\"%s %s\" is given twice in rule "
		    "\"%s\"", clause, w->s, c->rule->name);
	c->recorded |= subject;
	return true;
}

bool
sp_pol_limit(struct sp_policy_ctx *c, const struct sp_word *what,
    const struct sp_word *value)
{
	int64_t us;

	if (strcmp(what->s, "idle") == 0) {
		if (sp_duration_parse(sp_span_str(value->s), &us) != SP_OK ||
		    us <= 0 || us > IDLE_MAX_US)
			return sp_pol_fail(c, value->at, "\"%s\" is no length of "
			    "time from 1s to 8h, like 90s, 15m or 1h30m", value->s);
		c->rules.idle_s = (uint32_t)(us / 1000000);
		return once(c, LIMIT_IDLE, "limit", what);
	}
	if (strcmp(what->s, "file") != 0 && strcmp(what->s, "session") != 0)
		return sp_pol_fail(c, what->at, "\"%s\" cannot be limited; there are "
		    "file, session (all files of one) and idle", what->s);
	if (!sp_size_parse(value->s, what->s[0] == 'f' ? &c->rules.file_max :
	    &c->rules.session_max))
		return sp_pol_fail(c, value->at, "\"%s\" is no size; write it like "
		    "4096, 64K, 10M or 2G", value->s);
	return once(c, what->s[0] == 'f' ? LIMIT_FILE : LIMIT_SESSION, "limit",
	    what);
}

bool
sp_pol_path_op(struct sp_policy_ctx *c, const struct sp_word *w)
{
	uint32_t bit = sp_right_of(w->s);

	if (bit != SP_RIGHT_UPLOAD && bit != SP_RIGHT_DOWNLOAD)
		return sp_pol_fail(c, w->at, "path is for upload and download, not "
		    "for \"%s\"", w->s);
	c->path_ops |= bit;
	return true;
}

bool
sp_pol_path(struct sp_policy_ctx *c, const struct sp_word *pattern)
{
	struct sp_rule_path *p;
	size_t n = strlen(pattern->s);

	if (n == 0 || n > SP_RULES_PATTERN_MAX ||
	    (pattern->s[0] != '/' && pattern->s[0] != '*'))
		return sp_pol_fail(c, pattern->at, "\"%.40s\" can match no path: it "
		    "begins with / or * and has at most %d bytes", pattern->s,
		    SP_RULES_PATTERN_MAX);
	if (c->rules.n_path == SP_RULES_PATHS)
		return sp_pol_fail(c, pattern->at, "more than %d paths in one rule",
		    SP_RULES_PATHS);
	p = &c->rules.path[c->rules.n_path++];
	p->forbid = c->path_forbids;
	p->ops = c->path_ops;
	memcpy(p->pattern, pattern->s, n + 1);
	return true;
}

bool
sp_pol_record(struct sp_policy_ctx *c, const struct sp_word *what,
    const struct sp_word *how)
{
	bool files = strcmp(what->s, "files") == 0;
	uint8_t body = strcmp(how->s, "full") == 0 ? SP_BODY_FULL : SP_BODY_DIGEST;

	if (!files && strcmp(what->s, "exec") != 0)
		return sp_pol_fail(c, what->at, "\"%s\" has no choice of how it is "
		    "recorded; files and exec have", what->s);
	if (body == SP_BODY_DIGEST && strcmp(how->s, "digest") != 0)
		return sp_pol_fail(c, how->at, "\"%s\" is no way to record; there are "
		    "full and digest (SHA-256 and length)", how->s);
	*(files ? &c->rules.file_body : &c->rules.exec_body) = body;
	return once(c, files ? SUBJECT_FILES : SUBJECT_EXEC, "record", what);
}

bool
sp_pol_hold(struct sp_policy_ctx *c, const struct sp_word *w)
{
	uint8_t bit = strcmp(w->s, "lines") == 0 ? SP_HOLD_LINES :
	    strcmp(w->s, "transfers") == 0 ? SP_HOLD_TRANSFERS : 0;

	if (bit == 0)
		return sp_pol_fail(c, w->at, "\"%s\" cannot be held for a second "
		    "person; lines and transfers can", w->s);
	if ((c->rules.hold & bit) != 0)
		return sp_pol_fail(c, w->at, "\"hold %s\" is given twice in rule "
		    "\"%s\"", w->s, c->rule->name);
	c->rules.hold |= bit;
	return true;
}

bool
sp_pol_env(struct sp_policy_ctx *c, const struct sp_word *w)
{
	if (strcmp(w->s, "none") == 0)
		return true;
	if (c->rules.n_env == SP_RULES_ENV)
		return sp_pol_fail(c, w->at, "more than %d variables in one rule",
		    SP_RULES_ENV);
	if (!sp_env_name_ok(w->s))
		return sp_pol_fail(c, w->at, "\"%.64s\" is no name of a variable; "
		    "write it like LANG or LC_*, or none for none at all", w->s);
	memcpy(c->rules.env[c->rules.n_env++], w->s, strlen(w->s) + 1);
	return true;
}
