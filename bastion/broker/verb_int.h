/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_VERB_INT_H
#define SP_BROKER_VERB_INT_H

#include <json-c/json.h>

#include "bastion/broker/broker.h"
#include "bastion/broker/out.h"
#include "bastion/broker/store.h"
#include "bastion/broker/verb.h"

/* What every verb's handler works with. Only the verb files include it. */

#define SP_EXIT_OK 0
#define SP_EXIT_REFUSED 1
#define SP_EXIT_USAGE 2
#define SP_EXIT_LATER 75

/* Who may: anyone logged in is allowed what the row says, nothing more; a
 * handler narrows it further to the rows that are one's own. */
enum sp_verb_who {
	SP_MAY_ANYONE = 1,
	SP_MAY_AUDIT,		/* auditors, administrators, the host */
	SP_MAY_WATCH,		/* auditors and the host: recordings */
	SP_MAY_ADMIN,		/* administrators and the host */
	SP_MAY_HOST,		/* the host alone */
};

struct sp_call;
struct sp_verb {
	const char *name, *sub;	/* sub NULL: the word alone */
	enum sp_verb_who who;
	const char *opts;	/* names; "x=" takes a value; json always */
	size_t min, max;	/* words after name and sub */
	void (*run)(struct sp_call *c);
	const char *args, *help; /* help NULL: not listed */
	bool plays;		/* answered by a player's stream */
	size_t input;		/* bytes of standard input; run at its end */
	bool reads;		/* run at once; input is kept, on_eof tells */
};
extern const struct sp_verb sp_verbs[];
extern const size_t sp_verbs_n;

#define SP_CALL_ROWS 8
struct sp_call {
	struct sp_broker *b;
	struct sp_actor who;
	const struct sp_verb *verb;
	char *block;		/* the words, copied */
	char *words[SP_VERB_ARGS_MAX], *pos[SP_VERB_ARGS_MAX];
	size_t n_words, n_pos;
	struct {
		const char *name, *value;
	} opt[SP_VERB_ARGS_MAX];
	size_t n_opt;
	struct sp_style style;
	bool pty, is_dumb;	/* no terminal, or one that only prints lines */
	uint32_t cols, lines;
	struct sp_conduit *conduit; /* NULL: plays, or the user went away */
	uint32_t chan;
	void (*stream)(void *arg, int fd, uint8_t exit_code, const char *text);
	void *stream_arg;
	bool started, gone, ended;	/* ended: standard input, if it reads */
	struct sp_buf input;

	struct sp_rows *rows[SP_CALL_ROWS];
	size_t n_rows, loading;
	enum sp_err load_err;
	void (*then)(struct sp_call *c);

	void *state;		/* the handler's own, freed by free_state */
	void (*free_state)(void *state);
	/* The user went away while something without an end goes on. The
	 * handler must stop it and call sp_call_end. */
	void (*on_gone)(struct sp_call *c);
	void (*on_eof)(struct sp_call *c);
	void (*on_key)(struct sp_call *c, struct sp_span bytes);
	void (*on_window)(struct sp_call *c, uint32_t cols, uint32_t rows);
};

/* ------------------------------------------------------------- arguments */
bool sp_call_has(const struct sp_call *c, const char *opt);
const char *sp_call_opt(const struct sp_call *c, const char *opt); /* or NULL */
/* The i-th value of an option that may be given often; NULL past the end. */
const char *sp_call_opt_n(const struct sp_call *c, const char *opt, size_t i);
/* --limit: 1 to 10000, 500 without it, as text; false: the call has ended. */
bool sp_call_limit(struct sp_call *c, char t[static 24]);
/* A page that is full says how the next one is asked for (not as JSON). */
void sp_call_more(struct sp_call *c, const struct sp_rows *page,
    const char *verb, const char *last);
/* Splits "account@target"; both must be valid names. */
bool sp_split_ask(const char *s, char account[static SP_NAME_MAX + 1],
    char target[static SP_NAME_MAX + 1]);
bool sp_actor_may_admin(const struct sp_actor *a);
bool sp_actor_may_audit(const struct sp_actor *a); /* see everybody's rows */
bool sp_actor_may_watch(const struct sp_actor *a); /* recordings */

/* --------------------------------------------------------------- output */
void sp_call_out(struct sp_call *c, struct sp_span s);
void sp_call_err(struct sp_call *c, struct sp_span s);
void sp_call_say(struct sp_call *c, const char *fmt, ...) SP_PRINTF(2, 3);
void sp_call_list(struct sp_call *c, const struct sp_list *l, const char *none);
void sp_call_json(struct sp_call *c, json_object *o); /* puts o */

/* Gives the user side its stream; the handler runs when it is open. */
void sp_call_open(struct sp_call *c);
/* Each of these ends the call: it is gone afterwards. */
void sp_call_end(struct sp_call *c, uint8_t exit_code);
void sp_call_fail(struct sp_call *c, uint8_t exit_code, const char *fmt, ...)
    SP_PRINTF(3, 4);
/* Says what an error of the store, vault or supervisor means for the user. */
void sp_call_fail_err(struct sp_call *c, enum sp_err e, const char *what);
/* An action was done: one object with `id`, or a sentence. */
void sp_call_did(struct sp_call *c, const char *id, const char *state,
    const char *fmt, ...) SP_PRINTF(4, 5);
