# SPDX-License-Identifier: Apache-2.0
"""A disk of recordings that fails, or does not answer, and processes that stand still: the real recorder, on a file system that
gives the kernel's own answers (tests/support/faulty_disk.py). No forwarded byte is missing, the user is told, the session ends
after the configured time, everybody else goes on, and all of it is written down."""
import os
import re
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from database import Forward, PostgreSQL  # noqa: E402
from faulty_disk import FaultyDisk  # noqa: E402
from sp import Instance, main, read_until, wait_for  # noqa: E402
from traffic import Load, match  # noqa: E402

POLICY = """
network loopback 127.0.0.0/8, ::1
permit "dba" who group dba on tag db as app allow sql when source in loopback require mfa totp for 1h
permit "free" who group operators on tag core as admin when source in loopback require mfa totp for 1h
"""
WAIT = 4
STOPPED = 2.0      # seconds that a process stands still


def setUpModule():
    global sp, disk
    if os.getuid() != 0 or not os.path.exists("/dev/fuse"):
        raise unittest.SkipTest("only root mounts a FUSE")
    sp = Instance(policy=POLICY)
    for p in ("ann", "ben", "cat"):
        sp.add_person(p, "operators")
    sp.configure(recording_full_wait_s=WAIT)
    sp.host("stop", check=True)
    disk = FaultyDisk(sp.dir + "/recordings")
    sp.host("start", check=True)
    for p in ("ann", "ben", "cat"):
        sp.fresh_code(p)
        wait_for(lambda p=p: sp.ssh(p, "bastion", "whoami").code == 0, 60, "the login of " + p)


def tearDownModule():
    if "sp" in globals():
        if "disk" in globals():
            disk.heal()
        sp.lib('demo_stop "$1"')
        if "disk" in globals():
            disk.close()
        sp.close()


def row(session):
    return [s for s in sp.sessions() if s["id"] == session][0]


def new_session(begin):
    before = {s["id"] for s in sp.sessions()}
    x = begin()
    return x, wait_for(lambda: [s["id"] for s in sp.sessions() if s["id"] not in before], 60, "the session")[0]


def load(name, who="ann", **how):
    def begin():
        x = Load(sp, who, name, **how)
        x.wait_flow(seconds=60)
        return x
    return new_session(begin)


class Terminal:
    """A person at a shell, who types and reads."""

    def __init__(self, who):
        self.p = sp.ssh_start(who, "-tt", "core-01", "stty -echo; echo in; exec cat", stdin=subprocess.PIPE)
        self.text = read_until(self.p.stdout, rb"in\r?\n", 60)

    def type(self, text):
        os.write(self.p.stdin.fileno(), text.encode() + b"\n")

    def sees(self, pattern, seconds=60):
        """Somewhere in all that came so far."""
        if not re.search(pattern.encode(), self.text, re.S):
            self.text += read_until(self.p.stdout, pattern.encode(), seconds)
        return self.text.decode("utf-8", "replace")


class Base(unittest.TestCase):
    def setUp(self):
        self.addCleanup(disk.heal)

    def over(self, session, verdicts):
        wait_for(lambda: row(session)["state"] not in ("running", "ending"), 60, "its end in the list")
        wait_for(lambda: os.path.exists("%s/recordings/%s.spr" % (sp.dir, session)), 60, "the closed recording")
        r = sp.host("verify", session, "--json")
        self.assertIn(r.json()["verdict"], verdicts, r)
        return row(session)

    def nothing_is_missing(self, x, session):
        self.assertEqual(match(sp, [x], [session])[1], [])

    def events(self, name, session):
        return [e for e in sp.audit(name) if e["session"] == session]


class Fails(Base):
    def fails(self, what, name):
        parent = sp.pids("recorder")[0]
        other, t = load("well-" + name, "ben")
        x, s = load(name, "ann")
        disk.fail(what, "EIO", s)
        self.assertNotEqual(x.wait_end(60), 0)
        self.assertRegex(x.errors(), r"recording cannot be written")
        other.wait_flow(3000, 60)                       # everybody else goes on
        disk.heal()
        end = self.over(s, ("intact", "recovered"))
        self.assertRegex(end["reason"], "recording")
        self.nothing_is_missing(x, s)
        self.assertTrue(self.events("session_close", s) + self.events("session_recovered", s))
        self.assertRegex(sp.log(), r"recording_failed.*%s|%s.*recording_failed" % (s, s))
        self.assertEqual(other.stop(60), 0, other.errors())
        self.over(t, ("intact",))
        self.nothing_is_missing(other, t)
        self.assertEqual(sp.pids("recorder")[0], parent)
        for y in (x, other):
            y.clean()

    def test_fdatasync_says_eio(self):
        self.fails("sync", "no-sync")

    def test_pwrite_says_eio(self):
        self.fails("write", "no-write")

    def test_no_session_begins_on_it(self):
        disk.fail("any", "EIO")
        r = sp.ssh("ann", "core-01", "echo no", timeout=120)
        self.assertNotEqual(r.code, 0)
        self.assertEqual(r.out, b"")
        self.assertIn("recording", r.text)
        self.assertEqual(sp.ssh("ben", "bastion", "whoami").code, 0)
        disk.heal()
        self.assertEqual(sp.ssh("ann", "core-01", "echo yes").out, b"yes\n")


