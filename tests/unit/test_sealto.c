/* SPDX-License-Identifier: Apache-2.0 */
/* Who can open a recording, as the configuration says. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "common/keysrule.h"
#include "common/sealto.h"
#include "common/text.h"

static char who[3][SP_IDENTITY_TEXT];

static void
make_people(void)
{
	for (size_t i = 0; i < 3; i++) {
		uint8_t key[32];

		memset(key, (int)(0x10 + i), sizeof(key));
		sp_identity_text(who[i], key);
	}
}

static enum sp_err
parse(const char *rest, struct sp_sealto *o, char bad[static 256])
{
	static struct sp_config c;
	struct sp_config_diag d;
	char text[1200];

	make_people();
	snprintf(text, sizeof(text), "recording_auditors anna=%s ben=%s carl=%s\n%s",
	    who[0], who[1], who[2], rest);
	cr_assert_eq(sp_config_parse(&c, sp_span_str(text), &d), SP_OK, "%s", d.text);
	return sp_sealto_parse(&c, o, bad, 256);
}

Test(sealto, by_default_the_vault_opens)
{
	static struct sp_config c;
	struct sp_config_diag d;
	struct sp_sealto o;
	char bad[256];

	cr_assert_eq(sp_config_parse(&c, sp_span_str(""), &d), SP_OK);
	cr_assert_eq(sp_sealto_parse(&c, &o, bad, sizeof(bad)), SP_OK);
	cr_assert(o.has_vault && o.n == 1);
	for (size_t l = 0; l < SP_SEALTO_LANES; l++)
		cr_assert(o.lane[l].threshold == 1 && o.lane[l].who == 1);
}

Test(sealto, auditors_alone)
{
	struct sp_sealto o;
	char bad[256];

	cr_assert_eq(parse("recordings_sealed_to auditors\n", &o, bad), SP_OK);
	cr_assert(!o.has_vault && o.n == 3);
	cr_assert_str_eq(o.one[0].name, "anna");
	cr_assert(o.one[2].key[0] == 0x12);
	for (size_t l = 0; l < SP_SEALTO_LANES; l++)
		cr_assert(o.lane[l].threshold == 1 && o.lane[l].who == 7);
}

Test(sealto, a_lane_of_its_own)
{
	struct sp_sealto o;
	char bad[256];

	cr_assert_eq(parse("recording_keys 2 of anna ben carl\n"
	    "recording_files vault ben\n", &o, bad), SP_OK, "%s", bad);
	cr_assert(o.has_vault && o.n == 4);
	cr_assert(o.lane[SP_LANE_OUT - 1].who == 1);
	cr_assert(o.lane[SP_LANE_VIEW - 1].who == 1);
	cr_assert(o.lane[SP_LANE_IN - 1].who == 0xe);
	cr_assert(o.lane[SP_LANE_IN - 1].threshold == 2);
	cr_assert(o.lane[SP_LANE_FILE - 1].who == 0x5);
	cr_assert(o.lane[SP_LANE_META - 1].who == 0xf);
	cr_assert(o.lane[SP_LANE_META - 1].threshold == 1);
}

Test(sealto, what_opens_nothing_is_refused)
{
	static const char *const bad[][2] = {
	    {"recordings_sealed_to dora", "neither vault"},
	    {"recording_keys 4 of anna ben carl", "there are not 4"},
	    {"recording_keys 2 anna ben", "followed by"},
	    {"recording_keys 0 of anna", "followed by"},
	    {"recording_keys 2 of vault anna", "opens alone"},
	    {"recordings_sealed_to", "nobody"}};
	struct sp_sealto o;
	char text[256];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert_eq(parse(bad[i][0], &o, text), SP_ERR_SYNTAX, "%s",
		    bad[i][0]);
		cr_assert(strstr(text, bad[i][1]) != NULL, "%s: %s", bad[i][0], text);
	}
}

Test(sealto, a_key_typed_wrong_is_noticed)
{
	char text[SP_IDENTITY_TEXT];
	uint8_t key[32], got[32];

	for (size_t i = 0; i < 32; i++)
		key[i] = (uint8_t)(7 * i);
	sp_identity_text(text, key);
	cr_assert_eq(sp_identity_parse(sp_span_str(text), got), SP_OK);
	cr_assert_eq(memcmp(key, got, 32), 0);
	for (size_t i = 0; i < strlen(text); i++) {
		char was = text[i];

		text[i] = was == '1' ? '2' : '1';
		cr_assert_neq(sp_identity_parse(sp_span_str(text), got), SP_OK,
		    "%zu", i);
		text[i] = was;
	}
	cr_assert_eq(sp_identity_parse(sp_span_of(text, 40), got), SP_ERR_SYNTAX);
}

/* ------------------------------------------- what was typed, for several people */

