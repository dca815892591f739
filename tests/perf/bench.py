# SPDX-License-Identifier: Apache-2.0
"""make bench: direct ssh, `ssh -J` through OpenSSH, a shell on a bastion, and Sallyport, side by side in one run.

Sallyport runs with policy, vault, database, second factor and recording on. Ratios are what counts; absolute numbers belong to
the machine. OUT.json, OUT.svg and OUT.md are written; the method is in doc/performance.md.
"""
import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import measures  # noqa: E402
import plot  # noqa: E402
import report  # noqa: E402
from systems import World, dump  # noqa: E402

PARTS = ("true", "cpu", "far", "storm", "echo", "bulk", "farbulk", "memory", "idle")
QUICK = {"rounds": 7, "mib": 128, "far_mib": 16, "bulk_rounds": 1, "keys": 1200, "echo_rounds": 1, "sessions": "1,20", "idle": 10,
         "idle_mib": 8, "granted": 4, "people": 24, "storm": 24}


def options():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    a.add_argument("--out", metavar="PATH", default="bench", help="PATH.json, PATH.svg, PATH.md")
    a.add_argument("--quick", action="store_true", help="every part once, in less than three minutes")
    a.add_argument("--only", metavar="PARTS", help="some of %s, by comma; without: all but idle" % ", ".join(PARTS))
    a.add_argument("--rounds", type=int, default=25, help="logins of each system")
    a.add_argument("--rtt-ms", type=float, default=40, help="round trip through the delay proxy")
    a.add_argument("--mib", type=int, default=1024, help="size of a bulk transfer")
    a.add_argument("--far-mib", type=int, default=64, help="the same through the delay proxy")
    a.add_argument("--bulk-rounds", type=int, default=3)
    a.add_argument("--keys", type=int, default=12000, help="bytes typed for each echo figure")
    a.add_argument("--echo-rounds", type=int, default=3)
    a.add_argument("--sessions", default="1,100,200", help="sessions that type at once")
    a.add_argument("--durability", default="process,input", help="settings of Sallyport that echo is measured with")
    a.add_argument("--idle", type=int, default=40, help="idle sessions held for the memory")
    a.add_argument("--idle-mib", type=int, default=32, help="what each of them then moves each way")
    a.add_argument("--storm", type=int, default=64, help="logins at once")
    a.add_argument("--granted", type=int, default=12, help="people with an approved grant")
    a.add_argument("--people", type=int, default=128, help="people with standing access, for many sessions")
    o = a.parse_args()
    if o.quick:
        for k, v in QUICK.items():
            if getattr(o, k) == a.get_default(k):
                setattr(o, k, v)
    o.only = o.only.split(",") if o.only else [p for p in PARTS if p != "idle"]
    if set(o.only) - set(PARTS):
        a.error("--only knows " + ", ".join(PARTS))
    if not set(o.only) & {"storm", "echo", "memory", "idle"}:
        o.people = 0
    return o


def say(text):
    print("bench: " + text, file=sys.stderr, flush=True)


def echo(w, o, data):
    data["echo"], data["fdatasync_us"] = {}, measures.fdatasync_us(w.sp.dir + "/recordings")
    for d in o.durability.split(","):
        if d != w.durability:
            w.configure(durability=d)
        for n in (int(x) for x in o.sessions.split(",")):
            say("echo, %d sessions, durability %s" % (n, d))
            data["echo"]["%d %s" % (n, d)] = measures.echo(w, n)


def bulk(w, far, data):
    data["farbulk" if far else "bulk"] = {k: measures.bulk(w, k == "up", far) for k in ("down", "up")}


def main():
    o = options()
    say("making the systems")
    w = World(o)
    data = {"options": vars(o), "machine": w.machine()}
    parts = {"true": lambda: data.update(true=measures.true(w)), "cpu": lambda: data.update(cpu=measures.cpu(w)),
             "far": lambda: data.update(far=measures.true(w, True)), "storm": lambda: data.update(storm=measures.storm(w)),
             "echo": lambda: echo(w, o, data), "bulk": lambda: bulk(w, False, data), "farbulk": lambda: bulk(w, True, data),
             "memory": lambda: data.update(memory=measures.memory(w)), "idle": lambda: data.update(idle=measures.idle(w))}
    try:
        for p in PARTS:
            if p in o.only:
                say(p)
                if w.durability != "input":
                    w.configure(durability="input")
                parts[p]()
    finally:
        w.close()
    data["bars"] = report.bars(data)
    dump(o.out + ".json", data)
    text = report.markdown(data)
    with open(o.out + ".md", "w") as f:
        f.write(text)
    with open(o.out + ".svg", "w") as f:
        f.write(plot.svg(data))
    print(text)
    say("written: %s.json, %s.md, %s.svg" % (o.out, o.out, o.out))


if __name__ == "__main__":
    main()
