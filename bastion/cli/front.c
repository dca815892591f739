/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at the front as a stranger would: what key exchanges does it offer? */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "bastion/cli/cli.h"

#define WAIT_S 10
#define BYTES_MAX 8192
#define KEXINIT 20

/* The first address that it listens on, as seen from this host. */
static int
dial(const struct sp_config *cfg)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
	    .ai_socktype = SOCK_STREAM}, *ai = NULL;
	const struct timeval tv = {.tv_sec = WAIT_S};
	char word[sizeof(cfg->listen)], *host = word, *colon;
	int fd = -1;

	snprintf(word, sizeof(word), "%s", cfg->listen + strspn(cfg->listen, " \t"));
	word[strcspn(word, " \t")] = '\0';
	if ((colon = strrchr(word, ':')) == NULL)
		return -1;
	*colon = '\0';
	if (*host == '[' && colon[-1] == ']') {
		host++;
		colon[-1] = '\0';
	}
	if (strcmp(host, "0.0.0.0") == 0)
		host = (char[]){"127.0.0.1"};
	else if (strcmp(host, "::") == 0)
		host = (char[]){"::1"};
	if (getaddrinfo(host, colon + 1, &hints, &ai) != 0)
		return -1;
	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv,
	    sizeof(tv)) != 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv,
	    sizeof(tv)) != 0 || connect(fd, ai->ai_addr, ai->ai_addrlen) != 0)) {
		close(fd);
		fd = -1;
	}
	freeaddrinfo(ai);
	return fd;
}

/* RFC 4253: lines up to the version, then the packet with the name-lists. */
static bool
find_kex(struct sp_span in, struct sp_span *names, bool *whole)
{
	const uint8_t *nl;
	uint32_t n;

	*whole = false;
	do {
		if ((nl = memchr(in.p, '\n', in.n)) == NULL)
			return false;
		*whole = in.n >= 4 && memcmp(in.p, "SSH-", 4) == 0;
		in.n -= (size_t)(nl + 1 - in.p);
		in.p = nl + 1;
	} while (!*whole);
	*whole = in.n >= 4 && sp_get_ssh_u32(&in, &n) == SP_OK && in.n >= n;
	if (!*whole || n < 22 || in.p[1] != KEXINIT)
		return false;
	in.p += 1 + 1 + 16;
	in.n -= 1 + 1 + 16;
	return sp_get_ssh_string(&in, 4096, names) == SP_OK;
}

bool
sp_cli_front_kex(const struct sp_config *cfg, char *names, size_t cap)
{
	static const char version[] = "SSH-2.0-doctor\r\n";
	SP_BUF_AUTO b = {.max = BYTES_MAX};
	struct sp_span list;
	bool found = false, whole = false;
	int fd = dial(cfg);

	if (fd >= 0 && send(fd, version, sizeof(version) - 1, MSG_NOSIGNAL) ==
	    (ssize_t)sizeof(version) - 1)
		while (!whole) {
			uint8_t piece[2048];
			ssize_t n = recv(fd, piece, sizeof(piece), 0);

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0 || sp_buf_put(&b, piece, (size_t)n) != SP_OK)
				break;
			found = find_kex(sp_buf_span(&b), &list, &whole);
		}
	if (fd >= 0)
		close(fd);
	return found && sp_span_cstr(list, names, cap) == SP_OK;
}
