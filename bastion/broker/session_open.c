/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/session_int.h"
#include "bastion/broker/ledger.h"
#include "policy/rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* From an allowing judgement to bytes that flow. Nothing is dialled before the
 * recording's OPEN is on disk and the audit event is written; no credential
 * exists before the connection does. */

static void
fail(struct sp_session *s, enum sp_err e, const char *what)
{
	char text[300];

	snprintf(text, sizeof(text), "%s: %s. Nothing was opened; try again in a "
	    "moment.", what, sp_flow_why(e));
	sp_session_end(s, SP_END_BROKER, text);
}

/* ------------------------------------------------------------ the recorder */

static void
spawn(struct sp_session *s)
{
	struct sp_msg_session_spawn m;

	sess_set_state(s, SESS_SPAWN);
	memcpy(m.session, s->id, 16);
	sp_peer_sent(s->b->sup,
	    sp_send_session_spawn(&s->b->sup->link, 0, &m, NULL));
}

static void
got_serial(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct sp_session *s = arg;
	bool pinned = true;

	if (s->state != SESS_SERIAL) {
		sess_release(s);
		return;
	}
	for (size_t i = 0; i < s->n_legs; i++)
		pinned = pinned && sess_host_keys(&s->legs[i].host_keys,
		    s->legs[i].ask->host_keys) == SP_OK &&
		    sp_buf_span(&s->legs[i].host_keys).n > 0;
	if (e != SP_OK || sp_rows_n(r) != s->n_legs) {
		fail(s, e == SP_OK ? SP_ERR_DB : e, "A session cannot begin");
	} else if (!pinned) {
		sp_session_end(s, SP_END_TARGET, "No host key is pinned for this "
		    "target: an administrator adds it with `target set`.");
	} else {
		for (size_t i = 0; i < s->n_legs; i++)
			s->legs[i].serial = (uint64_t)sp_rows_i64(r, i, "serial");
		sess_need_secrets(s, spawn);
	}
	sess_release(s);
}

static void
need_serials(struct sp_session *s)
{
	char n[SP_NUM_TEXT];
	const char *p[1] = {sp_i64_text(n, (int64_t)s->n_legs)};

	sess_hold(s);
	sp_store_query(s->b->store, "SELECT nextval('cert_serials') AS serial "
	    "FROM generate_series(1, $1::int)", p, 1, got_serial, s);
}

static void
need_free(struct sp_session *s)
{
	sess_need_free(s, need_serials);
}

void
sess_begin(struct sp_session *s)
{
	sess_set_state(s, SESS_SERIAL);
	sess_need_legs(s, need_free);
}

static char *
meta_text(const struct sp_session *s)
{
	struct json_object *d = sess_detail(s);
	char t[SP_TIME_TEXT];
	const char *text;
	char *copy;

	sp_time_text(t, sp_now_us(), true);
	sp_detail_uuid(d, "session", s->id);
	sp_detail_str(d, "opened", t);
	sp_detail_str(d, "node", s->b->node);
	sp_detail_str(d, "target_addr", s->ask.addr);
	sp_detail_i64(d, "target_port", s->ask.port);
	sp_detail_str(d, "more_addrs", s->ask.more_addrs);
	sess_detail_way(s, d);
	sp_detail_str(d, "kind", s->kind);
	sp_detail_str(d, "rule", s->j.verdict.rule);
	sp_detail_str(d, "policy", s->policy_hash);
	sp_detail_uuid(d, "grant", s->j.grant);
	text = json_object_to_json_string_ext(d, JSON_C_TO_STRING_PLAIN);
	copy = text == NULL ? NULL : strdup(text);
	json_object_put(d);
	return copy;
}

static uint8_t
durability(const struct sp_broker *b)
{
	if (strcmp(b->cfg.durability, "process") == 0)
		return SP_DURABLE_PROCESS;
	return strcmp(b->cfg.durability, "input") == 0 ? SP_DURABLE_INPUT :
	    SP_DURABLE_FULL;
}

