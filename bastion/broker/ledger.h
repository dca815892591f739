/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_LEDGER_H
#define SP_BROKER_LEDGER_H

#include "bastion/broker/store.h"
#include "common/tlog_leaf.h"

/*
 * What goes into the transparency log. Leaves wait here until the notary has
 * them on its disk: over its restarts, and while the vault is sealed. A leaf that
 * is sent twice stands in the log twice, which is no harm. What of the audit is
 * lost with this process the next event covers: its hash is over all before it.
 */
struct sp_ledger;

struct sp_ledger_status {
	bool is_there;		/* the notary runs and has said something */
	uint8_t state;		/* enum sp_log_state */
	uint64_t size, signed_size, waiting;
	char origin[129], text[257];
};

struct sp_ledger *sp_ledger_new(struct sp_broker *b);
void sp_ledger_attach(struct sp_ledger *l, int fd);	/* takes fd */
/* What the notary reports of its own accord (security_event). */
void sp_ledger_on_event(struct sp_ledger *l,
    void (*cb)(void *arg, const struct sp_msg_security_event *m), void *arg);
const struct sp_ledger_status *sp_ledger_status(struct sp_ledger *l);

/* A point of a recording. cb (may be NULL: nobody waits) with SP_OK when it is
 * safe; SP_ERR_STATE: the log takes nothing, SP_ERR_CRYPTO: it is none. */
void sp_ledger_point(struct sp_ledger *l, const struct sp_msg_rec_point *m,
    sp_done_cb cb, void *arg);
/* An event of the audit chain, after it was committed. */
void sp_ledger_audit(struct sp_ledger *l, uint64_t seq,
    const uint8_t hash[static 32]);
/* A replay, an export, a hold, a deletion ... of a recording. object: what the
 * act's leaf says it is (common/tlog_leaf.h), or NULL. A deletion must not happen
 * before cb has said SP_OK. */
void sp_ledger_act(struct sp_ledger *l, enum sp_leaf_act act, const char *actor,
    const uint8_t session[static 16], const uint8_t *object,
    const char *detail, sp_done_cb cb, void *arg);
/* Nobody waits any more: no cb with this arg is called. The leaves go on. */
void sp_ledger_forget(struct sp_ledger *l, const void *arg);

#endif
