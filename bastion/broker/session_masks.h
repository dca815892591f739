/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_SESSION_MASKS_H
#define SP_BROKER_SESSION_MASKS_H

#include "bastion/broker/broker.h"
#include "bastion/broker/store.h"

/* After v_play_grant, before play_start, or for one recording of a search: the vault is told what that view must not
 * show. Without SP_OK nothing may be shown. cb is called once, from the loop or at
 * once. */
void sp_session_masks(struct sp_broker *b, uint64_t play, bool is_search,
    const uint8_t session[static 16], sp_done_cb cb, void *arg);

#endif
