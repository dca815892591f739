/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/broker.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAITING_MAX SP_STREAM_TX_MAX	/* bytes that wait for a viewer */
#define CHANNELS_MAX 8			/* of one dialogue or verb */
#define DATA_BYTES 32768		/* in one frame */
#define SOCKET_AHEAD (256u << 10)	/* framed, not yet written */
#define FRAMES_A_TURN 64
/* A viewer that never opens its channel or never takes the last bytes. */
#define LINGER_S 30

enum tail { TAIL_NONE, TAIL_FINISH, TAIL_HANDOVER };

/* Text that waits, in the order written: runs of one lane. */
struct run {
	struct run *next;
	size_t off, n;
	uint8_t lane;
	uint8_t bytes[];
};

struct chan {
	uint32_t id;		/* 0: free */
	bool is_open;		/* OPEN came, OPEN_OK is sent */
	bool is_over;		/* CLOSE or HANDOVER is framed */
	enum tail tail;
	uint32_t status;
	uint64_t credit;	/* bytes that we may send */
	uint64_t taken;		/* bytes taken since the last CREDIT */
	struct run *first, **last;
};

struct sp_conduit {
	struct sp_conduit *next, **at;	/* in the list of all */
	uint64_t owner;
	struct sp_broker *b;
	struct sp_stream s;
	struct event *ev_read, *ev_write, *late, *linger;
	struct sp_conduit_ops ops;
	void *arg;
	struct chan chans[CHANNELS_MAX];
	size_t waiting;
	bool owned;		/* the owner still wants callbacks */
	bool done;		/* all is written; waits for the other end's end */
	bool gone;		/* the user side is away */
};

static struct sp_conduit *all_conduits;

static void
drop_runs(struct sp_conduit *c, struct chan *ch)
{
	while (ch->first != NULL) {
		struct run *r = ch->first;

		ch->first = r->next;
		c->waiting -= r->n - r->off;
		explicit_bzero(r->bytes, r->n);
		free(r);
	}
	ch->last = &ch->first;
}

static void
free_conduit(struct sp_conduit *c)
{
	struct event *all[] = {c->ev_read, c->ev_write, c->late, c->linger};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i] != NULL)
			event_free(all[i]);
	for (size_t i = 0; i < CHANNELS_MAX; i++)
		drop_runs(c, &c->chans[i]);
	if (c->at != NULL && (*c->at = c->next) != NULL)
		c->next->at = c->at;
	sp_stream_fini(&c->s);
	free(c);
}

/* From the loop: the user side is away, or nothing is left to do. */
static void
on_late(evutil_socket_t fd, short what, void *arg)
{
	struct sp_conduit *c = arg;

	(void)fd;
	(void)what;
	if (c->owned) {
		c->owned = false;
		c->ops.on_end(c->arg);
	}
	free_conduit(c);
}

static void
end(struct sp_conduit *c)
{
	if (c->gone)
		return;
	c->gone = true;
	event_del(c->ev_read);
	event_del(c->ev_write);
	event_del(c->linger);
	event_active(c->late, EV_TIMEOUT, 0);
}

static void
on_linger(evutil_socket_t fd, short what, void *arg)
{
	struct sp_conduit *c = arg;

	(void)fd;
	(void)what;
	sp_log(SP_INFO, "viewer_slow", NULL, "waiting=%zu", c->waiting);
	end(c);
}

static struct chan *
find(struct sp_conduit *c, uint32_t id)
{
	for (size_t i = 0; i < CHANNELS_MAX; i++)
		if (c->chans[i].id == id)
			return &c->chans[i];
	return NULL;
}

/* Also for a channel that the user side has not opened yet: what is written
 * to it waits for OPEN. */
static struct chan *
need(struct sp_conduit *c, uint32_t id)
{
	struct chan *ch = id == 0 ? NULL : find(c, id);

	if (ch != NULL || id == 0 || (ch = find(c, 0)) == NULL)
		return ch;
	*ch = (struct chan){.id = id, .credit = SP_STREAM_WINDOW};
	ch->last = &ch->first;
	return ch;
}

