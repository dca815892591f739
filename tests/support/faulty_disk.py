# SPDX-License-Identifier: Apache-2.0
"""A file system whose disk fails on demand: FUSE, spoken by this file itself over /dev/fuse (Linux's include/uapi/linux/fuse.h), in
front of a directory. What a program gets are the kernel's own answers: EIO from fdatasync or pwrite; or none at all, and then the
program waits where no signal reaches it, as before a disk that does not answer.

FaultyDisk(where) mounts over the directory `where`, which keeps its files. Only root may. fail("sync", "EIO") and the like:
what is one of sync, write, any, or names (create, rename, unlink in the directory); how is an errno's name or "stuck"; of: only files whose names contain that."""
import ctypes
import errno
import os
import select
import stat
import struct
import subprocess
import sys

IN, ATTR = struct.Struct("<IIQQIIII"), struct.Struct("<6Q10I")
ENTRY, RW = struct.Struct("<4Q2I"), struct.Struct("<QQIIQII")
ROOM = 1 << 20
KINDS = {16: "write", 43: "write", 4: "write", 20: "sync", 30: "sync"}
NAMES = {10: "unlink", 12: "rename", 35: "create", 45: "rename"}      # of the directory


class FaultyDisk:
    def __init__(self, where):
        self.where = where
        self.p = subprocess.Popen([sys.executable, os.path.abspath(__file__), where], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.p.stdout.readline() != b"mounted\n":
            self.p.wait()
            raise OSError("no FUSE here")

    def say(self, line):
        self.p.stdin.write(line.encode() + b"\n")
        self.p.stdin.flush()
        return self.p.stdout.readline().decode().strip()

    def fail(self, what, how, of=""):
        self.say("fail %s %s %s" % (what, how, of))

    def heal(self):
        """What waited is done now."""
        self.say("heal")

    def waiting(self):
        """How many requests the disk does not answer."""
        return int(self.say("waiting"))

    def close(self):
        self.p.stdin.close()
        self.p.wait(20)


class Server:
    def __init__(self, where):
        self.back = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
        self.where, self.names, self.ids, self.next = where, {1: "."}, {".": 1}, 2
        self.files, self.next_fh = {}, 1
        self.fault, self.held = None, []
        self.fuse = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK)
        libc = ctypes.CDLL(None, use_errno=True)
        data = "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions" % self.fuse
        if libc.mount(b"faulty", where.encode(), b"fuse.faulty", 6, data.encode()) != 0:
            raise OSError(ctypes.get_errno(), "mount")
        self.libc = libc
        self.ops = {1: self.lookup, 3: self.getattr, 4: self.setattr, 10: self.unlink, 12: self.rename, 14: self.open, 15: self.read,
                    16: self.write, 17: self.statfs, 18: self.release, 20: self.fsync, 25: lambda h, b: b"", 26: self.init,
                    27: lambda h, b: struct.pack("<QII", 0, 0, 0), 28: self.readdir, 29: lambda h, b: b"", 30: lambda h, b: b"",
                    35: self.create, 43: self.fallocate, 45: self.rename2}

    # ---------------------------------------------------------------- names
    def path(self, node, name=None):
        base = self.names[node]
        return base if name is None else name if base == "." else base + "/" + name

    def node(self, path):
        if path not in self.ids:
            self.ids[path], self.names[self.next] = self.next, path
            self.next += 1
        return self.ids[path]

    def attr(self, st):
        return ATTR.pack(st.st_ino, st.st_size, st.st_blocks, int(st.st_atime), int(st.st_mtime), int(st.st_ctime),
                         st.st_atime_ns % 10**9, st.st_mtime_ns % 10**9, st.st_ctime_ns % 10**9, st.st_mode, st.st_nlink, st.st_uid, st.st_gid,
                         0, st.st_blksize, 0)

    def entry(self, path):
        st = os.stat(path, dir_fd=self.back, follow_symlinks=False)
        return ENTRY.pack(self.node(path), 0, 0, 0, 0, 0) + self.attr(st)

    def stat_of(self, node, fh):
        if fh in self.files:
            return os.fstat(self.files[fh])
        return os.stat(self.path(node), dir_fd=self.back, follow_symlinks=False)

    # ------------------------------------------------------------- requests
    def init(self, h, body):
        # 22: MAX_PAGES, 5: BIG_WRITES
        return struct.pack("<IIIIHHIIHHI28x", 7, 31, 65536, 1 << 22 | 1 << 5, 64, 48, 128 << 10, 1, 32, 0, 0)

    def lookup(self, h, body):
        return self.entry(self.path(h[3], body[:-1].decode()))

    def getattr(self, h, body):
        flags, _, fh = struct.unpack_from("<IIQ", body)
        return struct.pack("<QII", 0, 0, 0) + self.attr(self.stat_of(h[3], fh if flags & 1 else 0))

    def setattr(self, h, body):
        valid, _, fh, size, _, _, _, _, _, _, _, mode, _, uid, gid, _ = struct.unpack("<II6Q8I", body)
        fd = self.files.get(fh) if valid & 64 else None
        own = fd is None
        if own:
            fd = os.open(self.path(h[3]), os.O_RDWR if valid & 8 else os.O_RDONLY, dir_fd=self.back)
        try:
            if valid & 1:
                os.fchmod(fd, mode & 0o7777)
            if valid & 6:
                os.fchown(fd, uid if valid & 2 else -1, gid if valid & 4 else -1)
            if valid & 8:
                os.ftruncate(fd, size)
            return struct.pack("<QII", 0, 0, 0) + self.attr(os.fstat(fd))
        finally:
            if own:
                os.close(fd)

    def unlink(self, h, body):
        path = self.path(h[3], body[:-1].decode())
        os.unlink(path, dir_fd=self.back)
        self.ids.pop(path, None)
        return b""

    def move(self, old, new, flags):
        if self.libc.renameat2(self.back, old.encode(), self.back, new.encode(), flags) != 0:
            raise OSError(ctypes.get_errno(), "rename")
        self.ids.pop(new, None)
        if old in self.ids:
            node = self.ids.pop(old)
            self.ids[new], self.names[node] = node, new
        return b""

    def rename(self, h, body):
        to, (old, new) = struct.unpack_from("<Q", body)[0], body[8:-1].split(b"\0")
        return self.move(self.path(h[3], old.decode()), self.path(to, new.decode()), 0)

    def rename2(self, h, body):
        to, flags = struct.unpack_from("<QI", body)
        old, new = body[16:-1].split(b"\0")
        return self.move(self.path(h[3], old.decode()), self.path(to, new.decode()), flags)

    def opened(self, fd):
        fh, self.next_fh = self.next_fh, self.next_fh + 1
        self.files[fh] = fd
        return struct.pack("<QII", fh, 0, 0)

    def open(self, h, body):
        flags = struct.unpack_from("<I", body)[0] & (os.O_ACCMODE | os.O_TRUNC)
        return self.opened(os.open(self.path(h[3]), flags, dir_fd=self.back))

    def create(self, h, body):
        flags, mode, umask, _ = struct.unpack_from("<4I", body)
        path = self.path(h[3], body[16:-1].decode())
        fd = os.open(path, (flags & (os.O_ACCMODE | os.O_TRUNC | os.O_EXCL)) | os.O_CREAT, 0o600, dir_fd=self.back)
        os.fchown(fd, h[4], h[5])
        os.fchmod(fd, mode & ~umask & 0o7777)
        return self.entry(path) + self.opened(fd)

    def read(self, h, body):
        fh, at, size, *_ = RW.unpack(body)
        return os.pread(self.files[fh], size, at)

    def write(self, h, body):
        fh, at, size, *_ = RW.unpack_from(body)
        return struct.pack("<II", os.pwrite(self.files[fh], body[40:40 + size], at), 0)

    def fsync(self, h, body):
        fh, how = struct.unpack_from("<QI", body)
        (os.fdatasync if how & 1 else os.fsync)(self.files[fh])
        return b""

    def fallocate(self, h, body):
        fh, at, size, mode, _ = struct.unpack("<QQQII", body)
        if self.libc.fallocate(self.files[fh], mode, ctypes.c_long(at), ctypes.c_long(size)) != 0:
            raise OSError(ctypes.get_errno(), "fallocate")
        return b""

    def release(self, h, body):
        os.close(self.files.pop(struct.unpack_from("<Q", body)[0]))
        return b""

    def statfs(self, h, body):
        s = os.fstatvfs(self.back)
        return struct.pack("<5Q4I24x", s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree, s.f_bsize, 255, s.f_frsize, 0)

    def readdir(self, h, body):
        _, at, size, *_ = RW.unpack(body)
        names = [".", ".."] + sorted(os.listdir(self.back)) if h[3] == 1 else [".", ".."]
        out = b""
        for i, name in enumerate(names[at:], at):
            raw = name.encode()
            one = struct.pack("<QQII", i + 1, i + 1, len(raw), 0) + raw + b"\0" * (-len(raw) % 8)
            if len(out) + len(one) > size:
                break
            out += one
        return out

    # ---------------------------------------------------------------- faults
    def reply(self, unique, error, data=b""):
        try:
            os.write(self.fuse, struct.pack("<IiQ", 16 + len(data), -error, unique) + data)
        except OSError as e:
            if e.errno not in (errno.ENOENT, errno.EINVAL):
                raise

    def do(self, h, body):
        op = self.ops.get(h[1])
        try:
            data = op(h, body) if op else None
        except OSError as e:
            return self.reply(h[2], e.errno or errno.EIO)
        except KeyError:
            return self.reply(h[2], errno.ENOENT)
        self.reply(h[2], 0, data) if op else self.reply(h[2], errno.ENOSYS)

    def fault_of(self, h):
        if self.fault is not None and self.fault[0] == "names":
            return self.fault[1] if h[1] in NAMES else None
        if self.fault is None or h[1] not in KINDS:
            return None
        what, how, of = self.fault
        hit = what in ("any", KINDS[h[1]]) and of in self.names.get(h[3], "")
        return how if hit else None

    def request(self):
        try:
            b = os.read(self.fuse, ROOM)
        except OSError as e:
            return e.errno in (errno.EAGAIN, errno.EINTR, errno.ENOENT)
        h = IN.unpack_from(b)
        body = b[40:h[0]]
        if h[1] in (2, 36, 42):     # FORGET, INTERRUPT, BATCH_FORGET: no answer
            return True
        how = self.fault_of(h)
        if how == "stuck":
            self.held.append((h, body))
        elif how:
            self.reply(h[2], getattr(errno, how))
        else:
            self.do(h, body)
        return True

    def heal(self):
        self.fault = None
        while self.held:
            self.do(*self.held.pop(0))

    def command(self, line):
        words = line.split(" ")
        answer = "ok"
        if words[0] == "fail":
            self.fault = (words[1], words[2], words[3] if len(words) > 3 else "")
        elif words[0] == "heal":
            self.heal()
        elif words[0] == "waiting":
            answer = str(len(self.held))
        print(answer, flush=True)

    def run(self):
        print("mounted", flush=True)
        text = b""
        while True:
            ready = select.select([self.fuse, 0], [], [])[0]
            if 0 in ready:
                piece = os.read(0, 4096)
                if not piece:
                    break
                text += piece
                while b"\n" in text:
                    line, text = text.split(b"\n", 1)
                    self.command(line.decode())
            if self.fuse in ready and not self.request():
                break
        self.heal()
        self.libc.umount2(self.where.encode(), 2)


if __name__ == "__main__":
    Server(sys.argv[1]).run()
