# SPDX-License-Identifier: Apache-2.0
"""What is measured. Rounds are interleaved; medians; what a system does not take part in is absent."""
import array
import os
import statistics
import subprocess
import time

from sshd import now
from systems import Load

ECHO = "stty raw -echo; printf !; exec cat"
NULL = subprocess.DEVNULL
RESTED = 25	# seconds: all that is given back when nothing is said is given back


def settle(seconds=1.0):
    time.sleep(seconds)


def quantile(values, q):
    v = sorted(values)
    return v[min(len(v) - 1, int(len(v) * q))]


def true(w, far=False):
    """Wall time of `ssh host true` over a new connection, milliseconds."""
    systems = ("direct", "jump", "classic", "sallyport", "sallyj")
    got = {s: [] for s in systems}
    for i in range(w.o.rounds + 1):
        for s in systems:
            t = w.run(w.command(s + ("-far" if far else ""), ["true"]), stdin=NULL, stdout=NULL)
            if i:
                got[s].append(t * 1000)
    return {s: {"p50": statistics.median(v), "min": min(v), "max": max(v), "n": len(v)} for s, v in got.items()}


def cpu(w):
    """CPU of the middle for one `ssh host true`, milliseconds by role; what it uses when nothing happens is taken off."""
    out = {}
    for s in ("direct", "jump", "classic", "sallyport", "sallyj"):
        n = min(w.o.rounds, w.o.granted * 2)
        settle()
        idle, t = w.cpu(s), now()
        settle()
        rate = {r: (v - idle[r]) / (now() - t) for r, v in w.cpu(s).items()}
        ready = w.commands(s, ["true"], n, w.granted)
        settle()
        a, t = w.cpu(s), now()
        for c in ready:
            w.run(c, stdin=NULL, stdout=NULL)
        settle()	# what closes a session is part of it
        b, t = w.cpu(s), now() - t
        roles = {r: max(0.0, (b[r] - a[r] - rate[r] * t) * 1000 / n) for r in b}
        out[s] = {"sum": sum(roles.values()), "roles": roles, "n": n}
    return out


def storm(w):
    """Logins that begin at the same moment: how many fail, how long until the last has ended."""
    out = {}
    for s in ("direct", "jump", "sallyport"):
        ready = w.commands(s, ["true"], w.o.storm, w.load)
        settle()
        t = now()
        procs = [subprocess.Popen(a, env=e, stdin=NULL, stdout=NULL, stderr=subprocess.PIPE) for a, e in ready]
        words = [p.communicate()[1].decode("utf-8", "replace").strip() for p in procs]
        t = now() - t
        bad = [x for p, x in zip(procs, words) if p.returncode != 0]
        out[s] = {"logins": len(procs), "failed": len(bad), "seconds": t, "per_second": len(procs) / t, "why": bad[:1]}
    return out


def fdatasync_us(directory):
    """Median of an append of 60 bytes and its fdatasync, into a file with room, on the disk of the recordings."""
    path, got = directory + "/.bench", []
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.write(fd, bytes(1 << 20))
        os.fsync(fd)
        for i in range(300):
            t = now()
            os.pwrite(fd, b"x" * 60, i * 60)
            os.fdatasync(fd)
            got.append((now() - t) * 1e6)
    finally:
        os.close(fd)
        os.unlink(path)
    return statistics.median(got)


