/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BASTION_PLAYER_EVENTS_H
#define SP_BASTION_PLAYER_EVENTS_H

#include "bastion/player/player.h"

/*
 * What happened in a session, one event after the other: read off the recording,
 * and what the bastion's rows say. All text is untrusted.
 */
#define EVENTS_MAX 65536
#define EVENTS_BYTES (16u << 20)

enum event_kind {
	EVENT_ROW,		/* of the bastion's rows; what says which */
	EVENT_OPEN, EVENT_COMMAND, EVENT_SECRET, EVENT_FILE, EVENT_FLOW,
	EVENT_NOTICE, EVENT_FREEZE, EVENT_RESIZE, EVENT_EXIT, EVENT_GAP,
	EVENT_SESSION, EVENT_END,
};

struct event_text {
	size_t off, n;
};

struct event {
	int64_t at_us;		/* wall clock */
	uint64_t order;
	enum event_kind kind;
	uint32_t chan;
	uint8_t source, percent; /* of a command */
	bool is_cut;
	struct event_text what, who, text;
	struct event_text json;	/* more members of its object, comma first */
};

struct events {
	size_t n, cap;
	struct event *e;
	struct sp_buf bytes;
	int64_t t0_us;
	bool is_full;		/* there was more */
	bool has_commands;	/* lane VIEW has some */
	bool has_gap;		/* ... but its scribe was away */
	bool is_read_again;	/* commands and secrets were derived here */
	bool keys_missing;	/* ... and could not be */
};

void events_init(struct events *v);
void events_fini(struct events *v);
/* What the recording says. SP_ERR_NOMEM, and what a decoder says of damage: what
 * stands before it is there. */
SP_MUST enum sp_err events_read(struct events *v, struct player *p);
/* The body of play_rows; SP_ERR_PROTO. */
SP_MUST enum sp_err events_rows(struct events *v, struct sp_span rows);
void events_sort(struct events *v);
struct sp_span event_span(const struct events *v, struct event_text t);
const char *event_name(enum event_kind kind);

/* The modes TIMELINE and COMMANDS. */
SP_MUST enum sp_err play_timeline(struct player *p);
SP_MUST enum sp_err play_commands(struct player *p);

#endif
