/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_RECOVER_H
#define SP_RECORDER_RECOVER_H

#include "common/ipc.h"

/* Cuts an unfinished recording at its last whole chunk, reports it, waits for
 * the vault's signature and appends RECOVERED: doc/flows.md, 8. Takes the
 * link's descriptor; the exit status. A file with its end is left alone. */
int sp_recover_run(int file_fd, int link_fd,
    const uint8_t session[static 16]);

#endif
