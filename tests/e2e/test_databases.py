# SPDX-License-Identifier: Apache-2.0
"""A database administrator: ssh -L, then any PostgreSQL client, with no password; and everything that must not work."""
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance, main, wait_for  # noqa: E402
from database import Forward, MariaDB, PostgreSQL  # noqa: E402

POLICY = """
network loopback 127.0.0.0/8, ::1
permit "dba" who group dba on tag db as app, known, old, reader, reports, wrong, md5er, clear, open, nobody allow sql when source in loopback require mfa totp for 1h
permit "owed" who group dba on tag db as owed allow sql when source in loopback require approval 1 of approvers, mfa totp for 1h
permit "noright" who group dba on tag db as noright when source in loopback require mfa totp for 1h
"""


def setUpModule():
    global sp, pg, fwd
    sp = Instance(policy=POLICY)
    sp.add_person("dora", "dba")
    log_in()
    pg = PostgreSQL(sp, "bank-db")
    pg.sql("CREATE DATABASE bank")
    pg.sql("CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 1000); GRANT SELECT ON t TO PUBLIC", db="bank")
    pg.add("--database", "bank", "--database", "other")
    pg.add_account("reader")
    fwd = Forward(sp, "dora", "reader+bank-db:5432")


def tearDownModule():
    sp.close()


def log_in():
    """The connection that all forwards are on."""
    if sp.ssh("dora", "-O", "check", "bastion").code != 0:
        sp.fresh_code("dora")
        r = sp.ssh("dora", "bastion", "whoami")
        assert r.code == 0, r


def events(event, target="bank-db"):
    return [e["detail"] for e in sp.audit(event) if e["detail"].get("target") == target]


class Login(unittest.TestCase):
    def test_a_stock_client_without_a_password(self):
        code, out, err = fwd.psql("-c", "SELECT current_user, current_database(), count(*) FROM t")
        self.assertEqual((code, out), (0, "reader|bank|1000"), err + sp.log()[-3000:])
        # Where there is one account only, it need not be said.
        f = Forward(sp, "dora", "bank-db:5432")
        self.assertEqual(f.psql("-c", "SELECT current_user")[:2], (0, "reader"))
        pg.add_account("second")
        self.assertIn("FATAL:  Sallyport: say which account of bank-db", f.psql("-c", "SELECT 1")[2])
        f.close()
        e = events("sql_login")[-1]
        self.assertEqual((e["user"], e["database"], e["channel_binding"]), ("reader", "bank", "yes"))
        # What is not named is the first that the target allows; what it does not allow is told in words.
        self.assertEqual(fwd.psql("-c", "SELECT current_database()", db="whoever")[:2], (0, "bank"))
        code, out, err = fwd.psql("-c", "SELECT 1", db="postgres")
        self.assertEqual(code, 2)
        self.assertIn("FATAL:  Sallyport: this database is not among those", err)
        # The server's own words for what it refuses.
        self.assertIn('database "other" does not exist', fwd.psql("-c", "SELECT 1", db="other")[2])
        code, out, err = fwd.psql("-c", "SELECT * FROM pg_authid")
        self.assertIn("permission denied", err)

    def test_much_both_ways(self):
        n = 3000000
        code, out, err = fwd.psql("-c", "SELECT repeat('x', %d)" % n)
        self.assertEqual((code, len(out)), (0, n), err)
        with open(sp.dir + "/in.sql", "w") as f:
            f.write("SELECT length('%s')" % ("y" * n))
        self.assertEqual(fwd.psql("-f", sp.dir + "/in.sql")[:2], (0, str(n)))

    def test_ctrl_c_cancels(self):
        p = fwd.start("-c", "SELECT pg_sleep(600)")
        wait_for(lambda: pg.sql("SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND "
                                "state = 'active' AND usename = 'reader'") == "1", 60, "the query")
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=60)
        self.assertIn(b"canceling statement due to user request", err)
        self.assertIn("yes", [e["ok"] for e in events("sql_cancel")])

    def test_nobody_cancels_what_is_not_theirs(self):
        p = fwd.start("-c", "SELECT pg_sleep(601)")
        row = wait_for(lambda: pg.sql("SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(601)' AND state = 'active'"),
                       60, "the query")
        with socket.create_connection(("127.0.0.1", fwd.port), 60) as s:
            s.sendall(struct.pack(">IIII", 16, 80877102, int(row), 12345))
            self.assertEqual(s.recv(100), b"")
        self.assertIn("no", [e["ok"] for e in events("sql_cancel")])
        self.assertIsNone(p.poll())
        sp.drop(p)

    def test_the_end_of_the_client_ends_the_session(self):
        before = len(sp.audit("session_close"))
        self.assertEqual(fwd.psql("-c", "SELECT 1")[0], 0)
        wait_for(lambda: len(sp.audit("session_close")) > before, 60, "its end")
        wait_for(lambda: not sp.pids("egress-sql")[1], 60, "its process")

    def test_no_password_in_any_statement(self):
        secret = "Canary-4711-of-the-server"
        pg.add_account("nobody", "--postgresql-stdin", input=secret.encode() + b"\n")
        f = Forward(sp, "dora", "nobody+bank-db:5432")
        self.assertEqual(f.psql("-c", "SELECT current_user")[:2], (0, "nobody"))
        f.close()
        self.assertIn("ALTER ROLE \"nobody\" PASSWORD 'SCRAM-SHA-256$4096:", pg.log())
        for text in (pg.log(), sp.log(), sp.psql("SELECT encode(sealed, 'escape') FROM sallyport.secrets")):
            self.assertNotIn(secret, text)
        # The password that is known opens it as well, elsewhere.
        r = subprocess.run(["psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", str(pg.port), "-U", "nobody", "-d", "bank", "-c",
                            "SELECT 1"], env=dict(os.environ, PGPASSWORD=secret), capture_output=True, timeout=60)
        self.assertEqual(r.stdout.strip(), b"1", r.stderr)


