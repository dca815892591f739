# SPDX-License-Identifier: Apache-2.0
"""Passwords and keys of accounts are changed at real targets: by hand, after use, at intervals; with targets that refuse, lie, echo, hang, are
full, or were changed behind our back; and with every one of our processes killed in the middle.

What the vault has sealed is opened by tests/support/unseal, and tried with OpenSSH's own client: some stored version always logs in.
"""
import base64
import concurrent.futures
import json
import os
import re
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance, free_port, main, read_until, wait_for  # noqa: E402
from rotation import ECHOES, FIRST, HANGS, LIES, Real, Stored  # noqa: E402
from target import ROOT, reach  # noqa: E402

POLICY = """
network loopback 127.0.0.0/8, ::1
permit "free" who group operators on tag t as svc, used when source in loopback require mfa totp for 1h
"""
USERS = {"svc": 61001, "used": 61002, "keyed": 61003, "strict": 61004, "timed": 61005, "drift": 61006, "lost": 61007, "fixer": 0}


def setUpModule():
    global sp, rot, stored
    if not ROOT:
        raise unittest.SkipTest("an /etc of its own needs root")
    sp = Instance(policy=POLICY)
    sp.add_person("oscar", "operators")
    reach(sp, "oscar", "rot", "full", "other")
    rot = Real(sp, "rot", USERS)
    stored = Stored(sp)


def tearDownModule():
    sp.close()


def rotate(where, *more, timeout=120):
    return sp.host("account", "rotate", where, *more, timeout=timeout)


def state(where):
    user, target = where.split("@")
    return [r for r in sp.host("account", "rotation", "--json", check=True).json() if (r["account"], r["target"]) == (user, target)][0]


def settled(where, what, seconds=90):
    return wait_for(lambda: (state(where)["state"] == what and state(where)), seconds, "%s to be %s: %s" % (where, what, state(where)))


def of(where, row):
    return "%s@%s" % (row.get("account"), row.get("target")) == where


def events(event, where):
    return [e["detail"] for e in sp.audit(event) if of(where, e["detail"])]


def rotations(where):
    return [s for s in sp.sessions() if s["kind"] == "rotation" and of(where, s)]


def records(session):
    r = sp.host("export", session, "--format", "records", check=True)
    return [json.loads(x) for x in r.out.decode().split("\n") if x]


