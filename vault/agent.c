/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/agent.h"

#include "vault/poison.h"

#define AGENT_FAILURE 5
#define REQUEST_IDENTITIES 11
#define IDENTITIES_ANSWER 12
#define SIGN_REQUEST 13
#define SIGN_RESPONSE 14
#define BLOB_MAX 4096

void
sp_agent_init(struct sp_agent *a)
{
	*a = (struct sp_agent){0};
	sp_buf_init(&a->rx, 2 * (4 + SP_AGENT_MSG_MAX));
	sp_buf_init(&a->tx, 65536);
}

void
sp_agent_fini(struct sp_agent *a)
{
	sp_buf_fini(&a->rx);
	sp_buf_fini(&a->tx);
}

static enum sp_err
list(const struct sp_agent_ops *ops, struct sp_buf *body)
{
	SP_BUF_AUTO blob = {.max = BLOB_MAX};

	SP_TRY(ops->identity(ops->arg, &blob));
	SP_TRY(sp_buf_put_u8(body, IDENTITIES_ANSWER));
	SP_TRY(sp_buf_put_ssh_u32(body, 1));
	SP_TRY(sp_buf_put_ssh_string(body, sp_buf_span(&blob)));
	return sp_buf_put_ssh_string(body, sp_span_str("sallyport"));
}

static enum sp_err
sign(const struct sp_agent_ops *ops, struct sp_span msg, struct sp_buf *body)
{
	SP_BUF_AUTO sig = {.max = BLOB_MAX};
	struct sp_span blob, data;
	uint32_t flags;	/* of RSA only; ours are Ed25519 */

	SP_TRY(sp_get_ssh_string(&msg, BLOB_MAX, &blob));
	SP_TRY(sp_get_ssh_string(&msg, SP_AGENT_MSG_MAX, &data));
	SP_TRY(sp_get_ssh_u32(&msg, &flags));
	if (msg.n != 0)
		return SP_ERR_PROTO;
	SP_TRY(ops->sign(ops->arg, blob, data, &sig));
	SP_TRY(sp_buf_put_u8(body, SIGN_RESPONSE));
	return sp_buf_put_ssh_string(body, sp_buf_span(&sig));
}

/* Any error of a single request is a failure answer, not the stream's end. */
static enum sp_err
answer(struct sp_agent *a, struct sp_span msg, const struct sp_agent_ops *ops)
{
	SP_BUF_AUTO body = {.max = 3 * BLOB_MAX};
	enum sp_err e = SP_ERR_UNSUPPORTED;
	uint8_t type = 0;

	SP_TRY(sp_get_u8(&msg, &type));
	if (type == REQUEST_IDENTITIES)
		e = msg.n == 0 ? list(ops, &body) : SP_ERR_PROTO;
	else if (type == SIGN_REQUEST)
		e = sign(ops, msg, &body);
	if (e != SP_OK) {
		sp_buf_reset(&body);
		SP_TRY(sp_buf_put_u8(&body, AGENT_FAILURE));
	}
	return sp_buf_put_ssh_string(&a->tx, sp_buf_span(&body));
}

enum sp_err
sp_agent_input(struct sp_agent *a, struct sp_span in,
    const struct sp_agent_ops *ops)
{
	SP_TRY(sp_buf_put(&a->rx, in.p, in.n));
	for (;;) {
		struct sp_span s = sp_buf_span(&a->rx);
		uint32_t n;

		if (sp_get_ssh_u32(&s, &n) != SP_OK)
			return SP_OK;
		if (n == 0)
			return SP_ERR_PROTO;
		if (n > SP_AGENT_MSG_MAX)
			return SP_ERR_TOOBIG;
		if (s.n < n)
			return SP_OK;
		if (++a->n_msgs > SP_AGENT_MSGS_MAX)
			return SP_ERR_PROTO;
		SP_TRY(answer(a, sp_span_of(s.p, n), ops));
		sp_buf_consume(&a->rx, 4 + (size_t)n);
	}
}
