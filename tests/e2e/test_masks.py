#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A checked-out password that somebody prints in her session: no view shows it, however it came onto the screen. In a session that it
was not leased to nobody is told what to look for, until it was shown to that person."""
import base64
import json
import os
import pty
import re
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import Instance, main, read_until, wait_for  # noqa: E402
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


class Search(unittest.TestCase):
    def found(self, words, *args):
        r = sp.ssh("carol", "bastion", "search", words, *args, "--json")
        self.assertEqual(r.code, 0, r)
        return {s: [x for x in r.json() if x["id"] == s] for s in (LEASED, OTHER)}

    def test_hits_are_covered(self):
        stars = "*" * len(PW)
        for lane, words in (("screen", "marker-one"), ("keys", "marker-one"), ("commands", "marker-one"), ("screen", "marker-two")):
            rows = self.found(words, "--lane", lane)
            for s in (LEASED, OTHER):
                self.assertTrue(rows[s], (lane, words, s))
            self.assertNotIn(PW, json.dumps(rows[LEASED]), lane)
            self.assertIn(PW, json.dumps(rows[OTHER]), lane) if words == "marker-one" else None
            self.assertIn(stars, json.dumps(rows[LEASED]), lane) if words == "marker-one" else None
        # written for people, too
        text = sp.ssh("carol", "bastion", "search", "marker-one", "--target", "core-01").text
        self.assertIn(stars, text)

    def test_who_looks_for_it_does_not_find_it(self):
        for words in (PW, PW[2:12]):
            for args in ((), ("--lane", "keys"), ("--regex",)):
                rows = self.found(words if "--regex" not in args else "'%s'" % words, *args)
                self.assertTrue(rows[OTHER], (words, args))
                kept = [x["text"] for x in rows[LEASED] if PW in x["text"] or words == PW]
                self.assertEqual(kept, [], args)


class Live(unittest.TestCase):
    def test_in_two_pieces_and_gone_at_once(self):
        """Its end comes with so many lines that it never stands on a screen that somebody looks at."""
        before = {s["id"] for s in sp.sessions()}
        t = Terminal(sp.ssh_argv("alice", ["-tt", "legacy@core-01"], mux=False), sp.ssh_env("alice"))
        t.until(PROMPT)
        s = [x["id"] for x in sp.sessions() if x["id"] not in before][0]
        w = sp.ssh_start("carol", "bastion", "watch", s)
        read_until(w.stdout, rb"\$", 60)
        t.type("printf '%%s' '%s'; sleep 0.5; printf '%s%%s\\n' \"$(yes '' | head -60; echo x)\"; echo marker-live\r" % (PW[:9], PW[9:]),
               rb"\nmarker-live")
        got = read_until(w.stdout, rb"\nmarker-live", 60)
        self.assertIn(b"\n" + b"*" * len(PW) + b"\n", got)
        self.assertNotIn(PW.encode(), got)
        t.type("exit\r", rb"<gone>|closed")
        t.close()
        w.communicate(timeout=60)


class Shown(unittest.TestCase):
    """`secret reveal`: she may have typed it anywhere since, and before (it is the same one)."""

    def on_the_host(self, number):
        argv = [sp.dir + "/opt/bin/sallyport", "-D", sp.dir, "secret", "reveal", str(number)]
        pid, fd = pty.fork()
        if pid == 0:
            os.execve(argv[0], argv, sp.env())
        out = b""
        try:
            while piece := os.read(fd, 65536):
                out += piece
        except OSError:
            pass
        os.close(fd)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), out.decode("utf-8", "replace")

    def test_in_all_her_sessions(self):
        before = dict(views(OTHER))
        self.assertIn(PW, before["text"])
        sp.add_person("dana", "approvers")
        sp.fresh_code("dana")
        r = sp.ssh("alice", "bastion", "secret", "reveal", "legacy@core-01", "--reason", "why", "--json")
        self.assertEqual(r.code, 0, r)
        number = r.json()["id"]
        for who in ("bob", "dana"):
            r = sp.ssh(who, "bastion", "approve", str(number))
            self.assertEqual(r.code, 0, r)
        code, out = self.on_the_host(number)
        self.assertEqual(code, 0, out)
        self.assertIn(PW, out.split())
        after = dict(views(OTHER))
        for name, text in after.items():
            self.assertNotIn(PW, text, name)
        for name in ("asciicast", "text", "html", "records in", "records out"):
            self.assertIn("*" * len(PW), after[name], name)
            self.assertIn("marker-one", after[name], name)
        r = sp.ssh("carol", "bastion", "search", "marker-one", "--json")
        self.assertTrue([x for x in r.json() if x["id"] == OTHER], r)
        self.assertNotIn(PW, r.text)


if __name__ == "__main__":
    main()
