/* SPDX-License-Identifier: Apache-2.0 */
#include "bastion/supervisor/sup.h"
#include "common/keysrule.h"
#include "common/sealto.h"
#include "common/storeurl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONF_MAX 32768
#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC)

const struct sp_role_row sp_role_rows[SP_RX_COUNT] = {
    [SP_RX_VAULT] = {SP_ROLE_VLT, "sallyport-vault", false},
    [SP_RX_NOTARY] = {SP_ROLE_NTY, "sallyport-notary", false},
    [SP_RX_SHIP] = {SP_ROLE_SHP, "sallyport-ship", false},
    [SP_RX_BROKER] = {SP_ROLE_BRK, "sallyport-broker", false},
    [SP_RX_RECORDER] = {SP_ROLE_REC, "sallyport-recorder", true},
    [SP_RX_EGRESS] = {SP_ROLE_EGR, "sallyport-egress", true},
    [SP_RX_SQL] = {SP_ROLE_EGR, "sallyport-egress-sql", true},
    [SP_RX_PLAYER] = {SP_ROLE_PLY, "sallyport-player", true},
    [SP_RX_SCRIBE] = {SP_ROLE_SCR, "sallyport-scribe", true},
    [SP_RX_AUTH] = {SP_ROLE_AUT, "sallyport-auth", true},
    [SP_RX_INGRESS] = {SP_ROLE_ING, "sallyport-ingress", true},
};

void
sp_say(struct sp_instance *in, const char *fmt, ...)
{
	char text[1024], line[2100];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(in->said, sizeof(in->said), "%.500s", text);
	if (in->log >= 0)
		sp_log(SP_ERROR, "start_failed", NULL, "reason=\"%s\"",
		    sp_vis_str(text));
	if (in->terminal >= 0) {
		int n = snprintf(line, sizeof(line), "sallyportd: %s\n",
		    sp_vis_str(text));

		if (n > 0 && write(in->terminal, line, (size_t)n) < 0)
			return;	/* nobody is there to read it */
	}
}

static enum sp_err
open_dir(struct sp_instance *in, const char *name, mode_t make, int *fd)
{
	int made = make == 0 ? 0 : mkdirat(in->dir, name, make);

	/* Not what the umask leaves: roles reach run/db below it. */
	if (make != 0 && (made == 0 ? fchmodat(in->dir, name, make, 0) != 0 :
	    errno != EEXIST)) {
		sp_say(in, "cannot make %s/%s: %s", in->path, name,
		    strerror(errno));
		return SP_ERR_IO;
	}
	*fd = openat(in->dir, name, DIR_FLAGS | O_NOFOLLOW);
	if (*fd < 0) {
		sp_say(in, "cannot open the directory %s/%s: %s (was it made by"
		    " `sallyport init`?)", in->path, name, strerror(errno));
		return SP_ERR_IO;
	}
	return SP_OK;
}

static enum sp_err
open_base(struct sp_instance *in, const char *dir)
{
	struct stat st;

	if (realpath(dir, in->path) == NULL ||
	    (in->dir = open(in->path, DIR_FLAGS)) < 0) {
		sp_say(in, "cannot open %s: %s", dir, strerror(errno));
		return SP_ERR_IO;
	}
	if (fstat(in->dir, &st) != 0)
		return SP_ERR_IO;
	/* Who may write here may replace the configuration and the keys. */
	if ((st.st_uid != geteuid() && st.st_uid != 0) ||
	    (st.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
		sp_say(in, "%s must belong to root or to who starts sallyportd,"
		    " and nobody else may write it: chmod go-w %s", in->path,
		    in->path);
		return SP_ERR_DENIED;
	}
	in->owner_uid = st.st_uid;
	in->owner_gid = st.st_gid;
	in->as_root = geteuid() == 0;
	return SP_OK;
}

static enum sp_err
open_log(struct sp_instance *in)
{
	int d = -1;

	SP_TRY(open_dir(in, "log", 0700, &d));
	in->log = openat(d, "sallyport.log", O_WRONLY | O_APPEND | O_CREAT |
	    O_CLOEXEC | O_NOFOLLOW, 0600);
	close(d);
	in->null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (in->log < 0 || in->null < 0) {
		sp_say(in, "cannot open %s/log/sallyport.log: %s", in->path,
		    strerror(errno));
		return SP_ERR_IO;
	}
	if (dup3(in->log, STDERR_FILENO, 0) < 0 ||
	    dup3(in->null, STDIN_FILENO, 0) < 0 ||
	    dup3(in->null, STDOUT_FILENO, 0) < 0)
		return SP_ERR_IO;
	return SP_OK;
}

static ssize_t
read_file(int dir, const char *name, char *buf, size_t cap)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	size_t got = 0;
	ssize_t n;

	if (fd < 0)
		return -1;
	while (got < cap && (n = read(fd, buf + got, cap - got)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			close(fd);
			return -1;
		}
		got += (size_t)n;
	}
	close(fd);
	if (got == cap) {
		errno = EFBIG;
		return -1;
	}
	return (ssize_t)got;
}

