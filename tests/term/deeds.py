# SPDX-License-Identifier: Apache-2.0
"""People at a terminal: what they do is known, what was seen of it is a stream for sensed.c.

A Typist runs a program on a pty and types at 8 to 35 ms a key, without waiting for the echo, as people do; where
they would look at the screen first, `see` waits for it. Distance is put in afterwards: each look costs a round trip,
and each answer comes one later."""
import os
import random
import re
import select
import shutil
import struct
import termios
import time

from corpus import Stream

PACE = tuple(float(x) / 1000 for x in os.environ.get("SENSE_PACE", "8,35").split(","))    # seconds between two keys
PS1_TWO_LINES = "\\[\\e[1;34m\\]\\D{%H:%M} \\w\\[\\e[0m\\]\\n\\[\\e[1;32m\\]\\u@core-01\\[\\e[0m\\] ❯ "


class Typist(Stream):
    def __init__(self, argv, seed=1, **k):
        self.log = []          # (time, 'i', 'f', 'r', 'look', 'secret' or 'end', bytes)
        self.random = random.Random(seed)
        self.seen = b""
        super().__init__(argv, **k)

    def take(self, wait):
        if not select.select([self.fd], [], [], wait)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        self.log.append((time.monotonic(), "f", data))
        self.seen += data
        self.answer(data)
        return bool(data)

    def resize(self, cols, rows):
        self.settle(0.15)
        self.size(cols, rows)
        self.log.append((time.monotonic(), "r", struct.pack("<HH", cols, rows)))
        self.settle(0.15)

    def settle(self, quiet=0.25, most=6.0):
        end = time.monotonic() + most
        while time.monotonic() < end and self.take(quiet):
            pass

    def see(self, pattern, seconds=60):
        """Looks until the screen showed it."""
        if isinstance(pattern, str):
            pattern = pattern.encode()
        end = time.monotonic() + seconds
        while True:
            m = re.search(pattern, self.seen, re.S)
            if m:
                self.seen = self.seen[m.end():]
                self.log.append((time.monotonic(), "look", b""))
                return
            if time.monotonic() > end or (not self.take(1.0) and time.monotonic() > end):
                raise AssertionError(f"did not see {pattern!r} in {self.seen[-400:]!r}")

    def send(self, data):
        self.log.append((time.monotonic(), "i", data))
        os.write(self.fd, data)

    def keys(self, text):
        """One by one; sequences of ESC, and ^X as \\x18, in one piece each."""
        for key in re.findall("\x1b\\[[0-9;]*[A-Za-z~]|\x1bO.|.", text, re.S):
            self.send(key.encode())
            end = time.monotonic() + self.random.uniform(*PACE)
            while time.monotonic() < end:
                self.take(max(0.0, end - time.monotonic()))

    def paste(self, text):
        self.send(text.encode())

    def hidden(self, seconds=60):
        """Waits until the terminal echoes no more: a prompt may be empty."""
        end = time.monotonic() + seconds
        while termios.tcgetattr(self.fd)[3] & termios.ECHO:
            if time.monotonic() > end:
                raise AssertionError("the echo stays on")
            self.take(0.02)

    def secret(self, do, *args):
        """What is typed by do(*args) must not be seen by anybody."""
        self.log.append((time.monotonic(), "secret", b""))
        do(*args)
        self.log.append((time.monotonic(), "end", b""))

    def stream(self, distance_s):
        """What a recorder saw, at that distance from the target; and when secrets were typed, in us."""
        self.settle()
        events, offset = [], 0.0
        for at, what, data in self.log:
            if what == "look":
                offset += distance_s
            else:
                events.append((at + offset + (distance_s if what in "fr" else 0), what, data))
        events.sort(key=lambda e: e[0])
        out = struct.pack("<cHH", b"r", self.events[0][1], self.events[0][2])
        first, spans = events[0][0], []
        for at, what, data in events:
            us = int((at - first) * 1e6)
            if what == "secret":
                spans.append([us, us])
            elif what == "end":
                spans[-1][1] = us
            elif what == "r":
                out += b"r" + data
            else:
                out += struct.pack("<cQ", b"t", us) + struct.pack("<cI", what.encode(), len(data)) + data
        return out, spans


# ------------------------------------------------------------------ commands

