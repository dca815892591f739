# SPDX-License-Identifier: Apache-2.0
"""A run of make bench-recorder as tables, as bars that are met or not, and as a picture (plot.py's panels)."""
import plot
from report import bar, number, ratio

NAMES = {"script": "script", "asciinema": "asciinema", "tlog": "tlog-rec", "process": "Sallyport, process", "input": "Sallyport, input",
         "full": "Sallyport, full"}
SHORT = {"script": "script", "asciinema": "asciinema", "tlog": "tlog-rec", "process": "process", "input": "input", "full": "full",
         "sallyport": "Sallyport", "grep": "grep", "zgrep": "zgrep", "verify": "verify", "sha256sum": "sha256sum", "b2sum": "b2sum", "dd": "dd"}
OURS = ("process", "input", "full")
COLOUR = dict({s: "#b5651d" for s in ("tlog", "zgrep")}, **{s: "#c9a227" for s in ("asciinema", "grep")},
              **{s: "#8c8c8c" for s in ("script", "dd", "sha256sum", "b2sum")}, **{s: "#1f5f8b" for s in OURS + ("sallyport", "verify")})


def rows_of_keys(d):
    out = []
    for n, e in d["keys"].items():
        for q in ("p50", "p99"):
            v = {s: e[s]["added_%s_us" % q] for s in NAMES}
            out.append((("a key, %s session%s, added %s" % (n, "" if n == "1" else "s", q)), "us", v))
    return out


def rows_of_bulk(d):
    b = d["bulk"]
    v = {s: b[s]["mb_s"] for s in ("script", "asciinema", "tlog")}
    out = [("text in bulk", "MB/s", dict(v, **{s: b[s + " text"]["mb_s"] for s in OURS})),
           ("noise in bulk", "MB/s", {s: b[s + " noise"]["mb_s"] for s in OURS}),
           ("recorder's CPU, noise", "s/GiB", {s: b[s + " noise"]["cpu_s_per_gib"] for s in OURS})]
    return out


def markdown(d):
    m = d["machine"]
    out = ["%s: %s, %d cores, Linux %s; load %.1f at the start; fdatasync of this disk: p50 %s us, p99 %s us." % (
        m["date"], m["cpu"], m["cores"], m["kernel"], m["load"], number(d["fdatasync_us"]["p50"]), number(d["fdatasync_us"]["p99"])), ""]
    rows = (rows_of_keys(d) if "keys" in d else []) + (rows_of_bulk(d) if "bulk" in d else [])
    if rows:
        out += ["| | %s | input / tlog-rec |" % " | ".join(NAMES.values()), "|---|" + "---|" * (len(NAMES) + 1)]
        out += ["| %s, %s | %s | %s |" % (name, unit, " | ".join(number(v.get(s)) for s in NAMES), ratio(v.get("input"), v.get("tlog")))
                for name, unit, v in rows]
    for part in (size_table, others):
        out += part(d)
    out += ["", "| bar | measured | limit | |", "|---|---|---|---|"]
    out += ["| %s | %s | %s | %s |" % (b["name"], number(b["value"]), b["limit"], "met" if b["met"] else "**missed**") for b in d["bars"]]
    return "\n".join(out) + "\n"


def size_table(d):
    if "size" not in d:
        return []
    out = ["", "Bytes on disk for a byte of output:", "",
           "| stream | raw bytes | Sallyport | its asciicast, gzip | ratio | asciinema | gzip | tlog-rec | gzip | script | gzip |", "|---|" + "---|" * 10]
    for name, e in list(d["size"]["streams"].items()) + [("**all**", d["size"]["sum"])]:
        def per(k):
            return "%.3f" % (e[k] / e["raw"])
        out.append("| %s | %d | %s | %s | %s |" % (name, e["raw"], per("sallyport"), per("export_gz"), ratio(e["sallyport"], e["export_gz"])) +
                   "".join(" %s | %s |" % (per(s), per(s + "_gz")) for s in ("asciinema", "tlog", "script")))
    return out


