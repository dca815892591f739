/* SPDX-License-Identifier: Apache-2.0 */
/* The vault's part of a rotation: what it makes, by which rule, and to whom it
 * gives it. */
#include <criterion/criterion.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/kinds.h"
#include "tests/unit/vault_kit.h"
#include "vault/passgen.h"
#include "vault/rotate.h"

/* ------------------------------------------------------------------ the rule */

static enum sp_err
parse(const char *text, struct sp_pass_rule *r)
{
	char why[128];
	enum sp_err e = sp_pass_rule_parse(sp_span_str(text), r, why);

	cr_expect_eq(why[0] == '\0', e == SP_OK, "%s: %s", text, why);
	return e;
}

Test(pass_rule, what_is_a_rule)
{
	struct sp_pass_rule r;

	cr_expect_eq(parse("", &r), SP_OK);
	cr_expect(r.length == 24 && r.least == 1 && r.classes == 15 && r.n == 90);
	cr_expect_eq(parse("length=32 classes=lud least=3 forbid=0O1lI", &r), SP_OK);
	cr_expect(r.length == 32 && r.least == 3 && r.classes == 7 &&
	    r.n == 62 - 5);
	for (size_t i = 0; i < r.n; i++)
		cr_expect_null(strchr("0O1lI!-", r.set[i]));
}

Test(pass_rule, what_is_none)
{
	static const char *const wrong[] = {"length=11", "length=129", "length=",
	    "length=24 length=24", "length=024x", "classes=", "classes=lx",
	    "classes=ll", "least=9", "forbid=", "forbid=a b", "forbid=\n", " ",
	    "length=24 ", " length=24", "length=24  least=1", "what=1", "Length=24",
	    /* nothing left of a class; too little to guess; too much asked for */
	    "forbid=0123456789", "length=12 classes=d", "length=20 classes=d",
	    "length=12 least=2"};
	struct sp_pass_rule r;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		cr_expect_neq(parse(wrong[i], &r), SP_OK, "%s", wrong[i]);
	cr_expect_eq(parse("length=22 classes=d", &r), SP_OK);
}

Test(pass_rule, any_bytes)
{
	struct sp_pass_rule r;
	char text[64], why[128];

	for (unsigned i = 0; i < 20000; i++) {
		size_t n = randombytes_uniform(sizeof(text));

		for (size_t k = 0; k < n; k++)
			text[k] = "length=24 clase=udsforbid\0\xff"[
			    randombytes_uniform(27)];
		if (sp_pass_rule_parse(sp_span_of(text, n), &r, why) == SP_OK)
			cr_assert(r.n > 0 && r.length >= 12);
	}
}

/* --------------------------------------------------------------- the password */

struct count {
	unsigned next;
};

static uint8_t
next_of(void *arg)
{
	return (uint8_t)((struct count *)arg)->next++;
}

/* Every byte once: each of n comes out equally often, for every n. With a
 * remainder alone the first 256 % n would come once more. */
Test(passgen, no_number_is_likelier_than_another)
{
	for (unsigned n = 1; n <= 256; n++) {
		unsigned seen[256] = {0};
		struct count c = {0};

		while (c.next < 256) {
			uint8_t v = sp_pass_pick(n, next_of, &c);

			if (c.next <= 256)
				seen[v]++;
		}
		for (unsigned i = 0; i < n; i++)
			cr_assert_eq(seen[i], 256 / n, "%u of %u: %u", i, n, seen[i]);
	}
}

static void
follows(const struct sp_pass_rule *r, const struct sp_secret *s)
{
	unsigned have[4] = {0};

	cr_assert_eq(s->n, r->length);
	for (size_t i = 0; i < s->n; i++) {
		const char *at = memchr(r->set, s->p[i], r->n);

		cr_assert_not_null(at);
		have[r->class_of[at - r->set]]++;
	}
	for (unsigned k = 0; k < 4; k++)
		if ((r->classes & (1U << k)) != 0)
			cr_assert_geq(have[k], r->least);
}

