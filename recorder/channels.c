/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/channels.h"

#include <stdio.h>
#include <string.h>

#include "common/text.h"

/* No leg has a use for more; beyond it a sum could wrap. */
#define CREDIT_MAX (UINT64_C(1) << 32)

void
sp_channels_init(struct sp_channels *s, const struct sp_rules *rules)
{
	*s = (struct sp_channels){.rules = rules};
}

enum sp_frame_verdict
sp_channels_fault(struct sp_channels *s, const struct sp_frame *f,
    bool from_user, const char *why)
{
	snprintf(s->why, sizeof(s->why), "%s on channel %u from the %s side: %s",
	    sp_frame_name(f->type), f->chan, from_user ? "user" : "target", why);
	return SP_FRAME_FAULT;
}

static struct sp_channel *
find(struct sp_channels *s, uint32_t num)
{
	for (size_t i = 0; num != 0 && i < s->high; i++)
		if (s->c[i].num == num)
			return &s->c[i];
	return NULL;
}

const struct sp_channel *
sp_channels_find(struct sp_channels *s, uint32_t num)
{
	return find(s, num);
}

/* Numbers are never used twice. Those far below the newest count as used, so
 * that the memory of them stays small. */
bool
sp_channels_take_number(struct sp_numbers *s, uint32_t num)
{
	uint64_t *word, bit;

	if (num == 0 || (s->newest >= SP_CHANNELS_SEEN &&
	    num <= s->newest - SP_CHANNELS_SEEN))
		return false;
	if (num > s->newest) {
		uint32_t gap = num - s->newest;

		for (uint32_t k = 1; k <= gap && k <= SP_CHANNELS_SEEN; k++) {
			uint32_t n = (s->newest + k) % SP_CHANNELS_SEEN;

			s->seen[n / 64] &= ~(UINT64_C(1) << (n % 64));
		}
		s->newest = num;
	}
	word = &s->seen[num % SP_CHANNELS_SEEN / 64];
	bit = UINT64_C(1) << (num % 64);
	if ((*word & bit) != 0)
		return false;
	*word |= bit;
	return true;
}

bool
sp_channels_was_used(const struct sp_numbers *s, uint32_t num)
{
	if (num == 0 || num > s->newest)
		return false;
	if (s->newest - num >= SP_CHANNELS_SEEN)
		return true;
	return (s->seen[num % SP_CHANNELS_SEEN / 64] >> (num % 64) & 1) != 0;
}

static bool
was_used(const struct sp_channels *s, uint32_t num)
{
	return (num & SP_STREAM_REVERSE) == 0 ?
	    sp_channels_was_used(&s->user, num) :
	    sp_channels_was_used(&s->target, num & ~SP_STREAM_REVERSE);
}

/* A free place, or that of a failed channel whose opener never closed. */
static struct sp_channel *
place(struct sp_channels *s)
{
	struct sp_channel *c = NULL;

	for (unsigned i = 0; i < SP_CHANNELS_PLACES; i++) {
		struct sp_channel *p = &s->c[i];

		if (p->num == 0) {
			if (i >= s->high)
				s->high = i + 1;
			return p;
		}
		if (c == NULL && p->is_failed &&
		    (p->by_target ? p->user_closed : p->target_closed))
			c = p;
	}
	return c;
}

/* Of those that this side opened, how many has it not closed? And how many
 * stand open in all, closed by one side or not. */
static bool
is_crowded(const struct sp_channels *s, bool by_target)
{
	unsigned mine = 0, all = 0;

	for (unsigned i = 0; i < s->high; i++) {
		const struct sp_channel *c = &s->c[i];

		if (c->num == 0 || c->is_failed)
			continue;
		all++;
		mine += c->by_target == by_target &&
		    !(by_target ? c->target_closed : c->user_closed);
	}
	return mine >= SP_STREAM_CHANNELS_MAX ||
	    all >= SP_CHANNELS_PLACES - SP_STREAM_CHANNELS_MAX;
}

static void
too_many(struct sp_channels *s)
{
	snprintf(s->why, sizeof(s->why), "there are too many channels at once, "
	    "%u are allowed", SP_STREAM_CHANNELS_MAX);
}

