#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The transparency log: what is in it, who can lie about it, and what an examiner finds."""
import base64
import datetime
import json
import os
import pty
import re
import shutil
import socket
import subprocess
import sys
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import sp as support  # noqa: E402
import tlogcheck  # noqa: E402
from sp import wait_for  # noqa: E402

sp = None
key = None


def setUpModule():
    global sp, key
    sp = support.Instance()
    sp.configure(log_publish_s=1)
    sp.host("stop", check=True, timeout=120)  # the notary reads its settings when it starts
    sp.host("start", check=True, timeout=120)
    key = bytes.fromhex(sp.host("vault", "status", "--json", check=True).json()["audit_key"])
    sp.grant()


def tearDownModule():
    sp.close()


def tlog():
    return sp.dir + "/tlog"


def session(command="echo hello"):
    """Its id, when its CLOSE is under a signed head."""
    before = {s["id"] for s in sp.sessions()}
    r = sp.ssh("alice", "admin@core-01", command)
    if r.code != 0:
        raise AssertionError(r)
    new = wait_for(lambda: [s["id"] for s in sp.sessions() if s["id"] not in before and s.get("ended")], 60, "its end")[0]
    raw = bytes.fromhex(new.replace("-", ""))
    wait_for(lambda: any(k == "close" and f["session"] == raw for k, _, f in tlogcheck.Log(tlog(), key).leaves()), 60, "its CLOSE")
    return new


def stable(what):
    """A copy of log and recordings of one moment: under a head that covers all."""
    top = support.scratch("sp-tlog-")
    wait_for(lambda: (lambda s: s["signed"] == s["size"] and s["waiting"] == 0)(sp.host("log", "status", "--json").json()), 60, what)
    shutil.copytree(tlog(), top + "/tlog")
    shutil.copytree(sp.dir + "/recordings", top + "/recordings")
    return top


def verify_all(top, *more, rows=None):
    argv = [sp.dir + "/opt/bin/sallyport-verify", "all", "--key", key.hex(), "--log", top + "/tlog",
            "--recordings", top + "/recordings", "--json"] + list(more)
    if rows is not None:
        with open(top + "/rows", "wb") as f:
            f.write(rows)
        argv += ["--rows", top + "/rows"]
    r = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=120)
    return r.returncode, json.loads(r.stdout)


