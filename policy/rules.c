/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/rules.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "policy/policy.h"

#define SIZE_MAX_BYTES (UINT64_C(1) << 50)

static const struct {
	uint32_t bit;
	const char *name;
} names[] = {{SP_RIGHT_SHELL, "shell"}, {SP_RIGHT_EXEC, "exec"},
    {SP_RIGHT_UPLOAD, "upload"}, {SP_RIGHT_DOWNLOAD, "download"},
    {SP_RIGHT_SUBSYSTEM, "subsystem"}, {SP_RIGHT_FORWARD, "forward"},
    {SP_RIGHT_LISTEN, "listen"}, {SP_RIGHT_SQL, "sql"}};
#define N_NAMES (sizeof(names) / sizeof(names[0]))

uint32_t
sp_right_of(const char *name)
{
	for (size_t i = 0; i < N_NAMES; i++)
		if (strcmp(name, names[i].name) == 0)
			return names[i].bit;
	return 0;
}

/* -------------------------------------------------------------------- text */

enum sp_err
sp_rights_text(struct sp_buf *b, uint32_t rights)
{
	const char *comma = "";

	for (size_t i = 0; i < N_NAMES; i++)
		if ((rights & names[i].bit) != 0) {
			SP_TRY(sp_buf_printf(b, "%s%s", comma, names[i].name));
			comma = ", ";
		}
	return comma[0] == '\0' ? sp_buf_printf(b, "nothing") : SP_OK;
}

static enum sp_err
put_place(struct sp_buf *b, const struct sp_rule_forward *f)
{
	bool v6 = strchr(f->host, ':') != NULL;

	SP_TRY(sp_buf_printf(b, "\"%s%s%s:", v6 ? "[" : "", f->host, v6 ? "]" : ""));
	if (f->low == 0 && f->high == UINT16_MAX)
		return sp_buf_printf(b, "*\"");
	return f->low == f->high ? sp_buf_printf(b, "%u\"", f->low) :
	    sp_buf_printf(b, "%u-%u\"", f->low, f->high);
}

static enum sp_err
put_allowed(struct sp_buf *b, const struct sp_rules *r)
{
	uint32_t plain = r->rights &
	    ~(uint32_t)(SP_RIGHT_FORWARD | SP_RIGHT_LISTEN);
	const char *comma = "";

	if (plain != 0 || r->rights == 0) {
		SP_TRY(sp_rights_text(b, plain));
		comma = ", ";
	}
	for (size_t i = 0; (r->rights & SP_RIGHT_FORWARD) != 0 &&
	    i < r->n_forward; i++, comma = ", ") {
		SP_TRY(sp_buf_printf(b, "%s%s", comma, i == 0 ? "forward to " : ""));
		SP_TRY(put_place(b, &r->forward[i]));
	}
	for (size_t i = 0; (r->rights & SP_RIGHT_LISTEN) != 0 && i < r->n_listen;
	    i++, comma = ", ") {
		SP_TRY(sp_buf_printf(b, "%s%s", comma, i == 0 ? "listen at " : ""));
		SP_TRY(put_place(b, &r->listen[i]));
	}
	return SP_OK;
}

static enum sp_err
put_size(struct sp_buf *b, const char *before, uint64_t n)
{
	static const char units[] = "KMG";
	size_t u = 0;

	while (u < 3 && n % 1024 == 0 && n > 0) {
		n /= 1024;
		u++;
	}
	SP_TRY(sp_buf_printf(b, "%s%llu", before, (unsigned long long)n));
	return u == 0 ? SP_OK : sp_buf_printf(b, "%c", units[u - 1]);
}

static enum sp_err
put_limits(struct sp_buf *b, const struct sp_rules *r)
{
	const char *comma = "; limit ";
	uint32_t s = r->idle_s;

	if (r->file_max != 0) {
		SP_TRY(sp_buf_printf(b, "%s", comma));
		SP_TRY(put_size(b, "file ", r->file_max));
		comma = ", ";
	}
	if (r->session_max != 0) {
		SP_TRY(sp_buf_printf(b, "%s", comma));
		SP_TRY(put_size(b, "session ", r->session_max));
		comma = ", ";
	}
	if (s == 0)
		return SP_OK;
	SP_TRY(sp_buf_printf(b, "%sidle ", comma));
	if (s >= 3600)
		SP_TRY(sp_buf_printf(b, "%uh", s / 3600));
	if (s % 3600 >= 60)
		SP_TRY(sp_buf_printf(b, "%um", s % 3600 / 60));
	return s % 60 > 0 ? sp_buf_printf(b, "%us", s % 60) : SP_OK;
}

