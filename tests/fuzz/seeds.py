#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the small seed corpora of fuzz_ipc, fuzz_open, fuzz_rules, fuzz_files and fuzz_config anew.

usage: seeds.py CORPUS-DIRECTORY MESSAGE-TABLE   (common/ipc_messages.h)
One seed for each message, with short fields; its relatives are made by
replay.c and by libFuzzer. The seeds of fuzz_policy are written by hand.
"""
import os
import re
import struct
import sys

FIXED = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "i64": 8, "uuid": 16,
         "h32": 32, "sig": 64}


def write(top, name, seed, data):
    d = os.path.join(top, name)
    os.makedirs(d, exist_ok=True)
    with open(os.path.join(d, seed), "wb") as f:
        f.write(data)


def counted(data):
    return struct.pack("<I", len(data)) + data


def ipc(top, table):
    with open(table, encoding="utf-8") as f:
        text = f.read().replace("\\\n", " ")
    numbers = dict(re.findall(r"M\((\w+), (0x[0-9a-f]{4}),", text))
    for name, fields in re.findall(r"#define SP_FIELDS_(\w+)\(F\)([^\n]*)", text):
        body = b""
        for i, (kind, _) in enumerate(re.findall(r"F\((\w+), (\w+), \d+\)", fields)):
            if kind in FIXED:
                body += bytes([i + 1]) * FIXED[kind]
            else:
                body += counted("é核".encode())
        write(top, "ipc", name, struct.pack("<H", int(numbers[name], 16)) + body)


def opened(kind, pty, term, command, env):
    pairs = b"".join(counted(k) + counted(v) for k, v in env)
    return (struct.pack("<BBIIII", kind, pty, 80, 24, 0, 0) + counted(term) +
            counted(command) + counted(pairs))


def forwarded(kind, host, port, listen):
    return (struct.pack("<BBIIII", kind, 0, 0, 0, 0, 0) + counted(b"") * 3 +
            counted(host) + struct.pack("<I", port) + counted(b"127.0.0.1") +
            struct.pack("<II", 50000, listen))


def frame(kind, chan, payload=b"", lane=0):
    return struct.pack("<IBBHI", len(payload), kind, lane, 0, chan) + payload


def stream(top):
    shell = opened(1, 1, b"xterm-256color", b"", [(b"LANG", b"C.UTF-8"), (b"TZ", b"")])
    run = opened(2, 0, b"", b"id -un", [])
    sftp = opened(3, 0, b"", b"sftp", [])
    modes = shell + counted(bytes([53, 0, 0, 0, 1, 0]))
    for name, data in (("shell", shell), ("exec", run), ("subsystem", sftp),
                       ("modes", modes),
                       ("forward", forwarded(4, b"db", 5432, 0)),
                       ("reverse", forwarded(5, b"", 8080, 7)),
                       ("listen", forwarded(6, b"localhost", 0, 0))):
        write(top, "open", name, data)
    write(top, "open", "user-side", frame(1, 1, run) + frame(4, 1, b"ls\n") +
          frame(5, 1, struct.pack("<I", 4096)) +
          frame(7, 1, struct.pack("<IIII", 80, 24, 0, 0)) +
          frame(8, 1, counted(b"INT")) + frame(9, 1, struct.pack("<I", 500)) +
          frame(6, 1) + frame(12, 1))
    write(top, "open", "target-side", frame(2, 1) + frame(4, 1, b"out", 1) +
          frame(4, 1, b"err", 2) + frame(10, 1, struct.pack("<I", 3)) +
          frame(11, 1, counted(b"TERM") + b"\0" + counted(b"killed")) +
          frame(13, 0, counted("到期".encode())) +
          frame(14, 0, b"\1" + counted(b"expired")) + frame(3, 2, counted(b"no")) +
          frame(15, 1) + frame(12, 1))


def many(items):
    return struct.pack("<H", len(items)) + b"".join(items)


def rules(top):
    def hosts(*v):
        return many([counted(h) + struct.pack("<HH", low, high) for h, low, high in v])

    def paths(*v):
        return many([struct.pack("<BI", no, ops) + counted(p) for no, ops, p in v])

    head = struct.pack("<IBBIQQ", 0x7f, 1, 0, 900, 10 << 20, 1 << 30)
    write(top, "rules", "nothing", bytes(26) + bytes(8))
    write(top, "rules", "all", head + hosts((b"*", 0, 65535)) + hosts((b"localhost", 8080, 8089)) +
          paths((0, 8, b"/srv/**"), (1, 24, b"/etc/*.d/?"), (0, 16, "/家/*".encode())) +
          many([counted(b"LANG"), counted(b"LC_*"), counted(b"*")]))
    write(top, "rules", "networks", head + hosts((b"10.0.0.0/8", 22, 22), (b"fd00::/64", 0, 65535)) +
          hosts() + paths() + many([]))


def files(top):
    def say(user, data, what=0):
        return struct.pack("<BH", user | what, len(data)) + data

    def text(s):
        return struct.pack(">I", len(s)) + s

    def packet(kind, *parts):
        body = b"".join(p if isinstance(p, bytes) else struct.pack(">I", p) for p in parts)
        return struct.pack(">IB", len(body) + 1, kind) + body

    def u(*a):
        return say(1, packet(*a))

    def t(*a):
        return say(0, packet(*a))

    zero8 = bytes(8)
    hello = u(1, 3) + t(2, 3, text(b"limits@openssh.com"), text(b"1")) + t(104, 0xfffffff0, 1, text(b"/home/a"), text(b""), 0)
    puts = (u(3, 1, text(b"up"), 0x1a, 0) + t(102, 1, text(b"h")) + u(6, 2, text(b"h"), zero8, text(b"z" * 60)) +
             u(6, 3, text(b"h"), struct.pack(">Q", 60), text(b"y" * 60)) + u(10, 4, text(b"h"), 1, struct.pack(">Q", 120)) +
             t(101, 2, 0, text(b""), text(b"")) + t(101, 3, 0, text(b""), text(b"")) + u(4, 5, text(b"h")) +
             t(101, 4, 0, text(b""), text(b"")) + t(101, 5, 0, text(b""), text(b"")))
    fetch = (u(3, 1, text(b"/home/a/f"), 1, 0) + t(102, 1, text(b"g")) + u(5, 2, text(b"g"), zero8, 90) +
             u(5, 3, text(b"g"), struct.pack(">Q", 90), 90) + t(103, 2, text(b"a" * 90)) + t(103, 3, text(b"b" * 9)) +
             u(5, 4, text(b"g"), struct.pack(">Q", 99), 90) + t(101, 4, 1, text(b"eof"), text(b"")) + u(4, 5, text(b"g")))
    names = (u(13, 1, text(b"x")) + u(18, 2, text(b"a"), text(b"b")) + u(20, 3, text(b"a"), text(b"/etc/l")) +
             u(200, 4, text(b"posix-rename@openssh.com"), text(b"a"), text(b"../b")) + u(14, 5, text(b"d"), 0) +
             u(200, 6, text(b"copy-data"), text(b"h"), zero8, zero8, text(b"g"), zero8) + u(99, 7) +
             u(11, 8, text(b".")) + u(9, 9, text(b"f"), 15, zero8, 0, 0, 0o644, 0, 0))
    write(top, "files", "write", b"\x06" + hello + puts)
    write(top, "files", "limits", b"\x36" + hello + puts + fetch)
    write(top, "files", "read", b"\x16" + hello + fetch)
    write(top, "files", "refused", b"\x40" + hello + names + puts)
    write(top, "files", "names", b"\x06" + hello + names)
    write(top, "files", "patterns", b"\x0e" + hello + u(3, 1, text(b"f"), 2, 0) +
          t(104, 0xffffffef, 1, text(b"/home/a/f"), text(b""), 0) + t(102, 1, text(b"h")) + names +
          t(104, 0xffffffee, 1, text(b"/home/a"), text(b""), 0))
    up = (say(0, b"\0") + say(1, b"D0755 0 d\n") + say(0, b"\0") + say(1, b"T1 0 1 0\n") + say(0, b"\0") +
          say(1, b"C0644 5 x\n") + say(0, b"\0") + say(1, b"hello\0") + say(0, b"\0") + say(1, b"E\n") + say(0, b"\1no\n"))
    down = (say(1, b"\0") + say(0, b"\1scp: y: no\n") + say(0, b"C0644 5 x\n") + say(1, b"\0") + say(0, b"hello\0") +
            say(1, b"\0") + say(0, b"D0755 0 d\n") + say(1, b"\2bye\n"))
    for name, body in (("up", up), ("down", down)):
        write(top, "files", "scp-" + name, b"\x07" + body)
        write(top, "files", "scp-digest-" + name, b"\x37" + body)
        write(top, "files", "scp-refused-" + name, b"\x01" + body)
    write(top, "files", "scp-hurry", b"\x07" + say(1, b"C0644 5 x\nhello\0C0644 1 y\nz\0", 2) + say(0, b"\0" * 3))
    write(top, "files", "rsync", b"\x07" + say(1, b"\x1f\0\0\0") + say(0, b"\x1f\0\0\0abc") + say(1, b"x", 2))


def config(top):
    write(top, "config", "plain", b"# a comment\nlisten 127.0.0.1:2222 [::1]:2222\n"
          b"node b1\nmax_tries 3\ndebug 1\n")
    write(top, "config", "text", "banner 僅限授權人員 # shown first\r\n\n".encode())
    write(top, "config", "wrong", b"max_tries 21\n")
    write(top, "config", "empty", b"\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    ipc(sys.argv[1], sys.argv[2])
    stream(sys.argv[1])
    rules(sys.argv[1])
    files(sys.argv[1])
    config(sys.argv[1])
