/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_SUPERVISOR_SUP_H
#define SP_SUPERVISOR_SUP_H

#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "bastion/supervisor/topology.h"
#include "common/config.h"
#include "common/ipc.h"
#include "common/log.h"

/*
 * sallyportd: starts everything, binds, dials, passes descriptors, restarts,
 * and does nothing else. It parses no byte from the network, holds no key and
 * no database. Rooms:
 *   instance.*  the directory opened as descriptors, once, at start
 *   launch.*    fork and exec of one executable
 *   proc.*      the nine executed roles: hello, start, restart, stop
 *   topology.*  who gets which link
 *   kid.*       children of the parents
 *   auth.*      those that live for one PAM conversation
 *   accept.*    listening, connections; source.* caps; nets.* who is a proxy
 *   session.*   what the broker asks for
 *   files.*     what touches the directory of recordings: by sallyport-files
 *   recording.* what is done when it has answered
 *   dial.*      connecting to targets
 *   run.*       commands of witnesses; the system's log
 *   ship.*      recordings to the store of objects, and their end
 *   reload.*    new configuration and executables, while all goes on
 *   loop.*      poll, signals, deadlines, the end
 */
#define SP_LISTEN_MAX 16
#define SP_PROCS_MAX 96		/* current and retiring parents */
#define SP_AUTHS_MAX 1024
#define SP_DIALS_MAX 1024
#define SP_SESSIONS_MAX 16384
#define SP_UNDIALED_MAX 256
#define SP_SECOND_US 1000000LL

/* The executed roles, in the order of their start. */
enum sp_rx {
	SP_RX_VAULT,
	SP_RX_NOTARY,
	SP_RX_SHIP,			/* only where a store is configured */
	SP_RX_BROKER,
	SP_RX_RECORDER,
	SP_RX_EGRESS,
	SP_RX_SQL,			/* an egress of another kind */
	SP_RX_PLAYER,
	SP_RX_SCRIBE,
	SP_RX_AUTH,
	SP_RX_INGRESS,
	SP_RX_COUNT
};
struct sp_role_row {
	uint16_t role;			/* enum sp_role */
	const char *exe;		/* also the name of its user */
	bool is_parent;
};
extern const struct sp_role_row sp_role_rows[SP_RX_COUNT];

union sp_address {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_storage ss;
};

/* nets.c: addresses and networks, as numbers */
#define SP_NETS_MAX 32
struct sp_net {
	uint8_t at[16];
	size_t bytes;			/* 4 or 16 */
	unsigned bits;
};
struct sp_nets {
	struct sp_net net[SP_NETS_MAX];
	size_t n;
};
/* What is wrong, or one too many, comes back in bad. */
SP_MUST enum sp_err sp_nets_parse(struct sp_nets *all, const char *text,
    char *bad, size_t cap);
bool sp_nets_have(const struct sp_nets *all, const union sp_address *a);

/* ---------------------------------------------------------------- instance */
struct sp_instance {
	char path[4096];		/* absolute, for messages and conninfo */
	int dir, run, recordings, vault, keys, pam, tlog;
	int log, null, pidfile, control, vault_sock;
	int credentials;		/* systemd's directory of them; or -1 */
	int terminal;			/* where a failing start is said; or -1 */
	int libexec;
	char libexec_path[4096];
	uid_t owner_uid;
	gid_t owner_gid;
	bool as_root;
	uid_t uids[SP_RX_COUNT];
	gid_t gids[SP_RX_COUNT];
	struct sp_config cfg;
	char *conf_text;
	size_t conf_len;
	int host_key_fd;	/* for the vault to take; -1: it has the key */
	char host_key[1025];	/* the public half, as in its .pub file */
	char db[1024], node[65];
	struct sp_nets proxies;
	char said[512];			/* the last complaint of sp_say */
	bool is_activated;		/* the listeners are systemd's */
	int listeners[SP_LISTEN_MAX];
	char words[SP_LISTEN_MAX][64];	/* as the configuration has them */
	size_t n_listeners;
};
/* Says on the terminal and in the log why the start fails. */
void sp_say(struct sp_instance *in, const char *fmt, ...) SP_PRINTF(2, 3);
/* Opens everything; what is wrong has been said when it returns an error. */
SP_MUST enum sp_err sp_instance_open(struct sp_instance *in, const char *dir);
/* hostkey.c: the front's host key. Its file, if there is one, and its public half.
 * kept: the vault has it in its state; the file is written over and removed. */
