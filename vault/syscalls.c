/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "vault/vaultd.h"
#include "vault/poison.h"

/* Neither socket, connect nor execve: the control socket listens before the
 * filter. openat, for a new state file beside the old one: what it may reach is
 * up to Landlock, and to the permissions of the vault's user. */
const struct sp_syscall sp_vault_syscalls[] = {
    SP_CALL_IF(accept4, 3, SOCK_CLOEXEC | SOCK_NONBLOCK,
	"administrators on the control socket"),
    SP_CALL_IF(getsockopt, 2, SO_PEERCRED, "who they are"),
    SP_CALL_IF(memfd_create, 1, MFD_CLOEXEC | MFD_ALLOW_SEALING,
	"a password for an egress, written once"),
    SP_CALL(epoll_ctl, "a connection's link came"),
    SP_CALL(epoll_wait, "which of them wants a signature"),
    SP_CALL(pwrite64, "which release rule is a secret's last"),
    SP_CALL(fdatasync, "the same, before it is answered"),
    SP_CALL(openat, "a new state file"),
    SP_CALL(newfstatat, "libc's fstat: whose directory it is"),
    SP_CALL(ftruncate, "what a crash left of one goes first"),
    SP_CALL(fsync, "it is on disk before it is the state"),
    SP_CALL(renameat, "it becomes the state"),
};
const size_t sp_vault_n_syscalls =
    sizeof(sp_vault_syscalls) / sizeof(sp_vault_syscalls[0]);
