/* SPDX-License-Identifier: Apache-2.0 */
/* The menu of `ssh bastion`: any keys in any size of window; what it draws
 * stays on its lines and on the screen. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/menu.h"
#include "recorder/term/term.h"

#define N_ITEMS 9

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sp_menu_item *
items(uint8_t salt)
{
	struct sp_menu_item *v = calloc(N_ITEMS, sizeof(*v));

	SP_ASSERT(v != NULL);
	for (size_t i = 0; i < N_ITEMS; i++) {
		snprintf(v[i].target, sizeof(v[i].target), "t%zu", i * salt % 31);
		snprintf(v[i].name, sizeof(v[i].name), "admin@%s", v[i].target);
		snprintf(v[i].tags, sizeof(v[i].tags), "核心 \x1b]0;x\x07");
		v[i].state = (enum sp_menu_state)((i + salt) % 4);
	}
	return v;
}

static void
draw(struct sp_menu *m, struct sp_term *t)
{
	SP_BUF_AUTO out = {.max = 1 << 22};

	SP_ASSERT(sp_menu_draw(m, &out) == SP_OK);
	sp_term_feed(t, sp_buf_span(&out));
	for (unsigned y = 0; y < sp_term_rows(t); y++)
		SP_ASSERT(!sp_term_row_is_wrapped(t, y));
	SP_ASSERT(sp_utf8_is_valid(sp_span_str(m->filter)));
	SP_ASSERT(sp_utf8_is_valid(sp_span_str(m->reason)));
}

static void
resize(struct sp_menu *m, struct sp_term *t, uint8_t cols, uint8_t rows)
{
	sp_menu_resize(m, cols, rows);
	SP_ASSERT(sp_term_resize(t, m->cols, m->rows) == SP_OK);
	sp_menu_forget(m);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sp_keys keys = {.state = 0};
	struct sp_term *t = NULL;
	struct sp_menu m;

	if (size > 512)
		return 0;
	sp_menu_init(&m, 80, 24, true);
	SP_ASSERT(sp_term_new(80, 24, NULL, NULL, &t) == SP_OK);
	for (size_t i = 0; i < size; i++) {
		struct sp_key k;

		/* 0: other items; 1: another size, from the next two bytes */
		if (data[i] == 0)
			sp_menu_set(&m, items((uint8_t)i), N_ITEMS);
		if (data[i] == 1 && i + 2 < size) {
			resize(&m, t, data[i + 1], data[i + 2]);
			i += 2;
		}
		k = sp_keys_byte(&keys, data[i]);
		if (sp_menu_key(&m, &k) == SP_MENU_FILE)
			m.mode = SP_MENU_LIST;
	}
	draw(&m, t);
	sp_menu_fini(&m);
	sp_term_free(t);
	return 0;
}
