# SPDX-License-Identifier: Apache-2.0
"""What people run over ssh without thinking of it: rsync, git, Ansible, VS Code; all from a fresh home that has a key and the
snippet of `ssh bastion ssh-config`, and nothing else."""
import base64
import hashlib
import os
import re
import socket
import struct
import subprocess
import unittest

from clients import fixture
from clients.fixture import cell
from sp import free_port, read_until

SIZE = 3 << 20


class Fresh(unittest.TestCase):
    """A new person: the first thing is the snippet, and one code lasts for everything after it."""

    @cell("`ssh-config`", "a fresh home: ssh, scp, sftp, rsync and git with one second factor, no known_hosts file", "snippet")
    def test_one_factor_for_all(self):
        me = fixture.person("fresh")
        me.use_snippet()
        os.unlink(me.path(".ssh/known_hosts"))
        before, data = me.second_factors(), os.urandom(100000)
        me.write("f", data)
        r = me.run(["ssh", "admin@core-01", "echo one"])
        self.assertEqual((r.code, r.out), (0, b"one\n"), r)
        self.assertIn(b"One-time code", r.tty)
        self.assertEqual(os.stat(me.path(".ssh/sp")).st_mode & 0o777, 0o700)
        for argv in (["ssh", "core-02", "echo two"], ["scp", "f", "admin@core-02:fresh"], ["rsync", "f", "admin@core-01:fresh"],
                     ["git", "ls-remote", "admin@core-01:no-such-repository"]):
            r = subprocess.run(argv, env=me.env(), cwd=me.home, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, timeout=120, start_new_session=True)
            self.assertEqual(r.returncode, 128 if argv[0] == "git" else 0, r)
            self.assertNotIn(b"key verification", r.stderr)
        self.assertEqual((fixture.at_target("fresh"), fixture.at_target("fresh", target="second/target")), (data, data))
        self.assertEqual(me.second_factors() - before, 1)
        self.assertFalse(os.path.exists(me.path(".ssh/known_hosts")))

    @cell("`ssh-config`", "a bastion with another key is not believed", "snippet")
    def test_wrong_host_key(self):
        me = fixture.person("wary")
        me.use_snippet()
        os.unlink(me.path(".ssh/known_hosts"))
        key = fixture.clients.host_key
        other = base64.b64encode(base64.b64decode(key.split()[1])[:-32] + bytes(31) + b"\1").decode()
        me.write(".ssh/config", me.read(".ssh/config").replace(key.split()[1].encode(), other.encode()))
        r = me.run(["ssh", "-o", "ControlPath=none", "-o", "BatchMode=yes", "bastion", "whoami"])
        self.assertEqual((r.code, r.out), (255, b""), r)
        self.assertIn(b"Host key verification failed", r.err)

    def test_snippet_of_others_and_of_a_wide_policy(self):
        sp, me = fixture.sp, fixture.person("fresh2", "nobodies")
        me.use_snippet()
        text = me.read(".ssh/config").decode()
        self.assertNotIn("core-01", text)                       # nothing that this person may reach
        r = me.run(["ssh", "bastion", "ssh-config", "putty"])
        self.assertEqual(r.code, 1, r)
        r = sp.host("ssh-config", "fresh2", "--json", check=True).json()
        self.assertEqual([t["target"] for t in r["targets"]], ["core-01", "core-02"])
        r = sp.host("ssh-config", "fresh2", "--source", "127.0.0.1", "--json", check=True).json()
        self.assertEqual(r["targets"], [])
        for bad in (["nobody-there"], [], ["fresh2", "--name", "a b"], ["fresh2", "--identity", 'x"\nProxyCommand y'],
                    ["fresh2", "--address", "a b"], ["fresh2", "--address", "h:0"]):
            self.assertNotEqual(sp.host("ssh-config", *bad).code, 0, bad)
        r = sp.host("ssh-config", "fresh2", "--address", "[2001:db8::7]:2200", "--name", "gate", "--no-master", "--identity",
                    "~/.ssh/it", check=True).out.decode()
        self.assertIn("HostName 2001:db8::7\n    Port 2200\n", r)
        self.assertIn('ProxyJump gate\n', r)
        self.assertNotIn("ControlMaster", r)
        path = me.write("other", r)
        r = subprocess.run(["ssh", "-F", path, "-G", "admin@core-02"], env=me.env(), stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, check=True, timeout=60)
        self.assertIn(b"\nproxyjump gate\n", b"\n" + r.stdout)

    def test_hostkeys(self):
        sp = fixture.sp
        pub = sp.dir + "/keys/ssh_host_ed25519_key.pub"

        def keygen(*args):
            return subprocess.run(["ssh-keygen"] + list(args), stdout=subprocess.PIPE, check=True, timeout=60).stdout.decode()
        me = fixture.person("wary")
        me.use_snippet()
        want = [x for x in keygen("-r", "bastion.example.com", "-f", pub).splitlines() if " SSHFP 4 2 " in x]
        r = sp.host("hostkeys", "--art", "--address", "bastion.example.com", check=True).out.decode()
        self.assertIn(keygen("-lvf", pub).split("\n", 1)[1], r)
        self.assertIn(keygen("-lf", pub).split()[1], r)
        self.assertIn(want[0] + "\n", r)
        j = sp.host("hostkeys", "--json", check=True).json()
        self.assertEqual(len(j), 1)
        self.assertEqual(j[0]["fingerprint"], fixture.clients.fingerprint)
        known = me.write("known", j[0]["known_hosts"] + "\n")
        for name in ("[127.0.0.1]:%d" % sp.port, "sallyport"):
            self.assertIn(fixture.clients.host_key, keygen("-F", name, "-f", known))
        r = me.run(["ssh", "-F", "none", "-p", str(sp.port), "-o", "UserKnownHostsFile=" + known, "wary@127.0.0.1", "hostkeys"])
        self.assertEqual(r.code, 0, r)
        self.assertIn(fixture.clients.fingerprint.encode(), r.out)
        self.assertEqual(sp.host("hostkeys", "--address", "a b").code, 2)


