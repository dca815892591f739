/* SPDX-License-Identifier: Apache-2.0 */
#include "common/rules.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/text.h"

#define FILE_OPS ((uint32_t)(SP_RIGHT_UPLOAD | SP_RIGHT_DOWNLOAD))
#define ENV_MAX 64
#define PORT_MAX 65535

/* ------------------------------------------------- what may stand in a list */

/* Without control characters: what a rule says is shown to people. */
static bool
is_plain(const char *s, bool spaces)
{
	for (; *s != '\0'; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f ||
		    (*s == ' ' && !spaces))
			return false;
	return true;
}

static bool
forward_ok(const struct sp_rule_forward *f)
{
	size_t n = strnlen(f->host, sizeof(f->host));

	return n > 0 && n <= SP_RULES_HOST_MAX && is_plain(f->host, false) &&
	    sp_utf8_is_valid(sp_span_of(f->host, n)) && f->low <= f->high;
}

static bool
path_ok(const struct sp_rule_path *p)
{
	size_t n = strnlen(p->pattern, sizeof(p->pattern));

	/* A pattern that could match no absolute path is a mistake. */
	return n > 0 && n <= SP_RULES_PATTERN_MAX &&
	    (p->pattern[0] == '/' || p->pattern[0] == '*') && p->ops != 0 &&
	    (p->ops & ~FILE_OPS) == 0 && is_plain(p->pattern, true) &&
	    sp_utf8_is_valid(sp_span_of(p->pattern, n));
}

static bool
env_ok(const char name[static ENV_MAX])
{
	size_t n = strnlen(name, ENV_MAX);

	if (n == 0 || n == ENV_MAX)
		return false;
	for (size_t i = 0; i < n; i++) {
		char c = name[i];
		bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
		    c == '_';

		if (!letter && !(i > 0 && c >= '0' && c <= '9') &&
		    !(c == '*' && i + 1 == n))
			return false;
	}
	return true;
}

static bool
lists_ok(const struct sp_rules *r)
{
	if (r->n_forward > SP_RULES_FORWARDS || r->n_listen > SP_RULES_FORWARDS ||
	    r->n_path > SP_RULES_PATHS || r->n_env > SP_RULES_ENV)
		return false;
	for (size_t i = 0; i < r->n_forward; i++)
		if (!forward_ok(&r->forward[i]))
			return false;
	for (size_t i = 0; i < r->n_listen; i++)
		if (!forward_ok(&r->listen[i]))
			return false;
	for (size_t i = 0; i < r->n_path; i++)
		if (!path_ok(&r->path[i]))
			return false;
	for (size_t i = 0; i < r->n_env; i++)
		if (!env_ok(r->env[i]))
			return false;
	return true;
}

static bool
rules_ok(const struct sp_rules *r)
{
	return ((r->rights & ~SP_RIGHT_ALL) == 0 ||
	    r->rights == SP_RIGHT_ROTATE) && r->file_body <= SP_BODY_DIGEST &&
	    r->exec_body <= SP_BODY_DIGEST && (r->hold & ~SP_HOLD_ALL) == 0 &&
	    lists_ok(r);
}

/* ------------------------------------------------------------------- codec */

static enum sp_err
put_forwards(struct sp_buf *b, const struct sp_rule_forward *f, uint16_t n)
{
	SP_TRY(sp_buf_put_u16(b, n));
	for (size_t i = 0; i < n; i++) {
		SP_TRY(sp_buf_put_bytes(b, sp_span_str(f[i].host)));
		SP_TRY(sp_buf_put_u16(b, f[i].low));
		SP_TRY(sp_buf_put_u16(b, f[i].high));
	}
	return SP_OK;
}

enum sp_err
sp_rules_encode(struct sp_buf *b, const struct sp_rules *r)
{
	if (!rules_ok(r))
		return SP_ERR_INVAL;
	SP_TRY(sp_buf_put_u32(b, r->rights));
	SP_TRY(sp_buf_put_u8(b, r->file_body));
	SP_TRY(sp_buf_put_u8(b, r->exec_body));
	SP_TRY(sp_buf_put_u32(b, r->idle_s));
	SP_TRY(sp_buf_put_u64(b, r->file_max));
	SP_TRY(sp_buf_put_u64(b, r->session_max));
	SP_TRY(put_forwards(b, r->forward, r->n_forward));
	SP_TRY(put_forwards(b, r->listen, r->n_listen));
	SP_TRY(sp_buf_put_u16(b, r->n_path));
	for (size_t i = 0; i < r->n_path; i++) {
		SP_TRY(sp_buf_put_u8(b, r->path[i].forbid));
		SP_TRY(sp_buf_put_u32(b, r->path[i].ops));
		SP_TRY(sp_buf_put_bytes(b, sp_span_str(r->path[i].pattern)));
	}
	SP_TRY(sp_buf_put_u16(b, r->n_env));
	for (size_t i = 0; i < r->n_env; i++)
		SP_TRY(sp_buf_put_bytes(b, sp_span_str(r->env[i])));
	return r->hold == 0 ? SP_OK : sp_buf_put_u8(b, r->hold);
}

