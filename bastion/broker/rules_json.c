/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of a session, grant or request for programs that read us. */
#include <stdlib.h>

#include "bastion/broker/verb_int.h"
#include "policy/rules.h"

static json_object *
rights(uint32_t bits)
{
	json_object *a = json_object_new_array();

	static const char *const names[] = {"shell", "exec", "subsystem", "upload",
	    "download", "forward", "listen", "sql"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if ((bits & sp_right_of(names[i])) != 0)
			json_object_array_add(a, json_object_new_string(names[i]));
	return a;
}

static json_object *
places(const struct sp_rule_forward *f, size_t n)
{
	json_object *a = json_object_new_array();

	for (size_t i = 0; i < n; i++) {
		json_object *o = json_object_new_object();

		json_object_object_add(o, "host", sp_json_text(f[i].host));
		json_object_object_add(o, "low", json_object_new_int(f[i].low));
		json_object_object_add(o, "high", json_object_new_int(f[i].high));
		json_object_array_add(a, o);
	}
	return a;
}

static json_object *
paths(const struct sp_rules *r)
{
	json_object *a = json_object_new_array();

	for (size_t i = 0; i < r->n_path; i++) {
		json_object *o = json_object_new_object();

		json_object_object_add(o, "forbid",
		    json_object_new_boolean(r->path[i].forbid));
		json_object_object_add(o, "for", rights(r->path[i].ops));
		json_object_object_add(o, "pattern",
		    sp_json_text(r->path[i].pattern));
		json_object_array_add(a, o);
	}
	return a;
}

static json_object *
limit(uint64_t v)
{
	return v == 0 ? NULL : json_object_new_int64((int64_t)v);
}

json_object *
sp_rules_json(struct sp_span encoded)
{
	static const char *const body[] = {"full", "digest"};
	json_object *o, *env;
	static struct sp_rules r;
	char text[6000];

	if (encoded.n == 0 || sp_rules_decode(encoded, &r) != SP_OK)
		return NULL;
	o = json_object_new_object();
	env = json_object_new_array();
	json_object_object_add(o, "text", json_object_new_string(
	    sp_rules_show(text, sizeof(text), encoded)));
	json_object_object_add(o, "allow", rights(r.rights));
	json_object_object_add(o, "forward", places(r.forward, r.n_forward));
	json_object_object_add(o, "listen", places(r.listen, r.n_listen));
	json_object_object_add(o, "file_max", limit(r.file_max));
	json_object_object_add(o, "session_max", limit(r.session_max));
	json_object_object_add(o, "idle_s", limit(r.idle_s));
	json_object_object_add(o, "paths", paths(&r));
	json_object_object_add(o, "files", json_object_new_string(
	    body[r.file_body]));
	json_object_object_add(o, "exec", json_object_new_string(
	    body[r.exec_body]));
	json_object_object_add(o, "hold_lines", json_object_new_boolean(
	    (r.hold & SP_HOLD_LINES) != 0));
	json_object_object_add(o, "hold_transfers", json_object_new_boolean(
	    (r.hold & SP_HOLD_TRANSFERS) != 0));
	for (size_t i = 0; i < r.n_env; i++)
		json_object_array_add(env, sp_json_text(r.env[i]));
	json_object_object_add(o, "env", env);
	return o;
}
