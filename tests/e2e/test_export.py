#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A recording for other tools: asciicast v2 and v3, plain text, HTML. Each is judged by somebody else: Debian's asciinema, a validator
written from the specification, the target's own words, the real browser."""
import base64
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from browser import Browser  # noqa: E402
from sp import Instance, main, wait_for  # noqa: E402

SECRET = "hunter2-never-shown"
PROMPT = rb"[$#] (\x1b\[[?0-9;]*[a-zA-Z])*$"
# Everything that a viewer's browser, terminal or spreadsheet might take for more than text.
HOSTILE = r"printf '</script><script>window.hacked=1</script><img src=x onerror=window.hacked=2> \033]0;title\007\033]52;c;QUJD\007\033[6n \342\200\256bidi\342\200\254 \377\376&amp;\n'"


class Terminal:
    """Somebody at a shell: types, and waits for what is on the screen."""

    def __init__(self, argv, env):
        self.seen = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], argv, dict(env, TERM="xterm-256color"))
        self.size(80, 24)

    def size(self, cols, rows):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def until(self, pattern, seconds=60):
        end = time.monotonic() + seconds
        while not re.search(pattern, self.seen):
            if time.monotonic() > end:
                raise AssertionError("did not see %r in %r" % (pattern, self.seen[-500:]))
            if select.select([self.fd], [], [], 1)[0]:
                try:
                    self.seen += os.read(self.fd, 65536)
                except OSError:
                    self.seen += b"<gone>$ "

    def type(self, keys, then=PROMPT):
        self.seen = b""
        for k in re.findall(".", keys, re.S):
            os.write(self.fd, k.encode())
            time.sleep(0.01)
        self.until(then)

    def close(self):
        os.close(self.fd)
        os.waitpid(self.pid, 0)


def setUpModule():
    global sp, S
    sp = Instance()
    sp.grant()
    t = Terminal(sp.ssh_argv("alice", ["-tt", "admin@core-01"], mux=False), sp.ssh_env("alice"))
    t.until(PROMPT)
    t.type("echo \u4f60\u597d \u4e16\u754c\r")
    t.type(HOSTILE + "\r")
    t.type("printf '\\033[1;31mred\\033[0m \\033[44mblue\\033[0m\\n'\r")
    t.type("for i in $(seq 1 40); do echo line-$i-end; done\r")
    t.type("for i in 1 2 3 4 5 6 7; do printf \"\\033[3$i;4${i}mcolour-$i \\033[7mx\\033[0m\\r\\n\"; sleep 0.06; done\r")
    t.size(100, 30)
    t.type("until [ $(tput cols) = 100 ]; do :; done; echo wi\"\"de\r", rb"wide\r\n(.|\n)*[$#] ")
    t.type("printf '\\033[?1049h\\033[Hfull-screen here'; sleep 0.3; printf '\\033[?1049l'\r")
    t.type("stty -echo; echo re''ady; read x; stty echo\r", rb"\nready\r\n$")
    t.type(SECRET + "\r")
    t.type("exit 3\r", rb"<gone>|closed")
    t.close()
    S = wait_for(lambda: [s for s in sp.sessions() if s["ended"]], 60, "the session to be over")[0]["id"]


def tearDownModule():
    sp.close()


def export(*args, who="carol", session=None, code=0):
    r = sp.ssh(who, "bastion", "export", session or S, "--format", *args)
    if r.code != code:
        raise AssertionError(r)
    return r


def records():
    return [dict(json.loads(x)) for x in export("records").text.splitlines()]


