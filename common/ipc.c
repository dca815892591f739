/* SPDX-License-Identifier: Apache-2.0 */
#include "common/ipc.h"

#include <string.h>

/* --------------------------------------------------------------- codecs */

static enum sp_err
put_capped(struct sp_buf *b, struct sp_span s, size_t cap)
{
	return s.n > cap ? SP_ERR_TOOBIG : sp_buf_put_bytes(b, s);
}

static enum sp_err
put_text(struct sp_buf *b, struct sp_span s, size_t cap)
{
	if (!sp_utf8_is_valid(s) || (s.n > 0 && memchr(s.p, 0, s.n) != NULL))
		return SP_ERR_INVAL;
	return put_capped(b, s, cap);
}

#define SP_E_u8(n, cap) SP_TRY(sp_buf_put_u8(b, m->n));
#define SP_E_u16(n, cap) SP_TRY(sp_buf_put_u16(b, m->n));
#define SP_E_u32(n, cap) SP_TRY(sp_buf_put_u32(b, m->n));
#define SP_E_u64(n, cap) SP_TRY(sp_buf_put_u64(b, m->n));
#define SP_E_i64(n, cap) SP_TRY(sp_buf_put_u64(b, (uint64_t)m->n));
#define SP_E_uuid(n, cap) SP_TRY(sp_buf_put(b, m->n, 16));
#define SP_E_h32(n, cap) SP_TRY(sp_buf_put(b, m->n, 32));
#define SP_E_sig(n, cap) SP_TRY(sp_buf_put(b, m->n, 64));
#define SP_E_str(n, cap) SP_TRY(put_text(b, m->n, cap));
#define SP_E_bytes(n, cap) SP_TRY(put_capped(b, m->n, cap));
#define SP_F_ENC(kind, name, cap) SP_E_##kind(name, cap)

#define SP_D_u8(n, cap) SP_TRY(sp_get_u8(&s, &t.n));
#define SP_D_u16(n, cap) SP_TRY(sp_get_u16(&s, &t.n));
#define SP_D_u32(n, cap) SP_TRY(sp_get_u32(&s, &t.n));
#define SP_D_u64(n, cap) SP_TRY(sp_get_u64(&s, &t.n));
#define SP_D_i64(n, cap)                                                      \
	{                                                                     \
		uint64_t x_;                                                  \
		SP_TRY(sp_get_u64(&s, &x_));                                  \
		t.n = (int64_t)x_;                                            \
	}
#define SP_D_uuid(n, cap) SP_TRY(sp_get_fixed(&s, t.n, 16));
#define SP_D_h32(n, cap) SP_TRY(sp_get_fixed(&s, t.n, 32));
#define SP_D_sig(n, cap) SP_TRY(sp_get_fixed(&s, t.n, 64));
#define SP_D_str(n, cap) SP_TRY(sp_get_str(&s, cap, &t.n));
#define SP_D_bytes(n, cap) SP_TRY(sp_get_bytes(&s, cap, &t.n));
#define SP_F_DEC(kind, name, cap) SP_D_##kind(name, cap)

