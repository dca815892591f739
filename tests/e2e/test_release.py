# SPDX-License-Identifier: Apache-2.0
"""A secret with a release rule of its own: what approvers sign with stock OpenSSH, and what happens without."""
import json
import os
import shlex
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from sp import Instance, TOP, main, wait_for  # noqa: E402

ACCOUNT = "legacy@core-01"
PASSWORDS = {"shown": "n0t-s0-s3cret-any-m0re", "safe": "1n-the-s4fe-of-room-4"}


def setUpModule():
    global sp, provider
    sp = Instance()
    provider = sp.dir + "/people/sk.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", provider, TOP + "/tests/support/sk_provider.c", "-lcrypto"], check=True)
    for name in ("dana", "erin"):
        sp.add_person(name, "approvers")
    with open(TOP + "/demo/policy") as f:
        sp.load_policy(f.read().replace("as admin, legacy", "as admin, legacy, shown"))
    # What is shown or was in a kit is rotated, and nobody at the target knows these: not the account of the other tests.
    for name in ("shown", "safe"):
        sp.host("account", "add", name + "@core-01", "--kind", "password", "--password-stdin", input=PASSWORDS[name].encode() + b"\n", check=True)


def tearDownModule():
    sp.close()


def key(who):
    return "%s/people/%s/id_ed25519" % (sp.dir, who)


def ssh(who):
    return shlex.join(sp.ssh_argv(who, []))


def piped(who, number, key_file=None, namespace="approve@sallyport", env=None):
    """The three programs in one pipe, as the documentation says it."""
    cmd = "set -o pipefail; %s bastion challenge %d | ssh-keygen -q -Y sign -n %s -f %s | %s bastion approve %d" % (
        ssh(who), number, namespace, shlex.quote(key_file or key(who)), ssh(who), number)
    p = subprocess.run(["bash", "-c", cmd], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
                       env=dict(sp.ssh_env(who), **(env or {})))
    return p.returncode, p.stdout.decode("utf-8", "replace")


def set_rule(*args):
    return sp.host("secret", "rule", ACCOUNT, "--group", "approvers", "--yes", *args)


def session(who="alice"):
    """By key: what has no grant is refused at once, and not asked for in the login."""
    return sp.ssh(who, "-l", "legacy", "core-01", "id -un", opts=["PreferredAuthentications=publickey"])


