/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_INGRESS_FRONT_H
#define SP_INGRESS_FRONT_H

#include <stdbool.h>
#include <stdint.h>

#include "bastion/ingress/sshlib.h"
#include "bastion/ingress/wire.h"
#include "common/config.h"
#include "common/glass.h"
#include "common/ipc.h"
#include "common/log.h"
#include "common/sandbox.h"
#include "common/stream.h"

/*
 * The front: one connection of one user, in a sandbox. One poll loop moves the
 * user's socket, the link to the broker and the streams of sessions and verbs.
 *   conn  the connection            ctx   one SSH session in it: the outer one,
 *   chan  one channel of a ctx            or one answered for `ssh -J`
 *   leg   a stream to the recorder (shared by the channels of a ctx), or to a
 *         verb, a player or a dialogue (one channel's own)
 */
#define SP_INNER_MAX 16		/* ssh -J at once in a connection */
_Static_assert(SP_INNER_MAX < SP_WIRES_MAX, "a wire an inner session");
#define SP_SESSIONS_MAX 10	/* session channels at once in a ctx */
#define SP_CHANS_MAX 96		/* channels of all kinds, closing ones too */
#define SP_FORWARDS_MAX 56	/* forwarded connections and listeners in a ctx */
#define SP_GLOBALS_MAX 32	/* global requests that wait for their answer */
#define SP_HEARD_MAX 8		/* terminals, other requests that libssh hides */
#define SP_MODES_MAX 512
#define SP_DIALOG_MAX 64	/* lines of a conversation that may wait */
#define SP_REPORTS_MAX 64	/* refusals told to the broker */
#define SP_LEG_TX_LOW (256u << 10)
#define SP_SSH_TX_TURN (256u << 10) /* bytes for libssh between two flushes */

struct sp_conn;
struct sp_ctx;
struct sp_chan;

struct sp_leg {
	struct sp_leg *next;
	struct sp_stream s;
	struct sp_ctx *ctx;	/* NULL: nobody's; only what waits is written */
	bool shared, over;
	uint32_t n_chans, last_chan, last_reverse;
};

enum sp_chan_state {
	SP_CHAN_NEW,		/* open; pty and environment are collected */
	SP_CHAN_WAIT,		/* wants its stream, another one is asked for */
	SP_CHAN_ASKED,		/* chan_open or HANDOVER: the broker's turn */
	SP_CHAN_OPENING,	/* OPEN sent */
	SP_CHAN_LIVE,
	SP_CHAN_DRAIN,		/* no leg any more; what is queued goes out */
	SP_CHAN_DONE,		/* closed by us */
};
/* What waits for the client, in order: struct rec of queue.c in chan->q. */
struct sp_chan {
	struct sp_chan *next;
	struct sp_ctx *ctx;
	ssh_channel ch;
	struct ssh_channel_callbacks_struct cb;
	enum sp_chan_state state;
	uint32_t id;
	bool is_jump;
	bool is_forward;	/* forward.c: FORWARD, REVERSE, LISTEN */
	bool is_calling;	/* REVERSE: the client has not answered */
	/* what was asked for */
	bool has_pty;
	uint32_t cols, rows, xpixels, ypixels;
	char term[65];
	uint8_t open_kind;
	uint32_t n_env;
	struct sp_buf env, command, modes;
	/* forwards: what to reach or where to listen, and who came */
	char host[256], origin[256];
	uint32_t port, origin_port, bound_port;
	uint64_t global;	/* LISTEN: number of the client's request */
	ssh_message req;	/* the request that waits for its answer */
	/* user to target */
	struct sp_leg *leg;
	/* The broker's answer, when it comes before the HANDOVER that it
	 * follows (they come on two sockets): a stream, or a refusal. */
	int next_fd;		/* or -1 */
	bool next_shared;
	char *next_text;	/* or NULL */
	uint8_t next_code;
	uint32_t tx_credit;
	uint64_t bytes_in;
	uint32_t since_grow;
	bool has_data, eof_seen, eof_sent, client_closed;
	bool out_over;		/* the client was told EOF: no more text */
	/* target to user */
	struct sp_area held;		/* libssh's, of what the client sent */
	struct sp_buf q;
	uint32_t rx_credit, to_grant, notices;
	uint32_t q_left;
	uint8_t q_kind, q_gen, gen;
	bool exit_sent, close_queued;
	/* ssh -J */
	uint32_t jump_id;
	ssh_message open_msg;
	struct sp_ctx *inner;
	bool is_stdio;		/* -J or -W: the other end is a program */
	/* a database's client: enum sp_protocol */
	uint8_t sql, sql_head[8], n_sql_head;
	char *sql_no;		/* what it is to be told; NULL: nothing */
	char *sql_why;		/* why its session ends, if its stream does not say */
	int64_t sql_cut_us;	/* by when it does end; 0: no matter */
};

