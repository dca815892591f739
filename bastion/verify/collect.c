/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes an evidence bundle: what is in the manifest first, whose digest is printed
 * on standard output. Whoever asked has that put into the log as a leaf and says
 * so on standard input; when a signed head covers it, the proofs follow.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bastion/verify/bundle.h"
#include "common/sort.h"

#define PUBLISHED_MAX 4		/* checkpoints that are kept */
#define WAIT_US INT64_C(120000000)

struct collect {
	char session[SP_UUID_TEXT];
	uint8_t id[16], key[32], digest[32];
	int log, recording, out;
	uint64_t recording_bytes;
	struct bundle_text text[BUNDLE_MEMBERS];
	size_t n;
	struct sp_buf rows, manifest, note, proofs, ways;
	uint8_t (*event)[32];	/* hashes, sorted */
	size_t n_events;
	uint64_t published[PUBLISHED_MAX];
	size_t n_published;
	struct sp_checkpoint head;
	bool has_seal;		/* the manifest's leaf is among the proofs */
};

static struct sp_buf *
add(struct collect *c, const char *name)
{
	struct bundle_text *t = &c->text[c->n++];

	SP_ASSERT(c->n <= BUNDLE_MEMBERS);
	snprintf(t->name, sizeof(t->name), "%s", name);
	sp_buf_init(&t->b, BUNDLE_TEXT_MAX);
	return &t->b;
}

/* --------------------------------------------------------- what is given in */

static enum sp_err
read_all(int fd, struct sp_buf *b)
{
	uint8_t *at;
	ssize_t k;

	do {
		SP_TRY(sp_buf_reserve(b, 65536, &at));
		while ((k = read(fd, at, 65536)) < 0 && errno == EINTR)
			;
		if (k > 0)
			sp_buf_commit(b, (size_t)k);
	} while (k > 0);
	return k == 0 ? SP_OK : SP_ERR_IO;
}

static int
by_hash(const void *a, const void *b)
{
	return memcmp(a, b, 32);
}

/* The hash of an event: of the hash before it and its canonical form. */
static enum sp_err
event_hash(struct sp_span line, uint8_t hash[static 32])
{
	SP_BUF_AUTO canon = {.max = 2u << 20};
	crypto_hash_sha256_state st;
	uint8_t before[32];

	(void)bundle_word(&line);	/* "event" */
	(void)bundle_word(&line);	/* node */
	(void)bundle_word(&line);	/* number */
	SP_TRY(sp_unhex(before, 32, bundle_word(&line)));
	SP_TRY(sp_unbase64(&canon, line));
	crypto_hash_sha256_init(&st);
	crypto_hash_sha256_update(&st, before, 32);
	crypto_hash_sha256_update(&st, sp_buf_span(&canon).p, canon.len);
	crypto_hash_sha256_final(&st, hash);
	return SP_OK;
}

/* "session ID", "facts JSON", "event ..." as the broker says them. */
static enum sp_err
take_rows(struct collect *c)
{
	struct sp_buf *facts = add(c, "session.json"), *audit = add(c, "audit.txt");
	struct sp_span s = sp_buf_span(&c->rows), line, all;
	size_t cap = 0;

	for (size_t i = 0; i < s.n; i++)
		cap += s.p[i] == '\n';
	if ((c->event = calloc(cap + 1, 32)) == NULL)
		return SP_ERR_NOMEM;
	while (s.n > 0) {
		SP_TRY(bundle_line(&s, &line));
		all = line;
		if (sp_span_is(bundle_word(&line), "facts")) {
			SP_TRY(sp_buf_put(facts, line.p, line.n));
			SP_TRY(sp_buf_put_u8(facts, '\n'));
		} else if (all.n > 6 && memcmp(all.p, "event ", 6) == 0) {
			SP_TRY(event_hash(all, c->event[c->n_events++]));
			SP_TRY(sp_buf_put(audit, all.p, all.n));
			SP_TRY(sp_buf_put_u8(audit, '\n'));
		}
	}
	sp_sort(c->event, c->n_events, 32, by_hash);
	return SP_OK;
}

/* ------------------------------------------------------------ what was published */

