# SPDX-License-Identifier: Apache-2.0
"""Random clients, kills and rekeys for minutes: every byte compared, and nothing is left behind afterwards.

SOAK_SECONDS is how long it goes on, but for a tenth (default 200, `make soak` 1800), SOAK_SEED repeats a run's choices. What must be as it was:
processes of each role, descriptors of the long-lived ones, their memory, rows that are not ended, files that are not closed.
"""
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
import unittest

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, TESTS + "/support")
sys.path.insert(0, TESTS + "/attack")
from rawssh import Client, Closed  # noqa: E402
from sp import Instance, main, wait_for  # noqa: E402

SECONDS = int(os.environ.get("SOAK_SECONDS", "200"))
POLICY = 'permit "free" who group operators on tag core as admin, legacy require mfa totp for 1h\n'
WORKERS = ["w%d" % i for i in range(6)]
ROLES = ("ingress", "recorder", "egress", "egress-sql", "player", "scribe", "auth")
STEADY = ("broker", "vault", "files")
REKEY = ("RekeyLimit=1M",)


def setUpModule():
    global sp
    sp = Instance(policy=POLICY)
    for w in WORKERS:
        sp.add_person(w, "operators")


def tearDownModule():
    sp.close()


class Cut(Exception):
    """The session ended before its work was done."""


