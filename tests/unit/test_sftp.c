/* SPDX-License-Identifier: Apache-2.0 */
/* The parser of sftp: what passes, what is refused, what is noted; for every
 * way to cut the bytes, and against hostile sides. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "tests/unit/xfer_kit.h"

#define BOTH (SP_RIGHT_UPLOAD | SP_RIGHT_DOWNLOAD)
#define OWN 0xfffffff0u	/* the number of the recorder's own first request */
enum { INIT = 1, VERSION, OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT,
	FSETSTAT, OPENDIR, READDIR, REMOVE, MKDIR, RMDIR, REALPATH, STAT, RENAME,
	READLINK, SYMLINK, STATUS = 101, HANDLE, DATA, NAME, ATTRS,
	EXTENDED = 200, EXTENDED_REPLY };

/* A conversation: who says what, in order. */
struct talk {
	struct sp_buf b;
	struct { bool user; size_t off, n; } say[80];
	size_t n;
};

#define SAY(t, from_user, ...)                                                \
	do {                                                                  \
		size_t at_ = (t)->b.len;                                      \
		(void)pk_make(&(t)->b, __VA_ARGS__);                          \
		(t)->say[(t)->n].user = (from_user);                          \
		(t)->say[(t)->n].off = at_;                                   \
		(t)->say[(t)->n++].n = (t)->b.len - at_;                      \
	} while (0)
#define U(t, ...) SAY(t, true, __VA_ARGS__)
#define T(t, ...) SAY(t, false, __VA_ARGS__)

static void
hello(struct talk *t)
{
	U(t, INIT, "u", 3);
	T(t, VERSION, "uss", 3, "posix-rename@openssh.com", "1");
	T(t, NAME, "uussa", OWN, 1, "/home/a", "");
}

static void
play(struct kit *k, const struct talk *t, size_t piece)
{
	for (size_t i = 0; i < t->n; i++)
		kit_feed(k, t->say[i].user, sp_span_of(t->b.p + t->b.off +
		    t->say[i].off, t->say[i].n), piece);
}

static struct sp_span
bytes(size_t n, uint8_t seed)
{
	static uint8_t b[65536];

	for (size_t i = 0; i < n; i++)
		b[i] = (uint8_t)(seed + i * 31 + (i >> 8) * 7);
	return sp_span_of(b, n);
}

static bool
holds(const struct sp_buf *b, const char *text)
{
	return b->len > 0 && memmem(b->p + b->off, b->len, text, strlen(text)) !=
	    NULL;
}

static void
logged(struct kit *k, const char *line)
{
	cr_assert_not_null(strstr(kit_log(k), line), "no \"%s\" in:\n%s", line,
	    kit_log(k));
}

/* -------------------------------------------------------------- passing */

static void
usual(struct talk *t)
{
	hello(t);
	U(t, REALPATH, "us", 1, ".");
	T(t, NAME, "uussa", 1, 1, "/home/a", "");
	U(t, OPEN, "usua", 2, "in/../up.bin", 0x1a);
	T(t, HANDLE, "us", 2, "h-1");
	U(t, WRITE, "usUb", 3, "h-1", UINT64_C(0), bytes(700, 1));
	U(t, WRITE, "usUb", 4, "h-1", UINT64_C(700), bytes(3, 9));
	T(t, STATUS, "uuss", 3, 0, "", "");
	U(t, OPEN, "usua", 5, "/etc/motd", 1);
	T(t, STATUS, "uuss", 4, 0, "", "");
	T(t, HANDLE, "us", 5, "h-2");
	U(t, CLOSE, "us", 6, "h-1");
	U(t, READ, "usUu", 7, "h-2", UINT64_C(0), 100);
	T(t, STATUS, "uuss", 6, 0, "", "");
	U(t, READ, "usUu", 8, "h-2", UINT64_C(100), 100);
	T(t, DATA, "ub", 7, bytes(100, 5));
	T(t, DATA, "ub", 8, bytes(4, 6));
	U(t, READ, "usUu", 9, "h-2", UINT64_C(104), 96);
	T(t, STATUS, "uuss", 9, 1, "eof", "");
	U(t, CLOSE, "us", 10, "h-2");
	T(t, STATUS, "uuss", 10, 0, "", "");
	U(t, EXTENDED, "usss", 11, "posix-rename@openssh.com", "a", "b");
	T(t, STATUS, "uuss", 11, 0, "", "");
	U(t, OPENDIR, "us", 12, "/tmp");
	T(t, HANDLE, "us", 12, "d");
	U(t, READDIR, "us", 13, "d");
	T(t, NAME, "uussass", 13, 2, "x", "-rw x", "y", "");
	U(t, CLOSE, "us", 14, "d");
	T(t, STATUS, "uuss", 14, 0, "", "");
	U(t, EXTENDED, "us", 15, "vendor@example.org");
	U(t, SETSTAT, "usuu", 16, "b", 4, 0600);
	T(t, STATUS, "uuss", 16, 3, "", "");
	U(t, REMOVE, "us", 17, "/x y\"z\n");
	T(t, STATUS, "uuss", 17, 2, "", "");
}

