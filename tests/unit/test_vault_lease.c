/* SPDX-License-Identifier: Apache-2.0 */
/* What an egress gets from its lease, and everything that a captured one might
 * try. Each refusal must be an event, and must leave nothing to try again. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/vault_kit.h"
#include "vault/sshcert.h"

#define OK(e) cr_assert_eq((e), SP_OK)
#define MINUTE 60000000LL

TestSuite(vault_lease, .timeout = 60);

static struct sp_span
sid(const struct kit *k)
{
	return sp_span_of(k->session_id, sizeof(k->session_id));
}

/* A lease of this kind with its egress, proved. */
static void
proved(struct kit *k, uint8_t kind)
{
	struct sp_msg_v_lease m;

	kit_begin(k);
	m = kit_wish(k, kind, MINUTE);
	OK(kit_grant(k, &m));
	OK(kit_link(k));
	cr_assert_eq(kit_prove(k, &k->host, sid(k)), 1);
	cr_assert_eq(k->n_events, 0);
}

static void
assert_refused(struct kit *k, const char *what)
{
	cr_assert_eq(k->n_events, 1, "events: %u", k->n_events);
	cr_assert_str_eq(k->what, what);
	cr_assert_eq(k->n_used, 0);
	cr_assert_eq(sp_leases_n(k->t), 0);
}

Test(vault_lease, a_certificate_signs_the_one_login)
{
	struct sp_buf blob = {.max = 2048}, data = {.max = 4096};
	uint8_t sig[64], pk[32];
	struct sp_span s, f;
	struct kit k;

	proved(&k, SP_CRED_SSH_CERT);
	cr_assert_eq(kit_list(&k, &blob), 12);
	kit_userauth(&data, sid(&k), "admin", "ssh-connection", "publickey",
	    sp_buf_span(&blob));
	cr_assert_eq(kit_sign(&k, sp_buf_span(&blob), sp_buf_span(&data), sig), 14);
	s = sp_buf_span(&blob);
	OK(sp_get_ssh_string(&s, 64, &f));
	cr_assert(sp_span_is(f, SP_CERT_TYPE));
	OK(sp_get_ssh_string(&s, 64, &f));
	OK(sp_get_ssh_string(&s, 64, &f));
	memcpy(pk, f.p, 32);
	cr_assert_eq(crypto_sign_verify_detached(sig, sp_buf_span(&data).p,
	    data.len, pk), 0);
	cr_assert_eq(k.n_used, 1);
	cr_assert_eq(k.used_kind, SP_CRED_SSH_CERT);
	cr_assert_eq(k.n_events, 0);
	/* the second one */
	cr_assert_eq(kit_sign(&k, sp_buf_span(&blob), sp_buf_span(&data), sig), 5);
	cr_assert_str_eq(k.what, "second_use_of_lease");
	cr_assert_eq(k.n_used, 1);
	cr_assert_eq(sp_leases_n(k.t), 0);
	sp_buf_fini(&blob);
	sp_buf_fini(&data);
	kit_end(&k);
}

Test(vault_lease, the_order_of_link_and_lease_is_free)
{
	struct sp_buf blob = {.max = 2048};
	struct sp_msg_v_lease m;
	struct kit k;

	kit_begin(&k);
	OK(kit_link(&k));
	kit_turn(&k);
	m = kit_wish(&k, SP_CRED_SSH_CERT, MINUTE);
	OK(kit_grant(&k, &m));
	cr_assert_eq(kit_grant(&k, &m), SP_ERR_EXISTS);
	cr_assert_eq(kit_prove(&k, &k.host, sid(&k)), 1);
	cr_assert_eq(kit_list(&k, &blob), 12);
	sp_buf_fini(&blob);
	kit_end(&k);
}

Test(vault_lease, a_stored_key_signs_and_lists_itself)
{
	struct sp_buf blob = {.max = 2048}, data = {.max = 4096};
	struct kit k;
	uint8_t sig[64];

	proved(&k, SP_CRED_SSH_KEY);
	cr_assert_eq(kit_list(&k, &blob), 12);
	cr_assert_eq(blob.len, 4 + 11 + 4 + 32);
	kit_userauth(&data, sid(&k), "admin", "ssh-connection", "publickey",
	    sp_buf_span(&blob));
	cr_assert_eq(kit_sign(&k, sp_buf_span(&blob), sp_buf_span(&data), sig), 14);
	cr_assert_eq(crypto_sign_verify_detached(sig, sp_buf_span(&data).p,
	    data.len, sp_buf_span(&blob).p + 19), 0);
	sp_buf_fini(&blob);
	sp_buf_fini(&data);
	kit_end(&k);
}

