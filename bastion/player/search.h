/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BASTION_PLAYER_SEARCH_H
#define SP_BASTION_PLAYER_SEARCH_H

#include "bastion/player/match.h"
#include "bastion/player/player.h"

/*
 * A search over many recordings (doc/flows.md, 10). The player that faces the
 * viewer leads: it is handed recordings in batches, asks the vault for the keys
 * of the lanes that are looked through, gives each to a worker (a player too,
 * forked before the filter, with nothing but a link to the leader), and writes
 * what they find in the order in which the recordings came.
 */
#define SEARCH_WORKERS_MAX 4
#define SEARCH_SHOWN_MAX 20	/* hits of one recording */
#define SEARCH_TEXT_MAX 200	/* bytes of a hit's text */

struct hit {
	uint64_t at_us;
	uint8_t lane;		/* enum sp_search_lane */
	uint32_t chan;
	char text[SEARCH_TEXT_MAX + 1]; /* as it stood there: untrusted */
};

/* What was found in one recording, in the order of time. */
struct hits {
	struct hit hit[SEARCH_SHOWN_MAX];
	size_t n;
	uint32_t count;		/* those that are not kept, too */
	uint8_t state;		/* SP_SEARCH_UNREAD, SP_SEARCH_SEALED */
};

struct seeker;
SP_MUST enum sp_err seeker_new(const struct match *m, uint8_t lanes,
    struct seeker **s);
void seeker_free(struct seeker *s);
/* Looks through one recording with the keys that there are. */
SP_MUST enum sp_err seeker_look(struct seeker *s, int fd,
    const struct sp_rec_lane_keys *keys, struct hits *found);
/* The lanes of a recording (bit n: lane n) that such a search needs. */
uint32_t search_needs(uint8_t lanes);

SP_MUST enum sp_err hits_encode(struct sp_buf *b, const struct hits *h);
SP_MUST enum sp_err hits_decode(struct sp_span s, struct hits *h);

/* The life of a worker; fd is its end of a link. */
int worker_main(int fd);
/* The life of the leader. Takes the descriptors of spawn_search and those of the
 * links with its workers. */
int leader_main(int broker, int stream, int vault, const int *workers,
    size_t n);

/* What the viewer reads. */
struct found {
	uint8_t session[16];
	int64_t started_us;
	char person[65], account[65], target[65];
	struct hits hits;
};
SP_MUST enum sp_err found_put(struct sp_buf *out, const struct found *f,
    bool json, bool is_first, uint64_t room);

#endif
