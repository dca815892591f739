/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/text.h"
#include "vault/loghead.h"
#include "vault/vaultd.h"
#include "vault/poison.h"

#define FILE_NAME "loghead"
#define SLOT 1024

void
sp_loghead_load(struct sp_loghead *h, int dirfd, const char *origin,
    const char *node)
{
	char host[HOST_NAME_MAX + 1] = "";

	*h = (struct sp_loghead){.fd = -1};
	if (node[0] == '\0' && gethostname(host, sizeof(host) - 1) == 0)
		node = host;
	snprintf(h->wanted, sizeof(h->wanted), "%s", origin);
	snprintf(h->usual, sizeof(h->usual), "sallyport/%.100s",
	    node[0] == '\0' ? "bastion" : node);
	if (!sp_note_name_is_valid(sp_span_str(h->usual)))
		snprintf(h->usual, sizeof(h->usual), "sallyport/bastion");
	h->fd = openat(dirfd, FILE_NAME, O_RDWR | O_CREAT | O_NOFOLLOW |
	    O_CLOEXEC | O_NOCTTY, 0600);
	if (h->fd < 0)
		sp_log(SP_ERROR, "loghead_unreadable", NULL, "errno=%d", errno);
}

void
sp_loghead_fini(struct sp_loghead *h)
{
	if (h->fd >= 0)
		close(h->fd);
	h->fd = -1;
}

/* A slot that is a checkpoint of ours. */
static bool
read_slot(const struct sp_loghead *h, const struct sp_root *r, unsigned slot,
    struct sp_checkpoint *c)
{
	uint8_t b[SLOT];
	struct sp_note_key k;
	struct sp_note n;
	size_t len;

	if (lseek(h->fd, (off_t)slot * SLOT, SEEK_SET) < 0 ||
	    read(h->fd, b, SLOT) != SLOT)
		return false;
	len = (size_t)b[0] | (size_t)b[1] << 8;
	return len <= SLOT - 2 && sp_note_parse(sp_span_of(b + 2, len), &n) ==
	    SP_OK && sp_checkpoint_parse(n.text, c) == SP_OK &&
	    sp_note_key_make(&k, sp_span_str(c->origin), SP_NOTE_ED25519,
	    r->audit_pk) == SP_OK && sp_note_check(&n, &k, NULL, NULL) == SP_OK;
}

/* A tree of another name begins at nothing; only the configuration names it. */
static void
take_name(struct sp_loghead *h, bool has)
{
	const char *name = h->wanted[0] != '\0' ? h->wanted : h->usual;

	if (has && (h->wanted[0] == '\0' ||
	    sp_span_is(sp_span_str(h->wanted), h->last.origin)))
		return;
	h->last = (struct sp_checkpoint){.size = 0};
	snprintf(h->last.origin, sizeof(h->last.origin), "%s", name);
	crypto_hash_sha256(h->last.root, NULL, 0);
}

enum sp_err
sp_loghead_open(struct sp_loghead *h, const struct sp_root *r)
{
	bool has = false;
	off_t n;

	if (h->is_ready)
		return SP_OK;
	if (h->fd < 0 || (n = lseek(h->fd, 0, SEEK_END)) < 0)
		return SP_ERR_IO;
	if (h->is_broken)
		return SP_ERR_CRYPTO;
	for (unsigned i = 0; i < 2; i++) {
		struct sp_checkpoint c;

		if (!read_slot(h, r, i, &c) || (has && c.size < h->last.size &&
		    sp_span_is(sp_span_str(c.origin), h->last.origin)))
			continue;
		h->last = c;
		h->slot = 1 - i;
		has = true;
	}
	/* The first slot's first write may have been cut short: then nothing was
	 * signed. What fills more than it was. */
	if (!has && n > SLOT) {
		h->is_broken = true;
		return SP_ERR_CRYPTO;
	}
	take_name(h, has);
	h->is_ready = true;
	return SP_OK;
}

static enum sp_err
keep(struct sp_loghead *h, struct sp_span note)
{
	uint8_t b[SLOT] = {(uint8_t)note.n, (uint8_t)(note.n >> 8)};

	if (note.n > SLOT - 2)
		return SP_ERR_TOOBIG;
	memcpy(b + 2, note.p, note.n);
	if (pwrite(h->fd, b, SLOT, (off_t)h->slot * SLOT) != SLOT ||
	    fdatasync(h->fd) != 0)
		return SP_ERR_IO;
	h->slot = 1 - h->slot;
	return SP_OK;
}

