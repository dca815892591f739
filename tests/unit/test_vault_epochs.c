/* SPDX-License-Identifier: Apache-2.0 */
/* Rotation of the vault's keys: what is old opens until it was made anew, what
 * is not of the vault never is, and a crash leaves a state that opens. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/vault_proc.h"
#include "vault/rows.h"
#include "vault/secrets.h"

TestSuite(vault_epochs, .timeout = 120);

static struct sp_state st, next;
static struct sp_root root, fresh;
static const uint8_t id[16] = {7};
static const struct sp_secret_row row = {.kind = SP_CRED_SSH_PASSWORD,
    .id = {9}, .owner = {8}, .version = 3};

static void
reopen(struct sp_root *r, const struct sp_state *s)
{
	SP_SECRET_AUTO k = {0};

	OK(sp_slots_open(s->slots, s->n_slots, sp_span_str(KIT_PASSPHRASE), &k));
	OK(sp_root_open_with(r, s, &k));
}

static void
open_kit(void)
{
	OK(sp_secret_init());
	kit_state(&st);
	reopen(&root, &st);
	next = st;
}

static bool
opens(const struct sp_root *r, const struct sp_buf *sealed)
{
	SP_SECRET_AUTO s = {0};

	return sp_secret_unseal(r, &row, sp_buf_span(sealed), &s) == SP_OK &&
	    sp_span_is(sp_span_of(s.p, s.n), "hunter2");
}

Test(vault_epochs, old_and_new_live_together_until_old_is_dropped)
{
	struct sp_span canon = sp_span_str("a row"), t = sp_span_str("people");
	struct sp_buf old = {.max = 4096}, now = {.max = 4096}, no = {.max = 4096};
	uint8_t mac[32], mac2[32], state;
	struct sp_secret_row later = row;
	struct sp_secret s = {0};

	open_kit();
	OK(sp_secret_seal(&root, &row, sp_span_str("hunter2"), &old));
	OK(sp_row_mac(&root, t, id, 1, canon, mac));
	OK(sp_root_add_epochs(&root, &next));
	cr_assert_eq(sp_root_n_old(&next), 2, "of rows and secrets");
	cr_assert_eq(next.n_keks, 6);
	OK(sp_root_sign_state(&root.root, &next));
	reopen(&fresh, &next);
	cr_assert(sp_span_eq(sp_span_of(fresh.audit_pk, 32),
	    sp_span_of(root.audit_pk, 32)));
	cr_assert(sp_span_eq(sp_span_of(fresh.rec.p, 32),
	    sp_span_of(root.rec.p, 32)));
	cr_assert(sp_span_eq(sp_span_of(fresh.ca.p, 64),
	    sp_span_of(root.ca.p, 64)));
	cr_assert_eq(root.host.n, 64);
	cr_assert(sp_span_eq(sp_span_of(fresh.host.p, 64),
	    sp_span_of(root.host.p, 64)));

	cr_assert(opens(&fresh, &old));
	OK(sp_secret_renew(&fresh, &row, sp_buf_span(&old), 3, false, &state, &now));
	cr_assert_eq(state, SP_RENEWED_NOW);
	OK(sp_secret_renew(&fresh, &row, sp_buf_span(&now), 3, false, &state, &no));
	cr_assert(state == SP_RENEWED_IS && no.len == 0);
	cr_assert(opens(&fresh, &now));
	cr_assert(sp_row_is_sealed(&fresh, t, id, 1, canon, mac));
	cr_assert_eq(sp_row_epoch(&fresh, t, id, 1, canon, mac), SP_RENEWED_NOW);
	OK(sp_row_mac(&fresh, t, id, 1, canon, mac2));
	cr_assert_eq(sp_row_epoch(&fresh, t, id, 1, canon, mac2), SP_RENEWED_IS);

	/* As the next version, whatever its epoch; never as any other. */
	later.version = 4;
	OK(sp_secret_renew(&fresh, &row, sp_buf_span(&now), 4, true, &state, &no));
	cr_assert_eq(state, SP_RENEWED_NOW);
	OK(sp_secret_unseal(&fresh, &later, sp_buf_span(&no), &s));
	cr_assert(!opens(&fresh, &no));
	cr_assert_eq(sp_secret_renew(&fresh, &row, sp_buf_span(&now), 5, true,
	    &state, &no), SP_ERR_INVAL);
	cr_assert_eq(sp_secret_renew(&fresh, &row, sp_buf_span(&now), 2, true,
	    &state, &no), SP_ERR_INVAL);
	sp_secret_free(&s);
	sp_buf_fini(&no);

	sp_root_close(&root);
	cr_assert(sp_root_drop_epochs(&next));
	cr_assert(!sp_root_drop_epochs(&next));
	cr_assert_eq(next.n_keks, SP_KEK_LAST_);
	OK(sp_root_sign_state(&fresh.root, &next));
	reopen(&root, &next);
	cr_assert(opens(&root, &now));
	cr_assert(!opens(&root, &old));
	cr_assert(sp_row_is_sealed(&root, t, id, 1, canon, mac2));
	cr_assert(!sp_row_is_sealed(&root, t, id, 1, canon, mac));
	sp_buf_fini(&old);
	sp_buf_fini(&now);
	sp_root_close(&root);
	sp_root_close(&fresh);
}

