#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A second reader of recordings, written from doc/recording-format.md alone: verifies, and decodes what given identities open.
    reader.py verify FILE AUDITKEY [HEAD]
    reader.py decode FILE IDENTITY:PASSPHRASE ...
It shares no code with the product: python3-nacl, python3-cryptography, python3-zstandard."""
import hashlib
import heapq
import json
import struct
import sys
from base64 import b64encode

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, SealedBox
from nacl.pwhash import argon2id
from nacl.secret import SecretBox
from nacl.signing import VerifyKey

OPEN, DATA, CHECKPOINT, CLOSE, RECOVERED, HASHES = 1, 2, 3, 4, 5, 6
ZSTD, BEHIND, KEYFRAME, WITH_OUT, COLUMNS = 1, 2, 4, 8, 16
GAP = 131072
LINE, LINES = 41, 46


class Verdict(Exception):
    """What a verifier says, and where."""


def sha256(*parts):
    h = hashlib.sha256()
    for p in parts:
        h.update(p)
    return h.digest()


def signed(key, text, signature):
    try:
        VerifyKey(key).verify(text, signature)
        return True
    except CryptoError:
        return False


class Header:
    def __init__(self, data):
        if len(data) >= 8 and data[:8] != b"SPREC1\r\n":
            raise Verdict("unknown")
        if len(data) < 16:
            raise Verdict("cut")
        self.version, suite, zero, self.length = struct.unpack_from("<BBHI", data, 8)
        if not 1 <= self.version <= 4 or suite != 1 or zero != 0 or not 217 <= self.length <= 61060:
            raise Verdict("unknown")
        if len(data) < self.length:
            raise Verdict("cut")
        try:
            self.parse(data[:self.length])
        except (struct.error, IndexError, AssertionError):
            raise Verdict("unknown")
        self.hash = sha256(data[:self.length])

    def parse(self, d):
        self.session, self.t0, boot, self.key, lanes, n, zero = struct.unpack_from("<16sQQ32sBBH", d, 16)
        assert zero == 0 and 1 <= n <= 32 and self.t0 <= 1 << 53 and boot <= 1 << 53
        self.recipients = [d[84 + 32 * i:116 + 32 * i] for i in range(n)]
        self.lanes, at, last = {}, 84 + 32 * n, 0
        assert at <= len(d) and (1 <= lanes <= 16 if self.version >= 3 else lanes == 3)
        for i in range(lanes):
            lane, at = d[at], at + 1
            if self.version >= 3:
                k, m, at = d[at], d[at + 1], at + 2
                assert last < lane <= 16 and 1 <= k <= m <= n
            else:
                k, m = 1, n
                assert lane == i + 1
            boxes, who, size = {}, -1, 116 if k > 1 else 97
            for j in range(m):
                if self.version >= 3:
                    assert who < d[at] < n
                    who, at = d[at], at + 1
                else:
                    who = j
                boxes[who] = d[at:at + size]
                assert len(boxes[who]) == size
                at += size
            self.lanes[lane], last = (k, boxes), lane
        assert at == len(d)

    def lane_key(self, lane, identities):
        """The lane's key, or None if these people cannot open it."""
        k, boxes = self.lanes[lane]
        shares = {}
        for sk in identities:
            for i, box in boxes.items():
                if bytes(sk.public_key) != self.recipients[i]:
                    continue
                text = SealedBox(sk).decrypt(box)
                assert text[32:49] == self.session + bytes([lane])
                if k == 1:
                    return text[:32]
                assert text[65:67] == bytes([k, len(boxes)])
                shares[text[67]] = text[:32]
        if len(shares) < k:
            return None
        return join(dict(list(shares.items())[:k]))


def gf_mul(a, b):
    r = 0
    while b:
        r ^= a if b & 1 else 0
        a = a << 1 ^ (0x11b if a & 0x80 else 0)
        b >>= 1
    return r


