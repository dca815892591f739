/* SPDX-License-Identifier: Apache-2.0 */
/* The vault as a process: the executed program in its sandbox, asked over its
 * links as supervisor, broker, egress, player and administrator do; and the
 * same code in a forked child whose memory is searched for keys once it has
 * been sealed. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/lanes.h"
#include "common/signed.h"
#include "tests/unit/vault_proc.h"
#include "vault/vaultd.h"

#define PASSWORD "c0rrect-b4ttery-st4ple"

TestSuite(vault_process, .timeout = 120);

/* --------------------------------------------------------------- requests */

struct totp {
	struct sp_buf sealed;
	struct sp_secret seed;
	uint8_t id[16], owner[16];
};

static uint8_t
totp_new(struct proc *p, struct totp *t)
{
	struct sp_msg_vc_totp_new m = {.version = 1};
	struct sp_msg_vc_totp_new_r r;

	memset(t->id, 4, 16);
	memset(t->owner, 5, 16);
	memcpy(m.id, t->id, 16);
	memcpy(m.owner, t->owner, 16);
	OK(sp_send_vc_totp_new(&p->ctl, 1, &m, NULL));
	OK(sp_dec_vc_totp_new_r(vp_control_reply(p, SP_MSG_vc_totp_new_r), &r));
	sp_buf_init(&t->sealed, 1024);
	OK(sp_buf_put(&t->sealed, r.sealed.p, r.sealed.n));
	if (r.err != SP_OK)
		return r.err;
	OK(sp_secret_new(&t->seed, r.seed.n));
	memcpy(t->seed.p, r.seed.p, r.seed.n);
	return SP_OK;
}

static bool
totp_check(struct proc *p, struct totp *t, const char *code)
{
	struct sp_msg_v_totp_check m = {.version = 1,
	    .sealed = sp_buf_span(&t->sealed), .code = sp_span_str(code)};
	struct sp_msg_v_totp_check_r r;

	memcpy(m.id, t->id, 16);
	memcpy(m.owner, t->owner, 16);
	OK(sp_send_v_totp_check(&p->brk, 9, &m, NULL));
	OK(sp_dec_v_totp_check_r(vp_reply(p, SP_MSG_v_totp_check_r), &r));
	cr_assert_eq(r.ok == 1, r.step != 0);
	return r.ok == 1;
}

static void
code_now(struct totp *t, char code[static 7])
{
	OK(sp_totp_code(&t->seed, (uint64_t)sp_now_us() / 1000000 / 30, code));
}

static uint8_t
password_new(struct proc *p, struct sp_buf *sealed)
{
	struct sp_msg_vc_secret_new m = {.kind = SP_CRED_SSH_PASSWORD, .version = 3,
	    .clear = sp_span_str(PASSWORD)};
	struct sp_msg_vc_secret_new_r r;

	memset(m.id, 0x11, 16);
	memset(m.owner, 0x22, 16);
	OK(sp_send_vc_secret_new(&p->ctl, 1, &m, NULL));
	OK(sp_dec_vc_secret_new_r(vp_control_reply(p, SP_MSG_vc_secret_new_r), &r));
	OK(sp_buf_put(sealed, r.sealed.p, r.sealed.n));
	return r.err;
}

static uint8_t
lease(struct proc *p, uint8_t kind, struct sp_span sealed)
{
	struct sp_msg_v_lease m = {.kind = kind, .account = sp_span_str("admin"),
	    .target_name = sp_span_str("core-01"),
	    .host_keys = sp_buf_span(&p->host.pin), .serial = 1,
	    .not_after = sp_now_us() + 60000000, .secret_version = 3,
	    .sealed = sealed};
	struct sp_msg_v_lease_r r;

	memset(m.session, kind, 16);
	memset(m.secret_id, 0x11, 16);
	memset(m.secret_owner, 0x22, 16);
	memset(m.target, 0x22, 16);
	OK(sp_send_v_lease(&p->brk, 9, &m, NULL));
	OK(sp_dec_v_lease_r(vp_reply(p, SP_MSG_v_lease_r), &r));
	cr_assert_eq(r.err == SP_OK, r.text.n == 0);
	return r.err;
}

/* egress_link for the session of that kind; the egress's ends. */
static void
egress(struct proc *p, uint8_t kind, struct sp_link *link, int *agent)
{
	struct sp_msg_egress_link m;
	int l[2], a[2], fds[2];

	memset(m.session, kind, 16);
	OK(sp_link_pair(l));
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, a), 0);
	fds[0] = l[1];
	fds[1] = a[1];
	OK(sp_send_egress_link(&p->sup, 0, &m, fds));
	OK(sp_link_init(link, l[0], SP_ROLE_EGR, SP_ROLE_VLT, SP_ST_READY));
	*agent = a[0];
}

static void
put_mpint(struct sp_buf *b, const BIGNUM *n)
{
	uint8_t raw[1 + 512] = {0};
	int len = BN_num_bytes(n), lead = BN_num_bits(n) % 8 == 0;

	cr_assert_leq(len, 512);
	cr_assert_eq(BN_bn2bin(n, raw + 1), len);
	OK(sp_buf_put_ssh_string(b, sp_span_of(raw + 1 - lead,
	    (size_t)(len + lead))));
}

