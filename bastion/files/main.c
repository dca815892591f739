/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sallyport-files: creates, opens, renames and lists recordings for sallyportd, one
 * after the other. A disk that does not answer holds whoever asks it, in the kernel
 * and for as long as it likes: that may be this process, and nobody else.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/parent.h"
#include "common/sandbox.h"
#include "common/text.h"

#define NAME_BYTES (SP_UUID_TEXT + 8)
#define WAIT_MS 3600000
#define LENGTH_AT 12
#define HEADER_MAX 61060
#define OPEN_BYTES 220
#define KEYS_MAX 65536u		/* a header with all its boxes is smaller */
#define LIST_MAX 1000		/* recordings without an end, to a new broker */

struct files {
	struct sp_link sup;
	int dir;
	uint64_t corr;		/* of what is asked now */
};

static void
name_of(char name[static NAME_BYTES], const uint8_t *id, const char *ext)
{
	char text[SP_UUID_TEXT];

	sp_uuid_text(text, id);
	snprintf(name, NAME_BYTES, "%s.%s", text, ext);
}

/* Only regular files of the directory itself. */
static int
open_one(const struct files *f, const uint8_t *id, const char *ext, int flags)
{
	char name[NAME_BYTES];
	struct stat st;
	int fd;

	name_of(name, id, ext);
	fd = openat(f->dir, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
	    0600);
	if (fd >= 0 && (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))) {
		close(fd);
		errno = EINVAL;
		return -1;
	}
	return fd;
}

static int
open_any(const struct files *f, const uint8_t *id, uint8_t op)
{
	bool may_write = op == SP_FILE_RECOVER;
	int fd = open_one(f, id, may_write ? "open" : "spr",
	    may_write ? O_RDWR : O_RDONLY);

	/* To be recovered, and closed while the broker was away: read what it
	 * missed, no more. To be read: it may be running. */
	return fd >= 0 || errno != ENOENT ? fd :
	    open_one(f, id, may_write ? "spr" : "open", O_RDONLY);
}

