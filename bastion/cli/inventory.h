/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_CLI_INVENTORY_H
#define SP_CLI_INVENTORY_H

#include <json-c/json.h>

#include "common/buf.h"

/*
 * The inventory as a file: YAML 1.1 (libyaml's events), of which little is taken: mappings, lists and
 * scalars. Aliases, anchors, tags and a second document are refused, as are keys that come twice and keys that nobody
 * knows; at most 8 MiB, 200,000 nodes, and the depth that the form has. The form is in sallyport-inventory(5).
 */
#define SP_INV_BYTES_MAX (8u << 20)
#define SP_INV_NODES_MAX 200000

struct sp_inv_diag {
	size_t line, column;	/* from 1; 0: of the whole file */
	char text[400];
};
struct sp_inv;
/* SP_ERR_SYNTAX with *d. The caller frees. */
SP_MUST enum sp_err sp_inv_parse(struct sp_inv **out, struct sp_span text,
    struct sp_inv_diag *d);
void sp_inv_free(struct sp_inv *i);
/* What the broker is given; `policy` holds the name of a file. Borrowed. */
json_object *sp_inv_json(const struct sp_inv *i);
/* Where a path of the broker's errors stands: "/users/alice/keys/1". The nearest that is there. */
void sp_inv_where(const struct sp_inv *i, const char *path, size_t *line,
    size_t *column);
/* The broker's export as such a file; policy: the file's name, or NULL. */
SP_MUST enum sp_err sp_inv_write(struct sp_buf *out, json_object *o,
    const char *policy);

#endif
