/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/store_internal.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORD_MAX 128
#define DETAIL_MAX 32768

/* What the database would refuse must never get into the queue: an event that
 * cannot be written would stop all that follow. */
static char *
word(const char *s, size_t cap)
{
	char *t;

	if (s != NULL && strlen(s) < cap && sp_utf8_is_valid(sp_span_str(s))) {
		t = strdup(s);
	} else {
		t = malloc(cap);
		if (t != NULL)
			sp_vis(t, cap, sp_span_str(s));
	}
	SP_ASSERT(t != NULL);
	return t;
}

/* The detail is JSON: its double quotes would end the value in the line. */
static void
log_event(const struct sp_event *ev)
{
	char detail[512];

	sp_vis(detail, sizeof(detail),
	    sp_span_str(ev->detail == NULL ? "" : ev->detail));
	for (char *p = detail; *p != '\0'; p++)
		if (*p == '"')
			*p = '\'';
	sp_log(SP_INFO, "audit", ev->has_session ? ev->session : NULL,
	    "what=%s actor=\"%s\" detail=\"%s\"", sp_vis_str(ev->event),
	    sp_vis_str(ev->actor), detail);
}

void
sp_event_init(struct sp_event *ev, const char *event, const char *actor,
    const uint8_t *session, const char *detail)
{
	char instead[64];

	*ev = (struct sp_event){.at_us = sp_now_us()};
	ev->event = word(event, WORD_MAX);
	ev->actor = word(actor, WORD_MAX);
	if (session != NULL && !sp_uuid_is_nil(session)) {
		ev->has_session = true;
		memcpy(ev->session, session, 16);
	}
	if (detail != NULL && (strlen(detail) >= DETAIL_MAX ||
	    !sp_utf8_is_valid(sp_span_str(detail)))) {
		snprintf(instead, sizeof(instead), "{\"unfit_bytes\": %zu}",
		    strlen(detail));
		detail = instead;
	}
	if (detail != NULL)
		ev->detail = word(detail, DETAIL_MAX);
	log_event(ev);
}

void
sp_event_fini(struct sp_event *ev)
{
	free(ev->event);
	free(ev->actor);
	free(ev->detail);
	free(ev->rows);
	*ev = (struct sp_event){0};
}

static enum sp_err
canon(struct sp_buf *b, const char *node, uint64_t seq, const struct sp_event *ev)
{
	static const char plain[] = "sallyport audit event v1";
	static const char with_rows[] = "sallyport audit event v2";

	SP_TRY(sp_buf_put(b, ev->rows == NULL ? plain : with_rows,
	    sizeof(plain)));
	SP_TRY(sp_buf_put_bytes(b, sp_span_str(node)));
	SP_TRY(sp_buf_put_u64(b, seq));
	SP_TRY(sp_buf_put_u64(b, (uint64_t)ev->at_us));
	SP_TRY(sp_buf_put_bytes(b, sp_span_str(ev->event)));
	SP_TRY(sp_buf_put_bytes(b, sp_span_str(ev->actor)));
	SP_TRY(sp_buf_put_u8(b, ev->has_session));
	if (ev->has_session)
		SP_TRY(sp_buf_put(b, ev->session, 16));
	SP_TRY(sp_buf_put_u8(b, ev->detail != NULL));
	SP_TRY(sp_buf_put_bytes(b, sp_span_str(ev->detail)));
	return ev->rows == NULL ? SP_OK :
	    sp_buf_put_bytes(b, sp_span_str(ev->rows));
}

void
sp_event_hash(uint8_t hash[static 32], const uint8_t prev[static 32],
    const char *node, uint64_t seq, const struct sp_event *ev)
{
	SP_BUF_AUTO b = {.max = 16u << 20};
	crypto_hash_sha256_state st;
	struct sp_span s;

	SP_ASSERT(canon(&b, node, seq, ev) == SP_OK);
	s = sp_buf_span(&b);
	crypto_hash_sha256_init(&st);
	crypto_hash_sha256_update(&st, prev, 32);
	crypto_hash_sha256_update(&st, s.p, s.n);
	crypto_hash_sha256_final(&st, hash);
}

enum sp_err
sp_event_row_canon(struct sp_buf *b, const struct sp_rows *r, size_t i)
{
	struct sp_event ev = {.at_us = sp_rows_i64(r, i, "at_us"),
	    .has_session = sp_rows_get(r, i, "session_id") != NULL};
	const char *node = sp_rows_get(r, i, "node");

	/* Only read; its struct owns them elsewhere. */
	ev.event = (char *)(uintptr_t)sp_rows_get(r, i, "event");
	ev.actor = (char *)(uintptr_t)sp_rows_get(r, i, "actor");
	ev.detail = (char *)(uintptr_t)sp_rows_get(r, i, "detail");
	ev.rows = (char *)(uintptr_t)sp_rows_get(r, i, "rows");
	if (node == NULL || ev.event == NULL || ev.actor == NULL ||
	    (ev.has_session && !sp_rows_uuid(r, i, "session_id", ev.session)))
		return SP_ERR_INVAL;
	return canon(b, node, (uint64_t)sp_rows_i64(r, i, "seq"), &ev);
}
