# SPDX-License-Identifier: Apache-2.0
"""Recordings sealed to auditors alone: the bastion verifies what it cannot open; auditors open it on a machine without a bastion,
keystrokes by two of them; and a second reader, written from the specification, agrees with ours about every kind of session and about
every damage."""
import base64
import glob
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import threading
import unittest

from nacl.public import PrivateKey
from nacl.pwhash import argon2id
from nacl.secret import SecretBox

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, TOP + "/support")
sys.path.insert(0, TOP + "/recording")
import reader  # noqa: E402
import verdict  # noqa: E402
from sp import Instance, free_port, main, scratch, wait_for  # noqa: E402

POLICY = """
network loopback 127.0.0.0/8, ::1
permit "all" who group operators on tag core as admin when source in loopback require mfa totp for 8h
  allow shell, exec, subsystem, upload, download, forward to "127.0.0.1:*" record files full
"""
PASS = "correct horse %s battery"
LINE, LINES = 41, 46
MARK = "marker-%d" % random.randrange(10 ** 9)


def setUpModule():
    global sp, work, keys, recorded
    sp = Instance(policy=POLICY)
    sp.add_person("ann", "operators")
    work = scratch("sp-auditor-")
    for name in ("anna", "ben", "carl", "eve"):
        make_identity(name)
    keys = {n: away("identity", "show", work + "/" + n).out.decode().strip() for n in ("anna", "ben", "carl", "eve")}
    sp.host("stop", check=True)
    sp.configure(recordings_sealed_to="auditors", recording_keys="2 of anna ben carl", recording_files="ben",
                 recording_auditors=" ".join("%s=%s" % (n, keys[n]) for n in ("anna", "ben", "carl")))
    sp.host("start", check=True)
    sp.fresh_code("ann")
    recorded = record_all()


def tearDownModule():
    sp.close()
    shutil.rmtree(work, ignore_errors=True)


def away(*args, passphrases=()):
    """`sallyport ARGS` on an auditor's machine: there is no instance here."""
    o = sp.dir + "/opt"
    env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "SALLYPORT_LIBEXEC": o + "/libexec/sallyport"}
    p = subprocess.run([o + "/bin/sallyport", "-D", work + "/none"] + list(args), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       input="".join(x + "\n" for x in passphrases).encode(), timeout=120, cwd=work)
    return type(sp.host("status"))(p.returncode, p.stdout, p.stderr)


def make_identity(name):
    r = away("identity", "new", work + "/" + name, passphrases=[PASS % name])
    assert r.code == 0, r


def identity_args(names):
    return [x for n in names for x in ("--identity", work + "/" + n)]


def export(path, names, *more):
    return away("export", path, "--format", "records", *more, *identity_args(names), passphrases=[PASS % n for n in names])


def session_of(do):
    """Runs it in a connection of its own; a copy of the recording it made."""
    before = set(glob.glob(sp.dir + "/recordings/*.spr"))
    do()
    sp.end_mux("ann")
    new = wait_for(lambda: [f for f in glob.glob(sp.dir + "/recordings/*.spr") if f not in before], 60, "a closed recording")
    assert len(new) == 1, new
    copy = work + "/" + os.path.basename(new[0])
    shutil.copy(new[0], copy)
    return copy


def ssh(*args, input=None):
    sp.fresh_code("ann")
    r = sp.ssh("ann", *args, input=input)
    assert r.code == 0, r
    return r


def copy_files(program, *args, input=None):
    sp.fresh_code("ann")
    p = subprocess.run([program, "-F", "%s/people/ann/ssh_config" % sp.dir, *args], input=input, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, timeout=120, env=sp.ssh_env("ann"))
    assert p.returncode == 0, p


def forward():
    """Bytes through -W to a listener that sends them back."""
    s = socket.create_server(("127.0.0.1", 0))
    def echo():
        c, _ = s.accept()
        with c:
            c.sendall(c.recv(100))
    t = threading.Thread(target=echo, daemon=True)
    t.start()
    sp.fresh_code("ann")
    r = sp.ssh("ann", "-W", "127.0.0.1:%d" % s.getsockname()[1], "admin@core-01", input=b"through\n")
    t.join(60)
    s.close()
    assert r.out == b"through\n", r