static bool
is_closed(const struct files *f, const uint8_t *id)
{
	char name[NAME_BYTES];

	name_of(name, id, "spr");
	return faccessat(f->dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int
open_new(const struct files *f, const uint8_t *id)
{
	if (!is_closed(f, id))
		return open_one(f, id, "open", O_RDWR | O_CREAT | O_EXCL);
	errno = EEXIST;
	return -1;
}

/* It ends before its OPEN does: a header says its length, OPEN follows at once
 * (doc/recording-format.md). */
static bool
is_empty(const struct files *f, const char *name)
{
	int fd = openat(f->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW |
	    O_NONBLOCK);
	uint8_t length[4];
	struct stat st;
	bool is_it = false;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
		struct sp_span at = sp_span_of(length, sizeof(length));
		uint32_t n = 0;

		is_it = st.st_size < LENGTH_AT + (off_t)sizeof(length) ||
		    (pread(fd, length, sizeof(length), LENGTH_AT) ==
		    sizeof(length) && sp_get_u32(&at, &n) == SP_OK &&
		    n <= HEADER_MAX && st.st_size < (off_t)n + OPEN_BYTES);
	}
	sp_close_fds(&fd, 1);
	return is_it;
}

static int
remove_open(const struct files *f, const uint8_t *id, bool if_empty)
{
	char name[NAME_BYTES];

	name_of(name, id, "open");
	if (if_empty && faccessat(f->dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
	    !is_empty(f, name))
		return ENOTEMPTY;
	return unlinkat(f->dir, name, 0) == 0 || errno == ENOENT ? 0 : errno;
}

static int
close_name(const struct files *f, const uint8_t *id)
{
	char from[NAME_BYTES], to[NAME_BYTES];
	int bad;

	name_of(from, id, "open");
	name_of(to, id, "spr");
	bad = renameat2(f->dir, from, f->dir, to, RENAME_NOREPLACE);
	/* Filesystems without the flag; only this process makes names here. */
	if (bad != 0 && (errno == EINVAL || errno == ENOSYS) && !is_closed(f, id))
		bad = renameat(f->dir, from, f->dir, to);
	if (bad == 0 || (errno == ENOENT && is_closed(f, id)))
		return 0;	/* the latter: a recovery that found it whole */
	bad = errno;
	sp_log(SP_ERROR, "recording_rename_failed", id, "errno=%d", bad);
	return bad;
}

/* ------------------------------------------------------ to the store, and the end */

static int
remove_one(const struct files *f, const uint8_t *id, const char *ext)
{
	char name[NAME_BYTES];

	name_of(name, id, ext);
	if (unlinkat(f->dir, name, 0) != 0 && errno != ENOENT)
		return errno;
	return fsync(f->dir) == 0 ? 0 : errno;
}

static int
open_fetch(const struct files *f, const uint8_t *id)
{
	int bad = remove_one(f, id, "fetch");

	errno = bad;
	return bad != 0 ? -1 : open_one(f, id, "fetch", O_WRONLY | O_CREAT | O_EXCL);
}

/* It was synced by who wrote it. */
static int
keep_fetched(const struct files *f, const uint8_t *id)
{
	char from[NAME_BYTES], to[NAME_BYTES];

	name_of(from, id, "fetch");
	name_of(to, id, "spr");
	if (is_closed(f, id))
		return remove_one(f, id, "fetch");
	if (renameat(f->dir, from, f->dir, to) != 0)
		return errno;
	return fsync(f->dir) == 0 ? 0 : errno;
}

/* The keys of the lanes are in the header, sealed, and nowhere else: they are
 * overwritten before the name goes. Whoever has the file open, or finds its blocks on a
 * disk that is written in place, does not have them any more. */
static int
destroy(const struct files *f, const uint8_t *id)
{
	static const uint8_t zero[KEYS_MAX];
	int fd = open_one(f, id, "spr", O_WRONLY), bad = 0;
	struct stat st;
	size_t n;

	if (fd < 0)
		return errno == ENOENT ? 0 : errno;
	if (fstat(fd, &st) != 0)
		bad = errno;
	n = bad == 0 && st.st_size < (off_t)sizeof(zero) ? (size_t)st.st_size :
	    sizeof(zero);
	if (bad == 0 && (pwrite(fd, zero, n, 0) != (ssize_t)n || fsync(fd) != 0))
		bad = errno != 0 ? errno : EIO;
	close(fd);
	return bad != 0 ? bad : remove_one(f, id, "spr");
}

/* ------------------------------------------------------------------- answers */

static enum sp_err
done(struct files *f, int err_no)
{
	struct sp_msg_file_done m = {.err_no = (uint32_t)err_no};

	return sp_send_file_done(&f->sup, f->corr, &m, NULL);
}

static enum sp_err
opened(struct files *f, int fd)
{
	return fd < 0 ? done(f, errno) : sp_send_file_opened(&f->sup, f->corr,
	    &(struct sp_msg_file_opened){}, &fd);
}

static enum sp_err
many(struct files *f, struct sp_span ids)
{
	struct sp_msg_files_opened m = {.n = 0};
	uint8_t found[SP_SEARCH_BATCH * 16];
	int fds[SP_SEARCH_BATCH];

	for (size_t i = 0; i < ids.n; i += 16) {
		int fd = open_any(f, ids.p + i, SP_FILE_READ);

		if (fd < 0)
			continue;
		memcpy(found + 16u * m.n, ids.p + i, 16);
		fds[m.n++] = fd;
	}
	m.sessions = sp_span_of(found, 16u * m.n);
	/* A message has as many descriptors as its row says. */
	for (size_t i = m.n; i < SP_SEARCH_BATCH; i++) {
		fds[i] = fcntl(i > 0 ? fds[0] : f->dir, F_DUPFD_CLOEXEC, 0);
		if (fds[i] < 0) {
			sp_close_fds(fds, i);
			return done(f, EMFILE);
		}
	}
	return sp_send_files_opened(&f->sup, f->corr, &m, fds);
}

static enum sp_err
list(struct files *f)
{
	int fd = openat(f->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	SP_BUF_AUTO ids = {.max = LIST_MAX * 16};
	struct sp_msg_files_found m;
	struct dirent *e;
	uint8_t id[16];

	if (d == NULL) {
		int err_no = errno;

		sp_close_fds(&fd, 1);
		return done(f, err_no);
	}
	while (ids.len < LIST_MAX * 16 && (e = readdir(d)) != NULL) {
		size_t len = strlen(e->d_name);

		if (len == SP_UUID_TEXT - 1 + 5 &&
		    strcmp(e->d_name + len - 5, ".open") == 0 &&
		    sp_uuid_parse(id, sp_span_of(e->d_name, len - 5)) == SP_OK &&
		    sp_buf_put(&ids, id, 16) != SP_OK)
			break;
	}
	closedir(d);
	m.sessions = sp_buf_span(&ids);
	SP_TRY(sp_send_files_found(&f->sup, f->corr, &m, NULL));
	return done(f, 0);
}

static enum sp_err
serve(struct files *f, const struct sp_packet *k)
{
	struct sp_msg_file_ask m;

	if (k->type != SP_MSG_file_ask)
		return k->type == SP_MSG_stop ? SP_ERR_EOF : SP_ERR_PROTO;
	SP_TRY(sp_dec_file_ask(k->body, &m));
	if (m.sessions.n % 16 != 0 || (m.op != SP_FILE_LIST &&
	    m.sessions.n == 0))
		return SP_ERR_PROTO;
	f->corr = k->corr;
	switch (m.op) {
	case SP_FILE_NEW:
		return opened(f, open_new(f, m.sessions.p));
	case SP_FILE_RECOVER:
	case SP_FILE_READ:
		return opened(f, open_any(f, m.sessions.p, m.op));
	case SP_FILE_READ_MANY:
		return many(f, m.sessions);
	case SP_FILE_CLOSE:
		return done(f, close_name(f, m.sessions.p));
	case SP_FILE_DROP:
	case SP_FILE_REMOVE:
		return done(f, remove_open(f, m.sessions.p, m.op ==
		    SP_FILE_DROP));
	case SP_FILE_LIST:
		return list(f);
	case SP_FILE_FINISHED:
		return opened(f, open_one(f, m.sessions.p, "spr", O_RDONLY));
	case SP_FILE_FETCH:
		return opened(f, open_fetch(f, m.sessions.p));
	case SP_FILE_FETCHED:
		return done(f, keep_fetched(f, m.sessions.p));
	case SP_FILE_UNFETCH:
		return done(f, remove_one(f, m.sessions.p, "fetch"));
	case SP_FILE_FORGET:
		return done(f, remove_one(f, m.sessions.p, "spr"));
	case SP_FILE_DESTROY:
		return done(f, destroy(f, m.sessions.p));
	default:
		return SP_ERR_PROTO;
	}
}

/* ------------------------------------------------------------------ its life */

static enum sp_err
confine(const struct files *f, char *level, size_t cap)
{
	char seccomp[64];

	level[0] = '\0';
#ifndef SP_SANITIZED
	sp_landlock_restrict(&f->dir, 1, level, cap);
#endif
	SP_TRY(sp_sandbox_enter(sp_files_syscalls, sp_files_n_syscalls, seccomp,
	    sizeof(seccomp)));
	snprintf(level + strlen(level), cap - strlen(level), "%s%s",
	    level[0] == '\0' ? "" : " ", seccomp);
	return SP_OK;
}

static enum sp_err
begin(struct files *f)
{
	char level[128];
	struct sp_packet p;

	SP_TRY(sp_role_hello(&f->sup, SP_ROLE_FIL, &p));
	if (p.type != SP_MSG_start_files) {
		sp_packet_close_fds(&p);
		return SP_ERR_PROTO;
	}
	f->dir = p.fds[0];
	SP_TRY(confine(f, level, sizeof(level)));
	return sp_role_started(&f->sup, level);
}

int
main(int argc, char **argv)
{
	static struct files f = {.dir = -1};
	struct sp_packet k;
	enum sp_err e;

	(void)argv;
	sp_harden(NULL);
	sp_log_init("files", false);
	f.sup.fd = -1;
	if (argc != 1) {
		fputs("sallyport-files is started by sallyportd\n", stderr);
		return 2;
	}
	e = begin(&f);
	while (e == SP_OK) {
		e = sp_link_wait(&f.sup, &k, WAIT_MS);
		if (e == SP_OK) {
			e = serve(&f, &k);
			sp_packet_close_fds(&k);
		} else if (e == SP_ERR_TIMEOUT) {
			e = SP_OK;
		}
	}
	if (e != SP_ERR_EOF)
		sp_log(SP_ERROR, "files_ends", NULL, "error=\"%s\" fault=\"%s\"",
		    sp_err_text(e), f.sup.fault);
	return e == SP_ERR_EOF ? 0 : 1;
}
