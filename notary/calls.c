/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <sys/syscall.h>

#include "common/sandbox.h"

/* No socket, no exec, no fork: witnesses are run by sallyportd, as somebody else.
 * What openat may reach is up to Landlock: the log's directory. */
const struct sp_syscall sp_notary_syscalls[] = {
    SP_CALL(openat, "tiles, checkpoints"),
    SP_CALL(pwrite64, "the journal, tiles"),
    SP_CALL(pread64, "which leaves are holds and ends"),
    SP_CALL(fdatasync, "a leaf is safe before it is acknowledged"),
    SP_CALL(fsync, "tiles and checkpoints, and their names"),
    SP_CALL(mkdirat, "a tile's directory"),
    SP_CALL(renameat, "a whole file takes the old one's place"),
    SP_CALL(unlinkat, "partial tiles, once there is the full one"),
    SP_CALL(ftruncate, "a journal that did not fit"),
    SP_CALL(newfstatat, "is there a checkpoint?"),
};
const size_t sp_notary_n_syscalls =
    sizeof(sp_notary_syscalls) / sizeof(sp_notary_syscalls[0]);
