/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/session_int.h"

#include <stdio.h>
#include <string.h>

/*
 * What the target asks and the lease does not answer goes to the user's
 * terminal, is recorded, and has an end: a number of questions, and a time for
 * each. A hostile target learns from it what its user types, which it was to
 * learn anyway; it is marked as the target's question, so that nobody takes it
 * for the bastion's.
 */
#define PROMPTS_MAX 16		/* of one login, shown or asked */
#define ANSWER_S 60

static void
deadline_in(struct sp_session *s, int64_t ms)
{
	struct timeval tv = {.tv_sec = (time_t)(ms / 1000),
	    .tv_usec = (suseconds_t)(ms % 1000 * 1000)};

	event_add(s->deadline, &tv);
}

static void
note(struct sp_session *s, const char *text)
{
	struct sp_msg_rec_note m = {.show = 0, .text = sp_span_str(text)};

	if (m.text.n > 1024)
		m.text.n = 1024;
	if (s->rec != NULL && sp_utf8_is_valid(m.text))
		sp_peer_sent(s->rec, sp_send_rec_note(&s->rec->link, 0, &m, NULL));
}

static void
send_answer(struct sp_session *s, bool ok, const char *text)
{
	struct sess_leg *l = sess_leg_now(s);
	struct sp_msg_egr_answer m = {.ok = ok, .text = sp_span_str(text)};

	s->asked = false;
	memcpy(m.session, l->id, 16);
	if (l->egr != NULL)
		sp_peer_sent(l->egr, sp_send_egr_answer(&l->egr->link, 0, &m, NULL));
	deadline_in(s, (int64_t)s->b->cfg.dial_timeout_ms + 2000);
}

void
sp_session_answer(struct sp_session *s, bool ok, const char *text)
{
	char said[700], vis[600];

	if (s->state != SESS_LOGIN || !s->asked)
		return;
	if (!ok)
		snprintf(said, sizeof(said), "the user did not answer");
	else
		snprintf(said, sizeof(said), "the user answered: %s",
		    s->asked_echo ? sp_vis(vis, sizeof(vis), sp_span_str(text)) :
		    "(hidden)");
	note(s, said);
	send_answer(s, ok, text);
}

static void
write_down(struct sess_leg *l, const struct sp_msg_egr_prompt *m)
{
	struct sp_session *s = l->s;
	struct json_object *d = sess_detail(s);
	char title[1100], prompt[520], text[1800];

	sp_detail_str(d, "at", l->ask->target_name);
	sp_detail_span(d, "title", m->title);
	sp_detail_span(d, "prompt", m->prompt);
	sp_detail_i64(d, "echo", m->echo);
	sp_flow_audit(s->b, m->asks != 0 ? "target_asked" : "target_told",
	    s->who.name, s->id, d);
	snprintf(text, sizeof(text), "%s %s: %s %s", l->ask->target_name,
	    m->asks != 0 ? "asks" : "says", sp_vis(prompt, 400, m->prompt),
	    sp_vis(title, 500, m->title));
	note(s, text);
}

void
sess_on_prompt(struct sess_leg *l, const struct sp_msg_egr_prompt *m)
{
	struct sp_session *s = l->s;
	char title[1025], prompt[513], text[400];
	struct sp_prompt p = {.target = l->ask->target_name, .title = title,
	    .prompt = prompt, .asks = m->asks != 0, .echo = m->echo != 0};

	if (s->state != SESS_LOGIN || l != sess_leg_now(s) || s->asked ||
	    sp_span_cstr(m->title, title, sizeof(title)) != SP_OK ||
	    sp_span_cstr(m->prompt, prompt, sizeof(prompt)) != SP_OK) {
		sp_session_end(s, SP_END_PROTOCOL,
		    "The connection to the target broke the rules of the bastion.");
		return;
	}
	if (++s->n_prompts > PROMPTS_MAX) {
		snprintf(text, sizeof(text), "%s asks without end: %u questions are "
		    "answered in one login, no more.", l->ask->target_name,
		    PROMPTS_MAX);
		sp_session_end(s, SP_END_TARGET, text);
		return;
	}
	write_down(l, m);
	if (!s->is_owned || s->ops.on_prompt == NULL)
		return;
	if (p.asks) {
		s->asked = true;
		s->asked_echo = p.echo;
		deadline_in(s, ANSWER_S * 1000 + 2000);
	}
	s->ops.on_prompt(s->arg, s, &p);
}
