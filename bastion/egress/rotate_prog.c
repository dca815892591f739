/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "bastion/egress/rotate.h"

/* Nothing of a secret or a key stands in a command line: it would be seen by
 * everybody on the target (ps). */
#define KEY_HEAD                                                              \
	"set -e\n"                                                            \
	"umask 077\n"                                                         \
	"d=$HOME/.ssh\n"                                                      \
	"f=$d/authorized_keys\n"                                              \
	"if [ ! -d \"$d\" ]; then mkdir \"$d\"; fi\n"                         \
	"if [ -L \"$f\" ]; then f=$(readlink -f \"$f\"); fi\n"                \
	"if [ ! -e \"$f\" ]; then : >\"$f\"; fi\n"                            \
	"t=$f.sallyport.$$\n"                                                 \
	"trap 'rm -f \"$t\"' EXIT\n"                                          \
	"cp -p \"$f\" \"$t\"\n"                                               \
	"export OLD NEW\n"
/* A full disk must not cost a line: counted before the new file takes the
 * place of the old one, in one step. */
#define KEY_TAIL                                                              \
	"grep -qF \"$NEW\" \"$t\"\n"                                          \
	"sync \"$t\" 2>/dev/null || :\n"                                      \
	"mv -f \"$t\" \"$f\"\n"                                               \
	"echo done\n"
/* The new key gets the options of the old one's line. */
static const char key_add[] = KEY_HEAD
	"awk '{ print; n = split($0, w, \" \")\n"
	"for (i = 2; i <= n; i++) if (w[i] == ENVIRON[\"OLD\"]) {\n"
	"at = index($0, w[i - 1] \" \" w[i])\n"
	"if (at > 0) { made = 1; print substr($0, 1, at - 1) ENVIRON[\"NEW\"] "
	"\" sallyport\" } } }\n"
	"END { if (!made) print ENVIRON[\"NEW\"] \" sallyport\" }' \"$f\" >\"$t\"\n"
	"[ \"$(wc -l <\"$t\")\" -gt \"$(wc -l <\"$f\")\" ]\n"
	KEY_TAIL;
static const char key_remove[] = KEY_HEAD
	"awk '{ n = split($0, w, \" \"); drop = 0\n"
	"for (i = 2; i <= n; i++) if (w[i] == ENVIRON[\"OLD\"]) drop = 1\n"
	"if (!drop) print }' \"$f\" >\"$t\"\n"
	KEY_TAIL;

static const struct rot_program programs[] = {
    {.name = "passwd", .command = "env LC_ALL=C LANGUAGE=C passwd",
	.kind = SP_CRED_SSH_PASSWORD, .has_pty = true, .prompts = true},
    {.name = "chpasswd", .kind = SP_CRED_SSH_PASSWORD,
	.command = "exec sh -c 'PATH=$PATH:/usr/sbin:/sbin; "
	"if [ \"$(id -u)\" = 0 ]; then exec chpasswd; "
	"else exec sudo -n chpasswd; fi'"},
    {.name = "key-add", .kind = SP_CRED_SSH_KEY, .command = "exec sh -s",
	.needs_old = true},
    /* As the account: root does not write where somebody else may put links.
     * The shell's read takes its line and not a byte more. */
    {.name = "key-add-for", .kind = SP_CRED_SSH_KEY, .needs_old = true,
	.command = "exec sh -c 'IFS= read -r a; if [ \"$(id -u)\" = 0 ]; then "
	"exec su -s /bin/sh \"$a\" -c \"exec sh -s\"; "
	"else exec sudo -n -H -u \"$a\" sh -s; fi'"},
    {.name = "key-remove", .kind = SP_CRED_SSH_KEY, .command = "exec sh -s",
	.needs_old = true},
};

const struct rot_program *
rot_program(struct sp_span name)
{
	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++)
		if (sp_span_is(name, programs[i].name))
			return &programs[i];
	return NULL;
}

/* ----------------------------------------------------------- what is typed */

static enum sp_err
key_script(const struct rotation *r, const char *script, struct sp_buf *out)
{
	struct sp_span rest = sp_span_of(r->new, r->n_new), type;

	SP_TRY(sp_get_ssh_string(&rest, 64, &type));
	if (!sp_span_is(type, "ssh-ed25519"))
		return SP_ERR_UNSUPPORTED;
	/* Base64 has nothing that a shell would take for its own. */
	SP_TRY(sp_buf_printf(out, "OLD='"));
	SP_TRY(sp_base64(out, sp_span_of(r->old, r->n_old)));
	SP_TRY(sp_buf_printf(out, "'\nNEW='ssh-ed25519 "));
	SP_TRY(sp_base64(out, sp_span_of(r->new, r->n_new)));
	SP_TRY(sp_buf_printf(out, "'\n"));
	return sp_buf_put(out, script, strlen(script));
}

