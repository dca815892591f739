# SPDX-License-Identifier: Apache-2.0
"""A captured broker against the real vault process: a secret with a release rule is not to be had by any of its words.

It keeps every row that ever was, so it can roll back; it has its own idea of who asks; it may hold an approver's key. Signatures
are made by stock ssh-keygen, those of security keys with a provider of software (tests/support/sk_provider.c).
"""
import os
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from sp import main, wait_for  # noqa: E402
import vault_rig  # noqa: E402
from vault_rig import REVEAL, Vault, blob_of, challenge_text, keygen, person_id, rule, sign  # noqa: E402


def setUpModule():
    global d, v, keys, provider
    d = tempfile.TemporaryDirectory(prefix="sp-evil-", dir="/var/tmp")
    subprocess.run(["make", "-s", "-C", vault_rig.BUILD, "tests/support/challenge_text"], check=True, stdout=subprocess.DEVNULL)
    provider = d.name + "/sk.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", provider, vault_rig.TOP + "/tests/support/sk_provider.c", "-lcrypto"], check=True)
    keys = {n: keygen(d.name, n) for n in ("alice", "bob", "dana", "eve", "mallory")}
    v = Vault()


def tearDownModule():
    v.close()
    d.cleanup()


def pair(*names):
    return [(n, blob_of(keys[n])) for n in names]


class Case(unittest.TestCase):
    def setUp(self):
        v.brk.events.clear()
        self.old = v.secret()
        self.s = v.set_rule(self.old, rule(self.old, pair("bob", "dana", "alice", "eve")))
        self.assertIsInstance(self.s, dict, self.s)

    def signed(self, c, *names, s=None, **more):
        text = challenge_text(c, (s or self.s)["rule"])
        return [sign(keys[n], text, **more) for n in names]

    def refused(self, why, *args, **more):
        got = v.lease(*args, **more)
        self.assertIsNotNone(got, "the vault gave the lease")
        self.assertIn(why, got)
        self.assertTrue(any(w in ("release_refused", "secret_row_broken") for w, _ in v.drain()), v.brk.events)


class AsItShould(Case):
    def test_two_sign_and_the_lease_is_given(self):
        c = v.challenge(self.s)
        self.assertIsInstance(c, bytes, c)
        sigs = self.signed(c, "bob", "dana")
        for name, sig in zip(("bob", "dana"), sigs):
            person, key = v.approval(self.s, c, sig)
            self.assertEqual(person, person_id(name))
            fp = subprocess.run(["ssh-keygen", "-l", "-f", keys[name] + ".pub"], stdout=subprocess.PIPE, check=True).stdout.decode()
            self.assertIn(key, fp)
        self.assertIsNone(v.lease(self.s, c, sigs))
        self.assertIsNone(v.lease(self.s, c, sigs), "a second session in the same window")

    def test_the_text_says_it_all(self):
        c = v.challenge(self.s, number=4711, reason="disk \x1b[31m full", seconds=1800)
        text = challenge_text(c, self.s["rule"]).decode()
        for want in ("4711", "alice", "legacy@core-01", "30m", "2 of bob, dana, alice, eve", "disk \\x1b[31m full"):
            self.assertIn(want, text)
        self.assertNotIn("\x1b", text)

    def test_every_kind_of_key_that_openssh_signs_with(self):
        sk = {"env": {"SSH_SK_PROVIDER": provider}}
        kinds = {"ed25519": {}, "ecdsa": {"bits": 256}, "ecdsa3": {"kind": "ecdsa", "bits": 384}, "ecdsa5": {"kind": "ecdsa", "bits": 521},
                 "rsa": {"bits": 2048}, "rsa4": {"kind": "rsa", "bits": 4096},
                 "ed25519-sk": {"extra": ("-w", provider)}, "ecdsa-sk": {"extra": ("-w", provider)}}
        paths = {n: keygen(d.name, "kind-" + n, **dict({"kind": n}, **k)) for n, k in kinds.items()}
        people = [(n, blob_of(p)) for n, p in paths.items()]
        s = v.set_rule(self.old_again(), rule(self.old, people, need=len(people)))
        self.assertIsInstance(s, dict, s)
        c = v.challenge(s)
        text = challenge_text(c, s["rule"])
        for algo in ("sha256", "sha512"):
            sigs = [sign(p, text, extra=("-O", "hashalg=" + algo), **(sk if "sk" in n else {})) for n, p in paths.items()]
            for name, sig in zip(paths, sigs):
                self.assertIsInstance(v.approval(s, c, sig), tuple, name)
            self.assertIsNone(v.lease(s, c, sigs))

    def old_again(self):
        """The secret of this test as it stood before the rule that setUp gave it."""
        self.old = v.secret()
        return self.old

    def test_a_secret_without_a_rule_needs_none(self):
        self.assertIsNone(v.lease(v.secret()))

    def test_after_a_restart_the_approvals_still_hold(self):
        c = v.challenge(self.s)
        sigs = self.signed(c, "bob", "dana")
        v.stop()
        v.start()
        self.assertIsNone(v.lease(self.s, c, sigs))


