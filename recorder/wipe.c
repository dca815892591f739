/* SPDX-License-Identifier: Apache-2.0 */
/* What a recorder forgets: the keys of a segment that is over are gone, and so
 * must be what was typed and shown in it. */
#include <malloc.h>

#include "common/area.h"
#include "recorder/pack.h"
#include "recorder/relay.h"

static bool
has_passed_all(const struct sp_relay *r)
{
	return sp_stream_pending(&r->user) == 0 &&
	    sp_stream_pending(&r->target) == 0;
}

/* What still waits to be sent is wiped once it was. */
static void
forget(struct sp_relay *r)
{
	uint32_t now = sp_rec_writer_segment(r->w);

	if (now == r->segment && !(r->owes_wipe && has_passed_all(r)))
		return;
	r->segment = now;
	r->owes_wipe = !has_passed_all(r);
	sp_rec_wipe(&r->user.rx);
	sp_rec_wipe(&r->user.tx);
	sp_rec_wipe(&r->target.rx);
	sp_rec_wipe(&r->target.tx);
}

void
sp_relay_forget(struct sp_relay *r)
{
	bool rests = sp_rec_writer_is_resting(r->w);

	forget(r);
	/* Tens of thousands may wait so. */
	if (rests && !r->has_rested) {
		sp_stream_trim(&r->user);
		sp_stream_trim(&r->target);
		malloc_trim(0);
		sp_stack_drop();
	}
	r->has_rested = rests;
}
