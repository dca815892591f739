/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_PGWIRE_H
#define SP_COMMON_PGWIRE_H

#include "common/buf.h"

/*
 * PostgreSQL's protocol 3.0 ("Frontend/Backend Protocol", chapter 55 of the
 * manual), as much of it as start-up needs. Integers are big-endian. Everything
 * read here comes from somebody hostile.
 */
#define SP_PG_START_MAX 10000	/* bytes of a first packet, as the server's own */
#define SP_PG_MSG_MAX 65536	/* bytes of a message before ReadyForQuery */

enum sp_pg_first {
	SP_PG_SSL = 80877103,
	SP_PG_GSS = 80877104,
	SP_PG_CANCEL = 80877102,
	SP_PG_STARTUP = 3 << 16,	/* any minor version */
};
struct sp_pg_start {
	enum sp_pg_first what;
	uint32_t minor;			/* of a StartupMessage */
	uint32_t pid, key;		/* of a CancelRequest */
	struct sp_span params;		/* of a StartupMessage */
};
/* The first packet of a client. *used: its bytes. SP_ERR_AGAIN: not whole yet;
 * SP_ERR_PROTO. */
SP_MUST enum sp_err sp_pg_start_read(struct sp_span in, struct sp_pg_start *s,
    size_t *used);
/* The next pair of its parameters, without NUL; SP_ERR_EOF at their end. */
SP_MUST enum sp_err sp_pg_param_next(struct sp_span *params,
    struct sp_span *name, struct sp_span *value);

struct sp_pg_msg {
	uint8_t type;
	struct sp_span body;
};
/* A message of at most SP_PG_MSG_MAX bytes: SP_ERR_AGAIN, SP_ERR_PROTO. */
SP_MUST enum sp_err sp_pg_msg_read(struct sp_span in, struct sp_pg_msg *m,
    size_t *used);
SP_MUST enum sp_err sp_pg_put(struct sp_buf *out, uint8_t type,
    struct sp_span body);
/* The part of an ErrorResponse or NoticeResponse with this letter ('M', 'C',
 * ...), encoded for a log; "" if there is none. */
const char *sp_pg_field(struct sp_span body, char letter, char *dst, size_t cap);
/* A FATAL ErrorResponse. hint may be "". */
SP_MUST enum sp_err sp_pg_fatal(struct sp_buf *out, const char *sqlstate,
    struct sp_span text, const char *hint);

#endif
