# SPDX-License-Identifier: Apache-2.0
"""Targets as they are: several addresses, IPv6, questions of their own, one behind another, old algorithms."""
import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import TOP, Instance, free_port, main, read_until, wait_for  # noqa: E402
from target import ROOT, Target, reach  # noqa: E402

POLICY = """
network loopback 127.0.0.0/8, ::1
permit "free" who group operators on tag t as admin, legacy when source in loopback require mfa totp for 1h
permit "owed" who group waiters on tag t as legacy when source in loopback require approval 1 of approvers, mfa totp for 1h
permit "core" who group sysadmins on tag core as admin when source in loopback require mfa totp for 1h
"""


def has_v6():
    try:
        return bool(free_port("::1"))
    except OSError:
        return False


V6 = "::1" if has_v6() else "127.0.0.1"


def setUpModule():
    global sp
    sp = Instance(policy=POLICY)
    sp.add_person("oscar", "operators")
    reach(sp, "oscar", "t-*")


def tearDownModule():
    sp.close()


def run(target, command="echo it-is-$((40+2))", account="admin", opts=(), **k):
    return sp.ssh("oscar", "%s@%s" % (account, target), command, opts=opts, timeout=120, **k)


def events(event, target, key="target"):
    return [e["detail"] for e in sp.audit(event) if e["detail"].get(key) == target]