/* A host key of OpenSSL's instead of the Ed25519 one. */
struct evp_host {
	const char *key_type, *curve, *sig_type;	/* curve NULL: RSA */
	const char *group;
	const EVP_MD *(*md)(void);
	EVP_PKEY *pk;
};

static void
evp_host_make(struct proc *p, struct evp_host *h)
{
	struct sp_buf *b = &p->host.blob;
	uint8_t point[256];
	size_t n = 0;

	h->pk = h->curve == NULL ? EVP_RSA_gen(2048) : EVP_EC_gen(h->group);
	cr_assert_not_null(h->pk);
	sp_buf_init(b, 4096);
	sp_buf_init(&p->host.pin, 8192);
	OK(sp_buf_put_ssh_string(b, sp_span_str(h->key_type)));
	if (h->curve == NULL) {
		BIGNUM *e = NULL, *mod = NULL;

		cr_assert_eq(EVP_PKEY_get_bn_param(h->pk, OSSL_PKEY_PARAM_RSA_E, &e),
		    1);
		cr_assert_eq(EVP_PKEY_get_bn_param(h->pk, OSSL_PKEY_PARAM_RSA_N,
		    &mod), 1);
		put_mpint(b, e);
		put_mpint(b, mod);
		BN_free(e);
		BN_free(mod);
	} else {
		cr_assert_eq(EVP_PKEY_get_octet_string_param(h->pk,
		    OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point), &n), 1);
		OK(sp_buf_put_ssh_string(b, sp_span_str(h->curve)));
		OK(sp_buf_put_ssh_string(b, sp_span_of(point, n)));
	}
	OK(sp_buf_put_ssh_string(&p->host.pin, sp_buf_span(b)));
}

static void
evp_host_sign(const struct evp_host *h, struct sp_span hash, struct sp_buf *sig)
{
	struct sp_buf inner = {.max = 1024};
	uint8_t raw[512];
	const uint8_t *at = raw;
	size_t n = sizeof(raw);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	ECDSA_SIG *es;

	cr_assert_eq(EVP_DigestSignInit(ctx, NULL, h->md(), NULL, h->pk), 1);
	cr_assert_eq(EVP_DigestSign(ctx, raw, &n, hash.p, hash.n), 1);
	EVP_MD_CTX_free(ctx);
	if (h->curve == NULL) {
		OK(sp_buf_put(&inner, raw, n));
	} else {
		es = d2i_ECDSA_SIG(NULL, &at, (long)n);
		cr_assert_not_null(es);
		put_mpint(&inner, ECDSA_SIG_get0_r(es));
		put_mpint(&inner, ECDSA_SIG_get0_s(es));
		ECDSA_SIG_free(es);
	}
	OK(sp_buf_put_ssh_string(sig, sp_span_str(h->sig_type)));
	OK(sp_buf_put_ssh_string(sig, sp_buf_span(&inner)));
	sp_buf_fini(&inner);
}

static void
prove(struct proc *p, struct sp_link *link, struct sp_span session_id)
{
	struct sp_buf sig = {.max = 1024};
	struct sp_msg_host_proof m = {.host_key = sp_buf_span(&p->host.blob)};
	struct sp_msg_host_proof_r r;
	struct sp_packet k;

	if (p->evp != NULL)
		evp_host_sign(p->evp, session_id, &sig);
	else
		kit_host_sign(&p->host, session_id, &sig);
	m.signature = sp_buf_span(&sig);
	OK(sp_send_host_proof(link, 2, &m, NULL));
	OK(sp_link_wait(link, &k, WAIT_MS));
	OK(sp_dec_host_proof_r(k.body, &r));
	cr_assert_eq(r.ok, 1, "%.*s", (int)r.text.n, (const char *)r.text.p);
	sp_buf_fini(&sig);
}

/* A login by password, as an egress does it. */
static void
password_login(struct proc *p, struct sp_span sealed)
{
	uint8_t id[32] = {0x77};
	struct sp_msg_take_password t = {.session_id = sp_span_of(id, 32)};
	struct sp_link link;
	struct sp_packet k;
	char got[64];
	int agent;

	cr_assert_eq(lease(p, SP_CRED_SSH_PASSWORD, sealed), SP_OK);
	egress(p, SP_CRED_SSH_PASSWORD, &link, &agent);
	prove(p, &link, t.session_id);
	OK(sp_send_take_password(&link, 3, &t, NULL));
	OK(sp_link_wait(&link, &k, WAIT_MS));
	cr_assert_eq(k.type, SP_MSG_password);
	cr_assert_eq(read(k.fds[0], got, sizeof(got)), (ssize_t)strlen(PASSWORD));
	cr_assert(sp_span_is(sp_span_of(got, strlen(PASSWORD)), PASSWORD));
	close(k.fds[0]);
	close(agent);
	sp_link_fini(&link);
}

