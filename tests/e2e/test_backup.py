# SPDX-License-Identifier: Apache-2.0
"""Backup and restore: rehearsed on an empty directory, with every way to the key, and with files that are not what they should be."""
import base64
import json
import os
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from memory import ed25519_of  # noqa: E402
from sp import Instance, Result, free_port, main, read_until, wait_for  # noqa: E402

POLICY = """
network loopback 127.0.0.0/8, ::1
permit "free" who group operators on tag core as admin, legacy when source in loopback require mfa totp for 1h
permit "core" who group sysadmins on tag core as admin when source in loopback require approval 1 of approvers, mfa totp for 1h
"""
PASS = b"a backup's own words"
SLOT = b"the bank's slot words"


def setUpModule():
    global sp, top
    sp = Instance(policy=POLICY)
    sp.add_person("oscar", "operators")
    top = os.path.dirname(sp.dir)
    with open(top + "/pass", "wb") as f:
        f.write(PASS + b"\n")
    os.chmod(top + "/pass", 0o600)


def tearDownModule():
    sp.close()


def cli(*args, directory=None, input=None, timeout=180):
    p = subprocess.run([sp.dir + "/opt/bin/sallyport", "-D", directory or sp.dir] + list(args), input=input,
                       stdin=None if input is not None else subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       timeout=timeout, env=dict(sp.env(), SALLYPORT_DIR=directory or sp.dir))
    return Result(p.returncode, p.stdout, p.stderr)


def backup(name, *args, **k):
    path = top + "/" + name
    r = cli("backup", path, *args, **k)
    assert r.code == 0, r
    return path


def put(path, data, mode=None):
    """In place, so that it stays its owner's; returns what was there."""
    with open(path, "r+b" if os.path.exists(path) else "w+b") as f:
        was = f.read()
        f.seek(0)
        f.truncate()
        f.write(data)
        if mode is not None:
            os.fchmod(f.fileno(), mode)
    return was


def demo_key():
    return sp.dir + "/vault/DEMONSTRATION-ONLY.key"


