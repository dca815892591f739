# SPDX-License-Identifier: Apache-2.0
"""What `make bench-recorder` measures. Each part returns what goes into the JSON; all sizes come from the options."""
import glob
import gzip
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE) + "/support", os.path.dirname(HERE) + "/term", HERE]
import bench_search  # noqa: E402
import bench_size  # noqa: E402
import corpus  # noqa: E402
from sp import Instance  # noqa: E402

PEERS = ("script", "asciinema", "tlog")
OURS = ("process", "input", "full")
# libutempter of tlog-rec wants a /run/utmp, which a small machine has not: one of its own.
UTMP = ["unshare", "-m", "--propagation", "private", "sh", "-c",
        'test -e /run/utmp || { mount -t tmpfs run /run && : >/run/utmp && chmod 666 /run/utmp; }; exec "$@"', "sh"]
POLICY = """permit "bench" who group sysadmins on tag core as any
  require mfa totp
  for 8h
""" + bench_size.POLICY


def median(rows, key):
    return statistics.median(r[key] for r in rows)


class World:
    def __init__(self, o):
        self.o, self.tools = o, os.environ.get("SALLYPORT_BUILD", "build") + "/tests/perf"
        self.dir = o.work
        self.load = self.tools + "/pty_load"
        self.instance = None

    def close(self):
        if self.instance:
            self.instance.close()

    def sp(self):
        """The whole product, once it is needed."""
        if not self.instance:
            self.instance = Instance(policy=POLICY)
            for who in ("alice", "carol"):
                assert self.instance.ssh(who, "bastion", "whoami").code == 0
        return self.instance

    def tool(self, args, **how):
        """A program of ours or theirs; the last line that it printed, as JSON."""
        env = {**os.environ, **how, "TERM": "xterm-256color", "SHELL": "/bin/sh"}
        r = subprocess.run(UTMP + args if os.getuid() == 0 else args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, cwd=self.dir, env=env, timeout=3600)
        lines = [x for x in r.stdout.decode("utf-8", "replace").split("\n") if x.startswith("{")]
        if r.returncode != 0 or not lines:
            raise SystemExit("%s: exit %d\n%s" % (" ".join(args), r.returncode, (r.stdout + r.stderr).decode("utf-8", "replace")[-3000:]))
        return json.loads(lines[-1])

    def recorder(self, what):
        build = os.path.dirname(os.path.dirname(self.tools))
        return self.tool([self.tools + "/bench_recorder"], BENCH=what, top_builddir=build)

    def wrapped(self, system, inner, name="{}"):
        """The command line that records `inner` into a file of that name."""
        out = "%s/%s.%s" % (self.dir, system, name)
        if system == "script":
            return ["script", "-q", "-f", "-c", " ".join(inner), "--log-out", out, "--log-timing", out + ".timing"]
        if system == "asciinema":
            return ["asciinema", "rec", "-q", "--overwrite", "-c", " ".join(inner), out]
        if system == "tlog":
            return ["tlog-rec", "--writer=file", "--file-path=" + out] + inner
        return inner

    def clean(self):
        for system in PEERS:
            for f in glob.glob("%s/%s.*" % (self.dir, system)):
                os.unlink(f)


# ---------------------------------------------------------------- keys
def keys(w):
    """Latency of a key, to the echoer and back; what each recorder adds to its own way without one."""
    o, found = w.o, {}
    for n in (int(x) for x in o.sessions.split(",")):
        rate = o.rate_alone if n == 1 else o.rate
        rounds = {}
        for r in range(o.rounds + o.warm):
            for s in ("pty",) + PEERS:
                got = w.tool([w.load, "keys", str(n), str(rate), str(o.seconds)] + w.wrapped(s, [w.load, "echo"]))
                w.clean()
                rounds.setdefault(s, []).append(got)
            rounds.setdefault("legs", []).append(w.recorder("plain %d %g %g" % (n, rate, o.seconds)))
            for d in OURS:
                rounds.setdefault(d, []).append(w.recorder("keys %d %g %g %s" % (n, rate, o.seconds, d)))
        found[str(n)] = {s: typed(rows[o.warm:]) for s, rows in rounds.items()}
        for s, e in found[str(n)].items():
            base = found[str(n)]["pty" if s in PEERS + ("pty",) else "legs"]
            e["added_p50_us"], e["added_p99_us"] = e["p50_us"] - base["p50_us"], e["p99_us"] - base["p99_us"]
        w.say("%d sessions: " % n + ", ".join("%s +%.0f/+%.0f us" % (s, e["added_p50_us"], e["added_p99_us"])
                                              for s, e in found[str(n)].items() if s not in ("pty", "legs")))
    return found


