/* SPDX-License-Identifier: Apache-2.0 */
#include <asm/termbits.h>
#include <asm/ioctls.h>
#include <sys/syscall.h>

#include "common/sandbox.h"

/* It reads what others wrote. What openat may reach is up to Landlock: the files
 * and directories that its command line names, to be read. */
const struct sp_syscall sp_verify_syscalls[] = {
    SP_CALL(openat, "recordings, tiles, checkpoints"),
    SP_CALL(pread64, "recordings"),
    SP_CALL(pwrite64, "the recording of an archive, into a file without a name"),
    SP_CALL(getdents64, "which recordings and checkpoints there are"),
    SP_CALL(newfstatat, "how large they are"),
    SP_CALL(access, "has a file come meanwhile?"),
    SP_CALL(sysinfo, "qsort asks how much memory there is"),
    SP_CALL(fadvise64, "what was read once leaves the cache"),
    SP_CALL_IF(ioctl, 1, TCGETS, "is there somebody to draw a bar for?"),
};
const size_t sp_verify_n_syscalls =
    sizeof(sp_verify_syscalls) / sizeof(sp_verify_syscalls[0]);
