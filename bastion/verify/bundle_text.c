/* SPDX-License-Identifier: Apache-2.0 */
/* The texts of a bundle. Each has one form: who reads it writes it again and
 * compares. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bastion/verify/bundle.h"

enum sp_err
bundle_line(struct sp_span *s, struct sp_span *line)
{
	const uint8_t *nl = s->n == 0 ? NULL : memchr(s->p, '\n', s->n);
	size_t n;

	if (s->n == 0)
		return SP_ERR_EOF;
	if (nl == NULL)
		return SP_ERR_PROTO;
	n = (size_t)(nl - s->p);
	*line = sp_span_of(s->p, n);
	*s = sp_span_of(s->p + n + 1, s->n - n - 1);
	return SP_OK;
}

struct sp_span
bundle_word(struct sp_span *line)
{
	const uint8_t *sp = line->n == 0 ? NULL : memchr(line->p, ' ', line->n);
	size_t n = sp == NULL ? line->n : (size_t)(sp - line->p);
	struct sp_span w = sp_span_of(line->p, n);

	n += sp != NULL;
	*line = sp_span_of(line->p + n, line->n - n);
	return w;
}

static enum sp_err
hashes(struct sp_buf *out, const struct sp_tlog_proof *p)
{
	for (size_t i = 0; i < p->n; i++) {
		SP_TRY(sp_base64(out, sp_span_of(p->h[i], 32)));
		SP_TRY(sp_buf_put_u8(out, '\n'));
	}
	return sp_buf_put_u8(out, '\n');
}

enum sp_err
bundle_inclusion(struct sp_buf *out, uint64_t index, uint64_t size,
    struct sp_span entry, const struct sp_tlog_proof *p)
{
	struct sp_leaf l;

	SP_TRY(sp_leaf_decode(entry, &l));
	SP_TRY(sp_buf_printf(out, "inclusion %" PRIu64 " %" PRIu64 " %s\n", index,
	    size, sp_leaf_type_name(l.type)));
	SP_TRY(sp_base64(out, entry));
	SP_TRY(sp_buf_put_u8(out, '\n'));
	return hashes(out, p);
}

enum sp_err
bundle_consistency(struct sp_buf *out, uint64_t from, uint64_t to,
    const struct sp_tlog_proof *p)
{
	SP_TRY(sp_buf_printf(out, "consistency %" PRIu64 " %" PRIu64 "\n", from,
	    to));
	return hashes(out, p);
}

enum sp_err
bundle_note(struct sp_span note, const uint8_t key[static 32],
    struct sp_checkpoint *c, struct sp_buf *out)
{
	struct sp_note_key k;
	struct sp_note n;
	size_t at = 0;

	SP_TRY(sp_note_parse(note, &n));
	SP_TRY(sp_checkpoint_parse(n.text, c));
	SP_TRY(sp_note_key_make(&k, sp_span_str(c->origin), SP_NOTE_ED25519, key));
	SP_TRY(sp_note_check(&n, &k, &at, NULL));
	SP_TRY(sp_buf_put(out, n.text.p, n.text.n));
	SP_TRY(sp_buf_put_u8(out, '\n'));
	return sp_buf_put(out, n.sig[at].line.p, n.sig[at].line.n);
}

/* SubjectPublicKeyInfo of Ed25519 (RFC 8410). */
enum sp_err
bundle_pem(struct sp_buf *out, const uint8_t key[static 32])
{
	uint8_t der[44] = {0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70,
	    0x03, 0x21, 0x00};

	memcpy(der + 12, key, 32);
	SP_TRY(sp_buf_printf(out, "-----BEGIN PUBLIC KEY-----\n"));
	SP_TRY(sp_base64(out, sp_span_of(der, sizeof(der))));
	return sp_buf_printf(out, "\n-----END PUBLIC KEY-----\n");
}

static const char readme[] =
"Evidence of one session: %s\n"
"\n"
"This archive was made by a Sallyport bastion. It can be checked on any machine,\n"
"without the bastion and without a network.\n"
"\n"
"1. WHOSE KEY\n"
"   audit-key.hex (and audit-key.pem, the same) is the public audit key of the\n"
"   bastion's vault. The archive cannot vouch for it: compare it with what the\n"
"   bank has published, or with what `sallyport vault status` shows on the host.\n"
"\n"
"2. WITH THE VERIFIER\n"
"       sallyport-verify bundle FILE.tar --key AUDIT-KEY-FROM-ELSEWHERE\n"
"   says GOOD, or what does not fit. It checks all that follows. With the key of a\n"
"   witness (--witness NAME+ID+KEY, from the witness itself) it also says whether\n"
"   that witness cosigned a head of the log that has this session's end.\n"
"\n"
"3. WITH OTHER TOOLS (sha256sum, openssl, base64), in this directory\n"
"   All that the manifest names:\n"
"       sha256sum -c MANIFEST.sha256\n"
"   The signature of the log's head. What is signed is the text before the empty\n"
"   line; the last word of the last line is base64 of 4 bytes (which key) and the\n"
"   64 bytes of the Ed25519 signature:\n"
"       head -n 3 checkpoint >head.txt\n"
"       tail -n 1 checkpoint | awk '{print $NF}' | base64 -d | tail -c 64 >head.sig\n"
"       openssl pkeyutl -verify -rawin -pubin -inkey audit-key.pem \\\n"
"           -in head.txt -sigfile head.sig\n"
"   The manifest is a leaf of the log: proofs.txt has an entry of type act that\n"
"   holds this digest:\n"
"       sha256sum MANIFEST.sha256\n"
"       grep -A1 '^inclusion .* act$' proofs.txt | grep -v '^inclusion' | \\\n"
"           while read x; do echo \"$x\" | base64 -d | od -An -v -tx1 | tr -d ' \\n'; echo; done\n"
"   An entry's way to the head: SHA-256(0, entry) is its leaf, and the hashes that\n"
"   follow lead to the root in the third line of checkpoint (RFC 9162, 2.1.3.2).\n"
"   A time stamp (RFC 3161), where published/N.tsr is there: the stamped bytes are\n"
"   published/N with its first signature line alone.\n"
"       head -n 5 published/N >N.one\n"
"       openssl ts -verify -in published/N.tsr -data N.one -CAfile TSA.pem\n"
"\n"
"4. WHAT IS IN IT\n"
"   recording.spr    the session, encrypted; who may open it is in its header.\n"
"                    With an identity that it is sealed to:\n"
"                    sallyport replay recording.spr --identity FILE\n"
"   session.json     request, approvals, grant, lease: rows of the bastion's\n"
"                    database. Their seals are the vault's; only it can check them.\n"
"                    That they stood so when this archive was made, the log proves.\n"
"   audit.txt        audit events of the session and its approvals. SHA-256(hash\n"
"                    before, event) is the event's hash, a leaf of type audit.\n"
"   proofs.txt       inclusion of OPEN, of each signed point, of the end, of the\n"
"                    audit events, of who looked at it, and of this archive.\n"
"   published/       heads that witnesses cosigned and authorities stamped;\n"
"                    consistency.txt proves that checkpoint goes on from them.\n";

enum sp_err
bundle_readme(struct sp_buf *out, const char *session)
{
	return sp_buf_printf(out, readme, session);
}
