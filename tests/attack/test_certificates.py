# SPDX-License-Identifier: Apache-2.0
"""OpenSSH's sshd judges the vault's certificates: the good ones, and every way in which one can be bent. A raw client offers
them, for ssh itself would not even load most of these."""
import base64
import os
import pwd
import random
import shutil
import struct
import subprocess
import sys
import unittest
import uuid

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from cryptography.hazmat.primitives import serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: E402
from puppet import ssh_string  # noqa: E402
from rawssh import FAILURE, PK_OK, SUCCESS, Client, Closed, take  # noqa: E402
from sp import TOP, free_port, main, scratch, wait_for  # noqa: E402

BUILD = os.environ.get("SALLYPORT_BUILD", TOP + "/build")
CERT = "ssh-ed25519-cert-v01@openssh.com"
USER = pwd.getpwuid(os.geteuid()).pw_name
SHELL, EXEC, FORWARD = 1, 2, 32
# In the order in which they stand (PROTOCOL.certkeys); s: string, q: u64, i: u32.
FIELDS = (("type", "s"), ("nonce", "s"), ("pk", "s"), ("serial", "q"), ("role", "i"), ("key_id", "s"), ("principals", "s"),
          ("after", "q"), ("before", "q"), ("critical", "s"), ("extensions", "s"), ("reserved", "s"), ("ca", "s"))


def raw_public(key):
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


class Mint:
    """tests/support/cert_mint"""

    def __init__(self):
        self.proc = subprocess.Popen([BUILD + "/tests/support/cert_mint"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.line = self.proc.stdout.readline().decode().strip()
        self.key = Ed25519PrivateKey.generate()
        self.session = str(uuid.uuid4())

    def ask(self, *words):
        self.proc.stdin.write((" ".join(str(w) for w in words) + "\n").encode())
        self.proc.stdin.flush()
        answer = self.proc.stdout.readline().decode().strip()
        if answer.startswith("refused"):
            raise ValueError(answer)
        return base64.b64decode(answer)

    def cert(self, account=USER, target="core-01", source="-", rights=SHELL | EXEC, now=0, left=60, serial=7, session=None):
        return self.ask("mint", raw_public(self.key).hex(), account, target, source, rights, now, left, serial,
                        session or self.session)

    def sign(self, body):
        return self.ask("sign", base64.b64encode(body).decode())

    def krl(self, serials=(), ids=(), ca=None):
        return self.ask("krl", ",".join(map(str, serials)) or "-", ",".join(ids) or "-",
                        base64.b64encode(ca).decode() if ca else "-")

    def bend(self, cert, **change):
        """The same certificate with other fields, signed by the same CA."""
        fields, _ = parse(cert)
        fields.update(change)
        return self.sign(body_of(fields))

    def close(self):
        self.proc.stdin.close()
        self.proc.wait()
        self.proc.stdout.close()


def parse(cert):
    fields, rest = {}, cert
    for name, kind in FIELDS:
        if kind == "s":
            fields[name], rest = take(rest)
        else:
            n = 8 if kind == "q" else 4
            fields[name], rest = struct.unpack(">" + kind.upper(), rest[:n])[0], rest[n:]
    return fields, rest


def body_of(fields):
    return b"".join(ssh_string(fields[n]) if k == "s" else struct.pack(">" + k.upper(), fields[n]) for n, k in FIELDS)


def setUpModule():
    global mint, sshd
    mint = Mint()
    sshd = Sshd()


def tearDownModule():
    sshd.close()
    mint.close()


class Sshd:
    def __init__(self):
        self.dir = scratch("sp-judge-")
        self.port = free_port()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.dir + "/host"], check=True)
        self.write("ca.pub", mint.line.encode() + b"\n")
        self.write("principals", ("%s@core-01\n" % USER).encode())
        self.write("krl", mint.krl())
        self.write("config", ("""ListenAddress 127.0.0.1:%d
HostKey D/host
TrustedUserCAKeys D/ca.pub
AuthorizedPrincipalsFile D/principals
RevokedKeys D/krl
AuthorizedKeysFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PidFile none
PermitRootLogin yes
MaxStartups 1000
LogLevel VERBOSE
""" % self.port).replace("D/", self.dir + "/").encode())
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        self.proc = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", self.dir + "/config", "-E", self.dir + "/log"],
                                     stdin=subprocess.DEVNULL)
        wait_for(lambda: "listening on" in self.log(), 60, "sshd")

    def write(self, name, data):
        with open(self.dir + "/" + name + ".new", "wb") as f:
            f.write(data)
        os.rename(self.dir + "/" + name + ".new", self.dir + "/" + name)

    def log(self):
        try:
            with open(self.dir + "/log", errors="replace") as f:
                return f.read()
        except OSError:
            return ""

    def close(self):
        self.proc.kill()
        self.proc.wait()
        shutil.rmtree(self.dir)


