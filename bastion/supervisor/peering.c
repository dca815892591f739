/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/supervisor/sup.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Descriptors that a role is started with are copies: the role owns its own,
 * the next start gets fresh ones. */
static int
copy_of(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

static enum sp_err
start_vault(struct sp_sup *s, struct sp_proc *p)
{
	struct sp_msg_start_vault m = {.config =
	    sp_span_of(s->in.conf_text, s->in.conf_len)};
	int fds[3] = {copy_of(s->in.vault), copy_of(s->in.vault_sock),
	    copy_of(s->in.host_key_fd >= 0 ? s->in.host_key_fd : s->in.null)};

	if (fds[0] < 0 || fds[1] < 0 || fds[2] < 0) {
		sp_close_fds(fds, 3);
		return SP_ERR_IO;
	}
	return sp_send_start_vault(&p->link, 0, &m, fds);
}

/* What the broker keeps beside the database; an instance of before has none. */
static int
own_file(struct sp_sup *s, const char *name)
{
	int dir, fd = -1;

	if (mkdirat(s->in.dir, "broker", 0700) != 0 && errno != EEXIST)
		return -1;
	dir = openat(s->in.dir, "broker", O_RDONLY | O_DIRECTORY | O_CLOEXEC |
	    O_NOFOLLOW);
	if (dir >= 0)
		fd = openat(dir, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		sp_say(&s->in, "cannot open broker/%s, errno %d", name, errno);
	if (dir >= 0)
		close(dir);
	return fd;
}

static enum sp_err
start_notary(struct sp_sup *s, struct sp_proc *p)
{
	struct sp_msg_start_notary m = {.config =
	    sp_span_of(s->in.conf_text, s->in.conf_len),
	    .node = sp_span_str(s->in.node)};
	int fd = copy_of(s->in.tlog);

	if (fd < 0)
		return SP_ERR_IO;
	return sp_send_start_notary(&p->link, 0, &m, &fd);
}

static enum sp_err
start_broker(struct sp_sup *s, struct sp_proc *p)
{
	struct sp_msg_start_broker m = {.config =
	    sp_span_of(s->in.conf_text, s->in.conf_len),
	    .db = sp_span_str(s->in.db), .node = sp_span_str(s->in.node),
	    .host_key = sp_span_str(s->in.host_key)};
	int fds[3] = {copy_of(s->in.control), own_file(s, "heads"),
	    own_file(s, "reserve")};

	if (fds[0] < 0 || fds[1] < 0 || fds[2] < 0) {
		sp_close_fds(fds, 3);
		return SP_ERR_IO;
	}
	return sp_send_start_broker(&p->link, 0, &m, fds);
}

static enum sp_err
start_ingress(struct sp_sup *s, struct sp_proc *p)
{
	struct sp_msg_start_ingress m = {.config =
	    sp_span_of(s->in.conf_text, s->in.conf_len),
	    .host_key = sp_span_str(s->in.host_key)};

	return sp_send_start_ingress(&p->link, 0, &m, NULL);
}

static enum sp_err
start_auth(struct sp_sup *s, struct sp_proc *p)
{
	struct sp_msg_start_auth m = {.config =
	    sp_span_of(s->in.conf_text, s->in.conf_len)};
	int fd = copy_of(s->in.pam);

	if (fd < 0)
		return SP_ERR_IO;
	return sp_send_start_auth(&p->link, 0, &m, &fd);
}

enum sp_err
sp_proc_say_start(struct sp_sup *s, struct sp_proc *p)
{
	struct sp_msg_start_parent m = {.config =
	    sp_span_of(s->in.conf_text, s->in.conf_len)};

	switch (p->rx) {
	case SP_RX_VAULT:
		return start_vault(s, p);
	case SP_RX_NOTARY:
		return start_notary(s, p);
	case SP_RX_SHIP:
		return sp_ship_start(s, p);
	case SP_RX_BROKER:
		return start_broker(s, p);
	case SP_RX_INGRESS:
		return start_ingress(s, p);
	case SP_RX_AUTH:
		return start_auth(s, p);
	case SP_RX_RECORDER:
	case SP_RX_EGRESS:
	case SP_RX_SQL:
	case SP_RX_PLAYER:
	case SP_RX_SCRIBE:
		return sp_send_start_parent(&p->link, 0, &m, NULL);
	case SP_RX_COUNT:
		break;
	}
	return SP_ERR_INVAL;
}

static struct sp_proc *
by_role(struct sp_sup *s, uint16_t role)
{
	for (enum sp_rx i = 0; i < SP_RX_COUNT; i++)
		if (sp_role_rows[i].role == role)
			return sp_proc_ready(s, i);
	return NULL;
}

static void
introduce(struct sp_sup *s, struct sp_proc *a, struct sp_proc *b)
{
	struct sp_msg_peer_link to_a = {.role = sp_role_rows[b->rx].role};
	struct sp_msg_peer_link to_b = {.role = sp_role_rows[a->rx].role};
	int p[2];

	if (sp_link_pair(p) != SP_OK) {
		/* Without it neither can work: begin again with one of them. */
		sp_proc_kill(s, a, "no descriptors for its peer's link");
		return;
	}
	sp_proc_sent(s, a, sp_send_peer_link(&a->link, 0, &to_a, &p[0]));
	sp_proc_sent(s, b, sp_send_peer_link(&b->link, 0, &to_b, &p[1]));
}

/* p has just started: it meets those of its peers that run. */
void
sp_proc_meet(struct sp_sup *s, struct sp_proc *p)
{
	for (size_t i = 0; i < sp_topology_n_peers; i++) {
		const struct sp_peering *r = &sp_topology_peers[i];
		uint16_t me = sp_role_rows[p->rx].role;
		struct sp_proc *o;

		if (r->a != me && r->b != me)
			continue;
		o = by_role(s, r->a == me ? r->b : r->a);
		if (o != NULL && o != p)
			introduce(s, p, o);
	}
}
