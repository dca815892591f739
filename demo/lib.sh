# SPDX-License-Identifier: Apache-2.0
# The steps of ./quickstart. Each is safe to run again and quick when there is nothing to do.
# $top is the source tree.

PACKAGES="build-essential autoconf automake libtool pkg-config autoconf-archive bison flex libssh-dev libpam0g-dev libssl-dev
libsodium-dev libpq-dev libzstd-dev libseccomp-dev libevent-dev libjson-c-dev libqrencode-dev libcurl4-openssl-dev libp11-kit-dev libyaml-dev postgresql-15
openssh-client openssh-server oathtool"
BUILD=${SALLYPORT_BUILD:-$top/build}

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then B=$'\e[1m' G=$'\e[32m' R=$'\e[31m' D=$'\e[2m' N=$'\e[0m'; else B= G= R= D= N=; fi
die() { printf '%squickstart: %s%s\n' "$R" "$*" "$N" >&2; exit 1; }
begin() { step_t0=$(date +%s); printf '%s==>%s %s ... ' "$B" "$N" "$*"; }
done_() { printf '%s%s%s %s(%ss)%s\n' "$G" "${1:-done}" "$N" "$D" $(($(date +%s) - step_t0)) "$N"; }
# Runs a step's command into a log; shows its end when it fails.
quietly() {
	if ! "$@" >>"$LOG" 2>&1; then
		echo "failed"
		tail -n 25 "$LOG" >&2
		die "'$*' failed; the whole log is $LOG"
	fi
}
# Kept when something failed.
LOG=$(mktemp /tmp/sallyport-quickstart.XXXXXX.log)
trap '[ $? != 0 ] || rm -f "$LOG"' EXIT

step_packages() {
	local p missing=
	for p in $PACKAGES; do
		dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
	done
	[ "$(id -u)" = 0 ] || dpkg-query -W libnss-wrapper >/dev/null 2>&1 || missing="$missing libnss-wrapper"
	begin "packages"
	if [ -z "$missing" ]; then done_ "all there"; return; fi
	[ "$1" = 1 ] || die "these packages are missing:$missing"
	[ "$(id -u)" = 0 ] || die "these packages are missing, and installing needs root: apt-get install$missing"
	printf 'installing%s ... ' "$(printf ' %s' $missing)"
	# Debian's own cluster is not wanted: ours listens on a unix socket only.
	mkdir -p /etc/postgresql-common
	[ -e /etc/postgresql-common/createcluster.conf ] ||
		echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
	quietly apt-get update -qq
	DEBIAN_FRONTEND=noninteractive quietly apt-get install -y -qq --no-install-recommends $missing
	done_
}

step_build() {
	begin "build (${BUILD#"$top"/})"
	mkdir -p "$BUILD" || die "cannot make $BUILD"
	[ -e "$top/configure" ] && [ "$top/configure" -nt "$top/configure.ac" ] || (cd "$top" && quietly autoreconf -fi) || exit 1
	[ -e "$BUILD/Makefile" ] || (cd "$BUILD" && quietly "$top/configure" -q) || exit 1
	quietly make -s -C "$BUILD" -j"$(nproc)" all
	done_
}

# Service users must be able to reach the instance; a clone below a closed home is not such a place.
reachable() {
	[ "$(id -u)" != 0 ] && return 0
	mkdir -p "$1" 2>/dev/null && runuser -u nobody -- test -x "$1"
}

conf() { sed -n "s/^$2=//p" "$1/demo.conf"; }

env_of() {
	local d=$1
	export SALLYPORT_DIR=$d
	export SALLYPORT_LIBEXEC=$d/opt/libexec/sallyport SALLYPORT_SQLDIR=$d/opt/share/sallyport/sql
	export SALLYPORT_PAMDIR=$d/opt/lib/security
	SP="$d/opt/bin/sallyport"
}

