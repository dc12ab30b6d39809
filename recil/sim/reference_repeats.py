"""How often each item shown was shown and clicked earlier in its session: what a recurrent state can hardly count."""

from __future__ import annotations

import numpy as np

from recil.logs.session_log import SessionLog


def repeats_of(log: SessionLog) -> np.ndarray:
    """float32 [N, K, 2]: log(1 + n) for the n times the item was shown, and clicked, at earlier steps; 0 at pads.

    An item that stands twice in one slate has not seen the other: counts are those before the slate.
    """
    result = np.zeros((*log.items.shape, 2), dtype=np.float32)
    row, place = np.nonzero(log.items >= 0)
    session = np.repeat(np.arange(log.sessions), log.lengths)[row]
    item = log.items[row, place].astype(np.int64)
    order = np.lexsort((row, item, session))
    row, place, key = row[order], place[order], (session * log.catalogue + item)[order]
    first_of_item = _first_of_run(key[1:] != key[:-1])
    first_of_slate = _first_of_run((key[1:] != key[:-1]) | (row[1:] != row[:-1]))
    for index, count in enumerate((np.ones(len(row)), log.reward[row, place] > 0)):
        before = np.concatenate([[0.0], np.cumsum(count, dtype=np.float64)])
        result[row, place, index] = np.log1p(before[first_of_slate] - before[first_of_item])
    return result


def _first_of_run(changes: np.ndarray) -> np.ndarray:
    """int64 [M]: where the run of equals begins that each entry belongs to. changes: bool [M - 1]."""
    starts = np.concatenate([[True], changes])[: len(changes) + 1]
    return np.maximum.accumulate(np.where(starts, np.arange(len(starts)), 0))
