/* SPDX-License-Identifier: Apache-2.0 */
/* The menu's keys and its screen, judged by the recorder's model of a terminal. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/menu.h"
#include "recorder/term/term.h"

/* -------------------------------------------------------------------- keys */

static struct sp_key
last_key(const char *bytes, size_t n, unsigned *count)
{
	struct sp_keys k = {.state = 0};
	struct sp_key r = {.kind = SP_KEY_NONE};

	*count = 0;
	for (size_t i = 0; i < n; i++) {
		struct sp_key one = sp_keys_byte(&k, (uint8_t)bytes[i]);

		if (one.kind != SP_KEY_NONE) {
			r = one;
			++*count;
		}
	}
	return r;
}

Test(menu, keys)
{
	static const struct {
		const char *bytes;
		enum sp_key_kind kind;
		const char *text;
	} t[] = {
	    {"a", SP_KEY_CHAR, "a"}, {"\\", SP_KEY_CHAR, "\\"},
	    {"核", SP_KEY_CHAR, "核"}, {"\r", SP_KEY_ENTER, ""},
	    {"\n", SP_KEY_ENTER, ""}, {"\r\n", SP_KEY_ENTER, ""},
	    {"\x7f", SP_KEY_BACKSPACE, ""}, {"\b", SP_KEY_BACKSPACE, ""},
	    {"\x12", SP_KEY_CTRL, "R"}, {"\x03", SP_KEY_CTRL, "C"},
	    {"\x1b[A", SP_KEY_UP, ""}, {"\x1bOB", SP_KEY_DOWN, ""},
	    {"\x1b[5~", SP_KEY_PAGE_UP, ""}, {"\x1b[6~", SP_KEY_PAGE_DOWN, ""},
	    {"\x1b[H", SP_KEY_HOME, ""}, {"\x1b[4~", SP_KEY_END, ""},
	    {"\x1b[1;5A", SP_KEY_UP, ""}, {"\x1b\x03", SP_KEY_CTRL, "C"},
	    {"\x1b\x1b", SP_KEY_ESCAPE, ""}, {"\x1b[3~", SP_KEY_NONE, ""},
	    {"\x1b[200~", SP_KEY_NONE, ""}, {"\x1bx", SP_KEY_NONE, ""},
	    {"\xe2\x80\xae", SP_KEY_NONE, ""}, {"\xc2\x9b", SP_KEY_NONE, ""},
	    {"\xff\xfe", SP_KEY_NONE, ""}, {"\xe6\xa0" "a", SP_KEY_CHAR, "a"},
	    {"\x1b[?1;2c", SP_KEY_NONE, ""}, {"\x1b[99999999~", SP_KEY_NONE, ""},
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		unsigned n;
		struct sp_key k = last_key(t[i].bytes, strlen(t[i].bytes), &n);

		cr_assert_eq(k.kind, t[i].kind, "case %zu: %d", i, k.kind);
		cr_assert_str_eq(k.text, t[i].text, "case %zu", i);
		cr_assert_eq(n, t[i].kind != SP_KEY_NONE, "case %zu", i);
	}
}

/* ------------------------------------------------------------------ screen */

struct fix {
	struct sp_menu m;
	struct sp_term *t;
	size_t bytes;		/* of the last drawing */
};

static void
item(struct sp_menu_item *i, const char *account, const char *target,
    enum sp_menu_state state)
{
	*i = (struct sp_menu_item){.state = state, .approvals = 1,
	    .ends_us = 5400LL * 1000000, .longest_us = 7200LL * 1000000,
	    .request = 7};
	snprintf(i->account, sizeof(i->account), "%s", account);
	snprintf(i->target, sizeof(i->target), "%s", target);
	snprintf(i->name, sizeof(i->name), "%s@%s", account, target);
	snprintf(i->approvers, sizeof(i->approvers), "approvers");
	snprintf(i->allows, sizeof(i->allows), "shell, exec");
	snprintf(i->tags, sizeof(i->tags), "core 核心");
}

static void
begin(struct fix *f, unsigned cols, unsigned rows, bool colour, size_t n)
{
	struct sp_menu_item *items = calloc(n + 1, sizeof(*items));
	char target[32];

	sp_menu_init(&f->m, cols, rows, colour);
	snprintf(f->m.title, sizeof(f->m.title), "alice at 節點-01");
	for (size_t i = 0; i < n; i++) {
		snprintf(target, sizeof(target), "core-%02zu", i);
		item(&items[i], "admin", target, (enum sp_menu_state)(i % 4));
	}
	sp_menu_set(&f->m, items, n);
	cr_assert_eq(sp_term_new(cols, rows, NULL, NULL, &f->t), SP_OK);
}

static void
finish(struct fix *f)
{
	sp_menu_fini(&f->m);
	sp_term_free(f->t);
}

static void
draw(struct fix *f)
{
	SP_BUF_AUTO out = {.max = 1 << 22};

	cr_assert_eq(sp_menu_draw(&f->m, &out), SP_OK);
	f->bytes = out.len;
	sp_term_feed(f->t, sp_buf_span(&out));
}

