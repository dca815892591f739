/* SPDX-License-Identifier: Apache-2.0 */
/* The old protocol of scp: known by its bytes, judged before a byte of it goes
 * on; everything else passes as it is. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "tests/unit/xfer_kit.h"

#define BOTH (SP_RIGHT_UPLOAD | SP_RIGHT_DOWNLOAD)

/* "u..." is said by the user, "t..." by the target; '0' inside [] is the zero
 * byte: "u[0]". */
struct said {
	bool user;
	const char *text;
	size_t n;
};
#define SAID(user, text) {user, text, sizeof(text) - 1}

static const struct said up[] = {
    SAID(false, "\0"), SAID(true, "T1700000000 0 1700000000 0\n"),
    SAID(false, "\0"), SAID(true, "C0644 11 hello.txt\n"), SAID(false, "\0"),
    SAID(true, "hello world\0"), SAID(false, "\0"),
    SAID(true, "D0755 0 sub\n"), SAID(false, "\0"),
    SAID(true, "C0600 0 empty\n"), SAID(false, "\0"), SAID(true, "\0"),
    SAID(false, "\0"), SAID(true, "E\n"), SAID(false, "\0"),
    SAID(true, "C0644 3 no\n"), SAID(false, "\001scp: no: Is a directory\n"),
    SAID(true, "C0644 2 x\n"), SAID(false, "\0"), SAID(true, "ab\0"),
    SAID(false, "\001scp: x: No space left\n"),
};
static const struct said down[] = {
    SAID(true, "\0"), SAID(false, "\001scp: a: No such file\n"),
    SAID(false, "C0644 11 hello.txt\n"), SAID(true, "\0"),
    SAID(false, "hello world\0"), SAID(true, "\0"),
    SAID(false, "D0755 0 sub\n"), SAID(true, "\0"),
    SAID(false, "C0600 3 y\n"), SAID(true, "\001no\n"), SAID(false, "E\n"),
    SAID(true, "\0"),
};
#define N(a) (sizeof(a) / sizeof((a)[0]))

static void
play(struct kit *k, const struct said *s, size_t n, size_t piece)
{
	for (size_t i = 0; i < n; i++)
		kit_feed(k, s[i].user, sp_span_of(s[i].text, s[i].n), piece);
}

static void
logged(struct kit *k, const char *line)
{
	cr_assert_not_null(strstr(kit_log(k), line), "no \"%s\" in:\n%s", line,
	    kit_log(k));
}

static bool
holds(const struct sp_buf *b, const char *text)
{
	return b->len > 0 && memmem(b->p + b->off, b->len, text, strlen(text)) !=
	    NULL;
}

/* All that was said came out, in its order. */
static void
all_passed(struct kit *k, const struct said *s, size_t n)
{
	size_t u = 0, t = 0;

	cr_assert_eq(k->end, SP_OK, "%s", k->why);
	for (size_t i = 0; i < n; i++) {
		struct sp_buf *b = s[i].user ? &k->at_target : &k->at_user;
		size_t *at = s[i].user ? &u : &t;

		cr_assert_leq(*at + s[i].n, b->len);
		cr_assert_eq(memcmp(b->p + b->off + *at, s[i].text, s[i].n), 0);
		*at += s[i].n;
	}
	cr_assert_eq(u, k->at_target.len);
	cr_assert_eq(t, k->at_user.len);
}

Test(scp, an_upload_in_every_size_of_pieces)
{
	for (size_t piece = 0; piece < 30; piece++) {
		struct kit k;

		kit_start_scp(&k, BOTH);
		play(&k, up, N(up), piece);
		kit_over(&k);
		all_passed(&k, up, N(up));
		logged(&k, "open dir=1 file=1 ok 0+0 - [hello.txt] [] "
		    "[mode=0644 size=11]");
		logged(&k, "close dir=1 file=1 ok 0+11 b94d27b9 whole [hello.txt]");
		logged(&k, "mkdir dir=1 file=0 ok 0+0 - [sub]");
		logged(&k, "close dir=1 file=2 ok 0+0 e3b0c442 whole [sub/empty]");
		logged(&k, "close dir=1 file=3 failed 0+0 e3b0c442 [no]");
		logged(&k, "close dir=1 file=4 failed 0+2");
		cr_assert_eq(k.s.bytes, 13);
		kit_stop(&k);
	}
}

