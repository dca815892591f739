/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/header.h"

#include <sodium.h>
#include <string.h>

#include "common/shares.h"

#define TIME_MAX (INT64_C(1) << 53)
#define OLD_LANE(n) (1 + (size_t)(n) * SP_LANE_SEALED_BYTES)

static size_t
old_bytes(size_t n)
{
	return SP_REC_HEADER_FIXED + n * 32 + SP_REC_LANES_OLD * OLD_LANE(n);
}

size_t
sp_rec_box_bytes(const struct sp_rec_lane_seal *l)
{
	return (l->group != 0 ? SP_GROUP_SEALED_BYTES : SP_LANE_SEALED_BYTES) +
	    (l->threshold > 1 ? (size_t)SP_REC_SHARE_MORE : 0);
}

/* --------------------------------------------------------------- encode */

static bool
is_sound(const struct sp_rec_header *h, const struct sp_rec_lane_seal *l)
{
	if (l->n > h->n_recipients || l->threshold < 1 || l->threshold > l->n)
		return false;
	for (size_t i = 0; i < l->n; i++)
		if (l->who[i] >= h->n_recipients ||
		    (i > 0 && l->who[i] <= l->who[i - 1]))
			return false;
	return true;
}

static enum sp_err
put_boxes(struct sp_buf *b, const struct sp_rec_lane_seal *l)
{
	SP_TRY(sp_buf_put_u8(b, l->threshold));
	SP_TRY(sp_buf_put_u8(b, l->n));
	for (size_t i = 0; i < l->n; i++) {
		SP_TRY(sp_buf_put_u8(b, l->who[i]));
		SP_TRY(sp_buf_put(b, l->box[i], sp_rec_box_bytes(l)));
	}
	return SP_OK;
}

static enum sp_err
put_old_boxes(struct sp_buf *b, const struct sp_rec_header *h,
    const struct sp_rec_lane_seal *l)
{
	if (l->n != h->n_recipients || l->threshold != 1)
		return SP_ERR_INVAL;
	for (size_t i = 0; i < l->n; i++)
		SP_TRY(sp_buf_put(b, l->box[i], SP_LANE_SEALED_BYTES));
	return SP_OK;
}

/* What stands for this lane; nothing if it stands with one before it. */
static enum sp_err
put_lane(struct sp_buf *b, const struct sp_rec_header *h, size_t lane,
    uint8_t version, uint8_t *n)
{
	const struct sp_rec_lane_seal *l = &h->lane[lane - 1];
	uint16_t bit = SP_GROUP_BIT(lane);

	if (version >= 3 && l->n == 0)
		return SP_OK;
	if (!is_sound(h, l) || (version >= 5) != (l->group != 0) ||
	    (version >= 5 && (l->group & bit) == 0))
		return SP_ERR_INVAL;
	if ((l->group & (bit - 1)) != 0)
		return SP_OK;
	*n = (uint8_t)(*n + 1);
	SP_TRY(version >= 5 ? sp_buf_put_u16(b, l->group) :
	    sp_buf_put_u8(b, (uint8_t)lane));
	return version >= 3 ? put_boxes(b, l) : put_old_boxes(b, h, l);
}

enum sp_err
sp_rec_header_encode(struct sp_buf *b, const struct sp_rec_header *h)
{
	uint8_t version = h->version != 0 ? h->version : SP_REC_VERSION, n = 0;
	size_t most = version < 3 ? SP_REC_LANES_OLD : SP_REC_LANES;
	SP_BUF_AUTO lanes = {.max = SP_REC_HEADER_MAX};

	if (version > SP_REC_VERSION || h->n_recipients == 0 ||
	    h->n_recipients > SP_REC_RECIPIENTS_MAX)
		return SP_ERR_INVAL;
	for (size_t l = 1; l <= most; l++)
		SP_TRY(put_lane(&lanes, h, l, version, &n));
	if (n == 0)
		return SP_ERR_INVAL;
	SP_TRY(sp_buf_put(b, SP_REC_MAGIC, SP_REC_MAGIC_BYTES));
	SP_TRY(sp_buf_put_u8(b, version));
	SP_TRY(sp_buf_put_u8(b, SP_REC_SUITE));
	SP_TRY(sp_buf_put_u16(b, 0));
	SP_TRY(sp_buf_put_u32(b, (uint32_t)(SP_REC_HEADER_FIXED +
	    h->n_recipients * 32u + lanes.len)));
	SP_TRY(sp_buf_put(b, h->session, 16));
	SP_TRY(sp_buf_put_u64(b, (uint64_t)h->t0_wall_us));
	SP_TRY(sp_buf_put_u64(b, (uint64_t)h->t0_boot_us));
	SP_TRY(sp_buf_put(b, h->rec_key, 32));
	SP_TRY(sp_buf_put_u8(b, n));
	SP_TRY(sp_buf_put_u8(b, h->n_recipients));
	SP_TRY(sp_buf_put_u16(b, 0));
	for (size_t i = 0; i < h->n_recipients; i++)
		SP_TRY(sp_buf_put(b, h->recipient[i], 32));
	return sp_buf_put(b, lanes.p + lanes.off, lanes.len);
}

