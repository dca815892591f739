/* SPDX-License-Identifier: Apache-2.0 */
/* Covers bastion/broker/heads.c: the newest version of each sealed row, and the
 * file that keeps them; and reserve.c's file as the store uses it. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bastion/broker/heads.h"
#include "tests/support/tmp.h"

static char path[64];

static void
up(void)
{
	int fd;

	cr_assert(sodium_init() >= 0);
	tmp_name(path, sizeof(path), "sp-heads");
	fd = mkstemp(path);
	cr_assert_geq(fd, 0);
	close(fd);
}

static void
down(void)
{
	unlink(path);
}

TestSuite(heads, .init = up, .fini = down, .timeout = 60);

static struct sp_heads *
opened(void)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	cr_assert_geq(fd, 0);
	return sp_heads_new(fd);
}

static const uint8_t *
id_of(unsigned n)
{
	static uint8_t id[8][16];
	static unsigned at;
	uint8_t *p = id[at++ % 8];

	memset(p, 0, 16);
	memcpy(p, &n, sizeof(n));
	p[15] = 1;
	return p;
}

static const uint8_t *
seal_of(unsigned n)
{
	static uint8_t s[8][32];
	static unsigned at;
	uint8_t *p = s[at++ % 8];

	memset(p, 0x5a, 32);
	memcpy(p, &n, sizeof(n));
	return p;
}

Test(heads, what_is_judged_how)
{
	struct sp_heads *h = sp_heads_new(-1);
	const uint8_t *a = id_of(1);

	cr_expect_eq(sp_heads_judge(h, SP_T_PEOPLE, a, 1, seal_of(1)), SP_HEAD_AHEAD);
	sp_heads_put(h, SP_T_PEOPLE, a, 2, seal_of(2), NULL, false);
	cr_expect_eq(sp_heads_judge(h, SP_T_PEOPLE, a, 2, seal_of(2)), SP_HEAD_GOOD);
	cr_expect_eq(sp_heads_judge(h, SP_T_PEOPLE, a, 2, seal_of(3)), SP_HEAD_OTHER);
	cr_expect_eq(sp_heads_judge(h, SP_T_PEOPLE, a, 1, seal_of(1)), SP_HEAD_OLD);
	cr_expect_eq(sp_heads_judge(h, SP_T_PEOPLE, a, 3, seal_of(2)), SP_HEAD_AHEAD);
	cr_expect_eq(sp_heads_judge(h, SP_T_TARGETS, a, 2, seal_of(2)), SP_HEAD_AHEAD);
	/* What is not newer changes nothing. */
	sp_heads_put(h, SP_T_PEOPLE, a, 2, seal_of(9), NULL, false);
	sp_heads_put(h, SP_T_PEOPLE, a, 1, seal_of(1), NULL, false);
	cr_expect_eq(sp_heads_judge(h, SP_T_PEOPLE, a, 2, seal_of(2)), SP_HEAD_GOOD);
	sp_heads_put(h, SP_T_PEOPLE, a, 3, NULL, NULL, true);
	cr_expect_eq(sp_heads_judge(h, SP_T_PEOPLE, a, 2, seal_of(2)), SP_HEAD_GONE);
	cr_expect_eq(sp_heads_judge(h, SP_T_PEOPLE, a, 3, seal_of(2)), SP_HEAD_GONE);
	sp_heads_free(h);
}

Test(heads, whose_they_are)
{
	struct sp_heads *h = sp_heads_new(-1);

	for (unsigned i = 0; i < 3000; i++)
		sp_heads_put(h, SP_T_MEMBERSHIPS, id_of(i), 1, seal_of(i),
		    id_of(900000 + i % 1000), false);
	cr_expect_eq(sp_heads_each(h, SP_T_MEMBERSHIPS, id_of(900007), NULL, NULL), 3);
	cr_expect_eq(sp_heads_each(h, SP_T_PERSON_KEYS, id_of(900007), NULL, NULL), 0);
	cr_expect_eq(sp_heads_each(h, SP_T_MEMBERSHIPS, NULL, NULL, NULL), 3000);
	sp_heads_put(h, SP_T_MEMBERSHIPS, id_of(7), 2, NULL, NULL, true);
	cr_expect_eq(sp_heads_each(h, SP_T_MEMBERSHIPS, id_of(900007), NULL, NULL), 2);
	sp_heads_free(h);
}

