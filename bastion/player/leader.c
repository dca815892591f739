/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bastion/player/search.h"
#include "common/log.h"

#define RING 512u		/* recordings in hand */
#define JOBS_MAX 6u		/* of one worker, so that it never waits */
#define WORD_MS 30000
#define PROGRESS_US 200000
#define FOUND_TOLD 250u		/* sessions that the broker is told of */

/* With hits: what they must not show is asked for, and looked for once more. */
enum rec_state { REC_FREE, REC_KEYS, REC_READY, REC_AT_WORK, REC_HITS, REC_MASKS,
	REC_AGAIN, REC_DONE };
#define MASKS_ASKED 8u

struct rec {
	enum rec_state state;
	int fd;
	struct found f;
	size_t worker;		/* that has it open, while there are hits */
	uint8_t keys[SP_REC_LANES * 33];
	size_t n_keys;
};

struct leader {
	struct viewer view;
	struct sp_link broker, vault;
	struct sp_msg_search_start q;
	char words[513], name[65];
	struct sp_rec_header header;
	struct {
		struct sp_link l;
		unsigned jobs;
	} worker[SEARCH_WORKERS_MAX];
	size_t n_workers;
	struct rec *rec;	/* RING of them */
	uint32_t first, ready, next; /* printed next; to a worker; to come */
	uint32_t asked;		/* batches under way */
	unsigned masks_asked;
	bool is_all, is_over;
	uint32_t missing, read, unread, sealed, sessions, shown;
	uint64_t hits;
	int64_t begun_us, told_us;
	struct sp_buf out, found;
};

static struct rec *
rec_at(struct leader *s, uint32_t number)
{
	return &s->rec[number % RING];
}

/* ------------------------------------------------------------ what comes in */

static enum sp_err
take_one(struct leader *s, struct sp_span *list, int fd)
{
	struct rec *r = rec_at(s, s->next);
	uint64_t us = 0;

	if (s->next - s->first >= RING)
		return SP_ERR_PROTO;	/* more than was asked for */
	*r = (struct rec){.state = REC_KEYS, .fd = fd};
	s->next++;
	SP_TRY(sp_get_fixed(list, r->f.session, 16));
	SP_TRY(sp_get_u64(list, &us));
	r->f.started_us = (int64_t)(us & INT64_MAX);
	SP_TRY(sp_get_text(list, r->f.person, sizeof(r->f.person)));
	SP_TRY(sp_get_text(list, r->f.account, sizeof(r->f.account)));
	return sp_get_text(list, r->f.target, sizeof(r->f.target));
}

/* The boxes of this vault, of the lanes that are looked through. */
static enum sp_err
put_boxes(struct leader *s, struct rec *r, struct sp_buf *b)
{
	const struct sp_rec_header *h = &s->header;
	SP_BUF_AUTO boxes = {.max = SP_REC_LANES * (1 + SP_GROUP_SEALED_BYTES)};
	enum sp_err e = SP_ERR_NOTFOUND;
	uint8_t n = 0;

	for (size_t i = 0; i < h->n_recipients && e == SP_ERR_NOTFOUND; i++)
		if (memcmp(h->recipient[i], s->q.recording_key, 32) == 0)
			e = sp_rec_sealed_keys(h, i, search_needs(s->q.lanes),
			    &boxes, &n);
	if (e != SP_OK && e != SP_ERR_NOTFOUND)
		return e;
	SP_TRY(sp_buf_put(b, r->f.session, 16));
	SP_TRY(sp_buf_put_u8(b, n));
	return sp_buf_put(b, sp_buf_span(&boxes).p, boxes.len);
}

/* The header of a recording; whether it is the one that it should be. */
static bool
read_header(struct leader *s, const struct rec *r)
{
	static uint8_t in[SP_REC_HEADER_MAX];
	uint32_t len = 0;
	ssize_t n = pread(r->fd, in, 4096, 0);

	if (n < 16 || sp_rec_header_length(sp_span_of(in, 16), &len) != SP_OK ||
	    len > sizeof(in))
		return false;
	if ((size_t)n < len && pread(r->fd, in, len, 0) != (ssize_t)len)
		return false;
	return sp_rec_header_decode(sp_span_of(in, len), &s->header) == SP_OK &&
	    memcmp(s->header.session, r->f.session, 16) == 0;
}

