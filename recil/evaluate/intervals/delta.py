"""The delta method for ratios of means, Σ a / Σ b: self-normalised estimates, and the difference of two of them."""

from __future__ import annotations

import math

import numpy as np

from recil.errors import InputError
from recil.evaluate.bootstrap import check_confidence
from recil.evaluate.intervals.sample import Bounds, Numbers, sample_of
from recil.evaluate.intervals.student import quantile


def ratio_interval(numerator: Numbers, denominator: Numbers, confidence: float = 0.95) -> Bounds:
    """Σ a / Σ b ± t √(Σ ψ²) / n with ψ = (a - V b) / b̄, for pairs [n]; nan where Σ b is 0 or n is 1.

    The denominator varies with the sample: an interval that held it fixed would be too wide by the whole noise of b.
    """
    check_confidence(confidence)
    value, influence = influences(numerator, denominator)
    return _around(value, influence, confidence)


def ratio_difference_interval(
    first: tuple[Numbers, Numbers], second: tuple[Numbers, Numbers], confidence: float = 0.95
) -> Bounds:
    """Σ a / Σ b of `first` less that of `second`, for two policies weighed on the same n sessions (paired)."""
    check_confidence(confidence)
    (one, of_one), (other, of_other) = influences(*first), influences(*second)
    if len(of_one) != len(of_other):
        raise InputError("pairs", f"{len(of_one)} sessions against {len(of_other)}", "weigh both on one log")
    return _around(one - other, of_one - of_other, confidence)


def influences(numerator: Numbers, denominator: Numbers) -> tuple[float, np.ndarray]:
    """Σ a / Σ b, and how much each session moves it, ψ [n]."""
    above, below = sample_of(numerator, "numerator"), sample_of(denominator, "denominator")
    if above.shape != below.shape:
        raise InputError("denominator", f"{len(below)} for {len(above)} numerators", "give one per session")
    if below.sum() == 0:
        return math.nan, np.full(len(below), math.nan)
    value = float(above.sum() / below.sum())
    return value, (above - value * below) / below.mean()


def _around(value: float, influence: np.ndarray, confidence: float) -> Bounds:
    count = len(influence)
    if count < 2 or math.isnan(value):
        return value, math.nan, math.nan
    # Influences sum to 0, so that their sum of squares over n - 1 is their variance.
    half = quantile(confidence, count) * math.sqrt(float(np.square(influence).sum()) / (count - 1) / count)
    return value, value - half, value + half
