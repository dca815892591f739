/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/session_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_MS 1000
#define SIGN_TRIES 5
#define LOG_MS 100
#define LOG_TRIES 100	/* then its leaf waits in the ledger; the row does not */
#define RECOVER_MS 250	/* RECOVERED comes within five seconds, */
#define RECOVER_TRIES 40	/* but what fails for long is not hammered */
#define RECOVER_SLOW_MS 2000

static void sign(struct sp_session *s);
static void write_end(struct sp_session *s);
static void leave(struct sp_session *s);

static void
again_in(struct sp_session *s, int64_t ms)
{
	struct timeval tv = {.tv_sec = (time_t)(ms / 1000),
	    .tv_usec = (suseconds_t)(ms % 1000 * 1000)};

	event_add(s->deadline, &tv);
}

/* Nothing was recorded and nothing dialled: what there is may be thrown away. */
static void
abandon(struct sp_session *s)
{
	struct json_object *d = sess_detail(s);

	sp_detail_str(d, "why", s->end_text);
	sp_detail_i64(d, "code", s->end_code);
	sp_flow_audit(s->b, "session_failed", s->who.name, s->id, d);
	sess_tell_end(s);
	if (s->has_closed) {
		leave(s);	/* its exit says that the file holds nothing */
	} else {
		sess_kill(s);
		sess_set_state(s, SESS_OVER);
	}
}

static void
keep_reason(struct sp_session *s, uint8_t code, const char *text)
{
	s->end_code = code;
	snprintf(s->end_text, sizeof(s->end_text), "%s", text);
	s->ended_us = sp_now_us();
}

void
sp_session_end(struct sp_session *s, uint8_t end_code, const char *text)
{
	struct sp_msg_rec_end m = {.code = end_code, .text = sp_span_str(text)};

	if (s->state >= SESS_ENDING)
		return;
	sess_hold(s);
	keep_reason(s, end_code, text);
	if (m.text.n > 512)
		m.text.n = 0;
	sess_end_leases(s);
	if (s->state <= SESS_REC_READY) {
		abandon(s);
	} else {
		sess_set_state(s, SESS_ENDING);
		if (s->rec != NULL)
			sp_peer_sent(s->rec,
			    sp_send_rec_end(&s->rec->link, 0, &m, NULL));
		sess_tell_end(s);
	}
	sess_release(s);
}

/* ------------------------------------------------------------ a good end */

void
sess_on_rec_closed(struct sp_session *s, const struct sp_msg_rec_closed *m)
{
	char why[512];

	if (memcmp(m->session, s->id, 16) == 0 && m->code == SP_END_DISK &&
	    s->state <= SESS_REC_READY && !s->has_closed) {
		s->has_closed = true;
		sp_session_end(s, SP_END_DISK, sp_vis(why, sizeof(why), m->reason));
		return;
	}
	if (memcmp(m->session, s->id, 16) != 0 || s->has_closed ||
	    s->state <= SESS_REC_READY) {
		sp_session_end(s, SP_END_PROTOCOL, "The recorder broke the protocol.");
		return;
	}
	s->has_closed = true;
	memcpy(s->head, m->head, 32);
	s->chunks = m->chunks;
	s->bytes_in = m->bytes_in;
	s->bytes_out = m->bytes_out;
	s->file_bytes = m->file_bytes;
	if (s->state < SESS_ENDING)
		keep_reason(s, m->code, sp_vis(why, sizeof(why), m->reason));
	sess_end_leases(s);
	sess_tell_end(s);
	if (s->state < SESS_SIGN) {
		sess_set_state(s, SESS_SIGN);
		sign(s);
	}
}

/* ------------------------------------------------------------ a bad end */

/* The vault is away, or the recovering recorder died as well: a row that said
 * "over" now would leave the file unsealed for good. */
static void
recover_later(struct sp_session *s, enum sp_err e)
{
	if (s->tries++ == 0)
		sp_log(SP_WARN, "recovery_failed", s->id, "why=\"%s\"",
		    sp_err_text(e));
	if (s->b->stopping)
		sess_set_state(s, SESS_OVER);	/* the next start looks at it */
	else
		again_in(s, s->tries < RECOVER_TRIES ? RECOVER_MS :
		    RECOVER_SLOW_MS);
}

