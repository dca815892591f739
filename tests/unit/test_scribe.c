/* SPDX-License-Identifier: Apache-2.0 */
/* A recorder and its scribe (doc/scribe.md): both real, or the scribe is a
 * hostile one. Whatever it does, no byte is lost or late for it. */
#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "bastion/player/proof_lines.h"
#include "recorder/aside.h"
#include "recorder/term/term.h"
#include "recorder/view.h"
#include "tests/unit/rec_check.h"

#define LONG_MS 60000
#define WIDE 200		/* bytes of a line of bulk */

static struct scr {
	struct sp_link sup;	/* the parent of scribes */
	pid_t parent, child;
	uint64_t id;
	unsigned given;
	bool is_dropped;
	struct sp_link fake;	/* or this test is the scribe */
} scr;

static void
give(struct rig *g, int fd)
{
	struct sp_msg_rec_scribe m;

	memcpy(m.session, g->session, 16);
	cr_assert_eq(sp_send_rec_scribe(&g->brk, 0, &m, &fd), SP_OK);
}

static void
give_real(struct rig *g)
{
	struct sp_msg_spawn_scribe m = {.id = ++scr.id};
	struct sp_msg_spawned s;
	struct sp_packet p;
	int l[2];

	memcpy(m.session, g->session, 16);
	cr_assert_eq(sp_link_pair(l), SP_OK);
	cr_assert_eq(sp_send_spawn_scribe(&scr.sup, 0, &m, &l[1]), SP_OK);
	do {
		cr_assert_eq(sp_link_wait(&scr.sup, &p, LONG_MS), SP_OK);
	} while (p.type == SP_MSG_exited);
	cr_assert_eq(p.type, SP_MSG_spawned);
	cr_assert_eq(sp_dec_spawned(p.body, &s), SP_OK);
	scr.child = (pid_t)s.pid;
	scr.given++;
	give(g, l[0]);
}

static void
give_fake(struct rig *g)
{
	int l[2];

	cr_assert_eq(sp_link_pair(l), SP_OK);
	if (scr.fake.rx != NULL)
		sp_link_fini(&scr.fake);
	cr_assert_eq(sp_link_init(&scr.fake, l[1], SP_ROLE_SCR, SP_ROLE_REC,
	    SP_ST_NEW), SP_OK);
	scr.given++;
	give(g, l[0]);
}

static void
give_dead(struct rig *g)
{
	int l[2];

	cr_assert_eq(sp_link_pair(l), SP_OK);
	close(l[1]);
	give(g, l[0]);
}

static void
begin(struct rig *g)
{
	scr = (struct scr){0};
	rig_start(g, &usual);
	rig_boot("sallyport-scribe", SP_ROLE_SCR, 0, &scr.sup, &scr.parent);
	g->on_want = give_real;
}

static void
finish(struct rig *g)
{
	int st;

	rig_stop(g);
	if (scr.fake.rx != NULL)
		sp_link_fini(&scr.fake);
	sp_link_fini(&scr.sup);
	cr_assert_eq(waitpid(scr.parent, &st, 0), scr.parent);
	cr_assert(WIFEXITED(st) && WEXITSTATUS(st) == 0, "status 0x%x", st);
}

static void
target_says(struct rig *g, const char *text)
{
	rig_send_target(g, SP_FRAME_DATA, 1, 1, sp_span_str(text));
}

static void
user_says(struct rig *g, const char *text)
{
	rig_send_user(g, SP_FRAME_DATA, 1, sp_span_str(text));
}

static bool
was_given(struct rig *g)
{
	(void)g;
	return scr.given > 0;
}

static void
close_session(struct rig *g)
{
	uint8_t status[4] = {0};

	rig_send_target(g, SP_FRAME_EXIT_STATUS, 0, 1, sp_span_of(status, 4));
	rig_send_target(g, SP_FRAME_EOF, 0, 1, none);
	rig_send_target(g, SP_FRAME_CLOSE, 0, 1, none);
	rig_send_user(g, SP_FRAME_CLOSE, 1, none);
	rig_pump(g, NULL, 100);
	cr_assert_eq(shutdown(g->user.fd, SHUT_WR), 0);
	rig_pump(g, rig_is_closed, LONG_MS);
	cr_assert(rig_is_closed(g), "no rec_closed came");
	check_intact(g, SP_END_NORMAL);
	cr_assert_eq(rig_wait_exit(g), 0);
}

/* Lines, joined; how many of the other kinds. */
struct view {
	char lines[65536];
	size_t n_text, n_lines, n_frames, n_unsure, n_gaps;
	char why[1024], commands[1024];
	size_t n_secrets;
};

