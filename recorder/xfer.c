/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/xfer.h"

#include <stdio.h>
#include <string.h>

#include "common/text.h"

#define NOTE_VERSION 1
#define FLAGS_ALL 0x1fu

const char *
sp_xfer_op_name(uint8_t op)
{
	switch (op) {
#define SP_XFER_OP_CASE(name, num, text)                                      \
	case num:                                                             \
		return text;
	SP_XFER_OPS(SP_XFER_OP_CASE)
#undef SP_XFER_OP_CASE
	default:
		return "unknown";
	}
}

const char *
sp_xfer_result_name(uint32_t result)
{
	static const char *const names[] = {"ok", "eof", "no-such-file",
	    "denied-by-target", "failed", "bad-message", "no-connection",
	    "connection-lost", "unsupported"};

	if (result < sizeof(names) / sizeof(names[0]))
		return names[result];
	return result == SP_XFER_REFUSED ? "refused" : result == SP_XFER_CUT ?
	    "cut" : "failed";
}

/* ---------------------------------------------------------------- notes */

enum sp_err
sp_xfer_note_encode(struct sp_buf *b, const struct sp_xfer_note *n)
{
	SP_TRY(sp_buf_put_u8(b, NOTE_VERSION));
	SP_TRY(sp_buf_put_u8(b, n->op));
	SP_TRY(sp_buf_put_u8(b, n->dir));
	SP_TRY(sp_buf_put_u8(b, n->flags));
	SP_TRY(sp_buf_put_u32(b, n->file));
	SP_TRY(sp_buf_put_u32(b, n->result));
	SP_TRY(sp_buf_put_u64(b, n->offset));
	SP_TRY(sp_buf_put_u64(b, n->bytes));
	if ((n->flags & SP_XFER_HAS_HASH) != 0)
		SP_TRY(sp_buf_put(b, n->sha256, 32));
	SP_TRY(sp_buf_put_bytes(b, n->path));
	SP_TRY(sp_buf_put_bytes(b, n->path2));
	return sp_buf_put_bytes(b, n->text);
}

enum sp_err
sp_xfer_note_decode(struct sp_span s, struct sp_xfer_note *out)
{
	struct sp_xfer_note n = {0};
	const uint8_t *p;
	uint8_t version;

	SP_TRY(sp_get_u8(&s, &version));
	SP_TRY(sp_get_u8(&s, &n.op));
	SP_TRY(sp_get_u8(&s, &n.dir));
	SP_TRY(sp_get_u8(&s, &n.flags));
	SP_TRY(sp_get_u32(&s, &n.file));
	SP_TRY(sp_get_u32(&s, &n.result));
	SP_TRY(sp_get_u64(&s, &n.offset));
	SP_TRY(sp_get_u64(&s, &n.bytes));
	if (version != NOTE_VERSION || n.dir > 3 || (n.flags & ~FLAGS_ALL) != 0)
		return SP_ERR_PROTO;
	if ((n.flags & SP_XFER_HAS_HASH) != 0) {
		SP_TRY(sp_get(&s, 32, &p));
		memcpy(n.sha256, p, 32);
	}
	SP_TRY(sp_get_bytes(&s, SP_XFER_PATH_MAX * 2, &n.path));
	SP_TRY(sp_get_bytes(&s, SP_XFER_PATH_MAX * 2, &n.path2));
	SP_TRY(sp_get_bytes(&s, 1024, &n.text));
	if (s.n != 0)
		return SP_ERR_PROTO;
	*out = n;
	return SP_OK;
}

/* --------------------------------------------------------------- limits */

bool
sp_xfer_within(const struct sp_xfer_session *s, uint64_t end, uint64_t n,
    char *why, size_t n_why)
{
	const struct sp_rules *r = s->rules;

	why[0] = '\0';
	if (r->file_max != 0 && end > r->file_max) {
		snprintf(why, n_why, "more than the %llu bytes that one file may "
		    "have in this session", (unsigned long long)r->file_max);
		return false;
	}
	if (r->session_max != 0 && (n > r->session_max ||
	    s->bytes > r->session_max - n)) {
		snprintf(why, n_why, "more than the %llu bytes that all files may "
		    "have in this session", (unsigned long long)r->session_max);
		return false;
	}
	return true;
}

bool
sp_xfer_has_patterns(const struct sp_rules *r, uint32_t ops)
{
	for (size_t i = 0; i < r->n_path; i++)
		if ((r->path[i].ops & ops) != 0)
			return true;
	return false;
}

