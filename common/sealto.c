/* SPDX-License-Identifier: Apache-2.0 */
#include "common/sealto.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/shares.h"
#include "common/text.h"

static const char prefix[] = "spk1";

void
sp_identity_text(char out[static SP_IDENTITY_TEXT],
    const uint8_t key[static 32])
{
	snprintf(out, SP_IDENTITY_TEXT, "%s", prefix);
	sp_hex(out + 4, key, 32);
	snprintf(out + 68, 9, "%08x", sp_crc32c(key, 32));
}

enum sp_err
sp_identity_parse(struct sp_span text, uint8_t key[static 32])
{
	char sum[9];

	if (text.n != SP_IDENTITY_TEXT - 1 || memcmp(text.p, prefix, 4) != 0 ||
	    sp_unhex(key, 32, sp_span_of(text.p + 4, 64)) != SP_OK)
		return SP_ERR_SYNTAX;
	snprintf(sum, sizeof(sum), "%08x", sp_crc32c(key, 32));
	return memcmp(sum, text.p + 68, 8) == 0 ? SP_OK : SP_ERR_CRYPTO;
}

struct say {
	char *p;
	size_t cap;
};

static enum sp_err SP_PRINTF(2, 3)
no(struct say *bad, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(bad->p, bad->cap, fmt, ap);
	va_end(ap);
	return SP_ERR_SYNTAX;
}

static bool
is_name(struct sp_span s)
{
	if (s.n == 0 || s.n > SP_SEALTO_NAME || sp_span_is(s, "vault") ||
	    sp_span_is(s, "auditors") || sp_span_is(s, "of") ||
	    (s.p[0] >= '0' && s.p[0] <= '9'))
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (!((s.p[i] >= 'a' && s.p[i] <= 'z') ||
		    (s.p[i] >= '0' && s.p[i] <= '9') || s.p[i] == '.' ||
		    s.p[i] == '_' || s.p[i] == '-'))
			return false;
	return true;
}

static int
find(const struct sp_sealto *o, struct sp_span name)
{
	for (uint8_t i = 1; i < o->n; i++)
		if (sp_span_is(name, o->one[i].name))
			return i;
	return -1;
}

/* NAME=KEY ... into one[1 ..]; 0 is the vault's place. */
static enum sp_err
take_auditors(struct sp_span s, struct sp_sealto *o, struct say *bad)
{
	struct sp_span w;

	while (sp_span_word(&s, &w)) {
		const uint8_t *eq = memchr(w.p, '=', w.n);
		struct sp_span name = sp_span_of(w.p, eq == NULL ? w.n :
		    (size_t)(eq - w.p)), key = {0};
		struct sp_sealto_one *a = &o->one[o->n];
		enum sp_err e;

		if (eq == NULL || !is_name(name))
			return no(bad, "recording_auditors: \"%s\" is not NAME=KEY, "
			    "with a name of small letters, digits, . _ and -",
			    sp_vis_tmp(name));
		if (find(o, name) >= 0)
			return no(bad, "recording_auditors: %s stands there twice",
			    sp_vis_tmp(name));
		if (o->n == SP_SEALTO_MAX)
			return no(bad, "recording_auditors: at most %d",
			    SP_SEALTO_MAX - 1);
		key = sp_span_of(eq + 1, w.n - name.n - 1);
		e = sp_identity_parse(key, a->key);
		if (e != SP_OK)
			return no(bad, "recording_auditors: the key of %s %s",
			    sp_vis_tmp(name), e == SP_ERR_CRYPTO ?
			    "has been changed: its sum does not fit" :
			    "is none that sallyport identity prints");
		for (uint8_t i = 1; i < o->n; i++)
			if (memcmp(o->one[i].key, a->key, 32) == 0)
				return no(bad, "recording_auditors: %s has the key "
				    "of %s", sp_vis_tmp(name), o->one[i].name);
		SP_TRY(sp_span_cstr(name, a->name, sizeof(a->name)));
		o->n++;
	}
	return SP_OK;
}

/* [N of] NAME ... */
static enum sp_err
take_lane(const char *setting, const char *text, const struct sp_sealto *o,
    struct sp_sealto_lane *l, struct say *bad)
{
	struct sp_span s = sp_span_str(text), w, rest;
	uint64_t k = 1;
	int at;

	*l = (struct sp_sealto_lane){.threshold = 1};
	rest = s;
	if (sp_span_word(&rest, &w) && sp_u64_parse(w, SP_SEALTO_MAX, &k) == SP_OK) {
		if (k < 1 || !sp_span_word(&rest, &w) || !sp_span_is(w, "of"))
			return no(bad, "%s: a number is followed by \"of\"", setting);
		s = rest;
	}
	while (sp_span_word(&s, &w)) {
		if (sp_span_is(w, "vault")) {
			l->who |= 1;
		} else if (sp_span_is(w, "auditors")) {
			l->who |= (uint32_t)((UINT64_C(1) << o->n) - 2);
		} else if ((at = find(o, w)) > 0) {
			l->who |= UINT32_C(1) << at;
		} else {
			return no(bad, "%s: \"%s\" is neither vault, auditors nor one "
			    "of recording_auditors", setting, sp_vis_tmp(w));
		}
	}
	if (l->who == 0)
		return no(bad, "%s: nobody could open it", setting);
	if (k > (uint64_t)__builtin_popcount(l->who))
		return no(bad, "%s: there are not %llu of them", setting,
		    (unsigned long long)k);
	if (k > 1 && (l->who & 1) != 0)
		return no(bad, "%s: the vault opens alone or not at all", setting);
	l->threshold = (uint8_t)k;
	return SP_OK;
}

/* Without the vault the others move up: no number is left out. */
static void
close_up(struct sp_sealto *o)
{
	uint32_t all = 0;

	for (size_t i = 0; i < SP_SEALTO_LANES; i++)
		all |= o->lane[i].who;
	o->has_vault = (all & 1) != 0;
	if (o->has_vault) {
		snprintf(o->one[0].name, sizeof(o->one[0].name), "vault");
		return;
	}
	memmove(&o->one[0], &o->one[1], (o->n - 1u) * sizeof(o->one[0]));
	o->n--;
	for (size_t i = 0; i < SP_SEALTO_LANES; i++)
		o->lane[i].who >>= 1;
}

enum sp_err
sp_sealto_parse(const struct sp_config *c, struct sp_sealto *out, char *text,
    size_t cap)
{
	struct say bad = {text, cap};
	struct sp_sealto o = {.n = 1};
	const struct {
		const char *setting, *text;
		enum sp_lane lane;
	} rows[] = {{"recording_screen", c->recording_screen, SP_LANE_OUT},
	    {"recording_keys", c->recording_keys, SP_LANE_IN},
	    {"recording_files", c->recording_files, SP_LANE_FILE}};

	text[0] = '\0';
	SP_TRY(take_auditors(sp_span_str(c->recording_auditors), &o, &bad));
	for (size_t i = 0; i < 3; i++) {
		bool is_own = rows[i].text[0] != '\0';

		SP_TRY(take_lane(is_own ? rows[i].setting : "recordings_sealed_to",
		    is_own ? rows[i].text : c->recordings_sealed_to, &o,
		    &o.lane[rows[i].lane - 1], &bad));
		o.lane[SP_LANE_META - 1].who |= o.lane[rows[i].lane - 1].who;
	}
	/* Who may open anything may know what it is. */
	o.lane[SP_LANE_META - 1].threshold = 1;
	o.lane[SP_LANE_VIEW - 1] = o.lane[SP_LANE_OUT - 1];
	close_up(&o);
	*out = o;
	return SP_OK;
}
