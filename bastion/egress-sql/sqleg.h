/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_EGRESS_SQL_SQLEG_H
#define SP_EGRESS_SQL_SQLEG_H

#include <openssl/ssl.h>

#include "common/config.h"
#include "common/ipc.h"
#include "common/log.h"
#include "common/mywire.h"
#include "common/pgwire.h"
#include "common/sandbox.h"
#include "common/stream.h"

/*
 * The leg towards a database. One child holds one connected socket, one lease
 * and three links: to the recorder (stream), the broker and the vault. It can
 * open nothing, and it has no password: the vault answers the server's challenge.
 *   main.c   the parent; a child's life
 *   tls.c    the server's side: TLS, its certificate, bytes
 *   user.c   the user's side: the one channel of the stream
 *   pg.c     PostgreSQL: start-up towards the server
 *   pguser.c PostgreSQL: start-up towards the client, cancelling
 *   my.c     MariaDB: both
 *   relay.c  bytes, when both sides are through
 *   calls.c  the system calls that it may make
 */
#define SP_SQL_USER_WAIT_US INT64_C(60000000)	/* for the client's first words */
#define SP_SQL_FAR_MAX (256u << 10)		/* read ahead of the server */

struct sp_sqleg {
	const struct sp_config *cfg;
	uint8_t session[16];
	/* what was granted */
	uint8_t protocol;
	bool may_be_unbound, is_bound;
	char user[65], databases[1025], database[65];
	struct sp_buf pins;
	uint32_t deadline_ms;
	/* the server */
	int tcp;
	SSL *ssl;
	struct sp_buf far;		/* read, not yet used */
	unsigned hash_bits;		/* of the certificate; 0: it has none */
	bool far_over;
	/* the user's side */
	struct sp_stream rec;
	uint32_t chan;			/* 0: none yet */
	struct sp_buf near;		/* from the client, not yet used */
	uint32_t in_credit, in_done, out_credit;
	bool user_eof, user_closed, eof_sent, close_sent;
	bool over;			/* the recorder said END or went away */
	struct sp_link broker, vault;
	bool is_foreign;		/* not the pinned certificate */
	char said[400];			/* why the login failed */
	/* MariaDB: the client's packets, watched */
	bool watch;
	struct sp_my_watch seen;
	size_t n_watched;		/* of near */
};

/* Waits for anything until the boot-time deadline, takes the stream's frames and
 * writes what waits. events: of the server's socket. SP_ERR_TIMEOUT; SP_ERR_EOF:
 * the user's side is gone. */
SP_MUST enum sp_err sp_sql_wait(struct sp_sqleg *g, short events,
    int64_t deadline);

/* ---- tls.c */
SP_MUST enum sp_err sp_tls_init(void);		/* in the parent, once */
/* The handshake, then the pin. SP_ERR_DENIED: it is another certificate. */
SP_MUST enum sp_err sp_tls_begin(struct sp_sqleg *g, int64_t deadline);
/* The vault is shown the certificate; then egr_failed or not. */
SP_MUST enum sp_err sp_tls_show_vault(struct sp_sqleg *g);
/* Reads what is there, decrypted or, before TLS, as it comes. */
SP_MUST enum sp_err sp_far_fill(struct sp_sqleg *g);
/* Until far has n bytes. SP_ERR_EOF: the server hung up. */
SP_MUST enum sp_err sp_far_need(struct sp_sqleg *g, size_t n, int64_t deadline);
SP_MUST enum sp_err sp_far_write(struct sp_sqleg *g, struct sp_span s,
    int64_t deadline);
/* Some of it: *n bytes, 0 when nothing can be written now. */
SP_MUST enum sp_err sp_far_write_some(struct sp_sqleg *g, struct sp_span s,
    size_t *n);
void sp_far_close(struct sp_sqleg *g);
/* One question to the vault. */
SP_MUST enum sp_err sp_vault_prove(struct sp_sqleg *g,
    const struct sp_msg_sql_prove *q, struct sp_buf *answer,
    struct sp_buf *expect);

/* ---- user.c */
SP_MUST enum sp_err sp_user_frames(struct sp_sqleg *g);
/* Until the client has said n bytes. SP_ERR_EOF: it hung up. */
SP_MUST enum sp_err sp_user_need(struct sp_sqleg *g, size_t n, int64_t deadline);
/* At most out_credit bytes. */
SP_MUST enum sp_err sp_user_put(struct sp_sqleg *g, struct sp_span s);
void sp_user_took(struct sp_sqleg *g, size_t n);
/* Says no more: EOF and CLOSE, and waits a moment until they are gone. */
void sp_user_close(struct sp_sqleg *g);
void sp_sql_failed(struct sp_sqleg *g, uint8_t code, const char *text);
/* login or failed (common/ipc_messages.h) */
SP_MUST enum sp_err sp_sql_tell(struct sp_sqleg *g, const char *what,
    const char *detail, uint32_t pid, uint32_t key);
/* May the client have this database? NULL or "" and the client's own name mean
 * the default. Fills g->database. */
bool sp_sql_database(struct sp_sqleg *g, struct sp_span wish,
    struct sp_span user);

/* ---- the protocols. reach: up to where the server waits for a login; serve:
 * from the client's first words to a session, or the end of the channel. */
SP_MUST enum sp_err sp_pg_reach(struct sp_sqleg *g, int64_t deadline);
SP_MUST enum sp_err sp_pg_serve(struct sp_sqleg *g);
/* The client is told, as PostgreSQL would. */
void sp_pg_refuse(struct sp_sqleg *g, const char *sqlstate, const char *text,
    const char *hint);
/* Towards the server, with the client's parameters: until ReadyForQuery. What
 * the server says of itself goes to the client. */
SP_MUST enum sp_err sp_pg_login(struct sp_sqleg *g, struct sp_span params);
SP_MUST enum sp_err sp_my_reach(struct sp_sqleg *g, int64_t deadline);
SP_MUST enum sp_err sp_my_serve(struct sp_sqleg *g);

/* ---- relay.c: until either side is through; the exit status */
int sp_sql_relay(struct sp_sqleg *g);
extern const struct sp_syscall sp_sql_syscalls[];
extern const size_t sp_sql_n_syscalls;

#endif