class Refused(unittest.TestCase):
    def psql(self, target, *args):
        f = Forward(sp, "dora", target)
        try:
            return f.psql("-c", "SELECT 1", *args)
        finally:
            f.close()

    def test_without_a_right(self):
        pg.add_account("noright")
        code, out, err = self.psql("noright+bank-db:5432")
        self.assertEqual(code, 2)
        self.assertIn("a database connection is not permitted in this session", err)
        code, out, err = self.psql("unknown+bank-db:5432")
        self.assertIn("FATAL:  Sallyport: unknown@bank-db is refused", err)

    def test_an_approval_is_owed(self):
        pg.add_account("owed")
        code, out, err = self.psql("owed+bank-db:5432")
        self.assertEqual(code, 2)
        self.assertIn("FATAL:  Sallyport: ", err)
        self.assertIn("It needs 1 approval of approvers", err)
        sp.grant("dora", "owed@bank-db", "bob")
        f = Forward(sp, "dora", "owed+bank-db:5432")
        self.assertEqual(f.psql("-c", "SELECT current_user")[:2], (0, "owed"))
        # Its end reaches a running query, in words that the client shows.
        p = f.start("-c", "SELECT 1", "-c", "SELECT pg_sleep(602)")
        wait_for(lambda: pg.sql("SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(602)' AND usename = 'owed'"), 60, "it")
        number = [r for r in sp.ssh("bob", "bastion", "requests", "--all", "--json").json() if r["account"] == "owed"][-1]["id"]
        self.assertEqual(sp.ssh("bob", "bastion", "revoke", str(number)).code, 0)
        out, err = p.communicate(timeout=60)
        self.assertIn(b"FATAL:  Sallyport: ", err)
        self.assertEqual(p.returncode, 2)
        f.close()

    def test_a_certificate_that_is_not_pinned(self):
        sp.host("target", "add", "wrong-db", "--protocol", "postgresql", "--addr", "127.0.0.1:%d" % pg.port, "--tag", "db",
                "--tls-pin", "sha256:" + "ab" * 32, check=True)
        sp.host("account", "add", "wrong@wrong-db", "--kind", "postgresql", "--generate", check=True)
        before = pg.log().count("user=wrong")
        code, out, err = self.psql("wrong-db:5432")
        self.assertEqual(code, 2)
        self.assertIn("is not the one that is pinned", err)
        self.assertEqual(len(events("host_key_mismatch", "wrong-db")), 1)
        self.assertEqual(pg.log().count("user=wrong"), before)

    def test_another_salt(self):
        pg.add_account("wrong")
        self.assertEqual(self.psql("wrong+bank-db:5432")[:2], (0, "1"))
        pg.sql("ALTER ROLE wrong PASSWORD 'somebody changed it'")
        code, out, err = self.psql("wrong+bank-db:5432")
        self.assertEqual(code, 2)
        self.assertIn("another salt or count", err)
        self.assertIn("sql_salt_changed", [e["event"] for e in sp.audit()])

    def test_what_would_give_a_password_away(self):
        pg.sql("SET password_encryption = 'md5'; CREATE ROLE md5er LOGIN PASSWORD 'x'")
        for name in ("md5er", "clear", "open"):
            pg.add_account(name, role=name != "md5er")
        for name, why in (("md5er", "password or md5"), ("clear", "password or md5"), ("open", "without a proof")):
            code, out, err = self.psql(name + "+bank-db:5432")
            self.assertEqual(code, 2, name)
            self.assertIn(why, err, name)

    def test_what_the_inventory_does_not_take(self):
        r = sp.host("account", "add", "x@bank-db", "--kind", "cert")
        self.assertEqual(r.code, 1, r)
        self.assertIn("has no accounts of --kind cert", r.text)
        text = sp.host("target", "setup", "bank-db", check=True).out.decode()
        for line in ("password_encryption = 'scram-sha-256'", 'hostssl all "reader" BASTION/32 scram-sha-256', 'CREATE ROLE "reader" LOGIN;'):
            self.assertIn(line + "\n", text)
        j = sp.host("target", "setup", "bank-db", "--json", check=True).json()
        self.assertIn('CREATE ROLE "reader" LOGIN;', j["statements"])
        self.assertNotIn("originalhost bank-db", sp.ssh("dora", "bastion", "ssh-config").out.decode())
        r = sp.host("target", "add", "nopin", "--protocol", "postgresql", "--addr", "127.0.0.1:5432")
        self.assertIn("--tls-pin", r.text)
        row = [t for t in sp.host("targets", "list", "--json", check=True).json() if t["name"] == "bank-db"][0]
        self.assertEqual((row["protocol"], row["fingerprints"]), ("postgresql", [pg.pin]))


