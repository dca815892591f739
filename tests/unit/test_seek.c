/* SPDX-License-Identifier: Apache-2.0 */
/* One recording of a search, and what of it a person could have read. */
#include "bastion/player/search.h"
#include "bastion/player/show.h"
#include "recorder/view.h"
#include "tests/unit/rec_support.h"

struct kit {
	struct rec_vault v;
	uint8_t session[16];
	int fd;
	struct sp_rec_writer *w;
};

/* What the seeker uses of the rest of the player. */
bool
file_is_sftp(const struct sp_open *o)
{
	return o->kind == SP_OPEN_SUBSYSTEM;
}

void
file_line(char *dst, size_t cap, struct sp_span record)
{
	snprintf(dst, cap, "%zu", record.n);
}

static void
put(struct kit *k, enum sp_lane lane, uint8_t kind, uint32_t chan,
    struct sp_span s)
{
	cr_assert_eq(sp_rec_writer_put(k->w, lane, kind, chan, s), SP_OK);
	cr_assert_eq(sp_rec_writer_commit(k->w), SP_OK);
}

static void
out(struct kit *k, const char *s)
{
	put(k, SP_LANE_OUT, SP_RECORD_OUT, 1, sp_span_str(s));
}

static void
begin(struct kit *k)
{
	struct sp_open o = {.kind = SP_OPEN_SHELL, .has_pty = 1, .cols = 20,
	    .rows = 4, .term = sp_span_str("xterm")};
	SP_BUF_AUTO b = {.max = 4096};

	rec_vault_make(&k->v);
	randombytes_buf(k->session, 16);
	k->fd = rec_file();
	k->w = rec_begin(&k->v, k->fd, k->session);
	cr_assert_eq(sp_open_encode(&b, &o), SP_OK);
	put(k, SP_LANE_OUT, SP_RECORD_OPEN, 1, sp_buf_span(&b));
}

static const struct hits *
look(struct kit *k, const char *words, uint8_t lanes,
    const struct sp_rec_lane_keys *keys)
{
	struct sp_rec_lane_keys all = rec_keys(&k->v, k->fd);
	struct seeker *s = NULL;
	static struct hits h, again;
	struct match m;

	cr_assert_eq(match_init(&m, sp_span_str(words), false, NULL), SP_OK);
	cr_assert_eq(seeker_new(&m, lanes, &s), SP_OK);
	cr_assert_eq(seeker_look(s, k->fd, keys == NULL ? &all : keys, &h),
	    SP_OK);
	/* A seeker keeps nothing of the recording before. */
	cr_assert_eq(seeker_look(s, k->fd, keys == NULL ? &all : keys, &again),
	    SP_OK);
	cr_assert_eq(h.n, again.n);
	cr_assert_eq(h.count, again.count);
	seeker_free(s);
	match_fini(&m);
	return &h;
}

static void
end(struct kit *k)
{
	cr_assert_eq(sp_rec_writer_close(k->w, SP_END_NORMAL, sp_span_str("x")),
	    SP_OK);
	sp_rec_writer_free(k->w);
	close(k->fd);
}

Test(seek, what_stood_on_a_screen_without_a_scribe)
{
	struct kit k;
	const struct hits *h;

	begin(&k);
	out(&k, "dr\x1b[1mop\x1b[0m table\r\n");	/* colours between */
	out(&k, "one\r\ntwo\r\nthree\r\nfour\r\nhidden in a burst\r\n"
	    "1\r\n2\r\n3\r\n4\r\n5\r\n");
	out(&k, "a line that goes on in the next row\r\n");
	out(&k, "\x1b]0;titleword\x07\xe4\xbd\xa0\xe5\xa5\xbd\r\n");
	h = look(&k, "drop table", SP_SEARCH_SCREEN, NULL);
	cr_assert_eq(h->n, 1);
	cr_assert_str_eq(h->hit[0].text, "drop table");
	cr_assert_eq(h->hit[0].lane, SP_SEARCH_SCREEN);
	cr_assert_eq(h->state, 0);
	cr_assert_eq(look(&k, "hidden in a", SP_SEARCH_SCREEN, NULL)->n, 1);
	cr_assert_eq(look(&k, "goes on in the next", SP_SEARCH_SCREEN, NULL)->n, 1);
	cr_assert_eq(look(&k, "\xe4\xbd\xa0", SP_SEARCH_SCREEN, NULL)->n, 1);
	cr_assert_eq(look(&k, "titleword", SP_SEARCH_SCREEN, NULL)->n, 0);
	cr_assert_eq(look(&k, "drop table", SP_SEARCH_COMMANDS, NULL)->n, 0);
	end(&k);
}

