/* SPDX-License-Identifier: Apache-2.0 */
#include <libssh/server.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bastion/egress/egress.h"

#define STEPS_MAX 2000

/* Both ends of one handshake, stepped in turns in this one thread. */
static bool
handshake(ssh_session client, ssh_session server)
{
	bool c_done = false, s_done = false;

	for (int i = 0; i < STEPS_MAX && !(c_done && s_done); i++) {
		int rc;

		if (!c_done) {
			rc = ssh_connect(client);
			if (rc == SSH_ERROR)
				return false;
			c_done = rc == SSH_OK;
		}
		if (!s_done) {
			rc = ssh_handle_key_exchange(server);
			if (rc == SSH_ERROR)
				return false;
			s_done = rc == SSH_OK;
		}
	}
	return c_done && s_done;
}

static bool
accept_on(ssh_bind *bind, ssh_session *server, int fd)
{
	ssh_key key = NULL;
	bool no = false;

	if (ssh_pki_generate(SSH_KEYTYPE_ED25519, 0, &key) != SSH_OK)
		return false;
	*bind = ssh_bind_new();
	*server = ssh_new();
	if (*bind == NULL || *server == NULL ||
	    ssh_bind_options_set(*bind, SSH_BIND_OPTIONS_PROCESS_CONFIG, &no) !=
	    SSH_OK ||
	    ssh_bind_options_set(*bind, SSH_BIND_OPTIONS_IMPORT_KEY, key) !=
	    SSH_OK ||
	    ssh_bind_accept_fd(*bind, *server, fd) != SSH_OK)
		return false;
	ssh_set_blocking(*server, 0);
	return true;
}

enum sp_err
sp_egress_warm(void)
{
	ssh_session client = NULL, server = NULL;
	ssh_bind bind = NULL;
	enum sp_err e;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
		return SP_ERR_IO;
	if (!accept_on(&bind, &server, fds[1])) {
		close(fds[0]);
		e = SP_ERR_CRYPTO;
	} else {
		e = sp_egress_session(&client, fds[0], "nobody", false);
		if (e == SP_OK && !handshake(client, server))
			e = SP_ERR_CRYPTO;
	}
	if (client != NULL) {
		ssh_disconnect(client);
		ssh_free(client);
	}
	if (server != NULL) {
		ssh_disconnect(server);
		ssh_free(server);
	}
	if (bind != NULL)
		ssh_bind_free(bind);
	return e;
}
