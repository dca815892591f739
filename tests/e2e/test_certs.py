# SPDX-License-Identifier: Apache-2.0
"""What a target's administrator is told to do is enough, and what is revoked is refused: a real sshd that was configured by
`target setup` alone, logins through the bastion, the revocation list judged by ssh-keygen and by that sshd."""
import os
import re
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance, main, scratch, wait_for  # noqa: E402
from target import Target, reach  # noqa: E402

POLICY = """
network loopback 127.0.0.0/8, ::1
permit "free" who group operators on tag t, core as admin when source in loopback require mfa totp for 1h
"""


def setUpModule():
    global sp
    sp = Instance(policy=POLICY)
    sp.add_person("oscar", "operators")
    reach(sp, "oscar", "c-*")


def tearDownModule():
    sp.close()


class SetUp(Target):
    """Its sshd_config has what every sshd's has, and no word of the bastion; it starts when it has been set up."""

    def start(self, first=()):
        self.etc = self.dir + "/etc"
        os.makedirs(self.etc, exist_ok=True)
        lines = list(first) + [
            "ListenAddress " + self.where, "HostKey " + self.key, "PidFile none", "UsePAM no", "StrictModes no",
            "AuthorizedKeysFile none", "PasswordAuthentication no", "KbdInteractiveAuthentication no", "PrintMotd no",
            "PrintLastLog no", "LogLevel VERBOSE"]
        with open(self.etc + "/sshd_config", "w") as f:
            f.write("\n".join(lines) + "\n")

    def set_up(self):
        script = sp.host("target", "setup", self.name, "--shell", "--dir", self.etc, check=True)
        return subprocess.run(["sh"], input=script.out, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)

    def up(self):
        r = self.set_up()
        if r.returncode != 0:
            raise AssertionError(r)
        self.launch(self.etc + "/sshd_config")


def run(target, opts=()):
    return sp.ssh("oscar", "admin@" + target, "echo it-is-$((40+2))", opts=opts, timeout=120)


def krl_says(path, cert_or_key):
    """0: good, else revoked."""
    return subprocess.run(["ssh-keygen", "-Q", "-f", path, cert_or_key], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=60)


class TargetSetup(unittest.TestCase):
    def test_what_setup_says_is_enough(self):
        t = SetUp(sp, "c-set")
        t.up()
        r = run("c-set")
        self.assertEqual((r.code, r.out), (0, b"it-is-42\n"), r)
        self.assertIn("Accepted publickey for admin", t.log())
        # Done twice it is the same; the Include stands there once.
        with open(t.etc + "/sshd_config") as f:
            before = f.read()
        self.assertEqual(before.count("sshd_config.d"), 1)
        self.assertEqual(t.set_up().returncode, 0)
        with open(t.etc + "/sshd_config") as f:
            self.assertEqual(f.read(), before)
        # The same in words, and for programs: file by file what the script wrote.
        text = sp.host("target", "setup", "c-set", check=True).text
        for want in ("TrustedUserCAKeys /etc/ssh/sallyport_ca.pub", "RevokedKeys /etc/ssh/sallyport_krl", "admin@c-set\n",
                     "/etc/ssh/sallyport_principals/admin", "AuthorizedPrincipalsFile /etc/ssh/sallyport_principals/%u"):
            self.assertIn(want, text)
        files = sp.host("target", "setup", "c-set", "--dir", t.etc, "--json", check=True).json()["files"]
        self.assertEqual(len(files), 4)
        for f in files:
            if "content" in f:
                with open(f["path"]) as g:
                    self.assertEqual(g.read(), f["content"], f["path"])
        t.remove()

    def test_another_account_and_another_targets_name_are_kept_out(self):
        t = SetUp(sp, "c-wrong")
        t.up()
        with open(t.etc + "/sallyport_principals/admin", "w") as f:
            f.write("admin@c-other\nroot@c-wrong\nadmin\n*\nadmin@*\n")
        r = run("c-wrong")
        self.assertNotEqual(r.code, 0, r)
        self.assertNotIn("Accepted", t.log())
        os.unlink(t.etc + "/sallyport_principals/admin")
        self.assertNotEqual(run("c-wrong").code, 0)
        self.assertNotIn("Accepted", t.log())
        t.remove()

    def test_a_configuration_that_would_not_hold_is_not_left_behind(self):
        t = SetUp(sp, "c-first")
        t.start(["TrustedUserCAKeys none"])
        with open(t.etc + "/sshd_config") as f:
            own = f.read()
        # Another line before ours: told, and nothing of the target's own was lost.
        with open(t.etc + "/sshd_config", "w") as f:
            f.write(own.replace("TrustedUserCAKeys none", "TrustedUserCAKeys none\nInclude %s/sshd_config.d/*.conf" % t.etc))
        r = t.set_up()
        self.assertEqual(r.returncode, 1, r)
        self.assertIn(b"comes before this one: trustedusercakeys", r.stderr)
        # What sshd refuses is taken back.
        with open(t.etc + "/sshd_config", "w") as f:
            f.write(own.replace("TrustedUserCAKeys none", "NoSuchOption yes"))
        r = t.set_up()
        self.assertEqual(r.returncode, 1, r)
        self.assertIn(b"taken back", r.stderr)
        self.assertFalse(os.path.exists(t.etc + "/sshd_config.d/50-sallyport.conf"))
        shutil.rmtree(t.dir)

    def test_who_may_ask_and_what_is_no_directory(self):
        self.assertEqual(sp.ssh("oscar", "bastion", "target", "setup", "core-01").code, 1)
        self.assertEqual(sp.host("target", "setup", "no-such").code, 1)
        for bad in ("etc", "/", "/etc/ssh/", "/etc/'x'", "/etc/$(id)", "/etc/a b", "/" + "x" * 300):
            self.assertEqual(sp.host("target", "setup", "core-01", "--dir", bad).code, 2, bad)

    def test_the_source_address(self):
        t = SetUp(sp, "c-source")
        t.up()
        self.assertEqual(run("c-source").code, 0)
        for value, code in (("192.0.2.9", 255), ("none", 0), ("127.0.0.1", 0), ("auto", 0)):
            sp.configure(cert_source=value)
            sp.host("reload", check=True)
            r = run("c-source")
            self.assertEqual(r.code, code, (value, r))
        self.assertRegex(t.log(), "not from a permitted source address|not allowed from|source address")
        t.remove()


