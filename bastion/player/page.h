/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BASTION_PLAYER_PAGE_H
#define SP_BASTION_PLAYER_PAGE_H

#include "bastion/player/show.h"

/* The HTML player (web/player.html): its constant parts, of the program's life. */
struct sp_span page_css(void);
struct sp_span page_js(void);
struct sp_span page_body(void);

/*
 * Its data: a value of JSON in each line, no byte of which is `<` or above 0x7e.
 *
 *   {...}                         the first: what recording this is
 *   ["m",ms,"kind",chan,"text"]   a mark
 *   ["s",fg,bg,attr]              a style, numbered from 0; a colour is -1, 0 to
 *                                 255, or 256 and RGB
 *   ["r","text",style*4+class...] a row, numbered from 0; class 0: ASCII, 1: other
 *                                 characters of one column, 2: of two
 *   ["k",ms,chan,cols,rows,x,y,cursor,[row...]]  a whole screen
 *   ["d",ms,chan,x,y,cursor,[at,row,...]]        what changed of it
 *   ["e",ms]                      the end
 */
struct pages;
SP_MUST enum sp_err pages_new(struct sp_buf *out, struct pages **g);
void pages_free(struct pages *g);
/* What changed on that terminal, at that time. */
SP_MUST enum sp_err pages_frame(struct pages *g, uint64_t at_us, uint32_t chan,
    const struct sp_term *t);
/* A string of JSON that ends no element of HTML. */
SP_MUST enum sp_err pages_string(struct sp_buf *out, struct sp_span s);

SP_MUST enum sp_err play_html(struct player *p);

#endif