Test(scp, a_download_in_every_size_of_pieces)
{
	for (size_t piece = 0; piece < 30; piece++) {
		struct kit k;

		kit_start_scp(&k, BOTH);
		play(&k, down, N(down), piece);
		kit_over(&k);
		all_passed(&k, down, N(down));
		logged(&k, "close dir=2 file=1 ok 0+11 b94d27b9 whole [hello.txt]");
		logged(&k, "list dir=2 file=0 ok 0+0 - [sub]");
		logged(&k, "close dir=2 file=2 failed 0+0 e3b0c442 [sub/y]");
		kit_stop(&k);
	}
}

Test(scp, an_upload_that_is_not_permitted)
{
	static const struct said s[] = {SAID(false, "\0"),
	    SAID(true, "C0644 11 a b\n"), SAID(true, "D0755 0 d\n"),
	    SAID(true, "C0644 1 c\n")};

	for (size_t piece = 0; piece < 4; piece++) {
		struct kit k;

		kit_start_scp(&k, SP_RIGHT_DOWNLOAD);
		play(&k, s, N(s), piece);
		cr_assert_eq(k.end, SP_OK, "%s", k.why);
		cr_assert_eq(k.at_target.len, 0);
		cr_assert_eq(k.dropped_user, 13 + 10 + 10);
		cr_assert(holds(&k.at_user, "\001scp: a b: upload is not "
		    "permitted in this session\n"));
		cr_assert(holds(&k.at_user, "scp: d: "));
		cr_assert_eq(k.at_user.len, 1 + k.said_user);
		logged(&k, "open dir=1 file=0 refused 0+11 - [a b]");
		logged(&k, "mkdir dir=1 file=0 refused");
		kit_stop(&k);
	}
}

Test(scp, a_download_that_is_not_permitted)
{
	static const struct said s[] = {SAID(true, "\0"),
	    SAID(false, "C0644 11 a\n"), SAID(false, "C0644 12 b\n")};
	struct kit k;

	kit_start_scp(&k, SP_RIGHT_UPLOAD);
	play(&k, s, N(s), 0);
	cr_assert_eq(k.end, SP_OK, "%s", k.why);
	cr_assert_eq(k.dropped_target, 22);
	cr_assert(holds(&k.at_user, "\001scp: b: download is not permitted"));
	cr_assert(holds(&k.at_target, "\001scp: b: download is not permitted"));
	cr_assert_eq(k.at_target.len, 1 + k.said_target);
	kit_stop(&k);
}

Test(scp, sizes_and_paths)
{
	static const struct said s[] = {SAID(false, "\0"),
	    SAID(true, "C0644 101 big\n"), SAID(true, "C0644 60 a\n"),
	    SAID(false, "\001no\n"), SAID(true, "C0644 60 b\n"), SAID(false, "\0"),
	    SAID(true, "123456789012345678901234567890123456789012345678901234567890"
	    "\0"), SAID(false, "\0"), SAID(true, "C0644 60 c\n")};
	struct kit k;

	kit_start_scp(&k, BOTH);
	k.rules->file_max = k.rules->session_max = 100;
	play(&k, s, N(s), 0);
	cr_assert_eq(k.end, SP_OK, "%s", k.why);
	cr_assert(holds(&k.at_user, "scp: big: more than the 100 bytes that one"));
	cr_assert(holds(&k.at_user, "scp: c: more than the 100 bytes that all"));
	logged(&k, "close dir=1 file=2 ok 0+60");
	kit_stop(&k);

	kit_start_scp(&k, BOTH);
	k.rules->n_path = 1;
	k.rules->path[0] = (struct sp_rule_path){.ops = SP_RIGHT_UPLOAD,
	    .pattern = "/**"};
	play(&k, s, 2, 0);
	cr_assert(holds(&k.at_user, "use sftp, or scp without -O"));
	kit_stop(&k);
}

