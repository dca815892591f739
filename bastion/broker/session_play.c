/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/session_int.h"
#include "bastion/broker/keys.h"
#include "bastion/broker/session_masks.h"
#include "bastion/broker/search.h"
#include "bastion/broker/ledger.h"
#include "bastion/broker/ship.h"
#include "common/signed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A viewer. Who may see it is asked first, that it is seen is written down
 * second, and only then is there a process that can read a recording. */
#define START_S 15
#define KEYS (1u << SP_LANE_IN)
#define FETCH_S 900	/* with the way from the store */

enum play_state { PLAY_LOADING, PLAY_SPAWNING, PLAY_GRANTING, PLAY_RUNNING, PLAY_OVER };

struct play {
	struct play *next;
	struct sp_broker *b;
	uint64_t id;
	unsigned refs;
	enum play_state state;
	struct sp_actor who;
	uint8_t session[16];
	struct sp_msg_play_start how;
	struct sp_buf rows;	/* of mode TIMELINE */
	bool has_more_rows;
	bool has_row_head, has_audit_head;
	bool is_stored;		/* not on this disk */
	struct sp_ship_wish wish;
	uint8_t row_head[32], audit_head[32];
	struct sp_peer *peer;
	int stream;
	struct event *deadline;
	sp_play_cb cb;		/* NULL once called */
	void *arg;
};

static const char *
event_of(const struct play *v)
{
	return v->how.mode == SP_PLAY_VERIFY ? "verify" :
	    v->how.mode == SP_PLAY_REPLAY ? "replay" :
	    v->how.mode == SP_PLAY_TIMELINE ? "timeline" :
	    v->how.mode == SP_PLAY_WATCH ? "watch" : "export";
}

/* For the audit: what was taken away. */
static const char *
format_of(const struct play *v)
{
	static const char *const names[] = {[SP_PLAY_ASCIICAST] = "asciicast-v2",
	    [SP_PLAY_ASCIICAST3] = "asciicast-v3", [SP_PLAY_TEXT] = "text",
	    [SP_PLAY_HTML] = "html", [SP_PLAY_RECORDS] = "records",
	    [SP_PLAY_COMMANDS] = "commands"};
	const char *name = v->how.mode < sizeof(names) / sizeof(names[0]) ?
	    names[v->how.mode] : NULL;

	if (v->how.mode == SP_PLAY_ASCIICAST && (v->how.what & SP_PLAY_KEYS) != 0)
		return "asciicast-v2 with keys";
	if (v->how.mode == SP_PLAY_ASCIICAST3 && (v->how.what & SP_PLAY_KEYS) != 0)
		return "asciicast-v3 with keys";
	return name == NULL ? "?" : name;
}

static void
play_release(struct play *v)
{
	if (--v->refs > 0)
		return;
	event_free(v->deadline);
	sp_buf_fini(&v->rows);
	free(v);
}

static void
tell(struct play *v, enum sp_err e, int stream, const char *text)
{
	sp_play_cb cb = v->cb;

	v->cb = NULL;
	if (cb != NULL)
		cb(v->arg, e, stream, text);
	else
		sp_close_fds(&stream, 1);
}

static void
play_end(struct play *v, enum sp_err e, const char *text)
{
	struct play **at = &v->b->sessions->plays;

	if (v->state == PLAY_OVER)
		return;
	v->state = PLAY_OVER;
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
	play_release(v);
}

static void
play_event(struct play *v, const char *event, uint8_t verdict,
    struct sp_span text)
{
	static const char *const verdicts[] = {
	    [SP_REC_INTACT] = "intact", [SP_REC_CUT] = "cut",
	    [SP_REC_FORGED] = "forged", [SP_REC_UNKNOWN] = "unknown",
	    [SP_REC_MISSING] = "missing", [SP_REC_RECOVERED] = "recovered",
	    [SP_REC_OPEN] = "open"};
	struct json_object *d = sp_detail();

