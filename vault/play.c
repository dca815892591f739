/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/play.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/keysrule.h"
#include "common/lanes.h"
#include "common/mask.h"
#include "common/signed.h"
#include "common/sort.h"
#include "vault/release.h"
#include "vault/show.h"
#include "vault/poison.h"

#define WAIT_US 30000000

/* Of a recording of a search; the player asks for it once. */
struct masked {
	struct masked *next;
	uint8_t id[16];
	struct sp_buf masks;
};
#define MASKED_MAX 32

struct play {
	uint64_t id;
	bool is_granted, is_served, is_over;
	bool is_released;	/* signed for: what was typed in `keys_of` */
	uint8_t keys_of[16];
	uint32_t lanes;		/* bit n: lane n is granted */
	bool is_search, is_sorted;
	uint8_t (*many)[16];	/* of a search */
	size_t n_many;
	uint8_t session[16];
	struct sp_buf masks;	/* common/mask.h */
	struct masked *masked;
	int64_t due_us;		/* boot-time clock; by then it has asked */
	struct sp_link link;
};

struct sp_plays {
	struct sp_root *root;
	struct sp_lease_ops ops;
	const struct sp_config *cfg;	/* NULL: no rule */
	size_t n;
	struct play *row[SP_PLAYS_MAX];
};

struct sp_plays *
sp_plays_new(struct sp_root *root, const struct sp_lease_ops *ops)
{
	struct sp_plays *t = calloc(1, sizeof(*t));

	if (t != NULL) {
		t->root = root;
		t->ops = *ops;
	}
	return t;
}

static void
masked_free(struct masked **at)
{
	struct masked *m = *at;

	*at = m->next;
	sp_buf_fini(&m->masks);
	free(m);
}

static void
play_free(struct play *y)
{
	while (y->masked != NULL)
		masked_free(&y->masked);
	sp_link_fini(&y->link);
	sp_buf_fini(&y->masks);
	free(y->many);
	free(y);
}

void
sp_plays_free(struct sp_plays *t)
{
	for (size_t i = 0; t != NULL && i < t->n; i++)
		play_free(t->row[i]);
	free(t);
}

static struct play *
find_or_add(struct sp_plays *t, uint64_t id)
{
	struct play *y;

	for (size_t i = 0; i < t->n; i++)
		if (t->row[i]->id == id && !t->row[i]->is_over)
			return t->row[i];
	if (t->n == SP_PLAYS_MAX || (y = calloc(1, sizeof(*y))) == NULL)
		return NULL;
	y->id = id;
	y->link.fd = -1;
	sp_buf_init(&y->masks, SP_MASK_BYTES);
	y->link.tx_tail = &y->link.tx_head;
	y->due_us = sp_boot_us() + WAIT_US;
	t->row[t->n++] = y;
	return y;
}

/* ------------------------------------------------------- what was typed */

#define KEYS (UINT32_C(1) << SP_LANE_IN)

void
sp_plays_demand(struct sp_plays *t, const struct sp_config *cfg)
{
	t->cfg = cfg;
}

enum sp_err
sp_plays_rule(const struct sp_plays *t, const uint8_t session[static 16],
    struct sp_buf *rule)
{
	char bad[256];

	return t->cfg == NULL ? SP_ERR_NOTFOUND :
	    sp_keys_rule(t->cfg, session, rule, bad, sizeof(bad));
}

static bool
demands(const struct sp_plays *t)
{
	return t->cfg != NULL && t->cfg->keys_approvals > 0;
}

