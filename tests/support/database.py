# SPDX-License-Identifier: Apache-2.0
"""Databases as targets: a PostgreSQL of our own with TLS, scram-sha-256 for everybody over TCP, and every statement logged."""
import glob
import hashlib
import os
import shutil
import signal
import ssl
import subprocess

from sp import free_port, wait_for

ROOT = os.geteuid() == 0


def bin_of(name):
    for d in sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True):
        if os.path.exists("%s/%s" % (d, name)):
            return "%s/%s" % (d, name)
    raise AssertionError("no PostgreSQL server: apt-get install postgresql")


def certificate(directory, name="server", digest="sha256"):
    key, crt = ("%s/%s.%s" % (directory, name, x) for x in ("key", "crt"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-" + digest, "-days", "30", "-subj", "/CN=" + name,
                    "-keyout", key, "-out", crt], check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.chmod(key, 0o600)
    return key, crt


def pin(crt):
    with open(crt) as f:
        return "sha256:" + hashlib.sha256(ssl.PEM_cert_to_DER_cert(f.read())).hexdigest()


class PostgreSQL:
    def __init__(self, sp, name, options="", digest="sha256"):
        self.sp, self.name = sp, name
        self.dir = "%s/pg-%s" % (os.path.dirname(os.path.realpath(sp.dir)), name)
        os.makedirs(self.dir)
        self.user = []
        if ROOT:
            user = "postgres" if subprocess.run(["id", "postgres"], capture_output=True).returncode == 0 else "nobody"
            shutil.chown(self.dir, user)
            self.user = ["runuser", "-u", user, "--"]
        self.port = free_port()
        self.key, self.crt = certificate(self.dir, digest=digest)
        if ROOT:
            shutil.chown(self.key, user)
        self.run(bin_of("initdb"), "-D", self.dir + "/data", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync",
                 "--locale=C.UTF-8")
        with open(self.dir + "/data/postgresql.conf", "a") as f:
            f.write("\n".join([
                "listen_addresses = '127.0.0.1'", "port = %d" % self.port, "unix_socket_directories = '%s'" % self.dir,
                "ssl = on", "ssl_key_file = '%s'" % self.key, "ssl_cert_file = '%s'" % self.crt, "fsync = off",
                "password_encryption = 'scram-sha-256'", "log_statement = 'all'", "log_connections = on",
                "log_disconnections = on", "logging_collector = off", "max_connections = 100",
                "log_line_prefix = '%m [%p] %u@%d '", options]) + "\n")
        with open(self.dir + "/data/pg_hba.conf", "w") as f:
            f.write("local all all trust\nhostssl all md5er 127.0.0.1/32 md5\nhostssl all clear 127.0.0.1/32 password\n"
                    "hostssl all open 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
        self.proc = None
        self.start()

    def run(self, *argv, check=True, **k):
        return subprocess.run(self.user + list(argv), check=check, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, cwd="/", **k)

    def start(self):
        out = open(self.dir + "/log", "ab")
        self.proc = subprocess.Popen(self.user + [bin_of("postgres"), "-D", self.dir + "/data"], stdin=subprocess.DEVNULL,
                                     stdout=out, stderr=out, cwd="/", start_new_session=True)
        out.close()
        self.sp.started.append(self.proc)
        wait_for(lambda: self.run(bin_of("pg_isready"), "-q", "-h", self.dir, "-p", str(self.port), check=False).returncode == 0,
                 60, "PostgreSQL: " + self.log()[-2000:])

    def stop(self):
        """At once; runuser passes the signal on."""
        with open(self.dir + "/data/postmaster.pid") as f:
            pid = int(f.readline())
        os.kill(pid, signal.SIGQUIT)
        self.proc.wait(60)

    def sql(self, text, db="postgres"):
        r = self.run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", self.dir, "-p", str(self.port), "-U", "postgres",
                     "-d", db, "-c", text)
        return r.stdout.decode().strip()

    def log(self):
        try:
            with open(self.dir + "/log", errors="replace") as f:
                return f.read()
        except OSError:
            return ""

    @property
    def pin(self):
        return pin(self.crt)

    def add(self, *more, tls_pin=None, tag="db"):
        self.sp.host("target", "add", self.name, "--protocol", "postgresql", "--addr", "127.0.0.1:%d" % self.port, "--tag", tag,
                     "--tls-pin", tls_pin or self.pin, *more, check=True)

    def add_account(self, name, *more, role=True, input=None):
        """An account with a secret that no password leads to; the role gets its verifier."""
        r = self.sp.host("account", "add", "%s@%s" % (name, self.name), "--kind", "postgresql", *(more or ["--generate"]),
                         input=input, check=True)
        statement = [x for x in r.out.decode().split("\n") if x.startswith("ALTER ROLE")][0]
        if role:
            self.sql('CREATE ROLE "%s" LOGIN' % name)
            self.sql(statement)
        return statement


class Forward:
    """ssh -L PORT:TARGET:5432 on the connection that `who` has open: nobody logs in for each of them."""

    def __init__(self, sp, who, target):
        self.sp, self.who = sp, who
        self.port = free_port()
        self.spec = "127.0.0.1:%d:%s" % (self.port, target)
        self.result = sp.ssh(who, "-O", "forward", "-L", self.spec, "bastion")

    def close(self):
        self.sp.ssh(self.who, "-O", "cancel", "-L", self.spec, "bastion")

    def argv(self, *args, db="bank", user="whoever"):
        return ["psql", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-w", "-h", "127.0.0.1", "-p", str(self.port), "-U", user, "-d", db,
                *args]

    def psql(self, *args, timeout=120, **k):
        """A stock psql, without a password anywhere."""
        env = {x: y for x, y in os.environ.items() if not x.startswith("PG")}
        env.update(PGPASSFILE="/nonexistent", LC_ALL="C.UTF-8")
        r = subprocess.run(self.argv(*args, **k), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           timeout=timeout, env=env)
        return r.returncode, r.stdout.decode().strip(), r.stderr.decode().strip()

    def start(self, *args, **k):
        env = {x: y for x, y in os.environ.items() if not x.startswith("PG")}
        p = subprocess.Popen(self.argv(*args, **k), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env,
                             bufsize=0)
        self.sp.started.append(p)
        return p


class MariaDB:
    """A MariaDB of our own with TLS, and every statement logged."""

    def __init__(self, sp, name, options=()):
        self.sp, self.name = sp, name
        self.dir = "%s/my-%s" % (os.path.dirname(os.path.realpath(sp.dir)), name)
        os.makedirs(self.dir)
        self.port = free_port()
        self.key, self.crt = certificate(self.dir)
        self.user = []
        if ROOT:
            self.user = ["--user=mysql"]
            for path in (self.dir, self.key):
                shutil.chown(path, "mysql")
        self.options = list(options)
        r = subprocess.run(["mariadb-install-db", "--no-defaults", "--datadir=%s/data" % self.dir, "--skip-test-db", *self.user,
                            "--auth-root-authentication-method=normal"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, cwd="/")
        if r.returncode != 0:
            raise AssertionError("mariadb-install-db: " + r.stdout.decode(errors="replace")[-3000:])
        self.proc = None
        self.start()

    def start(self):
        argv = ["/usr/sbin/mariadbd", "--no-defaults", *self.user, "--datadir=%s/data" % self.dir, "--socket=%s/s" % self.dir,
                "--bind-address=127.0.0.1", "--port=%d" % self.port, "--ssl-cert=" + self.crt, "--ssl-key=" + self.key,
                "--plugin-load-add=auth_ed25519", "--skip-name-resolve", "--general-log", "--general-log-file=%s/general" % self.dir,
                "--pid-file=%s/pid" % self.dir, "--tmpdir=" + self.dir, "--innodb-flush-log-at-trx-commit=0", "--local-infile=1",
                "--innodb-buffer-pool-size=16M", "--performance-schema=off", "--max-allowed-packet=64M", *self.options]
        with open(self.dir + "/log", "ab") as out:
            self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/", start_new_session=True)
        self.sp.started.append(self.proc)
        wait_for(lambda: self.client("SELECT 1").returncode == 0 or self.proc.poll() is not None, 60, "MariaDB")
        if self.proc.poll() is not None:
            raise AssertionError("MariaDB: " + self.log("log")[-3000:])

    def client(self, text):
        return subprocess.run(["mariadb", "--no-defaults", "-N", "-B", "-S", self.dir + "/s", "-u", "root", "-e", text],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/")

    def sql(self, text):
        r = self.client(text)
        if r.returncode != 0:
            raise AssertionError(r.stderr.decode())
        return r.stdout.decode().strip()

    def log(self, name="general"):
        with open("%s/%s" % (self.dir, name), errors="replace") as f:
            return f.read()

    @property
    def pin(self):
        return pin(self.crt)

    def add(self, *more, tls_pin=None, tag="db"):
        self.sp.host("target", "add", self.name, "--protocol", "mariadb", "--addr", "127.0.0.1:%d" % self.port, "--tag", tag,
                     "--tls-pin", tls_pin or self.pin, *more, check=True)

    def add_account(self, name, *more, grant="SELECT ON bank.*", input=None):
        """An account with a key that no password leads to; the user gets what belongs to it."""
        r = self.sp.host("account", "add", "%s@%s" % (name, self.name), "--kind", "mariadb", *(more or ["--generate"]),
                         input=input, check=True)
        statement = [x for x in r.out.decode().split("\n") if x.startswith("ALTER USER")][0]
        self.sql("CREATE USER '%s' IDENTIFIED VIA mysql_native_password USING 'invalid' REQUIRE SSL; %s GRANT %s TO '%s'" % (
            name, statement, grant, name))
        return statement
