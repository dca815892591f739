/* SPDX-License-Identifier: Apache-2.0 */
/* covers: bastion/ingress, with the OpenSSH client of this machine */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "test_ingress_stub.h"

TestSuite(ingress, .timeout = 120);
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define MIB (1u << 20)
#define SAYS(c, text)                                                         \
	cr_assert(st_has(&(c)->e, text), "stderr: %.*s", (int)(c)->e.len,     \
	    (char *)(c)->e.p + (c)->e.off)

static const char config[] = "max_tries 4\n";

static int
simple(struct st_world *w, const char *const *args, struct st_client **out)
{
	struct st_client *c = st_ssh(w, args, false);
	int st = st_wait(w, c);

	*out = c;
	return st;
}

Test(ingress, key_then_code_then_exec)
{
	struct st_world *w = st_new(config);
	struct st_client *c;

	cr_assert_eq(simple(w, ARGS("bastion", "two"), &c), 3);
	cr_assert_eq(c->o.len, 10);
	cr_assert(st_has(&c->o, "to stdout\n"));
	SAYS(c, "to stderr\n");
	SAYS(c, "Second factor of alice");
	cr_assert(st_has(&w->log, "auth_key login=alice signed=0 algo=ssh-ed25519 ok=1\n"
	    "auth_key login=alice signed=1 algo=ssh-ed25519 ok=1\nmfa_begin\n"
	    "answer 0 123456\nchan_open ctx=0\n"));
	st_client_free(c);
	st_free(w);
}

Test(ingress, other_keys_and_no_keys_are_refused)
{
	struct st_world *w = st_new(config);
	struct st_client *c;
	char id[96];

	snprintf(id, sizeof(id), "IdentityFile=%s/other", w->dir);
	cr_assert_eq(simple(w, ARGS("-F", "none", "-o", id, "-o",
	    "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no", "-o",
	    "UserKnownHostsFile=/dev/null", "-l", "alice", "-p",
	    "0", "127.0.0.1", "two"), &c), 255);
	st_client_free(c);
	cr_assert_eq(simple(w, ARGS("-o", "PubkeyAuthentication=no", "bastion",
	    "two"), &c), 255);
	SAYS(c, "Permission denied (publickey)");
	cr_assert_not(st_has(&w->log, "mfa_begin"));
	st_client_free(c);
	st_free(w);
}

Test(ingress, unknown_key)
{
	struct st_world *w = st_new(config);
	struct st_client *c;

	w->key[w->key_n - 1] ^= 1;
	cr_assert_eq(simple(w, ARGS("bastion", "two"), &c), 255);
	SAYS(c, "Permission denied (publickey)");
	cr_assert(st_has(&w->log, "signed=0 algo=ssh-ed25519 ok=0"));
	cr_assert_not(st_has(&w->log, "signed=1"));
	st_client_free(c);
	st_free(w);
}

Test(ingress, wrong_code_is_tried_until_the_limit)
{
	struct st_world *w = st_new(config);
	struct st_client *c;

	w->mfa_prompt = "Wrong: ";
	cr_assert_eq(simple(w, ARGS("-o", "NumberOfPasswordPrompts=9", "bastion",
	    "two"), &c), 255);
	SAYS(c, "Too many authentication failures");
	cr_assert_not(st_has(&w->log, "chan_open"));
	st_client_free(c);
	st_free(w);
}

Test(ingress, bytes_down_are_all_there)
{
	struct st_world *w = st_new(config);
	struct st_client *c = st_ssh(w, ARGS("-o", "RekeyLimit=1M", "bastion",
	    "gen 8388608"), false);
	static uint8_t want[8 * MIB];
	uint32_t seed = 1;

	/* A reader that stops: everything must stop, and go on. */
	c->hold_out = true;
	cr_assert(st_until_log(w, c, "OPEN kind=2"));
	while (!st_is_out_of_credit(w))
		st_step(w, c);
	c->hold_out = false;
	cr_assert_eq(st_wait(w, c), 0);
	st_pattern(want, sizeof(want), &seed);
	cr_assert_eq(c->o.len, sizeof(want));
	cr_assert_eq(memcmp(c->o.p + c->o.off, want, sizeof(want)), 0);
	st_client_free(c);
	st_free(w);
}

