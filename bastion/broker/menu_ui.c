/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/broker/menu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
sp_menu_resize(struct sp_menu *m, unsigned cols, unsigned rows)
{
	/* A terminal that says nothing has the size of the oldest. */
	m->cols = cols == 0 ? 80 : cols > SP_MENU_COLS_MAX ? SP_MENU_COLS_MAX :
	    cols;
	m->rows = rows == 0 ? 24 : rows > SP_MENU_ROWS_MAX ? SP_MENU_ROWS_MAX :
	    rows;
}

void
sp_menu_init(struct sp_menu *m, unsigned cols, unsigned rows, bool colour)
{
	memset(m, 0, sizeof(*m));
	m->colour = colour;
	sp_menu_resize(m, cols, rows);
}

void
sp_menu_fini(struct sp_menu *m)
{
	sp_menu_forget(m);
	free(m->items);
	free(m->match);
	m->items = NULL;
	m->match = NULL;
	m->n = m->n_match = 0;
}

const struct sp_menu_item *
sp_menu_chosen(const struct sp_menu *m)
{
	return m->at < m->n_match ? &m->items[m->match[m->at]] : NULL;
}

void
sp_menu_say(struct sp_menu *m, const char *text)
{
	sp_vis(m->message, sizeof(m->message), sp_span_str(text));
}

/* ------------------------------------------------------------------ filter */

static const char *
state_word(enum sp_menu_state s)
{
	return s == SP_MENU_ALLOWED ? "allowed" : s == SP_MENU_GRANTED ?
	    "granted" : s == SP_MENU_WAITING ? "waiting" : "approval owed";
}

static bool
has(const char *text, const char *word, size_t n)
{
	size_t k = strlen(text);

	for (size_t i = 0; i + n <= k; i++) {
		size_t j = 0;

		while (j < n && (text[i + j] == word[j] || (word[j] >= 'A' &&
		    word[j] <= 'Z' && text[i + j] == word[j] + 32)))
			j++;
		if (j == n)
			return true;
	}
	return false;
}

/* Every word of the filter stands somewhere in what the line says. */
static bool
fits(const struct sp_menu_item *i, const char *filter)
{
	while (*filter != '\0') {
		size_t n = strcspn(filter, " ");

		if (n > 0 && !has(i->name, filter, n) && !has(i->tags, filter, n) &&
		    !has(state_word(i->state), filter, n))
			return false;
		filter += n;
		filter += strspn(filter, " ");
	}
	return true;
}

static void
choose(struct sp_menu *m, const char *name)
{
	m->n_match = 0;
	m->at = 0;
	for (size_t i = 0; i < m->n; i++) {
		if (!fits(&m->items[i], m->filter))
			continue;
		if (name != NULL && strcmp(m->items[i].name, name) == 0)
			m->at = m->n_match;
		m->match[m->n_match++] = i;
	}
}

void
sp_menu_set(struct sp_menu *m, struct sp_menu_item *items, size_t n)
{
	const struct sp_menu_item *was = sp_menu_chosen(m);
	size_t *match = calloc(n + 1, sizeof(*match)), at = m->at;
	char name[sizeof(was->name)] = "";

	SP_ASSERT(match != NULL);
	if (was != NULL)
		memcpy(name, was->name, sizeof(name));
	free(m->items);
	free(m->match);
	m->items = items;
	m->n = n;
	m->match = match;
	m->is_loaded = true;
	choose(m, name);
	was = sp_menu_chosen(m);
	/* The place stays where the line went away. */
	if (was != NULL && strcmp(was->name, name) != 0 && at < m->n_match)
		m->at = at;
	/* What a reason was typed for is not there any more. */
	was = sp_menu_chosen(m);
	if (m->mode == SP_MENU_REASON && (was == NULL ||
	    strcmp(was->name, name) != 0 || was->state != SP_MENU_OWED)) {
		m->mode = SP_MENU_LIST;
		m->reason[0] = '\0';
	}
}

/* -------------------------------------------------------------------- keys */

static void
append(char *line, size_t max, const char *text)
{
	size_t n = strlen(line), k = strlen(text);

	if (n + k <= max)
		memcpy(line + n, text, k + 1);
}

static void
erase_one(char *line)
{
	size_t n = strlen(line);

	while (n > 0 && ((uint8_t)line[--n] & 0xc0) == 0x80)
		;
	line[n] = '\0';
}

/* Keys that change the line at hand; true if this was one. */
static bool
edit(char *line, size_t max, const struct sp_key *k)
{
	if (k->kind == SP_KEY_CHAR)
		append(line, max, k->text);
	else if (k->kind == SP_KEY_BACKSPACE)
		erase_one(line);
	else if (k->kind == SP_KEY_CTRL && k->text[0] == 'U')
		line[0] = '\0';
	else
		return false;
	return true;
}

