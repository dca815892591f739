# SPDX-License-Identifier: Apache-2.0
"""Canaries: a secret of each kind that nothing else holds is planted, everything is done with it that can be done and that can go
wrong, and then all that is left is searched for it: logs, database with its files, recordings, cores, what programs printed, the
backup, and the memory of every process but the vault. In clear, base64 at each of its three phases, base32, hexadecimal, UTF-16.

A further kind joins by a row in KINDS: how it is planted (its secrets are returned), and what is done with it."""
import base64
import os
import re
import secrets
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance, main, read_until, wait_for  # noqa: E402
from target import ROOT, Target, reach  # noqa: E402

POLICY = """
network loopback 127.0.0.0/8, ::1
permit "free" who group operators on tag t as admin, legacy when source in loopback require mfa totp for 1h
permit "core" who group operators on tag core as admin, legacy when source in loopback require mfa totp for 1h
"""
SCANNED = ("ingress", "broker", "recorder", "auth", "egress", "egress-sql", "player")
printed = []


def setUpModule():
    global sp, key_target
    sp = Instance(policy=POLICY)
    sp.add_person("oscar", "operators")
    key_target = Target(sp, "t-key")
    reach(sp, "oscar", "t-*")


def tearDownModule():
    sp.close()


def noted(r):
    printed.append(r.out + b"\n" + r.err)
    return r


def host(*args, **k):
    return noted(sp.host(*args, **k))


def ssh(*args, **k):
    return noted(sp.ssh("oscar", *args, timeout=120, **k))


def word():
    return ("c4n4ry" + secrets.token_hex(16)).encode()


# ------------------------------------------------------------------------ kinds
def plant_password():
    """The one that the target has, and one that it has not."""
    with open(sp.dir + "/target/legacy.password", "rb") as f:
        right = f.read().strip()
    wrong = word()
    host("secret", "set", "legacy@core-01", "--password-stdin", input=wrong + b"\n", check=True)
    return [right, wrong]


def use_password(found):
    assert ssh("legacy@core-01", "true").code != 0
    host("secret", "set", "legacy@core-01", "--password-stdin", input=found[0] + b"\n", check=True)
    assert ssh("legacy@core-01", "echo in").out == b"in\n"
    die_in("legacy@core-01")


def plant_key():
    """A key with a passphrase: both are secrets, and so is what is in between."""
    path, phrase = sp.dir + "/canary_key", word()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True, stdin=subprocess.DEVNULL)
    with open(path, "rb") as f:
        blob = base64.b64decode(b"".join(f.read().split(b"\n")[1:-2]))
    at = blob.rindex(b"\0\0\0\x40") + 4
    seed = blob[at:at + 32]
    with open(path + ".pub") as f, open(key_target.dir + "/keys-legacy", "w") as g:
        g.write(f.read())
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", phrase.decode(), "-f", path], check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL)
    with open(path + ".phrase", "wb") as f:
        f.write(phrase + b"\n")
    host("account", "add", "legacy@t-key", "--kind", "key", "--key-file", path, "--passphrase-file", path + ".phrase", check=True)
    os.unlink(path)
    os.unlink(path + ".phrase")
    return [seed, phrase]


def use_key(found):
    assert ssh("legacy@t-key", "echo in").out == b"in\n"
    die_in("legacy@t-key")
    with open(key_target.dir + "/keys-legacy", "w") as g:
        g.write("")
    assert ssh("legacy@t-key", "true").code != 0


def plant_totp():
    r = sp.host("users", "totp", "oscar", "--json", check=True)     # shows it, once: that is what it is for
    with open(sp.dir + "/people/oscar/totp.secret", "w") as f:
        f.write(r.json()["secret"] + "\n")
    if os.path.exists(sp.dir + "/people/oscar/totp.used"):
        os.unlink(sp.dir + "/people/oscar/totp.used")
    text = r.json()["secret"].encode()
    return [text, base64.b32decode(text + b"=" * (-len(text) % 8))]


