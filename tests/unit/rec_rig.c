/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/rec_rig.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "common/parent.h"
#include "common/text.h"

#ifdef SP_SANITIZED
/* Criterion's own runner forgets a block now and then when it runs tests side
 * by side. */
const char *__lsan_default_suppressions(void);
const char *
__lsan_default_suppressions(void)
{
	return "leak:libcriterion\n";
}
#endif

static void
become(const char *program, int link, uint64_t fsize_limit)
{
	const char *dir = getenv("top_builddir");
	char path[512];

	if (fsize_limit != 0) {
		struct rlimit r = {fsize_limit, fsize_limit};

		if (setrlimit(RLIMIT_FSIZE, &r) != 0)
			_exit(96);
	}
	snprintf(path, sizeof(path), "%s/%s", dir == NULL ? "." : dir, program);
	if (link == SP_SUPERVISOR_FD) {
		if (fcntl(link, F_SETFD, 0) != 0)
			_exit(97);
	} else if (dup2(link, SP_SUPERVISOR_FD) < 0) {
		_exit(97);
	}
	execl(path, program, (char *)NULL);
	_exit(98);
}

const char *rig_config = "recording_full_wait_s 1\n";

void
rig_boot(const char *program, uint32_t role, uint64_t fsize_limit,
    struct sp_link *sup, pid_t *pid)
{
	struct sp_msg_start_parent m = {.config =
	    sp_span_str(rig_config)};
	struct sp_packet p;
	int fds[2];

	cr_assert_eq(sp_link_pair(fds), SP_OK);
	cr_assert((*pid = fork()) >= 0);
	if (*pid == 0)
		become(program, fds[1], fsize_limit);
	close(fds[1]);
	cr_assert_eq(sp_link_init(sup, fds[0], SP_ROLE_SUP, role, SP_ST_NEW),
	    SP_OK);
	cr_assert_eq(sp_link_wait(sup, &p, 60000), SP_OK);
	cr_assert_eq(p.type, SP_MSG_hello);
	cr_assert_eq(sp_send_start_parent(sup, 0, &m, NULL), SP_OK);
	cr_assert_eq(sp_link_wait(sup, &p, 60000), SP_OK);
	cr_assert_eq(p.type, SP_MSG_started);
	sup->state = SP_ST_READY;
}

void
rig_start(struct rig *g, const struct rig_opt *o)
{
	*g = (struct rig){.id = 1, .file = -1};
	sp_buf_init(&g->at_user, 64u << 20);
	sp_buf_init(&g->at_target, 64u << 20);
	rec_vault_make(&g->v);
	if (o->config != NULL)
		rig_config = o->config;
	rig_boot("sallyport-recorder", SP_ROLE_REC, o->fsize_limit, &g->sup,
	    &g->parent);
	g->brk.fd = g->user.fd = g->target.fd = -1;
}

void
rig_spawn(struct rig *g)
{
	struct sp_msg_spawn_recorder m = {.id = ++g->id};
	struct sp_msg_spawned s;
	struct sp_packet p;
	int l[2], u[2], t[2];

	randombytes_buf(g->session, 16);
	memcpy(m.session, g->session, 16);
	m.pinned = 1;
	memcpy(m.audit_key, g->v.audit_pk, 32);
	memcpy(m.recording_key, g->v.box_pk, 32);
	cr_assert_eq(sp_link_pair(l), SP_OK);
	cr_assert_eq(sp_stream_pair(u), SP_OK);
	cr_assert_eq(sp_stream_pair(t), SP_OK);
	cr_assert_eq(sp_send_spawn_recorder(&g->sup, 0, &m, (int[]){
	    fcntl(g->file, F_DUPFD_CLOEXEC, 0), l[1], u[1], t[1]}), SP_OK);
	cr_assert_eq(sp_link_wait(&g->sup, &p, 60000), SP_OK);
	cr_assert_eq(p.type, SP_MSG_spawned);
	cr_assert_eq(sp_dec_spawned(p.body, &s), SP_OK);
	g->child = (pid_t)s.pid;
	cr_assert_eq(sp_link_init(&g->brk, l[0], SP_ROLE_BRK, SP_ROLE_REC,
	    SP_ST_NEW), SP_OK);
	cr_assert_eq(sp_stream_init(&g->user, u[0], false), SP_OK);
	cr_assert_eq(sp_stream_init(&g->target, t[0], true), SP_OK);
}

void
rec_rules(struct sp_buf *b, const struct sp_rules *rules, uint32_t rights)
{
	static struct sp_rules plain;

	plain = (struct sp_rules){.rights = rights, .n_env = 1, .env = {"*"}};
	cr_assert_eq(sp_rules_encode(b, rules != NULL ? rules : &plain), SP_OK);
}

