# SPDX-License-Identifier: Apache-2.0
"""Canaries: a secret of each kind that nothing else holds is planted, everything is done with it that can be done and that can go
wrong, and then all that is left is searched for it: logs, database with its files, recordings, cores, what programs printed, the
backup, and the memory of every process but the vault. In clear, base64 at each of its three phases, base32, hexadecimal, UTF-16.

A further kind joins by a row in KINDS: how it is planted (its secrets are returned), and what is done with it."""
import base64
import hashlib
import hmac
import os
import re
import secrets
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from database import Forward, MariaDB, PostgreSQL  # noqa: E402
from sp import Instance, free_port, main, read_until, wait_for  # noqa: E402
from target import ROOT, Target, reach  # noqa: E402

POLICY = """
network loopback 127.0.0.0/8, ::1
permit "free" who group operators on tag t as admin, legacy when source in loopback require mfa totp for 1h
permit "db" who group operators on tag db as reader, app, old allow sql when source in loopback require mfa totp for 1h
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


def plant_host():
    """The bastion's own host key; its file is where it belongs."""
    path = sp.dir + "/keys/ssh_host_ed25519_key"
    with open(path, "rb") as f:
        raw = base64.b64decode(b"".join(f.read().split(b"\n")[1:-2]))
    with open(path + ".pub") as f:
        pub = base64.b64decode(f.read().split()[1])[-32:]
    at = raw.rindex(pub)
    return [raw[at - 32:at]]


def use_host(found):
    """A key exchange that the vault does not live to sign."""
    os.kill(sp.pids("vault")[0][0], signal.SIGKILL)
    ssh("bastion", "whoami", mux=False)
    wait_for(is_quiet, 60, "the next vault")


