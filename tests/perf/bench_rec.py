# SPDX-License-Identifier: Apache-2.0
"""make bench-recorder: the recorder beside Debian's tlog-rec, asciinema and script, side by side in one run.

Ratios are what counts; absolute numbers belong to the machine. OUT.json, OUT.md and OUT.svg are written; the method is in
doc/performance-recorder.md.
"""
import argparse
import json
import os
import shutil
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import rec_parts  # noqa: E402
import rec_report  # noqa: E402

PARTS = ("keys", "bulk", "size", "people", "seek", "search", "verify")
QUICK = {"rounds": 1, "warm": 0, "sessions": "1,20", "seconds": 2.0, "mib": 8, "ours_mib": 64, "streams": "shell,vim", "people_s": 20, "seek_mib": 64,
         "peer_mib": 4, "count": 300, "search_rounds": 2, "verify_mib": 64}


def options():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    a.add_argument("--out", metavar="PATH", default="bench-recorder", help="PATH.json, PATH.md, PATH.svg")
    a.add_argument("--quick", action="store_true", help="every part once, in two minutes: good for ratios, not for p99")
    a.add_argument("--only", metavar="PARTS", help="some of %s, by comma" % ", ".join(PARTS))
    a.add_argument("--where", metavar="DIR", default="/var/tmp", help="the disk that is written to")
    a.add_argument("--rounds", type=int, default=3, help="of which the median is taken")
    a.add_argument("--warm", type=int, default=1, help="rounds before them that are thrown away")
    a.add_argument("--sessions", default="1,100,200", help="sessions that type at once")
    a.add_argument("--seconds", type=float, default=10, help="that they type")
    a.add_argument("--rate", type=float, default=5, help="keys a second of each")
    a.add_argument("--rate-alone", type=float, default=200, help="keys a second of one that is alone")
    a.add_argument("--mib", type=int, default=64, help="text that goes through the others' terminals")
    a.add_argument("--ours-mib", type=int, default=512, help="text, and noise, that goes through our recorder")
    a.add_argument("--streams", default="all", help="programs of tests/term/corpus.py")
    a.add_argument("--people-s", type=int, default=150, help="seconds of the sessions at a person's pace")
    a.add_argument("--seek-mib", type=int, default=1024, help="size of the recording in which is jumped")
    a.add_argument("--peer-mib", type=int, default=64, help="text in the others' recordings that are read to the end")
    a.add_argument("--count", type=int, default=10000, help="recordings to search")
    a.add_argument("--bytes", type=int, default=65536, help="output in each of them")
    a.add_argument("--search-rounds", type=int, default=5)
    a.add_argument("--verify-mib", type=int, default=1024, help="noise in the recording to verify")
    o = a.parse_args()
    if o.quick:
        for k, v in QUICK.items():
            if getattr(o, k) == a.get_default(k):
                setattr(o, k, v)
    o.only = o.only.split(",") if o.only else list(PARTS)
    if set(o.only) - set(PARTS):
        a.error("--only knows " + ", ".join(PARTS))
    return o


def say(text):
    print("bench: " + text, file=sys.stderr, flush=True)


def machine():
    with open("/proc/cpuinfo") as f:
        cpu = [x.split(":")[1].strip() for x in f if x.startswith("model name")]
    return {"date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "cpu": " ".join(cpu[0].split()[:2]) if cpu else "?",
            "cores": os.cpu_count(), "kernel": os.uname().release, "load": os.getloadavg()[0]}


def main():
    o = options()
    missing = [t for t in ("script", "asciinema", "tlog-rec", "tlog-play", "scriptreplay") if shutil.which(t) is None]
    if missing:
        raise SystemExit("not installed: %s (Debian: bsdutils bsdextrautils asciinema tlog)" % ", ".join(missing))
    o.work = tempfile.mkdtemp(prefix="sp-bench-", dir=o.where)
    os.chmod(o.work, 0o755)
    w = rec_parts.World(o)
    w.say = say
    data = {"machine": machine(), "options": {k: v for k, v in vars(o).items() if k != "work"}}
    try:
        data["fdatasync_us"] = rec_parts.fdatasync_us(o.work)
        for part in o.only:
            t0 = time.monotonic()
            data[part] = getattr(rec_parts, part)(w)
            say("%s took %.0f s" % (part, time.monotonic() - t0))
    finally:
        w.close()
        shutil.rmtree(o.work, ignore_errors=True)
    data["bars"] = rec_report.bars(data)
    for suffix, text in ((".json", json.dumps(data, indent=1) + "\n"), (".md", rec_report.markdown(data)), (".svg", rec_report.svg(data))):
        with open(o.out + suffix, "w") as f:
            f.write(text)
    sys.stdout.write(rec_report.markdown(data))
    say("written: %s.json, .md, .svg" % o.out)


if __name__ == "__main__":
    main()
