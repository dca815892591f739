/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_IPC_MESSAGES_H
#define SP_COMMON_IPC_MESSAGES_H

#include "common/ipc_values.h"
#include "common/rules.h"

/*
 * The whole contract between our processes. Every message has one row: its
 * name, number, who may send it, who may receive it, the states of the link
 * (as the receiver sees it) in which it is allowed, how many descriptors come
 * with it, and its fields. From this table come the structs, the codecs, the
 * permission check, the log names, doc/messages.md and the fuzz dispatcher.
 *
 * Field kinds: u8 u16 u32 u64 (little-endian), i64 (as u64), uuid (16 bytes),
 * h32 (32 bytes), sig (64 bytes), str (UTF-8, no NUL, at most cap bytes),
 * bytes (at most cap bytes). Times are microseconds of the wall clock unless
 * the name says boot. Numbers are never reused.
 */

/* Processes, as bits. A parent of many children speaks with its role's bit. */
enum sp_role {
	SP_ROLE_SUP = 1 << 0,	/* sallyportd */
	SP_ROLE_ING = 1 << 1,	/* sallyport-ingress */
	SP_ROLE_AUT = 1 << 2,	/* sallyport-auth */
	SP_ROLE_BRK = 1 << 3,	/* sallyport-broker */
	SP_ROLE_VLT = 1 << 4,	/* sallyport-vault */
	SP_ROLE_REC = 1 << 5,	/* sallyport-recorder */
	SP_ROLE_EGR = 1 << 6,	/* sallyport-egress */
	SP_ROLE_PLY = 1 << 7,	/* sallyport-player */
	SP_ROLE_CLI = 1 << 8,	/* sallyport, over a control socket */
	SP_ROLE_SCR = 1 << 9,	/* sallyport-scribe */
	SP_ROLE_NTY = 1 << 10,	/* sallyport-notary */
	SP_ROLE_SHP = 1 << 11,	/* sallyport-ship */
	SP_ROLE_FIL = 1 << 12,	/* sallyport-files */
};
#define SP_ROLE_CHILDREN                                                      \
	(SP_ROLE_ING | SP_ROLE_AUT | SP_ROLE_BRK | SP_ROLE_VLT | SP_ROLE_REC | \
	    SP_ROLE_EGR | SP_ROLE_PLY | SP_ROLE_SCR | SP_ROLE_NTY |           \
	    SP_ROLE_FIL | SP_ROLE_SHP)
#define SP_ROLE_PARENTS                                                       \
	(SP_ROLE_ING | SP_ROLE_REC | SP_ROLE_EGR | SP_ROLE_PLY | SP_ROLE_AUT | \
	    SP_ROLE_SCR)

/* States of a link as its receiver sees it, as bits. */
enum sp_link_state {
	SP_ST_NEW = 1 << 0,	/* nothing said yet */
	SP_ST_READY = 1 << 1,	/* started; the normal state */
	SP_ST_KEYED = 1 << 2,	/* ING at BRK: first factor given */
	SP_ST_AUTHED = 1 << 3,	/* ING at BRK: both factors given */
	SP_ST_LIVE = 1 << 4,	/* REC, EGR: bytes flow */
	SP_ST_ENDING = 1 << 5,	/* told to end; only the last reports */
};
#define SP_ST_ANY                                                             \
	(SP_ST_NEW | SP_ST_READY | SP_ST_KEYED | SP_ST_AUTHED | SP_ST_LIVE |  \
	    SP_ST_ENDING)

#define SP_IPC_BODY_MAX 65536	/* bytes of one message's body */
#define SP_IPC_FDS_MAX 16