static void
check_usual(struct kit *k)
{
	cr_assert_eq(k->end, SP_OK, "%s", k->why);
	logged(k, "open dir=1 file=1 ok 0+0 - [/home/a/up.bin] [] "
	    "[write,create,truncate]\n");
	logged(k, "close dir=1 file=1 ok 0+703 ");
	logged(k, " whole [/home/a/up.bin]");
	logged(k, "open dir=2 file=2 ok 0+0 - [/etc/motd] [] [read]\n");
	logged(k, "close dir=2 file=2 ok 0+104 ");
	logged(k, " whole [/etc/motd]");
	logged(k, "rename dir=1 file=0 ok 0+0 - [/home/a/a] [/home/a/b] []\n");
	logged(k, "list dir=0 file=3 ok 0+0 - [/tmp] [] []\n");
	logged(k, "setstat dir=1 file=0 denied-by-target 0+0 - [/home/a/b] [] "
	    "[mode=0600]\n");
	logged(k, "other dir=0 file=0 refused");
	logged(k, "remove dir=1 file=0 no-such-file 0+0 - [/x y\"z\\x0a]");
	cr_assert(!holds(&k->at_target, "vendor@"));
	cr_assert(holds(&k->at_user, "not supported"));
	cr_assert_eq(k->body.len, 703 + 104);
}

Test(sftp, a_usual_conversation)
{
	struct talk t = {0};
	struct kit k;

	usual(&t);
	kit_start(&k, BOTH);
	play(&k, &t, 0);
	kit_over(&k);
	check_usual(&k);
	/* What was dropped and said is exactly what the two sides do not share. */
	cr_assert_eq(k.said_target, 4 + 1 + 4 + 4 + 1);
	cr_assert_gt(k.dropped_target, 0);
	kit_stop(&k);
	sp_buf_fini(&t.b);
}

Test(sftp, every_size_of_pieces)
{
	struct talk t = {0};
	struct kit whole, k;

	usual(&t);
	kit_start(&whole, BOTH);
	play(&whole, &t, 0);
	kit_over(&whole);
	for (size_t piece = 1; piece <= 80; piece++) {
		kit_start(&k, BOTH);
		play(&k, &t, piece);
		kit_over(&k);
		check_usual(&k);
		cr_assert(sp_span_eq(sp_buf_span(&k.at_target),
		    sp_buf_span(&whole.at_target)), "pieces of %zu", piece);
		cr_assert(sp_span_eq(sp_buf_span(&k.at_user),
		    sp_buf_span(&whole.at_user)), "pieces of %zu", piece);
		cr_assert_str_eq(kit_log(&k), kit_log(&whole));
		cr_assert_eq(k.dropped_user, whole.dropped_user);
		cr_assert_eq(k.dropped_target, whole.dropped_target);
		kit_stop(&k);
	}
	kit_stop(&whole);
	sp_buf_fini(&t.b);
}

/* Each message cut once, at each of its bytes. */
Test(sftp, every_place_to_cut, .timeout = 120)
{
	struct talk t = {0};
	struct kit whole, k;
	char *want;

	usual(&t);
	kit_start(&whole, BOTH);
	play(&whole, &t, 0);
	want = strdup(kit_log(&whole));
	for (size_t i = 0; i < t.n; i++)
		for (size_t cut = 1; cut < t.say[i].n; cut++) {
			kit_start(&k, BOTH);
			for (size_t j = 0; j < t.n; j++) {
				struct sp_span s = sp_span_of(t.b.p + t.b.off +
				    t.say[j].off, t.say[j].n);

				if (j == i) {
					kit_feed(&k, t.say[j].user,
					    sp_span_of(s.p, cut), 0);
					s = sp_span_of(s.p + cut, s.n - cut);
				}
				kit_feed(&k, t.say[j].user, s, 0);
			}
			cr_assert_str_eq(kit_log(&k), want);
			cr_assert(sp_span_eq(sp_buf_span(&k.at_target),
			    sp_buf_span(&whole.at_target)));
			cr_assert(sp_span_eq(sp_buf_span(&k.at_user),
			    sp_buf_span(&whole.at_user)));
			kit_stop(&k);
		}
	free(want);
	kit_stop(&whole);
	sp_buf_fini(&t.b);
}