class Addresses(unittest.TestCase):
    @unittest.skipUnless(V6 == "::1", "this machine has no IPv6")
    def test_ipv6(self):
        t = Target(sp, "t-six", addr="::1")
        row = [r for r in sp.host("targets", "list", "--json").json() if r["name"] == "t-six"][0]
        self.assertEqual(row["addrs"], ["[::1]:%d" % t.port])
        self.assertEqual((row["addr"], row["port"]), ("::1", t.port))
        self.assertIn("[::1]:%d" % t.port, sp.host("targets", "list").text)
        r = run("t-six")
        self.assertEqual((r.code, r.out), (0, b"it-is-42\n"), r)
        self.assertIn("::1", t.log())
        # Scanned as well.
        r = sp.host("target", "add", "t-scanned", "--addr", t.where, "--scan", "--json", check=True)
        row = [r for r in sp.host("targets", "list", "--json").json() if r["name"] == "t-scanned"][0]
        self.assertEqual(row["fingerprints"], [r.json()["fingerprint"]])

    def test_the_next_address_when_one_does_not_answer(self):
        t = Target(sp, "t-two", add=False)
        closed = free_port(V6)
        sp.host("target", "add", "t-two", "--addr", "[::1]:%d" % closed, "--addr", t.where, "--tag", "t",
                "--host-key", t.pub, check=True)
        sp.host("account", "add", "admin@t-two", "--kind", "cert", check=True)
        row = [r for r in sp.host("targets", "list", "--json").json() if r["name"] == "t-two"][0]
        self.assertEqual(row["addrs"], ["[::1]:%d" % closed, t.where])
        r = run("t-two")
        self.assertEqual((r.code, r.out), (0, b"it-is-42\n"), r)
        self.assertEqual([e["address"] for e in events("target_unreachable", "t-two")], ["[::1]:%d" % closed])
        self.assertEqual([e["address"] for e in events("session_connected", "t-two")], [t.where])
        # None answers: the last one is told.
        t.stop()
        r = run("t-two")
        self.assertEqual(r.code, 255, r)
        self.assertIn(t.where, r.text)
        self.assertIn("cannot be reached", r.text)
        # All replaced by another verb; the session's verdict follows at once.
        other = Target(sp, "t-two-new", add=False, host_key=t.key)
        with open(other.dir + "/principals/admin", "w") as f:
            f.write("admin@t-two\n")
        sp.host("target", "set", "t-two", "--addr", other.where, check=True)
        r = run("t-two")
        self.assertEqual((r.code, r.out), (0, b"it-is-42\n"), r)

    def test_a_wrong_host_key_is_alarmed_and_the_next_address_taken(self):
        good = Target(sp, "t-pin", add=False)
        evil = Target(sp, "t-pin-evil", add=False)
        sp.host("target", "add", "t-pin", "--addr", evil.where, "--addr", good.where, "--tag", "t",
                "--host-key", good.pub, check=True)
        sp.host("account", "add", "admin@t-pin", "--kind", "cert", check=True)
        p = sp.ssh_start("oscar", "-tt", "admin@t-pin", "echo it-is-$((40+2))")
        out, err = p.communicate(timeout=120)
        self.assertEqual(p.returncode, 0, (out, err))
        self.assertIn(b"it-is-42", out)
        # Told to the user, in the audit, and nothing was tried there.
        self.assertIn(("at %s is not" % evil.where).encode(), out)
        self.assertEqual([e["address"] for e in events("host_key_mismatch", "t-pin")], [evil.where])
        self.assertNotIn("publickey", evil.log())
        self.assertNotIn("Accepted", evil.log())
        # Without a good one it ends there.
        sp.host("target", "set", "t-pin", "--addr", evil.where, check=True)
        r = run("t-pin")
        self.assertEqual(r.code, 255, r)
        self.assertIn("is not the one that is pinned", r.text)
        # A pin that is set anew is the pin.
        with open(evil.dir + "/principals/admin", "w") as f:
            f.write("admin@t-pin\n")
        sp.host("target", "set", "t-pin", "--host-key", evil.pub, check=True)
        self.assertEqual(run("t-pin").code, 0)

    def test_what_is_no_address(self):
        for a in ("localhost", "10.0.0.1:0", "10.0.0.1:65536", "[::1", "::1:", "[10.0.0.1]:22", "0.0.0.0", "::", "224.0.0.1",
                  "ff02::1", "fe80::1%lo", "fe80::1", "::ffff:10.0.0.1", "10.0.0.1 ", ""):
            r = sp.host("target", "add", "t-none", "--addr", a, "--host-key", "ssh-ed25519 AAAA")
            self.assertEqual(r.code, 2, (a, r))
        key = Target.pub.fget(type("k", (), {"key": sp.dir + "/target/host_key"}))
        many = [x for i in range(9) for x in ("--addr", "10.0.0.%d" % (i + 1))]
        self.assertEqual(sp.host("target", "add", "t-none", "--host-key", key, *many).code, 2)
        r = sp.host("target", "add", "t-none", "--host-key", key, *many[:16])
        self.assertEqual(r.code, 0, r)
        row = [r for r in sp.host("targets", "list", "--json").json() if r["name"] == "t-none"][0]
        self.assertEqual(row["addrs"], ["10.0.0.%d:22" % (i + 1) for i in range(8)])

    def test_further_addresses_are_sealed(self):
        t = Target(sp, "t-seal")
        self.assertEqual(run("t-seal").code, 0)
        sp.psql("UPDATE sallyport.targets SET more_addrs = '127.0.0.1:9' WHERE name = 't-seal'")
        r = run("t-seal")
        self.assertNotEqual(r.code, 0)
        self.assertNotIn(b"it-is", r.out)
        wait_for(lambda: any(e["detail"].get("table") == "targets" for e in sp.audit("row_seal_broken")), 60, "the alarm")
        sp.psql("UPDATE sallyport.targets SET more_addrs = NULL WHERE name = 't-seal'")
        self.assertEqual(run("t-seal").code, 0)


def pam_ask():
    so = os.path.realpath(sp.dir) + "/pam_ask.so"
    if not os.path.exists(so):
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", so, TOP + "/tests/support/pam_ask.c", "-lpam"], check=True)
    return so


