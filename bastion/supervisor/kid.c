/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/supervisor/sup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_US (5 * SP_SECOND_US)	/* for a parent that is starting */
#define ASK_US (10 * SP_SECOND_US)	/* for `spawned` */
#define KILL_US (5 * SP_SECOND_US)	/* for `exited` after a kill */
#define KIDS_MAX (100000 + SP_SESSIONS_MAX * 3)

static const enum sp_rx parent_of[SP_KID_COUNT] = {
    [SP_KID_INGRESS] = SP_RX_INGRESS, [SP_KID_RECORDER] = SP_RX_RECORDER,
    [SP_KID_RECOVER] = SP_RX_RECORDER, [SP_KID_EGRESS] = SP_RX_EGRESS,
    [SP_KID_HOP] = SP_RX_EGRESS, [SP_KID_SQL] = SP_RX_SQL,
    [SP_KID_SCAN] = SP_RX_EGRESS, [SP_KID_PLAYER] = SP_RX_PLAYER,
    [SP_KID_SCRIBE] = SP_RX_SCRIBE, [SP_KID_AUTH] = SP_RX_AUTH,
    [SP_KID_SEARCH] = SP_RX_PLAYER,
};

static void
set_deadline(struct sp_sup *s, struct sp_kid *k, int64_t at)
{
	if (k->deadline_us == 0 && at != 0)
		s->n_timed++;
	if (k->deadline_us != 0 && at == 0)
		s->n_timed--;
	k->deadline_us = at;
}

struct sp_kid *
sp_kid_new(struct sp_sup *s, enum sp_kid_kind kind, const uint8_t *session)
{
	struct sp_kid *k;

	if (s->n_kids >= KIDS_MAX || (k = calloc(1, sizeof(*k))) == NULL)
		return NULL;
	k->id = ++s->next_id;
	k->kind = kind;
	k->wires.kept = k->front = -1;
	if (session != NULL)
		memcpy(k->session, session, sizeof(k->session));
	k->next = s->kids[k->id % SP_KID_BUCKETS];
	s->kids[k->id % SP_KID_BUCKETS] = k;
	s->n_kids++;
	return k;
}

struct sp_kid *
sp_kid_find(struct sp_sup *s, uint64_t id)
{
	struct sp_kid *k = s->kids[id % SP_KID_BUCKETS];

	while (k != NULL && k->id != id)
		k = k->next;
	return k;
}

void
sp_kid_free(struct sp_sup *s, struct sp_kid *k)
{
	struct sp_kid **at = &s->kids[k->id % SP_KID_BUCKETS];

	while (*at != k)
		at = &(*at)->next;
	*at = k->next;
	s->n_kids--;
	set_deadline(s, k, 0);
	sp_source_forget(s, k);
	sp_auth_gone(s, k);
	sp_wires_close(&k->wires);
	sp_close_fds(&k->front, 1);
	free(k);
}

/* fn may free the kid that it is given, no other one. */
void
sp_kid_each(struct sp_sup *s, void (*fn)(struct sp_sup *, struct sp_kid *,
    void *), void *arg)
{
	for (size_t i = 0; i < SP_KID_BUCKETS; i++)
		for (struct sp_kid *k = s->kids[i], *next; k != NULL; k = next) {
			next = k->next;
			fn(s, k, arg);
		}
}