class Day:
    """What is done at one terminal: the commands as they ran, in order, and how many other lines were entered."""

    def __init__(self, typist, prompt):
        self.t, self.prompt = typist, prompt
        self.ran, self.lines = [], 0

    def do(self, keys, command=None, paste=False, then=None):
        """Types the keys with Enter; what ran by them, the same unless it is told."""
        (self.t.paste if paste else self.t.keys)(keys + "\r")
        self.ran.append(keys if command is None else command)
        self.t.see(then or self.prompt)

    def other(self, keys, then=None):
        """Lines that are no commands."""
        self.t.keys(keys)
        self.lines += keys.count("\r")
        self.t.see(self.prompt if then is None else then)


PLAIN = ("id", "uname -a", "df -h /", "ls -la /etc/ssh", "ps aux | head -3", "grep -n root /etc/passwd", "echo 'a  b' \"c\"", "find /etc -maxdepth 1 -name 'host*'",
         "x=$(date +%s); echo $x", "true && echo yes || echo no", "printf '%s\\n' one two", "ls /nonexistent", "tail -n 2 /etc/group", "false; echo $?")


def admin(d):
    """What an administrator does at a shell with line editing (bash, zsh)."""
    for c in PLAIN:
        d.do(c)
    d.do("echo wrnog\x7f\x7f\x7f\x7frong", "echo wrong")
    d.do("cho first\x01e", "echo first")
    d.do("echo one two thre\x05e", "echo one two three")
    d.do("echo kill this\x15echo kept", "echo kept")
    d.do("echo a b c\x17d", "echo a b d")
    d.do("\x1b[A", "echo a b d")
    d.do("\x1b[A\x1b[A\x1b[B", "echo a b d")
    d.do("echo left\x1b[D\x1b[D\x1b[D\x1b[DX", "echo Xleft")
    d.do("ls /etc/hostn\t", "ls /etc/hostname")
    d.do("cd /usr/shar\t.", "cd /usr/share/.")
    d.do("cd -")
    d.do("\x12hostname", "ls /etc/hostname")
    d.do("echo " + "long " * 40 + "end")
    d.do("echo 中文字 寬字")
    d.do("echo " + "寬" * 60)
    d.do("echo grüße")
    d.do("echo pasted in one piece", paste=True)
    d.do("\x1b[200~echo bracketed\x1b[201~", "echo bracketed", paste=True)
    d.do("clear")
    d.do("echo after clear")
    d.do("echo before\x0c after", "echo before after")
    d.do("seq 1 60")
    d.do("tail -3 /etc/services | cut -c1-20")
    d.other("\r")
    d.other("nothing of this\x03")
    d.do("for i in 1 2; do\recho $i\rdone", "for i in 1 2; do\recho $i\rdone", then="2\r\n.*" + d.prompt)
    d.do("cat <<X\rhere\rX", "cat <<X\rhere\rX", then="here\r\n.*" + d.prompt)


def bash_more(d):
    d.do("\x1b[200~echo one line\necho and two\x1b[201~", "echo one line\recho and two", paste=True, then="and two\r\n.*and two\r\n.*" + d.prompt)
    d.do("ls /etc/ss\t\th/\x15echo listed", "echo listed")
    d.do("set -o vi")
    d.do("echo vi mode\x1bbiX\x1bA done", "echo vi Xmode done")
    d.do("\x1bk", "echo vi Xmode done")
    d.do("set -o emacs")
    d.do("sleep 0.6; echo slept\recho ahead\rid -u", "sleep 0.6; echo slept", then="slept\r\n.*ahead\r\n.*\r0\r\n.*" + d.prompt)
    d.ran += ["echo ahead", "id -u"]
    d.do("seq 1 2000\recho behind", "seq 1 2000", then="behind\r\n.*" + d.prompt)
    d.ran.append("echo behind")


def dash(d):
    """At a shell without line editing."""
    for c in PLAIN:
        d.do(c)
    d.do("echo mistaek\x7f\x7fke", "echo mistake")
    d.do("test -d /etc && echo yes")


def resized(d):
    """The window changes at a prompt, within a line and while a program runs."""
    d.do("ls /etc")
    d.t.resize(60, 20)
    d.do("echo " + "x" * 130)
    d.t.keys("echo begun here and ")
    d.t.resize(100, 30)
    d.do("ended there", "echo begun here and ended there")
    d.do("seq 1 40")
    d.t.resize(80, 24)
    d.do("id")
    d.do("echo 中文字 寬字")


