# SPDX-License-Identifier: Apache-2.0
"""Captured processes: tests/attack/evil_*.c put in the place of the real program of an instance, and led from here."""
import base64
import hashlib
import hmac
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, TOP + "/tests/support")
from sp import wait_for  # noqa: E402

DONE, LATE, GONE, FAILED = range(4)
FIXED = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "i64": 8, "uuid": 16, "h32": 32, "sig": 64}
FRAMES = {"OPEN": 1, "OPEN_OK": 2, "OPEN_FAIL": 3, "DATA": 4, "CREDIT": 5, "EOF": 6, "WINDOW": 7, "SIGNAL": 8, "BREAK": 9,
          "EXIT_STATUS": 10, "EXIT_SIGNAL": 11, "CLOSE": 12, "NOTICE": 13, "END": 14, "HANDOVER": 15, "LISTEN": 16, "LISTEN_OK": 17, "LISTEN_FAIL": 18,
          "UNLISTEN": 19}


def _table():
    with open(TOP + "/common/ipc_messages.h", encoding="utf-8") as f:
        text = f.read().replace("\\\n", " ")
    numbers = dict(re.findall(r"M\((\w+), (0x[0-9a-f]{4}),", text))
    fields = {n: re.findall(r"F\((\w+), (\w+), \d+\)", f) for n, f in re.findall(r"#define SP_FIELDS_(\w+)\(F\)([^\n]*)", text)}
    return {n: (int(numbers[n], 16), fields[n]) for n in numbers}


TABLE = _table()
NAMES = {number: name for name, (number, _) in TABLE.items()}


def counted(data):
    if isinstance(data, str):
        data = data.encode()
    return struct.pack("<I", len(data)) + data


def body(name, **values):
    out = b""
    for kind, field in TABLE[name][1]:
        v = values.pop(field, None)
        if kind in ("str", "bytes"):
            out += counted(v if v is not None else b"")
        elif kind in ("uuid", "h32", "sig"):
            out += v if v is not None else bytes(FIXED[kind])
        else:
            out += (v if v is not None else 0).to_bytes(FIXED[kind], "little")
    assert not values, values
    return out


def fields(name, data):
    out = {}
    for kind, field in TABLE[name][1]:
        n = FIXED.get(kind)
        if n is None:
            n = struct.unpack_from("<I", data)[0]
            data = data[4:]
        out[field] = int.from_bytes(data[:n], "little") if kind[0] in "ui" and kind != "uuid" else data[:n]
        data = data[n:]
    return out


def datagram(name, payload=b"", fds=0, corr=7, length=None):
    number = TABLE[name][0] if isinstance(name, str) else name
    return struct.pack("<HHIQ", number, fds, len(payload) if length is None else length, corr) + payload


def frame(kind, chan, payload=b"", lane=0):
    return struct.pack("<IBBHI", len(payload), FRAMES.get(kind, kind), lane, 0, chan) + payload


def open_payload(kind, command=b"", pty=0):
    return struct.pack("<BBIIII", kind, pty, 80, 24, 0, 0) + counted(b"xterm" if pty else b"") + counted(command) + counted(b"")


def forward_payload(kind, host=b"127.0.0.1", port=80, listen=0):
    return (struct.pack("<BBIIII", kind, 0, 0, 0, 0, 0) + counted(b"") * 3 + counted(host) + struct.pack("<I", port) +
            counted(b"10.0.0.1") + struct.pack("<II", 4711, listen))


def frames(data):
    """Whole frames of a stream: [(name, channel, payload)]."""
    out, names = [], {v: k for k, v in FRAMES.items()}
    while len(data) >= 12:
        n, kind, _, _, chan = struct.unpack_from("<IBBHI", data)
        if len(data) < 12 + n:
            break
        out.append((names.get(kind, kind), chan, data[12:12 + n]))
        data = data[12 + n:]
    return out


def ssh_string(data):
    if isinstance(data, str):
        data = data.encode()
    return struct.pack(">I", len(data)) + data


def totp(secret, step=None):
    if step is None:
        step = int(time.time()) // 30
    mac = hmac.new(base64.b32decode(secret + "=" * (-len(secret) % 8)), struct.pack(">Q", step), hashlib.sha1).digest()
    at = mac[-1] & 15
    return "%06d" % ((struct.unpack_from(">I", mac, at)[0] & 0x7FFFFFFF) % 1000000)


def secret_of(sp, who):
    with open("%s/people/%s/totp.secret" % (sp.dir, who)) as f:
        return f.read().strip()