enum sp_err
sp_play_release(struct sp_plays *t, const struct sp_msg_v_play_release *m,
    int64_t now_us, char by[static 256], char text[static 256])
{
	SP_BUF_AUTO rule = {.max = SP_RULE_MAX};
	struct sp_release_wish w = {.kind = SP_CHALLENGE_KEYS,
	    .secret = m->session, .target = m->session, .account = m->account,
	    .target_name = m->target_name, .challenge = m->challenge,
	    .approvals = m->approvals};
	struct play *y;
	enum sp_err e;

	by[0] = text[0] = '\0';
	if (!t->root->is_open)
		return SP_ERR_SEALED;
	if ((e = sp_plays_rule(t, m->session, &rule)) != SP_OK)
		return e == SP_ERR_NOTFOUND ? SP_OK : SP_ERR_DENIED;
	w.rule = sp_buf_span(&rule);
	SP_TRY(sp_release_check(t->root, &w, now_us, by, text));
	if ((y = find_or_add(t, m->play)) == NULL)
		return SP_ERR_FULL;
	if (y->is_granted)
		return SP_ERR_EXISTS;
	y->is_released = true;
	memcpy(y->keys_of, m->session, 16);
	return SP_OK;
}

static bool
may_open(const struct sp_plays *t, const struct play *y,
    const uint8_t session[static 16], uint32_t lanes)
{
	return !demands(t) || (lanes & KEYS) == 0 || (y->is_released &&
	    sodium_memcmp(y->keys_of, session, 16) == 0);
}

enum sp_err
sp_play_grant(struct sp_plays *t, uint64_t play,
    const uint8_t session[static 16], uint32_t lanes)
{
	struct play *y;

	if (!t->root->is_open)
		return SP_ERR_SEALED;
	if (sp_uuid_is_nil(session) || lanes == 0)
		return SP_ERR_INVAL;
	if ((y = find_or_add(t, play)) == NULL)
		return SP_ERR_FULL;
	if (y->is_granted)
		return SP_ERR_EXISTS;
	if (!may_open(t, y, session, lanes))
		return SP_ERR_DENIED;
	y->is_granted = true;
	y->lanes = lanes;
	if (y->link.fd < 0)
		y->due_us = sp_boot_us() + WAIT_US;
	memcpy(y->session, session, 16);
	return SP_OK;
}

static struct play *
granted_of(struct sp_plays *t, uint64_t play, bool is_search)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->row[i]->id == play && !t->row[i]->is_over &&
		    t->row[i]->is_granted && t->row[i]->is_search == is_search)
			return t->row[i];
	return NULL;
}

enum sp_err
sp_play_mask(struct sp_plays *t, uint64_t play, const struct sp_secret_row *row,
    struct sp_span sealed)
{
	struct play *y = granted_of(t, play, false);

	if (!t->root->is_open)
		return SP_ERR_SEALED;
	if (y == NULL || y->is_served)
		return SP_ERR_INVAL;
	return sp_secret_mask(t->root, row, sealed, &y->masks);
}

static bool is_among(struct play *y, const uint8_t *id);

/* NULL: too many that were not asked for, or no memory. */
static struct masked *
masked_of(struct play *y, const uint8_t session[static 16], bool may_add)
{
	struct masked *m = y->masked;
	size_t n = 0;

	for (; m != NULL; m = m->next, n++)
		if (sodium_memcmp(m->id, session, 16) == 0)
			return m;
	if (!may_add || n >= MASKED_MAX || (m = calloc(1, sizeof(*m))) == NULL)
		return NULL;
	memcpy(m->id, session, 16);
	sp_buf_init(&m->masks, SP_MASK_BYTES);
	m->next = y->masked;
	return y->masked = m;
}

enum sp_err
sp_search_mask(struct sp_plays *t, uint64_t play,
    const uint8_t session[static 16], const struct sp_secret_row *row,
    struct sp_span sealed)
{
	struct play *y = granted_of(t, play, true);
	struct masked *m;

	if (!t->root->is_open)
		return SP_ERR_SEALED;
	if (y == NULL || !is_among(y, session))
		return SP_ERR_INVAL;
	if ((m = masked_of(y, session, true)) == NULL)
		return SP_ERR_FULL;
	return sp_secret_mask(t->root, row, sealed, &m->masks);
}

enum sp_err
sp_search_grant(struct sp_plays *t, uint64_t play, uint32_t lanes,
    struct sp_span sessions)
{
	struct play *y;
	uint8_t (*many)[16];
	size_t n = sessions.n / 16;