class Revocation(unittest.TestCase):
    def setUp(self):
        self.tmp = scratch("sp-krl-")
        self.krl = self.tmp + "/krl"

    def tearDown(self):
        shutil.rmtree(self.tmp)

    def cert(self, serial, key_id="x", ca=None):
        """A certificate of a CA of our own: what the list says of serials is per CA."""
        ca = ca or self.tmp + "/ca"
        for key in (ca, self.tmp + "/id"):
            if not os.path.exists(key):
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        subprocess.run(["ssh-keygen", "-q", "-s", ca, "-I", key_id, "-z", str(serial), "-n", "a", self.tmp + "/id.pub"], check=True)
        return self.tmp + "/id-cert.pub"

    def fetch(self):
        r = sp.ssh("oscar", "bastion", "krl")
        self.assertEqual(r.code, 0, r)
        with open(self.krl, "wb") as f:
            f.write(r.out)
        return subprocess.run(["ssh-keygen", "-Q", "-l", "-f", self.krl], stdout=subprocess.PIPE, check=True).stdout.decode()

    @staticmethod
    def has(text, serial):
        runs = re.findall(r"serial: (\d+)(?:-(\d+))?\n", text)
        return any(int(a) <= serial <= int(b or a) for a, b in runs)

    def revoke(self, *what):
        r = sp.host("krl", "revoke", *what, "--json", check=True).json()
        self.addCleanup(sp.host, "krl", "remove", r["id"])
        return r["id"]

    def test_what_is_revoked_is_on_the_list_until_it_is_removed(self):
        row = self.revoke("--serial", "4000000007", "--reason", "test")
        self.assertIn("serial: 4000000007\n", self.fetch())
        self.assertEqual([x["value"] for x in sp.host("krl", "list", "--json", check=True).json() if x["id"] == row],
                         ["4000000007"])
        self.assertEqual(sp.audit("cert_revoke")[-1]["detail"]["value"], "4000000007")
        # Of our CA alone: another CA's certificate with that serial is not meant.
        self.assertEqual(krl_says(self.krl, self.cert(4000000007)).returncode, 0)
        # Twice is once; and off again.
        self.assertNotEqual(sp.host("krl", "revoke", "--serial", "4000000007").code, 0)
        sp.host("krl", "remove", row, check=True)
        self.assertNotIn("4000000007", self.fetch())
        # A whole CA.
        cert = self.cert(1)
        with open(self.tmp + "/ca.pub") as f:
            self.revoke("--ca", f.read().strip())
        self.fetch()
        self.assertNotEqual(krl_says(self.krl, cert).returncode, 0)
        self.assertEqual(krl_says(self.krl, self.cert(1, ca=self.tmp + "/other")).returncode, 0)

    def test_the_serial_of_a_session_that_has_ended_joins_it(self):
        t = SetUp(sp, "c-krl")
        t.up()
        before = self.fetch()
        self.assertEqual(run("c-krl").code, 0)
        serial = [e["detail"]["serial"] for e in sp.audit("session_open") if e["detail"].get("target") == "c-krl"][-1]
        self.assertFalse(self.has(before, serial), before)

        wait_for(lambda: self.has(self.fetch(), serial), 60, "serial %d on the list" % serial)
        t.remove()

    def test_sshd_refuses_what_is_on_it(self):
        t = SetUp(sp, "c-rev")
        t.up()
        self.assertEqual(run("c-rev").code, 0)
        # The next serial is not known; the next hundred are.
        last = max(e["detail"]["serial"] for e in sp.audit("session_open"))
        ids = [self.revoke("--serial", str(last + i)) for i in range(1, 9)]
        text = self.fetch()
        self.assertTrue(all(self.has(text, last + i) for i in range(1, 9)), text)
        self.assertFalse(self.has(text, last + 9), text)
        shutil.copy(self.krl, t.etc + "/sallyport_krl.new")
        os.rename(t.etc + "/sallyport_krl.new", t.etc + "/sallyport_krl")
        seen = t.log().count("Accepted")
        self.assertNotEqual(run("c-rev").code, 0)
        self.assertIn("revoked by file", t.log())
        self.assertEqual(t.log().count("Accepted"), seen)
        for i in ids:
            sp.host("krl", "remove", i, check=True)
        self.fetch()
        shutil.copy(self.krl, t.etc + "/sallyport_krl.new")
        os.rename(t.etc + "/sallyport_krl.new", t.etc + "/sallyport_krl")
        self.assertEqual(run("c-rev").code, 0)
        t.remove()

    def test_refusals(self):
        for bad in ([], ["--serial", "0"], ["--serial", "-1"], ["--serial", "x"], ["--serial", "1", "--session", "abcd"],
                    ["--ca", "ssh-ed25519 AAAA"], ["--ca", "nonsense"], ["--session", "../x"], ["--session", "ab"]):
            self.assertEqual(sp.host("krl", "revoke", *bad).code, 2, bad)
        self.assertEqual(sp.host("krl", "revoke", "--session", "00000000").code, 1)
        self.assertEqual(sp.ssh("oscar", "bastion", "krl", "revoke", "--serial", "5").code, 1)
        self.assertEqual(sp.ssh("oscar", "bastion", "krl", "list").code, 1)

    def test_a_row_that_was_changed_in_the_database_is_not_left_out_silently(self):
        r = sp.host("krl", "revoke", "--serial", "4000000099", "--json", check=True).json()
        sp.psql("ALTER TABLE sallyport.revoked DISABLE TRIGGER keep; UPDATE sallyport.revoked SET value = '5' WHERE id = '%s'; "
                "ALTER TABLE sallyport.revoked ENABLE TRIGGER keep" % r["id"])
        answer = sp.ssh("oscar", "bastion", "krl")
        self.assertEqual((answer.code, answer.out), (1, b""), answer)
        self.assertIn(b"was changed in the database", answer.err)
        sp.psql("DELETE FROM sallyport.revoked WHERE id = '%s'" % r["id"])
        self.assertEqual(sp.ssh("oscar", "bastion", "krl").code, 0)


