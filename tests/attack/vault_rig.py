# SPDX-License-Identifier: Apache-2.0
"""The real vault process alone, led from here: we are its supervisor, its broker and the administrator at once.

A captured broker can say to the vault whatever it likes; so does whoever uses this.
"""
import array
import base64
import hashlib
import os
import select
import shutil
import socket
import struct
import subprocess
import tempfile
import time

from puppet import NAMES, body, counted, datagram, fields, ssh_string

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("SALLYPORT_BUILD", TOP + "/build")
CERT, KEY, PASSWORD = 1, 2, 3
SESSION, REVEAL = 1, 2
NAMESPACE = "approve@sallyport"


class Link:
    def __init__(self, sock):
        self.sock, self.corr = sock, 100

    def send(self, name, fds=(), corr=0, **values):
        data = datagram(name, body(name, **values), len(fds), corr=corr)
        anc = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([data], anc)

    def recv(self, seconds=60):
        if not select.select([self.sock], [], [], seconds)[0]:
            raise AssertionError("the vault says nothing")
        data = self.sock.recv(1 << 17)
        if not data:
            raise EOFError
        number, _, _, corr = struct.unpack_from("<HHIQ", data)
        return NAMES[number], fields(NAMES[number], data[16:]), corr

    def call(self, name, reply, **values):
        """The answer; what the vault tells besides is kept in events."""
        self.corr += 1
        self.send(name, corr=self.corr, **values)
        while True:
            got, f, corr = self.recv()
            if got == "security_event":
                self.events.append((f["what"].decode(), f["detail"].decode()))
            elif got == reply and corr == self.corr:
                return f