static enum sp_err
read_conf(struct sp_instance *in)
{
	struct sp_config_diag diag = {0};
	ssize_t n;

	if ((in->conf_text = calloc(1, CONF_MAX + 1)) == NULL)
		return SP_ERR_NOMEM;
	n = read_file(in->dir, "sallyport.conf", in->conf_text, CONF_MAX + 1);
	if (n < 0) {
		sp_say(in, "cannot read %s/sallyport.conf: %s", in->path,
		    strerror(errno));
		return SP_ERR_IO;
	}
	in->conf_len = (size_t)n;
	if (!sp_utf8_is_valid(sp_span_of(in->conf_text, in->conf_len)) ||
	    memchr(in->conf_text, 0, in->conf_len) != NULL) {
		sp_say(in, "%s/sallyport.conf is not UTF-8 text", in->path);
		return SP_ERR_SYNTAX;
	}
	if (sp_config_parse(&in->cfg, sp_span_of(in->conf_text, in->conf_len),
	    &diag) != SP_OK) {
		sp_say(in, "%s/sallyport.conf, line %u: %s", in->path, diag.line,
		    diag.text);
		return SP_ERR_SYNTAX;
	}
	return SP_OK;
}

/* Recorders take it from the same text: what they could not is not begun with. */
static enum sp_err
check_sealto(struct sp_instance *in)
{
	struct sp_sealto *o = calloc(1, sizeof(*o));
	char bad[256] = "no memory";
	enum sp_err e = SP_ERR_NOMEM;

	if (o != NULL)
		e = sp_sealto_parse(&in->cfg, o, bad, sizeof(bad));
	free(o);
	if (e != SP_OK)
		sp_say(in, "%s", bad);
	return e;
}

/* The vault would open nothing by a rule that it cannot read. */
static enum sp_err
check_keys_rule(struct sp_instance *in)
{
	static const uint8_t any[16] = {1};
	SP_BUF_AUTO rule = {.max = SP_RULE_MAX};
	char bad[256] = "no memory";
	enum sp_err e = sp_keys_rule(&in->cfg, any, &rule, bad, sizeof(bad));

	if (e == SP_ERR_NOTFOUND)
		return SP_OK;
	if (e != SP_OK)
		sp_say(in, "%s", bad);
	return e;
}

static enum sp_err
check_store(struct sp_instance *in)
{
	struct sp_storeurl u;
	char bad[200];
	enum sp_err e = sp_storeurl_parse(&in->cfg, &u, bad, sizeof(bad));

	if (e == SP_OK && access(in->cfg.ship_ca, R_OK) != 0) {
		sp_say(in, "cannot read %s (ship_ca): %s", in->cfg.ship_ca,
		    strerror(errno));
		return SP_ERR_IO;
	}
	if (e == SP_ERR_NOTFOUND)
		return SP_OK;	/* there is none */
	if (e != SP_OK)
		sp_say(in, "%s", bad);
	return e;
}

static enum sp_err
name_proxies(struct sp_instance *in)
{
	char bad[128];

	if (sp_nets_parse(&in->proxies, in->cfg.proxy_peers, bad, sizeof(bad)) ==
	    SP_OK)
		return SP_OK;
	sp_say(in, "proxy_peers: %s is no address or network, such as 192.0.2.7,"
	    " 10.1.0.0/16 or 2001:db8::/64 (at most %d)", bad, SP_NETS_MAX);
	return SP_ERR_SYNTAX;
}

