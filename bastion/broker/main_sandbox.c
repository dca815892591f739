/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bastion/broker/main.h"
#include "common/sandbox.h"

void
sp_broker_environment(void)
{
	/* No home: libpq must not read what lies in somebody's directory. */
	setenv("HOME", "/nonexistent", 1);
	setenv("PGPASSFILE", "/nonexistent", 1);
	setenv("PGSERVICEFILE", "/nonexistent", 1);
	setenv("PGSYSCONFDIR", "/nonexistent", 1);
	tzset();
}

enum sp_err
sp_broker_confine(char *level, size_t cap)
{
	int fds[2] = {open("/etc", O_PATH | O_DIRECTORY | O_CLOEXEC),
	    open("/usr", O_PATH | O_DIRECTORY | O_CLOEXEC)};
	char landlock[64] = "";

	if (fds[0] < 0 || fds[1] < 0)
		return SP_ERR_IO;
	sp_landlock_restrict(fds, 2, landlock, sizeof(landlock));
	close(fds[0]);
	close(fds[1]);
	SP_TRY(sp_sandbox_enter(sp_broker_syscalls, sp_broker_n_syscalls, level, cap));
	strncat(level, landlock, cap - strlen(level) - 1);
	return SP_OK;
}
