#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The manual pages say what the programs do.

Every verb of the broker's and the CLI's tables is in sallyport(1) with its
options, every setting of SP_CONFIG_TABLE in sallyport.conf(5) with its default
and range; the examples of sallyport-policy(5) pass the real parser, the
messages under DIAGNOSTICS of sallyportd(8) exist, and mandoc has nothing to
complain about.
"""
import os
import re
import shutil
import subprocess
import sys

PAGES = ("sallyport.1", "sallyport-kit.1", "sallyport-verify.1", "sallyport.conf.5", "sallyport-policy.5", "sallyport-inventory.5",
         "sallyport-recording.5", "sallyportd.8", "pam_sallyport.8")
failures = []


def fail(text):
    failures.append(text)
    print("FAIL", text)


def read(top, path):
    with open(os.path.join(top, path), encoding="utf-8") as f:
        return f.read()


def items(page, macro="Cm"):
    """[(words after the macro, the whole item)] of an mdoc page."""
    found = []
    for block in re.split(r"(?m)^(?=\.It )", page)[1:]:
        head = block.split("\n", 1)[0]
        m = re.match(rf"\.It {macro} (.*)", head)
        if m:
            found.append((m.group(1), block))
    return found


def strings(code):
    """C's adjacent string literals as one."""
    return re.sub(r'"\s*\n\s*"', "", code)


def broker_verbs(top):
    code = strings(read(top, "bastion/broker/verb.c"))
    code = code[code.index("sp_verbs[] = {"):code.index("sp_verbs_n")]
    rows = []
    for m in re.finditer(r"(?s)\n\t(ROW|PLAY|VIEW|READ|TAKE|PIPE)\((.*?)\),(?=\n(?:\t(?:ROW|PLAY|VIEW|READ|TAKE|PIPE)|\};))",
                         code):
        kind, body = m.groups()
        if body.rstrip().endswith("NULL"):
            continue                   # not for people
        words = re.findall(r'"((?:[^"\\]|\\.)*)"|\b(NULL)\b', body)
        texts = [a if not b else None for a, b in words]
        name, sub = texts[0], None if kind == "PLAY" else texts[1]
        opts = "quiet" if kind == "READ" else texts[1 if kind == "PLAY" else 2]
        rows.append((name + (f" {sub}" if sub else ""), opts.split()))
    if len(rows) < 40:
        fail(f"only {len(rows)} verbs could be read out of verb.c: mend man.py")
    return rows


def check_verbs(top, page):
    listed = items(page)
    verbs = broker_verbs(top)
    for verb, opts in verbs:
        mine = [b for head, b in listed
                if re.match(re.escape(verb) + r"( [A-Z][a-z] | Ar|$)", head + " ")
                or head == verb]
        if not mine:
            fail(f"sallyport.1 lacks the verb: {verb}")
        for o in opts:
            name = o.rstrip("=")
            # filled in by the program on the host, from --password-stdin and --key-file
            if name in ("secret-id", "secret-version", "sealed"):
                continue
            if not any(re.search(rf"Fl -{re.escape(name)}\b", b) for b in mine):
                fail(f"sallyport.1: {verb} lacks --{name}")
    code = read(top, "bastion/cli/main.c")
    commands = re.findall(r'\{"([\w-]+)", sp_cmd_\w+, ?((?:\s*"[^"]*")+)', code)
    if len(commands) < 6:
        fail("the commands could not be read out of main.c: mend man.py")
    for name, usage in commands:
        mine = "".join(b for head, b in listed
                       if re.match(re.escape(name) + r"\b(?!-)", head))
        if not mine:
            fail(f"sallyport.1 lacks the command: {name}")
        for o in re.findall(r"--([\w-]+)", usage):
            if f"-{o}" not in mine and o != "json":
                fail(f"sallyport.1: {name} lacks --{o}")
    for known in [head.split()[0] for head, _ in listed]:
        if known not in {v.split()[0] for v, _ in verbs} | {c for c, _ in commands}:
            fail(f"sallyport.1 knows a verb that is not there: {known}")