SP_MUST enum sp_err sp_hostkey_open(struct sp_instance *in);
void sp_hostkey_kept(struct sp_instance *in, const uint8_t pk[static 32]);
/* Takes the listening sockets that sd_listen_fds(3) describes, if any; before
 * the process id changes. */
void sp_instance_activate(struct sp_instance *in);
/* Keeps the directory of systemd's credentials, if there is one. */
void sp_credential_find(struct sp_instance *in);
/* Binds the control sockets and the listen addresses (no listen(2) yet on the
 * latter: nobody is let in before everything runs). */
SP_MUST enum sp_err sp_instance_bind(struct sp_instance *in);
/* Reads the configuration again and listens as it says now; on an error, which
 * has been said, nothing has changed. */
SP_MUST enum sp_err sp_instance_reread(struct sp_instance *in);
SP_MUST enum sp_err sp_instance_relisten(struct sp_instance *in);
SP_MUST enum sp_err sp_instance_write_pid(struct sp_instance *in);
void sp_instance_close(struct sp_instance *in);	/* removes what start made */

/* ------------------------------------------------------------------ launch */
#define SP_FILES_EXE "sallyport-files"
struct sp_launch {
	enum sp_rx rx;
	bool is_files;			/* not that role, but sallyport-files */
	int link;			/* becomes 3; borrowed */
};
/* Fork and exec as the role's user. Only descriptors 0 to 3 are open. */
SP_MUST enum sp_err sp_launch_exec(const struct sp_instance *in,
    const struct sp_launch *l, pid_t *pid);

/* ------------------------------------------------------------------- procs */
enum sp_proc_state {
	SP_PROC_STARTING,
	SP_PROC_READY,
	SP_PROC_RETIRING,	/* told to stop; ends with its last child */
	SP_PROC_LOST,		/* link closed; waiting for its end */
	SP_PROC_GONE,		/* reaped; swept at the end of the turn */
};
struct sp_proc {
	struct sp_proc *next;
	enum sp_rx rx;
	pid_t pid;
	struct sp_link link;
	enum sp_proc_state state;
	bool said_hello;
	uint64_t n_children;		/* asked for in its life */
	int64_t since_us, deadline_us;	/* deadline 0: none */
};
struct sp_slot {
	struct sp_proc *cur;		/* STARTING or READY */
	struct sp_proc *next;		/* STARTING: takes over when READY */
	int64_t restart_us;		/* 0: no restart is due */
	unsigned backoff_ms;
};

/* -------------------------------------------------------------------- kids */
struct sp_source;
struct sp_kid {
	struct sp_kid *next;		/* in its bucket */
	uint64_t id;
	enum sp_kid_kind kind;
	struct sp_proc *parent;		/* NULL while it waits for one */
	pid_t pid;			/* 0: not spawned yet */
	bool killed;			/* by us: its signal is no crash */
	bool is_stuck;			/* killed, and it waits for a disk */
	bool is_known;			/* the present broker has its conn_new */
	int64_t deadline_us;		/* 0: none */
	uint8_t session[16];
	uint8_t leg[16];		/* of an egress: the session, or a hop's id */
	uint64_t ref;			/* play, scan or login id */
	uint64_t corr;
	struct sp_wires wires;		/* what has not been handed out yet */
	/* connections only */
	int front;			/* the vault's end of its link; else -1 */
	struct sp_source *source;
	bool is_counted, is_startup, is_keyed;
	bool is_proxied;		/* a PROXY header names the source */
	int64_t born_us;
	char peer_addr[64], local_addr[64];
	uint16_t peer_port, local_port;
};
#define SP_KID_BUCKETS 4096

