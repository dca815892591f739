#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The tour: every step of the main job, with the commands as a person types them and what they really print. Ends with an
# error when a step does not do what it should.
set -u
d=$1
export LC_ALL=C.UTF-8	# ssh shows Chinese as it is only where the locale can
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then B=$'\e[1m' C=$'\e[36m' R=$'\e[31m' N=$'\e[0m'; else B= C= R= N=; fi
out=$(mktemp)
trap 'rm -f "$out"' EXIT
fail() { printf '%stour: %s%s\n' "$R" "$*" "$N" >&2; exit 1; }
chapter() { printf '\n%s%s%s\n' "$B" "$*" "$N"; }
note() { printf '  %s\n' "$*"; }

# as NAME WORDS...: what NAME types, run with her own ssh_config; output to the screen and to $out.
as() {
	local n=$1
	shift
	printf '%s%s$ ssh %s%s\n' "$C" "$n" "$*" "$N"
	SSH_ASKPASS=$d/people/$n/askpass SSH_ASKPASS_REQUIRE=force DISPLAY=:0 \
		ssh -F "$d/people/$n/ssh_config" "$@" </dev/null 2>&1 | tee "$out" | sed 's/^/    /'
	return "${PIPESTATUS[0]}"
}
wants() { grep -q -- "$1" "$out" || fail "expected '$1' in the answer"; }

chapter "1. Alice looks at what she may reach. Her key is the first factor, the one-time code the second."
as alice bastion whoami || fail "alice could not log in"
as alice bastion targets
wants core-01

chapter "2. She needs an approval for admin@core-01. Her login asks for a reason and waits; nothing else to install or open."
printf '%salice$ ssh admin@core-01 "id; hostname; echo done"%s      (in her terminal, waiting)\n' "$C" "$N"
waiting=$(mktemp)
SALLYPORT_REASON="quarterly patch, 季度更新" SSH_ASKPASS=$d/people/alice/askpass SSH_ASKPASS_REQUIRE=force DISPLAY=:0 \
	ssh -F "$d/people/alice/ssh_config" admin@core-01 'id; hostname; echo done' </dev/null >"$waiting" 2>&1 &
job=$!
for _ in $(seq 300); do
	grep -qE 'approve [0-9]+' "$waiting" && break
	kill -0 $job 2>/dev/null || break
	read -rt 0.1 <> <(:) || :
done
sed 's/^/    /' "$waiting"
number=$(grep -oE 'approve [0-9]+' "$waiting" | head -n 1 | grep -oE '[0-9]+')
[ -n "$number" ] || { wait $job; sed 's/^/    /' "$waiting"; grep -q '^done' "$waiting" && note "(a grant from an earlier tour is still good)" || fail "no request was filed"; }

if [ -n "$number" ]; then
	chapter "3. Bob sees the request and approves it. He could not approve one of his own."
	as bob bastion requests
	as bob bastion show "$number"
	as bob bastion approve "$number" || fail "bob could not approve"

	chapter "4. Alice's waiting login goes on by itself."
	wait $job || { cat "$waiting"; fail "alice's session did not go on"; }
	sed 's/^/    /' "$waiting"
	grep -q '^done' "$waiting" || fail "the session printed something else"
fi
rm -f "$waiting"

chapter "5. Within her window she works as she likes: exit codes, binary data, a terminal."
as alice admin@core-01 'exit 7'
[ $? = 7 ] || fail "the exit status did not come through"
note "exit status 7 came through"
as alice -tt admin@core-01 'echo "terminal: $(tty | cut -c1-8)"; stty size' || fail "no terminal"
wants 'terminal: /dev/pts'

chapter "6. An account with a password: nobody but the vault knows it, and alice types none."
as alice bastion request legacy@core-01 --for 30m --reason "'read the old ledger'" || fail "the request was not filed"
number=$(grep -oE '[0-9]+' "$out" | head -n 1)
as bob bastion approve "$number" || note "(approved before)"
as alice legacy@core-01 'echo "$USER"' || fail "no session as legacy"
wants '^legacy'

chapter "7. What core-01 saw: a certificate made for that session, valid for a minute, with its name in it."
grep -E 'Accepted (publickey|password)' "$d/target/sshd.log" | tail -n 3 | sed 's/^/    /'

chapter "8. Carol, the auditor, finds the session, looks at it, and proves that its record is intact."
as carol bastion sessions --all || fail "carol could not list"
session=$(SSH_ASKPASS=$d/people/carol/askpass SSH_ASKPASS_REQUIRE=force DISPLAY=:0 ssh -F "$d/people/carol/ssh_config" bastion \
	sessions --all --target core-01 --json </dev/null 2>/dev/null | grep '"id"' | grep -oE '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}' | tail -n 1)
[ -n "$session" ] || fail "no session to look at"
as carol bastion replay "$session" || fail "the replay failed"
as carol bastion verify "$session" || fail "the record did not verify"
wants INTACT
as carol bastion audit verify || fail "the audit log did not verify"

chapter "9. The same proof far from the bastion: the file and a public key, nothing else."
key=$d/people/carol/audit.pub
"$d/opt/bin/sallyport" -D "$d" vault status --json | sed -n 's/.*"audit_key": *"\([0-9a-f]*\)".*/\1/p' >"$key"
[ -s "$key" ] || fail "no public key"
printf '%sexaminer$ sallyport verify %s.spr --key audit.pub%s\n' "$C" "$session" "$N"
"$d/opt/bin/sallyport" -D "$d" verify "$d/recordings/$session.spr" --key "$key" 2>&1 | sed 's/^/    /'
[ "${PIPESTATUS[0]}" = 0 ] || fail "the stand-alone verifier said no"

chapter "10. Who did what, in one chain that is signed:"
as carol bastion audit --limit 12
printf '\n%sThat was the main job.%s\n' "$B" "$N"
