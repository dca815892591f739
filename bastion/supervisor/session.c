/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/supervisor/sup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME_BYTES (SP_UUID_TEXT + 8)

struct sp_session *
sp_session_find(struct sp_sup *s, const uint8_t *id)
{
	struct sp_session *x = s->sessions;

	while (x != NULL && memcmp(x->id, id, sizeof(x->id)) != 0)
		x = x->next;
	return x;
}

static struct sp_session *
session_new(struct sp_sup *s, const uint8_t *id)
{
	struct sp_session *x;

	if (s->n_sessions >= SP_SESSIONS_MAX ||
	    (x = calloc(1, sizeof(*x))) == NULL)
		return NULL;
	memcpy(x->id, id, sizeof(x->id));
	x->kept = -1;
	for (size_t i = 0; i < SP_HOPS_MAX; i++)
		x->hops[i].kept = -1;
	x->next = s->sessions;
	s->sessions = x;
	s->n_sessions++;
	return x;
}

static void
drop_if_over(struct sp_sup *s, struct sp_session *x)
{
	struct sp_session **at = &s->sessions;

	if (x->rec != NULL || sp_leg_is_any(x) || x->is_dialing)
		return;
	while (*at != x)
		at = &(*at)->next;
	*at = x->next;
	s->n_sessions--;
	sp_close_fds(&x->kept, 1);
	free(x);
}

static void
file_name(char name[static NAME_BYTES], const uint8_t *id, const char *ext)
{
	char text[SP_UUID_TEXT];

	sp_uuid_text(text, id);
	snprintf(name, NAME_BYTES, "%s.%s", text, ext);
}

int
sp_open_recording(struct sp_sup *s, const uint8_t *id, const char *ext, int flags)
{
	char name[NAME_BYTES];
	struct stat st;
	int fd;

	file_name(name, id, ext);
	fd = openat(s->in.recordings, name, flags | O_CLOEXEC | O_NOFOLLOW |
	    O_NONBLOCK, 0600);
	if (fd >= 0 && (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))) {
		close(fd);
		errno = EINVAL;
		return -1;
	}
	return fd;
}

