/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_TERM_INTERNAL_H
#define SP_RECORDER_TERM_INTERNAL_H

#include "recorder/term/term.h"

#define PARAMS_MAX 32
#define PARAM_MAX 65535u

struct pen {
	uint32_t fg, bg;
	uint8_t attr;
};

struct saved {
	unsigned x, y;
	struct pen pen;
	uint8_t charset[4], gl;
	bool is_origin, is_pending;
};

struct screen {
	struct sp_cell *cell;	/* rows * cols */
	uint16_t *line;		/* rows: where in cell each of them stands */
	bool *wrapped;		/* rows */
	struct saved saved;
};

/* Widths of characters that came lately. */
#define KNOWN 128
struct known {
	uint32_t cp;
	unsigned columns;
};

enum state {
	ST_GROUND,
	ST_ESC,
	ST_ESC_MORE,		/* after an intermediate byte */
	ST_CSI,
	ST_CSI_IGNORE,
	ST_STRING,		/* OSC, DCS, APC, PM, SOS: until ST, BEL, CAN */
	ST_STRING_ESC,
};

struct sp_term {
	unsigned cols, rows;
	struct screen main, alt, *now;
	unsigned x, y, top, bottom;	/* bottom: one past the region */
	struct pen pen;
	uint8_t charset[4], gl;		/* 'B' ASCII, '0' graphics */
	uint8_t once;			/* SS2, SS3: charset of one character */
	bool is_pending;		/* wrap before the next character */
	bool is_origin, is_insert, no_wrap, is_newline, is_hidden;
	uint8_t *tab;			/* cols */
	struct sp_cell *blank;		/* cols of them, in the default colour */
	uint32_t last;			/* for REP */
	enum state state;
	uint8_t lead, inter;		/* CSI: '?', '>', ..; intermediate */
	unsigned param[PARAMS_MAX];
	bool colon[PARAMS_MAX];		/* the separator before it was ':' */
	unsigned n_params;
	uint32_t cp;			/* UTF-8 in progress */
	unsigned cp_left, cp_least;
	struct known known[KNOWN];
	sp_term_line_fn *line;
	sp_term_wipe_fn *wipe;
	void *ctx;
};

/* screen.c */
struct sp_cell *sp_term_at(struct sp_term *t, unsigned x, unsigned y);
void sp_term_put(struct sp_term *t, uint32_t cp);
size_t sp_term_put_ascii(struct sp_term *t, const uint8_t *p, size_t n);
/* Columns of a character; 3: it would change how others are shown. */
unsigned sp_term_columns(uint32_t cp);
void sp_term_erase(struct sp_term *t, unsigned y, unsigned x0, unsigned x1);
void sp_term_scroll_up(struct sp_term *t, unsigned top, unsigned n);
void sp_term_scroll_down(struct sp_term *t, unsigned top, unsigned n);
void sp_term_index(struct sp_term *t);
void sp_term_reverse_index(struct sp_term *t);
void sp_term_goto(struct sp_term *t, unsigned x, unsigned y);
void sp_term_insert_cells(struct sp_term *t, unsigned n);
void sp_term_delete_cells(struct sp_term *t, unsigned n);
void sp_term_mend_row(struct sp_term *t, unsigned y);
void sp_term_save(struct sp_term *t);
void sp_term_restore(struct sp_term *t);
void sp_term_alternate(struct sp_term *t, bool on, bool clear);
void sp_term_align(struct sp_term *t);
void sp_term_say_wipe(struct sp_term *t);
/* control.c */
void sp_term_csi(struct sp_term *t, uint8_t final);
void sp_term_esc(struct sp_term *t, uint8_t final);
void sp_term_c0(struct sp_term *t, uint8_t c);
/* sgr.c */
void sp_term_sgr(struct sp_term *t);

#endif
