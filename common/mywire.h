/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_MYWIRE_H
#define SP_COMMON_MYWIRE_H

#include "common/buf.h"

/*
 * The protocol of MariaDB and MySQL ("Client/Server Protocol" of MariaDB's
 * documentation; protocol version 10), as much of it as a login needs, and what
 * of a client's commands has to be looked at. Integers are little-endian.
 * Everything read here comes from somebody hostile.
 */
#define SP_MY_PACKET_MAX 65535u		/* bytes of a packet of a login */

#define SP_MY_CAP_MYSQL 0x1u	/* not MariaDB's own client or server */
#define SP_MY_CAP_DB 0x8u
#define SP_MY_CAP_COMPRESS 0x20u
#define SP_MY_CAP_LOCAL_FILES 0x80u
#define SP_MY_CAP_41 0x200u
#define SP_MY_CAP_SSL 0x800u
#define SP_MY_CAP_SECURE 0x8000u
#define SP_MY_CAP_PLUGIN 0x80000u
#define SP_MY_CAP_ATTRS 0x100000u
#define SP_MY_CAP_LENENC 0x200000u
#define SP_MY_CAP_ZSTD 0x4000000u

/* The body of the whole packet in front of `in`. SP_ERR_AGAIN: *need bytes are
 * needed; SP_OK: *need bytes are it. SP_ERR_PROTO: empty, or over the maximum. */
SP_MUST enum sp_err sp_my_packet(struct sp_span in, uint8_t *seq,
    struct sp_span *body, size_t *need);
SP_MUST enum sp_err sp_my_put(struct sp_buf *out, uint8_t seq,
    struct sp_span body);

struct sp_my_greeting {		/* the server's first packet */
	char version[128];
	uint32_t thread, caps, more;	/* more: MariaDB's own, if not MYSQL */
	uint8_t charset;
	uint16_t status;
};
/* SP_ERR_UNSUPPORTED: another protocol, no TLS, or no plugins. */
SP_MUST enum sp_err sp_my_greeting_read(struct sp_span body,
    struct sp_my_greeting *g);
/* As a server would say it, with these capabilities instead. */
SP_MUST enum sp_err sp_my_greeting_put(struct sp_buf *out,
    const struct sp_my_greeting *g, uint32_t caps);

struct sp_my_wish {		/* the client's answer to it; into the body */
	uint32_t caps, packet_max, more;
	uint8_t charset;
	struct sp_span user, db;
};
/* offered: what the server can do, as it was told; clients claim more than that,
 * and what counts is what both can. SP_ERR_PROTO: also what asks for TLS, or an
 * older protocol. */
SP_MUST enum sp_err sp_my_wish_read(struct sp_span body, uint32_t offered,
    struct sp_my_wish *w);

/* "Log in in this way instead": of a packet that begins with 0xfe. nonce: without
 * the NUL that some append. */
SP_MUST enum sp_err sp_my_switch_read(struct sp_span body,
    struct sp_span *plugin, struct sp_span *nonce);

/* An ERR packet; seq: its number. In a first packet nobody knows yet that the
 * client takes a SQLSTATE: then it is NULL. */
SP_MUST enum sp_err sp_my_error(struct sp_buf *out, uint8_t seq, uint16_t code,
    const char *sqlstate, struct sp_span text);

/* What a client says after its login, in pieces of any size. */
struct sp_my_watch {
	uint32_t left;		/* of the packet */
	uint8_t head[4], n_head, last_seq;
	bool is_first, continues;
	const char *why;	/* it must not go on: to be told */
};
/*
 * false: nothing of this piece may be passed on. Refused is
 *  - what would make the session somebody else's, or a replica's: CHANGE_USER,
 *    BINLOG_DUMP and its like;
 *  - an answer. After the login a client has commands to give, which are packets
 *    numbered 0; what it sends with another number answers a question of the
 *    server, and there is one question left: for a file of the client's, LOCAL
 *    INFILE, which a server may ask after any statement. An empty packet, which
 *    says that there is none, passes.
 */
bool sp_my_watch(struct sp_my_watch *w, struct sp_span piece);

#endif
