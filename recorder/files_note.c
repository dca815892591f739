/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes known of a transfer: its records, the audit log's lines, the
 * words to the user about what was refused. */
#include <stdio.h>
#include <string.h>

#include "recorder/files_int.h"

#define EVENTS_MAX 1200		/* of one session; each holds several lines */
#define LINES_BYTES 1490	/* of one event; the broker takes 1500 as they are */
#define TELL_WITHIN_US 500000
#define NOTICES_MAX 8		/* texts about refusals, of one channel */

static const char *const dirs[] = {"none", "upload", "download", "both"};

/* A value between quotes: printable, and no quote inside. */
static void
quoted(char *dst, size_t cap, struct sp_span s)
{
	char vis[1024];
	size_t at = 0;

	sp_vis(vis, cap < sizeof(vis) ? cap : sizeof(vis), s);
	for (const char *p = vis; *p != '\0' && at + 5 < cap; p++) {
		if (*p == '"')
			at += (size_t)snprintf(dst + at, cap - at, "\\x22");
		else
			dst[at++] = *p;
	}
	dst[at] = '\0';
}

static void
tell(struct sp_relay *r)
{
	struct sp_files *s = &r->files;
	struct sp_span b = sp_buf_span(&s->lines);
	char text[LINES_BYTES + 1];

	s->tell_by_us = 0;
	if (b.n == 0)
		return;
	memcpy(text, b.p, b.n);
	text[b.n] = '\0';
	sp_buf_reset(&s->lines);
	s->told++;
	sp_relay_event(r, "file", s->lines_chan, text);
}

static void
line(struct sp_files_chan *c, const char *text, bool now)
{
	struct sp_files *s = &c->r->files;
	size_t n = strlen(text);

	if (s->told >= EVENTS_MAX) {
		s->untold++;
		return;
	}
	if (s->lines.max == 0)
		sp_buf_init(&s->lines, LINES_BYTES);
	if (s->lines.len > 0 && (s->lines_chan != c->num ||
	    s->lines.len + 1 + n > LINES_BYTES))
		tell(c->r);
	s->lines_chan = c->num;
	if (sp_buf_printf(&s->lines, "%s%s", s->lines.len > 0 ? "\n" : "",
	    text) != SP_OK) {
		s->untold++;
		return;
	}
	if (s->tell_by_us == 0)
		s->tell_by_us = sp_boot_us() + TELL_WITHIN_US;
	if (now)
		tell(c->r);
}

int64_t
sp_files_tick(struct sp_relay *r, int64_t now)
{
	struct sp_files *s = &r->files;

	if (s->tell_by_us != 0 && now >= s->tell_by_us)
		tell(r);
	return s->tell_by_us == 0 ? INT64_MAX : s->tell_by_us;
}

static void
audit(struct sp_files_chan *c, const struct sp_xfer_note *n)
{
	char path[600], path2[400], text[200], hex[65] = "", l[LINES_BYTES];
	size_t at;

	quoted(path, sizeof(path), n->path);
	quoted(path2, sizeof(path2), n->path2);
	quoted(text, sizeof(text), n->text);
	if ((n->flags & SP_XFER_HAS_HASH) != 0)
		sp_hex(hex, n->sha256, 32);
	at = (size_t)snprintf(l, sizeof(l), "via=%s op=%s dir=%s result=%s "
	    "bytes=%llu", (n->flags & SP_XFER_SCP) != 0 ? "scp" : (n->flags &
	    SP_XFER_RSYNC) != 0 ? "rsync" : "sftp", (n->flags & SP_XFER_RSYNC) !=
	    0 ? "stream" : sp_xfer_op_name(n->op), dirs[n->dir & 3],
	    sp_xfer_result_name(n->result), (unsigned long long)n->bytes);
	if (hex[0] != '\0')
		at += (size_t)snprintf(l + at, sizeof(l) - at,
		    " sha256=%s whole=%s", hex,
		    (n->flags & SP_XFER_WHOLE) != 0 ? "yes" : "no");
	if (n->path.n > 0)
		at += (size_t)snprintf(l + at, sizeof(l) - at, " path=\"%s\"", path);
	if (n->path2.n > 0)
		at += (size_t)snprintf(l + at, sizeof(l) - at, " to=\"%s\"", path2);
	if (n->text.n > 0)
		snprintf(l + at, sizeof(l) - at, " text=\"%s\"", text);
	line(c, l, n->op == SP_XFER_PROTOCOL);
}

/* Some clients show the code of a refusal and not its words. */
static enum sp_err
tell_user(struct sp_files_chan *c, const struct sp_xfer_note *n)
{
	char path[400], why[300], text[800];

	if (c->notices++ >= NOTICES_MAX)
		return SP_OK;
	sp_vis(path, sizeof(path), n->path);
	sp_vis(why, sizeof(why), n->text);
	if (n->op == SP_XFER_PROTOCOL)
		snprintf(text, sizeof(text), "This channel was ended: %s.", why);
	else
		snprintf(text, sizeof(text), "Not permitted: %s%s%s: %s.",
		    sp_xfer_op_name(n->op), n->path.n > 0 ? " " : "", path, why);
	return sp_stream_put_text(&c->r->user, SP_FRAME_NOTICE, c->num, text);
}

static void
sum(struct sp_files_chan *c, const struct sp_xfer_note *n)
{
	if (n->result == SP_XFER_REFUSED)
		c->n_refused++;
	if (n->op != SP_XFER_CLOSE)
		return;
	if (n->dir == SP_XFER_DIR(SP_RIGHT_UPLOAD)) {
		c->n_up++;
		c->bytes_up += n->bytes;
	} else {
		c->n_down++;
		c->bytes_down += n->bytes;
	}
}

enum sp_err
files_note(struct sp_files_chan *c, const struct sp_xfer_note *n)
{
	SP_BUF_AUTO b = {.max = SP_XFER_PATH_MAX * 5};

	SP_TRY(sp_xfer_note_encode(&b, n));
	SP_TRY(files_put(c->r, SP_LANE_OUT, SP_RECORD_FILE, c->num,
	    sp_buf_span(&b)));
	sum(c, n);
	if (n->op == SP_XFER_EXTENT || ((n->op == SP_XFER_OPEN ||
	    n->op == SP_XFER_LIST) && n->result != SP_XFER_REFUSED))
		return SP_OK;
	audit(c, n);
	return n->result == SP_XFER_REFUSED && n->op != SP_XFER_CLOSE ?
	    tell_user(c, n) : SP_OK;
}

void
files_total(struct sp_files_chan *c)
{
	char l[300];
	int at;

	if (c->n_up + c->n_down + c->n_refused + c->r->files.untold == 0)
		return;
	at = snprintf(l, sizeof(l), "op=total uploads=%llu upload_bytes=%llu "
	    "downloads=%llu download_bytes=%llu refused=%llu",
	    (unsigned long long)c->n_up, (unsigned long long)c->bytes_up,
	    (unsigned long long)c->n_down, (unsigned long long)c->bytes_down,
	    (unsigned long long)c->n_refused);
	if (c->r->files.untold > 0)
		snprintf(l + at, sizeof(l) - (size_t)at, " unlisted=%llu",
		    (unsigned long long)c->r->files.untold);
	if (c->r->files.told >= EVENTS_MAX)
		sp_relay_event(c->r, "file", c->num, l);
	else
		line(c, l, true);
}
