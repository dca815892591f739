/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_CONFIG_H
#define SP_COMMON_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"

/*
 * The instance's configuration, DIR/sallyport.conf: lines of `name value`,
 * comments from `#`. One row here makes the field, its default, its parser,
 * the dump and the manual page. No row opens anything.
 *
 * X(kind, name, default, lowest, highest, help); kinds: text, number, list (a longer text)
 */
#define SP_CONFIG_TABLE(X)                                                    \
	X(text, listen, "127.0.0.1:2222", 0, 0,                               \
	    "addresses with port to listen on, separated by spaces; [::1]:2222 for IPv6") \
	X(text, address, "", 0, 0,                                            \
	    "NAME or NAME:PORT by which people reach it, for what is printed to them; empty: the first of listen") \
	X(text, node, "", 0, 0, "name of this bastion; empty: the host's name") \
	X(text, banner, "", 0, 0, "a line that is shown before login")        \
	X(text, durability, "input", 0, 0,                                    \
	    "when a recorded byte is safe enough to forward: process, input or full") \
	X(number, login_grace_s, "120", 5, 600, "seconds that a login may take") \
	X(number, max_connections, "4096", 1, 100000, "connections at once")  \
	X(number, max_startups, "100", 1, 10000, "connections at once that have not logged in") \
	X(number, max_per_source, "64", 1, 100000, "connections at once from one address") \
	X(number, children_per_parent, "1000", 1, 1000000,                    \
	    "connections or sessions until their parent process is executed afresh") \
	X(text, proxy_peers, "", 0, 0,                                        \
	    "addresses or networks that speak the PROXY protocol; everybody else must not") \
	X(number, max_tries, "6", 1, 20, "authentication attempts in a connection") \
	X(number, dial_timeout_ms, "10000", 100, 60000, "time to connect to a target and log in there") \
	X(text, cert_source, "auto", 0, 0, \
	    "address that certificates are good from: auto is ours of that connection; a numeric address where targets see another; none") \
	X(number, approval_wait_s, "900", 5, 86400, "how long a login waits for an approval") \
	X(number, request_life_s, "86400", 60, 604800, "how long a request stays open") \
	X(number, db_timeout_ms, "1500", 100, 30000, "deadline of one database statement") \
	X(number, recording_reserve_mb, "64", 1, 1048576, "disk kept free; below it sessions end") \
	X(number, recording_full_wait_s, "30", 0, 3600, "seconds that sessions stand still below that reserve until they end") \
	X(text, recordings_sealed_to, "vault", 0, 0, \
	    "who opens recordings: vault (for its viewers, as the policy says), auditors (this bastion cannot open what it wrote), or [N of] names of them") \
	X(list, recording_auditors, "", 0, 0, "NAME=KEY of each auditor, as sallyport identity prints the key") \
	X(text, recording_screen, "", 0, 0, "who opens screens and what happened; empty: as recordings_sealed_to") \
	X(text, recording_keys, "", 0, 0, "who opens what was typed, for instance: 2 of anna ben carl; empty: as recordings_sealed_to") \
	X(text, recording_files, "", 0, 0, "who opens the bodies of files; empty: as recordings_sealed_to") \
	X(number, keys_approvals, "0", 0, 8, "people who must sign before the vault opens what was typed in a session; 0: nobody is asked") \
	X(list, keys_approvers, "", 0, 0, "NAME=KEY of each who may sign: the second word of an SSH public key") \
	X(number, watch_told, "1", 0, 1, "1: a user is told who watches the session, and when that ends") \
	X(number, audit_sign_s, "60", 1, 3600, "the audit head is signed this often") \
	X(list, krl_push, "", 0, 0, "ACCOUNT@TARGET:/PATH of each target that is brought the list of revoked certificates") \
	X(number, krl_push_s, "600", 5, 604800, "seconds between two such lists, beside those after a revocation") \
	X(text, log_origin, "", 0, 0,                                         \
	    "name of the transparency log; empty: the one it has, first sallyport/NODE. Another name begins another log") \
	X(number, log_publish_s, "60", 1, 86400,                              \
	    "a new checkpoint goes to syslog, witnesses and the time stamp authority this often") \
	X(list, log_witness, "", 0, 0,                                        \
	    "KEY COMMAND of each witness, separated by `;`: it is given the checkpoint and answers with its cosignature") \
	X(text, ship_store, "", 0, 0,                                         \
	    "https://HOST[:PORT]/BUCKET[/PREFIX] of the S3 store that finished recordings go to; empty: they stay here") \
	X(text, ship_address, "", 0, 0,                                       \
	    "numeric addresses of that host, separated by spaces: no name is looked up") \
	X(text, ship_region, "us-east-1", 0, 0, "region that requests to the store are signed for") \
	X(text, ship_ca, "/etc/ssl/certs/ca-certificates.crt", 0, 0,          \
	    "file of the authorities (PEM) that the store's certificate may be from") \
	X(text, ship_lock, "", 0, 0,                                          \
	    "object lock of what is sent: governance DAYS or compliance DAYS, and hold for a legal hold; empty: none") \
	X(text, ship_compare, "digest", 0, 0,                                 \
	    "digest: by the SHA-256 that the store has computed, read back where it has none; read: always read back") \
	X(number, ship_part_mb, "16", 5, 512, "a larger recording goes in parts of this many MiB") \
	X(number, ship_stall_s, "60", 2, 3600, "seconds without progress after which a request to the store is given up") \
	X(number, ship_retry_s, "30", 1, 86400, "pause after a try that failed; it doubles, up to 64 times that, give or take a quarter") \
	X(number, ship_local_days, "0", 0, 36500, "days that the copy here stays once the store has it; 0: for good") \
	X(list, retention, "", 0, 0,                                          \
	    "rules separated by `;`, the first that fits: target=PATTERN DAYS, tag=NAME DAYS, kind=NAME DAYS or * DAYS; what fits none is kept for good") \
	X(number, retention_least_days, "30", 1, 36500, "no recording is deleted before it is as old, whatever the rules say") \
	X(number, hold_release_people, "1", 1, 2, "people that it takes to release a legal hold") \
	X(text, log_timestamp, "", 0, 0,                                      \
	    "command that takes an RFC 3161 request and gives the answer; empty: no time stamps") \
	X(number, rotation_retry_s, "60", 1, 86400, "pause after a rotation that failed; it doubles, up to 64 times that") \
	X(number, rotations_held, "0", 0, 1, "1: no rotation begins by itself; what is due is owed until it is 0. A restored bastion begins so") \
	X(number, rotation_keep, "5", 1, 1000, "former versions of a secret that are kept") \
	X(number, alive_s, "60", 0, 86400, "seconds of silence after which a client or a target is asked whether it lives; 0: never") \
	X(number, alive_tries, "3", 1, 100, "such questions without an answer, then the connection ends") \
	X(number, rekey_mb, "1024", 0, 65536, "MiB in one direction after which new keys are made; 0: as many as the cipher bears") \
	X(number, rekey_s, "3600", 0, 86400, "seconds after which new keys are made; 0: never") \
	X(text, environment, "LANG LC_* TERM COLORTERM NO_COLOR TZ", 0, 0, "names that pass from user to target") \
	X(text, database, "embedded", 0, 0, "embedded, or a libpq connection string") \
	X(text, pkcs11_module, "", 0, 0, "absolute path of the PKCS#11 module whose tokens can unseal the vault") \
	X(text, pam_service, "sallyport", 0, 0, "PAM service, in DIR/pam.d") \
	X(number, debug, "0", 0, 1, "1: debug lines in the log")

struct sp_config {
#define SP_CONFIG_FIELD_text(name) char name[512];
#define SP_CONFIG_FIELD_list(name) char name[3072];
#define SP_CONFIG_FIELD_number(name) uint64_t name;
#define SP_CONFIG_FIELD(kind, name, def, lo, hi, help) SP_CONFIG_FIELD_##kind(name)
	SP_CONFIG_TABLE(SP_CONFIG_FIELD)
#undef SP_CONFIG_FIELD
};

struct sp_config_diag {
	unsigned line;
	char text[200];		/* what is wrong and what would be right */
};

/* Parses the whole text over the defaults; an unknown name, a number out of
 * range, a name given twice is SP_ERR_SYNTAX with the line in diag. */
SP_MUST enum sp_err sp_config_parse(struct sp_config *c, struct sp_span text,
    struct sp_config_diag *diag);
/* A commented file with every row and its default. */
SP_MUST enum sp_err sp_config_dump(const struct sp_config *c, struct sp_buf *out);

#endif
