/* SPDX-License-Identifier: Apache-2.0 */
/* The menu on a terminal, joined to the store, to requests and to sessions. */
#include "bastion/broker/menu.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/approval.h"
#include "bastion/broker/login.h"
#include "bastion/broker/verb_facts.h"
#include "bastion/broker/verb_int.h"
#include "policy/rules.h"

#define OUT_MAX (4u << 20)
#define SOON_MS 100		/* changes that come together are one look */
#define ESCAPE_MS 120		/* an ESC that stands alone so long is the key */
#define LOOK_S 30		/* whatever else: as often as this */
#define N_LOADS 4

enum { ROWS_TARGETS, ROWS_ACCOUNTS, ROWS_GRANTS, ROWS_REQUESTS };

struct run {
	struct run *next;
	struct sp_broker *b;
	struct sp_call *c;	/* NULL: it is over, only answers are awaited */
	unsigned refs;
	struct sp_menu ui;
	struct sp_keys keys;
	struct event *tick, *soon, *escape;
	struct sp_rows *rows[N_LOADS];
	unsigned loading;
	bool look_again;
	enum sp_err load_err;
	int64_t looked_us;	/* boot clock */
	char reason[SP_MENU_REASON_MAX + 1];
	void *wait;		/* for the request that was filed here */
};

static struct run *all_runs;

/* ------------------------------------------------------------------- life */

static void
drop_rows(struct run *m)
{
	for (size_t i = 0; i < N_LOADS; i++) {
		if (m->rows[i] != NULL)
			sp_rows_free(m->rows[i]);
		m->rows[i] = NULL;
	}
}

static void
release(struct run *m)
{
	struct event *all[] = {m->tick, m->soon, m->escape};

	if (--m->refs > 0)
		return;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i] != NULL)
			event_free(all[i]);
	drop_rows(m);
	sp_menu_fini(&m->ui);
	free(m);
}

/* The call goes its way; what is under way for us comes to nobody. */
static struct sp_call *
let_go(struct run *m)
{
	struct run **at = &all_runs;
	struct sp_call *c = m->c;

	while (*at != m)
		at = &(*at)->next;
	*at = m->next;
	if (m->wait != NULL)
		sp_request_unwait(m->b, m->wait);
	m->wait = NULL;
	event_del(m->tick);
	event_del(m->soon);
	event_del(m->escape);
	c->state = NULL;
	c->on_gone = NULL;
	c->on_key = NULL;
	c->on_window = NULL;
	m->c = NULL;
	release(m);
	return c;
}

static void
write_out(struct sp_call *c, struct sp_buf *out, enum sp_err e)
{
	if (e == SP_OK)
		sp_call_out(c, sp_buf_span(out));
	else
		sp_log(SP_WARN, "menu", NULL, "error=\"%s\"", sp_err_text(e));
}

static void
draw(struct run *m)
{
	SP_BUF_AUTO out = {.max = OUT_MAX};

	if (m->c == NULL)
		return;
	m->ui.now_us = sp_now_us();
	write_out(m->c, &out, sp_menu_draw(&m->ui, &out));
}

static void
quit(struct run *m)
{
	SP_BUF_AUTO out = {.max = 256};
	struct sp_call *c = let_go(m);

	write_out(c, &out, sp_menu_leave(&out));
	sp_call_end(c, SP_EXIT_OK);
}

static void
on_gone(struct sp_call *c)
{
	sp_call_end(let_go(c->state), SP_EXIT_REFUSED);
}

static void
say(struct run *m, const char *text)
{
	if (m->c == NULL)
		return;
	sp_menu_say(&m->ui, text);
	draw(m);
}

/* ------------------------------------------------------------------- items */

static int64_t
grant_ends(const struct run *m, const char *account)
{
	const struct sp_rows *g = m->rows[ROWS_GRANTS];
	int64_t best = 0, now = sp_now_us();

	for (size_t i = 0; i < sp_rows_n(g); i++) {
		const char *a = sp_rows_get(g, i, "account_id");
		int64_t ends = sp_rows_i64(g, i, "ends_us");

		if (a != NULL && strcmp(a, account) == 0 && ends > best && ends > now)
			best = ends;
	}
	return best;
}

