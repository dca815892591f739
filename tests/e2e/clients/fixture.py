# SPDX-License-Identifier: Apache-2.0
"""What every client of the matrix needs: homes of their own, a person at the terminal who types one-time codes, a second
practice target, and the count that says that no session was left out of the recordings."""
import fcntl
import os
import pty
import re
import select
import shutil
import signal
import socket
import stat
import subprocess
import termios
import threading
import time

from sp import Instance, Result, free_port, scratch, wait_for

CODE = rb"(?i)one-time code: ?$"
POLICY = """
network loopback 127.0.0.0/8, ::1
permit "owed" who group sysadmins on tag core as admin when source in loopback
  require approval 1 of approvers, mfa totp for 1h
permit "forwards" who group forwarders on tag core as admin when source in loopback require mfa totp for 8h
  allow shell, exec, upload, download, subsystem, forward to "127.0.0.1:*", listen at "localhost:*"
permit "free" who group operators on tag core as admin when source in loopback require mfa totp for 8h
"""
MATRIX = []     # rows of doc/clients.md, in the order of the files


def cell(client, what, way):
    """Marks a test as a cell of the matrix."""
    def mark(f):
        MATRIX.append((client, way, what, f.__qualname__))
        return f
    return mark


def table():
    """The matrix as doc/clients.md shows it."""
    lines = ["| client | way | what | test |", "|---|---|---|---|"]
    return "\n".join(lines + ["| %s | %s | %s | `%s` |" % row for row in MATRIX])


