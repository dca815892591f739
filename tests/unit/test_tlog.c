/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/tlog_leaf.h"
#include "common/tlog_note.h"
#include "common/signed.h"
#include "common/text.h"
#include "tests/support/tmp.h"

#define OK(e) cr_assert_eq((e), SP_OK)

/* The eight inputs that every implementation of RFC 6962 is tried with, and the
 * roots of the trees of the first 1 to 8. */
static const char *const inputs[8] = {"", "00", "10", "2021", "3031", "40414243",
    "5051525354555657", "606162636465666768696a6b6c6d6e6f"};
static const char *const roots[9] = {
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"};

#define LEAVES 70000u	/* more than a tile of level 1 covers */
static uint8_t (*leaf)[32];
static size_t n_leaves;

static enum sp_err
mem_tile(void *arg, unsigned level, uint64_t n, unsigned width, uint8_t *out)
{
	(void)arg;
	for (unsigned i = 0; i < width; i++) {
		uint64_t per = UINT64_C(1) << (8 * level);
		struct sp_tlog_tree t = {.size = 0};

		for (uint64_t k = 0; k < per; k++) {
			cr_assert_lt((n * 256 + i) * per + k, n_leaves);
			sp_tlog_append(&t, leaf[(n * 256 + i) * per + k]);
		}
		sp_tlog_root(&t, out + (size_t)i * 32);
	}
	return SP_OK;
}
static const struct sp_tlog_source memory = {.tile = mem_tile};

static void
plant(size_t n)
{
	cr_assert_geq(sodium_init(), 0);
	n_leaves = n;
	leaf = calloc(n, 32);
	for (size_t i = 0; i < n; i++) {
		uint32_t v = (uint32_t)i;

		sp_tlog_leaf_hash(sp_span_of(&v, 4), leaf[i]);
	}
}

static void
root_of(size_t n, uint8_t out[32])
{
	struct sp_tlog_tree t = {.size = 0};

	for (size_t i = 0; i < n; i++)
		sp_tlog_append(&t, leaf[i]);
	sp_tlog_root(&t, out);
}

Test(tlog, roots_are_those_of_rfc_6962)
{
	struct sp_tlog_tree t = {.size = 0};
	uint8_t in[16], h[32];
	char hex[65];

	cr_assert_geq(sodium_init(), 0);
	for (size_t i = 0; i <= 8; i++) {
		sp_tlog_root(&t, h);
		sp_hex(hex, h, 32);
		cr_assert_str_eq(hex, roots[i], "%zu", i);
		if (i == 8)
			break;
		OK(sp_unhex(in, strlen(inputs[i]) / 2, sp_span_str(inputs[i])));
		sp_tlog_leaf_hash(sp_span_of(in, strlen(inputs[i]) / 2), h);
		sp_tlog_append(&t, h);
	}
}

Test(tlog, every_leaf_of_every_small_tree_is_proved_and_no_other_is)
{
	struct sp_tlog_proof p;
	uint8_t root[32];

	plant(70);
	for (size_t size = 1; size <= 70; size++) {
		root_of(size, root);
		for (size_t i = 0; i < size; i++) {
			OK(sp_tlog_prove_inclusion(&memory, i, size, &p));
			OK(sp_tlog_check_inclusion(&p, i, size, leaf[i], root));
			cr_assert_neq(sp_tlog_check_inclusion(&p, i, size,
			    leaf[(i + 1) % 70], root), SP_OK);
			if (size > 1)
				cr_assert_neq(sp_tlog_check_inclusion(&p,
				    (i + 1) % size, size, leaf[i], root), SP_OK);
			cr_assert_neq(sp_tlog_check_inclusion(&p, i, size + 64,
			    leaf[i], root), SP_OK);
			if (p.n > 0) {
				p.h[i % p.n][5] ^= 1;
				cr_assert_neq(sp_tlog_check_inclusion(&p, i, size,
				    leaf[i], root), SP_OK);
				p.h[i % p.n][5] ^= 1;
				p.n--;
				cr_assert_neq(sp_tlog_check_inclusion(&p, i, size,
				    leaf[i], root), SP_OK);
				p.n++;
			}
			p.n++;
			cr_assert_neq(sp_tlog_check_inclusion(&p, i, size, leaf[i],
			    root), SP_OK);
		}
	}
	cr_assert_eq(sp_tlog_prove_inclusion(&memory, 5, 5, &p), SP_ERR_INVAL);
	free(leaf);
}

Test(tlog, consistency_of_every_pair_and_of_no_fork)
{
	uint8_t r[71][32], fork[32];
	struct sp_tlog_proof p;

	plant(70);
	for (size_t i = 0; i <= 70; i++)
		root_of(i, r[i]);
	for (size_t a = 0; a <= 70; a++)
		for (size_t b = a; b <= 70; b++) {
			OK(sp_tlog_prove_consistency(&memory, a, b, &p));
			OK(sp_tlog_check_consistency(&p, a, r[a], b, r[b]));
			if (a == 0)
				continue;
			memcpy(fork, r[a], 32);
			fork[31] ^= 0x80;
			cr_assert_neq(sp_tlog_check_consistency(&p, a, fork, b,
			    r[b]), SP_OK);
			memcpy(fork, r[b], 32);
			fork[0] ^= 1;
			cr_assert_neq(sp_tlog_check_consistency(&p, a, r[a], b,
			    fork), SP_OK);
			if (a < b)
				cr_assert_neq(sp_tlog_check_consistency(&p, b, r[b],
				    a, r[a]), SP_OK);
			for (size_t i = 0; i < p.n; i++) {
				p.h[i][i % 32] ^= 4;
				cr_assert_neq(sp_tlog_check_consistency(&p, a, r[a],
				    b, r[b]), SP_OK);
				p.h[i][i % 32] ^= 4;
			}
			p.n++;
			memset(p.h[p.n - 1], 0, 32);
			cr_assert_neq(sp_tlog_check_consistency(&p, a, r[a], b,
			    r[b]), SP_OK);
		}
	/* A tree with another leaf is no continuation. */
	leaf[3][0] ^= 1;
	root_of(70, fork);
	OK(sp_tlog_prove_consistency(&memory, 9, 70, &p));
	cr_assert_neq(sp_tlog_check_consistency(&p, 9, r[9], 70, fork), SP_OK);
	free(leaf);
}

Test(tlog, paths_are_those_of_tlog_tiles)
{
	char p[SP_TLOG_PATH_MAX];

	sp_tlog_path(p, 0, 0, 0);
	cr_assert_str_eq(p, "tile/0/000");
	sp_tlog_path(p, 2, 1234067, 256);
	cr_assert_str_eq(p, "tile/2/x001/x234/067");
	sp_tlog_path(p, -1, 1000, 17);
	cr_assert_str_eq(p, "tile/entries/x001/000.p/17");
	sp_tlog_path(p, 1, (UINT64_C(1) << 40) - 1, 255);
	cr_assert_str_eq(p, "tile/1/x001/x099/x511/x627/775.p/255");
}

static void
write_file(int dir, const char *path, const void *p, size_t n)
{
	char part[SP_TLOG_PATH_MAX];
	int fd;

	snprintf(part, sizeof(part), "%s", path);
	for (char *s = strchr(part, '/'); s != NULL; s = strchr(s + 1, '/')) {
		*s = '\0';
		mkdirat(dir, part, 0700);
		*s = '/';
	}
	fd = openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, p, n), (ssize_t)n);
	close(fd);
}