static int
ask_agent(int agent, struct sp_span msg, struct sp_buf *out)
{
	struct sp_buf b = {.max = 8192};
	uint8_t in[8192];
	struct sp_span s;
	uint32_t n;
	uint8_t type;
	ssize_t k;

	OK(sp_buf_put_ssh_string(&b, msg));
	cr_assert_eq(write(agent, sp_buf_span(&b).p, b.len), (ssize_t)b.len);
	sp_buf_fini(&b);
	k = read(agent, in, sizeof(in));
	cr_assert_gt(k, 4);
	s = sp_span_of(in, (size_t)k);
	OK(sp_get_ssh_u32(&s, &n));
	cr_assert_eq(n, s.n);
	OK(sp_get_u8(&s, &type));
	OK(sp_buf_put(out, s.p, s.n));
	return type;
}

/* A login by certificate; the vault's key is listed, signs, and is gone. */
static void
certificate_login(struct proc *p)
{
	struct sp_buf out = {.max = 8192}, data = {.max = 4096}, msg = {.max = 8192};
	uint8_t id[32] = {0x78}, list = 11;
	struct sp_link link;
	struct sp_span s, blob;
	uint32_t n;
	int agent;

	cr_assert_eq(lease(p, SP_CRED_SSH_CERT, sp_span_of(NULL, 0)), SP_OK);
	egress(p, SP_CRED_SSH_CERT, &link, &agent);
	prove(p, &link, sp_span_of(id, 32));
	cr_assert_eq(ask_agent(agent, sp_span_of(&list, 1), &out), 12);
	s = sp_buf_span(&out);
	OK(sp_get_ssh_u32(&s, &n));
	OK(sp_get_ssh_string(&s, 4096, &blob));
	kit_userauth(&data, sp_span_of(id, 32), "admin", "ssh-connection",
	    "publickey", blob);
	OK(sp_buf_put_u8(&msg, 13));
	OK(sp_buf_put_ssh_string(&msg, blob));
	OK(sp_buf_put_ssh_string(&msg, sp_buf_span(&data)));
	OK(sp_buf_put_ssh_u32(&msg, 0));
	sp_buf_reset(&out);
	cr_assert_eq(ask_agent(agent, sp_buf_span(&msg), &out), 14);
	close(agent);
	sp_link_fini(&link);
	sp_buf_fini(&out);
	sp_buf_fini(&data);
	sp_buf_fini(&msg);
}

static bool
sign_audit(struct proc *p, const uint8_t pk[static 32])
{
	struct sp_msg_v_sign_audit m = {.seq = 12, .at_us = 34};
	struct sp_msg_v_sign_r r;
	struct sp_buf b = {.max = SP_SIGNED_MAX};
	bool ok;

	memset(m.head, 6, 32);
	OK(sp_send_v_sign_audit(&p->brk, 9, &m, NULL));
	OK(sp_dec_v_sign_r(vp_reply(p, SP_MSG_v_sign_r), &r));
	OK(sp_signed_audit(&b, 12, m.head, 34));
	ok = r.ok == 1 && crypto_sign_verify_detached(r.signature,
	    sp_buf_span(&b).p, b.len, pk) == 0;
	sp_buf_fini(&b);
	return ok;
}

static bool
row_round(struct proc *p)
{
	struct sp_msg_v_row_seal m = {.table = sp_span_str("people"), .version = 1,
	    .canon = sp_span_str("canon")};
	struct sp_msg_v_row_check c = {.table = m.table, .version = 1,
	    .canon = m.canon};
	struct sp_msg_v_row_seal_r r;
	struct sp_msg_v_row_check_r cr;

	OK(sp_send_v_row_seal(&p->brk, 9, &m, NULL));
	OK(sp_dec_v_row_seal_r(vp_reply(p, SP_MSG_v_row_seal_r), &r));
	memcpy(c.mac, r.mac, 32);
	OK(sp_send_v_row_check(&p->brk, 9, &c, NULL));
	OK(sp_dec_v_row_check_r(vp_reply(p, SP_MSG_v_row_check_r), &cr));
	cr_assert_eq(r.ok, cr.ok);
	return r.ok == 1;
}

/* Of lane 1 and 2; a test may grant less. */
static uint32_t lanes_granted = 1u << SP_LANE_OUT | 1u << SP_LANE_IN;

/* Grants `granted`, asks for the keys in a box of `boxed` as lane `lane`. */
static bool
play(struct proc *p, uint64_t id, uint8_t granted, uint8_t boxed, uint8_t lane)
{
	struct sp_msg_v_status_r st = vp_status(p);
	struct sp_msg_v_play_grant g = {.play = id, .lanes = lanes_granted};
	struct sp_msg_player_link pl = {.play = id};
	struct sp_msg_play_keys m;
	struct sp_msg_play_keys_r r;
	struct sp_msg_v_done done;
	struct sp_link link;
	struct sp_packet k;
	uint8_t box[98] = {lane}, plain[49];
	int l[2];

	memset(g.session, granted, 16);
	OK(sp_send_v_play_grant(&p->brk, 9, &g, NULL));
	OK(sp_dec_v_done(vp_reply(p, SP_MSG_v_done), &done));
	cr_assert_eq(done.err, SP_OK);
	OK(sp_link_pair(l));
	OK(sp_send_player_link(&p->sup, 0, &pl, &l[1]));
	OK(sp_link_init(&link, l[0], SP_ROLE_PLY, SP_ROLE_VLT, SP_ST_READY));
	memset(plain, 0x4b, 32);
	memset(plain + 32, boxed, 16);
	plain[48] = SP_LANE_OUT;
	cr_assert_eq(crypto_box_seal(box + 1, plain, sizeof(plain),
	    st.recording_key), 0);
	memset(m.session, granted, 16);
	m.sealed = sp_span_of(box, sizeof(box));
	OK(sp_send_play_keys(&link, 4, &m, NULL));
	OK(sp_link_wait(&link, &k, WAIT_MS));
	OK(sp_dec_play_keys_r(k.body, &r));
	if (lane < 32 && (lanes_granted >> lane & 1) == 0) {
		cr_assert(r.ok == 1 && r.keys.n == 0, "it was not granted");
		sp_link_fini(&link);
		return false;
	}
	cr_assert(r.ok == 0 || (r.keys.n == 33 && r.keys.p[0] == lane &&
	    r.keys.p[1] == 0x4b && r.keys.p[32] == 0x4b));
	cr_assert(r.ok == 1 || r.keys.n == 0);
	sp_link_fini(&link);
	return r.ok == 1;
}

