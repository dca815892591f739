/* SPDX-License-Identifier: Apache-2.0 */
/* A vault's certificate authority on a string, for sshd as the judge: mints
 * through vault/sshcert.c and vault/krl.c, and signs bent bodies with the same key.
 * First it prints the CA's line; then each line of standard input is answered by
 * one line, base64 or "refused WHY":
 *
 *   mint PUBLIC(hex) ACCOUNT TARGET SOURCE|- RIGHTS NOW_S LEFT_S SERIAL SESSION(uuid)
 *   sign BODY(base64)
 *   krl N,N,...|- UUID,UUID,...|- CA(base64)|-
 */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "tests/unit/vault_kit.h"
#include "vault/krl.h"
#include "vault/sshcert.h"

#define WORDS 10

static struct sp_root root;

static enum sp_err
mint(char **w, struct sp_buf *out)
{
	struct sp_cert_wish c = {.account = w[2], .target_name = w[3],
	    .source = strcmp(w[4], "-") == 0 ? "" : w[4],
	    .rights = (uint32_t)strtoul(w[5], NULL, 0),
	    .serial = strtoull(w[8], NULL, 10)};
	uint8_t pk[32];

	SP_TRY(sp_unhex(pk, sizeof(pk), sp_span_str(w[1])));
	SP_TRY(sp_uuid_parse(c.session, sp_span_str(w[9])));
	c.pk = pk;
	c.now_us = sp_now_us() + strtoll(w[6], NULL, 10) * 1000000;
	c.not_after_us = c.now_us + strtoll(w[7], NULL, 10) * 1000000;
	return sp_cert_mint(&root, &c, out);
}

static enum sp_err
sign(char **w, struct sp_buf *out)
{
	SP_BUF_AUTO body = {.max = 65536}, sig = {.max = 256};
	uint8_t s[64];

	SP_TRY(sp_unbase64(&body, sp_span_str(w[1])));
	SP_ASSERT(crypto_sign_detached(s, NULL, sp_buf_span(&body).p, body.len,
	    root.ca.p) == 0);
	SP_TRY(sp_buf_put_ssh_string(&sig, sp_span_str("ssh-ed25519")));
	SP_TRY(sp_buf_put_ssh_string(&sig, sp_span_of(s, sizeof(s))));
	SP_TRY(sp_buf_put(out, sp_buf_span(&body).p, body.len));
	return sp_buf_put_ssh_string(out, sp_buf_span(&sig));
}

static enum sp_err
krl(char **w, struct sp_buf *out)
{
	SP_BUF_AUTO serials = {.max = 65536}, ids = {.max = 65536};
	SP_BUF_AUTO ca = {.max = 8192}, cas = {.max = 8192};
	struct sp_msg_v_krl m = {.version = 7};
	char *save;

	for (char *t = strtok_r(w[1], ",", &save); t != NULL && *t != '-';
	    t = strtok_r(NULL, ",", &save))
		SP_TRY(sp_buf_put_u64(&serials, strtoull(t, NULL, 10)));
	for (char *t = strtok_r(w[2], ",", &save); t != NULL && *t != '-';
	    t = strtok_r(NULL, ",", &save)) {
		uint8_t id[16];

		SP_TRY(sp_uuid_parse(id, sp_span_str(t)));
		SP_TRY(sp_buf_put(&ids, id, 16));
	}
	if (w[3][0] != '-') {
		SP_TRY(sp_unbase64(&ca, sp_span_str(w[3])));
		SP_TRY(sp_buf_put_ssh_string(&cas, sp_buf_span(&ca)));
	}
	m.serials = sp_buf_span(&serials);
	m.key_ids = sp_buf_span(&ids);
	m.cas = sp_buf_span(&cas);
	return sp_krl_make(&root, &m, sp_now_us(), out);
}

static enum sp_err
serve(char *line, struct sp_buf *out)
{
	char *w[WORDS] = {NULL}, *save;
	size_t n = 0;

	for (char *t = strtok_r(line, " \n", &save); t != NULL && n < WORDS;
	    t = strtok_r(NULL, " \n", &save))
		w[n++] = t;
	if (n == WORDS && strcmp(w[0], "mint") == 0)
		return mint(w, out);
	if (n == 2 && strcmp(w[0], "sign") == 0)
		return sign(w, out);
	return n == 4 && strcmp(w[0], "krl") == 0 ? krl(w, out) : SP_ERR_SYNTAX;
}

int
main(void)
{
	SP_BUF_AUTO ca = {.max = 512};
	static char line[131072];

	kit_root(&root);
	SP_ASSERT(sp_ssh_ed25519_line(&ca, root.ca_pk, "ca") == SP_OK);
	printf("%.*s\n", (int)ca.len, (const char *)sp_buf_span(&ca).p);
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		SP_BUF_AUTO out = {.max = 131072}, b64 = {.max = 262144};
		enum sp_err e = serve(line, &out);

		if (e == SP_OK && sp_base64(&b64, sp_buf_span(&out)) == SP_OK)
			printf("%.*s\n", (int)b64.len,
			    (const char *)sp_buf_span(&b64).p);
		else
			printf("refused %s\n", sp_err_text(e));
		fflush(stdout);
	}
	sp_root_close(&root);
	return 0;
}
