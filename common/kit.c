/* SPDX-License-Identifier: Apache-2.0 */
#include "common/kit.h"

#include <string.h>

#define FORMAT 1
static const char magic[4] = {'S', 'P', 'K', 'T'};

enum sp_err
sp_kit_put_head(struct sp_buf *b, const struct sp_kit *k)
{
	SP_TRY(sp_buf_put(b, magic, sizeof(magic)));
	SP_TRY(sp_buf_put_u8(b, FORMAT));
	SP_TRY(sp_buf_put(b, k->kit, 16));
	SP_TRY(sp_buf_put_u8(b, k->k));
	SP_TRY(sp_buf_put_u8(b, k->n));
	SP_TRY(sp_buf_put_u64(b, (uint64_t)k->made_us));
	SP_TRY(sp_buf_put_u64(b, (uint64_t)k->expires_us));
	SP_TRY(sp_buf_put_bytes(b, sp_span_str(k->note)));
	SP_TRY(sp_buf_put(b, k->receipt_key, 32));
	return sp_buf_put_u8(b, (uint8_t)k->count);
}

enum sp_err
sp_kit_put_entry(struct sp_buf *b, const struct sp_kit_entry *e)
{
	SP_TRY(sp_buf_put_u8(b, e->kind));
	SP_TRY(sp_buf_put(b, e->secret, 16));
	SP_TRY(sp_buf_put_u64(b, e->version));
	SP_TRY(sp_buf_put_bytes(b, sp_span_str(e->account)));
	SP_TRY(sp_buf_put_bytes(b, sp_span_str(e->target)));
	SP_TRY(sp_buf_put_bytes(b, sp_span_str(e->addr)));
	SP_TRY(sp_buf_put_u16(b, e->port));
	return sp_buf_put_bytes(b, e->host_keys);
}

enum sp_err
sp_kit_aad(struct sp_buf *b, const uint8_t kit[static 16], size_t place,
    struct sp_span clear_part)
{
	static const char label[] = "sallyport kit v1";

	SP_TRY(sp_buf_put(b, label, sizeof(label)));
	SP_TRY(sp_buf_put(b, kit, 16));
	SP_TRY(sp_buf_put_u8(b, (uint8_t)place));
	return sp_buf_put(b, clear_part.p, clear_part.n);
}

/* ------------------------------------------------------------------ reading */

static enum sp_err
get_head(struct sp_span *s, struct sp_kit *k, uint8_t *count)
{
	uint8_t m[sizeof(magic)], format;

	SP_TRY(sp_get_fixed(s, m, sizeof(m)));
	SP_TRY(sp_get_u8(s, &format));
	if (!sp_span_eq(sp_span_of(m, sizeof(m)), sp_span_of(magic, sizeof(magic))))
		return SP_ERR_PROTO;
	if (format != FORMAT)
		return SP_ERR_UNSUPPORTED;
	SP_TRY(sp_get_fixed(s, k->kit, 16));
	SP_TRY(sp_get_u8(s, &k->k));
	SP_TRY(sp_get_u8(s, &k->n));
	SP_TRY(sp_get_time(s, &k->made_us));
	SP_TRY(sp_get_time(s, &k->expires_us));
	SP_TRY(sp_get_text(s, k->note, sizeof(k->note)));
	SP_TRY(sp_get_fixed(s, k->receipt_key, 32));
	return sp_get_u8(s, count);
}

static enum sp_err
get_entry(struct sp_span *s, struct sp_kit_entry *e)
{
	const uint8_t *from = s->p;

	SP_TRY(sp_get_u8(s, &e->kind));
	SP_TRY(sp_get_fixed(s, e->secret, 16));
	SP_TRY(sp_get_u64(s, &e->version));
	SP_TRY(sp_get_text(s, e->account, sizeof(e->account)));
	SP_TRY(sp_get_text(s, e->target, sizeof(e->target)));
	SP_TRY(sp_get_text(s, e->addr, sizeof(e->addr)));
	SP_TRY(sp_get_u16(s, &e->port));
	SP_TRY(sp_get_str(s, 4096, &e->host_keys));
	e->clear_part = sp_span_of(from, (size_t)(s->p - from));
	SP_TRY(sp_get_bytes(s, SP_KIT_SEALED_MAX, &e->sealed));
	return sp_name_is_valid(sp_span_str(e->account)) &&
	    sp_name_is_valid(sp_span_str(e->target)) &&
	    e->sealed.n > SP_KIT_NONCE + SP_KIT_TAG ? SP_OK : SP_ERR_PROTO;
}

