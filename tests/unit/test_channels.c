/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The recorder's judgement, generated: every frame from each side in every
 * state of a channel and of a listener, against a table that can be read. Both
 * legs lie here.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "recorder/channels.h"

#define SIDES 2	/* 0: the target's, 1: the user's */
#define PROC 5		/* a shell */
#define FWD 6		/* -L */
#define REV (SP_STREAM_REVERSE + 7)	/* came to a listener */
#define LSN 3

static const struct sp_rules rules = {.rights = SP_RIGHT_SHELL |
    SP_RIGHT_FORWARD | SP_RIGHT_LISTEN, .n_forward = 1, .n_listen = 1,
    .forward = {{.host = "db", .low = 5432, .high = 5432}},
    .listen = {{.host = "localhost", .low = 0, .high = 9000}}};

static struct sp_channels s;
static struct sp_buf pay = {.max = 65536};

static enum sp_frame_verdict
judge(bool from_user, uint8_t type, uint32_t chan, struct sp_span p)
{
	struct sp_frame f = {.type = type, .chan = chan, .payload = p};

	return sp_channels_judge(&s, &f, from_user);
}

static struct sp_span
open_of(uint8_t kind, const char *host, uint32_t port, uint32_t listen)
{
	struct sp_open o = {.kind = kind, .host = sp_span_str(host),
	    .port = port, .listen = listen};

	sp_buf_reset(&pay);
	cr_assert_eq(sp_open_encode(&pay, &o), SP_OK);
	return sp_buf_span(&pay);
}

static struct sp_span
listen_of(const char *host, uint32_t port)
{
	sp_buf_reset(&pay);
	cr_assert_eq(sp_buf_put_bytes(&pay, sp_span_str(host)), SP_OK);
	cr_assert_eq(sp_buf_put_u32(&pay, port), SP_OK);
	return sp_buf_span(&pay);
}

static void
must(enum sp_frame_verdict want, enum sp_frame_verdict got)
{
	cr_assert_eq(got, want, "%d instead of %d: %s", got, want, s.why);
}

static const struct sp_span none;
static const struct sp_span port_8080 = {(const uint8_t *)"\x90\x1f\0\0", 4};

static void
listener(void)
{
	sp_channels_init(&s, &rules);
	must(SP_FRAME_PASS, judge(true, SP_FRAME_LISTEN, LSN,
	    listen_of("localhost", 8080)));
}

static void
live_listener(void)
{
	listener();
	must(SP_FRAME_PASS, judge(false, SP_FRAME_LISTEN_OK, LSN, port_8080));
}

/* ------------------------------------------------------- states of a channel */

enum { OPENING, OPEN, FAILED, HALF_U, HALF_T, SHUT_U, SHUT_T, GONE, N_STATES };
static const char *const state_names[N_STATES] = {"opening", "open", "failed",
    "user's EOF", "target's EOF", "closed by user", "closed by target", "gone"};

/* `kind`: PROC, FWD or REV; the opener of the last is the target. */
static void
bring(uint32_t chan, int state)
{
	bool opener = chan != REV;

	live_listener();
	must(SP_FRAME_PASS, judge(opener, SP_FRAME_OPEN, chan,
	    chan == PROC ? open_of(SP_OPEN_SHELL, "", 0, 0) :
	    chan == FWD ? open_of(SP_OPEN_FORWARD, "db", 5432, 0) :
	    open_of(SP_OPEN_REVERSE, "localhost", 8080, LSN)));
	if (state == FAILED)
		must(SP_FRAME_PASS, judge(!opener, SP_FRAME_OPEN_FAIL, chan, none));
	if (state == OPENING || state == FAILED)
		return;
	must(SP_FRAME_PASS, judge(!opener, SP_FRAME_OPEN_OK, chan, none));
	if (state == HALF_U || state == HALF_T)
		must(SP_FRAME_PASS, judge(state == HALF_U, SP_FRAME_EOF, chan,
		    none));
	if (state == SHUT_U || state == GONE)
		must(SP_FRAME_PASS, judge(true, SP_FRAME_CLOSE, chan, none));
	if (state == SHUT_T || state == GONE)
		must(SP_FRAME_PASS, judge(false, SP_FRAME_CLOSE, chan, none));
}

/*
 * A letter a state, in the order above: P pass, D drop, F fault. `who`: O the
 * opener, A the one that answers; U the user, T the target (as PROC's opener and
 * answerer). Kinds: p program, f forward either way.
 *
 * What is written is what each end may say; nothing else is checked after it.
 */
