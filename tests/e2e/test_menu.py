# SPDX-License-Identifier: Apache-2.0
"""The menu of `ssh bastion` on real terminals, and rights from policy to wire."""
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import termios
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance, main, wait_for  # noqa: E402

POLICY = """
permit "idle" who user ivan on tag core as admin require mfa totp for 1h
  limit idle 3s env none
permit "free" who group operators on tag core as admin require mfa totp for 1h
permit "elevation" who group sysadmins on tag core as admin, legacy
  require approval 1 of approvers, mfa totp for 1h
  allow shell, exec, upload, download
"""


def setUpModule():
    global sp
    sp = Instance(policy=POLICY)
    sp.add_person("oscar", "operators")
    sp.add_person("nico", "operators")
    sp.add_person("ivan", "operators")


def tearDownModule():
    sp.close()


class Screen:
    """A terminal of tmux with ssh in it: what it shows is the judge."""

    def __init__(self, who, args, cols=80, rows=24):
        self.sock = tempfile.mktemp(prefix="sp-tmux-", dir="/tmp")
        argv = sp.ssh_argv(who, args)
        env = sp.ssh_env(who)
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(cols), "-y", str(rows),
                  "exec " + " ".join(map(shlex.quote, argv)), env=env)

    def tmux(self, *args, check=True, env=None):
        e = dict(env or os.environ, LC_ALL="C.UTF-8", TERM="xterm-256color")
        e.pop("TMUX", None)
        p = subprocess.run(["tmux", "-u", "-S", self.sock] + list(args), stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, env=e)
        if check and p.returncode != 0:
            raise AssertionError("tmux %s: %s" % (args, p.stderr.decode()))
        return p.stdout.decode("utf-8", "replace")

    def ready(self):
        """ssh has the terminal in its hands: what is typed before that is the line discipline's."""
        tty = self.tmux("display-message", "-p", "#{pane_tty}").strip()

        def is_raw():
            fd = os.open(tty, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            try:
                return not termios.tcgetattr(fd)[3] & (termios.ICANON | termios.ECHO)
            finally:
                os.close(fd)
        wait_for(is_raw, 60, "a raw terminal")

    def text(self):
        return self.tmux("capture-pane", "-p", check=False)

    def keys(self, *keys):
        self.tmux("send-keys", *keys)

    def type(self, text):
        self.tmux("send-keys", "-l", text)

    def wait(self, *patterns, absent=None):
        seen = [""]

        def there():
            seen[0] = self.text()
            return all(re.search(p, seen[0]) for p in patterns) and not (absent and re.search(absent, seen[0]))
        try:
            wait_for(there, 60)
        except AssertionError:
            raise AssertionError("not %r (without %r) on the screen:\n%s" % (patterns, absent, seen[0]))
        return seen[0]

    def is_over(self):
        return subprocess.run(["tmux", "-S", self.sock, "has-session"], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, timeout=60).returncode != 0

    def close(self):
        self.tmux("kill-server", check=False)
        if os.path.exists(self.sock):
            os.unlink(self.sock)


def on_pty(who, args, until, keys=b"\x03", term="xterm-256color", opts=(), **more):
    """Runs ssh on a pty of its own; returns exit status and all bytes that came."""
    argv = sp.ssh_argv(who, args, opts=opts)
    env = dict(sp.ssh_env(who), TERM=term, **more)
    pid, fd = pty.fork()
    if pid == 0:
        os.execvpe(argv[0], argv, env)
    got, end, sent = b"", time.monotonic() + 90, False
    try:
        while time.monotonic() < end:
            if not sent and until is not None and re.search(until, got, re.S) and \
               not termios.tcgetattr(fd)[3] & termios.ICANON:
                sent = True
                os.write(fd, keys)
            if not select.select([fd], [], [], 0.1)[0]:
                continue
            try:
                piece = os.read(fd, 65536)
            except OSError:
                break
            if not piece:
                break
            got += piece
        else:
            os.kill(pid, signal.SIGKILL)
            raise AssertionError("it did not end: %r" % got[-2000:])
    finally:
        os.close(fd)
        status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status), got


