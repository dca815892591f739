/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bastion/egress/egress.h"
#include "bastion/egress/rotate.h"
#include "bastion/egress/tap.h"

#define START_WAIT_MS 30000
#define VAULT_WAIT_MS 2000
#define ACKS_MAX 100		/* a login, and the opening of channels */

/* AES-GCM first: a tenth to a third faster than chacha20 here (measured). */
static const char ciphers[] = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,"
    "chacha20-poly1305@openssh.com,aes256-ctr,aes128-ctr";
static const char kex[] = "curve25519-sha256,curve25519-sha256@libssh.org,"
    "ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521,"
    "diffie-hellman-group16-sha512,diffie-hellman-group18-sha512";
static const char host_keys[] = "ssh-ed25519,ecdsa-sha2-nistp256,"
    "ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256";
static const char macs[] = "hmac-sha2-256-etm@openssh.com,"
    "hmac-sha2-512-etm@openssh.com";

/* What old gear needs, after all of the above; only where the target's row says
 * so. SHA-1 and CBC are what is counted as old. */
#define OLD_CIPHERS ",aes256-cbc,aes192-cbc,aes128-cbc,3des-cbc"
#define OLD_KEX ",diffie-hellman-group-exchange-sha256,"                        \
	"diffie-hellman-group14-sha256,diffie-hellman-group14-sha1,"           \
	"diffie-hellman-group-exchange-sha1,diffie-hellman-group1-sha1"
#define OLD_HOST_KEYS ",ssh-rsa"
#define OLD_MACS ",hmac-sha2-256,hmac-sha2-512,hmac-sha1-etm@openssh.com,hmac-sha1"
#define OLD_RSA_BITS 1024

struct algorithms {
	char ciphers[256], kex[512], host_keys[256], macs[256];
};

static void
choose(struct algorithms *a, bool legacy)
{
	snprintf(a->ciphers, sizeof(a->ciphers), "%s%s", ciphers,
	    legacy ? OLD_CIPHERS : "");
	snprintf(a->kex, sizeof(a->kex), "%s%s", kex, legacy ? OLD_KEX : "");
	snprintf(a->host_keys, sizeof(a->host_keys), "%s%s", host_keys,
	    legacy ? OLD_HOST_KEYS : "");
	snprintf(a->macs, sizeof(a->macs), "%s%s", macs, legacy ? OLD_MACS : "");
}

void
sp_egress_failed(struct sp_egress *g, uint8_t code, const char *text)
{
	struct sp_msg_egr_failed m = {.code = code};
	char safe[400];

	memcpy(m.session, g->session, 16);
	m.text = sp_span_str(sp_vis(safe, sizeof(safe), sp_span_str(text)));
	sp_log(SP_WARN, "egress_failed", g->session, "code=%u text=\"%s\"", code,
	    safe);
	if (sp_send_egr_failed(&g->broker, 0, &m, NULL) != SP_OK)
		sp_log(SP_ERROR, "broker_gone", g->session, "");
}

static bool
set(ssh_session s, enum ssh_options_e o, const void *v)
{
	return ssh_options_set(s, o, v) == SSH_OK;
}

enum sp_err
sp_egress_session(ssh_session *out, int fd, const char *user, bool legacy)
{
	ssh_session s = ssh_new();
	socket_t sock = fd;
	int no = 0, rsa_bits = legacy ? OLD_RSA_BITS : 2048;
	struct algorithms a;

	choose(&a, legacy);

	if (s == NULL)
		return SP_ERR_NOMEM;
	if (!set(s, SSH_OPTIONS_PROCESS_CONFIG, &(bool){false}) ||
	    !set(s, SSH_OPTIONS_SSH_DIR, "/nonexistent") ||
	    !set(s, SSH_OPTIONS_KNOWNHOSTS, "/dev/null") ||
	    !set(s, SSH_OPTIONS_GLOBAL_KNOWNHOSTS, "/dev/null") ||
	    !set(s, SSH_OPTIONS_HOST, "target") ||
	    !set(s, SSH_OPTIONS_USER, user) || !set(s, SSH_OPTIONS_FD, &sock) ||
	    !set(s, SSH_OPTIONS_CIPHERS_C_S, a.ciphers) ||
	    !set(s, SSH_OPTIONS_CIPHERS_S_C, a.ciphers) ||
	    !set(s, SSH_OPTIONS_KEY_EXCHANGE, a.kex) ||
	    !set(s, SSH_OPTIONS_HOSTKEYS, a.host_keys) ||
	    !set(s, SSH_OPTIONS_HMAC_C_S, a.macs) ||
	    !set(s, SSH_OPTIONS_HMAC_S_C, a.macs) ||
	    !set(s, SSH_OPTIONS_GSSAPI_DELEGATE_CREDENTIALS, &no) ||
	    !set(s, SSH_OPTIONS_RSA_MIN_SIZE, &rsa_bits) ||
	    !set(s, SSH_OPTIONS_COMPRESSION, "no")) {
		ssh_free(s);
		return SP_ERR_INVAL;
	}
	ssh_set_blocking(s, 0);
	*out = s;
	return SP_OK;
}

