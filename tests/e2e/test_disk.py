# SPDX-License-Identifier: Apache-2.0
"""What a session stands on gives way: the disk is full, a process stands still, the database freezes or is away."""
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance, main, wait_for  # noqa: E402
from traffic import Load, match  # noqa: E402

POLICY = """
network loopback 127.0.0.0/8, ::1
permit "free" who group operators on tag core as admin when source in loopback require mfa totp for 1h
permit "elevation" who group sysadmins on tag core as admin
  when source in loopback require approval 1 of approvers, mfa totp for 1h
"""
ROOM_MB, RESERVE_MB = 12, 2


def setUpModule():
    global sp, mounted
    sp = Instance(policy=POLICY)
    for p in ("ann", "pru"):
        sp.add_person(p, "operators")
    sp.add_person("exp", "sysadmins")
    mounted = small_disk()
    log_in("ann")


def tearDownModule():
    sp.lib('demo_stop "$1"')
    if mounted:
        subprocess.run(["umount", sp.dir + "/recordings"], check=True)
    sp.close()


def small_disk():
    """D/recordings on a filesystem of a few MB. Only root may mount one."""
    if os.getuid() != 0:
        return False
    d = sp.dir + "/recordings"
    sp.host("stop", check=True)
    st = os.stat(d)
    r = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%dm,mode=%o,uid=%d,gid=%d" % (
        ROOM_MB, st.st_mode & 0o777, st.st_uid, st.st_gid), "recordings", d], stdin=subprocess.DEVNULL)
    if r.returncode == 0:
        with open(sp.dir + "/sallyport.conf") as f:
            text = f.read()
        with open(sp.dir + "/sallyport.conf", "w") as f:
            f.write(re.sub(r"(?m)^[# ]*recording_reserve_mb.*$", "recording_reserve_mb %d\nrecording_full_wait_s 2" % RESERVE_MB, re.sub(
                r"(?m)^recording_full_wait_s.*\n", "", text)))
    sp.host("start", check=True)
    return r.returncode == 0


def log_in(who):
    if sp.ssh(who, "-O", "check", "bastion").code == 0:
        return
    sp.fresh_code(who)
    r = sp.ssh(who, "bastion", "whoami")
    if r.code != 0:
        raise AssertionError("%s cannot log in: %r" % (who, r))


def row(session):
    return [s for s in sp.sessions() if s["id"] == session][0]


def begin(name, who="ann", **how):
    """A load and the number of its session."""
    before = {s["id"] for s in sp.sessions()}
    x = Load(sp, who, name, **how)
    x.wait_flow()
    new = [s["id"] for s in sp.sessions() if s["id"] not in before]
    assert len(new) == 1, new
    return x, new[0]


def child_of(role, before):
    return [p for p in sp.pids(role)[1] if p not in before][0]


class Base(unittest.TestCase):
    def judged(self, load, session, verdicts=("intact", "recovered")):
        wait_for(lambda: row(session)["state"] != "running", 10, "its end in the list")
        wait_for(lambda: os.path.exists("%s/recordings/%s.spr" % (sp.dir, session)), 10, "the closed recording")
        self.assertEqual(match(sp, [load], [session])[1], [])
        r = sp.host("verify", session, "--json")
        self.assertIn(r.json()["verdict"], verdicts, r)
        load.clean()
        return row(session)


