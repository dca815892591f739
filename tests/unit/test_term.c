/* SPDX-License-Identifier: Apache-2.0 */
/* The screen model, by what ECMA-48, the VT510 manual and xterm's ctlseqs say. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "recorder/term/term.h"

static void
screen(struct sp_term *t, char *out, size_t cap)
{
	SP_BUF_AUTO b = {.max = 1u << 20};

	for (unsigned y = 0; y < sp_term_rows(t); y++) {
		if (y > 0)
			cr_assert_eq(sp_buf_put_u8(&b, '|'), SP_OK);
		cr_assert_eq(sp_cells_text(sp_term_row(t, y), sp_term_cols(t),
		    false, &b), SP_OK);
	}
	cr_assert_eq(sp_span_cstr(sp_buf_span(&b), out, cap), SP_OK);
}

/* Input on a screen of 10 by 4, the rows joined by '|', the cursor. */
static const struct {
	const char *name, *in, *want;
	unsigned x, y;
} cases[] = {
    {"text", "abc", "abc|||", 3, 0},
    {"lines", "a\r\nb\r\nc", "a|b|c|", 1, 2},
    {"newline keeps the column", "ab\ncd", "ab|  cd||", 4, 1},
    {"wrap", "0123456789ab", "0123456789|ab||", 2, 1},
    {"pending wrap", "0123456789", "0123456789|||", 9, 0},
    {"pending wrap and return", "0123456789\rX", "X123456789|||", 1, 0},
    {"no wrap", "\033[?7l0123456789ab", "012345678b|||", 9, 0},
    {"scroll", "1\r\n2\r\n3\r\n4\r\n5", "2|3|4|5", 1, 3},
    {"goto", "\033[2;3Hx", "|  x||", 3, 1},
    {"goto beyond", "\033[99;99Hx", "|||         x", 9, 3},
    {"goto 0", "\033[0;0Hx", "x|||", 1, 0},
    {"up down left right", "\033[3;3H\033[A\033[2C\033[B\033[Dx", "||   x|", 4, 2},
    {"up stops", "\033[99Ax\033[99D", "x|||", 0, 0},
    {"column and row", "\033[4G\033[3dx", "||   x|", 4, 2},
    {"next line", "ab\033[Ecd\033[Fe", "eb|cd||", 1, 0},
    {"erase to end", "abcdef\033[3D\033[K", "abc|||", 3, 0},
    {"erase to start", "abcdef\033[3D\033[1K", "    ef|||", 3, 0},
    {"erase line", "abcdef\033[2K", "|||", 6, 0},
    {"erase below", "a\r\nb\r\nc\033[2;1H\033[J", "a|||", 0, 1},
    {"erase above", "a\r\nb\r\nc\033[2;1H\033[1J", "||c|", 0, 1},
    {"erase all", "a\r\nb\033[2J", "|||", 1, 1},
    {"insert characters", "abc\033[2D\033[2@", "a  bc|||", 1, 0},
    {"delete characters", "abcdef\033[4D\033[2P", "abef|||", 2, 0},
    {"delete many", "abcdef\033[4D\033[99P", "ab|||", 2, 0},
    {"erase characters", "abcdef\033[4D\033[2X", "ab  ef|||", 2, 0},
    {"insert mode", "abc\033[3D\033[4hX\033[4lY", "XYbc|||", 2, 0},
    {"insert lines", "1\r\n2\r\n3\r\n4\033[2;2H\033[L", "1||2|3", 0, 1},
    {"delete lines", "1\r\n2\r\n3\r\n4\033[2;2H\033[M", "1|3|4|", 0, 1},
    {"region", "1\r\n2\r\n3\r\n4\033[2;3r\033[3;1H\nx", "1|3|x|4", 1, 2},
    {"region up", "1\r\n2\r\n3\r\n4\033[2;3r\033[2;1H\033Mx", "1|x|2|4", 1, 1},
    {"outside of the region", "1\r\n2\r\n3\r\n4\033[1;2r\033[4;1H\nx", "1|2|3|x", 1, 3},
    {"origin", "\033[2;3r\033[?6h\033[1;1Hx\033[9;1Hy", "|x|y|", 1, 2},
    {"a bad region", "\033[3;2rx", "x|||", 1, 0},
    {"scroll up", "1\r\n2\r\n3\r\n4\033[2S", "3|4||", 1, 3},
    {"scroll down", "1\r\n2\r\n3\r\n4\033[1T", "|1|2|3", 1, 3},
    {"index", "\033Da\033Eb", "|a|b|", 1, 2},
    {"save and restore", "ab\0337\033[4;9H\0338c", "abc|||", 3, 0},
    {"save without keeps home", "\033[3;3H\0338x", "x|||", 1, 0},
    {"tabs", "\ta\033[3g\r\tb", "        ab|||", 9, 0},
    {"tab stops", "\033[3g\033[4G\033H\r\tx", "   x|||", 4, 0},
    {"back tab", "abcdefghij\033[Zx", "abcdefghxj|||", 9, 0},
    {"alternate", "main\033[?1049hother\033[?1049l", "main|||", 4, 0},
    {"in the alternate", "main\033[?1049h\033[Hother", "other|||", 5, 0},
    {"graphics", "\033(0lqk\033(Bq", "\xe2\x94\x8c\xe2\x94\x80\xe2\x94\x90q|||", 4, 0},
    {"shift out", "\033)0q\016q\017q", "q\xe2\x94\x80q|||", 3, 0},
    {"utf-8", "\xc3\xa4\xe2\x82\xac", "\xc3\xa4\xe2\x82\xac|||", 2, 0},
    {"wide", "\xe4\xb8\xad\xe6\x96\x87x", "\xe4\xb8\xad\xe6\x96\x87x|||", 5, 0},
    {"wide wraps whole", "012345678\xe4\xb8\xad", "012345678|\xe4\xb8\xad||", 2, 1},
    {"half overwritten", "\xe4\xb8\xad\b\bx", "x|||", 1, 0},
    {"other half overwritten", "\xe4\xb8\xad\bx", " x|||", 2, 0},
    {"combining", "e\xcc\x81x", "e\xcc\x81x|||", 2, 0},
    {"broken utf-8", "\xff\xc3x\xe2\x82y", "\xef\xbf\xbd\xef\xbf\xbdx\xef\xbf\xbdy|||", 5, 0},
    {"overlong and surrogate", "\xe0\x80\x80\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd|||", 2, 0},
    {"direction controls", "a\xe2\x80\xae" "b", "a\xef\xbf\xbd" "b|||", 3, 0},
    {"C1 as characters", "a\xc2\x9b" "31mb", "a31mb|||", 5, 0},
    {"OSC", "a\033]0;title\007b\033]52;c;xx\033\\c", "abc|||", 3, 0},
    {"DCS and APC", "a\033P1;2|\033\\b\033_x\033\\c\033^y\033\\d", "abcd|||", 4, 0},
    {"cut string", "a\033]0;ti\030b", "ab|||", 2, 0},
    {"a string ended by another sequence", "a\033]0;ti\033[31mb", "ab|||", 2, 0},
    {"control inside a sequence", "\033[2\r;3Hx", "|  x||", 3, 1},
    {"cancelled", "\033[2\0303Hx", "3Hx|||", 3, 0},
    {"unknown sequences", "\033[?99z\033[>c\033[1 q\033[5n\033%Ga", "a|||", 1, 0},
    {"many parameters", "\033[1;2;3;4;5;6;7;8;9;1;2;3;4;5;6;7;8;9;1;2;3;4;5;"
	"6;7;8;9;1;2;3;4;5;6;7;8;9ma", "a|||", 1, 0},
    {"huge parameters", "\033[99999999999999999999;2Hx", "||| x", 2, 3},
    {"repeat", "a\033[3b", "aaaa|||", 4, 0},
    {"repeat after a control", "a\r\033[3b", "a|||", 0, 0},
    {"erase to end while the wrap waits", "0123456789\033[Kx", "0123456789|x||", 1, 1},
    {"a wide one in no room", "\033[?7l012345678\xe4\xb8\xad" "x", "012345678x|||", 9, 0},
    {"alignment", "\033#8", "EEEEEEEEEE|EEEEEEEEEE|EEEEEEEEEE|EEEEEEEEEE", 0, 0},
    {"reset", "abc\033[2;3r\033cx", "x|||", 1, 0},
    {"soft reset", "\033[?6h\033[2;3r\033[!p\033[1;1Hx", "x|||", 1, 0},
    {"line feed mode", "\033[20hab\nc", "ab|c||", 1, 1},
    {"backspace stops", "\b\bx", "x|||", 1, 0},
    {"bell and nul", "a\007\0b", "a|||", 1, 0},
};

