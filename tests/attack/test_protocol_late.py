# SPDX-License-Identifier: Apache-2.0
"""Every SSH message in every state that comes after the login: no channel, a channel, one with a command at a target, after EOF,
after CLOSE, and in the middle of a further key exchange. (tests/attack/test_protocol.py has the states before.)

The oracle: the connection ends, or it goes on and answers as before; nothing is confirmed that was not asked for; no child of the
front, recorder or target leg dies by a signal. SP_PROTOCOL=all tries every body in every state.
"""
import os
import struct
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import test_protocol as base  # noqa: E402
from puppet import TOP, secret_of, ssh_string, totp  # noqa: E402
from rawssh import KEX, SUCCESS, Client, Closed, is_partial  # noqa: E402
from test_protocol import (ALL, CLOSE, DATA, EOF, GLOBAL, GLOBAL_FAIL, GLOBAL_OK, INFO_REQUEST, MESSAGES, OPEN_FAILED,  # noqa: E402
                           OPEN_OK, REQ_FAIL, REQ_OK, REQUEST, WINDOW, Chan, bodies, private)
sys.path.insert(0, TOP + "/tests/support")
from sp import main, wait_for  # noqa: E402

setUpModule, tearDownModule = base.setUpModule, base.tearDownModule
ROLES = ("ingress", "recorder", "egress")
LOGIN = "oscar+admin+core-01"
# A reply to each of our own questions, and what a server may say unasked.
EXPECTED = {WINDOW, DATA, 95, EOF, CLOSE, REQUEST, REQ_FAIL, GLOBAL, GLOBAL_OK, GLOBAL_FAIL, OPEN_FAILED, 3, 20, 31, 21}


def log_in(name):
    base.sp.fresh_code("oscar")
    c = Client(base.sp.port).begin()
    assert is_partial(c.key(name, private("oscar")))
    assert c.request(name, "keyboard-interactive", bytes(8))[0] == INFO_REQUEST
    assert c.code(totp(secret_of(base.sp, "oscar")))[0] == SUCCESS
    c.sock.settimeout(60)
    return c


class Line:
    """A connection on which states are made, for as long as it lives."""

    def __init__(self, name):
        self.c, self.next = log_in(name), 10
        self.allowed, self.asked, self.confirmed = set(), 0, 0

    def answers(self, *kinds):
        """The next packet of these kinds that is for the last channel; what is left of the ones before is skipped."""
        while True:
            p = self.c.recv()
            if p[0] in kinds and struct.unpack(">I", p[1:5])[0] == self.next:
                return p

    def channel(self):
        self.next += 1
        self.c.send(b"\x5a" + ssh_string("session") + struct.pack(">III", self.next, 1 << 20, 32768))
        ch = Open(self.c, struct.unpack(">I", self.answers(OPEN_OK)[5:9])[0])
        return ch

    def running(self):
        ch = self.channel()
        ch.request("exec", ssh_string("echo up; cat"))
        got = [self.answers(REQ_OK, DATA) for _ in range(2)]
        assert {p[0] for p in got} == {REQ_OK, DATA}, got
        return ch

    def ended(self):
        ch = self.running()
        self.c.send(bytes([EOF]) + struct.pack(">I", ch.peer))
        return ch

    def closed(self):
        ch = self.running()
        ch.close()
        ch.is_closed = True
        return ch

    def exchanging(self):
        ch = self.channel()
        self.c.send(b"\x14" + os.urandom(16) + b"".join(ssh_string(x) for x in KEX) + b"\0" + bytes(4))
        return ch


class Open(Chan):
    def __init__(self, c, peer):
        self.c, self.peer, self.is_closed = c, peer, False


# state: the login name, what makes it, and whether the connection can be used again behind it
STATES = {
    "logged_in": ("oscar", lambda line: None, True),
    "channel": ("oscar", Line.channel, True),
    "running": (LOGIN, Line.running, True),
    "after_eof": (LOGIN, Line.ended, True),
    "after_close": (LOGIN, Line.closed, True),
    "key_exchange": ("oscar", Line.exchanging, False),
}


def addressed(m, body, ch):
    """What is for a channel is for this one."""
    return struct.pack(">I", ch.peer) + body[4:] if ch is not None and 91 <= m <= 100 and len(body) >= 4 and body[:4] == bytes(4) else body


def may_confirm(m, body, ch):
    """What this message itself may be answered with, of that which opens something."""
    if m == 90 and body[4:11] == b"session":
        return {OPEN_OK}
    return {REQ_OK} if m == REQUEST and ch is not None and not ch.is_closed else set()


class Late(unittest.TestCase):
    def setUp(self):
        self.parents = {r: base.sp.pids(r)[0] for r in ROLES}

    def tearDown(self):
        for r in ROLES:
            wait_for(lambda: not base.sp.pids(r)[1], 120, "the end of the children of " + r)
            self.assertEqual(base.sp.pids(r)[0], self.parents[r], "a child of %s died by a signal" % r)
        wait_for(lambda: not [s for s in base.sp.sessions() if s["ended"] is None], 120, "the sessions' ends")
        self.assertEqual(base.sp.audit("child_died"), [])
        line = Line(LOGIN)
        line.running()
        line.c.close()

    def goes_on(self, line, allowed, what):
        """It answers a question; what comes beside that is nothing that was not asked for (an answer may be a message late)."""
        line.allowed |= allowed
        line.asked += bool(allowed)
        line.c.send(bytes([GLOBAL]) + ssh_string("keepalive@openssh.com") + b"\1")
        while True:
            p = line.c.recv()
            self.assertIn(p[0], EXPECTED | line.allowed, what)
            line.confirmed += p[0] in (OPEN_OK, REQ_OK)
            self.assertLessEqual(line.confirmed, line.asked, what)
            self.assertFalse(p[0] == GLOBAL_OK and len(p) > 1, what)        # a listener
            if p[0] in (GLOBAL_FAIL, GLOBAL_OK):
                return

    def run_state(self, state):
        name, make, again = STATES[state]
        line, tried, lived = None, 0, 0
        for m in MESSAGES if ALL or again else MESSAGES[::3]:       # a login for each
            for body in bodies(m) if ALL else bodies(m)[:1]:
                if line is None:
                    line = Line(name)
                try:
                    ch = make(line)
                except Closed:                              # what came before has ended it after all
                    line.c.close()
                    line = Line(name)
                    ch = make(line)
                body = addressed(m, body, ch)
                what = "%s: message %d, body %r" % (state, m, body[:40])
                tried += 1
                try:
                    line.c.send(bytes([m]) + body)
                    if again and m not in (1, 20):
                        self.goes_on(line, may_confirm(m, body, ch), what)
                        if ch is not None and not ch.is_closed:
                            ch.close()
                        lived += 1
                        if line.next < 50:
                            continue
                    else:
                        line.c.sock.shutdown(1)
                        while True:
                            self.assertIn(line.c.recv()[0], EXPECTED | may_confirm(m, body, ch), what)
                except Closed:
                    pass
                line.c.close()
                line = None
        if line is not None:
            line.c.close()
        print("%s: %d messages, %d of which the connection outlived" % (state, tried, lived), flush=True)
        return tried


def state_test(state):
    def test(self):
        self.assertGreaterEqual(self.run_state(state), len(MESSAGES) // 3)
    return test


for _state in STATES:
    setattr(Late, "test_" + _state, state_test(_state))


if __name__ == "__main__":
    main()