def others(d):
    """Programs that take the whole screen, shells within shells, and a command after each."""
    d.t.keys("vim -u NONE -nN text\r")
    d.ran.append("vim -u NONE -nN text")
    d.t.see("fox")
    d.t.settle()
    d.t.keys("jjjoa line of text\x1b:set number\r")
    d.ran.append(":set number")
    d.t.settle()
    d.do(":q!")
    d.do("echo after vim")
    for program, keys in (("less text", "jjk"), ("top -d 0.4", "z"), ("more text", " ")):
        d.t.keys(program + "\r")
        d.ran.append(program)
        d.t.settle(0.4)
        d.t.keys(keys)
        d.t.settle(0.4)
        d.t.keys("q")
        d.t.see(d.prompt)
        d.do("echo after " + program)
    d.do("bash --norc --noprofile")
    inner = Day(d.t, d.prompt)
    inner.do("echo within")
    inner.do("cd /tmp")
    inner.do("PS1='in the vault> '", then="vault> \\Z")
    inner.prompt = "vault> \\Z"
    inner.do("echo under another name")
    d.ran += inner.ran
    d.do("exit")
    if os.geteuid() == 0:
        for shell in ("su -s /bin/sh nobody", "sudo -n sh"):
            d.do(shell)
            inner = Day(d.t, d.prompt)
            inner.do("id")
            inner.do("echo as somebody")
            d.ran += inner.ran
            d.do("exit")


def python(d):
    d.do("/usr/bin/python3 -q", then=">>> \\Z")
    inner = Day(d.t, ">>> \\Z")
    for c in ("1+1", "import os, sys", "print('x' * 30)", "os.getpid()", "x = [n for n in range(3)]", "x", "help", "{'a': 1}"):
        inner.do(c)
    inner.do("\x1b[A\x1b[A", "help")
    inner.do("prnt\x01\x1b[C\x1b[Ci\x05(4)", "print(4)")
    d.ran += inner.ran
    d.do("exit()")
    d.do("echo after python")


def tmux(d):
    """A multiplexer, whole and with its window split."""
    d.do("tmux -L sense%d -f /dev/null new %s" % (d.t.pid, quote("PS1='in tmux # ' exec bash --norc --noprofile")), then="in tmux # ")
    d.t.settle()
    inner = Day(d.t, "in tmux # ")
    for c in PLAIN[:8]:
        inner.do(c, then="in tmux # ")
        d.t.settle()
    d.t.keys("\x02%")
    d.t.settle(0.5)
    for c in ("id", "ls /etc/ssh", "echo in half a window"):
        inner.do(c, then="[$#] ")
        d.t.settle()
    d.ran += inner.ran
    d.t.keys("exit\r")
    d.t.settle(0.5)
    d.t.keys("exit\r")
    d.ran += ["exit", "exit"]
    d.t.see(d.prompt)
    d.do("echo after tmux")


# ------------------------------------------------------------------- secrets

PROMPTS = ("Password: ", "password for alice: ", "Enter passphrase for key '/root/.ssh/id': ", "密碼：", "请输入密码: ", "Passwort: ", "Mot de passe : ",
           "PIN: ", "Token? ", "OTP> ", "Vault key (hidden) ", "輸入一次性密碼 > ", "secret=", "", "Kennwort für root:", "Enter new UNIX password:", "[sudo] hasło użytkownika: ")

