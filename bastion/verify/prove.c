/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bastion/verify/verify.h"

/*
 * Proofs for whoever has nothing but the audit key. As text: what it is about, the
 * leaf and the hashes in base64, a line each, an empty line, the checkpoint.
 */
struct log {
	int fd;
	bool json, has_one;
	struct sp_checkpoint head;
	struct sp_buf note;
	struct sp_tlog_dir *dir;
	struct sp_tlog_source src;
};

static enum sp_err
log_open(struct log *g, const char *path, const uint8_t key[static 32])
{
	struct sp_note_key k;
	struct sp_note n;
	uint8_t root[32];

	g->note = (struct sp_buf){.max = SP_NOTE_MAX + 8192};
	g->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (g->fd < 0)
		return SP_ERR_NOTFOUND;
	SP_TRY(sp_tlog_read(g->fd, "checkpoint", SP_NOTE_MAX, &g->note));
	SP_TRY(sp_note_parse(sp_buf_span(&g->note), &n));
	SP_TRY(sp_checkpoint_parse(n.text, &g->head));
	SP_TRY(sp_note_key_make(&k, sp_span_str(g->head.origin), SP_NOTE_ED25519,
	    key));
	SP_TRY(sp_note_check(&n, &k, NULL, NULL));
	g->dir = sp_tlog_dir_new(g->fd, g->head.size);
	if (g->dir == NULL)
		return SP_ERR_NOMEM;
	g->src = sp_tlog_dir_source(g->dir);
	SP_TRY(sp_tlog_root_at(&g->src, g->head.size, root));
	return memcmp(root, g->head.root, 32) == 0 ? SP_OK : SP_ERR_CRYPTO;
}

static void
put64(struct sp_span s, bool json, bool is_first)
{
	SP_BUF_AUTO b = {.max = 4096};

	if (sp_base64(&b, s) != SP_OK)
		return;
	if (json)
		printf("%s\"%.*s\"", is_first ? "" : ",", (int)b.len,
		    (char *)(b.p + b.off));
	else
		printf("%.*s\n", (int)b.len, (char *)(b.p + b.off));
}

static void
put_proof(const struct log *g, const struct sp_tlog_proof *p)
{
	if (g->json)
		printf(",\"proof\":[");
	for (size_t i = 0; i < p->n; i++)
		put64(sp_span_of(p->h[i], 32), g->json, i == 0);
	if (g->json)
		printf("]");
}

static void
put_note(const struct log *g)
{
	static char text[SP_NOTE_MAX + 1];

	if (sp_span_cstr(sp_buf_span(&g->note), text, sizeof(text)) != SP_OK)
		return;
	if (g->json)
		json_text(stdout, "checkpoint", text);
	else
		fputs(text, stdout);
}

static int
checkpoint(const struct log *g)
{
	char root[65];

	sp_hex(root, g->head.root, 32);
	if (g->json) {
		printf("{\"id\":\"%" PRIu64 "\",\"size\":%" PRIu64
		    ",\"root\":\"%s\"", g->head.size, g->head.size, root);
		json_text(stdout, "origin", g->head.origin);
	}
	put_note(g);
	if (g->json)
		printf("}\n");
	return 0;
}

static int
consistency(const struct log *g, uint64_t size1, uint64_t size2)
{
	struct sp_tlog_proof p;
	uint8_t r1[32], r2[32];

	if (size1 > size2 || size2 > g->head.size)
		return fail("the log has %" PRIu64 " leaves", g->head.size);
	if (sp_tlog_prove_consistency(&g->src, size1, size2, &p) != SP_OK ||
	    sp_tlog_root_at(&g->src, size1, r1) != SP_OK ||
	    sp_tlog_root_at(&g->src, size2, r2) != SP_OK ||
	    sp_tlog_check_consistency(&p, size1, r1, size2, r2) != SP_OK)
		return fail("its tiles do not make a proof");
	if (g->json)
		printf("{\"id\":\"%" PRIu64 "-%" PRIu64 "\",\"from\":%" PRIu64
		    ",\"to\":%" PRIu64, size1, size2, size1, size2);
	else
		printf("consistency %" PRIu64 " %" PRIu64 "\n", size1, size2);
	put_proof(g, &p);
	if (!g->json)
		printf("\n");
	put_note(g);
	if (g->json)
		printf("}\n");
	return 0;
}

/* ----------------------------------------------------------------- inclusion */

