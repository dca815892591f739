/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ssh(1) asks in a measurement, answered at once: the code that stands in
 * the environment. A person's typing, or a shell with oathtool, is no part of
 * what is measured.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int
main(void)
{
	const char *code = getenv("SP_BENCH_CODE");
	char line[80];
	size_t n = code == NULL ? 0 : strlen(code);

	if (n == 0 || n > sizeof(line) - 1)
		return 1;
	memcpy(line, code, n);
	line[n] = '\n';
	return write(STDOUT_FILENO, line, n + 1) == (ssize_t)(n + 1) ? 0 : 1;
}