def join(shares):
    """The value at 0 of the polynomial through (index, y), for each byte."""
    out = bytearray(32)
    for i, y in shares.items():
        weight = 1
        for j in shares:
            if j != i:
                inverse = next(x for x in range(1, 256) if gf_mul(x, i ^ j) == 1)
                weight = gf_mul(weight, gf_mul(j, inverse))
        for b in range(32):
            out[b] ^= gf_mul(weight, y[b])
    return bytes(out)


class Chunk:
    def __init__(self, head):
        self.head = head
        self.len, self.type, self.lane, self.flags, self.segment, self.seq, self.at = struct.unpack("<IBBHIQQ", head)


class Place:
    def __init__(self, h):
        self.at, self.prev, self.seq, self.segment, self.time, self.packed = h.length, h.hash, 0, 0, 0, None


def chunk_at(data, h, p, at, is_ended):
    """The chunk that follows p, standing at `at`; None at the end of the file."""
    short = Verdict("forged" if is_ended() else "cut")
    if at >= len(data):
        return None
    if len(data) - at < 60:
        raise short
    c = Chunk(data[at:at + 28])
    seq = c.seq == p.seq if h.version < 4 else c.seq >= p.seq
    if c.len > 589824 or not seq or not p.segment <= c.segment <= p.segment + 16 or not p.time <= c.at <= 1 << 53:
        raise Verdict("forged")
    late = c.type == DATA and c.flags & BEHIND
    if (late and (h.version == 1 or c.len < 48)) or (c.type == DATA and c.lane not in h.lanes):
        raise Verdict("forged")
    if len(data) - at - 60 < c.len:
        raise short
    c.body, c.prev, c.chain, c.end = data[at + 60:at + 60 + c.len], p.prev, data[at + 28:at + 60], at + 60 + c.len
    if sha256(p.prev, c.head, c.body[-48:] if late else c.body) != c.chain:
        raise Verdict("forged")
    return c


def in_the_tail(data, h, p, is_ended, here):
    """What follows where no chunk stands at p.at: behind the gap, or nothing; else the verdict is `here`."""
    there = None
    try:
        c = chunk_at(data, h, p, p.at + GAP, is_ended)
        if c:
            return c
    except Verdict as v:
        there = v
    if p.packed is not None and p.at <= p.packed <= p.at + GAP and not any(data[p.at:p.packed]) and any(data[p.packed:p.packed + 28]):
        return None
    if not any(data[p.at:p.at + GAP]):
        raise there or Verdict("forged" if is_ended() else "cut")
    raise here


def walk(data, h, is_ended=lambda: False):
    """Chunks whose place, numbers and chain are right."""
    p, is_tail = Place(h), False
    while True:
        try:
            c = chunk_at(data, h, p, p.at, is_ended)
        except Verdict as v:
            if h.version < 4 or is_tail:
                raise
            c = in_the_tail(data, h, p, is_ended, v)
            is_tail = True
        if c is None:
            return
        yield c
        p.at, p.prev, p.seq, p.segment, p.time = c.end, c.chain, c.seq + 1, c.segment, c.at
        p.packed = struct.unpack_from("<Q", c.body, 24)[0] if c.type == CHECKPOINT and c.len > 88 else None


def judge_ours(c, h, size):
    """A checkpoint's or an end's own signature; the fields."""
    text = c.body[:-64]
    if len(c.body) < 64 or not signed(h.key, b"sallyport chunk v1\0" + c.prev + c.head + text, c.body[-64:]) or len(text) < 24:
        raise Verdict("forged")
    if size == 24:
        n = len(text) - 32
        ok = n == -8 or (h.version >= 4 and n >= 0 and n % 16 == 0 and n <= 16 * 16)
    else:
        ok = len(text) >= 29 and struct.unpack_from("<I", text, 25)[0] == len(text) - 29 <= 512
    if not ok:
        raise Verdict("forged")


def judge_open(c, h, audit_key):
    if len(c.body) != 160:
        raise Verdict("forged")
    if c.body[:32] != audit_key:
        raise Verdict("unknown")
    cert = b"sallyport recording v1\0" + h.session + h.key + h.hash + struct.pack("<Q", h.t0)
    if not signed(h.key, b"sallyport chunk v1\0" + c.prev + c.head + c.body[:96], c.body[96:]) or \
            not signed(audit_key, cert, c.body[32:96]):
        raise Verdict("forged")


