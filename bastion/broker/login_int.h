/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_LOGIN_INT_H
#define SP_BROKER_LOGIN_INT_H

#include "bastion/broker/approval_int.h"
#include "bastion/broker/login.h"
#include "bastion/broker/login_edit.h"
#include "bastion/broker/login_name.h"
#include "bastion/broker/session_int.h"

/*
 * The ingress behind a connection may be captured: what it says is a claim.
 * What counts is the state here, moved only by what the broker itself saw.
 */
#define CONN_ASKED_MAX 64	/* keys offered; more are refused unasked */
#define CONN_BUSY_MAX 24	/* questions under way at once */
#define CONN_CTX_MAX 16		/* inner logins */
#define CONN_CHAN_MAX 64	/* channels that wait for an answer */

enum conn_state { CONN_READY, CONN_KEYED, CONN_AUTHED, CONN_ENDED };

enum ctx_state {
	CTX_OPENING,	/* is it a target? */
	CTX_READY,	/* it may log in */
	CTX_JUDGING,	/* a login is being judged */
	CTX_KBDINT,	/* told NEXT: a conversation may begin */
	CTX_ASKING,	/* the conversation is under way */
	CTX_ACCEPTED,
	CTX_ENDED,
};

struct conn;
struct chan;

/* A login at a target: the outer one (id 0, USER+ACCOUNT+TARGET) or an inner. */
struct ctx {
	struct ctx *next;
	struct conn *c;
	uint32_t id;
	unsigned refs;
	enum ctx_state state;
	char target[SP_NAME_MAX + 1], account[SP_NAME_MAX + 1];
	uint8_t method;			/* of the login at hand */
	uint64_t corr;			/* echoed in its result */
	bool asked;			/* a question is on the user's screen */
	bool is_stale;			/* ... and was withdrawn: an answer may come */
	bool has_title;
	uint8_t exit_code;		/* of what was refused in it; 0: nothing */
	bool is_later;			/* its session ended for want of a terminal */
	struct sp_elevation *elev;	/* in the conversation */
	struct sp_session *session;
	bool session_is_ready;
	struct chan *chans;		/* that wait for an answer */
	uint8_t protocol;		/* enum sp_protocol */
};

enum chan_state {
	CHAN_JUDGING,
	CHAN_DIALOGUE,	/* an elevation on its terminal */
	CHAN_FILING,	/* no terminal: a request is filed */
	CHAN_SESSION,	/* the session begins */
	CHAN_VERB,
	CHAN_ENDED,
};
struct chan {
	struct chan *next;
	struct ctx *x;
	uint32_t no;
	unsigned refs;
	enum chan_state state;
	struct sp_buf open;		/* the OPEN payload */
	bool has_pty;
	struct sp_conduit *conduit;	/* the dialogue */
	bool is_open;			/* OPEN came on it */
	struct sp_edit edit;
	bool asked, is_hidden, is_prompted;
	struct sp_elevation *elev;
	struct sp_ask ask;
	struct sp_judgement j;
};

struct auth;
struct conn {
	struct conn *next;
	struct sp_broker *b;
	uint64_t id;
	unsigned refs, n_busy;
	enum conn_state state;
	struct sp_peer *peer;
	struct event *grace;
	char addr[64];
	uint16_t port;
	bool is_proxied;
	struct event *refusal;		/* is answered a little later */
	uint64_t refusal_corr;
	int64_t refusal_us;
	char via[64];			/* the proxy that named addr; or empty */
	char login[256];		/* claimed, then kept */
	struct sp_login_name name;
	struct sp_actor who;
	uint8_t key[16];		/* the row of the key that signed */
	unsigned n_keys, n_tries, n_reports;
	char why[128];			/* last refusal, for the audit at the end */
	struct auth *auth;
	bool is_stale;			/* a question of it was withdrawn */
	struct ctx outer, *ctxs;
	unsigned n_chans;
	struct go *gos;			/* sessions on channels of verbs */
};

struct go;
struct totp_op;
struct sp_logins {
	struct conn *conns;
	size_t n;
	struct totp_op *totp;
	bool checking, check_again;
};

