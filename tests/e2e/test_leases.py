# SPDX-License-Identifier: Apache-2.0
"""Leases as rows, and accounts that are one person's at a time."""
import concurrent.futures
import json
import os
import re
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance, main, read_until, wait_for  # noqa: E402

POLICY = """
permit "free" who group operators on tag core as admin require mfa totp for 1h
permit "other" who group others on tag core as legacy require mfa totp for 1h
"""
ACTIVE = "SELECT count(*) FROM sallyport.leases WHERE state = 'active' AND target = 'core-01'"


def setUpModule():
    global sp
    sp = Instance(policy=POLICY)
    for name in ("ann", "ben"):
        sp.add_person(name, "operators")
    sp.add_person("otto", "others")
    for name in ("ann", "ben", "otto"):
        log_in(name)
    sp.host("account", "set", "admin@core-01", "--exclusive", "on", check=True)


def tearDownModule():
    sp.close()


def log_in(name):
    sp.fresh_code(name)
    r = sp.ssh(name, "bastion", "whoami")
    assert r.code == 0, r


def active():
    return [x for x in sp.host("leases", "--json", check=True).json() if x["target"] == "core-01"]


def none_is_active():
    wait_for(lambda: not active(), 30, "the end of the leases")


class Holding(unittest.TestCase):
    def setUp(self):
        none_is_active()

    def hold(self, who):
        p = sp.ssh_start(who, "admin@core-01", "echo held; exec cat", opts=["BatchMode=yes"], stdin=subprocess.PIPE)
        self.addCleanup(sp.drop, p)
        read_until(p.stdout, rb"held\n", 60)
        return p

    def give_back(self, p):
        p.stdin.close()
        p.stdin = None
        self.assertEqual(p.wait(60), 0)
        none_is_active()

    def try_it(self, who):
        return sp.ssh(who, "admin@core-01", "echo got-in", opts=["BatchMode=yes"])

    def test_the_row_says_all(self):
        p = self.hold("ann")
        row = active()[0]
        self.assertEqual((row["person"], row["account"], row["target"], row["exclusive"], row["state"]),
                         ("ann", "admin", "core-01", True, "active"))
        self.assertEqual(row["session"], sp.sessions(all=False)[0]["id"])
        self.assertGreater(row["until"], row["granted"])
        key = sp.psql("SELECT k.id FROM sallyport.person_keys k JOIN sallyport.people p ON p.id = k.person_id WHERE p.name = 'ann'")
        self.assertEqual(sp.psql("SELECT key_id FROM sallyport.leases WHERE state = 'active' AND target = 'core-01'"), key)
        self.give_back(p)
        row = sp.host("leases", "--all", "--json", "--limit", "1", check=True).json()[0]
        self.assertEqual(row["state"], "ended")
        self.assertTrue(row["ended"])

    def test_whoever_comes_second_is_told(self):
        p = self.hold("ann")
        r = self.try_it("ben")
        self.assertEqual((r.code, r.out), (75, b""), r)
        self.assertIn("ann holds it, until", r.text)
        self.assertTrue([e for e in sp.audit("lease_held") if e["detail"]["held_by"] == "ann"])
        r = sp.ssh("otto", "admin@core-01", "id", opts=["BatchMode=yes"])
        self.assertNotEqual(r.code, 0)
        self.assertNotIn("ann", r.text)         # whom the policy does not let in hears nothing of it
        r = sp.ssh("otto", "legacy@core-01", "echo got-in", opts=["BatchMode=yes"])
        self.assertEqual((r.code, r.out), (0, b"got-in\n"), r)  # another account of the same target
        self.give_back(p)
        r = self.try_it("ben")
        self.assertEqual((r.code, r.out), (0, b"got-in\n"), r)

    def test_several_sessions_at_once(self):
        """Real logins that start together: one is in, and stays until all others were refused."""
        done = os.path.join(os.path.dirname(sp.dir), "others-refused")
        def take(i):
            return sp.ssh(("ann", "ben")[i % 2], "admin@core-01", "echo got-in; until [ -e %s ]; do sleep 0.1; done" % done,
                          opts=["BatchMode=yes"], timeout=120)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            all_of_them = [pool.submit(take, i) for i in range(8)]
            try:
                wait_for(lambda: sum(f.done() for f in all_of_them) >= 7, 110, "seven to be refused")
            finally:
                open(done, "w").close()
        self.assertEqual(sorted(f.result().code for f in all_of_them), [0] + [75] * 7, [f.result() for f in all_of_them])
        overlap = sp.psql("SELECT count(*) FROM sallyport.leases a JOIN sallyport.leases b ON a.account_id = b.account_id AND a.id < b.id "
                          "AND a.exclusive AND b.exclusive AND a.granted_us < coalesce(b.ended_us, 9e18) AND "
                          "b.granted_us < coalesce(a.ended_us, 9e18)")
        self.assertEqual(overlap, "0")

    def test_revocation_gives_it_back(self):
        p = self.hold("ann")
        sp.host("users", "disable", "ann", check=True)
        self.addCleanup(log_in, "ann")
        self.addCleanup(sp.host, "users", "enable", "ann")
        p.wait(60)
        none_is_active()

    def test_a_broker_that_dies_gives_it_back(self):
        p = self.hold("ben")
        for pid in sp.pids("broker")[0]:
            os.kill(pid, signal.SIGKILL)
        p.wait(60)
        wait_for(lambda: sp.psql(ACTIVE) == "0", 60, "the recovery")
        for name in ("ann", "ben", "otto"):
            wait_for(lambda: sp.ssh(name, "bastion", "whoami").code == 0 or sp.fresh_code(name), 60, "a new login")

    def test_nobody_renews_another_ones(self):
        """A row that was moved on by hand is not the session's any more: it ends."""
        p = self.hold("ann")
        sp.psql("SET search_path = sallyport; BEGIN; ALTER TABLE leases DISABLE TRIGGER ALL; UPDATE leases SET key_id = "
                "gen_random_uuid() WHERE state = 'active' AND target = 'core-01'; ALTER TABLE leases ENABLE TRIGGER ALL; COMMIT")
        self.assertIsNotNone(wait_for(lambda: p.poll() is not None, 90, "the end of a session that could not renew"))
        none_is_active()


