"""Predicted and observed click rates by all that they may depend on: where an item stands, and what happened before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from recil.sim.calibration import groups_by_prediction
from recil.sim.card.groups import GroupTable, group_table, merged
from recil.sim.card.held_out import HeldOut

OVERALL = "all"
PREDICTED = "predicted rate, tenths"
POSITION, STEP, POPULARITY = "position", "step", "item popularity, tenths"
LAST_STEP, SO_FAR, PAST = "clicks at the step before", "clicks so far", "item's past in the session"
CALIBRATION = (OVERALL, PREDICTED, POSITION, STEP, POPULARITY)
TENTHS = tuple(f"{number}" for number in range(1, 11))

Codes = tuple[str, np.ndarray, Sequence[str]]


def click_tables(own: np.ndarray, seen: HeldOut) -> tuple[GroupTable, ...]:
    """Tables of the users' predictions `own` [M]; kinds that leave only one group are left out, but for the overall."""
    unit = seen.unit[seen.row]
    tables = []
    for name, code, labels in (*_calibration(own, seen), *_dynamics(seen)):
        code, labels = merged(code, labels, own)
        if len(labels) > 1 or name == OVERALL:
            tables.append(group_table(name, "items", labels, code, own, seen.clicked, unit, seen.row))
    return tuple(tables)


def _calibration(own: np.ndarray, seen: HeldOut) -> Iterator[Codes]:
    yield OVERALL, np.zeros(len(own), dtype=np.int64), ("all items",)
    yield PREDICTED, groups_by_prediction(own), TENTHS
    yield POSITION, seen.position, _numbers(seen.log.slate_size)
    yield STEP, seen.step[seen.row], _numbers(int(seen.step.max()) + 1)
    yield POPULARITY, np.minimum((seen.popularity * 10).astype(np.int64), 9), TENTHS


def _dynamics(seen: HeldOut) -> Iterator[Codes]:
    """What a session did before: nothing of it can be told from the item shown."""
    last = np.where(seen.step == 0, -1, seen.clicked_last)  # first steps have no step before
    yield LAST_STEP, last[seen.row].astype(np.int64), ("none", "some")
    yield SO_FAR, np.minimum(seen.clicks_before, 2).astype(np.int64)[seen.row], ("0", "1", "2 or more")
    shown, taken = seen.past
    yield PAST, np.where(taken, 2, shown).astype(np.int64), ("new", "shown", "clicked")


def _numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]