Test(term, what_the_manuals_say)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sp_term *t = NULL;
		char got[512];
		unsigned x, y;
		bool v;

		cr_assert_eq(sp_term_new(10, 4, NULL, NULL, &t), SP_OK);
		sp_term_feed(t, sp_span_str(cases[i].in));
		screen(t, got, sizeof(got));
		cr_assert_str_eq(got, cases[i].want, "%s: got \"%s\", want \"%s\"",
		    cases[i].name, got, cases[i].want);
		sp_term_cursor(t, &x, &y, &v);
		cr_assert(x == cases[i].x && y == cases[i].y,
		    "%s: cursor at %u,%u", cases[i].name, x, y);
		sp_term_free(t);
	}
}

/* Cut anywhere, it means the same. */
Test(term, pieces_mean_the_whole)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (size_t k = 0; k <= strlen(cases[i].in); k++) {
			struct sp_term *t = NULL;
			char got[512];

			cr_assert_eq(sp_term_new(10, 4, NULL, NULL, &t), SP_OK);
			sp_term_feed(t, sp_span_of(cases[i].in, k));
			sp_term_feed(t, sp_span_str(cases[i].in + k));
			screen(t, got, sizeof(got));
			cr_assert_str_eq(got, cases[i].want, "%s at %zu",
			    cases[i].name, k);
			sp_term_free(t);
		}
}

