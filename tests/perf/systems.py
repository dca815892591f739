# SPDX-License-Identifier: Apache-2.0
"""The systems side by side, each on loopback ports of its own, all with the same ciphers and key exchange."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance  # noqa: E402
import people  # noqa: E402
import procs  # noqa: E402
from sshd import CIPHER, GID, KEX, UID, USER, Delay, Sshd, accounts, keygen, now  # noqa: E402

NAMES = {"direct": "direct ssh", "jump": "ssh -J through OpenSSH", "classic": "shell on a bastion", "sallyport": "Sallyport",
         "sallyj": "Sallyport by ssh -J", "digest": "Sallyport, digest"}
POLICY = """permit "elevation" who group sysadmins on tag bench as any
  require approval 1 of approvers, mfa totp
  for 8h
permit "standing" who group load on tag bench as any
  require mfa totp
  for 8h
permit "digest" who group digest on tag bench as any
  require mfa totp
  for 8h
  record exec digest
"""
ROLES = ("supervisor", "ingress", "auth", "broker", "vault", "recorder", "egress", "egress-sql", "player", "scribe", "files", "postgres")


class World:
    def __init__(self, o):
        self.o = o
        self.tools = os.environ.get("SALLYPORT_BUILD", "build") + "/tests/perf"
        self.work = tempfile.mkdtemp(prefix="sp-bench-", dir="/var/tmp")
        os.chmod(self.work, 0o755)
        self.groups, self.servers, self.sp = procs.Groups(), [], None
        self.askpass = self.work + "/askpass"
        shutil.copy(self.tools + "/askpass", self.askpass)
        home = accounts(self.work)
        keygen(self.work + "/user")
        keygen(home + "/id")
        with open(self.work + "/user.pub", "a") as out, open(home + "/id.pub") as f:
            out.write(f.read())
        if os.getuid() == 0:
            os.chown(home + "/id", UID, GID)
        self.random(o.mib)
        try:
            self.begin(home)
        except BaseException:
            self.close()
            raise

    def random(self, mib):
        for name, n in (("random", mib), ("small", self.o.far_mib)):
            with open(self.work + "/" + name, "wb") as f:
                for _ in range(n):
                    f.write(os.urandom(1 << 20))
            os.chmod(self.work + "/" + name, 0o644)

    def begin(self, home):
        o = self.o
        self.sp = Instance(policy=POLICY)
        self.configure(durability="input")
        with open(self.work + "/ca.pub", "wb") as f:
            f.write(self.sp.host("vault", "ca-key", check=True).out)
        with open(self.work + "/principals", "w") as f:
            f.write(USER + "@bench\n")
        self.target = self.server("target", "TrustedUserCAKeys %s/ca.pub\nAuthorizedPrincipalsFile %s/principals\n"
                                  % (self.work, self.work))
        self.hop, self.classic = self.server("hop"), self.server("classic")
        self.sp.host("target", "add", "bench", "--addr", "127.0.0.1", "--port", str(self.target.port), "--tag", "bench",
                     "--host-key", self.target.hostkey(), check=True)
        self.sp.host("account", "add", USER + "@bench", "--kind", "cert", check=True)
        self.far = Delay(self.tools + "/delay", o.rtt_ms, [s.port for s in (self.target, self.hop, self.classic)] + [self.sp.port])
        self.servers.append(self.far)
        with open(home + "/conf", "w") as f:
            f.write("Host target\n  HostName 127.0.0.1\n  Port %d\n" % self.target.port + self.common(home + "/id", USER))
        self.granted = people.People(self.sp, self.work, "g", "sysadmins", o.granted)
        for p in self.granted.all:
            people.approve(self.sp, self.askpass, p, USER + "@bench")
        self.sp.end_mux("bob")
        self.load = people.People(self.sp, self.work, "p", "load", o.people) if o.people else None
        # Of what their commands move, a recording keeps length and SHA-256.
        self.digest = people.People(self.sp, self.work, "d", "digest", 2) if "bulk" in o.only else None
        self.write_configs()
        for role in ("target", "hop", "classic"):
            self.groups.add(role, [getattr(self, role).p.pid])
        self.group_sallyport()

    def server(self, name, extra=""):
        s = Sshd(self.work, name, extra)
        self.servers.append(s)
        return s

    # ------------------------------------------------------------ Sallyport's settings
    def configure(self, **settings):
        """Writes settings and starts afresh. Limits are those of a busy bastion: all connections come from one address."""
        path = self.sp.dir + "/sallyport.conf"
        settings.update(max_per_source=20000, max_connections=20000, max_startups=1000)
        with open(path) as f:
            text = f.read()
        for k, v in settings.items():
            text = re.sub(r"(?m)^%s .*\n" % k, "", text) + "%s %s\n" % (k, v)
        with open(path, "w") as f:
            f.write(text)
        self.sp.host("stop", check=True, timeout=120)
        self.sp.host("start", check=True, timeout=120)
        self.durability = settings["durability"]
        if "all" in self.groups.roots:
            self.group_sallyport()

    def group_sallyport(self):
        with open(self.sp.dir + "/run/sallyportd.pid") as f:
            sup = int(f.read().split()[0])
        for role in ROLES[1:-1]:
            parents, _ = self.sp.pids(role)
            self.groups.add(role, parents)
        with open(self.sp.dir + "/pg/postmaster.pid") as f:
            self.groups.add("postgres", [int(f.readline())])
        self.groups.add_only("supervisor", sup)
        self.groups.roots["all"] = set()

    def roles(self, system):
        return {"direct": ["target"], "jump": ["hop"], "classic": ["classic"]}.get(system, list(ROLES))

    # ------------------------------------------------------------------- the client
    def common(self, key, user):
        return ("  User %s\n  IdentityFile %s\n  IdentitiesOnly yes\n  IdentityAgent none\n  UserKnownHostsFile /dev/null\n"
                "  GlobalKnownHostsFile none\n  StrictHostKeyChecking no\n  LogLevel ERROR\n  KexAlgorithms %s\n  Ciphers %s\n"
                "  PreferredAuthentications publickey,keyboard-interactive\n  NumberOfPasswordPrompts 1\n"
                % (user, key, KEX, CIPHER))

    def write_configs(self):
        def host(f, name, port, key, user, more=""):
            f.write("Host %s\n  HostName 127.0.0.1\n  Port %d\n%s" % (name, port, more) + self.common(key, user))

        key = self.work + "/user"
        with open(self.work + "/conf", "w") as f:
            for tail, at in (("", lambda p: p), ("-far", lambda p: self.far.to[p])):
                host(f, "direct" + tail, at(self.target.port), key, USER)
                host(f, "hop" + tail, at(self.hop.port), key, USER)
                host(f, "classic" + tail, at(self.classic.port), key, USER)
                host(f, "jump" + tail, self.target.port, key, USER, "  ProxyJump hop%s\n" % tail)
        for p in self.granted.all + [x for g in (self.load, self.digest) if g for x in g.all]:
            with open("%s/conf-%s" % (self.work, p.name), "w") as f:
                for tail, port in (("", self.sp.port), ("-far", self.far.to[self.sp.port])):
                    host(f, "sallyport" + tail, port, p.key, "%s+%s+bench" % (p.name, USER))
                    host(f, "gate" + tail, port, p.key, p.name)
                    f.write("Host sallyj%s\n  HostName bench\n  ProxyJump gate%s\n" % (tail, tail) + self.common(p.key, USER))

    def command(self, system, args, login=None):
        """argv and environment of one ssh; args: options, then the remote command."""
        env = dict(os.environ, SSH_ASKPASS=self.askpass, SSH_ASKPASS_REQUIRE="force", DISPLAY=":0", SHELL="/bin/sh")
        base, conf, args = system.split("-")[0], self.work + "/conf", list(args)
        if base in ("sallyport", "sallyj", "digest"):
            p, env["SP_BENCH_CODE"] = login or (self.digest if base == "digest" else self.granted).logins(1)[0]
            system = system.replace("digest", "sallyport")
            conf += "-" + p.name
        if base == "classic":
            tty = "-tt " if "-tt" in args else "-T "
            args[-1] = "exec ssh %s-F %s/home/conf target '%s'" % (tty, self.work, args[-1])
        return ["ssh", "-F", conf] + args[:-1] + [system, args[-1]], env

    def commands(self, system, args, n, people):
        who = people.logins(n) if system.startswith("sally") else [None] * n
        return [self.command(system, args, x) for x in who]

    def run(self, prepared, **kw):
        """Seconds that a prepared command takes."""
        argv, env = prepared
        t = now()
        p = subprocess.run(argv, env=env, stderr=subprocess.PIPE, **kw)
        t = now() - t
        if p.returncode != 0:
            raise SystemExit("bench: %s: %s" % (" ".join(argv[-2:]), p.stderr.decode("utf-8", "replace")))
        return t

    def load_specs(self, system, command, n):
        who = self.load.logins(n) if system == "sallyport" else [None] * n
        return [self.load_spec(system, command, x) for x in who]

    def load_spec(self, system, command, login):
        """The line for tests/perf/load that opens one session."""
        me, proxy, code, port, key = USER, "-", "-", self.target.port, self.work + "/user"
        if system == "jump":
            proxy = "ssh -F %s/conf -W 127.0.0.1:%d hop" % (self.work, self.target.port)
        elif system == "classic":
            port, command = self.classic.port, "exec ssh -tt -F %s/home/conf target '%s'" % (self.work, command)
        elif system == "sallyport":
            p, code = login
            me, port, key = "%s+%s+bench" % (p.name, USER), self.sp.port, p.key
        return "\t".join(["session", "127.0.0.1", str(port), me, key, code, proxy, command]) + "\n"

    # ----------------------------------------------------------------- what it uses
    def cpu(self, system):
        return {r: self.groups.cpu(r) for r in self.roles(system)}

    def memory(self, system):
        """KiB by role: (PSS, kernel or None)."""
        return {r: (procs.pss_kib(self.groups.pids(r)), self.groups.kernel_kib(r)) for r in self.roles(system)}

    def wipe_recordings(self):
        d = self.sp.dir + "/recordings/"
        for name in os.listdir(d):
            if name.endswith(".spr"):
                os.unlink(d + name)

    def machine(self):
        cpu = re.search(r"model name\s*: (.*)", procs.read("/proc/cpuinfo") or "")
        r = subprocess.run(["ssh", "-V"], stderr=subprocess.PIPE)
        return {"cpu": cpu.group(1) if cpu else "?", "cores": os.cpu_count(), "kernel": os.uname().release,
                "openssh": r.stderr.decode().split(",")[0], "load": os.getloadavg()[0],
                "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}

    def close(self):
        for s in reversed(self.servers):
            s.close()
        if self.sp:
            self.sp.close()
        self.groups.close()
        shutil.rmtree(self.work, ignore_errors=True)


class Load:
    """tests/perf/load as a child."""

    def __init__(self, world):
        self.out = world.work + "/load.out"
        open(self.out, "w").close()
        self.p = subprocess.Popen([world.tools + "/load", self.out], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  env=dict(os.environ, SHELL="/bin/sh"))

    def say(self, line):
        self.p.stdin.write(line.encode() + b"\n")
        self.p.stdin.flush()
        return self.p.stdout.readline().decode().strip()

    def open(self, specs, parallel=4):
        for s in specs:
            self.p.stdin.write(s.encode())
        r = self.say("open\t%d" % parallel)
        if " failed 0 " not in r + " ":
            raise SystemExit("bench: sessions: " + r)

    def close(self):
        self.p.stdin.close()
        self.p.wait()


def dump(path, data):
    with open(path, "w") as f:
        json.dump(data, f, indent=1)
        f.write("\n")