	if (!t->root->is_open)
		return SP_ERR_SEALED;
	if (n == 0 || sessions.n % 16 != 0 || lanes == 0)
		return SP_ERR_INVAL;
	if (demands(t) && (lanes & KEYS) != 0)
		return SP_ERR_DENIED;	/* nobody signs for all of them */
	if ((y = find_or_add(t, play)) == NULL)
		return SP_ERR_FULL;
	if (y->is_granted && (!y->is_search || y->is_served || y->lanes != lanes))
		return SP_ERR_EXISTS;
	if (y->n_many + n > SP_SEARCH_SESSIONS_MAX)
		return SP_ERR_TOOBIG;
	many = calloc(y->n_many + n, sizeof(*many));
	if (many == NULL)
		return SP_ERR_NOMEM;
	if (y->n_many > 0)
		memcpy(many, y->many, y->n_many * sizeof(*many));
	memcpy(many + y->n_many, sessions.p, n * sizeof(*many));
	free(y->many);
	y->many = many;
	y->n_many += n;
	y->is_sorted = false;
	y->is_granted = y->is_search = true;
	y->lanes = lanes;
	if (y->link.fd < 0)
		y->due_us = sp_boot_us() + WAIT_US;
	return SP_OK;
}

enum sp_err
sp_play_link(struct sp_plays *t, uint64_t play, int fd)
{
	struct play *y = find_or_add(t, play);
	enum sp_err e;

	if (y == NULL || y->link.fd >= 0) {
		close(fd);
		return y == NULL ? SP_ERR_FULL : SP_ERR_EXISTS;
	}
	e = sp_link_init(&y->link, fd, SP_ROLE_VLT, SP_ROLE_PLY, SP_ST_READY);
	y->is_over = e != SP_OK;
	return e;
}

void
sp_plays_end_all(struct sp_plays *t)
{
	for (size_t i = 0; i < t->n; i++)
		t->row[i]->is_over = true;
}

/* ------------------------------------------------------------------- keys */

/* The keys of those lanes of a group that are granted. */
static enum sp_err
put_group(const uint8_t *clear, uint32_t granted, struct sp_buf *out,
    uint8_t *n)
{
	unsigned lanes = clear[48] | (unsigned)clear[49] << 8;
	uint8_t *at;

	for (uint8_t lane = 1; lane <= 16; lane++) {
		if ((lanes >> (lane - 1) & 1) == 0 || (granted >> lane & 1) == 0)
			continue;
		SP_TRY(sp_buf_put_u8(out, lane));
		SP_TRY(sp_buf_reserve(out, SP_LANE_KEY_BYTES, &at));
		SP_TRY(sp_lane_of_group(clear, lane, at));
		sp_buf_commit(out, SP_LANE_KEY_BYTES);
		*n = (uint8_t)(*n + 1);
	}
	return SP_OK;
}

/* The next box, and the keys that are granted of it. clear: room for its text.
 * SP_ERR_CRYPTO: it does not open. SP_ERR_DENIED: of another session, or not of the
 * lane that it is said to be of. */
static enum sp_err
open_box(const struct sp_root *r, const uint8_t session[static 16],
    uint32_t granted, struct sp_span *in, uint8_t *clear, struct sp_buf *out,
    uint8_t *n)
{
	const uint8_t *box;
	uint8_t lane = 0;
	size_t len;

	SP_TRY(sp_get_u8(in, &lane));
	len = lane == 0 ? SP_GROUP_SEALED_BYTES : SP_LANE_SEALED_BYTES;
	SP_TRY(sp_get(in, len, &box));
	if (lane != 0 && (lane >= 32 || (granted >> lane & 1) == 0))
		return SP_OK;
	if (crypto_box_seal_open(clear, box, len, r->rec_pk, r->rec.p) != 0)
		return SP_ERR_CRYPTO;
	if (sodium_memcmp(clear + SP_LANE_KEY_BYTES, session, 16) != 0 ||
	    (lane != 0 && clear[SP_LANE_KEY_BYTES + 16] != lane))
		return SP_ERR_DENIED;
	if (lane == 0)
		return put_group(clear, granted, out, n);
	*n = (uint8_t)(*n + 1);
	SP_TRY(sp_buf_put_u8(out, lane));
	return sp_buf_put(out, clear, SP_LANE_KEY_BYTES);
}