static enum sp_err
send_spawn(const struct sp_sup *s, struct sp_link *l, const struct sp_kid *k)
{
	struct sp_msg_spawn_ingress ing = {.id = k->id,
	    .peer_addr = sp_span_str(k->peer_addr), .peer_port = k->peer_port,
	    .proxied = k->is_proxied};
	struct sp_msg_spawn_recorder rec = {.id = k->id,
	    .pinned = s->has_vault_keys};
	struct sp_msg_spawn_recover rcv = {.id = k->id};
	struct sp_msg_spawn_egress egr = {.id = k->id};
	struct sp_msg_spawn_player ply = {.id = k->id};
	struct sp_msg_spawn_search sea = {.id = k->id};
	struct sp_msg_spawn_auth aut = {.id = k->id};
	struct sp_msg_spawn_scribe scr = {.id = k->id};
	const int *fds = k->wires.child;

	memcpy(rec.session, k->session, sizeof(rec.session));
	memcpy(rec.audit_key, s->vault.audit_key, 32);
	memcpy(rec.recording_key, s->vault.recording_key, 32);
	memcpy(rcv.session, k->session, sizeof(rcv.session));
	memcpy(egr.session, k->leg, sizeof(egr.session));
	memcpy(ply.session, k->session, sizeof(ply.session));
	memcpy(scr.session, k->session, sizeof(scr.session));
	switch (k->kind) {
	case SP_KID_INGRESS:
		return sp_send_spawn_ingress(l, 0, &ing, fds);
	case SP_KID_RECORDER:
		return sp_send_spawn_recorder(l, 0, &rec, fds);
	case SP_KID_RECOVER:
		return sp_send_spawn_recover(l, 0, &rcv, fds);
	case SP_KID_EGRESS:
	case SP_KID_SQL:
	case SP_KID_HOP:
	case SP_KID_SCAN:
		return sp_send_spawn_egress(l, 0, &egr, fds);
	case SP_KID_PLAYER:
		return sp_send_spawn_player(l, 0, &ply, fds);
	case SP_KID_SCRIBE:
		return sp_send_spawn_scribe(l, 0, &scr, fds);
	case SP_KID_SEARCH:
		return sp_send_spawn_search(l, 0, &sea, fds);
	case SP_KID_AUTH:
		return sp_send_spawn_auth(l, 0, &aut, fds);
	case SP_KID_COUNT:
		break;
	}
	SP_ASSERT(0);
}

/* A parent that cannot take the message is lost, and its kids with it: no
 * error path here. */
static void
ask(struct sp_sup *s, struct sp_kid *k, struct sp_proc *p)
{
	enum sp_err e;

	k->parent = p;
	set_deadline(s, k, sp_boot_us() + ASK_US);
	e = send_spawn(s, &p->link, k);
	k->wires.n_child = 0;
	/* An address layout that is guessed at is not the same for ever. */
	if (++p->n_children >= s->in.cfg.children_per_parent)
		sp_proc_succeed(s, p->rx);
	sp_proc_sent(s, p, e);
}

/* We keep the vault's end of a connection's link, and each vault gets a copy:
 * what is asked while there is none waits in the link. No end is seen there when
 * a vault dies, so a session does not die with it at its next key exchange. */
static void
tell_front(struct sp_sup *s, struct sp_kid *k, struct sp_proc *vault)
{
	struct sp_msg_ingress_link m = {.conn = k->id};
	int fd;

	if (vault == NULL)
		return;
	if ((fd = fcntl(k->front, F_DUPFD_CLOEXEC, 3)) < 0) {
		sp_log(SP_ERROR, "no_front_link", NULL, "errno=%d", errno);
		return;
	}
	sp_proc_sent(s, vault, sp_send_ingress_link(&vault->link, 0, &m, &fd));
}

static enum sp_err
tell_vault(struct sp_sup *s, struct sp_kid *k)
{
	struct sp_proc *v = sp_proc_ready(s, SP_RX_VAULT);
	struct sp_msg_egress_link egr = {0};
	struct sp_msg_player_link ply = {.play = k->ref};
	enum sp_err e;

	if (k->kind == SP_KID_INGRESS) {
		k->front = k->wires.vault[0];
		k->wires.n_vault = 0;
		tell_front(s, k, v);
		return SP_OK;
	}
	if (k->wires.n_vault == 0)
		return SP_OK;
	if (v == NULL)
		return SP_ERR_EOF;
	memcpy(egr.session, k->leg, sizeof(egr.session));
	memcpy(ply.session, k->session, sizeof(ply.session));
	if (k->kind == SP_KID_EGRESS || k->kind == SP_KID_SQL ||
	    k->kind == SP_KID_HOP)
		e = sp_send_egress_link(&v->link, 0, &egr, k->wires.vault);
	else
		e = sp_send_player_link(&v->link, 0, &ply, k->wires.vault);
	k->wires.n_vault = 0;
	sp_proc_sent(s, v, e);
	return e;
}

