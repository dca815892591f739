# SPDX-License-Identifier: Apache-2.0
"""Every door (shell, exec, sftp, scp, rsync, forwards, a database, a second channel, another spelling of the same) asks every gate.

A door that opens where another stays shut was the fault of more than one bastion. A door here is a function that tries to get
a marker from the target; a gate is a state of the world. What kinds of channels there are is read from common/stream.h: a new
one without a door here fails. Then: running sessions of every kind end when their time or their grant does.
"""
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, TESTS + "/support")
from database import Forward, PostgreSQL  # noqa: E402
from sp import TOP, Instance, main, wait_for  # noqa: E402

EXPIRED, REVOKED = 1, 2              # enum sp_end_code
MARK = b"marker-of-the-target"
RIGHTS = 'allow shell, exec, upload, download, subsystem, sql, forward to "127.0.0.1:%d"'
POLICY = """
permit "free" who group operators on tag core as admin require mfa totp for 1h %(rights)s
permit "owed" who group sysadmins on tag core as admin require approval 1 of approvers, mfa totp for 1h %(rights)s
permit "short" who group shorts on tag core as admin require mfa totp for 6s %(rights)s
permit "keys" who group keyed on tag core as admin require mfa sk for 1h %(rights)s
forbid "never" who group guests on any as any
"""


class Teller(threading.Thread):
    """What stands behind the target: says the marker to whoever connects, and counts them."""

    def __init__(self):
        super().__init__(daemon=True)
        self.s = socket.create_server(("127.0.0.1", 0))
        self.port, self.calls = self.s.getsockname()[1], 0
        self.start()

    def run(self):
        while True:
            c, _ = self.s.accept()
            self.calls += 1
            c.sendall(MARK)
            c.close()


def setUpModule():
    global sp, teller, pg
    teller = Teller()
    sp = Instance(policy=POLICY % {"rights": RIGHTS % teller.port})
    pg = PostgreSQL(sp, "core-db")
    pg.add(tag="core")
    pg.add_account("admin")
    pg.sql("CREATE TABLE mark AS SELECT '%s'::text AS t; GRANT SELECT ON mark TO admin" % MARK.decode())
    home = sp.dir + "/target/home/admin/"
    with open(home + "mark", "wb") as f:
        f.write(MARK)
    os.chmod(home + "mark", 0o644)
    for who, groups in (("oscar", "operators"), ("ada", "sysadmins"), ("nina", "nobodies"), ("gus", "operators,guests"),
                        ("kim", "keyed"), ("rex", "sysadmins"), ("dis", "operators"), ("sue", "shorts")):
        sp.add_person(who, groups)


def tearDownModule():
    sp.close()


# ------------------------------------------------------------------------------------------ doors
def run(who, argv, input=None):
    return subprocess.run(argv, input=input, stdin=None if input is not None else subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=sp.ssh_env(who), timeout=120)


def conf(who):
    return "%s/people/%s/ssh_config" % (sp.dir, who)


def d_exec(who):
    return sp.ssh(who, "core-01", "cat mark").out


def d_shell(who):
    return sp.ssh(who, "-tt", "core-01", input=b"exec cat mark\n").out


def d_no_terminal_shell(who):
    return sp.ssh(who, "-T", "core-01", input=b"exec cat mark\n").out


def d_login_name(who):
    return sp.ssh(who, "-l", who + "+admin+core-01", "bastion", "cat mark", mux=False).out


def d_login_name_shell(who):
    return sp.ssh(who, "-tt", "-l", who + "+admin+core-01", "bastion", input=b"exec cat mark\n", mux=False).out


def fetched(who, argv):
    at = "%s/%s.mark" % (sp.dir, who)
    if os.path.exists(at):
        os.unlink(at)
    run(who, [a.replace("LOCAL", at) for a in argv])
    if not os.path.exists(at):
        return b""
    with open(at, "rb") as f:
        return f.read()


def d_scp(who):
    return fetched(who, ["scp", "-q", "-F", conf(who), "core-01:mark", "LOCAL"])


def d_scp_legacy(who):
    return fetched(who, ["scp", "-O", "-q", "-F", conf(who), "core-01:mark", "LOCAL"])


def d_sftp(who):
    return fetched(who, ["sftp", "-q", "-F", conf(who), "core-01:mark", "LOCAL"])


def d_rsync(who):
    return fetched(who, ["rsync", "-e", "ssh -F " + conf(who), "core-01:mark", "LOCAL"])


def d_subsystem(who):
    """The first words of an sftp server; a server that answers is a server that was reached."""
    p = sp.ssh_start(who, "-s", "core-01", "sftp", stdin=subprocess.PIPE)
    try:
        p.stdin.write(b"\0\0\0\5\1\0\0\0\3")
        got = p.stdout.read(5)                          # or the end, when it is refused
    except OSError:
        got = b""
    sp.drop(p)
    return MARK if got[4:] == b"\2" else b""


