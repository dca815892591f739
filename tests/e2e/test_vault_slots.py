# SPDX-License-Identifier: Apache-2.0
"""Slots of the vault as an operator and the custodians of its shares meet them, on an instance outside of a demonstration."""
import json
import os
import pwd
import random
import shutil
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from qr import codes_in  # noqa: E402
from sp import main, wait_for  # noqa: E402
from test_passphrase import Sealed, on_a_terminal  # noqa: E402

PASS = "the passphrase of test_vault_slots"
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAdh0jH6m8gYKPsvZVgMH/kQ+9HLB2TdU3cN5JtZPpcy"
shares = []


class Slotted(Sealed):
    extra = {}

    def env(self):
        return dict(super().env(), **self.extra)

    def role_pid(self, exe):
        for d in os.listdir("/proc"):
            try:
                with open("/proc/%s/cmdline" % d, "rb") as f:
                    if f.read().split(b"\0")[0].decode() == self.base + "/opt/libexec/sallyport/" + exe:
                        return d
            except OSError:
                continue
        return None

    def vault_pid(self):
        return self.role_pid("sallyport-vault")

    def broker_pid(self):
        return self.role_pid("sallyport-broker")


def setUpModule():
    global sp
    sp = Slotted()
    sp.host("init", "--embedded", "--listen", "127.0.0.1:%d" % sp.port, sp.dir, input=PASS.encode() + b"\n", check=True)
    sp.host("start", check=True)
    sp.host("vault", "unseal", input=PASS.encode() + b"\n", check=True)


def tearDownModule():
    sp.close()


def state():
    return sp.host("vault", "status", "--json", check=True).json()["state"]


def status():
    """As state(), also while nothing answers."""
    r = sp.host("vault", "status", "--json")
    return r.json()["state"] if r.code == 0 else None


def unsealed():
    wait_for(lambda: sp.host("vault", "unseal", input=PASS.encode() + b"\n").code == 0, 60, "an unseal")


def again(r):
    """A command that is told to try again later."""
    if r.code == 75 or b"try again" in r.err:
        if status() == "sealed":
            unsealed()
        return None
    assert r.code == 0, r
    return r.json()


def lines(*texts):
    return ("\n".join(texts) + "\n").encode()


def rows():
    return sp.host("vault", "slots", "--json", check=True).json()


def events(what):
    return [e for e in sp.host("audit", "--json", "--limit", "200", check=True).json() if what in json.dumps(e)]


