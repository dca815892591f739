# SPDX-License-Identifier: Apache-2.0
"""How long a search over many recordings takes an auditor: `ssh bastion search WORDS` from the keystroke to the last line,
through ingress, broker, supervisor, vault and players. bench_search.py [COUNT [BYTES]], 10,000 of 64 KiB of output each."""
import os
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance  # noqa: E402

BAR = 2.0


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10000
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 65536
    sp = Instance()
    try:
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
        now = int(time.time() * 1e6)
        cols = sp.psql("SELECT string_agg(column_name, ',') FROM information_schema.columns WHERE table_name = 'sessions' AND "
                       "is_nullable = 'NO' AND column_default IS NULL")
        insert(sp, made, now, cols.split(","))
        for words, args in (("needle in haystack", []), ("nothing like this", []), ("needle.*haystack", ["--regex"]),
                            ("needle in haystack", ["--lane", "screen"])):
            took = []
            for _ in range(5):
                t0 = time.monotonic()
                r = sp.ssh("carol", "bastion", "search", "'%s'" % words, "--limit", "10000", *args, timeout=300)
                took.append(time.monotonic() - t0)
                assert r.code == 0, r
            said = [x for x in r.text.split("\n") if " found in " in x]
            print("%-40s median %.2f s, best %.2f s, worst %.2f s: %s" % (
                " ".join([words] + args), statistics.median(took), min(took), max(took), said[0]), flush=True)
        print("bar: %.1f s on two cores" % BAR)
    finally:
        sp.close()


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
    main()