class Asciicast(unittest.TestCase):
    def v3(self, text):
        """The rules of docs.asciinema.org/manual/asciicast/v3: a header, then events whose times add up."""
        lines = text.split("\n")
        self.assertEqual(lines.pop(), "")
        head = json.loads(lines[0])
        self.assertEqual(head["version"], 3)
        self.assertIs(type(head["term"]["cols"]), int)
        self.assertIs(type(head["term"]["rows"]), int)
        self.assertLessEqual(set(head["term"]), {"cols", "rows", "type", "version", "theme"})
        self.assertLessEqual(set(head), {"version", "term", "timestamp", "idle_time_limit", "command", "title", "env", "tags"})
        self.assertIs(type(head.get("timestamp", 0)), int)
        at, events = 0.0, []
        for x in lines[1:]:
            if x.startswith("#"):
                continue
            e = json.loads(x)
            self.assertEqual(len(e), 3)
            self.assertIs(type(e[0]), float)
            self.assertGreaterEqual(e[0], 0)
            self.assertIn(e[1], "oimrx")
            self.assertIs(type(e[2]), str)
            if e[1] == "r":
                self.assertRegex(e[2], r"^[0-9]+x[0-9]+$")
            if e[1] == "x":
                self.assertRegex(e[2], r"^[0-9]+$")
            at += e[0]
            events.append((at, e[1], e[2]))
        return head, events

    def test_v2_is_what_asciinema_plays(self):
        cast = export("asciicast").out
        path = sp.dir + "/v2.cast"
        with open(path, "wb") as f:
            f.write(cast)
        seen = sp.dir + "/v2.out"
        pid, fd = pty.fork()  # asciinema wants a terminal, whatever it does
        if pid == 0:
            os.dup2(os.open(seen, os.O_WRONLY | os.O_CREAT, 0o600), 1)
            os.execvpe("asciinema", ["asciinema", "cat", path], dict(os.environ, LC_ALL="C.UTF-8"))
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        os.close(fd)
        with open(seen, "rb") as f:
            got = f.read()
        out = b"".join(base64.b64decode(x["data"]) for x in records() if x["kind"] in ("out", "err"))
        self.assertEqual(got.decode(), out.decode(errors="replace"))
        events = [json.loads(x) for x in cast.decode().splitlines()[1:]]
        self.assertEqual([e[0] for e in events], sorted(e[0] for e in events))
        self.assertNotIn("i", {e[1] for e in events})
        pid, fd = pty.fork()
        if pid == 0:
            os.execvpe("asciinema", ["asciinema", "play", "-i", "0.01", "-s", "50", path], dict(os.environ, TERM="xterm", LC_ALL="C.UTF-8"))
        played = b""
        try:
            while select.select([fd], [], [], 60)[0]:
                played += os.read(fd, 65536)
        except OSError:
            pass
        os.close(fd)
        self.assertEqual(os.waitpid(pid, 0)[1], 0, played[-300:])
        self.assertIn("\u4f60\u597d \u4e16\u754c".encode(), played)

    def test_v3_is_of_its_specification(self):
        head, events = self.v3(export("asciicast-v3").text)
        self.assertEqual((head["term"]["cols"], head["term"]["rows"], head["term"]["type"]), (80, 24, "xterm-256color"))
        self.assertEqual("".join(e[2] for e in events if e[1] == "o"),
                         b"".join(base64.b64decode(x["data"]) for x in records() if x["kind"] in ("out", "err")).decode(errors="replace"))
        self.assertIn("100x30", [e[2] for e in events if e[1] == "r"])
        self.assertEqual(events[-1][1:], ("x", "3"))
        self.assertIn("echo \u4f60\u597d \u4e16\u754c", [e[2] for e in events if e[1] == "m"])
        two = [json.loads(x) for x in export("asciicast").text.splitlines()[1:]]
        mine = [e for e in events if e[1] != "x"]
        self.assertEqual(len(two), len(mine))
        for a, b in zip(two, mine):
            self.assertEqual((a[1], a[2]), (b[1], b[2]))
            self.assertAlmostEqual(a[0], b[0], delta=0.001)

    def test_keys_only_when_asked_for_and_never_those_unseen(self):
        for f in ("asciicast", "asciicast-v3"):
            text = export(f, "--keys").text
            typed = "".join(json.loads(x)[2] for x in text.splitlines()[1:] if json.loads(x)[1] == "i")
            self.assertIn("echo \u4f60\u597d \u4e16\u754c\r", typed)
            self.assertIn("*" * len(SECRET) + "\r", typed)
            self.assertNotIn(SECRET, text)
        keys = b"".join(base64.b64decode(x["data"]) for x in records() if x["kind"] == "in")
        self.assertNotIn(SECRET.encode(), keys)
        self.assertIn(b"*" * len(SECRET) + b"\r", keys)
        self.assertIn("--keys", export("text", "--keys", code=2).err.decode())

    def test_every_export_is_in_the_audit_and_in_the_log(self):
        def acts():
            return sp.host("log", "status", "--json").json()["size"]
        for f in ("asciicast", "asciicast-v3", "text"):
            before, n = len(sp.audit("export")), acts()
            export(f)
            got = sp.audit("export")
            self.assertEqual(len(got), before + 1)
            self.assertIn("asciicast-v2" if f == "asciicast" else f, json.dumps(got))
            self.assertGreater(acts(), n)


