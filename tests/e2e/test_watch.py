# SPDX-License-Identifier: Apache-2.0
"""A running session watched live: the screen as it is now, what a watcher may do by keys, and that the session does not notice."""
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance, main, read_until, wait_for  # noqa: E402
import tlogcheck  # noqa: E402
from viewer import Viewer  # noqa: E402

POLICY = '''permit "one" who group operators on tag core as admin require mfa totp for 1h
permit "two" who group pairs on tag core as admin require mfa totp for 1h hold lines, transfers
'''
# A title, the clipboard, questions, DCS, wrong UTF-8, C1: none may reach the watcher's terminal.
HOSTILE = (b"\x1b]0;OWNED\x07\x1b]52;c;b3duZWQ=\x07\x1b[c\x1b[6n\x1bP$qm\x1b\\\x1b[?1003h\x1b[>4;2m\x9b31mC1\x9d0;t\x9c\xff\xfe\xc0\x80"
           b"\x1b[8;99;99t\x1b[5i\x1b]8;;http://evil/\x07link\x1b]8;;\x07 end-of-harm\r\n")


def setUpModule():
    global sp
    sp = Instance(policy=POLICY)
    sp.add_person("oscar", "operators")
    sp.add_person("paula", "pairs")
    sp.add_person("wanda", "auditors")
    sp.add_person("amy", "auditors,operators")
    for who in ("oscar", "paula", "wanda", "amy"):
        assert sp.ssh(who, "bastion", "whoami").code == 0


def tearDownModule():
    sp.close()


def row(id):
    return [s for s in sp.sessions() if s["id"] == id][0]


class Session:
    """A terminal at the target."""

    def __init__(self, who, *args, tty=True, **opts):
        before = {s["id"] for s in sp.sessions()}
        self.p = sp.ssh_start(who, *(["-tt"] if tty else []), "admin@core-01", *args, stdin=subprocess.PIPE, **opts)
        self.id = wait_for(lambda: [s for s in sp.sessions() if s["id"] not in before and s["person"] == who], 60, "the session")[0]["id"]

    def type(self, data):
        self.p.stdin.write(data)
        self.p.stdin.flush()

    def see(self, pattern):
        return read_until(self.p.stdout, pattern, 60)

    def end(self):
        if self.p.poll() is None:
            sp.host("kill", self.id)
            self.p.communicate(timeout=60)
        wait_for(lambda: row(self.id)["ended"], 60, "the session's end")


def watch(session, *args, who="wanda", **kw):
    return Viewer(sp, who, ["watch", session.id] + list(args), **kw)


class Screen(unittest.TestCase):
    def test_the_present_screen_and_what_follows(self):
        s = Session("oscar", "echo up-$((1+1)); exec cat")
        s.see(rb"up-2")
        s.type(b"before-anybody-looked\r")
        s.see(rb"looked\r\nbefore")
        v = watch(s)
        v.until(r"before-anybody-looked")
        v.until(lambda v: re.search(r"LIVE oscar admin@core-01 for \d+", v.bar) and "ends in" in v.bar)
        self.assertIn("wanda watches this session", s.see(rb"wanda watches this session").decode())
        s.type("看见-now\r".encode())
        v.until(r"看 ?见 ?-now")
        self.assertEqual(row(s.id)["watched_by"], "wanda")
        v.resize(100, 30)
        v.until(lambda v: len(v.rows) == 30 and "LIVE" in v.bar)
        v.resize(20, 3)
        v.until(lambda v: len(v.rows) == 3 and "LIVE" in v.bar)
        v.resize(80, 24)
        v.press("?", r"freeze: nothing passes")
        v.press(" ", r"before-anybody-looked")
        self.assertEqual(v.close(), 0)
        v.check()
        s.see(rb"wanda no longer watches")
        s.type(b"still-here\r")
        s.see(rb"still-here\r\nstill-here")
        self.assertIsNone(row(s.id)["watched_by"])
        events = [e["event"] for e in sp.audit() if e.get("session") == s.id]
        for e in ("watch", "watch_end"):
            self.assertIn(e, events)
        s.end()

    def test_escape_sequences_stay_where_they_are(self):
        s = Session("oscar", "stty raw -echo; echo up-2; exec cat")
        s.see(rb"up-2")
        v = watch(s)
        v.until(r"up-2")
        s.type(HOSTILE)
        v.until(r"end-of-harm")
        self.assertNotIn(b"OWNED", v.raw)
        v.close()
        v.check()
        self.assertNotIn(b"\x1b[?1;2c", sp.host("export", s.id, "--format", "records").out)
        s.end()

    def test_the_end_of_the_session_is_the_end_of_the_watching(self):
        s = Session("oscar", "echo up-$((1+1)); read x; echo last-words")
        s.see(rb"up-2")
        v = watch(s)
        v.until(r"up-2")
        s.type(b"\r")
        wait_for(lambda: not v.pump(0.1), 60, "the end of the watching")
        self.assertIn("The session is over", v.text)
        s.end()
        r = sp.ssh("wanda", "bastion", "watch", s.id)
        self.assertEqual(r.code, 1)
        self.assertIn("replay", r.text)



