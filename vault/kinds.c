/* SPDX-License-Identifier: Apache-2.0 */
#include "vault/kinds.h"

#include "vault/poison.h"

const struct sp_kind_ops *
sp_kind_ops(uint8_t number)
{
	static const struct {
		uint8_t number;
		const struct sp_kind_ops *ops;
	} all[] = {
#define ROW(token, number, name, gives, flags, words)                         \
		{(number), &sp_kind_ops_##token},
		SP_KINDS(ROW)
#undef ROW
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i].number == number)
			return all[i].ops;
	return NULL;
}

enum sp_err
sp_secret_import(uint8_t kind, struct sp_span given, struct sp_span pass,
    struct sp_secret *out)
{
	const struct sp_kind_ops *o = sp_kind_ops(kind);

	if (o == NULL || o->import == NULL)
		return SP_ERR_INVAL;
	if (given.n == 0 || given.n > o->given_max)
		return SP_ERR_TOOBIG;
	return o->import(given, pass, out);
}

enum sp_err
sp_secret_make(uint8_t kind, struct sp_secret *out)
{
	const struct sp_kind_ops *o = sp_kind_ops(kind);

	return o == NULL || o->make == NULL ? SP_ERR_INVAL : o->make(out);
}

enum sp_err
sp_secret_shown(uint8_t kind, const struct sp_secret *kept, struct sp_buf *out)
{
	const struct sp_kind_ops *o = sp_kind_ops(kind);

	return o == NULL || o->shown == NULL ? SP_OK : o->shown(kept, out);
}