	sp_detail_str(d, "mode", event_of(v));
	sp_detail_str(d, "verdict", verdict < 7 ? verdicts[verdict] : "?");
	sp_detail_span(d, "text", text);
	sp_flow_audit(v->b, event, v->who.name, v->session, d);
}

/* ------------------------------------------------------------------ running */

static void
on_packet(struct sp_peer *p, struct sp_packet *k, void *arg)
{
	struct play *v = arg;
	struct sp_msg_play_result m;

	(void)p;
	sp_packet_close_fds(k);
	if (v->state != PLAY_RUNNING || k->type != SP_MSG_play_result ||
	    sp_dec_play_result(k->body, &m) != SP_OK) {
		play_event(v, "peer_broke_protocol", 255, sp_span_str("player"));
		play_end(v, SP_ERR_PROTO, "the player broke the protocol");
		return;
	}
	play_event(v, m.verdict == SP_REC_INTACT || m.verdict == SP_REC_RECOVERED ||
	    m.verdict == SP_REC_OPEN ? "viewed" : "recording_not_intact",
	    m.verdict, m.text);
	play_end(v, SP_OK, "");
}

static void
on_end(struct sp_peer *p, const char *fault, void *arg)
{
	struct play *v = arg;

	(void)p;
	v->peer = NULL;
	if (fault != NULL && fault[0] != '\0')
		play_event(v, "peer_broke_protocol", 255, sp_span_str(fault));
	play_end(v, SP_ERR_EOF, "the player went away");
}

static void
start(struct play *v)
{
	struct sp_msg_play_start m = v->how;
	const struct sp_msg_v_status_r *st = sp_vault_status(v->b->vault);
	int fd = v->stream;

	m.play = v->id;
	memcpy(m.session, v->session, 16);
	memcpy(m.audit_key, st->audit_key, 32);
	m.head_is_known = v->has_audit_head || v->has_row_head;
	memcpy(m.known_head, v->has_audit_head ? v->audit_head : v->row_head, 32);
	memcpy(m.recording_key, st->recording_key, 32);
	m.name = sp_span_str(v->who.name);
	v->state = PLAY_RUNNING;
	v->stream = -1;
	event_del(v->deadline);
	sp_peer_sent(v->peer, sp_send_play_start(&v->peer->link, 0, &m, NULL));
	if (m.mode == SP_PLAY_TIMELINE && v->peer != NULL) {
		struct sp_msg_play_rows r = {.more = v->has_more_rows,
		    .rows = sp_buf_span(&v->rows)};

		sp_peer_sent(v->peer, sp_send_play_rows(&v->peer->link, 0, &r,
		    NULL));
	}
	tell(v, SP_OK, fd, "");
}

void
sp_session_play_live(struct sp_broker *b, const void *arg,
    const uint8_t session[static 16], const struct sp_msg_play_live *m)
{
	for (struct play *v = b->sessions->plays; v != NULL; v = v->next)
		if (v->arg == arg && v->how.mode == SP_PLAY_WATCH &&
		    memcmp(v->session, session, 16) == 0 &&
		    v->state == PLAY_RUNNING && v->peer != NULL) {
			sp_peer_sent(v->peer, sp_send_play_live(&v->peer->link, 0,
			    m, NULL));
			return;
		}
}

/* The vault knows what this view must not show. */
static void
masked(void *arg, enum sp_err e)
{
	struct play *v = arg;

	if (v->state == PLAY_GRANTING && (e != SP_OK ||
	    sp_vault_status(v->b->vault) == NULL))
		play_end(v, e != SP_OK ? e : SP_ERR_SEALED, "what this view must "
		    "not show cannot be told; sallyport doctor says why");
	else if (v->state == PLAY_GRANTING)
		start(v);
	play_release(v);
}

