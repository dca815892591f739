# SPDX-License-Identifier: Apache-2.0
"""kill -9 at random moments under traffic: no byte that reached the target or the user is missing from the record.

A round kills two ingress children, two recorder children, two egress children and the vault in random order, the broker at
last. CRASH_ROUNDS is the number of kills (default 200), CRASH_SEED repeats a run's choices.
"""
import concurrent.futures
import os
import random
import re
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance, main, read_until, wait_for  # noqa: E402
from traffic import Load, match  # noqa: E402

POLICY = """
network loopback 127.0.0.0/8, ::1
permit "free" who group operators on tag core as admin when source in loopback require mfa totp for 1h
"""
PEOPLE = ["ann", "ben", "cat", "dan"]
KINDS = ["ingress", "recorder", "egress"] * 2 + ["vault"]
WITHIN = float(os.environ.get("CRASH_WITHIN", "20"))     # seconds; `make crash` asks for the 5 of the promise: no other load beside it


def setUpModule():
    global sp, pool
    sp = Instance(policy=POLICY)
    for p in PEOPLE + ["pru"]:
        sp.add_person(p, "operators")
    pool = concurrent.futures.ThreadPoolExecutor(8)


def tearDownModule():
    pool.shutdown()
    sp.close()


def each(fn, items):
    return list(pool.map(fn, items))


def log_in(who):
    """A shared connection with a second factor that need not wait for the clock."""
    if sp.ssh(who, "-O", "check", "bastion").code == 0:
        return
    sp.fresh_code(who)
    r = sp.ssh(who, "bastion", "whoami")
    if r.code != 0:
        raise AssertionError("%s cannot log in: %r" % (who, r))


def recording_of(pid):
    """The session whose recording a recorder child writes."""
    try:
        for fd in os.listdir("/proc/%d/fd" % pid):
            m = re.search(r"/recordings/([0-9a-f-]{36})\.", os.readlink("/proc/%d/fd/%s" % (pid, fd)))
            if m:
                return m.group(1)
    except OSError:
        pass
    return None


def unfinished():
    return {f[:-5] for f in os.listdir(sp.dir + "/recordings") if f.endswith(".open")}


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def victim(kind):
    parents, children = sp.pids(kind)
    if kind in ("vault", "broker"):
        return parents[0] if parents else None
    if kind == "recorder":
        children = [p for p in children if recording_of(p)]
    return random.choice(children) if children else None


def host_answers():
    """The broker, with the vault behind it: that one may have died a moment before."""
    return sp.host("sessions", "--json", timeout=10).code == 0 and sp.host("seals", "--json", timeout=10).code == 0


def ended_sessions():
    """Every session by number once none is running; None while one is."""
    r = sp.host("sessions", "--all", "--json", timeout=10)
    if r.code != 0:
        return None
    rows = {s["id"]: s for s in r.json()}
    return rows if all(s["state"] != "running" for s in rows.values()) else None


