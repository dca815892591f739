# SPDX-License-Identifier: Apache-2.0
"""The replay on an auditor's terminal, key by key, through OpenSSH and a real pty, read by another terminal than ours."""
import base64
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance, main, wait_for  # noqa: E402
from viewer import Viewer  # noqa: E402

POLICY = """
network loopback 127.0.0.0/8, ::1
permit "free" who group operators on tag core as admin when source in loopback require mfa totp for 1h
  allow shell, exec, upload, download, subsystem
permit "asked" who group sysadmins on tag core as admin when source in loopback require approval 1 of approvers, mfa totp for 1h
  allow shell, exec, upload, download, subsystem
"""
RIGHT, LEFT, UP, DOWN, HOME, END = "\x1b[C", "\x1b[D", "\x1b[A", "\x1b[B", "\x1b[H", "\x1b[F"

# Whatever a target may send to harm who looks: each must reach the auditor as a picture or not at all.
HOSTILE = (b"\x1b]0;OWNED-TITLE\x07\x1b]2;OWNED\x1b\\\x1b]52;c;b3duZWQ=\x07\x1b[c\x1b[>c\x1b[6n\x1b[5n\x1b[?15n\x1b[x\x1b[21t\x1b[18t"
           b"\x1bP$qm\x1b\\\x1bP+q544e\x1b\\\x1bZ\x05\x1b_apc\x1b\\\x1b^pm\x1b\\\x1bXsos\x1b\\"
           b"\x1b]10;?\x07\x1b]11;?\x07\x1b]4;1;?\x07\x1b]8;;http://evil/\x07link\x1b]8;;\x07\x1b]1337;File=name=eA==:eA==\x07"
           b"\x1b[?1000h\x1b[?1003h\x1b[?1006h\x1b[?2004h\x1b[?1004h\x1b[20h\x1b[?9h\x1b[>4;2m\x1b=\x1b[8;99;99t\x1b[5i\x1b[?5i\x1bc"
           b"\x9b31mC1-CSI\x9d0;C1-TITLE\x9c\x90q\x9c\x8e\x8f\xc2\x9b31m\xc2\x9d0;t\xc2\x9c"
           b"\xff\xfe\xc0\x80\xf8\x88\x80\x80\x80\xed\xa0\x80\xe4\xb8"
           b"\r\nbidi:\xe2\x80\xaeTRAP\xe2\x80\xac \xe2\x81\xa6x\xe2\x81\xa9 zero:\xe2\x80\x8bW\xef\xbb\xbf \x0e\x0f\x07\x08\r\n"
           b"\x1b[8mCONCEALED\x1b[0m \x1b[5mBLINK\x1b[0m plain-end-of-harm\r\n")


def setUpModule():
    global sp, LONG, SHORT, TWO, HARM, FILES, TYPED, ALL
    sp = Instance(policy=POLICY)
    sp.add_person("oscar", "operators")
    sp.grant()
    assert sp.ssh("oscar", "bastion", "whoami").code == 0
    assert sp.ssh("carol", "bastion", "whoami").code == 0
    out = {}
    harm = base64.b64encode(HOSTILE).decode()
    runs = {
        "FILES": ([], None),
        "ALL": ([], None),
        "TYPED": (["-tt"], None),
        "LONG": (["-tt"], ("echo first-word; sleep 12; stty cols 60 2>/dev/null; echo second-word; "
                           "for i in 1 2 3; do echo again-$i; sleep 1; done; echo last-word")),
        "SHORT": (["-tt"], "for i in $(seq 1 40); do echo line-$i; done; echo 你好-words; exit"),
        "TWO": ([], None),
        "HARM": (["-tt"], "stty raw -echo; echo %s | base64 -d; sleep 0.2" % harm),
    }
    ts = [threading.Thread(target=record, args=(out, k) + v) for k, v in runs.items()]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    for k in runs:
        assert k in out, "no session %s" % k
    LONG, SHORT, TWO, HARM, FILES, TYPED, ALL = (out[k] for k in ("LONG", "SHORT", "TWO", "HARM", "FILES", "TYPED", "ALL"))


def tearDownModule():
    sp.close()


