/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_SESSION_INT_H
#define SP_BROKER_SESSION_INT_H

#include "bastion/broker/approval_int.h"
#include "bastion/broker/approval_way.h"
#include "bastion/broker/session.h"
#include "bastion/broker/vault.h"

#define SESS_TICK_MS 250

enum session_state {
	SESS_SERIAL,	/* a number for its certificate; its secret's row */
	SESS_SPAWN,	/* a recorder is asked for */
	SESS_REC_OPEN,	/* it writes its header */
	SESS_CERT,	/* the vault signs the recording's key */
	SESS_REC_READY,	/* it writes OPEN to disk */
	SESS_WRITE,	/* the row and the audit event */
	SESS_DIAL,
	SESS_JUDGE,	/* once more, right before the lease */
	SESS_LEASE,
	SESS_LOGIN,	/* at the target */
	SESS_LIVE,
	SESS_ENDING,	/* its recorder was told */
	SESS_KILLED,	/* its processes are being killed */
	SESS_RECOVER,	/* its file is being sealed by another recorder */
	SESS_SIGN,	/* the vault countersigns the end */
	SESS_CLOSE,	/* the row and the audit event of the end */
	SESS_LEAVE,	/* its processes may still be leaving */
	SESS_OVER,
	SESS_N_STATES_,
};

/*
 * A login on the way to the target, with a process, a lease and pins of its own.
 * The last leg is the session's own; those before are hops. Legs come up one
 * after the other; when one fails and an address is left to try, all begin anew.
 */
struct sess_leg {
	struct sp_session *s;
	size_t i;
	uint8_t id[16];		/* the session's, or the hop's */
	uint8_t row[16];	/* of its lease; stays when legs begin anew */
	struct sp_ask *ask;	/* the session's, or the leg's own */
	size_t at;		/* the address that is tried */
	char local_addr[65];	/* ours of that connection; "" over a hop */
	struct sp_peer *egr;
	bool is_gone;		/* has no process */
	bool is_told;		/* to log in */
	/* the credential */
	uint64_t serial, secret_ver;
	uint8_t secret_owner[16];
	struct sp_buf secret, host_keys;
	struct sp_buf rule, challenge, approvals;	/* of its release */
	bool has_lease;
};

/* A session of a rotation: what it logs in with, and, where a program sets a
 * secret, the body of v_rotate_lease (its session is filled in). */
struct sess_rotation {
	uint8_t account[16];	/* whose rotation it is */
	bool has_secret;
	uint8_t id[16], owner[16];
	uint64_t version;
	struct sp_buf sealed, wish;
};

struct recovery;
struct sp_session {
	struct sp_session *next;
	struct sp_broker *b;
	uint8_t id[16];
	enum session_state state;
	unsigned refs;
	struct event *deadline;
	struct sp_session_ops ops;
	void *arg;
	bool is_owned;		/* the owner still wants callbacks */
	struct sp_actor who;
	struct sp_ask ask;
	struct sp_judgement j;
	char policy_hash[65];
	/* time */
	int64_t started_us, ends_us, ends_boot_us;
	bool warned_5, warned_1;
	int64_t hold_boot_us, renew_boot_us;	/* exclusive; 0: it is not */
	bool is_held;		/* by somebody else */
	/* processes */
	struct sp_peer *rec;
	int stream;		/* of the ingress side, until it is handed out */
	bool rec_is_gone, has_closed;
	bool has_point, is_logged;	/* its OPEN: sent; safe in the log */
	bool waits_log;		/* all else is ready */
	uint8_t log_tries;
	unsigned n_events;
	bool is_frozen;
	struct sess_pulse {
		uint32_t number;	/* of the last ping */
		bool is_asked, is_still;	/* unanswered; the user was told */
		int64_t rest_ms, still_ms;	/* since the last; without an answer */
	} pulse;
	struct sp_held *held;	/* SP_HELD_SLOTS of them, or NULL */
	/* the way to the target */
	struct sess_leg *legs;
	size_t n_legs, leg;	/* the one that comes up now */
	bool is_retrying;	/* legs of before are leaving */
	bool has_spare;		/* the supervisor keeps a copy of its stream */
	unsigned n_ending;	/* leases that are being ended */
	unsigned n_prompts;	/* of the target */
	bool asked, asked_echo;	/* one waits for its answer */
	/* the record */
	uint8_t rec_key[32], header_hash[32], head[32];
	int64_t opened_us;
	bool is_own;		/* the bastion's: no policy judges it */
	const char *kind;	/* of its row; NULL: somebody's */
	/* at a database */
	char role[40];		/* made for it (SP_CRED_PG_ROLE), or "" */
	uint32_t pg_pid, pg_key;	/* of the server's BackendKeyData */
	/* the end */
	uint8_t end_code;
	char end_text[512];
	uint64_t chunks, bytes_in, bytes_out, file_bytes, cut_bytes;
	bool is_recovered, is_judging, judge_again;
	unsigned tries;
	bool has_signature;
	uint8_t signature[64];
	int64_t ended_us;
	int64_t lease_used_us;
	struct recovery *recovery;
	struct sess_rotation *rotation;	/* NULL: it is somebody's */
	uint8_t egr_fail;	/* enum sp_egr_fail of its own leg, 0: none */
};
/* Takes w. No policy judges it: it is the bastion's own. */
struct sp_session *sp_session_begin_rotation(struct sp_broker *b,
    const struct sp_ask *ask, struct sess_rotation *w,
    const struct sp_session_ops *ops, void *arg);

