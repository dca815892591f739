/* SPDX-License-Identifier: Apache-2.0 */
/* Commands and secrets read off a terminal: two bytes of size, then what a
 * target may send. 0xf8, which UTF-8 never has, and a byte change what follows:
 * 0 output, 1 keys, 2 a size, 3 to 0xfe that many times 10 ms pass, 0xff the
 * screen goes on from its own keyframe. */
#include <stdint.h>

#include "common/text.h"
#include "recorder/sense/sense.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t now_us;

static void
command(void *ctx, const struct sp_sense_command *c)
{
	(void)ctx;
	SP_ASSERT(c->text.n > 0 && c->text.n <= SP_SENSE_LINE_MAX);
	SP_ASSERT(sp_utf8_is_valid(c->text));
	for (size_t i = 0; i < c->text.n; i++)
		SP_ASSERT((c->text.p[i] >= 0x20 && c->text.p[i] != 0x7f) ||
		    c->text.p[i] == '\n');
	SP_ASSERT(c->confidence > 0 && c->confidence < 100);
	SP_ASSERT(c->first_us <= c->at_us && c->at_us <= now_us);
}

static void
secret(void *ctx, const struct sp_sense_secret *s)
{
	(void)ctx;
	SP_ASSERT(s->n_keys > 0 && s->first_us <= s->to_us && s->to_us <= now_us);
}

static void
again(struct sp_sense *s)
{
	SP_BUF_AUTO b = {.max = SP_TERM_DUMP_MAX};

	SP_ASSERT(sp_term_dump(sp_sense_term(s), &b) == SP_OK);
	SP_ASSERT(sp_sense_load(s, sp_buf_span(&b)) == SP_OK);
}

static void
piece(struct sp_sense *s, bool is_in, const uint8_t *p, size_t n)
{
	now_us += 1000;
	if (n > 0)
		(is_in ? sp_sense_in : sp_sense_out)(s, now_us, sp_span_of(p, n));
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const struct sp_sense_ops ops = {.command = command,
	    .secret = secret};
	struct sp_sense *s = NULL;
	bool is_in = false;
	size_t from = 2;

	now_us = 0;
	if (n < 2 || n > 65536 ||
	    sp_sense_new(p[0] % 100, p[1] % 40, &ops, &s) != SP_OK)
		return 0;
	for (size_t i = 2; i + 3 < n; i++) {
		if (p[i] != 0xf8)
			continue;
		piece(s, is_in, p + from, i - from);
		if (p[i + 1] < 2)
			is_in = p[i + 1] == 1;
		else if (p[i + 1] == 0xff)
			again(s);
		else if (p[i + 1] > 2)
			now_us += p[i + 1] * UINT64_C(10000);
		else if (sp_sense_resize(s, p[i + 2] % 100, p[i + 3] % 40) !=
		    SP_OK)
			break;
		i += p[i + 1] == 2 ? 3 : 1;
		from = i + 1;
	}
	if (from < n)
		piece(s, is_in, p + from, n - from);
	sp_sense_end(s, now_us);
	sp_sense_free(s);
	return 0;
}
