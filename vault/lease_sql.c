/* SPDX-License-Identifier: Apache-2.0 */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "vault/hostsig.h"
#include "vault/lease_int.h"
#include "vault/mariadb.h"
#include "vault/poison.h"

/*
 * What the egress of a database may ask: first it shows the certificate that the
 * server has shown it, then it asks for one login. PostgreSQL: the proof fits
 * only a connection to the holder of that certificate (channel binding).
 * MariaDB has nothing of the kind: the pin is all there is.
 */

bool
sp_lease_is_sql(uint8_t kind)
{
	return kind == SP_CRED_PG_SCRAM || kind == SP_CRED_PG_ROLE ||
	    kind == SP_CRED_MARIADB;
}

/* Pins: SHA-256 of certificates, as SSH strings. */
enum sp_err
sp_lease_check_certs(struct sp_span list)
{
	struct sp_span one;
	size_t n = 0;

	while (list.n > 0) {
		SP_TRY(sp_get_ssh_string(&list, 32, &one));
		if (one.n != 32 || ++n > SP_HOST_KEYS_MAX)
			return SP_ERR_INVAL;
	}
	return n > 0 ? SP_OK : SP_ERR_INVAL;
}

enum sp_err
sp_lease_verifier(struct sp_leases *t, const uint8_t session[static 16],
    struct sp_buf *out)
{
	for (size_t i = 0; i < t->n; i++) {
		struct sp_lease *l = t->row[i];

		if (l->state != SP_LEASE_WAIT_LINK && l->state != SP_LEASE_READY &&
		    l->state != SP_LEASE_PROVED)
			continue;
		if (sp_span_eq(sp_span_of(l->session, 16), sp_span_of(session, 16)))
			return l->kind == SP_CRED_PG_ROLE && l->key.p != NULL ?
			    sp_scram_verifier(&l->key, out) : SP_ERR_INVAL;
	}
	return SP_ERR_NOTFOUND;
}

/* --------------------------------------------------------- the certificate */

static enum sp_err
began(struct sp_lease *l, uint64_t corr, bool ok, const char *text)
{
	struct sp_msg_sql_begin_r r = {.ok = ok, .text = sp_span_str(text)};

	return sp_send_sql_begin_r(&l->link, corr, &r, NULL);
}

static enum sp_err
on_begin(struct sp_lease *l, struct sp_packet *p)
{
	struct sp_msg_sql_begin m;
	const char *why = NULL, *text = "";
	uint8_t seen[32];

	SP_TRY(sp_dec_sql_begin(p->body, &m));
	crypto_hash_sha256(seen, m.cert.p, m.cert.n);
	if (l->state != SP_LEASE_READY || !sp_lease_is_sql(l->kind)) {
		why = "no_lease";
		text = "there is no lease for a database";
	} else if (sp_lease_is_over_time(l)) {
		why = "lease_expired";
		text = "the lease has expired";
	} else if (m.cert.n == 0 || !sp_host_key_is_pinned(sp_buf_span(&l->pins),
	    sp_span_of(seen, sizeof(seen)))) {
		why = "certificate_not_pinned";
		text = "the server's certificate is not the pinned one";
	}
	if (why != NULL) {
		sp_lease_abort(l, why, text);
		return began(l, p->corr, false, text);
	}
	sp_buf_init(&l->cert, 16384);
	SP_TRY(sp_buf_put(&l->cert, m.cert.p, m.cert.n));
	SP_TRY(began(l, p->corr, true, ""));
	sp_lease_set_state(l, SP_LEASE_PROVED);
	return SP_OK;
}

/* --------------------------------------------------------------- the proof */

static enum sp_err
open_kept(struct sp_lease *l, struct sp_secret *kept)
{
	if (l->kind == SP_CRED_PG_ROLE) {
		sp_secret_move(kept, &l->key);
		return kept->p == NULL ? SP_ERR_STATE : SP_OK;
	}
	return sp_secret_unseal(l->table->root, &l->row, sp_buf_span(&l->sealed),
	    kept);
}

static enum sp_err
answer(struct sp_lease *l, uint64_t corr, struct sp_span text,
    struct sp_span expect)
{
	struct sp_msg_sql_prove_r r = {.ok = 1, .answer = text, .expect = expect};

