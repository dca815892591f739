/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sallyport-player: the parent of all viewings, and an offline verifier. A
 * child takes a recording, a viewer's stream and its two links, enters the
 * filter, verifies, and draws.
 */
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bastion/player/cover.h"
#include "bastion/player/events.h"
#include "bastion/player/page.h"
#include "bastion/player/proof_lines.h"
#include "bastion/player/search.h"
#include "bastion/player/watch.h"
#include "common/log.h"
#include "common/parent.h"
#include "common/play.h"
#include "common/sandbox.h"

#define WORD_MS 30000
#define LARGE (8 << 20)		/* from so many bytes on it is judged while it is shown */
#define JUDGE_BYTES (16u << 20)

static int n_workers = 2;	/* of a search */

static int
cores(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n < 2 ? 2 : n > SEARCH_WORKERS_MAX ? SEARCH_WORKERS_MAX : (int)n;
}

static enum sp_err
start(void *ctx, struct sp_packet *p)
{
	char when[SP_TIME_TEXT];

	(void)ctx;
	if (p->type != SP_MSG_start_parent)
		return SP_ERR_PROTO;
	/* The first use of calendar time reads the time zone from a file. */
	sp_time_text(when, sp_now_us(), true);
	n_workers = cores();
	/* CJK in regular expressions; this locale needs no file. */
	if (setlocale(LC_CTYPE, "C.UTF-8") == NULL)
		sp_log(SP_WARN, "no_locale", NULL, "name=C.UTF-8");
	return sp_rec_warm_up();
}

static enum sp_err
hear_start(struct player *p)
{
	struct sp_packet k;

	SP_TRY(sp_link_wait(&p->broker, &k, WORD_MS));
	if (k.type != SP_MSG_play_start)
		return SP_ERR_PROTO;
	SP_TRY(sp_dec_play_start(k.body, &p->start));
	SP_TRY(sp_span_cstr(p->start.name, p->name, sizeof(p->name)));
	p->start.name = sp_span_str(p->name);
	p->broker.state = SP_ST_READY;
	return SP_OK;
}

/* What the vault is asked to open. SP_ERR_NOTFOUND: it is no recipient, so nobody
 * here can. */
static enum sp_err
boxes_of_vault(struct player *p, struct sp_buf *boxes)
{
	struct sp_rec_file *f = NULL;
	const struct sp_rec_header *h;
	enum sp_err e = SP_ERR_NOTFOUND;
	uint8_t n = 0;

	SP_TRY(sp_rec_file_open(p->file, &f));
	h = sp_rec_file_header(f);
	for (size_t i = 0; i < h->n_recipients && e == SP_ERR_NOTFOUND; i++)
		if (memcmp(h->recipient[i], p->start.recording_key, 32) == 0)
			e = sp_rec_sealed_keys(h, i, UINT32_MAX, boxes, &n);
	sp_rec_file_close(f);
	return e;
}

static enum sp_err
ask_keys(struct player *p)
{
	SP_BUF_AUTO boxes = {.max = 4096};
	struct sp_msg_play_keys m;
	struct sp_msg_play_keys_r r;
	struct sp_packet k;

	SP_TRY(boxes_of_vault(p, &boxes));
	memcpy(m.session, p->start.session, 16);
	m.sealed = sp_buf_span(&boxes);
	SP_TRY(sp_send_play_keys(&p->vault, 0, &m, NULL));
	SP_TRY(sp_link_wait(&p->vault, &k, WORD_MS));
	if (k.type != SP_MSG_play_keys_r)
		return SP_ERR_PROTO;
	SP_TRY(sp_dec_play_keys_r(k.body, &r));
	if (r.ok != 1)
		return SP_ERR_DENIED;
	if ((p->start.what & SP_PLAY_UNMASKED) == 0)
		SP_TRY(cover_set(r.masks));
	return sp_rec_parse_keys(r.keys, &p->keys);
}