class Tree(unittest.TestCase):
    def test_an_independent_reader_agrees(self):
        s = session()
        log = tlogcheck.Log(tlog(), key)
        log.check_signatures(key)
        raw = bytes.fromhex(s.replace("-", ""))
        mine = [(k, f) for k, _, f in log.leaves() if f.get("session") == raw]
        self.assertEqual(mine[0][0], "open")
        self.assertEqual(mine[-1][0], "close")
        with open("%s/recordings/%s.spr" % (sp.dir, s), "rb") as f:
            self.assertIn(mine[-1][1]["chain"], f.read())
        # every event of the audit has its leaf, with the database's hash
        rows = dict(r.split("|") for r in sp.psql("SELECT seq, encode(hash, 'hex') FROM sallyport.audit").split("\n"))
        leaves = {str(f["seq"]): f["hash"].hex() for k, _, f in log.leaves() if k == "audit"}
        self.assertTrue(leaves)
        self.assertEqual({k: rows[k] for k in leaves}, leaves)
        self.assertIn(sorted(rows, key=int)[0], leaves)

    def test_a_point_for_each_mebibyte(self):
        """The recording's own signed points are leaves too: who cuts it later leaves some of them unanswered."""
        raw = bytes.fromhex(session("head -c 4000000 /dev/urandom").replace("-", ""))
        kinds = [k for k, _, f in tlogcheck.Log(tlog(), key).leaves() if f.get("session") == raw]
        self.assertGreaterEqual(kinds.count("checkpoint"), 2, kinds)
        self.assertEqual((kinds[0], kinds[-1]), ("open", "close"))

    def test_open_is_there_before_a_byte_is_forwarded(self):
        s = session("true")
        raw = bytes.fromhex(s.replace("-", ""))
        at = {k: t for k, t, f in tlogcheck.Log(tlog(), key).leaves() if f.get("session") == raw}
        live = [x for x in sp.log().split("\n") if s in x and "event=session_live" in x][0]
        when = subprocess.run(["date", "-u", "-d", live.split("time=")[1].split(" ")[0], "+%s%6N"], stdout=subprocess.PIPE).stdout
        self.assertLessEqual(at["open"], int(when))

    def test_what_runs_and_ends_meanwhile_is_known(self):
        """Its leaves are kept before its bytes; the signed head over them follows, its file gets another name, its rows come later."""
        made, stop = [], threading.Event()

        def work():
            while not stop.is_set():
                made.append(sp.ssh("alice", "admin@core-01", "echo hello").code)

        t = threading.Thread(target=work)
        t.start()
        try:
            for n in range(1, 9):
                wait_for(lambda: len(made) >= n, 120, "a session")
                r = sp.host("verify", "--all", "--json")
                self.assertEqual([x for x in r.json() if x["verdict"] not in ("intact", "open")], [])
                self.assertEqual(r.code, 0, r.out)
        finally:
            stop.set()
            t.join(120)
        self.assertEqual(set(made), {0})

    def test_each_look_at_a_recording_is_a_leaf(self):
        """Replay, export and verification, on the host and over ssh: each adds one, with who it was."""
        s = session("echo looked at")
        raw = bytes.fromhex(s.replace("-", ""))
        sp.ssh("carol", "bastion", "whoami")

        def acts():
            return [(f["act"], f["actor"]) for k, _, f in tlogcheck.Log(tlog(), key).leaves() if k == "act" and f["session"] == raw]

        def ssh(*args):
            return lambda: sp.ssh("carol", "bastion", *args)

        def host(*args):
            return lambda: sp.host(*args)

        for what, act, look in (
                ("replay by ssh", 1, ssh("replay", s, "--speed", "1000")), ("replay on the host", 1, host("replay", s, "--speed", "1000")),
                ("export by ssh", 2, ssh("export", s, "--format", "asciicast")), ("export on the host", 2, host("export", s, "--format", "records")),
                ("verify by ssh", 6, ssh("verify", s)), ("verify on the host", 6, host("verify", s))):
            before = len(acts())
            r = look()
            self.assertEqual(r.code, 0, (what, r))
            new = wait_for(lambda: acts()[before:], 60, "a leaf of " + what)
            self.assertEqual([a for a, _ in new], [act], what)
            self.assertEqual("carol" in str(new[0][1]), "ssh" in what, (what, new))

    def test_proofs_are_good_for_another_program(self):
        s = session()
        got = sp.host("log", "prove", s, "--json", check=True).json()
        note = tlogcheck.Note(sp.host("log", "checkpoint", check=True).out).check(key)
        self.assertEqual([p["type"] for p in got][0], "open")
        old = tlogcheck.Log(tlog(), key)
        for p in got:
            tlogcheck.check_inclusion([base64.b64decode(x) for x in p["proof"]], p["index"], p["size"],
                                      tlogcheck.leaf_hash(base64.b64decode(p["entry"])), tlogcheck.root(old.hashes[:p["size"]]))
        self.assertGreaterEqual(note.size, got[-1]["size"])
        a = old.note
        session()
        c = sp.host("log", "consistency", str(a.size), "--json", check=True).json()
        b = tlogcheck.Note(c["checkpoint"].encode()).check(key)
        proof = [base64.b64decode(x) for x in c["proof"]]
        tlogcheck.check_consistency(proof, a.size, a.root, b.size, b.root)
        with self.assertRaises(tlogcheck.Bad):
            tlogcheck.check_consistency(proof, a.size, b.root, b.size, b.root)


