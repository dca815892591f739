/* SPDX-License-Identifier: Apache-2.0 */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/flow.h"
#include "bastion/broker/main.h"
#include "bastion/broker/session_int.h"
#include "policy/policy.h"

#define FIRST_TRY_MS 200

/*
 * The newest row whose seal is good decides. A row that was there and is gone
 * does not bring back an older one: the number never goes down while we run.
 */
static int64_t seq_now;
static bool is_loading, load_again;

static void
on_try_again(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	sp_broker_policy_load(arg);
}

static void
try_again(struct sp_broker *b)
{
	struct timeval tv = {.tv_usec = FIRST_TRY_MS * 1000};

	if (!b->stopping)
		event_base_once(b->ev, -1, EV_TIMEOUT, on_try_again, b, &tv);
}

static void
alarm_of(struct sp_broker *b, const char *event, int64_t seq, const char *why)
{
	struct json_object *d = sp_detail();

	sp_detail_i64(d, "seq", seq);
	sp_detail_str(d, "why", why);
	sp_flow_audit(b, event, b->node, NULL, d);
}

static void
take(struct sp_broker *b, const struct sp_rows *r)
{
	struct sp_span body = sp_span_str(sp_rows_get(r, 0, "body"));
	int64_t seq = sp_rows_i64(r, 0, "seq");
	struct sp_policy *p = NULL;
	struct sp_policy_diag diag = {.line = 0};
	uint8_t h[32];

	if (seq == seq_now && b->policy != NULL)
		return;
	if (seq < seq_now) {
		alarm_of(b, "policy_went_back", seq, "the newest policy's row is gone");
		return;
	}
	if (sp_policy_parse(body, &p, &diag) != SP_OK) {
		alarm_of(b, "policy_unreadable", seq, diag.text);
		return;
	}
	crypto_hash_sha256(h, body.p, body.n);
	sp_policy_free(b->policy);
	b->policy = p;
	sp_hex(b->policy_hash, h, 32);
	seq_now = seq;
	sp_log(SP_INFO, "policy", NULL, "seq=%lld hash=%s rules=%zu", (long long)seq,
	    b->policy_hash, sp_policy_n_rules(p));
	sp_session_judge_all(b);
}

static void
got_policy(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct sp_broker *b = arg;

	is_loading = false;
	if (e == SP_OK && sp_rows_n(r) == 1)
		take(b, r);
	if (load_again)
		sp_broker_policy_load(b);
	else if (b->policy == NULL && e != SP_OK)
		try_again(b);
}

void
sp_broker_policy_load(struct sp_broker *b)
{
	if (is_loading) {
		load_again = true;
		return;
	}
	load_again = false;
	is_loading = true;
	sp_store_load(b->store, SP_T_POLICIES, "ORDER BY seq DESC LIMIT 1", NULL, 0,
	    got_policy, b);
}
