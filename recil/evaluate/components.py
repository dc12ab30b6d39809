"""A value among fitted users, with what is uncertain within the simulator and between simulators.

Within: finitely many users were simulated. Between: the log holds finitely many sessions, so that other users would
have been fitted to another log like it; the members of an ensemble, fitted to session bootstraps, stand for those.
All members meet users at the same addresses, and two policies the same users of each member.

With R [M, n] the members' returns, S² the variance of their means over members, and I the mean square of what is left
of R when the means of members and of addresses are taken out, E[S²] = between² + I / n, since common draws cancel in
the differences between members (a two-way layout without replication; Searle, Casella & McCulloch 1992, "Variance
components", ch. 4). So between² = max(0, S² - I / n). The interval is Student's t around the central users' value with
Satterthwaite's degrees of freedom for within² + S² - I / n (Satterthwaite 1946, "An approximate distribution of
estimates of variance components"): M - 1 where the members decide, n - 1 where the simulated users do.
It holds no bias: what the priors or the form of the model get wrong, all members get wrong alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy import stats

from recil.evaluate.bootstrap import check_confidence

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class EnsembleValue:
    """A policy's value among the central users, in reward per session.

    within   standard error from finitely many simulated users
    between  standard deviation from the finite log, freed of what simulation adds
    degrees  of freedom behind the interval low to high
    members  the value among each member's users; sessions simulated users of each
    """

    value: float
    within: float
    between: float
    low: float
    high: float
    degrees: float
    members: tuple[float, ...]
    sessions: int
    confidence: float = 0.95

    @classmethod
    def of(cls, returns: np.ndarray, confidence: float = 0.95) -> Self:
        """From returns, float64 [1 + M, n]: among the central users, then each member's; column j is one address.

        See the head of this file.
        """
        check_confidence(confidence)
        central, members = returns[0], returns[1:]
        count, sessions = members.shape
        means = members.mean(1)
        among_members = float(means.var(ddof=1))
        left = members - means[:, None] - members.mean(0) + members.mean()
        noise = float((left**2).sum()) / ((count - 1) * (sessions - 1)) / sessions
        within = float(central.var(ddof=1)) / sessions
        between = max(0.0, among_members - noise)
        value, total = float(central.mean()), within + between
        parts = ((among_members, count - 1), (within, sessions - 1), (noise, (count - 1) * (sessions - 1)))
        doubt = sum(part**2 / degrees for part, degrees in parts)
        # Never fewer than the members' own: where they differ by chance alone, the total may lie far below its parts.
        degrees = max(total**2 / doubt, count - 1.0) if doubt else math.inf
        half = float(stats.t.ppf(0.5 + confidence / 2, degrees)) * math.sqrt(total)
        return cls(
            value,
            math.sqrt(within),
            math.sqrt(between),
            value - half,
            value + half,
            degrees,
            tuple(means.tolist()),
            sessions,
            confidence,
        )

    @property
    def total(self) -> float:
        """Standard error of the value, from the finite log and the finite simulation together."""
        return math.hypot(self.within, self.between)

    def to_frame(self) -> pd.DataFrame:
        """One row; members and sessions are counts."""
        import pandas as pd

        names = ("value", "within", "between", "total", "low", "high", "degrees")
        counts = {"members": len(self.members), "sessions": self.sessions, "confidence": self.confidence}
        return pd.DataFrame([{name: getattr(self, name) for name in names} | counts])

    @property
    def parts(self) -> str:
        """Both uncertainties in words."""
        return f"± {self.within:.2g} within, ± {self.between:.2g} between {len(self.members)} fits"

    def __str__(self) -> str:
        return (
            f"{self.value:.5g} [{self.low:.5g}, {self.high:.5g}] reward per session, {self.confidence:.0%} interval, "
            f"{self.parts}, {self.sessions:,} simulated sessions of each"
        )


@dataclass(frozen=True)
class EnsembleDifference(EnsembleValue):
    """What one policy is worth more than another, paired: among the same users of the same fits."""

    @property
    def clear(self) -> bool:
        """The interval leaves out 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"difference {super().__str__()}{'' if self.clear else ' (tie)'}"
