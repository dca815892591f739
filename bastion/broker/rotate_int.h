/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_ROTATE_INT_H
#define SP_BROKER_ROTATE_INT_H

#include "bastion/broker/approval_way.h"
#include "bastion/broker/flow.h"
#include "bastion/broker/rotate.h"
#include "bastion/broker/session_int.h"
#include "bastion/broker/vault.h"

/* A version of a secret, as its row says it. */
struct rot_secret {
	bool is_there;
	uint8_t id[16], kind;
	uint64_t ver, version;	/* of the row; in its seal */
	struct sp_rows *rows;	/* the row, for an update */
	size_t row;
	struct sp_buf sealed;
};

/* What a session of a rotation is for. */
struct rot_login {
	uint8_t account[16];
	const struct rot_secret *with;	/* NULL: a certificate */
	const char *program;	/* NULL: to log in is all */
	const char *whose;	/* the account that it is set for */
	const struct rot_secret *old, *new;	/* for the program */
};

enum rot_result {
	ROT_BROKEN,		/* unknown: unreachable, lost, no vault */
	ROT_OK,
	ROT_REFUSED,		/* the target does not take the credential */
	ROT_FAILED,		/* logged in, but the program did not do it */
};

enum rot_state {
	ROT_LOAD, ROT_CLAIM, ROT_PROBE_NEW, ROT_PROBE_OLD, ROT_MAKE, ROT_SET,
	ROT_FLIP, ROT_GIVE_UP, ROT_OVER,
};

struct sp_rotation_run {
	struct sp_rotation_run *next;
	struct sp_broker *b;
	struct sp_rotation_ops ops;
	void *arg;
	bool is_owned, force;
	unsigned refs;
	enum rot_state state;
	char why[128], fail[400];
	/* the rows */
	uint8_t account[16];
	struct sp_rows *accounts, *targets, *secrets, *rotations, *helpers;
	uint64_t rotation_ver;	/* 0: there is no row yet */
	struct sp_ask ask, helper;
	bool has_helper;	/* the target's reconcile account */
	int64_t failures;
	bool was_out_of_sync;
	/* the secrets */
	struct rot_secret old, new, helper_secret;
	struct rot_secret bad;	/* a candidate that was none */
	uint64_t last_version;
	uint8_t tag[32];
	struct sp_buf public_key;
	/* how it goes */
	bool has_set;		/* this run told the target of the candidate */
	bool by_helper, old_is_refused, new_is_refused, new_is_bad;
	unsigned tries;
	struct sp_rotation_login *login;
	struct event *timer;
};

/* What could not even begin (a broken row, a disabled target) is not asked for
 * again each second. */
#define ROT_PUT_OFF 256
struct rot_put_off {
	uint8_t account[16];
	int64_t until_us;	/* boot clock */
};

struct sp_rotations {
	struct sp_rotation_run *list;
	struct rot_put_off off[ROT_PUT_OFF];
	size_t next_off;
	size_t n;
	struct event *tick;
	bool is_asking;
};

/* ------------------------------------------------------------ rotate_login.c */
/* A session that logs in as `ask` says and runs the program; cb once, from the
 * loop. text: what went wrong, encoded for people. */
typedef void (*rot_login_cb)(void *arg, enum rot_result result,
    const char *text);
struct sp_rotation_login *rot_login_begin(struct sp_broker *b,
    const struct sp_ask *ask, const struct rot_login *what, rot_login_cb cb,
    void *arg);
/* ------------------------------------------------------------- rotate_rows.c */
void rot_load(struct sp_rotation_run *r);	/* then rot_loaded, or rot_stop */
void rot_claim(struct sp_rotation_run *r);	/* then rot_claimed */
void rot_make(struct sp_rotation_run *r);	/* then rot_made */
void rot_write_flip(struct sp_rotation_run *r);	/* then rot_flipped */
void rot_write_failure(struct sp_rotation_run *r, bool out_of_sync);
void rot_secret_fini(struct rot_secret *s);
/* ---------------------------------------------------------------- rotate_run.c */
void rot_hold(struct sp_rotation_run *r);
void rot_release(struct sp_rotation_run *r);
void rot_step(struct sp_rotation_run *r, const char *step, const char *text);
void rot_stop(struct sp_rotation_run *r, enum sp_err e, const char *text);
void rot_give_up(struct sp_rotation_run *r, const char *text); /* claimed */
void rot_loaded(struct sp_rotation_run *r);
void rot_claimed(struct sp_rotation_run *r);
void rot_made(struct sp_rotation_run *r);
void rot_flipped(struct sp_rotation_run *r, enum sp_err e);

#endif
