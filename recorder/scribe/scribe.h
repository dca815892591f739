/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_SCRIBE_SCRIBE_H
#define SP_SCRIBE_SCRIBE_H

#include "common/ipc.h"
#include "recorder/scribe/lines.h"
#include "recorder/sense/sense.h"

/*
 * One session, read along: packets of its recorder go in, packets for it come
 * out. No I/O but through the link's queue (common/ipc_messages.h, the messages
 * from scribe_begin on; doc/scribe.md).
 */
#define SP_SCRIBE_TERMS 8	/* terminals of one session that are read along */
#define SP_SCRIBE_FRAME_BYTES (512u << 10)	/* output between two keyframes */
#define SP_SCRIBE_FRAME_US INT64_C(30000000)
#define SP_SCRIBE_FRAME_WORTH 8	/* times its own size, of output */
#define SP_SCRIBE_SAY_BYTES (32u << 10)	/* said as soon as there is so much */
#define SP_SCRIBE_SAY_US INT64_C(5000000)

struct sp_scribe_term {
	uint32_t chan;		/* 0: free */
	struct sp_scribe *s;
	struct sp_lines *lines;	/* NULL: its state is still coming */
	struct sp_sense *sense;
	struct sp_buf state;	/* what has come of it */
	size_t state_bytes;
	unsigned cols, rows;
	bool is_unsure;
	uint64_t since_frame;	/* bytes of output */
	int64_t frame_us;	/* boot time of the last, or of the start */
	size_t frame_bytes;	/* the size of the last */
	uint64_t frame_total;	/* output of all terminals before it */
};

struct sp_scribe {
	uint8_t session[16];
	struct sp_scribe_term t[SP_SCRIBE_TERMS];
	uint64_t total;		/* bytes of output of all terminals */
	uint64_t until;		/* time of the last record that was read whole */
	uint64_t at_us;		/* of the one at hand */
	struct sp_buf said;	/* records that wait to be sent */
	int64_t said_us;	/* boot time of the first of them; 0: none */
	bool is_stopped, is_broken;
	bool has_closed;	/* which the recorder is told soon */
};

void sp_scribe_init(struct sp_scribe *s);
void sp_scribe_fini(struct sp_scribe *s);
/* A message of the recorder. Anything but SP_OK ends the process. */
SP_MUST enum sp_err sp_scribe_take(struct sp_scribe *s, struct sp_link *l,
    const struct sp_packet *p);
/* What is due at that boot time; *again_us: when to call again. */
SP_MUST enum sp_err sp_scribe_tick(struct sp_scribe *s, struct sp_link *l,
    int64_t now, int64_t *again_us);

#endif
