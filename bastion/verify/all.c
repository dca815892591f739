/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bastion/verify/verify.h"

#define LATE_MAX 4096
#define LATE_WAIT_MS 30000	/* a head is signed each second, if the vault can */
#define LATE_TRIES 2

struct row {
	uint64_t seq;
	uint8_t hash[32];
	uint32_t node;
};
struct run {
	struct book book;
	bool json, bars;
	size_t n_files, n_problems, n_printed, n_verdict[8];
	uint64_t bytes, all_bytes, step;
	struct row *row;
	size_t n_rows, cap_rows, n_session_rows, n_stored, n_deleted;
	uint64_t rows_at;	/* the log's size when the rows were asked for */
	struct book newer;	/* of a later head; has_newer: it was looked for */
	bool has_newer;
	size_t n_late;
	char late[LATE_MAX][42];	/* files that no signed head covers */
};

static void
bar(const char *what, uint64_t done, uint64_t all)
{
	unsigned n = all == 0 ? 40 : (unsigned)(done * 40 / all);

	fprintf(stderr, "\r%-11s [%.*s%*s] %3u %%", what, (int)n,
	    "########################################", (int)(40 - n), "",
	    all == 0 ? 100 : (unsigned)(done * 100 / all));
	if (done >= all)
		fputc('\n', stderr);
}

static void
bar_of_log(uint64_t done, uint64_t all)
{
	bar("leaves", done, all);
}

static void
print_json(struct run *x, const char *id, const char *verdict, const char *text)
{
	printf("%s{\"id\":\"%s\"", x->n_printed++ > 0 ? ",\n" : "[", id);
	json_text(stdout, "verdict", verdict);
	json_text(stdout, "text", text);
	fputc('}', stdout);
}

/* One thing that is not as it should be. */
static void SP_PRINTF(4, 5)
problem(struct run *x, const char *id, const char *verdict, const char *fmt, ...)
{
	char text[700];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (x->json)
		print_json(x, id, verdict, text);
	else
		printf("%-9s %s: %s\n", verdict, id, sp_vis_str(text));
	x->n_problems++;
}

/* --------------------------------------------------------------- recordings */

