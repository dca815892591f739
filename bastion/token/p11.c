/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/token/p11.h"

#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#define SLOTS_MAX 64
#define IV 12
#define GCM_AAD "sallyport vault slot v1"
enum mech { AES_GCM = 1, OAEP_SHA256 = 2, OAEP_SHA1 = 3 };

struct sp_p11 {
	void *dl;
	CK_FUNCTION_LIST *f;
	bool is_up, has_session;
	CK_SESSION_HANDLE session;
	CK_OBJECT_HANDLE enc, dec;
	bool is_aes;
	char token[33], key[65];
	size_t n_pin;
	CK_UTF8CHAR pin[256];
};

static enum sp_err
said(CK_RV rv, const char *call, char why[static SP_P11_WHY])
{
	if (rv == CKR_OK)
		return SP_OK;
	snprintf(why, SP_P11_WHY, "%s said 0x%lx", call, (unsigned long)rv);
	switch (rv) {
	case CKR_PIN_INCORRECT:
	case CKR_PIN_INVALID:
	case CKR_PIN_LEN_RANGE:
		snprintf(why, SP_P11_WHY, "the PIN is wrong");
		return SP_ERR_DENIED;
	case CKR_PIN_LOCKED:
		snprintf(why, SP_P11_WHY, "the PIN is locked");
		return SP_ERR_DENIED;
	case CKR_HOST_MEMORY:
	case CKR_DEVICE_MEMORY:
		return SP_ERR_NOMEM;
	default:
		return SP_ERR_IO;
	}
}

/* The token or the session is gone, or the module forgot what it had. */
static bool
is_lost(CK_RV rv)
{
	switch (rv) {
	case CKR_DEVICE_ERROR:
	case CKR_DEVICE_REMOVED:
	case CKR_TOKEN_NOT_PRESENT:
	case CKR_TOKEN_NOT_RECOGNIZED:
	case CKR_SESSION_HANDLE_INVALID:
	case CKR_SESSION_CLOSED:
	case CKR_KEY_HANDLE_INVALID:
	case CKR_OBJECT_HANDLE_INVALID:
	case CKR_USER_NOT_LOGGED_IN:
	case CKR_OPERATION_ACTIVE:
	case CKR_CRYPTOKI_NOT_INITIALIZED:
		return true;
	default:
		return false;
	}
}

/* Says good-bye to whatever is left of it; what it answers changes nothing. */
static void
drop(struct sp_p11 *p, bool wholly)
{
	if (p->has_session)
		(void)p->f->C_CloseSession(p->session);
	if (wholly && p->is_up)
		(void)p->f->C_Finalize(NULL);
	p->has_session = false;
	p->is_up = p->is_up && !wholly;
}

/* ------------------------------------------------------------- the session */

static bool
has_label(const CK_TOKEN_INFO *i, const char *label)
{
	size_t n = strlen(label);

	for (size_t k = 0; k < sizeof(i->label); k++)
		if (i->label[k] != (k < n ? (unsigned char)label[k] : ' '))
			return false;
	return n <= sizeof(i->label);
}

static CK_RV
find_slot(struct sp_p11 *p, CK_SLOT_ID *out, bool *found)
{
	CK_SLOT_ID slots[SLOTS_MAX];
	CK_ULONG n = SLOTS_MAX;
	CK_RV rv = p->f->C_GetSlotList(CK_TRUE, slots, &n);

	*found = false;
	for (CK_ULONG i = 0; rv == CKR_OK && i < n && i < SLOTS_MAX && !*found; i++) {
		CK_TOKEN_INFO info;

		memset(&info, 0, sizeof(info));
		if (p->f->C_GetTokenInfo(slots[i], &info) != CKR_OK)
			continue;	/* another token's trouble */
		*found = has_label(&info, p->token);
		*out = slots[i];
	}
	return rv;
}

static CK_RV
find_key(struct sp_p11 *p, CK_OBJECT_CLASS class, CK_KEY_TYPE type,
    CK_OBJECT_HANDLE *out, CK_ULONG *n)
{
	CK_OBJECT_HANDLE got[2] = {0};
	CK_ATTRIBUTE t[] = {{CKA_CLASS, &class, sizeof(class)},
	    {CKA_KEY_TYPE, &type, sizeof(type)},
	    {CKA_LABEL, p->key, (CK_ULONG)strlen(p->key)}};
	CK_RV rv = p->f->C_FindObjectsInit(p->session, t, 3), end;

	*n = 0;
	if (rv != CKR_OK)
		return rv;
	rv = p->f->C_FindObjects(p->session, got, 2, n);
	end = p->f->C_FindObjectsFinal(p->session);
	*out = got[0];
	return rv != CKR_OK ? rv : end;
}