class Push(unittest.TestCase):
    """The list goes to the targets by itself: a session of the bastion's own, recorded like any other."""

    def target(self, name, options=""):
        t = Target(sp, name, options=options and options % (sp.dir + "/target/home/admin/krl-" + name))
        self.addCleanup(t.remove)
        return t, sp.dir + "/target/home/admin/krl-" + name

    @staticmethod
    def state(name):
        rows = [x for x in sp.host("krl", "status", "--json", check=True).json() if x["target"] == name]
        return rows[0] if rows else None

    def wait(self, name, state):
        wait_for(lambda: (self.state(name) or {}).get("state") == state, 120, "%s to be %s" % (name, state))

    def push(self, **words):
        sp.configure(krl_push=" ".join(words.pop("to")), **words)
        sp.host("reload", check=True)
        self.addCleanup(self.no_push)

    @staticmethod
    def no_push():
        sp.configure(krl_push="", krl_push_s=600)
        sp.host("reload", check=True)

    def test_a_revoked_certificate_is_refused_after_the_push(self):
        t, path = self.target("c-push", "RevokedKeys %s")
        with open(path, "wb") as f:
            f.write(sp.host("krl", check=True).out)
        os.chmod(path, 0o644)
        self.push(to=["admin@c-push:" + path], krl_push_s=3600)
        self.wait("c-push", "current")
        self.assertEqual(run("c-push").code, 0)
        first = os.stat(path).st_ino
        last = max(e["detail"]["serial"] for e in sp.audit("session_open"))
        ids = [sp.host("krl", "revoke", "--serial", str(last + i), "--json", check=True).json()["id"] for i in range(6, 40)]
        text = lambda: subprocess.run(["ssh-keygen", "-Q", "-l", "-f", path], stdout=subprocess.PIPE).stdout.decode()
        wait_for(lambda: Revocation.has(text(), last + 39), 120, "the list at the target")
        self.wait("c-push", "current")
        self.assertNotEqual(os.stat(path).st_ino, first, "it took the place of the old one in one step")
        while max(e["detail"]["serial"] for e in sp.audit("session_open")) < last + 5:
            self.assertEqual(run("core-01").code in (0, 255), True)
        self.assertNotEqual(run("c-push").code, 0)
        self.assertIn("revoked by file", t.log())
        # recorded, and nobody's
        rows = [s for s in sp.sessions() if s["target"] == "c-push" and s.get("kind") == "krl"]
        self.assertTrue(rows)
        self.assertEqual(sp.host("verify", rows[0]["id"]).code, 0)
        for i in ids:
            sp.host("krl", "remove", i, check=True)

    def test_targets_that_fail_are_told_and_tried_again(self):
        bad = {"c-away": "", "c-flood": "ForceCommand head -c 3000000 /dev/zero; exit 1\n#%s", "c-dies": "ForceCommand kill -9 $PPID\n#%s",
               "c-esc": "ForceCommand printf '\\033]0;x\\007no'; exit 7\n#%s"}
        made = {name: self.target(name, options) for name, options in bad.items()}
        made["c-away"][0].stop()
        self.push(to=["admin@%s:%s" % (n, p) for n, (_, p) in made.items()] + ["admin@c-none:/k", "admin@core-01:/nowhere/at/all",
                                                                                "admin@core-01:/etc/a;id", "rubbish"])
        for name in list(made) + ["c-none", "core-01"]:
            self.wait(name, "failed")
        rows = sp.host("krl", "status", "--json", check=True).json()
        self.assertEqual(sum(x["state"] == "wrong" for x in rows), 2)
        self.assertNotIn("\x1b", sp.host("krl", "status").text)
        r = sp.host("doctor", "--json").json()
        r = r["checks"] if isinstance(r, dict) else r
        said = [x for x in r if x["check"] == "krl"]
        self.assertEqual((said[0]["state"], "c-away" in said[0]["text"]), ("warn", True), said)
        # it is there again, and gets it without being asked
        t = made["c-away"][0]
        t.launch(t.dir + "/sshd_config")
        self.assertEqual(sp.host("krl", "push", "admin@c-away").code, 0)
        self.wait("c-away", "current")
        self.assertGreater(os.stat(made["c-away"][1]).st_size, 40)
        self.assertFalse(os.path.exists(made["c-flood"][1]))
        self.assertNotEqual(sp.host("krl", "push", "admin@c-nobody").code, 0)
        # people keep working meanwhile
        self.assertEqual(run("core-01").code, 0)

    def test_who_may_ask(self):
        self.assertNotEqual(sp.ssh("oscar", "bastion", "krl", "push").code, 0)
        self.assertNotEqual(sp.ssh("oscar", "bastion", "krl", "status").code, 0)


if __name__ == "__main__":
    main()