/* A session that ends now gives its file another name. */
static int
open_file(int dir, const char *name)
{
	char other[64];
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd >= 0 || errno != ENOENT)
		return fd;
	snprintf(other, sizeof(other), "%.36s.%s", name,
	    strcmp(name + 36, ".open") == 0 ? "spr" : "open");
	return openat(dir, other, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

static void
result(struct run *x, const char *name, const struct sp_rec_report *r)
{
	char text[40];

	x->n_verdict[r->verdict < 8 ? r->verdict : SP_REC_UNKNOWN]++;
	/* A file that is not closed is judged as far as it goes. */
	snprintf(text, sizeof(text), "%.36s", name);
	if (r->verdict != SP_REC_INTACT && r->verdict != SP_REC_RECOVERED &&
	    r->verdict != SP_REC_OPEN)
		problem(x, text, sp_rec_verdict_name(r->verdict), "%s", r->text);
	else if (x->json)
		print_json(x, text, sp_rec_verdict_name(r->verdict), r->text);
}

static void
one_file(struct run *x, int dir, const char *name)
{
	struct sp_rec_report r;
	struct book_session *s;
	uint8_t id[16];
	struct stat st;
	int fd = open_file(dir, name);

	if (fd < 0 && errno == ENOENT)
		return;		/* if the log has it, it is missing */
	if (fd < 0 || fstat(fd, &st) != 0) {
		problem(x, name, "unknown", "it cannot be read: %s",
		    strerror(errno));
		if (fd >= 0)
			close(fd);
		return;
	}
	file_judge(&x->book, fd, &r);
	close(fd);
	x->bytes += (uint64_t)st.st_size;
	/* Its keys were destroyed, its name comes next. */
	if (!r.has_header && sp_uuid_parse(id, sp_span_of(name, 36)) == SP_OK &&
	    (s = book_find(&x->book, id)) != NULL && s->is_deleted)
		return;
	x->n_files++;
	if (sp_uuid_parse(id, sp_span_of(name, 36)) != SP_OK ||
	    (r.has_header && memcmp(id, r.session, 16) != 0)) {
		problem(x, name, "forged", "it is another session's recording under "
		    "this name");
		return;
	}
	if ((s = book_find(&x->book, id)) != NULL)
		s->has_file = true;
	if (s == NULL && r.has_header && r.verdict == SP_REC_UNKNOWN &&
	    x->n_late < LATE_MAX)
		snprintf(x->late[x->n_late++], sizeof(x->late[0]), "%.41s", name);
	else
		result(x, name, &r);
}

/* Waits for a head that is newer than `size`, while there are leaves for one. */
static bool
newer_head(const char *log, const uint8_t key[static 32], uint64_t size,
    struct book *b)
{
	for (int i = 0; i < LATE_WAIT_MS / 100; i++) {
		uint64_t leaves = book_journal(log), now = 0;

		if (book_size(log, key, &now) == SP_OK && now > size)
			return book_open(b, log, key, NULL) == SP_OK;
		if (leaves <= size)
			return false;
		usleep(100000);
	}
	return false;
}

/*
 * What began in the last second has its leaf, and no signed head over it yet.
 * Those files alone wait for the next head; what that does not cover either is
 * unknown to the log.
 */
static void
late_files(struct run *x, const char *log, const char *path)
{
	int dir = x->n_late == 0 ? -1 :
	    open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint64_t size = x->book.head.size;

	for (int t = 1; t <= LATE_TRIES && x->n_late > 0; t++) {
		struct book b = {.dir = -1};
		bool is_newer = newer_head(log, x->book.key, size, &b);
		size_t n = x->n_late;

		x->n_late = 0;
		size = is_newer ? b.head.size : size;
		for (size_t i = 0; i < n; i++) {
			struct sp_rec_report r = {.verdict = SP_REC_UNKNOWN};
			int fd = open_file(dir, x->late[i]);

			if (fd >= 0)
				file_judge(is_newer ? &b : &x->book, fd, &r);
			if (fd >= 0)
				close(fd);
			if (is_newer && t < LATE_TRIES &&
			    r.verdict == SP_REC_UNKNOWN)
				memmove(x->late[x->n_late++], x->late[i],
				    sizeof(x->late[0]));
			else
				result(x, x->late[i], &r);
		}
		book_close(&b);
	}
	if (dir >= 0)
		close(dir);
}

static bool
is_recording(const char *name)
{
	size_t n = strlen(name);

	return (n == 40 && strcmp(name + 36, ".spr") == 0) ||
	    (n == 41 && strcmp(name + 36, ".open") == 0);
}

static int
all_files(struct run *x, const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	struct stat st;

	if (d == NULL)
		return -1;
	while ((e = readdir(d)) != NULL)
		if (is_recording(e->d_name) && fstatat(dirfd(d), e->d_name, &st,
		    AT_SYMLINK_NOFOLLOW) == 0)
			x->all_bytes += (uint64_t)st.st_size;
	rewinddir(d);
	while ((e = readdir(d)) != NULL) {
		if (!is_recording(e->d_name))
			continue;
		one_file(x, dirfd(d), e->d_name);
		if (x->bars && (x->bytes >= x->step || x->bytes == x->all_bytes)) {
			bar("recordings", x->bytes, x->all_bytes);
			x->step = x->bytes + x->all_bytes / 100 + 1;
		}
	}
	closedir(d);
	return 0;
}

/* --------------------------------------------------------------------- rows */

static int
by_node_and_seq(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (x->node != y->node)
		return x->node < y->node ? -1 : 1;
	return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static void
event_row(struct run *x, char *line)
{
	char *seq = strchr(line, ' '), *hash = seq == NULL ? NULL :
	    strchr(seq + 1, ' ');
	struct row r = {.node = 0};

	if (hash == NULL)
		return;
	*seq++ = '\0';
	*hash++ = '\0';
	while (r.node < x->book.n_nodes &&
	    strcmp(line, x->book.node[r.node]) != 0)
		r.node++;
	if (r.node == x->book.n_nodes || sp_u64_parse(sp_span_str(seq),
	    INT64_MAX, &r.seq) != SP_OK || sp_unhex(r.hash, 32,
	    sp_span_str(hash)) != SP_OK)
		return;
	if (x->n_rows == x->cap_rows) {
		size_t cap = x->cap_rows == 0 ? 4096 : 2 * x->cap_rows;
		struct row *p = calloc(cap, sizeof(*p));

		SP_ASSERT(p != NULL);
		if (x->n_rows > 0)
			memcpy(p, x->row, x->n_rows * sizeof(*p));
		free(x->row);
		x->row = p;
		x->cap_rows = cap;
	}
	x->row[x->n_rows++] = r;
}

static void
session_row(struct run *x, const char *line)
{
	struct book_session *s;
	uint8_t id[16];

	if (strlen(line) < 36 || sp_uuid_parse(id, sp_span_of(line, 36)) != SP_OK)
		return;
	x->n_session_rows++;
	s = book_find(&x->book, id);
	if (s != NULL && s->has_open)
		s->has_row = true;
}

/* "session UUID", "event NODE SEQ HASH": as `sallyport log rows` prints them. */
static void
read_rows(struct run *x, FILE *f)
{
	char line[512];

	while (fgets(line, sizeof(line), f) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "session ", 8) == 0)
			session_row(x, line + 8);
		else if (strncmp(line, "event ", 6) == 0)
			event_row(x, line + 6);
	}
	if (x->n_rows > 0)
		qsort(x->row, x->n_rows, sizeof(x->row[0]), by_node_and_seq);
}

