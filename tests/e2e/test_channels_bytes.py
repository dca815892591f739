# SPDX-License-Identifier: Apache-2.0
"""Bytes, ends and terminals of channels, with new keys every MiB on all four sides of the two legs, slow readers, and peers that
fall silent. Random data, compared byte by byte: zeros would hide what was reordered.

SP_BULK_MB: MiB of the transfers with a slow reader (200; `make bulk-memory` takes 2048)."""
import base64
import fcntl
import hashlib
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance, main, read_until, wait_for  # noqa: E402

T = 300          # seconds: never what is measured, only the end of waiting
BULK = int(os.environ.get("SP_BULK_MB", "200")) << 20
MIB = 1 << 20
GROWTH = 12 << 20     # bytes that a process may grow by while a transfer waits: its windows and buffers

POLICY = """
network loopback 127.0.0.0/8, ::1
permit "free" who group operators on tag core as admin when source in loopback require mfa totp for 8h
"""
REKEY = ["RekeyLimit=1M 2s"]
# As many random bytes as one wants, the same on both sides.
STREAM = "openssl enc -aes-128-ctr -nosalt -K 000102030405060708090a0b0c0d0e0f -iv %032x -in /dev/zero 2>/dev/null | head -c %d"


def setUpModule():
    global sp
    sp = Instance(policy=POLICY)
    sp.add_person("oscar", "operators")
    sp.host("stop", check=True)
    settings = {"rekey_mb": 1, "rekey_s": 2, "alive_s": 5, "alive_tries": 3}
    with open(sp.dir + "/sallyport.conf") as f:
        lines = [x for x in f.read().split("\n") if x.split(" ")[0] not in settings]
    with open(sp.dir + "/sallyport.conf", "w") as f:
        f.write("\n".join(lines + ["%s %d" % kv for kv in settings.items()]) + "\n")
    path = sp.dir + "/target/sshd_config"
    with open(path) as f:
        text = f.read()
    with open(path, "w") as f:
        f.write("LogLevel DEBUG1\nRekeyLimit 1M 2s\nClientAliveInterval 5\nClientAliveCountMax 2\n" + text)
    with open(sp.dir + "/target/sshd.pid") as f:
        os.kill(int(f.read()), signal.SIGHUP)
    sp.host("start", check=True)
    wait_for(lambda: sp.ssh("oscar", "admin@core-01", "true", mux=False).code == 0, T, "the target, with its new settings")


def tearDownModule():
    sp.close()


def live():
    return [s for s in sp.sessions() if s["ended"] is None]


def the_session(before):
    return wait_for(lambda: [s for s in sp.sessions() if s["id"] not in before and s["state"] == "running"], T, "the session")[0]["id"]


def records(session):
    wait_for(lambda: session not in [s["id"] for s in live()], T, "the end of the session")
    r = sp.host("export", session, "--format", "records", check=True, timeout=T)
    rows = [json.loads(line) for line in r.out.decode().splitlines() if line.startswith("{")]
    for x in rows:
        x["bytes"] = base64.b64decode(x["data"])
    return rows


def of(rows, kind):
    return b"".join(r["bytes"] for r in rows if r["kind"] == kind)


def ids():
    return {s["id"] for s in sp.sessions()}


