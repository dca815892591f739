# SPDX-License-Identifier: Apache-2.0
"""An SSH client that says what no decent client would: raw packets after an honest key exchange (RFC 4253, 4252, 8731)."""
import hashlib
import hmac
import os
import socket
import struct

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from puppet import ssh_string

KEX = (b"curve25519-sha256", b"ssh-ed25519", b"aes128-gcm@openssh.com", b"aes128-gcm@openssh.com",
       b"hmac-sha2-256-etm@openssh.com", b"hmac-sha2-256-etm@openssh.com", b"none", b"none", b"", b"")
FAILURE, SUCCESS, BANNER, PK_OK = 51, 52, 53, 60


class Closed(Exception):
    pass


class BadMac(Exception):
    pass


def take(data):
    n = struct.unpack_from(">I", data)[0]
    return data[4:4 + n], data[4 + n:]


class Client:
    """mid and early: payloads sent between our KEXINIT and NEWKEYS, or before our KEXINIT. strict: we say that we know strict
    key exchange; resets: and begin to count anew at NEWKEYS, as it wants. dial: a connected socket instead of a port."""

    def __init__(self, port=None, cipher="gcm", strict=False, resets=None, early=(), mid=(), preface=b"", dial=None):
        self.sock = dial or socket.create_connection(("127.0.0.1", port), timeout=20)
        self.tx = self.rx = None
        self.tx_seq = self.rx_seq = 0
        self.ctr = cipher == "ctr"
        self.buf = b""
        mine = b"SSH-2.0-OpenSSH_9.2"
        self.sock.sendall(preface + mine + b"\r\n")
        theirs = self.line()
        while not theirs.startswith(b"SSH-"):
            theirs = self.line()
        self.mine, self.theirs, self.id = mine, theirs, None
        for x in early:
            self.send(x)
        self.exchange(strict, strict if resets is None else resets, mid)

    def exchange(self, strict=False, resets=False, mid=()):
        """A whole key exchange: the first, or one more."""
        kex = list(KEX)
        if strict:
            kex[0] += b",kex-strict-c-v00@openssh.com"
        if self.ctr:
            kex[2] = kex[3] = b"aes128-ctr"
        init = b"\x14" + os.urandom(16) + b"".join(ssh_string(x) for x in kex) + b"\0" + bytes(4)
        self.send(init)
        self.server_init = server_init = self.recv()
        for x in mid:
            self.send(x)
        key = X25519PrivateKey.generate()
        q = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.send(b"\x1e" + ssh_string(q))
        reply = self.recv()
        assert reply[0] == 31, reply
        host, rest = take(reply[1:])
        qs, rest = take(rest)
        k = key.exchange(X25519PublicKey.from_public_bytes(qs)).lstrip(b"\0")
        k = ssh_string((b"\0" if k[0] & 128 else b"") + k)
        h = hashlib.sha256(b"".join(ssh_string(x) for x in (self.mine, self.theirs, init, server_init, host, q, qs)) + k).digest()
        self.id = self.id or h
        derive = lambda c, n: hashlib.sha256(k + h + c + self.id).digest()[:n]
        self.send(b"\x15")
        assert self.recv()[0] == 21
        if resets:
            self.tx_seq = self.rx_seq = 0
        if self.ctr:
            stream = lambda a, b: Cipher(algorithms.AES(derive(a, 16)), modes.CTR(derive(b, 16)))
            self.tx = [stream(b"C", b"A").encryptor(), derive(b"E", 32)]
            self.rx = [stream(b"D", b"B").decryptor(), derive(b"F", 32)]
        else:
            self.tx = [AESGCM(derive(b"C", 16)), derive(b"A", 12)]
            self.rx = [AESGCM(derive(b"D", 16)), derive(b"B", 12)]

    def kex_lists(self):
        """The ten name-lists of the server's KEXINIT."""
        out, rest = [], self.server_init[17:]
        for _ in range(10):
            names, rest = take(rest)
            out.append(names.decode().split(","))
        return out

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

    def mac(self, key, seq, data):
        return hmac.new(key, struct.pack(">I", seq) + data, "sha256").digest()

    def seal(self, packet, length):
        if not self.tx:
            return length + packet
        if self.ctr:
            out = length + self.tx[0].update(packet)
            return out + self.mac(self.tx[1], self.tx_seq, out)
        return length + self.tx[0].encrypt(self.nonce(self.tx), packet, length)

    def send(self, payload):
        block, head = (16, 0) if self.tx else (8, 4)
        pad = block - (head + 1 + len(payload)) % block
        if pad < 4:
            pad += block
        packet = struct.pack(">B", pad) + payload + bytes(pad)
        data = self.seal(packet, struct.pack(">I", len(packet)))
        self.tx_seq += 1
        try:
            self.sock.sendall(data)
        except OSError as e:
            raise Closed(str(e)) from e

    def packet(self):
        length = self.exactly(4)
        n = struct.unpack(">I", length)[0]
        if not self.rx:
            out = self.exactly(n)
        elif self.ctr:
            body, tag = self.exactly(n), self.exactly(32)
            if tag != self.mac(self.rx[1], self.rx_seq, length + body):
                raise BadMac("packet %d of the server" % self.rx_seq)
            out = self.rx[0].update(body)
        else:
            out = self.rx[0].decrypt(self.nonce(self.rx), self.exactly(n + 16), length)
        self.rx_seq += 1
        return out

    def recv(self):
        """The next packet that is not IGNORE, DEBUG or EXT_INFO."""
        while True:
            packet = self.packet()
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