static uint64_t
pending(const struct run *m, const char *account)
{
	const struct sp_rows *q = m->rows[ROWS_REQUESTS];

	for (size_t i = 0; i < sp_rows_n(q); i++) {
		const char *a = sp_rows_get(q, i, "account_id");

		if (a != NULL && strcmp(a, account) == 0 &&
		    sp_rows_i64(q, i, "expires_us") > sp_now_us())
			return (uint64_t)sp_rows_i64(q, i, "num");
	}
	return 0;
}

static void
copy(char *dst, size_t cap, const char *s)
{
	snprintf(dst, cap, "%s", s == NULL ? "" : s);
}

/* false: not to be reached by this person now */
static bool
fill_item(struct run *m, size_t t, size_t a, struct sp_menu_item *i)
{
	const struct sp_rows *targets = m->rows[ROWS_TARGETS];
	const struct sp_rows *accounts = m->rows[ROWS_ACCOUNTS];
	const char *id = sp_rows_get(accounts, a, "id");
	const struct sp_actor *who = &m->c->who;
	static struct sp_verdict v;
	struct sp_known k;

	*i = (struct sp_menu_item){.approvals = 0};
	copy(i->account, sizeof(i->account), sp_rows_get(accounts, a, "name"));
	copy(i->target, sizeof(i->target), sp_rows_get(targets, t, "name"));
	sp_known_set(&k, who->name, i->target, i->account,
	    sp_rows_get(targets, t, "tags"));
	sp_known_actor(&k, who);
	sp_known_when(&k, sp_now_us(), who->addr, who->mfa);
	sp_policy_decide(m->b->policy, &k.f, &v);
	if (!v.allow || (int)who->mfa < (int)v.mfa || id == NULL)
		return false;
	snprintf(i->name, sizeof(i->name), "%s@%s", i->account, i->target);
	copy(i->tags, sizeof(i->tags), sp_rows_get(targets, t, "tags"));
	copy(i->rule, sizeof(i->rule), v.rule);
	copy(i->approvers, sizeof(i->approvers), v.approvers);
	sp_rules_show(i->allows, sizeof(i->allows), sp_span_of(v.rules, v.n_rules));
	i->approvals = v.approvals;
	i->longest_us = v.longest_us > 0 ? v.longest_us : 8LL * 3600 * 1000000;
	i->ends_us = grant_ends(m, id);
	i->request = pending(m, id);
	i->state = v.approvals == 0 ? SP_MENU_ALLOWED : i->ends_us > 0 ?
	    SP_MENU_GRANTED : i->request > 0 ? SP_MENU_WAITING : SP_MENU_OWED;
	return true;
}

static void
set_items(struct run *m)
{
	const struct sp_rows *targets = m->rows[ROWS_TARGETS];
	const struct sp_rows *accounts = m->rows[ROWS_ACCOUNTS];
	struct sp_menu_item *items = calloc(sp_rows_n(accounts) + 1,
	    sizeof(*items));
	size_t n = 0;

	SP_ASSERT(items != NULL);
	for (size_t t = 0; t < sp_rows_n(targets); t++)
		for (size_t a = 0; a < sp_rows_n(accounts); a++) {
			const char *of = sp_rows_get(accounts, a, "target_id");

			if (of != NULL && n < sp_rows_n(accounts) && strcmp(of,
			    sp_rows_get(targets, t, "id")) == 0)
				n += fill_item(m, t, a, &items[n]);
		}
	sp_menu_set(&m->ui, items, n);
}

/* -------------------------------------------------------------------- look */

static void look(struct run *m);

static void
looked(struct run *m)
{
	if (m->c != NULL && m->load_err != SP_OK)
		say(m, "The bastion cannot read its database just now; this is how "
		    "it was.");
	else if (m->c != NULL)
		set_items(m);
	drop_rows(m);
	draw(m);
	if (m->c != NULL && m->look_again)
		sp_menus_changed(m->b);
}

struct load {
	struct run *m;
	size_t at;
};

static void
loaded(void *arg, enum sp_err e, struct sp_rows *rows)
{
	struct load *l = arg;
	struct run *m = l->m;

	if (e == SP_OK)
		m->rows[l->at] = sp_rows_ref(rows);
	else
		m->load_err = e;
	free(l);
	if (--m->loading == 0)
		looked(m);
	release(m);
}

