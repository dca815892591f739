# SPDX-License-Identifier: Apache-2.0
"""Streams of real programs, made on a pty of our own: each a list of events in
the form that rows.c reads. Nothing of them is kept in the repository."""
import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import time

QUIET = 0.25         # a program that says nothing for so long has drawn
LIMIT = 400_000      # bytes of one stream

SHELL = ["bash", "--norc", "--noprofile", "-i"]
TEXT = "".join(f"{n:4d}  the quick brown fox {'jumps ' * (n % 17)}中文字寬 {n * 7919}\n" for n in range(400))
CODE = "".join(f"/* {n} */ static int f{n}(const char *s) {{ return s[{n}] == '\\t' ? {n} : strlen(\"ü€中\"); }}\n" for n in range(200))


class Stream:
    """A program on a terminal, and what it wrote, as events."""

    def __init__(self, argv, cols=80, rows=24, home=None):
        self.events = [("r", cols, rows)]
        self.n = 0
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(home)
            env = {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"], "HOME": home,
                   "PS1": "\\[\\e[1;32m\\]\\u\\[\\e[0m\\]:\\w\\$ ", "HISTFILE": "/dev/null", "LESS": "", "TMUX_TMPDIR": home}
            os.execvpe(argv[0], argv, env)
        self.size(cols, rows)
        self.settle(1.0)

    def size(self, cols, rows):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def resize(self, cols, rows):
        self.settle()
        self.size(cols, rows)
        self.events.append(("r", cols, rows))
        self.settle()

    def answer(self, data):
        """What a terminal answers when it is asked who it is and where it stands."""
        for ask, reply in ((rb"\x1b\[0?c", b"\x1b[?62;22c"), (rb"\x1b\[>0?c", b"\x1b[>41;390;0c"), (rb"\x1b\[5n", b"\x1b[0n"),
                           (rb"\x1b\[6n", b"\x1b[1;1R"), (rb"\x1b\[0?x", b"\x1b[2;1;1;112;112;1;0x")):
            for _ in re.findall(ask, data):
                os.write(self.fd, reply)

    def settle(self, quiet=QUIET, most=6.0):
        """Takes what comes until the program has been quiet."""
        end = time.monotonic() + most
        while time.monotonic() < end and self.n < LIMIT:
            if not select.select([self.fd], [], [], quiet)[0]:
                return
            try:
                data = os.read(self.fd, 4096)
            except OSError:
                return
            if not data:
                return
            self.n += len(data)
            self.events += [("f", data), ("c",)]
            self.answer(data)

    def type(self, *keys, quiet=QUIET):
        for k in keys:
            os.write(self.fd, k.encode())
            self.settle(quiet)

    def last(self, n):
        """The last bytes that it wrote."""
        return b"".join(e[1] for e in self.events[-200:] if e[0] == "f")[-n:]

    def close(self):
        self.settle()
        try:
            os.kill(self.pid, signal.SIGHUP)
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.close(self.fd)
        os.waitpid(self.pid, 0)
        return self.events + [("c",)]


def shell(home):
    s = Stream(SHELL, home=home)
    s.type("ls -l --color=always /usr/bin | head -60\r", "echo ab\x02\x02cd\x05 ef\x01: \r", "seq 1 30\t\r", "cat text | head -50\r",
           "printf '\\e[31mred\\e[0m \\e[4;7mx\\e[m\\n'\r", "history | tail -3\r", "\x1b[A\x1b[A\x15", "echo " + "long " * 60 + "\r", "中文輸入\x7f\x7fab\r",
           "clear\r", "printf 'a\\tb\\tc\\r\\nd\\be\\n'\r", "(echo one; echo two) | column\r", "\x12seq\x07", "exit\r")
    return s.close()


def shell_resized(home):
    s = Stream(SHELL, 100, 30, home)
    s.type("ls /etc\r", "seq 1 100\r")
    s.resize(60, 20)
    s.type("echo " + "x" * 130 + "\r", "ls /usr/lib\r")
    s.resize(120, 40)
    s.type("ls -l /usr/share | head -30\r", "clear\r", "seq 1 10\r")
    return s.close()


def vim(home):
    s = Stream(["vim", "-u", "NONE", "-N", "-c", "syntax on", "-c", "set number hlsearch showcmd", "code.c"], home=home)
    s.type("\x06", "\x06", "/strlen\r", "n", "n", "5dd", "p", "u", "ohello wörld 中文\x1b", ":split text\r", "\x17w", ":vsplit\r", "G", "gg", "V5j", "d", ":%s/fox/wolf/g\r",
           ":set list\r", "\x17o", ":syntax off\r", "ix\ty\x1b", ":q!\r", ":qa!\r")
    return s.close()