Test(sftp, a_client_of_a_later_version_is_answered_with_3)
{
	struct talk t = {0};
	struct kit k;

	U(&t, INIT, "uss", 6, "ext", "1");
	T(&t, VERSION, "u", 3);
	kit_start(&k, BOTH);
	play(&k, &t, 0);
	cr_assert_eq(k.end, SP_OK);
	cr_assert_eq(memcmp(sp_buf_span(&k.at_target).p,
	    "\0\0\0\5\1\0\0\0\3", 9), 0);
	cr_assert_gt(k.dropped_user, 9);
	kit_stop(&k);
	sp_buf_fini(&t.b);
}

/* ------------------------------------------------------------- refusing */

/* What one right does not open is answered, and nothing of it goes on. */
static const struct refused {
	uint32_t rights;
	uint8_t type;
	const char *name;
	uint32_t pflags;
	bool refused;
} refusals[] = {
    {SP_RIGHT_DOWNLOAD, OPEN, "/x", 0x02, true},
    {SP_RIGHT_DOWNLOAD, OPEN, "/x", 0x03, true},
    {SP_RIGHT_DOWNLOAD, OPEN, "/x", 0x04, true},
    {SP_RIGHT_DOWNLOAD, OPEN, "/x", 0x09, true},
    {SP_RIGHT_DOWNLOAD, OPEN, "/x", 0x11, true},
    {SP_RIGHT_DOWNLOAD, OPEN, "/x", 0x01, false},
    {SP_RIGHT_DOWNLOAD, OPEN, "/x", 0x00, true},
    {SP_RIGHT_DOWNLOAD, OPEN, "/x", 0x101, true},
    {SP_RIGHT_UPLOAD, OPEN, "/x", 0x01, true},
    {SP_RIGHT_UPLOAD, OPEN, "/x", 0x03, true},
    {SP_RIGHT_UPLOAD, OPEN, "/x", 0x1a, false},
    {SP_RIGHT_DOWNLOAD, REMOVE, "/x", 0, true},
    {SP_RIGHT_DOWNLOAD, RMDIR, "/x", 0, true},
    {SP_RIGHT_DOWNLOAD, MKDIR, "/x", 0, true},
    {SP_RIGHT_DOWNLOAD, SETSTAT, "/x", 0, true},
    {SP_RIGHT_DOWNLOAD, RENAME, "/x", 0, true},
    {SP_RIGHT_DOWNLOAD, SYMLINK, "/x", 0, true},
    {SP_RIGHT_UPLOAD, REMOVE, "/x", 0, false},
    {SP_RIGHT_UPLOAD, RMDIR, "/x", 0, false},
    {SP_RIGHT_UPLOAD, MKDIR, "/x", 0, false},
    {SP_RIGHT_UPLOAD, SETSTAT, "/x", 0, false},
    {SP_RIGHT_UPLOAD, RENAME, "/x", 0, false},
    {SP_RIGHT_UPLOAD, SYMLINK, "/x", 0, false},
    {SP_RIGHT_DOWNLOAD, OPENDIR, "/x", 0, false},
    {SP_RIGHT_UPLOAD, OPENDIR, "/x", 0, false},
    {SP_RIGHT_UPLOAD, STAT, "/x", 0, false},
    {SP_RIGHT_UPLOAD, LSTAT, "/x", 0, false},
    {SP_RIGHT_UPLOAD, READLINK, "/x", 0, false},
    {SP_RIGHT_UPLOAD, 99, "/x", 0, true},
    {SP_RIGHT_UPLOAD, STATUS, "/x", 0, true},
};

static void
ask(struct talk *t, uint8_t type, const char *name, uint32_t pflags)
{
	if (type == OPEN)
		U(t, OPEN, "usua", 7, name, pflags);
	else if (type == MKDIR || type == SETSTAT)
		U(t, type, "usa", 7, name);
	else if (type == RENAME || type == SYMLINK)
		U(t, type, "uss", 7, name, "/y");
	else
		U(t, type, "us", 7, name);
}

Test(sftp, what_each_right_opens)
{
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		const struct refused *c = &refusals[i];
		struct talk t = {0}, u = {0};
		struct kit k;
		size_t before;

		hello(&t);
		ask(&u, c->type, c->name, c->pflags);
		kit_start(&k, c->rights);
		play(&k, &t, 0);
		before = k.at_target.len;
		play(&k, &u, 3);
		cr_assert_eq(k.end, SP_OK);
		cr_assert_eq(k.at_target.len - before, c->refused ? 0 : u.b.len,
		    "row %zu", i);
		cr_assert_eq(k.dropped_user, c->refused ? u.b.len : 0);
		cr_assert_eq(k.said_user > 0, c->refused, "row %zu", i);
		cr_assert_eq(strstr(kit_log(&k), "refused") != NULL, c->refused);
		kit_stop(&k);
		sp_buf_fini(&t.b);
		sp_buf_fini(&u.b);
	}
}