def d_forward(who):
    return sp.ssh(who, "-W", "127.0.0.1:%d" % teller.port, "core-01", mux=False).out


def d_database(who):
    f = Forward(sp, who, "core-db:5432")
    try:
        return f.psql("-c", "SELECT t FROM mark", db="postgres")[1].encode()
    finally:
        f.close()


def d_second_channel(who):
    """Over a connection to the target that is shared."""
    ctl = "%s/%s.ctl" % (sp.dir, who)
    opts = ["ControlPath=" + ctl, "ControlMaster=auto", "ControlPersist=20"]
    sp.ssh(who, "core-01", "true", opts=opts, mux=False)
    out = sp.ssh(who, "core-01", "cat mark", opts=opts, mux=False).out
    sp.ssh(who, "-O", "exit", "core-01", opts=["ControlPath=" + ctl])
    return out


# the kind of channel in common/stream.h that each of them opens
DOORS = {d_exec: "EXEC", d_shell: "SHELL", d_no_terminal_shell: "SHELL", d_login_name: "EXEC", d_login_name_shell: "SHELL",
         d_scp: "SUBSYSTEM", d_scp_legacy: "EXEC", d_sftp: "SUBSYSTEM", d_rsync: "EXEC", d_subsystem: "SUBSYSTEM",
         d_forward: "FORWARD", d_database: "SQL", d_second_channel: "EXEC"}
# A listener is no way in: what comes through one was let in by a channel of the kinds above.
# A rotation's channel is the broker's own: no client can name it, and no policy gives its right (tests/e2e/test_rotation.py).
NO_WAY_IN = {"REVERSE", "LISTEN", "ROTATE"}


def log_in(who):
    if sp.ssh(who, "-O", "check", "bastion").code != 0:
        sp.fresh_code(who)
        r = sp.ssh(who, "bastion", "whoami")
        if r.code != 0:
            raise AssertionError("%s cannot log in: %r" % (who, r))
    if os.path.exists("%s/people/%s/totp.used" % (sp.dir, who)):
        sp.fresh_code(who)


class Gates(unittest.TestCase):
    def knock(self, who, opens, prepare=log_in):
        with open(sp.dir + "/target/sshd.log") as f:
            before = len(f.read())
        database = pg.log().count("user=admin")
        for door in DOORS:
            with self.subTest(door=door.__name__, who=who):
                prepare(who)
                calls = teller.calls
                got = door(who)
                if opens:
                    self.assertIn(MARK, got)
                else:
                    self.assertNotIn(MARK, got)
                    self.assertEqual(teller.calls, calls)
        sp.end_mux(who)
        with open(sp.dir + "/target/sshd.log") as f:
            said = f.read()[before:]
        if not opens:
            self.assertNotIn("Accepted", said)
            self.assertEqual(pg.log().count("user=admin"), database)

    def test_0_every_kind_of_channel_has_a_door(self):
        with open(TOP + "/common/stream.h") as f:
            kinds = set(re.findall(r"SP_OPEN_(\w+) = \d", f.read()))
        self.assertEqual(kinds - NO_WAY_IN, set(DOORS.values()))

    def test_1_they_open_for_whom_they_should(self):
        self.knock("oscar", True)

    def test_2_no_rule(self):
        self.knock("nina", False)

    def test_2_a_forbid(self):
        self.knock("gus", False)

    def test_2_a_stronger_factor_is_owed(self):
        self.knock("kim", False)

    def batch(self, who):
        """An approval is owed: nobody is there to wait for it."""
        log_in(who)
        for n in [r["id"] for r in sp.ssh(who, "bastion", "requests", "--json").json() if r["state"] == "pending"]:
            sp.ssh(who, "bastion", "revoke", str(n))

    def test_3_an_approval_is_owed(self):
        plain = sp.ssh_argv
        sp.ssh_argv = lambda who, args, mux=True, opts=(): plain(who, args, mux, list(opts) + (
            ["BatchMode=yes"] if "core-01" in args and mux else []))
        waits = {d_login_name, d_login_name_shell, d_shell, d_forward, d_second_channel, d_scp, d_scp_legacy, d_sftp, d_rsync}
        kept = dict(DOORS)
        try:
            for d in waits:
                del DOORS[d]
            self.knock("ada", False, self.batch)
            self.assertTrue(DOORS)
        finally:
            DOORS.clear()
            DOORS.update(kept)
            sp.ssh_argv = plain

    def test_3_a_grant_that_was_revoked(self):
        log_in("rex")
        n = sp.grant("rex")
        self.assertIn(MARK, d_exec("rex"))
        self.assertEqual(sp.ssh("bob", "bastion", "revoke", str(n)).code, 0)
        log_in("rex")
        r = sp.ssh("rex", "core-01", "cat mark", opts=["BatchMode=yes"])
        self.assertEqual((r.code, r.out), (75, b""), r)

    def test_4_a_person_who_was_disabled(self):
        """The connection that she had before goes, and no door opens again."""
        log_in("dis")
        self.assertIn(MARK, d_exec("dis"))
        self.assertEqual(sp.host("users", "disable", "dis").code, 0)
        self.knock("dis", False, lambda who: None)

    def test_5_a_sealed_vault(self):
        log_in("oscar")
        self.assertEqual(sp.host("vault", "seal").code, 0)
        try:
            self.knock("oscar", False, lambda who: None)
        finally:
            os.kill(sp.pids("vault")[0][0], signal.SIGKILL)    # a fresh one opens itself with the demonstration's slot
            wait_for(lambda: sp.host("vault", "status", "--json").out.find(b'"sealed": false') >= 0 or
                     sp.host("users", "totp", "oscar", "--json").code == 0, 60, "the vault")
        log_in("oscar")
        self.assertIn(MARK, d_exec("oscar"))