struct play;
struct sp_search_run;
struct scan;
struct sp_sessions {
	struct sp_session *list;
	size_t n;
	struct event *tick;
	unsigned ticks;
	uint64_t packets;	/* when it last gave memory back */
	struct recovery *recoveries;
	struct play *plays;
	struct sp_search_run *searches;
	struct scan *scans;
	uint64_t last_id;
	unsigned n_sweeps;
	bool is_recovered;	/* rows of before our start were looked at */
	bool is_recovering, recover_more;
	/* roles at databases that are being undone */
	unsigned n_undoing;
	bool is_sweeping;
	int64_t swept_us;
};
struct sp_sessions *sp_sessions_new(struct sp_broker *b);
size_t sp_session_count(const struct sp_broker *b);
/* Ids of plays and scans, and of logins: one row of numbers, so that a
 * spawn_failed can mean one thing only. */
uint64_t sp_flow_next_id(struct sp_broker *b);

/* What the supervisor and the vault say. Descriptors are taken. */
void sp_session_on_scribe(struct sp_broker *b,
    const struct sp_msg_scribe_spawned *m, int fd);
void sp_session_on_spawned(struct sp_broker *b,
    const struct sp_msg_session_spawned *m, const int fds[static 2]);
void sp_session_on_dialed(struct sp_broker *b,
    const struct sp_msg_session_dialed *m, int fd);
void sp_session_on_child_end(struct sp_broker *b,
    const struct sp_msg_session_child_end *m);
void sp_session_on_recover_spawned(struct sp_broker *b,
    const struct sp_msg_recover_spawned *m, int fd);
void sp_session_on_play_spawned(struct sp_broker *b,
    const struct sp_msg_play_spawned *m, const int fds[static 2]);
void sp_session_on_scan_spawned(struct sp_broker *b,
    const struct sp_msg_scan_spawned *m, int fd);
/* true: it was ours */
bool sp_session_on_spawn_failed(struct sp_broker *b,
    const struct sp_msg_spawn_failed *m, const char *text);
void sp_session_on_lease_used(struct sp_broker *b,
    const struct sp_msg_v_lease_used *m);
void sp_session_on_security_event(struct sp_broker *b, const char *from,
    const struct sp_msg_security_event *m);

/* ------------------------------------------------------------ session.c */
/* A session of the bastion's own, at a database (sqlrun.h) or for the list of
 * revoked certificates (krlpush.h); what, a constant, stands in the place of a
 * person's name. It may do what rights say and nothing else. */
struct sp_session *sp_session_begin_own(struct sp_broker *b, const char *what,
    uint32_t rights, const struct sp_ask *ask, const struct sp_session_ops *ops,
    void *arg);
void sess_hold(struct sp_session *s);
void sess_release(struct sp_session *s);
void sess_set_state(struct sp_session *s, enum session_state st);
struct json_object *sess_detail(const struct sp_session *s);
void sess_tell_end(struct sp_session *s);
void sess_kill(struct sp_session *s);	/* its processes, by the supervisor */
/* ------------------------------------------------------- session_open.c */
void sess_begin(struct sp_session *s);
void sess_spawned(struct sp_session *s);
void sess_on_rec_opened(struct sp_session *s, const struct sp_msg_rec_opened *m);
void sess_on_rec_ready(struct sp_session *s, const struct sp_msg_rec_ready *m);
void sess_live(struct sp_session *s);
void sess_on_rec_point(struct sp_session *s, const struct sp_msg_rec_point *m);
/* -------------------------------------------------------- session_leg.c */
/* The legs of its way, then `next`; or the session ends. */
void sess_need_legs(struct sp_session *s, void (*next)(struct sp_session *));
void sess_free_legs(struct sp_session *s);
void sess_drop_legs(struct sp_session *s);	/* their links */
bool sess_legs_are_gone(const struct sp_session *s);
void sess_end_leases(struct sp_session *s);
struct sess_leg *sess_leg_now(struct sp_session *s);
struct sess_leg *sess_own_leg(struct sp_session *s);
/* By the id of any leg; leg may be NULL. */
struct sp_session *sess_find_leg(struct sp_broker *b, const uint8_t id[static 16],
    struct sess_leg **leg);