	return sp_send_sql_prove_r(&l->link, corr, &r, NULL);
}

/* What is refused ends the lease; the detail reaches the user by way of the
 * broker. */
static enum sp_err
scram_first(struct sp_lease *l, uint64_t corr, const struct sp_msg_sql_prove *m)
{
	bool plus = sp_span_is(m->mechanism, "SCRAM-SHA-256-PLUS");
	SP_BUF_AUTO out = {.max = 512};

	if (!plus && !sp_span_is(m->mechanism, "SCRAM-SHA-256"))
		return sp_lease_refuse(l, "sql_mechanism_refused", "the server wants "
		    "a way to log in that would give the password away");
	if (!plus && !l->legacy)
		return sp_lease_refuse(l, "sql_without_channel_binding", "the server "
		    "offers no channel binding (SCRAM-SHA-256-PLUS), and the target "
		    "does not allow to go without");
	if (plus == (m->hash == 0) || sp_scram_first(&l->scram, sp_buf_span(&l->cert),
	    m->hash, &out) != SP_OK)
		return sp_lease_refuse(l, "sql_second_login", "a login was asked for "
		    "twice, or with an unknown hash");
	return answer(l, corr, sp_buf_span(&out), sp_span_of(NULL, 0));
}

static enum sp_err
used(struct sp_lease *l)
{
	sp_lease_set_state(l, SP_LEASE_USED);
	l->table->ops.used(l->table->ops.arg, l->session, l->kind);
	return SP_OK;
}

static enum sp_err
scram_final(struct sp_lease *l, uint64_t corr, struct sp_span first)
{
	SP_BUF_AUTO out = {.max = 2048};
	SP_SECRET_AUTO kept = {0};
	uint8_t expect[32];
	enum sp_err e = open_kept(l, &kept);

	if (e == SP_OK)
		e = sp_scram_final(&l->scram, &kept, first, &out, expect);
	if (e == SP_ERR_DENIED)
		return sp_lease_refuse(l, "sql_salt_changed", "the server asks with "
		    "another salt or count than the account's: its password was "
		    "changed there, or that is not the server");
	if (e == SP_ERR_PROTO)
		return sp_lease_refuse(l, "sql_challenge_refused", "the server's "
		    "challenge is not one for this login");
	if (e != SP_OK)
		return sp_lease_refuse(l, "credential_failed", sp_err_text(e));
	SP_TRY(answer(l, corr, sp_buf_span(&out), sp_span_of(expect, 32)));
	return used(l);
}

static enum sp_err
mariadb(struct sp_lease *l, uint64_t corr, const struct sp_msg_sql_prove *m)
{
	SP_BUF_AUTO out = {.max = 128};
	SP_SECRET_AUTO kept = {0};
	enum sp_err e = open_kept(l, &kept);

	if (e == SP_OK)
		e = sp_mariadb_answer(&kept, m->mechanism, m->challenge, &out);
	if (e == SP_ERR_DENIED)
		return sp_lease_refuse(l, "sql_mechanism_refused", "the server wants "
		    "a way to log in that is not the account's: ed25519 and "
		    "mysql_native_password are known, each from a secret of its own");
	if (e != SP_OK)
		return sp_lease_refuse(l, "credential_failed", sp_err_text(e));
	SP_TRY(answer(l, corr, sp_buf_span(&out), sp_span_of(NULL, 0)));
	return used(l);
}

static enum sp_err
on_prove(struct sp_lease *l, struct sp_packet *p)
{
	const char *why = sp_lease_not_now(l, SP_GIVES_PROOF);
	struct sp_msg_sql_prove m;

	SP_TRY(sp_dec_sql_prove(p->body, &m));
	if (why != NULL)
		return sp_lease_refuse(l, why, "a login at a database was asked for");
	if (l->kind == SP_CRED_MARIADB)
		return mariadb(l, p->corr, &m);
	return m.challenge.n == 0 ? scram_first(l, p->corr, &m) :
	    scram_final(l, p->corr, m.challenge);
}

enum sp_err
sp_lease_sql_message(struct sp_lease *l, struct sp_packet *p)
{
	if (p->type == SP_MSG_sql_begin)
		return on_begin(l, p);
	return p->type == SP_MSG_sql_prove ? on_prove(l, p) : SP_ERR_PROTO;
}