static void
granted(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct play *v = arg;
	struct sp_msg_v_done m = {.err = 1};

	if (e == SP_OK)
		e = sp_dec_v_done(reply->body, &m);
	if (v->state == PLAY_GRANTING) {
		if (e != SP_OK || sp_vault_status(v->b->vault) == NULL)
			play_end(v, SP_ERR_SEALED, sp_flow_why(e));
		else if (m.err != SP_OK)
			play_end(v, SP_ERR_DENIED, "the vault gives no key for it");
		else if (v->how.mode == SP_PLAY_VERIFY)
			start(v);
		else {
			v->refs++;
			sp_session_masks(v->b, v->id, false, v->session, masked, v);
		}
	}
	play_release(v);
}

/* What was typed and what files held are opened for who exports every record, not
 * for who looks at the screen. A list of commands shows what stood on the screen,
 * too; but where nobody wrote it down before, reading it again takes the keys. */
static uint32_t
lanes_wanted(const struct sp_msg_play_start *how)
{
	uint32_t seen = 1u << SP_LANE_OUT | 1u << SP_LANE_META |
	    1u << SP_LANE_VIEW;

	if ((how->what & SP_PLAY_KEYS) != 0)
		seen |= KEYS;
	if (how->mode == SP_PLAY_RECORDS)
		seen |= KEYS | 1u << SP_LANE_FILE;
	if (how->mode == SP_PLAY_TIMELINE || how->mode == SP_PLAY_COMMANDS)
		seen |= KEYS;
	return seen;
}

/* Where others must sign for it (keys_approvals), what can do without the keys
 * does. */
static uint32_t
lanes_of(const struct play *v)
{
	uint32_t seen = lanes_wanted(&v->how);

	if (sp_keys_needs(v->b) && sp_keys_approved(v->b, &v->who, v->session) ==
	    NULL)
		seen &= ~KEYS;
	return seen;
}

static void
ask_grant(struct play *v)
{
	SP_BUF_AUTO body = {.max = 64};
	struct sp_msg_v_play_grant q = {.play = v->id, .lanes = lanes_of(v)};

	memcpy(q.session, v->session, 16);
	if (v->peer == NULL || sp_enc_v_play_grant(&body, &q) != SP_OK) {
		play_end(v, SP_ERR_NOMEM, "out of memory");
		return;
	}
	v->refs++;
	sp_vault_call(v->b->vault, SP_MSG_v_play_grant, sp_buf_span(&body),
	    SP_MSG_v_done, granted, v);
}

static void
released(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct play *v = arg;
	struct sp_msg_v_done m = {.err = 1};
	char text[400];

	if (e == SP_OK)
		e = sp_dec_v_done(reply->body, &m);
	if (v->state == PLAY_GRANTING && e == SP_OK && m.err == SP_OK) {
		play_event(v, "keys_opened", SP_REC_OPEN, sp_span_str(""));
		/* They have agreed to what was typed, seen or unseen. */
		v->how.what |= SP_PLAY_UNMASKED;
		ask_grant(v);
	} else if (v->state == PLAY_GRANTING) {
		snprintf(text, sizeof(text), "the vault does not open what was "
		    "typed: %s", e == SP_OK ? sp_vis_tmp(m.text) : sp_flow_why(e));
		play_end(v, SP_ERR_DENIED, text);
	}
	play_release(v);
}

/* What others signed comes before the grant. */
static void
ask_release(struct play *v, const struct sp_keys_ask *k)
{
	SP_BUF_AUTO body = {.max = SP_IPC_BODY_MAX};
	struct sp_msg_v_play_release m = {.play = v->id,
	    .account = sp_span_str(k->account),
	    .target_name = sp_span_str(k->target),
	    .challenge = sp_buf_span(&k->challenge),
	    .approvals = sp_buf_span(&k->approvals)};

	memcpy(m.session, v->session, 16);
	if (v->peer == NULL || sp_enc_v_play_release(&body, &m) != SP_OK) {
		play_end(v, SP_ERR_NOMEM, "out of memory");
		return;
	}
	v->refs++;
	sp_vault_call(v->b->vault, SP_MSG_v_play_release, sp_buf_span(&body),
	    SP_MSG_v_done, released, v);
}

