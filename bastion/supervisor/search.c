/* SPDX-License-Identifier: Apache-2.0 */
/* A search: a player without a file, and files in batches through the broker,
 * which passes them on. */
#include "bastion/supervisor/sup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum sp_err
sp_on_search_spawn(struct sp_sup *s, struct sp_packet *p)
{
	struct sp_msg_search_spawn m;
	struct sp_failure f = {.corr = p->corr, .err_no = EAGAIN};
	struct sp_kid *k;
	enum sp_err e;

	SP_TRY(sp_dec_search_spawn(p->body, &m));
	f.id = m.play;
	if ((k = sp_kid_new(s, SP_KID_SEARCH, NULL)) == NULL) {
		f.text = "too many viewers";
		sp_reply_failure(s, &f);
		return SP_OK;
	}
	k->corr = p->corr;
	k->ref = m.play;
	if ((e = sp_kid_spawn(s, k, -1, -1)) != SP_OK) {
		f.text = e == SP_ERR_EOF ? "the vault is away" : sp_err_text(e);
		sp_reply_failure(s, &f);
	}
	return SP_OK;
}

static int
open_one(struct sp_sup *s, const uint8_t *id)
{
	int fd = sp_open_recording(s, id, "spr", O_RDONLY);

	return fd >= 0 || errno != ENOENT ? fd :
	    sp_open_recording(s, id, "open", O_RDONLY);
}

enum sp_err
sp_on_search_open(struct sp_sup *s, struct sp_packet *p)
{
	struct sp_proc *b = sp_proc_ready(s, SP_RX_BROKER);
	struct sp_msg_search_open m;
	struct sp_msg_search_opened r = {0};
	uint8_t ids[SP_SEARCH_BATCH * 16];
	int fds[SP_SEARCH_BATCH];

	SP_TRY(sp_dec_search_open(p->body, &m));
	if (m.sessions.n % 16 != 0 || b == NULL)
		return SP_ERR_PROTO;
	r.play = m.play;
	for (size_t i = 0; i < m.sessions.n; i += 16) {
		int fd = open_one(s, m.sessions.p + i);

		if (fd < 0)
			continue;
		memcpy(ids + 16u * r.n, m.sessions.p + i, 16);
		fds[r.n++] = fd;
	}
	r.sessions = sp_span_of(ids, 16u * r.n);
	/* A message has as many descriptors as its row says. */
	for (size_t i = r.n; i < SP_SEARCH_BATCH; i++) {
		fds[i] = i > 0 ? fcntl(fds[0], F_DUPFD_CLOEXEC, 0) :
		    open("/dev/null", O_RDONLY | O_CLOEXEC);
		if (fds[i] < 0) {
			sp_close_fds(fds, i);
			return SP_ERR_IO;
		}
	}
	sp_proc_sent(s, b, sp_send_search_opened(&b->link, p->corr, &r, fds));
	return SP_OK;
}
