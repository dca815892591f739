# SPDX-License-Identifier: Apache-2.0
"""A second reader of recordings, of version 5, written from doc/recording-format.md alone: it finds the chunks, opens what given
identities open, and gives the records. It shares no code with the product: python3-nacl, -cryptography, -zstandard. What a
verifier says stands in verdict.py."""
import hashlib
import heapq
import struct

import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.public import SealedBox

DATA, CHECKPOINT = 2, 3
ZSTD, BEHIND, WITH_OUT, COLUMNS = 1, 2, 8, 16
GAP = 131072


class Verdict(Exception):
    """What is wrong, as a verifier says it."""


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


class Header:
    def __init__(self, d):
        if len(d) >= 8 and d[:8] != b"SPREC1\r\n":
            raise Verdict("unknown")
        if len(d) < 16:
            raise Verdict("cut")
        self.version, suite, zero, self.length = struct.unpack_from("<BBHI", d, 8)
        if (self.version, suite, zero) != (5, 1, 0) or not 217 <= self.length <= 61060:
            raise Verdict("unknown")
        if len(d) < self.length:
            raise Verdict("cut")
        self.hash = sha256(d[:self.length])
        try:
            self.parse(d[:self.length])
        except (struct.error, IndexError, AssertionError):
            raise Verdict("unknown")

    def parse(self, d):
        self.session, self.t0, boot, self.key, groups, n, zero = struct.unpack_from("<16sQQ32sBBH", d, 16)
        self.recipients, self.lanes, at, seen = [d[84 + 32 * i:116 + 32 * i] for i in range(n)], {}, 84 + 32 * n, 0
        assert zero == 0 and 1 <= n <= 32 and 1 <= groups <= 16 and self.t0 <= 1 << 53 and boot <= 1 << 53 and at <= len(d)
        last = 0
        for _ in range(groups):
            (mask, k, m), at, boxes, who = struct.unpack_from("<HBB", d, at), at + 4, {}, -1
            assert mask and not mask & seen and mask & -mask > last and 1 <= k <= m <= n
            for _ in range(m):
                assert who < d[at] < n
                who, size = d[at], 98 if k == 1 else 117
                boxes[who], at = struct.unpack_from("%ds" % size, d, at + 1)[0], at + 1 + size
            self.lanes.update({i + 1: (mask, k, boxes) for i in range(16) if mask >> i & 1})
            last, seen = mask & -mask, seen | mask
        assert at == len(d)

    def lane_key(self, lane, identities):
        """The lane's key, or None if these people cannot open it."""
        key = self.group_key(*self.lanes[lane], identities)
        return key and hashlib.blake2b(b"sallyport lane of group v1\0" + bytes([lane]), key=key, digest_size=32).digest()

    def group_key(self, mask, k, boxes, identities):
        shares = {}
        for i, sk in ((i, sk) for sk in identities for i in boxes if bytes(sk.public_key) == self.recipients[i]):
            text = SealedBox(sk).decrypt(boxes[i])
            assert text[32:50] == self.session + struct.pack("<H", mask)
            if k == 1:
                return text[:32]
            assert text[66:68] == bytes([k, len(boxes)])
            shares[text[68]] = text[:32]
        return join(dict(list(shares.items())[:k])) if len(shares) >= k else None


def gf_mul(a, b):
    r = 0
    for bit in range(8):
        r ^= a if b >> bit & 1 else 0
        a = a << 1 ^ (0x11b if a & 0x80 else 0)
    return r


def join(shares):
    """The value at 0 of the polynomial through (index, y), for each byte."""
    out = bytes(32)
    for i, y in shares.items():
        weight = 1
        for j in shares.keys() - {i}:
            weight = gf_mul(weight, gf_mul(j, next(x for x in range(256) if gf_mul(x, i ^ j) == 1)))
        out = bytes(o ^ gf_mul(weight, b) for o, b in zip(out, y))
    return out


class Chunk:
    def __init__(self, head):
        self.head = head
        self.len, self.type, self.lane, self.flags, self.segment, self.seq, self.at = struct.unpack("<IBBHIQQ", head)
        self.is_late = self.type == DATA and self.flags & BEHIND