class Menu(unittest.TestCase):
    def test_from_the_list_to_a_shell(self):
        sp.ssh("alice", "bastion", "whoami")          # the login; the menu goes over the same connection
        s = Screen("alice", ["-t", "bastion"])
        self.addCleanup(s.close)
        first = s.wait(r"admin@core-01 +approval owed +1 of approvers, up to 1h", r"legacy@core-01 +approval owed",
                       r"Sallyport +alice at", r"\^C leave")
        s.ready()
        self.assertTrue(all(len(line) <= 80 for line in first.split("\n")))
        # Filter as one types; nothing else is left, and Esc brings it back.
        s.type("LEGACY")
        s.wait(r"Filter: LEGACY", r"legacy@core-01", absent="admin@core-01")
        s.type("zz")
        s.wait(r"Nothing fits the filter")
        s.keys("Escape")
        s.wait(r"admin@core-01", r"legacy@core-01")
        # Arrows choose.
        s.keys("Down")
        s.wait(r"(?m)^> \S*@core-0")
        s.type("admin core-01")
        s.wait(r"(?m)^> admin@core-01", r"1 of \d")
        # A request with its reason, in any script.
        s.keys("Enter")
        s.wait(r"Reason:", r"Say why")
        s.keys("Enter")
        s.wait(r"Reason:", r"Esc")
        s.type("磁碟滿了 disk")
        s.wait(r"Reason: 磁碟滿了 disk")
        s.keys("Enter")
        seen = s.wait(r"Request \d+ filed", r"admin@core-01 +waiting +request \d+")
        number = re.search(r"Request (\d+) filed", seen).group(1)
        row = [r for r in sp.ssh("bob", "bastion", "requests", "--json").json() if str(r["id"]) == number][0]
        self.assertEqual(row["reason"], "磁碟滿了 disk")
        self.assertEqual(row["rules"]["allow"], ["shell", "exec", "upload", "download"])
        # It changes by itself once somebody approves.
        self.assertEqual(sp.ssh("bob", "bastion", "approve", number).code, 0)
        s.wait(r"approved by bob", r"admin@core-01 +granted +(59m|1h) left")
        # Another size of window is drawn anew.
        s.tmux("resize-window", "-x", "100", "-y", "12")
        s.wait(r"granted", r"Sallyport +alice")
        wait_for(lambda: s.text().rstrip("\n").split("\n")[-1].startswith("Type to filter"), 60)
        self.assertEqual(len(s.text().split("\n")), 13)
        # Enter: the channel goes on as a session at the target.
        s.keys("Enter")
        s.wait(r"(?m)[#$] *$", absent="Filter")
        s.type("echo marker-$((40+2)) $(stty size)\n")
        s.wait(r"marker-42 12 100")
        # The same connection still has verbs: they do not end up at the target.
        r = sp.ssh("alice", "bastion", "whoami")
        self.assertIn("alice", r.out.decode())
        s.type("exit\n")
        wait_for(s.is_over, 60, "the end of ssh")
        mine = wait_for(lambda: [x for x in sp.sessions() if x["person"] == "alice" and x["state"] == "ended"], 60)[0]
        self.assertEqual(mine["allows"], "shell, exec, upload, download")
        self.assertEqual(sp.host("verify", mine["id"]).code, 0)

    def test_an_account_that_owes_nothing_opens_at_once(self):
        sp.ssh("oscar", "bastion", "whoami")
        s = Screen("oscar", ["bastion"])
        self.addCleanup(s.close)
        s.wait(r"> admin@core-01 +allowed +up to 1h", absent="legacy")
        s.ready()
        s.keys("C-r")
        s.wait(r"No approval is owed")
        s.keys("Enter")
        s.wait(r"(?m)[#$] *$", absent="Filter")
        s.type("echo there-$((1+1)); exit 3\n")
        wait_for(s.is_over, 60, "the end of ssh")

    def test_leaving(self):
        sp.ssh("oscar", "bastion", "whoami")
        code, got = on_pty("oscar", ["-t", "bastion"], rb"\^C leave")
        self.assertEqual(code, 0, got)
        self.assertIn(b"\x1b[?1049h", got)
        self.assertLess(got.index(b"\x1b[?1049h"), got.rindex(b"\x1b[?1049l"))

    def test_no_colour(self):
        # The master connection decides which variables are sent.
        sp.ssh("nico", "bastion", "whoami", opts=["SendEnv=NO_COLOR"])
        code, got = on_pty("nico", ["-t", "bastion"], rb"admin@core-01")
        self.assertRegex(got, rb"\x1b\[7m> admin@core-01")
        code, got = on_pty("nico", ["-t", "bastion"], rb"admin@core-01", opts=["SendEnv=NO_COLOR"], NO_COLOR="1")
        self.assertEqual(code, 0)
        self.assertNotRegex(got, rb"\x1b\[[1-9][0-9;]*m")
        self.assertIn(b"> admin@core-01", got)

    def test_plain_lines(self):
        sp.ssh("oscar", "bastion", "whoami")
        # A terminal that can only print, no terminal at all, and the list by name.
        code, got = on_pty("oscar", ["-t", "bastion"], None, term="dumb")
        self.assertEqual(code, 0, got)
        self.assertNotIn(b"\x1b", got)
        self.assertIn(b"admin@core-01", got)
        r = sp.ssh("oscar", "-T", "bastion")
        self.assertEqual(r.code, 0, r)
        self.assertIn(b"admin@core-01", r.out)
        self.assertNotIn(b"\x1b", r.out)
        code, got = on_pty("oscar", ["-t", "bastion", "targets"], None)
        self.assertNotIn(b"\x1b[?1049h", got)


