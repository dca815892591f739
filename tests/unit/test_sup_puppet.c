/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands in for every role: tells the test which role it was executed as and
 * what is open, hands over its descriptors from 3 on, and then does what it
 * is told. The test speaks for it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

struct greeting {
	char role[64];
	char open_fds[256];	/* "0 1 2 3" */
	int32_t pid;
	int32_t nulls;		/* 0 and 1 are /dev/null */
	int32_t n_env;
};

static void
list_fds(struct greeting *g)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;
	char seen[64] = {0};

	while (d != NULL && (e = readdir(d)) != NULL) {
		long fd = strtol(e->d_name, NULL, 10);

		if (e->d_name[0] != '.' && fd != dirfd(d) && fd >= 0 && fd < 64)
			seen[fd] = 1;
	}
	if (d != NULL)
		closedir(d);
	for (int i = 0; i < 64; i++)
		if (seen[i]) {
			size_t n = strlen(g->open_fds);

			snprintf(g->open_fds + n, sizeof(g->open_fds) - n, "%s%d",
			    n == 0 ? "" : " ", i);
		}
}

static int
is_null(int fd)
{
	char path[64], to[64] = "";

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (readlink(path, to, sizeof(to) - 1) < 0)
		return 0;
	return strcmp(to, "/dev/null") == 0;
}

static int
greet(int s, struct greeting *g)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} c;
	int fds[2] = {3, 4}, n = fcntl(4, F_GETFD) >= 0 && s != 4 ? 2 : 1;
	struct iovec iov = {.iov_base = g, .iov_len = sizeof(*g)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1,
	    .msg_control = c.room,
	    .msg_controllen = CMSG_SPACE((size_t)n * sizeof(int))};
	struct cmsghdr *h;

	memset(&c, 0, sizeof(c));
	h = CMSG_FIRSTHDR(&mh);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
	memcpy(CMSG_DATA(h), fds, (size_t)n * sizeof(int));
	if (sendmsg(s, &mh, 0) < 0)
		return -1;
	close(3);
	if (n == 2)
		close(4);
	return 0;
}

static void
obey(int s, const unsigned char *cmd)
{
	int32_t answer = 0;
	int status = 0;
	pid_t pid;

	switch (cmd[0]) {
	case 'x':
		_exit(cmd[1]);
	case 'k':
		signal(cmd[1], SIG_DFL);
		raise(cmd[1]);
		break;
	case 'f':
		if ((pid = fork()) == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
			for (;;)
				pause();
		}
		answer = (int32_t)pid;
		break;
	case 'w':
		if (waitpid(-1, &status, 0) > 0)
			answer = (int32_t)status;
		break;
	default:
		break;
	}
	if (write(s, &answer, sizeof(answer)) < 0)
		_exit(9);
}

int
main(int argc, char **argv)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct greeting g = {.pid = (int32_t)getpid()};
	char *slash = strrchr(argv[0], '/');
	unsigned char cmd[2];
	ssize_t n;
	int s;

	list_fds(&g);
	g.nulls = is_null(0) && is_null(1);
	for (char **e = environ; *e != NULL; e++)
		g.n_env++;
	if (slash == NULL)
		return 7;
	snprintf(g.role, sizeof(g.role), "%.60s", slash + 1);
	*slash = '\0';
	if (chdir(argv[0]) != 0)
		return 7;
	snprintf(sa.sun_path, sizeof(sa.sun_path), "ctl");
	s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (s < 0 || connect(s, (struct sockaddr *)&sa, sizeof(sa)) != 0 ||
	    greet(s, &g) != 0)
		return 8;
	(void)argc;
	while ((n = read(s, cmd, sizeof(cmd))) > 0)
		obey(s, cmd);
	return n == 0 ? 0 : 9;
}
