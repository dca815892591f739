# SPDX-License-Identifier: Apache-2.0
"""Where the front listens and for whom it takes a connection: several addresses, sockets of systemd, the PROXY protocol."""
import fcntl
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from puppet import TOP, secret_of, totp  # noqa: E402
from rawssh import SUCCESS, Client, Closed, is_partial  # noqa: E402
sys.path.insert(0, TOP + "/tests/support")
from sp import Instance, free_port, main, wait_for  # noqa: E402

POLICY = """
network branch 192.0.2.0/24
permit "branch" who group operators on tag core as admin when source in branch require mfa totp for 1h
"""
V2 = b"\r\n\r\n\0\r\nQUIT\n"
PROXY_AT = "127.0.0.5"


def setUpModule():
    global sp
    sp = Instance(policy=POLICY)
    sp.add_person("oscar", "operators")


def tearDownModule():
    sp.close()


def restart(**settings):
    sp.host("stop", check=True)
    sp.configure(**settings)
    sp.host("start", check=True)


dialled = set()


def dial(first=b"", source=PROXY_AT, port=None, address="127.0.0.1"):
    """From a port that nobody here used before: events are told apart by it."""
    while True:
        s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        s.settimeout(60)
        s.bind((source or ("::" if ":" in address else "0.0.0.0"), 0))
        if s.getsockname()[1] not in dialled:
            break
        s.close()
    dialled.add(s.getsockname()[1])
    s.connect((address, port or sp.port))
    s.sendall(first)
    return s


def v1(address, port=20000):
    return b"PROXY TCP%d %s %s %d 22\r\n" % (6 if ":" in address else 4, address.encode(), b"::1" if ":" in address else b"10.0.0.1", port)


def v2(address, port=20000, more=b"", command=0x21):
    six = ":" in address
    f = socket.AF_INET6 if six else socket.AF_INET
    at = socket.inet_pton(f, address) * 2 + struct.pack(">HH", port, 22) + more
    return V2 + bytes([command, 0x21 if six else 0x11]) + struct.pack(">H", len(at)) + at


def all_of(sock):
    out = b""
    try:
        while True:
            piece = sock.recv(4096)
            if not piece:
                return out
            out += piece
    except OSError:
        return out
    finally:
        sock.close()


def log_in(sock, who="oscar"):
    c = Client(dial=sock).begin()
    assert is_partial(c.key(who, "%s/people/%s/id_ed25519" % (sp.dir, who)))
    assert c.request(who, "keyboard-interactive", bytes(8))[0] == 60
    sp.fresh_code(who)
    assert c.code(totp(secret_of(sp, who)))[0] == SUCCESS
    return c


def log_of(port):
    return wait_for(lambda: [e for e in sp.audit() if (e["detail"] or {}).get("port") == port], 30, "events of port %d" % port)


