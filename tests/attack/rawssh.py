# SPDX-License-Identifier: Apache-2.0
"""An SSH client that says what no decent client would: raw packets after an honest key exchange (RFC 4253, 4252, 8731)."""
import hashlib
import os
import socket
import struct

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from puppet import ssh_string

KEX = (b"curve25519-sha256", b"ssh-ed25519", b"aes128-gcm@openssh.com", b"aes128-gcm@openssh.com",
       b"hmac-sha2-256-etm@openssh.com", b"hmac-sha2-256-etm@openssh.com", b"none", b"none", b"", b"")
FAILURE, SUCCESS, BANNER, PK_OK = 51, 52, 53, 60


class Closed(Exception):
    pass


def take(data):
    n = struct.unpack_from(">I", data)[0]
    return data[4:4 + n], data[4 + n:]


class Client:
    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.tx = self.rx = None
        self.buf = b""
        mine = b"SSH-2.0-OpenSSH_9.2"
        self.sock.sendall(mine + b"\r\n")
        theirs = self.line()
        while not theirs.startswith(b"SSH-"):
            theirs = self.line()
        init = b"\x14" + os.urandom(16) + b"".join(ssh_string(x) for x in KEX) + b"\0" + bytes(4)
        self.send(init)
        server_init = self.recv()
        key = X25519PrivateKey.generate()
        q = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.send(b"\x1e" + ssh_string(q))
        reply = self.recv()
        assert reply[0] == 31, reply
        host, rest = take(reply[1:])
        qs, rest = take(rest)
        k = key.exchange(X25519PublicKey.from_public_bytes(qs)).lstrip(b"\0")
        k = ssh_string((b"\0" if k[0] & 128 else b"") + k)
        h = hashlib.sha256(b"".join(ssh_string(x) for x in (mine, theirs, init, server_init, host, q, qs)) + k).digest()
        self.id = h
        derive = lambda c, n: hashlib.sha256(k + h + c + h).digest()[:n]
        self.send(b"\x15")
        assert self.recv()[0] == 21
        self.tx = [AESGCM(derive(b"C", 16)), derive(b"A", 12)]
        self.rx = [AESGCM(derive(b"D", 16)), derive(b"B", 12)]

    def close(self):
        self.sock.close()

    def exactly(self, n):
        while len(self.buf) < n:
            try:
                piece = self.sock.recv(65536)
            except OSError as e:
                raise Closed(str(e)) from e
            if not piece:
                raise Closed("hung up")
            self.buf += piece
        out, self.buf = self.buf[:n], self.buf[n:]
        return out

    def line(self):
        out = b""
        while not out.endswith(b"\n"):
            out += self.exactly(1)
        return out.rstrip(b"\r\n")

    @staticmethod
    def nonce(side):
        iv = side[1]
        side[1] = iv[:4] + struct.pack(">Q", struct.unpack(">Q", iv[4:])[0] + 1)
        return iv

    def send(self, payload):
        block, head = (16, 0) if self.tx else (8, 4)
        pad = block - (head + 1 + len(payload)) % block
        if pad < 4:
            pad += block
        packet = struct.pack(">B", pad) + payload + bytes(pad)
        length = struct.pack(">I", len(packet))
        if self.tx:
            packet = self.tx[0].encrypt(self.nonce(self.tx), packet, length)
        try:
            self.sock.sendall(length + packet)
        except OSError as e:
            raise Closed(str(e)) from e

    def recv(self):
        """The next packet that is not IGNORE, DEBUG or EXT_INFO."""
        while True:
            length = self.exactly(4)
            n = struct.unpack(">I", length)[0]
            if self.rx:
                packet = self.rx[0].decrypt(self.nonce(self.rx), self.exactly(n + 16), length)
            else:
                packet = self.exactly(n)
            payload = packet[1:len(packet) - packet[0]]
            if payload[0] == 1:
                raise Closed(payload[5:].decode("utf-8", "replace"))
            if payload[0] not in (2, 4, 7, BANNER):
                return payload

    # ------------------------------------------------------------ user authentication
    def begin(self):
        self.send(b"\x05" + ssh_string("ssh-userauth"))
        assert self.recv()[0] == 6
        return self

    def request(self, user, method, rest=b"", service="ssh-connection"):
        self.send(b"\x32" + ssh_string(user) + ssh_string(service) + ssh_string(method) + rest)
        return self.recv()

    def offer(self, user, blob, algo="ssh-ed25519"):
        return self.request(user, "publickey", b"\0" + ssh_string(algo) + ssh_string(blob))

    def key(self, user, path, sign_for=None, session=None, spoil=False):
        """publickey with a signature; made for another name or session, or spoiled, if wished."""
        with open(path, "rb") as f:
            private = serialization.load_ssh_private_key(f.read(), None)
        raw = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        blob = ssh_string("ssh-ed25519") + ssh_string(raw)
        head = b"\x01" + ssh_string("ssh-ed25519") + ssh_string(blob)
        signed = (ssh_string(session or self.id) + b"\x32" + ssh_string(sign_for or user) + ssh_string("ssh-connection") +
                  ssh_string("publickey") + head)
        signature = private.sign(signed)
        if spoil:
            signature = signature[:-1] + bytes([signature[-1] ^ 1])
        return self.request(user, "publickey", head + ssh_string(ssh_string("ssh-ed25519") + ssh_string(signature)))

    def code(self, answer, count=1):
        """The answer to a keyboard-interactive question."""
        self.send(b"\x3d" + struct.pack(">I", count) + ssh_string(answer) * count)
        return self.recv()


def is_partial(packet):
    return packet[0] == FAILURE and packet[-1] == 1
