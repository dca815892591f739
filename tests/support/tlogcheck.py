# SPDX-License-Identifier: Apache-2.0
"""A reader of transparency logs, written from the public specifications alone (RFC 6962 and 9162, C2SP tlog-tiles,
signed-note, tlog-checkpoint, tlog-cosignature) and doc/transparency-log.md; nothing of ours is used."""
import base64
import hashlib
import os
import struct

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat  # noqa: F401


class Bad(Exception):
    pass


def sha(b):
    return hashlib.sha256(b).digest()


def leaf_hash(entry):
    return sha(b"\0" + entry)


def root(hashes):
    """MTH of RFC 6962, 2.1, by its definition."""
    if not hashes:
        return sha(b"")
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return sha(b"\1" + root(hashes[:k]) + root(hashes[k:]))


def check_inclusion(proof, index, size, leaf, want):
    fn, sn, r = index, size - 1, leaf
    for p in proof:
        if sn == 0:
            raise Bad("proof too long")
        if fn & 1 or fn == sn:
            r = sha(b"\1" + p + r)
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            r = sha(b"\1" + r + p)
        fn >>= 1
        sn >>= 1
    if sn or r != want:
        raise Bad("not included")


def check_consistency(proof, size1, root1, size2, root2):
    if size1 == size2:
        if proof or root1 != root2:
            raise Bad("not the same")
        return
    if size1 == 0:
        return
    fn, sn, proof = size1 - 1, size2 - 1, list(proof)
    while fn & 1:
        fn >>= 1
        sn >>= 1
    fr = sr = root1 if fn == 0 else proof.pop(0)
    for p in proof:
        if sn == 0:
            raise Bad("proof too long")
        if fn & 1 or fn == sn:
            fr, sr = sha(b"\1" + p + fr), sha(b"\1" + p + sr)
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            sr = sha(b"\1" + sr + p)
        fn >>= 1
        sn >>= 1
    if sn or fr != root1 or sr != root2:
        raise Bad("not consistent")


def key_id(name, alg, key):
    return sha(name.encode() + b"\n" + bytes([alg]) + key)[:4]


class Note:
    def __init__(self, raw):
        text, _, sigs = raw.rpartition(b"\n\n")
        self.text, self.raw = text + b"\n", raw
        self.origin, size, b64 = self.text.decode().split("\n")[:3]
        self.size, self.root = int(size), base64.b64decode(b64, validate=True)
        self.sigs = []
        for line in sigs.decode().splitlines():
            dash, name, blob = line.split(" ")
            if dash != "—":
                raise Bad("no signature line")
            self.sigs.append((name, base64.b64decode(blob, validate=True)))

    def check(self, audit_key):
        for name, blob in self.sigs:
            if name == self.origin and blob[:4] == key_id(name, 1, audit_key):
                verify(audit_key, blob[4:], self.text)
                return self
        raise Bad("not signed")

    def cosigned(self, name, key):
        for n, blob in self.sigs:
            if n == name and blob[:4] == key_id(name, 4, key):
                t = struct.unpack(">Q", blob[4:12])[0]
                verify(key, blob[12:], b"cosignature/v1\ntime %d\n" % t + self.text)
                return t
        return None


def verify(key, sig, text):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(sig, text)
    except InvalidSignature:
        raise Bad("wrong signature") from None


def number(n):
    parts = ["%03d" % (n % 1000)]
    while n >= 1000:
        n //= 1000
        parts.insert(0, "x%03d" % (n % 1000))
    return "/".join(parts)


def read(directory, level, n, width):
    path = "%s/tile/%s/%s" % (directory, level, number(n))
    if width < 256 and not os.path.exists(path):
        path += ".p/%d" % width
    with open(path, "rb") as f:
        return f.read()