class Confined(unittest.TestCase):
    """sallyport-verify reads what others wrote: it can open what its command line names, and nothing else."""

    def test_it_reads_what_it_was_given_and_nothing_else(self):
        session()
        top = stable("a head over all")
        argv = [sp.dir + "/opt/bin/sallyport-verify", "all", "--key", key.hex(), "--log", top + "/tlog",
                "--recordings", top + "/recordings", "--json", "--rows", "-"]
        p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(p.wait)
        self.addCleanup(p.kill)

        def status():
            with open("/proc/%d/status" % p.pid) as f:
                return dict(x.rstrip("\n").split(":\t", 1) for x in f if ":\t" in x)
        wait_for(lambda: status()["Seccomp"] == "2", 60, "its filter")
        self.assertEqual(status()["NoNewPrivs"], "1")
        out, err = p.communicate(sp.host("log", "rows", check=True).out, timeout=60)
        self.assertEqual(p.returncode, 0, (out, err))
        # the same tiles, but elsewhere: root could read them
        os.rename(top + "/tlog/tile", top + "/elsewhere")
        os.symlink(top + "/elsewhere", top + "/tlog/tile")
        code, got = verify_all(top)
        self.assertEqual(code, 1)
        self.assertNotIn("intact", [x["verdict"] for x in got if x["id"] == "log"], got)
        # and is allowed to, once they are named
        os.unlink(top + "/tlog/tile")
        os.rename(top + "/elsewhere", top + "/tlog/tile")
        self.assertEqual(verify_all(top)[0], 0)


