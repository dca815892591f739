# SPDX-License-Identifier: Apache-2.0
"""Who logs in at Sallyport in a measurement, with which one-time code.

A code opens once, and a step is 30 s long: many people, or a new secret where all codes of a person are used up. Either is done
before the clock of a measurement starts.
"""
import base64
import concurrent.futures
import hashlib
import hmac
import os
import struct
import subprocess
import time

from sshd import keygen


def totp(secret, step):
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    h = hmac.new(key, struct.pack(">Q", step), hashlib.sha1).digest()
    at = h[-1] & 15
    return "%06d" % ((struct.unpack(">I", h[at:at + 4])[0] & 0x7fffffff) % 1000000)


class Person:
    def __init__(self, sp, work, name, group):
        self.sp, self.name, self.key, self.last = sp, name, "%s/key-%s" % (work, name), 0
        keygen(self.key)
        with open(self.key + ".pub") as f:
            pub = f.read().strip()
        sp.host("users", "add", name, "--display", name, "--group", group, "--key", pub, check=True)
        self.enrol()

    def enrol(self):
        self.secret = self.sp.host("users", "totp", self.name, "--json", check=True).json()["secret"].strip()
        self.last = 0

    def codes_left(self):
        """The bastion takes a code from one step before to one step after."""
        return min(2, max(0, int(time.time()) // 30 + 1 - self.last))

    def code(self):
        step = max(int(time.time()) // 30, self.last + 1)
        self.last = step
        return totp(self.secret, step)


class People:
    def __init__(self, sp, work, prefix, group, n):
        self.next = 0
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            self.all = list(pool.map(lambda i: Person(sp, work, "%s%d" % (prefix, i), group), range(n)))

    def turn(self):
        self.next = (self.next + 1) % len(self.all)
        return self.all[self.next]

    def logins(self, n):
        """n pairs of a person and a code, to be used in this order within 30 s."""
        if sum(p.codes_left() for p in self.all) < n:
            for p in self.all:
                p.enrol()
        out = []
        for _ in range(2 * len(self.all)):
            p = self.turn()
            if len(out) < n and p.codes_left():
                out.append((p, p.code()))
        if len(out) < n:
            raise SystemExit("bench: %d people are too few for %d logins at once" % (len(self.all), n))
        return out


def approve(sp, askpass, person, account, length="4h"):
    """A request by the person, approved by bob."""
    argv = ["ssh", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
            "-o", "IdentitiesOnly=yes", "-i", person.key, "-p", str(sp.port), person.name + "@127.0.0.1",
            "request", account, "--for", length, "--reason", "measurement", "--json"]
    env = dict(os.environ, SSH_ASKPASS=askpass, SSH_ASKPASS_REQUIRE="force", DISPLAY=":0", SP_BENCH_CODE=person.code())
    r = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    if r.returncode != 0:
        raise SystemExit("bench: request: " + r.stderr.decode("utf-8", "replace"))
    import json
    number = json.loads(r.stdout)["id"]
    r = sp.ssh("bob", "bastion", "approve", str(number), timeout=120)
    if r.code != 0:
        raise SystemExit("bench: approve: %r" % r)
