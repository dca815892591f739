/* SPDX-License-Identifier: Apache-2.0 */
/* Export of every record of every lane, a JSON object a line, bytes in base64:
 * nothing is interpreted and nothing is left out but what is veiled: that is `*`,
 * and so many of them. */
#include <stdio.h>

#include "bastion/player/cover.h"
#include "bastion/player/veil.h"

#define LINE_MAX_BYTES (2u << 20)
#define FLUSH_BYTES 65536u

static enum sp_err
one(struct sp_buf *out, const struct sp_rec_record *r)
{
	static const char *const lanes[] = {"?", "out", "in", "meta", "file",
	    "view"};

	SP_TRY(sp_buf_printf(out, "{\"us\":%llu,\"lane\":\"%s\",\"kind\":\"%s\","
	    "\"channel\":%u,\"data\":\"", (unsigned long long)r->at_us,
	    lanes[r->lane < 6 ? r->lane : 0], sp_rec_kind_name(r->kind), r->chan));
	/* A screen as the engine keeps it is not looked through. */
	if (r->kind != SP_RECORD_KEYFRAME || !cover_is_on())
		SP_TRY(sp_base64(out, r->data));
	SP_TRY(sp_buf_put_u8(out, '"'));
	SP_TRY(r->kind == SP_RECORD_FILE ? file_json(out, r->data) :
	    derived_json(out, r));
	return sp_buf_put(out, "}\n", 2);
}

enum sp_err
play_records(struct player *p)
{
	SP_BUF_AUTO out = {.max = LINE_MAX_BYTES};
	struct sp_rec_decoder *d = NULL;
	struct sp_rec_record r;
	struct veil v;
	enum sp_err e;

	e = veil_open(&v, p);
	if (e == SP_OK)
		e = sp_rec_decoder_new(p->file, &p->keys, &d);
	while (e == SP_OK && (e = cover_next(d, &r)) == SP_OK &&
	    (e = veil_record(&v, &r)) == SP_OK && (e = one(&out, &r)) == SP_OK) {
		if (out.len < FLUSH_BYTES)
			continue;
		if ((e = viewer_write(&p->view, 1, sp_buf_span(&out))) != SP_OK)
			break;
		sp_buf_reset(&out);
	}
	sp_rec_decoder_free(d);
	veil_close(&v);
	if (e != SP_ERR_EOF)
		return e;
	return viewer_write(&p->view, 1, sp_buf_span(&out));
}
