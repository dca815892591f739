/* SPDX-License-Identifier: Apache-2.0 */
#include "common/kinds.h"

#include <string.h>

static const struct sp_kind kinds[] = {
#define ROW(token, number, name, gives, flags, words)                         \
	{(number), (name), (words), (gives), (flags)},
	SP_KINDS(ROW)
#undef ROW
};
#define N (sizeof(kinds) / sizeof(kinds[0]))

const struct sp_kind *
sp_kind_find(int64_t number)
{
	for (size_t i = 0; i < N; i++)
		if (kinds[i].number == number)
			return &kinds[i];
	return NULL;
}

const struct sp_kind *
sp_kind_named(const char *name)
{
	for (size_t i = 0; name != NULL && i < N; i++)
		if (strcmp(kinds[i].name, name) == 0)
			return &kinds[i];
	return NULL;
}

bool
sp_kind_is(int64_t number, unsigned flags)
{
	const struct sp_kind *k = sp_kind_find(number);

	return k != NULL && (k->flags & flags) == flags;
}

const char *
sp_kind_name(int64_t number)
{
	const struct sp_kind *k = sp_kind_find(number);

	return k == NULL ? "?" : k->name;
}

const struct sp_kind *
sp_kind_nth(unsigned flags, size_t i)
{
	for (size_t k = 0; k < N; k++)
		if ((kinds[k].flags & flags) == flags && i-- == 0)
			return &kinds[k];
	return NULL;
}
