/* SPDX-License-Identifier: Apache-2.0 */
/* What a person compares before the first login: hostkeys. */
#include "bastion/broker/verb_hostkey.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bastion/broker/verb_int.h"

#define SSHFP_SHA256 2		/* RFC 6594; SHA-1 (RFC 4255) is not given */

static bool
host_is_fine(const char *h)
{
	size_t n = strlen(h);

	for (size_t i = 0; i < n; i++) {
		char c = h[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		    (c >= '0' && c <= '9') || strchr(".:_-", c) != NULL) ||
		    (c == '-' && i == 0))
			return false;
	}
	return n > 0;
}

/* Splits NAME[:PORT]; a bare IPv6 address has no port. */
static enum sp_err
split(const char *text, size_t n, struct sp_address *a)
{
	const char *end = text + n, *host = text, *port = NULL;
	uint64_t v = 22;

	if (n > 0 && text[0] == '[') {
		host = text + 1;
		end = memchr(host, ']', n - 1);
		if (end == NULL)
			return SP_ERR_SYNTAX;
		if (end + 1 < text + n)
			port = end + 1;
		if (port != NULL && *port++ != ':')
			return SP_ERR_SYNTAX;
	} else if (memchr(text, ':', n) == memrchr(text, ':', n) &&
	    (port = memchr(text, ':', n)) != NULL) {
		end = port++;
	}
	if (port != NULL && (sp_u64_parse(sp_span_of(port,
	    (size_t)(text + n - port)), 65535, &v) != SP_OK || v == 0))
		return SP_ERR_SYNTAX;
	SP_TRY(sp_span_cstr(sp_span_of(host, (size_t)(end - host)), a->host,
	    sizeof(a->host)));
	a->port = (uint16_t)v;
	return host_is_fine(a->host) ? SP_OK : SP_ERR_SYNTAX;
}

enum sp_err
sp_address_of(const struct sp_broker *b, const char *text, struct sp_address *a)
{
	if (text == NULL && b->cfg.address[0] != '\0')
		text = b->cfg.address;
	if (text != NULL)
		return split(text, strlen(text), a);
	SP_TRY(split(b->cfg.listen, strcspn(b->cfg.listen, " "), a));
	if (strcmp(a->host, "0.0.0.0") == 0 || strcmp(a->host, "::") == 0)
		snprintf(a->host, sizeof(a->host), "%s", b->node);
	return host_is_fine(a->host) ? SP_OK : SP_ERR_SYNTAX;
}

void
sp_address_pattern(char t[static 280], const struct sp_address *a)
{
	if (a->port == 22)
		snprintf(t, 280, "%s", a->host);
	else
		snprintf(t, 280, "[%s]:%u", a->host, a->port);
}

enum sp_err
sp_host_key(const struct sp_broker *b, struct sp_pubkey *k)
{
	const char *why;

	if (b->host_key[0] == '\0')
		return SP_ERR_NOTFOUND;
	SP_TRY(sp_pubkey_parse(sp_span_str(b->host_key), k, &why));
	return strcmp(k->algo, "ssh-ed25519") == 0 ? SP_OK : SP_ERR_SYNTAX;
}

void
sp_host_key_line(const struct sp_pubkey *k, char t[static SP_HOST_KEY_LINE])
{
	int at = snprintf(t, SP_HOST_KEY_LINE, "%s ", k->algo);

	(void)sodium_bin2base64(t + at, SP_HOST_KEY_LINE - (size_t)at, k->blob, k->n,
	    sodium_base64_VARIANT_ORIGINAL);
}

/* ----------------------------------------------------------------- randomart */

#define ART_W 17
#define ART_H 9

static void
art_edge(char *dst, const char *text)
{
	size_t n = strlen(text) + 2, left = (ART_W - n) / 2;

	memset(dst, '-', ART_W + 2);
	dst[0] = dst[ART_W + 1] = '+';
	dst[1 + left] = '[';
	memcpy(dst + 2 + left, text, n - 2);
	dst[left + n] = ']';
	dst[ART_W + 2] = '\n';
}