/* One of these rights opens it. */
static uint32_t
rights_of(const struct sp_open *o)
{
	if (o->kind == SP_OPEN_SUBSYSTEM)
		return sp_span_is(o->command, "sftp") ?
		    SP_RIGHT_UPLOAD | SP_RIGHT_DOWNLOAD : SP_RIGHT_SUBSYSTEM;
	return o->kind == SP_OPEN_SHELL ? SP_RIGHT_SHELL :
	    o->kind == SP_OPEN_EXEC ? SP_RIGHT_EXEC :
	    o->kind == SP_OPEN_ROTATE ? SP_RIGHT_ROTATE :
	    o->kind == SP_OPEN_FORWARD ? SP_RIGHT_FORWARD :
	    o->kind == SP_OPEN_SQL ? SP_RIGHT_SQL : 0;
}

static bool
is_permitted(struct sp_channels *s, const struct sp_open *o)
{
	const struct sp_rules *r = s->rules;
	char host[4 * SP_RULES_HOST_MAX + 8];

	if (o->kind == SP_OPEN_FORWARD) {
		sp_vis(host, sizeof(host), o->host);
		snprintf(s->why, sizeof(s->why), "forwarding to %.250s port %u is "
		    "not permitted in this session", host, o->port);
		return (r->rights & SP_RIGHT_FORWARD) != 0 && sp_rules_reach(
		    r->forward, r->n_forward, o->host, o->port);
	}
	snprintf(s->why, sizeof(s->why), "%s is not permitted in this session",
	    o->kind == SP_OPEN_SHELL ? "a shell" :
	    o->kind == SP_OPEN_EXEC ? "running a command" :
	    o->kind == SP_OPEN_ROTATE ? "changing a secret" :
	    o->kind == SP_OPEN_SQL ? "a database connection" :
	    sp_span_is(o->command, "sftp") ? "transferring files" :
	    "a subsystem");
	return (r->rights & rights_of(o)) != 0;
}

static enum sp_frame_verdict
judge_open(struct sp_channels *s, const struct sp_frame *f)
{
	struct sp_channel *c;
	struct sp_open o;
	bool crowded;

	if (sp_open_decode(f->payload, &o) != SP_OK)
		return sp_channels_fault(s, f, true, "a broken payload");
	if (o.kind == SP_OPEN_REVERSE || o.kind == SP_OPEN_LISTEN ||
	    (f->chan & SP_STREAM_REVERSE) != 0)
		return sp_channels_fault(s, f, true, "not the user's to open");
	if (!sp_channels_take_number(&s->user, f->chan))
		return sp_channels_fault(s, f, true, "a number that was used");
	crowded = is_crowded(s, false);
	if ((c = place(s)) == NULL)
		return sp_channels_fault(s, f, true, "too many channels");
	*c = (struct sp_channel){.num = f->chan, .kind = o.kind,
	    .has_pty = o.has_pty != 0,
	    .to_target = SP_STREAM_WINDOW, .to_user = SP_STREAM_WINDOW};
	if (is_permitted(s, &o) && !crowded && s->refusal == NULL)
		return SP_FRAME_PASS;
	c->is_failed = c->is_ours = c->target_closed = true;
	if (crowded)
		too_many(s);
	else if (s->refusal != NULL)
		snprintf(s->why, sizeof(s->why), "%s", s->refusal);
	return SP_FRAME_REFUSE;
}

/* What came to a listener. One that the user has just taken away is a matter
 * of time; one that never was is what a captured leg says. Both are refused. */
static enum sp_frame_verdict
judge_reverse(struct sp_channels *s, const struct sp_frame *f)
{
	const struct sp_listen *l;
	struct sp_channel *c;
	struct sp_open o;
	bool crowded;

	if (sp_open_decode(f->payload, &o) != SP_OK)
		return sp_channels_fault(s, f, false, "a broken payload");
	if (o.kind != SP_OPEN_REVERSE || (f->chan & SP_STREAM_REVERSE) == 0)
		return sp_channels_fault(s, f, false, "not the target's to open");
	if (!sp_channels_take_number(&s->target, f->chan & ~SP_STREAM_REVERSE))
		return sp_channels_fault(s, f, false, "a number that was used");
	l = sp_channels_listener(s, o.listen);
	if (l != NULL && (o.port != l->port ||
	    !sp_span_eq(o.host, sp_span_of(l->host, l->n_host))))
		return sp_channels_fault(s, f, false, "not what it listens on");
	crowded = is_crowded(s, true);
	if ((c = place(s)) == NULL)
		return sp_channels_fault(s, f, false, "too many channels");
	*c = (struct sp_channel){.num = f->chan, .kind = o.kind,
	    .by_target = true, .to_target = SP_STREAM_WINDOW,
	    .to_user = SP_STREAM_WINDOW};
	if (l != NULL && !crowded)
		return SP_FRAME_PASS;
	c->is_failed = c->is_ours = c->user_closed = true;
	if (crowded)
		too_many(s);
	else
		snprintf(s->why, sizeof(s->why), "nobody listens there: the "
		    "target opened a connection that was not asked for");
	return SP_FRAME_REFUSE;
}