class Release(unittest.TestCase):
    def setUp(self):
        self.assertEqual(set_rule("--approvals", "2", "--for", "30m").code, 0)
        self.addCleanup(self.end)

    def end(self):
        for r in sp.host("requests", "--all", "--json").json():
            if r["state"] in ("pending", "approved"):
                sp.host("revoke", str(r["id"]))
        sp.host("secret", "rule", ACCOUNT, "--none")

    def ask(self, *more):
        r = sp.ssh("alice", "bastion", "request", ACCOUNT, "--reason", "'the disk is full'", "--json", *more)
        self.assertEqual(r.code, 0, r)
        return r.json()["id"]

    def approved(self, number, *people):
        for who in people:
            code, out = piped(who, number)
            self.assertEqual(code, 0, out)

    def test_two_sign_and_she_is_in(self):
        number = self.ask()
        text = sp.ssh("bob", "bastion", "challenge", str(number))
        self.assertEqual(text.code, 0, text)
        for want in (b"alice", ACCOUNT.encode(), b"the disk is full", b"30m", b"2 of ", b"nonce", b"SHA256:"):
            self.assertIn(want, text.out)
        self.assertNotIn(b"\r", text.out)
        self.approved(number, "bob")
        self.assertNotEqual(session().code, 0)
        self.approved(number, "dana")
        r = session()
        self.assertEqual((r.code, r.out.strip()), (0, b"legacy"), r)
        self.assertEqual(session().code, 0, "again, in the same window")
        events = [e for e in sp.audit("request_approved") if e["detail"].get("number") == number]
        self.assertEqual(events[0]["detail"]["by"], "signature")

    def test_it_is_not_rotated_by_itself_and_that_is_said(self):
        def row():
            return [r for r in sp.host("account", "rotation", "--owed", "--json", check=True).json() if r["account"] == "legacy"]
        self.addCleanup(sp.host, "account", "set", ACCOUNT, "--rotate", "never")
        sp.host("account", "set", ACCOUNT, "--rotate", "5s", check=True)
        wait_for(row, 60, "its time")
        self.assertEqual([(r["waits_for"], r["failures"], r["last"]) for r in row()], [("release rule", 0, None)])
        self.assertRegex(sp.host("doctor").text, r"cannot be rotated, as their secret has a release rule: legacy@core-01\n")
        for args in ((), ("--later",), ("--force",)):
            r = sp.host("account", "rotate", ACCOUNT, *args)
            self.assertEqual((r.code, "release rule" in r.text), (1, True), r)
        self.assertEqual([e for e in sp.audit("rotation_failed") if e["detail"].get("account") == "legacy"], [])

    def test_without_a_signature_it_says_what_to_do(self):
        number = self.ask()
        r = sp.ssh("bob", "bastion", "approve", str(number))
        self.assertEqual(r.code, 1, r)
        self.assertIn("ssh-keygen -Y sign -n approve@sallyport", r.text)
        r = sp.ssh("bob", "-tt", "bastion", "approve", str(number))
        self.assertEqual(r.code, 1, r)
        self.assertIn("ssh-keygen -Y sign", r.text)
        r = sp.ssh("bob", "bastion", "approve", str(number), input=b"yes please\n")
        self.assertEqual(r.code, 2, r)
        self.assertIn("no signature", r.text)
        show = sp.ssh("bob", "bastion", "show", str(number), "--json").json()
        self.assertTrue(show["signature_owed"])
        self.assertEqual((show["state"], show["decisions"]), ("pending", []))

    def test_signatures_that_do_not_count(self):
        number, why = self.ask(), {}
        for name, args in {"another namespace": {"namespace": "git"}, "another's key": {"key_file": key("erin")},
                           "the requester's": {"key_file": key("alice")}, "a stranger's": {"key_file": key("carol")}}.items():
            code, why[name] = piped("bob", number, **args)
            self.assertEqual(code, 1, why[name])
        self.assertIn("-n approve@sallyport", why["another namespace"])
        self.assertIn("another person's", why["another's key"])
        self.assertIn("does not name that key", why["a stranger's"])
        code, out = piped("alice", number)
        self.assertEqual(code, 1, out)
        self.assertEqual(sp.ssh("bob", "bastion", "show", str(number), "--json").json()["decisions"], [])

    def test_a_signature_for_another_request(self):
        first = self.ask()
        text = sp.ssh("bob", "bastion", "challenge", str(first)).out
        sig = subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-n", "approve@sallyport", "-f", key("bob")], input=text,
                             stdout=subprocess.PIPE, check=True).stdout
        self.assertEqual(sp.ssh("alice", "bastion", "revoke", str(first)).code, 0)
        second = self.ask()
        self.assertNotEqual(first, second)
        r = sp.ssh("bob", "bastion", "approve", str(second), input=sig)
        self.assertEqual(r.code, 1, r)
        self.assertIn("not a signature of this request", r.text)

    def test_more_than_the_rule_allows_is_not_even_asked_for(self):
        r = sp.ssh("alice", "bastion", "request", ACCOUNT, "--reason", "long", "--for", "31m")
        self.assertEqual(r.code, 1, r)

    def test_a_new_rule_ends_what_the_old_one_let_in(self):
        number = self.ask()
        self.approved(number, "bob", "dana")
        self.assertEqual(session().code, 0)
        self.assertEqual(set_rule("--approvals", "3").code, 0)
        self.assertNotEqual(session().code, 0)
        r = sp.ssh("bob", "bastion", "challenge", str(number))
        self.assertIn("must be made anew", r.text)

    def test_the_row_of_before_the_rule_put_back(self):
        """Whole, seal and all, as it stood in a backup of the database: the chain knows a newer one. Even when an administrator
        takes it for good, the vault knows that there is a rule."""
        sp.host("secret", "rule", ACCOUNT, "--none", check=True)
        where = "id = (SELECT secret_id FROM sallyport.accounts WHERE name = 'legacy')"
        sp.psql("DROP TABLE IF EXISTS public.kept; CREATE TABLE public.kept AS SELECT * FROM sallyport.secrets WHERE " + where)
        self.assertEqual(set_rule("--approvals", "2").code, 0)
        sp.psql("SET session_replication_role = replica; UPDATE sallyport.secrets s SET (ver, seal, sealed, rule) = "
                "(SELECT ver, seal, sealed, rule FROM public.kept) WHERE " + where)
        try:
            sp.grant("alice", ACCOUNT)
            self.assertNotEqual(session().code, 0)
            row = sp.psql("SELECT id FROM sallyport.secrets WHERE " + where)
            self.assertEqual([x["table"] for x in sp.host("seals", "broken", "--json").json() if x["id"] == row], ["secrets"])
            sp.host("doctor", "--repair", "secrets/%s=accept" % row)
            self.assertEqual(sp.host("seals", "broken", "--json").json(), [])
            r = session()
            self.assertNotEqual(r.code, 0, r)
        finally:
            sp.host("secret", "rule", ACCOUNT, "--none", check=True)

    def test_touched_security_keys(self):
        env = {"SSH_SK_PROVIDER": provider}
        for who, kind in (("bob", "ed25519-sk"), ("dana", "ecdsa-sk")):
            path = "%s/people/%s/id_sk" % (sp.dir, who)
            subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-w", provider, "-f", path], check=True, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            with open(path + ".pub") as f:
                sp.host("users", "key", "add", who, f.read().strip(), check=True)
        r = set_rule("--approvals", "2", "--touch")
        self.assertEqual(r.code, 0, r)
        number = self.ask()
        code, out = piped("bob", number)
        self.assertEqual(code, 1, "a plain key: " + out)
        sk = sp.dir + "/people/%s/id_sk"
        code, out = piped("bob", number, key_file=sk % "bob", env=dict(env, SK_TEST_FLAGS="0"))
        self.assertEqual(code, 1, out)
        self.assertIn("not touched", out)
        for who in ("bob", "dana"):
            code, out = piped(who, number, key_file=sk % who, env=env)
            self.assertEqual(code, 0, out)
        self.assertEqual(session().code, 0)

    def test_rules_that_nobody_could_fulfil_or_change_by_accident(self):
        for args in (("--approvals", "9"), ("--approvals", "0"), ("--for", "25h"), ("--for", "never")):
            self.assertNotEqual(set_rule(*args).code, 0, args)
        r = sp.host("secret", "rule", ACCOUNT, "--group", "nobody-there", "--yes")
        self.assertNotEqual(r.code, 0)
        r = sp.host("secret", "rule", ACCOUNT, "--group", "approvers")
        self.assertEqual(r.code, 2, "keys are shown, and must be agreed to")
        self.assertIn(b"SHA256:", r.err)
        r = sp.host("secret", "set", ACCOUNT, "--password-stdin", input=b"another\n")
        self.assertIn("release rule", r.text)
        rule = sp.host("secret", "rule", ACCOUNT, "--json", check=True).json()
        self.assertEqual((rule["approvals"], rule["group"]), (2, "approvers"))
        self.assertEqual({k["person"] for k in rule["keys"]}, {"bob", "dana", "erin"})