void
sp_session_on_play_spawned(struct sp_broker *b,
    const struct sp_msg_play_spawned *m, const int fds[static 2])
{
	struct play *v = b->sessions->plays;
	const struct sp_keys_ask *k;

	if (sp_search_on_spawned(b, m, fds))
		return;
	while (v != NULL && v->id != m->play)
		v = v->next;
	if (v == NULL || v->state != PLAY_SPAWNING) {
		sp_close_fds(fds, 2);
		return;
	}
	v->state = PLAY_GRANTING;
	v->stream = fds[1];
	v->peer = sp_peer_new(b, fds[0], SP_ROLE_PLY, SP_ST_READY, on_packet,
	    on_end, v);
	k = sp_keys_needs(b) && (lanes_wanted(&v->how) & KEYS) != 0 ?
	    sp_keys_approved(b, &v->who, v->session) : NULL;
	if (k != NULL)
		ask_release(v, k);
	else
		ask_grant(v);
}

bool
play_spawn_failed(struct sp_broker *b, uint64_t id, uint32_t err_no,
    const char *text)
{
	struct play *v = b->sessions->plays;

	while (v != NULL && v->id != id)
		v = v->next;
	if (v == NULL)
		return false;
	if (v->state != PLAY_SPAWNING)
		return true;
	if (err_no == ENOENT) {
		play_event(v, "recording_missing", SP_REC_MISSING,
		    sp_span_str("there is no file of this session"));
		play_end(v, SP_ERR_NOTFOUND, "MISSING: the session took place, but "
		    "its recording is not there");
	} else {
		play_end(v, SP_ERR_IO, text);
	}
	return true;
}

/* ------------------------------------------------------- before anything plays */

static void
spawn(struct play *v)
{
	struct sp_msg_play_spawn m = {.play = v->id};

	v->state = PLAY_SPAWNING;
	memcpy(m.session, v->session, 16);
	sp_peer_sent(v->b->sup, sp_send_play_spawn(&v->b->sup->link, v->id, &m,
	    NULL));
}

/* Back from the store: a file like any other, and judged like one. */
static void
fetched(void *arg, enum sp_err e, const char *text)
{
	struct play *v = arg;
	char why[400];

	snprintf(why, sizeof(why), "the recording is in the store, and cannot be "
	    "fetched: %.250s", text);
	if (v->state == PLAY_LOADING && e != SP_OK)
		play_end(v, e == SP_ERR_NOTFOUND ? e : SP_ERR_IO, why);
	else if (v->state == PLAY_LOADING)
		spawn(v);
	play_release(v);
}

/* The audit has it, and the transparency log. */
static void
logged(void *arg, enum sp_err e)
{
	struct play *v = arg;

	if (v->state == PLAY_LOADING && e != SP_OK) {
		play_end(v, e, "nothing is shown that the transparency log does not "
		    "have first, and it takes nothing: sallyport doctor says why");
	} else if (v->state == PLAY_LOADING && v->is_stored) {
		struct timeval tv = {.tv_sec = FETCH_S};

		event_add(v->deadline, &tv);
		v->refs++;
		sp_ship_wish(v->b, &v->wish, fetched, v);
	} else if (v->state == PLAY_LOADING) {
		spawn(v);
	}
	play_release(v);
}

static void
written(void *arg, enum sp_err e)
{
	struct play *v = arg;
	char text[200];

	if (v->state != PLAY_LOADING) {
		play_release(v);
		return;
	}
	if (e != SP_OK) {
		snprintf(text, sizeof(text), "nothing is shown that is not written "
		    "down first, and %s", sp_flow_why(e));
		play_end(v, e, text);
		play_release(v);
	} else if (v->b->ledger == NULL) {
		logged(v, SP_OK);
	} else {
		sp_ledger_act(v->b->ledger, v->how.mode == SP_PLAY_VERIFY ?
		    SP_ACT_VERIFY : v->how.mode == SP_PLAY_REPLAY ? SP_ACT_REPLAY :
		    v->how.mode == SP_PLAY_WATCH ? SP_ACT_WATCH :
		    SP_ACT_EXPORT, v->who.name, v->session, v->has_audit_head ?
		    v->audit_head : NULL, v->who.addr, logged, v);
	}
}

