/* SPDX-License-Identifier: Apache-2.0 */
/* What a recording says of files, for people and for programs. */
#include <stdio.h>

#include "bastion/player/player.h"
#include "recorder/xfer.h"

static const char *const ways[] = {"", "upload", "download", "both ways"};

void
file_line(char *dst, size_t cap, struct sp_span record)
{
	char path[600], to[600], text[300], hex[65] = "";
	struct sp_xfer_note n;
	int at;

	dst[0] = '\0';
	if (sp_xfer_note_decode(record, &n) != SP_OK ||
	    (n.flags & SP_XFER_SO_FAR) != 0)
		return;
	sp_vis(path, sizeof(path), n.path);
	sp_vis(to, sizeof(to), n.path2);
	sp_vis(text, sizeof(text), n.text);
	if ((n.flags & SP_XFER_HAS_HASH) != 0)
		sp_hex(hex, n.sha256, 32);
	at = snprintf(dst, cap, "file %s %s: %s %s%s%s", sp_xfer_op_name(n.op),
	    ways[n.dir & 3], sp_xfer_result_name(n.result), path,
	    n.path2.n > 0 ? " -> " : "", to);
	if (at > 0 && (size_t)at < cap && (n.bytes > 0 || hex[0] != '\0'))
		at += snprintf(dst + at, cap - (size_t)at, " (%llu bytes at %llu%s%s)",
		    (unsigned long long)n.bytes, (unsigned long long)n.offset,
		    hex[0] != '\0' ? ", sha256 " : "", hex);
	if (at > 0 && (size_t)at < cap && n.text.n > 0)
		snprintf(dst + at, cap - (size_t)at, " [%s]", text);
}

static enum sp_err
put_text(struct sp_buf *out, const char *key, struct sp_span s)
{
	if (s.n == 0)
		return SP_OK;
	SP_TRY(sp_buf_printf(out, ",\"%s\":", key));
	return json_string(out, s);
}

enum sp_err
file_json(struct sp_buf *out, struct sp_span record)
{
	struct sp_xfer_note n;
	char hex[65];

	if (sp_xfer_note_decode(record, &n) != SP_OK)
		return SP_OK;
	SP_TRY(sp_buf_printf(out, ",\"file\":{\"op\":\"%s\",\"way\":\"%s\","
	    "\"result\":\"%s\",\"number\":%u,\"offset\":%llu,\"bytes\":%llu,"
	    "\"whole\":%s,\"so_far\":%s", sp_xfer_op_name(n.op),
	    ways[n.dir & 3], sp_xfer_result_name(n.result), n.file,
	    (unsigned long long)n.offset, (unsigned long long)n.bytes,
	    (n.flags & SP_XFER_WHOLE) != 0 ? "true" : "false",
	    (n.flags & SP_XFER_SO_FAR) != 0 ? "true" : "false"));
	if ((n.flags & SP_XFER_HAS_HASH) != 0) {
		sp_hex(hex, n.sha256, 32);
		SP_TRY(sp_buf_printf(out, ",\"sha256\":\"%s\"", hex));
	}
	SP_TRY(put_text(out, "path", n.path));
	SP_TRY(put_text(out, "to", n.path2));
	SP_TRY(put_text(out, "text", n.text));
	return sp_buf_put_u8(out, '}');
}

bool
file_is_sftp(const struct sp_open *o)
{
	return o->kind == SP_OPEN_SUBSYSTEM && sp_span_is(o->command, "sftp");
}
