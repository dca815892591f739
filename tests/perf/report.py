# SPDX-License-Identifier: Apache-2.0
"""Tables of a run, and how it stands against the bars."""
from systems import NAMES

ORDER = ("direct", "jump", "classic", "sallyport", "sallyj")


def number(v):
    return "-" if v is None else "%.0f" % v if v >= 100 else "%.1f" % v if v >= 10 else "%.2f" % v


def ratio(a, b):
    return "-" if not a or not b else "%.2fx" % (a / b)


def line(name, unit, values, base="sallyport"):
    """One row: the value of each system, then Sallyport's ratio to direct and to ssh -J."""
    v = values.get(base)
    return "| %s, %s | %s | %s | %s |" % (name, unit, " | ".join(number(values.get(s)) for s in ORDER),
                                          ratio(v, values.get("direct")), ratio(v, values.get("jump")))


def pick(data, key):
    return {s: v.get(key) for s, v in data.items()}


def head():
    return ["| | %s | / direct | / ssh -J |" % " | ".join(NAMES[s] for s in ORDER), "|---|" + "---|" * (len(ORDER) + 2)]


def roles(data, unit, scale=1):
    """The parts of a sum, role by role, of Sallyport."""
    parts = ["%s %s" % (r, number(v * scale)) for r, v in data.items() if v * scale >= 0.005]
    return "%s: %s" % (unit, ", ".join(parts))


def login_rows(d):
    rows = []
    for key, name in (("true", "`true`, new connection, p50"), ("far", "the same at a round trip of %g ms" % d["options"]["rtt_ms"])):
        if key in d:
            rows.append(line(name, "ms", pick(d[key], "p50")))
    if "cpu" in d:
        rows.append(line("CPU of the middle for one `true`", "ms", pick(d["cpu"], "sum")))
    if "storm" in d:
        n = d["storm"]["sallyport"]["logins"]
        rows.append(line("%d logins at once: logins a second" % n, "1/s", pick(d["storm"], "per_second")))
        rows.append(line("%d logins at once: failed" % n, "", pick(d["storm"], "failed")))
    return rows


def other_rows(d):
    rows = []
    for key, e in d.get("echo", {}).items():
        n, durability = key.split()
        for q in ("p50", "p99"):
            rows.append(line("echo, %s session%s typing, %s, %s" % (n, "" if n == "1" else "s", durability, q), "us", pick(e, q)))
    for part, where in (("bulk", ""), ("farbulk", " at %g ms" % d["options"]["rtt_ms"])):
        for way, e in d.get(part, {}).items():
            rows.append(line("exec %s%s" % (way, where), "MiB/s", pick(e, "mib_s")))
            rows.append(line("CPU of the middle, %s%s" % (way, where), "s/GiB", pick(e, "cpu_s_per_gib")))
    if "memory" in d:
        m = d["memory"]
        rows.append(line("idle session with a terminal, PSS and kernel", "KiB", pick(m, "sum")))
        rows.append(line("the same after %d MiB each way" % d["options"]["idle_mib"], "KiB",
                         {s: v["after_bulk"]["sum"] for s, v in m.items()}))
    return rows


def notes(d):
    out = []
    for s in ("sallyport", "sallyj"):
        if s in d.get("cpu", {}):
            out.append("CPU of one login, %s: " % NAMES[s] + roles(d["cpu"][s]["roles"], "ms"))
    for way, e in d.get("bulk", {}).items():
        for s in ("sallyport", "digest"):
            out.append("%s, bulk %s: %s MiB/s; CPU " % (NAMES[s], way, number(e[s]["mib_s"])) + roles(e[s]["roles"], "s/GiB"))
    for part in ("memory", "idle"):
        for s, m in d.get(part, {}).items():
            if s == "sallyport":
                out.append("Memory of one of %d idle sessions, PSS + kernel KiB: " % m["n"] + ", ".join(
                    "%s %s+%s" % (r, number(v[0]), number(v[1])) for r, v in m["roles"].items() if v[0] + (v[1] or 0) > 1))
    if "idle" in d:
        m = d["idle"]["sallyport"]
        out.append("%d idle recorded sessions were held: %s KiB each; %d of them would fill 16 GiB (extrapolated)."
                   % (m["n"], number(m["sum"]), m["fits_in_16_gib"]))
    if "fdatasync_us" in d:
        out.append("fdatasync of this disk: %s us." % number(d["fdatasync_us"]))
    return out


def bar(name, value, limit, less=True):
    return {"name": name, "value": value, "limit": limit, "met": (value <= limit) if less else (value >= limit)}


def login_bars(d):
    out = []
    if "true" in d:
        t = pick(d["true"], "p50")
        out += [bar("`true` / direct", t["sallyport"] / t["direct"], 0.5), bar("`true` / ssh -J", t["sallyport"] / t["jump"], 0.3)]
    if "far" in d:
        t = pick(d["far"], "p50")
        out.append(bar("`true` far / direct", t["sallyport"] / t["direct"], 1.1))
    if "cpu" in d:
        out.append(bar("CPU of a login, ms", d["cpu"]["sallyport"]["sum"], 12))
    if "storm" in d:
        out.append(bar("failed of logins at once", d["storm"]["sallyport"]["failed"], 0))
    return out


def bars(d):
    out = login_bars(d)
    for key, e in d.get("echo", {}).items():
        n, durability = key.split()
        us, jump = e["sallyport"], e["jump"]
        if durability == "process":
            out.append(bar("echo %s process p50 / ssh -J" % n, us["p50"] / jump["p50"], 1.1 if n == "1" else 1.0))
        else:
            out.append(bar("echo %s %s p50 - (ssh -J + fdatasync), us" % (n, durability),
                           us["p50"] - jump["p50"] - d["fdatasync_us"], 300))
        out.append(bar("echo %s %s p99 / ssh -J" % (n, durability), us["p99"] / jump["p99"], 1.2))
    for way, s, limit in (("down", "sallyport", 0.95), ("up", "sallyport", 1.4), ("down", "digest", 1.05), ("up", "digest", 1.7)):
        if "bulk" in d:
            e = d["bulk"][way]
            out.append(bar("bulk %s, %s / ssh -J" % (way, "full" if s == "sallyport" else s), e[s]["mib_s"] / e["jump"]["mib_s"],
                           limit, False))
    if "farbulk" in d:
        e = d["farbulk"]["up"]
        out.append(bar("bulk up far / direct", e["sallyport"]["mib_s"] / e["direct"]["mib_s"], 1.2, False))
    if "memory" in d:
        m = d["memory"]["sallyport"]
        out += [bar("idle session, KiB", m["sum"], 1024), bar("idle session after bulk, KiB", m["after_bulk"]["sum"], 1024)]
    return out


def markdown(d):
    m = d["machine"]
    out = ["%s: %s, %d cores, Linux %s, %s; load %.1f at the start." % (m["date"], m["cpu"], m["cores"], m["kernel"], m["openssh"],
                                                                      m["load"]), ""]
    out += head() + login_rows(d) + other_rows(d) + [""] + ["- " + n for n in notes(d)]
    out += ["", "| bar | measured | limit | |", "|---|---|---|---|"]
    out += ["| %s | %s | %s | %s |" % (b["name"], "%.3g" % b["value"] if b["value"] < 100 else "%.0f" % b["value"], b["limit"],
                                       "met" if b["met"] else "**missed**") for b in d["bars"]]
    return "\n".join(out) + "\n"
