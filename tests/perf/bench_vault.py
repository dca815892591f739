# SPDX-License-Identifier: Apache-2.0
"""make bench-vault: what the vault costs, beside what people use, in one run. A table, and the same as JSON.

Check-out is measured through the broker's own store against the instance's database with fsync on, and a vault in a process of its own
that grants after the commit; beside it the same rows written plainly by pgbench, one transaction for the check-out and one for the
check-in, without chain, hashes, seals or vault: the floor of this disk and this server. Signatures are compared with ssh-agent,
certificates with ssh-keygen -s (a process each, as it is used). Ratios are what counts; absolute numbers belong to the machine.
"""
import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, TOP + "/tests/support")
import plot  # noqa: E402
from sp import Instance, wait_for  # noqa: E402

POLICY = 'permit "free" who group operators on tag core as admin require mfa totp for 8h\n'
BUILD = os.environ["SALLYPORT_BUILD"]
PASSPHRASE = b"a passphrase of this measurement\n"
PLAIN = """
BEGIN;
INSERT INTO plain.sessions VALUES (md5(:client_id || 'a' || random())::uuid, 'bench', 'admin', 'core-01', 'bench', 1, NULL) RETURNING id AS sid \\gset
INSERT INTO plain.leases VALUES (:sid::uuid, :sid::uuid, 1, 'admin', 'core-01', 1, 2, NULL);
INSERT INTO plain.audit (event, actor, session_id, detail) VALUES ('session_open', 'bench', :sid::uuid, '{"account": "admin"}');
COMMIT;
BEGIN;
UPDATE plain.sessions SET ended_us = 1 WHERE id = :sid::uuid;
UPDATE plain.leases SET ended_us = 1 WHERE id = :sid::uuid;
INSERT INTO plain.audit (event, actor, session_id, detail) VALUES ('session_close', 'bench', :sid::uuid, '{"account": "admin"}');
COMMIT;
"""
TABLES = """
CREATE SCHEMA plain;
CREATE TABLE plain.sessions (id uuid PRIMARY KEY, person text, account text, target text, node text, started_us bigint, ended_us bigint);
CREATE TABLE plain.leases (id uuid PRIMARY KEY, session_id uuid, kind int, account text, target text, serial bigint, granted_us bigint, ended_us bigint);
CREATE TABLE plain.audit (seq bigserial PRIMARY KEY, event text, actor text, session_id uuid, detail text);
CREATE INDEX ON plain.leases (session_id);
"""
MILLION = """
SET search_path = sallyport;
INSERT INTO sessions (id, person_id, person_name, account_name, target_name, node, peer_addr, rule, policy_hash, started_us, state)
  SELECT md5('many')::uuid, gen_random_uuid(), 'many', 'x', 'y', 'elsewhere', '::1', 'r', 'h', 1, 'running';
INSERT INTO leases (session_id, kind, account, target, serial, granted_us, account_id, person_id, person_name, node, expires_us, until_us)
  SELECT md5('many')::uuid, 1, 'x', 'y', i, now_us(), gen_random_uuid(), md5('p')::uuid, 'many', 'elsewhere',
  now_us() + 86400000000, now_us() + 86400000000 FROM generate_series(1, %d) i;
ANALYZE leases;
"""


def run(*argv):
    return json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)


def say(text):
    print("bench-vault: " + text, file=sys.stderr, flush=True)


def sock_of(sp):
    path = sp.dir + "/run/db.path"
    if os.path.exists(path):
        with open(path) as f:
            return f.read().strip()
    return sp.dir + "/run/db"