@unittest.skipUnless(ROOT, "a PAM service of its own needs a mount namespace")
class Prompts(unittest.TestCase):
    OPTIONS = "KbdInteractiveAuthentication yes\nLoginGraceTime 600"

    @classmethod
    def setUpClass(cls):
        with open(sp.dir + "/target/legacy.password") as f:
            cls.password = f.read().strip()

    def target(self, name, args, options=""):
        t = Target(sp, name, options=self.OPTIONS + "\n" + options, pam="auth required %s %s" % (pam_ask(), args))
        t.add_legacy()
        return t

    def talk(self, *args):
        p = sp.ssh_start("oscar", "-tt", *args, stdin=subprocess.PIPE)
        self.addCleanup(lambda: (p.poll() is None and p.kill(), p.wait()))
        return p

    def records(self, target):
        s = [s for s in sp.sessions() if s["target"] == target][0]
        r = sp.host("export", s["id"], "--format", "records", check=True)
        rows = [json.loads(line) for line in r.out.splitlines()]
        return b"\n".join(base64.b64decode(row.get("data", "")) for row in rows).decode("utf-8", "replace")

    def test_one_hidden_prompt_is_the_password(self):
        self.target("t-pass", "[hidden:Password: =%s]" % self.password)
        r = run("t-pass", account="legacy")
        self.assertEqual((r.code, r.out), (0, b"it-is-42\n"), r)
        self.assertEqual(events("target_asked", "t-pass"), [])

    def test_the_second_question_goes_to_the_user(self):
        self.target("t-ask", "[hidden:Password: =%s] [info:Maintenance%%nat noon] [shown:Colour%%e[31m? =blue] "
                    "[hidden:Verification code: =987123]" % self.password)
        p = self.talk("legacy@t-ask", "echo it-is-$((40+2))")
        seen = read_until(p.stdout, rb"\[t-ask\] Colour\\x1b\[31m\? ", 120)
        self.assertIn(b"[t-ask] Maintenance\r\n[t-ask] at noon\r\n", seen)
        self.assertNotIn(b"\x1b", seen)
        p.stdin.write(b"blux\x7fe\r")
        seen = read_until(p.stdout, rb"\[t-ask\] Verification code: ", 120)
        self.assertIn(b"blux\x08 \x08e", seen)        # echoed
        p.stdin.write(b"987123\r")
        seen = read_until(p.stdout, rb"it-is-42", 120)
        self.assertNotIn(b"987123", seen)           # not echoed
        p.wait(timeout=60)
        self.assertEqual(p.returncode, 0)
        asked = events("target_asked", "t-ask")
        self.assertEqual([e["echo"] for e in asked], [1, 0])
        self.assertNotIn(self.password, json.dumps(asked))
        text = self.records("t-ask")
        self.assertIn("Verification code:", text)
        self.assertIn("the user answered: blue", text)
        self.assertIn("the user answered: (hidden)", text)
        self.assertNotIn("987123", text)
        self.assertNotIn(self.password, text)

    def test_never_the_same_answer_twice(self):
        t = self.target("t-twice", "[hidden:Password: =%s] [hidden:Password: =other]" % self.password)
        p = self.talk("legacy@t-twice", "id")
        read_until(p.stdout, rb"\[t-twice\] Password: ", 120)
        p.stdin.write(b"wrong\r")
        out = read_until(p.stdout, rb"login at t-twice failed[^\n]*\n", 120)
        self.assertIn(b"failed", out)
        p.wait(timeout=60)
        self.assertEqual(p.returncode, 255)
        self.assertEqual(len(events("target_asked", "t-twice")), 1)
        self.assertNotIn("Accepted", t.log())

    def test_a_certificate_and_a_question(self):
        self.target("t-both", "[shown:Ticket: =OPS-7]", "AuthenticationMethods publickey,keyboard-interactive")
        p = self.talk("admin@t-both", "echo it-is-$((40+2))")
        read_until(p.stdout, rb"\[t-both\] Ticket: ", 120)
        p.stdin.write(b"OPS-7\r")
        read_until(p.stdout, rb"it-is-42", 120)
        p.wait(timeout=60)
        self.assertEqual(p.returncode, 0)

    def test_after_an_approval_on_the_same_terminal(self):
        """Two dialogues on one channel: the bastion's own, then the target's."""
        sp.add_person("wanda", "waiters")
        reach(sp, "wanda", "t-*")
        self.target("t-wait", "[hidden:Password: =%s] [shown:Ticket: =OPS-8]" % self.password)
        p = sp.ssh_start("wanda", "-tt", "legacy@t-wait", "echo it-is-$((40+2))", stdin=subprocess.PIPE,
                         opts=("PreferredAuthentications=publickey",))
        self.addCleanup(lambda: (p.poll() is None and p.kill(), p.wait()))
        read_until(p.stdout, rb"Reason: ", 120)
        p.stdin.write(b"because\r")
        seen = read_until(p.stdout, rb"approve (\d+)", 120)
        number = re.search(rb"approve (\d+)", seen).group(1).decode()
        self.assertEqual(sp.ssh("bob", "bastion", "approve", number, timeout=120).code, 0)
        read_until(p.stdout, rb"\[t-wait\] Ticket: ", 120)
        p.stdin.write(b"OPS-8\r")
        read_until(p.stdout, rb"it-is-42", 120)
        p.wait(timeout=60)
        self.assertEqual(p.returncode, 0)

    def test_with_the_target_in_the_login_name(self):
        self.target("t-name", "[hidden:Password: =%s] [shown:Ticket: =OPS-9]" % self.password)
        sp.fresh_code("oscar")
        p = self.talk("-l", "oscar+legacy+t-name", "bastion", "echo it-is-$((40+2))")
        read_until(p.stdout, rb"\[t-name\] Ticket: ", 120)
        p.stdin.write(b"OPS-9\r")
        read_until(p.stdout, rb"it-is-42", 120)

    def test_a_hop_that_asks(self):
        hop = self.target("t-askhop", "[hidden:Password: =%s] [hidden:Hop code: =77]" % self.password)
        t = Target(sp, "t-behind", add=False)
        t.add("--via", "t-askhop", "--via-account", "legacy")
        p = self.talk("admin@t-behind", "echo it-is-$((40+2))")
        read_until(p.stdout, rb"\[t-askhop\] Hop code: ", 120)
        p.stdin.write(b"77\r")
        read_until(p.stdout, rb"it-is-42", 120)
        p.wait(timeout=60)
        self.assertEqual(p.returncode, 0)
        self.assertIn("Accepted keyboard-interactive/pam for legacy", hop.log())

    def test_without_a_terminal_it_is_refused(self):
        self.target("t-noterm", "[hidden:Password: =%s] [hidden:PIN: =1]" % self.password)
        r = run("t-noterm", account="legacy")
        self.assertEqual(r.code, 75, r)
        self.assertIn('t-noterm asks "PIN: "', r.text)
        self.assertIn("ssh -t", r.text)
        self.assertEqual(r.out, b"")

    def test_a_flood_of_questions_ends(self):
        self.target("t-flood", "[hidden:Password: =%s] [flood:100000]" % self.password)
        p = self.talk("legacy@t-flood", "id")
        for i in range(100):
            seen = read_until(p.stdout, rb"Question %d: |without end" % i, 120)
            if b"without end" in seen:
                break
            p.stdin.write(b"x\r")
        self.assertLess(i, 20)
        p.wait(timeout=60)
        self.assertEqual(p.returncode, 255)

    def test_the_user_leaves_while_asked(self):
        self.target("t-leave", "[hidden:Password: =%s] [shown:Well? =x]" % self.password)
        p = self.talk("legacy@t-leave", "id")
        read_until(p.stdout, rb"\[t-leave\] Well\? ", 120)
        p.stdin.write(b"\x03")
        out = read_until(p.stdout, rb"Cancelled", 120)
        p.wait(timeout=60)
        self.assertNotEqual(p.returncode, 0, out)
        p = self.talk("legacy@t-leave", "id")
        read_until(p.stdout, rb"\[t-leave\] Well\? ", 120)
        p.send_signal(signal.SIGKILL)
        wait_for(lambda: not [s for s in sp.sessions(all=False) if s["target"] == "t-leave"], 60, "its end")