/* Clients that do not wait for an answer are made to. */
Test(scp, a_client_in_a_hurry)
{
	static const struct said s[] = {
	    SAID(true, "C0644 5 x\nhello\0C0644 1 y\nz\0"), SAID(false, "\0"),
	    SAID(false, "\0"), SAID(false, "\0"), SAID(false, "\0"),
	    SAID(false, "\0")};
	static const struct said no[] = {
	    SAID(true, "C0644 11 x\nC0644 5 evil\n\0"), SAID(false, "\0"),
	    SAID(false, "\001x: denied\n")};
	struct kit k;

	kit_start_scp(&k, BOTH);
	play(&k, s, N(s), 0);
	all_passed(&k, s, N(s));
	logged(&k, "close dir=1 file=1 ok 0+5 2cf24dba whole [x]");
	logged(&k, "close dir=1 file=2 ok 0+1");
	kit_stop(&k);
	/* A target that refuses the one file reads the next bytes as a line:
	 * so does the recorder. */
	kit_start_scp(&k, BOTH);
	play(&k, no, N(no), 0);
	logged(&k, "open dir=1 file=2 ok 0+0 - [evil]");
	kit_stop(&k);
}

Test(scp, a_sink_that_says_all_zeros_at_once)
{
	static const struct said s[] = {SAID(true, "\0\0\0"),
	    SAID(false, "C0644 5 x\n"), SAID(false, "hello\0")};
	struct kit k;

	kit_start_scp(&k, BOTH);
	play(&k, s, N(s), 0);
	all_passed(&k, s, N(s));
	logged(&k, "close dir=2 file=1 ok 0+5 2cf24dba whole [x]");
	kit_stop(&k);
	kit_start_scp(&k, SP_RIGHT_UPLOAD);
	play(&k, s, N(s), 0);
	cr_assert_eq(k.end, SP_ERR_PROTO);
	cr_assert(!holds(&k.at_user, "hello"));
	kit_stop(&k);
}

Test(scp, hostile_sides)
{
	static const struct { struct said s[6]; size_t n; const char *why; } c[] = {
	    {{SAID(false, "\0"), SAID(true, "C0644 1 x\n"), SAID(false, "\0"),
		SAID(true, "abc")}, 4, "client does not speak"},
	    {{SAID(false, "\0"), SAID(true, "T1 0 1 0\n"), SAID(false, "\0"),
		SAID(true, "C0644 1 ../x\n")}, 4, "client does not speak"},
	    {{SAID(false, "\0"), SAID(true, "T1 0 1 0\n"), SAID(false, "\0"),
		SAID(true, "E\n")}, 4, "not in"},
	    {{SAID(false, "\0"), SAID(true, "C0644 1 x\n"), SAID(false, "\0\0")},
		3, "did not wait"},
	    {{SAID(true, "\0"), SAID(false, "C0644 1 x\na")}, 2, "did not wait"},
	    {{SAID(true, "\0"), SAID(false, "C0644 1 x\n"), SAID(true, "\0"),
		SAID(false, "abc")}, 4, "target does not speak"},
	    {{SAID(true, "\0A\n\0"), SAID(false, "C0644 1 x\n")}, 2,
		"does not wait"},
	};

	for (size_t i = 0; i < N(c); i++)
		for (size_t piece = 0; piece < 2; piece++) {
			struct kit k;

			kit_start_scp(&k, BOTH);
			play(&k, c[i].s, c[i].n, piece);
			cr_assert_eq(k.end, SP_ERR_PROTO, "row %zu", i);
			cr_assert_not_null(strstr(k.why, c[i].why), "row %zu: %s", i,
			    k.why);
			kit_over(&k);
			kit_stop(&k);
		}
}

