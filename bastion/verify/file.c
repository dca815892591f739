/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "bastion/player/player.h"
#include "bastion/verify/verify.h"

static enum sp_rec_verdict
say(struct sp_rec_report *r, enum sp_rec_verdict v, const char *text)
{
	snprintf(r->text, sizeof(r->text), "%s", text);
	r->verdict = v;
	return v;
}

/* Whose recording it claims to be; what it is follows. */
static struct book_session *
claimed(struct book *b, int fd, bool *is_same)
{
	struct sp_rec_file *f = NULL;
	struct book_session *s = NULL;

	*is_same = false;
	if (sp_rec_file_open(fd, &f) != SP_OK)
		return NULL;
	s = book_find(b, sp_rec_file_header(f)->session);
	if (s != NULL)
		*is_same = memcmp(s->header_hash, sp_rec_file_header_hash(f), 32) ==
		    0 && memcmp(s->rec_key, sp_rec_file_header(f)->rec_key, 32) == 0;
	sp_rec_file_close(f);
	return s;
}

enum sp_rec_verdict
file_judge(struct book *b, int fd, struct sp_rec_report *r)
{
	bool is_same;
	struct book_session *s = claimed(b, fd, &is_same);

	sp_rec_verify(fd, b->key, s != NULL && is_same && s->has_point ? s->head :
	    NULL, r);
	if (r->verdict == SP_REC_UNKNOWN || r->verdict == SP_REC_FORGED)
		return r->verdict;
	if (s == NULL || !s->has_open)
		return say(r, SP_REC_UNKNOWN, "the transparency log has no such "
		    "recording");
	if (!is_same || s->is_torn)
		return say(r, SP_REC_FORGED, "it is not the recording that the "
		    "transparency log has under this name");
	if (s->is_deleted)
		return say(r, SP_REC_FORGED, "the transparency log says that it was "
		    "deleted: this is a copy that was put back");
	if (r->verdict == SP_REC_CUT && s->has_point)
		snprintf(r->text, sizeof(r->text), "the transparency log has %s, and "
		    "the file ends before it", s->end == SP_LEAF_CLOSE ? "its CLOSE" :
		    s->end == SP_LEAF_RECOVERED ? "its RECOVERED" :
		    "a later checkpoint");
	return r->verdict;
}

int
verify_file(int argc, char **argv)
{
	const char *key_arg = option(&argc, argv, "--key");
	const char *log = option(&argc, argv, "--log");
	const char *expect = option(&argc, argv, "--expect");
	bool json = flag(&argc, argv, "--json");
	SP_BUF_AUTO out = {.max = 16384};
	struct sp_rec_report r;
	struct book b = {.dir = -1};
	uint8_t key[32];
	int fd;

	if (argc != 2 || key_arg == NULL)
		return fail("usage: sallyport-verify file FILE --key HEX|FILE "
		    "[--log DIR [--expect CHECKPOINT]] [--json]");
	if (key_read(key_arg, key) != SP_OK)
		return fail("--key wants 64 hexadecimal digits, or a file with them");
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno != ENOENT)
		return fail("%s: %s", argv[1], strerror(errno));
	if (log != NULL && (book_open(&b, log, key, NULL) != SP_OK ||
	    (expect != NULL && book_expect(&b, expect) != SP_OK))) {
		memset(&r, 0, sizeof(r));
		say(&r, SP_REC_FORGED, "the transparency log itself: ");
		snprintf(r.text + strlen(r.text), sizeof(r.text) - strlen(r.text),
		    "%.250s", b.why);
	} else if (fd < 0) {
		memset(&r, 0, sizeof(r));
		say(&r, SP_REC_MISSING, "there is no such file");
	} else if (log != NULL) {
		file_judge(&b, fd, &r);
	} else {
		sp_rec_verify(fd, key, NULL, &r);
	}
	if (fd >= 0)
		close(fd);
	book_close(&b);
	if (verdict_print(&r, json, &out) != SP_OK ||
	    fwrite(out.p + out.off, 1, out.len, stdout) != out.len ||
	    fflush(stdout) != 0)
		return 2;
	return verdict_is_good(r.verdict) ? 0 : 1;
}
