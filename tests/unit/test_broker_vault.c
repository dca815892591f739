/* SPDX-License-Identifier: Apache-2.0 */
/* Covers bastion/broker/vault.c. */
#include <criterion/criterion.h>
#include <signal.h>

#include "bastion/broker/vault.h"

static struct sp_broker b;

static void
begin(void)
{
	signal(SIGPIPE, SIG_IGN);
	b = (struct sp_broker){.ev = event_base_new()};
}

static void
end(void)
{
	event_base_free(b.ev);
}

TestSuite(vault, .init = begin, .fini = end, .timeout = 30);

static void
spin(void)
{
	/* Until nothing is left that is ready. */
	for (int i = 0; i < 50; i++)
		event_base_loop(b.ev, EVLOOP_NONBLOCK);
}

struct asked {
	unsigned calls;
	enum sp_err e;
	bool has_reply;
};

static void
on_reply(void *arg, enum sp_err e, struct sp_packet *reply)
{
	struct asked *a = arg;

	a->calls++;
	a->e = e;
	a->has_reply = reply != NULL;
}

static struct sp_vault *
attach(struct sp_link *l, struct sp_vault *v)
{
	int fds[2];

	cr_assert_eq(sp_link_pair(fds), SP_OK);
	cr_assert_eq(sp_link_init(l, fds[1], SP_ROLE_VLT, SP_ROLE_BRK, SP_ST_READY), SP_OK);
	if (v == NULL)
		v = sp_vault_new(&b);
	sp_vault_attach(v, fds[0]);
	b.vault = v;	/* lives as long as the process */
	return v;
}

static uint64_t
take(struct sp_link *l, uint16_t type)
{
	struct sp_packet k;

	cr_assert_eq(sp_link_wait(l, &k, 60000), SP_OK);
	cr_assert_eq(k.type, type);
	return k.corr;
}

static void
ask(struct sp_vault *v, struct asked *a)
{
	SP_BUF_AUTO body = {.max = 256};

	*a = (struct asked){.calls = 0};
	cr_assert_eq(sp_enc_v_lease_end(&body, &(struct sp_msg_v_lease_end){0}), SP_OK);
	sp_vault_call(v, SP_MSG_v_lease_end, sp_buf_span(&body), SP_MSG_v_done,
	    on_reply, a);
	cr_assert_eq(a->calls, 0, "never from inside");
}

static void
until(const struct asked *a)
{
	while (a->calls == 0)
		event_base_loop(b.ev, EVLOOP_ONCE);
}

static void
done(struct sp_link *l, uint64_t corr)
{
	cr_assert_eq(sp_send_v_done(l, corr, &(struct sp_msg_v_done){0}, NULL), SP_OK);
}

static void
open_vault(struct sp_link *l, struct sp_vault *v, uint8_t sealed)
{
	uint64_t corr = take(l, SP_MSG_v_status);

	cr_assert_eq(sp_send_v_status_r(l, corr, &(struct sp_msg_v_status_r){
	    .sealed = sealed, .ca_key = sp_span_str("ca")}, NULL), SP_OK);
	while (sp_vault_status(v) == NULL)
		event_base_loop(b.ev, EVLOOP_ONCE);
}

Test(vault, answers_find_their_questions)
{
	struct asked a[3];
	struct sp_link l;
	struct sp_vault *v = attach(&l, NULL);
	uint64_t corr[3];

	cr_assert_not(sp_vault_is_open(v));
	open_vault(&l, v, 0);
	cr_assert(sp_vault_is_open(v));
	cr_assert(sp_span_is(sp_vault_status(v)->ca_key, "ca"));
	for (int i = 0; i < 3; i++)
		ask(v, &a[i]);
	for (int i = 0; i < 3; i++)
		corr[i] = take(&l, SP_MSG_v_lease_end);
	done(&l, corr[2]);
	done(&l, corr[0]);
	spin();
	cr_assert_eq(a[0].calls + a[2].calls, 2);
	cr_assert_eq(a[1].calls, 0);
	cr_assert(a[0].has_reply && a[0].e == SP_OK);
	sp_link_fini(&l);
	until(&a[1]);
	cr_assert_eq(a[1].e, SP_ERR_EOF);
	cr_assert_not(a[1].has_reply);
	cr_assert_null(sp_vault_status(v));
	ask(v, &a[0]);
	until(&a[0]);
	cr_assert_eq(a[0].e, SP_ERR_EOF);
}