static enum sp_err
name_node(struct sp_instance *in)
{
	char host[HOST_NAME_MAX + 1] = "";

	if (strlen(in->cfg.node) > 64) {
		sp_say(in, "node: at most 64 bytes");
		return SP_ERR_TOOBIG;
	}
	if (in->cfg.node[0] != '\0') {
		snprintf(in->node, sizeof(in->node), "%.64s", in->cfg.node);
		return SP_OK;
	}
	if (gethostname(host, sizeof(host) - 1) != 0 || host[0] == '\0')
		snprintf(host, sizeof(host), "bastion");
	snprintf(in->node, sizeof(in->node), "%.64s", host);
	return SP_OK;
}

/* libpq: a quoted value, with ' and \ escaped. */
static enum sp_err
quote(struct sp_buf *b, const char *s)
{
	SP_TRY(sp_buf_put_u8(b, '\''));
	for (; *s != '\0'; s++) {
		if (*s == '\'' || *s == '\\')
			SP_TRY(sp_buf_put_u8(b, '\\'));
		SP_TRY(sp_buf_put_u8(b, (uint8_t)*s));
	}
	return sp_buf_put_u8(b, '\'');
}

static enum sp_err
name_db(struct sp_instance *in)
{
	char sock[PATH_MAX + 16] = "";
	ssize_t n;
	SP_BUF_AUTO b = {0};

	if (strcmp(in->cfg.database, "embedded") != 0) {
		snprintf(in->db, sizeof(in->db), "%s", in->cfg.database);
		return SP_OK;
	}
	sp_buf_init(&b, sizeof(in->db) - 1);
	n = read_file(in->run, "db.path", sock, PATH_MAX);
	if (n > 0) {
		sock[n] = '\0';
		sock[strcspn(sock, "\r\n")] = '\0';
	}
	if (sock[0] != '/')
		snprintf(sock, sizeof(sock), "%s/run/db", in->path);
	SP_TRY(sp_buf_printf(&b, "host="));
	SP_TRY(quote(&b, sock));
	SP_TRY(sp_buf_printf(&b, " dbname=sallyport user=sallyport_broker"));
	return sp_span_cstr(sp_buf_span(&b), in->db, sizeof(in->db));
}

/* One user a role, so that no captured process can signal, trace or read
 * another. Without root there is one user: `doctor` says what that weakens. */
static enum sp_err
find_users(struct sp_instance *in)
{
	for (size_t i = 0; i < SP_RX_COUNT; i++) {
		const struct passwd *pw;

		if (!in->as_root)
			continue;
		pw = getpwnam(sp_role_rows[i].exe);
		if (pw == NULL && !sp_role_is_wanted(in, (enum sp_rx)i))
			continue;	/* of an instance of before */
		if (pw == NULL || pw->pw_uid == 0 || pw->pw_gid == 0) {
			sp_say(in, "the user %s does not exist, or is root:"
			    " `sallyport init` as root makes it",
			    sp_role_rows[i].exe);
			return SP_ERR_NOTFOUND;
		}
		in->uids[i] = pw->pw_uid;
		in->gids[i] = pw->pw_gid;
	}
	return SP_OK;
}

/* The log's directory is the notary's: of an older instance it is made here. */
static enum sp_err
open_tlog(struct sp_instance *in)
{
	struct stat st;

	SP_TRY(open_dir(in, "tlog", 0700, &in->tlog));
	if (!in->as_root || (fstat(in->tlog, &st) == 0 &&
	    st.st_uid == in->uids[SP_RX_NOTARY]))
		return SP_OK;
	if (fchown(in->tlog, in->uids[SP_RX_NOTARY], in->gids[SP_RX_NOTARY]) == 0)
		return SP_OK;
	sp_say(in, "cannot give %s/tlog to the notary's user: %s", in->path,
	    strerror(errno));
	return SP_ERR_IO;
}

static bool
has_roles(int dir)
{
	return dir >= 0 &&
	    faccessat(dir, sp_role_rows[SP_RX_BROKER].exe, X_OK, 0) == 0;
}

/* $SALLYPORT_LIBEXEC, beside this program (a build tree), where an installed
 * tree has it even after it was moved, where it was installed. */