class Rights(unittest.TestCase):
    def test_a_narrowed_grant_on_the_wire(self):
        sp.lib('[ -d "$1/people/nora" ] || add_person "$1" nora Nora sysadmins')
        r = sp.ssh("nora", "bastion", "request", "admin@core-01", "--reason", "x", "--allow", "exec,subsystem")
        self.assertEqual(r.code, 1, r)
        self.assertIn(b"The policy does not allow subsystem", r.err)
        r = sp.ssh("nora", "bastion", "request", "admin@core-01", "--reason", "look", "--allow", "exec", "--json")
        self.assertEqual(r.code, 0, r)
        number = str(r.json()["id"])
        self.assertIn(b"exec", sp.ssh("bob", "bastion", "approve", number).out)
        shown = sp.ssh("nora", "bastion", "show", number, "--json").json()
        self.assertEqual(shown["grants"][0]["rules"]["allow"], ["exec"])
        self.assertEqual(sp.ssh("nora", "admin@core-01", "echo works").out, b"works\n")
        r = sp.ssh("nora", "-tt", "admin@core-01")
        self.assertNotEqual(r.code, 0, r)
        self.assertIn("a shell is not permitted", r.text)
        r = sp.ssh("nora", "-s", "admin@core-01", "sftp")
        self.assertNotEqual(r.code, 0, r)
        self.assertIn("not permitted", r.text)
        wait_for(lambda: [a for a in sp.audit("session_event") if "channel_refused" in str(a) and "nora" in str(a)], 60,
                 "the audit event")

    def test_idle_and_variables(self):
        r = sp.ssh("ivan", "-T", "admin@core-01", "echo lang=${LC_ALL:-none}; exec sleep 600", timeout=90)
        self.assertEqual(r.out, b"lang=none\n", r)
        self.assertNotEqual(r.code, 0)
        self.assertIn("idle limit", r.text)
        mine = [x for x in sp.sessions() if x["person"] == "ivan"][0]
        self.assertEqual(wait_for(lambda: [x for x in sp.sessions() if x["id"] == mine["id"]][0]["end_code"], 60), 11)
        self.assertIn("limit idle 3s; env none", mine["allows"])

    def test_a_policy_that_takes_a_right_away_ends_the_session(self):
        p = sp.ssh_start("oscar", "admin@core-01", "echo on; exec sleep 600")
        self.addCleanup(sp.load_policy, POLICY)
        self.assertEqual(p.stdout.readline(), b"on\n")
        sp.load_policy(POLICY.replace("as admin require mfa totp for 1h\npermit \"elev",
                                      "as admin require mfa totp for 1h allow exec\npermit \"elev"))
        out, err = p.communicate(timeout=60)
        self.assertNotEqual(p.returncode, 0)
        self.assertIn(b"The policy has changed what you may do", err)


class Pages(unittest.TestCase):
    def listed(self, who, *args):
        r = sp.ssh(who, "bastion", *args, "--json")
        self.assertEqual(r.code, 0, r)
        return r.json()

    def test_requests(self):
        sp.lib('[ -d "$1/people/pia" ] || add_person "$1" pia Pia sysadmins')
        first, second = [sp.ssh("pia", "bastion", "request", a + "@core-01", "--reason", "page", "--json").json()["id"]
                         for a in ("admin", "legacy")]
        # Requests of others, newer ones too, take no place on a page of one's own.
        sp.ssh("alice", "bastion", "request", "legacy@core-01", "--reason", "newer")
        one = self.listed("pia", "requests", "--all", "--limit", "1")
        self.assertEqual([r["id"] for r in one], [second])
        more = self.listed("pia", "requests", "--all", "--limit", "1", "--before", str(second))
        self.assertEqual([r["id"] for r in more], [first])
        self.assertEqual(self.listed("pia", "requests", "--before", str(first)), [])
        self.assertIn(first, [r["id"] for r in self.listed("bob", "requests")])
        self.assertIn("--before %s" % second, sp.ssh("pia", "bastion", "requests", "--limit", "1").text)
        for wrong in (["--limit", "0"], ["--limit", "10001"], ["--before", "x"]):
            self.assertEqual(sp.ssh("pia", "bastion", "requests", *wrong).code, 2)

    def test_sessions(self):
        for _ in range(2):
            self.assertEqual(sp.ssh("oscar", "admin@core-01", "true").code, 0)
        newest = wait_for(lambda: self.listed("oscar", "sessions", "--all", "--limit", "2"), 60)
        self.assertEqual(len(newest), 2)
        older = self.listed("oscar", "sessions", "--all", "--limit", "1", "--before", newest[0]["id"][:13])
        self.assertEqual([s["id"] for s in older], [newest[1]["id"]])
        self.assertEqual(sp.ssh("oscar", "bastion", "sessions", "--before", "zz").code, 2)


if __name__ == "__main__":
    main()
