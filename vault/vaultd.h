/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_VAULTD_H
#define SP_VAULT_VAULTD_H

#include <sys/types.h>

#include "common/ipc.h"
#include "common/sandbox.h"
#include "vault/front.h"
#include "vault/ceremony.h"
#include "vault/lease.h"
#include "vault/loghead.h"
#include "vault/play.h"
#include "vault/release.h"
#include "vault/root.h"
#include "vault/totp.h"

/*
 * The vault process: one poll loop, bounded tables, no file, no network and no
 * database once it runs.
 *
 *   main.c     start, sandbox, `init` and `pubkeys`
 *   loop.c     the loop; the supervisor's link
 *   broker.c   v_*: requests of the broker
 *   loghead.c  v_log_*: the head of the transparency log, asked by the notary
 *   control.c  vc_*: the administrator on the host
 *   syscalls.c what it may ask of the kernel, and why
 *
 *   control_slots.c  slots: listed, added, removed
 *   ceremony.c       shares are collected
 *   epochs.c         new epochs of keys, rows and secrets follow
 *   storekey.c       the key of the store, for sallyport-ship
 *
 * The state file is read once at start and kept: sealing and unsealing need no
 * file. It is replaced when a slot or an epoch comes or goes, below the one
 * directory that it keeps a descriptor of; where the kernel has Landlock,
 * nothing outside of it can be opened. Sealed, every request is refused with
 * SP_ERR_SEALED.
 *
 * Who may use the control socket: uid 0, and the owner of the directory above
 * ours (the instance's), by SO_PEERCRED. Not our own uid: a second process of
 * the vault's user has no business here. While shares are collected anybody on
 * this machine may give one, and do nothing else (is_guest).
 */
#define SP_CONTROLS_MAX 16
#define SP_CONTROL_IDLE_US 60000000
#define SP_EVENTS_MAX 256	/* kept while no broker is there */

#define SP_GUESTS_MAX 8
#define SP_GUESTS_OF_UID 2
#define SP_BAD_SHARES_MAX 8	/* of one link, then it is closed */
#define SP_STRANGERS_MAX 32	/* remembered */

struct sp_control {
	struct sp_link link;
	uid_t uid;
	bool is_guest;
	uint64_t serial;	/* never given twice */
	unsigned n_bad;
	int64_t due_us;
};

/* What is remembered of a stranger for a minute: wrong shares, of all links of
 * that user (too many: no link is taken), and that a refusal was told of. */
struct sp_stranger {
	uid_t uid;
	unsigned n_bad;
	bool is_told;
	int64_t since_us;	/* 0: free */
};

struct sp_event {
	char what[65], detail[513];
	uint8_t session[16];
};

struct sp_vaultd {
	struct sp_state state, draft;	/* draft: the next one, being made */
	int dir_fd;			/* -1: nothing can be written */
	struct sp_ceremony ceremony;
	uint64_t next_serial;
	struct sp_stranger strangers[SP_STRANGERS_MAX];
	const char *state_fault;	/* NULL: `state` is there */
	bool is_demo;			/* a demo key file was found */
	bool has_told_keys;		/* the supervisor, our public ones */
	struct sp_root root;
	struct sp_leases *leases;
	struct sp_plays *plays;
	struct sp_totp_spent *spent;
	struct sp_releases *releases;
	struct sp_reveal *reveals;	/* reveal.c */
	struct sp_kit_making *kit;	/* kit.c */
	struct sp_fronts *fronts;
	struct sp_link sup, brk, nty, shp;
	struct sp_loghead loghead;
	int listen_fd;
	uid_t owner;
	struct sp_control ctl[SP_CONTROLS_MAX];
	size_t n_ctl;
	struct sp_event events[SP_EVENTS_MAX];
	size_t n_events;
	bool stop;
};

SP_MUST enum sp_err sp_vaultd_init(struct sp_vaultd *v);
void sp_vaultd_fini(struct sp_vaultd *v);
/* Reads state and demo key from the directory and keeps a descriptor of it;
 * never fails: what is missing or
 * broken is in state_fault, and the vault stays sealed. */
void sp_vaultd_load(struct sp_vaultd *v, int dirfd);
/* SP_ERR_STATE when open already; SP_ERR_NOTFOUND without a state file. */
SP_MUST enum sp_err sp_vaultd_unseal(struct sp_vaultd *v,
    struct sp_span passphrase);
/* The same with the bytes of a credential (type: enum sp_slot_type). */
SP_MUST enum sp_err sp_vaultd_unseal_key(struct sp_vaultd *v, uint8_t type,
    struct sp_span bytes);
