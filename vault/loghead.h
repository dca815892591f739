/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_LOGHEAD_H
#define SP_VAULT_LOGHEAD_H

#include "common/tlog_note.h"
#include "vault/root.h"

/*
 * The head of the transparency log that was signed last. The vault signs a new
 * one only when it is proved that the tree of the last one is its beginning, so
 * whoever has captured the notary or the broker gets no fork signed. It is on the
 * disk before the signature leaves: D/vault/loghead, two slots of 1,024 bytes,
 * written in turn, each u16 length and the checkpoint as a signed note. The
 * newest one that is good counts; a slot that power cut short was given to nobody.
 */
struct sp_loghead {
	int fd;			/* -1: it cannot be kept, nothing is signed */
	bool is_ready, is_broken;
	char wanted[SP_NOTE_NAME_MAX + 1];	/* by the configuration; "" */
	char usual[SP_NOTE_NAME_MAX + 1];	/* where none was signed yet */
	struct sp_checkpoint last;
	unsigned slot;		/* that is written next */
};
/* Opens the file, before the sandbox. node "": the host's name. */
void sp_loghead_load(struct sp_loghead *h, int dirfd, const char *origin,
    const char *node);
/* Reads it, once, when the vault is open. SP_ERR_CRYPTO: there is something, and
 * it is none of ours. */
SP_MUST enum sp_err sp_loghead_open(struct sp_loghead *h,
    const struct sp_root *r);
/* SP_ERR_CRYPTO: it does not continue the last one. */
SP_MUST enum sp_err sp_loghead_sign(struct sp_loghead *h,
    const struct sp_root *r, uint64_t size, const uint8_t root[static 32],
    struct sp_span proof, uint8_t sig[static 64]);
void sp_loghead_fini(struct sp_loghead *h);

#endif
