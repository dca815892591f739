/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_SENSE_INTERNAL_H
#define SP_RECORDER_SENSE_INTERNAL_H

#include "recorder/sense/sense.h"

#define TYPED_MAX 1024
#define PROMPT_MAX 256
#define LINES_MAX 32		/* typed and not judged yet */
#define UNITS_MAX 48		/* pieces of a line that wait for an answer */
#define TEXT_MAX 512		/* of one answer */
#define OSC_MAX 8192
#define SCREEN_TEXT_MAX 32768
#define SECRET_KEYS 3		/* fewer are an answer, not a secret */
#define SLACK_US 2000
#define GRACE_US 1000000	/* after Enter, for an echo that is late */

/* What arrived at once: a key, or a paste's part of one line. */
struct unit {
	uint64_t at_us;
	uint16_t off, n;	/* in typed */
};

/* A line from its first key to its Enter, and until it is judged. */
struct line {
	uint64_t first_us, last_us, enter_us;
	bool is_entered;
	bool is_given_up;	/* ^C: nobody got it as a line */
	bool is_plain;		/* typed is what was typed: nothing was edited */
	bool is_full;		/* more was typed than is kept */
	bool is_pasted_lines;	/* newlines within a bracketed paste */
	bool is_behind;		/* another line had no answer when it began */
	bool is_masked;
	bool is_text;		/* seen, but without a prompt: it may come again */
	unsigned text_row;
	bool in_alternate;
	bool has_start;
	unsigned n_keys;	/* printable ones */
	unsigned n_solid;	/* of them, no blanks: a pager takes those */
	unsigned n_units, n_answered;
	unsigned n_after;	/* answers of any kind since Enter */
	size_t n_typed;
	uint8_t typed[TYPED_MAX];
	size_t n_open;		/* units without an answer, in order */
	struct unit open[UNITS_MAX];
	uint64_t row;		/* counted from the first line of the session */
	unsigned col;
	size_t n_prompt;
	uint8_t prompt[PROMPT_MAX]; /* what stood before the first key */
};

enum key_state { KEY_PLAIN, KEY_ESC, KEY_CSI, KEY_SS3 };
enum out_state { OUT_GROUND, OUT_ESC, OUT_CSI, OUT_OSC, OUT_STRING,
	OUT_STRING_ESC };

struct sp_sense {
	struct sp_sense_ops ops;
	struct sp_term *term;
	uint64_t scrolled;	/* lines that left at the top */
	uint64_t now_us;
	uint64_t rtt_us;	/* the shortest answer to a key; 0: none seen */
	size_t n;		/* lines; the last one may be without Enter */
	struct line line[LINES_MAX];
	enum key_state key;
	unsigned csi;		/* the number in a key's sequence */
	bool in_paste;
	/* Of what comes out. */
	enum out_state out;
	bool out_is_private;
	unsigned out_number;
	bool has_motion;	/* since the last answer was judged */
	bool was_return;	/* the last byte went back to column 0 ... */
	unsigned return_x;	/* ... from here */
	size_t n_text;
	uint8_t text[TEXT_MAX];
	size_t n_last;
	uint8_t last[PROMPT_MAX]; /* the prompt of the last command */
	struct sp_buf held;	/* a command that a mark may still replace */
	struct sp_sense_command command;
	bool is_held;
	struct sp_buf at, whole; /* room to read the screen into */
	struct {
		bool is_cut;
		struct sp_buf text;
		size_t n_nonce;	/* of the first command that had one */
		uint8_t nonce[64];
		bool has_start;	/* 133;B: a command begins here */
		uint64_t row;
		unsigned col;
		bool is_owed;	/* a line was entered, and not marked yet */
		uint64_t entered_us;
	} mark;
};

/* keys.c */
struct line *sp_sense_open_line(struct sp_sense *s); /* NULL: none is open */
/* Forgets the first n lines, and tells those of them that were secrets. */
void sp_sense_judge(struct sp_sense *s, size_t n);
void sp_sense_drop_first(struct sp_sense *s);
void sp_sense_judge_due(struct sp_sense *s);
bool sp_sense_is_silent(const struct line *l);
/* Enter was not answered yet for want of time, or never will be. */
bool sp_sense_is_early(const struct sp_sense *s, const struct line *l);
bool sp_sense_is_late(const struct sp_sense *s, const struct line *l);
/* answer.c: judges what came out since the last call; is_line: a newline is
 * next. */
void sp_sense_answer(struct sp_sense *s, bool is_line);
/* The answer to what was typed then came now. */
void sp_sense_measure(struct sp_sense *s, uint64_t typed_us);
/* Does the text end with what is shown instead of a key? How many bytes. */
size_t sp_sense_star(struct sp_span text);
/* screen.c */
void sp_sense_start(struct sp_sense *s, struct line *l);
/* Enter may have been answered: the cursor leaves row y, on which it stood in
 * column x, or that row is erased. */
enum leaving { LEFT_NEWLINE, LEFT_DOWN, LEFT_ELSEWHERE };
void sp_sense_left(struct sp_sense *s, unsigned x, unsigned y, enum leaving how);
/* A line that was seen, and no prompt before it. */
void sp_sense_tell_text(struct sp_sense *s, const struct line *l);
/* The cursor stands where a command goes on. */
bool sp_sense_goes_on(struct sp_sense *s);
/* The other screen is shown now. */
void sp_sense_switched(struct sp_sense *s);
void sp_sense_flush(struct sp_sense *s);
void sp_sense_hold(struct sp_sense *s, const struct sp_sense_command *c);
/* marks.c: a string of OSC is whole */
void sp_sense_mark_end(struct sp_sense *s);

/* No answer comes sooner; times of two processes are not that exact. */
static inline uint64_t
sp_sense_least_us(const struct sp_sense *s)
{
	uint64_t us = s->rtt_us - s->rtt_us / 4;

	return us > SLACK_US ? us - SLACK_US : 0;
}

static inline uint64_t
sp_sense_row(const struct sp_sense *s, unsigned y)
{
	return sp_term_is_alternate(s->term) ? y : s->scrolled + y;
}

#endif