def record_all():
    with open(work + "/up", "wb") as f:
        f.write(b"body of a file, kept: " + MARK.encode() + os.urandom(3000))
    return {
        "exec": session_of(lambda: ssh("admin@core-01", "cat; seq 20000; echo err >&2", input=MARK.encode())),
        "shell": session_of(lambda: ssh("-tt", "admin@core-01", input=b"stty -echo; echo shown-$((6*7))\nexit\n")),
        "sftp": session_of(lambda: copy_files("sftp", "-b", "-", "admin@core-01", input=("put %s/up up-1\nget up-1 %s/back\n" % (
            work, work)).encode())),
        "scp": session_of(lambda: copy_files("scp", "-O", work + "/up", "admin@core-01:up-2")),
        "forward": session_of(forward),
        "bulk": session_of(lambda: ssh("admin@core-01", "head -c 3000000 /dev/urandom")),
    }


def audit_key():
    return sp.host("vault", "status", "--json", check=True).json()["audit_key"]


def identity(name):
    lines = dict(x.split(" ", 1) for x in open(work + "/" + name).read().split("\n")[1:] if x)
    ops, mem, salt = lines["argon2id"].split(" ")
    key = argon2id.kdf(32, (PASS % name).encode(), bytes.fromhex(salt), int(ops), int(mem))
    return PrivateKey(SecretBox(key).decrypt(bytes.fromhex(lines["secret"])))


def put_varint(v):
    return bytes([v]) if v < 128 else bytes([v & 0x7f | 0x80]) + put_varint(v >> 7)


def in_lines(us, lane, kind, channel, text):
    """The LINE records that a LINES record stands for: ours prints those."""
    if (lane, kind) != (5, LINES):
        return [(us, lane, kind, channel, text)]
    (n,), at = reader.varints(text, 0, 1)
    numbers, at = reader.varints(text, at, 2 * n)
    lines = text[at:].split(b"\r\n")
    assert len(lines) == n
    return [(us, lane, LINE, channel, put_varint(numbers[0] - sum(numbers[1:i + 1])) + put_varint(numbers[n + i]) + lines[i]) for i in range(n)]


def theirs(path, names):
    """The second reader's records as ours prints them."""
    rows = reader.records(open(path, "rb").read(), [identity(n) for n in names])
    return [x for r in rows for x in in_lines(*r)]


def ours(r):
    lanes = {"out": 1, "in": 2, "meta": 3, "file": 4, "view": 5}
    rows = [json.loads(x) for x in r.out.decode().splitlines()]
    return [(x["us"], lanes[x["lane"]], x["kind"], x["channel"], base64.b64decode(x["data"])) for x in rows]


