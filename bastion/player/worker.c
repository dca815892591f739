/* SPDX-License-Identifier: Apache-2.0 */
/* A worker of a search: recordings come, hits go. It has no other link. */
#include <string.h>

#include "bastion/player/search.h"
#include "common/log.h"

#define WAIT_MS 600000

struct worker {
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
one(struct worker *w, struct sp_packet *k)
{
	struct sp_msg_search_job m;
	struct sp_rec_lane_keys keys;
	enum sp_err e;

	SP_TRY(sp_dec_search_job(k->body, &m));
	SP_TRY(sp_rec_parse_keys(m.keys, &keys));
	e = seeker_look(w->s, k->fds[0], &keys, &w->hits);
	explicit_bzero(&keys, sizeof(keys));
	SP_TRY(e);
	return answer(w, m.number);
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
		e = k.type == SP_MSG_search_job && k.n_fds == 1 ? one(&w, &k) :
		    SP_ERR_PROTO;
		sp_packet_close_fds(&k);
		if (e == SP_OK && sp_link_wants_write(&w.l))
			e = sp_link_flush(&w.l);
		e = e == SP_ERR_AGAIN ? SP_OK : e;
	}
	if (e != SP_ERR_EOF)
		sp_log(SP_WARN, "search_worker", NULL, "error=\"%s\"",
		    sp_err_text(e));
	seeker_free(w.s);
	sp_link_fini(&w.l);
	return e == SP_ERR_EOF ? 0 : 1;
}
