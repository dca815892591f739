# SPDX-License-Identifier: Apache-2.0
"""Forwards in each form through both legs and the recorder, with OpenSSH's client and the practice target."""
import base64
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance, free_port, main, read_until, wait_for  # noqa: E402

T = 120          # seconds: never what is measured, only the end of waiting

POLICY = """
network loopback 127.0.0.0/8, ::1
permit "free" who group operators on tag core as admin when source in loopback require mfa totp for 8h
  allow shell, exec, subsystem, upload, download, forward to "127.0.0.1:%(low)d-%(high)d", "localhost:*",
  listen at "localhost:*", "127.0.0.1:%(low)d-%(high)d"
permit "no-forwards" who group runners on tag core as admin require mfa totp for 8h allow shell, exec
"""
# Persons with one right each; `forward` is to the echo service alone.
RIGHTS = ("shell", "exec", "upload", "download", "subsystem", "forward")
for _r in RIGHTS:
    POLICY += 'permit "%s" who user u-%s on tag core as admin require mfa totp for 8h allow %s\n' % (
        _r, _r, 'forward to "127.0.0.1:%(echo)d"' if _r == "forward" else _r)


def pump(sock, data):
    """Sends all of it and reads until the other end has closed; returns what came."""
    got = []

    def reader():
        while True:
            piece = sock.recv(65536)
            if not piece:
                return
            got.append(piece)
    t = threading.Thread(target=reader)
    t.start()
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)
    t.join(T)
    assert not t.is_alive(), "the other end does not close"
    return b"".join(got)


class Echo:
    """A TCP service on the loopback: sends back what comes, and closes when its peer has."""

    def __init__(self, greeting=b""):
        self.greeting = greeting
        self.sock = socket.socket()
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen(64)
        self.port = self.sock.getsockname()[1]
        self.seen = 0
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                c, _ = self.sock.accept()
            except OSError:
                return
            self.seen += 1
            threading.Thread(target=self.one, args=(c,), daemon=True).start()

    def one(self, c):
        try:
            c.sendall(self.greeting)
            while True:
                piece = c.recv(65536)
                if not piece:
                    break
                c.sendall(piece)
        except OSError:
            pass
        c.close()

    def close(self):
        self.sock.close()


def connect(port):
    def go():
        s = socket.socket()
        s.settimeout(T)
        try:
            s.connect(("127.0.0.1", port))
            return s
        except OSError:
            s.close()
            return None
    return wait_for(go, T, "a listener on port %d" % port)


def setUpModule():
    global sp, echo
    echo = Echo(b"hello ")
    sp = Instance(policy=POLICY % {"low": 1024, "high": 65535, "echo": echo.port})
    sp.add_person("oscar", "operators")
    sp.add_person("rita", "runners")


def tearDownModule():
    sp.close()
    echo.close()


def records(session):
    r = sp.host("export", session, "--format", "records", check=True)
    rows = [json.loads(line) for line in r.out.decode().splitlines() if line.startswith("{")]
    for x in rows:
        x["bytes"] = base64.b64decode(x["data"])
    return rows


def events(what, text=""):
    return [e for e in sp.audit("session_event") if e["detail"].get("what") == what and text in e["detail"].get("detail", "")]


