/* SPDX-License-Identifier: Apache-2.0 */
/* How far any moment of a large recording is away: writes one of BYTES in the
 * file (1 GiB), goes through it as the player does, then jumps about. */
#include <time.h>

#include "bastion/player/show.h"
#include "tests/perf/rec_make.h"

#define JUMPS 400

/* What the reel uses of the rest of the player. */
bool
file_is_sftp(const struct sp_open *o)
{
	return o->kind == SP_OPEN_SUBSYSTEM;
}

void
file_line(char *dst, size_t cap, struct sp_span record)
{
	snprintf(dst, cap, "%zu", record.n);
}

static double
now_ms(void)
{
	return (double)sp_boot_us() / 1000;
}

/* Of this process alone: what a busy machine does not change. */
static double
cpu_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void
fill(int fd, const uint8_t *session, const uint8_t *pk, off_t bytes)
{
	struct sp_rec_writer *w = make_begin(fd, session, pk);
	static char text[32768];
	double raw = 0;

	make_shell(w);
	for (off_t at = 0; at < bytes; at = lseek(fd, 0, SEEK_END)) {
		for (int i = 0; i < 32; i++) {
			size_t n = 0;

			while (n + 200 < sizeof(text))
				n += make_line(text + n, sizeof(text) - n);
			make_put(w, SP_LANE_OUT, SP_RECORD_OUT,
			    sp_span_of(text, n));
			raw += (double)n;
			must(sp_rec_writer_commit(w), "commit");
		}
	}
	make_end(w);
	printf("a recording of %.2f GiB with %.2f GiB of output\n",
	    (double)lseek(fd, 0, SEEK_END) / (1 << 30), raw / (1 << 30));
}

static struct sp_rec_lane_keys
open_keys(int fd, const uint8_t *pk, const uint8_t *sk)
{
	struct sp_rec_lane_keys k = {0};
	struct sp_rec_file *f = NULL;
	struct sp_rec_opened o;

	must(sp_rec_file_open(fd, &f), "file");
	for (uint8_t l = 1; l <= SP_REC_LANES; l++)
		if (sp_rec_lane_open(sp_rec_file_header(f), l, 0, pk, sk, &o) ==
		    SP_OK) {
			memcpy(k.key[l - 1], o.key, 32);
			k.has[l - 1] = true;
		}
	sp_rec_file_close(f);
	return k;
}

static int
compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static double
jump(struct reel *r, uint64_t at_us, double *cpu)
{
	double t0 = now_ms(), c0 = cpu_ms();
	bool changed = false, there = false;

	while (!there)
		must(reel_go(r, at_us, &changed, &there), "go");
	*cpu = cpu_ms() - c0;
	return now_ms() - t0;
}

int
main(int argc, char **argv)
{
	uint64_t bytes = UINT64_C(1) << 30;
	uint8_t session[16], pk[32], sk[32];
	char name[] = "/var/tmp/sp-seek-XXXXXX";
	struct sp_rec_decoder *d = NULL;
	struct sp_rec_lane_keys keys;
	static double ms[JUMPS], cpu[JUMPS];
	static struct reel r;
	uint64_t end = 0;
	double t0;
	int fd = mkostemp(name, O_CLOEXEC);

	if (fd < 0 || unlink(name) != 0 || sodium_init() < 0 || (argc > 1 &&
	    sp_u64_parse(sp_span_str(argv[1]), INT64_MAX, &bytes) != SP_OK))
		return 1;
	randombytes_buf(session, 16);
	crypto_box_keypair(pk, sk);
	fill(fd, session, pk, (off_t)bytes);
	keys = open_keys(fd, pk, sk);
	must(sp_rec_decoder_new(fd, &keys, &d), "decoder");
	t0 = now_ms();
	must(sp_rec_decoder_scan(d, &end), "scan");
	printf("walked and hashed, as verify does: %.1f s\n", (now_ms() - t0) / 1e3);
	sp_rec_decoder_free(d);
	must(reel_open(&r, fd, &keys, end), "reel");
	t0 = now_ms();
	while (!r.index.is_done)
		must(index_work(&r.index, 1000000), "index");
	printf("indexed: %.1f s, %zu states of %.1f MiB in all\n",
	    (now_ms() - t0) / 1e3, r.index.n_snaps,
	    (double)r.index.bytes / (1 << 20));
	for (int i = 0; i < JUMPS; i++)
		ms[i] = jump(&r, (uint64_t)rnd() * end / UINT32_MAX, &cpu[i]);
	qsort(ms, JUMPS, sizeof(ms[0]), compare);
	qsort(cpu, JUMPS, sizeof(cpu[0]), compare);
	printf("%d jumps: p50 %.1f ms, p99 %.1f ms, longest %.1f ms (bar: 50)\n",
	    JUMPS, ms[JUMPS / 2], ms[JUMPS * 99 / 100], ms[JUMPS - 1]);
	printf("of the processor: p50 %.1f ms, p99 %.1f ms, longest %.1f ms\n",
	    cpu[JUMPS / 2], cpu[JUMPS * 99 / 100], cpu[JUMPS - 1]);
	reel_close(&r);
	return ms[JUMPS - 1] <= 50 ? 0 : 1;
}
