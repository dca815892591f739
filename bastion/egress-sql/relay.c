/* SPDX-License-Identifier: Apache-2.0 */
#include <poll.h>

#include "bastion/egress-sql/sqleg.h"

#define PAUSE_BYTES (256u << 10)	/* waiting towards the recorder: stop reading */
#define FOREVER INT64_MAX

/* To the user: no more than it has credit for. */
static enum sp_err
outwards(struct sp_sqleg *g, bool *moved)
{
	size_t n = g->far.len < g->out_credit ? g->far.len : g->out_credit;

	if (sp_stream_pending(&g->rec) >= PAUSE_BYTES)
		return SP_OK;
	if (n > 0) {
		SP_TRY(sp_user_put(g, sp_span_of(sp_buf_span(&g->far).p, n)));
		sp_buf_consume(&g->far, n);
		*moved = true;
	}
	return sp_far_fill(g);
}

/* The client hears why, if it is not in the middle of an answer. */
static enum sp_err
refused(struct sp_sqleg *g)
{
	SP_BUF_AUTO text = {.max = 300}, out = {.max = 600};

	SP_TRY(sp_buf_printf(&text, "Sallyport: %s", g->seen.why));
	SP_TRY(sp_sql_tell(g, "refused", g->seen.why, 0, 0));
	if (g->far.len == 0 && sp_my_error(&out, (uint8_t)(g->seen.last_seq + 1),
	    1227, "42000", sp_buf_span(&text)) == SP_OK &&
	    out.len <= g->out_credit)
		SP_TRY(sp_user_put(g, sp_buf_span(&out)));
	return SP_ERR_DENIED;
}

static enum sp_err
inwards(struct sp_sqleg *g, bool *moved)
{
	struct sp_span s = sp_buf_span(&g->near);
	size_t n;

	if (s.n == 0)
		return SP_OK;
	/* Nothing goes out that has not been looked at. */
	if (g->watch && !sp_my_watch(&g->seen, sp_span_of(s.p + g->n_watched,
	    s.n - g->n_watched)))
		return refused(g);
	g->n_watched = s.n;
	SP_TRY(sp_far_write_some(g, s, &n));
	g->n_watched -= n;
	sp_user_took(g, n);
	*moved = *moved || n > 0;
	return SP_OK;
}

static short
events(const struct sp_sqleg *g)
{
	short e = 0;

	if (g->far.len + 16384 <= SP_SQL_FAR_MAX && !g->far_over)
		e |= POLLIN;
	if (g->near.len > 0)	/* more than one write took */
		e |= POLLOUT;
	return e;
}

int
sp_sql_relay(struct sp_sqleg *g)
{
	enum sp_err e = SP_OK;

	while (!g->over && !g->user_closed) {
		bool moved = false;
		size_t before = g->far.len;

		if ((e = outwards(g, &moved)) != SP_OK ||
		    (e = inwards(g, &moved)) != SP_OK)
			break;
		moved = moved || g->far.len != before;
		if ((g->far_over && g->far.len == 0) ||
		    (g->user_eof && g->near.len == 0))
			break;
		if ((e = sp_sql_wait(g, moved && g->far.len > 0 &&
		    g->out_credit > 0 ? POLLOUT | POLLIN : events(g),
		    FOREVER)) != SP_OK)
			break;
	}
	sp_far_close(g);
	/* What the server said last is still owed. */
	while (!g->over && !g->user_closed && g->far.len > 0) {
		bool moved = false;

		if (outwards(g, &moved) != SP_OK ||
		    sp_sql_wait(g, 0, sp_boot_us() + SP_SQL_USER_WAIT_US) != SP_OK)
			break;
	}
	sp_user_close(g);
	return e == SP_ERR_PROTO ? 3 : 0;
}