class Proxy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        restart(proxy_peers="%s/32 ::1" % PROXY_AT, max_per_source="3", listen="127.0.0.1:%d [::1]:%d" % (sp.port, sp.port))

    def refused(self, sock, why):
        port = sock.getsockname()[1]
        self.assertNotIn(b"SSH-", all_of(sock))
        self.assertEqual([e["detail"]["why"] for e in log_of(port)], [why])

    def test_the_address_in_the_header_counts(self):
        for n, (header, address) in enumerate(((v1("192.0.2.7", 20001), "192.0.2.7"), (v2("192.0.2.8", 20002), "192.0.2.8"),
                                               (v1("2001:db8::7", 20003), "2001:db8::7"), (v2("2001:db8::8", 20004), "2001:db8::8"),
                                               (v2("::ffff:192.0.2.9", 20005, b"\x04\0\2\0\0"), "192.0.2.9"))):
            with self.subTest(address=address):
                c = log_in(dial(header))
                events = log_of(20001 + n)
                c.close()
                self.assertEqual({e["detail"]["addr"] for e in events}, {address})
                self.assertEqual({e["detail"]["proxy"] for e in events}, {PROXY_AT})
                self.assertTrue({"login_key", "login_ok"} <= {e["event"] for e in events}, events)

    def test_policy_sees_it(self):
        """The rule is for a network that no packet here comes from."""
        def may(who_from):
            name = "oscar+admin+core-01"
            c = Client(dial=dial(v2(who_from))).begin()
            self.assertTrue(is_partial(c.key(name, sp.dir + "/people/oscar/id_ed25519")))
            self.assertEqual(c.request(name, "keyboard-interactive", bytes(8))[0], 60)
            sp.fresh_code("oscar")
            self.assertEqual(c.code(totp(secret_of(sp, "oscar")))[0], SUCCESS)
            c.send(b"\x5a" + b"\0\0\0\x07session" + struct.pack(">III", 0, 1 << 20, 32768))
            confirmed = c.recv()
            self.assertEqual(confirmed[0], 91)
            c.send(b"\x62" + confirmed[5:9] + b"\0\0\0\x04exec\x01" + b"\0\0\0\x07echo in")
            got = b""
            while b"exit-status" not in got:
                got += c.recv()
            c.close()
            return b"in\n" in got
        self.assertTrue(may("192.0.2.77"))
        self.assertFalse(may("198.51.100.77"))

    def test_caps_are_per_client(self):
        held = [Client(dial=dial(v2("192.0.2.10"))) for _ in range(3)]
        others = [Client(dial=dial(v2("192.0.2.%d" % n))) for n in range(20, 24)]
        def one_more():
            try:
                c = Client(dial=dial(v2("192.0.2.10")))
                c.begin()
                return c.request("oscar", "none") and None      # it was let in
            except Closed:
                return True
        self.assertTrue(one_more())
        for c in held + others:
            c.close()
        wait_for(lambda: not one_more(), 30, "room for that client")
        self.assertIn("over max_per_source", "".join(str(e) for e in sp.audit("connections_refused")) + sp.log())

    def test_headers_that_are_none(self):
        for header in (b"SSH-2.0-OpenSSH_9.2\r\n", b"PROXY TCP4 192.0.2.7\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 99999 1\r\n", V2 + b"\x33\x11\0\0",
                       v2("192.0.2.7", more=b"\x01\xff\xff"), b"\0" * 64, b"GET / HTTP/1.0\r\n\r\n"):
            with self.subTest(header=header[:30]):
                self.refused(dial(header), "no PROXY header, or a broken one")
        for header in (b"PROXY TCP4 " + b"1" * 200 + b"\r\n", V2 + b"\x21\x11\xff\xff" + bytes(4000)):
            self.refused(dial(header), "PROXY header too long")
        self.refused(dial(V2 + b"\x21\x00\0\0"), "PROXY header without an address of TCP")
        s = dial(v1("192.0.2.7")[:20])
        s.shutdown(socket.SHUT_WR)
        self.refused(s, "the connection ended within the PROXY header")

    def test_late(self):
        held = [dial(), dial(b"PROXY TCP4 192.0.2.7"), dial(V2)]
        for s in held:
            self.refused(s, "no PROXY header in time")

    def test_in_pieces(self):
        for header in (v1("192.0.2.50"), v2("192.0.2.51")):
            s = dial()
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for i in range(len(header)):
                s.sendall(header[i:i + 1])
            Client(dial=s).close()

    def test_a_health_check(self):
        for header in (b"PROXY UNKNOWN\r\n", V2 + b"\x20\0\0\0"):
            s = dial(header + b"SSH-2.0-x\r\n")
            self.assertEqual(all_of(s), b"SSH-2.0-Sallyport\r\n")

    def test_from_others(self):
        for header in (v1("192.0.2.7"), v2("192.0.2.7"), V2[:12] + b"\x20\0\0\0"):
            for slowly in (False, True):
                s = dial(b"" if slowly else header, source="127.0.0.1")
                if slowly:
                    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    for i in range(13):     # that many it takes to know
                        s.sendall(header[i:i + 1])
                port = s.getsockname()[1]
                out = all_of(s)
                self.assertNotIn(b"curve25519", out)
                why = {e["detail"]["why"] for e in log_of(port)}
                self.assertEqual(why, {"PROXY header of a peer that is not in proxy_peers"})
        c = log_in(dial(source="127.0.0.1"))       # and without one they are served
        port = c.sock.getsockname()[1]
        self.assertNotIn("proxy", log_of(port)[0]["detail"])
        c.close()

    def test_a_version_line_that_is_none(self):
        for first in (b"SSH-2.0-" + b"x" * 300 + b"\r\n", b"HELO there\r\n", b"SSX-2.0-x\r\n", b"\r\nSSH-2.0-x\r\n", b"\x16\x03\x01\x02\x00\x01"):
            s = dial(first, source="127.0.0.1")
            s.settimeout(60)
            self.assertNotIn(b"curve25519", all_of(s), first)

    def test_both_families(self):
        s = dial(v2("192.0.2.60"), source=None, address="::1")     # a proxy that is listed by its IPv6 address
        Client(dial=s).close()
        restart(proxy_peers="")
        try:
            for address in ("127.0.0.1", "::1"):
                c = log_in(dial(source=None, address=address))
                port = c.sock.getsockname()[1]
                self.assertEqual({e["detail"]["addr"] for e in log_of(port)}, {address})
                c.close()
        finally:
            self.__class__.setUpClass()

    def test_what_is_no_network(self):
        sp.host("stop", check=True)
        try:
            sp.configure(proxy_peers="10.0.0.1/8")
            r = sp.host("start")
            self.assertNotEqual(r.code, 0)
            self.assertIn("proxy_peers: 10.0.0.1/8 is no address or network", r.text)
        finally:
            sp.configure(proxy_peers=PROXY_AT + " ::1")
            sp.host("start", check=True)


