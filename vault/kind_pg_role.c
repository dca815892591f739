/* SPDX-License-Identifier: Apache-2.0 */
/* A role for one session: its secret is made with its lease (lease.c) and dies
 * with it; what the server gets is sp_lease_verifier(). */
#include "vault/kinds.h"
#include "vault/poison.h"

const struct sp_kind_ops sp_kind_ops_pg_role = {
    .message = sp_lease_sql_message};
