/* SPDX-License-Identifier: Apache-2.0 */
/* The player as it runs, with the test as its broker, vault and viewer. */
#include <poll.h>
#include <stdio.h>
#include <sys/wait.h>

#include "common/text.h"
#include "tests/unit/rec_rig.h"

struct show {
	struct rec_vault v;
	uint8_t session[16], head[32];
	int file;
	uint8_t mode, json;
	uint64_t at_us;
	bool has_pty, know_head, no_keys;
	const char *keys;	/* typed at once */
	struct sp_buf out, err;	/* what came out */
	uint32_t status;
	uint8_t verdict;
};

static void
put(struct sp_rec_writer *w, enum sp_lane lane, uint8_t kind, uint32_t chan,
    struct sp_span s)
{
	cr_assert_eq(sp_rec_writer_put(w, lane, kind, chan, s), SP_OK);
	cr_assert_eq(sp_rec_writer_commit(w), SP_OK);
}

static void
put_open(struct sp_rec_writer *w, uint32_t chan, bool pty, const char *command)
{
	struct sp_open o = {.kind = pty ? SP_OPEN_SHELL : SP_OPEN_EXEC,
	    .has_pty = pty, .cols = 40, .rows = 5, .term = sp_span_str("xterm"),
	    .command = sp_span_str(command)};
	SP_BUF_AUTO b = {.max = 40000};

	cr_assert_eq(sp_open_encode(&b, &o), SP_OK);
	put(w, SP_LANE_OUT, SP_RECORD_OPEN, chan, sp_buf_span(&b));
}

static void
put_close(struct sp_rec_writer *w, uint32_t chan)
{
	put(w, SP_LANE_OUT, SP_RECORD_CLOSE, chan, sp_span_of("\1", 1));
}

static struct sp_rec_writer *
begin(struct show *s)
{
	*s = (struct show){.mode = SP_PLAY_REPLAY};
	sp_buf_init(&s->out, 16u << 20);
	sp_buf_init(&s->err, 1u << 20);
	rec_vault_make(&s->v);
	randombytes_buf(s->session, 16);
	s->file = rec_file();
	return rec_begin(&s->v, s->file, s->session);
}

static void
finish(struct show *s, struct sp_rec_writer *w)
{
	struct sp_rec_totals t;

	cr_assert_eq(sp_rec_writer_close(w, SP_END_NORMAL,
	    sp_span_str("the user disconnected")), SP_OK);
	sp_rec_writer_totals(w, &t);
	memcpy(s->head, t.head, 32);
	sp_rec_writer_free(w);
}

/* Two lines of a shell, and a command with a hostile output. */
static void
usual(struct show *s)
{
	struct sp_rec_writer *w = begin(s);

	put_open(w, 1, true, "");
	for (int i = 0; i < 8; i++) {
		char line[32];

		snprintf(line, sizeof(line), "line %d\r\n", i);
		put(w, SP_LANE_OUT, SP_RECORD_OUT, 1, sp_span_str(line));
	}
	put(w, SP_LANE_OUT, SP_RECORD_OUT, 1,
	    sp_span_str("\x1b[31mred\x1b[0m \x1b]0;title\x07last"));
	put(w, SP_LANE_IN, SP_RECORD_IN, 1, sp_span_str("secret typed\r"));
	put_close(w, 1);
	finish(s, w);
}

static void
answer_vault(struct show *s, struct sp_link *l)
{
	SP_BUF_AUTO keys = {.max = 1024};
	struct sp_msg_play_keys_r r = {.ok = !s->no_keys};
	struct sp_msg_play_keys m;
	struct sp_packet p;
	struct sp_span in;

	while (sp_link_recv(l, &p) == SP_OK) {
		cr_assert_eq(p.type, SP_MSG_play_keys);
		cr_assert_eq(sp_dec_play_keys(p.body, &m), SP_OK);
		sp_buf_reset(&keys);
		for (in = m.sealed; in.n > 0;) {
			uint8_t lane = 0, plain[SP_GROUP_PLAIN_BYTES], key[32];
			const uint8_t *box;

			cr_assert_eq(sp_get_u8(&in, &lane), SP_OK);
			cr_assert_eq(lane, 0, "the same people open all lanes");
			cr_assert_eq(sp_get(&in, 98, &box), SP_OK);
			cr_assert_eq(crypto_box_seal_open(plain, box, 98,
			    s->v.box_pk, s->v.box_sk), 0);
			cr_assert_eq(memcmp(plain + 32, s->session, 16), 0);
			cr_assert_eq(plain[48] | plain[49] << 8, 0x1f);
			for (lane = 1; lane <= 5; lane++) {
				cr_assert_eq(sp_lane_of_group(plain, lane, key), SP_OK);
				cr_assert_eq(sp_buf_put_u8(&keys, lane), SP_OK);
				cr_assert_eq(sp_buf_put(&keys, key, 32), SP_OK);
			}
		}
		if (!s->no_keys)
			r.keys = sp_buf_span(&keys);
		cr_assert_eq(sp_send_play_keys_r(l, p.corr, &r, NULL), SP_OK);
	}
}

