/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_KRLPUSH_H
#define SP_BROKER_KRLPUSH_H

#include "bastion/broker/broker.h"

/*
 * The list of revoked certificates, brought to the targets that krl_push of the
 * configuration names: after each revocation, and every krl_push_s. Each push is
 * a session of the bastion's own (recorded, in the audit, nobody's hands) that
 * runs one command: the list is written beside the file, counted, and takes its
 * place in one step. A target that hangs or fails holds one place of four for
 * half a minute, is tried again later each time, and is told as behind.
 */
#define SP_KRLPUSH_NAME 65
#define SP_KRLPUSH_PATH 201

enum sp_krlpush_state {
	SP_KRLPUSH_NEVER,	/* none was brought yet */
	SP_KRLPUSH_CURRENT,
	SP_KRLPUSH_BEHIND,	/* there is a newer one */
	SP_KRLPUSH_FAILED,	/* the last try */
	SP_KRLPUSH_WRONG	/* the configuration's word is none */
};
struct sp_krlpush_view {
	const char *account, *target, *path, *text;
	enum sp_krlpush_state state;
	bool is_running;
	int64_t last_us, tried_us;	/* 0: never */
	unsigned failures;
};

struct sp_krlpushes;
struct sp_krlpushes *sp_krlpushes_new(struct sp_broker *b);
/* The configuration was read (again): keeps what is known of those that stay. */
void sp_krlpushes_reread(struct sp_broker *b);
/* Something was revoked, or taken off the list: all are due. With a name,
 * "ACCOUNT@TARGET", that one; the number of those. */
size_t sp_krlpushes_due(struct sp_broker *b, const char *which);
size_t sp_krlpushes_n(const struct sp_broker *b);
/* The i-th; borrowed until the loop turns. */
void sp_krlpushes_view(const struct sp_broker *b, size_t i,
    struct sp_krlpush_view *v);

#endif
