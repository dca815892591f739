/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_CLI_H
#define SP_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/config.h"
#include "common/ipc.h"
#include "common/stream.h"

/*
 * `sallyport` on the host: what needs the instance's directory is done here,
 * everything else is a verb of the broker. Exit statuses are the verbs' own: 0
 * done, 1 refused, 2 usage, 75 try again later.
 *
 *   main.c    which of them            link.c    the control sockets
 *   relay.c   a verb's stream          exec.c    other programs, other users
 *   init.c    a new instance           layout.c  its directories and users
 *   pg.c      the embedded PostgreSQL  start.c   start, stop
 *   status.c  status                   doctor.c  doctor
 *   vault.c   vault, totp, secrets     qr.c      a QR code in a terminal
 *   slots.c   slots of the vault       ceremony.c  shares are given
 *   rotate.c  new keys of the vault    token.c   a slot of a PKCS#11 token
 */
#define SP_EXIT_OK 0
#define SP_EXIT_REFUSED 1
#define SP_EXIT_USAGE 2
#define SP_EXIT_LATER 75

struct sp_cli {
	char dir[3072];		/* absolute */
	bool json;
};

/* Says "sallyport: ..." on standard error; returns code. */
int sp_cli_fail(int code, const char *fmt, ...) SP_PRINTF(2, 3);
/* A progress line on standard error. */
void sp_cli_step(const char *fmt, ...) SP_PRINTF(1, 2);
/* "DIR/rest"; ends the program if that is too long for any system. */
void sp_cli_path(const struct sp_cli *c, char dst[static 4096], const char *rest);
/* Takes `--name VALUE`, `--name=VALUE` or `--name` out of argv. */
bool sp_cli_flag(int *argc, char **argv, const char *name);
const char *sp_cli_value(int *argc, char **argv, const char *name);
/* A whole small file; SP_ERR_TOOBIG beyond out->max. */
SP_MUST enum sp_err sp_cli_read(const char *path, struct sp_buf *out);
SP_MUST enum sp_err sp_cli_read_fd(int fd, struct sp_buf *out);
/* The instance's configuration; says what is wrong. */
SP_MUST enum sp_err sp_cli_config(const struct sp_cli *c, struct sp_config *cfg);

/* -------------------------------------------------------------------- exec */
struct sp_who {			/* a system user; uid 0 and no name: nobody else */
	char name[40];
	uid_t uid;
	gid_t gid;
};
struct sp_run {
	const char *const *argv; /* argv[0] is an absolute path */
	const struct sp_who *as; /* NULL: as we are */
	int in;			/* a descriptor above 2; else /dev/null */
	const char *cwd;	/* entered as we are; NULL: / */
	struct sp_buf *out;	/* standard output; NULL: our standard error */
	bool quiet;		/* standard output and error are dropped */
	int out_fd;		/* standard output, above 2, without `out` */
};
/* fork and execv; waits. The exit status, or -1 when it could not be run. */
int sp_cli_run(const struct sp_run *r);
/* Finds a program of ours: $SALLYPORT_LIBEXEC, beside this one, installed. */
bool sp_cli_find(const char *name, char dst[static 4096]);
/* Of PostgreSQL: initdb, pg_ctl, psql, createdb. */
bool sp_cli_find_pg(const char *name, char dst[static 4096]);
/* sql/ with the migrations; pam_sallyport.so. */
bool sp_cli_find_sql(char dst[static 4096]);
bool sp_cli_find_pam(char dst[static 4096]);

/* -------------------------------------------------------------------- link */
/* Connects to DIR/run/NAME. SP_ERR_NOTFOUND: nobody listens there. */
SP_MUST enum sp_err sp_cli_connect(const struct sp_cli *c, const char *name,
    uint32_t peer, uint32_t state, struct sp_link *l);
/* Runs a verb of the broker. in: a descriptor for its standard input, -1 none.
 * capture: standard output goes there instead; its exit status. */
int sp_cli_verb(const struct sp_cli *c, int argc, char *const *argv, int in,
    struct sp_buf *capture);
/* What is to be known about our terminal; env keeps what open points to. */
SP_MUST enum sp_err sp_cli_our_open(struct sp_open *o, bool capture,
    struct sp_buf *env);
/* The user side of a verb's stream until it ends; takes fd. */
int sp_cli_relay(int fd, const struct sp_open *open, int in,
    struct sp_buf *capture, bool raw);

/* ------------------------------------------------------------------ layout */
enum sp_cli_user { SP_U_INGRESS, SP_U_EGRESS, SP_U_SQL, SP_U_AUTH,
	SP_U_BROKER, SP_U_VAULT, SP_U_RECORDER, SP_U_PLAYER, SP_U_DB,
	SP_U_TOKEN, SP_U_SCRIBE, SP_U_NOTARY, SP_U_WITNESS, SP_U_SHIP,
	SP_U_COUNT };
