# SPDX-License-Identifier: Apache-2.0
"""make bench-log: what the transparency log costs. Leaves a second of its files; of a session (a login by an open connection, one
command) leaves, bytes on the disk, and the CPU time of notary, vault and broker beside that of everybody."""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE) + "/support")
from sp import Instance, wait_for  # noqa: E402

ROLES = ("notary", "vault", "broker", "recorder", "egress", "ingress")
TICK = os.sysconf("SC_CLK_TCK")


def cpu(sp, role):
    """Seconds of its parents and of all children that they have waited for."""
    total = 0
    for pid in sp.pids(role)[0]:
        with open("/proc/%d/stat" % pid) as f:
            w = f.read().rsplit(")", 1)[1].split()
        total += sum(int(x) for x in w[11:15])
    return total / TICK


def disk(path):
    return sum(os.lstat(os.path.join(d, f)).st_blocks * 512 for d, _, fs in os.walk(path) for f in fs)


def status(sp):
    return sp.host("log", "status", "--json", check=True).json()


def settled(sp):
    wait_for(lambda: (lambda s: s["signed"] == s["size"] and s["waiting"] == 0)(status(sp)), 120, "a head over all")


def sessions(sp, n):
    for _ in range(n):
        r = sp.ssh("alice", "admin@core-01", "true")
        if r.code != 0:
            raise AssertionError(r)


def running(n):
    sp = Instance()
    try:
        sp.grant()
        sessions(sp, 5)
        settled(sp)
        before, size, bytes_, t0 = {r: cpu(sp, r) for r in ROLES}, status(sp)["size"], disk(sp.dir + "/tlog"), time.monotonic()
        sessions(sp, n)
        settled(sp)
        return {"sessions": n, "seconds": time.monotonic() - t0, "leaves": (status(sp)["size"] - size) / n,
                "disk_bytes": (disk(sp.dir + "/tlog") - bytes_) / n, "cpu_ms": {r: (cpu(sp, r) - before[r]) * 1000 / n for r in ROLES}}
    finally:
        sp.close()


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--sessions", type=int, default=300)
    a.add_argument("--leaves", type=int, default=200000)
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--out", default="bench-log.json")
    o = a.parse_args()
    work = tempfile.mkdtemp(prefix="sp-bench-", dir="/var/tmp")
    try:
        rows = []
        for _ in range(o.rounds):
            got = subprocess.run([os.environ["SALLYPORT_BUILD"] + "/tests/perf/bench_store", work, str(o.leaves)], stdout=subprocess.PIPE,
                                 check=True).stdout.decode().split("\n")
            rows.append([json.loads(x) for x in got if x])
        store = [{k: statistics.median(r[i][k] for r in rows) for k in rows[0][i]} for i in range(len(rows[0]))]
    finally:
        shutil.rmtree(work, ignore_errors=True)
    data = {"store": store, "session": running(o.sessions)}
    with open(o.out, "w") as f:
        json.dump(data, f, indent=1)
    for s in store:
        print("made safe %3d at a time: %7.0f leaves/s, %.1f us of CPU each" % (s["group"], s["leaves_s"], s["cpu_us"]))
    s = data["session"]
    print("a session: %.1f leaves, %.0f bytes on the disk; CPU ms: %s" % (s["leaves"], s["disk_bytes"], ", ".join(
        "%s %.2f" % (r, v) for r, v in s["cpu_ms"].items())))


if __name__ == "__main__":
    main()