static enum sp_err
frame_tail(struct sp_conduit *c, struct chan *ch)
{
	struct sp_span none = {0};

	ch->is_over = true;
	if (ch->tail == TAIL_HANDOVER)
		return sp_stream_put(&c->s, SP_FRAME_HANDOVER, 0, ch->id, none);
	SP_TRY(sp_stream_put(&c->s, SP_FRAME_EOF, 0, ch->id, none));
	SP_TRY(sp_stream_put_u32(&c->s, SP_FRAME_EXIT_STATUS, ch->id, ch->status));
	return sp_stream_put(&c->s, SP_FRAME_CLOSE, 0, ch->id, none);
}

static enum sp_err
frame_chan(struct sp_conduit *c, struct chan *ch)
{
	while (ch->first != NULL && ch->credit > 0 &&
	    sp_stream_pending(&c->s) < SOCKET_AHEAD) {
		struct run *r = ch->first;
		size_t n = r->n - r->off;

		if (n > ch->credit)
			n = (size_t)ch->credit;
		if (n > DATA_BYTES)
			n = DATA_BYTES;
		SP_TRY(sp_stream_put(&c->s, SP_FRAME_DATA, r->lane, ch->id,
		    sp_span_of(r->bytes + r->off, n)));
		r->off += n;
		c->waiting -= n;
		ch->credit -= n;
		if (r->off < r->n)
			continue;
		if ((ch->first = r->next) == NULL)
			ch->last = &ch->first;
		explicit_bzero(r->bytes, r->n);
		free(r);
	}
	return ch->first == NULL && ch->tail != TAIL_NONE ? frame_tail(c, ch) :
	    SP_OK;
}

/* Frames what credit allows, writes what the socket takes. */
static void
push(struct sp_conduit *c)
{
	bool tails = true, any = false;
	enum sp_err e;

	if (c->gone || c->done)
		return;
	do {
		e = SP_OK;
		for (size_t i = 0; i < CHANNELS_MAX && e == SP_OK; i++)
			if (c->chans[i].id != 0 && c->chans[i].is_open &&
			    !c->chans[i].is_over)
				e = frame_chan(c, &c->chans[i]);
		any = sp_stream_pending(&c->s) > 0;
		if (e == SP_OK && any)
			e = sp_stream_flush(&c->s);
	} while (e == SP_OK && any);
	if (e != SP_OK && e != SP_ERR_AGAIN) {
		end(c);
		return;
	}
	if (e == SP_ERR_AGAIN) {
		event_add(c->ev_write, NULL);
		return;
	}
	event_del(c->ev_write);
	for (size_t i = 0; i < CHANNELS_MAX; i++)
		if (c->chans[i].id != 0 && !c->chans[i].is_over)
			tails = false;
	/* The owner has left and all is written. Closing now could make the
	 * other end see a broken pipe before it has read the rest. */
	if (!c->owned && tails) {
		c->done = true;
		shutdown(c->s.fd, SHUT_WR);
	}
}

static enum sp_err
take_open(struct sp_conduit *c, const struct sp_frame *f)
{
	struct sp_open o;
	struct chan *ch = need(c, f->chan);

	if (ch == NULL || ch->is_open)
		return SP_ERR_PROTO;
	SP_TRY(sp_open_decode(f->payload, &o));
	ch->is_open = true;
	SP_TRY(sp_stream_put(&c->s, SP_FRAME_OPEN_OK, 0, f->chan,
	    (struct sp_span){0}));
	if (c->owned && c->ops.on_open != NULL)
		c->ops.on_open(c->arg, f->chan, &o);
	return SP_OK;
}

static enum sp_err
take_data(struct sp_conduit *c, struct chan *ch, const struct sp_frame *f)
{
	ch->taken += f->payload.n;
	if (ch->taken > SP_STREAM_WINDOW)
		return SP_ERR_PROTO;	/* more than it was granted */
	if (ch->taken >= SP_STREAM_WINDOW / 2) {
		SP_TRY(sp_stream_put_u32(&c->s, SP_FRAME_CREDIT, ch->id,
		    (uint32_t)ch->taken));
		ch->taken = 0;
	}
	if (c->owned && ch->tail == TAIL_NONE && c->ops.on_input != NULL)
		c->ops.on_input(c->arg, ch->id, f->payload);
	return SP_OK;
}

