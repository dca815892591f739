# SPDX-License-Identifier: Apache-2.0
"""A run as an SVG: small panels of bars, a system a bar, each panel with a scale of its own. No library, no script, one font."""
from report import number

COLOUR = {"direct": "#8c8c8c", "jump": "#c9a227", "classic": "#b5651d", "sallyport": "#1f5f8b", "sallyj": "#6fa8c9", "digest": "#6fa8c9"}
LABEL = {"direct": "direct", "jump": "ssh -J", "classic": "classic", "sallyport": "Sallyport", "sallyj": "… by -J", "digest": "… digest"}
W, H, COLS, PAD = 300, 176, 3, 18


def panels(d):
    """(title, unit, better, {system: value}, {system: whisker})"""
    out = []
    for key, title in (("true", "login and `true`"), ("far", "the same at %g ms" % d["options"]["rtt_ms"])):
        if key in d:
            out.append((title, "ms", "less", {s: v["p50"] for s, v in d[key].items()}, {}))
    if "cpu" in d:
        out.append(("CPU of the middle for one login", "ms", "less", {s: v["sum"] for s, v in d["cpu"].items()}, {}))
    for key, e in d.get("echo", {}).items():
        n, durability = key.split()
        out.append(("echo, %s typing, %s (line: p99)" % (n, durability), "us", "less", {s: v["p50"] for s, v in e.items()},
                    {s: v["p99"] for s, v in e.items()}))
    for part, tail in (("bulk", ""), ("farbulk", " at %g ms" % d["options"]["rtt_ms"])):
        for way, e in d.get(part, {}).items():
            out.append(("exec %s%s" % (way, tail), "MiB/s", "more", {s: v["mib_s"] for s, v in e.items()}, {}))
    for part in ("memory", "idle"):
        if part in d:
            out.append(("memory of an idle session", "KiB", "less", {s: v["sum"] for s, v in d[part].items()}, {}))
    return out


def text(x, y, s, size=11, anchor="start", fill="#222", weight="normal"):
    s = s.replace("&", "&amp;").replace("<", "&lt;")
    return '<text x="%.1f" y="%.1f" font-size="%d" text-anchor="%s" fill="%s" font-weight="%s">%s</text>' % (
        x, y, size, anchor, fill, weight, s)


def words(value, tail):
    return number(value) + (" (%s)" % number(tail) if tail is not None else "")


def panel(x, y, title, unit, better, values, whiskers):
    out = [text(x, y + 13, title, 12, weight="bold"), text(x, y + 28, "%s, %s is better" % (unit, better), 10, fill="#666")]
    # A long tail is drawn to the edge and its number said; the bars keep their scale.
    top = max(values.values()) * (1.6 if whiskers else 1.0)
    longest = max(len(words(v, whiskers.get(k))) for k, v in values.items())
    left, right = x + 62, x + W - PAD - 10 - 6 * longest
    step = (H - 52) / max(5, len(values))
    for i, (s, v) in enumerate(values.items()):
        at, h = y + 40 + i * step, step * 0.68
        long = (right - left) * v / top
        out.append(text(left - 6, at + h - 4, LABEL[s], 11, "end"))
        out.append('<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>' % (left, at, max(long, 1), h, COLOUR[s]))
        end = left + long
        if s in whiskers:
            reach = left + (right - left) * min(1.0, whiskers[s] / top)
            out.append('<path d="M%.1f %.1fH%.1f" stroke="%s" stroke-width="1.5"/>' % (end, at + h / 2, max(reach, end), COLOUR[s]))
            end = max(end, reach)
        out.append(text(end + 5, at + h - 4, words(v, whiskers.get(s)), 10))
    return out


def picture(all_, title, below):
    rows = (len(all_) + COLS - 1) // COLS
    width, height = COLS * W + PAD, rows * H + 62
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" '
           'font-family="DejaVu Sans, Helvetica, Arial, sans-serif">' % (width, height, width, height),
           '<rect width="100%" height="100%" fill="#fff"/>', text(PAD, 24, title, 15, weight="bold"),
           text(PAD, 42, below, 10, fill="#666")]
    for i, p in enumerate(all_):
        out += panel(PAD + i % COLS * W, 56 + i // COLS * H, *p)
    return "\n".join(out + ["</svg>"]) + "\n"


def svg(d):
    m = d["machine"]
    return picture(panels(d), "Sallyport beside OpenSSH, one run, %d cores" % m["cores"],
                   "policy, vault, database, second factor and recording on; %s, %s" % (m["date"][:10], m["cpu"]))