static void
check_events(struct run *x)
{
	struct book *b = &x->book;

	for (size_t i = 0; i < b->n_events; i++) {
		struct row k = {.node = b->event[i].node, .seq = b->event[i].seq};
		struct row *r = x->n_rows == 0 ? NULL : bsearch(&k, x->row,
		    x->n_rows, sizeof(k), by_node_and_seq);
		char id[128];

		snprintf(id, sizeof(id), "%s:%" PRIu64, b->node[k.node], k.seq);
		if (r == NULL && b->event[i].index < x->rows_at)
			problem(x, id, "missing", "the transparency log has this "
			    "audit event, and the database has not");
		else if (r != NULL && memcmp(r->hash, b->event[i].hash, 32) != 0)
			problem(x, id, "forged", "the audit event is not the one that "
			    "the transparency log has");
		if (x->n_problems > 1000)
			return;
	}
}

/* A name that changes while a folder is listed may not be listed. */
static bool
is_there(const char *dir, const char *id)
{
	char path[4200];

	snprintf(path, sizeof(path), "%s/%s.spr", dir, id);
	if (access(path, F_OK) == 0)
		return true;
	snprintf(path, sizeof(path), "%s/%s.open", dir, id);
	return access(path, F_OK) == 0;
}

/* Not on this disk, which the log explains: what to compare once it is fetched. */
static void
stored(struct run *x, const struct book_session *s, const char *id)
{
	char text[200], hex[65];

	x->n_stored++;
	sp_hex(hex, s->shipped, 32);
	snprintf(text, sizeof(text), "in the store of objects, SHA-256 %s: it was not "
	    "looked at", hex);
	if (x->json)
		print_json(x, id, "stored", text);
}

static void
deleted(struct run *x, const char *id)
{
	x->n_deleted++;
	if (x->json)
		print_json(x, id, "deleted", "its end is in the transparency log");
}

/* What went while we looked: the head that says so is newer than ours. Read once. */
static bool
went_since(struct run *x, const char *log, const uint8_t id[static 16])
{
	struct book_session *s;
	uint64_t now = 0;

	if (!x->has_newer) {
		x->has_newer = true;
		x->newer.dir = -1;
		if (book_size(log, x->book.key, &now) != SP_OK ||
		    now <= x->book.head.size ||
		    book_open(&x->newer, log, x->book.key, NULL) != SP_OK)
			x->newer.n_sessions = 0;
	}
	s = x->newer.n_sessions == 0 ? NULL : book_find(&x->newer, id);
	return s != NULL && (s->is_deleted || s->is_shipped);
}

static void
check_sessions(struct run *x, const char *dir, const char *log, bool has_rows)
{
	for (size_t i = 0; i < x->book.n_sessions; i++) {
		struct book_session *s = &x->book.session[i];
		char id[SP_UUID_TEXT];

		if (!s->has_open)
			continue;	/* an act alone */
		sp_uuid_text(id, s->id);
		if (!s->has_file && s->is_shipped && !s->is_deleted)
			stored(x, s, id);
		else if (!s->has_file && !s->is_deleted && !is_there(dir, id) &&
		    !went_since(x, log, s->id))
			problem(x, id, "missing", "the transparency log has this "
			    "recording, and there is no file");
		if (s->is_deleted && !s->has_file)
			deleted(x, id);
		if (s->is_deleted && s->is_held)
			problem(x, id, "forged", "it was deleted under a legal hold");
		if (has_rows && !s->has_row && s->has_point &&
		    s->open_index < x->rows_at)
			problem(x, id, "missing", "the transparency log has this "
			    "session, and the database has no row of it");
	}
}

