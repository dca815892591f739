/* SPDX-License-Identifier: Apache-2.0 */
/* PostgreSQL's messages, from a client and from a server. The first byte says what the rest is: 0 a client's first packet, 1 a server's
 * messages, else the parameters of a StartupMessage. Whatever is read lies inside of what came, and what we write can be read. */
#include <stdint.h>
#include <string.h>

#include "common/pgwire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
inside(struct sp_span in, struct sp_span part)
{
	SP_ASSERT(part.n == 0 || (part.p >= in.p && part.p + part.n <= in.p + in.n));
}

static void
params(struct sp_span in)
{
	struct sp_span left = in, name, value;

	while (sp_pg_param_next(&left, &name, &value) == SP_OK) {
		inside(in, name);
		inside(in, value);
		SP_ASSERT(memchr(name.p, 0, name.n) == NULL);
	}
}

static void
first(struct sp_span in)
{
	struct sp_pg_start s, again;
	size_t used = 0, more;

	if (sp_pg_start_read(in, &s, &used) != SP_OK)
		return;
	SP_ASSERT(used >= 8 && used <= in.n && used <= SP_PG_START_MAX);
	/* Nothing behind it changes it, and no byte of it can be missing. */
	SP_ASSERT(sp_pg_start_read(sp_span_of(in.p, used), &again, &more) == SP_OK);
	SP_ASSERT(more == used && again.what == s.what);
	for (size_t n = 0; n < used; n++)
		SP_ASSERT(sp_pg_start_read(sp_span_of(in.p, n), &again, &more) ==
		    SP_ERR_AGAIN);
	if (s.what == SP_PG_STARTUP) {
		inside(in, s.params);
		params(s.params);
	}
}

static void
messages(struct sp_span in)
{
	char text[64];
	struct sp_pg_msg m, back;
	size_t used = 0;

	while (sp_pg_msg_read(in, &m, &used) == SP_OK) {
		SP_BUF_AUTO out = {.max = SP_PG_MSG_MAX + 16};
		SP_BUF_AUTO fatal = {.max = 8192};

		SP_ASSERT(used >= 5 && used <= in.n);
		inside(in, m.body);
		for (const char *c = "SVCMDHPpqWsnctdFLR"; *c != '\0'; c++)
			SP_ASSERT(strlen(sp_pg_field(m.body, *c, text,
			    sizeof(text))) < sizeof(text));
		SP_ASSERT(sp_pg_put(&out, m.type, m.body) == SP_OK);
		SP_ASSERT(out.len == used &&
		    memcmp(sp_buf_span(&out).p, in.p, used) == 0);
		/* Its text as ours: one message, of which nothing breaks out. */
		SP_ASSERT(sp_pg_fatal(&fatal, "28000", m.body, "") == SP_OK);
		SP_ASSERT(sp_pg_msg_read(sp_buf_span(&fatal), &back, &used) ==
		    SP_OK && used == fatal.len && back.type == 'E');
		SP_ASSERT(strcmp(sp_pg_field(back.body, 'C', text, sizeof(text)),
		    "28000") == 0);
		SP_ASSERT(sp_pg_field(back.body, 'H', text, sizeof(text))[0] == '\0');
		used = out.len;
		in = sp_span_of(in.p + used, in.n - used);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	switch (data[0]) {
	case 0:
		first(sp_span_of(data + 1, size - 1));
		break;
	case 1:
		messages(sp_span_of(data + 1, size - 1));
		break;
	default:
		params(sp_span_of(data + 1, size - 1));
	}
	return 0;
}
