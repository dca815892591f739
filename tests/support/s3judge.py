# SPDX-License-Identifier: Apache-2.0
"""An S3 store that is strict, for tests: every request's signature is computed anew from the published specification of AWS
Signature Version 4 ("Create a signed AWS API request"), every digest is checked, and objects under a lock stay.

It knows as much as sallyport-ship uses: PUT, GET, HEAD, DELETE, uploads in parts, lists of uploads, parts and versions.
Faults are a function of the test: fault(kind, number of that kind so far) gives None, a status, "cut", "hang", "digest" or
"bytes".
"""
import base64
import datetime
import hashlib
import hmac
import http.server
import os
import re
import socket
import ssl
import subprocess
import threading
import urllib.parse
from xml.sax.saxutils import escape

EMPTY = hashlib.sha256(b"").hexdigest()


def make_tls(directory, names=("localhost",), addresses=("127.0.0.1",)):
    """A CA of our own and a certificate of it: (ca.pem, chain with its key)."""
    d = directory + "/"
    run = lambda *a: subprocess.run(["openssl"] + list(a), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: E731
    san = ",".join(["DNS:" + n for n in names] + ["IP:" + a for a in addresses])
    if not os.path.exists(d + "ca.pem"):
        run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", d + "ca.key", "-out", d + "ca.pem",
            "-days", "30", "-subj", "/CN=test ca")
    run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", d + "s.key", "-out", d + "s.csr", "-subj", "/CN=store")
    with open(d + "ext", "w") as f:
        f.write("subjectAltName=%s\n" % san)
    run("x509", "-req", "-in", d + "s.csr", "-CA", d + "ca.pem", "-CAkey", d + "ca.key", "-CAcreateserial", "-days", "30",
        "-extfile", d + "ext", "-out", d + "s.pem")
    return d + "ca.pem", (d + "s.pem", d + "s.key")


def uri(s, slash=False):
    return urllib.parse.quote(s, safe="-_.~" + ("/" if slash else ""))


def signature(secret, method, path, query, headers, signed, payload, stamp, scope):
    """As the specification says it, from nothing of ours."""
    canonical_query = "&".join("%s=%s" % (uri(k), uri(v)) for k, v in sorted(query))
    canonical = "\n".join([method, uri(urllib.parse.unquote(path), True), canonical_query,
                           "".join("%s:%s\n" % (h, " ".join(headers[h].split())) for h in signed), ";".join(signed), payload])
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


class Store:
    """The objects, and what was asked."""

    def __init__(self, bucket="evidence", region="eu-test-1", access="AKIATEST", secret="s3cr3t/+key", sums=True):
        self.bucket, self.region, self.access, self.secret = bucket, region, access, secret
        self.sums = sums          # does it compute SHA-256 of what it takes?
        self.lock = threading.RLock()
        self.versions = {}        # key -> [(version, bytes, info)], the newest last
        self.uploads = {}         # id -> (key, info, {number: bytes})
        self.asked, self.refused, self.n = [], [], {}
        self.fault = lambda kind, n: None
        self.serial = 0

    def bytes(self, key):
        v = self.versions.get(key, [])
        return v[-1][1] if v else None

    def keys(self):
        return sorted(k for k, v in self.versions.items() if v)

    def parts(self):
        return sum(len(p) for _, _, p in self.uploads.values())

    def new_id(self, what):
        self.serial += 1
        return "%s.%d_%s" % (what, self.serial, os.urandom(6).hex())


