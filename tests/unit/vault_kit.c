/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/vault_kit.h"

#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK(e) SP_ASSERT((e) == SP_OK)

void
kit_state(struct sp_state *s)
{
	struct sp_secret root = {0};

	OK(sp_secret_init());
	OK(sp_root_make(s, &root));
	OK(sp_slot_make_passphrase(&s->slots[0], sp_span_str(KIT_PASSPHRASE),
	    &sp_kdf_least, &root));
	s->n_slots = 1;
	OK(sp_root_sign_state(&root, s));
	sp_secret_free(&root);
}

void
kit_root(struct sp_root *r)
{
	struct sp_state s;

	kit_state(&s);
	*r = (struct sp_root){0};
	OK(sp_root_open(r, &s, sp_span_str(KIT_PASSPHRASE)));
}

void
kit_host_make(struct kit_host *h, uint8_t seed)
{
	uint8_t s[32], pk[32];

	memset(s, seed, sizeof(s));
	SP_ASSERT(crypto_sign_seed_keypair(pk, h->sk, s) == 0);
	sp_buf_init(&h->blob, 256);
	sp_buf_init(&h->pin, 256);
	OK(sp_ssh_ed25519_blob(&h->blob, pk));
	OK(sp_buf_put_ssh_string(&h->pin, sp_buf_span(&h->blob)));
}

void
kit_host_fini(struct kit_host *h)
{
	sp_buf_fini(&h->blob);
	sp_buf_fini(&h->pin);
}

void
kit_host_sign(const struct kit_host *h, struct sp_span hash, struct sp_buf *sig)
{
	uint8_t s[64];

	SP_ASSERT(crypto_sign_detached(s, NULL, hash.p, hash.n, h->sk) == 0);
	OK(sp_buf_put_ssh_string(sig, sp_span_str("ssh-ed25519")));
	OK(sp_buf_put_ssh_string(sig, sp_span_of(s, sizeof(s))));
}

static void
on_event(void *arg, const char *what, const uint8_t session[static 16],
    const char *detail)
{
	struct kit *k = arg;

	(void)session;
	(void)detail;
	k->n_events++;
	snprintf(k->what, sizeof(k->what), "%s", what);
}

static void
on_used(void *arg, const uint8_t session[static 16], uint8_t kind)
{
	struct kit *k = arg;

	(void)session;
	k->n_used++;
	k->used_kind = kind;
}

void
kit_begin(struct kit *k)
{
	struct sp_lease_ops ops = {.arg = k, .event = on_event, .used = on_used};

	*k = (struct kit){.agent = -1};
	k->link.fd = -1;
	k->link.tx_tail = &k->link.tx_head;
	kit_root(&k->root);
	SP_ASSERT((k->t = sp_leases_new(&k->root, &ops)) != NULL);
	kit_host_make(&k->host, 7);
	sp_buf_init(&k->sealed, 8192);
	memset(k->session, 0x5e, sizeof(k->session));
	memset(k->session_id, 0x1d, sizeof(k->session_id));
}

void
kit_end(struct kit *k)
{
	sp_leases_free(k->t);
	sp_link_fini(&k->link);
	if (k->agent >= 0)
		close(k->agent);
	kit_host_fini(&k->host);
	sp_buf_fini(&k->sealed);
	sp_root_close(&k->root);
}

struct sp_msg_v_lease
kit_wish(struct kit *k, uint8_t kind, int64_t left_us)
{
	struct sp_secret_row row = {.kind = kind, .version = 3};
	struct sp_msg_v_lease m = {.kind = kind,
	    .account = sp_span_str("admin"), .target_name = sp_span_str("core-01"),
	    .host_keys = sp_buf_span(&k->host.pin),
	    .not_after = sp_now_us() + left_us, .serial = 42,
	    .rights = SP_RIGHT_SHELL, .secret_version = 3};
	static const uint8_t seed[32] = {9, 9, 9};
	struct sp_span clear = kind == SP_CRED_SSH_KEY ?
	    sp_span_of(seed, sizeof(seed)) : sp_span_str(KIT_PASSWORD);

	memcpy(m.session, k->session, 16);
	memset(m.secret_id, 0x11, 16);
	memset(m.secret_owner, 0x22, 16);
	memset(m.target, 0x22, 16);
	memcpy(row.id, m.secret_id, 16);
	memcpy(row.owner, m.secret_owner, 16);
	if (kind == SP_CRED_SSH_CERT)
		return m;
	sp_buf_reset(&k->sealed);
	OK(sp_secret_seal(&k->root, &row, clear, &k->sealed));
	m.sealed = sp_buf_span(&k->sealed);
	return m;
}

enum sp_err
kit_grant(struct kit *k, const struct sp_msg_v_lease *m)
{
	char text[256];
	enum sp_err e = sp_lease_grant(k->t, m, sp_now_us(), text);

	SP_ASSERT((e == SP_OK) == (text[0] == '\0'));
	return e;
}