static enum sp_err
continues(const struct sp_loghead *h, uint64_t size,
    const uint8_t root[static 32], struct sp_span proof)
{
	struct sp_tlog_proof p = {.n = proof.n / 32};

	if (proof.n % 32 != 0 || p.n > SP_TLOG_PROOF_MAX)
		return SP_ERR_CRYPTO;
	if (proof.n > 0)
		memcpy(p.h, proof.p, proof.n);
	return sp_tlog_check_consistency(&p, h->last.size, h->last.root, size,
	    root);
}

enum sp_err
sp_loghead_sign(struct sp_loghead *h, const struct sp_root *r, uint64_t size,
    const uint8_t root[static 32], struct sp_span proof, uint8_t sig[static 64])
{
	struct sp_checkpoint c = {.size = size};
	SP_BUF_AUTO text = {.max = 512};
	SP_BUF_AUTO note = {.max = SLOT};
	uint8_t s[64];
	struct sp_note_key k;

	if (!r->is_open)
		return SP_ERR_SEALED;
	SP_TRY(sp_loghead_open(h, r));
	SP_TRY(continues(h, size, root, proof));
	memcpy(c.root, root, 32);
	snprintf(c.origin, sizeof(c.origin), "%s", h->last.origin);
	SP_TRY(sp_note_key_make(&k, sp_span_str(c.origin), SP_NOTE_ED25519,
	    r->audit_pk));
	SP_TRY(sp_checkpoint_text(&c, &text));
	SP_TRY(sp_root_sign(r, sp_buf_span(&text), s));
	SP_TRY(sp_note_signed(sp_buf_span(&text), &k, s, &note));
	SP_TRY(keep(h, sp_buf_span(&note)));
	h->last = c;
	memcpy(sig, s, 64);
	return SP_OK;
}

/* ------------------------------------------------------------- the notary's link */

static enum sp_err
on_head(struct sp_vaultd *v, struct sp_packet *p)
{
	struct sp_msg_v_log_head m;
	struct sp_msg_v_log_head_r r = {.err = SP_ERR_SEALED};

	SP_TRY(sp_dec_v_log_head(p->body, &m));
	if (v->root.is_open)
		r.err = (uint8_t)sp_loghead_open(&v->loghead, &v->root);
	if (r.err == SP_OK) {
		r.origin = sp_span_str(v->loghead.last.origin);
		r.size = v->loghead.last.size;
		memcpy(r.root, v->loghead.last.root, 32);
		memcpy(r.audit_key, v->root.audit_pk, 32);
	}
	return sp_send_v_log_head_r(&v->nty, p->corr, &r, NULL);
}

static enum sp_err
on_sign(struct sp_vaultd *v, struct sp_packet *p)
{
	struct sp_msg_v_log_sign m;
	struct sp_msg_v_log_sign_r r = {.err = SP_ERR_SEALED};
	enum sp_err e;

	SP_TRY(sp_dec_v_log_sign(p->body, &m));
	e = sp_loghead_sign(&v->loghead, &v->root, m.size, m.root, m.proof,
	    r.signature);
	if (e == SP_ERR_CRYPTO)
		sp_vaultd_event(v, "log_fork_refused", NULL, "a head of the "
		    "transparency log that does not continue the last one was not "
		    "signed");
	r.err = (uint8_t)e;
	r.size = m.size;
	return sp_send_v_log_sign_r(&v->nty, p->corr, &r, NULL);
}

enum sp_err
sp_notary_serve(struct sp_vaultd *v)
{
	enum sp_err e = sp_link_flush(&v->nty);

	if (e == SP_ERR_AGAIN)
		e = SP_OK;
	for (unsigned i = 0; e == SP_OK && i < 8; i++) {
		struct sp_packet p;

		if ((e = sp_link_recv(&v->nty, &p)) != SP_OK)
			break;
		e = p.type == SP_MSG_v_log_head ? on_head(v, &p) :
		    p.type == SP_MSG_v_log_sign ? on_sign(v, &p) : SP_ERR_PROTO;
		sp_packet_close_fds(&p);
	}
	return e == SP_ERR_AGAIN ? SP_OK : e;
}

void
sp_notary_drop(struct sp_vaultd *v)
{
	if (v->nty.fd < 0)
		return;
	sp_log(SP_WARN, "notary_gone", NULL, "fault=\"%s\"", v->nty.fault);
	sp_link_fini(&v->nty);
}

void
sp_notary_attach(struct sp_vaultd *v, int fd)
{
	sp_notary_drop(v);
	if (sp_link_init(&v->nty, fd, SP_ROLE_VLT, SP_ROLE_NTY, SP_ST_READY) !=
	    SP_OK)
		sp_log(SP_ERROR, "notary_gone", NULL, "fault=\"no link\"");
}
