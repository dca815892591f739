/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/search.h"

#include <json-c/json.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/session_int.h"
#include "bastion/broker/session_masks.h"
#include "bastion/broker/verb_int.h"
#include "common/signed.h"

#define START_S 30
#define GRANT_PIECE (60000u / 16)
#define TOLD_MAX 100u		/* sessions named in an event */

enum search_state { SEA_WRITING, SEA_SPAWNING, SEA_GRANTING, SEA_RUNNING, SEA_OVER };

struct item {
	uint8_t id[16];
	int64_t started_us;
	char person[65], account[65], target[65];
};

struct sp_search_run {
	struct sp_search_run *next;
	struct sp_broker *b;
	uint64_t id;
	unsigned refs;
	enum search_state state;
	struct sp_actor who;
	char words[513];
	uint8_t lanes, what;
	uint32_t limit;
	struct item *item;
	size_t n, granted, opened; /* items; those that the vault knows, asked for */
	uint32_t missing, owed, under_way; /* batches */
	bool is_all;
	struct sp_peer *peer;
	int stream;
	struct event *deadline;
	sp_play_cb cb;
	void *arg;
};

static void
search_release(struct sp_search_run *v)
{
	if (--v->refs > 0)
		return;
	event_free(v->deadline);
	free(v->item);
	free(v);
}

static void
tell(struct sp_search_run *v, enum sp_err e, int stream, const char *text)
{
	sp_play_cb cb = v->cb;

	v->cb = NULL;
	if (cb != NULL)
		cb(v->arg, e, stream, text);
	else
		sp_close_fds(&stream, 1);
}

static void
search_end(struct sp_search_run *v, enum sp_err e, const char *text)
{
	struct sp_search_run **at = &v->b->sessions->searches;

	if (v->state == SEA_OVER)
		return;
	v->state = SEA_OVER;
	event_del(v->deadline);
	while (*at != v)
		at = &(*at)->next;
	*at = v->next;
	sp_close_fds(&v->stream, 1);
	v->stream = -1;
	if (v->peer != NULL)
		sp_peer_drop(v->peer);
	v->peer = NULL;
	tell(v, e, -1, text);
	search_release(v);
}

static struct sp_search_run *
find(struct sp_broker *b, uint64_t id)
{
	struct sp_search_run *v = b->sessions->searches;

	while (v != NULL && v->id != id)
		v = v->next;
	return v;
}

static void
lane_names(uint8_t lanes, char o[static 64])
{
	snprintf(o, 64, "%s%s%s%s", (lanes & SP_SEARCH_SCREEN) != 0 ? " screen" :
	    "", (lanes & SP_SEARCH_KEYS) != 0 ? " keys" : "",
	    (lanes & SP_SEARCH_FILES) != 0 ? " files" : "",
	    (lanes & SP_SEARCH_COMMANDS) != 0 ? " commands" : "");
	memmove(o, o + 1, strlen(o));
}

/* ------------------------------------------------------------------ batches */

static void
next_batch(struct sp_search_run *v)
{
	struct sp_msg_search_open m = {.play = v->id};
	struct sp_msg_search_all all = {.missing = v->missing};
	uint8_t ids[SP_SEARCH_BATCH * 16];
	size_t n = 0;

	if (v->opened == v->n) {
		if (v->under_way > 0 || v->is_all)
			return;
		v->is_all = true;
		sp_peer_sent(v->peer, sp_send_search_all(&v->peer->link, 0, &all,
		    NULL));
		return;
	}
	for (; n < SP_SEARCH_BATCH && v->opened < v->n; n++)
		memcpy(ids + 16 * n, v->item[v->opened++].id, 16);
	m.sessions = sp_span_of(ids, 16 * n);
	v->under_way++;
	sp_peer_sent(v->b->sup, sp_send_search_open(&v->b->sup->link, v->id, &m,
	    NULL));
}

static enum sp_err
put_item(struct sp_buf *b, const struct item *i)
{
	SP_TRY(sp_buf_put(b, i->id, 16));
	SP_TRY(sp_buf_put_u64(b, (uint64_t)i->started_us));
	SP_TRY(sp_buf_put_bytes(b, sp_span_str(i->person)));
	SP_TRY(sp_buf_put_bytes(b, sp_span_str(i->account)));
	return sp_buf_put_bytes(b, sp_span_str(i->target));
}

/* They come back in the order in which they were asked for. */
static enum sp_err
put_list(struct sp_search_run *v, const struct sp_msg_search_opened *m,
    struct sp_buf *b)
{
	size_t at = v->owed;	/* the first one of this batch */
	size_t end = at + SP_SEARCH_BATCH < v->n ? at + SP_SEARCH_BATCH : v->n;
	size_t found = 0;

