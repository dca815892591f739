#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A checked-out password that somebody prints in her session: no view shows it, however it came onto the screen. In a session that it
was not leased to nobody is told what to look for, until it was shown to that person."""
import base64
import json
import os
import re
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance, main, wait_for  # noqa: E402
from test_export import PROMPT, Terminal  # noqa: E402


def session(account):
    before = {s["id"] for s in sp.sessions()}
    t = Terminal(sp.ssh_argv("alice", ["-tt", account], mux=False), sp.ssh_env("alice"))
    t.until(PROMPT)
    t.type("echo %s marker-one\r" % PW)                                       # echoed a letter at a time, then all of it
    t.type("printf '%%s' '%s'; sleep 0.2; echo '%s' marker-two\r" % (PW[:9], PW[9:]))   # in two pieces
    t.type("printf '\\033[2J\\033[4;75H%%s\\r\\n' '%s'; echo marker-three\r" % PW)       # over the right margin
    t.type("printf '\\033[9;30H%%s\\033[9;21H%%s\\r\\n\\n' '%s' '%s'; echo marker-four\r" % (PW[9:], PW[:9]))  # its end first
    t.type("exit\r", rb"<gone>|closed")
    t.close()
    return wait_for(lambda: [s for s in sp.sessions() if s["ended"] and s["id"] not in before], 60, "its end")[0]["id"]


def setUpModule():
    global sp, PW, LEASED, OTHER
    sp = Instance()
    with open(sp.dir + "/target/legacy.password") as f:
        PW = f.read().strip()
    assert len(PW) > 18, PW
    sp.grant()
    sp.grant(account="legacy@core-01")
    LEASED, OTHER = session("legacy@core-01"), session("admin@core-01")


def tearDownModule():
    sp.close()


def views(s):
    """All that carol can have of a session: name and text, with JSON and base64 opened."""
    for f in ("asciicast", "asciicast-v3", "text", "html", "commands-csv", "commands-json"):
        more = ["--keys"] if f.startswith("asciicast") else []
        r = sp.ssh("carol", "bastion", "export", s, "--format", f, *more)
        assert r.code == 0, r
        text = r.out.decode()
        if more:
            events = [json.loads(x) for x in text.split("\n")[1:-1]]
            text += "".join(e[2] for e in events if e[1] == "o") + "\n" + "".join(e[2] for e in events if e[1] == "i")
        yield f, text
    r = sp.ssh("carol", "bastion", "export", s, "--format", "records")
    assert r.code == 0, r
    data = [json.loads(x) for x in r.out.decode().split("\n")[:-1]]
    for kind in ("in", "out"):
        yield "records " + kind, b"".join(base64.b64decode(x["data"]) for x in data if x["kind"] == kind).decode(errors="replace")
    yield "records other", r.text + "\n".join(base64.b64decode(x["data"]).decode(errors="replace") for x in data if x["kind"] not in ("in", "out"))
    for args in (["replay", s], ["sessions", "show", s], ["sessions", "show", s, "--json"]):
        r = sp.ssh("carol", "bastion", *args)
        assert r.code == 0, r
        yield " ".join(args[:2]), r.text


class Masks(unittest.TestCase):
    def test_leased(self):
        for name, text in views(LEASED):
            self.assertNotIn(PW, text, name)
            self.assertNotIn(PW, re.sub(r"\s", "", text) if name in ("text", "replay " + LEASED) else "", name)
            if "commands" not in name and "records" not in name and "sessions" not in name:
                self.assertIn("marker-four", text, name)
        with_stars = dict(views(LEASED))
        stars = "*" * len(PW)
        for name in ("asciicast", "text", "html", "records in", "records out", "commands-json"):
            self.assertIn(stars, with_stars[name], name)
            self.assertIn("marker-one", with_stars[name], name)
        # what stood on the screen in the end was covered there
        self.assertRegex(with_stars["text"], r"\n {20}\*{%d}\n" % len(PW))
        self.assertRegex(with_stars["html"], r'\["r",".{20}\*{%d}"' % len(PW))

    def test_not_leased_to_that_session(self):
        seen = dict(views(OTHER))
        for name in ("asciicast", "text", "html", "records in", "records out"):
            self.assertIn(PW, seen[name], name)

    def test_what_the_player_is_given_is_no_password(self):
        """Nothing of it in logs, in the audit, in the database."""
        self.assertNotIn(PW, sp.log())
        self.assertNotIn(PW, json.dumps(sp.audit()))


if __name__ == "__main__":
    main()
