"""Confidence sequences: intervals that hold at every n at once, so that one may look at any time and stop when clear.

The predictable empirical-Bernstein bounds of Waudby-Smith & Ramdas 2023 ("Estimating means of bounded random variables
by betting"), theorem 2. For values in [0, 1] and bets λ_i that depend on earlier values only,

    Σ λ_i x_i / Σ λ_i ± (ln(1/δ) + Σ (x_i - μ_{i-1})² (-ln(1 - λ_i) - λ_i)) / Σ λ_i

holds for all n with probability 1 - δ on either side. Sessions are in the order in which they came.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from recil.errors import InputError
from recil.evaluate.bootstrap import check_confidence
from recil.evaluate.intervals.concentration import check_range
from recil.evaluate.intervals.sample import Bounds, Numbers, sample_of

# Bets stay below 1, where the bound would be infinite.
_LARGEST_BET = 0.5


@dataclass(frozen=True)
class ConfidenceSequence:
    """value, low, high: float64 [n], after each session; the bounds never widen."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def last(self) -> Bounds:
        return float(self.value[-1]), float(self.low[-1]), float(self.high[-1])

    def clear_of(self, mark: float) -> int | None:
        """The first session after which the interval leaves the mark out; None: not yet."""
        clear = (self.low > mark) | (self.high < mark)
        return int(clear.argmax()) if clear.any() else None


def mean_sequence(values: Numbers, lowest: float, highest: float, confidence: float = 0.95) -> ConfidenceSequence:
    """For the mean of values [n] that lie in [lowest, highest], a range known beforehand."""
    check_confidence(confidence)
    sample = sample_of(values)
    check_range(sample, lowest, highest)
    unit = (sample - lowest) / (highest - lowest)
    low, high = (lowest + (highest - lowest) * bound for bound in _unit_bounds(unit, (1.0 - confidence) / 2.0))
    return ConfidenceSequence(_running_mean(sample), low, high)


def policy_sequence(
    weights: Numbers, returns: Numbers, highest: float, confidence: float = 0.95, cap: float = 10.0
) -> ConfidenceSequence:
    """For a policy's value E[w G], 0 <= G <= highest, with importance weights w [n] of any size, E[w] = 1.

    w G is 0 or more, so that cutting it at cap · highest can only lower its mean: the low end needs no bound on the
    weights. The high end is `highest` less the low end for w (highest - G), which rests on E[w] = 1: on right
    propensities and full support (Thomas, Theocharous & Ghavamzadeh 2015; Waudby-Smith et al. 2022).
    """
    check_confidence(confidence)
    weight, gain = sample_of(weights, "weights"), sample_of(returns, "returns")
    if weight.shape != gain.shape:
        raise InputError("returns", f"{len(gain)} for {len(weight)} weights", "give one per session")
    check_range(gain, 0.0, highest)
    if (weight < 0).any() or not cap > 0:
        raise InputError("weights", "a weight or the cap is negative", "give importance weights and a cap above 0")
    delta = (1.0 - confidence) / 2.0
    low, short = (_low_end(weight * part / highest, cap, delta) for part in (gain, highest - gain))
    return ConfidenceSequence(_running_mean(weight * gain), highest * low, highest * (1.0 - short))


def _low_end(values: np.ndarray, cap: float, delta: float) -> np.ndarray:
    """For the mean of values of 0 or more, at most 1 in expectation; [n]."""
    return cap * _unit_bounds(np.minimum(values, cap) / cap, delta)[0]


def _unit_bounds(values: np.ndarray, delta: float) -> tuple[np.ndarray, np.ndarray]:
    """Running bounds for the mean of values in [0, 1], each with error `delta`; [n] each."""
    time = np.arange(1, len(values) + 1)
    mean = (0.5 + np.cumsum(values)) / (time + 1)
    mean_before = np.append(0.5, mean[:-1])
    variance = (0.25 + np.cumsum(np.square(values - mean))) / (time + 1)
    variance_before = np.append(0.25, variance[:-1])
    bet = np.sqrt(2.0 * math.log(1.0 / delta) / (variance_before * time * np.log1p(time)))
    bet = np.minimum(bet, _LARGEST_BET)
    spent = np.cumsum(np.square(values - mean_before) * (-np.log1p(-bet) - bet))
    total = np.cumsum(bet)
    centre, half = np.cumsum(bet * values) / total, (math.log(1.0 / delta) + spent) / total
    low = np.maximum.accumulate(np.clip(centre - half, 0.0, 1.0))
    return low, np.minimum.accumulate(np.clip(centre + half, 0.0, 1.0))


def _running_mean(values: np.ndarray) -> np.ndarray:
    return np.cumsum(values) / np.arange(1, len(values) + 1)
