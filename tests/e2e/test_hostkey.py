# SPDX-License-Identifier: Apache-2.0
"""The bastion's own host key: no process that speaks to the network has it, the vault signs. What that means to those who log in
and to sessions that change their keys, while the vault is busy, dies or is sealed."""
import base64
import concurrent.futures
import glob
import os
import shutil
import signal
import subprocess
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from memory import ed25519_of, memory_of, seed_in  # noqa: E402
from sp import Instance, main, read_until, wait_for  # noqa: E402

POLICY = """
network loopback 127.0.0.0/8, ::1
permit "free" who group operators on tag core as admin when source in loopback require mfa totp for 1h
"""
REKEY = ("RekeyLimit=1M", "Compression=no")
ROOT = os.geteuid() == 0


def setUpModule():
    global sp, KEY
    sp = Instance(policy=POLICY)
    KEY = sp.dir + "/keys/ssh_host_ed25519_key"
    sp.add_person("oscar", "operators")


def tearDownModule():
    sp.close()


def times_in(pid, what):
    return sum(data.count(what) for data in memory_of(pid))


def shown(path):
    with open(path + ".pub") as f:
        return ed25519_of(f.read())


def vault():
    return sp.pids("vault")[0][0]


def kill_vault():
    """The next one is ready, and open: a demonstration opens by itself."""
    old = vault()
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: sp.pids("vault")[0] not in ([], [old]), 60, "the next vault")


def vault_is_open():
    r = sp.host("vault", "status", "--json")
    return r.code == 0 and r.json()["state"] == "open"


