/* SPDX-License-Identifier: Apache-2.0 */
/* The credential that unseals the vault, as systemd hands it to the service
 * (LoadCredentialEncrypted=, systemd.exec(5)): a file in a directory that root
 * alone may read. It is passed on as a descriptor, its bytes are not read here. */
#include "bastion/supervisor/sup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define NAME "sallyport-vault"

void
sp_credential_find(struct sp_instance *in)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");

	if (dir == NULL || dir[0] != '/')
		return;
	in->credentials = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	unsetenv("CREDENTIALS_DIRECTORY");
}

void
sp_credential_give(struct sp_sup *s, struct sp_proc *p)
{
	struct sp_msg_vault_credential m = {};
	int fd;

	if (p->rx != SP_RX_VAULT || s->in.credentials < 0)
		return;
	fd = openat(s->in.credentials, NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW |
	    O_NONBLOCK);
	if (fd >= 0)
		sp_proc_sent(s, p, sp_send_vault_credential(&p->link, 0, &m, &fd));
	else if (errno != ENOENT)
		sp_log(SP_ERROR, "vault_credential", NULL, "error=\"%s\"",
		    strerror(errno));
}
