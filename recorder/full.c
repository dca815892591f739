/* SPDX-License-Identifier: Apache-2.0 */
/* The disk of the recordings is full: the session stands still until there is room
 * again, or ends. What is not read cannot be forwarded unrecorded. */
#include <stdio.h>

#include "common/log.h"
#include "recorder/relay.h"

static void
show(struct sp_relay *r, const char *text)
{
	enum sp_err e = sp_stream_put_text(&r->user, SP_FRAME_NOTICE, 0, text);

	if (e == SP_OK)
		e = sp_stream_flush(&r->user);
	if (e != SP_OK && e != SP_ERR_AGAIN)
		sp_log(SP_DEBUG, "no_full_notice", r->session, "side=user");
}

static void
stop(struct sp_relay *r, int64_t now)
{
	char text[240];

	r->full_us = now;
	snprintf(text, sizeof(text), "Sallyport: the disk of the recordings is "
	    "full. This session stands still; it ends in %lld seconds if there is "
	    "no room by then.", (long long)(r->full_wait_us / 1000000));
	sp_relay_event(r, "disk_full", 0, "the session stands still");
	show(r, text);
}

static void
go_on(struct sp_relay *r, int64_t now)
{
	long long s = (long long)((now - r->full_us) / 1000000);
	char text[160];

	r->full_us = 0;
	snprintf(text, sizeof(text), "Sallyport: the disk of the recordings was "
	    "full for %lld seconds; there is room again.", s);
	sp_relay_event(r, "disk_has_room", 0, text);
	if (sp_rec_writer_put(r->w, SP_LANE_META, SP_RECORD_NOTICE, 1,
	    sp_span_str(text)) == SP_OK)
		show(r, text);
}

bool
sp_relay_stands_still(struct sp_relay *r, int64_t now)
{
	bool is_short = sp_rec_writer_is_short(r->w);

	if (is_short && r->full_us == 0)
		stop(r, now);
	else if (!is_short && r->full_us != 0)
		go_on(r, now);
	if (r->full_us == 0)
		return false;
	if (now - r->full_us >= r->full_wait_us)
		sp_relay_end(r, SP_END_DISK, "the disk of the recordings is full");
	return true;
}