static const char *
row(struct fix *f, unsigned y)
{
	static char t[4096];
	SP_BUF_AUTO b = {.max = 4095};

	cr_assert_eq(sp_cells_text(sp_term_row(f->t, y), sp_term_cols(f->t), false,
	    &b), SP_OK);
	cr_assert_eq(sp_span_cstr(sp_buf_span(&b), t, sizeof(t)), SP_OK);
	return t;
}

static enum sp_menu_act
press(struct fix *f, enum sp_key_kind kind, const char *text)
{
	struct sp_key k = {.kind = kind};
	enum sp_menu_act a;

	snprintf(k.text, sizeof(k.text), "%s", text);
	a = sp_menu_key(&f->m, &k);
	draw(f);
	return a;
}

static void
type(struct fix *f, const char *text)
{
	for (; *text != '\0'; text++)
		press(f, SP_KEY_CHAR, (char[]){*text, '\0'});
}

#define HAS(f, y, text)                                                       \
	cr_assert_not_null(strstr(row((f), (y)), (text)), "row %d is \"%s\"",    \
	    (int)(y), row((f), (y)))

Test(menu, what_it_shows)
{
	struct fix f;

	begin(&f, 80, 24, true, 4);
	draw(&f);
	HAS(&f, 0, " Sallyport  alice at 節點-01");
	HAS(&f, 0, "4 accounts");
	cr_assert_str_eq(row(&f, 1), "Filter:");
	HAS(&f, 3, "> admin@core-00");
	HAS(&f, 3, "allowed       up to 2h");
	HAS(&f, 4, "granted       1h 30m left");
	HAS(&f, 5, "waiting       request 7, 1 of approvers");
	HAS(&f, 6, "approval owed 1 of approvers, up to 2h");
	HAS(&f, 22, "allows shell, exec; tags core 核心");
	HAS(&f, 23, "Type to filter");
	cr_assert((sp_term_row(f.t, 3)[79].attr & SP_ATTR_INVERSE) != 0,
	    "the chosen line is marked to the edge");
	/* The same again is nothing. */
	draw(&f);
	cr_assert_eq(f.bytes, 0);
	finish(&f);
}

Test(menu, no_colour_is_no_attribute)
{
	SP_BUF_AUTO out = {.max = 1 << 20};
	struct fix f;

	begin(&f, 80, 24, false, 4);
	cr_assert_eq(sp_menu_draw(&f.m, &out), SP_OK);
	for (size_t i = 0; i + 3 < out.len; i++)
		cr_assert(out.p[i] != 0x1b || out.p[i + 1] != '[' ||
		    out.p[i + 3] != 'm' || out.p[i + 2] == '0');
	finish(&f);
}

Test(menu, filter_as_you_type)
{
	struct fix f;

	begin(&f, 80, 24, true, 12);
	draw(&f);
	type(&f, "CORE-0 APPROVAL");
	HAS(&f, 0, "2 of 12");
	HAS(&f, 3, "admin@core-03");
	HAS(&f, 4, "admin@core-07");
	cr_assert_str_eq(row(&f, 5), "");
	type(&f, "x");
	HAS(&f, 3, "Nothing fits the filter");
	cr_assert_null(sp_menu_chosen(&f.m));
	cr_assert_eq(press(&f, SP_KEY_ENTER, ""), SP_MENU_NOTHING);
	press(&f, SP_KEY_BACKSPACE, "");
	HAS(&f, 3, "admin@core-03");
	press(&f, SP_KEY_DOWN, "");
	/* The chosen one stays chosen when the filter goes. */
	press(&f, SP_KEY_ESCAPE, "");
	HAS(&f, 0, "12 accounts");
	cr_assert_str_eq(sp_menu_chosen(&f.m)->name, "admin@core-07");
	/* Other scripts, in tags. */
	press(&f, SP_KEY_CHAR, "核");
	HAS(&f, 0, "12 accounts");
	press(&f, SP_KEY_CHAR, "x");
	HAS(&f, 0, "0 of 12");
	press(&f, SP_KEY_CTRL, "U");
	HAS(&f, 0, "12 accounts");
	/* No more is taken than fits. */
	for (int i = 0; i < 100; i++)
		press(&f, SP_KEY_CHAR, "核");
	cr_assert(sp_utf8_is_valid(sp_span_str(f.m.filter)));
	finish(&f);
}

Test(menu, long_lists_scroll)
{
	struct fix f;

	begin(&f, 80, 10, true, 40);
	draw(&f);
	press(&f, SP_KEY_END, "");
	HAS(&f, 7, "> admin@core-39");
	HAS(&f, 3, "admin@core-35");
	press(&f, SP_KEY_PAGE_UP, "");
	cr_assert_str_eq(sp_menu_chosen(&f.m)->target, "core-34");
	HAS(&f, 3, "> admin@core-34");
	press(&f, SP_KEY_HOME, "");
	HAS(&f, 3, "> admin@core-00");
	press(&f, SP_KEY_UP, "");
	HAS(&f, 3, "> admin@core-00");
	press(&f, SP_KEY_PAGE_DOWN, "");
	cr_assert_str_eq(sp_menu_chosen(&f.m)->target, "core-05");
	/* A larger window shows more, a smaller one keeps the chosen in view. */
	sp_menu_resize(&f.m, 100, 30);
	cr_assert_eq(sp_term_resize(f.t, 100, 30), SP_OK);
	draw(&f);
	HAS(&f, 29, "Type to filter");
	HAS(&f, 27, "admin@core-25");
	sp_menu_resize(&f.m, 40, 6);
	cr_assert_eq(sp_term_resize(f.t, 40, 6), SP_OK);
	draw(&f);
	HAS(&f, 3, "> admin@core-05");
	sp_menu_resize(&f.m, 20, 3);
	cr_assert_eq(sp_term_resize(f.t, 20, 3), SP_OK);
	draw(&f);
	cr_assert_str_eq(row(&f, 0), "too small");
	finish(&f);
}

