# SPDX-License-Identifier: Apache-2.0
"""Bytes on disk: sessions at a human's pace through a whole bastion, each beside a gzip'd asciicast of the same bytes (what was
typed and what was shown, at the same times; `gzip -9` at its end, so neither safe before its end, nor sealed, nor with an index
of what could be read). bench_size.py [--seconds N] [--json FILE]; measure(instance) is for other benches: the instance
has POLICY and PERSON."""
import argparse
import base64
import fcntl
import glob
import gzip
import json
import os
import pty
import random
import select
import struct
import subprocess
import sys
import termios
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance, wait_for  # noqa: E402

BAR = 1.3
T = 120
PERSON = "sizer"
# A group of its own, so that any instance can be measured.
POLICY = """
network loopback 127.0.0.0/8, ::1
permit "sizes" who group sizers on tag core as admin when source in loopback require mfa totp for 8h
"""
LANES = {0: "signatures", 1: "OUT", 2: "IN", 3: "META", 4: "FILE", 5: "VIEW"}
BASH = ["ls -l /etc | head -40", "cd /usr/share", "ls | head -60", "grep -r root /etc/passwd /etc/group", "df -h", "ps aux | head -30",
        "cat /etc/os-release", "uptime", "for i in 1 2 3; do echo $i; done", "find /etc -name '*.conf' | head -20", "free -m",
        "tail -5 /var/log/dpkg.log", "id; groups", "ls -la /var", "du -sh /usr/share/doc/b* | sort -h | tail -12", "mount | head -12"]
VIM = ["i", "The quick brown fox jumps over the lazy dog.\r", "int main(void) { return 0; }\r", "some more text, typed here\r\x1b", "ggdd",
       "p", ":set number\r", "/fox\r", "G", "yy5p", ":w\r", "ggVGd", "u", "oanother line of prose, then\x1b", ":%s/line/row/g\r", "dw", "u"]


def typed(lines, seconds, end, rnd):
    """(when, key): as a person types, with a pause after each line, for so many seconds."""
    at, keys, i = 2.0, [], 0
    while at < seconds:
        for c in lines[i % len(lines)]:
            keys.append((at, c.encode()))
            at += rnd.expovariate(1 / 0.12) + 0.04
        at += 1.5
        i += 1
    return keys + [(at + 1 + n, c.encode()) for n, c in enumerate(end)]


def scenarios(seconds):
    rnd = random.Random(5)
    return {
        "typed bash": typed([x + "\r" for x in BASH], seconds, ["exit\r"], rnd),
        "top": [(1.5, b"top -d1\r"), (seconds, b"q"), (seconds + 2, b"exit\r")],
        "vim": [(1.5, b"vim -u NONE -N\r")] + [(t + 1, k) for t, k in typed(VIM, seconds, ["\x1b:q!\r", "exit\r"], rnd)],
        "bulk": [(1.5, b"cat $HOME/bulk.txt 2>/dev/null || cat /var/tmp/sp-bench-bulk.txt\r"), (15, b"exit\r")],
    }


def bulk_file():
    rnd = random.Random(1)
    words = "drwxr-xr-x root config error GET /api/v1/orders kernel: systemd[1]: SELECT id connection from 10.20.30.40".split()
    path = "/var/tmp/sp-bench-bulk.txt"
    with open(path, "w") as f:
        for _ in range(60000):
            f.write(" ".join(rnd.choice(words) for _ in range(6)) + " %08x %06d\n" % (rnd.getrandbits(32), rnd.randrange(10**6)))
    return path


