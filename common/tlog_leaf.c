/* SPDX-License-Identifier: Apache-2.0 */
#include "common/tlog_leaf.h"

#include <sodium.h>
#include <string.h>

#include "common/signed.h"
#include "common/text.h"

#define VERSION 1
#define CHUNK_LEN 0	/* where things stand in a chunk's header */
#define CHUNK_TYPE 4
#define CHUNK_SEQ 12
#define TYPE_CHECKPOINT 3	/* types of chunks */
#define TYPE_CLOSE 4
#define TYPE_RECOVERED 5

const char *
sp_leaf_type_name(uint8_t type)
{
	static const char *const names[] = {"unknown", "open", "checkpoint", "close",
	    "recovered", "audit", "act"};

	return type < sizeof(names) / sizeof(names[0]) ? names[type] : names[0];
}

const char *
sp_leaf_act_name(uint8_t act)
{
	static const char *const names[] = {"unknown", "replay", "export", "hold",
	    "release", "delete", "verify", "ship", "watch"};

	return act < sizeof(names) / sizeof(names[0]) ? names[act] : names[0];
}

static bool
is_chunk(uint8_t type)
{
	return type == SP_LEAF_CHECKPOINT || type == SP_LEAF_CLOSE ||
	    type == SP_LEAF_RECOVERED;
}

static enum sp_err
put_chunk(const struct sp_leaf *l, struct sp_buf *out)
{
	if (l->body.n > SP_LEAF_BODY_MAX)
		return SP_ERR_TOOBIG;
	SP_TRY(sp_buf_put(out, l->session, 16));
	SP_TRY(sp_buf_put(out, l->prev, 32));
	SP_TRY(sp_buf_put(out, l->head, 28));
	return sp_buf_put(out, l->body.p, l->body.n);
}

static enum sp_err
put_open(const struct sp_leaf *l, struct sp_buf *out)
{
	SP_TRY(sp_buf_put(out, l->session, 16));
	SP_TRY(sp_buf_put(out, l->rec_key, 32));
	SP_TRY(sp_buf_put(out, l->header_hash, 32));
	SP_TRY(sp_buf_put_u64(out, (uint64_t)l->opened_us));
	return sp_buf_put(out, l->signature, 64);
}

static enum sp_err
put_audit(const struct sp_leaf *l, struct sp_buf *out)
{
	if (l->node.n > SP_LEAF_NODE_MAX)
		return SP_ERR_TOOBIG;
	SP_TRY(sp_buf_put_bytes(out, l->node));
	SP_TRY(sp_buf_put_u64(out, l->seq));
	return sp_buf_put(out, l->hash, 32);
}

static enum sp_err
put_act(const struct sp_leaf *l, struct sp_buf *out)
{
	if (l->act == 0 || l->act > SP_ACT_LAST_)
		return SP_ERR_INVAL;
	if (l->actor.n > SP_LEAF_ACTOR_MAX || l->detail.n > SP_LEAF_DETAIL_MAX)
		return SP_ERR_TOOBIG;
	SP_TRY(sp_buf_put_u8(out, l->act));
	SP_TRY(sp_buf_put(out, l->session, 16));
	SP_TRY(sp_buf_put(out, l->hash, 32));
	SP_TRY(sp_buf_put_bytes(out, l->actor));
	return sp_buf_put_bytes(out, l->detail);
}

enum sp_err
sp_leaf_encode(const struct sp_leaf *l, struct sp_buf *out)
{
	SP_TRY(sp_buf_put_u8(out, VERSION));
	SP_TRY(sp_buf_put_u8(out, l->type));
	SP_TRY(sp_buf_put_u16(out, 0));
	SP_TRY(sp_buf_put_u64(out, (uint64_t)l->at_us));
	if (is_chunk(l->type))
		return put_chunk(l, out);
	if (l->type == SP_LEAF_OPEN)
		return put_open(l, out);
	if (l->type == SP_LEAF_AUDIT)
		return put_audit(l, out);
	return l->type == SP_LEAF_ACT ? put_act(l, out) : SP_ERR_INVAL;
}

static uint64_t
little(const uint8_t *p, size_t n)
{
	uint64_t v = 0;

	while (n-- > 0)
		v = v << 8 | p[n];
	return v;
}

/* The chunk is of the leaf's type and says its own length. */
static enum sp_err
take_chunk(struct sp_span *s, struct sp_leaf *l)
{
	static const uint8_t types[] = {[SP_LEAF_CHECKPOINT] = TYPE_CHECKPOINT,
	    [SP_LEAF_CLOSE] = TYPE_CLOSE, [SP_LEAF_RECOVERED] = TYPE_RECOVERED};
	crypto_hash_sha256_state st;

	SP_TRY(sp_get_fixed(s, l->session, 16));
	SP_TRY(sp_get_fixed(s, l->prev, 32));
	SP_TRY(sp_get_fixed(s, l->head, 28));
	l->body = *s;
	*s = (struct sp_span){0};
	if (l->body.n < 64 || l->body.n > SP_LEAF_BODY_MAX ||
	    little(l->head + CHUNK_LEN, 4) != l->body.n ||
	    l->head[CHUNK_TYPE] != types[l->type])
		return SP_ERR_PROTO;
	l->seq = little(l->head + CHUNK_SEQ, 8);
	crypto_hash_sha256_init(&st);
	crypto_hash_sha256_update(&st, l->prev, 32);
	crypto_hash_sha256_update(&st, l->head, 28);
	crypto_hash_sha256_update(&st, l->body.p, l->body.n);
	crypto_hash_sha256_final(&st, l->hash);
	return SP_OK;
}