class Rights(unittest.TestCase):
    def test_who_may_watch(self):
        s = Session("amy", "echo up-$((1+1)); exec cat")
        s.see(rb"up-2")
        r = sp.ssh("amy", "bastion", "watch", s.id)
        self.assertEqual(r.code, 1)
        self.assertIn("your own", r.text)
        for who in ("oscar", "bob"):
            r = sp.ssh(who, "bastion", "watch", s.id)
            self.assertEqual(r.code, 1, who)
            self.assertIn("auditors", r.text)
        s.end()

    def test_it_stands_in_the_transparency_log(self):
        s = Session("oscar", "echo up-$((1+1)); exec cat")
        s.see(rb"up-2")
        v = watch(s)
        v.until(r"up-2")
        v.close()
        s.end()
        key = bytes.fromhex(sp.host("vault", "status", "--json", check=True).json()["audit_key"])
        raw = bytes.fromhex(s.id.replace("-", ""))

        def acts():
            return [(f["act"], f["actor"]) for k, _, f in tlogcheck.Log(sp.dir + "/tlog", key).leaves() if k == "act" and f["session"] == raw]
        self.assertEqual(wait_for(acts, 60, "the leaf"), [(8, "wanda")])


class Keys(unittest.TestCase):
    def test_freeze_resume_note_kill(self):
        s = Session("oscar", "echo up-$((1+1)); exec cat")
        s.see(rb"up-2")
        v = watch(s)
        v.until(r"up-2")
        v.press("f", lambda v: "FROZEN oscar" in v.bar)
        s.see(rb"wanda froze this session")
        self.assertEqual(row(s.id)["state"], "frozen")
        s.type(b"not-yet\r")
        v.type("n")
        v.until(r"note \(Enter sends")
        v.type("fkrnq 你好x\x7f\r")          # letters of a note do nothing else
        s.see("wanda says: fkrnq 你好".encode())
        v.press("n", r"note \(Enter sends")
        v.press("never-sent\x1b", r"nothing was done")
        self.assertNotIn("not-yet", v.text)
        v.press("r", lambda v: "LIVE oscar" in v.bar)
        s.see(rb"not-yet\r\nnot-yet")
        v.until(r"not-yet")
        v.press("\r", r"nothing waits for you")
        v.press("k", r"kill this session\? y or n")
        v.until(lambda v: (v.type("z"), re.search("it goes on", v.text))[1])
        v.press("k", r"kill this session\? y or n")
        wait_for(lambda: (s.p.poll() is not None or (os.write(v.fd, b"y") if not row(s.id)["ended"] else True) is True), 60, "the kill")
        out, err = s.p.communicate(timeout=60)
        self.assertIn(b"killed by wanda", out + err)
        wait_for(lambda: not v.pump(0.1), 60, "the end of the watching")
        events = [e["event"] for e in sp.audit() if e.get("session") == s.id]
        for e in ("session_freeze", "session_note", "session_resume", "session_kill"):
            self.assertIn(e, events)
        s.end()

    def test_a_paste_kills_nothing(self):
        s = Session("oscar", "echo up-$((1+1)); exec cat")
        s.see(rb"up-2")
        v = watch(s)
        v.until(r"up-2")
        v.press("ky", r"kill this session\? y or n")
        v.press("\x1b", r"nothing was done")
        s.type(b"alive\r")
        s.see(rb"alive\r\nalive")
        v.close()
        s.end()

    def test_what_waits_is_released_and_refused(self):
        s = Session("paula")
        s.see(rb"\$ ")
        v = watch(s)
        s.type(b"echo first-$((1+1))\r")
        v.until(r"WAITS: this line")
        v.until(r"echo first-")
        self.assertIn("HELD paula", v.bar)
        v.until(lambda v: (v.type("\r"), re.search("first-2", v.text))[1])
        s.see(rb"first-2\r")
        s.type(b"touch watch-refused\r")
        v.until(r"WAITS: this line")
        v.until(lambda v: (v.type("x"), "HELD" not in v.bar)[1])
        s.see(rb"wanda refused this line")
        self.assertFalse(os.path.exists(sp.dir + "/target/home/admin/watch-refused"))
        events = [e["event"] for e in sp.audit() if e.get("session") == s.id]
        self.assertIn("held_released", events)
        self.assertIn("held_refused", events)
        v.close()
        v.check()
        s.end()
        self.assertIn("INTACT", sp.host("verify", s.id).text)


