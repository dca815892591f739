/* SPDX-License-Identifier: Apache-2.0 */
/* What a second person does to a running session: freeze, resume, note, release,
 * refuse; and what waits for that. doc/watching.md */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/session.h"
#include "bastion/broker/verb_int.h"
#include "bastion/broker/verb_session.h"

#define TEXT_MAX 400	/* bytes of a note, of a reason */

static const struct sp_deed deeds[] = {
	{"note", "session_note", 0, false, "told", "your note is on the terminal"},
	{"freeze", "session_freeze", SP_STEER_FREEZE, false, "frozen",
	    "frozen; nothing passes until you say: resume"},
	{"resume", "session_resume", SP_STEER_RESUME, false, "running",
	    "it goes on"},
	{"release", "held_released", SP_STEER_RELEASE, true, "released",
	    "what waited goes on"},
	{"refuse", "held_refused", SP_STEER_REFUSE, true, "refused",
	    "what waited goes no further"},
};

const struct sp_deed *
sp_deed_named(const char *verb)
{
	size_t i = sizeof(deeds) / sizeof(deeds[0]) - 1;

	while (i > 0 && strcmp(deeds[i].verb, verb) != 0)
		i--;
	return &deeds[i];
}

static const struct sp_deed *
deed_of(const struct sp_call *c)
{
	return sp_deed_named(c->verb->name);
}

/* The number that was said, or the only one that waits; 0: the call ended. */
static uint64_t
number_of(struct sp_call *c, const struct sp_session *s)
{
	uint64_t a = sp_session_held(s, 0)->number, b = sp_session_held(s, 1)->number;
	uint64_t n = 0;

	if (c->n_pos < 2 && a != 0 && b != 0) {
		sp_call_fail(c, SP_EXIT_USAGE, "two things wait there: say which "
		    "number, %llu or %llu; held lists them", (unsigned long long)a,
		    (unsigned long long)b);
		return 0;
	}
	if (c->n_pos < 2)
		n = a != 0 ? a : b;
	else if (sp_u64_parse(sp_span_str(c->pos[1]), INT64_MAX, &n) != SP_OK)
		n = 0;
	if (n == 0 || (n != a && n != b)) {
		sp_call_fail(c, SP_EXIT_REFUSED, "nothing of that number waits in "
		    "session %.8s (any more); held lists what does", c->pos[0]);
		return 0;
	}
	return n;
}

struct sp_session *
sp_session_running(struct sp_call *c)
{
	const char *id = sp_rows_get(c->rows[0], 0, "id");
	uint8_t uuid[16];
	struct sp_session *s;

	(void)sp_rows_uuid(c->rows[0], 0, "id", uuid);
	s = sp_session_find(c->b, uuid);
	if (s == NULL && sp_rows_get(c->rows[0], 0, "ended_us") != NULL)
		sp_call_fail(c, SP_EXIT_REFUSED, "session %.8s is over already", id);
	else if (s == NULL)
		sp_call_fail(c, SP_EXIT_LATER, "session %.8s runs on %s: do it "
		    "there", id, sp_vis_str(sp_rows_get(c->rows[0], 0, "node")));
	else if (!sp_session_is_live(s))
		sp_call_fail(c, SP_EXIT_LATER, "session %.8s is only beginning, or "
		    "ending", id);
	return s != NULL && sp_session_is_live(s) ? s : NULL;
}

/* A note's words, which the shell of whoever typed them took apart. */
static const char *
text_of(const struct sp_call *c, char dst[static TEXT_MAX + 1])
{
	size_t n = 0;

	if (deed_of(c)->steer != 0)
		return sp_call_opt(c, "reason");
	for (size_t i = 1; i < c->n_pos; i++) {
		int k = snprintf(dst + n, TEXT_MAX + 1 - n, "%s%s", i > 1 ? " " : "",
		    c->pos[i]);

		n += k < 0 ? 0 : (size_t)k;
		if (n > TEXT_MAX)
			return NULL;
	}
	return dst;
}

static void
do_it(struct sp_call *c)
{
	const struct sp_deed *d = deed_of(c);
	char room[TEXT_MAX + 1];
	const char *text = text_of(c, room), *person = NULL, *id;
	struct sp_session *s;
	uint64_t number = 0;

	if (!sp_session_found(c, sp_actor_may_watch(&c->who)))
		return;
	id = sp_rows_get(c->rows[0], 0, "id");
	person = sp_rows_get(c->rows[0], 0, "person_name");
	if (sp_session_is_mine(c, 0)) {
		sp_call_fail(c, SP_EXIT_REFUSED, "session %.8s is your own: only "
		    "somebody else may do that", id);
		return;
	}
	if ((s = sp_session_running(c)) == NULL ||
	    (d->decides && (number = number_of(c, s)) == 0))
		return;
	sp_session_deed(s, c->who.name, d, number, text);
	sp_call_did(c, id, d->state, "Session %.8s of %s: %s.", id,
	    sp_vis_str(person), d->did);
}

void
sp_verb_steer(struct sp_call *c)
{
	char room[TEXT_MAX + 1];
	const char *text = text_of(c, room);

	if ((text == NULL && deed_of(c)->steer == 0) || (text != NULL &&
	    (!sp_utf8_is_valid(sp_span_str(text)) || strlen(text) > TEXT_MAX)))
		sp_call_fail(c, SP_EXIT_USAGE, "the text is not UTF-8, or longer "
		    "than %d bytes", TEXT_MAX);
	else if (!c->who.is_host && c->who.mfa < SP_MFA_TOTP)
		sp_call_fail(c, SP_EXIT_REFUSED, "that needs a second factor: "
		    "connect again and give it");
	else
		sp_session_resolve(c, c->pos[0], do_it);
}

/* -------------------------------------------------------------------- held */

static const struct sp_col held_cols[] = {
	{"session", "SESSION", SP_COL_ID}, {"number", "NUMBER", SP_COL_NUMBER},
	{"person", "WHO", SP_COL_TEXT}, {"where", "ACCOUNT", SP_COL_TEXT},
	{"kind", "WHAT", SP_COL_TEXT}, {"since", "SINCE", SP_COL_TIME},
	{"text", "TEXT", SP_COL_TEXT},
};

static void
add_held(void *arg, const struct sp_session *s, const struct sp_held *h)
{
	static const char *const kinds[] = {"?", "line", "command", "file"};
	char id[SP_UUID_TEXT], number[24], since[24];

	sp_uuid_text(id, sp_session_id(s));
	snprintf(number, sizeof(number), "%llu", (unsigned long long)h->number);
	snprintf(since, sizeof(since), "%lld", (long long)h->since_us);
	sp_list_add(arg, (const char *[]){id, number, sp_session_person(s),
	    sp_session_where(s), kinds[h->kind < 4 ? h->kind : 0], since,
	    h->kind == SP_HELD_LINE ? "see it with: watch" : h->text});
}

void
sp_verb_held(struct sp_call *c)
{
	struct sp_list *l = sp_list_new(held_cols,
	    sizeof(held_cols) / sizeof(held_cols[0]));

	sp_session_each_held(c->b, add_held, l);
	sp_call_end_list(c, l, "Nothing waits for a second person on this bastion.");
}
