# SPDX-License-Identifier: Apache-2.0
"""The main job, with OpenSSH's own client: the steps of the tour, and every way into a session."""
import os
import re
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance, main, read_until, wait_for  # noqa: E402

POLICY = """
network loopback 127.0.0.0/8, ::1
permit "elevation" who group sysadmins on tag core as admin, legacy
  when source in loopback require approval 1 of approvers, mfa totp for 1h
permit "free" who group operators on tag core as admin when source in loopback require mfa totp for 1h
permit "exec-only" who group runners on tag core as admin require mfa totp for 1h allow exec
forbid "never-guests" who group guests on any as any
"""


def setUpModule():
    global sp
    sp = Instance(policy=POLICY)
    sp.add_person("oscar", "operators")
    sp.add_person("rita", "runners")
    sp.add_person("gus", "operators,guests")


def tearDownModule():
    sp.close()


class Approval(unittest.TestCase):
    def test_wait_inside_the_login_of_a_jump(self):
        p = sp.ssh_start("alice", "admin@core-01", "echo marker-$((40+2)); exit 5", reason="季度更新 patch")
        seen = read_until(p.stderr, rb"approve (\d+)")
        number = re.search(rb"approve (\d+)", seen).group(1).decode()
        self.assertIn(b"bob", seen)                       # who may approve is shown
        rows = sp.ssh("bob", "bastion", "requests", "--json").json()
        row = [r for r in rows if str(r["id"]) == number][0]
        self.assertIn("季度更新", row["reason"])
        self.assertIsNone(p.poll())
        r = sp.ssh("bob", "bastion", "approve", number)
        self.assertEqual(r.code, 0, r)
        out, err = p.communicate(timeout=30)
        self.assertEqual(p.returncode, 5, err)
        self.assertEqual(out, b"marker-42\n")
        self.assertIn("bob", (seen + err).decode())

    def test_denied_ends_the_wait(self):
        sp.lib('[ -d "$1/people/dora" ] || add_person "$1" dora Dora sysadmins')
        p = sp.ssh_start("dora", "admin@core-01", "id")
        seen = read_until(p.stderr, rb"approve (\d+)")
        number = re.search(rb"approve (\d+)", seen).group(1).decode()
        self.assertEqual(sp.ssh("bob", "bastion", "deny", number, "--comment", "not-today").code, 0)
        out, err = p.communicate(timeout=30)
        self.assertNotEqual(p.returncode, 0)
        self.assertEqual(out, b"")
        self.assertIn(b"not-today", seen + err)

    def test_batch_mode_gets_75_and_the_number(self):
        sp.lib('[ -d "$1/people/ben" ] || add_person "$1" ben Ben sysadmins')
        sp.ssh("ben", "bastion", "whoami")
        r = sp.ssh("ben", "admin@core-01", "id", opts=["BatchMode=yes"])
        self.assertEqual(r.code, 75, r)
        self.assertEqual(r.out, b"")
        number = re.search(rb"approve (\d+)|[Rr]equest (\d+)", r.err)
        self.assertTrue(number, r)

    def test_nobody_approves_himself(self):
        sp.lib('[ -d "$1/people/both" ] || add_person "$1" both Both sysadmins,approvers')
        r = sp.ssh("both", "bastion", "request", "admin@core-01", "--reason", "mine", "--json")
        self.assertEqual(r.code, 0, r)
        number = str(r.json()["id"])
        r = sp.ssh("both", "bastion", "approve", number)
        self.assertEqual(r.code, 1, r)
        self.assertEqual([x for x in sp.ssh("both", "bastion", "requests", "--all", "--json").json()
                          if str(x["id"]) == number][0]["state"], "pending")

    def test_request_wants_a_reason(self):
        r = sp.ssh("alice", "bastion", "request", "legacy@core-01")
        self.assertEqual(r.code, 2, r)
        self.assertIn("reason", r.text)

    def test_approver_cannot_decide_twice_nor_after_the_end(self):
        sp.lib('[ -d "$1/people/twice" ] || add_person "$1" twice Twice sysadmins')
        r = sp.ssh("twice", "bastion", "request", "admin@core-01", "--reason", "x", "--json")
        n = str(r.json()["id"])
        self.assertEqual(sp.ssh("bob", "bastion", "approve", n).code, 0)
        self.assertEqual(sp.ssh("bob", "bastion", "approve", n).code, 1)
        self.assertEqual(sp.ssh("bob", "bastion", "deny", n).code, 1)