def use_totp(found):
    sp.end_mux("oscar")
    assert ssh("bastion", "whoami").code == 0
    askpass = sp.dir + "/people/oscar/askpass"
    with open(askpass) as f:
        good = f.read()
    with open(askpass, "w") as f:
        f.write("#!/bin/sh\necho 000000\n")
    assert ssh("bastion", "whoami", mux=False, opts=["NumberOfPasswordPrompts=1"]).code != 0
    with open(askpass, "w") as f:
        f.write(good)


def plant_slot():
    """The passphrases of the vault and of a backup."""
    slot, phrase = word(), word()
    host("vault", "slots", "add", "passphrase", "--label", "canary", input=slot + b"\n", check=True)
    with open(sp.dir + "/phrase", "wb") as f:
        f.write(phrase + b"\n")
    host("backup", sp.dir + "/canary.spb", "--passphrase-file", sp.dir + "/phrase", check=True, timeout=180)
    os.unlink(sp.dir + "/phrase")
    return [slot, phrase]


def use_slot(found):
    host("vault", "seal", check=True)
    assert ssh("admin@core-01", "true", mux=False).code != 0
    assert host("vault", "unseal", input=b"not-" + found[0] + b"\n").code != 0
    host("vault", "unseal", input=found[0] + b"\n", check=True)
    assert host("backup", "--verify", sp.dir + "/canary.spb", "--passphrase", input=found[1] + b"\n").code == 0


KINDS = [("password", plant_password, use_password), ("key", plant_key, use_key), ("totp", plant_totp, use_totp),
         ("slot", plant_slot, use_slot)]


def is_quiet():
    """Nothing runs, as far as the bastion can say."""
    r = sp.host("sessions", "--json")
    return r.code == 0 and r.json() == [] and "open" in sp.host("status").text


def die_in(where):
    """A session whose egress is killed in the middle, and one that a dying broker ends."""
    for role in ("egress", "broker"):
        p = sp.ssh_start("oscar", where, "echo up; cat", stdin=subprocess.PIPE)
        read_until(p.stdout, b"up\n", 60)
        parents, kids = sp.pids(role)
        os.kill((kids or parents)[-1], signal.SIGKILL)
        p.wait(60)
        out = p.stdout.read() + p.stderr.read()
        printed.append(out)
        sp.drop(p)
        wait_for(is_quiet, 60, "the end of it")


