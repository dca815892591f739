/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vault/hostsig.h"
#include "vault/kinds.h"
#include "vault/sshkey.h"
#include "vault/rotate.h"
#include "vault/userauth.h"
#include "vault/poison.h"

const char *
sp_lease_not_now(const struct sp_lease *l, enum sp_kind_gives wants)
{
	const struct sp_kind *k;

	if (sp_lease_is_over_time(l))
		return "lease_expired";
	switch (l->state) {
	case SP_LEASE_WAIT_LEASE:
		return "no_lease";
	case SP_LEASE_READY:
		return "credential_before_host_proof";
	case SP_LEASE_PROVED:
		break;
	case SP_LEASE_USED:
		return "second_use_of_lease";
	case SP_LEASE_NEW:
	case SP_LEASE_WAIT_LINK:
	case SP_LEASE_ENDED:
	default:
		return "lease_ended";
	}
	if (!l->table->root->is_open)
		return "vault_sealed";
	k = sp_kind_find(l->kind);
	return k == NULL || k->gives != wants ? "credential_not_granted" : NULL;
}

/* -------------------------------------------------------------- host_proof */

static enum sp_err
proof_result(struct sp_lease *l, uint64_t corr, bool ok, const char *text)
{
	struct sp_msg_host_proof_r r = {.ok = ok, .text = sp_span_str(text)};

	return sp_send_host_proof_r(&l->link, corr, &r, NULL);
}

static enum sp_err
on_host_proof(struct sp_lease *l, struct sp_packet *p)
{
	struct sp_msg_host_proof m;
	const char *why = NULL, *text = "";

	SP_TRY(sp_dec_host_proof(p->body, &m));
	if (l->state != SP_LEASE_READY || sp_lease_is_sql(l->kind)) {
		why = "no_lease";
		text = "there is no lease for this session";
	} else if (sp_lease_is_over_time(l)) {
		why = "lease_expired";
		text = "the lease has expired";
	} else if (!sp_host_key_is_pinned(sp_buf_span(&l->pins), m.host_key)) {
		why = "host_key_not_pinned";
		text = "the target's host key is not the pinned one";
	} else if (m.signature.n == 0) {
		why = "host_proof_empty";
		text = "the host's signature is missing";
	}
	if (why != NULL) {
		sp_lease_abort(l, why, text);
		return proof_result(l, p->corr, false, text);
	}
	SP_TRY(sp_buf_put(&l->host_key, m.host_key.p, m.host_key.n));
	SP_TRY(sp_buf_put(&l->host_sig, m.signature.p, m.signature.n));
	SP_TRY(proof_result(l, p->corr, true, ""));
	sp_lease_set_state(l, SP_LEASE_PROVED);
	return SP_OK;
}

bool
sp_lease_is_proved_for(const struct sp_lease *l, struct sp_span session_id)
{
	return sp_session_id_is_sane(session_id) &&
	    sp_host_sig_verify(sp_buf_span(&l->host_key),
	    sp_buf_span(&l->host_sig), session_id, l->legacy) == SP_OK;
}

/* ------------------------------------------------------------------- agent */

static enum sp_err
make_key(struct sp_lease *l)
{
	sp_buf_reset(&l->blob);
	return sp_kind_ops(l->kind)->identity(l);
}

static enum sp_err
on_identity(void *arg, struct sp_buf *blob)
{
	struct sp_lease *l = arg;
	const char *why = sp_lease_not_now(l, SP_GIVES_AGENT);
	enum sp_err e;

	if (why != NULL)
		return sp_lease_refuse(l, why, "identities were asked for");
	if (l->key.p == NULL && (e = make_key(l)) != SP_OK)
		return sp_lease_refuse(l, "credential_failed", sp_err_text(e));
	return sp_buf_put(blob, sp_buf_span(&l->blob).p, l->blob.len);
}

/* The request must be exactly the login that the lease is for. */
static const char *
wrong_with(const struct sp_lease *l, struct sp_span blob, struct sp_span data)
{
	struct sp_span mine = sp_buf_span(&l->blob), rest = mine, type;
	struct sp_userauth u;

	if (l->key.p == NULL || !sp_span_eq(blob, mine))
		return "signature_with_other_key";
	if (sp_userauth_parse(data, &u) != SP_OK)
		return "signature_over_other_data";
	if (sp_get_ssh_string(&rest, 64, &type) != SP_OK ||
	    !sp_span_eq(u.blob, mine) || !sp_sshkey_may_sign(type, u.algo))
		return "signature_with_other_key";
	if (!sp_span_is(u.user, l->account))
		return "signature_for_other_user";
	if (!sp_span_is(u.service, "ssh-connection") ||
	    !sp_span_is(u.method, "publickey"))
		return "signature_for_other_service";
	if (!sp_lease_is_proved_for(l, u.session_id))
		return "signature_for_other_session";
	return NULL;
}

