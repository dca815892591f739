/* SPDX-License-Identifier: Apache-2.0 */
/* What a recording says of itself: screens, lines, commands, marks. */
#include "bastion/player/player.h"
#include "recorder/view.h"

static enum sp_err
begin(struct sp_buf *out, const char *name, uint64_t ago_us)
{
	return sp_buf_printf(out, ",\"%s\":{\"ago_us\":%llu,", name,
	    (unsigned long long)ago_us);
}

static enum sp_err
text(struct sp_buf *out, const char *name, struct sp_span s)
{
	SP_TRY(sp_buf_printf(out, "\"%s\":", name));
	SP_TRY(json_string(out, s));
	return sp_buf_put_u8(out, '}');
}

static enum sp_err
keyframe(struct sp_buf *out, struct sp_span s)
{
	struct sp_view_keyframe k;

	if (sp_view_keyframe_decode(s, &k) != SP_OK)
		return SP_OK;
	return sp_buf_printf(out, ",\"keyframe\":{\"at_us\":%llu,"
	    "\"columns\":%u,\"rows\":%u,\"unsure\":%s,\"bytes\":%zu}",
	    (unsigned long long)k.at_us, k.cols, k.rows, k.is_unsure ? "true" : "false", k.state.n);
}

static enum sp_err
line(struct sp_buf *out, struct sp_span s)
{
	struct sp_view_line l;

	if (sp_view_line_decode(s, &l) != SP_OK)
		return SP_OK;
	SP_TRY(begin(out, "line", l.ago_us));
	SP_TRY(sp_buf_printf(out, "\"row\":%u,", l.row));
	return text(out, "text", l.text);
}

static enum sp_err
command(struct sp_buf *out, struct sp_span s)
{
	static const char *const sources[] = {"?", "screen", "osc", "exec"};
	struct sp_view_command c;

	if (sp_view_command_decode(s, &c) != SP_OK)
		return SP_OK;
	SP_TRY(begin(out, "command", c.ago_us));
	SP_TRY(sp_buf_printf(out, "\"source\":\"%s\",\"percent\":%u,\"row\":%u,",
	    sources[c.source < 4 ? c.source : 0], c.percent, c.row));
	return text(out, "text", c.text);
}

static enum sp_err
stretch(struct sp_buf *out, const char *name, struct sp_span s)
{
	struct sp_view_span t;

	if (sp_view_span_decode(s, &t) != SP_OK)
		return SP_OK;
	SP_TRY(sp_buf_printf(out, ",\"%s\":{\"from_us\":%llu,\"to_us\":%llu,",
	    name, (unsigned long long)t.from_us, (unsigned long long)t.to_us));
	return text(out, "why", t.why);
}

enum sp_err
derived_json(struct sp_buf *out, const struct sp_rec_record *r)
{
	switch (r->kind) {
	case SP_RECORD_KEYFRAME:
		return keyframe(out, r->data);
	case SP_RECORD_LINE:
		return line(out, r->data);
	case SP_RECORD_COMMAND:
		return command(out, r->data);
	case SP_RECORD_NOECHO:
		return stretch(out, "noecho", r->data);
	case SP_RECORD_GAP:
		return stretch(out, "gap", r->data);
	default:
		return SP_OK;
	}
}