class FullDisk(Base):
    def setUp(self):
        if not mounted:
            self.skipTest("only root mounts a small filesystem")
        self.filler = sp.dir + "/recordings/filler"

    def tearDown(self):
        if os.path.exists(self.filler):
            os.unlink(self.filler)
        for f in os.listdir(sp.dir + "/recordings"):
            if f.endswith(".spr"):
                os.unlink(sp.dir + "/recordings/" + f)

    def free(self):
        s = os.statvfs(sp.dir + "/recordings")
        return s.f_bavail * s.f_bsize

    def fill(self):
        with open(self.filler, "wb") as f:
            try:
                os.posix_fallocate(f.fileno(), 0, self.free())
            except OSError:
                while True:
                    try:
                        os.write(f.fileno(), b"x" * 4096)
                    except OSError:
                        break

    def refused_then_well_again(self):
        self.fill()              # a recording that closes gives back the room that it had taken ahead
        r = sp.ssh("ann", "core-01", "echo no")
        self.assertNotEqual(r.code, 0)
        self.assertEqual(r.out, b"")
        self.assertRegex(r.text, r"disk|space|room")
        self.assertRegex(r.text, r"free|administrator")
        wait_for(lambda: not [f for f in os.listdir(sp.dir + "/recordings") if f.endswith(".open")], 5,
                 "nothing left of what could not begin")
        for f in os.listdir(sp.dir + "/recordings"):
            os.unlink(sp.dir + "/recordings/" + f)
        r = sp.ssh("ann", "core-01", "echo yes")
        self.assertEqual((r.code, r.out), (0, b"yes\n"), r)

    def test_a_session_that_fills_the_disk(self):
        x, s = begin("fills", burst=1 << 30, noise=40 << 20)
        self.assertNotEqual(x.wait_end(60), 0)
        self.assertLess(x.fed, 40 << 20)
        self.assertRegex(x.errors(), r"recording.*(disk|space|full)")
        self.assertGreater(x.at_target(), 1 << 20)
        end = self.judged(x, s, ("intact",))
        self.assertRegex(end["reason"], r"recording")
        self.assertGreater(self.free(), (RESERVE_MB << 20) // 2)     # the reserve is not eaten by recordings
        self.refused_then_well_again()

    def test_somebody_else_fills_the_disk(self):
        x, s = begin("starves", burst=0)
        self.fill()
        # what was given to the file already may still be written; then it is over
        x.burst = 1 << 30
        self.assertNotEqual(x.wait_end(60), 0)
        self.assertRegex(x.errors(), r"recording.*(disk|space|full)")
        self.judged(x, s, ("intact", "recovered"))
        self.refused_then_well_again()


class Frozen(Base):
    def frozen(self, role, name):
        before = set(sp.pids(role)[1])
        x, s = begin(name)
        pid = child_of(role, before) if role != "ingress" else sp.pids(role)[1][-1]
        return x, s, pid

    def still(self, x):
        """Waits until what was under way has arrived; then nothing more may come while the feeder goes on."""
        def sizes():
            return x.at_target(), x.at_user()

        end = time.monotonic() + 10
        while True:
            was, since = sizes(), time.monotonic()
            while sizes() == was and time.monotonic() < since + 1.0:
                time.sleep(0.02)
            if sizes() == was:
                return was
            self.assertLess(time.monotonic(), end, "bytes flow on")

    def killed_in_two_seconds(self, x, s, user_hears=True):
        self.assertEqual(sp.host("kill", s, "--reason", "stands-still").code, 0)
        at = time.monotonic()
        if user_hears:
            self.assertNotEqual(x.wait_end(10), 0)
            self.assertLess(time.monotonic() - at, 2)
            self.assertIn("stands-still", x.errors())
        wait_for(lambda: row(s)["state"] != "running", 10, "its end in the list")

    def test_recorder_that_stands_still(self):
        x, s, pid = self.frozen("recorder", "frozen-rec")
        os.kill(pid, signal.SIGSTOP)
        was = self.still(x)
        self.assertLess(was[0], x.fed)               # the feeder was held back, not asleep
        self.killed_in_two_seconds(x, s)
        self.assertEqual((x.at_target(), x.at_user()), was)
        wait_for(lambda: not os.path.exists("/proc/%d" % pid), 3, "the end of the frozen recorder")
        self.judged(x, s, ("recovered",))

    def test_recorder_that_wakes_up_again(self):
        x, s, pid = self.frozen("recorder", "woken-rec")
        os.kill(pid, signal.SIGSTOP)
        self.still(x)
        os.kill(pid, signal.SIGCONT)
        x.wait_flow(2000)
        self.assertEqual(x.stop(), 0, x.errors())
        self.assertEqual(x.at_user(), x.fed)
        self.judged(x, s, ("intact",))

    def test_egress_that_stands_still(self):
        x, s, pid = self.frozen("egress", "frozen-egr")
        os.kill(pid, signal.SIGSTOP)
        self.still(x)
        self.killed_in_two_seconds(x, s)
        wait_for(lambda: not os.path.exists("/proc/%d" % pid), 4, "the end of the frozen egress")
        self.judged(x, s)

    def test_ingress_that_stands_still(self):
        sp.end_mux("pru")
        wait_for(lambda: not sp.ssh("pru", "-O", "check", "bastion").code == 0, 10, "the end of her connection")
        before = set(sp.pids("ingress")[1])
        log_in("pru")
        pid = child_of("ingress", before)
        x, s = begin("frozen-ing", who="pru")
        os.kill(pid, signal.SIGSTOP)
        try:
            self.still(x)
            at = time.monotonic()
            self.killed_in_two_seconds(x, s, user_hears=False)
            wait_for(lambda: subprocess.run(["pgrep", "-f", "^tee frozen-ing$"], stdout=subprocess.DEVNULL).returncode,
                     5, "the end at the target")
            self.assertLess(time.monotonic() - at, 3.5)
        finally:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
        x.wait_end(10)
        self.judged(x, s)
        sp.end_mux("pru")


class Database(Base):
    def server(self):
        with open(sp.dir + "/pg/postmaster.pid") as f:
            first = int(f.readline())
        out = subprocess.run(["pgrep", "-P", str(first)], stdout=subprocess.PIPE).stdout.split()
        return [first] + [int(p) for p in out]

    def ctl(self, *args):
        ctl = shutil.which("pg_ctl") or "/usr/lib/postgresql/15/bin/pg_ctl"
        who = ["runuser", "-u", "sallyport-db", "--"] if os.getuid() == 0 else []
        subprocess.run(who + [ctl, "-D", sp.dir + "/pg", "-s", "-w", "-t", "30", "-l", sp.dir + "/log/postgresql.log"] +
                       list(args), check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd="/")

    def back(self):
        """Waits until the broker has its database again."""
        at = time.monotonic()
        wait_for(lambda: sp.host("sessions", "--json").code == 0, 20, "the database's return")
        print("the database is used again after %.2f s" % (time.monotonic() - at), flush=True)

    def refused(self, within):
        """A login without a database: denied in time, with a text."""
        at = time.monotonic()
        r = sp.ssh("pru", "bastion", "whoami", mux=False, opts=["NumberOfPasswordPrompts=1"])
        took = time.monotonic() - at
        self.assertEqual((r.code, r.out), (255, b""), r)
        self.assertLess(took, within)
        return r

    def test_frozen(self):
        sp.end_mux("pru")
        sp.fresh_code("pru")
        x, s = begin("db-frozen")
        pids = self.server()
        for p in pids:
            os.kill(p, signal.SIGSTOP)
        try:
            r = self.refused(5)
            self.assertRegex(r.text, r"database.*again")
            x.wait_flow(2000)
            r = sp.ssh("ann", "core-01", "echo no")
            self.assertNotEqual(r.code, 0)
            self.assertEqual(r.out, b"")
            self.assertRegex(r.text, r"database|later|again|moment")
            x.wait_flow(2000)
        finally:
            for p in pids:
                os.kill(p, signal.SIGCONT)
            self.back()
        sp.fresh_code("pru")
        wait_for(lambda: sp.ssh("pru", "bastion", "whoami").code == 0, 10, "a login")
        self.assertEqual(x.stop(), 0, x.errors())
        self.assertEqual(x.at_user(), x.fed)
        self.judged(x, s, ("intact",))
        self.assertEqual(sp.host("audit", "verify").code, 0)

    def test_stopped_and_a_grant_ends_meanwhile(self):
        sp.end_mux("pru")
        sp.fresh_code("pru")
        log_in("exp")
        x, s = begin("db-away")
        sp.grant(who="exp", length="9s")
        ends = time.monotonic() + 9
        y, t = begin("db-expiry", who="exp")
        self.ctl("-m", "fast", "stop")
        try:
            self.refused(5)
            self.assertNotEqual(y.wait_end(15), 0)
            self.assertLess(abs(time.monotonic() - ends), 2)
            self.assertIn("over", y.errors())
            x.wait_flow(2000)
        finally:
            self.ctl("start")
            self.back()
        x.wait_flow(2000)
        end = self.judged(y, t, ("intact",))
        self.assertIn("over", end["reason"])
        self.assertEqual(row(s)["state"], "running")
        self.assertEqual(x.stop(), 0, x.errors())
        self.judged(x, s, ("intact",))
        sp.fresh_code("pru")
        wait_for(lambda: sp.ssh("pru", "bastion", "whoami").code == 0, 10, "a login")
        self.assertEqual(sp.host("audit", "verify").code, 0)


if __name__ == "__main__":
    main()
