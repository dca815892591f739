# SPDX-License-Identifier: Apache-2.0
"""What was typed opens when two other people have signed for it, and the vault counts; and a bastion whose recordings are sealed
to auditors alone says so, and shows nobody a session live."""
import json
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance, main, read_until, wait_for  # noqa: E402
from viewer import Viewer  # noqa: E402

POLICY = 'permit "one" who group operators on tag core as admin require mfa totp for 1h\n'
AUDITORS = ("wanda", "vera", "udo", "tom")


def key(who):
    return "%s/people/%s/id_ed25519" % (sp.dir, who)


def restart(**settings):
    sp.host("stop", check=True, timeout=120)
    sp.configure(**settings)
    r = sp.host("start", timeout=120)
    for who in ("oscar",) + AUDITORS:
        sp.end_mux(who)
    return r


def setUpModule():
    global sp, done
    sp = Instance(policy=POLICY)
    sp.add_person("oscar", "operators")
    for a in AUDITORS:
        sp.add_person(a, "auditors")
    pub = {a: open(key(a) + ".pub").read().split()[1] for a in AUDITORS}
    assert restart(keys_approvals=2, keys_approvers=" ".join("%s=%s" % (a, pub[a]) for a in AUDITORS[:3])).code == 0
    p = sp.ssh_start("oscar", "-tt", "admin@core-01", "echo up-$((1+1)); read x; stty -echo; echo off-$((1+1)); read y; echo bye", stdin=subprocess.PIPE)
    read_until(p.stdout, rb"up-2", 60)
    p.stdin.write(b"typed-words\r")
    p.stdin.flush()
    read_until(p.stdout, rb"off-2", 60)
    p.stdin.write(b"unseen-words\r")
    p.stdin.flush()
    p.communicate(timeout=60)
    done = wait_for(lambda: [s for s in sp.sessions() if s["ended"] and s["person"] == "oscar"], 60, "the session")[0]["id"]


def tearDownModule():
    sp.close()


def ask(who, session=None):
    r = sp.ssh(who, "bastion", "keys", "ask", session or done, "--reason", "'case 7'", "--json")
    assert r.code == 0, r
    return r.json()["id"]


def text(who, number):
    return sp.ssh(who, "bastion", "keys", "text", str(number))


def sign(who, number, what=None):
    s = subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-n", "approve@sallyport", "-f", key(who)], stdout=subprocess.PIPE,
                       input=what if what is not None else text(who, number).out, check=True).stdout
    return sp.ssh(who, "bastion", "keys", "approve", str(number), input=s)


def records(who):
    return sp.ssh(who, "bastion", "export", done, "--format", "records")


def typed(r):
    import base64
    return b"".join(base64.b64decode(x["data"]) for x in map(json.loads, r.out.splitlines()) if x["lane"] == "in" and x["kind"] == "in")