static enum sp_err
find_keys(struct sp_p11 *p, CK_RV *rv, char why[static SP_P11_WHY])
{
	CK_ULONG n, m = 1;

	*rv = find_key(p, CKO_SECRET_KEY, CKK_AES, &p->dec, &n);
	p->is_aes = n == 1;
	p->enc = p->dec;
	if (*rv == CKR_OK && n == 0) {
		*rv = find_key(p, CKO_PRIVATE_KEY, CKK_RSA, &p->dec, &n);
		if (*rv == CKR_OK && n == 1)
			*rv = find_key(p, CKO_PUBLIC_KEY, CKK_RSA, &p->enc, &m);
	}
	if (*rv != CKR_OK)
		return said(*rv, "C_FindObjects", why);
	if (n == 1 && m == 1)
		return SP_OK;
	snprintf(why, SP_P11_WHY, n > 1 || m > 1 ?
	    "more than one key has that label" :
	    "the token has no AES key and no RSA key pair of that label");
	return SP_ERR_NOTFOUND;
}

static enum sp_err
log_in(struct sp_p11 *p, CK_SLOT_ID slot, CK_RV *rv,
    char why[static SP_P11_WHY])
{
	*rv = p->f->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL,
	    &p->session);
	if (*rv != CKR_OK)
		return said(*rv, "C_OpenSession", why);
	p->has_session = true;
	*rv = p->f->C_Login(p->session, CKU_USER, p->pin, (CK_ULONG)p->n_pin);
	if (*rv == CKR_USER_ALREADY_LOGGED_IN)
		*rv = CKR_OK;
	return said(*rv, "C_Login", why);
}

static enum sp_err
connect_token(struct sp_p11 *p, CK_RV *rv, char why[static SP_P11_WHY])
{
	CK_SLOT_ID slot = 0;
	bool found;
	enum sp_err e;

	if (!p->is_up) {
		*rv = p->f->C_Initialize(NULL);
		if (*rv != CKR_OK && *rv != CKR_CRYPTOKI_ALREADY_INITIALIZED)
			return said(*rv, "C_Initialize", why);
		p->is_up = true;
	}
	*rv = find_slot(p, &slot, &found);
	if (*rv != CKR_OK)
		return said(*rv, "C_GetSlotList", why);
	if (!found) {
		snprintf(why, SP_P11_WHY, "the module shows no token of that label");
		return SP_ERR_NOTFOUND;
	}
	e = log_in(p, slot, rv, why);
	if (e == SP_OK)
		e = find_keys(p, rv, why);
	if (e != SP_OK)
		drop(p, false);
	return e;
}

/* ---------------------------------------------------------------- one call */

struct job {
	enum mech mech;
	bool decrypts;
	CK_BYTE *iv, *in, *out;
	CK_ULONG n_in, n_out;
};

static CK_RV
run(struct sp_p11 *p, struct job *j)
{
	CK_BYTE aad[] = GCM_AAD;
	CK_GCM_PARAMS gcm = {.iv_ptr = j->iv, .iv_len = IV, .iv_bits = IV * 8,
	    .aad_ptr = aad, .aad_len = sizeof(aad) - 1, .tag_bits = 128};
	CK_RSA_PKCS_OAEP_PARAMS oaep = {.hash_alg = j->mech == OAEP_SHA256 ?
	    CKM_SHA256 : CKM_SHA_1, .mgf = j->mech == OAEP_SHA256 ?
	    CKG_MGF1_SHA256 : CKG_MGF1_SHA1, .source = CKZ_DATA_SPECIFIED};
	CK_MECHANISM m = {CKM_RSA_PKCS_OAEP, &oaep, sizeof(oaep)};
	CK_RV rv;

	if (j->mech == AES_GCM)
		m = (CK_MECHANISM){CKM_AES_GCM, &gcm, sizeof(gcm)};
	if (j->decrypts) {
		rv = p->f->C_DecryptInit(p->session, &m, p->dec);
		return rv != CKR_OK ? rv : p->f->C_Decrypt(p->session, j->in,
		    j->n_in, j->out, &j->n_out);
	}
	rv = p->f->C_EncryptInit(p->session, &m, p->enc);
	return rv != CKR_OK ? rv : p->f->C_Encrypt(p->session, j->in, j->n_in,
	    j->out, &j->n_out);
}