/*
 * An sshd writes several small packets in a row, and Nagle's algorithm holds all
 * but the first until that one is acknowledged: without this, 40 ms in the
 * login or in the opening of a channel. The kernel forgets it after each ACK.
 */
void
sp_egress_ack_at_once(struct sp_egress *g)
{
	const int on = 1;

	if (g->acks < ACKS_MAX && ++g->acks != 0)
		(void)!setsockopt(g->tcp, IPPROTO_TCP, TCP_QUICKACK, &on,
		    sizeof(on));
}

enum sp_err
sp_egress_wait(struct sp_egress *g, int64_t deadline)
{
	struct pollfd pf[2] = {{.fd = g->tcp, .events = POLLIN},
	    {.fd = g->broker.fd, .events = 0}};
	int64_t left = (deadline - sp_boot_us()) / 1000;

	if (left <= 0)
		return SP_ERR_TIMEOUT;
	sp_egress_ack_at_once(g);
	if ((ssh_get_poll_flags(g->ssh) & SSH_WRITE_PENDING) != 0)
		pf[0].events |= POLLOUT;
	if (poll(pf, 2, left > 1000 ? 1000 : (int)left) < 0 && errno != EINTR)
		return SP_ERR_IO;
	return (pf[1].revents & (POLLHUP | POLLERR)) != 0 ? SP_ERR_EOF : SP_OK;
}

static enum sp_err
key_exchange(struct sp_egress *g, int64_t deadline)
{
	int rc;

	while ((rc = ssh_connect(g->ssh)) == SSH_AGAIN)
		SP_TRY(sp_egress_wait(g, deadline));
	return rc == SSH_OK ? SP_OK : SP_ERR_PROTO;
}

/* The host key as a blob; freed by the caller with sp_buf_fini. */
static enum sp_err
host_key_blob(struct sp_egress *g, struct sp_buf *out)
{
	ssh_key key = NULL;
	char *b64 = NULL;
	enum sp_err e = SP_ERR_CRYPTO;

	if (ssh_get_server_publickey(g->ssh, &key) == SSH_OK &&
	    ssh_pki_export_pubkey_base64(key, &b64) == SSH_OK)
		e = sp_unbase64(out, sp_span_str(b64));
	ssh_string_free_char(b64);
	ssh_key_free(key);
	return e;
}

static bool
is_pinned(struct sp_span pins, struct sp_span key)
{
	struct sp_span pin;

	while (pins.n > 0) {
		if (sp_get_ssh_string(&pins, 4096, &pin) != SP_OK)
			return false;
		if (sp_span_eq(pin, key))
			return true;
	}
	return false;
}

/* Tells the vault which host this is; it keeps the proof for what it signs. */
static enum sp_err
prove_host(struct sp_egress *g, struct sp_span key)
{
	struct sp_msg_host_proof m;
	struct sp_msg_host_proof_r r;
	struct sp_packet p;

	SP_TRY(sp_tap_host_proof(&m.host_key, &m.signature));
	if (!sp_span_eq(m.host_key, key))
		return SP_ERR_PROTO;
	SP_TRY(sp_send_host_proof(&g->vault, 0, &m, NULL));
	SP_TRY(sp_link_wait(&g->vault, &p, VAULT_WAIT_MS));
	if (p.type != SP_MSG_host_proof_r) {
		sp_packet_close_fds(&p);
		return SP_ERR_PROTO;
	}
	SP_TRY(sp_dec_host_proof_r(p.body, &r));
	return r.ok == 1 ? SP_OK : SP_ERR_DENIED;
}

