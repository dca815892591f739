/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "bastion/player/ui.h"

#define JUMP_US 10000000u
#define LONG_JUMP_US 60000000u
#define IDLE_US 2000000		/* when none was asked for and `i` is pressed */
#define ESC_US 100000		/* an ESC that nothing follows is one */
#define GRACE_US 1500000u	/* `[` right after a command means the one before */
#define PAN_COLUMNS 8u

enum {
	K_UP = 0x100,
	K_DOWN,
	K_RIGHT,
	K_LEFT,
	K_HOME,
	K_END,
	K_PAGE_UP,
	K_PAGE_DOWN,
	K_SHIFT_RIGHT,
	K_SHIFT_LEFT,
	K_ESC,
	K_OTHER,
};

/* ------------------------------------------------------------- what they do */

static void
do_pause(struct show *s)
{
	s->is_paused = !s->is_paused;
}

static void
do_faster(struct show *s)
{
	s->speed = s->speed * 2 > SPEED_MAX ? SPEED_MAX : s->speed * 2;
}

static void
do_slower(struct show *s)
{
	s->speed = s->speed / 2 < SPEED_MIN ? SPEED_MIN : s->speed / 2;
}

static void
do_speed_1(struct show *s)
{
	s->speed = 100;
}

static void
do_idle(struct show *s)
{
	s->idle_us = s->idle_us != 0 ? 0 : s->p->start.idle_us != 0 ?
	    s->p->start.idle_us : IDLE_US;
	ui_say(s, s->idle_us != 0 ? "silence is cut to %.1f s" :
	    "silence is as long as it was", (double)s->idle_us / 1e6);
}

static void
forward(struct show *s, uint64_t us)
{
	ui_jump(s, s->at_us + us);
}

static void
back(struct show *s, uint64_t us)
{
	ui_jump(s, s->at_us < us ? 0 : s->at_us - us);
}

static void
do_right(struct show *s)
{
	forward(s, JUMP_US);
}

static void
do_left(struct show *s)
{
	back(s, JUMP_US);
}

static void
do_far_right(struct show *s)
{
	forward(s, LONG_JUMP_US);
}

static void
do_far_left(struct show *s)
{
	back(s, LONG_JUMP_US);
}

static void
do_home(struct show *s)
{
	ui_jump(s, 0);
}

static void
do_end(struct show *s)
{
	ui_jump(s, s->reel.end_us);
}

static void
to_mark(struct show *s, char kind, bool is_back, const char *none)
{
	const struct marks *k = &s->reel.index.marks;
	uint64_t grace = s->is_paused || s->at_us < GRACE_US ? 0 : GRACE_US;
	const struct mark *m = is_back ? marks_prev(k, s->at_us - grace, kind) :
	    marks_next(k, s->at_us, kind);
	char at[32];

	if (m == NULL) {
		ui_say(s, "no %s %s%s", is_back ? "earlier" : "later", none,
		    is_back || s->reel.index.is_done ? "" :
		    " so far: the recording is still being read");
		return;
	}
	if (m->chan != 0 && stage_n_channels(&s->reel.head.now) > 1)
		s->pin = m->chan;
	ui_jump(s, m->at_us);
	ui_clock(at, m->at_us);
	ui_say(s, "%s  %s", at, marks_text(k, m)[0] != '\0' ?
	    marks_text(k, m) : "Enter");
}

static void
do_next_command(struct show *s)
{
	to_mark(s, MARK_COMMAND, false, "command");
}

static void
do_prev_command(struct show *s)
{
	to_mark(s, MARK_COMMAND, true, "command");
}

static void
do_next_mark(struct show *s)
{
	to_mark(s, 0, false, "mark");
}

static void
do_prev_mark(struct show *s)
{
	to_mark(s, 0, true, "mark");
}

static void
prompt(struct show *s, enum mode m)
{
	s->mode = m;
	s->n_typed = 0;
	s->typed[0] = '\0';
}

static void
do_find(struct show *s)
{
	prompt(s, MODE_FIND);
}

