/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_SSHCERT_H
#define SP_VAULT_SSHCERT_H

#include "vault/root.h"

/*
 * OpenSSH user certificates (PROTOCOL.certkeys), ssh-ed25519-cert-v01. Every
 * field comes from the lease, none from the request of the egress.
 *
 * The one principal is `account@target_name`, for the target's
 * AuthorizedPrincipalsFile. Both are names by sp_name_is_valid(): no comma,
 * space, newline or wildcard can reach the certificate (CVE-2026-35414), and
 * it is never empty (CVE-2024-7594).
 */
#define SP_CERT_TYPE "ssh-ed25519-cert-v01@openssh.com"
#define SP_CERT_MAX 1024
#define SP_CERT_SKEW_S 30	/* valid_after = now - this */
#define SP_CERT_LIFE_S 60	/* valid_before <= now + this */

struct sp_cert_wish {
	uint8_t session[16];	/* key id: its uuid as text */
	const uint8_t *pk;	/* 32 bytes: the key to be certified */
	const char *account, *target_name;
	const char *source;	/* numeric address, "" for none */
	uint64_t serial;
	uint32_t rights;	/* enum sp_rights */
	int64_t now_us, not_after_us;
};

/* SP_ERR_INVAL: a name or the address is not acceptable, or the serial is 0. SP_ERR_DENIED:
 * not_after has come. */
SP_MUST enum sp_err sp_cert_mint(const struct sp_root *r,
    const struct sp_cert_wish *w, struct sp_buf *out);
/* A numeric IPv4 or IPv6 address, nothing else. */
bool sp_addr_is_numeric(const char *s);

#endif
