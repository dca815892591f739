# SPDX-License-Identifier: Apache-2.0
"""What happened in a session, as an auditor reads it: one timeline of rows and recording, and the commands for a spreadsheet."""
import csv
import hashlib
import io
import os
import pty
import re
import select
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance, main, wait_for  # noqa: E402

SECRET = "hunter2-never-shown"
PROMPT = rb"[$#] (\x1b\[[?0-9;]*[a-zA-Z])*$"


class Terminal:
    """Somebody at a shell: types, and waits for what is on the screen."""

    def __init__(self, argv, env):
        self.seen = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], argv, dict(env, TERM="xterm"))

    def until(self, pattern, seconds=60):
        end = time.monotonic() + seconds
        while not re.search(pattern, self.seen):
            if time.monotonic() > end:
                raise AssertionError("did not see %r in %r" % (pattern, self.seen[-500:]))
            if select.select([self.fd], [], [], 1)[0]:
                try:
                    self.seen += os.read(self.fd, 65536)
                except OSError:
                    self.seen += b"<gone>$ "

    def type(self, keys, then=PROMPT):
        self.seen = b""
        for k in re.findall(".", keys, re.S):
            os.write(self.fd, k.encode())
            time.sleep(0.01)
        self.until(then)

    def close(self):
        os.close(self.fd)
        os.waitpid(self.pid, 0)


def setUpModule():
    global sp, S, F
    sp = Instance()
    sp.grant()
    t = Terminal(sp.ssh_argv("alice", ["-tt", "admin@core-01"], mux=False), sp.ssh_env("alice"))
    t.until(PROMPT)
    t.type("echo \u4f60\u597d \u4e16\u754c\r")
    t.type("echo wrnog\x7f\x7f\x7fong; echo 'a,\"b\"'\r")
    t.type("=1+1 # no formula\r")
    t.type("stty -echo; read x; stty echo\r", rb"stty echo\r\n")
    wait_for(lambda: echo_is_off(t), 60, "the echo to be off")
    t.type(SECRET + "\r", rb"[$#] ")
    t.type("exit\r", rb"<gone>|closed")
    t.close()
    body = b"what was carried\n" * 1000
    with open(sp.dir + "/carried", "wb") as f:
        f.write(body)
    base = sp.ssh_argv("alice", [], mux=False)
    p = subprocess.run(["scp", "-q"] + base[1:] + [sp.dir + "/carried", "admin@core-01:carried"], env=sp.ssh_env("alice"), stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    assert p.returncode == 0, p.stdout
    setUpModule.sha256 = hashlib.sha256(body).hexdigest()
    over = wait_for(lambda: [s for s in sp.sessions() if s["ended"]] if len([s for s in sp.sessions() if s["ended"]]) >= 2 else None, 60, "two sessions to be over")
    over.sort(key=lambda s: s["started"])
    S, F = over[0]["id"], over[1]["id"]


def echo_is_off(t):
    """The pty at the target is not ours: give its shell the time of one command by asking the screen."""
    if select.select([t.fd], [], [], 0.5)[0]:
        t.seen += os.read(t.fd, 65536)
        return False
    return True


def tearDownModule():
    sp.close()


class Timeline(unittest.TestCase):
    def events(self, session):
        r = sp.ssh("carol", "bastion", "sessions", "show", session, "--json")
        self.assertEqual(r.code, 0, r)
        return r.json()

    def test_one_order_of_all_that_happened(self):
        e = self.events(S)
        self.assertEqual([x["at"] for x in e], sorted(x["at"] for x in e))
        kinds = [x["event"] for x in e]
        for kind in ("request", "approval", "factors", "lease", "session", "open", "command", "secret", "end", "session_close"):
            self.assertIn(kind, kinds, e)
        self.assertLess(kinds.index("request"), kinds.index("approval"))
        self.assertLess(kinds.index("approval"), kinds.index("open"))
        self.assertEqual([x["who"] for x in e if x["event"] == "approval"], ["bob"])
        self.assertEqual([x["who"] for x in e if x["event"] == "request"], ["alice"])
        said = [x["text"] for x in e if x["event"] == "command"]
        for c in ("echo \u4f60\u597d \u4e16\u754c", "echo wrong; echo 'a,\"b\"'", "=1+1 # no formula", "stty -echo; read x; stty echo", "exit"):
            self.assertIn(c, said)
        for x in e:
            if x["event"] == "command":
                self.assertIn(x["source"], ("screen", "mark"))
                self.assertTrue(0 < x["percent"] < 100, x)
        self.assertEqual(kinds.count("secret"), 1)

    def test_a_secret_is_a_mark(self):
        for args in (["sessions", "show", S], ["sessions", "show", S, "--json"], ["export", S, "--format", "commands-csv"], ["export", S, "--format", "commands-json"]):
            r = sp.ssh("carol", "bastion", *args)
            self.assertEqual(r.code, 0, r)
            self.assertNotIn(SECRET.encode(), r.out + r.err)

    def test_for_people(self):
        r = sp.ssh("carol", "bastion", "sessions", "show", S)
        self.assertEqual(r.code, 0, r)
        self.assertIn("\u4f60\u597d \u4e16\u754c", r.text)
        self.assertRegex(r.text, r"(?m)^20\d\d-\d\d-\d\dT[0-9:]*Z  command +\d\d%  exit$")
        self.assertRegex(r.text, r"approval .*bob: approved request \d+")
        self.assertRegex(r.text, r"factors .*alice: .*factors=key, totp")
        self.assertIn("no proof of what ran", r.text)
        self.assertNotIn(b"\x1b", r.out)
        r = sp.ssh("carol", "-tt", "bastion", "sessions", "show", S, mux=False)
        self.assertIn(b"\x1b[1m", r.out)

    def test_files_with_their_hashes(self):
        files = [x["file"] for x in self.events(F) if x["event"] == "file"]
        self.assertIn(setUpModule.sha256, [f.get("sha256") for f in files], files)

    def test_commands_for_programs(self):
        r = sp.ssh("carol", "bastion", "export", S, "--format", "commands-json")
        found = {x["text"]: x for x in r.json()}
        self.assertIn("echo wrong; echo 'a,\"b\"'", found)
        r = sp.ssh("carol", "bastion", "export", S, "--format", "commands-csv")
        rows = list(csv.DictReader(io.StringIO(r.out.decode())))
        self.assertEqual(len(rows), len(found))
        self.assertIn("echo wrong; echo 'a,\"b\"'", [x["command"] for x in rows])
        self.assertIn("'=1+1 # no formula", [x["command"] for x in rows])     # a spreadsheet must not run it
        self.assertEqual({x["session"] for x in rows}, {S})

    def test_who_may_see_it(self):
        r = sp.ssh("alice", "bastion", "sessions", "show", S)
        self.assertNotEqual(r.code, 0)
        self.assertNotIn(b"echo wrong", r.out)
        self.assertEqual(sp.host("sessions", "show", S).code, 0)
        self.events(S)
        self.assertIn("carol", [x["actor"] for x in sp.audit("timeline")])
        self.assertEqual(sp.ssh("carol", "bastion", "sessions", "show", "0123abcd").code, 1)


if __name__ == "__main__":
    main()
