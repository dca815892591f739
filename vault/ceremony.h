/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_CEREMONY_H
#define SP_VAULT_CEREMONY_H

#include <sys/types.h>

#include "common/ipc.h"
#include "vault/state.h"

/*
 * A share ceremony: custodians give their shares, one after the other, until a
 * sealed vault can be opened or a new slot is proven.
 *
 * It is one operator's: the link that began it holds it. It ends when it has
 * what it needs, after SP_CEREMONY_US, or when that link ends; nobody else can
 * end it or begin another beside it, and a share that is refused takes nothing
 * from it. Custodians need no account: while it runs, any user of this machine
 * may connect and give a share. What is shown is how many there are and which
 * numbers, never what is on them.
 */
enum sp_ceremony_what { SP_CEREMONY_UNSEAL = 1, SP_CEREMONY_PROVE = 2 };
#define SP_CEREMONY_US (15LL * 60 * 1000000)

struct sp_vaultd;
struct sp_control;

struct sp_ceremony {
	uint8_t what;		/* 0: none runs */
	uint8_t slot;		/* 0: the first share decides */
	uint8_t need;		/* 0: not known yet */
	uint64_t owner;		/* serial of the link */
	uid_t uid;
	int64_t due_us;		/* boot clock */
	struct sp_secret shares; /* struct sp_share[SP_SHARES_MAX] */
	size_t n;
};

/* vc_ceremony and vc_share. An error ends the link. */
SP_MUST enum sp_err sp_ceremony_serve(struct sp_vaultd *v, struct sp_control *c,
    struct sp_packet *p);
/* A link is gone; the vault was sealed or opened; time passes. */
void sp_ceremony_left(struct sp_vaultd *v, uint64_t serial);
void sp_ceremony_end(struct sp_vaultd *v, enum sp_err e, const char *why);
void sp_ceremony_tick(struct sp_vaultd *v, int64_t boot_us);

#endif
