/* SPDX-License-Identifier: Apache-2.0 */
#include "ship/s3.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/ipc.h"
#include "common/text.h"

#define CONNECT_MS 10000
#define EMPTY_SHA256                                                          \
	"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct going {
	struct sp_s3 *s;
	const struct sp_s3_ask *a;
	struct sp_s3_told *t;
	uint64_t at;		/* of the body */
	bool is_bad, is_stopped;
	long status;
};

enum sp_err
sp_s3_open(struct sp_s3 *s, const struct sp_config *cfg, struct sp_span ca,
    const struct sp_s3_ops *ops)
{
	char bad[200], line[400];

	*s = (struct sp_s3){.ops = ops, .stall_s = (unsigned)cfg->ship_stall_s};
	sp_buf_init(&s->answer, SP_S3_ANSWER_MAX);
	SP_TRY(sp_storeurl_parse(cfg, &s->url, bad, sizeof(bad)));
	snprintf(s->region, sizeof(s->region), "%.63s", cfg->ship_region);
	snprintf(s->origin, sizeof(s->origin), s->url.is_v6 ? "https://[%s]:%u" :
	    "https://%s:%u", s->url.host, s->url.port);
	s->ca = (struct curl_blob){.len = ca.n};
	memcpy(&s->ca.data, &ca.p, sizeof(ca.p));
	/* The address is the supervisor's to choose: nothing is looked up. */
	snprintf(line, sizeof(line), "%s:%u:%s", s->url.host, s->url.port,
	    s->url.is_v6 ? "[::1]" : "127.0.0.1");
	s->resolve = curl_slist_append(NULL, line);
	return s->resolve == NULL ? SP_ERR_NOMEM : SP_OK;
}

/* ------------------------------------------------------------ what curl calls */

static bool
is_connected(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	int err = 0;
	socklen_t n = sizeof(err);

	return poll(&p, 1, CONNECT_MS) == 1 &&
	    getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &n) == 0 && err == 0;
}

static curl_socket_t
on_socket(void *arg, curlsocktype what, struct curl_sockaddr *a)
{
	struct sp_s3 *s = arg;

	(void)what;
	(void)a;
	for (unsigned i = 0; i < s->url.n_address; i++) {
		int fd = s->ops->dial(s->ops->arg, i);

		if (fd >= 0 && is_connected(fd))
			return fd;
		sp_close_fds(&fd, 1);
	}
	return CURL_SOCKET_BAD;
}

static int
on_sockopt(void *arg, curl_socket_t fd, curlsocktype what)
{
	(void)arg;
	(void)fd;
	(void)what;
	return CURL_SOCKOPT_ALREADY_CONNECTED;
}

static int
on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	struct going *g = arg;

	(void)a;
	(void)b;
	(void)c;
	(void)d;
	g->is_stopped = g->is_stopped || !g->s->ops->goes_on(g->s->ops->arg);
	return g->is_stopped;
}

static size_t
on_read(char *to, size_t one, size_t n, void *arg)
{
	struct going *g = arg;
	uint64_t left = g->a->bytes - g->at;
	ssize_t k;

	n *= one;
	if (n > left)
		n = (size_t)left;
	if (n == 0)
		return 0;
	if (g->a->fd < 0) {
		memcpy(to, g->a->body.p + g->at, n);
		k = (ssize_t)n;
	} else {
		k = pread(g->a->fd, to, n, (off_t)(g->a->offset + g->at));
	}
	if (k <= 0) {
		g->is_bad = true;
		return CURL_READFUNC_ABORT;
	}
	g->at += (uint64_t)k;
	g->s->sent += (uint64_t)k;
	return (size_t)k;
}

static int
on_seek(void *arg, curl_off_t at, int whence)
{
	struct going *g = arg;

	if (whence != SEEK_SET || at < 0 || (uint64_t)at > g->a->bytes)
		return CURL_SEEKFUNC_FAIL;
	g->at = (uint64_t)at;
	return CURL_SEEKFUNC_OK;
}

static size_t
on_write(char *p, size_t one, size_t n, void *arg)
{
	struct going *g = arg;
	struct sp_span s = sp_span_of(p, one * n);
	enum sp_err e;

	if (g->status == 0)
		curl_easy_getinfo(g->s->curl, CURLINFO_RESPONSE_CODE, &g->status);
	if (g->a->sink != NULL && g->status >= 200 && g->status < 300)
		e = g->a->sink(g->a->sink_arg, s);
	else
		e = sp_buf_put(&g->s->answer, s.p, s.n);
	if (e == SP_OK)
		return s.n;
	g->is_bad = true;
	return 0;
}