/* Whatever is not exactly what the vault sealed is never made so. */
Test(vault_epochs, nothing_forged_is_made_anew)
{
	struct sp_span canon = sp_span_str("a row"), t = sp_span_str("people");
	struct sp_buf old = {.max = 4096}, out = {.max = 4096};
	uint8_t mac[32], state;

	open_kit();
	OK(sp_secret_seal(&root, &row, sp_span_str("hunter2"), &old));
	OK(sp_row_mac(&root, t, id, 1, canon, mac));
	OK(sp_root_add_epochs(&root, &next));
	OK(sp_root_sign_state(&root.root, &next));
	reopen(&fresh, &next);
	for (size_t i = 0; i < old.len; i++) {
		old.p[old.off + i] ^= 1;
		OK(sp_secret_renew(&fresh, &row, sp_buf_span(&old), 3, true, &state,
		    &out));
		cr_assert(state == SP_RENEWED_NOT && out.len == 0, "byte %zu", i);
		old.p[old.off + i] ^= 1;
	}
	for (int k = 0; k < 4; k++) {
		struct sp_secret_row other = row;

		*(k == 0 ? &other.kind : k == 1 ? &other.id[3] : k == 2 ?
		    &other.owner[3] : (uint8_t *)&other.version) ^= 1;
		OK(sp_secret_renew(&fresh, &other, sp_buf_span(&old),
		    other.version, true, &state, &out));
		cr_assert(state == SP_RENEWED_NOT && out.len == 0);
	}
	for (size_t i = 0; i < 32; i++) {
		mac[i] ^= 1;
		cr_assert_eq(sp_row_epoch(&fresh, t, id, 1, canon, mac),
		    SP_RENEWED_NOT);
		mac[i] ^= 1;
	}
	cr_assert_eq(sp_row_epoch(&fresh, t, id, 2, canon, mac), SP_RENEWED_NOT);
	cr_assert_eq(sp_row_epoch(&fresh, sp_span_str("targets"), id, 1, canon, mac),
	    SP_RENEWED_NOT);
	sp_buf_fini(&old);
	sp_root_close(&root);
	sp_root_close(&fresh);
}

Test(vault_epochs, rotations_that_nobody_finishes_end_at_a_bound)
{
	int n = 0;

	open_kit();
	while (sp_root_add_epochs(&root, &next) == SP_OK)
		n++;
	cr_assert_geq(n, 10);
	cr_assert_leq(next.n_keks, SP_KEKS_MAX);
	OK(sp_root_sign_state(&root.root, &next));
	reopen(&fresh, &next);
	sp_root_close(&root);
	sp_root_close(&fresh);
}

/* ------------------------------------------------------------- as a process */