/* Written and read back anywhere, it goes on as if nothing had been: what stands in
 * the table needs all of a state (tabs, margins, charsets, saved cursors, the wrap
 * that waits, sequences and characters of which a part has come). */
Test(term, read_back_anywhere_it_goes_on)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (size_t k = 0; k <= strlen(cases[i].in); k++) {
			SP_BUF_AUTO b = {.max = SP_TERM_DUMP_MAX};
			struct sp_term *t = NULL, *u = NULL;
			char got[512];
			unsigned x, y;
			bool v;

			cr_assert_eq(sp_term_new(10, 4, NULL, NULL, &t), SP_OK);
			sp_term_feed(t, sp_span_of(cases[i].in, k));
			cr_assert_eq(sp_term_dump(t, &b), SP_OK);
			sp_term_free(t);
			cr_assert_eq(sp_term_load(sp_buf_span(&b), NULL, NULL, &u),
			    SP_OK, "%s at %zu", cases[i].name, k);
			sp_term_feed(u, sp_span_str(cases[i].in + k));
			screen(u, got, sizeof(got));
			cr_assert_str_eq(got, cases[i].want, "%s at %zu",
			    cases[i].name, k);
			sp_term_cursor(u, &x, &y, &v);
			cr_assert(x == cases[i].x && y == cases[i].y,
			    "%s at %zu: cursor at %u,%u", cases[i].name, k, x, y);
			sp_term_free(u);
		}
}

static const struct {
	const char *in;
	uint32_t fg, bg;
	uint8_t attr;
} pens[] = {
    {"\033[31mx", SP_COLOUR_INDEX | 1, 0, 0},
    {"\033[97;104mx", SP_COLOUR_INDEX | 15, SP_COLOUR_INDEX | 12, 0},
    {"\033[38;5;200mx", SP_COLOUR_INDEX | 200, 0, 0},
    {"\033[38:5:200mx", SP_COLOUR_INDEX | 200, 0, 0},
    {"\033[48;2;1;2;3mx", 0, SP_COLOUR_RGB | 0x010203, 0},
    {"\033[38:2::1:2:3mx", SP_COLOUR_RGB | 0x010203, 0, 0},
    {"\033[38:2:1:2:3mx", SP_COLOUR_RGB | 0x010203, 0, 0},
    {"\033[38;2;1;2;3;1;41mx", SP_COLOUR_RGB | 0x010203, SP_COLOUR_INDEX | 1,
	SP_ATTR_BOLD},
    {"\033[58;5;9;3mx", 0, 0, SP_ATTR_ITALIC},
    {"\033[1;2;3;4;5;7;8;9mx", 0, 0, 0xff},
    {"\033[1;2;4;7m\033[22;24;27mx", 0, 0, 0},
    {"\033[4:3mx", 0, 0, SP_ATTR_UNDERLINE},
    {"\033[4m\033[4:0mx", 0, 0, 0},
    {"\033[31;41;1m\033[mx", 0, 0, 0},
    {"\033[31;41m\033[39;49mx", 0, 0, 0},
    {"\033[38mx", 0, 0, 0},
    {"\033[38;5mx", 0, 0, 0},
    {"\033[38;2;1mx", 0, 0, 0},
};

Test(term, colours_and_attributes)
{
	for (size_t i = 0; i < sizeof(pens) / sizeof(pens[0]); i++) {
		struct sp_term *t = NULL;
		const struct sp_cell *c;

		cr_assert_eq(sp_term_new(10, 4, NULL, NULL, &t), SP_OK);
		sp_term_feed(t, sp_span_str(pens[i].in));
		c = sp_term_row(t, 0);
		cr_assert_eq(c->ch, 'x', "%s", pens[i].in + 1);
		cr_assert(c->fg == pens[i].fg && c->bg == pens[i].bg &&
		    c->attr == pens[i].attr, "%s: %x %x %x", pens[i].in + 1,
		    c->fg, c->bg, c->attr);
		sp_term_free(t);
	}
}