Test(vault, late_answers_are_ignored)
{
	struct asked a, c;
	struct sp_link l;
	struct sp_vault *v = attach(&l, NULL);
	int64_t t0 = sp_boot_us();
	uint64_t corr;

	open_vault(&l, v, 0);
	ask(v, &a);
	until(&a);
	cr_assert_eq(a.e, SP_ERR_TIMEOUT);
	cr_assert(sp_boot_us() - t0 > 1900000 && sp_boot_us() - t0 < 60000000);
	corr = take(&l, SP_MSG_v_lease_end);
	ask(v, &c);
	done(&l, corr);
	done(&l, take(&l, SP_MSG_v_lease_end));
	until(&c);
	cr_assert_eq(c.e, SP_OK);
	cr_assert_eq(a.calls, 1);
	cr_assert(sp_vault_is_open(v));
	sp_link_fini(&l);
	spin();
}

Test(vault, sealed_answers_at_once_and_is_asked_again)
{
	struct asked a;
	struct sp_link l;
	struct sp_vault *v = attach(&l, NULL);

	open_vault(&l, v, 1);
	cr_assert_not(sp_vault_is_open(v));
	ask(v, &a);
	until(&a);
	cr_assert_eq(a.e, SP_ERR_SEALED);
	while (!sp_vault_is_open(v)) {
		struct sp_packet k;

		event_base_loop(b.ev, EVLOOP_ONCE);
		if (sp_link_recv(&l, &k) == SP_OK)
			cr_assert_eq(sp_send_v_status_r(&l, k.corr,
			    &(struct sp_msg_v_status_r){0}, NULL), SP_OK);
	}
	sp_link_fini(&l);
	spin();
}

Test(vault, liar_is_dropped_and_a_new_link_serves)
{
	struct asked a;
	struct sp_link l, l2;
	struct sp_vault *v = attach(&l, NULL);
	uint64_t corr;

	open_vault(&l, v, 0);
	ask(v, &a);
	corr = take(&l, SP_MSG_v_lease_end);
	cr_assert_eq(sp_send_v_row_check_r(&l, corr,
	    &(struct sp_msg_v_row_check_r){.ok = 1}, NULL), SP_OK);
	until(&a);
	cr_assert_eq(a.e, SP_ERR_EOF);
	cr_assert_not(a.has_reply);
	sp_link_fini(&l);
	attach(&l2, v);
	open_vault(&l2, v, 0);
	ask(v, &a);
	done(&l2, take(&l2, SP_MSG_v_lease_end));
	until(&a);
	cr_assert_eq(a.e, SP_OK);
	/* an answer to a question of the future */
	done(&l2, 1000000);
	ask(v, &a);
	until(&a);
	cr_assert_eq(a.e, SP_ERR_EOF);
	sp_link_fini(&l2);
	spin();
}

static void
on_event(void *arg, struct sp_packet *p)
{
	*(unsigned *)arg += p->type == SP_MSG_v_lease_used;
}

Test(vault, events_come_through)
{
	struct sp_link l;
	struct sp_vault *v = attach(&l, NULL);
	unsigned n = 0;

	sp_vault_on_event(v, on_event, &n);
	cr_assert_eq(sp_send_v_lease_used(&l, 0, &(struct sp_msg_v_lease_used){0},
	    NULL), SP_OK);
	spin();
	cr_assert_eq(n, 1);
	sp_link_fini(&l);
	spin();
}
