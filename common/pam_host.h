/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_PAM_HOST_H
#define SP_COMMON_PAM_HOST_H

#include <stddef.h>
#include <stdint.h>

#include "common/ipc.h"

/*
 * How pam_sallyport.so finds the link with the broker: the program that runs
 * it (sallyport-auth) exports sp_pam_host(). In any other program the symbol
 * is missing and the module denies. Not a descriptor's number in the PAM
 * environment: other modules let users write there (pam_env), and who names
 * the descriptor plays the broker. Not pam_set_data(3): libpam refuses it to
 * applications.
 */
struct sp_pam_host {
	uint8_t table[32];	/* sp_ipc_table_hash() of the program */
	size_t link_bytes;	/* sizeof(struct sp_link) there */
	struct sp_link *link;	/* self AUT, peer BRK, state READY */
};
const struct sp_pam_host *sp_pam_host(void);

#endif