/* Answers of ours never stand inside a reply of the target. */
Test(sftp, an_answer_waits_for_the_end_of_a_reply)
{
	struct talk t = {0}, data = {0}, bad = {0};
	struct sp_span d;
	struct kit k;

	hello(&t);
	U(&t, OPEN, "usua", 1, "/f", 1);
	T(&t, HANDLE, "us", 1, "h");
	U(&t, READ, "usUu", 2, "h", UINT64_C(0), 1000);
	T(&data, DATA, "ub", 2, bytes(1000, 3));
	U(&bad, REMOVE, "us", 3, "/f");
	kit_start(&k, SP_RIGHT_DOWNLOAD);
	play(&k, &t, 0);
	d = sp_buf_span(&data.b);
	kit_feed(&k, false, sp_span_of(d.p, 500), 0);
	play(&k, &bad, 0);
	cr_assert_eq(k.said_user, 0);
	kit_feed(&k, false, sp_span_of(d.p + 500, d.n - 500), 0);
	cr_assert_gt(k.said_user, 0);
	cr_assert_eq(memcmp(k.at_user.p + k.at_user.off + k.at_user.len -
	    k.said_user - d.n, d.p, d.n), 0);
	kit_stop(&k);
	sp_buf_fini(&t.b);
	sp_buf_fini(&data.b);
	sp_buf_fini(&bad.b);
}

/* Without room for answers nothing more is taken from the user; with it all
 * goes on, in order. */
Test(sftp, answers_wait_for_room)
{
	struct talk t = {0}, bad = {0};
	struct kit k;
	size_t got;

	hello(&t);
	for (uint32_t i = 0; i < 60; i++)
		U(&bad, REMOVE, "us", i, "/f");
	kit_start(&k, SP_RIGHT_DOWNLOAD);
	play(&k, &t, 0);
	k.room = 1000;
	for (size_t i = 0; i < bad.n; i++) {
		kit_feed(&k, true, sp_span_of(bad.b.p + bad.b.off +
		    bad.say[i].off, bad.say[i].n), 0);
		k.room -= k.room < 100 ? k.room : 100;
	}
	cr_assert(k.is_stalled);
	got = k.said_user;
	k.room = SIZE_MAX / 2;
	cr_assert_eq(sp_sftp_poke(k.sftp), SP_OK);
	U(&bad, REMOVE, "us", 60, "/f");
	kit_feed(&k, true, sp_span_of(bad.b.p + bad.b.off + bad.say[60].off,
	    bad.say[60].n), 0);
	cr_assert(!k.is_stalled);
	cr_assert_gt(k.said_user, got);
	cr_assert_eq(k.hold.len, 0);
	cr_assert_eq(k.dropped_user, bad.b.len);
	kit_stop(&k);
	sp_buf_fini(&t.b);
	sp_buf_fini(&bad.b);
}

/* ----------------------------------------------------------------- limits */

Test(sftp, a_file_that_grows_too_large_is_stopped)
{
	struct talk t = {0};
	struct kit k;

	hello(&t);
	U(&t, OPEN, "usua", 1, "/f", 0x1a);
	T(&t, HANDLE, "us", 1, "h");
	U(&t, WRITE, "usUb", 2, "h", UINT64_C(0), bytes(1000, 1));
	U(&t, WRITE, "usUb", 3, "h", UINT64_C(1000), bytes(1, 1));
	U(&t, WRITE, "usUb", 4, "h", UINT64_C(0), bytes(10, 1));
	U(&t, FSETSTAT, "usuU", 5, "h", 1, UINT64_C(1001));
	U(&t, CLOSE, "us", 6, "h");
	T(&t, STATUS, "uuss", 2, 0, "", "");
	T(&t, STATUS, "uuss", 6, 0, "", "");
	kit_start(&k, BOTH);
	k.rules->file_max = 1000;
	play(&k, &t, 7);
	cr_assert_eq(k.end, SP_OK);
	cr_assert_eq(k.body.len, 1000);
	logged(&k, "write dir=1 file=1 refused 1000+1 - [/f] [] [more than the "
	    "1000 bytes");
	logged(&k, "close dir=1 file=1 refused 0+1000");
	cr_assert_null(strstr(kit_log(&k), "whole"));
	kit_stop(&k);
	sp_buf_fini(&t.b);
}

