/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_SESSION_H
#define SP_BROKER_SESSION_H

#include "bastion/broker/approval.h"

/*
 * A session, from an allowing judgement to its end: session row, recorder with
 * its OPEN record on disk, dial, lease, login at the target, relay. Its state
 * changes in one function only; each state has a deadline.
 */
struct sp_session;
/* Words of a target, or (target NULL) of the bastion about it: untrusted text of
 * the target, to be encoded by whoever shows it. */
struct sp_prompt {
	const char *target, *title, *prompt;	/* each may be NULL */
	bool asks, echo;
};
struct sp_session_ops {
	/* The login at the target asks what its lease does not answer: then
	 * sp_session_answer, now or later. asks false: it is only shown. */
	void (*on_prompt)(void *arg, struct sp_session *s,
	    const struct sp_prompt *p);
	/* The login at the target is done. stream: the ingress side's
	 * descriptor, owned by the callee. */
	void (*on_ready)(void *arg, struct sp_session *s, int stream);
	/* For the user of one that is live, when its own stream cannot say it;
	 * NULL: nobody is told. */
	void (*on_note)(void *arg, struct sp_session *s, const char *text);
	/* It could not begin (text says why, for the user), or it is over. */
	void (*on_end)(void *arg, struct sp_session *s, uint8_t end_code,
	    const char *text);
};
/* grant: nil where the policy asks for no approval. ends_us: when it must end
 * at the latest. Judges again right before the lease. */
struct sp_session *sp_session_begin(struct sp_broker *b,
    const struct sp_actor *who, const struct sp_ask *ask,
    const struct sp_judgement *j, const struct sp_session_ops *ops, void *arg);
/* ok false: nobody can or wants to answer. */
void sp_session_answer(struct sp_session *s, bool ok, const char *text);
/* The user side is gone (its owner forgets it): the session ends by itself
 * when the recorder sees the end of the stream. */
void sp_session_forget(struct sp_session *s);
/* Ends it within two seconds, whatever its processes do. */
void sp_session_end(struct sp_session *s, uint8_t end_code, const char *text);
struct sp_session *sp_session_find(struct sp_broker *b,
    const uint8_t id[static 16]);
/* By unambiguous prefix of its text form, at least 4 characters; running
 * sessions only. */
struct sp_session *sp_session_find_prefix(struct sp_broker *b, const char *prefix);
const uint8_t *sp_session_id(const struct sp_session *s);
const uint8_t *sp_session_person_id(const struct sp_session *s);
/* It could not begin because somebody else holds the account. */
bool sp_session_is_held(const struct sp_session *s);
/* Ends all sessions under a grant, of a person, or on a target (nil: any). */
size_t sp_session_end_where(struct sp_broker *b, const uint8_t *grant,
    const uint8_t *person, const uint8_t *target, uint8_t end_code,
    const char *text);
/* Running sessions are judged again (policy, people, grants changed; every 30
 * s). While the database is away they neither end nor extend. */
void sp_session_judge_all(struct sp_broker *b);
/* At start: rows that still say running are recovered (supervisor's recover),
 * closed with RECOVERED, and audited. */
void sp_session_recover_all(struct sp_broker *b);

/* ---- a second person: doc/watching.md. What waits at its recorder. */
#define SP_HELD_SLOTS 2		/* the user's stream; a file */
struct sp_held {
	uint64_t number;	/* 0: nothing */
	uint8_t kind;		/* enum sp_held_kind */
	int64_t since_us;
	char text[1025];	/* encoded; of a line empty */
};
/* Bytes may pass: what follows has an effect. */
bool sp_session_is_live(const struct sp_session *s);
bool sp_session_is_frozen(const struct sp_session *s);
const char *sp_session_person(const struct sp_session *s);
const char *sp_session_where(const struct sp_session *s); /* account@target */
const struct sp_held *sp_session_held(const struct sp_session *s, size_t slot);
typedef void (*sp_held_cb)(void *arg, const struct sp_session *s,
    const struct sp_held *h);
void sp_session_each_held(struct sp_broker *b, sp_held_cb cb, void *arg);
/* deed: enum sp_steer. The caller has judged who, and writes it down. */
void sp_session_steer(struct sp_session *s, uint8_t deed, uint64_t number,
    const char *who, const char *text);
/* A deed that is written down: release and the like, or a note (steer 0). */
struct sp_deed {
	const char *verb, *event;
	uint8_t steer;		/* enum sp_steer; 0: a note */
	bool decides;		/* something that waits */
	const char *state, *did;
};
/* The caller has judged who. text: the note, or why; may be NULL. */
void sp_session_deed(struct sp_session *s, const char *who,
    const struct sp_deed *d, uint64_t number, const char *text);
void sp_session_times(const struct sp_session *s, int64_t *since_us,
    int64_t *ends_us);
const char *sp_session_end_text(const struct sp_session *s);
/* What the bastion says, onto the user's terminal and into the record. */
void sp_session_say(struct sp_session *s, const char *text);
/* Onto the user's terminal and into the record. */
void sp_session_note(struct sp_session *s, const char *who, const char *text);

/* A viewer: replay, verify, export. The stream goes to the ingress or the CLI.
 * Audited before the first byte is shown. Of `how` the caller fills mode, speed,
 * at_us, idle_us and json; the rest is filled here. cb is called exactly once:
 * SP_OK with the user side's stream (owned by the callee), else stream -1 and
 * text, e.g. SP_ERR_NOTFOUND for a recording whose file is missing,
 * SP_ERR_DENIED. What the player found at its end goes to the audit. */
typedef void (*sp_play_cb)(void *arg, enum sp_err e, int stream, const char *text);
void sp_session_play(struct sp_broker *b, const struct sp_actor *who,
    const uint8_t session[static 16], const struct sp_msg_play_start *how,
    sp_play_cb cb, void *arg);
/* To the player of the viewing that was begun with this arg and still goes on. */
void sp_session_play_live(struct sp_broker *b, const void *arg,
    const uint8_t session[static 16], const struct sp_msg_play_live *m);
/* The same with what play_rows carries (mode TIMELINE), which is copied; more:
 * there were rows that did not fit. */
#define SP_PLAY_ROWS_MAX 61440u
void sp_session_play_rows(struct sp_broker *b, const struct sp_actor *who,
    const uint8_t session[static 16], const struct sp_msg_play_start *how,
    struct sp_span rows, bool more, sp_play_cb cb, void *arg);

/* Connects to addr (numeric) only to read its host key, as an SSH public key
 * blob; for target add --scan. host_key is borrowed for the callback, which is
 * called exactly once. */
typedef void (*sp_scan_cb)(void *arg, enum sp_err e, struct sp_span host_key,
    const char *text);
void sp_session_scan(struct sp_broker *b, const char *addr, uint16_t port,
    bool legacy, sp_scan_cb cb, void *arg);

#endif
