/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_BROKER_H
#define SP_BROKER_BROKER_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/config.h"
#include "common/ipc.h"
#include "common/log.h"
#include "common/stream.h"

/*
 * The broker: one event loop that never blocks. Rooms of this folder:
 *   peer.*      links and streams on the event loop
 *   vault.*     requests to the vault, matched to their replies
 *   db.*        asynchronous libpq, a deadline on every statement
 *   store.*     sealed rows: read, checked, written; the audit chain
 *   ledger.*    leaves of the transparency log, until the notary has them
 *   login.*     a connection: keys, second factor, inner logins, channels
 *   approval.*  requests, decisions, grants; who waits for what
 *   rotate*     the secrets of accounts, changed at their targets
 *   session.*   a session from policy to its end; expiry, revocation, kill
 *   verb*.*     what people type; out.* how it is printed
 *   control.*   the control socket of the host
 */
struct sp_store;
struct sp_vault;
struct sp_policy;
struct sp_logins;
struct sp_approvals;
struct sp_sessions;
struct sp_rotations;
struct sp_krlpushes;
struct sp_ledger;
struct sp_shipping;
struct sp_retention;
struct sp_peer;

struct sp_broker {
	struct event_base *ev;
	struct sp_config cfg;
	char node[64];
	char host_key[1025];		/* of the front: a line of a .pub file */
	struct sp_peer *sup;		/* the supervisor */
	struct sp_vault *vault;
	struct sp_store *store;
	int heads_fd, reserve_fd;	/* its own files; 0: none */
	struct sp_policy *policy;	/* NULL: nothing is allowed */
	char policy_hash[65];
	struct sp_logins *logins;
	struct sp_approvals *approvals;
	struct sp_sessions *sessions;
	struct sp_rotations *rotations;
	struct sp_krlpushes *krlpushes;
	struct sp_ledger *ledger;
	struct sp_shipping *shipping;
	struct sp_retention *retention;
	uint64_t packets;		/* from all peers */
	bool stopping;
};

/* Who acts: a person over SSH, or the administrator on the host (uid by
 * SO_PEERCRED; person is nil). Copied by value; names are valid names. */
struct sp_actor {
	bool is_host;
	uint32_t host_uid;
	uint8_t person[16];
	char name[64];			/* "alice"; on the host "root@host" */
	char addr[64];			/* where from; "local" on the host */
	char groups[32][SP_NAME_MAX + 1];
	size_t n_groups;
	uint8_t key[16];		/* the row of the key that signed */
	uint64_t conn;			/* the connection it speaks on; 0: none */
	bool more_groups;		/* there are others that are not in here */
	uint8_t mfa;			/* enum sp_mfa of policy/policy.h */
};
bool sp_actor_in(const struct sp_actor *a, const char *group);
/* One group more. What does not fit or is no name is not forgotten: more_groups. */
void sp_actor_no_groups(struct sp_actor *a);
void sp_actor_add_group(struct sp_actor *a, struct sp_span group);
/* After a change of ours to people, keys, groups, targets, accounts, grants or
 * the policy: the newest policy is loaded, what runs is judged again, waiters
 * are told. (Other nodes get there by NOTIFY.) main.c */
void sp_broker_changed(struct sp_broker *b);
/* Menus that are open look again at what can be reached. menu.c */
void sp_menus_changed(struct sp_broker *b);
/* Reserved groups: who may read all sessions, who may change the inventory. */
#define SP_GROUP_AUDITORS "auditors"
#define SP_GROUP_ADMINS "administrators"

/* ------------------------------------------------------------------ peers
 * A link on the event loop. on_packet owns the packet's descriptors. on_end is
 * called once, from the loop, when the peer is gone or broke the protocol
 * (`fault` then is not empty); the peer is freed after it returns. */
struct sp_peer {
	struct sp_link link;
	struct event *ev_read, *ev_write;
	void (*on_packet)(struct sp_peer *p, struct sp_packet *k, void *arg);
	void (*on_end)(struct sp_peer *p, const char *fault, void *arg);
	void *arg;
	bool dead;
	struct sp_broker *b;
};
struct sp_peer *sp_peer_new(struct sp_broker *b, int fd, uint32_t role,
    uint32_t state, void (*on_packet)(struct sp_peer *, struct sp_packet *, void *),
    void (*on_end)(struct sp_peer *, const char *, void *), void *arg);
/* Reads what has arrived already: a process that has ended may have spoken. */
void sp_peer_drain(struct sp_peer *p);
/* Closes and frees later, without calling on_end. */
void sp_peer_drop(struct sp_peer *p);
/* After any sp_send_*(&p->link, ...): arms the write event, and ends the peer
 * if e says that it is gone. Usage: sp_peer_sent(p, sp_send_x(&p->link, ...)) */
void sp_peer_sent(struct sp_peer *p, enum sp_err e);

/* A stream on the event loop: verbs and dialogues write to it as the target
 * side (stdout lane 1, stderr lane 2) and read what the user types (lane 0). */
struct sp_conduit;
struct sp_conduit_ops {
	void (*on_open)(void *arg, uint32_t chan, const struct sp_open *o);
	void (*on_input)(void *arg, uint32_t chan, struct sp_span bytes);
	void (*on_eof)(void *arg, uint32_t chan);
	void (*on_window)(void *arg, uint32_t chan, uint32_t cols, uint32_t rows);
	void (*on_end)(void *arg);	/* the user side went away; free later */
};
struct sp_conduit *sp_conduit_new(struct sp_broker *b, int fd,
    const struct sp_conduit_ops *ops, void *arg);
/* Writes text; credit is kept inside: what exceeds it waits (at most 8 MiB,
 * then the viewer is dropped). */
void sp_conduit_write(struct sp_conduit *c, uint32_t chan, uint8_t lane,
    struct sp_span bytes);
/* Bytes that the user side has not taken. */
size_t sp_conduit_waiting(const struct sp_conduit *c);
/* EOF, EXIT_STATUS, CLOSE, then the conduit is freed when all is written. */
void sp_conduit_finish(struct sp_conduit *c, uint32_t chan, uint32_t exit_status);
/* HANDOVER, then freed when written: the channel goes on elsewhere. */
void sp_conduit_handover(struct sp_conduit *c, uint32_t chan);
void sp_conduit_drop(struct sp_conduit *c); /* at once, no callback */
/* Each holds a descriptor until its viewer has gone: a connection may have
 * only so many. */
void sp_conduit_set_owner(struct sp_conduit *c, uint64_t conn);
size_t sp_conduits_of(uint64_t conn);

#endif