static enum sp_err
on_sign(void *arg, struct sp_span blob, struct sp_span data,
    struct sp_buf *signature)
{
	struct sp_lease *l = arg;
	const char *why = sp_lease_not_now(l, SP_GIVES_AGENT);

	if (why == NULL)
		why = wrong_with(l, blob, data);
	if (why != NULL)
		return sp_lease_refuse(l, why, "a signature was asked for");
	if (sp_kind_ops(l->kind)->sign(l, data, signature) != SP_OK)
		return sp_lease_refuse(l, "credential_failed", "signing");
	sp_lease_set_state(l, SP_LEASE_USED);
	l->table->ops.used(l->table->ops.arg, l->session, l->kind);
	return SP_OK;
}

enum sp_err
sp_lease_agent_bytes(struct sp_lease *l, struct sp_span in)
{
	struct sp_agent_ops ops = {.arg = l, .identity = on_identity,
	    .sign = on_sign};
	enum sp_err e = sp_agent_input(&l->agent, in, &ops);

	if (e != SP_OK && l->state != SP_LEASE_ENDED)
		return sp_lease_refuse(l, "agent_protocol", sp_err_text(e));
	if (l->agent.rx.len == 0)
		l->half_boot_us = 0;
	else if (l->half_boot_us == 0)
		l->half_boot_us = sp_boot_us() + SP_LEASE_HALF_US;
	return e;
}

/* ---------------------------------------------------------------- password */

enum sp_err
sp_lease_memfd(const struct sp_secret *s, int *out)
{
	int fd = memfd_create("sallyport", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	size_t off = 0;

	if (fd < 0)
		return SP_ERR_IO;
	while (off < s->n) {
		ssize_t n = write(fd, s->p + off, s->n - off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		off += (size_t)n;
	}
	if (off != s->n || lseek(fd, 0, SEEK_SET) != 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW |
	    F_SEAL_WRITE) != 0) {
		close(fd);
		return SP_ERR_IO;
	}
	*out = fd;
	return SP_OK;
}

static enum sp_err
hand_out(struct sp_lease *l, uint64_t corr)
{
	SP_SECRET_AUTO s = {0};
	struct sp_msg_password r;
	int fd;

	SP_TRY(sp_secret_unseal(l->table->root, &l->row,
	    sp_buf_span(&l->sealed), &s));
	SP_TRY(sp_lease_memfd(&s, &fd));
	r.len = (uint32_t)s.n;
	return sp_send_password(&l->link, corr, &r, &fd);
}

static enum sp_err
on_take_password(struct sp_lease *l, struct sp_packet *p)
{
	const char *why = sp_lease_not_now(l, SP_GIVES_PASSWORD);
	struct sp_msg_take_password m;
	enum sp_err e;

	SP_TRY(sp_dec_take_password(p->body, &m));
	if (why == NULL && !sp_lease_is_proved_for(l, m.session_id))
		why = "password_for_other_session";
	if (why != NULL)
		return sp_lease_refuse(l, why, "the password was asked for");
	if ((e = hand_out(l, p->corr)) != SP_OK)
		return sp_lease_refuse(l, "credential_failed", sp_err_text(e));
	sp_lease_set_state(l, SP_LEASE_USED);
	l->table->ops.used(l->table->ops.arg, l->session, l->kind);
	return SP_OK;
}

enum sp_err
sp_lease_message(struct sp_lease *l, struct sp_packet *p)
{
	enum sp_err e = SP_ERR_PROTO;

	if (p->type == SP_MSG_host_proof)
		e = on_host_proof(l, p);
	else if (p->type == SP_MSG_take_password)
		e = on_take_password(l, p);
	else if (p->type == SP_MSG_take_rotation)
		e = sp_rotate_take(l, p);
	else if (l->kind != 0 && sp_kind_ops(l->kind)->message != NULL)
		e = sp_kind_ops(l->kind)->message(l, p);
	sp_packet_close_fds(p);
	if (e == SP_ERR_TOOBIG)
		e = SP_ERR_PROTO;
	if (e == SP_ERR_PROTO && l->link.fault[0] == '\0')
		snprintf(l->link.fault, sizeof(l->link.fault),
		    "a broken %s message", sp_ipc_name(p->type));
	return e;
}
