/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_BROKER_VERB_H
#define SP_BROKER_VERB_H

#include "bastion/broker/broker.h"

/*
 * A verb: what somebody typed after `ssh bastion` or `sallyport`. One table
 * row a verb: name, who may (group, host), handler, one line of help.
 */
#define SP_VERB_ARGS_MAX 64
/* Splits a command line of SSH exec like a shell without expansions: blanks,
 * single and double quotes, backslash. SP_ERR_SYNTAX for an open quote. The
 * result is `argc` NUL-terminated strings in *block (free it). */
SP_MUST enum sp_err sp_verb_split(struct sp_span line, char **block,
    char *argv[static SP_VERB_ARGS_MAX], size_t *argc);
/* Is this word a verb? */
bool sp_verb_is(const char *word);
/* Runs it. stream: our end of a stream pair whose other end goes to the
 * ingress or the CLI (the caller has passed it on already), or, when the verb
 * is answered by a player, see sp_verb_stream. open: the channel's OPEN payload
 * (terminal or not). The verb frees itself. chan is 1 on the control socket. */
void sp_verb_run(struct sp_broker *b, const struct sp_actor *who, size_t argc,
    char *const *argv, const struct sp_open *open, uint32_t chan,
    /* called exactly once with the descriptor of the user side's stream, or -1
     * and a text with an exit code */
    void (*stream)(void *arg, int fd, uint8_t exit_code, const char *text),
    void *arg);

#endif