class Strict(unittest.TestCase):
    def test_the_bastion_cannot_open_what_it_wrote(self):
        for path in recorded.values():
            session = os.path.basename(path)[:-4]
            for verb in (["replay", session], ["export", session, "--format", "asciicast"], ["export", session, "--format", "records"]):
                r = sp.host(*verb)
                self.assertNotEqual(r.code, 0, r)
                self.assertIn("sealed to auditors", r.text)
                self.assertNotIn(MARK, r.text)
            r = sp.host("verify", session, "--json")
            self.assertEqual((r.code, r.json()["verdict"]), (0, "intact"), r)
            sealed = {x["lane"]: x for x in r.json()["sealed"]}
            self.assertEqual(set(sealed["screen"]["keys"]), {keys[n] for n in ("anna", "ben", "carl")})
            self.assertEqual((sealed["keys"]["threshold"], sealed["screen"]["threshold"]), (2, 1))
            self.assertEqual(sealed["files"]["keys"], [keys["ben"]])

    def test_a_search_says_what_it_could_not_look_through(self):
        for lane in ("screen", "commands", "keys", "files"):
            r = sp.host("search", MARK, "--lane", lane)
            self.assertEqual(r.code, 0, r)
            self.assertIn("0 found in 0 of %d recordings" % len(recorded), r.text)
            self.assertIn("%d keep what was asked for from this bastion" % len(recorded), r.text)

    def test_what_was_put_in_its_place_is_found(self):
        """An older copy, another session's recording, none: each is told from what the audit log knows."""
        mine, other = (sp.dir + "/recordings/" + os.path.basename(recorded[n]) for n in ("scp", "sftp"))
        session = os.path.basename(mine)[:-4]
        d = open(mine, "rb").read()
        c = chunks(d)
        def verdict():
            return sp.host("verify", session, "--json")
        try:
            for cut in (c[-1], c[2]):
                with open(mine, "wb") as f:
                    f.write(d[:cut])
                r = verdict()
                self.assertNotEqual(r.code, 0)
                self.assertEqual(r.json()["verdict"], "cut", r)
            shutil.copy(other, mine)
            r = verdict()
            self.assertNotEqual(r.code, 0)
            self.assertEqual(r.json()["verdict"], "forged", r)
            os.unlink(mine)
            r = verdict()
            self.assertNotEqual(r.code, 0)
            self.assertIn("MISSING", r.text)
        finally:
            with open(mine, "wb") as f:
                f.write(d)
        self.assertEqual(verdict().json()["verdict"], "intact")

    def test_one_auditor_sees_the_screen_two_see_the_keys(self):
        one = ours(export(recorded["exec"], ["anna"]))
        self.assertIn(MARK.encode(), b"".join(x[4] for x in one if x[1] == 1))
        self.assertEqual([x for x in one if x[1] == 2], [])
        r = export(recorded["exec"], ["anna"])
        self.assertIn("2 of them are needed", r.err.decode())
        for pair in (["anna", "ben"], ["carl", "anna"]):
            two = ours(export(recorded["exec"], pair))
            self.assertEqual(b"".join(x[4] for x in two if x[1] == 2 and x[2] == "in"), MARK.encode())

    def test_replay_and_cast_without_a_bastion(self):
        r = away("replay", recorded["shell"], *identity_args(["ben"]), "--key", audit_key(), passphrases=[PASS % "ben"])
        self.assertEqual(r.code, 0, r)
        self.assertIn(b"shown-42", r.out)
        r = away("export", recorded["shell"], "--format", "asciicast", *identity_args(["ben"]), passphrases=[PASS % "ben"])
        self.assertEqual(r.code, 0, r)
        self.assertEqual(json.loads(r.out.split(b"\n")[0])["version"], 2)
        self.assertIn("not checked", r.err.decode())
        r = away("verify", recorded["shell"], *identity_args(["ben"]), "--key", audit_key(), "--json", passphrases=[PASS % "ben"])
        self.assertEqual(r.code, 0, r)
        v = json.loads(r.out)
        self.assertEqual((v["verdict"], v["screens"]["false"]), ("intact", 0))
        self.assertEqual(v["screens"]["same"], v["screens"]["count"])
        r = away("verify", recorded["shell"], *identity_args(["ben"]), "--key", "00" * 32, passphrases=[PASS % "ben"])
        self.assertEqual(r.code, 1, r)
        self.assertIn(b"UNKNOWN", r.out)

    def test_bodies_of_files_are_for_who_may_open_them(self):
        with open(work + "/up", "rb") as f:
            body = f.read()
        for name, ways in (("sftp", {"up", "down"}), ("scp", {"up"})):
            for who in ("anna", "ben"):
                out = "%s/%s-%s" % (work, name, who)
                r = away("files", recorded[name], "--extract", out, "--json", *identity_args([who]), passphrases=[PASS % who])
                self.assertEqual(r.code, 0, r)
                rows = [json.loads(x) for x in r.out.decode().splitlines()]
                if who == "anna":
                    self.assertEqual({x["result"] for x in rows}, {"not kept"})
                    self.assertEqual(os.listdir(out), [])
                    continue
                self.assertEqual([x["result"] for x in rows], ["good"] * len(ways), rows)
                self.assertEqual({x["name"].split("-")[1] for x in rows}, ways)
                for x in rows:
                    with open(out + "/" + x["name"], "rb") as f:
                        self.assertEqual(f.read(), body)
            seen = ours(export(recorded[name], ["anna"]))
            self.assertNotIn(MARK.encode(), b"".join(x[4] for x in seen))

    def test_who_is_not_named_opens_nothing(self):
        r = export(recorded["exec"], ["eve"])
        self.assertNotEqual(r.code, 0)
        self.assertIn("not sealed to", r.text)
        r = away("export", recorded["exec"], "--format", "records", *identity_args(["anna"]), passphrases=["wrong passphrase"])
        self.assertNotEqual(r.code, 0)
        self.assertIn("wrong passphrase", r.text)
        self.assertEqual(r.out, b"")

    def test_a_false_configuration_is_refused_and_the_old_one_goes_on(self):
        with open(sp.dir + "/sallyport.conf") as f:
            text = f.read()
        sp.configure(recordings_sealed_to="nobody-we-know")
        try:
            r = sp.host("reload")
            self.assertNotEqual(r.code, 0, r)
            self.assertIn("nobody-we-know", r.text)
        finally:
            with open(sp.dir + "/sallyport.conf", "w") as f:
                f.write(text)
        self.assertEqual(sp.host("reload").code, 0)


