/* SPDX-License-Identifier: Apache-2.0 */
/* covers: vault/loghead.c. The vault signs no head of the transparency log that
 * does not continue the last one it signed, whoever asks. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/tmp.h"
#include "tests/unit/vault_kit.h"
#include "vault/loghead.h"

#define OK(e) cr_assert_eq((e), SP_OK)
#define LEAVES 600u	/* more than two tiles */

TestSuite(loghead, .timeout = 120);

static struct sp_root root;
static struct sp_loghead head;
static char where[64];
static int dir;

/* Two trees that have the first `SAME` leaves in common. */
#define SAME 300u
struct tree {
	uint8_t leaf[LEAVES][32];
};
static struct tree ours, forked;

static enum sp_err
tile(void *arg, unsigned level, uint64_t n, unsigned width, uint8_t *out)
{
	const struct tree *of = arg;
	uint64_t per = UINT64_C(1) << (8 * level);

	for (unsigned i = 0; i < width; i++) {
		struct sp_tlog_tree t = {.size = 0};

		for (uint64_t k = 0; k < per; k++)
			sp_tlog_append(&t, of->leaf[(n * 256 + i) * per + k]);
		sp_tlog_root(&t, out + (size_t)i * 32);
	}
	return SP_OK;
}

static void
root_of(const struct tree *of, uint64_t n, uint8_t out[32])
{
	struct sp_tlog_tree t = {.size = 0};

	for (uint64_t i = 0; i < n; i++)
		sp_tlog_append(&t, of->leaf[i]);
	sp_tlog_root(&t, out);
}

/* Asks for a signature over the tree of b leaves, with the proof from a. */
static enum sp_err
ask(struct tree *of, uint64_t a, uint64_t b)
{
	struct sp_tlog_source s = {.tile = tile, .arg = of};
	struct sp_tlog_proof p = {.n = 0};
	uint8_t r[32], sig[64];

	if (a > 0 && a < b)
		OK(sp_tlog_prove_consistency(&s, a, b, &p));
	root_of(of, b, r);
	return sp_loghead_sign(&head, &root, b, r, sp_span_of(p.h, 32 * p.n), sig);
}

static void
again(const char *origin)
{
	sp_loghead_fini(&head);
	head = (struct sp_loghead){.fd = -1};
	sp_loghead_load(&head, dir, origin, "node");
}

static void
begin(void)
{
	for (uint32_t i = 0; i < LEAVES; i++) {
		uint32_t other = i < SAME ? i : i + 1000000;

		sp_tlog_leaf_hash(sp_span_of(&i, 4), ours.leaf[i]);
		sp_tlog_leaf_hash(sp_span_of(&other, 4), forked.leaf[i]);
	}
	kit_root(&root);
	tmp_name(where, sizeof(where), "sp-loghead");
	cr_assert_not_null(mkdtemp(where));
	cr_assert((dir = open(where, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0);
	again("");
}

static void
end(void)
{
	sp_loghead_fini(&head);
	close(dir);
	tmp_remove(where);
}

Test(loghead, what_continues_is_signed, .init = begin, .fini = end)
{
	OK(ask(&ours, 0, 10));
	OK(ask(&ours, 10, 10));		/* the same once more */
	OK(ask(&ours, 10, 256));
	OK(ask(&ours, 256, LEAVES));
	cr_expect_eq(head.last.size, LEAVES);
}

Test(loghead, a_fork_is_not, .init = begin, .fini = end)
{
	uint8_t r[32], sig[64];

	OK(ask(&ours, 0, 400));
	cr_expect_eq(ask(&forked, 400, 500), SP_ERR_CRYPTO);
	cr_expect_eq(ask(&forked, SAME, 500), SP_ERR_CRYPTO);
	cr_expect_eq(ask(&forked, 400, 400), SP_ERR_CRYPTO, "as large, another root");
	cr_expect_eq(ask(&forked, 0, 500), SP_ERR_CRYPTO, "without a proof");
	cr_expect_eq(ask(&ours, 0, 399), SP_ERR_CRYPTO, "one leaf less");
	cr_expect_eq(ask(&ours, 10, 500), SP_ERR_CRYPTO, "a proof from another size");
	root_of(&ours, 500, r);
	cr_expect_eq(sp_loghead_sign(&head, &root, 500, r, sp_span_of(r, 31), sig),
	    SP_ERR_CRYPTO, "half a hash");
	cr_expect_eq(head.last.size, 400);
	OK(ask(&ours, 400, 500));
}

/* What was signed is known to whoever starts next; both slots are tried. */
Test(loghead, a_restart_forgets_nothing, .init = begin, .fini = end)
{
	for (uint64_t n = 301; n < 306; n++) {
		OK(ask(&ours, n == 301 ? 0 : n - 1, n));
		again("");
		cr_expect_eq(ask(&forked, n, n + 1), SP_ERR_CRYPTO);
		cr_expect_eq(head.last.size, n);
	}
}

Test(loghead, a_file_that_was_changed_signs_nothing, .init = begin, .fini = end)
{
	uint8_t junk[2048];
	int fd;

	OK(ask(&ours, 0, 100));
	OK(ask(&ours, 100, 200));
	sp_loghead_fini(&head);
	head = (struct sp_loghead){.fd = -1};
	memset(junk, 'x', sizeof(junk));
	cr_assert((fd = openat(dir, "loghead", O_WRONLY | O_CLOEXEC)) >= 0);
	cr_assert_eq(pwrite(fd, junk, sizeof(junk), 0), (ssize_t)sizeof(junk));
	close(fd);
	again("");
	cr_expect_eq(ask(&ours, 0, 300), SP_ERR_CRYPTO);
	cr_expect_eq(ask(&ours, 200, 300), SP_ERR_CRYPTO);
}

/* After a restore the configuration names another log, which begins at nothing. */
Test(loghead, another_origin_is_another_log, .init = begin, .fini = end)
{
	OK(ask(&ours, 0, 400));
	again("sallyport/restored-1");
	cr_expect_eq(ask(&ours, 400, 500), SP_ERR_CRYPTO, "a proof of the old one");
	OK(ask(&forked, 0, 20));
	cr_expect_str_eq(head.last.origin, "sallyport/restored-1");
	again("sallyport/restored-1");
	OK(ask(&ours, 20, 30));		/* the same leaves so far */
	cr_expect_eq(ask(&forked, 20, 19), SP_ERR_CRYPTO);
}
