#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What tests left behind: left.py LIST writes what there is now, left.py LIST check fails with what is new since. What a process
still uses is somebody else's: another run of the tests on the same machine."""
import glob
import os
import sys

OURS = ("/tmp/sp-*", "/tmp/sp.*", "/tmp/spo.*", "/tmp/spg.*", "/tmp/sallyport*", "/var/tmp/sp-*", "/var/tmp/sp.*", "/var/tmp/sallyport*")


def there():
    """A quickstart that failed keeps its log, and says so."""
    return {p for pattern in OURS for p in glob.glob(pattern)} - set(glob.glob("/tmp/sallyport-quickstart.*.log"))


def used_by(pid):
    """Paths that a process stands in, runs, has open, or was told of."""
    d, found = "/proc/%s/" % pid, []
    try:
        links = [d + "cwd", d + "exe", d + "root"] + [d + "fd/" + n for n in os.listdir(d + "fd")]
        with open(d + "cmdline", "rb") as f:
            found += f.read().decode("utf-8", "replace").replace("=", "\0").split("\0")
    except OSError:
        return found
    for link in links:
        try:
            found.append(os.readlink(link))
        except OSError:
            pass
    return found


def main():
    if len(sys.argv) == 2:
        with open(sys.argv[1], "w") as f:
            f.write("\n".join(sorted(there())))
        return 0
    with open(sys.argv[1]) as f:
        new = there() - set(f.read().split("\n"))
    if new:
        used = [p for pid in filter(str.isdigit, os.listdir("/proc")) if int(pid) != os.getpid() for p in used_by(pid)]
        new = {n for n in new if os.path.lexists(n) and not any(n in u for u in used)}
    for n in sorted(new):
        print("left behind: " + n)
    return 1 if new else 0


if __name__ == "__main__":
    sys.exit(main())
