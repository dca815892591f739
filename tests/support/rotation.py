# SPDX-License-Identifier: Apache-2.0
"""Targets whose passwords and keys are real: an sshd in a mount namespace with an /etc of its own, so that passwd and chpasswd write there."""
import os
import shutil
import subprocess

from sp import free_port, wait_for
from target import Target

FIRST = "First-Passw0rd-of-a-human"

# What a target does instead of passwd(1).
LIES = """#!/bin/sh
stty -echo; printf 'Current password: '; read -r a; printf '\\nNew password: '; read -r b; printf '\\nRetype new password: '; read -r c
printf '\\npasswd: password updated successfully\\n'
"""
ECHOES = """#!/bin/sh
printf 'Current password: '; read -r a; echo "you said $a"; printf 'New password: '; read -r b; echo "and $b"; printf 'Retype new password: '; read -r c
echo "$a $b" | rev
echo "$b" >&2; echo 'no'; exit 1
"""
# passwd(1) itself, which has done its work and is held before anybody hears of it.
HELD = """#!/bin/sh
'%(dir)s/real-passwd' "$@"; rc=$?
if [ $rc = 0 ] && [ -e '%(dir)s/hold' ]; then : > '%(dir)s/committed/'$(id -un); fi
while [ -e '%(dir)s/hold' ]; do sleep 0.1; done
exit $rc
"""
HANGS = """#!/bin/sh
printf 'Current password: '; read -r a
while :; do sleep 100; done
"""


