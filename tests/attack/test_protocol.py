# SPDX-License-Identifier: Apache-2.0
"""Every SSH message in every state of a connection, and channels, windows and packets as no client would make them.

The oracle is the same everywhere: no message opens what was not open, no child of the front dies by a signal (its parent's
pid would change), no memory grows without bound, and the door still opens. SP_PROTOCOL=all tries every body in every state.
"""
import os
import random
import socket
import struct
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from puppet import TOP, key_blob, secret_of, ssh_string, totp  # noqa: E402
from rawssh import FAILURE, KEX, SUCCESS, Client, Closed, is_partial  # noqa: E402
sys.path.insert(0, TOP + "/tests/support")
from sp import Instance, main, wait_for  # noqa: E402

POLICY = 'permit "free" who group operators on tag core as admin require mfa totp for 1h\n'
OPEN_OK, OPEN_FAILED, WINDOW, DATA, EOF, CLOSE, REQUEST, REQ_OK, REQ_FAIL = 91, 92, 93, 94, 96, 97, 98, 99, 100
GLOBAL, GLOBAL_OK, GLOBAL_FAIL, INFO_REQUEST = 80, 81, 82, 60
ALL = os.environ.get("SP_PROTOCOL") == "all"


def setUpModule():
    global sp
    sp = Instance(policy=POLICY)
    sp.add_person("oscar", "operators")


def tearDownModule():
    sp.close()


def private(who):
    return "%s/people/%s/id_ed25519" % (sp.dir, who)


def log_in():
    c = Client(sp.port).begin()
    sp.fresh_code("oscar")
    assert is_partial(c.key("oscar", private("oscar")))
    assert c.request("oscar", "keyboard-interactive", bytes(8))[0] == INFO_REQUEST
    assert c.code(totp(secret_of(sp, "oscar")))[0] == SUCCESS
    return c


def children():
    return set(sp.pids("ingress")[1])


def rss_kib(pid):
    with open("/proc/%d/status" % pid) as f:
        for line in f:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0


# ------------------------------------------------------------------------------------------ the states
class Early(Client):
    """A connection before its keys: the socket and the packets of RFC 4253, 6, in clear."""

    def __init__(self, state):
        self.sock = socket.create_connection(("127.0.0.1", sp.port), timeout=20)
        self.tx = self.rx = None
        self.tx_seq = self.rx_seq = 0
        self.ctr = False
        self.buf = b""
        if state == "nothing said":
            return
        self.sock.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        while not self.line().startswith(b"SSH-"):
            pass
        if state == "version":
            return
        self.send(b"\x14" + os.urandom(16) + b"".join(ssh_string(x) for x in KEX) + b"\0" + bytes(4))
        assert self.recv()[0] == 20


def service(c):
    return c


def userauth(c):
    return c.begin()


def keyed(c):
    c.begin()
    assert is_partial(c.key("oscar", private("oscar")))
    return c


def asked(c):
    keyed(c)
    assert c.request("oscar", "keyboard-interactive", bytes(8))[0] == INFO_REQUEST
    return c


STATES = {
    "nothing said": lambda: Early("nothing said"),
    "version": lambda: Early("version"),
    "kexinit": lambda: Early("kexinit"),
    "service": lambda: Client(sp.port),
    "userauth": lambda: userauth(Client(sp.port)),
    "keyed": lambda: keyed(Client(sp.port)),
    "asked": lambda: asked(Client(sp.port)),
}


