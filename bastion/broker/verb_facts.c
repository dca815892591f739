/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/verb_facts.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

void
sp_known_set(struct sp_known *k, const char *user, const char *target,
    const char *account, const char *tags)
{
	char *save = NULL, *t;
	int len;

	memset(k, 0, sizeof(*k));
	k->f = (struct sp_facts){.user = user, .groups = k->groups,
	    .target = target, .account = account, .tags = k->tags,
	    .minute_of_day = -1, .weekday = -1, .mfa = -1};
	len = snprintf(k->tag_text, sizeof(k->tag_text), "%s",
	    tags == NULL ? "" : tags);
	for (t = strtok_r(k->tag_text, " \t\n", &save);
	    t != NULL && k->f.n_tags < SP_KNOWN_TAGS;
	    t = strtok_r(NULL, " \t\n", &save))
		k->tags[k->f.n_tags++] = t;
	/* The slot past the last is NULL. The last word of a text that was cut
	 * is a piece of a name: it goes, and NULL takes its place. */
	if (len < 0 || (size_t)len >= sizeof(k->tag_text)) {
		if (k->f.n_tags > 0)
			k->tags[--k->f.n_tags] = NULL;
		k->f.n_tags++;
	} else if (t != NULL) {
		k->f.n_tags++;
	}
}

void
sp_known_group(struct sp_known *k, const char *group)
{
	if (k->f.n_groups > 0 && k->groups[k->f.n_groups - 1] == NULL)
		return;
	k->groups[k->f.n_groups] = k->f.n_groups < SP_KNOWN_GROUPS ? group : NULL;
	k->f.n_groups++;
}

void
sp_known_actor(struct sp_known *k, const struct sp_actor *a)
{
	for (size_t i = 0; i < a->n_groups; i++)
		sp_known_group(k, a->groups[i]);
	if (a->more_groups)
		sp_known_group(k, NULL);
}

void
sp_known_when(struct sp_known *k, int64_t at_us, const char *source, int mfa)
{
	time_t at = (time_t)(at_us / 1000000);
	struct tm tm;

	if (localtime_r(&at, &tm) != NULL) {
		k->f.minute_of_day = tm.tm_hour * 60 + tm.tm_min;
		k->f.weekday = tm.tm_wday;
	}
	k->f.source = source;
	k->f.mfa = mfa;
}

enum sp_err
sp_time_parse(const char *s, int64_t *us)
{
	struct tm tm = {0};
	const char *rest = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
	long offset = 0;
	int sign;

	if (rest == NULL)
		return SP_ERR_SYNTAX;
	if (*rest == '.') {
		rest++;
		rest += strspn(rest, "0123456789");
	}
	sign = *rest == '+' ? 1 : *rest == '-' ? -1 : 0;
	if (sign != 0) {
		uint64_t h, m;

		if (strlen(rest) != 6 || rest[3] != ':' ||
		    sp_u64_parse(sp_span_of(rest + 1, 2), 23, &h) != SP_OK ||
		    sp_u64_parse(sp_span_of(rest + 4, 2), 59, &m) != SP_OK)
			return SP_ERR_SYNTAX;
		offset = sign * (long)(h * 3600 + m * 60);
	} else if (strcmp(rest, "Z") != 0 && strcmp(rest, "z") != 0) {
		return SP_ERR_SYNTAX;
	}
	*us = ((int64_t)timegm(&tm) - offset) * 1000000;
	return SP_OK;
}