static bool
take_frames(struct show *s, struct sp_stream *v)
{
	struct sp_frame f;
	enum sp_err e;
	bool is_over = false;

	while (sp_stream_fill(v) == SP_OK)
		while ((e = sp_stream_next(v, &f)) == SP_OK) {
			struct sp_span p = f.payload;

			if (f.type == SP_FRAME_DATA) {
				cr_assert_eq(sp_buf_put(f.lane == 2 ? &s->err :
				    &s->out, p.p, p.n), SP_OK);
				cr_assert_eq(sp_stream_put_u32(v,
				    SP_FRAME_CREDIT, 1, (uint32_t)p.n), SP_OK);
			} else if (f.type == SP_FRAME_EXIT_STATUS) {
				cr_assert_eq(sp_get_u32(&p, &s->status), SP_OK);
			}
			is_over |= f.type == SP_FRAME_CLOSE;
		}
	(void)!sp_stream_flush(v);
	return is_over;
}

static void
send_start(struct show *s, struct sp_link *brk)
{
	struct sp_msg_play_start m = {.play = 9, .mode = s->mode, .speed = 100,
	    .head_is_known = s->know_head, .json = s->json, .at_us = s->at_us,
	    .name = sp_span_str("carol")};

	memcpy(m.session, s->session, 16);
	memcpy(m.audit_key, s->v.audit_pk, 32);
	memcpy(m.recording_key, s->v.box_pk, 32);
	memcpy(m.known_head, s->head, 32);
	cr_assert_eq(sp_send_play_start(brk, 0, &m, NULL), SP_OK);
}

static void
send_open(struct show *s, struct sp_stream *v)
{
	struct sp_open o = {.kind = SP_OPEN_EXEC, .has_pty = s->has_pty,
	    .cols = 80, .rows = 24, .term = sp_span_str("xterm"),
	    .command = sp_span_str("replay")};
	SP_BUF_AUTO b = {.max = 4096};

	cr_assert_eq(sp_open_encode(&b, &o), SP_OK);
	cr_assert_eq(sp_stream_put(v, SP_FRAME_OPEN, 0, 1, sp_buf_span(&b)),
	    SP_OK);
	if (s->keys != NULL)
		cr_assert_eq(sp_stream_put(v, SP_FRAME_DATA, 0, 1,
		    sp_span_str(s->keys)), SP_OK);
	cr_assert_eq(sp_stream_flush(v), SP_OK);
}

static void
serve(struct show *s, struct sp_link *brk, struct sp_link *vlt,
    struct sp_stream *v)
{
	int64_t until = sp_boot_us() + 20000000;

	send_start(s, brk);
	send_open(s, v);
	while (!take_frames(s, v)) {
		struct pollfd pf[2] = {{.fd = v->fd, .events = POLLIN},
		    {.fd = vlt->fd, .events = POLLIN}};

		cr_assert(sp_boot_us() < until, "it does not end");
		cr_assert(!v->eof, "it went away");
		cr_assert(poll(pf, 2, 1000) >= 0);
		answer_vault(s, vlt);
	}
}

