/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "common/text.h"
#include "policy/compile.h"

#define NEAR_MAX 63

/* Levenshtein's distance, with neighbours that changed places counted once. */
static size_t
distance(const char *a, const char *b)
{
	size_t row[3][NEAR_MAX + 2], na = strlen(a), nb = strlen(b);

	if (na > NEAR_MAX || nb > NEAR_MAX)
		return SIZE_MAX;
	memset(row, 0, sizeof(row));
	for (size_t j = 0; j <= nb; j++)
		row[0][j] = j;
	for (size_t i = 1; i <= na; i++) {
		size_t *now = row[i % 3], *up = row[(i + 2) % 3];
		const size_t *up2 = row[(i + 1) % 3];

		now[0] = i;
		for (size_t j = 1; j <= nb; j++) {
			size_t d = up[j - 1] + (a[i - 1] != b[j - 1]);

			d = up[j] + 1 < d ? up[j] + 1 : d;
			d = now[j - 1] + 1 < d ? now[j - 1] + 1 : d;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
			    a[i - 2] == b[j - 1] && up2[j - 2] + 1 < d)
				d = up2[j - 2] + 1;
			now[j] = d;
		}
	}
	return row[na % 3][nb];
}

void
sp_pol_near_offer(struct sp_near *n, const char *candidate)
{
	size_t d = distance(n->word, candidate), most = strlen(n->word) / 3;

	most = most < 1 ? 1 : most > 3 ? 3 : most;
	if (d > most || strlen(n->word) < 2 ||
	    (n->best != NULL && d >= n->best_distance))
		return;
	n->best = candidate;
	n->best_distance = d;
}

bool
sp_pol_name_ok(struct sp_policy_ctx *c, const struct sp_word *w,
    const char *what)
{
	if (sp_name_is_valid(sp_span_str(w->s)))
		return true;
	return sp_pol_fail(c, w->at, "\"%s\" cannot be the name of a %s: names are "
	    "1 to %d of a-z 0-9 . _ - and begin with a letter or digit", w->s,
	    what, SP_NAME_MAX);
}

static const char *const levels[] = {[SP_MFA_NONE] = "none",
    [SP_MFA_TOTP] = "totp", [SP_MFA_SK] = "sk", [SP_MFA_SK_UV] = "sk+uv"};

const char *
sp_mfa_text(int level)
{
	return level < SP_MFA_NONE || level > SP_MFA_SK_UV ? "unknown" :
	    levels[level];
}

bool
sp_pol_level(struct sp_policy_ctx *c, const struct sp_word *w,
    enum sp_mfa *level)
{
	for (int i = SP_MFA_TOTP; i <= SP_MFA_SK_UV; i++)
		if (strcmp(w->s, levels[i]) == 0) {
			*level = (enum sp_mfa)i;
			return true;
		}
	return sp_pol_fail(c, w->at, "\"%s\" is no level of a second factor; there "
	    "are totp, sk and sk+uv", w->s);
}

bool
sp_addr_parse(const char *text, struct sp_addr *a)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	char t[INET6_ADDRSTRLEN];
	size_t n = strcspn(text, "%");

	*a = (struct sp_addr){0};
	if (n >= sizeof(t))
		return false;
	memcpy(t, text, n);
	t[n] = '\0';
	if (text[n] == '\0' && inet_pton(AF_INET, t, a->b + 12) == 1) {
		memcpy(a->b, mapped, sizeof(mapped));
		a->is_v4 = true;
		return true;
	}
	if (inet_pton(AF_INET6, t, a->b) != 1)
		return false;
	a->is_v4 = memcmp(a->b, mapped, sizeof(mapped)) == 0;
	return true;
}

/* Are the bits of a from `bits` on all zero? */
static bool
rest_is_zero(const uint8_t *a, unsigned bits)
{
	for (unsigned i = bits; i < 128; i++)
		if ((a[i / 8] & (0x80 >> (i % 8))) != 0)
			return false;
	return true;
}

bool
sp_cidr_has(const struct sp_cidr *c, const struct sp_addr *a)
{
	unsigned whole = c->bits / 8, rest = c->bits % 8;

	if (c->addr.is_v4 != a->is_v4 ||
	    memcmp(c->addr.b, a->b, whole) != 0)
		return false;
	return rest == 0 ||
	    ((c->addr.b[whole] ^ a->b[whole]) & (0xff << (8 - rest))) == 0;
}

