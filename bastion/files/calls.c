/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <sys/syscall.h>

#include "common/sandbox.h"

/* No socket, no exec, no fork. What openat may reach is up to Landlock: the
 * directory of recordings. */
const struct sp_syscall sp_files_syscalls[] = {
    SP_CALL(openat, "a recording; the list of them"),
    SP_CALL(getdents64, "which have no end"),
    SP_CALL(renameat2, "a recording that is closed"),
    SP_CALL(renameat, "the same, on file systems without the flag"),
    SP_CALL(unlinkat, "one in which nothing was recorded"),
    SP_CALL(newfstatat, "is it there?"),
    SP_CALL(pread64, "does it hold anything?"),
    SP_CALL(pwrite64, "the end of a recording: over its sealed keys"),
    SP_CALL(fsync, "that, and names that go"),
    SP_CALL(faccessat, "is it closed already?"),
#ifdef __NR_faccessat2
    SP_CALL(faccessat2, "the same"),
#endif
};
const size_t sp_files_n_syscalls =
    sizeof(sp_files_syscalls) / sizeof(sp_files_syscalls[0]);
