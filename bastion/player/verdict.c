/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "bastion/player/player.h"

bool
verdict_is_good(enum sp_rec_verdict v)
{
	return v == SP_REC_INTACT || v == SP_REC_RECOVERED;
}

static const char *
end_name(uint8_t code)
{
	static const char *const names[] = {"normal", "expired", "revoked",
	    "killed", "disk", "protocol", "leg died", "broker", "target",
	    "shutdown", "policy"};

	return code < sizeof(names) / sizeof(names[0]) ? names[code] : "unknown";
}

static enum sp_err
field(struct sp_buf *o, const char *name, const char *value)
{
	SP_TRY(sp_buf_printf(o, ",\"%s\":", name));
	return json_string(o, sp_span_str(value));
}

static enum sp_err
number(struct sp_buf *o, const char *name, uint64_t v)
{
	return sp_buf_printf(o, ",\"%s\":%llu", name, (unsigned long long)v);
}

static enum sp_err
print_json(const struct sp_rec_report *r, struct sp_buf *o)
{
	char id[SP_UUID_TEXT], when[SP_TIME_TEXT], head[65], text[1100];

	sp_uuid_text(id, r->session);
	sp_hex(head, r->head, 32);
	SP_TRY(sp_buf_printf(o, "{\"id\":\"%s\",\"verdict\":\"%s\"", id,
	    sp_rec_verdict_name(r->verdict)));
	SP_TRY(sp_buf_printf(o, ",\"good\":%s",
	    verdict_is_good(r->verdict) ? "true" : "false"));
	SP_TRY(field(o, "text", r->text));
	if (r->has_header) {
		sp_time_text(when, r->opened_us, true);
		SP_TRY(field(o, "opened", when));
		sp_time_text(when, r->last_us, true);
		SP_TRY(field(o, "last", when));
		SP_TRY(field(o, "head", head));
	}
	if (r->is_closed) {
		SP_TRY(field(o, "end", end_name(r->code)));
		SP_TRY(field(o, "reason", sp_vis(text, sizeof(text),
		    sp_span_str(r->reason))));
	}
	SP_TRY(number(o, "chunks", r->chunks));
	SP_TRY(number(o, "signed_chunks", r->signed_chunks));
	SP_TRY(number(o, "good_bytes", r->good_bytes));
	SP_TRY(number(o, "file_bytes", r->file_bytes));
	SP_TRY(number(o, "bytes_in", r->bytes_in));
	SP_TRY(number(o, "bytes_out", r->bytes_out));
	return sp_buf_put(o, "}\n", 2);
}

static enum sp_err
print_details(const struct sp_rec_report *r, struct sp_buf *o)
{
	char id[SP_UUID_TEXT], when[SP_TIME_TEXT], head[65], text[1100];

	sp_uuid_text(id, r->session);
	sp_hex(head, r->head, 32);
	SP_TRY(sp_buf_printf(o, "session  %s\n", id));
	sp_time_text(when, r->opened_us, false);
	SP_TRY(sp_buf_printf(o, "opened   %s\n", when));
	sp_time_text(when, r->last_us, false);
	SP_TRY(sp_buf_printf(o, "%s%s", r->is_closed ? "closed   " :
	    "up to    ", when));
	if (r->is_closed)
		SP_TRY(sp_buf_printf(o, ", %s: %s", end_name(r->code),
		    sp_vis(text, sizeof(text), sp_span_str(r->reason))));
	SP_TRY(sp_buf_printf(o, "\nchunks   %llu, %llu of them signed for\n",
	    (unsigned long long)r->chunks, (unsigned long long)r->signed_chunks));
	SP_TRY(sp_buf_printf(o, "bytes    %llu in, %llu out, %llu of %llu in "
	    "the file are good\n", (unsigned long long)r->bytes_in,
	    (unsigned long long)r->bytes_out, (unsigned long long)r->good_bytes,
	    (unsigned long long)r->file_bytes));
	return sp_buf_printf(o, "head     %s\n", head);
}

enum sp_err
verdict_print(const struct sp_rec_report *r, bool json, struct sp_buf *o)
{
	static const char *const loud[] = {[SP_REC_INTACT] = "INTACT",
	    [SP_REC_CUT] = "CUT", [SP_REC_FORGED] = "FORGED",
	    [SP_REC_UNKNOWN] = "UNKNOWN", [SP_REC_MISSING] = "MISSING",
	    [SP_REC_RECOVERED] = "RECOVERED", [SP_REC_OPEN] = "OPEN"};

	if (json)
		return print_json(r, o);
	SP_TRY(sp_buf_printf(o, "%s: %s\n", (size_t)r->verdict <
	    sizeof(loud) / sizeof(loud[0]) ? loud[r->verdict] : "UNKNOWN",
	    r->text));
	return r->has_header ? print_details(r, o) : SP_OK;
}
