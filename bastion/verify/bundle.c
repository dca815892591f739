/* SPDX-License-Identifier: Apache-2.0 */
/* Judges an evidence bundle. Every byte of it is compared with one that is made
 * anew, covered by a digest that is, or proved by a signature. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bastion/player/player.h"
#include "bastion/verify/bundle.h"
#include "common/sort.h"

struct bundle {
	int fd, recording;
	char session[SP_UUID_TEXT];
	uint8_t id[16], key[32], manifest[32];
	struct tar_member m[BUNDLE_MEMBERS + 1];
	size_t n;
	struct sp_checkpoint head;
	struct sp_rec_report report;
	struct sp_leaf open;		/* of proofs.txt */
	bool has_open, has_end, has_seal, has_key;
	uint8_t end_chain[32];
	uint8_t (*leaf)[32];		/* of events, sorted */
	size_t n_leaves;
	uint64_t last_index;		/* of the leaf of its newest point */
	struct bundle_witnesses witnesses;
	uint64_t n_proofs, n_points, n_acts, n_events, n_logged, n_published;
	int64_t sealed_us;
	char why[400];
};

static enum sp_err
bad(struct bundle *b, const char *fmt, ...) SP_PRINTF(2, 3);
static enum sp_err
bad(struct bundle *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (b->why[0] == '\0')
		vsnprintf(b->why, sizeof(b->why), fmt, ap);
	va_end(ap);
	return SP_ERR_CRYPTO;
}

/* -------------------------------------------------------------------- members */

/* b->n: there is none. */
static size_t
place_of(const struct bundle *b, const char *name)
{
	size_t i;

	for (i = 0; i < b->n; i++)
		if (strcmp(b->m[i].name + SP_UUID_TEXT, name) == 0)
			break;
	return i;
}

static enum sp_err
text_of(struct bundle *b, const char *name, struct sp_buf *out)
{
	size_t i = place_of(b, name);
	const struct tar_member *m = &b->m[i];
	uint8_t *at;

	if (i == b->n)
		return bad(b, "%s is missing", name);
	if (m->size > BUNDLE_TEXT_MAX)
		return bad(b, "%s is too large", name);
	if (m->size == 0)
		return SP_OK;
	SP_TRY(sp_buf_reserve(out, (size_t)m->size, &at));
	if (pread(b->fd, at, (size_t)m->size, (off_t)m->off) != (ssize_t)m->size)
		return bad(b, "%s cannot be read", name);
	sp_buf_commit(out, (size_t)m->size);
	return SP_OK;
}

static bool
is_published(const char *name)
{
	size_t n = strlen(name);

	if (strncmp(name, "published/", 10) != 0 || strspn(name + 10,
	    "0123456789") != 13)
		return false;
	return n == 23 || (n == 27 && strcmp(name + 23, ".tsr") == 0);
}

/* All that must be there, in their order, and nothing else. */
static enum sp_err
order(struct bundle *b)
{
	static const char *const before[] = {"README.txt", "MANIFEST.sha256",
	    "recording.spr", "session.json", "audit.txt", "audit-key.hex",
	    "audit-key.pem"};
	static const char *const after[] = {"checkpoint", "proofs.txt",
	    "consistency.txt"};
	const size_t n_before = 7, n_after = 3;

	if (b->n < n_before + n_after)
		return bad(b, "a member is missing");
	for (size_t i = 0; i < b->n; i++) {
		const char *name = b->m[i].name + SP_UUID_TEXT;
		const char *want = i < n_before ? before[i] : i >= b->n - n_after ?
		    after[i - (b->n - n_after)] : NULL;

		if (strncmp(b->m[i].name, b->session, SP_UUID_TEXT - 1) != 0 ||
		    b->m[i].name[SP_UUID_TEXT - 1] != '/')
			return bad(b, "a member of something else is in it");
		if (want != NULL ? strcmp(name, want) != 0 : !is_published(name))
			return bad(b, "%s stands where %s belongs", name, want !=
			    NULL ? want : "a published checkpoint");
	}
	return SP_OK;
}

