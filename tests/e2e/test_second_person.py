# SPDX-License-Identifier: Apache-2.0
"""A second person and a running session: freeze, resume, note, kill; lines, commands and files that wait to be released."""
import os
import subprocess
import sys
import unittest

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, TESTS + "/support")
from sp import Instance, main, read_until, wait_for  # noqa: E402

POLICY = '''permit "one" who group operators on tag core as admin require mfa totp for 1h
permit "two" who group pairs on tag core as admin require mfa totp for 1h hold lines, transfers
'''


def setUpModule():
    global sp
    sp = Instance(policy=POLICY)
    sp.add_person("oscar", "operators")
    sp.add_person("paula", "pairs")
    sp.add_person("wanda", "auditors")
    sp.add_person("amy", "auditors,operators")


def tearDownModule():
    sp.close()


def held(kind=None):
    return [h for h in sp.ssh("wanda", "bastion", "held", "--json").json() if kind in (None, h["kind"])]


def wait_held(kind):
    return wait_for(lambda: held(kind), 60, "something of kind %s that waits" % kind)[0]


class Session:
    """A terminal at the target."""

    def __init__(self, who, *args):
        before = {s["id"] for s in sp.sessions()}
        self.p = sp.ssh_start(who, "-tt", "admin@core-01", *args, stdin=subprocess.PIPE)
        new = wait_for(lambda: [s for s in sp.sessions() if s["id"] not in before and s["person"] == who], 60, "the session")
        self.id = new[0]["id"]
        if args:
            self.see(rb"up-2")

    def type(self, data):
        self.p.stdin.write(data)
        self.p.stdin.flush()

    def see(self, pattern):
        return read_until(self.p.stdout, pattern, 60)

    def close(self):
        sp.host("kill", self.id)
        self.p.communicate(timeout=60)
        wait_for(lambda: [s for s in sp.sessions() if s["id"] == self.id and s["state"] not in ("running", "frozen", "held")], 60,
                 "the session's end")


class Freeze(unittest.TestCase):
    def test_nothing_passes_until_it_is_resumed(self):
        s = Session("oscar", "echo up-$((1+1)); exec cat")
        s.type(b"one\r")
        s.see(rb"one\r\none")
        self.assertEqual(sp.ssh("wanda", "bastion", "freeze", s.id, "--reason", "看一下").code, 0)
        s.see("wanda froze this session: 看一下".encode())
        self.assertEqual([x["state"] for x in sp.sessions() if x["id"] == s.id], ["frozen"])
        s.type(b"two\r")
        self.assertEqual(sp.ssh("wanda", "bastion", "note", s.id, "who are you?").code, 0)
        seen = s.see(rb"wanda says: who are you\?")
        self.assertNotIn(b"two", seen)
        self.assertEqual(sp.ssh("wanda", "bastion", "resume", s.id).code, 0)
        s.see(rb"two\r\ntwo")
        events = [e["event"] for e in sp.audit() if e.get("session") == s.id]
        for e in ("session_freeze", "session_note", "session_resume"):
            self.assertIn(e, events)
        s.close()

    def test_a_frozen_session_can_be_killed(self):
        s = Session("oscar", "echo up-$((1+1)); exec cat")
        self.assertEqual(sp.ssh("wanda", "bastion", "freeze", s.id).code, 0)
        s.see(rb"froze this session")
        self.assertEqual(sp.host("kill", s.id, "--reason", "enough").code, 0)
        out, err = s.p.communicate(timeout=60)
        self.assertIn(b"enough", out + err)

    def test_who_may(self):
        s = Session("amy", "echo up-$((1+1)); exec cat")
        for who, verb in (("oscar", "freeze"), ("paula", "resume"), ("oscar", "note"), ("bob", "release")):
            r = sp.ssh(who, "bastion", verb, s.id, *(["x"] if verb == "note" else []))
            self.assertEqual(r.code, 1, r)
            self.assertIn("auditors", r.text)
        r = sp.ssh("amy", "bastion", "resume", s.id)
        self.assertEqual(r.code, 1, r)
        self.assertIn("your own", r.text)
        self.assertEqual(sp.ssh("wanda", "bastion", "release", s.id).code, 1)
        s.close()
        self.assertEqual(sp.ssh("wanda", "bastion", "freeze", s.id).code, 1)


