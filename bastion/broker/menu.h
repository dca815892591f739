/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_MENU_H
#define SP_BROKER_MENU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/text.h"

/*
 * The menu of `ssh bastion`: what one may reach, filtered as one types. Here
 * without any input or output: keys and items go in, bytes for a terminal come
 * out. menu.c joins it to the store, to requests and to sessions.
 */

/* -------------------------------------------------------------- menu_keys.c */
enum sp_key_kind {
	SP_KEY_NONE,
	SP_KEY_CHAR,	/* text: one printable character, UTF-8 */
	SP_KEY_CTRL,	/* text[0]: its letter, 'A' to 'Z' */
	SP_KEY_ENTER,
	SP_KEY_BACKSPACE,
	SP_KEY_ESCAPE,
	SP_KEY_UP,
	SP_KEY_DOWN,
	SP_KEY_PAGE_UP,
	SP_KEY_PAGE_DOWN,
	SP_KEY_HOME,
	SP_KEY_END,
};
struct sp_key {
	enum sp_key_kind kind;
	char text[5];
};
struct sp_keys {
	uint8_t state, number;
	uint8_t part[4];	/* of a character not yet whole */
	size_t n_part;
	bool had_cr;
};
/* Takes one byte; SP_KEY_NONE while something is not whole, and for what means
 * nothing here. Never keeps more than one key. */
struct sp_key sp_keys_byte(struct sp_keys *k, uint8_t c);
/* Is an ESC waiting that may be the key itself? */
bool sp_keys_is_escape(const struct sp_keys *k);
struct sp_key sp_keys_escape(struct sp_keys *k);	/* it was */

/* ---------------------------------------------------------------- menu_ui.c */
enum sp_menu_state {
	SP_MENU_ALLOWED,	/* no approval is owed */
	SP_MENU_GRANTED,
	SP_MENU_WAITING,	/* a request is pending */
	SP_MENU_OWED,
};
struct sp_menu_item {
	char account[SP_NAME_MAX + 1], target[SP_NAME_MAX + 1];
	char name[2 * SP_NAME_MAX + 2];		/* account@target */
	char tags[128], approvers[64], rule[64], allows[200];
	enum sp_menu_state state;
	unsigned approvals;
	uint64_t request;	/* its number while waiting */
	int64_t ends_us;	/* of the grant */
	int64_t longest_us;
};

enum sp_menu_mode { SP_MENU_LIST, SP_MENU_REASON, SP_MENU_BUSY };
/* What a key asks of the menu's owner. */
enum sp_menu_act { SP_MENU_NOTHING, SP_MENU_OPEN, SP_MENU_FILE, SP_MENU_QUIT };

#define SP_MENU_FILTER_MAX 64
#define SP_MENU_REASON_MAX 500
#define SP_MENU_COLS_MAX 500
#define SP_MENU_ROWS_MAX 250
#define SP_MENU_LINE_MAX 4096	/* bytes of a line with its attributes */

struct sp_menu {
	unsigned cols, rows;
	bool colour;
	char title[160];
	int64_t now_us;
	enum sp_menu_mode mode;
	struct sp_menu_item *items;
	size_t n;
	size_t *match, n_match;	/* items that the filter leaves, in order */
	size_t at, top;		/* in match: chosen, first shown */
	char filter[SP_MENU_FILTER_MAX + 1];
	char reason[SP_MENU_REASON_MAX + 1];
	char message[600];	/* "" once a key is pressed */
	bool is_loaded;		/* items came at least once */
	/* what stands on the terminal */
	char **shown;
	unsigned shown_cols, shown_rows, cursor_x, cursor_y;
};

void sp_menu_init(struct sp_menu *m, unsigned cols, unsigned rows, bool colour);
void sp_menu_fini(struct sp_menu *m);
void sp_menu_resize(struct sp_menu *m, unsigned cols, unsigned rows);
/* Takes the items (from malloc); the chosen one stays chosen. */
void sp_menu_set(struct sp_menu *m, struct sp_menu_item *items, size_t n);
const struct sp_menu_item *sp_menu_chosen(const struct sp_menu *m); /* or NULL */
enum sp_menu_act sp_menu_key(struct sp_menu *m, const struct sp_key *k);
void sp_menu_say(struct sp_menu *m, const char *text);

/* -------------------------------------------------------------- menu_draw.c */
/* Large enough for a menu at all. */
#define SP_MENU_COLS_MIN 30
#define SP_MENU_ROWS_MIN 6
/* Lines of items that fit. */
size_t sp_menu_page(const struct sp_menu *m);
/* What changes the terminal from what it shows to what it should show. */
SP_MUST enum sp_err sp_menu_draw(struct sp_menu *m, struct sp_buf *out);
/* Draws everything anew the next time. */
void sp_menu_forget(struct sp_menu *m);
SP_MUST enum sp_err sp_menu_enter(struct sp_buf *out);	/* before the first */
SP_MUST enum sp_err sp_menu_leave(struct sp_buf *out);	/* after the last */

#endif
