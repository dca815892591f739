/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/xfer_kit.h"

#include <stdarg.h>
#include <stdlib.h>

static enum sp_err
on_pass(void *arg, bool to_target, struct sp_span s,
    const struct sp_xfer_at *at)
{
	struct kit *k = arg;
	bool is_body = at != NULL;

	SP_ASSERT(!is_body || at->file > 0);

	SP_ASSERT(!is_body || (k->rules->rights & (to_target ? SP_RIGHT_UPLOAD :
	    SP_RIGHT_DOWNLOAD)) != 0);
	if (is_body)
		SP_TRY(sp_buf_put(&k->body, s.p, s.n));
	return sp_buf_put(to_target ? &k->at_target : &k->at_user, s.p, s.n);
}

static enum sp_err
on_drop(void *arg, bool from_user, size_t n)
{
	struct kit *k = arg;

	*(from_user ? &k->dropped_user : &k->dropped_target) += n;
	return SP_OK;
}

static enum sp_err
on_say(void *arg, bool to_target, struct sp_span s)
{
	struct kit *k = arg;

	*(to_target ? &k->said_target : &k->said_user) += s.n;
	SP_ASSERT(k->room >= s.n);
	return sp_buf_put(to_target ? &k->at_target : &k->at_user, s.p, s.n);
}

static size_t
on_room(void *arg, bool to_target)
{
	struct kit *k = arg;

	(void)to_target;
	return k->room;
}

static enum sp_err
on_note(void *arg, const struct sp_xfer_note *n)
{
	struct kit *k = arg;
	char hex[65] = "-";
	char path[300], path2[300], text[300];

	if ((n->flags & SP_XFER_HAS_HASH) != 0)
		sp_hex(hex, n->sha256, 32);
	hex[8] = '\0';
	sp_vis(path, sizeof(path), n->path);
	sp_vis(path2, sizeof(path2), n->path2);
	sp_vis(text, sizeof(text), n->text);
	return sp_buf_printf(&k->log, "%s dir=%u file=%u %s %llu+%llu %s%s%s "
	    "[%s] [%s] [%s]\n", sp_xfer_op_name(n->op), n->dir, n->file,
	    sp_xfer_result_name(n->result), (unsigned long long)n->offset,
	    (unsigned long long)n->bytes, hex,
	    (n->flags & SP_XFER_WHOLE) != 0 ? " whole" : "",
	    (n->flags & SP_XFER_SO_FAR) != 0 ? " so-far" : "", path, path2, text);
}

static enum sp_xfer_leave
on_leave(void *arg, uint32_t ops, struct sp_span path)
{
	struct kit *k = arg;

	snprintf(k->asked, sizeof(k->asked), "%u %.*s", ops, (int)path.n,
	    (const char *)path.p);
	return k->leave;
}

static void
prepare(struct kit *k, uint32_t rights)
{
	*k = (struct kit){.room = SIZE_MAX / 2, .leave = SP_XFER_GOES};
	k->rules = calloc(1, sizeof(*k->rules));
	SP_ASSERT(k->rules != NULL);
	k->rules->rights = rights;
	k->s.rules = k->rules;
	k->s.md = EVP_MD_fetch(NULL, "SHA256", NULL);
	k->out = (struct sp_xfer_out){.arg = k, .pass = on_pass, .drop = on_drop,
	    .say = on_say, .room = on_room, .note = on_note,
	    .leave = on_leave};
	sp_buf_init(&k->at_target, 64u << 20);
	sp_buf_init(&k->at_user, 64u << 20);
	sp_buf_init(&k->body, 64u << 20);
	sp_buf_init(&k->hold, 64u << 20);
	sp_buf_init(&k->log, 1u << 20);
}

void
kit_start(struct kit *k, uint32_t rights)
{
	prepare(k, rights);
	k->sftp = sp_sftp_new(&k->out, &k->s);
	SP_ASSERT(k->sftp != NULL);
}

void
kit_start_scp(struct kit *k, uint32_t rights)
{
	prepare(k, rights);
	k->scp = sp_scp_new(&k->out, &k->s);
	SP_ASSERT(k->scp != NULL);
}

void
kit_stop(struct kit *k)
{
	sp_sftp_free(k->sftp);
	sp_scp_free(k->scp);
	EVP_MD_free(k->s.md);
	free(k->rules);
	sp_buf_fini(&k->at_target);
	sp_buf_fini(&k->at_user);
	sp_buf_fini(&k->body);
	sp_buf_fini(&k->hold);
	sp_buf_fini(&k->log);
}

