# SPDX-License-Identifier: Apache-2.0
"""The front door against clients that cheat, a target that is another one, and text that would drive a terminal."""
import os
import struct
import subprocess
import sys
import unittest

from cryptography.hazmat.primitives import serialization

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from puppet import TOP, key_blob, secret_of, ssh_string, totp  # noqa: E402
from rawssh import FAILURE, PK_OK, SUCCESS, Client, Closed, is_partial  # noqa: E402
sys.path.insert(0, TOP + "/tests/support")
from sp import Instance, main, read_until, wait_for  # noqa: E402

POLICY = """
permit "elevation" who group sysadmins on tag core as admin, legacy require approval 1 of approvers, mfa totp for 1h
permit "free" who group operators on tag core as admin, legacy require mfa totp for 1h
"""
# What a terminal would obey: clear, title, colours, 8-bit CSI, a bell, a carriage return, text that runs right to left.
DRIVES = "\x1b[2J\x1b]0;owned\x07\x1b[31m\u009b31m\b\b\u202egnp\u2066"


def setUpModule():
    global sp
    sp = Instance(policy=POLICY)
    sp.add_person("oscar", "operators")


def tearDownModule():
    sp.close()


def private(who):
    return "%s/people/%s/id_ed25519" % (sp.dir, who)