static enum sp_err
digest(struct bundle *b, const struct tar_member *m, uint8_t out[static 32])
{
	static uint8_t piece[1u << 18];
	crypto_hash_sha256_state st;

	crypto_hash_sha256_init(&st);
	for (uint64_t off = 0; off < m->size;) {
		size_t want = m->size - off < sizeof(piece) ?
		    (size_t)(m->size - off) : sizeof(piece);
		ssize_t k = pread(b->fd, piece, want, (off_t)(m->off + off));

		if (k <= 0)
			return bad(b, "%s cannot be read", m->name);
		crypto_hash_sha256_update(&st, piece, (size_t)k);
		off += (uint64_t)k;
	}
	crypto_hash_sha256_final(&st, out);
	return SP_OK;
}

/* The manifest is made anew, in the order in which it is written. */
static enum sp_err
check_manifest(struct bundle *b)
{
	static const size_t first[] = {2, 0};	/* recording.spr, README.txt */
	SP_BUF_AUTO want = {.max = BUNDLE_TEXT_MAX};
	SP_BUF_AUTO has = {.max = BUNDLE_TEXT_MAX};
	uint8_t hash[32];
	char hex[65];

	for (size_t i = 0; i + 3 + 1 < b->n; i++) {
		const struct tar_member *m = &b->m[i < 2 ? first[i] : i + 1];

		SP_TRY(digest(b, m, hash));
		sp_hex(hex, hash, 32);
		SP_TRY(sp_buf_printf(&want, "%s  %s\n", hex, m->name +
		    SP_UUID_TEXT));
	}
	SP_TRY(text_of(b, "MANIFEST.sha256", &has));
	if (!sp_span_eq(sp_buf_span(&want), sp_buf_span(&has)))
		return bad(b, "the members are not those of the manifest");
	crypto_hash_sha256(b->manifest, sp_buf_span(&has).p, has.len);
	return SP_OK;
}

static enum sp_err
check_key(struct bundle *b)
{
	SP_BUF_AUTO hex = {.max = 4096};
	SP_BUF_AUTO pem = {.max = 4096};
	SP_BUF_AUTO again = {.max = 4096};
	struct sp_span s, line;
	uint8_t key[32];

	SP_TRY(text_of(b, "audit-key.hex", &hex));
	SP_TRY(text_of(b, "audit-key.pem", &pem));
	s = sp_buf_span(&hex);
	if (bundle_line(&s, &line) != SP_OK || s.n != 0 ||
	    sp_unhex(key, 32, line) != SP_OK)
		return bad(b, "audit-key.hex is no key");
	if (b->has_key && memcmp(key, b->key, 32) != 0)
		return bad(b, "it is of another bastion: its audit key is not the "
		    "one that was given");
	memcpy(b->key, key, 32);
	SP_TRY(bundle_pem(&again, key));
	return sp_span_eq(sp_buf_span(&pem), sp_buf_span(&again)) ? SP_OK :
	    bad(b, "audit-key.pem is another key");
}

/* --------------------------------------------------------------------- proofs */

static enum sp_err
take_leaf(struct bundle *b, const struct sp_leaf *l, uint64_t index)
{
	if (l->type == SP_LEAF_AUDIT) {
		memcpy(b->leaf[b->n_leaves++], l->hash, 32);
		return SP_OK;
	}
	if (memcmp(l->session, b->id, 16) != 0)
		return bad(b, "proofs.txt has a leaf of another session");
	if (l->type == SP_LEAF_ACT) {
		b->n_acts++;
		if (l->act == SP_ACT_EXPORT && memcmp(l->hash, b->manifest, 32) ==
		    0) {
			b->has_seal = true;
			b->sealed_us = l->at_us;
		}
		return SP_OK;
	}
	if (l->type == SP_LEAF_OPEN) {
		if (sp_leaf_check_open(l, b->key) != SP_OK)
			return bad(b, "the vault did not certify this recording");
		b->open = *l;
		b->has_open = true;
		b->last_index = index;
		return SP_OK;
	}
	if (!b->has_open || sp_leaf_check_chunk(l, b->open.rec_key, b->key) != SP_OK)
		return bad(b, "a point of the recording is not signed");
	b->n_points++;
	if (index > b->last_index)
		b->last_index = index;
	if (l->type != SP_LEAF_CHECKPOINT) {
		b->has_end = true;
		memcpy(b->end_chain, l->hash, 32);
	}
	return SP_OK;
}

