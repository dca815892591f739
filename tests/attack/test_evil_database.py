# SPDX-License-Identifier: Apache-2.0
"""Databases that lie. Each has the pinned certificate, as a captured server would, and says what no honest one does: to get a password,
to be believed without a proof, to have a file of the client's, to break the process that reads it. Nothing of a credential may leave but
what is asked for in the right way, the client hears why, and no process dies."""
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
import unittest

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, TESTS + "/support")
from database import Forward, certificate, pin  # noqa: E402
from sp import Instance, main, wait_for  # noqa: E402

POLICY = """
network loopback 127.0.0.0/8, ::1
permit "dba" who group dba on tag db as liar allow sql when source in loopback require mfa totp for 1h
"""


# By the egress, or by the broker, which the vault has told.
NO_PROOF = "the vault gave no (proof|answer)|The vault refused"


class Liar(threading.Thread):
    """Accepts and has `script` talk. What was heard within TLS is kept."""

    def __init__(self, key, crt):
        super().__init__(daemon=True)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(crt, key)
        self.s = socket.create_server(("127.0.0.1", 0))
        self.port, self.script, self.heard, self.done = self.s.getsockname()[1], None, b"", threading.Event()
        self.start()

    def run(self):
        while True:
            c, _ = self.s.accept()
            c.settimeout(60)
            try:
                self.script(self, c)
                while self.hear(c):         # until the bastion hangs up
                    pass
            except (OSError, EOFError):
                pass
            c.close()
            self.done.set()

    def hear(self, c):
        got = c.recv(65536)
        if isinstance(c, ssl.SSLSocket):
            self.heard += got
        return got

    def read(self, c, n):
        got = b""
        while len(got) < n:
            piece = c.recv(n - len(got))
            if not piece:
                raise EOFError
            got += piece
        if isinstance(c, ssl.SSLSocket):
            self.heard += got
        return got

    def secure(self, c):
        return self.tls.wrap_socket(c, server_side=True, do_handshake_on_connect=True)

    # ---- PostgreSQL
    def pg(self, c):
        self.read(c, 8)
        c.sendall(b"S")
        c = self.secure(c)
        n, = struct.unpack(">I", self.read(c, 4))
        self.read(c, n - 4)
        return c

    def pg_msg(self, c):
        t, n = struct.unpack(">cI", self.read(c, 5))
        return t, self.read(c, n - 4)

    # ---- MariaDB
    def my_packet(self, c):
        n = self.read(c, 4)
        return n[3], self.read(c, n[0] | n[1] << 8 | n[2] << 16)

    def my(self, c, hello=None):
        c.sendall(packet(0, hello or GREETING))
        self.my_packet(c)
        c = self.secure(c)
        self.my_packet(c)
        return c


def setUpModule():
    global sp, pg, my
    sp = Instance(policy=POLICY)
    sp.add_person("dora", "dba")
    sp.fresh_code("dora")
    assert sp.ssh("dora", "bastion", "whoami").code == 0
    top = os.path.dirname(sp.dir)
    key, crt = certificate(top, "liar")
    pg, my = Liar(key, crt), Liar(key, crt)
    for liar, protocol, kind in ((pg, "postgresql", "postgresql"), (my, "mariadb", "mariadb")):
        sp.host("target", "add", "lie-" + protocol, "--protocol", protocol, "--addr", "127.0.0.1:%d" % liar.port, "--tag", "db",
                "--tls-pin", pin(crt), check=True)
        sp.host("account", "add", "liar@lie-" + protocol, "--kind", kind, "--generate", check=True)


def tearDownModule():
    sp.close()


class Case(unittest.TestCase):
    def knock(self, liar, script, client):
        liar.script, liar.heard = script, b""
        liar.done.clear()
        f = Forward(sp, "dora", "lie-%s:1" % self.protocol)
        self.addCleanup(f.close)
        r = client(f)
        self.assertTrue(liar.done.wait(60))
        wait_for(lambda: not sp.pids("egress-sql")[1], 60, "the end of its process")
        return r

    def tearDown(self):
        self.assertNotIn("child of sallyport-egress-sql died", sp.log())


# ------------------------------------------------------------------------------------- PostgreSQL
def m(t, body=b""):
    return t + struct.pack(">I", len(body) + 4) + body


def auth(what, body=b""):
    return m(b"R", struct.pack(">I", what) + body)


def says(*said):
    """After TLS and the StartupMessage, all of it at once."""
    def script(liar, c):
        c = liar.pg(c)
        c.sendall(b"".join(said))
        while liar.hear(c):
            pass
    return script