static enum sp_err
take_window(struct sp_conduit *c, struct chan *ch, const struct sp_frame *f)
{
	struct sp_span s = f->payload;
	uint32_t cols = 0, rows = 0;

	SP_TRY(sp_get_u32(&s, &cols));
	SP_TRY(sp_get_u32(&s, &rows));
	if (c->owned && ch->tail == TAIL_NONE && c->ops.on_window != NULL)
		c->ops.on_window(c->arg, ch->id, cols, rows);
	return SP_OK;
}

static enum sp_err
take_credit(struct chan *ch, const struct sp_frame *f)
{
	struct sp_span s = f->payload;
	uint32_t more = 0;

	SP_TRY(sp_get_u32(&s, &more));
	ch->credit += more;
	return ch->credit > UINT32_MAX ? SP_ERR_PROTO : SP_OK;
}

/* The user closed the channel: without another one nobody is left to see. */
static enum sp_err
take_close(struct sp_conduit *c, struct chan *ch)
{
	drop_runs(c, ch);
	if (!ch->is_over)
		SP_TRY(sp_stream_put(&c->s, SP_FRAME_CLOSE, 0, ch->id,
		    (struct sp_span){0}));
	ch->is_over = true;
	for (size_t i = 0; i < CHANNELS_MAX; i++)
		if (c->chans[i].id != 0 && !c->chans[i].is_over)
			return SP_OK;
	if (sp_stream_flush(&c->s) == SP_ERR_AGAIN)
		return SP_OK;
	return SP_ERR_EOF;
}

static enum sp_err
take(struct sp_conduit *c, const struct sp_frame *f)
{
	struct chan *ch;

	if (c->done)
		return f->type == SP_FRAME_CLOSE ? SP_ERR_EOF : SP_OK;
	if (f->type == SP_FRAME_OPEN)
		return take_open(c, f);
	ch = f->chan == 0 ? NULL : find(c, f->chan);
	if (ch == NULL || !ch->is_open)
		return SP_ERR_PROTO;
	switch (f->type) {
	case SP_FRAME_DATA:
		return take_data(c, ch, f);
	case SP_FRAME_CREDIT:
		return take_credit(ch, f);
	case SP_FRAME_EOF:
		if (c->owned && ch->tail == TAIL_NONE && c->ops.on_eof != NULL)
			c->ops.on_eof(c->arg, ch->id);
		return SP_OK;
	case SP_FRAME_WINDOW:
		return take_window(c, ch, f);
	case SP_FRAME_CLOSE:
		return take_close(c, ch);
	default:
		return SP_OK;	/* signals and breaks mean nothing here */
	}
}

/* Takes whole frames; SP_ERR_AGAIN: none is left, SP_OK: there may be more. */
static enum sp_err
take_frames(struct sp_conduit *c)
{
	for (unsigned i = 0; i < FRAMES_A_TURN && !c->gone; i++) {
		struct sp_frame f;

		SP_TRY(sp_stream_next(&c->s, &f));
		SP_TRY(take(c, &f));
	}
	return SP_OK;
}

static void
on_read(evutil_socket_t fd, short what, void *arg)
{
	struct sp_conduit *c = arg;
	enum sp_err e, fill;

	(void)fd;
	(void)what;
	fill = sp_stream_fill(&c->s);
	e = take_frames(c);
	if (c->gone)
		return;
	if (e == SP_OK)
		event_active(c->ev_read, EV_READ, 0);
	else if (e == SP_ERR_AGAIN && fill != SP_OK)
		e = fill;
	if (e == SP_ERR_PROTO)
		sp_log(SP_WARN, "viewer_protocol", NULL, "fault=\"%s\"",
		    sp_vis_str(c->s.fault));
	if (e != SP_OK && e != SP_ERR_AGAIN)
		end(c);
	else
		push(c);
}

