# SPDX-License-Identifier: Apache-2.0
"""Slots of the vault as an operator and the custodians of its shares meet them, on an instance outside of a demonstration."""
import json
import os
import pwd
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from sp import main, wait_for  # noqa: E402
from test_passphrase import Sealed  # noqa: E402

PASS = "the passphrase of test_vault_slots"
shares = []


def setUpModule():
    global sp
    sp = Sealed()
    sp.host("init", "--embedded", "--listen", "127.0.0.1:%d" % sp.port, sp.dir, input=PASS.encode() + b"\n", check=True)
    sp.host("start", check=True)
    sp.host("vault", "unseal", input=PASS.encode() + b"\n", check=True)


def tearDownModule():
    sp.close()


def state():
    return sp.host("vault", "status", "--json", check=True).json()["state"]


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
        self.assertIn("█", text.text)
        sp.host("vault", "slots", "remove", "3", check=True)
        other = [x.split()[0] for x in text.text.split("\n") if x.startswith("  SPS1-")][0]

        r = sp.host("vault", "slots", "verify", "2", input=lines(other, shares[1], shares[1], shares[0]))
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

    def test_5_the_first_slot_can_go(self):
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