/* Opens with the root key that a slot gave; takes it. */
SP_MUST enum sp_err sp_vaultd_open_with(struct sp_vaultd *v,
    struct sp_secret *root);
/* Wipes every key; leases that were not used and players end. */
void sp_vaultd_seal(struct sp_vaultd *v);
/* Logs and tells the broker, or keeps it until there is one. session may be
 * NULL; detail is untrusted text. */
void sp_vaultd_event(struct sp_vaultd *v, const char *what,
    const uint8_t *session, const char *detail);

/* One turn: waits at most timeout_ms for something, serves it. SP_ERR_EOF: the
 * supervisor is gone or said stop. */
SP_MUST enum sp_err sp_vaultd_turn(struct sp_vaultd *v, int timeout_ms);

/* broker.c: a new link; what came on it. An error drops the link. */
void sp_broker_attach(struct sp_vaultd *v, int fd);
void sp_broker_drop(struct sp_vaultd *v);
SP_MUST enum sp_err sp_broker_serve(struct sp_vaultd *v);
/* loghead.c: the same of the notary. */
void sp_notary_attach(struct sp_vaultd *v, int fd);
void sp_notary_drop(struct sp_vaultd *v);
SP_MUST enum sp_err sp_notary_serve(struct sp_vaultd *v);
/* The draft: signed, written, and only then our state. SP_ERR_SEALED, SP_ERR_IO,
 * SP_ERR_FULL: the old one stands, in memory and on disk. */
SP_MUST enum sp_err sp_vaultd_save(struct sp_vaultd *v);
/* control.c */
void sp_control_note(struct sp_vaultd *v, const struct sp_control *c,
    const char *what, const char *how);
SP_MUST enum sp_err sp_control_done(struct sp_control *c, uint64_t corr,
    enum sp_err e, const char *text);
/* control_slots.c: SP_ERR_PROTO ends the link */
SP_MUST enum sp_err sp_control_slots(struct sp_vaultd *v, struct sp_control *c,
    struct sp_packet *p);
/* epochs.c */
SP_MUST enum sp_err sp_control_rotate(struct sp_vaultd *v, struct sp_control *c,
    struct sp_packet *p);
SP_MUST enum sp_err sp_broker_rewrap(struct sp_vaultd *v, struct sp_packet *p);
SP_MUST enum sp_err sp_broker_row_renew(struct sp_vaultd *v, struct sp_packet *p);
void sp_control_accept(struct sp_vaultd *v);
/* A wrong share, or what is no message: false when it was one too many. */
bool sp_control_bad_share(struct sp_vaultd *v, struct sp_control *c);
void sp_control_add(struct sp_vaultd *v, int fd, uid_t uid);
/* false: drop it */
bool sp_control_serve(struct sp_vaultd *v, struct sp_control *c);

/* release_calls.c: what broker.c and control.c hand on */
SP_MUST enum sp_err sp_on_challenge(struct sp_vaultd *v, struct sp_packet *p);
SP_MUST enum sp_err sp_on_approval(struct sp_vaultd *v, struct sp_packet *p);
SP_MUST enum sp_err sp_on_rule_set(struct sp_vaultd *v, struct sp_control *c,
    struct sp_packet *p);
/* reveal.c: a credential that is to be shown waits here for a minute. */
SP_MUST enum sp_err sp_on_reveal_ready(struct sp_vaultd *v, struct sp_packet *p);
SP_MUST enum sp_err sp_on_reveal(struct sp_vaultd *v, struct sp_control *c,
    struct sp_packet *p);
void sp_reveals_drop(struct sp_vaultd *v, int64_t boot_us); /* INT64_MAX: all */
int64_t sp_reveals_due_us(const struct sp_vaultd *v);
/* kit.c: break-glass kits */
SP_MUST enum sp_err sp_on_kit_begin(struct sp_vaultd *v, struct sp_control *c,
    struct sp_packet *p);
SP_MUST enum sp_err sp_on_kit_add(struct sp_vaultd *v, struct sp_control *c,
    struct sp_packet *p);
SP_MUST enum sp_err sp_on_kit_end(struct sp_vaultd *v, struct sp_control *c,
    struct sp_packet *p);
void sp_kit_drop(struct sp_vaultd *v, int64_t boot_us);

/* A message's body held a secret: wipes it in the receive buffer. */
void sp_packet_wipe(struct sp_link *l, const struct sp_packet *p);

#endif
