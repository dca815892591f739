/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_EGRESS_ROTATE_H
#define SP_EGRESS_ROTATE_H

#include "bastion/egress/egress.h"

/*
 * A rotation at the target (doc/vault.md, "Rotation"): rotate.c is its loop,
 * rotate_prog.c knows the programs, their prompts, and what of the output must
 * not be told.
 */
#define ROT_SECRET_MAX 4096
#define ROT_LINE_MAX 256
#define ROT_AGAIN 0xff		/* it asks anew for what it was given */

struct rot_program {
	const char *name, *command;
	uint8_t kind;		/* enum sp_cred_kind of what it sets */
	bool has_pty;
	bool prompts;		/* else: its input at once, then EOF */
	bool needs_old;
};

struct rotation {
	/* from the vault */
	char account[65];
	uint8_t kind, old_tag[32], new_tag[32];
	uint8_t old[ROT_SECRET_MAX], new[ROT_SECRET_MAX];
	size_t n_old, n_new;
	/* the channel */
	const struct rot_program *prog;
	ssh_channel ch;
	uint32_t chan, credit;
	size_t n_out;
	uint8_t wanted;		/* WANTS was said, SECRET has not come */
	bool is_live, is_closed, user_closed;
	struct sp_buf held[2];	/* of stdout and stderr: what may be a secret's
				 * beginning */
	/* the last line of its terminal */
	char line[ROT_LINE_MAX];
	size_t n_line;
	bool gave_old, gave_again;
	unsigned gave_new;
};

const struct rot_program *rot_program(struct sp_span name);	/* or NULL */
/* What is typed when the user's side says so. */
SP_MUST enum sp_err rot_input(struct rotation *r, uint8_t which,
    struct sp_buf *out);
/* Each secret in it becomes stars, and at the end what may be the beginning of
 * one. Keys are public: of them nothing is hidden. */
void rot_mask(const struct rotation *r, struct sp_buf *b, bool at_end);
/* Bytes at its end that may be the beginning of a secret. */
size_t rot_held(const struct rotation *r, struct sp_span s);
/* What was said since: its last line may be a prompt. */
void rot_line(struct rotation *r, struct sp_span s);
/* enum sp_which that the last line asks for; ROT_AGAIN; 0: it asks nothing.
 * Notes that it was asked. held: what came, but was not told yet. */
uint8_t rot_prompt(struct rotation *r, struct sp_span held);

/* Takes the secrets of the vault, after the login. */
SP_MUST enum sp_err sp_rotate_receive(struct sp_egress *g);
int sp_rotate_relay(struct sp_egress *g);	/* until its end; the exit status */

#endif
