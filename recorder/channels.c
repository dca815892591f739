/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/channels.h"

#include <stdio.h>
#include <string.h>

/* No leg has a use for more; beyond it a sum could wrap. */
#define CREDIT_MAX (UINT64_C(1) << 32)

void
sp_channels_init(struct sp_channels *s, const struct sp_rules *rules)
{
	*s = (struct sp_channels){.rules = rules};
}

static enum sp_frame_verdict
fault(struct sp_channels *s, const struct sp_frame *f, bool from_user,
    const char *why)
{
	snprintf(s->why, sizeof(s->why), "%s on channel %u from the %s side: %s",
	    sp_frame_name(f->type), f->chan, from_user ? "user" : "target", why);
	return SP_FRAME_FAULT;
}

static struct sp_channel *
find(struct sp_channels *s, uint32_t num)
{
	for (size_t i = 0; num != 0 && i < SP_STREAM_CHANNELS_MAX; i++)
		if (s->c[i].num == num)
			return &s->c[i];
	return NULL;
}

/* Numbers are never used twice. Those far below the newest count as used, so
 * that the memory of them stays small. */
static bool
take_number(struct sp_channels *s, uint32_t num)
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

static bool
was_used(const struct sp_channels *s, uint32_t num)
{
	if (num == 0 || num > s->newest)
		return false;
	if (s->newest - num >= SP_CHANNELS_SEEN)
		return true;
	return (s->seen[num % SP_CHANNELS_SEEN / 64] >> (num % 64) & 1) != 0;
}

/* A free place, or that of a failed channel whose user side never closed. */
static struct sp_channel *
place(struct sp_channels *s)
{
	struct sp_channel *c = NULL;

	for (size_t i = 0; i < SP_STREAM_CHANNELS_MAX; i++) {
		if (s->c[i].num == 0)
			return &s->c[i];
		if (c == NULL && s->c[i].is_failed && s->c[i].target_closed)
			c = &s->c[i];
	}
	return c;
}

/* One of these rights opens it. */
static uint32_t
rights_of(const struct sp_open *o)
{
	if (o->kind == SP_OPEN_SUBSYSTEM)
		return sp_span_is(o->command, "sftp") ?
		    SP_RIGHT_UPLOAD | SP_RIGHT_DOWNLOAD : SP_RIGHT_SUBSYSTEM;
	return o->kind == SP_OPEN_SHELL ? SP_RIGHT_SHELL :
	    o->kind == SP_OPEN_EXEC ? SP_RIGHT_EXEC : 0;
}

static const char *
open_text(const struct sp_open *o)
{
	if (o->kind == SP_OPEN_SUBSYSTEM)
		return sp_span_is(o->command, "sftp") ? "transferring files" :
		    "a subsystem";
	return o->kind == SP_OPEN_SHELL ? "a shell" : "running a command";
}

static enum sp_frame_verdict
judge_open(struct sp_channels *s, const struct sp_frame *f)
{
	struct sp_channel *c;
	struct sp_open o;

	if (sp_open_decode(f->payload, &o) != SP_OK)
		return fault(s, f, true, "a broken payload");
	if (!take_number(s, f->chan))
		return fault(s, f, true, "a number that was used");
	if ((c = place(s)) == NULL)
		return fault(s, f, true, "too many channels");
	*c = (struct sp_channel){.num = f->chan, .to_target = SP_STREAM_WINDOW,
	    .to_user = SP_STREAM_WINDOW};
	if ((s->rules->rights & rights_of(&o)) != 0)
		return SP_FRAME_PASS;
	c->is_failed = c->is_ours = c->target_closed = true;
	snprintf(s->why, sizeof(s->why), "%s is not permitted in this session",
	    open_text(&o));
	return SP_FRAME_REFUSE;
}