Test(ingress, bytes_up_and_both_ways)
{
	struct st_world *w = st_new(config);
	static uint8_t data[8 * MIB], want[8 * MIB];
	uint32_t seed = 2;
	struct st_client *c;
	const char *const cmds[] = {"sink", "both 8388608"};

	st_pattern(data, sizeof(data), &seed);
	seed = 1;
	st_pattern(want, sizeof(want), &seed);
	for (int i = 0; i < 2; i++) {
		c = st_ssh(w, ARGS("-o", "RekeyLimit=1M", "bastion", cmds[i]), false);
		c->feed = data;
		c->feed_n = sizeof(data);
		cr_assert_eq(st_wait(w, c), 0, "%s", cmds[i]);
		cr_assert(i == 0 || (c->o.len == sizeof(want) &&
		    memcmp(c->o.p + c->o.off, want, sizeof(want)) == 0));
		cr_assert(st_until_log(w, NULL, "got=8388608"));
		st_client_free(c);
	}
	st_free(w);
}

Test(ingress, status_signal_and_failure)
{
	struct st_world *w = st_new(config);
	struct st_client *c;

	cr_assert_eq(simple(w, ARGS("bastion", "exit 42"), &c), 42);
	st_client_free(c);
	cr_assert_eq(simple(w, ARGS("bastion", "sig"), &c), 255);
	st_client_free(c);
	cr_assert_eq(simple(w, ARGS("bastion", "fail"), &c), 255);
	SAYS(c, "[sallyport] the target refused it\n");
	st_client_free(c);
	cr_assert_eq(simple(w, ARGS("bastion", "refuse me"), &c), 75);
	SAYS(c, "request 7 is filed\n");
	cr_assert_eq(c->o.len, 0);
	st_client_free(c);
	st_free(w);
}

Test(ingress, environment_passes_by_its_list)
{
	struct st_world *w = st_new("environment LANG X_*\n");
	struct st_client *c;

	cr_assert_eq(simple(w, ARGS("-o", "SetEnv=X_A=1 OTHER=2", "bastion",
	    "exit 0"), &c), 0);
	/* lengths, a name and a value: 4 + 3 + 4 + 1 */
	cr_assert(st_has(&w->log, "cmd=exit 0 env=12\n"));
	st_client_free(c);
	st_free(w);
}

Test(ingress, shell_with_a_terminal_and_a_dialogue)
{
	struct st_world *w = st_new(config);
	struct st_client *c = st_ssh(w, ARGS("-tt", "bastion"), true);
	struct winsize ws = {.ws_row = 40, .ws_col = 100};

	cr_assert(st_until_out(w, c, "Why? "));
	cr_assert(st_has(&w->log, "pty=1 80x24"));
	cr_assert_eq(write(c->pty, "the disk\r", 9), 9);
	/* HANDOVER: the same channel, the session's own stream */
	cr_assert(st_until_out(w, c, "hello pty"));
	cr_assert_eq(ioctl(c->pty, TIOCSWINSZ, &ws), 0);
	cr_assert(st_until_out(w, c, "win 100x40"));
	st_notice(w, "five minutes are left \033[2J");
	cr_assert(st_until_out(w, c, "[sallyport] five minutes are left \\x1b[2J\r\n"));
	cr_assert_eq(write(c->pty, "ls\r", 3), 3);
	cr_assert(st_until_out(w, c, "got ls"));
	cr_assert_eq(write(c->pty, "q\r", 2), 2);
	cr_assert_eq(st_wait(w, c), 0);
	cr_assert(st_has(&w->log, "LINE the disk"));
	st_client_free(c);
	st_free(w);
}

