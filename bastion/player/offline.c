/* SPDX-License-Identifier: Apache-2.0 */
/* For an examiner with a file, a public key and no bastion. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bastion/player/player.h"

static int
usage(void)
{
	fputs("usage: sallyport-player verify FILE --key HEX-OR-FILE [--json]\n",
	    stderr);
	return 2;
}

static bool
key_from_text(const char *text, size_t n, uint8_t key[static 32])
{
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r' ||
	    text[n - 1] == ' '))
		n--;
	return sp_unhex(key, 32, sp_span_of(text, n)) == SP_OK;
}

static bool
read_key(const char *arg, uint8_t key[static 32])
{
	char text[256];
	ssize_t n;
	int fd;

	if (key_from_text(arg, strlen(arg), key))
		return true;
	if ((fd = open(arg, O_RDONLY | O_CLOEXEC)) < 0)
		return false;
	n = read(fd, text, sizeof(text));
	close(fd);
	if (n == 32) {
		memcpy(key, text, 32);
		return true;
	}
	return n > 0 && key_from_text(text, (size_t)n, key);
}

int
offline_main(int argc, char **argv)
{
	const char *file = NULL, *key_arg = NULL;
	SP_BUF_AUTO out = {.max = 16384};
	struct sp_rec_report r;
	uint8_t key[32];
	bool json = false;
	int fd;

	for (int i = 2; i < argc; i++) {
		if (strcmp(argv[i], "--json") == 0)
			json = true;
		else if (strcmp(argv[i], "--key") == 0 && i + 1 < argc)
			key_arg = argv[++i];
		else if (argv[i][0] != '-' && file == NULL)
			file = argv[i];
		else
			return usage();
	}
	if (file == NULL || key_arg == NULL)
		return usage();
	if (!read_key(key_arg, key)) {
		fputs("sallyport-player: --key wants 64 hexadecimal digits, or a "
		    "file with them\n", stderr);
		return 2;
	}
	if ((fd = open(file, O_RDONLY | O_CLOEXEC)) < 0) {
		fprintf(stderr, "sallyport-player: %s: %s\n", sp_vis_str(file),
		    strerror(errno));
		return 2;
	}
	sp_rec_verify(fd, key, NULL, &r);
	close(fd);
	if (verdict_print(&r, json, &out) != SP_OK ||
	    fwrite(out.p + out.off, 1, out.len, stdout) != out.len ||
	    fflush(stdout) != 0)
		return 2;
	return verdict_is_good(r.verdict) ? 0 : 1;
}
