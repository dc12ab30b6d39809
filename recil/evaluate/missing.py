"""What of a target today's log hardly or never shows, and how much of that larger or exploring logs would show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recil.evaluate.support import FEWEST, Showings
from recil.logs.session_log import SessionLog

# Share of the catalogue, never shown and not by the target either, up to which the target shows what is withheld.
_OTHERS = 0.01


@dataclass(frozen=True)
class Missing:
    """By item that the log cannot show, of H.

    mass      of the target that the log cannot show
    sessions  in the log
    expected  float64 [H], showings to be expected in it
    own       float64 [H], showings to be expected of the target in a session
    withheld  hardly an item is never shown but those that the target shows
    """

    mass: float
    sessions: int
    expected: np.ndarray
    own: np.ndarray
    withheld: bool

    @staticmethod
    def of(log: SessionLog, mass: float, drawn: np.ndarray, slates: int) -> Missing:
        """drawn: float64 [A], how often each item stands in this many slates of the target's own."""
        showings = Showings.of(log)
        hidden = showings.unseen(drawn)
        never = showings.count == 0
        own = drawn[hidden] / max(slates, 1) * log.steps / log.sessions
        others = float((never & (drawn == 0)).mean())
        return Missing(mass, log.sessions, showings.expected[hidden], own, bool(never.any()) and others <= _OTHERS)

    def left(self, sessions: int, share: float) -> float:
        """The part of `mass` that a log of so many sessions would not show, where the target serves a share of them.

        Where no item is to blame, a mean weight below 1 tells of it: as many sessions of it as an item needs showings.
        """
        if not len(self.own):
            return float(share * self.mass * sessions < FEWEST)
        logger = (1.0 - share) * self.expected / self.sessions
        return float(self.own[sessions * (logger + share * self.own) < FEWEST].sum() / self.own.sum())