class Passwords(unittest.TestCase):
    def test_1_by_hand(self):
        rot.account("svc", "--password-rule", "length=20 classes=lud least=2 forbid=0O1lI")
        r = rotate("svc@rot", "--json")
        self.assertEqual(r.code, 0, r)
        self.assertEqual((r.json()["state"], [s["step"] for s in r.json()["steps"]]),
                         ("rotated", ["pending", "made", "set", "verify", "flip", "done"]))
        new = stored.current("svc@rot").decode()
        self.assertRegex(new, "^[a-zA-Z0-9]{20}$")
        self.assertFalse(set(new) & set("0O1lI"))
        for pattern in "[a-z]", "[A-Z]", "[0-9]":
            self.assertGreaterEqual(len(re.findall(pattern, new)), 2)
        self.assertTrue(rot.takes("svc", new))
        self.assertFalse(rot.takes("svc", FIRST))
        # Nobody's hands: the versions, the row, the events, the recordings.
        self.assertEqual(stored.versions("svc@rot", None)["previous"], [FIRST.encode()])
        self.assertEqual(state("svc@rot")["state"], "idle")
        self.assertEqual([d["version"] for d in events("rotation_done", "svc@rot")], [2])
        two = rotations("svc@rot")
        self.assertEqual(len(two), 2)
        self.assertEqual(sp.psql("SELECT DISTINCT kind FROM sallyport.sessions WHERE person_name = 'rotation'"), "rotation")

    def test_1a_listed_in_pages(self):
        rot.account("page1")
        rot.account("page2")
        def listed(*args):
            return [(r["account"], r["target"]) for r in sp.host("account", "rotation", *args, "--json", check=True).json()]
        every, seen, last = listed(), [], ()
        self.assertEqual(every, sorted(every, key=lambda x: (x[1], x[0])))
        self.assertGreater(len(every), 2)
        while page := listed("--limit", "2", *last):
            seen += page
            last = ("--after", "%s@%s" % page[-1])
            self.assertLessEqual(len(page), 2)
        self.assertEqual(seen, every)
        self.assertIn("--after", sp.host("account", "rotation", "--limit", "1", check=True).text)
        self.assertEqual(sp.host("account", "rotation", "--limit", "0").code, 2)
        self.assertEqual(listed("--owed"), [])
        self.assertEqual([x for x in listed("--failed") if x[1] == "rot"], [])

    def test_2_the_recording_has_no_secret_and_accounts_for_each(self):
        new = stored.current("svc@rot").decode()
        tag = sp.psql("SET search_path = sallyport; SELECT encode(s.tag, 'hex') FROM secrets s JOIN accounts a ON a.id = s.account_id "
                      "JOIN targets t ON t.id = a.target_id WHERE a.name = 'svc' AND t.name = 'rot' AND s.version = 2")
        seen, typed = [], []
        for s in rotations("svc@rot"):
            all_ = records(s["id"])
            for r in all_:
                r["data"] = base64.b64decode(r["data"])
                self.assertNotIn(new.encode(), r["data"])
                self.assertNotIn(FIRST.encode(), r["data"])
            seen += [(r["kind"], r["lane"]) for r in all_ if r["kind"] in ("wants", "secret")]
            typed += [r["data"] for r in all_ if (r["kind"], r["lane"]) == ("secret", "out")]
            self.assertNotIn("in", [r["kind"] for r in all_])
            self.assertEqual(sp.host("verify", s["id"]).code, 0)
        # The old one, the new one, the new one again: asked for, allowed, typed.
        self.assertEqual(sorted(seen), sorted([("wants", "out"), ("secret", "in"), ("secret", "out")] * 3))
        self.assertEqual([(d[0], int.from_bytes(d[1:5], "little")) for d in typed], [(1, len(FIRST)), (2, 20), (2, 20)])
        self.assertEqual([d[5:].hex() for d in typed[1:]], [tag] * 2)

    def test_3_former_versions_are_kept_and_then_forgotten(self):
        for _ in range(6):
            r = rotate("svc@rot")
            self.assertEqual(r.code, 0, r)
        got = stored.versions("svc@rot", None)
        self.assertEqual(len(got["previous"]), 5)
        self.assertNotIn(FIRST.encode(), got["previous"])
        self.assertTrue(rot.takes("svc", got["current"][0].decode()))

    def test_4_what_cannot_be_is_refused(self):
        for args in (("--rotate", "sometimes"), ("--rotate", "3x"), ("--rotate", "1s"), ("--password-rule", "length=4"),
                     ("--password-rule", "classes=d length=12"), ("--password-rule", "forbid=0123456789"), ()):
            self.assertEqual(sp.host("account", "set", "svc@rot", *args).code, 2, args)
        self.assertEqual(rotate("admin@core-01").code, 1)
        self.assertEqual(rotate("nobody@rot").code, 1)
        self.assertEqual(sp.host("account", "set", "admin@core-01", "--rotate", "1d").code, 1)
        self.assertEqual(sp.host("target", "reconcile", "rot", "nobody").code, 1)


class Keys(unittest.TestCase):
    def test_a_new_line_takes_the_place_of_the_old_one(self):
        path = rot.key("keyed", 'from="127.0.0.0/8",no-pty ')
        for _ in range(2):
            with open(path) as f:
                before = f.read().split("\n")
            r = rotate("keyed@rot")
            self.assertEqual(r.code, 0, r)
            with open(path) as f:
                after = f.read().split("\n")
            self.assertEqual(after[:2], before[:2])
            self.assertEqual(len(after), len(before))
            self.assertRegex(after[2], r'^from="127.0.0.0/8",no-pty ssh-ed25519 [A-Za-z0-9+/=]+ sallyport$')
            self.assertNotEqual(after[2].split(" ")[2], before[2].split(" ")[2])
        self.assertEqual(os.stat(path).st_uid, USERS["keyed"])
        self.assertEqual([f for f in os.listdir(os.path.dirname(path)) if "sallyport" in f], [])
        self.assertEqual([d["version"] for d in events("rotation_done", "keyed@rot")], [2, 3])