static const struct {
	uint8_t type;
	char who;
	const char *kinds;
	const char *verdicts;
} table[] = {
    /*				     o O f u t U T G */
    {SP_FRAME_OPEN_OK, 'O', "pf",	"FFFFFFFF"},
    {SP_FRAME_OPEN_OK, 'A', "pf",	"PFFFFFFF"},
    {SP_FRAME_OPEN_FAIL, 'O', "pf",	"FFFFFFFF"},
    {SP_FRAME_OPEN_FAIL, 'A', "pf",	"PFFFFFFF"},
    {SP_FRAME_DATA, 'O', "pf",		"PPDoaxyF"},
    {SP_FRAME_DATA, 'A', "pf",		"FPFaoyxF"},
    {SP_FRAME_EOF, 'O', "pf",		"PPDoaxyF"},
    {SP_FRAME_EOF, 'A', "pf",		"FPFaoyxF"},
    {SP_FRAME_CREDIT, 'O', "pf",	"PPDPPuvD"},
    {SP_FRAME_CREDIT, 'A', "pf",	"PPPPPvuD"},
    {SP_FRAME_CLOSE, 'O', "pf",		"PPPPPxyF"},
    {SP_FRAME_CLOSE, 'A', "pf",		"PPPPPyxF"},
    {SP_FRAME_WINDOW, 'U', "p",		"PPDPPFPF"},
    {SP_FRAME_WINDOW, 'U', "f",		"FFFFFFFF"},
    {SP_FRAME_WINDOW, 'T', "pf",	"FFFFFFFF"},
    {SP_FRAME_SIGNAL, 'U', "p",		"PPDPPFPF"},
    {SP_FRAME_SIGNAL, 'U', "f",		"FFFFFFFF"},
    {SP_FRAME_SIGNAL, 'T', "pf",	"FFFFFFFF"},
    {SP_FRAME_BREAK, 'U', "p",		"PPDPPFPF"},
    {SP_FRAME_BREAK, 'U', "f",		"FFFFFFFF"},
    {SP_FRAME_BREAK, 'T', "pf",		"FFFFFFFF"},
    {SP_FRAME_EXIT_STATUS, 'T', "p",	"FPFPPPFF"},
    {SP_FRAME_EXIT_STATUS, 'T', "f",	"FFFFFFFF"},
    {SP_FRAME_EXIT_STATUS, 'U', "pf",	"FFFFFFFF"},
    {SP_FRAME_EXIT_SIGNAL, 'T', "p",	"FPFPPPFF"},
    {SP_FRAME_EXIT_SIGNAL, 'T', "f",	"FFFFFFFF"},
    {SP_FRAME_EXIT_SIGNAL, 'U', "pf",	"FFFFFFFF"},
    /* Only the bastion says these, never a leg. */
    {SP_FRAME_NOTICE, 'T', "pf",	"FFFFFFFF"},
    {SP_FRAME_END, 'U', "pf",		"FFFFFFFF"},
    {SP_FRAME_END, 'T', "pf",		"FFFFFFFF"},
    {SP_FRAME_HANDOVER, 'T', "pf",	"FFFFFFFF"},
    /* On a rotation's channel alone; test_rotate_wire has its table. */
    {SP_FRAME_WANTS, 'T', "pf",		"FFFFFFFF"},
    {SP_FRAME_SECRET, 'U', "pf",	"FFFFFFFF"},
    {SP_FRAME_SECRET, 'T', "pf",	"FFFFFFFF"},
    /* A channel's number is no listener's. */
    {SP_FRAME_LISTEN, 'U', "pf",	"FFFFFFFF"},
    {SP_FRAME_LISTEN_OK, 'T', "pf",	"FFFFFFFF"},
    {SP_FRAME_LISTEN_FAIL, 'T', "pf",	"FFFFFFFF"},
    {SP_FRAME_OPEN, 'O', "pf",		"FFFFFFFF"},
    {SP_FRAME_OPEN, 'A', "pf",		"FFFFFFFF"},
};
#define N_ROWS (sizeof(table) / sizeof(table[0]))

/* The lower letters depend on who said the EOF or CLOSE of that state: o, x, u
 * where the user did it; a, y, v where the target did. */
