/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "notary/notaryd.h"

#define ASK_AGAIN_US 1000000

/* What the vault signed last must be in this tree. */
static void
judge_head(struct sp_notary *n, const struct sp_msg_v_log_head_r *m)
{
	struct sp_checkpoint c;
	struct sp_note note;
	uint8_t root[32];
	char why[256];

	if (m->size > sp_nstore_size(n->store)) {
		snprintf(why, sizeof(why), "it has %" PRIu64 " leaves, and the vault "
		    "has signed %" PRIu64 ": leaves were taken away",
		    sp_nstore_size(n->store), m->size);
		sp_notary_refuse(n, SP_LOG_ALTERED, why);
	} else if (sp_nstore_root(n->store, m->size, root) != SP_OK) {
		sp_notary_refuse(n, SP_LOG_BROKEN, "its tiles cannot be read");
	} else if (memcmp(root, m->root, 32) != 0) {
		snprintf(why, sizeof(why), "its first %" PRIu64 " leaves are not "
		    "those that the vault has signed", m->size);
		sp_notary_refuse(n, SP_LOG_ALTERED, why);
	} else if (sp_nstore_note(n->store).n > 0 &&
	    (sp_note_parse(sp_nstore_note(n->store), &note) != SP_OK ||
	    sp_note_check(&note, &n->key, NULL, NULL) != SP_OK)) {
		sp_notary_refuse(n, SP_LOG_ALTERED, "its checkpoint is not signed by "
		    "this vault, or is of another log");
	} else if (sp_nstore_note(n->store).n > 0 &&
	    sp_checkpoint_parse(note.text, &c) == SP_OK && c.size > m->size) {
		/* The vault's own memory was put back. The log is whole. */
		snprintf(why, sizeof(why), "the vault knows of %" PRIu64 " leaves, "
		    "its own checkpoint of %" PRIu64 ": an older copy of the "
		    "vault's directory was put back", m->size, c.size);
		sp_notary_event(n, "log_vault_went_back", why);
		n->state = SP_LOG_GOOD;
	} else {
		n->state = SP_LOG_GOOD;
	}
}

static enum sp_err
on_head(struct sp_notary *n, struct sp_packet *p)
{
	struct sp_msg_v_log_head_r m;

	SP_TRY(sp_dec_v_log_head_r(p->body, &m));
	n->is_asking = false;
	n->ask_us = sp_boot_us() + ASK_AGAIN_US;
	if (m.err == SP_ERR_CRYPTO)
		sp_notary_refuse(n, SP_LOG_ALTERED, "the vault's own note of what it "
		    "signed (vault/loghead) is none of its own");
	if (m.err != SP_OK || n->state != SP_LOG_WAITS)
		return SP_OK;
	SP_TRY(sp_note_key_make(&n->key, m.origin, SP_NOTE_ED25519, m.audit_key));
	SP_TRY(sp_span_cstr(m.origin, n->origin, sizeof(n->origin)));
	snprintf(n->head.origin, sizeof(n->head.origin), "%s", n->origin);
	n->head.size = m.size;
	memcpy(n->head.root, m.root, 32);
	judge_head(n, &m);
	n->has_head = n->state == SP_LOG_GOOD;
	sp_log(SP_INFO, "log_judged", NULL, "good=%d size=%" PRIu64 " signed=%"
	    PRIu64, n->has_head, sp_nstore_size(n->store), m.size);
	sp_notary_say(n);
	return SP_OK;
}

static enum sp_err
ask_signature(struct sp_notary *n)
{
	struct sp_msg_v_log_sign m = {.size = sp_nstore_size(n->store)};
	struct sp_tlog_proof proof;

	SP_TRY(sp_nstore_tiles(n->store));
	SP_TRY(sp_nstore_root(n->store, m.size, m.root));
	SP_TRY(sp_nstore_consistency(n->store, n->head.size, m.size, &proof));
	m.proof = sp_span_of(proof.h, proof.n * 32);
	n->asked = n->head;
	n->asked.size = m.size;
	memcpy(n->asked.root, m.root, 32);
	return sp_send_v_log_sign(&n->vlt, 0, &m, NULL);
}

void
sp_notary_ask(struct sp_notary *n, int64_t now)
{
	struct sp_msg_v_log_head m;
	enum sp_err e = SP_OK;

	if (n->vlt.fd < 0 || n->is_asking || n->is_signing)
		return;
	if (n->state == SP_LOG_WAITS && now >= n->ask_us) {
		memset(&m, 0, sizeof(m));
		n->is_asking = true;
		e = sp_send_v_log_head(&n->vlt, 0, &m, NULL);
	} else if (n->state == SP_LOG_GOOD && n->has_head && now >= n->sign_us &&
	    sp_nstore_size(n->store) > n->head.size) {
		n->is_signing = true;
		n->sign_us = now + SP_NOTARY_SIGN_US;
		e = ask_signature(n);
	}
	if (e == SP_ERR_FULL && n->is_signing) {
		n->is_signing = false;	/* no room for tiles: later */
	} else if (e != SP_OK) {
		sp_log(SP_ERROR, "log_ask_failed", NULL, "error=\"%s\"",
		    sp_err_text(e));
		n->is_asking = n->is_signing = false;
	}
}

static enum sp_err
keep_checkpoint(struct sp_notary *n, const uint8_t sig[static 64])
{
	SP_BUF_AUTO text = {.max = 512};
	SP_BUF_AUTO note = {.max = 1024};
	struct sp_note parsed;

	SP_TRY(sp_checkpoint_text(&n->asked, &text));
	SP_TRY(sp_note_signed(sp_buf_span(&text), &n->key, sig, &note));
	SP_TRY(sp_note_parse(sp_buf_span(&note), &parsed));
	SP_TRY(sp_note_check(&parsed, &n->key, NULL, NULL));
	/* Signed is signed: the next one must continue it, whatever the disk does. */
	n->head = n->asked;
	SP_TRY(sp_nstore_set_note(n->store, sp_buf_span(&note)));
	sp_notary_publish(n, sp_buf_span(&note));
	return SP_OK;
}

static enum sp_err
on_signed(struct sp_notary *n, struct sp_packet *p)
{
	struct sp_msg_v_log_sign_r m;
	enum sp_err e;

	SP_TRY(sp_dec_v_log_sign_r(p->body, &m));
	if (!n->is_signing || m.size != n->asked.size)
		return SP_ERR_PROTO;
	n->is_signing = false;
	if (m.err == SP_ERR_CRYPTO) {
		sp_notary_refuse(n, SP_LOG_ALTERED, "the vault does not sign it: it "
		    "does not continue what was signed before");
		return SP_OK;
	}
	if (m.err != SP_OK)
		return SP_OK;	/* sealed: the leaves are safe, the head is late */
	e = keep_checkpoint(n, m.signature);
	if (e == SP_ERR_CRYPTO)
		return SP_ERR_PROTO;
	if (e != SP_OK)
		sp_log(SP_ERROR, "checkpoint_not_written", NULL, "error=\"%s\"",
		    sp_err_text(e));
	sp_notary_say(n);
	return SP_OK;
}

enum sp_err
sp_notary_vault(struct sp_notary *n, struct sp_packet *p)
{
	switch (p->type) {
	case SP_MSG_v_log_head_r:
		return n->is_asking ? on_head(n, p) : SP_ERR_PROTO;
	case SP_MSG_v_log_sign_r:
		return on_signed(n, p);
	default:
		return SP_ERR_PROTO;
	}
}