static enum sp_err
on_batch(struct leader *s, struct sp_packet *k)
{
	SP_BUF_AUTO boxes = {.max = 61440};
	struct sp_msg_search_keys ask;
	struct sp_msg_search_batch m;
	enum sp_err e = sp_dec_search_batch(k->body, &m);
	uint32_t from = s->next;

	if (e != SP_OK || m.n > SP_SEARCH_BATCH || s->asked == 0) {
		sp_packet_close_fds(k);
		return SP_ERR_PROTO;
	}
	s->asked--;
	for (size_t i = 0; i < k->n_fds; i++) {
		if (e == SP_OK && i < m.n)
			e = take_one(s, &m.list, k->fds[i]);
		else
			close(k->fds[i]);
	}
	SP_TRY(e);
	for (uint32_t i = from; i != s->next; i++) {
		struct rec *r = rec_at(s, i);

		if (read_header(s, r)) {
			SP_TRY(put_boxes(s, r, &boxes));
			continue;
		}
		r->f.hits.state = SP_SEARCH_UNREAD;
		SP_TRY(sp_buf_put(&boxes, r->f.session, 16));
		SP_TRY(sp_buf_put_u8(&boxes, 0));
	}
	ask.boxes = sp_buf_span(&boxes);
	return boxes.len == 0 ? SP_OK :
	    sp_send_search_keys(&s->vault, from, &ask, NULL);
}

static enum sp_err
on_masked(struct leader *s, const struct sp_packet *k)
{
	struct sp_msg_search_masked m;
	struct sp_msg_search_masks ask;

	SP_TRY(sp_dec_search_masked(k->body, &m));
	if (m.err != SP_OK)
		return SP_ERR_DENIED;	/* then nothing of it is shown */
	memcpy(ask.session, m.session, 16);
	return sp_send_search_masks(&s->vault, 0, &ask, NULL);
}

static enum sp_err
on_broker(struct leader *s, struct sp_packet *k)
{
	struct sp_msg_search_all m;

	if (k->type == SP_MSG_search_batch)
		return on_batch(s, k);
	sp_packet_close_fds(k);
	if (k->type == SP_MSG_search_masked)
		return on_masked(s, k);
	if (k->type != SP_MSG_search_all)
		return SP_ERR_PROTO;
	SP_TRY(sp_dec_search_all(k->body, &m));
	s->is_all = true;
	s->asked = 0;
	s->missing = m.missing;
	return SP_OK;
}

/* Without masks what was found stays; with them the worker looks again. */
static enum sp_err
on_masks(struct leader *s, const struct sp_packet *k)
{
	struct sp_msg_search_again again = {0};
	struct sp_msg_search_masks_r m;
	struct rec *r = NULL;

	SP_TRY(sp_dec_search_masks_r(k->body, &m));
	for (uint32_t i = s->first; i != s->next && r == NULL; i++)
		if (rec_at(s, i)->state == REC_MASKS &&
		    memcmp(rec_at(s, i)->f.session, m.session, 16) == 0) {
			again.number = i;
			r = rec_at(s, i);
		}
	if (m.ok != 1 || r == NULL)
		return m.ok != 1 ? SP_ERR_DENIED : SP_ERR_PROTO;
	s->masks_asked--;
	again.masks = m.masks;
	r->state = m.masks.n == 0 ? REC_DONE : REC_AGAIN;
	if (r->state == REC_AGAIN)
		s->worker[r->worker].jobs++;
	return sp_send_search_again(&s->worker[r->worker].l, 0, &again, NULL);
}

/* The keys come in the order of the recordings that were asked about. */
static enum sp_err
on_vault(struct leader *s, struct sp_packet *k)
{
	struct sp_msg_search_keys_r m;
	const uint8_t *id, *keys;
	uint8_t n = 0;

	sp_packet_close_fds(k);
	if (k->type == SP_MSG_search_masks_r)
		return on_masks(s, k);
	if (k->type != SP_MSG_search_keys_r)
		return SP_ERR_PROTO;
	SP_TRY(sp_dec_search_keys_r(k->body, &m));
	if (m.ok != 1)
		return SP_ERR_DENIED;
	for (uint32_t i = (uint32_t)k->corr; m.keys.n > 0; i++) {
		struct rec *r = rec_at(s, i);

		SP_TRY(sp_get(&m.keys, 16, &id));
		SP_TRY(sp_get_u8(&m.keys, &n));
		if (n > SP_REC_LANES)
			return SP_ERR_PROTO;
		SP_TRY(sp_get(&m.keys, n * 33u, &keys));
		if (i - s->first >= s->next - s->first ||
		    r->state != REC_KEYS || memcmp(r->f.session, id, 16) != 0)
			return SP_ERR_PROTO;
		memcpy(r->keys, keys, n * 33u);
		r->n_keys = n * 33u;
		r->state = (r->f.hits.state & SP_SEARCH_UNREAD) != 0 ?
		    REC_DONE : REC_READY;
	}
	return SP_OK;
}