/* The last few that are there; names are numbers of 13 digits. */
static enum sp_err
take_published(struct collect *c)
{
	int fd = openat(c->log, "checkpoints", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	enum sp_err err = SP_OK;

	if (d == NULL) {
		if (fd >= 0)
			close(fd);
		return SP_OK;	/* none was published yet */
	}
	while ((e = readdir(d)) != NULL) {
		uint64_t n = 0;
		size_t at = c->n_published;

		if (strlen(e->d_name) != 13 || sp_u64_parse(sp_span_str(e->d_name),
		    SP_TLOG_SIZE_MAX, &n) != SP_OK || n == 0)
			continue;
		if (at == PUBLISHED_MAX && n < c->published[0])
			continue;
		if (at == PUBLISHED_MAX)
			memmove(c->published, c->published + 1, --at *
			    sizeof(n));
		for (; at > 0 && c->published[at - 1] > n; at--)
			c->published[at] = c->published[at - 1];
		c->published[at] = n;
		c->n_published += c->n_published < PUBLISHED_MAX;
	}
	for (size_t i = 0; i < c->n_published && err == SP_OK; i++) {
		char file[24], name[40];

		snprintf(file, sizeof(file), "%013" PRIu64, c->published[i]);
		snprintf(name, sizeof(name), "published/%s", file);
		err = sp_tlog_read(fd, file, SP_NOTE_MAX, add(c, name));
		snprintf(file, sizeof(file), "%013" PRIu64 ".tsr", c->published[i]);
		snprintf(name, sizeof(name), "published/%s", file);
		if (err == SP_OK && faccessat(fd, file, R_OK, 0) == 0)
			err = sp_tlog_read(fd, file, 65536, add(c, name));
	}
	closedir(d);
	return err;
}

/* ---------------------------------------------------------------- the manifest */

static enum sp_err
digest_file(int fd, uint64_t size, uint8_t out[static 32])
{
	static uint8_t piece[1u << 18];
	crypto_hash_sha256_state st;
	uint64_t off = 0;

	crypto_hash_sha256_init(&st);
	while (off < size) {
		size_t want = size - off < sizeof(piece) ? (size_t)(size - off) :
		    sizeof(piece);
		ssize_t k = pread(fd, piece, want, (off_t)off);

		if (k <= 0)
			return SP_ERR_IO;
		crypto_hash_sha256_update(&st, piece, (size_t)k);
		off += (uint64_t)k;
	}
	crypto_hash_sha256_final(&st, out);
	return SP_OK;
}

static enum sp_err
manifest_line(struct collect *c, const uint8_t hash[static 32], const char *name)
{
	char hex[65];

	sp_hex(hex, hash, 32);
	return sp_buf_printf(&c->manifest, "%s  %s\n", hex, name);
}

static enum sp_err
manifest(struct collect *c)
{
	struct sp_buf *b = add(c, "README.txt");
	uint8_t hash[32];
	char hex[65];

	SP_TRY(bundle_readme(b, c->session));
	SP_TRY(take_rows(c));
	sp_hex(hex, c->key, 32);
	SP_TRY(sp_buf_printf(add(c, "audit-key.hex"), "%s\n", hex));
	SP_TRY(bundle_pem(add(c, "audit-key.pem"), c->key));
	SP_TRY(take_published(c));
	SP_TRY(digest_file(c->recording, c->recording_bytes, hash));
	SP_TRY(manifest_line(c, hash, "recording.spr"));
	for (size_t i = 0; i < c->n; i++) {
		struct sp_span s = sp_buf_span(&c->text[i].b);

		crypto_hash_sha256(hash, s.p, s.n);
		SP_TRY(manifest_line(c, hash, c->text[i].name));
	}
	crypto_hash_sha256(c->digest, sp_buf_span(&c->manifest).p, c->manifest.len);
	return SP_OK;
}

/* ---------------------------------------------------------------------- proofs */

static bool
is_wanted(struct collect *c, const struct sp_leaf *l)
{
	if (l->type == SP_LEAF_AUDIT)
		return bsearch(l->hash, c->event, c->n_events, 32, by_hash) != NULL;
	if (memcmp(l->session, c->id, 16) != 0)
		return false;
	if (l->type == SP_LEAF_ACT && l->act == SP_ACT_EXPORT &&
	    memcmp(l->hash, c->digest, 32) == 0)
		c->has_seal = true;
	return true;
}

static enum sp_err
prove_bundle(struct collect *c, const struct sp_tlog_source *src, uint64_t n)
{
	SP_BUF_AUTO text = {.max = SP_TLOG_BUNDLE_MAX + 8192};
	uint64_t index = n * SP_TLOG_TILE;
	struct sp_tlog_proof p;
	struct sp_span s, e;
	struct sp_leaf l;

	SP_TRY(sp_tlog_bundle(c->log, n, c->head.size, &text));
	for (s = sp_buf_span(&text); sp_tlog_bundle_next(&s, &e) == SP_OK; index++) {
		if (sp_leaf_decode(e, &l) != SP_OK || !is_wanted(c, &l))
			continue;
		SP_TRY(sp_tlog_prove_inclusion(src, index, c->head.size, &p));
		SP_TRY(bundle_inclusion(&c->proofs, index, c->head.size, e, &p));
	}
	return SP_OK;
}

/* Of one head that is there now; has_seal says whether it covers the manifest. */
static enum sp_err
prove(struct collect *c)
{
	SP_BUF_AUTO raw = {.max = SP_NOTE_MAX + 8192};
	struct sp_tlog_source src;
	struct sp_tlog_dir *dir;
	struct sp_tlog_proof p;
	enum sp_err e = SP_OK;

	sp_buf_reset(&c->note);
	sp_buf_reset(&c->proofs);
	sp_buf_reset(&c->ways);
	c->has_seal = false;
	SP_TRY(sp_tlog_read(c->log, "checkpoint", SP_NOTE_MAX, &raw));
	SP_TRY(bundle_note(sp_buf_span(&raw), c->key, &c->head, &c->note));
	if ((dir = sp_tlog_dir_new(c->log, c->head.size)) == NULL)
		return SP_ERR_NOMEM;
	src = sp_tlog_dir_source(dir);
	for (uint64_t n = 0; e == SP_OK && n * SP_TLOG_TILE < c->head.size; n++)
		e = prove_bundle(c, &src, n);
	for (size_t i = 0; e == SP_OK && i < c->n_published; i++) {
		e = sp_tlog_prove_consistency(&src, c->published[i], c->head.size,
		    &p);
		if (e == SP_OK)
			e = bundle_consistency(&c->ways, c->published[i],
			    c->head.size, &p);
	}
	free(dir);
	return e;
}

/* The log goes on while it is read: a partial tile that is gone is no harm. */
static enum sp_err
prove_in_time(struct collect *c)
{
	int64_t until = sp_boot_us() + WAIT_US;
	enum sp_err e;

	while ((e = prove(c)) != SP_OK || !c->has_seal) {
		if (sp_boot_us() > until)
			return e != SP_OK ? e : SP_ERR_TIMEOUT;
		(void)poll(NULL, 0, 200);
	}
	return SP_OK;
}

/* -------------------------------------------------------------------- archive */

static enum sp_err
put(struct collect *c, const char *name, struct sp_span s)
{
	char path[TAR_NAME_MAX + 1];

	snprintf(path, sizeof(path), "%s/%.50s", c->session, name);
	return tar_put(c->out, path, s);
}

static enum sp_err
archive(struct collect *c)
{
	char path[TAR_NAME_MAX + 1];

	SP_TRY(put(c, c->text[0].name, sp_buf_span(&c->text[0].b)));
	SP_TRY(put(c, "MANIFEST.sha256", sp_buf_span(&c->manifest)));
	snprintf(path, sizeof(path), "%s/recording.spr", c->session);
	SP_TRY(tar_put_file(c->out, path, c->recording, c->recording_bytes));
	for (size_t i = 1; i < c->n; i++)
		SP_TRY(put(c, c->text[i].name, sp_buf_span(&c->text[i].b)));
	SP_TRY(put(c, "checkpoint", sp_buf_span(&c->note)));
	SP_TRY(put(c, "proofs.txt", sp_buf_span(&c->proofs)));
	SP_TRY(put(c, "consistency.txt", sp_buf_span(&c->ways)));
	SP_TRY(tar_end(c->out));
	return fsync(c->out) == 0 || errno == EINVAL ? SP_OK : SP_ERR_IO;
}

static int
run(struct collect *c, const char *path)
{
	char hex[65], go;
	enum sp_err e = manifest(c);

	if (e != SP_OK)
		return fail("what belongs into it: %s", sp_err_text(e));
	sp_hex(hex, c->digest, 32);
	printf("%s\n", hex);
	if (fflush(stdout) != 0 || read(STDIN_FILENO, &go, 1) != 1)
		return 2;	/* whoever asked says why */
	if ((e = prove_in_time(c)) != SP_OK)
		return fail("proofs: %s", e == SP_ERR_TIMEOUT ? "no signed head of "
		    "the log covers it yet" : sp_err_text(e));
	if ((e = archive(c)) != SP_OK)
		return fail("%s: %s", path, sp_err_text(e));
	return 0;
}

int
bundle_collect(int argc, char **argv)
{
	static struct collect c = {.log = -1, .recording = -1, .out = -1};
	const char *key = option(&argc, argv, "--key");
	const char *log = option(&argc, argv, "--log");
	const char *rec = option(&argc, argv, "--recording");
	const char *rows = option(&argc, argv, "--rows");
	const char *out = option(&argc, argv, "--out");
	struct sp_buf *const bufs[] = {&c.rows, &c.manifest, &c.note, &c.proofs,
	    &c.ways};
	struct stat st;
	int fd = -1;

	for (size_t i = 0; i < sizeof(bufs) / sizeof(bufs[0]); i++)
		sp_buf_init(bufs[i], BUNDLE_TEXT_MAX);
	if (argc != 2 || key == NULL || log == NULL || rec == NULL ||
	    rows == NULL || out == NULL || key_read(key, c.key) != SP_OK ||
	    sp_uuid_parse(c.id, sp_span_str(argv[1])) != SP_OK)
		return fail("usage: sallyport-verify collect SESSION --key HEX|FILE "
		    "--log DIR --recording FILE --rows FILE --out FILE");
	sp_uuid_text(c.session, c.id);
	c.log = open(log, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	c.recording = open(rec, O_RDONLY | O_CLOEXEC);
	if (c.log < 0 || c.recording < 0 || fstat(c.recording, &st) != 0)
		return fail("%s: %s", c.log < 0 ? log : rec, strerror(errno));
	c.recording_bytes = (uint64_t)st.st_size;
	if ((fd = open(rows, O_RDONLY | O_CLOEXEC)) < 0 ||
	    read_all(fd, &c.rows) != SP_OK)
		return fail("%s: %s", rows, strerror(errno));
	close(fd);
	c.out = open(out, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (c.out < 0)
		return fail("%s: %s", out, strerror(errno));
	fd = run(&c, out);
	if (fd != 0)
		(void)!unlink(out);
	return fd;
}
