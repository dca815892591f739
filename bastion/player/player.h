/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BASTION_PLAYER_H
#define SP_BASTION_PLAYER_H

#include "bastion/player/proof.h"
#include "common/ipc.h"
#include "common/stream.h"
#include "recorder/read.h"

/*
 * One viewing: a file, a viewer's stream on which we are the target side
 * (doc/flows.md, 9), a link with the broker and one with the vault. What a
 * recording holds is hostile: it reaches the viewer only as text that passed
 * sp_vis or as cells of the screen model (recorder/term/).
 */
struct viewer {
	struct sp_stream s;
	uint32_t chan;
	uint64_t credit;	/* bytes that we may send */
	uint32_t owed;		/* bytes taken, not yet granted again */
	bool has_pty, is_dumb, is_raw, is_gone, is_resized;
	unsigned cols, rows;
	struct sp_buf keys;	/* what was typed and not yet taken */
};

/* Takes the descriptor, waits for OPEN, answers OPEN_OK. */
SP_MUST enum sp_err viewer_open(struct viewer *v, int fd);
void viewer_fini(struct viewer *v);
/* Takes what the viewer sent; waits up to ms for the first of it, and for room
 * to write when something waits. SP_ERR_EOF when the viewer is gone. */
SP_MUST enum sp_err viewer_poll(struct viewer *v, int ms);
/* Sends all of s on lane 1 or 2, within the credit, waiting as needed. */
SP_MUST enum sp_err viewer_write(struct viewer *v, uint8_t lane,
    struct sp_span s);
SP_MUST enum sp_err viewer_text(struct viewer *v, uint8_t lane,
    const char *text);
/* Nothing of what was written waits any more. */
bool viewer_is_idle(const struct viewer *v);
/* EXIT_STATUS, EOF, CLOSE, and what is left of the output. */
void viewer_end(struct viewer *v, uint32_t status);

struct player {
	int file;
	struct viewer view;
	struct sp_link broker, vault;
	struct sp_msg_play_start start;
	char name[65];
	struct sp_rec_report report;
	struct sp_rec_lane_keys keys;
	/* A large recording is shown while it is judged: report then says what its
	 * two ends do, until `judge` is through with it. */
	struct sp_rec_judge *judge;
	struct sp_rec_report judged;
	struct proof_result screens; /* the scribe's, as far as they were looked at */
};
/* Goes on with that; what was found is in report then, and judge NULL. */
void player_judge(struct player *p, uint64_t bytes);

/* The verdict, for people or as one JSON object. */
SP_MUST enum sp_err verdict_print(const struct sp_rec_report *r, bool json,
    struct sp_buf *out);
bool verdict_is_good(enum sp_rec_verdict v);

/* SP_ERR_EOF: the viewer went away. */
SP_MUST enum sp_err play_cast(struct player *p);
SP_MUST enum sp_err play_plain(struct player *p);
SP_MUST enum sp_err play_records(struct player *p);

/* A JSON string with its quotes. Bytes that are no UTF-8 become U+FFFD. */
SP_MUST enum sp_err json_string(struct sp_buf *out, struct sp_span s);
/* Bytes at the end of s that begin a character whose rest may still come. */
size_t json_unfinished(struct sp_span s);

/* A `file` record: a line for people, safe to show, empty if there is nothing to
 * say; and a member of an object of JSON, with the comma before it. */
void file_line(char *dst, size_t cap, struct sp_span record);
SP_MUST enum sp_err file_json(struct sp_buf *out, struct sp_span record);
/* What a record of the kinds 40 to 44 says, as a member of an object of JSON with
 * the comma before it; nothing of any other kind, nor of one that is broken. */
SP_MUST enum sp_err derived_json(struct sp_buf *out,
    const struct sp_rec_record *r);
/* A channel of sftp: its bytes are for no screen, its `file` records are. */
bool file_is_sftp(const struct sp_open *o);

/* `sallyport-player verify FILE --key HEX-OR-FILE [--json]`. */
int offline_main(int argc, char **argv);

#endif
