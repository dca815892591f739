# SPDX-License-Identifier: Apache-2.0
"""A superuser of the database changes rows by hand: nothing is gained by it, and it is alarmed."""
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from puppet import TOP, secret_of, totp  # noqa: E402
from rawssh import Client, is_partial  # noqa: E402
sys.path.insert(0, TOP + "/tests/support")
from sp import Instance, main, wait_for  # noqa: E402

POLICY = """
permit "elevation" who group sysadmins on tag core as admin, legacy require approval 1 of approvers, mfa totp for 1h
permit "free" who group operators on tag core as admin, legacy require mfa totp for 1h
forbid "never-guests" who group guests on any as any
"""
TABLES = ("people", "person_keys", "memberships", "totp", "targets", "accounts", "secrets", "policies", "requests",
          "decisions", "grants")
PEOPLE = {"oscar": "operators", "paul": "nobodies", "pia": "sysadmins", "gus": "operators,guests", "many": None}


def setUpModule():
    global sp
    sp = Instance(policy=POLICY)
    for name, groups in PEOPLE.items():
        if groups is None:
            groups = ",".join(["operators"] + ["p%02d" % i for i in range(40)] + ["zz-last"])
        sp.add_person(name, groups)
    for who in list(PEOPLE) + ["alice", "bob"]:
        r = sp.ssh(who, "bastion", "whoami")
        assert r.code == 0, r
    sp.psql("CREATE SCHEMA kept;" + "".join("CREATE TABLE kept.%s AS TABLE sallyport.%s;" % (t, t) for t in TABLES))


def tearDownModule():
    sp.close()


def tamper(table, sql):
    """As a superuser would: out of the way with what the schema forbids."""
    sp.psql("SET search_path = sallyport; BEGIN; ALTER TABLE {0} DISABLE TRIGGER ALL; {1}; "
            "ALTER TABLE {0} ENABLE TRIGGER ALL; COMMIT".format(table, sql))


def keep():
    sp.psql("".join("TRUNCATE kept.{0}; INSERT INTO kept.{0} TABLE sallyport.{0};".format(t) for t in TABLES))


def restore():
    sp.psql("SET session_replication_role = replica;" +
            "".join("DELETE FROM sallyport.%s;" % t for t in reversed(TABLES)) +
            "".join("INSERT INTO sallyport.{0} TABLE kept.{0};".format(t) for t in TABLES))


def ident(table, where):
    return sp.psql("SET search_path = sallyport; SELECT id FROM %s WHERE %s" % (table, where))


def person(name):
    return "(SELECT id FROM sallyport.people WHERE name = '%s')" % name


class Case(unittest.TestCase):
    def setUp(self):
        keep()
        self.addCleanup(restore)

    def alarmed(self, table, row):
        wait_for(lambda: [e for e in sp.audit("row_seal_broken") if e["detail"]["table"] == table and
                          e["detail"]["id"] == row], 15, "the alarm about %s %s" % (table, row))
        r = sp.host("doctor", "--json")
        self.assertNotEqual(r.code, 0)
        bad = [x for x in r.json() if x.get("check") == "seals" or "seals" in x.values()]
        self.assertTrue(bad and "broken seal" in str(bad[0]), bad)

    def try_session(self, who, account="admin@core-01"):
        return sp.ssh(who, account, "echo got-in", opts=["BatchMode=yes"])

    def let_in(self, who, account="admin@core-01"):
        r = self.try_session(who, account)
        self.assertEqual((r.code, r.out), (0, b"got-in\n"), r)

    def refused(self, who, account="admin@core-01", codes=(1, 75)):
        r = self.try_session(who, account)
        self.assertEqual(r.out, b"", r)
        self.assertIn(r.code, codes, r)
        return r


def keygen():
    path = sp.dir + "/mallory"
    if not os.path.exists(path):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    with open(path + ".pub") as f:
        return path, f.read().split()[1]


