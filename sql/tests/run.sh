#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every migration's test file, each in a fresh database of a private cluster. Then: every migration has its file, and a second application
# of any migration is refused and changes nothing.
set -u
here=$(cd "$(dirname "$0")" && pwd)
pg=$here/../../tests/support/pg.sh
top_srcdir=$(cd "$here/../.." && pwd)
export top_srcdir
dir=$("$pg" start) || exit 1
trap '"$pg" stop "$dir"' EXIT
trap 'exit 1' HUP INT TERM
"$pg" migrate "$dir" twice || exit 1
failed=0
for m in "$here"/../[0-9][0-9][0-9][0-9]_*.sql; do
	name=$(basename "$m" .sql)
	if [ ! -f "$here/$name.sql" ]; then
		echo "FAIL $name: it has no test file"
		failed=1
		continue
	fi
	"$pg" migrate "$dir" "d$name" || exit 1
	"$pg" psql "$dir" "d$name" -f "$here/prelude.sql" || exit 1
	if "$pg" psql "$dir" "d$name" -1 -f "$here/$name.sql" >/dev/null; then
		echo "ok $name"
	else
		echo "FAIL $name"
		failed=1
	fi
	if "$pg" psql "$dir" twice -f "$m" >/dev/null 2>&1; then
		echo "FAIL $name: it can be applied twice"
		failed=1
	fi
done
exit $failed
