# SPDX-License-Identifier: Apache-2.0
"""An instance of the real thing for end-to-end tests: made by ./quickstart, used with OpenSSH's own client.

Tests wait for conditions, never for a time. Each instance lives in a directory and on ports of its own and is stopped at
exit; so is every process that a test started.
"""
import atexit
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def free_port(addr="127.0.0.1"):
    with socket.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET) as s:
        s.bind((addr, 0))
        return s.getsockname()[1]


def wait_for(condition, seconds=20, what="the condition"):
    """Returns the condition's first true value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("waited %gs in vain for %s" % (seconds, what))
        time.sleep(0.02)


def scratch(prefix, dir="/var/tmp"):
    """A directory that goes with the process, whatever becomes of the test."""
    d = tempfile.mkdtemp(prefix=prefix, dir=dir)
    if not os.environ.get("SALLYPORT_KEEP"):
        atexit.register(shutil.rmtree, d, True)
    return d


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def text(self):
        return (self.out + self.err).decode("utf-8", "replace")

    def json(self):
        return json.loads(self.out)

    def __repr__(self):
        return "exit %s\n--- out\n%s\n--- err\n%s" % (
            self.code, self.out.decode("utf-8", "replace")[-4000:], self.err.decode("utf-8", "replace")[-4000:])


class Instance:
    def __init__(self, directory=None, policy=None):
        self.own = directory is None
        self.dir = directory or tempfile.mkdtemp(prefix="sp-e2e-", dir="/var/tmp")
        if self.own:
            os.chmod(self.dir, 0o755)
            self.dir = os.path.join(self.dir, "d")
        self.port = free_port()
        self.people = {}
        self.started = []
        atexit.register(self.close)
        self.quickstart("--no-tour", "--port", str(self.port))
        if policy:
            self.load_policy(policy)

    def quickstart(self, *args, timeout=600):
        r = subprocess.run([TOP + "/quickstart", "--no-install", "--dir", self.dir] + list(args), stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout)
        if r.returncode != 0:
            raise AssertionError("quickstart failed:\n" + r.stdout.decode("utf-8", "replace")[-6000:])
        return r.stdout.decode("utf-8", "replace")

    def close(self):
        atexit.unregister(self.close)
        for p in self.started:
            if p.poll() is None:
                p.kill()
                p.wait()
        if os.path.exists(self.dir + "/demo.conf"):
            subprocess.run([TOP + "/quickstart", "stop", "--dir", self.dir], stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
        if self.own and not os.environ.get("SALLYPORT_KEEP"):
            shutil.rmtree(os.path.dirname(self.dir), ignore_errors=True)

    # ------------------------------------------------------------- the host
    def env(self):
        e = dict(os.environ)
        o = self.dir + "/opt"
        e.update(SALLYPORT_DIR=self.dir, SALLYPORT_LIBEXEC=o + "/libexec/sallyport",
                 SALLYPORT_SQLDIR=o + "/share/sallyport/sql", SALLYPORT_PAMDIR=o + "/lib/security")
        return e

    def host(self, *args, input=None, check=False, timeout=60):
        """`sallyport ARGS` on the host."""
        p = subprocess.run([self.dir + "/opt/bin/sallyport", "-D", self.dir] + list(args), input=input,
                           stdin=None if input is not None else subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=timeout, env=self.env())
        r = Result(p.returncode, p.stdout, p.stderr)
        if check and r.code != 0:
            raise AssertionError("sallyport %s: %r" % (" ".join(args), r))
        return r

    def configure(self, **settings):
        """Writes these settings into the configuration; read at the next start or reload."""
        path = self.dir + "/sallyport.conf"
        with open(path) as f:
            lines = [x for x in f.read().split("\n") if x.split(" ")[0] not in settings]
        with open(path, "w") as f:
            f.write("\n".join(lines + ["%s %s" % kv for kv in settings.items()]) + "\n")

    def load_policy(self, text):
        path = self.dir + "/test.policy"
        with open(path, "w") as f:
            f.write(text)
        self.host("policy", "load", path, check=True)

    def lib(self, script, *args):
        """Runs a function of the quickstart's library."""
        code = 'top=%s; . "$top/demo/lib.sh"; env_of "$1"; %s' % (TOP, script)
        r = subprocess.run(["bash", "-c", code, "lib", self.dir] + list(args), stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
        if r.returncode != 0:
            raise AssertionError(r.stdout.decode("utf-8", "replace"))

    def add_person(self, name, groups, display=None):
        self.lib('add_person "$1" "$2" "$3" "$4"', name, display or name, groups)

    def fresh_code(self, name):
        """Enrols a new one-time secret, so that the next login need not wait for the clock."""
        r = self.host("users", "totp", name, "--json", check=True)
        p = "%s/people/%s/" % (self.dir, name)
        with open(p + "totp.secret", "w") as f:
            f.write(r.json()["secret"] + "\n")
        for f in ("totp.used",):
            if os.path.exists(p + f):
                os.unlink(p + f)

    def psql(self, sql, check=True):
        """As the database's superuser, past every right: what a curious DBA can do."""
        sock = self.dir + "/run/db"
        if os.path.exists(self.dir + "/run/db.path"):
            with open(self.dir + "/run/db.path") as f:
                sock = f.read().strip()
        cmd = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", sock, "-U", "postgres", "-d", "sallyport", "-f", "-"]
        r = subprocess.run(cmd, input=sql.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, cwd="/")
        if check and r.returncode != 0:
            raise AssertionError(r.stderr.decode())
        return r.stdout.decode().strip()

    # ---------------------------------------------------------------- people
    def ssh_argv(self, who, args, mux=True, opts=()):
        a = ["ssh", "-F", "%s/people/%s/ssh_config" % (self.dir, who)]
        if not mux:
            a += ["-o", "ControlPath=none", "-o", "ControlMaster=no"]
        for o in opts:
            a += ["-o", o]
        return a + list(args)

    def ssh_env(self, who, reason=None):
        e = dict(os.environ)
        e.update(SSH_ASKPASS="%s/people/%s/askpass" % (self.dir, who), SSH_ASKPASS_REQUIRE="force", DISPLAY=":0",
                 LC_ALL="C.UTF-8")
        if reason is not None:
            e["SALLYPORT_REASON"] = reason
        return e

    def ssh(self, who, *args, input=None, timeout=60, mux=True, opts=(), reason=None):
        p = subprocess.run(self.ssh_argv(who, args, mux, opts), input=input,
                           stdin=None if input is not None else subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=timeout, env=self.ssh_env(who, reason))
        return Result(p.returncode, p.stdout, p.stderr)

    def ssh_start(self, who, *args, mux=True, opts=(), reason=None, stdin=subprocess.DEVNULL):
        p = subprocess.Popen(self.ssh_argv(who, args, mux, opts), stdin=stdin, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, env=self.ssh_env(who, reason), bufsize=0)
        self.started.append(p)
        return p

    @staticmethod
    def drop(p):
        """Kills a client. Its pipes are not read to their end: a proxy of it may hold them for a while."""
        p.kill()
        p.wait()
        for pipe in (p.stdin, p.stdout, p.stderr):
            if pipe:
                try:
                    pipe.close()
                except OSError:
                    pass

    def end_mux(self, who):
        """Ends the shared connection, if there is one."""
        subprocess.run(self.ssh_argv(who, ["-O", "exit", "bastion"]), stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=20)

    def grant(self, who="alice", account="admin@core-01", approver="bob", length="30m", reason="test"):
        """A request and its approval; returns its number."""
        r = self.ssh(who, "bastion", "request", account, "--for", length, "--reason", reason, "--json")
        if r.code != 0:
            raise AssertionError("request: %r" % r)
        number = r.json()["id"]
        r = self.ssh(approver, "bastion", "approve", str(number))
        if r.code != 0:
            raise AssertionError("approve: %r" % r)
        return number

    # --------------------------------------------------------------- looking
    def audit(self, event=None, limit=1000):
        args = ["audit", "--json", "--limit", str(limit)]
        if event:
            args += ["--event", event]
        return self.host(*args, check=True).json()

    def sessions(self, all=True):
        return self.host("sessions", *(["--all"] if all else []), "--json", check=True).json()

    def pids(self, role):
        """Live processes of a role, parents included, children last."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                exe = os.readlink("/proc/%s/exe" % pid)
                with open("/proc/%s/stat" % pid) as f:
                    ppid = int(f.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            if exe.startswith(os.path.realpath(self.dir) + "/opt/") and exe.split(" ")[0].endswith("sallyport-" + role):
                found.append((int(pid), ppid))
        ids = {p for p, _ in found}
        parents = [p for p, q in found if q not in ids]
        return parents, [p for p, q in found if q in ids]

    def log(self):
        with open(self.dir + "/log/sallyport.log", errors="replace") as f:
            return f.read()


def read_until(stream, pattern, seconds=30):
    """Reads an unbuffered pipe until the bytes match; returns what was read."""
    import select
    got, end = b"", time.monotonic() + seconds
    rx = re.compile(pattern, re.S)
    while not rx.search(got):
        left = end - time.monotonic()
        if left <= 0 or not select.select([stream], [], [], left)[0]:
            raise AssertionError("no %r in %r" % (pattern, got[-3000:]))
        piece = os.read(stream.fileno(), 65536)
        if not piece:
            raise AssertionError("ended before %r: %r" % (pattern, got[-3000:]))
        got += piece
    return got


class _Result(unittest.TextTestResult):
    def __init__(self, *a, **k):
        super().__init__(*a, **k)
        self.good = 0

    def addSuccess(self, test):
        super().addSuccess(test)
        self.good += 1
        print("ok %s" % test.id().replace("__main__.", ""), flush=True)


def give_up(number, frame):
    """Out of time, or told to end: nothing of it stays behind."""
    print("ended by %s" % signal.Signals(number).name, flush=True)
    atexit._run_exitfuncs()
    os._exit(124)


def main():
    """Runs the tests of the calling file; the last line is `N passed, N failed`."""
    for number in (signal.SIGALRM, signal.SIGTERM):
        signal.signal(number, give_up)
    signal.alarm(int(os.environ.get("SALLYPORT_TEST_SECONDS", "1450")))
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])
    if len(sys.argv) > 1:
        suite = unittest.defaultTestLoader.loadTestsFromNames(sys.argv[1:], sys.modules["__main__"])
    r = unittest.TextTestRunner(stream=sys.stdout, resultclass=_Result, verbosity=0).run(suite)
    bad = len(r.failures) + len(r.errors)
    print("%d passed, %d failed" % (r.good, bad), flush=True)
    sys.stdout.flush()
    sys.exit(1 if bad or not r.good else 0)
