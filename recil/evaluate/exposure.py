"""How often groups of items were shown, against how often their propensities say: what the checks of a log rest on.

Given what stood before, an item shown with probability p adds 1/p to its group, and the expectation of that is the
number of the group's items that could stand there. The differences of both have mean 0 whatever the policy, whatever it
looks at, and are uncorrelated over the places of a session; sums over sessions therefore tell right propensities from
wrong ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recil.evaluate.scoring import (
    WholeCatalogue,
    first_items,
    group_probabilities,
    log_propensity_of,
    session_batches,
)
from recil.logs.session_log import PAD, SessionLog
from recil.policies.protocol import Policy

_MOST_SESSIONS = 2048
_MOST_SCORES = 1 << 25
_FEWEST_SHOWN = 20
# Propensities in single precision.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Exposure:
    """By period of the log and group of items, float64 [P, G + 1]; the last column is of all items together.

    found     sum of 1/p over the places where an item of the group stood (or of items shown, see `counts`)
    expected  what that is in expectation
    squares   sum over sessions of the squared difference of both
    shown     items of the group shown
    sessions  [P]
    """

    found: np.ndarray
    expected: np.ndarray
    squares: np.ndarray
    shown: np.ndarray
    sessions: np.ndarray

    @staticmethod
    def nothing(periods: int, groups: int) -> Exposure:
        found, expected, squares, shown = np.zeros((4, periods, groups + 1))
        return Exposure(found, expected, squares, shown, np.zeros(periods))

    def add(self, period: np.ndarray, found: Tensor, expected: Tensor, shown: Tensor) -> None:
        """Sessions of these periods (int [B]); numbers by session and group, [B, G]."""
        both = [np.column_stack([part.numpy(), part.sum(1).numpy()]) for part in (found, expected, shown)]
        squares = np.square(both[0] - both[1])
        for total, part in zip((self.found, self.expected, self.shown, self.squares), (*both, squares), strict=True):
            np.add.at(total, period, part)
        np.add.at(self.sessions, period, 1.0)

    def over_all(self) -> Exposure:
        """All periods as one."""
        return Exposure(
            found=self.found.sum(0, keepdims=True),
            expected=self.expected.sum(0, keepdims=True),
            squares=self.squares.sum(0, keepdims=True),
            shown=self.shown.sum(0, keepdims=True),
            sessions=self.sessions.sum(keepdims=True),
        )

    def ratio(self) -> np.ndarray:
        """Found over expected, 1 where propensities are right and every item can be shown. [P, G + 1]"""
        return self.found / np.maximum(self.expected, 1e-300)

    def errors(self) -> np.ndarray:
        """How many standard errors the ratios lie from 1, by what varies in the whole log. [P, G + 1]

        0 for a group shown fewer than 20 times in all, for how its weights vary cannot be seen, and where rounding
        explains the difference.
        """
        difference = self.found - self.expected
        variance = self.squares.sum(0) / max(float(self.sessions.sum()), 1.0)
        error = np.sqrt(self.sessions[:, None] * np.maximum(variance, 1e-300))
        matters = (self.shown.sum(0) >= _FEWEST_SHOWN) & (np.abs(difference) > _ROUNDING * self.expected)
        return np.where(matters, difference / np.maximum(error, 1e-300), 0.0)


def periods_of(log: SessionLog, periods: int) -> np.ndarray:
    """int [S]: which of `periods` of equal numbers of sessions each falls in, by its start or in the log's order."""
    start = np.arange(log.sessions) if log.timestamp is None else log.timestamp[log.offsets[:-1]]
    place = np.empty(log.sessions, dtype=np.int64)
    place[np.argsort(start, kind="stable")] = np.arange(log.sessions)
    return place * min(periods, log.sessions) // log.sessions


def exposure(log: SessionLog, behaviour: Policy | None, groups: int, period: np.ndarray) -> Exposure:
    """Over all places of all slates; `behaviour`'s propensities where the log has none; period int [S]."""
    group, sizes = _groups(log, groups)
    repeated = repeats(log)
    found = Exposure.nothing(int(period.max()) + 1, len(sizes))
    for chosen in session_batches(log, _MOST_SESSIONS, _MOST_SCORES):
        batch = log.batch(chosen)
        inverse = (-log_propensity_of(batch, behaviour)).exp()
        marks = torch.nn.functional.one_hot(group[batch.items.clamp(min=0)], len(sizes)).double()
        marks = marks * batch.shown[..., None]
        left = sizes if repeated else sizes - (marks.cumsum(2) - marks)
        numbers = (marks * inverse[..., None], left * batch.shown[..., None], marks)
        found.add(period[chosen], *(part.sum((1, 2)) for part in numbers))
    return found


def _groups(log: SessionLog, groups: int) -> tuple[Tensor, Tensor]:
    """int64 [A], the group of each item, in the order of the catalogue; float64 [G], their sizes."""
    groups = min(groups, log.catalogue)
    group = torch.arange(log.catalogue) * groups // log.catalogue
    return group, torch.bincount(group, minlength=groups).double()


def repeats(log: SessionLog) -> bool:
    """Slates hold an item twice: places are filled from the whole catalogue."""
    ordered = np.sort(log.items, axis=1)
    return bool(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != PAD)).any())


def counts(log: SessionLog, policy: WholeCatalogue, groups: int) -> Exposure:
    """First items of slates shown, against the sum of their probabilities by a policy that weighs the catalogue."""
    group, sizes = _groups(log, groups)
    found = Exposure.nothing(1, len(sizes))
    for chosen in session_batches(log, _MOST_SESSIONS, _MOST_SCORES):
        batch = log.batch(chosen)
        first = first_items(batch)
        marks = torch.nn.functional.one_hot(group[first.clamp(min=0)], len(sizes)).double()
        shown = (marks * (first >= 0)[..., None]).sum(1)
        expected = torch.zeros_like(shown)
        for _, going_on, chance in group_probabilities(policy, batch, group, len(sizes)):
            expected.index_add_(0, going_on, chance)
        found.add(np.zeros(len(chosen), dtype=np.int64), shown, expected, shown)
    return found
