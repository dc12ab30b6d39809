"""Click rates by group, smoothed towards coarser groups: what a user model must beat to be worth anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from recil.logs.session_log import SessionLog
from recil.random import Streams

STRENGTHS = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)


def log_losses(probability: np.ndarray, clicked: np.ndarray) -> np.ndarray:
    """Negative log-likelihood of each click or no click, in nats. Probabilities of 0 and 1 are kept 1e-12 away."""
    inside = np.clip(probability, 1e-12, 1 - 1e-12)
    return np.where(clicked > 0, -np.log(inside), -np.log1p(-inside))


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
class Level:
    """Sums of one grouping. names: its columns; groups: sorted codes [G]; clicks, shown: [G]; strength: see Rates."""

    names: tuple[str, ...]
    groups: np.ndarray
    clicks: np.ndarray
    shown: np.ndarray
    strength: float

    def pull(self, rate: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """The coarser level's rates [M], moved towards this level's where it has seen something."""
        place = np.searchsorted(self.groups, codes).clip(max=len(self.groups) - 1)
        known = self.groups[place] == codes
        clicks, shown = np.where(known, self.clicks[place], 0.0), np.where(known, self.shown[place], 0.0)
        return (clicks + self.strength * rate) / (shown + self.strength)


@dataclass(frozen=True)
class Rates:
    """Smoothed rates of groups along a chain from coarse to fine.

    Each level counts its coarser one as `strength` pseudo-impressions; the coarsest is the overall rate.
    """

    overall: float
    levels: tuple[Level, ...] = ()

    def predict(self, log: SessionLog) -> np.ndarray:
        """[M]: the rate for each item shown, in row order."""
        shown = log.items >= 0
        rate = np.full(int(shown.sum()), self.overall)
        for level in self.levels:
            rate = level.pull(rate, group_codes(log, level.names)[shown])
        return rate


def _level(log: SessionLog, names: tuple[str, ...], strength: float) -> Level:
    shown = log.items >= 0
    groups, inverse = np.unique(group_codes(log, names)[shown], return_inverse=True)
    clicks = np.bincount(inverse, (log.reward[shown] > 0).astype(np.float64))
    return Level(names, groups, clicks, np.bincount(inverse).astype(np.float64), strength)


def _overall(log: SessionLog) -> float:
    return float((log.reward[log.items >= 0] > 0).mean())


def fit_rates(log: SessionLog, *chain: tuple[str, ...], seed: int = 0) -> Rates:
    """Rates along a chain of groupings, e.g. fit_rates(log, ("context_tab",), ("item", "context_tab")).

    The strength of each level is the one that predicts a held-out fifth of the log's sessions best.
    """
    if log.sessions < 2:
        return Rates(_overall(log), tuple(_level(log, names, STRENGTHS[2]) for names in chain))
    order = Streams(seed).numpy("rates.held_out").permutation(log.sessions)
    cut = max(1, log.sessions // 5)
    inner, outer = log.select(np.sort(order[cut:])), log.select(np.sort(order[:cut]))
    clicked = outer.reward[outer.items >= 0]
    rate = np.full(len(clicked), _overall(inner))
    levels: tuple[Level, ...] = ()
    for names in chain:
        codes = group_codes(outer, names)[outer.items >= 0]
        coarse = _level(inner, names, 1.0)
        pulled = {strength: replace(coarse, strength=strength).pull(rate, codes) for strength in STRENGTHS}
        best = STRENGTHS[int(np.argmin([log_losses(pulled[strength], clicked).mean() for strength in STRENGTHS]))]
        rate = pulled[best]
        levels += (_level(log, names, best),)
    return Rates(_overall(log), levels)


def baselines_of(log: SessionLog) -> dict[str, Rates]:
    """What users are held against: a constant, item rates, by position, and within the first categorical context."""
    baselines = {"constant": fit_rates(log), "item rate": fit_rates(log, ("item",))}
    if log.slate_size > 1:
        baselines["item, position"] = fit_rates(log, ("position",), ("item", "position"))
    for name in [name for name, column in log.context.items() if column.categories is not None][:1]:
        baselines[f"item, {name.removeprefix('context_')}"] = fit_rates(log, (name,), ("item", name))
    return baselines
