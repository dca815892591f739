# SPDX-License-Identifier: Apache-2.0
"""Canaries: a secret of each kind that nothing else holds is planted, everything is done with it that can be done and that can go
wrong, and then all that is left is searched for it: logs, database with its files, recordings, cores, what programs printed, the
backup, and the memory of every process but the vault. In clear, base64 at each of its three phases, base32, hexadecimal, UTF-16.

A further kind joins by a row in KINDS: how it is planted (its secrets are returned), and what is done with it."""
import base64
import hashlib
import hmac
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from database import Forward, MariaDB, PostgreSQL  # noqa: E402
from memory import ed25519_of, memory_of, seed_in  # noqa: E402
from sp import Instance, free_port, main, read_until, wait_for  # noqa: E402
from target import ROOT, Target, reach  # noqa: E402

POLICY = """
network loopback 127.0.0.0/8, ::1
permit "free" who group operators on tag t as admin, legacy when source in loopback require mfa totp for 1h
permit "db" who group operators on tag db as reader, app, old, reports allow sql when source in loopback require mfa totp for 1h
permit "asked" who group operators on tag t as shown, ruled when source in loopback require approval 1 of approvers, mfa totp for 1h
permit "core" who group operators on tag core as admin, legacy when source in loopback require mfa totp for 1h
"""
SCANNED = ("ingress", "broker", "recorder", "auth", "egress", "egress-sql", "player", "scribe", "notary", "files")
ROLES = SCANNED + ("vault",)
HSM = next((p for p in ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so") if os.path.exists(p)), None)
printed, planted = [], {}


def setUpModule():
    global sp, key_target
    sp = Instance(policy=POLICY)
    sp.add_person("oscar", "operators")
    sp.add_person("dana", "approvers")
    if ROOT:
        small_disks()
    key_target = Target(sp, "t-key")
    reach(sp, "oscar", "t-*")


def tearDownModule():
    if ROOT:
        sp.host("stop", timeout=120)
        for d in SMALL:
            subprocess.run(["umount", "-l", sp.dir + "/" + d], check=True)
    sp.close()


# Disks that can be filled, in MB: the recordings', the database's, and those of what the processes write themselves.
SMALL = {"recordings": 64, "pg": 768, "vault": 4, "broker": 16, "tlog": 16, "log": 32}


def small_disks():
    sp.host("stop", check=True, timeout=120)
    for name, mb in SMALL.items():
        d = sp.dir + "/" + name
        st = os.stat(d)
        os.rename(d, d + ".was")
        os.mkdir(d)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%dm,mode=%o,uid=%d,gid=%d" % (mb, st.st_mode & 0o7777, st.st_uid, st.st_gid),
                        name, d], stdin=subprocess.DEVNULL, check=True)
        subprocess.run(["cp", "-a", d + ".was/.", d], stdin=subprocess.DEVNULL, check=True)
        shutil.rmtree(d + ".was")
    sp.configure(recording_reserve_mb=8, recording_full_wait_s=1)
    sp.host("start", check=True, timeout=120)


class Full:
    """No room on these disks, but for some bytes that may be left."""

    def __init__(self, *names, left=0):
        self.fillers = [sp.dir + "/" + n + "/.filler" for n in names]
        self.left = left

    def __enter__(self):
        for path in self.fillers:
            room = os.statvfs(os.path.dirname(path))
            with open(path, "wb") as f:
                os.posix_fallocate(f.fileno(), 0, max(1, room.f_bavail * room.f_frsize - self.left))

    def __exit__(self, *bad):
        for path in self.fillers:
            os.unlink(path)


def login():
    """With a one-time secret of its own, so that nobody waits for the clock; it is planted, too."""
    if sp.ssh("oscar", "-O", "check", "bastion").code == 0 and sp.ssh("oscar", "bastion", "whoami").code == 0:
        return
    sp.end_mux("oscar")
    wait_for(is_open, 60, "the vault")
    planted.setdefault("totp", []).extend(plant_totp())
    r = ssh("bastion", "whoami")
    assert r.code == 0, r


