# SPDX-License-Identifier: Apache-2.0
"""What people do at a terminal besides working: wait for an approval, watch a recording."""
import os
import re
import shlex
import subprocess
import unittest

from clients import fixture
from clients.fixture import cell
from clients.openssh import BARE
from sp import wait_for


class Owed(unittest.TestCase):
    """A grant is owed: who sits at a terminal waits there, who does not is told so and gets 75."""
    @classmethod
    def setUpClass(cls):
        cls.sp = fixture.sp

    @cell("OpenSSH `ssh -J`", "an approval is owed: asks for the reason, waits on the terminal, goes on when it comes", "-J")
    def test_bare_jump_waits_on_the_terminal(self):
        me = fixture.person("wait", "sysadmins")
        screen = Screen(["ssh", *BARE, "-J", "wait@127.0.0.1:%d" % self.sp.port, "-t", "admin@core-01", "echo grant$((1+1)); exit 3"],
                        me.env(), me.home)
        self.addCleanup(screen.close)
        screen.until("the second factor", r"One-time code:\s*\Z")
        screen.key(me.code().decode(), "Enter")
        screen.until("the question", r"(?i)reason[^\n]*:\s*\Z")
        screen.key("季度更新", "Enter")
        number = screen.until("the number", r"approve (\d+)").group(1)
        row = [x for x in self.sp.ssh("bob", "bastion", "requests", "--json").json() if str(x["id"]) == number][0]
        self.assertEqual((row["reason"], row["state"]), ("季度更新", "pending"))
        self.assertNotIn("grant2", screen.text())
        r = self.sp.ssh("bob", "bastion", "approve", number)
        self.assertEqual(r.code, 0, r)
        screen.until("the command, and its exit status", r"(?s)grant2.*exit-3")

    @cell("OpenSSH `ssh -J`", "an approval is owed and there is no terminal: exit status 75 and the request's number", "-J")
    def test_without_a_terminal_exit_75(self):
        me = fixture.person("cron", "sysadmins")
        me.use_snippet()
        self.assertEqual(me.run(["ssh", "bastion", "whoami"]).code, 0)
        # the snippet's master, and nothing of what the snippet says about targets
        r = subprocess.run(["ssh", "-J", "bastion", "-o", "HostKeyAlias=sallyport", "-o", "StrictHostKeyChecking=yes",
                            "-o", "PreferredAuthentications=publickey,keyboard-interactive", "admin@core-01", "id"],
                           env=me.env(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120,
                           start_new_session=True)
        self.assertEqual((r.returncode, r.stdout), (75, b""), r.stderr)
        number = re.search(rb"approve (\d+)|[Rr]equest (\d+)", r.stderr)
        self.assertTrue(number, r.stderr)
        number = (number.group(1) or number.group(2)).decode()
        self.assertIn(number, [str(x["id"]) for x in self.sp.ssh("bob", "bastion", "requests", "--json").json()])


class Screen:
    """A program on a terminal of tmux: what stands there, and keys."""

    def __init__(self, argv, env, cwd, cols=150, rows=30):
        self.env, self.socket = env, cwd + "/.tmux"
        self.tmux("-f", "/dev/null", "new-session", "-d", "-s", "s", "-x", str(cols), "-y", str(rows),
                  "%s; echo exit-$?; cat" % shlex.join(argv))

    def tmux(self, *args):
        r = subprocess.run(["tmux", "-S", self.socket, *args], env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=60)
        if r.returncode != 0:
            raise AssertionError(r)
        return r.stdout.decode()

    def text(self):
        return self.tmux("capture-pane", "-p", "-t", "s")

    def until(self, what, pattern):
        def look():
            self.last = self.text()
            return re.search(pattern, self.last)
        try:
            return wait_for(look, 90, what)
        except AssertionError as e:
            raise AssertionError("%s; the screen is\n%s" % (e, self.last))

    def key(self, *names):
        self.tmux("send-keys", "-t", "s", *names)

    def close(self):
        subprocess.run(["tmux", "-S", self.socket, "kill-server"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=60)


class Replay(unittest.TestCase):
    SESSION = b"""printf '\\033]0;evil-title\\007'; echo first-$((40+2))
sleep 4; echo second-$((40+3)); exit
"""

    def record(self):
        me, sp = fixture.person("oscar"), fixture.sp
        me.use_snippet()
        before = {s["id"] for s in sp.sessions()}
        r = me.run(["ssh", "-tt", "admin@core-01"], input=self.SESSION)
        self.assertIn(b"second-43", r.out)
        new = wait_for(lambda: [s["id"] for s in sp.sessions() if s["id"] not in before and s["state"] != "running"], 60,
                       "the session's end")
        wait_for(lambda: os.path.exists("%s/recordings/%s.spr" % (sp.dir, new[0])), 60, "the closed recording")
        return new[0]

    @cell("OpenSSH `ssh -t bastion replay`", "keys on a terminal: pause, speed, arrows, digits, resize, quit", "snippet")
    def test_keys(self):
        session, carol = self.record(), fixture.person("carol")
        carol.use_snippet()
        self.assertEqual(carol.run(["ssh", "bastion", "whoami"]).code, 0)
        screen = Screen(["ssh", "-t", "bastion", "replay", session, "--speed", "0.1"], carol.env(), carol.home)
        self.addCleanup(screen.close)
        screen.until("the first line of the recording", r"\bfirst-42")
        screen.until("the clock and the speed", r"> 0:00:0\d/0:00:0\d 0\.10x \[[-=>a-z ]+\]")
        screen.key("Space")
        screen.until("the pause", r"\|\| 0:00:0")
        self.assertNotIn("second-43", screen.text())
        screen.key("+")
        screen.until("twice the speed", r"0\.20x")
        screen.key("Right")                                  # ten seconds on: past the end
        screen.until("the end", r"(?s)second-43.*END 0:00:0")
        screen.key("Left")
        screen.until("the beginning again, still paused", r"\|\| 0:00:00/")
        self.assertNotIn("second-43", screen.text())
        screen.key("5")
        screen.until("half way, where the first line stands", r"(?s)^(?!.*second-43).*first-42.*\[[=a-z]{15,}>[- a-z]{15,}\]")
        screen.tmux("resize-window", "-t", "s", "-x", "120", "-y", "20")
        screen.until("the picture on a smaller terminal", r"(?s)first-42.*0\.20x")
        wait_for(lambda: "0.20x" in screen.text().split("\n")[19], 60, "the status on the last of 20 lines")
        screen.key("q")
        screen.until("the end of the replay", r"exit-0")
        self.assertNotRegex(screen.text(), r"0\.20x")        # the screen of before is back
        self.assertNotIn("evil", screen.tmux("display-message", "-p", "-t", "s", "#{pane_title}"))
        self.assertTrue([e for e in fixture.sp.audit("replay") if e["actor"] == "carol" and session in str(e)])