class Vault:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="sp-rig-", dir="/var/tmp")
        self.vault = self.dir + "/vault"
        subprocess.run([BUILD + "/sallyport-vault", "init", self.vault, "--demo"], check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.proc = None
        self.start()

    def start(self):
        """Also again, after stop: with the state that the last one left."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        code = 'exec 3<&%d; exec "$0"' % theirs.fileno()
        self.log = open(self.dir + "/log", "ab")
        self.proc = subprocess.Popen(["/bin/bash", "-c", code, BUILD + "/sallyport-vault"], stdin=subprocess.DEVNULL,
                                     stdout=self.log, stderr=self.log, pass_fds=[theirs.fileno()])
        theirs.close()
        self.sup = Link(ours)
        path = self.dir + "/vault.sock"
        if os.path.exists(path):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(path)
        listener.listen(8)
        listener.setblocking(False)
        assert self.sup.recv()[0] == "hello"
        d = os.open(self.vault, os.O_RDONLY | os.O_DIRECTORY)
        no_key = os.open("/dev/null", os.O_RDONLY)
        self.sup.send("start_vault", fds=[d, listener.fileno(), no_key], config=b"")
        os.close(d)
        os.close(no_key)
        listener.close()
        assert self.sup.recv()[0] == "started"
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sup.send("peer_link", fds=[theirs.fileno()], role=1 << 3)
        theirs.close()
        self.brk = Link(ours)
        self.brk.events = []
        ctl = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ctl.connect(path)
        self.ctl = Link(ctl)
        self.ctl.events = []

    def stop(self):
        self.sup.sock.close()
        self.proc.wait(60)
        for link in (self.brk, self.ctl):
            link.sock.close()
        self.log.close()

    def close(self):
        if self.proc.poll() is None:
            self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def drain(self):
        """Events that were told meanwhile."""
        while select.select([self.brk.sock], [], [], 0)[0]:
            got, f, _ = self.brk.recv()
            if got == "security_event":
                self.brk.events.append((f["what"].decode(), f["detail"].decode()))
        return self.brk.events

    # ------------------------------------------------------------ the administrator
    def secret(self, clear=b"canary-of-a-password", kind=PASSWORD, target=None):
        s = {"id": os.urandom(16), "owner": target or os.urandom(16), "version": 1, "kind": kind, "rule": b""}
        r = self.ctl.call("vc_secret_new", "vc_secret_new_r", kind=kind, id=s["id"], version=1, owner=s["owner"], clear=clear)
        assert r["err"] == 0, r
        s["sealed"] = r["sealed"]
        return s

    def set_rule(self, s, rule):
        """The secret as it stands in its row afterwards; the old one stays as it was. Or the error's text."""
        r = self.ctl.call("vc_rule_set", "vc_rule_set_r", kind=s["kind"], id=s["id"], version=s["version"], owner=s["owner"],
                          sealed=s["sealed"], old_rule=s["rule"], rule=rule)
        if r["err"]:
            return r["text"].decode()
        return dict(s, sealed=r["sealed"], rule=rule)

    # ------------------------------------------------------------------ the broker
    def challenge(self, s, who="alice", number=42, request=None, account="legacy", target="core-01", kind=SESSION, seconds=600,
                  life=3600, reason="disk full", own=b"", person=None):
        r = self.brk.call("v_challenge", "v_challenge_r", request=request or os.urandom(16), number=number, kind=kind,
                          person=person or person_id(who), person_name=who, account=account, target=s["owner"], target_name=target,
                          rule=s["rule"], reason=reason, seconds=seconds, life_us=life * 1000000, own_keys=own)
        return r["challenge"] if r["err"] == 0 else r["text"].decode()

    def approval(self, s, challenge, sig):
        r = self.brk.call("v_approval", "v_approval_r", rule=s["rule"], challenge=challenge, signature=sig)
        return (r["person"], r["key"].decode()) if r["err"] == 0 else r["text"].decode()

    def lease(self, s, challenge=b"", sigs=(), account="legacy", target="core-01", seconds=60, rule=None, owner=None):
        """None, or why not."""
        host = ssh_string(b"ssh-ed25519") + ssh_string(bytes(32))
        session = os.urandom(16)
        r = self.brk.call("v_lease", "v_lease_r", session=session, kind=s["kind"], account=account, target=owner or s["owner"],
                          target_name=target, host_keys=ssh_string(host), not_after=int((time.time() + seconds) * 1e6), serial=1,
                          secret_id=s["id"], secret_version=s["version"], secret_owner=s["owner"], sealed=s["sealed"],
                          rule=s["rule"] if rule is None else rule, challenge=challenge, approvals=b"".join(counted(x) for x in sigs))
        return None if r["err"] == 0 else r["text"].decode()

    def reveal(self, s, request, challenge=b"", sigs=(), account="legacy", target="core-01"):
        r = self.brk.call("v_reveal", "v_done", request=request, number=1, kind=s["kind"], account=account, target=s["owner"],
                          target_name=target, secret_id=s["id"], secret_version=s["version"], secret_owner=s["owner"],
                          sealed=s["sealed"], rule=s["rule"], challenge=challenge, approvals=b"".join(counted(x) for x in sigs))
        return None if r["err"] == 0 else r["text"].decode()


def person_id(name):
    return hashlib.sha256(b"person " + name.encode()).digest()[:16]


def blob_of(path):
    with open(path + ".pub") as f:
        return base64.b64decode(f.read().split()[1])


def rule(s, keys, need=2, version=1, touch=0, seconds=3600, group="approvers", secret=None):
    """keys: (name, blob) pairs."""
    out = struct.pack("<BQ", 1, version) + (secret or s["id"]) + struct.pack("<BBqq", need, touch, seconds, int(time.time() * 1e6))
    out += counted(group) + bytes([len(keys)])
    for name, blob in keys:
        out += person_id(name) + counted(name) + counted(blob)
    return out


def challenge_text(data, rule_bytes):
    """What the broker prints for people: by the very code that it uses."""
    tool = BUILD + "/tests/support/challenge_text"
    r = subprocess.run([tool], input=counted(data) + counted(rule_bytes), stdout=subprocess.PIPE, check=True)
    return r.stdout


def dearmor(text):
    lines = text.decode().split("\n")
    return base64.b64decode("".join(lines[1:lines.index("-----END SSH SIGNATURE-----")]))


def keygen(directory, name, kind="ed25519", bits=None, env=None, extra=()):
    path = "%s/%s" % (directory, name)
    argv = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", name, "-f", path] + (["-b", str(bits)] if bits else []) + list(extra)
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                   env=dict(os.environ, **(env or {})))
    return path


def sign(path, text, namespace=NAMESPACE, extra=(), env=None):
    """Stock OpenSSH signs; the SSHSIG without its armour."""
    r = subprocess.run(["ssh-keygen", "-Y", "sign", "-n", namespace, "-f", path] + list(extra), input=text, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, env=dict(os.environ, **(env or {})))
    if r.returncode != 0:
        raise AssertionError(r.stderr.decode())
    return dearmor(r.stdout)
