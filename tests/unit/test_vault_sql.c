/* SPDX-License-Identifier: Apache-2.0 */
/* What the vault answers to a database, and what it does not. */
#include <criterion/criterion.h>
#include <openssl/evp.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/text.h"
#include "tests/unit/vault_kit.h"
#include "vault/mariadb.h"
#include "vault/pgscram.h"

TestSuite(vault_sql, .timeout = 60);

/* The user and salt of RFC 7677, 3. */
#define SALT "W22ZaJ0SNY7soEsUEjb6gQ=="
#define PENCIL "SCRAM-SHA-256$4096:" SALT "$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtb" \
	"sT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
#define CERT "a certificate, as far as a hash goes"

static struct sp_span
str(const char *s)
{
	return sp_span_str(s);
}

static void
pencil(struct sp_secret *kept)
{
	cr_assert_eq(sp_secret_init(), SP_OK);
	cr_assert_eq(sp_scram_import(str("pencil"), str(PENCIL), kept), SP_OK);
}

Test(vault_sql, verifiers)
{
	SP_SECRET_AUTO k = {0}, other = {0};
	SP_BUF_AUTO out = {.max = 512};

	pencil(&k);
	cr_assert_eq(sp_scram_verifier(&k, &out), SP_OK);
	cr_assert(sp_span_is(sp_buf_span(&out), PENCIL));
	cr_assert_eq(sp_scram_import(str("pencils"), str(PENCIL), &other),
	    SP_ERR_DENIED);
	cr_assert_neq(sp_scram_import(str("pencil"), str("md5abc"), &other), SP_OK);
	cr_assert_neq(sp_scram_import(str("pencil"),
	    str("SCRAM-SHA-256$0:" SALT "$a:b"), &other), SP_OK);
	cr_assert_eq(sp_scram_import(str("p\xc3\xa9ncil"), str(""), &other),
	    SP_ERR_INVAL);
	cr_assert_eq(sp_scram_import(str("pencil"), str(""), &other), SP_OK);
	cr_assert_eq(sp_scram_generate(&other), SP_OK);
	/* Nothing of a password is kept. */
	for (size_t i = 0; i + 6 <= k.n; i++)
		cr_assert_neq(memcmp(k.p + i, "pencil", 6), 0);
}

/* The server's half: is this proof one of the holder of StoredKey's client? */
static bool
is_proof(const char *first_bare, const char *server_first, struct sp_span final)
{
	static const char stored_b64[] =
	    "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=";
	SP_BUF_AUTO stored = {.max = 64}, proof = {.max = 64}, auth = {.max = 2048};
	const uint8_t *p = memmem(final.p, final.n, ",p=", 3);
	uint8_t sig[32], key[32];
	size_t n = p == NULL ? 0 : (size_t)(p - final.p);

	cr_assert_not_null(p);
	cr_assert_eq(sp_unbase64(&stored, str(stored_b64)), SP_OK);
	cr_assert_eq(sp_unbase64(&proof, sp_span_of(p + 3, final.n - n - 3)), SP_OK);
	cr_assert_eq(proof.len, 32);
	cr_assert_eq(sp_buf_printf(&auth, "%s,%s,%.*s", first_bare, server_first,
	    (int)n, (const char *)final.p), SP_OK);
	crypto_auth_hmacsha256_state st;
	crypto_auth_hmacsha256_init(&st, sp_buf_span(&stored).p, 32);
	crypto_auth_hmacsha256_update(&st, sp_buf_span(&auth).p, auth.len);
	crypto_auth_hmacsha256_final(&st, sig);
	for (size_t i = 0; i < 32; i++)
		key[i] = sig[i] ^ sp_buf_span(&proof).p[i];
	crypto_hash_sha256(sig, key, 32);
	return memcmp(sig, sp_buf_span(&stored).p, 32) == 0;
}

static void
question(const struct sp_scram *s, const char *salt, unsigned count, char *dst,
    size_t cap)
{
	snprintf(dst, cap, "r=%s-and-of-the-server,s=%s,i=%u", s->nonce, salt,
	    count);
}

