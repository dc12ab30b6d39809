"""Progress on standard error: a bar with rate and time left on a terminal; nothing in a pipe or with --quiet."""

from __future__ import annotations

import sys
import threading
import time

from recil.cli.options import state

_BAR = 24
_CLEAR = "\r\x1b[2K"


class ProgressBar:
    """Call it with (done, total, what). Used as a context, it leaves the terminal on a line of its own."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._shown = False
        self._terminal = _heard()

    def __call__(self, done: int, total: int, what: str) -> None:
        if not self._terminal:
            return
        self._shown = True
        sys.stderr.write(_CLEAR + progress_line(done, total, what, time.monotonic() - self._started))
        sys.stderr.flush()

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            sys.stderr.write("\n")


class Waiting:
    """What is going on and for how long, while work that cannot be counted lasts; the line is gone when it is done.

    what: in a few words; every: seconds between two looks at the clock.
    """

    def __init__(self, what: str, every: float = 1.0) -> None:
        self._what, self._every = what, every
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)

    def _tell(self) -> None:
        started = time.monotonic()
        while not self._done.wait(self._every):
            line = f"{self._what}, {_words(time.monotonic() - started)}"
            sys.stderr.write(_CLEAR + line[:80])
            sys.stderr.flush()
        sys.stderr.write(_CLEAR)
        sys.stderr.flush()

    def __enter__(self) -> Waiting:
        if _heard():
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._thread.ident is not None:
            self._thread.join()


def _heard() -> bool:
    """Whether anybody reads progress."""
    return sys.stderr.isatty() and not state().quiet


def progress_line(done: int, total: int, what: str, seconds: float) -> str:
    """One line of at most 80 columns."""
    filled = _BAR * done // max(total, 1)
    left = seconds / max(done, 1) * (total - done)
    rate = 60 * done / max(seconds, 1e-9)
    line = f"[{'#' * filled}{'.' * (_BAR - filled)}] {done}/{total} {what}, {rate:.1f}/min, {_words(left)} left"
    return line[:80]


def _words(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
