/* SPDX-License-Identifier: Apache-2.0 */
/* search: words in what was on screens, typed, run and moved. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bastion/broker/keys.h"
#include "bastion/broker/search.h"
#include "bastion/broker/verb_int.h"

#define HITS_USUAL 100u
#define HITS_MAX 10000u

struct asked {
	struct sp_search_ask ask;
	char words[513], filters[512];
	char since[24], until[24];
};

static const struct {
	const char *name;
	uint8_t lane;
} lanes[] = {{"screen", SP_SEARCH_SCREEN}, {"keys", SP_SEARCH_KEYS},
    {"files", SP_SEARCH_FILES}, {"commands", SP_SEARCH_COMMANDS}};
/* Keystrokes are looked through only when they are asked for. */
#define LANES_USUAL (SP_SEARCH_SCREEN | SP_SEARCH_FILES | SP_SEARCH_COMMANDS)

static bool
take_lanes(struct sp_call *c, struct asked *a)
{
	const char *v;

	for (size_t i = 0; (v = sp_call_opt_n(c, "lane", i)) != NULL; i++) {
		uint8_t lane = 0;

		for (size_t k = 0; k < sizeof(lanes) / sizeof(lanes[0]); k++)
			if (strcmp(v, lanes[k].name) == 0)
				lane = lanes[k].lane;
		if (lane == 0) {
			sp_call_fail(c, SP_EXIT_USAGE,
			    "--lane wants screen, keys, files or commands");
			return false;
		}
		a->ask.lanes |= lane;
	}
	if (a->ask.lanes == 0)
		a->ask.lanes = LANES_USUAL;
	if ((a->ask.lanes & SP_SEARCH_KEYS) != 0 && sp_keys_needs(c->b)) {
		sp_call_fail(c, SP_EXIT_REFUSED, "what was typed opens when %llu "
		    "other people have signed for that one session (keys ask): it "
		    "is not searched", (unsigned long long)
		    c->b->cfg.keys_approvals);
		return false;
	}
	return true;
}

/* "2d" before now, or "2026-11-23" or "2026-11-23T12:00" in UTC. */
static bool
take_time(struct sp_call *c, const char *opt, char o[static 24])
{
	const char *v = sp_call_opt(c, opt), *rest = NULL;
	struct tm tm = {0};
	int64_t us = 0;

	o[0] = '\0';
	if (v == NULL)
		return true;
	if (sp_duration_parse(sp_span_str(v), &us) == SP_OK) {
		us = c->style.now_us - us;
	} else {
		rest = strptime(v, "%Y-%m-%d", &tm);
		if (rest != NULL && rest[0] == 'T')
			rest = strptime(rest, "T%H:%M", &tm);
		if (rest == NULL || (rest[0] != '\0' && strcmp(rest, "Z") != 0)) {
			sp_call_fail(c, SP_EXIT_USAGE, "--%s wants a time such as "
			    "2d, 2026-11-23 or 2026-11-23T12:00", opt);
			return false;
		}
		us = (int64_t)timegm(&tm) * 1000000;
	}
	snprintf(o, 24, "%lld", (long long)us);
	return true;
}

static bool
take_words(struct sp_call *c, struct asked *a)
{
	size_t n = 0;

	for (size_t i = 0; i < c->n_pos; i++) {
		int k = snprintf(a->words + n, sizeof(a->words) - n, "%s%s",
		    i > 0 ? " " : "", c->pos[i]);

		n += k < 0 ? 0 : (size_t)k;
		if (n > 256) {
			sp_call_fail(c, SP_EXIT_USAGE,
			    "search takes at most 256 bytes of words");
			return false;
		}
	}
	if (n == 0 || !sp_utf8_is_valid(sp_span_str(a->words))) {
		sp_call_fail(c, SP_EXIT_USAGE, "search what? Words in UTF-8");
		return false;
	}
	a->ask.words = a->words;
	return true;
}

static void
found(void *arg, enum sp_err e, int stream, const char *text)
{
	struct sp_call *c = arg;

	if (e != SP_OK && text != NULL && text[0] != '\0')
		sp_call_fail(c, e == SP_ERR_DENIED ? SP_EXIT_REFUSED :
		    SP_EXIT_LATER, "%s", text);
	else if (e != SP_OK)
		sp_call_fail_err(c, e, c->verb->name);
	else {
		c->stream(c->stream_arg, stream, 0, NULL);
		c->stream = NULL;
		sp_call_end(c, SP_EXIT_OK);
	}
}

static void
begin(struct sp_call *c)
{
	struct asked *a = c->state;

	if (sp_rows_n(c->rows[0]) == 0) {
		sp_call_fail(c, SP_EXIT_REFUSED, "there is no recording that fits "
		    "--user, --target, --since and --until");
		return;
	}
	a->ask.sessions = c->rows[0];
	sp_search(c->b, &c->who, &a->ask, found, c);
}

static void
load(struct sp_call *c, const struct asked *a)
{
	const char *user = sp_call_opt(c, "user"), *target = sp_call_opt(c, "target");

	sp_call_load(c, 0, (struct sp_need[]){{.sql = "SELECT id, person_name, "
	    "account_name, target_name, started_us FROM sessions WHERE "
	    "($1 = '' OR person_name = $1) AND ($2 = '' OR target_name = $2) AND "
	    "($3 = '' OR started_us >= $3::text::bigint) AND "
	    "($4 = '' OR started_us < $4::text::bigint) "
	    "ORDER BY started_us DESC, id LIMIT 100000",
	    .p = {user == NULL ? "" : user, target == NULL ? "" : target,
	    a->since, a->until}, .n = 4}}, 1, begin);
}

void
sp_verb_search(struct sp_call *c)
{
	struct asked *a = calloc(1, sizeof(*a));
	const char *limit = sp_call_opt(c, "limit");
	const char *user = sp_call_opt(c, "user"), *target = sp_call_opt(c, "target");
	uint64_t n = HITS_USUAL;

	SP_ASSERT(a != NULL);
	c->state = a;
	c->free_state = free;
	if (!take_lanes(c, a) || !take_words(c, a) ||
	    !take_time(c, "since", a->since) || !take_time(c, "until", a->until))
		return;
	if (limit != NULL && (sp_u64_parse(sp_span_str(limit), HITS_MAX, &n) !=
	    SP_OK || n == 0)) {
		sp_call_fail(c, SP_EXIT_USAGE, "--limit wants 1 to 10000");
		return;
	}
	snprintf(a->filters, sizeof(a->filters), "user=%.64s target=%.64s "
	    "since=%s until=%s", user == NULL ? "" : user,
	    target == NULL ? "" : target, a->since, a->until);
	a->ask.limit = (uint32_t)n;
	a->ask.what = (uint8_t)((sp_call_has(c, "regex") ? SP_SEARCH_REGEX : 0) |
	    (c->style.json ? SP_SEARCH_JSON : 0));
	a->ask.filters = a->filters;
	load(c, a);
}
