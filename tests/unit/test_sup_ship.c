/* SPDX-License-Identifier: Apache-2.0 */
/* covers: bastion/supervisor/ship.c: no file goes on the broker's word alone. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/test_sup_rig.h"

static const uint8_t id[16] = {0x11, 0x22, [15] = 0x33};
static uint64_t asked;		/* the number of the last question */

static void
make_file(void)
{
	char path[400], text[SP_UUID_TEXT];
	struct stat st;
	int fd;

	sp_uuid_text(text, id);
	cr_assert_eq(stat(rig.inst, &st), 0);
	snprintf(path, sizeof(path), "%s/recordings/%s.spr", rig.inst, text);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, "x", 1), 1);
	cr_assert(geteuid() != 0 || fchown(fd, st.st_uid, st.st_gid) == 0);
	close(fd);
}

static void
ask(uint64_t number, uint8_t what)
{
	struct sp_msg_ship_job m = {.id = number, .what = what};

	memcpy(m.session, id, 16);
	cr_assert_eq(sp_send_ship_job(&rig.p[BRK].link, number, &m, NULL), SP_OK);
}

static uint8_t
result(uint64_t number)
{
	struct sp_msg_ship_result r;
	struct sp_packet k;

	expect(&rig.p[BRK].link, SP_MSG_ship_result, &k);
	cr_assert_eq(sp_dec_ship_result(k.body, &r), SP_OK);
	cr_expect_eq(r.id, number);
	return r.err;
}

/* The notary is asked about that recording, and says `err` of `of`. */
static void
say(uint8_t err, const uint8_t of[static 16])
{
	struct sp_msg_n_deleting d = {.err = err};
	struct sp_msg_n_erase m;
	struct sp_packet k;

	expect(&rig.p[NTY].link, SP_MSG_n_erase, &k);
	cr_assert_eq(sp_dec_n_erase(k.body, &m), SP_OK);
	cr_expect_eq(memcmp(m.session, id, 16), 0);
	asked = k.corr;
	memcpy(d.session, of, 16);
	cr_assert_eq(sp_send_n_deleting(&rig.p[NTY].link, asked, &d, NULL), SP_OK);
}

Test(sup_ship, an_end_needs_its_leaf, .timeout = 120)
{
	static const uint8_t other[16] = {0x44};
	struct sp_msg_n_deleting d = {.err = SP_OK};
	struct stat st;

	rig_up("");
	make_file();
	/* What nobody asked for does nothing. */
	memcpy(d.session, id, 16);
	cr_assert_eq(sp_send_n_deleting(&rig.p[NTY].link, 0, &d, NULL), SP_OK);
	ask(1, SP_SHIP_ERASE);
	say(SP_ERR_NOTFOUND, id);
	cr_expect_eq(result(1), SP_ERR_NOTFOUND);
	ask(2, SP_SHIP_ERASE);
	say(SP_ERR_DENIED, id);
	cr_expect_eq(result(2), SP_ERR_DENIED);
	/* The leaf of another one is none: it is still waited for. */
	ask(3, SP_SHIP_ERASE);
	say(SP_OK, other);
	cr_expect(has_file(id, "spr", &st));
	/* Nor is an answer to an earlier question. */
	memcpy(d.session, id, 16);
	cr_assert_eq(sp_send_n_deleting(&rig.p[NTY].link, asked - 1, &d, NULL), SP_OK);
	d.err = SP_ERR_STATE;
	cr_assert_eq(sp_send_n_deleting(&rig.p[NTY].link, asked, &d, NULL), SP_OK);
	cr_expect_eq(result(3), SP_ERR_STATE);
	cr_expect(has_file(id, "spr", &st));
	ask(4, SP_SHIP_ERASE);
	say(SP_OK, id);
	cr_expect_eq(result(4), SP_OK);
	cr_expect(!has_file(id, "spr", &st));
	/* It is gone already: that is what was asked. */
	ask(5, SP_SHIP_ERASE);
	say(SP_OK, id);
	cr_expect_eq(result(5), SP_OK);
	rig_down();
}

/* Who has the file open, or a second name of it, does not have the keys any more. */
Test(sup_ship, the_header_goes_before_the_name, .timeout = 120)
{
	char path[400], text[SP_UUID_TEXT], c = 1;
	int fd;

	rig_up("");
	make_file();
	sp_uuid_text(text, id);
	snprintf(path, sizeof(path), "%s/recordings/%s.spr", rig.inst, text);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	ask(1, SP_SHIP_ERASE);
	say(SP_OK, id);
	cr_expect_eq(result(1), SP_OK);
	cr_assert_eq(pread(fd, &c, 1, 0), 1);
	cr_expect_eq(c, 0);
	close(fd);
	rig_down();
}

Test(sup_ship, nothing_goes_where_there_is_no_store, .timeout = 120)
{
	struct stat st;

	rig_up("");
	make_file();
	for (uint8_t what = SP_SHIP_SEND; what <= SP_SHIP_FETCH; what++) {
		ask(what, what);
		cr_expect_eq(result(what), SP_ERR_STATE);
	}
	cr_expect(has_file(id, "spr", &st));
	rig_down();
}