class Two(unittest.TestCase):
    def test_nobody_sees_what_was_typed_alone(self):
        for args in (["export", done, "--format", "records"], ["export", done, "--format", "asciicast", "--keys"],
                     ["search", "typed", "--lane", "keys"]):
            r = sp.ssh("tom", "bastion", *args)
            self.assertEqual(r.code, 1, r)
            self.assertIn("have signed", r.text)
            self.assertNotIn("typed-words", r.text)
        self.assertEqual(sp.host("export", done, "--format", "records").code, 1)
        self.assertIn("when 2 people have signed", sp.ssh("tom", "bastion", "whoami").text)
        # What shows no keys needs nobody.
        self.assertIn("bye", sp.ssh("tom", "bastion", "replay", done).text)
        self.assertEqual(sp.ssh("tom", "bastion", "sessions", "show", done).code, 0)
        self.assertEqual(sp.ssh("tom", "bastion", "export", done, "--format", "commands-csv").code, 0)
        self.assertIn("viewing_refused", [e["event"] for e in sp.audit() if e.get("session") == done])

    def test_two_others_sign_and_it_opens_for_who_asked(self):
        n = ask("wanda")
        for words in ("SHOW WHAT WAS TYPED in session %s" % done, "wanda", "case 7", "admin@core-01"):
            self.assertIn(words, text("udo", n).text)
        r = sign("wanda", n)
        self.assertEqual(r.code, 1, r)
        self.assertIn("nobody approves their own", r.text)
        r = sign("tom", n)                                # an auditor whom the rule does not name
        self.assertEqual(r.code, 1, r)
        r = sp.ssh("vera", "bastion", "keys", "approve", str(n), input=b"no signature")
        self.assertEqual(r.code, 2, r)
        r = sign("vera", n, text("vera", n).out.replace(b"case 7", b"case 8"))
        self.assertEqual(r.code, 1, r)
        self.assertEqual(sign("vera", n).code, 0)
        self.assertEqual(sign("vera", n).code, 1)
        self.assertEqual(records("wanda").code, 1)
        self.assertEqual(sign("udo", n).code, 0)
        row = [k for k in sp.ssh("wanda", "bastion", "keys", "list", "--json").json() if k["number"] == int(n)][0]
        self.assertEqual((row["signed"], row["by"], row["person"]), (2, "vera, udo", "wanda"))
        r = records("wanda")
        self.assertEqual(r.code, 0, r)
        self.assertIn(b"typed-words\r", typed(r))
        self.assertIn(b"unseen-words\r", typed(r))       # what every other view masks
        self.assertEqual(records("vera").code, 1)         # for who asked, nobody else
        events = [e["event"] for e in sp.audit() if e.get("session") == done]
        for e in ("keys_asked", "keys_approved", "keys_opened"):
            self.assertIn(e, events)

    def test_a_broker_that_says_another_rule_gets_nothing(self):
        """The broker reads a configuration with one approver less; the vault keeps the one that it began with."""
        n = ask("vera")
        self.assertEqual(sign("udo", n).code, 0)
        with open(sp.dir + "/sallyport.conf") as f:
            old = f.read()
        try:
            sp.configure(keys_approvals=1)
            sp.host("reload", check=True)
            wait_for(lambda: "when 1 people" in sp.ssh("vera", "bastion", "whoami").text, 60, "the new setting")
            r = records("vera")                           # signed by as many as this broker wants
            self.assertNotEqual(r.code, 0)
            self.assertNotIn(b'"in"', r.out)
            self.assertIn("the vault does not open what was typed", r.text)
            r = sp.ssh("wanda", "bastion", "keys", "ask", done, "--reason", "x")
            self.assertEqual(r.code, 1, r)
            self.assertIn("not what keys_approvers says", r.text)
            sp.configure(keys_approvals=0)                # and one that asks nobody at all
            sp.host("reload", check=True)
            wait_for(lambda: "signed" not in sp.ssh("vera", "bastion", "whoami").text, 60, "the new setting")
            r = records("vera")
            self.assertNotEqual(r.code, 0)
            self.assertNotIn(b"dHlwZWQtd29yZHM", r.out)
            self.assertNotEqual(sp.ssh("vera", "bastion", "search", "typed-words", "--lane", "keys").code, 0)
        finally:
            with open(sp.dir + "/sallyport.conf", "w") as f:
                f.write(old)
            sp.host("reload", check=True)

    def test_a_rule_that_nobody_could_fulfil_is_refused(self):
        with open(sp.dir + "/sallyport.conf") as f:
            old = f.read()
        for bad in (dict(keys_approvals=4), dict(keys_approvers="wanda=AAAA"), dict(keys_approvers="wanda")):
            try:
                sp.configure(**bad)
                r = sp.host("reload")
                self.assertNotEqual(r.code, 0, bad)
                self.assertIn("keys_approvers", r.text)
            finally:
                with open(sp.dir + "/sallyport.conf", "w") as f:
                    f.write(old)
        sp.host("reload", check=True)


class YStrict(unittest.TestCase):
    def test_sealed_to_auditors_nobody_watches_live(self):
        identity = sp.dir + "/people/anna.id"
        o = sp.dir + "/opt"
        env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "SALLYPORT_LIBEXEC": o + "/libexec/sallyport"}
        run = [o + "/bin/sallyport", "-D", sp.dir + "/none", "identity"]
        subprocess.run(run + ["new", identity], env=env, input=b"a long pass phrase\na long pass phrase\n", check=True, stdout=subprocess.DEVNULL)
        public = subprocess.run(run + ["show", identity], env=env, stdout=subprocess.PIPE, check=True).stdout.decode().strip()
        self.assertEqual(restart(recordings_sealed_to="auditors", recording_auditors="anna=" + public).code, 0)
        p = sp.ssh_start("oscar", "-tt", "admin@core-01", "echo up-$((1+1)); exec cat", stdin=subprocess.PIPE)
        read_until(p.stdout, rb"up-2", 60)
        s = [x for x in sp.sessions(all=False) if x["person"] == "oscar"][0]["id"]
        v = Viewer(sp, "wanda", ["watch", s])
        v.until(r"sealed to")
        wait_for(lambda: not v.pump(0.1), 60, "the end of the watching")
        self.assertNotIn("up-2", v.text)
        v.close()
        self.assertEqual(v.p.returncode, 1)
        r = sp.ssh("wanda", "bastion", "watch", s)
        self.assertEqual(r.code, 1)
        self.assertIn("nobody can watch it live", r.text.replace("\n", " "))
        self.assertIn("sealed to auditors alone", sp.ssh("wanda", "bastion", "whoami").text)
        self.assertIn("sealed to auditors alone", sp.ssh("wanda", "bastion", "sessions").text)
        self.assertEqual(sp.ssh("wanda", "bastion", "freeze", s).code, 0)
        seen = read_until(p.stdout, rb"froze this session", 60)
        self.assertNotIn(b"watches this session", seen)   # nobody did
        sp.host("kill", s)
        p.communicate(timeout=60)


if __name__ == "__main__":
    main()