class Plain(unittest.TestCase):
    def test_lines_and_json(self):
        s = Session("oscar", "echo up-$((1+1)); exec cat")
        s.see(rb"up-2")
        p = sp.ssh_start("wanda", "bastion", "watch", s.id)
        j = sp.ssh_start("wanda", "bastion", "watch", s.id, "--json")
        self.assertIn(b"up-2", read_until(p.stdout, rb"up-2\n", 60))
        got = read_until(j.stdout, rb"up-2", 60)
        s.type("one 行\r".encode())
        read_until(p.stdout, "one 行\n".encode(), 60)
        got += read_until(j.stdout, rb"one", 60)
        self.assertEqual(sp.ssh("wanda", "bastion", "freeze", s.id).code, 0)
        read_until(p.stdout, rb"-- frozen", 60)
        got += read_until(j.stdout, rb"frozen", 60)
        sp.host("kill", s.id)
        s.p.communicate(timeout=60)
        out, err = p.communicate(timeout=60)
        self.assertIn(b"-- over: ", out)
        self.assertEqual(p.returncode, 0, err)
        more, err = j.communicate(timeout=60)
        lines = [json.loads(x) for x in (got + more).splitlines()]
        self.assertIn({"channel": lines[0]["channel"], "line": "one 行"}, lines)
        self.assertEqual([x["state"] for x in lines if "state" in x], ["frozen", "over"])
        s.end()


class Load(unittest.TestCase):
    def test_the_session_does_not_notice(self):
        """A flood, one watcher that stands still, one whose player is killed: every byte arrives, and is recorded."""
        gate = sp.dir + "/target/home/admin/go"
        command = "echo up-2; while [ ! -e go ]; do sleep 0.1; done; seq 1 400000; echo the-end"
        want = ("up-2\n" + "".join("%d\n" % i for i in range(1, 400001)) + "the-end\n").encode()
        s = Session("oscar", command, tty=False)
        s.see(rb"up-2\n")
        slow, dies, good = watch(s), watch(s), watch(s)
        for v in (slow, dies, good):
            v.until(r"up-2")
        self.assertEqual(row(s.id)["watched_by"], "wanda, wanda, wanda")
        slow.p.send_signal(signal.SIGSTOP)
        players = sp.pids("player")[1]
        open(gate, "w").close()
        os.kill(players[1], signal.SIGKILL)
        out, err = s.p.communicate(timeout=120)
        self.assertEqual(hashlib.sha256(b"up-2\n" + out).hexdigest(), hashlib.sha256(want).hexdigest(), err)
        ends = [v for v in (dies, good) if wait_for(lambda: not v.pump(0.1), 60, "the end")]
        self.assertTrue(any("The session is over" in v.text for v in ends))
        slow.p.send_signal(signal.SIGCONT)
        wait_for(lambda: not slow.pump(0.1), 60, "the end of the slow one")
        s.end()
        os.unlink(gate)
        text = sp.host("verify", s.id).text
        self.assertIn("INTACT", text)

    def test_what_is_packed_under_a_watcher_comes_once(self):
        """Small pieces, which the recorder packs when a large one follows: each line comes, in its order, and none twice."""
        s = Session("oscar", "stty -echo; echo up-2; while read n; do case $n in big*) seq ${n#big}000000 ${n#big}009000;; esac; echo got-$n-; done")
        s.see(rb"up-2")
        p = sp.ssh_start("wanda", "bastion", "watch", s.id)
        got = read_until(p.stdout, rb"up-2", 60)
        names = []
        for i in range(1, 5):
            for n in ["small%d%s" % (i, x) for x in "abc"] + ["big%d" % i]:
                names.append("got-%s-" % n)
                s.type(n.encode() + b"\r")
                got += read_until(p.stdout, b"got-%s-\n" % n.encode(), 60)
        sp.host("kill", s.id)
        s.p.communicate(timeout=60)
        got += p.communicate(timeout=60)[0]
        lines = got.decode().split("\n")
        self.assertEqual([x for x in lines if x.startswith("got-")], names)
        numbers = [x for x in lines if re.fullmatch(r"\d{7}", x)]
        self.assertEqual(numbers, [str(i * 1000000 + n) for i in range(1, 5) for n in range(9001)])
        s.end()

    def test_an_endless_flood_is_followed(self):
        s = Session("oscar", "yes this-is-no-end")
        s.see(rb"this-is-no-end")
        v = watch(s)
        v.until(r"this-is-no-end")
        v.press("f", lambda v: "FROZEN" in v.bar)
        v.press("?", r"freeze: nothing passes")
        v.close()
        v.check()
        s.p.kill()
        s.end()


if __name__ == "__main__":
    main()
