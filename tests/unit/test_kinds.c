/* SPDX-License-Identifier: Apache-2.0 */
/* The table of kinds and what the vault has for each: a row that promises
 * something has it, and one that does not is refused. */
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/vault_kit.h"
#include "vault/kinds.h"

TestSuite(kinds, .timeout = 60);

Test(kinds, every_row_can_be_found)
{
	const struct sp_kind *k;
	size_t n = 0;

	for (; (k = sp_kind_nth(0, n)) != NULL; n++) {
		cr_assert_eq(sp_kind_find(k->number), k, "%s", k->name);
		cr_assert_eq(sp_kind_named(k->name), k, "%s", k->name);
		cr_assert_str_eq(sp_kind_name(k->number), k->name);
		cr_assert(sp_kind_is(k->number, k->flags));
		cr_assert(sp_name_is_valid(sp_span_str(k->name)), "%s", k->name);
		cr_assert_gt(strlen(k->words), 3);
	}
	cr_assert_geq(n, 4);
	cr_assert_eq(sp_kind_find(SP_CRED_TOTP_SEED), sp_kind_named("totp"));
	cr_assert_not(sp_kind_is(SP_CRED_TOTP_SEED, SP_KIND_ACCOUNT));
	cr_assert_not(sp_kind_is(SP_CRED_SSH_CERT, SP_KIND_STORED));
}

Test(kinds, what_is_no_kind)
{
	static const int64_t none[] = {0, -1, 200, 255, 256, 257, 258, INT64_MAX};
	static const char *const names[] = {"", "Cert", "cert ", "ssh", "1", "k"};

	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		cr_assert_null(sp_kind_find(none[i]));
		cr_assert_not(sp_kind_is(none[i], 0));
		cr_assert_str_eq(sp_kind_name(none[i]), "?");
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		cr_assert_null(sp_kind_named(names[i]));
	cr_assert_null(sp_kind_named(NULL));
	for (unsigned i = 0; i < 256; i++)
		cr_assert_eq(sp_kind_ops((uint8_t)i) == NULL,
		    sp_kind_find(i) == NULL, "%u", i);
}

Test(kinds, a_row_has_what_it_promises)
{
	const struct sp_kind *k;

	for (size_t i = 0; (k = sp_kind_nth(0, i)) != NULL; i++) {
		const struct sp_kind_ops *o = sp_kind_ops(k->number);
		bool is_stored = (k->flags & SP_KIND_STORED) != 0;
		bool is_made = (k->flags & SP_KIND_MADE) != 0;

		cr_assert_not_null(o, "%s", k->name);
		cr_assert_eq(o->import != NULL || o->make != NULL, is_stored, "%s",
		    k->name);
		cr_assert(o->import == NULL || o->given_max > 0, "%s", k->name);
		cr_assert_eq(o->make != NULL, is_made, "%s", k->name);
		cr_assert_eq(o->identity != NULL, k->gives == SP_GIVES_AGENT);
		cr_assert_eq(o->sign != NULL, k->gives == SP_GIVES_AGENT);
		cr_assert_eq(o->message != NULL, k->gives == SP_GIVES_PROOF);
		cr_assert_eq(k->gives == SP_GIVES_NOTHING,
		    (k->flags & SP_KIND_ACCOUNT) == 0, "%s", k->name);
		cr_assert_not((k->flags & SP_KIND_ROTATES) != 0 && !is_stored);
	}
}

/* Only what can be stored is taken, and only so much of it. */
Test(kinds, what_cannot_be_imported)
{
	static uint8_t much[16385];
	const struct sp_kind *k;

	cr_assert_eq(sp_secret_init(), SP_OK);
	memset(much, 'x', sizeof(much));
	for (unsigned i = 0; i < 256; i++) {
		SP_SECRET_AUTO s = {0}, made = {0};
		bool may = sp_kind_is(i, SP_KIND_STORED);

		if (!may)
			cr_assert_eq(sp_secret_import((uint8_t)i,
			    sp_span_str("something"), sp_span_str(""), &s),
			    SP_ERR_INVAL);
		if (!sp_kind_is(i, SP_KIND_MADE))
			cr_assert_eq(sp_secret_make((uint8_t)i, &made),
			    SP_ERR_INVAL);
		cr_assert_null(s.p);
		cr_assert_null(made.p);
	}
	for (size_t i = 0; (k = sp_kind_nth(SP_KIND_STORED, i)) != NULL; i++) {
		const struct sp_kind_ops *o = sp_kind_ops(k->number);
		SP_SECRET_AUTO s = {0};

		if (o->import == NULL)
			continue;
		cr_assert_eq(sp_secret_import(k->number, sp_span_str(""),
		    sp_span_str(""), &s), SP_ERR_TOOBIG);
		cr_assert_lt(o->given_max, sizeof(much));
		cr_assert_eq(sp_secret_import(k->number, sp_span_of(much,
		    o->given_max + 1), sp_span_str(""), &s), SP_ERR_TOOBIG);
		cr_assert_null(s.p);
	}
}

/* What the vault makes is what it would take: it opens, checks, and shows. */
Test(kinds, what_is_made_is_good)
{
	const struct sp_kind *k;

	cr_assert_eq(sp_secret_init(), SP_OK);
	for (size_t i = 0; (k = sp_kind_nth(SP_KIND_MADE, i)) != NULL; i++) {
		const struct sp_kind_ops *o = sp_kind_ops(k->number);
		struct sp_buf shown = {.max = 4096};
		SP_SECRET_AUTO one = {0}, two = {0};

		cr_assert_eq(sp_secret_make(k->number, &one), SP_OK, "%s", k->name);
		cr_assert_eq(sp_secret_make(k->number, &two), SP_OK);
		cr_assert_not(sp_span_eq(sp_span_of(one.p, one.n),
		    sp_span_of(two.p, two.n)), "%s", k->name);
		if (o->check != NULL)
			cr_assert_eq(o->check(&one), SP_OK);
		cr_assert_eq(sp_secret_shown(k->number, &one, &shown), SP_OK);
		cr_assert_eq(shown.len > 0, o->shown != NULL);
		sp_buf_fini(&shown);
	}
}
