/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A security key says in what it signs whether somebody touched it. libssh
 * checks such signatures and throws the flags away; a key made with
 * no-touch-required would log in with nobody there. What is verified passes
 * through here: SHA-256 of the application, flags, counter, SHA-256 of the
 * message (OpenSSH's PROTOCOL.u2f), which is no other signature's length.
 */
#include <dlfcn.h>
#include <string.h>

#include "bastion/ingress/front.h"

#define SK_BYTES (32 + 1 + 4 + 32)
#define SK_FLAGS 32
#define USER_PRESENT 1

static unsigned seen, untouched;

int EVP_DigestVerify(void *ctx, const unsigned char *sig, size_t sig_n,
    const unsigned char *text, size_t n);

int
EVP_DigestVerify(void *ctx, const unsigned char *sig, size_t sig_n,
    const unsigned char *text, size_t n)
{
	static int (*real)(void *, const unsigned char *, size_t,
	    const unsigned char *, size_t);
	void *at;

	if (real == NULL) {
		at = dlsym(RTLD_NEXT, "EVP_DigestVerify");
		memcpy(&real, &at, sizeof(real));
	}
	if (n == SK_BYTES) {
		seen++;
		if ((text[SK_FLAGS] & USER_PRESENT) == 0)
			untouched++;
	}
	return real == NULL ? -1 : real(ctx, sig, sig_n, text, n);
}

bool
sp_touch_was_given(void)
{
	bool given = seen == 1 && untouched == 0;

	seen = untouched = 0;
	return given;
}
