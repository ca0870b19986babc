"""A headless Chromium for tests, told what to do through the pipe of its DevTools protocol: no package is needed.

Source of the messages: https://chromedevtools.github.io/devtools-protocol/.
"""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PATIENCE = 60.0  # seconds for one answer, on a machine that does other things too
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # It refuses to start as root otherwise; the pages are the tests' own.
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
OUR_END, ITS_READ, ITS_WRITE = 10, 3, 4  # Our file descriptors stay clear of the two that Chromium expects.


def find_chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Chromium:
    """One browser with one page.

    Attributes:
        problems: console errors, uncaught exceptions and what the content security policy refused, as texts.
        requests: the address of every request of the page, data: and blob: too.
    """

    def __init__(self, pid: int, to: int, back: int):
        self.pid, self._to, self._back = pid, to, back
        self._buffer, self._last, self._session = b"", 0, None
        self.problems: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters) -> dict:
        """Sends one command and returns its result; events that come before it are noted."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        limit = time.monotonic() + PATIENCE
        while True:
            answer = self._receive(limit)
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def open(self, path: Path, width: int = 1280, height: int = 900) -> None:
        """Loads a file of this machine into a window of that many CSS pixels; waits until it is loaded."""
        self.problems.clear()
        self.requests.clear()
        self.resize(width, height)
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.until("document.readyState === 'complete'")

    def resize(self, width: int, height: int, phone: bool = False) -> None:
        scale = 2 if phone else 1
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )

    def prefers(self, scheme: str) -> None:
        """Sets prefers-color-scheme: "light" or "dark"."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def run(self, script: str):
        """The value of a JavaScript expression (awaited where it is a promise)."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    def until(self, condition: str) -> None:
        """Waits for a JavaScript expression to be true."""
        limit = time.monotonic() + PATIENCE
        while not self.run(condition):
            if time.monotonic() > limit:
                raise TimeoutError(f"{condition} did not come true; the page said {self.problems}")
            time.sleep(0.02)

    def press(self, key: str, shift: bool = False) -> None:
        """One key, by its name in KeyboardEvent.key."""
        text = {"text": key} if key == " " else {}
        settings = {"key": key, "code": "Space" if key == " " else key, "modifiers": 8 if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown", **settings, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **settings)

    def mouse(self, kind: str, x: float, y: float) -> None:
        """`kind`: "mousePressed", "mouseMoved" or "mouseReleased", at CSS pixels of the window, left button."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def click(self, x: float, y: float) -> None:
        self.mouse("mousePressed", x, y)
        self.mouse("mouseReleased", x, y)

    def box(self, selector: str) -> dict:
        """Where the first such element lies in the window, scrolled into it: x, y, width, height."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{element}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        return self.run(f"JSON.parse(JSON.stringify({element}.getBoundingClientRect()))")

    def screenshot(self, path: Path, whole: bool = True) -> None:
        """Writes a PNG of the window, or of the whole page."""
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(picture["data"]))

    def _receive(self, limit: float) -> dict:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._back], [], [], max(0.0, limit - time.monotonic()))
            if not ready:
                raise TimeoutError(f"Chromium did not answer within {PATIENCE:g} s")
            data = os.read(self._back, 1 << 20)
            if not data:
                raise RuntimeError("Chromium ended")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\0", 1)
        message = json.loads(line)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, event: str | None, content: dict) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(content["request"]["url"])
        if event == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(content["exceptionDetails"])[:1000])
        if event == "Runtime.consoleAPICalled" and content["type"] in ("error", "warning", "assert"):
            self.problems.append(json.dumps(content["args"])[:1000])
        if event == "Log.entryAdded" and content["entry"]["level"] in ("error", "warning"):
            self.problems.append(content["entry"]["text"])


@contextlib.contextmanager
def chromium(executable: str) -> Iterator[Chromium]:
    """A browser of its own, with an empty profile, ended and removed afterwards."""
    profile = Path(tempfile.mkdtemp(prefix="chromium-"))
    ends = [end for _ in range(2) for end in os.pipe()]
    its_read, to, back, its_write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, OUR_END) for end in ends)
    for end in ends:
        os.close(end)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    pid = os.posix_spawn(
        executable,
        [executable, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        os.environ | {"HOME": str(profile)},
        file_actions=[
            # First: `null` may be one of the two numbers that are taken next.
            *((os.POSIX_SPAWN_DUP2, null, standard) for standard in range(3)),
            (os.POSIX_SPAWN_DUP2, its_read, ITS_READ),
            (os.POSIX_SPAWN_DUP2, its_write, ITS_WRITE),
        ],
        setsid=True,  # A group of its own, so that its helpers end with it.
    )
    for end in (its_read, its_write, null):
        os.close(end)
    try:
        yield Chromium(pid, to, back)
    finally:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(to)
        os.close(back)
        shutil.rmtree(profile, ignore_errors=True)
