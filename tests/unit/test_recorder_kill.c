/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill -9 of the recorder at a random moment, under load: not one byte that was
 * forwarded may be missing, and what is in the file must be whole. 300 trials
 * here; `make kill-trials` does SP_KILL_TRIALS (10,000), with SP_KILL_SEED.
 *
 * A timer's signal handler kills, so the moment has nothing to do with what the
 * test does: in the middle of a write, of a hash, of a checkpoint, of the end, of
 * the recovery.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "common/text.h"
#include "tests/unit/rec_check.h"

#define TRIALS 300
#define LOAD_MAX (3u << 20)	/* bytes a side and trial */
#define PIECE_MAX 32768

enum load { LOAD_KEYS, LOAD_BULK, LOAD_BOTH, LOAD_END, LOAD_KINDS };

static uint64_t state;
static volatile sig_atomic_t victim;

static uint32_t
rnd(uint32_t n)
{
	state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (uint32_t)(state >> 33) % n;
}

static uint64_t
number_from(const char *name, uint64_t def)
{
	const char *t = getenv(name);
	uint64_t n = def;

	if (t != NULL && t[0] != '\0')
		cr_assert_eq(sp_u64_parse(sp_span_str(t), UINT32_MAX, &n), SP_OK);
	return n;
}

static void
strike(int sig)
{
	(void)sig;
	if (victim > 0)
		(void)!kill((pid_t)victim, SIGKILL);
}

static void
strike_in(pid_t pid, uint32_t us)
{
	struct itimerval t = {.it_value = {.tv_usec = (suseconds_t)us + 1}};

	victim = pid;
	cr_assert_eq(setitimer(ITIMER_REAL, &t, NULL), 0);
}

static void
no_strike(void)
{
	struct itimerval t = {0};

	cr_assert_eq(setitimer(ITIMER_REAL, &t, NULL), 0);
	victim = 0;
}

/* Puts a piece on one side, if it has room and the other end still lives. */
static void
offer(struct sp_stream *s, bool from_user, size_t n, size_t *sent)
{
	static uint8_t block[PIECE_MAX];

	if (s->eof || *sent + n > LOAD_MAX || sp_stream_pending(s) > 4 * PIECE_MAX)
		return;
	for (size_t k = 0; k < n; k += 1 + rnd(9))
		block[k] = (uint8_t)rnd(256);
	if (sp_stream_put(s, SP_FRAME_DATA, from_user ? 0 : 1, 1,
	    sp_span_of(block, n)) == SP_OK)
		*sent += n;
	(void)!sp_stream_flush(s);
}

static void
grant(struct rig *g, uint32_t n)
{
	(void)!sp_stream_put_u32(&g->user, SP_FRAME_CREDIT, 1, n);
	(void)!sp_stream_put_u32(&g->target, SP_FRAME_CREDIT, 1, n);
}

static bool
is_dead(struct rig *g)
{
	return g->user.eof || g->target.eof || rig_is_closed(g);
}

static void
work(struct rig *g, enum load load)
{
	size_t up = 0, down = 0, told = 0;

	while (!is_dead(g)) {
		size_t n = load == LOAD_KEYS || (load == LOAD_BOTH && rnd(2) == 0) ?
		    1 + rnd(40) : 1 + rnd(PIECE_MAX);

		if (load != LOAD_BULK)
			offer(&g->user, true, load == LOAD_KEYS ? 1 + rnd(3) : n, &up);
		offer(&g->target, false, n, &down);
		if (g->at_user.len + g->at_target.len > told + 65536) {
			told = g->at_user.len + g->at_target.len;
			grant(g, 131072);
		}
		rig_pump(g, is_dead, up + down >= LOAD_MAX ? 20 : (int)rnd(2));
		if (load == LOAD_END && rnd(6) == 0)
			(void)!shutdown(g->user.fd, SHUT_WR);
	}
	rig_pump(g, NULL, 2);
}

