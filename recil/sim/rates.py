"""Click rates by group, smoothed towards coarser groups: what a user model must beat to be worth anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recil.logs.clusters import clusters_of
from recil.logs.session_log import SessionLog
from recil.random import Streams
from recil.sim.units import set_aside

STRENGTHS = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
# Sessions that decide on a strength, at most; steps that are counted at a time.
MOST_HELD_OUT, BLOCK = 50_000, 200_000


def log_losses(probability: np.ndarray, clicked: np.ndarray) -> np.ndarray:
    """Negative log-likelihood of each click or no click, in nats. Probabilities of 0 and 1 are kept 1e-12 away."""
    inside = np.clip(probability, 1e-12, 1 - 1e-12)
    return np.where(clicked > 0, -np.log(inside), -np.log1p(-inside))


def group_codes(log: SessionLog, names: Sequence[str], rows: slice = slice(None)) -> np.ndarray:
    """int64 [N, K], a code for the group of each item shown. names: "item", "position", or categorical columns' names.

    Columns are looked for among contexts, then user columns. rows: of these steps alone.
    """
    items = log.items[rows]
    total = np.zeros(items.shape, dtype=np.int64)
    for name in names:
        size = _size(log, name)
        if name == "item":
            code = np.maximum(items, 0).astype(np.int64)
        elif name == "position":
            code = np.broadcast_to(np.arange(log.slate_size), items.shape)
        elif name in log.context:
            code = log.context[name].values[rows].astype(np.int64)[:, None] + 1
        else:
            owner = np.searchsorted(log.offsets, np.arange(log.steps)[rows], side="right") - 1
            code = log.user_features[name].values[owner].astype(np.int64)[:, None] + 1
        total = total * size + code
    return total


def _size(log: SessionLog, name: str) -> int:
    """How many codes a column has, a missing value among them."""
    if name == "item":
        return log.catalogue
    if name == "position":
        return log.slate_size
    column = log.context.get(name) or log.user_features[name]
    if column.categories is None:
        raise ValueError(f"column {name} is numeric; groups need a categorical one")
    return len(column.categories) + 1


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


@dataclass(frozen=True)
class _Sums:
    """Clicks and items shown of each group of one grouping. groups: sorted codes [G]; clicks, shown: float64 [G]."""

    groups: np.ndarray
    clicks: np.ndarray
    shown: np.ndarray

    @staticmethod
    def of(log: SessionLog, names: tuple[str, ...]) -> _Sums:
        """Block by block, so that nothing of the size of the log is made."""
        size = math.prod(_size(log, name) for name in names)
        if size > max(log.items.size, BLOCK):  # more groups than could be shown: those that were are listed
            codes = group_codes(log, names)[log.items >= 0]
            groups, inverse = np.unique(codes, return_inverse=True)
            clicked = (log.reward[log.items >= 0] > 0).astype(np.float64)
            return _Sums(groups, np.bincount(inverse, clicked), np.bincount(inverse).astype(np.float64))
        clicks, shown = np.zeros(size), np.zeros(size)
        for first in range(0, log.steps, BLOCK):
            rows = slice(first, first + BLOCK)
            present = log.items[rows] >= 0
            codes = group_codes(log, names, rows)[present]
            shown += np.bincount(codes, minlength=size)
            clicks += np.bincount(codes[log.reward[rows][present] > 0], minlength=size)
        groups = np.flatnonzero(shown)
        return _Sums(groups, clicks[groups], shown[groups])

    def without(self, part: _Sums) -> _Sums:
        """These less those of a part of the same log."""
        place = np.searchsorted(self.groups, part.groups)
        clicks, shown = self.clicks.copy(), self.shown.copy()
        clicks[place] -= part.clicks
        shown[place] -= part.shown
        kept = shown > 0
        return _Sums(self.groups[kept], clicks[kept], shown[kept])

    def rate(self) -> float:
        return float(self.clicks.sum() / self.shown.sum())

    def level(self, names: tuple[str, ...], strength: float) -> Level:
        return Level(names, self.groups, self.clicks, self.shown, strength)


def item_counts(log: SessionLog) -> tuple[np.ndarray, np.ndarray]:
    """Clicks and impressions of each item, float64 [A]."""
    sums = _Sums.of(log, ("item",))
    clicks, shown = np.zeros((2, log.catalogue))
    clicks[sums.groups], shown[sums.groups] = sums.clicks, sums.shown
    return clicks, shown


def fit_rates(log: SessionLog, *chain: tuple[str, ...], seed: int = 0, cluster: str | None = None) -> Rates:
    """Rates along a chain of groupings, e.g. fit_rates(log, ("context_tab",), ("item", "context_tab")).

    The strength of each level is the one that predicts a held-out fifth of the log's sessions best (of very many
    sessions, 50,000). cluster: what is held out whole; see `clusters_of`.
    """
    units = clusters_of(log, cluster)
    whole, overall = [_Sums.of(log, names) for names in chain], _Sums.of(log, ())
    if units.count < 2:
        return Rates(overall.rate(), tuple(s.level(n, STRENGTHS[2]) for s, n in zip(whole, chain, strict=True)))
    count = min(max(1, log.sessions // 5), MOST_HELD_OUT)
    held_out, _ = set_aside(units, count, Streams(seed).numpy("rates.held_out"))
    outer = log.select(np.sort(held_out))
    shown = outer.items >= 0
    clicked = outer.reward[shown]
    rate = np.full(len(clicked), overall.without(_Sums.of(outer, ())).rate())
    levels: tuple[Level, ...] = ()
    for names, sums in zip(chain, whole, strict=True):
        codes, inner = group_codes(outer, names)[shown], sums.without(_Sums.of(outer, names))
        losses = [log_losses(inner.level(names, s).pull(rate, codes), clicked).mean() for s in STRENGTHS]
        best = STRENGTHS[int(np.argmin(losses))]
        rate = inner.level(names, best).pull(rate, codes)
        levels += (sums.level(names, best),)
    return Rates(overall.rate(), levels)


def baselines_of(log: SessionLog, cluster: str | None = None) -> dict[str, Rates]:
    """What users are held against: a constant, item rates, by position, and within the first categorical context."""
    chains: dict[str, tuple[tuple[str, ...], ...]] = {"constant": (), "item rate": (("item",),)}
    if log.slate_size > 1:
        chains["item, position"] = (("position",), ("item", "position"))
    for name in [name for name, column in log.known_context.items() if column.categories is not None][:1]:
        chains[f"item, {name.removeprefix('context_')}"] = ((name,), ("item", name))
    return {name: fit_rates(log, *chain, cluster=cluster) for name, chain in chains.items()}