/* In any size every line stays on its row: nothing wraps, nothing scrolls. */
Test(menu, every_size, .timeout = 120)
{
	for (unsigned cols = 1; cols < 130; cols += 3)
		for (unsigned rows = 1; rows < 40; rows += 2) {
			struct fix f;

			begin(&f, cols, rows, true, 9);
			sp_menu_say(&f.m, "磁碟滿了磁碟滿了磁碟滿了磁碟滿了磁碟滿了磁碟滿了"
			    "\x1b[2J evil");
			draw(&f);
			for (unsigned y = 0; y < rows; y++)
				cr_assert(!sp_term_row_is_wrapped(f.t, y), "%ux%u",
				    cols, rows);
			if (cols >= SP_MENU_COLS_MIN && rows >= SP_MENU_ROWS_MIN) {
				HAS(&f, 0, " Sallyport");
				HAS(&f, 3, "> admin@core-00");
			}
			finish(&f);
		}
}

Test(menu, what_keys_ask_for)
{
	struct fix f;

	begin(&f, 80, 24, true, 4);
	draw(&f);
	cr_assert_eq(press(&f, SP_KEY_ENTER, ""), SP_MENU_OPEN);
	press(&f, SP_KEY_CTRL, "R");
	HAS(&f, 22, "No approval is owed");
	press(&f, SP_KEY_DOWN, "");
	cr_assert_eq(press(&f, SP_KEY_ENTER, ""), SP_MENU_OPEN);
	press(&f, SP_KEY_DOWN, "");
	cr_assert_eq(press(&f, SP_KEY_ENTER, ""), SP_MENU_NOTHING);
	HAS(&f, 22, "Request 7 waits for 1 approval of approvers");
	press(&f, SP_KEY_DOWN, "");
	cr_assert_eq(press(&f, SP_KEY_CTRL, "R"), SP_MENU_NOTHING);
	HAS(&f, 22, "Reason:");
	cr_assert_eq(press(&f, SP_KEY_ENTER, ""), SP_MENU_NOTHING);
	press(&f, SP_KEY_ESCAPE, "");
	HAS(&f, 22, "allows shell");
	cr_assert_eq(press(&f, SP_KEY_ENTER, ""), SP_MENU_NOTHING);
	type(&f, "  ");
	cr_assert_eq(press(&f, SP_KEY_ENTER, ""), SP_MENU_NOTHING);
	press(&f, SP_KEY_CHAR, "磁");
	press(&f, SP_KEY_CHAR, "碟");
	press(&f, SP_KEY_BACKSPACE, "");
	HAS(&f, 22, "Reason:   磁");
	cr_assert_eq(press(&f, SP_KEY_ENTER, ""), SP_MENU_FILE);
	cr_assert_str_eq(f.m.reason, "  磁");
	/* Then nothing but leaving, until it is answered. */
	cr_assert_eq(press(&f, SP_KEY_ENTER, ""), SP_MENU_NOTHING);
	cr_assert_eq(press(&f, SP_KEY_CTRL, "C"), SP_MENU_QUIT);
	f.m.mode = SP_MENU_LIST;
	cr_assert_eq(press(&f, SP_KEY_CTRL, "D"), SP_MENU_QUIT);
	finish(&f);
}

/* A reason is for the line it was typed on. */
Test(menu, what_changes_while_one_types)
{
	struct sp_menu_item *items = calloc(2, sizeof(*items));
	struct fix f;

	begin(&f, 80, 24, true, 4);
	draw(&f);
	press(&f, SP_KEY_END, "");
	press(&f, SP_KEY_ENTER, "");
	type(&f, "because");
	item(&items[0], "admin", "core-00", SP_MENU_ALLOWED);
	item(&items[1], "admin", "core-03", SP_MENU_GRANTED);
	sp_menu_set(&f.m, items, 2);
	draw(&f);
	cr_assert_eq(f.m.mode, SP_MENU_LIST);
	cr_assert_str_eq(sp_menu_chosen(&f.m)->name, "admin@core-03");
	HAS(&f, 4, "> admin@core-03");
	HAS(&f, 4, "granted");
	cr_assert_str_eq(row(&f, 5), "");
	sp_menu_set(&f.m, NULL, 0);
	draw(&f);
	HAS(&f, 3, "There is nothing that you may reach");
	finish(&f);
}