def check_settings(top, page):
    table = strings(read(top, "common/config.h"))
    rows = re.findall(r'\bX\((text|number|words|list), (\w+), "([^"]*)", (\d+), (\d+),', table)
    if len(rows) < 15:
        fail("the settings could not be read out of config.h: mend man.py")
    listed = {head.split()[0]: block for head, block in items(page)}
    for kind, name, default, low, high in rows:
        block = listed.pop(name, None)
        if block is None:
            fail(f"sallyport.conf.5 lacks {name}")
            continue
        text = block.replace("\n.Li ", " ").replace(" .\n", ".\n")
        want = f"Default: {default}" if default else "Default: empty"
        if kind == "number":
            want += f"; from {low} to {high}"
        if want not in text:
            fail(f"sallyport.conf.5: {name} should say \"{want}\"")
    for name in listed:
        fail(f"sallyport.conf.5 has a setting that is not there: {name}")


def literal(page):
    return [b.replace("\\e", "\\").replace("\\&", "") for b in
            re.findall(r"(?ms)^\.Bd -literal[^\n]*\n(.*?)^\.Ed", page)]


def check_policies(page, builddir):
    parser = os.path.join(builddir, "tests/policy/parse")
    examples = literal(page)
    if len(examples) < 3:
        fail("sallyport-policy.5 has lost its examples")
    for text in examples:
        r = subprocess.run([parser], input=text.encode(), capture_output=True)
        if r.returncode != 0:
            fail(f"sallyport-policy.5: {r.stdout.decode().strip()} in:\n{text}")


def check_diagnostics(top, page):
    """What stands under DIAGNOSTICS of sallyportd(8) is said by it."""
    code = "".join(strings(read(top, f"bastion/supervisor/{f}"))
                   for f in ("instance.c", "bind.c"))
    part = page[page.index(".Sh DIAGNOSTICS"):]
    for text in re.findall(r'^\.It "(.*)"$', part, re.M):
        if f'"{text}' not in code:
            fail(f"sallyportd.8: nobody says: {text}")


def check_verify(top, page):
    """Each option of the verifier, and those of `collect` nowhere: that is the bastion's own."""
    for f in ("file", "all", "prove", "bundle"):
        for o in re.findall(r'(?:option|flag)\(&argc, argv, "--([\w-]+)"', read(top, f"bastion/verify/{f}.c")):
            if not re.search(rf"Fl -{re.escape(o)}\b", page):
                fail(f"sallyport-verify.1 lacks --{o} of {f}.c")


def check_references(pages):
    own = {p.rsplit(".", 1)[0] for p in PAGES}
    for name, page in pages.items():
        for other in re.findall(r"^\.Xr (\S+) \d", page, re.M):
            if re.match(r"(sallyport|pam_sallyport)", other) and other not in own:
                fail(f"{name} refers to {other}, which has no page")


def main():
    top = sys.argv[1] if len(sys.argv) > 1 else os.environ["top_srcdir"]
    builddir = sys.argv[2] if len(sys.argv) > 2 else os.environ["top_builddir"]
    pages = {p: read(top, f"man/{p}") for p in PAGES}

    check_verbs(top, pages["sallyport.1"])
    check_verify(top, pages["sallyport-verify.1"])
    check_settings(top, pages["sallyport.conf.5"])
    check_policies(pages["sallyport-policy.5"], builddir)
    check_diagnostics(top, pages["sallyportd.8"])
    check_references(pages)
    skipped = shutil.which("mandoc") is None
    for p in () if skipped else PAGES:
        r = subprocess.run(["mandoc", "-T", "lint", "-W", "warning",
                            os.path.join(top, "man", p)], capture_output=True, text=True)
        if r.returncode != 0 or r.stdout:
            fail(f"mandoc: {r.stdout}{r.stderr}")
    print(f"{len(PAGES)} pages, {len(failures)} complaints")
    if not failures and skipped:
        print("SKIP: mandoc is not there (apt-get install mandoc)")
        return 77
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
