"""What of a target policy a log cannot show: slates that hold an item which stands nowhere, or hardly anywhere, in it.

An item counts as unseen where fewer than five showings are to be expected under the logging policy, and the target
would show it many times as often. An item that is rare with both policies is none: its weights are near 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from recil.evaluate.scoring import stretches
from recil.logs.session_log import PAD, SessionLog

_MOST_STEPS = 1 << 18
# Showings to be expected under the logging policy, below which an item may count as unseen, ...
FEWEST = 5.0
# ... and by how many times as often the target must show it, and how often at all.
_TIMES, _DRAWN = 5.0, 12


@dataclass(frozen=True)
class Showings:
    """By item of the catalogue, float64 [A].

    count     how often it was shown
    expected  how often by its propensities where it was shown; as shown where the log has none
    places    items shown in all
    """

    count: np.ndarray
    expected: np.ndarray
    places: int

    @staticmethod
    def of(log: SessionLog) -> Showings:
        count, inverse, places = np.zeros(log.catalogue), np.zeros(log.catalogue), 0
        for _, run in stretches(log, _MOST_STEPS):
            shown = run.items != PAD
            full = shown.all()
            items = run.items.ravel() if full else run.items[shown]
            places += len(items)
            count += np.bincount(items, minlength=log.catalogue)
            if run.propensity is not None:
                chance = run.propensity.ravel() if full else run.propensity[shown]
                with np.errstate(divide="ignore"):
                    inverse += np.bincount(items, 1.0 / chance, minlength=log.catalogue)
        if log.propensity is None:
            return Showings(count, count, places)
        # The harmonic mean of its propensities, times the places where it could have stood; an item that hangs on the
        # context may not stand in all of them.
        with np.errstate(divide="ignore", invalid="ignore"):
            expected = np.where(count > 0, places * count / inverse, 0.0)
        return Showings(count, np.minimum(expected, np.maximum(count, FEWEST)), places)

    def unseen(self, drawn: np.ndarray) -> np.ndarray:
        """bool [A], by how often the target drew each item, in as many places or fewer."""
        places = float(drawn.sum()) / max(self.places, 1)
        hidden = (self.expected < FEWEST) & (drawn >= np.maximum(_DRAWN, _TIMES * places * self.expected))
        # Items that are rare with both are missing from either by chance alike: of the log's rare items the target
        # then draws as few as the log has of the target's.
        never = self.count == 0
        missed = float(drawn[never].sum())
        by_chance = places * float(self.count[(self.count < FEWEST) & (drawn == 0)].sum())
        return hidden | never if missed >= max(FEWEST, 2.0 * by_chance) else hidden


@dataclass(frozen=True)
class Support:
    """Of `drawn` slates that the target chose at logged histories, `unseen` hold an item that the log cannot show."""

    drawn: int = 0
    unseen: int = 0

    @staticmethod
    def of(own: np.ndarray, showings: Showings) -> Support:
        """own: int [D, K], slates the target drew, PAD where nothing stands."""
        inside = own != PAD
        hidden = showings.unseen(np.bincount(own[inside], minlength=len(showings.count)).astype(np.float64))
        return Support(len(own), int((hidden[np.where(inside, own, 0)] & inside).any(1).sum()))

    @property
    def share(self) -> float:
        return self.unseen / self.drawn if self.drawn else math.nan

    @property
    def most(self) -> float:
        """The share with an upper limit for the draws' own noise; 0 where none was unseen."""
        if not self.unseen:
            return 0.0
        return min(1.0, self.share + 1.645 * math.sqrt(self.share * (1.0 - self.share) / self.drawn) + 1 / self.drawn)