class Stuck(Base):
    def test_a_disk_that_does_not_answer(self):
        """One that is stuck, one whose recorder is stopped by a signal, and one whose disk is well, at once."""
        parent = sp.pids("recorder")[0]
        other, w = load("goes-on", "ben")
        before = set(sp.pids("recorder")[1])
        y, stopped = load("stopped", "cat")
        pid = [p for p in sp.pids("recorder")[1] if p not in before][0]
        x, s = new_session(lambda: Terminal("ann"))
        x.type("first")
        x.sees("first")
        disk.fail("any", "stuck", s)
        os.kill(pid, signal.SIGSTOP)
        x.type("never")
        at = time.monotonic()
        told = x.sees("does not go on.*ends", 60)
        self.assertIn("admin@core-01", told)
        other.wait_flow(3000, 60)
        self.assertGreater(disk.waiting(), 0)
        self.assertNotEqual(x.p.wait(60), 0)
        took = time.monotonic() - at
        self.assertNotEqual(y.wait_end(60), 0)
        self.assertRegex(y.errors(), "recording did not go on")
        said = x.text + x.p.stdout.read() + x.p.stderr.read()
        self.assertNotIn(b"never", said)
        self.assertIn(b"recording did not go on", said)
        print("told and ended after %.1f s (recording_full_wait_s %d)" % (took, WAIT), flush=True)
        other.wait_flow(3000, 60)
        # No signal ends it while it waits: its parent and its siblings are left alone.
        wait_for(lambda: re.search("child_waits_for_disk.*%s|%s.*child_waits_for_disk" % (s, s), sp.log()), 60, "a word about it")
        self.assertEqual(sp.pids("recorder")[0], parent)
        other.wait_flow(3000, 60)
        disk.heal()
        for session in (s, stopped):
            self.over(session, ("recovered", "intact"))
            for name in ("recording_stalled", "recording_stuck"):
                self.assertEqual(len(self.events(name, session)), 1, name)
            self.assertIn("did not go on", row(session)["reason"])
        self.nothing_is_missing(y, stopped)
        self.assertEqual(other.stop(60), 0, other.errors())
        self.over(w, ("intact",))
        self.nothing_is_missing(other, w)
        self.assertFalse(self.events("recording_stalled", w))
        for z in (other, y):
            z.clean()

    def test_it_answers_again_in_time(self):
        x, s = new_session(lambda: Terminal("ann"))
        x.type("first")
        x.sees("first")
        disk.fail("any", "stuck", s)
        x.type("2nd line")
        x.sees("does not go on")
        self.assertNotIn(b"2nd line", x.text)
        disk.heal()
        x.sees("2nd line")
        x.sees("goes on again")
        x.type("third")
        x.sees("third")
        x.p.stdin.close()
        sp.drop(x.p)
        self.over(s, ("intact",))
        self.assertEqual(len(self.events("recording_goes_on", s)), 1)


class StuckDirectory(Base):
    """Files go on, but nobody makes, renames or removes one: what sessions begin and end with."""

    def test_nothing_else_waits_for_it(self):
        pid = int(open(sp.dir + "/run/sallyportd.pid").read())
        for p in ("ann", "ben", "cat"):
            sp.fresh_code(p)
        running, r = load("running", "ben")
        ends, e = new_session(lambda: Terminal("cat"))
        ends.type("first")
        ends.sees("first")
        disk.fail("names", "stuck")
        # a session that ends: its recording waits for its name
        ends.p.stdin.close()
        sp.drop(ends.p)
        wait_for(lambda: disk.waiting() > 0, 60, "somebody to wait for the disk")
        # one that begins is refused in time, in words
        x = sp.ssh("ann", "core-01", "echo never", timeout=120)
        self.assertNotEqual(x.code, 0)
        self.assertEqual(x.out, b"")
        self.assertIn("disk of the recordings does not answer", x.text)
        # and everybody else goes on: commands, the host's own, a session, its watcher's power over it
        self.assertEqual(sp.ssh("ann", "bastion", "whoami").code, 0)
        self.assertEqual(sp.host("status", timeout=60).code, 0)
        doctor = sp.host("doctor", timeout=120)
        self.assertIn("sallyport-files", doctor.text)
        running.wait_flow(3000, 60)
        self.assertEqual(sp.host("freeze", r[:8], timeout=60).code, 0)
        self.assertEqual(sp.host("resume", r[:8], timeout=60).code, 0)
        running.wait_flow(3000, 60)
        self.assertEqual(len([v for v in sp.audit("recordings_disk_stuck")]), 1)
        self.assertTrue(os.path.exists("%s/recordings/%s.open" % (sp.dir, e)))
        disk.heal()
        self.over(e, ("intact",))
        self.assertTrue(sp.audit("recordings_disk_answers"))
        wait_for(lambda: sp.ssh("ann", "core-01", "echo yes").out == b"yes\n", 60, "a session again")
        self.assertEqual(running.stop(60), 0, running.errors())
        self.over(r, ("intact",))
        self.nothing_is_missing(running, r)
        running.clean()
        self.assertEqual(int(open(sp.dir + "/run/sallyportd.pid").read()), pid)
        # what was refused has left no file
        wait_for(lambda: not [n for n in os.listdir(sp.dir + "/recordings") if n.endswith(".open")], 60, "no file of nobody")