SASL = auth(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")


def challenged(answer):
    """Up to the client's first words; answer(their nonce) is said then, and what it says to the proof after it."""
    def script(liar, c):
        c = liar.pg(c)
        c.sendall(SASL)
        nonce = re.search(rb"r=([^,]+)", liar.pg_msg(c)[1]).group(1)
        c.sendall(answer(nonce))
        liar.heard = b""
        while liar.hear(c):
            pass
    return script


def no_tls(liar, c):
    liar.read(c, 8)
    c.sendall(b"N")


def stuffed(liar, c):
    """Words of a server before TLS, which would count as said within it."""
    liar.read(c, 8)
    c.sendall(b"S" + auth(0) + m(b"Z", b"I"))


class PostgreSQL(Case):
    protocol = "postgresql"

    def lies(self, script, why, proof=False):
        code, out, err = self.knock(pg, script, lambda f: f.psql("-c", "SELECT 1"))
        self.assertEqual((code, out), (2, ""), err)
        self.assertRegex(err, why)
        # A proof is the only thing of a credential that ever leaves: "p", with ",p=" in it.
        self.assertEqual(b",p=" in pg.heard, proof, pg.heard)

    def test_without_tls(self):
        self.lies(no_tls, "speaks no TLS")
        self.lies(stuffed, "no TLS connection")

    def test_asks_for_the_password(self):
        for what, body in ((3, b""), (5, b"salt")):
            self.lies(says(auth(what, body)), "asks for the password itself")
        for what in (2, 6, 7, 9, 77):
            self.lies(says(auth(what)), "a login of another kind")

    def test_lets_in_without_a_proof(self):
        self.lies(says(auth(0), m(b"Z", b"I")), "without a proof")
        self.lies(says(m(b"S", b"server_version\x0015\0")), "without a login")
        self.lies(says(m(b"Z", b"I")), "without a login")
        self.lies(challenged(lambda n: auth(0) + m(b"Z", b"I")), "without a proof")

    def test_mechanisms(self):
        self.lies(says(auth(10, b"PLAIN\0OAUTHBEARER\0\0")), "knows no SCRAM-SHA-256")
        self.lies(says(auth(10, b"SCRAM-SHA-256\0\0")), "no channel binding")
        self.lies(says(auth(10, b"SCRAM-SHA-256-PLUS")), "is broken")
        self.lies(says(SASL + SASL), "asks twice")

    def test_challenges(self):
        for text in (b"r=%s,s=c2FsdA==,i=4096",                         # nothing of its own in the nonce
                     b"r=%saaaaaaaaaaaaaaaaaa,s=c2FsdA==,i=4096",       # another salt
                     b"r=%saaaaaaaaaaaaaaaaaa,s=c2FsdA==,i=2147483647",
                     b"r=%saaaaaaaaaaaaaaaaaa,s=,i=1",
                     b"m=x,r=%saaaaaaaaaaaaaaaaaa,s=c2FsdA==,i=4096",
                     b"r=%saaaaaaaaaaaaaaaaaa,s=c2FsdA==,i=4096,x=y",
                     b"e=%s", b"%s"):
            self.lies(challenged(lambda n, t=text: auth(11, t % n)), NO_PROOF)
        self.lies(challenged(lambda n: auth(11, b"r=foreign-nonce-of-somebody-else,s=c2FsdA==,i=4096")), NO_PROOF)
        self.lies(challenged(lambda n: auth(11, b"r=" + n + b"a" * 5000)), "out of turn")
        self.lies(challenged(lambda n: auth(12, b"v=AAAA")), "could not prove")

    def test_what_breaks_a_reader(self):
        for said in (b"R\x7f\xff\xff\xff", b"R\xff\xff\xff\xff", b"R\0\0\0\3", b"\0\0\0\0\0", b"HTTP/1.1 400 Bad Request\r\n\r\n"):
            self.lies(says(said), "does not speak PostgreSQL")
        self.lies(says(m(b"D", b"\0\0")), "does not belong into a login")
        self.lies(says(m(b"N", b"SNOTICE\0\0") * 600), "does not end")
        self.lies(says(auth(10)), "SCRAM")

    def test_an_error_is_shown_as_text(self):
        code, out, err = self.knock(pg, says(m(b"E", b"SFATAL\0VFATAL\0C28000\0Mno\x1b]0;title\x07 entry\0\0")),
                                    lambda f: f.psql("-c", "SELECT 1"))
        self.assertEqual(code, 2)
        why = [e["detail"]["why"] for e in sp.audit("target_login_failed")][-1]
        self.assertNotIn("\x1b", why)
        self.assertIn("entry", why)


# ---------------------------------------------------------------------------------------- MariaDB
def packet(seq, body):
    return struct.pack("<I", len(body))[:3] + bytes([seq]) + body


def greeting(caps=0x81bffffe, version=b"5.5.5-10.11.19-MariaDB", protocol=10, end=b""):
    return (bytes([protocol]) + version + b"\0" + struct.pack("<I", 7) + b"12345678\0" +
            struct.pack("<HBHHB", caps & 0xffff, 45, 2, caps >> 16, 21) + b"\0" * 6 + struct.pack("<I", 0) +
            b"123456789012\0mysql_native_password\0" + end)


GREETING = greeting()
OK = b"\0\0\0\2\0\0\0"
SECRET = b"the-content-of-a-file-of-the-client"


def greets(raw):
    def script(liar, c):
        c.sendall(raw)
    return script


def then(*said):
    """After TLS and the client's name: packets, each with the next number."""
    def script(liar, c):
        c = liar.my(c)
        liar.heard = b""
        for i, body in enumerate(said):
            c.sendall(packet(3 + 2 * i, body))
        while liar.hear(c):
            pass
    return script


class MariaDB(Case):
    protocol = "mariadb"

    def client(self, *args):
        return lambda f: subprocess.run(["mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", str(f.port), "-u", "whoever", "--batch",
                                         *(args or ["-e", "SELECT 1"])], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, timeout=120)

    def lies(self, script, why, answer=0):
        r = self.knock(my, script, self.client())
        self.assertEqual((r.returncode, r.stdout), (1, b""), r)
        self.assertRegex(r.stderr.decode(), why)
        # An answer of the vault is 64 or 20 bytes in a packet; nothing else may have been said.
        self.assertEqual(len(my.heard), answer, my.heard)

    def test_greetings(self):
        for raw, why in ((packet(0, greeting(protocol=9)), "speaks no TLS"), (packet(0, greeting(caps=0x81bff7fe)), "speaks no TLS"),
                         (packet(0, greeting(caps=0x81b7fffe)), "speaks no TLS"), (packet(1, GREETING), "no TLS connection"),
                         (packet(0, GREETING) + packet(1, OK), "no TLS connection"), (packet(0, GREETING[:20]), "no TLS connection"),
                         (packet(0, greeting(version=b"v" * 300)), "no TLS connection"), (b"\xff\xff\xff\0" + GREETING, "no TLS connection"),
                         (b"\0\0\0\0", "no TLS connection"), (packet(0, b"\xff\x10\x04Too many connections"), "speaks no TLS")):
            r = self.knock(my, greets(raw), self.client())
            self.assertEqual(r.returncode, 1, r)
            self.assertIn(why.encode(), r.stderr)

    def test_asks_for_the_password(self):
        for plugin in (b"mysql_clear_password\0", b"dialog\0\2Password:", b"caching_sha2_password\0" + b"n" * 20 + b"\0",
                       b"sha256_password\0" + b"n" * 20 + b"\0", b"auth_gssapi_client\0", b"mysql_old_password\0nnnnnnnn\0"):
            self.lies(then(b"\xfe" + plugin), "would want the password itself")
        self.lies(then(b"\xfe"), "unknown way to log in")               # the way of before 4.1
        self.lies(then(b"\xfe" + b"x" * 40), "unknown way to log in")
        # Ours, but not the account's; and with a nonce that is none. The vault ends the lease, and with it the session; a client of
        # MariaDB cannot be told why at any moment.
        for said in (b"mysql_native_password\0" + b"n" * 20 + b"\0", b"client_ed25519\0" + b"n" * 16):
            before = len(sp.audit("session_close"))
            self.lies(then(b"\xfe" + said), NO_PROOF + "|Lost connection")
            wait_for(lambda: len(sp.audit("session_close")) > before, 60, "its end")
        self.assertIn("sql_mechanism_refused", [e["event"] for e in sp.audit()])
        self.lies(then(b"\xfeclient_ed25519\0" + b"n" * 2000), "unknown way to log in")

    def test_lets_in_without_a_proof(self):
        self.lies(then(OK), "without a proof")

    def test_asks_twice(self):
        self.lies(then(b"\xfeclient_ed25519\0" + b"n" * 32, b"\xfeclient_ed25519\0" + b"m" * 32), "does not belong into a login", 68)

    def test_what_breaks_a_reader(self):
        for said in (b"\xfb/etc/passwd", b"\1" * 300, b"\x09"):
            self.lies(then(said), "does not belong into a login")
        self.lies(then(b"\xfe" + b"x" * 66000), "login at the database failed")

    def test_wants_a_file_of_the_client(self):
        """The server may ask for any file after any statement; a client that was told --local-infile sends it."""
        path = os.path.dirname(sp.dir) + "/wanted"
        with open(path, "wb") as f:
            f.write(SECRET)

        def script(liar, c):
            c = liar.my(c)
            c.sendall(packet(3, b"\xfeclient_ed25519\0" + b"n" * 32))
            liar.my_packet(c)
            c.sendall(packet(5, OK))
            liar.heard = b""
            while True:
                _, command = liar.my_packet(c)
                c.sendall(packet(1, b"\xfb" + path.encode() if command[:1] == b"\3" else OK))
        r = self.knock(my, script, self.client("--local-infile=1", "-e", "LOAD DATA LOCAL INFILE '%s' INTO TABLE t" % path))
        self.assertEqual(r.returncode, 1, r)
        self.assertNotIn(SECRET, my.heard)
        self.assertIn(b"LOAD DATA", my.heard)
        self.assertIn("LOCAL INFILE", sp.audit("sql_refused")[-1]["detail"]["why"])


if __name__ == "__main__":
    main()
