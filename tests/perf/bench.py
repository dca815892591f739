# SPDX-License-Identifier: Apache-2.0
"""make bench: direct ssh, `ssh -J` through OpenSSH, and Sallyport, side by side in one run.

Rounds are interleaved, medians taken; ratios are what counts, absolute numbers belong to the machine. Sallyport runs with
policy, vault, database, second factor and recording on. Prints a table; --json FILE writes it as JSON.
"""
import argparse
import getpass
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance, free_port, wait_for  # noqa: E402

SYSTEMS = ("direct", "jump", "sallyport")


class Sshd:
    def __init__(self, work, name, extra=""):
        self.port, self.dir = free_port(), work + "/" + name
        os.mkdir(self.dir)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.dir + "/hk"], check=True)
        with open(self.dir + "/conf", "w") as f:
            f.write("ListenAddress 127.0.0.1:%d\nHostKey %s/hk\nUsePAM no\nAuthorizedKeysFile %s/user.pub\nStrictModes no\n"
                    "PidFile none\nPermitRootLogin yes\nMaxStartups 1000\nMaxSessions 100\nLogLevel ERROR\n%s"
                    % (self.port, self.dir, work, extra))
        os.makedirs("/run/sshd", exist_ok=True)
        self.p = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", self.dir + "/conf"])

    def hostkey(self):
        with open(self.dir + "/hk.pub") as f:
            return " ".join(f.read().split()[:2])


def ppids():
    out = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % pid) as f:
                out[int(pid)] = int(f.read().rsplit(")", 1)[1].split()[1])
        except OSError:
            pass
    return out


def tree(root):
    parents, found = ppids(), {root}
    grew = True
    while grew:
        more = {p for p, q in parents.items() if q in found} - found
        grew = bool(more)
        found |= more
    return found


def pss_kib(pids):
    total = 0
    for pid in pids:
        try:
            with open("/proc/%d/smaps_rollup" % pid) as f:
                total += sum(int(x.split()[1]) for x in f if x.startswith("Pss:"))
        except OSError:
            pass
    return total


