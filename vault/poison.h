/* SPDX-License-Identifier: Apache-2.0 */
/* Included last by every source file of vault/. A comparison of secret bytes
 * must not end at the first difference: sodium_memcmp() for secrets,
 * sp_span_eq() for public data. No include guard: it holds no declaration. */
#pragma GCC poison memcmp strcmp