static bool
is_closed(struct sp_sup *s, const uint8_t *id)
{
	char name[NAME_BYTES];

	file_name(name, id, "spr");
	return faccessat(s->in.recordings, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void
close_name(struct sp_sup *s, const uint8_t *id)
{
	char from[NAME_BYTES], to[NAME_BYTES];
	int d = s->in.recordings, bad;

	file_name(from, id, "open");
	file_name(to, id, "spr");
	bad = renameat2(d, from, d, to, RENAME_NOREPLACE);
	/* Filesystems without the flag; only this process makes names here. */
	if (bad != 0 && (errno == EINVAL || errno == ENOSYS) && !is_closed(s, id))
		bad = renameat(d, from, d, to);
	if (bad != 0 && errno == ENOENT && is_closed(s, id))
		return;		/* a recovery that found it whole */
	if (bad != 0 && !(errno == ENOENT && is_closed(s, id)))
		sp_log(SP_ERROR, "recording_rename_failed", id, "errno=%d", errno);
}

static void
fail(struct sp_sup *s, uint64_t corr, const uint8_t *id, int err_no,
    const char *text)
{
	struct sp_failure f = {.corr = corr, .session = id, .err_no = err_no,
	    .text = text};

	sp_reply_failure(s, &f);
}

/* A recorder for a new file (SP_KID_RECORDER) or an unfinished one. */
static void
spawn_on_file(struct sp_sup *s, enum sp_kid_kind kind, uint64_t corr,
    const uint8_t *id, int fd)
{
	struct sp_session *x = session_new(s, id);
	struct sp_kid *k = x == NULL ? NULL : sp_kid_new(s, kind, id);
	enum sp_err e;

	if (k == NULL) {
		close(fd);
		if (x != NULL)
			drop_if_over(s, x);
		fail(s, corr, id, EAGAIN, "too many sessions");
		return;
	}
	k->corr = corr;
	x->rec = k;
	x->is_recovery = kind == SP_KID_RECOVER;
	if ((e = sp_kid_spawn(s, k, fd, -1)) == SP_OK)
		return;
	x->rec = NULL;
	drop_if_over(s, x);
	fail(s, corr, id, EMFILE, sp_err_text(e));
}

static enum sp_err
on_session_spawn(struct sp_sup *s, struct sp_packet *p)
{
	struct sp_msg_session_spawn m;
	char name[NAME_BYTES];
	int fd, err_no;

	SP_TRY(sp_dec_session_spawn(p->body, &m));
	if (sp_uuid_is_nil(m.session) || sp_session_find(s, m.session) != NULL ||
	    is_closed(s, m.session)) {
		fail(s, p->corr, m.session, EEXIST, "this session exists already");
		return SP_OK;
	}
	fd = sp_open_recording(s, m.session, "open", O_RDWR | O_CREAT | O_EXCL);
	if (fd < 0) {
		err_no = errno;
		fail(s, p->corr, m.session, err_no, strerror(err_no));
		return SP_OK;
	}
	spawn_on_file(s, SP_KID_RECORDER, p->corr, m.session, fd);
	if (sp_session_find(s, m.session) == NULL) {
		file_name(name, m.session, "open");	/* empty, nobody's */
		unlinkat(s->in.recordings, name, 0);
	}
	return SP_OK;
}

static enum sp_err
on_recover(struct sp_sup *s, struct sp_packet *p)
{
	struct sp_msg_recover m;
	int fd, err_no;

	SP_TRY(sp_dec_recover(p->body, &m));
	if (sp_session_find(s, m.session) != NULL) {
		fail(s, p->corr, m.session, EBUSY, "its recorder still runs");
		return SP_OK;
	}
	fd = sp_open_recording(s, m.session, "open", O_RDWR);
	/* Closed while the broker was away: read what it missed, no more. */
	if (fd < 0 && errno == ENOENT)
		fd = sp_open_recording(s, m.session, "spr", O_RDONLY);
	if (fd < 0) {
		err_no = errno;
		fail(s, p->corr, m.session, err_no, strerror(err_no));
		return SP_OK;
	}
	spawn_on_file(s, SP_KID_RECOVER, p->corr, m.session, fd);
	return SP_OK;
}

static enum sp_err
on_play_spawn(struct sp_sup *s, struct sp_packet *p)
{
	struct sp_msg_play_spawn m;
	struct sp_failure f = {.corr = p->corr, .session = m.session};
	struct sp_kid *k;
	enum sp_err e;
	int fd;

	SP_TRY(sp_dec_play_spawn(p->body, &m));
	f.id = m.play;
	fd = sp_open_recording(s, m.session, "spr", O_RDONLY);
	if (fd < 0 && errno == ENOENT)
		fd = sp_open_recording(s, m.session, "open", O_RDONLY);
	if (fd < 0) {
		f.err_no = errno;
		f.text = errno == ENOENT ? "the recording is missing" :
		    strerror(errno);
		sp_reply_failure(s, &f);
		return SP_OK;
	}
	f.err_no = EAGAIN;
	if ((k = sp_kid_new(s, SP_KID_PLAYER, m.session)) == NULL) {
		close(fd);
		f.text = "too many viewers";
		sp_reply_failure(s, &f);
		return SP_OK;
	}
	k->corr = p->corr;
	k->ref = m.play;
	if ((e = sp_kid_spawn(s, k, fd, -1)) != SP_OK) {
		f.text = e == SP_ERR_EOF ? "the vault is away" : sp_err_text(e);
		sp_reply_failure(s, &f);
	}
	return SP_OK;
}

static enum sp_err
on_session_dial(struct sp_sup *s, struct sp_packet *p)
{
	struct sp_msg_session_dial m;
	struct sp_session *x;
	struct sp_dial_ask a = {.corr = p->corr};
	struct sp_leg l = {.corr = p->corr};
	const char *why;
	int fd;

	SP_TRY(sp_dec_session_dial(p->body, &m));
	x = sp_session_find(s, m.session);
	why = x == NULL ? "there is no such session" : sp_leg_refused(x, m.leg);
	if (why == NULL && !sp_uuid_is_nil(m.via)) {
		l.id = m.leg;
		l.more = m.more != 0;
		l.sql = m.sql != 0;
		if ((fd = sp_leg_take(x, m.via)) < 0)
			why = "the way there is gone";
		else if ((why = sp_leg_start(s, x, &l, fd)) == NULL)
			return SP_OK;
	}
	if (why != NULL) {
		fail(s, p->corr, m.session, ENOTCONN, why);
		return SP_OK;
	}
	a.session = m.session;
	a.leg = m.leg;
	a.more = m.more != 0;
	a.sql = m.sql != 0;
	a.addr = m.addr;
	a.port = m.port;
	a.deadline_ms = m.deadline_ms;
	x->is_dialing = x->was_dialed = true;
	sp_dial_begin(s, &a);
	return SP_OK;
}

static void
kill_scribe(struct sp_sup *s, struct sp_session *x)
{
	struct sp_kid *k = x->scribe;

	x->scribe = NULL;
	if (k != NULL)
		sp_kid_kill(s, k);
}

/* One that is there already is stopped or slow: its recorder wants another. The
 * broker hears of no failure: the recorder asks again. */
static enum sp_err
on_scribe_spawn(struct sp_sup *s, struct sp_packet *p)
{
	struct sp_msg_scribe_spawn m;
	struct sp_session *x;
	struct sp_kid *k;

	SP_TRY(sp_dec_scribe_spawn(p->body, &m));
	x = sp_session_find(s, m.session);
	if (x == NULL || x->rec == NULL || x->is_recovery)
		return SP_OK;
	kill_scribe(s, x);
	if ((k = sp_kid_new(s, SP_KID_SCRIBE, m.session)) == NULL)
		return SP_OK;
	x->scribe = k;
	if (sp_kid_spawn(s, k, -1, -1) != SP_OK)
		x->scribe = NULL;
	return SP_OK;
}

static enum sp_err
on_session_settled(struct sp_sup *s, struct sp_packet *p)
{
	struct sp_msg_session_settled m;
	struct sp_session *x;

	SP_TRY(sp_dec_session_settled(p->body, &m));
	x = sp_session_find(s, m.session);
	if (x == NULL)
		return SP_OK;	/* it has ended meanwhile */
	/* Also when the egress is gone already: now the recorder sees it. */
	sp_close_fds(&x->kept, 1);
	x->kept = -1;
	return SP_OK;
}

static enum sp_err
on_session_kill(struct sp_sup *s, struct sp_packet *p)
{
	struct sp_msg_session_kill m;
	struct sp_session *x;

	SP_TRY(sp_dec_session_kill(p->body, &m));
	sp_dial_abort(s, m.session, "the session was ended");
	sp_leg_kill_all(s, m.session);
	if ((x = sp_session_find(s, m.session)) != NULL && x->rec != NULL)
		sp_kid_kill(s, x->rec);
	return SP_OK;
}

static enum sp_err
on_scan_key(struct sp_sup *s, struct sp_packet *p)
{
	struct sp_msg_scan_key m;
	struct sp_dial_ask a = {.is_scan = true, .corr = p->corr};

	SP_TRY(sp_dec_scan_key(p->body, &m));
	a.scan_id = m.id;
	a.addr = m.addr;
	a.port = m.port;
	a.deadline_ms = m.deadline_ms;
	sp_dial_begin(s, &a);
	return SP_OK;
}

static enum sp_err
on_conn(struct sp_sup *s, struct sp_packet *p)
{
	struct sp_span body = p->body;
	struct sp_msg_conn_source source = {0};
	struct sp_kid *k;
	uint64_t id;

	/* The table has checked the body: each begins with the connection. */
	SP_TRY(sp_get_u64(&body, &id));
	k = sp_kid_find(s, id);
	if (k == NULL || k->kind != SP_KID_INGRESS)
		return SP_OK;	/* it has ended meanwhile */
	switch (p->type) {
	case SP_MSG_conn_kill:
		sp_kid_kill(s, k);
		return SP_OK;
	case SP_MSG_conn_keyed:
		k->is_keyed = true;
		return SP_OK;
	case SP_MSG_conn_authed:
		sp_source_authed(s, k);
		return SP_OK;
	default:
		SP_TRY(sp_dec_conn_source(p->body, &source));
		return sp_source_named(s, k, source.peer_addr);
	}
}

enum sp_err
sp_session_packet(struct sp_sup *s, struct sp_packet *p)
{
	struct sp_msg_auth_spawn auth;

	switch (p->type) {
	case SP_MSG_conn_kill:
	case SP_MSG_conn_authed:
	case SP_MSG_conn_keyed:
	case SP_MSG_conn_source:
		return on_conn(s, p);
	case SP_MSG_auth_spawn:
		SP_TRY(sp_dec_auth_spawn(p->body, &auth));
		sp_auth_spawn(s, p->corr, auth.login);
		return SP_OK;
	case SP_MSG_session_spawn:
		return on_session_spawn(s, p);
	case SP_MSG_session_dial:
		return on_session_dial(s, p);
	case SP_MSG_session_settled:
		return on_session_settled(s, p);
	case SP_MSG_session_kill:
		return on_session_kill(s, p);
	case SP_MSG_scribe_spawn:
		return on_scribe_spawn(s, p);
	case SP_MSG_recover:
		return on_recover(s, p);
	case SP_MSG_play_spawn:
		return on_play_spawn(s, p);
	case SP_MSG_search_spawn:
		return sp_on_search_spawn(s, p);
	case SP_MSG_search_open:
		return sp_on_search_open(s, p);
	case SP_MSG_scan_key:
		return on_scan_key(s, p);
	default:
		return SP_ERR_PROTO;
	}
}

static void
tell_child_end(struct sp_sup *s, const struct sp_kid *k, uint16_t role,
    int status)
{
	struct sp_proc *b = sp_proc_ready(s, SP_RX_BROKER);
	struct sp_msg_session_child_end m = {.role = role,
	    .status = (uint32_t)status};

	if (k->pid == 0 || b == NULL)
		return;		/* it never was: spawn_failed said so */
	memcpy(m.session, k->session, sizeof(m.session));
	memcpy(m.leg, k->leg, sizeof(m.leg));
	sp_proc_sent(s, b, sp_send_session_child_end(&b->link, 0, &m, NULL));
}

static void
recorder_gone(struct sp_sup *s, struct sp_session *x, struct sp_kid *k,
    int status)
{
	char name[NAME_BYTES];
	bool is_nothing = k->pid == 0 || (WIFEXITED(status) &&
	    WEXITSTATUS(status) == SP_EXIT_NOTHING_RECORDED);

	x->rec = NULL;
	if (k->pid != 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		close_name(s, x->id);
	file_name(name, x->id, "open");
	is_nothing = is_nothing || (!x->was_dialed && sp_unnamed_is_empty(s, name));
	if (k->kind == SP_KID_RECORDER && is_nothing)
		unlinkat(s->in.recordings, name, 0);
	sp_close_fds(&x->kept, 1);
	x->kept = -1;
	kill_scribe(s, x);	/* one that is stopped sees no link end */
	tell_child_end(s, k, SP_ROLE_REC, status);
	if (k->kind == SP_KID_RECORDER && !is_nothing && !x->was_dialed)
		sp_unnamed_tell(s, x);
	if (x->is_dialing)
		sp_dial_abort(s, x->id, "the recorder ended");
}

static void
tell_conn_end(struct sp_sup *s, const struct sp_kid *k, int status)
{
	struct sp_proc *b = sp_proc_ready(s, SP_RX_BROKER);
	struct sp_msg_conn_end m = {.conn = k->id, .status = (uint32_t)status};

	if (k->is_known && b != NULL)
		sp_proc_sent(s, b, sp_send_conn_end(&b->link, 0, &m, NULL));
}

void
sp_session_kid_gone(struct sp_sup *s, struct sp_kid *k, int status)
{
	struct sp_session *x;

	if (k->kind == SP_KID_INGRESS) {
		tell_conn_end(s, k, status);
		return;
	}
	if ((x = sp_session_find(s, k->session)) == NULL)
		return;
	if (k->kind == SP_KID_SCRIBE) {
		if (x->scribe == k)
			x->scribe = NULL;
		return;
	}
	if (x->rec == k) {
		recorder_gone(s, x, k, status);
	} else if (sp_leg_gone(x, k)) {
		tell_child_end(s, k, SP_ROLE_EGR, status);
	}
	/* An aborted dial may have been the last of it. */
	if ((x = sp_session_find(s, k->session)) != NULL)
		drop_if_over(s, x);
}

void
sp_session_free_all(struct sp_sup *s)
{
	struct sp_session *x;

	while ((x = s->sessions) != NULL) {
		s->sessions = x->next;
		sp_close_fds(&x->kept, 1);
		for (size_t i = 0; i < SP_HOPS_MAX; i++)
			sp_close_fds(&x->hops[i].kept, 1);
		free(x);
	}
	s->n_sessions = 0;
}