def noted(r):
    printed.append(r.out + b"\n" + r.err)
    return r


def host(*args, **k):
    return noted(sp.host(*args, **k))


def ssh(*args, **k):
    return noted(sp.ssh("oscar", *args, timeout=120, **k))


def assert_out(r, out):
    assert r.out == out, r


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
    assert_out(ssh("legacy@core-01", "echo in"), b"in\n")


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
    assert_out(ssh("legacy@t-key", "echo in"), b"in\n")
    with open(key_target.dir + "/keys-legacy") as g:
        there = g.read()
    with open(key_target.dir + "/keys-legacy", "w") as g:
        g.write("")
    assert ssh("legacy@t-key", "true").code != 0
    with open(key_target.dir + "/keys-legacy", "w") as g:
        g.write(there)


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


def plant_made():
    """What the vault made and shows to nobody is fetched where it is, in the vault's memory, before its public half: the keys of
    certificates, of the audit chain, and the bastion's own host key; and the key that opens a demonstration."""
    with open(sp.dir + "/vault/DEMONSTRATION-ONLY.key") as f:
        demo = [x for x in f.read().split("\n") if x and not x.startswith("#")][-1].split()[-1]
    found = [demo.encode()] + ([bytes.fromhex(demo)] if re.fullmatch("[0-9a-f]{64}", demo) else [])
    if ROOT:
        r = subprocess.run([sp.dir + "/opt/libexec/sallyport/sallyport-vault", "pubkeys", sp.dir + "/vault"], check=True,
                           stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        keys = json.loads(r.stdout)
        for pub in (bytes.fromhex(keys["audit_key"]), ed25519_of(keys["ca_key"]), ed25519_of(keys["host_key"])):
            seed = seed_in(sp.pids("vault")[0][0], pub)
            assert seed is not None
            found.append(seed)
    return found


def use_made(found):
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
    assert_out(ssh("admin@t-key", "echo in"), b"in\n")


def plant_candidate():
    """A rotation's new passwords: the target's reconcile account sets them, and this target tells us."""
    global taken, rot
    taken = sp.dir + "/target/home/admin/taken"
    rot = Target(sp, "t-rot", options="Match User admin\nForceCommand tee -a %s >/dev/null; echo done; cat\nMatch all" % taken)
    old = word()
    host("account", "add", "legacy@t-rot", "--kind", "password", "--password-stdin", input=old + b"\n", check=True)
    host("target", "reconcile", "t-rot", "admin", check=True)
    assert host("account", "rotate", "legacy@t-rot", timeout=120).code != 0     # it took it, and lets nobody in
    return [old] + candidates()


def kill_last(role):
    """The youngest child, or the parent where there is none, or none any more."""
    parents, kids = sp.pids(role)
    for pid in reversed(parents + kids):
        try:
            os.kill(pid, signal.SIGKILL)
            return
        except ProcessLookupError:
            continue


def candidates():
    with open(taken, "rb") as f:
        return sorted(set(re.findall(rb"legacy:([^\n]+)\n", f.read())))


def use_candidate(found):
    """In the middle of it egress and vault are killed; then the target is away."""
    for role in ("egress", "vault"):
        size = os.path.getsize(taken)
        p = subprocess.Popen([sp.dir + "/opt/bin/sallyport", "-D", sp.dir, "account", "rotate", "legacy@t-rot"], env=sp.env(),
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        sp.started.append(p)
        wait_for(lambda: os.path.getsize(taken) > size or p.poll() is not None, 60, "a candidate")
        kill_last(role)
        printed.extend(p.communicate(timeout=120))
        wait_for(is_open, 60, "the vault")
    found.extend(c for c in candidates() if c not in found)
    host("account", "set", "legacy@t-rot", "--rotate", "never", check=True)
    rot.remove()
    os.unlink(taken)
    host("account", "rotate", "legacy@t-rot", timeout=120)      # away
    host("target", "disable", "t-rot", check=True)


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


def plant_token():
    """The PIN of a token, and what systemd would hand over."""
    global cred
    cred, pin, bytes_ = sp.dir + "/people/credential", word(), secrets.token_bytes(40)
    with open(cred, "wb") as f:
        f.write(bytes_)
    if HSM is None or shutil.which("softhsm2-util") is None:
        return [bytes_]
    hsm = sp.dir + "/people/hsm"
    os.mkdir(hsm)
    with open(hsm + "/conf", "w") as f:
        f.write("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n" % hsm)
    with open(hsm + "/aes", "wb") as f:
        f.write(secrets.token_bytes(16).hex().encode())
    os.environ["SOFTHSM2_CONF"] = hsm + "/conf"
    for words in (("--init-token", "--free", "--label", "bank", "--so-pin", "12345678"),
                  ("--import", hsm + "/aes", "--aes", "--token", "bank", "--label", "wrap", "--id", "a1")):
        subprocess.run(["softhsm2-util", *words, "--pin", pin.decode()], check=True, stdout=subprocess.DEVNULL, timeout=60)
    os.unlink(hsm + "/aes")
    sp.configure(pkcs11_module=HSM)
    if ROOT:
        who = pwd.getpwnam("sallyport-token")
        for at, _, names in os.walk(hsm):
            for n in [at] + [os.path.join(at, n) for n in names]:
                os.chown(n, who.pw_uid, who.pw_gid)
    return [pin, bytes_]


def use_token(found):
    host("vault", "slots", "add", "credential", "--from", cred, check=True)
    host("vault", "seal", check=True)
    assert host("vault", "unseal", "--credential", sp.dir + "/opt/bin/sallyport").code != 0
    host("vault", "unseal", "--credential", cred, check=True)
    if len(found) < 2:
        return
    add = ("vault", "slots", "add", "pkcs11", "--token", "bank", "--key")
    assert host(*add, "wrap", input=b"not-" + found[0] + b"\n").code == 1
    assert host(*add, "none", input=found[0] + b"\n").code == 1
    host(*add, "wrap", "--label", "hsm", input=found[0] + b"\n", check=True)
    host("vault", "seal", check=True)
    assert host("vault", "unseal", "--token", input=b"not-" + found[0] + b"\n").code == 1
    host("vault", "unseal", "--token", input=found[0] + b"\n", check=True)
    wait_for(is_open, 60, "the vault")


def plant_shown():
    """A credential that a person may see once, and one that needs signatures."""
    found = [word(), word()]
    for name, secret in zip(("shown", "ruled"), found):
        host("account", "add", name + "@t-key", "--kind", "password", "--password-stdin", input=secret + b"\n", check=True)
    return found


def use_shown(found):
    """Asked for; too early; approved by two; the vault killed before it is shown; shown to a terminal that is none of ours, once."""
    login()
    number = str(ssh("bastion", "secret", "reveal", "shown@t-key", "--reason", "down", "--json").json()["id"])
    for who in ("bob", "dana"):
        assert on_terminal("secret", "reveal", number)[0] == 1
        assert noted(sp.ssh(who, "bastion", "approve", number)).code == 0
    os.kill(sp.pids("vault")[0][0], signal.SIGKILL)
    wait_for(is_open, 60, "the next vault")
    code, out = on_terminal("secret", "reveal", number)
    assert code == 0 and found[0] in out, out
    code, out = on_terminal("secret", "reveal", number)
    assert code == 1
    printed.append(out)
    host("secret", "rule", "ruled@t-key", "--group", "approvers", "--yes", "--approvals", "2", "--for", "30m", check=True)
    number = str(ssh("bastion", "request", "ruled@t-key", "--reason", "disk", "--json").json()["id"])
    printed.append(noted(sp.ssh("bob", "bastion", "challenge", number)).out)
    assert noted(sp.ssh("bob", "bastion", "approve", number)).code == 1
    assert host("account", "rotate", "ruled@t-key").code == 1


def on_terminal(*args):
    import pty
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(sp.dir + "/opt/bin/sallyport", ["sallyport", "-D", sp.dir, *args], sp.env())
    out = b""
    try:
        while piece := os.read(fd, 65536):
            out += piece
    except OSError:
        pass
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), out


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


def plant_role():
    """A role for a session: the vault makes what it logs in with, and nobody can know it: see keys_of_roles()."""
    pg.add_account("maker")
    pg.sql("ALTER ROLE maker CREATEROLE; CREATE ROLE reporting; GRANT maker TO postgres")
    host("account", "add", "reports@canary-db", "--kind", "pg-role", "--admin", "maker", "--member", "reporting", check=True)
    return []


def use_role(found):
    login()
    f = Forward(sp, "oscar", "reports+canary-db:5432")
    code, out, err = f.psql("-c", "SELECT current_user", db="postgres")
    assert out.startswith("sp_"), err
    printed.append((out + err).encode())
    f.close()


def key_in(data, stored):
    """ClientKey, by its hash: StoredKey (RFC 5802, 3)."""
    for i in range(0, len(data) - 31, 16):
        if hashlib.sha256(data[i:i + 32]).digest() == stored:
            return True
    return False


def keys_of_roles():
    """Where the key is with which the vault logged in as the role that runs: nobody knows it but the vault, and the server has its hash."""
    verifier = pg.sql("SELECT rolpassword FROM pg_authid WHERE rolname LIKE 'sp\\_%'")
    stored, hits = base64.b64decode(verifier.split("$")[2].split(":")[0]), []
    for role in ("vault", "egress-sql", "ingress"):
        parents, kids = sp.pids(role)
        for pid in (parents + kids)[:4]:
            hits += [role for data in memory_of(pid) if data.strip(b"\0") and key_in(data, stored)]
    return hits


def use_postgresql(found):
    def once(*args):
        login()
        f = Forward(sp, "oscar", "reader+canary-db:5432")
        code, out, err = f.psql("-c", "SELECT current_user", db="postgres")
        printed.append((out + err).encode())
        f.close()
        return out
    assert once() == "reader"
    was = pg.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'reader'")
    pg.sql("ALTER ROLE reader PASSWORD 'another'")
    assert once() == ""
    pg.sql("ALTER ROLE reader PASSWORD '%s'" % was)


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


def mariadb(f, text):
    return ["mariadb", "--no-defaults", "-N", "-B", "-h", "127.0.0.1", "-P", str(f.port), "-u", "whoever", "-e", text]


def use_mariadb(found):
    def once(name):
        login()
        f = Forward(sp, "oscar", name + "+canary-my:3306")
        r = subprocess.run(mariadb(f, "SELECT CURRENT_USER()"), stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
        printed.append(r.stdout + r.stderr)
        f.close()
        return r.stdout.strip()
    assert (once("app"), once("old")) == (b"app@%", b"old@%")
    my.sql("ALTER USER old IDENTIFIED VIA ed25519 USING PASSWORD('x')")
    assert once("old") == b""


KINDS = [("password", plant_password, use_password), ("key", plant_key, use_key), ("totp", plant_totp, use_totp),
         ("slot", plant_slot, use_slot), ("shares", plant_shares, use_shares), ("token", plant_token, use_token),
         ("kit", plant_kit, use_kit), ("made", plant_made, use_made), ("databases", plant_databases, use_databases),
         ("postgresql", plant_postgresql, use_postgresql), ("role", plant_role, use_role), ("mariadb", plant_mariadb, use_mariadb),
         ("shown", plant_shown, use_shown), ("candidate", plant_candidate, use_candidate)]


def is_open():
    r = sp.host("vault", "status", "--json")
    return r.code == 0 and r.json()["state"] == "open"


def is_quiet():
    """Nothing runs, as far as the bastion can say."""
    r = sp.host("sessions", "--json")
    return r.code == 0 and r.json() == [] and is_open()


# ---------------------------------------------------------------------- failures
class AtWork:
    """A session with each kind of credential, in its middle."""

    def __init__(self):
        login()
        self.ssh, self.sql, self.forwards = [], [], []
        for where in ("legacy@core-01", "legacy@t-key", "admin@core-01"):
            p = sp.ssh_start("oscar", where, "echo up; cat", stdin=subprocess.PIPE)
            read_until(p.stdout, b"up\n", 60)
            self.ssh.append(p)
        for account, text in (("reader+canary-db:5432", "SELECT pg_sleep(600)"), ("reports+canary-db:5432", "SELECT pg_sleep(601)")):
            f = Forward(sp, "oscar", account)
            self.forwards.append(f)
            self.sql.append(f.start("-c", text, db="postgres"))
            wait_for(lambda: pg.sql("SELECT 1 FROM pg_stat_activity WHERE query = '%s'" % text), 60, account)
        f = Forward(sp, "oscar", "app+canary-my:3306")
        self.forwards.append(f)
        p = subprocess.Popen(mariadb(f, "SELECT SLEEP(602)"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        sp.started.append(p)
        self.sql.append(p)
        wait_for(lambda: "SLEEP(602)" in my.sql("SHOW PROCESSLIST"), 60, "app")

    def end(self):
        for p in self.ssh:
            p.stdin.close()
        for p in self.sql:
            p.kill()
            printed.extend(p.communicate(timeout=60))
        for p in self.ssh:
            try:
                p.wait(60)
                printed.append(p.stdout.read() + p.stderr.read())
            finally:
                sp.drop(p)
        for f in self.forwards:
            f.close()
        wait_for(is_quiet, 90, "the end of them")


def kill_all(*roles):
    for role in roles:
        parents, kids = sp.pids(role)
        assert parents, role
        for pid in kids or parents:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue        # it has ended by itself


def refused():
    """Who comes now: to each kind, and with a one-time code."""
    for where in ("legacy@core-01", "legacy@t-key", "admin@core-01"):
        assert ssh(where, "true").code != 0, where
    ssh("bastion", "whoami", mux=False, opts=["NumberOfPasswordPrompts=1"])


def full_disk():
    with Full("recordings", left=2 << 20):
        refused()


def start_database():
    who = ["runuser", "-u", "sallyport-db", "--"] if ROOT else []
    ctl = shutil.which("pg_ctl") or "/usr/lib/postgresql/15/bin/pg_ctl"
    subprocess.run(who + [ctl, "-D", sp.dir + "/pg", "-s", "-w", "-t", "60", "-l", sp.dir + "/log/postgresql.log", "start"], check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd="/")
    wait_for(lambda: sp.host("sessions", "--json").code == 0, 60, "its return")


def refusal(sql):
    try:
        sp.psql(sql)
        return ""
    except AssertionError as e:
        return str(e)


def full_database():
    """Rows find no room, then the log of the server itself: it stops. Sessions begin and end, and secrets come in, all the while."""
    fresh = [word(), word()]
    planted.setdefault("full disks", []).extend(fresh)
    sp.psql("CREATE TABLE public.filler (t text); ALTER TABLE public.filler ALTER t SET STORAGE PLAIN")
    with open(sp.dir + "/pg/postmaster.pid") as f:
        first = int(f.readline())
    with Full("pg", left=1 << 20):
        for n in (100, 1):
            while "No space left" not in refusal("INSERT INTO public.filler SELECT repeat('x', 7000) FROM generate_series(1, %d)" % n):
                pass
        # room inside the last pages of a table is used up by events first
        wait_for(lambda: ssh("legacy@core-01", "true").code != 0, 120, "the refusal")
        refused()
        for secret in fresh:
            assert host("secret", "set", "boxed@t-key", "--password-stdin", input=secret + b"\n").code != 0
        wait_for(lambda: re.search("PANIC|server closed|connection to server", refusal(
            "INSERT INTO public.filler VALUES ('x'); SELECT pg_switch_wal()")), 120, "the server to give up")
    if not os.path.exists("/proc/%d/exe" % first):
        start_database()
    wait_for(lambda: sp.psql("DROP TABLE IF EXISTS public.filler; SELECT 1", check=False) == "1", 60, "the database")


def full_state():
    """What the processes write themselves finds no room: the vault's state and its rules, the reserve, the journal, the logs."""
    fresh = [word(), word()]
    planted.setdefault("full disks", []).extend(fresh)
    with Full("vault", "broker", "tlog", "log"):
        assert host("vault", "slots", "add", "passphrase", "--label", "none", input=fresh[0] + b"\n").code != 0
        assert host("vault", "rotate").code != 0
        host("secret", "rule", "shown@t-key", "--group", "approvers", "--yes", "--approvals", "2", "--for", "30m")
        host("secret", "set", "boxed@t-key", "--password-stdin", input=fresh[1] + b"\n")
        ssh("legacy@core-01", "true")
        kill_all("egress")
    assert host("vault", "rotate", timeout=120).code == 0


def database_away():
    with open(sp.dir + "/pg/postmaster.pid") as f:
        first = int(f.readline())
    os.kill(first, signal.SIGQUIT)
    wait_for(lambda: not os.path.exists("/proc/%d/exe" % first), 60, "the database's end")
    refused()
    start_database()


FAILURES = [("egress", lambda: kill_all("egress", "egress-sql")), ("recorder", lambda: kill_all("recorder")),
            ("vault", lambda: kill_all("vault")), ("broker", lambda: kill_all("broker")), ("database", database_away)] + (
                [("disk", full_disk), ("database's disk", full_database), ("state's disk", full_state)] if ROOT else [])


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


ZERO = b"\0" * 32
ZEROS = re.compile(ZERO + b"\0+")


class Needles:
    """All forms of all secrets."""

    def __init__(self, planted):
        self.all = [("%s %s" % (kind, form), b) for kind, found in planted.items() for s in found for form, b in forms(s).items()]
        assert all(len(b) >= 16 for _, b in self.all)

    def find(self, where, data, hits):
        data = ZEROS.sub(ZERO, data)        # most of what is searched is nothing
        hits.extend("%s in %s" % (name, where) for name, b in self.all if b in data)


def files_below(top, skip=()):
    for at, dirs, names in os.walk(top):
        dirs[:] = [d for d in dirs if os.path.join(at, d) not in skip]
        for n in names:
            path = os.path.join(at, n)
            if os.path.isfile(path) and not os.path.islink(path) and path not in skip:
                yield path


def search_files(needles, hits):
    # what people and targets hold themselves is no part of the bastion; nor is the demonstration's key
    skip = [sp.dir + "/" + d for d in ("people", "target", "opt", "t-key")] + [sp.dir + "/vault/DEMONSTRATION-ONLY.key"]
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


class Took:
    """How long, in the log of the test."""

    def __init__(self, what):
        self.what = what

    def __enter__(self):
        self.at = time.monotonic()

    def __exit__(self, *bad):
        print("%-30s %6.2f s" % (self.what, time.monotonic() - self.at), flush=True)


class Cores(unittest.TestCase):
    """What a process holds when it crashes stays in no file."""
    ROUNDS = (("player", "auth", "notary", "scribe", "egress-sql", "files"), ("egress",), ("recorder",), ("ingress",), ("vault",), ("broker",))

    def test_none_is_written(self):
        self.assertEqual(sorted(r for some in self.ROUNDS for r in some), sorted(ROLES))
        for role in ROLES:
            parents, kids = sp.pids(role)
            self.assertTrue(parents, role)
            for pid in parents + kids:
                with open("/proc/%d/limits" % pid) as f:
                    core = [line for line in f if line.startswith("Max core file size")][0].split()
                self.assertEqual(core[4:6], ["0", "0"], role)
                # not dumpable: it belongs to root, whoever it runs as
                self.assertEqual(os.stat("/proc/%d/mem" % pid).st_uid, 0 if ROOT else os.stat("/proc/%d/mem" % pid).st_uid, role)
        for some in self.ROUNDS:
            self.crash(some)

    def crash(self, roles):
        login()
        p = sp.ssh_start("oscar", "-tt", "admin@core-01", "echo up; cat", stdin=subprocess.PIPE)    # a terminal has a scribe
        read_until(p.stdout, b"up\r\n", 60)
        for role in roles:
            parents, kids = sp.pids(role)
            pid = (kids or parents)[-1]
            where = os.readlink("/proc/%d/cwd" % pid)
            os.kill(pid, signal.SIGSEGV)
            wait_for(lambda: not os.path.exists("/proc/%d/exe" % pid), 60, "the end of %s" % role)
        try:
            p.stdin.write(b"\x04")
        except BrokenPipeError:
            pass        # its ingress was among them
        sp.drop(p)
        wait_for(is_quiet, 60, "the next %s" % role)
        for role in roles:
            wait_for(lambda: sp.pids(role)[0], 60, "the next %s" % role)
        left = [f for d in {where, sp.dir} for f in (files_below(d) if d != "/" else [])
                if re.match(r"core(\.\d+)?$|.*\.core$", os.path.basename(f))]
        self.assertEqual(left, [], roles)


class Canary(unittest.TestCase):
    def test_nobody_sings(self):
        for name, plant, use in KINDS:
            with self.took(name):
                login()
                planted.setdefault(name, []).extend(plant())
                use(planted[name])
        login()
        self.assertEqual(ssh("admin@core-01", "echo plain").out, b"plain\n")
        hits = []
        if ROOT:
            with self.took("memory after the sessions"):
                wait_for(is_quiet, 60, "their end")
                self.assertGreaterEqual(search_memory(Needles(planted), hits), 10)
        for name, fail in FAILURES:
            with self.took("failure: " + name):
                w = AtWork()
                if ROOT and name == FAILURES[0][0]:
                    self.alive(hits)
                fail()
                w.end()
        host("audit", "verify")
        host("doctor", timeout=120)
        needles = Needles(planted)
        with self.took("search"):
            self.assertGreater(search_files(needles, hits), 50)
            self.assertGreater(len(search_database(needles, hits)), 10000)
            search_recordings(needles, hits)
            for data in printed:
                needles.find("what was printed", data, hits)
            self.assertFalse([f for f in files_below(sp.dir) if re.match(r"core(\.\d+)?$", os.path.basename(f))])
            if ROOT:
                login()
                self.assertGreaterEqual(search_memory(Needles(planted), hits), 10)
        self.assertEqual(hits, [])
        self.proof(needles)
        if ROOT:
            self.sealed(Needles(planted))

    def alive(self, hits):
        """While sessions run whose logins needed them: a password, a key, a certificate, roles. The host keys show that each egress
        was searched."""
        self.assertEqual(keys_of_roles(), [], "wiped with its one proof")
        kids = sp.pids("egress")[1]
        self.assertGreaterEqual(len(kids), 3)
        with open(sp.dir + "/target/host_key.pub") as f:
            known = [ed25519_of(f.read()), ed25519_of(key_target.pub)]
        for pid in kids:
            self.assertTrue([1 for data in memory_of(pid) for k in known if k in data], "the host key of its target")
        with self.took("memory during the sessions"):
            search_memory(Needles(planted), hits)

    def took(self, what):
        return Took(what)

    def sealed(self, needles):
        """A vault that seals has no byte of any of them."""
        pid, hits = sp.pids("vault")[0][0], []
        for data in memory_of(pid):
            needles.find("the open vault", data, hits)
        self.assertTrue(hits, "the search finds its keys")
        host("vault", "seal", check=True)
        hits = []
        for data in memory_of(pid):
            needles.find("the sealed vault", data, hits)
        self.assertEqual(hits, [])
        with open(sp.dir + "/vault/DEMONSTRATION-ONLY.key", "rb") as f:
            sp.host("vault", "unseal", input=f.read().strip() + b"\n", check=True)

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
        self.assertTrue(key_in(bytes(32) + secret[:32] + bytes(40), hashlib.sha256(secret[:32]).digest()))
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