class Forwards(unittest.TestCase):
    def forward(self, *args, who="oscar", target="admin@core-01", opts=()):
        """An ssh that only forwards; it is ready when its connection is."""
        p = sp.ssh_start(who, "-N", *args, target, mux=False, opts=["ExitOnForwardFailure=yes"] + list(opts))
        return p

    def end(self, p):
        p.terminate()
        p.communicate(timeout=T)

    def test_local_forward_carries_every_byte_and_is_recorded(self):
        port = free_port()
        p = self.forward("-L", "%d:127.0.0.1:%d" % (port, echo.port))
        data = os.urandom(3 << 20)
        got = pump(connect(port), data)
        self.assertEqual(hashlib.sha256(got).digest(), hashlib.sha256(b"hello " + data).digest())
        where = "forward to 127.0.0.1 port %d" % echo.port
        e = wait_for(lambda: events("forward_closed", where), T, "the event of its end")[-1]
        d = e["detail"]["detail"]
        self.assertIn("sent %d bytes sha256=%s" % (len(data), hashlib.sha256(data).hexdigest()), d)
        self.assertIn("received %d bytes sha256=%s" % (len(got), hashlib.sha256(got).hexdigest()), d)
        self.end(p)
        session = e["session"]
        wait_for(lambda: [s for s in sp.sessions() if s["id"] == session and s["ended"] is not None], T,
                 "the session's end")
        rows = records(session)
        for kind, want in (("in", data), ("out", got)):
            self.assertEqual(b"".join(r["bytes"] for r in rows if r["kind"] == kind), want)
        self.assertEqual(len([r for r in rows if r["kind"] == "flow"]), 1)

    def test_login_name_form_and_dynamic(self):
        port, socks = free_port(), free_port()
        p = sp.ssh_start("oscar", "-N", "-L", "%d:127.0.0.1:%d" % (port, echo.port), "-D", "127.0.0.1:%d" % socks,
                         "oscar+admin+core-01@bastion", mux=False, opts=["ExitOnForwardFailure=yes"])
        self.assertEqual(pump(connect(port), b"one"), b"hello one")
        s = connect(socks)
        s.sendall(b"\x05\x01\x00")
        self.assertEqual(s.recv(2), b"\x05\x00")
        s.sendall(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + echo.port.to_bytes(2, "big"))
        self.assertEqual(s.recv(10, socket.MSG_WAITALL)[:2], b"\x05\x00")
        self.assertEqual(pump(s, b"two"), b"hello two")
        self.end(p)

    def test_stdio_forward(self):
        r = sp.ssh("oscar", "-W", "127.0.0.1:%d" % echo.port, "admin@core-01", input=b"through", mux=False, timeout=T)
        self.assertEqual((r.code, r.out), (0, b"hello through"), r)

    def test_the_targets_refusal_is_told(self):
        nobody = free_port()
        r = sp.ssh("oscar", "-W", "127.0.0.1:%d" % nobody, "admin@core-01", mux=False, timeout=T)
        self.assertEqual(r.code, 255, r)
        self.assertRegex(r.text, r"connect failed: the target did not connect to 127.0.0.1 port %d: .*refused" % nobody)

    def test_what_no_rule_names_is_refused_and_the_session_goes_on(self):
        port, other = free_port(), free_port()
        p = self.forward("-L", "%d:127.0.0.1:80" % other, "-L", "%d:127.0.0.1:%d" % (port, echo.port))
        self.assertEqual(pump(connect(other), b""), b"")
        read_until(p.stderr, rb"forwarding to 127.0.0.1 port 80 is not permitted in this session", T)
        self.assertEqual(pump(connect(port), b"still"), b"hello still")
        self.assertTrue(wait_for(lambda: events("channel_refused", "forwarding to 127.0.0.1 port 80 is not permitted"), T))
        self.end(p)

    def test_without_the_right(self):
        r = sp.ssh("rita", "-W", "127.0.0.1:%d" % echo.port, "admin@core-01", mux=False, timeout=T)
        self.assertEqual(r.code, 255, r)
        self.assertIn("is not permitted in this session", r.text)
        r = sp.ssh("rita", "-R", "127.0.0.1:0:127.0.0.1:%d" % echo.port, "admin@core-01", "echo on", mux=False, timeout=T)
        self.assertEqual((r.code, r.out), (0, b"on\n"), r)
        self.assertIn("remote port forwarding failed", r.text)
        self.assertTrue(wait_for(lambda: events("listener_refused", "not permitted in this session"), T))

    def test_with_each_cipher(self):
        """What stands between libssh and libcrypto knows each way in which packets are encrypted."""
        for cipher in ("aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr"):
            with self.subTest(cipher=cipher):
                r = sp.ssh("rita", "-W", "127.0.0.1:%d" % echo.port, "admin@core-01", mux=False, timeout=T, opts=["Ciphers=" + cipher])
                self.assertIn("is not permitted in this session", r.text)
                r = sp.ssh("oscar", "-W", "127.0.0.1:%d" % echo.port, "admin@core-01", input=b"x" * 70000, mux=False, timeout=T,
                           opts=["Ciphers=" + cipher])
                self.assertEqual((r.code, r.out), (0, b"hello " + b"x" * 70000), r.err)

    def test_remote_forward(self):
        port = free_port()
        p = self.forward("-R", "127.0.0.1:%d:127.0.0.1:%d" % (port, echo.port))
        data = os.urandom(1 << 20)
        got = pump(connect(port), data)
        self.assertEqual(hashlib.sha256(got).digest(), hashlib.sha256(b"hello " + data).digest())
        d = wait_for(lambda: events("forward_closed", "on 127.0.0.1 port %d" % port), T)[-1]["detail"]["detail"]
        self.assertIn("received %d bytes sha256=%s" % (len(data), hashlib.sha256(data).hexdigest()), d)
        self.assertIn("sent %d bytes" % len(got), d)
        self.end(p)

        def shut():
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", port)) != 0
        wait_for(shut, T, "the target's listener to go")

    def test_remote_forward_of_any_port_and_its_cancel(self):
        ctl = sp.dir + "/ctl-any"
        p = sp.ssh_start("oscar", "-N", "-M", "-S", ctl, "admin@core-01", opts=["ControlPersist=no"])
        wait_for(lambda: os.path.exists(ctl), T, "the master")

        def control(op, spec):
            return subprocess.run(sp.ssh_argv("oscar", ["-S", ctl, "-O", op, "-R", spec, "admin@core-01"]),
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=T)
        r = control("forward", "localhost:0:127.0.0.1:%d" % echo.port)
        self.assertEqual(r.returncode, 0, r.stderr)
        port = int(r.stdout)
        self.assertEqual(pump(connect(port), b"x"), b"hello x")
        fixed = free_port()
        self.assertEqual(control("forward", "localhost:%d:127.0.0.1:%d" % (fixed, echo.port)).returncode, 0)
        self.assertEqual(pump(connect(fixed), b"y"), b"hello y")
        self.assertEqual(control("cancel", "localhost:%d:127.0.0.1:%d" % (fixed, echo.port)).returncode, 0)

        def shut():
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", fixed)) != 0
        wait_for(shut, T, "the cancelled listener to go")
        self.assertEqual(pump(connect(port), b"z"), b"hello z")
        p.terminate()
        p.communicate(timeout=T)

    def test_a_client_that_refuses_what_came_to_its_listener(self):
        port, nobody = free_port(), free_port()
        p = self.forward("-R", "127.0.0.1:%d:127.0.0.1:%d" % (port, nobody))
        self.assertEqual(pump(connect(port), b""), b"")
        self.assertEqual(pump(connect(port), b""), b"")
        self.assertIsNone(p.poll())
        self.end(p)

    def test_sockets_of_the_file_system_are_not_forwarded(self):
        port = free_port()
        p = self.forward("-L", "%d:/tmp/some.sock" % port)
        self.assertEqual(pump(connect(port), b""), b"")
        seen = read_until(p.stderr, rb"not forwarded", T)
        self.assertIn(b"sockets of the file system are not forwarded (direct-streamlocal@openssh.com)", seen)
        self.end(p)
        r = sp.ssh("oscar", "-R", "/tmp/other.sock:127.0.0.1:%d" % echo.port, "admin@core-01", "echo on", mux=False, timeout=T)
        self.assertEqual((r.code, r.out), (0, b"on\n"), r)
        self.assertIn("remote port forwarding failed", r.text)

    def test_answers_keep_their_order(self):
        """A listener that is refused at once, one that the target must be asked for, keepalives in between."""
        port = free_port()
        p = sp.ssh_start("oscar", "-R", "127.0.0.1:%d:127.0.0.1:%d" % (port, echo.port),
                         "-R", "127.0.0.1:80:127.0.0.1:%d" % echo.port, "admin@core-01", "echo on; cat",
                         mux=False, opts=["ServerAliveInterval=1"], stdin=subprocess.PIPE)
        seen = read_until(p.stderr, rb"remote port forwarding failed for listen port \d+", T)
        self.assertIn(b"listen port 80", seen)
        self.assertEqual(pump(connect(port), b"x"), b"hello x")
        p.stdin.close()
        p.stdin = None
        out, _ = p.communicate(timeout=T)
        self.assertEqual(out, b"on\n")

    def test_sixty_four_at_once_and_what_is_beyond(self):
        port = free_port()
        p = self.forward("-L", "%d:127.0.0.1:%d" % (port, echo.port))
        socks = [connect(port) for _ in range(48)]
        for s in socks:
            s.sendall(b"a")
        for s in socks:
            got = b""
            while len(got) < 7:
                piece = s.recv(64)
                self.assertTrue(piece)
                got += piece
            self.assertEqual(got, b"hello a")
        more = [connect(port) for _ in range(40)]
        refused = [pump(s, b"") for s in more]
        self.assertIn(b"", refused)
        for s in socks:
            self.assertEqual(pump(s, b"b"), b"b")
        self.assertEqual(pump(connect(port), b"again"), b"hello again")
        self.end(p)