def public_of(seed):
    """OpenSSL's word for which public half belongs to it (RFC 8410)."""
    r = subprocess.run(["openssl", "pkey", "-inform", "DER", "-pubout", "-outform", "DER"], input=bytes.fromhex(
        "302e020100300506032b657004220420") + seed, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
    return r.stdout[-32:]


def plant_ca():
    """The vault made it and shows it to nobody: it is fetched where it is, in the vault's memory, before its public half."""
    if not ROOT:
        return []
    assert ssh("admin@core-01", "true").code == 0
    line = [f["content"] for f in host("target", "setup", "core-01", "--json", check=True).json()["files"] if "content" in f and
            f["path"].endswith("ca.pub")][0]
    pub = base64.b64decode(line.split()[1])[-32:]
    for data in memory_of(sp.pids("vault")[0][0]):
        for m in re.finditer(re.escape(pub), data):
            if m.start() >= 32 and public_of(data[m.start() - 32:m.start()]) == pub:
                return [data[m.start() - 32:m.start()]]
    raise AssertionError("the CA's key is nowhere in the vault")


def use_ca(found):
    """Certificates for a target that is another one, that is away, and that is itself again."""
    pin = key_target.pub
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", sp.dir + "/people/other"], check=True)
    with open(sp.dir + "/people/other.pub") as f:
        host("target", "set", "t-key", "--host-key", " ".join(f.read().split()[:2]), check=True)
    assert ssh("admin@t-key", "true").code != 0
    host("target", "set", "t-key", "--host-key", pin, check=True)
    key_target.stop()
    assert ssh("admin@t-key", "true").code != 0
    key_target.launch(key_target.dir + "/sshd_config")
    assert ssh("admin@t-key", "echo in").out == b"in\n"
    die_in("admin@t-key", ("recorder", "vault"))


def plant_candidate():
    """A rotation's new password: the target's reconcile account sets it, and this target tells us."""
    global taken
    taken = sp.dir + "/target/home/admin/taken"
    t = Target(sp, "t-rot", options="Match User admin\nForceCommand tee -a %s >/dev/null\nMatch all" % taken)
    old = word()
    host("account", "add", "legacy@t-rot", "--kind", "password", "--password-stdin", input=old + b"\n", check=True)
    host("target", "reconcile", "t-rot", "admin", check=True)
    assert host("account", "rotate", "legacy@t-rot", timeout=120).code != 0     # it took it, and lets nobody in
    with open(taken, "rb") as f:
        new = f.read().split(b"legacy:")[1].split(b"\n")[0]
    t.remove()
    os.unlink(taken)
    return [old, new]


def use_candidate(found):
    assert host("account", "rotate", "legacy@t-rot", timeout=120).code != 0     # away


def plant_shares():
    r = sp.host("vault", "slots", "add", "shares", "--k", "2", "--n", "2", "--label", "canary2", "--json", check=True).json()
    return [s.encode() for s in r["shares"]]            # shown, once: that is what it is for


def use_shares(found):
    slot = [s["id"] for s in host("vault", "slots", "--json", check=True).json() if s.get("label") == "canary2"][0]
    assert host("vault", "slots", "verify", str(slot), input=found[0] + b"\n" + found[0] + b"\n").code != 0
    host("vault", "slots", "verify", str(slot), input=b"\n".join(found) + b"\n", check=True)
    host("vault", "seal", check=True)
    assert host("vault", "unseal", "--shares", input=found[0][:-4] + b"AAAA\n").code != 0
    host("vault", "unseal", "--shares", input=b"\n".join(found) + b"\n", check=True)
    wait_for(is_quiet, 60, "the vault")


def plant_kit():
    """A break-glass kit: what is in it, and the shares that open it."""
    global kit
    kit, secret = sp.dir + "/people/kit.spk", word()
    host("account", "add", "boxed@t-key", "--kind", "password", "--password-stdin", input=secret + b"\n", check=True)
    r = sp.host("break-glass", "kit", "--k", "2", "--n", "2", "--account", "boxed@t-key", "--out", kit, check=True)
    return [secret] + r.out.split()


def use_kit(found):
    def tool(*shares):
        return subprocess.run([sp.dir + "/opt/bin/sallyport-kit", "open", kit, "--receipt", sp.dir + "/people/receipt"],
                              input=b"Dana\nfire\n" + b"".join(s + b"\n" for s in shares), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=60)
    r = tool(found[1], found[2][:-4] + b"AAAA")
    assert r.returncode == 1 and r.stdout == b"", r
    printed.append(r.stderr)
    r = tool(*found[1:])
    assert found[0] in r.stdout, r
    printed.append(r.stderr)
    host("break-glass", "import", sp.dir + "/people/receipt", check=True)
    host("account", "rotate", "boxed@t-key", timeout=120)


SERVERS = ("postgresql", "mariadb")


def plant_databases():
    """What a database's user types, of which the vault keeps less than that."""
    found = [word() for _ in SERVERS]
    for kind, secret in zip(SERVERS, found):
        host("target", "add", "t-" + kind, "--protocol", kind, "--addr", "127.0.0.1:%d" % free_port(), "--tag", "t",
             "--tls-pin", "sha256:" + "ab" * 32, check=True)
        host("account", "add", "admin@t-" + kind, "--kind", kind, "--%s-stdin" % kind, input=secret + b"\n", check=True)
    return found


def use_databases(found):
    """The servers are away."""
    for kind, secret in zip(SERVERS, found):
        assert ssh("admin@t-" + kind, "true").code != 0
        host("secret", "set", "admin@t-" + kind, "--%s-stdin" % kind, input=secret + b"\n", check=True)


def plant_postgresql():
    """A password, and what only the vault may make of it: StoredKey and ServerKey are in the verifier, which everybody may read."""
    global pg
    secret, pg = word(), PostgreSQL(sp, "canary-db")
    pg.add()
    text = host("account", "add", "reader@canary-db", "--kind", "postgresql", "--postgresql-stdin", input=secret + b"\n", check=True).out
    statement = re.search(rb"ALTER ROLE.*'SCRAM-SHA-256\$(\d+):([^$]*)\$.*';", text)
    pg.sql("CREATE ROLE reader LOGIN; " + statement.group(0).decode())
    salted = hashlib.pbkdf2_hmac("sha256", secret, base64.b64decode(statement.group(2)), int(statement.group(1)))
    return [secret, salted, hmac.digest(salted, b"Client Key", "sha256")]


def die_with(target, start):
    """What is at work for it is killed in the middle: the egress, then the broker."""
    for role in ("egress-sql", "broker"):
        assert ssh("bastion", "whoami").code == 0
        f = Forward(sp, "oscar", target)
        p = start(f)
        wait_for(lambda: sp.pids("egress-sql")[1] and sp.sessions(False), 60, "the session")
        parents, kids = sp.pids(role)
        os.kill((kids or parents)[-1], signal.SIGKILL)
        printed.extend(p.communicate(timeout=60))
        wait_for(is_quiet, 60, "the end of it")


def use_postgresql(found):
    def once(*args):
        assert ssh("bastion", "whoami").code == 0
        f = Forward(sp, "oscar", "reader+canary-db:5432")
        code, out, err = f.psql("-c", "SELECT current_user", db="postgres")
        printed.append((out + err).encode())
        f.close()
        return out
    assert once() == "reader"
    die_with("reader+canary-db:5432", lambda f: f.start("-c", "SELECT pg_sleep(600)", db="postgres"))
    pg.sql("ALTER ROLE reader PASSWORD 'another'")
    assert once() == ""


def plant_mariadb():
    """Passwords of both plugins; the keys that they are made to."""
    global my
    secret, old, my = word(), word(), MariaDB(sp, "canary-my")
    my.add()
    for name, given, more in (("app", secret, ()), ("old", old, ("--plugin", "native"))):
        text = host("account", "add", name + "@canary-my", "--kind", "mariadb", "--mariadb-stdin", *more, input=given + b"\n", check=True).out
        my.sql("CREATE USER %s IDENTIFIED VIA mysql_native_password USING 'invalid'; %s" % (
            name, re.search(rb"ALTER USER.*;", text).group(0).decode()))
    key = bytearray(hashlib.sha512(secret).digest())
    return [secret, old, hashlib.sha1(old).digest(), bytes(key[1:31]), bytes(key[32:])]


def use_mariadb(found):
    def argv(f, text):
        return ["mariadb", "--no-defaults", "-N", "-B", "-h", "127.0.0.1", "-P", str(f.port), "-u", "whoever", "-e", text]

    def once(name):
        assert ssh("bastion", "whoami").code == 0
        f = Forward(sp, "oscar", name + "+canary-my:3306")
        r = subprocess.run(argv(f, "SELECT CURRENT_USER()"), stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
        printed.append(r.stdout + r.stderr)
        f.close()
        return r.stdout.strip()

    def start(f):
        p = subprocess.Popen(argv(f, "SELECT SLEEP(60)"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        sp.started.append(p)
        return p
    assert (once("app"), once("old")) == (b"app@%", b"old@%")
    die_with("app+canary-my:3306", start)
    my.sql("ALTER USER app IDENTIFIED VIA ed25519 USING PASSWORD('another'); ALTER USER old IDENTIFIED VIA ed25519 USING PASSWORD('x')")
    assert (once("app"), once("old")) == (b"", b"")


KINDS = [("password", plant_password, use_password), ("key", plant_key, use_key), ("totp", plant_totp, use_totp),
         ("slot", plant_slot, use_slot), ("shares", plant_shares, use_shares), ("kit", plant_kit, use_kit),
         ("candidate", plant_candidate, use_candidate), ("host", plant_host, use_host), ("ca", plant_ca, use_ca),
         ("databases", plant_databases, use_databases),
         ("postgresql", plant_postgresql, use_postgresql), ("mariadb", plant_mariadb, use_mariadb)]


def is_quiet():
    """Nothing runs, as far as the bastion can say."""
    r = sp.host("sessions", "--json")
    return r.code == 0 and r.json() == [] and "open" in sp.host("status").text


def die_in(where, roles=("egress", "broker")):
    """Sessions in the middle of which a process is killed."""
    for role in roles:
        p = sp.ssh_start("oscar", where, "echo up; cat", stdin=subprocess.PIPE)
        read_until(p.stdout, b"up\n", 60)
        parents, kids = sp.pids(role)
        os.kill((kids or parents)[-1], signal.SIGKILL)
        p.stdin.close()         # a vault's end is not the session's
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
    skip = [sp.dir + "/" + d for d in ("people", "target", "opt", "t-key", "keys")]
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


class Cores(unittest.TestCase):
    """What a process holds when it crashes stays in no file."""

    def test_none_is_written(self):
        for role in ("vault", "ingress", "broker", "recorder", "egress", "player", "auth"):
            parents, kids = sp.pids(role)
            self.assertTrue(parents, role)
            for pid in parents + kids:
                with open("/proc/%d/limits" % pid) as f:
                    core = [line for line in f if line.startswith("Max core file size")][0].split()
                self.assertEqual(core[4:6], ["0", "0"], role)
                # not dumpable: it belongs to root, whoever it runs as
                self.assertEqual(os.stat("/proc/%d/mem" % pid).st_uid, 0 if ROOT else os.stat("/proc/%d/mem" % pid).st_uid, role)
        for role in ("player", "egress", "recorder", "ingress", "auth", "vault", "broker"):
            p = sp.ssh_start("oscar", "admin@core-01", "echo up; cat", stdin=subprocess.PIPE)
            read_until(p.stdout, b"up\n", 60)
            parents, kids = sp.pids(role)
            pid = (kids or parents)[-1]
            where = os.readlink("/proc/%d/cwd" % pid)
            os.kill(pid, signal.SIGSEGV)
            wait_for(lambda: not os.path.exists("/proc/%d/exe" % pid), 60, "the end of %s" % role)
            p.stdin.close()
            p.wait(60)
            p.stdout.close()
            p.stderr.close()
            sp.drop(p)
            wait_for(is_quiet, 60, "the next %s" % role)
            wait_for(lambda: sp.pids(role)[0], 60, "the next %s" % role)
            left = [f for d in {where, sp.dir} for f in (files_below(d) if d != "/" else [])
                    if re.match(r"core(\.\d+)?$|.*\.core$", os.path.basename(f))]
            self.assertEqual(left, [], role)


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
