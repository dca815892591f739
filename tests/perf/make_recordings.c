/* SPDX-License-Identifier: Apache-2.0 */
/* make_recordings DIR RECORDING-KEY-HEX COUNT BYTES: so many recordings of about
 * so many bytes of output, with what a scribe derives from it, sealed to that
 * key. Prints their ids. Every 100th has the words `needle in haystack`. */
#include "tests/perf/rec_make.h"

/* What is measured need not survive a crash of the machine. */
int
fdatasync(int fd)
{
	(void)fd;
	return 0;
}

int
fsync(int fd)
{
	(void)fd;
	return 0;
}

static void
put_view(struct sp_rec_writer *w, const char *line, size_t n, int row)
{
	SP_BUF_AUTO b = {.max = 8192};
	struct sp_view_line l = {.ago_us = 1000, .row = (uint16_t)row};

	/* What stands on the screen: without colours. */
	while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
		n--;
	l.text = n > 9 ? sp_span_of(line + 5, n - 5) : sp_span_of("-", 1);
	for (size_t i = 0; i < l.text.n; i++)
		if (l.text.p[i] < 0x20)
			return;
	must(sp_view_line_encode(&b, &l), "line");
	make_put(w, SP_LANE_VIEW, SP_VIEW_LINE, sp_buf_span(&b));
}

static void
put_command(struct sp_rec_writer *w, const char *text)
{
	SP_BUF_AUTO b = {.max = 8192};
	struct sp_view_command c = {.source = SP_VIEW_SCREEN, .percent = 90,
	    .text = sp_span_str(text)};

	must(sp_view_command_encode(&b, &c), "command");
	make_put(w, SP_LANE_VIEW, SP_VIEW_COMMAND, sp_buf_span(&b));
}

/* A key, what it shows, now and then a screenful. */
static void
one(int fd, const uint8_t *session, const uint8_t *key, size_t bytes, bool needle)
{
	struct sp_rec_writer *w = make_begin(fd, session, key);
	char line[256], shown[256];
	size_t done = 0, n;

	make_shell(w);
	for (int i = 0; done < bytes; i++) {
		make_put(w, SP_LANE_IN, SP_RECORD_IN, sp_span_of("l", 1));
		must(sp_rec_writer_commit(w), "commit");
		for (int k = 0; k < 12; k++) {
			n = make_line(line, sizeof(line));
			if (needle && i == 3 && k == 3)
				n = (size_t)snprintf(line, sizeof(line),
				    "12345 needle in haystack\r\n");
			make_put(w, SP_LANE_OUT, SP_RECORD_OUT, sp_span_of(line, n));
			done += n;
			/* colours end where the text begins */
			snprintf(shown, sizeof(shown), "     %.*s", (int)(n > 30 ?
			    n - 30 : n), line + (n > 30 ? 28 : 0));
			put_view(w, shown, strlen(shown), k);
		}
		if (i % 16 == 0)
			put_command(w, "ls -l /etc; systemctl status postgresql");
		must(sp_rec_writer_commit(w), "commit");
	}
	make_end(w);
}

int
main(int argc, char **argv)
{
	uint8_t key[32], id[16];
	char text[SP_UUID_TEXT], path[4200];
	uint64_t n = 0, bytes = 0;

	if (argc != 5 || sp_u64_parse(sp_span_str(argv[3]), 1000000, &n) !=
	    SP_OK || sp_u64_parse(sp_span_str(argv[4]), 1u << 30, &bytes) != SP_OK || sodium_init() < 0 ||
	    sp_unhex(key, 32, sp_span_str(argv[2])) != SP_OK)
		return 2;
	for (uint64_t i = 0; i < n; i++) {
		int fd;

		sp_uuid_make(id);
		sp_uuid_text(text, id);
		snprintf(path, sizeof(path), "%s/%s.spr", argv[1], text);
		fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd < 0)
			return 1;
		one(fd, id, key, (size_t)bytes, i % 100 == 0);
		close(fd);
		puts(text);
	}
	return 0;
}
