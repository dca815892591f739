/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load OUT : many SSH sessions from one process, for measurements. Reads
 * commands from standard input, a line each, fields separated by tabs:
 *
 *   session HOST PORT USER KEYFILE CODE PROXY COMMAND   (CODE, PROXY may be -)
 *   open PARALLEL    opens what was named since the last one; prints
 *                    `up N failed M` and the first failure
 *   echo KEYS GAP_US WARM   each session with a thread of its own writes a byte
 *                    and waits for it, KEYS times, with a pause of GAP_US
 *                    between two (0: at once); appends each time in
 *                    microseconds to OUT as u32; prints `echo N bad M`
 *   bulk down COMMAND   a further channel on every session in turn reads all
 *   bulk up COMMAND MIB    that COMMAND writes, or writes MIB MiB of noise to it
 *   rest SECONDS     says nothing for so long, but answers what is asked of a
 *                    client (keepalives); prints `rested N` of those that live
 *   close            ends them all
 *
 * Every session has a terminal, and a remote command that gives back what it
 * is sent.
 */
#include <errno.h>
#include <libssh/libssh.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SESSIONS_MAX 8192
#define FIELDS_MAX 8

struct session {
	char *host, *port, *user, *key, *code, *proxy, *command;
	ssh_session s;
	ssh_channel c;
	char why[256];
	bool up;
};
struct typing {
	struct session *s;
	uint32_t *us;
	unsigned keys, warm, gap_us;
	unsigned bad;
};
static struct session all[SESSIONS_MAX];
static size_t n_all, n_open;
static FILE *out;

static int64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* ------------------------------------------------------------------ logging in */

static int
answer_code(struct session *s)
{
	int rc = ssh_userauth_kbdint(s->s, NULL, NULL);

	while (rc == SSH_AUTH_INFO) {
		int n = ssh_userauth_kbdint_getnprompts(s->s);

		for (int i = 0; i < n; i++)
			if (ssh_userauth_kbdint_setanswer(s->s, (unsigned)i, s->code) < 0)
				return SSH_AUTH_ERROR;
		rc = ssh_userauth_kbdint(s->s, NULL, NULL);
	}
	return rc;
}

static int
log_in(struct session *s)
{
	ssh_key key = NULL;
	int rc = ssh_pki_import_privkey_file(s->key, NULL, NULL, NULL, &key);

	if (rc != SSH_OK)
		return SSH_AUTH_ERROR;
	rc = ssh_userauth_publickey(s->s, NULL, key);
	ssh_key_free(key);
	if (rc == SSH_AUTH_PARTIAL)
		rc = answer_code(s);
	return rc;
}

static bool
set_up(struct session *s)
{
	int off = 0, on = 1;
	bool proxied = strcmp(s->proxy, "-") != 0;

	return (s->s = ssh_new()) != NULL &&
	    ssh_options_set(s->s, SSH_OPTIONS_PROCESS_CONFIG, &off) == 0 &&
	    ssh_options_set(s->s, SSH_OPTIONS_HOST, s->host) == 0 &&
	    ssh_options_set(s->s, SSH_OPTIONS_PORT_STR, s->port) == 0 &&
	    ssh_options_set(s->s, SSH_OPTIONS_USER, s->user) == 0 &&
	    ssh_options_set(s->s, SSH_OPTIONS_KNOWNHOSTS, "/dev/null") == 0 &&
	    ssh_options_set(s->s, SSH_OPTIONS_KEY_EXCHANGE, "curve25519-sha256") == 0 &&
	    ssh_options_set(s->s, SSH_OPTIONS_CIPHERS_C_S, "aes128-gcm@openssh.com") == 0 &&
	    ssh_options_set(s->s, SSH_OPTIONS_CIPHERS_S_C, "aes128-gcm@openssh.com") == 0 &&
	    ssh_options_set(s->s, SSH_OPTIONS_NODELAY, &on) == 0 &&
	    (!proxied ||
	    ssh_options_set(s->s, SSH_OPTIONS_PROXYCOMMAND, s->proxy) == 0) &&
	    ssh_connect(s->s) == SSH_OK;
}