def bodies(m):
    """What may follow the number: nothing, zeros, what the message would hold, noise."""
    good = {
        1: struct.pack(">I", 2) + ssh_string("bye") + ssh_string(""), 2: ssh_string("x" * 100),
        5: ssh_string("ssh-connection"), 6: ssh_string("ssh-connection"), 7: struct.pack(">I", 0),
        20: os.urandom(16) + ssh_string("none") * 10 + bytes(5), 30: ssh_string(bytes(32)), 31: ssh_string(b"k") * 3,
        50: ssh_string("oscar") + ssh_string("ssh-connection") + ssh_string("none"),
        51: ssh_string("publickey") + b"\1", 52: b"", 53: ssh_string("hello") + ssh_string(""), 60: ssh_string("x") * 3 + bytes(4),
        61: struct.pack(">I", 1) + ssh_string("000000"), 66: ssh_string("x"),
        80: ssh_string("tcpip-forward") + b"\1" + ssh_string("127.0.0.1") + struct.pack(">I", 0),
        90: ssh_string("session") + struct.pack(">III", 0, 1 << 20, 32768), 91: struct.pack(">IIII", 0, 0, 1 << 20, 32768),
        92: struct.pack(">II", 0, 1) + ssh_string("no") + ssh_string(""), 93: struct.pack(">II", 0, 1 << 31),
        94: struct.pack(">I", 0) + ssh_string("data"), 95: struct.pack(">II", 0, 1) + ssh_string("data"),
        96: bytes(4), 97: bytes(4), 98: bytes(4) + ssh_string("exec") + b"\1" + ssh_string("whoami"), 99: bytes(4), 100: bytes(4)}
    out = [good.get(m, b"")]
    if ALL or m in good:
        out += [b"", struct.pack(">I", 0xffffffff) * 4]
    if ALL:
        out += [bytes(64), os.urandom(64), ssh_string(b"\0" * 1000)]
    return out


MESSAGES = range(0, 256) if ALL else sorted({0, 3, 8, 19, 21, 29, 32, 34, 49, 63, 79, 101, 127, 128, 192, 255} |
                                            {m for m in range(1, 101) if bodies(m)[0] or m in (52,)})


class States(unittest.TestCase):
    def setUp(self):
        self.parents = sp.pids("ingress")[0]
        self.sessions = len(sp.sessions())

    def tearDown(self):
        """Nobody died, nothing was opened, and the door still opens."""
        wait_for(lambda: not children(), 60, "the end of the connections")
        self.assertEqual(sp.pids("ingress")[0], self.parents, "a child of the front died by a signal")
        self.assertEqual(len(sp.sessions()), self.sessions)
        c = log_in()
        c.close()

    def shut(self, c, state, what):
        """Whatever the answer was: nothing that needs a login is open now."""
        opened = {SUCCESS, OPEN_OK, REQ_OK, GLOBAL_OK} | (set() if state in ("keyed", "asked") else {INFO_REQUEST})
        try:
            c.sock.settimeout(20)
            if c.tx:
                c.send(b"\x5a" + ssh_string("session") + struct.pack(">III", 7, 1 << 20, 32768))
                for _ in range(20):
                    got = c.recv()
                    self.assertNotIn(got[0], opened, "%s: %s" % (state, what))
                    if got[0] in (OPEN_FAILED, 3):
                        break
            else:
                c.sock.shutdown(socket.SHUT_WR)
                while True:
                    self.assertNotIn(c.recv()[0], opened, "%s: %s" % (state, what))
        except Closed:
            pass
        finally:
            c.close()

    def run_state(self, state):
        tried = 0
        for m in MESSAGES:
            for body in bodies(m):
                c = STATES[state]()
                tried += 1
                try:
                    if state == "nothing said":
                        c.sock.sendall(struct.pack(">IB", len(body) + 6, 4) + bytes([m]) + body + bytes(4))
                    else:
                        c.send(bytes([m]) + body)
                except (Closed, OSError):
                    pass
                if state == "nothing said":
                    c.close()
                    continue
                if (m, body) == (5, ssh_string("ssh-connection")) or m == 1:
                    c.close()
                    continue
                self.shut(c, state, "message %d, body %r" % (m, body[:40]))
        return tried

    def test_00_the_ladder_leads_up(self):
        """So that what is refused below is refused for its order."""
        c = log_in()
        c.send(b"\x5a" + ssh_string("session") + struct.pack(">III", 0, 1 << 20, 32768))
        self.assertEqual(c.recv()[0], OPEN_OK)
        c.close()


def state_test(state):
    def test(self):
        self.assertGreater(self.run_state(state), 50)
    return test


