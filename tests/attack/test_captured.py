# SPDX-License-Identifier: Apache-2.0
"""A captured ingress and a captured egress try everything: refused, alarmed, and nobody else notices.

The captured program is tests/attack/evil_*.c in the place of the real one, in the same sandbox, with the same links.
"""
import base64
import os
import signal
import struct
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from puppet import (DONE, GONE, LATE, TOP, Gone, Hands, Ingress, body, capture, counted, datagram,  # noqa: E402
                    event_of, forward_payload, frame, frames, key_blob, open_payload, release, secret_of, ssh_string, totp)
sys.path.insert(0, TOP + "/tests/support")
from sp import Instance, main, read_until, wait_for  # noqa: E402

POLICY = """
permit "elevation" who group sysadmins on tag core as admin, legacy require approval 1 of approvers, mfa totp for 1h
permit "free" who group operators on tag core as admin, legacy require mfa totp for 1h
permit "exec-only" who group runners on tag core as admin require mfa totp for 1h allow exec
"""
# System calls that a captured process would like; x86-64.
CALLS = {"socket": (41, 2, 1, 0), "connect": (42, 0, 0, 16), "openat": (257, -100, 0, 0), "open": (2, 0, 0, 0),
         "execve": (59, 0, 0, 0), "ptrace": (101, 16, 1, 0), "process_vm_readv": (310, 1, 0, 1, 0, 1, 0),
         "process_vm_writev": (311, 1, 0, 1, 0, 1, 0), "kill": (62, 1, 0), "fork": (57,), "clone": (56, 17), "bind": (49, 0, 0, 16),
         "accept": (43, 0, 0, 0), "pidfd_open": (434, 1, 0), "io_uring_setup": (425, 1, 0), "bpf": (321, 0, 0, 0),
         "mount": (165, 0, 0, 0), "setuid": (105, 0), "unlink": (87, 0), "memfd_create": (319, 0, 0), "keyctl": (250, 0),
         "userfaultfd": (323, 0), "perf_event_open": (298, 0, 0, 0, 0, 0), "prctl": (157, 4, 1), "chmod": (90, 0, 511)}


def setUpModule():
    global sp
    sp = Instance(policy=POLICY)
    sp.add_person("oscar", "operators")
    sp.add_person("rita", "runners")


def tearDownModule():
    sp.close()