class WhenItIsDue(unittest.TestCase):
    def test_after_each_use_and_not_during_it(self):
        rot.account("used", "--rotate", "after-use")
        first = stored.current("used@rot").decode()
        p = sp.ssh_start("oscar", "-tt", "used@rot", "echo in-it; cat", stdin=subprocess.PIPE)
        read_until(p.stdout, b"in-it", 60)
        # Owed before it was used; not done while it is; by hand neither.
        wait_for(lambda: state("used@rot")["next"], 60, "it to be owed")
        self.assertEqual(rotate("used@rot").code, 75)
        self.assertEqual(stored.current("used@rot").decode(), first)
        self.assertTrue(rot.takes("used", first))
        p.stdin.write(b"\x04")
        p.stdin.close()
        p.wait(60)
        wait_for(lambda: events("rotation_done", "used@rot"), 90, "the rotation after use")
        new = stored.current("used@rot").decode()
        self.assertNotEqual(new, first)
        self.assertTrue(rot.takes("used", new))
        self.assertFalse(rot.takes("used", first))
        self.assertIsNone(state("used@rot")["next"])
        # The next session has the new one, and --force ends who holds it.
        p = sp.ssh_start("oscar", "-tt", "used@rot", "echo in-it; cat", stdin=subprocess.PIPE)
        read_until(p.stdout, b"in-it", 60)
        self.assertEqual(rotate("used@rot", "--force").code, 0)
        p.wait(60)
        settled("used@rot", "idle")
        sp.drop(p)

    def test_an_interval_that_ended_while_nobody_ran(self):
        rot.account("timed")
        sp.host("account", "set", "timed@rot", "--rotate", "5s", check=True)
        before = state("timed@rot")
        self.assertIsNone(before["last"])
        sp.host("stop", timeout=120, check=True)
        due = time.time() + 5
        wait_for(lambda: time.time() > due, 30)
        sp.host("start", timeout=120, check=True)
        wait_for(lambda: len(events("rotation_done", "timed@rot")) >= 2, 120, "two of them: %s" % state("timed@rot"))
        sp.host("account", "set", "timed@rot", "--rotate", "never", check=True)
        now = wait_for(lambda: state("timed@rot")["state"] == "idle" and state("timed@rot"), 60)
        self.assertIsNone(now["rotate"])
        self.assertTrue(rot.takes("timed", stored.current("timed@rot").decode()))


