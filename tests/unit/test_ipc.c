/* SPDX-License-Identifier: Apache-2.0 */
/* covers: common/ipc.c common/ipc_messages.h */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/ipc.h"

#define FIELDS_MAX 24
struct field {
	char kind[8], name[32];
	size_t cap, fixed;
};

/* The fields as the table tells them to the documentation. */
static size_t
fields_of(const struct sp_ipc_row *row, struct field *f)
{
	static const struct {
		const char *kind;
		size_t n;
	} fixed[] = {{"u8", 1}, {"u16", 2}, {"u32", 4}, {"u64", 8}, {"i64", 8},
	    {"uuid", 16}, {"h32", 32}, {"sig", 64}};
	size_t n = 0;

	for (const char *s = row->fields; *s != '\0';
	    s = strstr(s, "; ") + 2, n++) {
		cr_assert(n < FIELDS_MAX);
		f[n].fixed = 0;
		cr_assert(sscanf(s, "%7s %31s %zu;", f[n].kind, f[n].name,
		    &f[n].cap) == 3, "%s", row->fields);
		for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
			if (strcmp(f[n].kind, fixed[i].kind) == 0)
				f[n].fixed = fixed[i].n;
	}
	return n;
}

/* A body whose field `odd` is filled with `c` and has `more` bytes more than
 * its cap; other texts have a few bytes. */
static void
make_body(const struct field *f, size_t n, size_t odd, char c, size_t more,
    struct sp_buf *b)
{
	static uint8_t fill[SP_IPC_BODY_MAX];

	for (size_t i = 0; i < n; i++) {
		size_t len = i == odd ? f[i].cap + more : f[i].cap < 5 ? f[i].cap : 5;

		memset(fill, i == odd ? c : 'k', sizeof(fill));
		cr_assert((f[i].fixed > 0 ? sp_buf_put(b, fill, f[i].fixed) :
		    sp_buf_put_bytes(b, sp_span_of(fill, len))) == SP_OK);
	}
}

Test(ipc, every_body_comes_back_the_same)
{
	for (size_t r = 0; r < sp_ipc_n_rows; r++) {
		SP_BUF_AUTO in = {.max = SP_IPC_BODY_MAX};
		SP_BUF_AUTO out = {.max = SP_IPC_BODY_MAX};
		struct field f[FIELDS_MAX];
		size_t n = fields_of(&sp_ipc_rows[r], f);

		make_body(f, n, SIZE_MAX, 0, 0, &in);
		cr_assert(sp_ipc_rows[r].round_trip(sp_buf_span(&in), &out) == SP_OK,
		    "%s", sp_ipc_rows[r].name);
		cr_assert(sp_span_eq(sp_buf_span(&in), sp_buf_span(&out)), "%s",
		    sp_ipc_rows[r].name);
	}
}

Test(ipc, each_truncation_and_a_trailing_byte_are_refused)
{
	for (size_t r = 0; r < sp_ipc_n_rows; r++) {
		const struct sp_ipc_row *row = &sp_ipc_rows[r];
		SP_BUF_AUTO in = {.max = SP_IPC_BODY_MAX};
		SP_BUF_AUTO out = {.max = SP_IPC_BODY_MAX};
		struct field f[FIELDS_MAX];

		make_body(f, fields_of(row, f), SIZE_MAX, 0, 0, &in);
		for (size_t k = 0; k < in.len; k++)
			cr_assert(row->round_trip(sp_span_of(sp_buf_span(&in).p, k),
			    &out) == SP_ERR_PROTO, "%s cut to %zu", row->name, k);
		cr_assert(sp_buf_put_u8(&in, 0) == SP_OK);
		cr_assert(row->round_trip(sp_buf_span(&in), &out) == SP_ERR_PROTO,
		    "%s with a byte more", row->name);
	}
}

Test(ipc, caps_hold_and_every_message_fits_at_its_caps)
{
	for (size_t r = 0; r < sp_ipc_n_rows; r++) {
		const struct sp_ipc_row *row = &sp_ipc_rows[r];
		struct field f[FIELDS_MAX];
		size_t n = fields_of(row, f), most = 0;

		for (size_t i = 0; i < n; i++) {
			SP_BUF_AUTO full = {.max = 2 * SP_IPC_BODY_MAX};
			SP_BUF_AUTO over = {.max = 2 * SP_IPC_BODY_MAX};
			SP_BUF_AUTO out = {.max = 2 * SP_IPC_BODY_MAX};

			most += f[i].fixed > 0 ? f[i].fixed : f[i].cap + 4;
			if (f[i].fixed > 0)
				continue;
			make_body(f, n, i, 'x', 0, &full);
			cr_assert(row->round_trip(sp_buf_span(&full), &out) == SP_OK);
			make_body(f, n, i, 'x', 1, &over);
			cr_assert(row->round_trip(sp_buf_span(&over), &out) ==
			    SP_ERR_TOOBIG, "%s.%s", row->name, f[i].name);
		}
		cr_assert(most <= SP_IPC_BODY_MAX, "%s may have %zu bytes",
		    row->name, most);
	}
}

