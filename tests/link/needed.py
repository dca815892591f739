#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Compares what each built binary needs with tests/link/allowed.txt.

A library more in a process is code more in its trust domain: anything that the
table does not name is a failure, and so is a binary that the table does not
know. Also checked: position independence, full RELRO, bindings at start, a
stack that is not executable, and calls that must not be imported. A binary of
the table that no Makefile list names yet is a SKIP (exit 77).
"""
import os
import re
import subprocess
import sys

ALWAYS = {"libc.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}


def run(*argv):
    env = dict(os.environ, LC_ALL="C")
    return subprocess.run(argv, check=True, capture_output=True, text=True,
                          env=env).stdout


def read_table(path):
    table = {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            words = line.split("#")[0].split()
            if words:
                table[words[0]] = (
                    {w for w in words[1:] if not w.startswith("-")},
                    {w[1:] for w in words[1:] if w.startswith("-")})
    return table


def built(top):
    """name -> path of what the Makefile's lists say is built."""
    found = {}
    for word in os.environ.get("SP_PROGRAMS", "").split():
        name = os.path.basename(word)
        if name.endswith(".la"):
            name = name[:-3] + ".so"
            word = os.path.join(os.path.dirname(word), ".libs", name)
        found[name] = os.path.join(top, word)
    return found


def check(path, libraries, never, wrong):
    dynamic = run("readelf", "-dW", path)
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic))
    if any(n.startswith(("libasan", "libubsan")) for n in needed):
        return "sanitizers"
    for n in sorted(needed - libraries - ALWAYS):
        wrong(f"needs {n}, which the table does not allow")
    imported = {line.split()[-1].split("@")[0] for line in
                run("nm", "-D", "--undefined-only", path).splitlines() if line}
    for n in sorted(imported & never):
        wrong(f"imports {n}(), which it must never call")
    headers = run("readelf", "-hlW", path)
    if not re.search(r"Type:\s+DYN", headers):
        wrong("is not position independent")
    if "GNU_RELRO" not in headers:
        wrong("has no RELRO segment")
    if not re.search(r"\(FLAGS(_1)?\).*\bNOW\b|BIND_NOW", dynamic):
        wrong("binds lazily: -z now is missing")
    if not re.search(r"GNU_STACK.*\bRW\b", headers):
        wrong("has an executable stack")
    return "ok"


def main():
    here = os.environ["top_srcdir"]
    top = os.environ["top_builddir"]
    table = read_table(os.path.join(here, "tests", "link", "allowed.txt"))
    everybody = table.pop("*", (set(), set()))
    found = built(top)
    bad = []
    skipped = [n for n in table if n not in found]

    for name, path in sorted(found.items()):
        def wrong(text, name=name):
            bad.append(name)
            print(f"FAIL {name}: {text}")
        if name not in table:
            wrong("is built, but tests/link/allowed.txt does not know it")
        elif not os.path.exists(path):
            wrong(f"is in a list of the Makefile, but not at {path}")
        else:
            libraries, never = table[name]
            result = check(path, libraries, never | everybody[1], wrong)
            if result == "sanitizers":
                print("SKIP: a build with sanitizers needs their libraries")
                return 77
    for name in skipped:
        print(f"SKIP {name}: no list of the Makefile names it yet")
    print(f"{len(found)} binaries, {len(bad)} complaints, {len(skipped)} not built")
    return 1 if bad else 77 if skipped else 0


if __name__ == "__main__":
    sys.exit(main())