void
rig_session(struct rig *g, const struct rig_opt *o)
{
	SP_BUF_AUTO rules = {.max = SP_RULES_ENCODED_MAX};
	struct sp_msg_rec_open m = {
	    .durability = o->durability == 0 ? SP_DURABLE_INPUT : o->durability,
	    .reserve_bytes = o->reserve_bytes,
	    .meta = sp_span_str("{\"user\":\"alice\"}")};
	struct sp_msg_rec_opened opened;
	struct sp_msg_rec_cert cert;
	struct sp_packet p;

	rec_rules(&rules, o->rules, o->rights);
	m.rules = sp_buf_span(&rules);
	g->file = o->file > 0 ? o->file : rec_file();
	rig_spawn(g);
	memcpy(m.session, g->session, 16);
	memcpy(m.audit_key, g->v.audit_pk, 32);
	cr_assert_eq(sp_send_rec_open(&g->brk, 0, &m, NULL), SP_OK);
	cr_assert_eq(sp_link_wait(&g->brk, &p, 60000), SP_OK);
	cr_assert_eq(p.type, SP_MSG_rec_opened);
	cr_assert_eq(sp_dec_rec_opened(p.body, &opened), SP_OK);
	g->brk.state = SP_ST_READY;
	rec_vault_sign_recording(&g->v, g->session, opened.rec_key,
	    opened.header_hash, opened.opened_us, cert.signature);
	cr_assert_eq(sp_send_rec_cert(&g->brk, 0, &cert, NULL), SP_OK);
	cr_assert_eq(sp_link_wait(&g->brk, &p, 60000), SP_OK);
	cr_assert_eq(p.type, SP_MSG_rec_point);	/* its OPEN, for the log */
	cr_assert_eq(sp_link_wait(&g->brk, &p, 60000), SP_OK);
	cr_assert_eq(p.type, SP_MSG_rec_ready);
	g->brk.state = SP_ST_LIVE;
}

static void
take_stream(struct rig *g, struct sp_stream *s, bool is_user, bool *any)
{
	struct sp_buf *to = is_user ? &g->at_user : &g->at_target;
	struct sp_frame f;
	enum sp_err e;

	while (s->fd >= 0 && sp_stream_fill(s) == SP_OK) {
		*any = true;
		while ((e = sp_stream_next(s, &f)) == SP_OK) {
			struct sp_span p = f.payload, t;

			if (f.type == SP_FRAME_CREDIT && is_user) {
				uint32_t n = 0;

				cr_assert_eq(sp_get_u32(&p, &n), SP_OK);
				g->credit_user += n;
			}
			g->n_opened += f.type == SP_FRAME_OPEN;
			if (f.type == SP_FRAME_DATA)
				cr_assert_eq(sp_buf_put(to, p.p, p.n), SP_OK);
			if (f.type == SP_FRAME_NOTICE &&
			    sp_get_bytes(&p, 1024, &t) == SP_OK)
				cr_assert_eq(sp_span_cstr(t, g->notice,
				    sizeof(g->notice)), SP_OK);
			if (f.type != SP_FRAME_END)
				continue;
			*(is_user ? &g->user_end : &g->target_end) = true;
			cr_assert_eq(sp_get_u8(&p, &g->end_code), SP_OK);
			cr_assert_eq(sp_get_bytes(&p, 1024, &t), SP_OK);
			cr_assert_eq(sp_span_cstr(t, g->end_text,
			    sizeof(g->end_text)), SP_OK);
		}
		cr_assert_eq(e, SP_ERR_AGAIN, "%s: %s", sp_err_text(e), s->fault);
	}
	(void)!sp_stream_flush(s);
}

static void
take_broker(struct rig *g, bool *any)
{
	struct sp_packet p;

	while (g->brk.fd >= 0 && sp_link_recv(&g->brk, &p) == SP_OK) {
		struct sp_msg_rec_event ev;

		*any = true;
		if (p.type == SP_MSG_rec_closed) {
			cr_assert_eq(sp_dec_rec_closed(p.body, &g->closed), SP_OK);
			cr_assert_eq(sp_span_cstr(g->closed.reason, g->reason,
			    sizeof(g->reason)), SP_OK);
			g->closed.reason = sp_span_str(g->reason);
		} else if (p.type == SP_MSG_rec_scribe_want) {
			g->wants++;
			if (g->on_want != NULL)
				g->on_want(g);
		} else if (p.type == SP_MSG_rec_held) {
			struct sp_msg_rec_held h;

			cr_assert_eq(sp_dec_rec_held(p.body, &h), SP_OK);
			cr_assert_leq(h.slot, 1);
			g->held[h.slot] = h.number;
			if (h.number == 0)
				continue;
			g->n_held++;
			g->held_kind = h.kind;
			cr_assert_eq(sp_span_cstr(h.text, g->held_text,
			    sizeof(g->held_text)), SP_OK);
		} else if (p.type == SP_MSG_rec_event) {
			size_t n = strlen(g->events);

			cr_assert_eq(sp_dec_rec_event(p.body, &ev), SP_OK);
			snprintf(g->events + n, sizeof(g->events) - n,
			    "%.*s %u %.*s\n", (int)ev.what.n,
			    (const char *)ev.what.p, ev.chan, (int)ev.detail.n,
			    (const char *)ev.detail.p);
		}
	}
}

