#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs a test with a TMPDIR of its own, which goes with it whatever becomes of the test.
TMPDIR=$(mktemp -d /tmp/sp-check-XXXXXX) || exit 99
chmod 711 "$TMPDIR" # servers of other users begin there
export TMPDIR
"$@"
rc=$?
rm -rf "$TMPDIR"
exit $rc
