/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes doc/messages.md from the message table (`messages_doc print`). Without
 * an argument it is a test: fails when the committed page is not what the table
 * says.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/ipc.h"

#define PAGE_MAX (1U << 20)

static void SP_PRINTF(2, 3)
out(struct sp_buf *b, const char *fmt, ...)
{
	char line[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	SP_ASSERT(sp_buf_put(b, line, strlen(line)) == SP_OK);
}

static void
roles(struct sp_buf *b, uint32_t set)
{
	const char *comma = "";

	for (uint32_t r = 1; r <= SP_ROLE_FIL; r <<= 1)
		if ((set & r) != 0) {
			out(b, "%s%s", comma, sp_role_name(r));
			comma = ", ";
		}
}

static void
states(struct sp_buf *b, uint32_t set)
{
	static const struct {
		uint32_t st;
		const char *name;
	} names[] = {{SP_ST_NEW, "new"}, {SP_ST_READY, "ready"},
	    {SP_ST_KEYED, "keyed"}, {SP_ST_AUTHED, "authed"},
	    {SP_ST_LIVE, "live"}, {SP_ST_ENDING, "ending"}};
	const char *comma = "";

	if (set == SP_ST_ANY) {
		out(b, "any");
		return;
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if ((set & names[i].st) != 0) {
			out(b, "%s%s", comma, names[i].name);
			comma = ", ";
		}
}

/* "str config 32768; u8 ok 0; " to "config str≤32768, ok u8" */
static void
fields(struct sp_buf *b, const char *s)
{
	const char *comma = "";

	for (; *s != '\0'; s = strstr(s, "; ") + 2) {
		char kind[16], name[40];
		unsigned cap;

		SP_ASSERT(sscanf(s, "%15s %39s %u;", kind, name, &cap) == 3);
		if (cap > 0)
			out(b, "%s`%s` %s≤%u", comma, name, kind, cap);
		else
			out(b, "%s`%s` %s", comma, name, kind);
		comma = ", ";
	}
}

static void
page(struct sp_buf *b)
{
	out(b, "# Messages between the processes\n\n"
	    "Made by `tests/support/messages_doc print` from the table in\n"
	    "`common/ipc_messages.h`, which also says what each message and its\n"
	    "descriptors are for; `doc/flows.md` says in which order they are used.\n"
	    "State is the link's as its receiver sees it; anything else ends the link.\n"
	    "A packet is u16 number, u16 descriptors, u32 body bytes, u64 correlation,\n"
	    "body; little-endian; at most %u bytes of body.\n\n"
	    "| number | message | from | to | state | fds | fields |\n"
	    "|---|---|---|---|---|---|---|\n", SP_IPC_BODY_MAX);
	for (size_t i = 0; i < sp_ipc_n_rows; i++) {
		const struct sp_ipc_row *r = &sp_ipc_rows[i];

		out(b, "| 0x%04x | %s | ", r->type, r->name);
		roles(b, r->from);
		out(b, " | ");
		roles(b, r->to);
		out(b, " | ");
		states(b, r->states);
		out(b, " | %u | ", r->n_fds);
		fields(b, r->fields);
		out(b, " |\n");
	}
}

static int
compare(struct sp_span want)
{
	static char have[PAGE_MAX];
	const char *top = getenv("top_srcdir");
	char path[4096];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/doc/messages.md", top == NULL ? "." : top);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, have, sizeof(have));
	if (fd >= 0)
		close(fd);
	if (n >= 0 && sp_span_eq(want, sp_span_of(have, (size_t)n)))
		return 0;
	fprintf(stderr, "doc/messages.md is not what the table says; write it anew:"
	    "\n  tests/support/messages_doc print > %s\n", path);
	return 1;
}

int
main(int argc, char **argv)
{
	SP_BUF_AUTO b = {.max = PAGE_MAX};

	page(&b);
	if (argc == 1)
		return compare(sp_buf_span(&b));
	if (argc != 2 || strcmp(argv[1], "print") != 0)
		return 2;
	return fwrite(sp_buf_span(&b).p, 1, b.len, stdout) == b.len ? 0 : 1;
}