def plain(sp, clients, seconds):
    script = sp.dir + "/plain.sql"
    with open(script, "w") as f:
        f.write(PLAIN)
    os.chmod(script, 0o644)
    pgbench = shutil.which("pgbench") or "/usr/lib/postgresql/15/bin/pgbench"
    log = tempfile.mkdtemp(dir=os.path.dirname(sp.dir))
    r = subprocess.run([pgbench, "-n", "-c", str(clients), "-j", "2", "-T", str(seconds), "-M", "prepared", "-l", "-f", script,
                        "-h", sock_of(sp), "-U", "postgres", "sallyport"], cwd=log, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if r.returncode != 0:
        raise SystemExit(r.stdout.decode())
    took = sorted(int(line.split()[2]) for name in os.listdir(log) for line in open(os.path.join(log, name)))
    shutil.rmtree(log)
    tps = float(re.search(rb"tps = ([0-9.]+)", r.stdout).group(1))
    # Of a whole pair, so that a half is what a check-out takes.
    return {"clients": clients, "pairs_per_s": round(tps), "p50_ms": took[len(took) // 2] / 2000, "p99_ms": took[len(took) * 99 // 100] / 2000}


def checkouts(sp, o):
    info = "host=%s dbname=sallyport user=postgres options='-c role=sallyport_broker'" % sock_of(sp)
    out = []
    sp.psql(TABLES)
    for n in (1, 8):
        best, peer = None, None
        for _ in range(o.rounds):
            a = run(BUILD + "/tests/perf/bench_checkout", info, str(n), str(o.seconds), BUILD + "/tests/perf/bench_vault")
            b = plain(sp, n, o.seconds)
            if best is None or a["pairs_per_s"] > best["pairs_per_s"]:
                best = a
            if peer is None or b["pairs_per_s"] > peer["pairs_per_s"]:
                peer = b
        out.append({"ours": best, "plain": peer})
    return out


def agent(o, where):
    key = where + "/key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    sock = where + "/agent"
    p = subprocess.Popen(["ssh-agent", "-D", "-a", sock], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: os.path.exists(sock), 20, "ssh-agent")
        subprocess.run(["ssh-add", "-q", key], env=dict(os.environ, SSH_AUTH_SOCK=sock), check=True, stdin=subprocess.DEVNULL)
        return run(BUILD + "/tests/perf/bench_vault", "agent", sock, str(o.seconds))
    finally:
        p.kill()
        p.wait()


def keygen(o, where):
    ca = where + "/ca"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ca], check=True)
    n, t0 = 0, time.monotonic()
    while time.monotonic() - t0 < o.seconds:
        subprocess.run(["ssh-keygen", "-q", "-s", ca, "-I", "session", "-n", "admin@core-01", "-V", "-1m:+1m", "-z", str(n), "-O", "clear",
                        "-O", "permit-pty", where + "/key.pub"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        n += 1
    return {"per_s": round(n / (time.monotonic() - t0))}


def session(sp):
    return sp.ssh("ann", "admin@core-01", "true", opts=["BatchMode=yes"]).code == 0


def ms(begin, end):
    return round(1000 * (end - begin))


def first_grant(sp):
    """Twice: a vault that is killed starts, opens itself with the demonstration's key, and a session is through; a sealed one is
    opened by a passphrase (Argon2id), and a session is through."""
    wait_for(lambda: session(sp), 60, "a session before")
    normal = []
    for _ in range(5):
        t0 = time.monotonic()
        session(sp)
        normal.append(ms(t0, time.monotonic()))
    pids = sp.pids("vault")[0]
    t0 = time.monotonic()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: sp.pids("vault")[0] not in ([], pids), 60, "another vault")
    while not session(sp):
        pass
    killed = ms(t0, time.monotonic())
    sp.host("vault", "seal", check=True)
    wait_for(lambda: not session(sp), 60, "a refusal")
    t0 = time.monotonic()
    sp.host("vault", "unseal", input=PASSPHRASE, check=True)
    t1 = time.monotonic()
    while not session(sp):
        pass
    return {"killed_ms": killed, "unseal_ms": ms(t0, t1), "ms": ms(t1, time.monotonic()), "one_session_ms": statistics.median(normal)}


def broker_rss(sp):
    """KiB now, and the most there were since it started."""
    with open("/proc/%d/status" % sp.pids("broker")[0][0]) as f:
        text = f.read()
    return [int(re.search(r"%s:\s+(\d+)" % x, text).group(1)) for x in ("VmRSS", "VmHWM")]


def all_due(sp):
    """All of them were left by a bastion that is gone, and are due: how the sweep goes, and what a session has of it."""
    count = "SELECT count(*) FROM sallyport.leases WHERE state = 'expired' AND person_name = 'many'"
    admin(sp, "SET search_path = sallyport; SET session_replication_role = replica; UPDATE leases SET expires_us = 2, until_us = 3 "
              "WHERE person_name = 'many'")
    wait_for(lambda: int(sp.psql(count)) > 0, 120, "the sweep")
    took = []
    for _ in range(10):
        at = time.monotonic()
        session(sp)
        took.append(ms(at, time.monotonic()))
    return {"one_session_ms": statistics.median(took),
            "rss_kib": broker_rss(sp)}


def admin(sp, sql):
    subprocess.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", sock_of(sp), "-U", "postgres", "-d", "sallyport", "-c", sql], check=True,
                   cwd="/", stdout=subprocess.DEVNULL)


def leases(sp, o):
    sp.host("vault", "slots", "add", "passphrase", "--label", "bench", input=PASSPHRASE, timeout=120, check=True)
    out = {"n": o.leases, "none": first_grant(sp)}
    say("%d leases" % o.leases)
    admin(sp, MILLION % o.leases)
    out["rss_kib_before"] = broker_rss(sp)
    for pid in sp.pids("broker")[0]:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: sp.host("leases", "--limit", "1", "--json").code == 0, 60, "the broker, and its database")
    sp.fresh_code("ann")
    wait_for(lambda: sp.ssh("ann", "bastion", "whoami").code == 0, 60, "a login")
    out["many"] = first_grant(sp)
    out["rss_kib_after"] = broker_rss(sp)
    plan = sp.psql("EXPLAIN (ANALYZE, FORMAT JSON) SELECT id FROM sallyport.leases WHERE state = 'active' AND expires_us < "
                   "(SELECT sallyport.now_us()) - 60000000 ORDER BY expires_us LIMIT 200")
    out["due_ms"] = json.loads(plan)[0]["Execution Time"]
    say("all of them due")
    out["all_due"] = all_due(sp)
    return out


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--out", default="bench-vault.json")
    a.add_argument("--seconds", type=int, default=5, help="of each measurement")
    a.add_argument("--rounds", type=int, default=3, help="of check-outs; the best of ours and of theirs counts")
    a.add_argument("--leases", type=int, default=1000000)
    o = a.parse_args()
    sp = Instance(policy=POLICY)
    sp.add_person("ann", "operators")
    sp.fresh_code("ann")
    sp.ssh("ann", "bastion", "whoami")
    data = {"load": os.getloadavg()[0], "cpus": os.cpu_count()}
    with tempfile.TemporaryDirectory() as where:
        say("signatures and certificates")
        tool = BUILD + "/tests/perf/bench_vault"
        data["agent"] = agent(o, where)
        data["sign"] = run(tool, "sign", str(o.seconds))
        data["cert"] = run(tool, "cert", str(o.seconds))
        data["mint"] = run(tool, "mint", str(o.seconds))
        data["keygen"] = keygen(o, where)
        data["host"] = run(tool, "host", where + "/key", str(o.seconds))
    say("check-outs")
    data["checkout"] = checkouts(sp, o)
    data["leases"] = leases(sp, o)
    sp.close()
    eight = data["checkout"][1]["ours"]
    data["bars"] = {"p99 <= 10 ms at 8 clients": eight["p99_ms"] <= 10, ">= 1200 pairs/s at 8 clients": eight["pairs_per_s"] >= 1200,
                    ">= 5000 signatures/s": data["sign"]["per_s"] >= 5000,
                    "unseal to first grant <= 1 s": data["leases"]["many"]["ms"] <= 1000}
    with open(o.out, "w") as f:
        json.dump(data, f, indent=1)
    with open(os.path.splitext(o.out)[0] + ".svg", "w") as f:
        f.write(draw(data))
    table(data)
    say("written: " + o.out)