#define SP_M_CODEC(name, num, from, to, st, fds_)                             \
	enum sp_err sp_enc_##name(struct sp_buf *b,                           \
	    const struct sp_msg_##name *m)                                    \
	{                                                                     \
		(void)b;                                                      \
		(void)m;                                                      \
		SP_FIELDS_##name(SP_F_ENC)                                    \
		return SP_OK;                                                 \
	}                                                                     \
	enum sp_err sp_dec_##name(struct sp_span s, struct sp_msg_##name *m)  \
	{                                                                     \
		struct sp_msg_##name t;                                       \
		memset(&t, 0, sizeof(t));                                     \
		SP_FIELDS_##name(SP_F_DEC)                                    \
		if (s.n != 0)                                                 \
			return SP_ERR_PROTO;                                  \
		memcpy(m, &t, sizeof(t));                                     \
		return SP_OK;                                                 \
	}                                                                     \
	enum sp_err sp_send_##name(struct sp_link *l, uint64_t corr,          \
	    const struct sp_msg_##name *m, const int *fds)                    \
	{                                                                     \
		SP_BUF_AUTO b = {.max = SP_IPC_BODY_MAX};                     \
		enum sp_err e = sp_enc_##name(&b, m);                         \
		if (e != SP_OK)                                               \
			sp_close_fds(fds, (fds_));                            \
		else                                                          \
			e = sp_link_send(l, SP_MSG_##name, corr,              \
			    sp_buf_span(&b), fds, (fds_));                    \
		return e;                                                     \
	}                                                                     \
	static enum sp_err round_trip_##name(struct sp_span s,                \
	    struct sp_buf *out)                                               \
	{                                                                     \
		struct sp_msg_##name m;                                       \
		SP_TRY(sp_dec_##name(s, &m));                                 \
		return sp_enc_##name(out, &m);                                \
	}
SP_IPC_TABLE(SP_M_CODEC)
#undef SP_M_CODEC

/* ---------------------------------------------------------------- table */

#define SP_F_TEXT(kind, name, cap) #kind " " #name " " #cap "; "
const struct sp_ipc_row sp_ipc_rows[] = {
#define SP_M_ROW(name_, num, from_, to_, st, fds_)                            \
	{.name = #name_, .type = (num), .from = (from_), .to = (to_),         \
	    .states = (st), .n_fds = (fds_),                                  \
	    .fields = "" SP_FIELDS_##name_(SP_F_TEXT),                        \
	    .round_trip = round_trip_##name_},
    SP_IPC_TABLE(SP_M_ROW)
#undef SP_M_ROW
};
const size_t sp_ipc_n_rows = sizeof(sp_ipc_rows) / sizeof(sp_ipc_rows[0]);

const struct sp_ipc_row *
sp_ipc_find(uint16_t type)
{
	for (size_t i = 0; i < sp_ipc_n_rows; i++)
		if (sp_ipc_rows[i].type == type)
			return &sp_ipc_rows[i];
	return NULL;
}

const char *
sp_ipc_name(uint16_t type)
{
	const struct sp_ipc_row *r = sp_ipc_find(type);

	return r == NULL ? "unknown" : r->name;
}

const char *
sp_role_name(uint32_t role)
{
	static const struct {
		uint32_t role;
		const char *name;
	} names[] = {{SP_ROLE_SUP, "supervisor"}, {SP_ROLE_ING, "ingress"},
	    {SP_ROLE_AUT, "auth"}, {SP_ROLE_BRK, "broker"},
	    {SP_ROLE_VLT, "vault"}, {SP_ROLE_REC, "recorder"},
	    {SP_ROLE_EGR, "egress"}, {SP_ROLE_PLY, "player"},
	    {SP_ROLE_CLI, "cli"}, {SP_ROLE_SCR, "scribe"},
	    {SP_ROLE_NTY, "notary"}, {SP_ROLE_FIL, "files"},
	    {SP_ROLE_SHP, "ship"}};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].role == role)
			return names[i].name;
	return "?";
}

bool
sp_ipc_may(uint16_t type, uint32_t from, uint32_t to, uint32_t state)
{
	const struct sp_ipc_row *r = sp_ipc_find(type);

	return r != NULL && (r->from & from) != 0 && (r->to & to) != 0 &&
	    (r->states & state) != 0;
}

static void
fnv(uint64_t *h, const void *p, size_t n)
{
	const uint8_t *b = p;

	for (size_t i = 0; i < n; i++)
		*h = (*h ^ b[i]) * 0x100000001b3ULL;
}

void
sp_ipc_table_hash(uint8_t out[static 32])
{
	static uint8_t known[32];
	static bool is_known;

	for (size_t k = 0; k < 4 && !is_known; k++) {
		uint64_t h = 0xcbf29ce484222325ULL + k;

		for (size_t i = 0; i < sp_ipc_n_rows; i++) {
			const struct sp_ipc_row *r = &sp_ipc_rows[i];
			uint32_t v[5] = {r->type, r->from, r->to, r->states,
			    r->n_fds};

			fnv(&h, r->name, strlen(r->name));
			fnv(&h, v, sizeof(v));
			fnv(&h, r->fields, strlen(r->fields));
		}
		memcpy(known + 8 * k, &h, 8);
	}
	is_known = true;
	memcpy(out, known, sizeof(known));
}