static void
write_down(struct play *v)
{
	struct sp_change *c = sp_change_new(v->b->store);
	struct json_object *d = sp_detail();

	sp_detail_str(d, "addr", v->who.addr);
	if (strcmp(event_of(v), "export") == 0)
		sp_detail_str(d, "format", format_of(v));
	if (v->has_row_head && v->has_audit_head &&
	    memcmp(v->row_head, v->audit_head, 32) != 0)
		sp_detail_str(d, "alarm", "the session's row and the audit log do not "
		    "agree on the end of the recording");
	sp_flow_change_audit(c, event_of(v), v->who.name, v->session, d);
	v->refs++;
	sp_change_commit(c, written, v);
}

static bool
head_in(const char *detail, uint8_t head[static 32])
{
	struct json_object *o = detail == NULL ? NULL : json_tokener_parse(detail);
	struct json_object *h = NULL;
	const char *t = NULL;
	bool ok;

	if (o != NULL && json_object_is_type(o, json_type_object) &&
	    json_object_object_get_ex(o, "head", &h))
		t = json_object_get_string(h);
	ok = t != NULL && sp_unhex(head, 32, sp_span_str(t)) == SP_OK;
	json_object_put(o);
	return ok;
}

static void
got_event(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct play *v = arg;

	if (v->state != PLAY_LOADING) {
		play_release(v);
		return;
	}
	if (e != SP_OK) {
		play_end(v, e, sp_flow_why(e));
	} else {
		v->has_audit_head = sp_rows_n(r) > 0 &&
		    head_in(sp_rows_get(r, 0, "detail"), v->audit_head);
		write_down(v);
	}
	play_release(v);
}

static void
got_row(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct play *v = arg;
	SP_BUF_AUTO head = {.max = 64}, sha256 = {.max = 64};
	char id[SP_UUID_TEXT];
	const char *p[1] = {id};

	if (v->state != PLAY_LOADING) {
		play_release(v);
		return;
	}
	if (e != SP_OK || sp_rows_n(r) != 1) {
		play_end(v, e != SP_OK ? e : SP_ERR_NOTFOUND, e != SP_OK ?
		    sp_flow_why(e) : "there is no such session; the verb `sessions` "
		    "lists them");
		play_release(v);
		return;
	}
	if (sp_rows_get(r, 0, "decided_us") != NULL) {
		char when[SP_TIME_TEXT], text[200];

		sp_time_text(when, sp_rows_i64(r, 0, "decided_us"), false);
		snprintf(text, sizeof(text), "it was deleted, as decided on %s", when);
		play_end(v, SP_ERR_STATE, text);
		play_release(v);
		return;
	}
	v->is_stored = sp_rows_bool(r, 0, "stored");
	v->wish = (struct sp_ship_wish){.what = SP_SHIP_FETCH,
	    .started_us = sp_rows_i64(r, 0, "started_us"),
	    .size = (uint64_t)sp_rows_i64(r, 0, "size")};
	memcpy(v->wish.session, v->session, 16);
	if (sp_rows_bytes(r, 0, "sha256", &sha256) == SP_OK && sha256.len == 32)
		memcpy(v->wish.sha256, sp_buf_span(&sha256).p, 32);
	if (sp_rows_bytes(r, 0, "head", &head) == SP_OK &&
	    sp_buf_span(&head).n == 32) {
		v->has_row_head = true;
		memcpy(v->row_head, sp_buf_span(&head).p, 32);
	}
	sp_uuid_text(id, v->session);
	sp_store_query(v->b->store, "SELECT detail FROM audit WHERE "
	    "session_id = $1::uuid AND event IN ('session_close', "
	    "'session_recovered') ORDER BY at_us DESC LIMIT 1", p, 1, got_event, v);
}

