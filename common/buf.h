/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_BUF_H
#define SP_COMMON_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/* Borrowed bytes. The owner is whoever made them; a span frees nothing. */
struct sp_span {
	const uint8_t *p;
	size_t n;
};

/* A span over a C string, without its NUL. NULL gives an empty span. */
struct sp_span sp_span_str(const char *s);
static inline struct sp_span
sp_span_of(const void *p, size_t n)
{
	return (struct sp_span){.p = (const uint8_t *)p, .n = n};
}
bool sp_span_eq(struct sp_span a, struct sp_span b); /* not constant time */
bool sp_span_is(struct sp_span a, const char *s);
/* Copies a span into dst as a C string. SP_ERR_TOOBIG if it does not fit,
 * SP_ERR_INVAL if it holds a NUL. dst is always terminated. */
SP_MUST enum sp_err sp_span_cstr(struct sp_span s, char *dst, size_t cap);
/* A fresh C string, to be freed by the caller; NULL when out of memory or if
 * the span holds a NUL. */
char *sp_span_dup(struct sp_span s);

/*
 * A byte buffer that grows up to `max` bytes by copy and wipe, never realloc,
 * so that no freed block keeps what it held. Bytes in use are
 * p[off .. off+len). A zeroed struct with max set is a valid empty buffer.
 */
struct sp_buf {
	uint8_t *p;
	size_t off, len, cap, max;
	/* The buffer's own, in bytes from p: what may have been written, and how
	 * far a reservation reaches that was not committed. No more is wiped: of a
	 * large buffer most pages are never touched, and a wipe would touch them. */
	size_t wet, lent;
};

void sp_buf_init(struct sp_buf *b, size_t max_bytes);
void sp_buf_fini(struct sp_buf *b);	/* wipes and frees; usable again */
void sp_buf_reset(struct sp_buf *b);	/* wipes, keeps the room */
void sp_buf_consume(struct sp_buf *b, size_t n); /* drops n bytes at the front */
struct sp_span sp_buf_span(const struct sp_buf *b); /* until the next change */
#define SP_BUF_AUTO __attribute__((cleanup(sp_buf_fini))) struct sp_buf

/* Makes room for n more bytes and returns where to write them; sp_buf_commit
 * then counts what was written. SP_ERR_TOOBIG beyond max. */
SP_MUST enum sp_err sp_buf_reserve(struct sp_buf *b, size_t n, uint8_t **at);
void sp_buf_commit(struct sp_buf *b, size_t n);

/* Integers are little-endian; str and bytes carry a u32 length before them. */
SP_MUST enum sp_err sp_buf_put(struct sp_buf *b, const void *p, size_t n);
SP_MUST enum sp_err sp_buf_put_u8(struct sp_buf *b, uint8_t v);
SP_MUST enum sp_err sp_buf_put_u16(struct sp_buf *b, uint16_t v);
SP_MUST enum sp_err sp_buf_put_u32(struct sp_buf *b, uint32_t v);
SP_MUST enum sp_err sp_buf_put_u64(struct sp_buf *b, uint64_t v);
SP_MUST enum sp_err sp_buf_put_bytes(struct sp_buf *b, struct sp_span s);
SP_MUST enum sp_err sp_buf_printf(struct sp_buf *b, const char *fmt, ...)
    SP_PRINTF(2, 3);

/* Reading moves the span forward; what is returned is borrowed from it.
 * SP_ERR_PROTO when the span is too short. */
SP_MUST enum sp_err sp_get(struct sp_span *s, size_t n, const uint8_t **p);
SP_MUST enum sp_err sp_get_u8(struct sp_span *s, uint8_t *v);
SP_MUST enum sp_err sp_get_u16(struct sp_span *s, uint16_t *v);
SP_MUST enum sp_err sp_get_u32(struct sp_span *s, uint32_t *v);
SP_MUST enum sp_err sp_get_u64(struct sp_span *s, uint64_t *v);
/* Length-prefixed bytes of at most cap bytes, else SP_ERR_TOOBIG. */
SP_MUST enum sp_err sp_get_bytes(struct sp_span *s, size_t cap,
    struct sp_span *out);
/* The same, and refuses NUL bytes and broken UTF-8 with SP_ERR_PROTO. */
SP_MUST enum sp_err sp_get_str(struct sp_span *s, size_t cap,
    struct sp_span *out);
/* Into the reader's own room: n bytes; such a string as a C string, which with
 * its NUL has at most cap bytes; a time, never before 1970 (SP_ERR_PROTO). */
SP_MUST enum sp_err sp_get_fixed(struct sp_span *s, uint8_t *dst, size_t n);
SP_MUST enum sp_err sp_get_text(struct sp_span *s, char *dst, size_t cap);
SP_MUST enum sp_err sp_get_time(struct sp_span *s, int64_t *us);

/* SSH wire forms (RFC 4251, 5): big-endian u32/u64, string = u32 + bytes. */
SP_MUST enum sp_err sp_buf_put_ssh_u32(struct sp_buf *b, uint32_t v);
SP_MUST enum sp_err sp_buf_put_ssh_u64(struct sp_buf *b, uint64_t v);
SP_MUST enum sp_err sp_buf_put_ssh_string(struct sp_buf *b, struct sp_span s);
SP_MUST enum sp_err sp_get_ssh_u32(struct sp_span *s, uint32_t *v);
SP_MUST enum sp_err sp_get_ssh_u64(struct sp_span *s, uint64_t *v);
SP_MUST enum sp_err sp_get_ssh_string(struct sp_span *s, size_t cap,
    struct sp_span *out);

#endif
