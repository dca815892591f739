/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_IDLE_H
#define SP_RECORDER_IDLE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * The idle limit of a session's rules: seconds in which nothing came from the
 * user. A minute before the end (half the limit, where that is under two
 * minutes) the user is told once. All times are of the boot clock.
 */
struct sp_idle {
	uint32_t limit_s;	/* 0: none */
	int64_t last_us;
	bool is_warned;
};
enum sp_idle_verdict { SP_IDLE_NO, SP_IDLE_WARN, SP_IDLE_OVER };

/* Something came from the user. */
void sp_idle_touch(struct sp_idle *i, int64_t now_us);
/* SP_IDLE_WARN is given once for each time of silence. */
enum sp_idle_verdict sp_idle_look(struct sp_idle *i, int64_t now_us);
/* When to look again; INT64_MAX without a limit. */
int64_t sp_idle_next(const struct sp_idle *i);
/* Seconds from the warning to the end. */
uint32_t sp_idle_notice_s(const struct sp_idle *i);

#endif