/* what differs from the login that was granted, and the event it makes */
static const struct wrong {
	const char *user, *service, *method, *what;
	bool other_session, trailing, other_blob, cut;
} wrongs[] = {
    {"root", "ssh-connection", "publickey", "signature_for_other_user", 0, 0, 0, 0},
    {"admi", "ssh-connection", "publickey", "signature_for_other_user", 0, 0, 0, 0},
    {"", "ssh-connection", "publickey", "signature_for_other_user", 0, 0, 0, 0},
    {"admin", "ssh-userauth", "publickey", "signature_for_other_service", 0, 0, 0, 0},
    {"admin", "ssh-connection", "hostbased", "signature_for_other_service", 0, 0, 0, 0},
    {"admin", "ssh-connection", "publickey-hostbound-v00@openssh.com",
	"signature_for_other_service", 0, 0, 0, 0},
    {"admin", "ssh-connection", "publickey", "signature_for_other_session", 1, 0, 0, 0},
    {"admin", "ssh-connection", "publickey", "signature_over_other_data", 0, 1, 0, 0},
    {"admin", "ssh-connection", "publickey", "signature_over_other_data", 0, 0, 0, 1},
    {"admin", "ssh-connection", "publickey", "signature_with_other_key", 0, 0, 1, 0},
};

Test(vault_lease, no_other_signature_is_given)
{
	for (size_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++) {
		const struct wrong *w = &wrongs[i];
		struct sp_buf blob = {.max = 2048}, data = {.max = 4096};
		struct sp_span signed_data;
		uint8_t sig[64], id[32];
		struct kit k;

		proved(&k, SP_CRED_SSH_CERT);
		cr_assert_eq(kit_list(&k, &blob), 12);
		memcpy(id, k.session_id, 32);
		id[31] ^= w->other_session ? 1 : 0;
		kit_userauth(&data, sp_span_of(id, 32), w->user, w->service,
		    w->method, w->other_blob ? sp_buf_span(&k.host.blob) :
		    sp_buf_span(&blob));
		if (w->trailing)
			OK(sp_buf_put_u8(&data, 0));
		signed_data = sp_buf_span(&data);
		signed_data.n -= w->cut ? 1 : 0;
		cr_assert_eq(kit_sign(&k, sp_buf_span(&blob), signed_data, sig), 5);
		assert_refused(&k, w->what);
		sp_buf_fini(&blob);
		sp_buf_fini(&data);
		kit_end(&k);
	}
}

Test(vault_lease, random_data_is_never_signed)
{
	struct sp_buf blob = {.max = 2048};
	uint8_t sig[64], junk[64];
	struct kit k;

	proved(&k, SP_CRED_SSH_CERT);
	cr_assert_eq(kit_list(&k, &blob), 12);
	randombytes_buf(junk, sizeof(junk));
	cr_assert_eq(kit_sign(&k, sp_buf_span(&blob), sp_span_of(junk, 64), sig), 5);
	assert_refused(&k, "signature_over_other_data");
	sp_buf_fini(&blob);
	kit_end(&k);
}

Test(vault_lease, another_host_key_ends_it)
{
	struct sp_msg_v_lease m;
	struct kit_host other;
	struct kit k;

	kit_begin(&k);
	kit_host_make(&other, 8);
	m = kit_wish(&k, SP_CRED_SSH_CERT, MINUTE);
	OK(kit_grant(&k, &m));
	OK(kit_link(&k));
	cr_assert_eq(kit_prove(&k, &other, sid(&k)), 0);
	assert_refused(&k, "host_key_not_pinned");
	kit_host_fini(&other);
	kit_end(&k);
}

