/* SPDX-License-Identifier: Apache-2.0 */
/* Words from a command line of SSH, and from a ctl_verb message. */
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/control.h"
#include "bastion/broker/verb.h"

struct splitter {
	struct sp_span in;
	size_t i;
	char quote;
	char *out;
	size_t o;
};

/* The next word into out; false at the end of the line. */
static bool
next_word(struct splitter *s)
{
	while (s->i < s->in.n && strchr(" \t\r\n", s->in.p[s->i]) != NULL)
		s->i++;
	if (s->i == s->in.n)
		return false;
	for (; s->i < s->in.n; s->i++) {
		char ch = (char)s->in.p[s->i];
		bool has_next = s->i + 1 < s->in.n;

		if (s->quote == 0 && strchr(" \t\r\n", ch) != NULL)
			break;
		if (s->quote == 0 && (ch == '\'' || ch == '"'))
			s->quote = ch;
		else if (s->quote != 0 && ch == s->quote)
			s->quote = 0;
		else if (ch == '\\' && has_next && (s->quote == 0 ||
		    (s->quote == '"' &&
		    strchr("\"\\$`", s->in.p[s->i + 1]) != NULL)))
			s->out[s->o++] = (char)s->in.p[++s->i];
		else
			s->out[s->o++] = ch;
	}
	s->out[s->o++] = '\0';
	return true;
}

enum sp_err
sp_verb_split(struct sp_span line, char **block,
    char *argv[static SP_VERB_ARGS_MAX], size_t *argc)
{
	struct splitter s = {.in = line};
	enum sp_err e = SP_OK;
	size_t n = 0, at = 0;

	if (line.n > 0 && memchr(line.p, 0, line.n) != NULL)
		return SP_ERR_INVAL;
	s.out = calloc(1, line.n + 2);
	if (s.out == NULL)
		return SP_ERR_NOMEM;
	while (next_word(&s)) {
		if (n == SP_VERB_ARGS_MAX) {
			e = SP_ERR_TOOBIG;
			break;
		}
		argv[n++] = s.out + at;
		at = s.o;
	}
	if (s.quote != 0)
		e = SP_ERR_SYNTAX;
	if (e != SP_OK) {
		free(s.out);
		return e;
	}
	*block = s.out;
	*argc = n;
	return SP_OK;
}

enum sp_err
sp_control_argv(struct sp_span s, char **block, char **argv, size_t *argc)
{
	char *out = calloc(1, s.n + 1), *at = out;
	size_t n = 0;

	if (out == NULL)
		return SP_ERR_NOMEM;
	while (s.n > 0) {
		struct sp_span a = {0};

		if (n == SP_VERB_ARGS_MAX ||
		    sp_get_str(&s, 49152, &a) != SP_OK) {
			free(out);
			return SP_ERR_PROTO;
		}
		/* The length's four bytes make room for the NUL. */
		memcpy(at, a.p, a.n);
		argv[n++] = at;
		at += a.n + 1;
	}
	*block = out;
	*argc = n;
	return SP_OK;
}
