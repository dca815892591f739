/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a session's keys and answers through recorder/sense and prints what was
 * made of them; tests/term/test_sense.py knows what was done.
 *   C <first us> <at us> <source> <percent> <text>     S <first us> <to us> <keys> <masked>     E <at us> <status>
 * FILE: 't' u64 us, the time from here on; 'i' u32 n, n bytes typed; and what
 * rows.c reads. */
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "recorder/sense/sense.h"

static void
must(enum sp_err e, size_t at)
{
	if (e == SP_OK)
		return;
	fprintf(stderr, "sensed: %s at %zu\n", sp_err_text(e), at);
	exit(1);
}

static void
command(void *ctx, const struct sp_sense_command *c)
{
	(void)ctx;
	printf("C %" PRIu64 " %" PRIu64 " %s %u ", c->first_us, c->at_us,
	    sp_sense_source_name(c->source), c->confidence);
	for (size_t i = 0; i < c->text.n; i++)
		putchar(c->text.p[i] == '\n' ? '\r' : c->text.p[i]);
	putchar('\n');
}

static void
secret(void *ctx, const struct sp_sense_secret *s)
{
	(void)ctx;
	printf("S %" PRIu64 " %" PRIu64 " %u %d\n", s->first_us, s->to_us,
	    s->n_keys, s->is_masked);
}

static void
ended(void *ctx, uint64_t at_us, int status)
{
	(void)ctx;
	printf("E %" PRIu64 " %d\n", at_us, status);
}

static void
event(struct sp_sense **s, uint64_t *now, struct sp_span *in, size_t at)
{
	static const struct sp_sense_ops ops = {.command = command,
	    .secret = secret, .ended = ended};
	struct sp_span b;
	uint16_t cols, rows;
	uint8_t what;

	must(sp_get_u8(in, &what), at);
	if (what == 't') {
		must(sp_get_u64(in, now), at);
	} else if (what == 'r') {
		must(sp_get_u16(in, &cols), at);
		must(sp_get_u16(in, &rows), at);
		must(*s == NULL ? sp_sense_new(cols, rows, &ops, s) :
		    sp_sense_resize(*s, cols, rows), at);
	} else if (what == 'i' || what == 'f') {
		size_t before = mallinfo2().uordblks;

		must(sp_get_bytes(in, 1u << 30, &b), at);
		must(*s != NULL ? SP_OK : SP_ERR_STATE, at);
		(what == 'i' ? sp_sense_in : sp_sense_out)(*s, *now, b);
		/* Whatever comes, it has all the room that it will ever have. */
		must(mallinfo2().uordblks == before ? SP_OK : SP_ERR_NOMEM, at);
	} else {
		must(what == 'c' ? SP_OK : SP_ERR_PROTO, at);
	}
}

static char room[65536];	/* of stdout */

int
main(int argc, char **argv)
{
	SP_BUF_AUTO in = {.max = 1u << 30};
	struct sp_sense *s = NULL;
	struct sp_span left;
	uint64_t now = 0;
	uint8_t *p;
	size_t n;
	FILE *f;

	setvbuf(stdout, room, _IOFBF, sizeof(room));
	if (argc != 2 || (f = fopen(argv[1], "rbe")) == NULL)
		return 2;
	do {
		must(sp_buf_reserve(&in, 1u << 16, &p), in.len);
		n = fread(p, 1, 1u << 16, f);
		sp_buf_commit(&in, n);
	} while (n > 0);
	fclose(f);
	left = sp_buf_span(&in);
	while (left.n > 0)
		event(&s, &now, &left, in.len - left.n);
	if (s != NULL)
		sp_sense_end(s, now);
	sp_sense_free(s);
	return 0;
}