/* Where nobody was away, the lines are those that the output makes. */
static void
check_lines(struct rig *g)
{
	struct sp_rec_lane_keys k = rec_keys(&g->v, g->file);
	struct line_proof_result w;
	struct sp_rec_decoder *d = NULL;
	struct line_proof *p = NULL;
	struct sp_rec_record r;

	cr_assert_eq(line_proof_new(&p), SP_OK);
	cr_assert_eq(sp_rec_decoder_new(g->file, &k, &d), SP_OK);
	while (sp_rec_decoder_next(d, &r) == SP_OK)
		cr_assert_eq(line_proof_take(p, &r), SP_OK);
	line_proof_end(p, &w);
	sp_rec_decoder_free(d);
	line_proof_free(p);
	if (scr.fake.rx == NULL)
		cr_assert_not(line_proof_is_false(&w), "%lu invented at %lu, %lu "
		    "missing at %lu, gap %d at %lu", (unsigned long)w.invented,
		    (unsigned long)w.invented_us, (unsigned long)w.missing,
		    (unsigned long)w.missing_us, w.has_gap,
		    (unsigned long)w.gap_us);
	else if (w.invented > 10000)
		cr_assert(line_proof_is_false(&w));
	if (!w.has_gap)
		cr_assert_eq(w.invented + w.missing, 0);
}

static void
look_at(struct rig *g, struct view *v)
{
	struct sp_rec_lane_keys k = rec_keys(&g->v, g->file);
	struct sp_rec_decoder *d = NULL;
	struct sp_view_keyframe f;
	struct sp_view_command c;
	struct sp_view_line l;
	struct sp_view_span s;
	struct sp_rec_record r;
	enum sp_err e;

	*v = (struct view){0};
	cr_assert_eq(sp_rec_decoder_new(g->file, &k, &d), SP_OK);
	while ((e = sp_rec_decoder_next(d, &r)) == SP_OK) {
		if (r.kind == SP_VIEW_LINE) {
			cr_assert_eq(r.lane, SP_LANE_VIEW);
			cr_assert_eq(sp_view_line_decode(r.data, &l), SP_OK);
			cr_assert(l.ago_us <= r.at_us);
			v->n_lines++;
			if (v->n_text + l.text.n + 2 < sizeof(v->lines))
				v->n_text += (size_t)snprintf(v->lines + v->n_text,
				    sizeof(v->lines) - v->n_text, "%.*s|", (int)l.text.n, (const char *)l.text.p);
		} else if (r.kind == SP_VIEW_KEYFRAME) {
			cr_assert_eq(r.lane, SP_LANE_VIEW);
			cr_assert_eq(sp_view_keyframe_decode(r.data, &f), SP_OK);
			cr_assert(f.at_us <= r.at_us);
			v->n_frames++;
			v->n_unsure += f.is_unsure;
		} else if (r.kind == SP_VIEW_COMMAND) {
			cr_assert_eq(r.lane, SP_LANE_VIEW);
			cr_assert_eq(sp_view_command_decode(r.data, &c), SP_OK);
			snprintf(v->commands + strlen(v->commands),
			    sizeof(v->commands) - strlen(v->commands), "%.*s|",
			    (int)c.text.n, (const char *)c.text.p);
		} else if (r.kind == SP_VIEW_SECRET) {
			cr_assert_eq(r.lane, SP_LANE_META);
			cr_assert_eq(sp_view_span_decode(r.data, &s), SP_OK);
			cr_assert(s.to_us <= r.at_us);
			v->n_secrets++;
		} else if (r.kind == SP_VIEW_GAP) {
			cr_assert_eq(r.lane, SP_LANE_META);
			cr_assert_eq(sp_view_span_decode(r.data, &s), SP_OK);
			cr_assert(s.to_us <= r.at_us);
			v->n_gaps++;
			snprintf(v->why + strlen(v->why), sizeof(v->why) -
			    strlen(v->why), "%.*s|", (int)s.why.n,
			    (const char *)s.why.p);
		}
	}
	cr_assert_eq(e, SP_ERR_EOF, "%s", sp_err_text(e));
	sp_rec_decoder_free(d);
	check_lines(g);
}

/* ------------------------------------------------------------ the usual */

