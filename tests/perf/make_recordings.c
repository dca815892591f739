/* SPDX-License-Identifier: Apache-2.0 */
/* make_recordings DIR RECORDING-KEY-HEX COUNT BYTES: so many recordings of about
 * so many bytes of output, with what a scribe derives from it, sealed to that
 * key. Prints their ids. Every 100th has the words `needle in haystack`. */
#include <sys/wait.h>

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

#define LINES 12		/* that are told at once */

/* What stands on the screen: without colours. */
static void
put_lines(struct sp_rec_writer *w, char text[static LINES][256], unsigned n)
{
	SP_BUF_AUTO b = {.max = 8192};
	struct sp_view_line l[LINES];

	for (unsigned i = 0; i < n; i++)
		l[i] = (struct sp_view_line){.ago_us = 1000, .row = (uint16_t)i,
		    .text = sp_span_str(text[i])};
	must(sp_view_lines_encode(&b, l, n), "lines");
	make_put(w, SP_LANE_VIEW, SP_RECORD_LINES, sp_buf_span(&b));
}

/* A line without its colours. */
static void
show(char *dst, const char *line)
{
	for (; *line != '\0' && *line != '\r'; line++) {
		if (*line == '\033')
			line += strcspn(line, "m");
		else
			*dst++ = *line;
	}
	*dst = '\0';
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
	char line[256], shown[LINES][256];
	size_t done = 0, n;

	make_shell(w);
	for (int i = 0; done < bytes; i++) {
		make_put(w, SP_LANE_IN, SP_RECORD_IN, sp_span_of("l", 1));
		must(sp_rec_writer_commit(w), "commit");
		for (int k = 0; k < LINES; k++) {
			n = make_line(line, sizeof(line));
			if (needle && i == 3 && k == 3)
				n = (size_t)snprintf(line, sizeof(line),
				    "12345 needle in haystack\r\n");
			make_put(w, SP_LANE_OUT, SP_RECORD_OUT, sp_span_of(line, n));
			done += n;
			show(shown[k], line);
		}
		put_lines(w, shown, LINES);
		if (i % 16 == 0)
			put_command(w, "ls -l /etc; systemctl status postgresql");
		must(sp_rec_writer_commit(w), "commit");
	}
	make_end(w);
}

struct want {
	const char *dir;
	uint8_t key[32];
	uint64_t n, bytes;
};

/* Each of so many processes makes its share. */
static int
make_share(const struct want *q, unsigned number, unsigned of)
{
	char text[SP_UUID_TEXT], path[4200];
	uint8_t id[16];

	for (unsigned i = 0; i < 1000 * number; i++)
		(void)rnd();
	for (uint64_t i = number; i < q->n; i += of) {
		int fd;

		sp_uuid_make(id);
		sp_uuid_text(text, id);
		snprintf(path, sizeof(path), "%s/%s.spr", q->dir, text);
		fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd < 0)
			return 1;
		one(fd, id, q->key, (size_t)q->bytes, i % 100 == 0);
		close(fd);
		puts(text);
	}
	return 0;
}

int
main(int argc, char **argv)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned of = cores < 1 ? 1 : cores > 8 ? 8 : (unsigned)cores;
	struct want q = {0};
	int bad = 0, status;

	if (argc != 5 || sp_u64_parse(sp_span_str(argv[3]), 1000000, &q.n) !=
	    SP_OK || sp_u64_parse(sp_span_str(argv[4]), 1u << 30, &q.bytes) != SP_OK || sodium_init() < 0 ||
	    sp_unhex(q.key, 32, sp_span_str(argv[2])) != SP_OK)
		return 2;
	q.dir = argv[1];
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (unsigned k = 1; k < of; k++) {
		pid_t pid = fork();

		if (pid < 0)
			return 1;
		if (pid == 0)
			return make_share(&q, k, of);
	}
	bad = make_share(&q, 0, of);
	while (wait(&status) > 0)
		bad |= status;
	return bad != 0;
}