static void
load(struct run *m, size_t at, enum sp_table t, const char *where,
    const char *const *p, size_t n)
{
	struct load *l = calloc(1, sizeof(*l));

	SP_ASSERT(l != NULL);
	*l = (struct load){.m = m, .at = at};
	m->refs++;
	sp_store_load(m->b->store, t, where, p, n, loaded, l);
}

static void
look(struct run *m)
{
	char id[SP_UUID_TEXT];
	const char *p[1] = {id};

	m->look_again = m->loading > 0;
	if (m->loading > 0)
		return;
	sp_uuid_text(id, m->c->who.person);
	m->loading = N_LOADS;
	m->load_err = SP_OK;
	m->looked_us = sp_boot_us();
	load(m, ROWS_TARGETS, SP_T_TARGETS, "WHERE enabled ORDER BY name", NULL, 0);
	load(m, ROWS_ACCOUNTS, SP_T_ACCOUNTS,
	    "WHERE disabled IS NOT TRUE ORDER BY name", NULL, 0);
	load(m, ROWS_GRANTS, SP_T_GRANTS, "WHERE person_id = $1 AND "
	    "state = 'active'", p, 1);
	load(m, ROWS_REQUESTS, SP_T_REQUESTS, "WHERE person_id = $1 AND "
	    "state = 'pending'", p, 1);
}

static void
on_soon(evutil_socket_t fd, short what, void *arg)
{
	struct run *m = arg;

	(void)fd;
	(void)what;
	if (m->c != NULL)
		look(m);
}

void
sp_menus_changed(struct sp_broker *b)
{
	struct timeval tv = {.tv_usec = SOON_MS * 1000};

	(void)b;
	for (struct run *m = all_runs; m != NULL; m = m->next)
		if (!event_pending(m->soon, EV_TIMEOUT, NULL))
			event_add(m->soon, &tv);
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct run *m = arg;
	bool is_over = sp_boot_us() - m->looked_us >= LOOK_S * INT64_C(1000000);

	(void)fd;
	(void)what;
	if (m->c == NULL)
		return;
	for (size_t i = 0; i < m->ui.n; i++)
		is_over = is_over || (m->ui.items[i].state == SP_MENU_GRANTED &&
		    m->ui.items[i].ends_us <= sp_now_us());
	if (is_over && m->loading == 0)
		look(m);
	draw(m);
}

/* ---------------------------------------------------------------- requests */

static void
told(void *arg, uint64_t number, const char *state, const char *by,
    const char *comment)
{
	struct run *m = arg;
	char text[600];

	m->wait = NULL;
	if (m->c == NULL)
		return;
	snprintf(text, sizeof(text), "Request %llu was %s%s%s%s%s%s",
	    (unsigned long long)number, strcmp(state, "expired") == 0 ?
	    "not decided in time" : state, by[0] == '\0' ? "" : " by ", by,
	    comment[0] == '\0' ? "" : ": ", comment,
	    strcmp(state, "approved") == 0 ? ". Enter opens it." : ".");
	say(m, text);
	look(m);
}

static void
filed(void *arg, enum sp_err e, uint64_t number, const char *text)
{
	struct run *m = arg;

	if (m->c != NULL) {
		m->ui.mode = SP_MENU_LIST;
		m->ui.reason[0] = '\0';
		if (m->wait != NULL)
			sp_request_unwait(m->b, m->wait);
		m->wait = e != SP_OK ? NULL :
		    sp_request_wait(m->b, number, told, m);
		say(m, text);
		look(m);
	}
	release(m);
}

static void
judged(void *arg, enum sp_err e, const struct sp_ask *ask,
    const struct sp_judgement *j)
{
	struct run *m = arg;
	struct sp_wish wish = {.reason = m->reason};

	if (m->c != NULL && e == SP_OK) {
		m->refs++;
		sp_request_file(m->b, &m->c->who, ask, j, &wish, filed, m);
	} else if (m->c != NULL) {
		m->ui.mode = SP_MENU_LIST;
		say(m, j->reasons);
	}
	release(m);
}

static void
file(struct run *m, const struct sp_menu_item *i)
{
	copy(m->reason, sizeof(m->reason), m->ui.reason);
	m->refs++;
	sp_judge(m->b, &m->c->who, i->account, i->target, judged, m);
}

