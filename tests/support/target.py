# SPDX-License-Identifier: Apache-2.0
"""Practice targets for tests: further sshds of our own, made as the demonstration's core-01 is (demo/lib.sh)."""
import os
import shutil
import subprocess

from sp import free_port, wait_for

ROOT = os.geteuid() == 0


class Target:
    """An sshd of the instance's practice accounts (admin, legacy) on an address of its own."""

    def __init__(self, sp, name, addr="127.0.0.1", options="", pam=None, key="ed25519", add=True, port=None, host_key=None):
        self.sp, self.name, self.addr = sp, name, addr
        self.dir = "%s/%s" % (os.path.realpath(sp.dir), name)
        self.port = port or free_port(addr)
        os.makedirs(self.dir + "/principals", exist_ok=True)
        os.chmod(self.dir, 0o755)
        with open(self.dir + "/principals/admin", "w") as f:
            f.write("admin@%s\n" % name)
        self.key = host_key or self.dir + "/host_key"
        if not host_key:
            subprocess.run(["ssh-keygen", "-q", "-t", key, "-N", "", "-f", self.key], check=True, stdin=subprocess.DEVNULL)
        self.options, self.pam, self.proc = options, pam, None
        self.start()
        if add:
            self.add()

    @property
    def where(self):
        return ("[%s]:%d" if ":" in self.addr else "%s:%d") % (self.addr, self.port)

    @property
    def pub(self):
        with open(self.key + ".pub") as f:
            return " ".join(f.read().split()[:2])

    def add(self, *more):
        self.sp.host("target", "add", self.name, "--addr", self.where, "--tag", "t", "--host-key", self.pub, *more, check=True)
        self.sp.host("account", "add", "admin@" + self.name, "--kind", "cert", check=True)

    def add_legacy(self):
        with open(self.sp.dir + "/target/legacy.password", "rb") as f:
            self.sp.host("account", "add", "legacy@" + self.name, "--kind", "password", "--password-stdin", input=f.read(), check=True)

    def start(self):
        self.write_config()
        self.launch(self.dir + "/sshd_config")

    def write_config(self):
        common = self.sp.dir + "/target"
        with open(self.dir + "/sshd_config", "w") as f:
            # The first value of a keyword counts.
            f.write(self.options + "\n" + "\n".join([
                "ListenAddress " + self.where, "HostKey " + self.key, "PidFile none", "UsePAM %s" % ("yes" if self.pam else "no"),
                "TrustedUserCAKeys %s/ca.pub" % common, "AuthorizedPrincipalsFile %s/principals/%%u" % self.dir,
                "AuthorizedKeysFile %s/keys-%%u" % self.dir, "PasswordAuthentication no", "KbdInteractiveAuthentication no",
                "StrictModes no", "PrintMotd no", "PrintLastLog no", "AllowUsers admin legacy", "LogLevel VERBOSE",
                "MaxStartups 1000", "Subsystem sftp internal-sftp"]) + "\n")

    def launch(self, config):
        common, env = self.sp.dir + "/target", dict(os.environ)
        before = self.log().count("listening on")       # its log goes on where it was
        sshd = ["/usr/sbin/sshd", "-D", "-f", config, "-E", self.dir + "/sshd.log"]
        if ROOT:
            os.makedirs("/run/sshd", exist_ok=True)
            binds = [(common + "/" + n, "/etc/" + n) for n in ("passwd", "group", "shadow")]
            if self.pam:
                with open(self.dir + "/pam", "w") as f:
                    f.write(self.pam + "\naccount required pam_permit.so\nsession required pam_permit.so\n")
                binds.append((self.dir + "/pam", "/etc/pam.d/sshd"))
            script = "mount --make-rprivate / && " + "".join("mount --bind '%s' %s && " % b for b in binds) + 'exec "$@"'
            sshd = ["unshare", "-m", "sh", "-c", script, "sh"] + sshd
        else:
            env.update(LD_PRELOAD="libnss_wrapper.so", NSS_WRAPPER_PASSWD=common + "/passwd",
                       NSS_WRAPPER_GROUP=common + "/group", NSS_WRAPPER_SHADOW=common + "/shadow")
        self.proc = subprocess.Popen(sshd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                     env=env, start_new_session=True)
        self.sp.started.append(self.proc)
        wait_for(lambda: self.log().count("listening on") > before, 60, "sshd of %s: %s" % (self.name, self.log()))

    def log(self):
        try:
            with open(self.dir + "/sshd.log", errors="replace") as f:
                return f.read()
        except OSError:
            return ""

    def stop(self):
        """The listener and every connection of it."""
        pids = [self.proc.pid]
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/cmdline" % pid) as f, open("/proc/%s/stat" % pid) as g:
                    ppid = int(g.read().rsplit(")", 1)[1].split()[1])
                    if ppid in pids and f.read().startswith("sshd:"):
                        pids.append(int(pid))
            except (OSError, IndexError):
                continue
        for pid in reversed(pids):
            try:
                os.kill(pid, 9)
            except OSError:
                pass
        self.proc.wait()

    def remove(self):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)


def reach(sp, who, *names):
    """The person's ssh_config knows these targets as it knows core-01."""
    path = "%s/people/%s/ssh_config" % (sp.dir, who)
    with open(path) as f:
        text = f.read()
    with open(path, "w") as f:
        f.write(text.replace("Host core-01\n", "Host core-01 %s\n" % " ".join(names)))
