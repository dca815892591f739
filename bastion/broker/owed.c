/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/owed.h"

#include "bastion/broker/flow.h"

/* The row of a rotation with another due and why; NULL: it has no due. */
static void
put(struct sp_change *ch, const char *account, const struct sp_rows *rows,
    size_t row, const char *due, const char *why)
{
	struct sp_vals v;
	uint8_t id[16];

	if (sp_uuid_parse(id, sp_span_str(account)) != SP_OK)
		return;
	if (row == SIZE_MAX) {
		sp_vals_init(&v, SP_T_ROTATIONS);
		sp_vals_set(&v, "state", "idle");
		sp_vals_set(&v, "why", why);
		sp_vals_set(&v, "due_us", due);
		sp_vals_set(&v, "failures", "0");
		sp_change_insert(ch, SP_T_ROTATIONS, id, v.v);
		return;
	}
	sp_vals_from(&v, SP_T_ROTATIONS, rows, row);
	sp_vals_set(&v, "why", why);
	sp_vals_set(&v, "due_us", due);
	sp_change_update(ch, SP_T_ROTATIONS, id, sp_rows_ver(rows, row), v.v);
}

void
sp_owe_rotation_at(struct sp_change *ch, const char *account,
    const struct sp_rows *rows, size_t row, const char *why)
{
	char now[SP_NUM_TEXT];

	put(ch, account, rows, row, sp_i64_text(now, sp_now_us()), why);
}

void
sp_plan_rotation(struct sp_change *ch, const char *account,
    const struct sp_rows *rows, size_t row, int64_t seconds, bool after_use)
{
	char due[SP_NUM_TEXT];

	put(ch, account, rows, row, seconds == 0 ? NULL :
	    sp_i64_text(due, sp_now_us() + seconds * 1000000),
	    seconds == 0 && !after_use ? "it is not rotated any more" :
	    "its time has come");
}

void
sp_owe_rotation(struct sp_change *ch, const char *account,
    const struct sp_rows *rows, const char *why)
{
	sp_owe_rotation_at(ch, account, rows, sp_rows_n(rows) == 1 ? 0 : SIZE_MAX,
	    why);
}