static enum sp_err
get_count(struct sp_span *s, uint16_t max, uint16_t *n)
{
	uint16_t v;

	SP_TRY(sp_get_u16(s, &v));
	if (v > max)
		return SP_ERR_PROTO;
	*n = v;
	return SP_OK;
}

static enum sp_err
get_forwards(struct sp_span *s, struct sp_rule_forward *f, uint16_t *n)
{
	SP_TRY(get_count(s, SP_RULES_FORWARDS, n));
	for (size_t i = 0; i < *n; i++) {
		SP_TRY(sp_get_text(s, f[i].host, sizeof(f[i].host)));
		SP_TRY(sp_get_u16(s, &f[i].low));
		SP_TRY(sp_get_u16(s, &f[i].high));
	}
	return SP_OK;
}

static enum sp_err
get_paths(struct sp_span *s, struct sp_rules *r)
{
	SP_TRY(get_count(s, SP_RULES_PATHS, &r->n_path));
	for (size_t i = 0; i < r->n_path; i++) {
		uint8_t forbid;

		SP_TRY(sp_get_u8(s, &forbid));
		if (forbid > 1)
			return SP_ERR_PROTO;
		r->path[i].forbid = forbid == 1;
		SP_TRY(sp_get_u32(s, &r->path[i].ops));
		SP_TRY(sp_get_text(s, r->path[i].pattern,
		    sizeof(r->path[i].pattern)));
	}
	return SP_OK;
}

static enum sp_err
decode(struct sp_span s, struct sp_rules *r)
{
	SP_TRY(sp_get_u32(&s, &r->rights));
	SP_TRY(sp_get_u8(&s, &r->file_body));
	SP_TRY(sp_get_u8(&s, &r->exec_body));
	SP_TRY(sp_get_u32(&s, &r->idle_s));
	SP_TRY(sp_get_u64(&s, &r->file_max));
	SP_TRY(sp_get_u64(&s, &r->session_max));
	SP_TRY(get_forwards(&s, r->forward, &r->n_forward));
	SP_TRY(get_forwards(&s, r->listen, &r->n_listen));
	SP_TRY(get_paths(&s, r));
	SP_TRY(get_count(&s, SP_RULES_ENV, &r->n_env));
	for (size_t i = 0; i < r->n_env; i++)
		SP_TRY(sp_get_text(&s, r->env[i], sizeof(r->env[i])));
	if (s.n > 0) {
		SP_TRY(sp_get_u8(&s, &r->hold));
		if (r->hold == 0)
			return SP_ERR_PROTO;
	}
	return s.n == 0 && rules_ok(r) ? SP_OK : SP_ERR_PROTO;
}

/* The lists stay untouched beyond what there is: a process that holds few
 * rules has no pages for many. */
enum sp_err
sp_rules_decode(struct sp_span s, struct sp_rules *r)
{
	memset(r, 0, offsetof(struct sp_rules, forward));
	if (decode(s, r) == SP_OK)
		return SP_OK;
	memset(r, 0, offsetof(struct sp_rules, forward));
	return SP_ERR_PROTO;
}

/* ------------------------------------------------------------------- reach */

struct address {
	size_t n;		/* bytes; 0: it is a name */
	uint8_t b[16];
};

static struct address
address(const char *text)
{
	struct address a = {0};

	if (inet_pton(AF_INET, text, a.b) == 1)
		a.n = 4;
	else if (inet_pton(AF_INET6, text, a.b) == 1)
		a.n = 16;
	return a;
}

/* "10.0.0.0/8", "fd00::/8": addresses only, as a name is the target's. */
static bool
in_network(const char *rule, const struct address *a)
{
	const char *slash = strchr(rule, '/');
	char text[64];
	struct address net;
	uint64_t bits;

	if (a->n == 0 || sp_span_cstr(sp_span_of(rule, (size_t)(slash - rule)),
	    text, sizeof(text)) != SP_OK)
		return false;
	net = address(text);
	if (net.n != a->n ||
	    sp_u64_parse(sp_span_str(slash + 1), 8 * a->n, &bits) != SP_OK)
		return false;
	for (size_t i = 0; i < bits; i++)
		if (((net.b[i / 8] ^ a->b[i / 8]) >> (7 - i % 8) & 1) != 0)
			return false;
	return true;
}

static bool
same_host(const char *rule, const char *host, const struct address *a)
{
	struct address r;

	if (strcmp(rule, "*") == 0)
		return true;
	if (strchr(rule, '/') != NULL)
		return in_network(rule, a);
	if (a->n == 0)
		return strcasecmp(rule, host) == 0;
	r = address(rule);
	return r.n == a->n && memcmp(r.b, a->b, a->n) == 0;
}

bool
sp_rules_reach(const struct sp_rule_forward *list, size_t n,
    struct sp_span host, uint32_t port)
{
	char text[SP_RULES_HOST_MAX + 1];
	struct address a;