Test(scribe, says_what_a_person_saw)
{
	static struct view v;
	static struct rig g;

	begin(&g);
	rig_session(&g, &usual);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	target_says(&g, "Welcome\r\n$ ");
	rig_pump(&g, NULL, 200);
	cr_assert_eq(g.wants, 0, "a prompt is no reason for a process");
	user_says(&g, "ls\r");
	rig_pump(&g, was_given, LONG_MS);
	cr_assert_eq(scr.given, 1);
	target_says(&g, "ls\r\nfile\033[31mone\033[m  filetwo\r\n\033]0;t\007$ ");
	user_says(&g, "\x04");
	target_says(&g, "logout\r\n");
	rig_pump(&g, NULL, 100);
	close_session(&g);
	check_nothing_unrecorded(&g);
	look_at(&g, &v);
	cr_assert_str_eq(v.lines, "Welcome|$ ls|fileone  filetwo|$ logout|");
	cr_assert_eq(v.n_gaps, 0, "%s", v.why);
	finish(&g);
}

static size_t due_there, due_here;	/* bytes that are to come out */

static bool
has_come(struct rig *g)
{
	return g->at_target.len >= due_there && g->at_user.len >= due_here;
}

static void
prompts(struct rig *g, const char *text)
{
	due_here = g->at_user.len + strlen(text);
	due_there = g->at_target.len;
	target_says(g, text);
	rig_pump(g, has_come, LONG_MS);
	rig_pump(g, NULL, 20);
}

/* The target answers when it has the key, and not before. */
static void
types(struct rig *g, const char *keys, const char *echo)
{
	due_there = g->at_target.len + strlen(keys);
	due_here = g->at_user.len;
	user_says(g, keys);
	rig_pump(g, has_come, LONG_MS);
	rig_pump(g, NULL, 20);
	prompts(g, echo);
}

Test(scribe, finds_commands_and_secrets)
{
	static struct view v;
	static struct rig g;

	begin(&g);
	rig_session(&g, &usual);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	prompts(&g, "host$ ");
	for (const char *k = "sudo id"; *k != '\0'; k++)
		types(&g, (char[]){*k, 0}, (char[]){*k, 0});
	types(&g, "\r", "\r\n[sudo] password: ");
	for (const char *k = "hunter2"; *k != '\0'; k++)
		types(&g, (char[]){*k, 0}, "");
	types(&g, "\r", "\r\nuid=0(root)\r\nhost$ ");
	for (const char *k = "ls"; *k != '\0'; k++)
		types(&g, (char[]){*k, 0}, (char[]){*k, 0});
	types(&g, "\r", "\r\nfile\r\nhost$ ");
	close_session(&g);
	look_at(&g, &v);
	cr_assert_str_eq(v.commands, "sudo id|ls|");
	cr_assert_eq(v.n_secrets, 1);
	cr_assert_eq(v.n_gaps, 0, "%s", v.why);
	finish(&g);
}

Test(scribe, reads_a_session_that_never_needed_one_at_its_end)
{
	static struct view v;
	static struct rig g;

	begin(&g);
	rig_session(&g, &usual);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	target_says(&g, "a few words");
	rig_pump(&g, NULL, 100);
	cr_assert_eq(g.wants, 0);
	close_session(&g);
	cr_assert_eq(g.wants, 1);
	look_at(&g, &v);
	cr_assert_str_eq(v.lines, "a few words|");
	cr_assert_eq(v.n_gaps, 0, "%s", v.why);
	finish(&g);
}

Test(scribe, is_not_asked_for_without_a_terminal)
{
	static struct view v;
	static struct rig g;

	begin(&g);
	rig_session(&g, &usual);
	rig_open(&g, 1, SP_OPEN_EXEC, "cat /etc/motd");
	for (int i = 0; i < 100; i++)
		target_says(&g, "no terminal, no lines, though there are many\r\n");
	rig_pump(&g, NULL, 100);
	close_session(&g);
	cr_assert_eq(g.wants, 0);
	look_at(&g, &v);
	cr_assert_eq(v.n_lines, 0);
	finish(&g);
}

/* ------------------------------------------------------ it dies, it stops */

static struct sp_buf sent;	/* what the target of a bulk test said */

static void
bulk(struct rig *g, size_t bytes)
{
	char line[WIDE + 1];
	size_t upto = sent.len + bytes;

	while (sent.len < upto) {
		SP_BUF_AUTO b = {.max = 65536};
		size_t before = sent.len;

		for (int i = 0; i < 100; i++) {
			snprintf(line, sizeof(line), "line %zu %0*d\r\n", before /
			    WIDE + (size_t)i, WIDE - 30, i);
			cr_assert_eq(sp_buf_put(&b, line, strlen(line)), SP_OK);
		}
		cr_assert_eq(sp_buf_put(&sent, b.p + b.off, b.len), SP_OK);
		rig_send_target(g, SP_FRAME_DATA, 1, 1, sp_buf_span(&b));
		if (sp_stream_pending(&g->target) > 256 << 10)
			rig_pump(g, NULL, 1);
		/* The credit that a client would give. */
		cr_assert_eq(sp_stream_put_u32(&g->user, SP_FRAME_CREDIT, 1,
		    (uint32_t)b.len), SP_OK);
		(void)!sp_stream_flush(&g->user);
	}
}

