/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BASTION_PLAYER_COVER_H
#define SP_BASTION_PLAYER_COVER_H

#include "common/mask.h"
#include "recorder/read.h"
#include "recorder/term/term.h"

/*
 * Checked-out secrets are `*` in every view of a recording. The vault says what to
 * look for (common/mask.h). A process shows one recording: what is covered here is
 * so for all that it shows. Where they stand in the streams is found before
 * anything is shown, however they were split into records; what makes one on a
 * screen by other ways (a line that goes on, a program that draws) is covered there
 * as soon as it is whole.
 */
SP_MUST enum sp_err cover_set(struct sp_span masks);
bool cover_is_on(void);
/* Goes through the recording once. SP_ERR_NOMEM, SP_ERR_IO. */
SP_MUST enum sp_err cover_read(int file, const struct sp_rec_lane_keys *keys);
/* sp_rec_decoder_next, covered; the data live until the next call. */
SP_MUST enum sp_err cover_next(struct sp_rec_decoder *d,
    struct sp_rec_record *r);
/* What stands on a screen now. */
void cover_term(struct sp_term *t);
/* A text in its place. */
void cover_text(uint8_t *text, size_t n);
void cover_end(void);

#endif