class Walk:
    """Chunks whose place, numbers and chain are right."""
    def __init__(self, data, h, is_ended=lambda: False):
        self.data, self.h, self.is_ended = data, h, is_ended
        self.at, self.prev, self.seq, self.segment, self.time, self.tail = h.length, h.hash, 0, 0, 0, None

    def short(self):
        return Verdict("forged" if self.is_ended() else "cut")

    def chunk(self, at):
        """The one that stands there; None at the end of the file."""
        if at >= len(self.data):
            return None
        if len(self.data) - at < 60:
            raise self.short()
        c = Chunk(self.data[at:at + 28])
        if c.len > 589824 or c.seq < self.seq or not self.segment <= c.segment <= self.segment + 16 or not self.time <= c.at <= 1 << 53 or \
                (c.is_late and c.len < 48) or (c.type == DATA and c.lane not in self.h.lanes):
            raise Verdict("forged")
        c.prev, c.chain, c.end = self.prev, self.data[at + 28:at + 60], at + 60 + c.len
        c.body = self.data[at + 60:c.end]
        if len(c.body) < c.len:
            raise self.short()
        if sha256(c.prev, c.head, c.body[-48:] if c.is_late else c.body) != c.chain:
            raise Verdict("forged")
        return c

    def in_the_tail(self, here):
        """What follows where no chunk stands at the end of the body: behind the gap, or nothing; else it is damaged."""
        there = self.short()
        try:
            c = self.chunk(self.at + GAP)
            if c:
                return c
        except Verdict as v:
            there = v
        if self.tail is not None and self.at <= self.tail <= self.at + GAP and not any(self.data[self.at:self.tail]) and \
                any(self.data[self.tail:self.tail + 28]):
            return None
        raise here if any(self.data[self.at:self.at + GAP]) else there

    def __iter__(self):
        is_tail = False
        while True:
            try:
                c = self.chunk(self.at)
            except Verdict as v:
                if is_tail:
                    raise
                c, is_tail = self.in_the_tail(v), True
            if c is None:
                return
            yield c
            self.at, self.prev, self.seq, self.segment, self.time = c.end, c.chain, c.seq + 1, c.segment, c.at
            self.tail = struct.unpack_from("<Q", c.body, 24)[0] if c.type == CHECKPOINT and c.len > 88 else None


class Lane:
    def __init__(self, number, key):
        self.number, self.state, self.segment, self.unpack = number, key, 0, None

    def derive(self, label):
        text = label + b"\0" + struct.pack("<BI", self.number, self.segment)
        return hashlib.blake2b(text, key=self.state, digest_size=32).digest()

    def go_to(self, segment):
        while self.segment < segment:
            self.state = self.derive(b"sallyport lane next v1")
            self.segment, self.unpack = self.segment + 1, None

    def text(self, c, stream):
        self.go_to(c.segment)
        stream.go_to(c.segment)
        assert not c.is_late or c.body[-32:] == self.derive(b"sallyport lane commit v1")
        nonce = bytes([self.number]) + struct.pack("<I", c.segment)[:3] + struct.pack("<Q", c.seq)
        text = AESGCM(self.derive(b"sallyport lane key v1")).decrypt(nonce, c.body[:-32] if c.is_late else c.body, c.head + c.prev)
        if c.flags & ZSTD:
            stream.unpack = stream.unpack or zstandard.ZstdDecompressor().decompressobj()
            text = stream.unpack.decompress(text)
        assert len(text) <= 524288
        return text


def varints(text, at, n):
    """n of them, and where they end."""
    values = []
    for _ in range(n):
        value, shift = text[at] & 0x7f, 0
        while text[at] & 0x80:
            at, shift = at + 1, shift + 7
            value |= (text[at] & 0x7f) << shift
        assert text[at] or not shift
        values, at = values + [value], at + 1
    return values, at


def rows_of(text, is_columns):
    """(us since the one before, kind, channel, bytes)"""
    at = 0
    while not is_columns and at < len(text):
        (us,), at = varints(text, at, 1)
        (channel, n), end = varints(text, at + 1, 2)
        assert end + n <= len(text)
        yield us, text[at], channel, text[end:end + n]
        at = end + n
    if is_columns:
        (n,), at = varints(text, 0, 1)
        rest, end = varints(text, at + 5 * n, 2 * n)
        assert sum(rest[n:]) == len(text) - end
        for i in range(n):
            yield int.from_bytes(text[at + i:at + 4 * n:n], "big"), text[at + 4 * n + i], rest[i], text[end:end + rest[n + i]]
            end += rest[n + i]


def of_chunk(c, lane, stream):
    us = c.at
    for ago, kind, channel, text in rows_of(lane.text(c, stream), c.flags & COLUMNS):
        us += ago
        yield us, c.lane, kind, channel, text


def batches(data, h):
    """Chunks that were written at once."""
    batch = []
    for c in Walk(data, h):
        if batch and (c.type != DATA or (c.at, c.segment) != (batch[0].at, batch[0].segment)):
            yield batch
            batch = []
        batch += [c] if c.type == DATA else []
    yield batch


def records(data, identities):
    """(us, lane, kind, channel, bytes) of what these identities open, in the order of their times in each batch."""
    h = Header(data)
    keys = {lane: h.lane_key(lane, identities) for lane in h.lanes}
    lanes = {lane: Lane(lane, key) for lane, key in keys.items() if key}
    for batch in batches(data, h):
        parts = [list(of_chunk(c, lanes[c.lane], lanes[1 if c.flags & WITH_OUT else c.lane])) for c in batch if c.lane in lanes]
        yield from heapq.merge(*parts, key=lambda r: r[0])
