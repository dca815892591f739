# SPDX-License-Identifier: Apache-2.0
"""What somebody who has not logged in can do to the front, and what they learn: little.

Delays are checked as lower bounds and as orders of events, never as upper bounds. SP_HALF_OPEN=ratio makes the last class
assert how much slower a login is while 1,000 connections hang half open (`make check-half-open`); else it prints it.
"""
import concurrent.futures
import math
import os
import random
import select
import socket
import statistics
import struct
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from puppet import TOP, key_blob, secret_of, ssh_string, totp  # noqa: E402
from rawssh import FAILURE, PK_OK, SUCCESS, Client, Closed, is_partial  # noqa: E402
sys.path.insert(0, TOP + "/tests/support")
from sp import Instance, main, wait_for  # noqa: E402

RATIO = float(os.environ.get("SP_HALF_OPEN", "0"))
STEP = 0.010            # refusals come at multiples of it


def setUpModule():
    global sp
    sp = Instance(policy='permit "free" who group operators on tag core as admin require mfa totp for 1h\n')
    sp.add_person("oscar", "operators")


def tearDownModule():
    sp.close()


def private(who):
    return "%s/people/%s/id_ed25519" % (sp.dir, who)


def foreign_key(n=0):
    return ssh_string("ssh-ed25519") + ssh_string(bytes([n % 256]) * 31 + b"\1")


def dial(source="127.0.0.1"):
    return socket.create_connection(("127.0.0.1", sp.port), timeout=60, source_address=(source, 0))


def log_in(source="127.0.0.2"):
    c = Client(dial=dial(source)).begin()
    assert is_partial(c.key("oscar", private("oscar")))
    assert c.request("oscar", "keyboard-interactive", bytes(8))[0] == 60
    assert c.code(totp(secret_of(sp, "oscar")))[0] == SUCCESS
    return c


def refused_offers(name, n):
    """(answer, seconds) of n offers of keys that are nobody's."""
    out = []
    while len(out) < n:
        c = Client(sp.port).begin()
        for i in range(min(4, n - len(out))):
            t = time.monotonic()
            got = c.offer(name, foreign_key(len(out)))
            out.append((got, time.monotonic() - t))
        c.close()
    return out


def apart(a, b):
    """How far the ranks of a are from what chance gives them among those of b, in standard deviations (Mann and Whitney)."""
    rank, both, i = {}, sorted(a + b), 0
    while i < len(both):
        j = i
        while j < len(both) and both[j] == both[i]:
            j += 1
        rank[both[i]] = (i + j + 1) / 2
        i = j
    n, m = len(a), len(b)
    return (sum(rank[t] for t in a) - n * (n + m + 1) / 2) / math.sqrt(n * m * (n + m + 1) / 12)


class Silence(unittest.TestCase):
    """A name that exists and one that does not: the same words, the same time."""

    def test_0_words_and_time(self):
        """Asked in an order by chance, what else the machine does falls on both alike: the ranks of their times may differ by chance
        alone. (Six standard deviations come once in 500 million runs; a known name that took one step longer would be 12.)"""
        known, unknown, order = [], [], ["alice", "bob", "carol", "oscar", "nobody", "alicia", "bobby", "root"] * 6
        random.shuffle(order)
        for name in order:
            (known if name in ("alice", "bob", "carol", "oscar") else unknown).extend(refused_offers(name, 4))
        self.assertEqual({w for w, _ in known}, {w for w, _ in unknown})
        self.assertEqual(len({w for w, _ in known}), 1)
        # Never before the step: what is done until then cannot be seen.
        for _, t in known + unknown:
            self.assertGreater(t, STEP * 0.9)
        m = [statistics.median(t for _, t in x) * 1000 for x in (known, unknown)]
        z = apart([t for _, t in known], [t for _, t in unknown])
        print("refusal: known name %.2f ms, unknown %.2f ms (medians of %d); ranks %+.1f standard deviations apart" % (
            m[0], m[1], len(known), z))
        self.assertLess(abs(z), 6)

    def test_0_the_judge_can_tell(self):
        """Times one step longer, of all or of a third, would be seen."""
        a = [0.0101 + i * 0.00005 for i in range(96)]
        self.assertLess(abs(apart(a, a)), 0.1)
        self.assertGreater(apart([t + STEP for t in a], a), 11)
        self.assertGreater(apart([t + (STEP if i % 3 == 0 else 0) for i, t in enumerate(a)], a), 3.5)

    def test_a_key_of_somebody_else(self):
        """Neither does it show that the key is known under another name."""
        c = Client(sp.port).begin()
        a = c.offer("alice", key_blob(sp, "bob"))
        b = c.offer("alice", foreign_key())
        d = c.offer("nosuch", key_blob(sp, "bob"))
        self.assertTrue(a == b == d and a[0] == FAILURE)
        c.close()

    def test_guessing_gets_slow_for_any_name(self):
        for name in ("bob", "nobody-at-all"):
            times = [t for _, t in refused_offers(name, 52)]
            self.assertGreater(max(times[31:]), 0.050)
            self.assertGreater(max(times[41:]), 0.100)
            print("refusals of %s: the 1st took %.0f ms, the 50th %.0f ms" % (name, times[0] * 1000, times[50] * 1000))
            # Its owner does not wait: her key is answered before a refusal that was asked for earlier.
            slow = Client(sp.port).begin()
            slow.send(b"\x32" + ssh_string(name) + ssh_string("ssh-connection") + ssh_string("publickey") + b"\0" + ssh_string("ssh-ed25519") +
                      ssh_string(foreign_key()))
            if name == "bob":
                while not select.select([slow.sock], [], [], 0)[0]:
                    quick = Client(sp.port).begin()
                    t = time.monotonic()
                    self.assertEqual(quick.offer("bob", key_blob(sp, "bob"))[0], PK_OK)
                    self.assertTrue(is_partial(quick.key("bob", private("bob"))))
                    t = time.monotonic() - t
                    quick.close()
                print("and her own key %.0f ms" % (t * 1000))
            self.assertEqual(slow.recv()[0], FAILURE)
            slow.close()