class Bytes(unittest.TestCase):
    def test_full_duplex_under_rekeys_of_all_sides(self):
        data = os.urandom(24 << 20)
        before = ids()
        exchanges = self.exchanges()
        p = sp.ssh_start("oscar", "admin@core-01", "cat", mux=False, opts=REKEY + ["LogLevel=DEBUG1"], stdin=subprocess.PIPE)
        got, said = hashlib.sha256(), []
        n = [0]
        t2 = threading.Thread(target=lambda: said.append(p.stderr.read()))
        t2.start()

        def reader():
            while True:
                piece = os.read(p.stdout.fileno(), 65536)
                if not piece:
                    return
                got.update(piece)
                n[0] += len(piece)
        t = threading.Thread(target=reader)
        t.start()
        for i in range(0, len(data), 1 << 20):
            p.stdin.write(data[i:i + (1 << 20)])
        p.stdin.close()
        t.join(T)
        self.assertEqual(p.wait(timeout=T), 0, said)
        t2.join(T)
        self.assertEqual((n[0], got.digest()), (len(data), hashlib.sha256(data).digest()))
        # libssh holds what is written during an exchange and lets it pass behind it at once: fewer than one a MiB.
        self.assertGreaterEqual(said[0].count(b"SSH2_MSG_KEXINIT received"), 1 + 6)
        self.assertGreaterEqual(self.exchanges() - exchanges, 1 + 6)
        session = [s for s in ids() if s not in before][0]
        rows = records(session)
        self.assertEqual(hashlib.sha256(of(rows, "in")).digest(), got.digest())
        self.assertEqual(hashlib.sha256(of(rows, "out")).digest(), got.digest())

    def exchanges(self):
        with open(sp.dir + "/target/sshd.log", errors="replace") as f:
            return f.read().count("SSH2_MSG_KEXINIT received")

    def test_new_keys_are_made_by_us_on_both_legs(self):
        """A client that never asks for new keys still gets them, by volume and then by time; so does the target."""
        before = self.exchanges()
        p = sp.ssh_start("oscar", "admin@core-01", "head -c 16000000 /dev/zero; cat", mux=False, stdin=subprocess.PIPE,
                         opts=["RekeyLimit=10G none", "LogLevel=DEBUG1"])
        said, n = [], 0
        t = threading.Thread(target=lambda: said.append(p.stderr.read()))
        t.start()
        while n < 16000000:
            n += len(os.read(p.stdout.fileno(), 65536))
        for i in range(3):                                # older than the two seconds that keys may be
            threading.Event().wait(2.1)
            p.stdin.write(b"tick\n")
            self.assertEqual(os.read(p.stdout.fileno(), 100), b"tick\n")
        p.stdin.close()
        self.assertEqual(p.wait(timeout=T), 0)
        t.join(T)
        # The login's; of sixteen by volume some, for what libssh holds during an exchange passes all at once behind it; of time.
        self.assertGreaterEqual(said[0].count(b"SSH2_MSG_KEXINIT received"), 1 + 4 + 2, said[0][-3000:])
        wait_for(lambda: self.exchanges() - before >= 1 + 4, T, "the target's key exchanges")

    def test_new_keys_by_time_while_bytes_flow(self):
        """Too little for the volume to count, without a pause, both ways, until both legs have had three exchanges more."""
        before, said, back, sent = self.exchanges(), bytearray(), hashlib.sha256(), hashlib.sha256()
        p = sp.ssh_start("oscar", "admin@core-01", "cat", mux=False, stdin=subprocess.PIPE, opts=["RekeyLimit=10G 3s", "LogLevel=DEBUG1"])
        n = 0

        def drain(f, take):
            for piece in iter(lambda: os.read(f.fileno(), 65536), b""):
                take(piece)
        threads = [threading.Thread(target=drain, args=a) for a in ((p.stdout, back.update), (p.stderr, said.extend))]
        for t in threads:
            t.start()

        def exchanges():
            return min(said.count(b"SSH2_MSG_KEXINIT received"), self.exchanges() - before)

        def flow():
            nonlocal n
            piece = os.urandom(4096)
            p.stdin.write(piece)
            sent.update(piece)
            n += len(piece)
            return exchanges() >= 1 + 3
        wait_for(flow, T, "key exchanges")
        p.stdin.close()
        self.assertEqual(p.wait(timeout=T), 0)
        for t in threads:
            t.join(T)
        self.assertEqual(back.digest(), sent.digest())
        self.assertLess(n, exchanges() * MIB, "it was the volume")

    def test_stderr_and_stdout_are_kept_apart_and_every_value_passes(self):
        data = bytes(range(256)) * 4096
        r = sp.ssh("oscar", "admin@core-01", "tee /dev/stderr", input=data, mux=False, opts=REKEY, timeout=T)
        self.assertEqual(r.code, 0)
        self.assertEqual(r.out, data)
        self.assertEqual(r.err[-len(data):], data)

    def test_a_script_on_standard_input_is_recorded(self):
        script = "".join("echo line %d # %s\n" % (i, "x" * 60) for i in range(4000)).encode() + b"exit 7\n"
        before = ids()
        r = sp.ssh("oscar", "admin@core-01", "sh -s", input=script, mux=False, timeout=T)
        self.assertEqual(r.code, 7)
        self.assertEqual(r.out.count(b"\n"), 4000)
        rows = records([s for s in ids() if s not in before][0])
        self.assertEqual(of(rows, "in"), script)
        self.assertEqual(of(rows, "out"), r.out)

    def test_half_close_in_either_direction(self):
        data = os.urandom(3 << 20)
        r = sp.ssh("oscar", "admin@core-01", "sha256sum; echo after", input=data, mux=False, timeout=T)
        self.assertEqual(r.out.decode().split(), [hashlib.sha256(data).hexdigest(), "-", "after"])
        # The target's output ends first; what is sent then still arrives.
        name = sp.dir + "/target/home/admin/half"
        r = sp.ssh("oscar", "admin@core-01", "exec >&- 2>&-; cat >half; exit 3", input=data, mux=False, timeout=T)
        self.assertEqual(r.code, 3, r)
        with open(name, "rb") as f:
            self.assertEqual(hashlib.sha256(f.read()).digest(), hashlib.sha256(data).digest())

    def test_exit_status_and_signal(self):
        for code in (0, 1, 75, 255):
            self.assertEqual(sp.ssh("oscar", "admin@core-01", "exit %d" % code, mux=False).code, code)
        before = ids()
        r = sp.ssh("oscar", "admin@core-01", "kill -TERM $$", mux=False)
        self.assertEqual(r.code, 255, r)
        rows = records([s for s in ids() if s not in before][0])
        self.assertIn(b"TERM", of(rows, "exit_signal"))

    def test_variables_by_name(self):
        r = sp.ssh("oscar", "admin@core-01", "echo $LC_ONE:$SECRET", mux=False, opts=["SetEnv=LC_ONE=yes SECRET=no"])
        self.assertEqual(r.out, b"yes:\n", r)


