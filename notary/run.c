/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "notary/notaryd.h"

/*
 * A published checkpoint goes out: a line for the system's log, the request
 * `add-checkpoint` of C2SP tlog-witness for each witness, an RFC 3161 request for
 * the authority. Commands run elsewhere, as somebody else; here are two pipes
 * whose other ends nobody trusts.
 */
#define RUN_US 40000000		/* the supervisor ends it after 30 s */
#define ANSWER_MAX 65536u

static void
fini(struct sp_run *r)
{
	sp_close_fds(&r->in, 1);
	sp_close_fds(&r->out, 1);
	sp_buf_fini(&r->to);
	sp_buf_fini(&r->from);
	*r = (struct sp_run){.in = -1, .out = -1};
}

/* Which trees a witness has cosigned, over restarts of ours. */
static void
witness_path(char p[static SP_TLOG_PATH_MAX], const struct sp_note_key *k)
{
	char id[9];

	sp_hex(id, k->id, 4);
	snprintf(p, SP_TLOG_PATH_MAX, "witness/%s", id);
}

static uint64_t
witnessed(const struct sp_notary *n, size_t index)
{
	SP_BUF_AUTO b = {.max = SP_NOTE_MAX + 8192};
	char path[SP_TLOG_PATH_MAX];
	struct sp_checkpoint c;
	struct sp_note note;

	witness_path(path, &n->witness[index]);
	if (sp_tlog_read(n->dir, path, SP_NOTE_MAX, &b) != SP_OK ||
	    sp_note_parse(sp_buf_span(&b), &note) != SP_OK ||
	    sp_note_check(&note, &n->witness[index], NULL, NULL) != SP_OK ||
	    sp_checkpoint_parse(note.text, &c) != SP_OK ||
	    strcmp(c.origin, n->origin) != 0)
		return 0;
	return c.size;
}

/* "old N", the proof from there, an empty line, the checkpoint. */
static enum sp_err
witness_request(struct sp_notary *n, struct sp_run *r, uint64_t old,
    struct sp_span note)
{
	struct sp_tlog_proof p;

	if (old > r->size)
		return SP_ERR_INVAL;
	SP_TRY(sp_nstore_consistency(n->store, old, r->size, &p));
	SP_TRY(sp_buf_printf(&r->to, "old %" PRIu64 "\n", old));
	for (size_t i = 0; i < p.n; i++) {
		SP_TRY(sp_base64(&r->to, sp_span_of(p.h[i], 32)));
		SP_TRY(sp_buf_put_u8(&r->to, '\n'));
	}
	SP_TRY(sp_buf_put_u8(&r->to, '\n'));
	return sp_buf_put(&r->to, note.p, note.n);
}

static enum sp_err
stamp_request(struct sp_run *r, struct sp_span note)
{
	crypto_hash_sha256(r->digest, note.p, note.n);
	randombytes_buf(r->nonce, sizeof(r->nonce));
	r->nonce[0] = (uint8_t)((r->nonce[0] & 0x3f) | 0x40);
	return sp_stamp_request(r->digest, r->nonce, &r->to);
}

static void
begin(struct sp_notary *n, enum sp_run_what what, uint16_t index, uint64_t size,
    uint64_t old, struct sp_span note)
{
	struct sp_run *r = &n->run[what == SP_RUN_STAMP ? SP_NOTARY_RUNS_MAX - 1 :
	    index];
	struct sp_msg_n_run m = {.what = (uint8_t)what, .index = index};
	enum sp_err e;

	if (r->id != 0)
		return;		/* the last one is not over yet */
	*r = (struct sp_run){.id = ++n->last_run, .what = what, .index = index,
	    .size = size, .in = -1, .out = -1, .to = {.max = 32768},
	    .from = {.max = ANSWER_MAX + 8192}, .due_us = sp_boot_us() + RUN_US};
	e = what == SP_RUN_STAMP ? stamp_request(r, note) :
	    witness_request(n, r, old, note);
	m.id = r->id;
	if (e == SP_OK)
		e = sp_send_n_run(&n->sup, 0, &m, NULL);
	if (e != SP_OK)
		fini(r);
}

