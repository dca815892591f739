/* SPDX-License-Identifier: Apache-2.0 */
/* Seal slots of the vault: listed, added, proven, removed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <json-c/json.h>

#include "bastion/cli/cli.h"
#include "common/shares.h"

/* As the vault numbers them (vault/slots.h). */
static const char *const types[] = {NULL, "passphrase", "demo", "shares",
    "credential", "pkcs11"};
#define N_TYPES (sizeof(types) / sizeof(types[0]))

struct slot {
	uint8_t id, type, usable, k, n;
	int64_t made_us;
	char label[SP_NAME_MAX + 1];
	struct sp_span extra;	/* of the rows that were read */
};

static enum sp_err
take_row(struct sp_span *rows, struct slot *t)
{
	struct sp_span label;
	uint64_t made;

	SP_TRY(sp_get_u8(rows, &t->id));
	SP_TRY(sp_get_u8(rows, &t->type));
	SP_TRY(sp_get_u8(rows, &t->usable));
	SP_TRY(sp_get_u64(rows, &made));
	SP_TRY(sp_get_u8(rows, &t->k));
	SP_TRY(sp_get_u8(rows, &t->n));
	SP_TRY(sp_get_str(rows, SP_NAME_MAX, &label));
	SP_TRY(sp_get_bytes(rows, 640, &t->extra));
	if (t->type == 0 || t->type >= N_TYPES)
		return SP_ERR_PROTO;
	t->made_us = (int64_t)made;
	return sp_span_cstr(label, t->label, sizeof(t->label));
}

static json_object *
row_json(const struct slot *t)
{
	json_object *o = json_object_new_object();
	char when[SP_TIME_TEXT];

	sp_time_text(when, t->made_us, false);
	json_object_object_add(o, "id", json_object_new_int(t->id));
	json_object_object_add(o, "type", json_object_new_string(types[t->type]));
	json_object_object_add(o, "label", t->label[0] == '\0' ? NULL :
	    json_object_new_string(t->label));
	json_object_object_add(o, "state",
	    json_object_new_string(t->usable ? "usable" : "pending"));
	json_object_object_add(o, "made", t->made_us == 0 ? NULL :
	    json_object_new_string(when));
	if (t->k != 0) {
		json_object_object_add(o, "k", json_object_new_int(t->k));
		json_object_object_add(o, "n", json_object_new_int(t->n));
	}
	return o;
}

static void
print_row(const struct slot *t)
{
	char kind[48], when[SP_TIME_TEXT] = "-";

	if (t->k != 0)
		snprintf(kind, sizeof(kind), "shares %u of %u", t->k, t->n);
	else
		snprintf(kind, sizeof(kind), "%s", types[t->type]);
	if (t->made_us != 0)
		sp_time_text(when, t->made_us, false);
	printf("%-4u  %-16s  %-16s  %-20s  %s\n", t->id, kind,
	    t->label[0] == '\0' ? "-" : t->label, when, t->usable ? "usable" :
	    "pending: sallyport vault slots verify");
}