#define SP_SEARCH_BATCH 16	/* recordings handed on at a time */
/* name, number, sender, receiver, states, descriptors */
#define SP_IPC_TABLE(M)                                                       \
	/* -- start-up: supervisor and every process it executes -- */        \
	M(hello, 0x0001, SP_ROLE_CHILDREN, SP_ROLE_SUP, SP_ST_NEW, 0)         \
	M(start_vault, 0x0002, SP_ROLE_SUP, SP_ROLE_VLT, SP_ST_NEW, 3)        \
	M(start_broker, 0x0003, SP_ROLE_SUP, SP_ROLE_BRK, SP_ST_NEW, 3)       \
	M(start_ingress, 0x0004, SP_ROLE_SUP, SP_ROLE_ING, SP_ST_NEW, 0)      \
	M(start_parent, 0x0005, SP_ROLE_SUP,                                  \
	    SP_ROLE_REC | SP_ROLE_EGR | SP_ROLE_PLY | SP_ROLE_SCR,            \
	    SP_ST_NEW, 0)                                                     \
	M(started, 0x0006, SP_ROLE_CHILDREN, SP_ROLE_SUP, SP_ST_NEW, 0)       \
	M(peer_link, 0x0007, SP_ROLE_SUP,                                     \
	    SP_ROLE_BRK | SP_ROLE_VLT | SP_ROLE_NTY | SP_ROLE_SHP,            \
	    SP_ST_READY, 1)                                                   \
	M(stop, 0x0008, SP_ROLE_SUP, SP_ROLE_CHILDREN, SP_ST_ANY, 0)          \
	M(reconfig, 0x0009, SP_ROLE_SUP, SP_ROLE_BRK, SP_ST_READY, 0)         \
	/* -- children of a parent -- */                                      \
	M(spawn_ingress, 0x0010, SP_ROLE_SUP, SP_ROLE_ING, SP_ST_READY, 3)    \
	M(spawn_recorder, 0x0011, SP_ROLE_SUP, SP_ROLE_REC, SP_ST_READY, 4)   \
	M(spawn_recover, 0x0012, SP_ROLE_SUP, SP_ROLE_REC, SP_ST_READY, 2)    \
	M(spawn_egress, 0x0013, SP_ROLE_SUP, SP_ROLE_EGR, SP_ST_READY, 5)     \
	M(spawn_player, 0x0014, SP_ROLE_SUP, SP_ROLE_PLY, SP_ST_READY, 4)     \
	M(spawn_search, 0x01c1, SP_ROLE_SUP, SP_ROLE_PLY, SP_ST_READY, 3)     \
	M(spawned, 0x0018, SP_ROLE_PARENTS, SP_ROLE_SUP, SP_ST_READY, 0)      \
	M(exited, 0x0019, SP_ROLE_PARENTS, SP_ROLE_SUP, SP_ST_READY, 0)       \
	M(start_auth, 0x0170, SP_ROLE_SUP, SP_ROLE_AUT, SP_ST_NEW, 1)         \
	M(spawn_auth, 0x0171, SP_ROLE_SUP, SP_ROLE_AUT, SP_ST_READY, 1)       \
	M(spawn_scribe, 0x0180, SP_ROLE_SUP, SP_ROLE_SCR, SP_ST_READY, 1)     \
	/* -- supervisor and who touches the directory of recordings for it -- */ \
	M(start_files, 0x01f4, SP_ROLE_SUP, SP_ROLE_FIL, SP_ST_NEW, 1)        \
	M(file_ask, 0x01f5, SP_ROLE_SUP, SP_ROLE_FIL, SP_ST_READY, 0)         \
	M(file_done, 0x01f6, SP_ROLE_FIL, SP_ROLE_SUP, SP_ST_READY, 0)        \
	M(file_opened, 0x01f7, SP_ROLE_FIL, SP_ROLE_SUP, SP_ST_READY, 1)      \
	M(files_opened, 0x01f8, SP_ROLE_FIL, SP_ROLE_SUP, SP_ST_READY,        \
	    SP_SEARCH_BATCH)                                                  \
	M(files_found, 0x01f9, SP_ROLE_FIL, SP_ROLE_SUP, SP_ST_READY, 0)      \
	/* -- supervisor and broker -- */                                     \
	M(conn_new, 0x0020, SP_ROLE_SUP, SP_ROLE_BRK, SP_ST_READY, 1)         \
	M(conn_end, 0x0021, SP_ROLE_SUP, SP_ROLE_BRK, SP_ST_READY, 0)         \
	M(conn_kill, 0x0022, SP_ROLE_BRK, SP_ROLE_SUP, SP_ST_READY, 0)        \
	M(auth_spawn, 0x0023, SP_ROLE_BRK, SP_ROLE_SUP, SP_ST_READY, 0)       \
	M(auth_spawned, 0x0024, SP_ROLE_SUP, SP_ROLE_BRK, SP_ST_READY, 1)     \
	M(session_spawn, 0x0025, SP_ROLE_BRK, SP_ROLE_SUP, SP_ST_READY, 0)    \
	M(session_spawned, 0x0026, SP_ROLE_SUP, SP_ROLE_BRK, SP_ST_READY, 2)  \
	M(session_dial, 0x0027, SP_ROLE_BRK, SP_ROLE_SUP, SP_ST_READY, 0)     \
	M(session_dialed, 0x0028, SP_ROLE_SUP, SP_ROLE_BRK, SP_ST_READY, 1)   \
	M(session_kill, 0x0029, SP_ROLE_BRK, SP_ROLE_SUP, SP_ST_READY, 0)     \
	M(session_child_end, 0x002a, SP_ROLE_SUP, SP_ROLE_BRK, SP_ST_READY, 0) \
	M(spawn_failed, 0x002b, SP_ROLE_SUP, SP_ROLE_BRK, SP_ST_READY, 0)     \
	M(recover, 0x002c, SP_ROLE_BRK, SP_ROLE_SUP, SP_ST_READY, 0)          \
	M(open_file, 0x0162, SP_ROLE_SUP, SP_ROLE_BRK, SP_ST_READY, 0)        \
	M(recover_spawned, 0x002d, SP_ROLE_SUP, SP_ROLE_BRK, SP_ST_READY, 1)  \
	M(play_spawn, 0x002e, SP_ROLE_BRK, SP_ROLE_SUP, SP_ST_READY, 0)       \
	M(play_spawned, 0x002f, SP_ROLE_SUP, SP_ROLE_BRK, SP_ST_READY, 2)     \
	M(search_spawn, 0x01c0, SP_ROLE_BRK, SP_ROLE_SUP, SP_ST_READY, 0)     \
	M(search_open, 0x01c2, SP_ROLE_BRK, SP_ROLE_SUP, SP_ST_READY, 0)      \
	M(search_opened, 0x01c3, SP_ROLE_SUP, SP_ROLE_BRK, SP_ST_READY,       \
	    SP_SEARCH_BATCH)                                                  \
	M(scan_key, 0x0030, SP_ROLE_BRK, SP_ROLE_SUP, SP_ST_READY, 0)         \
	M(scan_spawned, 0x0031, SP_ROLE_SUP, SP_ROLE_BRK, SP_ST_READY, 1)     \
	M(security_event, 0x0032, SP_ROLE_SUP | SP_ROLE_VLT | SP_ROLE_NTY,    \
	    SP_ROLE_BRK, SP_ST_ANY, 0)                                                     \
	M(conn_authed, 0x0033, SP_ROLE_BRK, SP_ROLE_SUP, SP_ST_READY, 0)      \
	M(session_settled, 0x0034, SP_ROLE_BRK, SP_ROLE_SUP, SP_ST_READY, 0)  \
	M(conn_keyed, 0x0035, SP_ROLE_BRK, SP_ROLE_SUP, SP_ST_READY, 0)       \
	M(conn_source, 0x0036, SP_ROLE_BRK, SP_ROLE_SUP, SP_ST_READY, 0)      \
	M(scribe_spawn, 0x0181, SP_ROLE_BRK, SP_ROLE_SUP, SP_ST_READY, 0)     \
	M(scribe_spawned, 0x0182, SP_ROLE_SUP, SP_ROLE_BRK, SP_ST_READY, 1)   \
	/* -- supervisor and vault -- */                                      \
	M(egress_link, 0x0038, SP_ROLE_SUP, SP_ROLE_VLT, SP_ST_READY, 2)      \
	M(player_link, 0x0039, SP_ROLE_SUP, SP_ROLE_VLT, SP_ST_READY, 1)      \
	M(vault_keys, 0x01d0, SP_ROLE_VLT, SP_ROLE_SUP, SP_ST_READY, 0)       \
	M(host_key_kept, 0x0128, SP_ROLE_VLT, SP_ROLE_SUP, SP_ST_READY, 0)    \
	M(vault_credential, 0x0100, SP_ROLE_SUP, SP_ROLE_VLT, SP_ST_READY, 1) \
	M(ingress_link, 0x0122, SP_ROLE_SUP, SP_ROLE_VLT, SP_ST_READY, 1)     \
	/* -- ingress and broker: logging in -- */                            \
	M(auth_key, 0x0040, SP_ROLE_ING, SP_ROLE_BRK,                         \
	    SP_ST_READY | SP_ST_KEYED, 0)                                     \
	M(auth_key_result, 0x0041, SP_ROLE_BRK, SP_ROLE_ING, SP_ST_ANY, 0)    \
	M(mfa_begin, 0x0042, SP_ROLE_ING, SP_ROLE_BRK, SP_ST_KEYED, 0)        \
	M(dialog, 0x0043, SP_ROLE_BRK, SP_ROLE_ING, SP_ST_ANY, 0)             \
	M(dialog_answer, 0x0044, SP_ROLE_ING, SP_ROLE_BRK,                    \
	    SP_ST_KEYED | SP_ST_AUTHED, 0)                                    \
	M(auth_refused, 0x0045, SP_ROLE_ING, SP_ROLE_BRK,                     \
	    SP_ST_READY | SP_ST_KEYED, 0)                                     \
	M(conn_peer, 0x0046, SP_ROLE_ING, SP_ROLE_BRK, SP_ST_READY, 0)        \
	/* -- ingress and broker: targets and channels -- */                  \
	M(target_open, 0x0048, SP_ROLE_ING, SP_ROLE_BRK, SP_ST_AUTHED, 0)     \
	M(target_open_result, 0x0049, SP_ROLE_BRK, SP_ROLE_ING, SP_ST_ANY, 0) \
	M(target_login, 0x004a, SP_ROLE_ING, SP_ROLE_BRK, SP_ST_AUTHED, 0)    \
	M(target_login_result, 0x004b, SP_ROLE_BRK, SP_ROLE_ING, SP_ST_ANY, 0) \
	M(target_close, 0x004c, SP_ROLE_ING, SP_ROLE_BRK, SP_ST_AUTHED, 0)    \
	M(chan_open, 0x004d, SP_ROLE_ING, SP_ROLE_BRK, SP_ST_AUTHED, 0)       \
	M(chan_stream, 0x004e, SP_ROLE_BRK, SP_ROLE_ING, SP_ST_ANY, 1)        \
	M(chan_refused, 0x004f, SP_ROLE_BRK, SP_ROLE_ING, SP_ST_ANY, 0)       \
	M(conn_notice, 0x0050, SP_ROLE_BRK, SP_ROLE_ING, SP_ST_ANY, 0)        \
	M(policy_refusal, 0x0051, SP_ROLE_ING, SP_ROLE_BRK, SP_ST_ANY, 0)     \
	/* -- auth (PAM) and broker -- */                                     \
	M(pam_start, 0x0060, SP_ROLE_BRK, SP_ROLE_AUT, SP_ST_NEW, 0)          \
	M(pam_prompt, 0x0061, SP_ROLE_AUT, SP_ROLE_BRK, SP_ST_READY, 0)       \
	M(pam_answer, 0x0062, SP_ROLE_BRK, SP_ROLE_AUT, SP_ST_READY, 0)       \
	M(pam_check_totp, 0x0063, SP_ROLE_AUT, SP_ROLE_BRK, SP_ST_READY, 0)   \
	M(pam_check_acct, 0x0064, SP_ROLE_AUT, SP_ROLE_BRK, SP_ST_READY, 0)   \
	M(pam_verdict, 0x0065, SP_ROLE_BRK, SP_ROLE_AUT, SP_ST_READY, 0)      \
	M(pam_result, 0x0066, SP_ROLE_AUT, SP_ROLE_BRK, SP_ST_READY, 0)       \
	/* -- recorder and broker -- */                                       \
	M(rec_open, 0x0070, SP_ROLE_BRK, SP_ROLE_REC, SP_ST_NEW, 0)           \
	M(rec_opened, 0x0071, SP_ROLE_REC, SP_ROLE_BRK, SP_ST_NEW, 0)         \
	M(rec_cert, 0x0072, SP_ROLE_BRK, SP_ROLE_REC, SP_ST_READY, 0)         \
	M(rec_ready, 0x0073, SP_ROLE_REC, SP_ROLE_BRK, SP_ST_READY, 0)        \
	M(rec_note, 0x0075, SP_ROLE_BRK, SP_ROLE_REC,                         \
	    SP_ST_READY | SP_ST_LIVE, 0)                                      \
	M(rec_steer, 0x01b0, SP_ROLE_BRK, SP_ROLE_REC, SP_ST_LIVE, 0)         \
	M(rec_held, 0x01b1, SP_ROLE_REC, SP_ROLE_BRK,                         \
	    SP_ST_LIVE | SP_ST_ENDING, 0)                                     \
	M(rec_end, 0x0076, SP_ROLE_BRK, SP_ROLE_REC, SP_ST_ANY, 0)            \
	M(rec_event, 0x0077, SP_ROLE_REC, SP_ROLE_BRK,                        \
	    SP_ST_READY | SP_ST_LIVE | SP_ST_ENDING, 0)                       \
	M(rec_closed, 0x0078, SP_ROLE_REC, SP_ROLE_BRK,                       \
	    SP_ST_NEW | SP_ST_READY | SP_ST_LIVE | SP_ST_ENDING, 0)                       \
	M(rec_recovered, 0x0079, SP_ROLE_REC, SP_ROLE_BRK, SP_ST_NEW, 0)      \
	M(rec_seal, 0x007a, SP_ROLE_BRK, SP_ROLE_REC, SP_ST_READY, 0)         \
	M(rec_point, 0x0190, SP_ROLE_REC, SP_ROLE_BRK, SP_ST_ANY, 0)          \
	M(rec_ping, 0x019e, SP_ROLE_BRK, SP_ROLE_REC,                         \
	    SP_ST_LIVE | SP_ST_ENDING, 0)                                     \
	M(rec_pong, 0x019f, SP_ROLE_REC, SP_ROLE_BRK,                         \
	    SP_ST_LIVE | SP_ST_ENDING, 0)                                     \
	M(rec_scribe_want, 0x0183, SP_ROLE_REC, SP_ROLE_BRK,                  \
	    SP_ST_READY | SP_ST_LIVE | SP_ST_ENDING, 0)                       \
	M(rec_scribe, 0x0184, SP_ROLE_BRK, SP_ROLE_REC,                       \
	    SP_ST_LIVE | SP_ST_ENDING, 1)                                     \
	/* -- one recorder and its scribe: doc/scribe.md -- */                \
	M(scribe_begin, 0x0185, SP_ROLE_REC, SP_ROLE_SCR, SP_ST_NEW, 0)       \
	M(scribe_screen, 0x0186, SP_ROLE_REC, SP_ROLE_SCR, SP_ST_READY, 0)    \
	M(scribe_load, 0x0187, SP_ROLE_REC, SP_ROLE_SCR, SP_ST_READY, 0)      \
	M(scribe_copy, 0x0188, SP_ROLE_REC, SP_ROLE_SCR, SP_ST_READY, 0)      \
	M(scribe_stop, 0x0189, SP_ROLE_REC, SP_ROLE_SCR, SP_ST_READY, 0)      \
	M(scribe_derived, 0x018a, SP_ROLE_SCR, SP_ROLE_REC, SP_ST_READY, 0)   \
	M(scribe_keyframe, 0x018b, SP_ROLE_SCR, SP_ROLE_REC, SP_ST_READY, 0)  \
	/* -- egress and broker -- */                                         \
	M(egr_start, 0x0080, SP_ROLE_BRK, SP_ROLE_EGR, SP_ST_NEW, 0)          \
	M(egr_ready, 0x0081, SP_ROLE_EGR, SP_ROLE_BRK, SP_ST_READY, 0)        \
	M(egr_failed, 0x0082, SP_ROLE_EGR, SP_ROLE_BRK,                       \
	    SP_ST_READY | SP_ST_LIVE, 0)                                      \
	M(egr_scan, 0x0083, SP_ROLE_BRK, SP_ROLE_EGR, SP_ST_NEW, 0)           \
	M(egr_scanned, 0x0084, SP_ROLE_EGR, SP_ROLE_BRK, SP_ST_READY, 0)      \
	M(egr_prompt, 0x0085, SP_ROLE_EGR, SP_ROLE_BRK, SP_ST_READY, 0)       \
	M(egr_answer, 0x0086, SP_ROLE_BRK, SP_ROLE_EGR, SP_ST_READY, 0)       \
	/* -- broker and vault: a request and its reply share `corr` -- */    \
	M(v_status, 0x0090, SP_ROLE_BRK, SP_ROLE_VLT, SP_ST_READY, 0)         \
	M(v_status_r, 0x0091, SP_ROLE_VLT, SP_ROLE_BRK, SP_ST_READY, 0)       \
	M(v_row_seal, 0x0092, SP_ROLE_BRK, SP_ROLE_VLT, SP_ST_READY, 0)       \
	M(v_row_seal_r, 0x0093, SP_ROLE_VLT, SP_ROLE_BRK, SP_ST_READY, 0)     \
	M(v_row_check, 0x0094, SP_ROLE_BRK, SP_ROLE_VLT, SP_ST_READY, 0)      \
	M(v_row_check_r, 0x0095, SP_ROLE_VLT, SP_ROLE_BRK, SP_ST_READY, 0)    \
	M(v_totp_check, 0x0096, SP_ROLE_BRK, SP_ROLE_VLT, SP_ST_READY, 0)     \
	M(v_totp_check_r, 0x0097, SP_ROLE_VLT, SP_ROLE_BRK, SP_ST_READY, 0)   \
	M(v_lease, 0x0098, SP_ROLE_BRK, SP_ROLE_VLT, SP_ST_READY, 0)          \
	M(v_lease_r, 0x0099, SP_ROLE_VLT, SP_ROLE_BRK, SP_ST_READY, 0)        \
	M(v_lease_end, 0x009a, SP_ROLE_BRK, SP_ROLE_VLT, SP_ST_READY, 0)      \
	M(v_lease_used, 0x009b, SP_ROLE_VLT, SP_ROLE_BRK, SP_ST_READY, 0)     \
	M(v_sign_recording, 0x009c, SP_ROLE_BRK, SP_ROLE_VLT, SP_ST_READY, 0) \
	M(v_sign_close, 0x009d, SP_ROLE_BRK, SP_ROLE_VLT, SP_ST_READY, 0)     \
	M(v_sign_audit, 0x009e, SP_ROLE_BRK, SP_ROLE_VLT, SP_ST_READY, 0)     \
	M(v_sign_r, 0x009f, SP_ROLE_VLT, SP_ROLE_BRK, SP_ST_READY, 0)         \
	M(v_play_grant, 0x00a0, SP_ROLE_BRK, SP_ROLE_VLT, SP_ST_READY, 0)     \
	M(v_play_mask, 0x01f0, SP_ROLE_BRK, SP_ROLE_VLT, SP_ST_READY, 0)      \
	M(v_search_grant, 0x01c9, SP_ROLE_BRK, SP_ROLE_VLT, SP_ST_READY, 0)   \
	M(v_search_mask, 0x01fc, SP_ROLE_BRK, SP_ROLE_VLT, SP_ST_READY, 0)    \
	M(v_done, 0x00a1, SP_ROLE_VLT, SP_ROLE_BRK, SP_ST_READY, 0)           \
	M(v_krl, 0x0120, SP_ROLE_BRK, SP_ROLE_VLT, SP_ST_READY, 0)            \
	M(v_krl_r, 0x0121, SP_ROLE_VLT, SP_ROLE_BRK, SP_ST_READY, 0)          \
	M(v_rewrap, 0x010b, SP_ROLE_BRK, SP_ROLE_VLT, SP_ST_READY, 0)         \
	M(v_rewrap_r, 0x010c, SP_ROLE_VLT, SP_ROLE_BRK, SP_ST_READY, 0)       \
	M(v_row_renew, 0x010d, SP_ROLE_BRK, SP_ROLE_VLT, SP_ST_READY, 0)      \
	M(v_row_renew_r, 0x010e, SP_ROLE_VLT, SP_ROLE_BRK, SP_ST_READY, 0)    \
	M(v_rotate_make, 0x0140, SP_ROLE_BRK, SP_ROLE_VLT, SP_ST_READY, 0)    \
	M(v_rotate_made, 0x0141, SP_ROLE_VLT, SP_ROLE_BRK, SP_ST_READY, 0)    \
	M(v_rotate_lease, 0x0142, SP_ROLE_BRK, SP_ROLE_VLT, SP_ST_READY, 0)   \
	M(v_challenge, 0x0150, SP_ROLE_BRK, SP_ROLE_VLT, SP_ST_READY, 0)      \
	M(v_challenge_r, 0x0151, SP_ROLE_VLT, SP_ROLE_BRK, SP_ST_READY, 0)    \
	M(v_play_release, 0x01b3, SP_ROLE_BRK, SP_ROLE_VLT, SP_ST_READY, 0)   \
	M(v_approval, 0x0152, SP_ROLE_BRK, SP_ROLE_VLT, SP_ST_READY, 0)       \
	M(v_approval_r, 0x0153, SP_ROLE_VLT, SP_ROLE_BRK, SP_ST_READY, 0)     \
	M(v_reveal, 0x0154, SP_ROLE_BRK, SP_ROLE_VLT, SP_ST_READY, 0)         \
	/* -- the transparency log -- */                                      \
	M(start_notary, 0x0191, SP_ROLE_SUP, SP_ROLE_NTY, SP_ST_NEW, 1)       \
	M(n_point, 0x0192, SP_ROLE_BRK, SP_ROLE_NTY, SP_ST_READY, 0)          \
	M(n_note, 0x0193, SP_ROLE_BRK, SP_ROLE_NTY, SP_ST_READY, 0)           \
	M(n_taken, 0x0194, SP_ROLE_NTY, SP_ROLE_BRK, SP_ST_READY, 0)          \
	M(n_status, 0x0195, SP_ROLE_NTY, SP_ROLE_BRK, SP_ST_READY, 0)         \
	M(v_log_head, 0x0196, SP_ROLE_NTY, SP_ROLE_VLT, SP_ST_READY, 0)       \
	M(v_log_head_r, 0x0197, SP_ROLE_VLT, SP_ROLE_NTY, SP_ST_READY, 0)     \
	M(v_log_sign, 0x0198, SP_ROLE_NTY, SP_ROLE_VLT, SP_ST_READY, 0)       \
	M(v_log_sign_r, 0x0199, SP_ROLE_VLT, SP_ROLE_NTY, SP_ST_READY, 0)     \
	M(n_run, 0x019a, SP_ROLE_NTY, SP_ROLE_SUP, SP_ST_READY, 0)            \
	M(n_run_r, 0x019b, SP_ROLE_SUP, SP_ROLE_NTY, SP_ST_READY, 2)          \
	M(n_run_failed, 0x019c, SP_ROLE_SUP, SP_ROLE_NTY, SP_ST_READY, 0)     \
	M(n_checkpoint, 0x019d, SP_ROLE_NTY, SP_ROLE_SUP, SP_ST_READY, 0)     \
	/* -- recordings to the store of objects, and their end: doc/retention.md -- */ \
	M(start_ship, 0x01a0, SP_ROLE_SUP, SP_ROLE_SHP, SP_ST_NEW, 1)         \
	M(ship_job, 0x01a1, SP_ROLE_BRK, SP_ROLE_SUP, SP_ST_READY, 0)         \
	M(ship_file, 0x01a2, SP_ROLE_SUP, SP_ROLE_SHP, SP_ST_READY, 1)        \
	M(ship_done, 0x01a3, SP_ROLE_SHP, SP_ROLE_SUP, SP_ST_READY, 0)        \
	M(ship_result, 0x01a4, SP_ROLE_SUP, SP_ROLE_BRK, SP_ST_READY, 0)      \
	M(ship_dial, 0x01a5, SP_ROLE_SHP, SP_ROLE_SUP, SP_ST_READY, 0)        \
	M(ship_dialed, 0x01a6, SP_ROLE_SUP, SP_ROLE_SHP, SP_ST_READY, 1)      \
	M(ship_dial_failed, 0x01a7, SP_ROLE_SUP, SP_ROLE_SHP, SP_ST_READY, 0) \
	M(v_store_key, 0x01a8, SP_ROLE_SHP, SP_ROLE_VLT, SP_ST_READY, 0)      \
	M(v_store_key_r, 0x01a9, SP_ROLE_VLT, SP_ROLE_SHP, SP_ST_READY, 0)    \
	M(n_deleting, 0x01ab, SP_ROLE_NTY, SP_ROLE_SUP, SP_ST_READY, 0)       \
	M(n_erase, 0x01ac, SP_ROLE_SUP, SP_ROLE_NTY, SP_ST_READY, 0)          \
	M(ship_alive, 0x01ad, SP_ROLE_SHP, SP_ROLE_SUP, SP_ST_READY, 0)       \
	/* -- ingress and vault: the host's signature over a key exchange -- */ \
	M(host_sign, 0x0123, SP_ROLE_ING, SP_ROLE_VLT, SP_ST_READY, 0)        \
	M(host_sign_r, 0x0124, SP_ROLE_VLT, SP_ROLE_ING, SP_ST_ANY, 0)        \
	/* -- vault and one egress, vault and one player -- */                \
	M(host_proof, 0x00b0, SP_ROLE_EGR, SP_ROLE_VLT, SP_ST_READY, 0)       \
	M(host_proof_r, 0x00b1, SP_ROLE_VLT, SP_ROLE_EGR, SP_ST_ANY, 0)       \
	M(take_password, 0x00b2, SP_ROLE_EGR, SP_ROLE_VLT, SP_ST_LIVE, 0)     \
	M(password, 0x00b3, SP_ROLE_VLT, SP_ROLE_EGR, SP_ST_ANY, 1)           \
	M(take_rotation, 0x0143, SP_ROLE_EGR, SP_ROLE_VLT, SP_ST_LIVE, 0)     \
	M(rotation, 0x0144, SP_ROLE_VLT, SP_ROLE_EGR, SP_ST_ANY, 1)           \
	M(play_keys, 0x00b8, SP_ROLE_PLY, SP_ROLE_VLT, SP_ST_READY, 0)        \
	M(play_keys_r, 0x00b9, SP_ROLE_VLT, SP_ROLE_PLY, SP_ST_ANY, 0)        \
	M(search_keys, 0x01ca, SP_ROLE_PLY, SP_ROLE_VLT, SP_ST_READY, 0)      \
	M(search_keys_r, 0x01cb, SP_ROLE_VLT, SP_ROLE_PLY, SP_ST_ANY, 0)      \
	/* -- databases: the egress of one, its broker, its vault -- */       \
	M(sql_start, 0x0130, SP_ROLE_BRK, SP_ROLE_EGR, SP_ST_NEW, 0)          \
	M(sql_begin, 0x0131, SP_ROLE_EGR, SP_ROLE_VLT, SP_ST_READY, 0)        \
	M(sql_begin_r, 0x0132, SP_ROLE_VLT, SP_ROLE_EGR, SP_ST_ANY, 0)        \
	M(sql_prove, 0x0133, SP_ROLE_EGR, SP_ROLE_VLT, SP_ST_LIVE, 0)         \
	M(sql_prove_r, 0x0134, SP_ROLE_VLT, SP_ROLE_EGR, SP_ST_ANY, 0)        \
	M(sql_event, 0x0135, SP_ROLE_EGR, SP_ROLE_BRK, SP_ST_LIVE, 0)         \
	M(sql_cancel, 0x0136, SP_ROLE_EGR, SP_ROLE_BRK, SP_ST_LIVE, 0)        \
	M(sql_cancel_r, 0x0137, SP_ROLE_BRK, SP_ROLE_EGR, SP_ST_ANY, 0)       \
	M(v_sql_verifier, 0x0138, SP_ROLE_BRK, SP_ROLE_VLT, SP_ST_READY, 0)   \
	M(v_sql_verifier_r, 0x0139, SP_ROLE_VLT, SP_ROLE_BRK, SP_ST_READY, 0)\
	/* -- broker and one player -- */                                     \
	M(play_start, 0x00c0, SP_ROLE_BRK, SP_ROLE_PLY, SP_ST_NEW, 0)         \
	M(play_result, 0x00c1, SP_ROLE_PLY, SP_ROLE_BRK, SP_ST_READY, 0)      \
	M(play_rows, 0x01e0, SP_ROLE_BRK, SP_ROLE_PLY, SP_ST_READY, 0)        \
	M(play_live, 0x01b2, SP_ROLE_BRK, SP_ROLE_PLY, SP_ST_READY, 0)        \
	M(search_start, 0x01c4, SP_ROLE_BRK | SP_ROLE_PLY, SP_ROLE_PLY,       \
	    SP_ST_NEW, 0)                                                     \
	M(search_batch, 0x01c5, SP_ROLE_BRK, SP_ROLE_PLY, SP_ST_READY,        \
	    SP_SEARCH_BATCH)                                                  \
	M(search_all, 0x01c6, SP_ROLE_BRK, SP_ROLE_PLY, SP_ST_READY, 0)       \
	M(search_next, 0x01c7, SP_ROLE_PLY, SP_ROLE_BRK, SP_ST_READY, 0)      \
	M(search_result, 0x01c8, SP_ROLE_PLY, SP_ROLE_BRK, SP_ST_READY, 0)    \
	M(search_mask, 0x01fa, SP_ROLE_PLY, SP_ROLE_BRK, SP_ST_READY, 0)      \
	M(search_masked, 0x01fb, SP_ROLE_BRK, SP_ROLE_PLY, SP_ST_READY, 0)    \
	M(search_masks, 0x01fd, SP_ROLE_PLY, SP_ROLE_VLT, SP_ST_READY, 0)     \
	M(search_masks_r, 0x01fe, SP_ROLE_VLT, SP_ROLE_PLY, SP_ST_READY, 0)   \
	/* -- the players of one search, among themselves -- */               \
	M(search_job, 0x01cc, SP_ROLE_PLY, SP_ROLE_PLY, SP_ST_READY, 1)       \
	M(search_hits, 0x01cd, SP_ROLE_PLY, SP_ROLE_PLY, SP_ST_READY, 0)      \
	M(search_again, 0x01ff, SP_ROLE_PLY, SP_ROLE_PLY, SP_ST_READY, 0)     \
	/* -- the CLI over the broker's control socket -- */                  \
	M(ctl_verb, 0x00d0, SP_ROLE_CLI, SP_ROLE_BRK, SP_ST_NEW, 0)           \
	M(ctl_stream, 0x00d1, SP_ROLE_BRK, SP_ROLE_CLI, SP_ST_ANY, 1)         \
	M(ctl_refused, 0x00d2, SP_ROLE_BRK, SP_ROLE_CLI, SP_ST_ANY, 0)        \
	/* -- the CLI over the vault's own socket -- */                       \
	M(vc_status, 0x00e0, SP_ROLE_CLI, SP_ROLE_VLT, SP_ST_READY, 0)        \
	M(vc_unseal, 0x00e1, SP_ROLE_CLI, SP_ROLE_VLT, SP_ST_READY, 0)        \
	M(vc_seal, 0x00e2, SP_ROLE_CLI, SP_ROLE_VLT, SP_ST_READY, 0)          \
	M(vc_secret_new, 0x00e3, SP_ROLE_CLI, SP_ROLE_VLT, SP_ST_READY, 0)    \
	M(vc_secret_new_r, 0x00e4, SP_ROLE_VLT, SP_ROLE_CLI, SP_ST_ANY, 0)    \
	M(vc_totp_new, 0x00e5, SP_ROLE_CLI, SP_ROLE_VLT, SP_ST_READY, 0)      \
	M(vc_totp_new_r, 0x00e6, SP_ROLE_VLT, SP_ROLE_CLI, SP_ST_ANY, 0)      \
	M(vc_status_r, 0x00e7, SP_ROLE_VLT, SP_ROLE_CLI, SP_ST_ANY, 0)        \
	M(vc_done, 0x00e8, SP_ROLE_VLT, SP_ROLE_CLI, SP_ST_ANY, 0)            \
	M(vc_rule_set, 0x0155, SP_ROLE_CLI, SP_ROLE_VLT, SP_ST_READY, 0)      \
	M(vc_rule_set_r, 0x0156, SP_ROLE_VLT, SP_ROLE_CLI, SP_ST_ANY, 0)      \
	M(vc_reveal, 0x0157, SP_ROLE_CLI, SP_ROLE_VLT, SP_ST_READY, 0)        \
	M(vc_reveal_r, 0x0158, SP_ROLE_VLT, SP_ROLE_CLI, SP_ST_ANY, 0)        \
	M(vc_kit_begin, 0x0159, SP_ROLE_CLI, SP_ROLE_VLT, SP_ST_READY, 0)     \
	M(vc_kit_add, 0x015a, SP_ROLE_CLI, SP_ROLE_VLT, SP_ST_READY, 0)       \
	M(vc_kit_end, 0x015b, SP_ROLE_CLI, SP_ROLE_VLT, SP_ST_READY, 0)       \
	M(vc_kit_r, 0x015c, SP_ROLE_VLT, SP_ROLE_CLI, SP_ST_ANY, 0)           \
	M(vc_backup_key, 0x0160, SP_ROLE_CLI, SP_ROLE_VLT, SP_ST_READY, 0)    \
	M(vc_backup_key_r, 0x0161, SP_ROLE_VLT, SP_ROLE_CLI, SP_ST_ANY, 0)    \
	M(vc_slots, 0x0101, SP_ROLE_CLI, SP_ROLE_VLT, SP_ST_READY, 0)         \
	M(vc_slots_r, 0x0102, SP_ROLE_VLT, SP_ROLE_CLI, SP_ST_ANY, 0)         \
	M(vc_slot_add, 0x0103, SP_ROLE_CLI, SP_ROLE_VLT, SP_ST_READY, 0)      \
	M(vc_slot_add_r, 0x0104, SP_ROLE_VLT, SP_ROLE_CLI, SP_ST_ANY, 0)      \
	M(vc_slot_remove, 0x0105, SP_ROLE_CLI, SP_ROLE_VLT, SP_ST_READY, 0)   \
	M(vc_ceremony, 0x0106, SP_ROLE_CLI, SP_ROLE_VLT, SP_ST_READY, 0)      \
	M(vc_ceremony_r, 0x0107, SP_ROLE_VLT, SP_ROLE_CLI, SP_ST_ANY, 0)      \
	M(vc_share, 0x0108, SP_ROLE_CLI, SP_ROLE_VLT, SP_ST_READY, 0)         \
	M(vc_rotate, 0x0109, SP_ROLE_CLI, SP_ROLE_VLT, SP_ST_READY, 0)        \
	M(vc_rotate_r, 0x010a, SP_ROLE_VLT, SP_ROLE_CLI, SP_ST_ANY, 0)        \
	M(vc_store_key, 0x01aa, SP_ROLE_CLI, SP_ROLE_VLT, SP_ST_READY, 0)