static void
open_one(struct session *s)
{
	char b[2] = "";
	int n = 0;

	if (!set_up(s) || log_in(s) != SSH_AUTH_SUCCESS ||
	    (s->c = ssh_channel_new(s->s)) == NULL ||
	    ssh_channel_open_session(s->c) != SSH_OK ||
	    ssh_channel_request_pty_size(s->c, "xterm", 80, 24) != SSH_OK ||
	    ssh_channel_request_exec(s->c, s->command) != SSH_OK) {
		snprintf(s->why, sizeof(s->why), "%s",
		    s->s == NULL ? "no memory" : ssh_get_error(s->s));
		return;
	}
	/* The command says ! when its terminal is raw. */
	while ((n = ssh_channel_read(s->c, b, 1, 0)) == 1 && b[0] != '!')
		;
	s->up = n == 1;
	if (!s->up)
		snprintf(s->why, sizeof(s->why), "the command ended: %s",
		    ssh_get_error(s->s));
}

static atomic_size_t next_open;

static void *
opener(void *arg)
{
	size_t i;

	(void)arg;
	while ((i = atomic_fetch_add(&next_open, 1)) < n_all)
		open_one(&all[i]);
	return NULL;
}

static void
run_threads(size_t n, void *(*fn)(void *), void *args, size_t size)
{
	pthread_t *t = calloc(n, sizeof(*t));
	pthread_attr_t a;

	if (t == NULL || pthread_attr_init(&a) != 0 ||
	    pthread_attr_setstacksize(&a, 256 << 10) != 0)
		exit(1);
	for (size_t i = 0; i < n; i++)
		if (pthread_create(&t[i], &a, fn,
		    args == NULL ? NULL : (char *)args + i * size) != 0)
			exit(1);
	for (size_t i = 0; i < n; i++)
		pthread_join(t[i], NULL);
	free(t);
}

static void
do_open(size_t parallel)
{
	size_t good = 0;
	const char *why = "";

	atomic_store(&next_open, n_open);
	run_threads(parallel, opener, NULL, 0);
	for (size_t i = n_open; i < n_all; i++) {
		good += all[i].up;
		if (!all[i].up && why[0] == '\0')
			why = all[i].why;
	}
	printf("up %zu failed %zu %s\n", good, n_all - n_open - good, why);
	n_open = n_all;
}

/* --------------------------------------------------------------------- typing */

static bool
one_key(struct session *s, char c)
{
	char got = 0;

	return ssh_channel_write(s->c, &c, 1) == 1 &&
	    ssh_channel_read(s->c, &got, 1, 0) == 1 && got == c;
}

static void *
typist(void *arg)
{
	struct typing *t = arg;
	int64_t next = now_ns() + (t->gap_us == 0 ? 0 :
	    (int64_t)((uintptr_t)t->s / 64 % t->gap_us) * 1000);

	for (unsigned i = 0; i < t->warm + t->keys; i++) {
		int64_t begin = now_ns();

		if (t->gap_us != 0 && next > begin) {
			struct timespec ts = {.tv_sec = next / 1000000000,
			    .tv_nsec = next % 1000000000};

			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
			begin = now_ns();
		}
		next += (int64_t)t->gap_us * 1000;
		if (!one_key(t->s, (char)('a' + i % 26))) {
			t->bad++;
			return NULL;
		}
		if (i >= t->warm)
			t->us[i - t->warm] = (uint32_t)((now_ns() - begin) / 1000);
	}
	return NULL;
}

static void
do_echo(unsigned keys, unsigned gap_us, unsigned warm)
{
	struct typing *t = calloc(n_all, sizeof(*t));
	size_t n = 0, bad = 0;

	if (t == NULL)
		exit(1);
	for (size_t i = 0; i < n_all; i++)
		if (all[i].up) {
			t[n] = (struct typing){.s = &all[i], .keys = keys,
			    .warm = warm, .gap_us = gap_us,
			    .us = calloc(keys, sizeof(uint32_t))};
			if (t[n++].us == NULL)
				exit(1);
		}
	run_threads(n, typist, t, sizeof(*t));
	for (size_t i = 0; i < n; i++) {
		bad += t[i].bad;
		if (t[i].bad == 0 &&
		    fwrite(t[i].us, sizeof(uint32_t), keys, out) != keys)
			exit(1);
		free(t[i].us);
	}
	free(t);
	fflush(out);
	printf("echo %zu bad %zu\n", n * keys, bad);
}

/* ----------------------------------------------------------------------- bulk */

static int64_t
bulk_down(ssh_channel c)
{
	static char b[65536];
	int64_t sum = 0;
	int n;

	while ((n = ssh_channel_read(c, b, sizeof(b), 0)) > 0)
		sum += n;
	return sum;
}

