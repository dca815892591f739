/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/idle.h"

#define SECOND_US INT64_C(1000000)
#define NOTICE_S 60U

uint32_t
sp_idle_notice_s(const struct sp_idle *i)
{
	return i->limit_s >= 2 * NOTICE_S ? NOTICE_S : i->limit_s / 2;
}

void
sp_idle_touch(struct sp_idle *i, int64_t now_us)
{
	i->last_us = now_us;
	i->is_warned = false;
}

static int64_t
ends_us(const struct sp_idle *i)
{
	return i->last_us + i->limit_s * SECOND_US;
}

enum sp_idle_verdict
sp_idle_look(struct sp_idle *i, int64_t now_us)
{
	if (i->limit_s == 0)
		return SP_IDLE_NO;
	if (now_us >= ends_us(i))
		return SP_IDLE_OVER;
	if (i->is_warned || now_us < ends_us(i) - sp_idle_notice_s(i) * SECOND_US)
		return SP_IDLE_NO;
	i->is_warned = true;
	return SP_IDLE_WARN;
}

int64_t
sp_idle_next(const struct sp_idle *i)
{
	if (i->limit_s == 0)
		return INT64_MAX;
	return i->is_warned ? ends_us(i) :
	    ends_us(i) - sp_idle_notice_s(i) * SECOND_US;
}
