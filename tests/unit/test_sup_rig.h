/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_TEST_SUP_RIG_H
#define SP_TEST_SUP_RIG_H

/* An instance, sallyportd on it, and the test's end of each puppet. */
#include <criterion/criterion.h>

#include <stdbool.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "common/ipc.h"

#define LONG_MS 60000
#define NOBODY 65534	/* as root, everything runs as who owns the instance */

enum { VLT, NTY, BRK, REC, EGR, SQL, PLY, SCR, AUT, ING, N_ROLES };
extern const char *const names[N_ROLES];

struct greeting {
	char role[64];
	char open_fds[256];
	int32_t pid, nulls, n_env;
};
struct puppet {
	int ctl;
	struct sp_link link;
	struct greeting g;
};
struct rig {
	char dir[128], bin[160], inst[160];
	int listener;		/* puppets call here */
	int err;		/* what sallyportd says on its terminal */
	pid_t pid;
	rlim_t max_files;
	struct puppet p[N_ROLES];
	uint16_t port;
};
extern struct rig rig;

void become_nobody(void);
pid_t run_sallyportd(int *err);
struct puppet next_puppet(void);
int32_t tell(struct puppet *p, char what, unsigned char arg);
void expect(struct sp_link *l, uint16_t type, struct sp_packet *k);
void expect_drop(struct sp_link *l, uint16_t type);
void say_hello(struct puppet *p, int ix, bool lie);
void role_up(int ix);
void rig_make(const char *conf);
void rig_up(const char *conf);
int wait_end(pid_t pid);
void puppet_down(struct puppet *p);
void rig_down(void);
int dial_in(void);
int dial_from(const char *addr);
bool is_closed(int fd);
/* What the recorder would write first: the file is not empty any more. */
void write_recording(const uint8_t *id);
bool has_file(const uint8_t *id, const char *ext, struct stat *st);
void say_exited(int ix, uint64_t id, uint32_t pid, uint32_t status);
void say_spawned(int ix, uint64_t id, uint32_t pid);

#endif