def rss_kb(role):
    parents, children = sp.pids(role)
    total = 0
    for pid in parents + children:
        with open("/proc/%d/status" % pid) as f:
            total += sum(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
    return total


def others_are_well():
    """Whatever was tried, the host can still ask."""
    assert sp.host("sessions", "--json").code == 0


class CapturedIngress(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        capture(sp, "ingress")

    @classmethod
    def tearDownClass(cls):
        release(sp, "ingress")

    def ingress(self):
        p = Ingress(sp)
        self.addCleanup(p.close)
        return p

    def logged_in(self, who="oscar", login=None):
        return self.ingress().login(who, login)

    def dropped(self, p, what=None, event="peer_broke_protocol"):
        port = p.sock.getsockname()[1]
        self.assertTrue(p.is_dropped(2), "the broker still speaks with it")
        return event_of(sp, event, port=port, **({"what": what} if what else {}))

    # ------------------------------------------------------ before it is logged in
    def test_a_claimed_key_alone_opens_nothing(self):
        p = self.ingress()
        self.assertEqual(p.key("alice"), 1)
        p.send(2, "chan_open", ctx=0, chan=1, open=open_payload(2, b"targets"))
        self.dropped(p, "chan_open")

    def test_a_claimed_key_and_wrong_codes(self):
        p = self.ingress()
        p.begin("alice")
        good = totp(secret_of(sp, "alice"))
        self.assertNotEqual(p.answer("%06d" % ((int(good) + 1) % 1000000)), 4)
        event_of(sp, "login_code_refused", port=p.sock.getsockname()[1])

    def test_second_factor_before_the_key(self):
        p = self.ingress()
        p.send(2, "mfa_begin", login="alice")
        self.dropped(p, "mfa_begin")

    def test_second_factor_after_an_unsigned_key(self):
        p = self.ingress()
        self.assertEqual(p.key("alice", signed=0), 1)
        p.send(2, "mfa_begin", login="alice")
        self.dropped(p, "mfa_begin")

    def test_answer_without_a_question(self):
        p = self.ingress()
        self.assertEqual(p.key("alice"), 1)
        p.send(2, "dialog_answer", dialog=0, text="123456")
        self.dropped(p, "nobody asked")

    def test_everything_before_authed(self):
        for name, values in (("chan_open", {"ctx": 0, "chan": 1, "open": open_payload(1)}),
                             ("target_open", {"id": 1, "host": "core-01", "port": 22}),
                             ("target_login", {"id": 1, "login": "admin", "method": 1}), ("target_close", {"id": 1})):
            for keyed in (False, True):
                with self.subTest(name=name, keyed=keyed):
                    p = self.ingress()
                    if keyed:
                        self.assertEqual(p.key("oscar"), 1)
                    p.send(2, name, **values)
                    self.dropped(p, name)

    def test_another_login_name_after_the_key(self):
        p = self.ingress()
        self.assertEqual(p.key("oscar"), 1)
        p.send(2, "mfa_begin", login="alice")
        self.dropped(p, "second login name")
        p = self.ingress()
        self.assertEqual(p.key("oscar"), 1)
        p.send(2, "auth_key", login="alice", algo="ssh-ed25519", blob=key_blob(sp, "alice"), is_signed=1)
        self.dropped(p, "second login name")
        p = self.ingress()
        self.assertEqual(p.key("oscar"), 1)
        p.send(2, "mfa_begin", login="oscar+admin+core-01")
        self.dropped(p, "second login name")

    def test_another_persons_key(self):
        p = self.ingress()
        self.assertEqual(p.key("alice", blob=key_blob(sp, "bob")), 0)
        self.assertEqual(p.key("nobody-here", blob=key_blob(sp, "bob")), 0)

    def test_two_questions_at_once_count_as_tries(self):
        p = self.ingress()
        p.begin("bob")
        for _ in range(12):
            p.send(2, "mfa_begin", login="bob")
        self.dropped(p, "too many conversations")

    # -------------------------------------------------------- the bastion's host key
    def test_the_host_key_signs_key_exchanges_only(self):
        p = self.ingress()
        blob = base64.b64decode(open(sp.dir + "/keys/ssh_host_ed25519_key.pub").read().split()[1])
        login = ssh_string(os.urandom(32)) + b"\x32" + ssh_string("admin") + ssh_string("ssh-connection") + ssh_string("publickey")
        kexinit = b"\x14" + bytes(79)
        head = ssh_string("SSH-2.0-x") + ssh_string("SSH-2.0-Sallyport") + ssh_string(kexinit) * 2
        tail = ssh_string(os.urandom(32)) * 2 + ssh_string(os.urandom(32))
        other = blob[:-1] + bytes([blob[-1] ^ 1])
        for what in (b"", os.urandom(32), os.urandom(64), b"SSHSIG" + ssh_string("file") + ssh_string("") * 2, login,
                     head + ssh_string(other) + tail, head + ssh_string(blob) + tail + b"x"):
            p.send(3, "host_sign", sha512=1, exchange=what)
            _, f, _ = p.until(3, "host_sign_r", 60000)
            self.assertEqual((f["ok"], f["signature"]), (0, bytes(64)), what)
        p.send(3, "host_sign", sha512=1, exchange=head + ssh_string(blob) + tail)
        self.assertEqual(p.until(3, "host_sign_r", 60000)[1]["ok"], 1)
        p.send(3, "v_status")          # the broker's
        self.assertTrue(p.is_dropped(3))
        event_of(sp, "ingress_protocol")
        others_are_well()

    # ------------------------------------------------------------- broken messages
    def test_bodies(self):
        good = body("auth_key", login="alice", algo="ssh-ed25519", blob=b"x", is_signed=0)
        cases = {
            "trailing": datagram("auth_key", good + b"\0"), "truncated": datagram("auth_key", good[:-1]),
            "empty": datagram("auth_key", b""), "field over its cap": datagram("auth_key", body("auth_key", login="a" * 256)),
            "length of a field beyond the body": datagram("auth_key", struct.pack("<I", 0xFFFFFFFF) + b"alice"),
            "not UTF-8": datagram("auth_key", body("auth_key", login=b"\xff\xfe")),
            "NUL in a text": datagram("auth_key", body("auth_key", login=b"ali\0ce")),
            "length too long": datagram("auth_key", good, length=len(good) + 1),
            "length too short": datagram("auth_key", good, length=len(good) - 1),
            "no header": b"\x40", "nothing known": datagram(0x7777, b""), "type 0": datagram(0, b""),
            "larger than any": datagram("auth_key", good + bytes(70000)),
            "a blob over its cap": datagram("auth_key", body("auth_key", login="alice", blob=bytes(4097))),
        }
        for name, packet in cases.items():
            with self.subTest(name=name):
                p = self.ingress()
                p.raw(2, packet)
                self.dropped(p)

    def test_numbers_of_descriptors(self):
        for n in (1, 2, 6, 16, 30):
            for claimed in {0, n}:
                with self.subTest(n=n, claimed=claimed):
                    p = self.ingress()
                    p.raw(2, datagram("auth_key", body("auth_key", login="alice"), claimed), n)
                    self.dropped(p)
        p = self.ingress()
        p.raw(2, datagram("auth_key", body("auth_key", login="alice"), 3), 0)
        self.dropped(p, "wrong number of descriptors")
        broker = sp.pids("broker")[0][0]
        wait_for(lambda: len(os.listdir("/proc/%d/fd" % broker)) < 60, 10, "descriptors of the broker to be closed")

    def test_messages_of_every_other_role(self):
        mine = {"auth_key", "mfa_begin", "dialog_answer", "auth_refused", "target_open", "target_login", "target_close",
                "chan_open", "policy_refusal", "conn_peer"}
        from puppet import TABLE
        names = sorted(set(TABLE) - mine)
        self.assertGreater(len(names), 80)
        pending = []
        for name in names:
            p = self.ingress()
            p.raw(2, datagram(name, body(name)))
            pending.append((name, p))
            if len(pending) < 8 and name != names[-1]:
                continue
            for n, q in pending:
                self.assertTrue(q.is_dropped(2), n)
                q.close()
            pending = []
        def missing():
            seen = {e["detail"].get("what", "") for e in sp.audit("peer_broke_protocol", 2000)}
            return [name for name in names if not any(" %s " % name in what for what in seen)]
        wait_for(lambda: not missing(), 30, "the event of each")

    def test_floods_are_bounded(self):
        before = rss_kb("broker")
        p = self.ingress()
        p.flood(2, 20000, datagram("auth_key", body("auth_key", login="alice", algo="x", blob=bytes(4000), is_signed=0)))
        others_are_well()
        p.close()
        p = self.logged_in()
        broker = sp.pids("broker")[0][0]
        p.flood(2, 20000, datagram("chan_open", body("chan_open", ctx=0, chan=1, open=open_payload(2, b"help " + b"x" * 9000))))
        others_are_well()
        self.assertLess(len(os.listdir("/proc/%d/fd" % broker)), 300)   # verbs whose output nobody takes
        p.close()
        p = self.logged_in()
        p.flood(2, 20000, datagram("policy_refusal", body("policy_refusal", what="agent", detail="x" * 500)))
        self.dropped(p, "too many refusals")
        p = self.logged_in()
        p.flood(2, 20000, datagram("target_open", body("target_open", id=1, host="core-01", port=22)))
        self.dropped(p)
        self.assertLess(rss_kb("broker"), before + 64 * 1024)

    # ---------------------------------------------------------- after it is logged in
    def test_dialog_of_another_conversation(self):
        p = self.logged_in()
        p.send(2, "dialog_answer", dialog=0, text="approve")
        self.dropped(p, "nobody asked")
        p = self.logged_in()
        p.send(2, "dialog_answer", dialog=77, text="approve")     # a conversation that is none: ignored
        self.assertIsNotNone(p.chan(0, 1, command=b"whoami"))
        p.send(2, "target_open", id=5, host="core-01", port=22)
        self.assertEqual(p.until(2, "target_open_result")[1]["ok"], 1)
        p.send(2, "dialog_answer", dialog=5, text="yes")
        self.dropped(p, "nobody asked")

    def test_unknown_context_and_unfinished_login(self):
        p = self.logged_in()
        p.send(2, "chan_open", ctx=9, chan=1, open=open_payload(1))
        self.dropped(p, "before its login")
        p = self.logged_in()
        p.send(2, "target_open", id=1, host="core-01", port=22)
        self.assertEqual(p.until(2, "target_open_result")[1]["ok"], 1)
        p.send(2, "chan_open", ctx=1, chan=1, open=open_payload(1))
        self.dropped(p, "before its login")
        p = self.logged_in()
        p.send(2, "target_login", id=4, login="admin", method=1)
        self.dropped(p, "out of turn")
        p = self.logged_in()
        p.send(2, "target_open", id=0, host="core-01", port=22)
        self.dropped(p, "number that is taken")
        p = self.logged_in()
        p.send(2, "target_open", id=1, host="core-01", port=22)
        p.until(2, "target_open_result")
        p.send(2, "target_login", id=1, login="admin", method=9)
        self.dropped(p, "unknown login method")

    def test_a_second_login_of_the_same_connection(self):
        p = self.logged_in()
        p.send(2, "auth_key", login="alice", algo="ssh-ed25519", blob=key_blob(sp, "alice"), is_signed=1)
        self.dropped(p, "not allowed now")
        p = self.logged_in()
        p.send(2, "mfa_begin", login="alice")
        self.dropped(p, "not allowed now")

    def open_target(self, p, number, account="admin"):
        p.send(2, "target_open", id=number, host="core-01", port=22)
        self.assertEqual(p.until(2, "target_open_result")[1]["ok"], 1)
        p.send(2, "target_login", id=number, login=account, method=1)
        return p.until(2, "target_login_result")[1]["verdict"]

    def test_an_owed_approval_cannot_be_skipped(self):
        p = self.logged_in("alice")
        self.assertEqual(self.open_target(p, 1), 2)
        # her own key on the inner login is no approval either
        p.send(2, "target_login", id=1, login="admin", method=2, algo="ssh-ed25519", blob=key_blob(sp, "alice"), is_signed=1)
        p.until(2, "target_login_result")
        before = len(sp.sessions())
        got = p.chan(1, 1, command=b"id")
        self.assertEqual((got[0], got[1]["exit_code"]), ("chan_refused", 75), got)
        self.assertEqual(len(sp.sessions()), before)

    def test_another_persons_key_on_the_inner_login(self):
        p = self.logged_in()
        p.send(2, "target_open", id=1, host="core-01", port=22)
        p.until(2, "target_open_result")
        p.send(2, "target_login", id=1, login="admin", method=2, algo="ssh-ed25519", blob=key_blob(sp, "alice"), is_signed=1)
        self.assertEqual(p.until(2, "target_login_result")[1]["verdict"], 0)

    def test_other_targets_and_accounts(self):
        p = self.logged_in("rita")
        for host in ("127.0.0.1", "no-such-target", "core-01\n", "x" * 255, "ｃore-01"):
            p.send(2, "target_open", id=1, host=host, port=22)
            self.assertEqual(p.until(2, "target_open_result")[1]["ok"], 0, host)
        self.open_target(p, 2, "legacy")
        got = p.chan(2, 1, command=b"id")
        self.assertEqual((got[0], got[1]["exit_code"]), ("chan_refused", 1), got)
        event_of(sp, "session_refused", port=p.sock.getsockname()[1], account="legacy")

    def session(self, p, number=1, kind=2, command=b"cat"):
        """A running channel at the target; the slot of its stream and the session's id."""
        known = {s["id"] for s in sp.sessions()}
        self.assertEqual(self.open_target(p, number), 1)
        got = p.chan(number, 1, kind, command)
        self.assertEqual((got[0], got[1]["shared"]), ("chan_stream", 1), got)
        slot = got[2][0]
        p.write(slot, frame("OPEN", 1, open_payload(kind, command)))
        new = [s["id"] for s in sp.sessions() if s["id"] not in known]
        self.assertEqual(len(new), 1)
        return slot, new[0]

    def test_frames_that_break_the_rules_end_the_session(self):
        big = bytes(65536)
        cases = {
            "data beyond its credit": frame("DATA", 1, big) * 256,
            "a channel that is none": frame("DATA", 7, b"x"), "channel 0": frame("DATA", 0, b"x"),
            "END of the user": frame("END", 0, b"\0" + counted("bye")), "NOTICE of the user": frame("NOTICE", 1, counted("hello")),
            "OPEN_OK of the user": frame("OPEN_OK", 1), "EXIT_STATUS of the user": frame("EXIT_STATUS", 1, bytes(4)),
            "HANDOVER of the user": frame("HANDOVER", 1), "the same channel again": frame("OPEN", 1, open_payload(2, b"id")),
            "an OPEN that is none": frame("OPEN", 2, b"\x01"), "an unknown frame": frame(99, 1), "too large": frame("DATA", 1, bytes(65537)),
            "too much credit": frame("CREDIT", 1, b"\xff\xff\xff\xff") * 9, "broken CREDIT": frame("CREDIT", 1, b"\1"),
            "broken WINDOW": frame("WINDOW", 1, b"\1"), "after EOF": frame("EOF", 1) + frame("DATA", 1, b"x"),
            "a REVERSE of the user": frame("OPEN", 2, forward_payload(5, listen=1)), "LISTEN_OK of the user": frame("LISTEN_OK", 1, bytes(4)),
            "a LISTEN that is none": frame("LISTEN", 2, b"\1"), "no such listener": frame("UNLISTEN", 9),
            "a channel's number listens": frame("LISTEN", 1, counted("localhost") + bytes(4)),
            "bit 31 of the user": frame("OPEN", 0x80000001, open_payload(2, b"id")),
        }
        p = self.logged_in()
        number = 0
        for name, data in cases.items():
            with self.subTest(name=name):
                number += 1
                # `sleep` reads nothing: what is sent stays within what was granted, or is too much
                slot, session = self.session(p, number, command=b"sleep 60")
                p.write(slot, data)
                seen = frames(p.read_all(slot))
                self.assertIn("END", [f[0] for f in seen], seen[-3:])
                end = [f for f in seen if f[0] == "END"][0]
                self.assertEqual(end[2][0], 5, end)         # SP_END_PROTOCOL
                event_of(sp, "peer_broke_protocol", session=session, what="protocol_broken")
                p.call(7, bytes([slot]))
                p.send(2, "target_close", id=number)
        others_are_well()

    def until_frames(self, p, slot, want):
        got, seen = b"", []
        while not want(seen):
            status, d = p.read(slot)
            self.assertEqual(status, DONE, seen[-5:])
            got += d
            seen = frames(got)
        return seen

    def test_floods_of_channels_and_forwards_are_refused(self):
        p = self.logged_in()
        slot, session = self.session(p, 1, command=b"cat")
        p.write(slot, b"".join(frame("OPEN", n, open_payload(2, b"cat")) for n in range(2, 80)))
        def fails(seen):
            return [f for f in seen if f[0] == "OPEN_FAIL"]
        seen = self.until_frames(p, slot, lambda seen: len(fails(seen)) >= 15)
        self.assertTrue(all(b"too many channels" in f[2] or b"refused" in f[2] for f in fails(seen)), fails(seen))
        # What no rule names: a place, a listener; hundreds of them.
        p.write(slot, b"".join(frame("OPEN", n, forward_payload(4, port=n)) + frame("CLOSE", n) for n in range(100, 400)) +
                frame("LISTEN", 400, counted("0.0.0.0") + struct.pack("<I", 80)))
        self.until_frames(p, slot, lambda seen: "LISTEN_FAIL" in [f[0] for f in seen] and len(fails(seen)) >= 250)
        event_of(sp, "session_event", session=session, what="listener_refused")
        p.write(slot, frame("DATA", 1, b"still here"))
        self.until_frames(p, slot, lambda seen: [f for f in seen if f[0] == "DATA" and f[1] == 1 and b"still here" in f[2]])
        others_are_well()

    def test_an_address_that_no_proxy_announced(self):
        p = self.ingress()
        p.send(2, "conn_peer", peer_addr="192.0.2.1", peer_port=1)
        self.dropped(p)

    def test_a_right_that_is_not_granted(self):
        p = self.logged_in("rita")
        slot, session = self.session(p, 1, command=b"echo in; sleep 60")
        got = b""
        while b"in\n" not in got:
            status, d = p.read(slot)
            self.assertEqual(status, DONE)
            got += d
        p.write(slot, frame("OPEN", 2, open_payload(1)) + frame("OPEN", 3, open_payload(3, b"sftp")))
        seen = []
        while len([f for f in seen if f[0] == "OPEN_FAIL"]) < 2:
            status, d = p.read(slot)
            self.assertEqual(status, DONE, seen)
            seen += frames(d)
        self.assertEqual({f[1] for f in seen if f[0] == "OPEN_FAIL"}, {2, 3})
        event_of(sp, "session_event", session=session, what="channel_refused")
        self.assertNotIn("sftp", subprocess.run(["pgrep", "-fa", "internal-sftp"], stdout=subprocess.PIPE).stdout.decode())

    def test_the_stream_of_a_verb(self):
        p = self.logged_in()
        for data in (frame("END", 0, b"\0" + counted("x")), frame("OPEN", 1, open_payload(2, b"whoami")) * 2,
                     frame("DATA", 9, b"y"), frame(77, 1), b"\xff" * 64):
            got = p.chan(0, 1, command=b"audit --follow")
            if got[0] == "chan_refused":
                got = p.chan(0, 1, command=b"menu")
            if got[0] == "chan_stream":
                p.write(got[2][0], data)
                p.call(7, bytes([got[2][0]]))
        others_are_well()

    # -------------------------------------------------------------- system calls
    def test_raw_system_calls(self):
        for name, call in CALLS.items():
            with self.subTest(name=name):
                p = self.ingress()
                port = p.sock.getsockname()[1]
                try:
                    result, err = p.syscall(*call)
                    self.fail("%s returned %d, errno %d" % (name, result, err))
                except Gone:
                    pass
                died = [e for e in wait_for(lambda: sp.audit("ingress_died"), 10, "ingress_died")]
                self.assertTrue(all(e["detail"]["signal"] == signal.SIGSYS for e in died), died[-1])
                del port
        wait_for(lambda: len(sp.audit("ingress_died")) >= len(CALLS), 15, "an event for each")
        p = self.ingress()
        self.assertEqual(p.key("alice", signed=0), 1)           # the next connection is served


class CapturedEgress(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        sp.ssh("oscar", "bastion", "whoami")                    # the shared connection of what follows
        capture(sp, "egress")
        cls.hands = Hands(sp)
        sp.end_mux("oscar")
        sp.fresh_code("oscar")
        r = sp.ssh("oscar", "bastion", "whoami")
        assert r.code == 0, r

    @classmethod
    def tearDownClass(cls):
        cls.hands.close()
        sp.end_mux("oscar")
        release(sp, "egress")

    def egress(self, account="admin", command="cat"):
        self.user = sp.ssh_start("oscar", account + "@core-01", command, stdin=subprocess.PIPE)
        g = self.hands.next()
        self.addCleanup(self.done, self.user, g)
        return g

    def done(self, user, g):
        g.close()
        if user.poll() is None:
            user.kill()
        user.communicate()

    def uuid(self, raw):
        h = raw.hex()
        return "-".join((h[:8], h[8:12], h[12:16], h[16:20], h[20:]))

    def alarmed(self, g, event, **detail):
        return event_of(sp, event, session=self.uuid(g.sid), **detail)

    def target_log(self):
        with open(sp.dir + "/target/sshd.log", errors="replace") as f:
            return f.read()

    # ------------------------------------------------------------------ the vault
    def test_the_puppet_can_work(self):
        """What follows is refused for what it is, and not for being a puppet."""
        g = self.egress(command="echo hello")
        self.assertTrue(g.login())
        status, d = g.read(g.REC)
        self.assertEqual(frames(d)[0][0], "OPEN")
        g.write(g.REC, frame("OPEN_OK", 1) + frame("DATA", 1, b"fine\n", 1) + frame("EXIT_STATUS", 1, struct.pack("<I", 7)) +
                frame("EOF", 1) + frame("CLOSE", 1))
        out, err = self.user.communicate(timeout=20)
        self.assertEqual((self.user.returncode, out), (7, b"fine\n"), err)

    def test_a_signature_before_the_host_is_proved(self):
        g = self.egress()
        g.kex()
        self.assertIsNone(g.identity())
        self.alarmed(g, "credential_before_host_proof")

    def test_another_hosts_key(self):
        g = self.egress()
        g.kex()
        other = subprocess.run("f=$(mktemp -u); ssh-keygen -q -t ed25519 -N '' -f $f; cut -d' ' -f2 $f.pub; rm -f $f $f.pub",
                               shell=True, stdout=subprocess.PIPE).stdout
        import base64
        self.assertFalse(g.prove(key=base64.b64decode(other)))      # with the real signature
        self.alarmed(g, "host_key_not_pinned")
        self.assertIsNone(g.identity())

    def test_the_hosts_signature_of_another_exchange(self):
        g = self.egress()
        g.kex()
        forged = g.host_sig[:-1] + bytes([g.host_sig[-1] ^ 1])
        self.assertTrue(g.prove(sig=forged))            # judged when it is used
        self.assertFalse(g.sign(g.identity()))
        self.alarmed(g, "signature_for_other_session")

    def test_one_signature_and_no_second(self):
        g = self.egress()
        g.kex()
        self.assertTrue(g.prove())
        blob = g.identity()
        self.assertTrue(g.sign(blob))
        self.assertFalse(g.sign(blob))
        self.alarmed(g, "second_use_of_lease")

    def test_signatures_for_something_else(self):
        other = os.urandom(32)
        for event, kw in (("signature_for_other_session", {"sid": other}), ("signature_for_other_user", {"user": "root"}),
                          ("signature_for_other_service", {"service": "ssh-userauth"}),
                          ("signature_over_other_data", {"data": b"please sign this"}), ("signature_over_other_data", {"data": b""})):
            with self.subTest(event=event):
                g = self.egress()
                g.kex()
                self.assertTrue(g.prove())
                self.assertFalse(g.sign(g.identity(), **kw))
                self.alarmed(g, event)
                self.assertFalse(g.sign(g.identity() or bytes(51)))

    def test_signature_with_another_key(self):
        g = self.egress()
        g.kex()
        self.assertTrue(g.prove())
        blob = g.identity()
        self.assertFalse(g.sign(ssh_string("ssh-ed25519") + ssh_string(os.urandom(32)) + blob[:0]))
        self.alarmed(g, "signature_with_other_key")

    def test_a_password_for_a_certificate(self):
        g = self.egress()
        g.kex()
        self.assertTrue(g.prove())
        g.send(g.VAULT, "take_password", session_id=g.ssh_id)
        self.assertIsNone(g.until(g.VAULT, "password", 4000))
        self.alarmed(g, "credential_not_granted")

    def test_a_signature_for_a_password_and_the_password_twice(self):
        g = self.egress("legacy")
        g.kex()
        self.assertTrue(g.prove())
        self.assertIsNone(g.identity())
        self.alarmed(g, "credential_not_granted")
        g = self.egress("legacy")
        g.kex()
        self.assertTrue(g.prove())
        g.send(g.VAULT, "take_password", session_id=os.urandom(32))
        self.assertIsNone(g.until(g.VAULT, "password", 4000))
        self.sid = g.sid
        wait_for(lambda: [e for e in sp.audit() if e["session"] == self.uuid(g.sid) and "other_session" in e["event"]], 10,
                 "an event about another session")
        g = self.egress("legacy")
        g.kex()
        self.assertTrue(g.prove())
        g.send(g.VAULT, "take_password", session_id=g.ssh_id)
        self.assertIsNotNone(g.until(g.VAULT, "password", 4000))
        g.send(g.VAULT, "take_password", session_id=g.ssh_id)
        self.assertIsNone(g.until(g.VAULT, "password", 4000))

    def test_the_vault_after_the_login(self):
        for name, values in (("host_proof", {"host_key": b"x", "signature": b"y"}), ("take_password", {"session_id": bytes(32)}),
                             ("v_lease", {}), ("v_row_seal", {}), ("vc_secret_new", {}), ("play_keys", {}), ("v_totp_check", {})):
            with self.subTest(name=name):
                g = self.egress()
                self.assertTrue(g.login())
                g.send(g.VAULT, name, **values)
                for answer in ("password", "host_proof_r", "v_lease_r", "v_row_seal_r", "vc_secret_new_r", "play_keys_r"):
                    got = g.recv(g.VAULT, 200)
                    if got in (GONE, LATE):
                        continue
                    self.assertFalse(got[0] == answer and (got[1].get("ok") == 1 or got[2]), got)
                wait_for(lambda: [e for e in sp.audit() if e["session"] == self.uuid(g.sid) and
                                  e["detail"].get("from") == "vault"], 10, "an event of the vault")
        g = self.egress()
        self.assertTrue(g.login())
        self.assertIsNone(g.identity())

    # ----------------------------------------------------------------- the broker
    def test_connections_that_nobody_listens_for(self):
        """Each is refused and told; the session goes on, and numbers that were used end it."""
        first = 0x80000001
        g = self.egress(command="echo hello")
        self.assertTrue(g.login())
        self.assertEqual(frames(g.read(g.REC)[1])[0][0], "OPEN")
        g.write(g.REC, frame("OPEN_OK", 1) + b"".join(frame("OPEN", first + n, forward_payload(5, listen=n + 1)) for n in range(300)))
        got, seen = b"", []
        while len([f for f in seen if f[0] == "OPEN_FAIL"]) < 300:
            status, d = g.read(g.REC)
            self.assertEqual(status, DONE, seen[-3:])
            got += d
            seen = frames(got)
        self.assertTrue(all(b"nobody listens there" in f[2] or b"too many" in f[2] for f in seen if f[0] == "OPEN_FAIL"))
        self.alarmed(g, "session_event", what="channel_refused")
        g.write(g.REC, frame("DATA", 1, b"goes on\n", 1))
        self.assertIn(b"goes on", read_until(self.user.stdout, rb"goes on", 60))
        g.write(g.REC, frame("OPEN", first, forward_payload(5, listen=1)))
        self.alarmed(g, "peer_broke_protocol", what="protocol_broken")

    def test_listeners_and_forwards_of_the_targets_side(self):
        for name, data in (("LISTEN", frame("LISTEN", 2, counted("x") + bytes(4))), ("LISTEN_OK", frame("LISTEN_OK", 2, b"\x50\0\0\0")),
                           ("UNLISTEN", frame("UNLISTEN", 2)), ("FORWARD", frame("OPEN", 0x80000001, forward_payload(4))),
                           ("a shell", frame("OPEN", 0x80000001, open_payload(1))),
                           ("without bit 31", frame("OPEN", 5, forward_payload(5, listen=1)))):
            with self.subTest(name=name):
                g = self.egress(command="echo hello")
                self.assertTrue(g.login())
                g.write(g.REC, data)
                self.alarmed(g, "peer_broke_protocol", what="protocol_broken")

    def test_what_an_egress_may_not_say(self):
        for name, values in (("egr_ready", {}), ("rec_closed", {}), ("chan_open", {}), ("auth_key", {"login": "alice"}),
                             ("v_lease_used", {}), ("session_spawned", {}), ("egr_scanned", {}), ("egr_start", {}),
                             ("pam_result", {}), ("stop", {}), ("egr_failed", {"session": bytes(16)})):
            with self.subTest(name=name):
                g = self.egress()
                self.assertTrue(g.login())
                if name == "egr_ready":
                    values = {"session": g.sid}                     # a second time
                g.send(g.BROKER, name, **values)
                self.alarmed(g, "peer_broke_protocol", peer="egress")
                self.user.communicate(timeout=20)
                self.assertNotEqual(self.user.returncode, 0)

    def test_ready_for_another_session(self):
        g = self.egress()
        g.kex()
        g.send(g.BROKER, "egr_ready", session=os.urandom(16))
        self.alarmed(g, "peer_broke_protocol", peer="egress")
        g = self.egress()
        self.assertTrue(g.login())
        g.raw(g.BROKER, datagram("egr_failed", body("egr_failed", session=g.sid, code=1, text="x") + b"trailing"))
        self.alarmed(g, "peer_broke_protocol", peer="egress")

    # --------------------------------------------------------------- the recorder
    def test_frames_that_are_not_the_targets(self):
        big = bytes(65536)
        ok = frame("OPEN_OK", 1)
        cases = {
            "an OPEN": ok + frame("OPEN", 2, open_payload(2, b"id")), "a WINDOW": ok + frame("WINDOW", 1, bytes(16)),
            "a SIGNAL": ok + frame("SIGNAL", 1, counted("TERM")), "a NOTICE": ok + frame("NOTICE", 1, counted("I am the bastion")),
            "an END": ok + frame("END", 0, b"\0" + counted("bye")), "a HANDOVER": ok + frame("HANDOVER", 1),
            "data beyond its credit": ok + frame("DATA", 1, big, 1) * 256,
            "data before OPEN_OK": frame("DATA", 1, b"x", 1), "a second OPEN_OK": ok + ok, "another channel": frame("OPEN_OK", 9),
            "data on channel 0": ok + frame("DATA", 0, b"x", 1), "an unknown frame": ok + frame(99, 1), "a lane that is none":
            ok + frame("DATA", 1, b"x", 9), "too large": ok + frame("DATA", 1, bytes(65537), 1), "after EOF":
            ok + frame("EOF", 1) + frame("DATA", 1, b"x", 1), "two ends": ok + frame("EXIT_STATUS", 1, b"\3\0\0\0") * 2,
            "credit without end": ok + frame("CREDIT", 1, b"\xff\xff\xff\xff") * 9,
        }
        for name, data in cases.items():
            with self.subTest(name=name):
                g = self.egress()
                self.assertTrue(g.login())
                status, d = g.read(g.REC)
                self.assertEqual(frames(d)[0][0], "OPEN")
                # Who does not read grants nothing more.
                self.user.send_signal(signal.SIGSTOP)
                g.write(g.REC, data)
                self.alarmed(g, "peer_broke_protocol", what="protocol_broken")
                self.user.send_signal(signal.SIGCONT)
                out, err = self.user.communicate(timeout=20)
                self.assertNotEqual(self.user.returncode, 0)
                self.assertNotIn(b"I am the bastion", out + err)

    # ---------------------------------------------------------------- system calls
    def test_raw_system_calls(self):
        for name, call in CALLS.items():
            with self.subTest(name=name):
                g = self.egress()
                g.sid = g.session()
                try:
                    result, err = g.syscall(*call)
                    self.fail("%s returned %d, errno %d" % (name, result, err))
                except Gone:
                    pass
                died = self.alarmed(g, "leg_died")
                self.assertEqual(died["detail"]["signal"], signal.SIGSYS)


if __name__ == "__main__":
    main()