def vim_resized(home):
    s = Stream(["vim", "-u", "NONE", "-N", "-c", "syntax on", "text"], 90, 28, home)
    s.type("\x06")
    s.resize(70, 20)
    s.type("\x06", "G", "gg", "oabc\x1b")
    s.resize(110, 35)
    s.type(":qa!\r")
    return s.close()


def less(home):
    s = Stream(["less", "-N", "text"], home=home)
    s.type(" ", " ", "b", "/fox\r", "n", "n", "G", "g", "-S\r", "\x1b[C", "\x1b[C", "h", "q", "q")
    return s.close()


def top(home):
    s = Stream(["top", "-d0.4"], home=home)
    for key in ("z", "x", "1", "c", "V", "t", "m", "<", "q"):
        s.type(key, quiet=0.5)
    return s.close()


def htop(home):
    s = Stream(["htop", "-d", "5"], 110, 30, home)
    for key in ("\x1b[B", "\x1b[B", "t", "\x1b[15~", "\x1bOQ", "\x1b", "H", "q"):
        s.type(key, quiet=0.6)
    return s.close()


def mc(home):
    s = Stream(["mc", "-u", "/usr", home], home=home)
    s.type("\x1b[B", "\x1b[B", "\r", "\t", "\x1b[B", "\x1bOR", "\x1b[6~", "\x1b[21~", "\x1b[20~", "\x1b[C", "\x1b\x1b", "\x1b[21~", "\r")
    return s.close()


def tmux(home):
    s = Stream(["tmux", "-L", "corpus", "-f", "/dev/null", "new", "bash --norc"], 100, 30, home)
    s.type("ls -l --color /usr/bin | head -40\r", "\x02%", "seq 1 60\r", "\x02\"", "top -d0.4\r", "\x02o", "vim -u NONE text\r", "\x06", ":q\r", "\x02z", "\x02z", "\x02[", "\x1b[5~", "q")
    s.resize(80, 24)
    s.type("\x02c", "cat text\r", "\x02p")
    events = s.close()
    subprocess.run(["tmux", "-L", "corpus", "kill-server"], env={**os.environ, "TMUX_TMPDIR": home}, check=True)
    return events


def vttest(home):
    """Cursor movements, screen features, character sets, double size, VT102, known bugs, reset, VT220 and xterm."""
    s = Stream(["vttest"], home=home)

    def through(keys, depth=0):
        """Pushes RETURN through what a menu's entry shows, the entries of a menu below it one by one."""
        s.type(keys, quiet=0.15)
        for _ in range(40):
            screen = s.last(600)
            if b"Push <RETURN>" in screen[-40:]:
                s.type("\r", quiet=0.15)
            elif b"Enter choice number" in screen[-60:]:
                most = int(re.findall(rb"Enter choice number \(0 - (\d+)\)", screen)[-1])
                if depth == 1:
                    for n in range(1, min(most, 12) + 1):
                        through(f"{n}\r", 2)
                if depth > 0:
                    s.type("0\r", quiet=0.15)
                return
            else:
                s.type("\r", quiet=0.15)

    for entry in (1, 2, 3, 4, 8, 9, 10, 11):
        through(f"{entry}\r", 1 if entry in (3, 9, 10, 11) else 0)
    return s.close()


def wide(home):
    s = Stream(SHELL, 61, 20, home)
    s.type("cat text | tail -40\r", "printf 'e\\u0301 o\\u0308 \\u4e2d\\u6587\\n'\r", "echo " + "寬" * 45 + "\r", "head -c 3000 /dev/urandom | tr -dc '[:print:]\\n'\r")
    s.resize(40, 12)
    s.type("cat text | head -20\r")
    return s.close()


STREAMS = (shell, shell_resized, wide, vim, vim_resized, less, top, htop, mc, tmux, vttest)
NEEDS = ("vim", "less", "top", "htop", "mc", "tmux", "vttest", "bash")


def encode(events):
    out = b""
    parts = []
    for e in events:
        if e[0] == "r":
            parts.append(struct.pack("<cHH", b"r", e[1], e[2]))
        elif e[0] == "f":
            parts.append(struct.pack("<cI", b"f", len(e[1])) + e[1])
        else:
            parts.append(b"c")
    return out.join(parts)


def make(where):
    """Writes NAME.events for each stream below `where`; their paths."""
    missing = [n for n in NEEDS if shutil.which(n) is None]
    if missing:
        raise SystemExit("not installed: " + " ".join(missing))
    home = os.path.join(where, "home")
    os.makedirs(home, exist_ok=True)
    for name, text in (("text", TEXT), ("code.c", CODE)):
        with open(os.path.join(home, name), "w", encoding="utf-8") as f:
            f.write(text)
    paths = []
    for make_one in STREAMS:
        path = os.path.join(where, make_one.__name__ + ".events")
        with open(path, "wb") as f:
            f.write(encode(make_one(home)))
        paths.append(path)
    return paths