static enum sp_frame_verdict
take_credit(struct sp_channels *s, const struct sp_frame *f, bool from_user,
    uint64_t *credit)
{
	struct sp_span p = f->payload;
	uint32_t n = 0;

	if (sp_get_u32(&p, &n) != SP_OK || p.n != 0)
		return fault(s, f, from_user, "a broken payload");
	if (n > CREDIT_MAX - *credit)
		return fault(s, f, from_user, "more credit than there may be");
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
judge_user(struct sp_channels *s, struct sp_channel *c,
    const struct sp_frame *f)
{
	if (c->user_closed)
		return f->type == SP_FRAME_CREDIT ? SP_FRAME_DROP :
		    fault(s, f, true, "after its CLOSE");
	switch (f->type) {
	case SP_FRAME_DATA:
		if (c->user_eof)
			return fault(s, f, true, "after its EOF");
		if (f->payload.n > c->to_target)
			return fault(s, f, true, "beyond its credit");
		c->to_target -= f->payload.n;
		break;
	case SP_FRAME_CREDIT: {
		enum sp_frame_verdict v = take_credit(s, f, true, &c->to_user);

		if (v != SP_FRAME_PASS)
			return v;
		break;
	}
	case SP_FRAME_EOF:
		if (c->user_eof)
			return fault(s, f, true, "twice");
		c->user_eof = true;
		break;
	case SP_FRAME_WINDOW:
		if (f->payload.n != 16)
			return fault(s, f, true, "a broken payload");
		break;
	case SP_FRAME_BREAK:
		if (f->payload.n != 4)
			return fault(s, f, true, "a broken payload");
		break;
	case SP_FRAME_SIGNAL:
		break;
	case SP_FRAME_CLOSE:
		return take_close(c, &c->user_closed, c->target_closed);
	default:
		return fault(s, f, true, "not allowed here");
	}
	return c->is_failed ? SP_FRAME_DROP : SP_FRAME_PASS;
}

static enum sp_frame_verdict
judge_answer(struct sp_channels *s, struct sp_channel *c,
    const struct sp_frame *f)
{
	if (c->is_open || c->is_failed)
		return fault(s, f, false, "a second answer");
	if (f->type == SP_FRAME_OPEN_OK)
		c->is_open = true;
	else
		c->is_failed = true;
	return SP_FRAME_PASS;
}

static enum sp_frame_verdict
judge_exit(struct sp_channels *s, struct sp_channel *c,
    const struct sp_frame *f)
{
	if (c->has_exited)
		return fault(s, f, false, "a second exit");
	if (f->type == SP_FRAME_EXIT_STATUS && f->payload.n != 4)
		return fault(s, f, false, "a broken payload");
	c->has_exited = true;
	return SP_FRAME_PASS;
}

static enum sp_frame_verdict
judge_target(struct sp_channels *s, struct sp_channel *c,
    const struct sp_frame *f)
{
	if (c->target_closed)
		return f->type == SP_FRAME_CREDIT ? SP_FRAME_DROP :
		    fault(s, f, false, "after its CLOSE");
	if (f->type == SP_FRAME_OPEN_OK || f->type == SP_FRAME_OPEN_FAIL)
		return judge_answer(s, c, f);
	if (f->type == SP_FRAME_CLOSE)
		return take_close(c, &c->target_closed, c->user_closed);
	if (f->type == SP_FRAME_CREDIT)
		return take_credit(s, f, false, &c->to_target);
	if (!c->is_open)
		return fault(s, f, false, "before OPEN_OK");
	switch (f->type) {
	case SP_FRAME_DATA:
		if (c->target_eof)
			return fault(s, f, false, "after its EOF");
		if (f->payload.n > c->to_user)
			return fault(s, f, false, "beyond its credit");
		c->to_user -= f->payload.n;
		return SP_FRAME_PASS;
	case SP_FRAME_EOF:
		if (c->target_eof)
			return fault(s, f, false, "twice");
		c->target_eof = true;
		return SP_FRAME_PASS;
	case SP_FRAME_EXIT_STATUS:
	case SP_FRAME_EXIT_SIGNAL:
		return judge_exit(s, c, f);
	default:
		return fault(s, f, false, "not the target's to say");
	}
}

enum sp_frame_verdict
sp_channels_judge(struct sp_channels *s, const struct sp_frame *f,
    bool from_user)
{
	struct sp_channel *c;

	s->why[0] = '\0';
	if (from_user && f->type == SP_FRAME_OPEN)
		return judge_open(s, f);
	if ((c = find(s, f->chan)) == NULL)
		return f->type == SP_FRAME_CREDIT && was_used(s, f->chan) ?
		    SP_FRAME_DROP : fault(s, f, from_user, "no such channel");
	return from_user ? judge_user(s, c, f) : judge_target(s, c, f);
}

unsigned
sp_channels_n_user_open(const struct sp_channels *s)
{
	unsigned n = 0;

	for (size_t i = 0; i < SP_STREAM_CHANNELS_MAX; i++)
		n += s->c[i].num != 0 && !s->c[i].user_closed &&
		    !s->c[i].is_failed;
	return n;
}

unsigned
sp_channels_n_open(const struct sp_channels *s)
{
	unsigned n = 0;

	for (size_t i = 0; i < SP_STREAM_CHANNELS_MAX; i++)
		n += s->c[i].num != 0 && !s->c[i].is_failed &&
		    !(s->c[i].user_closed || s->c[i].target_closed);
	return n;
}
