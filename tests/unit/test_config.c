/* SPDX-License-Identifier: Apache-2.0 */
/* covers: common/config.c */
#include <criterion/criterion.h>
#include <string.h>

#include "common/config.h"

static struct sp_config c;
static struct sp_config_diag d;

static enum sp_err
parse(const char *text)
{
	return sp_config_parse(&c, sp_span_str(text), &d);
}

Test(config, an_empty_text_gives_the_defaults)
{
	cr_assert(parse("") == SP_OK);
	cr_assert(strcmp(c.listen, "127.0.0.1:2222") == 0);
	cr_assert(c.login_grace_s == 120 && c.debug == 0);
	cr_assert(strcmp(c.durability, "input") == 0);
}

Test(config, lines_comments_and_spaces)
{
	cr_assert(parse("# first\n\n  node \t b1  # name\r\nmax_tries 3\n"
	    "banner 僅限授權人員") == SP_OK, "%s", d.text);
	cr_assert(strcmp(c.node, "b1") == 0);
	cr_assert(c.max_tries == 3);
	cr_assert(strcmp(c.banner, "僅限授權人員") == 0);
}

Test(config, each_error_says_its_line)
{
	static const struct {
		const char *text;
		unsigned line;
		const char *says;
	} bad[] = {
	    {"nodde b1\n", 1, "no setting is called \"nodde\""},
	    {"\n\nmax_tries 21\n", 3, "max_tries wants a number from 1 to 20"},
	    {"max_tries 0", 1, "from 1 to 20"},
	    {"max_tries", 1, "from 1 to 20"},
	    {"max_tries x", 1, "from 1 to 20"},
	    {"max_tries 3 4", 1, "from 1 to 20"},
	    {"max_tries 99999999999999999999999", 1, "from 1 to 20"},
	    {"node a\nnode b\n", 2, "node is given twice"},
	    {"# x\nbanner \xff\n", 2, "at most 511 bytes of UTF-8"},
	    {"a\x1b[2J x\n", 1, "no setting is called \"a\\x1b[2J\""},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert(parse(bad[i].text) == SP_ERR_SYNTAX, "%zu", i);
		cr_assert(d.line == bad[i].line, "%zu: line %u", i, d.line);
		cr_assert(strstr(d.text, bad[i].says) != NULL, "%s", d.text);
	}
}

Test(config, nothing_is_changed_by_a_text_with_an_error)
{
	cr_assert(parse("max_tries 3\n") == SP_OK);
	cr_assert(parse("max_tries 4\nnonsense\n") == SP_ERR_SYNTAX);
	cr_assert(c.max_tries == 3);
}

Test(config, a_text_longer_than_its_field_is_refused)
{
	SP_BUF_AUTO b = {.max = 2048};

	cr_assert(sp_buf_printf(&b, "banner %0511d\n", 0) == SP_OK);
	cr_assert(sp_config_parse(&c, sp_buf_span(&b), &d) == SP_OK);
	sp_buf_reset(&b);
	cr_assert(sp_buf_printf(&b, "banner %0512d\n", 0) == SP_OK);
	cr_assert(sp_config_parse(&c, sp_buf_span(&b), &d) == SP_ERR_SYNTAX);
	sp_buf_reset(&b);
	cr_assert(sp_buf_put(&b, "banner a\0b\n", 11) == SP_OK);
	cr_assert(sp_config_parse(&c, sp_buf_span(&b), &d) == SP_ERR_SYNTAX);
}

Test(config, what_is_dumped_reads_back)
{
	static struct sp_config again;
	SP_BUF_AUTO out = {.max = 65536};

	cr_assert(parse("listen [::1]:22\nbanner 中文\ndebug 1\n") == SP_OK);
	cr_assert(sp_config_dump(&c, &out) == SP_OK);
	cr_assert(sp_config_parse(&again, sp_buf_span(&out), &d) == SP_OK, "%s",
	    d.text);
	cr_assert(strcmp(again.listen, "[::1]:22") == 0 && again.debug == 1);
	cr_assert(strcmp(again.banner, "中文") == 0);
#define SAME_text(name) cr_assert(strcmp(c.name, again.name) == 0);
#define SAME_list(n) SAME_text(n)
#define SAME_number(name) cr_assert(c.name == again.name);
#define SAME(kind, name, def, lo, hi, help) SAME_##kind(name)
	SP_CONFIG_TABLE(SAME)
}