class HostKey(unittest.TestCase):
    def setUp(self):
        wait_for(vault_is_open, 60, "the vault")
        self.assertEqual(sp.ssh("oscar", "bastion", "whoami").code, 0)

    def carry(self, n, during=None, up=None):
        """n bytes through a session that changes its keys each MiB; they come back."""
        data = os.urandom(1 << 20) * n
        p = sp.ssh_start("oscar", "admin@core-01", "echo up; exec cat", mux=False, stdin=subprocess.PIPE,
                         opts=list(REKEY) + ["LogLevel=DEBUG1"])
        read_until(p.stdout, b"up\n", 120)
        if up is not None:
            up.wait(120)
        out, err = [], []
        readers = [threading.Thread(target=lambda: out.append(p.stdout.read())),
                   threading.Thread(target=lambda: err.append(p.stderr.read()))]
        for t in readers:
            t.start()
        try:
            for i in range(n):
                if during is not None:
                    during(i)
                p.stdin.write(data[i << 20:(i + 1) << 20])
                p.stdin.flush()
            p.stdin.close()
        except BrokenPipeError:
            pass
        for t in readers:
            t.join(120)
        p.wait(60)
        sp.drop(p)
        self.assertEqual(p.returncode, 0, err[0][-2000:])
        self.assertEqual(out[0] == data, True, "%d bytes of %d" % (len(out[0]), len(data)))
        return err[0].count(b"rekeying")

    @unittest.skipUnless(ROOT, "needs to read the memory of others")
    def test_1_no_ingress_has_it(self):
        seed = seed_in(vault(), shown(KEY))
        self.assertIsNotNone(seed, "the search finds it")
        self.assertEqual(os.listdir(os.path.dirname(KEY)), [os.path.basename(KEY) + ".pub"])
        p = sp.ssh_start("oscar", "admin@core-01", "echo up; cat", mux=False, stdin=subprocess.PIPE)
        read_until(p.stdout, b"up\n", 60)
        parents, kids = sp.pids("ingress")
        self.assertTrue(parents and kids)
        for role in ("ingress", "broker", "recorder", "egress", "player", "auth"):
            parents, kids = sp.pids(role)
            for pid in parents + kids:
                self.assertEqual(times_in(pid, seed), 0, role)
        p.stdin.close()
        p.wait(60)
        p.stdout.close()
        p.stderr.close()
        sp.drop(p)

    def test_2_keys_change_under_load_while_the_vault_is_busy(self):
        """A passphrase is Argon2id in the vault's only thread."""
        def slot(_):
            r = sp.host("vault", "slots", "add", "passphrase", "--label", "busy", input=b"a long passphrase\n", timeout=120)
            self.assertEqual(r.code, 0, r)
            rows = sp.host("vault", "slots", "--json").json()
            rows = rows["slots"] if isinstance(rows, dict) else rows
            sp.host("vault", "slots", "remove", str([s["id"] for s in rows if s["label"] == "busy"][0]), check=True)

        up = threading.Barrier(3)       # a login may be told to come back when the vault is busy; a session may not
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            busy = pool.submit(lambda: [up.wait(120)] + [slot(i) for i in range(3)])
            runs = [pool.submit(self.carry, 12, up=up) for _ in range(2)]
            for r in runs:
                self.assertGreater(r.result(240), 5)
            busy.result(240)

    def test_3_a_vault_that_dies_ends_no_session(self):
        def during(i):
            if i % 4 == 2:
                kill_vault()

        self.assertGreater(self.carry(16, during), 8)
        wait_for(vault_is_open, 60, "the vault")

    def test_4_who_comes_while_there_is_none_is_served_by_the_next(self):
        os.kill(vault(), signal.SIGSTOP)        # it hears nothing: the question waits in the link
        old = vault()
        p = sp.ssh_start("oscar", "bastion", "whoami", mux=False, opts=["LogLevel=DEBUG1"])
        read_until(p.stderr, b"expecting SSH2_MSG_KEX", 60)
        os.kill(old, signal.SIGKILL)
        self.assertIsNotNone(p.wait(120))
        out, err = p.stdout.read(), p.stderr.read()
        sp.drop(p)
        p.stdout.close()
        p.stderr.close()
        # signed by the next; logged in, or told in clear that nobody can be just now
        self.assertIn(b"Host 'sallyport' is known", err)

    def test_5_strangers_get_one_signature_a_connection_and_no_more_connections_than_before(self):
        """Key exchanges without a login: the caps on what is not logged in hold, and people get in."""
        def stranger(_):
            return subprocess.run(["ssh", "-F", "none", "-p", str(sp.port), "-o", "UserKnownHostsFile=/dev/null", "-o",
                                   "StrictHostKeyChecking=no", "-o", "BatchMode=yes", "-o", "IdentityFile=/nonexistent", "nobody@127.0.0.1"],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120).returncode

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            crowd = [pool.submit(stranger, i) for i in range(40)]
            self.assertEqual(sp.ssh("oscar", "bastion", "whoami", mux=False).code, 0)
            self.assertEqual({c.result(240) for c in crowd}, {255})

    def test_6_sealed_is_said_in_clear_and_nobody_is_let_in(self):
        p = sp.ssh_start("oscar", "admin@core-01", "echo up; exec cat", mux=False, stdin=subprocess.PIPE, opts=list(REKEY))
        read_until(p.stdout, b"up\n", 60)
        self.assertEqual(sp.host("vault", "seal").code, 0)
        for who in ("oscar", "nobody"):
            r = sp.ssh("oscar", "-l", who, "bastion", "whoami", mux=False)
            self.assertEqual(r.code, 255)
            self.assertIn("the vault is sealed", r.text)
        # what runs goes on until it needs a signature
        p.stdin.write(b"still here\n")
        p.stdin.flush()
        read_until(p.stdout, b"still here\n", 60)
        threading.Thread(target=lambda: p.stdout.read(), daemon=True).start()
        try:
            for _ in range(40):
                p.stdin.write(bytes(1 << 18))
                p.stdin.flush()
        except BrokenPipeError:
            pass
        self.assertEqual(p.wait(120), 255)
        p.stderr.close()
        wait_for(lambda: 'event=no_host_signature' in sp.log() and "the vault is sealed" in sp.log(), 60, "the reason in the log")
        sp.drop(p)
        key = glob.glob(sp.dir + "/vault/DEMONSTRATION*")[0]
        with open(key, "rb") as f:
            sp.host("vault", "unseal", input=f.read().strip() + b"\n", check=True)
        wait_for(lambda: sp.ssh("oscar", "bastion", "whoami", mux=False).code == 0, 60, "a login after the unseal")

    def restart(self):
        sp.host("stop", check=True)
        return sp.host("start", check=True)

    def known(self):
        with open(KEY + ".pub") as f, open(sp.dir + "/people/known_hosts", "w") as g:
            g.write("sallyport,[127.0.0.1]:%d %s\n" % (sp.port, " ".join(f.read().split()[:2])))

    def test_7_one_that_is_brought_along_goes_into_the_vault_and_its_file_goes(self):
        """What an instance of before has, and who moves here with the key that everybody knows."""
        own, other = shown(KEY), sp.dir + "/people/other"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True, stdin=subprocess.DEVNULL)
        with open(other, "rb") as f:
            text = f.read()
        seed = base64.b64decode(b"".join(text.split(b"\n")[1:-2]))
        seed = seed[seed.rindex(shown(other)) - 32:][:32]
        sp.end_mux("oscar")
        shutil.copy(KEY + ".pub", other + ".was")
        shutil.copy(other, KEY)
        self.restart()              # the public half is still the old one's: nobody is shown a key that does not sign
        wait_for(lambda: "is the public half of another key" in sp.log(), 60, "the word about it")
        self.assertTrue(os.path.exists(KEY))
        self.assertEqual(sp.ssh("oscar", "bastion", "whoami", mux=False).code, 255)
        doctor = {x["check"]: x for x in sp.host("doctor", "--json").json() if x["state"] == "fail"}
        self.assertIn("another key", doctor["host key"]["text"])
        shutil.copy(other + ".pub", KEY + ".pub")
        self.restart()
        wait_for(lambda: not os.path.exists(KEY), 60, "the file to go")
        for at, _, names in os.walk(sp.dir):
            for n in names:
                if not at.startswith((sp.dir + "/people", sp.dir + "/opt", sp.dir + "/target")) and os.path.isfile(at + "/" + n):
                    with open(at + "/" + n, "rb") as f:
                        data = f.read()
                    self.assertFalse(seed in data or text[100:160] in data, at + "/" + n)
        self.assertEqual(sp.ssh("oscar", "bastion", "whoami", mux=False).code, 255, "known by another key")
        self.known()
        wait_for(vault_is_open, 60, "the vault")
        kill_vault()
        wait_for(vault_is_open, 60, "the next vault, which has it from its state")
        wait_for(lambda: sp.ssh("oscar", "bastion", "whoami", mux=False).code == 0, 60, "a login")
        self.assertEqual(len([e for e in sp.audit("host_key_kept")]), 1)
        if ROOT:
            self.assertEqual(seed_in(vault(), shown(KEY)), seed)
            self.assertIsNone(seed_in(vault(), own))


if __name__ == "__main__":
    main()
