/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/tlog_leaf.h"
#include "notary/store.h"
#include "tests/support/tmp.h"

#define OK(e) cr_assert_eq((e), SP_OK)

static char base[64];

static void
begin(void)
{
	cr_assert_geq(sodium_init(), 0);
	tmp_name(base, sizeof(base), "sp-notary");
	cr_assert_not_null(mkdtemp(base));
}

static void
run(const char *a, const char *b, const char *c, const char *d)
{
	pid_t pid = fork();
	int status = 0;

	if (pid == 0) {
		execlp(a, a, b, c, d, (char *)NULL);
		_exit(127);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
}

static void
end(void)
{
	run("rm", "-rf", base, NULL);
}
TestSuite(notary, .init = begin, .fini = end, .timeout = 300);

static int
dir_of(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", base, name);
	mkdir(path, 0700);
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void
copy(const char *from, const char *to)
{
	char a[128], b[128];

	snprintf(a, sizeof(a), "%s/%s", base, from);
	snprintf(b, sizeof(b), "%s/%s", base, to);
	run("rm", "-rf", b, NULL);
	run("cp", "-a", a, b);
}

static struct sp_span
entry(char b[static 32], uint64_t i)
{
	snprintf(b, 32, "entry %llu", (unsigned long long)i);
	return sp_span_str(b);
}

static void
fill(struct sp_nstore *s, uint64_t to, unsigned batch)
{
	char b[32];
	uint64_t at = 0;

	for (uint64_t i = sp_nstore_size(s), n = 0; i < to; i++) {
		OK(sp_nstore_put(s, entry(b, i), &at));
		cr_assert_eq(at, i);
		if (++n % batch == 0)
			OK(sp_nstore_commit(s));
	}
	OK(sp_nstore_commit(s));
	cr_assert_eq(sp_nstore_size(s), to);
}

static void
expected_root(uint64_t n, uint8_t root[32])
{
	struct sp_tlog_tree t = {.size = 0};
	uint8_t h[32];
	char b[32];

	for (uint64_t i = 0; i < n; i++) {
		sp_tlog_leaf_hash(entry(b, i), h);
		sp_tlog_append(&t, h);
	}
	sp_tlog_root(&t, root);
}

static struct sp_nstore *
open_good(int dir)
{
	struct sp_nstore *s = NULL;
	char why[256] = "";

	cr_assert_eq(sp_nstore_open(dir, &s, why, sizeof(why)), SP_OK, "%s", why);
	return s;
}

static void
is_tree_of(struct sp_nstore *s, uint64_t n)
{
	uint8_t root[32], want[32];

	cr_assert_eq(sp_nstore_size(s), n);
	expected_root(n, want);
	OK(sp_nstore_root(s, n, root));
	cr_assert_arr_eq(root, want, 32);
}

/* A note whose signature nobody checks here. */
static void
sign(struct sp_nstore *s)
{
	static const uint8_t pk[32] = {1}, sig[64] = {2};
	struct sp_checkpoint c = {.origin = "o", .size = sp_nstore_size(s)};
	SP_BUF_AUTO text = {.max = 512};
	SP_BUF_AUTO note = {.max = 1024};
	struct sp_note_key k;

	OK(sp_nstore_root(s, c.size, c.root));
	OK(sp_note_key_make(&k, sp_span_str("o"), SP_NOTE_ED25519, pk));
	OK(sp_checkpoint_text(&c, &text));
	OK(sp_note_signed(sp_buf_span(&text), &k, sig, &note));
	OK(sp_nstore_tiles(s));
	OK(sp_nstore_set_note(s, sp_buf_span(&note)));
}

Test(notary, what_is_put_is_there_after_a_new_start)
{
	static const uint64_t sizes[] = {0, 1, 255, 256, 257, 600, 66000};
	int dir = dir_of("log");
	struct sp_tlog_source src;
	struct sp_tlog_dir *d;
	struct sp_tlog_proof p;
	struct sp_nstore *s = open_good(dir);
	uint8_t root[32], r2[32];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		fill(s, sizes[i], i < 5 ? 3 : 200);
		sign(s);
		sp_nstore_close(s);
		s = open_good(dir);
		is_tree_of(s, sizes[i]);
		/* A reader of the files sees the same, with proofs. */
		d = sp_tlog_dir_new(dir, sizes[i]);
		src = sp_tlog_dir_source(d);
		OK(sp_nstore_root(s, sizes[i], root));
		OK(sp_tlog_root_at(&src, sizes[i], r2));
		cr_assert_arr_eq(root, r2, 32);
		for (size_t k = 0; k < i; k++) {
			expected_root(sizes[k], r2);
			OK(sp_nstore_consistency(s, sizes[k], sizes[i], &p));
			OK(sp_tlog_check_consistency(&p, sizes[k], r2, sizes[i],
			    root));
		}
		free(d);
	}
	sp_nstore_close(s);
	close(dir);
}

/* ------------------------------------------- killed at every system call of it */

#define BEFORE 250u
#define AFTER 262u

static _Noreturn void
victim(int dir, int acked)
{
	struct sp_nstore *s = NULL;
	char b[32], why[256];
	uint64_t at;
	uint16_t n;

	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
		_exit(3);
	raise(SIGSTOP);
	if (sp_nstore_open(dir, &s, why, sizeof(why)) != SP_OK)
		_exit(4);
	for (uint64_t i = sp_nstore_size(s); i < AFTER; i++) {
		if (sp_nstore_put(s, entry(b, i), &at) != SP_OK ||
		    (i % 3 == 2 && sp_nstore_commit(s) != SP_OK))
			_exit(5);
		n = (uint16_t)sp_nstore_size(s);
		if (i % 3 == 2 && write(acked, &n, sizeof(n)) != sizeof(n))
			_exit(6);
	}
	_exit(0);
}

/* Lets it make n stops at system calls; true: it came to its end before. */
static bool
kill_at(pid_t pid, unsigned n)
{
	int st = 0;

	cr_assert_eq(waitpid(pid, &st, 0), pid);
	for (unsigned i = 0; i < n; i++) {
		cr_assert_eq(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
		cr_assert_eq(waitpid(pid, &st, 0), pid);
		if (WIFEXITED(st)) {
			cr_assert_eq(WEXITSTATUS(st), 0);
			return true;
		}
	}
	kill(pid, SIGKILL);
	waitpid(pid, &st, 0);
	return false;
}

Test(notary, killed_at_any_system_call_it_loses_nothing_acknowledged)
{
	struct sp_nstore *s;
	int dir = dir_of("first"), p[2];
	unsigned n = 0, most = 0;
	bool done = false;

	s = open_good(dir);
	fill(s, BEFORE, 50);
	sign(s);
	sp_nstore_close(s);
	for (n = 1; !done; n++) {
		uint16_t acked = BEFORE, one;
		pid_t pid;
		int d;

		copy("first", "trial");
		d = dir_of("trial");
		cr_assert_eq(pipe(p), 0);
		pid = fork();
		if (pid == 0)
			victim(d, p[1]);
		close(p[1]);
		done = kill_at(pid, n);
		while (read(p[0], &one, sizeof(one)) == sizeof(one))
			acked = one;
		close(p[0]);
		s = open_good(d);
		cr_assert_geq(sp_nstore_size(s), acked, "at call %u", n);
		cr_assert_leq(sp_nstore_size(s), AFTER);
		is_tree_of(s, sp_nstore_size(s));
		fill(s, AFTER + 5, 4);	/* and it goes on */
		sp_nstore_close(s);
		close(d);
		most = n;
	}
	cr_assert_gt(most, 60u);
	close(dir);
}

/* ------------------------------------------------------------ what is refused */

struct harm {
	const char *what;
	int (*deed)(int dir);
};

static int
flip(int dir, const char *path, off_t at)
{
	int fd = openat(dir, path, O_RDWR);
	char c = 0;
	bool good = fd >= 0 && pread(fd, &c, 1, at) == 1;

	c = (char)(c ^ 1);
	good = good && pwrite(fd, &c, 1, at) == 1;
	close(fd);
	return good ? 0 : -1;
}

static int no_journal(int d) { return unlinkat(d, "journal", 0); }
static int no_tile(int d) { return unlinkat(d, "tile/0/001", 0); }
static int flip_tile(int d) { return flip(d, "tile/0/000", 77); }
static int flip_last_tile(int d) { return flip(d, "tile/0/002", 8191); }
static int flip_journal_entry(int d) { return flip(d, "journal", 20); }
static int flip_journal_first(int d) { return flip(d, "journal", 9); }
static int flip_checkpoint(int d) { return flip(d, "checkpoint", 12); }
static int no_checkpoint(int d) { return unlinkat(d, "checkpoint", 0); }
static int
cut_journal(int d)
{
	int fd = openat(d, "journal", O_RDWR);
	int r = ftruncate(fd, 16 + 3 * 20);

	close(fd);
	return r;
}
static int
short_tile(int d)
{
	int fd = openat(d, "tile/0/001", O_RDWR);
	int r = ftruncate(fd, 8000);

	close(fd);
	return r;
}

static const struct harm harms[] = {{"journal gone", no_journal},
    {"tile gone", no_tile}, {"tile changed", flip_tile},
    {"last full tile changed", flip_last_tile}, {"tile cut", short_tile},
    {"entry of the journal changed", flip_journal_entry},
    {"number in the journal changed", flip_journal_first},
    {"journal cut", cut_journal}, {"checkpoint changed", flip_checkpoint},
    {"checkpoint gone", no_checkpoint}};

Test(notary, a_tree_that_was_altered_or_shrunk_is_refused_in_words)
{
	int dir = dir_of("log"), d;
	struct sp_nstore *s = open_good(dir);

	fill(s, 900, 90);
	sign(s);
	sp_nstore_close(s);
	for (size_t i = 0; i < sizeof(harms) / sizeof(harms[0]); i++) {
		char why[256] = "";

		copy("log", "bad");
		d = dir_of("bad");
		cr_assert_eq(harms[i].deed(d), 0, "%s", harms[i].what);
		cr_assert_eq(sp_nstore_open(d, &s, why, sizeof(why)), SP_ERR_CRYPTO,
		    "%s", harms[i].what);
		cr_assert_gt(strlen(why), 10u);
		close(d);
	}
	close(dir);
}

Test(notary, half_a_record_at_the_end_is_cut_off)
{
	int dir = dir_of("log"), fd;
	struct sp_nstore *s = open_good(dir);

	fill(s, 300, 30);
	sign(s);
	sp_nstore_close(s);
	fd = openat(dir, "journal", O_WRONLY | O_APPEND);
	cr_assert_eq(write(fd, "\0\11entry 300", 11), 11);
	close(fd);
	s = open_good(dir);
	is_tree_of(s, 300);
	fill(s, 310, 1);
	sp_nstore_close(s);
	s = open_good(dir);
	is_tree_of(s, 310);
	sp_nstore_close(s);
	close(dir);
}

/* ------------------------------------------------------------- holds and ends */

static const uint8_t one[16] = {1}, two[16] = {2};

static uint64_t
put_act(struct sp_nstore *s, uint8_t act, const uint8_t session[static 16],
    bool known)
{
	struct sp_leaf l = {.type = SP_LEAF_ACT, .act = act, .at_us = 5,
	    .actor = sp_span_str("carol"), .detail = sp_span_str("case 7")};
	SP_BUF_AUTO b = {.max = SP_TLOG_ENTRY_MAX};
	uint64_t index = 0;

	memcpy(l.session, session, 16);
	OK(sp_leaf_encode(&l, &b));
	if (known)
		OK(sp_nacts_put(s, act, session, sp_nstore_next(s)));
	OK(sp_nstore_put(s, sp_buf_span(&b), &index));
	return index;
}

static struct sp_nacts
acts_of(struct sp_nstore *s, const uint8_t session[static 16])
{
	struct sp_nacts a;

	OK(sp_nacts_of(s, session, &a));
	return a;
}

/* Over tiles, restarts and a file of acts that is gone: what counts are the leaves. */
Test(notary, a_hold_is_a_leaf)
{
	int d = dir_of("acts");
	struct sp_nstore *s = open_good(d);
	uint64_t end = 0;

	cr_expect(!acts_of(s, one).is_held);
	put_act(s, SP_ACT_HOLD, one, true);
	cr_expect(!acts_of(s, one).is_held, "it is not safe yet");
	OK(sp_nstore_commit(s));
	cr_expect(acts_of(s, one).is_held);
	cr_expect(!acts_of(s, two).is_held);
	/* Never committed: another leaf takes its number. */
	OK(sp_nacts_put(s, SP_ACT_RELEASE, one, sp_nstore_next(s)));
	for (unsigned i = 0; i < 600; i++)
		put_act(s, SP_ACT_REPLAY, i % 2 == 0 ? one : two, false);
	put_act(s, SP_ACT_HOLD, two, true);
	put_act(s, SP_ACT_RELEASE, two, true);
	end = put_act(s, SP_ACT_DELETE, two, true);
	OK(sp_nstore_commit(s));
	sign(s);
	for (unsigned round = 0; round < 3; round++) {
		cr_expect(acts_of(s, one).is_held, "round %u", round);
		cr_expect(!acts_of(s, one).is_ended);
		cr_expect(!acts_of(s, two).is_held);
		cr_expect(acts_of(s, two).is_ended);
		cr_expect_eq(acts_of(s, two).end, end);
		sp_nstore_close(s);
		if (round == 1)		/* somebody took it away */
			cr_assert_eq(unlinkat(d, "acts", 0), 0);
		s = open_good(d);
	}
	/* A record of a leaf that is none says nothing. */
	OK(sp_nacts_put(s, SP_ACT_RELEASE, one, 3));
	OK(sp_nacts_put(s, SP_ACT_RELEASE, one, UINT64_MAX));
	cr_expect(acts_of(s, one).is_held);
	sp_nstore_close(s);
	close(d);
}

Test(notary, half_a_record_is_written_over)
{
	int d = dir_of("half");
	struct sp_nstore *s = open_good(d);
	int fd;

	put_act(s, SP_ACT_HOLD, one, true);
	OK(sp_nstore_commit(s));
	sp_nstore_close(s);
	fd = openat(d, "acts", O_WRONLY | O_APPEND | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, "\005half", 5), 5);
	close(fd);
	s = open_good(d);
	put_act(s, SP_ACT_HOLD, two, true);
	OK(sp_nstore_commit(s));
	cr_expect(acts_of(s, one).is_held);
	cr_expect(acts_of(s, two).is_held);
	sp_nstore_close(s);
	close(d);
}