class Hold(unittest.TestCase):
    def test_lines_of_a_terminal(self):
        s = Session("paula")
        s.see(rb"\$ ")
        s.type(b"echo first-$((1+1))")
        s.see(rb"first-\$\(\(1\+1\)\)")
        s.type(b"\r")
        h = wait_held("line")
        self.assertEqual((h["session"], h["person"]), (s.id, "paula"))
        s.see(rb"two people work here")
        r = sp.ssh("amy", "bastion", "release", s.id, str(h["number"]))
        self.assertEqual(r.code, 0, r)
        s.see(rb"first-2\r")
        # Refused: the shell never gets the Enter, and the line is taken away.
        s.type(b"touch should-not-be\r")
        h = wait_held("line")
        self.assertEqual(sp.ssh("wanda", "bastion", "refuse", s.id, "--reason", "no").code, 0)
        s.see(rb"wanda refused this line")
        self.assertEqual(sp.ssh("wanda", "bastion", "refuse", s.id, str(h["number"])).code, 1)
        s.type(b"echo third\r")
        wait_held("line")
        self.assertEqual(sp.ssh("wanda", "bastion", "release", s.id).code, 0)
        s.see(rb"\nthird\r")
        self.assertFalse(os.path.exists(sp.dir + "/target/home/admin/should-not-be"))
        self.assertIn("held_refused", [e["event"] for e in sp.audit() if e.get("session") == s.id])
        s.close()
        self.assertEqual(held(), [])
        self.assertIn("INTACT", sp.host("verify", s.id).text)

    def test_commands(self):
        p = sp.ssh_start("paula", "admin@core-01", "echo ran; exit 3")
        h = wait_held("command")
        self.assertEqual(h["text"], "echo ran; exit 3")
        self.assertEqual(sp.ssh("wanda", "bastion", "release", h["session"]).code, 0)
        out, err = p.communicate(timeout=60)
        self.assertEqual((p.returncode, out), (3, b"ran\n"), err)
        p = sp.ssh_start("paula", "admin@core-01", "touch refused-too")
        h = wait_held("command")
        self.assertEqual(sp.ssh("wanda", "bastion", "refuse", h["session"]).code, 0)
        out, err = p.communicate(timeout=60)
        self.assertNotEqual(p.returncode, 0)
        self.assertIn(b"a second person refused it", err)
        self.assertFalse(os.path.exists(sp.dir + "/target/home/admin/refused-too"))

    def test_files(self):
        conf = "%s/people/paula/ssh_config" % sp.dir
        local = sp.dir + "/up.bin"
        with open(local, "wb") as f:
            f.write(os.urandom(70000))
        copy = ["scp", "-q", "-F", conf, local]
        env = sp.ssh_env("paula")
        self.assertEqual(sp.ssh("paula", "bastion", "whoami").code, 0)
        for verdict, name in (("release", "let.bin"), ("refuse", "not.bin")):
            p = subprocess.Popen(copy + ["admin@core-01:" + name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 env=env)
            h = wait_held("file")
            self.assertIn(name, h["text"])
            self.assertIn("upload", h["text"])
            self.assertFalse(os.path.exists(sp.dir + "/target/home/admin/" + name))
            self.assertEqual(sp.ssh("wanda", "bastion", verdict, h["session"]).code, 0)
            out, err = p.communicate(timeout=60)
            self.assertEqual(p.returncode == 0, verdict == "release", err)
            self.assertEqual(os.path.exists(sp.dir + "/target/home/admin/" + name), verdict == "release")
        with open(local, "rb") as f, open(sp.dir + "/target/home/admin/let.bin", "rb") as g:
            self.assertEqual(f.read(), g.read())

    def test_a_script_on_standard_input_waits_line_by_line(self):
        p = sp.ssh_start("paula", "-T", "admin@core-01", stdin=subprocess.PIPE)
        p.stdin.write(b"echo a-$((1+1))\necho b-$((1+1))\nexit 4\n")
        p.stdin.close()
        seen = []
        for word in (b"a-2", b"b-2"):
            h = wait_held("line")
            seen.append(h["number"])
            self.assertEqual(sp.ssh("wanda", "bastion", "release", h["session"], str(h["number"])).code, 0)
            read_until(p.stdout, word, 60)
        h = wait_for(lambda: [x for x in held("line") if x["number"] not in seen], 60, "the third line")[0]
        self.assertEqual(sp.ssh("wanda", "bastion", "release", h["session"]).code, 0)
        p.stdin = None
        p.communicate(timeout=60)
        self.assertEqual(p.returncode, 4)


if __name__ == "__main__":
    main()
