/* SPDX-License-Identifier: Apache-2.0 */
/* Others who saw the log's heads, and signed that it goes on from what they saw
 * before: with them nobody can show a second log, the vault's owner included. */
#include <inttypes.h>

#include "bastion/verify/bundle.h"

enum sp_err
bundle_witness_add(struct bundle_witnesses *ws, const char *vkey)
{
	struct bundle_witness *w = &ws->w[ws->n];

	if (ws->n == BUNDLE_WITNESSES_MAX)
		return SP_ERR_FULL;
	*w = (struct bundle_witness){.heads = 0};
	SP_TRY(sp_note_key_parse(&w->key, sp_span_str(vkey)));
	if (w->key.alg != SP_NOTE_COSIGN)
		return SP_ERR_SYNTAX;
	ws->n++;
	return SP_OK;
}

enum sp_err
bundle_witness_head(struct bundle_witnesses *ws, struct sp_span note,
    uint64_t size, const char **by)
{
	struct sp_note n;

	SP_TRY(sp_note_parse(note, &n));
	for (size_t i = 0; i < ws->n; i++) {
		struct bundle_witness *w = &ws->w[i];
		int64_t at_s = 0;
		enum sp_err e = sp_note_check(&n, &w->key, NULL, &at_s);

		if (e == SP_ERR_NOTFOUND)
			continue;
		*by = w->key.name;
		if (e != SP_OK)
			return SP_ERR_CRYPTO;
		w->heads++;
		if (size >= w->newest) {
			w->newest = size;
			w->at_s = at_s;
		}
	}
	return SP_OK;
}

const struct bundle_witness *
bundle_witness_lacks(const struct bundle_witnesses *ws, uint64_t index)
{
	for (size_t i = 0; i < ws->n; i++)
		if (ws->w[i].newest <= index)
			return &ws->w[i];
	return NULL;
}

static void
say_json(const struct bundle_witnesses *ws)
{
	printf(",\"witnesses\":[");
	for (size_t i = 0; i < ws->n; i++) {
		const struct bundle_witness *w = &ws->w[i];

		printf("%s{\"heads\":%" PRIu64 ",\"newest\":%" PRIu64
		    ",\"cosigned_s\":%" PRId64, i > 0 ? "," : "", w->heads,
		    w->newest, w->at_s);
		json_text(stdout, "name", w->key.name);
		printf("}");
	}
	printf("]");
}

void
bundle_witness_say(const struct bundle_witnesses *ws, bool json)
{
	char when[SP_TIME_TEXT];

	if (json) {
		say_json(ws);
		return;
	}
	for (size_t i = 0; i < ws->n; i++) {
		const struct bundle_witness *w = &ws->w[i];

		sp_time_text(when, w->at_s < INT64_MAX / 1000000 ? w->at_s * 1000000 :
		    0, false);
		printf("witness     %s cosigned %" PRIu64 " of them, the newest of %"
		    PRIu64 " leaves at %s\n", sp_vis_str(w->key.name), w->heads,
		    w->newest, when);
	}
}
