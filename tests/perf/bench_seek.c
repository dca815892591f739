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
fill(int fd, const uint8_t *session, const uint8_t *pk, off_t bytes,
    uint8_t *audit)
{
	struct sp_rec_writer *w = make_begin_by(fd, session, pk, audit);
	struct make_scribe scribe = {0};
	static char text[32768];
	double raw = 0;

	make_shell(w);
	for (off_t at = 0; at < bytes; at = lseek(fd, 0, SEEK_END)) {
		for (int i = 0; i < 32; i++) {
			size_t n = 0;

			while (n + 200 < sizeof(text))
				n += make_line(text + n, sizeof(text) - n);
			make_out(w, &scribe, sp_span_of(text, n));
			raw += (double)n;
			must(sp_rec_writer_commit(w), "commit");
		}
	}
	make_end(w);
	sp_term_free(scribe.t);
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

static uint64_t
bytes_read(void)
{
	unsigned long long n = 0;
	FILE *f = fopen("/proc/self/io", "re");

	if (f == NULL || fscanf(f, "rchar: %llu", &n) != 1)
		n = 0;
	if (f != NULL)
		fclose(f);
	return n;
}

static double
peak_mib(void)
{
	char line[200];
	double kib = 0;
	FILE *f = fopen("/proc/self/status", "re");

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, "VmHWM:", 6) == 0)
			kib = strtod(line + 6, NULL);
	if (f != NULL)
		fclose(f);
	return kib / 1024;
}

/* Jumps to random moments; how far the longest was. */
static double
jumps(struct reel *r, uint64_t end, const char *how)
{
	static double ms[JUMPS], cpu[JUMPS];
	uint64_t most = 0;

	for (int i = 0; i < JUMPS; i++) {
		uint64_t before = bytes_read(), got;

		ms[i] = jump(r, (uint64_t)rnd() * end / UINT32_MAX, &cpu[i]);
		got = bytes_read() - before;
		most = got > most ? got : most;
	}
	qsort(ms, JUMPS, sizeof(ms[0]), compare);
	qsort(cpu, JUMPS, sizeof(cpu[0]), compare);
	printf("%d jumps, %s: p50 %.1f ms, p99 %.1f ms, longest %.1f ms (bar: 50)\n",
	    JUMPS, how, ms[JUMPS / 2], ms[JUMPS * 99 / 100], ms[JUMPS - 1]);
	printf("  of the processor: p50 %.1f ms, p99 %.1f ms, longest %.1f ms; read at "
	    "most %.1f MiB\n", cpu[JUMPS / 2], cpu[JUMPS * 99 / 100],
	    cpu[JUMPS - 1], (double)most / (1 << 20));
	return ms[JUMPS - 1];
}

/* As the player begins: the two ends of the file, then the picture of a moment. */
static void
first_picture(struct reel *r, int fd, const uint8_t *audit,
    const struct sp_rec_lane_keys *keys, uint64_t end)
{
	struct sp_rec_report report;
	uint64_t before = bytes_read();
	double t0 = now_ms(), c0 = cpu_ms(), spent;

	if (!sp_rec_peek(fd, audit, &report))
		must(SP_ERR_PROTO, "peek");
	must(reel_open(r, fd, keys, end, true), "reel");
	must(index_prove(&r->index), "proof");
	jump(r, end / 10 * 7, &spent);
	printf("opened, and the first picture (at 70%%): %.1f ms, of the processor "
	    "%.1f ms; %.1f MiB read\n", now_ms() - t0, cpu_ms() - c0,
	    (double)(bytes_read() - before) / (1 << 20));
}

int
main(int argc, char **argv)
{
	uint64_t bytes = UINT64_C(1) << 30;
	uint8_t session[16], pk[32], sk[32], audit[32];
	char name[] = "/var/tmp/sp-seek-XXXXXX";
	struct sp_rec_report report;
	struct sp_rec_lane_keys keys;
	static struct reel r;
	uint64_t end = 0;
	double t0, framed, indexed;
	int fd = mkostemp(name, O_CLOEXEC);

	if (fd < 0 || unlink(name) != 0 || sodium_init() < 0 || (argc > 1 &&
	    sp_u64_parse(sp_span_str(argv[1]), INT64_MAX, &bytes) != SP_OK))
		return 1;
	randombytes_buf(session, 16);
	crypto_box_keypair(pk, sk);
	fill(fd, session, pk, (off_t)bytes, audit);
	keys = open_keys(fd, pk, sk);
	t0 = now_ms();
	if (sp_rec_verify(fd, audit, NULL, &report) != SP_REC_INTACT)
		must(SP_ERR_CRYPTO, "verify");
	end = (uint64_t)(report.last_us - report.opened_us);
	printf("verified: %.1f s\n", (now_ms() - t0) / 1e3);
	first_picture(&r, fd, audit, &keys, end);
	framed = jumps(&r, end, "by keyframes");
	printf("  peak memory until here %.0f MiB\n", peak_mib());
	t0 = now_ms();
	while (!r.index.is_done)
		must(index_work(&r.index, 1000000), "index");
	printf("indexed: %.1f s, %zu states of %.1f MiB in all\n",
	    (now_ms() - t0) / 1e3, r.index.n_snaps,
	    (double)r.index.bytes / (1 << 20));
	printf("  %llu keyframes compared on the way, %llu false\n",
	    (unsigned long long)proof_result(r.index.proof)->frames,
	    (unsigned long long)r.index.n_false);
	indexed = jumps(&r, end, "indexed");
	reel_close(&r);
	printf("  peak memory %.0f MiB\n", peak_mib());
	return framed <= 50 && indexed <= 50 ? 0 : 1;
}