static enum sp_frame_verdict
expected(char c, bool from_user, int state)
{
	bool mine = from_user == (state == HALF_U || state == SHUT_U);

	switch (c) {
	case 'P':
		return SP_FRAME_PASS;
	case 'D':
		return SP_FRAME_DROP;
	case 'o':
	case 'a':
	case 'x':
	case 'y':
		return mine ? SP_FRAME_FAULT : SP_FRAME_PASS;
	case 'u':
	case 'v':
		return mine ? SP_FRAME_DROP : SP_FRAME_PASS;
	default:
		return SP_FRAME_FAULT;
	}
}

static struct sp_span
payload(uint8_t type)
{
	switch (type) {
	case SP_FRAME_OPEN:
		return open_of(SP_OPEN_SHELL, "", 0, 0);
	case SP_FRAME_LISTEN:
		return listen_of("localhost", 8080);
	case SP_FRAME_LISTEN_OK:
		return port_8080;
	case SP_FRAME_WINDOW:
		return sp_span_of("0123456789abcdef", 16);
	case SP_FRAME_DATA:
		return sp_span_str("x");
	case SP_FRAME_WANTS:
	case SP_FRAME_SECRET:
		return sp_span_of("\1", 1);
	case SP_FRAME_CREDIT:
	case SP_FRAME_BREAK:
	case SP_FRAME_EXIT_STATUS:
		return sp_span_of("\1\0\0\0", 4);
	default:
		return none;
	}
}

static unsigned
one_row(size_t i, uint32_t chan)
{
	bool opener_is_user = chan != REV;
	unsigned n = 0;

	for (int state = 0; state < N_STATES; state++) {
		char who = table[i].who;
		bool from_user = who == 'U' || (who == 'O' && opener_is_user) ||
		    (who == 'A' && !opener_is_user);
		enum sp_frame_verdict v, want = expected(
		    table[i].verdicts[state], from_user, state);

		bring(chan, state);
		v = judge(from_user, table[i].type, chan, payload(table[i].type));
		cr_assert_eq(v, want, "%s by the %s on %x, %s: %d, not %d: %s",
		    sp_frame_name(table[i].type), from_user ? "user" : "target",
		    chan, state_names[state], v, want, s.why);
		cr_assert((v != SP_FRAME_FAULT) || s.why[0] != '\0');
		n++;
	}
	return n;
}

Test(channels, every_frame_in_every_state)
{
	unsigned n = 0;

	for (size_t i = 0; i < N_ROWS; i++) {
		cr_assert_eq(strlen(table[i].verdicts), N_STATES);
		if (strchr(table[i].kinds, 'p') != NULL)
			n += one_row(i, PROC);
		if (strchr(table[i].kinds, 'f') != NULL)
			n += one_row(i, FWD) + one_row(i, REV);
	}
	printf("%u verdicts\n", n);
}

/* Nothing of the table is missing: each frame that a side may send has a row
 * for that side, for programs and for forwards. */
Test(channels, the_table_is_whole)
{
	for (uint8_t type = 1; type < 64; type++)
		for (int side = 0; side < SIDES; side++)
			for (const char *k = "pf"; *k != '\0'; k++) {
				bool found = false;

				if (!sp_frame_may(type, side == 1, 0) ||
				    type == SP_FRAME_UNLISTEN)
					continue;
				for (size_t i = 0; i < N_ROWS; i++)
					found |= table[i].type == type &&
					    strchr(table[i].kinds, *k) != NULL &&
					    (strchr("OA", table[i].who) != NULL ||
					    table[i].who == (side == 1 ? 'U' : 'T'));
				cr_assert(found, "%s from side %d, kind %c",
				    sp_frame_name(type), side, *k);
			}
}

/* ------------------------------------------------------------------ listeners */

enum { NEVER, ASKED, LIVE, LEFT_EARLY, LEFT, DENIED, N_LISTEN };
static const char *const listen_names[N_LISTEN] = {"never", "asked", "live",
    "left before the answer", "left", "denied"};

static void
bring_listener(int state)
{
	sp_channels_init(&s, &rules);
	if (state == NEVER)
		return;
	listener();
	if (state == LEFT_EARLY)
		must(SP_FRAME_PASS, judge(true, SP_FRAME_UNLISTEN, LSN, none));
	if (state == DENIED)
		must(SP_FRAME_PASS, judge(false, SP_FRAME_LISTEN_FAIL, LSN, none));
	if (state == LIVE || state == LEFT)
		must(SP_FRAME_PASS, judge(false, SP_FRAME_LISTEN_OK, LSN,
		    port_8080));
	if (state == LEFT)
		must(SP_FRAME_PASS, judge(true, SP_FRAME_UNLISTEN, LSN, none));
}