def judge_recovered(c, h, audit_key, before):
    if len(c.body) != 72 or c.at != before or not signed(
            audit_key, b"sallyport recovered v1\0" + h.session + c.prev + struct.pack("<Q", c.seq) + c.body[:8], c.body[8:]):
        raise Verdict("forged")


def judge_hashes(c, waiting):
    n = len(c.body) // 40
    if not 1 <= n <= 1024 or len(c.body) != 40 * n or n > len(waiting) or \
            c.body != b"".join(struct.pack("<Q", seq) + sha for seq, sha in waiting[:n]):
        raise Verdict("forged")
    del waiting[:n]


def verify(data, audit_key, known=None):
    try:
        return judge(data, Header(data), audit_key, known)
    except Verdict as v:
        return str(v)


def judge(data, h, audit_key, known):
    waiting, end, before, n, seen = [], None, 0, 0, known is None
    for c in walk(data, h, lambda: end is not None):
        clear = c.type != DATA and 1 <= c.type <= (6 if h.version > 1 else 5)
        if end or (c.seq == 0) != (c.type == OPEN) or (clear and (c.lane or c.flags)):
            raise Verdict("forged")
        if c.type == OPEN:
            judge_open(c, h, audit_key)
        elif c.type == DATA:
            if c.flags & ~(31 if h.version > 3 else 7 if h.version > 2 else 3) or c.len < 16 or \
                    (c.flags & WITH_OUT and not (c.lane == 5 and c.flags & ZSTD)):
                raise Verdict("forged")
            if c.flags & BEHIND:
                waiting.append((c.seq, sha256(c.body)))
                if len(waiting) > 8192:
                    raise Verdict("forged")
        elif c.type in (CHECKPOINT, CLOSE):
            judge_ours(c, h, 24 if c.type == CHECKPOINT else 29)
            seen = seen or (c.type == CHECKPOINT and (known or b"")[:16] in [c.body[i:i + 16] for i in range(32, len(c.body) - 64, 16)])
        elif c.type == RECOVERED:
            judge_recovered(c, h, audit_key, before)
        elif clear:
            judge_hashes(c, waiting)
        if c.type in (CLOSE, RECOVERED):
            end = c.type
            if waiting:
                raise Verdict("forged")
        before, n, seen = c.at, n + 1, seen or c.chain == known
    if n == 0 or (not seen and end != CLOSE):
        return "cut"
    if not seen:
        return "forged"
    return {CLOSE: "intact", RECOVERED: "recovered", None: "open"}[end]


def derive(label, state, lane, segment):
    return hashlib.blake2b(label + b"\0" + struct.pack("<BI", lane, segment), key=state, digest_size=32).digest()


class Lane:
    def __init__(self, number, key):
        self.number, self.state, self.segment, self.unpack = number, key, 0, None

    def go_to(self, segment):
        while self.segment < segment:
            self.state = derive(b"sallyport lane next v1", self.state, self.number, self.segment)
            self.segment, self.unpack = self.segment + 1, None

    def text(self, c, stream):
        self.go_to(c.segment)
        body = c.body
        if c.flags & BEHIND:
            assert body[-32:] == derive(b"sallyport lane commit v1", self.state, self.number, c.segment)
            body = body[:-32]
        nonce = bytes([self.number]) + struct.pack("<I", c.segment)[:3] + struct.pack("<Q", c.seq)
        key = derive(b"sallyport lane key v1", self.state, self.number, c.segment)
        text = AESGCM(key).decrypt(nonce, body, c.head + c.prev)
        if c.flags & ZSTD:
            stream.go_to(c.segment)
            if stream.unpack is None:
                stream.unpack = zstandard.ZstdDecompressor().decompressobj()
            text = stream.unpack.decompress(text)
        assert len(text) <= 524288
        return text


