/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens what the vault of a demonstration has sealed, for tests that ask whether
 * a stored secret works or where it is found: unseal VAULTDIR ID VERSION OWNER
 * KIND, the sealed bytes as hex on the standard input, the clear ones on the
 * standard output.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vault/vaultd.h"

static enum sp_err
read_hex(struct sp_buf *out)
{
	static char text[40000];
	size_t n = fread(text, 1, sizeof(text), stdin);
	uint8_t *at;

	while (n > 0 && text[n - 1] == '\n')
		n--;
	SP_TRY(sp_buf_reserve(out, n / 2, &at));
	SP_TRY(sp_unhex(at, n / 2, sp_span_of(text, n)));
	sp_buf_commit(out, n / 2);
	return SP_OK;
}

int
main(int argc, char **argv)
{
	static struct sp_vaultd v;
	SP_BUF_AUTO sealed = {.max = 20000};
	SP_SECRET_AUTO s = {0};
	struct sp_secret_row row = {.kind = 0};
	uint64_t kind = 0;
	int dir;

	if (argc != 6 || (dir = open(argv[1], O_RDONLY | O_DIRECTORY |
	    O_CLOEXEC)) < 0 || sp_secret_init() != SP_OK ||
	    sp_vaultd_init(&v) != SP_OK)
		return 2;
	sp_vaultd_load(&v, dir);
	if (!v.root.is_open ||
	    sp_uuid_parse(row.id, sp_span_str(argv[2])) != SP_OK ||
	    sp_u64_parse(sp_span_str(argv[3]), INT64_MAX, &row.version) != SP_OK ||
	    sp_uuid_parse(row.owner, sp_span_str(argv[4])) != SP_OK ||
	    sp_u64_parse(sp_span_str(argv[5]), 255, &kind) != SP_OK ||
	    read_hex(&sealed) != SP_OK)
		return 2;
	row.kind = (uint8_t)kind;
	if (sp_secret_unseal(&v.root, &row, sp_buf_span(&sealed), &s) != SP_OK)
		return 1;
	return fwrite(s.p, 1, s.n, stdout) == s.n ? 0 : 2;
}
