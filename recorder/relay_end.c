/* SPDX-License-Identifier: Apache-2.0 */
/* How a session's recording ends. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "common/log.h"
#include "recorder/relay.h"

#define FLUSH_US 1000000
#define LONG_BYTES (32u << 20)	/* to hash at the end */

static bool
target_may_hear_no_more(uint8_t code)
{
	return code != SP_END_NORMAL && code != SP_END_LEG_DIED &&
	    code != SP_END_TARGET && code != SP_END_BROKER &&
	    code != SP_END_SHUTDOWN;
}

static void
say_end(struct sp_relay *r)
{
	/* Input that was not delivered before a revocation stays undelivered. */
	if (target_may_hear_no_more(r->code) &&
	    sp_stream_pending(&r->target) > 0) {
		sp_relay_unqueue(&r->target, 0);
		if (shutdown(r->target.fd, SHUT_RDWR) != 0)
			sp_log(SP_DEBUG, "shutdown", r->session, "errno=%d",
			    errno);
	} else if (sp_stream_put_end(&r->target, r->code, r->reason) != SP_OK) {
		sp_log(SP_DEBUG, "no_end", r->session, "side=target");
	}
	if (sp_stream_put_end(&r->user, r->code, r->reason) != SP_OK)
		sp_log(SP_DEBUG, "no_end", r->session, "side=user");
}

static void
flush_ends(struct sp_relay *r)
{
	int64_t until = sp_boot_us() + FLUSH_US;

	for (;;) {
		int64_t left = until - sp_boot_us();
		struct pollfd pf[2] = {{.fd = -1, .events = POLLOUT},
		    {.fd = -1, .events = POLLOUT}};

		if (sp_stream_flush(&r->user) == SP_ERR_AGAIN)
			pf[0].fd = r->user.fd;
		if (sp_stream_flush(&r->target) == SP_ERR_AGAIN)
			pf[1].fd = r->target.fd;
		if ((pf[0].fd < 0 && pf[1].fd < 0) || left <= 0)
			return;
		if (poll(pf, 2, (int)(left / 1000) + 1) < 0 && errno != EINTR)
			return;
	}
}

static void
tell_closed(struct sp_relay *r)
{
	struct sp_msg_rec_closed m = {.code = r->code,
	    .reason = sp_span_str(r->reason)};
	struct sp_rec_totals t = {0};
	struct pollfd pf = {.fd = r->link.fd, .events = POLLOUT};

	if (r->w != NULL)
		sp_rec_writer_totals(r->w, &t);
	memcpy(m.session, r->session, 16);
	memcpy(m.head, t.head, 32);
	m.chunks = t.chunks;
	m.bytes_in = t.bytes_in;
	m.bytes_out = t.bytes_out;
	m.file_bytes = t.file_bytes;
	if (sp_send_rec_closed(&r->link, 0, &m, NULL) != SP_OK)
		return;
	for (int i = 0; i < 10 && sp_link_wants_write(&r->link); i++)
		if (poll(&pf, 1, 100) < 0 || sp_link_flush(&r->link) != SP_OK)
			continue;
}

/* CLOSE comes first: whoever loses patience with us finds it on the disk. But
 * nobody waits for much hashing, or for a scribe's last words, to hear that it is
 * over. */
int
sp_relay_finish(struct sp_relay *r)
{
	bool may_read = r->is_certified && r->code != SP_END_DISK &&
	    sp_aside_owes(r);
	bool is_long = r->is_certified && (may_read ||
	    sp_rec_writer_owes(r->w) > LONG_BYTES);
	enum sp_err e = SP_ERR_STATE;

	if (is_long) {
		say_end(r);
		flush_ends(r);
	}
	if (r->is_certified) {
		sp_relay_end_flows(r);
		sp_files_fini(r);
		if (may_read)
			sp_aside_finish(r);
		e = sp_rec_writer_close(r->w, r->code, sp_span_str(r->reason));
	}
	if (r->is_certified && e != SP_OK)
		sp_log(SP_ERROR, "close_failed", r->session, "error=\"%s\"",
		    sp_err_text(e));
	if (!is_long) {
		say_end(r);
		flush_ends(r);
	}
	if (e == SP_OK && sp_relay_tell_point(r, false) != SP_OK)
		sp_log(SP_WARN, "not_in_log", r->session, "");
	tell_closed(r);
	sp_log(SP_INFO, "recording_closed", r->session, "code=%u reason=\"%s\"",
	    r->code, sp_vis_str(r->reason));
	if (!r->is_certified)
		return SP_EXIT_NOTHING_RECORDED;
	return e == SP_OK ? 0 : 1;
}
