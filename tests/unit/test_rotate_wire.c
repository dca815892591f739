/* SPDX-License-Identifier: Apache-2.0 */
/* A rotation on the wire: what the recorder lets pass, which prompts the egress
 * knows, and what of a secret it lets out. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "bastion/egress/rotate.h"
#include "recorder/channels.h"

/* --------------------------------------------------------------- the recorder */

static struct sp_rules rules;
static struct sp_channels chans;
static uint8_t old = SP_WHICH_OLD, new = SP_WHICH_NEW;

static enum sp_frame_verdict
say(bool from_user, uint8_t type, const void *p, size_t n)
{
	struct sp_frame f = {.type = type, .chan = 1, .payload = sp_span_of(p, n)};

	return sp_channels_judge(&chans, &f, from_user);
}

static enum sp_frame_verdict
open_it(uint32_t rights, uint8_t kind)
{
	struct sp_open o = {.kind = kind, .command = sp_span_str("passwd")};
	SP_BUF_AUTO b = {.max = 1024};
	enum sp_frame_verdict v;

	rules = (struct sp_rules){.rights = rights};
	sp_channels_init(&chans, &rules);
	cr_assert_eq(sp_open_encode(&b, &o), SP_OK);
	v = say(true, SP_FRAME_OPEN, sp_buf_span(&b).p, b.len);
	if (v == SP_FRAME_PASS)
		cr_assert_eq(say(false, SP_FRAME_OPEN_OK, "", 0), SP_FRAME_PASS);
	return v;
}

Test(rotate_wire, who_may_open_what)
{
	cr_expect_eq(open_it(SP_RIGHT_ROTATE, SP_OPEN_ROTATE), SP_FRAME_PASS);
	cr_expect_eq(open_it(SP_RIGHT_ALL, SP_OPEN_ROTATE), SP_FRAME_REFUSE);
	for (uint8_t k = SP_OPEN_SHELL; k <= SP_OPEN_SUBSYSTEM; k++)
		cr_expect_eq(open_it(SP_RIGHT_ROTATE, k), SP_FRAME_REFUSE);
}

Test(rotate_wire, rules_have_it_alone_or_not_at_all)
{
	static struct sp_rules r, got;
	SP_BUF_AUTO b = {.max = SP_RULES_ENCODED_MAX};

	r = (struct sp_rules){.rights = SP_RIGHT_ROTATE};
	cr_assert_eq(sp_rules_encode(&b, &r), SP_OK);
	cr_expect_eq(sp_rules_decode(sp_buf_span(&b), &got), SP_OK);
	r.rights |= SP_RIGHT_SHELL;
	sp_buf_reset(&b);
	cr_expect(sp_rules_encode(&b, &r) != SP_OK ||
	    sp_rules_decode(sp_buf_span(&b), &got) == SP_ERR_PROTO);
}

Test(rotate_wire, asked_then_allowed_then_typed)
{
	uint8_t typed[37] = {SP_WHICH_OLD};

	cr_assert_eq(open_it(SP_RIGHT_ROTATE, SP_OPEN_ROTATE), SP_FRAME_PASS);
	cr_expect_eq(say(false, SP_FRAME_WANTS, &old, 1), SP_FRAME_PASS);
	cr_expect_eq(say(true, SP_FRAME_SECRET, &old, 1), SP_FRAME_PASS);
	cr_expect_eq(say(false, SP_FRAME_SECRET, typed, 37), SP_FRAME_PASS);
	cr_expect_eq(say(false, SP_FRAME_WANTS, &new, 1), SP_FRAME_PASS);
	cr_expect_eq(say(true, SP_FRAME_SECRET, &new, 1), SP_FRAME_PASS);
	typed[0] = SP_WHICH_NEW;
	cr_expect_eq(say(false, SP_FRAME_SECRET, typed, 37), SP_FRAME_PASS);
	cr_expect_eq(say(false, SP_FRAME_DATA, "done", 4), SP_FRAME_PASS);
	cr_expect_eq(say(true, SP_FRAME_CLOSE, "", 0), SP_FRAME_PASS);
}

