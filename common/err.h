/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_ERR_H
#define SP_COMMON_ERR_H

/*
 * Every function of the project that can fail returns an enum sp_err, must be
 * checked, and writes its results through its last parameters only on SP_OK.
 */
#define SP_ERR_LIST(X)                                                        \
	X(OK, "no error")                                                     \
	X(NOMEM, "out of memory")                                             \
	X(INVAL, "invalid argument")                                          \
	X(PROTO, "the peer broke the protocol")                               \
	X(TOOBIG, "larger than allowed")                                      \
	X(EOF, "end of stream")                                               \
	X(AGAIN, "would block")                                               \
	X(DENIED, "denied")                                                   \
	X(TIMEOUT, "timed out")                                               \
	X(IO, "input or output error")                                        \
	X(CRYPTO, "cryptographic check failed")                               \
	X(NOTFOUND, "not found")                                              \
	X(EXISTS, "exists already")                                           \
	X(STATE, "not possible in this state")                                \
	X(SEALED, "the vault is sealed")                                      \
	X(UNSUPPORTED, "not supported here")                                  \
	X(FULL, "no room left")                                               \
	X(DB, "the database did not do it")                                   \
	X(SYNTAX, "syntax error")

enum sp_err {
#define SP_ERR_ENUM(name, text) SP_ERR_##name,
	SP_ERR_LIST(SP_ERR_ENUM)
#undef SP_ERR_ENUM
	SP_ERR_COUNT_
};
#define SP_OK SP_ERR_OK

#define SP_MUST __attribute__((warn_unused_result))
#define SP_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* The text of an error, a static string; never NULL, also for unknown values. */
const char *sp_err_text(enum sp_err e);

/* A bug of ours, never of a peer: logs the place and aborts. Always on. */
#define SP_ASSERT(c) ((c) ? (void)0 : sp_assert_failed(#c, __FILE__, __LINE__))
_Noreturn void sp_assert_failed(const char *what, const char *file, int line);

/* Returns from the calling function when an sp_err is not SP_OK. */
#define SP_TRY(expr)                                                          \
	do {                                                                  \
		enum sp_err sp_try_e_ = (expr);                               \
		if (sp_try_e_ != SP_OK)                                       \
			return sp_try_e_;                                     \
	} while (0)

#endif
