# SPDX-License-Identifier: Apache-2.0
"""The inventory: its verbs, `apply -f` and `export inventory`."""
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance, Result, free_port, main, read_until, wait_for  # noqa: E402

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
        self.assertIn("oscar", [r["name"] for r in host("users", "list", "--group", "operators", "--json", check=True).json()])
        self.assertNotIn("alice", [r["name"] for r in host("users", "list", "--group", "operators", "--json", check=True).json()])

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

    def test_each_verb_says_json(self):
        """What target, account, secret and vault say with --json is one JSON value, whatever they did."""
        with open(sp.dir + "/target/host_key.pub") as f:
            pub = " ".join(f.read().split()[:2])
        key, slot = b"a password\n", b"a passphrase of this test\n"
        with open(sp.dir + "/vault/DEMONSTRATION-ONLY.key", "rb") as f:
            demo = f.read().strip() + b"\n"
        shares = []
        for line, given in (
                ("target add js --addr 192.0.2.9 --tag js --host-key", None), ("target set js --tag jt", None), ("target show js", None),
                ("target setup js", None), ("targets list", None), ("targets", None), ("account add a@js --kind cert", None),
                ("account add p@js --kind password --password-stdin", key), ("account add k@js --kind key --generate", None),
                ("account set a@js --exclusive on", None), ("account list", None), ("account show a@js", None), ("account rotation", None),
                ("account disable a@js", None), ("account enable a@js", None), ("target reconcile js k", None),
                ("target reconcile js none", None), ("secret list", None), ("secret show p@js", None),
                ("secret set p@js --password-stdin", key), ("secret rule p@js --group approvers --yes --approvals 1 --for 30m", None),
                ("secret rule p@js", None), ("secret rule p@js --none", None), ("secret remove p@js", None),
                ("secret add p@js --password-stdin", key), ("target disable js", None), ("account rotate p@js --later", None),
                ("vault status", None), ("vault ca-key", None), ("vault slots", None),
                ("vault slots add passphrase --label js", slot), ("vault slots add shares --k 2 --n 2 --label js", None),
                ("vault slots verify", shares), ("vault rotate", None), ("vault seal", None), ("vault unseal --shares", shares),
                ("vault seal", None), ("vault unseal", demo), ("target enable js", None), ("account remove p@js", None),
                ("account remove a@js", None), ("account remove k@js", None), ("target remove js", None)):
            words = line.split() + ([pub] if line.endswith("--host-key") else [])
            if line == "vault slots verify":
                words.append(str(slots["js"]))
            r = host(*words, "--json", **({"input": b"".join(given) if given is shares else given} if given else {}))
            self.assertEqual(r.code, 0, (line, r))
            value = r.json()
            self.assertIsInstance(value, (dict, list), line)
            if "--k 2" in line:
                shares.extend(x.encode() + b"\n" for x in value["shares"])
                slots = {"js": value["id"]}
            elif line == "vault ca-key":
                self.assertEqual(value["ca_key"] + "\n", host("vault", "ca-key").out.decode())
        for row in host("vault", "slots", "--json").json():
            if row["label"] == "js":
                host("vault", "slots", "remove", str(row["id"]), check=True)

    def test_sessions_say_what_they_may(self):
        self.assertEqual(sp.ssh("oscar", "admin@core-01", "true").code, 0)
        s = wait_for(lambda: [s for s in sp.sessions() if s["person"] == "oscar" and s["state"] != "running"], 60, "a session")
        self.assertTrue(s[0]["allows"])
        self.assertIn("ALLOWS", host("sessions", "--all", check=True).text)


def key(n):
    """A public key of its own for each number."""
    import base64
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + n.to_bytes(32, "big")
    return "ssh-ed25519 " + base64.b64encode(blob).decode()