Test(ipc, texts_with_nul_or_broken_utf8_are_refused)
{
	for (size_t r = 0; r < sp_ipc_n_rows; r++) {
		const struct sp_ipc_row *row = &sp_ipc_rows[r];
		struct field f[FIELDS_MAX];
		size_t n = fields_of(row, f);

		for (size_t i = 0; i < n; i++) {
			SP_BUF_AUTO nul = {.max = 2 * SP_IPC_BODY_MAX};
			SP_BUF_AUTO bad = {.max = 2 * SP_IPC_BODY_MAX};
			SP_BUF_AUTO out = {.max = 2 * SP_IPC_BODY_MAX};
			bool text = strcmp(f[i].kind, "str") == 0;

			if (f[i].fixed > 0)
				continue;
			make_body(f, n, i, '\0', 0, &nul);
			make_body(f, n, i, (char)0xff, 0, &bad);
			cr_assert(row->round_trip(sp_buf_span(&nul), &out) ==
			    (text ? SP_ERR_PROTO : SP_OK), "%s.%s", row->name,
			    f[i].name);
			cr_assert(row->round_trip(sp_buf_span(&bad), &out) ==
			    (text ? SP_ERR_PROTO : SP_OK));
		}
	}
}

/* The sender is held to the same caps: one function a message. */
static uint8_t big[SP_IPC_BODY_MAX + 1];
#define OVER_u8(n, cap)
#define OVER_u16(n, cap)
#define OVER_u32(n, cap)
#define OVER_u64(n, cap)
#define OVER_i64(n, cap)
#define OVER_uuid(n, cap)
#define OVER_h32(n, cap)
#define OVER_sig(n, cap)
#define OVER_bytes(n, cap)                                                    \
	memset(&m, 0, sizeof(m));                                             \
	m.n = sp_span_of(big, (cap) + 1);                                     \
	cr_assert(enc(&b, &m) == SP_ERR_TOOBIG, #n);                          \
	sp_buf_reset(&b);
#define OVER_str(n, cap)                                                      \
	OVER_bytes(n, cap)                                                    \
	m.n = sp_span_of("\xff", 1);                                          \
	cr_assert(enc(&b, &m) == SP_ERR_INVAL, #n);                           \
	sp_buf_reset(&b);
#define OVER(kind, name, cap) OVER_##kind(name, cap)
#define OVER_MESSAGE(name, num, from, to, st, fds)                            \
	static void over_##name(void)                                         \
	{                                                                     \
		enum sp_err (*enc)(struct sp_buf *, const struct sp_msg_##name *) = \
		    sp_enc_##name;                                            \
		SP_BUF_AUTO b = {.max = 2 * SP_IPC_BODY_MAX};                 \
		struct sp_msg_##name m;                                       \
		memset(&m, 0, sizeof(m));                                     \
		SP_FIELDS_##name(OVER)                                        \
		memset(&m, 0, sizeof(m));                                     \
		cr_assert(enc(&b, &m) == SP_OK);                              \
	}
SP_IPC_TABLE(OVER_MESSAGE)

Test(ipc, the_sender_keeps_to_the_caps)
{
	memset(big, 'a', sizeof(big));
#define CALL(name, num, from, to, st, fds) over_##name();
	SP_IPC_TABLE(CALL)
}

Test(ipc, numbers_and_names_are_unique)
{
	for (size_t i = 0; i < sp_ipc_n_rows; i++) {
		cr_assert(sp_ipc_find(sp_ipc_rows[i].type) == &sp_ipc_rows[i]);
		cr_assert(strcmp(sp_ipc_name(sp_ipc_rows[i].type),
		    sp_ipc_rows[i].name) == 0);
		cr_assert(sp_ipc_rows[i].n_fds <= SP_IPC_FDS_MAX);
		for (size_t k = 0; k < i; k++)
			cr_assert(strcmp(sp_ipc_rows[i].name, sp_ipc_rows[k].name) != 0);
	}
	cr_assert(sp_ipc_find(0xffff) == NULL);
	cr_assert(strcmp(sp_ipc_name(0xffff), "unknown") == 0);
}

/* Who has a link with whom, in section 3 of the architecture: a message between
 * two others would be a path that must not be. */
Test(ipc, there_is_no_path_but_those_of_the_architecture)
{
	static const uint32_t pairs[][2] = {{SP_ROLE_SUP, SP_ROLE_CHILDREN},
	    {SP_ROLE_ING, SP_ROLE_BRK}, {SP_ROLE_AUT, SP_ROLE_BRK},
	    {SP_ROLE_REC, SP_ROLE_BRK}, {SP_ROLE_EGR, SP_ROLE_BRK},
	    {SP_ROLE_PLY, SP_ROLE_BRK}, {SP_ROLE_VLT, SP_ROLE_BRK},
	    {SP_ROLE_EGR, SP_ROLE_VLT}, {SP_ROLE_PLY, SP_ROLE_VLT},
	    {SP_ROLE_CLI, SP_ROLE_BRK}, {SP_ROLE_CLI, SP_ROLE_VLT},
	    {SP_ROLE_REC, SP_ROLE_SCR},
	    /* the front's host key signs in the vault */
	    {SP_ROLE_ING, SP_ROLE_VLT},
	    /* the workers of one search, forked from the child that leads it */
	    {SP_ROLE_PLY, SP_ROLE_PLY},
	    {SP_ROLE_NTY, SP_ROLE_BRK}, {SP_ROLE_NTY, SP_ROLE_VLT},
	    /* the key of the store, while a job lasts */
	    {SP_ROLE_SHP, SP_ROLE_VLT}};

	for (size_t r = 0; r < sp_ipc_n_rows; r++)
		for (uint32_t from = 1; from <= SP_ROLE_FIL; from <<= 1)
			for (uint32_t to = 1; to <= SP_ROLE_FIL; to <<= 1) {
				bool allowed = false;

				if ((sp_ipc_rows[r].from & from) == 0 ||
				    (sp_ipc_rows[r].to & to) == 0)
					continue;
				for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
					allowed = allowed ||
					    ((pairs[i][0] & from) && (pairs[i][1] & to)) ||
					    ((pairs[i][0] & to) && (pairs[i][1] & from));
				cr_assert(allowed, "%s from %s to %s",
				    sp_ipc_rows[r].name, sp_role_name(from),
				    sp_role_name(to));
			}
}

Test(ipc, the_permission_matrix_is_the_table)
{
	for (size_t r = 0; r < sp_ipc_n_rows; r++) {
		const struct sp_ipc_row *row = &sp_ipc_rows[r];

		for (uint32_t from = 1; from <= SP_ROLE_FIL; from <<= 1)
			for (uint32_t to = 1; to <= SP_ROLE_FIL; to <<= 1)
				for (uint32_t st = 1; st <= SP_ST_ENDING; st <<= 1)
					cr_assert(sp_ipc_may(row->type, from, to, st) ==
					    ((row->from & from) != 0 &&
					    (row->to & to) != 0 &&
					    (row->states & st) != 0));
	}
	cr_assert(!sp_ipc_may(0xffff, SP_ROLE_SUP, SP_ROLE_BRK, SP_ST_ANY));
	/* what a captured ingress would like to say */
	cr_assert(!sp_ipc_may(SP_MSG_target_open, SP_ROLE_ING, SP_ROLE_BRK,
	    SP_ST_KEYED));
	cr_assert(!sp_ipc_may(SP_MSG_session_dial, SP_ROLE_ING, SP_ROLE_SUP,
	    SP_ST_ANY));
	cr_assert(!sp_ipc_may(SP_MSG_v_lease, SP_ROLE_ING, SP_ROLE_VLT, SP_ST_ANY));
	/* and a captured egress */
	cr_assert(!sp_ipc_may(SP_MSG_take_password, SP_ROLE_EGR, SP_ROLE_VLT,
	    SP_ST_READY));
	cr_assert(!sp_ipc_may(SP_MSG_v_lease, SP_ROLE_EGR, SP_ROLE_VLT, SP_ST_ANY));
}

Test(ipc, roles_have_names)
{
	for (uint32_t role = 1; role <= SP_ROLE_FIL; role <<= 1)
		cr_assert((role & (SP_ROLE_SUP | SP_ROLE_CLI | SP_ROLE_CHILDREN)) ==
		    0 || strcmp(sp_role_name(role), "?") != 0);
	cr_assert(strcmp(sp_role_name(SP_ROLE_SUP | SP_ROLE_BRK), "?") == 0);
}

Test(ipc, the_hash_is_stable)
{
	uint8_t a[32], b[32];

	memset(a, 1, sizeof(a));
	memset(b, 2, sizeof(b));
	sp_ipc_table_hash(a);
	sp_ipc_table_hash(b);
	cr_assert(memcmp(a, b, 32) == 0);
	cr_assert(memcmp(a, a + 8, 8) != 0 && memcmp(a, a + 16, 8) != 0);
}