/* Sealed past the vault (recordings_sealed_to, recording_screen). */
static uint32_t
not_ours(struct player *p)
{
	if (p->start.mode == SP_PLAY_WATCH) {
		if (viewer_text(&p->view, 2, "What is recorded here is sealed to "
		    "auditors alone: this bastion cannot open it, so nobody can "
		    "watch it live.\nfreeze, resume, note, kill, held, release and "
		    "refuse work without seeing it.\n") != SP_OK)
			return 1;
		return 1;
	}
	if (viewer_text(&p->view, 2, "This recording is sealed to auditors: this "
	    "bastion cannot open it.\nOn a machine with its file and an identity "
	    "that it is sealed to:\n  sallyport replay FILE --identity IDENTITY\n") !=
	    SP_OK)
		return 1;
	return 1;
}

/* A running session's last chunk may be half in the file while we look: what is
 * cut stays cut, what is being written does not. */
static void
judge(struct player *p)
{
	const uint8_t *known = p->start.head_is_known == 1 ?
	    p->start.known_head : NULL;

	for (int i = 0; i < 5; i++) {
		sp_rec_verify(p->file, p->start.audit_key, known, &p->report);
		if (p->report.verdict != SP_REC_CUT || known != NULL ||
		    viewer_poll(&p->view, 50) != SP_OK)
			return;
	}
}

/* What is large, and has an end, is shown at once if its two ends are good. */
static bool
judge_later(struct player *p)
{
	const uint8_t *known = p->start.head_is_known == 1 ?
	    p->start.known_head : NULL;

	if (p->start.mode != SP_PLAY_REPLAY || !p->view.has_pty ||
	    p->view.is_dumb || lseek(p->file, 0, SEEK_END) < LARGE ||
	    !sp_rec_peek(p->file, p->start.audit_key, &p->report))
		return false;
	return sp_rec_judge_new(p->file, p->start.audit_key, known, &p->judged,
	    &p->judge) == SP_OK;
}

void
player_judge(struct player *p, uint64_t bytes)
{
	if (p->judge == NULL || !sp_rec_judge_work(p->judge, bytes))
		return;
	sp_rec_judge_free(p->judge);
	p->judge = NULL;
	p->report = p->judged;
}

/* The scribe's screens, of one that is whole: what the report says of them, behind
 * what it says of the chunks. */
static enum sp_err
verify_screens(struct player *p, struct sp_buf *out)
{
	bool json = p->start.json != 0;
	struct line_proof_result lines = {0};
	enum sp_err e = ask_keys(p);

	if (e == SP_OK && (!p->keys.has[SP_LANE_OUT - 1] ||
	    !p->keys.has[SP_LANE_VIEW - 1]))
		e = SP_ERR_NOTFOUND;
	if (e == SP_OK)
		e = proof_read(p->file, &p->keys, &p->screens, &lines);
	if (json && out->len >= 2)
		out->len -= 2;	/* "}\n" */
	if (e == SP_OK) {
		SP_TRY(proof_print(&p->screens, json, out));
		SP_TRY(line_proof_print(&lines, json, out));
		if (p->screens.n_false > 0 || line_proof_is_false(&lines))
			e = SP_ERR_PROTO;
	} else {
		SP_TRY(sp_buf_printf(out, json ? ",\"screens\":{\"error\":\"%s\"}" :
		    "screens  they cannot be looked at: %s\n",
		    e == SP_ERR_NOTFOUND ? "they are not sealed to who looks" :
		    sp_err_text(e)));
	}
	SP_TRY(json ? sp_buf_put(out, "}\n", 2) : SP_OK);
	return e;
}

