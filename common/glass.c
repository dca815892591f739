/* SPDX-License-Identifier: Apache-2.0 */
#include "common/glass.h"

#include <dlfcn.h>
#include <libssh/server.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "common/text.h"

#define TOKEN 16
#define SWAPS 64		/* messages that may wait for a key exchange */
#define PAYLOAD_MAX 2048
#define WHY_MAX 480
#define MSG_IGNORE 2
#define MSG_USERAUTH_REQUEST 50
#define MSG_OPEN_FAILURE 92
#define MSG_CHANNEL_REQUEST 98
#define PTY_TERM_AT 17		/* type, channel, "pty-req", want reply */
#define RESIZE_AT 23		/* type, channel, "window-change", want reply */
/* type, user, "ssh-connection", "password", no change */
#define PASSWORD_AT(user) (1 + 4 + strlen(user) + 18 + 12 + 1)
#define FAILURE_BYTES 17	/* what libssh sends: no text, no language */

/* In a packet of libssh's that holds the token, the bytes from `at` on are
 * replaced by these, up to its end. */
struct swap {
	ssh_session s;		/* NULL: free */
	char token[TOKEN + 1];
	uint8_t type;
	size_t token_at, at;
	struct sp_buf bytes;
};

static struct {
	int (*encrypt)(EVP_CIPHER_CTX *, unsigned char *, int *,
	    const unsigned char *, int);
	int (*decrypt)(EVP_CIPHER_CTX *, unsigned char *, int *,
	    const unsigned char *, int);
	int (*cipher)(EVP_CIPHER_CTX *, unsigned char *, int *,
	    const unsigned char *, int);
	int (*sign)(EVP_MD_CTX *, const void *, size_t);
	int (*final)(EVP_CIPHER_CTX *, unsigned char *, int *);
	int (*is_out)(const EVP_CIPHER_CTX *);
} real;
static struct swap swaps[SWAPS];
static unsigned n_swaps;
/* libssh's message of a failure, on its way: what it says is taken from it. */
static enum { FAILURE_NONE, FAILURE_ASKED, FAILURE_LEFT } failure;
static uint32_t recipient;
static sp_glass_seen *seen;
static void *seen_arg;
static ssh_session userauth_of;	/* whose request is on its way, or was sent */
static uint64_t packets;	/* heard, of any session */

static bool
find(const char *name, void *to)
{
	void *f = dlsym(RTLD_NEXT, name);

	memcpy(to, &f, sizeof(f));
	return f != NULL;
}

enum sp_err
sp_glass_init(void)
{
	if (!find("EVP_EncryptUpdate", &real.encrypt) ||
	    !find("EVP_DecryptUpdate", &real.decrypt) ||
	    !find("EVP_CipherUpdate", &real.cipher) ||
	    !find("EVP_DigestSignUpdate", &real.sign) ||
	    !find("EVP_DecryptFinal", &real.final) ||
	    !find("EVP_CIPHER_CTX_is_encrypting", &real.is_out))
		return SP_ERR_UNSUPPORTED;
	return SP_OK;
}

void
sp_glass_watch(sp_glass_seen *fn, void *arg)
{
	seen = fn;
	seen_arg = arg;
}

void
sp_glass_rekey(ssh_session s, uint64_t bytes, uint32_t seconds)
{
	if (bytes > 0)
		(void)ssh_options_set(s, SSH_OPTIONS_REKEY_DATA, &bytes);
	if (seconds > 0)
		(void)ssh_options_set(s, SSH_OPTIONS_REKEY_TIME, &seconds);
}

uint64_t
sp_glass_heard(void)
{
	return packets;
}

enum sp_alive_verdict
sp_alive_look(struct sp_alive *a, uint64_t heard, bool is_reading,
    int64_t now_us)
{
	bool is_fresh = a->heard != heard || a->next_us == 0 || !is_reading;

	if (a->every_us == 0)
		return SP_ALIVE_FINE;
	if (is_fresh) {
		a->heard = heard;
		a->asked = 0;
		a->next_us = now_us + a->every_us;
	}
	if (is_fresh || now_us < a->next_us)
		return SP_ALIVE_FINE;
	a->next_us = now_us + a->every_us;
	return ++a->asked > a->tries ? SP_ALIVE_DEAD : SP_ALIVE_ASK;
}

/* ------------------------------------------------------ packets, while clear */