/* ------------------------------------------------------------------ fields
 * One macro a message: F(kind, name, cap). Descriptors are listed in the
 * comment, in their order. */

/* First word of every executed process: the hash of this table, its sandbox. */
#define SP_FIELDS_hello(F) F(h32, table, 0) F(str, sandbox, 128)
/* fds: its directory, the listening vault control socket, a file with a host key to
 * be taken into its state (OpenSSH private key form), empty: there is none */
#define SP_FIELDS_start_vault(F) F(str, config, 32768)
/* fds: the listening control socket, its files heads and reserve. `db` is the libpq connection string;
 * `host_key` the line of keys/ssh_host_ed25519_key.pub, empty if unreadable. */
#define SP_FIELDS_start_broker(F)                                             \
	F(str, config, 32768) F(str, db, 1024) F(str, node, 64)               \
	F(str, host_key, 1024)
/* `host_key` as for the broker: the vault has the private half */
#define SP_FIELDS_start_ingress(F) F(str, config, 32768) F(str, host_key, 1024)
#define SP_FIELDS_start_parent(F) F(str, config, 32768)
#define SP_FIELDS_started(F) F(str, sandbox, 128)
/* fds: our end of a new link with that role (also after that role restarts) */
#define SP_FIELDS_peer_link(F) F(u16, role, 0)
#define SP_FIELDS_stop(F) F(u8, graceful, 0)
/* The configuration was read again: what holds from now on. */
#define SP_FIELDS_reconfig(F) F(str, config, 32768)

