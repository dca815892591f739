# SPDX-License-Identifier: Apache-2.0
"""Every byte of bulk: several sessions, each with several channels at once, both ways and full duplex, slow readers, a new key
every MiB on both legs. Zero bytes may differ, nothing may hang, and the recordings verify with the public key alone.

BULK_SESSIONS and BULK_MIB (of each session; a third of it each way and a third full duplex) say how much; `make soak-bulk`: 20
sessions, 20 GiB. BULK_STALL is how long a session may take for nothing to move before that counts as a hang.
"""
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import unittest

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, TESTS + "/support")
from sp import Instance, main, wait_for  # noqa: E402

SESSIONS = int(os.environ.get("BULK_SESSIONS", "4"))
MIB = int(os.environ.get("BULK_MIB", "48"))
STALL = float(os.environ.get("BULK_STALL", "120"))
POLICY = 'permit "bulk" who group operators on tag core as admin require mfa totp for 8h\n'
TOOL = TESTS + "/support/stream_bytes.py"
PYTHON = "/usr/bin/python3"


def setUpModule():
    global sp
    sp = Instance(policy=POLICY)
    conf = sp.dir + "/target/sshd_config"
    with open(conf) as f:
        text = f.read()
    with open(conf, "w") as f:
        f.write("RekeyLimit 1M\nMaxSessions 100\nMaxStartups 1000\n" + text)
    with open(sp.dir + "/target/sshd.pid") as f:
        os.kill(int(f.read()), 1)
    shutil.copy(TOOL, sp.dir + "/target/home/admin/bytes.py")
    os.chmod(sp.dir + "/target/home/admin/bytes.py", 0o644)


def tearDownModule():
    sp.close()


class Session(threading.Thread):
    """One connection of one person, with channels that all run at once."""

    def __init__(self, number):
        super().__init__(daemon=True)
        self.who, self.number = "b%d" % number, number
        self.path = "%s/%s.mux" % (sp.dir, self.who)
        self.faults, self.bytes = [], 0

    def argv(self, *more):
        return ["ssh", "-F", "%s/people/%s/ssh_config" % (sp.dir, self.who), "-o", "ControlPath=" + self.path,
                "-o", "RekeyLimit=1M"] + list(more)

    def begin(self):
        sp.add_person(self.who, "operators")
        self.master = subprocess.Popen(self.argv("-o", "ControlMaster=yes", "-o", "ControlPersist=no", "-N", "-l", self.who + "+admin+core-01", "bastion"),
                                       env=sp.ssh_env(self.who), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.PIPE)
        sp.started.append(self.master)
        wait_for(lambda: os.path.exists(self.path) or self.master.poll() is not None, 120, "the login of " + self.who)
        if self.master.poll() is not None:
            raise AssertionError(self.master.stderr.read())

    def remote(self, *command):
        return self.argv("-o", "ControlMaster=no", "bastion", " ".join(command))

    def channels(self):
        part = MIB * (1 << 20) // 3
        for k, slow in enumerate(("fast", "slow")):
            seed, n = self.number * 10 + k, str(part // 2 - 4321 * k)
            yield "down " + slow, ["sh", "-c", '"$@" | %s %s check %d %s %s' % (PYTHON, TOOL, seed, n, slow), "sh"] + \
                self.remote("exec", PYTHON, "bytes.py", "gen", str(seed), n), int(n)
            yield "up " + slow, ["sh", "-c", '%s %s gen %d %s | "$@"' % (PYTHON, TOOL, seed + 2, n), "sh"] + \
                self.remote("exec", PYTHON, "bytes.py", "check", str(seed + 2), n, slow), int(n)
            m = part // 4
            yield "both " + slow, [PYTHON, TOOL, "both", str(seed + 4), str(m), slow] + self.remote("exec", "cat"), 2 * m

    def progress(self):
        return sum(os.path.getsize(sp.dir + "/recordings/" + f) for f in os.listdir(sp.dir + "/recordings"))

    def run(self):
        todo = []
        for name, argv, n in self.channels():
            p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                 env=sp.ssh_env(self.who), start_new_session=True)
            sp.started.append(p)
            todo.append((name, p, n))
        last, since = self.progress(), time.monotonic()
        while any(p.poll() is None for _, p, _ in todo):
            time.sleep(0.2)
            now = self.progress()
            if now != last:
                last, since = now, time.monotonic()
            if time.monotonic() - since > STALL:
                self.faults.append("%s hangs: %s" % (self.who, [name for name, p, _ in todo if p.poll() is None]))
                for _, p, _ in todo:
                    if p.poll() is None:
                        os.killpg(p.pid, 9)
        for name, p, n in todo:
            err = p.stderr.read().decode("utf-8", "replace")
            if p.wait() != 0:
                self.faults.append("%s %s: exit %d %s" % (self.who, name, p.returncode, err))
            self.bytes += n

    def end(self):
        self.master.terminate()
        self.master.wait()


class Bulk(unittest.TestCase):
    def test_1_every_byte(self):
        all_ = [Session(i) for i in range(SESSIONS)]
        for s in all_:
            s.begin()
        t = time.monotonic()
        for s in all_:
            s.start()
        for s in all_:
            s.join()
        t = time.monotonic() - t
        for s in all_:
            s.end()
        total = sum(s.bytes for s in all_)
        print("%d sessions, %d channels, %.0f MiB in %.0f s: %d faults" % (
            SESSIONS, 6 * SESSIONS, total / (1 << 20), t, sum(len(s.faults) for s in all_)), flush=True)
        self.assertEqual([x for s in all_ for x in s.faults], [])

    def test_2_all_of_it_is_recorded(self):
        wait_for(lambda: not [f for f in os.listdir(sp.dir + "/recordings") if f.endswith(".open")], 300, "the recordings' ends")
        sessions = [s for s in sp.sessions() if s["target"] == "core-01"]
        self.assertEqual(len(sessions), SESSIONS)
        part = MIB * (1 << 20) // 3
        for s in sessions:
            r = sp.host("verify", s["id"], "--json", timeout=600)
            self.assertEqual(r.code, 0, r)
            v = r.json()
            v = v[0] if isinstance(v, list) else v
            self.assertEqual(v["verdict"], "intact", json.dumps(v))
            self.assertGreaterEqual(s["bytes_in"], part)
            self.assertGreaterEqual(s["bytes_out"], part)


if __name__ == "__main__":
    main()