class Text(unittest.TestCase):
    def test_lines_that_stood_on_the_screen_once_and_in_order(self):
        r = export("text")
        lines = r.text.splitlines()
        self.assertNotRegex(r.out, rb"[\x00-\x08\x0b-\x1f\x7f]")
        self.assertNotRegex(r.text, "[\u0080-\u009f\u202a-\u202e\u2066-\u2069]")
        self.assertEqual([x for x in lines if re.match(r"line-\d+-end$", x)], ["line-%d-end" % i for i in range(1, 41)])
        self.assertEqual(lines.count("\u4f60\u597d \u4e16\u754c"), 1)
        self.assertEqual(lines.count("full-screen here"), 1)
        self.assertEqual(lines.count("red blue"), 1)
        order = [lines.index(x) for x in ("\u4f60\u597d \u4e16\u754c", "red blue", "line-1-end", "line-40-end", "wide")]
        self.assertEqual(order, sorted(order))
        self.assertNotIn(SECRET, r.text)
        self.assertTrue([x for x in lines if "</script>" in x])

    def test_with_times(self):
        plain, timed = export("text").text.splitlines(), export("text", "--times").text.splitlines()
        form = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)  (.*)"
        got = [re.fullmatch(form, x).groups() for x in timed]
        self.assertEqual([x[1] for x in got], plain)
        self.assertEqual([x[0] for x in got], sorted(x[0] for x in got))


