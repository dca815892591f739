/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_LOG_H
#define SP_COMMON_LOG_H

#include "common/err.h"
#include "common/text.h"

/*
 * One log line is one write(2) of `key=value` pairs to standard error, which
 * the supervisor points at the instance's log. Untrusted values go through
 * sp_vis_tmp() at the call; a value with spaces stands in double quotes.
 */
enum sp_level { SP_DEBUG, SP_INFO, SP_WARN, SP_ERROR };

/* The process's name on every line, and whether SP_DEBUG lines are written. */
void sp_log_init(const char *process, bool debug);
/* session: 16 bytes or NULL. fmt makes further key=value pairs, may be "". */
void sp_log(enum sp_level level, const char *event, const uint8_t *session,
    const char *fmt, ...) SP_PRINTF(4, 5);

#endif
