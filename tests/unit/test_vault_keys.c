/* SPDX-License-Identifier: Apache-2.0 */
/* The vault's key hierarchy and its file: slots, KEKs, what a flipped bit or a
 * wrong passphrase does, and how files are written. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/tmp.h"
#include "tests/unit/vault_kit.h"

#define OK(e) cr_assert_eq((e), SP_OK)

TestSuite(vault_keys, .timeout = 60);

Test(vault_keys, secrets_are_wiped_and_bounded)
{
	struct sp_secret a = {0}, b = {0}, many[200] = {{0}};
	const uint8_t *was;
	enum sp_err e = SP_OK;
	size_t i;

	OK(sp_secret_init());
	cr_assert_eq(sp_secret_in_use(), 0);
	cr_assert_eq(sp_secret_new(&a, 0), SP_ERR_TOOBIG);
	cr_assert_eq(sp_secret_new(&a, SP_SECRET_MAX + 1), SP_ERR_TOOBIG);
	OK(sp_secret_random(&a, 200));
	was = a.p;
	cr_assert_not(sodium_is_zero(was, 200));
	sp_secret_cut(&a, 65);
	cr_assert(sodium_is_zero(was + 65, 256 - 65));
	cr_assert_eq(sp_secret_in_use(), 128);
	sp_secret_move(&b, &a);
	cr_assert_null(a.p);
	cr_assert_eq(b.n, 65);
	sp_secret_free(&b);
	cr_assert(sodium_is_zero(was, 256));
	for (i = 0; i < 200 && e == SP_OK; i++)
		e = sp_secret_random(&many[i], SP_SECRET_MAX);
	cr_assert_eq(e, SP_ERR_FULL);
	for (i = 0; i < 200; i++)
		sp_secret_free(&many[i]);
	cr_assert_eq(sp_secret_in_use(), 0);
	cr_assert(sodium_is_zero(sp_secret_arena().p, sp_secret_arena().n));
}

/* passphrase slot and demo slot over the same root key */
static void
both_slots(struct sp_state *s, struct sp_buf *demo_text)
{
	struct sp_secret root = {0}, demo = {0};

	OK(sp_secret_init());
	OK(sp_root_make(s, &root));
	OK(sp_slot_make_passphrase(&s->slots[0], sp_span_str(KIT_PASSPHRASE),
	    &sp_kdf_least, &root));
	OK(sp_secret_random(&demo, SP_KEY_BYTES));
	OK(sp_slot_make_demo(&s->slots[1], &demo, &root));
	s->n_slots = 2;
	OK(sp_demo_text(demo_text, &demo));
	OK(sp_root_sign_state(&root, s));
	sp_secret_free(&root);
	sp_secret_free(&demo);
}

Test(vault_keys, any_slot_opens_the_same_root)
{
	struct sp_buf demo = {.max = 256};
	struct sp_root a = {0}, b = {0};
	static struct sp_state s;

	both_slots(&s, &demo);
	OK(sp_root_open(&a, &s, sp_span_str(KIT_PASSPHRASE)));
	OK(sp_root_open(&b, &s, sp_buf_span(&demo)));
	for (size_t i = 0; i < a.n_keks; i++)
		cr_assert_eq(sodium_memcmp(a.keks[i].key.p, b.keks[i].key.p, 32), 0);
	cr_assert_eq(a.n_keks, 4);
	cr_assert_eq(sp_root_open(&a, &s, sp_span_str(KIT_PASSPHRASE)),
	    SP_ERR_STATE);
	cr_assert_eq(sp_root_kek(&a, SP_KEK_ROWS, 0)->epoch, 1);
	cr_assert_null(sp_root_kek(&a, SP_KEK_ROWS, 2));
	sp_root_close(&a);
	sp_root_close(&b);
	cr_assert_null(sp_root_kek(&a, SP_KEK_ROWS, 0));
	cr_assert_eq(sp_secret_in_use(), 0);
	sp_buf_fini(&demo);
}

Test(vault_keys, wrong_passphrases_open_nothing)
{
	static const char *const bad[] = {"", "a passphrase of test",
	    "a passphrase of tests ", "A passphrase of tests", "x",
	    "sallyport key for DEMONSTRATION ONLY, it unseals without a person: "
	    "0000000000000000000000000000000000000000000000000000000000000000"};
	struct sp_buf demo = {.max = 256};
	struct sp_root r = {0};
	static struct sp_state s;

	both_slots(&s, &demo);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert_neq(sp_root_open(&r, &s, sp_span_str(bad[i])), SP_OK);
		cr_assert_not(r.is_open);
		cr_assert_eq(sp_secret_in_use(), 0);
	}
	cr_assert_eq(sp_root_open(&r, &s, sp_span_str("another passphrase")),
	    SP_ERR_DENIED);
	sp_buf_fini(&demo);
}

