/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder/flow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"

void
sp_flow_describe(char *dst, size_t cap, const struct sp_open *o)
{
	char host[300], origin[300];

	if (!sp_open_is_forward(o->kind)) {
		char text[600];

		snprintf(dst, cap, "%s%s%s", sp_open_kind_name(o->kind),
		    o->command.n == 0 ? "" : ": ",
		    sp_vis(text, sizeof(text), o->command));
		return;
	}
	sp_vis(host, sizeof(host), o->host);
	sp_vis(origin, sizeof(origin), o->origin);
	if (o->kind == SP_OPEN_SQL)
		snprintf(dst, cap, "sql: a client of %s port %u, from %s port %u",
		    host, o->port, origin, o->origin_port);
	else if (o->kind == SP_OPEN_FORWARD)
		snprintf(dst, cap, "forward to %s port %u, from %s port %u", host,
		    o->port, origin, o->origin_port);
	else
		snprintf(dst, cap, "connection to listener %u on %s port %u, from "
		    "%s port %u", o->listen, o->host.n == 0 ? "every address" :
		    host, o->port, origin, o->origin_port);
}

enum sp_err
sp_flow_new(struct sp_flow **list, uint32_t chan, const struct sp_open *o,
    bool is_digest)
{
	struct sp_flow *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return SP_ERR_NOMEM;
	f->chan = chan;
	f->kind = o->kind;
	f->is_digest = is_digest;
	f->begun_us = sp_boot_us();
	sp_flow_describe(f->what, sizeof(f->what), o);
	f->next = *list;
	*list = f;
	for (int i = 0; i < SP_FLOW_WAYS; i++)
		if ((f->md[i] = EVP_MD_CTX_new()) == NULL ||
		    EVP_DigestInit_ex(f->md[i], EVP_sha256(), NULL) != 1) {
			sp_flow_free(list, f);
			return SP_ERR_CRYPTO;
		}
	return SP_OK;
}

void
sp_flow_free(struct sp_flow **list, struct sp_flow *f)
{
	for (struct sp_flow **p = list; *p != NULL; p = &(*p)->next)
		if (*p == f) {
			*p = f->next;
			break;
		}
	for (int i = 0; i < SP_FLOW_WAYS; i++)
		EVP_MD_CTX_free(f->md[i]);
	free(f);
}

struct sp_flow *
sp_flow_find(struct sp_flow *list, uint32_t chan)
{
	while (list != NULL && list->chan != chan)
		list = list->next;
	return list;
}

enum sp_err
sp_flow_add(struct sp_flow *f, enum sp_flow_way way, struct sp_span bytes)
{
	f->bytes[way] += bytes.n;
	return bytes.n == 0 || EVP_DigestUpdate(f->md[way], bytes.p, bytes.n) == 1 ?
	    SP_OK : SP_ERR_CRYPTO;
}

static enum sp_err
digest(const EVP_MD_CTX *md, struct sp_buf *b)
{
	EVP_MD_CTX *copy = EVP_MD_CTX_new();
	uint8_t sum[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	bool ok = copy != NULL && EVP_MD_CTX_copy_ex(copy, md) == 1 &&
	    EVP_DigestFinal_ex(copy, sum, &n) == 1 && n == 32;

	EVP_MD_CTX_free(copy);
	return ok ? sp_buf_put(b, sum, 32) : SP_ERR_CRYPTO;
}

enum sp_err
sp_flow_record(const struct sp_flow *f, int64_t now_us,
    uint8_t out[static SP_FLOW_RECORD_BYTES])
{
	SP_BUF_AUTO b = {.max = SP_FLOW_RECORD_BYTES};

	SP_TRY(sp_buf_put_u64(&b, (uint64_t)(now_us - f->begun_us)));
	for (int i = 0; i < SP_FLOW_WAYS; i++) {
		SP_TRY(sp_buf_put_u64(&b, f->bytes[i]));
		SP_TRY(digest(f->md[i], &b));
	}
	memcpy(out, sp_buf_span(&b).p, SP_FLOW_RECORD_BYTES);
	return SP_OK;
}

void
sp_flow_text(char *dst, size_t cap, const char *what,
    const uint8_t record[static SP_FLOW_RECORD_BYTES])
{
	static const char *const names[] = {"sent", "received", "stderr"};
	struct sp_span s = sp_span_of(record, SP_FLOW_RECORD_BYTES);
	uint64_t us = 0, n = 0;
	const uint8_t *sum;
	char hex[65];

	SP_ASSERT(sp_get_u64(&s, &us) == SP_OK);
	snprintf(dst, cap, "%s: %llu ms", what, (unsigned long long)(us / 1000));
	for (int i = 0; i < SP_FLOW_WAYS; i++) {
		size_t at = strlen(dst);

		SP_ASSERT(sp_get_u64(&s, &n) == SP_OK &&
		    sp_get(&s, 32, &sum) == SP_OK);
		if (i == SP_FLOW_ERR && n == 0)
			continue;
		sp_hex(hex, sum, 32);
		snprintf(dst + at, cap - at, ", %s %llu bytes sha256=%s", names[i],
		    (unsigned long long)n, hex);
	}
}