/* fds: client's TCP socket, link to the broker, link to the vault. proxied: a PROXY header comes
 * first, peer_addr is the proxy's. */
#define SP_FIELDS_spawn_ingress(F)                                            \
	F(u64, id, 0) F(str, peer_addr, 64) F(u16, peer_port, 0)              \
	F(u8, proxied, 0)
/* fds: recording file (rw), link to the broker, stream of the ingress side,
 * stream of the egress side */
/* The vault's keys as the vault itself said them (vault_keys); pinned 0: it has
 * not yet. A recorder takes no other from the broker. */
#define SP_FIELDS_spawn_recorder(F)                                           \
	F(u64, id, 0) F(uuid, session, 0) F(u8, pinned, 0) F(h32, audit_key, 0) \
	F(h32, recording_key, 0)
/* fds: recording file (rw), link to the broker */
#define SP_FIELDS_spawn_recover(F) F(u64, id, 0) F(uuid, session, 0)
/* fds: connected socket to the target, stream of the recorder side (of a hop:
 * the socket that the next leg is connected by), link to the broker, link to
 * the vault, ssh-agent stream of the vault. session: the leg. */
#define SP_FIELDS_spawn_egress(F) F(u64, id, 0) F(uuid, session, 0)
/* fds: recording file (ro), link to the broker, viewer's stream, link to the
 * vault */
#define SP_FIELDS_spawn_player(F) F(u64, id, 0) F(uuid, session, 0)
/* fds: link to the broker, the viewer's stream, link to the vault */
#define SP_FIELDS_spawn_search(F) F(u64, id, 0)
/* fds: the directory of the PAM service */
#define SP_FIELDS_start_auth(F) F(str, config, 32768)
/* fds: link to the broker */
#define SP_FIELDS_spawn_auth(F) F(u64, id, 0)
/* fds: link to the recorder of that session */
#define SP_FIELDS_spawn_scribe(F) F(u64, id, 0) F(uuid, session, 0)
#define SP_FIELDS_spawned(F) F(u64, id, 0) F(u32, pid, 0)
/* status as of waitpid(2) */
#define SP_FIELDS_exited(F) F(u64, id, 0) F(u32, pid, 0) F(u32, status, 0)

/* fds: the broker's end of the link with that ingress child */
#define SP_FIELDS_conn_new(F)                                                 \
	F(u64, conn, 0) F(str, peer_addr, 64) F(u16, peer_port, 0)            \
	F(str, local_addr, 64) F(u16, local_port, 0) F(u8, proxied, 0)
#define SP_FIELDS_conn_end(F) F(u64, conn, 0) F(u32, status, 0)
#define SP_FIELDS_conn_kill(F) F(u64, conn, 0)
/* Both factors are given: the connection counts no more as a start-up
 * (max_startups). Without it, it does until login_grace_s has passed. */
#define SP_FIELDS_conn_authed(F) F(u64, conn, 0)
/* A key is accepted: the last to be ended when max_startups is reached. */
#define SP_FIELDS_conn_keyed(F) F(u64, conn, 0)
/* Once, of a connection that is proxied: whom max_per_source counts. */
#define SP_FIELDS_conn_source(F) F(u64, conn, 0) F(str, peer_addr, 64)
#define SP_FIELDS_auth_spawn(F) F(u64, login, 0)
/* fds: link with the auth process */
#define SP_FIELDS_auth_spawned(F) F(u64, login, 0)
/* Makes the recording file and its recorder; nothing is dialled yet. */
#define SP_FIELDS_session_spawn(F) F(uuid, session, 0)
/* fds: link with the recorder, the ingress side's stream */
#define SP_FIELDS_session_spawned(F) F(uuid, session, 0)
/* addr is numeric; deadline is a length of time. leg: the session itself, or
 * the id of a hop on the way to its target: an egress that forwards to the next
 * leg and has no recorder. via: nil to connect to addr; else the hop whose
 * forward is the "connected socket". sql 1: a database, by the egress for those.
 * more 1: if this egress fails another may
 * be dialled, so the recorder's stream is kept until session_settled. */
#define SP_FIELDS_session_dial(F)                                             \
	F(uuid, session, 0) F(uuid, leg, 0) F(uuid, via, 0)                   \
	F(str, addr, 64) F(u16, port, 0) F(u32, deadline_ms, 0) F(u8, more, 0) \
	F(u8, sql, 0)
/* fds: link with the egress */
/* local_addr: what the target sees the connection come from, numeric; "" where
 * that is another target's end of it. */
#define SP_FIELDS_session_dialed(F)                                           \
	F(uuid, session, 0) F(uuid, leg, 0) F(str, local_addr, 64)
/* Its egress has logged in: nothing is dialled for it any more. */
#define SP_FIELDS_session_settled(F) F(uuid, session, 0)
/* Kills what is left of a session's processes, by pid, at once. */
#define SP_FIELDS_session_kill(F) F(uuid, session, 0)
/* role SP_ROLE_REC or SP_ROLE_EGR; status as of waitpid(2); leg of an egress */
#define SP_FIELDS_session_child_end(F)                                        \
	F(uuid, session, 0) F(u16, role, 0) F(u32, status, 0) F(uuid, leg, 0)
/* The answer to auth_spawn, session_spawn, session_dial, recover, play_spawn
 * or scan_key when it could not be done; corr is the request's. */
#define SP_FIELDS_spawn_failed(F)                                             \
	F(uuid, session, 0) F(u64, id, 0) F(u32, err_no, 0) F(str, text, 256)
/* An unfinished recording: cut it at the last whole chunk and seal it. */
#define SP_FIELDS_recover(F) F(uuid, session, 0)
/* fds: link with the recovering recorder */
#define SP_FIELDS_recover_spawned(F) F(uuid, session, 0)
#define SP_FIELDS_play_spawn(F) F(u64, play, 0) F(uuid, session, 0)
/* fds: link with the player, the viewer's stream */
#define SP_FIELDS_play_spawned(F) F(u64, play, 0)
/* A player for a search: answered with play_spawned. */
#define SP_FIELDS_search_spawn(F) F(u64, play, 0)
/* At most SP_SEARCH_BATCH uuids; answered with those that have a file here.
 * fds of the answer: their files, read-only, in that order; those beyond n are
 * duplicates of the first (n is 0: of an empty one). */