static void
do_again(struct show *s)
{
	ui_find(s, false);
}

static void
do_again_back(struct show *s)
{
	ui_find(s, true);
}

static void
do_goto(struct show *s)
{
	prompt(s, MODE_TIME);
}

static void
do_step(struct show *s)
{
	s->is_paused = true;
	if (s->reel.head.has_next)
		ui_jump(s, s->reel.head.next.at_us);
}

static void
do_next_channel(struct show *s)
{
	const struct stage *now = &s->reel.head.now;
	uint32_t shown = s->pin != 0 ? s->pin : now->focus;
	size_t at = 0;

	while (at < STAGE_MAX - 1 && now->actor[at].chan != shown)
		at++;
	for (size_t k = 1; k <= STAGE_MAX; k++) {
		const struct actor *a = &now->actor[(at + k) % STAGE_MAX];

		if (a->chan == 0)
			continue;
		s->pin = a->chan;
		s->is_panned = false;
		ui_say(s, "channel %u: %s", a->chan, a->what);
		return;
	}
}

static void
do_channels(struct show *s)
{
	s->mode = MODE_CHANNELS;
	s->pick = 0;
}

static void
do_events(struct show *s)
{
	const struct marks *k = &s->reel.index.marks;

	s->mode = MODE_EVENTS;
	for (s->pick = 0; s->pick + 1 < k->n &&
	    k->m[s->pick + 1].at_us <= s->at_us; s->pick++)
		;
}

static void
do_bar(struct show *s)
{
	s->no_bar = !s->no_bar;
}

static void
pan(struct show *s, int dx, int dy)
{
	s->is_panned = true;
	s->vx = dx < 0 && s->vx < (unsigned)-dx ? 0 : s->vx + (unsigned)dx;
	s->vy = dy < 0 && s->vy < (unsigned)-dy ? 0 : s->vy + (unsigned)dy;
}

static void
do_up(struct show *s)
{
	pan(s, 0, -1);
}

static void
do_down(struct show *s)
{
	pan(s, 0, 1);
}

static void
do_page_up(struct show *s)
{
	pan(s, 0, -(int)(s->canvas.rows / 2));
}

static void
do_page_down(struct show *s)
{
	pan(s, 0, (int)(s->canvas.rows / 2));
}

static void
do_pan_left(struct show *s)
{
	pan(s, -(int)PAN_COLUMNS, 0);
}

static void
do_pan_right(struct show *s)
{
	pan(s, (int)PAN_COLUMNS, 0);
}

static void
do_follow(struct show *s)
{
	s->is_panned = false;
	s->pin = 0;
	ui_say(s, "follows the live channel and its cursor");
}

static void
do_redraw(struct show *s)
{
	s->canvas.is_known = false;
}

static void
do_help(struct show *s)
{
	s->mode = MODE_HELP;
}

static void
do_quit(struct show *s)
{
	s->quit = true;
}