static int64_t
bulk_up(ssh_channel c, size_t mib)
{
	static uint64_t b[8192];
	uint64_t x = 88172645463325252ULL;
	int64_t sum = 0;

	for (size_t i = 0; i < sizeof(b) / sizeof(b[0]); i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		b[i] = x;
	}
	for (size_t i = 0; i < mib * 16; i++) {
		int n = ssh_channel_write(c, b, sizeof(b));

		if (n < 0)
			return -1;
		sum += n;
	}
	ssh_channel_send_eof(c);
	bulk_down(c);
	return sum;
}

static void
do_bulk(bool up, const char *command, size_t mib)
{
	int64_t sum = 0;

	for (size_t i = 0; i < n_all; i++) {
		ssh_channel c;

		if (!all[i].up)
			continue;
		c = ssh_channel_new(all[i].s);
		if (c == NULL || ssh_channel_open_session(c) != SSH_OK ||
		    ssh_channel_request_exec(c, command) != SSH_OK) {
			printf("bulk failed: %s\n", ssh_get_error(all[i].s));
			return;
		}
		sum += up ? bulk_up(c, mib) : bulk_down(c);
		ssh_channel_close(c);
		ssh_channel_free(c);
	}
	printf("bulk %lld\n", (long long)sum);
}

static void
do_rest(unsigned seconds)
{
	int64_t end = now_ns() + seconds * 1000000000LL;
	size_t n;

	for (;;) {
		n = 0;
		for (size_t i = 0; i < n_open; i++)
			if (all[i].up && ssh_channel_poll(all[i].c, 0) >= 0 &&
			    ssh_is_connected(all[i].s) &&
			    !ssh_channel_is_eof(all[i].c))
				n++;
		if (now_ns() >= end)
			break;
		poll(NULL, 0, 500);
	}
	printf("rested %zu\n", n);
}

static void
do_close(void)
{
	for (size_t i = 0; i < n_all; i++) {
		if (all[i].s != NULL) {
			ssh_disconnect(all[i].s);
			ssh_free(all[i].s);
		}
		free(all[i].host);
		free(all[i].port);
		free(all[i].user);
		free(all[i].key);
		free(all[i].code);
		free(all[i].proxy);
		free(all[i].command);
	}
	n_all = n_open = 0;
	printf("closed\n");
}

/* ------------------------------------------------------------------- commands */

static unsigned
number(const char *s)
{
	return s == NULL ? 0 : (unsigned)strtoul(s, NULL, 10);
}

static void
add(char **f)
{
	if (n_all == SESSIONS_MAX)
		exit(1);
	all[n_all++] = (struct session){.host = strdup(f[1]), .port = strdup(f[2]),
	    .user = strdup(f[3]), .key = strdup(f[4]), .code = strdup(f[5]),
	    .proxy = strdup(f[6]), .command = strdup(f[7])};
}

static void
obey(char *line)
{
	char *f[FIELDS_MAX] = {NULL};
	size_t n = 0;

	line[strcspn(line, "\n")] = '\0';
	while (n < FIELDS_MAX && (f[n] = strsep(&line, "\t")) != NULL)
		n++;
	if (n == 0)
		return;
	if (strcmp(f[0], "session") == 0 && n == 8)
		add(f);
	else if (strcmp(f[0], "open") == 0)
		do_open(number(f[1]));
	else if (strcmp(f[0], "echo") == 0)
		do_echo(number(f[1]), number(f[2]), number(f[3]));
	else if (strcmp(f[0], "bulk") == 0 && n >= 3)
		do_bulk(strcmp(f[1], "up") == 0, f[2], number(f[3]));
	else if (strcmp(f[0], "rest") == 0)
		do_rest(number(f[1]));
	else if (strcmp(f[0], "close") == 0)
		do_close();
	else
		printf("what? %s\n", f[0]);
	fflush(stdout);
}

int
main(int argc, char **argv)
{
	char *line = NULL;
	size_t cap = 0;

	if (argc != 2 || (out = fopen(argv[1], "ae")) == NULL) {
		fprintf(stderr, "usage: load OUT\n");
		return 2;
	}
	ssh_init();
	while (getline(&line, &cap, stdin) > 0)
		obey(line);
	free(line);
	fclose(out);
	return 0;
}