static void
on_write(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	push(arg);
}

struct sp_conduit *
sp_conduit_new(struct sp_broker *b, int fd, const struct sp_conduit_ops *ops,
    void *arg)
{
	struct sp_conduit *c = calloc(1, sizeof(*c));

	if (c == NULL || fd < 0) {
		if (fd >= 0)
			close(fd);
		free(c);
		return NULL;
	}
	c->b = b;
	c->ops = *ops;
	c->arg = arg;
	c->owned = true;
	for (size_t i = 0; i < CHANNELS_MAX; i++)
		c->chans[i].last = &c->chans[i].first;
	if (sp_stream_init(&c->s, fd, true) != SP_OK ||
	    (c->ev_read = event_new(b->ev, fd, EV_READ | EV_PERSIST, on_read, c)) == NULL ||
	    (c->ev_write = event_new(b->ev, fd, EV_WRITE | EV_PERSIST, on_write, c)) == NULL ||
	    (c->late = event_new(b->ev, -1, 0, on_late, c)) == NULL ||
	    (c->linger = event_new(b->ev, -1, 0, on_linger, c)) == NULL ||
	    event_add(c->ev_read, NULL) != 0) {
		free_conduit(c);
		return NULL;
	}
	c->at = &all_conduits;
	if ((c->next = all_conduits) != NULL)
		c->next->at = &c->next;
	all_conduits = c;
	return c;
}

void
sp_conduit_set_owner(struct sp_conduit *c, uint64_t conn)
{
	c->owner = conn;
}

size_t
sp_conduits_of(uint64_t conn)
{
	size_t n = 0;

	for (const struct sp_conduit *c = all_conduits; c != NULL; c = c->next)
		n += c->owner == conn;
	return n;
}

void
sp_conduit_write(struct sp_conduit *c, uint32_t chan, uint8_t lane,
    struct sp_span bytes)
{
	struct chan *ch;
	struct run *r;

	SP_ASSERT(lane == 1 || lane == 2);
	if (c->gone || bytes.n == 0)
		return;
	ch = need(c, chan);
	if (ch == NULL || ch->is_over || ch->tail != TAIL_NONE)
		return;
	if (bytes.n > WAITING_MAX - c->waiting ||
	    (r = malloc(sizeof(*r) + bytes.n)) == NULL) {
		sp_log(SP_WARN, "viewer_dropped", NULL, "waiting=%zu", c->waiting);
		end(c);
		return;
	}
	*r = (struct run){.n = bytes.n, .lane = lane};
	memcpy(r->bytes, bytes.p, bytes.n);
	*ch->last = r;
	ch->last = &r->next;
	c->waiting += bytes.n;
	push(c);
}

size_t
sp_conduit_waiting(const struct sp_conduit *c)
{
	return c->waiting + sp_stream_pending(&c->s);
}

static void
leave(struct sp_conduit *c, uint32_t chan, enum tail tail, uint32_t status)
{
	struct chan *ch = c->gone ? NULL : need(c, chan);
	struct timeval tv = {.tv_sec = LINGER_S};

	c->owned = false;	/* if it is gone, `late` only frees */
	if (c->gone)
		return;
	if (ch == NULL) {
		end(c);
		return;
	}
	for (size_t i = 0; i < CHANNELS_MAX; i++)
		if (c->chans[i].id != 0 && &c->chans[i] != ch) {
			drop_runs(c, &c->chans[i]);
			c->chans[i].is_over = true;
		}
	ch->tail = tail;
	ch->status = status;
	event_add(c->linger, &tv);
	push(c);
}

void
sp_conduit_finish(struct sp_conduit *c, uint32_t chan, uint32_t exit_status)
{
	if (c != NULL)
		leave(c, chan, TAIL_FINISH, exit_status);
}

void
sp_conduit_handover(struct sp_conduit *c, uint32_t chan)
{
	if (c != NULL)
		leave(c, chan, TAIL_HANDOVER, 0);
}

void
sp_conduit_drop(struct sp_conduit *c)
{
	if (c == NULL)
		return;
	c->owned = false;
	end(c);
}