/* Plays it and collects what a viewer would get. */
static void
watch(struct show *s)
{
	struct sp_msg_spawn_player m = {.id = 5};
	struct sp_msg_play_result r;
	struct sp_link sup, brk, vlt;
	struct sp_stream v;
	struct sp_packet p;
	int l[2], k[2], u[2], st;
	pid_t pid;

	rig_boot("sallyport-player", SP_ROLE_PLY, 0, &sup, &pid);
	memcpy(m.session, s->session, 16);
	cr_assert_eq(sp_link_pair(l), SP_OK);
	cr_assert_eq(sp_link_pair(k), SP_OK);
	cr_assert_eq(sp_stream_pair(u), SP_OK);
	cr_assert_eq(sp_send_spawn_player(&sup, 0, &m, (int[]){
	    fcntl(s->file, F_DUPFD_CLOEXEC, 0), l[1], u[1], k[1]}), SP_OK);
	cr_assert_eq(sp_link_init(&brk, l[0], SP_ROLE_BRK, SP_ROLE_PLY,
	    SP_ST_READY), SP_OK);
	cr_assert_eq(sp_link_init(&vlt, k[0], SP_ROLE_VLT, SP_ROLE_PLY,
	    SP_ST_READY), SP_OK);
	cr_assert_eq(sp_stream_init(&v, u[0], false), SP_OK);
	serve(s, &brk, &vlt, &v);
	cr_assert_eq(sp_link_wait(&brk, &p, 60000), SP_OK);
	cr_assert_eq(p.type, SP_MSG_play_result);
	cr_assert_eq(sp_dec_play_result(p.body, &r), SP_OK);
	s->verdict = r.verdict;
	sp_stream_fini(&v);
	sp_link_fini(&brk);
	sp_link_fini(&vlt);
	sp_link_fini(&sup);
	cr_assert_eq(waitpid(pid, &st, 0), pid);
	cr_assert_eq(sp_buf_put(&s->out, "", 1), SP_OK);
	cr_assert_eq(sp_buf_put(&s->err, "", 1), SP_OK);
}

static const char *
out(const struct show *s)
{
	return (const char *)s->out.p + s->out.off;
}

static const char *
err(const struct show *s)
{
	return (const char *)s->err.p + s->err.off;
}

static void
end(struct show *s)
{
	sp_buf_fini(&s->out);
	sp_buf_fini(&s->err);
	close(s->file);
}

Test(player, verify_says_intact, .timeout = 30)
{
	struct show s;

	usual(&s);
	s.mode = SP_PLAY_VERIFY;
	s.know_head = true;
	watch(&s);
	cr_assert_eq(s.status, 0);
	cr_assert_eq(s.verdict, SP_REC_INTACT);
	cr_assert(strncmp(out(&s), "INTACT: ", 8) == 0, "%s", out(&s));
	end(&s);
}

Test(player, verify_says_cut, .timeout = 30)
{
	struct show s;
	off_t n;

	usual(&s);
	n = lseek(s.file, 0, SEEK_END);
	cr_assert_eq(ftruncate(s.file, n - 7), 0);
	s.mode = SP_PLAY_VERIFY;
	s.json = 1;
	watch(&s);
	cr_assert_eq(s.status, 1);
	cr_assert_eq(s.verdict, SP_REC_CUT);
	cr_assert_not_null(strstr(out(&s), "\"verdict\":\"cut\""));
	end(&s);
}

Test(player, plain_replay_is_text, .timeout = 30)
{
	struct show s;

	usual(&s);
	watch(&s);
	cr_assert_eq(s.status, 0);
	cr_assert_str_eq(out(&s), "line 0\nline 1\nline 2\nline 3\nline 4\n"
	    "line 5\nline 6\nline 7\nred last\n");
	cr_assert_null(strstr(out(&s), "secret"));
	cr_assert_str_eq(err(&s), "");
	end(&s);
}

Test(player, commands_are_shown_sanitised, .timeout = 30)
{
	struct show s;
	struct sp_rec_writer *w = begin(&s);

	put_open(w, 1, false, "evil");
	put_open(w, 2, false, "two");
	put(w, SP_LANE_OUT, SP_RECORD_OUT, 1, sp_span_str("a\tb\x1b]0;x\x07\r\n"));
	put(w, SP_LANE_OUT, SP_RECORD_ERR, 2, sp_span_str("no \xff newline"));
	finish(&s, w);
	watch(&s);
	cr_assert_eq(s.status, 0);
	cr_assert_str_eq(out(&s), "[1] a\tb\\x1b]0;x\\x07\n"
	    "[2 err] no \\xff newline\n");
	end(&s);
}

