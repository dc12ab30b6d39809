"""Progress on standard error: a bar with rate and time left on a terminal, silence in a pipe."""

from __future__ import annotations

import sys
import time

_BAR = 24


class ProgressBar:
    """Call it with (done, total, what). Used as a context, it leaves the terminal on a line of its own."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._shown = False
        self._terminal = sys.stderr.isatty()

    def __call__(self, done: int, total: int, what: str) -> None:
        if not self._terminal:
            return
        self._shown = True
        sys.stderr.write("\r\x1b[2K" + progress_line(done, total, what, time.monotonic() - self._started))
        sys.stderr.flush()

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            sys.stderr.write("\n")


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