class Ways(unittest.TestCase):
    def test_jump(self):
        r = sp.ssh("oscar", "admin@core-01", "echo out; echo err >&2; exit 3")
        self.assertEqual((r.code, r.out), (3, b"out\n"), r)
        self.assertIn(b"err\n", r.err)

    def test_login_name_names_the_target(self):
        r = sp.ssh("oscar", "-l", "oscar+admin+core-01", "bastion", "echo $USER", mux=False)
        self.assertEqual((r.code, r.out), (0, b"admin\n"), r)

    def test_exec_is_byte_clean(self):
        data = os.urandom(3 << 20)
        r = sp.ssh("oscar", "admin@core-01", "cat", input=data, opts=["RekeyLimit=1M"], timeout=120)
        self.assertEqual(r.code, 0, r.err)
        self.assertEqual(len(r.out), len(data))
        self.assertEqual(r.out, data)

    def test_signal_of_the_remote_command(self):
        r = sp.ssh("oscar", "admin@core-01", "kill -TERM $$; sleep 5")
        self.assertNotEqual(r.code, 0)

    def test_terminal_size_and_change(self):
        r = sp.ssh("oscar", "-tt", "admin@core-01", "stty size; tty >/dev/null && echo is-a-tty")
        self.assertIn(b"is-a-tty", r.out, r)

    def test_subsystem_passes(self):
        p = subprocess.run(["sftp", "-q", "-b", "-", "-F", sp.dir + "/people/oscar/ssh_config", "admin@core-01"],
                           input=b"pwd\nls -la\n", stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                           env=sp.ssh_env("oscar"))
        # sftp -b sets BatchMode: nothing is owed here, so it goes through
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertIn(b"Remote working directory", p.stdout)

    def test_password_account(self):
        sp.grant(account="legacy@core-01")
        r = sp.ssh("alice", "legacy@core-01", "whoami")
        self.assertEqual((r.code, r.out), (0, b"legacy\n"), r)

    def test_ten_channels_in_one_connection(self):
        self.assertEqual(sp.ssh("oscar", "bastion", "whoami").code, 0)  # the master that all share
        procs = [sp.ssh_start("oscar", "admin@core-01", "echo c%d; cat >/dev/null; exit %d" % (i, i)) for i in range(10)]
        for i, p in enumerate(procs):
            out, err = p.communicate(timeout=60)
            self.assertEqual((p.returncode, out), (i, b"c%d\n" % i), err)

    def test_agent_and_forwards_are_refused(self):
        r = sp.ssh("oscar", "-A", "admin@core-01", "echo ${SSH_AUTH_SOCK:-none}")
        self.assertEqual(r.out, b"none\n", r)
        r = sp.ssh("oscar", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1", "admin@core-01", "echo no")
        self.assertNotEqual(r.out, b"no\n", r)

    def test_environment_by_allow_list(self):
        r = sp.ssh("oscar", "-o", "SetEnv=LC_TEST=yes LD_PRELOAD=x EVIL=1", "admin@core-01",
                   "echo $LC_TEST-$EVIL-$LD_PRELOAD")
        self.assertEqual(r.out, b"yes--\n", r)


class Refusals(unittest.TestCase):
    def test_forbid_overrides_permit(self):
        r = sp.ssh("gus", "admin@core-01", "id")
        self.assertNotEqual(r.code, 0)
        self.assertEqual(r.out, b"")
        self.assertTrue(sp.audit("session_denied") or "never-guests" in r.text, r)

    def test_right_that_is_not_granted(self):
        r = sp.ssh("rita", "admin@core-01", "echo yes")
        self.assertEqual((r.code, r.out), (0, b"yes\n"), r)
        r = sp.ssh("rita", "-tt", "admin@core-01", input=b"exit\n")
        self.assertNotEqual(r.code, 0, r)

    def test_unknown_target_and_account(self):
        r = sp.ssh("oscar", "-J", "bastion", "-o", "HostName=nowhere", "admin@nowhere", "id", opts=["HostKeyAlias=sallyport"])
        self.assertEqual(r.code, 255, r)
        r = sp.ssh("oscar", "root@core-01", "id")
        self.assertNotEqual(r.code, 0, r)

    def test_wrong_code_does_not_open(self):
        sp.end_mux("oscar")
        env = sp.ssh_env("oscar")
        fake = sp.dir + "/wrong-askpass"
        with open(fake, "w") as f:
            f.write("#!/bin/sh\necho 000000\n")
        os.chmod(fake, 0o755)
        env["SSH_ASKPASS"] = fake
        p = subprocess.run(sp.ssh_argv("oscar", ["bastion", "whoami"], mux=False), stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, env=env)
        self.assertEqual(p.returncode, 255)
        self.assertEqual(p.stdout, b"")

    def test_key_alone_does_not_open(self):
        p = sp.ssh("oscar", "bastion", "whoami", mux=False, opts=["KbdInteractiveAuthentication=no"])
        self.assertEqual(p.code, 255)

    def test_somebody_elses_key_does_not_open(self):
        p = sp.ssh("oscar", "bastion", "whoami", mux=False,
                   opts=["IdentityFile=" + sp.dir + "/people/bob/id_ed25519", "User=alice"])
        self.assertEqual(p.code, 255)

    def test_disabled_person(self):
        sp.lib('[ -d "$1/people/eve" ] || add_person "$1" eve Eve operators')
        self.assertEqual(sp.ssh("eve", "bastion", "whoami").code, 0)
        sp.end_mux("eve")
        sp.host("users", "disable", "eve", check=True)
        sp.fresh_code("eve")
        self.assertEqual(sp.ssh("eve", "bastion", "whoami", mux=False).code, 255)


class Ends(unittest.TestCase):
    def running(self, who="oscar"):
        before = {s["id"] for s in sp.sessions()}
        p = sp.ssh_start(who, "-tt", "admin@core-01", "echo up-$((1+1)); exec cat")
        read_until(p.stdout, rb"up-2")
        new = [s for s in sp.sessions() if s["id"] not in before]
        self.assertEqual(len(new), 1)
        return p, new[0]["id"]

    def ended(self, p, session, word):
        out, err = p.communicate(timeout=2.5 + 8)
        self.assertNotEqual(p.returncode, 0)
        self.assertIn(word, (out + err).decode("utf-8", "replace"))
        s = wait_for(lambda: [x for x in sp.sessions() if x["id"] == session and x["state"] != "running"], 5,
                     "the session's end in the list")[0]
        return s

    def test_kill_ends_it_with_the_reason(self):
        p, s = self.running()
        r = sp.host("kill", s, "--reason", "lunch-time")
        self.assertEqual(r.code, 0, r)
        self.ended(p, s, "lunch-time")

    def test_revoked_grant_ends_it(self):
        sp.lib('[ -d "$1/people/rev" ] || add_person "$1" rev Rev sysadmins')
        n = sp.grant(who="rev")
        p, s = self.running("rev")
        r = sp.ssh("bob", "bastion", "revoke", str(n), "--reason", "changed-mind")
        self.assertEqual(r.code, 0, r)
        self.ended(p, s, "revoked")

    def test_expiry_ends_it(self):
        sp.lib('[ -d "$1/people/exp" ] || add_person "$1" exp Exp sysadmins')
        sp.grant(who="exp", length="8s")
        p, s = self.running("exp")
        self.ended(p, s, "over")

    def test_policy_change_ends_it(self):
        p, s = self.running()
        sp.load_policy(POLICY + '\nforbid "closed" who user oscar on any as any\n')
        try:
            self.ended(p, s, "policy")
        finally:
            sp.load_policy(POLICY)

    def test_disabled_person_is_cut(self):
        sp.lib('[ -d "$1/people/cut" ] || add_person "$1" cut Cut operators')
        p, s = self.running("cut")
        sp.host("users", "disable", "cut", check=True)
        out, err = p.communicate(timeout=10)
        self.assertNotEqual(p.returncode, 0)


class Evidence(unittest.TestCase):
    def session(self, command="echo evidence-$((6*7))"):
        before = {s["id"] for s in sp.sessions()}
        self.assertEqual(sp.ssh("oscar", "admin@core-01", command).code, 0)
        # a session ends with its connection
        new = wait_for(lambda: [s for s in sp.sessions() if s["id"] not in before], 10, "the session in the list")
        sid = new[0]["id"]
        wait_for(lambda: os.path.exists("%s/recordings/%s.spr" % (sp.dir, sid)), 10, "the closed recording")
        return sid

    def test_replay_verify_export(self):
        s = self.session()
        r = sp.ssh("carol", "bastion", "replay", s)
        self.assertEqual(r.code, 0, r)
        self.assertIn(b"evidence-42", r.out)
        r = sp.ssh("carol", "bastion", "verify", s)
        self.assertEqual(r.code, 0, r)
        self.assertIn("intact", r.text.lower())
        r = sp.ssh("carol", "bastion", "export", s, "--format", "asciicast")
        self.assertEqual(r.code, 0, r)
        import json
        lines = [json.loads(x) for x in r.out.splitlines()]
        self.assertEqual(lines[0]["version"], 2)
        self.assertIn("evidence-42", "".join(x[2] for x in lines[1:] if x[1] == "o"))
        events = {e["event"] for e in sp.audit() if e.get("session") == s or s in str(e)}
        self.assertTrue({"replay", "export"} <= events, events)

    def test_sysadmin_may_not_replay(self):
        s = self.session()
        r = sp.ssh("oscar", "bastion", "replay", s)
        self.assertEqual(r.code, 1, r)
        self.assertNotIn(b"evidence", r.out)

    def test_offline_with_a_public_key_only(self):
        s = self.session()
        key = sp.dir + "/audit.pub"
        with open(key, "w") as f:
            f.write(sp.host("vault", "status", "--json", check=True).json()["audit_key"])
        path = "%s/recordings/%s.spr" % (sp.dir, s)
        r = sp.host("verify", path, "--key", key)
        self.assertEqual(r.code, 0, r)
        with open(path, "rb") as f:
            data = bytearray(f.read())
        data[len(data) // 2] ^= 1
        bad = sp.dir + "/bad.spr"
        with open(bad, "wb") as f:
            f.write(data)
        r = sp.host("verify", bad, "--key", key)
        self.assertEqual(r.code, 1, r)

    def test_missing_recording_is_said(self):
        s = self.session()
        os.unlink("%s/recordings/%s.spr" % (sp.dir, s))
        r = sp.ssh("carol", "bastion", "verify", s)
        self.assertEqual(r.code, 1, r)
        self.assertIn("missing", r.text.lower())

    def test_audit_chain(self):
        r = sp.ssh("carol", "bastion", "audit", "verify")
        self.assertEqual(r.code, 0, r)

    def test_credential_was_of_that_session_alone(self):
        s = self.session()
        with open(sp.dir + "/target/sshd.log", errors="replace") as f:
            line = [x for x in f if "Accepted publickey for admin" in x and s in x]
        self.assertEqual(len(line), 1)
        self.assertIn("ED25519-CERT", line[0])


if __name__ == "__main__":
    main()
