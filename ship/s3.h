/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_SHIP_S3_H
#define SP_SHIP_S3_H

#include <curl/curl.h>

#include "common/storeurl.h"

/*
 * Requests to an S3 store ("Amazon S3 API Reference", 2006-03-01), signed by
 * libcurl (AWS Signature Version 4, the digest of the body in the signature). What
 * the store answers is not believed: bounded, and taken apart by xml.c.
 */
#define SP_S3_ANSWER_MAX (2u << 20)
#define SP_S3_DIGEST_TEXT 80	/* base64 of SHA-256, of parts with "-10000" */

struct sp_s3_ops {
	/* A socket that is being connected to address `index`, or -1. */
	int (*dial)(void *arg, unsigned index);
	bool (*goes_on)(void *arg);	/* asked now and then: false: end it */
	void *arg;
};
struct sp_s3 {
	CURL *curl;
	struct sp_storeurl url;
	char region[64], origin[300];
	struct curl_slist *resolve;
	struct curl_blob ca;		/* borrowed */
	const struct sp_s3_ops *ops;
	unsigned stall_s;
	char fault[CURL_ERROR_SIZE];
	uint64_t sent;			/* bytes of bodies, all requests */
	struct sp_buf answer;
};

struct sp_s3_ask {
	const char *method;		/* GET HEAD PUT POST DELETE */
	const char *key;		/* NULL: the bucket itself */
	const char *query;		/* "a=1&b=", sorted and encoded; or NULL */
	const char *const *headers;	/* "x-amz-...: ...", NULL-terminated; or NULL */
	/* The body: bytes, or part of a file; sha256 is always its digest. */
	struct sp_span body;
	int fd;				/* -1: body */
	uint64_t offset, bytes;
	const uint8_t *sha256;		/* NULL: there is no body */
	/* Where the answer goes: NULL: s->answer. */
	enum sp_err (*sink)(void *arg, struct sp_span piece);
	void *sink_arg;
};
struct sp_s3_told {
	long status;			/* 0: there was no answer */
	char checksum[SP_S3_DIGEST_TEXT], etag[SP_S3_DIGEST_TEXT];
	int64_t length;			/* of HEAD and GET; -1: not said */
	char code[64];			/* of an error */
	char text[160];			/* what happened, for people; no secret in it */
};

/* ca: PEM text that lives as long as s. */
SP_MUST enum sp_err sp_s3_open(struct sp_s3 *s, const struct sp_config *cfg,
    struct sp_span ca, const struct sp_s3_ops *ops);
/* Begins afresh with that key: connections of before are closed. */
SP_MUST enum sp_err sp_s3_begin(struct sp_s3 *s, const char *access,
    const char *secret);
void sp_s3_end(struct sp_s3 *s);	/* the key is forgotten */
/* SP_OK: an answer of 2xx. SP_ERR_IO: none came, or the connection broke;
 * SP_ERR_AGAIN: 5xx, 429; SP_ERR_DENIED: 401, 403; SP_ERR_NOTFOUND: 404;
 * SP_ERR_CRYPTO: the store is not who it should be (TLS); SP_ERR_STATE: stopped;
 * SP_ERR_INVAL: anything else. */
SP_MUST enum sp_err sp_s3_do(struct sp_s3 *s, const struct sp_s3_ask *a,
    struct sp_s3_told *t);

/* xml.c: the next <tag>...</tag> of rest, which moves behind it; its inside. */
bool sp_xml_next(struct sp_span *rest, const char *tag, struct sp_span *inside);
/* The text of the first such element, with entities undone. */
bool sp_xml_text(struct sp_span in, const char *tag, char *out, size_t cap);

#endif