/* One block: parsed, proved, written again. */
static enum sp_err
take_proof(struct bundle *b, struct sp_span *s, struct sp_buf *again)
{
	SP_BUF_AUTO entry = {.max = SP_TLOG_ENTRY_MAX * 2};
	SP_BUF_AUTO hash = {.max = 64};
	struct sp_tlog_proof p = {.n = 0};
	uint64_t index = 0, size = 0;
	struct sp_span line;
	struct sp_leaf l;
	uint8_t leaf[32];

	SP_TRY(bundle_line(s, &line));
	(void)bundle_word(&line);
	SP_TRY(sp_u64_parse(bundle_word(&line), SP_TLOG_SIZE_MAX, &index));
	SP_TRY(sp_u64_parse(bundle_word(&line), SP_TLOG_SIZE_MAX, &size));
	SP_TRY(bundle_line(s, &line));
	SP_TRY(sp_unbase64(&entry, line));
	while (bundle_line(s, &line) == SP_OK && line.n > 0) {
		sp_buf_reset(&hash);
		SP_TRY(sp_unbase64(&hash, line));
		if (p.n == SP_TLOG_PROOF_MAX || hash.len != 32)
			return SP_ERR_PROTO;
		memcpy(p.h[p.n++], sp_buf_span(&hash).p, 32);
	}
	SP_TRY(bundle_inclusion(again, index, size, sp_buf_span(&entry), &p));
	sp_tlog_leaf_hash(sp_buf_span(&entry), leaf);
	if (size != b->head.size || sp_tlog_check_inclusion(&p, index, size, leaf,
	    b->head.root) != SP_OK)
		return bad(b, "leaf %" PRIu64 " is not in the log", index);
	SP_TRY(sp_leaf_decode(sp_buf_span(&entry), &l));
	b->n_proofs++;
	return take_leaf(b, &l, index);
}

static int
by_hash(const void *x, const void *y)
{
	return memcmp(x, y, 32);
}

static enum sp_err
check_proofs(struct bundle *b)
{
	SP_BUF_AUTO has = {.max = BUNDLE_TEXT_MAX};
	SP_BUF_AUTO again = {.max = BUNDLE_TEXT_MAX};
	struct sp_span s;

	SP_TRY(text_of(b, "proofs.txt", &has));
	/* A block has an entry and four lines at least. */
	if ((b->leaf = calloc(has.len / 64 + 1, 32)) == NULL)
		return SP_ERR_NOMEM;
	for (s = sp_buf_span(&has); s.n > 0;)
		if (take_proof(b, &s, &again) != SP_OK)
			return bad(b, "proofs.txt is damaged");
	if (!sp_span_eq(sp_buf_span(&has), sp_buf_span(&again)))
		return bad(b, "proofs.txt was changed");
	if (!b->has_open)
		return bad(b, "the log does not have this recording's OPEN");
	if (!b->has_seal)
		return bad(b, "the log does not have this manifest: it was made "
		    "anew, or by somebody else");
	sp_sort(b->leaf, b->n_leaves, 32, by_hash);
	return SP_OK;
}