/* Fills *w; without root it is the caller. SP_ERR_NOTFOUND: no such user. */
SP_MUST enum sp_err sp_cli_user(enum sp_cli_user u, struct sp_who *w);
const char *sp_cli_user_name(enum sp_cli_user u);
/* Makes the users that are missing. */
SP_MUST enum sp_err sp_cli_make_users(void);
/* Can this user reach the directory? If not, *bad is the part that bars. */
bool sp_cli_can_reach(const struct sp_who *w, const char *dir,
    char bad[static 4096]);
struct sp_layout_row {
	const char *path;	/* below DIR; "." is DIR */
	bool is_dir;
	mode_t mode;
	int user;		/* enum sp_cli_user, or -1: the supervisor's */
	bool embedded_only;
};
extern const struct sp_layout_row sp_layout[];
extern const size_t sp_layout_n;
SP_MUST enum sp_err sp_cli_make_dirs(const struct sp_cli *c, bool embedded);
/* Writes a new file of the layout. */
SP_MUST enum sp_err sp_cli_write(const struct sp_cli *c, const char *name,
    struct sp_span text);
/* Removes everything below DIR (not DIR). */
void sp_cli_clear(const struct sp_cli *c);

/* ---------------------------------------------------------------------- pg */
/* The embedded cluster. Each says what failed. */
SP_MUST enum sp_err sp_pg_make(const struct sp_cli *c);
SP_MUST enum sp_err sp_pg_start(const struct sp_cli *c);
bool sp_pg_is_running(const struct sp_cli *c);
SP_MUST enum sp_err sp_pg_stop(const struct sp_cli *c);
/* Applies the migrations that are missing. conninfo NULL: the embedded one. */
SP_MUST enum sp_err sp_pg_migrate(const struct sp_cli *c, const char *conninfo);
/* One statement, its one value in out (trimmed). */
SP_MUST enum sp_err sp_pg_ask(const struct sp_cli *c, const char *conninfo,
    const char *sql, char *out, size_t cap);
void sp_pg_socket_dir(const struct sp_cli *c, char dst[static 4096]);
SP_MUST enum sp_err sp_pg_need_database(const struct sp_cli *c);
/* The statements of a file, as the superuser. */
SP_MUST enum sp_err sp_pg_script(const struct sp_cli *c, const char *conninfo,
    int fd);
/* pg_dump of our schema to a descriptor, and back; the exit status. */
int sp_pg_dump(const struct sp_cli *c, const char *conninfo, int out);
int sp_pg_restore(const struct sp_cli *c, const char *conninfo, int in);
/* The newest migration that is on disk. */
int sp_pg_newest(void);

/* init.c: the empty directory of a new instance, its users and directories. */
struct sp_new_dir {
	bool made_dir, made_any;
};
SP_MUST enum sp_err sp_cli_new_dir(struct sp_cli *c, bool embedded,
    struct sp_new_dir *n);
/* Removes what was made; the database is stopped. */
void sp_cli_new_undo(const struct sp_cli *c, const struct sp_new_dir *n);
bool sp_cli_take_dir(struct sp_cli *c, const char *dir);

/* ------------------------------------------------------------------- verbs */
int sp_cmd_init(struct sp_cli *c, int argc, char **argv);
int sp_cmd_start(struct sp_cli *c, int argc, char **argv);
int sp_cmd_reload(struct sp_cli *c, int argc, char **argv);
int sp_cmd_stop(struct sp_cli *c, int argc, char **argv);
int sp_cmd_status(struct sp_cli *c, int argc, char **argv);
int sp_cmd_doctor(struct sp_cli *c, int argc, char **argv);
int sp_cmd_repair(const struct sp_cli *c, int argc, char **argv);
/* The rows that are not as the bastion left them; NULL: it was not said. */
struct json_object *sp_cli_broken_rows(const struct sp_cli *c);
int sp_cmd_vault(struct sp_cli *c, int argc, char **argv);
int sp_cmd_slots(struct sp_cli *c, int argc, char **argv);
int sp_cmd_rotate(struct sp_cli *c, int argc, char **argv);
int sp_cmd_share(struct sp_cli *c, int argc, char **argv);
int sp_cmd_users(struct sp_cli *c, int argc, char **argv);
int sp_cmd_account(struct sp_cli *c, int argc, char **argv);
int sp_cmd_glass(struct sp_cli *c, int argc, char **argv);
int sp_cmd_reveal(struct sp_cli *c, int argc, char **argv);
int sp_cmd_rule(struct sp_cli *c, int argc, char **argv);
int sp_cmd_verify_file(struct sp_cli *c, int argc, char **argv);
int sp_cmd_verify_all(struct sp_cli *c, int argc, char **argv);
int sp_cmd_log(struct sp_cli *c, int argc, char **argv);
int sp_cmd_evidence(struct sp_cli *c, int argc, char **argv);
/* The audit key, from the vault that runs here. */
int sp_cli_audit_key(const struct sp_cli *c, char hex[static 65]);
/* The supervisor's pid while it runs, 0 otherwise; *pidfd if not NULL. */
pid_t sp_cli_daemon(const struct sp_cli *c, int *pidfd);

