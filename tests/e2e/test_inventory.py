# SPDX-License-Identifier: Apache-2.0
"""The inventory: its verbs."""
import json
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import TOP, Instance, main, read_until, wait_for  # noqa: E402

POLICY = """
network loopback 127.0.0.0/8, ::1
permit "core" who group sysadmins on tag core as admin, legacy when source in loopback
  require approval 1 of approvers, mfa totp for 1h allow shell, exec
permit "free" who group operators on tag core as admin, legacy when source in loopback require mfa totp for 1h
"""


def setUpModule():
    global sp
    sp = Instance(policy=POLICY)
    sp.add_person("oscar", "operators")


def tearDownModule():
    sp.close()


def host(*args, **k):
    return sp.host(*args, **k)


class Verbs(unittest.TestCase):
    def test_pages(self):
        """A page holds as many as it says, the next one begins where it ended; nothing is left out or shown twice."""
        for i in range(5):
            host("target", "add", "p-%d" % i, "--addr", "192.0.2.%d" % (i + 1), "--tag", "paged", "--host-key",
                 "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh", check=True)
            for a in ("one", "two"):
                host("account", "add", "%s@p-%d" % (a, i), "--kind", "cert", check=True)
        for verb, name, want, more in (
                (["targets", "list", "--tag", "paged"], lambda r: r["name"], ["p-%d" % i for i in range(5)], "targets list --after p-1"),
                (["account", "list"], lambda r: "%s@%s" % (r["account"], r["target"]),
                 ["%s@p-%d" % (a, i) for i in range(5) for a in ("one", "two")], None),
                (["users", "list"], lambda r: r["name"], ["alice", "bob", "carol", "oscar"], "users list --after bob")):
            got, after = [], []
            while True:
                page = host(*verb, "--limit", "2", *after, "--json", check=True).json()
                self.assertLessEqual(len(page), 2)
                if not page:
                    break
                got += [name(r) for r in page]
                after = ["--after", got[-1]]
            self.assertEqual(len(got), len(set(got)))
            self.assertEqual([g for g in got if g in want], want)
            if more:
                self.assertIn(more, host(*verb, "--limit", "2", check=True).text)
        self.assertEqual(host("targets", "list", "--limit", "0").code, 2)
        self.assertEqual([r["account"] for r in host("account", "list", "--target", "p-3", "--json", check=True).json()], ["one", "two"])
        self.assertEqual([r["name"] for r in host("users", "list", "--group", "operators", "--json", check=True).json()], ["oscar"])

    def test_show(self):
        r = host("target", "show", "core-01", "--json", check=True).json()
        self.assertIn("ssh-ed25519 ", r["host_keys"])
        self.assertIn("admin", r["accounts"])
        self.assertIn("SHA256:", host("target", "show", "core-01", check=True).text)
        r = host("account", "show", "legacy@core-01", "--json", check=True).json()
        self.assertEqual((r["kind"], r["has_secret"], r["enabled"]), ("password", True, True))
        for verb in ("target", "account", "secret"):
            r = host(verb, "show", "nobody@nowhere" if verb != "target" else "nowhere")
            self.assertEqual(r.code, 1)
            self.assertIn("list shows them", r.text)
            self.assertEqual(host(verb, "show", "Not A Name").code, 1 if verb == "target" else 2)

    def test_an_account_is_shut_at_once(self):
        p = sp.ssh_start("oscar", "admin@core-01", "echo in; cat", stdin=subprocess.PIPE)
        read_until(p.stdout, b"in\n", 60)
        self.assertEqual(host("account", "disable", "admin@core-01", "--json", check=True).json()["state"], "disabled")
        self.assertEqual(p.wait(60) != 0, True)
        r = sp.ssh("oscar", "admin@core-01", "true")
        self.assertNotEqual(r.code, 0, r)
        self.assertFalse(host("account", "show", "admin@core-01", "--json", check=True).json()["enabled"])
        self.assertNotIn("admin@core-01", sp.ssh("oscar", "bastion", "menu").text)
        host("account", "enable", "admin@core-01", check=True)
        r = sp.ssh("oscar", "admin@core-01", "echo back")
        self.assertEqual((r.code, r.out), (0, b"back\n"), r)
        self.assertEqual([e["detail"]["account"] for e in sp.audit("account_disable")], ["admin@core-01"])

    def test_secrets(self):
        """set replaces at the next version, add never replaces, remove shuts the way in; the value is nowhere to be seen."""
        with open(sp.dir + "/target/legacy.password", "rb") as f:
            right = f.read()
        first = host("secret", "show", "legacy@core-01", "--json", check=True).json()
        r = host("secret", "add", "legacy@core-01", "--password-stdin", input=b"other\n")
        self.assertEqual(r.code, 1, r)
        self.assertIn("secret set", r.text)
        host("secret", "set", "legacy@core-01", "--password-stdin", input=b"wrong-on-purpose\n", check=True)
        self.assertNotEqual(sp.ssh("oscar", "legacy@core-01", "true").code, 0)
        now = host("secret", "show", "legacy@core-01", "--json", check=True).json()
        self.assertEqual((now["version"], now["kind"], now["state"]), (first["version"] + 1, "password", "current"))
        self.assertEqual([(v["id"], v["state"]) for v in now["versions"]], [(now["id"], "current"), (first["id"], "previous")])
        host("secret", "remove", "legacy@core-01", check=True)
        self.assertNotEqual(sp.ssh("oscar", "legacy@core-01", "true").code, 0)
        self.assertFalse(host("account", "show", "legacy@core-01", "--json", check=True).json()["has_secret"])
        self.assertEqual(host("secret", "remove", "legacy@core-01").code, 1)
        host("secret", "add", "legacy@core-01", "--password-stdin", input=right, check=True)
        r = sp.ssh("oscar", "legacy@core-01", "echo right")
        self.assertEqual((r.code, r.out), (0, b"right\n"), r)
        self.assertNotIn(right.decode().strip(), host("secret", "list", check=True).text)
        self.assertEqual([s["account"] for s in host("secret", "list", "--target", "core-01", "--json", check=True).json()], ["legacy@core-01"])
        for bad in ([], ["--password-stdin", "--generate"], ["--password", "x"]):
            self.assertEqual(host("secret", "set", "legacy@core-01", *bad).code, 2)
        # a blob of another row is refused by the version, or is useless: the vault sealed it for that row alone
        self.assertEqual(host("secret", "store", "legacy@core-01", "--id", first["id"], "--version", "9", "--kind", "password",
                              "--sealed", "00").code, 75)

    def test_a_kind_changes(self):
        host("target", "add", "k-1", "--addr", "192.0.2.77", "--host-key",
             "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh", check=True)
        host("account", "add", "a@k-1", "--kind", "cert", check=True)
        self.assertIn("ssh-ed25519", host("secret", "set", "a@k-1", "--generate", check=True).text)
        self.assertEqual(host("account", "show", "a@k-1", "--json", check=True).json()["kind"], "key")
        self.assertEqual(host("account", "set", "a@k-1", "--kind", "password").code, 2)
        host("account", "set", "a@k-1", "--kind", "cert", check=True)
        r = host("account", "show", "a@k-1", "--json", check=True).json()
        self.assertEqual((r["kind"], r["has_secret"]), ("cert", False))
        self.assertEqual(host("secret", "list", "--target", "k-1", "--json", check=True).json(), [])

    def test_grants(self):
        number = sp.grant("alice", "admin@core-01", "bob", "20m")
        for who, mine in (("alice", True), ("bob", False), ("carol", False)):
            r = sp.ssh(who, "bastion", "grants", "--json")
            g = [g for g in r.json() if g["request"] == number]
            self.assertEqual([(x["state"], x["person"], x["where"], x["mine"]) for x in g],
                             [("active", "alice", "admin@core-01", mine)], (who, r))
            self.assertIn("shell", g[0]["allows"])
        self.assertEqual(sp.ssh("oscar", "bastion", "grants", "--json").json(), [])
        self.assertIn("alice", sp.ssh("bob", "bastion", "grants").text)
        sp.ssh("alice", "bastion", "revoke", str(number))
        self.assertEqual(sp.ssh("alice", "bastion", "grants", "--json").json(), [])
        g = [g for g in sp.ssh("alice", "bastion", "grants", "--all", "--json").json() if g["request"] == number]
        self.assertEqual(g[0]["state"], "revoked")

    def test_sessions_say_what_they_may(self):
        self.assertEqual(sp.ssh("oscar", "admin@core-01", "true").code, 0)
        s = wait_for(lambda: [s for s in sp.sessions() if s["person"] == "oscar" and s["state"] != "running"], 60, "a session")
        self.assertTrue(s[0]["allows"])
        self.assertIn("ALLOWS", host("sessions", "--all", check=True).text)


if __name__ == "__main__":
    main()
