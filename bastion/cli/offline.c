/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A recording on an auditor's machine. The player is the bastion's own, in its
 * sandbox; supervisor, broker and vault are played by a child of ours, that has
 * the lanes' keys and nothing else to do.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bastion/cli/identity.h"
#include "common/parent.h"
#include "common/play.h"
#include "common/sealto.h"
#include "common/text.h"
#include "recorder/header.h"

#define IDENTITIES_MAX 8
#define WORD_MS 60000
#define LONG_MS INT_MAX	/* as long as somebody looks at it */
#define OPEN_KEY (28 + 32)	/* of the audit key, behind the header */

struct offline {
	int file;
	struct sp_rec_header *h;
	struct sp_identity id[IDENTITIES_MAX];
	size_t n_ids;
	struct sp_msg_play_start how;
	bool with_keys;		/* of an asciicast */
	struct sp_buf keys;	/* of play_keys_r: u8 lane, key */
	struct sp_buf boxes;
	pid_t player;
	struct sp_link sup, brk, vlt;
};

/* ------------------------------------------------------------------- keys */

static enum sp_err
read_header(struct offline *o)
{
	static struct sp_rec_header h;
	uint8_t first[16];
	SP_BUF_AUTO b = {.max = SP_REC_HEADER_MAX};
	uint32_t len = 0;
	uint8_t *at;

	if (pread(o->file, first, sizeof(first), 0) != (ssize_t)sizeof(first))
		return SP_ERR_PROTO;
	SP_TRY(sp_rec_header_length(sp_span_of(first, sizeof(first)), &len));
	SP_TRY(sp_buf_reserve(&b, len, &at));
	if (pread(o->file, at, len, 0) != (ssize_t)len)
		return SP_ERR_PROTO;
	sp_buf_commit(&b, len);
	SP_TRY(sp_rec_header_decode(sp_buf_span(&b), &h));
	o->h = &h;
	memcpy(o->how.session, h.session, 16);
	/* Until --key says better: what the file itself claims. */
	return pread(o->file, o->how.audit_key, 32, (off_t)len + OPEN_KEY) == 32 ?
	    SP_OK : SP_ERR_PROTO;
}

/* The lane's key, if those who are here are enough. */
static enum sp_err
open_lane(struct offline *o, uint8_t lane)
{
	struct sp_rec_opened got[IDENTITIES_MAX];
	uint8_t key[32];
	enum sp_err e = SP_OK;
	size_t n = 0;

	for (size_t k = 0; k < o->n_ids && e == SP_OK; k++)
		for (size_t i = 0; i < o->h->n_recipients && e == SP_OK; i++) {
			if (memcmp(o->h->recipient[i], o->id[k].pk, 32) != 0)
				continue;
			e = sp_rec_lane_open(o->h, lane, i, o->id[k].pk,
			    o->id[k].sk, &got[n]);
			n += e == SP_OK;
			if (e == SP_ERR_NOTFOUND)
				e = SP_OK;
		}
	if (e == SP_OK)
		e = sp_rec_lane_join(got, n, key);
	if (e == SP_OK)
		e = sp_buf_put_u8(&o->keys, lane);
	if (e == SP_OK)
		e = sp_buf_put(&o->keys, key, sizeof(key));
	sodium_memzero(key, sizeof(key));
	sodium_memzero(got, sizeof(got));
	return e;
}

