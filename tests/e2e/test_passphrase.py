# SPDX-License-Identifier: Apache-2.0
"""A vault behind a passphrase, as outside a demonstration: sealed denies, unsealed serves, sealed again denies; and what an
operator sets by hand in sallyport.conf."""
import os
import pty
import select
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance, Result, TOP, free_port, main, scratch, wait_for  # noqa: E402

BUILD = os.environ.get("SALLYPORT_BUILD", TOP + "/build")
PASS = "correct horse 電池 staple"
POLICY = 'permit "free" who group operators on tag core as admin require mfa totp for 1h\n'


class Sealed(Instance):
    """An instance by `sallyport init` alone, from an installed tree: no quickstart, no demonstration."""

    def __init__(self):
        self.own, self.people, self.started = True, {}, []
        self.base = scratch("sp-e2e-")
        os.chmod(self.base, 0o755)
        self.dir, self.port = self.base + "/d", free_port()
        r = subprocess.run(["make", "-s", "-C", BUILD, "install", "DESTDIR=" + self.base, "prefix=/opt"],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert r.returncode == 0, r.stdout
        subprocess.run(["chmod", "-R", "a+rX", self.base + "/opt"], check=True)

    def env(self):
        e = dict(os.environ)       # the installed tree finds its parts by where it stands
        for k in ("SALLYPORT_LIBEXEC", "SALLYPORT_SQLDIR", "SALLYPORT_PAMDIR", "SALLYPORT_DIR"):
            e.pop(k, None)
        return e

    def host(self, *args, input=None, check=False, timeout=90):
        p = subprocess.run([self.base + "/opt/bin/sallyport", "-D", self.dir] + list(args), input=input,
                           stdin=None if input is not None else subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=timeout, env=self.env())
        r = Result(p.returncode, p.stdout, p.stderr)
        if check and r.code != 0:
            raise AssertionError("sallyport %s: %r" % (" ".join(args), r))
        return r

    def close(self):
        if os.path.exists(self.dir + "/sallyport.conf"):
            self.host("stop", timeout=120)
        shutil.rmtree(self.base, ignore_errors=True)

    def person(self, name, groups):
        """Key, ssh_config and askpass as the quickstart makes them."""
        os.makedirs(self.dir + "/people", exist_ok=True)
        with open(self.dir + "/demo.conf", "w") as f:
            f.write("port=%d\n" % self.port)
        with open(self.dir + "/keys/ssh_host_ed25519_key.pub") as f, open(self.dir + "/people/known_hosts", "w") as k:
            k.write("sallyport " + " ".join(f.read().split()[:2]) + "\n")
        code = 'top=%s; . "$top/demo/lib.sh"; SP=%s/opt/bin/sallyport; add_person "$1" %s %s %s' % (
            TOP, self.base, name, name, groups)
        r = subprocess.run(["bash", "-c", code, "lib", self.dir], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=60, env=self.env())
        assert r.returncode == 0, r.stdout.decode()


def setUpModule():
    global sp
    sp = Sealed()


def tearDownModule():
    sp.close()


def on_a_terminal(argv, answers, env):
    """Runs it on a pseudo-terminal, answers each prompt; (status, what was shown)."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(argv[0], argv, env)
    shown = b""
    while True:
        if not select.select([fd], [], [], 60)[0]:
            raise AssertionError("nothing more after %r" % shown)
        try:
            piece = os.read(fd, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
        if answers and answers[0][0] in shown:
            os.write(fd, answers.pop(0)[1])
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode("utf-8", "replace")


class Passphrase(unittest.TestCase):
    def test_0_init_asks_twice_on_a_terminal(self):
        exe = sp.base + "/opt/bin/sallyport"
        argv = [exe, "init", "--embedded", "--listen", "127.0.0.1:%d" % sp.port, sp.dir]
        rc, shown = on_a_terminal(argv, [(b"New passphrase of the vault: ", b"one\n"), (b"The same again: ", b"two\n")], sp.env())
        self.assertEqual(rc, 1, shown)
        self.assertIn("not the same", shown)
        self.assertFalse(os.path.exists(sp.dir), "a failed init leaves nothing")
        rc, shown = on_a_terminal(argv, [(b"New passphrase of the vault: ", PASS.encode() + b"\n"),
                                         (b"The same again: ", PASS.encode() + b"\n")], sp.env())
        self.assertEqual(rc, 0, shown)
        self.assertNotIn("staple", shown)                # without echo
        self.assertFalse([f for f in os.listdir(sp.dir + "/vault") if "DEMO" in f])
        with open(sp.dir + "/sallyport.conf", "a+") as f:
            f.seek(0)
            text = f.read()
        self.assertIn("banner", text)
        with open(sp.dir + "/sallyport.conf", "w") as f:
            f.write("\n".join(x for x in text.split("\n") if not x.startswith("banner"))
                    + "\nbanner Sessions are recorded. 連線將被錄影。\n")

    def test_1_starts_sealed_and_denies(self):
        r = sp.host("start", check=True)
        self.assertIn("vault unseal", r.text)
        self.assertEqual(sp.host("vault", "status", "--json").json()["state"], "sealed")
        self.assertNotEqual(sp.host("doctor").code, 0)
        self.assertIn("sealed", sp.host("doctor").text)
        r = sp.host("users", "add", "oscar", "--display", "O", "--group", "operators", "--key",
                    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAdh0jH6m8gYKPsvZVgMH/kQ+9HLB2TdU3cN5JtZPpcy")
        self.assertNotEqual(r.code, 0)
        self.assertIn("sealed", r.text)

    def test_2_a_wrong_passphrase_opens_nothing(self):
        r = sp.host("vault", "unseal", input=b"correct horse battery staple\n")
        self.assertEqual(r.code, 1, r)
        self.assertEqual(sp.host("vault", "status", "--json").json()["state"], "sealed")

    def test_3_unseal_from_standard_input_serves(self):
        sp.host("vault", "unseal", input=PASS.encode() + b"\n", check=True)
        self.assertEqual(sp.host("vault", "status", "--json").json()["state"], "open")
        with open(sp.base + "/p", "w") as f:
            f.write(POLICY)
        sp.host("policy", "load", sp.base + "/p", check=True)
        sp.person("oscar", "operators")
        r = sp.ssh("oscar", "bastion", "whoami", mux=False)
        self.assertEqual(r.code, 0, r)
        self.assertIn("oscar", r.text)
        self.assertIn("連線將被錄影", r.text)             # the banner, before login

    def test_4_sealed_again_denies_with_a_text(self):
        sp.host("vault", "seal", check=True)
        r = sp.ssh("oscar", "bastion", "whoami", mux=False, opts=["NumberOfPasswordPrompts=1"])
        self.assertEqual(r.code, 255, r)
        self.assertIn("vault is sealed", r.text)
        known = r.text.split("Received")[1]
        r = sp.ssh("oscar", "-l", "nobody-of-that-name", "bastion", "whoami", mux=False)
        self.assertEqual(r.text.split("Received")[1].split(":", 1)[1], known.split(":", 1)[1])   # the same for everybody

    def test_5_unseal_on_a_terminal_serves_again(self):
        rc, shown = on_a_terminal([sp.base + "/opt/bin/sallyport", "-D", sp.dir, "vault", "unseal"],
                                  [(b"Passphrase of the vault: ", PASS.encode() + b"\n")], sp.env())
        self.assertEqual(rc, 0, shown)
        self.assertNotIn("staple", shown)
        wait_for(lambda: sp.ssh("oscar", "bastion", "whoami", mux=False).code == 0, 60, "a login after the unseal")

    def test_6_a_restart_is_sealed(self):
        sp.host("stop", check=True)
        sp.host("start", check=True)
        self.assertEqual(sp.host("vault", "status", "--json").json()["state"], "sealed")
        r = sp.ssh("oscar", "bastion", "whoami", mux=False, opts=["NumberOfPasswordPrompts=1"])
        self.assertEqual(r.code, 255, r)
        self.assertIn("vault is sealed", r.text)


if __name__ == "__main__":
    main()