struct sp_auth {
	uint64_t kid;
	int64_t deadline_us;
};

/* An egress on the way to the session's target. */
#define SP_HOPS_MAX 4
struct sp_hop {
	uint8_t id[16];
	struct sp_kid *egr;		/* NULL: the slot is free */
	int kept;			/* what the next leg is connected by; or -1 */
};

struct sp_session {
	struct sp_session *next;
	uint8_t id[16];
	struct sp_kid *rec, *egr;
	struct sp_kid *scribe;		/* the present one; NULL: none */
	int kept;			/* the recorder's stream for the egress */
	struct sp_hop hops[SP_HOPS_MAX];
	bool is_recovery, is_dialing, was_dialed;
	bool is_closing;		/* its recorder ended; its file is seen to */
};

struct sp_sup;
/* What sallyport-files is asked, and what is done with its answer: once, also when
 * it comes too late or not at all (err_no ETIMEDOUT). Files that are not taken
 * (made negative) are closed. */
struct sp_file_job {
	struct sp_file_job *next;
	uint8_t op;			/* enum sp_file_op */
	uint8_t ids[SP_SEARCH_BATCH * 16];
	size_t n_ids;
	void (*done)(struct sp_sup *s, struct sp_file_job *j, int err_no,
	    int *fds, size_t n);
	/* LIST: what there is; NULL otherwise */
	void (*found)(struct sp_sup *s, struct sp_file_job *j, struct sp_span ids);
	pid_t broker;			/* who asked; 0: nobody waits */
	uint64_t corr, ref;
	/* a recorder that has ended */
	struct sp_msg_session_child_end ended;
	bool is_unnamed;
	/* files.c's own */
	uint64_t no;
	int64_t due_us;			/* 0: any time will do */
	bool is_sent, is_answered;
};
struct sp_files {
	pid_t pid;			/* 0: it does not run */
	struct sp_link link;
	bool is_up, is_stuck;		/* stuck: said so */
	int64_t deadline_us, restart_us;
	unsigned backoff_ms;
	struct sp_file_job *first, **tail;
	size_t n;
	uint64_t next_no;
};

struct sp_dial {
	int fd;				/* -1: slot done with */
	int64_t deadline_us;
	bool is_scan, more, sql;
	uint8_t session[16], leg[16];
	uint64_t scan_id, corr;
	struct sp_dial *next;
};

#define SP_RUNS_MAX 16
struct sp_command {
	pid_t pid;			/* 0: free */
	int64_t deadline_us;
};

/* The one job of sallyport-ship. */
enum sp_ship_step {
	SP_SHIP_NONE,
	SP_SHIP_LEAF,			/* the notary is asked whether it may */
	SP_SHIP_ROLE,			/* sallyport-ship is being started */
	SP_SHIP_FILE,			/* sallyport-files opens it */
	SP_SHIP_OUT,			/* sallyport-ship has it */
	SP_SHIP_AFTER,			/* the file follows */
};
struct sp_shipping {
	enum sp_ship_step step;
	bool was_given;			/* to one that ended: once more */
	const struct sp_proc *by;	/* who has it; not followed */
	struct sp_msg_ship_job job;
	uint64_t corr, serial;		/* serial: of what is asked of files */
	struct sp_msg_ship_done done;	/* its text: */
	char text[257];
	int64_t due_us;
};

enum sp_phase {
	SP_PHASE_STARTING,
	SP_PHASE_RUNNING,
	SP_PHASE_SESSIONS_END,	/* the broker ends them */
	SP_PHASE_ROLES_END,	/* everybody has been told to stop */
	SP_PHASE_KILL,
};

