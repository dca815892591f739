# SPDX-License-Identifier: Apache-2.0
"""One long stream of noise, made and compared byte by byte at both ends of a connection.

    gen SEED BYTES              writes it to standard output
    check SEED BYTES [slow]     reads standard input; exit 0 only if it is exactly that
    both SEED BYTES slow|fast COMMAND...   does both to a command that gives back what it gets

Every 64 KiB stand at another place of the noise, so that a block that is moved, doubled, lost or changed is seen: where the first
difference is goes to standard error. A slow reader takes 64 KiB and rests for a moment, again and again.
"""
import os
import random
import subprocess
import sys
import threading
import time

BLOCK = 65536
NOISE = random.Random(20).randbytes(4 << 20)


def block(seed, i):
    at = (seed * 7919 + i * 40503) % (len(NOISE) - BLOCK)
    return NOISE[at:at + BLOCK]


def write(fd, seed, total):
    for i in range((total + BLOCK - 1) // BLOCK):
        b = memoryview(block(seed, i))[:min(BLOCK, total - i * BLOCK)]
        while b:
            b = b[os.write(fd, b):]


def compare(fd, seed, total, slow):
    """None, or what is wrong."""
    seen, rest, at, i, want = 0, 0.002, 0, 0, block(seed, 0)
    while True:
        got = os.read(fd, BLOCK)
        if not got:
            return None if seen == total else "%d of %d bytes" % (seen, total)
        off = 0
        while off < len(got):
            n = min(BLOCK - at, len(got) - off)
            if got[off:off + n] != want[at:at + n]:
                k = next(k for k in range(n) if got[off + k] != want[at + k])
                return "byte %d differs" % (seen + k)
            seen, off, at = seen + n, off + n, at + n
            if at == BLOCK:
                at, i = 0, i + 1
                want = block(seed, i)
        if seen > total:
            return "more than %d bytes" % total
        if slow:
            time.sleep(rest)


def both(seed, total, slow, argv):
    p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def feed():
        try:
            write(p.stdin.fileno(), seed, total)
        except OSError:
            pass
        p.stdin.close()

    t = threading.Thread(target=feed, daemon=True)
    t.start()
    why = compare(p.stdout.fileno(), seed, total, slow)
    if why:
        p.kill()
    t.join()
    code = p.wait()
    return why or ("exit %d" % code if code else None)


def main():
    mode, seed, total = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if mode == "gen":
        write(1, seed, total)
        return
    slow = sys.argv[4:5] == ["slow"]
    why = compare(0, seed, total, slow) if mode == "check" else both(seed, total, slow, sys.argv[5:])
    if why:
        sys.exit("%s %d: %s" % (mode, seed, why))


if __name__ == "__main__":
    main()
