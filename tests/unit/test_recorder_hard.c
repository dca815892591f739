/* SPDX-License-Identifier: Apache-2.0 */
/* The recorder under kill -9 and on a full disk: what came out is in the file. */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "common/text.h"
#include "tests/support/tmp.h"
#include "tests/unit/rec_check.h"

#define RUNS 50

static uint32_t seed = 99;
static uint32_t
rnd(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

/* Both legs talk at random, within the first credit. */
static void
babble(struct rig *g, unsigned turns)
{
	static uint8_t block[32768];
	size_t up = 0, down = 0;

	for (unsigned i = 0; i < turns; i++) {
		size_t n = rnd(8) == 0 ? 1 + rnd(30000) : 1 + rnd(60);

		for (size_t k = 0; k < n; k++)
			block[k] = (uint8_t)rnd(256);
		if (rnd(2) == 0 && up + n < SP_STREAM_WINDOW) {
			rig_send_user(g, SP_FRAME_DATA, 1, sp_span_of(block, n));
			up += n;
		} else if (down + n < SP_STREAM_WINDOW) {
			rig_send_target(g, SP_FRAME_DATA, 1, 1,
			    sp_span_of(block, n));
			down += n;
		}
		if (rnd(3) == 0)
			rig_pump(g, NULL, 0);
	}
}

struct recovered {
	struct sp_msg_rec_recovered m;
	int status;
};

static void
recover(struct rig *g, struct recovered *o)
{
	struct sp_msg_spawn_recover m = {.id = ++g->id};
	struct sp_msg_rec_seal seal = {.at_us = sp_now_us()};
	struct sp_msg_spawned s;
	struct sp_msg_exited x;
	struct sp_link l;
	struct sp_packet p;
	int fds[2];

	memcpy(m.session, g->session, 16);
	cr_assert_eq(sp_link_pair(fds), SP_OK);
	cr_assert_eq(sp_send_spawn_recover(&g->sup, 0, &m, (int[]){
	    fcntl(g->file, F_DUPFD_CLOEXEC, 0), fds[1]}), SP_OK);
	cr_assert_eq(sp_link_init(&l, fds[0], SP_ROLE_BRK, SP_ROLE_REC,
	    SP_ST_NEW), SP_OK);
	cr_assert_eq(sp_link_wait(&g->sup, &p, 60000), SP_OK);
	cr_assert_eq(p.type, SP_MSG_spawned);
	cr_assert_eq(sp_dec_spawned(p.body, &s), SP_OK);
	do	/* what of it is for the transparency log comes first */
		cr_assert_eq(sp_link_wait(&l, &p, 60000), SP_OK);
	while (p.type == SP_MSG_rec_point);
	cr_assert_eq(p.type, SP_MSG_rec_recovered);
	cr_assert_eq(sp_dec_rec_recovered(p.body, &o->m), SP_OK);
	l.state = SP_ST_READY;
	if (o->m.closed == 0) {
		rec_vault_sign_recovered(&g->v, g->session, o->m.head,
		    o->m.chunks, seal.at_us, seal.signature);
		cr_assert_eq(sp_send_rec_seal(&l, 0, &seal, NULL), SP_OK);
	}
	cr_assert_eq(sp_link_wait(&g->sup, &p, 60000), SP_OK);
	cr_assert_eq(p.type, SP_MSG_exited);
	cr_assert_eq(sp_dec_exited(p.body, &x), SP_OK);
	o->status = (int)x.status;
	sp_link_fini(&l);
}

Test(recorder_hard, kill_9_loses_nothing_that_came_out, .timeout = 120)
{
	unsigned cut = 0;

	for (int i = 0; i < RUNS; i++) {
		struct rig_opt o = usual;
		struct sp_rec_report r;
		struct recovered rec;
		struct rig g;
		int st;

		o.durability = (uint8_t)(1 + rnd(3));
		rig_start(&g, &o);
		rig_session(&g, &o);
		rig_open(&g, 1, SP_OPEN_SHELL, "");
		babble(&g, 1 + rnd(120));
		cr_assert_eq(kill(g.child, SIGKILL), 0);
		rig_pump(&g, NULL, 20);
		st = rig_wait_exit(&g);
		cr_assert(WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL);
		recover(&g, &rec);
		cr_assert_eq(rec.status, 0);
		cr_assert_eq(rec.m.closed, 0);
		cut += rec.m.cut_bytes > 0;
		cr_assert_eq(sp_rec_verify(g.file, g.v.audit_pk, rec.m.head, &r),
		    SP_REC_RECOVERED, "%s", r.text);
		check_nothing_unrecorded(&g);
		rig_stop(&g);
	}
	cr_log_info("%u of %d were cut inside a chunk", cut, RUNS);
}

/* A recording cut anywhere is recovered, and then whole; one with its end is
 * left alone. */
Test(recorder_hard, recovery_cuts_at_the_last_whole_chunk, .timeout = 120)
{
	struct recovered rec;
	struct sp_rec_report r;
	struct rig g;
	struct sp_buf b;

	rig_start(&g, &usual);
	rig_session(&g, &usual);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	rig_send_user(&g, SP_FRAME_DATA, 1, sp_span_str("abc"));
	rig_send_user(&g, SP_FRAME_CLOSE, 1, none);
	cr_assert_eq(shutdown(g.user.fd, SHUT_WR), 0);
	rig_wait_closed(&g);
	cr_assert_eq(rig_wait_exit(&g), 0);
	recover(&g, &rec);
	cr_assert_eq(rec.m.closed, 1);
	cr_assert_eq(memcmp(rec.m.head, g.closed.head, 32), 0);
	check_intact(&g, SP_END_NORMAL);
	b = rec_slurp(g.file);
	for (size_t n = 0; n < b.len; n += 37) {
		enum sp_rec_verdict v;

		close(g.file);
		g.file = rec_file();
		cr_assert_eq(pwrite(g.file, b.p, n, 0), (ssize_t)n);
		recover(&g, &rec);
		cr_assert_eq(rec.status, 0);
		v = sp_rec_verify(g.file, g.v.audit_pk, NULL, &r);
		cr_assert(rec.m.chunks > 0 ? v == SP_REC_RECOVERED :
		    v == SP_REC_CUT, "%zu: %s", n, r.text);
		/* The audit log knows that there was more. */
		cr_assert_eq(sp_rec_verify(g.file, g.v.audit_pk,
		    g.closed.head, &r), SP_REC_CUT);
		recover(&g, &rec);
		cr_assert_eq(rec.m.closed, v == SP_REC_RECOVERED);
	}
	sp_buf_fini(&b);
	rig_stop(&g);
}

static bool
is_over(struct rig *g)
{
	return rig_is_closed(g);
}

/* The target floods until the recorder gives up. Some is let through first: what
 * came as one batch that does not fit is not passed on at all. */
static void
flood(struct rig *g)
{
	static uint8_t block[65536];
	int64_t until = sp_boot_us() + 50000000;
	size_t sent = 0;

	while (!rig_is_closed(g) && sp_boot_us() < until) {
		uint8_t more[4] = {0, 0, 1, 0};

		/* Nothing that a compressor has seen. */
		randombytes_buf(block, sizeof(block));
		if (sp_stream_pending(&g->target) < (1u << 20) &&
		    !g->target.eof && (g->at_user.len > 100000 ||
		    sent < g->at_user.len + 2 * sizeof(block)) &&
		    sp_stream_put(&g->target, SP_FRAME_DATA, 1, 1,
		    sp_span_of(block, sizeof(block))) == SP_OK)
			sent += sizeof(block);
		if (!g->user.eof && sp_stream_pending(&g->user) < 65536) {
			(void)!sp_stream_put(&g->user, SP_FRAME_CREDIT, 0, 1,
			    sp_span_of(more, 4));
			(void)!sp_stream_put(&g->user, SP_FRAME_DATA, 0, 1,
			    sp_span_of(block, 1));
		}
		rig_pump(g, is_over, 1);
	}
	rig_pump(g, NULL, 100);
}

static void
check_disk_end(struct rig *g)
{
	cr_assert(rig_is_closed(g));
	cr_assert_eq(g->closed.code, SP_END_DISK, "%s", g->reason);
	cr_assert(g->at_user.len > 100000, "%zu", g->at_user.len);
	check_intact(g, SP_END_DISK);
	check_nothing_unrecorded(g);
	cr_assert(g->user_end && g->end_code == SP_END_DISK);
	cr_assert_eq(rig_wait_exit(g), 0);
}

Test(recorder_hard, a_limit_of_the_file_ends_it_whole, .timeout = 60)
{
	for (uint8_t d = SP_DURABLE_PROCESS; d <= SP_DURABLE_FULL; d++) {
		struct rig_opt o = {.rights = ALL_RIGHTS, .durability = d,
		    .fsize_limit = 900000};
		struct rig g;

		rig_start(&g, &o);
		rig_session(&g, &o);
		rig_open(&g, 1, SP_OPEN_SHELL, "");
		flood(&g);
		check_disk_end(&g);
		rig_stop(&g);
	}
}

static int beside = -1;	/* another file there */

/* A small file system of our own, in a mount namespace of our own. */
static int
small_disk(const char *size)
{
	char dir[64] = "", path[64];
	int fd;

	cr_assert_not_null(mkdtemp(tmp_name(dir, sizeof(dir), "sp-disk")));
	if (unshare(CLONE_NEWNS) != 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("none", dir, "tmpfs", 0, size) != 0) {
		rmdir(dir);
		return -1;
	}
	snprintf(path, sizeof(path), "%s/rec", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cr_assert(fd >= 0);
	snprintf(path, sizeof(path), "%s/beside", dir);
	beside = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cr_assert(beside >= 0);
	umount2(dir, MNT_DETACH);
	rmdir(dir);
	return fd;
}

Test(recorder_hard, a_full_disk_ends_it_whole, .timeout = 60)
{
	struct rig_opt o = {.rights = ALL_RIGHTS, .file = small_disk("size=5m")};
	struct rig g;

	if (o.file < 0)
		cr_skip_test("no mount here");
	rig_start(&g, &o);
	rig_session(&g, &o);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	flood(&g);
	check_disk_end(&g);
	rig_stop(&g);
}

static bool
says_full(struct rig *g)
{
	return strstr(g->notice, "stands still") != NULL;
}

static bool
goes_on(struct rig *g)
{
	return g->at_target.len > 0;
}

/* Below the reserve nothing is read; with room again it goes on as if nothing had
 * been. */
Test(recorder_hard, it_stands_still_until_there_is_room, .timeout = 120)
{
	struct rig_opt o = {.rights = ALL_RIGHTS, .reserve_bytes = 16u << 20,
	    .file = small_disk("size=40m"), .config = "recording_full_wait_s 60\n"};
	struct rig g;

	if (o.file < 0)
		cr_skip_test("no mount here");
	rig_start(&g, &o);
	rig_session(&g, &o);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	cr_assert_eq(fallocate(beside, 0, 0, 30 << 20), 0);
	rig_pump(&g, says_full, 60000);
	cr_assert(says_full(&g), "%s", g.notice);
	rig_send_user(&g, SP_FRAME_DATA, 1, sp_span_str("held back"));
	rig_pump(&g, goes_on, 1000);
	cr_assert_eq(g.at_target.len, 0);
	cr_assert(strstr(g.events, "disk_full") != NULL);
	cr_assert_eq(ftruncate(beside, 0), 0);
	rig_pump(&g, goes_on, 60000);
	cr_assert(sp_span_is(sp_buf_span(&g.at_target), "held back"));
	cr_assert(strstr(g.events, "disk_has_room") != NULL);
	rig_send_user(&g, SP_FRAME_CLOSE, 1, none);
	cr_assert_eq(shutdown(g.user.fd, SHUT_WR), 0);
	rig_wait_closed(&g);
	check_intact(&g, SP_END_NORMAL);
	check_nothing_unrecorded(&g);
	cr_assert_eq(rig_wait_exit(&g), 0);
	rig_stop(&g);
}

Test(recorder_hard, the_reserve_is_kept, .timeout = 60)
{
	struct rig_opt o = {.rights = ALL_RIGHTS, .reserve_bytes = 16u << 20,
	    .file = small_disk("size=40m")};
	struct statvfs f;
	struct rig g;

	if (o.file < 0)
		cr_skip_test("no mount here");
	rig_start(&g, &o);
	rig_session(&g, &o);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	flood(&g);
	check_disk_end(&g);
	cr_assert_eq(fstatvfs(g.file, &f), 0);
	/* Looked at before each step of preallocation, of at most 8 MiB. */
	cr_assert(f.f_bavail * f.f_bsize > 8u << 20, "%lu left",
	    (unsigned long)(f.f_bavail * f.f_bsize));
	rig_stop(&g);
}

/* No room from the first: said to the broker, and nothing relayed. */
Test(recorder_hard, no_room_no_session, .timeout = 30)
{
	SP_BUF_AUTO rules = {.max = SP_RULES_ENCODED_MAX};
	struct sp_msg_rec_open m = {.durability = SP_DURABLE_INPUT, .reserve_bytes = UINT64_MAX,
	    .meta = sp_span_str("{}")};
	struct rig g;

	rig_start(&g, &usual);
	g.file = rec_file();
	rig_spawn(&g);
	rec_rules(&rules, NULL, ALL_RIGHTS);
	m.rules = sp_buf_span(&rules);
	memcpy(m.audit_key, g.v.audit_pk, 32);
	memcpy(m.session, g.session, 16);
	rig_send_user(&g, SP_FRAME_OPEN, 1, none);
	cr_assert_eq(sp_send_rec_open(&g.brk, 0, &m, NULL), SP_OK);
	rig_wait_closed(&g);
	cr_assert_eq(g.closed.code, SP_END_DISK, "%s", g.reason);
	cr_assert_neq(rig_wait_exit(&g), 0);
	rig_stop(&g);
}

/* What a captured broker could try: a vault of its own, or one reader more. */
Test(recorder_hard, the_broker_does_not_choose_who_opens_it, .timeout = 60)
{
	for (int attempt = 0; attempt < 2; attempt++) {
		SP_BUF_AUTO rules = {.max = SP_RULES_ENCODED_MAX};
		struct sp_msg_rec_open m = {.durability = SP_DURABLE_INPUT,
		    .meta = sp_span_str("{}")};
		struct sp_rec_file *f = NULL;
		struct rec_vault other;
		struct sp_packet p;
		struct rig g;

		rig_start(&g, &usual);
		rec_vault_make(&other);
		g.file = rec_file();
		rig_spawn(&g);
		rec_rules(&rules, NULL, ALL_RIGHTS);
		m.rules = sp_buf_span(&rules);
		m.recipients = sp_span_of(other.box_pk, 32);
		memcpy(m.session, g.session, 16);
		memcpy(m.audit_key, attempt == 0 ? other.audit_pk : g.v.audit_pk, 32);
		cr_assert_eq(sp_send_rec_open(&g.brk, 0, &m, NULL), SP_OK);
		if (attempt == 0) {
			rig_wait_closed(&g);
			cr_assert_neq(rig_wait_exit(&g), 0);
			cr_assert_eq(lseek(g.file, 0, SEEK_END), 0);
		} else {
			cr_assert_eq(sp_link_wait(&g.brk, &p, 60000), SP_OK);
			cr_assert_eq(p.type, SP_MSG_rec_opened);
			cr_assert_eq(sp_rec_file_open(g.file, &f), SP_OK);
			cr_assert_eq(sp_rec_file_header(f)->n_recipients, 1);
			cr_assert_eq(memcmp(sp_rec_file_header(f)->recipient[0],
			    g.v.box_pk, 32), 0);
			sp_rec_file_close(f);
			sp_link_fini(&g.brk);
			cr_assert_neq(rig_wait_exit(&g), 0);
		}
		rig_stop(&g);
	}
}

Test(recorder_hard, a_false_certificate_relays_nothing, .timeout = 30)
{
	SP_BUF_AUTO rules = {.max = SP_RULES_ENCODED_MAX};
	struct sp_msg_rec_open m = {.durability = SP_DURABLE_INPUT, .meta = sp_span_str("{}")};
	struct sp_msg_rec_cert cert = {0};
	struct sp_packet p;
	struct rig g;

	rig_start(&g, &usual);
	g.file = rec_file();
	rig_spawn(&g);
	rec_rules(&rules, NULL, ALL_RIGHTS);
	m.rules = sp_buf_span(&rules);
	memcpy(m.session, g.session, 16);
	memcpy(m.audit_key, g.v.audit_pk, 32);
	cr_assert_eq(sp_send_rec_open(&g.brk, 0, &m, NULL), SP_OK);
	cr_assert_eq(sp_link_wait(&g.brk, &p, 60000), SP_OK);
	cr_assert_eq(p.type, SP_MSG_rec_opened);
	g.brk.state = SP_ST_READY;
	rig_send_user(&g, SP_FRAME_DATA, 1, sp_span_str("x"));
	cr_assert_eq(sp_send_rec_cert(&g.brk, 0, &cert, NULL), SP_OK);
	rig_wait_closed(&g);
	rig_pump(&g, NULL, 50);
	cr_assert_eq(g.closed.code, SP_END_PROTOCOL);
	cr_assert_eq(g.at_target.len, 0);
	cr_assert_neq(rig_wait_exit(&g), 0);
	rig_stop(&g);
}