class Real:
    """users: {name: uid}; uid 0 is one that may set others' passwords."""

    def __init__(self, sp, name, users, tmpfs=False, add=True):
        self.sp, self.name, self.users, self.tmpfs = sp, name, users, tmpfs
        self.dir = "%s/%s" % (os.path.realpath(sp.dir), name)
        self.port = free_port()
        os.makedirs(self.dir + "/home")
        os.chmod(self.dir, 0o755)
        subprocess.run(["cp", "-a", "/etc", self.dir + "/etc"], check=True)
        self.etc = self.dir + "/etc"
        hash_ = subprocess.run(["openssl", "passwd", "-6", "-stdin"], input=FIRST.encode(), stdout=subprocess.PIPE, check=True).stdout.decode().strip()
        with open(self.etc + "/passwd", "a") as p, open(self.etc + "/shadow", "a") as s:
            for user, uid in users.items():
                home = "%s/home/%s" % (self.dir, user)
                os.makedirs(home + "/.ssh")
                p.write("%s:x:%d:%d:Test:%s:/bin/sh\n" % (user, uid, 0 if uid == 0 else 65534, home))
                s.write("%s:%s:19000:0:99999:7:::\n" % (user, hash_))
                for d in (home, home + "/.ssh"):
                    os.chown(d, uid, 0 if uid == 0 else 65534)
        # No quality of its own, unless a test says so; and no slow hash.
        self.pam("password required pam_unix.so sha512 rounds=1000")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.dir + "/host_key"], check=True, stdin=subprocess.DEVNULL)
        self.start()
        if add:
            with open(self.dir + "/host_key.pub") as f:
                pub = " ".join(f.read().split()[:2])
            sp.host("target", "add", name, "--addr", "127.0.0.1:%d" % self.port, "--tag", "t", "--host-key", pub, check=True)

    def pam(self, text):
        with open(self.etc + "/pam.d/passwd", "w") as f:
            f.write(text + "\n")
        with open(self.etc + "/pam.d/chpasswd", "w") as f:
            f.write("password required pam_unix.so sha512 rounds=1000\n")

    def start(self):
        with open(self.dir + "/sshd_config", "w") as f:
            f.write("\n".join([
                "ListenAddress 127.0.0.1:%d" % self.port, "HostKey %s/host_key" % self.dir, "PidFile none", "UsePAM no",
                "PasswordAuthentication yes", "KbdInteractiveAuthentication no", "PubkeyAuthentication yes", "PermitRootLogin yes",
                "AuthorizedKeysFile .ssh/authorized_keys", "StrictModes no", "PrintMotd no", "LogLevel VERBOSE", "MaxStartups 1000",
                "PermitUserEnvironment no", "SetEnv PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]) + "\n")
        os.makedirs("/run/sshd", exist_ok=True)
        script = "mount --make-rprivate / && "
        if self.tmpfs:
            script += "mkdir '%s/tmp' && mount -t tmpfs -o size=64m tmpfs '%s/tmp' && cp -a '%s/.' '%s/tmp/' && mount --bind '%s/tmp' /etc && " % (
                self.dir, self.dir, self.etc, self.dir, self.dir)
        else:
            script += "mount --bind '%s' /etc && " % self.etc
        if os.path.exists(self.dir + "/passwd.sh"):
            script += "mount --bind '%s/passwd.sh' /usr/bin/passwd && " % self.dir
        self.proc = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script + 'exec "$@"', "sh", "/usr/sbin/sshd", "-D", "-f", self.dir + "/sshd_config", "-E", self.dir + "/sshd.log"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        self.sp.started.append(self.proc)
        wait_for(lambda: "listening on" in self.log(), 60, "sshd of %s: %s" % (self.name, self.log()))

    log, stop = Target.log, Target.stop

    def remove(self):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def passwd(self, text):
        """Puts a program in the place of passwd(1); None: the real one."""
        self.stop()
        open(self.dir + "/sshd.log", "w").close()
        if text is None:
            os.unlink(self.dir + "/passwd.sh")
        else:
            with open(self.dir + "/passwd.sh", "w") as f:
                f.write(text)
            os.chmod(self.dir + "/passwd.sh", 0o755)
        self.start()

    def can_hold(self):
        """From now on hold() stops each passwd between its commit and its exit."""
        os.mkdir(self.dir + "/committed")
        os.chmod(self.dir + "/committed", 0o1777)
        subprocess.run(["cp", "-p", "/usr/bin/passwd", self.dir + "/real-passwd"], check=True)
        self.passwd(HELD % {"dir": self.dir})

    def hold(self):
        for user in self.committed():
            os.unlink("%s/committed/%s" % (self.dir, user))
        open(self.dir + "/hold", "w").close()

    def committed(self):
        """Whose password has been changed at the target since hold()."""
        return sorted(os.listdir(self.dir + "/committed"))

    def release(self):
        os.unlink(self.dir + "/hold")

    def inside(self, *argv):
        """Runs something where the target's processes are."""
        return subprocess.run(["nsenter", "-m", "-t", str(self.proc.pid)] + list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=60)

    def account(self, user, *more, kind="password"):
        self.sp.host("account", "add", "%s@%s" % (user, self.name), "--kind", kind, "--%s-stdin" % kind, input=FIRST.encode(), check=True)
        if more:
            self.sp.host("account", "set", "%s@%s" % (user, self.name), *more, check=True)

    def key(self, user, options=""):
        """An account with a key of the vault's making; its line stands in authorized_keys."""
        r = self.sp.host("account", "add", "%s@%s" % (user, self.name), "--kind", "key", "--generate", check=True)
        line = next(x for x in r.out.decode().split("\n") if x.startswith("ssh-ed25519 "))
        path = "%s/home/%s/.ssh/authorized_keys" % (self.dir, user)
        with open(path, "w") as f:
            f.write("# kept\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOther somebody else\n%s%s\n" % (options, line))
        os.chown(path, self.users[user], 65534)
        return path

    def takes(self, user, password):
        """Does a login with this password work? Past the bastion, with OpenSSH's own client."""
        ask = self.dir + "/askpass"
        if not os.path.exists(ask):
            with open(ask, "w") as f:
                f.write('#!/bin/sh\nprintf "%s\\n" "$ASKED"\n')
            os.chmod(ask, 0o755)
        env = dict(os.environ, SSH_ASKPASS=ask, SSH_ASKPASS_REQUIRE="force", DISPLAY=":0", ASKED=password)
        r = subprocess.run(["ssh", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
                            "-o", "PreferredAuthentications=password", "-o", "NumberOfPasswordPrompts=1", "-p", str(self.port),
                            user + "@127.0.0.1", "echo in"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, timeout=120)
        return r.stdout == b"in\n"


class Stored:
    """What the vault has sealed, opened by tests/support/unseal with the demonstration's key."""

    def __init__(self, sp):
        self.sp = sp

    def versions(self, where, states=("pending", "current")):
        user, target = where.split("@")
        rows = self.sp.psql(
            "SET search_path = sallyport; SELECT s.id, coalesce(s.version, s.ver), s.owner_id, s.kind, encode(s.sealed, 'hex'), coalesce(s.state, 'current') "
            "FROM secrets s JOIN accounts a ON a.id = s.account_id OR a.secret_id = s.id JOIN targets t ON t.id = a.target_id "
            "WHERE a.name = '%s' AND t.name = '%s' ORDER BY 2" % (user, target))
        found = {}
        for line in filter(None, rows.split("\n")):
            id_, version, owner, kind, sealed, state = line.split("|")
            if states is None or state in states:
                found.setdefault(state, []).append(self.open(id_, version, owner, kind, sealed))
        return found

    def open(self, id_, version, owner, kind, sealed):
        build = os.environ["SALLYPORT_BUILD"]
        r = subprocess.run([build + "/tests/support/unseal", self.sp.dir + "/vault", id_, version, owner, kind], input=sealed.encode(),
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        if r.returncode != 0:
            raise AssertionError("unseal: %r" % r.stderr)
        return r.stdout

    def current(self, where):
        return self.versions(where)["current"][0]