class Keys(unittest.TestCase):
    def client(self):
        c = Client(sp.port).begin()
        self.addCleanup(c.close)
        return c

    def shut(self, c, packet=None):
        """Refused: a failure that is not partial, or the connection is gone."""
        if packet is not None:
            self.assertEqual((packet[0], packet[-1]), (FAILURE, 0), packet)
        try:
            got = c.request("alice", "keyboard-interactive", bytes(8))
            self.assertEqual((got[0], got[-1]), (FAILURE, 0), got)
            c.send(b"\x5a" + ssh_string("session") + struct.pack(">III", 0, 1 << 20, 32768))
            self.assertNotEqual(c.recv()[0], 91)
        except Closed:
            pass

    def logged(self, event, port, **detail):
        def look():
            return [e for e in sp.audit(event) if e["detail"].get("port") == port and
                    all(v in str(e["detail"].get(k)) for k, v in detail.items())]
        return wait_for(look, 15, "%s %s" % (event, detail))[0]

    def test_an_offer_is_no_proof(self):
        c = self.client()
        self.assertEqual(c.offer("alice", key_blob(sp, "alice"))[0], PK_OK)
        port = c.sock.getsockname()[1]
        self.shut(c)
        c.close()
        self.logged("login_refused", port, login="alice")

    def test_signatures_that_are_none(self):
        for kw in ({"spoil": True}, {"sign_for": "bob"}, {"session": bytes(32)}):
            with self.subTest(**kw):
                c = self.client()
                try:
                    self.shut(c, c.key("alice", private("alice"), **kw))
                except Closed:
                    pass
        c = self.client()
        self.shut(c, c.key("alice", private("bob")))        # a good signature of another person

    def test_a_signature_under_the_name_of_another_kind(self):
        """An Ed25519 key's good signature that is called RSA (CVE-2023-2283 was of this family)."""
        with open(private("oscar"), "rb") as f:
            key = serialization.load_ssh_private_key(f.read(), None)
        for named, signed_as in (("rsa-sha2-512", "rsa-sha2-512"), ("ssh-ed25519", "rsa-sha2-512"), ("ssh-ed25519", "ssh-rsa"),
                                 ("ssh-ed25519", "sk-ssh-ed25519@openssh.com"), ("ssh-ed25519", "")):
            with self.subTest(named=named, signed_as=signed_as):
                c = self.client()
                head = b"\x01" + ssh_string(named) + ssh_string(key_blob(sp, "oscar"))
                signature = key.sign(ssh_string(c.id) + b"\x32" + ssh_string("oscar") + ssh_string("ssh-connection") +
                                     ssh_string("publickey") + head)
                try:
                    self.shut(c, c.request("oscar", "publickey", head + ssh_string(ssh_string(signed_as) + ssh_string(signature))))
                except Closed:
                    pass

    def test_it_would_have_worked(self):
        """So that what is refused here is refused for what it is."""
        c = self.client()
        self.assertTrue(is_partial(c.key("oscar", private("oscar"))))
        self.assertEqual(c.request("oscar", "keyboard-interactive", bytes(8))[0], 60)
        sp.fresh_code("oscar")
        self.assertEqual(c.code(totp(secret_of(sp, "oscar")))[0], SUCCESS)

    def test_another_name_between_the_rounds(self):
        sp.fresh_code("bob")
        for second in ("bob", "alice+admin+core-01", "ALICE", "alice ", ""):
            with self.subTest(second=second):
                c = self.client()
                self.assertTrue(is_partial(c.key("alice", private("alice"))))
                try:
                    got = c.request(second, "keyboard-interactive", bytes(8))
                    self.assertEqual(got[0], FAILURE, got)
                    self.assertNotEqual(c.request(second, "keyboard-interactive", bytes(8))[0], 60)
                except Closed:
                    pass
        c = self.client()
        self.assertTrue(is_partial(c.key("alice", private("alice"))))
        try:
            self.assertFalse(is_partial(c.key("bob", private("bob"))))
        except Closed:
            pass

    def test_names_that_are_none(self):
        names = [b"al\x00ice", b"alice\x00", b"alice\n", b"\x1b[2Jalice", b"alice\r\nroot", b"\xff\xfe", "аlice".encode(),
                 "ａlice".encode(), "alice\u202e".encode(), b"ALICE", b"alice/../bob", b"alice;id", b"", b"a" * 256, b"a" * 65536,
                 b"alice+admin+core-01+more", b"alice+", b"alice++core-01", b"-oProxyCommand=id", b"%s%n", b"alice@core-01"]
        for name in names:
            with self.subTest(name=name[:40]):
                c = Client(sp.port).begin()
                port = c.sock.getsockname()[1]
                try:
                    # libssh takes what stands before a NUL for the name; a signature over all of it must not count for that.
                    got = c.key(name, private("alice")) if b"\0" in name else c.offer(name, key_blob(sp, "alice"))
                    self.assertEqual((got[0], got[-1]), (FAILURE, 0), got)
                except Closed:
                    pass
                c.close()
                if name and b"\0" not in name:
                    self.logged("login_refused", port)
        raw = sp.host("audit", "--limit", "500").out + sp.host("audit", "--json", "--limit", "500").out + sp.log().encode()
        for bad in (b"\x1b[2J", b"\x00", "\u202e".encode(), b"a" * 1000):
            self.assertNotIn(bad, raw)
        self.assertIn(b"[2Jalice", raw)                      # it is there, encoded

    def test_other_methods(self):
        for method, rest in (("none", b""), ("password", b"\0" + ssh_string("secret")), ("password", b"\1" + ssh_string("a") * 2),
                             ("hostbased", ssh_string("ssh-ed25519") + ssh_string("x") + ssh_string("h") + ssh_string("u") + ssh_string("s")),
                             ("gssapi-with-mic", struct.pack(">I", 1) + ssh_string(b"\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02")),
                             ("keyboard-interactive", bytes(8)), ("no-such-method", b"x" * 100)):
            with self.subTest(method=method):
                c = self.client()
                try:
                    got = c.request("alice", method, rest)
                    self.assertEqual((got[0], got[-1]), (FAILURE, 0), got)
                    self.assertEqual(got[5:-1], b"publickey")
                    self.shut(c)
                except Closed:
                    pass
        c = self.client()
        try:
            self.assertEqual(c.request("alice", "none", service="ssh-userauth")[0], FAILURE)
        except Closed:
            pass

    def test_answers_that_nobody_asked_for(self):
        for count in (0, 2, 100, 1 << 20):
            c = self.client()
            self.assertTrue(is_partial(c.key("alice", private("alice"))))
            try:
                c.request("alice", "keyboard-interactive", bytes(8))
                c.send(b"\x3d" + struct.pack(">I", count) + ssh_string("123456") * min(count, 100))
                self.assertNotEqual(c.recv()[0], SUCCESS)
            except Closed:
                pass
        c = self.client()
        try:
            c.send(b"\x3d" + struct.pack(">I", 1) + ssh_string("123456"))
            self.assertNotEqual(c.recv()[0], SUCCESS)
        except Closed:
            pass

    def test_channels_before_the_login(self):
        c = self.client()
        try:
            c.send(b"\x5a" + ssh_string("session") + struct.pack(">III", 0, 1 << 20, 32768))
            self.assertNotEqual(c.recv()[0], 91)
        except Closed:
            pass
        c = self.client()
        self.assertTrue(is_partial(c.key("alice", private("alice"))))
        try:
            c.send(b"\x5a" + ssh_string("direct-tcpip") + struct.pack(">III", 0, 1 << 20, 32768) + ssh_string("core-01") +
                   struct.pack(">I", 22) + ssh_string("127.0.0.1") + struct.pack(">I", 1))
            self.assertNotEqual(c.recv()[0], 91)
        except Closed:
            pass

    def test_the_door_still_opens(self):
        self.assertEqual(sp.ssh("bob", "bastion", "whoami").code, 0)