static bool
all_came(struct rig *g)
{
	return g->at_user.len >= sent.len;
}

static void
expect_all(struct rig *g)
{
	rig_pump(g, all_came, LONG_MS);
	cr_assert_eq(g->at_user.len, sent.len);
	cr_assert(sp_span_eq(sp_buf_span(&g->at_user), sp_buf_span(&sent)));
}

static void
dies_by(int sig)
{
	static struct view v;
	static struct rig g;
	unsigned was;

	begin(&g);
	sent = (struct sp_buf){.max = 64u << 20};
	rig_session(&g, &usual);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	bulk(&g, 1 << 20);
	rig_pump(&g, was_given, LONG_MS);
	cr_assert_eq(scr.given, 1);
	bulk(&g, 1 << 20);
	cr_assert_eq(kill(scr.child, sig), 0);
	bulk(&g, 4 << 20);
	expect_all(&g);
	if (sig != SIGSTOP) {	/* there is another one soon */
		was = scr.given;
		while (scr.given == was)
			rig_pump(&g, NULL, 50);
	}
	bulk(&g, 1 << 20);
	expect_all(&g);
	close_session(&g);
	check_nothing_unrecorded(&g);
	look_at(&g, &v);
	cr_assert(v.n_gaps > 0);
	if (sig == SIGSTOP)	/* it may have had no time to say anything */
		cr_assert_eq(kill(scr.child, SIGKILL), 0);
	sp_buf_fini(&sent);
	finish(&g);
}

/* What only a keyframe from before its death can still know. */
static const char header[] = "\033[2J\033[1;1HSTOOD-THERE-BEFORE\033[3;24r\033[24;1H";

static bool
has_header(const struct sp_view_keyframe *k)
{
	SP_BUF_AUTO b = {.max = 8192};
	struct sp_term *t = NULL;
	bool has;

	cr_assert_eq(sp_term_load(k->state, NULL, NULL, &t), SP_OK);
	cr_assert_eq(sp_cells_text(sp_term_row(t, 0), sp_term_cols(t), false, &b),
	    SP_OK);
	has = sp_span_is(sp_buf_span(&b), "STOOD-THERE-BEFORE");
	sp_term_free(t);
	return has;
}

static unsigned sure_with, unsure_with, without;

static void
count_frames(struct rig *g)
{
	struct sp_rec_lane_keys k = rec_keys(&g->v, g->file);
	struct sp_rec_decoder *d = NULL;
	struct sp_view_keyframe f;
	struct sp_rec_record r;

	sure_with = unsure_with = without = 0;
	cr_assert_eq(sp_rec_decoder_new(g->file, &k, &d), SP_OK);
	while (sp_rec_decoder_next(d, &r) == SP_OK) {
		if (r.kind != SP_VIEW_KEYFRAME)
			continue;
		cr_assert_eq(sp_view_keyframe_decode(r.data, &f), SP_OK);
		*(!has_header(&f) ? &without : f.is_unsure ? &unsure_with :
		    &sure_with) += 1;
	}
	sp_rec_decoder_free(d);
}

static bool
has_a_frame(struct rig *g)
{
	count_frames(g);
	return sure_with > 0;
}

static bool
was_given_another(struct rig *g)
{
	(void)g;
	return scr.given > 1;
}

Test(scribe, the_next_one_goes_on_from_the_last_keyframe)
{
	static struct rig g;

	begin(&g);
	sent = (struct sp_buf){.max = 64u << 20};
	rig_session(&g, &usual);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	target_says(&g, header);
	cr_assert_eq(sp_buf_put(&sent, header, strlen(header)), SP_OK);
	for (int i = 0; i < 30 && !has_a_frame(&g); i++) {
		bulk(&g, 1 << 20);
		expect_all(&g);
		rig_pump(&g, has_a_frame, 2000);
	}
	cr_assert_gt(sure_with, 0u);
	cr_assert_eq(scr.given, 1);
	cr_assert_eq(kill(scr.child, SIGKILL), 0);
	for (int i = 0; i < 60 && unsure_with == 0; i++) {
		bulk(&g, 1 << 20);
		expect_all(&g);
		rig_pump(&g, was_given_another, 1000);
		count_frames(&g);
	}
	close_session(&g);
	count_frames(&g);
	cr_assert_gt(unsure_with, 0u);
	cr_assert_eq(without, 0u, "%u keyframes begin from nothing", without);
	sp_buf_fini(&sent);
	finish(&g);
}