class Lies(unittest.TestCase):
    """All is as it should be; then one thing after the other is not."""

    @classmethod
    def setUpClass(cls):
        cls.ids = [session("echo %d" % i) for i in range(3)]
        cls.rows = sp.host("log", "rows", check=True).out
        cls.top = stable("a head over all")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.top)

    def setUp(self):
        self.here = support.scratch("sp-lies-")
        for d in ("tlog", "recordings"):
            shutil.copytree(self.top + "/" + d, self.here + "/" + d)
        self.addCleanup(shutil.rmtree, self.here)
        self.s = self.ids[1]
        self.file = "%s/recordings/%s.spr" % (self.here, self.s)

    def found(self, name, verdict, *more, rows=None):
        code, got = verify_all(self.here, *more, rows=rows)
        self.assertEqual(code, 1)
        self.assertIn((name, verdict), [(x["id"], x["verdict"]) for x in got], got)
        return [x["text"] for x in got if x["id"] == name][0]

    def test_truth(self):
        code, got = verify_all(self.here, rows=self.rows)
        self.assertEqual(code, 0, got)
        self.assertEqual({x["verdict"] for x in got}, {"intact"})

    def test_deleted_file(self):
        os.unlink(self.file)
        self.found(self.s, "missing")

    def test_edited_file(self):
        with open(self.file, "r+b") as f:
            f.seek(700)
            b = f.read(1)
            f.seek(700)
            f.write(bytes([b[0] ^ 1]))
        self.found(self.s, "forged")

    def test_cut_file(self):
        os.truncate(self.file, os.path.getsize(self.file) - 10)
        self.found(self.s, "cut")
        argv = [sp.dir + "/opt/bin/sallyport-verify", "file", self.file, "--key", key.hex()]
        r = subprocess.run(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=60)
        self.assertRegex(r.stdout.decode(), r"\ACUT at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z: ")
        r = subprocess.run(argv + ["--json"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=60)
        self.assertRegex(json.loads(r.stdout)["cut_at"], r"Z$")

    def test_old_copy_put_back(self):
        """An earlier state of the same recording, whole in itself: its OPEN and the chunk behind it."""
        with open(self.file, "rb") as f:
            data = f.read()
        at = int.from_bytes(data[12:16], "little")
        for _ in range(2):
            at += 60 + int.from_bytes(data[at:at + 4], "little")
        with open(self.file, "wb") as f:
            f.write(data[:at])
        self.assertIn("CLOSE", self.found(self.s, "cut"))

    def test_another_recording_under_its_name(self):
        shutil.copy("%s/recordings/%s.spr" % (self.here, self.ids[0]), self.file)
        self.found(self.s + ".spr", "forged")

    def test_deleted_rows(self):
        mine = b"".join(x for x in self.rows.splitlines(True) if self.s.encode() not in x)
        self.found(self.s, "missing", rows=mine)
        event = [x for x in self.rows.splitlines(True) if x.startswith(b"event ")][7]
        node, seq = event.decode().split(" ")[1:3]
        self.found("%s:%s" % (node, seq), "missing", rows=self.rows.replace(event, b""))
        changed = event[:-3] + (b"00" if event[-3:-1] != b"00" else b"11") + b"\n"
        self.found("%s:%s" % (node, seq), "forged", rows=self.rows.replace(event, changed))

    def rebuild(self, entries):
        """A tree of these leaves, with a checkpoint of a key that is not the vault's."""
        other = tlogcheck.Witness("x").secret
        d = self.here + "/tlog"
        shutil.rmtree(d + "/tile")
        os.makedirs(d + "/tile/entries")
        for n in range(0, len(entries), 256):
            part = entries[n:n + 256]
            path = "%s/tile/entries/%s" % (d, tlogcheck.number(n // 256))
            if len(part) < 256:
                os.makedirs(path + ".p")
                path += ".p/%d" % len(part)
            with open(path, "wb") as f:
                f.write(b"".join(len(e).to_bytes(2, "big") + e for e in part))
        note = tlogcheck.Note(open(d + "/checkpoint", "rb").read())
        root = tlogcheck.root([tlogcheck.leaf_hash(e) for e in entries])
        text = ("%s\n%d\n%s\n" % (note.origin, len(entries), base64.b64encode(root).decode())).encode()
        blob = note.sigs[0][1][:4] + other.sign(text)
        return text, text + b"\n" + "— {} {}\n".format(note.origin, base64.b64encode(blob).decode()).encode()

    def test_a_tree_rebuilt_without_the_key(self):
        log = tlogcheck.Log(self.here + "/tlog", key)
        raw = bytes.fromhex(self.s.replace("-", ""))
        text, note = self.rebuild([e for e in log.entries if raw not in e])
        old = open(self.here + "/tlog/checkpoint", "rb").read()
        self.assertIn("missing, or cut", self.found("log", "forged"))
        with open(self.here + "/tlog/checkpoint", "wb") as f:
            f.write(note)
        self.assertIn("not signed", self.found("log", "forged"))
        # with a signature of the vault that is good, of another head
        entries = [e if raw not in e else e[:-1] + bytes([e[-1] ^ 1]) for e in log.entries]
        self.rebuild(entries)
        with open(self.here + "/tlog/checkpoint", "wb") as f:
            f.write(old)
        self.found("log", "forged")

    def is_superseded(self, path, size):
        """A tile that was partial under an earlier head: the specification lets it stand, nobody reads it any more."""
        m = re.search(r"/tile/(entries|\d+)/.*\.p/(\d+)$", path)
        return m is not None and int(m.group(2)) != (size >> (0 if m.group(1) == "entries" else 8 * int(m.group(1)))) % 256

    def test_a_byte_anywhere_in_the_tree(self):
        """In each of the log's files that an examiner reads, at its beginning, middle and end and at places that change with each run."""
        size = tlogcheck.Log(self.here + "/tlog", key).note.size
        files = [os.path.join(top, n) for top, _, names in os.walk(self.here + "/tlog/tile") for n in names]
        files = [f for f in files if not self.is_superseded(f, size)] + [self.here + "/tlog/checkpoint"]
        self.assertGreater(len(files), 2, files)
        for path in files:
            with open(path, "r+b") as f:
                data = f.read()
                self.assertTrue(data, path)
                for at in sorted({0, len(data) // 2, len(data) - 1} | {x * len(data) // 256 for x in os.urandom(3)}):
                    for new in (data[at] ^ 1 << at % 8, 0x41 if data[at] != 0x41 else 0x42):
                        os.pwrite(f.fileno(), bytes([new]), at)
                        code, got = verify_all(self.here)
                        self.assertEqual(code, 1, (path, at, new))
                        self.assertTrue([x for x in got if x["verdict"] not in ("intact", "open")], got)
                    os.pwrite(f.fileno(), data[at:at + 1], at)
            os.truncate(path, len(data) - 1)
            self.assertEqual(verify_all(self.here)[0], 1, path)
            with open(path, "wb") as f:
                f.write(data)
        self.assertEqual(verify_all(self.here)[0], 0)

    def test_a_fork_and_a_log_that_went_back(self):
        kept = sorted(os.listdir(self.here + "/tlog/checkpoints"))
        self.assertGreater(len(kept), 1)
        newest = self.here + "/newest"
        shutil.copy(self.here + "/tlog/checkpoint", newest)
        self.assertEqual(verify_all(self.here, "--expect", newest)[0], 0)
        # everything of the log is an older copy, in itself whole; a checkpoint from elsewhere knows better
        old = tlogcheck.Note(open("%s/tlog/checkpoints/%s" % (self.here, kept[len(kept) // 2]), "rb").read())
        log = tlogcheck.Log(self.here + "/tlog", key)
        self.rebuild(log.entries[:old.size])
        with open(self.here + "/tlog/checkpoint", "wb") as f:
            f.write(old.raw)
        for n in kept[len(kept) // 2 + 1:]:
            os.unlink("%s/tlog/checkpoints/%s" % (self.here, n))
        self.assertIn("went back", self.found("log", "forged", "--expect", newest))

    def test_how_far_it_is(self):
        """On a terminal a bar says how much of the log and of the recordings is read; elsewhere there is none."""
        argv = [sp.dir + "/opt/bin/sallyport-verify", "all", "--key", key.hex(), "--log", self.here + "/tlog", "--recordings", self.here + "/recordings"]
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        r = subprocess.run(argv, stdout=subprocess.PIPE, stderr=slave, stdin=subprocess.DEVNULL, timeout=120)
        os.close(slave)
        self.assertEqual(r.returncode, 0, r.stdout)
        seen = os.read(master, 1 << 20).decode()
        for what in ("leaves", "recordings"):
            done = [int(x) for x in re.findall(r"\r%s +\[#* *\] +(\d+) %%" % what, seen)]
            self.assertEqual(done, sorted(done), seen)
            self.assertEqual(done[-1], 100, seen)
        r = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=120)
        self.assertEqual((r.returncode, r.stderr), (0, b""))

    def test_one_file_offline(self):
        argv = [sp.dir + "/opt/bin/sallyport", "verify", self.file, "--key", key.hex(), "--log", self.here + "/tlog", "--json"]

        def verdict():
            r = subprocess.run(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=sp.env(), timeout=60)
            return json.loads(r.stdout)["verdict"], r.returncode
        self.assertEqual(verdict(), ("intact", 0))
        os.rename(self.file, self.file + "x")
        self.assertEqual(subprocess.run(argv, stdout=subprocess.PIPE, env=sp.env(), timeout=60).returncode, 1)
        os.rename(self.file + "x", self.file)
        os.truncate(self.file, os.path.getsize(self.file) - 1)
        self.assertEqual(verdict(), ("cut", 1))


WITNESS = """#!/usr/bin/python3
import base64, struct, sys, time
sys.path.insert(0, %r)
import tlogcheck
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
raw = sys.stdin.buffer.read()
proof, _, note = raw.partition(b"\\n\\n")
lines = proof.decode().split("\\n")
note = tlogcheck.Note(note).check(bytes.fromhex(%r))
state = %r
try:
    old = tlogcheck.Note(open(state, "rb").read())
except FileNotFoundError:
    old = None
if int(lines[0].split(" ")[1]) != (old.size if old else 0):
    print(old.size if old else 0)
    sys.exit(0)
if old:
    tlogcheck.check_consistency([base64.b64decode(x) for x in lines[1:]], old.size, old.root, note.size, note.root)
open(state, "wb").write(note.raw)
t = int(time.time())
sig = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(%r)).sign(b"cosignature/v1\\ntime %%d\\n" %% t + note.text)
sys.stdout.buffer.write(("\u2014 %%s " %% %r).encode() + base64.b64encode(bytes.fromhex(%r) + struct.pack(">Q", t) + sig) + b"\\n")
"""

TSA_CONF = """[tsa]
default_tsa = t
[t]
serial = {0}/serial
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
"""

TSA = """#!/bin/sh
q=$(mktemp {0}/q.XXXXXX); cat > $q
openssl ts -reply -queryfile $q -config {0}/conf -section t -inkey {0}/key.pem -signer {0}/cert.pem -out $q.r >/dev/null 2>&1
cat $q.r; rm -f $q $q.r
"""


class Outside(unittest.TestCase):
    """Who cosigns, who stamps, and the system's log."""

    def setUp(self):
        self.top = support.scratch("sp-out-")
        self.addCleanup(shutil.rmtree, self.top)
        os.chmod(self.top, 0o777)

    def script(self, name, text):
        with open("%s/%s" % (self.top, name), "w") as f:
            f.write(text)
        os.chmod(f.name, 0o755)
        return f.name

    def witness(self, name):
        w = tlogcheck.Witness(name)
        secret = w.secret.private_bytes_raw() if hasattr(w.secret, "private_bytes_raw") else w.secret.private_bytes(
            tlogcheck.Encoding.Raw, tlogcheck.PrivateFormat.Raw, tlogcheck.NoEncryption())
        support_dir = self.top + "/lib"
        if not os.path.isdir(support_dir):
            os.mkdir(support_dir, 0o755)
            shutil.copy(tlogcheck.__file__, support_dir)
        path = self.script(name.replace("/", "-"), WITNESS % (
            support_dir, key.hex(), "%s/state-%s" % (self.top, name.replace("/", "-")), secret.hex(), name,
            tlogcheck.key_id(name, 4, w.key).hex()))
        return w, "%s %s" % (w.vkey(), path)

    def authority(self):
        d = self.top + "/tsa"
        os.mkdir(d)
        with open(d + "/ext", "w") as f:
            f.write("[x]\nextendedKeyUsage = critical,timeStamping\nbasicConstraints = critical,CA:false\n[req]\n"
                    "distinguished_name = dn\n[dn]\n")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                        "/CN=tsa", "-keyout", d + "/key.pem", "-out", d + "/cert.pem", "-days", "2", "-config", d + "/ext",
                        "-extensions", "x"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with open(d + "/conf", "w") as f:
            f.write(TSA_CONF.format(d))
        with open(d + "/serial", "w") as f:
            f.write("01\n")
        for n in os.listdir(d):
            os.chmod("%s/%s" % (d, n), 0o666)
        os.chmod(d, 0o777)
        return d, self.script("stamp", TSA.format(d))

    def test_witnesses_and_time_stamps(self):
        good, one = self.witness("w.example/good")
        liar, two = self.witness("w.example/liar")
        two = two.replace(liar.vkey(), tlogcheck.Witness("w.example/liar").vkey())  # its answers are another's
        d, stamp = self.authority()
        sp.configure(log_publish_s=1, log_witness="%s ; %s" % (one, two), log_timestamp=stamp)
        sp.host("stop", check=True, timeout=120)
        sp.host("start", check=True, timeout=120)
        sp.end_mux("alice")
        sp.fresh_code("alice")
        session()

        def cosigned():
            found = []
            for n in sorted(os.listdir(tlog() + "/checkpoints")):
                if n.isdigit():
                    with open("%s/checkpoints/%s" % (tlog(), n), "rb") as f:
                        note = tlogcheck.Note(f.read()).check(key)
                    self.assertNotIn("w.example/liar", [x[0] for x in note.sigs])
                    if note.cosigned(good.name, good.key):
                        found.append(note.size)
            return found
        wait_for(cosigned, 60, "a cosignature")
        more = cosigned()
        last = session()
        wait_for(lambda: len(cosigned()) > len(more), 60, "another, with a proof from the first")
        wait_for(lambda: sp.audit("log_not_cosigned"), 60, "the audit of the other witness")
        stamped = wait_for(lambda: [n for n in os.listdir(tlog() + "/checkpoints") if n.endswith(".tsr")], 60, "a stamp")
        got = sp.host("log", "stamps", "--tsa", d + "/cert.pem", "--json", check=True).json()
        self.assertTrue(all(x["good"] and "GMT" in x["at"] for x in got), got)
        # OpenSSL's own tool says the same; and of another checkpoint nothing
        with open("%s/checkpoints/%s" % (tlog(), stamped[0][:13]), "rb") as f:
            lines = f.read().split(b"\n")
        with open(self.top + "/note", "wb") as f:
            f.write(b"\n".join(lines[:5]) + b"\n")
        check = ["openssl", "ts", "-verify", "-in", "%s/checkpoints/%s" % (tlog(), stamped[0]), "-CAfile", d + "/cert.pem"]
        self.assertEqual(subprocess.run(check + ["-data", self.top + "/note"], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL).returncode, 0)
        other = self.authority_of_nobody()
        self.assertEqual(sp.host("log", "stamps", "--tsa", other).code, 1)
        self.in_a_bundle(last, d + "/cert.pem", other)
        sp.configure(log_publish_s=1, log_witness="", log_timestamp="")

    def in_a_bundle(self, session_id, good, bad):
        """An evidence bundle brings them along, and the step of its README says whether they are good."""
        path = self.top + "/bundle.tar"
        sp.host("evidence", session_id, "--out", path, check=True, timeout=180)
        subprocess.run(["tar", "-xf", path, "-C", self.top], check=True)
        d = "%s/%s" % (self.top, session_id)
        with open(d + "/README.txt") as f:
            steps = [x.strip() for x in f if x.startswith("       ")]
        at = [i for i, x in enumerate(steps) if "openssl ts -verify" in x][0]
        stamps = [n[:13] for n in os.listdir(d + "/published") if n.endswith(".tsr")]
        self.assertTrue(stamps, os.listdir(d + "/published"))
        for n in stamps:
            for cert, code in ((good, 0), (bad, 1)):
                script = "\n".join(steps[at - 1:at + 1]).replace("TSA.pem", cert).replace("/N", "/" + n).replace("N.one", n + ".one")
                r = subprocess.run(["sh", "-ec", script], cwd=d, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
                self.assertEqual(r.returncode, code, (script, r.stdout))

    def test_the_systems_log_has_each_checkpoint(self):
        """Who keeps the lines of another machine's syslog has the heads: each is signed by the vault."""
        if os.path.lexists("/dev/log") or os.getuid() != 0:
            self.skipTest("a syslog runs here, or only root can be one")
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        s.bind("/dev/log")
        self.addCleanup(os.unlink, "/dev/log")
        self.addCleanup(s.close)
        s.settimeout(60)
        id_ = session()
        origin = tlogcheck.Log(tlog(), key).note.origin
        raw, size = bytes.fromhex(id_.replace("-", "")), 0
        at = [i for i, (k, _, f) in enumerate(tlogcheck.Log(tlog(), key).leaves()) if k == "close" and f["session"] == raw][0]
        while size <= at:
            line = s.recv(4096).decode()
            if "checkpoint " + origin not in line:
                continue
            name, n, root, sig = line[line.index("checkpoint ") + 11:].strip("\0\n ").split(" ")
            size = int(n)
            text = "%s\n%s\n%s\n" % (name, n, root)
            tlogcheck.Note((text + "\n\u2014 %s %s\n" % (name, sig)).encode()).check(key)
            with open("%s/checkpoints/%013d" % (tlog(), size), "rb") as f:
                self.assertEqual(tlogcheck.Note(f.read()).text.decode(), text)

    def authority_of_nobody(self):
        path = self.top + "/other.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                        "/CN=tsa", "-keyout", self.top + "/other.key", "-out", path, "-days", "2"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return path


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Zzz(unittest.TestCase):
    """Last: the instance's own log. A notary that finds another tree takes nothing, and nobody gets in."""

    def test_restart_refuses_a_tree_that_was_changed(self):
        session()
        stable("a head over all")
        pid = sp.pids("notary")[0][0]
        os.kill(pid, 9)
        wait_for(lambda: [p for p in sp.pids("notary")[0] if p != pid], 60, "a new notary")
        session()  # goes on as if nothing had been
        sp.host("stop", check=True, timeout=120)
        subprocess.run(["cp", "-a", tlog(), tlog() + ".good"], check=True)
        with open(tlog() + "/journal", "r+b") as f:
            f.truncate(300)
        altered = now()
        sp.host("start", check=True, timeout=120)
        st = wait_for(lambda: (lambda s: s if s.get("state") == "altered" else None)(sp.host("log", "status", "--json").json()), 60,
                      "its verdict")
        self.assertIn("taken away", st["text"])
        sp.end_mux("alice")
        sp.fresh_code("alice")
        r = sp.ssh("alice", "admin@core-01", "true", timeout=120)
        self.assertNotEqual(r.code, 0)
        self.assertIn("transparency log", r.text)
        wait_for(lambda: sp.audit("log_altered"), 60, "the audit event")
        self.assertIn("transparency log", sp.host("doctor", timeout=120).text)
        sp.host("stop", check=True, timeout=120)
        good = now()
        shutil.rmtree(tlog())
        os.rename(tlog() + ".good", tlog())
        sp.host("start", check=True, timeout=120)
        sp.end_mux("alice")
        sp.fresh_code("alice")
        session()
        # Who tried meanwhile has a recording of nothing, and the log has none; that of a recorder which ended before its session had
        # a row is an orphan.
        refused = [x["id"] for x in sp.sessions() if "transparency log" in (x.get("reason") or "") or
                   (x["kind"], x["bytes_in"], x["bytes_out"]) == ("orphan", 0, 0) and altered <= x["started"] <= good]
        got = sp.host("verify", "--all", "--json", timeout=120).json()
        wrong = [x["id"] for x in got if x["verdict"] not in ("intact", "recovered", "open")]
        self.assertEqual([x for x in sp.sessions() if x["id"] in set(wrong) - set(refused)], [])
        self.assertLessEqual(set(wrong), set(refused))
        self.assertEqual([x["verdict"] for x in got if x["id"] == "log"], ["intact"])

    def test_then_root_signs_a_fork(self):
        """Who has root while the vault is open puts back all of the log, the vault's memory of it included, and lets it sign on: in
        itself that is whole. The checkpoint that was published meanwhile says what happened."""
        def put(from_, to):
            shutil.rmtree(to + "/tlog", ignore_errors=True)
            subprocess.run(["cp", "-a", from_ + "/tlog", to + "/tlog"], check=True)
            subprocess.run(["cp", "-a", from_ + "/vault/loghead", to + "/vault/loghead"], check=True)

        def afresh():
            sp.host("start", check=True, timeout=120)
            sp.end_mux("alice")
            sp.fresh_code("alice")
            session()

        old = support.scratch("sp-old-")
        os.mkdir(old + "/vault")
        sp.host("stop", check=True, timeout=120)
        put(sp.dir, old)
        afresh()
        top = stable("a head over the first way")
        witnessed = top + "/witnessed"
        shutil.copy(top + "/tlog/checkpoint", witnessed)
        size = tlogcheck.Note(open(witnessed, "rb").read()).size
        sp.host("stop", check=True, timeout=120)
        put(old, sp.dir)
        afresh()
        for _ in range(20):
            if tlogcheck.Log(tlog(), key).note.size > size:
                break
            session()
        top = stable("a head over the second way")
        self.assertNotIn("fork", str([x for x in verify_all(top)[1] if x["id"] == "log"]))
        code, got = verify_all(top, "--expect", witnessed)
        self.assertEqual(code, 1)
        self.assertEqual([x["verdict"] for x in got if x["id"] == "log"][-1:], ["forged"], got)
        self.assertRegex(str([x["text"] for x in got if x["id"] == "log"]), "fork|not the tree|another")


if __name__ == "__main__":
    support.main()
