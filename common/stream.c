/* SPDX-License-Identifier: Apache-2.0 */
#include "common/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TERM_MAX 64
#define COMMAND_MAX 32768
#define ENV_MAX 3072
#define ENV_PAIRS_MAX 32
#define MODES_MAX 512
#define HOST_MAX 255
#define FILL_BYTES 131072
#define KEEP_BYTES 16384	/* of an empty buffer, at a trim */

struct frame_row {
	const char *name;
	bool user, target;
	size_t cap;
};

static const struct frame_row rows[] = {
#define ROW(n, num, user_, target_, cap_)                                     \
	[num] = {.name = #n, .user = (user_), .target = (target_), .cap = (cap_)},
    SP_FRAME_TABLE(ROW)
#undef ROW
};
#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

const char *
sp_frame_name(uint8_t type)
{
	return type < N_ROWS && rows[type].name != NULL ? rows[type].name :
	    "unknown";
}

bool
sp_frame_may(uint8_t type, bool from_user, size_t payload)
{
	if (type >= N_ROWS || rows[type].name == NULL)
		return false;
	return (from_user ? rows[type].user : rows[type].target) &&
	    payload <= rows[type].cap;
}

const char *
sp_open_kind_name(uint8_t kind)
{
	static const char *const names[] = {"unknown", "shell", "exec",
	    "subsystem", "forward", "reverse", "listen", "sql"};

	if (kind == SP_OPEN_ROTATE)
		return "rotate";
	return names[kind < sizeof(names) / sizeof(names[0]) ? kind : 0];
}

bool
sp_open_is_forward(uint8_t kind)
{
	return kind >= SP_OPEN_FORWARD && kind <= SP_OPEN_SQL;
}

/* Without terminal modes a payload ends at the environment, as it did before
 * there were any. */
static enum sp_err
encode_tail(struct sp_buf *b, const struct sp_open *o)
{
	if (!sp_open_is_forward(o->kind))
		return o->modes.n == 0 ? SP_OK : sp_buf_put_bytes(b, o->modes);
	SP_TRY(sp_buf_put_bytes(b, o->host));
	SP_TRY(sp_buf_put_u32(b, o->port));
	SP_TRY(sp_buf_put_bytes(b, o->origin));
	SP_TRY(sp_buf_put_u32(b, o->origin_port));
	return sp_buf_put_u32(b, o->listen);
}

enum sp_err
sp_open_encode(struct sp_buf *b, const struct sp_open *o)
{
	if (o->term.n > TERM_MAX || o->command.n > COMMAND_MAX ||
	    o->env.n > ENV_MAX || o->modes.n > MODES_MAX ||
	    o->host.n > HOST_MAX || o->origin.n > HOST_MAX)
		return SP_ERR_TOOBIG;
	SP_TRY(sp_buf_put_u8(b, o->kind));
	SP_TRY(sp_buf_put_u8(b, o->has_pty));
	SP_TRY(sp_buf_put_u32(b, o->cols));
	SP_TRY(sp_buf_put_u32(b, o->rows));
	SP_TRY(sp_buf_put_u32(b, o->xpixels));
	SP_TRY(sp_buf_put_u32(b, o->ypixels));
	SP_TRY(sp_buf_put_bytes(b, o->term));
	SP_TRY(sp_buf_put_bytes(b, o->command));
	SP_TRY(sp_buf_put_bytes(b, o->env));
	return encode_tail(b, o);
}

static bool
has_nul(struct sp_span s)
{
	return s.n > 0 && memchr(s.p, 0, s.n) != NULL;
}

static enum sp_err
check_env(struct sp_span env)
{
	struct sp_span name, value;
	size_t pairs = 0;
	enum sp_err e;

	while ((e = sp_open_env_next(&env, &name, &value)) == SP_OK)
		if (++pairs > ENV_PAIRS_MAX || name.n == 0 || has_nul(name) ||
		    has_nul(value))
			return SP_ERR_PROTO;
	return e == SP_ERR_EOF ? SP_OK : SP_ERR_PROTO;
}

static enum sp_err
check_forward(const struct sp_open *o)
{
	bool is_listen = o->kind == SP_OPEN_LISTEN;

	if (o->has_pty != 0 || (o->cols | o->rows | o->xpixels | o->ypixels) != 0 ||
	    o->term.n + o->command.n + o->env.n > 0)
		return SP_ERR_PROTO;
	/* A listener may bind every address (no name) and any port (0). */
	if ((o->host.n == 0 && o->kind == SP_OPEN_FORWARD) || o->port > 65535 ||
	    (o->port == 0 && !is_listen) || o->origin_port > 65535)
		return SP_ERR_PROTO;
	return (o->listen != 0) == (o->kind == SP_OPEN_REVERSE) ? SP_OK :
	    SP_ERR_PROTO;
}

static enum sp_err
check_open(const struct sp_open *o)
{
	if (sp_open_is_forward(o->kind))
		return check_forward(o);
	if (o->kind == SP_OPEN_ROTATE && (o->has_pty != 0 || o->command.n == 0 ||
	    (o->cols | o->rows | o->xpixels | o->ypixels) != 0 ||
	    o->term.n + o->env.n > 0))
		return SP_ERR_PROTO;
	if (o->kind < SP_OPEN_SHELL || o->has_pty > 1 ||
	    (o->kind == SP_OPEN_SUBSYSTEM && o->command.n == 0) ||
	    has_nul(o->command) || has_nul(o->term))
		return SP_ERR_PROTO;
	return check_env(o->env);
}

static enum sp_err
decode_tail(struct sp_span *s, struct sp_open *o)
{
	if (!sp_open_is_forward(o->kind)) {
		if (s->n == 0)
			return SP_OK;
		SP_TRY(sp_get_bytes(s, MODES_MAX, &o->modes));
		return o->modes.n > 0 && o->has_pty != 0 ? SP_OK : SP_ERR_PROTO;
	}
	SP_TRY(sp_get_str(s, HOST_MAX, &o->host));
	SP_TRY(sp_get_u32(s, &o->port));
	SP_TRY(sp_get_str(s, HOST_MAX, &o->origin));
	SP_TRY(sp_get_u32(s, &o->origin_port));
	return sp_get_u32(s, &o->listen);
}

enum sp_err
sp_open_decode(struct sp_span s, struct sp_open *o)
{
	struct sp_open t = {0};

	SP_TRY(sp_get_u8(&s, &t.kind));
	SP_TRY(sp_get_u8(&s, &t.has_pty));
	if (t.kind > SP_OPEN_SQL && t.kind != SP_OPEN_ROTATE)
		return SP_ERR_PROTO;
	SP_TRY(sp_get_u32(&s, &t.cols));
	SP_TRY(sp_get_u32(&s, &t.rows));
	SP_TRY(sp_get_u32(&s, &t.xpixels));
	SP_TRY(sp_get_u32(&s, &t.ypixels));
	SP_TRY(sp_get_bytes(&s, TERM_MAX, &t.term));
	SP_TRY(sp_get_bytes(&s, COMMAND_MAX, &t.command));
	SP_TRY(sp_get_bytes(&s, ENV_MAX, &t.env));
	SP_TRY(decode_tail(&s, &t));
	if (s.n != 0)
		return SP_ERR_PROTO;
	SP_TRY(check_open(&t));
	*o = t;
	return SP_OK;
}

enum sp_err
sp_open_env_next(struct sp_span *env, struct sp_span *name,
    struct sp_span *value)
{
	if (env->n == 0)
		return SP_ERR_EOF;
	SP_TRY(sp_get_bytes(env, ENV_MAX, name));
	return sp_get_bytes(env, ENV_MAX, value);
}

enum sp_err
sp_stream_init(struct sp_stream *s, int fd, bool peer_is_user)
{
	int fl = fcntl(fd, F_GETFL);

	*s = (struct sp_stream){.fd = fd, .peer_is_user = peer_is_user};
	sp_buf_init(&s->rx, SP_STREAM_RX_MAX);
	sp_buf_init(&s->tx, SP_STREAM_TX_MAX);
	if (fl < 0 || fcntl(fd, F_SETFL, fl | O_NONBLOCK) < 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return SP_ERR_IO;
	return SP_OK;
}

void
sp_stream_fini(struct sp_stream *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	sp_buf_fini(&s->rx);
	sp_buf_fini(&s->tx);
}

/* The frame that was handed out is dropped only when the next is asked for. */
static void
drop_handed_out(struct sp_stream *s)
{
	if (s->next_len > 0)
		sp_buf_consume(&s->rx, s->next_len);
	s->next_len = 0;
}

enum sp_err
sp_stream_fill(struct sp_stream *s)
{
	uint8_t *at;
	size_t room;
	ssize_t n;

	if (s->eof || s->fd < 0)
		return SP_ERR_EOF;
	drop_handed_out(s);
	room = SP_STREAM_RX_MAX - s->rx.len;
	if (room > FILL_BYTES)
		room = FILL_BYTES;
	if (room == 0)
		return SP_ERR_AGAIN;
	SP_TRY(sp_buf_reserve(&s->rx, room, &at));
	do
		n = recv(s->fd, at, room, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	/* Nothing was written, and nothing is to be wiped. */
	sp_buf_commit(&s->rx, n > 0 ? (size_t)n : 0);
	if (n < 0 && errno == EAGAIN)
		return SP_ERR_AGAIN;
	if (n <= 0) {
		s->eof = true;
		return n == 0 || errno == ECONNRESET ? SP_ERR_EOF : SP_ERR_IO;
	}
	return SP_OK;
}

enum sp_err
sp_stream_next(struct sp_stream *s, struct sp_frame *f)
{
	struct sp_span in;
	const uint8_t *p;
	uint32_t len = 0;
	uint16_t zero = 0;

	drop_handed_out(s);
	in = sp_buf_span(&s->rx);
	if (in.n < SP_FRAME_HEADER)
		return SP_ERR_AGAIN;
	SP_TRY(sp_get_u32(&in, &len));
	SP_TRY(sp_get_u8(&in, &f->type));
	SP_TRY(sp_get_u8(&in, &f->lane));
	SP_TRY(sp_get_u16(&in, &zero));
	SP_TRY(sp_get_u32(&in, &f->chan));
	if (!sp_frame_may(f->type, s->peer_is_user, len) || zero != 0 ||
	    f->lane > 2 || (f->lane != 0 && f->type != SP_FRAME_DATA) ||
	    (f->type == SP_FRAME_DATA && (f->lane == 0) != s->peer_is_user)) {
		snprintf(s->fault, sizeof(s->fault),
		    "%s frame (%u) of %u bytes, lane %u, from the %s side",
		    sp_frame_name(f->type), f->type, len, f->lane,
		    s->peer_is_user ? "user" : "target");
		return SP_ERR_PROTO;
	}
	if (in.n < len)
		return SP_ERR_AGAIN;
	SP_TRY(sp_get(&in, len, &p));
	f->payload = sp_span_of(p, len);
	s->next_len = SP_FRAME_HEADER + len;
	return SP_OK;
}

enum sp_err
sp_stream_put(struct sp_stream *s, uint8_t type, uint8_t lane, uint32_t chan,
    struct sp_span payload)
{
	if (s->fd < 0)
		return SP_ERR_EOF;
	SP_ASSERT(payload.n <= SP_FRAME_PAYLOAD_MAX);
	if (s->tx.len + SP_FRAME_HEADER + payload.n > SP_STREAM_TX_MAX)
		return SP_ERR_FULL;
	SP_TRY(sp_buf_put_u32(&s->tx, (uint32_t)payload.n));
	SP_TRY(sp_buf_put_u8(&s->tx, type));
	SP_TRY(sp_buf_put_u8(&s->tx, lane));
	SP_TRY(sp_buf_put_u16(&s->tx, 0));
	SP_TRY(sp_buf_put_u32(&s->tx, chan));
	return sp_buf_put(&s->tx, payload.p, payload.n);
}

enum sp_err
sp_stream_data_begin(struct sp_stream *s, size_t n, uint8_t **at)
{
	uint8_t *p;

	if (s->fd < 0)
		return SP_ERR_EOF;
	SP_ASSERT(n > 0 && n <= SP_FRAME_PAYLOAD_MAX);
	if (s->tx.len + SP_FRAME_HEADER + n > SP_STREAM_TX_MAX)
		return SP_ERR_FULL;
	SP_TRY(sp_buf_reserve(&s->tx, SP_FRAME_HEADER + n, &p));
	*at = p + SP_FRAME_HEADER;
	return SP_OK;
}

void
sp_stream_data_end(struct sp_stream *s, uint8_t lane, uint32_t chan, size_t n)
{
	uint8_t *h = s->tx.p + s->tx.off + s->tx.len;

	SP_ASSERT(n <= SP_FRAME_PAYLOAD_MAX);
	if (n == 0)
		return;
	for (unsigned i = 0; i < 4; i++) {
		h[i] = (uint8_t)(n >> (8 * i));
		h[8 + i] = (uint8_t)(chan >> (8 * i));
	}
	h[4] = SP_FRAME_DATA;
	h[5] = lane;
	h[6] = h[7] = 0;
	sp_buf_commit(&s->tx, SP_FRAME_HEADER + n);
}

enum sp_err
sp_stream_put_u32(struct sp_stream *s, uint8_t type, uint32_t chan, uint32_t v)
{
	uint8_t t[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16),
	    (uint8_t)(v >> 24)};

	return sp_stream_put(s, type, 0, chan, sp_span_of(t, sizeof(t)));
}

enum sp_err
sp_stream_put_text(struct sp_stream *s, uint8_t type, uint32_t chan,
    const char *text)
{
	SP_BUF_AUTO b = {.max = 1024};
	struct sp_span t = sp_span_str(text);

	if (t.n > 1000)
		t.n = 1000;
	SP_TRY(sp_buf_put_bytes(&b, t));
	return sp_stream_put(s, type, 0, chan, sp_buf_span(&b));
}

enum sp_err
sp_stream_put_end(struct sp_stream *s, uint8_t code, const char *text)
{
	SP_BUF_AUTO b = {.max = 1024};
	struct sp_span t = sp_span_str(text);

	if (t.n > 1000)
		t.n = 1000;
	SP_TRY(sp_buf_put_u8(&b, code));
	SP_TRY(sp_buf_put_bytes(&b, t));
	return sp_stream_put(s, SP_FRAME_END, 0, 0, sp_buf_span(&b));
}

enum sp_err
sp_stream_flush(struct sp_stream *s)
{
	while (s->tx.len > 0) {
		struct sp_span out = sp_buf_span(&s->tx);
		ssize_t n;

		if (s->fd < 0)
			return SP_ERR_EOF;
		n = send(s->fd, out.p, out.n, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? SP_ERR_AGAIN :
			    errno == EPIPE || errno == ECONNRESET ? SP_ERR_EOF :
			    SP_ERR_IO;
		sp_buf_consume(&s->tx, (size_t)n);
	}
	return SP_OK;
}

size_t
sp_stream_pending(const struct sp_stream *s)
{
	return s->tx.len;
}

static void
trim(struct sp_buf *b)
{
	if (b->len == 0 && b->cap > KEEP_BYTES)
		sp_buf_fini(b);
}

void
sp_stream_trim(struct sp_stream *s)
{
	if (s->next_len == 0)
		trim(&s->rx);
	trim(&s->tx);
}