struct history {
	char text[4096];
};

static void
line(void *ctx, const struct sp_cell *cells, size_t n, bool is_wrapped)
{
	struct history *h = ctx;
	SP_BUF_AUTO b = {.max = 8192};
	size_t used = strlen(h->text);

	cr_assert_eq(sp_cells_text(cells, n, is_wrapped, &b), SP_OK);
	snprintf(h->text + used, sizeof(h->text) - used, "%.*s%c", (int)b.len,
	    b.len == 0 ? "" : (const char *)b.p + b.off, is_wrapped ? '+' : '|');
}

Test(term, history_is_what_left_at_the_top)
{
	struct history h = {0};
	struct sp_term *t = NULL;

	cr_assert_eq(sp_term_new(4, 2, line, &h, &t), SP_OK);
	sp_term_feed(t, sp_span_str("1\r\n2\r\n3\r\n45678\r\n"));
	cr_assert_str_eq(h.text, "1|2|3|4567+");
	/* Neither the other screen nor deleted lines are history. */
	sp_term_feed(t, sp_span_str("\033[?1049ha\r\nb\r\nc\r\nd\033[?1049l"));
	sp_term_feed(t, sp_span_str("\033[H\033[2M"));
	cr_assert_str_eq(h.text, "1|2|3|4567+");
	sp_term_free(t);
}

Test(term, resizing)
{
	struct history h = {0};
	struct sp_term *t = NULL;
	char got[256];

	cr_assert_eq(sp_term_new(6, 4, line, &h, &t), SP_OK);
	sp_term_feed(t, sp_span_str("1\r\n2\r\n3\r\n4\xe4\xb8\xad\xe6\x96\x87"));
	cr_assert_eq(sp_term_resize(t, 4, 2), SP_OK);
	screen(t, got, sizeof(got));
	cr_assert_str_eq(got, "3|4\xe4\xb8\xad");
	cr_assert_str_eq(h.text, "1|2|");
	cr_assert_eq(sp_term_resize(t, 20, 3), SP_OK);
	sp_term_feed(t, sp_span_str("\r\nend"));
	screen(t, got, sizeof(got));
	cr_assert_str_eq(got, "3|4\xe4\xb8\xad|end");
	cr_assert_eq(sp_term_resize(t, 0, 0), SP_OK);
	cr_assert_eq(sp_term_cols(t), 1);
	cr_assert_eq(sp_term_resize(t, 100000, 100000), SP_OK);
	cr_assert_eq(sp_term_cols(t), SP_TERM_COLS_MAX);
	cr_assert_eq(sp_term_rows(t), SP_TERM_ROWS_MAX);
	sp_term_free(t);
}