class Echo:
    """A server on loopback that gives back what it gets."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                c, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        with c:
            while True:
                piece = c.recv(65536)
                if not piece:
                    return
                c.sendall(piece)

    def close(self):
        self.listener.close()


def there_and_back(s, data):
    """Sends all and ends; returns what came back until the other side ended too."""
    def send():
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
    t, got = threading.Thread(target=send, daemon=True), bytearray()
    t.start()
    while True:
        piece = s.recv(65536)
        if not piece:
            t.join()
            return bytes(got)
        got += piece


class Person:
    """A person with a home directory, as ssh and friends see it (they ask the password database, not $HOME)."""

    def __init__(self, clients, name):
        self.clients, self.sp, self.name = clients, clients.sp, name
        self.files = "%s/people/%s/" % (self.sp.dir, name)
        self.home = clients.homes + "/" + name
        os.makedirs(self.home + "/.ssh", 0o700)
        for f in ("id_ed25519", "id_ed25519.pub"):
            shutil.copy(self.files + f, self.home + "/.ssh/" + f)
        os.chmod(self.home + "/.ssh/id_ed25519", 0o600)
        with open(self.home + "/.passwd", "w") as f:
            f.write("%s:x:%d:%d::%s:/bin/sh\n" % (name, os.getuid(), os.getgid(), self.home))
        with open(self.home + "/.group", "w") as f:
            f.write("people:x:%d:\n" % os.getgid())
        with open(self.home + "/.ssh/known_hosts", "w") as f:
            key = clients.host_key
            f.write("127.0.0.1 %s\n[127.0.0.1]:%d %s\ncore-01 %s\nsallyport %s\n" % (key, self.sp.port, key, key, key))

    def env(self, **more):
        e = {k: v for k, v in os.environ.items() if k not in ("SSH_AUTH_SOCK", "SSH_ASKPASS", "DISPLAY", "SSH_ASKPASS_REQUIRE")}
        e.update(HOME=self.home, USER=self.name, LOGNAME=self.name, LC_ALL="C.UTF-8", TERM="xterm",
                 LD_PRELOAD="libnss_wrapper.so", NSS_WRAPPER_PASSWD=self.home + "/.passwd",
                 NSS_WRAPPER_GROUP=self.home + "/.group")
        e.update(more)
        return e

    def use_snippet(self, *options):
        """~/.ssh/config becomes what the bastion itself prints for this person."""
        if not os.path.exists(self.home + "/.ssh/config"):
            r = self.run(["ssh", "-F", "none", "-p", str(self.sp.port), self.name + "@127.0.0.1", "ssh-config"] + list(options))
            if r.code != 0:
                raise AssertionError(r)
            self.write(".ssh/config", r.out)

    def end_masters(self, below):
        """Ends what listens on control sockets below a directory."""
        for d, _, files in os.walk(below):
            for f in files:
                if stat.S_ISSOCK(os.lstat(d + "/" + f).st_mode):
                    subprocess.run(["ssh", "-F", "none", "-o", "ControlPath=%s/%s" % (d, f), "-O", "exit", "x"], timeout=60,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def second_factors(self):
        """How often this person has logged in, each time with a code, by the audit log."""
        return len([e for e in self.sp.audit("login_ok", limit=10000) if e["actor"] == self.name])

    def path(self, name):
        return self.home + "/" + name

    def write(self, name, data, mode=0o600):
        with open(self.path(name), "wb" if isinstance(data, bytes) else "w") as f:
            f.write(data)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def read(self, name):
        with open(self.path(name), "rb") as f:
            return f.read()

    def login(self, account="admin", target="core-01"):
        return "%s+%s+%s" % (self.name, account, target)

    def prepare(self):
        """A code opens once and two are good at a time: whoever has used them gets a new secret."""
        try:
            with open(self.files + "totp.used") as f:
                used = int(f.read())
        except (OSError, ValueError):
            used = 0
        if used > int(time.time()) // 30:
            self.sp.fresh_code(self.name)

    def code(self):
        r = subprocess.run([self.files + "askpass", "Code:"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)
        return r.stdout.strip()

    def run(self, argv, input=None, timeout=120, env=None, cwd=None, answers=()):
        """Runs a client with a terminal of its own, at which this person sits: prompts that it reads from the terminal are
        answered, what it reads from standard input is `input`. Result.tty is what stood on the terminal. answers: pairs
        of a pattern and what is typed when it comes, as a function of the match."""
        self.prepare()
        return attended(argv, [(CODE, lambda m: self.code() + b"\n")] + list(answers), input, timeout, env or self.env(), cwd or self.home)


class _Seat:
    """The terminal and the three pipes of an attended program."""

    def __init__(self, argv, data, env, cwd):
        # Ours stays open: a program that closes what it inherited would hang up its own terminal.
        self.master, self.slave = pty.openpty()
        slave = self.slave

        def lead():
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        self.p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env,
                                  cwd=cwd, preexec_fn=lead, pass_fds=(slave,), bufsize=0)
        self.got = {self.master: b"", self.p.stdout.fileno(): b"", self.p.stderr.fileno(): b""}
        self.open = set(self.got)
        self.data, self.stdin = memoryview(data or b""), self.p.stdin
        os.set_blocking(self.stdin.fileno(), False)
        self.feed()

    def feed(self):
        try:
            while self.data:
                self.data = self.data[os.write(self.stdin.fileno(), self.data[:65536]):]
        except BlockingIOError:
            return
        except BrokenPipeError:
            pass
        self.stdin.close()
        self.stdin = None

    def take(self, fd):
        try:
            piece = os.read(fd, 65536)
        except OSError:
            piece = b""
        self.got[fd] += piece
        if not piece:
            self.open.discard(fd)
        return piece

    def done(self):
        """It has ended and its output is read. (A master that stays behind keeps its standard error open.)"""
        if not self.open - {self.master}:
            return True
        if self.p.poll() is None:
            return False
        for fd in list(self.open):
            while fd in self.open and select.select([fd], [], [], 0)[0]:
                self.take(fd)
        return True

    def close(self):
        if self.p.poll() is None:
            os.killpg(self.p.pid, signal.SIGKILL)
        self.p.wait()
        for f in (self.stdin, self.p.stdout, self.p.stderr):
            if f is not None:
                f.close()
        os.close(self.master)
        os.close(self.slave)


def attended(argv, answers, data, timeout, env, cwd):
    seat, end = _Seat(argv, data, env, cwd), time.monotonic() + timeout
    seen = {seat.master: b"", seat.p.stderr.fileno(): b""}     # since the last answer
    try:
        while not seat.done():
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError("%s took longer than %ds: %r" % (argv[0], timeout, [v[-2000:] for v in seat.got.values()]))
            r, w, _ = select.select(list(seat.open), [seat.stdin] if seat.stdin else [], [], min(left, 0.2))
            for fd in r:
                piece = seat.take(fd)
                if fd in seen:
                    seen[fd] += piece
            for rx, answer in answers:
                for m in filter(None, [re.search(rx, s) for s in seen.values()]):
                    seen = dict.fromkeys(seen, b"")
                    os.write(seat.master, answer(m))
            if w:
                seat.feed()
        seat.p.wait(timeout=max(1, end - time.monotonic()))
        tty, out, err = seat.got.values()
        result = Result(seat.p.returncode, out, err)
        result.tty = tty
        return result
    finally:
        seat.close()


class Clients:
    """One instance with two targets for the whole matrix."""

    def __init__(self):
        self.sp = sp = Instance(policy=POLICY)
        self.homes = scratch("sp-h")    # short: a control socket's path has 107 bytes
        os.chmod(self.homes, 0o755)
        with open(sp.dir + "/keys/ssh_host_ed25519_key.pub") as f:
            self.host_key = " ".join(f.read().split()[:2])
        r = subprocess.run(["ssh-keygen", "-lf", sp.dir + "/keys/ssh_host_ed25519_key.pub"], stdout=subprocess.PIPE, check=True)
        self.fingerprint = r.stdout.split()[1].decode()
        self.known = {}
        self.target_home = sp.dir + "/target/home/admin"
        self.second_target()

    def person(self, name, groups="operators"):
        if name not in self.known:
            if not os.path.exists("%s/people/%s" % (self.sp.dir, name)):
                self.sp.add_person(name, groups)
            self.known[name] = Person(self, name)
        return self.known[name]

    def second_target(self):
        """core-02: a second sshd with a host key, homes and principals of its own."""
        old, new = self.sp.dir + "/target", self.sp.dir + "/second/target"
        os.makedirs(os.path.dirname(new))
        subprocess.run(["cp", "-a", old, new], check=True)
        for f in ("host_key", "host_key.pub", "sshd.pid", "sshd.log"):
            if os.path.exists(new + "/" + f):
                os.unlink(new + "/" + f)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "core-02", "-f", new + "/host_key"], check=True)
        port = free_port()
        for f in ("sshd_config", "passwd"):
            with open(new + "/" + f) as g:
                text = g.read().replace(old, new)
            with open(new + "/" + f, "w") as g:
                g.write(re.sub(r"(ListenAddress 127.0.0.1:)\d+", r"\g<1>%d" % port, text))
        with open(new + "/principals/admin", "w") as f:
            f.write("admin@core-02\n")
        self.sp.lib('target_run "$1/second"')
        wait_for(lambda: os.path.exists(new + "/sshd.pid"), 30, "the second target")
        with open(new + "/host_key.pub") as f:
            key = " ".join(f.read().split()[:2])
        self.sp.host("target", "add", "core-02", "--addr", "127.0.0.1", "--port", str(port), "--tag", "core", "--host-key", key,
                     check=True)
        self.sp.host("account", "add", "admin@core-02", "--kind", "cert", check=True)

    def close(self):
        for p in self.known.values():
            p.end_masters(p.home)
        try:
            with open(self.sp.dir + "/second/target/sshd.pid") as f:
                os.kill(int(f.read()), signal.SIGTERM)
        except (OSError, ValueError):
            pass
        shutil.rmtree(self.homes, ignore_errors=True)
        self.sp.close()

    # ------------------------------------------------------------- evidence
    def at_target(self, name, data=None, target="target"):
        """Writes a file into admin's home at the target, or reads it."""
        path = "%s/%s/home/admin/%s" % (self.sp.dir, target, name)
        if data is None:
            with open(path, "rb") as f:
                return f.read()
        with open(path, "wb") as f:
            f.write(data)
        os.chown(path, os.stat(os.path.dirname(path)).st_uid, -1)
        return path

    def logins_at_targets(self):
        """How many times an sshd of a target let somebody in."""
        n = 0
        for t in ("target", "second/target"):
            with open("%s/%s/sshd.log" % (self.sp.dir, t), errors="replace") as f:
                n += sum("Accepted publickey for admin" in x for x in f)
        return n


clients = None


def begin():
    global clients, sp, target_home, person, at_target, logins_at_targets
    clients = Clients()
    sp, target_home = clients.sp, clients.target_home
    person, at_target, logins_at_targets = clients.person, clients.at_target, clients.logins_at_targets


def end():
    if clients is not None:
        clients.close()
