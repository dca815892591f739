/* SPDX-License-Identifier: Apache-2.0 */
#include "common/tlog_note.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/text.h"

#define DASH "\xe2\x80\x94 "	/* U+2014 and a space */

/* Spaces of Unicode are none of ours either: a name is ASCII or letters. */
bool
sp_note_name_is_valid(struct sp_span s)
{
	if (s.n == 0 || s.n > SP_NOTE_NAME_MAX || !sp_utf8_is_valid(s))
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] <= ' ' || s.p[i] == '+' || s.p[i] == 0x7f)
			return false;
		/* U+0080-00A0, U+1680, U+2000-206F, U+3000 */
		if (s.n - i >= 2 && s.p[i] == 0xc2 && s.p[i + 1] <= 0xa0)
			return false;
		if (s.n - i >= 3 && ((s.p[i] == 0xe2 && (s.p[i + 1] == 0x80 ||
		    s.p[i + 1] == 0x81)) || (s.p[i] == 0xe1 &&
		    s.p[i + 1] == 0x9a && s.p[i + 2] == 0x80) ||
		    (s.p[i] == 0xe3 && s.p[i + 1] == 0x80 && s.p[i + 2] == 0x80)))
			return false;
	}
	return true;
}

enum sp_err
sp_note_key_make(struct sp_note_key *k, struct sp_span name,
    enum sp_note_alg alg, const uint8_t pk[static 32])
{
	crypto_hash_sha256_state st;
	uint8_t mid[2] = {'\n', (uint8_t)alg}, h[32];

	if (!sp_note_name_is_valid(name))
		return SP_ERR_SYNTAX;
	SP_TRY(sp_span_cstr(name, k->name, sizeof(k->name)));
	k->alg = alg;
	memcpy(k->pk, pk, 32);
	crypto_hash_sha256_init(&st);
	crypto_hash_sha256_update(&st, name.p, name.n);
	crypto_hash_sha256_update(&st, mid, 2);
	crypto_hash_sha256_update(&st, pk, 32);
	crypto_hash_sha256_final(&st, h);
	memcpy(k->id, h, 4);
	return SP_OK;
}

/* Standard base64 with padding, in its one form. */
static enum sp_err
unbase64(struct sp_span text, uint8_t *out, size_t max, size_t *n)
{
	if (sodium_base642bin(out, max, (const char *)text.p, text.n, NULL, n,
	    NULL, sodium_base64_VARIANT_ORIGINAL) != 0)
		return SP_ERR_SYNTAX;
	return SP_OK;
}

enum sp_err
sp_note_key_parse(struct sp_note_key *k, struct sp_span text)
{
	const uint8_t *a = memchr(text.p, '+', text.n), *b;
	uint8_t id[4], key[33];
	struct sp_span rest;
	size_t n = 0;

	if (text.n == 0 || a == NULL)
		return SP_ERR_SYNTAX;
	rest = sp_span_of(a + 1, (size_t)(text.p + text.n - a - 1));
	b = memchr(rest.p, '+', rest.n);
	if (b == NULL || b - rest.p != 8 ||
	    sp_unhex(id, 4, sp_span_of(rest.p, 8)) != SP_OK)
		return SP_ERR_SYNTAX;
	rest = sp_span_of(b + 1, (size_t)(rest.p + rest.n - b - 1));
	SP_TRY(unbase64(rest, key, sizeof(key), &n));
	if (n != 33 || (key[0] != SP_NOTE_ED25519 && key[0] != SP_NOTE_COSIGN))
		return SP_ERR_SYNTAX;
	SP_TRY(sp_note_key_make(k, sp_span_of(text.p, (size_t)(a - text.p)),
	    (enum sp_note_alg)key[0], key + 1));
	return sodium_memcmp(id, k->id, 4) == 0 ? SP_OK : SP_ERR_SYNTAX;
}

