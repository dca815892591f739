/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/broker.h"

#include <string.h>

void
sp_actor_no_groups(struct sp_actor *a)
{
	a->n_groups = 0;
	a->more_groups = false;
}

void
sp_actor_add_group(struct sp_actor *a, struct sp_span group)
{
	if (a->n_groups < sizeof(a->groups) / sizeof(a->groups[0]) &&
	    sp_name_is_valid(group) &&
	    sp_span_cstr(group, a->groups[a->n_groups], SP_NAME_MAX + 1) == SP_OK)
		a->n_groups++;
	else
		a->more_groups = true;
}

bool
sp_actor_in(const struct sp_actor *a, const char *group)
{
	if (a->is_host || group == NULL || group[0] == '\0')
		return false;
	for (size_t i = 0; i < a->n_groups && i < 32; i++)
		if (strcmp(a->groups[i], group) == 0)
			return true;
	return false;
}