static uint32_t
verify(struct player *p)
{
	SP_BUF_AUTO out = {.max = 16384};
	bool good = verdict_is_good(p->report.verdict);

	if (verdict_print(&p->report, p->start.json != 0, &out) != SP_OK)
		return 1;
	if (good && (p->start.what & SP_PLAY_SCREENS) != 0)
		good = verify_screens(p, &out) == SP_OK;
	if (viewer_write(&p->view, 1, sp_buf_span(&out)) != SP_OK)
		return 1;
	return good ? 0 : 1;
}

static uint32_t
fail(struct player *p, const char *what, enum sp_err e)
{
	char text[256];

	sp_log(SP_WARN, "play_failed", p->start.session, "what=\"%s\" error=\"%s\"",
	    what, sp_err_text(e));
	snprintf(text, sizeof(text), "%s: %s\n", what, sp_err_text(e));
	if (viewer_text(&p->view, 2, text) != SP_OK)
		return 1;
	return 1;
}

static enum sp_err
play_mode(struct player *p)
{
	switch (p->start.mode) {
	case SP_PLAY_ASCIICAST:
	case SP_PLAY_ASCIICAST3:
		return play_cast(p);
	case SP_PLAY_RECORDS:
		return play_records(p);
	case SP_PLAY_TIMELINE:
		return play_timeline(p);
	case SP_PLAY_COMMANDS:
		return play_commands(p);
	case SP_PLAY_WATCH:
		return play_watch(p);
	case SP_PLAY_TEXT:
		return play_plain(p);
	case SP_PLAY_HTML:
		return play_html(p);
	case SP_PLAY_REPLAY:
		return p->view.has_pty && !p->view.is_dumb ? play_show(p) :
		    play_plain(p);
	default:
		return SP_ERR_UNSUPPORTED;
	}
}

static uint32_t
play(struct player *p)
{
	char text[512];
	enum sp_err e;

	if (!p->report.has_header || memcmp(p->report.session, p->start.session,
	    16) != 0)
		return fail(p, "this is not the recording of that session",
		    SP_ERR_NOTFOUND);
	if (!verdict_is_good(p->report.verdict) &&
	    p->start.mode != SP_PLAY_WATCH) {
		snprintf(text, sizeof(text), "verdict on this recording: %s: %s\n",
		    sp_rec_verdict_name(p->report.verdict), p->report.text);
		if (viewer_text(&p->view, 2, text) != SP_OK)
			return 1;
	}
	e = ask_keys(p);
	if (e == SP_ERR_NOTFOUND ||
	    (e == SP_OK && !p->keys.has[SP_LANE_OUT - 1]))
		return not_ours(p);
	if (e != SP_OK)
		return fail(p, "the vault does not open this recording", e);
	e = p->start.mode == SP_PLAY_WATCH ? SP_OK : cover_read(p->file, &p->keys);
	if (e == SP_OK)
		e = play_mode(p);
	if (e == SP_ERR_EOF)
		return 1;	/* the viewer went away */
	return e == SP_OK ? 0 : fail(p, "the recording ends early", e);
}

static void
tell_result(struct player *p)
{
	char text[sizeof(p->report.text) + 120];
	struct sp_msg_play_result m = {.verdict = (uint8_t)p->report.verdict};

	snprintf(text, sizeof(text), p->screens.n_false > 0 ? "%s; %llu of the "
	    "scribe's screens are false, the first at %llu ms" : "%s",
	    p->report.text, (unsigned long long)p->screens.n_false,
	    (unsigned long long)p->screens.which[0].at_us / 1000);
	m.text = sp_span_str(text);

	if (sp_send_play_result(&p->broker, 0, &m, NULL) != SP_OK)
		sp_log(SP_WARN, "no_result", p->start.session, "why=link");
}