class StuckDatabase(Base):
    """A database's client has no terminal to be told on: it reads an error of the server's form, and its connection ends."""
    @classmethod
    def setUpClass(cls):
        sp.add_person("dora", "dba")
        sp.fresh_code("dora")
        assert sp.ssh("dora", "bastion", "whoami").code == 0
        cls.pg = PostgreSQL(sp, "bank-db")
        cls.pg.add()
        cls.pg.add_account("app")
        cls.forward = Forward(sp, "dora", "app+bank-db:5432")

    @classmethod
    def tearDownClass(cls):
        cls.forward.close()

    def client(self):
        """A psql that waits for more statements, and its session and recorder."""
        before = set(sp.pids("recorder")[1])
        p, s = new_session(lambda: self.forward.start("-f", "-", db="postgres"))
        p.stdin.write(b"SELECT 'in';\n")
        p.stdin.flush()
        read_until(p.stdout, rb"in\r?\n", 60)
        return p, s, [x for x in sp.pids("recorder")[1] if x not in before][0]

    def test_its_recorder_stands_still(self):
        good, t, _ = self.client()
        stopped, s, pid = self.client()
        os.kill(pid, signal.SIGSTOP)
        stuck, u, _ = self.client()
        disk.fail("any", "stuck", u)
        for p in (stopped, stuck):
            p.stdin.write(b"SELECT 'never';\n")
            p.stdin.flush()
        at = time.monotonic()
        for p, session in ((stopped, s), (stuck, u)):
            out, err = p.communicate(timeout=120)
            self.assertNotEqual(p.returncode, 0)
            self.assertNotIn(b"never", out)
            self.assertIn("did not go on", err.decode(), session)
        print("both ended after %.1f s (recording_full_wait_s %d)" % (time.monotonic() - at, WAIT), flush=True)
        self.assertGreater(disk.waiting(), 0)             # nobody has let it go
        good.stdin.write(b"SELECT 'still here';\n")
        out, err = good.communicate(timeout=60)
        self.assertEqual((good.returncode, b"still here" in out), (0, True), err)
        disk.heal()
        for session in (s, u):
            self.over(session, ("recovered", "intact"))
            self.assertEqual(len(self.events("recording_stuck", session)), 1)
        self.over(t, ("intact",))


class Stopped(Base):
    def server(self):
        with open(sp.dir + "/pg/postmaster.pid") as f:
            first = int(f.readline())
        out = subprocess.run(["pgrep", "-P", str(first)], stdout=subprocess.PIPE).stdout.split()
        return [first] + [int(p) for p in out]

    def test_each_process_stands_still_for_a_while(self):
        """Whoever it is: the session is there afterwards, and nothing of it is missing."""
        x, s = load("all-stop", "ann")
        on_its_way = ("recorder", "egress", "ingress")
        for role in ("scribe", "notary", "vault", "postgres", "broker") + on_its_way:
            pids = self.server() if role == "postgres" else [p for both in sp.pids(role) for p in both]
            self.assertTrue(pids or role == "scribe", role)
            for p in pids:
                os.kill(p, signal.SIGSTOP)
            since = time.monotonic()
            try:
                if role not in on_its_way:
                    x.wait_flow(1000, 60)               # nobody on the way of a byte waits for them
                while time.monotonic() < since + STOPPED:
                    time.sleep(0.05)
            finally:
                for p in pids:
                    try:
                        os.kill(p, signal.SIGCONT)
                    except ProcessLookupError:
                        pass
            x.wait_flow(2000, 60)
        self.assertEqual(x.stop(60), 0, x.errors())
        self.assertEqual(x.at_user(), x.fed)
        self.over(s, ("intact",))
        self.nothing_is_missing(x, s)
        x.clean()
        wait_for(lambda: sp.ssh("ben", "core-01", "echo in").out == b"in\n", 60, "a new session")
        wait_for(lambda: sp.host("audit", "verify").code == 0, 60, "a chain in order")


if __name__ == "__main__":
    main()