class Round:
    """Eight sessions of four people and eight kills, the broker's last."""

    def __init__(self, test, number):
        self.test, self.number, self.kills, self.slow = test, number, [], []

    def begin(self):
        each(log_in, PEOPLE + ["pru"])
        # pru's shared connection goes with the broker: her next login is the one that is timed
        sp.fresh_code("pru")
        self.loads = [Load(sp, who, "r%dx%d" % (self.number, i), burst=random.choice([0, 1 << 18, 1 << 21]),
                           pause=random.choice([0.001, 0.01]))
                      for i, who in enumerate(["ann", "ben"] + ["cat", "dan"] * 3)]
        each(lambda x: x.wait_flow(), self.loads)

    def kill_some(self):
        kinds = random.sample(KINDS, len(KINDS))
        for kind in kinds:
            time.sleep(random.expovariate(12))       # the moment is random on purpose
            pid = victim(kind)
            if pid is not None:
                session = recording_of(pid) if kind == "recorder" else None
                if kill(pid):
                    self.kills.append((kind, session, time.monotonic()))

    def check_recorder_victims(self):
        for kind, session, at in self.kills:
            if session is None:
                continue
            wait_for(lambda: session not in unfinished(), WITHIN + 5, "RECOVERED of %s" % session)
            self.slow.append(("recovered", time.monotonic() - at))

    def check_survivors(self):
        """Who lost no process of its own goes on, and what goes on is recorded (judged at the end)."""
        alive = [x for x in self.loads if x.p.poll() is None]
        for x in alive:
            try:
                x.wait_flow(200, 10)
            except AssertionError:
                # one that was about to end: its end is judged below
                if x.p.poll() is None:
                    raise

    def kill_broker(self):
        time.sleep(random.expovariate(12))
        pid = victim("broker")
        self.test.assertIsNotNone(pid, "no broker runs")
        at = time.monotonic()
        kill(pid)
        self.kills.append(("broker", None, at))
        each(lambda x: x.wait_end(20), self.loads)
        wait_for(host_answers, WITHIN + 10, "the broker's return")
        r = sp.ssh("pru", "core-01", "echo works", timeout=30)
        self.slow.append(("new session", time.monotonic() - at))
        self.test.assertEqual((r.code, r.out), (0, b"works\n"), r)
        wait_for(lambda: not (unfinished() & self.mine), WITHIN + 5, "the recovery of what the broker left")
        self.slow.append(("all recovered", time.monotonic() - at))

    def run(self, seen):
        self.begin()
        self.mine = unfinished()
        self.kill_some()
        self.check_recorder_victims()
        self.check_survivors()
        self.kill_broker()
        sp.end_mux("pru")
        rows = wait_for(ended_sessions, 20, "the end of every session in the list")
        fresh = [s for s in rows if s not in seen]
        seen.update(fresh)
        _, faults = match(sp, self.loads, fresh)
        self.test.assertEqual(faults, [], "kills: %r" % self.kills)
        self.test.assertEqual(unfinished(), set())
        for x in self.loads:
            x.clean()
        return fresh