static enum sp_err
on_worker(struct leader *s, size_t w, struct sp_packet *k)
{
	struct sp_msg_search_hits m;
	struct rec *r;

	sp_packet_close_fds(k);
	if (k->type != SP_MSG_search_hits)
		return SP_ERR_PROTO;
	SP_TRY(sp_dec_search_hits(k->body, &m));
	r = rec_at(s, m.number);
	if (m.number - s->first >= s->next - s->first ||
	    (r->state != REC_AT_WORK && (r->state != REC_AGAIN ||
	    r->worker != w)) || s->worker[w].jobs == 0)
		return SP_ERR_PROTO;
	SP_TRY(hits_decode(m.hits, &r->f.hits));
	r->f.hits.count = m.count;
	r->f.hits.state = m.state;
	r->worker = w;
	r->state = r->state == REC_AT_WORK && m.count > 0 ? REC_HITS : REC_DONE;
	s->worker[w].jobs--;
	return SP_OK;
}

/* ------------------------------------------------------------ what goes on */

static enum sp_err
ask_more(struct leader *s)
{
	struct sp_msg_search_next m = {.got = s->next};

	while (!s->is_all && (s->next - s->first) +
	    (s->asked + 1) * SP_SEARCH_BATCH <= RING && s->asked < 8) {
		SP_TRY(sp_send_search_next(&s->broker, 0, &m, NULL));
		s->asked++;
	}
	return SP_OK;
}

static enum sp_err
hand_out(struct leader *s)
{
	while (s->ready != s->next) {
		struct rec *r = rec_at(s, s->ready);
		struct sp_msg_search_job m = {.number = s->ready};
		size_t w = 0;

		if (r->state == REC_KEYS)
			return SP_OK;
		if (r->state == REC_DONE) {
			s->ready++;
			continue;
		}
		for (size_t i = 1; i < s->n_workers; i++)
			if (s->worker[i].jobs < s->worker[w].jobs)
				w = i;
		if (s->worker[w].jobs >= JOBS_MAX)
			return SP_OK;
		m.keys = sp_span_of(r->keys, r->n_keys);
		SP_TRY(sp_send_search_job(&s->worker[w].l, 0, &m, &r->fd));
		explicit_bzero(r->keys, sizeof(r->keys));
		r->fd = -1;
		r->state = REC_AT_WORK;
		s->worker[w].jobs++;
		s->ready++;
	}
	return SP_OK;
}

/* In the order in which they will be printed. */
static enum sp_err
ask_masks(struct leader *s)
{
	for (uint32_t i = s->first; i != s->ready && s->masks_asked < MASKS_ASKED;
	    i++) {
		struct rec *r = rec_at(s, i);
		struct sp_msg_search_mask m;

		if (r->state != REC_HITS)
			continue;
		memcpy(m.session, r->f.session, 16);
		SP_TRY(sp_send_search_mask(&s->broker, 0, &m, NULL));
		r->state = REC_MASKS;
		s->masks_asked++;
	}
	return SP_OK;
}

static enum sp_err
print_one(struct leader *s, const struct rec *r)
{
	uint64_t room = s->q.limit - s->shown;
	bool json = (s->q.what & SP_SEARCH_JSON) != 0;

	s->read++;
	s->unread += (r->f.hits.state & SP_SEARCH_UNREAD) != 0;
	s->sealed += (r->f.hits.state & SP_SEARCH_SEALED) != 0;
	s->hits += r->f.hits.count;
	if (r->f.hits.count == 0)
		return SP_OK;
	if (s->sessions++ < FOUND_TOLD)
		SP_TRY(sp_buf_put(&s->found, r->f.session, 16));
	if (room == 0)
		return SP_OK;
	SP_TRY(found_put(&s->out, &r->f, json, s->shown == 0, room));
	s->shown += (uint32_t)(r->f.hits.n < room ? r->f.hits.n : room);
	return SP_OK;
}

static enum sp_err
progress(struct leader *s, bool is_end)
{
	char text[120];
	int64_t now = sp_boot_us();

	if (!s->view.has_pty || (s->q.what & SP_SEARCH_JSON) != 0)
		return SP_OK;
	if (!is_end && now - s->told_us < PROGRESS_US)
		return SP_OK;
	s->told_us = now;
	snprintf(text, sizeof(text), is_end ? "\r\033[K" :
	    "\r\033[K%u of %u recordings, %llu found", s->read, s->q.total,
	    (unsigned long long)s->hits);
	return viewer_text(&s->view, 2, text);
}