/* Tiles of a tree of LEAVES leaves below a fresh directory. */
static int
lay_tiles(char *dir)
{
	static uint8_t tile[256 * 32];
	char path[SP_TLOG_PATH_MAX];
	int fd;

	cr_assert_not_null(mkdtemp(dir));
	fd = open(dir, O_RDONLY | O_DIRECTORY);
	for (unsigned level = 0; LEAVES >> (8 * level) > 0; level++)
		for (uint64_t n = 0; n * 256 < LEAVES >> (8 * level); n++) {
			uint64_t w = (LEAVES >> (8 * level)) - n * 256;

			w = w > 256 ? 256 : w;
			OK(mem_tile(NULL, level, n, (unsigned)w, tile));
			sp_tlog_path(path, (int)level, n, (unsigned)w);
			write_file(fd, path, tile, (size_t)w * 32);
		}
	return fd;
}

static int
rm_tree(const char *dir)
{
	char cmd[8] = "rm", rf[8] = "-rf";
	pid_t pid = fork();
	int status = 0;

	if (pid == 0) {
		execlp(cmd, cmd, rf, dir, (char *)NULL);
		_exit(127);
	}
	return waitpid(pid, &status, 0) == pid ? status : -1;
}

Test(tlog, tiles_on_disk_give_the_same_proofs, .timeout = 120)
{
	static const uint64_t at[] = {0, 1, 255, 256, 65535, 65536, 69999};
	char dir[64] = "";
	struct sp_tlog_source s;
	struct sp_tlog_proof p;
	struct sp_tlog_dir *d;
	uint8_t root[32], old[32], h[32];
	int fd;

	plant(LEAVES);
	fd = lay_tiles(tmp_name(dir, sizeof(dir), "sp-tlog"));
	d = sp_tlog_dir_new(fd, LEAVES);
	s = sp_tlog_dir_source(d);
	root_of(LEAVES, root);
	OK(sp_tlog_root_at(&s, LEAVES, h));
	cr_assert_arr_eq(h, root, 32);
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		OK(sp_tlog_prove_inclusion(&s, at[i], LEAVES, &p));
		OK(sp_tlog_check_inclusion(&p, at[i], LEAVES, leaf[at[i]], root));
		root_of((size_t)at[i], old);
		OK(sp_tlog_prove_consistency(&s, at[i], LEAVES, &p));
		OK(sp_tlog_check_consistency(&p, at[i], old, LEAVES, root));
	}
	/* A smaller tree is read from the full tiles of a later one. */
	free(d);
	d = sp_tlog_dir_new(fd, 65540);
	s = sp_tlog_dir_source(d);
	root_of(65540, root);
	cr_assert_eq(sp_tlog_prove_inclusion(&s, 7, 70000, &p), SP_ERR_INVAL);
	OK(sp_tlog_root_at(&s, 65536, h));
	root_of(65536, root);
	cr_assert_arr_eq(h, root, 32);
	cr_assert_eq(unlinkat(fd, "tile/0/017", 0), 0);
	cr_assert_eq(sp_tlog_prove_inclusion(&s, 17 * 256 + 3, 65540, &p),
	    SP_ERR_NOTFOUND);
	free(d);
	close(fd);
	cr_assert_eq(rm_tree(dir), 0);
	free(leaf);
}