Test(scribe, killed_costs_no_byte)
{
	dies_by(SIGKILL);
}

Test(scribe, crashed_costs_no_byte)
{
	dies_by(SIGSEGV);
}

Test(scribe, stopped_costs_no_byte)
{
	dies_by(SIGSTOP);
}

/* --------------------------------------------------------- it is hostile */

static void
say_records(uint64_t until, uint64_t at, uint8_t kind, uint32_t chan,
    const char *data, size_t n)
{
	SP_BUF_AUTO b = {.max = 61440};
	struct sp_msg_scribe_derived m = {.until = until};

	cr_assert_eq(sp_rec_record_put(&b, at, kind, chan, sp_span_of(data, n)),
	    SP_OK);
	m.records = sp_buf_span(&b);
	(void)!sp_send_scribe_derived(&scr.fake, 0, &m, NULL);
}

static void
say_frame(struct sp_msg_scribe_keyframe m)
{
	static const uint8_t part[1000];

	if (m.chan == 0)
		m.chan = 1;
	if (m.cols == 0)
		m.cols = m.rows = 20;
	if (m.part.n == 0)
		m.part = sp_span_of(part, sizeof(part));
	(void)!sp_send_scribe_keyframe(&scr.fake, 0, &m, NULL);
}

static bool
is_dropped(struct rig *g)
{
	struct sp_packet p;
	enum sp_err e;

	(void)g;
	e = sp_link_flush(&scr.fake);
	scr.is_dropped |= e != SP_OK && e != SP_ERR_AGAIN;
	while ((e = sp_link_recv(&scr.fake, &p)) == SP_OK)
		;
	scr.is_dropped |= e != SP_ERR_AGAIN;
	return scr.is_dropped;
}

static void
garbage(void)
{
	char b[5000];

	memset(b, 0xa5, sizeof(b));
	(void)!send(scr.fake.fd, b, sizeof(b), MSG_NOSIGNAL);
}

static void
flood(void)
{
	SP_BUF_AUTO b = {.max = 61440};
	struct sp_msg_scribe_derived m = {0};

	while (b.len < 60000)
		cr_assert_eq(sp_rec_record_put(&b, 0, SP_VIEW_LINE, 1,
		    sp_span_of("\0\0more of this", 14)), SP_OK);
	m.records = sp_buf_span(&b);
	for (int i = 0; i < 60; i++)
		if (sp_send_scribe_derived(&scr.fake, 0, &m, NULL) != SP_OK)
			return;
}

static void
keyframes_for_ever(void)
{
	static const uint8_t part[60000];
	struct sp_msg_scribe_keyframe m = {.chan = 1, .cols = 80, .rows = 24,
	    .total = sizeof(part), .part = sp_span_of(part, sizeof(part))};

	for (int i = 0; i < 60; i++)
		if (sp_send_scribe_keyframe(&scr.fake, 0, &m, NULL) != SP_OK)
			return;
}

static void
attack(int n)
{
	struct sp_msg_scribe_copy copy = {0};
	char wide[SP_VIEW_LINE_MAX + 20];

	memset(wide, 'x', sizeof(wide));
	wide[0] = wide[1] = 0;
	switch (n) {
	case 0: garbage(); break;
	case 1: flood(); break;
	case 2: keyframes_for_ever(); break;
	case 3: say_records(0, 0, SP_VIEW_LINE, 7, "\0\0other channel", 15); break;
	case 4: say_records(0, UINT64_C(1) << 52, SP_VIEW_LINE, 1, "\0\0x", 3); break;
	case 5: say_records(UINT64_C(1) << 52, 0, SP_VIEW_LINE, 1, "\0\0x", 3); break;
	case 6: say_records(0, 0, SP_VIEW_LINE, 1, "\0\0\033[2J", 6); break;
	case 7: say_records(0, 0, SP_VIEW_LINE, 1, wide, sizeof(wide)); break;
	case 8: say_records(0, 0, SP_RECORD_OUT, 1, "forged", 6); break;
	case 9: say_records(0, 0, SP_VIEW_KEYFRAME, 1, "\1", 1); break;
	case 10: say_records(0, 0, SP_VIEW_COMMAND, 1, "\3\144\0\0rm", 6); break;
	case 11: say_records(0, 0, SP_VIEW_GAP, 1, wide, 16); break;
	case 12: say_frame((struct sp_msg_scribe_keyframe){.total = 1u << 30}); break;
	case 13: say_frame((struct sp_msg_scribe_keyframe){.total = 10}); break;
	case 14: say_frame((struct sp_msg_scribe_keyframe){.total = 5000,
		    .offset = 3000}); break;
	case 15: say_frame((struct sp_msg_scribe_keyframe){.total = 1000,
		    .chan = 9}); break;
	case 16: say_frame((struct sp_msg_scribe_keyframe){.total = 1000,
		    .cols = 501, .rows = 1}); break;
	case 17: say_frame((struct sp_msg_scribe_keyframe){.total = 1000,
		    .at_us = UINT64_C(1) << 52}); break;
	case 18: (void)!sp_send_scribe_copy(&scr.fake, 0, &copy, NULL); break;
	case 19: say_records(0, 0, SP_VIEW_SECRET, 1,
		    "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0", 16); break;
	default: cr_assert(false);
	}
}
#define N_ATTACKS 20