void
sess_spawned(struct sp_session *s)
{
	const struct sp_msg_v_status_r *v = sp_vault_status(s->b->vault);
	struct sp_msg_rec_open m = {
	    .durability = durability(s->b),
	    .reserve_bytes = s->b->cfg.recording_reserve_mb << 20};
	char *meta;

	if (!sp_vault_is_open(s->b->vault) || v == NULL) {
		fail(s, SP_ERR_SEALED, "A recording cannot begin");
		return;
	}
	meta = meta_text(s);
	if (meta == NULL) {
		fail(s, SP_ERR_NOMEM, "A recording cannot begin");
		return;
	}
	memcpy(m.session, s->id, 16);
	memcpy(m.audit_key, v->audit_key, 32);
	m.meta = sp_span_str(meta);
	m.rules = sp_span_of(s->j.verdict.rules, s->j.verdict.n_rules);
	sess_set_state(s, SESS_REC_OPEN);
	sp_peer_sent(s->rec, sp_send_rec_open(&s->rec->link, 0, &m, NULL));
	free(meta);
}

static void
signed_recording(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct sp_session *s = arg;
	struct sp_msg_v_sign_r m = {.ok = 0};
	struct sp_msg_rec_cert c;

	if (e == SP_OK)
		e = sp_dec_v_sign_r(reply->body, &m);
	if (s->state == SESS_CERT && (e != SP_OK || m.ok != 1)) {
		fail(s, e == SP_OK ? SP_ERR_SEALED : e, "A recording cannot be signed");
	} else if (s->state == SESS_CERT) {
		memcpy(c.signature, m.signature, 64);
		sess_set_state(s, SESS_REC_READY);
		sp_peer_sent(s->rec, sp_send_rec_cert(&s->rec->link, 0, &c, NULL));
	}
	sess_release(s);
}

void
sess_on_rec_opened(struct sp_session *s, const struct sp_msg_rec_opened *m)
{
	SP_BUF_AUTO body = {.max = 512};
	struct sp_msg_v_sign_recording q = {.opened_us = m->opened_us};
	int64_t off = m->opened_us - sp_now_us();

	if (s->state != SESS_REC_OPEN || memcmp(m->session, s->id, 16) != 0 ||
	    off > 60000000 || off < -60000000) {
		sp_session_end(s, SP_END_PROTOCOL, "The recorder broke the protocol.");
		return;
	}
	memcpy(s->rec_key, m->rec_key, 32);
	memcpy(s->header_hash, m->header_hash, 32);
	s->opened_us = m->opened_us;
	memcpy(q.session, s->id, 16);
	memcpy(q.rec_key, s->rec_key, 32);
	memcpy(q.header_hash, s->header_hash, 32);
	sess_set_state(s, SESS_CERT);
	if (sp_enc_v_sign_recording(&body, &q) != SP_OK) {
		fail(s, SP_ERR_NOMEM, "A recording cannot be signed");
		return;
	}
	sess_hold(s);
	sp_vault_call(s->b->vault, SP_MSG_v_sign_recording, sp_buf_span(&body),
	    SP_MSG_v_sign_r, signed_recording, s);
}

/* -------------------------------------------------------- the transparency log */

static void
is_in_log(void *arg, enum sp_err e)
{
	struct sp_session *s = arg;

	if (e != SP_OK && s->state < SESS_ENDING) {
		sp_session_end(s, SP_END_BROKER, "The transparency log does not take "
		    "this session, so nothing was opened. An administrator finds "
		    "the cause with sallyport doctor.");
	} else if (e == SP_OK) {
		s->is_logged = true;
		if (s->waits_log && s->state == SESS_LOGIN)
			sess_live(s);
	}
	sess_release(s);
}

/* Points of its recording, signed by the recorder: handed on as they are. */
void
sess_on_rec_point(struct sp_session *s, const struct sp_msg_rec_point *m)
{
	bool is_open = m->head.n == 0 && m->body.n == 0;

	if (memcmp(m->session, s->id, 16) != 0 ||
	    memcmp(m->rec_key, s->rec_key, 32) != 0 ||
	    memcmp(m->header_hash, s->header_hash, 32) != 0 ||
	    is_open == s->has_point || s->state < SESS_REC_READY) {
		sp_session_end(s, SP_END_PROTOCOL, "The recorder broke the protocol.");
		return;
	}
	s->has_point = true;
	if (s->b->ledger == NULL)
		return;
	if (is_open)
		sess_hold(s);
	sp_ledger_point(s->b->ledger, m, is_open ? is_in_log : NULL, s);
}

/* ------------------------------------------------------- the row and the event */