class Worker(threading.Thread):
    """One person who does one thing after the other. `faults` is what must never be."""

    def __init__(self, who, seed, until):
        super().__init__(daemon=True)
        self.who, self.random, self.until = who, random.Random("%s %s" % (seed, who)), until
        self.done, self.cut, self.faults, self.kinds = 0, 0, [], {}
        self.name = self.path = None
        self.local = os.path.join(sp.dir, who + ".bin")

    def run(self):
        deeds = [self.command, self.upload, self.download, self.both_ways, self.terminal, self.copy, self.gone, self.half_open,
                 self.verbs, self.wrong]
        while time.monotonic() < self.until():
            deed = self.random.choice(deeds)
            try:
                deed()
                self.done += 1
                self.kinds[deed.__name__] = self.kinds.get(deed.__name__, 0) + 1
            except (Cut, subprocess.TimeoutExpired) as e:
                self.cut += 1
                if isinstance(e, subprocess.TimeoutExpired):
                    self.faults.append("%s hung: %s" % (deed.__name__, e))
            except Exception as e:      # a fault of the test's own must be seen, too
                self.faults.append("%s: %r" % (deed.__name__, e))
        sp.end_mux(self.who)

    def fault(self, text):
        self.faults.append("%s: %s" % (self.who, text))

    def login(self):
        if self.random.random() < 0.2:
            sp.end_mux(self.who)
        if sp.ssh(self.who, "-O", "check", "bastion").code != 0:
            try:
                sp.fresh_code(self.who)
            except AssertionError as e:                  # the broker or the vault is away
                raise Cut() from e
            if sp.ssh(self.who, "bastion", "whoami", timeout=120).code != 0:
                raise Cut()

    def ssh(self, *args, input=None, opts=REKEY):
        self.login()
        return sp.ssh(self.who, *args, input=input, opts=opts, timeout=180)

    def noise(self):
        return self.random.randbytes(self.random.choice([1, 1000, 100000, 3000000]))

    def file(self):
        """A new name on the target, and the last one is removed: the `cat` of a session that was cut goes on until it has written
        what sshd had taken, and would write into a file of the same name that the next deed has made."""
        if self.path and os.path.exists(self.path):
            os.unlink(self.path)
        self.name = "%s.%016x" % (self.who, self.random.getrandbits(64))
        self.path = os.path.join(sp.dir, "target/home/admin", self.name)

    def same(self, code, got, sent, what):
        """All of it, or a beginning of it when the session was cut."""
        if not sent.startswith(got) or (code == 0 and len(got) != len(sent)):
            self.fault("%s: %d of %d bytes, exit %d, and they differ" % (what, len(got), len(sent), code))
        if code != 0:
            raise Cut()

    def command(self):
        r = self.ssh(self.random.choice(["admin", "legacy"]) + "@core-01", "echo out; echo err >&2; exit 7")
        if r.code == 7 and (r.out != b"out\n" or not r.err.endswith(b"err\n")):
            self.fault("command: %r" % r)
        if r.code != 7:
            raise Cut()

    def upload(self):
        data, got = self.noise(), b""
        self.file()
        r = self.ssh("core-01", "cat > " + self.name, input=data)
        if os.path.exists(self.path):
            with open(self.path, "rb") as f:
                got = f.read()
        self.same(r.code, got, data, "upload")

    def download(self):
        data = self.noise()
        self.file()
        with open(self.path, "wb") as f:
            f.write(data)
        os.chmod(self.path, 0o644)
        r = self.ssh("core-01", "exec cat " + self.name)
        self.same(r.code, r.out, data, "download")

    def both_ways(self):
        data = self.noise()
        r = self.ssh("core-01", "exec cat", input=data)
        self.same(r.code, r.out, data, "both ways")

    def terminal(self):
        words = b"".join(b"echo %08x\n" % self.random.getrandbits(32) for _ in range(20)) + b"exit 3\n"
        r = self.ssh("-tt", "core-01", input=words)
        if r.code != 3:
            raise Cut()
        for w in words.split()[1:-2:2]:
            if w not in r.out:
                self.fault("terminal: %r is missing" % w)

    def copy(self):
        data = self.noise()
        self.file()
        with open(self.local, "wb") as f:
            f.write(data)
        self.login()
        conf = "%s/people/%s/ssh_config" % (sp.dir, self.who)
        p = subprocess.run(["scp", "-q", "-F", conf] + self.random.choice([[], ["-O"]]) + [self.local, "core-01:" + self.name],
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=sp.ssh_env(self.who),
                           timeout=180)
        if p.returncode != 0:
            raise Cut()
        with open(self.path, "rb") as f:
            if hashlib.sha256(f.read()).digest() != hashlib.sha256(data).digest():
                self.fault("copy: %d bytes differ" % len(data))

    def gone(self):
        """The client is killed in the middle."""
        self.login()
        p = sp.ssh_start(self.who, "core-01", "cat /dev/zero")
        p.stdout.read(self.random.choice([1, 1000000]))
        sp.drop(p)

    def half_open(self):
        """Connections that stop at a random step, and garbage."""
        try:
            c = Client(sp.port)
            if self.random.random() < 0.5:
                c.begin()
            if self.random.random() < 0.5:
                c.send(bytes([self.random.randrange(256)]) + self.random.randbytes(self.random.randrange(100)))
            c.close()
        except (Closed, OSError, AssertionError):
            pass

    def verbs(self):
        r = self.ssh("bastion", self.random.choice(["targets", "sessions --json", "requests", "whoami", "grants", "help"]))
        if r.code == 255:
            raise Cut()

    def wrong(self):
        r = self.ssh("nobody@core-01", "true")
        if r.code == 0:
            self.fault("an account that is not there opened")


# ------------------------------------------------------------------------------------------ what is left
def left():
    """What has not ended yet, in words."""
    out = []
    for r in ROLES:
        out += ["%s %d" % (r, p) for p in sp.pids(r)[1]]
    out += [f for f in os.listdir(sp.dir + "/recordings") if f.endswith(".open")]
    for r in ROLES + STEADY:
        n = len(sp.pids(r)[0])
        if n != 1:
            out.append("%d of %s" % (n, r))
    return out


def settle():
    try:
        wait_for(lambda: not left(), 120, "the end of everything")
    except AssertionError as e:
        raise AssertionError("%s: %r\n%s" % (e, left(), sp.log()[-6000:])) from None


def supervisor():
    with open(sp.dir + "/run/sallyportd.pid") as f:
        return int(f.read())


def daemons():
    out = {"sallyportd": supervisor()}
    for r in ROLES + STEADY:
        out[r] = sp.pids(r)[0][0]
    return out


def dirty_kib(pid):
    with open("/proc/%d/smaps_rollup" % pid) as f:
        return sum(int(x.split()[1]) for x in f if x.startswith("Private_Dirty:"))


