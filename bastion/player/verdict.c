/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "bastion/player/player.h"
#include "common/sealto.h"

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

static const char *const lanes[SP_REC_LANES] = {"screen", "keys",
    "description", "files", "view"};

/* Who can open it is a part of the evidence. */
static enum sp_err
sealed_json(const struct sp_rec_report *r, struct sp_buf *o)
{
	const char *comma = "";

	SP_TRY(sp_buf_printf(o, ",\"sealed\":["));
	for (size_t l = 0; l < SP_REC_LANES; l++) {
		const char *between = "";

		if (r->lane[l].threshold == 0)
			continue;
		SP_TRY(sp_buf_printf(o, "%s{\"lane\":\"%s\",\"threshold\":%u,"
		    "\"keys\":[", comma, lanes[l], r->lane[l].threshold));
		for (size_t i = 0; i < r->n_recipients; i++) {
			char key[SP_IDENTITY_TEXT];

			if ((r->lane[l].who >> i & 1) == 0)
				continue;
			sp_identity_text(key, r->recipient[i]);
			SP_TRY(sp_buf_printf(o, "%s\"%s\"", between, key));
			between = ",";
		}
		SP_TRY(sp_buf_printf(o, "]}"));
		comma = ",";
	}
	return sp_buf_put_u8(o, ']');
}

static enum sp_err
print_sealed(const struct sp_rec_report *r, struct sp_buf *o)
{
	for (size_t l = 0; l < SP_REC_LANES; l++) {
		if (r->lane[l].threshold == 0)
			continue;
		SP_TRY(sp_buf_printf(o, "%s%-12s", l == 0 ? "sealed   " :
		    "         ", lanes[l]));
		if (r->lane[l].threshold > 1)
			SP_TRY(sp_buf_printf(o, " %u of", r->lane[l].threshold));
		for (size_t i = 0; i < r->n_recipients; i++) {
			char key[SP_IDENTITY_TEXT];

			sp_identity_text(key, r->recipient[i]);
			if ((r->lane[l].who >> i & 1) != 0)
				SP_TRY(sp_buf_printf(o, " %.16s", key));
		}
		SP_TRY(sp_buf_put_u8(o, '\n'));
	}
	return SP_OK;
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
		if (r->verdict == SP_REC_CUT && r->chunks > 0)
			SP_TRY(field(o, "cut_at", when));
		SP_TRY(field(o, "head", head));
		SP_TRY(sealed_json(r, o));
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
	SP_TRY(sp_buf_printf(o, "head     %s\n", head));
	return print_sealed(r, o);
}

enum sp_err
verdict_print(const struct sp_rec_report *r, bool json, struct sp_buf *o)
{
	static const char *const loud[] = {[SP_REC_INTACT] = "INTACT",
	    [SP_REC_CUT] = "CUT", [SP_REC_FORGED] = "FORGED",
	    [SP_REC_UNKNOWN] = "UNKNOWN", [SP_REC_MISSING] = "MISSING",
	    [SP_REC_RECOVERED] = "RECOVERED", [SP_REC_OPEN] = "OPEN"};
	char when[SP_TIME_TEXT] = "";	/* of the last good chunk */

	if (json)
		return print_json(r, o);
	if (r->verdict == SP_REC_CUT && r->chunks > 0)
		sp_time_text(when, r->last_us, true);
	SP_TRY(sp_buf_printf(o, "%s%s%s: %s\n", (size_t)r->verdict <
	    sizeof(loud) / sizeof(loud[0]) ? loud[r->verdict] : "UNKNOWN",
	    when[0] != '\0' ? " at " : "", when, r->text));
	return r->has_header ? print_details(r, o) : SP_OK;
}