def echo(w, sessions, systems=("direct", "jump", "classic", "sallyport")):
    """A byte there and back through a terminal, microseconds."""
    samples, rounds = {s: array.array("I") for s in systems}, w.o.echo_rounds
    each = max(50, w.o.keys // (sessions * rounds))
    gap = 0 if sessions == 1 else 200000
    for _ in range(rounds):
        for s in systems:
            load = Load(w)
            load.open(w.load_specs(s, ECHO, sessions))
            r = load.say("echo\t%d\t%d\t%d" % (each, gap, 20 if sessions == 1 else 5))
            load.say("close")
            load.close()
            if not r.endswith("bad 0"):
                raise SystemExit("bench: echo through %s: %s" % (s, r))
            with open(load.out, "rb") as f:
                samples[s].frombytes(f.read())
    return {s: {"p50": quantile(v, .5), "p90": quantile(v, .9), "p99": quantile(v, .99), "n": len(v)}
            for s, v in samples.items()}


def bulk(w, up, far=False):
    """MiB/s of random data through exec; CPU seconds of the middle for a GiB, by role."""
    systems = ("direct", "jump", "sallyport") if far else ("direct", "jump", "classic", "sallyport", "digest")
    path, mib = (w.work + "/small", w.o.far_mib) if far else (w.work + "/random", w.o.mib)
    speed, used = {s: [] for s in systems}, {s: [] for s in systems}
    for _ in range(w.o.bulk_rounds):
        for s in systems:
            ready = w.command(s + ("-far" if far else ""), ["cat >/dev/null" if up else "cat " + path])
            a = w.cpu(s)
            with open(path if up else "/dev/null", "rb") as f:
                t = w.run(ready, stdin=f, stdout=NULL)
            settle(0.5)
            speed[s].append(mib / t)
            used[s].append({r: (v - a[r]) * 1024 / mib for r, v in w.cpu(s).items()})
            w.wipe_recordings()
    out = {}
    for s in systems:
        roles = {r: statistics.median(u[r] for u in used[s]) for r in used[s][0]}
        out[s] = {"mib_s": statistics.median(speed[s]), "cpu_s_per_gib": sum(roles.values()), "roles": roles, "n": w.o.bulk_rounds}
    return out


def per_session(before, after, n):
    roles = {}
    for r, (pss, kernel) in after.items():
        k = None if kernel is None else (kernel - before[r][1]) / n
        roles[r] = [(pss - before[r][0]) / n, k]
    known = [x for x in roles.values() if x[1] is not None]
    return {"pss": sum(x[0] for x in roles.values()), "kernel": sum(x[1] for x in known) if known else None,
            "sum": sum(x[0] + (x[1] or 0) for x in roles.values()), "roles": roles}


def hold(w, s, n, bulk_mib):
    """KiB of one idle session with a terminal, before and after each has moved bulk_mib MiB down and up."""
    load, first = Load(w), Load(w)
    first.open(w.load_specs(s, ECHO, 1))	# what the first one alone costs is not a session's
    settle(2)
    before, done = w.memory(s), 0

    def rest(seconds):
        """All of them live on: one that is silent is ended by the bastion."""
        lives = load.say("rest\t%d" % seconds), first.say("rest\t0")
        if lives != ("rested %d" % done, "rested 1"):
            raise SystemExit("bench: %d sessions of %s are held, and %s" % (done, s, lives))
    while done < n:
        some = min(n - done, w.o.people if s == "sallyport" else 100)
        load.open(w.load_specs(s, ECHO, some))
        done += some
        rest(0)
    rest(RESTED)
    out = per_session(before, w.memory(s), n)
    if bulk_mib:
        for line in ("bulk\tdown\thead -c %d %s/random" % (bulk_mib << 20, w.work), "bulk\tup\tcat >/dev/null\t%d" % bulk_mib):
            r = load.say(line)
            if not r.startswith("bulk ") or int(r.split()[1]) < n * (bulk_mib << 20):
                raise SystemExit("bench: %s: %s" % (line, r))
        rest(RESTED)
        out["after_bulk"] = per_session(before, w.memory(s), n)
    out["n"] = n
    for x in (load, first):
        x.say("close")
        x.close()
    settle(2)
    return out


def memory(w):
    return {s: hold(w, s, w.o.idle, w.o.idle_mib) for s in ("jump", "classic", "sallyport")}


def idle(w):
    """Many idle recorded sessions at once, and what the machine had left."""
    def free():
        with open("/proc/meminfo") as f:
            return next(int(x.split()[1]) for x in f if x.startswith("MemAvailable"))
    a, t = free(), now()
    out = hold(w, "sallyport", w.o.idle, 0)
    out["seconds"], out["available_kib_before"] = now() - t, a
    out["fits_in_16_gib"] = int((16 << 20) / out["sum"])
    return {"sallyport": out}
