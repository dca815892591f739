/* SPDX-License-Identifier: Apache-2.0 */
/* A second person and a running session: doc/watching.md */
#include "bastion/broker/session_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct sp_held nothing;

bool
sp_session_is_live(const struct sp_session *s)
{
	return s->state == SESS_LIVE && s->rec != NULL;
}

bool
sp_session_is_frozen(const struct sp_session *s)
{
	return s->is_frozen;
}

const char *
sp_session_person(const struct sp_session *s)
{
	return s->who.name;
}

const char *
sp_session_where(const struct sp_session *s)
{
	static char t[160];

	snprintf(t, sizeof(t), "%.64s@%.64s", s->ask.account_name,
	    s->ask.target_name);
	return t;
}

const struct sp_held *
sp_session_held(const struct sp_session *s, size_t slot)
{
	return s->held == NULL ? &nothing : &s->held[slot];
}

void
sp_session_each_held(struct sp_broker *b, sp_held_cb cb, void *arg)
{
	for (struct sp_session *s = b->sessions->list; s != NULL; s = s->next)
		for (size_t i = 0; sp_session_is_live(s) && i < SP_HELD_SLOTS; i++)
			if (sp_session_held(s, i)->number != 0)
				cb(arg, s, sp_session_held(s, i));
}

void
sp_session_steer(struct sp_session *s, uint8_t deed, uint64_t number,
    const char *who, const char *text)
{
	struct sp_msg_rec_steer m = {.deed = deed, .number = number,
	    .who = sp_span_str(who), .text = sp_span_str(text)};

	if (!sp_session_is_live(s))
		return;
	if (deed == SP_STEER_FREEZE || deed == SP_STEER_RESUME)
		s->is_frozen = deed == SP_STEER_FREEZE;
	sp_peer_sent(s->rec, sp_send_rec_steer(&s->rec->link, 0, &m, NULL));
}

void
sp_session_note(struct sp_session *s, const char *who, const char *text)
{
	struct sp_msg_rec_note m = {.show = 1};
	char line[1000], shown[900];

	sp_vis(shown, sizeof(shown), sp_span_str(text));
	snprintf(line, sizeof(line), "Sallyport: %.64s says: %s", who, shown);
	m.text = sp_span_str(line);
	if (sp_session_is_live(s))
		sp_peer_sent(s->rec, sp_send_rec_note(&s->rec->link, 0, &m, NULL));
}

void
sp_session_deed(struct sp_session *s, const char *who,
    const struct sp_deed *d, uint64_t number, const char *text)
{
	struct json_object *o = sp_detail();

	sp_detail_str(o, "text", text);
	if (number != 0)
		sp_detail_i64(o, "number", (int64_t)number);
	sp_detail_str(o, "person", s->who.name);
	sp_detail_str(o, "target", s->ask.target_name);
	sp_flow_audit(s->b, d->event, who, s->id, o);
	if (d->steer == 0)
		sp_session_note(s, who, text == NULL ? "" : text);
	else
		sp_session_steer(s, d->steer, number, who, text == NULL ? "" : text);
}

void
sp_session_say(struct sp_session *s, const char *text)
{
	struct sp_msg_rec_note m = {.show = 1, .text = sp_span_str(text)};

	if (sp_session_is_live(s))
		sp_peer_sent(s->rec, sp_send_rec_note(&s->rec->link, 0, &m, NULL));
}

void
sp_session_times(const struct sp_session *s, int64_t *since_us,
    int64_t *ends_us)
{
	*since_us = s->started_us;
	*ends_us = s->ends_us;
}

const char *
sp_session_end_text(const struct sp_session *s)
{
	return s->state >= SESS_ENDING ? s->end_text : "";
}

bool
sess_on_held(struct sp_session *s, const struct sp_msg_rec_held *m)
{
	struct sp_held *h;

	if (m->slot >= SP_HELD_SLOTS || m->number > INT64_MAX ||
	    (m->number != 0 && (m->kind < SP_HELD_LINE ||
	    m->kind > SP_HELD_TRANSFER)))
		return false;
	if (s->held == NULL &&
	    (s->held = calloc(SP_HELD_SLOTS, sizeof(*s->held))) == NULL)
		return true;	/* it waits, and nobody can release it */
	h = &s->held[m->slot];
	*h = (struct sp_held){.number = m->number, .kind = m->kind,
	    .since_us = sp_now_us()};
	sp_vis(h->text, sizeof(h->text), m->text);
	return true;
}