def login(cert, key=None, algo=CERT):
    """The client after the answer to its signature, and the answer; None: the offer was not even taken."""
    c = Client(sshd.port).begin()
    head = b"\x01" + ssh_string(algo) + ssh_string(cert)
    answer = c.offer(USER, cert, algo)
    if answer[0] != PK_OK:
        return c, None
    signed = ssh_string(c.id) + b"\x32" + ssh_string(USER) + ssh_string("ssh-connection") + ssh_string("publickey") + head
    signature = (key or mint.key).sign(signed)
    return c, c.request(USER, "publickey", head + ssh_string(ssh_string("ssh-ed25519") + ssh_string(signature)))


def gets_in(cert, **k):
    try:
        c, answer = login(cert, **k)
    except (Closed, OSError, EOFError):
        return False
    c.close()
    assert answer is None or answer[0] in (SUCCESS, FAILURE)
    return answer is not None and answer[0] == SUCCESS


def runs(cert, command):
    """What the command says at the target."""
    c, answer = login(cert)
    assert answer[0] == SUCCESS
    c.send(b"\x5a" + ssh_string("session") + struct.pack(">III", 0, 1 << 20, 32768))
    assert c.recv()[0] in (80, 91)
    c.send(b"\x62" + struct.pack(">I", 0) + ssh_string("exec") + b"\0" + ssh_string(command))
    said = b""
    while True:
        p = c.recv()
        if p[0] == 94:
            said += take(p[5:])[0]
        elif p[0] == 97:
            c.close()
            return said


