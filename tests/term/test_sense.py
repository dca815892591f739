# SPDX-License-Identifier: Apache-2.0
"""What was typed is read off the screen again: commands of administrators' days, more than 200 secrets asked for in every way,
and what is neither; at no distance, and at 50, 150 and 300 ms of round trip. Prints the score and every miss."""
import glob
import os
import random
import shutil
import subprocess
import sys
import threading
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "support")]

import corpus  # noqa: E402
import deeds  # noqa: E402
import sp  # noqa: E402
from test_fidelity import token  # noqa: E402

BUILD = os.environ.get("SALLYPORT_BUILD", os.path.join(TOP, "build"))
SENSED = os.path.join(BUILD, "tests/term/sensed")
STREAMS = int(os.environ.get("SENSE_STREAMS", "60"))
DISTANCES = (0.0, 0.05, 0.15, 0.3)
PARTS = 10             # terminals at which secrets are asked for
SURE = 60              # recorder/sense/sense.h: below it a line was told to a program
PLAIN, TWO = r"[$#] \Z", "❯ \\Z"
BASH = corpus.SHELL


class Scene(threading.Thread):
    """One terminal and what is done at it."""

    def __init__(self, home, do, argv=BASH, prompt=PLAIN, before=()):
        super().__init__(daemon=True)
        self.what = getattr(do, "__name__", "?")
        self.home, self.deed, self.argv, self.prompt, self.before = home, do, argv, prompt, before
        self.fault = self.t = None
        self.start()

    def run(self):
        try:
            self.t = deeds.Typist(self.argv, home=self.home)
            for c in self.before:
                self.t.send(c.encode() + b"\r")
                self.t.settle()
            self.t.log.clear()
            self.t.seen = b""
            self.t.send(b"\r")
            self.t.see(self.prompt)
            self.day = deeds.Day(self.t, self.prompt)
            self.deed(self.day)
            self.t.settle()
        except BaseException as e:  # the main thread says so
            self.fault = e

    def sensed(self, distance):
        """Commands as (source, percent, text), secrets as (from, to), when secrets were typed."""
        path = os.path.join(self.home, f"sensed.{id(self)}")
        stream, spans = self.t.stream(distance)
        with open(path, "wb") as f:
            f.write(stream)
        out = subprocess.run([SENSED, path], check=True, stdout=subprocess.PIPE, timeout=300).stdout.decode()
        lines = [line.split(" ", 5) for line in out.split("\n") if line]
        return ([(c[3], int(c[4]), c[5]) for c in lines if c[0] == "C"], [(int(c[1]), int(c[2])) for c in lines if c[0] == "S"], spans)


def scenes(home):
    two = (f"PS1={deeds.quote(deeds.PS1_TWO_LINES)}",)

    def at(do, *args, **k):
        def deed(d):
            do(d, *args)
        deed.__name__ = do.__name__
        return Scene(home, deed, **k)
    admins = [at(deeds.admin), at(deeds.admin, prompt=TWO, before=two), at(deeds.dash, argv=["sh"], before=("PS1='# '",)), at(deeds.resized), at(deeds.others),
              at(deeds.python), at(deeds.tmux), at(deeds.bash_more)]
    if shutil.which("zsh"):
        admins.append(at(deeds.admin, argv=["zsh", "-f"], prompt=r"zsh# (\x1b\[K)?(\x1b\[\?2004h)?\Z", before=("PS1='zsh# '",)))
    hidden = [at(deeds.secrets, n, PARTS) for n in range(PARTS)] + [at(deeds.in_tmux)]
    return admins, hidden, [at(deeds.innocent), at(deeds.innocent_vim), at(deeds.innocent_pagers)]


def overlap(a, b):
    return a[0] <= b[1] and b[0] <= a[1]