static void
move(struct sp_menu *m, const struct sp_key *k)
{
	size_t page = sp_menu_page(m), last = m->n_match == 0 ? 0 : m->n_match - 1;

	switch (k->kind) {
	case SP_KEY_UP:
		m->at -= m->at > 0;
		break;
	case SP_KEY_DOWN:
		m->at += m->at < last;
		break;
	case SP_KEY_PAGE_UP:
		m->at = m->at > page ? m->at - page : 0;
		break;
	case SP_KEY_PAGE_DOWN:
		m->at = m->at + page < last ? m->at + page : last;
		break;
	case SP_KEY_HOME:
		m->at = 0;
		break;
	case SP_KEY_END:
		m->at = last;
		break;
	case SP_KEY_NONE:
	case SP_KEY_CHAR:
	case SP_KEY_CTRL:
	case SP_KEY_ENTER:
	case SP_KEY_BACKSPACE:
	case SP_KEY_ESCAPE:
		break;
	}
}

static enum sp_menu_act
go(struct sp_menu *m, bool only_ask)
{
	const struct sp_menu_item *i = sp_menu_chosen(m);
	char text[200];

	if (i == NULL)
		return SP_MENU_NOTHING;
	if (i->state == SP_MENU_OWED) {
		m->mode = SP_MENU_REASON;
		m->reason[0] = '\0';
	} else if (i->state == SP_MENU_WAITING) {
		snprintf(text, sizeof(text), "Request %llu waits for %u approval%s "
		    "of %s; it opens here as soon as it is approved.",
		    (unsigned long long)i->request, i->approvals,
		    i->approvals == 1 ? "" : "s", i->approvers);
		sp_menu_say(m, text);
	} else if (only_ask) {
		sp_menu_say(m, "No approval is owed: Enter opens it.");
	} else {
		return SP_MENU_OPEN;
	}
	return SP_MENU_NOTHING;
}

static enum sp_menu_act
control(struct sp_menu *m, char c)
{
	struct sp_key up = {.kind = SP_KEY_UP}, down = {.kind = SP_KEY_DOWN};

	switch (c) {
	case 'C':
	case 'D':
		return SP_MENU_QUIT;
	case 'L':
		sp_menu_forget(m);
		break;
	case 'N':
		move(m, &down);
		break;
	case 'P':
		move(m, &up);
		break;
	case 'R':
		return go(m, true);
	default:
		break;
	}
	return SP_MENU_NOTHING;
}

static enum sp_menu_act
key_in_list(struct sp_menu *m, const struct sp_key *k)
{
	const struct sp_menu_item *i = sp_menu_chosen(m);
	char name[sizeof(i->name)] = "";

	if (k->kind == SP_KEY_ENTER)
		return go(m, false);
	if (i != NULL)
		memcpy(name, i->name, sizeof(name));
	if (k->kind == SP_KEY_ESCAPE)
		m->filter[0] = '\0';
	else if (!edit(m->filter, SP_MENU_FILTER_MAX, k)) {
		if (k->kind == SP_KEY_CTRL)
			return control(m, k->text[0]);
		move(m, k);
		return SP_MENU_NOTHING;
	}
	choose(m, name);
	return SP_MENU_NOTHING;
}

static enum sp_menu_act
key_in_reason(struct sp_menu *m, const struct sp_key *k)
{
	if (k->kind == SP_KEY_ESCAPE || (k->kind == SP_KEY_CTRL &&
	    (k->text[0] == 'C' || k->text[0] == 'D'))) {
		m->mode = SP_MENU_LIST;
	} else if (k->kind == SP_KEY_ENTER) {
		if (m->reason[strspn(m->reason, " ")] != '\0') {
			m->mode = SP_MENU_BUSY;
			return SP_MENU_FILE;
		}
		sp_menu_say(m, "A reason is needed; Esc goes back.");
	} else if (k->kind == SP_KEY_CTRL && k->text[0] == 'L') {
		sp_menu_forget(m);
	} else {
		(void)edit(m->reason, SP_MENU_REASON_MAX, k);
	}
	return SP_MENU_NOTHING;
}

enum sp_menu_act
sp_menu_key(struct sp_menu *m, const struct sp_key *k)
{
	if (k->kind == SP_KEY_NONE)
		return SP_MENU_NOTHING;
	if (m->mode == SP_MENU_BUSY)
		return k->kind == SP_KEY_CTRL && k->text[0] == 'C' ?
		    SP_MENU_QUIT : SP_MENU_NOTHING;
	m->message[0] = '\0';
	return m->mode == SP_MENU_LIST ? key_in_list(m, k) : key_in_reason(m, k);
}