enum sp_err
sp_note_key_text(const struct sp_note_key *k, struct sp_buf *out)
{
	uint8_t key[33] = {(uint8_t)k->alg};
	char id[9];

	memcpy(key + 1, k->pk, 32);
	sp_hex(id, k->id, 4);
	SP_TRY(sp_buf_printf(out, "%s+%s+", k->name, id));
	return sp_base64(out, sp_span_of(key, sizeof(key)));
}

/* -------------------------------------------------------------- checkpoints */

enum sp_err
sp_checkpoint_text(const struct sp_checkpoint *c, struct sp_buf *out)
{
	SP_TRY(sp_buf_printf(out, "%s\n%" PRIu64 "\n", c->origin, c->size));
	SP_TRY(sp_base64(out, sp_span_of(c->root, 32)));
	return sp_buf_put_u8(out, '\n');
}

/* Without its newline. */
static enum sp_err
line(struct sp_span *s, struct sp_span *out)
{
	const uint8_t *nl = s->n == 0 ? NULL : memchr(s->p, '\n', s->n);

	if (nl == NULL)
		return SP_ERR_SYNTAX;
	*out = sp_span_of(s->p, (size_t)(nl - s->p));
	s->n -= out->n + 1;
	s->p = nl + 1;
	return SP_OK;
}

enum sp_err
sp_checkpoint_parse(struct sp_span text, struct sp_checkpoint *c)
{
	struct sp_span origin, size, root;
	struct sp_checkpoint r = {.size = 0};
	size_t n = 0;

	SP_TRY(line(&text, &origin));
	SP_TRY(line(&text, &size));
	SP_TRY(line(&text, &root));
	if (!sp_note_name_is_valid(origin) || size.n == 0 || size.n > 20 ||
	    (size.n > 1 && size.p[0] == '0') ||
	    sp_u64_parse(size, SP_TLOG_SIZE_MAX, &r.size) != SP_OK ||
	    unbase64(root, r.root, 32, &n) != SP_OK || n != 32)
		return SP_ERR_SYNTAX;
	SP_TRY(sp_span_cstr(origin, r.origin, sizeof(r.origin)));
	*c = r;
	return SP_OK;
}

/* -------------------------------------------------------------------- notes */

static enum sp_err
take_signature(struct sp_span l, struct sp_note *n)
{
	const size_t dash = sizeof(DASH) - 1;
	const uint8_t *space;
	uint8_t bin[256];
	struct sp_span name;
	size_t got = 0;

	if (l.n <= dash || memcmp(l.p, DASH, dash) != 0)
		return SP_ERR_SYNTAX;
	l = sp_span_of(l.p + dash, l.n - dash);
	space = memchr(l.p, ' ', l.n);
	if (space == NULL)
		return SP_ERR_SYNTAX;
	name = sp_span_of(l.p, (size_t)(space - l.p));
	l = sp_span_of(space + 1, l.n - name.n - 1);
	if (!sp_note_name_is_valid(name))
		return SP_ERR_SYNTAX;
	n->sig[n->n].name = name;
	/* What is longer is of an algorithm that we do not know: passed over. */
	if (l.n <= 128) {
		SP_TRY(unbase64(l, bin, sizeof(bin), &got));
		if (got < 5)
			return SP_ERR_SYNTAX;
		memcpy(n->sig[n->n].id, bin, 4);
		if (got - 4 <= sizeof(n->sig[0].blob)) {
			n->sig[n->n].blob_n = got - 4;
			memcpy(n->sig[n->n].blob, bin + 4, got - 4);
		}
	}
	n->n++;
	return SP_OK;
}

