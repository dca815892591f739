/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_TEST_STORE_SUPPORT_H
#define SP_TEST_STORE_SUPPORT_H

#include <libpq-fe.h>
#include <sys/types.h>

#include "bastion/broker/store_internal.h"

/* A broker with a loop, a fake vault in a process of its own, and a fresh
 * database in a private cluster. */
struct fake_vault {		/* shared with its process */
	volatile int sealed, mute;
	volatile unsigned checks, seals;
	volatile uint64_t step;		/* of the one good code, "123456" */
	volatile int lease_err;
	volatile unsigned leases, leases_ended, plays;
};
struct fix {
	struct sp_broker b;
	struct fake_vault *fake;
	pid_t vault_pid, proxy_pid;
	char pg[64], db[32], conninfo[256];
	PGconn *super;		/* the superuser, blocking */
	bool own_pg;
};

/* own_pg: a cluster of its own, to be frozen or killed. */
void fix_init(struct fix *f, bool own_pg, unsigned db_timeout_ms);
void fix_store(struct fix *f, const char *conninfo);	/* NULL: f->conninfo */
void fix_fini(struct fix *f);
void fix_vault(struct fix *f);
/* Runs the loop until *done, or fails the test after ms. */
/* Turns of the loop until done (NULL: never) or for so long. */
void fix_turns(struct fix *f, const volatile bool *done, unsigned ms);
void fix_until(struct fix *f, const volatile bool *done, unsigned ms);
void fix_wait_up(struct fix *f);
/* Runs the loop for one pass over what is ready. */
void fix_turn(struct fix *f);
/* One value as text (static buffer) by the superuser; "" for none. */
const char *fix_sql(struct fix *f, const char *sql);
void fix_pg_start(char dir[static 64]);
void fix_pg_stop(const char *dir);

/* Blocking forms of the store's calls. */
struct loaded {
	bool done;
	enum sp_err e;
	struct sp_rows *rows;
};
void fix_load(struct fix *f, struct loaded *l, enum sp_table t,
    const char *where, const char *param);
void fix_query(struct fix *f, struct loaded *l, const char *sql);
enum sp_err fix_commit(struct fix *f, struct sp_change *c);
enum sp_err fix_audit(struct fix *f, const char *event);
enum sp_err fix_verify(struct fix *f, char text[static 1024]);
/* A person, with an audit event if event is not NULL. */
enum sp_err fix_person(struct fix *f, const char *name, uint8_t id[static 16],
    const char *event);

/* Between the store and the server: passes everything on until `swallow` is
 * set; then the next whole answer of the server is thrown away and the
 * connection closed. `refuse`: closes whatever connects. */
struct proxy {
	volatile int swallow, refuse;
	volatile unsigned swallowed;
};
struct proxy *fix_proxy(struct fix *f, char dir[static 64]);

#endif
