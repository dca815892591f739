# SPDX-License-Identifier: Apache-2.0
"""The SSH libraries that Python programs use: paramiko and asyncssh, as Debian has them."""
import asyncio
import io
import os
import sys
import threading
import unittest
import warnings

from clients import fixture
from clients.fixture import cell

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import asyncssh
    import paramiko

SIZE = 3 << 20


class Paramiko(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.me = me = fixture.person("para")
        cls.key = paramiko.Ed25519Key.from_private_key_file(me.path(".ssh/id_ed25519"))
        cls.data = os.urandom(SIZE)
        me.write("blob", cls.data)

    def check_key(self, transport):
        key = transport.get_remote_server_key()
        self.assertEqual("%s %s" % (key.get_name(), key.get_base64()), fixture.clients.host_key)

    def jump(self):
        """The bastion, then the target through a direct-tcpip channel: what ProxyJump is in paramiko."""
        me = self.me
        me.prepare()
        outer = paramiko.Transport(("127.0.0.1", me.sp.port))
        self.addCleanup(outer.close)
        outer.start_client(timeout=60)
        self.check_key(outer)
        self.assertEqual(outer.auth_publickey(me.name, self.key), ["keyboard-interactive"])
        self.assertEqual(outer.auth_interactive(me.name, lambda t, i, p: [me.code().decode() for _ in p]), [])
        inner = paramiko.Transport(outer.open_channel("direct-tcpip", ("core-01", 22), ("127.0.0.1", 0), timeout=60))
        self.addCleanup(inner.close)
        inner.start_client(timeout=60)
        self.check_key(inner)
        inner.auth_none("admin")
        return inner

    @cell("`paramiko`", "exec: byte-clean in both directions at once, exit status", "jump of its own")
    def test_exec(self):
        ch = self.jump().open_session(timeout=60)
        ch.settimeout(120)
        ch.exec_command("cat; echo err >&2; exit 4")

        def send():
            ch.sendall(self.data)
            ch.shutdown_write()
        t = threading.Thread(target=send)
        t.start()
        got = b""
        while True:
            piece = ch.recv(65536)
            if not piece:
                break
            got += piece
        t.join()
        self.assertEqual((ch.recv_exit_status(), got == self.data, ch.recv_stderr(100)), (4, True, b"err\n"))

    @cell("`paramiko`", "sftp: put, get, rename, stat, remove", "jump of its own")
    def test_sftp(self):
        me = self.me
        with paramiko.SFTPClient.from_transport(self.jump()) as sftp:
            sftp.put(me.path("blob"), "para-1")
            sftp.rename("para-1", "para-2")
            self.assertEqual(sftp.stat("para-2").st_size, SIZE)
            sftp.get("para-2", me.path("back"))
            sftp.remove("para-2")
            self.assertNotIn("para-2", sftp.listdir("."))
        self.assertEqual(me.read("back"), self.data)

    @cell("`paramiko`", "`SSHClient.connect`, the code asked for on standard input", "USER+ACCOUNT+TARGET")
    def test_client(self):
        me = self.me
        me.prepare()
        c = paramiko.SSHClient()
        c.load_host_keys(me.path(".ssh/known_hosts"))
        self.addCleanup(c.close)
        old, out, sys.stdin, sys.stdout = sys.stdin, sys.stdout, io.StringIO(me.code().decode() + "\n"), io.StringIO()
        try:
            c.connect("127.0.0.1", me.sp.port, me.login(), pkey=self.key, look_for_keys=False, allow_agent=False, timeout=60)
        finally:
            sys.stdin, sys.stdout = old, out
        _, out, _ = c.exec_command("echo from-$USER; exit 7", timeout=60)
        self.assertEqual((out.read(), out.channel.recv_exit_status()), (b"from-admin\n", 7))


class Asyncssh(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.me = me = fixture.person("asy")
        cls.data = os.urandom(SIZE)
        me.write("blob", cls.data)

    def connect(self, **more):
        me = self.me

        class Login(asyncssh.SSHClient):
            def kbdint_auth_requested(self):
                return ""

            def kbdint_challenge_received(self, name, instructions, lang, prompts):
                return [me.code().decode() for _ in prompts]
        return asyncssh.connect(client_factory=Login, client_keys=[me.path(".ssh/id_ed25519")], agent_path=None, config=None,
                                known_hosts=me.path(".ssh/known_hosts"), login_timeout=60, **more)

    def run_(self, work):
        async def whole():
            self.me.prepare()
            async with self.connect(host="127.0.0.1", port=self.me.sp.port, username=self.me.name) as outer:
                async with self.connect(host="core-01", username="admin", tunnel=outer) as inner:
                    await asyncio.wait_for(work(inner), 120)
        asyncio.run(whole())

    @cell("`asyncssh`", "exec: byte-clean, streams apart, exit status", "jump of its own")
    def test_exec(self):
        async def work(c):
            r = await c.run("cat; echo err >&2; exit 9", input=self.data, encoding=None)
            self.assertEqual((r.exit_status, r.stdout == self.data, r.stderr), (9, True, b"err\n"))
        self.run_(work)

    @cell("`asyncssh`", "a terminal, its change of size, a signal there and back", "jump of its own")
    def test_terminal_and_signal(self):
        async def work(c):
            p = await c.create_process("stty size; read x; stty size; exit 3", term_type="xterm", term_size=(91, 33))
            self.assertEqual((await p.stdout.readline()).strip(), "33 91")
            p.change_terminal_size(70, 20)
            p.stdin.write("\n")
            self.assertIn("20 70", await p.stdout.read())
            self.assertEqual((await p.wait()).exit_status, 3)
            p = await c.create_process("trap 'echo caught; exit 5' USR1; echo ready; while :; do sleep 0.1; done")
            self.assertEqual((await p.stdout.readline()).strip(), "ready")
            p.send_signal("USR1")
            self.assertEqual((await p.stdout.readline()).strip(), "caught")
            self.assertEqual((await p.wait()).exit_status, 5)
            p = await c.create_process("echo ready; exec sleep 600")
            self.assertEqual((await p.stdout.readline()).strip(), "ready")
            p.send_signal("TERM")
            self.assertEqual((await p.wait()).exit_signal[0], "TERM")
        self.run_(work)

    @cell("`asyncssh`", "scp up, sftp down, 8 channels at once", "jump of its own")
    def test_files(self):
        async def work(c):
            await asyncssh.scp(self.me.path("blob"), (c, "asy-1"))
            async with c.start_sftp_client() as sftp:
                await sftp.get("asy-1", self.me.path("back"))
            self.assertEqual(self.me.read("back"), self.data)
            done = await asyncio.gather(*(c.run("cat asy-1; exit %d" % i, encoding=None) for i in range(8)))
            self.assertEqual([(r.exit_status, r.stdout == self.data) for r in done], [(i, True) for i in range(8)])
        self.run_(work)