/* Asks for the keys in the box of a group; the lanes that came, bit n for lane n,
 * or UINT32_MAX: refused. */
static uint32_t
play_group(struct proc *p, uint64_t id, uint8_t boxed, uint32_t granted)
{
	struct sp_msg_v_status_r st = vp_status(p);
	struct sp_msg_v_play_grant g = {.play = id, .lanes = granted};
	struct sp_msg_player_link pl = {.play = id};
	struct sp_msg_play_keys m;
	struct sp_msg_play_keys_r r;
	struct sp_msg_v_done done;
	struct sp_link link;
	struct sp_packet k;
	/* OUT, IN and META */
	uint8_t box[99] = {0}, plain[50], is[32];
	uint32_t got = 0;
	int l[2];

	memset(g.session, 0x31, 16);
	OK(sp_send_v_play_grant(&p->brk, 9, &g, NULL));
	OK(sp_dec_v_done(vp_reply(p, SP_MSG_v_done), &done));
	OK(sp_link_pair(l));
	OK(sp_send_player_link(&p->sup, 0, &pl, &l[1]));
	OK(sp_link_init(&link, l[0], SP_ROLE_PLY, SP_ROLE_VLT, SP_ST_READY));
	memset(plain, 0x4b, 32);
	memset(plain + 32, boxed, 16);
	plain[48] = 7;
	plain[49] = 0;
	cr_assert_eq(crypto_box_seal(box + 1, plain, sizeof(plain),
	    st.recording_key), 0);
	memset(m.session, 0x31, 16);
	m.sealed = sp_span_of(box, sizeof(box));
	OK(sp_send_play_keys(&link, 4, &m, NULL));
	OK(sp_link_wait(&link, &k, WAIT_MS));
	OK(sp_dec_play_keys_r(k.body, &r));
	for (struct sp_span s = r.keys; r.ok == 1 && s.n >= 33;
	    s = sp_span_of(s.p + 33, s.n - 33)) {
		OK(sp_lane_of_group(plain, s.p[0], is));
		cr_assert_eq(memcmp(is, s.p + 1, 32), 0);
		got |= 1u << s.p[0];
	}
	sp_link_fini(&link);
	return r.ok == 1 ? got : UINT32_MAX;
}

/* ------------------------------------------------------------------- tests */

Test(vault_process, a_demonstration_unseals_itself_and_serves_in_its_sandbox)
{
	struct sp_buf sealed = {.max = 8192};
	struct sp_msg_v_status_r st;
	struct totp t = {.id = {0}};
	struct proc p;
	struct sp_msg_vault_keys told;
	struct sp_packet k;
	char code[7];

	vp_begin(&p, true, false);
#ifndef SP_SANITIZED
	cr_assert_not_null(strstr(p.level, "seccomp"), "%s", p.level);
#endif
	st = vp_status(&p);
	cr_assert_eq(st.sealed, 0);
	cr_assert_eq(st.demo, 1);
	cr_assert_not(sodium_is_zero(st.audit_key, 32));
	cr_assert(st.ca_key.n > 20 &&
	    sp_span_is(sp_span_of(st.ca_key.p, 12), "ssh-ed25519 "));
	cr_assert(row_round(&p));
	cr_assert(sign_audit(&p, st.audit_key));
	cr_assert_eq(totp_new(&p, &t), SP_OK);
	code_now(&t, code);
	cr_assert(totp_check(&p, &t, code));
	cr_assert_not(totp_check(&p, &t, code), "a code opens once");
	cr_assert_eq(password_new(&p, &sealed), SP_OK);
	password_login(&p, sp_buf_span(&sealed));
	certificate_login(&p);
	cr_assert(play(&p, 1, 0x31, 0x31, SP_LANE_OUT));
	cr_assert_eq(p.n_used, 2);
	cr_assert_not(play(&p, 2, 0x31, 0x32, SP_LANE_OUT), "another session's");
	cr_assert_not(play(&p, 3, 0x31, 0x31, SP_LANE_IN), "another lane's");
	cr_assert_eq(play_group(&p, 5, 0x31, 1u << SP_LANE_OUT | 1u << SP_LANE_META |
	    1u << SP_LANE_VIEW), 1u << SP_LANE_OUT | 1u << SP_LANE_META);
	cr_assert_eq(play_group(&p, 6, 0x31, 1u << SP_LANE_VIEW), 0);
	cr_assert_eq(play_group(&p, 7, 0x32, 1u << SP_LANE_OUT), UINT32_MAX,
	    "another session's");
	/* The recorders' keys come from the vault itself, past the broker. */
	OK(sp_link_wait(&p.sup, &k, WAIT_MS));
	cr_assert_eq(k.type, SP_MSG_vault_keys);
	OK(sp_dec_vault_keys(k.body, &told));
	cr_assert_eq(memcmp(told.audit_key, st.audit_key, 32), 0);
	cr_assert_eq(memcmp(told.recording_key, st.recording_key, 32), 0);
	lanes_granted = 1u << SP_LANE_META;
	cr_assert_not(play(&p, 4, 0x31, 0x31, SP_LANE_OUT), "a lane not granted");
	lanes_granted = 1u << SP_LANE_OUT | 1u << SP_LANE_IN;
	(void)vp_status(&p);
	cr_assert_str_eq(p.what, "recording_keys_refused");
	sp_buf_fini(&sealed);
	sp_buf_fini(&t.sealed);
	sp_secret_free(&t.seed);
	vp_end(&p);
}