step_instance() {
	local d=$1 port=$2 real stage
	begin "instance in $d"
	if [ -e "$d/demo.conf" ]; then
		env_of "$d"
		renew_program "$d"
		[ "$(conf "$d" port)" = "$port" ] || [ "$port" = 2222 ] || printf '(keeps port %s) ' "$(conf "$d" port)"
		done_ "already there"
		return
	fi
	if ! reachable "$d"; then
		rmdir "$d" 2>/dev/null
		real=/var/lib/sallyport-demo/$(printf %s "$d" | sha256sum | cut -c1-12)
		mkdir -p "$real" "$(dirname "$d")" && chmod 755 /var/lib/sallyport-demo "$real"
		ln -sfn "$real" "$d"
		printf '(service users cannot enter here: the data is in %s) ' "$real"
	fi
	mkdir -p "$d" && chmod 755 "$d"
	env_of "$d"
	stage=$(mktemp -d) && chmod 755 "$stage"
	installed "$stage"
	quietly env SALLYPORT_LIBEXEC="$stage/usr/local/libexec/sallyport" SALLYPORT_SQLDIR="$stage/usr/local/share/sallyport/sql" \
		SALLYPORT_PAMDIR="$stage/usr/local/lib/security" "$stage/usr/local/bin/sallyport" init --embedded --demo --listen "127.0.0.1:$port" "$d"
	mv "$stage/usr/local" "$d/opt"
	sed -i "s#$stage/usr/local/#$(realpath "$d")/opt/#" "$d/pam.d/sallyport"
	rm -rf "$stage"
	printf 'port=%s\n' "$port" >"$d/demo.conf"
	done_
	if [ "$(id -u)" != 0 ]; then
		echo "    one user for every process: a captured process could read its siblings' files and memory;"
		echo "    run it as root or with sudo for a user per role."
	fi
}

# The program as installed, below D, so that service users can execute it wherever the clone is.
installed() {
	quietly make -s -C "$BUILD" install DESTDIR="$1" prefix=/usr/local
	chmod -R a+rX "$1"
}
# A newer build replaces the installed one; what runs keeps the old until its next start.
renew_program() {
	local d=$1 stage
	[ "$BUILD/sallyport" -nt "$d/opt/bin/sallyport" ] || return 0
	stage=$(mktemp -d) && chmod 755 "$stage"
	installed "$stage"
	cp -a --remove-destination "$stage/usr/local/." "$d/opt/"
	rm -rf "$stage"
}

step_start() {
	begin "bastion"
	if "$SP" -D "$1" status >/dev/null 2>&1; then done_ "runs already"; return; fi
	quietly "$SP" -D "$1" start
	done_
}

# ------------------------------------------------------------------ practice target
# An sshd of our own on loopback. Its accounts live in a passwd file that only it sees: a mount namespace as root,
# nss_wrapper otherwise.
target_alive() { [ -s "$1/target/sshd.pid" ] && kill -0 "$(cat "$1/target/sshd.pid")" 2>/dev/null; }

free_port() {
	/usr/bin/perl -MIO::Socket::INET -e \
		'my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 1) or die; print $s->sockport'
}

target_files() {
	local t=$1/target uid1=61001 uid2=61002 gid=61000 hash
	mkdir -p "$t/home/admin" "$t/home/legacy" "$t/principals"
	[ "$(id -u)" = 0 ] || { uid1=$(id -u); uid2=$uid1; gid=$(id -g); }
	[ -e "$t/host_key" ] || ssh-keygen -q -t ed25519 -N '' -C core-01 -f "$t/host_key"
	[ -e "$t/legacy.password" ] || (umask 077; head -c 18 /dev/urandom | base64 | tr -d '/+=\n' >"$t/legacy.password")
	hash=$(openssl passwd -6 -stdin <"$t/legacy.password")
	{ grep -vE '^(admin|legacy):' /etc/passwd
	  echo "admin:x:$uid1:$gid:Administrator:$t/home/admin:/bin/sh"
	  echo "legacy:x:$uid2:$gid:Legacy:$t/home/legacy:/bin/sh"; } >"$t/passwd"
	# Without root sshd could not give a terminal to the group tty; where there is none it takes the user's own.
	{ grep -vE "^(sallyport-target$([ "$(id -u)" = 0 ] || echo '|tty')):" /etc/group; echo "sallyport-target:x:$gid:"; } >"$t/group"
	{ [ ! -r /etc/shadow ] || grep -vE '^(admin|legacy):' /etc/shadow
	  echo "admin:*:19000:0:99999:7:::"; echo "legacy:$hash:19000:0:99999:7:::"; } >"$t/shadow"
	chmod 600 "$t/shadow"
	if [ "$(id -u)" = 0 ]; then chown $uid1:$gid "$t/home/admin"; chown $uid2:$gid "$t/home/legacy"; fi
	echo "admin@core-01" >"$t/principals/admin"
	"$SP" -D "$1" vault ca-key >"$t/ca.pub" 2>>"$LOG" || die "the vault's CA key is not to be had; see $LOG"
	chmod 755 "$t" "$t/home" "$t/principals"; chmod 644 "$t/principals/admin" "$t/ca.pub" "$t/passwd" "$t/group"
}