def look():
    """What may not grow."""
    got = {"fds": {}, "kib": {}, "pids": daemons()}
    for name, pid in got["pids"].items():
        got["fds"][name] = len(os.listdir("/proc/%d/fd" % pid))
        got["kib"][name] = dirty_kib(pid)
    got["rows"] = sp.psql("SELECT (SELECT count(*) FROM sallyport.sessions WHERE ended_us IS NULL), "
                          "(SELECT count(*) FROM sallyport.leases WHERE ended_us IS NULL), "
                          "(SELECT count(*) FROM sallyport.requests WHERE state = 'pending'), "
                          "(SELECT count(*) FROM pg_stat_activity WHERE datname = 'sallyport' AND pid <> pg_backend_pid())")
    got["shm"] = len([f for f in os.listdir("/dev/shm") if "sallyport" in f])
    return got


class Soak(unittest.TestCase):
    def work(self, seconds, seed, killer=None):
        end = time.monotonic() + seconds
        workers = [Worker(w, seed, lambda: end) for w in WORKERS]
        for w in workers:
            w.start()
        while killer and time.monotonic() < end:
            killer()
        for w in workers:
            w.join(400)
            self.assertFalse(w.is_alive(), w.who + " hangs")
        self.assertEqual([f for w in workers for f in w.faults], [])
        kinds = {}
        for w in workers:
            for k, n in w.kinds.items():
                kinds[k] = kinds.get(k, 0) + n
        print("%d deeds %r, %d cut" % (sum(w.done for w in workers), kinds, sum(w.cut for w in workers)), flush=True)
        settle()
        return kinds

    def test_nothing_is_left(self):
        seed = int(os.environ.get("SOAK_SEED", str(random.SystemRandom().randrange(1 << 30))))
        print("seed %d" % seed, flush=True)
        rnd, kills = random.Random(seed), {}
        self.work(max(20, SECONDS / 5), "warm %d" % seed)
        before = look()

        def kill_one(roles):
            time.sleep(rnd.expovariate(0.5))         # the moment is random on purpose
            role = rnd.choice(roles)
            parents, children = sp.pids(role)
            victims = children if role in ROLES else parents
            if victims:
                try:
                    os.kill(rnd.choice(victims), signal.SIGKILL)
                    kills[role] = kills.get(role, 0) + 1
                except ProcessLookupError:
                    pass

        kinds = self.work(SECONDS / 2, "children %d" % seed, lambda: kill_one(("ingress", "recorder", "egress", "scribe")))
        after = look()
        self.assertGreaterEqual(len(kinds), 8)
        self.assertEqual(after["pids"]["broker"], before["pids"]["broker"])
        self.compare(before, after, grown=4096)
        self.work(SECONDS / 5, "all %d" % seed, lambda: kill_one(("ingress", "recorder", "egress", "scribe", "vault", "broker", "files")))
        self.compare(before, look(), grown=8192)
        print("kills: %r" % kills, flush=True)
        self.assertTrue(kills)
        bad = [x for x in sp.host("verify", "--all", "--json", timeout=600).json() if x["verdict"] not in ("intact", "recovered")]
        self.assertEqual(bad, [])
        self.assertEqual(sp.host("audit", "verify", timeout=600).code, 0)

    def compare(self, before, after, grown):
        print("descriptors %r, KiB %r" % (after["fds"], after["kib"]), flush=True)
        for name in before["fds"]:
            self.assertLessEqual(after["fds"][name], before["fds"][name] + 1, "descriptors of " + name)
            self.assertLessEqual(after["kib"][name], before["kib"][name] + grown, "memory of " + name)
        self.assertEqual(after["rows"].split("|")[:3], before["rows"].split("|")[:3])
        self.assertLessEqual(int(after["rows"].split("|")[3]), int(before["rows"].split("|")[3]) + 1)
        self.assertEqual(after["shm"], before["shm"])
        self.assertEqual(after["pids"]["sallyportd"], before["pids"]["sallyportd"])


if __name__ == "__main__":
    main()