#define SP_FIELDS_search_open(F) F(u64, play, 0) F(bytes, sessions, 256)
#define SP_FIELDS_search_opened(F)                                            \
	F(u64, play, 0) F(u8, n, 0) F(bytes, sessions, 256)
/* Connects only to read a target's host key (target add --scan). */
#define SP_FIELDS_scan_key(F)                                                 \
	F(u64, id, 0) F(str, addr, 64) F(u16, port, 0) F(u32, deadline_ms, 0)
/* A scribe for a running session; one that it has already is ended first. */
#define SP_FIELDS_scribe_spawn(F) F(uuid, session, 0)
/* fds: the recorder's end of the link with it */
#define SP_FIELDS_scribe_spawned(F) F(uuid, session, 0)
/* fds: link with an egress in scan mode */
#define SP_FIELDS_scan_spawned(F) F(u64, id, 0)
/* What the sender saw and refused: becomes an audit event. */
#define SP_FIELDS_security_event(F)                                           \
	F(str, what, 64) F(uuid, session, 0) F(str, detail, 512)

/* fds: vault's end of the link, vault's end of the agent stream */
#define SP_FIELDS_egress_link(F) F(uuid, session, 0)
/* fds: vault's end of the link */
#define SP_FIELDS_ingress_link(F) F(u64, conn, 0)
/* fds: vault's end of the link */
#define SP_FIELDS_player_link(F) F(u64, play, 0) F(uuid, session, 0)

/* A key was offered (is_signed 0) or its signature verified (1) for the login
 * name, as the client wrote it. corr is echoed. */
#define SP_FIELDS_auth_key(F)                                                 \
	F(str, login, 255) F(str, algo, 64) F(bytes, blob, 4096)              \
	F(u8, is_signed, 0)
#define SP_FIELDS_auth_key_result(F) F(u8, ok, 0)
/* The client asked for keyboard-interactive after its key. */
#define SP_FIELDS_mfa_begin(F) F(str, login, 255)
/* What to show or ask, in the keyboard-interactive conversation `dialog`
 * (0: the outer login; else the inner login's id). kind: enum sp_dialog. */
#define SP_FIELDS_dialog(F)                                                   \
	F(u32, dialog, 0) F(u8, kind, 0) F(str, title, 256) F(str, text, 4096)
#define SP_FIELDS_dialog_answer(F) F(u32, dialog, 0) F(str, text, 1024)
/* The ingress refused or saw something before authentication: why (audit). */
#define SP_FIELDS_auth_refused(F) F(str, why, 128) F(bytes, detail, 512)
/* Once, before anything else, where conn_new said proxied: what the header of
 * the PROXY protocol says. Numeric. */
#define SP_FIELDS_conn_peer(F) F(str, peer_addr, 64) F(u16, peer_port, 0)

/* A direct-tcpip channel (ssh -J): id is the ingress's, never 0. ok 1: it waits
 * for an inner login. ok 2: it is a database, protocol says which (enum
 * sp_protocol): the channel itself is asked for with chan_open{id, SQL}. */
#define SP_FIELDS_target_open(F) F(u32, id, 0) F(str, host, 255) F(u16, port, 0)
#define SP_FIELDS_target_open_result(F)                                       \
	F(u32, id, 0) F(u8, ok, 0) F(u8, protocol, 0) F(str, text, 512)
/* Inner login. method: enum sp_login_method; blob is the key for publickey
 * (already verified by the ingress when is_signed). */
#define SP_FIELDS_target_login(F)                                             \
	F(u32, id, 0) F(str, login, 255) F(u8, method, 0) F(str, algo, 64)    \
	F(bytes, blob, 4096) F(u8, is_signed, 0)
/* verdict: enum sp_login_verdict. NEXT: go on with keyboard-interactive, a
 * dialog with this id follows once the client asks for it. */
#define SP_FIELDS_target_login_result(F) F(u32, id, 0) F(u8, verdict, 0)
#define SP_FIELDS_target_close(F) F(u32, id, 0)
/* A shell, exec or subsystem request. ctx 0: the outer connection (a verb, or
 * the target of USER+ACCOUNT+TARGET); else the inner login's id. open is the
 * payload of the stream's OPEN frame (common/stream.h). */
#define SP_FIELDS_chan_open(F) F(u32, ctx, 0) F(u32, chan, 0) F(bytes, open, 36864)
/* fds: the stream that carries this channel; the ingress sends the OPEN frame
 * on it. shared 1: this and every other channel of this ctx that waits for an
 * answer, and later ones without asking again, use the same stream. */
#define SP_FIELDS_chan_stream(F) F(u32, ctx, 0) F(u32, chan, 0) F(u8, shared, 0)
/* chan 0: the session of this ctx is over and its stream ends, or is cut after
 * three seconds; the text is shown where that stream ends without an END. */
#define SP_FIELDS_chan_refused(F)                                             \
	F(u32, ctx, 0) F(u32, chan, 0) F(u8, exit_code, 0) F(str, text, 2048)
/* Shown on every terminal of the connection; end 1: then disconnect. */
#define SP_FIELDS_conn_notice(F) F(u8, end, 0) F(str, text, 1024)
/* The ingress refused something by itself (agent, X11, -R, ...): audit. */
#define SP_FIELDS_policy_refusal(F) F(str, what, 64) F(str, detail, 512)

#define SP_FIELDS_pam_start(F)                                                \
	F(str, user, 64) F(str, rhost, 64) F(str, service, 32)
/* style as of pam_conv(3) */
#define SP_FIELDS_pam_prompt(F) F(u8, style, 0) F(str, text, 512)
#define SP_FIELDS_pam_answer(F) F(u8, ok, 0) F(str, text, 512)
#define SP_FIELDS_pam_check_totp(F) F(str, user, 64) F(str, code, 64)
#define SP_FIELDS_pam_check_acct(F) F(str, user, 64)
/* verdict: enum sp_pam_verdict */
#define SP_FIELDS_pam_verdict(F) F(u8, verdict, 0) F(str, text, 256)
/* the PAM return values of pam_authenticate and pam_acct_mgmt */
#define SP_FIELDS_pam_result(F) F(u32, auth, 0) F(u32, acct, 0)

/* rules: struct sp_rules, encoded (common/rules.h). durability: enum
 * sp_durability. recipients: none; the recorder knows them from the supervisor.
 * audit_key must be the one that the vault told. meta: JSON text of who, what,
 * where. */
#define SP_FIELDS_rec_open(F)                                                 \
	F(uuid, session, 0) F(bytes, rules, 32768) F(u8, durability, 0)       \
	F(bytes, recipients, 1024) F(h32, audit_key, 0)                       \
	F(u64, reserve_bytes, 0) F(str, meta, 8192)
#define SP_FIELDS_rec_opened(F)                                               \
	F(uuid, session, 0) F(h32, rec_key, 0) F(h32, header_hash, 0)         \
	F(i64, opened_us, 0)
/* the vault's signature over the recording's key and header */
#define SP_FIELDS_rec_cert(F) F(sig, signature, 0)
/* The OPEN record is on disk; the recorder relays from now on. */
#define SP_FIELDS_rec_ready(F) F(uuid, session, 0) F(h32, head, 0)
/* Does it still go on? Who waits for a disk answers nothing. number: of the ping. */
#define SP_FIELDS_rec_ping(F) F(u32, number, 0)
#define SP_FIELDS_rec_pong(F) F(u32, number, 0)
/* A text for the user's terminal and the META lane (expiry warnings). */
#define SP_FIELDS_rec_note(F) F(u8, show, 0) F(str, text, 1024)
/* What a second person does: enum sp_steer. number: of rec_held, for release and
 * refuse. text: why, for the user. */
#define SP_FIELDS_rec_steer(F)                                                \
	F(u8, deed, 0) F(u64, number, 0) F(str, who, 64) F(str, text, 512)
/* Waits until it is released or refused. slot: 0 the user's stream, 1 a file.
 * number 0: nothing waits there any more. kind: enum sp_held_kind. text: the
 * command, the file; encoded. */
#define SP_FIELDS_rec_held(F)                                                 \
	F(u8, slot, 0) F(u64, number, 0) F(u8, kind, 0) F(u32, chan, 0)       \
	F(str, text, 1024)
/* code: enum sp_end_code */
#define SP_FIELDS_rec_end(F) F(u8, code, 0) F(str, text, 512)
/* what happened on the wire, for the audit log: channel opened, refused,
 * protocol broken by a leg, checkpoint */
#define SP_FIELDS_rec_event(F)                                                \
	F(str, what, 64) F(u32, chan, 0) F(str, detail, 2048)
/* There is a terminal to read along with. */
#define SP_FIELDS_rec_scribe_want(F) F(uuid, session, 0)
/* fds: the link with it */
#define SP_FIELDS_rec_scribe(F) F(uuid, session, 0)
#define SP_FIELDS_scribe_begin(F) F(uuid, session, 0)
/* A terminal that was read along before: of that size and blank, or the state
 * that comes in scribe_load, `state` bytes in all. unsure: something was not read
 * since. */
#define SP_FIELDS_scribe_screen(F)                                            \
	F(u32, chan, 0) F(u32, cols, 0) F(u32, rows, 0) F(u8, unsure, 0)      \
	F(u32, state, 0)
#define SP_FIELDS_scribe_load(F) F(u32, chan, 0) F(bytes, part, 60000)
/* What was recorded: records (doc/recording-format.md) of the kinds open (here
 * u32 columns, u32 rows), in, out, err, resize and close, with the times that
 * they have in the recording. until: that of the last, or 0 while more of it
 * follows. skipped: bytes of terminals that are left out before them. */
#define SP_FIELDS_scribe_copy(F)                                              \
	F(u64, until, 0) F(u64, skipped, 0) F(bytes, records, 61440)
/* Say what is left to say, and end. */
#define SP_FIELDS_scribe_stop(F) F(u8, last, 0)
/* All up to `until` was read; what came of it: records of the kinds line,
 * command, secret (recorder/view.h), their times as above. */
#define SP_FIELDS_scribe_derived(F) F(u64, until, 0) F(bytes, records, 61440)
/* A part of a screen's state, in order from offset 0 to `total`. kept: to go on
 * from, not for the recording. */
#define SP_FIELDS_scribe_keyframe(F)                                          \
	F(u32, chan, 0) F(u64, at_us, 0)                                      \
	F(u32, cols, 0) F(u32, rows, 0) F(u8, unsure, 0) F(u8, kept, 0)       \
	F(u32, total, 0) F(u32, offset, 0) F(bytes, part, 60000)
/* A recorder that ends before its OPEN is on disk exits with this: its file
 * holds nothing and no row names it. */
#define SP_EXIT_NOTHING_RECORDED 3
#define SP_FIELDS_rec_closed(F)                                               \
	F(uuid, session, 0) F(u8, code, 0) F(str, reason, 512) F(h32, head, 0) \
	F(u64, chunks, 0) F(u64, bytes_in, 0) F(u64, bytes_out, 0)            \
	F(u64, file_bytes, 0)
/* closed 1: the file was whole and had its CLOSE. */
#define SP_FIELDS_rec_recovered(F)                                            \
	F(uuid, session, 0) F(u8, closed, 0) F(h32, head, 0) F(u64, chunks, 0) \
	F(u64, cut_bytes, 0) F(u64, file_bytes, 0)
/* the vault's signature over session, head and chunks of the recovered file */
#define SP_FIELDS_rec_seal(F) F(sig, signature, 0) F(i64, at_us, 0)