def typed(rows):
    return {"p50_us": median(rows, "p50_us"), "p99_us": median(rows, "p99_us"), "max_us": max(r["max_us"] for r in rows),
            "keys": sum(r["keys"] for r in rows), "lost": sum(r["lost"] + r["held_back"] for r in rows)}


def fdatasync_us(where, n=200):
    """What the disk itself asks for one small append."""
    path, took = where + "/sync", []
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.posix_fallocate(fd, 0, n * 100)
    for i in range(n):
        t0 = time.perf_counter()
        os.pwrite(fd, b"x" * 100, i * 100)
        os.fdatasync(fd)
        took.append((time.perf_counter() - t0) * 1e6)
    os.close(fd)
    os.unlink(path)
    return {"p50": statistics.median(took), "p99": sorted(took)[n * 99 // 100]}


# ---------------------------------------------------------------- bulk
def listing(n):
    """n bytes of what `ls -l` shows: the text that bench_recorder.c pours."""
    out, have, i = [], 0, 0
    while have < n:
        out.append(b"-rw-r--r-- 1 root root %8d Nov %2d %02d:%02d file-%d.conf\r\n" % (
            i * 7919 % 99991, i % 30 + 1, i % 24, i * 7 % 60, i * 31 % 10007))
        have += len(out[-1])
        i += 1
    return b"".join(out)[:n]


def bulk(w):
    o, block, rounds = w.o, listing(1 << 20), {}
    pour = w.dir + "/pour"
    with open(pour, "wb") as f:
        for _ in range(o.mib):
            f.write(block)
    for _ in range(o.rounds + o.warm):
        for s in ("pty",) + PEERS:
            got = w.tool([w.load, "run", str(o.mib << 20)] + w.wrapped(s, [w.load, "pour", pour], "bulk"))
            got["mb_s"] = got["bytes"] / 1e6 / got["data_s"]
            files = glob.glob("%s/%s.bulk*" % (w.dir, s))
            got["file_ratio"] = sum(os.path.getsize(f) for f in files) / (o.mib << 20)
            rounds.setdefault(s, []).append(got)
            w.clean()
        for d in OURS:
            for kind in ("text", "noise"):
                rounds.setdefault("%s %s" % (d, kind), []).append(w.recorder("bulk %s %s %d" % (d, kind, o.ours_mib)))
    os.unlink(pour)
    found = {}
    for s, rows in rounds.items():
        found[s] = {"mb_s": median(rows[o.warm:], "mb_s"), "file_ratio": median(rows[o.warm:], "file_ratio")}
        if "cpu_s_per_gib" in rows[0]:
            found[s]["cpu_s_per_gib"] = median(rows[o.warm:], "cpu_s_per_gib")
    w.say("bulk: " + ", ".join("%s %.0f MB/s" % (s, e["mb_s"]) for s, e in found.items()))
    return found


# ---------------------------------------------------------------- size
def events_of(w):
    """Streams of real programs, made now: {name: path of its .events}."""
    where = w.dir + "/corpus"
    os.makedirs(where)
    if w.o.streams != "all":
        names = w.o.streams.split(",")
        corpus.STREAMS = tuple(s for s in corpus.STREAMS if s.__name__ in names)
    paths = corpus.make(where)
    for d in (w.dir, where):
        os.chmod(d, 0o755)
    return {os.path.basename(p)[:-7]: p for p in paths}


def raw_of(path):
    with open(path, "rb") as f:
        b = f.read()
    n, at = 0, 0
    while at < len(b):
        step = 1 if b[at:at + 1] == b"c" else 5
        if b[at:at + 1] == b"f":
            size = int.from_bytes(b[at + 1:at + 5], "little")
            n, step = n + size, 5 + size
        at += step
    return n


def gzipped(path):
    with open(path, "rb") as f:
        return len(gzip.compress(f.read(), 6))


def size(w):
    """Bytes on disk of the same programs' output: a recording of the whole product beside the tools' files, and beside gzip over
    the asciicast that is exported from that very recording."""
    sp, found = w.sp(), {}
    load = w.dir + "/pty_load"
    shutil.copy(w.load, load)
    os.chmod(load, 0o755)
    for name, path in events_of(w).items():
        os.chmod(path, 0o644)
        raw = raw_of(path)
        e = {"raw": raw, "sallyport": recorded_size(w, sp, load, path, raw)}
        e["export_gz"] = e["sallyport"].pop("gz")
        e["sallyport"] = e["sallyport"]["bytes"]
        for s in PEERS:
            w.tool([w.load, "run", str(raw)] + w.wrapped(s, [w.load, "feed", path], "size"))
            files = glob.glob("%s/%s.size*" % (w.dir, s))
            e[s] = sum(os.path.getsize(f) for f in files)
            e[s + "_gz"] = sum(gzipped(f) for f in files)
            w.clean()
        found[name] = e
        w.say("size %s: raw %d, ours %d = %.2fx of gzipped asciicast" % (name, raw, e["sallyport"], e["sallyport"] / e["export_gz"]))
    return {"streams": found, "sum": {k: sum(e[k] for e in found.values()) for k in next(iter(found.values()))}}


def recorded_size(w, sp, load, path, raw):
    before = {s["id"] for s in sp.sessions()}
    argv = sp.ssh_argv("alice", ["-tt", "core-01", "exec %s feed %s" % (load, path)])
    w.tool([w.load, "run", str(raw)] + argv, **sp.ssh_env("alice"))
    mine = [s["id"] for s in sp.sessions() if s["id"] not in before]
    file = "%s/recordings/%s.spr" % (sp.dir, mine[0])
    end = time.monotonic() + 60
    while not os.path.exists(file) and time.monotonic() < end:
        time.sleep(0.05)
    cast = sp.ssh("carol", "bastion", "export", mine[0], "--format", "asciicast")
    assert cast.code == 0 and len(cast.out) > raw * 0.9, cast
    return {"bytes": os.path.getsize(file), "gz": len(gzip.compress(cast.out, 6))}


def people(w):
    """Sessions at a person's pace, keys and screen, each beside a gzipped asciicast of the same bytes (bench_size.py)."""
    sp = w.sp()
    sp.add_person(bench_size.PERSON, "sizers")
    for _ in range(60):
        if sp.ssh(bench_size.PERSON, "admin@core-01", "true", mux=False).code == 0:
            break
        sp.fresh_code(bench_size.PERSON)
    found = bench_size.measure(sp, w.o.people_s)
    w.say("people: " + ", ".join("%s %.2fx" % (r["name"], r["bytes"] / r["gzip_bytes"]) for r in found))
    return found


# ---------------------------------------------------------------- seek
def seek(w):
    """A jump to any moment of a large recording. The others have none: they read from the beginning."""
    got = subprocess.run([w.tools + "/bench_seek", str(w.o.seek_mib << 20)], stdout=subprocess.PIPE, cwd=w.dir).stdout.decode()
    def said(line, name):
        words = line.replace(",", "").replace(":", "").split()
        return float(words[words.index(name) + 1])
    lines = [x for x in got.split("\n") if "jumps" in x]     # by keyframes, at once; and when all of it has been gone through
    found = {"file_mib": w.o.seek_mib, "p50_ms": said(lines[0], "p50"), "p99_ms": said(lines[0], "p99"), "max_ms": said(lines[0], "longest"),
             "indexed_max_ms": said(lines[1], "longest"), "first_ms": said([x for x in got.split("\n") if "first picture" in x][0], "70%)"),
             "said": got}
    mib, pour = w.o.peer_mib, w.dir + "/pour"
    with open(pour, "wb") as f:
        for _ in range(mib):
            f.write(listing(1 << 20))
    found["peer_mib"], found["to_the_end_s"] = mib, {}
    for s in PEERS:
        w.tool([w.load, "run", str(mib << 20)] + w.wrapped(s, [w.load, "pour", pour], "seek"))
        out = "%s/%s.seek" % (w.dir, s)
        # On a terminal: none of the players likes to be without one.
        cmd = {"script": "scriptreplay --log-timing %s.timing --log-out %s --divisor 1e9 --maxdelay 0.0001" % (out, out),
               "asciinema": "asciinema cat " + out,
               "tlog": "tlog-play --reader=file --file-path=%s --speed=1000000" % out}[s]
        t0 = time.monotonic()
        r = subprocess.run(["timeout", "600", "script", "-q", "-e", "-c", cmd, "/dev/null"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           stderr=subprocess.PIPE, cwd=w.dir, env={**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", "SHELL": "/bin/sh"})
        found["to_the_end_s"][s] = time.monotonic() - t0 if r.returncode == 0 else None
        w.clean()
    os.unlink(pour)
    w.say("seek: first picture after %(first_ms).1f ms, p50 %(p50_ms).1f ms, longest %(max_ms).1f ms (indexed: %(indexed_max_ms).1f ms); from the beginning: %(to_the_end_s)s" % found)
    return found


# ---------------------------------------------------------------- search
def timed(cmd, rounds, **how):
    took = []
    for _ in range(rounds):
        t0 = time.monotonic()
        r = subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=1800, **how)
        took.append(time.monotonic() - t0)
    return statistics.median(took), r


def casts(w, where, count, size):
    """As many asciicasts of as much text, plain and gzipped; every 100th has the words."""
    r = random.Random(1)
    pool = "".join("\033[3%dm%s\033[0m %08x %s %06d\r\n" % (r.randrange(8), r.choice(("root", "kernel:", "GET /api/v1", "error", "drwxr-xr-x")),
                                                       r.getrandbits(32), r.choice(("started", "postgres", "10.20.30.40")), r.randrange(10**6))
                   for _ in range(200000))
    os.makedirs(where)
    for i in range(count):
        at, t, lines = r.randrange(len(pool) - size), 0.0, ['{"version": 2, "width": 120, "height": 40}']
        for o in range(at, at + size, 600):
            t += 0.5
            text = pool[o:o + 600] + ("needle in haystack\r\n" if i % 100 == 0 and o == at + 3000 else "")
            lines.append(json.dumps([round(t, 6), "o", text]))
        data = "\n".join(lines).encode() + b"\n"
        with open("%s/%d.cast" % (where, i), "wb") as f:
            f.write(data)
        with gzip.open("%s/%d.cast.gz" % (where, i), "wb", compresslevel=6) as f:
            f.write(data)


def search(w):
    """`ssh bastion search WORDS`, from the keystroke to the last line, beside grep over files that nobody sealed."""
    sp, o = w.sp(), w.o
    key = sp.host("vault", "status", "--json", check=True).json()["recording_key"]
    made = subprocess.run([w.tools + "/make_recordings", sp.dir + "/recordings", key, str(o.count), str(o.bytes)],
                          stdout=subprocess.PIPE, check=True).stdout.decode().split()
    owner = os.stat(sp.dir + "/recordings")
    for i in made:
        os.chown("%s/recordings/%s.spr" % (sp.dir, i), owner.st_uid, owner.st_gid)
    cols = sp.psql("SELECT string_agg(column_name, ',') FROM information_schema.columns WHERE table_name = 'sessions' AND "
                   "is_nullable = 'NO' AND column_default IS NULL")
    bench_search.insert(sp, made, int(time.time() * 1e6), cols.split(","))
    where = w.dir + "/casts"
    casts(w, where, o.count, o.bytes)
    words, found = "needle in haystack", {"recordings": o.count, "bytes_each": o.bytes}
    argv = sp.ssh_argv("carol", ["bastion", "search", "'%s'" % words, "--limit", "10000"])
    found["sallyport_s"], r = timed(argv, o.search_rounds, env=sp.ssh_env("carol"))
    hits = r.stdout.count(words.encode())
    assert r.returncode == 0 and hits >= o.count // 100, r.stdout[-2000:]
    cmd = "find . -name '*.cast%s' -print0 | xargs -0 -P 2 -n 500 %s -l '%s'"
    found["grep_s"], r = timed(["sh", "-c", cmd % ("", "grep", words)], o.search_rounds, cwd=where)
    found["zgrep_s"], r = timed(["sh", "-c", cmd % (".gz", "zgrep", words)], 1, cwd=where)
    shutil.rmtree(where)
    for i in made:
        os.unlink("%s/recordings/%s.spr" % (sp.dir, i))
    sp.psql("SET search_path = sallyport; SET session_replication_role = replica; DELETE FROM sessions WHERE node = 'bench'")
    w.say("search over %(recordings)d: %(sallyport_s).2f s; grep %(grep_s).2f s, zgrep %(zgrep_s).2f s" % found)
    return found


# ---------------------------------------------------------------- verify
def drop(path):
    """Takes a file out of the cache, as far as it is ours to do."""
    fd = os.open(path, os.O_RDONLY)
    os.fdatasync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def verify(w):
    """sallyport-verify over one recording and over all, beside the hashes and a read of the same bytes; from the cache and the disk."""
    sp, o = w.sp(), w.o
    key = sp.host("vault", "status", "--json", check=True).json()["audit_key"]
    before = {s["id"] for s in sp.sessions()}
    r = sp.ssh("alice", "core-01", "head -c %dM /dev/urandom" % o.verify_mib, timeout=1800)
    assert len(r.out) == o.verify_mib << 20, r.err
    mine = [s["id"] for s in sp.sessions() if s["id"] not in before][0]
    path = "%s/recordings/%s.spr" % (sp.dir, mine)
    end = time.monotonic() + 120
    while not os.path.exists(path) and time.monotonic() < end:
        time.sleep(0.05)
    n, tool = os.path.getsize(path), sp.dir + "/opt/bin/sallyport-verify"
    each = {"verify": [tool, "file", path, "--key", key], "sha256sum": ["sha256sum", path], "b2sum": ["b2sum", path],
            "openssl sha256": ["openssl", "dgst", "-sha256", path], "dd": ["dd", "if=" + path, "of=/dev/null", "bs=1M", "status=none"],
            "verify all": [tool, "all", "--key", key, "--log", sp.dir + "/tlog", "--recordings", sp.dir + "/recordings"]}
    rounds = {}
    for cold in (False, True):
        for _ in range(o.rounds + 1):
            for name, cmd in each.items():
                if cold:
                    drop(path)
                t0 = time.monotonic()
                r = subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
                rounds.setdefault((name, cold), []).append(n / 1e9 / (time.monotonic() - t0))
                assert r.returncode == 0 or name == "verify all", (cmd, r.stdout[-2000:])
    found = {"bytes": n, "cached": {}, "disk": {}}
    for (name, cold), rows in rounds.items():
        found["disk" if cold else "cached"][name] = statistics.median(rows[1:])
    w.say("verify: cached %s; disk %s GB/s" % tuple({k: round(v, 2) for k, v in found[x].items()} for x in ("cached", "disk")))
    return found