/* With a session that is there, or a fresh one; once more with a fresh one if
 * the token lost it. A wrong PIN ends it at once: tokens count. */
static enum sp_err
call(struct sp_p11 *p, struct job *j, CK_RV *rv, char why[static SP_P11_WHY])
{
	CK_ULONG room = j->n_out;
	enum sp_err e = SP_ERR_IO;

	for (int tries = 0; tries < 2; tries++) {
		*rv = CKR_OK;
		e = p->has_session ? SP_OK : connect_token(p, rv, why);
		if (e == SP_OK) {
			j->n_out = room;
			*rv = run(p, j);
			e = said(*rv, j->decrypts ? "C_Decrypt" : "C_Encrypt", why);
		}
		if (e == SP_OK && j->n_out > room)
			e = SP_ERR_IO;	/* a module that does not count */
		if (e == SP_OK || !is_lost(*rv))
			return e;
		drop(p, *rv != CKR_SESSION_HANDLE_INVALID &&
		    *rv != CKR_SESSION_CLOSED);
	}
	return e;
}

static enum sp_err
decrypt(struct sp_p11 *p, struct sp_span blob,
    uint8_t clear[static SP_P11_CLEAR_MAX], size_t *n,
    char why[static SP_P11_WHY])
{
	uint8_t copy[SP_P11_BLOB_MAX], out[SP_P11_BLOB_MAX];
	struct job j = {.decrypts = true, .out = out, .n_out = sizeof(out)};
	size_t head;
	CK_RV rv = CKR_OK;
	enum sp_err e;

	if (blob.n < 2 || blob.n > sizeof(copy) || blob.p[0] < AES_GCM ||
	    blob.p[0] > OAEP_SHA1)
		return SP_ERR_CRYPTO;
	memcpy(copy, blob.p, blob.n);
	j.mech = (enum mech)copy[0];
	head = j.mech == AES_GCM ? 1 + IV : 1;
	if (blob.n <= head)
		return SP_ERR_CRYPTO;
	j.iv = copy + 1;
	j.in = copy + head;
	j.n_in = (CK_ULONG)(blob.n - head);
	e = call(p, &j, &rv, why);
	if (e == SP_OK && (j.n_out == 0 || j.n_out > SP_P11_CLEAR_MAX))
		e = SP_ERR_CRYPTO;
	if (e == SP_OK) {
		memcpy(clear, out, j.n_out);
		*n = j.n_out;
	} else if (e == SP_ERR_IO && rv != CKR_OK && !is_lost(rv) &&
	    p->has_session) {
		/* Modules differ in what they say of a wrong tag. */
		e = SP_ERR_CRYPTO;
	}
	explicit_bzero(out, sizeof(out));
	return e;
}

static enum sp_err
encrypt(struct sp_p11 *p, enum mech mech, struct sp_span clear,
    struct sp_buf *blob, char why[static SP_P11_WHY])
{
	uint8_t in[SP_P11_CLEAR_MAX], out[SP_P11_BLOB_MAX], iv[IV];
	uint8_t id = (uint8_t)mech;
	struct job j = {.mech = mech, .iv = iv, .in = in,
	    .n_in = (CK_ULONG)clear.n, .out = out, .n_out = sizeof(out) - 1 - IV};
	CK_RV rv;
	enum sp_err e;

	memcpy(in, clear.p, clear.n);
	e = getrandom(iv, sizeof(iv), 0) == (ssize_t)sizeof(iv) ? SP_OK :
	    SP_ERR_IO;
	if (e == SP_OK)
		e = call(p, &j, &rv, why);
	explicit_bzero(in, sizeof(in));
	SP_TRY(e);
	SP_TRY(sp_buf_put(blob, &id, 1));
	if (mech == AES_GCM)
		SP_TRY(sp_buf_put(blob, iv, IV));
	return sp_buf_put(blob, out, j.n_out);
}

/* ------------------------------------------------------------------ public */

