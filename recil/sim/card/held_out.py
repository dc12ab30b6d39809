"""The held-out log as the card looks at it: one row per item shown, with what its session held before."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recil.logs.clusters import Clusters, clusters_of
from recil.logs.session_log import SessionLog


@dataclass(frozen=True)
class HeldOut:
    """Items shown in a log, M in all, in row order; N steps, S sessions. Nothing here knows of any model.

    cluster: what counts as one independent unit; see `clusters_of`.
    """

    log: SessionLog
    cluster: str | None = None

    @cached_property
    def shown(self) -> np.ndarray:
        """bool [N, K]: an item stands here."""
        return self.log.items >= 0

    @cached_property
    def row(self) -> np.ndarray:
        """int64 [M]: the step's row in the log."""
        return np.nonzero(self.shown)[0]

    @cached_property
    def position(self) -> np.ndarray:
        """int64 [M]."""
        return np.nonzero(self.shown)[1]

    @cached_property
    def item(self) -> np.ndarray:
        """int64 [M]: index in the catalogue."""
        return self.log.items[self.shown].astype(np.int64)

    @cached_property
    def clicked(self) -> np.ndarray:
        """float64 [M]: 1 where clicked."""
        return (self.log.reward[self.shown] > 0).astype(np.float64)

    @cached_property
    def owner(self) -> np.ndarray:
        """int64 [N]: the session of each step."""
        return np.repeat(np.arange(self.log.sessions), self.log.lengths)

    @cached_property
    def units(self) -> Clusters:
        """The independent units, which every error counts."""
        return clusters_of(self.log, self.cluster)

    @cached_property
    def unit(self) -> np.ndarray:
        """int64 [N]: the unit of each step."""
        return self.units.numbers[self.owner]

    @cached_property
    def step(self) -> np.ndarray:
        """int64 [N]: the number of each step in its session."""
        return np.arange(self.log.steps) - self.log.offsets[:-1][self.owner]

    @cached_property
    def clicks(self) -> np.ndarray:
        """float64 [N]: clicks on each slate."""
        return np.where(self.shown, self.log.reward > 0, False).sum(1).astype(np.float64)

    @cached_property
    def clicks_before(self) -> np.ndarray:
        """float64 [N]: clicks in the session before each step."""
        before = np.cumsum(self.clicks) - self.clicks
        return before - before[self.log.offsets[:-1]][self.owner]

    @cached_property
    def clicked_last(self) -> np.ndarray:
        """bool [N]: something was clicked at the step before; False at first steps."""
        last = np.concatenate([[False], self.clicks[:-1] > 0])
        return last & (self.step > 0)

    @cached_property
    def run(self) -> np.ndarray:
        """int64 [N]: how many steps in a row, up to and with this one, had a click."""
        return _run(self.clicks > 0, self.step)

    @cached_property
    def in_vain(self) -> np.ndarray:
        """int64 [N]: how many steps in a row, up to and with this one, had none."""
        return _run(self.clicks == 0, self.step)

    @cached_property
    def past(self) -> tuple[np.ndarray, np.ndarray]:
        """bool [M] twice: the item had been shown, and had been clicked, at an earlier step of its session."""
        key = self.owner[self.row] * self.log.catalogue + self.item
        order = np.argsort(key, kind="stable")
        ordered, rows = key[order], self.row[order]
        starts = np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(key) else np.zeros(0, dtype=bool)
        first = np.maximum.accumulate(np.where(starts, np.arange(len(key)), 0))
        shown_before = rows > rows[first]
        clicks = np.cumsum(self.clicked[order]) - self.clicked[order]
        taken_before = clicks - clicks[first] > 0
        back = np.empty((2, len(key)), dtype=bool)
        back[:, order] = shown_before, taken_before & shown_before
        return back[0], back[1]

    @cached_property
    def popularity(self) -> np.ndarray:
        """float64 [M] in (0, 1): the share of all impressions that went to items shown less often, ties by index."""
        counts = np.bincount(self.item, minlength=self.log.catalogue)
        order = np.argsort(counts, kind="stable")
        share = np.empty(len(counts))
        share[order] = (np.cumsum(counts[order]) - counts[order] / 2) / max(counts.sum(), 1)
        return share[self.item]

    def mean_per_item(self, values: np.ndarray) -> tuple[float, float]:
        """Mean of values [M] per item shown, and its standard error over units (delta method)."""
        mean = float(values.mean())
        apart = np.bincount(self.unit[self.row], values - mean)
        return mean, float(np.sqrt((apart**2).sum())) / len(values)


def _run(holds: np.ndarray, step: np.ndarray) -> np.ndarray:
    """int64 [N]: for how many steps in a row of its session, up to and with each, something has held."""
    place = np.arange(len(holds))
    broken = np.maximum.accumulate(np.where(holds, -1, place))
    return np.where(holds, np.minimum(place - broken, step + 1), 0)
