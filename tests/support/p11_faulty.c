/* SPDX-License-Identifier: Apache-2.0 */
/* A PKCS#11 module that passes on what another one does ($SP_P11_REAL), counts
 * the calls, and lets one of them fail: for tests alone. */
#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <stdlib.h>

#include "tests/support/p11_faulty.h"

static CK_FUNCTION_LIST *real, ours;
static struct p11_faults now;

struct p11_faults *
p11_faults(void)
{
	return &now;
}

static CK_RV
fault(int is_login)
{
	now.calls++;
	now.logins += (unsigned)is_login;
	return now.fail_at != 0 && now.calls >= now.fail_at &&
	    now.calls < now.fail_at + now.times ? now.rv : CKR_OK;
}

#define PASS(name, decl, args, login)                                         \
	static CK_RV f_##name decl                                            \
	{                                                                     \
		CK_RV rv = fault(login);                                      \
                                                                              \
		return rv != CKR_OK ? rv : real->name args;                   \
	}
PASS(C_Initialize, (void *a), (a), 0)
PASS(C_Finalize, (void *a), (a), 0)
PASS(C_GetSlotList, (CK_BBOOL p, CK_SLOT_ID *s, CK_ULONG *n), (p, s, n), 0)
PASS(C_GetTokenInfo, (CK_SLOT_ID s, CK_TOKEN_INFO *i), (s, i), 0)
PASS(C_OpenSession, (CK_SLOT_ID s, CK_FLAGS f, void *a, CK_NOTIFY n,
    CK_SESSION_HANDLE *h), (s, f, a, n, h), 0)
PASS(C_CloseSession, (CK_SESSION_HANDLE h), (h), 0)
PASS(C_Login, (CK_SESSION_HANDLE h, CK_USER_TYPE u, CK_UTF8CHAR *p, CK_ULONG n),
    (h, u, p, n), 1)
PASS(C_FindObjectsInit, (CK_SESSION_HANDLE h, CK_ATTRIBUTE *t, CK_ULONG n),
    (h, t, n), 0)
PASS(C_FindObjects, (CK_SESSION_HANDLE h, CK_OBJECT_HANDLE *o, CK_ULONG m,
    CK_ULONG *n), (h, o, m, n), 0)
PASS(C_FindObjectsFinal, (CK_SESSION_HANDLE h), (h), 0)
PASS(C_EncryptInit, (CK_SESSION_HANDLE h, CK_MECHANISM *m, CK_OBJECT_HANDLE k),
    (h, m, k), 0)
PASS(C_Encrypt, (CK_SESSION_HANDLE h, CK_BYTE *i, CK_ULONG n, CK_BYTE *o,
    CK_ULONG *m), (h, i, n, o, m), 0)
PASS(C_DecryptInit, (CK_SESSION_HANDLE h, CK_MECHANISM *m, CK_OBJECT_HANDLE k),
    (h, m, k), 0)
PASS(C_Decrypt, (CK_SESSION_HANDLE h, CK_BYTE *i, CK_ULONG n, CK_BYTE *o,
    CK_ULONG *m), (h, i, n, o, m), 0)

CK_RV
C_GetFunctionList(CK_FUNCTION_LIST **out)
{
	const char *path = getenv("SP_P11_REAL");
	void *dl = path == NULL ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL);
	CK_C_GetFunctionList get = NULL;

	if (dl != NULL)
		*(void **)&get = dlsym(dl, "C_GetFunctionList");
	if (get == NULL || get(&real) != CKR_OK)
		return CKR_GENERAL_ERROR;
	ours = *real;
	ours.C_Initialize = f_C_Initialize;
	ours.C_Finalize = f_C_Finalize;
	ours.C_GetSlotList = f_C_GetSlotList;
	ours.C_GetTokenInfo = f_C_GetTokenInfo;
	ours.C_OpenSession = f_C_OpenSession;
	ours.C_CloseSession = f_C_CloseSession;
	ours.C_Login = f_C_Login;
	ours.C_FindObjectsInit = f_C_FindObjectsInit;
	ours.C_FindObjects = f_C_FindObjects;
	ours.C_FindObjectsFinal = f_C_FindObjectsFinal;
	ours.C_EncryptInit = f_C_EncryptInit;
	ours.C_Encrypt = f_C_Encrypt;
	ours.C_DecryptInit = f_C_DecryptInit;
	ours.C_Decrypt = f_C_Decrypt;
	*out = &ours;
	return CKR_OK;
}