Test(passgen, follows_any_rule)
{
	static const char *const rules[] = {"", "length=12", "length=128 least=8",
	    "classes=ld length=13", "classes=s length=17 forbid=!#$%&()",
	    "length=24 least=3", "classes=du length=40 forbid=012345678"};

	cr_assert_eq(sp_secret_init(), SP_OK);
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		struct sp_pass_rule r;

		cr_assert_eq(parse(rules[i], &r), SP_OK, "%s", rules[i]);
		for (unsigned k = 0; k < 300; k++) {
			SP_SECRET_AUTO s = {0};

			cr_assert_eq(sp_pass_make(&r, &s), SP_OK, "%s", rules[i]);
			follows(&r, &s);
		}
	}
	cr_expect_eq(sp_secret_in_use(), 0);
}

/* Chi-square over all characters of many passwords; 89 degrees of freedom: 180
 * is beyond one in a hundred million. */
Test(passgen, characters_are_even)
{
	struct sp_pass_rule r;
	unsigned seen[256] = {0};
	const unsigned rounds = 4000;
	double want, chi = 0;

	cr_assert_eq(sp_secret_init(), SP_OK);
	cr_assert_eq(parse("length=64 least=0", &r), SP_OK);
	for (unsigned k = 0; k < rounds; k++) {
		SP_SECRET_AUTO s = {0};

		cr_assert_eq(sp_pass_make(&r, &s), SP_OK);
		for (size_t i = 0; i < s.n; i++)
			seen[s.p[i]]++;
	}
	want = (double)rounds * 64 / (double)r.n;
	for (size_t i = 0; i < r.n; i++) {
		double d = (double)seen[(uint8_t)r.set[i]] - want;

		chi += d * d / want;
	}
	cr_expect_lt(chi, 180.0, "%f", chi);
}

/* ------------------------------------------------------------------ the lease */

struct made {
	uint8_t id[16], tag[32];
	uint64_t version;
	struct sp_buf sealed, public_key;
};

static void
make(struct kit *k, uint8_t kind, const uint8_t owner[static 16], struct made *m)
{
	struct sp_msg_v_rotate_make q = {.kind = kind, .version = ++m->version};

	sp_buf_init(&m->sealed, 8192);
	sp_buf_init(&m->public_key, 2048);
	sp_uuid_make(m->id);
	memcpy(q.id, m->id, 16);
	memcpy(q.owner, owner, 16);
	cr_assert_eq(sp_rotate_make(&k->root, &q, &m->sealed, m->tag,
	    &m->public_key), SP_OK);
}

static void
unmake(struct made *m)
{
	sp_buf_fini(&m->sealed);
	sp_buf_fini(&m->public_key);
}

static struct sp_msg_v_rotate_lease
wish(const struct kit *k, uint8_t kind, const struct made *old,
    const struct made *new, const uint8_t owner[static 16])
{
	struct sp_msg_v_rotate_lease m = {.account = sp_span_str("admin"),
	    .kind = kind, .new_version = new->version,
	    .new_sealed = sp_buf_span(&new->sealed)};

	memcpy(m.session, k->session, 16);
	memcpy(m.owner, owner, 16);
	memcpy(m.new_id, new->id, 16);
	if (old != NULL) {
		m.old_kind = kind;
		m.old_version = old->version;
		m.old_sealed = sp_buf_span(&old->sealed);
		memcpy(m.old_id, old->id, 16);
	}
	return m;
}

/* take_rotation: the answer's memfd into out; false: the link was closed. */
static bool
take(struct kit *k, struct sp_span session_id, uint8_t *out, size_t *n,
    struct sp_msg_rotation *r)
{
	struct sp_msg_take_rotation q = {.session_id = session_id};
	struct sp_packet p;
	enum sp_err e;

	if (sp_send_take_rotation(&k->link, 0, &q, NULL) != SP_OK)
		return false;
	kit_turn(k);
	do
		e = sp_link_recv(&k->link, &p);
	while (e == SP_OK && p.type != SP_MSG_rotation);
	if (e != SP_OK)
		return false;
	cr_assert_eq(sp_dec_rotation(p.body, r), SP_OK);
	*n = r->len;
	cr_assert_eq(pread(p.fds[0], out, 8192, 0), (ssize_t)r->len);
	/* Nobody can change it under its reader. */
	cr_expect_lt(pwrite(p.fds[0], "x", 1, 0), 0);
	close(p.fds[0]);
	return true;
}

