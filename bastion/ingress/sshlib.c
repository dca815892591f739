/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bastion/ingress/front.h"


/* Modern algorithms only; AES-GCM is first because the processor does it.
 * No NIST curves for key exchange, no SHA-1, MACs only over the ciphertext.
 * libssh leaves out what it does not know: the post-quantum names take effect
 * from 0.12 on. doc/ssh-front.md says why each is here. */
static const char kex[] =
    "mlkem768x25519-sha256,sntrup761x25519-sha512,"
    "sntrup761x25519-sha512@openssh.com,curve25519-sha256,curve25519-sha256@libssh.org,"
    "diffie-hellman-group16-sha512,diffie-hellman-group18-sha512";
static const char ciphers[] =
    "aes128-gcm@openssh.com,aes256-gcm@openssh.com,"
    "chacha20-poly1305@openssh.com,aes256-ctr,aes128-ctr";
static const char macs[] =
    "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com";
static const char user_keys[] =
    "ssh-ed25519,sk-ssh-ed25519@openssh.com,ecdsa-sha2-nistp256,"
    "ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,"
    "sk-ecdsa-sha2-nistp256@openssh.com,rsa-sha2-512,rsa-sha2-256";

static enum sp_err
set_bind(ssh_bind b, ssh_key key)
{
	const int rsa_bits = 2048;
	const bool no = false;
	int bad = 0;

	/* First, or setting anything else would read /etc/ssh. */
	bad |= ssh_bind_options_set(b, SSH_BIND_OPTIONS_PROCESS_CONFIG, &no);
	bad |= ssh_bind_options_set(b, SSH_BIND_OPTIONS_BANNER, "Sallyport");
	bad |= ssh_bind_options_set(b, SSH_BIND_OPTIONS_KEY_EXCHANGE, kex);
	bad |= ssh_bind_options_set(b, SSH_BIND_OPTIONS_CIPHERS_C_S, ciphers);
	bad |= ssh_bind_options_set(b, SSH_BIND_OPTIONS_CIPHERS_S_C, ciphers);
	bad |= ssh_bind_options_set(b, SSH_BIND_OPTIONS_HMAC_C_S, macs);
	bad |= ssh_bind_options_set(b, SSH_BIND_OPTIONS_HMAC_S_C, macs);
	bad |= ssh_bind_options_set(b, SSH_BIND_OPTIONS_PUBKEY_ACCEPTED_KEY_TYPES,
	    user_keys);
	bad |= ssh_bind_options_set(b, SSH_BIND_OPTIONS_RSA_MIN_SIZE, &rsa_bits);
	/* Takes the key. */
	bad |= ssh_bind_options_set(b, SSH_BIND_OPTIONS_IMPORT_KEY, key);
	return bad == 0 ? SP_OK : SP_ERR_UNSUPPORTED;
}

/* A whole key exchange between a server and a client in this process: OpenSSL
 * fetches its algorithms, libssh its tables, and every child shares the pages
 * that this has written. It also shows that the names in wire.c are ours. */
struct warm {
	ssh_session end[2];
	struct sp_wire wire[2];
};

static void
cross(struct sp_wire *from, struct sp_wire *to)
{
	size_t n = from->tx.len;

	if (n > sp_wire_room(to))
		n = sp_wire_room(to);
	if (n > 0)
		memcpy(sp_wire_at(to), sp_buf_span(&from->tx).p, n);
	sp_wire_put(to, n);
	sp_wire_took(from, n);
}

static enum sp_err
warm_ends(struct warm *w, ssh_bind bind)
{
	const bool no = false;

	for (int i = 0; i < 2; i++) {
		int fd = dup(STDERR_FILENO);

		w->end[i] = ssh_new();
		if (fd < 0 || w->end[i] == NULL)
			return SP_ERR_NOMEM;
		SP_TRY(sp_wire_init(&w->wire[i], fd, true));
		w->wire[i].may_read = w->wire[i].may_write = true;
		if (i == 0) {
			if (ssh_bind_accept_fd(bind, w->end[0], fd) != SSH_OK)
				return SP_ERR_UNSUPPORTED;
		} else if (ssh_options_set(w->end[1], SSH_OPTIONS_PROCESS_CONFIG,
		    &no) != 0 || ssh_options_set(w->end[1], SSH_OPTIONS_HOST,
		    "warm") != 0 || ssh_options_set(w->end[1], SSH_OPTIONS_FD,
		    &fd) != 0 || ssh_options_set(w->end[1],
		    SSH_OPTIONS_KNOWNHOSTS, "/dev/null") != 0 ||
		    ssh_options_set(w->end[1], SSH_OPTIONS_GLOBAL_KNOWNHOSTS,
		    "/dev/null") != 0)
			return SP_ERR_UNSUPPORTED;
		ssh_set_blocking(w->end[i], 0);
	}
	return SP_OK;
}