	if (m->n > SP_SEARCH_BATCH || m->sessions.n != 16u * m->n)
		return SP_ERR_PROTO;
	for (; at < end; at++) {
		if (found == m->n || memcmp(v->item[at].id, m->sessions.p +
		    16 * found, 16) != 0) {
			v->missing++;
			continue;
		}
		SP_TRY(put_item(b, &v->item[at]));
		found++;
	}
	v->owed = (uint32_t)end;
	return found == m->n ? SP_OK : SP_ERR_PROTO;
}

void
sp_search_on_opened(struct sp_broker *b, const struct sp_msg_search_opened *m,
    const int *fds)
{
	SP_BUF_AUTO list = {.max = 16384};
	struct sp_msg_search_batch out = {.n = m->n};
	struct sp_search_run *v = find(b, m->play);

	if (v == NULL || v->state != SEA_RUNNING || v->under_way == 0 ||
	    put_list(v, m, &list) != SP_OK) {
		sp_close_fds(fds, SP_SEARCH_BATCH);
		return;
	}
	v->under_way--;
	if (m->n == 0) {
		sp_close_fds(fds, SP_SEARCH_BATCH);
		next_batch(v);
		return;
	}
	out.list = sp_buf_span(&list);
	sp_peer_sent(v->peer, sp_send_search_batch(&v->peer->link, 0, &out, fds));
}

/* -------------------------------------------------------------------- running */

static void
over(struct sp_search_run *v, const struct sp_msg_search_result *m)
{
	struct json_object *d = sp_detail(), *ids = json_object_new_array();
	char id[SP_UUID_TEXT], words[4 * sizeof(v->words)];

	sp_detail_str(d, "words", sp_vis(words, sizeof(words),
	    sp_span_str(v->words)));
	sp_detail_i64(d, "recordings", m->read);
	sp_detail_i64(d, "unread", m->unread);
	sp_detail_i64(d, "sealed", m->sealed);
	sp_detail_i64(d, "hits", (int64_t)(m->hits & INT64_MAX));
	sp_detail_i64(d, "sessions", m->sessions);
	for (size_t i = 0; i + 16 <= m->found.n && i < 16u * TOLD_MAX; i += 16) {
		sp_uuid_text(id, m->found.p + i);
		json_object_array_add(ids, json_object_new_string(id));
	}
	json_object_object_add(d, "found_in", ids);
	sp_flow_audit(v->b, "searched", v->who.name, NULL, d);
	search_end(v, SP_OK, "");
}

/* What a hit's text must not show is asked when there is a hit. */
struct masking {
	struct sp_search_run *v;
	uint8_t session[16];
};

static void
masked(void *arg, enum sp_err e)
{
	struct masking *k = arg;
	struct sp_search_run *v = k->v;
	struct sp_msg_search_masked m = {.err = (uint8_t)e};

	memcpy(m.session, k->session, 16);
	if (v->state == SEA_RUNNING && v->peer != NULL)
		sp_peer_sent(v->peer, sp_send_search_masked(&v->peer->link, 0, &m,
		    NULL));
	free(k);
	search_release(v);
}

static void
mask(struct sp_search_run *v, const uint8_t session[static 16])
{
	struct masking *k = calloc(1, sizeof(*k));

	if (k == NULL) {
		search_end(v, SP_ERR_NOMEM, "out of memory");
		return;
	}
	k->v = v;
	memcpy(k->session, session, 16);
	v->refs++;
	sp_session_masks(v->b, v->id, true, session, masked, k);
}

static void
on_packet(struct sp_peer *p, struct sp_packet *k, void *arg)
{
	struct sp_search_run *v = arg;
	struct sp_msg_search_mask hit;
	struct sp_msg_search_next next;
	struct sp_msg_search_result m;

	(void)p;
	sp_packet_close_fds(k);
	if (v->state == SEA_RUNNING && k->type == SP_MSG_search_next &&
	    sp_dec_search_next(k->body, &next) == SP_OK) {
		next_batch(v);
	} else if (v->state == SEA_RUNNING && k->type == SP_MSG_search_result &&
	    sp_dec_search_result(k->body, &m) == SP_OK) {
		over(v, &m);
	} else if (v->state == SEA_RUNNING && k->type == SP_MSG_search_mask &&
	    sp_dec_search_mask(k->body, &hit) == SP_OK) {
		mask(v, hit.session);
	} else {
		struct json_object *d = sp_detail();

		sp_detail_str(d, "text", "player");
		sp_flow_audit(v->b, "peer_broke_protocol", v->who.name, NULL, d);
		search_end(v, SP_ERR_PROTO, "the player broke the protocol");
	}
}

