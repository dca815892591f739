# SPDX-License-Identifier: Apache-2.0
"""A superuser of the database changes rows by hand: nothing is gained by it, and it is alarmed."""
import os
import re
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

    def alarmed(self, table, row, event="row_seal_broken"):
        wait_for(lambda: [e for e in sp.audit(event) if e["detail"]["table"] == table and
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


class RowVersions(Case):
    """Rows that the vault did seal, at another time: the audit chain knows which version is the newest."""
    def person(self, name, groups="operators"):
        sp.lib('[ -d "$1/people/$2" ] || add_person "$1" "$2" "$2" "$3"', name, groups)
        sp.fresh_code(name)
        self.let_in(name)
        return ident("people", "name = '%s'" % name)

    def shut_out(self, who):
        r = sp.ssh(who, "bastion", "whoami", mux=False)
        self.assertEqual((r.code, r.out), (255, b""), r)

    def take_copy(self, table, row):
        sp.psql("DROP TABLE IF EXISTS kept.old; CREATE TABLE kept.old AS SELECT * FROM sallyport.%s WHERE id = '%s'" % (table, row))

    def put_back(self, table):
        tamper(table, "DELETE FROM {0} WHERE id IN (SELECT id FROM kept.old); INSERT INTO {0} SELECT * FROM kept.old".format(table))

    def listed(self, row):
        mine = [x for x in sp.host("seals", "broken", "--json").json() if x["id"] == row]
        self.assertEqual(len(mine), 1)
        return mine[0]

    def test_an_older_version_put_back(self):
        row = self.person("vera")
        self.take_copy("people", row)
        sp.host("users", "disable", "vera", check=True)
        keep()
        self.put_back("people")
        self.assertEqual(sp.psql("SELECT enabled FROM sallyport.people WHERE name = 'vera'"), "t")
        self.shut_out("vera")
        self.alarmed("people", row, "row_rolled_back")
        mine = self.listed(row)
        self.assertEqual((mine["table"], mine["what"], mine["why"]), ("people", "vera", "an older version was put back"))
        doctor = sp.host("doctor", "--json").json()
        self.assertTrue([x for x in doctor if x.get("row") == row and x["table"] == "people" and "vera" in x["text"]], doctor)

    def test_a_version_that_never_came_to_be(self):
        """The vault seals before the database commits; what was refused there never counts."""
        row = ident("accounts", "name = 'legacy'")
        version = int(sp.psql("SELECT ver FROM sallyport.accounts WHERE id = '%s'" % row)) + 1
        sp.psql("CREATE FUNCTION kept.catch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                "RAISE EXCEPTION 'caught %', encode(NEW.seal, 'hex'); END $$; "
                "CREATE TRIGGER a_catch BEFORE UPDATE ON sallyport.accounts FOR EACH ROW EXECUTE FUNCTION kept.catch()")
        self.assertNotEqual(sp.host("account", "set", "legacy@core-01", "--exclusive", "on").code, 0)
        sp.psql("DROP TRIGGER a_catch ON sallyport.accounts; DROP FUNCTION kept.catch()")
        with open(sp.dir + "/log/postgresql.log", errors="replace") as f:
            seal = f.read().rsplit("caught ", 1)[1].split()[0]
        sp.host("account", "disable", "legacy@core-01", check=True)
        keep()
        tamper("accounts", "UPDATE accounts SET disabled = NULL, exclusive = true, seal = '\\x%s' WHERE id = '%s' AND ver = %d" %
               (seal, row, version))
        self.refused("oscar", "legacy@core-01", codes=(1,))
        self.alarmed("accounts", row, "row_not_in_chain")
        self.assertEqual(self.listed(row)["why"], "a version that never came to be was put in its place")
        restore()
        sp.host("account", "enable", "legacy@core-01", check=True)
        keep()

    def test_a_forbidden_group_is_deleted(self):
        self.refused("gus", codes=(1,))
        row = ident("memberships", "person_id = %s AND group_name = 'guests'" % person("gus"))
        tamper("memberships", "DELETE FROM memberships WHERE id = '%s'" % row)
        r = self.refused("gus", codes=(1,))
        self.assertIn("seal", r.text)
        self.alarmed("memberships", row, "row_missing")
        mine = self.listed(row)
        self.assertEqual(mine["why"], "it was deleted without the bastion")
        self.assertIn("gus", mine["what"])

    def test_a_second_factor_is_deleted(self):
        sp.fresh_code("pia")
        keep()
        row = ident("totp", "person_id = %s" % person("pia"))
        tamper("totp", "DELETE FROM totp WHERE id = '%s'" % row)
        c = Client(sp.port).begin()
        self.assertTrue(is_partial(c.key("pia", sp.dir + "/people/pia/id_ed25519")))
        if c.request("pia", "keyboard-interactive", bytes(8))[0] == 60:
            self.assertNotEqual(c.code(totp(secret_of(sp, "pia")))[0], 52)
        c.close()
        sp.host("doctor")
        self.alarmed("totp", row, "row_missing")

    def test_what_was_deleted_comes_back(self):
        sp.host("users", "group", "add", "paul", "operators", check=True)
        wait_for(lambda: self.try_session("paul").code == 0, 20, "the membership")
        row = ident("memberships", "person_id = %s AND group_name = 'operators'" % person("paul"))
        self.take_copy("memberships", row)
        sp.host("users", "group", "remove", "paul", "operators", check=True)
        self.refused("paul", codes=(1,))
        keep()
        self.put_back("memberships")
        self.refused("paul", codes=(1,))
        self.alarmed("memberships", row, "row_not_in_chain")

    def test_a_person_decides(self):
        """Nothing is sealed anew but the row that somebody names; both ways are in the audit."""
        row = ident("targets", "name = 'core-01'")
        tamper("targets", "UPDATE targets SET tags = 'core by-hand' WHERE id = '%s'" % row)
        self.refused("oscar", codes=(1, 255))
        r = sp.host("doctor", "--repair")
        self.assertNotEqual(r.code, 0)
        self.assertIn("targets/" + row, r.text)
        self.assertIn("core-01", r.text)
        self.refused("oscar", codes=(1, 255))
        self.assertNotEqual(sp.host("doctor", "--repair", "targets/%s=acept" % row).code, 0)
        self.assertNotEqual(sp.ssh("alice", "bastion", "seals", "accept", "targets", row).code, 0)
        sp.host("doctor", "--repair", "targets/%s=accept" % row)
        self.let_in("oscar")
        self.assertTrue([e for e in sp.audit("row_accepted") if e["detail"]["id"] == row])
        self.assertEqual(sp.psql("SELECT tags FROM sallyport.targets WHERE id = '%s'" % row), "core by-hand")
        sp.host("target", "set", "core-01", "--tag", "core", check=True)
        # the same for one that is missing
        row = ident("memberships", "person_id = %s AND group_name = 'p07'" % person("many"))
        tamper("memberships", "DELETE FROM memberships WHERE id = '%s'" % row)
        self.assertEqual(self.listed(row)["why"], "it was deleted without the bastion")
        self.assertNotEqual(sp.host("seals", "accept", "memberships", row).code, 0)
        sp.host("seals", "drop", "memberships", row, check=True)
        self.assertFalse([x for x in sp.host("seals", "broken", "--json").json() if x["id"] == row])
        self.assertTrue([e for e in sp.audit("row_dropped") if e["detail"]["id"] == row])
        keep()

    def test_all_of_it_is_put_back(self):
        """Rows and audit together, as from a backup; then the row alone, without the bastion's own file."""
        row = self.person("rolf")
        self.take_copy("people", row)
        copy = "CREATE TABLE kept.{1} AS TABLE sallyport.{0};"
        back = "SET session_replication_role = replica; DELETE FROM sallyport.audit; DELETE FROM sallyport.audit_heads;" \
               "INSERT INTO sallyport.audit TABLE kept.{0}audit; INSERT INTO sallyport.audit_heads TABLE kept.{0}heads"
        sp.psql(copy.format("audit", "old_audit") + copy.format("audit_heads", "old_heads"))
        sp.host("users", "disable", "rolf", check=True)
        keep()
        sp.psql(copy.format("audit", "new_audit") + copy.format("audit_heads", "new_heads"))
        self.put_back("people")
        sp.psql(back.format("old_"))
        for pid in sp.pids("broker")[0]:
            os.kill(pid, 9)
        wait_for(lambda: sp.host("audit", "--event", "audit_rolled_back", "--json").out.strip() not in (b"", b"[]"), 60,
                 "the alarm about the audit")
        self.assertEqual(sp.psql("SELECT enabled FROM sallyport.people WHERE name = 'rolf'"), "t")
        self.shut_out("rolf")
        self.alarmed("people", row, "row_rolled_back")
        # The true chain again; without our own file it says itself which version is the newest.
        sp.psql(back.format("new_"))
        sp.host("stop", check=True, timeout=120)
        os.unlink(sp.dir + "/broker/heads")
        sp.host("start", check=True, timeout=120)
        self.shut_out("rolf")
        self.alarmed("people", row, "row_rolled_back")
        for who in ("oscar", "paul", "pia", "gus", "alice", "bob", "many"):
            sp.fresh_code(who)
            self.assertEqual(sp.ssh(who, "bastion", "whoami").code, 0)
        tamper("people", "DELETE FROM people WHERE id = '{0}'; INSERT INTO people SELECT * FROM kept.people WHERE id = '{0}'".format(row))
        keep()


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


class TheSchema(unittest.TestCase):
    """A table that decides about something is sealed; one that is not is here, with the reason."""
    UNSEALED = {
        "schema_version": "the programs compare it at start",
        "totp_spent": "a trigger lets it grow only; the step is in the event of the login",
        "sessions": "what ran: decides nothing; in the audit as well",
        "leases": "what is held: decides who waits, never who may; in the audit as well",
        "session_roles": "what is to be removed from databases; the names follow from sessions' ids, it can name nothing else",
        "shipments": "what the store has: a copy on the disk goes after it was compared with the store once more",
        "holds": "the bastion's log has each one and its release: the notary logs no end of a recording that its log holds",
        "deletions": "a recording goes after the leaf of its end, and the notary has its own judgement of that",
        "audit": "a chain of hashes with signed heads",
        "audit_heads": "signatures of the vault",
    }

    def test_every_table_is_sealed_or_has_a_reason(self):
        tables = set(sp.psql("SELECT relname FROM pg_class WHERE relnamespace = 'sallyport'::regnamespace AND relkind IN ('r', 'p')")
                     .split("\n"))
        sealed = {x["id"] for x in sp.host("seals", "--json").json()}
        self.assertEqual(sealed & set(self.UNSEALED), set())
        self.assertEqual(tables - sealed, set(self.UNSEALED))
        columns = sp.psql("SELECT table_name FROM information_schema.columns WHERE table_schema = 'sallyport' AND column_name = 'seal' "
                          "AND is_nullable = 'NO'").split("\n")
        self.assertEqual(set(columns), sealed)

    def test_every_column_of_a_sealed_table_is_under_its_seal(self):
        """What the registry does not know could be changed unseen."""
        with open(TOP + "/bastion/broker/registry.c") as f:
            text = f.read().replace("\\\n", " ")
        for table in {x["id"] for x in sp.host("seals", "--json").json()}:
            line = re.search(r"#define %s\(C\)(.*)" % re.search(r"T\((\w+), %s\)" % table, text).group(1), text).group(1)
            known = set(re.findall(r"C\((\w+),", line))
            real = set(sp.psql("SELECT column_name FROM information_schema.columns WHERE table_schema = 'sallyport' AND table_name = "
                               "'%s'" % table).split("\n")) - {"id", "ver", "seal"}
            self.assertEqual(real, known, table)


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