class Target(unittest.TestCase):
    def test_a_changed_host_key(self):
        t = sp.dir + "/target/"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", t + "other_key"], check=True)
        self.assertEqual(sp.ssh("oscar", "bastion", "whoami").code, 0)
        for account in ("admin@core-01", "legacy@core-01"):
            r = sp.ssh("oscar", account, "echo in")
            self.assertEqual(r.out, b"in\n", r)
        try:
            os.rename(t + "host_key", t + "kept_key")
            os.rename(t + "other_key", t + "host_key")
            self.restart()
            for account in ("admin@core-01", "legacy@core-01"):
                with open(t + "sshd.log") as f:
                    before = len(f.read())
                events = len(sp.audit("host_key_mismatch"))
                used = len(sp.audit("lease_used"))
                r = sp.ssh("oscar", account, "echo in")
                self.assertEqual((r.code, r.out), (255, b""), r)
                self.assertIn("host key", r.text)
                wait_for(lambda: len(sp.audit("host_key_mismatch")) == events + 1, 10, "the event")
                self.assertEqual(len(sp.audit("lease_used")), used)
                with open(t + "sshd.log") as f:
                    said = f.read()[before:]
                for word in ("Accepted", "Failed", "userauth", "Postponed", "Invalid user"):
                    self.assertNotIn(word, said)
        finally:
            os.rename(t + "kept_key", t + "host_key")
            self.restart()
        r = sp.ssh("oscar", "admin@core-01", "echo in")
        self.assertEqual(r.out, b"in\n", r)

    def restart(self):
        pid = sp.dir + "/target/sshd.pid"
        with open(pid) as f:
            old = int(f.read())
        os.kill(old, 15)
        wait_for(lambda: not os.path.exists("/proc/%d" % old) or open("/proc/%d/stat" % old).read().split()[2] == "Z", 10, "sshd to end")
        sp.lib('step_target "$1"')


class Screens(unittest.TestCase):
    """What others wrote never drives the terminal of whoever looks."""

    def clean(self, out, what):
        for bad in (b"\x1b[2J", b"\x1b]0;", b"\x07", "\u009b".encode(), "\u202e".encode(), "\u2066".encode(), b"\x1b[31m", b"\b"):
            self.assertNotIn(bad, out, what)

    def test_a_reason(self):
        r = sp.ssh("alice", "bastion", "request", "admin@core-01", "--reason", '"because %s of this"' % DRIVES, "--json")
        if r.code != 0:                                   # refusing it is as good, with a clean text
            self.clean(r.out + r.err, "refusal")
            return
        n = str(r.json()["id"])
        for who, verb in (("bob", ["requests"]), ("bob", ["show", n]), ("bob", ["requests", "--json"]), ("alice", ["requests"]),
                          ("bob", ["approve", n, "--comment", '"%s"' % DRIVES]), ("alice", ["show", n]), ("bob", ["requests", "--all"])):
            for tty in ([], ["-tt"]):
                r = sp.ssh(who, *tty, "bastion", *verb)
                self.clean(r.out + r.err, verb)
        self.clean(sp.host("audit").out, "audit")

    def test_the_targets_output(self):
        script = r"printf '\033[2J\033]0;owned\007before \033[31mred \302\2332J \342\200\256gnp after\n'; exit 0"
        before = {s["id"] for s in sp.sessions()}
        p = sp.ssh("oscar", "-tt", "admin@core-01", script)
        self.assertEqual(p.code, 0, p)
        self.assertIn(b"\x1b]0;owned", p.out)             # her own terminal gets what the target said
        session = [s["id"] for s in sp.sessions() if s["id"] not in before][0]
        def clean(out, what):
            for bad in (b"\x1b]0;", b"owned\x07", "\u009b".encode(), "\u202e".encode()):
                self.assertNotIn(bad, out, what)
        for args in (["replay", session, "--speed", "100"], ["sessions"], ["export", session, "--format", "asciicast"]):
            r = sp.ssh("carol", "bastion", *args)
            clean(r.out + r.err, args)
        clean(sp.ssh("carol", "-tt", "bastion", "sessions").out, "sessions")
        p = sp.ssh_start("carol", "-tt", "bastion", "replay", session, "--speed", "100")     # it stays at the end
        clean(read_until(p.stdout, b"after"), "replay")
        p.kill()
        p.communicate()
        r = sp.ssh("carol", "bastion", "replay", session, "--speed", "100")
        self.assertIn(b"before", r.out, r)
        self.assertIn(b"after", r.out, r)


if __name__ == "__main__":
    main()