def varint(text, at):
    value, shift = 0, 0
    while True:
        value |= (text[at] & 0x7f) << shift
        if text[at] < 0x80:
            assert text[at] or not shift
            return value, at + 1
        at, shift = at + 1, shift + 7


def of_columns(text, c):
    n, at = varint(text, 0)
    us = [int.from_bytes(text[at + i:at + 4 * n:n], "big") for i in range(n)]
    kinds, at, rows, base = text[at + 4 * n:at + 5 * n], at + 5 * n, [], c.at
    for _ in range(2 * n):
        v, at = varint(text, at)
        rows.append(v)
    assert sum(rows[n:]) == len(text) - at
    for i in range(n):
        base += us[i]
        yield base, c.lane, kinds[i], rows[i], text[at:at + rows[n + i]]
        at += rows[n + i]


def of_chunk(c, lane, stream, in_deltas):
    text, at, base = lane.text(c, stream), 0, c.at
    if c.flags & COLUMNS:
        yield from of_columns(text, c)
        return
    while at < len(text):
        us, at = varint(text, at)
        kind, at = text[at], at + 1
        channel, at = varint(text, at)
        n, at = varint(text, at)
        assert at + n <= len(text)
        yield base + us, c.lane, kind, channel, text[at:at + n]
        base, at = base + us if in_deltas else base, at + n


def put_varint(v):
    return bytes([v]) if v < 128 else bytes([v & 0x7f | 0x80]) + put_varint(v >> 7)


def in_lines(r):
    """The LINE records that a LINES record stands for."""
    if r[1] != 5 or r[2] != LINES:
        return [r]
    n, at = varint(r[4], 0)
    agos, rows = [], []
    for i in range(2 * n):
        v, at = varint(r[4], at)
        (agos if i < n else rows).append(v)
    texts = r[4][at:].split(b"\r\n")
    assert len(texts) == n
    return [(*r[:2], LINE, r[3], put_varint(agos[0] - sum(agos[1:i + 1])) + put_varint(rows[i]) + texts[i]) for i in range(n)]


def batches(data, h):
    """Chunks that were written at once."""
    batch = []
    for c in walk(data, h):
        if batch and (h.version < 4 or c.type != DATA or (c.at, c.segment) != (batch[0].at, batch[0].segment)):
            yield batch
            batch = []
        if c.type == DATA:
            batch.append(c)
    yield batch


def records(data, identities):
    """(us, lane, kind, channel, bytes) of what these identities open, in the order of their times in each batch."""
    h = Header(data)
    lanes = {}
    for number in h.lanes:
        key = h.lane_key(number, identities)
        if key:
            lanes[number] = Lane(number, key)
    for batch in batches(data, h):
        parts = [list(of_chunk(c, lanes[c.lane], lanes[1] if c.flags & WITH_OUT else lanes[c.lane], h.version >= 4))
                 for c in batch if c.lane in lanes]
        for r in heapq.merge(*parts, key=lambda r: r[0]):
            yield from in_lines(r)


def identity(path, passphrase):
    lines = dict(x.split(" ", 1) for x in open(path).read().split("\n")[1:] if x)
    ops, mem, salt = lines["argon2id"].split(" ")
    key = argon2id.kdf(32, passphrase.encode(), bytes.fromhex(salt), int(ops), int(mem))
    return PrivateKey(SecretBox(key).decrypt(bytes.fromhex(lines["secret"])))


def main(argv):
    data = open(argv[2], "rb").read()
    if argv[1] == "verify":
        print(verify(data, bytes.fromhex(argv[3]), bytes.fromhex(argv[4]) if len(argv) > 4 else None))
        return 0
    try:
        for us, lane, kind, channel, body in records(data, [identity(*a.split(":", 1)) for a in argv[3:]]):
            print(json.dumps({"us": us, "lane": lane, "kind": kind, "channel": channel, "data": b64encode(body).decode()}))
    except (Verdict, InvalidTag, AssertionError, IndexError, CryptoError) as e:
        print("ends early: %r" % e, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