/* Padding length, payload, padding; before it the packet's length, where that
 * is encrypted with the rest. A padding is at least 4, a length below 2^24. */
static bool
payload_of(uint8_t *p, size_t n, uint8_t **at, size_t *len)
{
	if (n > 4 && p[0] == 0) {
		p += 4;
		n -= 4;
	}
	if (n < 2 || p[0] < 4 || (size_t)p[0] + 2 > n)
		return false;
	*at = p + 1;
	*len = n - 1 - p[0];
	return true;
}

static void
drop(struct swap *w)
{
	sp_buf_fini(&w->bytes);
	w->s = NULL;
	n_swaps--;
}

static void
swap_in(uint8_t *p, size_t n)
{
	for (size_t i = 0; i < SWAPS; i++) {
		struct swap *w = &swaps[i];

		if (w->s == NULL || w->type != p[0] ||
		    n < w->token_at + TOKEN ||
		    memcmp(p + w->token_at, w->token, TOKEN) != 0)
			continue;
		SP_ASSERT(w->at + w->bytes.len == n);
		memcpy(p + w->at, sp_buf_span(&w->bytes).p, w->bytes.len);
		drop(w);
		return;
	}
}

/* libssh's failure without a reason becomes nothing; its recipient is kept. */
static void
take_failure(uint8_t *p, size_t n)
{
	struct sp_span s = sp_span_of(p + 1, n - 1);

	if (n != FAILURE_BYTES || sp_get_ssh_u32(&s, &recipient) != SP_OK)
		return;
	failure = FAILURE_LEFT;
	memset(p, 0, n);
	p[0] = MSG_IGNORE;
	p[4] = FAILURE_BYTES - 5;
}

static void
going_out(const unsigned char *in, int n)
{
	/* libssh's own buffer, which it overwrites with the ciphertext. */
	union { const unsigned char *c; unsigned char *p; } u = {.c = in};
	uint8_t *p;
	size_t len;

	if ((n_swaps == 0 && failure != FAILURE_ASKED) || n <= 0 ||
	    !payload_of(u.p, (size_t)n, &p, &len) || len == 0)
		return;
	if (p[0] == MSG_IGNORE || p[0] == MSG_CHANNEL_REQUEST ||
	    p[0] == MSG_USERAUTH_REQUEST)
		swap_in(p, len);
	else if (p[0] == MSG_OPEN_FAILURE && failure == FAILURE_ASKED)
		take_failure(p, len);
}

static void
coming_in(unsigned char *out, int n)
{
	uint8_t *p;
	size_t len;

	if (out == NULL || n <= 0)
		return;
	packets++;
	if (seen == NULL ||
	    !payload_of(out, (size_t)n, &p, &len) || len == 0)
		return;
	if ((p[0] >= 80 && p[0] <= 82) || p[0] == 90 || p[0] == 98)
		seen(seen_arg, p, len);
}

/* ------------------------------------------------- in front of libcrypto's */

int
EVP_EncryptUpdate(EVP_CIPHER_CTX *ctx, unsigned char *out, int *outl,
    const unsigned char *in, int inl)
{
	if (real.encrypt == NULL)
		return 0;
	if (out != NULL)
		going_out(in, inl);
	return real.encrypt(ctx, out, outl, in, inl);
}

int
EVP_DecryptUpdate(EVP_CIPHER_CTX *ctx, unsigned char *out, int *outl,
    const unsigned char *in, int inl)
{
	int rc = real.decrypt == NULL ? 0 : real.decrypt(ctx, out, outl, in, inl);

	if (rc == 1)
		coming_in(out, *outl);
	return rc;
}

/* ChaCha20: both ways, and the lengths alone. */
int
EVP_CipherUpdate(EVP_CIPHER_CTX *ctx, unsigned char *out, int *outl,
    const unsigned char *in, int inl)
{
	bool is_out;
	int rc;

	if (real.cipher == NULL)
		return 0;
	is_out = real.is_out(ctx) != 0;
	if (is_out && inl > 4)
		going_out(in, inl);
	rc = real.cipher(ctx, out, outl, in, inl);
	if (rc == 1 && !is_out && inl > 4)
		coming_in(out, *outl);
	return rc;
}

/* MACs over the clear packet are made before it is encrypted. */
int
EVP_DigestSignUpdate(EVP_MD_CTX *ctx, const void *p, size_t n)
{
	if (real.sign == NULL)
		return 0;
	if (n > 8 && n <= INT32_MAX)
		going_out(p, (int)n);
	return real.sign(ctx, p, n);
}

