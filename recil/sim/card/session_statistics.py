"""What a session adds up to."""

from __future__ import annotations

import numpy as np

from recil.sim.card.held_out import HeldOut

NAMES = (
    "clicks per session",
    "longest run of clicks",
    "share of steps with a click",
    "clicks on an item again",
    "steps before the first click",
)


def per_session(seen: HeldOut) -> np.ndarray:
    """float64 [S, 5], by the names above. Without a click, all steps are before the first."""
    log, starts = seen.log, seen.log.offsets[:-1]
    _, taken = seen.past
    columns = (
        np.add.reduceat(seen.clicks, starts),
        np.maximum.reduceat(seen.run, starts),
        np.add.reduceat(seen.clicks > 0, starts) / log.lengths,
        np.bincount(seen.owner[seen.row], seen.clicked * taken, log.sessions),
        np.minimum(np.minimum.reduceat(np.where(seen.clicks > 0, seen.step, log.steps), starts), log.lengths),
    )
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], 1)


def coverage(seen: HeldOut, drawn: HeldOut) -> tuple[float, float, float]:
    """Shares of the catalogue clicked at least once, logged and simulated, and the standard error of the difference.

    The error counts an item's clicks as Poisson, with the mean of both sides.
    """
    size = seen.log.catalogue
    counts = [np.bincount(side.item, side.clicked, size) for side in (seen, drawn)]
    none = np.exp(-(counts[0] + counts[1]) / 2)
    first, second = (float((count > 0).mean()) for count in counts)
    return first, second, float(np.sqrt(2 * (none * (1 - none)).sum())) / size
