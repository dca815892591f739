/* SPDX-License-Identifier: Apache-2.0 */
/* Where the live vault has its root key and all that hangs below it: in memory that
 * is locked, in no core file, and between pages that nobody can touch. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/vault_proc.h"
#include "vault/vaultd.h"

#define OK(e) cr_assert_eq((e), SP_OK)
#define MAPS_MAX 1024

#ifndef SP_SANITIZED
struct map {
	unsigned long from, to;
	char may[5];
	bool locked, dumped;
};

static size_t
maps_of(pid_t pid, struct map m[static MAPS_MAX])
{
	char path[64], line[1024];
	size_t n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	cr_assert_not_null(f = fopen(path, "re"));
	while (fgets(line, sizeof(line), f) != NULL) {
		unsigned long from, to;
		char may[5];

		if (sscanf(line, "%lx-%lx %4s", &from, &to, may) == 3) {
			cr_assert_lt(n, MAPS_MAX);
			m[n] = (struct map){.from = from, .to = to};
			memcpy(m[n++].may, may, 5);
		} else if (n > 0 && strncmp(line, "VmFlags:", 8) == 0) {
			m[n - 1].locked = strstr(line, " lo") != NULL;
			m[n - 1].dumped = strstr(line, " dd") == NULL;
		}
	}
	fclose(f);
	return n;
}

static size_t
times_in(pid_t pid, const struct map *m, const struct sp_secret *key)
{
	size_t size = m->to - m->from, times = 0;
	uint8_t *data, *at;
	char path[64];
	ssize_t got;
	int mem;

	if (memcmp(m->may, "rw", 2) != 0 || (data = malloc(size)) == NULL)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	cr_assert_geq(mem = open(path, O_RDONLY | O_CLOEXEC), 0);
	got = pread(mem, data, size, (off_t)m->from);
	close(mem);
	for (at = data; got > 0 && (at = memmem(at, (size_t)(data + got - at),
	    key->p, key->n)) != NULL; at++)
		times++;
	free(data);
	return times;
}

static void
is_guarded(pid_t pid, const struct sp_secret *key, const char *name)
{
	static struct map m[MAPS_MAX];
	size_t n = maps_of(pid, m), seen = 0;

	for (size_t i = 1; i + 1 < n; i++) {
		size_t times = times_in(pid, &m[i], key);

		seen += times;
		if (times == 0)
			continue;
		cr_expect(m[i].locked, "the %s can be swapped out", name);
		cr_expect_not(m[i].dumped, "the %s is dumped", name);
		cr_expect(m[i - 1].to == m[i].from && m[i + 1].from == m[i].to &&
		    memcmp(m[i - 1].may, "---", 3) == 0 &&
		    memcmp(m[i + 1].may, "---", 3) == 0, "the %s has a neighbour",
		    name);
	}
	cr_expect_geq(seen, 1, "the search is blind: the %s is there", name);
}

Test(vault_memory, keys_are_locked_and_guarded)
{
	static struct sp_state s;
	struct sp_secret root = {0};
	struct sp_root r = {0};
	struct proc p;
	int dir;

	vp_begin(&p, false, geteuid() != 0);
	OK(vp_unseal(&p, p.passphrase));
	cr_assert_geq(dir = open(p.vault, O_RDONLY | O_DIRECTORY | O_CLOEXEC), 0);
	OK(sp_state_load(dir, &s));
	close(dir);
	OK(sp_slots_open(s.slots, s.n_slots, sp_span_str(p.passphrase), &root));
	OK(sp_root_open(&r, &s, sp_span_str(p.passphrase)));
	is_guarded(p.pid, &root, "root key");
	for (size_t i = 0; i < r.n_keks; i++)
		is_guarded(p.pid, &r.keks[i].key, "KEK");
	is_guarded(p.pid, &r.audit, "audit key");
	is_guarded(p.pid, &r.ca, "CA's key");
	is_guarded(p.pid, &r.host, "host key");
	is_guarded(p.pid, &r.rec, "recordings' key");
	sp_root_close(&r);
	sp_secret_free(&root);
	vp_end(&p);
}
#endif