class Terminal(unittest.TestCase):
    def start(self, command, modes=None, size=(33, 101)):
        master, slave = pty.openpty()
        a = termios.tcgetattr(slave)
        if modes:
            modes(a)
        termios.tcsetattr(slave, termios.TCSANOW, a)
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", size[0], size[1], 640, 480))
        p = subprocess.Popen(sp.ssh_argv("oscar", ["-tt", "admin@core-01", command], False), stdin=slave,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=sp.ssh_env("oscar"), bufsize=0,
                             preexec_fn=lambda: (os.setsid(), fcntl.ioctl(0, termios.TIOCSCTTY, 0)))
        sp.started.append(p)
        os.close(slave)
        self.addCleanup(os.close, master)
        return p, master

    def test_the_clients_modes_reach_the_target(self):
        def modes(a):
            a[6][termios.VINTR] = b"\x18"
            a[6][termios.VERASE] = b"\x08"
            a[6][termios.VEOF] = b"\x05"
            a[0] |= termios.IXANY
            a[3] &= ~termios.ECHOE
        before = ids()
        p, _ = self.start("stty -a; stty size; echo pixels; exit 4", modes)
        out, err = p.communicate(timeout=T)
        self.assertEqual(p.returncode, 4, err)
        text = out.decode()
        for want in ("intr = ^X", "erase = ^H", "eof = ^E", " ixany", "-echoe", "33 101"):
            self.assertIn(want, text)
        rows = records([s for s in ids() if s not in before][0])
        opened = [r["bytes"] for r in rows if r["kind"] == "open"][0]
        self.assertIn(struct.pack(">BI", 3, 8), opened)          # VERASE of RFC 4254, 8

    def test_window_change_and_break_with_its_length(self):
        size = "/usr/bin/python3 -c \"import fcntl,struct,termios;print('size', *struct.unpack('HHHH', fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))), 'ends')\""
        before = ids()
        p, master = self.start("trap 'changed=1' WINCH; trap 'exit 6' INT; %s; while :; do sleep 0.1; "
                               "[ -z \"$changed\" ] || { changed=; %s; }; done" % (size, size), size=(24, 80))
        self.assertIn(b"size 24 80 640 480", read_until(p.stdout, rb"ends", T))
        for rows, cols, x, y in ((50, 132, 1320, 1100), (40, 132, 0, 0), (40, 100, 0xffff, 1)):
            fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, x, y))
            os.kill(p.pid, signal.SIGWINCH)
            read_until(p.stdout, rb"size %d %d %d %d ends" % (rows, cols, x, y), T)
        os.write(master, b"\r~B")
        os.write(master, b"\x03")                     # behind it
        p.communicate(timeout=T)
        self.assertEqual(p.returncode, 6)
        rows = records([s for s in ids() if s not in before][0])
        self.assertEqual(of(rows, "break"), struct.pack("<I", 1000))
        self.assertIn(struct.pack("<IIII", 132, 50, 1320, 1100), of(rows, "resize"))


