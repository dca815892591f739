#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""No file of vault/ can compare bytes by memcmp or strcmp: the build refuses it.

Every .c file of vault/ includes vault/poison.h, last of all, so that no header
after it can bring the name back; that holds for what the check itself makes
up: a file that avoids the header, one that includes another after it, and one
that is poisoned and uses the name, which the compiler must refuse.
"""
import os
import re
import subprocess
import sys
import tempfile

INCLUDE = re.compile(r'(?m)^[ \t]*#[ \t]*include[ \t]*["<]([^">]+)[">]')
POISON = "vault/poison.h"


def fault(text):
    """Why this source file may not be in vault/, or None."""
    names = INCLUDE.findall(text)
    if POISON not in names:
        return "does not include " + POISON
    if names[-1] != POISON or names.count(POISON) != 1:
        return "includes something after " + POISON
    before = text[:text.index('"%s"' % POISON)]
    code = re.sub(r"/\*.*?\*/|//[^\n]*", " ", before, flags=re.S)
    code = re.sub(r"(?m)^[ \t]*#[^\n]*$", " ", code)
    if re.search(r"[;{]", code):
        return "has code before " + POISON
    return None


def compiles(top, text):
    with tempfile.TemporaryDirectory() as d:
        with open(d + "/x.c", "w", encoding="utf-8") as f:
            f.write(text)
        cc = os.environ.get("CC", "cc").split()
        return subprocess.run(cc + ["-std=gnu17", "-I", top, "-c", "-o", d + "/x.o", d + "/x.c"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def main():
    top = os.environ.get("top_srcdir") or os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    wrong = []
    files = sorted(os.path.join(where, n) for where, _, names in os.walk(os.path.join(top, "vault"))
                   for n in names if n.endswith((".c", ".h")))
    sources = [f for f in files if f.endswith(".c")]
    for path in files:
        with open(path, encoding="utf-8") as f:
            text = f.read()
        why = fault(text) if path.endswith(".c") else None
        # A header with code is included before the ban: it must not need it.
        if path.endswith(".h") and not path.endswith("poison.h") and re.search(r"\b(memcmp|strcmp)\s*\(", text):
            why = "compares in a header"
        if why:
            wrong.append("%s %s" % (os.path.relpath(path, top), why))

    use = "int f(const char *a, const char *b)\n{\n\treturn %s(a, b%s) == 0;\n}\n"
    head = '#include <string.h>\n#include "vault/poison.h"\n'
    for name, more in (("memcmp", ", 3"), ("strcmp", "")):
        bad = head + use % (name, more)
        if compiles(top, bad):
            wrong.append("the compiler takes %s in vault/" % name)
        if not compiles(top, bad.replace('#include "vault/poison.h"\n', "")):
            wrong.append("the probe itself does not compile")
    for made_up in ("#include <string.h>\nint x;\n",
                    '#include "vault/poison.h"\n#include <string.h>\nint x;\n',
                    '#include <string.h>\nstatic int f(void) { return memcmp("a", "b", 1); }\n#include "vault/poison.h"\n'):
        if fault(made_up) is None:
            wrong.append("this check would not find: %r" % made_up)
    if len(sources) < 20:
        wrong.append("only %d sources were seen: is this the tree?" % len(sources))
    for w in wrong:
        print("FAIL", w)
    print("%d sources of vault/ are poisoned" % len(sources))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