#define KEY_A "AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"
#define KEY_B "AAAAC3NzaC1lZDI1NTE5AAAAIAICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIC"

static enum sp_err
keys_rule(const char *text, const uint8_t session[16], struct sp_buf *rule)
{
	static struct sp_config c;
	struct sp_config_diag d;
	char bad[256] = "";

	cr_assert_eq(sp_config_parse(&c, sp_span_str(text), &d), SP_OK, "%s", d.text);
	return sp_keys_rule(&c, session, rule, bad, sizeof(bad));
}

Test(keysrule, one_rule_for_each_session)
{
	static const uint8_t one[16] = {1}, two[16] = {2};
	static const char text[] = "keys_approvals 2\nkeys_approvers anna=" KEY_A
	    " ben=" KEY_B "\n";
	SP_BUF_AUTO a = {.max = SP_RULE_MAX}, b = {.max = SP_RULE_MAX};
	SP_BUF_AUTO again = {.max = SP_RULE_MAX};
	struct sp_rule r;

	cr_assert_eq(keys_rule(text, one, &a), SP_OK);
	cr_assert_eq(keys_rule(text, two, &b), SP_OK);
	cr_assert_eq(keys_rule(text, one, &again), SP_OK);
	cr_assert(sp_span_eq(sp_buf_span(&a), sp_buf_span(&again)));
	cr_assert(!sp_span_eq(sp_buf_span(&a), sp_buf_span(&b)));
	cr_assert_eq(sp_rule_decode(sp_buf_span(&a), &r), SP_OK);
	cr_assert(r.need == 2 && r.n == 2 && r.max_seconds == SP_KEYS_SECONDS);
	cr_assert_str_eq(r.key[1].name, "ben");
	cr_assert_eq(r.key[1].key.n, 51u);
	cr_assert_neq(memcmp(r.key[0].person, r.key[1].person, 16), 0);
}

Test(keysrule, what_nobody_could_fulfil_is_refused)
{
	static const char *const bad[] = {
	    "keys_approvals 2\n",
	    "keys_approvals 2\nkeys_approvers anna=" KEY_A "\n",
	    /* One person with two keys is one person. */
	    "keys_approvals 2\nkeys_approvers anna=" KEY_A " anna=" KEY_B "\n",
	    "keys_approvals 2\nkeys_approvers anna=" KEY_A " ben=" KEY_A "\n",
	    "keys_approvals 1\nkeys_approvers anna\n",
	    "keys_approvals 1\nkeys_approvers anna=\n",
	    "keys_approvals 1\nkeys_approvers anna=%%%%\n",
	    "keys_approvals 1\nkeys_approvers An/na=" KEY_A "\n"};
	static const uint8_t one[16] = {1};
	SP_BUF_AUTO rule = {.max = SP_RULE_MAX};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(keys_rule(bad[i], one, &rule), SP_ERR_SYNTAX, "%s",
		    bad[i]);
	cr_assert_eq(keys_rule("keys_approvers anna=" KEY_A "\n", one, &rule),
	    SP_ERR_NOTFOUND);
}