class Limits(unittest.TestCase):
    def cut(self, c, act, limit):
        """act(c) again and again until the front hangs up; how often it went well."""
        n = 0
        try:
            while n <= limit:
                act(c)
                n += 1
        except (Closed, OSError):
            pass
        c.close()
        self.assertLessEqual(n, limit)
        return n

    def why(self, port):
        return wait_for(lambda: [e["detail"]["why"] for e in sp.audit("login_refused") if e["detail"]["port"] == port], 30, "its audit event")[0]

    def test_attempts(self):
        """Each is answered and counted: a key that is refused, a signature that is not right, a kind of key or a method that
        does not exist, a password, GSSAPI."""
        bad = lambda c: c.key("oscar", private("oscar"), spoil=True)
        acts = {"offer": lambda c: c.offer("oscar", foreign_key()), "signature": bad,
                "dss": lambda c: c.offer("oscar", ssh_string("ssh-dss") + ssh_string(b"\1") * 4, "ssh-dss"),
                "unknown kind": lambda c: c.offer("oscar", ssh_string("ssh-x") + ssh_string("y"), "ssh-x"),
                "no blob": lambda c: c.offer("oscar", b""),
                "signed with an unknown kind": lambda c: c.request("oscar", "publickey", b"\1" + ssh_string("ssh-x") + ssh_string(
                    ssh_string("ssh-x")) + ssh_string(ssh_string("ssh-x") + ssh_string("z"))),
                "sha1": lambda c: c.request("oscar", "publickey", b"\1" + ssh_string("ssh-rsa") + ssh_string(ssh_string("ssh-rsa") + ssh_string(
                    b"\1\0\1") + ssh_string(b"\x7f" * 256)) + ssh_string(ssh_string("ssh-rsa") + ssh_string(b"\x11" * 256))),
                "password": lambda c: c.request("oscar", "password", b"\0" + ssh_string("x")),
                "hostbased": lambda c: c.request("oscar", "hostbased", ssh_string("ssh-ed25519") + ssh_string(foreign_key()) + ssh_string("h") +
                                                 ssh_string("u") + ssh_string("s")),
                "gssapi": lambda c: c.request("oscar", "gssapi-with-mic", struct.pack(">I", 1) + ssh_string(b"\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02")),
                "gssapi-keyex": lambda c: c.request("oscar", "gssapi-keyex", ssh_string("mic")),
                "none of it": lambda c: c.request("oscar", "no-such-method", b"x")}
        for name, act in acts.items():
            with self.subTest(attempt=name):
                c = Client(sp.port).begin()
                c.sock.settimeout(60)
                port = c.sock.getsockname()[1]
                def once(c):
                    got = act(c)
                    self.assertEqual((got[0], got[-1]), (FAILURE, 0), got)
                n = self.cut(c, once, 6)
                self.assertLessEqual(n, 6)
                self.assertTrue(self.why(port))

    def test_gssapi_goes_no_further(self):
        """What would follow its request: tokens, errors, a MIC. Asked for, libssh would look for a keytab, in a sandbox."""
        for more in (61, 63, 64, 65, 66):
            c = Client(sp.port).begin()
            c.sock.settimeout(60)
            got = c.request("oscar", "gssapi-with-mic", struct.pack(">I", 1) + ssh_string(b"\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02"))
            self.assertEqual((got[0], got[5:-1]), (FAILURE, b"publickey"))
            self.cut(c, lambda c: (c.send(bytes([more]) + ssh_string("token")), c.offer("oscar", foreign_key())), 100)

    def test_no_child_has_kerberos_in_its_memory(self):
        def maps(pid):
            with open("/proc/%d/maps" % pid) as f:
                return f.read()
        parents, before = sp.pids("ingress")
        self.assertIn("libgssapi_krb5", maps(parents[0]))
        c = Client(sp.port).begin()
        child = wait_for(lambda: set(sp.pids("ingress")[1]) - set(before), 60, "the connection's child").pop()
        self.assertIn("libssh", maps(child))
        for name in ("gssapi", "krb5", "k5crypto"):
            self.assertNotIn(name, maps(child))
        c.sock.close()

    def test_bytes(self):
        c = Client(sp.port).begin()
        port = c.sock.getsockname()[1]
        self.cut(c, lambda c: c.send(b"\x02" + ssh_string(b"x" * 30000)), 400)
        self.assertEqual(self.why(port), "too many bytes before the login")

    def test_small_packets(self):
        c = Client(sp.port).begin()
        port = c.sock.getsockname()[1]
        self.cut(c, lambda c: c.send(b"\x02" + bytes(4)), 200000)
        self.assertEqual(self.why(port), "too many bytes before the login")

    def test_key_exchanges(self):
        """Each costs the front more than the client: one before the login, no more."""
        for begun in (False, True):
            c = Client(sp.port)
            if begun:
                c.begin()
                self.assertEqual(c.request("oscar", "none")[0], FAILURE)
            self.cut(c, lambda c: c.exchange(), 0)
        sp.fresh_code("oscar")
        c = log_in()
        c.exchange()                # behind it it is as RFC 4253 wants
        c.close()

    def test_a_long_name_is_not_kept(self):
        c = Client(sp.port).begin()
        port = c.sock.getsockname()[1]
        self.cut(c, lambda c: c.offer("a" * 65536, foreign_key()), 6)
        self.assertTrue(self.why(port))
        for e in sp.audit("login_refused"):
            self.assertLess(len(e["detail"].get("login", "")), 1100)

    def test_zz_the_door_still_opens(self):
        self.assertEqual(sp.audit("ingress_died"), [])
        self.assertEqual(sp.audit("child_died"), [])
        sp.fresh_code("oscar")
        log_in().close()