enum sp_ctx_state { SP_CTX_KEX, SP_CTX_AUTH, SP_CTX_KEYED, SP_CTX_IN, SP_CTX_DEAD };
enum sp_auth_wait {
	SP_WAIT_NOTHING,
	SP_WAIT_PROBE,		/* a key was offered */
	SP_WAIT_SIGNED,		/* its signature is good */
	SP_WAIT_NONE,		/* inner: method none */
	SP_WAIT_DIALOG,		/* a conversation */
};
struct sp_line {
	struct sp_line *next;
	uint8_t kind;
	char *title, *text;
};
struct sp_auth {
	enum sp_auth_wait wait;
	ssh_message msg;	/* to be answered when the broker has spoken */
	ssh_message held;	/* came too early */
	ssh_message blank;	/* says "failure" where libssh is mute */
	char name[256];		/* of the accepted key; inner: the first one */
	bool named, greeted;
	uint64_t corr;
	uint32_t tries, nones;
	uint32_t heard, pulled;	/* requests seen in libssh's log, and got */
	struct sp_line *lines, **lines_tail;
	uint32_t n_lines;
	bool clients_turn, asked;
	int64_t deadline_us, stall_us;
	uint64_t stall_bytes;
};
/* Global requests are answered in their order; some by libssh itself, unless
 * one before them waits: then it is told that they want no answer. */
struct sp_global {
	uint64_t number;
	bool is_listen, is_bound, is_answered, ok;
	ssh_message m;
	uint16_t port;
};
/* What libssh reads in a channel request and does not hand out (heard.c). */
struct sp_heard_pty {
	char term[65];
	uint32_t size[4], n_modes;
	uint8_t modes[SP_MODES_MAX];
};
struct sp_heard_other {
	bool is_break;
	uint32_t ms;
};

struct sp_ctx {
	struct sp_conn *conn;
	uint32_t id;		/* 0: the outer one */
	enum sp_ctx_state state;
	ssh_session ssh;
	struct sp_wire wire;
	struct sp_auth auth;
	struct sp_chan *chans;
	uint32_t n_chans, n_sessions, next_chan;
	struct sp_leg *shared;
	struct sp_chan *via;	/* the outer channel that carries it */
	uint32_t tx_turn;	/* bytes given to libssh since its last flush */
	bool is_greeted;	/* its version line has come */
	bool agent_asked;	/* heard in libssh's log */
	bool has_target;	/* what is forwarded goes through it */
	uint32_t n_forwards;
	struct sp_global globals[SP_GLOBALS_MAX];
	uint32_t n_globals;
	uint64_t next_global;
	ssh_message last_global; /* answers for what libssh did not hand out */
	struct sp_heard_pty ptys[SP_HEARD_MAX];
	struct sp_heard_other others[SP_HEARD_MAX];
	uint32_t n_ptys, n_others;
	char strange[64];	/* a kind of channel that libssh does not know */
	bool streamlocal_asked;
	struct sp_alive alive;
	const char *bye;	/* for the client: why it ends */
	char why[512];		/* why the session ends, if its stream does not say */
	int64_t cut_us;		/* by when it does end; 0: no matter */
};

struct sp_conn {
	const struct sp_config *cfg;
	ssh_bind bind;
	struct sp_link brk, vlt;
	int tcp;
	uint64_t id;
	char peer[64];
	struct sp_ctx outer;
	struct sp_ctx *inner[SP_INNER_MAX];
	struct sp_leg *legs;
	uint32_t next_inner, reports;
	uint64_t next_corr;
	char last_words[512];	/* of the broker, before a login */
	int64_t quiet_us;	/* then large buffers are given back; 0: done */
	uint32_t acks;		/* TCP_QUICKACK re-armed so often */
	bool brk_gone;
	int64_t end_us;		/* not 0: ends then at the latest */
	char end_text[1025];
};

/* ---- sshlib.c, calls.c: set-up, in the parent */
struct sp_front {
	struct sp_config cfg;
	ssh_bind bind;
	char sandbox[64];
};
SP_MUST enum sp_err sp_front_start(struct sp_front *f, struct sp_span config,
    struct sp_span host_key);
/* What every session of the front has and the bind cannot say. */
SP_MUST enum sp_err sp_front_options(ssh_session s);

/* ---- hostsign.c: the vault signs key exchanges with the host key */
SP_MUST enum sp_err sp_hostsign_init(void);	/* before libssh */
/* A key for libssh from a line of a .pub file: only its public half is real. */
SP_MUST enum sp_err sp_hostsign_stand_in(struct sp_span line, ssh_key *key);
/* From now on it is the vault that signs; borrowed. */
void sp_hostsign_use(struct sp_link *vault, uint64_t conn);
bool sp_hostsign_is_seen(void);	/* libssh hashed an exchange through us */

