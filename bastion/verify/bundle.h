/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VERIFY_BUNDLE_H
#define SP_VERIFY_BUNDLE_H

#include "bastion/verify/tar.h"
#include "bastion/verify/verify.h"

/*
 * Evidence bundles (doc/evidence.md). The members, in this order; all stand below
 * a directory with the session's id:
 *
 *   README.txt        what this is and how it is checked with other tools
 *   MANIFEST.sha256   of the members marked *
 *   recording.spr *   audit-key.hex *   audit-key.pem *
 *   session.json *    rows of the database, as they stood
 *   audit.txt *       events: "event NODE SEQ HASH-BEFORE BASE64(canonical event)"
 *   published/N *     checkpoints that were given to witnesses (none, or some)
 *   published/N.tsr * and their time stamps
 *   checkpoint        the log's head that the proofs lead to
 *   proofs.txt        "inclusion INDEX SIZE TYPE", leaf and hashes in base64
 *   consistency.txt   "consistency N SIZE" and hashes, for each of published/
 *
 * README.txt is in the manifest, too. The SHA-256 of MANIFEST.sha256 is the object
 * of a leaf (act export) that proofs.txt has. What is not in the manifest proves
 * itself.
 */
#define BUNDLE_MEMBERS 64
#define BUNDLE_TEXT_MAX (64u << 20)

struct bundle_text {
	char name[TAR_NAME_MAX + 1];
	struct sp_buf b;
};
/* README.txt of that session. */
SP_MUST enum sp_err bundle_readme(struct sp_buf *out, const char *session);
SP_MUST enum sp_err bundle_pem(struct sp_buf *out, const uint8_t key[static 32]);
/* A block of proofs.txt, of consistency.txt. */
SP_MUST enum sp_err bundle_inclusion(struct sp_buf *out, uint64_t index,
    uint64_t size, struct sp_span entry, const struct sp_tlog_proof *p);
SP_MUST enum sp_err bundle_consistency(struct sp_buf *out, uint64_t from,
    uint64_t to, const struct sp_tlog_proof *p);
/* The note with the log's own signature and no other. */
SP_MUST enum sp_err bundle_note(struct sp_span note, const uint8_t key[static 32],
    struct sp_checkpoint *c, struct sp_buf *out);
/* The next line, without its newline; SP_ERR_EOF, SP_ERR_PROTO: no newline. */
SP_MUST enum sp_err bundle_line(struct sp_span *s, struct sp_span *line);
/* The next word of a line. */
struct sp_span bundle_word(struct sp_span *line);

/* Who must have cosigned (C2SP tlog-cosignature) heads of published/, and did. */
#define BUNDLE_WITNESSES_MAX 8
struct bundle_witnesses {
	size_t n;
	struct bundle_witness {
		struct sp_note_key key;
		uint64_t heads, newest;	/* how many; leaves of the newest one */
		int64_t at_s;		/* when it cosigned that, by its clock */
	} w[BUNDLE_WITNESSES_MAX];
};
/* A verifier key (C2SP signed-note) of a witness. SP_ERR_SYNTAX, SP_ERR_FULL. */
SP_MUST enum sp_err bundle_witness_add(struct bundle_witnesses *ws,
    const char *vkey);
/* A head that the log signed. SP_ERR_CRYPTO: a line says that it is the witness's,
 * and is not: *by. */
SP_MUST enum sp_err bundle_witness_head(struct bundle_witnesses *ws,
    struct sp_span note, uint64_t size, const char **by);
/* Whoever cosigned no head that has that leaf; NULL: all did. */
const struct bundle_witness *bundle_witness_lacks(
    const struct bundle_witnesses *ws, uint64_t index);
void bundle_witness_say(const struct bundle_witnesses *ws, bool json);

/* `collect`: makes one. `bundle`: judges one. */
int bundle_collect(int argc, char **argv);
void bundle_prepare(void);	/* before the sandbox */
int bundle_verify(int argc, char **argv);

#endif