static uint32_t seed = 4711;
static uint32_t
rnd(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

static size_t
token(char *o, size_t cap)
{
	static const char finals[] = "@ABCDEFGHIJKLMPSTXZ`abdefghlmnprstuc";
	static const char *const fixed[] = {"\033#8", "\033c", "\0337", "\0338",
	    "\033M", "\033D", "\033E", "\033H", "\033(0", "\033(B", "\016",
	    "\017", "\r", "\n", "\b", "\t", "\033[?1049h", "\033[?1049l",
	    "\033[?6h", "\033[?7l", "\033[?7h", "\033[4h", "\033[4l",
	    "\xe4\xb8\xad", "e\xcc\x81", "\xff", "\033]0;x\007", "\033P",
	    "\033\\", "\033N", "\xf0\x9f\x98\x80", "\030", "\033[!p"};
	int n;

	switch (rnd(4)) {
	case 0:
		n = snprintf(o, cap, "%s", fixed[rnd(sizeof(fixed) /
		    sizeof(fixed[0]))]);
		break;
	case 1:
		n = snprintf(o, cap, "\033[%s%u;%u%c", rnd(5) == 0 ? "?" : "",
		    rnd(3) == 0 ? rnd(70000) : rnd(12),
		    rnd(3) == 0 ? rnd(70000) : rnd(12),
		    finals[rnd(sizeof(finals) - 1)]);
		break;
	case 2:
		n = snprintf(o, cap, "%.*s", (int)(1 + rnd(30)),
		    "the quick brown fox jumps over the lazy dog");
		break;
	default:
		n = 1;
		o[0] = (char)rnd(256);
		break;
	}
	return (size_t)n;
}

/* Every cell is printable, and no half of a wide one stands alone. */
static void
check_cells(struct sp_term *t)
{
	unsigned x, y, cols = sp_term_cols(t);
	bool v;

	for (y = 0; y < sp_term_rows(t); y++) {
		const struct sp_cell *c = sp_term_row(t, y);

		for (x = 0; x < cols; x++) {
			cr_assert(c[x].width <= 2);
			cr_assert(c[x].width != 2 || (x + 1 < cols &&
			    c[x + 1].width == 0), "at %u,%u", x, y);
			cr_assert(c[x].width != 0 || (x > 0 &&
			    c[x - 1].width == 2), "at %u,%u", x, y);
			cr_assert(c[x].ch == 0 || (c[x].ch >= 0x20 &&
			    c[x].ch != 0x7f && (c[x].ch < 0x80 ||
			    c[x].ch >= 0xa0)));
		}
	}
	sp_term_cursor(t, &x, &y, &v);
	cr_assert(x < cols && y < sp_term_rows(t));
}

/* What was dumped and loaded is dumped alike. A copy with one byte changed is
 * refused, or is a screen like any other. */
static void
check_state(struct sp_term *t)
{
	SP_BUF_AUTO a = {.max = SP_TERM_DUMP_MAX};
	SP_BUF_AUTO b = {.max = SP_TERM_DUMP_MAX};
	struct sp_term *u = NULL;

	cr_assert_eq(sp_term_dump(t, &a), SP_OK);
	cr_assert_eq(sp_term_load(sp_buf_span(&a), NULL, NULL, &u), SP_OK);
	cr_assert_eq(sp_term_dump(u, &b), SP_OK);
	cr_assert(sp_span_eq(sp_buf_span(&a), sp_buf_span(&b)));
	sp_term_free(u);
	b.p[b.off + rnd((uint32_t)b.len)] ^= (uint8_t)(1 + rnd(255));
	if (sp_term_load(sp_buf_span(&b), NULL, NULL, &u) != SP_OK)
		return;
	check_cells(u);
	sp_term_feed(u, sp_span_str("\r\nabc\033[5;5H\033[9L\0338\xe4\xb8\xad\033[99P"));
	check_cells(u);
	sp_term_free(u);
}

Test(term, a_state_is_read_as_from_an_enemy)
{
	SP_BUF_AUTO a = {.max = SP_TERM_DUMP_MAX};
	struct sp_term *t = NULL, *u = NULL;
	size_t n_loaded = 0;

	cr_assert_eq(sp_term_new(20, 5, NULL, NULL, &t), SP_OK);
	sp_term_feed(t, sp_span_str("a\xe4\xb8\xad\033[31mb\0337\033[?1049hxyz\033[1;2"));
	cr_assert_eq(sp_term_dump(t, &a), SP_OK);
	sp_term_free(t);
	for (size_t n = 0; n < a.len; n++)
		cr_assert_neq(sp_term_load(sp_span_of(a.p + a.off, n), NULL, NULL,
		    &u), SP_OK, "cut at %zu", n);
	for (size_t i = 0; i < a.len; i++)
		for (unsigned bit = 0; bit < 8; bit++) {
			a.p[a.off + i] ^= (uint8_t)(1u << bit);
			if (sp_term_load(sp_buf_span(&a), NULL, NULL, &u) == SP_OK) {
				n_loaded++;
				check_cells(u);
				sp_term_free(u);
			}
			a.p[a.off + i] ^= (uint8_t)(1u << bit);
		}
	/* Letters, colours, places: other states, as good as this one. */
	cr_assert(n_loaded > 0 && n_loaded < a.len * 8);
	cr_assert_eq(sp_buf_put_u8(&a, 0), SP_OK);
	cr_assert_eq(sp_term_load(sp_buf_span(&a), NULL, NULL, &u), SP_ERR_PROTO);
}

Test(term, hostile_streams_do_no_harm, .timeout = 300)
{
	for (int i = 0; i < 2000; i++) {
		struct history h = {0};
		struct sp_term *t = NULL;
		char o[128];

		cr_assert_eq(sp_term_new(1 + rnd(30), 1 + rnd(12), line, &h, &t),
		    SP_OK);
		for (int k = 0; k < 150; k++) {
			size_t n = token(o, sizeof(o));

			h.text[0] = '\0';
			sp_term_feed(t, sp_span_of(o, n));
			if (rnd(25) == 0)
				cr_assert_eq(sp_term_resize(t, 1 + rnd(40),
				    1 + rnd(15)), SP_OK);
		}
		check_cells(t);
		check_state(t);
		sp_term_free(t);
	}
}