def others(d):
    out = [""]
    for r in d.get("people", []):
        out.append("- %s at a person's pace: %d bytes of keys and screen, %d on disk, %d as gzipped asciicast." % (
            r["name"], r["raw_bytes"], r["bytes"], r["gzip_bytes"]))
    if "seek" in d:
        s = d["seek"]
        if "first_ms" in s:
            out.append("- Opened, and the first picture of it: %s ms. When it has been gone through the longest jump is %s ms." % (
                number(s["first_ms"]), number(s["indexed_max_ms"])))
        out.append("- A jump anywhere in a recording of %d MiB: p50 %s ms, p99 %s ms, longest %s ms. The others read from the beginning: "
                   "to the end of %d MiB of text %s." % (s["file_mib"], number(s["p50_ms"]), number(s["p99_ms"]), number(s["max_ms"]), s["peer_mib"],
                                                        ", ".join("%s %s s" % (SHORT[k], number(v)) for k, v in s["to_the_end_s"].items())))
    if "search" in d:
        s = d["search"]
        out.append("- `search` over %d sealed recordings of %d KiB of output: %s s. Over as many asciicasts in clear text: grep %s s, of gzipped "
                   "ones zgrep %s s." % (s["recordings"], s["bytes_each"] // 1024, number(s["sallyport_s"]), number(s["grep_s"]), number(s["zgrep_s"])))
    if "verify" in d:
        v = d["verify"]
        for where, name in (("cached", "in the cache"), ("disk", "from the disk")):
            out.append("- A recording of %.0f MB %s, GB/s: %s." % (v["bytes"] / 1e6, name, ", ".join(
                "%s %s" % (k, number(x)) for k, x in v[where].items())))
    return out


def bars(d):
    out = []
    if "keys" in d:
        most = max(d["keys"], key=int)
        e = d["keys"][most]["input"]
        out += [bar("added to a key, %s sessions, durable (input), p50, ms" % most, max(e["added_p50_us"], 0) / 1e3, 0.5),
                bar("added to a key, %s sessions, durable (input), p99, ms" % most, max(e["added_p99_us"], 0) / 1e3, 5)]
    if "bulk" in d:
        out += [bar("bulk, durable (full), %s, MB/s" % k, d["bulk"]["full " + k]["mb_s"], 100, False) for k in ("text", "noise")]
    for r in d.get("people", []):
        out.append(bar("bytes on disk / gzipped asciicast, %s" % r["name"], r["bytes"] / r["gzip_bytes"], 1.3))
    if "seek" in d:
        out.append(bar("longest jump in %d MiB, ms" % d["seek"]["file_mib"], d["seek"]["max_ms"], 50))
    if "search" in d:
        out.append(bar("search over %d, s" % d["search"]["recordings"], d["search"]["sallyport_s"], 2))
    if "verify" in d:
        v = d["verify"]
        for where in ("cached", "disk"):
            slower = min(v[where]["openssl sha256"], v[where]["dd"])
            out.append(bar("verify %s / the slower of SHA-256 and dd" % where, v[where]["verify"] / slower, 0.9, False))
    return out


def panels(d):
    out = []
    for name, unit, v in (rows_of_keys(d) if "keys" in d else []) + (rows_of_bulk(d) if "bulk" in d else []):
        out.append((name, unit, "more" if unit == "MB/s" else "less", {s: max(x, 0) for s, x in v.items()}, {}))
    if "size" in d:
        e = d["size"]["sum"]
        out.append(("bytes on disk, gzipped asciicast = 1", "x", "less", {s: e[s] / e["export_gz"] for s in ("script", "asciinema", "tlog", "sallyport")}, {}))
    if "search" in d:
        s = d["search"]
        out.append(("search over %d recordings" % s["recordings"], "s", "less",
                    {"grep": s["grep_s"], "zgrep": s["zgrep_s"], "sallyport": s["sallyport_s"]}, {}))
    if "verify" in d:
        out.append(("verify, from the cache", "GB/s", "more", {k: d["verify"]["cached"][k] for k in ("dd", "sha256sum", "b2sum", "verify")}, {}))
    return out


def svg(d):
    plot.LABEL.update(SHORT)
    plot.COLOUR.update(COLOUR)
    return plot.picture(panels(d), "Sallyport's recorder beside Debian's recorders, one run, %d cores" % d["machine"]["cores"],
                        "process, input, full: what is on the disk before a byte goes on; the others promise none of it; %s, %s" % (
                            d["machine"]["date"][:10], d["machine"]["cpu"]))