static void
say_line(struct sp_notary *n, struct sp_span note)
{
	struct sp_msg_n_checkpoint m;
	SP_BUF_AUTO b = {.max = 1024};
	struct sp_note p;
	struct sp_span l;

	if (sp_note_parse(note, &p) != SP_OK)
		return;
	/* Origin, size, root, signature: the note can be made of it again. */
	for (size_t i = 0; i < p.text.n; i++)
		if (sp_buf_put_u8(&b, p.text.p[i] == '\n' ? ' ' : p.text.p[i]) !=
		    SP_OK)
			return;
	l = p.sig[0].line;
	while (l.n > 0 && l.p[l.n - 1] == '\n')
		l.n--;
	for (size_t i = l.n; i > 0; i--)
		if (l.p[i - 1] == ' ') {
			l = sp_span_of(l.p + i, l.n - i);
			break;
		}
	if (sp_buf_put(&b, l.p, l.n) != SP_OK)
		return;
	m.line = sp_buf_span(&b);
	if (sp_send_n_checkpoint(&n->sup, 0, &m, NULL) != SP_OK)
		sp_log(SP_WARN, "supervisor_behind", NULL, "");
}

void
sp_notary_publish(struct sp_notary *n, struct sp_span note)
{
	int64_t now = sp_boot_us();

	if (n->published == n->head.size || now < n->publish_us)
		return;
	n->publish_us = now + (int64_t)n->cfg.log_publish_s * 1000000;
	n->published = n->head.size;
	if (sp_nstore_keep(n->store, n->head.size, NULL, note) != SP_OK)
		return;
	say_line(n, note);
	for (size_t i = 0; i < n->n_witnesses; i++)
		begin(n, SP_RUN_WITNESS, (uint16_t)i, n->head.size,
		    witnessed(n, i), note);
	if (n->cfg.log_timestamp[0] != '\0')
		begin(n, SP_RUN_STAMP, 0, n->head.size, 0, note);
}

/* ------------------------------------------------------------------- answers */

/* The published note with the line of that witness; kept as its last one too. */
static enum sp_err
take_cosignature(struct sp_notary *n, struct sp_run *r, struct sp_span line)
{
	SP_BUF_AUTO b = {.max = SP_NOTE_MAX + 8192};
	const struct sp_note_key *k = &n->witness[r->index];
	char path[SP_TLOG_PATH_MAX];
	struct sp_note note;
	size_t at = 0;

	snprintf(path, sizeof(path), "checkpoints/%013" PRIu64, r->size);
	SP_TRY(sp_tlog_read(n->dir, path, SP_NOTE_MAX, &b));
	SP_TRY(sp_buf_put(&b, line.p, line.n));
	SP_TRY(sp_note_parse(sp_buf_span(&b), &note));
	SP_TRY(sp_note_check(&note, k, &at, NULL));
	/* What else it said is not kept. */
	line = note.sig[at].line;
	b.len = (size_t)(line.p + line.n - (b.p + b.off));
	SP_TRY(sp_nstore_keep(n->store, r->size, NULL, sp_buf_span(&b)));
	witness_path(path, k);
	return sp_nstore_write(n->store, path, sp_buf_span(&b));
}

/* Of a witness that knows another tree of ours: its size, in decimal. */
static bool
take_size(struct sp_notary *n, struct sp_run *r, struct sp_span said)
{
	SP_BUF_AUTO note = {.max = SP_NOTE_MAX + 8192};
	char path[SP_TLOG_PATH_MAX];
	uint16_t index = r->index;
	uint64_t old = 0, size = r->size;

	while (said.n > 0 && (said.p[said.n - 1] == '\n' ||
	    said.p[said.n - 1] == '\r'))
		said.n--;
	if (said.n == 0 || said.n > 13 ||
	    sp_u64_parse(said, size, &old) != SP_OK || r->nonce[0] != 0)
		return false;
	snprintf(path, sizeof(path), "checkpoints/%013" PRIu64, size);
	if (sp_tlog_read(n->dir, path, SP_NOTE_MAX, &note) != SP_OK)
		return false;
	fini(r);
	begin(n, SP_RUN_WITNESS, index, size, old, sp_buf_span(&note));
	n->run[index].nonce[0] = 1;	/* once */
	return true;
}