class Backup(unittest.TestCase):
    def test_rehearsal(self):
        """A session runs and a grant holds while the backup is made; the restored bastion takes people in, reaches targets, lists and
        proves the recordings that were copied, goes on with its audit chain, and neither ends leases nor repeats a number or a code."""
        number = sp.grant("alice", "admin@core-01", "bob", "40m")
        self.assertEqual(sp.ssh("oscar", "admin@core-01", "echo before").out, b"before\n")
        wait_for(lambda: not [s for s in sp.sessions(all=False)], 60, "its end")
        old = [s["id"] for s in sp.sessions()]
        p = sp.ssh_start("oscar", "admin@core-01", "echo in; cat", stdin=subprocess.PIPE)
        read_until(p.stdout, b"in\n", 60)
        running = sp.sessions(all=False)[0]["id"]
        serial = int(sp.psql("SELECT last_value FROM sallyport.cert_serials"))
        self.owe_one()
        path = backup("rehearsal.spb")
        events = len(sp.audit(limit=10000))
        code = sp.psql("SELECT max(last_step) FROM sallyport.totp_spent")
        sp.drop(p)
        there = top + "/there"
        port = free_port()
        r = cli("restore", path, there, "--listen", "127.0.0.1:%d" % port, "--demo-key", demo_key())
        self.assertEqual(r.code, 0, r)
        for f in os.listdir(sp.dir + "/recordings"):
            if f.endswith(".spr"):
                shutil.copy2(sp.dir + "/recordings/" + f, there + "/recordings/" + f)
        self.assertEqual(cli("start", directory=there).code, 0)
        try:
            self.rehearse(there, port, old, running, number, serial, events, code)
        finally:
            cli("stop", directory=there)

    def owe_one(self):
        """A rotation of a target that is switched off: it waits there."""
        with open(sp.dir + "/target/host_key.pub") as f:
            pub = " ".join(f.read().split()[:2])
        sp.host("target", "add", "away", "--addr", "127.0.0.1:%d" % free_port(), "--tag", "t", "--host-key", pub, check=True)
        sp.host("account", "add", "svc@away", "--kind", "password", "--password-stdin", input=b"as it was\n", check=True)
        sp.host("target", "disable", "away", check=True)
        sp.host("account", "rotate", "svc@away", "--later", check=True)

    def held(self, there, host):
        """What was due when the backup was made changes nothing at a target until somebody says so."""
        def row():
            return [r for r in host("account", "rotation") if (r["account"], r["target"]) == ("svc", "away")][0]
        self.assertEqual(cli("target", "enable", "away", directory=there).code, 0)
        events = len([e for e in host("audit", "--limit", "10000") if e["event"].startswith("rotation")])
        self.assertEqual([(r["owed"], r["waits_for"]) for r in host("account", "rotation", "--owed") if r["target"] == "away"],
                         [(True, "rotations_held")])
        r = cli("doctor", directory=there)
        self.assertRegex(r.text, r"rotation +1 are owed and held since the restore: svc@away\n")
        self.assertNotEqual(cli("account", "rotate", "svc@away", directory=there).code, 0, "by hand; nobody is there")
        self.assertEqual((row()["failures"], row()["state"]), (1, "failed"))
        with open(there + "/sallyport.conf") as f:
            text = f.read()
        self.assertIn("\nrotations_held 1\n", text)
        self.assertEqual(cli("account", "rotate", "svc@away", "--later", directory=there).code, 0)
        self.assertEqual(row()["failures"], 1)
        with open(there + "/sallyport.conf", "w") as f:
            f.write(text.replace("\nrotations_held 1\n", "\nrotations_held 0\nrotation_retry_s 1\n").replace("\nrotation_retry_s 60\n", "\n"))
        self.assertEqual(cli("reload", directory=there).code, 0)
        wait_for(lambda: row()["failures"] > 1, 60, "the bastion to begin by itself")
        self.assertIsNone(row()["waits_for"])
        self.assertNotIn("held since", cli("doctor", directory=there).text)
        self.assertGreater(len([e for e in host("audit", "--limit", "10000") if e["event"].startswith("rotation")]), events)

    def rehearse(self, there, port, old, running, number, serial, events, code):
        def host(*args):
            r = cli(*args, "--json", directory=there)
            self.assertEqual(r.code, 0, (args, r))
            return r.json()

        audit = host("audit", "--limit", "10000")
        self.assertGreater(len(audit), events)
        self.assertEqual([(e["event"], e["detail"]["leases"]) for e in audit if e["event"] == "restored"], [("restored", "kept")])
        self.assertEqual(cli("audit", "verify", directory=there).code, 0)
        self.assertEqual(cli("seals", directory=there).code, 0)
        sessions = {s["id"]: s for s in host("sessions", "--all")}
        self.assertEqual(set(old + [running]) - set(sessions), set())
        self.assertEqual(sessions[running]["state"], "missing")
        # of what ran when the backup was made, the lease stays until it ends by itself
        sql = other_psql(there)
        self.assertEqual(sql("SELECT state FROM sallyport.leases WHERE session_id = '%s'" % running), "active")
        self.assertEqual(sql("SELECT count(*) FROM sallyport.leases WHERE state = 'revoked'"), "0")
        self.assertGreaterEqual(int(sql("SELECT last_value FROM sallyport.cert_serials")), serial + 2 ** 40)
        self.assertGreater(int(sql("SELECT min(last_step) FROM sallyport.totp_spent")), int(code))
        self.assertEqual(cli("verify", old[0], directory=there).code, 0)
        r = cli("verify", "--all", directory=there)
        self.assertIn(running[:8], r.text)
        self.held(there, host)
        # people come in, with the same host key and a code that is not spent; the grant holds
        with open("%s/people/oscar/ssh_config" % sp.dir) as f:
            text = f.read().replace("Port %d" % sp.port, "Port %d" % port)
        with open(top + "/there.ssh_config", "w") as f:
            f.write(text)
        r = wait_for(lambda: (lambda r: r if r.code == 0 else None)(self.ssh("oscar", there)), 200, "a fresh code")
        self.assertEqual(r.out, b"restored\n", r)
        fresh = host("sessions", "--all")[0]
        self.assertNotIn(fresh["id"], old)
        self.assertEqual([g["request"] for g in host("grants") if g["person"] == "alice"], [number])
        self.assertIn("oscar", [u["name"] for u in host("users", "list")])

    def ssh(self, who, there):
        used = "%s/people/%s/totp.used" % (sp.dir, who)
        try:
            p = subprocess.run(["ssh", "-F", top + "/there.ssh_config", "-o", "ControlPath=none", "-o", "ControlMaster=no",
                                "admin@core-01", "echo restored"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env=sp.ssh_env(who), timeout=100)
        except subprocess.TimeoutExpired:
            return Result(255, b"", b"")
        if p.returncode != 0 and os.path.exists(used):
            pass
        return Result(p.returncode, p.stdout, p.stderr)

    def test_ways_to_the_key(self):
        """The instance's own vault, a passphrase of the backup; and on a machine that has nothing what opens a slot of the vault: a
        passphrase, shares of custodians, the credential that systemd hands over."""
        shares = sp.host("vault", "slots", "add", "shares", "--k", "2", "--n", "3", "--label", "bank", "--json", check=True).json()
        shares, slot = [s.encode() for s in shares["shares"]], [s["id"] for s in sp.host("vault", "slots", "--json").json()
                                                                  if s["type"] == "shares"][0]
        sp.host("vault", "slots", "verify", str(slot), input=b"\n".join(shares) + b"\n", check=True)
        with open(top + "/credential", "wb") as f:
            f.write(os.urandom(48))
        sp.host("vault", "slots", "add", "credential", "--from", top + "/credential", check=True)
        r = cli("vault", "slots", "add", "passphrase", "--label", "bank", input=SLOT + b"\n")
        self.assertEqual(r.code, 0, r)
        path = backup("ways.spb", "--passphrase-file", top + "/pass")
        r = cli("backup", "--verify", path, "--json")
        self.assertEqual((r.code, r.json()["state"]), (0, "whole"), r)
        empty = top + "/nothing"
        for args, input, code in ((["--passphrase"], PASS + b"\n", 0), (["--passphrase"], b"another\n", 1),
                                  (["--demo-key", demo_key()], None, 0), ([], SLOT + b"\n", 0), ([], b"wrong\n", 1),
                                  (["--shares"], shares[2] + b"\n" + shares[0] + b"\n", 0),
                                  (["--shares"], shares[1] + b"\n" + shares[1] + b"\n", 75),
                                  (["--credential", top + "/credential"], None, 0), (["--credential", top + "/pass"], None, 1)):
            r = cli("backup", "--verify", path, *args, directory=empty, input=input)
            self.assertEqual(r.code, code, (args, r))
        self.assertEqual([d for d in os.listdir("/tmp") if d.startswith("sallyport-vault.") and owned(d)], [])
        only = backup("only.spb", "--passphrase-only", "--passphrase-file", top + "/pass")
        self.assertEqual(cli("backup", "--verify", only, "--passphrase-file", top + "/pass", directory=empty).code, 0)
        self.assertEqual(cli("backup", "--verify", only, directory=empty, input=b"no\n").code, 1)

    def test_nothing_is_written_over_and_nothing_half_is_left(self):
        path = backup("twice.spb")
        with open(path, "rb") as f:
            before = f.read()
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        r = cli("backup", path)
        self.assertEqual(r.code, 1, r)
        with open(path, "rb") as f:
            self.assertEqual(f.read(), before)
        # killed at any moment: no name, or a whole file
        for i, marker in enumerate((b"", b"pg_dump")):
            new = top + "/killed-%d.spb" % i
            p = subprocess.Popen([sp.dir + "/opt/bin/sallyport", "-D", sp.dir, "backup", new], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=sp.env(), start_new_session=True)
            sp.started.append(p)
            wait_for(lambda: p.poll() is not None or not marker or children(p.pid), 60, "its work")
            os.killpg(p.pid, 9)
            p.wait()
            if os.path.exists(new):
                self.assertEqual(cli("backup", "--verify", new).code, 0)
        self.assertEqual([f for f in os.listdir(top) if f.startswith(".") or "tmp" in f], [])

    def test_what_is_no_backup_of_ours(self):
        """Cut, changed, longer, old, foreign: a clear refusal, and nothing is made."""
        path = backup("good.spb")
        with open(path, "rb") as f:
            good = f.read()
        n = len(good)
        bad = {"empty": b"", "text": b"hello\n" * 100, "newer": good.replace(b"SPBACKUP 1\n", b"SPBACKUP 2\n", 1),
               "cut-1": good[:-1], "cut-half": good[:n // 2], "cut-head": good[:40], "longer": good + b"x", "longer-2": good + good[-200:]}
        for at in (5, 11, 20, 60, n // 3, n // 2, n - 30, n - 1):
            bad["bit-%d" % at] = good[:at] + bytes([good[at] ^ 1]) + good[at + 1:]
        there = top + "/refused"
        for name, data in bad.items():
            with open(top + "/bad.spb", "wb") as f:
                f.write(data)
            for args in (["backup", "--verify", top + "/bad.spb"], ["restore", top + "/bad.spb", there, "--demo-key", demo_key()]):
                r = cli(*args, input=b"\n")
                self.assertEqual(r.code, 1, (name, args, r))
                self.assertIn("sallyport: ", r.text)
            self.assertFalse(os.path.exists(there), name)
        other = top + "/other-key"
        with open(demo_key()) as f:
            words = f.read()
        i = len(words.rstrip()) - 3
        with open(other, "w") as f:
            f.write(words[:i] + ("0" if words[i] != "0" else "1") + words[i + 1:])
        self.assertNotEqual(cli("restore", path, there, "--demo-key", other, input=b"\n").code, 0)
        self.assertFalse(os.path.exists(there))
        os.makedirs(there)
        with open(there + "/mine", "w") as f:
            f.write("mine")
        r = cli("restore", path, there, "--demo-key", demo_key())
        self.assertEqual(r.code, 1, r)
        self.assertEqual(os.listdir(there), ["mine"])

    def test_end_leases(self):
        p = sp.ssh_start("oscar", "admin@core-01", "echo in; cat", stdin=subprocess.PIPE)
        read_until(p.stdout, b"in\n", 60)
        path = backup("leases.spb")
        sp.drop(p)
        there = top + "/ended"
        r = cli("restore", path, there, "--end-leases", "--demo-key", demo_key(), "--listen", "127.0.0.1:%d" % free_port())
        self.assertEqual(r.code, 0, r)
        self.assertEqual(cli("start", directory=there).code, 0)
        try:
            sql = other_psql(there)
            self.assertEqual(sql("SELECT count(*) FROM sallyport.leases WHERE state = 'active'"), "0")
            self.assertNotEqual(sql("SELECT count(*) FROM sallyport.leases WHERE state = 'revoked'"), "0")
        finally:
            cli("stop", directory=there)

    def test_one_of_the_days_when_the_host_key_was_a_file(self):
        """The private half lies in keys/, and the vault's state has none. The restored bastion takes it into its state, the file goes,
        and people see the bastion that they know."""
        name, front = "/keys/ssh_host_ed25519_key", top + "/front"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", front], check=True, stdin=subprocess.DEVNULL)
        with open(front, "rb") as f:
            text = f.read()
        with open(front + ".pub", "rb") as f:
            public = f.read()
        seed = base64.b64decode(b"".join(text.split(b"\n")[1:-2]))
        seed = seed[seed.rindex(ed25519_of(public.decode())) - 32:][:32]
        old = subprocess.run([os.environ["SALLYPORT_BUILD"] + "/tests/support/old_state", sp.dir + "/vault"], check=True,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=60).stdout
        was = [put(sp.dir + "/vault/state", old), put(sp.dir + name + ".pub", public)]
        put(sp.dir + name, text, 0o600)
        try:
            path = backup("before.spb")
        finally:
            put(sp.dir + "/vault/state", was[0])
            put(sp.dir + name + ".pub", was[1])
            os.unlink(sp.dir + name)
        with open(path, "rb") as f:
            self.assertNotIn(text[40:100], f.read())
        there, port = top + "/before", free_port()
        r = cli("restore", path, there, "--listen", "127.0.0.1:%d" % port, "--demo-key", demo_key())
        self.assertEqual(r.code, 0, r)
        with open(there + name, "rb") as f:
            self.assertEqual((f.read(), os.fstat(f.fileno()).st_mode & 0o77), (text, 0))
        self.assertEqual(self.host_key(there), "")
        for _ in range(2):
            self.assertEqual(cli("start", directory=there).code, 0)
            try:
                wait_for(lambda: not os.path.exists(there + name), 60, "the file to go")
                self.assertEqual(self.host_key(there).split()[:2], public.decode().split()[:2])
                r = wait_for(lambda: (lambda r: r if b"Permission denied" in r else None)(self.knock(port, public)), 60, "the front")
                self.assertIn(b"is known and matches the ED25519 host key", r)
                r = cli("audit", "--limit", "1000", "--json", directory=there)
                self.assertEqual([e["event"] for e in r.json() if e["event"].startswith("host_key")], ["host_key_kept"])
                self.assertNotIn("host key", [c["check"] for c in cli("doctor", "--json", directory=there).json() if c["state"] == "fail"])
            finally:
                cli("stop", directory=there)
        for at, _, names in os.walk(there):
            for n in names:
                if os.path.isfile(at + "/" + n):
                    with open(at + "/" + n, "rb") as f:
                        data = f.read()
                    self.assertFalse(seed in data or text[100:160] in data, at + "/" + n)

    def host_key(self, there):
        """What the state of a vault has."""
        r = subprocess.run([sp.dir + "/opt/libexec/sallyport/sallyport-vault", "pubkeys", there + "/vault"], check=True,
                           stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=60)
        return json.loads(r.stdout)["host_key"]

    def knock(self, port, public):
        """A stranger who knows this host key alone: the exchange of keys goes through, and nobody is let in."""
        with open(top + "/front.known", "wb") as f:
            f.write(b"[127.0.0.1]:%d " % port + public)
        return subprocess.run(["ssh", "-v", "-F", "none", "-p", str(port), "-o", "UserKnownHostsFile=" + top + "/front.known", "-o",
                               "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "IdentityFile=/nonexistent", "nobody@127.0.0.1",
                               "true"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120).stderr

    def test_no_secret_is_readable_in_it(self):
        path = backup("canary.spb")
        with open(path, "rb") as f:
            data = f.read()
        with open(sp.dir + "/target/legacy.password", "rb") as f:
            canary = f.read().strip()
        self.assertNotIn(canary, data)
        self.assertNotIn(b"core-01", data)
        self.assertNotIn(b"OPENSSH PRIVATE KEY", data)


def owned(name):
    try:
        return os.stat("/tmp/" + name).st_uid in (os.geteuid(), 0) and not os.path.exists("/tmp/%s/run/vault.sock" % name)
    except OSError:
        return False


def children(pid):
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
            return f.read().split()
    except OSError:
        return []


def other_psql(there):
    class Other(Instance):
        def __init__(self):
            self.dir = there
    return Other().psql


if __name__ == "__main__":
    main()
