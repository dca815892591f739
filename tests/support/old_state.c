/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a demonstration's vault as it was written before the host key was
 * part of it (format 2): old_state VAULTDIR, which is read, and the file on the
 * standard output.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "vault/vaultd.h"

int
main(int argc, char **argv)
{
	static struct sp_vaultd v;
	static struct sp_state s;
	SP_BUF_AUTO file = {.max = SP_STATE_MAX};
	int dir;

	if (argc != 2 || (dir = open(argv[1], O_RDONLY | O_DIRECTORY |
	    O_CLOEXEC)) < 0 || sp_secret_init() != SP_OK ||
	    sp_vaultd_init(&v) != SP_OK)
		return 2;
	sp_vaultd_load(&v, dir);
	if (!v.root.is_open || sp_state_load(dir, &s) != SP_OK)
		return 1;
	s.format = 2;
	s.has_host = false;
	if (sp_root_sign_state(&v.root.root, &s) != SP_OK ||
	    sp_state_encode(&s, &file) != SP_OK)
		return 1;
	return fwrite(sp_buf_span(&file).p, 1, file.len, stdout) == file.len ? 0 : 2;
}
