/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/scp_line.h"

#include <string.h>

/* Digits up to a space. */
static enum scp_look
number(struct sp_span *s, unsigned base, size_t n_max, uint64_t *v)
{
	size_t i = 0;

	for (*v = 0; i < s->n && s->p[i] != ' '; i++) {
		unsigned d = (unsigned)s->p[i] - '0';

		if (i >= n_max || d >= base || *v > (UINT64_MAX - d) / base)
			return SCP_NO;
		*v = *v * base + d;
	}
	if (i == s->n)
		return SCP_PART;
	if (i == 0)
		return SCP_NO;
	*s = sp_span_of(s->p + i + 1, s->n - i - 1);
	return SCP_LINE;
}

static enum scp_look
name(struct sp_span s, struct sp_span *out)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '\n') {
			*out = sp_span_of(s.p, i);
			return i == 0 || i + 1 != s.n || sp_span_is(*out, ".") ||
			    sp_span_is(*out, "..") ? SCP_NO : SCP_LINE;
		}
		if (s.p[i] == '/' || s.p[i] == '\0')
			return SCP_NO;
	}
	return SCP_PART;
}

static enum scp_look
file_or_dir(struct sp_span s, struct scp_line *l)
{
	uint64_t mode = 0;
	enum scp_look k = number(&s, 8, 4, &mode);

	if (k == SCP_LINE)
		k = number(&s, 10, 19, &l->size);
	if (k == SCP_LINE)
		k = name(s, &l->name);
	l->mode = (uint32_t)mode;
	return k;
}

static enum scp_look
times(struct sp_span s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '\n')
			return i + 1 == s.n && i > 0 ? SCP_LINE : SCP_NO;
		if (s.p[i] != ' ' && s.p[i] != '-' && (s.p[i] < '0' ||
		    s.p[i] > '9'))
			return SCP_NO;
	}
	return SCP_PART;
}

enum scp_look
scp_look(struct sp_span s, struct scp_line *l)
{
	struct scp_line k = {0};
	enum scp_look v = SCP_NO;
	struct sp_span rest;

	if (s.n == 0)
		return SCP_PART;
	rest = sp_span_of(s.p + 1, s.n - 1);
	k.type = s.p[0];
	if (k.type == 'C' || k.type == 'D')
		v = file_or_dir(rest, &k);
	else if (k.type == 'T')
		v = times(rest);
	else if (k.type == 'E')
		v = rest.n == 0 ? SCP_PART : sp_span_is(rest, "\n") ? SCP_LINE :
		    SCP_NO;
	else if (k.type == 1 || k.type == 2)
		v = rest.n > 0 && rest.p[rest.n - 1] == '\n' ? SCP_LINE : SCP_PART;
	if (v == SCP_LINE)
		*l = k;
	return v;
}

bool
scp_may_be_rsync(uint8_t first[static 4], size_t *n, struct sp_span s)
{
	for (size_t i = 0; i < s.n && *n < 4; i++)
		first[(*n)++] = s.p[i];
	for (size_t i = 0; i < *n; i++)
		if (i == 0 ? first[0] < 20 || first[0] > 60 : first[i] != 0)
			return false;
	return true;
}
