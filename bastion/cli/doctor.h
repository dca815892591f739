/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_CLI_DOCTOR_H
#define SP_CLI_DOCTOR_H

#include <json-c/json.h>

#include "bastion/cli/cli.h"

/*
 * sallyport doctor: doctor.c looks at the host and its processes, doctor_rows.c
 * asks the bastion about what it keeps, doctor_owed.c about what people owe.
 */
enum grade { OK, WARN, FAIL };

struct exam {
	struct sp_cli *c;
	struct sp_config cfg;
	json_object *list;	/* with --json */
	bool embedded, colour;
	pid_t daemon;
	size_t n_warn, n_fail;
};

/* One line: what was looked at, how it is, and how to mend it (NULL: nothing). */
void dr_say(struct exam *x, enum grade g, const char *what, const char *mend,
    const char *fmt, ...) SP_PRINTF(5, 6);
/* The answer of a verb of the bastion with --json, up to `words` words; NULL: it
 * gave none, and what is wrong has been said by another examination. */
json_object *dr_ask(struct exam *x, const char *const *words, size_t n);

void dr_seals(struct exam *x);
void dr_targets(struct exam *x);
void dr_log(struct exam *x);
void dr_store(struct exam *x);
void dr_krl(struct exam *x);
void dr_host_key(struct exam *x);
void dr_rotation(struct exam *x);
void dr_owed(struct exam *x);

#endif