STARS = """
import sys, termios, tty
prompt, star = sys.argv[1], sys.argv[2]
old = termios.tcgetattr(0)
sys.stdout.write(prompt); sys.stdout.flush()
tty.setraw(0)
try:
    while True:
        c = sys.stdin.buffer.raw.read(1)
        if c in (b'\\r', b'\\n'): break
        sys.stdout.buffer.write(star.encode()); sys.stdout.flush()
finally:
    termios.tcsetattr(0, termios.TCSADRAIN, old)
print()
"""
PIN = """
import sys, termios, tty
old = termios.tcgetattr(0)
sys.stdout.write(sys.argv[1]); sys.stdout.flush()
tty.setraw(0)
try: sys.stdin.buffer.read(6)
finally: termios.tcsetattr(0, termios.TCSADRAIN, old)
print()
"""
SLOW = """
import sys, time, termios
old = termios.tcgetattr(0); new = termios.tcgetattr(0); new[3] &= ~termios.ECHO
termios.tcsetattr(0, termios.TCSADRAIN, new)
for c in sys.argv[1]:
    sys.stdout.write(c); sys.stdout.flush(); time.sleep(0.01)
sys.stdin.readline()
termios.tcsetattr(0, termios.TCSADRAIN, old)
print()
"""
LATE = """
import os, select, sys, termios, time, tty
old = termios.tcgetattr(0)
tty.setraw(0)
due, lines = [], 0
try:
    while lines < 3:
        if select.select([0], [], [], 0.02)[0]:
            due += [(time.monotonic() + 0.4, bytes([c])) for c in os.read(0, 100)]
        while due and due[0][0] <= time.monotonic():
            c = due.pop(0)[1]
            lines += c == b'\\r'
            os.write(1, b'\\r\\n' if c == b'\\r' else c)
finally:
    termios.tcsetattr(0, termios.TCSADRAIN, old)
"""
SCRIPTS = (("stars.py", STARS), ("pin.py", PIN), ("slow.py", SLOW), ("late.py", LATE))


def quote(s):
    return "'" + s.replace("'", "'\\''") + "'"


SECRETS = ("hunter2", "correct horse battery", "P@ss w0rd!", "123456", "密碼秘密", "tr0ub4dor&3", "aaaaaaaa", "ls -la", "Ünïcödé", "0000", "x*y*z*w", "Password: ")


def entered(t, text):
    t.secret(t.keys, text + "\r")


def pasted(t, text):
    t.secret(lambda: (t.paste(text), t.send(b"\r")))


def pasted_whole(t, text):
    t.secret(t.paste, text + "\r")


def corrected(t, text):
    t.secret(t.keys, text[:-1] + "x\x7f" + text[-1] + "\r")


def six(t, _):
    t.secret(t.keys, "314159")


def to_cat(t, text):
    entered(t, text)
    t.send(b"\x04")


def twice(t, text):
    entered(t, text)
    t.see("assword.*:")
    t.settle(0.1, 1.0)
    entered(t, text)


def given_up(t, text):
    t.secret(t.keys, text)
    t.settle(0.1, 1.0)
    t.send(b"\x03")


NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups "
# How the command line asks, how the secret is typed, what is seen first (else the prompt); one of `of` prompts alone where it has one of its own.
ASKS = (
    (lambda p: f"read -s -p {quote(p)} x", entered, None),
    (lambda p: f"/usr/bin/python3 -c 'import getpass,sys; getpass.getpass(sys.argv[1])' {quote(p)}", entered, None),
    (lambda p: f"stty -echo; printf %s {quote(p)}; read x; stty echo; echo", entered, None),
    (lambda p: f"/usr/bin/python3 stars.py {quote(p)} '*'", entered, None),
    (lambda p: f"/usr/bin/python3 stars.py {quote(p)} '•'", entered, None),
    (lambda p: f"/usr/bin/python3 slow.py {quote(p)}", entered, None),
    (lambda p: f"/usr/bin/python3 pin.py {quote(p)}", six, None),
    (lambda p: f"read -s -p {quote(p)} x", pasted, None),
    (lambda p: f"/usr/bin/python3 slow.py {quote(p)}", corrected, None),
    (lambda p: f"stty -echo; printf %s {quote(p)}; cat >/dev/null; stty echo", to_cat, None),
    (lambda p: f"read -s -p {quote(p)} x; echo; echo \"it was $x\"", pasted_whole, None),
)
OWN = (
    ("openssl enc -aes-256-cbc -pbkdf2 -in text -out /dev/null 2>&1", twice, "password:"),
    ("openssl enc -aes-256-cbc -pbkdf2 -in text -out /dev/null 2>&1", lambda t, s: (t.secret(t.paste, s + "\r" + s + "\r")), "password:"),
    ("ssh-keygen -y -f key", entered, "passphrase.*: "),
    ("ssh-keygen -q -t ed25519 -f new; rm new*", lambda t, s: (entered(t, s), t.see("again: "), t.settle(0.1, 1.0), entered(t, s)), "passphrase.*: "),
    ("systemd-ask-password 'Disk key:'", entered, "key:"),
    ("mariadb -h 127.0.0.1 -P 1 -u root -p", entered, "assword: "),
    ("psql -W -h 127.0.0.1 -p 1 -U x x", entered, "assword: "),
    (NOBODY + "su -c id", entered, "assword: "),
    (NOBODY + "sudo -k id", given_up, "assword for .*: "),
    ("(for i in 1 2 3 4 5 6 7 8; do sleep 0.2; echo tick; done) & read -s -p 'Password: ' x; wait", entered, "assword: "),
    ("read -s -p 'Password: ' x", given_up, "assword: "),
)


