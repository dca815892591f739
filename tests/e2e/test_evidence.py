#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An evidence bundle: good on a machine that never saw the bastion, by our verifier alone and by other people's tools; and not good
as soon as anything of it is changed."""
import base64
import hashlib
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
import tlogcheck  # noqa: E402
from sp import Instance, main, wait_for  # noqa: E402

BLOCK = 512


def setUpModule():
    global sp, key, dir, ids, bundles, VERIFY
    sp = Instance()
    sp.configure(log_publish_s=1)
    sp.host("stop", check=True, timeout=120)
    sp.host("start", check=True, timeout=120)
    key = sp.host("vault", "status", "--json", check=True).json()["audit_key"]
    sp.grant()
    VERIFY = sp.dir + "/opt/bin/sallyport-verify"
    dir = tempfile.mkdtemp(prefix="sp-evidence-", dir="/var/tmp")
    ids, bundles = [], []
    for i in range(2):
        before = {s["id"] for s in sp.sessions()}
        r = sp.ssh("alice", "admin@core-01", "echo session %d" % i)
        assert r.code == 0, r
        ids.append(wait_for(lambda: [s["id"] for s in sp.sessions() if s["id"] not in before and s.get("ended")], 60, "its end")[0])
        bundles.append("%s/%d.tar" % (dir, i))
        r = sp.host("evidence", ids[i][:8], "--out", bundles[i], timeout=180)
        assert r.code == 0, r


def tearDownModule():
    shutil.rmtree(dir)
    sp.close()


def judge(path, *more, argv=None, **kw):
    r = subprocess.run((argv or [VERIFY]) + ["bundle", path] + list(more or ("--key", key)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       stdin=subprocess.DEVNULL, timeout=120, **kw)
    return r.returncode, r.stdout.decode()


def members(path):
    with tarfile.open(path) as t:
        return [(m.name.split("/", 1)[1], m.offset, m.offset_data, m.size, t.extractfile(m).read()) for m in t]


def write(name, parts):
    """An archive of the form that ours has, of what somebody puts in."""
    path = dir + "/" + name
    with open(path, "wb") as f:
        for full, content in parts:
            t = tarfile.TarInfo(full)
            t.size, t.mode, t.mtime = len(content), 0o444, 0
            h = bytearray(t.tobuf(tarfile.USTAR_FORMAT))
            h[329:345] = bytes(16)  # device numbers: ours has none
            h[148:156] = b"        "
            h[148:156] = b"%06o\0 " % sum(h)
            f.write(h + content + bytes(-len(content) % BLOCK))
        f.write(bytes(2 * BLOCK))
    return path


class Good(unittest.TestCase):
    def test_our_verifier(self):
        code, text = judge(bundles[0])
        self.assertEqual(code, 0, text)
        self.assertIn("GOOD: evidence of session " + ids[0], text)
        self.assertRegex(text, r"published   [1-9]")
        m = re.search(r"audit +(\d+) events, (\d+) of them leaves", text)
        self.assertEqual(m.group(1), m.group(2))
        self.assertGreater(int(m.group(1)), 5)
        code, text = judge(bundles[0], "--json")
        self.assertEqual(code, 0, text)
        self.assertIn('"key_is_given":false', text)
        self.assertEqual(judge(bundles[0], "--key", "00" * 32)[0], 1)

    def test_it_is_audited_and_in_the_log(self):
        mine = [x for x in sp.audit("export") if "bundle" in str(x) and ids[0] in str(x)]
        self.assertEqual(len(mine), 1, mine)
        sha = hashlib.sha256(dict((m[0], m[4]) for m in members(bundles[0]))["MANIFEST.sha256"]).digest()
        acts = [f for k, _, f in tlogcheck.Log(sp.dir + "/tlog", bytes.fromhex(key)).leaves() if k == "act"]
        self.assertIn(sha, [f.get("object") for f in acts])

    def test_who_may(self):
        self.assertNotEqual(sp.ssh("alice", "bastion", "evidence", "rows", ids[0]).code, 0)
        self.assertEqual(sp.host("evidence", ids[0], "--out", bundles[0]).code, 2)  # it is there already

    def test_on_a_machine_that_never_saw_the_bastion(self):
        """A root with the verifier, the libraries it names and the bundle; a network of its own without anything in it."""
        root = tempfile.mkdtemp(prefix="root-", dir=dir)
        for lib in set(re.findall(r"(/\S+) \(0x", subprocess.run(["ldd", VERIFY], stdout=subprocess.PIPE, check=True).stdout.decode())):
            os.makedirs(root + os.path.dirname(lib), exist_ok=True)
            shutil.copy(lib, root + lib)
        shutil.copy(VERIFY, root + "/verify")
        shutil.copy(bundles[0], root + "/b.tar")
        code, text = judge("/b.tar", argv=["unshare", "-n", "-p", "-f", "-m", "chroot", root, "/verify"])
        self.assertEqual(code, 0, text)
        self.assertIn("GOOD", text)

    def test_the_steps_of_the_readme(self):
        d = tempfile.mkdtemp(prefix="plain-", dir=dir)
        subprocess.run(["tar", "-xf", bundles[0], "-C", d], check=True)
        d += "/" + ids[0]
        steps = open(d + "/README.txt").read()
        for command in ("sha256sum -c MANIFEST.sha256", "openssl pkeyutl -verify", "tail -n 1 checkpoint"):
            self.assertIn(command, steps)
        script = "\n".join(x for x in steps[steps.index("\n3. "):steps.index("\n4. ")].split("\n") if x.startswith("       ") and "published/N" not in x)
        r = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=d, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=60)
        text = r.stdout.decode()
        self.assertEqual(r.returncode, 0, text)
        self.assertIn("Signature Verified Successfully", text)
        self.assertNotIn("FAILED", text)
        sha = hashlib.sha256(open(d + "/MANIFEST.sha256", "rb").read()).hexdigest()
        self.assertEqual(text.count(sha), 2, text)  # its digest, and the leaf that holds it
        # every proof, by another program
        note = tlogcheck.Note(open(d + "/checkpoint", "rb").read()).check(bytes.fromhex(key))
        blocks = open(d + "/proofs.txt").read().split("\n\n")[:-1]
        self.assertGreater(len(blocks), 6)
        for b in blocks:
            head, entry, *path = b.split("\n")
            tlogcheck.check_inclusion([base64.b64decode(x) for x in path], int(head.split()[1]), note.size,
                                      tlogcheck.leaf_hash(base64.b64decode(entry)), note.root)
        ways = open(d + "/consistency.txt").read().split("\n\n")[:-1]
        for w in ways:
            n = int(w.split()[1])
            old = tlogcheck.Note(open("%s/published/%013d" % (d, n), "rb").read()).check(bytes.fromhex(key))
            tlogcheck.check_consistency([base64.b64decode(x) for x in w.split("\n")[1:]], old.size, old.root, note.size, note.root)
        # approvals are in it, as events whose hash is a leaf
        self.assertIn(b"request_approved", b"".join(base64.b64decode(x.split(" ")[4]) for x in open(d + "/audit.txt").read().splitlines()))
        self.assertIn('"approver" : "bob"', open(d + "/session.json").read())


class Witnesses(unittest.TestCase):
    """The log's heads stand as files: a witness adds its line to them (tests/e2e/test_tlog.py has that way from end to end), or somebody
    with the disk does."""
    def head(self, least=0):
        """The newest published head that is whole, and larger."""
        d = sp.dir + "/tlog/checkpoints/"
        def newest():
            n = max((int(x) for x in os.listdir(d) if x.isdigit()), default=0)
            return n if n > least else 0
        return d + "%013d" % wait_for(newest, 60, "a published head")

    def sign(self, path, w):
        note = tlogcheck.Note(open(path, "rb").read())
        t = int(time.time())
        blob = tlogcheck.key_id(w.name, 4, w.key) + struct.pack(">Q", t) + w.secret.sign(b"cosignature/v1\ntime %d\n" % t + note.text)
        with open(path, "ab") as f:
            f.write("— {} {}\n".format(w.name, base64.b64encode(blob).decode()).encode())

    def flip(self, path):
        lines = open(path, "rb").read().decode().splitlines()
        words = lines[-1].split(" ")
        blob = bytearray(base64.b64decode(words[-1]))
        blob[40] ^= 1
        with open(path, "wb") as f:
            f.write("\n".join(lines[:-1] + [" ".join(words[:-1] + [base64.b64encode(blob).decode()])] + [""]).encode())

    def bundle(self, i, name):
        path = "%s/%s.tar" % (dir, name)
        r = sp.host("evidence", ids[i][:8], "--out", path, timeout=180)
        self.assertEqual(r.code, 0, r)
        return path

    def test_who_cosigned(self):
        good, other = tlogcheck.Witness("w.example/good"), tlogcheck.Witness("w.example/good")
        behind = max(int(w.split()[1]) for w in dict((m[0], m[4]) for m in members(bundles[1]))["proofs.txt"].decode().split("\n\n")[:-1])
        at = self.head(behind)
        self.sign(at, good)
        path = self.bundle(0, "cosigned")
        want = ("--key", key, "--witness")
        code, text = judge(path, *want, good.vkey())
        self.assertEqual(code, 0, text)
        self.assertRegex(text, r"witness     w.example/good cosigned 1 of them, the newest of %d leaves at 2" % int(at[-13:]))
        code, text = judge(path, *want, good.vkey(), "--json")
        w = json.loads(text)["witnesses"]
        self.assertEqual([(x["name"], x["heads"], x["newest"]) for x in w], [("w.example/good", 1, int(at[-13:]))])
        self.assertLess(abs(w[0]["cosigned_s"] - time.time()), 600)
        # another key of that name; a log's key; two that are asked for
        for vkeys, rc, says in (([other.vkey()], 1, "has cosigned none"), ([good.vkey(), "--witness", other.vkey()], 1, "has cosigned none"),
                                (["w.example/good+00000000+AAAA"], 2, "--witness wants")):
            code, text = judge(path, *want, *vkeys)
            self.assertEqual(code, rc, text)
            self.assertIn(says, text)
        # a bit of it on the bastion's disk: what the archive has is what was there, and is false
        self.flip(at)
        path = self.bundle(0, "flipped-there")
        code, text = judge(path)
        self.assertEqual(code, 0, text)
        code, text = judge(path, *want, good.vkey())
        self.assertEqual(code, 1, text)
        self.assertIn("has a cosignature of w.example/good that is false", text)

    def test_a_head_from_before_the_session(self):
        w = tlogcheck.Witness("w.example/early")
        at = self.head()
        self.sign(at, w)
        before = {s["id"] for s in sp.sessions()}
        self.assertEqual(sp.ssh("alice", "admin@core-01", "echo later").code, 0)
        ids.append(wait_for(lambda: [s["id"] for s in sp.sessions() if s["id"] not in before and s.get("ended")], 60, "its end")[0])
        code, text = judge(self.bundle(-1, "early"), "--key", key, "--witness", w.vkey())
        self.assertEqual(code, 1, text)
        self.assertIn("no head that has this recording's end", text)


class Bad(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.a, cls.b = members(bundles[0]), members(bundles[1])
        cls.raw = open(bundles[0], "rb").read()

    def bad(self, path, what):
        code, text = judge(path)
        self.assertEqual(code, 1, (what, text))
        self.assertIn("NOT GOOD", text, what)
        os.unlink(path)
        return text

    def parts(self, members, session):
        return [("%s/%s" % (session, m[0]), m[4]) for m in members]

    def test_the_writer_of_this_test_writes_what_ours_does(self):
        path = write("same.tar", self.parts(self.a, ids[0]))
        self.assertEqual(open(path, "rb").read(), self.raw)

    def test_a_bit_anywhere(self):
        """In each member at its beginning, middle and end and at places that change with each run; in each header; in the padding."""
        places = set()
        for name, off, data, size, _ in self.a:
            places |= {off, off + 100, off + 124, off + 148, off + 257, off + 400, off + 511}
            places |= {data, data + size // 2, data + max(size - 1, 0)} | {data + x % max(size, 1) for x in os.urandom(4)}
            places |= {data + size + (-size % BLOCK) - 1}
        places |= {len(self.raw) - 1, len(self.raw) - 2 * BLOCK}
        for at in sorted(places):
            path = dir + "/flipped.tar"
            with open(path, "wb") as f:
                f.write(self.raw[:at] + bytes([self.raw[at] ^ (1 << at % 8)]) + self.raw[at + 1:])
            self.bad(path, "a bit at %d" % at)

    def test_dropped_swapped_cut_added(self):
        for i, m in enumerate(self.a):
            self.bad(write("dropped.tar", self.parts(self.a[:i] + self.a[i + 1:], ids[0])), "without " + m[0])
            other = [x for x in self.b if x[0] == m[0]]
            if other and other[0][4] != m[4]:
                text = self.bad(write("swapped.tar", self.parts(self.a[:i] + other + self.a[i + 1:], ids[0])), "another's " + m[0])
                self.assertTrue(text)
            self.bad(write("emptied.tar", self.parts(self.a[:i] + [m[:4] + (b"",)] + self.a[i + 1:], ids[0])) if m[4] else
                     write("filled.tar", self.parts(self.a[:i] + [m[:4] + (b"x",)] + self.a[i + 1:], ids[0])), "no " + m[0])
        for n in (0, BLOCK, len(self.raw) - 1, len(self.raw) - BLOCK, len(self.raw) // 2):
            with open(dir + "/cut.tar", "wb") as f:
                f.write(self.raw[:n])
            self.bad(dir + "/cut.tar", "cut at %d" % n)
        with open(dir + "/long.tar", "wb") as f:
            f.write(self.raw + b"\0")
        self.bad(dir + "/long.tar", "a byte more")
        self.bad(write("more.tar", self.parts(self.a, ids[0]) + [(ids[0] + "/more", b"x")]), "one more")
        self.bad(write("named.tar", self.parts(self.a, ids[1])), "another name")

    def test_a_manifest_made_anew(self):
        """Whoever changes a text and makes the manifest fit has no leaf of that manifest."""
        for name in ("session.json", "README.txt", "audit.txt"):
            got = {m[0]: m[4] for m in self.a}
            got[name] = got[name].replace(b"alice", b"mallo").replace(b"Sallyport", b"Sallyp0rt") + (b"" if name != "audit.txt" else b"event x 1 " + b"00" * 32 + b" QQ==\n")
            order = ["recording.spr", "README.txt"] + [m[0] for m in self.a[3:-3]]
            got["MANIFEST.sha256"] = "".join("%s  %s\n" % (hashlib.sha256(got[n]).hexdigest(), n) for n in order).encode()
            text = self.bad(write("anew.tar", [("%s/%s" % (ids[0], m[0]), got[m[0]]) for m in self.a]), name)
            self.assertIn("the log does not have this manifest", text)


if __name__ == "__main__":
    main()