/* session: the leg, here and in what an egress says. method: enum
 * sp_cred_kind. host_keys: SSH public key blobs, each as an SSH string, one
 * after the other: the pins. legacy 1: old algorithms may be used. forward_port
 * not 0: it is a hop, and forwards to this address once it has logged in.
 * rotates 1: it takes the secrets of a rotation and does nothing else. */
#define SP_FIELDS_egr_start(F)                                                \
	F(uuid, session, 0) F(str, account, 64) F(u8, method, 0)              \
	F(bytes, host_keys, 8192) F(u32, deadline_ms, 0) F(u8, legacy, 0)     \
	F(str, forward_addr, 64) F(u16, forward_port, 0) F(u8, rotates, 0)
/* algorithms: what was negotiated, in words. old 1: one of them is legacy. */
#define SP_FIELDS_egr_ready(F)                                                \
	F(uuid, session, 0) F(u8, old, 0) F(str, algorithms, 512)
/* The target asks what the lease does not answer; asks 0: it only tells. title
 * and prompt are the target's words, not encoded. One question at a time. */
#define SP_FIELDS_egr_prompt(F)                                               \
	F(uuid, session, 0) F(u8, asks, 0) F(u8, echo, 0) F(str, title, 1024) \
	F(str, prompt, 512)
/* ok 0: nobody answers */
#define SP_FIELDS_egr_answer(F) F(uuid, session, 0) F(u8, ok, 0) F(str, text, 512)
/* code: enum sp_egr_fail */
#define SP_FIELDS_egr_failed(F) F(uuid, session, 0) F(u8, code, 0) F(str, text, 512)
#define SP_FIELDS_egr_scan(F) F(u32, deadline_ms, 0) F(u8, legacy, 0)
#define SP_FIELDS_egr_scanned(F) F(bytes, host_key, 4096)

/* fds: the credential sallyport-vault that systemd gave the supervisor, open for
 * reading; after each start of the vault. */
#define SP_FIELDS_vault_credential(F)
/* Its public keys, each time it opens: for the recorders. */
#define SP_FIELDS_vault_keys(F) F(h32, audit_key, 0) F(h32, recording_key, 0)
/* The private half of this host key is in the vault's state: the file is over. */
#define SP_FIELDS_host_key_kept(F) F(h32, host_key, 0)
#define SP_FIELDS_v_status(F)
#define SP_FIELDS_v_status_r(F)                                               \
	F(u8, sealed, 0) F(u8, demo, 0) F(h32, audit_key, 0)                  \
	F(h32, recording_key, 0) F(bytes, ca_key, 256)
/* canon: the row's canonical bytes; mac covers table, id, version, canon. */
#define SP_FIELDS_v_row_seal(F)                                               \
	F(str, table, 32) F(uuid, id, 0) F(u64, version, 0) F(bytes, canon, 61440)
#define SP_FIELDS_v_row_seal_r(F) F(u8, ok, 0) F(h32, mac, 0)
#define SP_FIELDS_v_row_check(F)                                              \
	F(str, table, 32) F(uuid, id, 0) F(u64, version, 0)                   \
	F(bytes, canon, 61440) F(h32, mac, 0)
#define SP_FIELDS_v_row_check_r(F) F(u8, ok, 0)
/* A sealed secret as it stands in its row: id, version, owner and kind are
 * additional data of its seal. */
#define SP_FIELDS_v_totp_check(F)                                             \
	F(uuid, id, 0) F(u64, version, 0) F(uuid, owner, 0)                   \
	F(bytes, sealed, 1024) F(str, code, 64)
/* ok 1: step is the RFC 6238 time step that matched, to be spent by the broker;
 * 2: it matched, but the vault has seen it before (opens nothing, and is no
 * guess that counts towards a lock). */
#define SP_FIELDS_v_totp_check_r(F) F(u8, ok, 0) F(u64, step, 0)
/* A release rule (common/release.h) is owed for a request: the vault makes the
 * text that is signed for it. kind: enum sp_challenge_kind; life_us: how long
 * the request waits. own_keys: the sealed rows of the requester's keys, each
 * uuid id, u64 version, h32 mac, bytes canon. */
#define SP_FIELDS_v_challenge(F)                                              \
	F(uuid, request, 0) F(u64, number, 0) F(u8, kind, 0)                  \
	F(uuid, person, 0) F(str, person_name, 64) F(str, account, 64)        \
	F(uuid, target, 0) F(str, target_name, 64) F(bytes, rule, 8192)       \
	F(str, reason, 1024) F(u64, seconds, 0) F(u64, life_us, 0)            \
	F(bytes, own_keys, 16384)
#define SP_FIELDS_v_challenge_r(F)                                            \
	F(u8, err, 0) F(str, text, 256) F(bytes, challenge, 4096)
/* Before v_play_grant with the lane IN, where keys_approvals is not 0: a challenge
 * of kind KEYS and its signatures. Answered by v_done. */
#define SP_FIELDS_v_play_release(F)                                           \
	F(u64, play, 0) F(uuid, session, 0) F(str, account, 64)               \
	F(str, target_name, 64) F(bytes, challenge, 4096)                     \
	F(bytes, approvals, 24576)
/* Is this SSHSIG an approval of that challenge? person: whose, by the rule. */
#define SP_FIELDS_v_approval(F)                                               \
	F(bytes, rule, 8192) F(bytes, challenge, 4096) F(bytes, signature, 8192)
#define SP_FIELDS_v_approval_r(F)                                             \
	F(u8, err, 0) F(uuid, person, 0) F(str, key, 64) F(str, text, 256)
/* A request to show a credential is approved: the vault keeps it, for whoever
 * asks on the host (vc_reveal), once, for a minute. */
#define SP_FIELDS_v_reveal(F)                                                 \
	F(uuid, request, 0) F(u64, number, 0) F(u8, kind, 0)                  \
	F(str, account, 64) F(uuid, target, 0) F(str, target_name, 64)        \
	F(uuid, secret_id, 0) F(u64, secret_version, 0)                       \
	F(uuid, secret_owner, 0) F(bytes, sealed, 8192) F(bytes, rule, 8192)  \
	F(bytes, challenge, 4096) F(bytes, approvals, 24576)
/* The right to one login: account at the target with the pinned host keys,
 * until not_after. For SP_CRED_PASSWORD/SP_CRED_KEY the sealed secret's row.
 * source: the address that the certificate is good from ("" for none). legacy 1:
 * the host may prove its key by SHA-1; what the vault signs never is. rule: the
 * secret's release rule, with the challenge of the request and the SSHSIGs of
 * those who approved (each as bytes), or nothing of it. */
#define SP_FIELDS_v_lease(F)                                                  \
	F(uuid, session, 0) F(u8, kind, 0) F(str, account, 64)                \
	F(uuid, target, 0) F(str, target_name, 64) F(bytes, host_keys, 8192)  \
	F(i64, not_after, 0) F(u64, serial, 0) F(u32, rights, 0)              \
	F(str, source, 64) F(uuid, secret_id, 0) F(u64, secret_version, 0)    \
	F(uuid, secret_owner, 0) F(bytes, sealed, 8192) F(u8, legacy, 0)      \
	F(bytes, rule, 8192) F(bytes, challenge, 4096)                        \
	F(bytes, approvals, 24576)
#define SP_FIELDS_v_lease_r(F) F(u8, err, 0) F(str, text, 256)
#define SP_FIELDS_v_lease_end(F) F(uuid, session, 0)
/* Sent once, when the one login was signed for or the password handed out. */
#define SP_FIELDS_v_lease_used(F) F(uuid, session, 0) F(u8, kind, 0)
#define SP_FIELDS_v_sign_recording(F)                                         \
	F(uuid, session, 0) F(h32, rec_key, 0) F(h32, header_hash, 0)         \
	F(i64, opened_us, 0)
/* recovered 1: signs the RECOVERED record; 0: countersigns a CLOSE. */
#define SP_FIELDS_v_sign_close(F)                                             \
	F(uuid, session, 0) F(u8, recovered, 0) F(h32, head, 0)               \
	F(u64, chunks, 0) F(i64, at_us, 0)
#define SP_FIELDS_v_sign_audit(F) F(u64, seq, 0) F(h32, head, 0) F(i64, at_us, 0)
#define SP_FIELDS_v_sign_r(F) F(u8, ok, 0) F(sig, signature, 0)
/* lanes: bit n for lane n; the boxes of others are left closed. */
#define SP_FIELDS_v_play_grant(F) F(u64, play, 0) F(uuid, session, 0) F(u32, lanes, 0)
/* Behind it: a secret that this view must not show (common/mask.h), by its row. */
#define SP_FIELDS_v_play_mask(F)                                              \
	F(u64, play, 0) F(u8, kind, 0) F(uuid, secret_id, 0)                  \
	F(u64, secret_version, 0) F(uuid, secret_owner, 0)                    \
	F(bytes, sealed, 8192) F(bytes, rule, 8192)
/* The same for a search: uuids of 16 bytes each, in as many pieces as it takes. */
#define SP_FIELDS_v_search_grant(F)                                           \
	F(u64, play, 0) F(u32, lanes, 0) F(bytes, sessions, 61440)
/* As v_play_mask, for one recording of a search, in which something was found. */
#define SP_FIELDS_v_search_mask(F)                                            \
	F(u64, play, 0) F(uuid, session, 0) F(u8, kind, 0)                    \
	F(uuid, secret_id, 0) F(u64, secret_version, 0) F(uuid, secret_owner, 0) \
	F(bytes, sealed, 8192) F(bytes, rule, 8192)
#define SP_FIELDS_v_done(F) F(u8, err, 0) F(str, text, 256)
/* A key revocation list for sshd (PROTOCOL.krl): serials of our CA's
 * certificates, u64 each; key ids, a session's uuid each; whole CAs, blobs as
 * SSH strings. */
#define SP_FIELDS_v_krl(F)                                                    \
	F(u64, version, 0) F(bytes, serials, 32768) F(bytes, key_ids, 4096)   \
	F(bytes, cas, 8192)
#define SP_FIELDS_v_krl_r(F) F(u8, err, 0) F(bytes, krl, 61440)
/* A rotation of keys. Is the row's seal of the newest epoch? A secret is sealed
 * anew with it, if it is not yet or force is 1, as that of the row's next version
 * or of the same. state: enum sp_renewed; what is not of the vault is never made
 * so. */
#define SP_FIELDS_v_rewrap(F)                                                 \
	F(u8, kind, 0) F(uuid, id, 0) F(u64, version, 0) F(uuid, owner, 0)    \
	F(bytes, sealed, 8192) F(u64, new_version, 0) F(u8, force, 0)
#define SP_FIELDS_v_rewrap_r(F) F(u8, state, 0) F(bytes, sealed, 8192)
#define SP_FIELDS_v_row_renew(F)                                              \
	F(str, table, 32) F(uuid, id, 0) F(u64, version, 0)                   \
	F(bytes, canon, 61440) F(h32, mac, 0)
#define SP_FIELDS_v_row_renew_r(F) F(u8, state, 0)
/* A fresh password or key, sealed for the row (id, version, owner). rule: what a
 * password must be (vault/passgen.h). tag: see `rotation`. */
#define SP_FIELDS_v_rotate_make(F)                                            \
	F(u8, kind, 0) F(uuid, id, 0) F(u64, version, 0) F(uuid, owner, 0)    \
	F(str, rule, 256)
#define SP_FIELDS_v_rotate_made(F)                                            \
	F(u8, err, 0) F(bytes, sealed, 8192) F(h32, tag, 0)                   \
	F(bytes, public_key, 2048)
/* The session's lease, granted and not used yet, is one for a rotation: after
 * its login the egress may take these two, once. account: whose secret they are.
 * Of both: the row, owned by the lease's target. old_sealed empty: the login is
 * another account's, the old one is not needed. */
