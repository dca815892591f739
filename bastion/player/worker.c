/* SPDX-License-Identifier: Apache-2.0 */
/* A worker of a search: recordings come, hits go. It has no other link. */
#include <stdlib.h>
#include <string.h>

#include "bastion/player/cover.h"
#include "bastion/player/search.h"
#include "common/log.h"

#define WAIT_MS 600000

/* Something was found: it may have to be looked for once more. */
struct kept {
	struct kept *next;
	uint32_t number;
	int fd;
	struct sp_rec_lane_keys keys;
};

struct worker {
	struct kept *kept;
	struct sp_link l;
	struct match match;
	struct seeker *s;
	struct hits hits;
};

static enum sp_err
begin(struct worker *w)
{
	struct sp_msg_search_start m;
	struct sp_packet k;

	SP_TRY(sp_link_wait(&w->l, &k, WAIT_MS));
	if (k.type != SP_MSG_search_start)
		return SP_ERR_PROTO;
	SP_TRY(sp_dec_search_start(k.body, &m));
	w->l.state = SP_ST_READY;
	SP_TRY(match_init(&w->match, m.words, (m.what & SP_SEARCH_REGEX) != 0,
	    NULL));
	return seeker_new(&w->match, m.lanes, &w->s);
}

static enum sp_err
answer(struct worker *w, uint32_t number)
{
	SP_BUF_AUTO b = {.max = 61440};
	struct sp_msg_search_hits m = {.number = number,
	    .state = (uint8_t)(SP_SEARCH_LAST | w->hits.state),
	    .count = w->hits.count};

	SP_TRY(hits_encode(&b, &w->hits));
	m.hits = sp_buf_span(&b);
	return sp_send_search_hits(&w->l, 0, &m, NULL);
}

static enum sp_err
keep(struct worker *w, uint32_t number, int *fd,
    const struct sp_rec_lane_keys *keys)
{
	struct kept *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return SP_ERR_NOMEM;
	*t = (struct kept){.next = w->kept, .number = number, .fd = *fd,
	    .keys = *keys};
	*fd = -1;
	w->kept = t;
	return SP_OK;
}

static void
let_go(struct kept **at)
{
	struct kept *t = *at;

	*at = t->next;
	sp_close_fds(&t->fd, 1);
	explicit_bzero(t, sizeof(*t));
	free(t);
}

static enum sp_err
one(struct worker *w, struct sp_packet *k)
{
	struct sp_msg_search_job m;
	struct sp_rec_lane_keys keys;
	enum sp_err e;

	SP_TRY(sp_dec_search_job(k->body, &m));
	SP_TRY(sp_rec_parse_keys(m.keys, &keys));
	e = seeker_look(w->s, k->fds[0], &keys, &w->hits);
	if (e == SP_OK && w->hits.count > 0)
		e = keep(w, m.number, &k->fds[0], &keys);
	explicit_bzero(&keys, sizeof(keys));
	SP_TRY(e);
	return answer(w, m.number);
}

/* Covered first, and looked for then: who searches for a secret does not find it. */
static enum sp_err
again(struct worker *w, const struct sp_packet *k)
{
	struct sp_msg_search_again m;
	struct kept **at = &w->kept;
	enum sp_err e;

	SP_TRY(sp_dec_search_again(k->body, &m));
	while (*at != NULL && (*at)->number != m.number)
		at = &(*at)->next;
	if (*at == NULL)
		return SP_ERR_PROTO;
	if (m.masks.n == 0) {
		let_go(at);
		return SP_OK;
	}
	e = cover_set(m.masks);
	if (e == SP_OK)
		e = cover_read((*at)->fd, &(*at)->keys);
	if (e == SP_OK)
		e = seeker_look(w->s, (*at)->fd, &(*at)->keys, &w->hits);
	cover_end();
	let_go(at);
	SP_TRY(e);
	return answer(w, m.number);
}

static enum sp_err
take(struct worker *w, struct sp_packet *k)
{
	if (k->type == SP_MSG_search_job && k->n_fds == 1)
		return one(w, k);
	return k->type == SP_MSG_search_again ? again(w, k) : SP_ERR_PROTO;
}

int
worker_main(int fd)
{
	struct worker w = {0};
	struct sp_packet k;
	enum sp_err e = sp_link_init(&w.l, fd, SP_ROLE_PLY, SP_ROLE_PLY,
	    SP_ST_NEW);

	if (e == SP_OK)
		e = begin(&w);
	while (e == SP_OK &&
	    (e = sp_link_wait(&w.l, &k, WAIT_MS)) == SP_OK) {
		e = take(&w, &k);
		sp_packet_close_fds(&k);
		if (e == SP_OK && sp_link_wants_write(&w.l))
			e = sp_link_flush(&w.l);
		e = e == SP_ERR_AGAIN ? SP_OK : e;
	}
	if (e != SP_ERR_EOF)
		sp_log(SP_WARN, "search_worker", NULL, "error=\"%s\"",
		    sp_err_text(e));
	while (w.kept != NULL)
		let_go(&w.kept);
	seeker_free(w.s);
	sp_link_fini(&w.l);
	return e == SP_ERR_EOF ? 0 : 1;
}