target_config() {
	local t=$1/target port=$2
	cat >"$t/sshd_config" <<CONF
ListenAddress 127.0.0.1:$port
HostKey $t/host_key
PidFile $t/sshd.pid
UsePAM no
TrustedUserCAKeys $t/ca.pub
AuthorizedPrincipalsFile $t/principals/%u
AuthorizedKeysFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
PrintMotd no
PrintLastLog no
AllowUsers admin legacy
LogLevel VERBOSE
MaxStartups 1000
MaxSessions 64
AcceptEnv LANG LC_*
Subsystem sftp internal-sftp
Match User legacy
    PasswordAuthentication yes
CONF
}

target_run() {
	local t=$1/target
	if [ "$(id -u)" = 0 ]; then
		mkdir -p /run/sshd
		setsid unshare -m sh -c 'mount --make-rprivate / && mount --bind "$1/passwd" /etc/passwd &&
			mount --bind "$1/group" /etc/group && mount --bind "$1/shadow" /etc/shadow &&
			exec /usr/sbin/sshd -D -f "$1/sshd_config" -E "$1/sshd.log"' sh "$t" </dev/null >>"$LOG" 2>&1 &
	else
		LD_PRELOAD=libnss_wrapper.so NSS_WRAPPER_PASSWD=$t/passwd NSS_WRAPPER_GROUP=$t/group \
			NSS_WRAPPER_SHADOW=$t/shadow setsid /usr/sbin/sshd -D -f "$t/sshd_config" -E "$t/sshd.log" \
			</dev/null >>"$LOG" 2>&1 &
	fi
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

step_target() {
	local d=$1 port i
	begin "practice target core-01"
	if target_alive "$d"; then done_ "runs already"; return; fi
	port=$(conf "$d" target_port)
	[ -n "$port" ] || { port=$(free_port); echo "target_port=$port" >>"$d/demo.conf"; }
	target_files "$d"
	target_config "$d" "$port"
	rm -f "$d/target/sshd.pid"
	target_run "$d"
	for i in $(seq 200); do
		target_alive "$d" && listens "$port" && break
		read -rt 0.05 <> <(:) || :
	done
	target_alive "$d" || { cat "$d/target/sshd.log" >&2; die "the practice target did not start"; }
	done_ "127.0.0.1:$port"
}

# ------------------------------------------------------------------ inventory, people
step_inventory() {
	local d=$1 port
	begin "inventory and policy"
	if "$SP" -D "$d" targets --json 2>/dev/null | grep -q '"core-01"'; then done_ "already there"; return; fi
	port=$(conf "$d" target_port)
	quietly "$SP" -D "$d" policy load "$top/demo/policy"
	quietly "$SP" -D "$d" target add core-01 --addr 127.0.0.1 --port "$port" --tag core --host-key "$(cut -d' ' -f1,2 "$d/target/host_key.pub")"
	quietly "$SP" -D "$d" account add admin@core-01 --kind cert
	quietly "$SP" -D "$d" account add legacy@core-01 --kind password --password-stdin <"$d/target/legacy.password"
	done_
}

person_files() {
	local d=$1 n=$2 p=$1/people/$2 mux=
	# 107 bytes are the most for a socket's path, and ssh adds 17 while it makes it; 34 for alice+admin+core-01.
	[ $((${#p} + 5 + 34 + 17)) -le 107 ] && mux="    ControlMaster auto
    ControlPath $p/mux-%r
    ControlPersist 10m"
	cat >"$p/ssh_config" <<CONF
# $n's way through the bastion. One second factor opens a master connection; what follows within ten minutes shares it.
Host bastion
    HostName 127.0.0.1
    Port $(conf "$d" port)
    User $n
    IdentityFile $p/id_ed25519
    IdentitiesOnly yes
    HostKeyAlias sallyport
    UserKnownHostsFile $d/people/known_hosts
    GlobalKnownHostsFile none
    StrictHostKeyChecking yes
    PreferredAuthentications publickey,keyboard-interactive
    LogLevel INFO
$mux

# Every target of the inventory.
Host core-01
    User admin
    ProxyJump bastion
    IdentityFile $p/id_ed25519
    IdentitiesOnly yes
    HostKeyAlias sallyport
    UserKnownHostsFile $d/people/known_hosts
    GlobalKnownHostsFile none
    StrictHostKeyChecking yes
    PreferredAuthentications keyboard-interactive,publickey
CONF
	cat >"$p/askpass" <<'ASK'
#!/bin/bash
# What ssh asks, answered for a demonstration: the current one-time code, each only once, or the reason of a request.
cd "$(dirname "$0")" || exit 1
case ${1:-} in
*[Rr]eason*) printf '%s\n' "${SALLYPORT_REASON:-practice}"; exit 0 ;;
esac
exec 9>>totp.lock
flock 9
used=$(cat totp.used 2>/dev/null || echo 0)
now=$(($(date +%s) / 30))
step=$now
[ "$used" -ge "$step" ] && step=$((used + 1))
# The bastion takes a code from one step before to one step after; beyond that, wait for the clock.
while [ "$step" -gt $((now + 1)) ]; do
	[ -n "${waited:-}" ] || echo "askpass: each code opens once; waiting for the next one" >&2
	waited=1
	read -rt 0.2 <> <(:) || :
	now=$(($(date +%s) / 30))
done
echo "$step" >totp.used
exec oathtool --totp --base32 --now="@$((step * 30))" "$(cat totp.secret)"
ASK
	chmod 755 "$p/askpass"
}

add_person() {
	local d=$1 n=$2 display=$3 groups=$4 p=$1/people/$2
	mkdir -p "$p"
	[ -e "$p/id_ed25519" ] || ssh-keygen -q -t ed25519 -N '' -C "$n" -f "$p/id_ed25519"
	quietly "$SP" -D "$d" users add "$n" --display "$display" --group "$groups" --key "$(cat "$p/id_ed25519.pub")"
	(umask 077; "$SP" -D "$d" users totp "$n" --json 2>>"$LOG" | sed -n 's/.*"secret": *"\([A-Z2-7]*\)".*/\1/p' >"$p/totp.secret")
	[ -s "$p/totp.secret" ] || die "no one-time secret for $n; see $LOG"
	person_files "$d" "$n"
}

step_people() {
	local d=$1
	begin "people: alice (sysadmin), bob (approver), carol (auditor)"
	if [ -s "$d/people/carol/totp.secret" ]; then done_ "already there"; return; fi
	mkdir -p "$d/people"
	echo "sallyport,[127.0.0.1]:$(conf "$d" port) $(cut -d' ' -f1,2 "$d/keys/ssh_host_ed25519_key.pub")" >"$d/people/known_hosts"
	add_person "$d" alice "Alice 王小明" sysadmins
	add_person "$d" bob "Bob 陳大文" approvers
	add_person "$d" carol "Carol 林美玲" auditors
	chmod 711 "$d/people"
	[ -z "${SUDO_UID:-}" ] || chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$d/people"
	done_
}

# ------------------------------------------------------------------ the rest
say_ready() {
	local d=$1
	cat <<TXT

${B}Ready.${N} The bastion listens on 127.0.0.1:$(conf "$d" port). Be alice, with plain OpenSSH:

  SSH_ASKPASS=$d/people/alice/askpass SSH_ASKPASS_REQUIRE=force ssh -F $d/people/alice/ssh_config admin@core-01 id

  ./quickstart tour      the tour again          $d/opt/bin/sallyport -D $d doctor    is all well?
  ./quickstart stop      stop it                 man/ and doc/                        where to read on
TXT
}

demo_status() {
	local d=$1
	[ -e "$d/demo.conf" ] || die "there is no demonstration in $d; run ./quickstart first"
	env_of "$d"
	"$SP" -D "$d" status
	local rc=$?
	if target_alive "$d"; then echo "practice target core-01 runs on 127.0.0.1:$(conf "$d" target_port)"
	else echo "practice target core-01 does not run"; rc=1; fi
	return $rc
}

demo_stop() {
	local d=$1 n
	[ -e "$d/demo.conf" ] || die "there is no demonstration in $d"
	env_of "$d"
	for n in alice bob carol; do
		[ ! -e "$d/people/$n/ssh_config" ] || ssh -F "$d/people/$n/ssh_config" -O exit bastion >/dev/null 2>&1
	done
	begin "practice target"
	target_alive "$d" && kill "$(cat "$d/target/sshd.pid")"
	rm -f "$d/target/sshd.pid"
	done_ stopped
	begin "bastion"
	quietly "$SP" -D "$d" stop
	done_ stopped
}