static void
written(void *arg, enum sp_err e)
{
	struct sp_session *s = arg;

	if (s->state == SESS_WRITE && e == SP_ERR_EXISTS)
		sess_not_free(s);
	else if (s->state == SESS_WRITE && e != SP_OK)
		fail(s, e, "The session could not be written down");
	else if (s->state == SESS_WRITE)
		sess_dial(s);
	sess_release(s);
}

static void
insert_rows(struct sp_session *s, struct sp_change *c)
{
	char id[SP_UUID_TEXT], person[SP_UUID_TEXT], grant[SP_UUID_TEXT];
	char now[SP_NUM_TEXT];
	char rules[2048];
	const char *row[] = {id, person, s->who.name, s->ask.account_name,
	    s->ask.target_name, s->j.has_grant ? grant : NULL, s->b->node,
	    s->who.addr, s->j.verdict.rule, s->policy_hash,
	    sp_i64_text(now, s->started_us), sp_rules_show(rules, sizeof(rules),
	    sp_span_of(s->j.verdict.rules, s->j.verdict.n_rules)),
	    s->kind};

	sp_uuid_text(id, s->id);
	sp_uuid_text(person, s->who.person);
	sp_uuid_text(grant, s->j.grant);
	sp_change_sql(c, "INSERT INTO sessions (id, person_id, person_name, "
	    "account_name, target_name, grant_id, node, peer_addr, rule, "
	    "policy_hash, started_us, rules, kind, state) VALUES ($1::uuid, "
	    "$2::uuid, $3, $4, $5, $6::uuid, $7, $8, $9, $10, $11::bigint, $12, "
	    "$13, 'running') ON CONFLICT (id) DO NOTHING", row, 13, 0);
	sess_insert_leases(s, c);
}

static struct json_object *
open_detail(const struct sp_session *s)
{
	struct json_object *d = sess_detail(s);

	sp_detail_str(d, "rule", s->j.verdict.rule);
	sp_detail_str(d, "reasons", s->j.reasons);
	sp_detail_str(d, "policy", s->policy_hash);
	sp_detail_uuid(d, "grant", s->j.grant);
	sp_detail_rules(d, "rules", sp_span_of(s->j.verdict.rules,
	    s->j.verdict.n_rules));
	sp_detail_i64(d, "ends_us", s->ends_us);
	sp_detail_i64(d, "credential", s->ask.cred_kind);
	sp_detail_i64(d, "serial", (int64_t)s->legs[s->n_legs - 1].serial);
	sess_detail_way(s, d);
	sp_detail_hex(d, "header", s->header_hash, 32);
	sp_detail_hex(d, "recording_key", s->rec_key, 32);
	return d;
}

void
sess_on_rec_ready(struct sp_session *s, const struct sp_msg_rec_ready *m)
{
	struct sp_change *c;
	int64_t now = sp_now_us(), boot = sp_boot_us();

	if (s->state != SESS_REC_READY || memcmp(m->session, s->id, 16) != 0) {
		sp_session_end(s, SP_END_PROTOCOL, "The recorder broke the protocol.");
		return;
	}
	memcpy(s->head, m->head, 32);
	s->started_us = now;
	s->ends_us = now + s->j.verdict.longest_us;
	if (s->j.has_grant && s->j.grant_ends_us < s->ends_us)
		s->ends_us = s->j.grant_ends_us;
	/* From here on the clock that nobody can set counts. */
	s->ends_boot_us = boot + (s->ends_us - now);
	sess_set_state(s, SESS_WRITE);
	c = sp_change_new(s->b->store);
	insert_rows(s, c);
	sp_flow_change_audit(c, "session_open", s->who.name, s->id,
	    open_detail(s));
	sess_hold(s);
	sp_change_commit(c, written, s);
}

/* ----------------------------------------------------------------- the target */

void
sess_live(struct sp_session *s)
{
	int fd = s->stream;

	/* No byte of it is forwarded before the log has its OPEN. */
	if (s->b->ledger != NULL && !s->is_logged) {
		s->waits_log = true;
		return;
	}
	if (!s->is_owned) {
		sp_session_end(s, SP_END_NORMAL, "the user left before it began");
		return;
	}
	s->stream = -1;
	sess_set_state(s, SESS_LIVE);
	sess_say_way(s);
	sp_log(SP_INFO, "session_live", s->id, "person=%s account=%s target=%s",
	    s->who.name, s->ask.account_name, s->ask.target_name);
	s->ops.on_ready(s->arg, s, fd);
}
