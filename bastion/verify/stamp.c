/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/bio.h>
#include <openssl/ts.h>
#include <openssl/x509.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

#include "bastion/verify/verify.h"

/*
 * RFC 3161 tokens beside checkpoints, checked with the certificates of the
 * authority alone: that it signed this SHA-256, and when it says that was.
 */

/* What was stamped: the note with the log's own signature and no other. */
static enum sp_err
stamped(int dir, const char *name, const uint8_t key[static 32],
    uint8_t digest[static 32])
{
	SP_BUF_AUTO b = {.max = SP_NOTE_MAX + 8192};
	crypto_hash_sha256_state st;
	struct sp_checkpoint c;
	struct sp_note_key k;
	struct sp_note n;
	size_t at = 0;

	SP_TRY(sp_tlog_read(dir, name, SP_NOTE_MAX, &b));
	SP_TRY(sp_note_parse(sp_buf_span(&b), &n));
	SP_TRY(sp_checkpoint_parse(n.text, &c));
	SP_TRY(sp_note_key_make(&k, sp_span_str(c.origin), SP_NOTE_ED25519, key));
	SP_TRY(sp_note_check(&n, &k, &at, NULL));
	crypto_hash_sha256_init(&st);
	crypto_hash_sha256_update(&st, n.text.p, n.text.n);
	crypto_hash_sha256_update(&st, (const uint8_t *)"\n", 1);
	crypto_hash_sha256_update(&st, n.sig[at].line.p, n.sig[at].line.n);
	crypto_hash_sha256_final(&st, digest);
	return SP_OK;
}

static TS_RESP *
read_token(int dir, const char *name)
{
	SP_BUF_AUTO b = {.max = 131072};
	const unsigned char *p;

	if (sp_tlog_read(dir, name, 65536, &b) != SP_OK)
		return NULL;
	p = b.p + b.off;
	return d2i_TS_RESP(NULL, &p, (long)b.len);
}

static bool
verify_token(TS_RESP *r, X509_STORE *store, const uint8_t digest[static 32])
{
	TS_VERIFY_CTX *ctx = TS_VERIFY_CTX_new();
	unsigned char *imprint = OPENSSL_memdup(digest, 32);
	bool good = false;

	if (ctx != NULL && imprint != NULL) {
		/* Both are the context's from here on. */
		X509_STORE_up_ref(store);
		TS_VERIFY_CTX_set_store(ctx, store);
		TS_VERIFY_CTX_set_imprint(ctx, imprint, 32);
		TS_VERIFY_CTX_set_flags(ctx, TS_VFY_VERSION | TS_VFY_IMPRINT |
		    TS_VFY_SIGNATURE);
		good = TS_RESP_verify_response(ctx, r) == 1;
	} else {
		OPENSSL_free(imprint);
	}
	TS_VERIFY_CTX_free(ctx);
	return good;
}

static void
time_of(TS_RESP *r, char text[static 64])
{
	TS_TST_INFO *info = TS_RESP_get_tst_info(r);
	BIO *m = BIO_new(BIO_s_mem());
	int n = 0;

	if (m != NULL && info != NULL &&
	    ASN1_GENERALIZEDTIME_print(m, TS_TST_INFO_get_time(info)) == 1)
		n = BIO_read(m, text, 63);
	text[n > 0 ? n : 0] = '\0';
	BIO_free(m);
}

static bool
one(int dir, const char *name, const uint8_t key[static 32], X509_STORE *store,
    bool json, bool is_first)
{
	char note[32], when[64] = "";
	uint8_t digest[32];
	TS_RESP *r = read_token(dir, name);
	bool good;

	snprintf(note, sizeof(note), "%.13s", name);
	good = r != NULL && stamped(dir, note, key, digest) == SP_OK &&
	    verify_token(r, store, digest);
	if (good)
		time_of(r, when);
	TS_RESP_free(r);
	if (json) {
		printf("%s{\"id\":\"%s\",\"good\":%s", is_first ? "[" : ",", note,
		    good ? "true" : "false");
		json_text(stdout, "at", when);
		printf("}");
	} else {
		printf("%s leaves: %s%s\n", note, good ? "stamped " :
		    "the stamp is NOT good", when);
	}
	return good;
}

int
stamps(int log, const char *certificates, const uint8_t key[static 32],
    bool json)
{
	X509_STORE *store = X509_STORE_new();
	int fd = openat(log, "checkpoints", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	size_t n = 0, bad = 0;

	if (store == NULL || X509_STORE_load_file(store, certificates) != 1 ||
	    d == NULL) {
		X509_STORE_free(store);
		if (d != NULL)
			closedir(d);
		return fail("%s: no certificates, or no checkpoints", certificates);
	}
	while ((e = readdir(d)) != NULL)
		if (strlen(e->d_name) == 17 && strcmp(e->d_name + 13, ".tsr") == 0)
			bad += !one(dirfd(d), e->d_name, key, store, json, n++ == 0);
	if (json)
		printf("%s]\n", n == 0 ? "[" : "");
	else if (n == 0)
		printf("no checkpoint is stamped\n");
	closedir(d);
	X509_STORE_free(store);
	return bad == 0 ? 0 : 1;
}