static void
put_line(struct kit *k, const char *text)
{
	SP_BUF_AUTO b = {.max = 8192};
	struct sp_view_line l = {.row = 1, .text = sp_span_str(text)};

	cr_assert_eq(sp_view_line_encode(&b, &l), SP_OK);
	put(k, SP_LANE_VIEW, SP_VIEW_LINE, 1, sp_buf_span(&b));
}

Test(seek, what_a_scribe_wrote_is_used)
{
	struct sp_view_command c = {.source = SP_VIEW_SCREEN, .percent = 90,
	    .text = sp_span_str("rm -rf /srv")};
	struct sp_rec_lane_keys keys;
	SP_BUF_AUTO b = {.max = 8192};
	struct kit k;

	begin(&k);
	out(&k, "only in OUT\r\n");
	put_line(&k, "only in VIEW");
	cr_assert_eq(sp_view_command_encode(&b, &c), SP_OK);
	put(&k, SP_LANE_VIEW, SP_VIEW_COMMAND, 1, sp_buf_span(&b));
	cr_assert_eq(look(&k, "only in view", SP_SEARCH_SCREEN, NULL)->n, 1);
	cr_assert_eq(look(&k, "only in out", SP_SEARCH_SCREEN, NULL)->n, 0);
	cr_assert_eq(look(&k, "rm -rf", SP_SEARCH_COMMANDS, NULL)->n, 1);
	/* Where VIEW is for others, OUT is read. */
	keys = rec_keys(&k.v, k.fd);
	keys.has[SP_LANE_VIEW - 1] = false;
	cr_assert_eq(look(&k, "only in out", SP_SEARCH_SCREEN, &keys)->n, 1);
	cr_assert_eq(look(&k, "only in out", SP_SEARCH_SCREEN, &keys)->state, 0);
	keys.has[SP_LANE_OUT - 1] = false;
	cr_assert_eq(look(&k, "only", SP_SEARCH_SCREEN, &keys)->state,
	    SP_SEARCH_SEALED);
	end(&k);
}

static void
put_many(struct kit *k, const char *a, const char *b)
{
	struct sp_view_line l[2] = {{.row = 1, .text = sp_span_str(a)},
	    {.row = 2, .text = sp_span_str(b)}};
	SP_BUF_AUTO bytes = {.max = 8192};

	cr_assert_eq(sp_view_lines_encode(&bytes, l, 2), SP_OK);
	put(k, SP_LANE_VIEW, SP_RECORD_LINES, 1, sp_buf_span(&bytes));
}

/* What is not wanted is passed over, in the tail and in columns, and the times of
 * what is left stay what they were. */
Test(seek, what_is_passed_over_changes_no_time)
{
	static struct hits before[3];
	static const struct {
		const char *words;
		uint8_t lanes;
		size_t n;
	} asked[3] = {{"needle", SP_SEARCH_SCREEN, 4},
	    {"make", SP_SEARCH_COMMANDS, 2}, {"needle.*two", SP_SEARCH_SCREEN, 0}};
	struct sp_view_command c = {.source = SP_VIEW_SCREEN, .percent = 90,
	    .text = sp_span_str("make needle")};
	SP_BUF_AUTO b = {.max = 8192};
	struct kit k;

	begin(&k);
	cr_assert_eq(sp_view_command_encode(&b, &c), SP_OK);
	for (int i = 0; i < 50; i++) {
		out(&k, "hay\r\n");
		put_many(&k, "hay", i % 20 == 7 ? "a Needle" : "more hay");
		put_line(&k, i == 30 ? "needle 30" : "hay");
		if (i == 11 || i == 40)
			put(&k, SP_LANE_VIEW, SP_VIEW_COMMAND, 1, sp_buf_span(&b));
	}
	for (int i = 0; i < 3; i++)
		before[i] = *look(&k, asked[i].words, asked[i].lanes, NULL);
	cr_assert_eq(sp_rec_writer_close(k.w, SP_END_NORMAL, sp_span_str("x")),
	    SP_OK);
	for (int i = 0; i < 3; i++) {
		const struct hits *h = look(&k, asked[i].words, asked[i].lanes, NULL);

		cr_assert_eq(h->n, asked[i].n, "%d", i);
		cr_assert_eq(before[i].n, h->n, "%d", i);
		cr_assert_eq(h->state, 0);
		for (size_t j = 0; j < h->n; j++) {
			cr_assert_eq(h->hit[j].at_us, before[i].hit[j].at_us);
			cr_assert_str_eq(h->hit[j].text, before[i].hit[j].text);
			cr_assert(h->hit[j].at_us > 0);
		}
	}
	sp_rec_writer_free(k.w);
	close(k.fd);
}