static enum sp_err
check_head(struct bundle *b)
{
	SP_BUF_AUTO has = {.max = BUNDLE_TEXT_MAX};
	SP_BUF_AUTO again = {.max = SP_NOTE_MAX + 8192};

	SP_TRY(text_of(b, "checkpoint", &has));
	if (bundle_note(sp_buf_span(&has), b->key, &b->head, &again) != SP_OK ||
	    !sp_span_eq(sp_buf_span(&has), sp_buf_span(&again)))
		return bad(b, "checkpoint is not signed by this audit key");
	return SP_OK;
}

static enum sp_err
check_cosigned(struct bundle *b, const char *name, struct sp_span note,
    uint64_t size)
{
	const char *by = "";

	if (bundle_witness_head(&b->witnesses, note, size, &by) == SP_OK)
		return SP_OK;
	return bad(b, "%s has a cosignature of %s that is false", name, by);
}

static enum sp_err
check_witnesses(struct bundle *b)
{
	const struct bundle_witness *w = bundle_witness_lacks(&b->witnesses,
	    b->last_index);

	if (w == NULL)
		return SP_OK;
	return w->heads == 0 ? bad(b, "%s has cosigned none of its heads",
	    w->key.name) : bad(b, "%s has cosigned no head that has this "
	    "recording's end: the newest is of %" PRIu64 " leaves, and that is leaf "
	    "%" PRIu64, w->key.name, w->newest, b->last_index);
}

/* Each published head is a beginning of the one that all proofs lead to. */
static enum sp_err
take_way(struct bundle *b, struct sp_span *s, struct sp_buf *again,
    const struct sp_checkpoint *from)
{
	SP_BUF_AUTO hash = {.max = 64};
	struct sp_tlog_proof p = {.n = 0};
	struct sp_span line;

	SP_TRY(bundle_line(s, &line));
	while (bundle_line(s, &line) == SP_OK && line.n > 0) {
		sp_buf_reset(&hash);
		SP_TRY(sp_unbase64(&hash, line));
		if (p.n == SP_TLOG_PROOF_MAX || hash.len != 32)
			return SP_ERR_PROTO;
		memcpy(p.h[p.n++], sp_buf_span(&hash).p, 32);
	}
	SP_TRY(bundle_consistency(again, from->size, b->head.size, &p));
	return sp_tlog_check_consistency(&p, from->size, from->root, b->head.size,
	    b->head.root);
}

static enum sp_err
check_published(struct bundle *b)
{
	SP_BUF_AUTO has = {.max = BUNDLE_TEXT_MAX};
	SP_BUF_AUTO again = {.max = BUNDLE_TEXT_MAX};
	struct sp_span s;

	SP_TRY(text_of(b, "consistency.txt", &has));
	s = sp_buf_span(&has);
	for (size_t i = 0; i < b->n; i++) {
		const char *name = b->m[i].name + SP_UUID_TEXT;
		SP_BUF_AUTO note = {.max = BUNDLE_TEXT_MAX};
		SP_BUF_AUTO one = {.max = SP_NOTE_MAX + 8192};
		struct sp_checkpoint c;

		if (!is_published(name) || strlen(name) != 23)
			continue;
		SP_TRY(text_of(b, name, &note));
		if (bundle_note(sp_buf_span(&note), b->key, &c, &one) != SP_OK)
			return bad(b, "%s is not signed by this audit key", name);
		if (take_way(b, &s, &again, &c) != SP_OK)
			return bad(b, "%s is no past of this log", name);
		SP_TRY(check_cosigned(b, name, sp_buf_span(&note), c.size));
		b->n_published++;
	}
	return sp_span_eq(sp_buf_span(&has), sp_buf_span(&again)) ?
	    check_witnesses(b) : bad(b, "consistency.txt was changed");
}

/* ------------------------------------------------------ events, and the recording */

