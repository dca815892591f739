/* SPDX-License-Identifier: Apache-2.0 */
#include "common/storeurl.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/text.h"

#define SCHEME "https://"
#define ALNUM "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

static enum sp_err
no(char *bad, size_t cap, const char *why)
{
	snprintf(bad, cap, "ship_store and ship_address: %s", why);
	return SP_ERR_SYNTAX;
}

static bool
is_numeric(const char *s)
{
	uint8_t a[16];

	return inet_pton(AF_INET, s, a) == 1 || inet_pton(AF_INET6, s, a) == 1;
}

/* HOST[:PORT] or [V6][:PORT], up to the slash. */
static bool
take_host(struct sp_storeurl *u, struct sp_span s)
{
	const uint8_t *colon;
	uint64_t port = 443;
	struct sp_span host = s;

	u->is_v6 = s.n > 0 && s.p[0] == '[';
	if (u->is_v6) {
		const uint8_t *end = memchr(s.p, ']', s.n);

		if (end == NULL)
			return false;
		host = sp_span_of(s.p + 1, (size_t)(end - s.p) - 1);
		s = sp_span_of(end + 1, s.n - host.n - 2);
	} else {
		colon = s.n == 0 ? NULL : memchr(s.p, ':', s.n);
		host.n = colon == NULL ? s.n : (size_t)(colon - s.p);
		s = sp_span_of(s.p + host.n, s.n - host.n);
	}
	if (s.n > 0 && (s.p[0] != ':' || sp_u64_parse(sp_span_of(s.p + 1, s.n - 1),
	    65535, &port) != SP_OK))
		return false;
	u->port = (uint16_t)port;
	return port > 0 && host.n > 0 && sp_span_cstr(host, u->host,
	    sizeof(u->host)) == SP_OK &&
	    strspn(u->host, ALNUM ".-:") == strlen(u->host) &&
	    (!u->is_v6 || is_numeric(u->host));
}

/* BUCKET[/PREFIX] */
static bool
take_path(struct sp_storeurl *u, const char *path)
{
	size_t n = strcspn(path, "/"), k;

	if (n < 3 || n >= sizeof(u->bucket) || strspn(path,
	    "abcdefghijklmnopqrstuvwxyz0123456789.-") < n)
		return false;
	memcpy(u->bucket, path, n);
	path += n + (path[n] == '/');
	k = strlen(path);
	while (k > 0 && path[k - 1] == '/')
		k--;
	if (k + 2 > sizeof(u->prefix) || strspn(path, ALNUM "/._-") < k ||
	    path[0] == '/' || strstr(path, "//") != NULL ||
	    strstr(path, "..") != NULL)
		return k == 0;
	snprintf(u->prefix, sizeof(u->prefix), "%.*s%s", (int)k, path,
	    k > 0 ? "/" : "");
	return true;
}

static bool
take_addresses(struct sp_storeurl *u, const char *s)
{
	if (s[strspn(s, " ")] == '\0' && is_numeric(u->host)) {
		memcpy(u->address[u->n_address++], u->host, strlen(u->host));
		return true;
	}
	for (size_t n; *(s += strspn(s, " ")) != '\0'; s += n) {
		n = strcspn(s, " ");
		if (n >= 64 || u->n_address == 8)
			return false;
		memcpy(u->address[u->n_address], s, n);
		if (!is_numeric(u->address[u->n_address++]))
			return false;
	}
	return u->n_address > 0;
}

enum sp_err
sp_storeurl_parse(const struct sp_config *c, struct sp_storeurl *out, char *bad,
    size_t cap)
{
	const char *s = c->ship_store, *slash;
	struct sp_storeurl u = {.port = 443};
	struct sp_storelock lock;

	if (s[0] == '\0')
		return SP_ERR_NOTFOUND;
	if (strncmp(s, SCHEME, strlen(SCHEME)) != 0)
		return no(bad, cap, "an address that begins with https://");
	s += strlen(SCHEME);
	slash = strchr(s, '/');
	if (slash == NULL || !take_host(&u, sp_span_of(s, (size_t)(slash - s))))
		return no(bad, cap, "https://HOST[:PORT]/BUCKET[/PREFIX]");
	if (!take_path(&u, slash + 1))
		return no(bad, cap, "a bucket of 3 to 63 of a-z 0-9 . -, and a "
		    "prefix of letters, digits and /._-");
	if (!take_addresses(&u, c->ship_address))
		return no(bad, cap, "one to eight numeric addresses of the host, as "
		    "no name is looked up");
	if (sp_storelock_parse(c->ship_lock, &lock) != SP_OK)
		return no(bad, cap, "ship_lock is governance DAYS or compliance "
		    "DAYS, hold, both, or nothing");
	if (strcmp(c->ship_compare, "digest") != 0 &&
	    strcmp(c->ship_compare, "read") != 0)
		return no(bad, cap, "ship_compare is digest or read");
	if (c->ship_region[0] == '\0' || strspn(c->ship_region, ALNUM "-_") <
	    strlen(c->ship_region) || strlen(c->ship_region) > 63)
		return no(bad, cap, "ship_region is a name such as eu-west-1");
	*out = u;
	return SP_OK;
}

void
sp_storeurl_key(const struct sp_storeurl *u, const uint8_t session[static 16],
    int64_t started_us, char *out, size_t cap)
{
	char id[SP_UUID_TEXT], day[32] = "1970/01/01";
	time_t t = (time_t)(started_us / 1000000);
	struct tm tm;

	sp_uuid_text(id, session);
	if (gmtime_r(&t, &tm) != NULL && tm.tm_year >= 70 && tm.tm_year < 8100)
		snprintf(day, sizeof(day), "%04d/%02d/%02d", tm.tm_year + 1900,
		    tm.tm_mon + 1, tm.tm_mday);
	snprintf(out, cap, "%s%s/%s.spr", u->prefix, day, id);
}

enum sp_err
sp_storelock_parse(const char *text, struct sp_storelock *out)
{
	struct sp_storelock l = {.days = 0};
	bool wants_days = false;
	uint64_t n;

	for (size_t k; *(text += strspn(text, " ")) != '\0'; text += k) {
		struct sp_span w = sp_span_of(text, k = strcspn(text, " "));

		if (wants_days) {
			if (sp_u64_parse(w, 36500, &n) != SP_OK || n == 0)
				return SP_ERR_SYNTAX;
			l.days = (unsigned)n;
			wants_days = false;
		} else if (sp_span_is(w, "hold")) {
			l.hold = true;
		} else if (l.mode[0] == '\0' && (sp_span_is(w, "governance") ||
		    sp_span_is(w, "compliance"))) {
			snprintf(l.mode, sizeof(l.mode), "%s", w.p[0] == 'g' ?
			    "GOVERNANCE" : "COMPLIANCE");
			wants_days = true;
		} else {
			return SP_ERR_SYNTAX;
		}
	}
	if (wants_days)
		return SP_ERR_SYNTAX;
	*out = l;
	return SP_OK;
}