enum sp_err
sp_note_parse(struct sp_span note, struct sp_note *n)
{
	struct sp_span s, l, sigs;
	size_t split = 0;

	if (note.n > SP_NOTE_MAX || note.n < 2 || note.p[note.n - 1] != '\n' ||
	    !sp_utf8_is_valid(note))
		return SP_ERR_SYNTAX;
	for (size_t i = 0; i < note.n; i++)
		if ((note.p[i] < ' ' && note.p[i] != '\n') || note.p[i] == 0x7f)
			return SP_ERR_SYNTAX;
	/* The last empty line is the one before the signatures. */
	for (size_t i = note.n - 1; i > 0 && split == 0; i--)
		if (note.p[i] == '\n' && note.p[i - 1] == '\n')
			split = i;
	if (split == 0)
		return SP_ERR_SYNTAX;
	*n = (struct sp_note){.text = sp_span_of(note.p, split)};
	sigs = sp_span_of(note.p + split + 1, note.n - split - 1);
	if (sigs.n == 0)
		return SP_ERR_SYNTAX;
	for (s = sigs; s.n > 0;) {
		if (n->n == SP_NOTE_SIGS_MAX)
			return SP_ERR_TOOBIG;
		SP_TRY(line(&s, &l));
		n->sig[n->n].line = sp_span_of(l.p, l.n + 1);
		SP_TRY(take_signature(l, n));
	}
	return SP_OK;
}

static bool
is_good(const struct sp_note *n, size_t i, const struct sp_note_key *k,
    int64_t *at_s)
{
	const uint8_t *b = n->sig[i].blob;
	SP_BUF_AUTO t = {.max = SP_NOTE_MAX + 64};
	uint64_t at = 0;
	struct sp_span s;

	if (k->alg == SP_NOTE_ED25519)
		return n->sig[i].blob_n == 64 && crypto_sign_verify_detached(b,
		    n->text.p, n->text.n, k->pk) == 0;
	if (n->sig[i].blob_n != 72)
		return false;
	for (size_t j = 0; j < 8; j++)
		at = at << 8 | b[j];
	if (at > INT64_MAX / 1000000 || sp_cosign_text(n->text, at, &t) != SP_OK)
		return false;
	s = sp_buf_span(&t);
	if (crypto_sign_verify_detached(b + 8, s.p, s.n, k->pk) != 0)
		return false;
	if (at_s != NULL)
		*at_s = (int64_t)at;
	return true;
}

enum sp_err
sp_note_check(const struct sp_note *n, const struct sp_note_key *k, size_t *at,
    int64_t *cosigned_s)
{
	for (size_t i = 0; i < n->n; i++) {
		if (!sp_span_is(n->sig[i].name, k->name) ||
		    memcmp(n->sig[i].id, k->id, 4) != 0)
			continue;
		if (!is_good(n, i, k, cosigned_s))
			return SP_ERR_CRYPTO;
		if (at != NULL)
			*at = i;
		return SP_OK;
	}
	return SP_ERR_NOTFOUND;
}

enum sp_err
sp_note_line(const struct sp_note_key *k, struct sp_span blob,
    struct sp_buf *out)
{
	SP_BUF_AUTO b = {.max = 128};

	SP_TRY(sp_buf_put(&b, k->id, 4));
	SP_TRY(sp_buf_put(&b, blob.p, blob.n));
	SP_TRY(sp_buf_printf(out, DASH "%s ", k->name));
	SP_TRY(sp_base64(out, sp_buf_span(&b)));
	return sp_buf_put_u8(out, '\n');
}

enum sp_err
sp_note_signed(struct sp_span text, const struct sp_note_key *k,
    const uint8_t sig[static 64], struct sp_buf *out)
{
	SP_TRY(sp_buf_put(out, text.p, text.n));
	SP_TRY(sp_buf_put_u8(out, '\n'));
	return sp_note_line(k, sp_span_of(sig, 64), out);
}

enum sp_err
sp_cosign_text(struct sp_span text, uint64_t time_s, struct sp_buf *out)
{
	SP_TRY(sp_buf_printf(out, "cosignature/v1\ntime %" PRIu64 "\n", time_s));
	return sp_buf_put(out, text.p, text.n);
}
