/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_IPC_H
#define SP_COMMON_IPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/ipc_messages.h"
#include "common/text.h"

/* ------------------------------------------------- made from the table */

enum sp_msg_type {
#define SP_M_ENUM(name, num, from, to, st, fds) SP_MSG_##name = (num),
	SP_IPC_TABLE(SP_M_ENUM)
#undef SP_M_ENUM
};

/* struct sp_msg_NAME: str and bytes fields are borrowed spans. After decoding
 * they point into the received body and live until the next receive. */
#define SP_CT_u8 uint8_t
#define SP_CT_u16 uint16_t
#define SP_CT_u32 uint32_t
#define SP_CT_u64 uint64_t
#define SP_CT_i64 int64_t
#define SP_CT_str struct sp_span
#define SP_CT_bytes struct sp_span
#define SP_DECL_u8(n) uint8_t n;
#define SP_DECL_u16(n) uint16_t n;
#define SP_DECL_u32(n) uint32_t n;
#define SP_DECL_u64(n) uint64_t n;
#define SP_DECL_i64(n) int64_t n;
#define SP_DECL_uuid(n) uint8_t n[16];
#define SP_DECL_h32(n) uint8_t n[32];
#define SP_DECL_sig(n) uint8_t n[64];
#define SP_DECL_str(n) struct sp_span n;
#define SP_DECL_bytes(n) struct sp_span n;
#define SP_F_DECL(kind, name, cap) SP_DECL_##kind(name)
#define SP_M_STRUCT(name, num, from, to, st, fds)                             \
	struct sp_msg_##name {                                                \
		SP_FIELDS_##name(SP_F_DECL)                                   \
	};
SP_IPC_TABLE(SP_M_STRUCT)
#undef SP_M_STRUCT

/* sp_enc_NAME appends the body; sp_dec_NAME refuses short bodies, fields over
 * their cap, broken UTF-8 in str, and trailing bytes (SP_ERR_PROTO, TOOBIG). */
#define SP_M_PROTO(name, num, from, to, st, fds)                              \
	SP_MUST enum sp_err sp_enc_##name(struct sp_buf *b,                   \
	    const struct sp_msg_##name *m);                                   \
	SP_MUST enum sp_err sp_dec_##name(struct sp_span body,                \
	    struct sp_msg_##name *m);
SP_IPC_TABLE(SP_M_PROTO)
#undef SP_M_PROTO

struct sp_ipc_row {
	const char *name;
	uint16_t type;
	uint32_t from, to, states;
	uint32_t n_fds;
	const char *fields;	/* "kind name cap; ..." for the documentation */
	/* decodes and encodes again: for tests and fuzzing */
	enum sp_err (*round_trip)(struct sp_span body, struct sp_buf *out);
};
extern const struct sp_ipc_row sp_ipc_rows[];
extern const size_t sp_ipc_n_rows;
const struct sp_ipc_row *sp_ipc_find(uint16_t type); /* NULL if unknown */
const char *sp_ipc_name(uint16_t type);		/* "unknown" if unknown */
const char *sp_role_name(uint32_t role);
/* May `from` say this to `to` while the link is in `state`? */
bool sp_ipc_may(uint16_t type, uint32_t from, uint32_t to, uint32_t state);
/* A hash (FNV-1a, four times, no security meant) of the whole table: two
 * binaries of different builds refuse each other at start. */
void sp_ipc_table_hash(uint8_t h[static 32]);

/* ----------------------------------------------------------------- links */

/*
 * One end of an AF_UNIX SOCK_SEQPACKET pair. The receiver checks every message
 * against the table with its own idea of who the peer is and in which state
 * the link is; what does not fit ends the link: sp_link_recv returns
 * SP_ERR_PROTO, `fault` says why in words, and the caller must drop the peer
 * and report it.
 */
struct sp_link {
	int fd;			/* non-blocking, close-on-exec; -1 when closed */
	uint32_t self, peer;	/* enum sp_role */
	uint32_t state;		/* enum sp_link_state, set by the owner */
	struct sp_link_packet *tx_head, **tx_tail;
	size_t tx_bytes;
	bool is_open;		/* between init and fini */
	uint8_t *rx;		/* what was received; NULL: nothing waits */
	size_t rx_wet;		/* bytes of it that were written */
	char fault[160];
};
#define SP_LINK_TX_MAX (4u << 20)	/* bytes waiting; more ends the link */

struct sp_packet {
	uint16_t type;
	uint64_t corr;
	struct sp_span body;	/* until the next receive on this link, whatever comes */
	int fds[SP_IPC_FDS_MAX]; /* owned by the caller; n_fds of them */
	size_t n_fds;
};

/* Takes the descriptor, sets it non-blocking. */
SP_MUST enum sp_err sp_link_init(struct sp_link *l, int fd, uint32_t self,
    uint32_t peer, uint32_t state);
void sp_link_fini(struct sp_link *l);	/* closes; drops what waits */
/* Sends or queues. Takes the descriptors in every case (they are closed after
 * the send, or on error). SP_ERR_FULL and SP_ERR_IO mean: drop the peer. */
SP_MUST enum sp_err sp_link_send(struct sp_link *l, uint16_t type,
    uint64_t corr, struct sp_span body, const int *fds, size_t n_fds);
bool sp_link_wants_write(const struct sp_link *l);
SP_MUST enum sp_err sp_link_flush(struct sp_link *l); /* SP_ERR_AGAIN: later */
/* SP_OK, SP_ERR_AGAIN, SP_ERR_EOF, SP_ERR_IO or SP_ERR_PROTO. */
SP_MUST enum sp_err sp_link_recv(struct sp_link *l, struct sp_packet *p);
/* Waits (poll) up to timeout_ms for the next message; for processes that talk
 * in turns. SP_ERR_TIMEOUT. */
SP_MUST enum sp_err sp_link_wait(struct sp_link *l, struct sp_packet *p,
    int timeout_ms);
void sp_close_fds(const int *fds, size_t n); /* those that are not negative */
/* Closes descriptors of a packet that are not wanted. */
void sp_packet_close_fds(struct sp_packet *p);
/* Socket pairs, close-on-exec, non-blocking: links and streams. */
SP_MUST enum sp_err sp_link_pair(int fds[static 2]);
SP_MUST enum sp_err sp_stream_pair(int fds[static 2]);

/* sp_send_NAME(link, corr, &msg, fds): the typed way to send; the number of
 * descriptors comes from the table. */
#define SP_M_SEND(name, num, from, to, st, fds_)                              \
	SP_MUST enum sp_err sp_send_##name(struct sp_link *l, uint64_t corr,  \
	    const struct sp_msg_##name *m, const int *fds);
SP_IPC_TABLE(SP_M_SEND)
#undef SP_M_SEND

#endif