	if (port > PORT_MAX || sp_span_cstr(host, text, sizeof(text)) != SP_OK)
		return false;
	a = address(text);
	for (size_t i = 0; i < n && i < SP_RULES_FORWARDS; i++)
		if (port >= list[i].low && port <= list[i].high &&
		    same_host(list[i].host, text, &a))
			return true;
	return false;
}

/* -------------------------------------------------------------------- path */

/* Absolute, without empty, "." and ".." parts, no NUL. */
static bool
is_clean(struct sp_span p)
{
	size_t from = 1;

	if (p.n == 0 || p.p[0] != '/' || memchr(p.p, 0, p.n) != NULL)
		return false;
	for (size_t i = 1; i <= p.n && p.n > 1; i++) {
		size_t n;

		if (i < p.n && p.p[i] != '/')
			continue;
		n = i - from;
		if (n == 0 || (n == 1 && p.p[from] == '.') ||
		    (n == 2 && p.p[from] == '.' && p.p[from + 1] == '.'))
			return false;
		from = i + 1;
	}
	return true;
}

/* The states of the pattern that are alive: one pass over the path, whatever
 * the pattern is, as both come from people who may try to make it slow. */
struct glob {
	const char *pattern;
	size_t n;
	bool live[SP_RULES_PATTERN_MAX + 1];
};

/* What a star may stand for includes nothing at all. */
static void
skip_stars(struct glob *g)
{
	for (size_t i = 0; i < g->n; i++)
		if (g->live[i] && g->pattern[i] == '*')
			g->live[i + 1] = true;
}

static bool
is_double(const struct glob *g, size_t i)
{
	return (i + 1 < g->n && g->pattern[i + 1] == '*') ||
	    (i > 0 && g->pattern[i - 1] == '*');
}

/* Takes one byte; false when no state is left. */
static bool
step(struct glob *g, uint8_t c, bool continues)
{
	bool next[SP_RULES_PATTERN_MAX + 1] = {false}, any = false;

	for (size_t i = 0; i < g->n; i++) {
		uint8_t want = (uint8_t)g->pattern[i];

		if (!g->live[i])
			continue;
		if (want == '*')
			next[i] |= c != '/' || is_double(g, i);
		else if (want == '?')
			/* a character: its further bytes stay at its end */
			next[i + 1] |= c != '/' && !continues;
		else
			next[i + 1] |= want == c;
	}
	for (size_t i = 1; continues && i <= g->n; i++)
		if (g->live[i] && g->pattern[i - 1] == '?')
			next[i] = true;
	memcpy(g->live, next, sizeof(next));
	skip_stars(g);
	for (size_t i = 0; i <= g->n; i++)
		any |= g->live[i];
	return any;
}

static bool
glob(const char *pattern, struct sp_span path)
{
	struct glob g = {.pattern = pattern,
	    .n = strnlen(pattern, SP_RULES_PATTERN_MAX)};

	g.live[0] = true;
	skip_stars(&g);
	for (size_t i = 0; i < path.n; i++)
		if (!step(&g, path.p[i], (path.p[i] & 0xc0) == 0x80))
			return false;
	return g.live[g.n];
}

bool
sp_rules_path(const struct sp_rules *r, uint32_t op, struct sp_span path,
    char *why, size_t n_why)
{
	const char *what = op == SP_RIGHT_UPLOAD ? "upload" : "download";
	bool clean = is_clean(path), any_permit = false, permitted = false;

	if ((op != SP_RIGHT_UPLOAD && op != SP_RIGHT_DOWNLOAD) ||
	    (r->rights & op) == 0) {
		snprintf(why, n_why, "%s is not permitted in this session", what);
		return false;
	}
	for (size_t i = 0; i < r->n_path && i < SP_RULES_PATHS; i++) {
		const struct sp_rule_path *p = &r->path[i];

		if ((p->ops & op) == 0)
			continue;
		any_permit |= !p->forbid;
		if (p->forbid && (!clean || glob(p->pattern, path))) {
			snprintf(why, n_why, "the policy forbids to %s this path (%s)",
			    what, p->pattern);
			return false;
		}
		permitted |= !p->forbid && clean && glob(p->pattern, path);
	}
	if (any_permit && !permitted) {
		snprintf(why, n_why, "the policy does not allow to %s this path",
		    what);
		return false;
	}
	return true;
}

bool
sp_rules_env(const struct sp_rules *r, struct sp_span name)
{
	if (name.n == 0)
		return false;
	for (size_t i = 0; i < r->n_env && i < SP_RULES_ENV; i++) {
		size_t n = strnlen(r->env[i], sizeof(r->env[i]));

		if (n > 0 && r->env[i][n - 1] == '*' && name.n >= n - 1 &&
		    memcmp(name.p, r->env[i], n - 1) == 0)
			return true;
		if (sp_span_is(name, r->env[i]))
			return true;
	}
	return false;
}