static void
attacked(struct rig *g, int n)
{
	static struct view v;

	g->on_want = give_fake;
	g->closed = (struct sp_msg_rec_closed){0};
	g->at_user.len = g->at_target.len = 0;
	scr.given = 0;
	scr.is_dropped = false;
	sent = (struct sp_buf){.max = 1 << 20};
	rig_session(g, &usual);
	rig_open(g, 1, SP_OPEN_SHELL, "");
	bulk(g, 20000);
	rig_pump(g, was_given, LONG_MS);
	cr_assert_eq(scr.given, 1);
	attack(n);
	g->on_want = give_dead;
	rig_pump(g, is_dropped, LONG_MS);
	cr_assert(scr.is_dropped, "attack %d was borne", n);
	bulk(g, 20000);
	expect_all(g);
	close_session(g);
	check_nothing_unrecorded(g);
	look_at(g, &v);
	cr_assert(v.n_gaps > 0, "attack %d", n);
	cr_assert(strstr(v.lines, "\033") == NULL);
	close(g->file);
	g->file = -1;
	sp_buf_fini(&sent);
}

Test(scribe, hostile_harms_nothing)
{
	static struct rig g;

	begin(&g);
	for (int i = 0; i < N_ATTACKS; i++)
		attacked(&g, i);
	finish(&g);
}

/* ------------------------------------------------- records in two pieces */

static void
note_want(struct rig *g)
{
	(void)g;
}

static void
pour(struct rig *g, size_t n)
{
	static uint8_t text[65536];

	memset(text, 'x', sizeof(text));
	cr_assert_eq(sp_buf_put(&sent, text, n), SP_OK);
	rig_send_target(g, SP_FRAME_DATA, 1, 1, sp_span_of(text, n));
}

/* Up to which moment it was read is said when all of that moment was sent: a screen
 * in the middle of a record would be taken for a false one. */
static void
expect_whole_moments(size_t bytes)
{
	uint64_t until = 0, at = 0;
	struct sp_msg_scribe_copy m;
	struct sp_rec_record d;
	struct sp_packet p;
	unsigned split = 0;
	size_t got = 0;

	while (got < bytes) {
		cr_assert_eq(sp_link_wait(&scr.fake, &p, LONG_MS), SP_OK);
		if (p.type != SP_MSG_scribe_copy) {
			scr.fake.state = SP_ST_READY;
			continue;
		}
		cr_assert_eq(sp_dec_scribe_copy(p.body, &m), SP_OK);
		for (bool first = true; sp_rec_record_get(&m.records, &d) == SP_OK;
		    first = false) {
			split += first && at == d.at_us && d.kind == SP_RECORD_OUT;
			cr_expect(!first || until == 0 || d.at_us > until,
			    "the rest of a moment that was said to be over");
			at = d.at_us;
			got += d.kind == SP_RECORD_OUT ? d.data.n : 0;
		}
		until = m.until;
	}
	cr_assert(split > 0, "no record was in two messages");
}

Test(scribe, hears_that_a_moment_is_over_when_it_is)
{
	static struct rig g;

	begin(&g);
	g.on_want = note_want;
	sent = (struct sp_buf){.max = 1 << 20};
	rig_session(&g, &usual);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	for (int i = 0; i < 4; i++) {
		pour(&g, 20000);
		rig_pump(&g, all_came, LONG_MS);
		pour(&g, 56000);
		rig_pump(&g, all_came, LONG_MS);
	}
	give_fake(&g);
	expect_whole_moments(sent.len);
	g.on_want = give_dead;
	close_session(&g);
	sp_buf_fini(&sent);
	finish(&g);
}