/* ---------------------------------------------------------------- sessions */

/* The answer to "may it be opened": the channel is handed over, or stays. */
static bool
going(void *arg, bool ok, const char *text)
{
	SP_BUF_AUTO out = {.max = 1024};
	struct run *m = arg;
	bool is_ours = m->c != NULL;
	enum sp_err e;

	if (is_ours && !ok) {
		m->ui.mode = SP_MENU_LIST;
		say(m, text);
		look(m);
	} else if (is_ours) {
		struct sp_call *c = let_go(m);

		e = sp_menu_leave(&out);
		if (e == SP_OK)
			e = sp_buf_printf(&out, "%s\r\n", text);
		write_out(c, &out, e);
		sp_call_handover(c);
	}
	release(m);
	return is_ours && ok;
}

static void
open_it(struct run *m, const struct sp_menu_item *i)
{
	m->ui.mode = SP_MENU_BUSY;
	draw(m);
	m->refs++;
	sp_login_go(m->b, m->c->who.conn, m->c->chan, i->account, i->target, going,
	    m);
}

/* -------------------------------------------------------------------- keys */

/* false: the menu is over */
static bool
act(struct run *m, struct sp_key k)
{
	const struct sp_menu_item *i;

	switch (sp_menu_key(&m->ui, &k)) {
	case SP_MENU_QUIT:
		quit(m);
		return false;
	case SP_MENU_OPEN:
		if ((i = sp_menu_chosen(&m->ui)) != NULL)
			open_it(m, i);
		break;
	case SP_MENU_FILE:
		if ((i = sp_menu_chosen(&m->ui)) != NULL)
			file(m, i);
		break;
	case SP_MENU_NOTHING:
		break;
	}
	return m->c != NULL;
}

static void
on_escape(evutil_socket_t fd, short what, void *arg)
{
	struct run *m = arg;

	(void)fd;
	(void)what;
	if (m->c != NULL && sp_keys_is_escape(&m->keys) &&
	    act(m, sp_keys_escape(&m->keys)))
		draw(m);
}

static void
on_key(struct sp_call *c, struct sp_span bytes)
{
	struct timeval tv = {.tv_usec = ESCAPE_MS * 1000};
	struct run *m = c->state;
	bool go_on = true;

	m->refs++;
	for (size_t i = 0; i < bytes.n && go_on; i++) {
		struct sp_key k = sp_keys_byte(&m->keys, bytes.p[i]);

		if (k.kind != SP_KEY_NONE)
			go_on = act(m, k);
	}
	if (go_on && sp_keys_is_escape(&m->keys))
		event_add(m->escape, &tv);
	else if (go_on)
		event_del(m->escape);
	draw(m);
	release(m);
}

static void
on_window(struct sp_call *c, uint32_t cols, uint32_t rows)
{
	struct run *m = c->state;

	sp_menu_resize(&m->ui, cols, rows);
	draw(m);
}

void
sp_menu_run(struct sp_call *c)
{
	SP_BUF_AUTO out = {.max = 256};
	struct run *m = calloc(1, sizeof(*m));
	struct timeval second = {.tv_sec = 1};

	SP_ASSERT(m != NULL);
	m->b = c->b;
	m->c = c;
	m->refs = 1;
	sp_menu_init(&m->ui, c->cols, c->lines, c->style.colour);
	snprintf(m->ui.title, sizeof(m->ui.title), "%.40s at %.64s", c->who.name,
	    c->b->node);
	m->tick = event_new(m->b->ev, -1, EV_PERSIST, on_tick, m);
	m->soon = event_new(m->b->ev, -1, 0, on_soon, m);
	m->escape = event_new(m->b->ev, -1, 0, on_escape, m);
	if (m->tick == NULL || m->soon == NULL || m->escape == NULL ||
	    event_add(m->tick, &second) != 0) {
		release(m);
		sp_menu_lines(c);
		return;
	}
	m->next = all_runs;
	all_runs = m;
	c->state = m;
	c->on_gone = on_gone;
	c->on_key = on_key;
	c->on_window = on_window;
	write_out(c, &out, sp_menu_enter(&out));
	draw(m);
	look(m);
}
