/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/supervisor/sup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PIDFILE "sallyportd.pid"

static int
lock_pidfile(const struct sp_instance *in)
{
	struct stat a, b;

	for (;;) {
		int fd = openat(in->run, PIDFILE, O_RDWR | O_CREAT | O_CLOEXEC |
		    O_NOFOLLOW, 0644);

		if (fd < 0)
			return -1;
		if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
			close(fd);
			errno = EWOULDBLOCK;
			return -1;
		}
		/* One that ended meanwhile may have removed what we locked. */
		if (fstat(fd, &a) == 0 &&
		    fstatat(in->run, PIDFILE, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
		    a.st_ino == b.st_ino && a.st_dev == b.st_dev)
			return fd;
		close(fd);
	}
}

enum sp_err
sp_instance_write_pid(struct sp_instance *in)
{
	char text[32] = "";
	int n;

	if ((in->pidfile = lock_pidfile(in)) < 0) {
		int e = errno, fd = openat(in->run, PIDFILE,
		    O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

		if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0)
			text[strcspn(text, "\n")] = '\0';
		sp_close_fds(&fd, 1);
		if (e == EWOULDBLOCK)
			sp_say(in, "%s runs already, as process %s", in->path,
			    text[0] == '\0' ? "unknown" : text);
		else
			sp_say(in, "cannot write %s/run/" PIDFILE ": %s",
			    in->path, strerror(e));
		return SP_ERR_EXISTS;
	}
	n = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (fchmod(in->pidfile, 0644) != 0 || ftruncate(in->pidfile, 0) != 0 ||
	    pwrite(in->pidfile, text, (size_t)n, 0) != n) {
		sp_say(in, "cannot write %s/run/" PIDFILE ": %s", in->path,
		    strerror(errno));
		return SP_ERR_IO;
	}
	return SP_OK;
}

/* Bound by a name without directories: the path of a unix socket ends at 107
 * bytes, that of an instance does not. */
static enum sp_err
bind_control(struct sp_instance *in, const char *name, mode_t mode, int *out)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", name);
	if (fd < 0 || fchdir(in->run) != 0 ||
	    (unlink(name) != 0 && errno != ENOENT) ||
	    bind(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0 ||
	    fchmodat(in->run, name, mode, 0) != 0 ||
	    (in->as_root && fchownat(in->run, name, in->owner_uid,
	    in->owner_gid, AT_SYMLINK_NOFOLLOW) != 0) ||
	    listen(fd, 64) != 0) {
		sp_say(in, "cannot bind %s/run/%s: %s", in->path, name,
		    strerror(errno));
		sp_close_fds(&fd, 1);
		return SP_ERR_IO;
	}
	*out = fd;
	return SP_OK;
}

/* "1.2.3.4:22", "[::1]:22", ":22" is refused: an address is always named. */
static enum sp_err
split(const char *word, char *host, size_t cap, const char **port)
{
	const char *colon = strrchr(word, ':');
	const char *start = word, *end = colon;

	if (colon == NULL || colon == word)
		return SP_ERR_SYNTAX;
	if (*word == '[') {
		start = word + 1;
		end = colon - 1;
		if (*end != ']' || end <= start)
			return SP_ERR_SYNTAX;
	}
	*port = colon + 1;
	return sp_span_cstr(sp_span_of(start, (size_t)(end - start)), host, cap);
}

static enum sp_err
bind_one(struct sp_instance *in, const char *word, int *out)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
	    .ai_socktype = SOCK_STREAM}, *ai = NULL;
	char host[128];
	const char *port;
	int fd = -1, on = 1;

	if (split(word, host, sizeof(host), &port) != SP_OK ||
	    getaddrinfo(host, port, &hints, &ai) != 0 || ai == NULL) {
		sp_say(in, "listen: %s is not ADDRESS:PORT (numbers;"
		    " [::1]:2222 for IPv6)", word);
		return SP_ERR_SYNTAX;
	}
	if ((fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC |
	    SOCK_NONBLOCK, 0)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
	    (ai->ai_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6,
	    IPV6_V6ONLY, &on, sizeof(on)) != 0) ||
	    bind(fd, ai->ai_addr, ai->ai_addrlen) != 0) {
		sp_say(in, "cannot listen on %s: %s", word, strerror(errno));
		sp_close_fds(&fd, 1);
		freeaddrinfo(ai);
		return SP_ERR_IO;
	}
	freeaddrinfo(ai);
	*out = fd;
	return SP_OK;
}

static int
find(const struct sp_instance *in, const char *word)
{
	for (size_t i = 0; i < in->n_listeners; i++)
		if (strcmp(in->words[i], word) == 0)
			return in->listeners[i];
	return -1;
}

/* All words of the configuration; those that are served already keep their
 * socket, and who waits in its queue. */