/* ---------------------------------------------------------------- paths */

/* Adds the parts of path behind what out holds, without a slash at its end. */
static enum sp_err
add_parts(struct sp_buf *out, struct sp_span path)
{
	for (size_t i = 0; i < path.n;) {
		size_t from, n;

		while (i < path.n && path.p[i] == '/')
			i++;
		from = i;
		while (i < path.n && path.p[i] != '/')
			i++;
		n = i - from;
		if (n == 0 || (n == 1 && path.p[from] == '.'))
			continue;
		if (n == 2 && memcmp(path.p + from, "..", 2) == 0) {
			while (out->len > 0 && out->p[out->off + --out->len] != '/')
				;
			continue;
		}
		SP_TRY(sp_buf_put_u8(out, '/'));
		SP_TRY(sp_buf_put(out, path.p + from, n));
	}
	return SP_OK;
}

enum sp_err
sp_xfer_abs(struct sp_buf *out, struct sp_span dir, struct sp_span path)
{
	out->off = out->len = 0;
	if (path.n > SP_XFER_PATH_MAX)
		return SP_ERR_TOOBIG;
	if (path.n > 0 && memchr(path.p, '\0', path.n) != NULL)
		return SP_ERR_INVAL;
	if (path.n == 0 || path.p[0] != '/') {
		if (dir.n == 0 || dir.p[0] != '/')
			return SP_ERR_INVAL;
		SP_TRY(add_parts(out, dir));
	}
	SP_TRY(add_parts(out, path));
	return out->len == 0 ? sp_buf_put_u8(out, '/') : SP_OK;
}

struct sp_span
sp_xfer_dirname(struct sp_span path)
{
	while (path.n > 1 && path.p[path.n - 1] != '/')
		path.n--;
	while (path.n > 1 && path.p[path.n - 1] == '/')
		path.n--;
	return path;
}

struct sp_span
sp_xfer_basename(struct sp_span path)
{
	size_t at = path.n;

	while (at > 0 && path.p[at - 1] != '/')
		at--;
	return sp_span_of(path.p + at, path.n - at);
}

/* ----------------------------------------------------------------- hash */

void
sp_xfer_hash_fini(struct sp_xfer_hash *h)
{
	EVP_MD_CTX_free(h->ctx);
	*h = (struct sp_xfer_hash){0};
}

enum sp_err
sp_xfer_hash_put(const struct sp_xfer_session *s, struct sp_xfer_hash *h,
    uint64_t offset, struct sp_span bytes)
{
	if (h->ctx == NULL) {
		h->start = h->next = offset;
		if ((h->ctx = EVP_MD_CTX_new()) == NULL ||
		    EVP_DigestInit_ex2(h->ctx, s->md, NULL) != 1)
			return SP_ERR_CRYPTO;
	}
	SP_ASSERT(h->next == offset);
	h->next += bytes.n;
	return bytes.n == 0 || EVP_DigestUpdate(h->ctx, bytes.p, bytes.n) == 1 ?
	    SP_OK : SP_ERR_CRYPTO;
}

enum sp_err
sp_xfer_hash_look(const struct sp_xfer_session *s, const struct sp_xfer_hash *h,
    uint8_t out[static 32])
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	enum sp_err e = SP_ERR_CRYPTO;

	if (c != NULL && (h->ctx != NULL ? EVP_MD_CTX_copy_ex(c, h->ctx) :
	    EVP_DigestInit_ex2(c, s->md, NULL)) == 1 &&
	    EVP_DigestFinal_ex(c, out, NULL) == 1)
		e = SP_OK;
	EVP_MD_CTX_free(c);
	return e;
}

/* --------------------------------------------------------------- gather */

enum sp_err
sp_xfer_peek(struct sp_buf *held, struct sp_span *s, size_t need,
    struct sp_span *view)
{
	size_t n;

	if (held->len == 0 && s->n >= need) {
		*view = sp_span_of(s->p, need);
		return SP_OK;
	}
	if (held->len < need) {
		n = need - held->len < s->n ? need - held->len : s->n;
		SP_TRY(sp_buf_put(held, s->p, n));
		*s = sp_span_of(s->p + n, s->n - n);
	}
	if (held->len < need)
		return SP_ERR_AGAIN;
	*view = sp_buf_span(held);
	view->n = need;
	return SP_OK;
}
