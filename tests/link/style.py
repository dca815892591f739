#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a reader of the code may rely on.

Reports functions over 50 and files over 600 lines, and fails above 100 and
1000 (2000 in a table). Fails on banned calls, on marks of unfinished work, on a missing SPDX
line, on paths of one machine, and on an #include from another room.
"""
import os
import re
import sys

ROOMS = ("common", "policy", "vault", "recorder", "bastion", "pam_module",
         "sql", "tests", "doc", "man", "demo", ".ci")
ROOT_FILES = ("configure.ac", "Makefile.am", "quickstart", "check", "README.md")
SKIP_DIRS = {"corpus", ".libs", ".deps", "__pycache__"}
GENERATED = {"policy/grammar.c", "policy/grammar.h", "policy/scan.c"}
CODE = (".c", ".h", ".y", ".l")
WANT_SPDX = CODE + (".py", ".sh", ".am", ".ac", ".sql", ".1", ".5", ".7", ".8")

FUNCTION_REPORT, FUNCTION_FAIL = 50, 100
FILE_REPORT, FILE_FAIL = 600, 1000
TABLES = {"common/ipc_messages.h": 2000}  # one file is the whole contract
BANNED = {"strcpy", "strcat", "sprintf", "vsprintf", "strtok", "gets", "atoi",
          "atol", "atoll", "system", "popen"}
BANNED_IN_VAULT = {"memcmp", "strcmp"}
MARKS = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")
MACHINE = re.compile(r"(?<![\w.])/(work/(main|shared)|tmp/" + r"wt)\b")
# room -> what it may include; the longest matching room counts
MAY_INCLUDE = {
    "common/": ("common/",),
    "policy/": ("common/", "policy/"),
    "vault/": ("common/", "policy/", "vault/"),
    "recorder/": ("common/", "policy/", "recorder/"),
    "pam_module/": ("common/", "policy/", "pam_module/"),
    "bastion/player/": ("common/", "policy/", "recorder/", "bastion/player/"),
    "bastion/verify/": ("common/", "recorder/", "bastion/player/", "bastion/verify/"),
    # A recording on a machine without a bastion: its header alone.
    "bastion/cli/offline.c": ("common/", "recorder/header.h", "bastion/cli/"),
}


def files(top):
    for name in ROOT_FILES:
        if os.path.exists(os.path.join(top, name)):
            yield name
    for room in ROOMS:
        for where, dirs, names in os.walk(os.path.join(top, room)):
            dirs[:] = sorted(d for d in dirs if d not in SKIP_DIRS)
            for name in sorted(names):
                path = os.path.relpath(os.path.join(where, name), top)
                if path not in GENERATED:
                    yield path


def without_comments_and_texts(code):
    """Blanks them, but keeps the lines."""
    def blank(m):
        return re.sub(r"[^\n]", " ", m.group(0))
    return re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'",
                  blank, code, flags=re.S)


def functions(lines):
    """House style: the braces of a function stand in the first column."""
    start = None
    for i, line in enumerate(lines):
        if line.startswith("{"):
            start = i
        elif line.startswith("}") and start is not None:
            # the name stands above the brace, where the line does not go on
            k = start - 1
            while k > 0 and lines[k].startswith((" ", "\t")):
                k -= 1
            name = re.match(r"\**(?:[\w ]*[ *])?(\w+)\(", lines[k])
            yield (name.group(1) if name else lines[k].strip()), i - start + 1, start
            start = None


def may_include(path):
    room = max((r for r in MAY_INCLUDE if path.startswith(r)), key=len, default=None)
    if room is not None:
        return MAY_INCLUDE[room]
    if path.startswith("bastion/"):
        return ("common/", "policy/", os.path.dirname(path) + "/")
    return None


class Report:
    def __init__(self):
        self.failures = 0

    def fail(self, path, line, text):
        self.failures += 1
        print(f"FAIL {path}:{line}: {text}")

    @staticmethod
    def note(path, line, text):
        print(f"note {path}:{line}: {text}")

    def size(self, path, line, what, n, report, most):
        if n > most:
            self.fail(path, line, f"{what} has {n} lines; at most {most}")
        elif n > report:
            self.note(path, line, f"{what} has {n} lines; {report} are enough")


def check_includes(report, path, text):
    allowed = may_include(path)
    if allowed is None:
        return
    for i, line in enumerate(text.split("\n"), 1):
        m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if m and "/" in m.group(1) and not m.group(1).startswith(allowed):
            report.fail(path, i, f"includes {m.group(1)}: another room")


def check_code(report, path, text):
    code = without_comments_and_texts(text)
    lines = code.split("\n")
    banned = BANNED | (BANNED_IN_VAULT if path.startswith("vault/") else set())

    report.size(path, 1, "the file", len(lines) - 1, FILE_REPORT, TABLES.get(path, FILE_FAIL))
    if path.endswith(".c"):
        for name, n, at in functions(lines):
            report.size(path, at, f"{name}()", n, FUNCTION_REPORT, FUNCTION_FAIL)
    for i, line in enumerate(lines, 1):
        for call in re.findall(r"(?<![\w.>])(\w+)\s*\(", line):
            if call in banned:
                report.fail(path, i, f"calls {call}()")
    check_includes(report, path, text)


def check_file(report, top, path):
    with open(os.path.join(top, path), "rb") as f:
        raw = f.read()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return
    if "\0" in text:
        return
    script = text.startswith("#!")
    if path.endswith(WANT_SPDX) or script:
        if "SPDX-License-Identifier: Apache-2.0" not in "\n".join(text.split("\n")[:5]):
            report.fail(path, 1, "has no SPDX line")
    for i, line in enumerate(text.split("\n"), 1):
        if MARKS.search(line):
            report.fail(path, i, "has a mark of unfinished work")
        if MACHINE.search(line):
            report.fail(path, i, "names a path of one machine")
    if path.endswith(CODE):
        check_code(report, path, text)


def main():
    top = sys.argv[1] if len(sys.argv) > 1 else os.environ["top_srcdir"]
    report = Report()
    n = 0

    for path in files(top):
        n += 1
        check_file(report, top, path)
    print(f"{n} files, {report.failures} complaints")
    return 1 if report.failures or n == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
