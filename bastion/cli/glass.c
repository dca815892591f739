/* SPDX-License-Identifier: Apache-2.0 */
/* Break-glass kits: the vault seals them, this writes the file and shows the
 * shares, once. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <json-c/json.h>
#include <sodium.h>

#include "bastion/cli/held.h"
#include "common/kit.h"

#define DAYS_DEFAULT 365

struct glass {
	const struct sp_cli *c;
	const char *out, *note;
	const char *account[SP_KIT_ENTRIES_MAX];
	size_t n_accounts;
	uint8_t id[16], k, n;
	int64_t expires_us;
	struct sp_buf entries;	/* lines for the broker */
};

static int
refused(struct sp_span text)
{
	return sp_cli_fail(SP_EXIT_REFUSED, "the vault does not seal the kit: %s",
	    sp_vis_tmp(text));
}

/* Takes the vault's vc_done. */
static int
is_done(struct sp_link *l)
{
	struct sp_msg_vc_done r;
	struct sp_packet p;
	int rc = sp_cli_vault_answer(l, SP_MSG_vc_done, &p);

	if (rc != SP_EXIT_OK)
		return rc;
	if (sp_dec_vc_done(p.body, &r) != SP_OK)
		return SP_EXIT_LATER;
	return r.err == SP_OK ? SP_EXIT_OK : refused(r.text);
}

static int
add_one(struct glass *o, struct sp_link *l, const char *where)
{
	struct sp_held h;
	struct sp_msg_vc_kit_add m;
	char id[SP_UUID_TEXT];
	json_object *port = NULL;
	int rc = sp_held_load(o->c, where, NULL, &h);

	if (rc == SP_EXIT_OK) {
		m = (struct sp_msg_vc_kit_add){.kind = h.kind, .version = h.version,
		    .sealed = sp_buf_span(&h.sealed), .rule = sp_buf_span(&h.rule),
		    .account = sp_span_str(sp_cli_text_field(h.json, "account")),
		    .target_name = sp_span_str(sp_cli_text_field(h.json,
		    "target")), .addr = sp_span_str(sp_cli_text_field(h.json,
		    "addr")), .host_keys = sp_span_str(sp_cli_text_field(h.json,
		    "host_keys"))};
		if (json_object_object_get_ex(h.json, "port", &port))
			m.port = (uint16_t)json_object_get_int(port);
		memcpy(m.id, h.id, 16);
		memcpy(m.owner, h.owner, 16);
		sp_uuid_text(id, h.id);
		rc = sp_send_vc_kit_add(l, 0, &m, NULL) == SP_OK ? is_done(l) :
		    sp_cli_fail(SP_EXIT_LATER, "the vault went away");
	}
	if (rc == SP_EXIT_OK && sp_buf_printf(&o->entries, "%s%s %s %llu",
	    o->entries.len > 0 ? "\n" : "", where, id,
	    (unsigned long long)h.version) != SP_OK)
		rc = SP_EXIT_REFUSED;
	sp_held_fini(&h);
	return rc;
}

