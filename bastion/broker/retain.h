/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_RETAIN_H
#define SP_BROKER_RETAIN_H

#include "bastion/broker/store.h"

/*
 * The end of recordings, by rule (doc/retention.md). Nothing is deleted that no rule
 * names, that is younger than retention_least_days, or that is held: the database
 * refuses a deletion beside a hold and a hold beside a deletion, and the audit is asked
 * as well. First the decision (a row, an event), then the leaf in the transparency
 * log, then the copies; each step is taken up again after a restart.
 */
struct sp_retention;

struct sp_retain_rule {
	char what[8];		/* "target", "tag", "kind" or "*" */
	char pattern[65];
	int64_t days;
};
#define SP_RETAIN_RULES_MAX 32
struct sp_retain_rules {
	struct sp_retain_rule rule[SP_RETAIN_RULES_MAX];
	size_t n;
};
/* "target=prod* 365; * 90". SP_ERR_SYNTAX: nothing of it holds. */
SP_MUST enum sp_err sp_retain_parse(const char *text,
    struct sp_retain_rules *out);
/* The first rule that fits; NULL: it is kept. tags: separated by spaces. */
const struct sp_retain_rule *sp_retain_match(const struct sp_retain_rules *r,
    const char *target, const char *tags, const char *kind);

/* Ended before that time and neither deleted nor being so; holds among the columns. */
#define SP_RETAIN_SELECT                                                      \
	"SELECT s.id, s.person_name, s.account_name, s.target_name, "         \
	"coalesce(s.kind, 'ssh') AS kind, s.ended_us, s.started_us, s.head, "  \
	"(SELECT t.tags FROM targets t WHERE t.name = s.target_name LIMIT 1) " \
	"AS tags, (SELECT h.shipped_us FROM shipments h WHERE h.session_id = " \
	"s.id) AS shipped_us, (SELECT count(*) FROM holds o WHERE o.session_id = s.id AND " \
	"o.released_us IS NULL) AS holds FROM sessions s WHERE s.node = $1 AND " \
	"s.ended_us < $2::bigint AND s.head IS NOT NULL AND NOT EXISTS (SELECT 1 " \
	"FROM deletions d WHERE d.session_id = s.id) AND (s.ended_us, s.id) > " \
	"($3::bigint, $4::uuid) ORDER BY s.ended_us, s.id LIMIT $5::bigint"

/* retain_holds.c: the leaves of that recording's holds are in the log of its bastion,
 * or (settle) those that are not come there. */
void sp_hold_logged(struct sp_broker *b, const char *session, bool is_released);
void sp_holds_settle(struct sp_broker *b);

struct sp_retention *sp_retention_new(struct sp_broker *b);
/* Other rules may hold now: looks at all again. */
void sp_retention_reread(struct sp_broker *b);

#endif
