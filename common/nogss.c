/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libssh takes a GSSAPI request without asking anybody, and looks for a keytab:
 * in the sandbox that is the child's end, and its parent's, for any stranger's
 * packet (found by tests/attack/test_before_login.py). It asks which mechanisms
 * there are first; none, says this, and libssh answers failure by itself.
 * Whatever else it may call fails.
 */
#include "common/nogss.h"

#include <stdlib.h>

#define GSS_FAILURE (13U << 16)

struct oid_set {
	size_t n;
	void *oids;
};

const char *const sp_nogss_libraries[] = {"libgssapi_krb5.so.", "libkrb5.so.",
    "libk5crypto.so.", "libkrb5support.so.", "libcom_err.so.", "libkeyutils.so.",
    "libresolv.so.", NULL};
static unsigned asked;

bool
sp_gss_was_asked(void)
{
	bool was = asked > 0;

	asked = 0;
	return was;
}

unsigned gss_create_empty_oid_set(unsigned *minor, struct oid_set **set);
unsigned gss_indicate_mechs(unsigned *minor, struct oid_set **set);
unsigned gss_release_oid_set(unsigned *minor, struct oid_set **set);
unsigned gss_test_oid_set_member(unsigned *minor, const void *oid,
    const struct oid_set *set, int *present);

unsigned
gss_create_empty_oid_set(unsigned *minor, struct oid_set **set)
{
	*minor = 0;
	*set = calloc(1, sizeof(**set));
	return *set == NULL ? GSS_FAILURE : 0;
}

unsigned
gss_indicate_mechs(unsigned *minor, struct oid_set **set)
{
	asked++;
	return gss_create_empty_oid_set(minor, set);
}

unsigned
gss_release_oid_set(unsigned *minor, struct oid_set **set)
{
	*minor = 0;
	free(*set);
	*set = NULL;
	return 0;
}

unsigned
gss_test_oid_set_member(unsigned *minor, const void *oid,
    const struct oid_set *set, int *present)
{
	(void)oid;
	(void)set;
	*minor = 0;
	*present = 0;
	return 0;
}

/* The rest is never called: no arguments are looked at, and none changed. */
#define FAILS(name)                                                           \
	unsigned name(unsigned *minor);                                       \
	unsigned name(unsigned *minor)                                        \
	{                                                                     \
		*minor = 0;                                                   \
		return GSS_FAILURE;                                           \
	}
FAILS(gss_accept_sec_context)
FAILS(gss_acquire_cred)
FAILS(gss_add_oid_set_member)
FAILS(gss_display_name)
FAILS(gss_display_status)
FAILS(gss_get_mic)
FAILS(gss_import_name)
FAILS(gss_init_sec_context)
FAILS(gss_inquire_cred)
FAILS(gss_inquire_cred_by_mech)
FAILS(gss_release_buffer)
FAILS(gss_release_cred)
FAILS(gss_release_name)
FAILS(gss_verify_mic)

/* Names of names, which libssh passes to the above. */
extern void *GSS_C_NT_HOSTBASED_SERVICE, *GSS_C_NT_USER_NAME;
void *GSS_C_NT_HOSTBASED_SERVICE, *GSS_C_NT_USER_NAME;