Test(sftp, a_file_as_large_as_it_may_be_is_read_to_its_end)
{
	struct talk t = {0};
	struct kit k;

	hello(&t);
	U(&t, OPEN, "usua", 1, "/f", 1);
	T(&t, HANDLE, "us", 1, "h");
	U(&t, READ, "usUu", 2, "h", UINT64_C(0), 32768);
	U(&t, READ, "usUu", 3, "h", UINT64_C(1000), 32768);
	T(&t, DATA, "ub", 2, bytes(1000, 1));
	T(&t, STATUS, "uuss", 3, 1, "", "");
	U(&t, CLOSE, "us", 6, "h");
	T(&t, STATUS, "uuss", 6, 0, "", "");
	kit_start(&k, BOTH);
	k.rules->file_max = k.rules->session_max = 1000;
	play(&k, &t, 0);
	cr_assert_eq(k.end, SP_OK);
	logged(&k, "close dir=2 file=1 ok 0+1000");
	logged(&k, "whole");
	kit_stop(&k);
	sp_buf_fini(&t.b);
}

Test(sftp, a_session_that_has_read_enough_is_stopped)
{
	struct talk t = {0};
	struct kit k;

	hello(&t);
	U(&t, OPEN, "usua", 1, "/f", 1);
	T(&t, HANDLE, "us", 1, "h");
	U(&t, READ, "usUu", 2, "h", UINT64_C(0), 1000);
	U(&t, READ, "usUu", 3, "h", UINT64_C(1000), 1000);
	U(&t, READ, "usUu", 4, "h", UINT64_C(2000), 1000);
	T(&t, DATA, "ub", 2, bytes(1000, 1));
	T(&t, DATA, "ub", 3, bytes(1000, 2));
	T(&t, DATA, "ub", 4, bytes(1000, 3));
	kit_start(&k, BOTH);
	k.rules->session_max = 1500;
	play(&k, &t, 11);
	cr_assert_eq(k.end, SP_OK);
	cr_assert_eq(k.body.len, 1000);
	cr_assert_eq(k.s.bytes, 1000);
	cr_assert_gt(k.dropped_target, 2000);
	kit_over(&k);
	logged(&k, "close dir=2 file=1 refused 0+1000");
	kit_stop(&k);
	sp_buf_fini(&t.b);
}

/* ----------------------------------------------------------------- hashes */

static void
hash_of(struct sp_span s, char hex[static 9])
{
	uint8_t md[32];
	char all[65];

	cr_assert_eq(EVP_Digest(s.p, s.n, md, NULL, EVP_sha256(), NULL), 1);
	sp_hex(all, md, 32);
	memcpy(hex, all, 8);
	hex[8] = '\0';
}

Test(sftp, extents_out_of_order_are_hashed_each)
{
	struct talk t = {0};
	char a[9], b[9], line[120];
	struct kit k;

	hello(&t);
	U(&t, OPEN, "usua", 1, "/f", 0x1a);
	T(&t, HANDLE, "us", 1, "h");
	hash_of(bytes(50, 1), a);
	U(&t, WRITE, "usUb", 2, "h", UINT64_C(100), bytes(50, 1));
	hash_of(bytes(100, 2), b);
	U(&t, WRITE, "usUb", 3, "h", UINT64_C(0), bytes(100, 2));
	U(&t, CLOSE, "us", 6, "h");
	T(&t, STATUS, "uuss", 2, 0, "", "");
	T(&t, STATUS, "uuss", 3, 0, "", "");
	T(&t, STATUS, "uuss", 6, 0, "", "");
	kit_start(&k, BOTH);
	play(&k, &t, 0);
	snprintf(line, sizeof(line), "extent dir=1 file=1 ok 100+50 %s [/f]", a);
	logged(&k, line);
	snprintf(line, sizeof(line), "extent dir=1 file=1 ok 0+100 %s [/f]", b);
	logged(&k, line);
	logged(&k, "close dir=1 file=1 ok 0+150 - [/f]");
	kit_stop(&k);
	sp_buf_fini(&t.b);
}

/* Where content is not kept, the hash of all of it so far stands before each
 * piece that goes on. */
Test(sftp, a_digest_stands_before_each_piece)
{
	struct talk t = {0};
	char hex[9], line[120];
	struct kit k;

	hello(&t);
	U(&t, OPEN, "usua", 1, "/f", 1);
	T(&t, HANDLE, "us", 1, "h");
	U(&t, READ, "usUu", 2, "h", UINT64_C(0), 90);
	T(&t, DATA, "ub", 2, bytes(90, 4));
	kit_start(&k, BOTH);
	k.rules->file_body = SP_BODY_DIGEST;
	play(&k, &t, 40);
	hash_of(bytes(90, 4), hex);
	snprintf(line, sizeof(line), "extent dir=2 file=1 ok 0+90 %s so-far", hex);
	logged(&k, line);
	hash_of(bytes(27, 4), hex);	/* 40 less the 13 before the content */
	snprintf(line, sizeof(line), "extent dir=2 file=1 ok 0+27 %s so-far", hex);
	logged(&k, line);
	kit_stop(&k);
	sp_buf_fini(&t.b);
}