static enum sp_err
check_events(struct bundle *b)
{
	SP_BUF_AUTO has = {.max = BUNDLE_TEXT_MAX};
	SP_BUF_AUTO canon = {.max = 2u << 20};
	struct sp_span s, line;

	SP_TRY(text_of(b, "audit.txt", &has));
	for (s = sp_buf_span(&has); s.n > 0; b->n_events++) {
		crypto_hash_sha256_state st;
		uint8_t before[32], hash[32];

		sp_buf_reset(&canon);
		if (bundle_line(&s, &line) != SP_OK ||
		    !sp_span_is(bundle_word(&line), "event"))
			return bad(b, "audit.txt is damaged");
		(void)bundle_word(&line);
		(void)bundle_word(&line);
		if (sp_unhex(before, 32, bundle_word(&line)) != SP_OK ||
		    sp_unbase64(&canon, line) != SP_OK)
			return bad(b, "audit.txt is damaged");
		crypto_hash_sha256_init(&st);
		crypto_hash_sha256_update(&st, before, 32);
		crypto_hash_sha256_update(&st, sp_buf_span(&canon).p, canon.len);
		crypto_hash_sha256_final(&st, hash);
		b->n_logged += bsearch(hash, b->leaf, b->n_leaves, 32, by_hash) !=
		    NULL;
	}
	return SP_OK;
}

static int scratch = -1;

/* What judges recordings reads them from their beginning: a file of its own, made
 * while files can still be made. */