/* A letter a state: never asked live left-early left denied. R: refused. */
static const struct {
	uint8_t type;
	bool from_user;
	const char *verdicts;
} listens[] = {
    {SP_FRAME_LISTEN, true,		"PFFFFF"},
    {SP_FRAME_LISTEN, false,		"FFFFFF"},
    {SP_FRAME_LISTEN_OK, true,		"FFFFFF"},
    {SP_FRAME_LISTEN_OK, false,		"FPFDFF"},
    {SP_FRAME_LISTEN_FAIL, true,	"FFFFFF"},
    {SP_FRAME_LISTEN_FAIL, false,	"FPFDFF"},
    {SP_FRAME_UNLISTEN, true,		"FPPFDD"},
    {SP_FRAME_UNLISTEN, false,		"FFFFFF"},
    {SP_FRAME_OPEN, false,		"RRPRRR"},	/* REVERSE to it */
    {SP_FRAME_DATA, true,		"FFFFFF"},
    {SP_FRAME_DATA, false,		"FFFFFF"},
    {SP_FRAME_CLOSE, true,		"FFFFFF"},
    {SP_FRAME_CLOSE, false,		"FFFFFF"},
};

Test(channels, every_frame_in_every_state_of_a_listener)
{
	for (size_t i = 0; i < sizeof(listens) / sizeof(listens[0]); i++)
		for (int state = 0; state < N_LISTEN; state++) {
			uint8_t type = listens[i].type;
			char c = listens[i].verdicts[state];
			enum sp_frame_verdict v, want = c == 'P' ? SP_FRAME_PASS :
			    c == 'D' ? SP_FRAME_DROP : c == 'R' ?
			    SP_FRAME_REFUSE : SP_FRAME_FAULT;
			bool is_open = type == SP_FRAME_OPEN;

			bring_listener(state);
			v = judge(listens[i].from_user, type, is_open ? REV : LSN,
			    is_open ? open_of(SP_OPEN_REVERSE, "localhost", 8080,
			    LSN) : payload(type));
			cr_assert_eq(v, want, "%s by the %s, %s: %d, not %d: %s",
			    sp_frame_name(type), listens[i].from_user ? "user" :
			    "target", listen_names[state], v, want, s.why);
		}
}

/* ----------------------------------------------------------- what legs try on */

/* Each begins with a live listener LSN on localhost port 8080. */
static const struct {
	const char *name;
	bool from_user;
	uint8_t kind;		/* of an OPEN; 0: LISTEN */
	uint32_t chan;
	const char *host;
	uint32_t port, listen;
	enum sp_frame_verdict want;
} opens[] = {
    {"what is allowed", true, SP_OPEN_FORWARD, 9, "db", 5432, 0, SP_FRAME_PASS},
    {"in capitals", true, SP_OPEN_FORWARD, 9, "DB", 5432, 0, SP_FRAME_PASS},
    {"another port", true, SP_OPEN_FORWARD, 9, "db", 5433, 0, SP_FRAME_REFUSE},
    {"another host", true, SP_OPEN_FORWARD, 9, "db2", 5432, 0,
	SP_FRAME_REFUSE},
    {"a user's with bit 31", true, SP_OPEN_FORWARD, SP_STREAM_REVERSE + 9, "db",
	5432, 0, SP_FRAME_FAULT},
    {"a user's REVERSE", true, SP_OPEN_REVERSE, 9, "localhost", 8080, LSN,
	SP_FRAME_FAULT},
    {"LISTEN as a channel", true, SP_OPEN_LISTEN, 9, "localhost", 8080, 0,
	SP_FRAME_FAULT},
    {"a listener's number", true, SP_OPEN_FORWARD, LSN, "db", 5432, 0,
	SP_FRAME_FAULT},
    {"to a listener", false, SP_OPEN_REVERSE, REV, "localhost", 8080, LSN,
	SP_FRAME_PASS},
    {"without bit 31", false, SP_OPEN_REVERSE, 9, "localhost", 8080, LSN,
	SP_FRAME_FAULT},
    {"number 0", false, SP_OPEN_REVERSE, SP_STREAM_REVERSE, "localhost", 8080,
	LSN, SP_FRAME_FAULT},
    {"another's port", false, SP_OPEN_REVERSE, REV, "localhost", 8081, LSN,
	SP_FRAME_FAULT},
    {"another's host", false, SP_OPEN_REVERSE, REV, "0.0.0.0", 8080, LSN,
	SP_FRAME_FAULT},
    {"no listener of that number", false, SP_OPEN_REVERSE, REV, "localhost",
	8080, 77, SP_FRAME_REFUSE},
    {"a target's FORWARD", false, SP_OPEN_FORWARD, REV, "db", 5432, 0,
	SP_FRAME_FAULT},
    {"a database without the right", true, SP_OPEN_SQL, 9, "db", 5432, 0,
	SP_FRAME_REFUSE},
    {"a target's database", false, SP_OPEN_SQL, REV, "db", 5432, 0,
	SP_FRAME_FAULT},
    {"a target's shell", false, SP_OPEN_SHELL, REV, "", 0, 0, SP_FRAME_FAULT},
    {"a second listener", true, 0, 9, "localhost", 0, 0, SP_FRAME_PASS},
    {"a port beyond", true, 0, 9, "localhost", 9001, 0, SP_FRAME_REFUSE},
    {"every address", true, 0, 9, "", 8081, 0, SP_FRAME_REFUSE},
};