static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	play_end(arg, SP_ERR_TIMEOUT, "it took too long to begin");
}

static struct play *
play_new(struct sp_broker *b, const struct sp_actor *who,
    const struct sp_msg_play_start *how, sp_play_cb cb, void *arg)
{
	struct play *v = calloc(1, sizeof(*v));

	if (v == NULL ||
	    (v->deadline = event_new(b->ev, -1, 0, on_deadline, v)) == NULL) {
		free(v);
		return NULL;
	}
	v->b = b;
	v->refs = 1;
	v->id = sp_flow_next_id(b);
	v->who = *who;
	v->how = *how;
	sp_buf_init(&v->rows, SP_PLAY_ROWS_MAX);
	v->stream = -1;
	v->cb = cb;
	v->arg = arg;
	v->next = b->sessions->plays;
	b->sessions->plays = v;
	return v;
}

static void
refuse_keys(struct sp_broker *b, const struct sp_actor *who,
    const uint8_t session[static 16], sp_play_cb cb, void *arg)
{
	struct json_object *d = sp_detail();
	char text[300];

	sp_detail_str(d, "why", "keys_approvals");
	sp_flow_audit(b, "viewing_refused", who->name, session, d);
	snprintf(text, sizeof(text), "what was typed opens when %llu other people "
	    "have signed for it: keys ask SESSION --reason TEXT, then again within "
	    "15 minutes. replay, commands-csv, text and html show no keys and need "
	    "nobody", (unsigned long long)b->cfg.keys_approvals);
	cb(arg, SP_ERR_DENIED, -1, text);
}

void
sp_session_play(struct sp_broker *b, const struct sp_actor *who,
    const uint8_t session[static 16], const struct sp_msg_play_start *how,
    sp_play_cb cb, void *arg)
{
	sp_session_play_rows(b, who, session, how, (struct sp_span){0}, false, cb,
	    arg);
}

void
sp_session_play_rows(struct sp_broker *b, const struct sp_actor *who,
    const uint8_t session[static 16], const struct sp_msg_play_start *how,
    struct sp_span rows, bool more, sp_play_cb cb, void *arg)
{
	char id[SP_UUID_TEXT];
	const char *p[2] = {id, b->node};
	struct timeval tv = {.tv_sec = START_S};
	struct play *v;

	if (!who->is_host && (!sp_actor_in(who, SP_GROUP_AUDITORS) ||
	    who->mfa < SP_MFA_TOTP)) {
		struct json_object *d = sp_detail();

		sp_detail_str(d, "addr", who->addr);
		sp_flow_audit(b, "viewing_refused", who->name, session, d);
		cb(arg, SP_ERR_DENIED, -1, "only people of group auditors and the "
		    "administrator of the host may see recordings");
		return;
	}
	if (sp_keys_needs(b) && (how->mode == SP_PLAY_RECORDS ||
	    (how->what & SP_PLAY_KEYS) != 0) &&
	    sp_keys_approved(b, who, session) == NULL) {
		refuse_keys(b, who, session, cb, arg);
		return;
	}
	v = play_new(b, who, how, cb, arg);
	if (v != NULL)
		v->has_more_rows = more || sp_buf_put(&v->rows, rows.p, rows.n) !=
		    SP_OK;
	if (v == NULL) {
		cb(arg, SP_ERR_NOMEM, -1, "out of memory");
		return;
	}
	memcpy(v->session, session, 16);
	event_add(v->deadline, &tv);
	v->refs++;
	sp_uuid_text(id, session);
	sp_store_query(b->store, "SELECT s.head, s.started_us, h.size, h.sha256, "
	    "d.decided_us, h.shipped_us IS NOT NULL AND (NOT h.local OR h.node <> "
	    "$2) AS stored FROM sessions s LEFT JOIN shipments h ON h.session_id = "
	    "s.id LEFT JOIN deletions d ON d.session_id = s.id WHERE s.id = "
	    "$1::uuid", p, 2, got_row, v);
}
