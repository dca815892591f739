/* SPDX-License-Identifier: Apache-2.0 */
/* Recordings that may have no row: whoever was to write it may be dead, or never
 * have heard that there is a file (doc/recording-format.md, "What no row names"). */
#include "bastion/supervisor/sup.h"

#include <stdlib.h>
#include <string.h>

static void
tell(struct sp_sup *s, struct sp_proc *broker, const uint8_t *id)
{
	struct sp_msg_open_file m;

	memcpy(m.session, id, 16);
	sp_proc_sent(s, broker, sp_send_open_file(&broker->link, 0, &m, NULL));
}

static struct sp_proc *
who_asked(struct sp_sup *s, const struct sp_file_job *j)
{
	struct sp_proc *b = sp_proc_ready(s, SP_RX_BROKER);

	return b != NULL && b->pid == j->broker ? b : NULL;
}

static void
found(struct sp_sup *s, struct sp_file_job *j, struct sp_span ids)
{
	struct sp_proc *b = who_asked(s, j);

	for (; b != NULL && ids.n >= 16; ids = sp_span_of(ids.p + 16, ids.n - 16))
		tell(s, b, ids.p);
}

static void
listed(struct sp_sup *s, struct sp_file_job *j, int err_no, int *fds, size_t n)
{
	struct sp_proc *b = who_asked(s, j);

	(void)err_no;
	(void)fds;
	(void)n;
	for (size_t i = 0; b != NULL && i < SP_UNDIALED_MAX; i++)
		if (!sp_uuid_is_nil(s->undialed[i]))
			tell(s, b, s->undialed[i]);
}

void
sp_unnamed_tell_all(struct sp_sup *s, struct sp_proc *p)
{
	struct sp_file_job *j = sp_files_job(s, SP_FILE_LIST,
	    sp_span_of(NULL, 0));

	if (j == NULL)
		return;
	j->found = found;
	j->done = listed;
	j->broker = p->pid;
	sp_files_ask(s, j, false);
}

void
sp_unnamed_tell(struct sp_sup *s, const uint8_t *id)
{
	struct sp_proc *b = sp_proc_ready(s, SP_RX_BROKER);

	/* This one may be dead already: the next is told as well. */
	memcpy(s->undialed[s->n_undialed++ % SP_UNDIALED_MAX], id, 16);
	if (b != NULL)
		tell(s, b, id);
}
