# SPDX-License-Identifier: Apache-2.0
"""One code opens once, however many race; nothing but six digits is a code; guessing ends with a lock."""
import os
import re
import struct
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from puppet import TOP, secret_of, ssh_string, totp  # noqa: E402
from rawssh import SUCCESS, Client, is_partial  # noqa: E402
sys.path.insert(0, TOP + "/tests/support")
from sp import Instance, main, wait_for  # noqa: E402

PARALLEL = 200
OPTS = ["NumberOfPasswordPrompts=1", "PreferredAuthentications=publickey,keyboard-interactive"]


def setUpModule():
    global sp
    sp = Instance(policy='permit "free" who group operators on tag core as admin require mfa totp for 1h')
    conf = sp.dir + "/sallyport.conf"
    with open(conf) as f:
        text = re.sub(r"(?m)^\s*(max_startups|max_per_source|login_grace_s)\b.*\n", "", f.read())
    with open(conf, "w") as f:
        f.write(text.rstrip("\n") + "\nmax_startups 1000\nmax_per_source 1000\nlogin_grace_s 300\n")
    sp.host("stop", check=True, timeout=120)
    sp.host("start", check=True, timeout=120)
    for name in ("rosa", "forms", "more", "steps", "guess"):
        sp.add_person(name, "operators")


def tearDownModule():
    sp.close()


def quiet_step():
    """The current time step, far enough from its end."""
    wait_for(lambda: time.time() % 30 < 22, 12, "the next time step")
    return int(time.time()) // 30


def at_the_question(who):
    c = Client(sp.port).begin()
    assert is_partial(c.key(who, "%s/people/%s/id_ed25519" % (sp.dir, who)))
    assert c.request(who, "keyboard-interactive", bytes(8))[0] == 60
    return c


def enter(who, code):
    """One answer in a connection of its own: did it open?"""
    c = at_the_question(who)
    try:
        return c.code(code)[0] == SUCCESS
    finally:
        c.close()


class Race(unittest.TestCase):
    def race(self):
        sp.fresh_code("rosa")
        before = len([x for x in sp.audit("login_ok", 5000) if x["actor"] == "rosa"])
        clients = [at_the_question("rosa") for _ in range(PARALLEL)]
        ports = {c.sock.getsockname()[1] for c in clients}
        # The race is between the codes, not with what the broker still writes down about the keys.
        wait_for(lambda: ports <= {x["detail"]["port"] for x in sp.audit("login_key", 5000)}, 60, "all keys to be written down")
        quiet_step()
        code = totp(secret_of(sp, "rosa"))
        packet = b"\x3d" + struct.pack(">I", 1) + ssh_string(code)
        for c in clients:
            c.send(packet)
        opened = [c for c in clients if c.recv()[0] == SUCCESS]
        why = [x["detail"]["why"] for x in sp.audit("login_code_refused", 5000) if x["detail"]["port"] in ports]
        self.assertEqual(len(opened), 1, {w: why.count(w) for w in why})
        wait_for(lambda: len([x for x in sp.audit("login_ok", 5000) if x["actor"] == "rosa"]) == before + 1, 20, "one login_ok")
        for c in clients:
            c.close()

    def test_first(self):
        self.race()

    def test_second(self):
        self.race()

    def test_third(self):
        self.race()


class Codes(unittest.TestCase):
    def forms(self, who, make):
        sp.fresh_code(who)
        code = totp(secret_of(sp, who), quiet_step())
        for text in make(code):
            with self.subTest(text=text):
                self.assertFalse(enter(who, text))
        self.assertTrue(enter(who, totp(secret_of(sp, who))))       # it was the form, not the person

    def test_nothing_but_six_digits(self):
        self.forms("forms", lambda c: [c[:3] + " " + c[3:], " " + c, c + " ", "+" + c, "+" + c[1:], "-" + c[1:]])

    def test_nothing_but_ascii_digits(self):
        wide = lambda c: "".join(chr(0xFF10 + int(x)) for x in c)
        arabic = lambda c: "".join(chr(0x660 + int(x)) for x in c)
        self.forms("more", lambda c: [wide(c), arabic(c), c[:5], c + "0", "0" + c, c[:3] + "\u200b" + c[3:], "", "0x" + c[2:]])

    def test_the_step_before_opens_once_at_most(self):
        sp.fresh_code("steps")
        secret, step = secret_of(sp, "steps"), quiet_step()
        self.assertTrue(enter("steps", totp(secret, step - 1)))
        self.assertFalse(enter("steps", totp(secret, step - 1)))
        self.assertTrue(enter("steps", totp(secret, int(time.time()) // 30)))
        self.assertFalse(enter("steps", totp(secret, step - 1)))
        self.assertFalse(enter("steps", totp(secret, step)))
        self.assertFalse(enter("steps", totp(secret, step - 3)))
        self.assertFalse(enter("steps", totp(secret, step + 4)))

    def test_ten_wrong_codes_lock(self):
        sp.fresh_code("guess")
        secret = secret_of(sp, "guess")
        good = {totp(secret, int(time.time()) // 30 + i) for i in range(-2, 6)}
        wrong = [c for c in ("%06d" % i for i in range(40)) if c not in good][:10]
        for code in wrong:
            self.assertFalse(enter("guess", code))
        self.assertFalse(enter("guess", totp(secret)))
        self.assertTrue([x for x in sp.audit("login_code_refused", 2000) if "locked" in x["detail"]["why"] and
                         x["detail"]["login"] == "guess"])

    def test_unknown_people_look_the_same(self):
        def offer(name):
            r = subprocess.run(sp.ssh_argv("bob", ["-l", name, "bastion", "whoami"], mux=False, opts=OPTS), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, env=sp.ssh_env("bob"))
            return r.returncode, r.stdout, r.stderr.decode().replace(name, "NAME").replace("\r", "")
        sp.host("users", "disable", "carol", check=True)
        known, unknown, disabled = offer("alice"), offer("nobody-at-all"), offer("carol")
        sp.host("users", "enable", "carol", check=True)
        self.assertEqual(known[0], 255)
        self.assertEqual(known, unknown)
        self.assertEqual(known, disabled)
        self.assertIn("Permission denied (publickey)", known[2])


if __name__ == "__main__":
    main()