ACTIVATOR = """
import os, sys
fds, argv = [int(x) for x in sys.argv[1].split(",")], sys.argv[2:]
for i, fd in enumerate(fds):
    os.dup2(fd, 3 + i)
    os.set_inheritable(3 + i, True)
for fd in fds:
    if fd >= 100:
        os.close(fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)))
os.execv(argv[0], argv)
"""


class Activation(unittest.TestCase):
    """systemd's side is played by systemd-socket-activate: it listens, and starts the bastion at the first connection. Where it
    is not installed, by a few lines of Python."""

    def activate(self, addresses, argv, log):
        env = sp.env()
        if shutil.which("systemd-socket-activate"):
            tool = ["systemd-socket-activate"]
            for name in ("SALLYPORT_LIBEXEC", "SALLYPORT_SQLDIR", "SALLYPORT_PAMDIR"):
                tool += ["-E", "%s=%s" % (name, env[name])]
            for at in addresses:
                tool += ["-l", at]
            return subprocess.Popen(tool + argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        socks = []
        for at in addresses:
            host, port = at.rsplit(":", 1)
            s = socket.socket(socket.AF_INET6 if "[" in host else socket.AF_INET)
            s.bind((host.strip("[]"), int(port)))
            s.listen(64)
            # Above those that it takes for itself.
            socks.append(fcntl.fcntl(s, fcntl.F_DUPFD, 100))
            s.close()
        p = subprocess.Popen([sys.executable, "-c", ACTIVATOR, ",".join(map(str, socks))] + argv, env=env, pass_fds=socks,
                             stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        for fd in socks:
            os.close(fd)
        return p

    def test_sockets_of_systemd(self):
        sp.host("stop", check=True)
        sp.configure(proxy_peers="", listen="127.0.0.1:1")     # a port that it would not get
        ports = [free_port(), free_port()]
        with open(sp.dir + "/activate.log", "wb") as log:
            p = self.activate(["127.0.0.1:%d" % ports[0], "[::1]:%d" % ports[1]],
                              [sp.dir + "/opt/bin/sallyport", "-D", sp.dir, "start", "--foreground"], log)
        sp.started.append(p)
        try:
            def up():
                self.assertIsNone(p.poll(), open(sp.dir + "/activate.log").read())
                try:
                    with socket.create_connection(("127.0.0.1", ports[0]), timeout=60):
                        return sp.host("status").code == 0
                except OSError:
                    return False
            wait_for(up, 60, "the bastion")
            for address, port in (("127.0.0.1", ports[0]), ("::1", ports[1])):
                c = log_in(dial(source=None, address=address, port=port))
                c.close()
            self.assertEqual(os.readlink("/proc/%d/exe" % p.pid).rsplit("/", 1)[1], "sallyportd")
            # The sockets are the supervisor's alone.
            inodes = {os.readlink("/proc/%d/fd/%s" % (p.pid, fd)) for fd in os.listdir("/proc/%d/fd" % p.pid)}
            with open("/proc/net/tcp") as f:
                mine = re.search(r":%04X 00000000:0000 0A .*? 0 +(\d+) 1 " % ports[0], f.read()).group(1)
            self.assertIn("socket:[%s]" % mine, inodes)
            holders = set()
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    if any(os.readlink("/proc/%s/fd/%s" % (pid, fd)) == "socket:[%s]" % mine for fd in os.listdir("/proc/%s/fd" % pid)):
                        holders.add(int(pid))
                except OSError:
                    pass
            self.assertEqual(holders, {p.pid})
            os.kill(p.pid, signal.SIGTERM)
            self.assertEqual(p.wait(60), 0)
        finally:
            if p.poll() is None:
                p.kill()
                p.wait()
            sp.configure(listen="127.0.0.1:%d" % sp.port)
            sp.host("start", check=True)

    def test_descriptors_that_are_no_listening_sockets(self):
        sp.host("stop", check=True)
        a, b = socket.socketpair()
        try:
            r = subprocess.run([sys.executable, "-c", ACTIVATOR, str(a.fileno()), sp.dir + "/opt/sbin/sallyportd", sp.dir, "--foreground"], env=sp.env(),
                               pass_fds=[a.fileno()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, text=True)
            self.assertNotEqual(r.returncode, 0)
            self.assertIn("descriptor 3 is no listening TCP socket", r.stdout)
        finally:
            a.close()
            b.close()
            sp.host("start", check=True)


if __name__ == "__main__":
    main()