class HostileTargets(unittest.TestCase):
    """What the target says is a word; what holds is seen by logging in."""

    @classmethod
    def setUpClass(cls):
        cls.other = Real(sp, "other", {"svc": 61011, "strict": 61012, "drift": 61013, "fixer": 0})
        cls.other.account("strict")
        rot.account("strict")
        sp.configure(rotation_retry_s=3600)
        sp.host("reload", timeout=60, check=True)

    @classmethod
    def tearDownClass(cls):
        cls.other.remove()

    def still(self, who="strict"):
        """The stored one holds, and logs in."""
        self.assertTrue(self.other.takes(who, stored.current(who + "@other").decode()))

    def fails(self, words):
        before = {x["version"] for x in events("rotation_candidate", "strict@other")}
        r = rotate("strict@other", timeout=180)
        self.assertEqual(r.code, 1, r)
        self.assertRegex(r.text, words)
        self.still()
        row = state("strict@other")
        self.assertEqual(row["state"], "failed")
        self.assertGreater(row["failures"], 0)
        self.assertIsNotNone(row["next"])
        sp.host("account", "set", "strict@other", "--rotate", "never", check=True)
        # Never the same candidate twice.
        self.assertEqual(len({x["version"] for x in events("rotation_candidate", "strict@other")} - before), 1)
        versions = stored.versions("strict@other", None)
        self.assertNotIn("pending", versions)
        return versions["failed"]

    def test_1_refused_by_its_quality(self):
        self.other.pam("password requisite pam_exec.so quiet /bin/false\npassword required pam_unix.so")
        self.fails("passwd at the target did not do it")
        self.other.pam("password required pam_unix.so sha512 rounds=1000")

    def test_2_it_lies(self):
        self.other.passwd(LIES)
        self.fails("did not take the candidate.*login with it was refused")

    def test_3_it_echoes_what_it_was_told(self):
        self.other.passwd(ECHOES)
        failed = self.fails("passwd at the target did not do it")
        last = sorted(rotations("strict@other"), key=lambda s: s["started"])
        told = b"".join(base64.b64decode(r["data"]) for s in last for r in records(s["id"]) if r["lane"] == "out")
        self.assertIn(b"you said " + b"*" * len(FIRST), told)
        for secret in [FIRST.encode()] + failed:
            self.assertNotIn(secret, told)
            self.assertNotIn(secret.decode(), sp.log())
            self.assertNotIn(secret.decode(), json.dumps(state("strict@other")))

    def test_4_it_hangs_and_stops_nobody_else(self):
        self.other.passwd(HANGS)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            job = pool.submit(rotate, "strict@other", timeout=300)
            wait_for(lambda: [s for s in sp.sessions(all=False) if s["kind"] == "rotation" and of("strict@other", s)], 60, "it to hang")
            self.assertEqual(rotate("strict@rot").code, 0)
            self.assertFalse(job.done())
            self.assertEqual(rotate("strict@other").code, 75)
            # Whoever mends it stops the program.
            self.other.passwd(None)
            self.assertNotEqual(job.result(120).code, 0)
        self.still()
        wait_for(lambda: rotate("strict@other").code == 0, 120, "a rotation of what was mended")
        self.still()

    def test_5_its_disk_is_full(self):
        full = Real(sp, "full", {"svc": 61021, "keyed": 61022}, tmpfs=True)
        full.account("svc")
        full.inside("sh", "-c", "cat /dev/zero >/etc/fill; true")
        self.assertNotEqual(full.inside("sh", "-c", "head -c 100000 /dev/zero >/etc/more").returncode, 0)
        r = rotate("svc@full")
        self.assertEqual(r.code, 1, r)
        self.assertTrue(full.takes("svc", stored.current("svc@full").decode()))
        full.inside("rm", "-f", "/etc/fill", "/etc/more")
        wait_for(lambda: rotate("svc@full").code == 0, 120, "a rotation with room again")
        self.assertTrue(full.takes("svc", stored.current("svc@full").decode()))
        full.remove()


    def test_6_pauses_double_to_a_bound(self):
        """Of a target that is away, by hand, with rotation_retry_s 3600: what is planned after each failure."""
        with open(sp.dir + "/target/host_key.pub") as f:
            pub = " ".join(f.read().split()[:2])
        sp.host("target", "add", "away", "--addr", "127.0.0.1:%d" % free_port(), "--tag", "t", "--host-key", pub, check=True)
        sp.host("account", "add", "svc@away", "--kind", "password", "--password-stdin", input=b"as it was\n", check=True)
        for _ in range(8):
            self.assertEqual(rotate("svc@away").code, 1)
        rows = sp.psql("SELECT at_us || ' ' || detail FROM sallyport.audit WHERE event = 'rotation_failed' ORDER BY at_us").splitlines()
        failed = [(int(at), d) for at, d in ((at, json.loads(d)) for at, d in (x.split(" ", 1) for x in rows)) if of("svc@away", d)]
        self.assertEqual([d["failures"] for _, d in failed], list(range(1, 9)))
        for (at, d), times in zip(failed, (1, 2, 4, 8, 16, 32, 64, 64)):
            pause = (d["next_us"] - at) / 3600e6
            self.assertTrue(0.94 * times < pause < 1.06 * times, (pause, times))     # the twentieth part is chance
        sp.host("target", "disable", "away", check=True)