Test(ingress, answers_that_overtake_the_handover)
{
	struct st_world *w = st_new(config);
	struct st_client *c = st_ssh(w, ARGS("-tt", "bastion"), true);

	w->early_stream = true;
	cr_assert(st_until_out(w, c, "Why? "));
	cr_assert_eq(write(c->pty, "x\r", 2), 2);
	cr_assert(st_until_out(w, c, "hello pty"));
	cr_assert_eq(write(c->pty, "q\r", 2), 2);
	cr_assert_eq(st_wait(w, c), 0);
	st_client_free(c);
	w->early_refusal = true;
	c = st_ssh(w, ARGS("-tt", "bastion"), true);
	cr_assert(st_until_out(w, c, "Why? "));
	cr_assert_eq(write(c->pty, "x\r", 2), 2);
	cr_assert_eq(st_wait(w, c), 1);
	cr_assert(st_has(&c->o, "nobody approved\r\n"));
	st_client_free(c);
	st_free(w);
}

Test(ingress, the_end_of_a_session_is_told)
{
	struct st_world *w = st_new(config);
	struct st_client *c = st_ssh(w, ARGS("bastion", "cat"), false);

	c->feed = (const uint8_t *)"abc";
	c->feed_n = 3;
	c->keep_in = true;
	cr_assert(st_until_out(w, c, "abc"));
	st_end(w, SP_END_REVOKED, "bob has taken the grant back");
	cr_assert_eq(st_wait(w, c), 255);
	SAYS(c, "[sallyport] bob has taken the grant back\n");
	cr_assert_eq(c->o.len, 3);
	st_client_free(c);
	st_free(w);
}

Test(ingress, a_broker_that_dies_ends_connections)
{
	struct st_world *w = st_new(config);
	struct st_client *c = st_ssh(w, ARGS("bastion", "cat"), false);

	c->keep_in = true;
	cr_assert(st_until_log(w, c, "OPEN kind=2"));
	st_broker_dies(w);
	cr_assert_eq(st_wait(w, c), 255);
	SAYS(c, "[sallyport] the bastion is restarting");
	st_client_free(c);
	st_free(w);
}

Test(ingress, jump_with_a_reason_and_a_notice)
{
	struct st_world *w = st_new(config);
	struct st_client *c;

	w->asks_reason = true;
	c = st_ssh(w, ARGS("-o", "PreferredAuthentications=keyboard-interactive",
	    "core-01", "cat"), false);
	c->keep_in = true;
	cr_assert(st_until_log(w, c, "OPEN kind=2"));
	cr_assert(st_has(&w->log, "target_open core-01:22\n"
	    "target_login login=admin method=1 signed=0\n"));
	cr_assert(st_has(&w->log, "answer 1 fix the disk\n"), "%.*s", (int)w->log.len, (char *)w->log.p);
	SAYS(c, "request 42 is filed");
	st_notice(w, "one minute is left");
	for (int64_t end = sp_boot_us() + 60000000; sp_boot_us() < end &&
	    !st_has(&c->e, "[sallyport] one minute is left\n");)
		st_step(w, c);
	SAYS(c, "[sallyport] one minute is left\n");
	c->feed = (const uint8_t *)"xyz";
	c->feed_n = 3;
	c->keep_in = false;
	cr_assert_eq(st_wait(w, c), 0);
	cr_assert_eq(c->o.len, 3);
	cr_assert(st_until_log(w, NULL, "target_close"));
	st_client_free(c);
	st_free(w);
}