enum sp_err
sp_lane_keys_open(const struct sp_root *r, const uint8_t session[static 16],
    uint32_t granted, struct sp_span sealed, struct sp_buf *out)
{
	SP_SECRET_AUTO clear = {0};
	size_t boxes = 0;
	uint8_t n = 0;

	if (!r->is_open)
		return SP_ERR_SEALED;
	SP_TRY(sp_secret_new(&clear, SP_GROUP_PLAIN_BYTES));
	while (sealed.n > 0) {
		if (++boxes > SP_PLAY_LANES_MAX)
			return SP_ERR_TOOBIG;
		SP_TRY(open_box(r, session, granted, &sealed, clear.p, out, &n));
	}
	return boxes == 0 ? SP_ERR_INVAL : SP_OK;
}

static void
refuse(struct sp_plays *t, struct play *y, const char *what, const char *detail)
{
	t->ops.event(t->ops.arg, what, y->session, detail);
	y->is_over = true;
}

static enum sp_err
on_play_keys(struct sp_plays *t, struct play *y, struct sp_packet *p)
{
	SP_BUF_AUTO keys = {.max = 1024};
	struct sp_msg_play_keys_r r = {0};
	struct sp_msg_play_keys m;
	enum sp_err e = SP_ERR_DENIED;

	SP_TRY(sp_dec_play_keys(p->body, &m));
	if (y->is_granted && !y->is_search && !y->is_served && sp_span_eq(sp_span_of(m.session, 16),
	    sp_span_of(y->session, 16)))
		e = sp_lane_keys_open(t->root, y->session, y->lanes, m.sealed,
		    &keys);
	if (e != SP_OK)
		refuse(t, y, "recording_keys_refused", sp_err_text(e));
	r.ok = e == SP_OK;
	if (r.ok) {
		r.keys = sp_buf_span(&keys);
		r.masks = sp_buf_span(&y->masks);
	}
	y->is_served = true;
	y->due_us = INT64_MAX;	/* until the player hangs up */
	return sp_send_play_keys_r(&y->link, p->corr, &r, NULL);
}

/* Ids are no secrets. */
static int
compare(const void *a, const void *b)
{
	const uint8_t *x = a, *y = b;
	size_t i = 0;

	while (i < 15 && x[i] == y[i])
		i++;
	return x[i] - y[i];
}

static bool
is_among(struct play *y, const uint8_t *id)
{
	if (!y->is_sorted)
		sp_sort(y->many, y->n_many, sizeof(*y->many), compare);
	y->is_sorted = true;
	return bsearch(id, y->many, y->n_many, sizeof(*y->many), compare) != NULL;
}

/* The boxes of one recording: those that do not open stay closed. What is not
 * granted, or says that it is another's, ends the player. */
static enum sp_err
search_one(struct sp_plays *t, struct play *y, struct sp_span *in,
    uint8_t *clear, struct sp_buf *out)
{
	SP_BUF_AUTO keys = {.max = SP_PLAY_LANES_MAX * 16 * 33};
	uint8_t n = 0, opened = 0, before;
	const uint8_t *id;
	enum sp_err e;

	SP_TRY(sp_get(in, 16, &id));
	SP_TRY(sp_get_u8(in, &n));
	if (n > SP_PLAY_LANES_MAX)
		return SP_ERR_PROTO;
	if (!is_among(y, id))
		return SP_ERR_DENIED;
	for (uint8_t i = 0; i < n; i++) {
		before = opened;
		e = open_box(t->root, id, y->lanes, in, clear, &keys, &opened);
		if (e == SP_OK && opened == before)
			e = SP_ERR_DENIED;
		if (e != SP_ERR_CRYPTO)
			SP_TRY(e);
	}
	SP_TRY(sp_buf_put(out, id, 16));
	SP_TRY(sp_buf_put_u8(out, opened));
	return sp_buf_put(out, sp_buf_span(&keys).p, keys.len);
}