/* ---- conn.c: the loop */
int sp_conn_run(const struct sp_front *f, const struct sp_msg_spawn_ingress *m,
    int tcp, int broker, int vault);
/* Every message to the broker goes through here: a link that fails ends us. */
void sp_conn_sent(struct sp_conn *c, enum sp_err e);
/* For the audit log: a refusal of ours, before or after authentication. */
void sp_conn_refused(struct sp_conn *c, const char *why, struct sp_span detail);
void sp_conn_policy_refusal(struct sp_conn *c, const char *what,
    const char *detail);
void sp_conn_packet(struct sp_conn *c, struct sp_packet *p); /* dispatch.c */
/* Tells the terminals and disconnects when it has gone out. */
void sp_conn_end(struct sp_conn *c, const char *text);
struct sp_ctx *sp_conn_ctx(struct sp_conn *c, uint32_t id); /* or NULL */

/* ---- hello.c: before SSH. proxied: reads the PROXY header and tells the
 * broker; false: the connection ends. step: may libssh read? */
bool sp_hello_proxied(struct sp_conn *c);
bool sp_hello_step(struct sp_ctx *x);

/* ---- ctx.c: one SSH session */
SP_MUST enum sp_err sp_ctx_init(struct sp_ctx *x, struct sp_conn *c,
    uint32_t id, int fd, struct sp_chan *via);
void sp_ctx_fini(struct sp_ctx *x);
void sp_ctx_died(struct sp_ctx *x);	/* libssh has closed its end */
bool sp_ctx_step(struct sp_ctx *x);	/* reads; true if anything happened */
bool sp_ctx_flush(struct sp_ctx *x); /* true if bytes went out */
bool sp_ctx_is_blocked(const struct sp_ctx *x); /* do not write more now */
bool sp_ctx_may_read(const struct sp_ctx *x);
/* Says why and disconnects. The text outlives the ctx. */
void sp_ctx_disconnect(struct sp_ctx *x, const char *why);
struct sp_ctx *sp_ctx_in_libssh(void); /* whose packets it works on; or NULL */

/* ---- auth.c: logging in */
void sp_auth_init(struct sp_ctx *x);
void sp_auth_fini(struct sp_ctx *x);
bool sp_auth_message(struct sp_ctx *x, ssh_message m); /* true: m is kept */
void sp_auth_unanswered(struct sp_ctx *x);
void sp_auth_tick(struct sp_ctx *x, int64_t now);
int64_t sp_auth_deadline(const struct sp_ctx *x); /* 0: none */
void sp_auth_key_result(struct sp_ctx *x, uint64_t corr, bool ok);
void sp_auth_login_result(struct sp_ctx *x, uint64_t corr, uint8_t verdict);
void sp_auth_success(struct sp_ctx *x);
void sp_auth_fail(struct sp_ctx *x, bool counts);

/* ---- touch.c: the last signature of a security key says that it was touched;
 * false too if there was none, or more than one since the last call. */
bool sp_touch_was_given(void);


/* ---- dialog.c: conversations */
void sp_dialog_line(struct sp_ctx *x, const struct sp_msg_dialog *m);
void sp_dialog_answer(struct sp_ctx *x);
void sp_dialog_clear(struct sp_ctx *x);

/* ---- chan.c: channels and their requests */
bool sp_chan_open_message(struct sp_ctx *x, ssh_message m);
bool sp_chan_request(struct sp_ctx *x, ssh_message m); /* true: m is kept */
struct sp_chan *sp_chan_new(struct sp_ctx *x);
void sp_chan_free(struct sp_chan *ch);
struct sp_chan *sp_chan_find(struct sp_ctx *x, uint32_t id);
void sp_chan_accept(struct sp_chan *ch, ssh_message m);
void sp_chan_stream(struct sp_chan *ch, int fd, bool shared);
void sp_chan_refused(struct sp_chan *ch, uint8_t code, struct sp_span text);
void sp_chan_ask_next(struct sp_ctx *x);
void sp_chan_reply(struct sp_chan *ch, bool ok);

/* ---- queue.c: what waits for the client */
SP_MUST enum sp_err sp_queue_data(struct sp_chan *ch, uint8_t lane,
    struct sp_span bytes);
