"""A headless Chromium, spoken to over a pipe in its own protocol: pages are opened, asked and photographed.

https://chromedevtools.github.io/devtools-protocol; messages are JSON, each ended by a zero byte.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    # What stands in a frame of its own process could not be read.
    "--disable-site-isolation-trials", "--disable-features=IsolateSandboxedIframes", "--remote-debugging-pipe",
)  # fmt: skip


class Chromium:
    """One page of a browser of its own. Used as a context, the browser ends with it. size: of the page, in pixels."""

    def __init__(self, size: tuple[int, int] = (1400, 900)) -> None:
        assert PROGRAM is not None
        self._profile = tempfile.mkdtemp(prefix="recil-chromium-")
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # High numbers, so that moving them to 3 and 4, where the browser wants them, overwrites neither.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (theirs_in, theirs_out)]
        flags = [*_FLAGS, f"--user-data-dir={self._profile}", f"--window-size={size[0]},{size[1]}", "about:blank"]
        self._browser = subprocess.Popen(
            [PROGRAM, *flags],
            close_fds=False,  # what Python opens is not inherited anyway
            preexec_fn=lambda: [os.dup2(end, place) for end, place in zip(ends, (3, 4), strict=True)] and None,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (theirs_in, theirs_out, *ends):
            os.close(end)
        self._number, self._left = 0, b""
        self._session: str | None = None
        page = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        self._ask("Page.enable")
        self.resize(*size)

    def open(self, address: str) -> None:
        self._ask("Page.navigate", url=address)

    def resize(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._ask("Emulation.setDeviceMetricsOverride", **metrics)

    def script(self, code: str, frame: str | None = None) -> Any:
        """The value of this JavaScript in the page, or in one of its frames."""
        place = {}
        if frame is not None:
            place["contextId"] = self._ask("Page.createIsolatedWorld", frameId=frame)["executionContextId"]
        return self._ask("Runtime.evaluate", expression=code, returnByValue=True, **place)["result"].get("value")

    def text(self) -> str:
        """What there is to read, in the page and the frames within it."""
        frames = self._ask("Page.getFrameTree")["frameTree"].get("childFrames", [])
        asked = "document.body ? document.body.innerText : ''"
        within = [self.script(asked, child["frame"]["id"]) for child in frames]
        return "\n".join(str(part) for part in (self.script(asked), *within))

    def wait_for(self, *wanted: str, seconds: float = 60.0) -> str:
        """The text, when all of this stands in it. Raises TimeoutError with the text as it is then."""
        ends = time.monotonic() + seconds
        while True:
            text = self.text()
            if all(part in text for part in wanted):
                return text
            if time.monotonic() > ends:
                raise TimeoutError(f"{[part for part in wanted if part not in text]} are not in:\n{text}")
            time.sleep(0.25)

    def picture(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self._ask("Page.captureScreenshot", format="png")["data"]))

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        self._session = None
        try:
            self._send("Browser.close")
            self._browser.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self._browser.kill()
            self._browser.wait()
        os.close(self._in)
        os.close(self._out)
        shutil.rmtree(self._profile, ignore_errors=True)

    def _send(self, method: str, **params: Any) -> int:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        return self._number

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        number = self._send(method, **params)
        while True:
            answer = self._next()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            if not select.select([self._in], [], [], 60.0)[0]:
                raise TimeoutError("the browser does not answer")
            part = os.read(self._in, 1 << 20)
            if not part:
                raise RuntimeError("the browser has ended")
            self._left += part
        message, _, self._left = self._left.partition(b"\0")
        return json.loads(message)
