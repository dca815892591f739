/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/syscall.h>

#include "common/sandbox.h"

/* Nothing beyond what every process has: no file, no network, no key. */
const struct sp_syscall sp_scribe_syscalls[1];
const size_t sp_scribe_n_syscalls = 0;