# ---------------------------------------------------------------------- searching
def forms(secret):
    found = {"clear": secret, "hex": secret.hex().encode(), "HEX": secret.hex().upper().encode(),
             "base32": base64.b32encode(secret).rstrip(b"=")}
    for phase in range(3):
        b = base64.b64encode(b"\0" * phase + secret)
        # the characters that depend on this secret alone
        found["base64-%d" % phase] = b[(phase * 8 + 5) // 6:len(secret + b"\0" * phase) * 8 // 6]
    try:
        text = secret.decode("ascii")
        found["utf-16-le"], found["utf-16-be"] = text.encode("utf-16-le"), text.encode("utf-16-be")
    except UnicodeDecodeError:
        pass
    return found


class Needles:
    """All forms of all secrets."""

    def __init__(self, planted):
        self.all = [("%s %s" % (kind, form), b) for kind, found in planted.items() for s in found for form, b in forms(s).items()]
        assert all(len(b) >= 16 for _, b in self.all)

    def find(self, where, data, hits):
        hits.extend("%s in %s" % (name, where) for name, b in self.all if b in data)


def memory_of(pid):
    """What a process can write to, piece by piece; the pieces overlap by nothing, as no secret crosses two mappings."""
    with open("/proc/%d/maps" % pid) as f:
        maps = [m for m in f if " rw" in m and "[vvar" not in m]
    with open("/proc/%d/mem" % pid, "rb", 0) as mem:
        for m in maps:
            lo, hi = (int(x, 16) for x in m.split(" ")[0].split("-"))
            data = b""
            try:
                mem.seek(lo)
                while len(data) < hi - lo:
                    piece = mem.read(hi - lo - len(data))
                    if not piece:
                        break
                    data += piece
            except OSError:
                pass
            yield data


def files_below(top, skip=()):
    for at, dirs, names in os.walk(top):
        dirs[:] = [d for d in dirs if os.path.join(at, d) not in skip]
        for n in names:
            path = os.path.join(at, n)
            if os.path.isfile(path) and not os.path.islink(path):
                yield path


def search_files(needles, hits):
    # what people and targets hold themselves is no part of the bastion; nor is the demonstration's key
    skip = [sp.dir + "/" + d for d in ("people", "target", "opt", "t-key")]
    n = 0
    for path in files_below(sp.dir, skip):
        try:
            with open(path, "rb") as f:
                needles.find(path, f.read(), hits)
            n += 1
        except FileNotFoundError:
            continue        # the database tidies up
    return n


def search_database(needles, hits):
    sock = sp.dir + "/run/db"
    if os.path.exists(sp.dir + "/run/db.path"):
        with open(sp.dir + "/run/db.path") as f:
            sock = f.read().strip()
    r = subprocess.run(["pg_dump", "-h", sock, "-U", "postgres", "sallyport"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, cwd="/", timeout=120)
    assert r.returncode == 0, r.stderr
    needles.find("the dump", r.stdout, hits)
    # bytea as the bytes that it holds, too
    for m in re.finditer(rb"\\\\x((?:[0-9a-f]{2})+)", r.stdout):
        needles.find("a column of the dump", bytes.fromhex(m.group(1).decode()), hits)
    return r.stdout


def search_recordings(needles, hits):
    """What they show: the clear text of every lane."""
    for s in sp.sessions():
        r = sp.host("export", s["id"], "--format", "records", timeout=120)
        needles.find("the recording " + s["id"], r.out + r.err, hits)


def search_memory(needles, hits):
    n = 0
    for role in SCANNED:
        parents, kids = sp.pids(role)
        for pid in parents + kids:
            for data in memory_of(pid):
                needles.find("memory of %s" % role, data, hits)
            n += 1
    return n


class Canary(unittest.TestCase):
    def test_nobody_sings(self):
        planted = {}
        for name, plant, use in KINDS:
            planted[name] = plant()
            use(planted[name])
        self.assertEqual(ssh("admin@core-01", "echo plain").out, b"plain\n")
        host("audit", "verify")
        host("doctor")
        needles, hits = Needles(planted), []
        self.assertGreater(search_files(needles, hits), 50)
        self.assertGreater(len(search_database(needles, hits)), 10000)
        search_recordings(needles, hits)
        for data in printed:
            needles.find("what was printed", data, hits)
        self.assertFalse([f for f in files_below(sp.dir) if re.match(r"core(\.\d+)?$", os.path.basename(f))])
        if ROOT:
            self.assertGreaterEqual(search_memory(needles, hits), 6)
        self.assertEqual(hits, [])
        self.proof(needles)

    def proof(self, needles):
        """The search finds what is there: each form in a file, a reason in the database, a word in a process's memory."""
        secret = word()
        mine = Needles({"planted": [secret]})
        for i, (_, b) in enumerate(mine.all):
            with open("%s/log/planted-%d" % (sp.dir, i), "wb") as f:
                f.write(b"x" * 17 + b + b"y" * 5)
        hits = []
        search_files(mine, hits)
        for i, (name, _) in enumerate(mine.all):
            self.assertIn("%s in %s/log/planted-%d" % (name, sp.dir, i), hits)
            os.unlink("%s/log/planted-%d" % (sp.dir, i))
        self.assertEqual(len(mine.all), 9)
        sp.host("users", "add", "canary", "--display", secret.decode(), check=True)
        hits = []
        search_database(mine, hits)
        self.assertIn("planted clear in the dump", hits)
        self.assertEqual(ssh("admin@core-01", "echo " + secret.decode()).code, 0)
        wait_for(is_quiet, 60, "its end")
        hits = []
        search_recordings(mine, hits)
        self.assertTrue(hits)
        p = subprocess.Popen([sys.executable, "-c", "import sys; s = sys.stdin.readline(); print(1, flush=True); sys.stdin.read()"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        sp.started.append(p)
        p.stdin.write(secret + b"\n")
        p.stdin.flush()
        p.stdout.readline()
        hits = []
        for data in memory_of(p.pid):
            mine.find("memory", data, hits)
        p.stdin.close()
        p.wait()
        p.stdout.close()
        self.assertIn("planted clear in memory", hits)


if __name__ == "__main__":
    main()