/* Prints a list and ends with 0; frees the list. */
void sp_call_end_list(struct sp_call *c, struct sp_list *l, const char *none);

/* ---------------------------------------------------------------- loading */
/* One thing to load: rows of a sealed table (where), or, when sql is not NULL,
 * a statement on unsealed ones. */
struct sp_need {
	enum sp_table t;
	const char *where, *sql;
	const char *p[6];
	size_t n;
};
/* Loads all at once into c->rows[at...]; then runs `then`, or ends the call
 * with what went wrong. */
void sp_call_load(struct sp_call *c, size_t at, const struct sp_need *needs,
    size_t n, void (*then)(struct sp_call *c));
/* The row with this id, SIZE_MAX if it is not there (or its seal is broken). */
size_t sp_rows_find(const struct sp_rows *r, const char *col, const char *value);
/* A column of the row with that id; "?" when it is missing. */
const char *sp_rows_name(const struct sp_rows *r, const char *id, const char *col);
/* A viewing for this call (sp_session_play's `how`), kept as its state; and the
 * answer to it: the player's stream goes to the caller. */
struct sp_msg_play_start *sp_call_how(struct sp_call *c, uint8_t mode);
void sp_call_played(struct sp_call *c, enum sp_err e, int stream,
    const char *text);
/* Commits; then runs `then`, or ends the call with what went wrong. */
void sp_call_commit(struct sp_call *c, struct sp_change *ch,
    const char *what, void (*then)(struct sp_call *c));
/* JSON text of pairs name, value; NULL-terminated; NULL value is null. */
char *sp_call_detail(const char *name, ...) __attribute__((sentinel));

/* --------------------------------------------------------------- handlers */
#define SP_VERB_HANDLERS(X)                                                   \
	X(help) X(whoami) X(menu) X(status) X(vault_status) X(seals) X(seals_renew)          \
	X(hostkeys) X(ssh_config)                                             \
	X(request) X(requests) X(show) X(approve) X(deny) X(revoke)           \
	X(challenge) X(rule_data) X(rule_store)                               \
	X(secret_reveal) X(reveal_collect)                                    \
	X(glass_list) X(glass_import) X(glass_review) X(glass_store)          \
	X(sessions) X(sessions_show) X(files) X(kill) X(steer) X(held)        \
	X(watch) X(keys_ask) X(keys_list) X(keys_text) X(keys_approve)        \
	X(replay) X(search) X(verify) X(export)                               \
	X(recordings) X(recordings_status) X(recordings_fetch)                \
	X(hold) X(hold_release) X(hold_list) X(retention_plan)                \
	X(log_status) X(log_rows) X(evidence_rows) X(evidence_seal) X(audit) X(audit_verify)                                              \
	X(policy_check) X(policy_load) X(policy_show) X(policy_explain)       \
	X(users_list) X(users_show) X(users_add) X(users_disable)             \
	X(users_enable) X(users_key_add) X(users_key_remove)                  \
	X(users_group_add) X(users_group_remove) X(users_totp_store)          \
	X(targets_list) X(target_show) X(target_add) X(target_remove) X(target_set)          \
	X(target_switch) X(target_setup)                                      \
	X(krl) X(krl_list) X(krl_revoke) X(krl_remove) X(krl_status) X(krl_push)                        \
	X(account_list) X(account_show) X(account_add) X(account_set)        \
	X(account_switch) X(account_remove)                                   \
	X(secret_list) X(secret_show) X(secret_store) X(secret_remove)        \
	X(grants) X(leases) X(account_exclusive)                              \
	X(seals_broken) X(seals_accept) X(seals_drop)                         \
	X(inventory_export) X(inventory_plan) X(inventory_apply)              \
	X(account_rotate) X(account_rotation) X(account_set_rotation)         \
	X(target_reconcile) X(restored)
#define SP_VERB_HANDLER_DECL(name) void sp_verb_##name(struct sp_call *c);
SP_VERB_HANDLERS(SP_VERB_HANDLER_DECL)
#undef SP_VERB_HANDLER_DECL

/* The fingerprints of lines "algo base64", separated by spaces. */
void sp_target_fingerprints(const char *lines, char *dst, size_t cap);
/* The account c->pos[0]: rows 0 its target, 1 itself, 2 all versions of its
 * secret (the newest first), 3 targets that it leads to, 4 its rotation. */
void sp_account_load(struct sp_call *c, void (*then)(struct sp_call *c));
void sp_account_drop_secrets(const struct sp_call *c, struct sp_change *ch);
/* One account is in rows 1; else the call has ended. */
bool sp_account_found(struct sp_call *c, uint8_t id[static 16]);
/* "{a,b}" and a NUL, for = ANY($1::text[]). */
void sp_actor_group_array(const struct sp_actor *a, struct sp_buf *b);
/* The channel of a verb that goes on as a session: nothing is written any more,
 * the conduit hands over, the call ends. */
void sp_call_handover(struct sp_call *c);
/* What one can reach, in lines; and on a terminal. */
void sp_menu_lines(struct sp_call *c);
void sp_menu_run(struct sp_call *c);

/* "totp", as people know it. */
const char *sp_mfa_name(uint8_t mfa);
/* Shows a session by prefix: the rest of `show`. */
void sp_verb_show_session(struct sp_call *c, const char *prefix);
/* SHA-256 as lower-case hexadecimal. */
void sp_sha256_text(char t[static 65], struct sp_span s);

#endif