/* As many serials as a list may have, in the worst order: what sorts them needs
 * no call that the filter kills for. */
Test(vault_process, a_long_list_of_revoked_certificates_is_made_in_the_sandbox)
{
	SP_BUF_AUTO serials = {.max = 32768};
	struct sp_msg_v_krl m = {.version = 1};
	struct sp_msg_v_krl_r r;
	struct proc p;

	vp_begin(&p, true, false);
	for (uint64_t i = 4096; i > 0; i--)
		OK(sp_buf_put_u64(&serials, 3 * i));
	m.serials = sp_buf_span(&serials);
	OK(sp_send_v_krl(&p.brk, 9, &m, NULL));
	OK(sp_dec_v_krl_r(vp_reply(&p, SP_MSG_v_krl_r), &r));
	cr_assert_eq(r.err, SP_OK);
	cr_assert_gt(r.krl.n, 4096 * 8);
	vp_end(&p);
}

/* What OpenSSL does to verify them needs no call that the filter kills for. */
Test(vault_process, every_kind_of_host_key_is_verified_in_the_sandbox)
{
	struct evp_host kinds[] = {
	    {"ecdsa-sha2-nistp256", "nistp256", "ecdsa-sha2-nistp256", "P-256",
		EVP_sha256, NULL},
	    {"ecdsa-sha2-nistp384", "nistp384", "ecdsa-sha2-nistp384", "P-384",
		EVP_sha384, NULL},
	    {"ecdsa-sha2-nistp521", "nistp521", "ecdsa-sha2-nistp521", "P-521",
		EVP_sha512, NULL},
	    {"ssh-rsa", NULL, "rsa-sha2-256", NULL, EVP_sha256, NULL},
	    {"ssh-rsa", NULL, "rsa-sha2-512", NULL, EVP_sha512, NULL}};
	struct sp_buf sealed = {.max = 8192};
	struct proc p;

	vp_begin(&p, true, false);
	cr_assert_eq(password_new(&p, &sealed), SP_OK);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct sp_msg_v_lease_end end_it;
		struct sp_msg_v_done done;

		kit_host_fini(&p.host);
		evp_host_make(&p, &kinds[i]);
		p.evp = &kinds[i];
		password_login(&p, sp_buf_span(&sealed));
		memset(end_it.session, SP_CRED_SSH_PASSWORD, 16);
		OK(sp_send_v_lease_end(&p.brk, 9, &end_it, NULL));
		OK(sp_dec_v_done(vp_reply(&p, SP_MSG_v_done), &done));
		cr_assert_eq(p.n_used, i + 1);
		EVP_PKEY_free(kinds[i].pk);
	}
	cr_assert_eq(p.n_events, 1, "sealing the password");
	sp_buf_fini(&sealed);
	vp_end(&p);
}

Test(vault_process, sealed_everything_is_refused)
{
	struct sp_buf sealed = {.max = 8192};
	struct sp_msg_v_status_r st;
	struct sp_msg_v_play_grant g = {.play = 1, .lanes = 2};
	struct sp_msg_v_done done;
	struct totp t = {.id = {0}};
	struct proc p;

	vp_begin(&p, false, false);
	st = vp_status(&p);
	cr_assert_eq(st.sealed, 1);
	cr_assert_eq(st.demo, 0);
	cr_assert(sodium_is_zero(st.audit_key, 32));
	cr_assert_not(row_round(&p));
	cr_assert_not(sign_audit(&p, st.audit_key));
	cr_assert_eq(totp_new(&p, &t), SP_ERR_SEALED);
	cr_assert_not(totp_check(&p, &t, "000000"));
	cr_assert_eq(password_new(&p, &sealed), SP_ERR_SEALED);
	cr_assert_eq(sealed.len, 0);
	cr_assert_eq(lease(&p, SP_CRED_SSH_CERT, sp_span_of(NULL, 0)),
	    SP_ERR_SEALED);
	memset(g.session, 1, 16);
	OK(sp_send_v_play_grant(&p.brk, 9, &g, NULL));
	OK(sp_dec_v_done(vp_reply(&p, SP_MSG_v_done), &done));
	cr_assert_eq(done.err, SP_ERR_SEALED);
	cr_assert_eq(vp_unseal(&p, "not the passphrase"), SP_ERR_DENIED);
	cr_assert_eq(vp_unseal(&p, ""), SP_ERR_DENIED);
	cr_assert_eq(vp_unseal(&p, p.passphrase), SP_OK);
	cr_assert_eq(vp_unseal(&p, p.passphrase), SP_ERR_STATE);
	cr_assert_eq(vp_status(&p).sealed, 0);
	cr_assert_str_eq(p.what, "vault_unseal_failed");
	cr_assert(row_round(&p));
	vp_seal(&p);
	cr_assert_eq(vp_status(&p).sealed, 1);
	cr_assert_str_eq(p.what, "vault_sealed");
	cr_assert_not(row_round(&p));
	cr_assert_eq(vp_unseal(&p, p.passphrase), SP_OK);
	cr_assert(row_round(&p));
	sp_buf_fini(&sealed);
	sp_buf_fini(&t.sealed);
	vp_end(&p);
}