static enum sp_err
find_libexec(struct sp_instance *in)
{
	const char *env = getenv("SALLYPORT_LIBEXEC");
	char self[PATH_MAX - 32] = "", beside[PATH_MAX], *slash;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	const char *places[] = {env, self, beside, SP_LIBEXECDIR};

	if (n > 0 && (slash = strrchr(self, '/')) != NULL)
		*slash = '\0';
	snprintf(beside, sizeof(beside), "%s/../libexec/sallyport", self);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		if (places[i] == NULL || realpath(places[i], in->libexec_path) == NULL)
			continue;
		in->libexec = open(in->libexec_path, DIR_FLAGS);
		if (has_roles(in->libexec))
			break;
		if (in->libexec >= 0)
			close(in->libexec);
		in->libexec = -1;
		if (i == 0)
			break;	/* asked for: never another one instead */
	}
	for (size_t i = 0; in->libexec >= 0 && i < SP_RX_COUNT; i++)
		if (sp_role_is_wanted(in, (enum sp_rx)i) && faccessat(in->libexec,
		    sp_role_rows[i].exe, X_OK, 0) != 0) {
			sp_say(in, "no executable %s in %s", sp_role_rows[i].exe,
			    in->libexec_path);
			return SP_ERR_NOTFOUND;
		}
	if (in->libexec < 0) {
		sp_say(in, "no %s in %s: is Sallyport installed?",
		    sp_role_rows[SP_RX_BROKER].exe,
		    env != NULL ? env : SP_LIBEXECDIR);
		return SP_ERR_NOTFOUND;
	}
	return SP_OK;
}

/* What is opened once, or known to others, stays as it is. */
static enum sp_err
check_fixed(struct sp_instance *t, const struct sp_instance *in)
{
	if (strcmp(t->cfg.database, in->cfg.database) == 0 &&
	    strcmp(t->cfg.node, in->cfg.node) == 0)
		return SP_OK;
	sp_say(t, "database and node change with a full restart only");
	return SP_ERR_STATE;
}

enum sp_err
sp_instance_reread(struct sp_instance *in)
{
	struct sp_instance *t = calloc(1, sizeof(*t));
	int libexec;
	enum sp_err e;

	if (t == NULL)
		return SP_ERR_NOMEM;
	memcpy(t, in, sizeof(*t));
	t->conf_text = NULL;
	if ((e = read_conf(t)) == SP_OK && (e = name_proxies(t)) == SP_OK &&
	    (e = check_sealto(t)) == SP_OK &&
	    (e = check_keys_rule(t)) == SP_OK &&
	    (e = find_users(t)) == SP_OK && (e = check_store(t)) == SP_OK &&
	    (e = check_fixed(t, in)) == SP_OK && !in->is_activated)
		e = sp_instance_relisten(t);
	if (e != SP_OK) {
		memcpy(in->said, t->said, sizeof(in->said));
		free(t->conf_text);
		free(t);
		return e;
	}
	/* Another directory may stand there now. */
	libexec = open(in->libexec_path, DIR_FLAGS);
	if (has_roles(libexec)) {
		close(t->libexec);
		t->libexec = libexec;
	} else {
		sp_close_fds(&libexec, 1);
	}
	free(in->conf_text);
	memcpy(in, t, sizeof(*in));
	free(t);
	return SP_OK;
}

enum sp_err
sp_instance_open(struct sp_instance *in, const char *dir)
{
	SP_TRY(open_base(in, dir));
	SP_TRY(read_conf(in));
	SP_TRY(open_dir(in, "run", 0755, &in->run));
	SP_TRY(sp_instance_write_pid(in));
	SP_TRY(open_log(in));
	SP_TRY(open_dir(in, "recordings", 0, &in->recordings));
	SP_TRY(open_dir(in, "vault", 0, &in->vault));
	SP_TRY(open_dir(in, "keys", 0, &in->keys));
	SP_TRY(open_dir(in, "pam.d", 0, &in->pam));
	SP_TRY(sp_hostkey_open(in));
	SP_TRY(name_proxies(in));
	SP_TRY(check_sealto(in));
	SP_TRY(check_keys_rule(in));
	SP_TRY(check_store(in));
	SP_TRY(name_node(in));
	SP_TRY(name_db(in));
	SP_TRY(find_users(in));
	SP_TRY(open_tlog(in));
	return find_libexec(in);
}