static void
log_in(struct kit *k)
{
	SP_BUF_AUTO blob = {.max = 4096}, data = {.max = 8192};
	uint8_t sig[64];

	cr_assert_eq(kit_prove(k, &k->host, sp_span_of(k->session_id, 32)), 1);
	cr_assert_gt(kit_list(k, &blob), 0);
	kit_userauth(&data, sp_span_of(k->session_id, 32), "admin",
	    "ssh-connection", "publickey", sp_buf_span(&blob));
	cr_assert_eq(kit_sign(k, sp_buf_span(&blob), sp_buf_span(&data), sig), 14);
}

static void
begin(struct kit *k, struct sp_msg_v_lease *m)
{
	cr_assert_eq(sp_secret_init(), SP_OK);
	kit_begin(k);
	*m = kit_wish(k, SP_CRED_SSH_CERT, 60000000);
	cr_assert_eq(kit_grant(k, m), SP_OK);
	cr_assert_eq(kit_link(k), SP_OK);
}

Test(rotation, the_egress_that_logged_in_gets_both_once)
{
	struct made old = {0}, new = {.version = 6};
	struct sp_msg_v_rotate_lease w;
	struct sp_msg_v_lease m;
	struct sp_msg_rotation r;
	uint8_t out[8192];
	char text[256];
	struct kit k;
	size_t n = 0;

	begin(&k, &m);
	make(&k, SP_CRED_SSH_PASSWORD, m.target, &old);
	make(&k, SP_CRED_SSH_PASSWORD, m.target, &new);
	w = wish(&k, SP_CRED_SSH_PASSWORD, &old, &new, m.target);
	cr_assert_eq(sp_rotate_lease(k.t, &w, text), SP_OK, "%s", text);
	/* Not a second time over the first. */
	cr_expect_eq(sp_rotate_lease(k.t, &w, text), SP_ERR_STATE);
	log_in(&k);
	cr_assert(take(&k, sp_span_of(k.session_id, 32), out, &n, &r));
	cr_expect_eq(n, 8 + 24 + 24);
	cr_expect_eq(out[0], 24);
	cr_expect_neq(memcmp(out + 4, out + 32, 24), 0);
	cr_expect_arr_eq(r.new_tag, new.tag, 32);
	cr_expect_arr_eq(r.old_tag, old.tag, 32);
	cr_expect(sp_span_is(r.account, "admin"));
	cr_expect_not(take(&k, sp_span_of(k.session_id, 32), out, &n, &r));
	cr_expect_str_eq(k.what, "rotation_not_granted");
	unmake(&old);
	unmake(&new);
	kit_end(&k);
}

Test(rotation, of_a_key_only_the_public_half)
{
	struct made old = {0}, new = {.version = 1};
	struct sp_msg_v_rotate_lease w;
	struct sp_msg_v_lease m;
	struct sp_msg_rotation r;
	struct sp_span at;
	uint8_t out[8192];
	char text[256];
	struct kit k;
	size_t n = 0;

	begin(&k, &m);
	make(&k, SP_CRED_SSH_KEY, m.target, &old);
	make(&k, SP_CRED_SSH_KEY, m.target, &new);
	w = wish(&k, SP_CRED_SSH_KEY, &old, &new, m.target);
	cr_assert_eq(sp_rotate_lease(k.t, &w, text), SP_OK, "%s", text);
	log_in(&k);
	cr_assert(take(&k, sp_span_of(k.session_id, 32), out, &n, &r));
	at = sp_buf_span(&old.public_key);
	cr_assert_eq(n, 8 + 2 * at.n);
	cr_expect_arr_eq(out + 4, at.p, at.n);
	at = sp_buf_span(&new.public_key);
	cr_expect_arr_eq(out + 8 + at.n, at.p, at.n);
	unmake(&old);
	unmake(&new);
	kit_end(&k);
}

static const struct refusal {
	const char *name, *event;
	bool grants, logs_in, other_session;
} refusals[] = {
    {"before the login", "rotation_before_login", true, false, false},
    {"without a rotation", "rotation_not_granted", false, true, false},
    {"of another session", "rotation_for_other_session", true, true, true},
};