/* The pinned key's blob with another host's signature under it. */
Test(vault_lease, a_stolen_host_key_blob_proves_nothing)
{
	struct sp_buf blob = {.max = 2048}, data = {.max = 4096};
	struct sp_msg_v_lease m;
	struct kit_host mixed;
	struct kit k;
	uint8_t sig[64];

	kit_begin(&k);
	kit_host_make(&mixed, 8);
	sp_buf_reset(&mixed.blob);
	OK(sp_buf_put(&mixed.blob, sp_buf_span(&k.host.blob).p, k.host.blob.len));
	m = kit_wish(&k, SP_CRED_SSH_CERT, MINUTE);
	OK(kit_grant(&k, &m));
	OK(kit_link(&k));
	cr_assert_eq(kit_prove(&k, &mixed, sid(&k)), 1);
	cr_assert_eq(kit_list(&k, &blob), 12);
	kit_userauth(&data, sid(&k), "admin", "ssh-connection", "publickey",
	    sp_buf_span(&blob));
	cr_assert_eq(kit_sign(&k, sp_buf_span(&blob), sp_buf_span(&data), sig), 5);
	assert_refused(&k, "signature_for_other_session");
	kit_host_fini(&mixed);
	sp_buf_fini(&blob);
	sp_buf_fini(&data);
	kit_end(&k);
}

Test(vault_lease, nothing_before_the_host_proof)
{
	struct sp_buf blob = {.max = 2048};
	struct sp_msg_take_password t = {0};
	struct sp_msg_v_lease m;
	struct sp_packet p;
	struct kit k;
	uint8_t sig[64];

	kit_begin(&k);
	m = kit_wish(&k, SP_CRED_SSH_CERT, MINUTE);
	OK(kit_grant(&k, &m));
	OK(kit_link(&k));
	cr_assert_eq(kit_list(&k, &blob), 5);
	assert_refused(&k, "credential_before_host_proof");
	kit_end(&k);

	kit_begin(&k);
	m = kit_wish(&k, SP_CRED_SSH_CERT, MINUTE);
	OK(kit_grant(&k, &m));
	OK(kit_link(&k));
	cr_assert_eq(kit_sign(&k, sp_buf_span(&k.host.blob), sid(&k), sig), 5);
	assert_refused(&k, "credential_before_host_proof");
	kit_end(&k);

	kit_begin(&k);
	m = kit_wish(&k, SP_CRED_SSH_PASSWORD, MINUTE);
	OK(kit_grant(&k, &m));
	OK(kit_link(&k));
	t.session_id = sid(&k);
	OK(sp_send_take_password(&k.link, 1, &t, NULL));
	kit_turn(&k);
	cr_assert_eq(sp_link_recv(&k.link, &p), SP_ERR_EOF);
	assert_refused(&k, "egress_protocol");
	kit_end(&k);
	sp_buf_fini(&blob);
}

/* What came back for a password, as a descriptor; -1 when the link closed. */
static int
take(struct kit *k, struct sp_span session_id)
{
	struct sp_msg_take_password t = {.session_id = session_id};
	struct sp_msg_password r;
	struct sp_packet p;

	OK(sp_send_take_password(&k->link, 1, &t, NULL));
	kit_turn(k);
	if (sp_link_recv(&k->link, &p) != SP_OK)
		return -1;
	cr_assert_eq(p.type, SP_MSG_password);
	OK(sp_dec_password(p.body, &r));
	cr_assert_eq(r.len, strlen(KIT_PASSWORD));
	return p.fds[0];
}

Test(vault_lease, a_password_is_handed_out_once_and_sealed)
{
	char buf[64];
	struct kit k;
	int fd;

	proved(&k, SP_CRED_SSH_PASSWORD);
	fd = take(&k, sid(&k));
	cr_assert_geq(fd, 0);
	cr_assert_eq(read(fd, buf, sizeof(buf)), (ssize_t)strlen(KIT_PASSWORD));
	cr_assert(sp_span_is(sp_span_of(buf, strlen(KIT_PASSWORD)), KIT_PASSWORD));
	cr_assert_eq(write(fd, "x", 1), -1);
	cr_assert_eq(ftruncate(fd, 0), -1);
	cr_assert_eq(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL | F_SEAL_SHRINK |
	    F_SEAL_GROW | F_SEAL_WRITE);
	close(fd);
	cr_assert_eq(k.n_used, 1);
	cr_assert_eq(k.used_kind, SP_CRED_SSH_PASSWORD);
	cr_assert_eq(take(&k, sid(&k)), -1);
	cr_assert_str_eq(k.what, "second_use_of_lease");
	cr_assert_eq(k.n_used, 1);
	kit_end(&k);
}