static enum sp_err
put_paths(struct sp_buf *b, const struct sp_rules *r)
{
	for (size_t i = 0; i < r->n_path; i++) {
		const struct sp_rule_path *p = &r->path[i];
		const struct sp_rule_path *q = i == 0 ? NULL : p - 1;

		if (q != NULL && q->forbid == p->forbid && q->ops == p->ops) {
			SP_TRY(sp_buf_printf(b, ", \"%s\"", p->pattern));
			continue;
		}
		SP_TRY(sp_buf_printf(b, "; path %s ", p->forbid ? "forbid" : "allow"));
		SP_TRY(sp_rights_text(b, p->ops));
		SP_TRY(sp_buf_printf(b, " \"%s\"", p->pattern));
	}
	return SP_OK;
}

static enum sp_err
put_env(struct sp_buf *b, const struct sp_rules *r)
{
	if (r->n_env == 1 && strcmp(r->env[0], "*") == 0)
		return SP_OK;
	SP_TRY(sp_buf_printf(b, "; env %s", r->n_env == 0 ? "none" : ""));
	for (size_t i = 0; i < r->n_env; i++)
		SP_TRY(sp_buf_printf(b, strcmp(r->env[i], "*") == 0 ? "%s\"%s\"" :
		    "%s%s", i > 0 ? ", " : "", r->env[i]));
	return SP_OK;
}

enum sp_err
sp_rules_text(struct sp_buf *b, const struct sp_rules *r)
{
	SP_TRY(put_allowed(b, r));
	SP_TRY(put_limits(b, r));
	SP_TRY(put_paths(b, r));
	if (r->file_body == SP_BODY_FULL || r->exec_body == SP_BODY_DIGEST)
		SP_TRY(sp_buf_printf(b, "; record %s%s%s",
		    r->file_body == SP_BODY_FULL ? "files full" : "",
		    r->file_body == SP_BODY_FULL &&
		    r->exec_body == SP_BODY_DIGEST ? ", " : "",
		    r->exec_body == SP_BODY_DIGEST ? "exec digest" : ""));
	if (r->hold != 0)
		SP_TRY(sp_buf_printf(b, "; hold %s%s%s",
		    (r->hold & SP_HOLD_LINES) != 0 ? "lines" : "",
		    r->hold == SP_HOLD_ALL ? ", " : "",
		    (r->hold & SP_HOLD_TRANSFERS) != 0 ? "transfers" : ""));
	return put_env(b, r);
}

char *
sp_rules_show(char *dst, size_t cap, struct sp_span encoded)
{
	SP_BUF_AUTO b = {.max = 65536};
	static struct sp_rules r;

	dst[0] = '\0';
	if (sp_rules_decode(encoded, &r) == SP_OK && sp_rules_text(&b, &r) == SP_OK)
		sp_vis(dst, cap, sp_buf_span(&b));
	return dst;
}

/* ------------------------------------------------------------- small forms */

static bool
ports_parse(const char *s, uint16_t *low, uint16_t *high)
{
	const char *dash = strchr(s, '-');
	size_t n = dash == NULL ? strlen(s) : (size_t)(dash - s);
	uint64_t a, b;

	if (strcmp(s, "*") == 0) {
		*low = 0;
		*high = UINT16_MAX;
		return true;
	}
	if (sp_u64_parse(sp_span_of(s, n), UINT16_MAX, &a) != SP_OK || a == 0)
		return false;
	b = a;
	if (dash != NULL && (sp_u64_parse(sp_span_str(dash + 1), UINT16_MAX, &b) !=
	    SP_OK || b < a))
		return false;
	*low = (uint16_t)a;
	*high = (uint16_t)b;
	return true;
}

/* "10.0.0.0/8" or "fd00::/8": nothing is set beyond the prefix, as that is
 * mostly a slip. */
static bool
network_ok(const char *h)
{
	const char *slash = strchr(h, '/');
	char text[INET6_ADDRSTRLEN];
	uint8_t a[16] = {0};
	uint64_t bits;
	bool v6 = strchr(h, ':') != NULL;
	size_t most = v6 ? 128 : 32;

	if (sp_span_cstr(sp_span_of(h, (size_t)(slash - h)), text, sizeof(text)) !=
	    SP_OK || inet_pton(v6 ? AF_INET6 : AF_INET, text, a) != 1 ||
	    sp_u64_parse(sp_span_str(slash + 1), most, &bits) != SP_OK)
		return false;
	for (size_t i = bits; i < most; i++)
		if ((a[i / 8] >> (7 - i % 8) & 1) != 0)
			return false;
	return true;
}