static int
write_kit(const struct glass *o, struct sp_span file)
{
	int fd = open(o->out, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	bool ok;

	if (fd < 0)
		return sp_cli_fail(SP_EXIT_REFUSED, "%s: %s", o->out,
		    strerror(errno));
	ok = write(fd, file.p, file.n) == (ssize_t)file.n && fsync(fd) == 0;
	ok = close(fd) == 0 && ok;
	return ok ? SP_EXIT_OK : sp_cli_fail(SP_EXIT_LATER, "%s could not be "
	    "written", o->out);
}

/* Before anybody has a share: a kit that is not listed would open unseen. */
static int
tell_broker(const struct glass *o, const uint8_t key[static 32])
{
	char id[SP_UUID_TEXT], hex[65], k[8], n[8], until[32];
	char verb[] = "break-glass", sub[] = "store", ok[] = "--k", on[] = "--n";
	char onote[] = "--note", oexp[] = "--expires", okey[] = "--receipt-key";
	char oent[] = "--entries", json_opt[] = "--json";
	SP_BUF_AUTO entries = {.max = 8192}, ignored = {.max = 65536};
	char *argv[] = {verb, sub, id, ok, k, on, n, onote,
	    (char *)(uintptr_t)o->note, oexp, until, okey, hex, oent, NULL, json_opt,
	    NULL};

	sp_uuid_text(id, o->id);
	sp_hex(hex, key, 32);
	snprintf(k, sizeof(k), "%u", o->k);
	snprintf(n, sizeof(n), "%u", o->n);
	snprintf(until, sizeof(until), "%lld", (long long)o->expires_us);
	if (sp_buf_put(&entries, sp_buf_span(&o->entries).p, o->entries.len) !=
	    SP_OK || sp_buf_put_u8(&entries, 0) != SP_OK)
		return SP_EXIT_REFUSED;
	argv[14] = (char *)(uintptr_t)sp_buf_span(&entries).p;
	return sp_cli_verb(o->c, 16, argv, -1, &ignored);
}

static void
show_shares(const struct glass *o, struct sp_span shares)
{
	bool tty = isatty(STDOUT_FILENO) == 1;
	const uint8_t *nl;
	unsigned i = 0;
	char line[256];

	fprintf(stderr, "The kit is in %s; sallyport-kit open %s needs %u of these "
	    "%u shares.\nThey are shown once. Give each to another person.\n",
	    o->out, o->out, o->k, o->n);
	while (shares.n > 0 && (nl = memchr(shares.p, '\n', shares.n)) != NULL) {
		size_t n = (size_t)(nl - shares.p);

		snprintf(line, sizeof(line), "%.*s", (int)n,
		    (const char *)shares.p);
		if (tty) {
			printf("\nShare %u of %u\n%s\n", ++i, o->n, line);
			(void)!sp_cli_qr(line);
		} else {
			printf("%s\n", line);
		}
		shares = sp_span_of(nl + 1, shares.n - n - 1);
	}
	sodium_memzero(line, sizeof(line));
	(void)fflush(stdout);
}

static int
end(struct glass *o, struct sp_link *l)
{
	struct sp_msg_vc_kit_end m;
	struct sp_msg_vc_kit_r r;
	struct sp_packet p;
	int rc;

	memcpy(m.kit, o->id, 16);
	if (sp_send_vc_kit_end(l, 0, &m, NULL) != SP_OK)
		return sp_cli_fail(SP_EXIT_LATER, "the vault went away");
	if ((rc = sp_cli_vault_answer(l, SP_MSG_vc_kit_r, &p)) != SP_EXIT_OK)
		return rc;
	if (sp_dec_vc_kit_r(p.body, &r) != SP_OK)
		return SP_EXIT_LATER;
	if (r.err != SP_OK)
		return refused(r.text);
	if ((rc = tell_broker(o, r.receipt_key)) == SP_EXIT_OK &&
	    (rc = write_kit(o, r.file)) == SP_EXIT_OK)
		show_shares(o, r.shares);
	sodium_memzero((uint8_t *)(uintptr_t)r.shares.p, r.shares.n);
	return rc;
}

static int
seal_kit(struct glass *o)
{
	struct sp_msg_vc_kit_begin m = {.k = o->k, .n = o->n,
	    .expires_us = o->expires_us, .note = sp_span_str(o->note)};
	struct sp_link l;
	int rc = sp_cli_vault_reach(o->c, &l);

	if (rc != SP_EXIT_OK)
		return rc;
	sp_uuid_make(o->id);
	memcpy(m.kit, o->id, 16);
	rc = sp_send_vc_kit_begin(&l, 0, &m, NULL) == SP_OK ? is_done(&l) :
	    sp_cli_fail(SP_EXIT_LATER, "the vault went away");
	for (size_t i = 0; rc == SP_EXIT_OK && i < o->n_accounts; i++)
		rc = add_one(o, &l, o->account[i]);
	if (rc == SP_EXIT_OK)
		rc = end(o, &l);
	sp_link_fini(&l);
	return rc;
}

static int
usage(void)
{
	return sp_cli_fail(SP_EXIT_USAGE, "usage: sallyport break-glass kit --k 3 "
	    "--n 5 --account ACCOUNT@TARGET [--account ...] --out FILE [--expires "
	    "365d] [--note TEXT]\n       sallyport break-glass import RECEIPT\n"
	    "       sallyport break-glass list [--json]");
}

static int
make_kit(struct sp_cli *c, int argc, char **argv)
{
	const char *k = sp_cli_value(&argc, argv, "--k"), *a;
	const char *n = sp_cli_value(&argc, argv, "--n");
	const char *life = sp_cli_value(&argc, argv, "--expires");
	struct glass o = {.c = c, .out = sp_cli_value(&argc, argv, "--out"),
	    .note = sp_cli_value(&argc, argv, "--note"),
	    .entries = {.max = 8000}};
	int64_t us = DAYS_DEFAULT * 86400LL * 1000000;
	uint64_t nk = 0, nn = 0;
	int rc;

	while ((a = sp_cli_value(&argc, argv, "--account")) != NULL) {
		if (o.n_accounts == SP_KIT_ENTRIES_MAX)
			return sp_cli_fail(SP_EXIT_USAGE, "a kit holds at most %d",
			    SP_KIT_ENTRIES_MAX);
		o.account[o.n_accounts++] = a;
	}
	if (argc != 2 || o.n_accounts == 0 || o.out == NULL || k == NULL ||
	    n == NULL || sp_u64_parse(sp_span_str(k), 32, &nk) != SP_OK ||
	    sp_u64_parse(sp_span_str(n), 32, &nn) != SP_OK ||
	    (life != NULL && (sp_duration_parse(sp_span_str(life), &us) != SP_OK ||
	    us <= 0)))
		return usage();
	o.note = o.note == NULL ? "" : o.note;
	o.k = (uint8_t)nk;
	o.n = (uint8_t)nn;
	o.expires_us = sp_now_us() + us;
	rc = seal_kit(&o);
	sp_buf_fini(&o.entries);
	return rc;
}

int
sp_cmd_glass(struct sp_cli *c, int argc, char **argv)
{
	int fd, rc;

	if (strcmp(argv[1], "kit") == 0)
		return make_kit(c, argc, argv);
	if (argc != 3 && !(argc == 4 && c->json))
		return usage();
	fd = open(argv[2], O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return sp_cli_fail(SP_EXIT_USAGE, "%s: %s", argv[2],
		    strerror(errno));
	argv[2] = argv[3];
	rc = sp_cli_verb(c, argc - 1, argv, fd, NULL);
	close(fd);
	return rc;
}