enum sp_err
sp_kit_decode(struct sp_span file, struct sp_kit *k)
{
	struct sp_span s = file;
	uint8_t count;

	memset(k, 0, sizeof(*k));
	if (file.n > SP_KIT_FILE_MAX)
		return SP_ERR_TOOBIG;
	SP_TRY(get_head(&s, k, &count));
	if (count == 0 || count > SP_KIT_ENTRIES_MAX)
		return SP_ERR_PROTO;
	for (; k->count < count; k->count++)
		SP_TRY(get_entry(&s, &k->entry[k->count]));
	k->before_receipt = sp_span_of(file.p, file.n - s.n);
	SP_TRY(sp_get_bytes(&s, 128, &k->receipt));
	return s.n == 0 && k->receipt.n == SP_KIT_NONCE + 32 + SP_KIT_TAG ? SP_OK :
	    SP_ERR_PROTO;
}

/* ----------------------------------------------------------------- receipts */

enum sp_err
sp_receipt_body(struct sp_buf *b, const struct sp_kit *k, const char *opened,
    const char *by, const char *why)
{
	char who[129], what[513], id[SP_UUID_TEXT];

	sp_vis(who, sizeof(who), sp_span_str(by));
	sp_vis(what, sizeof(what), sp_span_str(why));
	sp_uuid_text(id, k->kit);
	SP_TRY(sp_buf_printf(b, "kit: %s\nopened: %s\nby: %s\nwhy: %s\n", id,
	    opened, who, what));
	for (size_t i = 0; i < k->count; i++) {
		sp_uuid_text(id, k->entry[i].secret);
		SP_TRY(sp_buf_printf(b, "credential: %s@%s version %llu %s\n",
		    k->entry[i].account, k->entry[i].target,
		    (unsigned long long)k->entry[i].version, id));
	}
	return SP_OK;
}

enum sp_err
sp_receipt_signed(struct sp_buf *b, struct sp_span body)
{
	static const char label[] = "sallyport receipt v1";

	SP_TRY(sp_buf_put(b, label, sizeof(label)));
	return sp_buf_put(b, body.p, body.n);
}

enum sp_err
sp_receipt_text(struct sp_buf *b, struct sp_span body,
    const uint8_t signature[static 64])
{
	SP_TRY(sp_buf_printf(b, SP_RECEIPT_BEGIN "\n"));
	SP_TRY(sp_buf_put(b, body.p, body.n));
	SP_TRY(sp_buf_printf(b, "signature: "));
	SP_TRY(sp_base64(b, sp_span_of(signature, 64)));
	return sp_buf_printf(b, "\n" SP_RECEIPT_END "\n");
}

static bool
next_line(struct sp_span *s, struct sp_span *line)
{
	const uint8_t *nl = s->n == 0 ? NULL : memchr(s->p, '\n', s->n);

	if (nl == NULL)
		return false;
	*line = sp_span_of(s->p, (size_t)(nl - s->p));
	*s = sp_span_of(nl + 1, s->n - line->n - 1);
	return true;
}

/* The rest of a line that begins with `key`. */
static enum sp_err
field(struct sp_span *s, const char *key, char *dst, size_t cap)
{
	struct sp_span l;
	size_t n = strlen(key);

	if (!next_line(s, &l) || l.n < n ||
	    !sp_span_is(sp_span_of(l.p, n), key) ||
	    !sp_utf8_is_valid(l))
		return SP_ERR_SYNTAX;
	return sp_span_cstr(sp_span_of(l.p + n, l.n - n), dst, cap) == SP_OK ?
	    SP_OK : SP_ERR_SYNTAX;
}

enum sp_err
sp_receipt_parse(struct sp_span text, struct sp_receipt *r)
{
	char kit[64], sig[128];
	SP_BUF_AUTO raw = {.max = 64};
	struct sp_span l, s = text, before;
	const uint8_t *from;

	memset(r, 0, sizeof(*r));
	if (text.n > SP_RECEIPT_MAX || !next_line(&s, &l) ||
	    !sp_span_is(l, SP_RECEIPT_BEGIN))
		return SP_ERR_SYNTAX;
	from = s.p;
	SP_TRY(field(&s, "kit: ", kit, sizeof(kit)));
	SP_TRY(field(&s, "opened: ", r->opened, sizeof(r->opened)));
	SP_TRY(field(&s, "by: ", r->by, sizeof(r->by)));
	SP_TRY(field(&s, "why: ", r->why, sizeof(r->why)));
	do {
		before = s;
		if (!next_line(&s, &l))
			return SP_ERR_SYNTAX;
	} while (l.n > 12 && sp_span_is(sp_span_of(l.p, 12), "credential: "));
	r->body = sp_span_of(from, (size_t)(before.p - from));
	s = before;
	SP_TRY(field(&s, "signature: ", sig, sizeof(sig)));
	if (!next_line(&s, &l) || !sp_span_is(l, SP_RECEIPT_END) || s.n != 0 ||
	    sp_uuid_parse(r->kit, sp_span_str(kit)) != SP_OK ||
	    sp_unbase64(&raw, sp_span_str(sig)) != SP_OK || raw.len != 64)
		return SP_ERR_SYNTAX;
	memcpy(r->signature, sp_buf_span(&raw).p, 64);
	return SP_OK;
}
