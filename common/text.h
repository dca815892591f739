/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_TEXT_H
#define SP_COMMON_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

/* Strict UTF-8 (RFC 3629): no overlong forms, surrogates or values past
 * U+10FFFF. The empty span is valid. */
bool sp_utf8_is_valid(struct sp_span s);

/*
 * Untrusted text, made safe for a log line or a terminal: printable UTF-8
 * stays as it is; control characters, DEL, C1, broken bytes, bidirectional
 * and zero-width controls become \xNN or \u{NNNN}; a backslash becomes \\.
 * Writes at most cap bytes with the NUL, ends a cut text with "...". Returns dst.
 */
char *sp_vis(char *dst, size_t cap, struct sp_span s);
/* The same in one of eight rotating static buffers of 512 bytes: for log
 * lines only, valid until the eighth next call. */
const char *sp_vis_tmp(struct sp_span s);
const char *sp_vis_str(const char *s);

/* Columns that a text takes on a terminal: 2 for East Asian wide and
 * fullwidth, 0 for combining, 1 otherwise; bytes that are not UTF-8 count 1. */
size_t sp_text_columns(struct sp_span s);

/* Lower-case hexadecimal; dst needs 2 * n + 1 bytes. */
void sp_hex(char *dst, const uint8_t *p, size_t n);
SP_MUST enum sp_err sp_unhex(uint8_t *dst, size_t n, struct sp_span hex);

/* Standard base64 with padding (RFC 4648, 4). */
SP_MUST enum sp_err sp_base64(struct sp_buf *out, struct sp_span in);
SP_MUST enum sp_err sp_unbase64(struct sp_buf *out, struct sp_span in);
/* Base32 without padding (RFC 4648, 6), as otpauth URIs want it. */
SP_MUST enum sp_err sp_base32(struct sp_buf *out, struct sp_span in);

/* UUIDs, version 4 (RFC 9562), from the kernel's random numbers. */
#define SP_UUID_BYTES 16
#define SP_UUID_TEXT 37 /* with the NUL */
void sp_uuid_make(uint8_t u[static SP_UUID_BYTES]);
void sp_uuid_text(char t[static SP_UUID_TEXT], const uint8_t u[static SP_UUID_BYTES]);
SP_MUST enum sp_err sp_uuid_parse(uint8_t u[static SP_UUID_BYTES], struct sp_span text);
bool sp_uuid_is_nil(const uint8_t u[static SP_UUID_BYTES]);

/* Names of people, groups, targets and accounts: 1 to 32 of [a-z0-9._-],
 * starting with a letter or digit. One rule for every door. */
#define SP_NAME_MAX 32
bool sp_name_is_valid(struct sp_span s);

/* Times: wall clock and boot-time clock in microseconds. */
int64_t sp_now_us(void);
int64_t sp_boot_us(void);
/* RFC 3339 in UTC with seconds, or with microseconds if `micros`. */
#define SP_TIME_TEXT 40
void sp_time_text(char t[static SP_TIME_TEXT], int64_t us, bool micros);
/* "1h 30m", "45s", "2d" in words for people; for a length of time in us. */
void sp_duration_text(char t[static SP_TIME_TEXT], int64_t us);
/* "90s", "15m", "2h", "1d", "1h30m" to microseconds. */
SP_MUST enum sp_err sp_duration_parse(struct sp_span s, int64_t *us);
/* A decimal number without sign or spaces, at most max. */
SP_MUST enum sp_err sp_u64_parse(struct sp_span s, uint64_t max, uint64_t *v);
/* The next word between blanks and tabs, a part of s, which moves on behind it.
 * False: there is none. */
bool sp_span_word(struct sp_span *s, struct sp_span *w);

#endif
