#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Recordings go to a store of objects: whole, compared, and not before that away from here. The store is a strict one
(tests/support/s3judge.py): it computes every signature anew from the specification.

With SP_SHIP_ALL=1 (`make ship-bulk`) each fault at each step of a shipment; without, of each kind one."""
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import s3judge  # noqa: E402
import sp as support  # noqa: E402
import tlogcheck  # noqa: E402
from memory import memory_of  # noqa: E402
from sp import wait_for  # noqa: E402

sp = store = server = top = tls = None
LONG = 120
ALL = os.environ.get("SP_SHIP_ALL") == "1"
made = {}


def setUpModule():
    global sp, store, server, top, tls
    sp = support.Instance()
    top = tempfile.mkdtemp(prefix="sp-s3-", dir="/var/tmp")
    ca, tls = s3judge.make_tls(top)
    store = s3judge.Store()
    server = s3judge.Server(store, tls)
    sp.grant()
    sp.configure(ship_store="https://localhost:%d/evidence/bank/a" % server.port, ship_address="127.0.0.1", ship_region="eu-test-1",
                 ship_ca=ca, ship_part_mb=5, ship_retry_s=1, ship_stall_s=2)
    key(store.access, store.secret)
    sp.host("reload", check=True, timeout=120)


def tearDownModule():
    sp.close()
    server.end()
    shutil.rmtree(top, ignore_errors=True)


def key(access, secret):
    sp.host("vault", "store-key", input=("%s\n%s\n" % (access, secret)).encode(), check=True)


def file_of(s):
    return "%s/recordings/%s.spr" % (sp.dir, s)


def session(command="echo hello"):
    """One recording, of a session that has ended."""
    return some(1, command)[0]


def some(n, command="echo hello"):
    before = {s["id"] for s in sp.sessions()}
    started = [sp.ssh_start("alice", "admin@core-01", command) for _ in range(n)]
    for p in started:
        p.communicate(timeout=120)
        if p.returncode != 0:
            raise AssertionError("session: %d" % p.returncode)
    new = wait_for(lambda: (lambda l: l if len(l) == n else None)(
        [s["id"] for s in sp.sessions() if s["id"] not in before and s.get("ended")]), 60, "the end of %d" % n)
    for s in new:
        wait_for(lambda: os.path.exists(file_of(s)), 60, "its file")
    return new


def unsent(kind):
    """A recording that the store does not have, whole ("small") or of three parts ("big"): made once, sent anew each time."""
    s = made.get(kind)
    if s is None:
        made[kind] = s = session() if kind == "small" else session("head -c 11000000 /dev/urandom")
    wait_for(lambda: row(s)["shipped"], LONG, "%s in the store" % s)
    k = in_store(s)[0]
    sp.psql("BEGIN; SET session_replication_role = replica; DELETE FROM sallyport.shipments WHERE session_id = '%s'; COMMIT" % s)
    del store.versions[k]
    return s


def send(s):
    sp.psql("UPDATE sallyport.sessions SET ship_us = 0 WHERE id = '%s'" % s)
    return s


def status():
    return sp.host("recordings", "status", "--json", check=True).json()


def row(s):
    return [r for r in sp.host("recordings", "--json", check=True).json() if r["id"] == s][0]


def in_store(s):
    """The one object of that session: key and bytes."""
    keys = [k for k in store.keys() if k.endswith("/%s.spr" % s)]
    return (keys[0], store.bytes(keys[0])) if keys else None


def shipped(s):
    return wait_for(lambda: (lambda r: r if r["shipped"] else None)(row(s)), LONG, "%s in the store" % s)


def local(s):
    with open(file_of(s), "rb") as f:
        return f.read()


def age(s, days):
    sp.psql("BEGIN; SET session_replication_role = replica; UPDATE sallyport.shipments SET shipped_us = shipped_us - %d, drop_us = NULL "
            "WHERE session_id = '%s'; COMMIT" % (days * 86400 * 10**6, s))


class Faults(unittest.TestCase):
    def tearDown(self):
        store.fault = lambda kind, n: None
        store.sums = True

    def whole(self, s):
        r = shipped(s)
        k, data = in_store(s)
        self.assertEqual(data, local(s))
        self.assertEqual(r["sha256"], hashlib.sha256(data).hexdigest())
        self.assertEqual(r["size"], len(data))
        return r, k

    def once(self, which, what):
        """A fault at the first request of that kind from now on; gives a list that tells whether it came."""
        came = []

        def fault(kind, n):
            if kind == which and not came:
                came.append(n)
                return what
        store.fault = fault
        return came


class Sending(Faults):
    def test_small_and_large_are_whole_by_day_and_session(self):
        was = len(store.refused)
        small, large = unsent("small"), unsent("big")
        send(small), send(large)
        r, k = self.whole(small)
        self.assertEqual(r["compared"], "digest")
        self.assertEqual(r["where"], "here and store")
        self.assertRegex(k, r"^bank/a/20\d\d/\d\d/\d\d/[0-9a-f-]{36}\.spr$")
        r, k = self.whole(large)
        self.assertIn("-3", store.versions[k][0][2]["sum"])
        self.assertEqual(store.uploads, {})
        self.assertEqual([r for r in store.refused[was:] if r[1] != "NoSuchKey"], [])
        events = [e["event"] for e in sp.audit("recording_shipped") if e["session"] == large]
        self.assertEqual(set(events), {"recording_shipped"})
        wait_for(lambda: status()["waiting"] == 0, LONG, "nothing waits")

    def test_a_store_without_digests_is_read_back(self):
        s = unsent("small")
        store.sums = False
        n = store.n.get("get", 0)
        r, _ = self.whole(send(s))
        self.assertEqual(r["compared"], "read back")
        self.assertGreater(store.n["get"], n)

    def test_each_fault_is_tried_again(self):
        for kind, what in (("put", 503), ("put", "cut"), ("put", "hang"), ("put", "bytes")) + \
                ((("put", 500), ("head", "cut"), ("put", 403)) if ALL else ()):
            with self.subTest(kind=kind, what=what):
                s = unsent("small")
                came = self.once(kind, what)
                self.whole(send(s))
                self.assertTrue(came)

    def test_faults_in_the_middle_of_parts(self):
        for kind, what in (("part", "cut"), ("complete", 500), ("complete", "late")) + ((("part", 503), ("begin", 500)) if ALL else ()):
            with self.subTest(kind=kind, what=what):
                s = unsent("big")
                came = self.once(kind, what)
                parts = store.n.get("part", 0)
                self.whole(send(s))
                self.assertTrue(came)
                if kind == "complete" and what == 500:
                    self.assertEqual(store.n["part"], parts + 3)   # not one of them twice

    def test_a_wrong_digest_is_not_believed(self):
        s = unsent("small")
        store.fault = lambda kind, n: {"head": "digest", "get": "bytes"}.get(kind)
        send(s)
        wait_for(lambda: row(s)["error"], LONG, "a failed comparison")
        r = row(s)
        self.assertIsNone(r["shipped"])
        self.assertIn("other bytes", r["error"])
        self.assertTrue(os.path.exists(file_of(s)))
        self.assertGreater(status()["failures"], 0)
        d = sp.host("doctor", "--json").json()
        self.assertTrue([x for x in d if x["check"] == "store" and "other bytes" in x["text"]], d)
        store.fault = lambda kind, n: None
        self.whole(s)

    def test_refused_credentials_and_another_name(self):
        s = unsent("small")
        key("AKIATEST", "wrong")
        send(s)
        wait_for(lambda: "403" in status()["error"], LONG, "a refusal")
        self.assertIn("SignatureDoesNotMatch", {c for _, c in store.refused})
        key(store.access, store.secret)
        self.whole(s)
        store.refused.clear()
        _, wrong = s3judge.make_tls(top, names=("elsewhere.test",), addresses=("127.0.0.9",))
        old, server.tls = server.tls, s3judge.ssl.SSLContext(s3judge.ssl.PROTOCOL_TLS_SERVER)
        server.tls.load_cert_chain(*wrong)
        s = unsent("small")
        n = len(store.asked)
        send(s)
        wait_for(lambda: status()["failures"] > 0, LONG, "a certificate that is refused")
        self.assertIsNone(row(s)["shipped"])
        self.assertEqual(len(store.asked), n)   # not one request was made of it
        server.tls = old
        self.whole(s)

    def test_the_store_is_away(self):
        global server
        s = unsent("small")
        port = server.port
        server.end()
        send(s)
        wait_for(lambda: status()["failures"] > 1, LONG, "two failures")
        self.assertTrue(os.path.exists(file_of(s)))
        server = s3judge.Server(store, tls if os.path.exists(tls[0]) else tls, port)
        server.tls.load_cert_chain(*s3judge.make_tls(top)[1])
        self.whole(s)


class Killed(Faults):
    def test_at_every_stage_it_goes_on(self):
        """kill -9 of the role when the store hears of that step: whole in the end, and parts that it had are not sent again."""
        for kind, nth in (("begin", 1), ("part", 3), ("complete", 1), ("put", 1)) + \
                ((("head", 1), ("uploads", 1), ("part", 1), ("head", 2)) if ALL else ()):
            with self.subTest(kind=kind, nth=nth):
                s = unsent("small" if kind == "put" else "big")
                seen = self.at(kind, nth, signal.SIGKILL)
                before = store.n.get("part", 0)
                self.whole(send(s))
                self.assertGreaterEqual(len(seen), nth)
                if kind == "complete":
                    self.assertLessEqual(store.n["part"] - before, 3)
        self.assertEqual(store.parts(), 0)

    def at(self, kind, nth, sig):
        seen = []

        def fault(k, n):
            if k == kind:
                seen.append(n)
                if len(seen) == nth:
                    for p in sp.pids("ship")[0]:
                        os.kill(p, sig)
        store.fault = fault
        return seen

    @unittest.skipUnless(ALL, "make ship-bulk")
    def test_one_that_stands_still_is_ended(self):
        """Nothing of it for four times ship_stall_s and thirty seconds: another one goes on."""
        s = unsent("big")
        old_one = sp.pids("ship")[0]
        seen = self.at("part", 2, signal.SIGSTOP)
        self.whole(send(s))
        self.assertTrue(seen)
        self.assertNotEqual(sp.pids("ship")[0], old_one)

    def test_another_configuration_in_the_middle(self):
        """It is started anew, and what it had in hand is not a failure."""
        s = unsent("big")
        seen = []

        def fault(k, n):
            if k == "part" and not seen:
                seen.append(n)
                sp.host("reload", check=True, timeout=120)
        store.fault = fault
        failed = len(sp.audit("ship_failed"))
        self.whole(send(s))
        self.assertTrue(seen)
        self.assertEqual(len(sp.audit("ship_failed")), failed)


class Local(Faults):
    def test_the_copy_here_goes_after_another_comparison_and_comes_back(self):
        sp.configure(ship_local_days=3)
        sp.host("reload", check=True, timeout=120)
        try:
            s, other = some(2)
            self.whole(s)
            self.whole(other)
            data = local(s)
            # The database says that it is old, and the store has other bytes by now: it stays.
            k = in_store(other)[0]
            good = store.versions[k][-1]
            store.versions[k] = [(good[0], good[1][:-1] + b"x", dict(good[2], sum="AAAA"))]
            age(other, 4)
            wait_for(lambda: row(other)["error"], LONG, "a refused removal")
            self.assertTrue(os.path.exists(file_of(other)))
            store.versions[k] = [good]
            age(s, 4)
            wait_for(lambda: not os.path.exists(file_of(s)), LONG, "its copy to go")
            wait_for(lambda: row(s)["where"] == "store", LONG, "the row to say so")
            r = sp.host("verify", s, timeout=120)
            self.assertEqual(r.code, 0, r)
            self.assertIn("intact", r.text.lower())
            self.assertEqual(local(s), data)
            self.assertEqual(row(s)["where"], "here and store")
        finally:
            sp.configure(ship_local_days=0)
            sp.host("reload", check=True, timeout=120)

    def test_what_the_store_changed_is_not_played(self):
        s = session()
        self.whole(s)
        os.rename(file_of(s), file_of(s) + ".away")
        sp.psql("BEGIN; SET session_replication_role = replica; UPDATE sallyport.shipments SET local = false WHERE session_id = '%s'; COMMIT" % s)
        k = in_store(s)[0]
        v, data, info = store.versions[k][-1]
        store.versions[k] = [(v, data[:-5] + b"12345", info)]
        r = sp.host("replay", s, timeout=120)
        self.assertNotEqual(r.code, 0)
        self.assertIn("other bytes", r.text)
        self.assertFalse(os.path.exists(file_of(s)))
        self.assertFalse(os.path.exists(file_of(s)[:-4] + ".fetch"))
        store.versions[k] = [(v, data, info)]
        os.rename(file_of(s) + ".away", file_of(s))

    def test_the_role_has_no_socket_of_its_own(self):
        def confined():
            for p in sp.pids("ship")[0]:
                with open("/proc/%d/status" % p) as f:
                    if "Seccomp:\t2" in f.read():
                        return p
        pid = wait_for(confined, 60, "the role in its filter")
        with open("/proc/%d/limits" % pid) as f:     # what it holds when it crashes stays in no file
            self.assertEqual([x.split()[4:6] for x in f if x.startswith("Max core file size")], [["0", "0"]])
        conf = open(sp.dir + "/sallyport.conf").read()
        self.assertNotIn(store.secret, conf)
        wait_for(lambda: status()["waiting"] == 0, LONG, "nothing waits")
        for p in sp.pids("ship")[0]:
            self.assertFalse([1 for data in memory_of(p) if store.secret.encode() in data], "its key while it works, and no longer")
        r = subprocess.run(["grep", "-rlF", store.secret, sp.dir + "/vault", sp.dir + "/log", sp.dir + "/broker"], stdout=subprocess.PIPE)
        self.assertEqual(r.stdout, b"")


def old(*ids):
    """As if they had ended two years ago: what the database says of a time opens nothing that the rules do not."""
    sp.psql("BEGIN; SET session_replication_role = replica; UPDATE sallyport.sessions SET ended_us = ended_us - 730::bigint * 86400 * 1000000 "
            "WHERE id IN (%s); COMMIT" % ",".join("'%s'" % i for i in ids))


def rules(text, **more):
    sp.configure(retention=text, **more)
    sp.host("reload", check=True, timeout=120)


def hold(s, who="carol", verb=("hold",)):
    return sp.ssh(who, "bastion", *verb, s[:13], "--reason", "case-7")


def leaves(s):
    """Acts of the transparency log about that session, by our second reader."""
    key_ = bytes.fromhex(sp.host("vault", "status", "--json", check=True).json()["audit_key"])
    raw = bytes.fromhex(s.replace("-", ""))
    names = {3: "hold", 4: "release", 5: "delete", 7: "ship"}
    return [names.get(f["act"]) for k, _, f in tlogcheck.Log(sp.dir + "/tlog", key_).leaves() if k == "act" and f["session"] == raw]


def offline():
    """What sallyport-verify says of every recording that is not simply there."""
    rows_ = sp.host("log", "rows", check=True).out
    with open(top + "/rows", "wb") as f:
        f.write(rows_)
    k = sp.host("vault", "status", "--json", check=True).json()["audit_key"]
    r = subprocess.run([sp.dir + "/opt/bin/sallyport-verify", "all", "--key", k, "--log", sp.dir + "/tlog", "--recordings",
                        sp.dir + "/recordings", "--rows", top + "/rows", "--json"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=120)
    return {x["id"]: (x["verdict"], x.get("text")) for x in support.json.loads(r.stdout)}


class Ending(Faults):
    def tearDown(self):
        super().tearDown()
        rules("", hold_release_people=1)

    def deleted(self, s):
        wait_for(lambda: row(s)["where"] == "deleted", LONG, "the end of %s" % s)
        self.assertFalse(os.path.exists(file_of(s)))
        self.assertIsNone(in_store(s))

    def test_by_rule_with_a_leaf_in_the_store_too(self):
        s, young, held = some(3)
        for x in (s, young, held):
            self.whole(x)
        old(s, held)
        self.assertEqual(hold(held).code, 0)
        self.assertNotIn("delete", leaves(s))
        self.assertEqual(sp.host("retention", "plan", "--json", check=True).json(), [])   # no rule: nothing, ever
        rules("target=core-* 400")
        self.deleted(s)
        plan = {p["id"]: p["verdict"] for p in sp.host("retention", "plan", "--json", check=True).json()}
        self.assertEqual(plan.get(held), "held")
        self.assertNotIn(young, plan)
        wait_for(lambda: "delete" in leaves(s) and "hold" in leaves(held), 60, "both leaves under a signed head")
        for x in (young, held):
            self.assertTrue(os.path.exists(file_of(x)))
            self.assertEqual(in_store(x)[1], local(x))
        r = sp.host("replay", s, timeout=60)
        self.assertNotEqual(r.code, 0)
        self.assertIn("deleted", r.text)
        self.assertNotEqual(hold(s).code, 0)
        said = offline()        # at once: no file goes before the head over its end
        self.assertEqual(said[s][0], "deleted", said)
        self.assertIn(held, said)
        self.assertEqual(said[held][0], "intact", said)
        # Other tests have taken events away from the audit (NODE:NUMBER).
        self.assertEqual([x for x in said.items() if x[1][0] in ("forged", "missing", "cut") and ":" not in x[0]], [])
        all_ = {x["id"]: x["verdict"] for x in sp.host("verify", "--all", "--json", timeout=300).json() if "id" in x}
        self.assertNotEqual(all_.get(s), "missing")
        events = [e["event"] for e in sp.audit() if e["session"] == s and e["event"].startswith("recording_dele")]
        self.assertEqual(sorted(events), ["recording_deleted", "recording_deletion"])
        self.assertEqual(leaves(s).count("delete"), 1)

    def test_two_people_release(self):
        s = session()
        self.whole(s)
        rules("", hold_release_people=2)
        self.assertEqual(hold(s).code, 0)
        for _ in range(2):
            r = hold(s, verb=("hold", "release"))
            self.assertEqual(r.code, 0, r)
            self.assertIn(s, [h["session"] for h in sp.host("hold", "list", "--json").json()])
        r = sp.host("hold", "release", s, "--reason", "closed")
        self.assertEqual(r.code, 0, r)
        self.assertNotIn(s, [h["session"] for h in sp.host("hold", "list", "--json").json()])
        wait_for(lambda: leaves(s)[-2:] == ["hold", "release"], 60, "both leaves under a signed head")

    def test_holds_and_rules_race(self):
        """Each recording is held or deleted, never both."""
        all_ = some(6)
        for s in all_:
            self.whole(s)
        old(*all_)
        held = {}
        threads = [threading.Thread(target=lambda s=s: held.__setitem__(s, hold(s).code == 0)) for s in all_]
        for t in threads[:3]:
            t.start()
        rules("* 400")
        for t in threads[3:]:
            t.start()
        for t in threads:
            t.join()
        for s in all_:
            if held[s]:
                self.assertIn("here", row(s)["where"])
                self.assertEqual(in_store(s)[1], local(s))
            else:
                self.deleted(s)
                self.assertNotIn("hold", leaves(s))

    def test_a_hold_outlives_its_row(self):
        """The database's owner takes the row of a hold away, and that of the audit as well: the log has its leaf."""
        s, both, other = some(3)
        for x in (s, both, other):
            self.whole(x)
        for x in (s, both):
            self.assertEqual(hold(x).code, 0)
        for x in (s, both):
            sp.psql("BEGIN; SET session_replication_role = replica; DELETE FROM sallyport.holds WHERE session_id = '%s'; COMMIT" % x)
        sp.psql("BEGIN; SET session_replication_role = replica; DELETE FROM sallyport.audit WHERE session_id = '%s' AND event = "
                "'recording_held'; COMMIT" % both)
        self.assertEqual(sp.psql("SELECT count(*) FROM sallyport.audit WHERE session_id = '%s' AND event = 'recording_held'" % both), "0")
        old(s, both, other)
        rules("* 400")
        self.deleted(other)     # the round went on past the others
        wait_for(lambda: "held" in (row(both)["error"] or ""), LONG, "a refusal by the log")
        self.assertEqual(row(both)["where"], "being deleted")
        for x in (s, both):
            self.assertEqual(in_store(x)[1], local(x))
            self.assertNotIn("delete", leaves(x))

    def test_a_hold_whose_leaf_was_lost_comes_into_the_log(self):
        """As if its broker had ended between row and leaf, or it had been made at another bastion."""
        s = session()
        sp.psql("INSERT INTO sallyport.holds (id, session_id, reason, by_name, made_us) VALUES (gen_random_uuid(), '%s', 'case-8', 'carol', 1)" % s)
        rules("")       # it looks again
        wait_for(lambda: leaves(s) and "hold" in leaves(s), 150, "its leaf")
        wait_for(lambda: sp.psql("SELECT logged FROM sallyport.holds WHERE session_id = '%s'" % s) == "1", 60, "the row to know")

    def test_older_versions_go_too(self):
        """One with the longest id that S3 has, and one whose id nobody can read: as long as that is there it is not called gone."""
        s = session()
        self.whole(s)
        k = in_store(s)[0]
        v, data, info = store.versions[k][0]
        free = dict(info, until=None, hold=None)
        unreadable = "x" * 1500
        store.versions[k] = [("y" * 1024, b"older", free), (unreadable, b"older still", free), (v, data, free)]
        old(s)
        rules("* 400")
        wait_for(lambda: "version" in (row(s)["error"] or ""), LONG, "the store's odd version to be seen")
        self.assertEqual(row(s)["where"], "being deleted")
        self.assertTrue(os.path.exists(file_of(s)))
        store.versions[k] = [x for x in store.versions[k] if x[0] != unreadable]
        sp.psql("UPDATE sallyport.deletions SET next_us = 0 WHERE session_id = '%s'" % s)
        self.deleted(s)

    def test_a_locked_object_stays_and_says_so(self):
        sp.configure(ship_lock="compliance 400")
        sp.host("reload", check=True, timeout=120)
        s = session()
        self.whole(s)
        k = in_store(s)[0]
        self.assertEqual(store.versions[k][0][2]["mode"], "COMPLIANCE")
        sp.configure(ship_lock="")
        old(s)
        rules("* 400")
        wait_for(lambda: "lock" in (row(s)["error"] or ""), LONG, "the store to refuse")
        self.assertEqual(row(s)["where"], "being deleted")
        self.assertTrue(os.path.exists(file_of(s)))
        # As often as it is tried, the log has its end once.
        tries = int(sp.psql("UPDATE sallyport.deletions SET next_us = 0 WHERE session_id = '%s' RETURNING tries" % s))
        wait_for(lambda: int(sp.psql("SELECT tries FROM sallyport.deletions WHERE session_id = '%s'" % s)) > tries, LONG, "another try")
        self.assertEqual(leaves(s).count("delete"), 1)
        v, data, info = store.versions[k][0]
        store.versions[k] = [(v, data, dict(info, until=None))]
        sp.psql("UPDATE sallyport.deletions SET next_us = 0 WHERE session_id = '%s'" % s)
        self.deleted(s)


if __name__ == "__main__":
    support.main()