static enum sp_err
on_search_keys(struct sp_plays *t, struct play *y, struct sp_packet *p)
{
	SP_BUF_AUTO keys = {.max = 61440};
	SP_SECRET_AUTO clear = {0};
	struct sp_msg_search_keys_r r = {0};
	struct sp_msg_search_keys m;
	enum sp_err e = y->is_search && t->root->is_open ? SP_OK : SP_ERR_DENIED;

	SP_TRY(sp_dec_search_keys(p->body, &m));
	SP_TRY(sp_secret_new(&clear, SP_GROUP_PLAIN_BYTES));
	while (e == SP_OK && m.boxes.n > 0)
		e = search_one(t, y, &m.boxes, clear.p, &keys);
	if (e != SP_OK)
		refuse(t, y, "recording_keys_refused", sp_err_text(e));
	r.ok = e == SP_OK;
	if (r.ok)
		r.keys = sp_buf_span(&keys);
	y->is_served = true;
	y->due_us = INT64_MAX;
	return sp_send_search_keys_r(&y->link, p->corr, &r, NULL);
}

static enum sp_err
on_search_masks(struct sp_plays *t, struct play *y, struct sp_packet *p)
{
	struct sp_msg_search_masks_r r = {0};
	struct sp_msg_search_masks m;
	struct masked *has;
	enum sp_err e;

	SP_TRY(sp_dec_search_masks(p->body, &m));
	memcpy(r.session, m.session, 16);
	r.ok = y->is_search && t->root->is_open && is_among(y, m.session);
	has = r.ok ? masked_of(y, m.session, false) : NULL;
	if (has != NULL)
		r.masks = sp_buf_span(&has->masks);
	e = sp_send_search_masks_r(&y->link, p->corr, &r, NULL);
	for (struct masked **at = &y->masked; has != NULL && *at != NULL;)
		if (*at == has) {
			masked_free(at);
			has = NULL;
		} else {
			at = &(*at)->next;
		}
	return e;
}

static void
serve(struct sp_plays *t, struct play *y)
{
	struct sp_packet p;
	enum sp_err e = sp_link_recv(&y->link, &p);

	if (e == SP_ERR_AGAIN)
		return;
	if (e == SP_OK) {
		e = p.type == SP_MSG_play_keys ? on_play_keys(t, y, &p) :
		    p.type == SP_MSG_search_keys ? on_search_keys(t, y, &p) :
		    p.type == SP_MSG_search_masks ? on_search_masks(t, y, &p) :
		    SP_ERR_PROTO;
		sp_packet_close_fds(&p);
	}
	if (e == SP_ERR_PROTO || e == SP_ERR_TOOBIG)
		refuse(t, y, "player_protocol", y->link.fault);
	else if (e != SP_OK)
		y->is_over = true;
}

size_t
sp_plays_poll(struct sp_plays *t, struct pollfd *pf, size_t cap)
{
	size_t n = 0;

	for (; n < t->n && n < cap; n++)
		pf[n] = (struct pollfd){.fd = t->row[n]->link.fd,
		    .events = POLLIN};
	return n;
}

void
sp_plays_serve(struct sp_plays *t, const struct pollfd *pf, size_t n)
{
	for (size_t i = 0; i < n && i < t->n; i++)
		if (pf[i].revents != 0 && !t->row[i]->is_over &&
		    t->row[i]->link.fd >= 0 && t->row[i]->link.fd == pf[i].fd)
			serve(t, t->row[i]);
}

void
sp_plays_tick(struct sp_plays *t, int64_t boot_us)
{
	size_t keep = 0;

	for (size_t i = 0; i < t->n; i++) {
		if (t->row[i]->is_over || boot_us >= t->row[i]->due_us)
			play_free(t->row[i]);
		else
			t->row[keep++] = t->row[i];
	}
	t->n = keep;
}

int64_t
sp_plays_due_us(const struct sp_plays *t)
{
	int64_t due = INT64_MAX;

	for (size_t i = 0; i < t->n; i++) {
		if (t->row[i]->is_over)
			return 0;
		if (t->row[i]->due_us < due)
			due = t->row[i]->due_us;
	}
	return due;
}