def record(out, name, opts, command):
    """Runs it as a session of its own; its number into out[name]."""
    word = "mark-%s" % name.lower() if name != "ALL" else "every-kind"
    seen = word if name != "HARM" else "plain-end-of-harm"   # it clears what stood there
    if name == "TWO":                                    # two channels of one connection, at the same time
        base = sp.ssh_argv("oscar", [], mux=True, opts=["ControlPath=%s/two" % sp.dir, "ControlMaster=auto", "ControlPersist=yes"])
        a = subprocess.Popen(base + ["-tt", "admin@core-01", "echo %s chan-one; sleep 2; echo one-ends" % word], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=sp.ssh_env("oscar"))
        assert a.stdout.read(5)
        b = subprocess.run(base + ["admin@core-01", "echo chan-two"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           env=sp.ssh_env("oscar"), timeout=60)
        assert b.stdout == b"chan-two\n", b
        a.communicate(timeout=60)
        subprocess.run(base + ["-O", "exit", "admin@core-01"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=20)
    elif name == "FILES":
        src = sp.dir + "/payroll-2026.csv"
        with open(src, "w") as f:
            f.write("1,2,3\n")
        argv = sp.ssh_argv("oscar", [], mux=False)
        p = subprocess.run(["sftp"] + argv[1:] + ["-b", "-", "admin@core-01"], input=("put %s /tmp/mark-files-payroll-2026.csv\n"
                           "rm /tmp/mark-files-payroll-2026.csv\n" % src).encode(), stdout=subprocess.PIPE, env=sp.ssh_env("oscar"), timeout=120)
        assert p.returncode == 0, p
    elif name == "ALL":
        everything(word)
    elif name == "TYPED":
        p = subprocess.Popen(sp.ssh_argv("oscar", opts + ["admin@core-01"], mux=False), stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=sp.ssh_env("oscar"), bufsize=0)
        p.stdin.write(b"echo mark-typed typed by haxx\x7f\x7fnd; exit\r")
        got = p.communicate(timeout=120)[0]
        assert b"mark-typed typed by hand" in got, got
    else:
        p = subprocess.run(sp.ssh_argv("oscar", opts + ["admin@core-01", "echo %s; %s" % (word, command)], mux=False),
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=sp.ssh_env("oscar"), timeout=120)
        assert p.returncode == 0, (name, p)

    def mine():
        for s in sp.sessions():
            r = sp.ssh("carol", "bastion", "replay", s["id"])
            if seen.encode() in r.out and os.path.exists("%s/recordings/%s.spr" % (sp.dir, s["id"])):
                return s["id"]
    out[name] = wait_for(mine, 60, "the recording of " + name)


def everything(word):
    """One session with all that the bar of a replay can show; it lasts long enough that each has a place of its own."""
    master, slave = pty.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    shared = ["ControlPath=%s/all" % sp.dir, "ControlMaster=auto", "ControlPersist=no"]
    base = sp.ssh_argv("alice", [], mux=True, opts=shared)
    before = {s["id"] for s in sp.sessions()}
    p = subprocess.Popen(base + ["-tt", "admin@core-01"], stdin=slave, stdout=slave, stderr=slave, env=sp.ssh_env("alice"), start_new_session=True,
                         preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    sp.started.append(p)
    os.close(slave)

    def until(pattern):
        seen, end = b"", time.monotonic() + 60
        while not re.search(pattern, seen):
            assert time.monotonic() < end, seen
            if select.select([master], [], [], 0.2)[0]:
                seen += os.read(master, 65536)

    def moment():
        """A second in which nothing happens."""
        end = time.monotonic() + 1
        while time.monotonic() < end:
            if select.select([master], [], [], 0.1)[0]:
                os.read(master, 65536)

    until(rb"[$#] ")
    sid = [s["id"] for s in sp.sessions() if s["id"] not in before and s["person"] == "alice"][0]
    for keys, pattern in ((b"echo %s\r" % word.encode(), rb"\r\n%s\r\n(.|\n)*[$#] " % word.encode()),
                          (b"stty -echo; echo re''ady; read x; stty echo\r", rb"\nready"), (b"never-shown\r", rb"[$#] ")):
        os.write(master, keys)
        until(pattern)
        moment()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    moment()
    os.write(master, b"until [ $(tput cols) = 100 ]; do :; done; echo wi''de\r")
    until(rb"\nwide")
    moment()
    with open(sp.dir + "/in-all", "w") as f:
        f.write("sent\n")
    r = subprocess.run(["scp"] + base[1:] + [sp.dir + "/in-all", "admin@core-01:in-all"], stdin=subprocess.DEVNULL, env=sp.ssh_env("alice"), timeout=60)
    assert r.returncode == 0
    moment()
    sp.host("note", sid, "froze this session", check=True)
    until(rb"says: froze")
    sp.host("freeze", sid, check=True)
    until(rb"froze this session\.")
    moment()
    sp.host("resume", sid, check=True)
    until(rb"resumed this session")
    moment()
    os.write(master, b"exit\r")
    p.wait(timeout=60)
    os.close(master)


class Keys(unittest.TestCase):
    def view(self, session, *args, **kw):
        v = Viewer(sp, "carol", ["replay", session] + list(args), **kw)
        self.addCleanup(v.close)
        return v

    def test_time(self):
        v = self.view(LONG)
        v.until(r"first-word")
        v.press(" ", r"^ \|\| ")                                      # stands
        v.press(RIGHT, lambda v: (v.clock() or 0) >= 10)
        self.assertNotIn("second-word", v.text)
        v.press(RIGHT, r"last-word")
        v.press(LEFT, lambda v: "second-word" not in v.text or "last-word" not in v.text)
        v.press(HOME, lambda v: v.clock() == 0)
        v.press(END, r"last-word")
        v.press("0", lambda v: v.clock() == 0)
        v.press("g12\r", lambda v: v.clock() == 12)
        v.press("g0:01\r", lambda v: v.clock() == 1)
        v.press("g+2s\r", lambda v: v.clock() == 3)
        v.press("g50%\r", lambda v: v.clock() in (7, 8, 9))
        v.press("gnever\r", r"a time is")
        v.press("5", lambda v: v.clock() in (7, 8, 9))
        v.press(".", lambda v: v.clock() >= 12)                      # on to the next output
        v.press("\x1b[1;2D", lambda v: v.clock() == 0)               # a minute back
        v.press("\x1b[1;2C", r"last-word")
        v.press("gx\x7f3\r", lambda v: v.clock() == 3)               # rubbed out
        v.press("++", r" 4x ")
        v.press("-", r" 2x ")
        v.press("x", r" 1x ")
        v.press("i", r"silence is cut")
        v.press(" ", r"last-word")                                   # 9 s of silence are passed over
        self.assertEqual(v.close(), 0)
        v.check()

    def test_at_and_speed(self):
        v = self.view(LONG, "--at", "13s", "--speed", "4")
        v.until(r"second-word")
        v.until(r" 4x ")
        self.assertGreaterEqual(v.clock(), 13)
        v.until(r" END ")
        v.check()

    def test_search(self):
        v = self.view(LONG)
        v.until("first-word")
        v.press(" ", r"^ \|\| ")
        v.press("/SECOND-word\r", r"not found in")                # a capital letter is meant
        v.press("/AGAIN\x7f\x7f\x7f\x7f\x7fagain-\r", r"found at 0:00:1")
        at = v.clock()
        v.press("n", lambda v: v.clock() > at)
        v.press("n", r"again-3")
        v.press("n", r"from the beginning again")
        v.until(lambda v: v.clock() == at and "again-2" not in v.text)
        v.press("N", r"from the end again")
        v.until("again-3")
        v.press(END, r"last-word")
        v.press("N", r"found at")
        v.press("N", lambda v: "found at" in v.bar and "again-3" not in v.text)
        v.press("N", lambda v: "found at" in v.bar and "again-2" not in v.text)
        self.assertNotIn("again-3", v.text)
        cells = [c for c in v.screen.buffer[[i for i, r in enumerate(v.rows) if "again-1" in r][0]].values() if c.reverse]
        self.assertEqual("".join(c.data for c in cells).strip()[:6], "again-")      # shown where it is
        v.check()

    def test_search_finds_wide_characters(self):
        v = self.view(SHORT)
        v.until("line-40")
        v.press("/你好\r", r"(?s)你.?好.?-words.*found at")
        v.check()

    def test_commands_and_marks(self):
        v = self.view(TWO)
        v.until(r"one-ends|chan-two|END")
        v.press("m", r"What happened\b(?! so far)")
        v.until(r"command\s+echo chan-two")
        v.press(HOME + "\r", lambda v: "What happened" not in v.text)
        v.press(" ", r"^ \|\| ")
        v.press("0", lambda v: v.clock() == 0)
        v.press("]]", r"echo (mark-two|chan-two)")
        v.press("[", r"echo mark-two|no earlier")
        v.press(END + "}", r"no later mark")
        v.press("{", r"\d:\d\d:\d\d  \S")
        v.press("\x0c", lambda v: "\x1b[2J" in v.raw.decode("utf-8", "replace"))
        v.type(" ")
        v.until(lambda v: re.search(r"\[[-=>crfab ]*c[-=>crfab ]*\]", v.bar))
        v.check()

    def test_every_kind_of_mark_on_the_bar(self):
        """A command, a transfer, a change of size, an approval, a freeze and a secret, in one session; a note is none of them."""
        v = self.view(ALL, cols=160, rows=40)
        v.until("every-kind")
        v.press(END, "END")
        v.press("m", r"What happened\b(?! so far)")
        for mark in (r"command\s+echo every-kind", r"file\s+.*in-all", r"resize\s+100 columns, 30 rows", r"approval\s+approved: grant",
                     r"freeze\s+Sallyport: .* froze this session", r"freeze\s+Sallyport: .* resumed this session", r"secret",
                     r"bastion\s+Sallyport: .* says: froze this session"):
            self.assertRegex(v.text, mark)
        v.press("q", lambda v: "What happened" not in v.text)
        bar = re.search(r"\[([-=>a-z]+)\]", v.bar).group(1)
        self.assertLessEqual(set("acfrzs"), set(bar), v.bar)
        v.check()

    def test_the_timeline_has_them_too(self):
        r = sp.ssh("carol", "bastion", "sessions", "show", ALL, "--json")
        kinds = [x["event"] for x in r.json()]
        self.assertEqual(kinds.count("freeze"), 2, kinds)
        self.assertIn("notice", kinds)
        for kind in ("approval", "factors", "command", "secret", "file", "resize", "end"):
            self.assertIn(kind, kinds)

    def test_the_command_of_an_exec_is_exact(self):
        rows = sp.ssh("carol", "bastion", "export", TWO, "--format", "commands-json").json()
        self.assertEqual(sorted((x["text"], x["source"], x["percent"]) for x in rows),
                         [("echo chan-two", "exec", 100), ("echo mark-two chan-one; sleep 2; echo one-ends", "exec", 100)])

    def test_commands_that_were_typed(self):
        """As the scribe read them off the screen: what was rubbed out is not in them."""
        v = self.view(TYPED)
        v.until("END")
        v.press("m", r"command\s+echo mark-typed typed by hand; exit")
        v.press("q", lambda v: "What happened" not in v.text)
        v.press("[", r"echo mark-typed typed by hand; exit")
        v.check()

    def test_channels(self):
        v = self.view(TWO)
        v.until("END")
        v.press("\t", r"channel \d+: exec echo")
        seen = v.text
        v.press("\t", lambda v: ("chan-two" in v.text) != ("chan-two" in seen.rsplit("\n", 1)[0]) or "one-ends" in v.text)
        v.press("c", r"Channels up to this moment")
        self.assertRegex(v.text, r"closed\s+exec echo mark-two")
        self.assertRegex(v.text, r"closed\s+exec echo chan-two")
        row = [r for r in v.rows if "chan-two" in r][0]
        first = [r for r in v.rows if "closed" in r][0]
        v.press(("" if row == first else DOWN) + "\r", lambda v: v.rows[0] == "chan-two")
        v.press("f", r"follows")
        v.check()

    def test_help_and_bar(self):
        v = self.view(SHORT)
        v.until("line-40")
        v.press("?", r"Replay: what the keys do")
        for word in ("space", "/ n N", "] [", "Tab c", "10 seconds", "leave"):
            self.assertIn(word, v.text)
        v.press("x", lambda v: "what the keys do" not in v.text)
        v.press("b", lambda v: "?=help" not in v.text)
        v.press("b", r"\?=help")
        v.check()

    def test_a_larger_recording_in_a_small_terminal(self):
        v = self.view(SHORT, cols=40, rows=10)
        v.until(r"r\d+-\d+/24")
        v.until("你")
        v.press("gg\x7f1\r" + UP * 30, r"r1-9/24")
        v.press(DOWN, r"r2-10/24")
        v.press("\x1b[6~", r"r7-15/24")
        v.press("\x1b[5~", r"r2-10/24")
        v.press(">", r"c9-48/80")
        v.press("<", r"c1-40/80")
        v.press("f", r"follows")
        v.until(r"r(?!2-)\d+-\d+/24")
        v.resize(90, 30)                                             # the viewer's own terminal grows
        v.until(lambda v: "你" in v.text and "rows" not in v.bar and "/24" not in v.bar and len(v.rows) == 30 and "?=help" in v.bar)
        self.assertRegex(v.rows[24], r"^-{80}")                     # where the recorded screen ends
        v.check()

    def test_resizes_of_the_recording(self):
        master, slave = pty.openpty()
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        before = {s["id"] for s in sp.sessions()}
        p = subprocess.Popen(sp.ssh_argv("oscar", ["-tt", "admin@core-01", "trap 'stty size; exit' WINCH; stty size; while :; do sleep 0.1; done"],
                                         mux=False), stdin=slave, stdout=slave, stderr=subprocess.DEVNULL, env=sp.ssh_env("oscar"),
                             start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        got = b""
        while b"24 80" not in got:
            got += os.read(master, 4096)
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
        while b"33 111" not in got:
            got += os.read(master, 4096)
        p.wait(timeout=60)
        os.close(master)
        sid = wait_for(lambda: [s["id"] for s in sp.sessions() if s["id"] not in before and
                                os.path.exists("%s/recordings/%s.spr" % (sp.dir, s["id"]))], 60, "the recording")[0]
        v = self.view(sid)
        v.until(r"cols 1-80/111")
        v.until(r"rows \d+-\d+/33")
        v.press("m", r"resize\s+111 columns, 33 rows")
        v.check()

    def test_a_dumb_terminal_gets_lines(self):
        for term in ("dumb",):
            v = Viewer(sp, "carol", ["replay", SHORT], term=term)
            while v.p.poll() is None:
                v.pump(0.1)
            while v.pump(0.1) and b"words" not in v.raw:
                pass
            os.close(v.fd)
            self.assertNotIn(b"\x1b", v.raw)
            self.assertIn(b"line-1\r\n", v.raw)
            self.assertIn("你好-words".encode(), v.raw)


class Search(unittest.TestCase):
    def search(self, *args, who="carol", code=0):
        r = sp.ssh(who, "bastion", "search", *args)
        self.assertEqual(r.code, code, r)
        return r

    def found(self, *args):
        return self.search(*args, "--json").json()

    def test_the_moment_and_the_line_that_shows_it(self):
        r = self.search("SECOND-word").text
        self.assertNotIn("replay", r)                                # a capital letter is meant
        rows = [x for x in self.found("'second-word'") if x["lane"] == "screen"]
        self.assertEqual({x["id"] for x in rows}, {LONG})
        one = rows[0]
        self.assertTrue(11e6 < one["at_us"] < 17e6, one)
        self.assertEqual((one["person"], one["account"], one["target"]), ("oscar", "admin", "core-01"))
        self.assertIn("second-word", one["text"])
        words = one["replay"].split()
        self.assertEqual(words[:3], ["replay", LONG, "--at"])
        v = Viewer(sp, "carol", words)
        self.addCleanup(v.close)
        v.until("second-word")
        text = self.search("second-word").text
        self.assertRegex(text, r"(?m)^%s  oscar  admin@core-01  " % LONG[:8])
        self.assertRegex(text, r"replay %s --at 1\ds" % LONG[:8])
        self.assertRegex(text, r"\d+ found in 1 of \d+ recordings, \d")

    def test_lanes(self):
        rows = self.found("mark-two", "--lane", "commands")
        self.assertEqual([(x["id"], x["lane"]) for x in rows], [(TWO, "commands")])
        rows = self.found("payroll-2026", "--lane", "files")
        self.assertEqual({(x["id"], x["lane"]) for x in rows}, {(FILES, "files")})
        self.assertIn("payroll-2026.csv", rows[0]["text"])
        rows = self.found("typed by hand", "--lane", "keys")
        self.assertEqual({(x["id"], x["lane"]) for x in rows}, {(TYPED, "keys")})
        self.assertEqual([x for x in self.found("typed by hand") if x["lane"] == "keys"], [])  # only when asked for
        self.assertEqual(self.found("payroll-2026", "--lane", "keys"), [])
        self.search("x", "--lane", "nonsense", code=2)

    def test_words(self):
        self.assertEqual({x["id"] for x in self.found("你好", "--lane", "screen")}, {SHORT})
        rows = self.found("'line-(39|40)$'", "--regex", "--lane", "screen")
        self.assertEqual({x["id"] for x in rows}, {SHORT})
        self.assertEqual({x["text"].strip() for x in rows}, {"line-39", "line-40"})
        self.assertEqual({x["id"] for x in self.found("'你.-words'", "--regex", "--lane", "screen")} | {SHORT}, {SHORT})
        r = self.search("'a(b'", "--regex", code=2)
        self.assertIn("(", r.text)
        self.assertEqual(self.found("no-such-thing-anywhere"), [])
        self.assertIn("0 found in 0 of", self.search("no-such-thing-anywhere").text)

    def test_filters(self):
        self.assertTrue(self.found("mark-", "--user", "oscar", "--target", "core-01", "--since", "1h"))
        self.assertEqual(self.search("mark-", "--user", "bob", code=1).out, b"")
        self.assertIn("0 found in 0 of 1 recordings", self.search("mark-", "--user", "alice").text)
        self.search("mark-", "--until", "2020-01-01", code=1)
        self.search("mark-", "--since", "yesterday", code=2)
        self.assertEqual(len(self.found("line-", "--limit", "3")), 3)

    def test_who_may_and_what_is_written_down(self):
        r = sp.ssh("oscar", "bastion", "search", "mark-")
        self.assertEqual(r.code, 1, r)
        self.assertNotIn(b"mark-two", r.out)
        self.search("'needle \x1b[31m in hay'")
        e = [x for x in sp.audit("search") if "needle" in str(x)][0]
        self.assertEqual(e["actor"], "carol")
        d = e["detail"]
        self.assertNotIn("\x1b", str(d["words"]))
        self.assertEqual(d["lanes"], "screen files commands")
        self.assertIn(LONG, d["list"])
        self.assertEqual(len(d["list_sha256"]), 64)
        self.found("second-word")
        wait_for(lambda: [x for x in sp.audit("searched") if x["detail"].get("found_in") == [LONG]], 60, "what it found")

    def test_hostile_text_is_encoded(self):
        for opts in ([], ["--json"]):
            r = self.search("bidi:", "--lane", "screen", *opts)
            self.assertIn(b"bidi:", r.out)
            for c in r.out.decode("utf-8"):
                self.assertTrue(c == "\n" or ord(c) >= 0x20 and c != "\x7f" and not "\x80" <= c <= "\x9f" and c != "\u202e", repr(c))

    def test_nothing_in_clear_on_the_disk(self):
        self.found("second-word")
        looked = 0
        for top, dirs, names in os.walk(sp.dir):
            if top == sp.dir:
                dirs[:] = [d for d in dirs if d not in ("target", "people", "opt")]   # not the bastion's
            for n in names:
                if os.path.isfile(os.path.join(top, n)):
                    with open(os.path.join(top, n), "rb") as f:
                        self.assertNotIn(b"again-2", f.read(), n)          # stands beside it, and was never searched for
                    looked += 1
        self.assertGreater(looked, 50)

    def test_progress_on_a_terminal(self):
        v = Viewer(sp, "carol", ["search", "second-word"])
        self.addCleanup(v.close)
        v.until(r"\d+ found in 1 of")
        self.assertIn("replay " + LONG[:8], v.text)


class Large(unittest.TestCase):
    """One that is shown before it has been gone through: from the scribe's keyframes, while it is verified."""
    @classmethod
    def setUpClass(cls):
        import subprocess
        before = {s["id"] for s in sp.sessions()}
        cmd = ("stty -echo -opost; head -c 10000000 /dev/urandom | base64 -w 60 | awk '{printf \"L%06d %s\\r\\n\", NR, $0}'; sleep 1;"
               "printf 'last-of-large\\r\\n'")
        p = subprocess.run(sp.ssh_argv("oscar", ["-tt", "admin@core-01", cmd], mux=False), stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, env=sp.ssh_env("oscar"), timeout=240)
        assert b"last-of-large" in p.stdout, p.stdout[-100:]
        cls.all_lines = [x for x in p.stdout.decode().split("\r\n") if re.match(r"L\d{6} \S+$", x)]
        cls.sid = wait_for(lambda: [s["id"] for s in sp.sessions() if s["id"] not in before and s["state"] != "running" and
                                    os.path.exists("%s/recordings/%s.spr" % (sp.dir, s["id"]))], 120, "the recording")[0]
        cls.path = "%s/recordings/%s.spr" % (sp.dir, cls.sid)
        assert os.path.getsize(cls.path) > 8 << 20, os.path.getsize(cls.path)

    def view(self):
        v = Viewer(sp, "carol", ["replay", self.sid])
        self.addCleanup(v.close)
        v.until("verified|END|>")
        v.press(" ", r"^ (\|\||END)")
        return v

    def picture(self, v, to):
        """The screen at that share of its length: lines as they were sent, one behind the other."""
        was = v.rows[:-1]
        v.press("g%s\r" % to, lambda v: re.search(r"^ \|\| ", v.bar) and v.rows[:-1] != was and len([r for r in v.rows if re.match(r"L\d{6} ", r)]) > 15)
        rows = [r for r in v.rows[:-1] if re.match(r"L\d{6} \S+$", r)]
        whole = [r for r in rows if len(r) == 68]
        self.assertGreater(len(whole), 15, v.text)
        at = self.all_lines.index(whole[0])
        self.assertEqual(whole, self.all_lines[at:at + len(whole)])
        return rows

    def test_at_once(self):
        v = self.view()
        self.assertIn(b"verified ", v.raw)
        first = [self.picture(v, p) for p in ("30%", "60%", "10%")]
        self.assertEqual(len({r[0] for r in first}), 3)
        v.until(lambda v: "verified" not in v.bar, 120)
        v.press("m", r"What happened\b(?! so far)", )               # it has been gone through
        v.press("q", lambda v: "What happened" not in v.text)
        self.assertEqual([self.picture(v, p) for p in ("30%", "60%", "10%")], first)
        v.press(END, "last-of-large")
        self.assertNotIn("VERDICT", v.text)
        self.assertEqual(v.close(), 0)
        v.check()

    def test_what_is_forged_is_said_when_it_is_found(self):
        at = os.path.getsize(self.path) * 3 // 4
        with open(self.path, "r+b") as f:
            f.seek(at)
            was = f.read(1)
            f.seek(at)
            f.write(bytes([was[0] ^ 1]))
        try:
            v = self.view()
            self.picture(v, "20%")
            v.until("VERDICT: forged", 120)
            v.type("q")
            v.close()
            self.assertIn(b"verdict on this recording: forged", v.raw)
            wait_for(lambda: [e for e in sp.audit("recording_not_intact") if e["detail"].get("verdict") == "forged"], 60, "the event")
        finally:
            with open(self.path, "r+b") as f:
                f.seek(at)
                f.write(was)


class Harm(unittest.TestCase):
    def test_nothing_of_it_reaches_the_terminal(self):
        v = Viewer(sp, "carol", ["replay", HARM])
        self.addCleanup(v.close)
        v.until("plain-end-of-harm")
        v.press("m", "What happened")
        v.press("q", "plain-end-of-harm")
        v.press("c", "Channels")
        v.press("q", "plain-end-of-harm")
        v.press("/end-of-harm\r", "(?s)plain-end-of-harm.*found")
        v.press(" \x1b]0;x\x07\x1b[6n\x1bP", "plain-end-of-harm")                  # nor of what is typed
        self.assertIn("CONCEALED", v.text)                           # an auditor sees what was hidden
        self.assertIn("BLINK", v.text)
        self.assertEqual(v.close(), 0)
        v.check()
        for what in (b"OWNED", b"b3duZWQ", b"evil", b"\x05", b"\x07"):
            self.assertNotIn(what, v.raw)
        # It is all in the recording: the test would see it if it came through.
        r = sp.ssh("carol", "bastion", "export", HARM, "--format", "asciicast")
        self.assertIn(b"OWNED-TITLE", r.out)
        plain = sp.ssh("carol", "bastion", "replay", HARM)
        self.assertIn(b"plain-end-of-harm", plain.out)
        self.assertNotIn(b"\x1b", plain.out)

    def test_the_check_can_fail(self):
        class Fake:
            pass
        for bad in (b"\x1b]0;t\x07", b"\x1b[6n", b"\x1b[c", b"\x1b[?1000h", b"\x9b31m", b"\xc2\x9b", b"\x1b[5m\x1b", "\u202e".encode(),
                    b"\x07", b"\x1bP", b"\x1b[8;9;9t"):
            f = Fake()
            f.raw = b"\x1b[1;1Hgood" + bad
            with self.assertRaises((AssertionError, UnicodeDecodeError), msg=bad):
                Viewer.check(f)


if __name__ == "__main__":
    main()
