/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/supervisor/sup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* A session has one egress, which its recorder feeds, and, where its target
 * stands behind others, a hop for each of them. A hop's egress is connected to
 * nothing here but to the next leg, by a socket pair. */

static bool
is_own(const struct sp_session *x, const uint8_t *id)
{
	return memcmp(x->id, id, sizeof(x->id)) == 0;
}

static struct sp_hop *
hop_find(struct sp_session *x, const uint8_t *id)
{
	for (size_t i = 0; i < SP_HOPS_MAX; i++)
		if (x->hops[i].egr != NULL &&
		    memcmp(x->hops[i].id, id, sizeof(x->hops[i].id)) == 0)
			return &x->hops[i];
	return NULL;
}

static struct sp_hop *
hop_free(struct sp_session *x)
{
	for (size_t i = 0; i < SP_HOPS_MAX; i++)
		if (x->hops[i].egr == NULL)
			return &x->hops[i];
	return NULL;
}

const char *
sp_leg_refused(const struct sp_session *x, const uint8_t *id)
{
	bool is_room = false;

	if (x->rec == NULL || x->rec->pid == 0 || x->rec->killed ||
	    x->is_recovery || x->kept < 0 || x->is_dialing)
		return "no recorder waits for this target";
	if (is_own(x, id))
		return x->egr == NULL ? NULL : "it has a target already";
	if (sp_uuid_is_nil(id))
		return "a hop without an id";
	for (size_t i = 0; i < SP_HOPS_MAX; i++) {
		is_room = is_room || x->hops[i].egr == NULL;
		if (x->hops[i].egr != NULL &&
		    memcmp(x->hops[i].id, id, sizeof(x->hops[i].id)) == 0)
			return "this hop is there already";
	}
	return is_room ? NULL : "too many hops";
}

static void
forget(struct sp_session *x, const struct sp_kid *k)
{
	if (x->egr == k)
		x->egr = NULL;
	for (size_t i = 0; i < SP_HOPS_MAX; i++)
		if (x->hops[i].egr == k) {
			sp_close_fds(&x->hops[i].kept, 1);
			x->hops[i] = (struct sp_hop){.kept = -1};
		}
}

/* The recorder's stream for its egress: the last copy, unless another egress
 * may follow. With a copy here the recorder would not see its egress die. */
static int
recorder_end(struct sp_session *x, bool more)
{
	int fd = x->kept;

	if (more)
		return fcntl(fd, F_DUPFD_CLOEXEC, 3);
	x->kept = -1;
	return fd;
}

const char *
sp_leg_start(struct sp_sup *s, struct sp_session *x, const struct sp_leg *l,
    int fd)
{
	bool own = is_own(x, l->id);
	const char *why = sp_leg_refused(x, l->id);
	struct sp_kid *k = why != NULL ? NULL :
	    sp_kid_new(s, !own ? SP_KID_HOP : l->sql ? SP_KID_SQL :
	    SP_KID_EGRESS, x->id);
	struct sp_hop *h;
	enum sp_err e;
	int end = -1;

	if (k == NULL || (own && (end = recorder_end(x, l->more)) < 0)) {
		sp_close_fds(&fd, 1);
		if (k != NULL)
			sp_kid_free(s, k);
		return why != NULL ? why : "no room for another process";
	}
	memcpy(k->leg, l->id, sizeof(k->leg));
	sp_local_address(fd, k->local_addr, &k->local_port);
	k->corr = l->corr;
	if (own) {
		x->egr = k;
	} else {
		h = hop_free(x);
		SP_ASSERT(h != NULL);	/* sp_leg_refused looked */
		*h = (struct sp_hop){.egr = k, .kept = -1};
		memcpy(h->id, l->id, sizeof(h->id));
	}
	if ((e = sp_kid_spawn(s, k, fd, end)) == SP_OK)
		return NULL;
	forget(x, k);
	return e == SP_ERR_EOF ? "the vault is away" : sp_err_text(e);
}

void
sp_leg_keep(struct sp_session *x, struct sp_kid *k)
{
	struct sp_hop *h = hop_find(x, k->leg);

	SP_ASSERT(h != NULL && h->egr == k && h->kept < 0);
	h->kept = k->wires.kept;
	k->wires.kept = -1;
}

int
sp_leg_take(struct sp_session *x, const uint8_t *hop)
{
	struct sp_hop *h = hop_find(x, hop);
	int fd = -1;

	if (h != NULL && h->egr->pid != 0 && !h->egr->killed) {
		fd = h->kept;
		h->kept = -1;
	}
	return fd;
}

bool
sp_leg_gone(struct sp_session *x, const struct sp_kid *k)
{
	bool was = x->egr == k;

	for (size_t i = 0; i < SP_HOPS_MAX; i++)
		was = was || x->hops[i].egr == k;
	forget(x, k);
	return was;
}

bool
sp_leg_is_any(const struct sp_session *x)
{
	for (size_t i = 0; i < SP_HOPS_MAX; i++)
		if (x->hops[i].egr != NULL)
			return true;
	return x->egr != NULL;
}

/* A kid that only waited is gone after its kill, and perhaps its session. */
void
sp_leg_kill_all(struct sp_sup *s, const uint8_t *session)
{
	struct sp_session *x;

	for (size_t i = 0; i < SP_HOPS_MAX; i++)
		if ((x = sp_session_find(s, session)) != NULL &&
		    x->hops[i].egr != NULL)
			sp_kid_kill(s, x->hops[i].egr);
	if ((x = sp_session_find(s, session)) != NULL && x->egr != NULL)
		sp_kid_kill(s, x->egr);
}