class Membership(Case):
    def test_inserted(self):
        self.refused("paul")
        tamper("memberships", "INSERT INTO memberships SELECT gen_random_uuid(), ver, seal, %s, 'operators' FROM memberships "
               "WHERE person_id = %s LIMIT 1" % (person("paul"), person("oscar")))
        self.refused("paul")
        self.alarmed("memberships", ident("memberships", "person_id = %s AND group_name = 'operators'" % person("paul")))

    def test_changed(self):
        row = ident("memberships", "person_id = %s" % person("pia"))
        tamper("memberships", "UPDATE memberships SET group_name = 'operators' WHERE id = '%s'" % row)
        self.refused("pia", codes=(1,))
        self.alarmed("memberships", row)

    def test_given_to_another(self):
        row = ident("memberships", "person_id = %s" % person("oscar"))
        tamper("memberships", "UPDATE memberships SET person_id = %s WHERE id = '%s'" % (person("paul"), row))
        self.refused("paul", codes=(1,))
        self.alarmed("memberships", row)

    def test_a_group_that_is_forbidden_is_renamed(self):
        self.refused("gus", codes=(1,))
        row = ident("memberships", "person_id = %s AND group_name = 'guests'" % person("gus"))
        tamper("memberships", "UPDATE memberships SET group_name = 'friends' WHERE id = '%s'" % row)
        r = self.refused("gus", codes=(1,))
        self.assertIn("seal", r.text)
        self.alarmed("memberships", row)

    def test_more_groups_than_are_looked_at(self):
        """No row is broken here: a list that was cut must not hide a group from a forbid."""
        r = self.refused("many", codes=(1,))
        self.assertIn("never-guests", r.text)

    def test_whoever_is_not_touched_works(self):
        self.let_in("oscar")


