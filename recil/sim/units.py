"""Parts of a log that are made of whole units, and errors that count units (recil.logs.clusters)."""

from __future__ import annotations

import numpy as np

from recil.logs.clusters import Clusters


def set_aside(units: Clusters, sessions: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Positions of `sessions` sessions drawn at random, and of all others.

    Of whole units: one is drawn after the other until there are so many sessions, and at least one is left. Wants two
    units or more.
    """
    if units.of is None:
        aside, rest = np.split(generator.permutation(len(units.keys)), [sessions])
        return aside, rest
    place = generator.permutation(units.count)[units.of]
    reached = np.cumsum(np.bincount(place))
    last = min(int(np.searchsorted(reached, sessions)), units.count - 2)
    aside, rest = np.split(np.argsort(place, kind="stable"), [reached[last]])
    return aside, rest


def error_of_mean(values: np.ndarray, of: np.ndarray | None = None) -> np.ndarray:
    """Standard error of the mean of values [S, ...]. of: int64 [S], the independent unit of each; None: each its own.

    Sums over units in the place of single values (Liang & Zeger 1986, "Longitudinal data analysis using generalized
    linear models").
    """
    if of is None:
        return values.std(0) / np.sqrt(len(values))
    sums = np.zeros((int(of.max()) + 1, *values.shape[1:]))
    np.add.at(sums, of, values - values.mean(0))
    return np.sqrt((sums**2).sum(0)) / len(values)