void sess_dial(struct sp_session *s);
/* ----------------------------------------------------- session_prompt.c */
void sess_on_prompt(struct sess_leg *l, const struct sp_msg_egr_prompt *m);
/* -------------------------------------------------- session_leg.c again */
/* "over": the accounts on the way, in the detail of an event. */
void sess_detail_way(const struct sp_session *s, struct json_object *d);
/* It is live: which address it was, into the recording and the audit. */
void sess_say_way(struct sp_session *s);
/* The process of a leg is gone. */
void sess_leg_gone(struct sp_session *s, const uint8_t id[static 16], int sig);
void sess_dial_failed(struct sp_session *s, const char *why);
/* ------------------------------------------------------ session_lease.c */
/* Loads the secret's row of each leg, then calls next (or ends the session). */
void sess_need_secrets(struct sp_session *s, void (*next)(struct sp_session *));
SP_MUST enum sp_err sess_host_keys(struct sp_buf *out, const char *lines);
void sess_judge_then_lease(struct sp_session *s);
/* --------------------------------------------------- session_checkout.c */
/* next, if nobody holds an exclusive account of its way; else it ends. */
void sess_need_free(struct sp_session *s, void (*next)(struct sp_session *s));
void sess_not_free(struct sp_session *s);	/* the database said so: ends */
void sess_insert_leases(struct sp_session *s, struct sp_change *c);
void sess_end_lease_rows(struct sp_change *c, const char *session,
    const char *at, const char *used, uint8_t end_code);
void sess_look_at_hold(struct sp_session *s);
void sess_due_begin(struct sp_broker *b);	/* leases that nobody ended */
void sess_start_login(struct sp_session *s);
/* -------------------------------------------------------- session_sql.c */
void sess_sql_start(struct sp_session *s, struct sess_leg *l);
const char *sess_sql_user(const struct sp_session *s, const struct sess_leg *l);
void sess_on_sql_event(struct sess_leg *l, const struct sp_msg_sql_event *m);
void sess_on_sql_cancel(struct sess_leg *l, const struct sp_msg_sql_cancel *m);
/* The bastion ended it: what the server still does for it is cancelled, for a
 * server looks at its client when it has something to say. */
void sess_sql_stop(struct sp_session *s);
/* The one that a client gets that names none. */
void sess_sql_database(const struct sp_ask *a, char *dst, size_t cap);
/* ------------------------------------------------------- session_role.c */
void sess_role_name(char dst[static 40], const uint8_t session[static 16]);
void sess_role_make(struct sp_session *s);	/* then sess_start_login */
void sess_roles_sweep(struct sp_broker *b);	/* those of ended sessions go */
void sess_roles_tick(struct sp_broker *b);
/* ------------------------------------------------------ session_judge.c */
/* What a fresh judgement means to a session: true when it may go on. */
bool sess_holds(struct sp_session *s, enum sp_err e, const struct sp_ask *ask,
    const struct sp_judgement *j, uint8_t *code, char *text, size_t cap);
/* ------------------------------------------------------ session_steer.c */
/* false: the recorder says what cannot be. */
bool sess_on_held(struct sp_session *s, const struct sp_msg_rec_held *m);
/* ------------------------------------------------------ session_pulse.c */
/* Does its recorder go on? Called each SESS_TICK_MS. */
void sess_pulse(struct sp_session *s);
void sess_on_rec_pong(struct sp_session *s, const struct sp_msg_rec_pong *m);
/* -------------------------------------------------------- session_end.c */
void sess_on_rec_closed(struct sp_session *s, const struct sp_msg_rec_closed *m);
void sess_rec_lost(struct sp_session *s);
void sess_on_deadline(struct sp_session *s);
void sess_child_gone(struct sp_session *s);
/* ---------------------------------------------------- session_recover.c */
struct recovered {
	bool is_closed;		/* it was whole and had its CLOSE */
	uint8_t head[32], signature[64];
	bool has_signature;
	uint64_t chunks, cut_bytes, file_bytes;
	int64_t at_us;
};
/* r is NULL unless SP_OK; SP_ERR_NOTFOUND: there is no file. */
typedef void (*recovery_cb)(void *arg, enum sp_err e, const struct recovered *r);
struct recovery *recovery_begin(struct sp_broker *b,
    const uint8_t session[static 16], recovery_cb cb, void *arg);
void recovery_of_closed(struct sp_broker *b, const uint8_t session[static 16]);
void recovery_child_end(struct sp_broker *b, const uint8_t session[static 16],
    uint32_t status);
bool recovery_spawn_failed(struct sp_broker *b,
    const uint8_t session[static 16], uint32_t err_no);
/* --------------------------------------- session_play.c, session_scan.c */
bool play_spawn_failed(struct sp_broker *b, uint64_t id, uint32_t err_no,
    const char *text);
bool scan_spawn_failed(struct sp_broker *b, uint64_t id, const char *text);

/* session_orphan.c: a recording without an end, as the supervisor found it; and
 * rows for those that have none, then all that is unfinished is recovered. */
void sp_session_on_open_file(struct sp_broker *b, const struct sp_msg_open_file *m);
void sp_session_adopt(struct sp_broker *b);

#endif