class OutOfSync(unittest.TestCase):
    def change_there(self, password):
        r = subprocess.run(["nsenter", "-m", "-t", str(rot.proc.pid), "chpasswd"], input=("drift:%s\n" % password).encode(), timeout=60)
        self.assertEqual(r.returncode, 0)

    def test_alarmed_found_again_and_mended(self):
        rot.account("drift")
        sp.configure(rotation_retry_s=1)
        sp.host("reload", timeout=60, check=True)
        self.assertEqual(rotate("drift@rot").code, 0)
        known = stored.current("drift@rot").decode()
        self.change_there("changed-behind-our-back")
        r = rotate("drift@rot")
        self.assertEqual(r.code, 1, r)
        # It is tried again each second; while it is, its state is another.
        settled("drift@rot", "out_of_sync")
        self.assertTrue(events("rotation_out_of_sync", "drift@rot"))
        wait_for(lambda: (lambda r: r.code != 0 and "drift@rot" in r.text)(sp.host("doctor", "--json")), 60, "the doctor's word")
        wait_for(lambda: "drift@rot" in sp.host("account", "rotation", "--failed").text.replace("drift    rot", "drift@rot"), 60, "its line")
        wait_for(lambda: sp.host("status", "--json", check=True).json()["broker"]["rotations_failed"] >= 1, 60, "the status")
        # Set back by hand, it is found by itself.
        self.change_there(known)
        settled("drift@rot", "idle")
        self.assertTrue(rot.takes("drift", stored.current("drift@rot").decode()))
        # And with a reconcile account nobody need do anything.
        rot.account("fixer")
        sp.host("target", "reconcile", "rot", "fixer", check=True)
        self.change_there("changed-once-more")
        r = rotate("drift@rot")
        self.assertEqual(r.code, 0, r)
        self.assertIn("reconcile", r.text)
        self.assertTrue(rot.takes("drift", stored.current("drift@rot").decode()))
        self.assertTrue(events("rotation_reconciled", "drift@rot"))
        self.assertEqual([d["by"] for d in events("rotation_reconciled", "drift@rot")][-1], "fixer")
        # A key that is gone from there as well.
        path = rot.key("lost")
        with open(path) as f:
            lines = f.read().split("\n")
        with open(path, "w") as f:
            f.write("\n".join(lines[:2]) + "\n")
        r = rotate("lost@rot")
        self.assertEqual(r.code, 0, r)
        with open(path) as f:
            got = f.read().split("\n")
        self.assertEqual((got[:2], len(got)), (lines[:2], 4))
        self.assertRegex(got[2], "^ssh-ed25519 [A-Za-z0-9+/=]+ sallyport$")
        self.assertEqual(os.stat(path).st_uid, USERS["lost"])
        self.assertTrue(events("rotation_reconciled", "lost@rot"))
        sp.host("target", "reconcile", "rot", "none", check=True)


class ZeroCanaries(unittest.TestCase):
    """Every password that was ever made or typed, in nothing that is kept and in no process but the vault and, while it types, an egress."""

    def test_nowhere(self):
        secrets = [FIRST.encode()]
        for row in sp.host("account", "rotation", "--json", check=True).json():
            if row["target"] in ("rot", "other") and row["account"] not in ("keyed", "lost"):
                for versions in stored.versions("%s@%s" % (row["account"], row["target"]), None).values():
                    secrets += versions
        secrets = sorted(set(secrets))
        self.assertGreater(len(secrets), 10)
        known = re.compile(b"|".join(re.escape(s) for s in secrets))
        self.assertTrue(known.search(b"x" + secrets[3]))
        dump = sp.psql("SELECT to_jsonb(t) FROM sallyport.audit t; SELECT to_jsonb(t) FROM sallyport.sessions t; "
                       "SELECT to_jsonb(t) FROM sallyport.rotations t; SELECT to_jsonb(t) FROM sallyport.secrets t; SELECT to_jsonb(t) FROM sallyport.accounts t")
        self.assertIsNone(known.search(dump.encode()))
        for where, _, names in os.walk(sp.dir):
            if where.startswith((sp.dir + "/rot", sp.dir + "/other", sp.dir + "/opt", sp.dir + "/full")):
                continue
            for name in names:
                try:
                    with open(where + "/" + name, "rb") as f:
                        self.assertIsNone(known.search(f.read()), where + "/" + name)
                except OSError:
                    pass
        for role in "broker", "recorder", "ingress", "egress", "auth":
            parents, children = sp.pids(role)
            self.assertTrue(role == "auth" or parents)
            for pid in parents + children:
                self.assertIsNone(self.in_memory(pid, known), "%s %d" % (role, pid))

    @staticmethod
    def in_memory(pid, known):
        with open("/proc/%d/maps" % pid) as maps, open("/proc/%d/mem" % pid, "rb", 0) as mem:
            for line in maps:
                span, rights = line.split()[:2]
                if "r" not in rights or "[v" in line:
                    continue
                start, end = (int(x, 16) for x in span.split("-"))
                try:
                    mem.seek(start)
                    found = known.search(mem.read(end - start))
                except (OSError, OverflowError, ValueError):
                    continue
                if found:
                    return line
        return None


