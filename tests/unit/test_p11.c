/* SPDX-License-Identifier: Apache-2.0 */
/* Keys in a token, SoftHSM, through a module of ours that lets any call fail. */
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <p11-kit/pkcs11.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bastion/token/p11.h"
#include "tests/support/p11_faulty.h"
#include "tests/support/tmp.h"

#define OK(e) cr_assert_eq((e), SP_OK)
#define PIN "4711-0815"

static char dir[64], conf[96], faulty[4096], why[SP_P11_WHY];
static const char *real;
static const uint8_t clear[32] = "0123456789abcdef0123456789abcdef";

static const char *
softhsm(void)
{
	static const char *const at[] = {"/usr/lib/softhsm/libsofthsm2.so",
	    "/usr/lib64/softhsm/libsofthsm2.so", "/usr/lib/libsofthsm2.so"};

	for (size_t i = 0; i < 3; i++)
		if (access(at[i], R_OK) == 0)
			return at[i];
	return NULL;
}

static int
run(const char *const *argv)
{
	int status = -1, null = open("/dev/null", O_RDWR | O_CLOEXEC);
	pid_t pid = fork();

	if (pid == 0) {
		if (dup2(null, 1) >= 0 && dup2(null, 2) >= 0)
			execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	close(null);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return status;
}

/* Keys of the module, not extractable: made in a child, as a fresh module. */
static void
make_keys(bool want_rsa)
{
	CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
	CK_ULONG bytes = 32, bits = 2048, n = 8;
	CK_MECHANISM aes = {CKM_AES_KEY_GEN, NULL, 0};
	CK_MECHANISM rsa = {CKM_RSA_PKCS_KEY_PAIR_GEN, NULL, 0};
	CK_ATTRIBUTE a[] = {{CKA_TOKEN, &yes, 1}, {CKA_PRIVATE, &yes, 1},
	    {CKA_SENSITIVE, &yes, 1}, {CKA_EXTRACTABLE, &no, 1},
	    {CKA_ENCRYPT, &yes, 1}, {CKA_DECRYPT, &yes, 1},
	    {CKA_VALUE_LEN, &bytes, sizeof(bytes)}, {CKA_LABEL, (void *)"aes", 3}};
	CK_ATTRIBUTE pub[] = {{CKA_TOKEN, &yes, 1}, {CKA_ENCRYPT, &yes, 1},
	    {CKA_MODULUS_BITS, &bits, sizeof(bits)}, {CKA_LABEL, (void *)"rsa", 3}};
	CK_ATTRIBUTE prv[] = {{CKA_TOKEN, &yes, 1}, {CKA_PRIVATE, &yes, 1},
	    {CKA_SENSITIVE, &yes, 1}, {CKA_DECRYPT, &yes, 1},
	    {CKA_LABEL, (void *)"rsa", 3}};
	CK_SLOT_ID slots[8];
	CK_SESSION_HANDLE h;
	CK_OBJECT_HANDLE k, l;
	CK_C_GetFunctionList get;
	CK_FUNCTION_LIST *f;
	int status, bad = 0;
	pid_t pid = fork();

	if (pid == 0) {
		void *dl = dlopen(real, RTLD_NOW);

		if (dl == NULL)
			_exit(9);
		*(void **)&get = dlsym(dl, "C_GetFunctionList");
		bad |= get(&f) != CKR_OK || f->C_Initialize(NULL) != CKR_OK ||
		    f->C_GetSlotList(CK_TRUE, slots, &n) != CKR_OK ||
		    f->C_OpenSession(slots[0], CKF_SERIAL_SESSION | CKF_RW_SESSION,
		    NULL, NULL, &h) != CKR_OK ||
		    f->C_Login(h, CKU_USER, (CK_UTF8CHAR *)PIN, strlen(PIN)) != CKR_OK;
		if (want_rsa) {
			bad |= f->C_GenerateKeyPair(h, &rsa, pub, 4, prv, 5, &k,
			    &l) != CKR_OK;
			(void)f->C_Finalize(NULL);
			_exit(bad);
		}
		bad |= f->C_GenerateKey(h, &aes, a, 8, &k) != CKR_OK;
		a[7] = (CK_ATTRIBUTE){CKA_LABEL, (void *)"two", 3};
		bad |= f->C_GenerateKey(h, &aes, a, 8, &k) != CKR_OK;
		bad |= f->C_GenerateKey(h, &aes, a, 8, &k) != CKR_OK;
		(void)f->C_Finalize(NULL);
		_exit(bad);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
}

static void
set_up(void)
{
	const char *init[] = {"softhsm2-util", "--init-token", "--free", "--label",
	    "bank", "--so-pin", "12345678", "--pin", PIN, NULL};
	const char *top = getenv("top_builddir");
	FILE *f;

	real = softhsm();
	if (real == NULL)
		cr_skip_test("softhsm2 is not installed");
	tmp_name(dir, sizeof(dir), "sp-p11");
	cr_assert_not_null(mkdtemp(dir));
	snprintf(conf, sizeof(conf), "%s/conf", dir);
	f = fopen(conf, "w");
	fprintf(f, "directories.tokendir = %s\nobjectstore.backend = file\n"
	    "log.level = ERROR\n", dir);
	fclose(f);
	setenv("SOFTHSM2_CONF", conf, 1);
	setenv("SP_P11_REAL", real, 1);
	cr_assert_eq(run(init), 0);
	make_keys(false);
	snprintf(faulty, sizeof(faulty), "%s/.libs/p11_faulty.so", top == NULL ?
	    "." : top);
	if (faulty[0] != '/') {
		char here[2048];

		cr_assert_not_null(getcwd(here, sizeof(here)));
		snprintf(faulty, sizeof(faulty), "%s/%s/.libs/p11_faulty.so", here,
		    top == NULL ? "." : top);
	}
}

static void
tear_down(void)
{
	const char *rm[] = {"rm", "-rf", dir, NULL};

	if (dir[0] != '\0')
		(void)run(rm);
}

TestSuite(p11, .init = set_up, .fini = tear_down, .timeout = 240);

static enum sp_err
open_at(struct sp_p11 **p, const char *module, const char *key, const char *pin)
{
	return sp_p11_open(p, module, "bank", key, sp_span_str(pin), why);
}

static struct p11_faults *
faults(void)
{
	struct p11_faults *(*get)(void);
	void *dl = dlopen(faulty, RTLD_NOW | RTLD_LOCAL);

	cr_assert_not_null(dl, "%s", faulty);
	*(void **)&get = dlsym(dl, "p11_faults");
	cr_assert_not_null(get);
	return get();
}

static void
there_and_back(const char *key)
{
	SP_BUF_AUTO blob = {.max = SP_P11_BLOB_MAX};
	SP_BUF_AUTO again = {.max = SP_P11_BLOB_MAX};
	uint8_t out[SP_P11_CLEAR_MAX];
	struct sp_p11 *p;
	size_t n;

	OK(open_at(&p, real, key, PIN));
	OK(sp_p11_wrap(p, sp_span_of(clear, 32), &blob, why));
	OK(sp_p11_wrap(p, sp_span_of(clear, 32), &again, why));
	cr_assert(!sp_span_eq(sp_buf_span(&blob), sp_buf_span(&again)));
	sp_p11_close(p);
	OK(open_at(&p, real, key, PIN));
	OK(sp_p11_unwrap(p, sp_buf_span(&blob), out, &n, why));
	cr_assert(n == 32 && memcmp(out, clear, 32) == 0);
	for (size_t i = 0; i < blob.len; i += 7) {
		blob.p[blob.off + i] ^= 0x40;
		cr_assert_eq(sp_p11_unwrap(p, sp_buf_span(&blob), out, &n, why),
		    SP_ERR_CRYPTO, "byte %zu", i);
		blob.p[blob.off + i] ^= 0x40;
	}
	for (size_t i = 0; i < blob.len; i += 5)
		cr_assert_eq(sp_p11_unwrap(p, sp_span_of(blob.p + blob.off, i), out,
		    &n, why), SP_ERR_CRYPTO);
	OK(sp_p11_unwrap(p, sp_buf_span(&blob), out, &n, why));
	sp_p11_close(p);
}

Test(p11, an_aes_key_wraps) { there_and_back("aes"); }
Test(p11, an_rsa_key_wraps)
{
	make_keys(true);
	there_and_back("rsa");
}

Test(p11, what_is_not_there_is_named)
{
	struct sp_p11 *p;

	cr_assert_eq(open_at(&p, real, "none", PIN), SP_ERR_NOTFOUND);
	cr_assert_eq(open_at(&p, real, "two", PIN), SP_ERR_NOTFOUND);
	cr_assert_not_null(strstr(why, "more than one"));
	cr_assert_eq(sp_p11_open(&p, real, "other", "aes", sp_span_str(PIN), why),
	    SP_ERR_NOTFOUND);
	cr_assert_eq(open_at(&p, "/nowhere.so", "aes", PIN), SP_ERR_NOTFOUND);
	cr_assert_eq(open_at(&p, "libsofthsm2.so", "aes", PIN), SP_ERR_INVAL);
	cr_assert_eq(open_at(&p, "/lib/x86_64-linux-gnu/libc.so.6", "aes", PIN),
	    SP_ERR_NOTFOUND);
}

Test(p11, a_wrong_pin_is_tried_once)
{
	struct p11_faults *f = faults();
	struct sp_p11 *p;

	f->calls = f->logins = f->fail_at = 0;
	cr_assert_eq(open_at(&p, faulty, "aes", "0000"), SP_ERR_DENIED);
	cr_assert_eq(f->logins, 1);
}

/* One session serves every call: no log-in, no search in between. */
Test(p11, session_and_handles_are_kept)
{
	struct p11_faults *f = faults();
	SP_BUF_AUTO blob = {.max = SP_P11_BLOB_MAX};
	uint8_t out[SP_P11_CLEAR_MAX];
	struct sp_p11 *p;
	unsigned before;
	size_t n;

	f->fail_at = 0;
	OK(open_at(&p, faulty, "aes", PIN));
	OK(sp_p11_wrap(p, sp_span_of(clear, 32), &blob, why));
	f->logins = 0;
	before = f->calls;
	for (int i = 0; i < 100; i++)
		OK(sp_p11_unwrap(p, sp_buf_span(&blob), out, &n, why));
	cr_assert_eq(f->calls - before, 200, "C_DecryptInit and C_Decrypt");
	cr_assert_eq(f->logins, 0);
	sp_p11_close(p);
}

/* Each call in its turn fails, once or for good, with each of these: what comes
 * is the right bytes or an error, and of a lost session the right bytes. */
static void
every_call_fails(unsigned long rv, unsigned times, bool heals)
{
	struct p11_faults *f = faults();
	unsigned at = 1, lost = 0;

	for (;; at++) {
		SP_BUF_AUTO blob = {.max = SP_P11_BLOB_MAX};
		uint8_t out[SP_P11_CLEAR_MAX] = {0};
		struct sp_p11 *p = NULL;
		size_t n = 0;
		enum sp_err e;
		unsigned opened, used;

		*f = (struct p11_faults){.fail_at = at, .times = times, .rv = rv};
		e = open_at(&p, faulty, "aes", PIN);
		opened = f->calls;
		if (e == SP_OK)
			e = sp_p11_wrap(p, sp_span_of(clear, 32), &blob, why);
		if (e == SP_OK)
			e = sp_p11_unwrap(p, sp_buf_span(&blob), out, &n, why);
		if (e == SP_OK)
			cr_assert(n == 32 && memcmp(out, clear, 32) == 0);
		else
			cr_assert(n == 0 && out[0] == 0 && why[0] != '\0');
		if (heals && at > opened)
			cr_assert_eq(e, SP_OK, "call %u: %s", at, why);
		lost += e != SP_OK;
		used = f->calls;
		f->fail_at = 0;
		sp_p11_close(p);
		if (used < at)
			break;
	}
	cr_assert_gt(at, 14);
	if (times > 1)
		cr_assert_gt(lost, 5);
}

Test(p11, device_error_once) { every_call_fails(CKR_DEVICE_ERROR, 1, true); }
Test(p11, session_lost_once)
{
	every_call_fails(CKR_SESSION_HANDLE_INVALID, 1, true);
}
Test(p11, device_removed_once) { every_call_fails(CKR_DEVICE_REMOVED, 1, true); }
Test(p11, key_handle_lost_once)
{
	every_call_fails(CKR_KEY_HANDLE_INVALID, 1, true);
}
Test(p11, device_error_for_good)
{
	every_call_fails(CKR_DEVICE_ERROR, 1000000, false);
}
Test(p11, general_error_once) { every_call_fails(CKR_GENERAL_ERROR, 1, false); }
Test(p11, general_error_for_good)
{
	every_call_fails(CKR_GENERAL_ERROR, 1000000, false);
}
Test(p11, no_memory_once) { every_call_fails(CKR_HOST_MEMORY, 1, false); }
Test(p11, not_initialised_once)
{
	every_call_fails(CKR_CRYPTOKI_NOT_INITIALIZED, 1, true);
}
