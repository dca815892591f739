/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PAM module for the practice targets of tests: asks what its arguments say.
 *   [hidden:PROMPT=ANSWER] [shown:PROMPT=ANSWER] [info:TEXT] [flood:N]
 * %n is a line break, %e an escape character.
 * PAM_SUCCESS when each answer was the expected one.
 */
#include <security/pam_appl.h>
#include <security/pam_modules.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
expand(char *dst, size_t cap, const char *s)
{
	size_t n = 0;

	for (; *s != '\0' && n + 1 < cap; s++)
		if (s[0] == '%' && (s[1] == 'n' || s[1] == 'e'))
			dst[n++] = *++s == 'n' ? '\n' : '\033';
		else
			dst[n++] = *s;
	dst[n] = '\0';
}

static int
converse(pam_handle_t *h, int style, const char *given, char **answer)
{
	char text[1024];
	const struct pam_message m = {.msg_style = style, .msg = text};
	const struct pam_message *mp = &m;
	struct pam_response *r = NULL;
	const void *item = NULL;
	const struct pam_conv *c;
	int rc;

	expand(text, sizeof(text), given);
	if (pam_get_item(h, PAM_CONV, &item) != PAM_SUCCESS || item == NULL)
		return PAM_CONV_ERR;
	c = item;
	rc = c->conv(1, &mp, &r, c->appdata_ptr);
	*answer = rc == PAM_SUCCESS && r != NULL ? r->resp : NULL;
	free(r);
	return rc;
}

static int
ask(pam_handle_t *h, int style, const char *arg)
{
	const char *eq = strrchr(arg, '=');
	char prompt[1024], *got = NULL;
	int rc;

	if (eq == NULL)
		return PAM_AUTH_ERR;
	snprintf(prompt, sizeof(prompt), "%.*s", (int)(eq - arg), arg);
	rc = converse(h, style, prompt, &got);
	if (rc == PAM_SUCCESS && (got == NULL || strcmp(got, eq + 1) != 0))
		rc = PAM_AUTH_ERR;
	free(got);
	return rc;
}

static int
flood(pam_handle_t *h, long n)
{
	char prompt[64], *got;
	int rc = PAM_SUCCESS;

	for (long i = 0; i < n && rc == PAM_SUCCESS; i++) {
		got = NULL;
		snprintf(prompt, sizeof(prompt), "Question %ld: ", i);
		rc = converse(h, PAM_PROMPT_ECHO_ON, prompt, &got);
		free(got);
	}
	return rc;
}

PAM_EXTERN int
pam_sm_authenticate(pam_handle_t *h, int flags, int argc, const char **argv)
{
	int rc = argc > 0 ? PAM_SUCCESS : PAM_AUTH_ERR;
	char *none = NULL;

	(void)flags;
	for (int i = 0; i < argc && rc == PAM_SUCCESS; i++) {
		if (strncmp(argv[i], "hidden:", 7) == 0)
			rc = ask(h, PAM_PROMPT_ECHO_OFF, argv[i] + 7);
		else if (strncmp(argv[i], "shown:", 6) == 0)
			rc = ask(h, PAM_PROMPT_ECHO_ON, argv[i] + 6);
		else if (strncmp(argv[i], "info:", 5) == 0)
			rc = converse(h, PAM_TEXT_INFO, argv[i] + 5, &none);
		else if (strncmp(argv[i], "flood:", 6) == 0)
			rc = flood(h, strtol(argv[i] + 6, NULL, 10));
		else
			rc = PAM_AUTH_ERR;
		free(none);
		none = NULL;
	}
	return rc;
}

PAM_EXTERN int
pam_sm_setcred(pam_handle_t *h, int flags, int argc, const char **argv)
{
	(void)h;
	(void)flags;
	(void)argc;
	(void)argv;
	return PAM_SUCCESS;
}