static const struct key {
	int key;
	void (*run)(struct show *s);
	const char *name, *help; /* name NULL: as the one before */
} keys[] = {
    {' ', do_pause, "space", "pause, go on"},
    {K_RIGHT, do_right, "right left", "10 seconds on, back (with Shift a minute)"},
    {K_LEFT, do_left, NULL, NULL},
    {K_SHIFT_RIGHT, do_far_right, NULL, NULL},
    {K_SHIFT_LEFT, do_far_left, NULL, NULL},
    {'+', do_faster, "+ - x", "faster, slower, as it was"},
    {'=', do_faster, NULL, NULL},
    {'-', do_slower, NULL, NULL},
    {'_', do_slower, NULL, NULL},
    {'x', do_speed_1, NULL, NULL},
    {'i', do_idle, "i", "cut silences"},
    {'.', do_step, ".", "stop, and on to the next output"},
    {'/', do_find, "/ n N", "search the screens; next, previous"},
    {'n', do_again, NULL, NULL},
    {'N', do_again_back, NULL, NULL},
    {']', do_next_command, "] [", "next, previous command"},
    {'[', do_prev_command, NULL, NULL},
    {'}', do_next_mark, "} {", "next, previous mark of any kind"},
    {'{', do_prev_mark, NULL, NULL},
    {'m', do_events, "m", "list of what happened; Enter goes there"},
    {'g', do_goto, "g", "go to: 1:30, 1m30s, 50%, +10s"},
    {K_HOME, do_home, "Home End 0-9", "beginning, end, tenths"},
    {K_END, do_end, NULL, NULL},
    {'\t', do_next_channel, "Tab c", "next channel; list of them"},
    {'c', do_channels, NULL, NULL},
    {K_UP, do_up, "up down < >", "move over a larger screen (also PgUp, PgDn)"},
    {K_DOWN, do_down, NULL, NULL},
    {K_PAGE_UP, do_page_up, NULL, NULL},
    {K_PAGE_DOWN, do_page_down, NULL, NULL},
    {'<', do_pan_left, NULL, NULL},
    {'>', do_pan_right, NULL, NULL},
    {'f', do_follow, "f", "follow the live channel and its cursor"},
    {'b', do_bar, "b", "hide the bar, show it"},
    {0x0c, do_redraw, "^L", "draw again"},
    {'?', do_help, "?", "this page"},
    {'q', do_quit, "q", "leave"},
    {3, do_quit, NULL, NULL},
};

const char *
ui_help(size_t i, const char **what)
{
	for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++) {
		if (keys[k].name == NULL || i-- > 0)
			continue;
		*what = keys[k].help;
		return keys[k].name;
	}
	return NULL;
}

/* ------------------------------------------------------------------ modes */

static void
enter(struct show *s)
{
	enum mode m = s->mode;
	uint64_t at_us = 0;

	s->mode = MODE_PLAY;
	if (s->n_typed == 0)
		return;
	if (m == MODE_FIND)
		ui_find(s, false);
	else if (ui_parse_time(s->typed, s->at_us, s->reel.end_us, &at_us))
		ui_jump(s, at_us);
	else
		ui_say(s, "a time is 1:30, 1m30s, 90, 50%% or +10s");
}

/* A whole character goes at once. */
static void
rub_out(struct show *s)
{
	while (s->n_typed > 0 && ((uint8_t)s->typed[s->n_typed - 1] & 0xc0) == 0x80)
		s->n_typed--;
	if (s->n_typed > 0)
		s->n_typed--;
	s->typed[s->n_typed] = '\0';
}

static void
prompt_key(struct show *s, int k)
{
	if (k == '\r' || k == '\n') {
		enter(s);
	} else if (k == K_ESC || k == 3) {
		s->mode = MODE_PLAY;
	} else if (k == 0x7f || k == 8) {
		if (s->n_typed == 0)
			s->mode = MODE_PLAY;
		rub_out(s);
	} else if (k == 0x15) {
		s->n_typed = 0;
		s->typed[0] = '\0';
	} else if (k >= 0x20 && k < 0x100 && s->n_typed < TYPED_MAX) {
		s->typed[s->n_typed++] = (char)k;
		s->typed[s->n_typed] = '\0';
	}
}

static void
pick(struct show *s)
{
	const struct stage *now = &s->reel.head.now;
	const struct marks *k = &s->reel.index.marks;
	size_t at = s->pick;

	if (s->mode == MODE_EVENTS) {
		if (at < k->n) {
			ui_jump(s, k->m[at].at_us);
			s->pin = k->m[at].chan;
		}
		return;
	}
	for (size_t i = 0; i < STAGE_MAX; i++)
		if (now->actor[i].chan != 0 && at-- == 0) {
			s->pin = now->actor[i].chan;
			s->is_panned = false;
		}
}