static enum sp_frame_verdict
take_credit(struct sp_channels *s, const struct sp_frame *f, bool from_user,
    uint64_t *credit)
{
	struct sp_span p = f->payload;
	uint32_t n = 0;

	if (sp_get_u32(&p, &n) != SP_OK || p.n != 0)
		return sp_channels_fault(s, f, from_user, "a broken payload");
	if (n > CREDIT_MAX - *credit)
		return sp_channels_fault(s, f, from_user,
		    "more credit than there may be");
	*credit += n;
	return SP_FRAME_PASS;
}

static enum sp_frame_verdict
take_close(struct sp_channel *c, bool *mine, bool other)
{
	*mine = true;
	if (other) {
		bool forward = !c->is_ours;

		*c = (struct sp_channel){0};
		return forward ? SP_FRAME_PASS : SP_FRAME_DROP;
	}
	return SP_FRAME_PASS;
}

static enum sp_frame_verdict
take_answer(struct sp_channels *s, struct sp_channel *c,
    const struct sp_frame *f, bool from_user)
{
	if (from_user != c->by_target)
		return sp_channels_fault(s, f, from_user, "not its to answer");
	if (c->is_open || c->is_failed)
		return sp_channels_fault(s, f, from_user, "a second answer");
	if (f->type == SP_FRAME_OPEN_OK)
		c->is_open = true;
	else
		c->is_failed = true;
	return SP_FRAME_PASS;
}

/* DATA and EOF, the same for both sides. */
static enum sp_frame_verdict
take_bytes(struct sp_channels *s, const struct sp_frame *f, bool from_user,
    bool *eof, uint64_t *credit)
{
	if (*eof)
		return sp_channels_fault(s, f, from_user,
		    f->type == SP_FRAME_EOF ? "twice" : "after its EOF");
	if (f->type == SP_FRAME_EOF) {
		*eof = true;
		return SP_FRAME_PASS;
	}
	if (f->payload.n > *credit)
		return sp_channels_fault(s, f, from_user, "beyond its credit");
	*credit -= f->payload.n;
	return SP_FRAME_PASS;
}

/* What only a terminal or a program has. */
static enum sp_frame_verdict
take_request(struct sp_channels *s, struct sp_channel *c,
    const struct sp_frame *f, bool from_user)
{
	size_t want = f->type == SP_FRAME_WINDOW ? 16 :
	    f->type == SP_FRAME_BREAK || f->type == SP_FRAME_EXIT_STATUS ? 4 :
	    f->payload.n;
	bool is_exit = f->type == SP_FRAME_EXIT_STATUS ||
	    f->type == SP_FRAME_EXIT_SIGNAL;

	if (is_exit == from_user || (!is_exit && f->type != SP_FRAME_WINDOW &&
	    f->type != SP_FRAME_SIGNAL && f->type != SP_FRAME_BREAK) ||
	    sp_open_is_forward(c->kind))
		return sp_channels_fault(s, f, from_user, "not allowed here");
	if (f->payload.n != want)
		return sp_channels_fault(s, f, from_user, "a broken payload");
	if (is_exit && c->has_exited)
		return sp_channels_fault(s, f, from_user, "a second exit");
	c->has_exited |= is_exit;
	return SP_FRAME_PASS;
}

/* A rotation's channel: the target says which secret its program waits for, the
 * user's side says that it be typed, and hears what stands for it. Nothing else
 * ever goes to the target. */
