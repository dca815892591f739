/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_VAULT_FRONT_H
#define SP_VAULT_FRONT_H

#include "vault/secret.h"

/*
 * The bastion's own host key. No process that speaks to the network has it: an
 * ingress asks for a signature over its key exchange, on a link of its own.
 *
 * Never an oracle: what is signed is a hash that is made here, over the exchange
 * as RFC 4253 (8) and RFC 5656 (4) have it, with our own host key in its place.
 * A captured ingress gets signatures over exchanges that it takes part in, for
 * as long as it lives, and nothing else: no certificate, no SSHSIG, no other
 * message. One of 64 bytes of its own choice, instead of a hash, would be an
 * SSHSIG blob for a namespace of four letters.
 *
 * The key is part of the vault's state, sealed as the CA's is: made by `init`, and
 * wiped when the vault seals, so that a sealed vault signs nothing. A file of the
 * instance's keys/, whose descriptor came with the start, is taken into the state
 * when the vault opens, in the place of what is there; then the supervisor is
 * told, and removes it.
 */
#define SP_HOST_KEY_FILE_MAX 8192

struct sp_vaultd;
struct sp_fronts;
struct sp_fronts *sp_fronts_new(void);
void sp_fronts_free(struct sp_fronts *f);
/* Readable when a front has something to say (an epoll descriptor). */
int sp_fronts_fd(const struct sp_fronts *f);
size_t sp_fronts_n(const struct sp_fronts *f);
/* ingress_link: takes the descriptor in any case. */
SP_MUST enum sp_err sp_fronts_add(struct sp_fronts *f, uint64_t conn, int fd);
void sp_fronts_serve(struct sp_vaultd *v);
/* When one that asks too often is heard again; INT64_MAX: none waits. */
int64_t sp_fronts_due_us(const struct sp_fronts *f);
/* The vault seals. */
void sp_fronts_wipe(struct sp_fronts *f);
/* The vault has opened: takes what stands in the file into the state. */
void sp_fronts_open(struct sp_vaultd *v);
/* Tells the supervisor that its file is not needed any more, if that is so. */
void sp_fronts_tell(struct sp_vaultd *v);
/* Takes the descriptor of the host key's file. */
void sp_fronts_key_file(struct sp_fronts *f, int fd);

/* SP_OK: these bytes are a whole key exchange of SSH 2 whose host key is `blob`.
 * SP_ERR_PROTO: anything else. */
SP_MUST enum sp_err sp_exchange_check(struct sp_span exchange,
    struct sp_span blob);

#endif