static void
on_end(struct sp_peer *p, const char *fault, void *arg)
{
	struct sp_search_run *v = arg;
	struct json_object *d;

	(void)p;
	v->peer = NULL;
	if (fault != NULL && fault[0] != '\0') {
		d = sp_detail();
		sp_detail_str(d, "text", fault);
		sp_flow_audit(v->b, "peer_broke_protocol", v->who.name, NULL, d);
	}
	search_end(v, SP_ERR_EOF, "the player went away");
}

static void
start(struct sp_search_run *v)
{
	struct sp_msg_search_start m = {.play = v->id, .lanes = v->lanes,
	    .what = v->what, .limit = v->limit, .total = (uint32_t)v->n,
	    .words = sp_span_str(v->words), .name = sp_span_str(v->who.name)};
	int fd = v->stream;

	memcpy(m.recording_key, sp_vault_status(v->b->vault)->recording_key, 32);
	v->state = SEA_RUNNING;
	v->stream = -1;
	event_del(v->deadline);
	sp_peer_sent(v->peer, sp_send_search_start(&v->peer->link, 0, &m, NULL));
	tell(v, SP_OK, fd, "");
}

static void grant(struct sp_search_run *v);

static void
granted(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct sp_search_run *v = arg;
	struct sp_msg_v_done m = {.err = 1};

	if (e == SP_OK)
		e = sp_dec_v_done(reply->body, &m);
	if (v->state == SEA_GRANTING) {
		if (e != SP_OK || sp_vault_status(v->b->vault) == NULL)
			search_end(v, SP_ERR_SEALED, sp_flow_why(e));
		else if (m.err != SP_OK)
			search_end(v, SP_ERR_DENIED, "the vault gives no keys for it");
		else if (v->granted < v->n)
			grant(v);
		else
			start(v);
	}
	search_release(v);
}

static uint32_t
lanes_of(const struct sp_search_run *v)
{
	uint32_t seen = 1u << SP_LANE_OUT | 1u << SP_LANE_META |
	    1u << SP_LANE_VIEW;

	return (v->lanes & SP_SEARCH_KEYS) != 0 ? seen | 1u << SP_LANE_IN : seen;
}

static void
grant(struct sp_search_run *v)
{
	SP_BUF_AUTO body = {.max = SP_IPC_BODY_MAX}, ids = {.max = 61440};
	struct sp_msg_v_search_grant m = {.play = v->id, .lanes = lanes_of(v)};
	enum sp_err e = SP_OK;

	for (size_t i = 0; e == SP_OK && i < GRANT_PIECE && v->granted < v->n; i++)
		e = sp_buf_put(&ids, v->item[v->granted++].id, 16);
	m.sessions = sp_buf_span(&ids);
	if (e != SP_OK || sp_enc_v_search_grant(&body, &m) != SP_OK) {
		search_end(v, SP_ERR_NOMEM, "out of memory");
		return;
	}
	v->refs++;
	sp_vault_call(v->b->vault, SP_MSG_v_search_grant, sp_buf_span(&body),
	    SP_MSG_v_done, granted, v);
}

bool
sp_search_on_spawned(struct sp_broker *b, const struct sp_msg_play_spawned *m,
    const int fds[static 2])
{
	struct sp_search_run *v = find(b, m->play);

	if (v == NULL)
		return false;
	if (v->state != SEA_SPAWNING) {
		sp_close_fds(fds, 2);
		return true;
	}
	v->state = SEA_GRANTING;
	v->stream = fds[1];
	v->peer = sp_peer_new(b, fds[0], SP_ROLE_PLY, SP_ST_READY, on_packet,
	    on_end, v);
	if (v->peer == NULL)
		search_end(v, SP_ERR_NOMEM, "out of memory");
	else
		grant(v);
	return true;
}

bool
sp_search_spawn_failed(struct sp_broker *b, uint64_t id, const char *text)
{
	struct sp_search_run *v = find(b, id);

	if (v == NULL)
		return false;
	/* No player, or no files for it. */
	if (v->state == SEA_SPAWNING || v->state == SEA_RUNNING)
		search_end(v, SP_ERR_IO, text);
	return true;
}

/* ------------------------------------------------------ before anything is read */

static void
written(void *arg, enum sp_err e)
{
	struct sp_search_run *v = arg;
	struct sp_msg_search_spawn m = {.play = v->id};
	char text[200];

	if (v->state == SEA_WRITING && e != SP_OK) {
		snprintf(text, sizeof(text), "nothing is shown that is not written "
		    "down first, and %s", sp_flow_why(e));
		search_end(v, e, text);
	} else if (v->state == SEA_WRITING) {
		v->state = SEA_SPAWNING;
		sp_peer_sent(v->b->sup, sp_send_search_spawn(&v->b->sup->link,
		    v->id, &m, NULL));
	}
	search_release(v);
}

