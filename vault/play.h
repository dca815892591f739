/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_PLAY_H
#define SP_VAULT_PLAY_H

#include <poll.h>

#include "common/config.h"
#include "common/ipc.h"
#include "vault/lease.h"
#include "vault/root.h"

/*
 * Opening recordings for a player: the broker grants one recording
 * (v_play_grant), the supervisor brings the player's link (player_link), in
 * either order. The player asks once for the lane keys of that recording; a box
 * of another session, or of another lane than it says, ends it.
 */
#define SP_PLAYS_MAX 256
#define SP_PLAY_LANES_MAX 8

struct sp_plays;
struct sp_plays *sp_plays_new(struct sp_root *root,
    const struct sp_lease_ops *ops);	/* `used` is not called */
void sp_plays_free(struct sp_plays *t);
/* From now on what was typed opens as its keys_approvals says (common/keysrule.h).
 * Borrowed for as long as t lives. */
void sp_plays_demand(struct sp_plays *t, const struct sp_config *cfg);
/* The rule for one session. SP_ERR_NOTFOUND: nobody is asked. */
SP_MUST enum sp_err sp_plays_rule(const struct sp_plays *t,
    const uint8_t session[static 16], struct sp_buf *rule);
/* Enough people have signed that this session's keys are shown: the grant may name
 * the lane. by: who; text: why not. */
SP_MUST enum sp_err sp_play_release(struct sp_plays *t,
    const struct sp_msg_v_play_release *m, int64_t now_us, char by[static 256],
    char text[static 256]);
/* lanes: bit n for lane n (enum sp_lane). SP_ERR_DENIED: what was typed, and nobody
 * has signed. */
SP_MUST enum sp_err sp_play_grant(struct sp_plays *t, uint64_t play,
    const uint8_t session[static 16], uint32_t lanes);
/* A secret that this view must not show, after the grant. SP_ERR_CRYPTO: the row
 * does not open. SP_ERR_FULL: too many. A kind that is never shown adds nothing. */
struct sp_secret_row;
SP_MUST enum sp_err sp_play_mask(struct sp_plays *t, uint64_t play,
    const struct sp_secret_row *row, struct sp_span sealed);
/* The same for one recording of a search: the player that leads asks for it. */
SP_MUST enum sp_err sp_search_mask(struct sp_plays *t, uint64_t play,
    const uint8_t session[static 16], const struct sp_secret_row *row,
    struct sp_span sealed);
/* For a search: 16 bytes of each recording more, and the same lanes of them all.
 * The player may then ask for keys as often as it likes. */
#define SP_SEARCH_SESSIONS_MAX 200000
SP_MUST enum sp_err sp_search_grant(struct sp_plays *t, uint64_t play,
    uint32_t lanes, struct sp_span sessions);
/* Takes the descriptor in any case. */
SP_MUST enum sp_err sp_play_link(struct sp_plays *t, uint64_t play, int fd);
void sp_plays_end_all(struct sp_plays *t);
size_t sp_plays_poll(struct sp_plays *t, struct pollfd *pf, size_t cap);
void sp_plays_serve(struct sp_plays *t, const struct pollfd *pf, size_t n);
void sp_plays_tick(struct sp_plays *t, int64_t boot_us);
int64_t sp_plays_due_us(const struct sp_plays *t);

/* Opens those boxes of a play_keys message whose lanes are granted into the form
 * of play_keys_r; the others stay closed. */
SP_MUST enum sp_err sp_lane_keys_open(const struct sp_root *r,
    const uint8_t session[static 16], uint32_t granted, struct sp_span sealed,
    struct sp_buf *out);

#endif