static enum sp_err
take_open(struct sp_span *s, struct sp_leaf *l)
{
	SP_TRY(sp_get_fixed(s, l->session, 16));
	SP_TRY(sp_get_fixed(s, l->rec_key, 32));
	SP_TRY(sp_get_fixed(s, l->header_hash, 32));
	SP_TRY(sp_get_time(s, &l->opened_us));
	return sp_get_fixed(s, l->signature, 64);
}

static enum sp_err
take_audit(struct sp_span *s, struct sp_leaf *l)
{
	SP_TRY(sp_get_str(s, SP_LEAF_NODE_MAX, &l->node));
	SP_TRY(sp_get_u64(s, &l->seq));
	return sp_get_fixed(s, l->hash, 32);
}

static enum sp_err
take_act(struct sp_span *s, struct sp_leaf *l)
{
	SP_TRY(sp_get_u8(s, &l->act));
	SP_TRY(sp_get_fixed(s, l->session, 16));
	SP_TRY(sp_get_fixed(s, l->hash, 32));
	SP_TRY(sp_get_str(s, SP_LEAF_ACTOR_MAX, &l->actor));
	SP_TRY(sp_get_str(s, SP_LEAF_DETAIL_MAX, &l->detail));
	return l->act == 0 || l->act > SP_ACT_LAST_ ? SP_ERR_PROTO : SP_OK;
}

enum sp_err
sp_leaf_decode(struct sp_span entry, struct sp_leaf *l)
{
	uint8_t version = 0;
	uint16_t zero = 0;

	*l = (struct sp_leaf){.type = 0};
	SP_TRY(sp_get_u8(&entry, &version));
	if (version != VERSION)
		return SP_ERR_UNSUPPORTED;
	SP_TRY(sp_get_u8(&entry, &l->type));
	SP_TRY(sp_get_u16(&entry, &zero));
	SP_TRY(sp_get_time(&entry, &l->at_us));
	if (zero != 0)
		return SP_ERR_PROTO;
	if (is_chunk(l->type))
		SP_TRY(take_chunk(&entry, l));
	else if (l->type == SP_LEAF_OPEN)
		SP_TRY(take_open(&entry, l));
	else if (l->type == SP_LEAF_AUDIT)
		SP_TRY(take_audit(&entry, l));
	else if (l->type == SP_LEAF_ACT)
		SP_TRY(take_act(&entry, l));
	else
		return SP_ERR_UNSUPPORTED;
	return entry.n == 0 ? SP_OK : SP_ERR_PROTO;
}

static enum sp_err
check(const struct sp_buf *text, const uint8_t *sig, const uint8_t key[static 32])
{
	struct sp_span s = sp_buf_span(text);

	return crypto_sign_verify_detached(sig, s.p, s.n, key) == 0 ? SP_OK :
	    SP_ERR_CRYPTO;
}

enum sp_err
sp_leaf_check_open(const struct sp_leaf *l, const uint8_t audit_key[static 32])
{
	SP_BUF_AUTO t = {.max = SP_SIGNED_MAX};

	if (l->type != SP_LEAF_OPEN)
		return SP_ERR_INVAL;
	SP_TRY(sp_signed_recording(&t, l->session, l->rec_key, l->header_hash,
	    l->opened_us));
	return check(&t, l->signature, audit_key);
}

enum sp_err
sp_leaf_check_chunk(const struct sp_leaf *l, const uint8_t rec_key[static 32],
    const uint8_t audit_key[static 32])
{
	SP_BUF_AUTO t = {.max = 2048};
	struct sp_span body = l->body;
	uint64_t at = 0;

	if (!is_chunk(l->type) || body.n < 64)
		return SP_ERR_INVAL;
	if (l->type != SP_LEAF_RECOVERED) {
		SP_TRY(sp_signed_chunk(&t, l->prev, l->head,
		    sp_span_of(body.p, body.n - 64)));
		return check(&t, body.p + body.n - 64, rec_key);
	}
	SP_TRY(sp_get_u64(&body, &at));
	if (body.n != 64 || at > INT64_MAX)
		return SP_ERR_CRYPTO;
	SP_TRY(sp_signed_close(&t, true, l->session, l->prev, l->seq, (int64_t)at));
	return check(&t, body.p, audit_key);
}
