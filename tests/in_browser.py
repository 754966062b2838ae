"""Pages in a headless Chromium, driven by the DevTools protocol over pipes: no library, no port.

    with Browser() as browser:
        page = browser.open(tmp_path / "page.html")
        page.wait_for("document.title === 'ready'")
        assert page.evaluate("1 + 1") == 2
        assert page.errors == [] and page.requests == []

Everything has a limit in time, and the browser ends with the `with`, or with the process that started it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

SECONDS = 60.0  # for an answer; a machine that does other work too is slow
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "headless_shell")
CACHES = (".cache/ms-playwright", "Library/Caches/ms-playwright")  # where Playwright keeps its own
OWN = ("file:", "data:", "blob:", "about:")  # addresses that no network is needed for
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowDown": 40}  # codes of keys that write no letter
# No sandbox: as root there is none, and the pages are our own.
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio",
         "--hide-scrollbars", "--disable-background-networking", "--disable-component-update",
         "--remote-debugging-pipe")  # fmt: skip


def chromium() -> str | None:
    """A browser that is installed: on the path, or one of Playwright's."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    own = (path for cache in CACHES for path in sorted((Path.home() / cache).glob("chromium*/*/*")))
    return found or next((str(path) for path in own if path.name.lower() in NAMES), None)


class Browser:
    """A Chromium of its own, without anyone's profile. Skips the test where there is none, or none that starts."""

    def __init__(self) -> None:
        program = chromium()
        if program is None:
            pytest.skip("pages are tested in a browser too: no Chromium is installed")
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        # The browser reads from 3 and writes to 4, which a shell makes of what it is given.
        shell = 'exec "$@" 3<&0 4>&1 0</dev/null 1>/dev/null 2>"$0"'
        command = ["/bin/sh", "-c", shell, str(self.log), program, *FLAGS,
                   f"--user-data-dir={self.folder.name}/profile"]  # fmt: skip
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0)
        self.pages: dict[str, Page] = {}  # by the sessions of pages and of their workers
        self.answers: dict[int, dict[str, Any]] = {}
        self.asked, self.rest = 0, b""
        try:
            self.ask("Browser.getVersion")
        except OSError:
            said = self.log.read_text(errors="replace")[-1000:] if self.log.exists() else ""
            self.close()
            pytest.skip(f"pages are tested in a browser too, but {program} does not start: {said}")

    @property
    def log(self) -> Path:
        """What the browser prints."""
        return Path(self.folder.name) / "log"

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the browser and all of its processes."""
        with contextlib.suppress(OSError):
            self.send("Browser.close", {}, None)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)  # a group of which only the browser's processes are
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        self.folder.cleanup()

    def open(self, path: Path, width: int = 1200, height: int = 800, dark: bool = False) -> Page:
        """A page from disk, loaded, in a window of this size."""
        target = self.ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = self.pages[session] = Page(self, session, target)
        page.view(width, height, dark)
        page.go(path)
        return page

    def ask(self, method: str, parameters: dict[str, Any] | None = None, session: str | None = None) -> dict[str, Any]:
        """What the method answers. AssertionError where it fails, TimeoutError (an OSError) where it takes too long."""
        number = self.send(method, parameters or {}, session)
        end = time.monotonic() + SECONDS
        while number not in self.answers:
            self.receive(end - time.monotonic())
        answer = self.answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def send(self, method: str, parameters: dict[str, Any], session: str | None) -> int:
        """Send a question; its number."""
        self.asked += 1
        message = {"id": self.asked, "method": method, "params": parameters}
        message |= {"sessionId": session} if session else {}
        self.process.stdin.write(json.dumps(message).encode() + b"\0")
        self.process.stdin.flush()
        return self.asked

    def receive(self, seconds: float) -> None:
        """Take what the browser says next."""
        pipe = self.process.stdout.fileno()
        if not select.select([pipe], [], [], max(seconds, 0))[0]:
            raise TimeoutError("the browser does not answer")
        received = os.read(pipe, 1 << 20)
        if not received:
            raise ConnectionError("the browser has ended")
        *messages, self.rest = (self.rest + received).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self.answers[message["id"]] = message
            elif message.get("sessionId") in self.pages:
                self.pages[message["sessionId"]].hear(message["method"], message["params"], message["sessionId"])


class Page:
    """A page that is open.

    errors: what its console, its exceptions and the browser complained of, warnings included, workers too.
    requests: addresses that it asked for, but for itself and what lies in it (data: and blob:).
    """

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self.browser, self.session, self.target = browser, session, target
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.loaded = False
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        self.ask("Target.setAutoAttach", {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": True})

    def ask(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        return self.browser.ask(method, parameters, self.session)

    def hear(self, method: str, given: dict[str, Any], session: str) -> None:
        """An event of the page or of one of its workers, which wait until they are listened to."""
        if method == "Target.attachedToTarget":
            worker = given["sessionId"]
            self.browser.pages[worker] = self
            for question in ("Runtime.enable", "Log.enable", "Network.enable", "Runtime.runIfWaitingForDebugger"):
                self.browser.send(question, {}, worker)
        elif method == "Page.loadEventFired":
            self.loaded = True
        elif method == "Network.requestWillBeSent" and not given["request"]["url"].startswith(OWN):
            self.requests.append(given["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = given["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and given["type"] in ("error", "warning", "assert"):
            self.errors.append(" ".join(str(part.get("value", part.get("description"))) for part in given["args"]))
        elif method == "Log.entryAdded" and given["entry"]["level"] in ("error", "warning"):
            self.errors.append(given["entry"]["text"])

    def go(self, path: Path) -> None:
        """Load another page from disk."""
        self.loaded = False
        self.ask("Page.navigate", {"url": Path(path).absolute().as_uri()})
        end = time.monotonic() + SECONDS
        while not self.loaded:
            self.browser.receive(end - time.monotonic())

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, of a promise what it comes to; AssertionError where it throws."""
        wanted = {"expression": expression, "awaitPromise": True, "returnByValue": True, "userGesture": True}
        answer = self.ask("Runtime.evaluate", wanted)
        thrown = answer.get("exceptionDetails")
        assert thrown is None, thrown.get("exception", {}).get("description", thrown["text"])
        return answer["result"].get("value")

    def wait_for(self, expression: str, seconds: float = SECONDS) -> Any:
        """The value of the expression as soon as it is true; AssertionError where it does not become so."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, f"not true after {seconds} s: {expression}; {self.errors}"
            time.sleep(0.02)
        return value

    def view(self, width: int, height: int, dark: bool = False) -> None:
        """Size of the window in px, and the user's choice of colours."""
        self.ask("Emulation.setDeviceMetricsOverride",
                 {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", {"features": [scheme]})

    def press(self, key: str) -> None:
        """A key, by its name in JavaScript: "Tab", "Enter", " ", "a"."""
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        given = {"key": key, "windowsVirtualKeyCode": KEYS.get(key, ord(key[0].upper())), "text": text}
        self.ask("Input.dispatchKeyEvent", {"type": "keyDown" if text else "rawKeyDown", **given})
        self.ask("Input.dispatchKeyEvent", {"type": "keyUp", **given})

    def choose_files(self, selector: str, *paths: Path) -> None:
        """As if the user had chosen these files in an <input type="file">."""
        field = self.ask("Runtime.evaluate", {"expression": f"document.querySelector({json.dumps(selector)})"})
        files = [str(Path(path).absolute()) for path in paths]
        self.ask("DOM.setFileInputFiles", {"files": files, "objectId": field["result"]["objectId"]})

    def download_to(self, folder: Path) -> None:
        """Where files go that the page saves."""
        self.browser.ask("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})

    def screenshot(self, path: Path, whole: bool = True) -> None:
        """A PNG of the page, or of what the window shows of it."""
        answer = self.ask("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})
        Path(path).write_bytes(base64.b64decode(answer["data"]))

    def close(self) -> None:
        self.browser.ask("Target.closeTarget", {"targetId": self.target})