Test(seek, a_gap_is_read_from_what_was_sent)
{
	struct sp_view_span g = {.from_us = 1, .to_us = 2,
	    .why = sp_span_str("restarted")};
	SP_BUF_AUTO b = {.max = 8192};
	struct kit k;

	begin(&k);
	out(&k, "while nobody read\r\n");
	put_line(&k, "later");
	cr_assert_eq(look(&k, "while nobody", SP_SEARCH_SCREEN, NULL)->n, 0);
	cr_assert_eq(sp_view_span_encode(&b, &g), SP_OK);
	put(&k, SP_LANE_META, SP_VIEW_GAP, 1, sp_buf_span(&b));
	cr_assert_eq(look(&k, "while nobody", SP_SEARCH_SCREEN, NULL)->n, 1);
	end(&k);
}

Test(seek, keys_but_no_secrets)
{
	struct sp_rec_lane_keys keys;
	struct sp_view_span g = {0};
	SP_BUF_AUTO b = {.max = 8192};
	struct kit k;

	begin(&k);
	put(&k, SP_LANE_IN, SP_RECORD_IN, 1, sp_span_str("ls\x1b[A -lx\x7f /tmp"));
	put(&k, SP_LANE_IN, SP_RECORD_IN, 1, sp_span_str("/dir\rsudo -i\r"));
	usleep(2000);
	g.from_us = sp_rec_writer_last_us(k.w) + 1000;
	put(&k, SP_LANE_IN, SP_RECORD_IN, 1, sp_span_str("hunter2\r"));
	g.to_us = sp_rec_writer_last_us(k.w);
	cr_assert_eq(look(&k, "ls -l /tmp/dir", SP_SEARCH_KEYS, NULL)->n, 1);
	cr_assert_eq(look(&k, "sudo -i", SP_SEARCH_KEYS, NULL)->n, 1);
	cr_assert_eq(look(&k, "hunter2", SP_SEARCH_KEYS, NULL)->n, 1);
	cr_assert_eq(sp_view_span_encode(&b, &g), SP_OK);
	put(&k, SP_LANE_META, SP_VIEW_SECRET, 1, sp_buf_span(&b));
	cr_assert_eq(look(&k, "hunter2", SP_SEARCH_KEYS, NULL)->n, 0);
	cr_assert_eq(look(&k, "sudo -i", SP_SEARCH_KEYS, NULL)->n, 1);
	cr_assert_eq(look(&k, "sudo -i", SP_SEARCH_SCREEN, NULL)->n, 0);
	/* Who cannot know which keys were secrets sees none. */
	keys = rec_keys(&k.v, k.fd);
	keys.has[SP_LANE_META - 1] = false;
	cr_assert_eq(look(&k, "hunter2", SP_SEARCH_KEYS, &keys)->n, 0);
	cr_assert_eq(look(&k, "hunter2", SP_SEARCH_KEYS, &keys)->state,
	    SP_SEARCH_SEALED);
	end(&k);
}

Test(seek, a_damaged_recording_says_so)
{
	struct kit k;
	uint8_t c = 0;
	off_t n;

	begin(&k);
	out(&k, "early words\r\n");
	n = lseek(k.fd, 0, SEEK_END);
	out(&k, "late words\r\n");
	n += SP_REC_OVERHEAD + 8;
	cr_assert_eq(pread(k.fd, &c, 1, n), 1);
	c ^= 1;
	cr_assert_eq(pwrite(k.fd, &c, 1, n), 1);
	cr_assert_eq(look(&k, "early", SP_SEARCH_SCREEN, NULL)->n, 1);
	cr_assert_eq(look(&k, "late", SP_SEARCH_SCREEN, NULL)->n, 0);
	cr_assert_eq(look(&k, "late", SP_SEARCH_SCREEN, NULL)->state,
	    SP_SEARCH_UNREAD);
	end(&k);
}