Test(vault_sql, a_proof_for_one_connection)
{
	SP_SECRET_AUTO k = {0};
	SP_BUF_AUTO first = {.max = 512}, final = {.max = 2048}, c = {.max = 256};
	SP_BUF_AUTO want = {.max = 128};
	struct sp_scram s = {.n_cb = 0};
	uint8_t expect[32], hash[32];
	char q[256], bare[80];
	struct sp_span f;

	pencil(&k);
	cr_assert_eq(sp_scram_first(&s, str(CERT), 256, &first), SP_OK);
	snprintf(bare, sizeof(bare), "n=,r=%s", s.nonce);
	cr_assert_eq(first.len, strlen("p=tls-server-end-point,,") + strlen(bare));
	cr_assert_eq(sp_scram_first(&s, str(CERT), 256, &first), SP_ERR_STATE);
	question(&s, SALT, 4096, q, sizeof(q));
	cr_assert_eq(sp_scram_final(&s, &k, str(q), &final, expect), SP_OK);
	f = sp_buf_span(&final);
	cr_assert(is_proof(bare, q, f));
	/* c= is the hash of the certificate that was seen, and no other. */
	crypto_hash_sha256(hash, (const uint8_t *)CERT, strlen(CERT));
	cr_assert_eq(sp_buf_printf(&want, "p=tls-server-end-point,,"), SP_OK);
	cr_assert_eq(sp_buf_put(&want, hash, 32), SP_OK);
	cr_assert_eq(sp_unbase64(&c, sp_span_of(f.p + 2,
	    (size_t)((const uint8_t *)memchr(f.p, ',', f.n) - f.p) - 2)), SP_OK);
	cr_assert(sp_span_eq(sp_buf_span(&c), sp_buf_span(&want)));
}

Test(vault_sql, what_gets_no_proof)
{
	static const char *const bad[] = {"", "r=", "r=abc,s=" SALT ",i=4096",
	    "m=ext,r=%s-server-00,s=" SALT ",i=4096",
	    "r=%s-server-00,s=" SALT ",i=4096,x=y", "r=%s,s=" SALT ",i=4096",
	    "r=%s-server-00,s=" SALT ",i=", "r=%s-server-00,s=" SALT ",i=0",
	    "r=%s-server-00,s=" SALT ",i=99999999", "r=%s-server-00,s=!!,i=4096",
	    "r=%s-server-00,s=" SALT, "s=" SALT ",r=%s-server-00,i=4096",
	    "r=%s-ser ver-0,s=" SALT ",i=4096"};
	static const char *const denied[] = {
	    "r=%s-server-00,s=" SALT ",i=4095", "r=%s-server-00,s=" SALT ",i=1",
	    "r=%s-server-00,s=" SALT ",i=4097",
	    "r=%s-server-00,s=X22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
	    "r=%s-server-00,s=W22ZaJ0SNY7soEsUEjb6,i=4096"};
	SP_SECRET_AUTO k = {0};
	SP_BUF_AUTO first = {.max = 512};
	struct sp_scram s = {.n_cb = 0};
	uint8_t expect[32];
	char q[512];

	pencil(&k);
	cr_assert_eq(sp_scram_first(&s, str(CERT), 0, &first), SP_OK);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		SP_BUF_AUTO final = {.max = 2048};
		const char *at = strstr(bad[i], "%s");

		if (at == NULL)
			snprintf(q, sizeof(q), "%s", bad[i]);
		else
			snprintf(q, sizeof(q), "%.*s%s%s", (int)(at - bad[i]),
			    bad[i], s.nonce, at + 2);
		cr_expect_eq(sp_scram_final(&s, &k, str(q), &final, expect),
		    SP_ERR_PROTO, "%s", bad[i]);
		cr_expect_eq(final.len, 0);
	}
	for (size_t i = 0; i < sizeof(denied) / sizeof(denied[0]); i++) {
		SP_BUF_AUTO final = {.max = 2048};
		const char *at = strstr(denied[i], "%s");

		snprintf(q, sizeof(q), "%.*s%s%s", (int)(at - denied[i]), denied[i],
		    s.nonce, at + 2);
		cr_expect_eq(sp_scram_final(&s, &k, str(q), &final, expect),
		    SP_ERR_DENIED, "%s", denied[i]);
		cr_expect_eq(final.len, 0);
	}
}

/* ----------------------------------------------------------------- leases */

static struct kit kit;
static struct sp_buf pins = {.max = 256};

static struct sp_msg_v_lease
wish(uint8_t kind, const struct sp_secret *kept)
{
	struct sp_secret_row row = {.kind = kind, .version = 3};
	struct sp_msg_v_lease m = kit_wish(&kit, SP_CRED_SSH_CERT, 60000000);
	uint8_t hash[32];

	crypto_hash_sha256(hash, (const uint8_t *)CERT, strlen(CERT));
	sp_buf_reset(&pins);
	cr_assert_eq(sp_buf_put_ssh_string(&pins, sp_span_of(hash, 32)), SP_OK);
	m.kind = kind;
	m.host_keys = sp_buf_span(&pins);
	if (kept == NULL)
		return m;
	memcpy(row.id, m.secret_id, 16);
	memcpy(row.owner, m.secret_owner, 16);
	sp_buf_reset(&kit.sealed);
	cr_assert_eq(sp_secret_seal(&kit.root, &row, sp_span_of(kept->p, kept->n),
	    &kit.sealed), SP_OK);
	m.sealed = sp_buf_span(&kit.sealed);
	return m;
}

