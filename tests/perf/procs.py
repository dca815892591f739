# SPDX-License-Identifier: Apache-2.0
"""What a group of processes uses: CPU time and memory, by role.

Where the control groups of the kernel are to be had (v1 or v2, as root) each role gets one: it counts children that are gone and
the kernel's own memory. Elsewhere CPU comes from /proc (in ticks of 10 ms, children that were reaped included) and
kernel memory is not known.
"""
import os

V1 = "/sys/fs/cgroup/cpuacct"
V2 = "/sys/fs/cgroup"
TICK = os.sysconf("SC_CLK_TCK")


def read(path):
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return None


def stat_of(pid):
    """(ppid, ticks with those of reaped children) or None."""
    text = read("/proc/%d/stat" % pid)
    if text is None:
        return None
    f = text.rsplit(")", 1)[1].split()
    return int(f[1]), sum(int(x) for x in f[11:15])


def everybody():
    out = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            s = stat_of(int(name))
            if s:
                out[int(name)] = s
    return out


def tree(root, table=None):
    table = table or everybody()
    found, grew = {root}, True
    while grew:
        more = {p for p, (q, _) in table.items() if q in found} - found
        grew = bool(more)
        found |= more
    return found


def pss_kib(pids):
    total = 0
    for pid in pids:
        text = read("/proc/%d/smaps_rollup" % pid) or ""
        total += sum(int(x.split()[1]) for x in text.splitlines() if x.startswith("Pss:"))
    return total


class Groups:
    """One control group a role, all below one name."""

    def __init__(self):
        self.base = "sp-bench-%d" % os.getpid()
        self.kind = None
        for kind, top in (("v1", V1), ("v2", V2)):
            probe = "cpuacct.usage" if kind == "v1" else "cgroup.controllers"
            if os.path.exists(os.path.join(top, probe)):
                try:
                    self.tops = [top, "/sys/fs/cgroup/memory"] if kind == "v1" else [top]
                    for t in self.tops:
                        os.mkdir(os.path.join(t, self.base))
                    if kind == "v2":
                        with open(os.path.join(top, self.base, "cgroup.subtree_control"), "w") as f:
                            f.write("+cpu +memory")
                    self.kind = kind
                    break
                except OSError:
                    continue
        self.roots = {}

    def add(self, role, pids):
        """Moves them, with all that they have started and will start."""
        table = everybody()
        pids = set().union(*(tree(p, table) for p in pids)) if pids else set()
        self.roots.setdefault(role, set()).update(pids)
        if self.kind is None:
            return
        for t in self.tops:
            d = os.path.join(t, self.base, role)
            os.makedirs(d, exist_ok=True)
            for p in pids:
                try:
                    with open(d + "/cgroup.procs", "w") as f:
                        f.write(str(p))
                except OSError:
                    pass

    def add_only(self, role, pid):
        """That process and what it starts from now on, not what it has started."""
        self.roots.setdefault(role, set()).add(pid)
        if self.kind is None:
            return
        for t in self.tops:
            d = os.path.join(t, self.base, role)
            os.makedirs(d, exist_ok=True)
            with open(d + "/cgroup.procs", "w") as f:
                f.write(str(pid))

    def pids(self, role):
        if self.kind is not None:
            text = read(os.path.join(self.tops[0], self.base, role, "cgroup.procs")) or ""
            return {int(x) for x in text.split()}
        table = everybody()
        mine = set().union(*(tree(p, table) for p in self.roots.get(role, ())))
        others = set().union(*[v for k, v in self.roots.items() if k != role] or [set()])
        return mine - others

    def cpu(self, role):
        """Seconds since the beginning."""
        if self.kind == "v1":
            return int(read(os.path.join(V1, self.base, role, "cpuacct.usage")) or 0) / 1e9
        if self.kind == "v2":
            text = read(os.path.join(V2, self.base, role, "cpu.stat")) or ""
            return sum(int(x.split()[1]) for x in text.splitlines() if x.startswith("usage_usec")) / 1e6
        table = everybody()
        return sum(table[p][1] for p in self.pids(role) if p in table) / TICK

    def kernel_kib(self, role):
        """None where the kernel does not say."""
        if self.kind == "v1":
            n = read(os.path.join("/sys/fs/cgroup/memory", self.base, role, "memory.kmem.usage_in_bytes"))
            return None if n is None else int(n) / 1024
        if self.kind == "v2":
            text = read(os.path.join(V2, self.base, role, "memory.stat")) or ""
            n = [int(x.split()[1]) for x in text.splitlines() if x.startswith("kernel ")]
            return n[0] / 1024 if n else None
        return None

    def close(self):
        if self.kind is None:
            return
        for t in self.tops:
            for role in list(self.roots):
                home = os.path.join(t, self.base, role)
                for p in (read(home + "/cgroup.procs") or "").split():
                    try:
                        with open(os.path.join(t, "cgroup.procs"), "w") as f:
                            f.write(p)
                    except OSError:
                        pass
                try:
                    os.rmdir(home)
                except OSError:
                    pass
            try:
                os.rmdir(os.path.join(t, self.base))
            except OSError:
                pass