class Person(Case):
    def ssh_with(self, path, who):
        """The person's own ssh_config but for the key."""
        with open("%s/people/%s/ssh_config" % (sp.dir, who)) as f:
            text = f.read().replace("%s/people/%s/id_ed25519" % (sp.dir, who), path)
        conf = sp.dir + "/mallory.conf"
        with open(conf, "w") as f:
            f.write(text)
        return subprocess.run(["ssh", "-F", conf, "-o", "ControlPath=none", "-o", "ControlMaster=no", "bastion", "whoami"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                              env=sp.ssh_env(who))

    def test_another_key_put_in(self):
        path, b64 = keygen()
        row = ident("person_keys", "person_id = %s" % person("paul"))
        sp.fresh_code("paul")
        keep()
        tamper("person_keys", "UPDATE person_keys SET blob = decode('%s', 'base64') WHERE id = '%s'" % (b64, row))
        r = self.ssh_with(path, "paul")
        self.assertEqual((r.returncode, r.stdout), (255, b""), r.stderr)
        self.alarmed("person_keys", row)

    def test_a_key_inserted(self):
        path, b64 = keygen()
        tamper("person_keys", "INSERT INTO person_keys SELECT gen_random_uuid(), ver, seal, person_id, algo, "
               "decode('%s', 'base64'), comment, true FROM person_keys WHERE person_id = %s" % (b64, person("pia")))
        r = self.ssh_with(path, "pia")
        self.assertEqual((r.returncode, r.stdout), (255, b""), r.stderr)
        self.alarmed("person_keys", ident("person_keys", "blob = decode('%s', 'base64')" % b64))

    def test_a_disabled_person_enabled(self):
        sp.lib('[ -d "$1/people/dan" ] || add_person "$1" dan Dan operators')
        sp.host("users", "disable", "dan", check=True)
        keep()
        row = ident("people", "name = 'dan'")
        tamper("people", "UPDATE people SET enabled = true WHERE id = '%s'" % row)
        r = sp.ssh("dan", "bastion", "whoami", mux=False)
        self.assertEqual((r.code, r.out), (255, b""), r)
        self.alarmed("people", row)

    def test_the_second_factor_of_another(self):
        row = ident("totp", "person_id = %s" % person("bob"))
        sp.fresh_code("alice")
        sp.fresh_code("bob")
        keep()
        for columns in ("sealed = o.sealed", "sealed = o.sealed, seal = o.seal, ver = o.ver"):
            tamper("totp", "UPDATE totp t SET %s FROM totp o WHERE t.id = '%s' AND o.person_id = %s" %
                   (columns, row, person("alice")))
            # bob's key with a code of alice's seed
            c = Client(sp.port).begin()
            self.assertTrue(is_partial(c.key("bob", sp.dir + "/people/bob/id_ed25519")))
            self.assertEqual(c.request("bob", "keyboard-interactive", bytes(8))[0], 60)
            self.assertNotEqual(c.code(totp(secret_of(sp, "alice")))[0], 52)
            c.close()
        self.alarmed("totp", row)


class Inventory(Case):
    def test_host_key(self):
        row = ident("targets", "name = 'core-01'")
        tamper("targets", "UPDATE targets SET host_keys = 'ssh-ed25519 %s'" % keygen()[1])
        self.refused("oscar", codes=(1, 255))
        self.alarmed("targets", row)

    def test_address_and_port(self):
        row = ident("targets", "name = 'core-01'")
        for change in ("addr = '127.0.0.2'", "port = port + 1", "tags = 'core everything'"):
            tamper("targets", "UPDATE targets SET " + change)
            self.refused("oscar", codes=(1, 255))
            restore()
        tamper("targets", "UPDATE targets SET addr = '127.0.0.2'")
        self.refused("oscar", codes=(1, 255))
        self.alarmed("targets", row)

    def test_kind_of_an_account(self):
        row = ident("accounts", "name = 'legacy'")
        tamper("accounts", "UPDATE accounts SET kind = 1, secret_id = NULL WHERE id = '%s'" % row)
        self.refused("oscar", "legacy@core-01", codes=(1,))
        self.alarmed("accounts", row)

    def test_secrets_swapped(self):
        sp.host("account", "add", "second@core-01", "--kind", "password", "--password-stdin", input=b"another password\n",
                check=True)
        self.addCleanup(sp.host, "account", "remove", "second@core-01")
        keep()
        of = "(SELECT secret_id FROM accounts WHERE name = '%s')"
        row = sp.psql("SET search_path = sallyport; SELECT secret_id FROM accounts WHERE name = 'legacy'")
        for columns in ("sealed = o.sealed", "sealed = o.sealed, seal = o.seal, ver = o.ver, owner_id = o.owner_id"):
            tamper("secrets", "UPDATE secrets t SET %s FROM secrets o WHERE (t.id, o.id) IN (VALUES (%s, %s), (%s, %s))" %
                   (columns, of % "legacy", of % "second", of % "second", of % "legacy"))
            self.refused("oscar", "legacy@core-01", codes=(1, 75, 255))
        self.alarmed("secrets", row)
        restore()
        # the account points to the other's secret
        row = ident("accounts", "name = 'legacy'")
        tamper("accounts", "UPDATE accounts SET secret_id = %s WHERE name = 'legacy'" % (of % "second"))
        self.refused("oscar", "legacy@core-01", codes=(1,))
        self.alarmed("accounts", row)


class Approval(Case):
    def granted(self):
        number = sp.grant("alice")
        self.let_in("alice")
        keep()
        return number

    def revoke(self, number):
        sp.ssh("alice", "bastion", "revoke", str(number))

    def grant_of(self, number):
        return ident("grants", "request_id = (SELECT id FROM requests WHERE num = %s)" % number)

    def test_a_grant_is_made_longer(self):
        n = self.granted()
        row = self.grant_of(n)
        tamper("grants", "UPDATE grants SET ends_us = ends_us + 31536000000000 WHERE id = '%s'" % row)
        self.refused("alice", codes=(75,))
        self.alarmed("grants", row)
        restore()
        self.let_in("alice")
        self.revoke(n)
        keep()

    def test_a_grant_changes_hands(self):
        n = self.granted()
        row = self.grant_of(n)
        tamper("grants", "UPDATE grants SET person_id = %s WHERE id = '%s'" % (person("pia"), row))
        self.refused("pia", codes=(75,))
        self.alarmed("grants", row)
        restore()
        self.revoke(n)
        keep()

    def test_a_grant_from_nothing(self):
        n = self.granted()
        copy = "INSERT INTO grants SELECT gen_random_uuid(), ver, seal, NULL, %s, account_id, target_id, starts_us, ends_us, " \
               "rights, state, ended_by FROM grants WHERE id = '%s' RETURNING 1" % (person("pia"), self.grant_of(n))
        tamper("grants", copy)
        self.refused("pia", codes=(75,))
        self.alarmed("grants", ident("grants", "person_id = %s AND request_id IS NULL" % person("pia")))
        restore()
        self.revoke(n)
        keep()

    def test_a_revoked_grant_revived(self):
        n = self.granted()
        self.revoke(n)
        wait_for(lambda: self.try_session("alice").code == 75, 10, "the revocation")
        keep()
        row = self.grant_of(n)
        tamper("grants", "UPDATE grants SET state = 'active', ended_by = NULL WHERE id = '%s'" % row)
        tamper("requests", "UPDATE requests SET state = 'approved' WHERE num = %s" % n)
        self.refused("alice", codes=(75,))
        self.alarmed("grants", row)

    def request(self, who):
        r = sp.ssh(who, "bastion", "request", "admin@core-01", "--reason", "by-hand", "--json")
        self.assertEqual(r.code, 0, r)
        keep()
        return r.json()["id"]

    def test_a_decision_and_a_state_by_hand(self):
        n = self.request("pia")
        req = ident("requests", "num = %s" % n)
        tamper("decisions", "INSERT INTO decisions (id, ver, seal, request_id, requester_id, approver_id, verdict, comment, at_us) "
               "VALUES (gen_random_uuid(), 1, (SELECT seal FROM people LIMIT 1), '%s', %s, %s, 'approve', '', 1)" %
               (req, person("pia"), person("bob")))
        self.refused("pia", codes=(75,))
        decision = ident("decisions", "request_id = '%s'" % req)
        self.assertNotEqual(sp.ssh("bob", "bastion", "show", str(n)).out.count(b"approve by bob"), 1)
        self.alarmed("decisions", decision)
        tamper("requests", "UPDATE requests SET state = 'approved' WHERE num = %s" % n)
        tamper("grants", "INSERT INTO grants (id, ver, seal, request_id, person_id, account_id, target_id, starts_us, ends_us, "
               "rights, state) SELECT gen_random_uuid(), 1, seal, id, person_id, account_id, target_id, created_us, "
               "created_us + 3600000000, 7, 'active' FROM requests WHERE num = %s" % n)
        self.refused("pia", codes=(75, 1))
        sp.ssh("bob", "bastion", "requests", "--all")
        self.alarmed("requests", req)


class ThePolicy(Case):
    def test_a_start_never_loads_the_first_text_over_another(self):
        """`start` offers DIR/policy while the broker may not have read the table yet: the table decides."""
        before = sp.host("policy", "show").out
        r = sp.host("policy", "load", "--quiet", "--first", input=b'permit "all" who anyone on any as any')
        self.assertEqual((r.code, r.out), (0, b"kept\n"), r)
        self.assertEqual(sp.host("policy", "show").out, before)

    def test_a_text_by_hand(self):
        row = sp.psql("SELECT id FROM sallyport.policies ORDER BY seq DESC LIMIT 1")
        text = 'permit "all" who anyone on any as any'
        tamper("policies", "UPDATE policies SET body = '%s', hash = encode(sha256('%s'), 'hex')" % (text, text))
        self.refused("paul", codes=(1,))
        sp.host("doctor")                       # the running broker holds the text that it read: whoever looks finds out
        self.alarmed("policies", row)
        tamper("policies", "INSERT INTO policies SELECT gen_random_uuid(), ver, seal, seq + 100, body, hash, loaded_by, loaded_us "
               "FROM policies ORDER BY seq DESC LIMIT 1")
        self.refused("paul", codes=(1,))
        # A start must not believe it either.
        sp.host("stop", check=True, timeout=120)
        sp.host("start", check=True, timeout=120)
        sp.fresh_code("oscar")
        r = sp.ssh("oscar", "admin@core-01", "echo got-in")
        self.assertEqual(r.out, b"", r)


class TheAudit(unittest.TestCase):
    def verify(self):
        return sp.host("audit", "verify")

    def test_rows_edited_and_deleted(self):
        self.assertEqual(self.verify().code, 0, self.verify())
        seq = sp.psql("SELECT max(seq) - 5 FROM sallyport.audit")
        for change in ("UPDATE audit SET actor = 'somebody' WHERE seq = %s" % seq,
                       "UPDATE audit SET detail = '{}' WHERE seq = %s" % seq,
                       "UPDATE audit SET at_us = at_us + 1 WHERE seq = %s" % seq,
                       "DELETE FROM audit WHERE seq = %s" % seq, "DELETE FROM audit WHERE seq >= %s" % seq,
                       "DELETE FROM audit WHERE seq <= %s" % seq):
            with self.subTest(change=change):
                sp.psql("DROP TABLE IF EXISTS kept.audit; CREATE TABLE kept.audit AS TABLE sallyport.audit")
                last = sp.psql("SELECT max(seq) FROM kept.audit")
                tamper("audit", change)
                r = self.verify()
                self.assertNotEqual(r.code, 0, r)
                sp.psql("SET session_replication_role = replica; DELETE FROM sallyport.audit WHERE seq <= %s;"
                        "INSERT INTO sallyport.audit TABLE kept.audit" % last)


if __name__ == "__main__":
    main()
