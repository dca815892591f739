# SPDX-License-Identifier: Apache-2.0
"""No release without its audit event; what ends things goes on without the database, and is told to it later."""
import os
import shutil
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance, main, read_until, scratch, wait_for  # noqa: E402

POLICY = """
permit "free" who group operators on tag core as admin require mfa totp for 1h
"""
REFUSE = ("CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$;"
          "CREATE TRIGGER a_refuse BEFORE INSERT ON sallyport.audit FOR EACH ROW EXECUTE FUNCTION public.refuse()")
ALLOW = "DROP TRIGGER a_refuse ON sallyport.audit; DROP FUNCTION public.refuse()"


def setUpModule():
    global sp
    sp = Instance(policy=POLICY)
    for name in ("ann", "ben"):
        sp.add_person(name, "operators")
        log_in(name)


def tearDownModule():
    sp.close()


def log_in(name):
    def once():
        sp.fresh_code(name)
        return sp.ssh(name, "bastion", "whoami").code == 0
    wait_for(once, 90, "the login of " + name)


def target_logins():
    """Lines of the practice target's sshd about accepted logins."""
    with open(sp.dir + "/target/sshd.log", errors="replace") as f:
        return f.read().count("Accepted publickey")


class Case(unittest.TestCase):
    def hold(self, who):
        p = sp.ssh_start(who, "admin@core-01", "echo held; exec cat", opts=["BatchMode=yes"], stdin=subprocess.PIPE)
        self.addCleanup(sp.drop, p)
        read_until(p.stdout, rb"held\n", 60)
        return p, [x for x in sp.sessions(all=False) if x["person"] == who][0]["id"]

    def nothing_is_released(self, who):
        before = target_logins()
        r = sp.ssh(who, "admin@core-01", "echo got-in", opts=["BatchMode=yes"], timeout=120)
        self.assertNotEqual(r.code, 0, r)
        self.assertEqual(r.out, b"", r)
        self.assertEqual(target_logins(), before)

    def killed(self, p, session):
        sp.host("kill", session, "--reason", "reserve", check=True)
        p.wait(60)

    def told(self, session, seconds=60):
        wait_for(lambda: [e for e in sp.audit("session_kill") if e["session"] == session], seconds, "the event from the reserve")
        wait_for(lambda: [e for e in sp.audit("session_close") + sp.audit("session_recovered") if e["session"] == session], seconds,
                 "the end of the session")
        wait_for(lambda: sp.host("audit", "verify").code == 0, 60, "a chain in order")
        self.assertEqual(sp.psql("SELECT count(*) FROM sallyport.leases WHERE state = 'active' AND session_id = '%s'" % session), "0")

    def gets_in_again(self, who):
        wait_for(lambda: sp.ssh(who, "admin@core-01", "echo got-in", opts=["BatchMode=yes"]).out == b"got-in\n", 60, "a session")


class Refused(Case):
    def test_a_trigger_refuses_every_event(self):
        p, session = self.hold("ann")
        sp.psql(REFUSE)
        try:
            self.nothing_is_released("ben")
            self.killed(p, session)
        finally:
            sp.psql(ALLOW)
        self.told(session)
        self.gets_in_again("ben")

    @unittest.skipUnless(os.getuid() == 0, "mounts a small disk")
    def test_the_disk_of_the_database_is_full(self):
        """The audit table alone lies on a disk of 16 MB, which is filled: the server says ENOSPC for each event."""
        where = scratch("sp-small-")
        self.addCleanup(shutil.rmtree, where, True)
        owner = os.stat(sp.dir + "/pg")
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=700,uid=%d,gid=%d" % (owner.st_uid, owner.st_gid), "small", where],
                       check=True)
        p, session = self.hold("ann")
        try:
            sp.psql("CREATE TABLESPACE small LOCATION '%s'" % where)
            sp.psql("ALTER TABLE sallyport.audit SET TABLESPACE small; ALTER INDEX sallyport.audit_pkey SET TABLESPACE small")
            sp.psql("CREATE TABLE public.filler (t text) TABLESPACE small; ALTER TABLE public.filler ALTER t SET STORAGE PLAIN")
            for size, rows in ((7000, 100), (7000, 1)):
                self.fill(size, rows)
            # Free space inside the table's last pages is used up by events first.
            wait_for(lambda: not self.goes("ben"), 120, "the refusal")
            self.nothing_is_released("ben")
            self.killed(p, session)
            sp.psql("DROP TABLE public.filler")
            self.told(session)
            self.gets_in_again("ben")
        finally:
            sp.psql("DROP TABLE IF EXISTS public.filler")
            sp.psql("ALTER TABLE sallyport.audit SET TABLESPACE pg_default; ALTER INDEX sallyport.audit_pkey SET TABLESPACE pg_default")
            sp.psql("DROP TABLESPACE small")
            subprocess.run(["umount", where], check=True)

    def fill(self, size, rows):
        with self.assertRaisesRegex(AssertionError, "No space left"):
            while True:
                sp.psql("INSERT INTO public.filler SELECT repeat('x', %d) FROM generate_series(1, %d)" % (size, rows))

    def goes(self, who):
        return sp.ssh(who, "admin@core-01", "true", opts=["BatchMode=yes"], timeout=120).code == 0


class Away(Case):
    def postmaster(self):
        with open(sp.dir + "/pg/postmaster.pid") as f:
            return int(f.readline())

    def test_the_database_is_dead(self):
        """Kill and seal without it; the event of the kill outlives the broker that wrote it down."""
        p, session = self.hold("ann")
        sp.host("leases", check=True)
        os.kill(self.postmaster(), signal.SIGQUIT)
        wait_for(lambda: sp.host("sessions").code != 0, 60, "the loss of the database")
        self.nothing_is_released("ben")
        self.killed(p, session)
        self.assertEqual(sp.host("revoke", "1").code, 75, "a grant is a row")
        r = sp.host("vault", "seal")
        self.assertEqual(r.code, 0, r)
        for pid in sp.pids("broker")[0]:
            os.kill(pid, signal.SIGKILL)
        sp.host("stop", timeout=120)
        sp.host("start", check=True, timeout=120)       # the key of a demonstration opens the vault by itself
        wait_for(lambda: sp.host("sessions").code == 0, 90, "the database and the vault")
        self.told(session, 90)
        for name in ("ann", "ben"):
            log_in(name)
        self.gets_in_again("ben")


if __name__ == "__main__":
    main()
