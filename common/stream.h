/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_STREAM_H
#define SP_COMMON_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

/*
 * The stream between the two legs, with the recorder in the middle: the same
 * for SSH and, later, databases. Also what a verb's output and a player's
 * screen travel on, so that the ingress knows one kind of source only.
 *
 * A frame is: u32 payload bytes, u8 type, u8 lane, u16 zero, u32 channel,
 * payload. Little-endian. The side towards the user is "user", the side towards
 * the target is "target".
 *
 * Channels are numbered by the side that opens them, never twice in a stream:
 * the user side from 1 on, the target side (kind REVERSE alone) from
 * SP_STREAM_REVERSE + 1 on. Listeners (LISTEN) take their numbers from the user
 * side's. The opener may send at once, the other side after its OPEN_OK.
 * Credit is end to end and per channel and direction: a side may send DATA
 * only within what the other end has granted; the recorder enforces it. The
 * first grants are SP_STREAM_WINDOW in both directions, without a frame. Each
 * end takes SP_STREAM_SLACK more than it granted: that is for bytes of the
 * recorder's own (answers to what it refuses), which keeps the grants that come
 * back for them.
 */
#define SP_FRAME_HEADER 12
#define SP_FRAME_PAYLOAD_MAX 65536
#define SP_STREAM_WINDOW (1u << 20)	/* bytes, first credit of a channel */
#define SP_STREAM_SLACK (256u << 10)	/* no less than any step of grants */
#define SP_STREAM_CHANNELS_MAX 64	/* open at once in one stream */
#define SP_STREAM_LISTENS_MAX 16	/* listeners at once in one stream */
#define SP_STREAM_REVERSE 0x80000000u	/* set in numbers of the target side */

/* type, number, may come from user, may come from target, payload cap */
#define SP_FRAME_TABLE(F)                                                     \
	/* a request to start something: struct sp_open */                    \
	F(OPEN, 1, true, true, 36864)                                         \
	/* by the side that did not open it */                                \
	F(OPEN_OK, 2, true, true, 0)                                          \
	/* str: why */                                                        \
	F(OPEN_FAIL, 3, true, true, 1024)                                     \
	/* lane 0: user to target; 1: stdout, 2: stderr, target to user */    \
	F(DATA, 4, true, true, SP_FRAME_PAYLOAD_MAX)                          \
	/* u32: bytes more that the sender of this frame will take */         \
	F(CREDIT, 5, true, true, 4)                                           \
	F(EOF, 6, true, true, 0)                                              \
	/* u32 columns, rows, x pixels, y pixels */                           \
	F(WINDOW, 7, true, false, 16)                                         \
	/* str: RFC 4254 signal name without SIG */                           \
	F(SIGNAL, 8, true, false, 36)                                         \
	/* u32: milliseconds */                                               \
	F(BREAK, 9, true, false, 4)                                           \
	/* u32 */                                                             \
	F(EXIT_STATUS, 10, false, true, 4)                                    \
	/* str name, u8 core dumped, str message */                           \
	F(EXIT_SIGNAL, 11, false, true, 600)                                  \
	/* this channel is over; each side sends it once */                   \
	F(CLOSE, 12, true, true, 0)                                           \
	/* str: a text of the bastion for the user's terminal; channel 0: all. \
	 * Only the recorder, the broker and the player make it. */           \
	F(NOTICE, 13, false, true, 1024)                                      \
	/* u8 enum sp_end_code, str reason: the whole stream is over. Made by \
	 * the recorder towards both sides. */                                \
	F(END, 14, true, true, 1024)                                         \
	/* The broker's dialogue on this channel is over; the channel goes on \
	 * on the stream of the next chan_stream message. */                  \
	F(HANDOVER, 15, false, true, 0)                                       \
	/* Listen at the target (tcpip-forward); the number in the frame is the \
	 * listener's. str: the address as the client said it, u32: port, 0:   \
	 * any */                                                             \
	F(LISTEN, 16, true, false, 300)                                       \
	/* u32: the port that the target listens on */                        \
	F(LISTEN_OK, 17, false, true, 4)                                      \
	/* str: why */                                                        \
	F(LISTEN_FAIL, 18, false, true, 1024)                                 \
	/* no more connections; those that are open go on. No answer. */      \
	F(UNLISTEN, 19, true, false, 0)                                       \
	/* Of a ROTATE channel. u8 enum sp_which: its program waits for that    \
	 * secret */                                                          \
	F(WANTS, 32, false, true, 1)                                          \
	/* From the user's side, in answer to WANTS, u8: type it. From the     \
	 * target's, when that was done: u8, u32 bytes, 32 bytes: the tag that \
	 * stands for it (ipc_messages.h, rotation). The secret is in neither. */ \
	F(SECRET, 33, true, true, 37)

enum sp_frame_type {
#define SP_FRAME_ENUM(name, num, user, target, cap) SP_FRAME_##name = (num),
	SP_FRAME_TABLE(SP_FRAME_ENUM)
#undef SP_FRAME_ENUM
};
const char *sp_frame_name(uint8_t type);
/* Is this a frame that the given side may send, with this payload size? */
bool sp_frame_may(uint8_t type, bool from_user, size_t payload);

struct sp_frame {
	uint8_t type, lane;
	uint32_t chan;
	struct sp_span payload;	/* until the next sp_stream_next/fill */
};

