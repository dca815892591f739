/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A recorder that waits for its disk cannot say so: it waits in the kernel. So
 * it is asked. Nothing is forwarded meanwhile; the user is told, and after
 * recording_full_wait_s, as with a disk that is full, the session is over.
 */
#include "bastion/broker/session_int.h"

#include <stdio.h>

#define REST_MS 5000
#define TELL_MS 3000
#define LEAST_MS 2000	/* a busy machine is no broken disk */

static int64_t
wait_ms(const struct sp_session *s)
{
	int64_t ms = (int64_t)s->b->cfg.recording_full_wait_s * 1000;

	return ms < LEAST_MS ? LEAST_MS : ms;
}

static void
note(struct sp_session *s, const char *text)
{
	if (s->is_owned && s->ops.on_note != NULL)
		s->ops.on_note(s->arg, s, text);
}

static void
ask(struct sp_session *s)
{
	struct sess_pulse *p = &s->pulse;
	struct sp_msg_rec_ping m = {.number = ++p->number};

	p->is_asked = true;
	p->still_ms = 0;
	sp_peer_sent(s->rec, sp_send_rec_ping(&s->rec->link, 0, &m, NULL));
}

static void
audit(struct sp_session *s, const char *event)
{
	struct json_object *d = sess_detail(s);

	sp_detail_i64(d, "ms", s->pulse.still_ms);
	sp_log(SP_WARN, event, s->id, "ms=%lld", (long long)s->pulse.still_ms);
	sp_flow_audit(s->b, event, s->who.name, s->id, d);
}

static void
tell(struct sp_session *s)
{
	char text[300];

	s->pulse.is_still = true;
	audit(s, "recording_stalled");
	snprintf(text, sizeof(text), "The recording of %s does not go on "
	    "(its disk does not answer). Until it does nothing passes; in %lld "
	    "seconds this session ends.", sp_session_where(s),
	    (long long)((wait_ms(s) - s->pulse.still_ms + 999) / 1000));
	note(s, text);
}

static void
give_up(struct sp_session *s)
{
	char text[200];

	snprintf(text, sizeof(text), "The recording did not go on for %lld seconds "
	    "(its disk does not answer), so the session was ended.",
	    (long long)(s->pulse.still_ms / 1000));
	audit(s, "recording_stuck");
	sp_session_end(s, SP_END_DISK, text);
}

/* Ticks are counted, not hours: of a broker, or a machine, that itself stood
 * still nobody else is guilty. */
void
sess_pulse(struct sp_session *s)
{
	struct sess_pulse *p = &s->pulse;
	int64_t most = wait_ms(s);

	if (s->state != SESS_LIVE || s->rec == NULL)
		return;
	if (!p->is_asked) {
		p->rest_ms += SESS_TICK_MS;
		if (p->rest_ms >= (most / 2 < REST_MS ? most / 2 : REST_MS))
			ask(s);
		return;
	}
	p->still_ms += SESS_TICK_MS;
	if (!p->is_still && p->still_ms >= (most / 2 < TELL_MS ? most / 2 : TELL_MS))
		tell(s);
	if (p->still_ms >= most)
		give_up(s);
}

void
sess_on_rec_pong(struct sp_session *s, const struct sp_msg_rec_pong *m)
{
	struct sess_pulse *p = &s->pulse;
	char text[200];

	/* One that was not asked for proves nothing. */
	if (!p->is_asked || m->number != p->number)
		return;
	p->is_asked = false;
	p->rest_ms = 0;
	if (!p->is_still || s->state != SESS_LIVE)
		return;
	p->is_still = false;
	audit(s, "recording_goes_on");
	snprintf(text, sizeof(text), "The recording of %s goes on again.",
	    sp_session_where(s));
	note(s, text);
}