Test(tlog, a_bundle_is_read_to_its_size_and_no_further)
{
	char dir[64] = "";
	SP_BUF_AUTO b = {.max = SP_TLOG_BUNDLE_MAX + 8192};
	struct sp_span s, e;
	int fd;

	cr_assert_not_null(mkdtemp(tmp_name(dir, sizeof(dir), "sp-tlog")));
	fd = open(dir, O_RDONLY | O_DIRECTORY);
	write_file(fd, "tile/entries/000.p/2", "\0\3abc\0\1x", 8);
	OK(sp_tlog_bundle(fd, 0, 2, &b));
	s = sp_buf_span(&b);
	OK(sp_tlog_bundle_next(&s, &e));
	cr_assert(sp_span_is(e, "abc"));
	OK(sp_tlog_bundle_next(&s, &e));
	cr_assert(sp_span_is(e, "x"));
	cr_assert_eq(sp_tlog_bundle_next(&s, &e), SP_ERR_EOF);
	sp_buf_reset(&b);
	cr_assert_eq(sp_tlog_bundle(fd, 0, 3, &b), SP_ERR_NOTFOUND);
	write_file(fd, "tile/entries/000.p/3", "\0\3abc\0\1x\0\7no", 12);
	sp_buf_reset(&b);
	cr_assert_eq(sp_tlog_bundle(fd, 0, 3, &b), SP_ERR_PROTO);
	close(fd);
	cr_assert_eq(rm_tree(dir), 0);
}