def table(d):
    rows = [("", "Sallyport", "peer", "ratio", "peer is")]
    for c in d["checkout"]:
        a, b, n = c["ours"], c["plain"], c["ours"]["clients"]
        rows.append(("check-out, %d client%s: pairs/s" % (n, "s" if n > 1 else ""), a["pairs_per_s"], b["pairs_per_s"],
                     a["pairs_per_s"] / b["pairs_per_s"], "pgbench, plain rows"))
        for q in ("p50_ms", "p99_ms"):
            rows.append(("  %s ms" % q[:3], a[q], b[q], a[q] / b[q], "half of a pair"))
    agent_ = d["agent"]["per_s"]
    rows.append(("lease on a stored key, one signature: /s", d["sign"]["per_s"], agent_, d["sign"]["per_s"] / agent_, "ssh-agent, signature alone"))
    rows.append(("lease with a certificate, one signature: /s", d["cert"]["per_s"], agent_, d["cert"]["per_s"] / agent_,
                 "ssh-agent, signature alone"))
    rows.append(("  CPU of one lease and signature: us", d["sign"]["cpu_us"], "", "", ""))
    rows.append(("certificates minted: /s", d["mint"]["per_s"], d["keygen"]["per_s"], d["mint"]["per_s"] / d["keygen"]["per_s"],
                 "ssh-keygen -s"))
    for q in ("p50_us", "p99_us"):
        rows.append(("signature of the host key, %s: us" % q[:3], d["host"][q], d["agent"][q], d["host"][q] / d["agent"][q],
                     "ssh-agent, signature alone"))
    m, n = d["leases"]["many"], d["leases"]["none"]
    for q, what in (("ms", "unsealed to first session"), ("unseal_ms", "unseal by passphrase (Argon2id)"), ("killed_ms", "vault killed to first session"),
                    ("one_session_ms", "one session")):
        rows.append((what + ", many leases: ms", m[q], n[q], m[q] / n[q], "the same without leases"))
    a, b = d["leases"]["rss_kib_after"], d["leases"]["rss_kib_before"]
    rows.append(("broker's memory, started with them: KiB", a[0], b[0], a[0] / b[0], "before there were any"))
    rows.append(("  the most", a[1], b[1], a[1] / b[1], ""))
    rows.append(("what is due, of many leases: ms", d["leases"]["due_ms"], "", "", ""))
    due = d["leases"]["all_due"]
    rows.append(("all of them due: one session, ms", due["one_session_ms"], n["one_session_ms"], due["one_session_ms"] / n["one_session_ms"],
                 "none is due"))
    rows.append(("  broker's memory, the most: KiB", due["rss_kib"][1], a[1], due["rss_kib"][1] / a[1], "before"))
    for r in rows:
        print("%-48s %12s %12s %8s  %s" % (r[0], *("%.2f" % x if isinstance(x, float) else x for x in r[1:4]), r[4]))
    for k, v in d["bars"].items():
        print("%-48s %s" % (k, "met" if v else "NOT met"))