struct sp_sup {
	struct sp_instance in;
	enum sp_phase phase;
	int64_t phase_until_us;
	bool has_failed;
	int sigfd, ready_fd;		/* ready_fd: told when we serve; or -1 */
	struct sp_slot slots[SP_RX_COUNT];
	struct sp_proc *procs;
	size_t n_procs;
	struct sp_kid *kids[SP_KID_BUCKETS];
	size_t n_kids, n_timed, n_conns, n_startups;
	uint64_t next_id;
	struct sp_auth auths[SP_AUTHS_MAX];
	size_t n_auths;
	struct sp_session *sessions;
	size_t n_sessions;
	/* The last whose recorder ended before anything was dialled: told to the
	 * next broker. */
	uint8_t undialed[SP_UNDIALED_MAX][16];
	size_t n_undialed;
	struct sp_command runs[SP_RUNS_MAX];
	struct sp_files files;
	struct sp_shipping ship;
	struct sp_dial *dials;
	size_t n_dials;
	struct sp_source *sources[1024];
	uint32_t source_seed;
	int64_t accept_pause_us;	/* no accept before this */
	int64_t refusal_said_us;
	uint64_t n_refused, n_reloads;
	struct sp_msg_vault_keys vault;	/* as it said itself */
	bool has_vault_keys;
	bool is_reloading;
};

/* proc.c */
SP_MUST enum sp_err sp_proc_start(struct sp_sup *s, enum sp_rx rx);
struct sp_proc *sp_proc_ready(struct sp_sup *s, enum sp_rx rx); /* or NULL */
void sp_proc_read(struct sp_sup *s, struct sp_proc *p);
void sp_proc_sent(struct sp_sup *s, struct sp_proc *p, enum sp_err e);
void sp_proc_kill(struct sp_sup *s, struct sp_proc *p, const char *why);
/* A fresh execution that takes over from the present one as soon as it is up;
 * that one then ends with its last child. */
void sp_proc_succeed(struct sp_sup *s, enum sp_rx rx);
void sp_proc_retire(struct sp_sup *s, struct sp_proc *p);
void sp_proc_reaped(struct sp_sup *s, struct sp_proc *p, int status);
void sp_proc_tick(struct sp_sup *s, int64_t now, int64_t *next);
void sp_proc_sweep(struct sp_sup *s);
void sp_proc_stop_all(struct sp_sup *s);
void sp_sup_event(struct sp_sup *s, const char *what, const uint8_t *session,
    const char *detail);	/* security_event, and a log line */

/* peering.c */
SP_MUST enum sp_err sp_proc_say_start(struct sp_sup *s, struct sp_proc *p);
void sp_proc_meet(struct sp_sup *s, struct sp_proc *p);
/* To a vault that has just started: the credential, if there is one. */
void sp_credential_give(struct sp_sup *s, struct sp_proc *p);

/* kid.c */
struct sp_kid *sp_kid_new(struct sp_sup *s, enum sp_kid_kind kind,
    const uint8_t *session);
/* Wires it and asks its parent for it, now or as soon as there is one. Takes
 * `first` and `kept`. On error the kid is gone and nothing has been answered. */
SP_MUST enum sp_err sp_kid_spawn(struct sp_sup *s, struct sp_kid *k, int first,
    int kept);
struct sp_kid *sp_kid_find(struct sp_sup *s, uint64_t id);
SP_MUST enum sp_err sp_kid_spawned(struct sp_sup *s, struct sp_proc *p,
    const struct sp_msg_spawned *m);
SP_MUST enum sp_err sp_kid_exited(struct sp_sup *s, struct sp_proc *p,
    const struct sp_msg_exited *m);
/* At once, by pidfd, after a check that it is that parent's child. A kid that
 * still waits for its parent is gone after this. */
void sp_kid_kill(struct sp_sup *s, struct sp_kid *k);
void sp_kid_parent_ready(struct sp_sup *s, struct sp_proc *p);
void sp_kid_parent_gone(struct sp_sup *s, struct sp_proc *p);
void sp_kid_broker_gone(struct sp_sup *s);
void sp_kid_tick(struct sp_sup *s, int64_t now, int64_t *next);
void sp_kid_free(struct sp_sup *s, struct sp_kid *k);
void sp_kid_each(struct sp_sup *s, void (*fn)(struct sp_sup *,
    struct sp_kid *, void *), void *arg);