class Html(unittest.TestCase):
    """In the real browser. What it shows is what the engine says of the same bytes (tests/term/rows)."""

    @classmethod
    def setUpClass(cls):
        cls.path = sp.dir + "/page.html"
        with open(cls.path, "wb") as f:
            f.write(export("html").out)
        cls.b = Browser()
        cls.b.open(cls.path)
        cls.records = records()

    @classmethod
    def tearDownClass(cls):
        cls.b.close()

    def setUp(self):
        self.b.js("document.activeElement.blur(); location.hash = ''; true")

    def engine(self, ms):
        """The screen after everything up to that moment."""
        s = b""
        for x in self.records:
            if x["us"] > ms * 1000 + 999 or x["channel"] != 1:
                continue
            data = base64.b64decode(x["data"])
            if x["kind"] == "open":
                s += b"r" + struct.pack("<HH", 80, 24)
            elif x["kind"] == "resize":
                s += b"r" + struct.pack("<HH", *struct.unpack("<II", data[:8]))
            elif x["kind"] in ("out", "err"):
                s += b"f" + struct.pack("<I", len(data)) + data
        with open(sp.dir + "/stream", "wb") as f:
            f.write(s + b"c")
        out = subprocess.run([os.environ["SALLYPORT_BUILD"] + "/tests/term/rows", sp.dir + "/stream"], stdout=subprocess.PIPE, check=True).stdout
        return [x[1:].split("\t")[0] for x in out.decode().splitlines() if x.startswith("|")]

    def screen(self, ms=None):
        if ms is not None:
            self.b.js("location.hash = 't=%.3f'; true" % (ms / 1000))
            self.b.wait("document.getElementById('said').textContent.startsWith('at ')")
        return self.b.js("[...document.querySelectorAll('.row')].map(r => r.textContent)")

    def quiet(self):
        """Moments at which nothing happened just before or after."""
        at = sorted(x["us"] for x in self.records if x["lane"] == "out")
        return [(a + 20000) // 1000 for a, b in zip(at, at[1:]) if b - a > 24000][:40] + [at[-1] // 1000 + 40]

    def test_screens_are_the_engines(self):
        times = self.quiet()
        self.assertGreater(len(times), 5)
        for ms in times + times[::-3]:
            self.assertEqual([x.rstrip(" ") for x in self.screen(ms)], self.engine(ms), ms)

    def test_nothing_runs_and_nothing_is_asked_for(self):
        self.b.open(self.path)
        self.screen(self.quiet()[-1])
        self.assertEqual(self.b.requests(), ["file://" + self.path])
        self.assertIsNone(self.b.js("window.hacked"))
        self.assertEqual(self.b.complaints(), [])
        self.assertEqual(self.b.js("document.querySelectorAll('#screen img, #screen script, #marks img, #marks script').length"), 0)
        self.assertEqual(self.b.js("document.scripts.length"), 2)
        with open(self.path, encoding="utf-8") as f:
            page = f.read()
        self.assertNotIn(SECRET, page)
        self.assertNotRegex(page, r"eval\(|new Function|innerHTML|https?://(?!docs)")
        self.assertNotRegex(page, "[\u0080-\u009f\u202a-\u202e\u2066-\u2069\x1b]")
        # ... and its policy would stop it: a script, a style and an image that somebody puts in
        self.b.js("""const s = document.createElement('script'); s.textContent = 'window.hacked = 3'; document.body.append(s);
                     const i = new Image(); i.src = 'http://127.0.0.1:9/x'; document.body.append(i); true""")
        self.assertIsNone(self.b.js("window.hacked"))
        self.assertEqual(self.b.js("fetch('http://127.0.0.1:9/y').then(() => 1, () => 2)"), 2)
        self.assertTrue(self.b.complaints())
        self.assertEqual([x for x in self.b.requests() if "127.0.0.1" in x and not any(
            e["method"] == "Network.loadingFailed" and e["params"].get("blockedReason") == "csp" for e in self.b.events)], [])

    def test_keys_search_marks_and_time(self):
        b = self.b
        b.open(self.path)
        now = "Number(document.getElementById('time').value)"
        said = "document.getElementById('said').textContent"
        b.press("]")
        first = b.js(now)
        self.assertIn("command", b.js(said))
        b.press("]")
        self.assertGreater(b.js(now), first)
        b.press("[")
        self.assertEqual(b.js(now), first)
        b.press("/")
        self.assertEqual(b.js("document.activeElement.id"), "words")
        b.call("Input.insertText", text="full-screen HERE".lower())
        b.press("Enter")
        self.assertIn("found at", b.js(said))
        self.assertEqual(b.js("[...document.querySelectorAll('mark')].map(m => m.textContent).join('')"), "full-screen here")
        b.press("g")
        b.call("Input.insertText", text="50%")
        b.press("Enter")
        self.assertAlmostEqual(b.js(now), b.js("Number(document.getElementById('time').max)") / 2, delta=2)
        b.press("End")
        b.press(" ")
        self.assertEqual(b.js("document.getElementById('play').getAttribute('aria-label')"), "Pause")
        at = b.js(now)
        b.wait("%s > %f" % (now, at % 1000 + 30) if at < 1000 else now + " > 30")
        b.press(" ")
        self.assertEqual(b.js("document.getElementById('play').getAttribute('aria-label')"), "Play")
        b.press("0")
        b.press("i")
        self.assertTrue(b.js("document.getElementById('idle').checked"))
        b.press("?")
        self.assertTrue(b.js("document.getElementById('help').open"))
        b.js("document.getElementById('help').close(); true")
        names = b.js("[...document.querySelectorAll('button,input,select')].filter(e => !(e.getAttribute('aria-label') || e.textContent ||"
                     " e.closest('label'))).map(e => e.id)")
        self.assertEqual(names, [])
        kinds = set(b.js("[...document.querySelectorAll('#marks li')].map(x => x.querySelector('b').textContent)"))
        self.assertLessEqual({"a", "c", "r", "s"}, kinds)

    def test_wide_characters_are_two_columns(self):
        self.b.open(self.path)
        self.b.press("/")
        self.b.call("Input.insertText", text="\u4f60\u597d")
        self.b.press("Enter")
        wide = self.b.js("[...document.querySelectorAll('.row i.w')].map(e => e.getBoundingClientRect().width)")
        one = self.b.js("(() => { const g = document.getElementById('grid').getBoundingClientRect().width; return g / 80; })()")
        self.assertTrue(wide)
        for w in wide:
            self.assertAlmostEqual(w, 2 * one, delta=0.2)

    @unittest.skipUnless(os.environ.get("SHOTS"), "SHOTS=DIR keeps pictures to look at")
    def test_pictures(self):
        for w, h, dark in ((1280, 800, True), (1280, 800, False), (760, 900, True)):
            b = Browser(w, h, dark)
            b.open(self.path)
            b.press("/")
            b.call("Input.insertText", text="blue")
            b.press("Enter")
            b.shot("%s/%d-%s.png" % (os.environ["SHOTS"], w, "dark" if dark else "light"))
            b.close()


if __name__ == "__main__":
    main()