enum sp_err
sp_p11_unwrap(struct sp_p11 *p, struct sp_span blob,
    uint8_t clear[static SP_P11_CLEAR_MAX], size_t *n,
    char why[static SP_P11_WHY])
{
	snprintf(why, SP_P11_WHY, "it was not wrapped by this key");
	return decrypt(p, blob, clear, n, why);
}

enum sp_err
sp_p11_wrap(struct sp_p11 *p, struct sp_span clear, struct sp_buf *blob,
    char why[static SP_P11_WHY])
{
	uint8_t back[SP_P11_CLEAR_MAX];
	size_t n = 0;
	uint8_t diff = 0;
	enum sp_err e;

	SP_ASSERT(blob->len == 0);
	if (clear.n == 0 || clear.n > SP_P11_CLEAR_MAX)
		return SP_ERR_TOOBIG;
	e = encrypt(p, p->is_aes ? AES_GCM : OAEP_SHA256, clear, blob, why);
	if (e == SP_ERR_IO && !p->is_aes && p->has_session) {
		sp_buf_reset(blob);
		e = encrypt(p, OAEP_SHA1, clear, blob, why);
	}
	if (e == SP_OK)
		e = decrypt(p, sp_buf_span(blob), back, &n, why);
	for (size_t i = 0; e == SP_OK && i < n && i < clear.n; i++)
		diff |= back[i] ^ clear.p[i];
	explicit_bzero(back, sizeof(back));
	if (e == SP_OK && (n != clear.n || diff != 0)) {
		snprintf(why, SP_P11_WHY, "the token gives back something else");
		e = SP_ERR_CRYPTO;
	}
	if (e != SP_OK)
		sp_buf_reset(blob);
	return e;
}

static enum sp_err
load(struct sp_p11 *p, const char *module, char why[static SP_P11_WHY])
{
	CK_C_GetFunctionList get;
	CK_RV rv;

	if (module[0] != '/') {
		snprintf(why, SP_P11_WHY, "a module is named by its absolute path");
		return SP_ERR_INVAL;
	}
	p->dl = dlopen(module, RTLD_NOW | RTLD_LOCAL);
	if (p->dl == NULL) {
		snprintf(why, SP_P11_WHY, "the module cannot be loaded");
		return SP_ERR_NOTFOUND;
	}
	*(void **)&get = dlsym(p->dl, "C_GetFunctionList");
	if (get == NULL) {
		snprintf(why, SP_P11_WHY, "that is no PKCS#11 module");
		return SP_ERR_NOTFOUND;
	}
	rv = get(&p->f);
	if (rv == CKR_OK && p->f == NULL)
		rv = CKR_GENERAL_ERROR;
	return said(rv, "C_GetFunctionList", why);
}

enum sp_err
sp_p11_open(struct sp_p11 **out, const char *module, const char *token,
    const char *key, struct sp_span pin, char why[static SP_P11_WHY])
{
	struct sp_p11 *p = calloc(1, sizeof(*p));
	CK_RV rv = CKR_OK;
	enum sp_err e = SP_ERR_TOOBIG;

	if (p == NULL)
		return SP_ERR_NOMEM;
	why[0] = '\0';
	(void)mlock(p, sizeof(*p));
	if (pin.n <= sizeof(p->pin) &&
	    sp_span_cstr(sp_span_str(token), p->token, sizeof(p->token)) == SP_OK &&
	    sp_span_cstr(sp_span_str(key), p->key, sizeof(p->key)) == SP_OK)
		e = load(p, module, why);
	if (e == SP_OK) {
		p->n_pin = pin.n;
		if (pin.n > 0)
			memcpy(p->pin, pin.p, pin.n);
		e = connect_token(p, &rv, why);
		if (e != SP_OK && is_lost(rv)) {
			drop(p, true);
			e = connect_token(p, &rv, why);
		}
	}
	if (e != SP_OK) {
		sp_p11_close(p);
		return e;
	}
	*out = p;
	return SP_OK;
}

void
sp_p11_close(struct sp_p11 *p)
{
	if (p == NULL)
		return;
	if (p->f != NULL)
		drop(p, true);
	if (p->dl != NULL)
		dlclose(p->dl);
	explicit_bzero(p, sizeof(*p));
	(void)munlock(p, sizeof(*p));
	free(p);
}