enum sp_err
kit_link(struct kit *k)
{
	int l[2], a[2];

	sp_link_fini(&k->link);
	if (k->agent >= 0)
		close(k->agent);
	OK(sp_link_pair(l));
	OK(sp_stream_pair(a));
	OK(sp_link_init(&k->link, l[0], SP_ROLE_EGR, SP_ROLE_VLT, SP_ST_READY));
	k->agent = a[0];
	return sp_lease_link(k->t, k->session, l[1], a[1]);
}

void
kit_turn(struct kit *k)
{
	struct pollfd pf[16];
	size_t n = sp_leases_poll(k->t, pf, 16);

	SP_ASSERT(poll(pf, n, 0) >= 0);
	sp_leases_serve(k->t, pf, n);
	sp_leases_tick(k->t, sp_now_us(), sp_boot_us());
}

int
kit_prove_with(struct kit *k, struct sp_span host_key, struct sp_span sig)
{
	struct sp_msg_host_proof m = {.host_key = host_key, .signature = sig};
	struct sp_msg_host_proof_r r;
	struct sp_packet p;

	OK(sp_send_host_proof(&k->link, 5, &m, NULL));
	kit_turn(k);
	if (sp_link_recv(&k->link, &p) != SP_OK)
		return -1;
	SP_ASSERT(p.type == SP_MSG_host_proof_r && p.corr == 5);
	OK(sp_dec_host_proof_r(p.body, &r));
	return r.ok;
}

int
kit_prove(struct kit *k, const struct kit_host *h, struct sp_span hash)
{
	struct sp_buf sig = {.max = 256};
	int ok;

	kit_host_sign(h, hash, &sig);
	ok = kit_prove_with(k, sp_buf_span(&h->blob), sp_buf_span(&sig));
	sp_buf_fini(&sig);
	return ok;
}

int
kit_agent(struct kit *k, struct sp_span msg, struct sp_buf *out)
{
	struct sp_buf b = {.max = 65536};
	struct sp_span s;
	uint8_t in[8192], type;
	uint32_t n;
	ssize_t got;

	OK(sp_buf_put_ssh_string(&b, msg));
	SP_ASSERT(write(k->agent, sp_buf_span(&b).p, b.len) == (ssize_t)b.len);
	sp_buf_fini(&b);
	for (int i = 0; i < 12; i++)
		kit_turn(k);
	got = read(k->agent, in, sizeof(in));
	if (got <= 0)
		return 0;
	s = sp_span_of(in, (size_t)got);
	OK(sp_get_ssh_u32(&s, &n));
	SP_ASSERT(n == s.n);
	OK(sp_get_u8(&s, &type));
	if (out != NULL)
		OK(sp_buf_put(out, s.p, s.n));
	return type;
}

int
kit_list(struct kit *k, struct sp_buf *blob)
{
	static const uint8_t ask = 11;
	struct sp_buf out = {.max = 8192};
	struct sp_span s, one, comment;
	uint32_t n;
	int type = kit_agent(k, sp_span_of(&ask, 1), &out);

	if (type == 12) {
		s = sp_buf_span(&out);
		OK(sp_get_ssh_u32(&s, &n));
		SP_ASSERT(n == 1);
		OK(sp_get_ssh_string(&s, 4096, &one));
		OK(sp_get_ssh_string(&s, 4096, &comment));
		SP_ASSERT(s.n == 0);
		OK(sp_buf_put(blob, one.p, one.n));
	}
	sp_buf_fini(&out);
	return type;
}

void
kit_userauth(struct sp_buf *out, struct sp_span session_id, const char *user,
    const char *service, const char *method, struct sp_span blob)
{
	struct sp_span rest = blob, type;

	OK(sp_get_ssh_string(&rest, 64, &type));
	OK(sp_buf_put_ssh_string(out, session_id));
	OK(sp_buf_put_u8(out, 50));
	OK(sp_buf_put_ssh_string(out, sp_span_str(user)));
	OK(sp_buf_put_ssh_string(out, sp_span_str(service)));
	OK(sp_buf_put_ssh_string(out, sp_span_str(method)));
	OK(sp_buf_put_u8(out, 1));
	OK(sp_buf_put_ssh_string(out, type));
	OK(sp_buf_put_ssh_string(out, blob));
}

int
kit_sign(struct kit *k, struct sp_span blob, struct sp_span data,
    uint8_t sig[static 64])
{
	struct sp_buf msg = {.max = 65536}, out = {.max = 4096};
	struct sp_span s, outer, type, raw;
	int rc;

	OK(sp_buf_put_u8(&msg, 13));
	OK(sp_buf_put_ssh_string(&msg, blob));
	OK(sp_buf_put_ssh_string(&msg, data));
	OK(sp_buf_put_ssh_u32(&msg, 0));
	rc = kit_agent(k, sp_buf_span(&msg), &out);
	if (rc == 14) {
		s = sp_buf_span(&out);
		OK(sp_get_ssh_string(&s, 256, &outer));
		OK(sp_get_ssh_string(&outer, 64, &type));
		OK(sp_get_ssh_string(&outer, 64, &raw));
		SP_ASSERT(s.n == 0 && outer.n == 0 && raw.n == 64 &&
		    sp_span_is(type, "ssh-ed25519"));
		memcpy(sig, raw.p, 64);
	}
	sp_buf_fini(&msg);
	sp_buf_fini(&out);
	return rc;
}
