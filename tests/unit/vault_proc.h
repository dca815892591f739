/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_TEST_VAULT_PROC_H
#define SP_TEST_VAULT_PROC_H

/* A vault as a process, in a directory of its own, and the test's ends of its
 * links: supervisor, broker and administrator. For Criterion tests alone. */
#include <criterion/criterion.h>

#include "tests/unit/vault_kit.h"

#define OK(e) cr_assert_eq((e), SP_OK)
#define WAIT_MS 60000

struct evp_host;
struct proc {
	char dir[64], vault[80], sock[96], passphrase[41], level[129];
	pid_t pid;
	struct sp_link sup, brk, ctl;
	struct kit_host host;
	struct evp_host *evp;	/* NULL: host is Ed25519 */
	unsigned n_events, n_used;
	char what[65];
};

/* The host key's file that vp_begin hands over; NULL: an empty one. */
extern const char *vp_key_file;
/* Makes the state, starts the vault and attaches to it. fork_only: the same
 * code in a forked child, without program and sandbox. */
void vp_begin(struct proc *p, bool demo, bool fork_only);
void vp_end(struct proc *p);
void vp_end_killed(struct proc *p);	/* after a kill of p->pid */
void vp_attach_broker(struct proc *p);
void vp_connect_control(struct proc *p);
/* The broker's next reply; events and lease_used are counted on the way. */
struct sp_span vp_reply(struct proc *p, uint16_t type);
struct sp_span vp_control_reply(struct proc *p, uint16_t type);
enum sp_err vp_unseal(struct proc *p, const char *passphrase);
void vp_seal(struct proc *p);
struct sp_msg_v_status_r vp_status(struct proc *p);

#endif