/* What is not scp passes unchanged, whatever it begins with, and is not kept
 * waiting. */
Test(scp, everything_else_passes)
{
	static const struct { struct said s[5]; size_t n; } c[] = {
	    {{SAID(true, "CREATE TABLE x;\n"), SAID(false, "ok\n")}, 2},
	    {{SAID(true, "C"), SAID(true, "at\n"), SAID(false, "\0x")}, 3},
	    {{SAID(true, "\0AUTH EXTERNAL 30\r\n"), SAID(false, "DATA\r\n"),
		SAID(true, "C0644 1 x\n")}, 3},
	    {{SAID(true, "\0\0\0\5hello"), SAID(false, "\0\0\0\2ok")}, 2},
	    {{SAID(false, "login: "), SAID(true, "C0644 1 x\n")}, 2},
	    {{SAID(false, "\0"), SAID(true, "binary\0\1"), SAID(false, "C0644")},
		3},
	    {{SAID(false, "\0"), SAID(false, "more"), SAID(true, "x")}, 3},
	    {{SAID(true, "T-1\n"), SAID(false, "x"), SAID(true, "E\n")}, 3},
	    {{SAID(true, "E\n"), SAID(true, "C0644 1 x\n")}, 2},
	    {{SAID(true, "C0999 1 x\n")}, 1}, {{SAID(true, "C0644  1 x\n")}, 1},
	    {{SAID(true, "D0755 0 ..\n")}, 1}, {{SAID(true, "C0644 1 a/b\n")}, 1},
	    {{SAID(true, "C0644 99999999999999999999 x\n")}, 1},
	};

	for (size_t i = 0; i < N(c); i++)
		for (size_t piece = 0; piece < 2; piece++) {
			struct kit k;

			kit_start_scp(&k, 0);
			play(&k, c[i].s, c[i].n, piece);
			all_passed(&k, c[i].s, c[i].n);
			cr_assert_str_eq(kit_log(&k), "");
			kit_over(&k);
			kit_stop(&k);
		}
}

/* A file that looks like scp, to a program that is silent: it waits for the
 * end of the input, no longer. */
Test(scp, a_stream_that_only_looks_like_it)
{
	static const struct said s[] = {SAID(true, "C0644 5 x\nhello\0")};
	struct kit k;
	char *big = calloc(1, 100000);

	kit_start_scp(&k, 0);
	play(&k, s, 1, 0);
	cr_assert_eq(k.at_target.len, 0);
	kit_eof(&k, true);
	all_passed(&k, s, 1);
	kit_stop(&k);
	kit_start_scp(&k, 0);
	play(&k, s, 1, 0);
	cr_assert_not_null(big);
	kit_feed(&k, true, sp_span_of(big, 100000), 50000);
	cr_assert_eq(k.at_target.len, s[0].n + 100000);
	kit_stop(&k);
	free(big);
}

Test(scp, rsync_is_named_counted_and_hashed)
{
	static const struct said s[] = {SAID(true, "\x1f\0\0\0"),
	    SAID(false, "\x1f\0\0\0abc"), SAID(true, "hello")};
	struct kit k;

	kit_start_scp(&k, 0);
	play(&k, s, N(s), 1);
	all_passed(&k, s, N(s));
	cr_assert(!sp_scp_is_other(k.scp));
	kit_over(&k);
	logged(&k, "total dir=1 file=0 ok 0+9 ");
	logged(&k, "total dir=2 file=0 ok 0+7 ");
	kit_stop(&k);
	kit_start_scp(&k, 0);
	kit_feed(&k, false, sp_span_str("uid=0(root)\n"), 0);
	cr_assert(sp_scp_is_other(k.scp));
	kit_stop(&k);
}