/* ------------------------------------------------------------------ paths */

static void
pattern(struct kit *k, bool forbid, uint32_t ops, const char *p)
{
	struct sp_rule_path *r = &k->rules->path[k->rules->n_path++];

	r->forbid = forbid;
	r->ops = ops;
	snprintf(r->pattern, sizeof(r->pattern), "%s", p);
}

/* One open under a rule, with what the target says the name really is. */
static bool
may_open(const char *said, const char *real, uint32_t pflags)
{
	struct talk t = {0}, v = {0};
	struct kit k;
	bool passed;

	hello(&t);
	U(&t, OPEN, "usua", 1, said, pflags);
	kit_start(&k, BOTH);
	pattern(&k, false, BOTH, "/home/a/**");
	pattern(&k, true, BOTH, "/home/a/secret/**");
	play(&k, &t, 5);
	if (real != NULL)
		T(&v, NAME, "uussa", OWN - 1, 1, real, "");
	else
		T(&v, STATUS, "uuss", OWN - 1, 2, "", "");
	if (k.is_stalled)
		play(&k, &v, 5);
	cr_assert_eq(k.end, SP_OK, "%s", k.why);
	cr_assert(!k.is_stalled);
	passed = k.said_user == 0;
	cr_assert_eq(passed, k.dropped_user == 0);
	kit_stop(&k);
	sp_buf_fini(&t.b);
	sp_buf_fini(&v.b);
	return passed;
}

Test(sftp, path_rules_hold_for_the_name_and_for_what_it_leads_to)
{
	cr_assert(may_open("f", "/home/a/f", 1));
	cr_assert(may_open("/home/a/x/../f", "/home/a/f", 0x1a));
	cr_assert(!may_open("../b/f", "/home/b/f", 1));
	cr_assert(!may_open("/etc/passwd", "/etc/passwd", 1));
	cr_assert(!may_open("secret/f", "/home/a/secret/f", 1));
	cr_assert(!may_open("x/../secret/f", "/home/a/secret/f", 1));
	cr_assert(!may_open("link", "/etc/passwd", 1));
	cr_assert(!may_open("link", "/home/a/secret/f", 0x02));
	cr_assert(!may_open("f", NULL, 1));
	cr_assert(!may_open("f", "relative", 1));
	cr_assert(!may_open("/home/a/../a/../../etc/passwd", "/etc/passwd", 1));
}

/* Before the target has said where it starts, a relative name waits. */
Test(sftp, a_relative_name_waits_for_the_directory)
{
	struct talk t = {0};
	struct kit k;
	size_t before;

	U(&t, INIT, "u", 3);
	T(&t, VERSION, "u", 3);
	U(&t, REMOVE, "us", 1, "f");
	kit_start(&k, BOTH);
	pattern(&k, false, SP_RIGHT_UPLOAD, "/srv/**");
	play(&k, &t, 0);
	cr_assert(k.is_stalled);
	before = k.at_target.len;
	t.n = 0;
	T(&t, NAME, "uussa", OWN, 1, "/home", "");
	play(&k, &t, 0);
	cr_assert(!k.is_stalled);
	cr_assert_eq(k.at_target.len, before);
	logged(&k, "remove dir=1 file=0 refused 0+0 - [/home/f]");
	kit_stop(&k);
	sp_buf_fini(&t.b);
}

/* A second person says whether a file is opened; the rest of the channel waits. */
Test(sftp, a_file_waits_for_a_second_person)
{
	for (int refused = 0; refused < 2; refused++) {
		struct talk t = {0}, u = {0};
		struct kit k;
		size_t before;

		hello(&t);
		U(&u, OPEN, "usuu", 7, "/srv/x", 1, 0);
		U(&u, STAT, "us", 8, "/srv/y");
		kit_start(&k, BOTH);
		play(&k, &t, 0);
		before = k.at_target.len;
		k.leave = SP_XFER_WAITS;
		play(&k, &u, 3);
		cr_assert(k.is_stalled);
		cr_assert_eq(k.at_target.len, before);
		cr_assert_str_eq(k.asked, "16 /srv/x");
		k.leave = refused ? SP_XFER_STAYS : SP_XFER_GOES;
		kit_poke(&k);
		cr_assert(!k.is_stalled);
		cr_assert_eq(strstr(kit_log(&k), "refused") != NULL, refused);
		cr_assert_eq(holds(&k.at_user, "a second person refused it"),
		    refused);
		cr_assert_eq(holds(&k.at_target, "/srv/x"), !refused);
		cr_assert(holds(&k.at_target, "/srv/y"));
		kit_stop(&k);
		sp_buf_fini(&t.b);
		sp_buf_fini(&u.b);
	}
}