/* Each of them first in a channel that is open, or after WANTS(old). */
static const struct fault {
	bool after_wants, from_user;
	uint8_t type;
	const char *p;
	size_t n;
} faults[] = {
    {false, true, SP_FRAME_SECRET, "\1", 1},	/* nobody asked */
    {false, false, SP_FRAME_SECRET, "\1", 1},
    {true, true, SP_FRAME_SECRET, "\2", 1},	/* not what was asked for */
    {true, true, SP_FRAME_SECRET, "\3", 1},
    {true, true, SP_FRAME_SECRET, "", 0},
    {true, true, SP_FRAME_SECRET, "\1\1", 2},
    {true, false, SP_FRAME_WANTS, "\1", 1},	/* twice */
    {false, false, SP_FRAME_WANTS, "\0", 1},
    {false, false, SP_FRAME_WANTS, "\3", 1},
    {false, false, SP_FRAME_WANTS, "\1\1", 2},
    {false, true, SP_FRAME_WANTS, "\1", 1},	/* not the user's to say */
    {true, true, SP_FRAME_DATA, "echo\n", 5},	/* nothing else goes there */
    {false, true, SP_FRAME_DATA, "x", 1},
    {false, true, SP_FRAME_EOF, "", 0},
    {false, true, SP_FRAME_SIGNAL, "\3\0\0\0INT", 7},
    {false, true, SP_FRAME_BREAK, "\0\0\0\0", 4},
};

Test(rotate_wire, nothing_else_passes)
{
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		const struct fault *f = &faults[i];

		cr_assert_eq(open_it(SP_RIGHT_ROTATE, SP_OPEN_ROTATE),
		    SP_FRAME_PASS);
		if (f->after_wants)
			cr_assert_eq(say(false, SP_FRAME_WANTS, &old, 1),
			    SP_FRAME_PASS);
		cr_expect_eq(say(f->from_user, f->type, f->p, f->n),
		    SP_FRAME_FAULT, "%zu", i);
	}
	/* And on any other channel none of it. */
	rules = (struct sp_rules){.rights = SP_RIGHT_ALL};
	cr_assert_eq(open_it(SP_RIGHT_ALL, SP_OPEN_EXEC), SP_FRAME_PASS);
	cr_expect_eq(say(false, SP_FRAME_WANTS, &old, 1), SP_FRAME_FAULT);
	cr_assert_eq(open_it(SP_RIGHT_ALL, SP_OPEN_EXEC), SP_FRAME_PASS);
	cr_expect_eq(say(true, SP_FRAME_SECRET, &new, 1), SP_FRAME_FAULT);
}

/* ----------------------------------------------------------------- the egress */

static struct rotation rot;

static void
secrets(const char *a, const char *b)
{
	memset(&rot, 0, sizeof(rot));
	rot.kind = SP_CRED_SSH_PASSWORD;
	rot.n_old = strlen(a);
	rot.n_new = strlen(b);
	memcpy(rot.old, a, rot.n_old);
	memcpy(rot.new, b, rot.n_new);
	rot.prog = rot_program(sp_span_str("passwd"));
	cr_assert_not_null(rot.prog);
}

static const struct dialogue {
	const char *name, *lines[4];
	uint8_t want[4];
} dialogues[] = {
    {"debian", {"Changing password for al.\r\nCurrent password: ",
	"\r\nNew password: ", "\r\nRetype new password: ",
	"\r\npasswd: password updated successfully\r\n"}, {1, 2, 2, 0}},
    {"debian, no", {"Current password: ", "\r\nNew password: ",
	"\r\nBAD PASSWORD: it is too short\r\nNew password: ", ""},
	{1, 2, ROT_AGAIN, 0}},
    {"debian, wrong", {"Current password: ", "\r\nCurrent password: ", "", ""},
	{1, ROT_AGAIN, 0, 0}},
    {"root", {"New password: ", "\r\nRetype new password: ", "\r\n", ""},
	{2, 2, 0, 0}},
    {"busybox", {"Changing password for al\nOld password: ", "\nNew password: ",
	"\nRetype password: ", "\npasswd: password for al changed by al\n"},
	{1, 2, 2, 0}},
    {"freebsd", {"Changing local password for al\r\nOld Password:",
	"\r\nNew Password:", "\r\nRetype New Password:", "\r\n"}, {1, 2, 2, 0}},
    {"solaris", {"passwd: Changing password for al\nEnter existing login "
	"password: ", "\nNew Password: ", "\nRe-enter new Password: ", "\n"},
	{1, 2, 2, 0}},
    {"aix", {"Changing password for \"al\"\nal's Old password: ",
	"\nal's New password: ", "\nEnter the new password again:", "\n"},
	{1, 2, 2, 0}},
    {"of old", {"(current) UNIX password: ", "\nEnter new UNIX password: ",
	"\nRetype new UNIX password: ", "\n"}, {1, 2, 2, 0}},
    {"no prompt", {"Welcome: there is a new password policy\r\n", "$ ", "New",
	" password"}, {0, 0, 0, 0}},
};