static enum sp_err
take(struct kit *k, bool from_user, struct sp_span *s)
{
	enum sp_err e = k->scp != NULL ? sp_scp_take(k->scp, from_user, s) :
	    sp_sftp_take(k->sftp, from_user, s);

	if (e == SP_ERR_PROTO) {
		k->end = e;
		k->why = k->scp != NULL ? sp_scp_why(k->scp) :
		    sp_sftp_why(k->sftp);
	}
	SP_ASSERT(e == SP_OK || e == SP_ERR_PROTO ||
	    (e == SP_ERR_AGAIN && from_user));
	return e;
}

static void
pump(struct kit *k)
{
	bool once = k->is_stalled;

	while (k->end == SP_OK && (k->hold.len > 0 || once)) {
		struct sp_span s = sp_buf_span(&k->hold);
		size_t n = s.n;
		enum sp_err e = take(k, true, &s);

		once = false;
		sp_buf_consume(&k->hold, n - s.n);
		k->is_stalled = e == SP_ERR_AGAIN;
		if (k->is_stalled)
			return;
		SP_ASSERT(s.n == 0 || e != SP_OK);
	}
}

static void
feed_one(struct kit *k, bool from_user, struct sp_span s)
{
	enum sp_err e;

	if (from_user && (k->is_stalled || k->hold.len > 0)) {
		SP_ASSERT(sp_buf_put(&k->hold, s.p, s.n) == SP_OK);
		pump(k);
		return;
	}
	e = take(k, from_user, &s);
	if (e == SP_ERR_AGAIN) {
		k->is_stalled = true;
		SP_ASSERT(sp_buf_put(&k->hold, s.p, s.n) == SP_OK);
	}
	if (!from_user)
		pump(k);
}

void
kit_feed(struct kit *k, bool from_user, struct sp_span s, size_t piece)
{
	while (s.n > 0 && k->end == SP_OK) {
		size_t n = piece != 0 && piece < s.n ? piece : s.n;
		/* A copy of its own: reading beyond it shows. */
		uint8_t *copy = malloc(n);

		SP_ASSERT(copy != NULL);
		memcpy(copy, s.p, n);
		feed_one(k, from_user, sp_span_of(copy, n));
		free(copy);
		s = sp_span_of(s.p + n, s.n - n);
	}
}

void
kit_poke(struct kit *k)
{
	pump(k);
}

void
kit_eof(struct kit *k, bool from_user)
{
	SP_ASSERT(sp_scp_eof(k->scp, from_user) == SP_OK);
	pump(k);
}

void
kit_over(struct kit *k)
{
	SP_ASSERT((k->scp != NULL ? sp_scp_end(k->scp) : sp_sftp_end(k->sftp)) ==
	    SP_OK);
}

const char *
kit_log(struct kit *k)
{
	uint8_t *at;

	SP_ASSERT(sp_buf_reserve(&k->log, 1, &at) == SP_OK);
	*at = '\0';
	return k->log.len == 0 ? "" : (const char *)k->log.p + k->log.off;
}

struct sp_span
pk_make(struct sp_buf *b, uint8_t type, const char *form, ...)
{
	SP_BUF_AUTO in = {.max = 2u << 20};
	enum sp_err e = SP_OK;
	struct sp_span s;
	size_t from;
	va_list ap;

	va_start(ap, form);
	for (const char *f = form; *f != '\0' && e == SP_OK; f++) {
		switch (*f) {
		case 'u':
			e = sp_buf_put_ssh_u32(&in, va_arg(ap, uint32_t));
			break;
		case 'U':
			e = sp_buf_put_ssh_u64(&in, va_arg(ap, uint64_t));
			break;
		case 's':
			e = sp_buf_put_ssh_string(&in,
			    sp_span_str(va_arg(ap, const char *)));
			break;
		case 'b':
			e = sp_buf_put_ssh_string(&in, va_arg(ap, struct sp_span));
			break;
		case 'r':
			s = va_arg(ap, struct sp_span);
			e = sp_buf_put(&in, s.p, s.n);
			break;
		default:
			e = sp_buf_put_ssh_u32(&in, 0);
		}
	}
	va_end(ap);
	SP_ASSERT(e == SP_OK);
	if (b->max == 0)
		sp_buf_init(b, 64u << 20);
	from = b->len;
	SP_ASSERT(sp_buf_put_ssh_u32(b, (uint32_t)in.len + 1) == SP_OK &&
	    sp_buf_put_u8(b, type) == SP_OK &&
	    sp_buf_put(b, in.p + in.off, in.len) == SP_OK);
	return sp_span_of(b->p + b->off + from, b->len - from);
}