# ------------------------------------------------------------------------------------------ ends
class Ends(unittest.TestCase):
    """Six seconds are granted; who is cut, is cut within two of the end, whatever she does (measured by the rows)."""

    def overdue(self, before):
        rows = [s for s in sp.sessions() if s["id"] not in before and s["person"] == "sue"]
        self.assertEqual(len(rows), 1, rows)
        at = sp.psql("SELECT ended_us - started_us - 6000000 FROM sallyport.sessions WHERE id = '%s'" % rows[0]["id"])
        return rows[0], int(at) / 1e6

    def cut(self, start, finish=None):
        log_in("sue")
        before = {s["id"] for s in sp.sessions()}
        p = start()
        try:
            row = wait_for(lambda: [s for s in sp.sessions() if s["id"] not in before and s["person"] == "sue" and
                                    s["state"] != "running"], 60, "its end")
            self.assertEqual(len(row), 1)
            row, late = self.overdue(before)
            self.assertEqual(row["end_code"], EXPIRED, row)
            self.assertLess(abs(late), 2.5)
        finally:
            if finish:
                finish(p)
            sp.drop(p)
        self.assertEqual(sp.host("verify", row["id"]).code, 0)

    def test_idle(self):
        self.cut(lambda: sp.ssh_start("sue", "-tt", "core-01", stdin=subprocess.PIPE))

    def test_flooding_out(self):
        p = []

        def start():
            p.append(sp.ssh_start("sue", "core-01", "exec cat /dev/zero"))
            threading.Thread(target=lambda: [None for _ in iter(lambda: p[0].stdout.read(1 << 16), b"")], daemon=True).start()
            return p[0]
        self.cut(start)

    def test_flooding_in(self):
        def start():
            p = sp.ssh_start("sue", "core-01", "exec cat >/dev/null", stdin=subprocess.PIPE)

            def feed():
                try:
                    while True:
                        p.stdin.write(bytes(65536))
                except OSError:
                    pass
            threading.Thread(target=feed, daemon=True).start()
            return p
        self.cut(start)

    def test_a_client_that_stands_still(self):
        """Its window is full and it reads nothing: SIGSTOP."""
        def start():
            p = sp.ssh_start("sue", "core-01", "exec cat /dev/zero")
            p.stdout.read(1 << 20)
            os.kill(p.pid, signal.SIGSTOP)
            return p
        self.cut(start, lambda p: os.kill(p.pid, signal.SIGCONT))

    def test_a_target_that_ignores_hangups(self):
        self.cut(lambda: sp.ssh_start("sue", "-tt", "core-01", "trap '' HUP TERM INT; while read x; do :; done",
                                      stdin=subprocess.PIPE))

    def test_a_database(self):
        f = []

        def start():
            f.append(Forward(sp, "sue", "core-db:5432"))
            return f[0].start("-c", "SELECT pg_sleep(600)", db="postgres")
        self.cut(start, lambda p: self.assertIn(b"FATAL:  Sallyport: ", p.communicate(timeout=60)[1]))
        f[0].close()
        wait_for(lambda: pg.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'admin'") == "0", 60, "its backend to end")

    def test_a_revoked_grant_while_it_floods(self):
        log_in("rex")
        n = sp.grant("rex")
        before = {s["id"] for s in sp.sessions()}
        p = sp.ssh_start("rex", "core-01", "exec cat /dev/zero")
        p.stdout.read(1 << 20)
        at = time.time()
        self.assertEqual(sp.ssh("bob", "bastion", "revoke", str(n)).code, 0)
        threading.Thread(target=lambda: [None for _ in iter(lambda: p.stdout.read(1 << 16), b"")], daemon=True).start()
        rows = wait_for(lambda: [s for s in sp.sessions() if s["id"] not in before and s["state"] != "running"], 60, "its end")
        self.assertEqual(rows[0]["end_code"], REVOKED, rows)
        took = int(sp.psql("SELECT ended_us FROM sallyport.sessions WHERE id = '%s'" % rows[0]["id"])) / 1e6 - at
        print("revoked: ended %.2f s after the command began" % took, flush=True)
        p.wait(timeout=60)


if __name__ == "__main__":
    main()
