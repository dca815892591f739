# SPDX-License-Identifier: Apache-2.0
"""OpenSSH's own programs, with the snippet of `ssh bastion ssh-config` in ~/.ssh/config and nothing else."""
import fcntl
import os
import pty
import re
import socket
import struct
import subprocess
import termios
import threading
import unittest

from clients import fixture
from clients.fixture import cell
from sp import free_port, read_until

SIZE = 4 << 20
BARE = ["-o", "ControlPath=none", "-F", "none", "-o", "StrictHostKeyChecking=yes"]


class OpenSSH(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.me = fixture.person("oscar")
        cls.me.use_snippet()
        cls.data = os.urandom(SIZE)
        cls.me.write("blob", cls.data)

    def ssh(self, *args, **more):
        return self.me.run(["ssh"] + list(args), **more)

    def good(self, r, code=0):
        self.assertEqual(r.code, code, r)
        return r

    @cell("OpenSSH `ssh`", "exec: streams apart, exit status", "snippet")
    def test_exec(self):
        r = self.good(self.ssh("admin@core-01", "echo out; echo err >&2; exit 3"), 3)
        self.assertEqual(r.out, b"out\n")
        self.assertIn(b"err\n", r.err)

    @cell("OpenSSH `ssh`", "exec: byte-clean, EOF ends the input and not the output", "snippet")
    def test_half_close(self):
        r = self.good(self.ssh("admin@core-01", "cat; echo after-the-end", input=self.data))
        self.assertEqual(r.out, self.data + b"after-the-end\n")

    @cell("OpenSSH `ssh`", "exit status of a command that ends its output long before itself", "snippet")
    def test_late_status(self):
        # both sides have said EOF: the client closes, and what the command ends with comes after that
        self.good(self.ssh("admin@core-01", "exec >&- 2>&-; sleep 0.3; exit 7"), 7)

    @cell("OpenSSH `ssh -T`", "shell without a terminal, fed with a script", "snippet")
    def test_script_on_stdin(self):
        script = b"# %s\necho lines; n=0; while [ $n -lt 300 ]; do n=$((n + 1)); done; echo $n\nexit 9\n" % (b"x" * 70000)
        r = self.good(self.ssh("-T", "admin@core-01", input=script), 9)
        self.assertEqual(r.out, b"lines\n300\n")

    @cell("OpenSSH `ssh -t`", "a terminal: its size, a change of it, `exit`'s status", "snippet")
    def test_terminal(self):
        self.good(self.ssh("bastion", "whoami"))     # the master: this terminal gets no prompt
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 37, 101, 0, 0))

        def lead():
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        p = subprocess.Popen(["ssh", "-t", "admin@core-01"], stdin=slave, stdout=slave, stderr=slave, env=self.me.env(),
                             preexec_fn=lead)
        os.close(slave)
        try:
            with os.fdopen(master, "r+b", buffering=0) as tty:
                tty.write(b"stty size; echo A$((1+1))\n")
                self.assertIn(b"37 101", read_until(tty, rb"A2\r\n", 60))
                fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 90, 0, 0))
                # the change and the question travel apart: asked until it is there
                tty.write(b"until stty size | grep '24 90'; do :; done; echo B$((2+2))\n")
                read_until(tty, rb"24 90\r\n.*B4\r\n", 60)
                tty.write(b"exit 6\n")
                self.assertEqual(p.wait(timeout=60), 6)
        finally:
            p.poll() is None and p.kill()
            p.wait()

    @cell("OpenSSH `ssh -q`", "says nothing of its own, exit status", "snippet")
    def test_quiet(self):
        r = self.good(self.ssh("-q", "admin@core-01", "exit 4"), 4)
        self.assertEqual((r.out, r.err), (b"", b""))

    @cell("OpenSSH `ssh -o BatchMode=yes`", "works over a master; alone it fails at once, without a prompt", "snippet")
    def test_batch_mode(self):
        self.good(self.ssh("bastion", "whoami"))
        r = self.good(self.ssh("-o", "BatchMode=yes", "admin@core-01", "echo batch"))
        self.assertEqual(r.out, b"batch\n")
        r = self.good(self.ssh("-o", "BatchMode=yes", "-o", "ControlPath=none", "bastion", "whoami"), 255)
        self.assertNotIn(b"One-time", r.tty + r.err)

    @cell("OpenSSH `ssh -J`", "no snippet at all: `ssh -J USER@BASTION ACCOUNT@TARGET`", "-J")
    def test_bare_jump(self):
        # -J starts an ssh of its own, which reads the same files: with ControlMaster in none of them it asks for itself.
        jump = "%s@127.0.0.1:%d" % (self.me.name, self.me.sp.port)
        r = self.good(self.ssh(*BARE, "-J", jump, "admin@core-01", "echo jumped; exit 2"), 2)
        self.assertEqual(r.out, b"jumped\n")
        self.assertIn(b"One-time code", r.tty)

    @cell("OpenSSH `ssh -W`", "as ProxyCommand", "snippet")
    def test_stdio_forward(self):
        r = self.good(self.ssh("-o", "ProxyJump=none", "-o", "ProxyCommand=ssh -W core-01:22 bastion", "admin@core-01", "cat",
                               input=self.data))
        self.assertEqual(r.out, self.data)

    @cell("OpenSSH `ssh`", "login name that names the target", "USER+ACCOUNT+TARGET")
    def test_login_name(self):
        r = self.good(self.ssh(*BARE, "-p", str(self.me.sp.port), self.me.login() + "@127.0.0.1", "echo direct; exit 5"), 5)
        self.assertEqual(r.out, b"direct\n")

    @cell("OpenSSH `ssh -M`", "ten channels at once in one connection to a target, each byte compared", "snippet")
    def test_ten_channels(self):
        path = self.me.path(".ssh/ten")
        self.good(self.ssh("bastion", "whoami"))
        # without a terminal, whose end would hang up the ssh below the master
        subprocess.run(["ssh", "-M", "-S", path, "-f", "-N", "admin@core-01"], stdin=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, env=self.me.env(),
                       start_new_session=True, check=True, timeout=60)
        try:
            got = {}

            def one(i):
                data = os.urandom(1 << 19)
                r = subprocess.run(["ssh", "-S", path, "-o", "ProxyCommand=false", "admin@core-01", "cat; exit %d" % i],
                                   input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.me.env(), timeout=120)
                got[i] = (r.returncode, r.stdout == data, r.stderr)
            threads = [threading.Thread(target=one, args=(i,)) for i in range(10)]
            [t.start() for t in threads]
            [t.join() for t in threads]
            self.assertEqual({i: (c, same) for i, (c, same, _) in got.items()}, {i: (i, True) for i in range(10)}, got)
        finally:
            self.good(self.ssh("-S", path, "-O", "exit", "admin@core-01"))

    def copy(self, *flags):
        me = self.me
        self.good(me.run(["scp", *flags, "blob", "admin@core-01:up"]))
        self.assertEqual(fixture.at_target("up"), self.data)
        self.good(me.run(["scp", *flags, "admin@core-01:up", "down"]))
        self.assertEqual(me.read("down"), self.data)
        os.makedirs(me.path("tree/sub"), exist_ok=True)
        me.write("tree/sub/a b", b"x")
        me.write("tree/empty", b"")
        self.good(me.run(["scp", *flags, "-rp", "tree", "admin@core-01:"]))
        self.good(me.run(["scp", *flags, "-rp", "admin@core-01:tree", "tree-back"]))
        self.assertEqual((me.read("tree-back/sub/a b"), me.read("tree-back/empty")), (b"x", b""))
        subprocess.run(["rm", "-rf", me.path("tree-back"), fixture.target_home + "/tree"], check=True)
        self.good(me.run(["scp", *flags, "admin@core-01:nothing-here", "x"]), 1)

    @cell("OpenSSH `scp`", "up, down, a tree; by sftp, as it does by itself", "snippet")
    def test_scp_sftp(self):
        self.copy()

    @cell("OpenSSH `scp -O`", "up, down, a tree; by the old protocol", "snippet")
    def test_scp_old(self):
        self.copy("-O")

    @cell("OpenSSH `sftp`", "batch: put, get, rename, mkdir, rm, ls; a mistake ends it", "snippet")
    def test_sftp(self):
        batch = b"mkdir dir\nput blob dir/a\nrename dir/a dir/b\nls -l dir\nget dir/b got\nrm dir/b\nrmdir dir\n"
        r = self.good(self.me.run(["sftp", "-q", "-b", "-", "admin@core-01"], input=batch))
        self.assertIn(b"dir/b", r.out)
        self.assertEqual(self.me.read("got"), self.data)
        self.assertNotEqual(self.me.run(["sftp", "-q", "-b", "-", "admin@core-01"], input=b"get nothing-here\n").code, 0)