/* A broker that breaks the protocol loses its link, and its unused leases. */
Test(vault_process, a_broken_broker_is_dropped)
{
	static const uint8_t junk[3] = {1, 2, 3};
	struct sp_packet k;
	struct proc p;
	enum sp_err e;

	vp_begin(&p, true, false);
	cr_assert_eq(lease(&p, SP_CRED_SSH_CERT, sp_span_of(NULL, 0)), SP_OK);
	OK(sp_link_send(&p.brk, SP_MSG_v_row_seal, 9, sp_span_of(junk, 3), NULL,
	    0));
	while ((e = sp_link_wait(&p.brk, &k, WAIT_MS)) == SP_OK)
		;
	cr_assert_eq(e, SP_ERR_EOF);
	vp_attach_broker(&p);
	cr_assert_eq(vp_status(&p).sealed, 0);
	cr_assert_eq(lease(&p, SP_CRED_SSH_CERT, sp_span_of(NULL, 0)), SP_OK,
	    "the first lease ended with its broker");
	vp_end(&p);
}

/* Not one of the broker's messages is for an administrator, nor the other way. */
Test(vault_process, a_control_client_is_no_broker)
{
	struct sp_msg_v_status m;
	struct sp_packet k;
	struct proc p;

	vp_begin(&p, true, false);
	memset(&m, 0, sizeof(m));
	OK(sp_send_v_status(&p.ctl, 9, &m, NULL));
	cr_assert_eq(sp_link_wait(&p.ctl, &k, WAIT_MS), SP_ERR_EOF);
	(void)vp_status(&p);
	cr_assert_str_eq(p.what, "control_protocol");
	vp_end(&p);
}

Test(vault_process, control_clients_are_bounded)
{
	struct sp_link many[SP_CONTROLS_MAX + 4], own;
	struct sp_msg_vc_status m;
	struct sp_packet k;
	unsigned served = 0;
	struct proc p;

	vp_begin(&p, true, false);
	memset(&m, 0, sizeof(m));
	own = p.ctl;
	for (size_t i = 0; i < SP_CONTROLS_MAX + 4; i++) {
		p.ctl.fd = -1;
		p.ctl.rx = NULL;
		vp_connect_control(&p);
		many[i] = p.ctl;
		many[i].tx_tail = &many[i].tx_head;
		if (sp_send_vc_status(&many[i], 1, &m, NULL) == SP_OK &&
		    sp_link_wait(&many[i], &k, WAIT_MS) == SP_OK)
			served++;
	}
	cr_assert_eq(served, SP_CONTROLS_MAX - 1);	/* and vp_begin()'s own */
	cr_assert_eq(vp_status(&p).sealed, 0);
	p.ctl = own;
	p.ctl.tx_tail = &p.ctl.tx_head;
	for (size_t i = 0; i < SP_CONTROLS_MAX + 4; i++)
		sp_link_fini(&many[i]);
	vp_end(&p);
}

