/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/supervisor/sup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/text.h"

/*
 * The private half of the front's host key is in the vault's state, and in no
 * file. One that stands in keys/ (of an instance of before, or put there by who
 * brings a key along) is handed to the vault at each of its starts, and removed
 * when the vault says that it has it on disk. Nobody here reads it.
 */
#define NAME "ssh_host_ed25519_key"
#define LINE_MAX_BYTES 1024

/* People are shown it, and the ingress says it; who signs looks at its own. */
static void
read_public(struct sp_instance *in)
{
	int fd = openat(in->keys, NAME ".pub", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = fd < 0 ? -1 : read(fd, in->host_key, LINE_MAX_BYTES);

	if (n < 0 || !sp_utf8_is_valid(sp_span_of(in->host_key, (size_t)n)))
		n = 0;
	in->host_key[n] = '\0';
	in->host_key[strcspn(in->host_key, "\r\n")] = '\0';
	sp_close_fds(&fd, 1);
}

enum sp_err
sp_hostkey_open(struct sp_instance *in)
{
	in->host_key_fd = openat(in->keys, NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (in->host_key_fd < 0 && errno != ENOENT) {
		sp_say(in, "cannot read %s/keys/" NAME ": %s", in->path,
		    strerror(errno));
		return SP_ERR_IO;
	}
	read_public(in);
	return SP_OK;
}

/* Is it the one that people are shown? */
static bool
is_shown(const struct sp_instance *in, const uint8_t pk[static 32])
{
	SP_BUF_AUTO blob = {.max = 128}, line = {.max = 256};

	return sp_buf_put_ssh_string(&blob, sp_span_str("ssh-ed25519")) == SP_OK &&
	    sp_buf_put_ssh_string(&blob, sp_span_of(pk, 32)) == SP_OK &&
	    sp_buf_printf(&line, "ssh-ed25519 ") == SP_OK &&
	    sp_base64(&line, sp_buf_span(&blob)) == SP_OK &&
	    strncmp(in->host_key, (const char *)sp_buf_span(&line).p, line.len) == 0;
}

/* Zeros first: what a file system keeps of a removed file is not for us to say,
 * but where it writes in place nothing is left. */
static int
write_over(int fd, off_t left)
{
	static const char zeros[4096];

	while (left > 0) {
		size_t want = left < (off_t)sizeof(zeros) ? (size_t)left :
		    sizeof(zeros);
		ssize_t n = write(fd, zeros, want);

		if (n <= 0 && errno != EINTR)
			return -1;
		left -= n > 0 ? n : 0;
	}
	return fsync(fd);
}

static int
remove_file(struct sp_instance *in)
{
	int fd = openat(in->keys, NAME, O_WRONLY | O_CLOEXEC | O_NOFOLLOW |
	    O_NONBLOCK), rc = -1;
	struct stat ours, there;

	if (fd < 0)
		return -1;
	/* Another one that came meanwhile is for the next start. */
	if (fstat(in->host_key_fd, &ours) == 0 && fstat(fd, &there) == 0 &&
	    S_ISREG(there.st_mode) && ours.st_ino == there.st_ino &&
	    ours.st_dev == there.st_dev && write_over(fd, there.st_size) == 0 &&
	    unlinkat(in->keys, NAME, 0) == 0)
		rc = fsync(in->keys);
	close(fd);
	return rc;
}

void
sp_hostkey_kept(struct sp_instance *in, const uint8_t pk[static 32])
{
	if (in->host_key_fd < 0)
		return;
	if (!is_shown(in, pk)) {
		sp_log(SP_ERROR, "host_key_file", NULL, "%s", "the vault has taken "
		    "keys/" NAME ", and keys/" NAME ".pub is the public half of "
		    "another key: write that of the same key, and start again");
		return;
	}
	if (remove_file(in) != 0) {
		sp_log(SP_ERROR, "host_key_file", NULL, "error=%d text=\"remove "
		    "keys/" NAME ": the vault has it\"", errno);
		return;
	}
	sp_log(SP_INFO, "host_key_file", NULL, "%s", "removed: the vault has it");
	sp_close_fds(&in->host_key_fd, 1);
	in->host_key_fd = -1;
}
