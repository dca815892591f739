# SPDX-License-Identifier: Apache-2.0
"""Files by sftp and scp: each right its own, rules on paths and sizes, hashes that are those of the real files, refusals at the
operation while the session goes on, and hostile bytes on a channel."""
import base64
import hashlib
import json
import os
import struct
import subprocess
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance, Result, main, wait_for  # noqa: E402

HOW = "on tag core as admin when source in loopback require mfa totp for 1h"
POLICY = """
network loopback 127.0.0.0/8, ::1
permit "all" who group alls %(how)s
permit "up" who group uppers %(how)s allow exec, upload record files full
permit "down" who group downers %(how)s allow exec, download record files digest
permit "paths" who group pathers %(how)s allow upload, download
  path allow upload, download "%(home)s/ok/**"
  path forbid upload "%(home)s/ok/ro/**"
permit "limits" who group limiters %(how)s allow exec, upload, download limit file 100K, session 250K
permit "exec-and-paths" who group mixers %(how)s allow exec, upload, download path allow upload, download "%(home)s/ok/**"
permit "none" who group nobodies %(how)s allow exec
"""


def setUpModule():
    global sp, home, work
    sp = Instance()
    home = sp.dir + "/target/home/admin"
    work = sp.dir + "/work"
    os.mkdir(work)
    sp.load_policy(POLICY % {"how": HOW, "home": home})
    for name, group in (("una", "uppers"), ("dave", "downers"), ("pat", "pathers"), ("lim", "limiters"), ("noa", "nobodies"),
                        ("ann", "alls"), ("mix", "mixers")):
        sp.add_person(name, group)


def tearDownModule():
    sp.close()


def run(who, argv, input=None, timeout=120):
    argv = [argv[0], "-F", "%s/people/%s/ssh_config" % (sp.dir, who)] + argv[1:]
    p = subprocess.run(argv, input=input, stdin=None if input is not None else subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, timeout=timeout, env=sp.ssh_env(who))
    return Result(p.returncode, p.stdout, p.stderr)


def run_rsync(who, argv):
    return subprocess.run(["rsync", "-e", "ssh -F %s/people/%s/ssh_config" % (sp.dir, who)] + argv, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, env=sp.ssh_env(who))


def sftp(who, *commands):
    """Every command is tried: a refusal does not end the batch."""
    return run(who, ["sftp", "-b", "-", "admin@core-01"], input="".join("-%s\n" % c for c in commands).encode())


def local(name, data):
    path = "%s/%s" % (work, name)
    with open(path, "wb") as f:
        f.write(data)
    return path


