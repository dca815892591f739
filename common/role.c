/* SPDX-License-Identifier: Apache-2.0 */
/* The first words of every process; apart from parent.c, so that who never forks
 * does not import fork(). */
#include "common/parent.h"

#define START_MS 30000

enum sp_err
sp_role_hello(struct sp_link *sup, uint32_t self, struct sp_packet *p)
{
	struct sp_msg_hello m = {.sandbox = sp_span_str("")};

	SP_TRY(sp_link_init(sup, SP_SUPERVISOR_FD, self, SP_ROLE_SUP, SP_ST_NEW));
	sp_ipc_table_hash(m.table);
	SP_TRY(sp_send_hello(sup, 0, &m, NULL));
	return sp_link_wait(sup, p, START_MS);
}

enum sp_err
sp_role_started(struct sp_link *sup, const char *sandbox)
{
	struct sp_msg_started m = {.sandbox = sp_span_str(sandbox)};

	SP_TRY(sp_send_started(sup, 0, &m, NULL));
	sup->state = SP_ST_READY;
	return SP_OK;
}
