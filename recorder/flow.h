/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_FLOW_H
#define SP_RECORDER_FLOW_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/stream.h"

/*
 * What passed a forwarded connection, counted and hashed, for its record and
 * the audit log; and the same of an exec without a terminal where the rules
 * ask for digests instead of its bytes.
 */
enum sp_flow_way { SP_FLOW_TO_TARGET = 0, SP_FLOW_TO_USER = 1, SP_FLOW_ERR = 2 };
#define SP_FLOW_WAYS 3
#define SP_FLOW_RECORD_BYTES (8 + SP_FLOW_WAYS * (8 + 32))

struct sp_flow {
	struct sp_flow *next;
	uint32_t chan;
	uint8_t kind;		/* enum sp_open_kind */
	bool is_digest;		/* its bytes are not in the recording */
	bool user_closed, target_closed;
	int64_t begun_us;
	uint64_t bytes[SP_FLOW_WAYS], told;
	EVP_MD_CTX *md[SP_FLOW_WAYS];
	char what[800];		/* for the audit log, safe to show */
};

/* A channel that is counted. SP_ERR_NOMEM, SP_ERR_CRYPTO. */
SP_MUST enum sp_err sp_flow_new(struct sp_flow **list, uint32_t chan,
    const struct sp_open *o, bool is_digest);
struct sp_flow *sp_flow_find(struct sp_flow *list, uint32_t chan); /* or NULL */
SP_MUST enum sp_err sp_flow_add(struct sp_flow *f, enum sp_flow_way way,
    struct sp_span bytes);
/* The bytes of the record "flow": u64 us that it lasted, and for each way u64
 * bytes and their SHA-256. It may be asked for while the flow goes on. */
SP_MUST enum sp_err sp_flow_record(const struct sp_flow *f, int64_t now_us,
    uint8_t out[static SP_FLOW_RECORD_BYTES]);
/* One line for the audit log, from such a record. */
void sp_flow_text(char *dst, size_t cap, const char *what,
    const uint8_t record[static SP_FLOW_RECORD_BYTES]);
void sp_flow_free(struct sp_flow **list, struct sp_flow *f);

/* "forward to db port 5432, from 127.0.0.1 port 50000"; safe to show. */
void sp_flow_describe(char *dst, size_t cap, const struct sp_open *o);

#endif