#define SP_FIELDS_v_rotate_lease(F)                                           \
	F(uuid, session, 0) F(str, account, 64) F(u8, kind, 0)                \
	F(uuid, owner, 0) F(uuid, new_id, 0) F(u64, new_version, 0)           \
	F(bytes, new_sealed, 8192) F(u8, old_kind, 0) F(uuid, old_id, 0)      \
	F(u64, old_version, 0) F(bytes, old_sealed, 8192)

/* What of a recording goes into the transparency log: OPEN (head and body empty)
 * or a chunk that stands in clear, as it stands in the file after `prev`. Each
 * comes with the vault's certificate of the recording (common/signed.h), so that
 * whoever takes it needs to remember nothing. */
#define SP_FIELDS_rec_point(F)                                                \
	F(uuid, session, 0) F(h32, rec_key, 0) F(h32, header_hash, 0)         \
	F(i64, opened_us, 0) F(sig, certificate, 0) F(h32, prev, 0)           \
	F(bytes, head, 28) F(bytes, body, 640)
/* fds: the directory of the log. node: part of the origin's name. */
#define SP_FIELDS_start_notary(F) F(str, config, 32768) F(str, node, 64)
/* A rec_point, handed on. urgent 1: somebody waits for it. */
#define SP_FIELDS_n_point(F)                                                  \
	F(u8, urgent, 0) F(uuid, session, 0) F(h32, rec_key, 0)               \
	F(h32, header_hash, 0) F(i64, opened_us, 0) F(sig, certificate, 0)    \
	F(h32, prev, 0) F(bytes, head, 28) F(bytes, body, 640)
/* An AUDIT or ACT leaf (common/tlog_leaf.h), its time left 0. */
#define SP_FIELDS_n_note(F) F(u8, urgent, 0) F(bytes, leaf, 1024)
/* err SP_OK: the leaf is on the disk, and it is number `index`. SEALED, IO,
 * FULL: to be sent again; CRYPTO, PROTO: it is none. */
#define SP_FIELDS_n_taken(F) F(u8, err, 0) F(u64, index, 0)
/* Unasked, after each change. state: enum sp_log_state. signed_size: of the last
 * checkpoint; text: what is wrong. */
#define SP_FIELDS_n_status(F)                                                 \
	F(u8, state, 0) F(u64, size, 0) F(u64, signed_size, 0)                \
	F(str, origin, 128) F(str, text, 256)
#define SP_FIELDS_v_log_head(F)
/* What the vault signed last for this origin. err SEALED: it cannot say. */
#define SP_FIELDS_v_log_head_r(F)                                             \
	F(u8, err, 0) F(str, origin, 128) F(u64, size, 0) F(h32, root, 0)     \
	F(h32, audit_key, 0)
/* proof: that the tree which was signed last is the beginning of this one, 32
 * bytes each. */
#define SP_FIELDS_v_log_sign(F) F(u64, size, 0) F(h32, root, 0) F(bytes, proof, 2048)
#define SP_FIELDS_v_log_sign_r(F) F(u8, err, 0) F(u64, size, 0) F(sig, signature, 0)
/* Runs a command of the configuration: what 1 a witness, 2 the time stamps. */
#define SP_FIELDS_n_run(F) F(u64, id, 0) F(u8, what, 0) F(u16, index, 0)
/* fds: where it reads from, what it says */
#define SP_FIELDS_n_run_r(F) F(u64, id, 0)
#define SP_FIELDS_n_run_failed(F) F(u64, id, 0) F(str, text, 256)
/* For the system's log. */
#define SP_FIELDS_n_checkpoint(F) F(str, line, 1024)

/* fds: the authorities' certificates (PEM), read-only */
#define SP_FIELDS_start_ship(F) F(str, config, 32768)
/* what: enum sp_ship_what. sha256, size: what a recording that is fetched must be.
 * started_us names its day in the store. The supervisor opens the file, and hands
 * on no ERASE without the leaf. */
#define SP_FIELDS_ship_job(F)                                                 \
	F(u64, id, 0) F(u8, what, 0) F(uuid, session, 0)                      \
	F(i64, started_us, 0) F(u64, size, 0) F(h32, sha256, 0)
/* fds: the recording, read-only; of FETCH a new file, to be written; of ERASE
 * nothing (/dev/null). */
#define SP_FIELDS_ship_file(F)                                                \
	F(u64, id, 0) F(u8, what, 0) F(uuid, session, 0)                      \
	F(i64, started_us, 0) F(u64, size, 0) F(h32, sha256, 0)
/* err SP_OK: of SEND and DROP the store has these bytes, compared by digest; of FETCH
 * they are in the file; of ERASE they are gone there. how: enum sp_ship_how.
 * sent: bytes that went to the store for it in this try. */
#define SP_FIELDS_ship_done(F)                                                \
	F(u64, id, 0) F(u8, err, 0) F(u8, how, 0) F(u64, size, 0)             \
	F(h32, sha256, 0) F(u64, sent, 0) F(str, text, 256)
/* As ship_done; of DROP, ERASE and FETCH the file on this disk has followed. */
#define SP_FIELDS_ship_result(F)                                              \
	F(u64, id, 0) F(u8, err, 0) F(u8, how, 0) F(u64, size, 0)             \
	F(h32, sha256, 0) F(u64, sent, 0) F(str, text, 256)
/* A connection to the store, at the address that the configuration names. */
#define SP_FIELDS_ship_dial(F) F(u8, index, 0)
/* fds: a socket that is being connected */
#define SP_FIELDS_ship_dialed(F) F(u8, index, 0)
#define SP_FIELDS_ship_dial_failed(F) F(str, text, 256)
#define SP_FIELDS_v_store_key(F)
/* err NOTFOUND: there is none */
#define SP_FIELDS_v_store_key_r(F)                                            \
	F(u8, err, 0) F(str, access, 256) F(bytes, secret, 256)
/* access "": the key is forgotten. */
#define SP_FIELDS_vc_store_key(F) F(str, access, 256) F(bytes, secret, 256)
/* May that recording's file be removed? SP_OK: its leaf DELETE is under a signed head (the
 * answer waits for that). DENIED: it is held there; NOTFOUND: there is no such leaf. */
#define SP_FIELDS_n_erase(F) F(uuid, session, 0)
#define SP_FIELDS_n_deleting(F) F(u8, err, 0) F(uuid, session, 0)
/* The job goes on; each two seconds. */
#define SP_FIELDS_ship_alive(F) F(u64, id, 0) F(u64, sent, 0)

/* The key exchange as it is hashed (RFC 4253, 8; RFC 5656, 4): both versions, both
 * KEXINIT, the host key, both public values, the shared secret. The vault hashes
 * it (sha512 0: SHA-256) and signs with the bastion's host key. */
#define SP_FIELDS_host_sign(F) F(u8, sha512, 0) F(bytes, exchange, 49152)
#define SP_FIELDS_host_sign_r(F) F(u8, ok, 0) F(sig, signature, 0) F(str, text, 256)
/* The host's key and its signature over the exchange hash, both as they stood
 * in the key exchange reply (RFC 5656, 4; RFC 8731). */
#define SP_FIELDS_host_proof(F) F(bytes, host_key, 4096) F(bytes, signature, 2048)
#define SP_FIELDS_host_proof_r(F) F(u8, ok, 0) F(str, text, 256)
#define SP_FIELDS_take_password(F) F(bytes, session_id, 64)
/* fds: a sealed memfd with the password */
#define SP_FIELDS_password(F) F(u32, len, 0)
#define SP_FIELDS_take_rotation(F) F(bytes, session_id, 64)
/* fds: a sealed memfd with the old and the new secret, each a u32 length and the
 * bytes: of a password itself, of a key its public blob (its private half never
 * leaves the vault). The tags stand for them in the recording: BLAKE2b-256 with a
 * key of the vault over row id, version and secret; all zero for none. */
#define SP_FIELDS_rotation(F)                                                 \
	F(str, account, 64) F(u8, kind, 0) F(u32, len, 0) F(h32, old_tag, 0)  \
	F(h32, new_tag, 0)
/* sealed: boxes as they stand in the recording's header, u8 0 and 98 bytes for a
 * group of lanes, or u8 lane and 97 bytes (common/signed.h) */
#define SP_FIELDS_play_keys(F) F(uuid, session, 0) F(bytes, sealed, 4096)
#define SP_FIELDS_play_keys_r(F) F(u8, ok, 0) F(bytes, keys, 1024) F(bytes, masks, 16384)
/* Boxes of several recordings: uuid, u8 n, then n boxes as in play_keys. The answer
 * has the same recordings in the same order: uuid, u8 n, then n times u8 lane and
 * 32 bytes; a box that the vault does not open is left out. */
#define SP_FIELDS_search_keys(F) F(bytes, boxes, 61440)
#define SP_FIELDS_search_keys_r(F) F(u8, ok, 0) F(bytes, keys, 61440)
/* mode: enum sp_play_mode; speed in percent; at_us: where to start. name: who
 * watches. recording_key: the vault's; a recording without it is not the
 * vault's to open. what: flags SP_PLAY_*. */
#define SP_FIELDS_play_start(F)                                               \
	F(u64, play, 0) F(uuid, session, 0) F(u8, mode, 0) F(u32, speed, 0)   \
	F(u64, at_us, 0) F(u64, idle_us, 0) F(h32, audit_key, 0)              \
	F(h32, known_head, 0) F(u8, head_is_known, 0) F(u8, json, 0)          \
	F(str, name, 64) F(h32, recording_key, 0) F(u8, what, 0)
#define SP_FIELDS_play_result(F) F(u8, verdict, 0) F(str, text, 1024)
/* After play_start of mode TIMELINE: what the bastion's rows say of the session.
 * Each is i64 wall clock, str what, str who, str text; `more`: they did not fit. */
#define SP_FIELDS_play_rows(F) F(u8, more, 0) F(bytes, rows, 61440)
/* Of mode WATCH, as often as it changes. state: enum sp_live_state; ends_us: the
 * grant's, 0: it has none; who: person, account, target; held: what waits, encoded;
 * say: for the last line. */
#define SP_FIELDS_play_live(F)                                                \
	F(u8, state, 0) F(i64, since_us, 0) F(i64, ends_us, 0) F(str, who, 256) \
	F(str, held, 1200) F(str, say, 1000)
/* lanes: enum sp_search_lane as bits; what: flags SP_SEARCH_*; limit: hits that
 * are shown; total: recordings that will come; words: UTF-8, untrusted;
 * recording_key: the vault's, among the recipients. */
#define SP_FIELDS_search_start(F)                                             \
	F(u64, play, 0) F(u8, lanes, 0) F(u8, what, 0) F(u32, limit, 0)       \
	F(u32, total, 0) F(h32, recording_key, 0) F(str, words, 512)          \
	F(str, name, 64)
/* n recordings: uuid, i64 wall clock of the beginning, str person, str account,
 * str target. fds: their files, read-only, in that order; those beyond n are
 * duplicates of the first. */
#define SP_FIELDS_search_batch(F) F(u8, n, 0) F(bytes, list, 16384)
/* No more will come; of so many there was no file on this bastion. */
#define SP_FIELDS_search_all(F) F(u32, missing, 0)
/* Another batch, please. */
#define SP_FIELDS_search_next(F) F(u32, got, 0)
/* unread: not to be read to their end; sealed: a lane that was asked for is not
 * for the vault alone; found: uuids of those with hits, the first ones */
#define SP_FIELDS_search_result(F)                                            \
	F(u32, read, 0) F(u32, unread, 0) F(u32, sealed, 0)                   \
	F(u64, hits, 0) F(u32, sessions, 0) F(bytes, found, 4096)
