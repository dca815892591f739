/* SPDX-License-Identifier: Apache-2.0 */
/* Recordings that may have no row: whoever was to write it may be dead, or never
 * have heard that there is a file (doc/recording-format.md, "What no row names"). */
#include "bastion/supervisor/sup.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPEN_MAX_TOLD 1000	/* recordings without an end, to a new broker */

/* doc/recording-format.md: a header says its length, OPEN follows at once. */
#define LENGTH_AT 12
#define HEADER_MAX 61060
#define OPEN_BYTES 220

static void
tell(struct sp_sup *s, struct sp_proc *broker, const uint8_t *id)
{
	struct sp_msg_open_file m;

	memcpy(m.session, id, 16);
	sp_proc_sent(s, broker, sp_send_open_file(&broker->link, 0, &m, NULL));
}

void
sp_unnamed_tell_all(struct sp_sup *s, struct sp_proc *p)
{
	int fd = openat(s->in.recordings, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	unsigned n = 0;

	if (d == NULL && fd >= 0)
		close(fd);
	while (d != NULL && n < OPEN_MAX_TOLD && (e = readdir(d)) != NULL) {
		uint8_t id[16];
		size_t len = strlen(e->d_name);

		if (len != SP_UUID_TEXT - 1 + 5 ||
		    strcmp(e->d_name + len - 5, ".open") != 0 ||
		    sp_uuid_parse(id, sp_span_of(e->d_name, len - 5)) != SP_OK)
			continue;
		tell(s, p, id);
		n++;
	}
	if (d != NULL)
		closedir(d);
	for (size_t i = 0; i < SP_UNDIALED_MAX; i++)
		if (!sp_uuid_is_nil(s->undialed[i]))
			tell(s, p, s->undialed[i]);
}

void
sp_unnamed_tell(struct sp_sup *s, const struct sp_session *x)
{
	struct sp_proc *b = sp_proc_ready(s, SP_RX_BROKER);

	/* This one may be dead already: the next is told as well. */
	memcpy(s->undialed[s->n_undialed++ % SP_UNDIALED_MAX], x->id, 16);
	if (b != NULL)
		tell(s, b, x->id);
}

bool
sp_unnamed_is_empty(const struct sp_sup *s, const char *name)
{
	int fd = openat(s->in.recordings, name, O_RDONLY | O_CLOEXEC |
	    O_NOFOLLOW | O_NONBLOCK);
	uint8_t length[4];
	struct stat st;
	bool is_empty = false;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
		struct sp_span at = sp_span_of(length, sizeof(length));
		uint32_t n = 0;

		is_empty = st.st_size < LENGTH_AT + (off_t)sizeof(length) ||
		    (pread(fd, length, sizeof(length), LENGTH_AT) ==
		    sizeof(length) && sp_get_u32(&at, &n) == SP_OK &&
		    n <= HEADER_MAX && st.st_size < (off_t)n + OPEN_BYTES);
	}
	if (fd >= 0)
		close(fd);
	return is_empty;
}