Test(seek, the_first_ones_are_kept_and_all_are_counted)
{
	const struct hits *h;
	static struct hits back;
	SP_BUF_AUTO b = {.max = 61440};
	struct kit k;
	char text[600];

	begin(&k);
	for (int i = 0; i < 50; i++) {
		snprintf(text, sizeof(text), "%0300d needle-%02d %0200d", 0, i, 0);
		put_line(&k, text);
	}
	h = look(&k, "needle-", SP_SEARCH_SCREEN, NULL);
	cr_assert_eq(h->n, SEARCH_SHOWN_MAX);
	cr_assert_eq(h->count, 50);
	for (size_t i = 0; i < h->n; i++) {
		snprintf(text, sizeof(text), "needle-%02zu", i);
		cr_assert_not_null(strstr(h->hit[i].text, text));
	}
	cr_assert_eq(hits_encode(&b, h), SP_OK);
	cr_assert_eq(hits_decode(sp_buf_span(&b), &back), SP_OK);
	cr_assert_eq(back.n, h->n);
	cr_assert_str_eq(back.hit[7].text, h->hit[7].text);
	for (size_t cut = 1; cut < 40; cut++)
		cr_assert_neq(hits_decode(sp_span_of(sp_buf_span(&b).p,
		    b.len - cut), &back), SP_OK);
	end(&k);
}

Test(seek, matching)
{
	static const struct {
		const char *words, *text;
		bool is_regex, fits;
	} cases[] = {{"drop", "DROP TABLE", false, true},
	    {"Drop", "DROP TABLE", false, false}, {"e", "e", false, true},
	    {"ab", "aab", false, true}, {"aab", "aaab", false, true},
	    {"abc", "ab", false, false}, {"\xc3\xa9", "caf\xc3\xa9", false, true},
	    {"^d.*e$", "drop table", true, true},
	    {"^D.*e$", "drop table", true, false},
	    {"[0-9]{3}", "a12b345", true, true}};
	char why[256] = "";
	struct match m;
	size_t at, n;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_assert_eq(match_init(&m, sp_span_str(cases[i].words),
		    cases[i].is_regex, why), SP_OK);
		cr_assert_eq(match_find(&m, sp_span_str(cases[i].text), &at, &n),
		    cases[i].fits, "%s in %s", cases[i].words, cases[i].text);
		match_fini(&m);
	}
	cr_assert_eq(match_init(&m, sp_span_str("a(b"), true, why),
	    SP_ERR_SYNTAX);
	cr_assert(strlen(why) > 0);
	cr_assert_eq(match_init(&m, sp_span_str(""), false, why), SP_ERR_INVAL);
}

/* What every match of an expression holds. */
Test(seek, a_literal_of_an_expression)
{
	static const struct {
		const char *words, *lit;
	} cases[] = {{"needle.*haystack", "haystack"}, {"ab?cde", "cde"},
	    {"GRANT .* TO", "GRANT "}, {"^drop table$", "drop table"},
	    {"a|b", ""}, {"(abc)+d", "d"}, {"x[abc]yz", "yz"}, {"x[]a]yz", "yz"},
	    {"x[^]a]yz", "yz"}, {"ab{2,3}c", "a"}, {"ab+c", "ab"}, {"ab++?c", "a"},
	    {"1\\.2\\.3", "1.2.3"}, {"a\\bcd", "cd"}, {"ab[[:digit:]]cde", "ab"},
	    {"ab*", "a"}, {"(x[)]y)z", "z"}, {"(a(b)c)de", "de"}, {"Ab.", "Ab"},
	    {".*", ""}, {"a{9", ""}};
	struct match m;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (match_init(&m, sp_span_str(cases[i].words), true, NULL) != SP_OK)
			continue;
		cr_assert(sp_span_is(sp_span_of(m.lit, m.n), cases[i].lit),
		    "%s: %.*s", cases[i].words, (int)m.n, (const char *)m.lit);
		match_fini(&m);
	}
}

static size_t
mixed(char *o, size_t most, const char *of)
{
	size_t n = 1 + randombytes_uniform((uint32_t)most - 1);

	for (size_t i = 0; i < n; i++)
		o[i] = of[randombytes_uniform((uint32_t)strlen(of))];
	o[n] = '\0';
	return n;
}

/* Whatever the expression: what matches is never passed over. */
Test(seek, what_may_match_is_never_denied)
{
	unsigned tried = 0, fits = 0;
	char words[16], text[32];
	struct match m;
	size_t at, n;

	cr_assert(sodium_init() >= 0);
	for (int i = 0; i < 60000; i++) {
		mixed(words, 12, "aabbccA.[]^$*+?(){}|\\12,-");
		if (match_init(&m, sp_span_str(words), true, NULL) != SP_OK)
			continue;
		tried++;
		for (int k = 0; k < 4; k++) {
			struct sp_span t = sp_span_of(text, mixed(text, 24,
			    "aabbccABC.[]{}(1,2\\"));

			if (!match_find(&m, t, &at, &n))
				continue;
			fits++;
			cr_assert(match_may(&m, t), "%s in %s", words, text);
		}
		match_fini(&m);
	}
	cr_assert(tried > 2000 && fits > 500, "%u %u", tried, fits);
}
