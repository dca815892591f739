/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes on the agent stream of a lease of a stored key, with its host proof
 * given. At most one signature ever comes back, and only when the stream holds
 * the one login that the lease is for. */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/vault_kit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SIGN_RESPONSE 14

static struct kit kit;

/* The only bytes that may be signed: host key, session id, user and key are
 * fixed here, and so is their form. */
static void
the_login(struct sp_buf *out)
{
	static const uint8_t pk[51] = {0, 0, 0, 11, 's', 's', 'h', '-', 'e', 'd',
	    '2', '5', '5', '1', '9', 0, 0, 0, 32};

	kit_userauth(out, sp_span_of(kit.session_id, 32), "admin",
	    "ssh-connection", "publickey", sp_span_of(pk, sizeof(pk)));
}

static bool
holds_login(struct sp_span all)
{
	struct sp_buf want = {.max = 1024};
	const uint8_t *tail;
	size_t n;
	bool found;

	the_login(&want);
	/* without the key's own 32 bytes at the end: they are not known here */
	n = want.len - 32;
	tail = sp_buf_span(&want).p;
	found = memmem(all.p, all.n, tail, n) != NULL;
	sp_buf_fini(&want);
	return found;
}

static unsigned
count_signatures(struct sp_span s)
{
	unsigned found = 0;
	uint32_t n;

	while (sp_get_ssh_u32(&s, &n) == SP_OK) {
		const uint8_t *body;

		SP_ASSERT(n > 0 && sp_get(&s, n, &body) == SP_OK);
		found += body[0] == SIGN_RESPONSE;
	}
	SP_ASSERT(s.n == 0);
	return found;
}

static void
read_answers(struct sp_buf *out)
{
	for (;;) {
		uint8_t *at;
		ssize_t n;

		SP_ASSERT(sp_buf_reserve(out, 4096, &at) == SP_OK);
		n = recv(kit.agent, at, 4096, MSG_DONTWAIT);
		if (n <= 0)
			return;
		sp_buf_commit(out, (size_t)n);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sp_buf answers = {.max = 1U << 20};
	struct sp_msg_v_lease m;
	unsigned n_signed;

	if (kit.t == NULL)
		kit_begin(&kit);
	kit.n_used = kit.n_events = 0;
	m = kit_wish(&kit, SP_CRED_SSH_KEY, 3600LL * 1000000);
	SP_ASSERT(kit_grant(&kit, &m) == SP_OK && kit_link(&kit) == SP_OK);
	SP_ASSERT(kit_prove(&kit, &kit.host,
	    sp_span_of(kit.session_id, sizeof(kit.session_id))) == 1);
	for (size_t at = 0; at < size;) {
		size_t n = size - at < 4096 ? size - at : 4096;
		ssize_t k = send(kit.agent, data + at, n, MSG_NOSIGNAL);

		if (k <= 0)
			break;
		at += (size_t)k;
		kit_turn(&kit);
		read_answers(&answers);
	}
	kit_turn(&kit);
	read_answers(&answers);
	n_signed = count_signatures(sp_buf_span(&answers));
	SP_ASSERT(n_signed <= 1 && n_signed == kit.n_used);
	SP_ASSERT(n_signed == 0 || holds_login(sp_span_of(data, size)));
	if (sp_lease_end(kit.t, kit.session) == SP_OK)
		kit_turn(&kit);
	SP_ASSERT(sp_leases_n(kit.t) == 0);
	sp_buf_fini(&answers);
	return 0;
}
