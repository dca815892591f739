# SPDX-License-Identifier: Apache-2.0
"""A target whose SSH server is hostile: every message in every state of the target leg, channels that nobody asked for, windows
and packets as no server makes them.

The oracle: each session ends or goes on, none hangs; its user gets bytes of her own channel only; nothing that a target opens is
opened; no process dies by a signal, and the next session, at another target, is as before. SP_PROTOCOL=all: the whole table.
"""
import concurrent.futures
import hashlib
import os
import queue
import random
import socket
import struct
import sys
import threading
import unittest

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from puppet import TOP, ssh_string  # noqa: E402
from rawssh import KEX, Client, Closed, take  # noqa: E402
from test_protocol import bodies  # noqa: E402
sys.path.insert(0, TOP + "/tests/support")
from sp import Instance, main, wait_for  # noqa: E402
from target import reach  # noqa: E402

POLICY = 'permit "free" who group operators on tag core as admin require mfa totp for 1h\n'
ALL = os.environ.get("SP_PROTOCOL") == "all"
STATES = ("version", "kexinit", "newkeys", "service", "authenticated", "opened", "running", "exchanging")
ROLES = ("ingress", "recorder", "egress")
WINDOW, DATA, EOF, CLOSE, REQUEST = 93, 94, 96, 97, 98
COMMAND = b"what the user asks"


class Server(Client):
    """One connection of the bastion's target leg. act(server) is done once, in the state `at`; then it goes on as it should."""

    def __init__(self, sock, key, at, act):
        self.sock, self.key, self.at, self.act = sock, key, at, act
        sock.settimeout(60)
        self.tx = self.rx = self.peer = None
        self.tx_seq = self.rx_seq = 0
        self.ctr, self.buf, self.id = False, b"", None
        self.seen, self.opened = [], []
        self.theirs = b"SSH-2.0-OpenSSH_9.2p1"
        self.reach("nothing")
        sock.sendall(self.theirs + b"\r\n")
        self.mine = self.line()
        self.reach("version")
        self.server_kex()
        self.reach("newkeys")

    def reach(self, state):
        if state == self.at:
            self.at = None
            self.act(self)

    def server_kex(self):
        init = b"\x14" + os.urandom(16) + b"".join(ssh_string(x) for x in KEX) + b"\0" + bytes(4)
        self.send(init)
        self.reach("kexinit")
        theirs = self.until(20)
        q = take(self.until(30)[1:])[0]
        raw = lambda k: k.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        key = X25519PrivateKey.generate()
        qs, host = raw(key.public_key()), ssh_string("ssh-ed25519") + ssh_string(raw(self.key.public_key()))
        k = key.exchange(X25519PublicKey.from_public_bytes(q)).lstrip(b"\0")
        k = ssh_string((b"\0" if k[0] & 128 else b"") + k)
        h = hashlib.sha256(b"".join(ssh_string(x) for x in (self.mine, self.theirs, theirs, init, host, q, qs)) + k).digest()
        self.id = self.id or h
        self.send(b"\x1f" + ssh_string(host) + ssh_string(qs) + ssh_string(ssh_string("ssh-ed25519") + ssh_string(self.key.sign(h))))
        self.send(b"\x15")
        self.until(21)
        derive = lambda c, n: hashlib.sha256(k + h + c + self.id).digest()[:n]
        self.tx = [AESGCM(derive(b"D", 16)), derive(b"B", 12)]
        self.rx = [AESGCM(derive(b"C", 16)), derive(b"A", 12)]

    def until(self, *kinds):
        while True:
            p = self.recv()
            self.seen.append(p[0])
            if p[0] == 90:
                self.opened.append(p)
            if p[0] in kinds:
                return p

    def channel(self, m, rest=b""):
        self.send(bytes([m]) + struct.pack(">I", self.peer) + rest)

    def serve(self):
        self.until(5)
        self.send(b"\x06" + ssh_string("ssh-userauth"))
        self.reach("service")
        while True:
            asked = self.until(50)
            offer = asked.partition(ssh_string("publickey"))[2]
            if offer[:1] == b"\1":
                break
            self.send(b"\x3c" + offer[1:] if offer else b"\x33" + ssh_string("publickey") + b"\0")
        self.send(b"\x34")
        self.reach("authenticated")
        self.peer = struct.unpack(">I", self.until(90)[12:16])[0]
        self.send(struct.pack(">BIIII", 91, self.peer, 0, 1 << 20, 32768))
        self.reach("opened")
        while COMMAND not in self.until(REQUEST):
            self.channel(99)
        self.channel(99)
        self.reach("running")
        self.channel(DATA, ssh_string(b"told by the target\n"))
        if self.at == "exchanging":
            self.send(b"\x14" + os.urandom(16) + b"".join(ssh_string(x) for x in KEX) + b"\0" + bytes(4))
            self.reach("exchanging")
        self.channel(REQUEST, ssh_string("exit-status") + b"\0" + struct.pack(">I", 3))
        self.channel(EOF)
        self.channel(CLOSE)
        while True:
            self.until(1)