Test(rotate_prompt, of_many_systems)
{
	for (size_t i = 0; i < sizeof(dialogues) / sizeof(dialogues[0]); i++) {
		const struct dialogue *d = &dialogues[i];

		secrets("the-old-one", "the-new-one!");
		for (size_t k = 0; k < 4; k++) {
			rot_line(&rot, sp_span_str(d->lines[k]));
			cr_expect_eq(rot_prompt(&rot, (struct sp_span){0}),
			    d->want[k], "%s, %zu", d->name, k);
			cr_expect_eq(rot_prompt(&rot, (struct sp_span){0}), 0);
		}
	}
}

/* A secret that begins as a prompt ends does not hide the prompt. */
Test(rotate_prompt, what_is_held_counts)
{
	secrets(": my old one", "new");
	rot_line(&rot, sp_span_str("Current password"));
	cr_expect_eq(rot_held(&rot, sp_span_str("Current password: ")), 2);
	cr_expect_eq(rot_prompt(&rot, sp_span_str(": ")), SP_WHICH_OLD);
}

/* Cut anywhere, in any order: nothing of it comes out. */
Test(rotate_mask, whatever_the_pieces)
{
	static const char text[] = "x aab aabaabaac \r\nyou said: aabaac and "
	    "aabaabZ! twice aabaacaabaabZ! end aab";

	secrets("aabaac", "aabaabZ!");
	for (size_t step = 1; step < sizeof(text); step++) {
		SP_BUF_AUTO held = {.max = 4096}, out = {.max = 4096};

		for (size_t at = 0; at < sizeof(text) - 1; at += step) {
			size_t n = sizeof(text) - 1 - at, go;

			n = n < step ? n : step;
			cr_assert_eq(sp_buf_put(&held, text + at, n), SP_OK);
			rot_mask(&rot, &held, false);
			go = held.len - rot_held(&rot, sp_buf_span(&held));
			cr_assert_eq(sp_buf_put(&out, sp_buf_span(&held).p, go),
			    SP_OK);
			sp_buf_consume(&held, go);
		}
		rot_mask(&rot, &held, true);
		cr_assert_eq(sp_buf_put(&out, sp_buf_span(&held).p, held.len), SP_OK);
		cr_expect_eq(out.len, sizeof(text) - 1);
		cr_expect_null(memmem(sp_buf_span(&out).p, out.len, "aabaac", 6));
		cr_expect_null(memmem(sp_buf_span(&out).p, out.len, "aabaabZ!", 8));
	}
}

Test(rotate_input, what_is_typed)
{
	SP_BUF_AUTO b = {.max = 8192};

	secrets("old", "new");
	cr_assert_eq(rot_input(&rot, SP_WHICH_OLD, &b), SP_OK);
	cr_assert_eq(rot_input(&rot, SP_WHICH_NEW, &b), SP_OK);
	cr_expect(sp_span_is(sp_buf_span(&b), "old\nnew\n"));
	sp_buf_reset(&b);
	rot.prog = rot_program(sp_span_str("chpasswd"));
	snprintf(rot.account, sizeof(rot.account), "al");
	cr_assert_eq(rot_input(&rot, SP_WHICH_NEW, &b), SP_OK);
	cr_expect(sp_span_is(sp_buf_span(&b), "al:new\n"));
	cr_expect_null(rot_program(sp_span_str("sh")));
	cr_expect_null(rot_program(sp_span_str("")));
	cr_expect_not_null(rot_program(sp_span_str("key-add-for")));
	/* A key that is none of ours is not put into a script. */
	sp_buf_reset(&b);
	rot.prog = rot_program(sp_span_str("key-add"));
	cr_expect_neq(rot_input(&rot, SP_WHICH_NEW, &b), SP_OK);
}