static enum sp_err
warm_run(struct warm *w)
{
	int s = SSH_AGAIN, c = SSH_AGAIN;

	for (int i = 0; i < 200 && (s != SSH_OK || c != SSH_OK); i++) {
		if (s != SSH_OK)
			s = ssh_handle_key_exchange(w->end[0]);
		if (c != SSH_OK)
			c = ssh_connect(w->end[1]);
		if (s == SSH_ERROR || c == SSH_ERROR)
			return SP_ERR_CRYPTO;
		cross(&w->wire[0], &w->wire[1]);
		cross(&w->wire[1], &w->wire[0]);
	}
	return s == SSH_OK && c == SSH_OK && sp_wire_calls() > 0 ? SP_OK :
	    SP_ERR_STATE;
}

/* With a key of its own: the real one is the vault's. */
static enum sp_err
warm_bind(ssh_bind *bind)
{
	ssh_key key = NULL;

	if (ssh_pki_generate(SSH_KEYTYPE_ED25519, 0, &key) != SSH_OK ||
	    (*bind = ssh_bind_new()) == NULL)
		return SP_ERR_CRYPTO;
	return set_bind(*bind, key);
}

static enum sp_err
warm_up(void)
{
	struct warm w = {.wire = {{.fd = -1}, {.fd = -1}}};
	ssh_bind bind = NULL;
	enum sp_err e = warm_bind(&bind);

	if (e == SP_OK)
		e = warm_ends(&w, bind);
	if (e == SP_OK)
		e = warm_run(&w);
	if (e == SP_OK && !sp_hostsign_is_seen())
		e = SP_ERR_UNSUPPORTED;
	if (e != SP_OK)
		sp_log(SP_ERROR, "warm_up_failed", NULL,
		    "server=\"%s\" client=\"%s\"",
		    w.end[0] == NULL ? "" : sp_vis_str(ssh_get_error(w.end[0])),
		    w.end[1] == NULL ? "" : sp_vis_str(ssh_get_error(w.end[1])));
	for (int i = 0; i < 2; i++) {
		if (w.end[i] != NULL)
			ssh_free(w.end[i]);
		sp_wire_fini(&w.wire[i]);
	}
	ssh_bind_free(bind);
	return e;
}

/* No compression: its state is a third of what a session may cost, and the
 * data of others would be inflated here. Not an option of the bind. */
enum sp_err
sp_front_options(ssh_session s)
{
	return ssh_options_set(s, SSH_OPTIONS_COMPRESSION, "none") == 0 ? SP_OK :
	    SP_ERR_UNSUPPORTED;
}

enum sp_err
sp_front_start(struct sp_front *f, struct sp_span config,
    struct sp_span host_key)
{
	struct sp_config_diag diag;
	ssh_key key = NULL;
	enum sp_err e = sp_config_parse(&f->cfg, config, &diag);

	if (e != SP_OK) {
		sp_log(SP_ERROR, "config", NULL, "line=%u text=\"%s\"",
		    diag.line, sp_vis_str(diag.text));
		return e;
	}
	sp_log_init("ingress", f->cfg.debug != 0);
	SP_TRY(sp_glass_init());
	SP_TRY(sp_hostsign_init());
	if (ssh_init() != SSH_OK)
		return SP_ERR_UNSUPPORTED;
	SP_TRY(sp_hostsign_stand_in(host_key, &key));
	f->bind = ssh_bind_new();
	if (f->bind == NULL)
		return SP_ERR_NOMEM;
	SP_TRY(set_bind(f->bind, key));
	return warm_up();
}
