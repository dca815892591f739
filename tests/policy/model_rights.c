/* SPDX-License-Identifier: Apache-2.0 */
/* The reference's half of rights: texts beside what they must mean. */
#include <stdlib.h>
#include <string.h>

#include "tests/policy/model.h"

#define OUT(...) SP_ASSERT(sp_buf_printf(out, __VA_ARGS__) == SP_OK)

static const struct {
	const char *text;
	struct sp_rule_forward is;
} places[] = {
    {"db-01:5432", {"db-01", 5432, 5432}},
    {"DB.example.:1-65535", {"DB.example.", 1, 65535}},
    {"*:443", {"*", 443, 443}}, {"localhost:*", {"localhost", 0, 65535}},
    {"10.0.0.0/8:22-23", {"10.0.0.0/8", 22, 23}},
    {"[::1]:80", {"::1", 80, 80}}, {"[fd00::/8]:*", {"fd00::/8", 0, 65535}},
};
#define N_PLACES 7

static const struct {
	const char *text;
	uint64_t is;
} sizes[] = {{"1", 1}, {"4096", 4096}, {"64K", 65536}, {"10M", 10485760},
    {"2G", 2147483648}, {"1T", 1099511627776}},
    times[] = {{"1s", 1}, {"90s", 90}, {"15m", 900}, {"1h30m", 5400},
    {"8h", 28800}};
static const char *const patterns[] = {"/srv/**", "/etc/*.d/?", "**",
    "/家/with blank", "*"};
static const char *const variables[] = {"LANG", "LC_*", "path", "\"env\"", "_x9"};
static const char *const plain[] = {"shell", "exec", "upload", "download",
    "subsystem"};
static const uint32_t plain_bits[] = {SP_RIGHT_SHELL, SP_RIGHT_EXEC,
    SP_RIGHT_UPLOAD, SP_RIGHT_DOWNLOAD, SP_RIGHT_SUBSYSTEM};

static int
pick(int below)
{
	return (int)m_random((uint64_t)below);
}

static int
maybe(int below)
{
	return pick(3) == 0 ? pick(below) : -1;
}

void
m_make_rights(struct m_rights *r)
{
	memset(r, 0, sizeof(*r));
	r->plain = pick(2) == 0 ? -1 : pick(32);
	r->n_forward = r->plain < 0 ? 0 : pick(LIST_MAX + 1);
	r->n_listen = r->plain < 0 ? 0 : pick(LIST_MAX + 1);
	if (r->plain == 0 && r->n_forward + r->n_listen == 0)
		r->plain = 1;
	for (int i = 0; i < LIST_MAX; i++) {
		r->forward[i] = pick(N_PLACES);
		r->listen[i] = pick(N_PLACES);
	}
	r->file = maybe(6);
	r->session = maybe(6);
	r->idle = maybe(5);
	r->hold = pick(3) == 0 ? 1 + pick(3) : 0;
	r->n_path = pick(2) * pick(PATHS_MAX + 1);
	for (int i = 0; i < r->n_path; i++) {
		r->path[i] = pick(5);
		r->ops[i] = 1 + pick(3);
		r->path_forbids[i] = pick(2) == 0;
	}
	r->files = maybe(2);
	r->exec = maybe(2);
	r->env = maybe(32);
}

static void
print_allow(const struct m_rights *r, struct sp_buf *out)
{
	const char *comma = "";

	if (r->plain < 0)
		return;
	OUT("%sallow", m_gap());
	/* In any order: the bits come from both ends. */
	for (int k = 0, up = pick(2); k < 5; k++) {
		int i = up == 1 ? k : 4 - k;

		if ((r->plain & 1 << i) != 0) {
			OUT("%s %s", comma, plain[i]);
			comma = ",";
		}
	}
	for (int i = 0; i < r->n_forward; i++, comma = ",")
		OUT("%s %s\"%s\"", comma, i == 0 ? "forward to " : "",
		    places[r->forward[i]].text);
	for (int i = 0; i < r->n_listen; i++, comma = ",")
		OUT("%s %s\"%s\"", comma, i == 0 ? "listen at " : "",
		    places[r->listen[i]].text);
}

