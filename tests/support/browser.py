# SPDX-License-Identifier: Apache-2.0
"""The real browser: Chromium without a window, driven over its own pipe (Chrome DevTools Protocol), with everything that it asks the
network for written down."""
import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time


class Browser:
    def __init__(self, width=1280, height=800, dark=True):
        self.home = tempfile.mkdtemp(prefix="sp-browser-", dir="/var/tmp")
        to_r, self.to = os.pipe()
        self.frm, from_w = os.pipe()

        def fds():
            a, b = os.dup(to_r), os.dup(from_w)
            os.dup2(a, 3)
            os.dup2(b, 4)
            os.set_inheritable(3, True)
            os.set_inheritable(4, True)
        self.p = subprocess.Popen(["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
                                   "--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-component-update",
                                   "--user-data-dir=" + self.home, "--window-size=%d,%d" % (width, height), "about:blank"],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=fds, close_fds=False,
                                  env={"HOME": self.home, "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}, start_new_session=True)
        os.close(to_r)
        os.close(from_w)
        self.n, self.buf, self.events = 0, b"", []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = None
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(domain + ".enable")
        self.size(width, height)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def size(self, width, height):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def close(self):
        self.p.kill()
        self.p.wait()
        os.close(self.to)
        os.close(self.frm)
        end = time.monotonic() + 60
        while self._kill_children() or os.path.exists(self.home):  # they outlive it by a moment, and write into the folder until then
            shutil.rmtree(self.home, ignore_errors=True)
            if time.monotonic() > end:
                raise AssertionError("a browser would not end; its folder is %s" % self.home)

    def _kill_children(self):
        """Kills whatever is left of this browser's session, or was given its folder; says how many there were."""
        n = 0
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/stat" % pid) as f:
                    state, _, _, sid = f.read().rsplit(")", 1)[1].split()[:4]
                with open("/proc/%s/cmdline" % pid, "rb") as f:
                    args = f.read()
                if state not in "ZX" and (int(sid) == self.p.pid or self.home.encode() in args):
                    os.kill(int(pid), signal.SIGKILL)
                    n += 1
            except (OSError, ValueError):
                pass  # it ended meanwhile
        return n

    def _read(self, seconds=120):
        end = time.monotonic() + seconds
        while b"\0" not in self.buf:
            if not select.select([self.frm], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError("the browser says nothing")
            piece = os.read(self.frm, 1 << 20)
            if not piece:
                raise AssertionError("the browser is gone")
            self.buf += piece
        line, self.buf = self.buf.split(b"\0", 1)
        return json.loads(line)

    def call(self, method, **params):
        self.n += 1
        m = {"id": self.n, "method": method, "params": params}
        if getattr(self, "session", None):
            m["sessionId"] = self.session
        os.write(self.to, json.dumps(m).encode() + b"\0")
        while True:
            r = self._read()
            if r.get("id") == self.n:
                if "error" in r:
                    raise AssertionError((method, r["error"]))
                return r["result"]
            self.events.append(r)

    def open(self, path):
        self.events = []
        self.call("Page.navigate", url="file://" + path)
        while not any(e["method"] == "Page.loadEventFired" for e in self.events):
            self.events.append(self._read())

    def js(self, expression):
        r = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in r:
            raise AssertionError(r["exceptionDetails"])
        return r["result"].get("value")

    def wait(self, expression, seconds=60):
        end = time.monotonic() + seconds
        while True:
            got = self.js(expression)
            if got:
                return got
            if time.monotonic() > end:
                raise AssertionError("it never came to %s" % expression)
            self.js("new Promise(r => requestAnimationFrame(r))")

    def press(self, key, shift=False):
        for kind in ("keyDown", "keyUp"):
            more = {"text": key} if kind == "keyDown" and len(key) == 1 else {"text": "\r"} if kind == "keyDown" and key == "Enter" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key if len(key) > 1 else "", windowsVirtualKeyCode=13 if key == "Enter" else 0,
                      modifiers=8 if shift else 0, **more)

    def shot(self, path):
        with open(path, "wb") as f:
            f.write(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def requests(self):
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def complaints(self):
        """What the page's own policy stopped, and errors of its script."""
        return [e["params"] for e in self.events if e["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
