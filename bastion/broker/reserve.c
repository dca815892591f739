/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/store_internal.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * The reserve: a file whose room was taken beforehand, for events that cannot
 * be written into the database now. Nothing is released meanwhile (a release
 * waits for its event), but what ends things goes on: an end, a kill, a seal
 * are written here, forced to disk, and entered into the chain when the
 * database is back, also by the next broker. An event is in here twice at most,
 * never lost; a full reserve is told and stops nothing.
 *
 *   length[4] check[8] at_us[8] session[16] has_session[1], event, actor and
 *   detail each as length[4] and bytes; a length of 0 ends the list
 */
#define ROOM (1u << 20)
#define HEAD 12

struct sp_reserve {
	int fd;
	uint32_t used;
	size_t n;		/* events in here that the chain has not */
	bool is_full;
};

static void
check_of(uint8_t out[static 8], const void *p, size_t n)
{
	static const uint8_t key[crypto_shorthash_KEYBYTES] = "sallyport resrv";

	crypto_shorthash(out, p, n, key);
}

static enum sp_err
put_text(struct sp_buf *b, const char *s)
{
	return sp_buf_put_bytes(b, sp_span_str(s == NULL ? "" : s));
}

static enum sp_err
encode(struct sp_buf *b, const struct sp_event *ev)
{
	SP_TRY(sp_buf_put_u64(b, (uint64_t)ev->at_us));
	SP_TRY(sp_buf_put(b, ev->session, 16));
	SP_TRY(sp_buf_put_u8(b, ev->has_session));
	SP_TRY(put_text(b, ev->event));
	SP_TRY(put_text(b, ev->actor));
	return put_text(b, ev->detail);
}

static char *
get_text(struct sp_span *s)
{
	struct sp_span t;
	char *c;

	if (sp_get_bytes(s, 65536, &t) != SP_OK || (c = malloc(t.n + 1)) == NULL)
		return NULL;
	memcpy(c, t.p, t.n);
	c[t.n] = '\0';
	return c;
}

static bool
decode(struct sp_span s, struct sp_event *ev)
{
	const uint8_t *id;
	uint64_t at;
	uint8_t has;

	*ev = (struct sp_event){0};
	if (sp_get_u64(&s, &at) != SP_OK || sp_get(&s, 16, &id) != SP_OK ||
	    sp_get_u8(&s, &has) != SP_OK)
		return false;
	ev->at_us = (int64_t)at;
	ev->has_session = has == 1;
	memcpy(ev->session, id, 16);
	ev->event = get_text(&s);
	ev->actor = get_text(&s);
	ev->detail = get_text(&s);
	if (ev->detail != NULL && ev->detail[0] == '\0') {
		free(ev->detail);
		ev->detail = NULL;
	}
	return ev->event != NULL && ev->actor != NULL && s.n == 0;
}

/* Room that is written once is ours whoever fills the disk. */
static bool
take_room(int fd)
{
	static const uint8_t nothing[65536];
	off_t size = lseek(fd, 0, SEEK_END);

	for (; size >= 0 && size < (off_t)ROOM; size += (off_t)sizeof(nothing))
		if (pwrite(fd, nothing, sizeof(nothing), size) !=
		    (ssize_t)sizeof(nothing))
			return false;
	return size >= 0 && fdatasync(fd) == 0;
}

static void
replay_one(struct sp_store *s, struct sp_span body)
{
	struct sp_link_item *it;
	struct sp_event ev;

	if (decode(body, &ev)) {
		it = sp_audit_item(s, ev.event, ev.actor, ev.has_session ?
		    ev.session : NULL, ev.detail);
		it->ev[0].at_us = ev.at_us;	/* when it was, not when told */
		it->is_reserved = true;
		s->reserve->n++;
		sp_audit_put(s, it);
	}
	sp_event_fini(&ev);
}

static void
replay(struct sp_store *s)
{
	struct sp_reserve *v = s->reserve;
	static uint8_t all[ROOM];
	uint8_t check[8];
	uint32_t n;

	if (pread(v->fd, all, sizeof(all), 0) != (ssize_t)sizeof(all))
		return;
	while (v->used + HEAD < ROOM) {
		memcpy(&n, all + v->used, sizeof(n));
		if (n == 0 || n > ROOM - v->used - HEAD)
			break;
		check_of(check, all + v->used + HEAD, n);
		if (memcmp(check, all + v->used + 4, 8) != 0)
			break;
		replay_one(s, sp_span_of(all + v->used + HEAD, n));
		v->used += HEAD + n;
	}
	if (v->n > 0)
		sp_log(SP_WARN, "audit_reserve", NULL, "replayed=%zu", v->n);
}

void
sp_reserve_init(struct sp_store *s)
{
	struct sp_reserve *v = calloc(1, sizeof(*v));

	SP_ASSERT(v != NULL);
	v->fd = s->b->reserve_fd > 0 ? s->b->reserve_fd : -1;
	s->reserve = v;
	if (v->fd < 0)
		return;
	if (!take_room(v->fd)) {
		sp_log(SP_ERROR, "audit_reserve", NULL, "why=\"no room for it\" "
		    "errno=%d", errno);
		close(v->fd);
		v->fd = -1;
		return;
	}
	replay(s);
}

void
sp_reserve_fini(struct sp_store *s)
{
	if (s->reserve == NULL)
		return;
	if (s->reserve->fd >= 0)
		close(s->reserve->fd);
	free(s->reserve);
}

static bool
write_event(struct sp_reserve *v, const struct sp_event *ev)
{
	SP_BUF_AUTO b = {.max = 1 << 17};
	uint8_t head[HEAD], end[4] = {0};
	struct sp_span body;
	uint32_t n;

	if (encode(&b, ev) != SP_OK)
		return false;
	body = sp_buf_span(&b);
	n = (uint32_t)body.n;
	if (v->used + HEAD + n + sizeof(end) > ROOM)
		return false;
	memcpy(head, &n, sizeof(n));
	check_of(head + 4, body.p, body.n);
	/* The length comes last: half an event is none. */
	if (pwrite(v->fd, body.p, body.n, (off_t)(v->used + HEAD)) !=
	    (ssize_t)body.n ||
	    pwrite(v->fd, end, sizeof(end), (off_t)(v->used + HEAD + n)) != 4 ||
	    pwrite(v->fd, head, sizeof(head), (off_t)v->used) != HEAD)
		return false;
	v->used += HEAD + n;
	return true;
}

void
sp_reserve_keep(struct sp_store *s, struct sp_link_item *it)
{
	struct sp_reserve *v = s->reserve;

	if (v->fd < 0 || it->c != NULL || it->is_reserved)
		return;
	if (!write_event(v, &it->ev[0])) {
		if (!v->is_full)
			sp_log(SP_ERROR, "audit_reserve_full", NULL, "events=%zu "
			    "what=\"later ones are in memory and in this log alone\"",
			    v->n);
		v->is_full = true;
		return;
	}
	(void)fdatasync(v->fd);
	it->is_reserved = true;
	v->n++;
}

void
sp_reserve_done(struct sp_store *s, struct sp_link_item *it)
{
	struct sp_reserve *v = s->reserve;
	uint8_t end[4] = {0};

	if (!it->is_reserved || --v->n > 0)
		return;
	/* The chain has all of them. */
	if (pwrite(v->fd, end, sizeof(end), 0) == (ssize_t)sizeof(end))
		v->used = 0;
	v->is_full = false;
}

size_t
sp_reserve_waiting(const struct sp_store *s)
{
	return s->reserve->n;
}