enum sp_err
rot_input(struct rotation *r, uint8_t which, struct sp_buf *out)
{
	bool is_new = which == SP_WHICH_NEW;

	if (strcmp(r->prog->name, "key-add") == 0)
		return key_script(r, key_add, out);
	if (strcmp(r->prog->name, "key-add-for") == 0) {
		SP_TRY(sp_buf_printf(out, "%s\n", r->account));
		return key_script(r, key_add, out);
	}
	if (strcmp(r->prog->name, "key-remove") == 0)
		return key_script(r, key_remove, out);
	if (strcmp(r->prog->name, "chpasswd") == 0)
		SP_TRY(sp_buf_printf(out, "%s:", r->account));
	if (!is_new && r->n_old == 0)
		return SP_ERR_STATE;
	SP_TRY(sp_buf_put(out, is_new ? r->new : r->old, is_new ? r->n_new :
	    r->n_old));
	return sp_buf_put_u8(out, '\n');
}

/* ------------------------------------------------------ what must not be told */

static void
mask_one(struct sp_buf *b, const uint8_t *s, size_t n)
{
	uint8_t *p = b->p + b->off, *at;
	size_t left = b->len;

	while (n > 0 && left >= n && (at = memmem(p, left, s, n)) != NULL) {
		memset(at, '*', n);
		left -= (size_t)(at - p) + n;
		p = at + n;
	}
}

static size_t
begins(struct sp_span s, const uint8_t *secret, size_t n)
{
	size_t k = s.n < n ? s.n : n - 1;

	if (n == 0)
		return 0;
	for (; k > 0; k--)
		if (memcmp(s.p + s.n - k, secret, k) == 0)
			return k;
	return 0;
}

size_t
rot_held(const struct rotation *r, struct sp_span s)
{
	size_t a = 0, b = 0;

	if (r->kind == SP_CRED_SSH_PASSWORD && s.n > 0) {
		a = begins(s, r->old, r->n_old);
		b = begins(s, r->new, r->n_new);
	}
	return a > b ? a : b;
}

void
rot_mask(const struct rotation *r, struct sp_buf *b, bool at_end)
{
	size_t n;

	if (r->kind != SP_CRED_SSH_PASSWORD || b->len == 0)
		return;
	/* The longer first: one may be a part of the other. */
	if (r->n_new >= r->n_old)
		mask_one(b, r->new, r->n_new);
	mask_one(b, r->old, r->n_old);
	if (r->n_new < r->n_old)
		mask_one(b, r->new, r->n_new);
	if (at_end && (n = rot_held(r, sp_buf_span(b))) > 0)
		memset(b->p + b->off + b->len - n, '*', n);
}

/* ------------------------------------------------------------- its prompts */

void
rot_line(struct rotation *r, struct sp_span s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '\n' || s.p[i] == '\r')
			r->n_line = 0;
		else if (r->n_line + 1 < sizeof(r->line))
			r->line[r->n_line++] = (char)tolower(s.p[i]);
	}
	r->line[r->n_line] = '\0';
}

static bool
has(const char *line, const char *const *words)
{
	for (; *words != NULL; words++)
		if (strstr(line, *words) != NULL)
			return true;
	return false;
}

/*
 * Debian: "Current password: ", "New password: ", "Retype new password: ".
 * BusyBox: "Old password: ", "New password: ", "Retype password: ". FreeBSD:
 * "Old Password:", "New Password:", "Retype New Password:". Solaris: "Enter
 * existing login password: ", "Re-enter new Password: ". AIX: "alice's Old
 * password: ", "Enter the new password again:". pam_unix of old: "(current) UNIX
 * password: ", "Enter new UNIX password: ".
 */
uint8_t
rot_prompt(struct rotation *r, struct sp_span held)
{
	static const char *const again[] = {"again", "retype", "re-enter",
	    "reenter", "repeat", "confirm", "verify", NULL};
	static const char *const fresh[] = {"new", NULL};
	static const char *const old[] = {"current", "old", "existing",
	    "password", NULL};
	size_t before = r->n_line, n;

	rot_line(r, held);
	n = r->n_line;
	r->n_line = before;
	while (n > 0 && r->line[n - 1] == ' ')
		n--;
	if (n == 0 || r->line[n - 1] != ':') {
		r->line[before] = '\0';
		return 0;
	}
	r->n_line = 0;		/* each is asked once */
	if (has(r->line, again) || has(r->line, fresh)) {
		/* Twice is what it takes. A third time, or the first question once
		 * more: it did not like what it got. */
		if (r->gave_new >= 2 || (r->gave_new == 1 && !has(r->line, again)))
			return ROT_AGAIN;
		r->gave_new++;
		return SP_WHICH_NEW;
	}
	if (!has(r->line, old))
		return 0;
	if (r->gave_old || r->gave_new > 0 || r->n_old == 0)
		return ROT_AGAIN;
	r->gave_old = true;
	return SP_WHICH_OLD;
}