class Log:
    """Everything below a directory, checked: each tile of each level, each entry, the root, the signature."""

    def __init__(self, directory, audit_key):
        self.dir = directory
        with open(directory + "/checkpoint", "rb") as f:
            self.note = Note(f.read()).check(audit_key)
        self.entries, self.hashes, size = [], [], self.note.size
        for n in range((size + 255) // 256):
            width = min(256, size - n * 256)
            data, at = read(directory, "entries", n, width), 0
            tile = read(directory, "0", n, width)
            for i in range(width):
                length = struct.unpack(">H", data[at:at + 2])[0]
                entry = data[at + 2:at + 2 + length]
                at += 2 + length
                if leaf_hash(entry) != tile[i * 32:i * 32 + 32]:
                    raise Bad("entry %d is not the leaf" % (n * 256 + i))
                self.entries.append(entry)
                self.hashes.append(leaf_hash(entry))
        level, below = 0, self.hashes
        while len(below) >= 256:
            level, below = level + 1, [root(below[i:i + 256]) for i in range(0, len(below) // 256 * 256, 256)]
            for n in range((len(below) + 255) // 256):
                width = min(256, len(below) - n * 256)
                if read(directory, str(level), n, width)[:width * 32] != b"".join(below[n * 256:n * 256 + width]):
                    raise Bad("tile %d of level %d" % (n, level))
        if root(self.hashes) != self.note.root:
            raise Bad("another root")

    def leaves(self):
        """(type, time, fields) of each, by doc/transparency-log.md."""
        for e in self.entries:
            version, kind, zero, at = struct.unpack("<BBHq", e[:12])
            if version != 1 or zero != 0:
                raise Bad("a leaf of another version")
            b = e[12:]
            if kind == 1:
                yield "open", at, dict(session=b[:16], rec_key=b[16:48], header=b[48:80],
                                       opened=struct.unpack("<q", b[80:88])[0], certificate=b[88:152])
            elif kind in (2, 3, 4):
                yield ("checkpoint", "close", "recovered")[kind - 2], at, dict(
                    session=b[:16], prev=b[16:48], head=b[48:76], body=b[76:], chain=sha(b[16:]))
            elif kind == 5:
                n = struct.unpack("<I", b[:4])[0]
                yield "audit", at, dict(node=b[4:4 + n].decode(), seq=struct.unpack("<Q", b[4 + n:12 + n])[0], hash=b[12 + n:44 + n])
            elif kind == 6:
                n = struct.unpack("<I", b[49:53])[0]
                m = struct.unpack("<I", b[53 + n:57 + n])[0]
                yield "act", at, dict(act=b[0], session=b[1:17], object=b[17:49], actor=b[53:53 + n].decode(),
                                      detail=b[57 + n:57 + n + m].decode())
            else:
                raise Bad("a leaf of another type")

    def check_signatures(self, audit_key):
        keys = {}
        for kind, _, f in self.leaves():
            if kind == "open":
                verify(audit_key, f["certificate"], b"sallyport recording v1\0" + f["session"] + f["rec_key"] + f["header"] +
                       struct.pack("<q", f["opened"]))
                keys[f["session"]] = f["rec_key"]
            elif kind in ("checkpoint", "close"):
                verify(keys[f["session"]], f["body"][-64:], b"sallyport chunk v1\0" + f["prev"] + f["head"] + f["body"][:-64])
            elif kind == "recovered":
                at, seq = struct.unpack("<q", f["body"][:8])[0], struct.unpack("<Q", f["head"][12:20])[0]
                verify(audit_key, f["body"][8:72], b"sallyport recovered v1\0" + f["session"] + f["prev"] + struct.pack("<Qq", seq, at))


class Witness:
    """tlog-witness, as far as its signature: believes no tree that does not continue the one it knows."""

    def __init__(self, name):
        self.name, self.secret = name, Ed25519PrivateKey.generate()
        self.key = self.secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def vkey(self):
        return "%s+%s+%s" % (self.name, key_id(self.name, 4, self.key).hex(), base64.b64encode(b"\4" + self.key).decode())