static void
fill(struct sp_heads *h, unsigned n)
{
	struct sp_heads_node *node = sp_heads_node(h, "n");

	for (unsigned i = 0; i < n; i++)
		sp_heads_put(h, SP_T_PEOPLE, id_of(i), 1 + i % 3, seal_of(i), NULL,
		    i % 5 == 0);
	node->seq = n;
	memset(node->hash, 7, 32);
	sp_heads_begin(h);
	sp_heads_save(h);
}

static void
good(struct sp_heads *h, unsigned n)
{
	cr_assert(!sp_heads_was_cold(h));
	cr_assert(sp_heads_has_begun(h));
	cr_assert_eq(sp_heads_node(h, "n")->seq, n);
	for (unsigned i = 0; i < n; i++)
		cr_assert_eq(sp_heads_judge(h, SP_T_PEOPLE, id_of(i), 1 + i % 3,
		    seal_of(i)), i % 5 == 0 ? SP_HEAD_GONE : SP_HEAD_GOOD);
}

Test(heads, the_file_brings_them_back)
{
	struct sp_heads *h = opened();

	cr_assert(sp_heads_was_cold(h));
	fill(h, 2500);
	sp_heads_free(h);
	h = opened();
	good(h, 2500);
	/* Written, but not yet said to be in it: the chain says it again. */
	sp_heads_put(h, SP_T_PEOPLE, id_of(1), 77, seal_of(1), NULL, false);
	sp_heads_free(h);
	h = opened();
	good(h, 2500);
	sp_heads_free(h);
}

Test(heads, a_file_that_does_not_check_out_is_made_anew)
{
	const struct { off_t at, cut; } wrong[] = {{10, 0}, {4096 + 64 * 9 + 3, 0},
	    {0, 4096 + 64 * 20}, {0, 100}, {600, 0}};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct sp_heads *h;
		int fd;

		cr_assert_eq(truncate(path, 0), 0);
		h = opened();
		fill(h, 100);
		sp_heads_free(h);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (wrong[i].cut > 0)
			cr_assert_eq(ftruncate(fd, wrong[i].cut), 0);
		else
			cr_assert_eq(pwrite(fd, "\xee", 1, wrong[i].at), 1);
		close(fd);
		h = opened();
		cr_expect(sp_heads_was_cold(h), "%zu", i);
		cr_expect(!sp_heads_has_begun(h));
		cr_expect_eq(sp_heads_judge(h, SP_T_PEOPLE, id_of(1), 2, seal_of(1)),
		    SP_HEAD_AHEAD);
		sp_heads_free(h);
	}
}

Test(heads, the_newest_policy_survives_a_rewrite)
{
	struct sp_heads *h = opened();
	struct stat st;

	sp_heads_put(h, SP_T_POLICIES, id_of(1), 1, seal_of(1), NULL, false);
	for (unsigned v = 1; v < 9000; v++)
		sp_heads_put(h, SP_T_PEOPLE, id_of(5), v, seal_of(v), NULL, false);
	sp_heads_put(h, SP_T_POLICIES, id_of(2), 1, seal_of(2), NULL, false);
	sp_heads_put(h, SP_T_TARGETS, id_of(3), 1, seal_of(3), NULL, false);
	sp_heads_save(h);
	sp_heads_free(h);
	h = opened();
	cr_assert_eq(stat(path, &st), 0);
	cr_expect_eq(st.st_size, 4096 + 4 * 64);
	sp_heads_free(h);
	h = opened();
	cr_expect_eq(memcmp(sp_heads_policy(h)->id, id_of(2), 16), 0);
	cr_expect_eq(sp_heads_judge(h, SP_T_PEOPLE, id_of(5), 8999, seal_of(8999)),
	    SP_HEAD_GOOD);
	sp_heads_free(h);
}
