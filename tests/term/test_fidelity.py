# SPDX-License-Identifier: Apache-2.0
"""The terminal engine against an independent one, on streams of real programs and on random ones:
xterm.js says what each row shows. A state dumped and loaded goes on as the straight run does. Hostile
streams with resizes run under AddressSanitizer. TERM_STEP=1 checks every byte (make check-term)."""
import glob
import os
import random
import shutil
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "support")]

import corpus  # noqa: E402
import sp  # noqa: E402

BUILD = os.environ.get("SALLYPORT_BUILD", os.path.join(TOP, "build"))
ROWS = os.path.join(BUILD, "tests/term/rows")
JUDGE = os.path.join(BUILD, "tests/term/judge")
CHECKS = int(os.environ.get("TERM_CHECKS", "1000"))  # bytes of a stream at which the state is dumped and loaded; 0: at all


def judge():
    """xterm.js, as the lock file has it."""
    os.makedirs(JUDGE, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(os.path.join(HERE, name), JUDGE)
    if not os.path.exists(os.path.join(JUDGE, "node_modules/@xterm/headless/package.json")):
        subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=JUDGE, check=True, stdout=subprocess.DEVNULL)


def screens(argv):
    """Each checkpoint: its first line, and [text, attributes] of each row."""
    out = subprocess.run(argv, check=True, stdout=subprocess.PIPE, timeout=900).stdout.decode("utf-8", "replace")
    found = []
    for line in out.split("\n"):
        if line.startswith("@ "):
            found.append((line, []))
        elif line.startswith("|"):
            found[-1][1].append(line.rsplit("\t", 1))
    return found


def compare(path):
    """How many rows, differing texts, attributes and cursors, and different lines that were shown; the first difference in words."""
    ours = screens([ROWS, path])
    theirs = screens(["node", os.path.join(HERE, "rows.js"), path, JUDGE])
    n = {"rows": 0, "text": 0, "looks": 0, "cursor": 0}
    first, shown = "", set()
    assert len(ours) == len(theirs) > 0, (len(ours), len(theirs))
    for (head, rows), (other, judged) in zip(ours, theirs):
        assert len(rows) == len(judged) > 0
        n["cursor"] += head != other
        for a, b in zip(rows, judged):
            n["rows"] += 1
            shown.add(b[0].strip("| "))
            n["text"] += a[0] != b[0]
            n["looks"] += a[1] != b[1]
            if a != b and not first:
                first = f"{head}: {a} where the judge has {b}"
    return dict(n, shown=len(shown - {""})), first


# What a program sends that knows its terminal. Left out, because the judge itself departs from the manuals
# (doc/terminal.md): CBT while the wrap waits, DECSC of the charsets, DECALN in colour, LNM after a reset,
# modes 47 and 1047 (what was on the alternate screen stays there), SD in colour, wide characters without wrapping.
SHOWN = 20          # different lines of each program: one that did not come up is no judge of anything
FINALS = "ABCDEFGHIJKLMPSX@`adefbms"


def token(r):
    k = r.random()
    if k < .4:
        return "".join(r.choice("abcdefgh  中ü") for _ in range(r.randint(1, 25)))
    if k < .5:
        return r.choice(["\r\n", "\n", "\r", "\b", "\t"])
    if k < .6:
        return "\x1b[" + r.choice(["?6", "?25", "?1049", "4"]) + r.choice("hl")
    if k < .7:
        return "\x1b[" + ";".join(r.choice(["0", "1", "4", "7", "22", "24", "27", "31", "42", "38;5;100", "48;2;1;2;3", "39", "49", "91", ""])
                                  for _ in range(r.randint(1, 3))) + "m"
    if k < .93:
        return "\x1b[" + ";".join(str(r.choice([0, 1, 2, 3, 5, 8, 20, 99])) if r.random() < .8 else "" for _ in range(r.randint(0, 2))) + r.choice(FINALS)
    return "\x1b" + r.choice("DEM")


