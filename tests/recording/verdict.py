# SPDX-License-Identifier: Apache-2.0
"""What a verifier says of a recording, in the order of doc/recording-format.md ("What a verifier says"); reader.py finds the chunks."""
import struct

from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from reader import BEHIND, CHECKPOINT, DATA, WITH_OUT, ZSTD, Header, Verdict, Walk, sha256

OPEN, CLOSE, RECOVERED, HASHES = 1, 4, 5, 6


def must(fact, else_say="forged"):
    if not fact:
        raise Verdict(else_say)


def signed(key, text, signature):
    try:
        VerifyKey(key).verify(text, signature)
        return True
    except (CryptoError, ValueError):
        return False


def own(h, c):
    return signed(h.key, b"sallyport chunk v1\0" + c.prev + c.head + c.body[:-64], c.body[-64:])


def judge_open(c, h, audit_key):
    must(len(c.body) == 160)
    must(c.body[:32] == audit_key, "unknown")
    cert = b"sallyport recording v1\0" + h.session + h.key + h.hash + struct.pack("<Q", h.t0)
    must(own(h, c) and signed(audit_key, cert, c.body[32:96]))


def judge_data(c, waiting):
    must(not c.flags & ~31 and c.len >= 16 and (not c.flags & WITH_OUT or (c.lane == 5 and c.flags & ZSTD)))
    if c.flags & BEHIND:
        waiting.append(struct.pack("<Q", c.seq) + sha256(c.body))
        must(len(waiting) <= 8192)


def judge_totals(c, h, before):
    """What both signatures of the recording itself begin with."""
    must(own(h, c) and len(c.body) >= 88)
    now = struct.unpack_from("<QQ", c.body, 8)
    must(all(a >= b for a, b in zip(now, before)))
    before[:] = now


def judge_checkpoint(c):
    named = len(c.body) - 64 - 24 - 8
    must(named == -8 or (0 <= named <= 32 * 8 and named % 8 == 0))


def judge_close(c):
    must(len(c.body) >= 93 and struct.unpack_from("<I", c.body, 25)[0] == len(c.body) - 93 <= 512)


def judge_recovered(c, h, audit_key, before):
    must(len(c.body) == 72 and c.at == before)
    text = b"sallyport recovered v1\0" + h.session + c.prev + struct.pack("<Q", c.seq) + c.body[:8]
    must(signed(audit_key, text, c.body[8:]))


def judge_hashes(c, waiting):
    n = len(c.body) // 40
    must(1 <= n <= 1024 and c.body == b"".join(waiting[:n]))
    del waiting[:n]


def judge(data, audit_key, known):
    h = Header(data)
    waiting, totals, end, before, n, seen = [], [0, 0], None, 0, 0, known is None
    for c in Walk(data, h, lambda: end is not None):
        must(not end and (n == 0) == (c.type == OPEN) == (c.seq == 0) and (c.type == DATA or not 1 <= c.type <= 6 or not (c.lane or c.flags)))
        if c.type == OPEN:
            judge_open(c, h, audit_key)
        elif c.type == DATA:
            judge_data(c, waiting)
        elif c.type in (CHECKPOINT, CLOSE):
            judge_totals(c, h, totals)
            (judge_checkpoint if c.type == CHECKPOINT else judge_close)(c)
            seen = seen or c.type == CHECKPOINT and known[:8] in [c.body[i:i + 8] for i in range(32, len(c.body) - 64, 8)]
        elif c.type == RECOVERED:
            judge_recovered(c, h, audit_key, before)
        elif c.type == HASHES:
            judge_hashes(c, waiting)
        end = c.type if c.type in (CLOSE, RECOVERED) else None
        must(not end or not waiting)
        before, n, seen = c.at, n + 1, seen or c.chain == known
    must(n and (seen or end == CLOSE), "cut")
    must(seen)
    return {CLOSE: "intact", RECOVERED: "recovered", None: "open"}[end]


def verify(data, audit_key, known=None):
    try:
        return judge(data, audit_key, known)
    except Verdict as v:
        return str(v)