enum sp_err
sp_kid_spawn(struct sp_sup *s, struct sp_kid *k, int first, int kept)
{
	struct sp_session *sess = sp_session_find(s, k->session);
	struct sp_proc *p;
	enum sp_err e = sp_topology_wire(k->kind, first, kept, &k->wires);

	if (e != SP_OK)
		k->wires = (struct sp_wires){.kept = -1};
	if (e == SP_OK)
		e = tell_vault(s, k);
	if (e != SP_OK) {
		sp_kid_free(s, k);
		return e;
	}
	if (k->kind == SP_KID_RECORDER) {
		SP_ASSERT(sess != NULL && sess->kept < 0);
		sess->kept = k->wires.kept;
		k->wires.kept = -1;
	} else if (k->kind == SP_KID_HOP) {
		SP_ASSERT(sess != NULL);
		sp_leg_keep(sess, k);
	}
	if ((p = sp_proc_ready(s, parent_of[k->kind])) != NULL)
		ask(s, k, p);
	else
		set_deadline(s, k, sp_boot_us() + WAIT_US);
	return SP_OK;
}

/* The broker, whose link ends with the child, often asks to kill it before its
 * parent has told of its end: only our own signal is then no crash. */
static bool
is_crash(const struct sp_kid *k, int status)
{
	return WIFSIGNALED(status) &&
	    (!k->killed || WTERMSIG(status) != SIGKILL);
}

static void
end(struct sp_sup *s, struct sp_kid *k, int status, int err_no, const char *why)
{
	if (k->pid == 0)
		sp_reply_failed(s, k, err_no, why);
	else if (is_crash(k, status))
		sp_log(SP_WARN, "child_died", k->session, "role=%s child_pid=%d"
		    " signal=%d", sp_role_rows[parent_of[k->kind]].exe,
		    (int)k->pid, WTERMSIG(status));
	sp_session_kid_gone(s, k, status);
	sp_kid_free(s, k);
}

enum sp_err
sp_kid_spawned(struct sp_sup *s, struct sp_proc *p,
    const struct sp_msg_spawned *m)
{
	struct sp_kid *k = sp_kid_find(s, m->id);

	if (k == NULL || k->parent != p || k->pid != 0 || m->pid < 2 ||
	    m->pid > INT32_MAX)
		return SP_ERR_PROTO;
	k->pid = (pid_t)m->pid;
	set_deadline(s, k, 0);
	if (k->killed)
		sp_kid_kill(s, k);
	else
		sp_reply_spawned(s, k);
	return SP_OK;
}

enum sp_err
sp_kid_exited(struct sp_sup *s, struct sp_proc *p,
    const struct sp_msg_exited *m)
{
	struct sp_kid *k = sp_kid_find(s, m->id);
	int status = (int)m->status;
	char text[128];
	bool crashed;

	if (k == NULL || k->parent != p || m->pid != (uint32_t)k->pid)
		return SP_ERR_PROTO;
	crashed = k->pid != 0 && is_crash(k, status);
	if (crashed) {
		snprintf(text, sizeof(text), "a child of %s died by signal %d",
		    sp_role_rows[p->rx].exe, WTERMSIG(status));
		sp_sup_event(s, "child_died", k->session, text);
	}
	end(s, k, status, EAGAIN, "it could not be started");
	/* An attacker never tries twice against one address layout. */
	if (crashed && p->state == SP_PROC_READY && s->phase == SP_PHASE_RUNNING)
		sp_proc_retire(s, p);
	return SP_OK;
}

/* The parent named the pid: it may only name its own children. The pidfd pins
 * the process while its parent is read. state: as in proc(5), 0 for any. */
static bool
is_child_of(pid_t pid, pid_t parent, char state)
{
	char path[64], text[512] = "";
	const char *at;
	uint64_t ppid = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return false;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	/* "pid (name) S ppid ...", where name may hold anything */
	if ((at = strrchr(text, ')')) == NULL || strlen(at) < 5)
		return false;
	at += 4;
	if (sp_u64_parse(sp_span_of(at, strspn(at, "0123456789")), INT32_MAX,
	    &ppid) != SP_OK)
		return false;
	return parent > 1 && ppid == (uint64_t)parent &&
	    (state == 0 || at[-2] == state);
}