class Silence(unittest.TestCase):
    def keeps(self, opts, want):
        p = sp.ssh_start("oscar", "admin@core-01", "cat", mux=False, stdin=subprocess.PIPE, opts=["LogLevel=DEBUG3"] + opts)
        read_until(p.stderr, want, T)
        p.stdin.write(b"still\n")
        self.assertIn(b"still", read_until(p.stdout, rb"still", T))
        drain = threading.Thread(target=p.stderr.read)      # what DEBUG3 says of the end
        drain.start()
        p.stdin.close()
        self.assertEqual(p.wait(timeout=T), 0)
        drain.join(T)

    def test_keepalives_of_the_client_are_answered(self):
        self.keeps(["ServerAliveInterval=1", "ServerAliveCountMax=2"],
                   rb"(Entering interactive session.*)(send packet: type 80.*receive packet: type 8[12].*){4}")

    def test_ours_to_the_client_and_those_of_the_target(self):
        """The target asks us every five seconds of silence too, and would end a connection that does not answer."""
        self.keeps([], rb"(rtype keepalive@openssh.com want_reply 1.*){3}")

    def test_a_client_that_falls_silent_is_given_up(self):
        before = ids()
        p = sp.ssh_start("oscar", "admin@core-01", "echo up; sleep 1000", mux=False)
        read_until(p.stdout, rb"up", T)
        session = the_session(before)
        os.kill(p.pid, signal.SIGSTOP)
        # its ssh -J helper is another process, which lives: the outer connection is its own
        kids = subprocess.run(["pgrep", "-P", str(p.pid)], stdout=subprocess.PIPE).stdout.split()
        for k in kids:
            os.kill(int(k), signal.SIGSTOP)
        try:
            wait_for(lambda: session not in [s["id"] for s in live()], T, "the end of the session")
        finally:
            for k in kids + [p.pid]:
                try:
                    os.kill(int(k), signal.SIGKILL)
                except ProcessLookupError:
                    pass
        p.communicate(timeout=T)
        self.assertIn("client_silent", sp.log())

    def test_a_target_that_falls_silent_is_given_up(self):
        p = sp.ssh_start("oscar", "admin@core-01", "echo $PPID; sleep 1000", mux=False)
        pid = int(read_until(p.stdout, rb"\d+\n", T))
        os.kill(pid, signal.SIGSTOP)
        try:
            _, err = p.communicate(timeout=T)
            self.assertEqual(p.returncode, 255, err)
        finally:
            os.kill(pid, signal.SIGKILL)
        self.assertIn("target_silent", sp.log())


class Bulk(unittest.TestCase):
    """A reader that stands still again and again: no process grows with what it has not read."""

    def sizes(self):
        found = {}
        for role in ("ingress", "recorder", "egress"):
            for pid in sp.pids(role)[1]:
                try:
                    with open("/proc/%d/smaps_rollup" % pid) as f:
                        found[role, pid] = int([x for x in f if x.startswith("Pss_Anon:")][0].split()[1]) << 10
                except OSError:
                    pass
        return found

    def watch(self, stop, most):
        while not stop.wait(0.1):
            for key, n in self.sizes().items():
                most[key] = max(most.get(key, 0), n)

    def measured(self, work):
        base = self.sizes()
        stop, most = threading.Event(), {}
        t = threading.Thread(target=self.watch, args=(stop, most))
        t.start()
        try:
            work()
        finally:
            stop.set()
            t.join()
        for (role, pid), n in sorted(most.items()):
            print("   %s %d: %d KiB at most, %d more than before" % (role, pid, n >> 10, (n - base.get((role, pid), 0)) >> 10))
            self.assertLess(n - base.get((role, pid), 0), GROWTH, role)

    def expected(self, seed):
        h = hashlib.sha256()
        p = subprocess.Popen(["sh", "-c", STREAM % (seed, BULK)], stdout=subprocess.PIPE)
        for piece in iter(lambda: p.stdout.read(1 << 20), b""):
            h.update(piece)
        p.stdout.close()
        p.wait()
        return h.hexdigest()

    def test_down_with_a_slow_reader(self):
        p = sp.ssh_start("oscar", "admin@core-01", "echo up >&2; read go; " + STREAM % (1, BULK), mux=False, stdin=subprocess.PIPE)
        read_until(p.stderr, rb"up", T)
        h, n = hashlib.sha256(), 0

        def work():
            nonlocal n
            p.stdin.write(b"go\n")
            p.stdin.close()
            pause = threading.Event()
            while True:
                piece = os.read(p.stdout.fileno(), 65536)
                if not piece:
                    break
                h.update(piece)
                if n // (BULK // 16) != (n + len(piece)) // (BULK // 16):
                    pause.wait(0.4)                    # sixteen times: the whole way fills up
                n += len(piece)
        self.measured(work)
        p.wait(timeout=T)
        self.assertEqual((n, h.hexdigest()), (BULK, self.expected(1)))

    def test_up_with_a_slow_reader(self):
        part = BULK // 16
        p = sp.ssh_start("oscar", "admin@core-01", "echo up >&2; i=0; while [ $i -lt 16 ]; do head -c %d; sleep 0.4; i=$((i+1)); "
                         "done | sha256sum" % part, mux=False, stdin=subprocess.PIPE)
        read_until(p.stderr, rb"up", T)
        out = []

        def work():
            src = subprocess.Popen(["sh", "-c", STREAM % (2, part * 16)], stdout=subprocess.PIPE)
            for piece in iter(lambda: src.stdout.read(1 << 18), b""):
                p.stdin.write(piece)
            src.stdout.close()
            src.wait()
            p.stdin.close()
            out.append(p.stdout.read())
        self.measured(work)
        p.wait(timeout=T)
        self.assertEqual(out[0].split()[0].decode(), self.expected(2))


if __name__ == "__main__":
    main()