/* The list itself may be as long as the log: its digest is written down, and
 * the filters say how to make it again. */
static void
write_down(struct sp_search_run *v, const char *filters)
{
	struct sp_change *c = sp_change_new(v->b->store);
	struct json_object *d = sp_detail(), *ids = json_object_new_array();
	crypto_hash_sha256_state h;
	uint8_t sum[32];
	char lanes[64], id[SP_UUID_TEXT], words[4 * sizeof(v->words)];

	crypto_hash_sha256_init(&h);
	for (size_t i = 0; i < v->n; i++) {
		crypto_hash_sha256_update(&h, v->item[i].id, 16);
		sp_uuid_text(id, v->item[i].id);
		if (v->n <= TOLD_MAX)
			json_object_array_add(ids, json_object_new_string(id));
	}
	crypto_hash_sha256_final(&h, sum);
	lane_names(v->lanes, lanes);
	sp_detail_str(d, "addr", v->who.addr);
	sp_detail_str(d, "words", sp_vis(words, sizeof(words),
	    sp_span_str(v->words)));
	sp_detail_str(d, "lanes", lanes);
	sp_detail_str(d, "regex", (v->what & SP_SEARCH_REGEX) != 0 ? "yes" : NULL);
	sp_detail_str(d, "filters", filters);
	sp_detail_i64(d, "recordings", (int64_t)v->n);
	sp_detail_hex(d, "list_sha256", sum, 32);
	if (v->n <= TOLD_MAX)
		json_object_object_add(d, "list", ids);
	else
		json_object_put(ids);
	sp_flow_change_audit(c, "search", v->who.name, NULL, d);
	v->refs++;
	sp_change_commit(c, written, v);
}

static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	search_end(arg, SP_ERR_TIMEOUT, "it took too long to begin");
}

static void
copy_name(char dst[static 65], const struct sp_rows *r, size_t i,
    const char *col)
{
	const char *s = sp_rows_get(r, i, col);

	snprintf(dst, 65, "%.64s", s == NULL ? "?" : s);
}

static struct sp_search_run *
search_new(struct sp_broker *b, const struct sp_actor *who,
    const struct sp_search_ask *ask)
{
	struct sp_search_run *v = calloc(1, sizeof(*v));
	const struct sp_rows *r = ask->sessions;

	if (v == NULL)
		return NULL;
	v->b = b;
	v->n = sp_rows_n(r);
	v->deadline = event_new(b->ev, -1, 0, on_deadline, v);
	v->item = calloc(v->n, sizeof(*v->item));
	if (v->deadline == NULL || v->item == NULL) {
		if (v->deadline != NULL)
			event_free(v->deadline);
		free(v->item);
		free(v);
		return NULL;
	}
	v->refs = 1;
	v->id = sp_flow_next_id(b);
	v->who = *who;
	v->stream = -1;
	v->lanes = ask->lanes;
	v->what = ask->what;
	v->limit = ask->limit;
	snprintf(v->words, sizeof(v->words), "%s", ask->words);
	for (size_t i = 0; i < v->n; i++) {
		(void)sp_rows_uuid(r, i, "id", v->item[i].id);
		v->item[i].started_us = sp_rows_i64(r, i, "started_us");
		copy_name(v->item[i].person, r, i, "person_name");
		copy_name(v->item[i].account, r, i, "account_name");
		copy_name(v->item[i].target, r, i, "target_name");
	}
	return v;
}

void
sp_search(struct sp_broker *b, const struct sp_actor *who,
    const struct sp_search_ask *ask, sp_play_cb cb, void *arg)
{
	struct timeval tv = {.tv_sec = START_S};
	struct sp_search_run *v;

	if (!who->is_host && (!sp_actor_in(who, SP_GROUP_AUDITORS) ||
	    who->mfa < SP_MFA_TOTP)) {
		struct json_object *d = sp_detail();

		sp_detail_str(d, "addr", who->addr);
		sp_detail_str(d, "words", sp_vis_str(ask->words));
		sp_flow_audit(b, "viewing_refused", who->name, NULL, d);
		cb(arg, SP_ERR_DENIED, -1, "only people of group auditors and the "
		    "administrator of the host may see recordings");
		return;
	}
	if ((v = search_new(b, who, ask)) == NULL) {
		cb(arg, SP_ERR_NOMEM, -1, "out of memory");
		return;
	}
	v->cb = cb;
	v->arg = arg;
	v->next = b->sessions->searches;
	b->sessions->searches = v;
	event_add(v->deadline, &tv);
	write_down(v, ask->filters);
}
