/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_SHIP_SHIPD_H
#define SP_SHIP_SHIPD_H

#include "common/ipc.h"
#include "common/log.h"
#include "common/sandbox.h"
#include "ship/s3.h"

/*
 * sallyport-ship: carries recordings to the store and back. It has one recording
 * at a time, as a descriptor; the key of the store, from the vault, while it works;
 * and connections that the supervisor began, to no other address than the
 * configuration's. It keeps nothing: what an upload has reached the store knows, so
 * that whoever comes after a kill -9 goes on from there.
 *
 *   main.c     start, sandbox
 *   loop.c     one job after the other; the links
 *   job.c      send, drop, fetch, erase
 *   parts.c    large recordings, in parts
 *   digest.c   what the bytes on this disk are
 *   s3.c xml.c the store
 */
#define SP_SHIP_PARTS_MAX 10000u

/* What a recording is, read once: of all, and of each part. */
struct sp_digest {
	uint64_t size, part;
	uint8_t sha256[32];
	size_t n_parts;		/* at least 1 */
	uint8_t (*parts)[32];	/* SHA-256 of each */
	uint8_t (*md5)[16];	/* of each: what stores call the ETag */
};

struct sp_job {
	uint64_t id;
	enum sp_ship_what what;
	int fd;
	uint64_t size;
	uint8_t sha256[32];
	char key[400];
	struct sp_digest d;
	enum sp_ship_how how;
	bool is_other;		/* other bytes stand under its key */
	char text[256];		/* why not */
};

struct sp_ship {
	struct sp_link sup, vlt;
	struct sp_config cfg;
	struct sp_storelock lock;
	struct sp_buf ca;
	struct sp_s3_ops ops;
	struct sp_s3 s3;
	bool has_job, stop;
	int64_t alive_us;		/* boot clock: when to say that it goes on */
	struct sp_job job;
	struct sp_msg_ship_file next;	/* as it came */
	/* answers that a job waits for */
	int dialed;			/* a socket; -1: none */
	bool has_dial, has_key;
	enum sp_err key_err;
	char access[257], secret[257];
};

SP_MUST enum sp_err sp_ship_loop(struct sp_ship *s);
/* Serves the links while a job goes on; false: it is to end. */
bool sp_ship_goes_on(void *arg);
int sp_ship_dial(void *arg, unsigned index);

/* job.c: SP_OK: what ship_done says is true. */
SP_MUST enum sp_err sp_job_run(struct sp_ship *s, struct sp_job *j);
void sp_job_fini(struct sp_job *j);
/* Headers of what is created: object lock. At most three, into room of the
 * caller's; returns how many. */
size_t sp_job_lock_headers(const struct sp_ship *s, char room[static 3][96],
    const char **out);

/* parts.c */
SP_MUST enum sp_err sp_parts_send(struct sp_ship *s, struct sp_job *j);
/* What the store says of an object in parts: base64 of the SHA-256 of the parts'
 * digests, "-N". */
void sp_parts_digest(const struct sp_digest *d, char out[static SP_S3_DIGEST_TEXT]);

/* digest.c */
SP_MUST enum sp_err sp_digest_file(int fd, uint64_t part, struct sp_digest *d,
    bool (*goes_on)(void *arg), void *arg);
void sp_digest_fini(struct sp_digest *d);
void sp_sha256(struct sp_span s, uint8_t out[static 32]);
void sp_sha256_text(const uint8_t d[static 32], char out[static SP_S3_DIGEST_TEXT]);
struct sp_hash;
struct sp_hash *sp_hash_new(void);
void sp_hash_add(struct sp_hash *h, struct sp_span s);
void sp_hash_end(struct sp_hash *h, uint8_t out[static 32]);	/* frees it */

#endif
