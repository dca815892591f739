/* SPDX-License-Identifier: Apache-2.0 */
/* A backup as an archive may give it back. First byte odd: any file. Even: messages
 * of any content and order, sealed as they should be, by somebody who has the key
 * (a passphrase is a choice): what is read to its end has the counts that it says,
 * and one bit changed anywhere in it is never read to its end. */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bastion/cli/backup.h"

#define TOTAL_MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t key[SP_BK_KEY];

struct read {
	enum sp_err e;
	uint64_t files, bytes;
	unsigned n;
};

/* Everything, as `restore` reads it. */
static struct read
read_all_of(int fd)
{
	static uint8_t buf[SP_BK_PIECE + 1];
	static struct sp_bk b;
	struct read r = {0};
	struct sp_bk_header h;
	struct sp_span body;
	enum sp_bk_what what;
	uint8_t ad[32];

	SP_ASSERT(lseek(fd, 0, SEEK_SET) == 0);
	r.e = sp_bk_read_header(fd, &h, ad);
	if (r.e == SP_OK) {
		SP_ASSERT(h.n_wrapped <= sizeof(h.wrapped));
		SP_ASSERT(memchr(h.node, 0, sizeof(h.node)) != NULL);
		SP_ASSERT(memchr(h.id, 0, sizeof(h.id)) != NULL);
		r.e = sp_bk_open(&b, fd, &h, ad, key);
	}
	while (r.e == SP_OK && (r.e = sp_bk_get(&b, buf, &what, &body)) == SP_OK) {
		SP_ASSERT(what >= SP_BK_FILE && what <= SP_BK_DONE);
		SP_ASSERT(body.n <= SP_BK_PIECE);
		r.files += what == SP_BK_FILE;
		r.bytes += what == SP_BK_DATA ? body.n : 0;
		SP_ASSERT(++r.n <= TOTAL_MAX);
	}
	if (r.e == SP_ERR_EOF)
		SP_ASSERT(r.files == b.files && r.bytes == b.bytes);
	sp_bk_fini(&b);
	sp_bk_header_fini(&h);
	return r;
}

/* u8 what, of which the highest bit is the final tag; u8 bytes; those. */
static bool
put_messages(struct sp_bk *b, const uint8_t *p, size_t n)
{
	uint8_t out[512];
	bool is_whole = false;

	while (n >= 2) {
		size_t len = p[1] < n - 2 ? p[1] : n - 2;
		uint8_t clear[256] = {p[0] & 0x7f};
		unsigned long long got = 0;
		uint8_t tag = (p[0] & 0x80) != 0 ?
		    crypto_secretstream_xchacha20poly1305_TAG_FINAL :
		    crypto_secretstream_xchacha20poly1305_TAG_MESSAGE;
		SP_BUF_AUTO head = {.max = 4};

		memcpy(clear + 1, p + 2, len);
		SP_ASSERT(crypto_secretstream_xchacha20poly1305_push(&b->st, out,
		    &got, clear, len + 1, b->ad, sizeof(b->ad), tag) == 0);
		SP_ASSERT(sp_buf_put_u32(&head, (uint32_t)got) == SP_OK);
		SP_ASSERT(write(b->fd, sp_buf_span(&head).p, 4) == 4);
		SP_ASSERT(write(b->fd, out, got) == (ssize_t)got);
		is_whole = p[0] == (SP_BK_DONE | 0x80);
		p += 2 + len;
		n -= 2 + len;
	}
	return is_whole;
}

static void
sealed(int fd, const uint8_t *data, size_t size)
{
	static struct sp_bk b;
	struct sp_bk_header h = {.made_us = 1, .schema = 2, .node = "n",
	    .state = {.max = 64}};
	uint8_t byte;
	off_t end, at;

	SP_ASSERT(sp_bk_begin(&b, fd, &h, key) == SP_OK);
	sp_buf_fini(&h.state);
	if (put_messages(&b, data + 1, size - 1) &&
	    read_all_of(fd).e == SP_ERR_EOF) {
		end = lseek(fd, 0, SEEK_END);
		at = (off_t)(data[0] * 2654435761u % (uint32_t)end);
		SP_ASSERT(pread(fd, &byte, 1, at) == 1);
		byte ^= 1;
		SP_ASSERT(pwrite(fd, &byte, 1, at) == 1);
		SP_ASSERT(read_all_of(fd).e != SP_ERR_EOF);
	} else {
		SP_ASSERT(read_all_of(fd).e != SP_OK);
	}
	sp_bk_fini(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd;

	if (size < 1 || size > TOTAL_MAX || sodium_init() < 0)
		return 0;
	fd = memfd_create("backup", MFD_CLOEXEC);
	SP_ASSERT(fd >= 0);
	if ((data[0] & 1) == 0) {
		sealed(fd, data, size);
	} else {
		SP_ASSERT(write(fd, data + 1, size - 1) == (ssize_t)(size - 1));
		SP_ASSERT(read_all_of(fd).e != SP_OK);
	}
	close(fd);
	return 0;
}
