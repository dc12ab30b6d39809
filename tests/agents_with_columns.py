"""Agents that look at every column of `log_with_all_columns`, as someone else would write them, on numpy."""

from __future__ import annotations

import numpy as np
from logs_for_policies import ITEMS

from recil.sim.gym.layout import Column, Layout, Observation

NUMBERS = (-1e6, 1e6)
COLUMNS = (
    Column("feedback", "answer", (2, 3), False, (-1, 3)),
    Column("feedback", "seconds", (2, 3), True, NUMBERS),
    Column("context", "context_tab", (3,), False, (-1, 2)),
    Column("context", "context_hour", (3,), True, NUMBERS),
    Column("user", "user_kind", (1,), False, (-1, 1)),
    Column("user", "user_age", (1,), True, NUMBERS),
)
LAYOUT = Layout(ITEMS, 3, 6, 2, (0.0, 1.0), COLUMNS)


def told(seen: Observation) -> np.ndarray:
    """A number [B, ITEMS] that every part of the observation moves; each session by itself."""
    total = np.zeros((len(seen["step"]), ITEMS))
    for place, key in enumerate(sorted(seen)):
        values = np.tanh(seen[key].astype(np.float64).reshape(len(total), -1) / 10)
        for column in range(values.shape[1]):
            total += np.sin(np.arange(ITEMS) * (1.3 + place + 0.37 * column)) * values[:, column : column + 1]
    return total


def ranking(seen: Observation) -> np.ndarray:
    return np.argsort(-told(seen), 1, kind="stable")