class ByTheRow(unittest.TestCase):
    def test_a_thousand_takers(self):
        """1,024 takers of one account on 32 connections, all let go at once: the database has one holder."""
        sp.psql("SET search_path = sallyport; INSERT INTO sessions (id, person_id, person_name, account_name, target_name, node, "
                "peer_addr, rule, policy_hash, started_us, ended_us, state) SELECT md5('taker' || i)::uuid, gen_random_uuid(), "
                "'taker', 'x', 'y', 'nowhere', '::1', 'r', 'h', 1, 1, 'ended' FROM generate_series(1, 1024) i")
        sock = sp.dir + "/run/db"
        if os.path.exists(sp.dir + "/run/db.path"):
            with open(sp.dir + "/run/db.path") as f:
                sock = f.read().strip()
        cmd = ["psql", "-X", "-q", "-A", "-t", "-h", sock, "-U", "postgres", "-d", "sallyport"]
        gate = subprocess.Popen(cmd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", bufsize=0)
        sp.started.append(gate)
        gate.stdin.write(b"SELECT pg_advisory_lock(77), 'shut';\n")
        read_until(gate.stdout, b"shut")
        takers = []
        for t in range(32):
            script = ["SET ROLE sallyport_broker; SET search_path = sallyport; SELECT pg_advisory_lock_shared(77);"]
            for i in range(32):
                script.append("INSERT INTO leases (session_id, kind, account, target, granted_us, account_id, person_id, exclusive, "
                              "expires_us, until_us) VALUES (md5('taker%d')::uuid, 1, 'x', 'y', now_us(), md5('acc')::uuid, "
                              "md5('p')::uuid, true, 9e15::bigint, 9e15::bigint);" % (t * 32 + i + 1))
            p = subprocess.Popen(cmd, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/")
            sp.started.append(p)
            p.stdin.write("\n".join(script).encode())
            p.stdin.close()
            p.stdin = None
            takers.append(p)
        wait_for(lambda: sp.psql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == "32", 120,
                 "32 takers at the gate")
        gate.stdin.write(b"SELECT pg_advisory_unlock(77);\n")
        refused = sum(p.communicate(timeout=120)[1].count(b"leases_one_holder") for p in takers)
        gate.stdin.close()
        gate.wait()
        gate.stdout.close()
        self.assertEqual(refused, 1023)
        self.assertEqual(sp.psql("SELECT count(*) FROM sallyport.leases WHERE account_id = md5('acc')::uuid AND state = 'active'"), "1")

    def test_what_is_due_is_found_by_index(self):
        """The plan of what the broker itself asks every ten seconds, as the server was told it."""
        def asked():
            with open(sp.dir + "/log/postgresql.log", errors="replace") as f:
                return re.search(r"execute \w+: (SELECT .* FROM leases WHERE state = 'active' AND expires_us <.*)", f.read())
        try:
            sp.psql("ALTER SYSTEM SET log_statement = 'all'")
            sp.psql("SELECT pg_reload_conf()")
            query = wait_for(asked, 120, "the broker's sweep").group(1)
        finally:
            sp.psql("ALTER SYSTEM RESET log_statement")
            sp.psql("SELECT pg_reload_conf()")
        plan = json.loads(sp.psql("SET search_path = sallyport; SET enable_seqscan = off; EXPLAIN (FORMAT JSON) " + query))
        self.assertRegex(json.dumps(plan), r'"Index Name": "leases_due".*"Index Cond": "\(expires_us <')

    def test_a_lease_that_nobody_ends_is_ended_when_it_is_due(self):
        sp.psql("SET search_path = sallyport; INSERT INTO sessions (id, person_id, person_name, account_name, target_name, node, "
                "peer_addr, rule, policy_hash, started_us, state) VALUES (md5('lost')::uuid, gen_random_uuid(), 'lost', 'x', 'y', "
                "'elsewhere', '::1', 'r', 'h', 1, 'running'); INSERT INTO leases (session_id, kind, account, target, granted_us, "
                "account_id, person_id, person_name, node, exclusive, expires_us, until_us) VALUES (md5('lost')::uuid, 1, 'x', 'y', 1, "
                "md5('lost')::uuid, md5('p')::uuid, 'lost', 'elsewhere', true, 2, 3)")
        wait_for(lambda: sp.psql("SELECT state FROM sallyport.leases WHERE account_id = md5('lost')::uuid") == "expired", 90,
                 "the sweep of what is due")
        self.assertTrue([e for e in sp.audit("lease_expired") if e["detail"]["person"] == "lost"])


if __name__ == "__main__":
    main()