def secrets(d, part, parts):
    """Every way of asking by every prompt, this part of them."""
    t = d.t
    asks = [(ask(p), how, re.escape(p.rstrip())) for ask, how, _ in ASKS for p in PROMPTS] + \
        [o for o in OWN if (os.geteuid() == 0 or "setpriv" not in o[0]) and (shutil.which(o[0].split(" ")[0]) or o[0][0] in "r(")]
    for n, (command, how, first) in enumerate(asks):
        if n % parts != part:
            continue
        t.paste(command + "\r")
        d.ran.append(command)
        t.see("\n.*" + first)
        t.settle(0.12, 1.0)
        t.hidden()
        how(t, SECRETS[n % len(SECRETS)])
        t.see(d.prompt)


def in_tmux(d):
    """Secrets within a multiplexer."""
    t = d.t
    d.do("tmux -L sense%d -f /dev/null new %s" % (t.pid, quote("PS1='in tmux # ' exec bash --norc --noprofile")), then="in tmux # ")
    t.settle(0.4)
    for n in range(6):
        if n == 3:
            t.keys("\x02%")
            t.settle(0.5)
            t.keys("PS1='half # '\r")
            t.settle(0.4)
        t.keys("clear\r")
        t.settle(0.4)
        t.keys("read -s -p 'Key: ' x\r")
        t.see("Key: .*Key: ")
        t.settle(0.2)
        entered(t, SECRETS[n])
        t.settle(0.3)
    t.keys("exit\r")
    t.settle(0.4)
    t.keys("exit\r")
    t.see(d.prompt)


def innocent(d):
    """What must not be taken for a secret: a shell's lines."""
    for c in ("ls", "id", "echo hello", "date", "cat /etc/hostname", "read x\rfoo bar", "read -p 'name? ' x\ralice", "sleep 0.4",
              "/usr/bin/python3 -c 'input(\"Continue? [Y/n] \")'\ryes", "echo 密碼", "echo 'Password: '", "# a comment"):
        d.other(c + "\r")
    d.other("cat >/dev/null\rsome text\rmore\r\x04")
    d.other("sleep 0.5; echo done\recho ahead\r", "ahead\r\n.*" + d.prompt)
    d.other("seq 1 3000\recho behind\r", "behind\r\n.*" + d.prompt)
    d.other("set -o vi\r")
    d.other("echo vi mode\x1bbbiX\r")
    d.other("\x1bkk\r")
    d.other("set -o emacs\r")
    d.other("/usr/bin/python3 late.py\r", "\n")
    d.t.settle(0.3)
    d.other("it comes late\rbut it comes\ryes\r")


def innocent_vim(d):
    for options in ("", "-c 'set noshowcmd noruler' "):
        d.other(f"vim -u NONE -nN {options}text\r", "fox")
        for keys in ("jjjkkkllldd", "ihello world\rsecond line\x1b", ":set number\r", "jjjjhhhhllll\r\r", "/quick\r", "yyp3x:wrong\r"):
            d.t.settle()
            d.other(keys, "")
        d.t.settle()
        d.other(":q!\r")


def innocent_pagers(d):
    for program, steps in (("less text", ("jjjjkkkk", "/jumps\r", "nnnNN", "gg", "20\r", "zzz\r")), ("top -d 0.3", ("zxc", "1tm", "\r")), ("more text", ("   ", "\r\r\r")),
                           ("man -P less ls || less text", ("jjjj\r\r",))):
        d.t.keys(program + "\r")
        d.t.settle(0.5)
        for keys in steps:
            d.t.keys(keys)
            d.lines += keys.count("\r")
            d.t.settle(0.2)
        d.other("q")
    d.other("/usr/bin/python3 -q\r", ">>> ")
    for c in ("1+1", "import os", "print('x' * 30)", "os.getpid()"):
        d.other(c + "\r", ">>> ")
    d.other("exit()\r")