/* ---------------------------------------------------------------------- all */

static void
summary(const struct run *x, const char *why)
{
	const struct book *b = &x->book;
	const size_t *v = x->n_verdict;

	if (x->json) {
		printf("%s{\"id\":\"log\",\"verdict\":\"%s\",\"good\":%s",
		    x->n_printed > 0 ? ",\n" : "[", why[0] == '\0' ? "intact" :
		    "forged", x->n_problems == 0 ? "true" : "false");
		json_text(stdout, "origin", b->head.origin);
		json_text(stdout, "text", why);
		printf(",\"leaves\":%" PRIu64 ",\"checkpoints\":%" PRIu64
		    ",\"recordings\":%zu,\"intact\":%zu,\"recovered\":%zu,"
		    "\"open\":%zu,\"bytes\":%" PRIu64 ",\"rows\":%zu,\"events\":%zu,\"stored\":%zu,\"deleted\":%zu}]\n",
		    b->head.size, b->n_checkpoints, x->n_files, v[SP_REC_INTACT],
		    v[SP_REC_RECOVERED], v[SP_REC_OPEN], x->bytes,
		    x->n_session_rows, x->n_rows, x->n_stored, x->n_deleted);
		return;
	}
	printf("%s: %" PRIu64 " leaves, %" PRIu64 " kept checkpoints, %zu "
	    "recordings (%zu intact, %zu recovered, %zu without an end), %zu "
	    "sessions and %zu events in the database: %s\n", b->head.origin,
	    b->head.size, b->n_checkpoints, x->n_files, v[SP_REC_INTACT],
	    v[SP_REC_RECOVERED], v[SP_REC_OPEN], x->n_session_rows, x->n_rows,
	    x->n_problems == 0 ? "all as it should be" : "NOT as it should be");
	if (x->n_stored + x->n_deleted > 0)
		printf("%zu more are in the store of objects, %zu were deleted\n",
		    x->n_stored, x->n_deleted);
}

int
verify_all(int argc, char **argv)
{
	static struct run x;
	const char *key_arg = option(&argc, argv, "--key");
	const char *log = option(&argc, argv, "--log");
	const char *dir = option(&argc, argv, "--recordings");
	const char *rows = option(&argc, argv, "--rows");
	const char *rows_at = option(&argc, argv, "--rows-at");
	const char *expect = option(&argc, argv, "--expect");
	uint8_t key[32];
	FILE *f = NULL;
	enum sp_err e;

	x.json = flag(&argc, argv, "--json");
	x.bars = !x.json && isatty(STDERR_FILENO) == 1;
	if (argc != 1 || key_arg == NULL || log == NULL || dir == NULL)
		return fail("usage: sallyport-verify all --key HEX|FILE --log DIR "
		    "--recordings DIR [--rows FILE|- [--rows-at SIZE]] "
		    "[--expect CHECKPOINT] [--json]");
	x.rows_at = UINT64_MAX;
	if (rows_at != NULL && sp_u64_parse(sp_span_str(rows_at), INT64_MAX,
	    &x.rows_at) != SP_OK)
		return fail("--rows-at wants the number of leaves that the log had");
	if (key_read(key_arg, key) != SP_OK)
		return fail("--key wants 64 hexadecimal digits, or a file with them");
	if (rows != NULL && (f = strcmp(rows, "-") == 0 ? stdin :
	    fopen(rows, "re")) == NULL)
		return fail("%s: %s", rows, strerror(errno));
	e = book_open(&x.book, log, key, x.bars ? bar_of_log : NULL);
	if (e == SP_OK && expect != NULL)
		e = book_expect(&x.book, expect);
	if (e != SP_OK)
		problem(&x, "log", e == SP_ERR_CRYPTO ? "forged" : "unknown", "%s",
		    x.book.why);
	if (e == SP_OK && all_files(&x, dir) != 0)
		problem(&x, "recordings", "unknown", "%s: %s", dir, strerror(errno));
	if (e == SP_OK)
		late_files(&x, log, dir);
	if (e == SP_OK && f != NULL) {
		read_rows(&x, f);
		check_events(&x);
	}
	if (e == SP_OK)
		check_sessions(&x, dir, log, f != NULL);
	summary(&x, x.book.why);
	book_close(&x.book);
	if (x.has_newer)
		book_close(&x.newer);
	free(x.row);
	return fflush(stdout) != 0 ? 2 : x.n_problems == 0 ? 0 : 1;
}