class Reveal(unittest.TestCase):
    """The password of the account as a person sees it, once, on the host."""

    def ask(self):
        r = sp.ssh("alice", "bastion", "secret", "reveal", "core-01/shown", "--reason", "'core is down'", "--json")
        self.assertEqual(r.code, 0, r)
        return r.json()["id"]

    def show(self, number):
        """On a terminal of the host."""
        import pty
        argv = [sp.dir + "/opt/bin/sallyport", "-D", sp.dir, "secret", "reveal", str(number)]
        pid, fd = pty.fork()
        if pid == 0:
            os.execve(argv[0], argv, sp.env())
        out = b""
        while True:
            try:
                piece = os.read(fd, 65536)
            except OSError:
                break
            if not piece:
                break
            out += piece
        os.close(fd)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), out.decode("utf-8", "replace")

    def setUp(self):
        self.addCleanup(Release.end, self)

    def password(self):
        return PASSWORDS["shown"]

    def test_two_others_once_loud_and_then_rotated(self):
        number = self.ask()
        self.assertIn("wait for the approval of two: %d\n" % number, sp.host("doctor").text)
        self.assertEqual(self.show(number)[0], 1)
        self.assertEqual(sp.ssh("bob", "bastion", "approve", str(number)).code, 0)
        code, out = self.show(number)
        self.assertEqual(code, 1, out)
        self.assertIn("not approved", out)
        self.assertNotEqual(sp.ssh("alice", "bastion", "approve", str(number)).code, 0)
        r = sp.ssh("dana", "bastion", "approve", str(number))
        self.assertEqual(r.code, 0, r)
        self.assertEqual(sp.psql("SELECT count(*) FROM sallyport.grants g JOIN sallyport.requests q ON q.id = g.request_id "
                                 "WHERE q.num = %d" % number), "0", "what is to be shown is no grant")
        self.assertIn("approved and not shown yet: %d\n" % number, sp.host("doctor").text)
        r = sp.host("secret", "reveal", str(number))
        self.assertEqual(r.code, 2, "a pipe is no terminal")
        code, out = self.show(number)
        self.assertEqual(code, 0, out)
        self.assertIn(self.password(), out.split())
        code, out = self.show(number)
        self.assertEqual(code, 1, out)
        self.assertIn("shown already", out)
        self.assertEqual([r["state"] for r in sp.host("requests", "--all", "--json").json() if r["id"] == number], ["shown"])
        self.assertNotRegex(sp.host("doctor").text, r"(?m)^\w+ +reveal")
        for event in ("reveal_requested", "reveal_approved", "credential_revealed", "credential_shown"):
            self.assertTrue(sp.audit(event), event)
        owed = sp.psql("SELECT count(*) FROM sallyport.rotations r JOIN sallyport.accounts a USING (id) WHERE a.name = 'shown'")
        self.assertEqual(owed, "1")
        self.assertNotIn(self.password(), sp.log() + json.dumps(sp.audit()))

    def test_what_cannot_be_shown(self):
        r = sp.ssh("alice", "bastion", "secret", "reveal", "admin@core-01", "--reason", "why")
        self.assertIn("no stored credential", r.text)
        r = sp.ssh("alice", "bastion", "secret", "reveal", "shown@core-01")
        self.assertEqual(r.code, 2, r)
        self.assertNotEqual(sp.ssh("carol", "bastion", "secret", "reveal", "shown@core-01", "--reason", "why").code, 0)
        number = sp.grant("alice", ACCOUNT)
        code, out = self.show(number)
        self.assertEqual(code, 1, out)
        self.assertIn("for sessions", out)
        sp.host("revoke", str(number), check=True)

    def test_of_a_secret_with_a_rule(self):
        where = "shown@core-01"
        sp.host("secret", "rule", where, "--group", "approvers", "--yes", "--approvals", "1", check=True)
        self.addCleanup(sp.host, "secret", "rule", where, "--none")
        number = self.ask()
        self.assertIn(b"SHOW THE CREDENTIAL", sp.ssh("bob", "bastion", "challenge", str(number)).out)
        for who in ("bob", "dana"):
            self.assertNotEqual(sp.ssh(who, "bastion", "approve", str(number)).code, 0)
            code, out = piped(who, number)
            self.assertEqual(code, 0, out)
        code, out = self.show(number)
        self.assertEqual(code, 0, out)
        self.assertIn(self.password(), out.split())