static int
view(struct player *p, int stream)
{
	uint32_t status = 1;
	enum sp_err e;

	if ((e = hear_start(p)) != SP_OK) {
		sp_log(SP_ERROR, "no_start", NULL, "error=\"%s\"", sp_err_text(e));
		sp_close_fds(&stream, 1);
		return 1;
	}
	if ((e = viewer_open(&p->view, stream)) != SP_OK) {
		sp_log(SP_ERROR, "no_viewer", p->start.session, "error=\"%s\"",
		    sp_err_text(e));
		viewer_fini(&p->view);
		return 1;
	}
	if (!judge_later(p))
		judge(p);
	if (p->start.mode == SP_PLAY_VERIFY)
		status = verify(p);
	else
		status = play(p);
	viewer_end(&p->view, status);
	/* Nobody waits for it any more, but who looked is in the audit log with it. */
	while (p->judge != NULL)
		player_judge(p, JUDGE_BYTES);
	tell_result(p);
	viewer_fini(&p->view);
	explicit_bzero(&p->keys, sizeof(p->keys));
	cover_end();
	return 0;
}

static int
spawned(struct sp_packet *k)
{
	struct player p = {.file = k->fds[0]};
	struct sp_msg_spawn_player m;
	enum sp_err a, b;
	int status = 1;

	if (sp_dec_spawn_player(k->body, &m) != SP_OK) {
		sp_packet_close_fds(k);
		return 1;
	}
	a = sp_link_init(&p.broker, k->fds[1], SP_ROLE_PLY, SP_ROLE_BRK,
	    SP_ST_NEW);
	b = sp_link_init(&p.vault, k->fds[3], SP_ROLE_PLY, SP_ROLE_VLT,
	    SP_ST_READY);
	if (a == SP_OK && b == SP_OK)
		status = view(&p, k->fds[2]);
	sp_link_fini(&p.broker);
	sp_link_fini(&p.vault);
	sp_close_fds(&p.file, 1);
	return status;
}

static bool
confine(void)
{
	char level[64] = "";

	if (sp_sandbox_enter(sp_player_syscalls, sp_player_n_syscalls, level,
	    sizeof(level)) == SP_OK)
		return true;
	sp_log(SP_ERROR, "sandbox_failed", NULL, "process=search");
	return false;
}

/* Workers are forked before anything is read, each with its own link alone. */
static int
search(struct sp_packet *k)
{
	int mine[SEARCH_WORKERS_MAX], pair[2], n = 0;
	bool is_whole = true;

	while (n < n_workers && is_whole) {
		pid_t pid;

		if (sp_link_pair(pair) != SP_OK)
			break;
		if ((pid = fork()) == 0) {
			sp_close_fds(mine, (size_t)n);
			close(pair[0]);
			sp_packet_close_fds(k);
			_exit(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 &&
			    confine() ? worker_main(pair[1]) : 1);
		}
		close(pair[1]);
		mine[n++] = pair[0];
		is_whole = pid > 0;
	}
	if (n == 0 || !is_whole || !confine()) {
		sp_close_fds(mine, (size_t)n);
		sp_packet_close_fds(k);
		return 1;
	}
	return leader_main(k->fds[0], k->fds[1], k->fds[2], mine, (size_t)n);
}

static int
child(void *ctx, struct sp_packet *p)
{
	char level[64] = "";

	(void)ctx;
	if (p->type == SP_MSG_spawn_search && p->n_fds == 3)
		return search(p);
	if (sp_sandbox_enter(sp_player_syscalls, sp_player_n_syscalls, level,
	    sizeof(level)) != SP_OK) {
		sp_log(SP_ERROR, "sandbox_failed", NULL, "type=%u", p->type);
		return 1;
	}
	return p->type == SP_MSG_spawn_player && p->n_fds == 4 ? spawned(p) : 1;
}

int
main(int argc, char **argv)
{
	static const struct sp_parent ops = {.role = SP_ROLE_PLY,
	    .start = start, .child = child};

	sp_harden(NULL);
	if (argc >= 2 && strcmp(argv[1], "verify") == 0)
		return offline_main(argc, argv);
	sp_log_init("sallyport-player", false);
	return sp_parent_main(&ops, NULL);
}