void
rig_pump(struct rig *g, bool (*until)(struct rig *), int ms)
{
	int64_t end = sp_boot_us() + (int64_t)ms * 1000;

	for (;;) {
		struct pollfd pf[3] = {{.fd = g->user.eof ? -1 : g->user.fd,
		    .events = POLLIN}, {.fd = g->target.eof ? -1 : g->target.fd,
		    .events = POLLIN}, {.fd = g->brk.fd, .events = POLLIN}};
		bool any = false;
		int64_t left;

		take_stream(g, &g->user, true, &any);
		take_stream(g, &g->target, false, &any);
		take_broker(g, &any);
		left = (end - sp_boot_us()) / 1000;
		if ((until != NULL && until(g)) || left <= 0)
			return;
		if (any)
			continue;
		if (sp_stream_pending(&g->user) > 0 && !g->user.eof)
			pf[0].events |= POLLOUT;
		if (sp_stream_pending(&g->target) > 0 && !g->target.eof)
			pf[1].events |= POLLOUT;
		if (poll(pf, 3, left > 50 ? 50 : (int)left) < 0 && errno != EINTR)
			return;
	}
}

void
rig_send_user(struct rig *g, uint8_t type, uint32_t chan, struct sp_span s)
{
	cr_assert_eq(sp_stream_put(&g->user, type, 0, chan, s), SP_OK);
	(void)!sp_stream_flush(&g->user);
}

void
rig_send_target(struct rig *g, uint8_t type, uint8_t lane, uint32_t chan,
    struct sp_span s)
{
	cr_assert_eq(sp_stream_put(&g->target, type, lane, chan, s), SP_OK);
	(void)!sp_stream_flush(&g->target);
}

void
rig_open(struct rig *g, uint32_t chan, uint8_t kind, const char *command)
{
	struct sp_open o = {.kind = kind, .has_pty = kind == SP_OPEN_SHELL,
	    .cols = 80, .rows = 24, .term = sp_span_str("xterm"),
	    .command = sp_span_str(command)};
	SP_BUF_AUTO b = {.max = 40000};
	struct sp_frame f;
	enum sp_err e;

	cr_assert_eq(sp_open_encode(&b, &o), SP_OK);
	rig_send_user(g, SP_FRAME_OPEN, chan, sp_buf_span(&b));
	while ((e = sp_stream_next(&g->target, &f)) == SP_ERR_AGAIN) {
		struct pollfd pf = {.fd = g->target.fd, .events = POLLIN};

		cr_assert(poll(&pf, 1, 5000) == 1, "OPEN did not arrive");
		e = sp_stream_fill(&g->target);
		cr_assert_eq(e, SP_OK);
	}
	cr_assert_eq(e, SP_OK);
	cr_assert_eq(f.type, SP_FRAME_OPEN);
	cr_assert_eq(f.chan, chan);
	rig_send_target(g, SP_FRAME_OPEN_OK, 0, chan, (struct sp_span){0});
}

bool
rig_is_closed(struct rig *g)
{
	return g->closed.reason.p != NULL;
}

void
rig_wait_closed(struct rig *g)
{
	rig_pump(g, rig_is_closed, 10000);
	cr_assert(rig_is_closed(g), "no rec_closed came");
}

int
rig_wait_exit(struct rig *g)
{
	struct sp_msg_exited m;
	struct sp_packet p;

	cr_assert_eq(sp_link_wait(&g->sup, &p, 60000), SP_OK);
	cr_assert_eq(p.type, SP_MSG_exited);
	cr_assert_eq(sp_dec_exited(p.body, &m), SP_OK);
	cr_assert_eq(m.pid, (uint32_t)g->child);
	sp_stream_fini(&g->user);
	sp_stream_fini(&g->target);
	sp_link_fini(&g->brk);
	return (int)m.status;
}

void
rig_stop(struct rig *g)
{
	int st;

	sp_stream_fini(&g->user);
	sp_stream_fini(&g->target);
	sp_link_fini(&g->brk);
	sp_link_fini(&g->sup);
	cr_assert_eq(waitpid(g->parent, &st, 0), g->parent);
	cr_assert(WIFEXITED(st) && WEXITSTATUS(st) == 0, "status 0x%x", st);
	if (g->file >= 0)
		close(g->file);
	sp_buf_fini(&g->at_user);
	sp_buf_fini(&g->at_target);
}
