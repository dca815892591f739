/* SPDX-License-Identifier: Apache-2.0 */
/* Covers bastion/broker/login_name.c login_edit.c flow.c actor.c. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "bastion/broker/flow.h"
#include "bastion/broker/login_edit.h"
#include "bastion/broker/login_name.h"

Test(flow_parts, login_names)
{
	static const char *const bad[] = {"", "+", "alice+", "alice+admin",
	    "alice+admin+", "+admin+core-01", "alice+admin+core-01+x",
	    "Alice", "alice bob", "alice+ad min+core-01", "-alice",
	    "alice+admin+CORE", "a\xc3\xa4",
	    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
	struct sp_login_name n;

	cr_assert_eq(sp_login_name_parse(sp_span_str("alice"), &n), SP_OK);
	cr_expect_str_eq(n.user, "alice");
	cr_expect_not(n.has_target);
	cr_assert_eq(sp_login_name_parse(sp_span_str("alice+admin+core-01"), &n),
	    SP_OK);
	cr_expect(n.has_target);
	cr_expect_str_eq(n.account, "admin");
	cr_expect_str_eq(n.target, "core-01");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_neq(sp_login_name_parse(sp_span_str(bad[i]), &n), SP_OK,
		    "\"%s\"", bad[i]);
	cr_expect_neq(sp_login_name_parse(sp_span_of("al\0ce", 5), &n), SP_OK);
}

static enum sp_edit_end
type(struct sp_edit *e, const char *keys, struct sp_buf *echo)
{
	enum sp_edit_end end = SP_EDIT_MORE;

	for (; *keys != '\0' && end == SP_EDIT_MORE; keys++)
		end = sp_edit_byte(e, (uint8_t)*keys, echo);
	return end;
}

#define ECHO_IS(s)                                                            \
	cr_expect(sp_span_is(sp_buf_span(&echo), s), "echo \"%.*s\"",         \
	    (int)echo.len, (const char *)echo.p + echo.off)

Test(flow_parts, a_line_is_echoed_and_mended)
{
	SP_BUF_AUTO echo = {.max = 4096};
	struct sp_edit e = {.n = 0};

	cr_expect_eq(type(&e, "abx\x7f" "c\r", &echo), SP_EDIT_LINE);
	cr_expect_str_eq(e.line, "abc");
	ECHO_IS("abx\b \bc\r\n");
	/* The LF of CR LF belongs to the line before. */
	sp_edit_reset(&e);
	cr_expect_eq(type(&e, "\nsecond\n", &echo), SP_EDIT_LINE);
	cr_expect_str_eq(e.line, "second");
}

Test(flow_parts, wide_characters_take_two_columns)
{
	SP_BUF_AUTO echo = {.max = 4096};
	struct sp_edit e = {.n = 0};

	cr_expect_eq(type(&e, "磁\x7f\x7f\r", &echo), SP_EDIT_LINE);
	cr_expect_str_eq(e.line, "");
	ECHO_IS("磁\b \b\b \b\r\n");
}

Test(flow_parts, what_is_no_text_is_not_taken)
{
	SP_BUF_AUTO echo = {.max = 4096};
	struct sp_edit e = {.n = 0};

	/* arrow keys, a title sequence's start, C1, bidi override, broken UTF-8 */
	cr_expect_eq(type(&e, "a\x1b[A\x1bOPb\x1b]c\xc2\x9b\xe2\x80\xae\xff\xc3(\x01\r",
	    &echo), SP_EDIT_LINE);
	cr_expect_str_eq(e.line, "abc(");
	ECHO_IS("abc(\r\n");
}

Test(flow_parts, cancel_and_erase)
{
	SP_BUF_AUTO echo = {.max = 4096};
	struct sp_edit e = {.n = 0};

	cr_expect_eq(type(&e, "abc\x15", &echo), SP_EDIT_MORE);
	cr_expect_eq(e.n, 0);
	cr_expect_eq(type(&e, "x\x04", &echo), SP_EDIT_MORE);
	cr_expect_eq(type(&e, "\x7f\x04", &echo), SP_EDIT_CANCEL);
	cr_expect_eq(type(&e, "\x1b[\x03", &echo), SP_EDIT_CANCEL);
}

Test(flow_parts, a_line_has_an_end)
{
	SP_BUF_AUTO echo = {.max = 65536};
	struct sp_edit e = {.n = 0};

	for (int i = 0; i < 5000; i++)
		cr_assert_eq(sp_edit_byte(&e, 'x', &echo), SP_EDIT_MORE);
	cr_expect_eq(e.n, SP_EDIT_MAX);
	cr_expect_eq(strlen(e.line), SP_EDIT_MAX);
}

Test(flow_parts, trim)
{
	char t[16];

	cr_expect_eq(sp_text_trim(t, sizeof(t), sp_span_str(" \ta b \r\n")), SP_OK);
	cr_expect_str_eq(t, "a b");
	cr_expect_neq(sp_text_trim(t, sizeof(t), sp_span_str("  ")), SP_OK);
	cr_expect_neq(sp_text_trim(t, sizeof(t), sp_span_str("a\x1b[2J")), SP_OK);
	cr_expect_neq(sp_text_trim(t, sizeof(t), sp_span_str("\xff")), SP_OK);
	cr_expect_neq(sp_text_trim(t, sizeof(t),
	    sp_span_str("0123456789abcdef")), SP_OK);
}

Test(flow_parts, groups_are_for_people)
{
	struct sp_actor a = {.n_groups = 1, .groups = {"auditors"}};

	cr_expect(sp_actor_in(&a, "auditors"));
	cr_expect_not(sp_actor_in(&a, "audit"));
	cr_expect_not(sp_actor_in(&a, ""));
	a.is_host = true;
	cr_expect_not(sp_actor_in(&a, "auditors"));
}