class Rsync(unittest.TestCase):
    @cell("`rsync`", "a tree up and down, then a small change of a big file; --delete", "snippet")
    def test_both_ways(self):
        me = fixture.person("oscar")
        me.use_snippet()
        os.makedirs(me.path("rs/sub"))
        data = bytearray(os.urandom(SIZE))
        me.write("rs/sub/big", bytes(data))
        me.write("rs/name with ü", b"1")

        def sync(*args):
            r = me.run(["rsync", "-a", "--stats", *args])
            self.assertEqual(r.code, 0, r)
            return r.out.decode()
        sync("rs/", "admin@core-01:rs/")
        self.assertEqual(fixture.at_target("rs/sub/big"), bytes(data))
        data[SIZE // 2] ^= 1
        me.write("rs/sub/big", bytes(data))
        os.unlink(me.path("rs/name with ü"))
        out = sync("--delete", "--no-whole-file", "--checksum", "rs/", "admin@core-01:rs/")
        literal = int([x for x in out.splitlines() if x.startswith("Literal data:")][0].split()[2].replace(",", ""))
        self.assertLess(literal, SIZE // 10)                    # only the change went
        sync("admin@core-01:rs/", "rs-back/")
        self.assertEqual(me.read("rs-back/sub/big"), bytes(data))
        self.assertEqual(sorted(os.listdir(me.path("rs-back"))), ["sub"])
        self.assertEqual(me.run(["rsync", "admin@core-01:not-here", "x"]).code, 23)


class Git(unittest.TestCase):
    @cell("`git`", "clone, push, pull; a rejected push", "snippet")
    def test_push_and_pull(self):
        me = fixture.person("oscar")
        me.use_snippet()

        def git(*args, where="w1", code=0):
            r = me.run(["git", "-C", me.path(where), "-c", "user.name=o", "-c", "user.email=o@example.com",
                        "-c", "init.defaultBranch=main", "-c", "advice.detachedHead=false", *args])
            self.assertEqual(r.code, code, r)
            return r
        for d in ("w1", "w2"):
            os.makedirs(me.path(d))
        self.assertEqual(me.run(["ssh", "core-01", "git init -q --bare -b main repo.git"]).code, 0)
        data = os.urandom(SIZE)
        git("init", "-q")
        me.write("w1/blob", data)
        git("add", "blob")
        git("commit", "-qm", "one")
        git("push", "-q", "admin@core-01:repo.git", "HEAD:main")
        git("clone", "-q", "admin@core-01:repo.git", ".", where="w2")
        self.assertEqual(me.read("w2/blob"), data)
        me.write("w2/blob", data[::-1])
        git("commit", "-qam", "two", where="w2")
        git("push", "-q", "origin", "HEAD:main", where="w2")
        git("commit", "-q", "--allow-empty", "-m", "three")
        git("push", "-q", "admin@core-01:repo.git", "HEAD:main", code=1)        # not a fast-forward
        git("pull", "-q", "--rebase", "ssh://admin@core-01/~/repo.git", "main")
        self.assertEqual(me.read("w1/blob"), data[::-1])


PLAYBOOK = """
- hosts: all
  gather_facts: true
  tasks:
    - name: a directory
      file: {path: play, state: directory, mode: "0750"}
    - name: a file of random bytes
      copy: {src: "{{ blob }}", dest: play/blob}
    - name: a template
      copy: {content: "I am {{ inventory_hostname }}\\n", dest: play/who}
    - name: a command
      command: wc -c play/blob
      register: size
      changed_when: false
    - name: a script that fails, and is forgiven
      shell: exit 7
      register: failed
      failed_when: failed.rc != 7
    - name: what came
      assert: {that: "size.stdout.split()[0] == '3145728'"}
    - name: back again
      fetch: {src: play/blob, dest: fetched/}
"""


class Ansible(unittest.TestCase):
    @cell("`ansible-playbook`", "facts and seven tasks on two targets: copy, template, script, fetch", "snippet")
    def test_playbook(self):
        me = fixture.person("ansi")
        me.use_snippet()
        self.addCleanup(me.end_masters, me.path(".ansible"))
        data = os.urandom(SIZE)
        me.write("blob.bin", data)
        me.write("play.yml", PLAYBOOK)
        me.write("hosts", "core-01 ansible_user=admin\ncore-02 ansible_user=admin\n")
        self.assertEqual(me.run(["ssh", "bastion", "whoami"]).code, 0)       # the master: Ansible has no terminal to ask on
        before = me.second_factors()
        env = me.env(ANSIBLE_NOCOLOR="1", ANSIBLE_PYTHON_INTERPRETER="/usr/bin/python3")
        r = subprocess.run(["ansible-playbook", "-i", "hosts", "-e", "blob=" + me.path("blob.bin"), "play.yml"],
                           cwd=me.home, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           timeout=300, start_new_session=True)
        text = r.stdout.decode()
        self.assertEqual(r.returncode, 0, text[-3000:] + r.stderr.decode()[-2000:])
        stats = {m[0]: tuple(map(int, m[1:])) for m in
                 re.findall(r"^(\S+) +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", text, re.M)}
        self.assertEqual(stats, dict.fromkeys(("core-01", "core-02"), (8, 5, 0, 0)), text)
        self.assertEqual((fixture.at_target("play/blob"), fixture.at_target("play/who", target="second/target")),
                         (data, b"I am core-02\n"))
        self.assertEqual(me.read("fetched/core-02/play/blob"), data)
        self.assertEqual(me.second_factors(), before)


# What VS Code's Remote-SSH sends: a script that unpacks a server, starts it on a port of the target's loopback and says which.
SERVER = """
import socket, sys, threading
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
print("listeningOn==%d==" % s.getsockname()[1], flush=True)
def serve(c):
    while True:
        b = c.recv(65536)
        if not b: break
        c.sendall(b)
    c.close()
while True:
    c, _ = s.accept(); threading.Thread(target=serve, args=(c,), daemon=True).start()
"""


class VSCode(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.me = fixture.person("fwd", "forwarders")
        cls.me.use_snippet()

    def script(self, payload):
        text = base64.encodebytes(payload).decode()
        return ("set -e\nd=$(mktemp -d)\ntrap 'rm -rf $d' EXIT\nbase64 -d >$d/payload <<'END'\n%sEND\n"
                "sha256sum <$d/payload\ncat >$d/server.py <<'END'\n%sEND\n"
                "/usr/bin/python3 $d/server.py & echo pid==$!==; wait\n" % (text, SERVER)).encode()

    def start(self, port, payload):
        self.assertEqual(self.me.run(["ssh", "bastion", "whoami"]).code, 0)
        p = subprocess.Popen(["ssh", "-T", "-D", str(port), "-o", "ConnectTimeout=60", "core-01", "bash"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.me.env(), bufsize=0, start_new_session=True)
        p.stdin.write(self.script(payload))
        return p

    def socks(self, port, to):
        s = socket.create_connection(("127.0.0.1", port), timeout=60)
        s.sendall(b"\5\1\0")
        self.assertEqual(s.recv(2), b"\5\0")
        s.sendall(b"\5\1\0\1\x7f\0\0\1" + struct.pack(">H", to))
        return s

    @cell("VS Code's way", "a script of half a megabyte on standard input of `ssh -T -D PORT TARGET bash`, then the server that it "
          "started, through the dynamic forward", "snippet")
    def test_bootstrap_and_forward(self):
        port, payload, data = free_port(), os.urandom(400000), os.urandom(SIZE)
        p, out = self.start(port, payload), b""
        try:
            out = read_until(p.stdout, rb"(?=.*pid==\d+==)(?=.*listeningOn==\d+==)", 60)
            self.assertIn(hashlib.sha256(payload).hexdigest().encode(), out)
            to = int(re.search(rb"listeningOn==(\d+)==", out).group(1))
            for _ in range(2):
                with self.socks(port, to) as s:
                    self.assertEqual(s.recv(10)[:2], b"\5\0")
                    self.assertEqual(fixture.there_and_back(s, data), data)
            self.assertIsNone(p.poll())
        finally:
            for pid in re.findall(rb"pid==(\d+)==", out):
                subprocess.run(["kill", pid.decode()], check=True)
            p.stdin.close()
            p.wait(timeout=60)
            p.stdout.close()
            p.stderr.close()