static enum sp_frame_verdict
take_secret(struct sp_channels *s, struct sp_channel *c,
    const struct sp_frame *f, bool from_user)
{
	size_t want = f->type == SP_FRAME_WANTS || from_user ? 1 : 37;
	uint8_t slot = 0;

	if (c->kind != SP_OPEN_ROTATE)
		return sp_channels_fault(s, f, from_user, "not allowed here");
	if (f->payload.n != want)
		return sp_channels_fault(s, f, from_user, "a broken payload");
	slot = f->payload.p[0];
	if (slot != SP_WHICH_OLD && slot != SP_WHICH_NEW)
		return sp_channels_fault(s, f, from_user, "a broken payload");
	if (f->type == SP_FRAME_WANTS) {
		if (c->wanted != 0 || c->given != 0)
			return sp_channels_fault(s, f, from_user, "a second question");
		c->wanted = slot;
	} else if (from_user) {
		if (c->wanted != slot)
			return sp_channels_fault(s, f, true, "what nobody asked for");
		c->wanted = 0;
		c->given = slot;
	} else {
		if (c->given != slot)
			return sp_channels_fault(s, f, false, "what was not given");
		c->given = 0;
	}
	return SP_FRAME_PASS;
}

static enum sp_frame_verdict
judge(struct sp_channels *s, struct sp_channel *c, const struct sp_frame *f,
    bool from_user)
{
	bool *closed = from_user ? &c->user_closed : &c->target_closed;
	bool is_opener = from_user != c->by_target;
	enum sp_frame_verdict v;

	if (*closed)
		return f->type == SP_FRAME_CREDIT ? SP_FRAME_DROP :
		    sp_channels_fault(s, f, from_user, "after its CLOSE");
	if (f->type == SP_FRAME_OPEN_OK || f->type == SP_FRAME_OPEN_FAIL)
		return take_answer(s, c, f, from_user);
	if (f->type == SP_FRAME_CLOSE)
		return take_close(c, closed, from_user ? c->target_closed :
		    c->user_closed);
	if (c->kind == SP_OPEN_ROTATE && from_user &&
	    f->type != SP_FRAME_SECRET && f->type != SP_FRAME_CREDIT)
		return sp_channels_fault(s, f, true, "not allowed here");
	if (f->type == SP_FRAME_CREDIT)
		v = take_credit(s, f, from_user, from_user ? &c->to_user :
		    &c->to_target);
	else if (!is_opener && !c->is_open)
		return sp_channels_fault(s, f, from_user, "before OPEN_OK");
	else if (f->type == SP_FRAME_WANTS || f->type == SP_FRAME_SECRET)
		v = take_secret(s, c, f, from_user);
	else if (f->type == SP_FRAME_DATA || f->type == SP_FRAME_EOF)
		v = from_user ? take_bytes(s, f, true, &c->user_eof,
		    &c->to_target) : take_bytes(s, f, false, &c->target_eof,
		    &c->to_user);
	else
		v = take_request(s, c, f, from_user);
	return v == SP_FRAME_PASS && is_opener && c->is_failed ? SP_FRAME_DROP :
	    v;
}

static bool
is_of_a_listener(uint8_t type)
{
	return type == SP_FRAME_LISTEN || type == SP_FRAME_LISTEN_OK ||
	    type == SP_FRAME_LISTEN_FAIL || type == SP_FRAME_UNLISTEN;
}

enum sp_frame_verdict
sp_channels_judge(struct sp_channels *s, const struct sp_frame *f,
    bool from_user)
{
	struct sp_channel *c;

	s->why[0] = '\0';
	if (f->type == SP_FRAME_OPEN)
		return from_user ? judge_open(s, f) : judge_reverse(s, f);
	if (is_of_a_listener(f->type))
		return sp_channels_listen(s, f, from_user);
	if ((c = find(s, f->chan)) == NULL)
		return f->type == SP_FRAME_CREDIT && was_used(s, f->chan) ?
		    SP_FRAME_DROP : sp_channels_fault(s, f, from_user,
		    "no such channel");
	return judge(s, c, f, from_user);
}

void
sp_channels_credit(struct sp_channels *s, uint32_t chan, int64_t to_target,
    int64_t to_user)
{
	struct sp_channel *c = find(s, chan);

	if (c == NULL)
		return;
	c->to_target = (uint64_t)((int64_t)c->to_target + to_target);
	c->to_user = (uint64_t)((int64_t)c->to_user + to_user);
}

unsigned
sp_channels_n_user_open(const struct sp_channels *s)
{
	unsigned n = 0;

	for (size_t i = 0; i < s->high; i++)
		n += s->c[i].num != 0 && !s->c[i].user_closed &&
		    !s->c[i].is_failed;
	return n;
}

unsigned
sp_channels_n_open(const struct sp_channels *s)
{
	unsigned n = 0;

	for (size_t i = 0; i < s->high; i++)
		n += s->c[i].num != 0 && !s->c[i].is_failed &&
		    !(s->c[i].user_closed || s->c[i].target_closed);
	return n;
}