static void
take_header(struct sp_span line, const char *name, char *out, size_t cap)
{
	size_t n = strlen(name), k = 0;

	if (line.n <= n || strncasecmp((const char *)line.p, name, n) != 0)
		return;
	line = sp_span_of(line.p + n, line.n - n);
	for (size_t i = 0; i < line.n && k + 1 < cap; i++)
		if (line.p[i] > ' ' && line.p[i] < 0x7f)
			out[k++] = (char)line.p[i];
	out[k] = '\0';
}

static size_t
on_header(char *p, size_t one, size_t n, void *arg)
{
	struct going *g = arg;
	struct sp_span line = sp_span_of(p, one * n);

	take_header(line, "x-amz-checksum-sha256:", g->t->checksum,
	    sizeof(g->t->checksum));
	take_header(line, "etag:", g->t->etag, sizeof(g->t->etag));
	return line.n;
}

/* ---------------------------------------------------------------- one request */

static void
fixed_options(struct sp_s3 *s)
{
	char signing[100];

	snprintf(signing, sizeof(signing), "aws:amz:%s:s3", s->region);
	curl_easy_setopt(s->curl, CURLOPT_AWS_SIGV4, signing);
	curl_easy_setopt(s->curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(s->curl, CURLOPT_PROTOCOLS_STR, "https");
	curl_easy_setopt(s->curl, CURLOPT_PROXY, "");
	curl_easy_setopt(s->curl, CURLOPT_HTTP_VERSION,
	    (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(s->curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(s->curl, CURLOPT_CAINFO_BLOB, &s->ca);
	curl_easy_setopt(s->curl, CURLOPT_CAINFO, NULL);
	curl_easy_setopt(s->curl, CURLOPT_CAPATH, NULL);
	curl_easy_setopt(s->curl, CURLOPT_RESOLVE, s->resolve);
	curl_easy_setopt(s->curl, CURLOPT_DNS_CACHE_TIMEOUT, -1L);
	curl_easy_setopt(s->curl, CURLOPT_OPENSOCKETFUNCTION, on_socket);
	curl_easy_setopt(s->curl, CURLOPT_OPENSOCKETDATA, s);
	curl_easy_setopt(s->curl, CURLOPT_SOCKOPTFUNCTION, on_sockopt);
	curl_easy_setopt(s->curl, CURLOPT_ERRORBUFFER, s->fault);
	curl_easy_setopt(s->curl, CURLOPT_CONNECTTIMEOUT, 30L);
	curl_easy_setopt(s->curl, CURLOPT_LOW_SPEED_LIMIT, 16L);
	curl_easy_setopt(s->curl, CURLOPT_LOW_SPEED_TIME, (long)s->stall_s);
	curl_easy_setopt(s->curl, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(s->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(s->curl, CURLOPT_READFUNCTION, on_read);
	curl_easy_setopt(s->curl, CURLOPT_SEEKFUNCTION, on_seek);
	curl_easy_setopt(s->curl, CURLOPT_WRITEFUNCTION, on_write);
	curl_easy_setopt(s->curl, CURLOPT_HEADERFUNCTION, on_header);
}

enum sp_err
sp_s3_begin(struct sp_s3 *s, const char *access, const char *secret)
{
	sp_s3_end(s);
	if ((s->curl = curl_easy_init()) == NULL)
		return SP_ERR_NOMEM;
	fixed_options(s);
	curl_easy_setopt(s->curl, CURLOPT_USERNAME, access);
	curl_easy_setopt(s->curl, CURLOPT_PASSWORD, secret);
	return SP_OK;
}

void
sp_s3_end(struct sp_s3 *s)
{
	if (s->curl != NULL)
		curl_easy_cleanup(s->curl);
	s->curl = NULL;
	sp_buf_reset(&s->answer);
}

static void
set_method(struct sp_s3 *s, const struct sp_s3_ask *a)
{
	curl_easy_setopt(s->curl, CURLOPT_CUSTOMREQUEST, NULL);
	curl_easy_setopt(s->curl, CURLOPT_HTTPGET, 1L);	/* undoes the others */
	if (strcmp(a->method, "HEAD") == 0) {
		curl_easy_setopt(s->curl, CURLOPT_NOBODY, 1L);
	} else if (strcmp(a->method, "PUT") == 0) {
		curl_easy_setopt(s->curl, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(s->curl, CURLOPT_INFILESIZE_LARGE,
		    (curl_off_t)a->bytes);
	} else if (strcmp(a->method, "POST") == 0) {
		curl_easy_setopt(s->curl, CURLOPT_POST, 1L);
		curl_easy_setopt(s->curl, CURLOPT_POSTFIELDS, NULL);
		curl_easy_setopt(s->curl, CURLOPT_POSTFIELDSIZE_LARGE,
		    (curl_off_t)a->bytes);
	} else if (strcmp(a->method, "DELETE") == 0) {
		curl_easy_setopt(s->curl, CURLOPT_CUSTOMREQUEST, "DELETE");
	}
}

static struct curl_slist *
headers_of(const struct sp_s3_ask *a)
{
	char line[200], hex[65] = EMPTY_SHA256;
	struct curl_slist *l;

	if (a->sha256 != NULL)
		sp_hex(hex, a->sha256, 32);
	snprintf(line, sizeof(line), "x-amz-content-sha256: %s", hex);
	l = curl_slist_append(NULL, line);
	if (a->sha256 != NULL)
		l = curl_slist_append(l, "Content-Type: application/octet-stream");
	for (size_t i = 0; a->headers != NULL && a->headers[i] != NULL; i++)
		l = curl_slist_append(l, a->headers[i]);
	return l;
}

static enum sp_err
of_curl(const struct going *g, CURLcode c)
{
	if (g->is_stopped)
		return SP_ERR_STATE;
	if (c == CURLE_PEER_FAILED_VERIFICATION || c == CURLE_SSL_CACERT_BADFILE)
		return SP_ERR_CRYPTO;
	return SP_ERR_IO;
}

static enum sp_err
of_status(long status)
{
	return status >= 200 && status < 300 ? SP_OK :
	    status >= 500 || status == 429 || status == 408 ? SP_ERR_AGAIN :
	    status == 401 || status == 403 ? SP_ERR_DENIED :
	    status == 404 ? SP_ERR_NOTFOUND : SP_ERR_INVAL;
}

/* What went wrong, in one line without anything that the store could use. */
static void
say(struct going *g, CURLcode c)
{
	struct sp_s3_told *t = g->t;
	char text[100];

	if (c != CURLE_OK) {
		sp_vis(text, sizeof(text), sp_span_str(g->is_bad ?
		    "an answer that is too long, or a file that is not to be read" :
		    g->s->fault[0] != '\0' ? g->s->fault : curl_easy_strerror(c)));
		snprintf(t->text, sizeof(t->text), "%s: %s", g->a->method, text);
		return;
	}
	(void)sp_xml_text(sp_buf_span(&g->s->answer), "Code", t->code,
	    sizeof(t->code));
	sp_vis(text, sizeof(text), sp_span_str(t->code));
	snprintf(t->text, sizeof(t->text), "%s: status %ld %s", g->a->method,
	    t->status, text);
}

enum sp_err
sp_s3_do(struct sp_s3 *s, const struct sp_s3_ask *a, struct sp_s3_told *t)
{
	struct going g = {.s = s, .a = a, .t = t};
	struct curl_slist *headers = headers_of(a);
	char url[1200 + 3 * 1024];	/* and a version's id, escaped */
	curl_off_t len = -1;
	CURLcode c;

	*t = (struct sp_s3_told){.length = -1};
	s->fault[0] = '\0';
	sp_buf_reset(&s->answer);
	if ((size_t)snprintf(url, sizeof(url), "%s/%s%s%s%s%s", s->origin,
	    s->url.bucket, a->key == NULL ? "" : "/", a->key == NULL ? "" : a->key,
	    a->query == NULL ? "" : "?", a->query == NULL ? "" : a->query) >=
	    sizeof(url)) {
		snprintf(t->text, sizeof(t->text), "an address longer than any that "
		    "a store takes");
		curl_slist_free_all(headers);
		return SP_ERR_TOOBIG;
	}
	set_method(s, a);
	curl_easy_setopt(s->curl, CURLOPT_URL, url);
	curl_easy_setopt(s->curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(s->curl, CURLOPT_XFERINFODATA, &g);
	curl_easy_setopt(s->curl, CURLOPT_READDATA, &g);
	curl_easy_setopt(s->curl, CURLOPT_SEEKDATA, &g);
	curl_easy_setopt(s->curl, CURLOPT_WRITEDATA, &g);
	curl_easy_setopt(s->curl, CURLOPT_HEADERDATA, &g);
	c = curl_easy_perform(s->curl);
	curl_slist_free_all(headers);
	curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, &t->status);
	if (curl_easy_getinfo(s->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &len) ==
	    CURLE_OK)
		t->length = len;
	if (c != CURLE_OK || t->status < 200 || t->status >= 300)
		say(&g, c);
	return c != CURLE_OK ? of_curl(&g, c) : of_status(t->status);
}