def key_blob(sp, who):
    with open("%s/people/%s/id_ed25519.pub" % (sp.dir, who)) as f:
        return base64.b64decode(f.read().split()[1])


class Gone(Exception):
    """The puppet was killed, or its connection was cut."""


class Puppet:
    def __init__(self, sock):
        self.sock = sock
        sock.settimeout(30)

    def close(self):
        self.sock.close()

    def _exactly(self, n):
        out = b""
        while len(out) < n:
            try:
                piece = self.sock.recv(n - len(out))
            except (ConnectionError, OSError) as e:
                raise Gone(str(e)) from e
            if not piece:
                raise Gone("closed")
            out += piece
        return out

    def call(self, op, payload=b""):
        try:
            self.sock.sendall(struct.pack("<IB", len(payload), op) + payload)
        except (ConnectionError, OSError) as e:
            raise Gone(str(e)) from e
        n, status = struct.unpack("<IB", self._exactly(5))
        return status, self._exactly(n)

    def raw(self, slot, data, fds=0):
        """GONE also when we are killed for it before we can say that it was sent."""
        try:
            return self.call(1, bytes([slot, fds]) + data)[0]
        except Gone:
            return GONE

    def send(self, slot, name, fds=0, **values):
        return self.raw(slot, datagram(name, body(name, **values), fds), fds)

    def recv(self, slot, ms=5000):
        """(name, fields, slots of descriptors), or LATE or GONE."""
        status, d = self.call(2, bytes([slot]) + struct.pack("<I", ms))
        if status != DONE:
            return status
        slots, d = list(d[1:1 + d[0]]), d[1 + d[0]:]
        name = NAMES[struct.unpack_from("<H", d)[0]]
        return name, fields(name, d[16:]), slots

    def until(self, slot, want, ms=8000):
        """The next message of that name; others are passed over. None if the link ends or nothing comes."""
        end = time.monotonic() + ms / 1000
        while time.monotonic() < end:
            try:
                got = self.recv(slot, max(1, int((end - time.monotonic()) * 1000)))
            except Gone:
                return None
            if got in (LATE, GONE, FAILED):
                return None
            if got[0] == want:
                return got
        return None

    def is_dropped(self, slot, ms=8000):
        """Does the other end hang up, or kill us?"""
        end = time.monotonic() + ms / 1000
        try:
            while time.monotonic() < end:
                got = self.recv(slot, 1000)
                if got == GONE:
                    return True
        except Gone:
            return True
        return False

    def write(self, slot, data):
        status = DONE
        for i in range(0, len(data), 1 << 19):
            status = self.call(3, bytes([slot]) + data[i:i + (1 << 19)])[0]
            if status != DONE:
                break
        return status

    def read(self, slot, ms=5000):
        return self.call(4, bytes([slot]) + struct.pack("<I", ms))

    def read_all(self, slot, seconds=8):
        """What the stream says until it ends."""
        out, end = b"", time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                status, d = self.read(slot, 500)
                if status == DONE:
                    out += d
                elif status == GONE:
                    break
        except Gone:
            pass
        return out

    def syscall(self, number, *args, data=b"", pointers=0):
        a = [x & (1 << 64) - 1 for x in list(args) + [0] * (6 - len(args))]
        status, d = self.call(5, struct.pack("<Q6QB", number, *a, pointers) + data + bytes(64))
        return struct.unpack("<qq", d)

    def flood(self, slot, count, data):
        try:
            return self.call(6, bytes([slot]) + struct.pack("<I", count) + data)[0]
        except Gone:
            return GONE


def build(name):
    top = os.environ.get("SALLYPORT_BUILD", TOP + "/build")
    subprocess.run(["make", "-s", "-C", top, "tests/attack/" + name], check=True, stdout=subprocess.DEVNULL)
    return top + "/tests/attack/" + name


def capture(sp, role):
    """From now on the instance runs our program in the role's place."""
    real = sp.dir + "/opt/libexec/sallyport/sallyport-" + role
    sp.host("stop", check=True, timeout=120)
    os.rename(real, real + ".real")
    shutil.copyfile(build("evil_" + role), real)
    os.chmod(real, 0o755)
    sp.host("start", check=True, timeout=120)


def release(sp, role):
    real = sp.dir + "/opt/libexec/sallyport/sallyport-" + role
    sp.host("stop", check=True, timeout=120)
    os.rename(real + ".real", real)
    sp.host("start", check=True, timeout=120)


