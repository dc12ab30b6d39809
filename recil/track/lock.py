"""One process at a time: a lock on a file, released by the operating system when its holder dies."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recil.errors import InputError

if os.name == "nt":
    import msvcrt

    def _try_lock(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _same_file(handle: int, path: Path) -> bool:
    """Whether the path still names the file this handle is open on (its last holder may have removed it)."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False


@contextmanager
def file_lock(path: Path, seconds: float = 120.0) -> Iterator[None]:
    """Holds an exclusive lock on `path`, made when missing and removed afterwards. Waits up to `seconds`.

    Raises InputError when another process holds it longer, OSError when the folder cannot be written.
    """
    deadline = time.monotonic() + seconds
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if _try_lock(handle):
            if _same_file(handle, path):
                break
        elif time.monotonic() > deadline:
            os.close(handle)
            raise InputError(
                str(path), f"another process has held this lock for {seconds:.0f} s", "end it, then run again"
            )
        os.close(handle)
        time.sleep(0.05)
    try:
        yield
    finally:
        path.unlink(missing_ok=True) if os.name != "nt" else None
        os.close(handle)
