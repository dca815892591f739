/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_SENSE_H
#define SP_RECORDER_SENSE_H

#include <stdbool.h>

#include "common/buf.h"
#include "recorder/term/term.h"

/*
 * What a person did on one terminal, read off its recording: the lines that
 * were entered, as they stood on the screen when Enter was answered, and the
 * keys that the target never showed, which were secrets. doc/terminal.md,
 * "Commands and secrets".
 *
 * A reading, not enforcement: what stands on a screen is what the target chose
 * to show. It works on what is recorded already and never on its way. Memory
 * is fixed by the terminal's size; taking bytes allocates nothing.
 */
enum sp_sense_source { /* as in a `command` record, doc/recording-format.md */
	SP_SENSE_SCREEN = 1,
	SP_SENSE_MARK = 2,	/* the target's shell said so (OSC 633, 133) */
	SP_SENSE_EXEC = 3,	/* the request itself: not a reading */
};
const char *sp_sense_source_name(uint8_t source); /* "screen", ..., "?" */

#define SP_SENSE_LINE_MAX 4096	/* bytes of a command; longer ones are cut */
/* Below it a line was more likely told to a program than to a shell. */
#define SP_SENSE_SURE 60

struct sp_sense_command {
	uint64_t first_us, at_us; /* first key, Enter */
	enum sp_sense_source source;
	uint8_t confidence;	/* percent */
	uint16_t row;		/* of the screen, at Enter's answer */
	/* UTF-8, printable; '\n' between the lines of one that was pasted.
	 * Until the call returns. */
	struct sp_span text;
	bool is_cut;
};
struct sp_sense_secret {
	uint64_t first_us, to_us; /* first key; Enter, or the last key */
	unsigned n_keys;	/* characters, those that were rubbed out too */
	bool is_masked;		/* the target showed a star for each */
};
struct sp_sense_ops {
	void *ctx;
	void (*command)(void *ctx, const struct sp_sense_command *c);
	void (*secret)(void *ctx, const struct sp_sense_secret *s);
	/* OSC 633;D or 133;D: how the last command ended. May be NULL. */
	void (*ended)(void *ctx, uint64_t at_us, int status);
	/* As sp_term_new: lines that leave at the top. May be NULL. */
	void (*line)(void *ctx, const struct sp_cell *cells, size_t n,
	    bool is_wrapped);
};

struct sp_sense;

/* One terminal of that size. ops is copied. Commands and secrets are told when
 * they are certain, which may be later than what follows them. */
SP_MUST enum sp_err sp_sense_new(unsigned cols, unsigned rows,
    const struct sp_sense_ops *ops, struct sp_sense **s);
void sp_sense_free(struct sp_sense *s);
/* The screen as it is, until the next call. */
const struct sp_term *sp_sense_term(const struct sp_sense *s);
/* Goes on from a keyframe (sp_term_dump); what was typed before is forgotten. */
SP_MUST enum sp_err sp_sense_load(struct sp_sense *s, struct sp_span keyframe);
/* In the order of the recording; times in us, never falling. */
void sp_sense_in(struct sp_sense *s, uint64_t at_us, struct sp_span bytes);
void sp_sense_out(struct sp_sense *s, uint64_t at_us, struct sp_span bytes);
SP_MUST enum sp_err sp_sense_resize(struct sp_sense *s, unsigned cols,
    unsigned rows);
/* Nothing happened until now: tells what only waited for time to pass. */
void sp_sense_tick(struct sp_sense *s, uint64_t at_us);
/* Nothing follows: judges what is still open. */
void sp_sense_end(struct sp_sense *s, uint64_t at_us);

#endif