class Slots(unittest.TestCase):
    def test_1_list(self):
        r = rows()
        self.assertEqual([(x["id"], x["type"], x["state"]) for x in r], [(1, "passphrase", "usable")])
        self.assertIn("passphrase", sp.host("vault", "slots", check=True).text)
        r = sp.host("vault", "slots", "remove", "1")
        self.assertEqual(r.code, 1)
        self.assertIn("no other slot", r.text)

    def test_2_shares_are_made_and_proven(self):
        for bad in (("--k", "1", "--n", "3"), ("--k", "4", "--n", "3"), ("--k", "2", "--n", "33")):
            self.assertEqual(sp.host("vault", "slots", "add", "shares", *bad).code, 1, bad)
        r = sp.host("vault", "slots", "add", "shares", "--k", "2", "--n", "3", "--label", "custodians", "--json", check=True).json()
        self.assertEqual((r["id"], r["state"], len(r["shares"])), (2, "pending", 3))
        shares.extend(r["shares"])
        self.assertEqual([(x["k"], x["n"], x["label"], x["state"]) for x in rows() if x["type"] == "shares"],
                         [(2, 3, "custodians", "pending")])
        text = sp.host("vault", "slots", "add", "shares", "--k", "2", "--n", "2", "--qr", check=True)
        self.assertIn("share 2 of 2", text.text)
        codes = codes_in(text.text)
        self.assertEqual(codes, [x.split()[0].replace("-", "") for x in text.text.split("\n") if x.startswith("  SPS1-")])
        self.assertEqual(len(codes), 2)
        sp.host("vault", "slots", "remove", "3", check=True)
        r = sp.host("vault", "slots", "verify", "2", input=lines(codes[0], shares[1], shares[1], shares[0]))
        self.assertEqual(r.code, 75, "one is missing")
        for words in ("of another set", "share 2 was given already", "2 of 3 given"):
            self.assertIn(words, r.text)
        self.assertEqual(rows()[1]["state"], "pending")
        r = sp.host("vault", "slots", "verify", "2", input=lines(*shares), check=True)
        self.assertEqual(rows()[1]["state"], "usable")
        for s in shares:
            self.assertNotIn(s[10:40], r.text)
        self.assertTrue(wait_for(lambda: events("vault_slot_proven"), what="its audit event"))

    def test_3_custodians_unseal(self):
        sp.host("vault", "seal", check=True)
        r = sp.host("vault", "share", input=lines(shares[0]))
        self.assertIn("no ceremony", r.text)
        r = sp.host("vault", "unseal", "--shares", input=lines(shares[2], shares[2].lower().replace("-", " ")))
        self.assertEqual((r.code, state()), (75, "sealed"))
        operator = subprocess.Popen([sp.base + "/opt/bin/sallyport", "-D", sp.dir, "vault", "unseal", "--shares"], env=sp.env(),
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            nobody = pwd.getpwnam("nobody")

            def give(share):
                argv = [sp.base + "/opt/bin/sallyport", "-D", sp.dir, "vault", "share"]
                p = subprocess.run(argv, input=lines(share), env=sp.env(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   timeout=60, user=nobody.pw_uid if os.geteuid() == 0 else None,
                                   group=nobody.pw_gid if os.geteuid() == 0 else None,
                                   extra_groups=[] if os.geteuid() == 0 else None)
                return p.returncode, p.stdout.decode()

            wait_for(lambda: give(shares[0])[0] == 0 or None, 60, "the ceremony to take a custodian's share")
            again = sp.host("vault", "unseal", "--shares", input=lines(shares[1]))
            self.assertEqual(again.code, 75, again)
            rc, text = give(shares[0])
            self.assertEqual(rc, 1)
            self.assertIn("given already", text)
            rc, text = give(shares[1])
            self.assertEqual(rc, 0, text)
            out = operator.communicate(timeout=60)[0].decode()
        finally:
            operator.kill()
            operator.wait()
        self.assertEqual(operator.returncode, 0, out)
        self.assertIn("1 of 2 given", out)
        self.assertEqual(state(), "open")

    def test_4_a_credential(self):
        cred = sp.base + "/cred"
        with open(cred, "wb") as f:
            f.write(os.urandom(32))
        sp.host("vault", "slots", "add", "credential", "--from", cred, "--label", "boot", check=True)
        sp.host("vault", "seal", check=True)
        r = sp.host("vault", "unseal", "--credential", sp.base + "/opt/bin/sallyport")
        self.assertEqual(r.code, 2, r)
        sp.host("vault", "unseal", "--credential", cred, check=True)
        self.assertEqual(state(), "open")

    def test_4_a_token_of_pkcs11(self):
        module = next((p for p in ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so") if os.path.exists(p)), None)
        if module is None or shutil.which("softhsm2-util") is None:
            self.skipTest("softhsm2 is not installed")
        hsm = sp.base + "/hsm"
        os.mkdir(hsm)
        with open(hsm + "/conf", "w") as f:
            f.write("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n" % hsm)
        with open(hsm + "/aes", "wb") as f:
            # softhsm2-util reads a file up to its first NUL: a random key may become one of no AES length.
            f.write(os.urandom(16).hex().encode())
        env = dict(os.environ, SOFTHSM2_CONF=hsm + "/conf")
        for words in (("--init-token", "--free", "--label", "bank", "--so-pin", "12345678", "--pin", "4711"),
                      ("--import", hsm + "/aes", "--aes", "--token", "bank", "--label", "wrap", "--id", "a1", "--pin", "4711")):
            r = subprocess.run(["softhsm2-util"] + list(words), env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
            self.assertEqual(r.returncode, 0, r.stdout)
        os.unlink(hsm + "/aes")
        r = sp.host("vault", "slots", "add", "pkcs11", "--token", "bank", "--key", "wrap", input=b"4711\n")
        self.assertIn("pkcs11_module", r.text)
        sp.configure(pkcs11_module=module)
        if os.geteuid() == 0:
            who = pwd.getpwnam("sallyport-token")
            for where, dirs, names in os.walk(hsm):
                for n in [where] + [os.path.join(where, n) for n in names]:
                    os.chown(n, who.pw_uid, who.pw_gid)
        sp.extra = {"SOFTHSM2_CONF": hsm + "/conf"}
        try:
            add = ("vault", "slots", "add", "pkcs11", "--token")
            r = sp.host(*add, "bank", "--key", "none", input=b"4711\n")
            self.assertEqual((r.code, "no AES key" in r.text), (1, True), r)
            r = sp.host(*add, "bank", "--key", "wrap", input=b"1234\n")
            self.assertEqual((r.code, "the PIN is wrong" in r.text), (1, True), r)
            sp.host(*add, "bank", "--key", "wrap", "--label", "hsm", input=b"4711\n", check=True)
            self.assertEqual([x["label"] for x in rows() if x["type"] == "pkcs11"], ["hsm"])
            sp.host("vault", "seal", check=True)
            r = sp.host("vault", "unseal", "--token", input=b"1234\n")
            self.assertEqual((r.code, state()), (1, "sealed"), r)
            sp.host("vault", "unseal", "--token", input=b"4711\n", check=True)
            self.assertEqual(state(), "open")
            sp.host("vault", "seal", check=True)
            shutil.rmtree(hsm)
            r = sp.host("vault", "unseal", "--token", input=b"4711\n")
            self.assertEqual((r.code, state()), (1, "sealed"), r)
        finally:
            sp.extra = {}
            if state() != "open":
                sp.host("vault", "unseal", input=PASS.encode() + b"\n", check=True)

    def test_5_systemd_hands_the_credential_over(self):
        """As LoadCredentialEncrypted= does: systemd-creds seals it and opens it into $CREDENTIALS_DIRECTORY."""
        creds = sp.base + "/creds"
        os.mkdir(creds, 0o700)
        sealed, how = sp.base + "/cred.sealed", "systemd-creds"
        argv = ["systemd-creds", "encrypt", "--with-key=host", "--name=sallyport-vault", sp.base + "/cred", sealed]
        if shutil.which("systemd-creds") is None or subprocess.run(argv, stderr=subprocess.PIPE).returncode != 0:
            how = "file"
            shutil.copy(sp.base + "/cred", creds + "/sallyport-vault")
        else:
            with open(sealed, "rb") as f, open(sp.base + "/cred", "rb") as g:
                self.assertNotIn(g.read(), f.read())
            subprocess.run(["systemd-creds", "decrypt", "--name=sallyport-vault", sealed, creds + "/sallyport-vault"], check=True)
        print("the credential came by", how)
        sp.host("stop", check=True, timeout=120)
        sp.extra = {"CREDENTIALS_DIRECTORY": creds}
        try:
            sp.host("start", check=True)
            wait_for(lambda: state() == "open", 60, "the credential to unseal")
            pid = int(sp.vault_pid())
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: sp.vault_pid() not in (None, str(pid)) and status() == "open", 60, "it to unseal a fresh vault")
        finally:
            sp.extra = {}
        with open(creds + "/sallyport-vault", "wb") as f:
            f.write(os.urandom(32))
        sp.host("vault", "seal", check=True)
        os.kill(int(sp.vault_pid()), signal.SIGKILL)
        wait_for(lambda: events("the credential of systemd opens no slot") or None, 60, "the refusal")
        self.assertEqual(status(), "sealed")
        sp.host("vault", "unseal", input=PASS.encode() + b"\n", check=True)

    def test_6_rotation_is_resumed_after_any_kill(self):
        names = ["p%02d" % i for i in range(30)]
        for n in names:
            sp.host("users", "add", n, "--display", n, "--group", "operators", check=True)
            if n < "p05":
                sp.host("users", "totp", n, "--json", check=True)
        sp.host("target", "add", "core-01", "--addr", "127.0.0.1", "--port", "22", "--host-key", HOST_KEY, check=True)
        sp.host("account", "add", "root@core-01", "--kind", "password", "--password-stdin", input=b"the password\n", check=True)
        sp.host("krl", "revoke", "--serial", "7", check=True)
        r = sp.host("vault", "rotate", "--json", check=True).json()
        self.assertEqual((r["state"], r["epoch"]), ("rotated", 2))
        self.assertGreater(r["renewed"], 36)
        self.assertEqual(sp.host("vault", "rotate", "--json", check=True).json()["epoch"], 3)
        for i in range(8):
            p = subprocess.Popen([sp.base + "/opt/bin/sallyport", "-D", sp.dir, "vault", "rotate"], env=sp.env(),
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            p.stdout.readline()         # the new keys are there
            time.sleep(random.random() * 0.08)      # anywhere among the rows
            victim = (sp.vault_pid, sp.broker_pid, lambda: p.pid)[i % 3]()
            os.kill(int(victim), signal.SIGKILL)
            p.communicate(timeout=120)
            wait_for(lambda: status() in ("open", "sealed"), 60, "the vault")
            if status() == "sealed":
                unsealed()
            wait_for(lambda: sp.host("seals", "--json").code == 0 or None, 60, "every row to verify")
        r = wait_for(lambda: again(sp.host("vault", "rotate", "--json", timeout=120)), 90, "a rotation that goes on")
        self.assertEqual(r["state"], "rotated")
        self.assertTrue(all(x["broken"] == 0 for x in sp.host("seals", "--json", check=True).json()))
        # Each row is its next version, and the chain says so: none reads as one that was put back.
        self.assertEqual(sp.host("seals", "broken", "--json").json(), [])
        told = {e["event"] for e in sp.audit(limit=10000)}
        self.assertIn("rows_sealed_anew", told)
        self.assertEqual(told & {"row_rolled_back", "row_not_in_chain", "row_missing", "row_seal_broken", "audit_rolled_back"}, set())
        text = sp.host("vault", "rotate", check=True).text
        self.assertIn("100 %", text)
        self.assertIn("older keys are gone", text)
        exe = sp.base + "/opt/bin/sallyport"
        rc, shown = on_a_terminal([exe, "-D", sp.dir, "vault", "rotate"], [], sp.env())
        self.assertEqual(rc, 0, shown)
        self.assertRegex(shown, r"\[#+\.*\] +\d+ %  \d+ of \d+ rows")
        with open(sp.dir + "/vault/state", "rb") as f:
            f.seek(12)
            self.assertGreater(f.read(1)[0], 0)

    def test_7_a_forged_row_is_not_made_anew_and_keeps_the_old_keys(self):
        sp.psql("UPDATE sallyport.people SET display = 'somebody else' WHERE name = 'p07'")
        r = sp.host("vault", "rotate")
        self.assertEqual(r.code, 1, r)
        self.assertIn("1 have a broken seal", r.text)
        self.assertIn("kept", r.text)
        sp.psql("UPDATE sallyport.people SET display = 'p07' WHERE name = 'p07'")
        r = sp.host("vault", "rotate")
        self.assertEqual(r.code, 0, r)
        self.assertIn("goes on", r.text)
        self.assertEqual(sp.host("seals").code, 0)

    def test_8_the_first_slot_can_go(self):
        sp.host("vault", "slots", "remove", "1", check=True)
        sp.host("vault", "seal", check=True)
        self.assertEqual(sp.host("vault", "unseal", input=PASS.encode() + b"\n").code, 1)
        sp.host("vault", "unseal", "--shares", input=lines(shares[1], shares[0]), check=True)
        sp.host("stop", check=True, timeout=120)
        sp.host("start", check=True)
        self.assertEqual(state(), "sealed")
        sp.host("vault", "unseal", "--shares", input=lines(shares[2], shares[0]), check=True)
        log = sp.log() if os.path.exists(sp.dir + "/log/sallyport.log") else ""
        for s in shares:
            self.assertNotIn(s[10:40], log)


if __name__ == "__main__":
    main()
