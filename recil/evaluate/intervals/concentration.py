"""Intervals that hold at every n, whatever the distribution, for values of which a range is known beforehand."""

from __future__ import annotations

import math

import numpy as np

from recil.errors import InputError
from recil.evaluate.bootstrap import check_confidence
from recil.evaluate.intervals.sample import Bounds, Numbers, sample_of


def hoeffding_interval(values: Numbers, lowest: float, highest: float, confidence: float = 0.95) -> Bounds:
    """x̄ ± (b - a) √(ln(2/α) / 2n), Hoeffding 1963, within [a, b]."""
    sample, mean, span = _checked(values, lowest, highest, confidence)
    half = span * math.sqrt(math.log(2.0 / (1.0 - confidence)) / (2.0 * len(sample)))
    return mean, max(lowest, mean - half), min(highest, mean + half)


def bernstein_interval(values: Numbers, lowest: float, highest: float, confidence: float = 0.95) -> Bounds:
    """x̄ ± (√(2 s² ln(2/δ) / n) + 7 (b - a) ln(2/δ) / (3 (n - 1))), Maurer & Pontil 2009, within [a, b].

    δ = α / 2 on either side. a and b are known before the values are seen (largest reward times largest weight): the
    largest value observed is no bound, and an interval built on it does not cover.
    """
    sample, mean, span = _checked(values, lowest, highest, confidence)
    if len(sample) < 2:
        return mean, lowest, highest
    log_term = math.log(4.0 / (1.0 - confidence))
    half = math.sqrt(2.0 * float(sample.var(ddof=1)) * log_term / len(sample))
    half += 7.0 * span * log_term / (3.0 * (len(sample) - 1))
    return mean, max(lowest, mean - half), min(highest, mean + half)


def _checked(values: Numbers, lowest: float, highest: float, confidence: float) -> tuple[np.ndarray, float, float]:
    check_confidence(confidence)
    sample = sample_of(values)
    check_range(sample, lowest, highest)
    return sample, float(sample.mean()), highest - lowest


def check_range(sample: np.ndarray, lowest: float, highest: float) -> None:
    """The range is the caller's knowledge; a value outside shows that it is not true."""
    if not (math.isfinite(lowest) and math.isfinite(highest) and lowest < highest):
        raise InputError("range", f"{lowest} to {highest}", "give the finite range of a value, known beforehand")
    outside = (sample < lowest) | (sample > highest)
    if outside.any():
        raise InputError(
            "range",
            f"{int(outside.sum())} values lie outside {lowest} to {highest}, {sample[outside][0]} for one",
            "give the range a value can have: rewards times the largest weight there can be",
        )