/* --------------------------------------------------------------- decode */

enum sp_err
sp_rec_header_length(struct sp_span s, uint32_t *len)
{
	const uint8_t *magic;
	uint8_t version = 0, suite = 0;
	uint16_t zero = 0;
	uint32_t n = 0;

	SP_TRY(sp_get(&s, SP_REC_MAGIC_BYTES, &magic));
	SP_TRY(sp_get_u8(&s, &version));
	SP_TRY(sp_get_u8(&s, &suite));
	SP_TRY(sp_get_u16(&s, &zero));
	SP_TRY(sp_get_u32(&s, &n));
	if (memcmp(magic, SP_REC_MAGIC, SP_REC_MAGIC_BYTES) != 0 ||
	    version == 0 || version > SP_REC_VERSION ||
	    suite != SP_REC_SUITE || zero != 0)
		return SP_ERR_PROTO;
	if (n < SP_REC_HEADER_FIXED + 32 + 4 + SP_LANE_SEALED_BYTES ||
	    n > SP_REC_HEADER_MAX)
		return SP_ERR_PROTO;
	*len = n;
	return SP_OK;
}

static enum sp_err
get_fixed(struct sp_span *s, struct sp_rec_header *h, uint8_t *lanes)
{
	uint64_t wall = 0, boot = 0;
	uint16_t zero = 0;

	SP_TRY(sp_get_fixed(s, h->session, 16));
	SP_TRY(sp_get_u64(s, &wall));
	SP_TRY(sp_get_u64(s, &boot));
	SP_TRY(sp_get_fixed(s, h->rec_key, 32));
	SP_TRY(sp_get_u8(s, lanes));
	SP_TRY(sp_get_u8(s, &h->n_recipients));
	SP_TRY(sp_get_u16(s, &zero));
	if (zero != 0 || h->n_recipients == 0 ||
	    h->n_recipients > SP_REC_RECIPIENTS_MAX ||
	    wall > TIME_MAX || boot > TIME_MAX)
		return SP_ERR_PROTO;
	h->t0_wall_us = (int64_t)wall;
	h->t0_boot_us = (int64_t)boot;
	for (size_t i = 0; i < h->n_recipients; i++)
		SP_TRY(sp_get_fixed(s, h->recipient[i], 32));
	return SP_OK;
}

static enum sp_err
get_old_lanes(struct sp_span *s, struct sp_rec_header *h)
{
	for (uint8_t want = 1; want <= SP_REC_LANES_OLD; want++) {
		struct sp_rec_lane_seal *l = &h->lane[want - 1];
		uint8_t lane = 0;

		SP_TRY(sp_get_u8(s, &lane));
		if (lane != want)
			return SP_ERR_PROTO;
		l->threshold = 1;
		l->n = h->n_recipients;
		for (uint8_t i = 0; i < l->n; i++) {
			l->who[i] = i;
			SP_TRY(sp_get_fixed(s, l->box[i], SP_LANE_SEALED_BYTES));
		}
		h->lanes |= 1u << lane;
	}
	return SP_OK;
}

/* One that we do not know is held to the same form and forgotten. */
static enum sp_err
get_boxes(struct sp_span *s, const struct sp_rec_header *h,
    struct sp_rec_lane_seal *l)
{
	SP_TRY(sp_get_u8(s, &l->threshold));
	SP_TRY(sp_get_u8(s, &l->n));
	if (l->n == 0 || l->n > h->n_recipients)
		return SP_ERR_PROTO;
	for (size_t i = 0; i < l->n; i++) {
		SP_TRY(sp_get_u8(s, &l->who[i]));
		SP_TRY(sp_get_fixed(s, l->box[i], sp_rec_box_bytes(l)));
	}
	return is_sound(h, l) ? SP_OK : SP_ERR_PROTO;
}

