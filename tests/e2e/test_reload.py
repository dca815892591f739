# SPDX-License-Identifier: Apache-2.0
"""`sallyport reload`: new configuration and executables while sessions run on; and parents that are executed afresh, after a
crash and after a number of children, with another address layout."""
import hashlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, TOP + "/tests/support")
from sp import Instance, free_port, main, wait_for  # noqa: E402

POLICY = 'permit "free" who group operators on tag core as admin require mfa totp for 1h\n'
PARENTS = ("ingress", "egress", "egress-sql", "recorder", "player", "auth")


def setUpModule():
    global sp
    sp = Instance(policy=POLICY)
    for who in ("oscar", "olga"):
        sp.add_person(who, "operators")


def tearDownModule():
    sp.close()


def reload_with(**settings):
    sp.configure(**settings)
    sp.host("reload", check=True)


def new_login(who="olga"):
    """A connection of its own, both factors."""
    sp.fresh_code(who)
    r = sp.ssh(who, "bastion", "whoami", mux=False)
    assert r.code == 0, r
    return r


def supervisor():
    with open(sp.dir + "/run/sallyportd.pid") as f:
        return int(f.read())


def parents(role):
    return set(sp.pids(role)[0])


def layout(pid):
    """Where things lie: the first address of each file, heap and stack."""
    out = {}
    with open("/proc/%d/maps" % pid) as f:
        for line in f:
            m = re.match(r"([0-9a-f]+)-\S+ \S+ \S+ \S+ \S+\s*(\S*)", line)
            if m and m.group(2) and m.group(2) != "[vsyscall]":
                out.setdefault(m.group(2), m.group(1))
    return out


class Traffic:
    """`cat` on the target, fed with random bytes without a pause; what comes back is hashed on both sides."""

    def __init__(self, who="oscar"):
        sp.fresh_code(who)
        self.p = sp.ssh_start(who, "admin@core-01", "cat", stdin=subprocess.PIPE)
        self.sent, self.got, self.n_sent, self.n_got = hashlib.sha256(), hashlib.sha256(), 0, 0
        self.end = threading.Event()
        self.threads = [threading.Thread(target=t, daemon=True) for t in (self.feed, self.drain)]
        for t in self.threads:
            t.start()
        self.moves()

    def feed(self):
        r = random.Random(7)
        try:
            while not self.end.is_set():
                piece = r.randbytes(1 << 16)
                at = 0
                while at < len(piece):
                    at += os.write(self.p.stdin.fileno(), piece[at:])
                self.sent.update(piece)
                self.n_sent += len(piece)
        except OSError:
            pass
        self.p.stdin.close()

    def drain(self):
        while True:
            piece = os.read(self.p.stdout.fileno(), 1 << 16)
            if not piece:
                return
            self.got.update(piece)
            self.n_got += len(piece)

    def moves(self):
        """Until a MiB more has come back."""
        want = self.n_got + (1 << 20)
        wait_for(lambda: self.n_got > want, 60, "traffic")

    def finish(self):
        self.end.set()
        for t in self.threads:
            t.join(120)
        code = self.p.wait(60)
        return code, self.n_sent, self.n_got, self.sent.hexdigest() == self.got.hexdigest()