static struct sp_msg_vc_rotate_r
step(struct proc *p, uint8_t n)
{
	struct sp_msg_vc_rotate m = {.step = n};
	struct sp_msg_vc_rotate_r r;

	OK(sp_send_vc_rotate(&p->ctl, 1, &m, NULL));
	OK(sp_dec_vc_rotate_r(vp_control_reply(p, SP_MSG_vc_rotate_r), &r));
	return r;
}

static void
seal_row(struct proc *p, uint8_t mac[static 32])
{
	struct sp_msg_v_row_seal m = {.table = sp_span_str("people"),
	    .version = 1, .canon = sp_span_str("a row")};
	struct sp_msg_v_row_seal_r r;

	memcpy(m.id, id, 16);
	OK(sp_send_v_row_seal(&p->brk, 9, &m, NULL));
	OK(sp_dec_v_row_seal_r(vp_reply(p, SP_MSG_v_row_seal_r), &r));
	cr_assert_eq(r.ok, 1);
	memcpy(mac, r.mac, 32);
}

static uint8_t
renew_row(struct proc *p, uint8_t mac[static 32])
{
	struct sp_msg_v_row_renew m = {.table = sp_span_str("people"),
	    .version = 1, .canon = sp_span_str("a row")};
	struct sp_msg_v_row_renew_r r;

	memcpy(m.id, id, 16);
	memcpy(m.mac, mac, 32);
	OK(sp_send_v_row_renew(&p->brk, 9, &m, NULL));
	OK(sp_dec_v_row_renew_r(vp_reply(p, SP_MSG_v_row_renew_r), &r));
	if (r.state == SP_RENEWED_NOW)
		seal_row(p, mac);
	return r.state;
}

/* Dies after this many steps; what is on disk opens, and still knows the seal. */
static void
dies_after(unsigned steps)
{
	struct sp_root r = {0};
	uint8_t mac[32], old[32];
	struct proc p;
	int dir;

	vp_begin(&p, false, false);
	OK(vp_unseal(&p, p.passphrase));
	seal_row(&p, mac);
	memcpy(old, mac, 32);
	for (unsigned i = 0; i < steps; i++) {
		if (i == 0)
			cr_assert_eq(step(&p, 1).epoch, 2);
		else if (i == 1)
			cr_assert_eq(renew_row(&p, mac), SP_RENEWED_NOW);
		else
			cr_assert_eq(step(&p, 3).old, 0);
	}
	kill(p.pid, SIGKILL);
	dir = open(p.vault, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	OK(sp_state_load(dir, &st));
	close(dir);
	OK(sp_root_open(&r, &st, sp_span_str(p.passphrase)));
	cr_assert(sp_row_is_sealed(&r, sp_span_str("people"), id, 1,
	    sp_span_str("a row"), mac));
	cr_assert_eq(sp_row_is_sealed(&r, sp_span_str("people"), id, 1,
	    sp_span_str("a row"), old), steps < 3);
	sp_root_close(&r);
	vp_end_killed(&p);
}

Test(vault_epochs, killed_before) { dies_after(0); }
Test(vault_epochs, killed_after_the_new_keys) { dies_after(1); }
Test(vault_epochs, killed_among_the_rows) { dies_after(2); }
Test(vault_epochs, killed_after_the_old_keys_went) { dies_after(3); }

Test(vault_epochs, a_rotation_is_resumed_and_sealed_none_begins)
{
	struct proc p;

	vp_begin(&p, true, false);
	cr_assert_eq(step(&p, 2).old, 0);
	cr_assert_eq(step(&p, 1).is_resumed, 0);
	cr_assert_eq(step(&p, 1).is_resumed, 1);
	cr_assert_eq(step(&p, 2).epoch, 2);
	cr_assert_eq(step(&p, 3).old, 0);
	cr_assert_eq(step(&p, 1).epoch, 3);
	vp_seal(&p);
	cr_assert_eq(step(&p, 1).err, SP_ERR_SEALED);
	cr_assert_eq(step(&p, 3).err, SP_ERR_SEALED);
	vp_end(&p);
}