/* ------------------------------------------------------------- login.c */
void conn_hold(struct conn *c);
void conn_release(struct conn *c);
void conn_set_state(struct conn *c, enum conn_state s);
/* It broke the protocol or tried something: audited, disconnected, killed. */
void conn_broke(struct conn *c, const char *what);
/* Says goodbye on its terminals, then disconnects. */
void conn_end_with(struct conn *c, const char *text);
/* Onto its terminals; it goes on. */
void conn_note(struct conn *c, const char *text);
void conn_end(struct conn *c);
/* One more question under way; false: too many, the connection is gone. */
bool conn_busy(struct conn *c);
void conn_idle(struct conn *c);
void conn_audit(struct conn *c, const char *event, struct json_object *d);
struct json_object *conn_detail(const struct conn *c);
void conn_dialog(struct conn *c, uint32_t dialog, uint8_t kind,
    const char *title, const char *text);
/* People and keys of all connections are looked up again. */
void sp_logins_check(struct sp_broker *b);

/* ---------------------------------------------------------- login_key.c */
void login_on_auth_key(struct conn *c, const struct sp_msg_auth_key *m,
    uint64_t corr);
/* Looks whether the blob is an enabled key of that enabled person. */
typedef void (*login_key_cb)(void *arg, enum sp_err e,
    const uint8_t person[static 16], const uint8_t key[static 16]);
void login_find_key(struct sp_broker *b, const char *user, struct sp_span blob,
    login_key_cb cb, void *arg);

/* --------------------------------------------------------- login_slow.c */
/* Refuses a key that was asked for at began_us, and counts it for the name. */
void login_slow_refuse(struct conn *c, uint64_t corr, const char *user,
    int64_t began_us);
void login_slow_drop(struct conn *c);
/* How long from now until this refusal is answered. */
int64_t login_slow_us(const char *user, int64_t began_us, int64_t now);

/* ---------------------------------------------------------- login_mfa.c */
void login_on_mfa_begin(struct conn *c, const struct sp_msg_mfa_begin *m);
bool login_auth_answer(struct conn *c, struct sp_span text); /* false: unasked */
void login_auth_drop(struct conn *c);
/* --------------------------------------------------------- login_totp.c */
/* Exactly one callback, within two seconds. verdict: enum sp_pam_verdict. */
typedef void (*login_totp_cb)(void *arg, uint8_t verdict, const char *why);
struct totp_op *login_totp(struct sp_broker *b, const uint8_t person[static 16],
    struct sp_span code, login_totp_cb cb, void *arg);
void login_totp_forget(struct totp_op *o);	/* no callback */

/* ------------------------------------------------------- login_target.c */
struct ctx *ctx_find(struct conn *c, uint32_t id);
void ctx_hold(struct ctx *x);
void ctx_release(struct ctx *x);
void ctx_end(struct ctx *x);
void login_on_target_open(struct conn *c, const struct sp_msg_target_open *m);
void login_on_target_login(struct conn *c, const struct sp_msg_target_login *m,
    uint64_t corr);
void login_on_target_close(struct conn *c, const struct sp_msg_target_close *m);
void login_on_dialog_answer(struct conn *c, const struct sp_msg_dialog_answer *m);
/* Both factors are given: goes on with USER+ACCOUNT+TARGET, or says OK. */
void login_outer_begin(struct conn *c);

void ctx_refuse_open(struct ctx *x, const char *text);
void ctx_open_sql(struct ctx *x);
/* ---------------------------------------------------------- login_sql.c */
/* [ACCOUNT+]TARGET into the ctx. */
bool login_sql_split(struct ctx *x, struct sp_span host);
/* The target is a database: which of its accounts, then ctx_open_sql. */
void login_sql_target(struct ctx *x, uint8_t protocol, const char *target);

/* --------------------------------------------------------- login_chan.c */
void login_on_chan_open(struct conn *c, const struct sp_msg_chan_open *m);
void chan_end(struct chan *h);
/* ----------------------------------------------------------- login_go.c */
void login_gos_end(struct conn *c);
/* ------------------------------------------------------- login_dialog.c */
/* An owed approval on the channel's terminal. */
void chan_dialogue(struct chan *h);
void chan_dialogue_drop(struct chan *h);
void chan_put(struct chan *h, const char *text);	/* \n becomes CR LF */
/* ------------------------------------------------------- login_prompt.c */
void login_on_prompt(void *arg, struct sp_session *s, const struct sp_prompt *p);
/* The channel whose terminal the target's questions are on; NULL: none. */
struct chan *chan_with_prompt(struct ctx *x);
/* --------------------------------------------------- back in login_chan.c */
void chan_go(struct chan *h);	/* allowed: the session begins */
void chan_refuse(struct chan *h, uint8_t exit_code, const char *text);
void chan_set_state(struct chan *h, enum chan_state s);

#endif
