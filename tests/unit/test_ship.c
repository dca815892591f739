/* SPDX-License-Identifier: Apache-2.0 */
/* covers: common/storeurl.c, ship/xml.c, ship/digest.c, bastion/broker/retain_rules.c */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bastion/broker/retain.h"
#include "common/text.h"
#include "ship/shipd.h"

static enum sp_err
parse(const char *store, const char *address, struct sp_storeurl *u)
{
	static struct sp_config c;
	struct sp_config_diag d;
	char bad[200];

	cr_assert_eq(sp_config_parse(&c, sp_span_str(""), &d), SP_OK);
	snprintf(c.ship_store, sizeof(c.ship_store), "%s", store);
	snprintf(c.ship_address, sizeof(c.ship_address), "%s", address);
	return sp_storeurl_parse(&c, u, bad, sizeof(bad));
}

Test(ship, the_store_is_named_exactly)
{
	static const char *const bad[] = {"http://h/bucket", "https://h", "https:///bucket",
	    "https://h/", "https://h/b", "https://h/Bucket", "https://h:0/bucket",
	    "https://h:65536/bucket", "https://h:x/bucket", "https://u@h/bucket",
	    "https://h/bucket/../x", "https://h/bucket//x", "https://h/bucket/a?b",
	    "https://h/bucket/a b", "https://[::1/bucket", "https://[zz]/bucket",
	    "https://h/bucket#x"};
	struct sp_storeurl u;
	uint8_t id[16] = {0xab};
	char key[400];

	cr_expect_eq(parse("", "", &u), SP_ERR_NOTFOUND);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(parse(bad[i], "192.0.2.1", &u), SP_ERR_SYNTAX, "%s",
		    bad[i]);
	cr_expect_eq(parse("https://h/bucket", "", &u), SP_ERR_SYNTAX);
	cr_expect_eq(parse("https://h/bucket", "name.test", &u), SP_ERR_SYNTAX);
	cr_assert_eq(parse("https://h:9000/bucket/x/y/", " 192.0.2.1  2001:db8::1 ",
	    &u), SP_OK);
	cr_expect_str_eq(u.host, "h");
	cr_expect_eq(u.port, 9000);
	cr_expect_str_eq(u.bucket, "bucket");
	cr_expect_str_eq(u.prefix, "x/y/");
	cr_expect_eq(u.n_address, 2);
	cr_expect_str_eq(u.address[1], "2001:db8::1");
	sp_storeurl_key(&u, id, 1795412269LL * 1000000, key, sizeof(key));
	cr_expect_str_eq(key,
	    "x/y/2026/11/23/ab000000-0000-0000-0000-000000000000.spr");
	cr_assert_eq(parse("https://[2001:db8::7]/bucket", "", &u), SP_OK);
	cr_expect(u.is_v6);
	cr_expect_eq(u.port, 443);
	cr_expect_str_eq(u.address[0], "2001:db8::7");
}

Test(ship, locks)
{
	static const char *const bad[] = {"compliance", "governance x", "governance 0",
	    "compliance 40000", "400", "governance 1 compliance 2", "held"};
	struct sp_storelock l;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(sp_storelock_parse(bad[i], &l), SP_ERR_SYNTAX, "%s",
		    bad[i]);
	cr_assert_eq(sp_storelock_parse("hold compliance 400", &l), SP_OK);
	cr_expect(l.hold);
	cr_expect_eq(l.days, 400);
	cr_expect_str_eq(l.mode, "COMPLIANCE");
	cr_assert_eq(sp_storelock_parse(" ", &l), SP_OK);
	cr_expect_str_eq(l.mode, "");
}

Test(ship, what_a_store_answers)
{
	struct sp_span s = sp_span_str("<R><Part><N>1</N><E>&quot;a&amp;b&quot;</E></Part>"
	    "<Part><N>22</N></Part><Part><N>3</R>"), one;
	char t[8];

	cr_assert(sp_xml_next(&s, "Part", &one));
	cr_expect(sp_xml_text(one, "N", t, sizeof(t)));
	cr_expect_str_eq(t, "1");
	cr_expect(sp_xml_text(one, "E", t, sizeof(t)));
	cr_expect_str_eq(t, "\"a&b\"");
	cr_assert(sp_xml_next(&s, "Part", &one));
	cr_expect(!sp_xml_text(one, "N", t, 2), "cut");
	cr_expect(!sp_xml_text(one, "E", t, sizeof(t)), "of the next");
	cr_expect(!sp_xml_next(&s, "Part", &one), "not closed");
}

static bool
always(void *arg)
{
	(void)arg;
	return true;
}

Test(ship, digests_of_parts)
{
	FILE *f = tmpfile();
	struct sp_digest d = {0};
	char text[SP_S3_DIGEST_TEXT], hex[65];
	uint8_t all[96];

	cr_assert_not_null(f);
	fputs("aaaabbbbcc", f);
	fflush(f);
	cr_assert_eq(sp_digest_file(fileno(f), 4, &d, always, NULL), SP_OK);
	cr_expect_eq(d.n_parts, 3);
	sp_sha256(sp_span_str("cc"), all);
	cr_expect(memcmp(all, d.parts[2], 32) == 0);
	sp_sha256(sp_span_str("aaaabbbbcc"), all);
	cr_expect(memcmp(all, d.sha256, 32) == 0);
	sp_hex(hex, d.md5[0], 16);
	cr_expect_str_eq(hex, "74b87337454200d4d33f80c4663dc5e5");
	sp_parts_digest(&d, text);
	cr_expect_str_eq(text + strlen(text) - 2, "-3");
	sp_digest_fini(&d);
	/* Never more parts than a store takes. */
	cr_assert_eq(ftruncate(fileno(f), 50000), 0);
	cr_assert_eq(sp_digest_file(fileno(f), 1, &d, always, NULL), SP_OK);
	cr_expect_leq(d.n_parts, SP_SHIP_PARTS_MAX);
	cr_expect_eq(d.part, 8);
	sp_digest_fini(&d);
	fclose(f);
}

Test(ship, rules_of_retention)
{
	static const char *const bad[] = {"*", "* x", "* 0", "target= 5", "host=a 5", "* 5 6",
	    "* 5; target", "* 99999"};
	struct sp_retain_rules r = {.n = 7};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_neq(sp_retain_parse(bad[i], &r), SP_OK, "%s", bad[i]);
	cr_expect_eq(r.n, 7, "nothing of a list with a mistake holds");
	cr_assert_eq(sp_retain_parse("", &r), SP_OK);
	cr_expect_null(sp_retain_match(&r, "a", "", "ssh"));
	cr_assert_eq(sp_retain_parse("target=dev-* 90; tag=pay 3650;kind=sql 7 ; "
	    "target=core 30", &r), SP_OK);
	cr_expect_eq(sp_retain_match(&r, "dev-1", "pay", "sql")->days, 90);
	cr_expect_eq(sp_retain_match(&r, "x", "a pay b", "sql")->days, 3650);
	cr_expect_eq(sp_retain_match(&r, "x", "a payb", "sql")->days, 7);
	cr_expect_eq(sp_retain_match(&r, "core", NULL, NULL)->days, 30);
	cr_expect_null(sp_retain_match(&r, "core-1", NULL, "ssh"));
}