/* What may not be read gets no second name that may. */
Test(sftp, a_new_name_does_not_make_readable)
{
	static const struct { uint8_t type; const char *a, *b; bool passes; } c[] = {
	    {RENAME, "/in/a", "/in/b", true}, {RENAME, "/in/a", "/out/b", false},
	    {RENAME, "/out/a", "/in/b", true}, {RENAME, "/out/a", "/out/b", true},
	    {RENAME, "/else/a", "/in/b", false}, {RENAME, "/in/a", "/else/b", false},
	};

	for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		struct talk t = {0}, v = {0};
		struct kit k;
		char dir[8];

		hello(&t);
		U(&t, c[i].type, "uss", 1, c[i].a, c[i].b);
		kit_start(&k, BOTH);
		pattern(&k, false, SP_RIGHT_UPLOAD, "/in/*");
		pattern(&k, false, BOTH, "/out/*");
		play(&k, &t, 0);
		for (uint32_t n = 0; n < 2 && k.is_stalled; n++) {
			const char *p = n == 0 ? c[i].a : c[i].b;

			snprintf(dir, sizeof(dir), "%.*s",
			    (int)(strrchr(p, '/') - p), p);
			v.n = 0;
			T(&v, NAME, "uussa", OWN - 1 - n, 1, dir, "");
			play(&k, &v, 0);
		}
		cr_assert(!k.is_stalled);
		cr_assert_eq(k.said_user == 0, c[i].passes, "row %zu", i);
		kit_stop(&k);
		sp_buf_fini(&t.b);
		sp_buf_fini(&v.b);
	}
}

/* ---------------------------------------------------------------- hostile */

static void
ends(struct talk *t, const char *why)
{
	for (size_t piece = 0; piece < 8; piece += 7) {
		struct kit k;

		kit_start(&k, BOTH);
		play(&k, t, piece);
		cr_assert_eq(k.end, SP_ERR_PROTO, "%s", why);
		cr_assert_not_null(strstr(k.why, why), "%s", k.why);
		kit_over(&k);
		kit_stop(&k);
	}
	sp_buf_fini(&t->b);
	*t = (struct talk){0};
}

static void
raw(struct talk *t, bool user, const void *p, size_t n)
{
	t->say[t->n].user = user;
	t->say[t->n].off = t->b.len;
	t->say[t->n++].n = n;
	if (t->b.max == 0)
		sp_buf_init(&t->b, 1u << 20);
	cr_assert_eq(sp_buf_put(&t->b, p, n), SP_OK);
}

Test(sftp, hostile_clients)
{
	struct talk t = {0};

	U(&t, INIT, "u", 2);
	ends(&t, "version 2");
	U(&t, OPEN, "usua", 1, "/f", 1);
	ends(&t, "does not begin");
	raw(&t, true, "Welcome to target!\n", 19);
	ends(&t, "does not begin");
	hello(&t);
	raw(&t, true, "\xff\xff\xff\xff\x03", 5);
	ends(&t, "4294967295 bytes");
	hello(&t);
	raw(&t, true, "\0\0\0\0\x03", 5);
	ends(&t, "of 0 bytes");
	hello(&t);
	U(&t, READ, "usUu", 1, "h", UINT64_C(0), 1);
	U(&t, STAT, "us", 2, "/");
	U(&t, STAT, "us", 2, "/");
	ends(&t, "for two requests");
	hello(&t);
	raw(&t, true, "\0\0\0\x20\x06\0\0\0\1\0\0\0\1h\0\0\0\0\0\0\0\0\0\0\0\1", 26);
	ends(&t, "do not agree");
	hello(&t);
	raw(&t, true, "\0\0\0\x20\x06\0\0\0\1\0\0\2\0", 13);
	ends(&t, "broken write");
	hello(&t);
	raw(&t, true, "\0\2\0\0\x0d", 5);
	ends(&t, "131072 bytes");
}