static void
recovered(void *arg, enum sp_err e, const struct recovered *r)
{
	struct sp_session *s = arg;

	s->recovery = NULL;
	s->is_recovered = true;
	if (e != SP_OK && e != SP_ERR_NOTFOUND) {
		recover_later(s, e);
		sess_release(s);
		return;
	}
	if (e == SP_OK) {
		s->has_closed = true;
		s->is_recovered = !r->is_closed;
		memcpy(s->head, r->head, 32);
		s->chunks = r->chunks;
		s->cut_bytes = r->cut_bytes;
		s->file_bytes = r->file_bytes;
		s->has_signature = r->has_signature;
		memcpy(s->signature, r->signature, 64);
		if (r->at_us != 0)
			s->ended_us = r->at_us;
	} else {
		snprintf(s->end_text, sizeof(s->end_text),
		    "its recording could not be recovered: %s", sp_err_text(e));
	}
	sess_set_state(s, SESS_CLOSE);
	s->tries = 0;
	write_end(s);
	sess_release(s);
}

static void
recover(struct sp_session *s)
{
	if (s->state != SESS_RECOVER)
		sess_set_state(s, SESS_RECOVER);
	if (!sp_vault_is_open(s->b->vault)) {
		recover_later(s, SP_ERR_SEALED);	/* who would sign it? */
		return;
	}
	sess_hold(s);
	s->recovery = recovery_begin(s->b, s->id, recovered, s);
	if (s->recovery == NULL)
		recovered(s, SP_ERR_NOMEM, NULL);
}

/* The recorder's link is gone without a word. Its file is another's to seal,
 * but not before it is surely dead. */
void
sess_rec_lost(struct sp_session *s)
{
	if (s->has_closed || s->state >= SESS_KILLED)
		return;
	if (s->state < SESS_ENDING)
		keep_reason(s, SP_END_LEG_DIED, "The recorder died, so the session "
		    "was ended.");
	sess_end_leases(s);
	if (s->state <= SESS_REC_READY) {
		abandon(s);
		return;
	}
	sess_kill(s);
	sess_set_state(s, SESS_KILLED);
	sess_tell_end(s);
	if (s->rec_is_gone)
		recover(s);
}

void
sess_child_gone(struct sp_session *s)
{
	if (s->state == SESS_LEAVE) {
		if (s->rec_is_gone && sess_legs_are_gone(s))
			sess_set_state(s, SESS_OVER);
	} else if (!s->rec_is_gone) {
		return;
	} else if (s->state == SESS_KILLED && !s->has_closed) {
		recover(s);
	} else if (s->state < SESS_KILLED && s->rec == NULL) {
		sess_rec_lost(s);
	}
}

/* --------------------------------------------------------- what is written */

static void
signed_end(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct sp_session *s = arg;
	struct sp_msg_v_sign_r m = {.ok = 0};

	if (e == SP_OK)
		e = sp_dec_v_sign_r(reply->body, &m);
	if (s->state != SESS_SIGN) {
		sess_release(s);
		return;
	}
	if (e == SP_OK && m.ok == 1) {
		s->has_signature = true;
		memcpy(s->signature, m.signature, 64);
	} else if (++s->tries < SIGN_TRIES && !s->b->stopping) {
		again_in(s, RETRY_MS);
		sess_release(s);
		return;
	}
	sess_set_state(s, SESS_CLOSE);
	s->tries = 0;
	write_end(s);
	sess_release(s);
}

static void
sign(struct sp_session *s)
{
	SP_BUF_AUTO body = {.max = 256};
	struct sp_msg_v_sign_close m = {.recovered = 0, .chunks = s->chunks};

	s->ended_us = s->ended_us == 0 ? sp_now_us() : s->ended_us;
	m.at_us = s->ended_us;
	memcpy(m.session, s->id, 16);
	memcpy(m.head, s->head, 32);
	sess_hold(s);
	if (sp_enc_v_sign_close(&body, &m) != SP_OK)
		signed_end(s, SP_ERR_NOMEM, NULL);
	else
		sp_vault_call(s->b->vault, SP_MSG_v_sign_close, sp_buf_span(&body),
		    SP_MSG_v_sign_r, signed_end, s);
}

static int64_t
clamp(uint64_t v)
{
	return v > INT64_MAX ? INT64_MAX : (int64_t)v;
}

static struct json_object *
close_detail(const struct sp_session *s)
{
	struct json_object *d = sess_detail(s);

	sp_detail_i64(d, "code", s->end_code);
	sp_detail_str(d, "reason", s->end_text);
	sp_detail_i64(d, "bytes_in", clamp(s->bytes_in));
	sp_detail_i64(d, "bytes_out", clamp(s->bytes_out));
	sp_detail_i64(d, "file_bytes", clamp(s->file_bytes));
	if (s->has_closed) {
		sp_detail_hex(d, "head", s->head, 32);
		sp_detail_i64(d, "chunks", clamp(s->chunks));
	}
	if (s->is_recovered)
		sp_detail_i64(d, "cut_bytes", clamp(s->cut_bytes));
	if (s->has_signature) {
		sp_detail_hex(d, "signature", s->signature, 64);
		sp_detail_i64(d, "signed_us", s->ended_us);
	}
	return d;
}

