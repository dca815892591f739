# SPDX-License-Identifier: Apache-2.0
"""The algorithms of the front: only those of doc/ssh-front.md, nothing that ssh-audit minds unless that page says why, strict
key exchange (Terrapin, CVE-2023-48795), and post-quantum exchange as far as libssh has it."""
import json
import os
import re
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from puppet import TOP, ssh_string  # noqa: E402
from rawssh import FAILURE, BadMac, Client, Closed  # noqa: E402
sys.path.insert(0, TOP + "/tests/support")
from sp import Instance, main  # noqa: E402

IGNORE, DEBUG, UNIMPLEMENTED = b"\x02" + ssh_string(b"x" * 20), b"\x04\0" + ssh_string("") * 2, b"\x03" + bytes(4)


def setUpModule():
    global sp, page
    sp = Instance()
    with open(TOP + "/doc/ssh-front.md", encoding="utf-8") as f:
        page = f.read()


def tearDownModule():
    sp.close()


def rows(heading):
    part = page.split(heading, 1)[1].split("\n## ", 1)[0]
    found = [[c.strip() for c in line.strip("|").split("|")] for line in part.split("\n") if line.startswith("|")]
    return found[2:] if len(found) > 2 else []


def works(**kw):
    """Does a login request get its answer over this connection?"""
    try:
        c = Client(sp.port, **kw).begin()
    except (Closed, BadMac):
        return False
    try:
        return c.request("alice", "none")[0] == FAILURE
    except (Closed, BadMac):
        return False
    finally:
        c.close()


class Algorithms(unittest.TestCase):
    def offered(self):
        c = Client(sp.port)
        self.addCleanup(c.close)
        return c.kex_lists()

    def test_the_page_says_what_is_offered(self):
        lists = self.offered()
        for kind, which in (("key exchange", [0]), ("host key", [1]), ("cipher", [2, 3]), ("MAC", [4, 5]), ("compression", [6, 7])):
            told = [a.strip() for r in rows("## Algorithms") if r[0] == kind for a in r[1].split(",")]
            self.assertTrue(told, kind)
            if kind == "key exchange" and not any("mlkem" in a for a in lists[0]):
                told = [a for a in told if not a.startswith(("mlkem", "sntrup"))]
            for i in which:
                self.assertEqual(lists[i], told, kind)
        self.assertTrue(lists[2][0].startswith("aes") and "gcm" in lists[2][0])

    def test_nothing_old(self):
        for a in (x for names in self.offered() for x in names):
            self.assertIsNone(re.search(r"sha1|md5|cbc|arcfour|dss|nistp|group1-|group14|group-exchange|ssh-rsa$|hmac-sha2-\d+$|3des|zlib", a), a)

    def test_ssh_audit(self):
        run = subprocess.run(["ssh-audit", "-n", "-l", "info", "-p", str(sp.port), "127.0.0.1"], stdout=subprocess.PIPE, timeout=60, text=True)
        seen = [m.groups() for m in re.finditer(r"(?m)^\((?:kex|key|enc|mac)\) (\S+).*?-- \[(\w+)\] (.*)$", run.stdout)]
        seen += [("", m.group(1), m.group(2)) for m in re.finditer(r"(?m)^ +`- \[(\w+)\] (.*)$", run.stdout)]
        self.assertGreater(len(seen), 8, run.stdout)
        self.assertEqual([s for s in seen if s[1] == "fail"], [], run.stdout)
        warned = sorted("%s: %s" % (name, text) for name, grade, text in seen if grade == "warn")
        excused = sorted(r[0].strip("`") for r in rows("## What ssh-audit says"))
        self.assertTrue(all(len(r) == 2 and r[1] for r in rows("## What ssh-audit says")))
        self.assertEqual(warned, excused, run.stdout)

    def test_doctor_tells_about_post_quantum(self):
        got = [c for c in sp.host("doctor", "--json").json() if c["check"] == "ssh"]
        self.assertEqual(len(got), 1, got)
        has = any(a.startswith(("mlkem", "sntrup")) for a in self.offered()[0])
        self.assertEqual(got[0]["state"], "ok" if has else "warn", got)
        self.assertIn("post-quantum", got[0]["text"])
        version = subprocess.run(["pkg-config", "--modversion", "libssh"], stdout=subprocess.PIPE, text=True).stdout.split(".")
        if not os.environ.get("SALLYPORT_OTHER_LIBSSH"):
            self.assertEqual(has, [int(v) for v in version[:2]] >= [0, 12])


class Strict(unittest.TestCase):
    """The control without the marker shows that it is the marker that makes the difference."""

    def test_a_packet_before_newkeys(self):
        for name, packet in (("ignore", IGNORE), ("debug", DEBUG), ("unimplemented", UNIMPLEMENTED)):
            for cipher in ("gcm", "ctr"):
                with self.subTest(packet=name, cipher=cipher):
                    self.assertTrue(works(cipher=cipher, mid=[packet]), "RFC 4253 allows it")
                    self.assertFalse(works(cipher=cipher, mid=[packet], strict=True))

    def test_a_packet_before_kexinit(self):
        for packet in (IGNORE, DEBUG):
            self.assertTrue(works(early=[packet]))
            self.assertFalse(works(early=[packet], strict=True))

    def test_the_sequence_begins_anew(self):
        """Sealed with MACs over the sequence number, each side shows what it counts."""
        self.assertTrue(works(cipher="ctr", strict=True))
        self.assertFalse(works(cipher="ctr", strict=True, resets=False))
        self.assertTrue(works(cipher="ctr", strict=False))
        self.assertFalse(works(cipher="ctr", strict=False, resets=True))


if __name__ == "__main__":
    main()
