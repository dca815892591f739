/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "vault/vaultd.h"
#include "vault/poison.h"

/* Neither open, socket, connect nor execve: the state is read before the
 * filter, the control socket listens before it, and nothing is written but
 * records at the end of a file that was opened before it. */
const struct sp_syscall sp_vault_syscalls[] = {
    SP_CALL_IF(accept4, 3, SOCK_CLOEXEC | SOCK_NONBLOCK,
	"administrators on the control socket"),
    SP_CALL_IF(getsockopt, 2, SO_PEERCRED, "who they are"),
    SP_CALL_IF(memfd_create, 1, MFD_CLOEXEC | MFD_ALLOW_SEALING,
	"a password for an egress, written once"),
    SP_CALL(pwrite64, "which release rule is a secret's last"),
    SP_CALL(fdatasync, "the same, before it is answered"),
};
const size_t sp_vault_n_syscalls =
    sizeof(sp_vault_syscalls) / sizeof(sp_vault_syscalls[0]);
