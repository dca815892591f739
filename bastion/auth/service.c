/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/auth/service.h"

#include <string.h>

/* libpam reads in pieces of 1024 bytes and takes the rest for a line. */
#define LINE_MAX_BYTES 512

struct stack {
	bool has_auth, has_account;
};

static bool
is_blank(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* The next word of a line; empty at its end. */
static struct sp_span
word(struct sp_span *s)
{
	struct sp_span w;

	while (s->n > 0 && is_blank(*s->p)) {
		s->p++;
		s->n--;
	}
	w = sp_span_of(s->p, 0);
	while (s->n > 0 && !is_blank(*s->p)) {
		s->p++;
		s->n--;
		w.n++;
	}
	return w;
}

/* Case as Linux-PAM has it: types and controls in any, we want the plain. */
static bool
is_ours(struct sp_span path)
{
	static const char name[] = "pam_sallyport.so";
	size_t n = sizeof(name) - 1;

	return path.n >= n && memcmp(path.p + path.n - n, name, n) == 0 &&
	    (path.n == n || path.p[path.n - n - 1] == '/');
}

static const char *
check_line(struct sp_span l, struct stack *st)
{
	bool is_long = l.n > LINE_MAX_BYTES;
	struct sp_span type = word(&l), control, module;

	if (is_long)
		return "a line may have 512 bytes";
	if (type.n == 0)
		return NULL;
	if (memchr(l.p, '\\', l.n) != NULL)
		return "a line may not go on in the next, nor hold a backslash";
	if (*type.p == '@')
		return "nothing may be included";
	if (*type.p == '-')
		return "`-` before a type lets a missing module pass";
	if (!sp_span_is(type, "auth") && !sp_span_is(type, "account") &&
	    !sp_span_is(type, "session") && !sp_span_is(type, "password"))
		return "not a type: auth, account, session or password";
	control = word(&l);
	if (!sp_span_is(control, "required") && !sp_span_is(control, "requisite"))
		return "the control may only be required or requisite";
	module = word(&l);
	if (module.n == 0)
		return "no module";
	if (!is_ours(module))
		return NULL;
	if (word(&l).n != 0)
		return "pam_sallyport.so takes no arguments";
	st->has_auth |= sp_span_is(type, "auth");
	st->has_account |= sp_span_is(type, "account");
	return NULL;
}

enum sp_err
sp_service_check(struct sp_span text, unsigned *line, const char **why)
{
	struct stack st = {0};

	if (text.n > 0 && memchr(text.p, 0, text.n) != NULL) {
		*line = 0;
		*why = "a NUL byte";
		return SP_ERR_SYNTAX;
	}
	for (unsigned n = 1; text.n > 0; n++) {
		const uint8_t *nl = memchr(text.p, '\n', text.n), *hash;
		struct sp_span l = sp_span_of(text.p,
		    nl == NULL ? text.n : (size_t)(nl - text.p));
		size_t used = l.n + (nl == NULL ? 0 : 1);
		const char *bad;

		text = sp_span_of(text.p + used, text.n - used);
		hash = l.n == 0 || l.n > LINE_MAX_BYTES ? NULL :
		    memchr(l.p, '#', l.n);
		/* A comment that ends in a backslash goes on, for libpam. */
		if (l.n > 0 && l.p[l.n - 1] == '\\')
			hash = NULL;
		if (hash != NULL)
			l.n = (size_t)(hash - l.p);
		if ((bad = check_line(l, &st)) != NULL) {
			*line = n;
			*why = bad;
			return SP_ERR_SYNTAX;
		}
	}
	*line = 0;
	*why = "the auth and the account stack each need pam_sallyport.so";
	return st.has_auth && st.has_account ? SP_OK : SP_ERR_SYNTAX;
}
