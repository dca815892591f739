/* SPDX-License-Identifier: Apache-2.0 */
#include <libssh/libssh.h>
#include <stdio.h>
#include <string.h>

/* The login of libssh's sample programs (examples_common.h), in two steps: a
 * key, then what the server asks for after it. Standard input is the command's:
 * the terminal is asked. */

int authenticate_console(ssh_session s);

static int
ask(const char *prompt, char *text, int size)
{
	FILE *tty = fopen("/dev/tty", "r+");
	int ok = tty != NULL && fputs(prompt, tty) >= 0 && fflush(tty) == 0 &&
	    fgets(text, size, tty) != NULL;

	if (tty != NULL)
		fclose(tty);
	if (ok)
		text[strcspn(text, "\r\n")] = '\0';
	return ok ? 0 : -1;
}

static int
answer(ssh_session s)
{
	char text[128], echo;
	int rc = ssh_userauth_kbdint(s, NULL, NULL);

	while (rc == SSH_AUTH_INFO) {
		int n = ssh_userauth_kbdint_getnprompts(s);

		for (int i = 0; i < n; i++) {
			const char *p = ssh_userauth_kbdint_getprompt(s,
			    (unsigned)i, &echo);

			if (ask(p, text, sizeof(text)) < 0 ||
			    ssh_userauth_kbdint_setanswer(s, (unsigned)i,
			    text) < 0)
				return SSH_AUTH_ERROR;
		}
		rc = ssh_userauth_kbdint(s, NULL, NULL);
	}
	return rc;
}

int
authenticate_console(ssh_session s)
{
	int rc = ssh_userauth_none(s, NULL);

	if (rc == SSH_AUTH_DENIED &&
	    (ssh_userauth_list(s, NULL) & SSH_AUTH_METHOD_PUBLICKEY) != 0)
		rc = ssh_userauth_publickey_auto(s, NULL, NULL);
	if (rc != SSH_AUTH_SUCCESS &&
	    (ssh_userauth_list(s, NULL) & SSH_AUTH_METHOD_INTERACTIVE) != 0)
		rc = answer(s);
	if (rc != SSH_AUTH_SUCCESS)
		fprintf(stderr, "login failed: %s\n", ssh_get_error(s));
	return rc;
}
