/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/login_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * A session on the channel of a verb (the menu): judged anew, whatever the
 * menu showed. Its stream is that channel's alone: the next verb of the same
 * connection must not end up at the target.
 */
struct go {
	struct go *next;
	struct conn *c;
	uint32_t chan;
	unsigned refs;
	char account[SP_NAME_MAX + 1], target[SP_NAME_MAX + 1];
	struct sp_session *session;
	bool is_ready;
	sp_login_go_cb cb;
	void *arg;
};

static void
go_release(struct go *g)
{
	struct conn *c = g->c;

	if (--g->refs > 0)
		return;
	free(g);
	conn_release(c);
}

static void
forget(struct go *g)
{
	struct go **at = &g->c->gos;

	while (*at != NULL && *at != g)
		at = &(*at)->next;
	if (*at == g)
		*at = g->next;
	go_release(g);
}

static void
on_ready(void *arg, struct sp_session *s, int stream)
{
	struct sp_msg_chan_stream m = {.ctx = 0};
	struct go *g = arg;

	SP_ASSERT(g->session == s);
	g->is_ready = true;
	m.chan = g->chan;
	if (g->c->state == CONN_ENDED)
		sp_close_fds(&stream, 1);
	else
		sp_peer_sent(g->c->peer,
		    sp_send_chan_stream(&g->c->peer->link, 0, &m, &stream));
}

static void
refuse(struct go *g, uint8_t code, const char *text)
{
	struct sp_msg_chan_refused m = {.ctx = 0, .chan = g->chan,
	    .exit_code = code};
	char say[700];

	snprintf(say, sizeof(say), "Sallyport: %.600s\n", text);
	m.text = sp_span_str(say);
	if (g->c->state != CONN_ENDED)
		sp_peer_sent(g->c->peer,
		    sp_send_chan_refused(&g->c->peer->link, 0, &m, NULL));
}

static void
on_end(void *arg, struct sp_session *s, uint8_t code, const char *text)
{
	struct go *g = arg;

	SP_ASSERT(g->session == s);
	g->session = NULL;
	/* Once it ran, its stream's END has said why. */
	if (!g->is_ready)
		refuse(g, sp_session_is_held(s) ? 75 : code == SP_END_POLICY ||
		    code == SP_END_REVOKED ? 1 : 255,
		    text[0] == '\0' ? "the session could not begin." : text);
	forget(g);
}

static void
on_note(void *arg, struct sp_session *s, const char *text)
{
	struct go *g = arg;

	SP_ASSERT(g->session == s);
	conn_note(g->c, text);
}

static void
audit_refused(struct go *g, const struct sp_judgement *j)
{
	struct json_object *d = conn_detail(g->c);

	sp_detail_str(d, "target", g->target);
	sp_detail_str(d, "account", g->account);
	sp_detail_str(d, "rule", j->verdict.rule);
	sp_detail_str(d, "policy", g->c->b->policy_hash);
	sp_detail_str(d, "why", j->reasons);
	conn_audit(g->c, "session_refused", d);
}

static void
begin(struct go *g, const struct sp_ask *ask, const struct sp_judgement *j)
{
	static const struct sp_session_ops ops = {.on_ready = on_ready,
	    .on_note = on_note, .on_end = on_end};
	char text[160];

	snprintf(text, sizeof(text), "Opening %s@%s ...", g->account, g->target);
	if (!g->cb(g->arg, true, text)) {
		forget(g);
		return;
	}
	g->session = sp_session_begin(g->c->b, &g->c->who, ask, j, &ops, g);
	if (g->session != NULL)
		return;
	refuse(g, 75, "the session cannot begin now; try again in a moment.");
	forget(g);
}

static void
judged(void *arg, enum sp_err e, const struct sp_ask *ask,
    const struct sp_judgement *j)
{
	struct go *g = arg;
	char text[1200];

	if (g->c->state == CONN_ENDED) {
		g->cb(g->arg, false, "");
		forget(g);
	} else if (e != SP_OK || !j->verdict.allow) {
		audit_refused(g, j);
		snprintf(text, sizeof(text), "%s@%s is refused: %s", g->account,
		    g->target, j->reasons);
		g->cb(g->arg, false, text);
		forget(g);
	} else if (ask->protocol != SP_PROTO_SSH) {
		snprintf(text, sizeof(text), "%s is a database: ssh -L "
		    "PORT:%s+%s:PORT to the bastion, then its own client.",
		    g->target, g->account, g->target);
		g->cb(g->arg, false, text);
		forget(g);
	} else if (j->verdict.approvals > 0 && !j->has_grant) {
		g->cb(g->arg, false, "An approval is owed by now: ask for it with "
		    "Enter.");
		forget(g);
	} else {
		begin(g, ask, j);
	}
	go_release(g);
}

static struct conn *
find(struct sp_broker *b, uint64_t id)
{
	for (struct conn *c = b->logins->conns; c != NULL; c = c->next)
		if (c->id == id && c->state == CONN_AUTHED)
			return c;
	return NULL;
}

void
sp_login_go(struct sp_broker *b, uint64_t conn, uint32_t chan,
    const char *account, const char *target, sp_login_go_cb cb, void *arg)
{
	struct conn *c = find(b, conn);
	struct go *g = c == NULL ? NULL : calloc(1, sizeof(*g));

	if (g == NULL) {
		cb(arg, false, c == NULL ? "Sessions begin in a login over SSH." :
		    "Out of memory.");
		return;
	}
	g->c = c;
	g->chan = chan;
	g->refs = 2;		/* of the list, of the judgement */
	g->cb = cb;
	g->arg = arg;
	snprintf(g->account, sizeof(g->account), "%s", account);
	snprintf(g->target, sizeof(g->target), "%s", target);
	conn_hold(c);
	g->next = c->gos;
	c->gos = g;
	sp_judge(b, &c->who, g->account, g->target, judged, g);
}

void
login_gos_end(struct conn *c)
{
	for (struct go *g = c->gos, *next; g != NULL; g = next) {
		next = g->next;
		if (g->session == NULL)
			continue;	/* its judgement will find the end */
		sp_session_forget(g->session);
		g->session = NULL;
		forget(g);
	}
}
