/* SPDX-License-Identifier: Apache-2.0 */
/* What a search found, for people and for programs. */
#include <inttypes.h>
#include <stdio.h>

#include "bastion/player/search.h"

static const char *
lane_name(uint8_t lane)
{
	switch (lane) {
	case SP_SEARCH_SCREEN:
		return "screen";
	case SP_SEARCH_KEYS:
		return "keys";
	case SP_SEARCH_FILES:
		return "files";
	case SP_SEARCH_COMMANDS:
		return "commands";
	default:
		return "?";
	}
}

/* "1h2m3s": what --at takes; a little before rather than after. */
static void
at_text(char o[static 40], uint64_t us)
{
	unsigned long long t = us / 1000000;

	if (t >= 3600)
		snprintf(o, 40, "%lluh%llum%llus", t / 3600, t / 60 % 60, t % 60);
	else if (t >= 60)
		snprintf(o, 40, "%llum%llus", t / 60, t % 60);
	else
		snprintf(o, 40, "%llus", t);
}

static enum sp_err
member(struct sp_buf *o, const char *name, const char *value)
{
	SP_TRY(sp_buf_printf(o, ",\"%s\":", name));
	return json_string(o, sp_span_str(value));
}

static enum sp_err
put_json(struct sp_buf *o, const struct found *f, const struct hit *h,
    bool is_first)
{
	char id[SP_UUID_TEXT], at[40], when[SP_TIME_TEXT], line[120];

	sp_uuid_text(id, f->session);
	at_text(at, h->at_us);
	sp_time_text(when, f->started_us + (int64_t)h->at_us, true);
	snprintf(line, sizeof(line), "replay %s --at %s", id, at);
	SP_TRY(sp_buf_printf(o, "%s{\"id\":\"%s\"", is_first ? "" : ",\n", id));
	SP_TRY(member(o, "person", f->person));
	SP_TRY(member(o, "account", f->account));
	SP_TRY(member(o, "target", f->target));
	SP_TRY(member(o, "time", when));
	SP_TRY(sp_buf_printf(o, ",\"at_us\":%" PRIu64, h->at_us));
	SP_TRY(member(o, "lane", lane_name(h->lane)));
	SP_TRY(sp_buf_printf(o, ",\"channel\":%u", h->chan));
	SP_TRY(member(o, "text", h->text));
	SP_TRY(member(o, "replay", line));
	return sp_buf_put(o, "}", 1);
}

static enum sp_err
put_text(struct sp_buf *o, const struct found *f, const struct hit *h)
{
	char at[40], text[SEARCH_TEXT_MAX * 12];
	unsigned long long t = h->at_us / 1000000;

	at_text(at, h->at_us);
	sp_vis(text, sizeof(text), sp_span_str(h->text));
	return sp_buf_printf(o, "  %llu:%02llu:%02llu  %-8s  %s\n"
	    "           replay %02x%02x%02x%02x --at %s\n", t / 3600,
	    t / 60 % 60, t % 60, lane_name(h->lane), text, f->session[0],
	    f->session[1], f->session[2], f->session[3], at);
}

enum sp_err
found_put(struct sp_buf *o, const struct found *f, bool json, bool is_first,
    uint64_t room)
{
	char when[SP_TIME_TEXT];

	if (!json) {
		sp_time_text(when, f->started_us, false);
		SP_TRY(sp_buf_printf(o, "%s%02x%02x%02x%02x  %s  %s@%s  %s\n",
		    is_first ? "" : "\n", f->session[0], f->session[1],
		    f->session[2], f->session[3], sp_vis_str(f->person),
		    sp_vis_str(f->account), sp_vis_str(f->target), when));
	}
	for (size_t i = 0; i < f->hits.n && i < room; i++)
		SP_TRY(json ? put_json(o, f, &f->hits.hit[i], is_first && i == 0) :
		    put_text(o, f, &f->hits.hit[i]));
	if (!json && f->hits.count > f->hits.n)
		SP_TRY(sp_buf_printf(o, "  and %zu more in this one\n",
		    f->hits.count - f->hits.n));
	return SP_OK;
}
