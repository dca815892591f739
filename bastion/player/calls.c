/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/syscall.h>

#include "common/sandbox.h"

const struct sp_syscall sp_player_syscalls[] = {
    SP_CALL(pread64, "the recording"),
    SP_CALL(mlock, "keys stay out of swap"),
    SP_CALL(munlock, "keys"),
};
const size_t sp_player_n_syscalls =
    sizeof(sp_player_syscalls) / sizeof(sp_player_syscalls[0]);
