/* SPDX-License-Identifier: Apache-2.0 */
#include <linux/falloc.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "common/sandbox.h"

const struct sp_syscall sp_recorder_syscalls[] = {
    SP_CALL(pread64, "recovery walks the file"),
    SP_CALL(pwrite64, "the recording"),
    SP_CALL(fdatasync, "the recording reaches the disk"),
    SP_CALL(fsync, "after a cut"),
    SP_CALL(ftruncate, "the end of the recording; a cut"),
    SP_CALL_IF(fallocate, 1, FALLOC_FL_KEEP_SIZE, "room before it is needed"),
    SP_CALL(fstatfs, "the reserve of the disk"),
    SP_CALL(fadvise64, "an idle session's file leaves the cache"),
    SP_CALL_IF(setsockopt, 1, SOL_SOCKET, "larger buffers while bulk flows"),
    SP_CALL(mlock, "keys stay out of swap"),
    SP_CALL(munlock, "keys"),
};
const size_t sp_recorder_n_syscalls =
    sizeof(sp_recorder_syscalls) / sizeof(sp_recorder_syscalls[0]);