class Minting(Case):
    def test_no_signatures_at_all(self):
        self.refused("nobody has signed", self.s)
        self.refused("0", self.s, v.challenge(self.s))

    def test_too_few(self):
        c = v.challenge(self.s)
        sigs = self.signed(c, "bob")
        self.refused("2 people", self.s, c, sigs)
        self.refused("2 people", self.s, c, sigs * 2)
        self.refused("2 people", self.s, c, sigs + self.signed(c, "bob", extra=("-O", "hashalg=sha256")))

    def test_two_keys_of_one_person(self):
        mine = [("bob", blob_of(keys["bob"])), ("bob", blob_of(keys["mallory"])), ("dana", blob_of(keys["dana"]))]
        old = v.secret()
        s = v.set_rule(old, rule(old, mine))
        c = v.challenge(s)
        self.refused("2 people", s, c, self.signed(c, "bob", "mallory", s=s))
        self.assertIsNone(v.lease(s, c, self.signed(c, "mallory", "dana", s=s)))

    def test_the_requesters_own(self):
        c = v.challenge(self.s, who="alice")
        self.refused("own request", self.s, c, self.signed(c, "alice", "bob"))
        self.assertIn("own request", v.approval(self.s, c, self.signed(c, "alice")[0]))

    def test_a_key_that_the_rule_does_not_name(self):
        c = v.challenge(self.s)
        self.refused("does not name that key", self.s, c, self.signed(c, "bob", "mallory"))

    def test_replayed_for_another_request(self):
        c1, c2 = v.challenge(self.s, number=1), v.challenge(self.s, number=1)
        sigs = self.signed(c1, "bob", "dana")
        self.assertIsNone(v.lease(self.s, c1, sigs))
        self.refused("not a signature of this request", self.s, c2, sigs)

    def test_for_another_account_or_target_or_secret(self):
        c = v.challenge(self.s)
        sigs = self.signed(c, "bob", "dana")
        self.refused("something else", self.s, c, sigs, account="root")
        self.refused("something else", self.s, c, sigs, target="core-02")
        other = v.secret(target=self.s["owner"])
        other = v.set_rule(other, rule(other, pair("bob", "dana", "alice", "eve")))
        self.refused("release rule has changed", other, c, sigs)
        self.refused("does not open", dict(other, rule=self.s["rule"]), c, sigs)

    def test_a_longer_window(self):
        c = v.challenge(self.s, seconds=600)
        sigs = self.signed(c, "bob", "dana")
        self.refused("shorter than what is asked for", self.s, c, sigs, seconds=3600)
        self.assertIn("longer than", v.challenge(self.s, seconds=3601))
        grown = c.replace(struct.pack("<q", 600), struct.pack("<q", 60000), 1)
        self.assertNotEqual(grown, c)
        self.refused("not of this vault", self.s, grown, sigs)

    def test_when_the_window_is_over(self):
        c = v.challenge(self.s, seconds=1, life=0)
        sigs = self.signed(c, "bob", "dana")
        wait_for(lambda: "expired" in (v.lease(self.s, c, sigs, seconds=0.2) or ""), 60, "the end of the window")
        self.refused("expired", self.s, c, sigs)

    def test_challenges_of_ones_own_making(self):
        c = v.challenge(self.s)
        for at in range(0, len(c), 7):
            bad = c[:at] + bytes([c[at] ^ 1]) + c[at + 1:]
            self.refused("not of this vault", self.s, bad, [])
        self.refused("not of this vault", self.s, c + b"x", [])
        # The seal of a row that the broker may have of anything is no mac of a challenge.
        seal = v.brk.call("v_row_seal", "v_row_seal_r", table="vault challenge", id=bytes(16), version=1, canon=c[:-32])
        self.refused("not of this vault", self.s, c[:-32] + seal["mac"], [])

    def test_another_namespace(self):
        c = v.challenge(self.s)
        good = self.signed(c, "bob")
        self.refused("sign with -n approve@sallyport", self.s, c, good + self.signed(c, "dana", namespace="git"))
        self.refused("sign with -n approve@sallyport", self.s, c, good + self.signed(c, "dana", namespace="file"))

    def test_a_login_is_no_approval(self):
        """Bytes that a key signs to log in never begin with SSHSIG."""
        c = v.challenge(self.s)
        good = self.signed(c, "bob")
        bad = self.signed(c, "dana")[0]
        for cut in (b"", bad[:6], bad[:-1], bad + b"\0", b"SSHSIX" + bad[6:], bad[:9] + b"\2" + bad[10:]):
            self.refused("no SSH signature", self.s, c, good + [cut])
        self.refused("approvals are broken", self.s, c, [b"x" * 8193])

    def test_one_bad_signature_spoils_the_rest(self):
        c = v.challenge(self.s)
        sigs = self.signed(c, "bob", "dana", "eve")
        bad = bytearray(sigs[2])
        bad[-1] ^= 1
        self.refused("not a signature of this request", self.s, c, sigs[:2] + [bytes(bad)])