class Sense(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.home = sp.scratch("sp-sense-", "/tmp")
        os.chmod(cls.home, 0o755)
        for name, text in (("text", corpus.TEXT),) + deeds.SCRIPTS:
            with open(os.path.join(cls.home, name), "w", encoding="utf-8") as f:
                f.write(text)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "a passphrase", "-f", os.path.join(cls.home, "key")], check=True)
        cls.admins, cls.secrets, cls.innocents = scenes(cls.home)
        for d in cls.admins + cls.secrets + cls.innocents:
            d.join(900)
        faults = [f"{d.what}: {d.fault}" for d in cls.admins + cls.secrets + cls.innocents if d.fault is not None or d.is_alive()]
        if faults:
            raise AssertionError("\n".join(faults))

    @classmethod
    def tearDownClass(cls):
        for d in cls.admins + cls.secrets + cls.innocents:
            if d.t is not None:
                d.t.close()
        shutil.rmtree(cls.home)

    def test_1_commands(self):
        for distance in DISTANCES:
            right = n = extra = sure = sure_right = 0
            name = f"{distance * 1000:.0f} ms"
            for d in self.admins:
                found, _, _ = d.sensed(distance)
                left = [text for _, percent, text in found if percent >= SURE]
                sure_left = list(d.day.ran)
                for _, percent, text in found:
                    if percent >= 85:
                        sure += 1
                        if text in sure_left:
                            sure_right += 1
                            sure_left.remove(text)
                for command in d.day.ran:
                    n += 1
                    if command in left:
                        right += 1
                        left.remove(command)
                    else:
                        print(f"{name}: not found: {command!r}")
                extra += len(left)
                print(f"{name}: beside: {left}")
            print(f"{name}: {right} of {n} commands exact, {extra} lines beside; of {sure} that it was sure of (85 %), {sure_right} were right")
            self.assertGreater(n, 200)
            self.assertGreaterEqual(right, 0.85 * n)
            self.assertLessEqual(extra, 0.1 * n)
            self.assertGreaterEqual(sure_right, 0.9 * sure)

    def test_2_secrets(self):
        for distance in DISTANCES:
            typed = seen = alarms = lines = 0
            name = f"{distance * 1000:.0f} ms"
            told = []
            for d in self.secrets:
                commands, secrets, spans = d.sensed(distance)
                typed += len(spans)
                lines += len(d.day.ran)
                for span in spans:
                    if any(overlap(span, s) for s in secrets):
                        seen += 1
                    else:
                        print(f"{name}: missed: {span}")
                alarms += sum(not any(overlap(span, s) for span in spans) for s in secrets)
                told += [c for c in commands if c[2] in deeds.SECRETS]
            print(f"{name}: {seen} of {typed} secrets, {alarms} false alarms in {lines} lines beside; told as commands: {told}")
            self.assertGreaterEqual(typed, 200)
            self.assertEqual(seen, typed)
            self.assertLess(alarms, lines * 0.01)
            self.assertEqual(told, [])

    def test_3_what_is_none(self):
        for distance in DISTANCES:
            lines = alarms = 0
            name = f"{distance * 1000:.0f} ms"
            for d in self.innocents + self.admins:
                _, secrets, _ = d.sensed(distance)
                lines += d.day.lines + len(d.day.ran)
                alarms += len(secrets)
                for s in secrets:
                    print(f"{name}: alarm {s} in {d.what}")
            print(f"{name}: {alarms} false alarms in {lines} lines")
            self.assertGreater(lines, 250)
            self.assertLess(alarms, lines * 0.01)

    def marked(self, *commands, prompt=PLAIN):
        t = deeds.Typist(BASH, home=self.home)
        t.seen = b""
        t.send(b"\r")
        t.see(PLAIN)
        for c in commands:
            t.keys(c + "\r")
            t.see(prompt)
        s = Scene.__new__(Scene)
        s.t, s.home = t, self.home
        found, _, _ = s.sensed(0)
        t.close()
        return found

    def test_4_marks_of_the_shell(self):
        """A shell that marks its commands is believed; what only writes such marks is not, and hides nothing."""
        found = self.marked("trap 'printf \"\\033]633;E;%s;n0nce\\007\" \"${BASH_COMMAND//;/\\\\x3b}\"' DEBUG", "echo one", "echo two\x1b[D\x1b[Dr",
                            "printf '\\033]633;E;rm -rf \\\\x2f;other\\007'", "echo three")
        self.assertIn(("mark", 99, "echo one"), found)
        self.assertIn(("mark", 99, "echo trwo"), found)
        self.assertIn(("mark", 99, "echo three"), found)
        forged = [f for f in found if f[2] == "rm -rf /"]
        self.assertEqual(len(forged), 1, found)
        self.assertLess(forged[0][1], SURE)

    def test_5_where_a_command_begins(self):
        found = self.marked("PS1='no sign of a prompt \\[\\e]133;B\\a\\]'", "id -u", prompt="\\x07\\Z|\\$ \\Z")
        self.assertIn(("mark", 90, "id -u"), found)


    def test_6_hostile_streams_under_the_sanitizers(self):
        """The fuzz target's entry point on random streams of keys, output and resizes, and on what real programs wrote."""
        binary, hostile = os.path.join(self.home, "asan"), os.path.join(self.home, "hostile")
        sources = [f for d in ("term", "sense") for f in sorted(glob.glob(f"{TOP}/recorder/{d}/*.c")) if not f.endswith("follow.c")] + [f"{TOP}/common/{n}.c" for n in ("buf", "text", "err", "log")]
        subprocess.run(["gcc", "-std=gnu17", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-D_GNU_SOURCE", f"-I{TOP}", f"-I{BUILD}",
                        "-o", binary, f"{TOP}/tests/fuzz/fuzz_sense.c", f"{TOP}/tests/fuzz/replay.c", *sources], check=True)
        os.makedirs(hostile)
        r = random.Random(5)
        for i in range(STREAMS):
            out = bytes([r.randrange(100), r.randrange(40)])
            while len(out) < 4200:
                kind = r.random()
                if kind < .5:
                    out += token(r).encode()
                elif kind < .7:
                    out += b"\xf8" + bytes([r.choice((0, 1, 1, 2, 3, 40, 254, 255))])
                elif kind < .9:
                    out += r.choice((b"\r", b"\n", b"$ ", b"id", b"\xf8\x01ls\r\xf8\x00ls\r\n$ ", b"\x1b[200~", b"\x1b[201~", b"\x7f", b"*", b"\x03", b"\x1b]633;E;ls;n\x07", b"\x1b]133;B\x07", b"\x1b[?1049h"))
                else:
                    out += bytes(r.randrange(256) for _ in range(r.randint(1, 6)))
            with open(os.path.join(hostile, str(i)), "wb") as f:
                f.write(out)
        for i, d in enumerate(self.admins):
            with open(os.path.join(hostile, f"c{i}"), "wb") as f:
                f.write(bytes([80, 24]) + b"".join((b"\xf8\x00" if what == "f" else b"\xf8\x01") + data for _, what, data in d.t.log if what in "fi")[:60000])
        run = subprocess.run([binary, hostile], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=1200, env={**os.environ, "ASAN_OPTIONS": "detect_leaks=1"})
        self.assertEqual(run.returncode, 0, run.stdout[-3000:].decode("utf-8", "replace"))


if __name__ == "__main__":
    sp.main()
