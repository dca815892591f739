/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_EGRESS_EGRESS_H
#define SP_EGRESS_EGRESS_H

#include <libssh/callbacks.h>
#include <libssh/libssh.h>

#include "common/config.h"
#include "common/glass.h"
#include "common/ipc.h"
#include "common/log.h"
#include "common/sandbox.h"
#include "common/stream.h"

/*
 * The leg towards the target. One child holds one connected socket, one lease
 * and three links: to the recorder (stream), the broker and the vault. It can
 * open nothing.
 *   main.c   the parent: warms libssh up, forks children
 *   login.c  key exchange, pin, proof for the vault
 *   auth.c   authentication, with what the lease gives and what the user answers
 *   agent.c  that with the lease's key
 *   relay.c  the loop: frames to channels, channels to frames
 *   chan.c   one channel
 *   hop.c    instead of both: a forward to the next leg
 *   rotate.c instead of them: a secret is set at the target
 *   listen.c listeners at the target, and what comes to them
 *   tap.c    what libssh does not tell
 *   ahead.c  what stands between libssh and the socket
 *   calls.c  the system calls that it may make
 *   nofiles.c  open(2) and its kin that open nothing
 */
#define SP_EGRESS_CHANS (4 * SP_STREAM_CHANNELS_MAX) /* as the recorder's */
#define SP_EGRESS_ASKED 64	/* global requests without an answer yet */

enum sp_asked { SP_ASKED_LISTEN, SP_ASKED_CANCEL, SP_ASKED_ALIVE };

struct sp_listener {
	enum { LSN_FREE = 0, LSN_ASKED, LSN_LIVE, LSN_LEFT } state;
	uint32_t id, asked, port;
	char host[256];
};

struct sp_listens {
	struct sp_listener l[SP_STREAM_LISTENS_MAX];
	/* what we asked, in order, and what was answered, in order */
	struct { enum sp_asked what; uint32_t id; } asked[SP_EGRESS_ASKED];
	struct { bool ok; uint32_t port; } heard[SP_EGRESS_ASKED];
	unsigned n_asked, n_heard;
	bool has_messages;	/* libssh has some of the target's for us */
	uint32_t last;		/* number of a channel that the target opened */
};

struct sp_egress {
	const struct sp_config *cfg;
	uint8_t session[16];
	ssh_session ssh;
	ssh_event event;
	int tcp;
	struct sp_stream rec;		/* towards the recorder */
	struct sp_link broker, vault;
	int agent;			/* the vault's ssh-agent stream; -1: given away */
	struct sp_chan *chans[SP_EGRESS_CHANS];
	uint32_t last;			/* number of the user's side */
	struct sp_listens listens;
	struct sp_alive alive;
	int64_t quiet_us;		/* then large buffers are given back; 0: done */
	uint32_t tx_turn;		/* bytes for libssh since the last flush */
	unsigned acks;			/* TCP_QUICKACK re-armed so often */
	bool progress;			/* set by anything that moved */
	bool rec_ready, tcp_ready;	/* poll said so, and no read denied it */
	bool over;			/* the recorder said END or went away */
	bool is_old;			/* an old algorithm was agreed on */
	char algorithms[400];
	const char *why;		/* the login failed, where we know it better */
	bool is_titled;			/* this round's title has been shown */
	bool rotates;			/* rotate.c instead of the relay */
	bool is_hop;			/* forwards to the next leg; no recorder */
	ssh_channel forward;
};

/* Everything up to an authenticated session; reports failures to the broker
 * itself (egr_failed). SP_OK: egr_ready has been sent. */
SP_MUST enum sp_err sp_egress_login(struct sp_egress *g);
/* Key exchange only, then egr_scanned: for `target add --scan`. */
SP_MUST enum sp_err sp_egress_scan(struct sp_egress *g, uint32_t deadline_ms,
    bool legacy);
/* The login itself, by enum sp_cred_kind; ms: for each step of the target's. */
SP_MUST enum sp_err sp_egress_authenticate(struct sp_egress *g, uint8_t method,
    uint32_t ms);
/* With the agent's identity, signed at once: SSH_AUTH_*. Closes g->agent. */
int sp_egress_by_agent(struct sp_egress *g, int64_t deadline);
/* Waits for the target's socket, or the broker's going away (SP_ERR_EOF). */
SP_MUST enum sp_err sp_egress_wait(struct sp_egress *g, int64_t deadline);
/* ---- a hop */
SP_MUST enum sp_err sp_hop_open(struct sp_egress *g, const char *addr,
    uint16_t port, uint32_t ms);
int sp_hop_relay(struct sp_egress *g);	/* until its end; the exit status */
/* What the target sends while a session is set up is acknowledged at once. */
void sp_egress_ack_at_once(struct sp_egress *g);
/* The relay until its end; returns the process's exit status. */
int sp_egress_relay(struct sp_egress *g);
void sp_egress_failed(struct sp_egress *g, uint8_t code, const char *text);
/* The options every session has: no files, no names, our algorithms. */
SP_MUST enum sp_err sp_egress_session(ssh_session *out, int fd, const char *user,
    bool legacy);
/* A full handshake against a server in this very process, before the first
 * fork: children then share the pages that it touched. */
SP_MUST enum sp_err sp_egress_warm(void);

/* ---- one channel */
struct sp_chan;
struct sp_chan *sp_chan_new(struct sp_egress *g, uint32_t id,
    const struct sp_open *o);		/* NULL: out of memory */
/* One that the target opens: m is kept, and answered as the user does. */
struct sp_chan *sp_chan_called(struct sp_egress *g, uint32_t id, ssh_message m);
void sp_chan_free(struct sp_chan *c);
uint32_t sp_chan_id(const struct sp_chan *c);
/* Takes a frame of the user side. SP_ERR_PROTO: the frame cannot be. */
SP_MUST enum sp_err sp_chan_frame(struct sp_chan *c, const struct sp_frame *f);
/* Moves what can be moved, both ways. SP_ERR_EOF: the channel is over and may
 * be freed; SP_ERR_FULL, SP_ERR_IO: the session is over. */
SP_MUST enum sp_err sp_chan_step(struct sp_chan *c);
/* Does the target wait for a window that only reading can bring? */
bool sp_chan_waits_for_window(const struct sp_chan *c);
void sp_chan_trim(struct sp_chan *c);	/* nothing moves: buffers go */
/* Does it hold much that the user's side has no credit for? */
bool sp_chan_is_stuck(const struct sp_chan *c);
/* The target went away: what is buffered is forwarded, then CLOSE. */
void sp_chan_target_gone(struct sp_chan *c);

/* ---- listeners */
void sp_listen_init(struct sp_egress *g);
/* LISTEN, UNLISTEN. */
SP_MUST enum sp_err sp_listen_frame(struct sp_egress *g,
    const struct sp_frame *f);
/* What the target answered and opened since. */
SP_MUST enum sp_err sp_listen_step(struct sp_egress *g);
/* Asks whether the target lives, when it is time. SP_ERR_EOF: it does not. */
SP_MUST enum sp_err sp_listen_alive(struct sp_egress *g, bool is_reading);

#endif