Test(ingress, jump_moves_every_byte)
{
	struct st_world *w = st_new(config);
	static uint8_t data[8 * MIB], want[8 * MIB];
	uint32_t seed = 2;
	struct st_client *c;

	st_pattern(data, sizeof(data), &seed);
	seed = 1;
	st_pattern(want, sizeof(want), &seed);
	c = st_ssh(w, ARGS("-o", "RekeyLimit=1M", "core-01", "both 8388608"), false);
	c->feed = data;
	c->feed_n = sizeof(data);
	cr_assert_eq(st_wait(w, c), 0);
	cr_assert_eq(c->o.len, sizeof(want));
	cr_assert_eq(memcmp(c->o.p + c->o.off, want, sizeof(want)), 0);
	cr_assert(st_until_log(w, NULL, "got=8388608"));
	st_client_free(c);
	st_free(w);
}

Test(ingress, jump_refusals_say_why)
{
	struct st_world *w = st_new(config);
	struct st_client *c;

	cr_assert_eq(simple(w, ARGS("core-02", "cat"), &c), 255);
	SAYS(c, "no target is called core-02");
	st_client_free(c);
	w->deny_login = true;
	cr_assert_eq(simple(w, ARGS("core-01", "cat"), &c), 255);
	cr_assert(st_has(&c->e, "ermission denied") || st_has(&c->e, "Too many"));
	st_client_free(c);
	st_free(w);
}

Test(ingress, forwarding_is_refused)
{
	struct st_world *w = st_new(config);
	struct st_client *c;

	cr_assert_eq(simple(w, ARGS("-A", "-R", "0:127.0.0.1:9", "core-01",
	    "exit 0"), &c), 0);
	cr_assert(st_has(&w->log, "LISTEN\n"));
	SAYS(c, "remote port forwarding failed");
	st_client_free(c);
	cr_assert_eq(simple(w, ARGS("-o", "ExitOnForwardFailure=yes", "-R",
	    "0:127.0.0.1:9", "bastion", "exit 0"), &c), 255);
	st_client_free(c);
	cr_assert(st_has(&w->log, "policy_refusal tcpip-forward"));
	/* through the target: its side says why not, and the client shows it */
	cr_assert_eq(simple(w, ARGS("-W", "127.0.0.1:9", "core-01"), &c), 255);
	cr_assert(st_has(&w->log, "FORWARD\n"));
	SAYS(c, "connect failed: forwarding is not\\\\x1b permitted here");
	st_client_free(c);
	st_free(w);
}

Test(ingress, several_channels_share_one_stream)
{
	struct st_world *w = st_new(config);
	struct st_client *m, *c[3];
	char path[96];

	snprintf(path, sizeof(path), "ControlPath=%s/ctl", w->dir);
	m = st_ssh(w, ARGS("-M", "-N", "-o", path, "core-01"), false);
	m->keep_in = true;
	cr_assert(st_until_log(w, m, "target_login"));
	for (char ctl[96] = ""; access(ctl, F_OK) != 0; st_step(w, m))
		snprintf(ctl, sizeof(ctl), "%s/ctl", w->dir);
	for (int i = 0; i < 3; i++)
		c[i] = st_ssh(w, ARGS("-o", path, "core-01", i == 1 ? "exit 5" :
		    "gen 1048576"), false);
	c[0]->hold_out = true;		/* one that blocks holds no other */
	cr_assert_eq(st_wait(w, c[1]), 5);
	cr_assert_eq(st_wait(w, c[2]), 0);
	cr_assert_eq(c[2]->o.len, MIB);
	c[0]->hold_out = false;
	cr_assert_eq(st_wait(w, c[0]), 0);
	cr_assert_eq(c[0]->o.len, MIB);
	for (int i = 0; i < 3; i++)
		st_client_free(c[i]);
	{
		const char *first = memmem(w->log.p + w->log.off, w->log.len,
		    "chan_open", 9);
		size_t left;

		cr_assert_not_null(first);
		left = w->log.len - (size_t)((const uint8_t *)first + 9 -
		    (w->log.p + w->log.off));
		cr_assert_null(memmem(first + 9, left, "chan_open", 9));
	}
	st_client_free(m);
	st_free(w);
}