class Killed(unittest.TestCase):
    """kill -9 of one of our processes at each step of a rotation: some stored version always logs in, and it is finished by itself.

    ROTATION_KILLS times eight accounts at once (default 7: 56 runs); the vault at each step first, then each of them in turn, or
    ROTATION_VICTIM alone. At "committed" the target has the new password and the database has not been told: passwd is held there
    until the kill.
    """
    STEPS = ["pending", "made", "set", "committed", "verify", "flip"]
    VICTIMS = ["vault", "broker", "egress", "supervisor", "recorder"]
    ACCOUNTS = ["k%d" % i for i in range(8)]

    @classmethod
    def setUpClass(cls):
        cls.there = Real(sp, "kills", {a: 61100 + i for i, a in enumerate(cls.ACCOUNTS)})
        sp.configure(rotation_retry_s=1)
        sp.host("reload", timeout=60, check=True)
        for a in cls.ACCOUNTS:
            cls.there.account(a)
        cls.there.can_hold()
        cls.between = 0
        cls.pool = concurrent.futures.ThreadPoolExecutor(8)

    @classmethod
    def tearDownClass(cls):
        cls.pool.shutdown()
        cls.there.remove()

    def one_logs_in(self, account):
        """Read and tried at a moment at which nothing is said to hold still: what is stored later was stored before it was set."""
        for _ in range(3):
            for versions in stored.versions(account + "@kills").values():
                for v in versions:
                    if self.there.takes(account, v.decode()):
                        return True
        return False

    def kill(self, victim):
        if victim == "supervisor":
            with open(sp.dir + "/run/sallyportd.pid") as f:
                pids = [int(f.read())]
        else:
            parents, children = sp.pids(victim)
            pids = children or parents
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def serving(self, victim):
        def there():
            try:
                return sp.host("account", "rotation", "--json", timeout=30).code == 0
            except subprocess.TimeoutExpired:
                return False
        if victim == "supervisor":
            wait_for(lambda: sp.host("start", timeout=120).code == 0, 120, "a new supervisor")
        wait_for(there, 120, "the broker after %s" % victim)

    def between_commits(self, account, before):
        """The target takes what the database calls pending, and no more what it calls current. A machine that is so slow that the
        egress waits no longer for passwd is not counted."""
        now = stored.versions(account + "@kills")
        if now["current"] != [before[account]]:
            return
        self.assertFalse(self.there.takes(account, before[account].decode()))
        self.assertTrue(self.there.takes(account, now["pending"][0].decode()))
        type(self).between += len(self.there.committed())

    def round(self, step, victim, n):
        log = sp.dir + "/log/sallyport.log"
        at = os.path.getsize(log)
        before = {a: stored.current(a + "@kills") for a in self.ACCOUNTS}
        if step == "committed":
            self.there.hold()
        for a in self.ACCOUNTS:
            sp.host("account", "rotate", a + "@kills", "--later", check=True)

        def reached():
            with open(log, "rb") as f:
                f.seek(at)
                return re.findall(rb"event=rotation_step account=k\d target=kills step=%s " % step.encode(), f.read())
        if step == "committed":
            wait_for(self.there.committed, 120, "a target that has committed")
            self.between_commits(self.there.committed()[0], before)
        else:
            wait_for(lambda: len(reached()) > n, 120, "step %s" % step)
        self.kill(victim)
        good = list(self.pool.map(self.one_logs_in, self.ACCOUNTS))
        self.assertEqual(good, [True] * 8, (step, victim))
        if step == "committed":
            self.there.release()
        self.serving(victim)
        for a in self.ACCOUNTS:
            wait_for(lambda: state(a + "@kills")["state"] == "idle" and stored.current(a + "@kills") != before[a], 180,
                     "%s after %s at %s: %s" % (a, victim, step, state(a + "@kills")))
        good = list(self.pool.map(lambda a: self.there.takes(a, stored.current(a + "@kills").decode()), self.ACCOUNTS))
        self.assertEqual(good, [True] * 8, (step, victim))

    def test_some_stored_version_always_logs_in(self):
        rounds, only = int(os.environ.get("ROTATION_KILLS", "7")), os.environ.get("ROTATION_VICTIM", "")
        for i in range(rounds + 5):
            if i >= rounds and self.between:
                break
            step, victim = self.STEPS[i % 6], only or ("vault" if i < 6 else self.VICTIMS[(i + i // 6) % 5])
            self.round(step, victim, i % 4)
            print("killed %s at %s: %d times 8 accounts, %d of them between the target's commit and the database's" % (
                victim, step, i + 1, self.between), flush=True)
        self.assertGreater(self.between, 0)
        self.assertEqual(sp.psql("SELECT count(*) FROM sallyport.rotations WHERE state = 'out_of_sync'"), "0")


if __name__ == "__main__":
    main()
