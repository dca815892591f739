/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/syscall.h>

#include "bastion/egress-sql/sqleg.h"

/* After set-up. No socket, connect, open or exec: the connected socket came as
 * a descriptor, and there is nothing else to reach. */
const struct sp_syscall sp_sql_syscalls[] = {
    SP_CALL(shutdown, "the end towards the server"),
    SP_CALL(writev, "libc"),
};
const size_t sp_sql_n_syscalls =
    sizeof(sp_sql_syscalls) / sizeof(sp_sql_syscalls[0]);