class Behind(unittest.TestCase):
    """A target that only another one can reach: here it takes connections of that one alone, by its address."""

    @classmethod
    def setUpClass(cls):
        cls.hop = Target(sp, "t-hop", options="AllowTcpForwarding yes\nPermitOpen any")
        cls.inner = Target(sp, "t-inner", add=False)
        cls.inner.add("--via", "t-hop", "--via-account", "admin")

    def test_end_to_end(self):
        row = [r for r in sp.host("targets", "list", "--json").json() if r["name"] == "t-inner"][0]
        self.assertEqual(row["via"], "admin@t-hop")
        r = run("t-inner", "cat; echo it-is-$((40+2))", input=b"typed\n")
        self.assertEqual((r.code, r.out), (0, b"typed\nit-is-42\n"), r)
        # The hop forwarded and did nothing else; its certificate permits no more.
        log = self.hop.log()
        self.assertIn("Accepted publickey for admin", log)
        self.assertNotIn("Starting session", log)
        self.assertIn("Starting session: command", self.inner.log())
        s = [s for s in sp.sessions() if s["target"] == "t-inner"][0]
        over = events("session_open", "t-inner")[-1]["over"]
        self.assertEqual([(o["account"], o["target"], o["address"]) for o in over], [("admin", "t-hop", self.hop.where)])
        self.assertIn("serial %d" % over[0]["serial"], log)
        self.assertEqual(sp.host("verify", s["id"]).code, 0)
        text = sp.host("export", s["id"], "--format", "records", check=True).out
        self.assertIn(base64.b64encode(b"typed\n"), text)
        wait_for(lambda: not sp.pids("egress")[1], 60, "the legs' processes to end")

    def test_bulk_both_ways(self):
        data = os.urandom(8 << 20)
        r = run("t-inner", "cat", input=data)
        self.assertEqual(r.code, 0, r.err)
        self.assertEqual(r.out, data)

    def test_the_hop_must_permit_it(self):
        shut = Target(sp, "t-shut", options="AllowTcpForwarding no")
        t = Target(sp, "t-inner2", add=False)
        t.add("--via", "t-shut", "--via-account", "admin")
        r = run("t-inner2")
        self.assertEqual(r.code, 255, r)
        self.assertIn("t-inner2", r.text)
        self.assertIn("does not lead on", r.text)
        self.assertNotIn("Accepted", t.log())
        # The next address of the inner one is tried over a fresh way; then another hop.
        sp.host("target", "set", "t-inner2", "--via", "t-hop", "--via-account", "admin",
                "--addr", "127.0.0.1:%d" % free_port(), "--addr", t.where, check=True)
        self.assertEqual(run("t-inner2").code, 0)
        sp.host("target", "disable", shut.name, check=True)

    def test_pins_of_both(self):
        evil = Target(sp, "t-evil", add=False)
        sp.host("target", "add", "t-inner3", "--addr", evil.where, "--tag", "t", "--host-key", self.inner.pub, "--via", "t-hop",
                "--via-account", "admin", check=True)
        sp.host("account", "add", "admin@t-inner3", "--kind", "cert", check=True)
        r = run("t-inner3")
        self.assertEqual(r.code, 255, r)
        self.assertIn("is not the one that is pinned", r.text)
        self.assertEqual([e["at"] for e in events("host_key_mismatch", "t-inner3")], ["t-inner3"])
        self.assertNotIn("Accepted", evil.log())
        sp.host("target", "add", "t-badhop", "--addr", self.hop.where, "--tag", "t", "--host-key", evil.pub, check=True)
        sp.host("account", "add", "admin@t-badhop", "--kind", "cert", check=True)
        sp.host("target", "set", "t-inner3", "--via", "t-badhop", "--via-account", "admin", check=True)
        r = run("t-inner3")
        self.assertEqual(r.code, 255, r)
        self.assertIn("t-badhop (on the way to t-inner3)", r.text)

    def test_a_hop_that_dies_ends_the_session_with_a_reason(self):
        hop = Target(sp, "t-dying", options="AllowTcpForwarding yes")
        t = Target(sp, "t-inner4", add=False)
        t.add("--via", "t-dying", "--via-account", "admin")
        p = sp.ssh_start("oscar", "-tt", "admin@t-inner4", "echo it-is-$((40+2)); cat", stdin=subprocess.PIPE)
        read_until(p.stdout, rb"it-is-42", 120)
        hop.stop()
        out = read_until(p.stdout, rb"way over t-dying[^\n]* was lost", 120)
        p.wait(timeout=60)
        self.assertEqual(p.returncode, 255, out)
        end = wait_for(lambda: events("session_close", "t-inner4"), 60)[-1]
        self.assertIn("t-dying", end["reason"])
        # The hop's own egress killed: it ends as well, and nothing is left of it.
        hop.start()
        p = sp.ssh_start("oscar", "-tt", "admin@t-inner4", "echo it-is-$((40+2)); cat", stdin=subprocess.PIPE)
        read_until(p.stdout, rb"it-is-42", 120)
        for pid in sp.pids("egress")[1]:
            os.kill(pid, signal.SIGKILL)
        p.wait(timeout=60)
        self.assertEqual(p.returncode, 255)
        wait_for(lambda: not sp.pids("egress")[1], 60, "the legs' processes to end")

    def test_revoking_reaches_it(self):
        p = sp.ssh_start("oscar", "-tt", "admin@t-inner", "echo it-is-$((40+2)); cat", stdin=subprocess.PIPE)
        read_until(p.stdout, rb"it-is-42", 120)
        # The way is part of what was judged.
        sp.host("target", "set", "t-hop", "--tag", "t,moved", check=True)
        p.wait(timeout=60)
        self.assertEqual(p.returncode, 255)
        self.assertEqual(run("t-inner").code, 0)
        sp.host("target", "disable", "t-hop", check=True)
        r = run("t-inner")
        self.assertEqual(r.code, 1, r)
        self.assertIn("disabled", r.text)
        sp.host("target", "enable", "t-hop", check=True)
        self.assertEqual(run("t-inner").code, 0)

    def test_cycles_and_depth(self):
        pub = self.inner.pub

        def add(n, via, code=0):
            r = sp.host("target", "add", "t-d%d" % n, "--addr", "192.0.2.%d" % n, "--tag", "t", "--host-key", pub,
                        *(["--via", via, "--via-account", "admin"] if via else []))
            self.assertEqual(r.code, code, r)
            if code == 0:
                sp.host("account", "add", "admin@t-d%d" % n, "--kind", "cert", check=True)
            return r
        add(1, None)
        for n in range(2, 6):
            add(n, "t-d%d" % (n - 1))
        self.assertIn("four", add(6, "t-d5", 1).text)
        r = sp.host("target", "set", "t-d1", "--via", "t-d3", "--via-account", "admin")
        self.assertEqual(r.code, 1, r)
        self.assertIn("back to the target itself", r.text)
        self.assertEqual(sp.host("target", "set", "t-d1", "--via", "t-d1", "--via-account", "admin").code, 1)
        r = sp.host("account", "remove", "admin@t-d2")
        self.assertEqual(r.code, 1, r)
        self.assertIn("t-d3", r.text)
        # Rows made round by hand are refused when used: their seals are broken.
        sp.host("target", "set", "t-d2", "--via", "none", check=True)
        row = [r for r in sp.host("targets", "list", "--json").json() if r["name"] == "t-d2"][0]
        self.assertIsNone(row["via"])

    def test_two_hops(self):
        hop2 = Target(sp, "t-hop2", add=False, options="AllowTcpForwarding yes")
        hop2.add("--via", "t-hop", "--via-account", "admin")
        t = Target(sp, "t-far", addr=V6, add=False)
        t.add("--via", "t-hop2", "--via-account", "admin")
        r = run("t-far")
        self.assertEqual((r.code, r.out), (0, b"it-is-42\n"), r)
        self.assertEqual([o["target"] for o in events("session_connected", "t-far")[-1]["over"]], ["t-hop", "t-hop2"])