class Refused(Exception):
    def __init__(self, status, code):
        self.status, self.code = status, code


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *a):
        pass

    @property
    def store(self):
        return self.server.store

    # ------------------------------------------------------------------ judging
    def judge(self, path, query, body):
        s = self.store
        h = {k.lower(): v.strip() for k, v in self.headers.items()}
        m = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8}/[^/]+/s3/aws4_request), ?SignedHeaders=([a-z0-9;-]+), ?"
                         r"Signature=([0-9a-f]{64})", h.get("authorization", ""))
        if not m:
            raise Refused(403, "AccessDenied")
        stamp, payload = h.get("x-amz-date", ""), h.get("x-amz-content-sha256", "")
        signed = m.group(3).split(";")
        try:
            t = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ")
        except ValueError:
            raise Refused(403, "AccessDenied")
        must = ["host", "x-amz-date"] + [x for x in h if x.startswith("x-amz-") and x not in ("x-amz-date",)]
        if m.group(1) != s.access or m.group(2) != "%s/%s/s3/aws4_request" % (stamp[:8], s.region):
            raise Refused(403, "InvalidAccessKeyId")
        if signed != sorted(signed) or any(x not in signed for x in must) or any(x not in h for x in signed):
            raise Refused(403, "AccessDenied")
        if abs((datetime.datetime.utcnow() - t).total_seconds()) > 900:
            raise Refused(403, "RequestTimeTooSkewed")
        if not hmac.compare_digest(m.group(4), signature(s.secret, self.command, path, query, h, signed, payload, stamp, m.group(2))):
            raise Refused(403, "SignatureDoesNotMatch")
        if payload != hashlib.sha256(body).hexdigest():
            raise Refused(400, "XAmzContentSHA256Mismatch")
        sum_ = h.get("x-amz-checksum-sha256")
        if sum_ and base64.b64decode(sum_) != hashlib.sha256(body).digest():
            raise Refused(400, "BadDigest")
        return h

    # ------------------------------------------------------------------ answering
    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for k, v in headers:
            self.send_header(k, v)
        if not any(k == "Content-Length" for k, _ in headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def error(self, status, code):
        self.answer(status, ("<?xml version=\"1.0\"?><Error><Code>%s</Code></Error>" % code).encode())

    def cut(self):
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def kind(self, key, q):
        if key is None:
            return "uploads" if "uploads" in q else "versions"
        if self.command == "POST":
            return "begin" if "uploads" in q else "complete"
        if self.command == "PUT":
            return "part" if "uploadId" in q else "put"
        if self.command == "GET" and "uploadId" in q:
            return "parts"
        return self.command.lower()

    def serve(self):
        s = self.store
        path, _, qs = self.path.partition("?")
        query = [tuple(urllib.parse.unquote(x) for x in (p.partition("=")[0], p.partition("=")[2])) for p in qs.split("&") if p]
        q = dict(query)
        bucket, _, key = urllib.parse.unquote(path).lstrip("/").partition("/")
        kind = self.kind(key or None, q)
        with s.lock:
            s.n[kind] = s.n.get(kind, 0) + 1
            n = s.n[kind]
        fault = s.fault(kind, n)
        length = int(self.headers.get("Content-Length", 0))
        if fault == "cut" and length > 0:
            self.rfile.read(length // 2)
            return self.cut()
        body = self.rfile.read(length)
        if len(body) < length:
            return self.cut()
        if fault == "cut":
            return self.cut()
        if fault == "hang":
            self.server.over.wait(300)
            return self.cut()
        if isinstance(fault, int):
            return self.error(fault, "SlowDown" if fault == 503 else "Fault")
        try:
            h = self.judge(path, query, body)
            if bucket != s.bucket:
                raise Refused(404, "NoSuchBucket")
            with s.lock:
                s.asked.append((kind, key, h))
                getattr(self, "do_" + kind.upper() + "_")(key, q, h, body, fault)
        except Refused as r:
            with s.lock:
                s.refused.append((kind, r.code))
            self.error(r.status, r.code)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = serve

    # ------------------------------------------------------------------ objects
    def info(self, h):
        return {"mode": h.get("x-amz-object-lock-mode"), "until": h.get("x-amz-object-lock-retain-until-date"),
                "hold": h.get("x-amz-object-lock-legal-hold")}

    def keep(self, key, body, info, sum_):
        self.store.versions.setdefault(key, []).append((self.store.new_id("v"), body, dict(info, sum=sum_)))

    def do_PUT_(self, key, q, h, body, fault):
        if fault == "bytes":
            body = bytes([body[0] ^ 1]) + body[1:]
        self.keep(key, body, self.info(h), base64.b64encode(hashlib.sha256(body).digest()).decode())
        self.answer(200, headers=[("ETag", '"%s"' % hashlib.md5(body).hexdigest())])

    def newest(self, key):
        v = self.store.versions.get(key)
        if not v:
            raise Refused(404, "NoSuchKey")
        return v[-1]

    def do_HEAD_(self, key, q, h, body, fault):
        _, data, info = self.newest(key)
        more = []
        if self.store.sums and h.get("x-amz-checksum-mode") == "ENABLED":
            more = [("x-amz-checksum-sha256", "AAAA" + info["sum"][4:] if fault == "digest" else info["sum"])]
        self.answer(200, headers=[("Content-Length", str(len(data)))] + more)

    def do_GET_(self, key, q, h, body, fault):
        _, data, _ = self.newest(key)
        if fault == "bytes":
            data = data[:-1] + bytes([data[-1] ^ 1])
        self.answer(200, data)

    def do_DELETE_(self, key, q, h, body, fault):
        s = self.store
        if "uploadId" in q:
            if q["uploadId"] not in s.uploads:
                raise Refused(404, "NoSuchUpload")
            del s.uploads[q["uploadId"]]
            return self.answer(204)
        for i, (version, _, info) in enumerate(s.versions.get(key, [])):
            if version == q.get("versionId"):
                until = info["until"] and datetime.datetime.strptime(info["until"], "%Y-%m-%dT%H:%M:%SZ")
                if info["hold"] == "ON" or (until and until > datetime.datetime.utcnow()):
                    raise Refused(403, "AccessDenied")
                del s.versions[key][i]
                return self.answer(204)
        self.answer(204)

    def do_VERSIONS_(self, key, q, h, body, fault):
        x = "".join("<Version><Key>%s</Key><VersionId>%s</VersionId></Version>" % (escape(k), v) for k, all_ in self.store.versions.items()
                    if k.startswith(q.get("prefix", "")) for v, _, _ in all_)
        self.answer(200, ("<ListVersionsResult>%s</ListVersionsResult>" % x).encode())

    # -------------------------------------------------------------------- parts
    def do_BEGIN_(self, key, q, h, body, fault):
        u = self.store.new_id("up")
        self.store.uploads[u] = (key, self.info(h), {})
        self.answer(200, ("<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>" % u).encode())

    def upload(self, key, q):
        u = self.store.uploads.get(q["uploadId"])
        if u is None or u[0] != key:
            raise Refused(404, "NoSuchUpload")
        return u

    def do_PART_(self, key, q, h, body, fault):
        self.upload(key, q)[2][int(q["partNumber"])] = body
        self.answer(200, headers=[("ETag", '"%s"' % hashlib.md5(body).hexdigest())])

    def do_UPLOADS_(self, key, q, h, body, fault):
        x = "".join("<Upload><Key>%s</Key><UploadId>%s</UploadId></Upload>" % (escape(k), u)
                    for u, (k, _, _) in self.store.uploads.items() if k.startswith(q.get("prefix", "")))
        self.answer(200, ("<ListMultipartUploadsResult>%s</ListMultipartUploadsResult>" % x).encode())

    def do_PARTS_(self, key, q, h, body, fault):
        after, page = int(q.get("part-number-marker", 0)), 2
        all_ = sorted((n, b) for n, b in self.upload(key, q)[2].items() if n > after)
        x = ""
        for n, b in all_[:page]:
            sum_ = base64.b64encode(hashlib.sha256(b).digest()).decode()
            x += "<Part><PartNumber>%d</PartNumber><Size>%d</Size><ETag>&quot;%s&quot;</ETag>%s</Part>" % (
                n, len(b), hashlib.md5(b).hexdigest(), "<ChecksumSHA256>%s</ChecksumSHA256>" % sum_ if self.store.sums else "")
        more = len(all_) > page
        x += "<IsTruncated>%s</IsTruncated>" % ("true" if more else "false")
        if more:
            x += "<NextPartNumberMarker>%d</NextPartNumberMarker>" % all_[page - 1][0]
        self.answer(200, ("<ListPartsResult>%s</ListPartsResult>" % x).encode())

    def do_COMPLETE_(self, key, q, h, body, fault):
        _, info, parts = self.upload(key, q)
        listed = re.findall(rb"<Part><ChecksumSHA256>([^<]+)</ChecksumSHA256><ETag>([^<]+)</ETag><PartNumber>(\d+)</PartNumber></Part>", body)
        for sum_, etag, n in listed:
            b = parts.get(int(n))
            if b is None or base64.b64decode(sum_) != hashlib.sha256(b).digest() or \
                    etag.decode().replace("&quot;", '"') != '"%s"' % hashlib.md5(b).hexdigest():
                raise Refused(400, "InvalidPart")
        if [int(n) for _, _, n in listed] != list(range(1, len(parts) + 1)) or any(len(b) < 5 << 20 for b in [parts[i] for i in range(1, len(parts))]):
            raise Refused(400, "InvalidPartOrder")
        whole = b"".join(parts[i] for i in sorted(parts))
        digest = hashlib.sha256(b"".join(hashlib.sha256(parts[i]).digest() for i in sorted(parts))).digest()
        del self.store.uploads[q["uploadId"]]
        self.keep(key, whole, info, "%s-%d" % (base64.b64encode(digest).decode(), len(parts)))
        if fault == "late":     # it was done, and the answer is an error
            return self.answer(200, b"<Error><Code>InternalError</Code></Error>")
        self.answer(200, b"<CompleteMultipartUploadResult/>")


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, store, tls, port=0):
        self.store, self.over = store, threading.Event()
        super().__init__(("127.0.0.1", port), Handler)
        c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        c.load_cert_chain(*tls)
        self.tls = c
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def finish_request(self, request, client_address):
        request.settimeout(120)
        try:
            with self.tls.wrap_socket(request, server_side=True) as s:
                self.RequestHandlerClass(s, client_address, self)
        except (OSError, ValueError):
            pass

    def handle_error(self, request, client_address):
        pass

    def end(self):
        self.over.set()
        self.shutdown()
        self.server_close()
