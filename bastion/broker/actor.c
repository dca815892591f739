/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/broker.h"

#include <string.h>

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
