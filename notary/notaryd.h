/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_NOTARY_NOTARYD_H
#define SP_NOTARY_NOTARYD_H

#include <poll.h>

#include "common/config.h"
#include "common/ipc.h"
#include "common/log.h"
#include "common/sandbox.h"
#include "common/tlog_leaf.h"
#include "notary/store.h"

/*
 * sallyport-notary: keeps the transparency log. One poll loop, one directory, no
 * network, no database, no key.
 *
 *   main.c     start, sandbox
 *   loop.c     the loop; the supervisor's link
 *   take.c     leaves of the broker: checked, made safe, acknowledged
 *   sign.c     heads, signed by the vault; checkpoints, kept and given out
 *   run.c      witnesses and time stamps: commands that the supervisor runs
 *   stamp.c    RFC 3161: what is asked, and whether the answer is about it
 *   store.c ...  the directory
 *
 * It believes nobody: a leaf about a recording counts by the signatures of the
 * recording's key and of the vault over that key; the vault's last head must be
 * in the tree that the disk has, or nothing more is taken.
 */
#define SP_NOTARY_WAITING_MAX 256u
#define SP_NOTARY_RUNS_MAX 9u		/* eight witnesses, one authority */
#define SP_NOTARY_HOLD_US 100000	/* what nobody waits for, in one commit */
#define SP_NOTARY_SIGN_US 1000000	/* from one checkpoint to the next */

enum sp_run_what { SP_RUN_WITNESS = 1, SP_RUN_STAMP = 2 };
struct sp_run {
	uint64_t id;			/* 0: free */
	enum sp_run_what what;
	uint16_t index;
	uint64_t size;			/* the checkpoint's */
	uint8_t digest[32], nonce[8];	/* of what is stamped */
	int in, out;			/* -1: not there yet, or closed */
	struct sp_buf to, from;
	int64_t due_us;
};

struct sp_notary {
	struct sp_link sup, brk, vlt;
	int dir;
	struct sp_config cfg;
	struct sp_nstore *store;
	enum sp_log_state state;
	char why[256];
	/* what the vault said */
	bool has_head, is_asking, is_signing;
	char origin[SP_NOTE_NAME_MAX + 1];
	struct sp_checkpoint head;	/* signed last */
	struct sp_checkpoint asked;	/* being signed */
	struct sp_note_key key;
	int64_t ask_us, sign_us, publish_us;	/* boot time; not before */
	uint64_t published;
	/* put and not safe yet */
	size_t n_waiting;
	struct {
		uint64_t corr, index;
	} waiting[SP_NOTARY_WAITING_MAX];
	struct {		/* the supervisor waits for a head over that leaf */
		bool is_asked;
		uint8_t session[16];
		uint64_t corr;	/* its question, and of the answer */
		uint64_t index;
	} ending;
	bool is_urgent;
	int64_t oldest_us;
	/* witnesses */
	size_t n_witnesses;
	struct sp_note_key witness[8];
	struct sp_run run[SP_NOTARY_RUNS_MAX];
	uint64_t last_run;
	bool stop, is_dead;		/* is_dead: its disk failed */
};

SP_MUST enum sp_err sp_notary_loop(struct sp_notary *n);
void sp_notary_say(struct sp_notary *n);	/* n_status */
void sp_notary_event(struct sp_notary *n, const char *what, const char *detail);
/* Nothing is taken or signed from here on; said once. */
void sp_notary_refuse(struct sp_notary *n, enum sp_log_state st, const char *why);

/* take.c: an error drops the broker's link, or, of commit, ends the process. */
SP_MUST enum sp_err sp_notary_take(struct sp_notary *n, struct sp_packet *p);
SP_MUST enum sp_err sp_notary_commit(struct sp_notary *n);
/* May that recording's file go? An error ends the process. */
SP_MUST enum sp_err sp_notary_ends(struct sp_notary *n, struct sp_packet *p);
SP_MUST enum sp_err sp_notary_end_signed(struct sp_notary *n);

/* sign.c: an error drops the vault's link. */
void sp_notary_ask(struct sp_notary *n, int64_t now);
SP_MUST enum sp_err sp_notary_vault(struct sp_notary *n, struct sp_packet *p);

/* run.c */
SP_MUST enum sp_err sp_notary_witnesses(struct sp_notary *n);
void sp_notary_publish(struct sp_notary *n, struct sp_span note);
void sp_run_begin(struct sp_notary *n, uint64_t id, int in, int out);
void sp_run_serve(struct sp_notary *n, struct sp_run *r, int64_t now);
void sp_run_end(struct sp_notary *n, struct sp_run *r, const char *fault);

/* stamp.c: RFC 3161. A request for the SHA-256 of a checkpoint's text; does the
 * answer grant it, for this digest and nonce? What the authority signed is
 * checked by whoever has its certificate. */
SP_MUST enum sp_err sp_stamp_request(const uint8_t digest[static 32],
    const uint8_t nonce[static 8], struct sp_buf *out);
SP_MUST enum sp_err sp_stamp_look(struct sp_span answer,
    const uint8_t digest[static 32], const uint8_t nonce[static 8]);

#endif
