/* SPDX-License-Identifier: Apache-2.0 */
#include <qrencode.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bastion/cli/cli.h"

#define QUIET 2		/* light modules around the code */

static bool
is_dark(const QRcode *q, int x, int y)
{
	return x >= 0 && y >= 0 && x < q->width && y < q->width &&
	    (q->data[y * q->width + x] & 1) != 0;
}

/* Two rows of modules in one line. Light is drawn, so that a dark terminal
 * shows a code that any camera reads; colours say the same where they work. */
static void
print_line(const QRcode *q, int y, bool colour)
{
	static const char *const half[2][2] = {{"\u2588", "\u2580"},
	    {"\u2584", " "}};	/* [upper dark][lower dark] */

	fputs(colour ? "\033[97;40m" : "", stdout);
	for (int x = -QUIET; x < q->width + QUIET; x++)
		fputs(half[is_dark(q, x, y)][is_dark(q, x, y + 1)], stdout);
	fputs(colour ? "\033[0m\n" : "\n", stdout);
}

enum sp_err
sp_cli_qr(const char *text)
{
	const char *no_color = getenv("NO_COLOR");
	bool colour = isatty(STDOUT_FILENO) &&
	    (no_color == NULL || no_color[0] == '\0');
	QRcode *q = QRcode_encodeString8bit(text, 0, QR_ECLEVEL_L);

	if (q == NULL)
		return SP_ERR_NOMEM;
	for (int y = -QUIET; y < q->width + QUIET; y += 2)
		print_line(q, y, colour);
	QRcode_free(q);
	return SP_OK;
}
