/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_SFTP_INT_H
#define SP_RECORDER_SFTP_INT_H

#include "recorder/sftp.h"

#define SFTP_VERSION 3
#define SFTP_PACKET_MAX ((1u << 20) + 4096)	/* any packet */
#define SFTP_WHOLE_MAX 65536u	/* one that is looked at as a whole */
#define SFTP_HANDLE_MAX 256u	/* the draft's own limit */
#define SFTP_FILES_MAX 1024u	/* open at once */
#define SFTP_PENDING_MAX 2048u	/* requests without a reply; more wait */
#define SFTP_NAMES_MAX (1u << 20)	/* bytes of paths that are remembered */
#define SFTP_ANSWER_MAX 512u	/* a reply of ours */
#define SFTP_ANSWERS_MAX (SFTP_PENDING_MAX * SFTP_ANSWER_MAX)

enum sftp_type {
	FXP_INIT = 1, FXP_VERSION = 2, FXP_OPEN = 3, FXP_CLOSE = 4, FXP_READ = 5,
	FXP_WRITE = 6, FXP_LSTAT = 7, FXP_FSTAT = 8, FXP_SETSTAT = 9,
	FXP_FSETSTAT = 10, FXP_OPENDIR = 11, FXP_READDIR = 12, FXP_REMOVE = 13,
	FXP_MKDIR = 14, FXP_RMDIR = 15, FXP_REALPATH = 16, FXP_STAT = 17,
	FXP_RENAME = 18, FXP_READLINK = 19, FXP_SYMLINK = 20, FXP_STATUS = 101,
	FXP_HANDLE = 102, FXP_DATA = 103, FXP_NAME = 104, FXP_ATTRS = 105,
	FXP_EXTENDED = 200, FXP_EXTENDED_REPLY = 201,
};
enum sftp_pflags {
	FXF_READ = 0x1, FXF_WRITE = 0x2, FXF_APPEND = 0x4, FXF_CREAT = 0x8,
	FXF_TRUNC = 0x10, FXF_EXCL = 0x20, FXF_ALL = 0x3f,
};

/* What a request is made of and what it may be answered with. fields, in
 * their order: p path, q second path, h handle, g second handle, o offset, O
 * second offset, l u32 length, L u64 length, f pflags, a attrs, s a string that
 * is not looked at. */
enum sftp_way {		/* how it is judged */
	WAY_LOOK,	/* either right: the channel itself needs one */
	WAY_OPEN, WAY_READ, WAY_WRITE, WAY_CLOSE, WAY_DIR, WAY_HANDLE,
	WAY_NAME,	/* changes the name itself */
	WAY_FOLLOW,	/* changes what the name leads to */
	WAY_TWO,	/* makes a second name for, or moves, what the first is */
	WAY_LINK,	/* makes a name that leads to another */
	WAY_FD_CHANGE,	/* changes an open file */
	WAY_COPY,
};
struct sftp_shape {
	uint8_t type, reply;	/* reply: one more type beside STATUS, or 0 */
	uint8_t op, way;	/* enum sp_xfer_op, enum sftp_way */
	const char *fields, *ext;
};

struct sftp_file {
	struct sftp_file *next;
	uint32_t num;
	unsigned refs;		/* the list's own and one for each pending */
	uint8_t handle[SFTP_HANDLE_MAX];
	uint32_t n_handle;
	bool is_mapped, is_dir, may_read, may_write, is_append, is_fresh;
	bool is_stopped, was_refused, saw_end, is_closed;
	struct sp_xfer_hash up, down;
	unsigned n_up, n_down;	/* extents that are over */
	uint64_t bytes_up, bytes_down;
	uint64_t set_size;	/* the last that was set; UINT64_MAX: none */
	uint32_t result;	/* the first that was not good */
	size_t n_path;
	char path[];
};

/* What is remembered of a request by name until its reply. */
struct sftp_ask {
	uint32_t pflags;
	bool is_dot;		/* REALPATH of the directory to start in */
	bool has_size;
	uint64_t size;		/* that a file was cut or grown to */
	char text[160];
	size_t n_path, n_path2;
	char bytes[];
};

struct sftp_pend {
	uint32_t id, len;
	bool is_used, is_own;
	const struct sftp_shape *shape;
	uint64_t off;
	struct sftp_file *file;
	struct sftp_ask *ask;
};

struct sftp_attrs {
	uint32_t flags, perm, uid, gid;
	uint64_t size;
};