/* Flipped on disk: it starts, says so, stays sealed, and crashes never. */
Test(vault_process, a_damaged_state_file_stays_sealed)
{
	static struct sp_vaultd v;
	struct proc p;
	char path[128];
	int fd, dir;

	vp_begin(&p, true, false);
	snprintf(path, sizeof(path), "%s/state", p.vault);
	fd = open(path, O_RDWR | O_CLOEXEC);
	cr_assert_eq(pwrite(fd, "\xff", 1, 100), 1);
	close(fd);
	dir = open(p.vault, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	OK(sp_vaultd_init(&v));
	sp_vaultd_load(&v, dir);
	cr_assert_not_null(v.state_fault);
	cr_assert_not_null(strstr(v.state_fault, "damaged"));
	cr_assert_not(v.root.is_open);
	cr_assert_eq(sp_vaultd_unseal(&v, sp_span_str(p.passphrase)),
	    SP_ERR_NOTFOUND);
	sp_vaultd_fini(&v);
	close(dir);
	vp_end(&p);
}

/* --------------------------------------------------- what sealing leaves */
#ifndef SP_SANITIZED

struct canary {
	const char *name;
	struct sp_secret s;
};

static void
keep(struct canary *c, const char *name, const uint8_t *p, size_t n)
{
	c->name = name;
	OK(sp_secret_new(&c->s, n));
	memcpy(c->s.p, p, n);
}

/* What is derived of them where it is needed, by label. */
static void
derived(struct canary *c, size_t *n, const uint8_t *root, const uint8_t *audit)
{
	static const struct {
		const char *label;
		bool of_root;
	} key[] = {{"sallyport kek wrap v1", true},
	    {"sallyport state mac v1", true}, {"sallyport backup v1", true},
	    {"sallyport challenge v1", false},
	    {"sallyport secret tag v1", false}};

	for (size_t i = 0; i < sizeof(key) / sizeof(key[0]); i++) {
		struct sp_secret k = {0};

		OK(sp_key_derive(key[i].of_root ? root : audit, key[i].label,
		    sp_span_str(""), &k));
		keep(&c[(*n)++], key[i].label, k.p, k.n);
		sp_secret_free(&k);
	}
}

/* As Ed25519 computes with it: the clamped scalar and the nonces' prefix. */
static void
expanded(struct canary *c, size_t *n, const char *name, const uint8_t *seed)
{
	uint8_t h[64];

	crypto_hash_sha512(h, seed, 32);
	h[0] &= 248;
	h[31] = (uint8_t)((h[31] & 127) | 64);
	keep(&c[(*n)++], name, h, 32);
	keep(&c[(*n)++], "its nonces' prefix", h + 32, 32);
}

/* Every key of the hierarchy, worked out from the file in this process. */
static size_t
hierarchy(struct proc *p, struct canary *c, size_t *n_kept)
{
	static const char *const names[] = {"?", "secrets KEK", "rows KEK",
	    "recordings KEK", "signing KEK"};
	struct sp_secret root = {0};
	struct sp_root r = {0};
	static struct sp_state s;
	size_t n = 0;
	int dir = open(p->vault, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	OK(sp_state_load(dir, &s));
	close(dir);
	OK(sp_slots_open(s.slots, s.n_slots, sp_span_str(p->passphrase), &root));
	OK(sp_root_open(&r, &s, sp_span_str(p->passphrase)));
	keep(&c[n++], "root key", root.p, 32);
	for (size_t i = 0; i < r.n_keks; i++)
		keep(&c[n++], names[r.keks[i].purpose], r.keks[i].key.p, 32);
	keep(&c[n++], "audit seed", r.audit.p, 32);
	keep(&c[n++], "CA seed", r.ca.p, 32);
	keep(&c[n++], "recording key", r.rec.p, 32);
	keep(&c[n++], "host key seed", r.host.p, 32);
	*n_kept = n;
	derived(c, &n, root.p, r.audit.p);
	expanded(c, &n, "audit scalar", r.audit.p);
	expanded(c, &n, "CA scalar", r.ca.p);
	expanded(c, &n, "host key scalar", r.host.p);
	sp_root_close(&r);
	sp_secret_free(&root);
	return n;
}

/* Is it anywhere in that process's writable memory? A half counts: 16 bytes. */
static bool
is_in(pid_t pid, const struct canary *c)
{
	static uint8_t chunk[1 << 20];
	char path[64], line[512];
	size_t need = c->s.n < 16 ? c->s.n : 16;
	bool found = false;
	FILE *maps;
	int mem;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	maps = fopen(path, "r");
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	mem = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert(maps != NULL && mem >= 0);
	while (!found && fgets(line, sizeof(line), maps) != NULL) {
		unsigned long from, to;
		char r, w;

		if (sscanf(line, "%lx-%lx %c%c", &from, &to, &r, &w) != 4 ||
		    r != 'r' || w != 'w')
			continue;
		for (unsigned long at = from; at < to; at += sizeof(chunk) - 64) {
			size_t n = to - at < sizeof(chunk) ? to - at : sizeof(chunk);
			ssize_t got = pread(mem, chunk, n, (off_t)at);

			if (got <= 0)
				break;
			found = found || memmem(chunk, (size_t)got, c->s.p, need) !=
			    NULL;
			found = found || (c->s.n >= 32 && memmem(chunk, (size_t)got,
			    c->s.p + c->s.n - 16, 16) != NULL);
		}
	}
	fclose(maps);
	close(mem);
	return found;
}

/* Another passphrase, and shares that are made and given back. */
static void
new_slots(struct proc *p, struct canary *c, size_t *n)
{
	static const char pass[] = "a second passphrase of this test";
	struct sp_msg_vc_slot_add m = {.type = SP_SLOT_PASSPHRASE,
	    .secret = sp_span_str(pass)};
	struct sp_msg_vc_ceremony cer = {.what = SP_CEREMONY_PROVE};
	struct sp_msg_vc_slot_add_r r;
	struct sp_msg_vc_share give;
	struct sp_span left;
	SP_BUF_AUTO texts = {.max = 8192};

	OK(sp_send_vc_slot_add(&p->ctl, 1, &m, NULL));
	OK(sp_dec_vc_slot_add_r(vp_control_reply(p, SP_MSG_vc_slot_add_r), &r));
	cr_assert_eq(r.err, SP_OK);
	keep(&c[(*n)++], "second passphrase", (const uint8_t *)pass, strlen(pass));
	m = (struct sp_msg_vc_slot_add){.type = SP_SLOT_SHARES, .k = 2, .n = 3};
	OK(sp_send_vc_slot_add(&p->ctl, 1, &m, NULL));
	OK(sp_dec_vc_slot_add_r(vp_control_reply(p, SP_MSG_vc_slot_add_r), &r));
	OK(sp_buf_put(&texts, r.shares.p, r.shares.n));
	cer.slot = r.slot;
	OK(sp_send_vc_ceremony(&p->ctl, 1, &cer, NULL));
	(void)vp_control_reply(p, SP_MSG_vc_ceremony_r);
	for (left = sp_buf_span(&texts); left.n > 0;) {
		size_t line = (size_t)((const uint8_t *)memchr(left.p, '\n',
		    left.n) - left.p);
		struct sp_share s;

		give.share = sp_span_of(left.p, line);
		OK(sp_share_parse(give.share, &s));
		keep(&c[(*n)++], "share", s.y, s.len);
		keep(&c[(*n)++], "share text", left.p + 40, 40);
		OK(sp_send_vc_share(&p->ctl, 1, &give, NULL));
		(void)vp_control_reply(p, SP_MSG_vc_ceremony_r);
		left = sp_span_of(left.p + line + 1, left.n - line - 1);
	}
}

/* A backup's key goes to the administrator, a rotation's candidate is made. */
static void
other_keys(struct proc *p, struct canary *c, size_t *n)
{
	static const uint8_t lane[32] = {[0 ... 31] = 0x4b};	/* of play() */
	struct sp_msg_vc_backup_key b = {.wrapped = {0}};
	struct sp_msg_vc_backup_key_r br;
	struct sp_msg_v_rotate_make m = {.kind = SP_CRED_SSH_PASSWORD,
	    .version = 8, .rule = sp_span_str("length=24")};
	struct sp_msg_v_rotate_made mr;

	OK(sp_send_vc_backup_key(&p->ctl, 1, &b, NULL));
	OK(sp_dec_vc_backup_key_r(vp_control_reply(p, SP_MSG_vc_backup_key_r),
	    &br));
	cr_assert(br.err == SP_OK && br.key.n == 32);
	keep(&c[(*n)++], "backup's key", br.key.p, 32);
	memset(m.id, 0x61, 16);
	memset(m.owner, 0x62, 16);
	OK(sp_send_v_rotate_make(&p->brk, 9, &m, NULL));
	OK(sp_dec_v_rotate_made(vp_reply(p, SP_MSG_v_rotate_made), &mr));
	cr_assert_eq(mr.err, SP_OK, "%s", sp_err_text((enum sp_err)mr.err));
	cr_assert(play(p, 1, 0x31, 0x31, SP_LANE_OUT));
	keep(&c[(*n)++], "lane key", lane, 32);
}

/* not under AddressSanitizer: its shadow is terabytes, its quarantine a copy */
Test(vault_process, after_sealing_no_key_is_left_in_memory)
{
	struct sp_buf sealed = {.max = 8192};
	struct canary c[48] = {{0}};
	struct totp t = {.id = {0}};
	struct sp_msg_v_status_r st;
	unsigned seen = 0, left = 0;
	struct proc p;
	char code[7];
	size_t n, kept;

	/* The program itself, in its sandbox, where we may look into it. */
	vp_begin(&p, false, geteuid() != 0);
	cr_assert_eq(vp_unseal(&p, "another passphrase"), SP_ERR_DENIED);
	cr_assert_eq(vp_unseal(&p, p.passphrase), SP_OK);
	n = hierarchy(&p, c, &kept);
	for (size_t i = 0; i < kept; i++)
		cr_assert(is_in(p.pid, &c[i]), "the search is blind: the %s "
		    "is there", c[i].name);
	new_slots(&p, c, &n);
	keep(&c[n++], "passphrase", (uint8_t *)p.passphrase, strlen(p.passphrase));
	st = vp_status(&p);
	cr_assert(row_round(&p));
	cr_assert(sign_audit(&p, st.audit_key));
	cr_assert_eq(totp_new(&p, &t), SP_OK);
	keep(&c[n++], "TOTP seed", t.seed.p, t.seed.n);
	code_now(&t, code);
	cr_assert(totp_check(&p, &t, code));
	cr_assert_eq(password_new(&p, &sealed), SP_OK);
	password_login(&p, sp_buf_span(&sealed));
	certificate_login(&p);
	other_keys(&p, c, &n);
	cr_assert_leq(n, sizeof(c) / sizeof(c[0]));
	for (size_t i = 0; i < n; i++)
		seen += is_in(p.pid, &c[i]);
	cr_assert_geq(seen, 7, "the search finds keys where they are: %u", seen);
	vp_seal(&p);
	(void)vp_status(&p);
	for (size_t i = 0; i < n; i++)
		if (is_in(p.pid, &c[i])) {
			fprintf(stderr, "still there: %s\n", c[i].name);
			left++;
		}
	cr_assert_eq(left, 0, "%u keys are left", left);
	for (size_t i = 0; i < n; i++)
		sp_secret_free(&c[i].s);
	sp_buf_fini(&sealed);
	sp_buf_fini(&t.sealed);
	sp_secret_free(&t.seed);
	vp_end(&p);
}
#endif
