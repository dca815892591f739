/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/rotate.h"
#include "bastion/broker/approval_way.h"
#include "bastion/broker/sql.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/where.h"
#include "bastion/broker/flow.h"

struct walk {
	struct sp_broker *b;
	uint8_t target[16], via[16];	/* where it leads; the account at hand */
	struct sp_ask hops[SP_WAY_MAX];	/* the nearest to the target first */
	size_t n;
	crypto_hash_sha256_state hash;
	sp_way_cb cb;
	void *arg;
};

static void
walk_end(struct walk *w, enum sp_err e, const char *text)
{
	struct sp_ask *in_order = e != SP_OK ? NULL :
	    calloc(w->n, sizeof(*in_order));
	struct sp_way way = {.hops = in_order, .n = w->n};

	if (in_order == NULL) {
		w->cb(w->arg, e == SP_OK ? SP_ERR_NOMEM : e, NULL, text);
	} else {
		for (size_t i = 0; i < w->n; i++)
			in_order[i] = w->hops[w->n - 1 - i];
		crypto_hash_sha256_final(&w->hash, way.digest);
		w->cb(w->arg, SP_OK, &way, "");
	}
	free(in_order);
	free(w);
}

static void
refuse(struct walk *w, const char *what)
{
	char text[200];

	snprintf(text, sizeof(text), "the way to this target %s; an administrator "
	    "mends it with `target set`", what);
	walk_end(w, SP_ERR_DENIED, text);
}

static void
add_row(struct walk *w, const struct sp_rows *r)
{
	uint8_t id[16];
	uint64_t ver = sp_rows_ver(r, 0);

	(void)sp_rows_uuid(r, 0, "id", id);
	crypto_hash_sha256_update(&w->hash, id, sizeof(id));
	crypto_hash_sha256_update(&w->hash, (const uint8_t *)&ver, sizeof(ver));
}

static void step(struct walk *w);

static void
got_target(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct walk *w = arg;
	struct sp_ask *a = &w->hops[w->n];
	bool seen = false;

	if (e != SP_OK) {
		walk_end(w, e, sp_flow_why(e));
		return;
	}
	if (sp_rows_n(r) != 1 || sp_ask_target(a, r, 0) != SP_OK) {
		refuse(w, "leads over one that is missing or was changed");
		return;
	}
	if (!sp_rows_bool(r, 0, "enabled")) {
		refuse(w, "leads over one that is disabled");
		return;
	}
	seen = memcmp(a->target, w->target, 16) == 0;
	for (size_t i = 0; i < w->n; i++)
		seen = seen || memcmp(a->target, w->hops[i].target, 16) == 0;
	if (seen) {
		refuse(w, "leads back to itself");
		return;
	}
	add_row(w, r);
	memcpy(w->via, a->via, 16);
	w->n++;
	if (sp_uuid_is_nil(w->via))
		walk_end(w, SP_OK, "");
	else
		step(w);
}

static void
got_account(void *arg, enum sp_err e, struct sp_rows *r)
{
	struct walk *w = arg;
	char id[SP_UUID_TEXT];
	const char *p[1] = {id};
	uint8_t target[16];

	if (e != SP_OK) {
		walk_end(w, e, sp_flow_why(e));
		return;
	}
	if (sp_rows_n(r) != 1 || !sp_rows_uuid(r, 0, "target_id", target) ||
	    sp_ask_account(&w->hops[w->n], r, 0) != SP_OK) {
		refuse(w, "leads over an account that is missing or was changed");
		return;
	}
	add_row(w, r);
	sp_uuid_text(id, target);
	sp_store_load(w->b->store, SP_T_TARGETS, "WHERE id = $1", p, 1, got_target,
	    w);
}

static void
step(struct walk *w)
{
	char id[SP_UUID_TEXT];
	const char *p[1] = {id};

	if (w->n == SP_WAY_MAX) {
		refuse(w, "is longer than four targets");
		return;
	}
	sp_uuid_text(id, w->via);
	sp_store_load(w->b->store, SP_T_ACCOUNTS, "WHERE id = $1", p, 1,
	    got_account, w);
}

void
sp_way_load(struct sp_broker *b, const struct sp_ask *ask, sp_way_cb cb, void *arg)
{
	struct walk *w = calloc(1, sizeof(*w));

	if (w == NULL) {
		cb(arg, SP_ERR_NOMEM, NULL, "out of memory");
		return;
	}
	w->b = b;
	w->cb = cb;
	w->arg = arg;
	memcpy(w->target, ask->target, 16);
	memcpy(w->via, ask->via, 16);
	crypto_hash_sha256_init(&w->hash);
	step(w);
}

/* ------------------------------------------------------------- rows to asks */

enum sp_err
sp_ask_target(struct sp_ask *a, const struct sp_rows *r, size_t row)
{
	int64_t port = sp_rows_i64(r, row, "port");
	const char *more = sp_rows_get(r, row, "more_addrs");
	const char *name = sp_rows_get(r, row, "name");

	if (!sp_rows_uuid(r, row, "id", a->target) || port < 1 || port > 65535 ||
	    !sp_name_is_valid(sp_span_str(name)))
		return SP_ERR_INVAL;
	snprintf(a->target_name, sizeof(a->target_name), "%s", name);
	a->port = (uint16_t)port;
	if (!sp_rows_uuid(r, row, "via", a->via))
		memset(a->via, 0, 16);
	a->legacy = sp_rows_bool(r, row, "legacy");
	a->protocol = sp_sql_protocol(sp_rows_get(r, row, "protocol"));
	SP_TRY(sp_sql_copy(a->sql, sizeof(a->sql), sp_rows_get(r, row, "sql")));
	SP_TRY(sp_span_cstr(sp_span_str(more == NULL ? "" : more), a->more_addrs,
	    sizeof(a->more_addrs)));
	SP_TRY(sp_span_cstr(sp_span_str(sp_rows_get(r, row, "addr")), a->addr,
	    sizeof(a->addr)));
	SP_TRY(sp_span_cstr(sp_span_str(sp_rows_get(r, row, "host_keys")),
	    a->host_keys, sizeof(a->host_keys)));
	return sp_span_cstr(sp_span_str(sp_rows_get(r, row, "tags")), a->tags,
	    sizeof(a->tags));
}

enum sp_err
sp_ask_account(struct sp_ask *a, const struct sp_rows *r, size_t row)
{
	int64_t seconds;
	const char *name = sp_rows_get(r, row, "name");

	if (!sp_rows_uuid(r, row, "id", a->account) ||
	    !sp_name_is_valid(sp_span_str(name)) ||
	    sp_rows_bool(r, row, "disabled"))
		return SP_ERR_INVAL;
	snprintf(a->account_name, sizeof(a->account_name), "%s", name);
	a->cred_kind = (uint8_t)sp_rows_i64(r, row, "kind");
	a->rotates = sp_rotation_when(sp_rows_get(r, row, "rotate"), &a->rotates,
	    &seconds) == SP_OK && a->rotates;
	if (!sp_rows_uuid(r, row, "secret_id", a->secret))
		memset(a->secret, 0, 16);
	a->exclusive = sp_rows_bool(r, row, "exclusive");
	return sp_sql_copy(a->role, sizeof(a->role), sp_rows_get(r, row, "sql"));
}

enum sp_err
sp_ask_addr(const struct sp_ask *a, size_t i, struct sp_where *out)
{
	if (i > 0)
		return sp_where_nth(a->more_addrs, i - 1, out);
	snprintf(out->host, sizeof(out->host), "%.45s", a->addr);
	out->port = a->port;
	return SP_OK;
}