void
bundle_prepare(void)
{
	static const char *const dirs[] = {"/var/tmp", "/tmp"};

	for (size_t i = 0; i < 2 && scratch < 0; i++)
		scratch = open(dirs[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (scratch < 0)
		scratch = memfd_create("recording", MFD_CLOEXEC);
}

static enum sp_err
extract(struct bundle *b, const struct tar_member *m)
{
	off_t from = (off_t)m->off, to = 0;
	uint64_t left = m->size;

	b->recording = scratch;
	while (b->recording >= 0 && left > 0) {
		static uint8_t piece[1u << 18];
		size_t want = left < sizeof(piece) ? (size_t)left : sizeof(piece);
		ssize_t k = pread(b->fd, piece, want, from);

		if (k <= 0 || pwrite(b->recording, piece, (size_t)k, to) != k)
			return bad(b, "no room for the recording: %s",
			    strerror(errno));
		from += k;
		to += k;
		left -= (uint64_t)k;
	}
	return b->recording < 0 ? bad(b, "no room for the recording") : SP_OK;
}

static enum sp_err
check_recording(struct bundle *b)
{
	struct sp_rec_file *f = NULL;
	bool is_same = false;

	SP_TRY(extract(b, &b->m[2]));
	sp_rec_verify(b->recording, b->key, b->has_end ? b->end_chain : NULL,
	    &b->report);
	if (sp_rec_file_open(b->recording, &f) == SP_OK)
		is_same = memcmp(b->open.header_hash, sp_rec_file_header_hash(f),
		    32) == 0 && memcmp(b->open.rec_key,
		    sp_rec_file_header(f)->rec_key, 32) == 0;
	sp_rec_file_close(f);
	if (!is_same)
		return bad(b, "the recording is not the one that the log has");
	if (!verdict_is_good(b->report.verdict))
		return bad(b, "the recording: %s: %s",
		    sp_rec_verdict_name(b->report.verdict), b->report.text);
	if (!b->has_end && b->report.verdict != SP_REC_OPEN)
		return bad(b, "the log does not have the recording's end");
	return SP_OK;
}

static enum sp_err
check(struct bundle *b)
{
	enum sp_err e = tar_list(b->fd, b->m, BUNDLE_MEMBERS, &b->n);

	if (e != SP_OK)
		return bad(b, e == SP_ERR_EOF ? "the archive is cut" : "it is not an "
		    "archive of this form, or was changed");
	if (b->n == 0 || strlen(b->m[0].name) < SP_UUID_TEXT ||
	    sp_uuid_parse(b->id, sp_span_of(b->m[0].name, SP_UUID_TEXT - 1)) !=
	    SP_OK)
		return bad(b, "it is no evidence bundle");
	sp_uuid_text(b->session, b->id);
	SP_TRY(order(b));
	SP_TRY(check_manifest(b));
	SP_TRY(check_key(b));
	SP_TRY(check_head(b));
	SP_TRY(check_proofs(b));
	SP_TRY(check_published(b));
	SP_TRY(check_events(b));
	return check_recording(b);
}

/* ----------------------------------------------------------------------- verdict */

static void
say(const struct bundle *b, bool good)
{
	char sealed[SP_TIME_TEXT], opened[SP_TIME_TEXT], last[SP_TIME_TEXT];

	if (!good) {
		printf("NOT GOOD: %s\n", sp_vis_str(b->why));
		return;
	}
	sp_time_text(sealed, b->sealed_us, false);
	sp_time_text(opened, b->report.opened_us, false);
	sp_time_text(last, b->report.last_us, false);
	printf("GOOD: evidence of session %s\n"
	    "recording   %s, %s to %s (UTC)\n"
	    "log         %s: %" PRIu64 " leaves; %" PRIu64 " proofs, %" PRIu64
	    " of signed points, %" PRIu64 " of acts\n"
	    "audit       %" PRIu64 " events, %" PRIu64 " of them leaves\n"
	    "archive     in the log since %s\n"
	    "published   %" PRIu64 " heads, all of this log's past\n", b->session,
	    sp_rec_verdict_name(b->report.verdict), opened, last,
	    sp_vis_str(b->head.origin), b->head.size, b->n_proofs, b->n_points,
	    b->n_acts, b->n_events, b->n_logged, sealed, b->n_published);
	bundle_witness_say(&b->witnesses, false);
	if (!b->has_key)
		printf("The key is the archive's own: compare audit-key.hex with the "
		    "bank's, or give that with --key.\n");
}

static void
say_json(const struct bundle *b, bool good)
{
	printf("{\"id\":\"%s\",\"good\":%s,\"key_is_given\":%s", b->session,
	    good ? "true" : "false", b->has_key ? "true" : "false");
	json_text(stdout, "verdict", good ? sp_rec_verdict_name(b->report.verdict) :
	    "forged");
	json_text(stdout, "text", b->why);
	printf(",\"proofs\":%" PRIu64 ",\"points\":%" PRIu64 ",\"acts\":%" PRIu64
	    ",\"events\":%" PRIu64 ",\"logged\":%" PRIu64 ",\"published\":%" PRIu64,
	    b->n_proofs, b->n_points, b->n_acts, b->n_events, b->n_logged,
	    b->n_published);
	bundle_witness_say(&b->witnesses, true);
	printf("}\n");
}

int
bundle_verify(int argc, char **argv)
{
	static struct bundle b = {.fd = -1, .recording = -1};
	const char *key = option(&argc, argv, "--key"), *witness;
	bool json = flag(&argc, argv, "--json"), good;

	while ((witness = option(&argc, argv, "--witness")) != NULL)
		if (bundle_witness_add(&b.witnesses, witness) != SP_OK)
			return fail("--witness wants a verifier key of a cosignature, "
			    "NAME+ID+KEY; at most %d of them", BUNDLE_WITNESSES_MAX);

	if (argc != 2)
		return fail("usage: sallyport-verify bundle FILE [--key HEX|FILE] "
		    "[--witness VKEY]... [--json]");
	if (key != NULL && key_read(key, b.key) != SP_OK)
		return fail("--key wants 64 hexadecimal digits, or a file with them");
	b.has_key = key != NULL;
	if ((b.fd = open(argv[1], O_RDONLY | O_CLOEXEC)) < 0)
		return fail("%s: %s", argv[1], strerror(errno));
	good = check(&b) == SP_OK;
	if (!good && b.why[0] == '\0')
		(void)bad(&b, "it is damaged");
	if (json)
		say_json(&b, good);
	else
		say(&b, good);
	free(b.leaf);
	close(b.fd);
	if (b.recording >= 0)
		close(b.recording);
	return fflush(stdout) != 0 ? 2 : good ? 0 : 1;
}