static int
open_lanes(struct offline *o)
{
	static const char *const names[] = {"screen", "keys", "description",
	    "files", "view"};
	bool has_screen = false;

	for (uint8_t lane = 1; lane <= SP_REC_LANES; lane++) {
		const struct sp_rec_lane_seal *l = &o->h->lane[lane - 1];
		enum sp_err e;

		if (lane == SP_LANE_IN && !o->with_keys &&
		    (o->how.mode == SP_PLAY_ASCIICAST ||
		    o->how.mode == SP_PLAY_ASCIICAST3))
			continue;
		e = l->n == 0 ? SP_OK : open_lane(o, lane);

		if (e == SP_ERR_AGAIN)
			sp_cli_step("%s: sealed to %u, %u of them are needed",
			    names[lane - 1], l->n, l->threshold);
		else if (e != SP_OK)
			return sp_cli_fail(SP_EXIT_REFUSED, "%s: %s",
			    names[lane - 1], sp_err_text(e));
		has_screen |= lane == SP_LANE_OUT && e == SP_OK;
	}
	if (o->keys.len == 0)
		return sp_cli_fail(SP_EXIT_REFUSED, "this recording is not sealed to "
		    "that identity");
	if (!has_screen && o->how.mode != SP_PLAY_RECORDS)
		return sp_cli_fail(SP_EXIT_REFUSED, "the screen does not open with "
		    "that; export --format records writes what does");
	memcpy(o->how.recording_key, o->id[0].pk, 32);
	return SP_EXIT_OK;
}

/* ----------------------------------------------------------- the bastion's part */

static _Noreturn void
become_player(const char *exe, int link)
{
	char *argv[] = {(char *)(uintptr_t)exe, NULL}, *env[] = {NULL};

	if (dup2(link, SP_SUPERVISOR_FD) < 0)
		_exit(126);
	execve(exe, argv, env);
	_exit(127);
}

static enum sp_err
expect(struct sp_link *l, uint16_t type, struct sp_packet *p)
{
	SP_TRY(sp_link_wait(l, p, WORD_MS));
	sp_packet_close_fds(p);
	return p->type == type ? SP_OK : SP_ERR_PROTO;
}

static enum sp_err
greet(struct offline *o)
{
	struct sp_packet p;
	struct sp_msg_hello m;
	uint8_t ours[32];

	SP_TRY(expect(&o->sup, SP_MSG_hello, &p));
	SP_TRY(sp_dec_hello(p.body, &m));
	sp_ipc_table_hash(ours);
	if (memcmp(ours, m.table, sizeof(ours)) != 0)
		return SP_ERR_UNSUPPORTED;
	SP_TRY(sp_send_start_parent(&o->sup, 0, &(struct sp_msg_start_parent){0},
	    NULL));
	SP_TRY(expect(&o->sup, SP_MSG_started, &p));
	o->sup.state = SP_ST_READY;
	return SP_OK;
}

static enum sp_err
spawn(struct offline *o, int stream)
{
	struct sp_msg_spawn_player m = {.id = 1};
	struct sp_packet p;
	int brk[2], vlt[2];

	memcpy(m.session, o->h->session, 16);
	SP_TRY(sp_link_pair(brk));
	SP_TRY(sp_link_pair(vlt));
	SP_TRY(sp_send_spawn_player(&o->sup, 0, &m, (int[]){o->file, brk[1],
	    stream, vlt[1]}));
	SP_TRY(sp_link_init(&o->brk, brk[0], SP_ROLE_BRK, SP_ROLE_PLY,
	    SP_ST_READY));
	SP_TRY(sp_link_init(&o->vlt, vlt[0], SP_ROLE_VLT, SP_ROLE_PLY,
	    SP_ST_READY));
	SP_TRY(expect(&o->sup, SP_MSG_spawned, &p));
	return sp_send_play_start(&o->brk, 0, &o->how, NULL);
}

static enum sp_err
give_keys(struct offline *o)
{
	struct sp_msg_play_keys_r r = {.ok = 1, .keys = sp_buf_span(&o->keys)};
	struct sp_packet p;

	/* It asks when it has judged the whole file, or ends without. */
	SP_TRY(sp_link_wait(&o->vlt, &p, LONG_MS));
	if (p.type != SP_MSG_play_keys)
		return SP_ERR_PROTO;
	return sp_send_play_keys_r(&o->vlt, p.corr, &r, NULL);
}