class HalfOpen(unittest.TestCase):
    """1,000 connections that say hello and no more."""

    def time_of_logins(self, n):
        out = []
        for _ in range(n):
            sp.fresh_code("oscar")
            t = time.monotonic()
            log_in().close()
            out.append(time.monotonic() - t)
        return statistics.median(out)

    def hold(self, source_of):
        def one(i):
            s = dial(source_of(i))
            try:
                s.sendall(b"SSH-2.0-slow\r\n")
            except OSError:
                pass
            return s
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            return list(pool.map(one, range(1000)))

    @staticmethod
    def alive(held):
        n = 0
        for s in held:
            s.setblocking(False)
            try:
                while True:
                    piece = s.recv(65536)
                    if not piece:
                        break
            except BlockingIOError:
                n += 1
            except OSError:
                pass
        return n

    def gets_in(self):
        """Within half a second of a burst nobody is ended for somebody else."""
        try:
            sp.fresh_code("oscar")
            log_in().close()
            return True
        except Closed:
            return False

    def run_with(self, name, source_of, most):
        wait_for(self.gets_in, 60, "an open door")
        before = self.time_of_logins(7)
        held = self.hold(source_of)
        try:
            # The surplus is refused early: it never becomes a process.
            wait_for(lambda: self.alive(held) <= most, 60, "the surplus to be refused")
            wait_for(lambda: len(sp.pids("ingress")[1]) <= most + 5, 60, "few processes")
            wait_for(self.gets_in, 60, "an open door")
            during = self.time_of_logins(7)
            print("%s: %d of 1000 half-open are held; a login takes %.1f ms, without them %.1f ms: %.2f times" % (
                name, self.alive(held), during * 1000, before * 1000, during / before))
            self.assertGreater(self.alive(held), 0)
            if RATIO:
                self.assertLess(during / before, RATIO)
        finally:
            for s in held:
                s.close()
        wait_for(lambda: not sp.pids("ingress")[1], 60, "their processes to end")

    def test_from_one_source(self):
        self.run_with("one source", lambda i: "127.0.0.1", 64)

    def test_from_many_sources(self):
        self.run_with("1000 sources", lambda i: "127.1.%d.%d" % (i // 250, 1 + i % 250), 100)


if __name__ == "__main__":
    main()
