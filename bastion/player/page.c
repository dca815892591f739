/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the HTML player that are the same in each file: they are written
 * as files (web/) and stand in the program as bytes. */
#include "bastion/player/page.h"

#define PART(name, file)                                                      \
	__asm__(".section .rodata\n"                                          \
	    ".balign 16\n"                                                    \
	    ".globl " name "_begin\n.globl " name "_end\n"                    \
	    name "_begin:\n.incbin \"" file "\"\n" name "_end:\n"             \
	    ".byte 0\n.previous\n");
PART("sp_page_css", "player.css")
PART("sp_page_js", "player.js")
PART("sp_page_body", "player.html")

extern const uint8_t sp_page_css_begin[], sp_page_css_end[];
extern const uint8_t sp_page_js_begin[], sp_page_js_end[];
extern const uint8_t sp_page_body_begin[], sp_page_body_end[];

static struct sp_span
part(const uint8_t *begin, const uint8_t *end)
{
	return sp_span_of(begin, (size_t)(end - begin));
}

struct sp_span
page_css(void)
{
	return part(sp_page_css_begin, sp_page_css_end);
}

struct sp_span
page_js(void)
{
	return part(sp_page_js_begin, sp_page_js_end);
}

struct sp_span
page_body(void)
{
	return part(sp_page_body_begin, sp_page_body_end);
}
