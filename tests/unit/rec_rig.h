/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_TESTS_REC_RIG_H
#define SP_TESTS_REC_RIG_H

#include "common/ipc.h"
#include "common/stream.h"
#include "tests/unit/rec_support.h"

/*
 * A real sallyport-recorder, executed, with the test as its supervisor, broker
 * and both legs.
 */
struct rig {
	pid_t parent, child;	/* the executed process, the session's child */
	struct sp_link sup, brk;
	struct sp_stream user, target;
	struct rec_vault v;
	uint8_t session[16];
	int file;
	uint64_t id;
	struct sp_msg_rec_closed closed;
	char reason[600];
	unsigned n_held;	/* rec_held with a number, so far */
	uint64_t held[2];	/* what waits now, by slot; 0: nothing */
	uint8_t held_kind;	/* of the newest, and its text */
	char held_text[200];
	unsigned n_opened;	/* OPENs that rig_pump saw at the target */
	uint64_t credit_user;	/* bytes granted to the user */
	char events[4096];	/* what=... lines of rec_event */
	struct sp_buf at_user, at_target; /* DATA that came out */
	bool user_end, target_end;
	uint8_t end_code;
	char end_text[600], notice[1100];
	/* Called when it wants a scribe; NULL: it gets none. */
	void (*on_want)(struct rig *g);
	unsigned wants;
};

struct rig_opt {
	uint32_t rights;
	const struct sp_rules *rules;	/* instead of rights, if there are any */
	uint8_t durability;
	uint64_t reserve_bytes;
	uint64_t fsize_limit;	/* RLIMIT_FSIZE of the recorder, 0: none */
	int file;		/* 0: one of its own */
	const char *config;	/* of sallyport.conf; NULL: a full disk ends it after 1 s */
};

/* Executes one of our parents and brings it to the state READY. */
void rig_boot(const char *program, uint32_t role, uint64_t fsize_limit,
    struct sp_link *sup, pid_t *pid);
extern const char *rig_config;	/* what rig_boot says in start_parent */
void rig_start(struct rig *g, const struct rig_opt *o);
/* The encoded rules of rec_open; rules NULL: those rights, all variables. */
void rec_rules(struct sp_buf *b, const struct sp_rules *rules, uint32_t rights);
/* spawn_recorder up to rec_ready. */
void rig_session(struct rig *g, const struct rig_opt *o);
void rig_spawn(struct rig *g);
void rig_stop(struct rig *g);
/* Reads and writes whatever there is for at most ms; returns when nothing came
 * for a while, or when `until` says so. */
void rig_pump(struct rig *g, bool (*until)(struct rig *), int ms);
void rig_send_user(struct rig *g, uint8_t type, uint32_t chan, struct sp_span s);
void rig_send_target(struct rig *g, uint8_t type, uint8_t lane, uint32_t chan,
    struct sp_span s);
/* OPEN of a shell with a pty, and the target's OPEN_OK. */
void rig_open(struct rig *g, uint32_t chan, uint8_t kind, const char *command);
bool rig_is_closed(struct rig *g);	/* rec_closed came */
/* Waits for rec_closed; the child's exit status is checked by rig_exited. */
void rig_wait_closed(struct rig *g);
int rig_wait_exit(struct rig *g);	/* status of the `exited` message */

#endif
