/* SPDX-License-Identifier: Apache-2.0 */
/* A captured scribe: all of the real one, but the screens that it leaves are others
 * than what was sent, from the second on, and so is each thousandth line. Linked
 * with --wrap. */
#include "recorder/term/term.h"
#include "recorder/view.h"

enum sp_err __real_sp_term_dump(const struct sp_term *t, struct sp_buf *b);
enum sp_err __wrap_sp_term_dump(const struct sp_term *t, struct sp_buf *b);

enum sp_err
__wrap_sp_term_dump(const struct sp_term *t, struct sp_buf *b)
{
	static unsigned n;
	struct sp_term *lie = NULL;
	enum sp_err e;

	if (n++ == 0)
		return __real_sp_term_dump(t, b);
	SP_TRY(sp_term_copy(t, &lie));
	sp_term_feed(lie, sp_span_str("\033[H\033[2Jnothing happened here\r\n"));
	e = __real_sp_term_dump(lie, b);
	sp_term_free(lie);
	return e;
}

enum sp_err __real_sp_view_line_encode(struct sp_buf *b,
    const struct sp_view_line *l);
enum sp_err __wrap_sp_view_line_encode(struct sp_buf *b,
    const struct sp_view_line *l);

enum sp_err
__wrap_sp_view_line_encode(struct sp_buf *b, const struct sp_view_line *l)
{
	static unsigned n;
	struct sp_view_line lie = *l;

	if (++n % 1000 == 0)
		lie.text = sp_span_str("nothing to be found here");
	return __real_sp_view_line_encode(b, &lie);
}