Test(sftp, hostile_targets)
{
	struct talk t = {0};

	T(&t, VERSION, "u", 3);
	ends(&t, "does not begin");
	U(&t, INIT, "u", 3);
	T(&t, VERSION, "u", 6);
	ends(&t, "version 6");
	U(&t, INIT, "u", 3);
	raw(&t, false, "Last login: Mon\r\n", 17);
	ends(&t, "does not begin");
	hello(&t);
	T(&t, STATUS, "uuss", 9, 0, "", "");
	ends(&t, "not asked");
	hello(&t);
	U(&t, STAT, "us", 1, "/");
	T(&t, HANDLE, "us", 1, "h");
	ends(&t, "wrong type (102)");
	hello(&t);
	U(&t, OPEN, "usua", 1, "/f", 1);
	U(&t, OPEN, "usua", 2, "/g", 1);
	T(&t, HANDLE, "us", 1, "h");
	T(&t, HANDLE, "us", 2, "h");
	ends(&t, "one handle to two");
	hello(&t);
	U(&t, OPEN, "usua", 1, "/f", 1);
	T(&t, HANDLE, "us", 1, "");
	ends(&t, "broken handle");
	hello(&t);
	U(&t, OPEN, "usua", 1, "/f", 1);
	T(&t, HANDLE, "us", 1, "h");
	U(&t, READ, "usUu", 2, "h", UINT64_C(0), 10);
	T(&t, DATA, "ub", 2, bytes(11, 1));
	ends(&t, "other data");
	hello(&t);
	U(&t, STAT, "us", 1, "/");
	raw(&t, false, "\x7f\0\0\0\x69\0\0\0\1", 9);
	ends(&t, "bytes");
}

/* Thousands of requests without a reply wait; none is lost. */
Test(sftp, more_requests_than_are_remembered)
{
	struct talk t = {0};
	struct kit k;
	struct sp_buf b = {0};
	size_t before;

	hello(&t);
	kit_start(&k, BOTH);
	play(&k, &t, 0);
	before = k.at_target.len;
	for (uint32_t i = 0; i < 5000; i++)
		(void)pk_make(&b, STAT, "us", i, "/x");
	kit_feed(&k, true, sp_buf_span(&b), 0);
	cr_assert(k.is_stalled);
	cr_assert_lt(k.at_target.len - before, b.len);
	for (uint32_t i = 0; i < 5000; i++) {
		struct sp_buf r = {0};

		kit_feed(&k, false, pk_make(&r, STATUS, "uuss", i, 2, "", ""), 0);
		sp_buf_fini(&r);
	}
	cr_assert_eq(k.end, SP_OK, "%s", k.why);
	cr_assert(!k.is_stalled);
	cr_assert_eq(k.at_target.len - before, b.len);
	kit_stop(&k);
	sp_buf_fini(&b);
	sp_buf_fini(&t.b);
}

/* Their paths are bounded, too. */
Test(sftp, longer_paths_than_are_remembered)
{
	struct talk t = {0};
	struct sp_buf b = {0};
	struct kit k;
	char path[4001];
	size_t before;

	memset(path, 'p', 4000);
	path[0] = '/';
	path[4000] = '\0';
	hello(&t);
	kit_start(&k, BOTH);
	play(&k, &t, 0);
	before = k.at_target.len;
	for (uint32_t i = 0; i < 600; i++)
		(void)pk_make(&b, REMOVE, "us", i, path);
	kit_feed(&k, true, sp_buf_span(&b), 0);
	cr_assert(k.is_stalled);
	cr_assert_lt(k.at_target.len - before, (1u << 20) + 8192 + 600 * 13);
	for (uint32_t i = 0; i < 600; i++) {
		struct sp_buf r = {0};

		kit_feed(&k, false, pk_make(&r, STATUS, "uuss", i, 0, "", ""), 0);
		sp_buf_fini(&r);
	}
	cr_assert(!k.is_stalled);
	cr_assert_eq(k.at_target.len - before, b.len);
	kit_stop(&k);
	sp_buf_fini(&b);
	sp_buf_fini(&t.b);
}

Test(sftp, a_handle_that_was_never_given_is_refused)
{
	struct talk t = {0};
	struct kit k;

	hello(&t);
	U(&t, OPEN, "usua", 1, "/f", 1);
	T(&t, HANDLE, "us", 1, "h");
	U(&t, CLOSE, "us", 2, "h");
	U(&t, READ, "usUu", 3, "h", UINT64_C(0), 10);
	U(&t, WRITE, "usUb", 4, "x", UINT64_C(0), bytes(100, 1));
	U(&t, OPEN, "usua", 5, "/f", 1);
	T(&t, STATUS, "uuss", 2, 0, "", "");
	T(&t, HANDLE, "us", 5, "h");
	U(&t, WRITE, "usUb", 6, "h", UINT64_C(0), bytes(100, 1));
	kit_start(&k, BOTH);
	play(&k, &t, 0);
	cr_assert_eq(k.end, SP_OK, "%s", k.why);
	cr_assert_eq(k.body.len, 0);
	cr_assert(holds(&k.at_user, "no such handle"));
	cr_assert(holds(&k.at_user, "not open for writing"));
	kit_stop(&k);
	sp_buf_fini(&t.b);
}