/* Splits "address/bits"; bits counts in the form that was written. */
static bool
cidr_parts(const char *s, struct sp_addr *a, unsigned *bits, bool *dotted)
{
	const char *slash = strchr(s, '/');
	size_t n = slash == NULL ? strlen(s) : (size_t)(slash - s);
	char t[INET6_ADDRSTRLEN];
	uint64_t v;

	if (n >= sizeof(t))
		return false;
	memcpy(t, s, n);
	t[n] = '\0';
	*dotted = strchr(t, ':') == NULL;
	v = *dotted ? 32 : 128;
	if (!sp_addr_parse(t, a) ||
	    (slash != NULL && sp_u64_parse(sp_span_str(slash + 1), v, &v) != SP_OK))
		return false;
	*bits = (unsigned)v;
	return true;
}

bool
sp_pol_cidr(struct sp_policy_ctx *c, const struct sp_word *w)
{
	struct sp_cidr *k = sp_pol_alloc(c, sizeof(*k));
	unsigned written;
	bool dotted;

	if (k == NULL)
		return false;
	if (!cidr_parts(w->s, &k->addr, &written, &dotted))
		return sp_pol_fail(c, w->at, "\"%s\" is no network; write it like "
		    "192.0.2.0/24, 192.0.2.7 or 2001:db8::/32", w->s);
	/* ::ffff:0:0/90, half IPv4 and half IPv6, has bits beyond its prefix */
	k->bits = dotted ? written + 96 : written;
	if (!rest_is_zero(k->addr.b, k->bits))
		return sp_pol_fail(c, w->at, "\"%s\" has bits beyond its prefix; "
		    "write the network's first address, or /%d for this one "
		    "address", w->s, dotted ? 32 : 128);
	k->text = w->s;
	*c->def->cidr_tail = k;
	c->def->cidr_tail = &k->next;
	return true;
}

static int
day_of(const char *s)
{
	static const char days[7][4] = {"sun", "mon", "tue", "wed", "thu", "fri",
	    "sat"};

	for (int i = 0; i < 7; i++)
		if (memcmp(s, days[i], 3) == 0)
			return i;
	return -1;
}

/* "mon" or "mon-fri" (or "sat-mon") to a set of days. */
static bool
days_parse(const char *s, uint8_t *days)
{
	size_t n = strlen(s);
	int from, to;

	if (n != 3 && (n != 7 || s[3] != '-'))
		return false;
	from = day_of(s);
	to = n == 3 ? from : day_of(s + 4);
	if (from < 0 || to < 0)
		return false;
	for (*days = 0;; from = (from + 1) % 7) {
		*days |= (uint8_t)(1U << from);
		if (from == to)
			return true;
	}
}

static bool
minute_parse(const char *s, int *minute)
{
	static const char form[] = "dd:dd";
	int h, m;

	for (size_t i = 0; i < 5; i++)
		if (form[i] == 'd' ? s[i] < '0' || s[i] > '9' : s[i] != form[i])
			return false;
	h = (s[0] - '0') * 10 + s[1] - '0';
	m = (s[3] - '0') * 10 + s[4] - '0';
	*minute = h * 60 + m;
	return m < 60 && *minute <= 24 * 60;
}

bool
sp_pol_hours(struct sp_policy_ctx *c, const struct sp_word *days,
    const struct sp_word *times)
{
	struct sp_span_of_week *k = sp_pol_alloc(c, sizeof(*k));
	size_t room = strlen(days->s) + strlen(times->s) + 2;
	char *text = k == NULL ? NULL : sp_pol_alloc(c, room);

	if (text == NULL)
		return false;
	if (!days_parse(days->s, &k->days))
		return sp_pol_fail(c, days->at, "\"%s\" is no day; write sun, mon, "
		    "tue, wed, thu, fri, sat or a range like mon-fri", days->s);
	if (strlen(times->s) != 11 || times->s[5] != '-' ||
	    !minute_parse(times->s, &k->from) ||
	    !minute_parse(times->s + 6, &k->to) || k->from == 24 * 60)
		return sp_pol_fail(c, times->at, "\"%s\" is no range of time; write "
		    "it like 08:00-19:00, 22:00-06:00 or 00:00-24:00", times->s);
	if (k->from == k->to)
		return sp_pol_fail(c, times->at, "\"%s\" is empty; a whole day is "
		    "00:00-24:00", times->s);
	snprintf(text, room, "%s %s", days->s, times->s);
	k->text = text;
	*c->def->span_tail = k;
	c->def->span_tail = &k->next;
	return true;
}
