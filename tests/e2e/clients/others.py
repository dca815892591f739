# SPDX-License-Identifier: Apache-2.0
"""PuTTY's command line programs, dropbear's client, libssh's sample client, lftp and sshfs."""
import os
import subprocess
import unittest

from clients import fixture
from clients.fixture import cell
from sp import wait_for

SIZE = 3 << 20
SESSIONS = {"bastion": """HostName=127.0.0.1
PortNumber={port}
Protocol=ssh
UserName={name}
PublicKeyFile={key}
""", "core-01": """HostName=core-01
PortNumber=22
Protocol=ssh
UserName=admin
PublicKeyFile={key}
ProxyMethod=6
ProxyHost=bastion
"""}


class Putty(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.me = me = fixture.person("putty")
        key = me.path("id.ppk")
        subprocess.run(["puttygen", me.path(".ssh/id_ed25519"), "-O", "private", "-o", key], env=me.env(), check=True,
                       stdin=subprocess.DEVNULL, timeout=60)
        cls.how = ["-P", str(me.sp.port), "-l", me.login(), "-i", key, "-hostkey", fixture.clients.fingerprint]
        cls.data = os.urandom(SIZE)
        me.write("blob", cls.data)
        os.makedirs(me.path(".putty/sessions"))
        for name, text in SESSIONS.items():
            me.write(".putty/sessions/" + name, text.format(key=key, port=me.sp.port, name=me.name))

    def run_(self, *argv, input=None, code=0):
        r = self.me.run(list(argv), input=input)
        self.assertEqual(r.code, code, r)
        return r

    @cell("PuTTY `plink`", "exec: byte-clean, streams apart, exit status", "USER+ACCOUNT+TARGET")
    def test_plink(self):
        r = self.run_("plink", *self.how, "127.0.0.1", "cat; echo err >&2; exit 3", input=self.data, code=3)
        self.assertEqual(r.out, self.data)
        self.assertIn(b"err\n", r.err)
        self.assertIn(b"One-time code", r.tty)

    @cell("PuTTY `plink`", "exit status of a command that ends its output long before itself", "USER+ACCOUNT+TARGET")
    def test_plink_late_status(self):
        self.run_("plink", *self.how, "127.0.0.1", "exec >&- 2>&-; sleep 0.3; exit 7", code=7)

    @cell("PuTTY `plink -t`", "a terminal", "USER+ACCOUNT+TARGET")
    def test_plink_terminal(self):
        r = self.run_("plink", "-t", *self.how, "127.0.0.1", input=b"test -t 0 && echo a-$((1+1))-tty; exit 7\n", code=7)
        self.assertIn(b"a-2-tty", r.out)

    @cell("PuTTY `plink -load`", "a saved session whose proxy is \"SSH to proxy and use port forwarding\"", "jump of its own")
    def test_plink_jump(self):
        me = self.me
        # PuTTY keeps host keys by name and port; -hostkey would hold for the inner connection alone
        with open(me.path(".putty/sshhostkeys"), "w") as f:
            for where in ("%d:127.0.0.1" % me.sp.port, "22:core-01"):
                f.write("ssh-ed25519@%s %s\n" % (where, putty_key(fixture.clients.host_key)))
        r = self.run_("plink", "-load", "core-01", "echo jumped; exit 4", code=4)
        self.assertEqual(r.out, b"jumped\n")

    def copy(self, mode):
        self.run_("pscp", mode, *self.how, "blob", "127.0.0.1:putty")
        self.assertEqual(fixture.at_target("putty"), self.data)
        self.run_("pscp", mode, *self.how, "127.0.0.1:putty", "back")
        self.assertEqual(self.me.read("back"), self.data)
        os.unlink(self.me.path("back"))

    @cell("PuTTY `pscp -sftp`", "up, down", "USER+ACCOUNT+TARGET")
    def test_pscp_sftp(self):
        self.copy("-sftp")

    @cell("PuTTY `pscp -scp`", "up, down", "USER+ACCOUNT+TARGET")
    def test_pscp_scp(self):
        self.copy("-scp")

    @cell("PuTTY `psftp`", "batch: put, mv, get, rm", "USER+ACCOUNT+TARGET")
    def test_psftp(self):
        batch = self.me.write("batch", "put blob one\nmv one two\nget two three\nrm two\nquit\n")
        self.run_("psftp", *self.how, "-b", batch, "127.0.0.1")
        self.assertEqual(self.me.read("three"), self.data)


def putty_key(line):
    """An Ed25519 key as ~/.putty/sshhostkeys has it: the point's coordinates."""
    import base64
    blob = base64.b64decode(line.split()[1])
    y = int.from_bytes(blob[-32:], "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    p = 2 ** 255 - 19
    d = -121665 * pow(121666, p - 2, p) % p
    xx = (y * y - 1) * pow(d * y * y + 1, p - 2, p) % p
    x = pow(xx, (p + 3) // 8, p)
    if (x * x - xx) % p:
        x = x * pow(2, (p - 1) // 4, p) % p
    if x & 1 != sign:
        x = p - x
    return "0x%x,0x%x" % (x, y)


class Dropbear(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.me = me = fixture.person("drop")
        subprocess.run(["dropbearconvert", "openssh", "dropbear", me.path(".ssh/id_ed25519"), me.path("id.db")], check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
        cls.data = os.urandom(SIZE)

    @cell("dropbear `dbclient`", "exec: byte-clean, streams apart, exit status", "USER+ACCOUNT+TARGET")
    def test_exec(self):
        me = self.me
        r = me.run(["dbclient", "-p", str(me.sp.port), "-i", "id.db", me.login() + "@127.0.0.1", "cat; echo err >&2; exit 3"],
                   input=self.data)
        self.assertEqual(r.code, 3, r.err)
        self.assertEqual(r.out, self.data)
        self.assertIn(b"err\n", r.err)

    @cell("dropbear `dbclient -J`", "`dbclient -B` as the proxy command", "jump of its own")
    def test_jump(self):
        me = self.me
        proxy = "dbclient -p %d -i id.db -B core-01:22 %s@127.0.0.1" % (me.sp.port, me.name)
        r = me.run(["dbclient", "-J", proxy, "-i", "id.db", "admin@core-01", "echo jumped; exit 4"])
        self.assertEqual((r.code, r.out), (4, b"jumped\n"), r)


EXAMPLES = "/usr/share/doc/libssh-dev/examples"


class Libssh(unittest.TestCase):
    """Debian's sample client, built here from libssh-doc without a change but for its login: the sample never asks again
    which methods are left, and so cannot log in anywhere where a key is only the first of two factors."""
    @classmethod
    def setUpClass(cls):
        cls.me = me = fixture.person("lib")
        os.makedirs(me.path("build/libssh"))
        me.write("build/config.h", "")
        me.write("build/libssh/priv.h", "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n"
                 "#define FALL_THROUGH __attribute__((fallthrough))\n")
        ours = os.path.dirname(os.path.abspath(__file__)) + "/libssh_login.c"
        me.write(".ssh/config", "Host gate\n  HostName 127.0.0.1\n  Port %d\n  User %s\n" % (me.sp.port, me.login()))
        for name in ("ssh_client", "libssh_scp"):
            r = subprocess.run(["gcc", "-w", "-D_GNU_SOURCE", "-DHAVE_TERMIOS_H", "-DHAVE_UNISTD_H", "-DHAVE_PTY_H",
                                "-DHAVE_CFMAKERAW", "-DWITH_SFTP", "-I" + me.path("build"), "-I" + EXAMPLES, "-o", me.path(name),
                                "%s/%s.c" % (EXAMPLES, name), EXAMPLES + "/knownhosts.c", EXAMPLES + "/connect_ssh.c", ours,
                                "-lssh"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120)
            if r.returncode != 0:
                raise AssertionError(r.stderr.decode())
        cls.data = os.urandom(SIZE)

    @cell("libssh's sample `ssh_client`", "exec: streams apart, what is typed arrives", "USER+ACCOUNT+TARGET")
    def test_exec(self):
        # Small: with 3 MiB each way at once the sample loses the end or hangs, at a plain sshd too. It tells no exit status.
        me, data = self.me, os.urandom(4096)
        r = me.run([me.path("ssh_client"), "gate", "head -c 4096; echo err >&2"], input=data)
        self.assertEqual((r.code, r.out), (0, data), r)
        self.assertIn(b"err\n", r.err)

    @cell("libssh's sample `libssh_scp`", "up, down", "USER+ACCOUNT+TARGET")
    def test_scp(self):
        me = self.me
        me.write("blob", self.data)
        r = me.run([me.path("libssh_scp"), "blob", "gate:libssh"])
        self.assertEqual(r.code, 0, r)
        self.assertEqual(fixture.at_target("libssh"), self.data)
        r = me.run([me.path("libssh_scp"), "gate:libssh", "back"])
        self.assertEqual(r.code, 0, r)
        self.assertEqual(me.read("back"), self.data)


class Lftp(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.me = fixture.person("lf")
        cls.me.use_snippet()
        cls.data = os.urandom(SIZE)

    @cell("`lftp`", "sftp: put, mirror there and back", "snippet")
    def test_mirror(self):
        me = self.me
        os.makedirs(me.path("site/deep/er"))
        me.write("site/deep/er/blob", self.data)
        me.write("site/one", b"1\n")
        self.assertEqual(me.run(["ssh", "bastion", "whoami"]).code, 0)      # the master: lftp knows no prompt but a password's
        r = me.run(["lftp", "-c", "set sftp:auto-confirm no; set net:max-retries 1; open -u admin, sftp://core-01; "
                    "mirror -R site lftp-site; mirror lftp-site site-back; rm -r lftp-site"])
        self.assertEqual(r.code, 0, r)
        self.assertEqual((me.read("site-back/deep/er/blob"), me.read("site-back/one")), (self.data, b"1\n"))


class Sshfs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.me = fixture.person("fs")
        cls.me.use_snippet()

    @cell("`sshfs`", "mounted: write, read, rename, remove, list", "snippet")
    def test_mount(self):
        me = self.me
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            self.skipTest("/dev/fuse is not to be had on this machine: sshfs is NOT tested")
        os.makedirs(me.path("mnt"))
        data = os.urandom(SIZE)
        self.assertEqual(me.run(["ssh", "bastion", "whoami"]).code, 0)
        # without a terminal, whose end would hang up what stays in the background
        r = subprocess.run(["sshfs", "admin@core-01:", me.path("mnt")], env=me.env(), stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60, start_new_session=True)
        if r.returncode != 0 and (b"mount failed" in r.stderr or b"/dev/fuse" in r.stderr):
            self.skipTest("this machine lets nobody mount by fuse: sshfs is NOT tested: %r" % r.stderr)
        self.assertEqual(r.returncode, 0, r.stderr)
        try:
            me.write("mnt/sshfs-a", data)
            os.rename(me.path("mnt/sshfs-a"), me.path("mnt/sshfs-b"))
            self.assertEqual(me.read("mnt/sshfs-b"), data)
            self.assertEqual(fixture.at_target("sshfs-b"), data)
            self.assertIn("sshfs-b", os.listdir(me.path("mnt")))
            os.unlink(me.path("mnt/sshfs-b"))
            self.assertNotIn("sshfs-b", os.listdir(fixture.target_home))
        finally:
            subprocess.run(["fusermount3", "-u", "-z", me.path("mnt")], check=True, timeout=60)
            wait_for(lambda: not os.path.ismount(me.path("mnt")), 60, "the end of the mount")
