#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The process that reads a session along (doc/scribe.md): what was seen stands in the recording as lines, and its death in the
middle of a flood costs a note, not a byte."""
import fcntl
import hashlib
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance, main, read_until, wait_for  # noqa: E402
from viewer import Viewer  # noqa: E402

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/attack")
from puppet import capture, release  # noqa: E402

T = 300          # seconds: never what is measured, only the end of waiting
POLICY = """
network loopback 127.0.0.0/8, ::1
permit "free" who group operators on tag core as admin when source in loopback require mfa totp for 8h
"""
LINES = 120000
FLOOD = "i=0; while [ $i -lt 60 ]; do seq -f 'flood %%.0f of lines' %d; i=$((i+1)); done" % (LINES // 60)


def setUpModule():
    global sp
    sp = Instance(policy=POLICY)
    sp.add_person("oscar", "operators")
    assert sp.ssh("carol", "bastion", "whoami").code == 0


def tearDownModule():
    sp.close()


def records(session):
    r = sp.host("export", session, "--format", "records", check=True, timeout=T)
    return [json.loads(x) for x in r.out.decode(errors="replace").splitlines()]


def of(rows, key):
    return [r[key] for r in rows if key in r]


class Scribe(unittest.TestCase):
    def terminal(self, *command, raw=False):
        self.before = {s["id"] for s in sp.sessions()}
        master, slave = pty.openpty()
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        if raw:
            a = termios.tcgetattr(slave)
            a[1] &= ~termios.OPOST
            termios.tcsetattr(slave, termios.TCSANOW, a)
        p = subprocess.Popen(sp.ssh_argv("oscar", ["-tt", "admin@core-01", *command], False), stdin=slave,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=sp.ssh_env("oscar"), bufsize=0)
        sp.started.append(p)
        os.close(slave)
        self.addCleanup(os.close, master)
        self.addCleanup(sp.drop, p)
        return p, master

    def recording(self, how=("--screens",)):
        """Of the session that terminal() began, once it is closed; what its scribe left is what was sent."""
        def closed():
            found = [s for s in sp.sessions() if s["id"] not in self.before]
            return found and found[0]["state"] != "running" and found[0]
        wait_for(closed, T, "the end of the session")
        session = closed()["id"]
        r = sp.host("verify", session, *how, timeout=T)
        self.assertEqual(r.code, 0, r)
        return records(session)

    def test_what_was_seen_is_in_the_recording(self):
        self.assertEqual(sp.pids("scribe")[1], [], "one without a terminal")
        p, keys = self.terminal("PS1='here$ ' exec sh -i")
        read_until(p.stdout, rb"here\$ ", T)
        os.write(keys, b"printf '\\033[2J\\033[H\\033[31mred %s\\033[m\\n' herring; echo $((6*7))\r")
        read_until(p.stdout, rb"42\r?\n.*here\$ ", T)
        wait_for(lambda: sp.pids("scribe")[1], T, "the scribe")
        pid = sp.pids("scribe")[1][0]
        fds = [os.readlink("/proc/%d/fd/%s" % (pid, f)) for f in os.listdir("/proc/%d/fd" % pid)]
        self.assertEqual(sum(f.startswith("socket:") for f in fds), 1, fds)
        self.assertFalse([f for f in fds if not f.startswith("socket:") and f != "/dev/null" and
                          not f.endswith("/log/sallyport.log")], fds)
        with open("/proc/%d/status" % pid) as f:
            status = f.read()
        self.assertRegex(status, r"Seccomp:\t[02]\n")
        os.write(keys, b"exit\r")
        p.wait(T)
        rows = self.recording()
        seen = [x["text"] for x in of(rows, "line")]
        self.assertIn("red herring", seen)
        self.assertIn("42", seen)
        self.assertIn("here$ exit", seen)
        self.assertEqual(of(rows, "gap"), [])
        self.assertEqual([x["text"] for x in of(rows, "command")][-1], "exit")
        wait_for(lambda: sp.pids("scribe")[1] == [], T, "its end")

    def test_its_death_in_a_flood_costs_no_byte(self):
        want = hashlib.sha256(b"".join(b"flood %d of lines\n" % (n + 1) for n in range(LINES // 60)) * 60 + b"done\n").digest()
        p, keys = self.terminal("stty -opost -echo; printf 'ready\n'; read x; %s; printf 'done\n'" % FLOOD, raw=True)
        read_until(p.stdout, b"ready\n", T)
        os.write(keys, b"\n")
        got, killed = hashlib.sha256(), 0
        signals = [signal.SIGSTOP, signal.SIGSEGV, signal.SIGKILL]
        total = 0
        while True:
            piece = os.read(p.stdout.fileno(), 65536)
            if not piece:
                break
            got.update(piece)
            total += len(piece)
            if killed < len(signals) and total > killed * 500000 and sp.pids("scribe")[1]:
                for pid in sp.pids("scribe")[1]:
                    try:
                        os.kill(pid, signals[killed])
                    except ProcessLookupError:
                        pass
                killed += 1
        p.wait(T)
        self.assertEqual(p.returncode, 0)
        self.assertEqual(got.digest(), want, "%d bytes" % total)
        self.assertGreater(killed, 0)
        rows = self.recording()
        self.assertGreater(len(of(rows, "gap")), 0)
        wait_for(lambda: sp.pids("scribe")[1] == [], T, "the end of the stopped one")


class Screens(Scribe):
    """What a scribe keeps of the screen (keyframes) is compared with what the target sent."""
    # Not those of the class that it takes its tools from.
    test_what_was_seen_is_in_the_recording = test_its_death_in_a_flood_costs_no_byte = None

    POUR = "stty -echo -opost; i=0; while [ $i -lt 5 ]; do seq -f 'line %.0f of a long list of lines' 1 20000; i=$((i+1)); sleep 1; done"

    def poured(self, how=("--screens",)):
        p, _ = self.terminal(self.POUR, raw=True)
        while os.read(p.stdout.fileno(), 65536):
            pass
        p.wait(T)
        self.recording(how)
        return [s["id"] for s in sp.sessions() if s["id"] not in self.before][0]

    def test_an_honest_one(self):
        sid = self.poured()
        r = sp.host("verify", sid, "--screens", "--json", timeout=T)
        self.assertEqual(r.code, 0, r)
        got = r.json()["screens"]
        self.assertGreater(got["count"], 1, r)
        self.assertEqual((got["same"], got["false"], got["which"]), (got["count"], 0, []))
        lines = r.json()["lines"]
        self.assertGreaterEqual(lines["derived"], 100000, r)
        if not lines["gap"]:                                                   # a busy machine may let it fall behind
            self.assertEqual((lines["said"], lines["invented"], lines["missing"]), (lines["derived"], 0, 0))
        self.assertFalse(lines["false"], r)
        self.assertNotIn("screens", sp.host("verify", sid, "--json", timeout=T).json())
        self.assertEqual(sp.host("verify", "--all", "--screens", timeout=T).code, 2)

    def test_one_that_went_and_another_that_came(self):
        """It ends when nothing happens; the next one goes on from its screen. Neither is called a liar."""
        p, keys = self.terminal("PS1='here$ ' exec sh -i")
        read_until(p.stdout, rb"here\$ ", T)
        for turn in (b"one", b"two"):
            os.write(keys, b"seq 400; printf '%0300d' 7; echo " + turn + b"-end\r")
            read_until(p.stdout, turn + rb"-end\r?\n.*here\$ ", T)
            wait_for(lambda: sp.pids("scribe")[1], T, "the scribe")
            wait_for(lambda: sp.pids("scribe")[1] == [], T, "its end, when nothing happens")
        os.write(keys, b"exit\r")
        p.wait(T)
        seen = [x["text"] for x in of(self.recording(), "line")]
        self.assertIn("400", seen)

    def test_a_captured_one_is_found(self):
        capture(sp, "scribe")
        try:
            sid = self.poured(())
        finally:
            release(sp, "scribe")
        self.assertEqual(sp.host("verify", sid, timeout=T).code, 0)            # the evidence is whole: it is not in there
        r = sp.host("verify", sid, "--screens", timeout=T)
        self.assertEqual(r.code, 1, r)
        self.assertRegex(r.text, r"(?m)^INTACT: ")
        self.assertRegex(r.text, r"(?m)^ +FALSE at 0:00:\d\d\.\d{3}, channel 1: it is not the screen that the output makes")
        got = sp.host("verify", sid, "--screens", "--json", timeout=T).json()["screens"]
        self.assertGreater(got["false"], 0, got)
        self.assertRegex(r.text, r"(?m)^ +FALSE from 0:00:\d\d\.\d{3} on, channel 1: lines that no output made")
        self.assertEqual(got["false"] + got["same"], got["count"], got)
        said = [e for e in sp.audit("viewed") if "screens are false" in str(e["detail"].get("text"))]
        self.assertTrue(said)
        # In the player: said when it comes by, and listed with its time.
        v = Viewer(sp, "carol", ["replay", sid])
        self.addCleanup(v.close)
        v.until(r"FALSE SCREEN")
        v.press("m", r"0:00:\d\d +FALSE +the scribe's screen is FALSE: it is not")
        v.press("q", lambda v: "What happened" not in v.text)
        v.until(r"FALSE SCREENS: \d|\[[^]]*!")
        self.assertNotIn("nothing happened here", v.raw.decode("utf-8", "replace"))
        v.check()


if __name__ == "__main__":
    main()