/* libssh 0.10.6 as published takes 0, a wrong tag, for no error (Debian's has
 * the fix). */
int
EVP_DecryptFinal(EVP_CIPHER_CTX *ctx, unsigned char *out, int *outl)
{
	return real.final == NULL || real.final(ctx, out, outl) != 1 ? -1 : 1;
}

/* --------------------------------------------------------------- to send */

static enum sp_err
new_swap(ssh_session s, uint8_t type, size_t at, struct sp_span bytes,
    struct swap **out)
{
	static const char hex[] = "0123456789abcdef";
	uint8_t rnd[TOKEN];
	struct swap *w = NULL;

	for (size_t i = 0; i < SWAPS && w == NULL; i++)
		if (swaps[i].s == NULL)
			w = &swaps[i];
	if (w == NULL)
		return SP_ERR_FULL;
	if (getrandom(rnd, sizeof(rnd), 0) != sizeof(rnd))
		return SP_ERR_IO;
	*w = (struct swap){.type = type, .at = at,
	    .token_at = type == MSG_IGNORE ? 5 : at + 4,
	    .bytes = {.max = PAYLOAD_MAX}};
	for (size_t i = 0; i < TOKEN; i++)
		w->token[i] = hex[rnd[i] & 15];
	SP_TRY(sp_buf_put(&w->bytes, bytes.p, bytes.n));
	w->s = s;
	n_swaps++;
	*out = w;
	return SP_OK;
}

enum sp_err
sp_glass_send(ssh_session s, struct sp_span payload)
{
	char filler[PAYLOAD_MAX + 1];
	struct swap *w;

	if (payload.n < SP_GLASS_LEAST || payload.n > PAYLOAD_MAX)
		return SP_ERR_INVAL;
	SP_TRY(new_swap(s, MSG_IGNORE, 0, payload, &w));
	memset(filler, 'x', payload.n - 5);
	memcpy(filler, w->token, TOKEN);
	filler[payload.n - 5] = '\0';
	if (ssh_send_ignore(s, filler) == SSH_OK)
		return SP_OK;
	sp_glass_forget(s);
	return SP_ERR_IO;
}

enum sp_err
sp_glass_keepalive(ssh_session s)
{
	static const uint8_t m[] = "\x50\0\0\0\x15" "keepalive@openssh.com\1";

	return sp_glass_send(s, sp_span_of(m, sizeof(m) - 1));
}

static enum sp_err
pty_tail(struct sp_buf *b, const char *term, const uint32_t size[static 4],
    struct sp_span modes, size_t pad)
{
	static const uint8_t end[TOKEN];

	SP_TRY(sp_buf_put_ssh_string(b, sp_span_str(term)));
	for (int i = 0; i < 4; i++)
		SP_TRY(sp_buf_put_ssh_u32(b, size[i]));
	SP_TRY(sp_buf_put_ssh_u32(b, (uint32_t)(modes.n + pad)));
	SP_TRY(sp_buf_put(b, modes.p, modes.n));
	/* TTY_OP_END: nothing is read behind the first. */
	return sp_buf_put(b, end, pad);
}

/* Instead of the terminal's name libssh sends one that makes the message as
 * long as it has to be: it says a modes string of one byte, and no pixels. */
int
sp_glass_pty(ssh_channel ch, const char *term, const uint32_t size[static 4],
    struct sp_span modes, bool is_asked)
{
	SP_BUF_AUTO tail = {.max = PAYLOAD_MAX};
	size_t n = strlen(term) + modes.n, pad = n < TOKEN + 1 ? TOKEN + 1 - n : 0;
	char name[PAYLOAD_MAX + 1];
	struct swap *w;

	/* Asked already: libssh waits for the answer. */
	if (is_asked)
		return ssh_channel_request_pty_size(ch, term, 0, 0);
	if (n + pad > 1024 || pty_tail(&tail, term, size, modes, pad) != SP_OK ||
	    new_swap(ssh_channel_get_session(ch), MSG_CHANNEL_REQUEST,
	    PTY_TERM_AT, sp_buf_span(&tail), &w) != SP_OK)
		return SSH_ERROR;
	n += pad - 1;
	memset(name, 'x', n);
	memcpy(name, w->token, TOKEN);
	name[n] = '\0';
	return ssh_channel_request_pty_size(ch, name, (int)(size[0] & 0x7fffffff),
	    (int)(size[1] & 0x7fffffff));
}