struct sftp_req {
	const struct sftp_shape *shape;
	uint32_t id, pflags;
	struct sp_span path, path2, handle, handle2;
	struct sftp_file *file, *file2;
	uint64_t off, off2, len;
	struct sftp_attrs attrs;
};

enum sftp_verdict { SFTP_FAULT = 0, SFTP_REFUSE, SFTP_STALL, SFTP_PASS };

/* Names that the target is asked to resolve before a request is judged. */
enum sftp_check_state { CHECK_NONE = 0, CHECK_ASKED, CHECK_DONE };
struct sftp_check {
	enum sftp_check_state state;
	uint32_t id;		/* of our own REALPATH */
	unsigned i;
	bool failed;
	struct sp_buf got[2];
};

struct sp_sftp {
	const struct sp_xfer_out *out;
	struct sp_xfer_session *s;
	bool is_begun, is_ready;	/* INIT went on; VERSION came */
	bool is_stalled, cwd_asked;
	uint32_t own_id;
	struct sp_buf cwd, abs, abs2, scratch;
	/* user to target */
	struct sp_buf req;
	uint32_t u_left;	/* of a WRITE's content */
	struct sftp_file *u_file;	/* NULL: it is dropped */
	uint64_t u_off;
	uint32_t u_id;		/* to be answered when it is dropped */
	struct sftp_check check;
	uint32_t no_code;
	char no_text[300];
	/* target to user */
	struct sp_buf rep, answers;
	uint32_t t_left;	/* of the packet at hand */
	enum { T_REST = 0, T_BODY, T_DROP } t_state;
	struct sftp_file *t_file;	/* of a DATA packet */
	uint64_t t_off;
	uint32_t t_id;		/* to be answered when it is dropped */
	char t_text[200];
	/* tables */
	struct sftp_file *files;
	size_t n_files, n_opening, names;
	struct sftp_pend *pend;
	size_t n_pend, cap_pend;
	char why[200];
};

/* sftp_table.c */
struct sftp_pend *sftp_find(struct sp_sftp *x, uint32_t id);
/* SP_ERR_FULL: not now; SP_ERR_NOMEM. */
SP_MUST enum sp_err sftp_add(struct sp_sftp *x, const struct sftp_pend *p);
/* Takes it out; its file and ask are the caller's. */
void sftp_remove(struct sp_sftp *x, uint32_t id);
void sftp_forget(struct sp_sftp *x, struct sftp_pend *p);
struct sftp_file *sftp_by_handle(struct sp_sftp *x, struct sp_span handle);
struct sftp_file *sftp_file_new(struct sp_sftp *x, struct sp_span path,
    struct sp_span handle);
void sftp_unref(struct sp_sftp *x, struct sftp_file *f);
struct sftp_ask *sftp_ask_new(struct sp_sftp *x, const struct sftp_req *r);
/* Counts and hashes content and notes where an extent ended. */
SP_MUST enum sp_err sftp_content(struct sp_sftp *x, struct sftp_file *f,
    bool up, uint64_t off, struct sp_span s);
SP_MUST enum sp_err sftp_close_notes(struct sp_sftp *x, struct sftp_file *f,
    uint32_t result);

/* sftp_req.c */
SP_MUST enum sp_err sftp_from_user(struct sp_sftp *x, struct sp_span *s);
SP_MUST enum sp_err sftp_fault(struct sp_sftp *x, const char *fmt, ...)
    SP_PRINTF(2, 3);
/* sftp_judge.c */
enum sftp_verdict sftp_judge(struct sp_sftp *x, struct sftp_req *r);
/* Fills no_code and no_text. */
enum sftp_verdict sftp_no(struct sp_sftp *x, uint32_t code, const char *fmt, ...)
    SP_PRINTF(3, 4);
/* A REALPATH of our own; SP_ERR_AGAIN: no room. */
SP_MUST enum sp_err sftp_ask_realpath(struct sp_sftp *x, struct sp_span path,
    uint32_t *id);
/* sftp_rep.c */
SP_MUST enum sp_err sftp_from_target(struct sp_sftp *x, struct sp_span *s);
SP_MUST enum sp_err sftp_answer(struct sp_sftp *x, uint32_t id, uint32_t code,
    const char *text);
/* Says what waits, if the stream to the user is between two packets. */
SP_MUST enum sp_err sftp_flush(struct sp_sftp *x);

#endif
