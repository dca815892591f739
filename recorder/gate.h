/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_GATE_H
#define SP_RECORDER_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ipc.h"
#include "common/stream.h"

/*
 * What a second person may do to a running session, doc/watching.md: freeze it,
 * so that nothing passes either way until it is resumed; and, where the rules
 * say `hold`, let go on or refuse what waits here: a line that the user has
 * completed, a command, a file that is opened.
 *
 * What waits is a frame that nobody has looked at yet. The user's stream is not
 * read meanwhile; a file that waits holds its own channel only.
 */
struct sp_relay;

enum sp_gate_state { SP_GATE_FREE = 0, SP_GATE_WAITS, SP_GATE_LET, SP_GATE_REFUSED };
struct sp_gate_slot {
	enum sp_gate_state state;
	uint8_t kind;		/* enum sp_held_kind */
	uint32_t chan;
	uint64_t number;
};

struct sp_gate {
	bool is_frozen;
	bool is_told;		/* the user knows that lines wait */
	char by[65];		/* who did the last thing */
	uint64_t last;		/* number of what was held last */
	struct sp_gate_slot stream, transfer;
	/* The frame of `stream`; nothing behind it was read. */
	uint8_t type, lane;
	struct sp_buf rest;
};

void sp_gate_init(struct sp_gate *g);
void sp_gate_fini(struct sp_gate *g);
/* rec_steer. SP_ERR_PROTO: no such deed. A number that does not wait (any more)
 * is passed over. */
SP_MUST enum sp_err sp_gate_steer(struct sp_relay *r,
    const struct sp_msg_rec_steer *m);
/* Does something wait that stops the user's stream? */
bool sp_gate_is_shut(const struct sp_relay *r);
/* Is it for a second person to say what comes next? The idle limit waits. */
bool sp_gate_keeps(const struct sp_relay *r);
/* A frame of the user before anybody has judged it. true: it was taken, up to
 * what waits now. */
bool sp_gate_takes(struct sp_relay *r, const struct sp_frame *f);
/* Lets what was released go its way; before the user's stream is read. */
void sp_gate_go(struct sp_relay *r);
/* May this file be opened? SP_GATE_WAITS: ask again later. path is untrusted. */
enum sp_gate_state sp_gate_transfer(struct sp_relay *r, uint32_t chan,
    uint32_t ops, struct sp_span path);
/* Nothing of this channel waits any more. */
void sp_gate_forget(struct sp_relay *r, uint32_t chan);

#endif
