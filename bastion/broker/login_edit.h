/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_LOGIN_EDIT_H
#define SP_BROKER_LOGIN_EDIT_H

#include "common/buf.h"

/*
 * One line typed on a terminal in raw mode: printable UTF-8 is echoed, back-
 * space and ^U erase, Enter ends. Control characters and escape sequences are
 * swallowed: nothing that is typed or pasted reaches the terminal unread.
 */
#define SP_EDIT_MAX 512
enum sp_edit_end { SP_EDIT_MORE, SP_EDIT_LINE, SP_EDIT_CANCEL };
struct sp_edit {
	char line[SP_EDIT_MAX + 1];
	size_t n;
	uint8_t part[4];	/* of a character not yet whole */
	size_t n_part;
	uint8_t esc;		/* inside an escape sequence */
	bool had_cr;
};
void sp_edit_reset(struct sp_edit *e);	/* the next line; keeps CR LF whole */
/* Takes one byte; appends what is to be echoed. CANCEL for ^C, and for ^D on
 * an empty line. */
enum sp_edit_end sp_edit_byte(struct sp_edit *e, uint8_t c, struct sp_buf *echo);

#endif
