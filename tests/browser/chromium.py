"""Drives a headless Chromium by the DevTools protocol over a pipe: no package needed, no port.

    with chromium.Page(width=1280, height=900) as page:
        page.open("/tmp/report.html")
        page.evaluate("document.title")
        assert not page.errors
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.parse


def find():
    """The browser's path, or None."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        path = shutil.which(name)
        if path:
            return path
    return None


class PageTest:
    """What holds for every page; mixed into a unittest.TestCase."""

    def check(self, page):
        """Nothing failed, nothing was loaded, and the page is no wider than the window."""
        self.assertEqual(page.errors, [])
        self.assertEqual(len(page.requests), 1, page.requests)  # the page itself
        width, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        self.assertLessEqual(width, window)


class Page:
    """One page of one browser. `errors` gathers console errors, exceptions and blocked or failed
    loads; `requests` every address asked for."""

    def __init__(self, width=1280, height=900, dark=False, scale=1, mobile=False):
        self.errors, self.requests = [], []
        self._size = dict(width=width, height=height, deviceScaleFactor=scale, mobile=mobile)
        self._dark = dark

    def __enter__(self):
        self._home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_browser, our_out = os.pipe()
        our_in, from_browser = os.pipe()

        def place_pipes():  # The browser reads descriptor 3 and writes descriptor 4.
            read, write = os.dup(to_browser), os.dup(from_browser)
            os.dup2(read, 3)
            os.dup2(write, 4)

        environment = dict(os.environ, HOME=os.environ.get("HOME", self._home.name))
        self._process = subprocess.Popen(
            [find(), "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu",
             "--no-first-run", "--disable-extensions", "--disable-dev-shm-usage",
             "--hide-scrollbars", "--user-data-dir=" + self._home.name, "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=place_pipes, close_fds=False, env=environment)
        os.close(to_browser)
        os.close(from_browser)
        self._out, self._in = our_out, our_in
        self._buffer, self._id, self._session, self._loaded = b"", 0, None, False
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(domain + ".enable")
        self._call("Emulation.setDeviceMetricsOverride", **self._size)
        self.set_dark(self._dark)
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        os.close(self._out)
        os.close(self._in)
        self._home.cleanup()

    def set_dark(self, dark):
        self._call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self._drawn()

    def set_width(self, width, height):
        self._size.update(width=width, height=height)
        self._call("Emulation.setDeviceMetricsOverride", **self._size)
        self._drawn()

    def open(self, path, timeout=60):
        """Loads a file and waits until it has loaded and drawn."""
        self._loaded = False
        self._call("Page.navigate", url="file://" + urllib.parse.quote(os.path.abspath(path)))
        end = time.monotonic() + timeout
        while not self._loaded:
            if time.monotonic() > end:
                raise TimeoutError("the page did not load")
            self._call("Runtime.evaluate", expression="0")
            time.sleep(0.05)
        self._drawn()

    def _drawn(self):
        """Waits until what has changed is on the screen."""
        self.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 300)))")

    def evaluate(self, expression):
        """The value of a JavaScript expression; a promise is waited for."""
        result = self._call("Runtime.evaluate", expression=expression, returnByValue=True,
                            awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(json.dumps(result["exceptionDetails"]))
        return result["result"].get("value")

    def mouse(self, x, y, kind="mouseMoved"):
        self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="none")
        time.sleep(0.1)

    def key(self, name):
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=name, code=name)
        time.sleep(0.05)

    def screenshot(self, path, full=False, clip=None):
        import base64
        options = {"format": "png", "captureBeyondViewport": full or bool(clip)}
        if full:
            size = self._call("Page.getLayoutMetrics")["cssContentSize"]
            clip = dict(x=0, y=0, width=size["width"], height=size["height"])
        if clip:
            options["clip"] = dict(clip, scale=1)
        data = self._call("Page.captureScreenshot", **options)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def _call(self, method, **parameters):
        self._id += 1
        message = {"id": self._id, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data):]
        while True:
            answer = self._read()
            if answer.get("id") == self._id:
                if "error" in answer:
                    raise RuntimeError(method + ": " + answer["error"]["message"])
                return answer["result"]
            self._event(answer)

    def _read(self):
        while b"\0" not in self._buffer:
            piece = os.read(self._in, 1 << 16)
            if not piece:
                raise RuntimeError("the browser ended")
            self._buffer += piece
        line, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(line)

    def _event(self, message):
        name, data = message.get("method", ""), message.get("params", {})
        if name == "Page.loadEventFired":
            self._loaded = True
        elif name == "Network.requestWillBeSent":
            self.requests.append(data["request"]["url"])
        elif name == "Network.loadingFailed":
            self.errors.append("failed load: " + data.get("errorText", ""))
        elif name == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(data["exceptionDetails"])[:400])
        elif name == "Runtime.consoleAPICalled" and data["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(data["args"])[:400])
        elif name == "Log.entryAdded" and data["entry"]["level"] in ("error", "warning"):
            self.errors.append(data["entry"]["text"])