static int
begin(const char *cert)
{
	struct sp_msg_sql_begin m = {.cert = str(cert)};
	struct sp_msg_sql_begin_r r;
	struct sp_packet p;

	cr_assert_eq(sp_send_sql_begin(&kit.link, 5, &m, NULL), SP_OK);
	kit_turn(&kit);
	if (sp_link_recv(&kit.link, &p) != SP_OK)
		return -1;
	cr_assert_eq(p.type, SP_MSG_sql_begin_r);
	cr_assert_eq(sp_dec_sql_begin_r(p.body, &r), SP_OK);
	return r.ok;
}

/* Its answer, or false when the vault dropped the link. */
static bool
prove(const char *mechanism, uint16_t hash, const char *challenge, char *out,
    size_t cap)
{
	struct sp_msg_sql_prove m = {.mechanism = str(mechanism), .hash = hash,
	    .challenge = str(challenge)};
	struct sp_msg_sql_prove_r r;
	struct sp_packet p;

	if (sp_send_sql_prove(&kit.link, 5, &m, NULL) != SP_OK)
		return false;
	kit_turn(&kit);
	if (sp_link_recv(&kit.link, &p) != SP_OK)
		return false;
	cr_assert_eq(p.type, SP_MSG_sql_prove_r);
	cr_assert_eq(sp_dec_sql_prove_r(p.body, &r), SP_OK);
	cr_assert_eq(r.ok, 1);
	cr_assert_eq(sp_span_cstr(r.answer, out, cap), SP_OK);
	return true;
}

static void
lease(uint8_t kind, bool unbound)
{
	SP_SECRET_AUTO k = {0};
	struct sp_msg_v_lease m;

	kit_begin(&kit);
	pencil(&k);
	m = wish(kind, kind == SP_CRED_PG_ROLE ? NULL : &k);
	m.legacy = unbound;
	cr_assert_eq(kit_grant(&kit, &m), SP_OK);
	cr_assert_eq(kit_link(&kit), SP_OK);
}

static bool
ask(const char *first, char *out, size_t cap)
{
	char q[512];
	const char *r = strstr(first, ",r=");

	cr_assert_not_null(r);
	snprintf(q, sizeof(q), "r=%s-of-the-server,s=" SALT ",i=4096", r + 3);
	return prove("SCRAM-SHA-256", 0, q, out, cap);
}

Test(vault_sql, one_proof_of_one_lease)
{
	char first[256], final[512];

	lease(SP_CRED_PG_SCRAM, false);
	cr_assert_eq(begin(CERT), 1);
	cr_assert(prove("SCRAM-SHA-256-PLUS", 256, "", first, sizeof(first)));
	cr_assert(ask(first, final, sizeof(final)));
	cr_assert_eq(kit.n_used, 1);
	cr_assert_eq(kit.used_kind, SP_CRED_PG_SCRAM);
	cr_assert_eq(kit.n_events, 0);
	/* The same question again, and the beginning of another login. */
	cr_assert_not(ask(first, final, sizeof(final)));
	cr_assert_str_eq(kit.what, "second_use_of_lease");
	cr_assert_eq(kit.n_used, 1);
	kit_end(&kit);
}

Test(vault_sql, no_proof_without_the_pinned_certificate)
{
	char first[256];

	lease(SP_CRED_PG_SCRAM, false);
	cr_assert_not(prove("SCRAM-SHA-256-PLUS", 256, "", first, sizeof(first)));
	cr_assert_eq(kit.n_events, 1);
	kit_end(&kit);
	lease(SP_CRED_PG_SCRAM, false);
	cr_assert_eq(begin(CERT " of somebody else"), 0);
	cr_assert_str_eq(kit.what, "certificate_not_pinned");
	cr_assert_not(prove("SCRAM-SHA-256-PLUS", 256, "", first, sizeof(first)));
	kit_end(&kit);
}