for _n, _state in enumerate(STATES):
    setattr(States, "test_%02d_%s" % (_n + 1, _state.replace(" ", "_")), state_test(_state))


# ------------------------------------------------------------------------------------------ after the login
class Chan:
    """One channel of a raw client; windows are opened by the test alone."""

    def __init__(self, c, num=0, window=1 << 20, packet=32768, kind="session", rest=b""):
        self.c, self.num = c, num
        c.send(b"\x5a" + ssh_string(kind) + struct.pack(">III", num, window, packet) + rest)
        got = c.recv()
        self.ok = got[0] == OPEN_OK
        if self.ok:
            self.peer, self.window, self.packet = struct.unpack(">III", got[5:17])

    def request(self, name, rest=b"", reply=True):
        self.c.send(b"\x62" + struct.pack(">I", self.peer) + ssh_string(name) + bytes([reply]) + rest)

    def adjust(self, n):
        self.c.send(b"\x5d" + struct.pack(">II", self.peer, n))

    def close(self):
        self.c.send(b"\x61" + struct.pack(">I", self.peer))


class Games(unittest.TestCase):
    def setUp(self):
        self.parents = sp.pids("ingress")[0]
        wait_for(lambda: not children(), 60, "the end of earlier connections")
        self.c = log_in()
        self.addCleanup(self.c.close)
        self.pid = wait_for(children, 20, "the connection's process").pop()

    def tearDown(self):
        self.c.close()
        wait_for(lambda: not children(), 60, "the end of the connection")
        self.assertEqual(sp.pids("ingress")[0], self.parents, "a child of the front died by a signal")
        again = log_in()
        self.assertIn(b"oscar", self.whoami(again))
        again.close()

    def output(self, ch, adjust=0, until=CLOSE):
        """Bytes of stdout until CLOSE; gives `adjust` more window for each packet."""
        out, n = b"", 0
        while True:
            got = self.c.recv() if ch.c is self.c else ch.c.recv()
            if got[0] == DATA:
                out += got[9:]
                n += 1
                if adjust:
                    ch.adjust(adjust)
            elif got[0] == until:
                return out, n

    def whoami(self, c, num=40, **kw):
        ch = Chan(c, num)
        self.assertTrue(ch.ok)
        ch.request("exec", ssh_string("whoami"))
        return self.output(ch, **kw)[0]

    def test_one_byte_windows(self):
        ch = Chan(self.c, window=1)
        ch.request("exec", ssh_string("whoami"))
        out, packets = self.output(ch, adjust=1)
        self.assertIn(b"oscar", out)
        self.assertEqual(packets, len(out))

    def test_a_window_of_nothing_waits(self):
        ch = Chan(self.c, window=0)
        ch.request("exec", ssh_string("whoami"))
        self.assertEqual(self.c.recv()[0] in (WINDOW, REQ_OK), True)
        self.assertIn(b"oscar", self.whoami(self.c, num=41))       # the other channel does not wait for it
        ch.adjust(1 << 16)
        out, _ = self.output(ch)
        self.assertIn(b"oscar", out)

    def test_windows_beyond_32_bits(self):
        for grants in ([0xffffffff] * 3, [0x80000000] * 4, [1] * 2000):
            ch = Chan(self.c, window=0xffffffff)
            try:
                for g in grants:
                    ch.adjust(g)
                ch.request("exec", ssh_string("whoami"))
                self.assertIn(b"oscar", self.output(ch)[0])
            except Closed:
                self.c.close()
                self.c = log_in()

    def test_packets_of_no_size(self):
        """A maximum packet of 0 or 1 byte: never a loop or a death. (libssh 0.10 obeys none below ten bytes.)"""
        for size in (0, 1, 0xffffffff):
            try:
                ch = Chan(self.c, packet=size)
                if not ch.ok:
                    continue
                ch.request("exec", ssh_string("whoami"))
                if size:
                    self.assertIn(b"oscar", self.output(ch)[0])
                else:
                    ch.close()
            except Closed:
                self.c.close()
                self.c = log_in()
        self.assertIn(b"oscar", self.whoami(self.c))

    def test_data_that_nobody_may_send(self):
        """Beyond the window, after EOF, after CLOSE, on channels that are not there."""
        def beyond(ch):
            for _ in range(ch.window // 32000 + 200):
                self.c.send(bytes([DATA]) + struct.pack(">I", ch.peer) + ssh_string(bytes(32000)))

        def after_eof(ch):
            self.c.send(bytes([EOF]) + struct.pack(">I", ch.peer))
            self.c.send(bytes([DATA]) + struct.pack(">I", ch.peer) + ssh_string("late"))
            self.c.send(bytes([EOF]) + struct.pack(">I", ch.peer))

        def after_close(ch):
            ch.close()
            for m in (DATA, EOF, CLOSE):
                self.c.send(bytes([m]) + struct.pack(">I", ch.peer) + (ssh_string("x") if m == DATA else b""))
            ch.request("exec", ssh_string("id"))

        def not_there(ch):
            for num in (ch.peer + 1, 0xffffffff, 0x80000000):
                for m, rest in ((DATA, ssh_string("x")), (95, struct.pack(">I", 1) + ssh_string("x")), (EOF, b""), (CLOSE, b""),
                                (WINDOW, struct.pack(">I", 5)), (REQUEST, ssh_string("exec") + b"\1" + ssh_string("id")),
                                (REQ_OK, b""), (REQ_FAIL, b""), (OPEN_OK, bytes(12)), (OPEN_FAILED, bytes(12))):
                    self.c.send(bytes([m]) + struct.pack(">I", num) + rest)

        for game in (beyond, after_eof, after_close, not_there):
            with self.subTest(game=game.__name__):
                before = rss_kib(self.pid) if os.path.exists("/proc/%d" % self.pid) else 0
                try:
                    ch = Chan(self.c, num=random.randrange(100, 1 << 30))
                    game(ch)
                    # it hung up, or the connection goes on as if nothing had been said
                    while True:
                        self.c.send(bytes([GLOBAL]) + ssh_string("keepalive@openssh.com") + b"\1")
                        got = self.c.recv()
                        if got[0] in (GLOBAL_FAIL, GLOBAL_OK):
                            break
                    self.assertLess(rss_kib(self.pid) - before, 8192)
                except Closed:
                    pass
                self.c.close()
                wait_for(lambda: not children(), 60, "the end of the connection")
                self.c = log_in()
                self.pid = wait_for(children, 20, "the connection's process").pop()

    def test_a_flood_of_channels(self):
        """A thousand are asked for and none is used: some are given, the rest is refused, and what was open works."""
        good, refused = [], 0
        for i in range(1000):
            ch = Chan(self.c, num=i)
            if ch.ok:
                good.append(ch)
            else:
                refused += 1
        self.assertGreaterEqual(len(good), 10)
        self.assertGreater(refused, 0)
        self.assertLess(rss_kib(self.pid), 64 << 10)
        good[0].request("exec", ssh_string("whoami"))
        self.assertIn(b"oscar", self.output(good[0])[0])
        for ch in good[1:]:
            ch.close()

    def test_a_flood_of_environment(self):
        ch = Chan(self.c)
        for i in range(2000):
            ch.request("env", ssh_string("LC_%d" % i) + ssh_string("x" * 8000), reply=False)
        for name in ("LD_PRELOAD", "BASH_ENV", "PATH", "IFS", "PERL5LIB"):
            ch.request("env", ssh_string(name) + ssh_string("/tmp/x"), reply=True)
            got = self.c.recv()
            while got[0] == WINDOW:
                got = self.c.recv()
            self.assertEqual(got[0], REQ_FAIL, name)
        ch.request("exec", ssh_string("whoami"))
        self.assertIn(b"oscar", self.output(ch)[0])
        self.assertLess(rss_kib(self.pid), 64 << 10)

    def test_answers_that_nobody_reads(self):
        """Requests whose answers are left lying: what they take in the bastion has a bound."""
        ask = bytes([GLOBAL]) + ssh_string("keepalive@openssh.com") + b"\1"
        self.c.sock.settimeout(3)
        before, sent = rss_kib(self.pid), 0
        try:
            for _ in range(200000):
                self.c.send(ask)
                sent += 1
        except (Closed, OSError):
            pass
        self.assertGreater(sent, 1000)
        if os.path.exists("/proc/%d" % self.pid):
            self.assertLess(rss_kib(self.pid) - before, 16 << 10, "after %d requests" % sent)

    def test_requests_that_are_refused(self):
        """Agent, X11, unix sockets, tunnels, unknown ones: refused, and the connection goes on."""
        ch = Chan(self.c)
        for name, rest in (("auth-agent-req@openssh.com", b""), ("x11-req", b"\0" + ssh_string("MIT") + ssh_string("00") + bytes(4)),
                           ("no-such@example.org", b"x" * 100), ("subsystem", ssh_string("no-such")),):
            if name == "subsystem":
                continue
            ch.request(name, rest)
            got = self.c.recv()
            while got[0] == WINDOW:
                got = self.c.recv()
            self.assertEqual(got[0], REQ_FAIL, name)
        for kind, rest in (("x11", ssh_string("127.0.0.1") + bytes(4)), ("auth-agent@openssh.com", b""),
                           ("direct-streamlocal@openssh.com", ssh_string("/run/x") + ssh_string("") + bytes(4)),
                           ("tun@openssh.com", struct.pack(">II", 1, 0)), ("forwarded-tcpip", ssh_string("h") + bytes(4) + ssh_string("h") + bytes(4)),
                           ("", b""), ("sessions", b""), ("s" * 60000, b"")):
            try:
                self.assertFalse(Chan(self.c, num=9, kind=kind, rest=rest).ok, kind[:40])
            except Closed:
                self.c.close()
                self.c = log_in()
        for name, rest in (("streamlocal-forward@openssh.com", ssh_string("/run/x")), ("no-more-sessions@openssh.com.evil", b""),
                           ("hostkeys-prove-00@openssh.com", b""), ("", b"")):
            self.c.send(bytes([GLOBAL]) + ssh_string(name) + b"\1" + rest)
            got = self.c.recv()
            self.assertEqual(got[0], GLOBAL_FAIL, name)
        self.assertIn(b"oscar", self.whoami(self.c))

    def test_targets_by_other_names(self):
        """Only names of targets lead anywhere: no address, however spelled. (libssh cuts at a NUL: what stands before it leads
        where it leads without one, so it is not in this list.)"""
        for host in ("127.0.0.1", "localhost", "::1", "[::1]", "0", "0.0.0.0", "0x7f000001", "2130706433", "017700000001",
                     "::ffff:127.0.0.1", "169.254.169.254", "core-01.", "CORE-01 ", "127.0.0.1\0core-01", "core-02\0core-01", "../core-01", "a" * 300, "",
                     "core-01\n", "xn--core-01", "127.1", "core-01@127.0.0.1", "%s%n"):
            for port in (22, 0, 5432, 65535, 1 << 31):
                try:
                    ch = Chan(self.c, num=3, kind="direct-tcpip", rest=ssh_string(host) + struct.pack(">I", port) +
                              ssh_string("127.0.0.1") + struct.pack(">I", 1))
                    self.assertFalse(ch.ok, (host, port))
                except Closed:
                    self.c.close()
                    self.c = log_in()
        self.assertIn(b"oscar", self.whoami(self.c))


class Packets(unittest.TestCase):
    def setUp(self):
        self.parents = sp.pids("ingress")[0]

    def tearDown(self):
        wait_for(lambda: not children(), 60, "the end of the connections")
        self.assertEqual(sp.pids("ingress")[0], self.parents, "a child of the front died by a signal")
        log_in().close()

    def hangs_up(self, c):
        try:
            while True:
                c.exactly(1)
        except Closed:
            c.close()
        except AttributeError:
            while c.recv(4096):
                pass
            c.close()

    def test_lengths_in_clear(self):
        for n in (0, 1, 4, 5, 7, 0x7fffffff, 0x80000000, 0xffffffff, 1 << 20):
            for pad in (0, 4, 255):
                c = Early("version")
                try:
                    c.sock.sendall(struct.pack(">IB", n, pad) + bytes(64))
                    c.sock.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                self.hangs_up(c)

    def test_lengths_that_are_sealed(self):
        for n in (0, 1, 15, 17, 0x7fffffff, 0x80000000, 0xffffffff, 1 << 20):
            c = Client(sp.port).begin()
            try:
                c.sock.sendall(struct.pack(">I", n) + os.urandom(256))
                c.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            self.hangs_up(c)

    def test_seals_that_are_broken(self):
        for spoil in (0, 4, 5, -1):
            c = Client(sp.port).begin()
            head, packet = struct.pack(">I", 32), bytearray(os.urandom(48))
            if spoil:
                sealed = c.tx[0].encrypt(c.nonce(c.tx), b"\x0f" + b"\x02" + ssh_string("x" * 11) + bytes(15), head)
                packet = bytearray(sealed)
                packet[spoil] ^= 1
            try:
                c.sock.sendall(head + bytes(packet))
                c.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            self.hangs_up(c)

    def test_versions(self):
        for text in (b"SSH-1.5-old\r\n", b"SSH-2.0-" + b"x" * 300 + b"\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 300, b"SSH-2.0-\xff\xfe\x1b[2J\r\n",
                     b"\r\n" * 2000, b"x" * 70000, b"SSH-2.0\r\n", b"SSH-9.9-x\r\n"):
            s = socket.create_connection(("127.0.0.1", sp.port), timeout=60)
            try:
                s.sendall(text)
                s.shutdown(socket.SHUT_WR)
                while s.recv(4096):
                    pass
            except OSError:
                pass
            s.close()

    def test_byte_by_byte(self):
        """The slowest honest client gets in."""
        real = socket.socket.sendall

        class Slow(Client):
            pass

        c = Slow.__new__(Slow)
        sock = socket.create_connection(("127.0.0.1", sp.port), timeout=60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        class Drop:
            def sendall(self, data):
                for i in range(len(data)):
                    real(sock, data[i:i + 1])

            def __getattr__(self, name):
                return getattr(sock, name)

        plain = socket.create_connection
        try:
            socket.create_connection = lambda *a, **k: Drop()
            c.__init__(sp.port)
        finally:
            socket.create_connection = plain
        c.begin()
        self.assertTrue(is_partial(c.key("oscar", private("oscar"))))
        c.close()

    def test_floods_before_the_login(self):
        """IGNORE, DEBUG, UNIMPLEMENTED, EXT_INFO and offers without end: cut, and never much memory."""
        blob = key_blob(sp, "bob")
        floods = {"ignore": b"\x02" + ssh_string("x" * 30000), "debug": b"\x04\0" + ssh_string("x" * 30000) + ssh_string(""),
                  "unimplemented": b"\x03" + bytes(4), "ping": b"\xc0" + ssh_string("x" * 1000),
                  "offers": b"\x32" + ssh_string("alice") + ssh_string("ssh-connection") + ssh_string("publickey") + b"\0" +
                  ssh_string("ssh-ed25519") + ssh_string(blob)}
        for name, packet in floods.items():
            with self.subTest(flood=name):
                wait_for(lambda: not children(), 60, "the end of earlier connections")
                c = Client(sp.port).begin()
                pid = wait_for(children, 20, "its process").pop()
                c.sock.settimeout(3)
                sent, most = 0, 0
                try:
                    while sent < 20000 and sent * len(packet) < 64 << 20:
                        c.send(packet)
                        sent += 1
                        if sent % 100 == 0:
                            most = max(most, rss_kib(pid))
                except (Closed, OSError):
                    pass
                c.close()
                self.assertTrue(sent < 20000 and sent * len(packet) < 64 << 20, "nobody cut it")
                self.assertLess(most, 48 << 10)


if __name__ == "__main__":
    main()