static bool
host_ok(const char *h)
{
	uint8_t a[16];

	if (strcmp(h, "*") == 0)
		return true;
	if (strchr(h, '/') != NULL)
		return network_ok(h);
	if (strchr(h, ':') != NULL)
		return inet_pton(AF_INET6, h, a) == 1;
	return h[0] != '\0' && strspn(h, "abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == strlen(h);
}

bool
sp_place_parse(const char *text, struct sp_rule_forward *f)
{
	const char *colon = strrchr(text, ':');
	size_t n = colon == NULL ? 0 : (size_t)(colon - text);
	bool bracketed = n > 2 && text[0] == '[' && text[n - 1] == ']';
	struct sp_rule_forward p = {0};

	if (bracketed) {
		text++;
		n -= 2;
	}
	if (n == 0 || n >= sizeof(p.host) ||
	    bracketed != (memchr(text, ':', n) != NULL))
		return false;
	memcpy(p.host, text, n);
	if (!host_ok(p.host) || !ports_parse(colon + 1, &p.low, &p.high))
		return false;
	*f = p;
	return true;
}

bool
sp_size_parse(const char *text, uint64_t *bytes)
{
	static const char units[] = "KMGT";
	size_t n = strlen(text);
	const char *u = n == 0 ? NULL : strchr(units, text[n - 1]);
	unsigned shift = u == NULL ? 0 : (unsigned)(10 * (u - units + 1));
	uint64_t v;

	if (sp_u64_parse(sp_span_of(text, n - (u != NULL)), SIZE_MAX_BYTES, &v) !=
	    SP_OK || v == 0 || v > SIZE_MAX_BYTES >> shift)
		return false;
	*bytes = v << shift;
	return true;
}

bool
sp_env_name_ok(const char *name)
{
	SP_BUF_AUTO b = {.max = 256};
	static struct sp_rules probe = {.n_env = 1};

	if (sp_span_cstr(sp_span_str(name), probe.env[0], sizeof(probe.env[0])) !=
	    SP_OK)
		return false;
	/* One rule of what a name is: the codec's. */
	return strcmp(name, "*") == 0 || sp_rules_encode(&b, &probe) == SP_OK;
}

/* -------------------------------------------------------------------- wish */

static bool
any_place(struct sp_rule_forward *f)
{
	return sp_place_parse("*:*", f);
}

static bool
wish_place(struct sp_rules *r, uint32_t bit, const char *place)
{
	bool listens = bit == SP_RIGHT_LISTEN;
	uint16_t *n = listens ? &r->n_listen : &r->n_forward;
	struct sp_rule_forward *at = listens ? r->listen : r->forward;

	if (*n == SP_RULES_FORWARDS ||
	    !(place == NULL ? any_place(&at[*n]) : sp_place_parse(place, &at[*n])))
		return false;
	++*n;
	return true;
}

static bool
wish_item(struct sp_rules *r, char *item)
{
	char *eq = strchr(item, '=');
	uint32_t bit;

	if (eq != NULL)
		*eq++ = '\0';
	bit = sp_right_of(item);
	if (bit == 0)
		return false;
	r->rights |= bit;
	if (bit == SP_RIGHT_FORWARD || bit == SP_RIGHT_LISTEN)
		return wish_place(r, bit, eq);
	return eq == NULL;
}

bool
sp_rules_wish(const char *text, struct sp_buf *out, char *why, size_t cap)
{
	static struct sp_rules r;
	char copy[1024], *item, *rest = copy, shown[80];

	memset(&r, 0, offsetof(struct sp_rules, forward));
	/* The weakest record: what the policy wants wins over it. */
	r.file_body = r.exec_body = SP_BODY_DIGEST;
	r.n_env = 1;
	memcpy(r.env[0], "*", 2);
	snprintf(why, cap, "The rights asked for are too long a list.");
	if (sp_span_cstr(sp_span_str(text), copy, sizeof(copy)) != SP_OK)
		return false;
	while ((item = strsep(&rest, ",")) != NULL) {
		item += strspn(item, " ");
		for (size_t n = strlen(item); n > 0 && item[n - 1] == ' '; n--)
			item[n - 1] = '\0';
		sp_vis(shown, sizeof(shown), sp_span_str(item));
		if (wish_item(&r, item))
			continue;
		snprintf(why, cap, "\"%s\" is no right: there are shell, exec, upload, "
		    "download, subsystem, forward and listen; with a place: "
		    "forward=db-01:5432.", shown);
		return false;
	}
	return sp_rules_encode(out, &r) == SP_OK;
}
