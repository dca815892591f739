/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/owed.h"

#include "bastion/broker/flow.h"

void
sp_owe_rotation_at(struct sp_change *ch, const char *account,
    const struct sp_rows *rows, size_t row, const char *why)
{
	char now[SP_NUM_TEXT];
	struct sp_vals v;
	uint8_t id[16];

	if (sp_uuid_parse(id, sp_span_str(account)) != SP_OK)
		return;
	sp_i64_text(now, sp_now_us());
	if (row == SIZE_MAX) {
		sp_vals_init(&v, SP_T_ROTATIONS);
		sp_vals_set(&v, "state", "idle");
		sp_vals_set(&v, "why", why);
		sp_vals_set(&v, "due_us", now);
		sp_vals_set(&v, "failures", "0");
		sp_change_insert(ch, SP_T_ROTATIONS, id, v.v);
		return;
	}
	sp_vals_from(&v, SP_T_ROTATIONS, rows, row);
	sp_vals_set(&v, "why", why);
	sp_vals_set(&v, "due_us", now);
	sp_change_update(ch, SP_T_ROTATIONS, id, sp_rows_ver(rows, row), v.v);
}

void
sp_owe_rotation(struct sp_change *ch, const char *account,
    const struct sp_rows *rows, const char *why)
{
	sp_owe_rotation_at(ch, account, rows, sp_rows_n(rows) == 1 ? 0 : SIZE_MAX,
	    why);
}