static bool
recover_once(struct rig *g, bool is_struck, struct sp_msg_rec_recovered *m)
{
	struct sp_msg_spawn_recover q = {.id = ++g->id};
	struct sp_msg_rec_seal seal = {.at_us = sp_now_us()};
	struct sp_msg_spawned s;
	struct sp_msg_exited x;
	struct sp_packet p;
	struct sp_link l;
	enum sp_err e;
	int fds[2];

	memcpy(q.session, g->session, 16);
	cr_assert_eq(sp_link_pair(fds), SP_OK);
	cr_assert_eq(sp_send_spawn_recover(&g->sup, 0, &q, (int[]){
	    fcntl(g->file, F_DUPFD_CLOEXEC, 0), fds[1]}), SP_OK);
	cr_assert_eq(sp_link_init(&l, fds[0], SP_ROLE_BRK, SP_ROLE_REC,
	    SP_ST_NEW), SP_OK);
	cr_assert_eq(sp_link_wait(&g->sup, &p, 60000), SP_OK);
	cr_assert_eq(p.type, SP_MSG_spawned);
	cr_assert_eq(sp_dec_spawned(p.body, &s), SP_OK);
	if (is_struck)
		strike_in((pid_t)s.pid, rnd(4000));
	do	/* what of it is for the transparency log comes first */
		e = sp_link_wait(&l, &p, 60000);
	while (e == SP_OK && p.type == SP_MSG_rec_point);
	if (e == SP_OK) {
		cr_assert_eq(p.type, SP_MSG_rec_recovered);
		cr_assert_eq(sp_dec_rec_recovered(p.body, m), SP_OK);
		l.state = SP_ST_READY;
		rec_vault_sign_recovered(&g->v, g->session, m->head, m->chunks,
		    seal.at_us, seal.signature);
		if (m->closed == 0)
			(void)!sp_send_rec_seal(&l, 0, &seal, NULL);
	}
	cr_assert_eq(sp_link_wait(&g->sup, &p, 60000), SP_OK);
	cr_assert_eq(p.type, SP_MSG_exited);
	cr_assert_eq(sp_dec_exited(p.body, &x), SP_OK);
	no_strike();
	sp_link_fini(&l);
	cr_assert(is_struck || x.status == 0, "status 0x%x", x.status);
	return x.status == 0;
}

struct tally {
	unsigned cut, ended, twice;
	uint64_t forwarded;
};

/* What stands in the file while nobody has touched it after the kill. */
static bool
was_ended(struct rig *g, struct tally *t)
{
	struct sp_rec_report r;
	enum sp_rec_verdict v = sp_rec_verify(g->file, g->v.audit_pk, NULL, &r);

	cr_assert(v == SP_REC_OPEN || v == SP_REC_CUT || v == SP_REC_INTACT,
	    "%s: %s", sp_rec_verdict_name(v), r.text);
	t->cut += v == SP_REC_CUT;
	t->ended += v == SP_REC_INTACT;
	return v == SP_REC_INTACT;
}

static void
settle(struct rig *g, struct tally *t)
{
	bool is_ended = was_ended(g, t), again = rnd(4) == 0;
	struct sp_msg_rec_recovered m = {0};
	struct sp_rec_report r;

	if (again && !recover_once(g, true, &m)) {
		t->twice++;
		cr_assert(recover_once(g, false, &m));
	} else if (!again) {
		cr_assert(recover_once(g, false, &m));
	}
	cr_assert(!is_ended || m.closed == 1);
	cr_assert_eq(sp_rec_verify(g->file, g->v.audit_pk, NULL, &r),
	    is_ended ? SP_REC_INTACT : SP_REC_RECOVERED, "%s", r.text);
	check_nothing_unrecorded(g);
	t->forwarded += g->at_user.len + g->at_target.len;
}

static void
trial(struct rig *g, struct tally *t)
{
	struct rig_opt o = usual;
	enum load load = rnd(LOAD_KINDS);

	o.durability = (uint8_t)(1 + rnd(3));
	if (g->file >= 0)
		close(g->file);
	g->file = -1;
	g->closed = (struct sp_msg_rec_closed){0};
	g->user_end = g->target_end = false;
	g->events[0] = '\0';
	sp_buf_reset(&g->at_user);
	sp_buf_reset(&g->at_target);
	rig_session(g, &o);
	rig_open(g, 1, SP_OPEN_SHELL, "");
	strike_in(g->child, rnd(rnd(4) == 0 ? 60000 : 12000));
	work(g, load);
	/* Whoever closed in time is let go; who did not is struck by now or soon. */
	(void)rig_wait_exit(g);
	no_strike();
	settle(g, t);
}

Test(recorder_kill, forwards_nothing_that_is_not_in_the_file)
{
	uint64_t trials = number_from("SP_KILL_TRIALS", TRIALS);
	struct sigaction sa = {.sa_handler = strike};
	struct tally t = {0};
	struct rig g;

	state = number_from("SP_KILL_SEED", 1);
	cr_assert_eq(sigaction(SIGALRM, &sa, NULL), 0);
	rig_start(&g, &usual);
	for (uint64_t i = 0; i < trials; i++) {
		trial(&g, &t);
		if (trials > TRIALS && i % 500 == 499)
			fprintf(stderr, "%llu trials: 0 of %llu forwarded bytes "
			    "lost\n", (unsigned long long)(i + 1),
			    (unsigned long long)t.forwarded);
	}
	fprintf(stderr, "kill -9: %llu trials, %llu bytes forwarded, none lost; %u "
	    "files were cut inside a chunk, %u had their end, %u recoveries were "
	    "killed as well\n", (unsigned long long)trials,
	    (unsigned long long)t.forwarded, t.cut, t.ended, t.twice);
	cr_assert(t.ended < trials);
	rig_stop(&g);
}