class Crash(unittest.TestCase):
    def verdicts(self, sessions):
        rows = {x["id"]: x for x in sp.host("verify", "--all", "--json", timeout=300).json()}
        got = [rows[s]["verdict"] for s in sessions]
        bad = [rows[s] for s in sessions if rows[s]["verdict"] not in ("intact", "recovered")]
        self.assertEqual(bad, [])
        return got

    def test_1_no_byte_is_missing_whoever_dies(self):
        wanted = int(os.environ.get("CRASH_ROUNDS", "200"))
        seed = int(os.environ.get("CRASH_SEED", str(random.SystemRandom().randrange(1 << 30))))
        random.seed(seed)
        print("seed %d" % seed, flush=True)
        seen, mine, n, slow, counts, began = {s["id"] for s in sp.sessions()}, [], 0, [], {}, time.monotonic()
        while sum(counts.values()) < wanted:
            r = Round(self, n)
            try:
                mine += r.run(seen)
            except BaseException:
                print("seed %d, round %d, kills %r" % (seed, n, r.kills), flush=True)
                raise
            n += 1
            slow += r.slow
            for kind, _, _ in r.kills:
                counts[kind] = counts.get(kind, 0) + 1
            if n % 5 == 0:
                print("%d kills in %.0f s" % (sum(counts.values()), time.monotonic() - began), flush=True)
        verdicts = self.verdicts(mine)
        for what in sorted({w for w, _ in slow}):
            t = sorted(x for w, x in slow if w == what)
            print("%s: median %.2f s, worst %.2f s of %d" % (what, t[len(t) // 2], t[-1], len(t)), flush=True)
        print("%s; %d sessions, %d intact, %d recovered" % (counts, len(mine), verdicts.count("intact"),
                                                            verdicts.count("recovered")), flush=True)
        self.assertEqual([x for x in slow if x[1] > WITHIN], [])
        self.assertTrue("recovered" in verdicts)
        self.assertEqual(sp.host("audit", "verify").code, 0)

    def test_2_only_the_session_of_the_dead_process_ends(self):
        log_in("ann")
        for kind in ("recorder", "egress"):
            a = Load(sp, "ann", "only-a-" + kind)
            a.wait_flow()
            before = set(sp.pids(kind)[1])
            b = Load(sp, "ann", "only-b-" + kind)
            b.wait_flow()
            kill((set(sp.pids(kind)[1]) - before).pop())
            self.assertNotEqual(b.wait_end(20), 0)
            self.assertRegex(b.errors(), r"died|ended|lost")
            a.wait_flow(2000)
            self.assertEqual(a.stop(), 0, a.errors())
            self.assertEqual(a.at_target(), a.fed)
            self.assertEqual(a.at_user(), a.fed)

    def test_3_recorder_and_vault_together(self):
        """The recovery needs the vault: it waits for it instead of giving up."""
        log_in("ann")
        x = Load(sp, "ann", "together")
        x.wait_flow()
        pid = victim("recorder")
        session = recording_of(pid)
        kill(victim("vault"))
        kill(pid)
        at = time.monotonic()
        x.wait_end(20)
        wait_for(lambda: session not in unfinished(), WITHIN, "RECOVERED")
        rows = wait_for(ended_sessions, 10, "its end in the list")
        self.assertEqual(rows[session]["state"], "recovered")
        self.assertLess(time.monotonic() - at, WITHIN + 2)
        self.assertEqual(match(sp, [x], [session])[1], [])
        self.assertIn("recovered", self.verdicts([session]))

    def test_4_the_recovering_recorder_dies_too(self):
        log_in("ann")
        x = Load(sp, "ann", "twice")
        x.wait_flow()
        pid = victim("recorder")
        session = recording_of(pid)
        vault = victim("vault")
        os.kill(vault, signal.SIGSTOP)               # the recovery hangs at the vault's signature
        try:
            kill(pid)
            second = wait_for(lambda: [p for p in sp.pids("recorder")[1] if recording_of(p) == session and p != pid], 10,
                              "the recovering recorder")
            kill(second[0])
        finally:
            os.kill(vault, signal.SIGCONT)
        x.wait_end(20)
        wait_for(lambda: session not in unfinished(), WITHIN + 5, "RECOVERED")
        rows = wait_for(ended_sessions, 10, "its end in the list")
        self.assertEqual(rows[session]["state"], "recovered")
        self.assertIn("recovered", self.verdicts([session]))

    def test_5_sallyportd_dies(self):
        each(log_in, PEOPLE)
        seen = {s["id"] for s in sp.sessions()}
        loads = [Load(sp, who, "all-" + who) for who in PEOPLE]
        each(lambda x: x.wait_flow(), loads)
        with open(sp.dir + "/run/sallyportd.pid") as f:
            pid = int(f.read())
        kill(pid)
        each(lambda x: x.wait_end(20), loads)
        for role in ("broker", "vault", "recorder", "egress", "ingress", "player"):
            wait_for(lambda: sp.pids(role) == ([], []), 10, "the end of every " + role)
        sizes = {x.name: x.at_target() for x in loads}
        sp.host("start", check=True)
        at = time.monotonic()
        wait_for(lambda: not unfinished(), WITHIN, "RECOVERED after the restart")
        rows = wait_for(ended_sessions, 10, "their end in the list")
        print("recovered %.2f s after the restart" % (time.monotonic() - at), flush=True)
        mine = [s for s in rows if s not in seen]
        self.assertEqual(len(mine), len(loads))
        self.assertEqual({x.name: x.at_target() for x in loads}, sizes)
        self.assertEqual(match(sp, loads, mine)[1], [])
        # a recorder that saw its broker's link close before its own end came has written CLOSE
        self.verdicts(mine)
        log_in("ann")
        said = []

        def works():
            said.append(sp.ssh("ann", "core-01", "echo again"))
            return (said[-1].code, said[-1].out) == (0, b"again\n")

        try:
            wait_for(works, WITHIN, "a session after the restart")
        finally:
            if len(said) > 1:
                print("tries: %r" % said, flush=True)


class NoRow(unittest.TestCase):
    def test_a_recording_that_no_row_names(self):
        """Whoever was to write the row died: the file gets one that says so, and is recovered and sealed with the rest."""
        said = len(sp.audit("recording_without_session"))
        p = sp.ssh_start("pru", "admin@core-01", "echo up; cat", stdin=subprocess.PIPE)
        read_until(p.stdout, b"up\n", 60)
        session = sp.sessions(all=False)[0]["id"]
        with open(sp.dir + "/run/sallyportd.pid") as f:
            daemon = int(f.read())
        kids = [x for role in ("recorder", "broker") for x in sum(sp.pids(role), [])]
        for pid in kids + [daemon]:
            kill(pid)
        sp.drop(p)
        wait_for(lambda: not sum((sum(sp.pids(r), []) for r in ("broker", "recorder", "ingress", "egress", "vault")), []), 60, "the end")
        self.assertIn(session, unfinished())
        sp.psql("SET session_replication_role = replica; DELETE FROM sallyport.leases WHERE session_id = '%s'; "
                "DELETE FROM sallyport.sessions WHERE id = '%s'" % (session, session))
        sp.host("start", check=True, timeout=120)
        row = wait_for(lambda: [s for s in sp.sessions() if s["id"] == session and s["state"] == "recovered"], 60, "its row")[0]
        self.assertEqual((row["person"], row["target"], row["recovered"]), ("-", "-", True))
        wait_for(lambda: session not in unfinished(), 60, "its name")
        self.assertTrue(os.path.exists("%s/recordings/%s.spr" % (sp.dir, session)))
        self.assertEqual(len(sp.audit("recording_without_session")), said + 1)
        r = sp.host("verify", session)
        self.assertEqual(r.code, 0, r)

    def in_the_gap(self, aim, late):
        """One login is shot `late` seconds after its recording has its OPEN: is there a recording without a row then? (Its id.)"""
        folder = sp.dir + "/recordings"
        before, shoot = set(os.listdir(folder)), aim()
        p = sp.ssh_start("pru", "admin@core-01", "true")
        end, name, size = time.monotonic() + 60, None, 0
        while time.monotonic() < end:
            name = name or next((f for f in set(os.listdir(folder)) - before if f.endswith(".open")), None)
            try:
                now = os.stat(folder + "/" + name).st_size if name else 0
            except FileNotFoundError:
                break
            if size and now > size:         # the header came first
                at = time.monotonic() + late
                while time.monotonic() < at:
                    pass
                shoot()
                break
            size = now
        sp.drop(p)
        return name and name[:-5]

    def adopted(self, aim, again=lambda: None):
        """Until a shot has hit the gap between OPEN and the row: each of them ends as it should, with nothing left open."""
        def over():
            files = [f for f in os.listdir(sp.dir + "/recordings") if f.startswith(shot)]
            if not files:
                return {"person": None}          # it had no OPEN
            return next((x for x in sp.sessions() if x["id"] == shot and x["state"] in ("recovered", "ended")
                         and files == [shot + ".spr"]), None)

        for n in range(1, 61):
            shot = self.in_the_gap(aim, random.choice([0, 0, random.uniform(0, 0.004)]))
            self.assertTrue(shot)
            again()
            row = wait_for(over, 60, "the end of " + shot)
            if row["person"] == "-":
                break
        else:
            self.fail("no shot of %d hit the gap" % n)
        print("hit by shot %d" % n, flush=True)
        self.assertEqual(row["target"], "-")
        self.assertEqual([x for x in sp.host("verify", "--all", "--json", timeout=600).json()
                          if x["verdict"] not in ("intact", "recovered")], [])

    def test_a_recorder_killed_between_its_open_and_the_row(self):
        """The broker lives on, and is told of the file that is left."""
        def aim():
            path = "/proc/%d/task/%d/children" % ((sp.pids("recorder")[0][0],) * 2)

            def children():
                with open(path) as f:
                    return set(f.read().split())
            others = children()
            return lambda: [kill(int(p)) for p in children() - others]
        log_in("pru")
        self.adopted(aim)

    def test_a_broker_killed_between_the_open_and_the_row(self):
        """Its recorder has time for a CLOSE, so the file looks like any other that is over."""
        def aim():
            broker = sp.pids("broker")[0][0]
            return lambda: kill(broker)

        def again():
            wait_for(lambda: len(sp.pids("broker")[0]) == 1 and host_answers(), 60, "a broker")
            log_in("pru")
        log_in("pru")
        self.adopted(aim, again)


if __name__ == "__main__":
    main()