/* front.c: the names of the key exchanges that the front offers, as a client
 * sees them; false if it does not answer, or listens elsewhere. */
bool sp_cli_front_kex(const struct sp_config *cfg, char *names, size_t cap);
/* After an unseal: the first policy can be loaded now. */
void sp_cli_unsealed(const struct sp_cli *c);
/* Prints a QR code in half blocks. */
SP_MUST enum sp_err sp_cli_qr(const char *text);
/* One line, from the terminal without echo or from standard input. */
SP_MUST enum sp_err sp_cli_secret_line(const char *prompt, struct sp_buf *out);
/* The vault's own socket; each says what went wrong. */
int sp_cli_store_health(const struct sp_cli *c, char *text, size_t cap);
int sp_cmd_store_key(const struct sp_cli *c, int argc, char **argv);
int sp_cli_vault_reach(const struct sp_cli *c, struct sp_link *l);
int sp_cli_vault_answer(struct sp_link *l, uint16_t type, struct sp_packet *p);
/* Waits for vc_done and says it; state is for --json. */
int sp_cli_vault_done(const struct sp_cli *c, struct sp_link *l,
    const char *state);
/* Collects shares: to unseal (slot 0), or to prove that slot. */
int sp_cli_ceremony(struct sp_cli *c, uint8_t slot);
#define SP_CLI_SLOT_CREDENTIAL 4	/* vault/slots.h */
#define SP_CLI_SLOT_PKCS11 5
/* The vault's slots as vc_slots_r has them; the type, 0 of one that is not
 * usable, and extra bytes of the next. */
int sp_cli_slot_rows(const struct sp_cli *c, struct sp_buf *rows);
bool sp_cli_slot_next(struct sp_span *rows, uint8_t *type,
    struct sp_span *extra);
/* token.c: asks for the PIN. A fresh slot key and what the token wrapped of it;
 * the slot key of a slot that the token opens. */
int sp_cli_token_add(const struct sp_cli *c, const char *token, const char *key,
    struct sp_buf *secret, struct sp_buf *extra);
int sp_cli_token_open(const struct sp_cli *c, struct sp_buf *secret);
/* What a verb prints as JSON, to be put; NULL: *rc says. */
struct json_object *sp_cli_ask_json(const struct sp_cli *c, int argc,
    char *const *argv, int *rc);
const char *sp_cli_text_field(struct json_object *o, const char *key);

/* account.c: a secret on its way from the caller to the vault. */
struct sp_new_secret {
	const struct sp_kind *kind;
	const char *key_file, *pass_file;	/* or the verifier's */
	const char *plugin;			/* MariaDB's */
	bool from_stdin, generate;
};
struct sp_sealed {
	struct sp_buf hex, public_key;	/* hex ends with a NUL */
};
struct sp_msg_vc_secret_new;
/* Reads it from the file or standard input; nothing for one to be generated. */
int sp_cli_read_secret(const struct sp_new_secret *n, struct sp_buf *clear);
/* Asks the vault, and for the passphrase of an encrypted key. */
int sp_cli_seal(const struct sp_cli *c, const struct sp_new_secret *n,
    struct sp_msg_vc_secret_new *m, struct sp_sealed *out);
/* --verifier-file or --plugin, where the kind has it. */
void sp_cli_take_proof(struct sp_new_secret *n, int *argc, char **argv);
/* What the target gets: a line for authorized_keys, or a statement. */
void sp_cli_print_made(const struct sp_cli *c, const char *where,
    const struct sp_kind *kind, struct sp_span made);
int sp_cmd_secret(struct sp_cli *c, int argc, char **argv);
/* Asks for a passphrase, or takes the bytes of a file; the vault opens. */
int sp_cli_unseal(const struct sp_cli *c, const char *credential);
int sp_cmd_apply(struct sp_cli *c, int argc, char **argv);
int sp_cmd_export_inventory(struct sp_cli *c, int argc, char **argv);

#endif