class Evil:
    """Listens; each connection takes the next deed."""

    def __init__(self):
        self.key, self.deeds, self.faults = Ed25519PrivateKey.generate(), queue.Queue(), []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        raw = self.key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        self.pub = raw.decode()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                c, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.one, args=(c,), daemon=True).start()

    def one(self, c):
        at, act = self.deeds.get()
        try:
            with c:
                Server(c, self.key, at, act).serve()
        except (Closed, OSError):
            pass
        except Exception as e:      # a server that broke would look like a bastion that holds
            self.faults.append("%s: %r" % (at, e))


def setUpModule():
    global sp, evil
    sp, evil = Instance(policy=POLICY), Evil()
    sp.add_person("oscar", "operators")
    sp.host("target", "add", "evil", "--addr", "127.0.0.1:%d" % evil.port, "--tag", "core", "--host-key", evil.pub, check=True)
    sp.host("account", "add", "admin@evil", "--kind", "cert", check=True)
    reach(sp, "oscar", "evil")
    assert sp.ssh("oscar", "bastion", "whoami").code == 0


def tearDownModule():
    evil.listener.close()
    sp.close()


def said(m, body):
    """The message, what is for a channel for the one that there is."""
    def act(server):
        of_channel = 91 <= m <= 100 and server.peer is not None and body[:4] == bytes(4)
        server.send(bytes([m]) + (struct.pack(">I", server.peer) + body[4:] if of_channel else body))
        if m == 20:
            raise Closed("nobody goes on behind it")
    return act