/* ------------------------------------------- keyframes prove themselves */

struct frames {
	struct sp_buf out;	/* records of the terminal */
	struct sp_buf last;	/* the last keyframe's state */
	uint64_t last_us;
	unsigned n, n_equal;
};

static void
feed_upto(struct frames *f, struct sp_term *t, uint64_t from, uint64_t upto)
{
	struct sp_span s = sp_buf_span(&f->out);
	struct sp_rec_record r;
	uint32_t cols = 0, rows = 0;

	while (sp_rec_record_get(&s, &r) == SP_OK) {
		if (r.at_us <= from || r.at_us > upto)
			continue;
		if (r.kind != SP_RECORD_RESIZE) {
			sp_term_feed(t, r.data);
			continue;
		}
		cr_assert_eq(sp_get_u32(&r.data, &cols), SP_OK);
		cr_assert_eq(sp_get_u32(&r.data, &rows), SP_OK);
		cr_assert_eq(sp_term_resize(t, cols, rows), SP_OK);
	}
}

static void
next_frame(struct frames *f, const struct sp_view_keyframe *k)
{
	SP_BUF_AUTO b = {.max = SP_TERM_DUMP_MAX};
	struct sp_term *t = NULL;

	if (f->n++ == 0)
		cr_assert_eq(sp_term_new(80, 24, NULL, NULL, &t), SP_OK);
	else
		cr_assert_eq(sp_term_load(sp_buf_span(&f->last), NULL, NULL, &t),
		    SP_OK);
	feed_upto(f, t, f->last_us, k->at_us);
	cr_assert_eq(sp_term_dump(t, &b), SP_OK);
	f->n_equal += sp_span_eq(sp_buf_span(&b), k->state);
	cr_assert_eq(sp_term_cols(t), k->cols);
	cr_assert_eq(sp_term_rows(t), k->rows);
	sp_term_free(t);
	f->last.max = SP_TERM_DUMP_MAX;
	f->last.off = f->last.len = 0;
	cr_assert_eq(sp_buf_put(&f->last, k->state.p, k->state.n), SP_OK);
	f->last_us = k->at_us;
}

static void
check_frames(struct rig *g, unsigned least)
{
	struct sp_rec_lane_keys k = rec_keys(&g->v, g->file);
	struct frames f = {.out.max = 64u << 20};
	struct sp_rec_decoder *d = NULL;
	struct sp_view_keyframe kf;
	struct sp_rec_record r;

	cr_assert_eq(sp_rec_decoder_new(g->file, &k, &d), SP_OK);
	while (sp_rec_decoder_next(d, &r) == SP_OK) {
		if (r.kind == SP_RECORD_OUT || r.kind == SP_RECORD_RESIZE)
			cr_assert_eq(sp_rec_record_put(&f.out, r.at_us, r.kind, 1,
			    r.data), SP_OK);
		if (r.kind != SP_VIEW_KEYFRAME)
			continue;
		cr_assert_eq(sp_view_keyframe_decode(r.data, &kf), SP_OK);
		cr_assert(!kf.is_unsure);
		next_frame(&f, &kf);
	}
	sp_rec_decoder_free(d);
	check_lines(g);
	cr_assert_geq(f.n, least);
	cr_assert_eq(f.n_equal, f.n, "%u of %u", f.n_equal, f.n);
	sp_buf_fini(&f.out);
	sp_buf_fini(&f.last);
}

static void
resize(struct rig *g, int tty, uint16_t cols, uint16_t rows)
{
	struct winsize w = {.ws_col = cols, .ws_row = rows};
	uint8_t p[16] = {(uint8_t)cols, 0, 0, 0, (uint8_t)rows};

	cr_assert_eq(ioctl(tty, TIOCSWINSZ, &w), 0);
	rig_send_user(g, SP_FRAME_WINDOW, 1, sp_span_of(p, sizeof(p)));
}

