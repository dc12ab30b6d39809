"""Click rates by group, smoothed towards coarser groups: what a user model must beat to be worth anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recil.logs.session_log import SessionLog
from recil.random import Streams

STRENGTHS = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)


def log_loss(probability: np.ndarray, clicked: np.ndarray) -> float:
    """Mean negative log-likelihood of clicks, in nats. Probabilities of 0 and 1 are kept 1e-12 away."""
    inside = np.clip(probability, 1e-12, 1 - 1e-12)
    return float(-np.mean(np.where(clicked > 0, np.log(inside), np.log1p(-inside))))


def group_codes(log: SessionLog, names: Sequence[str]) -> np.ndarray:
    """int64 [N, K], a code for the group of each item shown. names: "item", "position", or categorical columns' names.

    Columns are looked for among contexts, then user columns.
    """
    total = np.zeros(log.items.shape, dtype=np.int64)
    owner = np.repeat(np.arange(log.sessions), log.lengths)
    for name in names:
        if name == "item":
            code, size = np.maximum(log.items, 0).astype(np.int64), log.catalogue
        elif name == "position":
            code, size = np.broadcast_to(np.arange(log.slate_size), log.items.shape), log.slate_size
        else:
            column = log.context.get(name) or log.user_features[name]
            values = column.values if name in log.context else column.values[owner]
            if column.categories is None:
                raise ValueError(f"column {name} is numeric; groups need a categorical one")
            code, size = (values.astype(np.int64) + 1)[:, None], len(column.categories) + 1
        total = total * size + code
    return total


@dataclass(frozen=True)
class Rates:
    """Smoothed rates of the groups along a chain from coarse to fine; each level is pulled towards the one before.

    names: the columns added level by level; strength: pseudo-impressions of the coarser level, one per level.
    """

    names: tuple[tuple[str, ...], ...]
    strength: tuple[float, ...]
    overall: float
    levels: tuple[dict[int, tuple[float, float]], ...]

    def predict(self, log: SessionLog) -> np.ndarray:
        """[M]: the rate for each item shown, in row order."""
        shown = log.items >= 0
        rate = np.full(int(shown.sum()), self.overall)
        for names, strength, level in zip(self.names, self.strength, self.levels, strict=True):
            groups, inverse = np.unique(group_codes(log, names)[shown], return_inverse=True)
            sums = np.array([level.get(int(group), (0.0, 0.0)) for group in groups]).reshape(-1, 2)[inverse]
            rate = (sums[:, 0] + strength * rate) / (sums[:, 1] + strength)
        return rate


def _fit(log: SessionLog, names: tuple[tuple[str, ...], ...], strength: tuple[float, ...]) -> Rates:
    shown = log.items >= 0
    clicked = (log.reward[shown] > 0).astype(np.float64)
    levels = []
    for level in names:
        groups, inverse = np.unique(group_codes(log, level)[shown], return_inverse=True)
        clicks, counts = np.bincount(inverse, clicked), np.bincount(inverse).astype(float)
        levels.append({int(group): (clicks[i], counts[i]) for i, group in enumerate(groups)})
    return Rates(names, strength, float(clicked.mean()), tuple(levels))


def fit_rates(log: SessionLog, *names: tuple[str, ...], seed: int = 0) -> Rates:
    """Rates along the chain `names`, e.g. fit_rates(log, ("tab",), ("item", "tab")).

    The strength of each level is the one that predicts a held-out fifth of the log's sessions best.
    """
    order = Streams(seed).numpy("rates.held_out").permutation(log.sessions)
    cut = max(1, log.sessions // 5)
    chosen: tuple[float, ...] = ()
    if names and log.sessions > 1:
        inner, outer = log.select(np.sort(order[cut:])), log.select(np.sort(order[:cut]))
        clicked = outer.reward[outer.items >= 0]
        for depth in range(1, len(names) + 1):
            chosen += (
                min(
                    STRENGTHS, key=lambda s: log_loss(_fit(inner, names[:depth], (*chosen, s)).predict(outer), clicked)
                ),
            )
    return _fit(log, names, chosen or (STRENGTHS[2],) * len(names))