/* A text of the bastion: to the terminal, or to stderr where there is none. */
void sp_queue_text(struct sp_chan *ch, struct sp_span text, bool mark);
void sp_queue_eof(struct sp_chan *ch);
void sp_queue_status(struct sp_chan *ch, uint32_t status);
void sp_queue_signal(struct sp_chan *ch, struct sp_span payload);
void sp_queue_close(struct sp_chan *ch);
/* Text, exit status 255 where none was sent, close: cut by us. */
void sp_queue_cut(struct sp_chan *ch, struct sp_span text, uint32_t status);
bool sp_queue_out(struct sp_chan *ch);	/* true if anything moved */
/* The client has closed, but is still told how the command ended. */
bool sp_queue_owes_status(const struct sp_chan *ch);
bool sp_queue_is_empty(const struct sp_chan *ch);
/* Control characters and the like become visible; lines stay lines. */
void sp_text_safe(struct sp_buf *out, struct sp_span text, bool crlf);

/* ---- leg.c: streams */
struct sp_leg *sp_leg_new(struct sp_ctx *x, int fd, bool shared);
void sp_leg_join(struct sp_leg *l, struct sp_chan *ch); /* sends OPEN */
void sp_leg_take(struct sp_leg *l, struct sp_chan *ch); /* the target sent it */
void sp_leg_leave(struct sp_chan *ch);	/* CLOSE if owed, lets go */
void sp_leg_trim(void);		/* nothing moves: memory goes back */
void sp_leg_read(struct sp_leg *l);	/* frames that have arrived */
bool sp_leg_in(struct sp_chan *ch);	/* user to target; true if moved */
/* The session is over, and who holds the other end of its stream does not let
 * go of it: a process that waits for a disk cannot be ended. */
#define SP_CUT_US INT64_C(3000000) /* the broker gives it 1.5 s, and kills it then */
void sp_leg_cut(struct sp_leg *l);
void sp_leg_release(struct sp_leg *l);	/* no ctx any more */
void sp_leg_sweep(struct sp_conn *c);	/* frees what is done with */

/* ---- heard.c: what libssh does not hand out */
void sp_heard(void *arg, uint8_t *payload, size_t n);
void sp_heard_modes(struct sp_ctx *x, struct sp_chan *ch);
bool sp_heard_break(struct sp_ctx *x, uint32_t *ms); /* of the next unknown */

/* ---- forward.c: -L, -D, -W and -R through the target */
bool sp_forward_open(struct sp_ctx *x, ssh_message m); /* true: m is kept */
bool sp_forward_global(struct sp_ctx *x, ssh_message m); /* true: m is kept */
void sp_forward_accept(struct sp_chan *ch);	/* OPEN_OK */
/* Before it is open: the client learns why, and the channel is done with. */
void sp_forward_refuse(struct sp_chan *ch, uint32_t code, struct sp_span why);
SP_MUST enum sp_err sp_forward_listening(struct sp_chan *ch,
    const struct sp_frame *f);	/* LISTEN_OK, LISTEN_FAIL */
SP_MUST enum sp_err sp_forward_called(struct sp_leg *l,
    const struct sp_frame *f);	/* OPEN from the target's side */
bool sp_forward_call(struct sp_chan *ch); /* true if the client answered */
void sp_forward_end(struct sp_chan *ch);	/* before the channel is freed */
void sp_forward_fini(struct sp_ctx *x);
/* ---- sql.c: a database's client, on the outer connection */
/* The target of this channel is a database: the channel itself is asked for, or
 * its client is told why not. */
void sp_sql_begin(struct sp_chan *ch, uint8_t protocol,
    const struct sp_span *refused);
struct sp_chan *sp_sql_find(struct sp_conn *c, uint32_t ctx, uint32_t chan);
/* Tells the client in its own words; false: it cannot be told so. */
bool sp_sql_refuse(struct sp_chan *ch, struct sp_span why);
void sp_sql_cut(struct sp_chan *ch, struct sp_span why); /* the session's end */
/* Why the session of that target ends; its client is cut off in time. */
void sp_sql_why(struct sp_conn *c, uint32_t ctx, struct sp_span why);
void sp_sql_tick(struct sp_ctx *x, int64_t now);
bool sp_sql_pump(struct sp_chan *ch);
void sp_sql_end(struct sp_chan *ch);		/* before the channel is freed */
/* What is asked for, as OPEN and chan_open say it. */
SP_MUST enum sp_err sp_chan_open_payload(const struct sp_chan *ch,
    struct sp_buf *b);
void sp_chan_watch(struct sp_chan *ch);	/* libssh's callbacks of ch->ch */

/* ---- jump.c: ssh -J */
bool sp_jump_open(struct sp_ctx *x, ssh_message m); /* true: m is kept */
void sp_jump_result(struct sp_conn *c, const struct sp_msg_target_open_result *m);
bool sp_jump_pump(struct sp_chan *ch);
void sp_jump_end(struct sp_chan *ch);	/* before the channel is freed */

#endif