def drive(sp, keys):
    """One session on a terminal of 120x40."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    p = subprocess.Popen(sp.ssh_argv(PERSON, ["-tt", "admin@core-01"], False), stdin=slave, stdout=slave, stderr=slave,
                         env=dict(sp.ssh_env(PERSON), TERM="xterm-256color"), start_new_session=True)
    os.close(slave)
    t0, i = time.monotonic(), 0
    while True:
        left = keys[i][0] - (time.monotonic() - t0) if i < len(keys) else 30
        r, _, _ = select.select([master], [], [], max(0, left))
        try:
            if r and not os.read(master, 65536):
                break
        except OSError:
            break
        if not r and i == len(keys):
            break
        if not r:
            os.write(master, keys[i][1])
            i += 1
    p.wait(timeout=60)
    os.close(master)


def sessions_of(sp):
    return {s["id"]: s for s in sp.sessions()}


def breakdown(data):
    """{where: [chunks, bytes]} of a recording; the first 60 bytes of each chunk, and tags, are its frame."""
    length, = struct.unpack_from("<I", data, 12)
    parts, at = {"header": [1, length], "frames": [0, 0]}, length
    while at < len(data):
        n, kind, lane = struct.unpack_from("<IBB", data, at)
        seal = 0 if kind != 2 else 48 if data[at + 6] & 2 else 16
        for where, size in ((LANES[lane], n - seal), ("frames", 60 + seal)):
            p = parts.setdefault(where, [0, 0])
            p[0], p[1] = p[0] + 1, p[1] + size
        at += 60 + n
    return parts


def cast(records, with_input):
    """asciicast v2 of the records that `export --format records` gives."""
    out = ['{"version": 2, "width": 120, "height": 40, "timestamp": 1732000000, "env": {"SHELL": "/bin/bash", "TERM": "xterm-256color"}}']
    for r in sorted((json.loads(x) for x in records.split(b"\n") if x), key=lambda r: r["us"]):
        if r["kind"] in ("out", "err") or (r["kind"] == "in" and with_input):
            out.append(json.dumps([round(r["us"] / 1e6, 6), "i" if r["kind"] == "in" else "o",
                                   base64.b64decode(r["data"]).decode("latin1")]))
    return "\n".join(out).encode()


def measure(sp, seconds=150):
    """[{name, bytes, gzip_bytes, gzip_output_bytes, raw_bytes, parts}] of the scenarios, run at the same time."""
    plan, path, found = scenarios(seconds), bulk_file(), {}
    try:
        for name, keys in plan.items():
            before = set(sessions_of(sp))
            t = threading.Thread(target=drive, args=(sp, keys))
            t.start()
            found[name] = (t, wait_for(lambda: [x for x in sessions_of(sp) if x not in before], T, "the session")[0])
        for t, _ in found.values():
            t.join()
    finally:
        os.unlink(path)
    return [judge(sp, name, session) for name, (_, session) in found.items()]


def judge(sp, name, session):
    wait_for(lambda: sessions_of(sp)[session]["ended"] is not None, T, "the end of the session")
    data = open(glob.glob(sp.dir + "/recordings/" + session + "*")[0], "rb").read()
    r = sp.host("export", session, "--format", "records", check=True, timeout=T)
    if os.environ.get("SP_KEEP"):
        open("%s/%s.rows" % (os.environ["SP_KEEP"], name.replace(" ", "-")), "wb").write(r.out)
    rows = b"\n".join(x for x in r.out.split(b"\n") if x.startswith(b"{"))
    both, shown = (len(gzip.compress(cast(rows, x), 9)) for x in (True, False))
    raw = sum(len(base64.b64decode(x["data"])) for x in map(json.loads, rows.split(b"\n")) if x["kind"] in ("in", "out", "err"))
    return {"name": name, "bytes": len(data), "gzip_bytes": both, "gzip_output_bytes": shown, "raw_bytes": raw, "parts": breakdown(data)}


def show(results, out=sys.stdout):
    for r in results:
        print("%-10s %8d bytes on disk, %8d as gzip'd asciicast (output alone %d), %9d raw: %.2fx%s" % (
            r["name"], r["bytes"], r["gzip_bytes"], r["gzip_output_bytes"], r["raw_bytes"], r["bytes"] / r["gzip_bytes"],
            "" if r["bytes"] <= BAR * r["gzip_bytes"] else "  ABOVE THE BAR"), file=out)
        print("           " + ", ".join("%s %d (%d)" % (k, v[1], v[0]) for k, v in r["parts"].items()), file=out)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--seconds", type=int, default=150)
    a.add_argument("--json")
    a = a.parse_args()
    sp = Instance(policy=POLICY)
    try:
        sp.add_person(PERSON, "sizers")
        wait_for(lambda: sp.ssh(PERSON, "admin@core-01", "true", mux=False).code == 0, T, "a login")
        results = measure(sp, a.seconds)
    finally:
        sp.close()
    show(results)
    if a.json:
        json.dump({"bar": BAR, "results": results}, open(a.json, "w"), indent=1)
    return 0 if all(r["bytes"] <= BAR * r["gzip_bytes"] for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