static void
list_key(struct show *s, int k)
{
	size_t n = s->mode == MODE_EVENTS ? s->reel.index.marks.n :
	    stage_n_channels(&s->reel.head.now);
	size_t page = s->canvas.rows > 4 ? s->canvas.rows - 4 : 1;
	size_t step = k == K_PAGE_DOWN || k == K_PAGE_UP ? page : 1;

	if (k == K_DOWN || k == 'j' || k == '\t' || k == K_PAGE_DOWN)
		s->pick = s->pick + step < n ? s->pick + step : n > 0 ? n - 1 : 0;
	else if (k == K_UP || k == 'k' || k == K_PAGE_UP)
		s->pick = s->pick > step ? s->pick - step : 0;
	else if (k == K_HOME)
		s->pick = 0;
	else if (k == K_END)
		s->pick = n > 0 ? n - 1 : 0;
	else {
		if (k == '\r' || k == '\n' || k == ' ')
			pick(s);
		s->mode = MODE_PLAY;
	}
}

static void
play_key(struct show *s, int k)
{
	if (k >= '0' && k <= '9') {
		ui_jump(s, s->reel.end_us / 10 * (uint64_t)(k - '0'));
		return;
	}
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (keys[i].key == k)
			keys[i].run(s);
}

static void
one_key(struct show *s, int k)
{
	s->changed = true;
	s->message_until_us = 0;
	if (s->find.is_busy) {
		s->find.is_busy = false;
		ui_say(s, "the search was stopped");
		if (k == K_ESC || k == 3)
			return;
	}
	switch (s->mode) {
	case MODE_FIND:
	case MODE_TIME:
		prompt_key(s, k);
		return;
	case MODE_HELP:
		s->mode = MODE_PLAY;
		return;
	case MODE_CHANNELS:
	case MODE_EVENTS:
		list_key(s, k);
		return;
	case MODE_PLAY:
		play_key(s, k);
		return;
	}
}

/* ---------------------------------------------------------------- decoding */

static int
key_of(struct sp_span params, uint8_t final)
{
	bool is_shift = params.n >= 3 && params.p[params.n - 1] == '2';

	switch (final) {
	case 'A':
		return K_UP;
	case 'B':
		return K_DOWN;
	case 'C':
		return is_shift ? K_SHIFT_RIGHT : K_RIGHT;
	case 'D':
		return is_shift ? K_SHIFT_LEFT : K_LEFT;
	case 'H':
		return K_HOME;
	case 'F':
		return K_END;
	case '~':
		break;
	default:
		return K_OTHER;
	}
	if (params.n != 1)
		return K_OTHER;
	return params.p[0] == '1' || params.p[0] == '7' ? K_HOME :
	    params.p[0] == '4' || params.p[0] == '8' ? K_END :
	    params.p[0] == '5' ? K_PAGE_UP :
	    params.p[0] == '6' ? K_PAGE_DOWN : K_OTHER;
}

/* The key at the front and its bytes; 0 bytes: the rest has not come yet. */
static int
take(struct sp_span k, bool is_old, size_t *n)
{
	size_t i = 2;

	*n = 1;
	if (k.p[0] != 0x1b)
		return k.p[0];
	if (k.n == 1 || (k.p[1] != '[' && k.p[1] != 'O')) {
		*n = k.n > 1 || is_old;
		return K_ESC;
	}
	while (i < k.n && k.p[i] >= 0x20 && k.p[i] < 0x40)
		i++;
	if (i == k.n) {
		*n = is_old || k.n > 32 ? k.n : 0;
		return K_OTHER;
	}
	*n = i + 1;
	return key_of(sp_span_of(k.p + 2, i - 2), k.p[i]);
}

void
ui_keys(struct show *s)
{
	struct sp_buf *b = &s->p->view.keys;

	while (b->len > 0) {
		int64_t now = sp_boot_us();
		size_t n = 0;
		int k;

		if (s->key_us == 0)
			s->key_us = now;
		k = take(sp_buf_span(b), now - s->key_us > ESC_US, &n);
		if (n == 0)
			return;
		s->key_us = 0;
		sp_buf_consume(b, n);
		one_key(s, k);
	}
	s->key_us = 0;
}
