#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A private PostgreSQL for tests: its own directory, a unix socket, no TCP.
#   pg.sh start [DIR]     makes and starts a cluster; prints its directory, which
#                         is also its socket directory (superuser: postgres)
#   pg.sh migrate DIR DB  makes the database and applies sql/*.sql
#   pg.sh pid DIR         the postmaster's process id
#   pg.sh psql DIR DB ... psql as superuser, quiet, unaligned, stops at errors
#   pg.sh stop DIR        stops it and removes the directory
# As root the server runs as `postgres` or, where that is missing, `nobody`.
set -eu

src=${top_srcdir:-$(cd "$(dirname "$0")/../.." && pwd)}

bindir() {
	if [ -n "${SP_PG_BINDIR:-}" ]; then
		echo "$SP_PG_BINDIR"
		return
	fi
	for d in /usr/lib/postgresql/17/bin /usr/lib/postgresql/16/bin \
	    /usr/lib/postgresql/15/bin "$(pg_config --bindir 2>/dev/null || :)"; do
		if [ -x "$d/initdb" ]; then
			echo "$d"
			return
		fi
	done
	echo "pg.sh: no PostgreSQL server: apt-get install postgresql-15" >&2
	exit 1
}

as_server() {
	if [ "$(id -u)" -eq 0 ]; then
		user=postgres
		id postgres >/dev/null 2>&1 || user=nobody
		(cd / && exec runuser -u "$user" -- "$@")
	else
		"$@"
	fi
}

start() {
	bin=$(bindir)
	# A socket's path has 107 bytes: never below a deep build directory.
	dir=${1:-$(mktemp -d /tmp/spg.XXXXXX)}
	mkdir -p "$dir"
	if [ "$(id -u)" -eq 0 ]; then
		chown "$(as_server id -u):$(as_server id -g)" "$dir"
	fi
	chmod 0755 "$dir"
	as_server "$bin/initdb" -D "$dir/data" -A trust -U postgres -E UTF8 \
	    --locale=C --no-sync >"$dir.initdb" 2>&1 ||
	    { cat "$dir.initdb" >&2; exit 1; }
	rm -f "$dir.initdb"
	as_server "$bin/pg_ctl" -D "$dir/data" -s -w -t 60 -l "$dir/log" \
	    -o "-k $dir -c listen_addresses= -c fsync=off -c shared_buffers=16MB -c max_connections=60 -c full_page_writes=off -c autovacuum=off" \
	    start >&2
	echo "$dir"
}

run_psql() {
	dir=$1 db=$2
	shift 2
	"$(bindir)/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$dir" -U postgres \
	    -d "$db" "$@"
}

migrate() {
	run_psql "$1" postgres -c "CREATE DATABASE $2" >&2
	for f in "$src"/sql/[0-9][0-9][0-9][0-9]_*.sql; do
		run_psql "$1" "$2" -f "$f" >&2
	done
}

stop() {
	if [ -d "$1/data" ]; then
		as_server "$(bindir)/pg_ctl" -D "$1/data" -s -m immediate -w stop \
		    >&2 2>/dev/null || :
	fi
	case $1 in
	/tmp/*) rm -rf "$1" ;;
	*) rm -rf "$1/data" "$1/log" ;;
	esac
}

cmd=${1:?start, migrate, pid, psql or stop}
shift
case $cmd in
start) start "$@" ;;
migrate) migrate "$@" ;;
pid) head -n 1 "$1/data/postmaster.pid" ;;
psql) run_psql "$@" ;;
stop) stop "$@" ;;
*) echo "pg.sh: start, migrate, pid, psql or stop" >&2; exit 2 ;;
esac