Test(vault_lease, a_password_is_for_the_proved_session)
{
	struct kit k;
	uint8_t id[32] = {1};

	proved(&k, SP_CRED_SSH_PASSWORD);
	cr_assert_eq(take(&k, sp_span_of(id, 32)), -1);
	assert_refused(&k, "password_for_other_session");
	kit_end(&k);
	proved(&k, SP_CRED_SSH_PASSWORD);
	cr_assert_eq(take(&k, sp_span_of(NULL, 0)), -1);
	assert_refused(&k, "password_for_other_session");
	kit_end(&k);
}

Test(vault_lease, only_the_granted_kind)
{
	struct sp_buf blob = {.max = 2048};
	struct kit k;

	proved(&k, SP_CRED_SSH_CERT);
	cr_assert_eq(take(&k, sid(&k)), -1);
	assert_refused(&k, "credential_not_granted");
	kit_end(&k);
	proved(&k, SP_CRED_SSH_PASSWORD);
	cr_assert_eq(kit_list(&k, &blob), 5);
	assert_refused(&k, "credential_not_granted");
	kit_end(&k);
	sp_buf_fini(&blob);
}

Test(vault_lease, a_second_proof_breaks_the_protocol)
{
	struct kit k;

	proved(&k, SP_CRED_SSH_CERT);
	cr_assert_eq(kit_prove(&k, &k.host, sid(&k)), -1);
	assert_refused(&k, "egress_protocol");
	kit_end(&k);
}

Test(vault_lease, a_link_without_lease_gets_nothing)
{
	struct sp_buf blob = {.max = 2048};
	struct kit k;

	kit_begin(&k);
	OK(kit_link(&k));
	cr_assert_eq(kit_list(&k, &blob), 5);
	assert_refused(&k, "no_lease");
	kit_end(&k);
	kit_begin(&k);
	OK(kit_link(&k));
	cr_assert_eq(kit_prove(&k, &k.host, sid(&k)), 0);
	assert_refused(&k, "no_lease");
	kit_end(&k);
	/* and waits for half a minute at most */
	kit_begin(&k);
	OK(kit_link(&k));
	cr_assert_leq(sp_leases_due_us(k.t), sp_boot_us() + SP_LEASE_WAIT_US);
	sp_leases_tick(k.t, sp_now_us(), sp_boot_us() + SP_LEASE_WAIT_US + 1);
	assert_refused(&k, "egress_without_lease");
	kit_end(&k);
	sp_buf_fini(&blob);
}

Test(vault_lease, a_second_egress_is_refused)
{
	struct sp_link first;
	struct sp_packet p;
	struct kit k;
	int agent;

	proved(&k, SP_CRED_SSH_CERT);
	first = k.link;
	agent = k.agent;
	k.link.fd = k.agent = -1;
	k.link.rx = NULL;
	cr_assert_eq(kit_link(&k), SP_ERR_EXISTS);
	cr_assert_str_eq(k.what, "second_egress");
	cr_assert_eq(sp_link_recv(&k.link, &p), SP_ERR_EOF);
	cr_assert_eq(sp_leases_n(k.t), 1);
	sp_link_fini(&first);
	close(agent);
	kit_end(&k);
}

/* Waits for a time that has to come; nothing here takes longer than it. */
static void
until(int64_t us)
{
	while (sp_now_us() <= us)
		;
}

