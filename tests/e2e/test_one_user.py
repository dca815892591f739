# SPDX-License-Identifier: Apache-2.0
"""The whole demonstration as an ordinary user, without root and without sudo: ./quickstart, the tour, a second run, stop.

As root the test makes such a user for itself: a mount and process namespace in which /etc/passwd knows one more name.
Nothing of that is seen outside, and nothing outlives it."""
import os
import re
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/support")
from sp import TOP, free_port, main, scratch  # noqa: E402

BUILD = os.environ.get("SALLYPORT_BUILD", TOP + "/build")
UID = 61900

SCRIPT = r"""
set -e
mount --make-rprivate /
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/group" /etc/group
exec setpriv --reuid=%d --regid=%d --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs \
    env -i HOME="$1/home" PATH=/usr/local/bin:/usr/bin:/bin LC_ALL=C.UTF-8 USER=spordinary SALLYPORT_BUILD="$2" sh -c '
    cd "$HOME"; echo "uid $(id -u)"; %s'
"""


def why_not():
    """Why it cannot be tried here; None if it can."""
    if os.getuid() != 0:
        return None
    r = subprocess.run(["unshare", "-m", "-p", "-f", "setpriv", "--reuid=%d" % UID, "--regid=%d" % UID, "--clear-groups",
                        "test", "-r", TOP + "/quickstart", "-a", "-x", BUILD + "/sallyport"],
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if r.returncode == 0:
        return None
    return "cannot drop privileges here, or the tree is closed to others: " + r.stdout.decode().strip()


class OneUser(unittest.TestCase):
    def setUp(self):
        reason = why_not()
        if reason:
            print("SKIP one_user: " + reason, flush=True)
            self.skipTest(reason)
        self.base = scratch("sp-e2e-")
        self.addCleanup(shutil.rmtree, self.base, ignore_errors=True)
        os.chmod(self.base, 0o755)
        os.mkdir(self.base + "/home")
        if os.getuid() == 0:
            os.chown(self.base + "/home", UID, UID)
            for name, line in (("passwd", "spordinary:x:%d:%d::%s/home:/bin/sh\n" % (UID, UID, self.base)),
                               ("group", "spordinary:x:%d:\n" % UID)):
                with open("/etc/" + name) as f, open("%s/%s" % (self.base, name), "w") as g:
                    g.write(f.read() + line)
                os.chmod("%s/%s" % (self.base, name), 0o644)

    def run_as(self, commands):
        if os.getuid() == 0:
            argv = ["unshare", "-m", "-p", "-f", "--kill-child", "--mount-proc", "bash", "-c",
                    SCRIPT % (UID, UID, commands.replace("'", "'\\''")), "one_user", self.base, BUILD]
        else:
            argv = ["sh", "-c", "cd %s/home; echo uid $(id -u); %s" % (self.base, commands)]
        p = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=400)
        return p.returncode, p.stdout.decode("utf-8", "replace")

    def test_the_tour(self):
        d = self.base + "/home/demo"
        q = "%s/quickstart" % TOP
        rc, out = self.run_as(
            "{q} --no-install --dir {d} --port {p} || exit 9; echo === second; {q} --no-install --dir {d} --no-tour || exit 8;"
            "echo === doctor; {d}/opt/bin/sallyport -D {d} doctor; echo doctor $?; echo === status; {q} status --dir {d} || exit 7;"
            "echo === stop; {q} stop --dir {d} || exit 6; echo === end; ! ps -e -o comm= | grep sallyport".format(
                q=q, d=d, p=free_port()))
        self.assertEqual(rc, 0, out[-6000:])
        if os.getuid() == 0:
            self.assertIn("uid %d\n" % UID, out)
        tour, second, doctor, status, stop, _ = re.split(r"=== \w+\n", out)
        self.assertIn("one user for every process", tour)             # it says what that weakens
        self.assertIn("That was the main job.", tour)
        self.assertRegex(tour, r"(?m)^    legacy$")
        self.assertIn("INTACT", tour)
        self.assertIn("(reason: quarterly patch, 季度更新)", tour)      # as it was typed, on the terminal of who waits
        self.assertIn("already there", second)
        self.assertIn("doctor 0", doctor)
        self.assertRegex(doctor, r"(?m)^warn +users")
        self.assertIn("one user", status)
        self.assertIn("stopped", stop)


if __name__ == "__main__":
    main()