class Forwards(unittest.TestCase):
    """Without a right of their own no forward opens, the client is told, and the session goes on."""
    @classmethod
    def setUpClass(cls):
        cls.me = fixture.person("oscar")
        cls.me.use_snippet()

    def setUp(self):
        r = self.me.run(["ssh", "bastion", "whoami"])
        self.assertEqual(r.code, 0, r)

    def through(self, flag, ask):
        """A session with a forward; returns what the forward's user got and what ssh said."""
        port = free_port()
        p = subprocess.Popen(["ssh", flag.replace("PORT", str(port)), "admin@core-01", "echo up; cat"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.me.env(), bufsize=0)
        try:
            read_until(p.stdout, rb"up\n", 60)
            got = ask(port)
            p.stdin.write(b"goes on\n")
            read_until(p.stdout, rb"goes on\n", 60)
            p.stdin.close()
            self.assertEqual(p.wait(timeout=60), 0)
            return got, p.stderr.read()
        finally:
            p.poll() is None and p.kill()
            p.wait()
            p.stdout.close()
            p.stderr.close()

    def nothing(self, port, hello=b""):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as s:
            s.sendall(hello)
            got = b""
            while True:
                try:
                    piece = s.recv(4096)
                except ConnectionResetError:
                    return got
                if not piece:
                    return got
                got += piece

    @cell("OpenSSH `ssh -L`", "refused where no rule allows it; the session goes on", "snippet")
    def test_local_forward(self):
        got, err = self.through("-LPORT:127.0.0.1:22", self.nothing)
        self.assertEqual(got, b"")
        self.assertIn(b"open failed", err)

    @cell("OpenSSH `ssh -D`", "refused where no rule allows it; the session goes on", "snippet")
    def test_dynamic_forward(self):
        got, err = self.through("-DPORT", lambda port: self.nothing(port, b"\5\1\0\5\1\0\1\x7f\0\0\1\0\x16"))
        self.assertFalse(b"SSH-2.0" in got, got)
        self.assertIn(b"open failed", err)

    @cell("OpenSSH `ssh -R`", "refused where no rule allows it", "snippet")
    def test_remote_forward(self):
        r = self.me.run(["ssh", "-R", "0:127.0.0.1:9", "admin@core-01", "echo goes on"])
        self.assertEqual((r.code, r.out), (0, b"goes on\n"), r)
        self.assertIn(b"remote port forwarding failed", r.err)
        r = self.me.run(["ssh", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:9", "admin@core-01", "echo no"])
        self.assertEqual((r.code, r.out), (255, b""), r)


class Allowed(unittest.TestCase):
    """What a rule allows: `forward to "127.0.0.1:*", listen at "localhost:*"`."""
    @classmethod
    def setUpClass(cls):
        cls.me = fixture.person("fwd", "forwarders")
        cls.me.use_snippet()
        cls.echo = fixture.Echo()
        cls.addClassCleanup(cls.echo.close)
        cls.data = os.urandom(SIZE)

    def setUp(self):
        r = self.me.run(["ssh", "bastion", "whoami"])
        self.assertEqual(r.code, 0, r)

    def session(self, *flags, wait=None):
        p = subprocess.Popen(["ssh", *flags, "admin@core-01", "echo up; cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, env=self.me.env(), bufsize=0)

        def stop():
            p.stdin.close()
            try:
                self.assertEqual(p.wait(timeout=60), 0)
            finally:
                p.poll() is None and p.kill()
                p.wait()
                p.stdout.close()
                p.stderr.close()
        self.addCleanup(stop)
        read_until(p.stdout, rb"up\n", 60)
        return p

    @cell("OpenSSH `ssh -L`", "where a rule allows it: random data there and back; another place is refused", "snippet")
    def test_local_forward(self):
        a, b = free_port(), free_port()
        p = self.session("-L%d:127.0.0.1:%d" % (a, self.echo.port), "-L%d:127.0.0.2:%d" % (b, self.echo.port))
        with socket.create_connection(("127.0.0.1", a), timeout=60) as s:
            self.assertEqual(fixture.there_and_back(s, self.data), self.data)
        with socket.create_connection(("127.0.0.1", b), timeout=60) as s:
            self.assertEqual(s.recv(1), b"")
        self.assertIn(b"open failed", read_until(p.stderr, rb"open failed[^\n]*\n", 60))

    @cell("OpenSSH `ssh -R`", "where a rule allows it: random data there and back", "snippet")
    def test_remote_forward(self):
        p = self.session("-R0:127.0.0.1:%d" % self.echo.port)
        port = int(re.search(rb"Allocated port (\d+)", read_until(p.stderr, rb"Allocated port \d+ ", 60)).group(1))
        with socket.create_connection(("127.0.0.1", port), timeout=60) as s:
            self.assertEqual(fixture.there_and_back(s, self.data), self.data)
