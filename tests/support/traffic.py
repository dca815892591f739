# SPDX-License-Identifier: Apache-2.0
"""Sessions under traffic, and the question whether a byte of them is missing from the record.

A Load runs `tee FILE` on the practice target and feeds it numbered lines. FILE is what reached the target, the client's
output is what reached the user; both must be a prefix of what the recording holds.
"""
import base64
import json
import os
import random
import subprocess
import threading
import time

from sp import wait_for


class Load:
    """One session: numbered lines in, the same lines back, until stop() or until the bastion ends it."""

    def __init__(self, sp, who, name, burst=1 << 20, pause=0.002, opts=(), noise=0):
        """noise: that many bytes which cannot be packed, instead of lines."""
        self.noise = random.Random(name).randbytes(noise)
        self.sp, self.who, self.name = sp, who, name
        self.burst, self.pause = burst, pause
        self.reached_target = os.path.join(sp.dir, "target/home/admin", name)
        self.reached_user = os.path.join(sp.dir, name + ".out")
        self.said = os.path.join(sp.dir, name + ".err")
        self.fed = 0
        self.is_ending = threading.Event()
        self.is_paused = threading.Event()
        self.stopped_at = None
        with open(self.reached_user, "wb") as out, open(self.said, "wb") as err:
            self.p = subprocess.Popen(sp.ssh_argv(who, ["core-01", "exec tee " + name], True, opts),
                                      stdin=subprocess.PIPE, stdout=out, stderr=err, env=sp.ssh_env(who), bufsize=0)
        sp.started.append(self.p)
        self.thread = threading.Thread(target=self._feed, daemon=True)
        self.thread.start()

    def line(self, n):
        return b"%s %012d %s\n" % (self.name.encode(), n, b"x" * (n % 41))

    def text(self, size):
        if self.noise:
            return self.noise[:size]
        out, n, have = [], 0, 0
        while have < size:
            out.append(self.line(n))
            have += len(out[-1])
            n += 1
        return b"".join(out)[:size]

    def _feed(self):
        n, fd = 0, self.p.stdin.fileno()
        try:
            while not self.is_ending.is_set():
                if self.is_paused.is_set():
                    time.sleep(0.005)
                    continue
                piece = self.noise[self.fed:self.fed + 65536]
                fast = self.fed < self.burst
                while not self.noise and len(piece) < (65536 if fast else 1):
                    piece += self.line(n)
                    n += 1
                if not piece:
                    break
                view = memoryview(piece)
                while view:
                    k = os.write(fd, view)
                    self.fed += k
                    view = view[k:]
                if not fast:
                    time.sleep(self.pause)       # the pace of a typist, not a wait for something
        except OSError:
            pass
        finally:
            try:
                self.p.stdin.close()
            except OSError:
                pass
            self.stopped_at = time.monotonic()

    def at_user(self):
        return os.path.getsize(self.reached_user)

    def at_target(self):
        return os.path.getsize(self.reached_target) if os.path.exists(self.reached_target) else 0

    def wait_flow(self, more=1, seconds=20):
        """Waits until that many bytes more have come back to the user."""
        goal = self.at_user() + more
        wait_for(lambda: self.at_user() >= goal or self.p.poll() is not None, seconds, "bytes of " + self.name)
        if self.at_user() < goal:
            raise AssertionError("%s ended (exit %s): %s" % (self.name, self.p.poll(), self.errors()))

    def stop(self, seconds=30):
        self.is_ending.set()
        self.is_paused.clear()
        return self.wait_end(seconds)

    def wait_end(self, seconds=30):
        code = self.p.wait(timeout=seconds)
        self.is_ending.set()
        self.thread.join(seconds)
        if self.p in self.sp.started:
            self.sp.started.remove(self.p)
        return code

    def errors(self):
        with open(self.said, errors="replace") as f:
            return f.read()

    def clean(self):
        for path in (self.reached_target, self.reached_user, self.said):
            if os.path.exists(path):
                os.unlink(path)


def records(sp, session):
    """The recorded bytes of a session: (commands, in, out)."""
    r = sp.host("export", session, "--format", "records", timeout=120)
    if r.code != 0:
        raise AssertionError("export %s: %r" % (session, r))
    commands, got = b"", {"in": [], "out": []}
    for x in r.out.splitlines():
        o = json.loads(x)
        if o["kind"] in got:
            got[o["kind"]].append(base64.b64decode(o["data"]))
        elif o["kind"] == "open":
            commands += base64.b64decode(o["data"]) + b"\n"
    return commands, b"".join(got["in"]), b"".join(got["out"])


def read(path):
    if not os.path.exists(path):
        return b""
    with open(path, "rb") as f:
        return f.read()


def missing(load, rec_in, rec_out):
    """What is wrong with the record of a load; None when nothing is."""
    at_target, at_user = read(load.reached_target), read(load.reached_user)
    fed = load.text(load.fed)
    if not rec_in.startswith(at_target):
        return "%s: %d bytes reached the target, %d are recorded" % (load.name, len(at_target), len(rec_in))
    if not rec_out.startswith(at_user):
        return "%s: %d bytes reached the user, %d are recorded" % (load.name, len(at_user), len(rec_out))
    if not fed.startswith(at_target) or not fed.startswith(at_user):
        return "%s: what arrived is not what was sent" % load.name
    return None


def match(sp, loads, sessions):
    """Finds each load's session by the command in its record. Returns {name: session id}, the faults found."""
    by_name, faults = {}, []
    for s in sessions:
        commands, rec_in, rec_out = records(sp, s)
        for x in loads:
            if b"tee " + x.name.encode() not in commands:
                continue
            by_name[x.name] = s
            why = missing(x, rec_in, rec_out)
            if why:
                faults.append("session %s, %s" % (s, why))
    for x in loads:
        if x.name not in by_name and (x.at_target() or x.at_user()):
            faults.append("%s: it moved bytes and has no recording" % x.name)
    return by_name, faults