/* A forward's bytes are no text: what it was and what it carried is shown. */
Test(player, a_forward_is_a_line, .timeout = 30)
{
	struct sp_open o = {.kind = SP_OPEN_FORWARD, .host = sp_span_str("d\x1b"),
	    .port = 5432, .origin = sp_span_str("::1"), .origin_port = 9};
	SP_BUF_AUTO b = {.max = 4096};
	uint8_t flow[8 + 3 * 40] = {0x40, 0x42, 0x0f, 0, 0, 0, 0, 0, 3};
	struct show s;
	struct sp_rec_writer *w = begin(&s);

	cr_assert_eq(sp_open_encode(&b, &o), SP_OK);
	put(w, SP_LANE_OUT, SP_RECORD_OPEN, 7, sp_buf_span(&b));
	put(w, SP_LANE_OUT, SP_RECORD_OUT, 7, sp_span_str("\x1b[2Jbinary\n"));
	put(w, SP_LANE_OUT, SP_RECORD_FLOW, 7, sp_span_of(flow, sizeof(flow)));
	put_close(w, 7);
	finish(&s, w);
	watch(&s);
	cr_assert_eq(s.status, 0);
	cr_assert_not_null(strstr(out(&s), "[7] forward to d\\x1b port 5432, from "
	    "::1 port 9\n[7] carried: 1000 ms, sent 3 bytes sha256=0000"), "%s",
	    out(&s));
	cr_assert_null(strstr(out(&s), "binary"));
	end(&s);
}

Test(player, asciicast_is_json, .timeout = 30)
{
	struct show s;
	struct sp_rec_writer *w = begin(&s);
	uint8_t size[16] = {100, 0, 0, 0, 50};

	put_open(w, 1, true, "");
	put(w, SP_LANE_OUT, SP_RECORD_OUT, 1, sp_span_str("\xc3"));
	put(w, SP_LANE_OUT, SP_RECORD_OUT, 1, sp_span_str("\xa4\"\\\x1b[0m\xff\n"));
	put(w, SP_LANE_OUT, SP_RECORD_RESIZE, 1, sp_span_of(size, 16));
	finish(&s, w);
	s.mode = SP_PLAY_ASCIICAST;
	watch(&s);
	cr_assert_eq(s.status, 0, "%s", err(&s));
	cr_assert(strncmp(out(&s), "{\"version\":2,\"width\":40,\"height\":5,", 34)
	    == 0, "%s", out(&s));
	cr_assert_not_null(strstr(out(&s),
	    "\"o\",\"\xc3\xa4\\\"\\\\\\u001b[0m\xef\xbf\xbd\\n\"]"));
	cr_assert_not_null(strstr(out(&s), "\"r\",\"100x50\"]"));
	end(&s);
}

Test(player, without_keys_nothing_is_shown, .timeout = 30)
{
	struct show s;

	usual(&s);
	s.no_keys = true;
	watch(&s);
	cr_assert_eq(s.status, 1);
	cr_assert_str_eq(out(&s), "");
	cr_assert_not_null(strstr(err(&s), "vault"));
	end(&s);
}

Test(player, another_sessions_file_is_not_shown, .timeout = 30)
{
	struct show s;

	usual(&s);
	s.session[3] ^= 1;
	watch(&s);
	cr_assert_eq(s.status, 1);
	cr_assert_str_eq(out(&s), "");
	end(&s);
}

/* Nothing but positions, colours, erasing and the two modes of the player. */
static void
check_allowed(const struct show *s)
{
	const uint8_t *p = s->out.p + s->out.off;

	for (size_t i = 0; i + 1 < s->out.len; i++) {
		if (p[i] == 0x1b) {
			cr_assert_eq(p[++i], '[');
			while (i + 1 < s->out.len && (p[i + 1] == ';' ||
			    p[i + 1] == '?' || (p[i + 1] >= '0' &&
			    p[i + 1] <= '9')))
				i++;
			i++;
			cr_assert_not_null(strchr("HmJhl", p[i]), "final %c",
			    p[i]);
			continue;
		}
		cr_assert((p[i] >= 0x20 && p[i] != 0x7f) || p[i] == '\r' ||
		    p[i] == '\n', "byte %02x", p[i]);
	}
}