enum sp_open_kind {
	SP_OPEN_SHELL = 1,
	SP_OPEN_EXEC = 2,
	SP_OPEN_SUBSYSTEM = 3,
	SP_OPEN_FORWARD = 4,	/* from the target to host and port: -L, -D, -W */
	SP_OPEN_REVERSE = 5,	/* came to a listener: by the target side only */
	/* Never in a stream: in chan_open, where a LISTEN is what a session
	 * begins with. host and port are what it will bind. */
	SP_OPEN_LISTEN = 6,
	/* A client of the target, which is a database: host and port are what
	 * the client connected to, by its own words. */
	SP_OPEN_SQL = 7,
	/* By the broker itself, where the rules say so: command is the name of
	 * one of the egress's own programs (bastion/egress/rotate.c), nothing
	 * else is set. Only WANTS, SECRET, CREDIT and CLOSE go to the target. */
	SP_OPEN_ROTATE = 16,
};
const char *sp_open_kind_name(uint8_t kind); /* "shell", ..., "unknown" */
/* Has a host and a port, and neither program nor terminal. */
bool sp_open_is_forward(uint8_t kind);

/* The payload of OPEN. env: pairs of SSH-style u32-length name and value,
 * little-endian lengths; at most 32 pairs. Kinds up to SUBSYSTEM have what
 * stands first, those after it what stands last; the rest is empty and 0. */
struct sp_open {
	uint8_t kind, has_pty;
	uint32_t cols, rows, xpixels, ypixels;
	struct sp_span term;	/* at most 64 bytes */
	struct sp_span command;	/* exec: command; subsystem: its name; 32 KiB */
	struct sp_span env;	/* at most 3 KiB */
	struct sp_span modes;	/* RFC 4254, 8, as the client sent it; 512 bytes */
	/* FORWARD: what to reach. REVERSE: the address and port that were asked
	 * for in LISTEN, and what came there. Text, at most 255 bytes. */
	struct sp_span host, origin;
	uint32_t port, origin_port;
	uint32_t listen;	/* REVERSE: the listener's number */
};
SP_MUST enum sp_err sp_open_encode(struct sp_buf *b, const struct sp_open *o);
SP_MUST enum sp_err sp_open_decode(struct sp_span s, struct sp_open *o);
/* The next pair of o->env; SP_ERR_EOF at its end. */
SP_MUST enum sp_err sp_open_env_next(struct sp_span *env, struct sp_span *name,
    struct sp_span *value);

/* ------------------------------------------------------------- conduit */

/*
 * A buffered, non-blocking end of a stream's socket pair. What it reads must
 * come from the side given at init: `peer_is_user` says which frames are
 * allowed. Broken frames give SP_ERR_PROTO and a text in `fault`.
 */
struct sp_stream {
	int fd;
	bool peer_is_user;
	bool eof;		/* the peer has shut its end */
	struct sp_buf rx, tx;
	size_t next_len;	/* bytes of the frame handed out, to be dropped */
	char fault[128];
};
#define SP_STREAM_RX_MAX (512u << 10)
#define SP_STREAM_TX_MAX (8u << 20)

SP_MUST enum sp_err sp_stream_init(struct sp_stream *s, int fd,
    bool peer_is_user);
void sp_stream_fini(struct sp_stream *s);
/* Reads what is there. SP_OK: something came; SP_ERR_AGAIN; SP_ERR_EOF. */
SP_MUST enum sp_err sp_stream_fill(struct sp_stream *s);
/* The next whole frame; SP_ERR_AGAIN if there is none, SP_ERR_PROTO. The
 * payload is borrowed until the next call. */
SP_MUST enum sp_err sp_stream_next(struct sp_stream *s, struct sp_frame *f);
/* Queues a frame. SP_ERR_FULL at SP_STREAM_TX_MAX: the peer does not read. */
SP_MUST enum sp_err sp_stream_put(struct sp_stream *s, uint8_t type,
    uint8_t lane, uint32_t chan, struct sp_span payload);
SP_MUST enum sp_err sp_stream_put_u32(struct sp_stream *s, uint8_t type,
    uint32_t chan, uint32_t v);
SP_MUST enum sp_err sp_stream_put_text(struct sp_stream *s, uint8_t type,
    uint32_t chan, const char *text); /* NOTICE, OPEN_FAIL */
SP_MUST enum sp_err sp_stream_put_end(struct sp_stream *s, uint8_t code,
    const char *text);
/* DATA in place, one copy less: room for n bytes of payload, then how many of
 * them it became (0: no frame). Nothing else is put in between. */
SP_MUST enum sp_err sp_stream_data_begin(struct sp_stream *s, size_t n,
    uint8_t **at);
void sp_stream_data_end(struct sp_stream *s, uint8_t lane, uint32_t chan,
    size_t n);
/* Writes what waits. SP_OK: all gone; SP_ERR_AGAIN; SP_ERR_EOF, SP_ERR_IO. */
SP_MUST enum sp_err sp_stream_flush(struct sp_stream *s);
size_t sp_stream_pending(const struct sp_stream *s); /* bytes not yet written */
/* Gives the room of large buffers back that hold nothing. */
void sp_stream_trim(struct sp_stream *s);

#endif
