# SPDX-License-Identifier: Apache-2.0
"""The matrix: every client that people use, unmodified, from Debian; each with its own way to the second factor. All cells
share one instance, and at the end every session of theirs must be in a recording that verifies.

  test_clients.py --table   prints the matrix as it stands in doc/clients.md"""
import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE) + "/support", HERE]
from clients import fixture, openssh, others, people, python_ssh, tools  # noqa: E402
from sp import TOP, main, wait_for  # noqa: E402

MODULES = [openssh, others, python_ssh, tools, people]


class Evidence(unittest.TestCase):
    """Runs last."""
    def test_every_session_is_recorded_and_verifies(self):
        sp = fixture.sp
        wait_for(lambda: not [s for s in sp.sessions() if s["state"] == "running"], 60, "the end of every session")
        sessions = sp.sessions()
        self.assertGreater(len(sessions), len(fixture.MATRIX) // 2)
        # what the targets' own logs count is what we list: nobody got there by another way
        self.assertEqual(len(sessions), fixture.logins_at_targets())
        for s in sessions:
            path = "%s/recordings/%s.spr" % (sp.dir, s["id"])
            wait_for(lambda: os.path.exists(path), 60, "the closed recording")
        r = sp.host("verify", "--all", timeout=300)
        self.assertEqual(r.code, 0, r)
        self.assertIn("%d recordings (%d intact, 0 recovered, 0 without an end)" % (len(sessions), len(sessions)), r.text)

    def test_table_of_the_manual(self):
        with open(TOP + "/doc/clients.md") as f:
            self.assertTrue(fixture.table() in f.read(), "doc/clients.md is not what test_clients.py --table prints")


def load_tests(loader, tests, pattern):
    suite = unittest.TestSuite()
    for m in MODULES:
        suite.addTests(loader.loadTestsFromModule(m))
    suite.addTests(loader.loadTestsFromTestCase(Evidence))
    return suite


if __name__ == "__main__":
    if sys.argv[1:] == ["--table"]:
        print(fixture.table())
        sys.exit()
    try:
        fixture.begin()
        main()
    finally:
        fixture.end()
