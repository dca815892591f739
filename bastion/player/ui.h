/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BASTION_PLAYER_UI_H
#define SP_BASTION_PLAYER_UI_H

#include "bastion/player/show.h"

/* What the files of the interactive replay share. */
#define SPEED_MIN 10
#define SPEED_MAX 6400
#define TYPED_MAX 200
#define MESSAGE_MAX 400

enum mode { MODE_PLAY, MODE_FIND, MODE_TIME, MODE_HELP, MODE_CHANNELS, MODE_EVENTS };

struct show {
	struct player *p;
	struct reel reel;
	struct find find;
	struct canvas canvas;
	uint64_t at_us;		/* where the clock stands in the recording */
	int64_t clock_us;	/* when it was last moved */
	int64_t drawn_us;
	int64_t key_us;		/* when a byte of a key came last */
	uint32_t speed;		/* percent */
	uint64_t idle_us;	/* longest silence; 0: as it was */
	bool is_paused, is_moving, changed, quit;
	uint32_t pin;		/* the channel that was chosen; 0: the live one */
	unsigned vx, vy;	/* the part of a larger screen that is shown */
	bool is_panned;		/* chosen; else it follows the cursor */
	bool no_bar;
	enum mode mode;
	char typed[TYPED_MAX + 1]; /* at a prompt */
	size_t n_typed;
	size_t pick;		/* in a list */
	char message[MESSAGE_MAX];
	int64_t message_until_us;
};

/* keys.c: takes what was typed. */
void ui_keys(struct show *s);
/* Lines of the help: a key and what it does; NULL at the end. */
const char *ui_help(size_t i, const char **what);

/* draw.c */
SP_MUST enum sp_err ui_draw(struct show *s, int64_t now);
void ui_say(struct show *s, const char *fmt, ...) SP_PRINTF(2, 3);
void ui_clock(char o[static 32], uint64_t us);
/* Rows that the recorded screen has. */
unsigned ui_rows(const struct show *s);

/* show.c */
void ui_jump(struct show *s, uint64_t at_us);
/* Begins the search for what was typed, or for the same again. */
void ui_find(struct show *s, bool is_back);

/* goto.c: "1m30s", "1:02:03", "90", "50%", each with + or - before it. */
bool ui_parse_time(const char *t, uint64_t now_us, uint64_t end_us,
    uint64_t *at_us);

#endif