def draw(d):
    """The same as small panels: ours, and what stands beside it."""
    plot.LABEL.update(ours="Sallyport", peer="peer")
    plot.COLOUR.update(ours=plot.COLOUR["sallyport"], peer=plot.COLOUR["direct"])
    panels = []
    for c in d["checkout"]:
        n = c["ours"]["clients"]
        panels.append(("check-outs, %d client%s; pgbench" % (n, "s" if n > 1 else ""), "pairs/s", "more",
                       {"ours": c["ours"]["pairs_per_s"], "peer": c["plain"]["pairs_per_s"]}, {}))
        panels.append(("a check-out (line: p99); pgbench", "ms", "less", {"ours": c["ours"]["p50_ms"], "peer": c["plain"]["p50_ms"]},
                       {"ours": c["ours"]["p99_ms"], "peer": c["plain"]["p99_ms"]}))
    panels.append(("lease and signature; ssh-agent's alone", "/s", "more", {"ours": d["sign"]["per_s"], "peer": d["agent"]["per_s"]}, {}))
    panels.append(("certificates; ssh-keygen -s", "/s", "more", {"ours": d["mint"]["per_s"], "peer": d["keygen"]["per_s"]}, {}))
    panels.append(("host key's signature; ssh-agent", "us", "less", {"ours": d["host"]["p50_us"], "peer": d["agent"]["p50_us"]},
                   {"ours": d["host"]["p99_us"], "peer": d["agent"]["p99_us"]}))
    m, n = d["leases"]["many"], d["leases"]["none"]
    panels.append(("unsealed to first session; without leases", "ms", "less", {"ours": m["ms"], "peer": n["ms"]}, {}))
    panels.append(("broker's memory; before the leases", "KiB", "less",
                   {"ours": d["leases"]["rss_kib_after"][0], "peer": d["leases"]["rss_kib_before"][0]}, {}))
    rows = (len(panels) + plot.COLS - 1) // plot.COLS
    step = 108      # two bars a panel
    width, height = plot.COLS * plot.W + plot.PAD, rows * step + 62
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" '
           'font-family="DejaVu Sans, Helvetica, Arial, sans-serif">' % (width, height, width, height),
           '<rect width="100%" height="100%" fill="#fff"/>',
           plot.text(plot.PAD, 24, "The vault, %d leases, one run, %d cores" % (d["leases"]["n"], d["cpus"]), 15, weight="bold"),
           plot.text(plot.PAD, 42, "load %.1f at the start" % d["load"], 10, fill="#666")]
    for i, p in enumerate(panels):
        out += plot.panel(plot.PAD + i % plot.COLS * plot.W, 56 + i // plot.COLS * step, *p)
    return "\n".join(out + ["</svg>"]) + "\n"


if __name__ == "__main__":
    main()