Test(vault_keys, short_and_cheap_slots_are_refused)
{
	struct sp_secret root = {0};
	struct sp_kdf_cost cheap = {.ops = 0, .mem_bytes = 1 << 20};
	struct sp_slot t;

	OK(sp_secret_init());
	OK(sp_secret_random(&root, 32));
	cr_assert_eq(sp_slot_make_passphrase(&t, sp_span_str("short"),
	    &sp_kdf_least, &root), SP_ERR_INVAL);
	cr_assert_eq(sp_slot_make_passphrase(&t, sp_span_str("long enough"),
	    &cheap, &root), SP_ERR_INVAL);
	sp_secret_free(&root);
}

/* Each byte of the file, each to a neighbour: the sum finds it. */
Test(vault_keys, every_flipped_byte_of_the_file_is_seen)
{
	struct sp_buf demo = {.max = 256}, file = {.max = SP_STATE_MAX};
	static struct sp_state s, t;
	static uint8_t copy[SP_STATE_MAX];

	both_slots(&s, &demo);
	OK(sp_state_encode(&s, &file));
	OK(sp_state_decode(sp_buf_span(&file), &t));
	for (size_t i = 0; i < file.len; i++)
		for (unsigned bit = 0; bit < 8; bit++) {
			memcpy(copy, sp_buf_span(&file).p, file.len);
			copy[i] = (uint8_t)(copy[i] ^ 1U << bit);
			cr_assert_eq(sp_state_decode(sp_span_of(copy, file.len), &t),
			    i < 8 ? SP_ERR_PROTO : SP_ERR_CRYPTO, "byte %zu", i);
		}
	for (size_t n = 0; n < file.len; n++)
		cr_assert_neq(sp_state_decode(sp_span_of(sp_buf_span(&file).p, n),
		    &t), SP_OK, "cut at %zu", n);
	sp_buf_fini(&demo);
	sp_buf_fini(&file);
}

/* Someone who mends the sum as well meets the MAC, or the wraps. */
Test(vault_keys, every_flipped_byte_with_a_mended_sum_is_refused)
{
	struct sp_buf demo = {.max = 256}, file = {.max = SP_STATE_MAX};
	static struct sp_state s;
	static uint8_t copy[SP_STATE_MAX];
	size_t n;

	both_slots(&s, &demo);
	OK(sp_state_encode(&s, &file));
	n = file.len - 32;
	for (size_t i = 0; i < n; i++) {
		struct sp_root r = {0};
		static struct sp_state t;
		enum sp_err e;

		memcpy(copy, sp_buf_span(&file).p, n);
		copy[i] = (uint8_t)(copy[i] ^ 1U << (i % 8));
		crypto_generichash(copy + n, 32, copy, n, NULL, 0);
		e = sp_state_decode(sp_span_of(copy, n + 32), &t);
		if (e == SP_OK)
			e = sp_root_open(&r, &t, sp_buf_span(&demo));
		cr_assert_neq(e, SP_OK, "byte %zu", i);
		cr_assert_not(r.is_open);
	}
	cr_assert_eq(sp_secret_in_use(), 0);
	sp_buf_fini(&demo);
	sp_buf_fini(&file);
}

Test(vault_keys, public_keys_cannot_be_exchanged)
{
	struct sp_root r = {0};
	static struct sp_state s, other;

	kit_state(&s);
	kit_state(&other);
	memcpy(s.ca_pk, other.ca_pk, 32);
	cr_assert_eq(sp_root_open(&r, &s, sp_span_str(KIT_PASSPHRASE)),
	    SP_ERR_CRYPTO);
	cr_assert_eq(sp_secret_in_use(), 0);
}

static int
scratch_dir(char path[static 64])
{
	tmp_name(path, 64, "sp-vault");
	cr_assert_not_null(mkdtemp(path));
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

Test(vault_keys, files_are_written_whole_or_not_at_all)
{
	struct sp_buf b = {.max = 1024};
	struct stat st;
	char path[64];
	int dir = scratch_dir(path);

	OK(sp_file_write(dir, "state", sp_span_str("one"), false));
	cr_assert_eq(sp_file_write(dir, "state", sp_span_str("two"), false),
	    SP_ERR_EXISTS);
	OK(sp_file_read(dir, "state", true, &b));
	cr_assert(sp_span_is(sp_buf_span(&b), "one"));
	OK(sp_file_write(dir, "state", sp_span_str("three"), true));
	sp_buf_reset(&b);
	OK(sp_file_read(dir, "state", true, &b));
	cr_assert(sp_span_is(sp_buf_span(&b), "three"));
	cr_assert_eq(fstatat(dir, "state", &st, 0), 0);
	cr_assert_eq(st.st_mode & 07777, 0600);
	cr_assert_neq(fstatat(dir, ".state.new", &st, 0), 0);
	/* others may read it: not with secrets in it */
	cr_assert_eq(fchmodat(dir, "state", 0640, 0), 0);
	cr_assert_eq(sp_file_read(dir, "state", true, &b), SP_ERR_DENIED);
	cr_assert_eq(symlinkat("state", dir, "link"), 0);
	cr_assert_eq(sp_file_read(dir, "link", false, &b), SP_ERR_IO);
	cr_assert_eq(sp_file_read(dir, "none", false, &b), SP_ERR_NOTFOUND);
	unlinkat(dir, "link", 0);
	unlinkat(dir, "state", 0);
	close(dir);
	rmdir(path);
	sp_buf_fini(&b);
}
