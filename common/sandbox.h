/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_SANDBOX_H
#define SP_COMMON_SANDBOX_H

#include <stddef.h>

#include "common/err.h"

/*
 * Confinement of a process. Every process keeps one table of the system calls
 * that it may make after set-up, each with its reason; anything else kills the
 * process (SECCOMP_RET_KILL_PROCESS). Tests read the same tables.
 */
struct sp_syscall {
	int nr;			/* SCMP_SYS(...) or __NR_... */
	const char *reason;
	/* When arg_is_set, only calls whose argument `arg` equals `value`. */
	unsigned arg_is_set, arg;
	unsigned long value;
};
#define SP_CALL(name, why) {.nr = __NR_##name, .reason = (why)}
#define SP_CALL_IF(name, a, v, why)                                           \
	{.nr = __NR_##name, .reason = (why), .arg_is_set = 1, .arg = (a),     \
	    .value = (unsigned long)(v)}

/* What every process of ours needs: memory, clocks, polling, exit, its log. */
extern const struct sp_syscall sp_syscalls_base[];
extern const size_t sp_syscalls_n_base;
/* What each program may do besides, in its calls.c (vault: syscalls.c). */
#define SP_TABLES(X) X(front) X(auth) X(broker) X(vault) X(notary) X(recorder) X(egress) X(player) X(scribe) X(verify) X(files) X(ship)
#define SP_TABLE_DECLARE(name)                                                \
	extern const struct sp_syscall sp_##name##_syscalls[];                \
	extern const size_t sp_##name##_n_syscalls;
SP_TABLES(SP_TABLE_DECLARE)

/* First thing in main(): no new privileges, not dumpable (no core, no
 * ptrace), RLIMIT_CORE 0, umask 077, SIGPIPE ignored, environment cleared
 * but for TZ and what `keep` names (NULL-terminated, may be NULL). */
void sp_harden(const char *const *keep);
/* Builds the filter of that table, so that a child that is forked later enters
 * it with one call (0.3 ms less, measured). At most four in a process. */
SP_MUST enum sp_err sp_sandbox_prepare(const struct sp_syscall *rows, size_t n);
/* Enters the filter: base plus rows. Cannot be undone. In builds with
 * sanitizers it does nothing and says so in `level` (at least 64 bytes):
 * "seccomp", "none (sanitizers)". */
SP_MUST enum sp_err sp_sandbox_enter(const struct sp_syscall *rows, size_t n,
    char *level, size_t cap);
/* Landlock: no file can be opened any more except below the directories of
 * these descriptors (n may be 0). Appends the ABI to level, "landlock=7", or
 * "landlock=none" on kernels without it: never an error. */
void sp_landlock_restrict(const int *dir_fds, size_t n, char *level, size_t cap);
/* The same for files and directories (opened with O_PATH) that are read only. */
void sp_landlock_read_only(const int *fds, size_t n, char *level, size_t cap);

#endif
