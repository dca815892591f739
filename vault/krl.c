/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/krl.h"

#include <stdlib.h>

#include "common/sort.h"
#include "common/text.h"
#include "vault/hostsig.h"
#include "vault/poison.h"

#define MAGIC 0x5353484b524c0a00ULL	/* "SSHKRL\n\0" */
#define FORMAT 1
enum { OF_CERTIFICATES = 1, OF_KEYS = 2 };	/* sections */
enum { BY_SERIAL_LIST = 0x20, BY_SERIAL_RANGE = 0x21, BY_KEY_ID = 0x23 };

static int
by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static enum sp_err
put_section(struct sp_buf *b, uint8_t type, const struct sp_buf *data)
{
	if (data->len == 0)
		return SP_OK;
	SP_TRY(sp_buf_put_u8(b, type));
	return sp_buf_put_ssh_string(b, sp_buf_span(data));
}

/* A run of serials is a range of its own; the others share one list. */
static enum sp_err
put_runs(struct sp_buf *b, const uint64_t *v, size_t n)
{
	SP_BUF_AUTO list = {.max = SP_KRL_MAX};

	for (size_t i = 0, k; i < n; i = k) {
		SP_BUF_AUTO range = {.max = 16};

		for (k = i + 1; k < n && v[k] - v[k - 1] <= 1; k++)
			;
		if (v[k - 1] == v[i]) {
			SP_TRY(sp_buf_put_ssh_u64(&list, v[i]));
			continue;
		}
		SP_TRY(sp_buf_put_ssh_u64(&range, v[i]));
		SP_TRY(sp_buf_put_ssh_u64(&range, v[k - 1]));
		SP_TRY(put_section(b, BY_SERIAL_RANGE, &range));
	}
	return put_section(b, BY_SERIAL_LIST, &list);
}

static enum sp_err
put_serials(struct sp_buf *b, struct sp_span s)
{
	size_t n = s.n / 8;
	enum sp_err e = SP_OK;
	uint64_t *v;

	if (s.n % 8 != 0 || n > SP_KRL_SERIALS)
		return SP_ERR_PROTO;
	if (n == 0)
		return SP_OK;
	if ((v = calloc(n, sizeof(*v))) == NULL)
		return SP_ERR_NOMEM;
	for (size_t i = 0; e == SP_OK && i < n; i++)
		if ((e = sp_get_u64(&s, &v[i])) == SP_OK && v[i] == 0)
			e = SP_ERR_INVAL;
	sp_sort(v, n, sizeof(*v), by_number);
	if (e == SP_OK)
		e = put_runs(b, v, n);
	free(v);
	return e;
}

static enum sp_err
put_key_ids(struct sp_buf *b, struct sp_span s)
{
	SP_BUF_AUTO ids = {.max = SP_KRL_MAX};

	if (s.n % 16 != 0 || s.n / 16 > SP_KRL_KEY_IDS)
		return SP_ERR_PROTO;
	while (s.n > 0) {
		char text[SP_UUID_TEXT];
		const uint8_t *id;

		SP_TRY(sp_get(&s, 16, &id));
		if (sp_uuid_is_nil(id))
			return SP_ERR_INVAL;
		sp_uuid_text(text, id);
		SP_TRY(sp_buf_put_ssh_string(&ids, sp_span_str(text)));
	}
	return put_section(b, BY_KEY_ID, &ids);
}

static enum sp_err
put_head(struct sp_buf *b, uint64_t version, int64_t now_us)
{
	SP_TRY(sp_buf_put_ssh_u64(b, MAGIC));
	SP_TRY(sp_buf_put_ssh_u32(b, FORMAT));
	SP_TRY(sp_buf_put_ssh_u64(b, version));
	SP_TRY(sp_buf_put_ssh_u64(b, (uint64_t)(now_us / 1000000)));
	SP_TRY(sp_buf_put_ssh_u64(b, 0));			/* flags */
	SP_TRY(sp_buf_put_ssh_string(b, sp_span_str("")));	/* reserved */
	return sp_buf_put_ssh_string(b, sp_span_str("sallyport"));
}

enum sp_err
sp_krl_make(const struct sp_root *r, const struct sp_msg_v_krl *m,
    int64_t now_us, struct sp_buf *out)
{
	SP_BUF_AUTO b = {.max = SP_KRL_MAX}, certs = {.max = SP_KRL_MAX};
	SP_BUF_AUTO ca = {.max = 128}, keys = {.max = SP_KRL_MAX};

	if (!r->is_open)
		return SP_ERR_SEALED;
	if (m->cas.n > 0 && sp_host_keys_check(m->cas, true) != SP_OK)
		return SP_ERR_INVAL;
	SP_TRY(put_head(&b, m->version, now_us));
	SP_TRY(sp_ssh_ed25519_blob(&ca, r->ca_pk));
	SP_TRY(sp_buf_put_ssh_string(&certs, sp_buf_span(&ca)));
	SP_TRY(sp_buf_put_ssh_string(&certs, sp_span_str("")));	/* reserved */
	SP_TRY(put_serials(&certs, m->serials));
	SP_TRY(put_key_ids(&certs, m->key_ids));
	SP_TRY(put_section(&b, OF_CERTIFICATES, &certs));
	SP_TRY(sp_buf_put(&keys, m->cas.p, m->cas.n));
	SP_TRY(put_section(&b, OF_KEYS, &keys));
	return sp_buf_put(out, sp_buf_span(&b).p, b.len);
}
