# SPDX-License-Identifier: Apache-2.0
"""How long a search over many recordings takes an auditor: `ssh bastion search WORDS` from the keystroke to the last line,
through ingress, broker, supervisor, vault and players, and what processor time that took, by process. bench_search.py [--count N]
[--bytes N] [--rounds N] [--json FILE]; 10,000 of 64 KiB of output each."""
import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
import procs  # noqa: E402
from sp import Instance  # noqa: E402

BAR = 2.0
ASKED = (("needle in haystack", []), ("nothing like this", []), ("needle.*haystack", ["--regex"]),
         ("needle in haystack", ["--lane", "screen"]), ("needle", ["--lane", "keys"]))


class Cpu(threading.Thread):
    """Processor time of the instance's programs, those that end meanwhile included: looked at four times a second."""

    def __init__(self, sp):
        super().__init__()
        self.of, self.first, self.last, self.over = sp.dir, {}, {}, threading.Event()
        self.look(self.first)

    def look(self, into):
        for p, (_, ticks) in procs.everybody().items():
            try:
                with open("/proc/%d/cmdline" % p) as f, open("/proc/%d/comm" % p) as g:
                    if p in self.first or self.of in f.read():
                        into[p] = (g.read().strip().removeprefix("sallyport-"), ticks)
            except OSError:
                continue

    def run(self):
        while not self.over.wait(0.25):
            self.look(self.last)

    def stop(self):
        self.over.set()
        self.join()
        self.look(self.last)
        used = {}
        for p, (name, ticks) in self.last.items():
            used[name] = used.get(name, 0) + (ticks - self.first.get(p, (name, 0))[1]) / procs.TICK
        return used


def make(sp, count, size):
    """So many recordings, with their rows."""
    assert sp.ssh("carol", "bastion", "whoami").code == 0
    key = sp.host("vault", "status", "--json", check=True).json()["recording_key"]
    t0 = time.monotonic()
    made = subprocess.run([os.environ["SALLYPORT_BUILD"] + "/tests/perf/make_recordings", sp.dir + "/recordings", key,
                           str(count), str(size)], stdout=subprocess.PIPE, check=True).stdout.decode().split()
    owner = os.stat(sp.dir + "/recordings")
    for i in made:
        os.chown("%s/recordings/%s.spr" % (sp.dir, i), owner.st_uid, owner.st_gid)
    disk = sum(os.path.getsize("%s/recordings/%s.spr" % (sp.dir, i)) for i in made)
    print("%d recordings, %.0f MiB on disk, made in %.0f s" % (count, disk / 2**20, time.monotonic() - t0), flush=True)
    cols = sp.psql("SELECT string_agg(column_name, ',') FROM information_schema.columns WHERE table_name = 'sessions' AND "
                   "is_nullable = 'NO' AND column_default IS NULL")
    insert(sp, made, int(time.time() * 1e6), cols.split(","))


def ask(sp, words, args, rounds):
    took, used = [], []
    for _ in range(rounds):
        cpu = Cpu(sp)
        cpu.start()
        t0 = time.monotonic()
        r = sp.ssh("carol", "bastion", "search", "'%s'" % words, "--limit", "10000", *args, timeout=300)
        took.append(time.monotonic() - t0)
        used.append(cpu.stop())
        assert r.code == 0, r
    cpu = {k: round(statistics.median(u.get(k, 0) for u in used), 2) for k in used[-1]}
    said = [x for x in r.text.split("\n") if " found in " in x]
    print("%-34s median %.2f s, best %.2f s, worst %.2f s; %.2f s of processors (%s): %s" % (
        " ".join([words] + args), statistics.median(took), min(took), max(took), sum(cpu.values()), ", ".join(
            "%s %.2f" % x for x in sorted(cpu.items(), key=lambda x: -x[1]) if x[1] >= 0.02), said[0]), flush=True)
    return {"words": words, "args": args, "seconds": took, "cpu": cpu}


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--count", type=int, default=10000)
    a.add_argument("--bytes", type=int, default=65536)
    a.add_argument("--rounds", type=int, default=5)
    a.add_argument("--json")
    a = a.parse_args()
    sp = Instance()
    try:
        make(sp, a.count, a.bytes)
        results = [ask(sp, words, args, a.rounds) for words, args in ASKED]
    finally:
        sp.close()
    print("bar: %.1f s on two cores" % BAR)
    if a.json:
        with open(a.json, "w") as f:
            json.dump({"bar": BAR, "count": a.count, "results": results}, f, indent=1)
    return 0 if all(statistics.median(r["seconds"]) <= BAR for r in results) else 1


def insert(sp, made, now, cols):
    """Rows as the broker would have written them; the table is not sealed."""
    known = {"id": "u::uuid", "person_id": "gen_random_uuid()", "person_name": "'alice'", "account_id": "gen_random_uuid()",
             "account_name": "'admin'", "target_id": "gen_random_uuid()", "target_name": "'core-01'", "node": "'bench'",
             "peer_addr": "'127.0.0.1'", "rule": "'bench'", "policy_hash": "''", "started_us": "%d - n * 1000000" % now,
             "state": "'closed'"}
    values = [known.get(c, "''") for c in cols]
    for c in ("state", "started_us", "ended_us"):
        if c not in cols:
            cols, values = cols + [c], values + [known.get(c, str(now))]
    sp.psql("SET search_path = sallyport; SET session_replication_role = replica; INSERT INTO sessions (%s) SELECT %s FROM unnest(ARRAY['%s']) WITH ORDINALITY AS t(u, n)" %
            (",".join(cols), ",".join(values), "','".join(made)))


if __name__ == "__main__":
    sys.exit(main())
