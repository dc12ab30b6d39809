"""What an interval needs beyond the bootstrap: what the sample itself cannot show.

- Few units: Student's t in place of the normal law, with the effective number of units less one degrees of freedom.
- Rare rewards: the bootstrap never goes beyond what was seen. The interval also holds that of a compound Poisson sum of
  the same value and variance with one more session of the largest influence (Fay & Feuer 1997, "Confidence intervals
  for directly standardized rates: a method based on the gamma distribution"); for rewards that are seldom missing, the
  same counted from the highest reward.
- What the target does where the log shows nothing is a bias, and is added as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats
from torch import Tensor

from recil.evaluate.bootstrap import corrected_interval

# Effective rewards from which those of one size are common enough.
_ENOUGH = 100.0


@dataclass(frozen=True)
class Margins:
    """Of one estimate.

    units       effective number of independent units
    more_low, more_high  how far one more extreme session would move the estimate, down and up
    below, above  the range the value must lie in, for rewards that cannot go beyond; infinite: it is not used
    either_way  the estimate is a difference, whose parts have both signs; spread: the larger standard deviation of the
                two estimates, of which theirs is a part
    steady      rewards are of one size: beyond a hundred effective ones the bootstrap shows how they vary
    unseen_low, unseen_high  the bias that the log cannot show, on either side, at most
    """

    units: float = math.inf
    more_low: float = 0.0
    more_high: float = 0.0
    below: float = -math.inf
    above: float = math.inf
    either_way: bool = False
    spread: float = math.nan
    steady: bool = False
    unseen_low: float = 0.0
    unseen_high: float = 0.0

    def minus(self, other: Margins) -> Margins:
        """Of the difference of two estimates on one log.

        What neither sees may be worth most to one and least to the other. One more extreme session moves both, and the
        difference by as much less as it varies less.
        """
        more = max(self.more_low, self.more_high, other.more_low, other.more_high)
        return Margins(
            units=min(self.units, other.units),
            more_low=more,
            more_high=more,
            either_way=True,
            spread=max(self.spread, other.spread),
            unseen_low=self.unseen_low + other.unseen_high,
            unseen_high=self.unseen_high + other.unseen_low,
        )

    def interval(self, value: float, replicates: Tensor, confidence: float) -> tuple[float, float]:
        """With what the log cannot show."""
        low, high = self.noise(value, replicates, confidence)
        return low - self.unseen_low, high + self.unseen_high

    def noise(self, value: float, replicates: Tensor, confidence: float) -> tuple[float, float]:
        """From the estimate and its bootstrap replicates [R], without what the log cannot show."""
        low, high = corrected_interval(value, replicates, confidence)
        if not (math.isfinite(low) and math.isfinite(high) and math.isfinite(value)):
            return low, high
        wider = self._student(confidence)
        low, high = value - wider * (value - low), value + wider * (high - value)
        defined = replicates[~replicates.isnan()]
        variance = float(defined.var()) if len(defined) > 1 else 0.0
        if self.either_way:
            part = min(1.0, math.sqrt(variance) / self.spread) if self.spread > 0 else 0.0
            return low - part * self.more_low, high + part * self.more_high
        if value >= self.below > -math.inf:
            least, most = self._gamma(value - self.below, variance, self.more_high, confidence)
            low, high = min(low, self.below + least), max(high, self.below + most)
        if self.above < math.inf and value <= self.above:
            least, most = self._gamma(self.above - value, variance, self.more_low, confidence)
            low, high = min(low, self.above - most), max(high, self.above - least)
        return low, high

    def _gamma(self, value: float, variance: float, one_more: float, confidence: float) -> tuple[float, float]:
        events = value**2 / variance if variance > 0 else math.inf if value > 0 else 0.0
        if self.steady and events > _ENOUGH:
            one_more *= _ENOUGH / events
        return gamma_interval(value, variance, one_more, confidence)

    def _student(self, confidence: float) -> float:
        tail = 0.5 + confidence / 2.0
        return float(stats.t.ppf(tail, max(self.units - 1.0, 1.0)) / stats.norm.ppf(tail))


def gamma_interval(value: float, variance: float, one_more: float, confidence: float) -> tuple[float, float]:
    """Of a sum of non-negative parts; one_more: what one more of the largest parts would add. Fay & Feuer 1997."""
    tail = (1.0 - confidence) / 2.0
    low = 0.0
    if value > 0 and variance > 0:
        low = variance / (2 * value) * float(stats.chi2.ppf(tail, 2 * value**2 / variance))
    elif value > 0:
        low = value
    more, spread = value + one_more, variance + one_more**2
    if not (spread > 0 and more > 0):
        return low, max(low, more)
    return low, spread / (2 * more) * float(stats.chi2.ppf(1 - tail, 2 * more**2 / spread))