class Role(unittest.TestCase):
    """A role for each session, gone with it."""

    @classmethod
    def setUpClass(cls):
        pg.add_account("maker")
        pg.sql("ALTER ROLE maker CREATEROLE; CREATE ROLE reporting; GRANT maker TO postgres")
        pg.sql("GRANT SELECT ON t TO reporting; CREATE TABLE secrets (n int); GRANT SELECT, INSERT ON secrets TO reporting; "
               "GRANT CREATE ON SCHEMA public TO reporting; GRANT CREATE ON SCHEMA public TO maker", db="bank")
        sp.host("account", "add", "reports@bank-db", "--kind", "pg-role", "--admin", "maker", "--member", "reporting", check=True)

    def setUp(self):
        log_in()
        self.f = Forward(sp, "dora", "reports+bank-db:5432")
        self.addCleanup(self.f.close)

    def sleeper(self, n):
        """A session with a role whose query runs for as long as it may."""
        text = "SELECT pg_sleep(%d)" % n
        p = self.f.start("-c", text)
        wait_for(lambda: p.poll() is not None or pg.sql("SELECT 1 FROM pg_stat_activity WHERE query = '%s'" % text), 60, "the query")
        self.assertIsNone(p.poll())
        return p

    def all_gone(self, n):
        """Roles and what they ran."""
        wait_for(lambda: not self.roles(), 60, "the role to go")
        self.assertEqual(pg.sql("SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(%d)'" % n), "0")

    def roles(self):
        return [x for x in pg.sql("SELECT rolname FROM pg_roles WHERE rolname LIKE 'sp\\_%'").split("\n") if x]

    def test_made_and_gone(self):
        code, out, err = self.f.psql("-c", "SELECT current_user", "-c", "SELECT count(*) FROM secrets", "-c",
                                     "CREATE TABLE mine (n int); SELECT rolconnlimit, rolvaliduntil < now() + interval '2 hours', "
                                     "rolinherit, rolsuper FROM pg_roles WHERE rolname = current_user")
        self.assertEqual(code, 0, err + sp.log()[-4000:])
        name = out.split("\n")[0]
        self.assertRegex(name, "^sp_[0-9a-f]{24}$")
        self.assertIn("2|t|t|f", out)
        wait_for(lambda: not self.roles(), 60, "the role to go")
        # What it owned stays, and is the maker's.
        self.assertEqual(pg.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'mine'", db="bank"), "maker")
        made, gone = ([e for e in sp.audit("sql_role_" + x) if e["detail"]["role"] == name][0] for x in ("made", "gone"))
        self.assertEqual(made["session"], gone["session"])
        # Made and undone in sessions of the bastion's own, which are recorded like any other.
        own = [s for s in sp.sessions() if s["person"] == "roles"]
        self.assertGreaterEqual(len(own), 2)

    def test_gone_when_the_session_is_killed(self):
        p = self.sleeper(603)
        self.assertEqual(len(self.roles()), 1)
        s = [x for x in sp.sessions(False) if x["account"] == "reports"][0]
        self.assertEqual(sp.host("kill", s["id"]).code, 0)
        p.communicate(timeout=60)
        self.all_gone(603)

    def test_gone_when_the_egress_is_killed(self):
        p = self.sleeper(605)
        for pid in sp.pids("egress-sql")[1]:
            os.kill(pid, signal.SIGKILL)
        p.communicate(timeout=60)
        self.all_gone(605)

    def test_gone_when_the_broker_is_killed(self):
        p = self.sleeper(604)
        for pid in sp.pids("broker")[0]:
            os.kill(pid, signal.SIGKILL)
        p.communicate(timeout=60)
        self.all_gone(604)

    def test_gone_when_the_database_was_away(self):
        p = self.sleeper(606)
        name = self.roles()[0]
        pg.stop()
        p.communicate(timeout=60)
        wait_for(lambda: [e for e in sp.audit("sql_role_left_over") if e["detail"]["role"] == name], 60, "a try in vain")
        pg.start()
        self.all_gone(606)
        row = sp.psql("SELECT tries > 1, gone_us IS NOT NULL FROM sallyport.session_roles ORDER BY ends_us DESC LIMIT 1")
        self.assertEqual(row, "t|t")

    def test_many(self):
        """Fifty sessions in rounds of ten, each with a role of its own, and none of them is left."""
        names = set()
        for _ in range(5):
            p = [self.f.start("-c", "SELECT current_user", "-c", "SELECT count(*) FROM secrets") for _ in range(10)]
            for x in p:
                out, err = x.communicate(timeout=120)
                self.assertEqual(x.returncode, 0, err)
                names.add(out.split(b"\n")[0])
        self.assertEqual(len(names), 50)
        self.all_gone(0)
        self.assertEqual(sp.psql("SELECT count(*) FROM sallyport.session_roles WHERE gone_us IS NULL"), "0")
        # No right was given to a role itself.
        self.assertNotIn("sp_", pg.sql("SELECT string_agg(relacl::text, ' ') FROM pg_class", db="bank"))


class Maria(unittest.TestCase):
    """MariaDB: its own client, an Ed25519 answer of the vault's, no password anywhere."""

    @classmethod
    def setUpClass(cls):
        global my
        log_in()
        my = MariaDB(sp, "my-db")
        my.sql("CREATE DATABASE bank; USE bank; CREATE TABLE t (n int); INSERT INTO t SELECT seq FROM seq_1_to_100")
        my.add("--database", "bank", "--database", "other")
        my.add_account("app", grant="ALL ON bank.*")

    def setUp(self):
        self.f = Forward(sp, "dora", "app+my-db:3306")
        self.addCleanup(self.f.close)

    def argv(self, *args, user="whoever", f=None, text="SELECT CURRENT_USER()", db=()):
        return ["mariadb", "--no-defaults", "-N", "-B", "-h", "127.0.0.1", "-P", str((f or self.f).port), "-u", user, *args, *db, "-e", text]

    def client(self, *args, **k):
        r = subprocess.run(self.argv(*args, **k), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
        return r.returncode, r.stdout.decode().strip(), r.stderr.decode().strip()

    def psql(self, target, *args, **k):
        f = Forward(sp, "dora", target)
        try:
            return self.client(*args, f=f, **k)
        finally:
            f.close()

    def test_a_stock_client_without_a_password(self):
        self.assertEqual(self.client(text="SELECT CURRENT_USER(), DATABASE(), count(*) FROM t"), (0, "app@%\tbank\t100", ""))
        # A client that insists on a password, another database, one that is not allowed, one that is not there.
        self.assertEqual(self.client("-pwhatever", text="SELECT 1")[:2], (0, "1"))
        self.assertEqual(self.client(text="SELECT DATABASE()", db=("bank",))[:2], (0, "bank"))
        code, out, err = self.client(db=("mysql",))
        self.assertEqual(code, 1)
        self.assertIn("Sallyport: this database is not among those", err)
        self.assertIn("'other'", self.client(db=("other",))[2])
        e = events("sql_login", "my-db")[-1]
        self.assertEqual((e["user"], e["protocol"]), ("app", "mariadb"))
        self.assertEqual(self.client(text="SELECT VARIABLE_VALUE <> '' FROM information_schema.SESSION_STATUS WHERE "
                                          "VARIABLE_NAME = 'Ssl_version'")[:2], (0, "1"))

    def test_much_both_ways(self):
        n = 3000000
        code, out, err = self.client(text="SELECT repeat('x', %d)" % n)
        self.assertEqual((code, len(out)), (0, n), err)
        with open(sp.dir + "/in.sql", "w") as f:
            f.write("SELECT length('%s');\n" % ("y" * 20000000))       # more than one packet of MariaDB's
        with open(sp.dir + "/in.sql") as f:
            r = subprocess.run(self.argv("--max-allowed-packet=64M")[:-2], stdin=f, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               timeout=120)
        self.assertEqual((r.returncode, r.stdout.strip()), (0, b"20000000"), r)

    def test_ctrl_c_cancels(self):
        p = subprocess.Popen(self.argv("--sigint-ignore", text="SELECT SLEEP(607)")[:-2], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, bufsize=0)
        sp.started.append(p)
        p.stdin.write(b"SELECT SLEEP(607);\n")
        row = wait_for(lambda: my.sql("SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT SLEEP(607)%'"), 60, "it")
        # What the client does on Ctrl-C: another connection, KILL QUERY with the number that the server's greeting had.
        self.assertEqual(self.client(text="KILL QUERY " + row)[0], 0)
        p.stdin.close()
        self.assertEqual(p.wait(60), 1)
        self.assertIn(b"interrupted", p.stderr.read())
        sp.drop(p)

    def test_the_end_of_the_session_ends_the_statement(self):
        p = subprocess.Popen(self.argv(text="SELECT SLEEP(609)"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        sp.started.append(p)

        def running():
            return my.sql("SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT SLEEP(609)%'")
        wait_for(running, 60, "it")
        s = [x for x in sp.sessions(False) if x["target"] == "my-db"][0]
        self.assertEqual(sp.host("kill", s["id"]).code, 0)
        self.assertEqual(p.wait(60), 1)
        sp.drop(p)
        wait_for(lambda: not running(), 60, "the end of the statement")
        wait_for(lambda: [e for e in sp.audit("sql_stopped") if e["session"] == s["id"]], 60, "the event")

    def test_a_password_that_is_known(self):
        """Taken over, for both plugins; the statement has nothing that logs in, and logs have no password."""
        secret = "Canary-4712-of-the-server"
        for name, plugin in (("known", "ed25519"), ("old", "native")):
            text = my.add_account(name, "--mariadb-stdin", "--plugin", plugin, input=secret.encode() + b"\n")
            self.assertIn("VIA " + ("ed25519" if plugin == "ed25519" else "mysql_native_password") + " USING '", text)
            self.assertEqual(self.psql(name + "+my-db:3306")[:2], (0, name + "@%"))
            r = subprocess.run(["mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", str(my.port), "-u", name, "-p" + secret, "--ssl", "-N",
                                "-e", "SELECT 1"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
            self.assertEqual(r.stdout.strip(), b"1", r.stderr)
        for text in (my.log(), sp.log(), sp.psql("SELECT encode(sealed, 'escape') FROM sallyport.secrets")):
            self.assertNotIn(secret, text)
        # Changed there: the vault's answer is not good any more; set anew, it is.
        my.sql("ALTER USER known IDENTIFIED VIA ed25519 USING PASSWORD('changed')")
        code, out, err = self.psql("known+my-db:3306")
        self.assertEqual(code, 1)
        self.assertIn("Access denied for user 'known'", err)
        r = sp.host("secret", "set", "known@my-db", "--mariadb-stdin", input=b"changed\n", check=True)
        self.assertEqual(self.psql("known+my-db:3306")[:2], (0, "known@%"))
        r = sp.host("secret", "set", "known@my-db", "--password-stdin", input=b"x\n")
        self.assertIn("has no accounts of --kind password", r.text)

    def test_a_certificate_that_is_not_pinned(self):
        sp.host("target", "add", "wrong-my", "--protocol", "mariadb", "--addr", "127.0.0.1:%d" % my.port, "--tag", "db", "--tls-pin",
                "sha256:" + "ab" * 32, check=True)
        sp.host("account", "add", "app@wrong-my", "--kind", "mariadb", "--generate", check=True)
        code, out, err = self.psql("wrong-my:3306")
        self.assertEqual(code, 1)
        self.assertIn("certificate is not the pinned one; no credential was used", err)
        self.assertEqual(len(events("host_key_mismatch", "wrong-my")), 1)

    def test_what_does_not_pass(self):
        code, out, err = self.psql("unknown+my-db:3306")
        self.assertEqual(code, 1)
        self.assertIn("Sallyport: unknown@my-db is refused", err)
        with open(sp.dir + "/local", "w") as f:
            f.write("1\n")
        code, out, err = self.client("--local-infile=1", text="LOAD DATA LOCAL INFILE '%s/local' INTO TABLE t" % sp.dir)
        self.assertEqual(code, 1)
        self.assertEqual(self.client(text="SELECT count(*) FROM t")[1], "100")
        # COM_CHANGE_USER, by hand: nobody becomes somebody else.
        with socket.create_connection(("127.0.0.1", self.f.port), 60) as s:
            def packet():
                head = b""
                while len(head) < 4:
                    head += s.recv(4 - len(head)) or self.fail("the end")
                n, body = head[0] | head[1] << 8 | head[2] << 16, b""
                while len(body) < n:
                    body += s.recv(n - len(body)) or self.fail("the end")
                return body
            self.assertEqual(packet()[:1], b"\x0a")
            wish = struct.pack("<IIB", 0x8 | 0x200 | 0x8000 | 0x80000, 1 << 24, 45) + bytes(23) + b"x\0\0bank\0mysql_native_password\0"
            s.sendall(struct.pack("<I", len(wish))[:3] + b"\1" + wish)
            self.assertEqual(packet()[:1], b"\0")
            s.sendall(b"\7\0\0\0\x11root\0\0")
            self.assertIn(b"Sallyport: to change the user is not permitted", packet())
        self.assertIn("to change the user is not permitted", events("sql_refused", "my-db")[-1]["why"])
        text = sp.host("target", "setup", "my-db", check=True).out.decode()
        self.assertIn("CREATE USER 'app'@'BASTION' IDENTIFIED VIA mysql_native_password USING 'invalid' REQUIRE SSL;", text)


class Inventory(unittest.TestCase):
    def test_a_file_that_makes_them(self):
        """What is exported is what is there; a file makes a database with a role for each session."""
        path = sp.dir + "/inventory.yaml"
        text = sp.host("export", "inventory", check=True).out.decode()
        with open(path, "w") as f:
            f.write(text)
        self.assertIn("protocol: postgresql", text)
        self.assertIn(pg.pin, text)
        r = sp.host("apply", "-f", path, "--plan", check=True)
        self.assertIn("Nothing to do", r.text)
        more = """version: 1
targets:
  third-db:
    protocol: postgresql
    addresses: ["127.0.0.1:%d"]
    host_keys: ["%s"]
    tags: [db]
    databases: [bank]
    accounts:
      reader: {kind: postgresql, secret: generate}
      roles: {kind: pg-role, admin: reader, members: [reporting], limit: 3}
"""
        with open(path, "w") as f:
            f.write(more % (pg.port, pg.pin))
        r = sp.host("apply", "-f", path, "--yes", check=True)
        statement = re.search("ALTER ROLE \"reader\" PASSWORD 'SCRAM-SHA-256[^']*';", r.out.decode())
        self.assertTrue(statement, r)
        self.assertIn("Nothing to do", sp.host("apply", "-f", path, "--plan", check=True).text)
        text = sp.host("export", "inventory", check=True).out.decode()
        self.assertIn("admin: reader", text)
        for bad, why in (("protocol: oracle", "protocol is ssh, postgresql or mariadb"), ("protocol: mariadb", "stays what it was made for"),
                         ("accounts: {x: {kind: cert}}", "no accounts of kind cert"), ("channel_binding: never", "required or optional"),
                         ("accounts: {x: {kind: pg-role, admin: reader}}", "a pg-role needs"), ("databases: [\"a b\"]", "without blanks")):
            with open(path, "w") as f:
                f.write("version: 1\ntargets:\n  third-db:\n    %s\n" % bad)
            r = sp.host("apply", "-f", path, "--plan")
            self.assertNotEqual(r.code, 0, bad)
            self.assertIn(why, r.text)


if __name__ == "__main__":
    main()