static enum sp_err
bind_words(struct sp_instance *in, struct sp_instance *old)
{
	char words[sizeof(in->cfg.listen)], *save = NULL;

	snprintf(words, sizeof(words), "%s", in->cfg.listen);
	in->n_listeners = 0;
	for (char *w = strtok_r(words, " \t", &save); w != NULL;
	    w = strtok_r(NULL, " \t", &save)) {
		int fd;

		if (in->n_listeners == SP_LISTEN_MAX ||
		    strlen(w) >= sizeof(in->words[0]) || find(in, w) >= 0) {
			sp_say(in, "listen: at most %d addresses, each once",
			    SP_LISTEN_MAX);
			return SP_ERR_TOOBIG;
		}
		if ((fd = find(old, w)) < 0)
			SP_TRY(bind_one(in, w, &fd));
		snprintf(in->words[in->n_listeners], sizeof(in->words[0]), "%s", w);
		in->listeners[in->n_listeners++] = fd;
	}
	if (in->n_listeners == 0) {
		sp_say(in, "listen names no address");
		return SP_ERR_INVAL;
	}
	return SP_OK;
}

static bool
has_fd(const struct sp_instance *in, int fd)
{
	for (size_t i = 0; i < in->n_listeners; i++)
		if (in->listeners[i] == fd)
			return true;
	return false;
}

enum sp_err
sp_instance_relisten(struct sp_instance *in)
{
	struct sp_instance *old = calloc(1, sizeof(*old));
	enum sp_err e;

	if (old == NULL)
		return SP_ERR_NOMEM;
	memcpy(old, in, sizeof(*old));
	e = bind_words(in, old);
	for (size_t i = 0; e != SP_OK && i < in->n_listeners; i++)
		if (!has_fd(old, in->listeners[i]))
			close(in->listeners[i]);
	for (size_t i = 0; e == SP_OK && i < old->n_listeners; i++)
		if (!has_fd(in, old->listeners[i]))
			close(old->listeners[i]);
	free(old);
	return e;
}

/* ------------------------------------------------------- socket activation */

#define FIRST_FD 3		/* SD_LISTEN_FDS_START */

void
sp_instance_activate(struct sp_instance *in)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	uint64_t who = 0, n = 0;

	if (pid != NULL && fds != NULL &&
	    sp_u64_parse(sp_span_str(pid), INT32_MAX, &who) == SP_OK &&
	    who == (uint64_t)getpid() &&
	    sp_u64_parse(sp_span_str(fds), 1024, &n) == SP_OK && n > 0) {
		in->is_activated = true;
		for (uint64_t i = 0; i < n; i++) {
			int fd = FIRST_FD + (int)i;

			(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
			if (i < SP_LISTEN_MAX)
				in->listeners[in->n_listeners++] = fd;
		}
		if (n > SP_LISTEN_MAX)
			in->n_listeners = 0;	/* said by check_activated */
	}
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
}

static enum sp_err
check_activated(struct sp_instance *in)
{
	for (size_t i = 0; i < in->n_listeners; i++) {
		int fd = in->listeners[i], type = 0, family = 0, listens = 0;
		socklen_t n = sizeof(int);

		if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) != 0 ||
		    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &n) != 0 ||
		    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &n) != 0 ||
		    type != SOCK_STREAM || listens == 0 ||
		    (family != AF_INET && family != AF_INET6) ||
		    fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) != 0) {
			sp_say(in, "socket activation: descriptor %d is no listening"
			    " TCP socket (Accept=no, ListenStream=ADDRESS:PORT)", fd);
			return SP_ERR_INVAL;
		}
	}
	if (in->n_listeners > 0)
		return SP_OK;
	sp_say(in, "socket activation: at most %d sockets", SP_LISTEN_MAX);
	return SP_ERR_TOOBIG;
}

enum sp_err
sp_instance_bind(struct sp_instance *in)
{
	SP_TRY(bind_control(in, "control.sock", 0600, &in->control));
	/* Custodians of shares have no account: the vault asks the kernel who
	 * they are, and lets others than its masters do no more than that. */
	SP_TRY(bind_control(in, "vault.sock", 0666, &in->vault_sock));
	if (fchdir(in->dir) != 0)
		return SP_ERR_IO;
	if (in->is_activated)
		return check_activated(in);
	return sp_instance_relisten(in);
}

void
sp_instance_close(struct sp_instance *in)
{
	const int all[] = {in->dir, in->recordings, in->vault, in->keys, in->pam,
	    in->null, in->libexec, in->control, in->vault_sock, in->credentials};

	if (in->run >= 0 && in->control >= 0)
		unlinkat(in->run, "control.sock", 0);
	if (in->run >= 0 && in->vault_sock >= 0)
		unlinkat(in->run, "vault.sock", 0);
	sp_close_fds(in->listeners, in->n_listeners);
	in->n_listeners = 0;
	sp_close_fds(all, sizeof(all) / sizeof(all[0]));
	if (in->run >= 0 && in->pidfile >= 0)
		unlinkat(in->run, PIDFILE, 0);	/* while we hold its lock */
	sp_close_fds(&in->pidfile, 1);
	sp_close_fds(&in->run, 1);
	sp_close_fds(&in->log, 1);
	free(in->conf_text);
	in->conf_text = NULL;
}