/* The walk of the drunken bishop over the hash, as `ssh-keygen -lv` draws it. */
static void
randomart(const struct sp_pubkey *k, char dst[static (ART_W + 3) * (ART_H + 2) + 1])
{
	static const char shades[] = " .o+=*BOX@%&#/^SE";
	const uint8_t last = sizeof(shades) - 2;
	uint8_t h[crypto_hash_sha256_BYTES], field[ART_W][ART_H] = {{0}};
	int x = ART_W / 2, y = ART_H / 2;

	crypto_hash_sha256(h, k->blob, k->n);
	for (size_t i = 0; i < sizeof(h); i++)
		for (int b = 0; b < 8; b += 2) {
			x += (h[i] >> b & 1) != 0 ? 1 : -1;
			y += (h[i] >> b & 2) != 0 ? 1 : -1;
			x = x < 0 ? 0 : x >= ART_W ? ART_W - 1 : x;
			y = y < 0 ? 0 : y >= ART_H ? ART_H - 1 : y;
			if (field[x][y] < last - 2)
				field[x][y]++;
		}
	field[ART_W / 2][ART_H / 2] = (uint8_t)(last - 1);
	field[x][y] = last;
	art_edge(dst, "ED25519 256");
	for (y = 0; y < ART_H; y++) {
		char *line = dst + (ART_W + 3) * (y + 1);

		line[0] = line[ART_W + 1] = '|';
		line[ART_W + 2] = '\n';
		for (x = 0; x < ART_W; x++)
			line[1 + x] = shades[field[x][y]];
	}
	art_edge(dst + (ART_W + 3) * (ART_H + 1), "SHA256");
	dst[(ART_W + 3) * (ART_H + 2)] = '\0';
}

/* -------------------------------------------------------------------- hostkeys */

struct facts {
	struct sp_pubkey key;
	char finger[SP_FINGERPRINT_TEXT], art[(ART_W + 3) * (ART_H + 2) + 1];
	char known[SP_HOST_KEY_LINE + 300], sshfp[400];
};

static void
collect(struct facts *f, const struct sp_address *a)
{
	char pattern[280], line[SP_HOST_KEY_LINE], hex[2 * crypto_hash_sha256_BYTES + 1];
	uint8_t h[crypto_hash_sha256_BYTES];

	sp_fingerprint(f->finger, sp_span_of(f->key.blob, f->key.n));
	randomart(&f->key, f->art);
	sp_address_pattern(pattern, a);
	sp_host_key_line(&f->key, line);
	snprintf(f->known, sizeof(f->known), SP_HOST_ALIAS ",%s %s", pattern, line);
	crypto_hash_sha256(h, f->key.blob, f->key.n);
	sp_hex(hex, h, sizeof(h));
	/* 4: Ed25519 (RFC 7479) */
	snprintf(f->sshfp, sizeof(f->sshfp), "%s IN SSHFP 4 %d %s", a->host,
	    SSHFP_SHA256, hex);
}

static void
print_json(struct sp_call *c, const struct facts *f)
{
	json_object *a = json_object_new_array(), *o = json_object_new_object();

	json_object_object_add(o, "id", sp_json_text(SP_HOST_ALIAS));
	json_object_object_add(o, "algorithm", sp_json_text(f->key.algo));
	json_object_object_add(o, "bits", json_object_new_int(256));
	json_object_object_add(o, "fingerprint", sp_json_text(f->finger));
	json_object_object_add(o, "known_hosts", sp_json_text(f->known));
	json_object_object_add(o, "sshfp", sp_json_text(f->sshfp));
	if (sp_call_has(c, "art"))
		json_object_object_add(o, "randomart", sp_json_text(f->art));
	json_object_array_add(a, o);
	sp_call_json(c, a);
}

void
sp_verb_hostkeys(struct sp_call *c)
{
	struct facts f = {.finger = ""};
	struct sp_address a;

	if (sp_address_of(c->b, sp_call_opt(c, "address"), &a) != SP_OK) {
		sp_call_fail(c, SP_EXIT_USAGE, "an address is NAME, NAME:PORT or "
		    "[IPV6]:PORT");
		return;
	}
	if (sp_host_key(c->b, &f.key) != SP_OK) {
		sp_call_fail(c, SP_EXIT_REFUSED, "keys/ssh_host_ed25519_key.pub "
		    "could not be read when the bastion started");
		return;
	}
	collect(&f, &a);
	if (c->style.json) {
		print_json(c, &f);
	} else {
		sp_call_say(c, "256 %s (ED25519)\n%s", f.finger,
		    sp_call_has(c, "art") ? f.art : "");
		sp_call_say(c, "\nknown_hosts\n%s\n\nDNS (worth as much as the "
		    "zone's DNSSEC)\n%s\n", f.known, f.sshfp);
	}
	sp_call_end(c, SP_EXIT_OK);
}