class BreakGlass(unittest.TestCase):
    """A kit is sealed, opened with everything down, and what follows from that."""

    @classmethod
    def setUpClass(cls):
        cls.kit = sp.dir + "/people/kit.spk"
        cls.key = sp.dir + "/people/acct_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", cls.key], check=True)
        sp.host("account", "add", "emergency@core-01", "--kind", "key", "--key-file", cls.key, check=True)
        r = sp.host("break-glass", "kit", "--k", "3", "--n", "5", "--account", "safe@core-01", "--account", "emergency@core-01", "--out", cls.kit,
                    "--note", "the safe in room 4", check=True)
        cls.shares = r.out.decode().split()

    def tool(self, *args, answers=()):
        """The stand-alone tool, with nothing of the instance in reach."""
        exe = sp.dir + "/opt/bin/sallyport-kit"
        return subprocess.run(["/usr/bin/unshare", "-n", exe] + list(args) if os.getuid() == 0 else [exe] + list(args),
                              input="".join(x + "\n" for x in answers).encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=60, env={"PATH": "/nowhere"}, cwd=sp.dir + "/people")

    def listed(self):
        return sp.host("break-glass", "list", "--json", check=True).json()[0]

    def test_1_sealed(self):
        self.assertEqual(len(self.shares), 5)
        self.assertTrue(all(x.startswith("SPS1-") for x in self.shares))
        with open(self.kit, "rb") as f:
            data = f.read()
        self.assertNotIn(PASSWORDS["safe"].encode(), data)
        self.assertNotIn(b"PRIVATE KEY", data)
        row = self.listed()
        self.assertEqual((row["state"], row["k"], row["n"], row["review_owed"]), ("sealed", 3, 5, False))
        r = self.tool("show", self.kit)
        self.assertEqual((r.returncode, r.stdout), (0, b""))
        self.assertIn(b"3 of 5 shares", r.stderr)
        everything = sp.log() + json.dumps(sp.audit()) + sp.psql("SELECT * FROM sallyport.break_glass_kits")
        for share in self.shares:
            self.assertNotIn(share, everything)

    def test_2_too_few_or_wrong_shares(self):
        receipt = "no-receipt"
        other = sp.host("break-glass", "kit", "--k", "3", "--n", "5", "--account", "safe@core-01", "--out", self.kit + "2", check=True)
        mixed = other.out.decode().split()
        who = ("Dana", "fire")
        for shares in (self.shares[:2], self.shares[:2] + self.shares[:1], self.shares[:2] + mixed[2:3], mixed[:3],
                       self.shares[:2] + [self.shares[2][:-4] + "AAAA"]):
            r = self.tool("open", self.kit, "--receipt", receipt, answers=who + tuple(shares))
            self.assertEqual((r.returncode, r.stdout), (1, b""), r)
        self.assertFalse(os.path.exists(sp.dir + "/people/" + receipt))
        r = self.tool("open", self.kit, "--receipt", receipt, answers=("", "") + tuple(self.shares[:3]))
        self.assertEqual((r.returncode, r.stdout), (2, b""), r)

    def test_3_a_file_that_was_changed(self):
        with open(self.kit, "rb") as f:
            data = f.read()
        for at in range(5, len(data), 97):
            bad = data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1:]
            with open(self.kit + ".bad", "wb") as f:
                f.write(bad)
            r = self.tool("open", self.kit + ".bad", "--receipt", "never", answers=("Dana", "fire") + tuple(self.shares[:3]))
            self.assertEqual((r.returncode, r.stdout), (1, b""), at)
        self.assertFalse(os.path.exists(sp.dir + "/people/never"))

    def test_4_opened_imported_rotated_reviewed(self):
        sp.host("stop", check=True, timeout=120)
        try:
            r = self.tool("open", self.kit, "--receipt", "receipt", answers=("Dana Duty", "everything is down") + tuple(self.shares[i] for i in (4, 0, 2)))
        finally:
            sp.host("start", check=True, timeout=120)
        self.assertEqual(r.returncode, 0, r)
        self.assertIn(PASSWORDS["safe"], r.stdout.decode().split())
        shown = r.stdout[r.stdout.index(b"-----BEGIN"):r.stdout.index(b"KEY-----\n", r.stdout.index(b"-----END")) + 9]
        path = sp.dir + "/people/shown"
        with open(path, "wb", opener=lambda p, fl: os.open(p, fl, 0o600)) as f:
            f.write(shown)
        pub = subprocess.run(["ssh-keygen", "-y", "-f", path], stdout=subprocess.PIPE, check=True).stdout
        with open(self.key + ".pub", "rb") as f:
            self.assertEqual(pub.split()[:2], f.read().split()[:2])
        receipt = sp.dir + "/people/receipt"
        with open(receipt) as f:
            text = f.read()
        self.assertIn("by: Dana Duty", text)
        for a, b in (("Dana", "Erin"), ("everything", "nothing"), ("version 1", "version 2"), ("kit: " + text.split("kit: ")[1][:4], "kit: 0000")):
            self.assertIn(a, text)
            with open(receipt + ".bad", "w") as f:
                f.write(text.replace(a, b))
            self.assertEqual(sp.host("break-glass", "import", receipt + ".bad").code, 1, a)
        r = sp.host("break-glass", "import", receipt)
        self.assertEqual(r.code, 0, r)
        self.assertEqual(sp.host("break-glass", "import", receipt).code, 1, "once")
        row = [x for x in sp.host("break-glass", "list", "--json", check=True).json() if x["opened_by"]][0]
        self.assertEqual((row["state"], row["opened_by"], row["why"], row["review_owed"]),
                         ("opened", "Dana Duty", "everything is down", True))
        owed = sp.psql("SELECT count(*) FROM sallyport.rotations r JOIN sallyport.accounts a USING (id) WHERE a.name IN ('safe', 'emergency')")
        self.assertEqual(owed, "2")
        self.assertEqual(len(sp.audit("break_glass_opened")), 1)
        self.assertIn("1 opened, and nobody has reviewed that: %s\n" % row["id"], sp.host("doctor").text)
        self.assertEqual(sp.host("break-glass", "review", row["id"], "--comment", "fine").code, 1, "the host has no name")
        self.assertEqual(sp.ssh("alice", "bastion", "break-glass", "review", row["id"], "--comment", "fine").code, 1)
        r = sp.ssh("carol", "bastion", "break-glass", "review", row["id"], "--comment", "'core was down'")
        self.assertEqual(r.code, 0, r)
        row = [x for x in sp.host("break-glass", "list", "--json", check=True).json() if x["opened_by"]][0]
        self.assertEqual((row["state"], row["reviewed_by"], row["review_owed"]), ("reviewed", "carol", False))
        self.assertNotIn("nobody has reviewed", sp.host("doctor").text)

    def test_5_a_rotated_credential_makes_it_stale(self):
        out, spare = self.kit + "3", "spare@core-01"
        sp.host("account", "add", spare, "--kind", "key", "--key-file", self.key, check=True)
        sp.host("break-glass", "kit", "--k", "2", "--n", "2", "--account", spare, "--out", out, check=True)
        self.assertEqual(self.listed()["state"], "sealed")
        r = sp.host("secret", "set", spare, "--key-file", self.key)
        self.assertEqual(r.code, 0, r)
        row = self.listed()
        self.assertEqual((row["state"], row["stale"]), ("stale", [spare]))
        sp.host("break-glass", "kit", "--k", "2", "--n", "3", "--account", spare, "--out", out + "4", "--expires", "1s", check=True)
        wait_for(lambda: self.listed()["state"] == "expired", 60, "the kit's end")

    def test_6_kits_that_are_none(self):
        for args in (("--k", "1", "--n", "5"), ("--k", "4", "--n", "3"), ("--k", "2", "--n", "33"), ("--k", "2", "--n", "2", "--expires", "0s")):
            r = sp.host("break-glass", "kit", "--account", "safe@core-01", "--out", sp.dir + "/people/none", *args)
            self.assertNotEqual(r.code, 0, args)
        r = sp.host("break-glass", "kit", "--k", "2", "--n", "3", "--account", "admin@core-01", "--out", sp.dir + "/people/none")
        self.assertEqual(r.code, 1, r)
        self.assertFalse(os.path.exists(sp.dir + "/people/none"))


class Plain(unittest.TestCase):
    def test_plain_approve_stays_for_other_secrets(self):
        number = sp.grant("alice", ACCOUNT)
        self.assertEqual(session().code, 0)
        r = sp.ssh("bob", "bastion", "challenge", str(number))
        self.assertIn("needs no signature", r.text)
        sp.host("revoke", str(number), check=True)


if __name__ == "__main__":
    main()
