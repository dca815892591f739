/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_SHIP_H
#define SP_BROKER_SHIP_H

#include "bastion/broker/store.h"

/*
 * Recordings to the store of objects (doc/retention.md): which one is due, what
 * became of it, when it is tried again. One job at a time; the supervisor opens the
 * file, sallyport-ship does the work. A job that fails does not keep the others: its
 * own next try is later each time, and what the store refuses for all makes a pause.
 */
struct sp_shipping;

struct sp_ship_status {
	bool is_on;		/* a store is configured */
	uint64_t waiting;	/* ended here and not in the store */
	uint64_t shipped, local; /* in the store; of those also here */
	int64_t oldest_us;	/* end of the oldest that waits; 0: none */
	unsigned failures;	/* in a row */
	int64_t failed_us;	/* the last one; 0: none since the start */
	char error[257];
};

struct sp_shipping *sp_shipping_new(struct sp_broker *b);
const struct sp_ship_status *sp_ship_status(const struct sp_broker *b);
/* What the supervisor says. */
void sp_ship_on_result(struct sp_broker *b, const struct sp_msg_ship_result *m);

/* Back from the store, to this disk: SP_OK, or why not in text (until it returns). */
typedef void (*sp_ship_cb)(void *arg, enum sp_err e, const char *text);
struct sp_ship_wish {
	uint8_t what;		/* SP_SHIP_FETCH, SP_SHIP_ERASE */
	uint8_t session[16], sha256[32];
	int64_t started_us;
	uint64_t size;
};
void sp_ship_wish(struct sp_broker *b, const struct sp_ship_wish *w,
    sp_ship_cb cb, void *arg);
void sp_ship_forget(struct sp_broker *b, const void *arg);

#endif