static int
serve(struct offline *o, const char *exe, int stream)
{
	struct sp_packet p;
	int pair[2];
	enum sp_err e = sp_link_pair(pair);

	if (e != SP_OK)
		return 1;
	o->player = fork();
	if (o->player == 0)
		become_player(exe, pair[1]);
	close(pair[1]);
	e = o->player < 0 ? SP_ERR_IO : sp_link_init(&o->sup, pair[0], SP_ROLE_SUP,
	    SP_ROLE_PLY, SP_ST_NEW);
	if (e == SP_OK)
		e = greet(o);
	if (e == SP_OK)
		e = spawn(o, stream);
	if (e == SP_OK)
		e = give_keys(o);
	if (e == SP_OK)
		e = sp_link_wait(&o->brk, &p, LONG_MS);
	sp_link_fini(&o->sup);	/* the player's parent ends with it */
	if (o->player > 0)
		while (waitpid(o->player, NULL, 0) < 0 && errno == EINTR)
			;
	return e == SP_OK || e == SP_ERR_EOF ? 0 : 1;
}

/* ------------------------------------------------------------------- options */

static const struct {
	const char *name;
	uint8_t mode, json;
} formats[] = {
    {"asciicast", SP_PLAY_ASCIICAST, 0}, {"asciicast-v2", SP_PLAY_ASCIICAST, 0},
    {"asciicast-v3", SP_PLAY_ASCIICAST3, 0}, {"text", SP_PLAY_TEXT, 0},
    {"html", SP_PLAY_HTML, 0}, {"records", SP_PLAY_RECORDS, 0},
    {"commands-csv", SP_PLAY_COMMANDS, 0}, {"commands-json", SP_PLAY_COMMANDS, 1},
};

/* What is exported, and as what; --keys, --times, --unmasked. */
static int
take_format(struct offline *o, int *argc, char **argv)
{
	const char *format = sp_cli_value(argc, argv, "--format");
	bool keys = sp_cli_flag(argc, argv, "--keys");
	bool times = sp_cli_flag(argc, argv, "--times");
	bool unmasked = sp_cli_flag(argc, argv, "--unmasked");

	o->how.mode = 0;
	o->with_keys = keys;
	o->how.what = (uint8_t)((keys ? SP_PLAY_KEYS : 0) | (times ?
	    SP_PLAY_TIMES : 0) | (unmasked ? SP_PLAY_UNMASKED : 0));
	if (strcmp(argv[0], "replay") == 0) {
		o->how.mode = SP_PLAY_REPLAY;
		return SP_EXIT_OK;
	}
	if (strcmp(argv[0], "verify") == 0) {
		o->how.mode = SP_PLAY_VERIFY;
		o->how.what = SP_PLAY_SCREENS;
		return SP_EXIT_OK;
	}
	for (size_t i = 0; format != NULL && i < sizeof(formats) /
	    sizeof(formats[0]); i++)
		if (strcmp(format, formats[i].name) == 0) {
			o->how.mode = formats[i].mode;
			o->how.json = formats[i].json;
		}
	return o->how.mode != 0 ? SP_EXIT_OK : sp_cli_fail(SP_EXIT_USAGE,
	    "export knows --format asciicast, asciicast-v3, text, html, records, "
	    "commands-csv and commands-json");
}

static int
take_how(struct offline *o, int *argc, char **argv)
{
	const char *speed = sp_cli_value(argc, argv, "--speed");
	const char *at = sp_cli_value(argc, argv, "--at");
	const char *idle = sp_cli_value(argc, argv, "--idle");
	const char *key = sp_cli_value(argc, argv, "--key");
	uint64_t x = 1;
	int64_t us = 0;
	int rc = take_format(o, argc, argv);

	if (rc != SP_EXIT_OK)
		return rc;
	o->how.play = 1;
	o->how.speed = 100;
	o->how.name = sp_span_str("offline");
	if (speed != NULL && (sp_u64_parse(sp_span_str(speed), 1000, &x) != SP_OK ||
	    x == 0))
		return sp_cli_fail(SP_EXIT_USAGE, "--speed wants a whole factor");
	o->how.speed = (uint32_t)x * 100;
	if (at != NULL && sp_duration_parse(sp_span_str(at), &us) != SP_OK)
		return sp_cli_fail(SP_EXIT_USAGE, "--at wants a time such as 1m30s");
	o->how.at_us = (uint64_t)us;
	us = 0;
	if (idle != NULL && sp_duration_parse(sp_span_str(idle), &us) != SP_OK)
		return sp_cli_fail(SP_EXIT_USAGE, "--idle wants a time such as 2s");
	o->how.idle_us = (uint64_t)us;
	if (key != NULL && sp_unhex(o->how.audit_key, 32, sp_span_str(key)) != SP_OK)
		return sp_cli_fail(SP_EXIT_USAGE, "--key wants the audit key, 64 "
		    "hexadecimal digits");
	if (key == NULL)
		sp_cli_step("Which bastion made it is not checked: --key KEY with "
		    "the audit key of its vault does.");
	return SP_EXIT_OK;
}

