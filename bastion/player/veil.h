/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BASTION_PLAYER_VEIL_H
#define SP_BASTION_PLAYER_VEIL_H

#include "bastion/player/player.h"

/*
 * What no view of a recording shows: keys that were typed without an echo.
 * Read off the whole recording before any of it is given out. What cannot be
 * told is veiled.
 */
struct veil {
	struct veil_span {
		uint32_t chan;
		uint64_t from_us, to_us;
	} *span;
	size_t n, cap;
	bool is_blind;		/* all keys are veiled */
	bool is_off;		/* two people opened it */
	struct sp_buf shown;
};

/* SP_ERR_NOMEM, SP_ERR_IO. Damage further on ends the reading, as it ends any
 * other. */
SP_MUST enum sp_err veil_open(struct veil *v, struct player *p);
void veil_close(struct veil *v);
/* The record as it may be shown; its data may stand in the veil, until the next
 * call. */
SP_MUST enum sp_err veil_record(struct veil *v, struct sp_rec_record *r);

#endif