class Target(unittest.TestCase):
    def setUp(self):
        self.parents = {r: sp.pids(r)[0] for r in ROLES}

    def tearDown(self):
        for r in ROLES:
            wait_for(lambda: r == "ingress" or not sp.pids(r)[1], 120, "the end of the children of " + r)
            self.assertEqual(sp.pids(r)[0], self.parents[r], "a child of %s died by a signal" % r)
        wait_for(lambda: not [s for s in sp.sessions() if s["ended"] is None], 120, "the sessions' ends")
        self.assertEqual((sp.audit("child_died"), evil.faults), ([], []))
        self.assertEqual(sp.ssh("oscar", "admin@core-01", "echo fine").out, b"fine\n")

    def session(self, deed):
        evil.deeds.put(deed)
        return sp.ssh("oscar", "admin@evil", COMMAND.decode(), timeout=120)

    def test_0_it_works_when_it_is_honest(self):
        r = self.session((None, None))
        self.assertEqual((r.code, r.out), (3, b"told by the target\n"), r)

    def test_every_message_in_every_state(self):
        rnd = random.Random(os.environ.get("SP_SEED"))
        table = [(s, m, b) for s in STATES for m in range(256) for b in (bodies(m) if ALL else bodies(m)[:1]) if ALL or m < 101]
        todo = table if ALL else [x for s in STATES for x in rnd.sample([t for t in table if t[0] == s], 8)]

        def one(x):
            s, m, b = x
            r = self.session((s, said(m, b)))
            return (s, m, b[:40]), r.code, r.out

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            done = list(pool.map(one, todo))
        # What a hostile target says on the channel is its own; nothing else reaches the user, and no success is made up.
        allowed = (b"", b"told by the target\n", b"data", b"datatold by the target\n")
        self.assertEqual([x for x in done if x[2] not in allowed], [])
        self.assertEqual([x for x in done if x[1] == 0 and x[0][1] != REQUEST], [])
        print("%d of %d in the table; %d sessions went on to their end" % (len(todo), len(table), sum(x[1] == 3 for x in done)), flush=True)

    def test_channels_that_a_target_opens(self):
        """Agent, X11, a listener that nobody asked for, a session: each is refused, and the user's channel goes on."""
        answers = []

        def act(server):
            for i, (kind, rest) in enumerate((
                    ("auth-agent@openssh.com", b""), ("x11", ssh_string("127.0.0.1") + bytes(4)), ("session", b""),
                    ("forwarded-tcpip", ssh_string("127.0.0.1") + struct.pack(">I", 80) + ssh_string("10.0.0.1") + struct.pack(">I", 1)),
                    ("direct-tcpip", ssh_string("127.0.0.1") + struct.pack(">I", 22) + ssh_string("127.0.0.1") + struct.pack(">I", 1)),
                    ("forwarded-streamlocal@openssh.com", ssh_string("/run/x") + ssh_string("")), ("tun@openssh.com", bytes(8)))):
                server.send(b"\x5a" + ssh_string(kind) + struct.pack(">III", 100 + i, 1 << 20, 32768) + rest)
                p = server.until(91, 92)
                answers.append((kind, p[0], struct.unpack(">I", p[1:5])[0] - 100 - i))
        r = self.session(("running", act))
        self.assertEqual((r.code, r.out), (3, b"told by the target\n"), r)
        self.assertEqual([a[1:] for a in answers], [(92, 0)] * 7, answers)

    def test_requests_of_a_target(self):
        """Global ones and those on a channel: none is granted but what proves that we live, and the user's channel goes on."""
        answers = []

        def act(server):
            for name, rest in (("tcpip-forward", ssh_string("0.0.0.0") + bytes(4)), ("keepalive@openssh.com", b""), ("no-such", b"x" * 100)):
                server.send(b"\x50" + ssh_string(name) + b"\1" + rest)
                p = server.until(81, 82)
                answers.append((name, p[0], len(p)))
            for name, rest in (("exec", ssh_string("id")), ("auth-agent-req@openssh.com", b""), ("subsystem", ssh_string("sftp")), ("keepalive@openssh.com", b"")):
                server.channel(REQUEST, ssh_string(name) + b"\1" + rest)
                answers.append((name, server.until(99, 100)[0], 5))
        r = self.session(("running", act))
        self.assertEqual((r.code, r.out), (3, b"told by the target\n"), r)
        self.assertEqual([a for a in answers if a[1] in (81, 99) and (a[0] != "keepalive@openssh.com" or a[2] > 5)], [])

    def test_more_than_the_window(self):
        """A target that does not wait for room: its session ends, or loses what there was no room for; memory has a bound."""
        most = [0]

        def act(server):
            for _ in range(2000):
                server.channel(DATA, ssh_string(b"data" * 8000))
                for pid in sp.pids("egress")[1] if _ % 200 == 199 else ():
                    try:
                        with open("/proc/%d/status" % pid) as f:
                            most[0] = max([most[0]] + [int(x.split()[1]) for x in f if x.startswith("VmRSS")])
                    except OSError:
                        pass
        evil.deeds.put(("running", act))
        p = sp.ssh_start("oscar", "admin@evil", COMMAND.decode())
        threading.Event().wait(3)                     # nobody reads: everything between them fills up
        out, _ = p.communicate(timeout=120)
        self.assertEqual(out.replace(b"data", b"").replace(b"told by the target\n", b""), b"")
        print("%d bytes arrived; the target leg had %d KiB at most" % (len(out), most[0]), flush=True)
        self.assertLess(most[0], 64 << 10)

    def test_packets_of_no_size(self):
        def raw(data):
            def act(server):
                server.sock.sendall(data)
                raise Closed("and no more")
            return act
        for state in ("version", "newkeys", "running"):
            for n in (0, 1, 5, 0x7fffffff, 0xffffffff, 1 << 20):
                r = self.session((state, raw(struct.pack(">I", n) + os.urandom(256))))
                self.assertEqual(r.code, 255, r)
        for line in (b"", b"\0" * 300, b"x" * 70000, b"SSH-1.5-old\r\n"):
            r = self.session(("nothing", raw(line)))
            self.assertEqual(r.code, 255, r)

    def test_a_success_that_nobody_earned(self):
        """SUCCESS before any request, and a flood of banners: the lease is not used, and the user is told nothing of the target's."""
        def banners(server):
            for _ in range(20000):
                server.send(b"\x35" + ssh_string("\x1b]0;owned\x07" * 100) + ssh_string(""))
        self.session(("service", banners))
        r = self.session(("newkeys", lambda s: s.send(b"\x34")))
        self.assertNotIn(b"owned", r.out + r.err)


if __name__ == "__main__":
    main()