Test(channels, what_may_be_opened)
{
	for (size_t i = 0; i < sizeof(opens) / sizeof(opens[0]); i++) {
		enum sp_frame_verdict v;

		live_listener();
		v = judge(opens[i].from_user, opens[i].kind == 0 ?
		    SP_FRAME_LISTEN : SP_FRAME_OPEN, opens[i].chan,
		    opens[i].kind == 0 ? listen_of(opens[i].host, opens[i].port) :
		    open_of(opens[i].kind, opens[i].host, opens[i].port,
		    opens[i].listen));
		cr_assert_eq(v, opens[i].want, "%s: %d: %s", opens[i].name, v,
		    s.why);
	}
}

/* Without the rights the lists mean nothing. */
Test(channels, a_list_is_not_a_right)
{
	static struct sp_rules r;

	r = rules;
	r.rights = SP_RIGHT_SHELL;
	sp_channels_init(&s, &r);
	must(SP_FRAME_REFUSE, judge(true, SP_FRAME_OPEN, 1,
	    open_of(SP_OPEN_FORWARD, "db", 5432, 0)));
	cr_assert_str_eq(s.why, "forwarding to db port 5432 is not permitted in "
	    "this session");
	must(SP_FRAME_REFUSE, judge(true, SP_FRAME_LISTEN, 2,
	    listen_of("localhost", 8080)));
	cr_assert_str_eq(s.why, "listening on localhost port 8080 is not permitted "
	    "in this session");
}

Test(channels, the_target_cannot_name_another_port)
{
	static const char *const ports[] = {"\x91\x1f\0\0", "\0\0\0\0",
	    "\x90\x1f\1\0"};

	for (size_t i = 0; i < 3; i++) {
		listener();
		must(SP_FRAME_FAULT, judge(false, SP_FRAME_LISTEN_OK, LSN,
		    sp_span_of(ports[i], 4)));
	}
	/* Asked for any, it says which. */
	sp_channels_init(&s, &rules);
	must(SP_FRAME_PASS, judge(true, SP_FRAME_LISTEN, LSN,
	    listen_of("localhost", 0)));
	must(SP_FRAME_PASS, judge(false, SP_FRAME_LISTEN_OK, LSN,
	    sp_span_of("\x40\x9c\0\0", 4)));
	must(SP_FRAME_PASS, judge(false, SP_FRAME_OPEN, REV,
	    open_of(SP_OPEN_REVERSE, "localhost", 40000, LSN)));
}

/* ----------------------------------------------------------------- floods */