/* The example of C2SP tlog-cosignature: its key is not given, its form is. */
static const char example[] =
    "example.com/behind-the-sofa\n20852163\n"
    "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "\xe2\x80\x94 example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/"
    "5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "\xe2\x80\x94 witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/"
    "zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";

Test(tlog, the_example_of_the_specification_is_read)
{
	struct sp_checkpoint c;
	struct sp_note n;

	OK(sp_note_parse(sp_span_str(example), &n));
	cr_assert_eq(n.n, 2u);
	cr_assert_eq(n.sig[0].blob_n, 64u);
	cr_assert_eq(n.sig[1].blob_n, 72u);
	OK(sp_checkpoint_parse(n.text, &c));
	cr_assert_str_eq(c.origin, "example.com/behind-the-sofa");
	cr_assert_eq(c.size, 20852163u);
}

Test(tlog, a_key_of_the_go_checksum_database_is_read)
{
	/* As Go's source has it: the form that signed-note took over. */
	static const char vkey[] = "sum.golang.org+033de0ae+"
	    "Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
	SP_BUF_AUTO t = {.max = 256};
	struct sp_note_key k;

	cr_assert_geq(sodium_init(), 0);
	OK(sp_note_key_parse(&k, sp_span_str(vkey)));
	OK(sp_note_key_text(&k, &t));
	cr_assert(sp_span_is(sp_buf_span(&t), vkey));
	cr_assert_neq(sp_note_key_parse(&k, sp_span_str("sum.golang.org+133de0ae+"
	    "Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8")), SP_OK);
	cr_assert_neq(sp_note_key_parse(&k, sp_span_str("a b+033de0ae+")), SP_OK);
}

Test(tlog, a_note_is_signed_cosigned_and_nothing_else_passes)
{
	struct sp_checkpoint c = {.origin = "sallyport/x", .size = 7}, d;
	struct sp_note_key k, w;
	SP_BUF_AUTO text = {.max = 1024};
	SP_BUF_AUTO note = {.max = 4096};
	SP_BUF_AUTO co = {.max = 1024};
	uint8_t pk[32], sk[64], wpk[32], wsk[64], sig[64], blob[72] = {0};
	struct sp_note n;
	struct sp_span s;
	int64_t at = 0;
	size_t i = 9;

	cr_assert_geq(sodium_init(), 0);
	crypto_sign_keypair(pk, sk);
	crypto_sign_keypair(wpk, wsk);
	OK(sp_note_key_make(&k, sp_span_str(c.origin), SP_NOTE_ED25519, pk));
	OK(sp_note_key_make(&w, sp_span_str("w.example/1"), SP_NOTE_COSIGN, wpk));
	OK(sp_checkpoint_text(&c, &text));
	s = sp_buf_span(&text);
	crypto_sign_detached(sig, NULL, s.p, s.n, sk);
	OK(sp_note_signed(s, &k, sig, &note));
	OK(sp_cosign_text(s, 1700000000, &co));
	s = sp_buf_span(&co);
	crypto_sign_detached(blob + 8, NULL, s.p, s.n, wsk);
	memcpy(blob + 4, "\x65\x53\xf1\x00", 4);	/* 1700000000 */
	OK(sp_note_line(&w, sp_span_of(blob, 72), &note));
	OK(sp_note_parse(sp_buf_span(&note), &n));
	OK(sp_note_check(&n, &k, &i, NULL));
	cr_assert_eq(i, 0u);
	OK(sp_note_check(&n, &w, &i, &at));
	cr_assert(i == 1 && at == 1700000000);
	OK(sp_checkpoint_parse(n.text, &d));
	cr_assert(d.size == 7 && strcmp(d.origin, c.origin) == 0);
	/* Each byte that counts is covered. */
	for (size_t b = 0; b < text.len; b++) {
		note.p[note.off + b] ^= 1;
		if (sp_note_parse(sp_buf_span(&note), &n) == SP_OK)
			cr_assert_eq(sp_note_check(&n, &k, NULL, NULL),
			    SP_ERR_CRYPTO, "%zu", b);
		note.p[note.off + b] ^= 1;
	}
	OK(sp_note_parse(sp_buf_span(&note), &n));
	w.id[0] ^= 1;
	cr_assert_eq(sp_note_check(&n, &w, NULL, NULL), SP_ERR_NOTFOUND);
	w.id[0] ^= 1;
	n.sig[1].blob[3] ^= 1;		/* another time */
	cr_assert_eq(sp_note_check(&n, &w, NULL, NULL), SP_ERR_CRYPTO);
}