static enum sp_err
get_lanes(struct sp_span *s, struct sp_rec_header *h, uint8_t lanes)
{
	struct sp_rec_lane_seal skip = {0};
	uint8_t last = 0, lane = 0;

	for (; lanes > 0; lanes--, last = lane) {
		SP_TRY(sp_get_u8(s, &lane));
		if (lane <= last || lane > SP_REC_LANES_MAX)
			return SP_ERR_PROTO;
		SP_TRY(get_boxes(s, h, lane <= SP_REC_LANES ?
		    &h->lane[lane - 1] : &skip));
		h->lanes |= 1u << lane;
	}
	return SP_OK;
}

/* Each lane is in one group, and the groups stand in the order of their lowest. */
static enum sp_err
get_groups(struct sp_span *s, struct sp_rec_header *h, uint8_t groups)
{
	struct sp_rec_lane_seal l;
	uint16_t seen = 0, last = 0, lowest;

	for (; groups > 0; groups--, last = lowest) {
		l = (struct sp_rec_lane_seal){0};
		SP_TRY(sp_get_u16(s, &l.group));
		lowest = (uint16_t)(l.group & -l.group);
		if (l.group == 0 || (l.group & seen) != 0 || lowest < last)
			return SP_ERR_PROTO;
		seen |= l.group;
		SP_TRY(get_boxes(s, h, &l));
		for (size_t i = 0; i < SP_REC_LANES; i++)
			if ((l.group >> i & 1) != 0)
				h->lane[i] = l;
	}
	h->lanes = (uint32_t)seen << 1;
	return SP_OK;
}

enum sp_err
sp_rec_header_decode(struct sp_span s, struct sp_rec_header *h)
{
	const uint8_t *skip;
	uint8_t lanes = 0;
	uint32_t len = 0;
	bool is_old;

	SP_TRY(sp_rec_header_length(s, &len));
	if (s.n != len)
		return SP_ERR_PROTO;
	*h = (struct sp_rec_header){0};
	SP_TRY(sp_get(&s, 16, &skip));
	h->version = skip[SP_REC_MAGIC_BYTES];
	is_old = h->version < 3;
	SP_TRY(get_fixed(&s, h, &lanes));
	if (is_old && (lanes != SP_REC_LANES_OLD ||
	    len != old_bytes(h->n_recipients)))
		return SP_ERR_PROTO;
	if (lanes == 0 || lanes > SP_REC_LANES_MAX)
		return SP_ERR_PROTO;
	SP_TRY(is_old ? get_old_lanes(&s, h) : h->version < 5 ?
	    get_lanes(&s, h, lanes) : get_groups(&s, h, lanes));
	return s.n == 0 ? SP_OK : SP_ERR_PROTO;
}

/* ----------------------------------------------------------------- boxes */

uint16_t
sp_rec_group_of(const struct sp_rec_header *h, uint8_t lane)
{
	const struct sp_rec_lane_seal *l = &h->lane[lane - 1];
	uint16_t lanes = 0;

	for (size_t i = 0; i < SP_REC_LANES; i++)
		if (h->lane[i].n == l->n && h->lane[i].threshold == l->threshold &&
		    memcmp(h->lane[i].who, l->who, l->n) == 0)
			lanes = (uint16_t)(lanes | 1u << i);
	return lanes;
}

static enum sp_err
seal_one(struct sp_rec_header *h, struct sp_rec_lane_seal *l, size_t i,
    const uint8_t *key, const struct sp_share *s)
{
	uint8_t plain[SP_GROUP_PLAIN_BYTES + SP_REC_SHARE_MORE];
	int bad;

	memcpy(plain, s == NULL ? key : s->y, 32);
	memcpy(plain + 32, h->session, 16);
	plain[48] = (uint8_t)l->group;
	plain[49] = (uint8_t)(l->group >> 8);
	if (s != NULL) {
		memcpy(plain + 50, s->set, 16);
		plain[66] = s->k;
		plain[67] = s->n;
		plain[68] = s->index;
	}
	bad = crypto_box_seal(l->box[i], plain, sp_rec_box_bytes(l) -
	    crypto_box_SEALBYTES, h->recipient[l->who[i]]);
	sodium_memzero(plain, sizeof(plain));
	return bad == 0 ? SP_OK : SP_ERR_CRYPTO;
}