def remote(name, data=None):
    path = "%s/%s" % (home, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if data is not None:
        with open(path, "wb") as f:
            f.write(data)
        subprocess.run(["chown", "-R", "--reference=" + home, path], check=True)
    subprocess.run(["chown", "--reference=" + home, os.path.dirname(path)], check=True)
    return path


def read(path):
    with open(path, "rb") as f:
        return f.read()


def sha(data):
    return hashlib.sha256(data).hexdigest()


def sessions_of(who):
    """All sessions of a person, the newest first, when they are over."""
    def over():
        rows = sp.host("sessions", "--all", "--user", who, "--json", check=True).json()
        return rows if all(r["ended"] for r in rows) else None
    return wait_for(over, 60, "the end of the sessions of " + who)


def files_of(who, n=1):
    """What the newest n sessions did, in their order."""
    rows = []
    for s in reversed(sessions_of(who)[:n]):
        rows += sp.host("files", s["id"], "--json", check=True).json()
    return rows


def only(rows, **want):
    return [r for r in rows if all(r[k] == v for k, v in want.items())]


def records_of(session, kinds=None):
    out = sp.ssh("carol", "bastion", "export", session["id"], "--format", "records", timeout=120)
    if out.code != 0:
        raise AssertionError(repr(out))
    rows = [json.loads(line) for line in out.out.splitlines()]
    return [r for r in rows if kinds is None or r["kind"] in kinds]


class Rights(unittest.TestCase):
    def test_upload_only(self):
        data = os.urandom(700001)
        remote("there", b"secret")
        r = sftp("una", "put %s up-1" % local("a", data), "get there %s/got" % work, "ls -l up-1", "put %s up-2" % (work + "/a"))
        self.assertEqual(read(home + "/up-1"), data)
        self.assertEqual(read(home + "/up-2"), data)       # it goes on after the refusal
        self.assertFalse(os.path.exists(work + "/got") and os.path.getsize(work + "/got"))
        self.assertIn("Permission denied", r.text)
        self.assertIn("download is not permitted in this session", r.text)
        self.assertIn(b"up-1", r.out)
        rows = files_of("una")
        up = only(rows, op="close", direction="upload", result="ok", whole=True)
        self.assertEqual([x["path"] for x in up], [home + "/up-1", home + "/up-2"], rows)
        self.assertEqual({x["sha256"] for x in up}, {sha(data)})
        self.assertEqual({x["bytes"] for x in up}, {len(data)})
        no = only(rows, result="refused", direction="download")
        self.assertEqual([x["path"] for x in no], [home + "/there"])

    def test_download_only(self):
        data = os.urandom(500003)
        remote("src", data)
        r = sftp("dave", "put %s evil" % local("b", b"x"), "rm src", "mkdir d", "rename src dst", "chmod 777 src", "symlink src l",
                 "ln src h", "get src %s/src" % work)
        self.assertEqual(read(work + "/src"), data)
        self.assertEqual(read(home + "/src"), data)
        for name in ("evil", "d", "dst", "l", "h"):
            self.assertFalse(os.path.lexists(home + "/" + name), name)
        self.assertIn("upload is not permitted in this session", r.text)
        s = sessions_of("dave")[0]
        rows = sp.host("files", s["id"], "--json", check=True).json()
        self.assertEqual({x["op"] for x in only(rows, result="refused")},
                         {"open", "remove", "mkdir", "rename", "setstat", "symlink", "hardlink"}, rows)
        down = only(rows, op="close", direction="download", whole=True)
        self.assertEqual([(x["sha256"], x["bytes"]) for x in down], [(sha(data), len(data))])
        table = sp.ssh("dave", "bastion", "files", s["id"][:8])
        self.assertEqual(table.code, 0, table)
        self.assertIn("download", table.text)

    def test_neither_opens_no_sftp_but_the_session_goes_on(self):
        r = sftp("noa", "ls")
        self.assertNotEqual(r.code, 0)
        self.assertIn("transferring files is not permitted in this session", r.text)
        wait_for(lambda: [e for e in sp.audit("session_event") if e["detail"]["what"] == "channel_refused" and
                          e["detail"]["detail"] == "transferring files is not permitted in this session"], 60, "the event")
        self.assertEqual(sp.ssh("noa", "admin@core-01", "echo still").out, b"still\n")

    def test_scp_both_protocols(self):
        data = os.urandom(300007)
        src = local("c", data)
        for mode in ([], ["-O"]):
            for who, up, down in (("una", True, False), ("dave", False, True), ("ann", True, True)):
                with self.subTest(who=who, mode=mode):
                    name = "scp-%s-%d" % (who, len(mode))
                    remote("r-" + name, data)
                    r = run(who, ["scp"] + mode + [src, "admin@core-01:" + name])
                    self.assertEqual(r.code == 0, up, r)
                    self.assertEqual(os.path.exists(home + "/" + name), up)
                    if up:
                        self.assertEqual(read(home + "/" + name), data)
                    else:
                        self.assertIn("upload is not permitted", r.text)
                    r = run(who, ["scp"] + mode + ["admin@core-01:r-" + name, "%s/%s" % (work, name)])
                    self.assertEqual(r.code == 0, down, r)
                    if down:
                        self.assertEqual(read("%s/%s" % (work, name)), data)
                    else:
                        self.assertIn("download is not permitted", r.text)
                    rows = files_of(who, 2)
                    done = only(rows, op="close", result="ok", whole=True, sha256=sha(data), bytes=len(data))
                    self.assertEqual({x["direction"] for x in done},
                                     {d for d, may in (("upload", up), ("download", down)) if may}, rows)
                    self.assertEqual({x["via"] for x in done}, {"scp" if mode else "sftp"})

    def test_a_tree_by_the_old_protocol(self):
        top = work + "/tree"
        os.makedirs(top + "/in/deep")
        want = {}
        for i, name in enumerate(("one", "in/two", "in/deep/three", "in/empty")):
            want[name] = os.urandom(1000 * i + 1) if name != "in/empty" else b""
            with open("%s/%s" % (top, name), "wb") as f:
                f.write(want[name])
        r = run("ann", ["scp", "-O", "-r", "-p", top, "admin@core-01:"])
        self.assertEqual(r.code, 0, r)
        r = run("ann", ["scp", "-O", "-r", "-p", "admin@core-01:tree", work + "/back"])
        self.assertEqual(r.code, 0, r)
        for name, data in want.items():
            self.assertEqual(read("%s/tree/%s" % (home, name)), data)
            self.assertEqual(read("%s/back/%s" % (work, name)), data)
        rows = files_of("ann", 2)
        for way, root in (("upload", "tree/"), ("download", "tree/")):
            got = {x["path"]: x["sha256"] for x in only(rows, op="close", direction=way, whole=True, via="scp")}
            self.assertEqual(got, {root + n: sha(d) for n, d in want.items()})
        r = run("dave", ["scp", "-O", "-r", top, "admin@core-01:tree-2"])
        self.assertNotEqual(r.code, 0)
        self.assertFalse(os.path.exists(home + "/tree-2"))


    def test_rsync_is_counted_and_hashed(self):
        data = os.urandom(200001)
        for argv in ([local("rs", data), "admin@core-01:rs"], ["admin@core-01:rs", work + "/rs-back"]):
            r = run_rsync("ann", argv)
            self.assertEqual(r.returncode, 0, r)
            s = sessions_of("ann")[0]
            rows = only(sp.host("files", s["id"], "--json", check=True).json(), via="rsync")
            raw = records_of(s, ("in", "out"))
            for way, kind in (("upload", "in"), ("download", "out")):
                passed = b"".join(base64.b64decode(x["data"]) for x in raw if x["kind"] == kind)
                self.assertEqual([(x["bytes"], x["sha256"]) for x in only(rows, direction=way)], [(len(passed), sha(passed))], rows)
        self.assertEqual((read(home + "/rs"), read(work + "/rs-back")), (data, data))


class Paths(unittest.TestCase):
    def test_rules_on_paths(self):
        remote("ok/ro/r", b"read me")
        remote("outside", b"outside")
        subprocess.run(["chown", "-R", "--reference=" + home, home + "/ok"], check=True)
        for link, to in (("ok/out", "../outside"), ("ok/up", "ro")):
            os.symlink(to, "%s/%s" % (home, link))
        r = sftp("pat", "put %s ok/a" % local("d", b"aaa"), "put %s b" % (work + "/d"), "put %s ok/ro/c" % (work + "/d"),
                 "put %s ok/up/d" % (work + "/d"), "put %s ok/../e" % (work + "/d"), "get ok/ro/r %s/r" % work,
                 "get outside %s/no1" % work, "get ok/out %s/no2" % work, "get ok/../outside %s/no3" % work,
                 "symlink %s/outside ok/l" % home, "symlink a ok/fine", "rename ok/a f", "rename ok/a ok/g", "rm outside",
                 "mkdir ok/sub", "mkdir sub")
        self.assertEqual(read(home + "/ok/g"), b"aaa")
        self.assertEqual(read(work + "/r"), b"read me")
        self.assertTrue(os.path.isdir(home + "/ok/sub"))
        self.assertEqual(os.readlink(home + "/ok/fine"), "a")
        for name in ("b", "e", "f", "sub", "ok/ro/c", "ok/ro/d", "ok/l"):
            self.assertFalse(os.path.lexists(home + "/" + name), name + "\n" + r.text)
        for name in ("no1", "no2", "no3"):
            self.assertFalse(os.path.exists(work + "/" + name) and os.path.getsize(work + "/" + name), name)
        self.assertEqual(read(home + "/outside"), b"outside")
        self.assertIn("path", r.text)

    def test_the_old_protocol_says_no_paths(self):
        # no exec: the old protocol has no channel; with exec it is refused for its relative names
        r = run("pat", ["scp", "-O", local("e", b"x"), "admin@core-01:ok/z"])
        self.assertNotEqual(r.code, 0)
        self.assertFalse(os.path.exists(home + "/ok/z"))
        remote("ok/y", b"y")
        for argv in ([work + "/e", "admin@core-01:ok/z"], ["admin@core-01:ok/y", work + "/y"]):
            r = run("mix", ["scp", "-O"] + argv)
            self.assertNotEqual(r.code, 0)
            self.assertIn("use sftp, or scp without -O", r.text)
            self.assertFalse(os.path.exists(argv[1].replace("admin@core-01:", home + "/")))
            r = run("mix", ["scp"] + argv)                  # the very same, said with its path
            self.assertEqual(r.code, 0, r)
        self.assertEqual((read(home + "/ok/z"), read(work + "/y")), (b"x", b"y"))


class Limits(unittest.TestCase):
    def test_size_of_a_file(self):
        remote("large", b"x" * 102401)
        remote("fits", b"y" * 102400)
        r = sftp("lim", "put %s big" % local("f", b"z" * 102401), "get large %s/large" % work, "get fits %s/fits" % work)
        self.assertEqual(read(work + "/fits"), b"y" * 102400)
        self.assertLessEqual(os.path.getsize(home + "/big"), 102400)
        self.assertLessEqual(os.path.getsize(work + "/large"), 102400)
        self.assertIn("102400 bytes that one file may have", r.text)
        rows = files_of("lim", 1)
        self.assertEqual({(x["direction"], x["result"]) for x in only(rows, op="close")},
                         {("upload", "refused"), ("download", "refused"), ("download", "ok")}, rows)
        for mode in ([], ["-O"]):
            r = run("lim", ["scp"] + mode + [work + "/f", "admin@core-01:big-scp"])
            self.assertNotEqual(r.code, 0, mode)
            self.assertIn("102400 bytes", r.text)

    def test_size_of_a_session(self):
        path = local("g", b"z" * 100000)
        r = sftp("lim", *["put %s g-%d" % (path, i) for i in range(3)])
        self.assertIn("256000 bytes that all files may have", r.text)
        self.assertEqual([os.path.getsize("%s/g-%d" % (home, i)) == 100000 for i in range(3)], [True, True, False])
        self.assertEqual(sp.ssh("lim", "admin@core-01", "echo on").out, b"on\n")


class Recorded(unittest.TestCase):
    def test_bodies_only_where_the_policy_asks(self):
        data = os.urandom(400009)
        for who, command, whole in (("una", "put %s rec-1" % local("h", data), True), ("dave", "get rec-2 %s/rec-2" % work, False)):
            with self.subTest(who=who):
                remote("rec-2", data)
                self.assertEqual(sftp(who, command).code, 0)
                s = sessions_of(who)[0]
                rows = records_of(s)
                # a body stands in lane FILE alone, each piece behind its number and place
                raw = b"".join(base64.b64decode(r["data"])[13 if r["kind"] == "body" else 0:] for r in rows
                               if r["kind"] in ("in", "out", "body"))
                self.assertEqual({r["lane"] for r in rows if r["kind"] == "body"}, {"file"} if whole else set())
                found = all(data[i:i + 64] in raw for i in range(0, len(data) - 64, 32768))
                self.assertEqual(found, whole)
                f = [r["file"] for r in rows if r["kind"] == "file"]
                self.assertEqual([x["sha256"] for x in f if x["op"] == "close" and x["whole"]], [sha(data)])
                parts = [x for x in f if x["so_far"]]
                self.assertEqual(bool(parts), not whole)
                for x in parts[:3] + parts[-1:]:           # each stands for a beginning of the real file
                    self.assertEqual(x["sha256"], sha(data[x["offset"]:x["offset"] + x["bytes"]]))
                self.assertGreaterEqual(s["bytes_in" if whole else "bytes_out"], len(data))
                self.assertEqual(sp.ssh("carol", "bastion", "verify", s["id"]).code, 0)
                r = sp.ssh("carol", "bastion", "replay", s["id"], "--speed", "100")
                self.assertIn(sha(data).encode(), r.out)


def packet(kind, body):
    return struct.pack(">IB", len(body) + 1, kind) + body


def string(s):
    return struct.pack(">I", len(s)) + s


HELLO = packet(1, struct.pack(">I", 3))


class Hostile(unittest.TestCase):
    def raw(self, data, until=None):
        """Says the bytes, and keeps the input open until the answer is there or the channel is over."""
        p = sp.ssh_start("ann", "-s", "admin@core-01", "sftp", stdin=subprocess.PIPE)
        out, err = [b""], [b""]

        def read_err():
            err[0] = p.stderr.read()

        def write():
            try:
                while memory:
                    del memory[:p.stdin.write(memory[:65536])]
            except BrokenPipeError:
                pass

        memory = bytearray(data)
        threads = [threading.Thread(target=f, daemon=True) for f in (read_err, write)]
        for t in threads:
            t.start()
        while until is None or until not in out[0]:
            piece = os.read(p.stdout.fileno(), 65536)
            if not piece:
                break
            out[0] += piece
        threads[1].join(60)
        try:
            p.stdin.close()
        except BrokenPipeError:
            pass
        rest = p.stdout.read()
        p.wait(60)
        threads[0].join(60)
        return Result(p.returncode, out[0] + rest, err[0])

    def test_a_client_that_does_not_speak_sftp_loses_its_channel_alone(self):
        keep = sp.ssh_start("ann", "admin@core-01", "cat", stdin=subprocess.PIPE)
        wait_for(lambda: sp.sessions(all=False), 60, "the session")
        for name, data, why in (
                ("noise", b"GET / HTTP/1.0\r\n\r\n", "does not begin"), ("version", packet(1, struct.pack(">I", 2)), "version 2"),
                ("length", HELLO + b"\xff" * 8, "bytes"), ("zero", HELLO + bytes(8), "bytes"),
                ("write", HELLO + packet(6, struct.pack(">I", 5) + string(b"h") + bytes(8) + struct.pack(">I", 999)), "do not agree")):
            with self.subTest(name=name):
                r = self.raw(data)
                self.assertIn("This channel was ended", r.text)
                self.assertIn(why, r.text)
        keep.stdin.write(b"still here\n")
        keep.stdin.close()
        self.assertEqual(keep.stdout.read(), b"still here\n")
        self.assertEqual(keep.wait(60), 0)

    def test_requests_that_are_answered_here(self):
        """Unknown operations, broken ones and handles that nobody gave: answered with a status, and the channel goes on."""
        bad = [(99, string(b"/")), (200, string(b"vendor@example.org")), (3, string(b"/x")), (4, string(b"nobody")),
               (6, string(b"nobody") + bytes(8) + string(b"z" * 50000)), (5, string(b"nobody") + bytes(12)), (13, b"\0")]
        data = HELLO + b"".join(packet(k, struct.pack(">I", i) + b) for i, (k, b) in enumerate(bad))
        data += packet(17, struct.pack(">I", 1000) + string(b"/"))
        r = self.raw(data, struct.pack(">BI", 105, 1000))
        replies, at = {}, 0
        while at + 4 <= len(r.out):
            n = struct.unpack(">I", r.out[at:at + 4])[0]
            kind, body = r.out[at + 4], r.out[at + 5:at + 4 + n]
            if kind != 2:
                replies[struct.unpack(">I", body[:4])[0]] = (kind, struct.unpack(">I", body[4:8])[0])
            at += 4 + n
        self.assertEqual(at, len(r.out))
        self.assertEqual([replies[i] for i in range(len(bad))],
                         [(101, c) for c in (8, 8, 5, 4, 4, 4, 5)], replies)
        self.assertEqual(replies[1000][0], 105)

    def test_many_refusals_do_not_stop_the_stream(self):
        """The answers are the recorder's own: the credit of both sides must come out right after megabytes of them."""
        n = 40000
        data = HELLO + b"".join(packet(99, struct.pack(">I", i) + b"x" * 100) for i in range(n))
        data += packet(17, struct.pack(">I", n) + string(b"/"))
        r = self.raw(data, struct.pack(">BI", 105, n))
        self.assertEqual(r.out.count(struct.pack(">BI", 105, n)), 1, r.err[-500:])
        self.assertGreater(len(r.out), n * 40)


if __name__ == "__main__":
    main()
