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

    def recording(self):
        """Of the session that terminal() began, once it is closed."""
        def closed():
            found = [s for s in sp.sessions() if s["id"] not in self.before]
            return found and found[0]["state"] != "running" and found[0]
        wait_for(closed, T, "the end of the session")
        session = closed()["id"]
        self.assertEqual(sp.host("verify", session, timeout=T).code, 0)
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


if __name__ == "__main__":
    main()