void
sp_kid_kill(struct sp_sup *s, struct sp_kid *k)
{
	long fd;

	k->killed = true;
	if (k->parent == NULL) {
		end(s, k, 0, ECANCELED, "ended before it began");
		return;
	}
	/* No `exited` in time: the parent itself is ended, and its children. */
	if (k->deadline_us == 0)
		set_deadline(s, k, sp_boot_us() + KILL_US);
	if (k->pid == 0 || k->parent->pid == 0)
		return;
	fd = syscall(SYS_pidfd_open, k->pid, 0);
	if (fd < 0)
		return;		/* gone; `exited` is under way */
	if (is_child_of(k->pid, k->parent->pid, 0))
		syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
	close((int)fd);
}

static void
parent_ready(struct sp_sup *s, struct sp_kid *k, void *arg)
{
	struct sp_proc *p = arg;

	if (p->rx == SP_RX_VAULT && k->front >= 0 && p->state == SP_PROC_READY)
		tell_front(s, k, p);
	if (k->parent == NULL && parent_of[k->kind] == p->rx &&
	    p->state == SP_PROC_READY)
		ask(s, k, p);
}

void
sp_kid_parent_ready(struct sp_sup *s, struct sp_proc *p)
{
	sp_kid_each(s, parent_ready, p);
}

static void
parent_gone(struct sp_sup *s, struct sp_kid *k, void *arg)
{
	if (k->parent != arg)
		return;
	/* Children die with their parent (PR_SET_PDEATHSIG). */
	end(s, k, SIGKILL, EAGAIN, "its parent process ended");
}

void
sp_kid_parent_gone(struct sp_sup *s, struct sp_proc *p)
{
	sp_kid_each(s, parent_gone, p);
}

static void
broker_gone(struct sp_sup *s, struct sp_kid *k, void *arg)
{
	(void)arg;
	k->is_known = false;
	sp_close_fds(k->wires.broker, k->wires.n_broker);
	k->wires.n_broker = 0;	/* also: there is nobody to answer */
	if (k->parent == NULL)
		end(s, k, 0, 0, "");
}

void
sp_kid_broker_gone(struct sp_sup *s)
{
	sp_kid_each(s, broker_gone, NULL);
}

struct tick {
	int64_t now, *next;
};

/* No signal ends who waits in the kernel for a disk. Its parent is not to blame,
 * and its siblings' disks may be well. */
static bool
waits_for_disk(struct sp_kid *k)
{
	if (!is_child_of(k->pid, k->parent->pid, 'D'))
		return false;
	if (!k->is_stuck)
		sp_log(SP_ERROR, "child_waits_for_disk", k->session, "role=%s "
		    "child_pid=%d", sp_role_rows[parent_of[k->kind]].exe,
		    (int)k->pid);
	k->is_stuck = true;
	return true;
}

static void
tick_one(struct sp_sup *s, struct sp_kid *k, void *arg)
{
	const struct tick *t = arg;

	if (k->deadline_us == 0)
		return;
	if (k->deadline_us > t->now) {
		sp_sooner(t->next, k->deadline_us);
		return;
	}
	if (k->parent == NULL) {
		end(s, k, 0, EAGAIN, "its parent process did not start");
		return;
	}
	set_deadline(s, k, 0);
	if (k->pid != 0 && waits_for_disk(k)) {
		set_deadline(s, k, t->now + KILL_US);
		sp_sooner(t->next, k->deadline_us);
		return;
	}
	sp_proc_kill(s, k->parent, k->pid == 0 ? "does not answer" :
	    "its child did not end");
}

void
sp_kid_tick(struct sp_sup *s, int64_t now, int64_t *next)
{
	struct tick t = {.now = now, .next = next};

	if (s->n_timed > 0)
		sp_kid_each(s, tick_one, &t);
}