/* What the program writes goes through the recorder until `bytes` have. */
static void
run(struct rig *g, const char *const *argv, const char *keys, size_t bytes)
{
	struct winsize w = {.ws_col = 80, .ws_row = 24};
	size_t n = 0, turns = 0;
	int tty, st;
	pid_t pid = forkpty(&tty, NULL, NULL, &w);

	cr_assert(pid >= 0);
	if (pid == 0) {
		setenv("TERM", "xterm-256color", 1);
		execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(98);
	}
	while (n < bytes) {
		struct pollfd pf = {.fd = tty, .events = POLLIN};
		char b[4096];
		ssize_t got;

		if (poll(&pf, 1, 5) == 0) {
			if (write(tty, keys, strlen(keys)) < 0)
				break;
			if (++turns % 40 == 0)
				resize(g, tty, (uint16_t)(60 + turns % 70),
				    (uint16_t)(10 + turns % 30));
			continue;
		}
		if ((got = read(tty, b, sizeof(b))) <= 0)
			break;
		n += (size_t)got;
		rig_send_target(g, SP_FRAME_DATA, 1, 1, sp_span_of(b, (size_t)got));
		cr_assert_eq(sp_stream_put_u32(&g->user, SP_FRAME_CREDIT, 1,
		    (uint32_t)got), SP_OK);
		rig_pump(g, NULL, 0);
	}
	cr_assert_geq(n, bytes, "%s wrote %zu", argv[0], n);
	kill(pid, SIGKILL);
	cr_assert_eq(waitpid(pid, &st, 0), pid);
	close(tty);
}

Test(scribe, from_one_keyframe_the_way_leads_to_the_next)
{
	char name[] = "/tmp/sp-words-XXXXXX.c";
	const char *const vim[] = {"vim", "-n", "-u", "NONE", "-c",
	    "set nu hls | syntax on", name, NULL};
	const char *const less[] = {"less", "-N", name, NULL};
	int fd = mkstemps(name, 2);
	static struct rig g;

	for (int i = 0; i < 20000; i++)
		cr_assert(dprintf(fd, "\tif (%d == x) return \"\xe4\xb8\xad%x\"; "
		    "/* %0*d */\n", i, i * 77, i % 90, i) > 0);
	close(fd);
	begin(&g);
	rig_session(&g, &usual);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	run(&g, vim, "\006\006\006\006\006\006\006\006", 1200000);
	run(&g, less, "        ", 600000);
	cr_assert_eq(unlink(name), 0);
	rig_pump(&g, NULL, 300);
	close_session(&g);
	check_frames(&g, 3);
	finish(&g);
}

static unsigned
frames_of(struct rig *g, uint32_t chan)
{
	struct sp_rec_lane_keys k = rec_keys(&g->v, g->file);
	struct sp_rec_decoder *d = NULL;
	struct sp_rec_record r;
	unsigned n = 0;

	cr_assert_eq(sp_rec_decoder_new(g->file, &k, &d), SP_OK);
	while (sp_rec_decoder_next(d, &r) == SP_OK)
		n += r.kind == SP_VIEW_KEYFRAME && r.chan == chan;
	sp_rec_decoder_free(d);
	return n;
}

static unsigned frames_due;

static bool
has_frames(struct rig *g)
{
	return frames_of(g, 1) >= frames_due;
}

static void
pour_lines(struct rig *g, size_t bytes)
{
	static char text[16000];

	memset(text, 'x', sizeof(text));
	for (size_t i = 79; i < sizeof(text); i += 80)
		text[i] = '\n';
	for (size_t n = 0; n < bytes; n += sizeof(text)) {
		rig_send_target(g, SP_FRAME_DATA, 1, 1, sp_span_of(text,
		    sizeof(text)));
		cr_assert_eq(sp_stream_put_u32(&g->user, SP_FRAME_CREDIT, 1,
		    sizeof(text)), SP_OK);
		rig_pump(g, NULL, 0);
	}
}

Test(scribe, a_quiet_terminal_is_kept_with_a_busy_one)
{
	static struct rig g;

	begin(&g);
	rig_session(&g, &usual);
	rig_open(&g, 1, SP_OPEN_SHELL, "");
	rig_open(&g, 3, SP_OPEN_SHELL, "");
	rig_send_target(&g, SP_FRAME_DATA, 1, 3, sp_span_str("quiet$ "));
	/* No more at once than waits for it. */
	for (frames_due = 1; frames_due <= 3; frames_due++) {
		pour_lines(&g, 560000);
		rig_pump(&g, has_frames, LONG_MS);
	}
	rig_send_target(&g, SP_FRAME_EOF, 0, 3, none);
	rig_send_target(&g, SP_FRAME_CLOSE, 0, 3, none);
	rig_send_user(&g, SP_FRAME_CLOSE, 3, none);
	close_session(&g);
	cr_assert_geq(frames_of(&g, 1), 3);
	/* Once it has been measured it goes with each. */
	cr_assert_geq(frames_of(&g, 3), 2);
	finish(&g);
}