Test(vault_lease, nothing_after_not_after)
{
	struct sp_buf blob = {.max = 2048}, data = {.max = 4096};
	struct sp_msg_v_lease m;
	struct kit k;

	kit_begin(&k);
	m = kit_wish(&k, SP_CRED_SSH_CERT, 300000);
	OK(kit_grant(&k, &m));
	OK(kit_link(&k));
	cr_assert_eq(kit_prove(&k, &k.host, sid(&k)), 1);
	cr_assert_leq(sp_leases_due_us(k.t), sp_boot_us() + 300000);
	until(m.not_after);
	cr_assert_neq(kit_list(&k, &blob), 12);
	assert_refused(&k, "lease_expired");
	kit_end(&k);

	/* setting the wall clock back gives no time: the boot clock counts */
	kit_begin(&k);
	m = kit_wish(&k, SP_CRED_SSH_CERT, MINUTE);
	OK(kit_grant(&k, &m));
	sp_leases_tick(k.t, sp_now_us() - 10 * MINUTE, sp_boot_us() + 2 * MINUTE);
	assert_refused(&k, "lease_expired");
	kit_end(&k);

	kit_begin(&k);
	m = kit_wish(&k, SP_CRED_SSH_CERT, -1);
	cr_assert_eq(kit_grant(&k, &m), SP_ERR_DENIED);
	m.not_after = INT64_MIN;
	cr_assert_eq(kit_grant(&k, &m), SP_ERR_DENIED);
	m.not_after = INT64_MAX;
	OK(kit_grant(&k, &m));
	kit_end(&k);
	sp_buf_fini(&blob);
	sp_buf_fini(&data);
}

Test(vault_lease, sealing_ends_what_was_not_used)
{
	struct sp_buf blob = {.max = 2048};
	struct sp_msg_v_lease m;
	struct kit k;

	proved(&k, SP_CRED_SSH_CERT);
	cr_assert_eq(kit_list(&k, &blob), 12);
	cr_assert_gt(sp_secret_in_use(), 0);
	sp_root_close(&k.root);
	sp_leases_end_unused(k.t, "the vault was sealed");
	cr_assert_eq(sp_secret_in_use(), 0);
	cr_assert(sodium_is_zero(sp_secret_arena().p, sp_secret_arena().n));
	kit_turn(&k);
	cr_assert_eq(read(k.agent, &(char){0}, 1), 0);
	m = kit_wish(&k, SP_CRED_SSH_CERT, MINUTE);
	cr_assert_eq(kit_grant(&k, &m), SP_ERR_SEALED);
	sp_buf_fini(&blob);
	kit_end(&k);
}

Test(vault_lease, grants_are_checked)
{
	struct sp_msg_v_lease m, good;
	struct kit k;

	kit_begin(&k);
	good = kit_wish(&k, SP_CRED_SSH_PASSWORD, MINUTE);
	m = good;
	m.account = sp_span_str("admin,root");
	cr_assert_eq(kit_grant(&k, &m), SP_ERR_INVAL);
	m.account = sp_span_str("");
	cr_assert_eq(kit_grant(&k, &m), SP_ERR_INVAL);
	m = good;
	m.target_name = sp_span_str("core*");
	cr_assert_eq(kit_grant(&k, &m), SP_ERR_INVAL);
	m = good;
	m.host_keys = sp_span_str("");
	cr_assert_eq(kit_grant(&k, &m), SP_ERR_INVAL);
	m.host_keys.n = k.host.pin.len - 1;
	m.host_keys.p = sp_buf_span(&k.host.pin).p;
	cr_assert_eq(kit_grant(&k, &m), SP_ERR_INVAL);
	m = good;
	m.source = sp_span_str("10.0.0.1,0.0.0.0/0");
	cr_assert_eq(kit_grant(&k, &m), SP_ERR_INVAL);
	m = good;
	m.kind = SP_CRED_TOTP_SEED;
	cr_assert_eq(kit_grant(&k, &m), SP_ERR_INVAL);
	m = good;
	m.kind = SP_CRED_SSH_CERT;
	cr_assert_eq(kit_grant(&k, &m), SP_ERR_INVAL);
	cr_assert_eq(k.n_events, 0);
	/* a secret of another row, or of another kind, is an alarm */
	m = good;
	m.target[3] ^= 1;
	cr_assert_eq(kit_grant(&k, &m), SP_ERR_DENIED);
	cr_assert_str_eq(k.what, "secret_of_other_target");
	m.secret_owner[3] ^= 1;
	cr_assert_eq(kit_grant(&k, &m), SP_ERR_CRYPTO);
	cr_assert_str_eq(k.what, "secret_row_broken");
	m = good;
	m.kind = SP_CRED_SSH_KEY;
	cr_assert_eq(kit_grant(&k, &m), SP_ERR_CRYPTO);
	m = good;
	memset(m.session, 0, 16);
	cr_assert_eq(kit_grant(&k, &m), SP_ERR_INVAL);
	cr_assert_eq(sp_leases_n(k.t), 0);
	OK(kit_grant(&k, &good));
	OK(sp_lease_end(k.t, k.session));
	cr_assert_eq(sp_lease_end(k.t, k.session), SP_ERR_NOTFOUND);
	kit_end(&k);
}