static enum sp_err
print(struct leader *s)
{
	while (s->first != s->next && rec_at(s, s->first)->state == REC_DONE) {
		struct rec *r = rec_at(s, s->first);

		SP_TRY(print_one(s, r));
		sp_close_fds(&r->fd, 1);
		r->state = REC_FREE;
		s->first++;
		if (s->ready - s->first > RING)
			s->ready = s->first;
	}
	if (s->out.len > 0) {
		SP_TRY(progress(s, true));
		SP_TRY(viewer_write(&s->view, 1, sp_buf_span(&s->out)));
		sp_buf_reset(&s->out);
	}
	s->is_over = s->shown >= s->q.limit ||
	    (s->is_all && s->first == s->next && s->asked == 0);
	return s->is_over ? SP_OK : progress(s, false);
}

/* ------------------------------------------------------------------ the loop */

static enum sp_err
drain(struct leader *s, struct sp_link *l, size_t w,
    enum sp_err (*on)(struct leader *, struct sp_packet *))
{
	struct sp_packet k;
	enum sp_err e;

	while ((e = sp_link_recv(l, &k)) == SP_OK)
		SP_TRY(on != NULL ? on(s, &k) : on_worker(s, w, &k));
	if (e != SP_ERR_AGAIN)
		return e;
	e = sp_link_wants_write(l) ? sp_link_flush(l) : SP_OK;
	return e == SP_ERR_AGAIN ? SP_OK : e;
}

static short
events(const struct sp_link *l)
{
	return (short)(POLLIN | (sp_link_wants_write(l) ? POLLOUT : 0));
}

static enum sp_err
turn(struct leader *s)
{
	struct pollfd pf[3 + SEARCH_WORKERS_MAX] = {
	    {.fd = s->view.s.fd, .events = POLLIN},
	    {.fd = s->broker.fd, .events = events(&s->broker)},
	    {.fd = s->vault.fd, .events = events(&s->vault)}};

	for (size_t i = 0; i < s->n_workers; i++)
		pf[3 + i] = (struct pollfd){.fd = s->worker[i].l.fd,
		    .events = events(&s->worker[i].l)};
	if (poll(pf, 3 + s->n_workers, 1000) < 0 && errno != EINTR)
		return SP_ERR_IO;
	SP_TRY(viewer_poll(&s->view, 0));
	if (memchr(sp_buf_span(&s->view.keys).p == NULL ? "" :
	    (const char *)sp_buf_span(&s->view.keys).p, 3, s->view.keys.len) != NULL)
		return SP_ERR_EOF;	/* ^C */
	SP_TRY(drain(s, &s->broker, 0, on_broker));
	SP_TRY(drain(s, &s->vault, 0, on_vault));
	for (size_t i = 0; i < s->n_workers; i++)
		SP_TRY(drain(s, &s->worker[i].l, i, NULL));
	SP_TRY(hand_out(s));
	SP_TRY(ask_masks(s));
	SP_TRY(print(s));
	return ask_more(s);
}

static enum sp_err
say_end(struct leader *s)
{
	bool json = (s->q.what & SP_SEARCH_JSON) != 0;
	char text[700];
	int n;

	SP_TRY(progress(s, true));
	if (json)
		return viewer_text(&s->view, 1, "]\n");
	n = snprintf(text, sizeof(text), "%s%llu found in %u of %u recordings%s, "
	    "%.1f s.\n", s->shown > 0 ? "\n" : "", (unsigned long long)s->hits,
	    s->sessions, s->read, s->shown >= s->q.limit ?
	    ", the newest; --limit shows more" : "",
	    (double)(sp_boot_us() - s->begun_us) / 1e6);
	if (s->unread > 0)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "%u could not be "
		    "read to the end: verify --all says why.\n", s->unread);
	if (s->sealed > 0)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "%u keep what was "
		    "asked for from this bastion: it is for people with keys of "
		    "their own.\n", s->sealed);
	if (s->missing > 0)
		snprintf(text + n, sizeof(text) - (size_t)n,
		    "%u have no file on this bastion.\n", s->missing);
	return viewer_text(&s->view, 1, text);
}

static enum sp_err
hear_start(struct leader *s)
{
	struct sp_packet k;

	SP_TRY(sp_link_wait(&s->broker, &k, WORD_MS));
	if (k.type != SP_MSG_search_start)
		return SP_ERR_PROTO;
	SP_TRY(sp_dec_search_start(k.body, &s->q));
	SP_TRY(sp_span_cstr(s->q.words, s->words, sizeof(s->words)));
	SP_TRY(sp_span_cstr(s->q.name, s->name, sizeof(s->name)));
	s->q.words = sp_span_str(s->words);
	s->q.name = sp_span_str(s->name);
	s->broker.state = SP_ST_READY;
	for (size_t i = 0; i < s->n_workers; i++)
		SP_TRY(sp_send_search_start(&s->worker[i].l, 0, &s->q, NULL));
	return SP_OK;
}