/* Something was found in it: what must not be shown of that? */
#define SP_FIELDS_search_mask(F) F(uuid, session, 0)
/* err SP_OK: the vault has been told, and is asked with search_masks. */
#define SP_FIELDS_search_masked(F) F(uuid, session, 0) F(u8, err, 0)
#define SP_FIELDS_search_masks(F) F(uuid, session, 0)
/* masks: common/mask.h; empty: nothing has to be covered */
#define SP_FIELDS_search_masks_r(F) F(uuid, session, 0) F(u8, ok, 0) F(bytes, masks, 10240)
/* Once more, with that covered before anything is looked for; empty: what was found
 * stays, and nothing is answered. */
#define SP_FIELDS_search_again(F) F(u32, number, 0) F(bytes, masks, 10240)
/* One recording for a worker: keys as the part of search_keys_r behind the n.
 * fds: the file */
#define SP_FIELDS_search_job(F) F(u32, number, 0) F(bytes, keys, 512)
/* state: SP_SEARCH_LAST, _UNREAD, _SEALED; hits: u64 us, u8 lane, u32 channel,
 * u16 length and text each; count: matches, those that are not listed too */
#define SP_FIELDS_search_hits(F)                                              \
	F(u32, number, 0) F(u8, state, 0) F(u32, count, 0)                    \
	F(bytes, hits, 61440)

/* fds: the directory of recordings */
#define SP_FIELDS_start_files(F)
/* op: enum sp_file_op; sessions: one uuid, of READ_MANY up to SP_SEARCH_BATCH. One is
 * asked at a time; the answer has its corr. */
#define SP_FIELDS_file_ask(F) F(u8, op, 0) F(bytes, sessions, 256)
/* err_no 0: done. */
#define SP_FIELDS_file_done(F) F(u32, err_no, 0)
/* fds: the recording; of NEW and RECOVER it may be written */
#define SP_FIELDS_file_opened(F)
/* fds: n of them, in the order of sessions; the others are one of them again, or
 * /dev/null. Sessions that have no file are left out. */
#define SP_FIELDS_files_opened(F) F(u8, n, 0) F(bytes, sessions, 256)
/* Recordings that have no end; before the file_done of LIST. */
#define SP_FIELDS_files_found(F) F(bytes, sessions, 16000)
/* argv: each argument as u32 length and bytes; open: an OPEN payload that says
 * whether there is a terminal and how large it is. */
#define SP_FIELDS_ctl_verb(F) F(bytes, argv, 49152) F(bytes, open, 4096)
/* fds: the stream with the verb's input and output, channel 1 */
#define SP_FIELDS_ctl_stream(F)
#define SP_FIELDS_ctl_refused(F) F(u8, exit_code, 0) F(str, text, 512)

#define SP_FIELDS_vc_status(F)
#define SP_FIELDS_vc_status_r(F)                                              \
	F(u8, sealed, 0) F(u8, demo, 0) F(u32, slots, 0) F(h32, audit_key, 0) \
	F(h32, recording_key, 0) F(bytes, ca_key, 256)
/* type: enum sp_slot_type; passphrase: what opens a slot of that type (a
 * passphrase, a credential's bytes, what a token unwrapped); 0: any that it may be. */
#define SP_FIELDS_vc_unseal(F) F(bytes, passphrase, 1024) F(u8, type, 0)
#define SP_FIELDS_vc_seal(F)
/* Seals a secret for the row (id, version, owner); kind: enum sp_cred_kind.
 * Of a key: its passphrase, or generate 1 for a new Ed25519 one; the answer has
 * the public key's blob. Of a database's account: clear is the password (or
 * generate 1), passphrase the verifier that it has there (PostgreSQL) or the
 * plugin (MariaDB); the answer has the verifier's text. */
#define SP_FIELDS_vc_secret_new(F)                                            \
	F(u8, kind, 0) F(uuid, id, 0) F(u64, version, 0) F(uuid, owner, 0)    \
	F(bytes, clear, 8192) F(bytes, passphrase, 1024) F(u8, generate, 0)
#define SP_FIELDS_vc_secret_new_r(F)                                          \
	F(u8, err, 0) F(bytes, sealed, 8192) F(bytes, public_key, 2048)
#define SP_FIELDS_vc_totp_new(F) F(uuid, id, 0) F(u64, version, 0) F(uuid, owner, 0)
/* seed: for the person's own device, shown once */
#define SP_FIELDS_vc_totp_new_r(F) F(u8, err, 0) F(bytes, sealed, 1024) F(bytes, seed, 64)
/* The key of a backup: made when `wrapped` is empty, else what is in it. It is
 * wrapped by the root key, so that any slot of the vault opens the file. */
#define SP_FIELDS_vc_backup_key(F) F(bytes, wrapped, 128)
#define SP_FIELDS_vc_backup_key_r(F)                                          \
	F(u8, err, 0) F(bytes, wrapped, 128) F(bytes, key, 32)
/* A recording that may have no row: it has no end when a broker starts, or its
 * recorder ended before anything was dialled. */
#define SP_FIELDS_open_file(F) F(uuid, session, 0)
#define SP_FIELDS_vc_done(F) F(u8, err, 0) F(str, text, 256)
/* Seals the secret of the row anew, bound to a new rule (or to none): rule has a
 * higher version than the old one. */
#define SP_FIELDS_vc_rule_set(F)                                              \
	F(u8, kind, 0) F(uuid, id, 0) F(u64, version, 0) F(uuid, owner, 0)    \
	F(bytes, sealed, 8192) F(bytes, old_rule, 8192) F(bytes, rule, 8192)
#define SP_FIELDS_vc_rule_set_r(F)                                            \
	F(u8, err, 0) F(str, text, 256) F(bytes, sealed, 8192)
#define SP_FIELDS_vc_reveal(F) F(uuid, request, 0)
/* clear: shown once. what: "account@target" */
#define SP_FIELDS_vc_reveal_r(F)                                              \
	F(u8, err, 0) F(str, text, 256) F(str, what, 128) F(u8, kind, 0)      \
	F(bytes, clear, 8192)
/* A break-glass kit (vault/kit.h): begin, add each credential (vc_done), end
 * (vc_kit_r). shares: k-of-n shares as text, a line each. */
#define SP_FIELDS_vc_kit_begin(F)                                             \
	F(uuid, kit, 0) F(u8, k, 0) F(u8, n, 0) F(i64, expires_us, 0)         \
	F(str, note, 256)
#define SP_FIELDS_vc_kit_add(F)                                               \
	F(u8, kind, 0) F(uuid, id, 0) F(u64, version, 0) F(uuid, owner, 0)    \
	F(bytes, sealed, 8192) F(bytes, rule, 8192) F(str, account, 64)       \
	F(str, target_name, 64) F(str, addr, 64) F(u16, port, 0)              \
	F(str, host_keys, 4096)
#define SP_FIELDS_vc_kit_end(F) F(uuid, kit, 0)
#define SP_FIELDS_vc_kit_r(F)                                                 \
	F(u8, err, 0) F(str, text, 256) F(h32, receipt_key, 0)                \
	F(bytes, file, 49152) F(bytes, shares, 8192)
#define SP_FIELDS_vc_slots(F)
/* rows: of each slot u8 id, u8 type, u8 usable, i64 made at, u8 k, u8 n, and
 * label and, of pkcs11, extra, as u32 length and bytes. usable 0: its shares
 * were not given back. */
#define SP_FIELDS_vc_slots_r(F) F(u8, err, 0) F(bytes, rows, 16384)
/* secret: the passphrase, the credential's bytes, the slot key that a token has
 * wrapped, and extra what the token made of it; k, n: of shares. The new shares
 * come back once, one text a line. */
#define SP_FIELDS_vc_slot_add(F)                                              \
	F(u8, type, 0) F(str, label, 32) F(bytes, secret, 1024) F(u8, k, 0)   \
	F(u8, n, 0) F(bytes, extra, 640)
#define SP_FIELDS_vc_slot_add_r(F)                                            \
	F(u8, err, 0) F(str, text, 256) F(u8, slot, 0) F(bytes, shares, 8192)
#define SP_FIELDS_vc_slot_remove(F) F(u8, slot, 0)
/* Begins to collect shares: what 1 to unseal, 2 to prove the new slot. It ends
 * when they are there, after its time, or with the link that began it. */
#define SP_FIELDS_vc_ceremony(F) F(u8, what, 0) F(u8, slot, 0)
/* Also sent without a question to the link that began, at each new share. */
#define SP_FIELDS_vc_ceremony_r(F)                                            \
	F(u8, err, 0) F(u8, is_over, 0) F(u8, slot, 0) F(u8, given, 0)        \
	F(u8, need, 0) F(str, text, 256)
/* One share, as text (common/shares.h), from anybody while a ceremony runs. */
#define SP_FIELDS_vc_share(F) F(bytes, share, 256)
/* step 1: a new epoch of every key, unless a rotation is under way; 2: nothing,
 * only asks; 3: older epochs are dropped for good, nothing uses them. epoch:
 * the newest one of the rows' keys; old: how many older ones there are. */
#define SP_FIELDS_vc_rotate(F) F(u8, step, 0)
#define SP_FIELDS_vc_rotate_r(F)                                              \
	F(u8, err, 0) F(u8, is_resumed, 0) F(u32, epoch, 0) F(u32, old, 0)    \
	F(str, text, 256)

/* protocol: enum sp_protocol; method: enum sp_cred_kind. user: who to log in
 * as. pins: SHA-256 of certificates (DER), each as an SSH string of 32 bytes.
 * unbound 1: a login without channel binding is allowed. databases: names
 * separated by blanks, the first is the default; "": any. */
#define SP_FIELDS_sql_start(F)                                                \
	F(uuid, session, 0) F(u8, protocol, 0) F(u8, method, 0)               \
	F(str, user, 64) F(bytes, pins, 2048) F(u32, deadline_ms, 0)          \
	F(u8, unbound, 0) F(str, databases, 1024)
/* The certificate that the server showed (DER). */
#define SP_FIELDS_sql_begin(F) F(bytes, cert, 16384)
#define SP_FIELDS_sql_begin_r(F) F(u8, ok, 0) F(str, text, 256)
/* PostgreSQL, first question: mechanism "SCRAM-SHA-256-PLUS" (RFC 5802, 7677,
 * 5929) or "SCRAM-SHA-256", challenge empty; answer: client-first-message. hash:
 * bits of the certificate's hash for tls-server-end-point. Second question: the
 * server-first-message; answer: client-final-message, and the server's signature
 * that must follow. MariaDB: one question, mechanism "client_ed25519" or
 * "mysql_native_password", challenge: the server's nonce. */
#define SP_FIELDS_sql_prove(F)                                                \
	F(str, mechanism, 32) F(u16, hash, 0) F(bytes, challenge, 1024)
#define SP_FIELDS_sql_prove_r(F)                                              \
	F(u8, ok, 0) F(str, text, 256) F(bytes, answer, 2048)                 \
	F(bytes, expect, 64)
/* What became of the login that the client's first words began. what: "login",
 * "failed", "hostkey" (failed: another certificate), or later "refused" (what
 * the client said did not pass); pid and key: of the server's BackendKeyData; bound 1: by channel
 * binding. */
#define SP_FIELDS_sql_event(F)                                                \
	F(uuid, session, 0) F(str, what, 16) F(str, detail, 512)              \
	F(u32, pid, 0) F(u32, key, 0) F(u8, bound, 0)
/* The client asks to cancel what another connection does: is that one a session
 * of the same person at the same target? */
#define SP_FIELDS_sql_cancel(F) F(uuid, session, 0) F(u32, pid, 0) F(u32, key, 0)
#define SP_FIELDS_sql_cancel_r(F) F(u8, ok, 0)
/* The verifier of the role that the vault made up a secret for with this
 * session's lease (SP_CRED_PG_ROLE). */
#define SP_FIELDS_v_sql_verifier(F) F(uuid, session, 0)
#define SP_FIELDS_v_sql_verifier_r(F) F(u8, ok, 0) F(str, verifier, 256)

#endif
