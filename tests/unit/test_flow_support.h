/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_TEST_FLOW_SUPPORT_H
#define SP_TEST_FLOW_SUPPORT_H

#include "bastion/broker/login_int.h"
#include "bastion/broker/main.h"
#include "test_store_support.h"

/* The broker's flows on a real PostgreSQL, with the test in the place of the
 * supervisor, the ingress, the auth process, the recorder and the egress. */
struct rig {
	struct fix f;
	struct sp_broker *b;
	struct sp_link sup;
	uint8_t alice[16], bob[16], carol[16], target[16], account[16];
	uint64_t last_conn;
};
extern struct rig rig;

#define POLICY                                                                \
	"permit \"dba\" who group dba on target core-01 as admin, legacy\n"      \
	"  require approval 1 of approvers, mfa totp for 2h\n"                   \
	"permit \"free\" who group dba on target core-02 as any\n"               \
	"  require mfa totp for 2s\n"

void rig_up(void);
void rig_down(void);
void rig_policy(const char *text);
/* The next message of that type on a link of ours; others, in between, fail
 * the test. The spans live until the next call on that link. */
void want(struct sp_link *l, uint16_t type, struct sp_packet *k);
/* The same, but skips what comes before. */
void want_after(struct sp_link *l, uint16_t type, struct sp_packet *k);
void want_end(struct sp_link *l);	/* the broker closes it */
void want_audit(const char *event);	/* waits for it */
unsigned count_audit(const char *event);
void turns(unsigned ms);		/* lets the broker run */

struct sp_actor actor_of(const uint8_t person[static 16], const char *name);

/* An ingress: its end of the link. */
struct ing {
	struct sp_link l;
	uint64_t conn;
};
void ing_new(struct ing *i);
void ing_fini(struct ing *i);
bool ing_key(struct ing *i, const char *login, const char *blob, bool is_signed);
/* The auth process of a conversation that has begun: says pam_start's user. */
void auth_begin(struct ing *i, const char *login, struct sp_link *aut);
uint8_t auth_totp(struct sp_link *aut, const char *user, const char *code);
uint8_t auth_acct(struct sp_link *aut, const char *user);
void auth_result(struct sp_link *aut, uint32_t a, uint32_t b);
/* A whole login; kind of the dialog that ends it. */
uint8_t ing_login(struct ing *i, const char *login, const char *blob,
    const char *code);
void ing_dialog(struct ing *i, uint8_t kind, char text[static 4097]);
void ing_answer(struct ing *i, uint32_t dialog, const char *text);
void ing_target(struct ing *i, uint32_t id, const char *host, const char *account,
    uint8_t method, uint8_t verdict);
void ing_open(struct ing *i, uint32_t ctx, uint32_t chan, uint8_t kind,
    const char *command, bool has_pty);
uint8_t ing_refused(struct ing *i, char text[static 2049]);

/* A session's processes. */
struct legs {
	uint8_t id[16];
	struct sp_link rec, egr;
	char rules[512];	/* what the recorder was told, as text */
	int far_stream;		/* the other end of the ingress' stream */
};
void legs_to_dial(struct legs *g);	/* until session_dial is asked */
void legs_to_login(struct legs *g);	/* until egr_start is said */
void legs_ready(struct legs *g, struct ing *i, uint32_t ctx, uint32_t chan);
void legs_closed(struct legs *g, uint8_t code, const char *why);
void legs_child_end(struct legs *g, uint16_t role, uint32_t status);
void legs_fini(struct legs *g);

/* Blocking forms. */
enum sp_err decide(const struct sp_actor *who, uint64_t num, bool approve,
    char text[static 1024]);
enum sp_err take_back(const struct sp_actor *who, uint64_t num, char text[static 1024]);
uint64_t file_and_approve(void);	/* alice, admin@core-01, by bob */

#endif
