/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ratchet, against who has root: all memory of a recorder at work is read, and
 * searched for the keys of every segment that is over, and for what was typed and
 * shown in the first one. Neither may be there; what belongs to the segment that is
 * being written must be, or this looked in the wrong place.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

#include "tests/unit/rec_check.h"

#define PIECE 32768
#define ROUNDS 640		/* 20 MiB: a segment ends after 8 */
#define WORD 32
#define PAGE 4096
#define STEP (1u << 20)
#define WANTED_MAX 256

/* What is looked for, and how often it was there. */
struct wanted {
	char name[48];
	uint8_t bytes[WORD];
	uint32_t segment;
	bool is_state;
	unsigned found;
};

static struct wanted wanted[WANTED_MAX];
static size_t n_wanted;

static void
want(const uint8_t bytes[static WORD], const char *what, unsigned lane,
    uint32_t segment)
{
	struct wanted *w = &wanted[n_wanted++];

	cr_assert_leq(n_wanted, WANTED_MAX);
	*w = (struct wanted){.segment = segment,
	    .is_state = strcmp(what, "state") == 0};
	memcpy(w->bytes, bytes, WORD);
	snprintf(w->name, sizeof(w->name), "%s, lane %u, segment %u", what, lane,
	    segment);
}

static void
search_in(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n_wanted; i++) {
		const uint8_t *at = p, *hit;

		while ((hit = memmem(at, n - (size_t)(at - p), wanted[i].bytes,
		    WORD)) != NULL) {
			wanted[i].found++;
			at = hit + 1;
		}
	}
}

static void
search_range(int mem, uint64_t from, uint64_t to)
{
	static uint8_t room[STEP + WORD];
	size_t kept = 0;

	while (from < to) {
		size_t n = to - from < STEP ? (size_t)(to - from) : STEP;
		ssize_t got = pread(mem, room + kept, n, (off_t)from);

		if (got <= 0)
			return;
		n = kept + (size_t)got;
		search_in(room, n);
		/* What begins in the last bytes is found in the next step. */
		kept = n < WORD - 1 ? n : WORD - 1;
		memmove(room, room + n - kept, kept);
		from += (uint64_t)got;
	}
}

/* Everything that the process can write to, while it stands still. */
static void
search(pid_t pid)
{
	char path[64], line[512], flags[8];
	uint64_t from, to;
	FILE *maps;
	int mem;

	for (size_t i = 0; i < n_wanted; i++)
		wanted[i].found = 0;
	cr_assert_eq(kill(pid, SIGSTOP), 0);
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	mem = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	maps = fopen(path, "re");
	cr_assert(mem >= 0 && maps != NULL);
	while (fgets(line, sizeof(line), maps) != NULL)
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s", &from, &to,
		    flags) == 3 && flags[0] == 'r' && flags[1] == 'w')
			search_range(mem, from, to);
	fclose(maps);
	close(mem);
	cr_assert_eq(kill(pid, SIGCONT), 0);
}

static size_t want_user, want_target;

static bool
has_come(struct rig *g)
{
	return g->at_user.len >= want_user && g->at_target.len >= want_target;
}

static void
pass(struct rig *g, const uint8_t *typed, const uint8_t *shown, size_t n)
{
	uint8_t credit[4] = {0, 0, 1, 0};

	sp_buf_reset(&g->at_user);
	sp_buf_reset(&g->at_target);
	want_user = shown == NULL ? 0 : n;
	want_target = typed == NULL ? 0 : n;
	if (typed != NULL)
		rig_send_user(g, SP_FRAME_DATA, 1, sp_span_of(typed, n));
	if (shown != NULL)
		rig_send_target(g, SP_FRAME_DATA, 1, 1, sp_span_of(shown, n));
	rig_send_user(g, SP_FRAME_CREDIT, 1, sp_span_of(credit, 4));
	rig_pump(g, has_come, 60000);
	cr_assert(has_come(g));
}

/* The segment of the last chunk that stands in the file. */
static uint32_t
segment_now(struct rig *g)
{
	struct sp_rec_file *f = NULL;
	struct sp_rec_chunk c;
	uint32_t last = 0;

	cr_assert_eq(sp_rec_file_open(g->file, &f), SP_OK);
	while (sp_rec_file_next(f, &c) == SP_REC_STEP_CHUNK)
		last = c.h.segment;
	sp_rec_file_close(f);
	return last;
}

/* All states and keys of all lanes up to that segment: who may open it knows. */
static void
want_keys(struct rig *g, uint32_t last)
{
	struct sp_rec_lane_keys k = rec_keys(&g->v, g->file);
	uint8_t key[32];

	for (uint8_t lane = 1; lane <= SP_REC_LANES; lane++)
		for (uint32_t s = 0; s <= last; s++) {
			want(k.key[lane - 1], "state", lane, s);
			cr_assert_eq(sp_rec_chunk_key(k.key[lane - 1], lane, s, key),
			    SP_OK);
			want(key, "key", lane, s);
			cr_assert_eq(sp_rec_ratchet(k.key[lane - 1], lane, s), SP_OK);
		}
}

/* A page of text; its last words are nowhere else. */
static void
page(uint8_t p[static PAGE])
{
	for (size_t i = 0; i < PAGE; i++)
		p[i] = (uint8_t)(i < PAGE - WORD ? "all of this \r\n"[i % 14] :
		    'a' + (uint8_t)randombytes_uniform(26));
}

Test(recorder_memory, nothing_of_a_segment_that_is_over, .timeout = 300)
{
	static uint8_t noise[PIECE], typed[PAGE], shown[PAGE];
	unsigned states = 0;
	uint32_t last;
	struct rig g;

	rig_start(&g, &usual);
	rig_session(&g, &usual);
	rig_open(&g, 1, SP_OPEN_EXEC, "cat");
	page(typed);
	page(shown);
	pass(&g, typed, shown, PAGE);
	want(typed + PAGE - WORD, "what was typed", SP_LANE_IN, 0);
	want(shown + PAGE - WORD, "what was shown", SP_LANE_OUT, 0);
	search(g.child);
	cr_assert(wanted[0].found > 0 && wanted[1].found > 0,
	    "the search does not find what is surely there");
	for (int i = 0; i < ROUNDS; i++) {
		randombytes_buf(noise, sizeof(noise));
		pass(&g, NULL, noise, sizeof(noise));
	}
	pass(&g, (const uint8_t *)"x", (const uint8_t *)"y", 1);
	last = segment_now(&g);
	cr_assert_geq(last, 2u);
	/* A machine that is very slow: two seconds of silence begin another. */
	want_keys(&g, last + 1);
	search(g.child);
	for (size_t i = 0; i < n_wanted; i++) {
		bool is_now = wanted[i].segment >= last;

		states += is_now && wanted[i].is_state && wanted[i].found > 0;
		cr_expect(is_now || wanted[i].found == 0, "%s: %u times in memory",
		    wanted[i].name, wanted[i].found);
	}
	cr_assert_eq(states, SP_REC_LANES, "%u states", states);
	rig_send_user(&g, SP_FRAME_CLOSE, 1, none);
	cr_assert_eq(shutdown(g.user.fd, SHUT_WR), 0);
	rig_wait_closed(&g);
	check_intact(&g, SP_END_NORMAL);
	cr_assert_eq(rig_wait_exit(&g), 0);
	rig_stop(&g);
}