Test(channels, a_flood_of_opens_is_refused_and_then_ended)
{
	uint32_t n = 1;
	enum sp_frame_verdict v;

	sp_channels_init(&s, &rules);
	for (; n <= SP_STREAM_CHANNELS_MAX; n++)
		must(SP_FRAME_PASS, judge(true, SP_FRAME_OPEN, n,
		    open_of(SP_OPEN_FORWARD, "db", 5432, 0)));
	must(SP_FRAME_REFUSE, judge(true, SP_FRAME_OPEN, n,
	    open_of(SP_OPEN_FORWARD, "db", 5432, 0)));
	/* Closing one makes room, although the target has not closed it. */
	must(SP_FRAME_PASS, judge(true, SP_FRAME_CLOSE, n, none) ==
	    SP_FRAME_DROP ? SP_FRAME_PASS : SP_FRAME_FAULT);
	must(SP_FRAME_PASS, judge(true, SP_FRAME_CLOSE, 1, none));
	must(SP_FRAME_PASS, judge(true, SP_FRAME_OPEN, ++n,
	    open_of(SP_OPEN_FORWARD, "db", 5432, 0)));
	/* A target that never closes fills what is left, and no more. */
	do {
		must(SP_FRAME_PASS, judge(true, SP_FRAME_CLOSE, n, none));
		v = judge(true, SP_FRAME_OPEN, ++n,
		    open_of(SP_OPEN_FORWARD, "db", 5432, 0));
	} while (v == SP_FRAME_PASS && n < 10000);
	cr_assert_eq(v, SP_FRAME_REFUSE);
	cr_assert_lt(n, SP_CHANNELS_PLACES + 10u);
	/* Refused ones that nobody closes do not fill it either. */
	for (int i = 0; i < 5000; i++)
		must(SP_FRAME_REFUSE, judge(true, SP_FRAME_OPEN, ++n,
		    open_of(SP_OPEN_FORWARD, "db", 5432, 0)));
	cr_assert_leq(sp_channels_n_open(&s), SP_STREAM_CHANNELS_MAX);
}

Test(channels, a_flood_by_the_target)
{
	uint32_t n = SP_STREAM_REVERSE;

	live_listener();
	for (int i = 0; i < SP_STREAM_CHANNELS_MAX; i++)
		must(SP_FRAME_PASS, judge(false, SP_FRAME_OPEN, ++n,
		    open_of(SP_OPEN_REVERSE, "localhost", 8080, LSN)));
	for (int i = 0; i < 5000; i++)
		must(SP_FRAME_REFUSE, judge(false, SP_FRAME_OPEN, ++n,
		    open_of(SP_OPEN_REVERSE, "localhost", 8080, LSN)));
	/* The user is not harmed by it. */
	must(SP_FRAME_PASS, judge(true, SP_FRAME_OPEN, 9,
	    open_of(SP_OPEN_SHELL, "", 0, 0)));
	must(SP_FRAME_FAULT, judge(false, SP_FRAME_OPEN, n,
	    open_of(SP_OPEN_REVERSE, "localhost", 8080, LSN)));
}

Test(channels, a_flood_of_listeners)
{
	sp_channels_init(&s, &rules);
	for (uint32_t n = 1; n <= SP_STREAM_LISTENS_MAX; n++)
		must(SP_FRAME_PASS, judge(true, SP_FRAME_LISTEN, n,
		    listen_of("localhost", 0)));
	must(SP_FRAME_REFUSE, judge(true, SP_FRAME_LISTEN, 100,
	    listen_of("localhost", 0)));
	must(SP_FRAME_FAULT, judge(true, SP_FRAME_LISTEN, 100,
	    listen_of("localhost", 0)));
	must(SP_FRAME_PASS, judge(false, SP_FRAME_LISTEN_FAIL, 1, none));
	must(SP_FRAME_PASS, judge(true, SP_FRAME_LISTEN, 101,
	    listen_of("localhost", 0)));
}

/* Credit: what was granted and no byte more, in both directions of a REVERSE,
 * whose opener is the other side. */
Test(channels, credit_of_what_came_to_a_listener)
{
	static const uint8_t block[65536];

	for (int side = 0; side < SIDES; side++) {
		bring(REV, OPEN);
		for (uint32_t n = 0; n < SP_STREAM_WINDOW; n += sizeof(block))
			must(SP_FRAME_PASS, judge(side == 1, SP_FRAME_DATA, REV,
			    sp_span_of(block, sizeof(block))));
		must(SP_FRAME_FAULT, judge(side == 1, SP_FRAME_DATA, REV,
		    sp_span_of(block, 1)));
		must(SP_FRAME_PASS, judge(side == 0, SP_FRAME_CREDIT, REV,
		    sp_span_of("\1\0\0\0", 4)));
		must(SP_FRAME_PASS, judge(side == 1, SP_FRAME_DATA, REV,
		    sp_span_of(block, 1)));
		must(SP_FRAME_FAULT, judge(side == 1, SP_FRAME_DATA, REV,
		    sp_span_of(block, 1)));
		for (int i = 0; i < 1; i++)
			must(SP_FRAME_PASS, judge(side == 0, SP_FRAME_CREDIT, REV,
			    sp_span_of("\xff\xff\xff\xff", 4)));
		must(SP_FRAME_FAULT, judge(side == 0, SP_FRAME_CREDIT, REV,
		    sp_span_of("\xff\xff\xff\xff", 4)));
	}
}