static void
print_limits(const struct m_rights *r, struct sp_buf *out)
{
	static const char *const what[] = {"file", "session", "idle"};
	const char *v[] = {r->file < 0 ? NULL : sizes[r->file].text,
	    r->session < 0 ? NULL : sizes[r->session].text,
	    r->idle < 0 ? NULL : times[r->idle].text};
	bool begun = false;

	for (int i = 2; i >= 0; i--) {
		if (v[i] == NULL)
			continue;
		if (!begun || pick(2) == 0)
			OUT("%slimit %s %s", m_gap(), what[i], v[i]);
		else
			OUT(",%s%s %s", m_gap(), what[i], v[i]);
		begun = true;
	}
}

void
m_print_rights(const struct m_rights *r, struct sp_buf *out)
{
	static const char *const how[] = {"full", "digest"};
	static const char *const held[] = {"", "lines", "transfers",
	    "transfers, lines"};
	static const char *const ops[] = {"", "upload", "download",
	    "download, upload"};
	const char *comma = "";

	print_allow(r, out);
	print_limits(r, out);
	for (int i = 0; i < r->n_path; i++)
		OUT("%spath %s %s \"%s\"", m_gap(), r->path_forbids[i] ? "forbid" :
		    "allow", ops[r->ops[i]], patterns[r->path[i]]);
	if (r->files >= 0)
		OUT("%srecord files %s", m_gap(), how[r->files]);
	if (r->exec >= 0)
		OUT("%srecord exec %s", m_gap(), how[r->exec]);
	if (r->hold > 0)
		OUT("%shold %s", m_gap(), held[r->hold]);
	if (r->env == 0)
		OUT("%senv none", m_gap());
	if (r->env > 0)
		OUT("%senv", m_gap());
	for (int i = 0; r->env > 0 && i < 5; i++)
		if ((r->env & 1 << i) != 0) {
			OUT("%s %s", comma, variables[i]);
			comma = ",";
		}
}

static void
means(const struct m_rights *r, struct sp_rules *x)
{
	x->rights = 0;
	for (int i = 0; i < 5; i++)
		if (r->plain < 0 || (r->plain & 1 << i) != 0)
			x->rights |= plain_bits[i];
	x->rights |= r->n_forward > 0 ? (uint32_t)SP_RIGHT_FORWARD : 0;
	x->rights |= r->n_listen > 0 ? (uint32_t)SP_RIGHT_LISTEN : 0;
	x->file_body = r->files != 0;
	x->exec_body = r->exec == 1;
	x->hold = (uint8_t)r->hold;
	x->idle_s = r->idle < 0 ? 0 : (uint32_t)times[r->idle].is;
	x->file_max = r->file < 0 ? 0 : sizes[r->file].is;
	x->session_max = r->session < 0 ? 0 : sizes[r->session].is;
	x->n_forward = (uint16_t)r->n_forward;
	x->n_listen = (uint16_t)r->n_listen;
	for (int i = 0; i < LIST_MAX; i++) {
		x->forward[i] = places[r->forward[i]].is;
		x->listen[i] = places[r->listen[i]].is;
	}
}

void
m_decide_rights(const struct m_rights *r, struct sp_verdict *v)
{
	SP_BUF_AUTO b = {.max = sizeof(v->rules)};
	static struct sp_rules x;

	memset(&x, 0, sizeof(x));
	means(r, &x);
	x.n_path = (uint16_t)r->n_path;
	for (int i = 0; i < r->n_path; i++) {
		x.path[i].forbid = r->path_forbids[i];
		x.path[i].ops = (r->ops[i] & 1 ? SP_RIGHT_UPLOAD : 0U) |
		    (r->ops[i] & 2 ? SP_RIGHT_DOWNLOAD : 0U);
		memcpy(x.path[i].pattern, patterns[r->path[i]],
		    strlen(patterns[r->path[i]]));
	}
	if (r->env < 0)
		memcpy(x.env[x.n_env++], "*", 1);
	for (int i = 0; r->env > 0 && i < 5; i++)
		if ((r->env & 1 << i) != 0)
			memcpy(x.env[x.n_env++], i == 3 ? "env" : variables[i],
			    i == 3 ? 3 : strlen(variables[i]));
	SP_ASSERT(sp_rules_encode(&b, &x) == SP_OK);
	v->rights = x.rights;
	v->n_rules = (uint16_t)b.len;
	memcpy(v->rules, b.p + b.off, b.len);
}