Test(player, the_screen_is_drawn, .timeout = 30)
{
	struct show s;

	usual(&s);
	s.has_pty = true;
	s.at_us = UINT64_MAX;
	s.keys = "q";
	watch(&s);
	cr_assert_eq(s.status, 0, "%s", err(&s));
	check_allowed(&s);
	cr_assert_not_null(strstr(out(&s), "\x1b[0;31mred"), "%s", out(&s));
	cr_assert_not_null(strstr(out(&s), "line 7"));
	cr_assert_not_null(strstr(out(&s), " END "));
	cr_assert_null(strstr(out(&s), "line 3"));
	cr_assert_null(strstr(out(&s), "title"));
	cr_assert_null(strstr(out(&s), "secret"));
	end(&s);
}

static uint32_t seed = 31337;
static uint32_t
rnd(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

/* A recording made to harm its viewer, with more channels than one can see,
 * huge terminals, and jumps back and forth. */
Test(player, a_hostile_recording_does_no_harm, .timeout = 120)
{
	static uint8_t junk[60000];
	struct show s;
	struct sp_rec_writer *w = begin(&s);

	for (uint32_t c = 1; c <= 40; c++) {
		uint8_t size[16] = {0xff, 0xff, 0, 0, 0xff, 0xff};

		put_open(w, c, c % 3 != 0, "x");
		put(w, SP_LANE_OUT, SP_RECORD_RESIZE, c, sp_span_of(size, 16));
		for (size_t i = 0; i < sizeof(junk); i++)
			junk[i] = rnd(5) == 0 ? (uint8_t)"\x1b[;?hlmHJ]P\x07\\"[rnd(14)]
			    : (uint8_t)rnd(256);
		put(w, SP_LANE_OUT, SP_RECORD_OUT, c,
		    sp_span_of(junk, sizeof(junk)));
		if (c % 2 == 0)
			put_close(w, c);
	}
	finish(&s, w);
	watch(&s);
	cr_assert_eq(s.status, 0, "%s", err(&s));
	for (size_t i = 0; i + 1 < s.out.len; i++)
		cr_assert(out(&s)[i] == '\n' || out(&s)[i] == '\t' ||
		    (uint8_t)out(&s)[i] >= 0x20);
	sp_buf_reset(&s.out);
	sp_buf_reset(&s.err);
	s.has_pty = true;
	s.keys = "9\t\t3\t7\x1b[C\x1b[D\x1bOC0++--i \x1b[Z5q";
	watch(&s);
	cr_assert_eq(s.status, 0, "%s", err(&s));
	check_allowed(&s);
	sp_buf_reset(&s.out);
	s.at_us = UINT64_MAX;
	s.keys = "\t\tq";
	watch(&s);
	check_allowed(&s);
	end(&s);
}

/* An examiner's machine: a file, the public key, no bastion. */
static int
offline(const struct show *s, const char *key, bool json)
{
	char path[64], program[512];
	const char *dir = getenv("top_builddir");
	int st;
	pid_t pid;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), s->file);
	snprintf(program, sizeof(program), "%s/sallyport-player",
	    dir == NULL ? "." : dir);
	cr_assert((pid = fork()) >= 0);
	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		execl(program, "sallyport-player", "verify", path, "--key", key,
		    json ? "--json" : NULL, (char *)NULL);
		_exit(99);
	}
	cr_assert_eq(waitpid(pid, &st, 0), pid);
	cr_assert(WIFEXITED(st));
	return WEXITSTATUS(st);
}

Test(player, an_examiner_needs_no_bastion, .timeout = 30)
{
	char key[65];
	struct show s;

	usual(&s);
	sp_hex(key, s.v.audit_pk, 32);
	cr_assert_eq(offline(&s, key, false), 0);
	cr_assert_eq(offline(&s, key, true), 0);
	cr_assert_eq(offline(&s, "nonsense", false), 2);
	cr_assert_eq(ftruncate(s.file, lseek(s.file, 0, SEEK_END) - 1), 0);
	cr_assert_eq(offline(&s, key, false), 1);
	key[0] = key[0] == '0' ? '1' : '0';
	cr_assert_eq(offline(&s, key, false), 1);
	end(&s);
}