/* reply.c: what is said to the broker about a kid */
void sp_reply_spawned(struct sp_sup *s, struct sp_kid *k);
void sp_reply_failed(struct sp_sup *s, const struct sp_kid *k, int err_no,
    const char *text);
struct sp_failure {
	uint64_t corr, id;
	const uint8_t *session;
	int err_no;
	const char *text;
};
void sp_reply_failure(struct sp_sup *s, const struct sp_failure *f);

/* auth.c */
void sp_auth_spawn(struct sp_sup *s, uint64_t corr, uint64_t login);
void sp_auth_gone(struct sp_sup *s, const struct sp_kid *k);
void sp_auth_tick(struct sp_sup *s, int64_t now, int64_t *next);

/* accept.c */
SP_MUST enum sp_err sp_accept_listen(struct sp_sup *s);
/* Our end of a connection, numeric; "" where it is no internet socket. */
void sp_local_address(int fd, char text[static 64], uint16_t *port);
bool sp_accept_may(struct sp_sup *s, int64_t now, int64_t *next);
void sp_accept_some(struct sp_sup *s, int listener);
void sp_accept_refused(struct sp_sup *s, const char *addr, const char *cap);

/* source.c. admit: NULL, or the cap that refuses it. named: what the header of
 * a proxied connection said; over the cap it is ended. */
const char *sp_source_admit(struct sp_sup *s, struct sp_kid *k,
    const union sp_address *peer);
SP_MUST enum sp_err sp_source_named(struct sp_sup *s, struct sp_kid *k,
    struct sp_span addr);
void sp_source_authed(struct sp_sup *s, struct sp_kid *k);
void sp_source_forget(struct sp_sup *s, struct sp_kid *k);

/* unnamed.c: recordings that may have no row. To a new broker: all without an end,
 * and the last that ended before anything was dialled. */
void sp_unnamed_tell_all(struct sp_sup *s, struct sp_proc *p);
/* Its recorder is gone, and nothing was dialled. */
void sp_unnamed_tell(struct sp_sup *s, const uint8_t *id);

/* session.c: the broker's packets; takes the packet's descriptors */
SP_MUST enum sp_err sp_session_packet(struct sp_sup *s, struct sp_packet *p);
struct sp_session *sp_session_find(struct sp_sup *s, const uint8_t *id);
void sp_session_kid_gone(struct sp_sup *s, struct sp_kid *k, int status);
void sp_session_free_all(struct sp_sup *s);
/* A recorder for a new file (SP_KID_RECORDER) or an unfinished one. Takes fd; what
 * fails is told to the broker. */
void sp_session_record(struct sp_sup *s, enum sp_kid_kind kind, uint64_t corr,
    const uint8_t *id, int fd);
/* Its recorder's file has been seen to. */
void sp_session_closed(struct sp_sup *s, const uint8_t *id);
/* recording.c */
SP_MUST enum sp_err sp_recording_packet(struct sp_sup *s, struct sp_packet *p);
/* Its recorder ended like that (op 0: nothing is to be done with the file); then the
 * broker is told m, and, where it may have no row, that there is a file. */
void sp_recording_ended(struct sp_sup *s, uint8_t op,
    const struct sp_msg_session_child_end *m, bool is_unnamed);

/* files.c */
SP_MUST enum sp_err sp_files_start(struct sp_sup *s);
/* NULL: no memory, or too many wait. */
struct sp_file_job *sp_files_job(struct sp_sup *s, uint8_t op, struct sp_span ids);
/* With a deadline (false: whenever it is done); takes the job. */
void sp_files_ask(struct sp_sup *s, struct sp_file_job *j, bool is_waited_for);
void sp_files_read(struct sp_sup *s);
bool sp_files_reaped(struct sp_sup *s, pid_t pid, int status); /* was it that? */
void sp_files_broker_gone(struct sp_sup *s);
void sp_files_tick(struct sp_sup *s, int64_t now, int64_t *next);
void sp_files_stop(struct sp_sup *s);

