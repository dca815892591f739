/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_RULES_H
#define SP_COMMON_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

/*
 * What one session's channels may do: the policy decides it, the broker puts
 * it into rec_open, the recorder enforces it on the wire. Deny is the default:
 * an all-zero struct permits nothing, and an empty list has no member.
 *
 * Encoded as one bytes field (little-endian, lists with a u16 count); the
 * decoder refuses unknown bits, kinds beyond the enums and lists too long. A
 * last byte, `hold`, stands there only if it is not 0: grants of before had none.
 */
enum sp_rights {
	SP_RIGHT_SHELL = 1 << 0,
	SP_RIGHT_EXEC = 1 << 1,
	/* any subsystem but sftp, which is opened by UPLOAD or DOWNLOAD */
	SP_RIGHT_SUBSYSTEM = 1 << 2,
	SP_RIGHT_UPLOAD = 1 << 3,	/* sftp and scp: write at the target */
	SP_RIGHT_DOWNLOAD = 1 << 4,	/* sftp and scp: read at the target */
	SP_RIGHT_FORWARD = 1 << 5,	/* -L, -D, -W: only to `forward` */
	SP_RIGHT_LISTEN = 1 << 6,	/* -R: only on `listen` */
	SP_RIGHT_SQL = 1 << 7,		/* the connection to a database */
};
#define SP_RIGHT_ALL 0xffu
/* Beyond ALL: no policy gives it and no grant has it. A session of the broker's
 * own that sets a secret at its target; it opens ROTATE and nothing else. */
#define SP_RIGHT_ROTATE 0x100u

enum sp_body {			/* what a recording keeps of bulk content */
	SP_BODY_FULL = 0,
	SP_BODY_DIGEST = 1,	/* SHA-256 and length instead of the bytes */
};

/* What waits at the recorder until a second person lets it go on. */
enum sp_hold {
	SP_HOLD_LINES = 1 << 0,		/* each Enter, each command */
	SP_HOLD_TRANSFERS = 1 << 1,	/* each file that is opened */
};
#define SP_HOLD_ALL 3u

#define SP_RULES_FORWARDS 32
#define SP_RULES_PATHS 32
#define SP_RULES_ENV 16
#define SP_RULES_HOST_MAX 255		/* bytes */
#define SP_RULES_PATTERN_MAX 255	/* bytes */
#define SP_RULES_ENCODED_MAX 32768	/* bytes */

struct sp_rule_forward {
	/* A name or numeric address as the client says it, compared without
	 * case (addresses by value); "10.0.0.0/8" is every numeric address in
	 * it; "*" is any host. For listen: the address to bind. */
	char host[SP_RULES_HOST_MAX + 1];
	uint16_t low, high;	/* ports, both included; 0 and 65535: any */
};

/* A path pattern: '*' and '?' do not match '/', "**" matches everything. A
 * path is made absolute against the directory that the server's realpath of
 * "." said, and "." and ".." are resolved, before it is compared; one that
 * cannot be resolved matches no permit and every forbid. Of all patterns that
 * match, a forbid wins; if there is any permit for an operation, a path that
 * matches none of them is refused. */
struct sp_rule_path {
	bool forbid;
	uint32_t ops;		/* SP_RIGHT_UPLOAD and/or SP_RIGHT_DOWNLOAD */
	char pattern[SP_RULES_PATTERN_MAX + 1];
};

struct sp_rules {
	uint32_t rights;	/* enum sp_rights */
	uint8_t file_body;	/* enum sp_body: bodies of sftp and scp files */
	uint8_t exec_body;	/* enum sp_body: exec without a terminal */
	uint8_t hold;		/* enum sp_hold */
	uint32_t idle_s;	/* seconds without a byte from the user; 0: none */
	uint64_t file_max;	/* bytes of one file; 0: no limit */
	uint64_t session_max;	/* bytes of all files of the session; 0: none */
	uint16_t n_forward, n_listen, n_path, n_env;
	struct sp_rule_forward forward[SP_RULES_FORWARDS];
	struct sp_rule_forward listen[SP_RULES_FORWARDS];
	struct sp_rule_path path[SP_RULES_PATHS];
	/* names of environment variables, '*' at the end is any rest */
	char env[SP_RULES_ENV][64];
};

SP_MUST enum sp_err sp_rules_encode(struct sp_buf *b, const struct sp_rules *r);
/* SP_ERR_PROTO on anything that encode would not have made; *r then permits
 * nothing. Places of the lists beyond their counts are left as they were. */
SP_MUST enum sp_err sp_rules_decode(struct sp_span s, struct sp_rules *r);
/* May a channel be opened to this host and port? list is r->forward/listen. */
bool sp_rules_reach(const struct sp_rule_forward *list, size_t n,
    struct sp_span host, uint32_t port);
/* May op (one of UPLOAD, DOWNLOAD) be done on this absolute, clean path? Looks
 * at the right and at the patterns; why gets a text for the user. */
bool sp_rules_path(const struct sp_rules *r, uint32_t op, struct sp_span path,
    char *why, size_t n_why);
bool sp_rules_env(const struct sp_rules *r, struct sp_span name);

#endif