class EachItsOwn(unittest.TestCase):
    """One right opens one kind of channel. What another would open is refused at the operation, with a text that says what, and
    the session goes on: all of it over one connection to the target."""
    SAYS = {"shell": "a shell is not permitted", "exec": "running a command is not permitted", "subsystem": "a subsystem is not permitted",
            "forward": "forwarding to 127.0.0.1 port %d is not permitted"}

    @classmethod
    def setUpClass(cls):
        conf = sp.dir + "/target/sshd_config"
        with open(conf) as f:
            text = f.read()
        with open(conf, "w") as f:
            f.write("LogLevel DEBUG1\nSubsystem tell /bin/echo told\n" + text)
        with open(sp.dir + "/target/sshd.pid") as f:
            os.kill(int(f.read()), signal.SIGHUP)
        sp.add_person("hup", "runners")
        wait_for(lambda: sp.ssh("hup", "admin@core-01", "true").code == 0, T, "the target, with its new settings")
        cls.home = sp.dir + "/target/home/admin/"
        with open(cls.home + "there", "w") as f:
            f.write("down")
        with open(sp.dir + "/here", "w") as f:
            f.write("up")

    def ask(self, right, who, ctl):
        """Did it work, and what was said."""
        opts = ["ControlPath=" + ctl, "ControlMaster=no", "ProxyCommand=false"]
        if right in ("upload", "download"):
            line = "put %s/here up-%s\n" % (sp.dir, who) if right == "upload" else "get there %s/down-%s\n" % (sp.dir, who)
            argv = sp.ssh_argv(who, ["-b", "-", "admin@core-01"], opts=opts)
            p = subprocess.run(["sftp"] + argv[1:], input=line.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               timeout=T, env=sp.ssh_env(who))
            at = self.home + "up-" + who if right == "upload" else "%s/down-%s" % (sp.dir, who)
            done = os.path.exists(at) and open(at).read() == ("up" if right == "upload" else "down")
            self.assertEqual(p.returncode == 0, done, p.stdout)
            return done, p.stdout.decode()
        args = {"shell": ["-T", "admin@core-01"], "exec": ["admin@core-01", "echo in-$((1+1))"], "subsystem": ["-s", "admin@core-01", "tell"],
                "forward": ["-W", "127.0.0.1:%d" % echo.port, "admin@core-01"]}[right]
        want = {"subsystem": b"told\n", "forward": b"hello in"}.get(right, b"in-2\n")
        r = sp.ssh(who, *args, opts=opts, timeout=T, input=b"in" if right == "forward" else b"echo in-$((1+1))\nexit\n")
        return want in r.out, r.text

    def test_one_key_exchange_a_session(self):
        """Each leg makes its keys once; a limit on their age that libssh hears of afterwards would be over at once."""
        def exchanges():
            with open(sp.dir + "/target/sshd.log", errors="replace") as f:
                return f.read().count("SSH2_MSG_KEXINIT received")
        sp.fresh_code("hup")
        before = exchanges()
        r = sp.ssh("hup", "-l", "hup+admin+core-01", "bastion", "echo on; sleep 1; echo off", mux=False, timeout=T,
                   opts=["LogLevel=DEBUG1"])
        self.assertEqual((r.code, r.out), (0, b"on\noff\n"), r)
        self.assertEqual(r.err.count(b"SSH2_MSG_KEXINIT received"), 1)
        self.assertEqual(exchanges() - before, 1)

    def test_each_right_opens_what_it_names(self):
        for mine in RIGHTS:
            who = "u-" + mine
            sp.add_person(who, "lonely")
            ctl = "%s/c-%s" % (sp.dir, mine)
            p = sp.ssh_start(who, "-N", "-M", "-S", ctl, "admin@core-01", opts=["ControlPersist=no"])
            wait_for(lambda: os.path.exists(ctl) or p.poll() is not None, T, "the master")
            for right in RIGHTS[::-1] + (mine,):
                with self.subTest(has=mine, asks=right):
                    done, text = self.ask(right, who, ctl)
                    self.assertEqual(done, right == mine, text)
                    if right == mine:
                        continue
                    says = self.SAYS.get(right, "%s is not permitted" % right)
                    if right in ("upload", "download") and mine not in ("upload", "download"):
                        says = "transferring files is not permitted"
                    if right == "forward":                  # why is told to the master alone
                        self.assertIn("open refused by peer", text)
                        text = read_until(p.stderr, rb"not permitted in this session", T).decode()
                        says = says % echo.port
                    self.assertIn(says + " in this session", text)
            self.assertIsNone(p.poll())
            p.terminate()
            p.communicate(timeout=T)
            mine_now = [s for s in sp.host("sessions", "--all", "--user", who, "--json", check=True).json()]
            self.assertEqual(len(mine_now), 1, mine_now)


if __name__ == "__main__":
    main()