class SecondReader(unittest.TestCase):
    def test_it_reads_what_ours_reads(self):
        kinds = set()
        for name, path in recorded.items():
            data = open(path, "rb").read()
            self.assertEqual(verdict.verify(data, bytes.fromhex(audit_key())), "intact", name)
            self.assertEqual(reader.Header(data).version, 5)
            who = ["ben", "carl"] if name != "forward" else ["anna"]
            r = export(path, who)
            self.assertEqual(r.code, 0, r.err)
            a, b = ours(r), theirs(path, who)
            self.assertEqual([x[:2] + x[3:] for x in a], [x[:2] + x[3:] for x in b], name)
            self.assertGreater(len(a), 3)
            kinds |= {x[2] for x in b}
        self.assertLessEqual({1, 2, 3, 4, 5, 10, 11, 13, 15, 16, 17, 24, 45}, kinds)

    def test_it_says_the_same_of_every_damage(self):
        key = audit_key()
        r = random.Random(20)
        whole = {n: open(recorded[n], "rb").read() for n in ("shell", "scp", "bulk")}
        spots = {n: chunks(d) for n, d in whole.items()}
        damaged = []
        for n, d in whole.items():
            for _ in range(24):
                at = r.randrange(len(d))
                damaged.append(d[:at] + bytes([d[at] ^ 1 << r.randrange(8)]) + d[at + 1:])
            damaged += [d[:at] for at in [0, 5, 12, 100] + [r.randrange(len(d)) for _ in range(8)]]
            c = spots[n]
            damaged += [d[:x] for x in r.sample(c, 4)] + [d + b"x", d + d[c[-1]:], d[:c[2]] + d[c[3]:]]
            damaged.append(d[:c[1]] + d[c[2]:c[3]] + d[c[1]:c[2]] + d[c[3]:])
        d = whole["shell"]
        groups = 84 + 32 * d[81]
        for at in [3, 8, 9, 10, 14, 80, 81, 82] + list(range(groups, groups + 6)):
            damaged.append(d[:at] + bytes([d[at] ^ 1 << r.randrange(8)]) + d[at + 1:])
        damaged.append(whole["shell"][:spots["shell"][3]] + whole["scp"][spots["scp"][3]:])
        said = {}
        for i, d in enumerate(damaged):
            path = work + "/damaged"
            with open(path, "wb") as f:
                f.write(d)
            v = json.loads(away("verify", path, "--key", key, "--json").out)["verdict"]
            self.assertEqual(verdict.verify(d, bytes.fromhex(key)), v, "case %d" % i)
            self.assertIn(v, ("forged", "cut", "unknown", "open"), "case %d" % i)
            said[v] = said.get(v, 0) + 1
        self.assertEqual(set(said), {"forged", "cut", "unknown", "open"}, said)

    def test_a_known_head_tells_a_short_copy(self):
        d = open(recorded["shell"], "rb").read()
        c = chunks(d)
        head = d[c[-1] + 28:c[-1] + 60]
        key = bytes.fromhex(audit_key())
        self.assertEqual(verdict.verify(d, key, head), "intact")
        self.assertEqual(verdict.verify(d[:c[-1]], key, head), "cut")
        self.assertEqual(verdict.verify(d, key, bytes(32)), "forged")


def chunks(d):
    """Where they begin."""
    at, all = reader.Header(d).length, []
    while at < len(d):
        all.append(at)
        at += 60 + struct.unpack_from("<I", d, at)[0]
    return all


if __name__ == "__main__":
    main()
