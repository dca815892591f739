/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_CLI_BACKUP_H
#define SP_CLI_BACKUP_H

#include <sodium.h>

#include "bastion/cli/cli.h"

/*
 * A backup file (doc/backup.md):
 *
 *   "SPBACKUP 1\n"  u32 length  header  { u32 length  message }...
 *
 * The header is clear: when and where, the vault's state (which is sealed in itself, and says which slots open it), the
 * file's key wrapped by the vault's root key and, if one was given, by a passphrase. The messages are libsodium's
 * secretstream (XChaCha20-Poly1305) under that key, each with the hash of all that stands before them as additional
 * data: their order, number and end are sealed, and the header with them.
 *
 * In the messages: a byte that says what follows, and at most SP_BK_PIECE bytes.
 */
#define SP_BK_MAGIC "SPBACKUP 1\n"
#define SP_BK_PIECE 65536
#define SP_BK_HEADER_MAX 262144
#define SP_BK_KEY crypto_secretstream_xchacha20poly1305_KEYBYTES
#define SP_BK_WRAP_MAX 128
enum sp_bk_what {
	SP_BK_FILE = 1,		/* u32 mode, str name */
	SP_BK_DATA = 2,
	SP_BK_END = 3,		/* of the file: u64 bytes */
	SP_BK_DONE = 4,		/* of all, with the stream's final tag: u64 files, u64 bytes */
};
struct sp_bk_header {
	uint64_t made_us, schema;
	char node[65], id[SP_UUID_TEXT];
	struct sp_buf state;		/* of the vault */
	uint8_t wrapped[SP_BK_WRAP_MAX];
	size_t n_wrapped;		/* 0: only the passphrase opens it */
	bool has_pass;
	uint8_t salt[crypto_pwhash_SALTBYTES];
	uint64_t ops, mem;
	uint8_t by_pass[crypto_secretbox_NONCEBYTES + SP_BK_KEY + crypto_secretbox_MACBYTES];
	uint8_t stream[crypto_secretstream_xchacha20poly1305_HEADERBYTES];
};

struct sp_bk {
	int fd;
	crypto_secretstream_xchacha20poly1305_state st;
	uint8_t ad[32];
	uint64_t files, bytes, of_file;
	crypto_generichash_state sum;	/* of all clear messages */
	bool is_over;
};
/* Wipes. */
void sp_bk_fini(struct sp_bk *b);
SP_MUST enum sp_err sp_bk_begin(struct sp_bk *b, int fd, struct sp_bk_header *h,
    const uint8_t key[static SP_BK_KEY]);
SP_MUST enum sp_err sp_bk_put(struct sp_bk *b, enum sp_bk_what what,
    struct sp_span body);
SP_MUST enum sp_err sp_bk_put_file(struct sp_bk *b, const char *name, mode_t mode,
    struct sp_span content);
SP_MUST enum sp_err sp_bk_done(struct sp_bk *b);
/* Reads the clear part; SP_ERR_SYNTAX for what is no backup, SP_ERR_UNSUPPORTED for a later form. */
SP_MUST enum sp_err sp_bk_read_header(int fd, struct sp_bk_header *h,
    uint8_t ad[static 32]);
void sp_bk_header_fini(struct sp_bk_header *h);
SP_MUST enum sp_err sp_bk_open(struct sp_bk *b, int fd,
    const struct sp_bk_header *h, const uint8_t ad[static 32],
    const uint8_t key[static SP_BK_KEY]);
/* The next message; SP_ERR_EOF after the last. SP_ERR_CRYPTO: cut, changed, or another key. */
SP_MUST enum sp_err sp_bk_get(struct sp_bk *b, uint8_t buf[static SP_BK_PIECE + 1],
    enum sp_bk_what *what, struct sp_span *body);
/* The key under a passphrase, and back. */
SP_MUST enum sp_err sp_bk_by_pass(struct sp_bk_header *h, struct sp_span pass,
    const uint8_t key[static SP_BK_KEY]);
SP_MUST enum sp_err sp_bk_from_pass(const struct sp_bk_header *h,
    struct sp_span pass, uint8_t key[static SP_BK_KEY]);

/* backup_key.c: how the file's key is had. */
struct sp_bk_ask {
	const struct sp_cli *c;
	const char *credential, *pass_file, *demo_key;
	bool by_pass, shares;
};
/* Of a vault that runs and is open; makes one when h has none. */
int sp_bk_key_of_vault(const struct sp_cli *c, struct sp_bk_header *h,
    uint8_t key[static SP_BK_KEY]);
/* From the passphrase, the instance's vault, or a vault that is started on the state in the header alone. */
int sp_bk_key(const struct sp_bk_ask *a, struct sp_bk_header *h,
    uint8_t key[static SP_BK_KEY]);
/* Every message of the file; says what is wrong. */
int sp_bk_check(const char *file, const struct sp_bk_header *h, int fd,
    const uint8_t ad[static 32], const uint8_t key[static SP_BK_KEY],
    uint64_t *files, uint64_t *bytes);
int sp_bk_open_file(const char *file, int *fd, struct sp_bk_header *h,
    uint8_t ad[static 32]);
void sp_bk_bar(const char *what, uint64_t done, uint64_t all);

int sp_cmd_backup(struct sp_cli *c, int argc, char **argv);
int sp_cmd_restore(struct sp_cli *c, int argc, char **argv);
/* After a start: the broker enters into the audit that this is a restored one. */
void sp_cli_restored(const struct sp_cli *c);

#endif
