/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libssh takes a GSSAPI request without asking anybody, and looks for a keytab:
 * in the sandbox that is the child's end, and its parent's, for any stranger's
 * packet (found by tests/attack/test_before_login.py). It asks which mechanisms
 * there are first; none, says this, and libssh answers failure by itself.
 */
#include <dlfcn.h>
#include <string.h>

#include "bastion/ingress/front.h"

#define GSS_FAILURE (13U << 16)

static unsigned asked;

unsigned gss_indicate_mechs(unsigned *minor, void **set);

unsigned
gss_indicate_mechs(unsigned *minor, void **set)
{
	static unsigned (*empty)(unsigned *, void **);
	void *at;

	if (empty == NULL) {
		at = dlsym(RTLD_NEXT, "gss_create_empty_oid_set");
		memcpy(&empty, &at, sizeof(empty));
	}
	asked++;
	return empty == NULL ? GSS_FAILURE : empty(minor, set);
}

bool
sp_gss_was_asked(void)
{
	bool was = asked > 0;

	asked = 0;
	return was;
}
