/* SPDX-License-Identifier: Apache-2.0 */
/* Listeners at the target: what was asked for, what was granted. A connection
 * that comes to one is a channel (channels.c). */
#include <stdio.h>
#include <string.h>

#include "common/text.h"
#include "recorder/channels.h"

enum sp_err
sp_listen_decode(struct sp_span s, struct sp_span *host, uint32_t *port)
{
	SP_TRY(sp_get_str(&s, SP_RULES_HOST_MAX, host));
	SP_TRY(sp_get_u32(&s, port));
	return s.n == 0 && *port <= 65535 ? SP_OK : SP_ERR_PROTO;
}

static struct sp_listen *
find(struct sp_channels *s, uint32_t num)
{
	for (size_t i = 0; num != 0 && i < SP_STREAM_LISTENS_MAX; i++)
		if (s->l[i].state != SP_LISTEN_FREE && s->l[i].num == num)
			return &s->l[i];
	return NULL;
}

const struct sp_listen *
sp_channels_listener(const struct sp_channels *s, uint32_t num)
{
	for (size_t i = 0; i < SP_STREAM_LISTENS_MAX; i++)
		if (s->l[i].state == SP_LISTEN_LIVE && s->l[i].num == num)
			return &s->l[i];
	return NULL;
}

static enum sp_frame_verdict
on_listen(struct sp_channels *s, const struct sp_frame *f)
{
	const struct sp_rules *r = s->rules;
	char text[4 * SP_RULES_HOST_MAX + 8];
	struct sp_listen *l = NULL;
	struct sp_span host;
	uint32_t port;

	if (sp_listen_decode(f->payload, &host, &port) != SP_OK)
		return sp_channels_fault(s, f, true, "a broken payload");
	if ((f->chan & SP_STREAM_REVERSE) != 0 ||
	    !sp_channels_take_number(&s->user, f->chan))
		return sp_channels_fault(s, f, true, "a number that was used");
	if ((r->rights & SP_RIGHT_LISTEN) == 0 ||
	    !sp_rules_reach(r->listen, r->n_listen, host, port)) {
		sp_vis(text, sizeof(text), host);
		snprintf(s->why, sizeof(s->why), "listening on %.250s port %u is "
		    "not permitted in this session", host.n == 0 ?
		    "every address" : text, port);
		return SP_FRAME_REFUSE;
	}
	for (size_t i = 0; i < SP_STREAM_LISTENS_MAX && l == NULL; i++)
		if (s->l[i].state == SP_LISTEN_FREE)
			l = &s->l[i];
	if (l == NULL) {
		snprintf(s->why, sizeof(s->why), "there are too many listeners, %u "
		    "are allowed", SP_STREAM_LISTENS_MAX);
		return SP_FRAME_REFUSE;
	}
	*l = (struct sp_listen){.num = f->chan, .state = SP_LISTEN_ASKED,
	    .asked = (uint16_t)port, .n_host = host.n};
	if (host.n > 0)
		memcpy(l->host, host.p, host.n);
	return SP_FRAME_PASS;
}

static enum sp_frame_verdict
on_answer(struct sp_channels *s, struct sp_listen *l, const struct sp_frame *f)
{
	struct sp_span p = f->payload;
	bool is_left = l->state == SP_LISTEN_LEFT;
	uint32_t port = 0;

	if (l->state == SP_LISTEN_LIVE)
		return sp_channels_fault(s, f, false, "a second answer");
	if (f->type == SP_FRAME_LISTEN_OK && (sp_get_u32(&p, &port) != SP_OK ||
	    p.n != 0 || port == 0 || port > 65535 ||
	    (l->asked != 0 && port != l->asked)))
		return sp_channels_fault(s, f, false, "not the port asked for");
	if (f->type == SP_FRAME_LISTEN_OK && !is_left) {
		l->state = SP_LISTEN_LIVE;
		l->port = (uint16_t)port;
		return SP_FRAME_PASS;
	}
	*l = (struct sp_listen){0};
	return is_left ? SP_FRAME_DROP : SP_FRAME_PASS;
}

enum sp_frame_verdict
sp_channels_listen(struct sp_channels *s, const struct sp_frame *f,
    bool from_user)
{
	struct sp_listen *l;

	if (from_user != (f->type == SP_FRAME_LISTEN ||
	    f->type == SP_FRAME_UNLISTEN))
		return sp_channels_fault(s, f, from_user, "not its to say");
	if (f->type == SP_FRAME_LISTEN)
		return on_listen(s, f);
	l = find(s, f->chan);
	if (f->type == SP_FRAME_UNLISTEN) {
		if (l == NULL || l->state == SP_LISTEN_LEFT)
			return l == NULL && sp_channels_was_used(&s->user,
			    f->chan) ? SP_FRAME_DROP :
			    sp_channels_fault(s, f, true, "no such listener");
		if (l->state == SP_LISTEN_LIVE)
			*l = (struct sp_listen){0};
		else
			l->state = SP_LISTEN_LEFT;
		return SP_FRAME_PASS;
	}
	return l == NULL ? sp_channels_fault(s, f, false, "no such listener") :
	    on_answer(s, l, f);
}