enum sp_err
sp_rec_group_seal(struct sp_rec_header *h, uint16_t lanes,
    const uint8_t key[static 32])
{
	struct sp_share shares[SP_SHARES_MAX];
	struct sp_rec_lane_seal *l = NULL;
	enum sp_err e = SP_OK;

	SP_ASSERT(lanes != 0 && lanes >> SP_REC_LANES == 0);
	for (size_t i = SP_REC_LANES; i-- > 0;)
		if ((lanes >> i & 1) != 0)
			l = &h->lane[i];
	if (l->n == 0 || !is_sound(h, l))
		return SP_ERR_INVAL;
	l->group = lanes;
	if (l->threshold > 1)
		SP_TRY(sp_shares_split(sp_span_of(key, 32), l->threshold, l->n,
		    shares));
	for (size_t i = 0; i < l->n && e == SP_OK; i++)
		e = seal_one(h, l, i, key, l->threshold > 1 ? &shares[i] : NULL);
	if (l->threshold > 1)
		sp_share_wipe(shares, l->n);
	for (size_t i = 0; i < SP_REC_LANES; i++)
		if ((lanes >> i & 1) != 0 && &h->lane[i] != l)
			h->lane[i] = *l;
	return e;
}

/* The text of a box: of this session, and of this lane or group? */
static enum sp_err
take_text(const struct sp_rec_header *h, uint8_t lane, const uint8_t *plain,
    struct sp_rec_opened *o)
{
	const struct sp_rec_lane_seal *l = &h->lane[lane - 1];
	bool is_group = l->group != 0;
	const uint8_t *more = plain + (is_group ? SP_GROUP_PLAIN_BYTES :
	    SP_LANE_PLAIN_BYTES);
	unsigned of = is_group ? plain[48] | (unsigned)plain[49] << 8 : plain[48];

	if (memcmp(plain + 32, h->session, 16) != 0 ||
	    of != (is_group ? l->group : lane))
		return SP_ERR_DENIED;
	*o = (struct sp_rec_opened){.lane = lane, .threshold = l->threshold,
	    .is_group = is_group, .k = more[16], .n = more[17],
	    .index = more[18]};
	memcpy(o->set, more, 16);
	memcpy(o->key, plain, 32);
	return is_group && l->threshold == 1 ?
	    sp_lane_of_group(plain, lane, o->key) : SP_OK;
}

enum sp_err
sp_rec_lane_open(const struct sp_rec_header *h, uint8_t lane, size_t i,
    const uint8_t pk[static 32], const uint8_t sk[static 32],
    struct sp_rec_opened *o)
{
	const struct sp_rec_lane_seal *l;
	uint8_t plain[SP_GROUP_PLAIN_BYTES + SP_REC_SHARE_MORE] = {0};
	enum sp_err e;
	size_t at = 0;

	if (lane < 1 || lane > SP_REC_LANES)
		return SP_ERR_NOTFOUND;
	l = &h->lane[lane - 1];
	while (at < l->n && l->who[at] != i)
		at++;
	if (at == l->n)
		return SP_ERR_NOTFOUND;
	e = crypto_box_seal_open(plain, l->box[at], sp_rec_box_bytes(l), pk,
	    sk) != 0 ? SP_ERR_CRYPTO : take_text(h, lane, plain, o);
	sodium_memzero(plain, sizeof(plain));
	return e;
}

static enum sp_err
join_shares(const struct sp_rec_opened *o, size_t n, uint8_t *key)
{
	struct sp_share s[SP_SHARES_MAX];
	uint8_t secret[SP_SHARE_SECRET_MAX];
	size_t len = 0, bad = 0;
	enum sp_err e;

	for (size_t i = 0; i < n; i++) {
		s[i] = (struct sp_share){.k = o[i].k, .n = o[i].n,
		    .index = o[i].index, .len = 32};
		memcpy(s[i].set, o[i].set, 16);
		memcpy(s[i].y, o[i].key, 32);
	}
	e = sp_shares_check(s, n, &bad);
	if (e == SP_OK)
		e = sp_shares_join(s, n, secret, &len, &bad);
	if (e == SP_OK && o[0].is_group)
		e = sp_lane_of_group(secret, o[0].lane, key);
	else if (e == SP_OK)
		memcpy(key, secret, 32);
	sp_share_wipe(s, n);
	sodium_memzero(secret, sizeof(secret));
	return e;
}

enum sp_err
sp_rec_lane_join(const struct sp_rec_opened *o, size_t n,
    uint8_t key[static 32])
{
	if (n == 0 || n > SP_SHARES_MAX)
		return SP_ERR_AGAIN;
	if (o[0].threshold > 1)
		return join_shares(o, n, key);
	memcpy(key, o[0].key, 32);
	return SP_OK;
}