static void
say_why(struct sp_egress *g, uint8_t code, enum sp_err e, const char *what)
{
	const char *ssh = g->ssh == NULL ? "" : ssh_get_error(g->ssh);
	char text[400];

	if (e == SP_ERR_TIMEOUT)
		code = SP_EGR_TIMEOUT;
	snprintf(text, sizeof(text), "%s: %s%s%s", what, sp_err_text(e),
	    ssh[0] == '\0' ? "" : " - ", ssh);
	sp_egress_failed(g, code, text);
}

static enum sp_err
begin(struct sp_egress *g, const char *account, bool legacy, int64_t deadline)
{
	enum sp_err e;

	sp_tap_begin(g->tcp);
	e = sp_egress_session(&g->ssh, g->tcp, account, legacy);
	if (e == SP_OK) {
		/* libssh notes the keys' age from here on: told later, it
		 * takes them for as old as the machine and makes new ones. */
		sp_glass_rekey(g->ssh, (uint64_t)g->cfg->rekey_mb << 20,
		    (uint32_t)g->cfg->rekey_s);
		e = key_exchange(g, deadline);
	}
	if (e != SP_OK)
		say_why(g, SP_EGR_TRANSPORT, e, "no key exchange with the target");
	return e;
}

static enum sp_err
check_host(struct sp_egress *g, const struct sp_msg_egr_start *m)
{
	SP_BUF_AUTO key = {.max = 8192};
	enum sp_err e;

	if ((e = host_key_blob(g, &key)) != SP_OK) {
		say_why(g, SP_EGR_TRANSPORT, e, "the target's host key");
		return e;
	}
	if (!is_pinned(m->host_keys, sp_buf_span(&key))) {
		sp_egress_failed(g, SP_EGR_HOSTKEY, "the target's host key is not "
		    "the pinned one; no credential was used");
		return SP_ERR_DENIED;
	}
	if ((e = prove_host(g, sp_buf_span(&key))) != SP_OK)
		say_why(g, SP_EGR_VAULT, e, "the vault did not accept the host");
	return e;
}

static bool
is_old_name(const char *name)
{
	static const char *const exact[] = {"diffie-hellman-group14-sha1",
	    "diffie-hellman-group-exchange-sha1", "diffie-hellman-group1-sha1",
	    "ssh-rsa", "hmac-sha1", "hmac-sha1-etm@openssh.com"};
	size_t n = strlen(name);

	for (size_t i = 0; i < sizeof(exact) / sizeof(exact[0]); i++)
		if (strcmp(name, exact[i]) == 0)
			return true;
	return n > 4 && strcmp(name + n - 4, "-cbc") == 0;
}

/* What was agreed on, while the tap still has the host's signature. */
static void
note_algorithms(struct sp_egress *g)
{
	struct sp_span key, sig, type, id = {.n = 0};
	const char *name[4] = {ssh_get_kex_algo(g->ssh), "?",
	    ssh_get_cipher_in(g->ssh), ssh_get_hmac_in(g->ssh)};
	char by[64] = "?";

	if (sp_tap_host_proof(&key, &sig) == SP_OK &&
	    sp_get_ssh_string(&sig, 63, &type) == SP_OK)
		sp_vis(by, sizeof(by), type);
	name[1] = by;
	/* libssh has no name for a group exchange; its hash is as long as the
	 * session id. */
	if (name[0] == NULL && sp_tap_session_id(&id) == SP_OK)
		name[0] = id.n == 20 ? "diffie-hellman-group-exchange-sha1" :
		    "diffie-hellman-group-exchange-sha256";
	for (size_t i = 0; i < 4; i++) {
		if (name[i] == NULL)
			name[i] = "?";
		g->is_old = g->is_old || is_old_name(name[i]);
	}
	snprintf(g->algorithms, sizeof(g->algorithms),
	    "kex=%.100s hostkey=%.60s cipher=%.100s mac=%.100s", name[0], name[1],
	    name[2], name[3]);
}