class Bench:
    def __init__(self, rounds, mib, keys, idle):
        self.rounds, self.mib, self.keys, self.idle = rounds, mib, keys, idle
        self.work = tempfile.mkdtemp(prefix="sp-bench-", dir="/var/tmp")
        os.chmod(self.work, 0o755)
        self.user = getpass.getuser()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.work + "/user"], check=True)
        self.sp = Instance(policy='permit "bench" who group sysadmins on any as any require mfa totp for 8h\n')
        with open(self.work + "/ca.pub", "wb") as f:
            f.write(self.sp.host("vault", "ca-key", check=True).out)
        with open(self.work + "/principals", "w") as f:
            f.write(self.user + "@bench\n")
        self.target = Sshd(self.work, "target", "TrustedUserCAKeys %s/ca.pub\nAuthorizedPrincipalsFile %s/principals\n"
                           % (self.work, self.work))
        self.jump = Sshd(self.work, "jumphost")
        self.sp.host("target", "add", "bench", "--addr", "127.0.0.1", "--port", str(self.target.port), "--tag", "bench",
                     "--host-key", self.target.hostkey(), check=True)
        self.sp.host("account", "add", self.user + "@bench", "--kind", "cert", check=True)
        self.askpass = self.work + "/askpass"
        with open(self.askpass, "w") as f:
            f.write("#!/bin/sh\nread c < %s/code; echo $c\n" % self.work)
        os.chmod(self.askpass, 0o755)
        self.write_config()
        with open(self.work + "/random", "wb") as f:
            for _ in range(mib):
                f.write(os.urandom(1 << 20))
        os.chmod(self.work + "/random", 0o644)

    def write_config(self):
        common = ("  User %s\n  IdentityFile %s/user\n  IdentitiesOnly yes\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n"
                  "  StrictHostKeyChecking no\n  KexAlgorithms curve25519-sha256\n  Ciphers aes128-gcm@openssh.com\n")
        with open(self.work + "/conf", "w") as f:
            f.write("Host direct\n  HostName 127.0.0.1\n  Port %d\n" % self.target.port + common % (self.user, self.work))
            f.write("Host hop\n  HostName 127.0.0.1\n  Port %d\n" % self.jump.port + common % (self.user, self.work))
            f.write("Host jump\n  HostName 127.0.0.1\n  Port %d\n  ProxyJump hop\n" % self.target.port
                    + common % (self.user, self.work))
            f.write("Host sallyport\n  HostName 127.0.0.1\n  Port %d\n" % self.sp.port
                    + (common % ("alice+%s+bench" % self.user, self.sp.dir + "/people/alice")).replace("/user\n", "/id_ed25519\n"))

    def fresh_code(self):
        self.sp.fresh_code("alice")
        with open(self.sp.dir + "/people/alice/totp.secret") as f:
            secret = f.read().strip()
        code = subprocess.run(["oathtool", "--totp", "--base32", secret], stdout=subprocess.PIPE, check=True).stdout
        with open(self.work + "/code", "wb") as f:
            f.write(code)

    def argv(self, system, *args):
        return ["ssh", "-F", self.work + "/conf"] + list(args[:-1]) + [system] + list(args[-1:])

    def env(self):
        e = dict(os.environ)
        e.update(SSH_ASKPASS=self.askpass, SSH_ASKPASS_REQUIRE="force", DISPLAY=":0")
        return e

    def run(self, system, *args, **kw):
        if system == "sallyport":
            self.fresh_code()
        t = time.perf_counter()
        p = subprocess.run(self.argv(system, *args), env=self.env(), stderr=subprocess.PIPE, **kw)
        t = time.perf_counter() - t
        if p.returncode != 0:
            raise SystemExit("bench: %s failed: %s" % (system, p.stderr.decode("utf-8", "replace")))
        return t

    def true(self):
        got = {s: [] for s in SYSTEMS}
        for i in range(self.rounds + 1):
            for s in SYSTEMS:
                t = self.run(s, "true", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
                if i:
                    got[s].append(t * 1000)
        return {s: statistics.median(v) for s, v in got.items()}

    def bulk(self, up):
        got = {s: [] for s in SYSTEMS}
        path = self.work + "/random"
        for _ in range(3):
            for s in SYSTEMS:
                if up:
                    with open(path, "rb") as f:
                        t = self.run(s, "cat >/dev/null", stdin=f, stdout=subprocess.DEVNULL)
                else:
                    t = self.run(s, "cat " + path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
                got[s].append(self.mib / t)
        return {s: statistics.median(v) for s, v in got.items()}

    def start(self, system, *args):
        if system == "sallyport":
            self.fresh_code()
        return subprocess.Popen(self.argv(system, *args), env=self.env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL, bufsize=0)

    def echo(self):
        p50, p99 = {}, {}
        procs = {s: self.start(s, "-T", "exec cat") for s in SYSTEMS}
        got = {s: [] for s in SYSTEMS}
        for s in SYSTEMS:
            for _ in range(20):
                procs[s].stdin.write(b"x")
                procs[s].stdout.read(1)
        for i in range(self.keys):
            for s in SYSTEMS:
                p = procs[s]
                t = time.perf_counter()
                p.stdin.write(b"x")
                if p.stdout.read(1) != b"x":
                    raise SystemExit("bench: echo through %s broke" % s)
                got[s].append((time.perf_counter() - t) * 1e6)
        for s, p in procs.items():
            p.stdin.close()
            p.wait()
            v = sorted(got[s])
            p50[s], p99[s] = v[len(v) // 2], v[int(len(v) * 0.99)]
        return p50, p99

    def memory(self):
        """PSS that one idle session with a terminal adds to the middle's processes."""
        out = {}
        with open(self.sp.dir + "/run/sallyportd.pid") as f:
            roots = {"jump": self.jump.p.pid, "sallyport": int(f.read().split()[0])}
        for s in ("jump", "sallyport"):
            first = self.start(s, "-tt", "echo up; exec cat")
            first.stdout.read(2)
            before = pss_kib(tree(roots[s]))
            procs = []
            for _ in range(self.idle):
                p = self.start(s, "-tt", "echo up; exec cat")
                p.stdout.read(2)
                procs.append(p)
            out[s] = (pss_kib(tree(roots[s])) - before) / self.idle
            for p in procs + [first]:
                p.kill()
                p.wait()
        return out

    def close(self):
        for d in (self.target, self.jump):
            d.p.terminate()
            d.p.wait()
        self.sp.close()
        shutil.rmtree(self.work, ignore_errors=True)


def row(name, unit, values, lower_is_better):
    r = {"name": name, "unit": unit, "values": {k: round(v, 1) for k, v in values.items()}}
    for other in ("direct", "jump"):
        if other in values and "sallyport" in values:
            r["ratio_to_" + other] = round(values["sallyport"] / values[other], 3)
    r["lower_is_better"] = lower_is_better
    return r


def table(rows):
    print("%-34s %10s %10s %10s   %s" % ("", "direct", "ssh -J", "sallyport", "sallyport / direct, / ssh -J"))
    for r in rows:
        v = r["values"]
        cells = ["%10.1f" % v[s] if s in v else "%10s" % "-" for s in SYSTEMS]
        ratios = ", ".join("%.2fx" % r[k] if k in r else "-" for k in ("ratio_to_direct", "ratio_to_jump"))
        print("%-34s %s   %s  (%s is better)" % ("%s, %s" % (r["name"], r["unit"]), " ".join(cells), ratios,
                                             "less" if r["lower_is_better"] else "more"))


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--json", metavar="FILE")
    a.add_argument("--rounds", type=int, default=11)
    a.add_argument("--mib", type=int, default=256)
    a.add_argument("--keys", type=int, default=1000)
    a.add_argument("--idle", type=int, default=20)
    o = a.parse_args()
    b = Bench(o.rounds, o.mib, o.keys, o.idle)
    try:
        rows = [row("run `true`, new connection, median", "ms", b.true(), True)]
        p50, p99 = b.echo()
        rows += [row("echo of one byte, p50", "us", p50, True), row("echo of one byte, p99", "us", p99, True)]
        rows += [row("exec download", "MiB/s", b.bulk(False), False), row("exec upload", "MiB/s", b.bulk(True), False)]
        rows += [row("memory of an idle session (PSS)", "KiB", b.memory(), True)]
    finally:
        b.close()
    table(rows)
    if o.json:
        with open(o.json, "w") as f:
            json.dump({"rounds": o.rounds, "mib": o.mib, "keys": o.keys, "idle_sessions": o.idle, "durability": "input",
                       "rows": rows}, f, indent=1)
            f.write("\n")
        print("written to " + o.json)


if __name__ == "__main__":
    main()
