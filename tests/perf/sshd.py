# SPDX-License-Identifier: Apache-2.0
"""OpenSSH servers for measurements: the target, and the middle of `ssh -J` and of the classic bastion.

Their one account has dash for a shell and an empty home: it lives in a passwd file that only they see (a mount namespace as root,
nss_wrapper otherwise). root's own bash with what its rc files load would hide everything that is measured here.
"""
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import free_port, wait_for  # noqa: E402

USER = "bench"
UID = 61003 if os.getuid() == 0 else os.getuid()
GID = 61003 if os.getuid() == 0 else os.getgid()
KEX, CIPHER = "curve25519-sha256", "aes128-gcm@openssh.com"


def keygen(path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)


def accounts(work):
    """The passwd, group and shadow files of all our servers; the account's home."""
    home = work + "/home"
    os.mkdir(home)
    for name, line in (("passwd", "%s:x:%d:%d::%s:/bin/dash\n" % (USER, UID, GID, home)), ("group", "%s:x:%d:\n" % (USER, GID)),
                       ("shadow", "%s:*:19000:0:99999:7:::\n" % USER)):
        with open(work + "/" + name, "w") as f:
            if name != "shadow":
                with open("/etc/" + name) as old:
                    f.writelines(x for x in old if not x.startswith(USER + ":"))
            elif os.getuid() == 0:
                with open("/etc/shadow") as old:
                    f.write(old.read())
            f.write(line)
    os.chmod(work + "/shadow", 0o600)
    if os.getuid() == 0:
        os.chown(home, UID, GID)
    return home


class Sshd:
    def __init__(self, work, name, extra=""):
        self.port, self.dir = free_port(), work + "/" + name
        os.mkdir(self.dir)
        keygen(self.dir + "/hk")
        with open(self.dir + "/conf", "w") as f:
            f.write("ListenAddress 127.0.0.1:%d\nHostKey %s/hk\nUsePAM no\nAuthorizedKeysFile %s/user.pub\nStrictModes no\n"
                    "PidFile none\nMaxStartups 4096\nMaxSessions 1000\nLogLevel ERROR\nPrintMotd no\nPrintLastLog no\n"
                    "KexAlgorithms %s\nCiphers %s\nSubsystem sftp internal-sftp\n%s"
                    % (self.port, self.dir, work, KEX, CIPHER, extra))
        args = ["/usr/sbin/sshd", "-D", "-f", self.dir + "/conf"]
        env = dict(os.environ)
        if os.getuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
            args = ["unshare", "-m", "sh", "-c", 'mount --make-rprivate / && for f in passwd group shadow; do '
                    'mount --bind "$1/$f" /etc/$f || exit 1; done; shift; exec "$@"', "sh", work] + args
        else:
            env.update(LD_PRELOAD="libnss_wrapper.so", NSS_WRAPPER_PASSWD=work + "/passwd", NSS_WRAPPER_GROUP=work + "/group",
                       NSS_WRAPPER_SHADOW=work + "/shadow")
        self.p = subprocess.Popen(args, env=env, stdin=subprocess.DEVNULL)
        wait_for(self.listens, 30, "sshd " + name)

    def listens(self):
        if self.p.poll() is not None:
            raise SystemExit("bench: %s/conf: sshd did not start" % self.dir)
        return subprocess.run(["ssh-keyscan", "-T", "2", "-t", "ed25519", "-p", str(self.port), "127.0.0.1"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout != b""

    def hostkey(self):
        with open(self.dir + "/hk.pub") as f:
            return " ".join(f.read().split()[:2])

    def close(self):
        self.p.terminate()
        self.p.wait()


class Delay:
    """The delay proxy in front of several servers."""

    def __init__(self, tool, rtt_ms, ports):
        self.rtt_ms = rtt_ms
        self.to = {p: free_port() for p in ports}
        self.p = subprocess.Popen([tool, str(rtt_ms / 2)] + ["%d:%d" % (new, old) for old, new in self.to.items()],
                                  stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        if self.p.stdout.readline() != b"up\n":
            raise SystemExit("bench: the delay proxy did not start")

    def close(self):
        self.p.terminate()
        self.p.wait()


def now():
    return time.perf_counter()
