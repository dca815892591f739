/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_TEST_INGRESS_STUB_H
#define SP_TEST_INGRESS_STUB_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

#include "common/ipc.h"
#include "common/stream.h"

/*
 * Supervisor, broker, recorder and target of one sallyport-ingress, played by
 * the test process in one poll loop, and the OpenSSH client that talks to it.
 */
#define CHECK(c)                                                              \
	((c) ? (void)0 : (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__,  \
	    #c), abort()))
#define OK(e) CHECK((e) == SP_OK)
/* A connection that ends has its ends closed in any order: what is said to one
 * that has gone is lost, as it is with the real broker and recorder. */
#define SENT(e)                                                               \
	do {                                                                  \
		enum sp_err sent_ = (e);                                      \
									      \
		CHECK(sent_ == SP_OK || sent_ == SP_ERR_EOF ||                \
		    sent_ == SP_ERR_AGAIN);                                   \
	} while (0)

#define ST_CONNS 8
#define ST_STREAMS 24
#define ST_CHANS 8

struct st_chan {
	uint32_t id;
	bool used, has_pty, eof;
	uint8_t kind;
	char cmd[128], line[128];
	uint64_t to_send, sent, got;	/* bytes of the pattern */
	bool mismatch, done, expects;
	uint32_t credit, owed;
	uint32_t tx_seed, rx_seed;
};
struct st_stream {
	bool used, dialogue;
	struct sp_stream s;
	struct st_conn *conn;
	uint32_t ctx, chan;		/* of the chan_open that made it */
	struct st_chan ch[ST_CHANS];
};
struct st_conn {
	bool used;
	uint64_t id;
	struct sp_link link, vlt;	/* the broker's end, and the vault's */
};
struct st_client {
	pid_t pid;
	int pidfd, in, out, err, pty;
	struct sp_buf o, e;
	const uint8_t *feed;		/* what goes to its stdin */
	size_t feed_n, fed;
	bool hold_out;			/* do not read its stdout */
	bool keep_in;			/* no end of file after feed */
	int status;			/* exit status, or 128 + signal */
	bool ended;
};
struct st_world {
	char dir[64], config[128];
	pid_t ingress;
	struct sp_link sup;
	uint8_t host_sk[64];		/* the vault's, who signs */
	int listener;
	uint16_t port;
	uint8_t key[512];
	size_t key_n;
	struct st_conn conns[ST_CONNS];
	struct st_stream streams[ST_STREAMS];
	struct sp_buf log;		/* what the broker was told, a line each */
	uint64_t next_id, exited;
	uint32_t last_status;
	pid_t child;			/* of the last connection */
	/* what the broker does */
	bool asks_reason, deny_login;
	/* after a dialogue: the stream, or a refusal, before HANDOVER */
	bool early_stream, early_refusal;
	const char *mfa_prompt;
};

struct st_world *st_new(const char *config);
void st_free(struct st_world *w);	/* stops the ingress, checks its end */
/* Starts ssh with these arguments (NULL-terminated, after "ssh -F config"). */
struct st_client *st_ssh(struct st_world *w, const char *const *args,
    bool with_pty);
/* A client of the test's own, in a process of its own: run(w) is its status. */
struct st_client *st_run(struct st_world *w, int (*run)(struct st_world *w));
/* An ssh-agent at DIR/agent: empty; with alice's key, for which it signs
 * nonsense; or with a security key, which then is alice's at the broker. */
enum st_agent { ST_AGENT_EMPTY, ST_AGENT_NONSENSE, ST_AGENT_TOUCHED,
	ST_AGENT_UNTOUCHED };
pid_t st_agent(struct st_world *w, enum st_agent kind);
/* How many descriptors the last ingress child has; 0 if /proc does not say. */
size_t st_descriptors(const struct st_world *w);
void st_client_free(struct st_client *c);
/* One turn of the loop over everything; c may be NULL. */
void st_step(struct st_world *w, struct st_client *c);
/* Until the client has ended; kills it and returns -1 after 60 s. */
int st_wait(struct st_world *w, struct st_client *c);
/* Until the log, or the client's output, has this text. */
bool st_until_log(struct st_world *w, struct st_client *c, const char *text);
bool st_until_out(struct st_world *w, struct st_client *c, const char *text);
bool st_has(const struct sp_buf *b, const char *text);
/* Until all connections' children are gone. */
void st_settle(struct st_world *w);
/* Bytes that anybody can make again: fills at, moves the seed on. */
void st_pattern(uint8_t *at, size_t n, uint32_t *seed);
/* A target that could send has used all its credit. */
bool st_is_out_of_credit(const struct st_world *w);
/* To every live stream, or all channels of it. */
void st_notice(struct st_world *w, const char *text);
void st_end(struct st_world *w, uint8_t code, const char *text);
/* Ends the broker's links, as a broker that dies. */
void st_broker_dies(struct st_world *w);

/* Between the files of the stub. */
struct pollfd;
void st_target(struct st_world *w, struct st_stream *t);
struct st_stream *st_give_stream(struct st_world *w, struct st_conn *c,
    uint32_t ctx, uint32_t chan, bool shared);
unsigned long st_client_polls(struct st_client *c, struct pollfd *p);
void st_client_events(struct st_client *c, const struct pollfd *p);
#define ST_CLIENT_POLLS 5

#endif
