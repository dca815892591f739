# SPDX-License-Identifier: Apache-2.0
"""An auditor's terminal: OpenSSH in a pty of its own, and pyte (another terminal than ours) to read the screen from. All
bytes that reached it are kept, and must be of the grammar that the player may write: see check()."""
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
import unicodedata

import pyte

# Everything that the player itself writes: where the cursor goes, colours and attributes, erasing, the other screen and the
# cursor's visibility. No title, no question, no string, no mode besides these two.
ALLOWED = re.compile(rb"\x1b\[(?:\d{1,4};\d{1,4}H|0(?:;(?:[1-9]|[349][0-7]|10[0-7]|[34]8;5;\d{1,3}|[34]8;2;\d{1,3};\d{1,3};\d{1,3}))*m|2J"
                     rb"|\?1049[hl]|\?25[hl])")
FORBIDDEN_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}


class Viewer:
    def __init__(self, sp, who, args, cols=80, rows=24, term="xterm-256color"):
        self.raw, self.done = b"", 0
        self.screen = pyte.Screen(cols, rows)
        self.stream = pyte.ByteStream(self.screen)
        master, slave = pty.openpty()
        self.fd = master
        self._size(cols, rows)
        env = sp.ssh_env(who)
        env["TERM"] = term
        self.p = subprocess.Popen(sp.ssh_argv(who, ["-tt", "bastion"] + list(args)), stdin=slave, stdout=slave, stderr=slave,
                                  env=env, start_new_session=True,
                                  preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        sp.started.append(self.p)
        os.close(slave)

    def _size(self, cols, rows):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def resize(self, cols, rows):
        self._size(cols, rows)
        self.screen.resize(rows, cols)

    def type(self, keys):
        os.write(self.fd, keys.encode() if isinstance(keys, str) else keys)

    def pump(self, seconds=0.05):
        """Takes what came; False at the end."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return True
        try:
            piece = os.read(self.fd, 65536)
        except OSError:
            piece = b""
        if not piece:
            return False
        self.raw += piece
        self.stream.feed(piece)
        return True

    @property
    def rows(self):
        return [x.rstrip() for x in self.screen.display]

    @property
    def bar(self):
        return self.rows[-1]

    @property
    def text(self):
        return "\n".join(self.rows)

    def until(self, what, seconds=60):
        """Waits until the screen fits: a regular expression, or a function of the viewer."""
        fits = what if callable(what) else lambda v: re.search(what, v.text, re.M)
        end = time.monotonic() + seconds
        while True:
            found = fits(self)
            if found:
                return found
            if not self.pump() or time.monotonic() > end:
                raise AssertionError("no %r on the screen:\n%s" % (what, self.text))

    def press(self, keys, what, seconds=60):
        self.type(keys)
        return self.until(what, seconds)

    def clock(self):
        """The moment that the bar shows, in seconds."""
        m = re.search(r"(\d+):(\d\d):(\d\d)/\d+:\d\d:\d\d", self.bar)
        return int(m[1]) * 3600 + int(m[2]) * 60 + int(m[3]) if m else None

    def close(self):
        """Leaves with q; returns the exit code."""
        if self.fd < 0:
            return self.p.returncode
        end = time.monotonic() + 60
        self.type("\x1b")
        while self.p.poll() is None and time.monotonic() < end:
            try:
                self.type("q")
            except OSError:
                pass
            while self.pump(0.2) and self.p.poll() is None and time.monotonic() < end:
                if not select.select([self.fd], [], [], 0.3)[0]:
                    break
        while self.pump(0):
            if not select.select([self.fd], [], [], 0.1)[0]:
                break
        if self.p.poll() is None:
            self.p.kill()
        self.p.wait()
        os.close(self.fd)
        self.fd = -1
        return self.p.returncode

    def check(self):
        """What reached the terminal is of the grammar, byte for byte. ssh's own last words are text."""
        at, text = 0, b""
        while at < len(self.raw):
            if self.raw[at] == 0x1b:
                m = ALLOWED.match(self.raw, at)
                assert m, "the player wrote %r" % self.raw[at:at + 40]
                at = m.end()
                continue
            text += self.raw[at:at + 1]
            at += 1
        for c in text.decode("utf-8"):            # strict: broken UTF-8 ends here
            assert c in "\r\n" or unicodedata.category(c) not in FORBIDDEN_CATEGORIES, "the player wrote %r" % c