Test(vault_sql, channel_binding_is_the_targets_to_waive)
{
	char first[256], final[512];

	lease(SP_CRED_PG_SCRAM, false);
	cr_assert_eq(begin(CERT), 1);
	cr_assert_not(prove("SCRAM-SHA-256", 0, "", first, sizeof(first)));
	cr_assert_str_eq(kit.what, "sql_without_channel_binding");
	kit_end(&kit);
	lease(SP_CRED_PG_SCRAM, true);
	cr_assert_eq(begin(CERT), 1);
	cr_assert(prove("SCRAM-SHA-256", 0, "", first, sizeof(first)));
	cr_assert(ask(first, final, sizeof(final)));
	cr_assert_eq(strncmp(final, "c=biws,", 7), 0);
	kit_end(&kit);
	lease(SP_CRED_PG_SCRAM, true);
	cr_assert_eq(begin(CERT), 1);
	cr_assert_not(prove("PLAIN", 0, "", first, sizeof(first)));
	cr_assert_str_eq(kit.what, "sql_mechanism_refused");
	kit_end(&kit);
}

Test(vault_sql, a_role_has_a_secret_of_its_own)
{
	SP_BUF_AUTO one = {.max = 256}, two = {.max = 256};
	uint8_t nobody[16] = {1};

	lease(SP_CRED_PG_ROLE, false);
	cr_assert_eq(sp_lease_verifier(kit.t, kit.session, &one), SP_OK);
	cr_assert_eq(strncmp((const char *)sp_buf_span(&one).p,
	    "SCRAM-SHA-256$4096:", 19), 0);
	cr_assert_eq(sp_lease_verifier(kit.t, nobody, &two), SP_ERR_NOTFOUND);
	kit_end(&kit);
	lease(SP_CRED_PG_ROLE, false);
	cr_assert_eq(sp_lease_verifier(kit.t, kit.session, &two), SP_OK);
	cr_assert_not(sp_span_eq(sp_buf_span(&one), sp_buf_span(&two)));
	kit_end(&kit);
	/* A stored secret's verifier is not given away with a lease. */
	sp_buf_reset(&one);
	lease(SP_CRED_PG_SCRAM, false);
	cr_assert_eq(sp_lease_verifier(kit.t, kit.session, &one), SP_ERR_INVAL);
	kit_end(&kit);
}

/* ---------------------------------------------------------------- MariaDB */

Test(vault_sql, mariadb_verifiers)
{
	SP_SECRET_AUTO k = {0};
	SP_BUF_AUTO ed = {.max = 256}, native = {.max = 256};

	cr_assert_eq(sp_secret_init(), SP_OK);
	/* Both as the server's own functions say. */
	cr_assert_eq(sp_mariadb_import(str("secret"), str(""), &k), SP_OK);
	cr_assert_eq(sp_mariadb_verifier(&k, &ed), SP_OK);
	cr_assert(sp_span_is(sp_buf_span(&ed),
	    "ed25519 ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY"));
	cr_assert_eq(sp_mariadb_import(str("password"), str("native"), &k), SP_OK);
	cr_assert_eq(sp_mariadb_verifier(&k, &native), SP_OK);
	cr_assert(sp_span_is(sp_buf_span(&native),
	    "mysql_native_password *2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19"));
	cr_assert_eq(sp_mariadb_import(str("x"), str("md5"), &k), SP_ERR_INVAL);
}

Test(vault_sql, mariadb_answers)
{
	SP_SECRET_AUTO k = {0};
	SP_BUF_AUTO out = {.max = 256}, pk = {.max = 64}, v = {.max = 256};
	static const uint8_t nonce[32] = {1, 2, 3};
	struct sp_span n32 = sp_span_of(nonce, 32), n20 = sp_span_of(nonce, 20);

	cr_assert_eq(sp_secret_init(), SP_OK);
	cr_assert_eq(sp_mariadb_import(str("any length of password, really"),
	    str("ed25519"), &k), SP_OK);
	cr_assert_eq(sp_mariadb_answer(&k, str("client_ed25519"), n32, &out), SP_OK);
	cr_assert_eq(sp_mariadb_verifier(&k, &v), SP_OK);
	cr_assert_eq(sp_buf_printf(&v, "="), SP_OK);
	cr_assert_eq(sp_unbase64(&pk, sp_span_of(sp_buf_span(&v).p + 8, v.len - 8)),
	    SP_OK);
	cr_assert_eq(crypto_sign_verify_detached(sp_buf_span(&out).p, nonce, 32,
	    sp_buf_span(&pk).p), 0);
	cr_assert_eq(sp_mariadb_answer(&k, str("client_ed25519"), n20, &out),
	    SP_ERR_PROTO);
	cr_assert_eq(sp_mariadb_answer(&k, str("mysql_native_password"), n20, &out),
	    SP_ERR_DENIED);
	cr_assert_eq(sp_mariadb_answer(&k, str("caching_sha2_password"), n20, &out),
	    SP_ERR_DENIED);
}