def random_stream(seed):
    r = random.Random(seed)
    events = [("r", 20, 8)]
    for _ in range(250):
        events.append(("f", b"\x1b[?1049l\x1b[?47l\x1bc"))
        for _ in range(25):
            events += [("f", token(r).encode()), ("c",)]
    return events


class Fidelity(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        judge()
        cls.dir = sp.scratch("sp-term-", "/tmp")
        cls.paths = corpus.make(cls.dir)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir, ignore_errors=True)

    def test_1_real_programs_look_as_in_xterm_js(self):
        total = {"rows": 0, "text": 0, "looks": 0, "cursor": 0}
        for path in self.paths:
            n, first = compare(path)
            print(f"{os.path.basename(path)}: {os.path.getsize(path)} bytes, {n} {first}")
            self.assertGreaterEqual(n["shown"], SHOWN, "%s showed next to nothing" % path)
            for key in total:
                total[key] += n[key]
        print(f"in all {total}: {100 * (1 - total['text'] / total['rows']):.3f} % of the texts, "
              f"{100 * (1 - total['looks'] / total['rows']):.3f} % of the colours")
        self.assertGreater(total["rows"], 10000)
        self.assertLessEqual(total["text"], total["rows"] * 0.001)
        self.assertLessEqual(total["looks"], total["rows"] * 0.001)

    def test_2_so_do_random_sequences(self):
        path = os.path.join(self.dir, "random.events")
        with open(path, "wb") as f:
            f.write(corpus.encode(random_stream(20261122)))
        n, first = compare(path)
        print(n, first)
        self.assertGreater(n["rows"], 40000)
        self.assertLessEqual(n["text"], n["rows"] * 0.001, first)
        self.assertLessEqual(n["looks"], n["rows"] * 0.001, first)

    def test_3_a_loaded_state_goes_on_as_the_straight_run(self):
        for path in self.paths:
            step = 1 if CHECKS == 0 else max(1, os.path.getsize(path) // CHECKS)
            r = subprocess.run([ROWS, path, str(step)], stderr=subprocess.PIPE, timeout=3600)
            self.assertEqual((r.returncode, r.stderr), (0, b""), path)

    def test_4_hostile_streams_under_the_sanitizers(self):
        """The fuzz target's entry point on 2,000 random streams with resizes, and on each stream of the corpus cut short."""
        binary = os.path.join(self.dir, "asan")
        sources = sorted(glob.glob(f"{TOP}/recorder/term/*.c")) + [f"{TOP}/common/{n}.c" for n in ("buf", "text", "err", "log")]
        subprocess.run(["gcc", "-std=gnu17", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{TOP}", f"-I{BUILD}",
                        "-o", binary, f"{TOP}/tests/fuzz/fuzz_term.c", f"{TOP}/tests/fuzz/replay.c", *sources], check=True)
        r = random.Random(7)
        hostile = os.path.join(self.dir, "hostile")
        os.makedirs(hostile)
        for i in range(2000):
            out = bytes([r.randrange(64), r.randrange(32)])
            while len(out) < 4200:
                out += token(r).encode() if r.random() < .7 else bytes(r.choice([0xf8, 0x1b, 0x5b, r.randrange(256)]) for _ in range(r.randint(1, 6)))
            with open(os.path.join(hostile, str(i)), "wb") as f:
                f.write(out)
        for i, path in enumerate(self.paths):
            with open(path, "rb") as f, open(os.path.join(hostile, f"c{i}"), "wb") as g:
                g.write(f.read(60000))
        run = subprocess.run([binary, hostile], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             timeout=1200, env={**os.environ, "ASAN_OPTIONS": "detect_leaks=1"})
        self.assertEqual(run.returncode, 0, run.stdout[-3000:].decode("utf-8", "replace"))


if __name__ == "__main__":
    sp.main()