/* All is written; what is left of its processes has a moment to leave. */
static void
leave(struct sp_session *s)
{
	sess_set_state(s, SESS_LEAVE);
	if (s->rec_is_gone && sess_legs_are_gone(s))
		sess_set_state(s, SESS_OVER);
}

static void
wrote_end(void *arg, enum sp_err e)
{
	struct sp_session *s = arg;

	if (s->state != SESS_CLOSE) {
		sess_release(s);
		return;
	}
	if (e == SP_OK || e == SP_ERR_DENIED || e == SP_ERR_STATE) {
		if (e != SP_OK)
			sp_log(SP_ERROR, "session_end_refused", s->id, "why=\"%s\"",
			    sp_err_text(e));
		sp_audit_sign_soon(s->b->store);
		leave(s);
	} else {
		/* The database is away: the end is not lost, it is late. */
		again_in(s, RETRY_MS);
	}
	sess_release(s);
}

static void
add_updates(struct sp_session *s, struct sp_change *c)
{
	char id[SP_UUID_TEXT], at[SP_NUM_TEXT], code[SP_NUM_TEXT];
	char in[SP_NUM_TEXT], out[SP_NUM_TEXT], chunks[SP_NUM_TEXT], head[67];
	const char *row[] = {id, sp_i64_text(at, s->ended_us),
	    s->is_recovered ? "recovered" : "ended",
	    sp_i64_text(code, s->end_code), s->end_text,
	    sp_i64_text(in, clamp(s->bytes_in)),
	    sp_i64_text(out, clamp(s->bytes_out)),
	    sp_i64_text(chunks, clamp(s->chunks)), s->has_closed ? head : NULL,
	    s->is_recovered ? "t" : "f"};
	char used[SP_NUM_TEXT];

	sp_uuid_text(id, s->id);
	snprintf(head, sizeof(head), "\\x");
	sp_hex(head + 2, s->head, 32);
	sp_change_sql(c, "UPDATE sessions SET ended_us = $2::bigint, state = $3, "
	    "end_code = $4::int, reason = $5, bytes_in = $6::bigint, "
	    "bytes_out = $7::bigint, chunks = $8::bigint, head = $9::bytea, "
	    "recovered = $10::boolean WHERE id = $1::uuid AND ended_us IS NULL",
	    row, 10, 0);
	sess_end_lease_rows(c, id, at, s->lease_used_us == 0 ? NULL :
	    sp_i64_text(used, s->lease_used_us), s->end_code);
}

static void
write_end(struct sp_session *s)
{
	struct sp_change *c;

	/* A session that failed early ends before the log has its OPEN; a row
	 * that is closed is not looked at again if this broker dies now. */
	if (s->b->ledger != NULL && s->has_point && !s->is_logged &&
	    !s->is_recovered && !s->b->stopping && s->log_tries < LOG_TRIES) {
		s->log_tries++;
		again_in(s, LOG_MS);
		return;
	}
	c = sp_change_new(s->b->store);
	add_updates(s, c);
	sp_flow_change_audit(c, s->is_recovered ? "session_recovered" :
	    "session_close", s->who.name, s->id, close_detail(s));
	sess_hold(s);
	sp_change_commit(c, wrote_end, s);
}

/* ---------------------------------------------------------------- deadlines */

void
sess_on_deadline(struct sp_session *s)
{
	sess_hold(s);
	if (s->state < SESS_ENDING) {
		bool far = s->state == SESS_DIAL || s->state == SESS_LOGIN;

		sp_session_end(s, far && !s->waits_log ? SP_END_TARGET :
		    SP_END_BROKER, s->waits_log ?
		    "The transparency log did not take the session in time." :
		    far ? "The target did not answer in time." :
		    "The session could not begin in time; try again in a moment.");
	} else if (s->state == SESS_ENDING) {
		sess_kill(s);
		sess_set_state(s, SESS_KILLED);
	} else if (s->state == SESS_KILLED || s->state == SESS_RECOVER) {
		recover(s);
	} else if (s->state == SESS_SIGN) {
		sign(s);
	} else if (s->state == SESS_CLOSE) {
		write_end(s);
	} else if (s->state == SESS_LEAVE) {
		sess_kill(s);
		if (!s->rec_is_gone)
			recovery_of_closed(s->b, s->id);
		sess_set_state(s, SESS_OVER);
	}
	sess_release(s);
}
