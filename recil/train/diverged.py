"""A run whose numbers are no longer finite, and the checkpoint that is left of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recil.errors import InputError


class Diverged(InputError):
    """A loss or a gradient that is not finite: its step and the sessions of its batch."""


@contextmanager
def naming(checkpoint: str | Path | None) -> Iterator[None]:
    """What diverges inside names this checkpoint too, if it was written: the state before numbers went wrong."""
    try:
        yield
    except Diverged as error:
        if checkpoint is None or not Path(checkpoint).exists():
            raise
        problem = f"{error.problem}; the last good checkpoint is {checkpoint}"
        raise Diverged(error.place, problem, error.remedy) from error
