/* SPDX-License-Identifier: Apache-2.0 */
/* `seals renew`: the broker's part of `sallyport vault rotate`. */
#include "bastion/broker/renew.h"
#include "bastion/broker/verb_int.h"

#include <stdio.h>
#include <stdlib.h>

#define BAR 30

struct renewing {
	struct sp_call *c;
	unsigned told;		/* tenths that a line was printed for */
};

static void
bar(struct sp_call *c, const struct sp_renewal *n, unsigned percent)
{
	char line[160], done[BAR + 1];

	for (unsigned i = 0; i < BAR; i++)
		done[i] = i * 100 < percent * BAR ? '#' : '.';
	done[BAR] = '\0';
	snprintf(line, sizeof(line), "\r\033[K[%s] %3u %%  %llu of %llu rows",
	    done, percent, (unsigned long long)n->done,
	    (unsigned long long)n->all);
	sp_call_err(c, sp_span_str(line));
}

static void
on_progress(void *arg, enum sp_err e, const struct sp_renewal *n)
{
	struct renewing *w = arg;
	unsigned percent = n->all == 0 || n->done >= n->all ? 100 :
	    (unsigned)(n->done * 100 / n->all);
	char line[80];

	(void)e;
	if (w->c->style.json)
		return;
	if (w->c->pty && !w->c->is_dumb) {
		bar(w->c, n, percent);
	} else if (percent / 10 > w->told) {
		w->told = percent / 10;
		snprintf(line, sizeof(line), "%u %%: %llu of %llu rows\n", percent,
		    (unsigned long long)n->done, (unsigned long long)n->all);
		sp_call_err(w->c, sp_span_str(line));
	}
}

static void
say_json(struct sp_call *c, const struct sp_renewal *n, bool whole)
{
	json_object *o = json_object_new_object();

	json_object_object_add(o, "id", sp_json_text("seals"));
	json_object_object_add(o, "state", sp_json_text(whole ? "renewed" :
	    "incomplete"));
	json_object_object_add(o, "rows", json_object_new_int64((int64_t)n->done));
	json_object_object_add(o, "renewed",
	    json_object_new_int64((int64_t)n->renewed));
	json_object_object_add(o, "broken",
	    json_object_new_int64((int64_t)n->broken));
	json_object_object_add(o, "closed",
	    json_object_new_int64((int64_t)n->closed));
	sp_call_json(c, o);
	sp_call_end(c, whole ? SP_EXIT_OK : SP_EXIT_REFUSED);
}

static void
on_done(void *arg, enum sp_err e, const struct sp_renewal *n)
{
	struct renewing *w = arg;
	struct sp_call *c = w->c;
	bool whole = n->broken == 0 && n->closed == 0;
	char detail[160];

	free(w);
	if (c->pty && !c->style.json)
		sp_call_err(c, sp_span_str("\r\033[K"));
	snprintf(detail, sizeof(detail), "{\"rows\": %llu, \"renewed\": %llu, "
	    "\"broken\": %llu, \"closed\": %llu}", (unsigned long long)n->done,
	    (unsigned long long)n->renewed, (unsigned long long)n->broken,
	    (unsigned long long)n->closed);
	sp_audit(c->b->store, e == SP_OK ? "seals_renewed" : "seals_not_renewed",
	    c->who.name, NULL, detail, NULL, NULL);
	if (e != SP_OK)
		sp_call_fail_err(c, e, "seals renew");
	else if (c->style.json)
		say_json(c, n, whole);
	else if (!whole)
		sp_call_fail(c, SP_EXIT_REFUSED, "%llu rows were made anew, %llu "
		    "have a broken seal, %llu hold a secret that does not open: "
		    "sallyport doctor", (unsigned long long)n->renewed,
		    (unsigned long long)n->broken,
		    (unsigned long long)n->closed);
	else
		sp_call_did(c, "seals", "renewed", "%llu of %llu rows were made "
		    "anew", (unsigned long long)n->renewed,
		    (unsigned long long)n->done);
}

void
sp_verb_seals_renew(struct sp_call *c)
{
	struct renewing *w = calloc(1, sizeof(*w));

	SP_ASSERT(w != NULL);
	w->c = c;
	sp_renew(c->b->store, on_progress, on_done, w);
}