class Rules(Case):
    def test_another_rule(self):
        mine = rule(self.s, pair("mallory"), need=1)
        s = dict(self.s, rule=mine)
        c = v.challenge(s)
        self.assertIn("last release rule", c)
        self.refused("does not open", s)

    def test_no_rule(self):
        self.refused("does not open", dict(self.s, rule=b""))

    def test_the_secret_of_before_it_had_a_rule(self):
        self.refused("does not open", self.old)
        v.stop()
        v.start()
        self.refused("does not open", self.old)

    def test_a_rule_rolled_back(self):
        weak, strong = self.s, v.set_rule(self.s, rule(self.s, pair("bob", "dana", "eve"), need=3, version=2))
        self.assertIsInstance(strong, dict, strong)
        c = v.challenge(weak)
        self.assertIn("last release rule", c)
        self.refused("does not open", weak)
        for _ in range(2):
            c = v.challenge(strong)
            self.refused("3 people", strong, c, self.signed(c, "bob", "dana", s=strong))
            self.assertIsNone(v.lease(strong, c, self.signed(c, "bob", "dana", "eve", s=strong)))
            self.refused("does not open", weak)
            v.stop()
            v.start()

    def test_approvals_given_under_the_rule_of_before(self):
        c = v.challenge(self.s)
        sigs = self.signed(c, "bob", "dana")
        new = v.set_rule(self.s, rule(self.s, pair("bob", "dana", "eve"), version=2))
        self.refused("release rule has changed", new, c, sigs)
        self.refused("does not open", self.s, c, sigs)

    def test_a_rule_can_be_taken_away_by_the_administrator(self):
        free = v.set_rule(self.s, b"")
        self.assertIsInstance(free, dict, free)
        self.assertIsNone(v.lease(free))
        c = v.challenge(self.s)
        self.assertIn("last release rule", c)
        self.refused("does not open", self.s)

    def test_rules_that_are_none(self):
        s = v.secret()
        for why, bad in {
                "need more than there are": rule(s, pair("bob"), need=2), "nobody": rule(s, [], need=1), "need none": rule(s, pair("bob"), need=0),
                "the same key for two": rule(s, [("bob", blob_of(keys["bob"])), ("dana", blob_of(keys["bob"]))]),
                "of another secret": rule(s, pair("bob", "dana"), secret=os.urandom(16)), "too long": rule(s, pair("bob", "dana"), seconds=86401),
                "a name that is none": rule(s, [("Bob\n", blob_of(keys["bob"]))], need=1), "no key": rule(s, [("bob", b"\0\0\0\1x")], need=1),
                "touch by plain keys": rule(s, pair("bob", "dana"), touch=1), "rest": rule(s, pair("bob", "dana")) + b"\0",
                "not newer": rule(s, pair("bob", "dana"), version=0)}.items():
            with self.subTest(why=why):
                self.assertIsInstance(v.set_rule(s, bad), str)
        self.assertIsNone(v.lease(s), "what was refused has changed nothing")

    def test_the_broker_cannot_set_rules(self):
        for name in ("vc_rule_set", "vc_reveal", "vc_kit_begin", "vc_kit_add", "vc_kit_end"):
            rig = Vault()
            try:
                rig.brk.send(name)
                with self.assertRaises((EOFError, ConnectionError)):
                    while True:
                        rig.brk.recv()
            finally:
                rig.close()

    def test_a_table_of_rules_that_was_changed(self):
        rig = Vault()
        try:
            s = rig.secret()
            ruled = rig.set_rule(s, rule(s, pair("bob", "dana")))
            other = rig.secret()
            rig.stop()
            path = rig.vault + "/releases"
            with open(path, "r+b") as f:
                f.seek(20)
                f.write(b"\xff")
            rig.start()
            for x in (s, ruled, other):
                self.assertIn("does not open", rig.lease(x))
            self.assertIn("release_table_broken", [w for w, _ in rig.drain()])
        finally:
            rig.close()

    def test_a_record_that_was_cut_short(self):
        """Power went while it was written: it was never answered, so the rule of before holds."""
        rig = Vault()
        try:
            s = rig.secret()
            first = rig.set_rule(s, rule(s, pair("bob", "dana")))
            second = rig.set_rule(first, rule(s, pair("bob", "eve"), version=2))
            rig.stop()
            path = rig.vault + "/releases"
            os.truncate(path, os.path.getsize(path) - 1)
            rig.start()
            self.assertIn("does not open", rig.lease(second))
            c = rig.challenge(first)
            self.assertIsInstance(c, bytes)
            again = rig.set_rule(first, rule(s, pair("dana", "eve"), version=2))
            rig.stop()
            rig.start()
            self.assertIsInstance(rig.challenge(again), bytes)
            self.assertIn("does not open", rig.lease(first))
        finally:
            rig.close()


