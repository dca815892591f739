/* SPDX-License-Identifier: Apache-2.0 */
/* Two bytes choose a row of the message table, the rest is its body: what
 * decodes encodes to the same bytes again, so that no message has two forms. */
#include <stdint.h>
#include <string.h>

#include "common/ipc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
try_row(const struct sp_ipc_row *row, struct sp_span body)
{
	SP_BUF_AUTO out = {.max = SP_IPC_BODY_MAX};

	if (body.n > SP_IPC_BODY_MAX || row->round_trip(body, &out) != SP_OK)
		return;
	SP_ASSERT(sp_span_eq(sp_buf_span(&out), body));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sp_span s = sp_span_of(data, size);
	const struct sp_ipc_row *row;
	uint16_t type;

	if (sp_get_u16(&s, &type) != SP_OK)
		return 0;
	if ((row = sp_ipc_find(type)) == NULL)
		row = &sp_ipc_rows[type % sp_ipc_n_rows];
	try_row(row, s);
	return 0;
}