static const char *const bad_checkpoints[] = {"", "a\n", "a\n1\n", "a\n01\n"
    "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n", "a b\n1\n"
    "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n", "a\n-1\n"
    "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n", "a\n1\n"
    "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2J=\n", "a\n1\n"
    "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I\n", "a\n99999999999999999999\n"
    "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n", "\n1\n"
    "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"};

Test(tlog, what_is_no_checkpoint_is_refused)
{
	struct sp_checkpoint c;

	for (size_t i = 0; i < sizeof(bad_checkpoints) / sizeof(char *); i++)
		cr_assert_neq(sp_checkpoint_parse(sp_span_str(bad_checkpoints[i]),
		    &c), SP_OK, "%zu", i);
}

Test(tlog, leaves_come_back_as_they_were_and_their_signatures_count)
{
	uint8_t vpk[32], vsk[64], pk[32], sk[64], body[88] = {1, 2, 3};
	struct sp_leaf l = {.type = SP_LEAF_OPEN, .at_us = 5, .opened_us = 77}, d;
	SP_BUF_AUTO t = {.max = 2048};
	SP_BUF_AUTO e = {.max = 2048};

	cr_assert_geq(sodium_init(), 0);
	crypto_sign_keypair(vpk, vsk);
	crypto_sign_keypair(pk, sk);
	memcpy(l.rec_key, pk, 32);
	memset(l.session, 7, 16);
	OK(sp_signed_recording(&t, l.session, l.rec_key, l.header_hash, 77));
	crypto_sign_detached(l.signature, NULL, t.p + t.off, t.len, vsk);
	OK(sp_leaf_encode(&l, &e));
	OK(sp_leaf_decode(sp_buf_span(&e), &d));
	OK(sp_leaf_check_open(&d, vpk));
	cr_assert_eq(sp_leaf_check_open(&d, pk), SP_ERR_CRYPTO);
	for (size_t i = 12; i < e.len; i++) {
		e.p[e.off + i] ^= 1;
		if (sp_leaf_decode(sp_buf_span(&e), &d) == SP_OK)
			cr_assert_eq(sp_leaf_check_open(&d, vpk), SP_ERR_CRYPTO);
		e.p[e.off + i] ^= 1;
	}
	l.type = SP_LEAF_CHECKPOINT;
	l.head[0] = 88;
	l.head[4] = 3;
	l.head[12] = 9;
	l.body = sp_span_of(body, 88);
	sp_buf_reset(&t);
	OK(sp_signed_chunk(&t, l.prev, l.head, sp_span_of(body, 24)));
	crypto_sign_detached(body + 24, NULL, t.p + t.off, t.len, sk);
	sp_buf_reset(&e);
	OK(sp_leaf_encode(&l, &e));
	OK(sp_leaf_decode(sp_buf_span(&e), &d));
	cr_assert_eq(d.seq, 9u);
	OK(sp_leaf_check_chunk(&d, pk, vpk));
	cr_assert_eq(sp_leaf_check_chunk(&d, vpk, vpk), SP_ERR_CRYPTO);
	e.p[e.off + 1] = SP_LEAF_CLOSE;	/* a CLOSE is no CHECKPOINT */
	cr_assert_eq(sp_leaf_decode(sp_buf_span(&e), &d), SP_ERR_PROTO);
}