static int
take_identities(struct offline *o, int *argc, char **argv)
{
	const char *path;
	int rc;

	while ((path = sp_cli_value(argc, argv, "--identity")) != NULL) {
		if (o->n_ids == IDENTITIES_MAX)
			return sp_cli_fail(SP_EXIT_USAGE, "at most %d identities",
			    IDENTITIES_MAX);
		if ((rc = sp_identity_open(path, &o->id[o->n_ids])) != SP_EXIT_OK)
			return rc;
		o->n_ids++;
	}
	return SP_EXIT_OK;
}

static int
run(struct offline *o)
{
	bool is_replay = o->how.mode == SP_PLAY_REPLAY;
	int in = is_replay && isatty(STDIN_FILENO) ? STDIN_FILENO : -1;
	SP_BUF_AUTO env = {.max = 256};
	struct sp_open open;
	char exe[4096];
	int pair[2], rc;
	pid_t pid;

	if (!sp_cli_find("sallyport-player", exe))
		return SP_EXIT_REFUSED;
	if (sp_cli_our_open(&open, !is_replay, &env) != SP_OK ||
	    sp_stream_pair(pair) != SP_OK)
		return sp_cli_fail(SP_EXIT_REFUSED, "%s", strerror(errno));
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		_exit(serve(o, exe, pair[1]));
	}
	close(pair[1]);
	sodium_memzero(o->id, sizeof(o->id));
	sp_buf_fini(&o->keys);
	if (pid < 0) {
		close(pair[0]);
		return sp_cli_fail(SP_EXIT_REFUSED, "%s", strerror(errno));
	}
	rc = sp_cli_relay(pair[0], &open, in, NULL, in >= 0 && open.has_pty != 0);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return rc;
}

int
sp_cmd_offline(struct sp_cli *c, int argc, char **argv)
{
	static struct offline o;
	int rc;

	(void)sp_cli_flag(&argc, argv, "--json");
	o = (struct offline){.keys = {.max = 1024}};
	if (sodium_init() < 0)
		return sp_cli_fail(SP_EXIT_REFUSED, "no cryptography");
	rc = take_identities(&o, &argc, argv);
	if (rc == SP_EXIT_OK && (o.n_ids == 0 || argc < 2))
		rc = sp_cli_fail(SP_EXIT_USAGE, "usage: sallyport replay|export|verify FILE "
		    "--identity FILE ... [--key AUDITKEY]");
	if (rc == SP_EXIT_OK && (o.file = open(argv[1], O_RDONLY | O_CLOEXEC |
	    O_NOCTTY)) < 0)
		rc = sp_cli_fail(SP_EXIT_USAGE, "%s: %s", argv[1], strerror(errno));
	if (rc == SP_EXIT_OK && read_header(&o) != SP_OK)
		rc = sp_cli_fail(SP_EXIT_REFUSED, "%s is no recording, or its "
		    "beginning is cut", argv[1]);
	if (rc == SP_EXIT_OK)
		rc = take_how(&o, &argc, argv);
	if (rc == SP_EXIT_OK && o.how.mode == SP_PLAY_VERIFY)
		o.how.json = c->json;
	if (rc == SP_EXIT_OK && argc != 2)
		rc = sp_cli_fail(SP_EXIT_USAGE, "%s: what is that?", argv[2]);
	if (rc == SP_EXIT_OK)
		rc = open_lanes(&o);
	if (rc == SP_EXIT_OK)
		rc = run(&o);
	sodium_memzero(&o.id, sizeof(o.id));
	sp_buf_fini(&o.keys);
	return rc;
}