Test(rotation, who_gets_nothing)
{
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		const struct refusal *f = &refusals[i];
		struct made new = {0};
		struct sp_msg_v_rotate_lease w;
		struct sp_msg_v_lease m;
		struct sp_msg_rotation r;
		uint8_t out[8192], other[32] = {9};
		char text[256];
		struct kit k;
		size_t n;

		begin(&k, &m);
		make(&k, SP_CRED_SSH_PASSWORD, m.target, &new);
		w = wish(&k, SP_CRED_SSH_PASSWORD, NULL, &new, m.target);
		if (f->grants)
			cr_assert_eq(sp_rotate_lease(k.t, &w, text), SP_OK);
		if (f->logs_in)
			log_in(&k);
		else
			cr_assert_eq(kit_prove(&k, &k.host,
			    sp_span_of(k.session_id, 32)), 1);
		cr_expect_not(take(&k, sp_span_of(f->other_session ? other :
		    k.session_id, 32), out, &n, &r), "%s", f->name);
		cr_expect_str_eq(k.what, f->event, "%s: %s", f->name, k.what);
		unmake(&new);
		kit_end(&k);
	}
}

Test(rotation, what_is_anothers_is_not_added)
{
	struct made new = {0}, there = {0};
	uint8_t elsewhere[16] = {7};
	struct sp_msg_v_rotate_lease w;
	struct sp_msg_v_lease m;
	char text[256];
	struct kit k;

	begin(&k, &m);
	make(&k, SP_CRED_SSH_PASSWORD, m.target, &new);
	make(&k, SP_CRED_SSH_PASSWORD, elsewhere, &there);
	w = wish(&k, SP_CRED_SSH_PASSWORD, NULL, &there, elsewhere);
	cr_expect_eq(sp_rotate_lease(k.t, &w, text), SP_ERR_DENIED);
	w = wish(&k, SP_CRED_SSH_PASSWORD, NULL, &there, m.target);
	cr_expect_eq(sp_rotate_lease(k.t, &w, text), SP_ERR_CRYPTO);
	cr_expect_str_eq(k.what, "secret_row_broken");
	w = wish(&k, SP_CRED_SSH_PASSWORD, NULL, &new, m.target);
	w.new_version++;
	cr_expect_eq(sp_rotate_lease(k.t, &w, text), SP_ERR_CRYPTO);
	w = wish(&k, SP_CRED_SSH_PASSWORD, NULL, &new, m.target);
	w.kind = SP_CRED_TOTP_SEED;
	cr_expect_neq(sp_rotate_lease(k.t, &w, text), SP_OK);
	w = wish(&k, SP_CRED_SSH_PASSWORD, NULL, &new, m.target);
	w.account = sp_span_str("a:b\n");
	cr_expect_eq(sp_rotate_lease(k.t, &w, text), SP_ERR_DENIED);
	w.account = sp_span_str("admin");
	w.session[0] ^= 1;
	cr_expect_eq(sp_rotate_lease(k.t, &w, text), SP_ERR_STATE);
	unmake(&new);
	unmake(&there);
	kit_end(&k);
}

Test(rotation, no_weak_ones_and_nothing_while_sealed)
{
	struct sp_msg_v_rotate_make q = {.kind = SP_CRED_SSH_PASSWORD,
	    .version = 2, .rule = sp_span_str("length=1")};
	SP_BUF_AUTO sealed = {.max = 8192}, key = {.max = 2048};
	struct sp_msg_v_lease m;
	uint8_t tag[32];
	struct kit k;

	begin(&k, &m);
	q.id[0] = q.owner[0] = 1;
	cr_expect_eq(sp_rotate_make(&k.root, &q, &sealed, tag, &key), SP_ERR_SYNTAX);
	q.rule = sp_span_str("classes=d length=12");
	cr_expect_eq(sp_rotate_make(&k.root, &q, &sealed, tag, &key), SP_ERR_INVAL);
	q.rule = sp_span_str("");
	q.kind = SP_CRED_SSH_CERT;
	cr_expect_eq(sp_rotate_make(&k.root, &q, &sealed, tag, &key), SP_ERR_INVAL);
	q.kind = SP_CRED_SSH_PASSWORD;
	q.version = 0;
	cr_expect_eq(sp_rotate_make(&k.root, &q, &sealed, tag, &key), SP_ERR_INVAL);
	q.version = 1;
	sp_root_close(&k.root);
	cr_expect_eq(sp_rotate_make(&k.root, &q, &sealed, tag, &key),
	    SP_ERR_SEALED);
	cr_expect_eq(sealed.len, 0);
	kit_end(&k);
}