Test(vault_lease, the_table_is_bounded)
{
	struct sp_msg_v_lease m;
	struct kit k;

	kit_begin(&k);
	m = kit_wish(&k, SP_CRED_SSH_CERT, MINUTE);
	for (uint32_t i = 1; i <= SP_LEASES_MAX + 1; i++) {
		memcpy(m.session, &i, sizeof(i));
		cr_assert_eq(kit_grant(&k, &m), i <= SP_LEASES_MAX ? SP_OK :
		    SP_ERR_FULL);
	}
	kit_end(&k);
}

/* Agent requests that are not for us, and streams that are none. */
Test(vault_lease, the_agent_answers_or_closes)
{
	static const uint8_t types[] = {0, 1, 9, 17, 18, 19, 20, 22, 23, 25, 27, 255};
	struct kit k;
	uint8_t big[8] = {0xff, 0xff, 0xff, 0xff, 11, 0, 0, 0};
	uint8_t zero[4] = {0};

	proved(&k, SP_CRED_SSH_CERT);
	for (size_t i = 0; i < sizeof(types); i++)
		cr_assert_eq(kit_agent(&k, sp_span_of(&types[i], 1), NULL), 5);
	cr_assert_eq(k.n_events, 0);
	kit_end(&k);
	proved(&k, SP_CRED_SSH_CERT);
	cr_assert_eq(write(k.agent, big, sizeof(big)), 8);
	kit_turn(&k);
	cr_assert_eq(read(k.agent, big, 1), 0);
	assert_refused(&k, "agent_protocol");
	kit_end(&k);
	proved(&k, SP_CRED_SSH_CERT);
	cr_assert_eq(write(k.agent, zero, sizeof(zero)), 4);
	kit_turn(&k);
	cr_assert_eq(read(k.agent, big, 1), 0);
	assert_refused(&k, "agent_protocol");
	kit_end(&k);
}

/* libssh waits on its agent for ever: the stream is closed within a second. */
Test(vault_lease, half_a_request_is_not_waited_for)
{
	uint8_t half[4] = {0, 0, 0, 2}, rest[2] = {11, 0}, got;
	struct kit k;
	int64_t due;

	proved(&k, SP_CRED_SSH_CERT);
	cr_assert_gt(sp_leases_due_us(k.t), sp_boot_us() + SP_LEASE_HALF_US);
	cr_assert_eq(write(k.agent, half, 3), 3);
	kit_turn(&k);
	due = sp_leases_due_us(k.t);
	cr_assert_leq(due, sp_boot_us() + SP_LEASE_HALF_US);
	cr_assert_eq(write(k.agent, half + 3, 1), 1);
	kit_turn(&k);
	cr_assert_eq(sp_leases_due_us(k.t), due, "each byte is no more time");
	sp_leases_tick(k.t, sp_now_us(), due - 1);
	cr_assert_eq(k.n_events, 0);
	cr_assert_eq(write(k.agent, rest, 2), 2);
	kit_turn(&k);
	cr_assert_gt(sp_leases_due_us(k.t), due, "it came whole");
	cr_assert_eq(read(k.agent, &got, 1), 1, "and was answered");
	cr_assert_eq(write(k.agent, half, 3), 3);
	kit_turn(&k);
	sp_leases_tick(k.t, sp_now_us(), sp_leases_due_us(k.t));
	while (read(k.agent, &got, 1) > 0)
		;
	cr_assert_eq(read(k.agent, &got, 1), 0, "closed");
	assert_refused(&k, "agent_protocol");
	kit_end(&k);
}

Test(vault_lease, an_egress_that_goes_away_ends_its_lease)
{
	struct kit k;

	proved(&k, SP_CRED_SSH_CERT);
	sp_link_fini(&k.link);
	kit_turn(&k);
	cr_assert_eq(sp_leases_n(k.t), 0);
	cr_assert_eq(k.n_events, 0);
	kit_end(&k);
}