class SecurityKeys(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sk = {n: keygen(d.name, "sk-" + n, kind=k, extra=("-w", provider)) for n, k in
                  (("bob", "ed25519-sk"), ("dana", "ecdsa-sk"))}
        cls.people = [(n, blob_of(p)) for n, p in cls.sk.items()]

    def sign(self, name, text, flags=None):
        env = {"SSH_SK_PROVIDER": provider}
        if flags is not None:
            env["SK_TEST_FLAGS"] = str(flags)
        return sign(self.sk[name], text, env=env)

    def given(self, touch, more=()):
        s = v.secret()
        s = v.set_rule(s, rule(s, self.people + list(more), touch=touch))
        self.assertIsInstance(s, dict, s)
        c = v.challenge(s)
        return s, c, challenge_text(c, s["rule"])

    def test_touched(self):
        s, c, text = self.given(1)
        self.assertIn("touched", text.decode())
        self.assertIsNone(v.lease(s, c, [self.sign("bob", text), self.sign("dana", text)]))
        s, c, text = self.given(1)
        self.assertIsNone(v.lease(s, c, [self.sign("bob", text, 5), self.sign("dana", text, 5)]))

    def test_not_touched(self):
        for touch in (0, 1):
            for flags in (0, 4):
                s, c, text = self.given(touch)
                got = v.lease(s, c, [self.sign("bob", text), self.sign("dana", text, flags)])
                self.assertIn("not touched", got)
                self.assertIn("not touched", v.approval(s, c, self.sign("dana", text, flags)))

    def test_flags_and_counter_are_signed(self):
        s, c, text = self.given(1)
        good, bad = self.sign("bob", text), self.sign("dana", text, 0)
        forged = bad[:-5] + b"\1" + bad[-4:]
        self.assertIn("not a signature of this request", v.lease(s, c, [good, forged]))
        counted_up = self.sign("dana", text)
        counted_up = counted_up[:-1] + bytes([counted_up[-1] ^ 1])
        self.assertIn("not a signature of this request", v.lease(s, c, [good, counted_up]))

    def test_a_plain_key_where_touch_is_demanded(self):
        s, c, text = self.given(1, pair("eve"))
        got = v.lease(s, c, [self.sign("bob", text), sign(keys["eve"], text)])
        self.assertIn("wants a security key", got)


class Reveals(Case):
    def ready(self, s, c, sigs, request):
        return v.reveal(s, request, c, sigs)

    def show(self, request):
        return v.ctl.call("vc_reveal", "vc_reveal_r", request=request)

    def test_shown_once_on_the_host_alone(self):
        request = os.urandom(16)
        c = v.challenge(self.s, kind=REVEAL, request=request)
        self.assertIn("SHOW THE CREDENTIAL", challenge_text(c, self.s["rule"]).decode())
        sigs = self.signed(c, "bob", "dana")
        self.assertIsNone(v.reveal(self.s, request, c, sigs))
        got = self.show(request)
        self.assertEqual((got["err"], got["clear"], got["what"]), (0, b"canary-of-a-password", b"legacy@core-01"))
        self.assertNotEqual(self.show(request)["err"], 0)
        self.assertIn("shown already", v.reveal(self.s, request, c, sigs))
        self.assertIn("credential_shown", [w for w, _ in v.drain()])

    def test_a_session_is_no_reveal(self):
        request = os.urandom(16)
        c = v.challenge(self.s, request=request)
        sigs = self.signed(c, "bob", "dana")
        self.assertIn("something else", v.reveal(self.s, request, c, sigs))
        c = v.challenge(self.s, kind=REVEAL, request=request)
        sigs = self.signed(c, "bob", "dana")
        self.refused("something else", self.s, c, sigs)
        self.assertIn("something else", v.reveal(self.s, os.urandom(16), c, sigs))
        self.assertNotEqual(self.show(request)["err"], 0)

    def test_never_fewer_than_two(self):
        s = v.secret()
        s = v.set_rule(s, rule(s, pair("bob", "dana"), need=1))
        request = os.urandom(16)
        c = v.challenge(s, kind=REVEAL, request=request)
        self.assertIn("2 people", v.reveal(s, request, c, self.signed(c, "bob", s=s)))
        self.assertIsNone(v.reveal(s, request, c, self.signed(c, "bob", "dana", s=s)))
        self.show(request)

    def test_the_broker_never_sees_it(self):
        s, request = v.secret(), os.urandom(16)
        self.assertIsNone(v.reveal(s, request))
        v.brk.send("v_row_check", corr=1)
        self.assertEqual(self.show(request)["clear"], b"canary-of-a-password")
        for _, detail in v.drain():
            self.assertNotIn("canary", detail)

    def test_a_key_is_shown_as_a_file_that_opens(self):
        for kind, bits in (("ed25519", None), ("ecdsa", 384), ("rsa", 2048)):
            path = keygen(d.name, "acct-" + kind, kind=kind, bits=bits)
            with open(path, "rb") as f:
                s = v.secret(f.read(), kind=vault_rig.KEY)
            request = os.urandom(16)
            self.assertIsNone(v.reveal(s, request))
            with open(d.name + "/shown", "wb", opener=lambda p, fl: os.open(p, fl, 0o600)) as f:
                f.write(self.show(request)["clear"])
            got = subprocess.run(["ssh-keygen", "-y", "-f", d.name + "/shown"], stdout=subprocess.PIPE, check=True).stdout
            with open(path + ".pub", "rb") as f:
                self.assertEqual(got.split()[:2], f.read().split()[:2])
            os.unlink(d.name + "/shown")


if __name__ == "__main__":
    main()
