/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "bastion/player/ui.h"

#define SECONDS_MAX 100000000u

/* "2:03", "1:02:03": at most three numbers. */
static bool
parse_colons(const char *t, uint64_t *us)
{
	uint64_t sum = 0, v = 0;

	for (int i = 0; i < 3; i++) {
		const char *colon = strchr(t, ':');
		size_t n = colon == NULL ? strlen(t) : (size_t)(colon - t);

		if (sp_u64_parse(sp_span_of(t, n), SECONDS_MAX, &v) != SP_OK ||
		    (i > 0 && v > 59))
			return false;
		sum = sum * 60 + v;
		if (colon == NULL) {
			*us = sum * 1000000;
			return true;
		}
		t = colon + 1;
	}
	return false;
}

static bool
parse_length(const char *t, uint64_t end_us, uint64_t *us)
{
	size_t n = strlen(t);
	uint64_t v = 0;
	int64_t d = 0;

	if (n > 1 && t[n - 1] == '%') {
		if (sp_u64_parse(sp_span_of(t, n - 1), 100, &v) != SP_OK)
			return false;
		*us = end_us / 100 * v;
		return true;
	}
	if (parse_colons(t, us))
		return true;
	if (sp_duration_parse(sp_span_str(t), &d) != SP_OK || d < 0)
		return false;
	*us = (uint64_t)d;
	return true;
}

bool
ui_parse_time(const char *t, uint64_t now_us, uint64_t end_us, uint64_t *at_us)
{
	char sign = '\0';
	uint64_t us = 0;

	while (*t == ' ')
		t++;
	if (*t == '+' || *t == '-')
		sign = *t++;
	if (!parse_length(t, end_us, &us))
		return false;
	if (sign == '+')
		us = now_us + us;
	else if (sign == '-')
		us = now_us > us ? now_us - us : 0;
	*at_us = us > end_us ? end_us : us;
	return true;
}