static int
print_rows(const struct sp_cli *c, struct sp_span rows)
{
	json_object *all = json_object_new_array();
	struct slot t;

	if (!c->json)
		printf("%-4s  %-16s  %-16s  %-20s  %s\n", "SLOT", "KIND", "LABEL",
		    "MADE", "STATE");
	while (rows.n > 0) {
		if (take_row(&rows, &t) != SP_OK) {
			json_object_put(all);
			return sp_cli_fail(SP_EXIT_LATER,
			    "the vault said something else");
		}
		if (c->json)
			json_object_array_add(all, row_json(&t));
		else
			print_row(&t);
	}
	if (c->json)
		printf("%s\n", json_object_to_json_string_ext(all,
		    JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(all);
	return SP_EXIT_OK;
}

int
sp_cli_slot_rows(const struct sp_cli *c, struct sp_buf *rows)
{
	struct sp_msg_vc_slots_r m;
	struct sp_packet p;
	struct sp_link l;
	int rc = sp_cli_vault_reach(c, &l);

	if (rc != SP_EXIT_OK)
		return rc;
	if (sp_send_vc_slots(&l, 0, &(struct sp_msg_vc_slots){}, NULL) != SP_OK)
		rc = sp_cli_fail(SP_EXIT_LATER, "the vault went away");
	else
		rc = sp_cli_vault_answer(&l, SP_MSG_vc_slots_r, &p);
	if (rc == SP_EXIT_OK) {
		if (sp_dec_vc_slots_r(p.body, &m) != SP_OK || m.err != SP_OK)
			rc = sp_cli_fail(SP_EXIT_LATER, "the vault's state file is "
			    "missing or damaged: sallyport doctor");
		else if (sp_buf_put(rows, m.rows.p, m.rows.n) != SP_OK)
			rc = SP_EXIT_LATER;
	}
	sp_link_fini(&l);
	return rc;
}

bool
sp_cli_slot_next(struct sp_span *rows, uint8_t *type, struct sp_span *extra)
{
	struct slot t;

	if (take_row(rows, &t) != SP_OK)
		return false;
	*type = t.usable ? t.type : 0;
	*extra = t.extra;
	return true;
}

static int
list(const struct sp_cli *c)
{
	SP_BUF_AUTO rows = {.max = 16384};
	int rc = sp_cli_slot_rows(c, &rows);

	return rc == SP_EXIT_OK ? print_rows(c, sp_buf_span(&rows)) : rc;
}

/* --------------------------------------------------------------------- add */

struct add {
	uint8_t type, k, n;
	bool qr;
	const char *label;
	struct sp_buf secret, extra;
};

static json_object *
shares_json(struct sp_span texts)
{
	json_object *a = json_object_new_array();

	while (texts.n > 0) {
		const uint8_t *end = memchr(texts.p, '\n', texts.n);
		size_t n = end == NULL ? texts.n : (size_t)(end - texts.p);

		json_object_array_add(a, json_object_new_string_len(
		    (const char *)texts.p, (int)n));
		n += end != NULL;
		texts = sp_span_of(texts.p + n, texts.n - n);
	}
	return a;
}

static void
print_share(struct sp_span line, const struct add *a, unsigned i)
{
	SP_BUF_AUTO b = {.max = SP_SHARE_TEXT_MAX};
	struct sp_share s;
	char qr[SP_SHARE_TEXT_MAX];

	printf("share %u of %u\n  %.*s\n\n", i, a->n, (int)line.n,
	    (const char *)line.p);
	if (a->qr && sp_share_parse(line, &s) == SP_OK &&
	    sp_share_text(&s, false, &b) == SP_OK &&
	    sp_span_cstr(sp_buf_span(&b), qr, sizeof(qr)) == SP_OK) {
		if (sp_cli_qr(qr) != SP_OK)
			(void)sp_cli_fail(0, "no QR code could be made");
		printf("\n");
	}
	explicit_bzero(&s, sizeof(s));
	explicit_bzero(qr, sizeof(qr));
}

static void
print_shares(struct sp_span texts, const struct add *a, uint8_t slot)
{
	unsigned i = 1;

	printf("Any %u of these %u shares unseal the vault. Each is for one "
	    "custodian. They are\nkept nowhere and cannot be shown again.\n\n",
	    a->k, a->n);
	for (; texts.n > 0; i++) {
		const uint8_t *end = memchr(texts.p, '\n', texts.n);
		size_t n = end == NULL ? texts.n : (size_t)(end - texts.p);

		print_share(sp_span_of(texts.p, n), a, i);
		n += end != NULL;
		texts = sp_span_of(texts.p + n, texts.n - n);
	}
	printf("Slot %u opens nothing until each was given back once:\n"
	    "  sallyport vault slots verify %u\n", slot, slot);
}

static void
print_added(const struct sp_cli *c, const struct add *a,
    const struct sp_msg_vc_slot_add_r *r)
{
	json_object *o;

	if (!c->json && a->type == 3) {
		print_shares(r->shares, a, r->slot);
		return;
	}
	if (!c->json) {
		printf("slot %u: %s\n", r->slot, types[a->type]);
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "id", json_object_new_int(r->slot));
	json_object_object_add(o, "type", json_object_new_string(types[a->type]));
	json_object_object_add(o, "state", json_object_new_string(a->type == 3 ?
	    "pending" : "usable"));
	if (a->type == 3)
		json_object_object_add(o, "shares", shares_json(r->shares));
	printf("%s\n", json_object_to_json_string_ext(o,
	    JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}

static int
add(const struct sp_cli *c, const struct add *a)
{
	struct sp_msg_vc_slot_add m = {.type = a->type, .k = a->k, .n = a->n,
	    .label = sp_span_str(a->label), .secret = sp_buf_span(&a->secret),
	    .extra = sp_buf_span(&a->extra)};
	struct sp_msg_vc_slot_add_r r;
	struct sp_packet p;
	struct sp_link l;
	int rc = sp_cli_vault_reach(c, &l);

	if (rc != SP_EXIT_OK)
		return rc;
	if (sp_send_vc_slot_add(&l, 0, &m, NULL) != SP_OK)
		rc = sp_cli_fail(SP_EXIT_LATER, "the vault went away");
	else
		rc = sp_cli_vault_answer(&l, SP_MSG_vc_slot_add_r, &p);
	if (rc == SP_EXIT_OK) {
		if (sp_dec_vc_slot_add_r(p.body, &r) != SP_OK)
			rc = sp_cli_fail(SP_EXIT_LATER,
			    "the vault said something else");
		else if (r.err != SP_OK)
			rc = sp_cli_fail(SP_EXIT_REFUSED, "%s",
			    sp_vis_tmp(r.text));
		else
			print_added(c, a, &r);
	}
	sp_link_fini(&l);
	return rc;
}

static int
number(const char *text, uint8_t *v)
{
	uint64_t n;

	if (text == NULL || sp_u64_parse(sp_span_str(text), 255, &n) != SP_OK)
		return -1;
	*v = (uint8_t)n;
	return 0;
}

static int
new_passphrase(struct add *a)
{
	SP_BUF_AUTO again = {.max = 1024};

	if (sp_cli_secret_line("Passphrase of the new slot: ", &a->secret) !=
	    SP_OK)
		return sp_cli_fail(SP_EXIT_USAGE,
		    "a passphrase has at most 1024 bytes");
	if (!isatty(STDIN_FILENO))
		return SP_EXIT_OK;
	if (sp_cli_secret_line("Once more: ", &again) != SP_OK ||
	    !sp_span_eq(sp_buf_span(&again), sp_buf_span(&a->secret)))
		return sp_cli_fail(SP_EXIT_USAGE, "these are two passphrases");
	return SP_EXIT_OK;
}

static int
usage(void)
{
	return sp_cli_fail(SP_EXIT_USAGE,
	    "usage: sallyport vault slots [--json]\n"
	    "       sallyport vault slots add passphrase [--label NAME]\n"
	    "       sallyport vault slots add shares --k K --n N [--qr] "
	    "[--label NAME]\n"
	    "       sallyport vault slots add credential --from FILE "
	    "[--label NAME]\n"
	    "       sallyport vault slots add pkcs11 --token TOKEN --key KEY "
	    "[--label NAME]\n"
	    "       sallyport vault slots verify SLOT\n"
	    "       sallyport vault slots remove SLOT");
}

static int
cmd_add(const struct sp_cli *c, int argc, char **argv)
{
	const char *k = sp_cli_value(&argc, argv, "--k");
	const char *n = sp_cli_value(&argc, argv, "--n");
	const char *from = sp_cli_value(&argc, argv, "--from");
	const char *token = sp_cli_value(&argc, argv, "--token");
	const char *key = sp_cli_value(&argc, argv, "--key");
	struct add a = {.secret = {.max = 1024}, .extra = {.max = 640}};
	int rc = SP_EXIT_OK;

	a.qr = sp_cli_flag(&argc, argv, "--qr");
	a.label = sp_cli_value(&argc, argv, "--label");
	for (uint8_t t = 1; argc == 4 && t < N_TYPES; t++)
		if (t != 2 && strcmp(argv[3], types[t]) == 0)
			a.type = t;
	if (a.type == 1)
		rc = new_passphrase(&a);
	else if (a.type == 3 && (number(k, &a.k) != 0 || number(n, &a.n) != 0))
		rc = usage();
	else if (a.type == 4 && from == NULL)
		rc = usage();
	else if (a.type == 4)
		rc = sp_cli_read(from, &a.secret) == SP_OK ? SP_EXIT_OK :
		    sp_cli_fail(SP_EXIT_USAGE, "%s cannot be read, or has more "
		    "than 1024 bytes", from);
	else if (a.type == SP_CLI_SLOT_PKCS11 && token != NULL && key != NULL)
		rc = sp_cli_token_add(c, token, key, &a.secret, &a.extra);
	else if (a.type != 3)
		rc = usage();
	if (rc == SP_EXIT_OK)
		rc = add(c, &a);
	sp_buf_fini(&a.secret);
	sp_buf_fini(&a.extra);
	return rc;
}

static int
cmd_remove(const struct sp_cli *c, uint8_t slot)
{
	struct sp_link l;
	int rc = sp_cli_vault_reach(c, &l);

	if (rc != SP_EXIT_OK)
		return rc;
	if (sp_send_vc_slot_remove(&l, 0, &(struct sp_msg_vc_slot_remove){
	    .slot = slot}, NULL) != SP_OK)
		rc = sp_cli_fail(SP_EXIT_LATER, "the vault went away");
	else
		rc = sp_cli_vault_done(c, &l, "removed");
	sp_link_fini(&l);
	return rc;
}

int
sp_cmd_slots(struct sp_cli *c, int argc, char **argv)
{
	uint8_t slot;

	if (argc == 2)
		return list(c);
	if (strcmp(argv[2], "add") == 0)
		return cmd_add(c, argc, argv);
	if (argc != 4 || number(argv[3], &slot) != 0 || slot == 0)
		return usage();
	if (strcmp(argv[2], "remove") == 0)
		return cmd_remove(c, slot);
	if (strcmp(argv[2], "verify") == 0)
		return sp_cli_ceremony(c, slot);
	return usage();
}