static void
over(struct sp_notary *n, struct sp_run *r)
{
	struct sp_span said = sp_buf_span(&r->from);
	enum sp_err e;
	char text[300];

	if (r->what == SP_RUN_STAMP) {
		e = sp_stamp_look(said, r->digest, r->nonce);
		if (e == SP_OK)
			e = sp_nstore_keep(n->store, r->size, "tsr", said);
	} else {
		if (take_size(n, r, said))
			return;
		e = said.n == 0 ? SP_ERR_EOF : take_cosignature(n, r, said);
	}
	if (e == SP_OK) {
		sp_log(SP_INFO, r->what == SP_RUN_STAMP ? "log_stamped" :
		    "log_cosigned", NULL, "size=%" PRIu64 " by=%s", r->size,
		    r->what == SP_RUN_STAMP ? "-" : n->witness[r->index].name);
		fini(r);
		return;
	}
	snprintf(text, sizeof(text), "it answered nothing that is good for this "
	    "checkpoint (%s)", sp_err_text(e));
	sp_run_end(n, r, text);
}

void
sp_run_end(struct sp_notary *n, struct sp_run *r, const char *fault)
{
	char text[512];

	snprintf(text, sizeof(text), "%s, checkpoint of %" PRIu64 " leaves: %s",
	    r->what == SP_RUN_STAMP ? "time stamps" : n->witness[r->index].name,
	    r->size, fault);
	sp_notary_event(n, r->what == SP_RUN_STAMP ? "log_not_stamped" :
	    "log_not_cosigned", text);
	fini(r);
}

void
sp_run_begin(struct sp_notary *n, uint64_t id, int in, int out)
{
	for (size_t i = 0; i < SP_NOTARY_RUNS_MAX; i++)
		if (id != 0 && n->run[i].id == id && n->run[i].in < 0 &&
		    n->run[i].out < 0) {
			n->run[i].in = in;
			n->run[i].out = out;
			return;
		}
	sp_close_fds(&in, 1);
	sp_close_fds(&out, 1);
}

/* Both pipes are non-blocking: the supervisor made them so. */
void
sp_run_serve(struct sp_notary *n, struct sp_run *r, int64_t now)
{
	struct sp_span s = sp_buf_span(&r->to);
	uint8_t *at;
	ssize_t k;

	if (r->in >= 0 && s.n > 0) {
		k = write(r->in, s.p, s.n);
		if (k > 0)
			sp_buf_consume(&r->to, (size_t)k);
		else if (k < 0 && errno != EAGAIN && errno != EINTR)
			sp_buf_reset(&r->to);	/* it wants no more of it */
	}
	if (r->in >= 0 && r->to.len == 0) {
		close(r->in);
		r->in = -1;
	}
	while (r->out >= 0) {
		if (r->from.len > ANSWER_MAX ||
		    sp_buf_reserve(&r->from, 4096, &at) != SP_OK) {
			sp_run_end(n, r, "it says too much");
			return;
		}
		k = read(r->out, at, 4096);
		if (k > 0) {
			sp_buf_commit(&r->from, (size_t)k);
		} else if (k == 0) {
			over(n, r);
			return;
		} else if (errno == EAGAIN) {
			break;
		} else if (errno != EINTR) {
			sp_run_end(n, r, "its answer cannot be read");
			return;
		}
	}
	if (now >= r->due_us)
		sp_run_end(n, r, "it did not answer in time");
}

/* ------------------------------------------------------------- configuration */

/* "KEY COMMAND; KEY COMMAND ...": here the keys. */
enum sp_err
sp_notary_witnesses(struct sp_notary *n)
{
	struct sp_span all = sp_span_str(n->cfg.log_witness);

	n->n_witnesses = 0;
	for (size_t i = 0; i < SP_NOTARY_RUNS_MAX; i++)
		n->run[i] = (struct sp_run){.in = -1, .out = -1};
	while (all.n > 0) {
		const uint8_t *semi = memchr(all.p, ';', all.n);
		struct sp_span one = sp_span_of(all.p, semi == NULL ? all.n :
		    (size_t)(semi - all.p)), key;

		all = sp_span_of(one.p + one.n + (semi != NULL), all.n - one.n -
		    (semi != NULL));
		while (one.n > 0 && one.p[0] == ' ')
			one = sp_span_of(one.p + 1, one.n - 1);
		if (one.n == 0)
			continue;
		key = one;
		for (key.n = 0; key.n < one.n && one.p[key.n] != ' ';)
			key.n++;
		if (n->n_witnesses == sizeof(n->witness) / sizeof(n->witness[0]))
			return SP_ERR_FULL;
		SP_TRY(sp_note_key_parse(&n->witness[n->n_witnesses], key));
		if (n->witness[n->n_witnesses++].alg != SP_NOTE_COSIGN)
			return SP_ERR_SYNTAX;
	}
	return SP_OK;
}