class Reload(unittest.TestCase):
    def test_a_session_under_traffic(self):
        t = Traffic()
        session = wait_for(lambda: sp.sessions(all=False), 30, "the session")[0]["id"]
        boss, before = supervisor(), {r: parents(r) for r in PARENTS}
        for i in range(3):
            reload_with(banner="Generation %d" % i)
            t.moves()
            r = new_login()
            self.assertIn(b"Generation %d" % i, r.err)          # the new configuration holds for it
            t.moves()
        self.assertEqual(supervisor(), boss)
        for role in PARENTS:
            now = parents(role)
            self.assertTrue(now - before[role], role)
            if role not in ("player", "auth", "egress-sql"):     # these have no child of this session
                self.assertTrue(before[role] <= now, "%s: the old parent lives with its child" % role)
        code, sent, got, same = t.finish()
        print("%d MiB each way through three reloads" % (sent >> 20))
        self.assertEqual((code, sent, same), (0, got, True))
        sp.end_mux("oscar")
        for role in PARENTS:                                     # the old ones end with their last child
            wait_for(lambda: len(parents(role)) == 1, 60, "one parent of %s" % role)
            self.assertFalse(parents(role) & before[role])
        wait_for(lambda: sp.host("verify", session).code == 0, 60, "its record to be whole")
        self.assertEqual(sp.audit("child_died") + sp.audit("role_died"), [])
        reload_with(banner="")

    def test_addresses(self):
        """One more, one less: who is connected stays."""
        port = free_port()
        t = Traffic()
        try:
            reload_with(listen="127.0.0.1:%d [::1]:%d" % (port, port))
            for address in ("127.0.0.1", "::1"):
                with socket.create_connection((address, port), timeout=60) as s:
                    self.assertTrue(s.recv(4).startswith(b"SSH-"))
            with self.assertRaises(OSError):
                socket.create_connection(("127.0.0.1", sp.port), timeout=60)
            t.moves()
        finally:
            reload_with(listen="127.0.0.1:%d" % sp.port)
        self.assertEqual(t.finish()[0::3], (0, True))
        sp.end_mux("oscar")
        new_login()

    def refused(self, text, stay=PARENTS):
        before = {r: parents(r) for r in PARENTS}
        r = sp.host("reload")
        self.assertEqual(r.code, 1, r)
        self.assertIn(text, r.text)
        new_login()
        for role in stay:
            self.assertTrue(before[role] & parents(role), role)

    def test_what_is_wrong_changes_nothing(self):
        with open(sp.dir + "/sallyport.conf") as f:
            good = f.read()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen(1)
            at = "127.0.0.1:%d" % taken.getsockname()[1]
            try:
                for change, text in (({"node": "elsewhere"}, "full restart"), ({"proxy_peers": "10.0.0.1/8"}, "10.0.0.1/8 is no address"),
                                     ({"listen": "127.0.0.1:%d %s" % (sp.port, at)}, "cannot listen on " + at)):
                    sp.configure(**change)
                    self.refused(text)
                    with open(sp.dir + "/sallyport.conf", "w") as f:
                        f.write(good)
                # Read by the supervisor alone, past the check of the CLI.
                sp.configure(max_tries="none")
                n = len(sp.audit("reload_failed"))
                os.kill(supervisor(), signal.SIGHUP)
                wait_for(lambda: len(sp.audit("reload_failed")) > n, 60, "its refusal")
                self.assertIn("max_tries wants a number", str(sp.audit("reload_failed")))
                new_login()
            finally:
                with open(sp.dir + "/sallyport.conf", "w") as f:
                    f.write(good)

    def test_executables_that_do_not_start(self):
        exe = sp.dir + "/opt/libexec/sallyport/sallyport-ingress"
        shutil.copy2(exe, exe + ".kept")
        os.unlink(exe)
        shutil.copy("/bin/false", exe)
        try:
            self.refused("sallyport-ingress ended with status 1", ["ingress"])
        finally:
            os.rename(exe + ".kept", exe)
        sp.host("reload", check=True)
        new_login()


class Rotation(unittest.TestCase):
    def hold(self):
        s = socket.create_connection(("127.0.0.1", sp.port), timeout=60)
        self.addCleanup(s.close)
        self.assertEqual(s.recv(4), b"SSH-")
        return s

    def differ(self, a, b):
        same = [k for k in a if k in b and a[k] == b[k] and "(deleted)" not in k]
        self.assertGreater(len(set(a) & set(b)), 5)
        self.assertEqual(same, [], "nothing lies where it lay")

    def test_after_a_number_of_children(self):
        reload_with(children_per_parent=3)
        first = parents("ingress").pop()
        wait_for(lambda: parents("ingress") == {first}, 60, "one parent")
        held = self.hold()                           # the old one lives as long as this
        a = layout(first)
        for _ in range(2):
            self.hold().close()
        second = wait_for(lambda: parents("ingress") - {first}, 60, "a fresh parent").pop()
        self.differ(a, layout(second))
        child = wait_for(lambda: sp.pids("ingress")[1], 60, "the child that is held")[0]
        self.assertEqual(layout(child)["[stack]"], a["[stack]"])
        held.close()
        wait_for(lambda: first not in parents("ingress"), 60, "the old one's end")
        new_login()                                  # it counts on: three more, and the next one comes
        for _ in range(3):
            self.hold().close()
        wait_for(lambda: second not in parents("ingress"), 60, "the next one")
        self.assertEqual(sp.audit("child_died"), [])
        reload_with(children_per_parent=1000)

    def test_sessions_too(self):
        reload_with(children_per_parent=1)
        before = {r: parents(r) for r in PARENTS}
        t = Traffic()
        for role in ("ingress", "egress", "recorder"):
            wait_for(lambda: parents(role) - before[role], 60, "a fresh parent of " + role)
        t.moves()
        self.assertEqual(t.finish()[0::3], (0, True))
        sp.end_mux("oscar")
        reload_with(children_per_parent=1000)

    def test_z_after_a_crash(self):
        wait_for(lambda: len(parents("ingress")) == 1, 60, "one parent")
        first = parents("ingress").pop()
        a = layout(first)
        held, victim = self.hold(), self.hold()
        children = wait_for(lambda: len(sp.pids("ingress")[1]) >= 2 and sp.pids("ingress")[1], 60, "two children")
        os.kill(max(children), signal.SIGSEGV)
        second = wait_for(lambda: parents("ingress") - {first}, 60, "a fresh parent").pop()
        self.differ(a, layout(second))
        self.assertIn(first, parents("ingress"))     # with the child that did not crash
        held.close()
        victim.close()
        wait_for(lambda: parents("ingress") == {second}, 60, "the old one's end")
        new_login()


if __name__ == "__main__":
    main()