static uint32_t
search(struct leader *s)
{
	char why[256] = "the words are too long", text[300];
	struct match m;
	enum sp_err e = match_init(&m, s->q.words,
	    (s->q.what & SP_SEARCH_REGEX) != 0, why);

	if (e != SP_OK) {
		snprintf(text, sizeof(text), "search: %s\n", why);
		return viewer_text(&s->view, 2, text) == SP_OK ? 2 : 1;
	}
	match_fini(&m);
	s->begun_us = sp_boot_us();
	if ((s->q.what & SP_SEARCH_JSON) != 0)
		e = viewer_text(&s->view, 1, "[");
	if (e == SP_OK)
		e = ask_more(s);
	while (e == SP_OK && !s->is_over)
		e = turn(s);
	if (e == SP_OK)
		e = say_end(s);
	if (e == SP_OK)
		return 0;
	sp_log(SP_WARN, "search_failed", NULL, "error=\"%s\" link=\"%s\"",
	    sp_err_text(e), sp_vis_str(s->vault.fault));
	if (e == SP_ERR_EOF || viewer_text(&s->view, 2,
	    "the search ended early: try again\n") != SP_OK)
		return 1;
	return 75;
}

static void
tell_result(struct leader *s)
{
	struct sp_msg_search_result m = {.read = s->read, .unread = s->unread,
	    .sealed = s->sealed, .hits = s->hits, .sessions = s->sessions,
	    .found = sp_buf_span(&s->found)};

	if (sp_send_search_result(&s->broker, 0, &m, NULL) != SP_OK)
		sp_log(SP_WARN, "no_result", NULL, "why=link");
}

static void
fini(struct leader *s)
{
	for (uint32_t i = s->first; i != s->next; i++)
		sp_close_fds(&rec_at(s, i)->fd, 1);
	for (size_t i = 0; i < s->n_workers; i++)
		sp_link_fini(&s->worker[i].l);
	sp_link_fini(&s->broker);
	sp_link_fini(&s->vault);
	viewer_fini(&s->view);
	sp_buf_fini(&s->out);
	sp_buf_fini(&s->found);
	if (s->rec != NULL)
		explicit_bzero(s->rec, RING * sizeof(*s->rec));
	free(s->rec);
	free(s);
}

static enum sp_err
begin(struct leader *s, int broker, int vault, const int *workers, size_t n)
{
	enum sp_err e = sp_link_init(&s->broker, broker, SP_ROLE_PLY,
	    SP_ROLE_BRK, SP_ST_NEW);
	enum sp_err v = sp_link_init(&s->vault, vault, SP_ROLE_PLY, SP_ROLE_VLT,
	    SP_ST_READY);

	e = e == SP_OK ? v : e;
	for (size_t i = 0; i < n; i++) {
		v = sp_link_init(&s->worker[i].l, workers[i], SP_ROLE_PLY,
		    SP_ROLE_PLY, SP_ST_READY);
		e = e == SP_OK ? v : e;
	}
	s->n_workers = n;
	sp_buf_init(&s->out, 4u << 20);
	sp_buf_init(&s->found, FOUND_TOLD * 16);
	s->rec = calloc(RING, sizeof(*s->rec));
	for (size_t i = 0; s->rec != NULL && i < RING; i++)
		s->rec[i].fd = -1;
	return s->rec == NULL ? SP_ERR_NOMEM : e;
}

int
leader_main(int broker, int stream, int vault, const int *workers, size_t n)
{
	struct leader *s = calloc(1, sizeof(*s));
	enum sp_err e;

	if (s == NULL)
		return 1;
	s->broker.fd = s->vault.fd = s->view.s.fd = -1;
	e = begin(s, broker, vault, workers, n);
	if (e == SP_OK && (e = hear_start(s)) != SP_OK)
		sp_close_fds(&stream, 1);
	else if (e == SP_OK && (e = viewer_open(&s->view, stream)) == SP_OK) {
		viewer_end(&s->view, search(s));
		tell_result(s);
	}
	if (e != SP_OK)
		sp_log(SP_ERROR, "search_start", NULL, "error=\"%s\"",
		    sp_err_text(e));
	fini(s);
	return e == SP_OK ? 0 : 1;
}