/* search.c */
SP_MUST enum sp_err sp_on_search_spawn(struct sp_sup *s, struct sp_packet *p);

/* leg.c: the egresses of a session */
struct sp_leg {
	const uint8_t *id;		/* the session's own, or a hop's */
	uint64_t corr;
	bool more;			/* another may be dialled in its place */
	bool sql;			/* a database, by its own kind of egress */
};
/* Why this leg cannot be dialled now; NULL: it can. */
const char *sp_leg_refused(const struct sp_session *x, const uint8_t *id);
/* Starts the leg's egress on a connected socket, which it takes. NULL: started;
 * else why not. */
const char *sp_leg_start(struct sp_sup *s, struct sp_session *x,
    const struct sp_leg *l, int fd);
/* The end that this hop left for the next leg, now the caller's; -1: none. */
int sp_leg_take(struct sp_session *x, const uint8_t *hop);
void sp_leg_keep(struct sp_session *x, struct sp_kid *k);
bool sp_leg_gone(struct sp_session *x, const struct sp_kid *k); /* was it one? */
bool sp_leg_is_any(const struct sp_session *x);
void sp_leg_kill_all(struct sp_sup *s, const uint8_t *session);

/* dial.c */
struct sp_dial_ask {
	bool is_scan, more, sql;
	const uint8_t *session, *leg;
	uint64_t scan_id, corr;
	struct sp_span addr;
	uint16_t port;
	uint32_t deadline_ms;
};
void sp_dial_begin(struct sp_sup *s, const struct sp_dial_ask *a);
void sp_dial_writable(struct sp_sup *s, struct sp_dial *d);
void sp_dial_abort(struct sp_sup *s, const uint8_t *session, const char *why);
void sp_dial_drop_all(struct sp_sup *s);
void sp_dial_tick(struct sp_sup *s, int64_t now, int64_t *next);
void sp_dial_sweep(struct sp_sup *s);

/* run.c: commands of the configuration, for the notary */
SP_MUST enum sp_err sp_run_ask(struct sp_sup *s, struct sp_proc *p,
    const struct sp_msg_n_run *m);
bool sp_run_reaped(struct sp_sup *s, pid_t pid);
void sp_run_tick(struct sp_sup *s, int64_t now, int64_t *next);
void sp_run_kill_all(struct sp_sup *s);
/* A checkpoint, into the system's log. */
void sp_run_syslog(struct sp_span line);

/* ship.c */
bool sp_role_is_wanted(const struct sp_instance *in, enum sp_rx rx);
SP_MUST enum sp_err sp_ship_start(struct sp_sup *s, struct sp_proc *p);
SP_MUST enum sp_err sp_ship_ask(struct sp_sup *s, struct sp_packet *p);
SP_MUST enum sp_err sp_ship_packet(struct sp_sup *s, struct sp_proc *p,
    const struct sp_packet *k);
SP_MUST enum sp_err sp_ship_deleting(struct sp_sup *s, struct sp_proc *p,
    const struct sp_packet *k);
void sp_ship_reread(struct sp_sup *s);	/* another configuration */
void sp_ship_tick(struct sp_sup *s, int64_t now, int64_t *next);
/* It ended: so did its job. */
void sp_ship_gone(struct sp_sup *s, const struct sp_proc *p);

/* reload.c */
void sp_reload(struct sp_sup *s);
void sp_reload_tick(struct sp_sup *s);

/* loop.c */
int sp_loop_run(struct sp_sup *s);

static inline void
sp_sooner(int64_t *next, int64_t at)
{
	if (at != 0 && (*next == 0 || at < *next))
		*next = at;
}

#endif