static int
prove_leaf(struct log *g, uint64_t index, struct sp_span entry,
    const struct sp_leaf *l)
{
	struct sp_tlog_proof p;
	uint8_t h[32];

	sp_tlog_leaf_hash(entry, h);
	if (sp_tlog_prove_inclusion(&g->src, index, g->head.size, &p) != SP_OK ||
	    sp_tlog_check_inclusion(&p, index, g->head.size, h, g->head.root) !=
	    SP_OK)
		return fail("leaf %" PRIu64 " is not in the tree", index);
	if (g->json) {
		printf("%s{\"id\":\"%" PRIu64 "\",\"index\":%" PRIu64
		    ",\"size\":%" PRIu64 ",\"type\":\"%s\",\"entry\":", g->has_one ?
		    "," : "[", index, index, g->head.size,
		    sp_leaf_type_name(l->type));
		put64(entry, true, true);
	} else {
		printf("inclusion %" PRIu64 " %" PRIu64 " %s\n", index, g->head.size,
		    sp_leaf_type_name(l->type));
		put64(entry, false, true);
	}
	put_proof(g, &p);
	printf(g->json ? "}" : "\n");
	g->has_one = true;
	return 0;
}

static bool
is_wanted(const struct sp_leaf *l, const uint8_t *session)
{
	return l->type != SP_LEAF_AUDIT && memcmp(l->session, session, 16) == 0;
}

static int
prove(struct log *g, const uint8_t session[static 16])
{
	int rc = 0;

	for (uint64_t n = 0; n * SP_TLOG_TILE < g->head.size && rc == 0; n++) {
		SP_BUF_AUTO text = {.max = SP_TLOG_BUNDLE_MAX + 8192};
		uint64_t index = n * SP_TLOG_TILE;
		struct sp_span s, e;
		struct sp_leaf l;

		if (sp_tlog_bundle(g->fd, n, g->head.size, &text) != SP_OK)
			return fail("entries from %" PRIu64 " on are missing", index);
		for (s = sp_buf_span(&text); rc == 0 &&
		    sp_tlog_bundle_next(&s, &e) == SP_OK; index++)
			if (sp_leaf_decode(e, &l) == SP_OK && is_wanted(&l, session))
				rc = prove_leaf(g, index, e, &l);
	}
	if (rc != 0)
		return rc;
	if (!g->has_one)
		return fail("the log has no such session") == 2 ? 1 : 1;
	if (g->json)
		printf("]\n");
	else
		put_note(g);
	return 0;
}

static int
run(struct log *g, int argc, char **argv)
{
	uint8_t session[16];
	uint64_t a = 0, b = g->head.size;

	if (argc == 2 && strcmp(argv[1], "checkpoint") == 0)
		return checkpoint(g);
	if (argc == 3 && strcmp(argv[1], "prove") == 0) {
		if (sp_uuid_parse(session, sp_span_str(argv[2])) != SP_OK)
			return fail("%s is no session's id", argv[2]);
		return prove(g, session);
	}
	if ((argc == 3 || argc == 4) && strcmp(argv[1], "consistency") == 0) {
		if (sp_u64_parse(sp_span_str(argv[2]), SP_TLOG_SIZE_MAX, &a) !=
		    SP_OK || (argc == 4 && sp_u64_parse(sp_span_str(argv[3]),
		    SP_TLOG_SIZE_MAX, &b) != SP_OK))
			return fail("consistency wants numbers of leaves");
		return consistency(g, a, b);
	}
	return fail("usage: log checkpoint | log consistency SIZE [SIZE] | "
	    "log prove SESSION | log stamps --tsa CERTIFICATES");
}

int
log_verbs(int argc, char **argv)
{
	const char *key_arg = option(&argc, argv, "--key");
	const char *path = option(&argc, argv, "--log");
	const char *tsa = option(&argc, argv, "--tsa");
	struct log g = {.fd = -1, .json = flag(&argc, argv, "--json")};
	uint8_t key[32];
	enum sp_err e;
	int rc;

	if (key_arg == NULL || path == NULL || key_read(key_arg, key) != SP_OK)
		return fail("log wants --key HEX|FILE and --log DIR");
	e = log_open(&g, path, key);
	if (e == SP_OK && argc == 2 && strcmp(argv[1], "stamps") == 0)
		rc = tsa == NULL ? fail("stamps wants --tsa CERTIFICATES") :
		    stamps(g.fd, tsa, key, g.json);
	else
		rc = e == SP_OK ? run(&g, argc, argv) : fail("the log %s: %s", path,
	    e == SP_ERR_CRYPTO ? "it is not what this vault has signed" :
	    sp_err_text(e));
	sp_buf_fini(&g.note);
	free(g.dir);
	if (g.fd >= 0)
		close(g.fd);
	return fflush(stdout) != 0 ? 2 : rc;
}