class Keys(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.t = Target(sp, "t-keys")
        os.makedirs(cls.t.dir + "/k", exist_ok=True)

    def add(self, account_kind, pub=None, **k):
        """admin@t-keys with a key of that kind, allowed there."""
        sp.host("account", "remove", "admin@t-keys", check=True)
        r = sp.host("account", "add", "admin@t-keys", "--kind", "key", *account_kind, **k)
        return r

    def allow(self, pub):
        with open(self.t.dir + "/keys-admin", "w") as f:
            f.write(pub)

    def make(self, name, *args):
        path = "%s/k/%s" % (self.t.dir, name)
        subprocess.run(["ssh-keygen", "-q", "-f", path] + list(args), check=True, stdin=subprocess.DEVNULL)
        with open(path + ".pub") as f:
            return path, f.read()

    def works(self):
        before = len(self.t.log())
        r = run("t-keys")
        self.assertEqual((r.code, r.out), (0, b"it-is-42\n"), r)
        return self.t.log()[before:]

    def test_every_kind(self):
        for kind in (("rsa", "-b", "3072"), ("ecdsa", "-b", "256"), ("ecdsa", "-b", "521"), ("ed25519",)):
            path, pub = self.make("-".join(kind), "-t", *kind, "-N", "")
            r = self.add(["--key-file", path])
            self.assertEqual(r.code, 0, r)
            self.assertIn(" ".join(pub.split()[:2]), r.text)
            self.allow(pub)
            log = self.works()
            fp = subprocess.run(["ssh-keygen", "-lf", path], stdout=subprocess.PIPE, check=True).stdout.decode().split()[1]
            self.assertIn(fp, log)
            if kind[0] == "rsa":
                self.assertRegex(log, "rsa-sha2-(256|512)|Accepted publickey for admin")
                # What takes SHA-1 alone gets nothing.
                old = Target(sp, "t-sha1", options="PubkeyAcceptedAlgorithms ssh-rsa", add=False)
                sp.host("target", "add", "t-sha1", "--addr", old.where, "--tag", "t", "--host-key", old.pub, check=True)
                sp.host("account", "add", "admin@t-sha1", "--kind", "key", "--key-file", path, check=True)
                with open(old.dir + "/keys-admin", "w") as f:
                    f.write(pub)
                r = run("t-sha1")
                self.assertEqual(r.code, 255, r)
                self.assertNotIn("Accepted publickey", old.log())

    def test_a_passphrase(self):
        path, pub = self.make("locked", "-t", "rsa", "-b", "2048", "-N", "correct horse")
        r = self.add(["--key-file", path], input=b"")
        self.assertEqual(r.code, 2, r)
        self.assertIn("encrypted", r.text)
        r = sp.host("account", "add", "admin@t-keys", "--kind", "key", "--key-file", path, input=b"wrong\n")
        self.assertEqual(r.code, 1, r)
        self.assertIn("not the passphrase", r.text)
        r = sp.host("account", "add", "admin@t-keys", "--kind", "key", "--key-file", path, input=b"correct horse\n")
        self.assertEqual(r.code, 0, r)
        self.allow(pub)
        self.works()
        with open(self.t.dir + "/k/pass", "w") as f:
            f.write("correct horse\n")
        with open(path, "rb") as f:
            r = self.add(["--key-stdin", "--passphrase-file", self.t.dir + "/k/pass"], input=f.read())
        self.assertEqual(r.code, 0, r)
        self.works()

    def test_a_generated_one(self):
        r = self.add(["--generate"])
        self.assertEqual(r.code, 0, r)
        pub = [line for line in r.out.decode().splitlines() if line.startswith("ssh-ed25519 ")]
        self.assertEqual(len(pub), 1, r)
        self.allow(pub[0] + "\n")
        self.works()

    def test_what_is_no_key(self):
        path, pub = self.make("small", "-t", "rsa", "-b", "1024", "-N", "")
        for given in (path, path + ".pub", "/dev/null"):
            r = self.add(["--key-file", given], input=b"")
            self.assertIn(r.code, (1, 2), r)
            sp.host("account", "add", "admin@t-keys", "--kind", "cert", check=True)


class Legacy(unittest.TestCase):
    OLD = ("KexAlgorithms diffie-hellman-group14-sha1\nCiphers aes128-cbc\nMACs hmac-sha1\n"
           "HostKeyAlgorithms ssh-rsa\nRequiredRSASize 1024")

    def test_off_by_default_and_audited(self):
        t = Target(sp, "t-old", options=self.OLD, key="rsa")
        r = run("t-old")
        self.assertEqual(r.code, 255, r)
        self.assertIn("key exchange", r.text)
        self.assertEqual(events("legacy_algorithms", "t-old"), [])
        sp.host("target", "set", "t-old", "--legacy", "on", check=True)
        r = run("t-old")
        self.assertEqual((r.code, r.out), (0, b"it-is-42\n"), r)
        said = events("legacy_algorithms", "t-old")
        self.assertEqual([e["algorithms"] for e in said],
                         ["kex=diffie-hellman-group14-sha1 hostkey=ssh-rsa cipher=aes128-cbc mac=hmac-sha1"])
        self.assertTrue([r for r in sp.host("targets", "list", "--json").json() if r["name"] == "t-old"][0]["legacy"])
        r = sp.host("doctor")
        self.assertIn("t-old", r.text)
        self.assertIn("old algorithms", r.text)
        sp.host("target", "set", "t-old", "--legacy", "off", check=True)
        self.assertEqual(run("t-old").code, 255)

    def test_each_old_algorithm_alone(self):
        for i, (option, name) in enumerate((("KexAlgorithms diffie-hellman-group1-sha1", "kex=diffie-hellman-group1-sha1"),
                                            ("KexAlgorithms diffie-hellman-group-exchange-sha1", "kex=diffie-hellman-group-exchange-sha1"),
                                            ("Ciphers 3des-cbc", "cipher=3des-cbc"), ("Ciphers aes256-cbc", "cipher=aes256-cbc"),
                                            ("MACs hmac-sha1\nCiphers aes128-ctr", "mac=hmac-sha1"),
                                            ("HostKeyAlgorithms ssh-rsa", "hostkey=ssh-rsa"))):
            t = Target(sp, "t-old%d" % i, options=option, key="rsa", add=False)
            t.add("--legacy", "on")
            r = run(t.name)
            self.assertEqual((r.code, r.out), (0, b"it-is-42\n"), (option, r))
            self.assertEqual([name in e["algorithms"] for e in events("legacy_algorithms", t.name)], [True], option)
            t.stop()

    def test_modern_ones_are_taken_first(self):
        t = Target(sp, "t-new", add=False)
        t.add("--legacy", "on")
        self.assertEqual(run("t-new").code, 0)
        self.assertEqual(events("legacy_algorithms", "t-new"), [])

    def test_a_host_key_of_1024_bits(self):
        t = Target(sp, "t-weak", options="RequiredRSASize 1024", add=False,
                   host_key=self.small_key())
        r = sp.host("target", "add", "t-weak", "--addr", t.where, "--tag", "t", "--host-key", t.pub)
        self.assertEqual(r.code, 2, r)
        t.add("--legacy", "on")
        r = run("t-weak")
        self.assertEqual((r.code, r.out), (0, b"it-is-42\n"), r)
        r = sp.host("target", "set", "t-weak", "--legacy", "off", check=True)
        self.assertEqual(run("t-weak").code, 255)

    def small_key(self):
        path = os.path.realpath(sp.dir) + "/small_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", path], check=True, stdin=subprocess.DEVNULL)
        return path


if __name__ == "__main__":
    main()