class Ingress(Puppet):
    """A connection to a captured ingress; slot 2 is its link to the broker."""

    def __init__(self, sp):
        self.sp = sp
        super().__init__(socket.create_connection(("127.0.0.1", sp.port), timeout=20))

    def key(self, who, login=None, signed=1, blob=None):
        self.send(2, "auth_key", login=login or who, algo="ssh-ed25519", blob=blob or key_blob(self.sp, who), is_signed=signed)
        got = self.until(2, "auth_key_result")
        return None if got is None else got[1]["ok"]

    def begin(self, who, login=None):
        """Key and question of the second factor."""
        assert self.key(who, login) == 1
        self.send(2, "mfa_begin", login=login or who)
        got = self.until(2, "dialog")
        assert got is not None and got[1]["kind"] == 2, got
        return got

    def answer(self, text, dialog=0):
        self.send(2, "dialog_answer", dialog=dialog, text=text)
        got = self.until(2, "dialog")
        return None if got is None else got[1]["kind"]

    def login(self, who, login=None):
        """Both factors, as an honest ingress would: the victim's own code."""
        self.sp.fresh_code(who)
        self.begin(who, login)
        kind = self.answer(totp(secret_of(self.sp, who)))
        assert kind == 4, kind
        return self

    def chan(self, ctx, chan, kind=2, command=b"", pty=0):
        self.send(2, "chan_open", ctx=ctx, chan=chan, open=open_payload(kind, command, pty))
        while True:
            got = self.recv(2, 10000)
            if got in (LATE, GONE, FAILED):
                return None
            if got[0] in ("chan_stream", "chan_refused"):
                return got


class Hands:
    """Where children of a captured egress come to be led."""

    def __init__(self, sp):
        self.path = sp.dir + "/opt/libexec/sallyport/evil.sock"
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(self.path)
        os.chmod(self.path, 0o777)
        self.sock.listen(64)
        self.sock.settimeout(30)

    def next(self):
        return Egress(self.sock.accept()[0])

    def close(self):
        self.sock.close()
        os.unlink(self.path)


class Egress(Puppet):
    TCP, REC, BROKER, VAULT, AGENT = range(5)

    def _counted(self, d):
        out = []
        while d:
            n = struct.unpack_from("<I", d)[0]
            out.append(d[4:4 + n])
            d = d[4 + n:]
        return out

    def session(self):
        return self._counted(self.call(16)[1])[0]

    def kex(self):
        status, d = self.call(17)
        assert status == DONE, status
        self.account, self.sid, self.host_key, self.host_sig, self.ssh_id = self._counted(d)

    def login(self):
        status, d = self.call(18)
        self.sid = self._counted(d)[0]
        return status == DONE

    def prove(self, key=None, sig=None):
        self.send(self.VAULT, "host_proof", host_key=key or self.host_key, signature=sig or self.host_sig)
        got = self.until(self.VAULT, "host_proof_r", 4000)
        return got is not None and got[1]["ok"] == 1

    def agent(self, payload):
        """One request of the ssh-agent protocol: its answer's type and body; None if it hung up."""
        if self.write(self.AGENT, ssh_string(payload)) != DONE:
            return None
        data = b""
        while len(data) < 4 or len(data) < 4 + struct.unpack_from(">I", data)[0]:
            status, d = self.read(self.AGENT, 4000)
            if status != DONE:
                return None
            data += d
        return data[4], data[5:]

    def identity(self):
        got = self.agent(b"\x0b")
        if got is None or got[0] != 12 or struct.unpack_from(">I", got[1])[0] < 1:
            return None
        n = struct.unpack_from(">I", got[1], 4)[0]
        return got[1][8:8 + n]

    def sign(self, blob, user=None, sid=None, service="ssh-connection", data=None):
        if data is None:
            n = struct.unpack_from(">I", blob)[0]
            data = (ssh_string(sid or self.ssh_id) + b"\x32" + ssh_string(user or self.account) + ssh_string(service) +
                    ssh_string("publickey") + b"\x01" + ssh_string(blob[4:4 + n]) + ssh_string(blob))
        got = self.agent(b"\x0d" + ssh_string(blob) + ssh_string(data) + struct.pack(">I", 0))
        return got is not None and got[0] == 14


def event_of(sp, event, connection=None, session=None, seconds=15, **detail):
    """Waits for an audit event whose detail has these values (substrings)."""
    def look():
        for e in sp.audit(event):
            d = e["detail"] or {}
            if session is not None and e["session"] != session:
                continue
            if all(str(v) in str(d.get(k, "")) for k, v in detail.items()):
                return e
        return None
    return wait_for(look, seconds, "event %s %s" % (event, detail))