/* The token is what libssh says: columns, rows, no pixels. Of two that wait both
 * say the newer pixels. */
int
sp_glass_resize(ssh_channel ch, const uint32_t size[static 4])
{
	ssh_session s = ssh_channel_get_session(ch);
	SP_BUF_AUTO said = {.max = TOKEN}, wanted = {.max = TOKEN};
	struct swap *w = NULL;
	int rc;

	for (int i = 0; i < 4; i++)
		if (sp_buf_put_ssh_u32(&said, i < 2 ? size[i] : 0) != SP_OK ||
		    sp_buf_put_ssh_u32(&wanted, size[i]) != SP_OK)
			return SSH_ERROR;
	for (size_t i = 0; i < SWAPS; i++)
		if (swaps[i].s == s && swaps[i].at == RESIZE_AT &&
		    memcmp(swaps[i].token, said.p + said.off, TOKEN) == 0)
			memcpy(swaps[i].bytes.p + swaps[i].bytes.off,
			    wanted.p + wanted.off, TOKEN);
	if ((size[2] | size[3]) != 0 && new_swap(s, MSG_CHANNEL_REQUEST,
	    RESIZE_AT, sp_buf_span(&wanted), &w) == SP_OK) {
		memcpy(w->token, said.p + said.off, TOKEN);
		w->token_at = RESIZE_AT;
	}
	rc = ssh_channel_change_pty_size(ch, (int)size[0], (int)size[1]);
	if (rc != SSH_OK && w != NULL)
		drop(w);
	return rc;
}

/* libssh repeats the call until it has an answer; what it sends is sent once. */
static struct swap *
find_userauth(ssh_session s)
{
	for (size_t i = 0; i < SWAPS; i++)
		if (swaps[i].s == s && swaps[i].type == MSG_USERAUTH_REQUEST)
			return &swaps[i];
	return NULL;
}

int
sp_glass_userauth(ssh_session s, const char *user, struct sp_span request)
{
	size_t at = PASSWORD_AT(user) + 4, n;
	char filler[PAYLOAD_MAX + 1] = "";
	struct swap *w = find_userauth(s);
	int rc;

	if (request.n < at + TOKEN || request.n > PAYLOAD_MAX)
		return SSH_AUTH_ERROR;
	n = request.n - at;
	if (w == NULL && userauth_of != s && new_swap(s, MSG_USERAUTH_REQUEST, 0,
	    request, &w) != SP_OK)
		return SSH_AUTH_ERROR;
	userauth_of = s;
	if (w != NULL) {
		w->token_at = at;
		memset(filler, 'x', n);
		memcpy(filler, w->token, TOKEN);
		filler[n] = '\0';
	}
	if ((rc = ssh_userauth_password(s, NULL, filler)) != SSH_AUTH_AGAIN) {
		userauth_of = NULL;
		if ((w = find_userauth(s)) != NULL)
			drop(w);
	}
	return rc;
}

/* ------------------------------------------------------------ to refuse */

void
sp_glass_open_failure(ssh_session s, ssh_message m, uint32_t code,
    struct sp_span why)
{
	SP_BUF_AUTO b = {.max = PAYLOAD_MAX};

	failure = FAILURE_ASKED;
	ssh_message_reply_default(m);
	/* Held by a key exchange it goes as it is, without a reason. */
	if (failure != FAILURE_LEFT) {
		failure = FAILURE_NONE;
		return;
	}
	failure = FAILURE_NONE;
	if (why.n > WHY_MAX)
		why.n = WHY_MAX;
	while (why.n > 0 && !sp_utf8_is_valid(why))
		why.n--;
	if (why.n < 4)
		why = sp_span_str("refused");
	if (sp_buf_put_u8(&b, MSG_OPEN_FAILURE) == SP_OK &&
	    sp_buf_put_ssh_u32(&b, recipient) == SP_OK &&
	    sp_buf_put_ssh_u32(&b, code) == SP_OK &&
	    sp_buf_put_ssh_string(&b, why) == SP_OK &&
	    sp_buf_put_ssh_string(&b, sp_span_str("")) == SP_OK)
		(void)!sp_glass_send(s, sp_buf_span(&b));
}

void
sp_glass_forget(ssh_session s)
{
	for (size_t i = 0; i < SWAPS; i++)
		if (swaps[i].s == s && s != NULL)
			drop(&swaps[i]);
}