class Apply(unittest.TestCase):
    def setUp(self):
        self.dir = sp.dir + "/inventories"
        os.makedirs(self.dir, exist_ok=True)

    def write(self, text, name="x.yaml"):
        path = self.dir + "/" + name
        with open(path, "w") as f:
            f.write(text)
        return path

    def apply(self, text, *args, **k):
        return host("apply", "-f", self.write(text), *args, **k)

    def export(self):
        return host("export", "inventory", check=True).out.decode()

    def test_plan_apply_nothing_to_do(self):
        text = """
version: 1
users:
  dave:
    display: Dave "the" Admin
    groups: [sysadmins, net]
    keys: ["%s dave@laptop"]
targets:
  b-inner:
    addresses: ["192.0.2.20:22", "[2001:db8::1]:2222"]
    host_keys: ["%s"]
    tags: [core, net]
    via: hop@b-jump
    accounts: {root: {kind: cert, exclusive: true}, svc: {kind: key, secret: generate}}
  b-jump:
    addresses: [192.0.2.21]
    host_keys: ["%s"]
    accounts: {hop: {kind: cert}}
""" % (key(1), key(2), key(3))
        before = self.export()
        r = self.apply(text, "--plan")
        self.assertEqual(r.code, 0, r)
        for line in ("+ user dave", "+ group net", "+ target b-inner", "via hop@b-jump", "+ account svc@b-inner", "one person's at a time", "secret (made by the vault)",
                     "6 to add, 0 to change, 0 to disable."):
            self.assertIn(line, r.out.decode())
        self.assertNotIn("\x1b", r.out.decode())
        self.assertEqual(self.export(), before)
        r = self.apply(text)
        self.assertEqual(r.code, 2, r)
        self.assertIn("--yes", r.text)
        r = self.apply(text, "--yes")
        self.assertEqual(r.code, 0, r)
        self.assertIn("ssh-ed25519 ", r.text)
        row = host("target", "show", "b-inner", "--json", check=True).json()
        self.assertEqual((row["via"], row["addrs"], row["tags"]), ("hop@b-jump", ["192.0.2.20:22", "[2001:db8::1]:2222"], ["core", "net"]))
        self.assertTrue(host("account", "show", "svc@b-inner", "--json", check=True).json()["has_secret"])
        r = self.apply(text, "--yes", "--json")
        self.assertEqual((r.code, r.json()["state"], r.json()["changes"]), (0, "unchanged", []), r)
        done = [c for e in sp.audit("inventory_apply") for c in e["detail"]["changes"]]
        self.assertIn(("user", "dave", "add"), [(c["object"], c["name"], c["action"]) for c in done])
        # a change of some fields: what is not named stays
        r = self.apply("version: 1\nusers:\n  dave: {groups: [net], keys: [\"%s d\"]}\ntargets:\n  b-inner: {tags: [core]}\n" % key(4), "--yes")
        self.assertEqual(r.code, 0, r)
        for line in ("- group sysadmins", "- key SHA256:", "+ key SHA256:", "- tags core net", "+ tags core"):
            self.assertIn(line, r.out.decode())
        row = host("users", "show", "dave", "--json", check=True).json()
        self.assertEqual((row["groups"], row["display"], len(row["keys"])), (["net"], 'Dave "the" Admin', 1))

    def test_round_trip(self):
        """What is exported applies without a change, here and to another instance, whose export is the same."""
        policy = self.dir + "/here.rules"
        r = host("export", "inventory", "--policy", policy, check=True)
        text = r.out.decode()
        self.assertIn("policy: here.rules", text)
        self.assertIn("secret: keep", text)
        with open(sp.dir + "/target/legacy.password") as f:
            self.assertNotIn(f.read().strip(), text)
        r = self.apply(text, "--yes", "--prune", "--json")
        self.assertEqual((r.code, r.json()["state"]), (0, "unchanged"), r)
        other = Empty()
        try:
            path = self.write(text, "again.yaml")
            r = other.host("apply", "-f", path, "--yes")
            self.assertEqual(r.code, 0, r)
            self.assertIn("has no secret yet", r.text)
            again = other.host("export", "inventory", "--policy", self.dir + "/there/here.rules", check=True).out.decode()
            self.assertEqual(again, text)
            self.assertEqual(open(policy).read(), open(self.dir + "/there/here.rules").read())
            self.assertEqual(other.host("apply", "-f", path, "--json", "--plan", check=True).json()["state"], "unchanged")
        finally:
            other.close()

    def test_rotation_reconcile_and_release(self):
        """Applied in one file with the accounts that they name; exported the same; set by hand and by file alike."""
        text = """
version: 1
targets:
  c-rot:
    addresses: ["192.0.2.30"]
    host_keys: ["%s"]
    reconcile: root
    accounts:
      root: {kind: cert}
      svc: {kind: key, secret: generate, rotate: after-use 30d, release: 2 of approvers}
      app: {kind: password, rotate: 12h, password_rule: length=20 classes=lud}
""" % key(7)
        r = self.apply(text, "--plan")
        self.assertEqual(r.code, 0, r)
        for line in ("~ reconciled by root@c-rot", "+ rotate after-use 30d", "+ rotate 12h", "+ password rule length=20 classes=lud",
                     "svc@c-rot should have the release rule 2 of approvers"):
            self.assertIn(line, r.text)
        r = self.apply(text, "--yes")
        self.assertEqual(r.code, 0, r)
        r = self.apply(text, "--yes", "--json")
        self.assertEqual((r.code, r.json()["state"], r.json()["changes"]), (0, "unchanged", []), r)
        rows = {x["account"]: x for x in host("account", "rotation", "--json", check=True).json() if x["target"] == "c-rot"}
        self.assertEqual({n: (x["rotate"], x["helper"]) for n, x in rows.items()}, {"svc": ("after-use 30d", "root"), "app": ("12h", "root")})
        self.assertTrue(rows["app"]["next"] and rows["svc"]["next"] > rows["app"]["next"])
        # what is said once more is planned no sooner and no later
        self.assertEqual(self.apply(text.replace("12h, password", "12h, exclusive: true, password"), "--yes").code, 0)
        again = {x["account"]: x for x in host("account", "rotation", "--json", check=True).json() if x["target"] == "c-rot"}
        self.assertEqual(again["app"]["next"], rows["app"]["next"])
        before = self.export()
        for want in ("reconcile: root\n", 'rotate: "after-use 30d"\n', 'rotate: "12h"\n', 'password_rule: "length=20 classes=lud"\n', "rotate: never\n"):
            self.assertTrue(want in before, want)
        # by hand, and back by the file
        host("account", "set", "app@c-rot", "--rotate", "never", "--password-rule", "length=30", check=True)
        host("target", "reconcile", "c-rot", "none", check=True)
        self.assertFalse(self.export() == before)
        r = self.apply(before, "--yes")
        self.assertEqual(r.code, 0, r)
        for line in ("- password rule length=30", "+ password rule length=20 classes=lud", "+ rotate 12h", "~ reconciled by root@c-rot"):
            self.assertIn(line, r.out.decode())
        self.assertTrue(self.export() == before)
        # taken away, in the same file as another change of that target
        r = self.apply("version: 1\ntargets:\n  c-rot: {tags: [x], reconcile: null, accounts: {app: {rotate: never, password_rule: null}}}\n", "--yes")
        self.assertEqual(r.code, 0, r)
        row = [x for x in host("account", "rotation", "--json", check=True).json() if (x["account"], x["target"]) == ("app", "c-rot")][0]
        self.assertEqual((row["rotate"], row["helper"], row["next"]), (None, None, None))
        for bad, words in (("accounts: {app: {rotate: soon}}", "rotate is after-use"), ("accounts: {root: {rotate: 12h}}", "it has no rotate"),
                           ("accounts: {app: {password_rule: length=2}}", "password_rule"), ("reconcile: nobody", "no account nobody@c-rot")):
            r = self.apply("version: 1\ntargets:\n  c-rot: {%s}\n" % bad, "--yes")
            self.assertEqual((r.code, words in r.text), (2 if r.code == 2 else 1, True), r)

    def test_wrong_files(self):
        """Each is refused with its line, and nothing is changed."""
        before = self.export()
        good = "version: 1\nusers:\n  eve:\n    groups: [a]\n"
        for text, said in (
                ("users: {}\n", "version: 1"),
                (good + "    kyes: []\n", "x.yaml:5:5: nobody knows kyes here: did you mean keys?"),
                (good + "    groups: [b]\n", "x.yaml:5:5: groups stands here twice"),
                (good + "  eve: {}\n", "x.yaml:5:3: eve stands here twice"),
                ("version: 1\nusers: &x {a: {}}\n", "anchors are not taken"),
                ("version: 1\nusers: {a: *x}\n", "aliases are not taken"),
                ("version: 1\n---\nversion: 1\n", "one document"),
                ("version: 1\nusers: {a: {display: \"x\n", "this is no YAML"),
                ("version: 1\nusers: {a: {groups: b}}\n", "x.yaml:2:21: a list belongs here"),
                ("version: 1\nusers: {a: {enabled: perhaps}}\n", "true or false"),
                (good.replace("[a]", "[A]"), "x.yaml:4:14: users/eve/groups/0: a group is 1 to 32"),
                (good.replace("eve", "Eve"), "x.yaml:3:3: users/Eve: a name is 1 to 32"),
                (good + "    keys: [ssh-ed25519 AAAA]\n", "x.yaml:5:12: users/eve/keys/0"),
                (good + "targets: {new: {tags: [x]}}\n", "it needs addresses"),
                (good + "targets: {core-01: {addresses: [core.example.org]}}\n", "names are not looked up"),
                (good + "targets: {core-01: {via: admin@core-01}}\n", "circle"),
                (good + "targets: {core-01: {via: nobody@nowhere}}\n", "there is no account nobody@nowhere"),
                (good + "targets: {core-01: {accounts: {x: {}}}}\n", "it needs a kind"),
                (good + "targets: {core-01: {accounts: {x: {kind: magic}}}}\n", "no kind of credential"),
                (good + "targets: {core-01: {accounts: {x: {kind: password, secret: hunter2}}}}\n", "never the secret itself"),
                (good + "targets: {core-01: {accounts: {x: {kind: password, secret: generate}}}}\n", "secret: ask"),
                (good + "targets: {core-01: {accounts: {x: {kind: cert, secret: keep}}}}\n", "has no secret"),
                (good + "policy: not-there.rules\n", "x.yaml:5:1: the policy"),
                ("version: 1\nusers: {eve: {keys: [\"%s\"]}}\n" % open(sp.dir + "/people/alice/id_ed25519.pub").read().strip(), "alice's already")):
            r = self.apply(text, "--yes")
            self.assertIn(r.code, (1, 2), (text, r))
            self.assertIn(said, r.text, (text, r))
        self.write("permit nonsense\n", "bad.rules")
        r = self.apply(good + "policy: bad.rules\n", "--yes")
        self.assertEqual(r.code, 1, r)
        self.assertIn("x.yaml:5:1: policy: line 1", r.text)
        self.assertEqual(self.export(), before)

    def test_secrets_from_files_and_prune(self):
        text = """
version: 1
targets:
  s-1:
    addresses: [192.0.2.30]
    host_keys: ["%s"]
    accounts: {db: {kind: password, secret: ask}, old: {kind: cert}}
""" % key(30)
        r = self.apply(text, "--yes")
        self.assertEqual(r.code, 1, r)
        self.assertIn("--secret-dir", r.text)
        self.assertEqual(host("target", "show", "s-1").code, 1)
        with open(self.dir + "/db@s-1", "w") as f:
            f.write("canary-of-db\n")
        r = self.apply(text, "--yes", "--secret-dir", self.dir)
        self.assertEqual(r.code, 0, r)
        first = host("secret", "show", "db@s-1", "--json", check=True).json()
        self.assertEqual(self.apply(text, "--yes", "--json").json()["state"], "unchanged")
        self.assertEqual(host("secret", "show", "db@s-1", "--json", check=True).json()["id"], first["id"])
        self.assertNotIn("canary-of-db", sp.log() + sp.psql("SELECT detail FROM sallyport.audit"))
        # what the file does not name stays, but with --prune, which disables and deletes nothing
        less = text.replace(", old: {kind: cert}", "")
        self.assertEqual(self.apply(less, "--yes", "--json").json()["state"], "unchanged")
        r = self.apply(less.replace("version: 1", "version: 1\nusers: {%s}" % ", ".join(
            u + ": {}" for u in ("alice", "bob", "carol", "dave", "oscar") if u != "dave" or "dave" in self.export())), "--prune", "--plan")
        self.assertIn("- account old@s-1", r.out.decode())
        self.assertIn("- target core-01", r.out.decode())
        self.assertNotIn("user alice", r.out.decode())
        self.assertTrue(host("account", "show", "old@s-1", "--json", check=True).json()["enabled"])

    def test_a_person_who_is_disabled_is_out(self):
        sp.add_person("peter", "operators")
        p = sp.ssh_start("peter", "admin@core-01", "echo in; cat", stdin=subprocess.PIPE)
        read_until(p.stdout, b"in\n", 60)
        r = self.apply("version: 1\nusers: {peter: {enabled: false}}\n", "--yes")
        self.assertEqual(r.code, 0, r)
        self.assertNotEqual(p.wait(60), 0)
        self.assertNotEqual(sp.ssh("peter", "bastion", "whoami", mux=False).code, 0)

    def test_many_go_in_steps_and_a_cut_goes_on(self):
        """More than one transaction holds; a broker that dies in between leaves whole objects, and the next apply goes on."""
        n = 260
        text = "version: 1\nusers:\n" + "".join("  m-%03d: {groups: [many], keys: [\"%s\"]}\n" % (i, key(1000 + i)) for i in range(n))
        path = self.write(text, "many.yaml")
        p = subprocess.Popen([sp.dir + "/opt/bin/sallyport", "-D", sp.dir, "apply", "-f", path, "--yes"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=sp.env())
        sp.started.append(p)
        count = "SELECT count(*) FROM sallyport.people WHERE name LIKE 'm-%'"
        wait_for(lambda: int(sp.psql(count)) > 0 or p.poll() is not None, 60, "the first step")
        os.kill(sp.pids("broker")[0][0], 9)
        p.communicate(timeout=120)
        wait_for(lambda: host("status", "--json").code == 0 and host("whoami").code == 0, 60, "the broker")
        half = int(sp.psql(count))
        self.assertEqual(int(sp.psql("SELECT count(*) FROM sallyport.person_keys k JOIN sallyport.people p ON p.id = k.person_id "
                                     "WHERE p.name LIKE 'm-%'")), half)
        r = wait_for(lambda: (lambda r: r if r.code == 0 else None)(host("apply", "-f", path, "--yes", "--json", timeout=120)), 60, "the rest")
        self.assertEqual(len(r.json()["changes"]), n - half)
        self.assertEqual(int(sp.psql(count)), n)
        self.assertEqual(host("apply", "-f", path, "--json", "--plan", check=True).json()["state"], "unchanged")
        self.assertEqual(host("seals").code, 0)

    def test_the_broker_checks_again(self):
        """What the CLI would never send."""
        for text, code in ((b"", 2), (b"[]", 2), (b"{", 2), (b'{"users": []}', 1), (b'{"users": {"a": 1}}', 1),
                           (b'{"users": {"a": {"groups": ["\\u0000"]}}}', 1), (b'{"users": {"a": {"keys": {}}}}', 1),
                           (b'{"targets": {"core-01": {"accounts": {"x": {"kind": "password", "secret": "ask"}}}}, '
                            b'"sealed": {"x@core-01": {"id": "1", "version": 1, "sealed": "00"}}}', 1),
                           (b'{"users": ' + b'{"a": ' * 20 + b"1" + b"}" * 20 + b"}", 2)):
            r = host("inventory", "plan", input=text)
            self.assertEqual(r.code, code, (text, r))
        r = host("inventory", "apply", "0" * 64, input=b'{"users": {"zoe": {}}}')
        self.assertEqual(r.code, 75, r)
        self.assertEqual(host("users", "show", "zoe").code, 1)
        r = sp.ssh("alice", "bastion", "inventory", "plan", input=b"{}")
        self.assertEqual(r.code, 1, r)

    def test_colour_on_a_terminal_and_the_question(self):
        path = self.write("version: 1\nusers: {tty-user: {display: T}}\n", "tty.yaml")
        for answer, code in ((b"n\n", 1), (b"y\n", 0)):
            got, status = on_terminal([sp.dir + "/opt/bin/sallyport", "-D", sp.dir, "apply", "-f", path], b"[y/N] ", answer)
            self.assertIn(b"\x1b[32m+ user tty-user", got)
            self.assertEqual(status, code, got)
        self.assertEqual(host("users", "show", "tty-user").code, 0)


def on_terminal(argv, ask, answer):
    import pty
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(argv[0], argv, sp.env())
    got = b""
    while True:
        try:
            piece = os.read(fd, 65536)
        except OSError:
            break
        if not piece:
            break
        if ask in got + piece and ask not in got:
            os.write(fd, answer)
        got += piece
    os.close(fd)
    return got, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Empty:
    """A second instance with nobody and nothing in it."""

    def __init__(self):
        self.dir = os.path.dirname(sp.dir) + "/empty"
        os.makedirs(sp.dir + "/inventories/there", exist_ok=True)
        self.host("init", "--demo", "--listen", "127.0.0.1:%d" % free_port(), self.dir, check=True, timeout=120)
        self.host("start", check=True, timeout=120)

    def host(self, *args, **k):
        e = sp.env()
        p = subprocess.run([sp.dir + "/opt/bin/sallyport", "-D", self.dir] + list(args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=k.get("timeout", 60), env=dict(e, SALLYPORT_DIR=self.dir))
        r = Result(p.returncode, p.stdout, p.stderr)
        if k.get("check") and r.code != 0:
            raise AssertionError("%s: %r" % (args, r))
        return r

    def close(self):
        self.host("stop", timeout=120)


if __name__ == "__main__":
    main()