class Judge(unittest.TestCase):
    def test_the_good_one(self):
        before = sshd.log().count("Accepted publickey")
        self.assertTrue(gets_in(mint.cert()))
        log = sshd.log()
        self.assertEqual(log.count("Accepted publickey"), before + 1)
        # The target's own log names the session and the serial.
        self.assertIn("ID %s (serial 7)" % mint.session, log)
        self.assertEqual(runs(mint.cert(), "echo it-is-$((40+2))"), b"it-is-42\n")
        # It is what a bent one is made of: taken apart and put together it is the same.
        fields, _ = parse(mint.cert())
        self.assertTrue(gets_in(mint.bend(mint.cert())))
        self.assertEqual(fields["principals"], ssh_string("%s@core-01" % USER))
        self.assertLessEqual(fields["before"] - fields["after"], 90)

    def refused(self, cert, why, log=None, **k):
        seen = len(sshd.log())
        self.assertFalse(gets_in(cert, **k), why)
        if log:
            wait_for(lambda: log in sshd.log()[seen:], 30, "%s: %r in the log: %s" % (why, log, sshd.log()[seen:]))

    def test_time(self):
        self.refused(mint.cert(now=-600), "expired", "expired")
        self.refused(mint.cert(now=600), "early", "not yet valid")
        # To the second: what ends now is over, and what was cut to the grant's end is no longer than that.
        fields, _ = parse(mint.cert())
        self.refused(mint.bend(mint.cert(), before=fields["after"] + 20), "over ten seconds ago", "expired")
        self.refused(mint.bend(mint.cert(), after=fields["before"], before=fields["after"]), "ends before it begins")

    def test_principal(self):
        self.refused(mint.cert(target="core-02"), "another target's", "principal")
        self.refused(mint.cert(account="nobody-else"), "another account's", "principal")
        for text in ("", "*", USER, USER + "@*", "@core-01", USER + "@core-01 ", USER + "@core-01,x", USER.upper() + "@CORE-01"):
            self.refused(mint.bend(mint.cert(), principals=ssh_string(text)), repr(text))
        self.refused(mint.bend(mint.cert(), principals=b""), "no principal at all", "principal")
        # The minter makes none of these.
        for account, target in (("a,b", "t"), ("*", "t"), ("a", "t,u"), ("A", "t"), ("a@b", "t"), ("a", "*")):
            self.assertRaises(ValueError, mint.cert, account=account, target=target)

    def test_source(self):
        self.assertTrue(gets_in(mint.cert(source="127.0.0.1")))
        self.refused(mint.cert(source="192.0.2.1"), "another source", "source address")
        self.refused(mint.cert(source="::1"), "another family")

    def test_another_authority(self):
        other = Mint()
        other.key = mint.key
        self.refused(other.cert(), "another CA", "CA")
        # Its body under our CA's name, its signature kept.
        fields, signature = parse(other.cert())
        fields["ca"] = parse(mint.cert())[0]["ca"]
        self.refused(body_of(fields) + signature, "another CA's signature under our CA's name")
        # The user's own key as its own authority.
        fields["ca"] = ssh_string("ssh-ed25519") + ssh_string(raw_public(mint.key))
        self.refused(body_of(fields) + ssh_string(ssh_string("ssh-ed25519") + ssh_string(mint.key.sign(body_of(fields)))), "self-made")
        other.close()

    def test_another_role(self):
        self.refused(mint.bend(mint.cert(), role=2), "a host's certificate", "not a user certificate")
        for role in (0, 3, 0xffffffff):
            self.refused(mint.bend(mint.cert(), role=role), "role %d" % role)

    def test_another_key(self):
        thief = Ed25519PrivateKey.generate()
        self.refused(mint.cert(), "the certificate without its key", key=thief)
        self.refused(mint.bend(mint.cert(), pk=raw_public(thief)), "the key of another", key=mint.key)
        self.refused(mint.cert(), "as a plain key", algo="ssh-ed25519")

    def test_critical_options(self):
        forced = ssh_string("force-command") + ssh_string(ssh_string("echo forced"))
        self.assertEqual(runs(mint.bend(mint.cert(), critical=forced), "echo free"), b"forced\n")
        self.refused(mint.bend(mint.cert(), critical=ssh_string("no-such-option") + ssh_string("")), "an unknown critical option")
        broken = ssh_string("source-address") + ssh_string(ssh_string("127.0.0.1/99"))
        self.refused(mint.bend(mint.cert(), critical=broken), "a broken source-address")

    def test_what_the_channel_rights_do_not_give(self):
        def has_pty(rights):
            c, answer = login(mint.cert(rights=rights))
            self.assertEqual(answer[0], SUCCESS)
            c.send(b"\x5a" + ssh_string("session") + struct.pack(">III", 0, 1 << 20, 32768))
            while c.recv()[0] != 91:
                pass
            c.send(b"\x62" + struct.pack(">I", 0) + ssh_string("pty-req") + b"\1" + ssh_string("xterm") +
                   struct.pack(">IIII", 80, 24, 0, 0) + ssh_string(b"\0"))
            answer = c.recv()
            c.close()
            return answer[0] == 99

        def forwards(rights):
            c, answer = login(mint.cert(rights=rights))
            self.assertEqual(answer[0], SUCCESS)
            c.send(b"\x5a" + ssh_string("direct-tcpip") + struct.pack(">III", 0, 1 << 20, 32768) + ssh_string("127.0.0.1") +
                   struct.pack(">I", sshd.port) + ssh_string("127.0.0.1") + struct.pack(">I", 1))
            while True:
                answer = c.recv()
                if answer[0] in (91, 92):
                    c.close()
                    return answer[0] == 91
        self.assertTrue(has_pty(SHELL))
        self.assertFalse(has_pty(FORWARD))
        self.assertTrue(forwards(FORWARD))
        self.assertFalse(forwards(SHELL | EXEC))

    def test_altered_bytes(self):
        """One byte in every field, in the lengths, and in the signature: all of it is signed."""
        cert = mint.cert()
        fields, signature = parse(cert)
        places, at = [], 0
        for name, kind in FIELDS:
            n = 4 + len(fields[name]) if kind == "s" else 8 if kind == "q" else 4
            places += [at, at + n - 1] if name != "type" else [at + n - 1]
            at += n
        places += [len(cert) - len(signature), len(cert) - 64, len(cert) - 1]
        places += random.sample(range(len(cert)), 12)
        for i in sorted(set(places)):
            bad = bytearray(cert)
            bad[i] ^= 1 << random.randrange(8)
            self.refused(bytes(bad), "byte %d of %s" % (i, cert.hex()))
        for n in (0, 1, 50, len(cert) // 2, len(cert) - 1):
            self.refused(cert[:n], "cut to %d bytes" % n)
        self.refused(cert + b"\0", "one byte more")
        self.refused(cert + cert, "twice")

    def test_revoked(self):
        one, two = mint.cert(serial=1001), mint.cert(serial=1002, session=str(uuid.uuid4()))
        self.assertTrue(gets_in(one) and gets_in(two))
        try:
            sshd.write("krl", mint.krl(serials=[1001]))
            self.refused(one, "by serial", "revoked by file")
            self.assertTrue(gets_in(two))
            sshd.write("krl", mint.krl(serials=range(1000, 1010)))
            self.refused(two, "by a run of serials", "revoked by file")
            sshd.write("krl", mint.krl(ids=[mint.session]))
            self.refused(one, "by session", "revoked by file")
            self.assertTrue(gets_in(two))
            sshd.write("krl", mint.krl(ca=parse(one)[0]["ca"]))
            self.refused(two, "by CA", "revoked")
            # No list is no way in either.
            sshd.write("krl", b"SSHKRL\n")
            self.refused(one, "a broken list")
        finally:
            sshd.write("krl", mint.krl())
        self.assertTrue(gets_in(one))


class List(unittest.TestCase):
    def test_ssh_keygen_agrees(self):
        """Sets of serials and key ids at random: ssh-keygen -Q says of each certificate what the set says."""
        d = scratch("sp-krl-")
        try:
            for turn in range(6):
                self.one_set(d, random.Random(turn))
        finally:
            shutil.rmtree(d)

    def one_set(self, d, rnd):
        edges = [1, 2, 3, 255, 256, 2 ** 32 - 1, 2 ** 32, 2 ** 63, 2 ** 64 - 1]
        low = rnd.randrange(1, 2 ** 40)
        certs = {s: str(uuid.UUID(int=rnd.getrandbits(128))) for s in edges + list(range(low, low + 20))}
        serials = [s for s in certs if rnd.random() < 0.5] + [rnd.randrange(1, 2 ** 64) for _ in range(rnd.choice((0, 5, 500)))]
        ids = [i for i in certs.values() if rnd.random() < 0.2]
        rnd.shuffle(serials)
        with open(d + "/krl", "wb") as f:
            f.write(mint.krl(serials + serials[:3], ids))
        for s, i in certs.items():
            with open("%s/%d-cert.pub" % (d, s), "w") as f:
                f.write("%s %s\n" % (CERT, base64.b64encode(mint.cert(serial=s, session=i)).decode()))
        out = subprocess.run(["ssh-keygen", "-Q", "-f", d + "/krl"] + ["%s/%d-cert.pub" % (d, s) for s in certs],
                             stdout=subprocess.PIPE).stdout.decode()
        for s, i in certs.items():
            line = [x for x in out.split("\n") if x.startswith("%s/%d-cert.pub " % (d, s))][0]
            self.assertEqual("REVOKED" in line, s in serials or i in ids, (line, serials, ids))

    def test_what_cannot_be_on_a_list(self):
        for bad in (dict(serials=[0]), dict(ids=[str(uuid.UUID(int=0))]), dict(ca=b"nonsense"), dict(ca=ssh_string("ssh-dss")),
                    dict(serials=range(1, 4098)), dict(ids=[str(uuid.uuid4()) for _ in range(257)])):
            self.assertRaises(ValueError, mint.krl, **bad)
        mint.krl(serials=range(1, 8193, 2))
        mint.krl(serials=range(1, 4097), ids=[str(uuid.uuid4()) for _ in range(256)])


if __name__ == "__main__":
    main()