static enum sp_err
say_ready(struct sp_egress *g)
{
	struct sp_msg_egr_ready ready = {.old = g->is_old,
	    .algorithms = sp_span_str(g->algorithms)};

	memcpy(ready.session, g->session, 16);
	SP_TRY(sp_send_egr_ready(&g->broker, 0, &ready, NULL));
	g->broker.state = SP_ST_LIVE;
	return SP_OK;
}

static enum sp_err
log_in(struct sp_egress *g, const struct sp_msg_egr_start *m, const char *account)
{
	int64_t deadline = sp_boot_us() + (int64_t)m->deadline_ms * 1000;
	enum sp_err e;

	SP_TRY(begin(g, account, m->legacy != 0, deadline));
	SP_TRY(check_host(g, m));
	note_algorithms(g);
	if ((e = sp_egress_authenticate(g, m->method, m->deadline_ms)) != SP_OK) {
		/* Not a time-out of the address: the credential has been used. */
		say_why(g, e == SP_ERR_DENIED ? SP_EGR_AUTH : SP_EGR_BROKEN,
		    SP_ERR_DENIED,
		    g->why != NULL ? g->why :
		    "the target did not accept the account's credential");
		return e;
	}
	if (g->rotates && (e = sp_rotate_receive(g)) != SP_OK) {
		say_why(g, SP_EGR_VAULT, e, "the vault gave no secret to set");
		return e;
	}
	sp_tap_end();
	sp_link_fini(&g->vault);	/* one login; nothing more to ask */
	return SP_OK;
}

enum sp_err
sp_egress_login(struct sp_egress *g)
{
	struct sp_msg_egr_start m;
	struct sp_packet p;
	char account[65], addr[65];
	enum sp_err e;

	SP_TRY(sp_link_wait(&g->broker, &p, START_WAIT_MS));
	if (p.type == SP_MSG_egr_scan) {
		struct sp_msg_egr_scan scan;

		SP_TRY(sp_dec_egr_scan(p.body, &scan));
		g->broker.state = SP_ST_READY;
		return sp_egress_scan(g, scan.deadline_ms, scan.legacy != 0);
	}
	if (p.type != SP_MSG_egr_start)
		return SP_ERR_PROTO;
	SP_TRY(sp_dec_egr_start(p.body, &m));
	SP_TRY(sp_span_cstr(m.account, account, sizeof(account)));
	SP_TRY(sp_span_cstr(m.forward_addr, addr, sizeof(addr)));
	if (!sp_name_is_valid(m.account) || memcmp(m.session, g->session, 16) != 0)
		return SP_ERR_PROTO;
	g->broker.state = SP_ST_READY;
	g->is_hop = m.forward_port != 0;
	g->rotates = m.rotates == 1 && !g->is_hop;
	SP_TRY(log_in(g, &m, account));
	if (g->is_hop && (e = sp_hop_open(g, addr, m.forward_port,
	    m.deadline_ms)) != SP_OK) {
		say_why(g, SP_EGR_FORWARD, e == SP_ERR_TIMEOUT ? SP_ERR_DENIED : e,
		    "it does not lead on to the next target");
		return e;
	}
	return say_ready(g);
}

enum sp_err
sp_egress_scan(struct sp_egress *g, uint32_t deadline_ms, bool legacy)
{
	struct sp_msg_egr_scanned m;
	SP_BUF_AUTO key = {.max = 8192};
	enum sp_err e;

	SP_TRY(begin(g, "nobody", legacy, sp_boot_us() + (int64_t)deadline_ms * 1000));
	if ((e = host_key_blob(g, &key)) != SP_OK) {
		say_why(g, SP_EGR_TRANSPORT, e, "the target's host key");
		return e;
	}
	m.host_key = sp_buf_span(&key);
	SP_TRY(sp_send_egr_scanned(&g->broker, 0, &m, NULL));
	return SP_ERR_EOF;	/* done: there is nothing to relay */
}
