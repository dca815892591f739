/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_COMMON_IPC_VALUES_H
#define SP_COMMON_IPC_VALUES_H

/* What the small numbers in the messages mean: a part of common/ipc_messages.h,
 * which is the contract and includes it. */

enum sp_dialog {
	SP_DIALOG_INFO = 1,	/* show text */
	SP_DIALOG_ASK_HIDDEN = 2, /* ask, without echo */
	SP_DIALOG_ASK = 3,	/* ask, with echo */
	SP_DIALOG_OK = 4,	/* the conversation ends: authenticated */
	SP_DIALOG_FAIL = 5,	/* the conversation ends: refused */
};
enum sp_login_method { SP_LOGIN_NONE = 1, SP_LOGIN_KEY = 2, SP_LOGIN_KBDINT = 3 };
enum sp_login_verdict { SP_LOGIN_DENY = 0, SP_LOGIN_ACCEPT = 1, SP_LOGIN_NEXT = 2 };
enum sp_renewed {
	SP_RENEWED_NOT = 0,	/* its seal does not hold */
	SP_RENEWED_IS = 1,	/* it is of the newest epoch */
	SP_RENEWED_NOW = 2,	/* here it is */
};
enum sp_pam_verdict {
	SP_PAM_DENY = 0,
	SP_PAM_OK = 1,
	SP_PAM_UNAVAILABLE = 2,
	SP_PAM_MAXTRIES = 3,
	SP_PAM_EXPIRED = 4,
};
enum sp_durability {
	SP_DURABLE_PROCESS = 1,	/* survives any crash of ours */
	SP_DURABLE_INPUT = 2,	/* input on disk before it is forwarded */
	SP_DURABLE_FULL = 3,	/* both directions on disk first */
};
enum sp_cred_kind {
	SP_CRED_SSH_CERT = 1,
	SP_CRED_SSH_KEY = 2,
	SP_CRED_SSH_PASSWORD = 3,
	SP_CRED_TOTP_SEED = 4,
	SP_CRED_PG_SCRAM = 5,	/* a verifier: ClientKey and ServerKey */
	SP_CRED_PG_ROLE = 6,	/* a role made for one session */
	SP_CRED_MARIADB = 7,	/* ed25519 seed or SHA1 of the password */
};
enum sp_protocol {		/* of a target */
	SP_PROTO_SSH = 0,
	SP_PROTO_POSTGRESQL = 1,
	SP_PROTO_MARIADB = 2,
};
/* Which of a rotation's secrets: in the stream's WANTS and SECRET. */
enum sp_which { SP_WHICH_OLD = 1, SP_WHICH_NEW = 2 };
enum sp_end_code {
	SP_END_NORMAL = 0,	/* by the user or the target */
	SP_END_EXPIRED = 1,
	SP_END_REVOKED = 2,
	SP_END_KILLED = 3,
	SP_END_DISK = 4,	/* the recording could not be written */
	SP_END_PROTOCOL = 5,	/* a leg broke the protocol */
	SP_END_LEG_DIED = 6,	/* a leg went away without a word */
	SP_END_BROKER = 7,	/* the broker went away */
	SP_END_TARGET = 8,	/* the login at the target failed */
	SP_END_SHUTDOWN = 9,
	SP_END_POLICY = 10,
	SP_END_IDLE = 11,	/* nothing came from the user for too long */
};
enum sp_egr_fail {
	SP_EGR_TRANSPORT = 1,
	SP_EGR_HOSTKEY = 2,	/* not one of the pinned keys */
	SP_EGR_AUTH = 3,
	SP_EGR_VAULT = 4,	/* the vault refused */
	SP_EGR_TIMEOUT = 5,
	SP_EGR_FORWARD = 6,	/* a hop cannot reach the next leg */
	/* The login broke off: the credential was used, and neither taken nor
	 * refused. AUTH is a refusal. */
	SP_EGR_BROKEN = 7,
};
enum sp_steer {			/* rec_steer */
	SP_STEER_FREEZE = 1,
	SP_STEER_RESUME = 2,
	SP_STEER_RELEASE = 3,
	SP_STEER_REFUSE = 4,
};
enum sp_held_kind {		/* rec_held */
	SP_HELD_LINE = 1,
	SP_HELD_COMMAND = 2,
	SP_HELD_TRANSFER = 3,
};
enum sp_file_op {		/* file_ask */
	SP_FILE_NEW = 1,	/* SESSION.open, which must not be there, nor .spr */
	SP_FILE_RECOVER = 2,	/* SESSION.open, or SESSION.spr read-only */
	SP_FILE_READ = 3,	/* SESSION.spr, or SESSION.open */
	SP_FILE_READ_MANY = 4,
	SP_FILE_CLOSE = 5,	/* .open becomes .spr */
	SP_FILE_DROP = 6,	/* .open is removed if it ends before its OPEN; else ENOTEMPTY */
	SP_FILE_REMOVE = 7,	/* .open is removed: nothing was recorded */
	SP_FILE_LIST = 8,	/* which .open there are */
	SP_FILE_FINISHED = 9,	/* SESSION.spr */
	SP_FILE_FETCH = 10,	/* SESSION.fetch, anew, to be written */
	SP_FILE_FETCHED = 11,	/* .fetch becomes .spr, unless there is one */
	SP_FILE_UNFETCH = 12,	/* .fetch is removed */
	SP_FILE_FORGET = 13,	/* .spr is removed: the store has it */
	SP_FILE_DESTROY = 14,	/* .spr ends: its header is overwritten, then removed */
};
enum sp_search_lane {
	SP_SEARCH_SCREEN = 1 << 0,
	SP_SEARCH_KEYS = 1 << 1,
	SP_SEARCH_FILES = 1 << 2,
	SP_SEARCH_COMMANDS = 1 << 3,
};
#define SP_SEARCH_REGEX 1u	/* `what` of search_start */
#define SP_SEARCH_JSON 2u
#define SP_SEARCH_LAST 1u	/* `state` of search_hits: of this recording */
#define SP_SEARCH_UNREAD 2u	/* it could not be read to its end */
#define SP_SEARCH_SEALED 4u	/* a lane was asked for and not opened */
enum sp_play_mode {
	SP_PLAY_REPLAY = 1,
	SP_PLAY_VERIFY = 2,
	SP_PLAY_ASCIICAST = 3,
	SP_PLAY_RECORDS = 4,	/* every record, a JSON object a line */
	SP_PLAY_TIMELINE = 5,	/* what happened, in order, with play_rows */
	SP_PLAY_COMMANDS = 6,	/* as CSV, or JSON */
	SP_PLAY_ASCIICAST3 = 7,
	SP_PLAY_TEXT = 8,	/* the lines of the screen */
	SP_PLAY_HTML = 9,	/* a player and the screens in one file */
	SP_PLAY_WATCH = 12,	/* a running session, with play_live */
};
enum sp_live_state {		/* bits of play_live */
	SP_LIVE_FROZEN = 1 << 0,
	SP_LIVE_HELD = 1 << 1,
	SP_LIVE_ASKS = 1 << 2,	/* `say` waits for the watcher's answer */
	SP_LIVE_OVER = 1 << 3,
};
#define SP_PLAY_KEYS 1u		/* `what` of play_start: keystrokes, too */
#define SP_PLAY_TIMES 2u	/* each line with its time */
#define SP_PLAY_UNMASKED 4u	/* what was typed unseen is shown: two people opened it */
enum sp_log_state {
	SP_LOG_WAITS = 1,	/* the vault has not said yet what it signed */
	SP_LOG_GOOD = 2,
	SP_LOG_ALTERED = 3,	/* it is not the tree that was signed */
	SP_LOG_BROKEN = 4,	/* it cannot be read or written */
};
enum sp_ship_what {		/* ship_job */
	SP_SHIP_SEND = 1,	/* to the store, and compared there */
	SP_SHIP_DROP = 2,	/* compared once more, then the copy here goes */
	SP_SHIP_FETCH = 3,	/* back from the store */
	SP_SHIP_ERASE = 4,	/* in the store and here, after its leaf */
};
enum sp_ship_how {		/* by what the store's copy was compared */
	SP_SHIP_BY_NOTHING = 0,
	SP_SHIP_BY_DIGEST = 1,	/* SHA-256 that the store has computed */
	SP_SHIP_BY_READING = 2,	/* it was read back */
	SP_SHIP_BY_ABSENCE = 3,	/* of ERASE: there is none, in any version */
};
/* What a verifier says of a recording. */
enum sp_rec_verdict {
	SP_REC_INTACT = 0,
	SP_REC_CUT = 1,		/* whole up to a point, then nothing */
	SP_REC_FORGED = 2,
	SP_REC_UNKNOWN = 3,	/* not ours, or signed by another key */
	SP_REC_MISSING = 4,
	SP_REC_RECOVERED = 5,	/* intact, sealed after a crash */
	SP_REC_OPEN = 6,	/* intact so far, the session is running */
};

#endif
